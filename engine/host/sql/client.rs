//! Databases: sessions, statements that read, statements that change.
//!
//! A statement that reads runs in a transaction of its own that is `READ ONLY` and rolled back. A
//! session that changed something is closed, not used again, so nothing a statement left in it
//! (settings, locks, temporary tables) meets the next one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::{Client, Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Kind, Result};
use crate::host::session::{self, Ping};
use crate::host::sql::cell::{self, Numeric, Raw};
use crate::host::sql::param::{self, Param};
use crate::host::sql::{fault, statement, tls};
use crate::model::system::Database;
use crate::model::{Size, Span};
use crate::words;

/// How to read.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ReadOptions {
    timeout: Option<Span>,
    max_rows: Option<usize>,
    max_bytes: Option<Size>,
    exact: bool,
}

impl ReadOptions {
    /// So long, and so many rows.
    pub(super) fn within(timeout: Span, max_rows: usize) -> Self {
        Self { timeout: Some(timeout), max_rows: Some(max_rows), ..Self::default() }
    }
}

/// How to change.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ChangeOptions {
    timeout: Option<Span>,
}

/// How to log in.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PingOptions {
    timeout: Option<Span>,
}

/// One statement with its parameters.
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) params: Vec<Param>,
}

const TIMEOUT: Span = Span::secs(30);
const CONNECT: Duration = Duration::from_secs(10);
/// What the server gets to say that it gave up, before we do.
const GRACE: Duration = Duration::from_secs(2);
const MOST_ROWS: usize = 10_000;
const MOST_BYTES: u64 = 16 << 20;
/// Sessions per database; `parallel` may use as many at once, the rest waits.
const SESSIONS: usize = 4;

/// The databases a run has spoken to: one pool each.
#[derive(Default)]
pub(super) struct Databases(Mutex<HashMap<String, Arc<Pool>>>);

impl Databases {
    /// The pool of this name; made when first asked for.
    pub(super) fn pool(&self, name: &str, make: impl FnOnce() -> Result<Pool>) -> Result<Arc<Pool>> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(name) {
            return Ok(pool.clone());
        }
        let pool = Arc::new(make()?);
        pools.insert(name.to_owned(), pool.clone());
        Ok(pool)
    }
}

/// One database: where it is, and the sessions that wait to be used again.
pub(super) struct Pool {
    name: String,
    config: Config,
    tls: MakeRustlsConnect,
    address: String,
    user: String,
    idle: Mutex<Vec<Client>>,
    places: Arc<Semaphore>,
    remembers: AtomicBool,
}

impl Pool {
    /// A pool without a session yet.
    pub(super) fn new(name: &str, database: &Database, password: Option<&str>, application: &str) -> Result<Self> {
        let host = if database.host.is_empty() { "localhost" } else { &database.host };
        let port = database.port;
        let (mode, tls) = tls::connector(database)?;
        let mut config = Config::new();
        config.host(host).port(port).user(&database.user).dbname(&database.name).ssl_mode(mode);
        config.application_name(application).connect_timeout(CONNECT);
        config.keepalives(true).keepalives_idle(Duration::from_secs(30)).keepalives_interval(Duration::from_secs(10)).keepalives_retries(3);
        if let Some(password) = password {
            config.password(password);
        }
        Ok(Self {
            name: name.to_owned(),
            config,
            tls,
            address: format!("{host}:{port}"),
            user: database.user.clone(),
            idle: Mutex::default(),
            places: Arc::new(Semaphore::new(SESSIONS)),
            remembers: AtomicBool::new(false),
        })
    }

    async fn login(&self) -> Result<Client> {
        let connecting = self.config.connect(self.tls.clone());
        let (client, connection) = match tokio::time::timeout(CONNECT, connecting).await {
            Ok(connected) => connected.map_err(|error| fault::login(&error, &self.address, &self.user))?,
            Err(_) => {
                return Err(Error::new(Kind::Timeout, format!("`{}` does not answer a login within {}", self.address, Span(CONNECT))));
            }
        };
        // It ends when the client is dropped; its errors reach the client.
        tokio::spawn(connection);
        Ok(client)
    }

    fn waiting(&self) -> Option<Client> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find(|client| !client.is_closed())
    }

    /// A session in which `opening`, which is our own text, was run.
    async fn lease(self: &Arc<Self>, opening: &str) -> Result<Lease> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| Error::new(Kind::Bug, "the pool is closed"))?;
        let client = self.opened(opening).await?;
        Ok(Lease { client: Some(client), pool: self.clone(), _place: place })
    }

    async fn opened(&self, opening: &str) -> Result<Client> {
        // A session that waited may be dead: the server may have gone and come back since.
        if let Some(client) = self.waiting()
            && let Ok(Ok(())) = tokio::time::timeout(CONNECT, client.batch_execute(opening)).await
        {
            return Ok(client);
        }
        let client = self.login().await?;
        client.batch_execute(opening).await.map_err(|error| self.fault(&error, ""))?;
        Ok(client)
    }

    fn fault(&self, error: &tokio_postgres::Error, sql: &str) -> Error {
        fault::statement(error, sql, &self.address, &self.user)
    }

    /// Does the work within the time a statement may take and a login needs.
    async fn within<T>(&self, limit: Span, work: impl Future<Output = Result<T>>) -> Result<T> {
        session::within(&self.address, limit, CONNECT + GRACE, work).await.map_err(|error| error.target(&self.name))
    }
}

/// A session in use. Dropped on the way, by an error, a timeout or a stop of the run, what it still
/// does is cancelled on the server, and it is closed.
struct Lease {
    client: Option<Client>,
    pool: Arc<Pool>,
    _place: OwnedSemaphorePermit,
}

impl Lease {
    fn client(&self) -> &Client {
        self.client.as_ref().expect("a lease holds its session until it is given up")
    }

    fn keep(mut self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.client.take());
    }

    fn close(mut self) {
        drop(self.client.take());
    }

    async fn read(&self, statement: &Statement, options: &ReadOptions) -> Result<Table> {
        let fault = |error: tokio_postgres::Error| self.pool.fault(&error, &statement.sql);
        let prepared = self.client().prepare(&statement.sql).await.map_err(fault)?;
        let params = param::bind(&statement.params, prepared.params())?;
        let most_rows = options.max_rows.unwrap_or(MOST_ROWS);
        let most_bytes = options.max_bytes.map_or(MOST_BYTES, |size| size.0);
        let numeric = if options.exact { Numeric::Text } else { Numeric::Number };
        let columns = prepared.columns().iter().map(|column| column.name().to_owned()).collect();
        let mut table = Table { columns, rows: Vec::new() };
        let mut bytes = 0;
        let mut stream = std::pin::pin!(self.client().query_raw(&prepared, params).await.map_err(fault)?);
        while let Some(row) = stream.try_next().await.map_err(fault)? {
            bytes += row.raw_size_bytes() as u64;
            if table.rows.len() == most_rows {
                return Err(Error::new(Kind::Limit, format!("more than {}", words::count(most_rows, "row")))
                    .hint("ask for fewer with `LIMIT`, let the server count or add up, or raise the option `max_rows`"));
            }
            if bytes > most_bytes {
                return Err(Error::new(Kind::Limit, format!("more than {}", Size(most_bytes)))
                    .hint("ask for fewer columns or rows, or raise the option `max_bytes`"));
            }
            table.rows.push(cells(&row, numeric)?);
        }
        Ok(table)
    }

    async fn change(&self, statement: &Statement) -> Result<u64> {
        let fault = |error: tokio_postgres::Error| self.pool.fault(&error, &statement.sql);
        let prepared = self.client().prepare(&statement.sql).await.map_err(fault)?;
        let params = param::bind(&statement.params, prepared.params())?;
        self.client().execute_raw(&prepared, params).await.map_err(|error| self.in_doubt(&error, &statement.sql))
    }

    /// The error of what may have happened nevertheless, when the server did not say so itself.
    fn in_doubt(&self, error: &tokio_postgres::Error, sql: &str) -> Error {
        let fault = self.pool.fault(error, sql);
        match error.as_db_error() {
            Some(_) => fault,
            None => session::in_doubt(fault),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(client), Ok(runtime)) = (self.client.take(), tokio::runtime::Handle::try_current()) else { return };
        let cancel = client.cancel_token();
        let tls = self.pool.tls.clone();
        runtime.spawn(async move {
            // Nobody waits for it; the server's own timeout ends what it does not reach.
            let _ = tokio::time::timeout(CONNECT, cancel.cancel_query(tls)).await;
            drop(client);
        });
    }
}

fn cells(row: &Row, numeric: Numeric) -> Result<Vec<Value>> {
    row.columns()
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let raw: Option<Raw<'_>> =
                row.try_get(index).map_err(|error| Error::because(Kind::Remote, format!("column `{}`", column.name()), &error))?;
            let Some(Raw(raw)) = raw else { return Ok(Value::Null) };
            cell::decode(column.type_(), raw, numeric).map_err(|_| {
                let (name, ty) = (column.name(), column.type_().name());
                Error::new(Kind::Invalid, format!("column `{name}` is a `{ty}`, which has no plain form here"))
                    .hint(format!("ask for its text: `{name}::text`"))
            })
        })
        .collect()
}

/// The rows of an answer, in order, with the names of their columns.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// The rows as maps.
    pub(super) fn maps(self) -> Result<Vec<Map<String, Value>>> {
        let twice = self.columns.iter().enumerate().find(|(index, name)| self.columns[..*index].contains(name));
        if let Some((_, name)) = twice {
            return Err(Error::new(Kind::Invalid, format!("two columns are named `{name}`"))
                .hint("name them with `AS`, or take the rows in order with `sql::table`"));
        }
        let columns = &self.columns;
        Ok(self.rows.into_iter().map(|row| columns.iter().cloned().zip(row).collect()).collect())
    }

    /// The only row.
    pub(super) fn one(self) -> Result<Map<String, Value>> {
        let mut maps = self.maps()?;
        match (maps.pop(), maps.len()) {
            (Some(row), 0) => Ok(row),
            (None, _) => Err(Error::new(Kind::NotFound, "no row where one was expected")),
            (Some(_), more) => Err(Error::new(Kind::Conflict, format!("{} rows where one was expected", more + 1)).permanent()),
        }
    }

    /// The only value.
    pub(super) fn value(self) -> Result<Value> {
        if self.columns.len() != 1 {
            return Err(Error::new(Kind::Invalid, format!("{} where one was expected", words::count(self.columns.len(), "column"))));
        }
        Ok(self.one()?.into_iter().next().map_or(Value::Null, |(_, value)| value))
    }
}

/// Reads, in a transaction that can do nothing else.
pub(super) async fn read(pool: &Arc<Pool>, statement: &Statement, options: &ReadOptions) -> Result<Table> {
    let limit = options.timeout.unwrap_or(TIMEOUT);
    let opening = format!("BEGIN READ ONLY; SET LOCAL standard_conforming_strings = on; SET LOCAL statement_timeout = {}", millis(limit));
    let reading = async {
        statement::must_read(&statement.sql)?;
        let lease = pool.lease(&opening).await?;
        let table = lease.read(statement, options).await?;
        lease.client().batch_execute("ROLLBACK").await.map_err(|error| pool.fault(&error, ""))?;
        lease.keep();
        Ok(table)
    };
    pool.within(limit, reading).await
}

/// Runs one statement that changes something, by itself; returns how many rows it touched.
pub(super) async fn execute(pool: &Arc<Pool>, statement: &Statement, options: &ChangeOptions) -> Result<u64> {
    let limit = options.timeout.unwrap_or(TIMEOUT);
    let opening = format!("SET statement_timeout = {}", millis(limit));
    let changing = async {
        statement::must_stand_alone(&statement.sql)?;
        let lease = pool.lease(&opening).await?;
        let touched = lease.change(statement).await?;
        lease.close();
        Ok(touched)
    };
    pool.within(limit, changing).await
}

/// Where a database remembers which transactions of steps it has committed: a row by the key of the call,
/// written in the same transaction, with its result.
const DONE: &str = "CREATE TABLE IF NOT EXISTS runbook_done \
    (key text PRIMARY KEY, result text NOT NULL, at timestamptz NOT NULL DEFAULT now())";

/// Whether the database can remember transactions; its table is made when it is not there. A role that
/// may not make it leaves the transaction without a memory.
pub(super) async fn remembers(pool: &Arc<Pool>) -> Result<bool> {
    if pool.remembers.load(Ordering::Relaxed) {
        return Ok(true);
    }
    let asking = async {
        let lease = pool.lease(&format!("SET statement_timeout = {}", millis(TIMEOUT))).await?;
        let sql = "SELECT to_regclass('runbook_done') IS NOT NULL \
            AND has_table_privilege(to_regclass('runbook_done'), 'SELECT, INSERT, UPDATE')";
        let fault = |error: tokio_postgres::Error| pool.fault(&error, "");
        let known = |row: Row| row.get::<_, Option<bool>>(0) == Some(true);
        if !lease.client().query_one(sql, &[]).await.map(known).map_err(fault)? {
            // Two may make it at once, or none may: what counts is whether it can be written then.
            let _ = lease.client().batch_execute(DONE).await;
        }
        let remembers = lease.client().query_one(sql, &[]).await.map(known).map_err(fault)?;
        lease.close();
        Ok(remembers)
    };
    let remembers = pool.within(TIMEOUT, asking).await?;
    pool.remembers.store(remembers, Ordering::Relaxed);
    Ok(remembers)
}

/// Runs statements together or not at all; returns how many rows each touched. With a key, the database
/// remembers that it did: a transaction of this key that was committed is not run again, and its result is
/// the one it had.
pub(super) async fn transaction(
    pool: &Arc<Pool>,
    statements: &[Statement],
    key: Option<&str>,
    options: &ChangeOptions,
) -> Result<Vec<u64>> {
    let limit = options.timeout.unwrap_or(TIMEOUT);
    let opening = format!("BEGIN; SET LOCAL statement_timeout = {}", millis(limit));
    let place = |index: usize| format!("statement {} of {}", index + 1, statements.len());
    let changing = async {
        for (index, statement) in statements.iter().enumerate() {
            statement::must_stand_alone(&statement.sql).map_err(|error| error.context(place(index)))?;
        }
        let lease = pool.lease(&opening).await?;
        let fault = |error: tokio_postgres::Error| pool.fault(&error, "");
        if let Some(key) = key {
            // It waits for a worker that was killed while its commit was on the way.
            let insert = "INSERT INTO runbook_done (key, result) VALUES ($1, '') ON CONFLICT DO NOTHING";
            if lease.client().execute(insert, &[&key]).await.map_err(fault)? == 0 {
                let row = lease.client().query_one("SELECT result FROM runbook_done WHERE key = $1", &[&key]).await.map_err(fault)?;
                lease.close();
                return serde_json::from_str(row.get(0))
                    .map_err(|error| Error::because(Kind::Remote, format_args!("the row `{key}` of `runbook_done`"), &error));
            }
        }
        let mut touched = Vec::new();
        for (index, statement) in statements.iter().enumerate() {
            // What fails here is undone when the session closes.
            touched.push(lease.change(statement).await.map_err(|error| error.context(place(index)))?);
        }
        if let Some(key) = key {
            let result = Value::from(touched.clone()).to_string();
            let update = "UPDATE runbook_done SET result = $2 WHERE key = $1";
            lease.client().execute(update, &[&key, &result]).await.map_err(fault)?;
        }
        lease.client().batch_execute("COMMIT").await.map_err(|error| lease.in_doubt(&error, ""))?;
        lease.close();
        Ok(touched)
    };
    pool.within(limit, changing).await
}

/// The limit as the server takes it, where 0 would mean none.
fn millis(limit: Span) -> u128 {
    limit.0.as_millis().clamp(1, i32::MAX as u128)
}

/// Logs in anew and asks for `1`; what fails is the answer, not an error.
pub(super) async fn ping(pool: &Pool, options: &PingOptions) -> Ping {
    let knocking = async {
        let client = pool.login().await?;
        client.batch_execute("SELECT 1").await.map_err(|error| pool.fault(&error, ""))
    };
    Ping::of(&pool.address, options.timeout.unwrap_or(Span(CONNECT)), knocking).await
}

/// What server it is.
#[derive(Debug, Serialize)]
pub(super) struct Version {
    number: i64,
    major: i64,
    text: String,
}

/// The version of the server.
pub(super) async fn version(pool: &Arc<Pool>) -> Result<Version> {
    let sql = "SELECT current_setting('server_version_num')::int8 AS number, version() AS text".to_owned();
    let row = read(pool, &Statement { sql, params: Vec::new() }, &ReadOptions::default()).await?.one()?;
    let number = row["number"].as_i64().unwrap_or_default();
    Ok(Version { number, major: number / 10_000, text: row["text"].as_str().unwrap_or_default().to_owned() })
}
