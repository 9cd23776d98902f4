//! The lab's sink: it takes messages as mail servers and webhooks do, and keeps them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The lab's sink as a process of its own.
pub(crate) struct Sink {
    process: Child,
    directory: TempDir,
    pub(crate) http: u64,
    pub(crate) smtp: u64,
}

impl Sink {
    /// A sink on free ports.
    pub(crate) fn new() -> Self {
        Self::start(tempfile::tempdir().unwrap(), 0, 0)
    }

    fn start(directory: TempDir, http: u64, smtp: u64) -> Self {
        let authority = rcgen::KeyPair::generate().unwrap();
        let mut about = rcgen::CertificateParams::new(Vec::new()).unwrap();
        about.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issued = about.self_signed(&authority).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::new(about, authority);
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let write = |name: &str, text: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        write("ca.pem", issued.pem());
        let (cert, key) = (write("cert.pem", certificate.pem()), write("key.pem", key.serialize_pem()));
        let mut process = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/sink.py"))
            .args(["--http", &http.to_string(), "--smtp", &smtp.to_string(), "--dingtalk-secret", "SEC-of-the-robot"])
            .arg("--dir")
            .arg(directory.path())
            .arg("--cert")
            .arg(cert)
            .arg("--key")
            .arg(key)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ports: Value = serde_json::from_str(&line).unwrap();
        Self { process, http: ports["http"].as_u64().unwrap(), smtp: ports["smtp"].as_u64().unwrap(), directory }
    }

    /// Refuses every connection for as long as `work` takes.
    pub(crate) fn dead_during(mut self, work: impl FnOnce()) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        work();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        Self::start(directory, self.http, self.smtp)
    }

    /// The address of an HTTP channel.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.http)
    }

    /// Makes a channel misbehave, or behave again.
    pub(crate) fn mode(&self, settings: &Value) {
        let body = settings.to_string();
        let mut connection = TcpStream::connect(("127.0.0.1", u16::try_from(self.http).unwrap())).unwrap();
        write!(connection, "POST /__mode HTTP/1.1\r\nHost: sink\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// What a channel got, in order.
    pub(crate) fn got(&self, channel: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join(format!("{channel}.jsonl"))).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What a channel took, in order.
    pub(crate) fn accepted(&self, channel: &str) -> Vec<Value> {
        self.got(channel).into_iter().filter(|message| message["accepted"] == true).collect()
    }

    /// The authority of its certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The table of a contact that is reached by mail here.
    pub(crate) fn mail(&self) -> String {
        format!(
            "kind = \"email\"\nto = [\"ops@example.com\"]\nfrom = \"runbook@example.com\"\nserver = \"smtp://localhost:{}\"\nca = \"{}\"",
            self.smtp,
            self.ca().display()
        )
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
