//! `runbook schedule`.

use serde_json::{Value, json};

use crate::harness::{Done, Project};

const SHOP: &str = "\
timezone = \"Europe/Berlin\"
[schedules.backup]
cron = \"30 2 * * *\"
[schedules.check]
every = \"5m\"
[schedules.off]
runbook = \"backup\"
cron = \"@daily\"
enabled = false
";

fn project() -> Project {
    Project::new()
        .file("runbooks/systems/shop.toml", SHOP)
        .runbook("backup", "runbook(#{ title: \"b\" });")
        .runbook("tidy", "runbook(#{ title: \"t\", schedule: #{ cron: \"0 4 * * SUN\", timezone: \"UTC\" } });")
}

fn column(done: &Done, key: &str) -> Vec<Value> {
    done.json().as_array().unwrap().iter().map(|row| row[key].clone()).collect()
}

#[test]
fn schedules_of_systems_and_headers_are_listed() {
    let done = project().command(["schedule", "list", "--json"]).succeeds();
    assert_eq!(column(&done, "schedule"), ["shop/backup", "shop/check", "shop/off", "host/tidy"]);
    assert_eq!(column(&done, "words"), ["at 02:30", "every 5m, counted from 1970", "at 00:00", "at 04:00 on Sunday"]);
    assert_eq!(column(&done, "source"), ["system", "system", "system", "header"]);
    assert_eq!(column(&done, "enabled"), [true, true, false, true]);
    assert!(column(&done, "next")[2].is_null() && column(&done, "next")[0].is_string());
    let done = done.then(["schedule", "list"]).succeeds().says("shop/backup").says("30 2 * * * Europe/Berlin").says("off");
    let done = done.says("there is no runbook `check`");
    let done = done.then(["schedule", "list", "-s", "ai-hub", "--json"]).succeeds();
    assert_eq!(column(&done, "schedule").len(), 16, "a built-in system is asked for by name");
    let _ = done.then(["schedule", "next", "--json"]).succeeds().says("shop/check").says("host/tidy");
}

#[test]
fn a_runbook_says_when_it_starts_by_itself() {
    let done = project().command(["show", "backup", "-s", "shop"]).succeeds().says("Starts  at 02:30   next ");
    let done = done.then(["show", "tidy", "--json"]).succeeds();
    assert_eq!(done.json()["schedules"][0]["schedule"], "host/tidy");
    let done = done.then(["show", "backup", "--json"]).succeeds();
    assert_eq!(done.json()["schedules"], json!([]), "it is another system's");
}

#[test]
fn a_schedule_that_is_wrong_is_told_and_silences_no_other() {
    let project = project().file("runbooks/systems/broken.toml", "[schedules.a]\ncron = \"60 * * * *\"\n");
    let done = project.command(["schedule", "list", "--json"]).succeeds();
    assert_eq!(column(&done, "schedule").len(), 4);
    let done = done.talks("broken.toml:2:8: `schedules.a.cron`: the minute `60` is out of range, expected 0 to 59");
    let _ = done.then(["schedule", "explain", "0 9 * * 6-1"]).exits(2).talks("the day of the week `6-1` ends before it begins");
}

#[test]
fn a_rule_is_asked_about_without_a_schedule() {
    let done = project()
        .command(["schedule", "next", "30 2 * * *", "--tz", "America/New_York", "--from", "2026-03-07 12:00", "-n", "2", "--json"])
        .succeeds();
    assert_eq!(column(&done, "due"), ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]);
    assert_eq!(column(&done, "marks"), [json!(["dst-gap"]), json!([])]);
    let done = done.then(["schedule", "explain", "shop/backup", "--from", "2026-11-01", "--json"]).succeeds();
    let json = done.json();
    assert_eq!((json["timezone"].as_str(), json["changes"][0]["after"].as_str()), (Some("Europe/Berlin"), Some("2027-03-28T03:00:00")));
    let done = done.then(["schedule", "simulate", "--year", "2026", "-s", "shop", "--json"]).succeeds();
    assert_eq!(done.json()["schedules"][0]["ticks"], 365);
    let _ = done.then(["schedule", "simulate", "--year", "2200"]).exits(2);
}

#[test]
fn a_pause_and_a_skip_are_seen_by_everyone_and_on_record() {
    let done = project().command(["schedule", "pause", "backup", "--for", "2h", "--reason", "freeze", "--json"]).succeeds();
    assert_eq!(done.json()["paused"]["reason"], "freeze");
    let done = done.then(["schedule", "skip", "shop/check", "-n", "3", "--json"]).succeeds();
    assert_eq!(done.json()["skip"], 3);
    let done = done.then(["schedule", "list", "--json"]).succeeds();
    assert_eq!((done.json()[0]["paused"]["by"].as_str(), done.json()[1]["skip"].as_u64()), (Some("maya"), Some(3)));
    let done = done.then(["schedule", "resume", "backup", "--json"]).succeeds();
    assert!(done.json()["paused"].is_null());
    // All of a system, and all there is.
    let done = done.then(["schedule", "pause", "-s", "shop"]).succeeds().talks("every schedule of shop is paused");
    let done = done.then(["schedule", "resume", "-s", "shop"]).succeeds();
    let done = done.then(["schedule", "pause", "--all"]).succeeds();
    let done = done.then(["schedule", "list"]).succeeds().says("paused by maya");
    let done = done.then(["audit", "--json"]).succeeds();
    let acts: Vec<String> = column(&done, "action").iter().rev().step_by(2).map(|action| action.as_str().unwrap().to_owned()).collect();
    assert_eq!(acts, ["pause-schedule", "skip-schedule", "resume-schedule", "pause-schedule", "resume-schedule", "pause-schedule"]);
    let done = done.then(["schedule", "pause", "bakcup"]).exits(2).talks("did you mean");
    let _ = done.then(["schedule", "pause", "backup", "--until", "2020-01-01"]).exits(2);
}

#[test]
fn why_tells_what_would_have_been_when_nothing_was_written() {
    let done = project().command(["schedule", "why", "backup", "2020-01-01 02:30", "--json"]).succeeds();
    assert_eq!(column(&done, "verdict"), ["unknown", "not-due"]);
    let done = done.then(["schedule", "why", "backup", "2090-01-01 02:30", "-s", "shop"]).succeeds();
    let done = done.says("shop/backup").says("expected").says("shop/off").says("at 00:00");
    let _ = done.then(["schedule", "why", "nothing", "2026-01-01"]).exits(2).talks("no schedule runs `nothing`");
}
