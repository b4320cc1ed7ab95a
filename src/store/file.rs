//! The file: a redb database with a format number and one table of records.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use super::{Batch, Contents, OpenError, StoreError};
use crate::base::CameraId;

/// Number of the layout: tables, keys, and what a record is. Raised when older versions could not read it.
pub(super) const FORMAT: u64 = 1;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const FORMAT_KEY: &str = "format";
pub(super) const CAMERAS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("cameras");

/// Pages kept in memory, in bytes. Records are read once and then only written.
const CACHE: usize = 256 * 1024;

type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// An open file. Only one process can have it open.
pub struct Store {
    open: Opener,
    /// `None` after a failure: the database refuses to go on after an I/O error until it is opened again.
    database: Mutex<Option<Database>>,
}

impl Store {
    /// Opens the file, or makes it where there is none, and checks all of it.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written, is open in another process, is damaged, or is of a newer format.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file = path.to_owned();
        Self::with(path, Box::new(move || builder().create(&file)))
    }

    pub(super) fn with(path: &Path, open: Opener) -> Result<Self, OpenError> {
        let opened = guarded(|| {
            let database = open().map_err(|error| describe(&error))?;
            claim(&database)?;
            Ok(database)
        });
        match opened {
            Ok(database) => Ok(Self { open, database: Mutex::new(Some(database)) }),
            Err(StoreError(reason)) => Err(OpenError::new(path, reason)),
        }
    }

    /// Reads all records.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn load(&self) -> Result<Contents, StoreError> {
        self.using(|database| {
            let table = database.begin_read()?.open_table(CAMERAS)?;
            let mut contents = Contents::default();
            for entry in table.iter()? {
                let (key, value) = entry?;
                match key.value().parse::<CameraId>() {
                    Ok(camera) => contents.records.push((camera, value.value().to_vec())),
                    Err(_) => contents.foreign += 1,
                }
            }
            Ok(contents)
        })
    }

    /// Writes a batch: all of it is on the disk when this returns, or nothing.
    ///
    /// # Errors
    ///
    /// Nothing was written. It may be tried again; the file is opened afresh then.
    pub fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.using(|database| {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(CAMERAS)?;
                for (camera, record) in batch {
                    match record {
                        Some(record) => drop(table.insert(camera.as_str(), record.as_slice())?),
                        None => drop(table.remove(camera.as_str())?),
                    }
                }
            }
            Ok(transaction.commit()?)
        })
    }

    fn using<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        // A panic inside leaves `None` behind, which is a state like any other.
        let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = slot.take();
        guarded(|| {
            let database = match taken {
                Some(database) => database,
                None => (self.open)().map_err(|error| describe(&error))?,
            };
            let result = work(&database).map_err(|error| StoreError(error.to_string()))?;
            *slot = Some(database);
            Ok(result)
        })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    // Without the check a file that was altered outside may make the database panic.
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

/// The database asserts what it believes impossible; a file is no reason to end a service that streams.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(StoreError("the file is damaged".to_owned())))
}

/// Marks a new file with the format, and looks whether an old one has one that is understood.
fn claim(database: &Database) -> Result<(), StoreError> {
    match format(database).map_err(|error| StoreError(error.to_string()))? {
        FORMAT => Ok(()),
        newer if newer > FORMAT => {
            Err(StoreError(format!("has format {newer}; this version of honeycast understands {FORMAT}")))
        }
        other => Err(StoreError(format!("has format {other}, which no version of honeycast has written"))),
    }
}

fn format(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let tables = transaction.list_tables()?.count();
    let format = {
        let mut meta = transaction.open_table(META)?;
        let found = meta.get(FORMAT_KEY)?.map(|value| value.value());
        match found {
            Some(format) => format,
            // A database of something else must stay as it is.
            None if tables > 0 => return Ok(0),
            None => {
                meta.insert(FORMAT_KEY, FORMAT)?;
                FORMAT
            }
        }
    };
    transaction.open_table(CAMERAS)?;
    if tables == 0 {
        transaction.commit()?;
    }
    Ok(format)
}

fn describe(error: &DatabaseError) -> StoreError {
    StoreError(match error {
        DatabaseError::DatabaseAlreadyOpen => "is open in another process".to_owned(),
        DatabaseError::Storage(StorageError::Corrupted(why)) => format!("is damaged: {why}"),
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
            format!("is damaged or no store of cameras: {error}")
        }
        other => other.to_string(),
    })
}
