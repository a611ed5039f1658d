//! A server on a free port, and a client that speaks raw HTTP/1.1 to it.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Nothing in these tests takes longer.
const MOST_TIME: Duration = Duration::from_secs(30);

/// `mlctl serve` as a child; it ends with this value.
pub struct Server {
    child: Child,
    pub address: String,
    pub grpc: String,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts with these arguments, on a free port, looking at the folders ten times a second.
    pub fn start<A: AsRef<std::ffi::OsStr>>(arguments: &[A]) -> Server {
        let mut all: Vec<&std::ffi::OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        all.push("--rest_api_port=0".as_ref());
        Server::start_in(&all, &[])
    }

    /// [`start`](Server::start) with the REST port among the arguments, or in the environment.
    pub fn start_in<A: AsRef<std::ffi::OsStr>>(
        arguments: &[A],
        environment: &[(&str, &str)],
    ) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mlctl"))
            .arg("serve")
            .args(["--port=0", "--file_system_poll_wait_seconds=0.1"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let (mut address, mut grpc) = (None, String::new());
        while address.is_none() {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended: {}", log.lock().unwrap());
            address = line.trim().strip_prefix("REST: http://").map(str::to_string);
            if let Some(address) = line.trim().strip_prefix("gRPC: ") {
                grpc = address.to_string();
            }
            log.lock().unwrap().push_str(&line);
        }
        let rest = log.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
                rest.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Server { child, address: address.unwrap(), grpc, log }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(MOST_TIME)).unwrap();
        stream.set_write_timeout(Some(MOST_TIME)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { reader: BufReader::new(stream) }
    }

    pub fn get(&self, path: &str) -> Response {
        self.connect().request("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &str) -> Response {
        self.connect().request("POST", path, &[], body.as_bytes())
    }

    /// Waits until `path` answers with 200.
    pub fn wait_for(&self, path: &str) {
        self.wait_until(path, |response| response.status == 200);
    }

    /// Waits until what `path` answers is as wanted.
    pub fn wait_until(&self, path: &str, wanted: impl Fn(&Response) -> bool) {
        let start = Instant::now();
        loop {
            let response = self.get(path);
            if wanted(&response) {
                return;
            }
            let state = format!("{path}: {}\n{}", response.text(), self.log());
            assert!(start.elapsed() < MOST_TIME, "{state}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn wait_for_version(&self, model: &str, version: u64) {
        let path = format!("/v1/models/{model}/versions/{version}");
        self.wait_until(&path, |response| response.text().contains("AVAILABLE"));
    }

    pub fn signal(&self, name: &str) {
        let killed = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(killed.unwrap().success());
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn wait_for_end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < MOST_TIME, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Resident bytes of the server.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// One connection.
pub struct Client {
    pub reader: BufReader<TcpStream>,
}

impl Client {
    pub fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    pub fn request(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Response {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n", body.len());
        headers.iter().for_each(|header| head += &format!("{header}\r\n"));
        let whole = [head.as_bytes(), b"\r\n", body].concat();
        self.send(&whole);
        self.read(method == "HEAD").expect("an answer")
    }

    /// The next answer; `None` where the connection ends.
    pub fn response(&mut self) -> Option<Response> {
        self.read(false)
    }

    fn read(&mut self, head_only: bool) -> Option<Response> {
        let mut line = String::new();
        if !matches!(self.reader.read_line(&mut line), Ok(1..)) {
            return None;
        }
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = vec![];
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            headers.push((name.to_string(), value.to_string()));
        }
        let mut response = Response { status, headers, body: vec![] };
        let length = response.header("content-length").filter(|_| !head_only);
        let length = length.map_or(0, |n| n.parse().unwrap());
        response.body.resize(length, 0);
        self.reader.read_exact(&mut response.body).unwrap();
        Some(response)
    }
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A model directory with one version, trained once for all tests; read-only by agreement.
pub fn trained() -> &'static Path {
    static MODEL: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MODEL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new(env!("CARGO_BIN_EXE_mlctl"))
            .args(["train", "-q"])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        let path = folder.path().join("my_mnist_model");
        (folder, path)
    });
    path
}

/// Copies a folder to a hidden sibling and renames it: it appears whole.
pub fn place(from: &Path, to: &Path) {
    let beside = to.with_file_name(".placing");
    copy(from, &beside);
    fs::rename(beside, to).unwrap();
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
