//! What the daemon watches: it notices, repairs, proves and tells, whatever happens to it in between.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use runbook::model::{Incident, IncidentState, RepairState, RunState, Trigger};
use runbook::store::{Filter, IncidentFilter, Incidents, Keep, Samples, Sqlite, StateDir, Store};

use super::{is_waiting, project, write};
use crate::harness::Project;
use crate::harness::sink::Sink;

/// Waits until it may, and mends the shop.
const MEND: &str = r#"
runbook(#{ title: "Mends", params: #{ service: #{ required: true } }, allow: #{ fs: #{ read: ["DIR"], remove: ["DIR"] } } });
step("wait", #{ idempotent: "it only waits" }, || while !fs::exists("DIR/go") { wait("10ms"); });
step("mend", #{ idempotent: "it is the same file" }, || fs::remove("DIR/broken"));
"#;

/// A page that answers with 200 and a metric unless there is this file; its port. It answers for as long as the test runs.
fn page(broken: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let status = if broken.exists() { "500 Broken" } else { "200 OK" };
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 9\r\nConnection: close\r\n\r\norders 3\n").as_bytes());
        }
    });
    port
}

/// A shop with a page that is watched and mended, in a language.
fn shop(language: &str, sink: &Sink) -> Project {
    let project = project(&[("mend", MEND)]);
    let port = page(project.path().join("work/broken"));
    let text = format!(
        r#"title = "Shop"
code = "SH"
language = "{language}"

[services]
manager = "processes"

[services.web]
pid_file = "/nowhere/web.pid"
restartable = true

[endpoints.web]
url = "http://127.0.0.1:{port}/"
network = "loopback"

[rules.PageDown]
summary = "the page does not answer"
kind = "down"
series = 'endpoint_up{{endpoint="web"}}'
for = "1s"
no_data = "10m"
level = "critical"
severity = "sev1"
service = "web"

[remediation.page]
runbook = "mend"
when = ["PageDown"]
services = ["web"]
mode = "act"

[routes]
critical = ["ops"]

[contacts.ops]
kind = "webhook"
url = "{}"
"#,
        sink.url("webhook")
    );
    project.file("runbooks/systems/shop.toml", &text).file("runbook.toml", "daemon.look = \"500ms\"\n")
}

fn store(project: &Project) -> Sqlite {
    Sqlite::open(&StateDir::open(&project.state()).unwrap().database()).unwrap()
}

fn incidents(project: &Project) -> Vec<Incident> {
    store(project).incidents(&IncidentFilter::default()).unwrap()
}

/// The runs that rules started.
fn repairs(project: &Project, states: &[RunState]) -> usize {
    let filter = Filter { states: states.to_vec(), runbook: Some("mend".to_owned()), ..Filter::default() };
    let runs = store(project).list(&filter).unwrap();
    runs.iter().filter(|run| store(project).run(run.id).unwrap().trigger == Trigger::Rule).count()
}

fn subjects(sink: &Sink) -> Vec<String> {
    let told = sink.accepted("webhook");
    told.iter().filter_map(|message| message["json"]["subject"].as_str().map(str::to_owned)).collect()
}

/// What is watched takes its time: it is over when it was well for a minute.
#[track_caller]
fn wait_long(project: &Project, what: &str, mut is_true: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(240);
    while !is_true() {
        assert!(Instant::now() < until, "{what} did not come true\n{}", project.daemon_log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_breaks_is_noticed_told_repaired_and_proven_also_when_the_daemon_is_killed() {
    let sink = Sink::new();
    let project = shop("en", &sink);
    let daemon = project.serve();
    let project = project.command(["schedule", "pause", "--all", "--reason", "the shop moves"]).succeeds().project;
    write(&project, "broken");
    wait_long(&project, "people are told", || subjects(&sink) == ["[sev1] Shop: the page does not answer"]);
    let told = sink.accepted("webhook");
    assert_eq!(told[0]["json"]["next"], "runbook incident ack 1", "{told:?}");
    let done = project.command(["status"]).exits(1).says("watch").says("1 rule, 1 alarm on").says("the page does not answer");
    assert_eq!(repairs(&done.project, &[]), 0, "everything is paused");

    let project = done.then(["schedule", "resume", "--all"]).succeeds().project;
    wait_long(&project, "the repair has begun", || is_waiting(&project, 1));
    daemon.kill();
    let _daemon = project.serve();
    write(&project, "go");
    wait_long(&project, "it is over", || incidents(&project).iter().any(|incident| incident.state == IncidentState::Resolved));
    wait_long(&project, "people are told", || subjects(&sink).len() >= 2);
    assert_eq!(subjects(&sink), ["[sev1] Shop: the page does not answer", "[sev1 recovered] Shop: the page does not answer"]);
    assert_eq!((repairs(&project, &[]), repairs(&project, &[RunState::Succeeded])), (1, 1));
    let made = store(&project).repairs("shop", jiff::Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(made.iter().map(|repair| repair.state).collect::<Vec<_>>(), [RepairState::Helped]);

    let found = incidents(&project);
    assert_eq!(found.len(), 1, "{found:?}");
    let timeline: Vec<&str> = found[0].timeline.iter().map(|moment| moment.what.as_str()).collect();
    assert_eq!(timeline, ["opened", "repair", "well again", "repair", "resolved"], "{:?}", found[0].timeline);
    let done = project.command(["incident", "show", "1"]).succeeds();
    let done = done.says("reported by rule PageDown").says("mend on web").says("run #1").says("it helped").says("resolved");
    let _ = done.then(["audit", "verify"]).succeeds();
}

#[test]
fn a_system_without_its_secret_is_told_and_blinds_no_other() {
    let sink = Sink::new();
    let blog = "title = \"Blog\"\ncode = \"BL\"\n[databases.main]\nhost = \"127.0.0.1\"\nport = 1\nname = \"blog\"\nuser = \"blog\"\n\
                password = \"${secret:blog_db}\"\n";
    let project = shop("en", &sink).file("runbooks/systems/blog.toml", blog).file("runbooks/systems/broken.toml", "title = 7\n");
    let daemon = project.serve();
    wait_long(&project, "the shop is looked at", || {
        let output = project.start(&["status", "--json"]).wait_with_output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let each = json["daemon"]["watches"]["each"].as_array().unwrap().clone();
        let names: Vec<&str> = each.iter().map(|watch| watch["system"].as_str().unwrap()).collect();
        assert_eq!(names, ["blog", "shop"]);
        let of = |name: &str| each.iter().find(|watch| watch["system"] == name).unwrap().clone();
        // Of the blog its database is unknown, not its machine.
        of("shop")["samples"].as_u64() > Some(0) && of("blog")["unknown"].as_u64() > Some(0) && of("blog")["samples"].as_u64() > Some(0)
    });
    let done = project.command(["status"]).exits(1).says("there is no secret `blog_db`").says("title");
    daemon.stop();
    let _ = done;
}

#[test]
fn what_a_source_tells_is_kept_and_one_that_does_not_is_named_and_unknown() {
    let sink = Sink::new();
    let project = shop("en", &sink);
    let system = std::fs::read_to_string(project.path().join("runbooks/systems/shop.toml")).unwrap();
    let project = project.file("runbooks/systems/shop.toml", &format!("{system}\n[metrics.app]\nendpoint = \"web\"\nevery = \"1s\"\n"));
    let _daemon = project.serve();
    let stored = || Samples::open(&project.state().join("samples.db"), Keep::default()).unwrap();
    // The newest value; nothing when there is none, and nothing within when it is unknown.
    let newest = |series: &str| {
        let (series, now) = (series.parse().unwrap(), runbook::store::now());
        let tracks = stored().tracks(&series, now - jiff::SignedDuration::from_hours(1), now).unwrap();
        tracks.first().and_then(|track| track.samples.last()).map(|sample| sample.value.number())
    };
    let orders = "orders{instance=\"app\",job=\"app\",system=\"shop\"}";
    wait_long(&project, "the source is asked", || newest(orders) == Some(Some(3.0)));
    assert_eq!(newest("source_up{source=\"app\",system=\"shop\"}"), Some(Some(1.0)));
    write(&project, "broken");
    wait_long(&project, "its silence is kept", || newest(orders) == Some(None));
    assert_eq!(newest("source_up{source=\"app\",system=\"shop\"}"), Some(Some(0.0)));
    wait_long(&project, "its silence is told", || {
        let output = project.start(&["status"]).wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).contains("shop: metrics.app tells nothing: status 500, expected 200")
    });
}

#[test]
fn a_run_that_nobody_sees_fail_is_an_incident_in_the_language_of_its_system() {
    let sink = Sink::new();
    let text = r#"
runbook(#{ title: "t", allow: #{ fs: #{ read: ["DIR"] } } });
step("look", #{ idempotent: "look" }, || if fs::exists("DIR/broken") { throw "the shop is closed"; });
"#;
    let project = shop("zh", &sink);
    let directory = project.path().join("work");
    let system = std::fs::read_to_string(project.path().join("runbooks/systems/shop.toml")).unwrap();
    let system = format!("{system}\n[schedules.look]\nevery = \"1s\"\n").replace("for = \"1s\"", "for = \"1h\"");
    let project = project.runbook("look", &text.replace("DIR", directory.to_str().unwrap())).file("runbooks/systems/shop.toml", &system);
    write(&project, "broken");
    let _daemon = project.serve();
    wait_long(&project, "people are told", || !subjects(&sink).is_empty());
    wait_long(&project, "it failed again and again", || incidents(&project)[0].count >= 3);
    let told = sink.accepted("webhook")[0]["json"].clone();
    assert_eq!(told["subject"], "[sev2] Shop：look 运行失败", "{told}");
    assert!(told["text"].as_str().unwrap().contains("the shop is closed"), "{told}");
    assert!(told.to_string().contains("runbook logs 1 --failed") && told["next"] == "runbook incident ack 1", "{told}");
    std::fs::remove_file(directory.join("broken")).unwrap();
    wait_long(&project, "it is over", || incidents(&project)[0].state == IncidentState::Resolved);
    wait_long(&project, "people are told", || subjects(&sink).len() >= 2);
    assert_eq!(subjects(&sink), ["[sev2] Shop：look 运行失败", "[sev2 已恢复] Shop：look 运行失败"]);
    let _ = project.command(["incident", "show", "1"]).succeeds().says("run #1").says("the shop is closed");
}
