//! Against a real Redis.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::error::Kind;
use crate::host::leash::{self, Leashed};
use crate::host::testing::Bench;
use crate::host::{Mode, Secrets, value};
use crate::model::System;
use crate::model::system::{Cache, Metric, MetricKind};

const SCRIPT: &str = r#"
command -v redis-server >/dev/null || { echo "Redis is not installed: these tests need redis-server and redis-cli"; exit 1; }
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
redis-server --port "$1" --bind 127.0.0.1 --dir "$dir" --save "" --requirepass the-password --daemonize yes --logfile "$dir/log" \
    --pidfile "$dir/pid" > /dev/null
export REDISCLI_AUTH=the-password
for try in $(seq 200); do
    [ "$(redis-cli -p "$1" ping 2>&1)" = PONG ] && break
    [ "$try" = 200 ] && { cat "$dir/log"; exit 1; }
    sleep 0.05
done
redis-cli -p "$1" hset app_metrics active_users 12 db_pool_used 3.5 updated 2026-11-22T00:00:00 > /dev/null
echo ready
cat > /dev/null
kill "$(cat "$dir/pid")"
"#;

fn server() -> &'static Leashed {
    static SERVER: OnceLock<Leashed> = OnceLock::new();
    SERVER.get_or_init(|| leash::start(None, SCRIPT))
}

fn bench_in(mode: Mode, allow: Value) -> Bench {
    let cache = |secret: &str, database: u16| Cache {
        host: "127.0.0.1".to_owned(),
        port: server().port,
        database,
        password: Some(format!("${{secret:{secret}}}")),
        ..Cache::default()
    };
    let caches = [
        ("main", cache("right", 0)),
        ("other", cache("right", 3)),
        ("wrong", cache("wrong", 0)),
        ("open", Cache { password: None, ..cache("right", 0) }),
        ("down", Cache { port: leash::free_port(), ..cache("right", 0) }),
        ("far", cache("right", 99)),
    ];
    let caches: BTreeMap<_, _> = caches.map(|(name, cache)| (name.to_owned(), cache)).into();
    let secrets = [("right", "the-password"), ("wrong", "not-the-one")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let hash = |hash: &str, only: &[&str]| Metric {
        kind: MetricKind::Hash,
        cache: Some("main".to_owned()),
        hash: Some(hash.to_owned()),
        only: only.iter().map(|only| (*only).to_owned()).collect(),
        ..Metric::default()
    };
    let metrics = [("app", hash("app_metrics", &[])), ("pool", hash("app_metrics", &["db_pool_used"])), ("gone", hash("nothing", &[]))];
    let metrics = metrics.map(|(name, metric)| (name.to_owned(), metric)).into();
    Bench::with(allow, System { name: "test".to_owned(), caches, metrics, ..System::default() }, Secrets::new(secrets.into()), mode)
}

fn reader() -> Bench {
    bench_in(Mode::Apply, json!({ "redis": ["*:read"] }))
}

fn writer() -> Bench {
    bench_in(Mode::Apply, json!({ "redis": ["*:write"] }))
}

fn json_of(bench: &Bench, script: &str) -> Value {
    let found = bench.eval(script).unwrap_or_else(|error| panic!("{script}: {error}"));
    value::plain(&found).unwrap()
}

#[test]
fn a_login_that_fails_says_why() {
    let bench = reader();
    for (name, kind, words) in [
        ("wrong", Kind::Refused, "WRONGPASS"),
        ("open", Kind::Refused, "NOAUTH"),
        ("down", Kind::Connect, "nothing listens on `127.0.0.1:"),
        ("far", Kind::Invalid, "DB index is out of range"),
    ] {
        let error = bench.error(&format!("redis::size(\"{name}\")"));
        assert_eq!((error.kind, error.target.as_deref()), (kind, Some(name)), "{error:?}");
        assert!(error.message.contains(words) && !format!("{error:?}").contains("not-the-one"), "{error:?}");
        let ping = json_of(&bench, &format!("redis::ping(\"{name}\")"));
        assert_eq!((&ping["ok"], &ping["kind"]), (&json!(false), &json!(kind.name())), "{ping}");
    }
    assert_eq!(json_of(&bench, r#"let it = redis::ping("main", #{ timeout: "2s" }); [it.ok, it.kind]"#), json!([true, null]));
    assert_eq!(bench.error(r#"redis::ping("mian")"#).hints, ["did you mean `main`?"]);
}

#[test]
fn a_server_that_says_nothing_is_a_timeout() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = Cache { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port(), ..Cache::default() };
    let system = System { caches: [("main".to_owned(), silent)].into(), ..System::default() };
    let bench = Bench::with(json!({ "redis": ["main"] }), system, Secrets::default(), Mode::Apply);
    assert_eq!(json_of(&bench, r#"redis::ping("main", #{ timeout: "100ms" }).kind"#), json!("timeout"));
    assert_eq!(bench.error(r#"redis::read("main", ["TTL", "a"], #{ timeout: "100ms" })"#).kind, Kind::Timeout);
}

#[test]
fn a_server_without_a_free_connection_says_so() {
    let full = leash::start(None, &SCRIPT.replace("--save", "--maxclients 1 --save"));
    let _held = hold_the_only_connection(full.port);
    let cache = Cache { host: "127.0.0.1".to_owned(), port: full.port, ..Cache::default() };
    let system = System { caches: [("main".to_owned(), cache)].into(), ..System::default() };
    let bench = Bench::with(json!({ "redis": ["main"] }), system, Secrets::default(), Mode::Apply);
    let ping = json_of(&bench, r#"redis::ping("main")"#);
    // The server says why and closes; now and then the close is seen first.
    assert!(["limit", "connect"].contains(&ping["kind"].as_str().unwrap()), "{ping}");
    assert!(ping["hint"].as_str().unwrap().contains("`maxclients`"), "{ping}");
}

/// Again, until the server has seen that the one before is gone.
fn hold_the_only_connection(port: u16) -> TcpStream {
    for _ in 0..1000 {
        let mut held = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut answer = [0; 7];
        if held.write_all(b"PING\r\n").is_ok() && held.read_exact(&mut answer).is_ok() && &answer == b"-NOAUTH" {
            return held;
        }
    }
    panic!("the connection is never free");
}

#[test]
fn the_state_is_typed() {
    let bench = reader();
    assert_eq!(json_of(&bench, r#"type_of(redis::info("main").uptime_in_seconds)"#), json!("i64"));
    assert_eq!(json_of(&bench, r#"redis::info("main", "server").tcp_port"#), json!(server().port));
    let memory = json_of(&bench, r#"redis::memory("main")"#);
    assert!(memory["used"].as_i64().unwrap() > 0 && memory["policy"] == "noeviction", "{memory}");
    assert_eq!((&memory["max"], &memory["used_percent"]), (&json!(null), &json!(null)));
    let role = json_of(&bench, r#"redis::role("main")"#);
    assert_eq!(role, json!({"role": "primary", "replicas": 0, "primary": null, "link_up": null, "silent_s": null}));
    assert_eq!(json_of(&bench, r#"redis::config("main", "max*").maxclients"#), json!(10_000));
    assert_eq!(json_of(&bench, r#"redis::config("main", "requirepass")"#), json!({"requirepass": "***"}));
    assert_eq!(json_of(&bench, "redis::caches().len()"), json!(6));
}

#[test]
fn keys_are_set_read_listed_and_removed() {
    let bench = writer();
    json_of(&bench, r#"for n in 0..30 { redis::set("other", `key:${n}`, n) } redis::set("other", "soon", "x", #{ ttl: "1h" });"#);
    assert_eq!(
        json_of(&bench, r#"[redis::get("other", "key:7"), redis::get("other", "none"), redis::get("main", "key:7")]"#),
        json!(["7", null, null])
    );
    assert_eq!(json_of(&bench, r#"redis::size("other")"#), json!(31));
    assert_eq!(json_of(&bench, r#"redis::read("other", ["ttl", "soon"]) > 3500"#), json!(true));
    assert_eq!(json_of(&bench, r#"redis::info("other", "keyspace").db3.expires"#), json!(1));
    assert_eq!(
        json_of(&bench, r#"let it = redis::keys("other", "key:1*"); [it.keys.len(), it.complete, it.keys[1]]"#),
        json!([11, true, "key:10"])
    );
    assert_eq!(
        json_of(&bench, r#"let it = redis::keys("other", "key:*", #{ limit: 5 }); [it.keys.len(), it.complete]"#),
        json!([5, false])
    );
    assert_eq!(
        json_of(&bench, r#"[redis::del("other", "soon"), redis::del("other", ["key:1", "key:2", "none"]), redis::del("other", [])]"#),
        json!([1, 2, 0])
    );
    assert!(json_of(&bench, r#"redis::hits("other").hit_percent"#).as_f64().unwrap() > 0.0);
    json_of(&bench, r#"redis::command("other", ["RPUSH", "list", "a", 2, "c d"])"#);
    assert_eq!(json_of(&bench, r#"redis::read("other", ["LRANGE", "list", 0, -1])"#), json!(["a", "2", "c d"]));
    assert_eq!(bench.error(r#"redis::get("other", "list")"#).kind, Kind::Invalid);
    json_of(&bench, r#"redis::command("other", ["SETBIT", "bytes", 0, 1])"#);
    assert_eq!(bench.error(r#"redis::get("other", "bytes")"#).message, "the reply is not text");
}

#[test]
fn a_read_grant_changes_nothing() {
    let bench = reader();
    for words in [
        r#"["SET", "a", "1"]"#,
        r#"["FLUSHALL"]"#,
        r#"["CONFIG", "SET", "maxmemory", "1"]"#,
        r#"["CONFIG", "GET", "requirepass"]"#,
        r#"["EVAL", "return 1", 0]"#,
        r#"["DEBUG", "SLEEP", 1]"#,
        r#"["SHUTDOWN"]"#,
        r#"["KEYS", "*"]"#,
        r#"["SLOWLOG", "RESET"]"#,
        r#"["CLIENT", "KILL", "x"]"#,
        r#"["GETDEL", "a"]"#,
        r#"["GET\r\nFLUSHALL", "a"]"#,
    ] {
        assert_eq!(bench.error(&format!("redis::read(\"main\", {words})")).kind, Kind::Denied, "{words}");
        assert_eq!(bench.error(&format!("redis::command(\"main\", {words})")).kind, Kind::Denied, "{words}");
    }
    assert_eq!(bench.error(r#"redis::set("main", "a", 1)"#).kind, Kind::Denied);
    assert_eq!(bench.error(r#"redis::del("main", "a")"#).kind, Kind::Denied);
}

#[test]
fn a_cache_is_never_emptied() {
    let bench = writer();
    for words in [r#"["flushall"]"#, r#"["FLUSHDB", "ASYNC"]"#, r#"["EVAL", "return redis.call('FlushAll')", 0]"#] {
        let error = bench.error(&format!("redis::command(\"main\", {words})"));
        assert_eq!((error.kind, error.hints.is_empty()), (Kind::Denied, false), "{words}");
    }
    assert_eq!(bench.error(r#"redis::command("main", ["MONITOR"])"#).kind, Kind::Invalid);
    assert_eq!(bench.error(r#"redis::command("main", [])"#).kind, Kind::Invalid);
    assert_eq!(bench.error(r#"redis::command("main", ["NONSENSE"])"#).kind, Kind::Invalid);
}

#[test]
fn a_plan_changes_nothing_and_does_not_tell_values() {
    let bench = bench_in(Mode::Plan, json!({ "redis": ["*:write"] }));
    assert_eq!(json_of(&bench, r#"redis::set("main", "planned", "a-value", #{ ttl: "5m" })"#), json!(null));
    let told = format!("{:?}", bench.recorder.events());
    assert!(told.contains("main: set `planned` for 5m") && !told.contains("a-value"), "{told}");
    // What it will hold by then can not be looked at now.
    assert!(bench.error(r#"redis::get("main", "planned")"#).message.contains("can not be predicted"));
    let bench = bench_in(Mode::Apply, json!({ "redis": ["*:read"] }));
    assert_eq!(json_of(&bench, r#"redis::get("main", "planned")"#), json!(null));
}

#[test]
fn the_numbers_of_a_hash_are_samples_and_no_hash_is_no_number() {
    let bench = bench_in(Mode::Apply, json!({ "redis": ["${metrics.*}:read"] }));
    let users = json!({ "series": "active_users{instance=\"app\"}", "value": 12.0 });
    let pool = |source: &str| json!({ "series": format!("db_pool_used{{instance=\"{source}\"}}"), "value": 3.5 });
    let sorted = r#"let all = samples::source("app"); all.sort(|a, b| if a.series < b.series { -1 } else { 1 }); all"#;
    assert_eq!(json_of(&bench, sorted), json!([users, pool("app")]), "what is no number is no metric");
    assert_eq!(json_of(&bench, r#"samples::source("pool")"#), json!([pool("pool")]));
    let error = bench.error(r#"samples::source("gone")"#);
    assert_eq!(error.kind, Kind::NotFound);
    assert!(error.message.ends_with("cache `main` has no hash `nothing`"), "{error}");
    assert_eq!(bench_in(Mode::Apply, json!({})).error(r#"samples::source("app")"#).kind, Kind::Denied);
}
