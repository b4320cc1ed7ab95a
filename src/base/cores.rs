//! The processor's cores, and threads that stay on one.
//!
//! Linux puts two threads that are woken at the same moment on one core, if the waker still runs on the other: the
//! second then waits for the first, although its own core falls idle a moment later.

use std::io;

#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that this thread may run on, by number; none where the system does not tell.
pub fn allowed() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    {
        let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
        (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
    }
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

/// Keeps the calling thread on one core.
///
/// # Errors
///
/// The process may not run there, or the system has no such call.
pub fn stay_on(core: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let mut set = CpuSet::new();
        if core < CpuSet::MAX_CPU {
            set.set(core);
        }
        Ok(sched_setaffinity(None, &set)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = core;
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_on_its_core_and_others_do_not() {
        let before = allowed();
        let core = before[before.len() - 1];
        let there = std::thread::spawn(move || {
            stay_on(core).unwrap();
            allowed()
        });
        assert_eq!(there.join().unwrap(), [core]);
        assert_eq!(allowed(), before);
        // No machine has the last one that the kernel could number, and none the one after it.
        assert!(stay_on(CpuSet::MAX_CPU - 1).is_err() && stay_on(CpuSet::MAX_CPU).is_err());
    }
}
