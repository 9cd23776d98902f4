//! What is answered over HTTP: how the daemon is, what it counts, and hooks; and its sign of life.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Builder;
use zeroize::Zeroizing;

use super::alerts::Alerts;
use super::hooks::{self, Deed, Hook, Refused};
use super::http::{Method, Request, Response, Site, StatusCode, serve};
use super::metrics::{Metrics, Now};
use super::now;
use super::runs::Runs;
use super::timetable::lock;
use super::watches::Watches;
use crate::error::{Error, Kind, Result};
use crate::model::{RunState, Span};
use crate::run::outbox;
use crate::store::{Filter, IncidentFilter, Store};

/// What Prometheus asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// A daemon that did not look around for so long is not well.
const ALIVE: Duration = Duration::from_secs(30);
/// How long a sign of life may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many requests are worked on at the same time.
const MOST_AT_ONCE: usize = 4;

/// What the settings say of those who come from outside.
#[derive(Debug, Clone, Default)]
pub struct Doors {
    /// Where they come in; it stays what it was at the start.
    pub listen: Option<SocketAddr>,
    /// What those who look have to show.
    pub token: Option<Secret>,
    /// What they may start, by name.
    pub hooks: std::collections::BTreeMap<String, Hook>,
    /// Where the sign of life goes, and how often.
    pub heartbeat: Option<(String, Span)>,
}

/// A text that is not shown.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// One of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// Whether it is this one, in a time that does not depend on where they differ.
    fn is(&self, shown: &str) -> bool {
        use sha2::{Digest, Sha256};
        let (mine, shown) = (Sha256::digest(self.0.as_bytes()), Sha256::digest(shown.as_bytes()));
        mine.iter().zip(shown.iter()).fold(0, |differ, (mine, shown)| differ | (mine ^ shown)) == 0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What is served to those who come from outside.
pub(super) struct Pages {
    pub(super) runs: Arc<Runs>,
    watches: Arc<Watches>,
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    doors: Mutex<Doors>,
    /// When the daemon last looked around.
    pulse: Mutex<Instant>,
    address: Mutex<Option<SocketAddr>>,
}

impl Pages {
    pub(super) fn new(runs: Arc<Runs>, watches: Arc<Watches>, store: Arc<dyn Store>, metrics: Arc<Metrics>, doors: Doors) -> Arc<Self> {
        let (doors, pulse, address) = (Mutex::new(doors), Mutex::new(Instant::now()), Mutex::new(None));
        Arc::new(Self { runs, watches, store, metrics, doors, pulse, address })
    }

    /// Opens, and answers on a thread of its own for as long as the process lives.
    ///
    /// # Errors
    ///
    /// `config`, when it can not listen there.
    pub(super) fn open(self: &Arc<Self>) -> Result<()> {
        let listener = lock(&self.doors).listen.map(listen).transpose()?;
        *lock(&self.address) = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let failed = |error: std::io::Error| Error::because(Kind::Bug, "the pages can not be served", &error);
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(MOST_AT_ONCE).build().map_err(failed)?;
        let pages = self.clone();
        let work = move || {
            runtime.block_on(async {
                let beat = pages.clone().beat();
                match listener.map(tokio::net::TcpListener::from_std) {
                    Some(Ok(listener)) => drop(tokio::join!(serve(listener, pages), beat)),
                    Some(Err(error)) => tracing::error!("the pages can not be served: {error}"),
                    None => beat.await,
                }
            });
        };
        std::thread::Builder::new().name("pages".to_owned()).spawn(work).map(drop).map_err(failed)
    }

    /// Where they are, when they are anywhere.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        *lock(&self.address)
    }

    /// The daemon looked around, and is well.
    pub(super) fn is_alive(&self) {
        *lock(&self.pulse) = Instant::now();
    }

    /// Others may come in, and start other things, from now on.
    pub(super) fn change(&self, doors: Doors) {
        let mut held = lock(&self.doors);
        if held.listen != doors.listen {
            tracing::warn!("`daemon.listen` is read when the daemon starts");
        }
        *held = doors;
    }

    /// Gives a sign of life for as long as it is polled, and the daemon is well.
    async fn beat(self: Arc<Self>) {
        let _ = crate::host::trust::provider();
        let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
        let Ok(client) = client.inspect_err(|error| tracing::error!("no sign of life can be given: {error}")) else { return };
        loop {
            let heartbeat = lock(&self.doors).heartbeat.clone();
            let Some((url, every)) = heartbeat else {
                tokio::time::sleep(ALIVE).await;
                continue;
            };
            if self.is_well() {
                let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
                // Its address may be a secret.
                let _ = answer.map_err(|error| tracing::warn!("a sign of life was not taken: {}", error.without_url()));
            }
            tokio::time::sleep(every.0.max(Duration::from_secs(1))).await;
        }
    }

    fn is_well(&self) -> bool {
        lock(&self.pulse).elapsed() < ALIVE
    }

    /// Who may look: whoever shows the token; without one, whoever means this machine.
    fn admit(&self, request: &Request) -> Result<(), Response> {
        match &lock(&self.doors).token {
            Some(token) if bearer(request).is_some_and(|shown| token.is(shown)) => Ok(()),
            Some(_) => Err(Response::text(StatusCode::UNAUTHORIZED, "show the token: `Authorization: Bearer …`")),
            None if request.is_for_this_machine() => Ok(()),
            None => Err(Response::text(StatusCode::FORBIDDEN, "only this machine is answered, by its own name")),
        }
    }

    fn page(&self, page: &str) -> Response {
        let says = |said: Result<&str, String>| match said {
            Ok(text) => Response::text(StatusCode::OK, text),
            Err(why) => Response::text(StatusCode::SERVICE_UNAVAILABLE, why),
        };
        match page {
            "healthz" => says(if self.is_well() { Ok("alive") } else { Err("the daemon does not look around".to_owned()) }),
            "readyz" => says(self.is_ready().map(|()| "ready")),
            "metrics" => match self.now().and_then(|now| self.metrics.text(&now)) {
                Ok(body) => Response { status: StatusCode::OK, kind: OPEN_METRICS, body },
                Err(error) => Response::text(StatusCode::SERVICE_UNAVAILABLE, error),
            },
            _ => Response::text(StatusCode::NOT_FOUND, "there is no such page"),
        }
    }

    fn is_ready(&self) -> Result<(), String> {
        if self.runs.is_closed() {
            return Err("the daemon stops".to_owned());
        }
        self.store.list(&Filter { limit: 1, ..Filter::default() }).map(drop).map_err(|error| error.to_string())
    }

    fn now(&self) -> Result<Now> {
        let (running, places) = self.runs.running();
        let states = vec![RunState::Waiting, RunState::Interrupted, RunState::NeedsAttention];
        let outbox = outbox::standing(&*self.store)?;
        Ok(Now {
            running: running.len(),
            queued: self.runs.queued().len(),
            places,
            is_paused: self.runs.is_paused(),
            needs: self.store.list(&Filter { states, ..Filter::default() })?.len(),
            messages_queued: outbox.queued,
            messages_dead: outbox.dead,
            watches: self.watches.standing().each,
            incidents: self.store.incidents(&IncidentFilter { open: true, ..IncidentFilter::default() })?,
        })
    }

    fn hook(&self, request: &Request, name: &str) -> Response {
        let hook = lock(&self.doors).hooks.get(name).cloned();
        let Some(hook) = hook else { return Response::text(StatusCode::NOT_FOUND, "there is no such hook") };
        let response = match self.deed(request, name, &hook) {
            Ok(value) => Response { status: StatusCode::ACCEPTED, kind: "application/json", body: format!("{value}\n") },
            Err(Refused(status, why)) => Response::text(status, why),
        };
        self.metrics.hooked(name, response.status.as_u16());
        response
    }
}

impl Pages {
    fn deed(&self, request: &Request, name: &str, hook: &Hook) -> Result<Value, Refused> {
        let secret = hook.secret(name)?;
        let system = match &hook.does {
            Deed::Run(order) => return hooks::start(&self.runs, name, secret, order, request, now()),
            Deed::Alerts(system) => system,
        };
        if !bearer(request).is_some_and(|shown| secret.is(shown)) {
            return Err(Refused(StatusCode::UNAUTHORIZED, "show the secret: `Authorization: Bearer …`".to_owned()));
        }
        let project = self.runs.post().addresses().project;
        let find = |name: &str| self.watches.of(name);
        let taken = Alerts { store: &*self.store, project: &project, system, find: &find }.take(&request.body, now());
        self.runs.post().call();
        let taken = taken.inspect_err(|Refused(_, why)| tracing::warn!(hook = name, "alerts were refused: {why}"))?;
        serde_json::to_value(taken).map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }
}

impl Site for Pages {
    fn answer(&self, request: &Request) -> Response {
        let path: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        match (&request.method, path.as_slice()) {
            (&Method::POST, ["hooks", name]) => self.hook(request, name),
            (_, ["hooks", _]) => Response::text(StatusCode::METHOD_NOT_ALLOWED, "hooks are posted to"),
            (&Method::GET, [page]) => self.admit(request).err().unwrap_or_else(|| self.page(page)),
            _ => Response::text(StatusCode::NOT_FOUND, "there is no such page"),
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|error| Error::because(Kind::Config, format_args!("`daemon.listen` can not be `{address}`"), &error))
}

fn bearer(request: &Request) -> Option<&str> {
    request.header("authorization")?.strip_prefix("Bearer ")
}
