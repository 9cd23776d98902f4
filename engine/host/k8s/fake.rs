//! An API server of tests: on loopback, with the objects one gives it, in the shapes the API documents.
//!
//! It is strict: a method, a path, a query or a content type it was not told of is an answer nobody expects, and a
//! token that is not its own is refused. It keeps each request, so that a test can say what was *not* asked. What it
//! can not show is what a cluster makes of a change.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::model::System;
use crate::model::system::{Cluster, Manager, Service, Services};

pub(in crate::host) const TOKEN: &str = "a-token-that-nobody-may-see";
const NAMESPACE: &str = "shop";

/// An API server of tests. Gone when dropped.
pub(in crate::host) struct FakeCluster {
    directory: TempDir,
    port: u16,
    shared: Arc<Mutex<Shared>>,
    _runtime: Runtime,
}

/// What it has, by the plural of the kind, and what it was asked.
#[derive(Default)]
struct Shared {
    objects: Vec<(&'static str, Value)>,
    requests: Vec<String>,
    /// What is answered instead, by the beginning of a request line.
    instead: Vec<(String, u16, Value)>,
    /// Whether a change is followed at once by what a cluster would make of it.
    obeys: bool,
}

/// A deployment of the fake that is as it shall be, of two revisions.
pub(in crate::host) fn deployment(name: &str, replicas: i64, more: &Value) -> Vec<(&'static str, Value)> {
    let template = |image: &str| {
        json!({
            "metadata": { "labels": { "app": name } },
            "spec": { "containers": [{
                "name": "main", "image": image,
                "resources": { "requests": { "cpu": "250m", "memory": "64Mi" }, "limits": { "cpu": "1", "memory": "128Mi" } },
            }] },
        })
    };
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "uid": format!("d-{name}"), "generation": 3, "resourceVersion": "100",
            "annotations": { "deployment.kubernetes.io/revision": "2" },
        },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": name } }, "template": template("web:v2") },
        "status": {
            "observedGeneration": 3, "replicas": replicas, "readyReplicas": replicas, "updatedReplicas": replicas, "availableReplicas": replicas,
            "conditions": [{ "type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": "", "lastTransitionTime": "2026-11-21T11:00:00Z" }],
        },
    });
    merge(&mut object, more);
    let set = |revision: &str, image: &str, replicas: i64| {
        let mut template = template(image);
        template["metadata"]["labels"]["pod-template-hash"] = format!("hash{revision}").into();
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": format!("{name}-hash{revision}"), "namespace": NAMESPACE, "uid": format!("r-{name}-{revision}"),
                "creationTimestamp": "2026-11-21T10:00:00Z", "annotations": { "deployment.kubernetes.io/revision": revision },
                "labels": { "app": name },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": format!("d-{name}"), "controller": true }],
            },
            "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": name } }, "template": template },
            "status": { "replicas": replicas },
        })
    };
    let pods = (1..=replicas).map(|number| ("pods", pod(&format!("{name}-hash2-{number}"), name, &json!({}))));
    let sets = [("replicasets", set("1", "web:v1", 0)), ("replicasets", set("2", "web:v2", replicas))];
    [("deployments", object)].into_iter().chain(sets).chain(pods).collect()
}

/// A pod of a deployment of the fake.
pub(in crate::host) fn pod(name: &str, deployment: &str, more: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "labels": { "app": deployment },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{deployment}-hash2"), "uid": format!("r-{deployment}-2"), "controller": true }],
        },
        "spec": { "nodeName": "node-1", "containers": [{
            "name": "main", "image": "web:v2",
            "resources": { "requests": { "cpu": "250m", "memory": "64Mi" }, "limits": { "cpu": "1", "memory": "128Mi" } },
        }] },
        "status": {
            "phase": "Running", "podIP": "10.1.0.7", "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{
                "name": "main", "image": "web:v2", "imageID": "sha256:1", "ready": true, "restartCount": 0,
                "state": { "running": { "startedAt": "2026-11-21T11:00:00Z" } },
            }],
        },
    });
    merge(&mut pod, more);
    pod
}

/// An autoscaler of a deployment.
pub(in crate::host) fn hpa(name: &str, deployment: &str, bounds: (i64, i64), now: (i64, i64)) -> (&'static str, Value) {
    let object = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": name, "namespace": NAMESPACE, "resourceVersion": "7" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": deployment },
            "minReplicas": bounds.0, "maxReplicas": bounds.1,
            "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 70 } } }],
        },
        "status": {
            "currentReplicas": now.0, "desiredReplicas": now.1,
            "currentMetrics": [{ "type": "Resource", "resource": { "name": "cpu", "current": { "averageUtilization": 55, "averageValue": "550m" } } }],
            "conditions": [{ "type": "ScalingLimited", "status": "False", "reason": "DesiredWithinRange", "message": "", "lastTransitionTime": "2026-11-21T11:00:00Z" }],
        },
    });
    ("horizontalpodautoscalers", object)
}

/// A quota of the namespace.
pub(in crate::host) fn quota(hard: &Value, used: &Value) -> (&'static str, Value) {
    let object = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "compute", "namespace": NAMESPACE },
        "spec": { "hard": hard }, "status": { "hard": hard, "used": used },
    });
    ("resourcequotas", object)
}

/// Lays one value over another, as RFC 7386 has it.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        match value {
            Value::Null => drop(target.as_object_mut().map(|object| object.remove(key))),
            value => merge(&mut target[key], value),
        }
    }
}

impl FakeCluster {
    /// A cluster with these objects, made by [`deployment`], [`hpa`] and [`quota`].
    pub(in crate::host) fn new(objects: Vec<(&'static str, Value)>) -> Self {
        Self::start(objects, None)
    }

    /// The same, over TLS.
    pub(in crate::host) fn secure(objects: Vec<(&'static str, Value)>, acceptor: TlsAcceptor) -> Self {
        Self::start(objects, Some(acceptor))
    }

    fn start(objects: Vec<(&'static str, Value)>, acceptor: Option<TlsAcceptor>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Mutex::new(Shared { objects, obeys: true, ..Shared::default() }));
        let kept = Arc::clone(&shared);
        let is_secure = acceptor.is_some();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, acceptor) = (Arc::clone(&kept), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => answer(stream, &shared).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                answer(stream, &shared).await;
                            }
                        }
                    }
                });
            }
        });
        let cluster = Self { directory: TempDir::new().unwrap(), port, shared, _runtime: runtime };
        let scheme = if is_secure { "https" } else { "http" };
        cluster.kubeconfig(&format!("{scheme}://127.0.0.1:{port}"), "", &format!("token: {TOKEN}"));
        cluster
    }

    /// Writes its kubeconfig; more lines for the cluster, and what the user logs in with.
    pub(in crate::host) fn kubeconfig(&self, server: &str, more: &str, user: &str) {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: main\ncontexts:\n- name: main\n  context: {{cluster: here, user: me, namespace: other}}\n\
             clusters:\n- name: here\n  cluster:\n    server: {server}\n{more}users:\n- name: me\n  user:\n    {user}\n"
        );
        std::fs::write(self.path(), text).unwrap();
    }

    pub(in crate::host) fn path(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    pub(in crate::host) fn port(&self) -> u16 {
        self.port
    }

    /// A system whose services `web` and `api` are its deployments; `api` is called `shop-api` there.
    pub(in crate::host) fn system(&self) -> System {
        let each = [("web", Service::default()), ("api", Service { unit: Some("shop-api".to_owned()), ..Service::default() })];
        System {
            name: "shop".to_owned(),
            services: Services {
                manager: Manager::Kubernetes,
                namespace: NAMESPACE.to_owned(),
                each: each.map(|(name, service)| (name.to_owned(), service)).into(),
                ..Services::default()
            },
            cluster: Some(Cluster { kubeconfig: Some(self.path().display().to_string()), ..Cluster::default() }),
            ..System::default()
        }
    }

    /// Answers requests that begin like this with a status and a body from now on.
    pub(in crate::host) fn says(&self, request: &str, status: u16, body: &Value) {
        self.shared().instead.push((request.to_owned(), status, body.clone()));
    }

    /// Lets changes be written down and nothing come of them.
    pub(in crate::host) fn stalls(&self) {
        self.shared().obeys = false;
    }

    /// Changes an object behind everybody's back.
    pub(in crate::host) fn change(&self, kind: &str, name: &str, more: &Value) {
        let mut shared = self.shared();
        merge(shared.find(kind, name).unwrap(), more);
    }

    /// An object as it is now.
    pub(in crate::host) fn object(&self, kind: &str, name: &str) -> Value {
        self.shared().find(kind, name).cloned().unwrap_or_default()
    }

    /// Each request so far: method, path, query, and for a change its type and body.
    pub(in crate::host) fn requests(&self) -> Vec<String> {
        self.shared().requests.clone()
    }

    /// The requests that would change something.
    pub(in crate::host) fn changes(&self) -> Vec<String> {
        self.requests().into_iter().filter(|request| !request.starts_with("GET ")).collect()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn find(&mut self, kind: &str, name: &str) -> Option<&mut Value> {
        self.objects.iter_mut().find(|(one, object)| *one == kind && object["metadata"]["name"] == name).map(|(_, object)| object)
    }

    fn reply(&mut self, request: &Request) -> (u16, Value) {
        let line = request.line();
        self.requests.push(line.clone());
        if let Some((_, status, body)) = self.instead.iter().rev().find(|(start, ..)| line.starts_with(start.as_str())) {
            return (*status, body.clone());
        }
        if request.authorization != format!("Bearer {TOKEN}") {
            return failure(401, "Unauthorized", "Unauthorized");
        }
        if request.accept != "application/json" {
            return failure(406, "NotAcceptable", "only application/json is served");
        }
        let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["apis", "metrics.k8s.io", "v1beta1", "namespaces", NAMESPACE, "pods"]) => self.list("podmetrics", request),
            ("GET", ["apis", _, _, "namespaces", NAMESPACE, kind] | ["api", "v1", "namespaces", NAMESPACE, kind]) => {
                self.list(kind, request)
            }
            ("GET", ["api", "v1", "namespaces", NAMESPACE, "pods", name, "log"]) => self.log(name, request),
            ("GET", ["apis", "apps", "v1", "namespaces", NAMESPACE, "deployments", name, "scale"]) => self.scale(name),
            ("GET", ["apis", _, _, "namespaces", NAMESPACE, kind, name]) if request.query.is_empty() => {
                self.find(kind, name).map_or_else(|| missing(kind, name), |object| (200, object.clone()))
            }
            ("PATCH", ["apis", group, version, "namespaces", NAMESPACE, kind, name, rest @ ..]) => {
                self.patch((group, version, kind), name, rest, request)
            }
            _ => failure(404, "NotFound", &format!("the fake knows no `{line}`")),
        }
    }

    fn list(&self, kind: &str, request: &Request) -> (u16, Value) {
        let known = ["limit", "labelSelector", "fieldSelector", "continue"];
        if request.query.iter().any(|(key, _)| !known.contains(&key.as_str())) || request.get("limit").is_none() {
            return failure(400, "BadRequest", &format!("the fake lists nothing for {:?}", request.query));
        }
        let wanted = |object: &Value| {
            let labels = request.get("labelSelector").unwrap_or_default();
            let fields = request.get("fieldSelector").unwrap_or_default();
            let has = |pair: &str, of: &dyn Fn(&str) -> Value| pair.split_once('=').is_none_or(|(key, value)| of(key) == value);
            labels.split(',').all(|pair| has(pair, &|key| object["metadata"]["labels"][key].clone()))
                && fields
                    .split(',')
                    .all(|pair| has(pair, &|key| object.pointer(&format!("/{}", key.replace('.', "/"))).cloned().unwrap_or_default()))
        };
        let mut items: Vec<&Value> =
            self.objects.iter().filter(|(one, object)| *one == kind && wanted(object)).map(|(_, object)| object).collect();
        // Pages of two, so that what reads only the first one is found out.
        let from: usize = request.get("continue").and_then(|token| token.parse().ok()).unwrap_or(0);
        let left = items.split_off(from.min(items.len()));
        let page = &left[..left.len().min(2)];
        let next = if left.len() > 2 { json!((from + 2).to_string()) } else { Value::Null };
        (200, json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1", "continue": next }, "items": page }))
    }

    fn log(&mut self, name: &str, request: &Request) -> (u16, Value) {
        let Some(pod) = self.find("pods", name) else { return missing("pods", name) };
        if request.get("timestamps").as_deref() != Some("true") {
            return failure(400, "BadRequest", "the fake keeps lines with their times only");
        }
        let lines: Vec<String> = pod["log"].as_array().into_iter().flatten().map(|line| format!("{}\n", line.as_str().unwrap())).collect();
        let tail = request.get("tailLines").and_then(|tail| tail.parse().ok()).unwrap_or(lines.len());
        let text = lines[lines.len().saturating_sub(tail)..].concat();
        (200, Value::String(text))
    }

    fn scale(&mut self, name: &str) -> (u16, Value) {
        match self.find("deployments", name) {
            None => missing("deployments", name),
            Some(object) => {
                let scale = json!({
                    "kind": "Scale", "apiVersion": "autoscaling/v1",
                    "metadata": { "name": name, "namespace": NAMESPACE, "resourceVersion": object["metadata"]["resourceVersion"] },
                    "spec": { "replicas": object["spec"]["replicas"] }, "status": { "replicas": object["status"]["replicas"] },
                });
                (200, scale)
            }
        }
    }

    fn patch(&mut self, (group, version, kind): (&str, &str, &str), name: &str, rest: &[&str], request: &Request) -> (u16, Value) {
        let obeys = self.obeys;
        let Some(object) = self.find(kind, name) else { return missing(kind, name) };
        let known = matches!((group, version, kind), ("apps", "v1", "deployments") | ("autoscaling", "v1", "horizontalpodautoscalers"));
        match (request.content.as_str(), rest) {
            _ if !known => return failure(404, "NotFound", &format!("the fake changes no {group}/{version} {kind}")),
            ("application/merge-patch+json", [] | ["scale"]) => {
                let seen = &request.body["metadata"]["resourceVersion"];
                if !seen.is_null() && *seen != object["metadata"]["resourceVersion"] {
                    let why = format!("Operation cannot be fulfilled on {kind} \"{name}\": the object has been modified");
                    return failure(409, "Conflict", &why);
                }
                let mut change = request.body.clone();
                if let Some(metadata) = change.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.remove("resourceVersion");
                }
                merge(object, &change);
            }
            ("application/json-patch+json", []) => {
                for operation in request.body.as_array().into_iter().flatten() {
                    let path = operation["path"].as_str().unwrap_or_default();
                    let Some(place) = object.pointer_mut(path) else { return failure(422, "Invalid", "the path is not there") };
                    match operation["op"].as_str() {
                        Some("replace") => place.clone_from(&operation["value"]),
                        Some("test") if *place == operation["value"] => {}
                        _ => return failure(422, "Invalid", "the server rejected our request due to an error in our request"),
                    }
                }
            }
            (content, rest) => return failure(415, "UnsupportedMediaType", &format!("`{content}` for {rest:?}")),
        }
        let version: i64 = object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
        object["metadata"]["resourceVersion"] = (version + 1).to_string().into();
        if kind == "deployments" {
            let generation = object["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            object["metadata"]["generation"] = generation.into();
            if obeys {
                let replicas = object["spec"]["replicas"].clone();
                for key in ["replicas", "readyReplicas", "updatedReplicas", "availableReplicas"] {
                    object["status"][key] = replicas.clone();
                }
                object["status"]["observedGeneration"] = generation.into();
            }
        }
        let done = object.clone();
        if rest == ["scale"] { self.scale(name) } else { (200, done) }
    }
}

struct Request {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    authorization: String,
    accept: String,
    content: String,
    body: Value,
}

impl Request {
    fn get(&self, key: &str) -> Option<String> {
        self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }

    fn line(&self) -> String {
        let mut line = format!("{} {}", self.method, self.path);
        for (at, (key, value)) in self.query.iter().enumerate() {
            let _ = write!(line, "{}{key}={value}", if at == 0 { '?' } else { '&' });
        }
        if !self.body.is_null() {
            let _ = write!(line, " {} {}", self.content, self.body);
        }
        line
    }

    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut bytes = Vec::new();
        loop {
            let mut part = [0; 4096];
            let read = stream.read(&mut part).await.ok().filter(|&read| read > 0)?;
            bytes.extend_from_slice(&part[..read]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let header = |name: &str| {
                let lines = head.lines().filter_map(|line| line.split_once(": "));
                lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).unwrap_or_default()
            };
            if body.len() < header("content-length").parse().unwrap_or(0) {
                continue;
            }
            let mut words = head.split_whitespace();
            let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
            let url = url::Url::parse(&format!("http://x{target}")).ok()?;
            return Some(Self {
                method,
                path: url.path().to_owned(),
                query: url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect(),
                authorization: header("authorization"),
                accept: header("accept"),
                content: header("content-type"),
                body: serde_json::from_str(body).unwrap_or_default(),
            });
        }
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Mutex<Shared>) {
    let Some(request) = Request::read(&mut stream).await else { return };
    let (status, body) = shared.lock().unwrap_or_else(PoisonError::into_inner).reply(&request);
    let (content, body) = match body {
        Value::String(text) => ("text/plain", text),
        body => ("application/json", body.to_string()),
    };
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {content}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // A client that went away is its own business.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// As the API says no.
pub(in crate::host) fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code,
    });
    (code, status)
}

fn missing(kind: &str, name: &str) -> (u16, Value) {
    failure(404, "NotFound", &format!("{kind} \"{name}\" not found"))
}
