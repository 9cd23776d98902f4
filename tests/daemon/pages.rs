//! What the daemon answers over HTTP, and who may have it start something.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{project, wait_for};
use crate::harness::{Project, wait_until};

const HELLO: &str = "runbook(#{ title: \"t\", params: #{ who: #{ def: \"you\" } } }); step(\"hello\", || params::who); check(\"a\", || #{ level: \"ok\" });";

/// Where the pages of the daemon are.
fn address(project: Project) -> (Project, String) {
    let done = project.command(["status", "--json"]).run();
    let address = done.json()["daemon"]["listen"].as_str().unwrap().to_owned();
    (done.project, address)
}

/// The code and the body of an answer.
fn ask(address: &str, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    // It may answer before it has read all.
    let _ = stream.write_all(format!("{head}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    (head.split_whitespace().nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn get(address: &str, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}"), b"")
}

#[test]
fn it_says_how_it_is_and_what_it_counts_in_the_format_prometheus_reads() {
    let text = "title = \"Shop\"\ncode = \"SH\"\n[schedules.test]\ncron = \"* * * * * *\"\n";
    let project = project(&[("test", HELLO)]).file("runbooks/systems/shop.toml", text);
    let project = project.file("runbook.toml", "daemon.listen = \"127.0.0.1:0\"\n");
    let daemon = project.serve();
    let (project, address) = address(project);
    assert_eq!(get(&address, "/healthz"), (200, "alive\n".to_owned()));
    assert_eq!(get(&address, "/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(get(&address, "/nothing").0, 404);
    // A page in a browser that was led here by a name of its own.
    assert_eq!(ask(&address, "GET /metrics HTTP/1.1\r\nHost: evil.test", b"").0, 403);
    let ended = "runbook_runs_total{runbook=\"test\",system=\"shop\",status=\"succeeded\"}";
    wait_until("runs are counted", || numbers(&get(&address, "/metrics").1).get(ended).is_some_and(|count| *count >= 2.0));
    let all = numbers(&get(&address, "/metrics").1);
    assert!(all["runbook_ticks_total{schedule=\"shop/test\",outcome=\"started\",reason=\"\"}"] >= 2.0);
    assert!(all["runbook_tick_lateness_seconds_count"] >= 2.0);
    assert!(all["runbook_run_queue_seconds_count"] >= 2.0);
    assert!(all["runbook_run_duration_seconds_count{runbook=\"test\",system=\"shop\"}"] >= 2.0);
    assert!((all["runbook_checks{runbook=\"test\",system=\"shop\",level=\"ok\"}"] - 1.0).abs() < 0.1);
    assert!((all["runbook_runs_places"] - 4.0).abs() < 0.1 && all["runbook_paused"].abs() < 0.1);
    let done = project.command(["schedule", "pause", "--all"]).succeeds();
    assert!((numbers(&get(&address, "/metrics").1)["runbook_paused"] - 1.0).abs() < 0.1);
    daemon.stop();
    let _ = done;
}

/// The samples of an exposition, which has to be well-formed: each belongs to a family that was announced, buckets
/// rise up to the count, and it has an end.
fn numbers(text: &str) -> BTreeMap<String, f64> {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let mut bucket = 0.0;
    let mut lines = text.lines();
    assert_eq!(lines.next_back(), Some("# EOF"));
    for line in lines {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(kinds.insert(name, kind).is_none(), "{line}");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let name = sample.split('{').next().unwrap();
        assert!(name.starts_with("runbook_") && name.bytes().all(|letter| letter.is_ascii_lowercase() || letter == b'_'), "{line}");
        let family = ["_total", "_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let kind = kinds.get(family).or_else(|| kinds.get(name)).unwrap_or_else(|| panic!("{line}"));
        match (*kind, name.strip_prefix(family).unwrap_or_default()) {
            ("counter", "_total") | ("gauge", "") => {}
            ("histogram", "_sum") => bucket = 0.0,
            ("histogram", "_bucket") => {
                assert!(value >= bucket, "{line}");
                bucket = value;
            }
            ("histogram", "_count") => assert!(value >= bucket, "{line}"),
            other => panic!("{line}: {other:?}"),
        }
        assert!(samples.insert(sample.to_owned(), value).is_none(), "{line}");
    }
    samples
}

#[test]
fn beyond_this_machine_it_listens_only_with_a_token() {
    let project = Project::new().file("runbook.toml", "daemon.listen = \"0.0.0.0:0\"\n");
    let done = project.command(["serve"]).exits(2).talks("can be reached from elsewhere").talks("daemon.token");
    let text = "daemon.listen = \"0.0.0.0:0\"\ndaemon.token = \"token\"\n[secrets.token]\nenv = \"TOKEN\"\n";
    let project = done.project.file("runbook.toml", text);
    let _daemon = project.serve_with(&[("TOKEN", "swordfish")]);
    let (_project, address) = address(project);
    let address = address.replace("0.0.0.0", "127.0.0.1");
    let shown = |token: &str| ask(&address, &format!("GET /metrics HTTP/1.1\r\nHost: ops.test\r\nAuthorization: Bearer {token}"), b"").0;
    assert_eq!((get(&address, "/metrics").0, shown("swordfis"), shown("")), (401, 401, 401));
    assert_eq!(shown("swordfish"), 200);
}

fn post(address: &str, name: &str, time: i64, signed: &[u8], body: &[u8]) -> (u16, String) {
    let mut mac = Hmac::<Sha256>::new_from_slice(b"swordfish").unwrap();
    mac.update(format!("{time}.").as_bytes());
    mac.update(signed);
    let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let head =
        format!("POST /hooks/{name} HTTP/1.1\r\nHost: ops.test\r\nX-Runbook-Timestamp: {time}\r\nX-Runbook-Signature: sha256={signature}");
    ask(address, &head, body)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the daemon of the test lives by the clock of the machine")]
fn a_hook_starts_its_run_once_for_each_request_that_is_signed() {
    let text = "daemon.listen = \"127.0.0.1:0\"\n[secrets.s]\nenv = \"HOOK\"\n\
                [hooks.deployed]\nrunbook = \"test\"\nsecret = \"s\"\nparams = { who = \"them\" }\n\
                [hooks.unsafe]\nrunbook = \"test\"\nsecret = \"nowhere\"\n";
    let project = project(&[("test", HELLO)]).file("runbook.toml", text);
    let daemon = project.serve_with(&[("HOOK", "swordfish")]);
    let (project, first) = address(project);
    let now = jiff::Timestamp::now().as_second();
    let (code, body) = post(&first, "deployed", now, b"{}", b"{}");
    assert_eq!(code, 202, "{body}");
    assert!(body.contains("\"run\":1"), "{body}");
    wait_for(&project, "1", "succeeded");
    assert_eq!(post(&first, "deployed", now, b"{}", b"{}").0, 409);
    assert_eq!(post(&first, "deployed", now, b"{}", b"{ }").0, 401);
    assert_eq!(post(&first, "deployed", now - 400, b"{}", b"{}").0, 401);
    assert_eq!(post(&first, "deployed", now + 400, b"{}", b"{}").0, 401);
    assert_eq!(post(&first, "nobody", now, b"{}", b"{}").0, 404);
    assert_eq!(post(&first, "unsafe", now, b"{}", b"{}").0, 503);
    assert_eq!(get(&first, "/hooks/deployed").0, 405);
    let long = vec![b'x'; (1 << 20) + 1];
    assert_eq!(post(&first, "deployed", now, &long, &long).0, 413);
    // What was taken is taken, also for the next daemon.
    daemon.kill();
    let _daemon = project.serve_with(&[("HOOK", "swordfish")]);
    let (project, second) = address(project);
    assert_eq!(post(&second, "deployed", now, b"{}", b"{}").0, 409);
    let done = project.command(["history", "--json"]).succeeds();
    assert_eq!(done.json().as_array().unwrap().len(), 1);
    let done = done.then(["report", "1", "--json"]).succeeds();
    let run = done.json();
    assert_eq!((run["trigger"].as_str(), run["by"].as_str()), (Some("hook"), Some("hook deployed")));
    assert_eq!(run["params"]["who"], "them");
}

#[test]
fn a_hook_without_a_secret_is_no_hook() {
    let project = Project::new().file("runbook.toml", "[hooks.deployed]\nrunbook = \"test\"\n");
    let _ = project.command(["serve"]).exits(2).talks("secret");
}

#[test]
fn it_gives_a_sign_of_life() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/alive", listener.local_addr().unwrap());
    let text = format!("daemon.heartbeat.url = \"{url}\"\ndaemon.heartbeat.every = \"1s\"\n");
    let project = Project::new().file("runbook.toml", &text);
    let _daemon = project.serve();
    for _ in 0..2 {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = [0; 16];
        stream.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"GET /alive HTTP/");
        stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
    }
}

#[test]
fn alerts_of_prometheus_are_incidents_of_the_system_they_name() {
    let text = "daemon.listen = \"127.0.0.1:0\"\n[hooks.alerts]\nalerts = \"alertmanager\"\nsystem = \"shop\"\nsecret = \"token\"\n\
                [secrets.token]\nenv = \"TOKEN\"\n";
    let shop = "title = \"Shop\"\ncode = \"SH\"\n[services]\nmanager = \"compose\"\nproject = \"shop\"\n[services.api]\n";
    let project = Project::new().file("runbook.toml", text).file("runbooks/systems/shop.toml", shop);
    let _daemon = project.serve_with(&[("TOKEN", "swordfish")]);
    let (project, address) = address(project);
    let body = |status: &str| {
        format!(
            "{{\"version\":\"4\",\"status\":\"{status}\",\"alerts\":[{{\"status\":\"{status}\",\"labels\":{{\"alertname\":\"ApiDown\",\
             \"job\":\"shop-api\",\"severity\":\"critical\"}},\"annotations\":{{\"summary\":\"the API is down\"}},\
             \"startsAt\":\"2026-01-01T00:00:00.5+01:00\",\"endsAt\":\"0001-01-01T00:00:00Z\"}}]}}"
        )
    };
    let post = |token: &str, body: &str| {
        ask(&address, &format!("POST /hooks/alerts HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}"), body.as_bytes())
    };
    let fires = body("firing");
    assert_eq!((post("", &fires).0, post("swordfis", &fires).0), (401, 401));
    assert_eq!((post("swordfish", "{").0, get(&address, "/hooks/alerts").0), (422, 405));
    let told = |(status, body): (u16, String)| (status, serde_json::from_str::<Value>(&body).unwrap());
    let fired = json!({ "firing": 1, "resolved": 0, "known": 0 });
    assert_eq!(told(post("swordfish", &fires)), (202, fired));
    assert_eq!(post("swordfish", &fires).0, 202);
    let done = project.command(["incident", "show", "1"]).succeeds().says("the API is down").says("sev2 of shop").says("webhook ApiDown");
    let done = done.then(["incident", "list", "--json"]).succeeds();
    let json = done.json();
    assert_eq!((json.as_array().unwrap().len(), json[0]["service"].as_str(), json[0]["count"].as_u64()), (1, Some("api"), Some(2)));
    let done = done.then(["incident", "resolve", "1"]).succeeds();
    // Told again of what a person has ended.
    assert_eq!(told(post("swordfish", &fires)).1, json!({ "firing": 0, "resolved": 0, "known": 1 }));
    let _ = done.then(["incident", "list"]).succeeds().talks("nothing is open");
}
