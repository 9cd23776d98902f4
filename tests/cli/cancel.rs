//! `runbook cancel`.

use crate::harness::{Project, wait_until};

const WAITS: &str = "runbook(#{ title: \"t\" }); step(\"a\", || undo(\"a\", || log(\"taken back\"))); step(\"wait\", || wait(\"1h\"));";
/// Its clean-up takes longer than anybody waits.
const CLEANS_LONG: &str = "runbook(#{ title: \"t\" }); step(\"a\", || undo(\"a\", || wait(\"1h\"))); step(\"wait\", || wait(\"1h\"));";

fn start(project: &Project) -> std::process::Child {
    let child = project.start(&["run", "test"]);
    wait_until("the run waits", || log_of(project).contains("\"key\":\"wait\""));
    child
}

fn log_of(project: &Project) -> String {
    std::fs::read_to_string(project.state().join("runs/1/log.jsonl")).unwrap_or_default()
}

#[test]
fn a_run_is_stopped_after_its_clean_up() {
    let project = Project::new().runbook("test", WAITS);
    let child = start(&project);
    let done = project.command(["cancel", "last", "--json"]).succeeds();
    let json = done.json();
    assert_eq!((json["status"].as_str(), json["exit_code"].as_u64()), (Some("cancelled"), Some(143)));
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
    assert!(log_of(&done.project).contains("taken back"));
}

#[test]
fn at_once_does_not_wait_for_the_clean_up() {
    let project = Project::new().runbook("test", CLEANS_LONG);
    let child = start(&project);
    let done = project.command(["cancel", "1", "--now"]).succeeds().says("#1").says("cancelled");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
    let _ = done.then(["ps"]).succeeds().talks("nothing runs");
}

#[test]
fn a_run_that_is_over_or_was_never_there_is_refused() {
    let done = Project::new().runbook("test", "runbook(#{ title: \"t\" });").command(["run", "test"]).succeeds();
    let done = done.then(["cancel", "1"]).exits(2).talks("run #1 is over: succeeded");
    let _ = done.then(["cancel", "7"]).exits(2).talks("there is no run `7`");
}

#[test]
fn a_run_whose_process_was_killed_says_so() {
    let project = Project::new().runbook("test", WAITS);
    let mut child = start(&project);
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = project.command(["cancel", "1"]).exits(2).talks("run #1 was interrupted").talks("runbook resume 1");
}
