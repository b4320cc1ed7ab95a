//! A real mosquitto, on a port that the system chose, ended with the value.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;
use tokio::sync::watch;

use super::PATIENCE;
use super::certs::Certs;

/// How mosquitto is to run.
#[derive(Default, Clone)]
pub struct Options {
    lines: Vec<String>,
    openssl: Option<&'static str>,
}

impl Options {
    /// Plain TCP, everybody may connect.
    pub fn plain() -> Self {
        Self::default().line("allow_anonymous true")
    }

    /// TLS, and only clients with a certificate of the same CA.
    pub fn mutual_tls(certs: &Certs) -> Self {
        Self::plain()
            .line(&format!("cafile {}", certs.ca().display()))
            .line(&format!("certfile {}", certs.server_cert().display()))
            .line(&format!("keyfile {}", certs.server_key().display()))
            .line("require_certificate true")
    }

    /// A further line of the configuration file.
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// The highest TLS version, which mosquitto cannot set: `TLSv1.2` or `TLSv1.3`.
    pub fn max_tls(mut self, version: &'static str) -> Self {
        self.openssl = Some(version);
        self
    }
}

pub struct Mosquitto {
    options: Options,
    port: u16,
    child: Child,
    log: watch::Receiver<Vec<String>>,
    _dir: TempDir,
}

impl Mosquitto {
    /// Runs mosquitto and returns when it listens.
    pub fn start(options: Options) -> Self {
        for _ in 0..20 {
            // Somebody else may take the port in between; then mosquitto ends and another is tried.
            let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            if let Some(broker) = Self::start_on(options.clone(), port) {
                return broker;
            }
        }
        panic!("mosquitto did not start on any port");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process without a word to its clients.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Runs it again, with nothing remembered, on the same port.
    pub fn restart(&mut self) {
        self.kill();
        *self = Self::start_on(self.options.clone(), self.port).expect("the port is still free");
    }

    /// Freezes the process: its sockets stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// The first log line, past or to come, that holds all of `needles`.
    pub async fn logged(&self, needles: &[&str]) -> String {
        let mut log = self.log.clone();
        let matches = |line: &&String| needles.iter().all(|needle| line.contains(needle));
        let lines = tokio::time::timeout(PATIENCE, log.wait_for(|lines| lines.iter().any(|line| matches(&line))))
            .await
            .unwrap_or_else(|_| panic!("mosquitto never logged {needles:?}"))
            .expect("mosquitto ended");
        lines.iter().find(matches).unwrap().clone()
    }

    fn start_on(options: Options, port: u16) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let config = write_config(&dir, &options, port);
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(version) = options.openssl {
            command.env("OPENSSL_CONF", write_openssl_config(&dir, version));
        }
        let mut child = command.spawn().expect("mosquitto is installed");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut seen = Vec::new();
        let running = lines.by_ref().any(|line| {
            let running = line.contains("mosquitto version") && line.ends_with("running");
            seen.push(line);
            running
        });
        if !running {
            child.wait().unwrap();
            let taken = seen.iter().any(|line| line.contains("Address already in use"));
            assert!(taken, "mosquitto ended: {seen:#?}");
            return None;
        }
        let (sender, log) = watch::channel(Vec::new());
        thread::spawn(move || lines.for_each(|line| sender.send_modify(|log| log.push(line))));
        Some(Self { options, port, child, log, _dir: dir })
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").arg(signal).arg(self.pid().to_string()).status().unwrap().success());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

fn write_config(dir: &TempDir, options: &Options, port: u16) -> PathBuf {
    // Without limits of its own the broker never drops what a test counts.
    let mut text = format!(
        "listener {port} 127.0.0.1\npersistence false\nlog_dest stderr\nlog_type all\nuser root\n\
         max_inflight_messages 0\nmax_queued_messages 0\n"
    );
    for line in &options.lines {
        writeln!(text, "{line}").unwrap();
    }
    let path = dir.path().join("mosquitto.conf");
    fs::write(&path, text).unwrap();
    path
}

fn write_openssl_config(dir: &TempDir, version: &str) -> PathBuf {
    let path = dir.path().join("openssl.cnf");
    let text = format!(
        "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = limits\n[limits]\nMaxProtocol = {version}\n"
    );
    fs::write(&path, text).unwrap();
    path
}
