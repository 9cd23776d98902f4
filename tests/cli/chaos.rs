//! `runbook test --chaos`.

use serde_json::Value;

use crate::harness::{Done, Project, with_tmp};

/// Steps of each sort: one that may run again, one that asks the world, one that says nothing.
const PUBLISH: &str = r#"
runbook(#{ title: "Publish", allow: #{ fs: #{ read: ["/tmp"], write: ["/tmp"], remove: ["/tmp"] } } });
let page = "/tmp/page";
undo("take the page away", #{ idempotent: "page" }, || if fs::exists(page) { fs::remove(page); });
step("write", #{ verify: || fs::exists(page) }, || { fs::write(page, "hello"); });
step("count", #{ idempotent: "count" }, || { fs::append("/tmp/count", "1"); });
step("announce", || { fs::append("/tmp/news", "there is a page\n"); });
"#;

/// Has the world as it was.
const CLEAR: &str = r#"
runbook(#{ title: "Clear", allow: #{ fs: #{ read: ["/tmp"], remove: ["/tmp"] } } });
for name in ["page", "count", "news"] { if fs::exists("/tmp/" + name) { fs::remove("/tmp/" + name); } }
"#;

/// The verdicts on a step: when it fails, and when it is killed before it, in it and after it.
fn verdicts(json: &Value, step: &str) -> [String; 4] {
    let rows = json["steps"].as_array().unwrap();
    let row = rows.iter().find(|row| row["step"] == step).unwrap_or_else(|| panic!("`{step}` is not in {json}"));
    ["fails", "killed_before", "killed_in", "killed_after"].map(|column| row[column]["verdict"].as_str().unwrap().to_owned())
}

fn publish(arguments: &[&str]) -> (tempfile::TempDir, Done) {
    let tmp = tempfile::tempdir().unwrap();
    let project = Project::new().runbook("publish", &with_tmp(PUBLISH, tmp.path())).runbook("clear", &with_tmp(CLEAR, tmp.path()));
    let done = project.command(["test", "publish", "--chaos"].into_iter().chain(arguments.iter().copied())).run();
    (tmp, done)
}

#[test]
fn each_step_is_told_by_what_it_declares() {
    let (_tmp, done) = publish(&["--between", "clear", "--json"]);
    assert_eq!(done.code, 1, "{}{}", done.stdout, done.stderr);
    let json = done.json();
    assert_eq!(verdicts(&json, "write"), ["nothing", "once", "once", "once"]);
    assert_eq!(verdicts(&json, "count"), ["taken-back", "once", "again", "once"]);
    // Nothing takes the count back, and nobody knows whether the news are out.
    assert_eq!(verdicts(&json, "announce"), ["left", "once", "asks", "once"]);
    let left = &json["steps"][2]["fails"]["what"];
    assert!(left[0].as_str().unwrap().starts_with("fs::append") && left.as_array().unwrap().len() == 1, "{left}");
}

#[test]
fn the_record_of_the_user_has_one_act_and_no_run() {
    let (_tmp, done) = publish(&["--between", "clear"]);
    let done =
        done.says("STEP").says("KILLED IN IT").says("an `undo` before its step takes it back").then(["history", "--json"]).succeeds();
    assert_eq!(done.json().as_array().unwrap().len(), 0);
    let _ = done.then(["audit"]).succeeds().says("chaos of publish for host");
}

#[test]
fn a_case_is_cut_off_without_touching_anything() {
    let cases = "[[case]]\nname = \"ends\"\n[[case.answer]]\ncall = \"fs::exists\"\nreturns = true\n";
    let project = Project::new().runbook("publish", PUBLISH).file("runbooks/publish.test.toml", cases);
    let done = project.command(["test", "publish", "--chaos", "--case", "ends", "--json"]).exits(1);
    let json = done.json();
    assert_eq!(verdicts(&json, "write"), ["nothing", "once", "once", "once"]);
    assert_eq!(verdicts(&json, "announce"), ["left", "once", "asks", "once"]);
    assert!(!done.project.state().exists(), "the record of the user is not there");
    let _ = done.then(["test", "publish", "--chaos", "--case", "end"]).exits(2).talks("did you mean `ends`?");
}

#[test]
fn steps_of_a_sub_run_are_cut_off_too() {
    let tmp = tempfile::tempdir().unwrap();
    let inner = "runbook(#{ title: \"Inner\", allow: #{ fs: #{ read: [\"/tmp\"], write: [\"/tmp\"] } } });\nstep(\"add\", || { fs::append(\"/tmp/news\", \"x\"); });";
    let outer = "runbook(#{ title: \"Outer\", allow: #{ runs: [\"inner\"] } });\nrun(\"inner\");";
    let project = Project::new().runbook("inner", &with_tmp(inner, tmp.path())).runbook("outer", outer);
    let done = project.command(["test", "outer", "--chaos", "--json"]).run();
    let json = done.json();
    assert_eq!(verdicts(&json, "run inner/add"), ["nothing", "once", "asks", "once"]);
    assert_eq!(verdicts(&json, "run inner")[1..], ["once", "once", "once"]);
}

#[test]
fn what_is_dangerous_is_not_let_fail_without_a_word() {
    let of = |danger: &str| format!("runbook(#{{ title: \"t\", danger: \"{danger}\" }});\nstep(\"a\", || 1);");
    let done = Project::new().runbook("a", &of("disruptive")).command(["test", "a", "--chaos"]).exits(6).talks("`--yes`");
    let done = done.then(["test", "a", "--chaos", "--yes"]).succeeds().says("nothing to take back");
    let done = done.project.runbook("a", &of("destructive")).command(["test", "a", "--chaos", "--yes"]).exits(6).talks("--case");
    let done = done.project.runbook("a", "runbook(#{ title: \"t\" });\nask(\"go on?\");").command(["test", "a", "--chaos"]).exits(2);
    let _ = done.talks("asks people");
}

/// A recovery, cut off anywhere, goes on, does nothing twice but what it may, and waits for nobody.
fn goes_on(runbook: &str, case: &str) {
    let done = Project::new().command(["test", runbook, "--chaos", "--case", case, "--json"]).run();
    let json = done.json();
    let steps = json["steps"].as_array().unwrap();
    assert!(steps.len() > 5, "{json}");
    for row in steps {
        let [_, killed @ ..] = verdicts(&json, row["step"].as_str().unwrap());
        assert!(killed.iter().all(|verdict| ["once", "again"].contains(&verdict.as_str())), "{row}");
    }
}

#[test]
fn the_recovery_of_memory_goes_on() {
    goes_on("recover-memory", "the service that uses the most is restarted when it may be");
}

#[test]
fn the_recovery_of_the_processors_goes_on() {
    goes_on("recover-cpu", "the service that is the busiest twice is restarted");
}

#[test]
fn the_recovery_of_connections_goes_on() {
    goes_on("recover-db-connection", "when too many are connected, idle sessions of the application are ended");
}

#[test]
fn the_recovery_of_a_database_that_is_down_goes_on() {
    goes_on("recover-db-connection", "one that is down is started, and never restarted");
}

#[test]
fn the_recovery_of_slow_statements_goes_on() {
    goes_on("recover-db-performance", "a long statement is cancelled, and stale statistics are made anew");
}
