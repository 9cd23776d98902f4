//! Redis: one connection per call, so that no call meets what another left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, cmd};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result, chain};
use crate::host::redis::reply;
use crate::host::session::{self, Ping};
use crate::host::trust;
use crate::model::Span;
use crate::model::system::Cache;

/// How long it may take.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WaitOptions {
    timeout: Option<Span>,
}

impl WaitOptions {
    /// So long.
    pub(super) fn within(timeout: Span) -> Self {
        Self { timeout: Some(timeout) }
    }
}

/// How to list keys.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeyOptions {
    limit: Option<usize>,
    timeout: Option<Span>,
}

/// How to set a value.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SetOptions {
    pub(super) ttl: Option<Span>,
}

// The library's own are 1 s and 500 ms, which a busy server misses.
const CONNECT: Duration = Duration::from_secs(5);
const TIMEOUT: Span = Span::secs(30);
const MOST_KEYS: usize = 1000;
/// The longest value that is fetched.
const MOST_BYTES: i64 = 16 << 20;

/// Where a Redis server is, and as whom to speak to it.
pub(super) struct Server {
    name: String,
    address: String,
    client: Client,
    user: Option<String>,
    password: Option<String>,
    database: u16,
    label: String,
}

impl Server {
    /// The server a system file describes; `label` is how its client list shows the connection.
    pub(super) fn new(name: &str, cache: &Cache, password: Option<String>, label: String) -> Result<Self> {
        let host = if cache.host.is_empty() { "localhost" } else { &cache.host };
        let port = cache.port;
        let address = if cache.tls {
            // The library asks the process for its cryptography.
            let _provider = trust::provider();
            ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host.to_owned(), port)
        };
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        let info = address.into_connection_info().map(|info| info.set_redis_settings(settings));
        let client =
            info.and_then(Client::open).map_err(|error| Error::because(Kind::Config, "the cache is not described well", &error))?;
        let address = format!("{host}:{port}");
        Ok(Self { name: name.to_owned(), address, client, user: cache.user.clone(), password, database: cache.database, label })
    }

    /// Logs in by hand: the library would call every refusal a wrong password.
    async fn login(&self, limit: Duration) -> Result<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(limit));
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = match tokio::time::timeout(CONNECT, connecting).await {
            Ok(connected) => connected.map_err(|error| self.fault(&error))?,
            Err(_) => return Err(session::silent(&self.address, Span(CONNECT))),
        };
        if let Some(password) = &self.password {
            let mut auth = cmd("AUTH");
            auth.arg(self.user.as_deref()).arg(password);
            self.ask(&mut connection, &auth).await?;
        }
        if self.database != 0 {
            self.ask(&mut connection, cmd("SELECT").arg(self.database)).await?;
        }
        // A server that does not know the command or forbids it is fine too.
        let _ = self.ask(&mut connection, cmd("CLIENT").arg("SETNAME").arg(&self.label)).await;
        Ok(connection)
    }

    async fn ask(&self, connection: &mut MultiplexedConnection, command: &Cmd) -> Result<redis::Value> {
        command.query_async(connection).await.map_err(|error| self.fault(&error))
    }

    async fn within<T>(&self, limit: Span, work: impl Future<Output = Result<T>>) -> Result<T> {
        session::within(&self.address, limit, CONNECT, work).await.map_err(|error| error.target(&self.name))
    }

    fn fault(&self, error: &redis::RedisError) -> Error {
        let address = &self.address;
        if error.is_timeout() {
            return Error::new(Kind::Timeout, format!("`{address}` does not answer in time"));
        }
        if error.is_connection_refusal() {
            return Error::new(Kind::Connect, format!("nothing listens on `{address}`"))
                .hint("the server is down, or `host` and `port` of the cache are others");
        }
        let Some(code) = error.code() else {
            return Error::new(Kind::Connect, format!("`{address}`: {}", chain(error)))
                .hint("a server closes connections when it stops, or has none free: see its log and `maxclients`");
        };
        refusal(code, error.detail().unwrap_or_default(), address)
    }
}

/// The meaning of an error reply: a code, and words that belong to no standard.
fn refusal(code: &str, detail: &str, address: &str) -> Error {
    let say = |kind: Kind| Error::new(kind, format!("`{address}`: {code} {detail}")).permanent();
    match code {
        "NOAUTH" => say(Kind::Refused).hint("set `password = \"${secret:NAME}\"` of the cache in the system file"),
        "WRONGPASS" => say(Kind::Refused).hint("the user or password of the system file is not one the server knows"),
        "NOPERM" => say(Kind::Refused).hint("the user of the cache may not do it: see `ACL GETUSER`"),
        "LOADING" => Error::new(Kind::Connect, format!("`{address}` still loads its data")),
        "OOM" => say(Kind::Limit).hint("the server is at `maxmemory`: see `redis::memory`, and which keys have no expiry"),
        "READONLY" => say(Kind::Conflict).hint("this server is a replica: see `redis::role`"),
        "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "MISCONF" => Error { retryable: true, ..say(Kind::Conflict) },
        "WRONGTYPE" => say(Kind::Invalid),
        _ if detail.contains("max number of clients") => say(Kind::Limit).hint("raise `maxclients`, or find who holds them: `CLIENT LIST`"),
        _ if detail.contains("without any password") => {
            say(Kind::Refused).hint("the server has no password: take it out of the system file")
        }
        _ if detail.contains("DENIED") => say(Kind::Refused),
        _ if ["unknown", "wrong number", "syntax", "not an integer", "invalid", "out of range"]
            .iter()
            .any(|word| detail.to_lowercase().contains(word)) =>
        {
            say(Kind::Invalid)
        }
        _ => say(Kind::Remote),
    }
}

/// Logs in and asks for a `PONG`; what fails is the answer, not an error.
pub(super) async fn ping(server: &Server, options: &WaitOptions) -> Ping {
    let limit = options.timeout.unwrap_or(Span(CONNECT));
    let knocking = async {
        let mut connection = server.login(limit.0).await?;
        server.ask(&mut connection, &cmd("PING")).await
    };
    Ping::of(&server.address, limit, knocking).await
}

/// Sends one command that reads.
pub(super) async fn read(server: &Server, words: &[String], options: &WaitOptions) -> Result<Value> {
    let limit = options.timeout.unwrap_or(TIMEOUT);
    let reading = async {
        let mut connection = server.login(limit.0).await?;
        reply::plain(server.ask(&mut connection, &command_of(words)).await?)
    };
    server.within(limit, reading).await
}

/// Sends one command that may change something.
pub(super) async fn change(server: &Server, words: &[String], options: &WaitOptions) -> Result<Value> {
    let limit = options.timeout.unwrap_or(TIMEOUT);
    let changing = async {
        let mut connection = server.login(limit.0).await?;
        let done = server.ask(&mut connection, &command_of(words)).await.map_err(|error| match error.kind {
            Kind::Timeout | Kind::Connect => session::in_doubt(error),
            _ => error,
        })?;
        reply::plain(done)
    };
    server.within(limit, changing).await
}

fn command_of(words: &[String]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word);
    }
    command
}

/// The value of a key that holds a text; nothing when there is no such key.
pub(super) async fn get(server: &Server, key: &str) -> Result<Value> {
    let getting = async {
        let mut connection = server.login(TIMEOUT.0).await?;
        let length = server.ask(&mut connection, cmd("STRLEN").arg(key)).await?;
        if let redis::Value::Int(length) = length
            && length > MOST_BYTES
        {
            return Err(Error::new(Kind::Limit, format!("the value of `{key}` has {length} bytes; {MOST_BYTES} is the most")));
        }
        reply::plain(server.ask(&mut connection, cmd("GET").arg(key)).await?)
    };
    server.within(TIMEOUT, getting).await
}

/// Keys, and whether these are all that match.
#[derive(Debug, Serialize)]
pub(super) struct Keys {
    keys: Vec<String>,
    complete: bool,
}

/// Walks the keys in small steps, which holds the server up as `KEYS` would not.
pub(super) async fn keys(server: &Server, pattern: &str, options: &KeyOptions) -> Result<Keys> {
    const STEP: usize = 1000;
    let limit = options.timeout.unwrap_or(TIMEOUT);
    let most = options.limit.unwrap_or(MOST_KEYS);
    let walking = async {
        let mut connection = server.login(limit.0).await?;
        // A walk may meet a key twice.
        let mut found = BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP);
            let step: (String, Vec<Vec<u8>>) = scan.query_async(&mut connection).await.map_err(|error| server.fault(&error))?;
            for key in step.1 {
                found.insert(String::from_utf8(key).map_err(|_| reply::not_text("a key"))?);
            }
            cursor = step.0;
            let complete = cursor == "0" && found.len() <= most;
            if cursor == "0" || found.len() > most {
                return Ok(Keys { keys: found.into_iter().take(most).collect(), complete });
            }
        }
    };
    server.within(limit, walking).await
}

/// What the server says of itself.
pub(super) async fn info(server: &Server, section: Option<&str>) -> Result<Map<String, Value>> {
    let words: Vec<String> = std::iter::once("INFO").chain(section).map(str::to_owned).collect();
    let text = read(server, &words, &WaitOptions::default()).await?;
    Ok(reply::info(text.as_str().unwrap_or_default()))
}

/// The settings that match; passwords show as `***`.
pub(super) async fn config(server: &Server, pattern: &str) -> Result<Map<String, Value>> {
    const PASSWORDS: [&str; 5] = ["requirepass", "masterauth", "primaryauth", "tls-key-file-pass", "tls-client-key-file-pass"];
    let words = ["CONFIG", "GET", pattern].map(str::to_owned);
    let pairs = read(server, &words, &WaitOptions::default()).await?;
    let texts: Vec<&str> = pairs.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let setting = |pair: &[&str]| {
        let [name, text] = pair else { return None };
        let is_password = PASSWORDS.contains(name) && !text.is_empty();
        Some(((*name).to_owned(), if is_password { "***".into() } else { reply::typed(text) }))
    };
    Ok(texts.chunks(2).filter_map(setting).collect())
}

/// The memory of a server, in bytes.
#[derive(Debug, Serialize)]
pub(super) struct Memory {
    used: i64,
    peak: i64,
    resident: i64,
    max: Option<i64>,
    used_percent: Option<f64>,
    fragmentation: Option<f64>,
    policy: String,
}

/// How much memory is used, of how much.
pub(super) async fn memory(server: &Server) -> Result<Memory> {
    let info = info(server, Some("memory")).await?;
    let number = |key: &str| info.get(key).and_then(Value::as_i64).unwrap_or_default();
    let used = number("used_memory");
    let max = Some(number("maxmemory")).filter(|max| *max > 0);
    Ok(Memory {
        used,
        peak: number("used_memory_peak"),
        resident: number("used_memory_rss"),
        max,
        used_percent: max.map(|max| percent(used, max)),
        fragmentation: info.get("mem_fragmentation_ratio").and_then(Value::as_f64),
        policy: info.get("maxmemory_policy").and_then(Value::as_str).unwrap_or_default().to_owned(),
    })
}

/// How often a key that was looked up was there.
#[derive(Debug, Serialize)]
pub(super) struct Hits {
    hits: i64,
    misses: i64,
    hit_percent: Option<f64>,
    evicted: i64,
    expired: i64,
}

/// The counters of look-ups since the server started.
pub(super) async fn hits(server: &Server) -> Result<Hits> {
    let info = info(server, Some("stats")).await?;
    let number = |key: &str| info.get(key).and_then(Value::as_i64).unwrap_or_default();
    let (hits, misses) = (number("keyspace_hits"), number("keyspace_misses"));
    let all = hits + misses;
    let hit_percent = (all > 0).then(|| percent(hits, all));
    Ok(Hits { hits, misses, hit_percent, evicted: number("evicted_keys"), expired: number("expired_keys") })
}

fn percent(part: i64, whole: i64) -> f64 {
    (part as f64 / whole as f64 * 1000.0).round() / 10.0
}

/// The place of a server in its replication.
#[derive(Debug, Serialize)]
pub(super) struct Role {
    role: &'static str,
    replicas: i64,
    primary: Option<String>,
    link_up: Option<bool>,
    silent_s: Option<i64>,
}

/// Whether a server is a primary or a replica, and how its replication does.
pub(super) async fn role(server: &Server) -> Result<Role> {
    let info = info(server, Some("replication")).await?;
    let number = |key: &str| info.get(key).and_then(Value::as_i64);
    let text = |key: &str| info.get(key).and_then(Value::as_str);
    let is_replica = text("role") == Some("slave");
    Ok(Role {
        role: if is_replica { "replica" } else { "primary" },
        replicas: number("connected_slaves").unwrap_or_default(),
        primary: text("master_host").map(|host| format!("{host}:{}", number("master_port").unwrap_or_default())),
        link_up: text("master_link_status").map(|status| status == "up"),
        silent_s: number("master_last_io_seconds_ago").filter(|seconds| *seconds >= 0),
    })
}
