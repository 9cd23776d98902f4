//! incident-handle: opened, told by the severity, tried, verified, ended or handed on, with its report.

use super::{check, steps};
use crate::harness::sink::Sink;
use crate::harness::{Done, Project, Test};

/// A shop with short clocks, and channels by severity; what repairs its services does as `repair` says.
fn shop(sink: &Sink, language: &str, repair: &str) -> Project {
    let hook = |name: &str| format!("[contacts.{name}]\nkind = \"webhook\"\nurl = \"{}\"\nper_minute = 1000\n", sink.url(name));
    let system = format!(
        "title = \"Shop\"\nlanguage = \"{language}\"\ntimezone = \"UTC\"\n\
         [services]\nmanager = \"processes\"\n[services.api]\nrestartable = true\npid_file = \"/nowhere/api.pid\"\n\
         [severity.sev1]\nlabel = \"P1\"\nrespond = \"1s\"\nescalate = \"1s\"\nresolve = \"2h\"\n[severity.sev3]\nlabel = \"P3\"\n\
         [routes]\nsev1 = [\"webhook\", \"sms\"]\nsev3 = [\"webhook\"]\nrecovery = [\"webhook\"]\n{}{}",
        hook("webhook"),
        hook("sms"),
    );
    Project::new().file("runbooks/systems/shop.toml", &system).runbook("recover-service", repair)
}

const HELPS: &str = "runbook(#{ title: \"Repair\", params: #{ service: #{ type: \"string\" } } });\nlog(`restart ${params::service}`);\n";
const FAILS: &str = "runbook(#{ title: \"Repair\", params: #{ service: #{ type: \"string\" } } });\nfail(\"it does not start\");\n";
/// Health as a test wants it.
const WELL: &str = "runbook(#{ title: \"Health\", params: #{ only: #{ type: \"list\" }, tell: #{ type: \"bool\" } } });\ncheck(\"service api\", || LEVEL);\n";

fn handle(project: Project, severity: &str) -> Test {
    let test = project.command([
        "run",
        "incident-handle",
        "-s",
        "shop",
        "-p",
        "title=no orders",
        "-p",
        "service=api",
        "-p",
        "kind=service_down",
        "--json",
    ]);
    test.arg("-p").arg(&format!("severity={severity}"))
}

fn channels(sink: &Sink) -> [Vec<String>; 2] {
    ["webhook", "sms"].map(|channel| {
        let file_is_there = || sink.accepted(channel);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(file_is_there)).unwrap_or_default().iter().map(ToString::to_string).collect()
    })
}

fn incident(done: Done) -> (Done, serde_json::Value) {
    let shown = done.then(["incident", "show", "1", "--json"]).succeeds();
    let found = shown.json();
    (shown, found)
}

#[test]
fn what_a_runbook_repairs_is_verified_and_over_and_its_report_is_drafted() {
    let sink = Sink::new();
    let project = shop(&sink, "zh", HELPS).runbook("check-health", &WELL.replace("LEVEL", "\"ok\""));
    let done = handle(project, "sev3").exits(0);
    let report = std::fs::read_to_string(done.project.state().join("runs/1/files/incident-1.md")).unwrap();
    assert!(report.contains("故障根因分析报告") && report.contains("故障已自动恢复") && report.contains("recover-service"), "{report}");
    let (_, found) = incident(done);
    assert_eq!((&found["state"], &found["findings"]["repair"]), (&"resolved".into(), &"自动恢复 recover-service: succeeded".into()));
    let [web, sms] = channels(&sink);
    assert_eq!((web.len(), sms.len()), (2, 0), "opened and over, by mail only: {web:?}");
}

#[test]
fn a_repair_that_fails_or_changes_nothing_hides_nothing() {
    for (repair, health, why) in [
        (FAILS, "\"ok\"", "recover-service: failed"),
        (HELPS, "\"critical\"", "service api: critical"),
        (HELPS, "\"unknown\"", "service api: unknown"),
    ] {
        let sink = Sink::new();
        let project = shop(&sink, "en", repair).runbook("check-health", &WELL.replace("LEVEL", health));
        let done = handle(project, "sev3").exits(1);
        let (_, found) = incident(done);
        assert_eq!(found["state"], "open");
        let handed = found["timeline"].as_array().unwrap().iter().find(|moment| moment["what"] == "escalated").unwrap().clone();
        assert!(handed["text"].as_str().unwrap().contains(why), "{handed}");
    }
}

#[test]
fn nobody_who_answers_is_an_escalation_and_a_severe_one_goes_by_more_channels() {
    let sink = Sink::new();
    let done = handle(shop(&sink, "en", HELPS), "sev1").arg("-p").arg("recover=false").arg("-p").arg("stay=3s").exits(1);
    let (shown, found) = incident(done);
    assert_eq!(found["overdue"], serde_json::json!(["respond", "escalate"]));
    let [web, sms] = channels(&sink);
    assert!(web.len() >= 2 && sms.len() >= 2, "opened and escalated, each by both: {web:?} {sms:?}");
    // Once somebody takes care of it, and once it is over.
    let say = |done: Done, mode: &str| {
        done.then(["run", "incident-handle", "-s", "shop", "-p", "incident=1", "--json", "-p"]).arg(&format!("mode={mode}")).run()
    };
    let acked = say(shown, "ack");
    assert_eq!((acked.code, check(&acked.json(), "incident #1")["level"].as_str()), (3, Some("warning")));
    let again = say(acked, "ack");
    let (shown, found) = incident(again);
    assert_eq!(found["timeline"].as_array().unwrap().iter().filter(|moment| moment["what"] == "acknowledged").count(), 1);
    let over = say(shown, "resolve");
    assert_eq!(over.code, 0);
    let learnt = over
        .then(["run", "incident-handle", "-s", "shop", "-p", "incident=1", "-p", "mode=learn", "-p", "cause=a full disk", "--json"])
        .exits(0);
    assert_eq!(steps(&learnt), ["keep what was learnt"]);
}

#[test]
fn a_run_that_was_killed_goes_on_with_the_same_incident() {
    let sink = Sink::new();
    let project = shop(&sink, "en", HELPS).runbook("check-health", &WELL.replace("LEVEL", "\"ok\""));
    let done = handle(project, "sev3").arg("--crash-after").arg("step-ended:open the incident").run();
    assert_ne!(done.code, 0);
    let done = done.then(["resume", "1", "--json"]).exits(0);
    let list = done.then(["incident", "list", "--all", "--json"]).succeeds();
    assert_eq!(list.json().as_array().unwrap().len(), 1);
}
