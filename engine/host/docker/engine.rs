//! The connection to the Docker engine, what it says of itself, and its errors in our words.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error as Bollard;
use bollard::{API_DEFAULT_VERSION, Docker as Client};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OnceCell;

use crate::error::{Error, Kind, Result, chain};
use crate::host::{Access, Ctx};

const SOCKET: &str = "unix:///var/run/docker.sock";
/// How long the engine may take to answer at all.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a question may take that the engine answers from memory.
pub(super) const QUICK: Duration = Duration::from_secs(30);
/// How long the engine may add up the space it uses: it walks every layer and volume.
pub(super) const SLOW: Duration = Duration::from_secs(120);
/// The library's own limit; ours are shorter and per call.
const LIBRARY_SECONDS: u64 = 24 * 3600;
const BODY_BYTES: usize = 64 << 20;

/// The engine, as one run sees it. Nothing is connected before the first question.
#[derive(Clone)]
pub(in crate::host) struct Docker {
    pub(super) ctx: Ctx,
    link: Arc<Link>,
}

/// The one connection of a run.
#[derive(Default)]
struct Link(OnceCell<Client>);

/// What the engine says of itself.
#[derive(Debug, Serialize)]
pub(super) struct Info {
    id: String,
    name: String,
    version: String,
    api_version: String,
    storage: String,
    root: String,
    os: String,
    kernel: String,
    cpus: i64,
    memory: i64,
    containers: i64,
    running: i64,
    paused: i64,
    stopped: i64,
    images: i64,
    log_driver: String,
    live_restore: bool,
    warnings: Vec<String>,
}

impl Docker {
    /// The engine of this run's system.
    pub(in crate::host) fn of(ctx: &Ctx) -> Self {
        Self { ctx: ctx.clone(), link: ctx.state() }
    }

    /// Where the engine listens.
    pub(super) fn address(&self) -> &str {
        match self.ctx.system().services.docker_host.as_str() {
            "" => SOCKET,
            address => address,
        }
    }

    /// The client; connects when first asked for.
    pub(super) async fn client(&self) -> Result<&Client> {
        self.link.0.get_or_try_init(|| within(CONNECT, "the docker engine", self.connect())).await
    }

    async fn connect(&self) -> Result<Client> {
        let address = self.address();
        let client = match address.split_once("://") {
            Some(("unix", path)) => Client::connect_with_unix(path, LIBRARY_SECONDS, API_DEFAULT_VERSION),
            Some(("tcp" | "http", _)) => Client::connect_with_http(address, LIBRARY_SECONDS, API_DEFAULT_VERSION),
            _ => {
                return Err(Error::new(Kind::Config, format!("`{address}` is not an address of a docker engine"))
                    .target(address)
                    .hint("write `docker_host` like `unix:///var/run/docker.sock` or `tcp://127.0.0.1:2375`"));
            }
        };
        let client = client.map_err(|error| unreachable(address, error))?;
        client.negotiate_version().await.map_err(|error| unreachable(address, error))
    }

    /// Refuses a verb that no grant could cover, before anything is connected.
    pub(in crate::host) fn permit_any(&self, verb: &str, name: &str) -> Result<()> {
        if self.ctx.permissions().could("docker", verb) {
            return Ok(());
        }
        self.ctx.permissions().check(&Access::word("docker", verb, name)).map(drop)
    }

    /// What the engine says of itself.
    pub(super) async fn info(&self) -> Result<Info> {
        self.permit_any("list", "*")?;
        let client = self.client().await?;
        let info = within(QUICK, "the docker engine", async { client.info().await.map_err(|error| failed("info", error)) }).await?;
        let count = |number: Option<i64>| number.unwrap_or(0);
        let version = client.client_version();
        Ok(Info {
            id: info.id.unwrap_or_default(),
            name: info.name.unwrap_or_default(),
            version: info.server_version.unwrap_or_default(),
            api_version: format!("{}.{}", version.major_version, version.minor_version),
            storage: info.driver.unwrap_or_default(),
            root: info.docker_root_dir.unwrap_or_default(),
            os: info.operating_system.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            cpus: count(info.ncpu),
            memory: count(info.mem_total),
            containers: count(info.containers),
            running: count(info.containers_running),
            paused: count(info.containers_paused),
            stopped: count(info.containers_stopped),
            images: count(info.images),
            log_driver: info.logging_driver.unwrap_or_default(),
            live_restore: info.live_restore_enabled.unwrap_or(false),
            warnings: info.warnings.unwrap_or_default(),
        })
    }

    /// The engine's own identity, for fingerprints.
    pub(super) async fn id(&self) -> Result<String> {
        Ok(self.info().await?.id)
    }

    /// What `/system/df` answers. The library knows only its newest form, in which an older engine
    /// would seem to use no space at all.
    pub(super) async fn usage(&self) -> Result<Value> {
        let client = self.client().await?;
        let version = client.client_version();
        let path = format!("/v{}.{}/system/df", version.major_version, version.minor_version);
        within(SLOW, "the docker engine", self.get(&path)).await
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let address = self.address();
        let broken = |error: io::Error| Error::because(Kind::Connect, "no connection to the docker engine", &error).target(address);
        match address.split_once("://") {
            Some(("unix", socket)) => get_over(UnixStream::connect(socket).await.map_err(broken)?, path).await,
            Some((_, host)) => get_over(TcpStream::connect(host.trim_end_matches('/')).await.map_err(broken)?, path).await,
            None => Err(Error::new(Kind::Config, format!("`{address}` is not an address of a docker engine"))),
        }
    }
}

async fn get_over(stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> Result<Value> {
    let remote = |error: &(dyn std::error::Error + 'static)| Error::because(Kind::Remote, "the docker engine", error);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| remote(&error))?;
    let request = hyper::Request::get(path).header("Host", "docker").body(Empty::<bytes::Bytes>::new());
    let request = request.map_err(|error| Error::because(Kind::Bug, path, &error))?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|error| remote(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES).collect().await;
        Ok::<_, Error>((status, body.map_err(|error| Error::new(Kind::Remote, format!("the docker engine: {error}")))?.to_bytes()))
    };
    // The exchange owns the sender; when it is over the connection ends too.
    let (answer, _) = tokio::join!(exchange, connection);
    let (status, body) = answer?;
    let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if status.is_success() {
        return Ok(value);
    }
    Err(Error::new(Kind::Remote, format!("the docker engine: {status}: {}", value["message"].as_str().unwrap_or("no reason given"))))
}

/// Ends `work` when it takes longer than `limit`.
pub(super) async fn within<T>(limit: Duration, what: impl Display, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(Error::new(Kind::Timeout, format!("{what} did not answer within {}", crate::model::Span(limit)))),
    }
}

/// An answer of the engine that is a failure.
pub(super) fn failed(doing: impl Display, error: Bollard) -> Error {
    match error {
        Bollard::DockerResponseServerError { status_code, message } => {
            let kind = match status_code {
                404 => Kind::NotFound,
                409 | 304 => Kind::Conflict,
                400 => Kind::Invalid,
                401 | 403 => Kind::Refused,
                _ => Kind::Remote,
            };
            Error::new(kind, format!("{doing}: {}", message.trim()))
        }
        Bollard::RequestTimeoutError => Error::new(Kind::Timeout, format!("{doing}: the docker engine did not answer")),
        Bollard::HyperLegacyError { err } if err.is_connect() => Error::because(Kind::Connect, doing, &err),
        error => Error::because(Kind::Remote, doing, &error),
    }
}

/// Why the engine can not be reached, and what helps.
fn unreachable(address: &str, error: Bollard) -> Error {
    let said = |kind, what: &str, hint: &str| Error::new(kind, format!("{what}: `{address}`")).target(address).hint(hint);
    if matches!(error, Bollard::SocketNotFoundError(_)) {
        let hint =
            "start the engine (`systemctl start docker`), or name its socket in the system file: `[services] docker_host = \"unix://…\"`";
        return said(Kind::Connect, "there is no docker engine: its socket is not there", hint);
    }
    match io_kind(&error) {
        Some(io::ErrorKind::PermissionDenied) => said(
            Kind::Refused,
            "the docker engine does not let this user in",
            "add the user to the group of the socket (`usermod -aG docker USER`) and log in again; that group has the power of root",
        )
        .permanent(),
        Some(io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => said(
            Kind::Connect,
            "the docker engine is not running",
            "start it (`systemctl start docker`) and see its journal if it stops again",
        ),
        Some(_) => Error::new(Kind::Connect, format!("no connection to the docker engine: {}", chain(&error))).target(address),
        None => failed("the docker engine", error).target(address),
    }
}

/// The failure of the operating system somewhere in the chain.
fn io_kind(error: &Bollard) -> Option<io::ErrorKind> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        if let Some(Bollard::HyperLegacyError { err }) = error.downcast_ref::<Bollard>() {
            next = std::error::Error::source(err);
            continue;
        }
        next = error.source();
    }
    None
}
