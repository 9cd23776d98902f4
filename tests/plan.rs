//! Plans, approvals, and runs that do what was planned and nothing else.

mod mutations;
mod targets;

use serde_json::Value;

use crate::harness::{Done, Project, Test, wait_until};

/// Some files, and what a plan of them depends on.
fn writes(project: &Project, body: &str) -> String {
    let at = project.path().display();
    format!(
        "runbook(#{{ title: \"t\", params: #{{ text: #{{ def: \"new\" }} }}, allow: #{{ fs: #{{ read: [\"{at}\"], write: [\"{at}\"], remove: [\"{at}\"] }}, exec: [\"/bin/echo\"], store: [\"write:*\"] }} }});\nconst AT = \"{at}\";\n{body}"
    )
}

fn project(body: &str) -> Project {
    let project = Project::new();
    let text = writes(&project, body);
    project.runbook("test", &text)
}

/// A plan of a runbook with this body.
fn planned(body: &str) -> (Done, Value) {
    let done = project(body).command(["plan", "test", "--json"]).succeeds();
    let plan = done.json();
    (done, plan)
}

fn id(plan: &Value) -> String {
    plan["id"].as_str().unwrap().to_owned()
}

fn text(done: &Done, name: &str) -> Option<String> {
    std::fs::read_to_string(done.project.path().join(name)).ok()
}

fn summaries(plan: &Value) -> Vec<String> {
    let effects = |step: &Value| step["effects"].as_array().cloned().unwrap_or_default();
    plan["steps"].as_array().unwrap().iter().flat_map(effects).map(|effect| effect["summary"].as_str().unwrap().to_owned()).collect()
}

const WRITES: &str = "step(\"write\", || fs::write(AT + \"/x\", params::text));";

#[test]
fn a_plan_changes_nothing_and_leaves_no_run() {
    let (done, plan) = planned(WRITES);
    assert!(summaries(&plan)[0].starts_with("create "), "{plan}");
    assert_eq!(text(&done, "x"), None);
    let done = done.then(["history", "--json"]).succeeds();
    assert_eq!(done.json().as_array().unwrap().len(), 0);
}

#[test]
fn its_exit_code_says_whether_there_is_something_to_do() {
    let done = project(WRITES).command(["plan", "test", "--exit-code"]).exits(7);
    let done = done.then(["run", "test"]).succeeds();
    let done = done.then(["plan", "test", "--exit-code"]).succeeds().says("as it is").says("0 to add, 0 to change, 0 to delete, 0 unknown");
    let _ = done.then(["run", "test", "--dry-run", "-p", "text=other"]).succeeds().says("~ write").says("0 to add, 1 to change");
}

#[test]
fn what_is_as_it_should_be_makes_nothing_after_it_unknown() {
    let body = "step(\"a\", || { fs::mkdir(AT + \"/d\"); fs::write(AT + \"/d/x\", `${fs::list(AT + \"/d\").len()}`); });";
    let of = |body: &str| {
        let project = project(body);
        std::fs::create_dir(project.path().join("d")).unwrap();
        project.command(["plan", "test"]).succeeds()
    };
    let _ = of(body).says("leave directory ").says("1 to add, 0 to change, 0 to delete, 0 unknown");
    // What does change something still does.
    let _ = of(&body.replace("AT + \"/d\");", "AT + \"/d/e\");")).says("1 to add, 0 to change, 0 to delete, 1 unknown");
}

#[test]
fn a_plan_is_carried_out_once_with_its_parameters() {
    let done = project(WRITES).command(["plan", "test", "-p", "text=planned", "--json"]).succeeds();
    let plan = id(&done.json());
    let done = done.then(["run", "--plan", &plan]).succeeds();
    assert_eq!(text(&done, "x").unwrap(), "planned");
    let _ = done.then(["run", "--plan", &plan]).exits(6).talks("RB3202").talks("runbook plan test -s host -p text=planned");
}

#[test]
fn what_is_not_as_planned_is_refused_before_it_happens_and_taken_back() {
    let body = "step(\"mark\", || { undo(\"unmark\", || fs::remove(AT + \"/mark\")); fs::write(AT + \"/mark\", \"m\") }); step(\"write\", || fs::write(AT + \"/x\", \"new\"));";
    let (done, plan) = planned(body);
    std::fs::write(done.project.path().join("x"), "someone was here").unwrap();
    let done = done.then(["run", "--plan", &id(&plan), "--json"]).exits(1);
    let run = done.json();
    assert_eq!((run["error"]["kind"].as_str(), run["error"]["code"].as_str()), (Some("conflict"), Some("RB3201")), "{run}");
    assert_eq!(text(&done, "x").unwrap(), "someone was here");
    assert_eq!(text(&done, "mark"), None);
}

#[test]
fn an_effect_more_and_an_effect_less_are_refused() {
    let more = "step(\"a\", || { fs::mkdir(AT + \"/a\"); if fs::exists(AT + \"/more\") { fs::mkdir(AT + \"/b\"); } });";
    let more = more
        .replace("step(\"a\", || {", "let more = fs::exists(AT + \"/more\"); step(\"a\", || {")
        .replace("if fs::exists(AT + \"/more\")", "if more");
    let (done, plan) = planned(&more);
    std::fs::write(done.project.path().join("more"), "").unwrap();
    let done = done.then(["run", "--plan", &id(&plan)]).exits(1).talks("is not in the plan");
    assert!(!done.project.path().join("b").exists());
    let (done, plan) = planned(
        "let less = fs::exists(AT + \"/less\"); step(\"a\", || { if !less { fs::mkdir(AT + \"/a\"); } }); if !less { step(\"b\", || fs::mkdir(AT + \"/b\")); }",
    );
    std::fs::write(done.project.path().join("less"), "").unwrap();
    let done = done.then(["run", "--plan", &id(&plan)]).exits(1).talks("which did not come");
    assert!(!done.project.path().join("b").exists());
}

#[test]
fn a_caught_error_does_not_hide_a_difference() {
    let (done, plan) =
        planned("try { step(\"a\", || fs::write(AT + \"/x\", \"new\")); } catch { } step(\"b\", || fs::mkdir(AT + \"/b\"));");
    std::fs::write(done.project.path().join("x"), "other").unwrap();
    let done = done.then(["run", "--plan", &id(&plan)]).exits(1);
    assert!(!done.project.path().join("b").exists());
}

const LOCKED: &str =
    "runbook(#{ title: \"t\", lock: \"data\", params: #{ hold: #{ def: false, type: \"bool\" } }, allow: #{ store: [\"write:*\"] } });
    if params::hold { wait(\"1h\"); }
    step(\"keep\", || store::put(\"k\", 1));";

#[test]
fn a_run_that_does_not_get_its_lock_spends_no_plan() {
    let project = Project::new().runbook("test", LOCKED);
    let mut holder = project.start(&["run", "test", "-p", "hold=true"]);
    wait_until("the lock is held", || project.state().join("runs/1/log.jsonl").exists());
    let done = project.command(["plan", "test", "--json"]).succeeds();
    let plan = id(&done.json());
    let done = done.then(["run", "--plan", &plan]).exits(6).talks("is held by test #1");
    // One that is cut off while it waits carries it out when it goes on, and nobody else does.
    let mut waiting = done.project.start(&["run", "--plan", &plan, "--when-locked", "wait 1h"]);
    wait_until("the run waits", || {
        std::fs::read_to_string(done.project.state().join("runs/3/log.jsonl")).is_ok_and(|log| log.contains("waits for"))
    });
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    let done = done.then(["cancel", "1"]).succeeds();
    holder.wait().unwrap();
    let done = done.then(["resume", "3"]).succeeds();
    let done = done.then(["run", "--plan", &plan]).exits(6).talks("RB3202");
    // What goes on keeps to its plan.
    let done = done.then(["plan", "test", "--json"]).succeeds();
    let plan = id(&done.json());
    let mut holder = done.project.start(&["run", "test", "-p", "hold=true"]);
    wait_until("the lock is held", || done.project.state().join("runs/4/log.jsonl").exists());
    let mut waiting = done.project.start(&["run", "--plan", &plan, "--when-locked", "wait 1h"]);
    wait_until("the run waits", || {
        std::fs::read_to_string(done.project.state().join("runs/5/log.jsonl")).is_ok_and(|log| log.contains("waits for"))
    });
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    let done = done.then(["cancel", "4"]).succeeds();
    holder.wait().unwrap();
    let done = done.then(["run", "--plan", &plan]).succeeds();
    let _ = done.then(["resume", "5"]).exits(6).talks("did what this plan says already");
}

#[test]
fn a_changed_script_system_or_plan_is_refused_before_the_start() {
    let (done, plan) = planned(WRITES);
    let file = done.project.path().join("runbooks/test.rhai");
    let old = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{old}// more\n")).unwrap();
    let done = done.then(["run", "--plan", &id(&plan)]).exits(6).talks("is not the text that plan");
    std::fs::write(&file, old).unwrap();
    let done = done.then(["run", "--plan", &id(&plan), "-p", "text=other"]).exits(6).talks("parameter `text` is not the one");
    let project = done.project.file("runbooks/systems/host.toml", "title = \"Another\"\n");
    let done = project.command(["run", "--plan", &id(&plan)]).exits(6).talks("system `host` is not as it was");
    assert_eq!(done.then(["history", "--json"]).succeeds().json().as_array().unwrap().len(), 0);
}

#[test]
fn a_plan_that_is_out_of_date_is_refused_with_the_command_that_makes_one() {
    let project = project(WRITES).file("runbook.toml", "[policy]\nplan_valid = \"1ms\"\n");
    let done = project.command(["plan", "test", "--json"]).succeeds();
    let plan = id(&done.json());
    let done = done.then(["run", "--plan", &plan]).exits(6).talks("out of date").talks("runbook plan test -s host");
    let _ = done.then(["approve", &plan, "--reason", "x"]).exits(2).talks("out of date");
}

#[test]
fn what_depends_on_an_effect_is_unknown_and_never_guessed() {
    let body = "let said = step(\"say\", || exec::run([\"/bin/echo\", \"x\"]));
        log(`it said ${said.stdout}`);
        step(\"pass it on\", || exec::run([\"/bin/echo\", `${said.stdout}`]));
        step(\"decide\", || if said.stdout == \"x\\n\" { fs::mkdir(AT + \"/yes\") } else { fs::mkdir(AT + \"/no\") });
        step(\"look\", || if fs::exists(AT + \"/a\") { fs::mkdir(AT + \"/b\") });
        check(\"asks\", || said.code == 0);
        step(\"catch\", || { try { if said.ok == true { fs::mkdir(AT + \"/c\"); } } catch { fs::mkdir(AT + \"/d\"); } });
        step(\"known\", || store::put(\"k\", 1));
        if said.ok != true { step(\"never\", || store::put(\"n\", 1)); }";
    let (done, plan) = planned(body);
    assert_eq!(summaries(&plan), ["run /bin/echo x", "run /bin/echo ?", "keep `k`"], "{plan:#}");
    let unknown: Vec<&str> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|step| step["unknown"].is_string())
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    assert_eq!(unknown, ["decide", "look", "asks", "catch"], "{plan:#}");
    assert!(plan["unknown"].as_str().unwrap().contains("exec::run"), "{plan:#}");
    let done = done.then(["run", "--plan", &id(&plan), "--json"]).succeeds();
    assert!(done.project.path().join("yes").exists() && done.project.path().join("c").exists() && !done.project.path().join("no").exists());
}

#[test]
fn an_unknown_value_can_not_be_used_without_notice() {
    for (index, use_of) in [
        "r == ()",
        "() == r",
        "r != 1",
        "r < 1",
        "r.code > 0",
        "!r.ok",
        "-r.code > 0",
        "r.stdout + \"x\"",
        "r.code + 1",
        "`${r.code}` == \"0\"",
        "(\"x\" + r.stdout).contains(\"y\")",
        "r.stdout.len()",
        "r.stdout.trim()",
        "[1].contains(r)",
        "r in [1, 2]",
        "if r.ok { 1 }",
        "for x in r { }",
        "while r.ok { }",
        "r.stdout.split(\",\")",
        "fs::read(r.stdout)",
        "parse_int(r.stdout)",
    ]
    .iter()
    .enumerate()
    {
        let (_, plan) = planned(&format!(
            "let r = step(\"say\", || exec::run([\"/bin/echo\", \"x\"])); step(\"use\", || {{ {use_of}; store::put(\"after\", 1); }});"
        ));
        assert_eq!(summaries(&plan), ["run /bin/echo x"], "{index}: {use_of}");
        assert!(plan["steps"][1]["unknown"].is_string(), "{use_of}: {plan:#}");
    }
}

#[test]
fn a_run_that_goes_on_keeps_to_its_plan() {
    let body = "step(\"a\", || fs::mkdir(AT + \"/a\")); step(\"b\", #{ idempotent: \"b\" }, || fs::write(AT + \"/x\", \"new\")); step(\"c\", || fs::mkdir(AT + \"/c\"));";
    for (found, code) in [(None, 0), (Some("someone was here"), 1)] {
        let (done, plan) = planned(body);
        let done = done.then(["run", "--plan", &id(&plan), "--crash-after", "effect:b"]).run();
        assert!(!done.project.path().join("c").exists());
        if let Some(found) = found {
            std::fs::write(done.project.path().join("x"), found).unwrap();
        }
        let done = done.then(["resume", "1"]).exits(code);
        assert_eq!(done.project.path().join("c").exists(), code == 0);
        assert_eq!(text(&done, "x").as_deref(), Some(found.unwrap_or("new")));
    }
}

#[test]
fn branches_may_come_in_any_order() {
    let body = "parallel([1, 2, 3, 4], |n| step(`n${n}`, || store::put(`key ${n}`, n))); step(\"in one\", || parallel([1, 2, 3], |n| store::put(`more ${n}`, n)));";
    let (mut done, _) = planned(body);
    for _ in 0..3 {
        done = done.then(["plan", "test", "--json"]).succeeds();
        let plan = id(&done.json());
        done = done.then(["run", "--plan", &plan]).succeeds();
    }
}

#[test]
fn a_run_that_would_fail_has_no_plan() {
    let _ = project("step(\"a\", || fail(\"no\"));").command(["plan", "test"]).exits(1).talks("no");
    let denied = "let path = \"/etc/\" + \"x\"; step(\"a\", || { fs::mkdir(AT + \"/a\"); fs::write(path, \"x\"); });";
    let _ = project(denied).command(["plan", "test"]).exits(1).talks("is not allowed");
}

#[test]
fn secrets_are_in_no_plan() {
    let project = Project::new();
    let at = project.path().display().to_string();
    let text = format!(
        "runbook(#{{ title: \"t\", params: #{{ token: #{{ type: \"secret\" }} }}, allow: #{{ fs: #{{ write: [\"{at}\"] }}, secrets: [\"*\"] }} }});\nfs::write(\"{at}/x\", params::token);"
    );
    let project = project.runbook("test", &text);
    let done = project.command(["plan", "test", "--diff", "-p", "token=env:TOKEN"]).env("TOKEN", "hunter2-hunter2").succeeds();
    let done = done.then(["plan", "test", "--json", "-p", "token=env:TOKEN"]).env("TOKEN", "hunter2-hunter2").succeeds();
    assert!(!done.stdout.contains("hunter2"), "{}", done.stdout);
    let database = std::fs::read(done.project.state().join("runbook.db")).unwrap();
    let log = std::fs::read(done.project.state().join("runbook.db-wal")).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&[database, log].concat()).contains("hunter2"));
}

const DESTROYS: &str = "runbook(#{ title: \"t\", danger: \"destructive\", allow: #{ store: [\"write:*\"] } }); store::put(\"k\", 1);";

#[test]
fn unattended_something_destructive_needs_an_approved_plan() {
    let done = Project::new()
        .runbook("test", DESTROYS)
        .command(["run", "test", "--yes"])
        .exits(6)
        .talks("RB3203")
        .talks("runbook plan test -s host");
    let done = done.then(["plan", "test", "--json"]).succeeds();
    let plan = id(&done.json());
    let done = done.then(["run", "--plan", &plan, "--yes"]).exits(5).talks("needs an approval").talks(&format!("runbook approve {plan}"));
    let done = done.then(["approve", &plan, "--reason", " "]).exits(2);
    let done = done.then(["approve", &plan, "--reason", "CHG-1"]).succeeds();
    let done = done.then(["approvals"]).succeeds().says("CHG-1").says(&plan);
    let done = done.then(["audit"]).succeeds().says("approve").says(&format!("plan {plan}"));
    let _ = done.then(["run", "--plan", &plan]).succeeds().then(["approvals", "--json"]).succeeds().says("[]");
}

#[test]
fn a_denied_plan_does_not_run() {
    let done = Project::new().runbook("test", DESTROYS).command(["plan", "test", "--json"]).succeeds();
    let plan = id(&done.json());
    let done = done.then(["approve", &plan, "--reason", "yes"]).succeeds();
    let done = done.then(["deny", &plan, "--reason", "wrong night"]).succeeds();
    let _ = done.then(["run", "--plan", &plan]).exits(6).talks("was denied");
}

/// Whether `sudo` decides who it is; where people log in, the login does, and there is only one here.
fn can_be_others() -> bool {
    std::fs::read_to_string("/proc/self/loginuid").map_or(true, |id| id.trim() == u32::MAX.to_string())
}

#[test]
fn more_than_one_approval_are_of_others_than_who_asked() {
    if !can_be_others() {
        return;
    }
    let project = Project::new().runbook("test", DESTROYS).file("runbook.toml", "[policy]\napprovals = 2\n");
    let done = project.command(["plan", "test", "--json"]).env("SUDO_USER", "maya").succeeds();
    let plan = id(&done.json());
    let mut done = done;
    for (who, code) in [("maya", 5), ("jo", 5), ("jo", 5), ("ann", 0)] {
        done = done.then(["approve", &plan, "--reason", "CHG-1"]).env("SUDO_USER", who).succeeds();
        done = done.then(["run", "--plan", &plan]).env("SUDO_USER", "maya").exits(code);
    }
}

const ASKS: &str = "runbook(#{ title: \"t\", allow: #{ store: [\"write:*\"] } });
    step(\"a\", || undo(\"a\", || log(\"taken back\")));
    let answer = ask(\"go on?\", #{ expires: \"20s\" });
    output(\"by\", answer.by); store::put(\"k\", 1);";

/// Waits until everybody sees that the run waits.
fn waits(project: &Project) {
    wait_until("the run waits", || {
        let output = project.start(&["approvals"]).wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("go on?")
    });
}

#[test]
fn a_question_waits_for_a_yes_from_elsewhere() {
    let project = Project::new().runbook("test", ASKS);
    let run = project.start(&["run", "test", "--json"]);
    waits(&project);
    let done = project.command(["ps"]).succeeds().says("waiting");
    let done = done.then(["approvals"]).succeeds().says("go on?").says("#1");
    let done = done.then(["approve", "1", "--reason", "CHG-2"]).succeeds();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["steps"][1]["value"]["reason"], "CHG-2", "{json:#}");
    let _ = done.then(["approve", "1", "--reason", "again"]).exits(2).talks("waits for nobody");
}

#[test]
fn a_no_and_no_answer_end_the_run_and_take_it_back() {
    let project = Project::new().runbook("test", ASKS);
    let run = project.start(&["run", "test", "--json"]);
    waits(&project);
    let done = project.command(["deny", "1", "--reason", "not tonight"]).succeeds();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["error"]["kind"], "refused", "{json:#}");
    assert!(json["error"]["message"].as_str().unwrap().contains("not tonight"));
    assert_eq!(json["steps"].as_array().unwrap().last().unwrap()["undo"], true);
    let json = done.project.runbook("test", &ASKS.replace("20s", "1ms")).command(["run", "test", "--json"]).exits(1).json();
    assert_eq!(json["error"]["kind"], "timeout", "{json:#}");
}

#[test]
fn a_waiting_run_can_be_cancelled() {
    let project = Project::new().runbook("test", ASKS);
    let run = project.start(&["run", "test", "--json"]);
    waits(&project);
    let _ = project.command(["cancel", "1"]).succeeds();
    let output = run.wait_with_output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (json["status"].as_str(), json["steps"].as_array().unwrap().last().unwrap()["undo"].as_bool()),
        (Some("cancelled"), Some(true))
    );
}

#[test]
fn a_question_in_a_plan_is_left_open() {
    let done = Project::new().runbook("test", ASKS).command(["plan", "test"]).succeeds();
    let _ = done.says("? ask: go on?").says("a person answers it");
}

#[test]
fn a_header_that_grew_does_not_run_unattended_until_it_is_approved() {
    let header = |allow: &str| format!("runbook(#{{ title: \"t\", allow: #{{ {allow} }} }});");
    let project = Project::new().runbook("test", &header("sys: [\"load\"]")).file("runbook.toml", "[policy]\npin = true\n");
    let done = project.command(["run", "test", "--no-input"]).exits(6).talks("RB3204").talks("runbook approve test -s host");
    let done = done.then(["approve", "test", "--reason", "reviewed"]).succeeds().says("see load of this machine");
    let done = done.then(["run", "test", "--no-input"]).succeeds();
    let project = done.project.runbook("test", &header("sys: [\"load\"], exec: [\"/bin/sh\"]"));
    let done = project.command(["run", "test", "--no-input"]).exits(6).talks("start /bin/sh").talks("full power");
    let project = done.project.runbook("test", &header(""));
    let _ = project.command(["run", "test", "--no-input"]).succeeds();
}

#[test]
fn programs_that_can_do_anything_are_marked() {
    for program in ["sh", "docker", "ssh", "tar", "find", "git", "env"] {
        let text = format!("runbook(#{{ title: \"t\", allow: #{{ exec: [\"/usr/bin/{program}\"] }} }});");
        let _ = Project::new().runbook("test", &text).command(["show", "test"]).succeeds().says("full power of this user");
    }
}

#[test]
fn there_is_no_plan_of_what_is_not_there() {
    let _ = Test::new(["run", "--plan", "0123abcd"]).exits(2).talks("there is no plan `0123abcd`");
    let _ = Test::new(["approve", "0123abcd", "--reason", "x"]).exits(2).talks("there is no plan, runbook or run");
    let _ = Test::new(["run"]).exits(2);
}
