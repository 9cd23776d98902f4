//! A Docker engine of tests: a socket in a directory of its own, with the containers one gives it.
//!
//! It answers what the client asks, and keeps each request line, so that a test can say what was *not*
//! asked. It is stricter than the real one: only full ids are known to it.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;

/// A Docker engine of tests. Gone when dropped.
pub(in crate::host) struct FakeEngine {
    directory: TempDir,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Shared {
    containers: Mutex<Vec<Value>>,
    /// What a container that is made here becomes: `healthy`, `unhealthy`.
    health: Mutex<Value>,
    calls: Mutex<Vec<String>>,
}

/// A container of the fake: what the tests say of it, and the rest as an engine would.
pub(in crate::host) fn container(name: &str, project: &str, service: &str, state: &str, more: &Value) -> Value {
    let id = format!("{:0>64}", name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
    let mut container = json!({
        "id": id, "name": name, "state": state, "health": null, "restarts": 0, "exit_code": 0,
        "started": "2026-11-21T11:00:00.123456789Z",
        "labels": {
            "com.docker.compose.project": project, "com.docker.compose.service": service,
            "com.docker.compose.container-number": "1", "com.docker.compose.oneoff": "False",
        },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        match key.as_str() {
            "labels" => set_labels(&mut container["labels"], value),
            _ => container[key] = value.clone(),
        }
    }
    container
}

/// Sets labels; null takes one away.
fn set_labels(labels: &mut Value, more: &Value) {
    let Some(labels) = labels.as_object_mut() else { return };
    for (key, value) in more.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(labels.remove(key)),
            value => drop(labels.insert(key.clone(), value.clone())),
        }
    }
}

impl FakeEngine {
    /// An engine with these containers, made by [`container`].
    pub(in crate::host) fn new(containers: Vec<Value>) -> Self {
        let directory = TempDir::new().unwrap();
        let shared = Arc::new(Shared { containers: Mutex::new(containers), ..Shared::default() });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(directory.path().join("docker.sock")).unwrap()
        };
        runtime.spawn(serve(listener, Arc::clone(&shared)));
        Self { directory, shared, _runtime: runtime }
    }

    /// Its address, as a system file names it.
    pub(in crate::host) fn address(&self) -> String {
        format!("unix://{}/docker.sock", self.directory.path().display())
    }

    /// Lets containers that are made from now on have this health.
    pub(in crate::host) fn makes(&self, health: &str) {
        *self.shared.health.lock().unwrap_or_else(PoisonError::into_inner) = health.into();
    }

    /// The containers it has.
    pub(in crate::host) fn containers(&self) -> Vec<Value> {
        self.shared.containers()
    }

    /// What was asked so far, as `GET /containers/json`: without the version and the query.
    pub(in crate::host) fn calls(&self) -> Vec<String> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was asked beyond what finds out which container a name means.
    pub(in crate::host) fn calls_beyond_the_list(&self) -> Vec<String> {
        let harmless = ["GET /version", "GET /containers/json"];
        self.calls().into_iter().filter(|call| !harmless.contains(&call.as_str())).collect()
    }
}

impl Shared {
    fn containers(&self) -> Vec<Value> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the container of this id or name; whether there is one.
    fn change(&self, id: &str, change: impl FnOnce(&mut Vec<Value>, usize)) -> bool {
        let mut containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        let at = containers.iter().position(|container| container["id"] == *id || container["name"] == *id);
        at.map(|at| change(&mut containers, at)).is_some()
    }

    /// Makes a container of a name as a request asks for it.
    fn make(&self, name: &str, body: &Value) -> Value {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut made = container(name, "", "", "created", &json!({ "made_of": body, "health": health }));
        made["labels"] = body["Labels"].clone();
        let id = made["id"].clone();
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).push(made);
        id
    }
}

async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&shared)));
    }
}

async fn answer(mut stream: UnixStream, shared: Arc<Shared>) {
    let Some((head, body)) = read_request(&mut stream).await else { return };
    let mut words = head.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(path);
    shared.calls.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{method} {path}"));
    let (status, kind, body) = reply(&shared, method, path, query, &body);
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // A client that went away is its own business.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&body).await;
    let _ = stream.shutdown().await;
}

/// The head of a request, and its body.
async fn read_request(stream: &mut UnixStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.ok().filter(|&read| read > 0)?;
        bytes.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned));
        if body.len() >= length.and_then(|length| length.trim().parse().ok()).unwrap_or(0) {
            return Some((head.to_owned(), serde_json::from_str(body).unwrap_or_default()));
        }
    }
}

type Reply = (&'static str, &'static str, Vec<u8>);

fn reply(shared: &Shared, method: &str, path: &str, query: &str, body: &Value) -> Reply {
    let done = |known: bool, id: &str| if known { ("204 No Content", "text/plain", Vec::new()) } else { missing(id) };
    let json = |value: Value| ("200 OK", "application/json", value.to_string().into_bytes());
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, parts[..].first().copied(), &parts[..]) {
        ("GET", _, ["version"]) => json(json!({ "Version": "20.10.24", "ApiVersion": "1.41" })),
        ("GET", _, ["info"]) => {
            json(json!({ "ID": "ENGINE", "ServerVersion": "20.10.24", "Driver": "overlay2", "Warnings": ["no swap limit"] }))
        }
        ("GET", _, ["containers", "json"]) => json(shared.containers().iter().map(summary).collect()),
        ("GET", _, ["containers", id, rest]) => match (find(shared, id), *rest) {
            (Some(container), "json") => json(inspected(&container)),
            (Some(container), "logs") => {
                ("200 OK", "application/vnd.docker.multiplexed-stream", frames(container["log"].as_array().map_or(&[], Vec::as_slice)))
            }
            _ => missing(id),
        },
        ("POST", _, ["containers", "create"]) => {
            let name = query.split('&').find_map(|pair| pair.strip_prefix("name=")).unwrap_or_default();
            let id = shared.make(name, body);
            ("201 Created", "application/json", json!({ "Id": id, "Warnings": [] }).to_string().into_bytes())
        }
        ("POST", _, ["containers", id, "start"]) => done(shared.change(id, |all, at| all[at]["state"] = "running".into()), id),
        ("POST", _, ["containers", id, _]) => done(find(shared, id).is_some(), id),
        ("POST", _, ["networks", _, "connect"]) => ("200 OK", "application/json", b"{}".to_vec()),
        ("DELETE", _, ["containers", id]) => done(shared.change(id, |all, at| drop(all.remove(at))), id),
        _ => ("404 Not Found", "application/json", json!({ "message": "page not found" }).to_string().into_bytes()),
    }
}

fn find(shared: &Shared, id: &str) -> Option<Value> {
    shared
        .containers()
        .into_iter()
        .find(|container| container["id"] == *id || container["name"] == *id && container.get("made_of").is_some())
}

fn missing(id: &str) -> Reply {
    ("404 Not Found", "application/json", json!({ "message": format!("No such container: {id}") }).to_string().into_bytes())
}

fn summary(container: &Value) -> Value {
    let name = container["name"].as_str().unwrap_or_default();
    json!({
        "Id": container["id"], "Names": [format!("/other/{name}"), format!("/{name}")], "Image": "app:v1", "ImageID": "sha256:1",
        "Labels": container["labels"], "State": container["state"], "Status": "as the list says", "Ports": [],
    })
}

fn inspected(container: &Value) -> Value {
    let health = match &container["health"] {
        Value::Null => Value::Null,
        status => json!({ "Status": status, "FailingStreak": 0, "Log": [] }),
    };
    json!({
        "Id": container["id"], "Name": container["name"], "RestartCount": container["restarts"], "Image": "sha256:1",
        "State": {
            "Status": container["state"], "ExitCode": container["exit_code"], "OOMKilled": false,
            "StartedAt": container["started"], "FinishedAt": "0001-01-01T00:00:00Z", "Health": health,
        },
        "Config": { "Env": ["PASSWORD=hunter22", "PATH=/bin"], "Labels": container["labels"], "Hostname": container["id"].as_str().map(|id| &id[..12]) },
        "HostConfig": container.get("host").cloned().unwrap_or_default(),
        "NetworkSettings": { "Networks": container.get("networks").cloned().unwrap_or_default() },
    })
}

/// Pairs of stream and text, as the engine frames them.
fn frames(lines: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        let stream = if line[0] == "stderr" { 2 } else { 1 };
        let text = line[1].as_str().unwrap_or_default().as_bytes();
        bytes.extend_from_slice(&[stream, 0, 0, 0]);
        bytes.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(text);
    }
    bytes
}
