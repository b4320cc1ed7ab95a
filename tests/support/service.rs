//! The binary as a process of its own, on ports that the system chooses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;

use serde_json::Value;

use super::PATIENCE;

/// The binary in a folder of its own, with system-chosen ports on the loopback address and nothing inherited.
pub fn honeycast(folder: &tempfile::TempDir, arguments: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_honeycast"));
    command.args(arguments).current_dir(folder.path()).env_clear().stdin(Stdio::null());
    let hosts = ["API_SERVER_HOST", "SIGNALING_SERVER_HOST", "DASHBOARD_SERVER_HOST", "MEDIA_HOST", "VIEWER_HOST"];
    let ports = [
        "API_SERVER_PORT",
        "SIGNALING_SERVER_PORT",
        "DASHBOARD_SERVER_PORT",
        "VIEWER_UDP_PORT",
        "CAMERA_RTP_VIDEO_PORT",
        "CAMERA_RTCP_PORT",
        "CAMERA_RTP_AUDIO_PORT",
    ];
    command.envs(hosts.map(|name| (name, "127.0.0.1"))).envs(ports.map(|name| (name, "0")));
    command.envs([("MQTT_EMBEDDED", "true"), ("MQTT_EMBEDDED_BIND", "127.0.0.1:0")]);
    command.envs(env.iter().copied());
    command
}

pub fn output(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    honeycast(&tempfile::tempdir().unwrap(), arguments, env).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running service; killed with the value if it has not ended. Its log is shown if the test fails.
pub struct Service {
    child: Child,
    addresses: Value,
    /// Reads all along, as a full pipe would hold the service up.
    log: Option<JoinHandle<String>>,
    _folder: tempfile::TempDir,
}

impl Service {
    pub fn start(env: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child =
            honeycast(&folder, &["run"], env).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let Some(addresses) = line.strip_prefix("ready ").map(|json| serde_json::from_str(json).unwrap()) else {
            panic!("not ready: {line:?} {}", text(&child.wait_with_output().unwrap().stderr));
        };
        let mut stderr = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut log = Vec::new();
            let _ = stderr.read_to_end(&mut log);
            text(&log)
        });
        Self { child, addresses, log: Some(log), _folder: folder }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn address(&self, name: &str) -> &str {
        self.addresses[name].as_str().unwrap()
    }

    /// A UDP port of the service.
    pub fn port(&self, name: &str) -> u16 {
        self.addresses[name].as_u64().unwrap().try_into().unwrap()
    }

    /// One request; the status code and the JSON body.
    pub fn call(&self, method: &str, path: &str) -> (u16, Value) {
        self.call_with(method, path, "")
    }

    /// The same with a body.
    pub fn call_with(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, _, body) = self.request(method, path, "", body);
        (status, body)
    }

    /// The same with header lines, each ended by CR LF; also the header of the answer.
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, Value) {
        let mut socket = TcpStream::connect(self.address("api")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), serde_json::from_str(body).unwrap())
    }

    /// Sends a signal and gives the exit status and the log.
    pub fn end_by(mut self, signal: &str) -> (ExitStatus, String) {
        let kill = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.child.id())]).status().unwrap();
        assert!(kill.success());
        let exit = self.child.wait().unwrap();
        (exit, self.log.take().unwrap().join().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Some(Ok(log)) = self.log.take().map(JoinHandle::join)
        {
            eprintln!("--- the service's log\n{log}");
        }
    }
}
