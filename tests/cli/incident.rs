//! `runbook incident`.

use crate::harness::sink::Sink;
use crate::harness::{Project, Test};

fn shop(sink: &Sink, language: &str) -> Project {
    let system = format!(
        r#"
title = "Shop"
language = "{language}"
timezone = "UTC"
[services]
manager = "processes"
[services.api]
needs = ["db"]
[services.db]
[severity.sev1]
label = "P0"
respond = "5m"
resolve = "2h"
[routes]
sev1 = ["chat"]
recovery = ["chat"]
[contacts.chat]
kind = "webhook"
url = "{}"
"#,
        sink.url("webhook")
    );
    Project::new().file("runbooks/systems/shop.toml", &system).file("runbook.toml", "default_system = \"shop\"\n")
}

fn told(sink: &Sink) -> Vec<String> {
    sink.accepted("webhook").iter().map(|message| message["json"]["subject"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn an_incident_of_a_person_goes_from_open_to_its_report() {
    let sink = Sink::new();
    let done = shop(&sink, "zh").command(["incident", "open", "支付失败", "--severity", "sev1", "--service", "api"]).succeeds();
    let done = done.says("incident #1 is open: 支付失败").talks("runbook incident ack 1");
    let done = done.then(["incident", "list"]).succeeds().says("sev1 (P0)").says("✖ open");
    let done = done.then(["incident", "ack", "1", "--note", "looking"]).succeeds().says("maya takes care of incident #1");
    let done = done.then(["incident", "resolve", "#1", "--cause", "证书过期"]).succeeds().says("incident #1 is over after");
    assert_eq!(told(&sink), ["[P0] Shop：支付失败", "[P0 已恢复] Shop：支付失败"]);
    let done = done.then(["incident", "show", "1"]).succeeds().says("resolved").says("acknowledged  maya: looking");
    let done = done.then(["incident", "report", "1", "--prevention", "提前三十天检查"]).succeeds();
    let done = done.says("# 故障根因分析报告：支付失败").says("证书过期").says("提前三十天检查").says("maya：looking");
    let done = done.then(["incident", "list", "--json"]).succeeds();
    assert_eq!(done.json().as_array().unwrap().len(), 0);
    let done = done.then(["incident", "list", "--all", "--json"]).succeeds();
    assert_eq!((&done.json()[0]["state"], &done.json()[0]["findings"]["cause"]), (&"resolved".into(), &"证书过期".into()));
    let done = done.then(["audit", "list", "--json"]).run();
    assert!(done.stdout.contains("acknowledge #1") && done.stdout.contains("resolve #1"), "{}{}", done.stdout, done.stderr);
    let done = done.then(["audit", "verify"]).succeeds();
    let _ = done.then(["incident", "ack", "1"]).exits(2).talks("incident #1 is over since");
}

#[test]
fn the_same_again_is_the_same_incident_and_what_needs_it_is_quiet() {
    let sink = Sink::new();
    let open = ["incident", "open", "db is down", "--severity", "sev1", "--service", "db"];
    let done = shop(&sink, "en").command(open).succeeds();
    let done = done.then(open).succeeds().says("incident #1 is open");
    let done = done.then(["incident", "open", "api is down", "--severity", "sev1", "--service", "api"]).succeeds();
    let done = done.then(["incident", "list"]).succeeds().says("open, because of #1");
    assert_eq!(told(&sink), ["[P0] Shop: db is down"]);
    let _ = done.then(["incident", "open", "x", "--severity", "sev1", "--service", "ap"]).exits(2).talks("did you mean `api`?");
}

#[test]
fn an_incident_that_is_not_there_is_named() {
    let done = Test::new(["incident", "show", "7"]).exits(2).talks("there is no incident `7`");
    let done = done.then(["incident", "ack", "x"]).exits(2).talks("there is no incident `x`");
    let _ = done.then(["incident", "list"]).succeeds().talks("nothing is open");
}

#[test]
fn in_a_maintenance_window_an_incident_says_until_when_it_is_held_back() {
    let sink = Sink::new();
    let project = shop(&sink, "en");
    let system = std::fs::read_to_string(project.path().join("runbooks/systems/shop.toml")).unwrap();
    // Open whenever this test runs.
    let project = project.file("runbooks/systems/shop.toml", &format!("{system}\n[maintenance]\nwindow = \"@daily\"\nfor = \"26h\"\n"));
    let done = project.command(["incident", "open", "no orders", "--severity", "sev1"]).succeeds();
    let done = done.then(["incident", "list"]).succeeds().says("open, held back until");
    let done = done.then(["incident", "show", "1"]).succeeds().says("in a maintenance window: people hear of it then");
    let _ = done.then(["incident", "resolve", "1"]).succeeds();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| told(&sink))).unwrap_or_default().is_empty());
}
