//! `runbook rules`.

use std::io::Write;
use std::process::Command;

use crate::harness::{Project, Test};

const SYSTEMS: [&str; 5] = ["ai-hub", "ai-notebook", "education", "football", "fin-pre-assist"];

/// What every kind of rule can say, beyond what the manuals need.
const ODD: &str = r#"
title = "Odd \"shop\""
[rules."Hot: \"cpu\""]
series = 'cpu{host=~"a.*\\.b"}'
kind = "value"
over = "mean"
window = "10m"
above = 80
clear = 70
by = ["host", "zone"]
for = "1m"
no_data = "5m"
level = "critical"
severity = "sev2"
labels = { owner = "${team}: \"ops\"" }
[rules.Slow]
kind = "quantile"
series = 'seconds_bucket'
quantile = 0.9
by = ["path"]
window = "5m"
above = 1.5
minimum = 0.5
level = "warning"
severity = "sev4"
"#;

#[test]
fn prometheus_takes_the_rules_of_every_system() {
    if Command::new("promtool").arg("--version").output().is_err() {
        return std::io::stderr().write_all(b"not run: promtool is not installed\n").unwrap();
    }
    let mut project = Project::new().file("runbooks/systems/odd.toml", &ODD.replace("${team}", "team"));
    for system in SYSTEMS.into_iter().chain(["odd"]) {
        let done = project.command(["rules", "render", "-s", system]).succeeds();
        let file = done.project.path().join("rules.yml");
        std::fs::write(&file, &done.stdout).unwrap();
        let checked = Command::new("promtool").args(["check", "rules"]).arg(&file).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(checked.status.success(), "{system}: {}{}\n{}", said(&checked.stdout), said(&checked.stderr), done.stdout);
        project = done.project;
    }
}

#[test]
fn every_rule_is_rendered_with_its_silence() {
    let mut alerts = 0;
    for system in SYSTEMS {
        let done = Test::new(["rules", "render", "-s", system]).succeeds();
        alerts += done.stdout.matches("- alert: ").count();
        assert!(done.stdout.contains("expr: \"absent("));
    }
    assert_eq!(alerts, 2 * 29);
}

#[test]
fn rules_are_listed_in_the_words_of_the_system() {
    let done = Test::new(["rules", "list", "-s", "ai-hub"]).succeeds().says("sev1 (P0)").says("up{job=\"aihub-backend\"} == 0");
    let json = done.then(["rules", "list", "-s", "fin-pre-assist", "--json"]).succeeds().json();
    assert_eq!(json.as_array().unwrap().len(), 9);
    let connections = json.as_array().unwrap().iter().find(|rule| rule["name"] == "HighDBConnections").unwrap();
    assert_eq!(connections["expression"], "sum by (instance) (pg_stat_activity_count) > 150");
}

const TRIAL: &str = r#"
system = "ai-hub"
[[series]]
series = 'up{job="aihub-backend"}'
values = "1x5 0x10"
[[expect]]
at = "2m"
rule = "ServiceDown"
is = "quiet"
[[expect]]
at = "5m"
rule = "ServiceDown"
is = "firing"
"#;

#[test]
fn rules_are_tried_on_made_up_series() {
    let done =
        Project::new().file("trial.toml", TRIAL).command(["rules", "test", "trial.toml"]).succeeds().says("ServiceDown at 5m: firing");
    let wrong = done.project.file("trial.toml", &TRIAL.replace("0x10", "1x10"));
    let done = wrong.command(["rules", "test", "trial.toml"]).exits(1).says("quiet (1), expected firing").talks("1 as expected, 1 not");
    let json = done.then(["rules", "test", "trial.toml", "--json"]).exits(1).json();
    assert_eq!((&json["failed"], &json["outcomes"][1]["found"]), (&1.into(), &"quiet".into()));
}

#[test]
fn a_trial_that_can_not_be_read_says_where() {
    let project = Project::new().file("trial.toml", &TRIAL.replace("1x5", "1xx5"));
    let done = project.command(["rules", "test", "trial.toml"]).exits(2).talks("`1xx5` stands for no samples");
    let project = done.project.file("trial.toml", "[[expect]]\nat = 5\n");
    let done = project.command(["rules", "test", "trial.toml"]).exits(2).talks("trial.toml");
    let _ = done.then(["rules", "test", "nowhere.toml"]).exits(2).talks("nowhere.toml");
}

#[test]
fn a_wrong_selector_is_found_when_the_system_is_read() {
    let system = ODD.replace("cpu{host=~", "cpu{host=~~");
    let project = Project::new().file("runbooks/systems/odd.toml", &system);
    let _ = project.command(["rules", "list", "-s", "odd"]).exits(2).talks("is not a selector of series").talks("odd.toml:4");
}
