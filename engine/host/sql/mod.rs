//! `sql::`: PostgreSQL. Reading and changing the databases of the system.
//!
//! Which database is meant is a name of the system file; a script knows neither host nor password.

mod cell;
mod client;
mod fault;
mod measure;
mod param;
mod statement;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;

use rhai::plugin::*;
use rhai::{Array, Map};
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::host::{Access, Call, Ctx, Function, HostModule, Mode, RhaiResultOf, Secret, SecretText, value};
use crate::model::Effect;
use client::{ChangeOptions, Databases, PingOptions, Pool, ReadOptions, Statement, Table};
use param::Param;

pub(super) use measure::{measure, numbers};

/// The module `sql`.
pub const MODULE: HostModule = HostModule {
    name: "sql",
    summary: "PostgreSQL: read and change the databases of the system, with parameters, limits and transactions",
    build: || exported_module!(api),
    functions: &[
        Function::pure("databases"),
        Function::pure("ident"),
        Function::read("ping").needs("sql", "read", 0).options::<PingOptions>(),
        Function::read("version").needs("sql", "read", 0),
        Function::read("query").needs("sql", "read", 0).options::<ReadOptions>(),
        Function::read("table").needs("sql", "read", 0).options::<ReadOptions>(),
        Function::read("query_one").needs("sql", "read", 0).options::<ReadOptions>(),
        Function::read("value").needs("sql", "read", 0).options::<ReadOptions>(),
        Function::effect("execute", "the database and the statement").needs("sql", "write", 0).options::<ChangeOptions>(),
        Function::effect("transaction", "the database and the statements").needs("sql", "write", 0).options::<ChangeOptions>(),
    ],
};

#[export_module]
mod api {
    use rhai::{Array, Dynamic, ImmutableString, Map};

    use super::client::Table;
    use super::{client, statement};
    use crate::host::{Call, RhaiResultOf};

    /// The names of the databases of the system, in order.
    ///
    /// ```rhai
    /// type_of(sql::databases()) == "array"
    /// ```
    ///
    /// Returns a list of texts; empty when the run is for no system.
    #[rhai_fn(return_raw, volatile)]
    pub fn databases(native: NativeCallContext) -> RhaiResultOf<Array> {
        let call = Call::new(&native, "sql::databases")?;
        Ok(call.ctx().system().databases.keys().map(Into::into).collect())
    }

    /// A name as an identifier of a statement, in double quotes, for what can not be a parameter.
    ///
    /// ```rhai
    /// sql::ident("we\"ird") == "\"we\"\"ird\""
    /// ```
    ///
    /// Returns a text. A name that is empty, longer than 63 bytes or holds a NUL is `invalid`.
    #[rhai_fn(return_raw)]
    pub fn ident(native: NativeCallContext, name: &str) -> RhaiResultOf<String> {
        let call = Call::new(&native, "sql::ident")?;
        statement::ident(name).map_err(|error| call.fail(error))
    }

    /// Whether a database lets one in: a new login and `SELECT 1`, since a server can accept
    /// connections and refuse every login.
    ///
    /// ```rhai,lab
    /// let it = sql::ping("main");
    /// it.ok && it.ms >= 0 && it.kind == ()
    /// ```
    ///
    /// Options: `timeout` (10 s when absent). Returns `ok`, `ms`, and when it is not ok `problem`, `hint` and `kind`:
    /// `connect` (nothing there, or starting up), `refused` (password or access rules), `limit` (no connection free),
    /// `timeout`, `not_found` (no such database). It throws only when the permission or the secret is missing.
    #[rhai_fn(name = "ping", return_raw, volatile)]
    pub fn ping_with(native: NativeCallContext, database: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "sql::ping")?;
        let pool = pool(&call, "read", database)?;
        let options: PingOptions = call.options(options)?;
        let ping = call.wait(async { Ok(client::ping(&pool, &options).await) })?;
        call.value(&ping)
    }

    /// Whether a database lets one in within 10 s.
    #[rhai_fn(return_raw, volatile)]
    pub fn ping(native: NativeCallContext, database: &str) -> RhaiResultOf<Dynamic> {
        ping_with(native, database, Map::new())
    }

    /// The version of the server of a database.
    ///
    /// ```rhai,lab
    /// sql::version("main").major >= 12
    /// ```
    ///
    /// Returns `number` (150018 is 15.18), `major`, `text`.
    #[rhai_fn(return_raw, volatile)]
    pub fn version(native: NativeCallContext, database: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "sql::version")?;
        let pool = pool(&call, "read", database)?;
        let version = call.wait(client::version(&pool))?;
        call.value(&version)
    }

    /// The rows a statement reads, as maps from column to value.
    ///
    /// The statement runs in a `READ ONLY` transaction that is rolled back, and must be one `SELECT`, `WITH`,
    /// `TABLE`, `VALUES`, `SHOW` or `EXPLAIN` (without `ANALYZE`). Functions that act in spite of that are refused by
    /// name: ending sessions, reloading the configuration, reading files of the server, advisory locks, `dblink` and
    /// their like. **That list can not know every function of every extension: the real boundary is a role that may
    /// only read**, so give the database of the system file such a role where only reading is meant.
    ///
    /// Values go in as parameters `$1`, `$2`, …, never into the text. The server reads each as the type it wants:
    /// texts fit dates, uuids, addresses and enums, whole numbers fit every number, `()` is NULL, a list is an array
    /// (or JSON), a map is JSON, a blob is `bytea`; a text for a JSON parameter is JSON.
    ///
    /// ```rhai,lab
    /// let rows = sql::query("main", "SELECT $1::int + 1 AS next, now() AS time", [41]);
    /// rows.len() == 1 && rows[0].next == 42
    /// ```
    ///
    /// Options: `timeout` (30 s when absent; the server ends the statement), `max_rows` (10 000), `max_bytes` (16 MiB),
    /// `exact` (false; true gives `numeric` as text with all its digits).
    ///
    /// Whole numbers, floats, true/false, texts, JSON and arrays come as what they are. `numeric` is a whole number when
    /// it has no decimals and fits, else the nearest float, so that it always compares as a number. Times are RFC 3339 (`timestamptz` in UTC,
    /// `timestamp` without an offset), `interval` is ISO 8601 (`P1DT2H`), `bytea` is hexadecimal (`\x00ff`), and uuid,
    /// inet, ranges, `pg_lsn` and enums are texts. A column of another type is `invalid`: ask for `column::text`.
    ///
    /// Fails with `limit` when there is more than the limits allow (never with a part of the rows), `invalid` for a
    /// wrong statement with the place in it, `denied` for one that does more than read, `refused`, `timeout`, `connect`.
    #[rhai_fn(name = "query", return_raw, volatile)]
    pub fn query_with(
        native: NativeCallContext,
        database: &str,
        sql: ImmutableString,
        params: Array,
        options: Map,
    ) -> RhaiResultOf<Dynamic> {
        read(&native, "sql::query", (database, sql, params, options), Table::maps)
    }

    /// The rows a statement with parameters reads.
    #[rhai_fn(name = "query", return_raw, volatile)]
    pub fn query_params(native: NativeCallContext, database: &str, sql: ImmutableString, params: Array) -> RhaiResultOf<Dynamic> {
        query_with(native, database, sql, params, Map::new())
    }

    /// The rows a statement without parameters reads, with options.
    #[rhai_fn(name = "query", return_raw, volatile)]
    pub fn query_options(native: NativeCallContext, database: &str, sql: ImmutableString, options: Map) -> RhaiResultOf<Dynamic> {
        query_with(native, database, sql, Array::new(), options)
    }

    /// The rows a statement reads.
    #[rhai_fn(return_raw, volatile)]
    pub fn query(native: NativeCallContext, database: &str, sql: ImmutableString) -> RhaiResultOf<Dynamic> {
        query_with(native, database, sql, Array::new(), Map::new())
    }

    /// The rows a statement reads, with its columns in order; for tables to show.
    ///
    /// ```rhai,lab
    /// let it = sql::table("main", "SELECT 1 AS b, 2 AS a");
    /// it.columns == ["b", "a"] && it.rows == [[1, 2]]
    /// ```
    ///
    /// Options and failures as `sql::query`. Returns `columns` (names) and `rows` (lists of values in the order of the columns).
    #[rhai_fn(name = "table", return_raw, volatile)]
    pub fn table_with(
        native: NativeCallContext,
        database: &str,
        sql: ImmutableString,
        params: Array,
        options: Map,
    ) -> RhaiResultOf<Dynamic> {
        read(&native, "sql::table", (database, sql, params, options), Ok)
    }

    /// The rows a statement with parameters reads, with its columns in order.
    #[rhai_fn(name = "table", return_raw, volatile)]
    pub fn table_params(native: NativeCallContext, database: &str, sql: ImmutableString, params: Array) -> RhaiResultOf<Dynamic> {
        table_with(native, database, sql, params, Map::new())
    }

    /// The rows a statement without parameters reads, with its columns in order, with options.
    #[rhai_fn(name = "table", return_raw, volatile)]
    pub fn table_options(native: NativeCallContext, database: &str, sql: ImmutableString, options: Map) -> RhaiResultOf<Dynamic> {
        table_with(native, database, sql, Array::new(), options)
    }

    /// The rows a statement reads, with its columns in order.
    #[rhai_fn(return_raw, volatile)]
    pub fn table(native: NativeCallContext, database: &str, sql: ImmutableString) -> RhaiResultOf<Dynamic> {
        table_with(native, database, sql, Array::new(), Map::new())
    }

    /// The one row a statement reads.
    ///
    /// ```rhai,lab
    /// sql::query_one("main", "SELECT current_database() AS name").name != ""
    /// ```
    ///
    /// Options as `sql::query`. Returns a map from column to value. No row is `not_found`, more than one is `conflict`.
    #[rhai_fn(name = "query_one", return_raw, volatile)]
    pub fn query_one_with(
        native: NativeCallContext,
        database: &str,
        sql: ImmutableString,
        params: Array,
        options: Map,
    ) -> RhaiResultOf<Dynamic> {
        read(&native, "sql::query_one", (database, sql, params, options), Table::one)
    }

    /// The one row a statement with parameters reads.
    #[rhai_fn(name = "query_one", return_raw, volatile)]
    pub fn query_one_params(native: NativeCallContext, database: &str, sql: ImmutableString, params: Array) -> RhaiResultOf<Dynamic> {
        query_one_with(native, database, sql, params, Map::new())
    }

    /// The one row a statement without parameters reads, with options.
    #[rhai_fn(name = "query_one", return_raw, volatile)]
    pub fn query_one_options(native: NativeCallContext, database: &str, sql: ImmutableString, options: Map) -> RhaiResultOf<Dynamic> {
        query_one_with(native, database, sql, Array::new(), options)
    }

    /// The one row a statement reads.
    #[rhai_fn(return_raw, volatile)]
    pub fn query_one(native: NativeCallContext, database: &str, sql: ImmutableString) -> RhaiResultOf<Dynamic> {
        query_one_with(native, database, sql, Array::new(), Map::new())
    }

    /// The one value a statement reads: one row of one column.
    ///
    /// ```rhai,lab
    /// sql::value("main", "SELECT count(*) FROM pg_database") >= 1
    /// ```
    ///
    /// Options as `sql::query`. No row is `not_found`, more than one is `conflict`, more than one column is `invalid`.
    #[rhai_fn(name = "value", return_raw, volatile)]
    pub fn value_with(
        native: NativeCallContext,
        database: &str,
        sql: ImmutableString,
        params: Array,
        options: Map,
    ) -> RhaiResultOf<Dynamic> {
        read(&native, "sql::value", (database, sql, params, options), Table::value)
    }

    /// The one value a statement with parameters reads.
    #[rhai_fn(name = "value", return_raw, volatile)]
    pub fn value_params(native: NativeCallContext, database: &str, sql: ImmutableString, params: Array) -> RhaiResultOf<Dynamic> {
        value_with(native, database, sql, params, Map::new())
    }

    /// The one value a statement without parameters reads, with options.
    #[rhai_fn(name = "value", return_raw, volatile)]
    pub fn value_options(native: NativeCallContext, database: &str, sql: ImmutableString, options: Map) -> RhaiResultOf<Dynamic> {
        value_with(native, database, sql, Array::new(), options)
    }

    /// The one value a statement reads.
    #[rhai_fn(return_raw, volatile)]
    pub fn value(native: NativeCallContext, database: &str, sql: ImmutableString) -> RhaiResultOf<Dynamic> {
        value_with(native, database, sql, Array::new(), Map::new())
    }

    /// Runs one statement that changes something, by itself, outside of a transaction.
    ///
    /// What may not be in a transaction (`VACUUM`, `CREATE INDEX CONCURRENTLY`, `CREATE DATABASE`) goes here too. Each
    /// call has a session of its own: `BEGIN`, `LISTEN` and their like are `invalid`, as is `COPY`. With this permission
    /// the role of the database is the only boundary. Parameters as in `sql::query`.
    ///
    /// ```rhai,lab
    /// sql::execute("main", "ANALYZE pg_class") == 0
    /// ```
    ///
    /// Options: `timeout` (30 s when absent; the server ends the statement). Returns the number of rows it touched, `()` in a plan. When
    /// the connection breaks before the answer, the error says that the outcome is not known.
    #[rhai_fn(name = "execute", return_raw, volatile)]
    pub fn execute_with(
        native: NativeCallContext,
        database: &str,
        sql: ImmutableString,
        params: Array,
        options: Map,
    ) -> RhaiResultOf<Dynamic> {
        super::execute(&native, database, sql, params, options)
    }

    /// Runs one statement with parameters that changes something.
    #[rhai_fn(name = "execute", return_raw, volatile)]
    pub fn execute_params(native: NativeCallContext, database: &str, sql: ImmutableString, params: Array) -> RhaiResultOf<Dynamic> {
        execute_with(native, database, sql, params, Map::new())
    }

    /// Runs one statement without parameters that changes something, with options.
    #[rhai_fn(name = "execute", return_raw, volatile)]
    pub fn execute_options(native: NativeCallContext, database: &str, sql: ImmutableString, options: Map) -> RhaiResultOf<Dynamic> {
        execute_with(native, database, sql, Array::new(), options)
    }

    /// Runs one statement that changes something.
    #[rhai_fn(return_raw, volatile)]
    pub fn execute(native: NativeCallContext, database: &str, sql: ImmutableString) -> RhaiResultOf<Dynamic> {
        execute_with(native, database, sql, Array::new(), Map::new())
    }

    /// Runs statements in one transaction: all of them take effect, or none does.
    ///
    /// Each statement is a text, or a list of a text and its list of parameters. The first that fails undoes
    /// what was before it, and the error says which it was.
    ///
    /// ```rhai,lab
    /// sql::transaction("main", [
    ///     "CREATE TEMP TABLE moves (n int)",
    ///     ["INSERT INTO moves VALUES ($1), ($2)", [1, 2]],
    /// ]) == [0, 2]
    /// ```
    ///
    /// It takes effect exactly once, also when the run is interrupted and resumed: in the same transaction it writes a
    /// row into the table `runbook_done` (`key`, `result`, `at`), which it makes when it is not there. The key is made of
    /// the run, the step and the how-manieth transaction of the step it is; when the row is there, its result is
    /// returned and nothing is run. A role that may neither make nor write that table has no such memory: then an
    /// interrupted step is in doubt, as with any other effect.
    ///
    /// Options: `timeout` of each statement (30 s when absent). Returns how many rows each touched, `()` for each in a plan.
    #[rhai_fn(name = "transaction", return_raw, volatile)]
    pub fn transaction_with(native: NativeCallContext, database: &str, statements: Array, options: Map) -> RhaiResultOf<Dynamic> {
        super::transaction(&native, database, statements, options)
    }

    /// Runs statements in one transaction.
    #[rhai_fn(return_raw, volatile)]
    pub fn transaction(native: NativeCallContext, database: &str, statements: Array) -> RhaiResultOf<Dynamic> {
        transaction_with(native, database, statements, Map::new())
    }
}

/// The pool of a database, when it may be used so.
fn pool(call: &Call<'_>, verb: &str, name: &str) -> RhaiResultOf<Arc<Pool>> {
    call.permit(&Access::word("sql", verb, name))?;
    let pool = call.ctx().state::<Databases>().pool(name, || described(call.ctx(), name));
    pool.map_err(|error| call.fail(error.target(name)))
}

/// The identity of the cluster a database is in, for plans: it is copied with the data, and with nothing else.
pub(super) async fn identity(ctx: &Ctx, name: &str) -> Result<String> {
    let pool = ctx.state::<Databases>().pool(name, || described(ctx, name))?;
    let role = "CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END";
    let sql = format!("SELECT system_identifier::text || '/' || current_database() || '/' || {role} AS id FROM pg_control_system()");
    let row = client::read(&pool, &Statement { sql, params: Vec::new() }, &ReadOptions::default()).await?.one()?;
    Ok(row.get("id").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned())
}

/// The database as the system file describes it.
fn described(ctx: &Ctx, name: &str) -> Result<Pool> {
    let system = ctx.system();
    let Some(database) = system.databases.get(name) else {
        let error = Error::new(Kind::NotFound, format!("system `{}` has no database `{name}`", system.name));
        return Err(error.suggest(name, system.databases.keys()));
    };
    let password = database.password.as_deref().map(|password| ctx.secrets().reveal(password)).transpose()?;
    Pool::new(name, database, password.as_deref(), &format!("runbook/{}", ctx.run().number))
}

fn read<T: Serialize>(
    native: &NativeCallContext<'_>,
    function: &'static str,
    (name, sql, params, options): (&str, ImmutableString, Array, Map),
    shape: fn(Table) -> Result<T>,
) -> RhaiResultOf<Dynamic> {
    let call = Call::new(native, function)?;
    let pool = pool(&call, "read", name)?;
    let options: ReadOptions = call.options(options)?;
    let statement = Statement { sql: sql.to_string(), params: values(&call, name, &params)? };
    let shaped = call.wait(async { shape(client::read(&pool, &statement, &options).await?).map_err(|error| error.target(name)) })?;
    call.value(&shaped)
}

fn execute(native: &NativeCallContext<'_>, name: &str, sql: ImmutableString, params: Array, options: Map) -> RhaiResultOf<Dynamic> {
    let call = Call::new(native, "sql::execute")?;
    let pool = pool(&call, "write", name)?;
    let options: ChangeOptions = call.options(options)?;
    let statement = Statement { sql: sql.to_string(), params: values(&call, name, &params)? };
    let effect = Effect::new("sql::execute", name, format!("{name}: {}", on_one_line(&sql)));
    let touched = call.effect(effect, None, async { client::execute(&pool, &statement, &options).await.map(Some) })?;
    call.answer(&touched)
}

fn transaction(native: &NativeCallContext<'_>, name: &str, statements: Array, options: Map) -> RhaiResultOf<Dynamic> {
    let call = Call::new(native, "sql::transaction")?;
    let pool = pool(&call, "write", name)?;
    let options: ChangeOptions = call.options(options)?;
    let statements = statements.iter().map(|entry| written(&call, name, entry)).collect::<RhaiResultOf<Vec<_>>>()?;
    let summary: Vec<String> = statements.iter().map(|statement| on_one_line(&statement.sql)).collect();
    let remembers = call.ctx().mode() == Mode::Apply && call.wait(client::remembers(&pool))?;
    let effect = Effect::new("sql::transaction", name, format!("{name}: {}", summary.join("; "))).once(remembers);
    let planned = vec![None; statements.len()];
    let touched = call.effect_by_key(effect, planned, |key| async {
        let key = key;
        let touched = client::transaction(&pool, &statements, remembers.then_some(&key), &options).await?;
        Ok(touched.into_iter().map(Some).collect())
    })?;
    call.answer(&touched)
}

/// A statement of a transaction: a text, or a list of a text and its parameters.
fn written(call: &Call<'_>, name: &str, entry: &Dynamic) -> RhaiResultOf<Statement> {
    if let Ok(sql) = entry.clone().into_string() {
        return Ok(Statement { sql, params: Vec::new() });
    }
    let parts = entry.clone().into_array().unwrap_or_default();
    match &parts[..] {
        [sql, params @ ..] if sql.is_string() && params.len() <= 1 && params.iter().all(Dynamic::is_array) => {
            let params = params.first().and_then(|params| params.clone().into_array().ok()).unwrap_or_default();
            Ok(Statement { sql: sql.to_string(), params: values(call, name, &params)? })
        }
        _ => {
            let error = Error::new(Kind::Invalid, "a statement of a transaction is a text, or a list of a text and its parameters");
            Err(call.fail(error.hint(r#"as in ["UPDATE t SET a = $1", [2]]"#)))
        }
    }
}

/// A statement for people: without its line breaks, and no longer than a line.
fn on_one_line(sql: &str) -> String {
    const LENGTH: usize = 160;
    let words: Vec<&str> = sql.split_whitespace().collect();
    let text = words.join(" ");
    if text.chars().count() <= LENGTH { text } else { text.chars().take(LENGTH).chain(['…']).collect() }
}

fn values(call: &Call<'_>, name: &str, params: &[Dynamic]) -> RhaiResultOf<Vec<Param>> {
    params.iter().map(|param| value_of(call, name, param)).collect()
}

fn value_of(call: &Call<'_>, name: &str, param: &Dynamic) -> RhaiResultOf<Param> {
    if let Some(secret) = param.read_lock::<Secret>() {
        let opened = call.open(&SecretText::Secret(secret.name().to_owned()), &[Access::word("sql", "write", name)])?;
        return Ok(Param::Plain(opened.into()));
    }
    if let Ok(list) = param.as_array_ref() {
        return values(call, name, &list).map(Param::List);
    }
    if let Ok(bytes) = param.as_blob_ref() {
        return Ok(Param::Bytes(bytes.clone()));
    }
    if holds_secret(param) {
        let error = Error::new(Kind::Invalid, "a secret inside of a map would be stored as `***`");
        return Err(call.fail(error.hint("give it as a parameter of its own")));
    }
    value::plain(param).map(Param::Plain).map_err(|error| call.fail(error))
}

fn holds_secret(value: &Dynamic) -> bool {
    value.is::<Secret>()
        || value.as_map_ref().is_ok_and(|map| map.values().any(holds_secret))
        || value.as_array_ref().is_ok_and(|list| list.iter().any(holds_secret))
}
