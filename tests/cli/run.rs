//! `runbook run`.

use crate::harness::{Project, Test, wait_until};

const NOTHING: &str = "runbook(#{ title: \"nothing\" });";

#[test]
fn an_empty_runbook_succeeds_and_is_recorded() {
    let done = Test::script(NOTHING).succeeds();
    let json = done.json();
    assert_eq!((json["status"].as_str(), json["run"].as_u64(), json["exit_code"].as_u64()), (Some("succeeded"), Some(1), Some(0)));
    let history = done.then(["history", "--json"]).succeeds().json();
    assert_eq!(history[0]["runbook"], "test");
}

#[test]
fn steps_and_values_are_recorded_in_order() {
    let json = Test::script(
        "runbook(#{ title: \"t\" }); let a = step(\"one\", || 1); for i in 0..2 { step(\"again\", || a + 1); } output(\"sum\", a + 2);",
    )
    .succeeds()
    .json();
    let keys: Vec<_> = json["steps"].as_array().unwrap().iter().map(|step| step["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(keys, ["one", "again", "again#2"]);
    assert_eq!((json["steps"][1]["value"].clone(), json["outputs"]["sum"].clone()), (2.into(), 3.into()));
}

#[test]
fn the_worst_check_decides_the_exit_code() {
    for (answer, code) in [("true", 0), ("\"warning\"", 3), ("false", 1), ("()", 1), ("#{ level: \"unknown\" }", 1), ("fail(\"x\")", 1)] {
        let json =
            Test::script(&format!("runbook(#{{ title: \"t\" }}); check(\"ok\", || true); check(\"c\", || {answer});")).exits(code).json();
        assert_eq!(json["checks"].as_array().unwrap().len(), 2, "{answer}");
    }
}

#[test]
fn a_number_is_compared_with_its_limits() {
    let json = Test::script("runbook(#{ title: \"t\" }); check(\"c\", #{ limit: #{ warn: 80.0, alarm: 90.0 }, unit: \"%\" }, || 85);")
        .exits(3)
        .json();
    assert_eq!((json["checks"][0]["level"].as_str(), json["checks"][0]["value"].as_f64()), (Some("warning"), Some(85.0)));
}

#[test]
fn limits_may_be_whole_numbers() {
    let json = Test::script("runbook(#{ title: \"t\" }); check(\"c\", #{ limit: #{ warn: 2, alarm: 10 } }, || 3);").exits(3).json();
    assert_eq!(json["checks"][0]["level"], "warning");
    let _ = Test::script("runbook(#{ title: \"t\" }); check(\"c\", #{ limit: #{ warn: \"2\" } }, || 3);").exits(4);
}

#[test]
fn a_failed_run_takes_back_what_it_did_last_first() {
    let json = Test::script(
        "runbook(#{ title: \"t\" }); step(\"a\", || undo(\"a\", || log(\"back a\"))); step(\"b\", || undo(\"b\", || log(\"back b\"))); throw \"no\";",
    )
    .exits(1)
    .json();
    let undone: Vec<_> =
        json["steps"].as_array().unwrap().iter().filter(|step| step["undo"] == true).map(|step| step["name"].clone()).collect();
    assert_eq!(undone, ["b", "a"]);
    assert_eq!(json["error"]["message"], "no");
}

#[test]
fn a_retry_ends_with_the_first_success() {
    let json = Test::script(
        "runbook(#{ title: \"t\", allow: #{ store: [\"write:*\"] } });
         let tries = #{ n: 0 };
         step(\"flaky\", #{ retry: 3, backoff: \"1ms\" }, || { if sys_is_never() { 1 } else { throw #{ kind: \"timeout\", message: \"late\" } } });
         fn sys_is_never() { false }",
    )
    .exits(1)
    .json();
    assert_eq!((json["steps"][0]["attempt"].as_u64(), json["steps"][0]["status"].as_str()), (Some(4), Some("failed")));
}

#[test]
fn a_script_that_does_not_compile_exits_with_4_and_runs_nothing() {
    let done = Project::new().runbook("test", "runbook(#{ title: \"t\" });\nlet x = y;").command(["run", "test"]).exits(4);
    let done = done.talks("there is no variable `y`").talks("test.rhai:2:9");
    assert_eq!(done.then(["history", "--json"]).succeeds().json().as_array().unwrap().len(), 0);
}

#[test]
fn wrong_parameters_exit_with_2_and_are_all_named() {
    let text = "runbook(#{ title: \"t\", params: #{ keep: #{ type: \"int\", min: 1 }, host: #{ type: \"host\", required: true } } });";
    let done = Project::new().runbook("test", text).command(["run", "test", "-p", "keep=0", "-p", "hots=x"]).exits(2);
    let _ = done.talks("unknown parameter `hots`; did you mean `host`?").talks("parameter `host` is required").talks("0 is less than 1");
}

#[test]
fn an_unknown_runbook_exits_with_2_and_a_suggestion() {
    let _ = Project::new().runbook("backup", NOTHING).command(["run", "bakcup"]).exits(2).talks("did you mean `backup`?");
}

#[test]
fn an_interrupt_stops_after_clean_up_and_exits_with_130() {
    let project = Project::new().runbook(
        "test",
        "runbook(#{ title: \"t\" }); step(\"a\", || undo(\"a\", || log(\"taken back\"))); step(\"wait\", || wait(\"1h\"));",
    );
    let child = project.start(&["run", "test"]);
    wait_until("the run waits", || {
        std::fs::read_to_string(project.state().join("runs/1/log.jsonl")).is_ok_and(|log| log.contains("\"key\":\"wait\""))
    });
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let json = project.command(["report", "--json"]).succeeds().json();
    assert_eq!(json["status"], "cancelled");
    assert_eq!(json["steps"].as_array().unwrap().last().unwrap()["status"], "succeeded");
}

#[test]
fn what_is_not_asked_for_does_not_pass_the_check() {
    let _ = Project::new()
        .runbook("test", "runbook(#{ title: \"t\" });\nsys::memory();")
        .command(["run", "test"])
        .exits(4)
        .talks("`sys::memory` needs `read` of `sys`, which the header does not ask for");
}

#[test]
fn what_only_the_run_knows_is_denied_in_the_run() {
    let text = "runbook(#{ title: \"t\", allow: #{ secrets: [\"a\"] } }); let name = \"b\"; secret::exists(name);";
    let json = Test::script(text).exits(1).json();
    assert_eq!((json["error"]["kind"].as_str(), json["error"]["code"].as_str()), (Some("denied"), Some("RB3001")));
}

#[test]
fn a_step_value_must_be_plain_data() {
    let json = Test::script("runbook(#{ title: \"t\" }); step(\"a\", || || 1);").exits(1).json();
    assert!(json["error"]["message"].as_str().unwrap().contains("is a function, which can not be recorded"));
}

#[test]
fn nagios_gets_one_line_and_its_own_exit_codes() {
    let text = "runbook(#{ title: \"t\" }); check(\"disk /\", #{ limit: #{ warn: 80.0, alarm: 90.0 }, unit: \"%\" }, || 85);";
    let done = Project::new().runbook("test", text).command(["run", "test", "--format", "nagios"]).exits(1);
    assert_eq!(done.stdout, "WARNING: disk / | 'disk /'=85%;80;90\n");
}

#[test]
fn the_newest_errors_and_slow_statements_of_all_logs_come_from_their_reports() {
    let project = Project::new();
    let directory = project.path().display().to_string();
    let system = format!(
        "title = \"Logs\"\n[logs.api]\npath = \"{directory}/api.log\"\n[logs.db]\npath = \"{directory}/db.log\"\nformat = \"postgres\"\n"
    );
    let json = project
        .file("runbooks/systems/shop.toml", &system)
        .file("api.log", "2026-11-21 11:00:00,000 - app - ERROR - one\n2026-11-21 11:00:01,000 - app - INFO - two\n2026-11-21 11:00:02,000 - app - ERROR - three\n")
        .file("db.log", "2026-11-21 11:00:00.000 UTC [1] a@d ERROR:  four\n2026-11-21 11:00:01.000 UTC [1] a@d LOG:  duration: 2000.5 ms  statement: SELECT 1\n")
        .command(["run", "check-logs", "-s", "shop", "-p", "window=36500d", "-p", "tell=false", "--json"])
        .run()
        .json();
    let column = |output: &str, name: &str| -> Vec<String> {
        json["outputs"][output]["rows"].as_array().unwrap().iter().map(|row| row[name].to_string()).collect()
    };
    assert_eq!(column("newest errors", "log"), ["\"api\"", "\"api\"", "\"db\""]);
    assert!(column("newest errors", "text")[0].contains("three"), "{json}");
    assert_eq!(column("slow statements", "statement"), ["\"SELECT ?\""]);
}
