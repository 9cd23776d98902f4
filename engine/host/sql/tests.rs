//! Against a real PostgreSQL.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Kind};
use crate::host::leash::{self, Leashed};
use crate::host::testing::Bench;
use crate::host::{Mode, Secrets, value};
use crate::model::system::{Database, Metric, MetricKind};
use crate::model::{Span, System};

/// Runs as the user `postgres` when the tests run as root, which the server refuses.
const SCRIPT: &str = r#"
for bin in /usr/lib/postgresql/*/bin; do PATH="$bin:$PATH"; done
command -v initdb >/dev/null || { echo "PostgreSQL is not installed: these tests need initdb, pg_ctl and psql"; exit 1; }
command -v openssl >/dev/null || { echo "openssl is not installed: these tests need it for a certificate"; exit 1; }
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
echo master-password > "$dir/password"
initdb -D "$dir/data" -U master --pwfile="$dir/password" --auth=scram-sha-256 --no-sync -E UTF8 --locale=C > "$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1 \
    -addext basicConstraints=critical,CA:FALSE -keyout "$dir/key.pem" -out "$dir/cert.pem" 2> "$dir/log" || { cat "$dir/log"; exit 1; }
cat >> "$dir/data/postgresql.conf" <<END
ssl = on
ssl_cert_file = '$dir/cert.pem'
ssl_key_file = '$dir/key.pem'
port = $1
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
max_connections = 60
END
pg_ctl -D "$dir/data" -l "$dir/log" -w start > /dev/null || { cat "$dir/log"; exit 1; }
PGPASSWORD=master-password psql -qX -h 127.0.0.1 -p "$1" -U master -d postgres <<END
CREATE ROLE crowded LOGIN PASSWORD 'crowded-password' CONNECTION LIMIT 0;
CREATE ROLE reader LOGIN PASSWORD 'reader-password';
CREATE DATABASE app;
END
echo "$dir/cert.pem"
echo ready
cat > /dev/null
pg_ctl -D "$dir/data" -m immediate stop > /dev/null
"#;

fn server() -> &'static Leashed {
    static SERVER: OnceLock<Leashed> = OnceLock::new();
    SERVER.get_or_init(|| leash::start(Some("postgres"), SCRIPT))
}

fn database(user: &str, secret: &str) -> Database {
    Database {
        host: "127.0.0.1".to_owned(),
        port: server().port,
        name: "app".to_owned(),
        user: user.to_owned(),
        password: Some(format!("${{secret:{secret}}}")),
        ..Database::default()
    }
}

fn bench_in(mode: Mode, allow: Value) -> Bench {
    let databases = [
        ("main", database("master", "master")),
        ("wrong", database("master", "wrong")),
        ("crowded", database("crowded", "crowded")),
        ("reader", database("reader", "reader")),
        ("missing", Database { name: "nothing".to_owned(), ..database("master", "master") }),
        ("down", Database { port: leash::free_port(), ..database("master", "master") }),
        ("silent", Database { host: "192.0.2.1".to_owned(), ..database("master", "master") }),
        ("plain", Database { tls: "disable".to_owned(), ..database("master", "master") }),
        ("unknown", Database { tls: "require".to_owned(), ..database("master", "master") }),
        ("trusting", Database { tls: "require-noverify".to_owned(), ..database("master", "master") }),
        ("verified", Database { tls: "require".to_owned(), ca: server().said.first().cloned(), ..database("master", "master") }),
        ("open", Database { password: None, ..database("master", "master") }),
    ];
    let databases: BTreeMap<_, _> = databases.map(|(name, database)| (name.to_owned(), database)).into();
    let metric = |query: &str| Metric {
        kind: MetricKind::Sql,
        database: Some("main".to_owned()),
        query: Some(query.to_owned()),
        ..Metric::default()
    };
    let metrics = [
        ("orders", metric("SELECT * FROM (VALUES ('a', 2.5), ('b', NULL)) AS t(tenant, value)")),
        ("users", metric("SELECT count(*) FROM generate_series(1, 3)")),
        ("none", metric("SELECT 1 WHERE false")),
        ("twice", metric("SELECT 'a' AS tenant, n AS value FROM generate_series(1, 2) n")),
        ("many", metric("SELECT n AS number, n AS value FROM generate_series(1, 2001) n")),
        ("odd", metric("SELECT 1 AS value, 2 AS \"a b\"")),
        ("writes", metric("CREATE TABLE written (n int)")),
        ("hidden", metric("WITH w AS (DELETE FROM pg_database RETURNING 1) SELECT count(*) FROM w")),
        ("slow", Metric { timeout: Some(Span(Duration::from_millis(300))), ..metric("SELECT count(pg_sleep(60))") }),
    ];
    let metrics = metrics.map(|(name, metric)| (name.to_owned(), metric)).into();
    let system = System { name: "test".to_owned(), databases, metrics, ..System::default() };
    let secrets =
        [("master", "master-password"), ("wrong", "a-wrong-password"), ("crowded", "crowded-password"), ("reader", "reader-password")];
    let secrets = secrets.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Bench::with(allow, system, Secrets::new(secrets.into()), mode)
}

fn reader() -> Bench {
    bench_in(Mode::Apply, json!({ "sql": ["*:read"] }))
}

fn writer() -> Bench {
    bench_in(Mode::Apply, json!({ "sql": ["*:write"] }))
}

fn json_of(bench: &Bench, script: &str) -> Value {
    let found = bench.eval(script).unwrap_or_else(|error| panic!("{script}: {error}"));
    value::plain(&found).unwrap()
}

fn value_of(bench: &Bench, sql: &str) -> Value {
    json_of(bench, &format!("sql::value(\"main\", `{sql}`)"))
}

#[test]
fn every_common_type_has_a_plain_form() {
    let bench = reader();
    for (sql, expected) in [
        ("SELECT NULL::int4", json!(null)),
        ("SELECT true", json!(true)),
        ("SELECT (-7)::int2", json!(-7)),
        ("SELECT 2147483647", json!(2147483647)),
        ("SELECT 9223372036854775807", json!(9223372036854775807_i64)),
        ("SELECT 4294967295::oid", json!(4294967295_i64)),
        ("SELECT 0.1::float4", json!(0.1)),
        ("SELECT 'NaN'::float8", json!("NaN")),
        ("SELECT 1e300::float8", json!(1e300)),
        ("SELECT sum(n) FROM (VALUES (9007199254740993::int8), (1)) t(n)", json!(9007199254740994_i64)),
        ("SELECT 12.50::numeric", json!(12.5)),
        ("SELECT (-0.00012)::numeric", json!(-0.00012)),
        ("SELECT 100000000::numeric", json!(100_000_000)),
        ("SELECT 'NaN'::numeric", json!("NaN")),
        ("SELECT 'ä'::text", json!("ä")),
        ("SELECT 'x'::bpchar", json!("x")),
        ("SELECT 'r'::\"char\"", json!("r")),
        ("SELECT 'n'::name", json!("n")),
        ("SELECT '{\"a\":[1,null]}'::json", json!({"a": [1, null]})),
        ("SELECT '{\"a\":[1,null]}'::jsonb", json!({"a": [1, null]})),
        ("SELECT '\\x00ff'::bytea", json!("\\x00ff")),
        ("SELECT '00000000-0000-0000-0000-00000000000a'::uuid", json!("00000000-0000-0000-0000-00000000000a")),
        ("SELECT '2026-11-21 12:00:00.5+02'::timestamptz", json!("2026-11-21T10:00:00.5Z")),
        ("SELECT '1999-12-31 23:59:59'::timestamp", json!("1999-12-31T23:59:59")),
        ("SELECT 'infinity'::timestamptz", json!("infinity")),
        ("SELECT '1969-02-28'::date", json!("1969-02-28")),
        ("SELECT '12:34:56'::time", json!("12:34:56")),
        ("SELECT '12:34:56+05:30'::timetz", json!("12:34:56+05:30")),
        ("SELECT '1 year 2 months 3 days 04:05:06.7'::interval", json!("P1Y2M3DT4H5M6.7S")),
        ("SELECT '-1 day -00:00:01'::interval", json!("P-1DT-1S")),
        ("SELECT '0'::interval", json!("PT0S")),
        ("SELECT '10.0.0.1'::inet", json!("10.0.0.1")),
        ("SELECT '10.0.0.0/8'::cidr", json!("10.0.0.0/8")),
        ("SELECT '::1'::inet", json!("::1")),
        ("SELECT '08:00:2b:01:02:03'::macaddr", json!("08:00:2b:01:02:03")),
        ("SELECT '16/B374D848'::pg_lsn", json!("16/B374D848")),
        ("SELECT B'1011'", json!("1011")),
        ("SELECT '[1,5)'::int4range", json!("[1,5)")),
        ("SELECT '(,)'::int4range", json!("(,)")),
        ("SELECT ARRAY[[1,2],[3,NULL]]", json!([[1, 2], [3, null]])),
        ("SELECT '{}'::text[]", json!([])),
        ("SELECT pg_sleep(0)", json!(null)),
        ("SELECT '12'::xid8", json!(12)),
    ] {
        assert_eq!(value_of(&bench, sql), expected, "{sql}");
    }
    let exact = json_of(&bench, r#"sql::value("main", "SELECT 12.50::numeric", #{ exact: true })"#);
    assert_eq!(exact, json!("12.50"));
    // Why a `numeric` is a number: a text would compare as false, silently.
    assert_eq!(json_of(&bench, r#"[sql::value("main", "SELECT 83.1") > 80, "83.1" > 80]"#), json!([true, false]));
}

#[test]
fn a_column_without_a_plain_form_is_named() {
    let bench = reader();
    let error = bench.error(r#"sql::query("main", "SELECT 1 AS a, '(1,2)'::point AS place")"#);
    assert_eq!((error.kind, error.message.as_str()), (Kind::Invalid, "column `place` is a `point`, which has no plain form here"));
    assert_eq!(error.hints, ["ask for its text: `place::text`"]);
}

#[test]
fn parameters_are_read_as_the_type_the_server_wants() {
    let bench = reader();
    for (params, sql, expected) in [
        ("[1]", "$1::int2 + 1", json!(2)),
        ("[1]", "$1::numeric / 2", json!(0.5)),
        ("[2.0]", "$1::int4", json!(2)),
        ("[1259]", "$1::oid", json!(1259)),
        ("[true]", "NOT $1::bool", json!(false)),
        ("[()]", "$1::text IS NULL", json!(true)),
        ("[\"2026-01-01T00:00:00Z\"]", "$1::timestamptz", json!("2026-01-01T00:00:00Z")),
        ("[\"PT90S\"]", "extract(epoch FROM $1::interval)::int4", json!(90)),
        ("[\"10.0.0.1\"]", "$1::inet << '10.0.0.0/8'", json!(true)),
        ("[#{ a: [1, \"x\"] }]", "$1::jsonb -> 'a' ->> 1", json!("x")),
        ("[[#{ a: 1 }]]", "$1::jsonb -> 0 ->> 'a'", json!("1")),
        ("[[\"a\\\"b\", \"c,\\\\\", ()]]", "$1::text[]", json!(["a\"b", "c,\\", null])),
        ("[[[1, 2], [3, 4]]]", "($1::int4[][])[2][1]", json!(3)),
        ("[[1, 2]]", "3 = ANY($1::int8[])", json!(false)),
        ("[blob(2, 255)]", "$1::bytea", json!("\\xffff")),
        ("[\"x'; DROP TABLE t; --\"]", "$1::text", json!("x'; DROP TABLE t; --")),
    ] {
        let script = format!("sql::value(\"main\", `SELECT {sql}`, {params})");
        assert_eq!(json_of(&bench, &script), expected, "{script}");
    }
    let error = bench.error(r#"sql::value("main", "SELECT $1::int", [#{}])"#);
    assert_eq!((error.kind, error.message.as_str()), (Kind::Invalid, "parameter `$1`: a map where the statement takes a `int4`"));
    assert_eq!(bench.error(r#"sql::value("main", "SELECT $1::int", ["x"])"#).kind, Kind::Invalid);
    assert_eq!(bench.error(r#"sql::value("main", "SELECT $1::int")"#).message, "0 values for 1 parameters");
}

#[test]
fn rows_come_as_maps_as_a_table_as_one_and_as_a_value() {
    let bench = reader();
    let rows = json_of(&bench, r#"sql::query("main", "SELECT n AS b, n * 2 AS a FROM generate_series(1, $1::int) n", [2])"#);
    assert_eq!(rows, json!([{"a": 2, "b": 1}, {"a": 4, "b": 2}]));
    let table = json_of(&bench, r#"sql::table("main", "SELECT 1 AS b, 2 AS a, 3 AS a")"#);
    assert_eq!(table, json!({"columns": ["b", "a", "a"], "rows": [[1, 2, 3]]}));
    assert!(bench.error(r#"sql::query("main", "SELECT 1 AS a, 2 AS a")"#).message.contains("two columns are named `a`"));
    assert_eq!(bench.error(r#"sql::query_one("main", "SELECT 1 WHERE false")"#).kind, Kind::NotFound);
    let error = bench.error(r#"sql::query_one("main", "SELECT generate_series(1, 3)")"#);
    assert_eq!((error.kind, error.message.as_str(), error.retryable), (Kind::Conflict, "3 rows where one was expected", false));
    assert_eq!(bench.error(r#"sql::value("main", "SELECT 1, 2")"#).kind, Kind::Invalid);
}

#[test]
fn what_is_read_is_capped_and_never_cut() {
    let bench = reader();
    let error = bench.error(r#"sql::query("main", "SELECT generate_series(1, 10001)")"#);
    assert_eq!((error.kind, error.message.as_str()), (Kind::Limit, "more than 10000 rows"));
    assert_eq!(json_of(&bench, r#"sql::query("main", "SELECT generate_series(1, 3)", #{ max_rows: 3 }).len()"#), json!(3));
    assert_eq!(bench.error(r#"sql::query("main", "SELECT generate_series(1, 4)", #{ max_rows: 3 })"#).kind, Kind::Limit);
    let wide = bench.error(r#"sql::query("main", "SELECT repeat('x', 1000)", #{ max_bytes: "900B" })"#);
    assert_eq!(wide.kind, Kind::Limit);
    // The session of the query that was left is not met again.
    assert_eq!(value_of(&bench, "SELECT 1"), json!(1));
}

#[test]
fn a_login_that_fails_says_why() {
    let bench = reader();
    for (name, kind, words) in [
        ("wrong", Kind::Refused, "password authentication failed for `master`"),
        ("open", Kind::Refused, "none is set"),
        ("crowded", Kind::Limit, "too many connections for role"),
        ("missing", Kind::NotFound, "database \"nothing\" does not exist"),
        ("down", Kind::Connect, "nothing listens on `127.0.0.1:"),
        ("unknown", Kind::Connect, "the certificate comes from no trusted authority"),
    ] {
        let error = bench.error(&format!("sql::query(\"{name}\", \"SELECT 1\")"));
        assert_eq!((error.kind, error.target.as_deref()), (kind, Some(name)), "{error:?}");
        assert!(error.message.contains(words) && !error.hints.is_empty(), "{error:?}");
        assert!(!format!("{error:?}").contains("-password"), "{error:?}");
        let ping = json_of(&bench, &format!("sql::ping(\"{name}\")"));
        assert_eq!((&ping["ok"], &ping["kind"]), (&json!(false), &json!(kind.name())), "{ping}");
        assert!(ping["problem"].as_str().unwrap().contains(words), "{ping}");
    }
    let ping = json_of(&bench, r#"sql::ping("main")"#);
    assert_eq!((&ping["ok"], &ping["kind"], &ping["problem"]), (&json!(true), &json!(null), &json!(null)));
    let error = bench.error(r#"sql::ping("mian")"#);
    assert_eq!((error.kind, error.hints.as_slice()), (Kind::NotFound, ["did you mean `main`?".to_owned()].as_slice()));
}

#[test]
fn tls_is_what_the_system_file_says() {
    let bench = reader();
    for (name, encrypted) in [("main", true), ("plain", false), ("trusting", true), ("verified", true)] {
        let script = format!("sql::value(\"{name}\", \"SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()\")");
        assert_eq!(json_of(&bench, &script), json!(encrypted), "{name}");
    }
}

#[test]
fn nothing_waits_longer_than_it_may() {
    let bench = reader();
    let started = Instant::now();
    let error = bench.error(r#"sql::query("main", "SELECT pg_sleep(60)", #{ timeout: "200ms" })"#);
    assert_eq!(error.kind, Kind::Timeout);
    // Nobody answers at an address that is kept for documents: a timeout, or no way there at all.
    let ping = json_of(&bench, r#"sql::ping("silent", #{ timeout: "200ms" })"#);
    assert_eq!(ping["ok"], json!(false));
    assert!(["timeout", "connect"].contains(&ping["kind"].as_str().unwrap()), "{ping}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_stopped_run_leaves_no_statement_behind() {
    let bench = reader();
    let stop = bench.ctx.clone();
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(61)%'";
    let watcher = reader();
    let stopper = std::thread::spawn(move || {
        until(|| value_of(&watcher, busy) == json!(1));
        stop.stop().stop(crate::host::StopReason::Cancelled);
        watcher
    });
    assert_eq!(bench.error(r#"sql::query("main", "SELECT pg_sleep(61)", #{ timeout: "5m" })"#).kind, Kind::Cancelled);
    let watcher = stopper.join().unwrap();
    until(|| value_of(&watcher, busy) == json!(0));
}

fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "it did not happen in time");
    }
}

/// Bar 27: each as a statement must be refused and have no effect; as a value it is only a text.
const PAYLOADS: [&str; 22] = [
    "COMMIT; DROP TABLE victim",
    "SELECT 1; DELETE FROM victim",
    "DELETE FROM victim",
    "INSERT INTO victim VALUES (2)",
    "WITH gone AS (DELETE FROM victim RETURNING *) SELECT * FROM gone",
    "SELECT * INTO copy_of_victim FROM victim",
    "SELECT * FROM victim FOR UPDATE",
    "EXPLAIN ANALYZE DELETE FROM victim",
    "SET default_transaction_read_only = off; DELETE FROM victim",
    "SET TRANSACTION READ WRITE",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "COPY (SELECT 1) TO PROGRAM 'touch /tmp/runbook-sql-payload'",
    "DO $$ BEGIN DELETE FROM victim; END $$",
    "CALL wipe()",
    "SELECT wipe_by_function()",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_export(lo_from_bytea(0, 'x'), '/tmp/runbook-sql-payload')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'witness'",
    "SELECT query_to_xml('select pg_reload' || '_conf()', true, true, '')",
    "SELECT nextval('victims')",
    "SELECT dblink_exec('dbname=app', 'DELETE FROM victim')",
    "x'; DROP TABLE victim; --",
];

#[test]
fn a_read_grant_has_no_effect_whatever_is_sent() {
    let writer = writer();
    for sql in [
        "DROP TABLE IF EXISTS victim",
        "CREATE TABLE victim (n int)",
        "INSERT INTO victim VALUES (1)",
        "CREATE SEQUENCE IF NOT EXISTS victims",
        "CREATE OR REPLACE PROCEDURE wipe() LANGUAGE sql AS 'DELETE FROM victim'",
        "CREATE OR REPLACE FUNCTION wipe_by_function() RETURNS void LANGUAGE sql AS 'DELETE FROM victim'",
    ] {
        json_of(&writer, &format!("sql::execute(\"main\", `{sql}`)"));
    }
    let reader = reader();
    let denied = reader.error(r#"sql::execute("main", "DELETE FROM victim")"#);
    assert_eq!((denied.kind, denied.hints[0].contains("main:write")), (Kind::Denied, true));
    for payload in PAYLOADS {
        let error = reader.error(&format!("sql::query(\"main\", `{payload}`)"));
        assert!(matches!(error.kind, Kind::Denied | Kind::Invalid), "{payload}: {error:?}");
        let script = format!("let payload = `{payload}`; sql::value(\"main\", \"SELECT $1::text\", [payload]) == payload");
        assert_eq!(json_of(&reader, &script), json!(true), "{payload}");
        let script = format!("sql::value(\"main\", \"SELECT 1 AS \" + sql::ident(`{payload}`.sub_string(0, 40)))");
        assert_eq!(json_of(&reader, &script), json!(1), "{payload}");
    }
    assert_eq!(value_of(&reader, "SELECT array_agg(n) FROM victim"), json!([1]));
    assert_eq!(value_of(&reader, "SELECT is_called FROM victims"), json!(false));
    assert!(!std::path::Path::new("/tmp/runbook-sql-payload").exists());
}

#[test]
fn the_server_alone_stops_writes_too() {
    // What the words do not show, the transaction refuses.
    let error = reader().error(r#"sql::query("main", "WITH x AS (CREATE TABLE y ()) SELECT 1")"#);
    assert_eq!(error.kind, Kind::Invalid);
    let writer = writer();
    json_of(&writer, r#"sql::execute("main", "CREATE TABLE IF NOT EXISTS kept (n int)")"#);
    let error = writer.error(r#"sql::query("main", "WITH x AS (INSERT INTO kept VALUES (1) RETURNING n) SELECT * FROM x")"#);
    assert_eq!(error.kind, Kind::Denied, "{error:?}");
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let bench = writer();
    json_of(&bench, r#"sql::execute("main", "CREATE TABLE accounts (id int PRIMARY KEY, amount int CHECK (amount >= 0))")"#);
    let touched = json_of(
        &bench,
        r#"sql::transaction("main", [["INSERT INTO accounts VALUES (1, $1), (2, 0)", [100]], "UPDATE accounts SET amount = 50 WHERE id = 1"])"#,
    );
    assert_eq!(touched, json!([2, 1]));
    let error = bench.error(
        r#"sql::transaction("main", ["UPDATE accounts SET amount = amount + 80 WHERE id = 2", "UPDATE accounts SET amount = amount - 80 WHERE id = 1"])"#,
    );
    assert_eq!((error.kind, error.retryable), (Kind::Conflict, false));
    assert!(error.message.starts_with("statement 2 of 2: new row for relation"), "{}", error.message);
    assert_eq!(value_of(&bench, "SELECT array_agg(amount ORDER BY id) FROM accounts"), json!([50, 0]));
    for wrong in [r#"[1]"#, r#"[["SELECT 1", 2]]"#, r#"[[]]"#, r#"["COMMIT"]"#, r#"["SELECT 1; SELECT 2"]"#] {
        assert_eq!(bench.error(&format!("sql::transaction(\"main\", {wrong})")).kind, Kind::Invalid, "{wrong}");
    }
}

#[test]
fn what_a_change_leaves_in_its_session_meets_nobody() {
    let bench = writer();
    json_of(&bench, r#"sql::execute("main", "SET search_path = elsewhere")"#);
    json_of(&bench, r#"sql::execute("main", "SELECT pg_advisory_lock(7)")"#);
    assert_ne!(value_of(&bench, "SHOW search_path"), json!("elsewhere"));
    until(|| value_of(&bench, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == json!(0));
}

#[test]
fn what_may_not_be_in_a_transaction_can_be_executed() {
    let bench = writer();
    json_of(&bench, r#"sql::execute("main", "VACUUM pg_class")"#);
    let error = bench.error(r#"sql::execute("main", "SELECT 1; SELECT 2")"#);
    assert_eq!(error.kind, Kind::Invalid);
    assert!(error.hints[0].contains("one statement per call"), "{error:?}");
    assert_eq!(bench.error(r#"sql::execute("main", "COPY pg_class TO STDOUT")"#).kind, Kind::Invalid);
}

#[test]
fn a_plan_changes_nothing_and_tells_the_statement() {
    let bench = bench_in(Mode::Plan, json!({ "sql": ["main:write"] }));
    assert_eq!(json_of(&bench, "sql::execute(\"main\", `CREATE TABLE planned\n  (n int)`)"), json!("?"));
    let told = format!("{:?}", bench.recorder.events());
    assert!(told.contains("main: CREATE TABLE planned (n int)"), "{told}");
    let bench = bench_in(Mode::Apply, json!({ "sql": ["main:read"] }));
    assert_eq!(value_of(&bench, "SELECT to_regclass('planned') IS NULL"), json!(true));
}

#[test]
fn a_wrong_statement_shows_the_place() {
    let error: Error = reader().error(r#"sql::query("main", "SELECT 1,\n  colum FROM pg_class")"#);
    assert_eq!((error.kind, error.message.as_str()), (Kind::Invalid, "column \"colum\" does not exist (42703)"));
    assert_eq!(error.hints, ["at line 2, column 3 of the statement: `colum FROM pg_class`"]);
}

#[test]
fn sessions_are_named_and_used_again() {
    let bench = reader();
    let sql = "SELECT current_setting('application_name') || ' ' || pg_backend_pid()";
    let first = value_of(&bench, sql);
    assert!(first.as_str().unwrap().starts_with("runbook/1 "));
    assert_eq!(value_of(&bench, sql), first);
    assert_eq!(
        json_of(&bench, r#"sql::version("main").major"#),
        json!(value_of(&bench, "SHOW server_version_num").as_str().unwrap()[..2].parse::<i64>().unwrap())
    );
    assert_eq!(json_of(&bench, "sql::databases().len()"), 12);
}

#[test]
fn a_session_that_died_is_replaced() {
    let (bench, other) = (reader(), writer());
    let pid = value_of(&bench, "SELECT pg_backend_pid()");
    json_of(&other, &format!("sql::execute(\"main\", \"SELECT pg_terminate_backend({pid}, 5000)\")"));
    assert_ne!(value_of(&bench, "SELECT pg_backend_pid()"), pid);
}

#[test]
fn sessions_whose_kind_is_hidden_are_connections_too() {
    let bench = reader();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connect = format!("host=127.0.0.1 port={} user=master password=master-password dbname=app", server().port);
    let measured = runtime.block_on(async {
        let mut open = Vec::new();
        for _ in 0..5 {
            let (client, connection) = tokio_postgres::connect(&connect, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            open.push(client);
        }
        super::measure(&bench.ctx, "reader").await.measured
    });
    let (_, value) = measured.iter().find(|(series, _)| series.name == "database_connections").unwrap();
    assert!(value.number() >= Some(6.0), "{measured:?}");
}

#[test]
fn rows_are_samples_and_null_is_unknown() {
    let bench = bench_in(Mode::Apply, json!({ "sql": ["${metrics.*}:read"] }));
    assert_eq!(json_of(&bench, r#"samples::source("users")"#), json!([{ "series": "users", "value": 3.0 }]));
    let orders = |tenant: &str, value: Value| json!({ "series": format!("orders{{tenant=\"{tenant}\"}}"), "value": value });
    assert_eq!(json_of(&bench, r#"samples::source("orders")"#), json!([orders("a", json!(2.5)), orders("b", json!(null))]));
    assert_eq!(json_of(&bench, r#"samples::source("none")"#), json!([]), "no row is an answer");
}

#[test]
fn a_source_only_reads_and_takes_no_longer_than_it_may() {
    let bench = bench_in(Mode::Apply, json!({ "sql": ["${metrics.*}:read"] }));
    let kind = |name: &str| bench.error(&format!("samples::source(\"{name}\")")).kind;
    assert_eq!(["twice", "many", "odd", "slow"].map(kind), [Kind::Invalid, Kind::Limit, Kind::Invalid, Kind::Timeout]);
    for name in ["writes", "hidden"] {
        assert!(matches!(kind(name), Kind::Denied | Kind::Invalid | Kind::Remote), "{name}: {:?}", kind(name));
    }
    assert_eq!(value_of(&reader(), "SELECT to_regclass('written') IS NULL"), json!(true));
}
