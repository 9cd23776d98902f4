//! Locks: two runs that would disturb each other do not run at the same time.

use std::process::Child;

use crate::harness::{Project, wait_until};

/// Holds its lock until the file `go` is there; its clean-up writes `undone`.
fn holder(project: &Project) -> String {
    let (go, undone) = (project.path().join("go"), project.path().join("undone"));
    format!(
        r#"runbook(#{{ title: "t", lock: "data:${{system}}", allow: #{{ fs: #{{ read: ["{go}"], write: ["{undone}"] }} }} }});
        step("hold", || undo("say so", || fs::write("{undone}", "yes")));
        step("wait", || while !fs::exists("{go}") {{ wait("10ms"); }});"#,
        go = go.display(),
        undone = undone.display()
    )
}

const NEXT: &str = "runbook(#{ title: \"n\", lock: \"data:${system}\" }); log(\"it is my turn\");";

fn project() -> Project {
    let project = Project::new();
    let holder = holder(&project);
    project.runbook("holder", &holder).runbook("next", NEXT)
}

fn start(project: &Project) -> Child {
    let child = project.start(&["run", "holder"]);
    wait_until("the lock is held", || log_of(project, 1).contains("\"key\":\"wait\""));
    child
}

fn log_of(project: &Project, run: u64) -> String {
    std::fs::read_to_string(project.state().join(format!("runs/{run}/log.jsonl"))).unwrap_or_default()
}

fn let_go(project: &Project) {
    std::fs::write(project.path().join("go"), "").unwrap();
}

#[test]
fn a_run_whose_lock_is_held_is_skipped_and_recorded() {
    let project = project();
    let mut held = start(&project);
    let done = project.command(["run", "next", "--json"]).exits(6);
    let json = done.json();
    assert_eq!((json["status"].as_str(), json["exit_code"].as_u64()), (Some("skipped"), Some(6)));
    assert!(json["error"]["message"].as_str().unwrap().starts_with("`data:host` is held by holder #1 since "), "{json}");
    let done = done.then(["locks"]).succeeds().says("data:host").says("held").says("#1").says("maya");
    let done = done.then(["history", "--json"]).succeeds();
    assert_eq!(done.json()[0]["status"], "skipped");
    let_go(&done.project);
    assert!(held.wait().unwrap().success());
    let done = done.then(["locks"]).succeeds().talks("no run holds a lock");
    let _ = done.then(["run", "next"]).succeeds();
}

#[test]
fn a_run_that_waits_says_for_whom_and_runs_then() {
    let project = project();
    let mut held = start(&project);
    let mut next = project.start(&["run", "next", "--when-locked", "wait 1m"]);
    wait_until("it says what it waits for", || log_of(&project, 2).contains("waits for `data:host`, held by holder #1 since "));
    let done = project.command(["ps", "--json"]).succeeds();
    let states: Vec<String> = done.json().as_array().unwrap().iter().map(|run| run["status"].to_string()).collect();
    assert_eq!(states, ["\"queued\"", "\"running\""]);
    let_go(&done.project);
    assert!(held.wait().unwrap().success());
    assert!(next.wait().unwrap().success());
    let done = done.then(["report", "2", "--json"]).succeeds();
    assert_eq!(done.json()["status"], "succeeded");
    assert!(log_of(&done.project, 2).contains("it is my turn"));
}

/// How many processes queue for the lock of this state directory, as the kernel tells.
fn queued(project: &Project) -> usize {
    let lock = std::fs::read_dir(project.state().join("locks")).unwrap().next().unwrap().unwrap();
    let inode = format!(":{}", std::os::unix::fs::DirEntryExt::ino(&lock));
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    locks.lines().filter(|line| line.contains(" -> ") && line.split_whitespace().any(|word| word.ends_with(&inode))).count()
}

#[test]
fn who_waits_gets_its_turn_in_the_order_it_came() {
    const WAITING: usize = 5;
    let project = project();
    let mut held = start(&project);
    let waiting: Vec<Child> = (1..=WAITING)
        .map(|count| {
            let child = project.start(&["run", "next", "--when-locked", "wait 1h"]);
            wait_until("it queues", || queued(&project) == count);
            child
        })
        .collect();
    // One in the middle gives up, and holds nobody up.
    let done = project.command(["cancel", "4"]).succeeds();
    let_go(&done.project);
    assert!(held.wait().unwrap().success());
    let codes: Vec<Option<i32>> = waiting.into_iter().map(|mut child| child.wait().unwrap().code()).collect();
    assert_eq!(codes, [Some(0), Some(0), Some(143), Some(0), Some(0)]);
    let began = |run: u64| -> jiff::Timestamp {
        let log = log_of(&done.project, run);
        let line = log.lines().find(|line| line.contains("it is my turn")).unwrap();
        serde_json::from_str::<serde_json::Value>(line).unwrap()["at"].as_str().unwrap().parse().unwrap()
    };
    let began = [2, 3, 5, 6].map(began);
    assert!(began.is_sorted(), "{began:?}");
}

#[test]
fn who_waits_too_long_or_is_cancelled_does_not_run() {
    let project = project();
    let mut held = start(&project);
    let done =
        project.command(["run", "next", "--when-locked", "wait 100ms"]).exits(6).talks("is held by holder #1").talks("runbook logs 1 -f");
    let next = done.project.start(&["run", "next", "--when-locked", "wait 1h"]);
    wait_until("it waits", || log_of(&done.project, 3).contains("waits for"));
    let done = done.then(["cancel", "3", "--json"]).succeeds();
    assert_eq!(done.json()["status"], "cancelled");
    assert_eq!(next.wait_with_output().unwrap().status.code(), Some(143));
    assert!(!log_of(&done.project, 3).contains("it is my turn"));
    let_go(&done.project);
    held.wait().unwrap();
}

#[test]
fn a_run_that_replaces_lets_the_other_one_clean_up() {
    let project = project();
    let held = start(&project);
    let done = project.command(["run", "next", "--when-locked", "replace"]).succeeds().talks("replaces holder #1");
    assert_eq!(held.wait_with_output().unwrap().status.code(), Some(143));
    assert_eq!(std::fs::read_to_string(done.project.path().join("undone")).unwrap(), "yes");
    let done = done.then(["report", "1", "--json"]).exits(0);
    assert_eq!(done.json()["status"], "cancelled");
}

#[test]
fn the_death_of_its_owner_frees_a_lock_and_is_told() {
    let project = project();
    let mut held = start(&project);
    held.kill().unwrap();
    held.wait().unwrap();
    let done = project.command(["locks", "--json"]).succeeds();
    assert_eq!(done.json()[0]["state"], "left");
    let done = done.then(["doctor"]).run().says("`data:host` was left by holder #1, which was cut off");
    let done = done.then(["run", "next"]).succeeds().talks("`data:host` was left by holder #1, which was cut off");
    let _ = done.then(["locks"]).succeeds().talks("no run holds a lock");
}

#[test]
fn a_run_inside_a_run_that_holds_the_lock_does_not_wait_for_it() {
    let project = Project::new();
    let binary = env!("CARGO_BIN_EXE_runbook");
    let state = project.state();
    let outer = format!(
        r#"runbook(#{{ title: "o", lock: "data:${{system}}", when_locked: "wait 1m", allow: #{{ exec: ["host:{binary}"] }} }});
        let inner = exec::run(["{binary}", "-C", "{}", "run", "next", "--json"], #{{ env: #{{ STATE_DIRECTORY: "{}", HOME: "/" }} }});
        check("it ran", || inner.stdout.contains("\"status\": \"succeeded\""));"#,
        project.path().display(),
        state.display()
    );
    let _ = project.runbook("outer", &outer).runbook("next", NEXT).command(["run", "outer"]).succeeds();
}

#[test]
fn a_name_made_of_a_parameter_has_to_be_one() {
    let text = "runbook(#{ title: \"t\", params: #{ day: #{} }, lock: \"${params.day}\" });";
    let done =
        Project::new().runbook("test", text).command(["run", "test", "-p", "day=a\u{7}b"]).exits(2).talks("holds a control character");
    let _ = done.then(["run", "test", "-p", "day=mon"]).succeeds();
}
