//! The daemon, by real processes: what it is asked, what it survives, and what it leaves.

mod crash;
mod pages;
mod schedule;
mod stop;
mod watch;

use std::time::{Duration, Instant};

use crate::harness::{Done, Project, note, wait_until};

/// Says `begun` in its directory, and waits there for `go` in a step; its clean-up says `undone`.
const GATED: &str = r#"
runbook(#{ title: "t", params: #{ name: #{ required: true } }, allow: #{ fs: #{ read: ["DIR"], write: ["DIR"] } } });
let name = params::name;
step("begin", || { undo("say so", || fs::write(`DIR/${name}.undone`, "yes")); fs::write(`DIR/${name}.begun`, "yes"); });
step("wait", || while !fs::exists(`DIR/${name}.go`) { wait("10ms"); });
step("end", || fs::append(`DIR/${name}.ended`, "once\n"));
"#;

/// A project with these runbooks, in whose texts `DIR` is a directory they may write.
fn project(runbooks: &[(&str, &str)]) -> Project {
    let mut project = Project::new();
    let directory = project.path().join("work");
    std::fs::create_dir(&directory).unwrap();
    for (name, text) in runbooks {
        project = project.runbook(name, &text.replace("DIR", directory.to_str().unwrap()));
    }
    project
}

fn there(project: &Project, file: &str) -> bool {
    project.path().join("work").join(file).exists()
}

fn read(project: &Project, file: &str) -> String {
    std::fs::read_to_string(project.path().join("work").join(file)).unwrap_or_default()
}

fn write(project: &Project, file: &str) {
    std::fs::write(project.path().join("work").join(file), "").unwrap();
}

/// Hands a run over, which has to be taken.
#[track_caller]
fn detach(project: Project, name: &str) -> Project {
    let name = format!("name={name}");
    project.command(["run", "test", "-p", &name, "--detach"]).succeeds().project
}

/// How a run stands, in one word.
fn status(project: &Project, run: &str) -> String {
    let output = project.start(&["report", run, "--json"]).wait_with_output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    json["status"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn wait_for(project: &Project, run: &str, wanted: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let found = status(project, run);
        if found == wanted {
            return;
        }
        assert!(Instant::now() < until, "run {run} is `{found}` and not `{wanted}`\n{}", project.daemon_log());
    }
}

/// Whether a run has come to its step `wait`, with all before it on record.
fn is_waiting(project: &Project, run: u64) -> bool {
    log_of(project, run).contains("\"key\":\"wait\"")
}

fn log_of(project: &Project, run: u64) -> String {
    std::fs::read_to_string(project.state().join(format!("runs/{run}/log.jsonl"))).unwrap_or_default()
}

#[test]
fn a_run_is_handed_over_followed_and_recorded() {
    let project = project(&[("test", GATED)]);
    let _daemon = project.serve();
    let done = project.command(["run", "test", "-p", "name=a", "--detach", "--json"]).succeeds();
    assert_eq!(done.json()["run"], 1);
    let follower = done.project.start(&["logs", "1", "-f"]);
    wait_until("it runs", || there(&done.project, "a.begun"));
    let done = done.then(["ps", "--json"]).succeeds();
    assert_eq!(done.json()[0]["status"], "running");
    write(&done.project, "a.go");
    let followed = follower.wait_with_output().unwrap();
    let followed = String::from_utf8_lossy(&followed.stdout).into_owned();
    assert!(followed.contains("end") && followed.contains("succeeded"), "{followed}");
    let done = done.then(["report", "1", "--json"]).succeeds();
    let run = done.json();
    assert_eq!((run["status"].as_str(), run["by"].as_str(), run["attempt"].as_u64()), (Some("succeeded"), Some("maya"), Some(1)));
    let _ = done.then(["audit", "verify"]).succeeds();
}

#[test]
fn without_a_daemon_nothing_is_recorded_and_the_way_out_is_said() {
    let project = project(&[("test", GATED)]);
    let done = project.command(["run", "test", "-p", "name=a", "--detach"]).exits(8);
    let done = done.talks("no daemon serves this state directory").talks("runbook serve").talks("leave `--detach` out");
    let done = done.then(["status"]).exits(8).says("none serves this state");
    let done = done.then(["history", "--json"]).succeeds();
    assert_eq!(done.json().as_array().unwrap().len(), 0);
}

#[test]
fn what_can_not_run_is_refused_with_its_reason() {
    let project = project(&[("test", GATED), ("broken", "runbook(#{ title: \"b\" }); nothing_of_this_name();")]);
    let _daemon = project.serve();
    let done = project.command(["run", "test", "--detach"]).exits(2).talks("name");
    let done = done.then(["run", "broken", "--detach"]).exits(4);
    let done = done.then(["run", "nobody", "--detach"]).exits(2);
    let done = done.then(["history", "--json"]).succeeds();
    assert_eq!(done.json().as_array().unwrap().len(), 0);
}

#[test]
fn a_second_daemon_is_told_who_was_first() {
    let project = Project::new();
    let daemon = project.serve();
    let done = project.command(["serve"]).exits(6).talks(&format!("the daemon of process {}, since ", daemon.pid()));
    let done = done.then(["state", "backup", "copy"]).succeeds();
    let done = done.then(["state", "restore", "copy", "--yes"]).exits(6).talks("serves it");
    daemon.stop();
    // A daemon that ended leaves the place free, and one that was killed too.
    let daemon = done.project.serve();
    daemon.kill();
    assert!(done.project.state().join("daemon.sock").exists());
    let _ = done.project.serve();
}

#[test]
fn who_finds_no_place_waits_and_is_told_why() {
    let project = project(&[("test", GATED)]).file("runbook.toml", "limits.runs = 1\n");
    let daemon = project.serve();
    let project = detach(detach(project, "a"), "b");
    wait_until("the first one runs", || is_waiting(&project, 1));
    let done = project.command(["status", "--json"]).succeeds();
    let json = done.json();
    assert_eq!(json["daemon"]["running"], serde_json::json!([1]));
    assert_eq!(json["daemon"]["queued"][0]["why"], "1 run under way, of 1 at a time");
    let done = done.then(["ps"]).succeeds().says("queued").says("1 run under way, of 1 at a time");
    // More room, without a restart.
    let project = done.project.file("runbook.toml", "limits.runs = 2\n");
    daemon.signal("HUP");
    wait_until("the second one runs", || is_waiting(&project, 2));
    // A mistake in the settings changes nothing.
    let project = project.file("runbook.toml", "limits.runs = \"many\"\n");
    daemon.signal("HUP");
    wait_until("the mistake is told", || project.daemon_log().contains("the settings before hold"));
    write(&project, "a.go");
    write(&project, "b.go");
    let project = project.file("runbook.toml", "");
    wait_for(&project, "1", "succeeded");
    wait_for(&project, "2", "succeeded");
}

#[test]
fn one_run_is_cancelled_and_the_others_go_on() {
    let project = project(&[("test", GATED)]).file("runbook.toml", "limits.runs = 2\n");
    let _daemon = project.serve();
    let project = detach(detach(detach(project, "a"), "b"), "c");
    wait_until("two run", || is_waiting(&project, 1) && is_waiting(&project, 2));
    let done = project.command(["cancel", "1", "--json"]).succeeds();
    let run = done.json();
    assert_eq!((run["status"].as_str(), run["exit_code"].as_u64()), (Some("cancelled"), Some(143)));
    assert!(there(&done.project, "a.undone"));
    wait_until("the third one has its place", || there(&done.project, "c.begun"));
    let done = done.then(["run", "test", "-p", "name=d", "--detach"]).succeeds();
    let done = done.then(["cancel", "4"]).succeeds().says("cancelled");
    assert!(!there(&done.project, "d.begun") && !there(&done.project, "b.undone"));
    let done = done.then(["cancel", "2", "--now"]).succeeds().says("cancelled");
    assert!(!there(&done.project, "b.undone"));
    write(&done.project, "c.go");
    wait_for(&done.project, "3", "succeeded");
    let _ = done.then(["cancel", "3"]).exits(2).talks("run #3 is over");
}

#[test]
fn a_run_that_replaces_another_one_leaves_the_daemon_alone() {
    let locked = GATED.replace("title: \"t\"", "title: \"t\", lock: \"data\"");
    let project = project(&[("test", &locked)]);
    let daemon = project.serve();
    let project = detach(project, "a");
    wait_until("the first one holds the lock", || is_waiting(&project, 1));
    // By a command beside the daemon.
    write(&project, "b.go");
    let done = project.command(["run", "test", "-p", "name=b", "--when-locked", "replace"]).succeeds();
    assert!(there(&done.project, "a.undone"));
    wait_for(&done.project, "1", "cancelled");
    // By another run of the daemon.
    let project = detach(done.project, "c");
    wait_until("the third one holds the lock", || is_waiting(&project, 3));
    write(&project, "d.go");
    let done = project.command(["run", "test", "-p", "name=d", "--when-locked", "replace", "--detach"]).succeeds();
    wait_for(&done.project, "4", "succeeded");
    wait_for(&done.project, "3", "cancelled");
    daemon.stop();
}

#[test]
fn a_run_that_finds_its_lock_held_is_skipped_or_waits() {
    let locked = GATED.replace("title: \"t\"", "title: \"t\", lock: \"data\"");
    let project = project(&[("test", &locked)]);
    let _daemon = project.serve();
    let project = detach(project, "a");
    wait_until("the first one holds the lock", || is_waiting(&project, 1));
    let project = detach(project, "b");
    wait_for(&project, "2", "skipped");
    let done = project.command(["run", "test", "-p", "name=c", "--when-locked", "wait 1h", "--detach"]).succeeds();
    write(&done.project, "c.go");
    wait_until("it says for whom it waits", || log_of(&done.project, 3).contains("held by test #1"));
    write(&done.project, "a.go");
    wait_for(&done.project, "3", "succeeded");
}

#[test]
fn the_socket_is_the_owners_and_no_run_may_use_it() {
    use std::os::unix::fs::PermissionsExt;
    let binary = env!("CARGO_BIN_EXE_runbook");
    let project = Project::new();
    let state = project.state();
    let outer = format!(
        r#"runbook(#{{ title: "o", allow: #{{ exec: ["host:{binary}"] }} }});
        let inner = exec::run(["{binary}", "-C", "{}", "run", "test", "--detach"], #{{ ok_codes: [0, 1], env: #{{ STATE_DIRECTORY: "{}", HOME: "/" }} }});
        output("said", inner.stderr);"#,
        project.path().display(),
        state.display()
    );
    let project = project.runbook("test", "runbook(#{ title: \"t\" });").runbook("outer", &outer);
    let _daemon = project.serve();
    let mode = std::fs::metadata(state.join("daemon.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let done = project.command(["run", "outer", "--detach"]).succeeds();
    wait_for(&done.project, "1", "succeeded");
    let done: Done = done.then(["report", "1", "--json"]).succeeds();
    let said = done.json()["outputs"]["said"].as_str().unwrap().to_owned();
    assert!(said.contains("what a run of the daemon started may not ask it"), "{said}");
}

#[test]
fn the_unit_file_is_one_systemd_understands() {
    let done = Project::new().command(["serve", "--unit"]).succeeds().says("Type=notify").says("NoNewPrivileges=yes");
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples/runbook.service")).unwrap();
    assert_eq!(done.stdout, text);
    let file = done.project.path().join("runbook.service");
    // It looks for the program too.
    std::fs::write(&file, text.replace("/usr/local/bin/runbook", env!("CARGO_BIN_EXE_runbook"))).unwrap();
    let Ok(verified) = std::process::Command::new("systemd-analyze").arg("verify").arg(&file).output() else {
        note("not run: there is no systemd-analyze");
        return;
    };
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    let wrong: Vec<&str> = said.lines().filter(|line| line.contains("runbook.service")).collect();
    assert!(wrong.is_empty(), "{said}");
}
