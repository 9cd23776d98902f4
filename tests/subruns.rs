//! Runs that start other runs: each is a run of its own, and a step of the one that started it.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Done, Project, wait_until};

/// A project with a directory `DIR` to write in, and these runbooks: name, what else its header says, and text.
fn project(runbooks: &[(&str, &str, &str)]) -> Project {
    let mut project = Project::new();
    let directory = project.path().join("work");
    std::fs::create_dir(&directory).unwrap();
    let directory = directory.to_str().unwrap().to_owned();
    for (name, header, text) in runbooks {
        let text = text.replace("DIR", &directory);
        let header = format!("runbook(#{{ title: \"{name}\", {header} }});").replace("DIR", &directory);
        project = project.runbook(name, &format!("{header}\n{text}\n"));
    }
    project
}

const WRITES: &str = "allow: #{ fs: #{ read: [\"DIR\"], write: [\"DIR\"], remove: [\"DIR\"] } }";
const STARTS: &str = "allow: #{ runs: [\"child\"], fs: #{ read: [\"DIR\"], write: [\"DIR\"], remove: [\"DIR\"] } }";

/// Everything a run puts into a file of its directory.
fn content(project: &Project, file: &str) -> String {
    std::fs::read_to_string(project.path().join("work").join(file)).unwrap_or_default()
}

fn run_of(done: Done, number: &str) -> (Done, Value) {
    let done = done.then(["report", number, "--json"]).succeeds();
    let json = done.json();
    (done, json)
}

#[test]
fn a_sub_run_is_a_run_and_a_step_and_its_outcome_the_answer() {
    let child = (
        "child",
        "params: #{ n: #{ type: \"int\", def: 1 } }",
        "check(\"fine\", || true); output(\"twice\", step(\"double\", || params::n * 2));",
    );
    let parent = (
        "parent",
        "allow: #{ runs: [\"child\"] }",
        "let first = run(\"child\", #{ n: 21 }); let second = run(\"child\"); output(\"got\", [first.outputs.twice, first.status, first.checks[0].name, first.run, second.outputs.twice]);",
    );
    let done = project(&[child, parent]).command(["run", "parent", "--json"]).succeeds();
    let json = done.json();
    assert_eq!(json["outputs"]["got"], serde_json::json!([42, "succeeded", "fine", 2, 2]), "{json}");
    let steps: Vec<_> = json["steps"].as_array().unwrap().iter().map(|step| (step["key"].clone(), step["run"].clone())).collect();
    assert_eq!(steps, [("run child".into(), 2.into()), ("run child#2".into(), 3.into())]);
    let (done, newest) = run_of(done, "last");
    assert_eq!(newest["run"], 1, "a part is not the newest run");
    let (done, child) = run_of(done, "2");
    assert_eq!((&child["parent"]["run"], &child["parent"]["step"], &child["trigger"]), (&1.into(), &"run child".into(), &"run".into()));
    assert_eq!((&child["params"]["n"], &child["by"]), (&21.into(), &"maya".into()));
    let done = done.then(["history"]).succeeds();
    assert!(done.stdout.lines().any(|line| line.contains("child") && line.contains("#1 ")), "{}", done.stdout);
    let done = done.then(["history", "--json"]).succeeds();
    assert_eq!(done.json()[0]["parent"]["run"], 1);
    let done = done.then(["report", "1"]).succeeds().says("run child#2").says("#3");
    let done = done.then(["report", "2"]).succeeds().says("in #1");
    let done = done.then(["logs", "1"]).succeeds().says("child #2");
    let _ = done.then(["audit", "verify"]).succeeds();
}

#[test]
fn to_start_a_runbook_has_to_be_granted() {
    let child = ("child", "", "log(\"hi\");");
    let without = ("parent", "", "run(\"child\");");
    let done = project(&[child, without]).command(["run", "parent"]).exits(4).talks("RB1201").talks("runs: [\"child\"]");
    let project = done
        .project
        .runbook("parent", "runbook(#{ title: \"p\", allow: #{ runs: [\"other\"] } });\nlet name = \"chi\" + \"ld\"; run(name);");
    let done = project.command(["run", "parent"]).exits(1).talks("`start` on `child` is not allowed");
    let project = done
        .project
        .runbook("parent", "runbook(#{ title: \"p\", allow: #{ runs: [\"child\"] } });\nrun(\"child\");")
        .file("runbook.toml", "[policy.deny]\nruns = [\"*\"]\n");
    let done = project.command(["show", "parent"]).succeeds().says("run child, with all that runbook may touch");
    let done = done.then(["run", "parent"]).exits(1).talks("not allowed by the policy");
    assert_eq!(done.then(["history", "--json", "-r", "child"]).succeeds().json(), serde_json::json!([]));
}

#[test]
fn another_system_is_another_power() {
    let child = ("child", "", "output(\"system\", system::name);");
    let parent = ("parent", "allow: #{ runs: [\"child\"] }", "run(\"child\", #{}, #{ system: \"shop\" });");
    let system = "title = \"Shop\"\n";
    let project = project(&[child, parent]).file("runbooks/systems/shop.toml", system);
    let done = project.command(["run", "parent"]).exits(1).talks("`elsewhere` on `child@shop` is not allowed");
    let text = "runbook(#{ title: \"p\", allow: #{ runs: [\"elsewhere:child@shop\"] } });\noutput(\"o\", run(\"child\", #{}, #{ system: \"shop\" }).outputs.system);";
    let project = done.project.runbook("parent", text);
    let done = project.command(["run", "parent", "--json"]).succeeds();
    assert_eq!(done.json()["outputs"]["o"], "shop");
}

#[test]
fn it_has_the_power_of_its_own_header_and_not_of_the_one_above() {
    let child = ("child", "allow: #{ fs: #{ read: [\"/nowhere\"] } }", "fs::write(\"DIR/x\", \"x\");");
    let done = project(&[child, ("parent", STARTS, "run(\"child\");")]).command(["run", "parent", "--json"]).exits(1);
    assert!(content(&done.project, "x").is_empty());
    let error = &done.json()["error"];
    // The check of the child finds it before anything runs.
    assert!(error["message"].as_str().unwrap().contains("does not pass the check"), "{error}");
    let child =
        "runbook(#{ title: \"c\", allow: #{ fs: #{ write: [\"/nowhere\"] } } });\nlet path = \"DIR\" + \"/x\"; fs::write(path, \"x\");";
    let child = child.replace("DIR", done.project.path().join("work").to_str().unwrap());
    let done = done.project.runbook("child", &child).command(["run", "parent", "--json"]).exits(1);
    assert_eq!((done.json()["error"]["kind"].as_str(), content(&done.project, "x").as_str()), (Some("denied"), ""));
}

#[test]
fn one_that_fails_is_an_error_that_names_it_and_is_taken_back_with_the_rest() {
    let child = ("child", WRITES, "undo(\"remove\", || fs::remove(\"DIR/child\")); fs::write(\"DIR/child\", \"x\"); fail(\"no room\");");
    let parent = (
        "parent",
        STARTS,
        "undo(\"tidy\", || fs::append(\"DIR/log\", if fs::exists(\"DIR/child\") { \"there\" } else { \"gone\" })); run(\"child\");",
    );
    let done = project(&[child, parent]).command(["run", "parent", "--json"]).exits(1);
    let error = &done.json()["error"];
    assert_eq!((error["message"].as_str(), error["kind"].as_str()), (Some("`child` #2 failed: no room"), Some("failed")));
    assert_eq!((error["target"].as_str(), content(&done.project, "log").as_str()), (Some("#2"), "gone"));
    let catches = "let kind = \"\"; try { run(\"child\"); } catch (error) { kind = error.kind; } output(\"kind\", kind);
        let answer = run(\"child\", #{}, #{ must_succeed: false }); output(\"answer\", [answer.status, answer.error.message]);";
    let text = format!("runbook(#{{ title: \"p\", allow: #{{ runs: [\"child\"] }} }});\n{catches}");
    let done = done.project.runbook("parent", &text).command(["run", "parent", "--json"]).succeeds();
    let outputs = &done.json()["outputs"];
    assert_eq!((&outputs["kind"], &outputs["answer"][0]), (&"failed".into(), &"failed".into()));
    assert_eq!(outputs["answer"][1], "`child` #5 failed: no room");
}

#[test]
fn bad_checks_are_a_failure_and_their_answers_can_be_had() {
    let child = ("child", "", "check(\"disk\", || false); check(\"load\", || true);");
    let parent = (
        "parent",
        "allow: #{ runs: [\"child\"] }",
        "let seen = run(\"child\", #{}, #{ must_succeed: false }); output(\"bad\", seen.checks.filter(|check| check.level != \"ok\").map(|check| check.name)); run(\"child\");",
    );
    let done = project(&[child, parent]).command(["run", "parent", "--json"]).exits(1);
    let json = done.json();
    assert_eq!(json["outputs"]["bad"], serde_json::json!(["disk"]));
    assert_eq!(json["error"]["message"], "`child` #3 failed: `disk`");
}

#[test]
fn what_would_be_above_itself_or_too_deep_does_not_start() {
    let first = ("first", "allow: #{ runs: [\"second\"] }", "run(\"second\");");
    let second = ("second", "allow: #{ runs: [\"first\"] }", "run(\"first\");");
    let done = project(&[first, second]).command(["run", "first"]).exits(1).talks("part of itself: first → second → first");
    let mut project = done.project;
    for depth in 0..10 {
        let text = format!("runbook(#{{ title: \"d\", allow: #{{ runs: [\"d{next}\"] }} }});\nrun(\"d{next}\");", next = depth + 1);
        project = project.runbook(&format!("d{depth}"), &text);
    }
    let _ =
        project.runbook("d10", "runbook(#{ title: \"d\" });").command(["run", "d0"]).exits(1).talks("more than 8 runs above each other");
}

#[test]
fn a_wrong_name_or_parameter_is_told_and_starts_nothing() {
    let child = ("child", "params: #{ n: #{ type: \"int\" } }", "log(\"hi\");");
    let parent = (
        "parent",
        "allow: #{ runs: [\"*\"] }",
        "let kinds = []; for order in [[\"chilt\", #{}], [\"child\", #{ n: \"x\" }], [\"child\", #{ m: 1 }], [\"../child.rhai\", #{}]] {
            try { run(order[0], order[1]); } catch (error) { kinds.push(error.kind); } } output(\"kinds\", kinds);",
    );
    let done = project(&[child, parent]).command(["run", "parent", "--json"]).succeeds();
    assert_eq!(done.json()["outputs"]["kinds"], serde_json::json!(["not_found", "invalid", "invalid", "not_found"]));
    assert_eq!(done.then(["history", "--json", "-r", "child"]).succeeds().json(), serde_json::json!([]));
}

const PARENT: &str = "step(\"before\", #{ idempotent: \"b\" }, || fs::append(\"DIR/log\", \"before\\n\"));
    let got = run(\"child\");
    step(\"after\", #{ idempotent: \"a\" }, || fs::append(\"DIR/log\", \"after\\n\"));
    output(\"got\", got.outputs.done);";
const CHILD: &str = "step(\"one\", #{ idempotent: \"1\" }, || fs::append(\"DIR/log\", \"one\\n\"));
    step(\"two\", || fs::append(\"DIR/log\", \"two\\n\"));
    output(\"done\", 7);";

#[test]
fn a_run_killed_anywhere_finds_its_sub_run_and_starts_none_twice() {
    let events = [
        "step-ended:before",
        "step-started:run child",
        "sub-run:run child",
        "started:run child/",
        "step-started:run child/one",
        "step-ended:run child/one",
        "step-started:run child/two",
        "step-ended:run child/two",
        "output:run child/done",
        "ended:run child/",
        "step-ended:run child",
        "step-started:after",
    ];
    for event in events {
        let project = project(&[("child", WRITES, CHILD), ("parent", STARTS, PARENT)]);
        let done = project.command(["run", "parent", "--crash-after", event]).exits(-9);
        let done = done.then(["resume", "1", "--json"]).run();
        assert_eq!(done.code, 0, "{event}: {}", done.stderr);
        assert_eq!(done.json()["outputs"]["got"], 7, "{event}");
        assert_eq!(content(&done.project, "log"), "before\none\ntwo\nafter\n", "{event}");
        let done = done.then(["history", "--json"]).succeeds();
        let runs: Vec<_> = done.json().as_array().unwrap().iter().map(|run| (run["run"].clone(), run["status"].clone())).collect();
        assert_eq!(runs, [(2.into(), "succeeded".into()), (1.into(), "succeeded".into())], "{event}");
        let _ = done.then(["audit", "verify"]).succeeds();
    }
}

#[test]
fn a_sub_run_in_doubt_is_decided_about_and_the_run_goes_on() {
    let project = project(&[("child", WRITES, CHILD), ("parent", STARTS, PARENT)]);
    let done = project.command(["run", "parent", "--crash-after", "effect:run child/two"]).exits(-9);
    let done = done
        .then(["resume", "1"])
        .exits(5)
        .talks("`child` #2 waits for a person")
        .talks("runbook resume 2 --step 'two=done'")
        .talks("after that: runbook resume 1");
    let done = done.then(["ps"]).succeeds().says("needs-attention");
    let done = done.then(["resume", "2", "--step", "two=redo"]).succeeds();
    let done = done.then(["resume", "1", "--json"]).succeeds();
    assert_eq!((done.json()["outputs"]["got"].as_u64(), content(&done.project, "log").as_str()), (Some(7), "before\none\ntwo\nafter\n"));
}

#[test]
fn one_that_failed_goes_on_with_the_run_it_is_part_of() {
    let child = (
        "child",
        WRITES,
        "step(\"one\", || fs::append(\"DIR/log\", \"one\\n\")); step(\"two\", || if !fs::exists(\"DIR/go\") { fail(\"no\") });",
    );
    let done = project(&[child, ("parent", STARTS, "run(\"child\");")]).command(["run", "parent"]).exits(1);
    let project = done.project.file("work/go", "");
    let done = project.command(["resume", "1"]).succeeds();
    assert_eq!(content(&done.project, "log"), "one\n");
    assert_eq!(done.then(["history", "--json"]).succeeds().json().as_array().unwrap().len(), 2);
}

/// Writes that it began, and runs until the file `go` is there.
const WAITS: &str = "undo(\"tidy\", || fs::append(\"DIR/log\", \"child undone\\n\")); fs::write(\"DIR/begun\", \"\");
    step(\"wait\", || while !fs::exists(\"DIR/go\") { wait(\"10ms\"); });";

fn begun(project: &Project, file: &Path) {
    wait_until("the sub-run began", || project.path().join(file).exists());
}

#[test]
fn who_cancels_a_run_ends_its_sub_run_first_and_then_takes_back() {
    let parent =
        "undo(\"above\", || fs::append(\"DIR/log\", \"parent undone\\n\")); run(\"child\"); fs::append(\"DIR/log\", \"went on\\n\");";
    let project = project(&[("child", WRITES, WAITS), ("parent", STARTS, parent)]);
    let mut running = project.start(&["run", "parent"]);
    begun(&project, Path::new("work/begun"));
    let done = project.command(["cancel", "2"]).exits(2).talks("run #2 is part of #1");
    let done = done.then(["cancel", "1"]).succeeds();
    assert_eq!(running.wait().unwrap().code(), Some(143));
    assert_eq!(content(&done.project, "log"), "child undone\nparent undone\n");
    let done = done.then(["history", "--json"]).succeeds();
    let states: Vec<_> = done.json().as_array().unwrap().iter().map(|run| run["status"].clone()).collect();
    assert_eq!(states, ["cancelled", "cancelled"]);
}

#[test]
fn a_time_limit_above_or_in_the_options_ends_it() {
    let header = format!("timeout: \"10s\", {STARTS}");
    let done = project(&[("child", WRITES, WAITS), ("parent", &header, "run(\"child\");")]).command(["run", "parent"]).exits(124);
    assert_eq!(run_of(done, "2").1["status"], "cancelled");
    let parent = (
        "parent",
        STARTS,
        "let kind = \"\"; try { run(\"child\", #{}, #{ timeout: \"2s\" }); } catch (error) { kind = error.kind; } output(\"kind\", kind);",
    );
    let done = project(&[("child", WRITES, WAITS), parent]).command(["run", "parent", "--json"]).succeeds();
    assert_eq!(done.json()["outputs"]["kind"], "timeout");
    assert_eq!(run_of(done, "2").1["status"], "timed-out");
    let parent = ("parent", STARTS, "step(\"short\", #{ timeout: \"2s\" }, || run(\"child\"));");
    let done = project(&[("child", WRITES, WAITS), parent]).command(["run", "parent", "--json"]).exits(1);
    assert_eq!(done.json()["error"]["kind"], "timeout");
}

#[test]
fn sub_runs_in_parallel_are_runs_beside_each_other() {
    let child = (
        "child",
        "params: #{ n: #{ type: \"int\" } }, allow: #{ fs: #{ read: [\"DIR\"], write: [\"DIR\"] } }",
        "step(\"meet\", || { fs::write(`DIR/here-${params::n}`, \"\"); for n in 0..3 { while !fs::exists(`DIR/here-${n}`) { wait(\"10ms\"); } } params::n }); output(\"n\", params::n);",
    );
    let parent = ("parent", STARTS, "output(\"all\", parallel([0, 1, 2], |n| step(`part ${n}`, || run(\"child\", #{ n: n }).outputs.n)));");
    let done = project(&[child, parent]).command(["run", "parent", "--json"]).succeeds();
    assert_eq!(done.json()["outputs"]["all"], serde_json::json!([0, 1, 2]));
    let done = done.then(["history", "--json"]).succeeds();
    let mut steps: Vec<_> =
        done.json().as_array().unwrap().iter().filter_map(|run| run["parent"]["step"].as_str().map(str::to_owned)).collect();
    steps.sort();
    assert_eq!(steps, ["[0]/part 0/run child", "[1]/part 1/run child", "[2]/part 2/run child"]);
}

#[test]
fn a_lock_that_is_held_above_is_no_dead_end_and_siblings_take_turns() {
    let lock = "lock: \"data\", when_locked: \"wait 1m\"";
    let text = "let other = \"DIR/in\"; if fs::exists(other) { fail(\"two at once\"); } fs::write(other, \"\"); wait(\"50ms\"); fs::remove(other);";
    let (below, above) = (format!("{lock}, params: #{{ n: #{{ type: \"int\" }} }}, {WRITES}"), format!("{lock}, {STARTS}"));
    let parent = ("parent", above.as_str(), "parallel([1, 2, 3], |n| run(\"child\", #{ n: n }));");
    let done = project(&[("child", &below, text), parent]).command(["run", "parent"]).succeeds();
    let done = done.then(["locks"]).succeeds().talks("no run holds a lock");
    assert_eq!(done.then(["history", "--json", "--status", "succeeded"]).succeeds().json().as_array().unwrap().len(), 4);
}

const DESTROYS: &str = "danger: \"destructive\", allow: #{ fs: #{ read: [\"DIR\"], write: [\"DIR\"], remove: [\"DIR\"] } }";

#[test]
fn a_plan_shows_what_sub_runs_would_do_and_covers_it() {
    let child = ("child", DESTROYS, "fs::remove(\"DIR/data\");");
    let parent = ("parent", STARTS, "step(\"mark\", || fs::write(\"DIR/mark\", \"m\")); run(\"child\");");
    let project = project(&[child, parent]).file("work/data", "x");
    let done =
        project.command(["plan", "parent"]).succeeds().says("run child").says("destructive").says("1 to add, 0 to change, 1 to delete");
    let done = done.then(["plan", "parent", "--json"]).succeeds();
    let plan = done.json();
    assert_eq!(plan["steps"][1]["run"]["runbook"], "child");
    let id = plan["id"].as_str().unwrap();
    assert!(done.project.path().join("work/data").exists());
    // It is unattended, and a part of it destructive: it needs an approval, which covers the part.
    let done = done.then(["run", "--plan", id]).exits(5).talks("needs an approval");
    let done = done.then(["approve", id, "--reason", "yes"]).succeeds();
    let done = done.then(["run", "--plan", id]).succeeds();
    assert!(!done.project.path().join("work/data").exists());
    let done = done.then(["history", "--json"]).succeeds();
    assert_eq!(done.json().as_array().unwrap().len(), 2);
}

#[test]
fn what_a_sub_run_does_beside_the_plan_is_refused() {
    let child = ("child", WRITES, "fs::write(\"DIR/x\", \"planned\");");
    let done = project(&[child, ("parent", STARTS, "run(\"child\");")]).command(["plan", "parent", "--json"]).succeeds();
    let id = done.json()["id"].as_str().unwrap().to_owned();
    let project = done.project.file("work/x", "someone was here");
    let done = project.command(["run", "--plan", &id]).exits(1).talks("things are not as they were");
    assert_eq!(content(&done.project, "x"), "someone was here");
    let done = done.then(["plan", "parent", "--json"]).succeeds();
    let id = done.json()["id"].as_str().unwrap().to_owned();
    let directory = done.project.path().join("work").display().to_string();
    let other = format!("runbook(#{{ title: \"c\", {WRITES} }});\nfs::write(\"DIR/x\", \"planned\"); // more").replace("DIR", &directory);
    let done =
        done.project.runbook("child", &other).command(["run", "--plan", &id]).exits(1).talks("`runbooks/child.rhai` is not the text");
    assert_eq!(content(&done.project, "x"), "someone was here");
}

#[test]
fn a_plan_does_not_guess_what_follows_from_a_sub_run() {
    let child = ("child", WRITES, "fs::write(\"DIR/x\", \"x\"); output(\"n\", 1);");
    let parent = (
        "parent",
        STARTS,
        "let got = run(\"child\"); step(\"use\", || fs::write(\"DIR/y\", `${got.outputs.n}`)); if fs::exists(\"DIR/x\") { fs::remove(\"DIR/x\"); }",
    );
    let done = project(&[child, parent]).command(["plan", "parent", "--json"]).succeeds();
    let plan = done.json();
    assert!(plan["unknown"].as_str().unwrap().contains("fs::exists"), "{plan}");
    assert_eq!(plan["steps"][1]["effects"][0]["exact"], false);
    // What is written above is not there yet when the plan of the sub-run looks.
    let child = ("child", WRITES, "if fs::exists(\"DIR/x\") { fs::remove(\"DIR/x\"); }");
    let done = project(&[child, ("parent", STARTS, "fs::write(\"DIR/x\", \"x\"); run(\"child\");")])
        .command(["plan", "parent", "--json"])
        .succeeds();
    let plan = done.json();
    assert!(plan["steps"][1]["run"]["unknown"].as_str().unwrap().contains("fs::exists"), "{plan}");
}

#[test]
fn something_destructive_that_is_in_no_plan_asks_for_itself() {
    let child = ("child", DESTROYS, "fs::remove(\"DIR/data\");");
    let project = project(&[child, ("parent", STARTS, "run(\"child\");")]).file("work/data", "x");
    for (number, answer, code, is_there) in [("1", "deny", 1, true), ("2", "approve", 0, false)] {
        let mut running = project.start(&["run", "parent", "--yes"]);
        // The log says so a moment before the record does, by which it is answered.
        let asks = || project.start(&["ps", "--json"]).wait_with_output().unwrap().stdout;
        wait_until("it waits for a person", || String::from_utf8_lossy(&asks()).contains("\"waiting\""));
        let answered = project.start(&[answer, number, "--reason", "because"]).wait_with_output().unwrap();
        assert!(answered.status.success(), "{}", String::from_utf8_lossy(&answered.stderr));
        assert_eq!(running.wait().unwrap().code(), Some(code), "{answer}");
        assert_eq!(project.path().join("work/data").exists(), is_there, "{answer}");
    }
}

#[test]
fn a_planned_run_that_was_cut_off_goes_on_as_planned() {
    let child = ("child", DESTROYS, "step(\"first\", || fs::write(\"DIR/first\", \"1\")); step(\"second\", || fs::remove(\"DIR/data\"));");
    let project = project(&[child, ("parent", STARTS, "run(\"child\");")]).file("work/data", "x");
    let done = project.command(["plan", "parent", "--json"]).succeeds();
    let id = done.json()["id"].as_str().unwrap().to_owned();
    let done = done.then(["approve", &id, "--reason", "yes"]).succeeds();
    let done = done.then(["run", "--plan", &id, "--crash-after", "step-ended:run child/first"]).exits(-9);
    let done = done.then(["resume", "1"]).succeeds();
    assert_eq!((content(&done.project, "first").as_str(), content(&done.project, "data").as_str()), ("1", ""));
    let _ = done.then(["run", "--plan", &id]).exits(6).talks("RB3202");
}

#[test]
fn who_may_not_run_a_runbook_does_not_run_it_through_another_one() {
    let roles = "[policy.roles.some]\nmembers = [\"*\"]\nrunbooks = [\"parent\"]\nmay = [\"run\"]\n";
    let project = project(&[("child", "", "log(\"hi\");"), ("parent", STARTS, "run(\"child\");")]).file("runbook.toml", roles);
    let done = project.command(["run", "parent"]).exits(1).talks("may not run `child`");
    let done = done.then(["audit"]).succeeds().says("refuse").says("child");
    let _ = done.then(["plan", "parent"]).exits(6).talks("may not plan `child`");
}

#[test]
fn one_that_goes_on_is_the_one_that_was_asked_for() {
    let child = (
        "child",
        "params: #{ n: #{ type: \"int\" } }, allow: #{ fs: #{ write: [\"DIR\"] } }",
        "fs::append(\"DIR/log\", `${params::n}\n`); step(\"end\", || 1);",
    );
    let parent = ("parent", STARTS, "let n = fs::read(\"DIR/n\").parse_int(); run(\"child\", #{ n: n });");
    let project = project(&[child, parent]).file("work/n", "1");
    let done = project.command(["run", "parent", "--crash-after", "step-started:run child/end"]).exits(-9);
    let project = done.project.file("work/n", "2");
    let done = project.command(["resume", "1"]).exits(1).talks("diverged at step `run child`: #2 was started with other parameters");
    assert_eq!(content(&done.project, "log"), "1\n", "nothing was done for the other one");
    let project = done.project.file("work/n", "1");
    let done = project.command(["resume", "1"]).succeeds();
    assert_eq!(content(&done.project, "log"), "1\n");
    assert_eq!(done.then(["history", "--json"]).succeeds().json().as_array().unwrap().len(), 2);
}

/// The worker of a run, by the process that watches over it, once it has this many.
fn workers(supervisor: u32, count: usize) -> Vec<u32> {
    let children = || {
        let tasks = std::fs::read_dir(format!("/proc/{supervisor}/task")).unwrap();
        let lists = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
        lists.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()).collect::<Vec<u32>>()
    };
    wait_until("the workers are there", || children().len() >= count);
    let mut found = children();
    found.sort_unstable();
    found
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// One of the two workers is killed: that of the child ends the step it is, that of the parent ends both runs.
#[test]
fn a_killed_worker_ends_its_run_and_what_is_below_and_both_go_on() {
    for (of_child, code) in [(true, 1), (false, 1)] {
        let project = project(&[("child", WRITES, WAITS), ("parent", STARTS, "run(\"child\"); fs::append(\"DIR/log\", \"after\\n\");")]);
        let mut running = project.start(&["run", "parent"]);
        wait_until("the child has begun", || project.path().join("work/begun").exists());
        let both = workers(running.id(), 2);
        // The worker of the parent was started first.
        kill(if of_child { both[1] } else { both[0] });
        assert_eq!(running.wait().unwrap().code(), Some(code), "of the child: {of_child}");
        for worker in both {
            wait_until("nothing is left", || !Path::new(&format!("/proc/{worker}")).exists());
        }
        let (done, parent) = run_of(project.command(["ps"]).run(), "1");
        let (done, child) = run_of(done, "2");
        let statuses = (parent["status"].as_str().unwrap(), child["status"].as_str().unwrap());
        let wanted = if of_child { ("failed", "interrupted") } else { ("interrupted", "cancelled") };
        assert_eq!(statuses, wanted, "of the child: {of_child}");
        let _ = done;
    }
}
