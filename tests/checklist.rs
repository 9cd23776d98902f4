//! checklist-run: what is done, what failed, what waits for whom; and that each is told once.

use serde_json::Value;

use crate::harness::sink::Sink;
use crate::harness::{Done, Project, wait_until};

const GOOD: &str = "runbook(#{ title: \"good\" });\ncheck(\"fine\", || true);";
const BAD: &str = "runbook(#{ title: \"bad\" });\ncheck(\"one thing\", || false);";

/// A system with one item of each sort.
fn shop(sink: &Sink, language: &str) -> Project {
    let system = format!(
        r#"
title = "小店"
language = "{language}"
timezone = "UTC"
[routes]
report = ["chat"]
[contacts.chat]
kind = "webhook"
url = "{}"
per_minute = 1000
[contacts.dba]
kind = "person"
who = "数据库管理员"
[checklists]
daily = [
    {{ text = "服务运行状态", run = "good" }},
    {{ text = "错误日志检查", run = "bad" }},
    {{ text = "备份完成情况", newest = "backup", within = "26h" }},
    {{ text = "安全事件检查", by = "dba" }},
]
weekly = [{{ text = "慢查询优化", by = "dba" }}]
"#,
        sink.url("webhook")
    );
    Project::new()
        .file("runbooks/systems/shop.toml", &system)
        .file("runbook.toml", "default_system = \"shop\"\n")
        .runbook("good", GOOD)
        .runbook("bad", BAD)
        .runbook("backup", GOOD)
}

fn states(answer: &Value) -> Vec<&str> {
    let rows = answer["outputs"]["checklist"]["rows"].as_array().unwrap_or_else(|| panic!("{answer:#}"));
    rows.iter().map(|row| row["state"].as_str().unwrap()).collect()
}

fn told(sink: &Sink) -> Vec<String> {
    let words =
        |message: &Value| format!("{}\n{}", message["json"]["subject"].as_str().unwrap(), message["json"]["text"].as_str().unwrap());
    sink.accepted("webhook").iter().map(words).collect()
}

fn list(project: Project, more: &[&str]) -> Done {
    project.command(["run", "checklist-run", "--json"].into_iter().chain(more.iter().copied())).run()
}

#[test]
fn items_are_done_failed_or_pending_and_the_report_says_which() {
    let sink = Sink::new();
    let done = list(shop(&sink, "zh"), &[]);
    assert_eq!((done.code, states(&done.json())), (1, vec!["done", "failed", "failed", "pending"]), "{}", done.stderr);
    let messages = told(&sink);
    assert_eq!(messages.len(), 1);
    let lines: Vec<&str> = messages[0].lines().collect();
    assert!(lines[0].starts_with("[小店] 每日检查清单 ") && lines[0].ends_with("：完成 1，失败 2，待办 1"), "{messages:?}");
    for line in ["✖ 2. 错误日志检查：失败，bad #", "✖ 3. 备份完成情况：失败，backup，没有运行记录", "· 4. 安全事件检查：待办，数据库管理员"]
    {
        assert!(lines.iter().any(|found| found.starts_with(line)), "{line} in {messages:?}");
    }
}

#[test]
fn what_is_done_stays_done_what_failed_is_asked_again_and_nothing_is_told_twice() {
    let sink = Sink::new();
    let done = list(shop(&sink, "en"), &[]);
    let before = done.then(["history", "--json"]).succeeds();
    let runs = before.json().as_array().unwrap().len();
    let again = list(before.project, &[]);
    assert_eq!(states(&again.json()), ["done", "failed", "failed", "pending"]);
    assert_eq!(again.changes(), 0, "the failed one is run again, and nothing is kept or sent");
    let history = again.then(["history", "--json"]).succeeds();
    let since: Vec<String> = history.json().as_array().unwrap().iter().rev().skip(runs).map(|run| run["runbook"].to_string()).collect();
    assert!(!since.contains(&"\"good\"".to_owned()), "{since:?}");
    assert_eq!(told(&sink).len(), 1);
    let mended = history.project.runbook("bad", GOOD).command(["run", "backup"]).succeeds();
    let mended = list(mended.project, &[]);
    assert_eq!((mended.code, states(&mended.json())), (3, vec!["done", "done", "done", "pending"]));
    assert_eq!(told(&sink).len(), 2);
}

#[test]
fn a_person_answers_later_by_number_or_text_and_no_runbook_is_started() {
    let sink = Sink::new();
    let done = list(shop(&sink, "zh"), &["-p", "period=weekly"]);
    assert_eq!((done.code, states(&done.json())), (3, vec!["pending"]));
    let done = done.then(["run", "checklist-run", "-p", "period=weekly", "-p", "done=1"]).exits(1).talks("-p by=NAME");
    let done = list(done.project, &["-p", "period=weekly", "-p", "failed=慢查询优化", "-p", "by=王五", "-p", "note=缺索引"]);
    let answer = done.json();
    assert_eq!((done.code, states(&answer)), (1, vec!["failed"]));
    let row = &answer["outputs"]["checklist"]["rows"][0];
    assert_eq!((&row["by"], &row["detail"]), (&"王五".into(), &"缺索引".into()));
    let done = list(done.project, &["-p", "period=weekly", "-p", "done=1", "-p", "by=王五"]);
    assert_eq!((done.code, states(&done.json())), (0, vec!["done"]));
    let done = list(done.project, &["-p", "period=weekly"]);
    assert_eq!((done.code, states(&done.json())), (0, vec!["done"]), "it is kept for the week");
    assert_eq!(told(&sink).len(), 3);
    let done = done.then(["run", "checklist-run", "-p", "done=1", "-p", "by=王五"]).exits(1).talks("answered by good");
    let done = done.then(["run", "checklist-run", "-p", "done=9", "-p", "by=王五"]).exits(1).talks("it has 1 to 4");
    let _ = done.then(["run", "checklist-run", "-p", "period=hourly"]).exits(1).talks("it has daily, weekly");
}

#[test]
fn a_run_that_waits_takes_the_answer_of_whoever_approves() {
    let sink = Sink::new();
    let project = shop(&sink, "en");
    let run = project.start(&["run", "checklist-run", "--json", "-p", "period=weekly", "-p", "wait=true"]);
    wait_until("the run waits", || {
        let output = project.start(&["approvals"]).wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("慢查询优化?")
    });
    let done = project.command(["approve", "1", "--reason", "12 statements"]).env("SUDO_USER", "maya").succeeds();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["outputs"]["checklist"]["rows"][0]["by"], "maya");
    let _ = list(done.project, &["-p", "period=weekly"]).then(["ps"]).succeeds();
}

#[test]
fn a_run_killed_at_any_place_goes_on_and_tells_once() {
    for event in [
        "started",
        "step-ended:[0]/run good",
        "check",
        "step-started:keep the answers",
        "step-ended:keep the answers",
        "step-ended:send the report",
        "effect:keep the answers",
    ] {
        let sink = Sink::new();
        let done = shop(&sink, "en").command(["run", "checklist-run", "--crash-after", event]).exits(-9);
        let done = done.then(["resume", "last", "--json"]).exits(1);
        assert_eq!(states(&done.json()), ["done", "failed", "failed", "pending"], "{event}");
        let done = list(done.project, &[]);
        assert_eq!(states(&done.json()), ["done", "failed", "failed", "pending"], "{event}");
        assert_eq!(told(&sink).len(), 1, "{event}");
    }
}

#[test]
fn a_plan_starts_nothing_and_keeps_nothing() {
    let sink = Sink::new();
    let done = shop(&sink, "en").command(["plan", "checklist-run"]).succeeds().says("would fail");
    let done = done.then(["history", "--json"]).succeeds();
    assert_eq!(done.json().as_array().unwrap().len(), 0);
    assert!(told(&sink).is_empty());
}

#[test]
fn the_items_of_the_manuals_are_data_of_their_systems() {
    for (system, items) in [("education", 15), ("football", 15)] {
        let done = Project::new().command(["show", "checklist-run", "-s", system, "--json"]).run();
        assert_eq!(done.code, 0, "{}", done.stderr);
        let text = std::fs::read_to_string(format!("{}/runbooks/systems/{system}.toml", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(text.matches("    { text = ").count(), items, "{system}");
    }
}
