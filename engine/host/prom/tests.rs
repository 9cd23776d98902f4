//! Against a real Prometheus and a real Alertmanager, and a server that fails as they do.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::Kind;
use crate::host::leash::{self, Leashed};
use crate::host::testing::Bench;
use crate::host::{Mode, Secrets, value};
use crate::model::system::Endpoint;
use crate::model::{EventKind, Span, System};

const SCRIPT: &str = r#"
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cat > "$dir/rules.yml" <<END
groups:
  - name: always
    rules:
      - alert: HighCPU
        expr: vector(1) > 0
        labels: { severity: critical, instance: web-1 }
        annotations: { summary: too much }
      - record: one
        expr: vector(1)
END
cat > "$dir/prometheus.yml" <<END
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [rules.yml]
alerting: { alertmanagers: [{ static_configs: [{ targets: ["127.0.0.1:ALERTMANAGER"] }] }] }
scrape_configs: [{ job_name: self, params: { token: [hidden] }, static_configs: [{ targets: ["127.0.0.1:$1"] }] }]
END
printf 'route: { receiver: nobody, group_wait: 1s }\nreceivers: [{ name: nobody }]\n' > "$dir/alertmanager.yml"
prometheus-alertmanager --config.file="$dir/alertmanager.yml" --storage.path="$dir/alerts" --cluster.listen-address= \
    --web.listen-address=127.0.0.1:ALERTMANAGER > "$dir/alertmanager.log" 2>&1 &
alertmanager=$!
prometheus --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/data" --web.listen-address="127.0.0.1:$1" \
    --rules.alert.resend-delay=1s --web.enable-lifecycle > "$dir/prometheus.log" 2>&1 &
prometheus=$!
echo "$dir"
echo ready
cat > /dev/null
kill $alertmanager $prometheus; wait
"#;

/// Both servers, and the port of the second one.
fn servers() -> Option<&'static (Leashed, u16)> {
    static SERVERS: OnceLock<(Leashed, u16)> = OnceLock::new();
    if !["prometheus", "prometheus-alertmanager"].iter().all(|program| Path::new("/usr/bin").join(program).exists()) {
        let _ = std::io::stderr().write_all(b"not run: prometheus and prometheus-alertmanager are not installed\n");
        return None;
    }
    Some(SERVERS.get_or_init(|| {
        let port = leash::free_port();
        let servers = leash::start(None, &SCRIPT.replace("ALERTMANAGER", &port.to_string()));
        let bench = bench_at(&[("prometheus", servers.port), ("alertmanager", port)], Mode::Apply, everything());
        // Until each of them has done its work once.
        for script in [
            r#"prom::query("prometheus", "one").series.len() == 1"#,
            r#"prom::targets("prometheus").all(|target| target.up == true)"#,
            r#"prom::alerts("prometheus").len() == 1"#,
            r#"prom::alerts("alertmanager").len() == 1"#,
        ] {
            let end = Instant::now() + Duration::from_secs(120);
            while !bench.eval(script).is_ok_and(|found| found.as_bool().unwrap()) {
                assert!(Instant::now() < end, "{script}: {:?}", bench.eval(script).err());
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        (servers, port)
    }))
}

fn everything() -> Value {
    json!({ "prom": ["read:*", "silence:*", "reload:*"] })
}

fn bench_at(ports: &[(&str, u16)], mode: Mode, allow: Value) -> Bench {
    let endpoint = |port: u16| Endpoint { url: format!("http://127.0.0.1:{port}/-/healthy"), ..Endpoint::default() };
    let endpoints: BTreeMap<_, _> = ports.iter().map(|(name, port)| ((*name).to_owned(), endpoint(*port))).collect();
    Bench::with(allow, System { name: "shop".to_owned(), endpoints, ..System::default() }, Secrets::default(), mode)
}

fn real(mode: Mode) -> Option<Bench> {
    servers().map(|(servers, port)| bench_at(&[("prometheus", servers.port), ("alertmanager", *port)], mode, everything()))
}

fn json_of(bench: &Bench, script: &str) -> Value {
    let found = bench.eval(script).unwrap_or_else(|error| panic!("{script}: {error}"));
    value::plain(&found).unwrap()
}

#[test]
fn the_examples_of_the_manual_are_true() {
    let Some(bench) = real(Mode::Apply) else { return };
    let text = include_str!("mod.rs");
    let examples: Vec<String> = text
        .split("/// ```rhai,lab\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("/// ```\n").map(|(example, _)| example.replace("    /// ", "").replace("    ///", "")))
        .collect();
    assert_eq!(examples.len(), 8);
    // The words of the language that steps are made of are those of a run; here they do what they stand for.
    let words = "fn step(name, work) { work.call() }\nfn undo(name, work) { }\n";
    for example in examples {
        assert_eq!(json_of(&bench, &format!("{words}{example}")), true, "{example}");
    }
}

#[test]
fn numbers_are_numbers_and_what_is_none_is_nothing() {
    let Some(bench) = real(Mode::Apply) else { return };
    let found = json_of(&bench, r#"prom::query("prometheus", "one")"#);
    assert_eq!((&found["kind"], &found["value"], &found["series"][0]["name"]), (&json!("vector"), &json!(1.0), &json!("one")));
    for expr in ["0 / 0", "1 / 0", "-1 / 0", "vector(0) / 0", "no_such_series"] {
        assert_eq!(json_of(&bench, &format!("prom::query(\"prometheus\", \"{expr}\").value")), Value::Null, "{expr}");
    }
    assert_eq!(json_of(&bench, r#"prom::query("prometheus", "no_such_series").series"#), json!([]));
    assert_eq!(json_of(&bench, r#"prom::query("prometheus", "'word'").text"#), "word");
    assert_eq!(json_of(&bench, r#"prom::query("prometheus", "1 + 1").value"#), 2.0);
    assert_eq!(
        json_of(&bench, r#"let it = prom::query("prometheus", "one[1m]"); it.kind == "matrix" && it.series[0].points.len() > 0"#),
        true
    );
    // Nobody measured an hour ago.
    let range = json_of(&bench, r#"prom::query_range("prometheus", "one", #{ since: "1h", step: "1m" })"#);
    let points = range["series"][0]["points"].as_array().unwrap();
    assert_eq!((points.len(), &points[0]["value"]), (61, &Value::Null));
    assert_eq!(json_of(&bench, r#"prom::query_range("prometheus", "vector(1) < 0").series"#), json!([]));
}

#[test]
fn what_prometheus_refuses_is_invalid() {
    let Some(bench) = real(Mode::Apply) else { return };
    for (call, words) in [
        (r#"prom::query("prometheus", "sum(")"#, "parse error"),
        (r#"prom::query("prometheus", "up * on() {__name__=~'up|one'}")"#, "many"),
        (r#"prom::query_range("prometheus", "up", #{ since: "1h", step: "100ms" })"#, "exceeded maximum resolution"),
        (r#"prom::silence("alertmanager", #{ a: #{ matches: "(" } })"#, "invalid regular expression"),
    ] {
        let error = bench.error(call);
        assert_eq!(error.kind, Kind::Invalid, "{error:?}");
        assert!(error.message.contains(words) && error.target.is_some(), "{error:?}");
    }
    let error = bench.error(r#"prom::rules("alertmanager")"#);
    assert_eq!(error.kind, Kind::NotFound, "{error:?}");
}

#[test]
fn rules_targets_and_alerts_are_told_as_they_are() {
    let Some(bench) = real(Mode::Apply) else { return };
    let rules = json_of(&bench, r#"prom::rules("prometheus")"#);
    assert_eq!((&rules[0]["name"], &rules[0]["kind"], &rules[0]["state"]), (&json!("HighCPU"), &json!("alert"), &json!("firing")));
    assert_eq!((&rules[1]["kind"], &rules[1]["state"], &rules[1]["health"]), (&json!("record"), &Value::Null, &json!("ok")));
    let target = json_of(&bench, r#"prom::targets("prometheus")[0]"#);
    assert_eq!((&target["job"], &target["up"], &target["problem"]), (&json!("self"), &json!(true), &Value::Null));
    assert!(!target.to_string().contains("hidden") && target["scraped"].is_string(), "{target}");
    let alert = json_of(&bench, r#"prom::alerts("prometheus")[0]"#);
    assert_eq!((&alert["state"], &alert["value"], &alert["annotations"]["summary"]), (&json!("firing"), &json!(1.0), &json!("too much")));
    let alert = json_of(&bench, r#"prom::alerts("alertmanager")[0]"#);
    assert_eq!((&alert["name"], &alert["value"], &alert["receivers"]), (&json!("HighCPU"), &Value::Null, &json!(["nobody"])));
}

#[test]
fn a_silence_is_ended_once_and_what_can_be_none_is_refused() {
    let Some(bench) = real(Mode::Apply) else { return };
    // Of labels that no alert of the other tests has: they run beside this one.
    let made = json_of(&bench, r#"prom::silence("alertmanager", #{ alertname: "Nobody", host: #{ is_not: "a\"b" } }, #{ "for": "2h" })"#);
    let id = made["id"].as_str().unwrap().to_owned();
    let unsilence = format!("prom::unsilence(\"alertmanager\", \"{id}\")");
    assert_eq!((json_of(&bench, &unsilence), json_of(&bench, &unsilence)), (json!(true), json!(false)));
    let error = bench.error(r#"prom::unsilence("alertmanager", "00000000-0000-0000-0000-000000000000")"#);
    assert_eq!(error.kind, Kind::NotFound, "{error:?}");
    for (call, words) in [
        (r#"prom::silence("alertmanager", #{})"#, "everything would be silent"),
        (r#"prom::silence("alertmanager", #{ "a b": "c" })"#, "can be no label"),
        (r#"prom::silence("alertmanager", #{ a: "b" }, #{ "for": "31d" })"#, "at most"),
        (r#"prom::unsilence("alertmanager", "../../-/reload")"#, "no silence"),
    ] {
        let error = bench.error(call);
        assert!(error.kind == Kind::Invalid && error.message.contains(words), "{error:?}");
    }
}

#[test]
fn a_step_that_is_done_again_makes_no_second_silence() {
    let Some((servers, port)) = servers() else { return };
    let bench = || bench_at(&[("prometheus", servers.port), ("alertmanager", *port)], Mode::Apply, everything());
    let script = r#"prom::silence("alertmanager", #{ alertname: "Twice" }).id"#;
    let first = bench();
    let comment = Arc::new(super::Server::of(&first.ctx, "alertmanager", None));
    let matchers = || serde_json::from_value::<super::Matchers>(json!({ "alertname": "Twice" })).unwrap();
    let make = |key: &str| {
        let silence = super::Silence::of(&comment, &matchers(), super::SilenceOptions::default()).unwrap();
        let made = first.ctx.runtime().unwrap().block_on(silence.make(&comment, key)).unwrap();
        serde_json::to_value(made).unwrap()["id"].clone()
    };
    let (one, again, other) = (make("run/a/1"), make("run/a/1"), make("run/b/1"));
    assert!(one == again && one != other, "{one} {again} {other}");
    // Another run is another key.
    assert_ne!(json_of(&bench(), script), json_of(&bench(), script));
}

#[test]
fn a_plan_asks_nobody_and_says_what_would_be_silent() {
    let fake = Fake::new(&[]);
    let bench = bench_at(&[("am", fake.port)], Mode::Plan, everything());
    let _ = bench
        .eval(r#"prom::silence("am", #{ alertname: "A", host: #{ matches: "web-.*" } }, #{ "for": "2h" }); prom::reload("am");"#)
        .unwrap();
    let effects: Vec<String> = bench.recorder.events().into_iter().filter_map(summary).collect();
    assert_eq!(effects, [r#"am: silence {alertname="A", host=~"web-.*"} for 2h"#, "am: read its settings again"]);
    assert_eq!(fake.heard(), Vec::<String>::new());
}

fn summary(event: EventKind) -> Option<String> {
    match event {
        EventKind::Effect { effect, .. } => Some(effect.summary),
        _ => None,
    }
}

#[test]
fn a_grant_is_for_one_endpoint_and_one_verb() {
    let fake = Fake::new(&[("GET /api/v2/alerts", 200, "[]"), ("GET /api/v1/rules", 200, r#"{"data":{"groups":[]}}"#)]);
    let bench = |allow: Value| bench_at(&[("a", fake.port), ("b", fake.port)], Mode::Apply, allow);
    let may = |allow: &str, call: &str| match bench(json!({ "prom": [allow] })).eval(call) {
        Ok(_) => true,
        Err(error) => crate::host::error_of(&error).kind != Kind::Denied,
    };
    let (read, silence) = (r#"prom::alerts("a")"#, r#"prom::silence("a", #{ x: "y" })"#);
    let (reload, other) = (r#"prom::reload("a")"#, r#"prom::alerts("b")"#);
    for (allow, allowed) in [
        ("read:a", [true, false, false, false]),
        ("silence:a", [true, true, false, false]),
        ("reload:a", [false, false, true, false]),
        ("read:${endpoints.b}", [false, false, false, true]),
        ("read:${endpoints.c}", [false; 4]),
    ] {
        assert_eq!([read, silence, reload, other].map(|call| may(allow, call)), allowed, "{allow}");
    }
    let before = fake.heard().len();
    let nothing = bench(json!({ "http": ["GET http://127.0.0.1"] }));
    for call in [
        read,
        silence,
        reload,
        r#"prom::query("a", "up")"#,
        r#"prom::query_range("a", "up")"#,
        r#"prom::rules("a")"#,
        r#"prom::targets("a")"#,
    ] {
        assert_eq!(nothing.error(call).kind, Kind::Denied, "{call}");
    }
    assert_eq!(fake.heard().len(), before);
}

#[test]
fn each_failure_has_its_kind() {
    let prometheus = |kind: &str, text: &str| json!({ "status": "error", "errorType": kind, "error": text }).to_string();
    let cases = [
        (400, prometheus("bad_data", "parse error"), Kind::Invalid),
        (422, prometheus("execution", "many-to-many"), Kind::Invalid),
        (422, prometheus("execution", "query processing would load too many samples into memory"), Kind::Limit),
        (503, prometheus("timeout", "query timed out"), Kind::Timeout),
        (503, prometheus("canceled", "context canceled"), Kind::Remote),
        (503, "Service Unavailable".to_owned(), Kind::Remote),
        (500, prometheus("internal", "disk"), Kind::Remote),
        (401, String::new(), Kind::Refused),
        (404, "<html>".to_owned(), Kind::NotFound),
        (302, String::new(), Kind::Remote),
        (200, "<html>welcome</html>".to_owned(), Kind::Remote),
        (200, r#"{"data":{"resultType":"new","result":[]}}"#.to_owned(), Kind::Remote),
    ];
    for (status, body, kind) in cases {
        let fake = Fake::new(&[("POST /api/v1/query", status, &body)]);
        let error = bench_at(&[("a", fake.port)], Mode::Apply, everything()).error(r#"prom::query("a", "up")"#);
        assert_eq!((error.kind, error.target.as_deref()), (kind, Some("a")), "{status} {body}: {error:?}");
    }
    for (status, body, kind) in
        [(403, "Lifecycle API is not enabled.", Kind::Refused), (500, "failed to reload config: yaml: line 1", Kind::Invalid)]
    {
        let fake = Fake::new(&[("POST /-/reload", status, body)]);
        let error = bench_at(&[("a", fake.port)], Mode::Apply, everything()).error(r#"prom::reload("a")"#);
        assert!(error.kind == kind && !error.hints.is_empty(), "{error:?}");
    }
    let down = bench_at(&[("a", leash::free_port())], Mode::Apply, everything());
    assert_eq!(down.error(r#"prom::query("a", "up")"#).kind, Kind::Connect);
    let error = down.error(r#"prom::query("b", "up")"#);
    assert!(error.kind == Kind::NotFound && error.message.contains("no endpoint `b`"), "{error:?}");
}

#[test]
fn warnings_come_with_the_answer_and_too_much_is_a_limit() {
    let row = json!({ "metric": { "__name__": "up", "a": "b" }, "value": [1_763_769_600.5, "NaN"] });
    let told =
        |rows: Vec<Value>| json!({ "status": "success", "warnings": ["a part only"], "data": { "resultType": "vector", "result": rows } });
    let fake = Fake::new(&[("POST /api/v1/query", 200, &told(vec![row.clone()]).to_string())]);
    let found = json_of(&bench_at(&[("a", fake.port)], Mode::Apply, everything()), r#"prom::query("a", "up")"#);
    assert_eq!(found["warnings"], json!(["a part only"]));
    let series = json!({ "name": "up", "labels": { "a": "b" }, "value": null, "at": "2025-11-22T00:00:00.5Z" });
    assert_eq!(found["series"], json!([series]));
    let asked = fake.heard().concat();
    assert!(asked.contains("query=up&timeout=30000ms"), "{asked}");
    let large = told(vec![row; 5001]).to_string();
    let huge = format!("\"{}\"", "x".repeat(17 << 20));
    for body in [large, huge] {
        let fake = Fake::new(&[("POST /api/v1/query", 200, &body)]);
        let error = bench_at(&[("a", fake.port)], Mode::Apply, everything()).error(r#"prom::query("a", "up")"#);
        assert!(error.kind == Kind::Limit && !error.hints.is_empty(), "{error:?}");
    }
}

#[test]
fn a_server_that_says_nothing_is_a_timeout_and_a_name_leads_where_the_file_says() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let endpoint = Endpoint { url: format!("http://127.0.0.1:{port}/"), timeout: Some(Span::millis(10)), ..Endpoint::default() };
    let named = Endpoint { url: format!("http://localhost.:{port}/"), ..endpoint.clone() };
    let system = System { endpoints: [("a".to_owned(), endpoint), ("b".to_owned(), named)].into(), ..System::default() };
    let bench = Bench::with(everything(), system, Secrets::default(), Mode::Apply);
    assert_eq!(bench.error(r#"prom::query("a", "up")"#).kind, Kind::Timeout);
    let error = bench.error(r#"prom::query("b", "up")"#);
    // Where that name leads nowhere, it is not resolved.
    assert!(matches!(error.kind, Kind::Denied | Kind::Connect), "{error:?}");
}

#[test]
fn the_credentials_of_an_endpoint_go_to_it_and_into_no_error() {
    let fake = Fake::new(&[("POST /api/v1/query", 403, "no")]);
    let headers = [("authorization".to_owned(), "Bearer ${secret:token}".to_owned())].into();
    let endpoint = Endpoint { url: format!("http://127.0.0.1:{}/", fake.port), headers, ..Endpoint::default() };
    let system = System { endpoints: [("a".to_owned(), endpoint)].into(), ..System::default() };
    let secrets = Secrets::new([("token".to_owned(), "nobody-may-see".to_owned())].into());
    let error = Bench::with(everything(), system, secrets, Mode::Apply).error(r#"prom::query("a", "up")"#);
    assert!(error.kind == Kind::Refused && !format!("{error:?}").contains("nobody-may-see"), "{error:?}");
    assert!(fake.heard().concat().contains("Bearer nobody-may-see"));
}

/// A server that knows these requests and no others, and keeps what it hears.
struct Fake {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn new(answers: &[(&str, u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers: Vec<_> =
            answers.iter().map(|(line, status, body)| (format!("{line} HTTP/1.1"), *status, (*body).to_owned())).collect();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = heard.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut text = String::new();
                while !text.ends_with("\r\n\r\n") && reader.read_line(&mut text).is_ok_and(|read| read > 0) {}
                let length = text.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                let _ = reader.read_exact(&mut body);
                let line = text.lines().next().unwrap_or_default().to_owned();
                kept.lock().unwrap().push(text + &*String::from_utf8_lossy(&body));
                let known = answers.iter().find(|(known, ..)| *known == line);
                let (status, body) = known.map_or((418, "nobody told me of that"), |(_, status, body)| (*status, body.as_str()));
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            }
        });
        Self { port, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}
