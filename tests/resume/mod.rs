//! A run survives kill -9: what is done stays done, what is not known is asked about.

mod sweep;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use crate::harness::{Done, Project};

/// A project with one runbook, in whose text `DIR` is a directory it may write.
fn project(script: &str) -> Project {
    let project = Project::new();
    let directory = project.path().join("work");
    std::fs::create_dir(&directory).unwrap();
    let directory = directory.to_str().unwrap().to_owned();
    let header = format!(r#"runbook(#{{ title: "t", allow: #{{ fs: #{{ read: ["{directory}"], write: ["{directory}"] }} }} }});"#);
    let text = script.replace("DIR", &directory);
    project.runbook("test", &format!("{header}\n{text}\n"))
}

/// The lines a run has appended to a file of its directory: one for each time it did.
fn lines(project: &Project, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(project.path().join("work").join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Runs it until this event is recorded, and kills it then.
#[track_caller]
fn killed(project: Project, event: &str) -> Done {
    project.command(["run", "test", "--crash-after", event]).exits(-9)
}

#[track_caller]
fn resumed(done: Done) -> Done {
    done.then(["resume", "last", "--json"]).succeeds()
}

/// One of everything that has keys, each with one effect.
const EVERYTHING: &str = r#"
fn helper(name) { step(name, #{ idempotent: name }, || { fs::append("DIR/log", name + "\n"); }); }
log("begin");
check("ready", || true);
helper("a");
for n in [1, 2] { let n = n; step("turn", #{ idempotent: "t" }, || { fs::append("DIR/log", `turn ${n}` + "\n"); }); }
step("outer", || { helper("in"); step("in", #{ idempotent: "x" }, || { fs::append("DIR/log", "in again\n"); }); });
parallel(["p", "q"], |name| helper(name));
parallel(["p", "q"], |name| step("second", #{ idempotent: "s" }, || { fs::append("DIR/log", `second ${name}` + "\n"); }));
output("done", 1);
"#;

#[test]
fn a_run_killed_at_any_place_goes_on_there() {
    let all = ["a", "in", "in again", "p", "q", "second p", "second q", "turn 1", "turn 2"];
    let events = [
        "started",
        "check",
        "step-started:a",
        "step-ended:a",
        "step-ended:turn",
        "step-started:turn#2",
        "step-started:outer",
        "step-ended:outer/in",
        "step-started:outer/in#2",
        "step-ended:outer",
        "step-ended:[0]/p",
        "step-started:#2[1]/second",
        "output",
    ];
    for event in events {
        let done = resumed(killed(project(EVERYTHING), event));
        let mut found = lines(&done.project, "log");
        found.sort();
        if event.contains('[') {
            // The other branch was killed with it, and is idempotent: it may have been done twice.
            found.dedup();
        }
        assert_eq!(found, all, "{event}");
        let run = done.json();
        assert_eq!(
            (run["status"].as_str(), run["attempt"].as_u64(), run["checks"].as_array().unwrap().len()),
            (Some("succeeded"), Some(2), 1)
        );
        let log = std::fs::read_to_string(done.project.state().join("runs/1/log.jsonl")).unwrap();
        assert_eq!(log.matches("\"text\":\"begin\"").count(), 1, "{event}: {log}");
    }
}

const UNDECLARED: &str = r#"let n = step("publish", || { fs::append("DIR/log", "x\n"); 1 }); output("n", n);"#;

#[test]
fn a_step_without_a_policy_is_in_doubt_and_a_person_decides() {
    let done = killed(project(UNDECLARED), "effect:publish").then(["resume", "last"]).exits(5);
    let done = done
        .talks("may have been done or not")
        .talks("append")
        .talks("runbook resume 1 --step 'publish=done'")
        .talks("=redo'")
        .talks("=skip'");
    let done = done.then(["ps"]).succeeds().says("needs-attention");
    let done = done.then(["resume", "1", "--step", "other=done"]).exits(2).talks("no open step `other`").talks("`publish`");
    let done = done.then(["resume", "1", "--step", "publish=done=7", "--json"]).succeeds();
    assert_eq!((done.json()["outputs"]["n"].as_u64(), lines(&done.project, "log").len()), (Some(7), 0));
    let done = done.then(["logs", "1"]).succeeds().says("resumed by maya, `publish` was done with 7");
    let _ = done.then(["audit"]).succeeds().says("decide").says("publish=done");
}

#[test]
fn redo_runs_it_and_skip_leaves_it_out() {
    let done = killed(project(UNDECLARED), "effect:publish").then(["resume", "1", "--step", "publish=redo", "--json"]).succeeds();
    assert_eq!((done.json()["outputs"]["n"].as_u64(), lines(&done.project, "log").len()), (Some(1), 1));
    let done = killed(project(UNDECLARED), "effect:publish").then(["resume", "1", "--step", "publish=skip", "--json"]).succeeds();
    assert_eq!((done.json()["steps"][0]["status"].as_str(), lines(&done.project, "log").len()), (Some("skipped"), 0));
}

#[test]
fn a_step_that_only_read_runs_again() {
    let done = resumed(killed(project(r#"output("n", step("look", || fs::exists("DIR/x")));"#), "step-started:look"));
    assert_eq!(done.json()["steps"][0]["attempt"].as_u64(), Some(2));
}

#[test]
fn an_effect_outside_of_a_step_is_one() {
    let script = r#"fs::append("DIR/log", "x\n"); step("b", || 1);"#;
    let done = resumed(killed(project(script), "step-started:b"));
    assert_eq!(lines(&done.project, "log"), ["x"]);
    let _ = killed(project(script), "effect").then(["resume", "last"]).exits(5).talks("fs::append");
}

#[test]
fn verify_asks_the_world() {
    let script = r#"output("v", step("make", #{ verify: || if fs::exists("DIR/log") { "there" } else { false } }, || { fs::append("DIR/log", "x\n"); "made" }));"#;
    let done = resumed(killed(project(script), "effect:make"));
    assert_eq!((done.json()["outputs"]["v"].as_str(), lines(&done.project, "log").len()), (Some("made"), 1));
    let done = killed(project(script), "effect:make");
    std::fs::write(done.project.path().join("work/log"), "x\n").unwrap();
    let done = resumed(done);
    assert_eq!((done.json()["outputs"]["v"].as_str(), lines(&done.project, "log").len()), (Some("there"), 1));
}

#[test]
fn a_verify_without_an_answer_leaves_the_step_in_doubt() {
    let script = r#"step("make", #{ verify: || throw "no route" }, || { fs::append("DIR/log", "x\n"); });"#;
    let done = killed(project(script), "effect:make").then(["resume", "1"]).exits(5).talks("could not tell: no route");
    assert!(lines(&done.project, "log").is_empty());
}

/// A server that tells which idempotency key each request carried, and answers 500 to the first `failures`.
fn keys(failures: usize) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let head: Vec<String> = BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            let key = head.iter().find_map(|line| line.to_lowercase().strip_prefix("idempotency-key: ").map(str::to_owned));
            // The test may have ended.
            let _ = sender.send(key.unwrap_or_default());
            let status = if number < failures { "500 no" } else { "200 ok" };
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    (port, receiver)
}

fn posting(port: u16, script: &str) -> Project {
    let url = format!("http://127.0.0.1:{port}/");
    let header = format!(r#"runbook(#{{ title: "t", allow: #{{ http: ["POST {url}"] }} }});"#);
    Project::new().runbook("test", &format!("{header}\n{}\n", script.replace("URL", &url)))
}

#[test]
fn an_idempotency_key_is_the_same_after_a_crash_and_in_another_try_and_nowhere_else() {
    let (port, keys) = keys(1);
    let script = r#"
        step("try", #{ retry: 1, backoff: "1ms", idempotent: "k" }, || { if !http::post("URL", #{}).ok { throw #{ message: "no", retryable: true } } });
        for n in [1, 2] { step("turn", #{ idempotent: "k" }, || { http::post("URL", #{}); http::post("URL", #{}); }); }
        step("last", || { http::post("URL", #{}); });
    "#;
    let done = killed(posting(port, script), "step-started:last");
    let first: Vec<String> = keys.try_iter().collect();
    assert_eq!((first.len(), first[0] == first[1], first[0].len()), (6, true, 32), "{first:?}");
    let mut different = first[1..].to_vec();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 5, "{first:?}");
    let done = resumed(done);
    assert_eq!(keys.try_iter().collect::<Vec<_>>(), [""], "a step that is not idempotent has no key");
    let _ = done.then(["run", "test", "--crash-after", "step-ended:turn"]).exits(-9);
    assert!(keys.try_iter().all(|key| !first.contains(&key)), "another run has other keys");
    // Killed in the middle of the step: the key comes again.
    let _ = resumed(killed(posting(port, script), "effect:turn"));
    let again: Vec<String> = keys.try_iter().collect();
    assert_eq!(again.iter().filter(|key| **key == again[1]).count(), 1, "{again:?}");
}

#[test]
fn a_script_that_takes_another_way_stops_before_it_does_anything() {
    let script = r#"
        if fs::exists("DIR/flag") { step("other", || { fs::append("DIR/log", "other\n"); }); }
        step("a", || { fs::append("DIR/log", "a\n"); });
        step("b", || { fs::append("DIR/log", "b\n"); });
    "#;
    let done = killed(project(script), "step-ended:a");
    std::fs::write(done.project.path().join("work/flag"), "").unwrap();
    let done = done.then(["resume", "last"]).exits(1).talks("diverged at step `other`").talks("the record has step `a` here");
    assert_eq!(lines(&done.project, "log"), ["a"]);
    let missing = r#"if !fs::exists("DIR/flag") { step("a", || { fs::append("DIR/log", "a\n"); }); }"#;
    let done = killed(project(missing), "step-ended:a");
    std::fs::write(done.project.path().join("work/flag"), "").unwrap();
    let _ = done.then(["resume", "last"]).exits(1).talks("diverged at step `a`");
}

#[test]
fn the_clock_of_a_resumed_run_shows_the_same_time() {
    let script = r#"let now = time::now(); let inside = step("a", || time::now()); output("times", [now, inside]); step("b", || 1);"#;
    let done = killed(project(script), "step-started:b");
    let before = done.project.command(["report", "last", "--json"]).succeeds();
    let times = before.json()["outputs"]["times"].clone();
    let done = resumed(before);
    assert!(times[0].is_string());
    assert_eq!(done.json()["outputs"]["times"], times);
}

const COMPENSATES: &str = r#"
    let a = step("a", || 1);
    undo("a", #{ idempotent: "a" }, || { fs::append("DIR/log", "back a\n"); });
    step("b", || 1);
    undo("b", || { fs::append("DIR/log", "back b\n"); });
    step("c", || throw "no room");
"#;

#[test]
fn what_was_taken_back_is_not_taken_back_again() {
    for event in ["compensation-started", "step-started:undo: b", "step-ended:undo: b", "step-started:undo: a", "step-ended:undo: a"] {
        let done = killed(project(COMPENSATES), event).then(["resume", "last"]).exits(1).talks("no room");
        assert_eq!(lines(&done.project, "log"), ["back b", "back a"], "{event}");
        let _ = done.then(["resume", "last"]).exits(2).talks("has taken back what it did").talks("runbook retry 1");
    }
    let done = killed(project(COMPENSATES), "effect:undo: b").then(["resume", "last"]).exits(5).talks("undo: b");
    let done = done.then(["resume", "last", "--step", "undo: b=redo"]).exits(1);
    assert_eq!(lines(&done.project, "log"), ["back b", "back a"]);
}

#[test]
fn a_compensation_registered_in_a_finished_step_is_asked_about() {
    let script = r#"step("a", || { undo("x", || log("back x")); }); step("b", || throw "no");"#;
    let done = killed(project(script), "step-started:b").then(["resume", "last"]).exits(5).talks("`a/undo: x` has to be done by hand");
    let _ = done.then(["resume", "last", "--step", "a/undo: x=done"]).exits(1).talks("no");
}

#[test]
fn a_failed_run_goes_on_at_the_step_that_failed() {
    let script = r#"
        step("a", || { fs::append("DIR/log", "a\n"); });
        let caught = "";
        try { caught = step("soft", || { if !fs::exists("DIR/flag") { throw "soft" } "passed" }); } catch (error) { caught = error.message; }
        output("caught", caught);
        step("b", || { fs::append("DIR/log", "b\n"); if !fs::exists("DIR/flag") { throw "hard" } });
    "#;
    let done = project(script).command(["run", "test"]).exits(1);
    std::fs::write(done.project.path().join("work/flag"), "").unwrap();
    let done = resumed(done);
    assert_eq!(
        (lines(&done.project, "log"), done.json()["outputs"]["caught"].as_str()),
        (vec!["a".into(), "b".into(), "b".into()], Some("soft"))
    );
    let _ = done.then(["resume", "last"]).exits(2).talks("came to its end: succeeded");
}

#[test]
fn what_is_recorded_is_used_not_what_was_changed_since() {
    let done = killed(project(r#"step("a", || 1); step("b", || { fs::append("DIR/log", "old\n"); });"#), "step-ended:a");
    let path = done.project.path().join("runbooks/test.rhai");
    let text = std::fs::read_to_string(&path).unwrap().replace("old", "new");
    std::fs::write(path, text).unwrap();
    let done = resumed(done);
    assert_eq!(lines(&done.project, "log"), ["old"]);
    let done = done.then(["retry", "1", "--json"]).succeeds().talks("its text has changed");
    assert_eq!((lines(&done.project, "log"), done.json()["run"].as_u64()), (vec!["old".into(), "new".into()], Some(2)));
}

#[test]
fn a_secret_parameter_is_given_again() {
    let script = "runbook(#{ title: \"t\", params: #{ token: #{ type: \"secret\" }, size: #{ type: \"int\", def: 3 } } });\nstep(\"a\", || 1); step(\"b\", || params::size);";
    let project = Project::new().runbook("test", script).file("token", "hunter2hunter2").file("size", "4");
    let done = project.command(["run", "test", "-p", "token=@token", "-p", "size=7", "--crash-after", "step-ended:a"]).exits(-9);
    let done = done.then(["resume", "1"]).exits(2).talks("secret parameter `token` is not recorded").talks("-p token=@FILE");
    let done = done.then(["resume", "1", "-p", "token=@token", "--json"]).succeeds();
    assert_eq!(done.json()["steps"][1]["value"].as_u64(), Some(7));
}

#[test]
fn a_run_begins_at_a_step_with_what_the_last_one_had_before_it() {
    let script = r#"let a = step("a", || { fs::append("DIR/log", "a\n"); 1 }); step("b", || { fs::append("DIR/log", `b${a}` + "\n"); });"#;
    let done = project(script).command(["run", "test"]).succeeds();
    let done = done.then(["run", "test", "--from", "b"]).succeeds();
    assert_eq!(lines(&done.project, "log"), ["a", "b1", "b1"]);
    let done = done.then(["run", "test", "--from", "x"]).exits(2).talks("can not be taken up at step `x`");
    let path = done.project.path().join("runbooks/test.rhai");
    let text = std::fs::read_to_string(&path).unwrap() + "log(\"more\");\n";
    std::fs::write(path, text).unwrap();
    let _ = done.then(["run", "test", "--from", "b"]).exits(2).talks("the text changed since run #2");
}

#[test]
fn faults_are_made_on_purpose() {
    let script = r#"
        step("a", || 1);
        undo("a", || { fs::append("DIR/log", "back\n"); });
        step("b", || { fs::append("DIR/log", "b\n"); });
    "#;
    let done = project(script).command(["run", "test", "--fail-at", "b"]).exits(1).talks("--fail-at");
    assert_eq!(lines(&done.project, "log"), ["back"]);
    let same = r#"step("w", #{ idempotent: "w" }, || { fs::write("DIR/w", "1"); 5 });"#;
    let _ = project(same).command(["run", "test", "--repeat-steps"]).succeeds();
    let grows = r#"step("w", #{ idempotent: "w" }, || { fs::append("DIR/log", "1"); fs::read("DIR/log") });"#;
    let _ = project(grows).command(["run", "test", "--repeat-steps"]).exits(1).talks("is not idempotent");
    let lies = r#"step("w", #{ verify: || false }, || { fs::write("DIR/w", "1"); });"#;
    let _ = project(lies).command(["run", "test", "--repeat-steps"]).exits(1).talks("its `verify` says it was not");
}

#[test]
fn two_can_not_resume_the_same_run() {
    let project = project(r#"step("a", || 1); step("b", || wait("1h"));"#);
    let done = killed(project, "step-ended:a");
    let mut child = done.project.start(&["resume", "1"]);
    crate::harness::wait_until("it waits", || {
        std::fs::read_to_string(done.project.state().join("runs/1/log.jsonl")).unwrap_or_default().contains("\"key\":\"b\"")
    });
    let done = done.then(["resume", "1"]).exits(2).talks("run #1 is not over");
    let _ = done.then(["cancel", "1"]).succeeds();
    let _ = child.wait().unwrap();
}
