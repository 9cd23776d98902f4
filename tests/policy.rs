//! Who may do what, and what runs may touch that nobody watches over.

use std::process::Command;

use crate::harness::{Done, Project};

/// Whether `sudo` decides who it is; where people log in, the login does, and there is only one here.
fn can_be_others() -> bool {
    std::fs::read_to_string("/proc/self/loginuid").map_or(true, |id| id.trim() == u32::MAX.to_string())
}

const NOTES: &str = "runbook(#{ title: \"t\", allow: #{ store: [\"write:*\"] } }); step(\"a\", || store::put(\"k\", 1));";

/// Jo may do everything, Maya runs and stops `test`, and Ann nothing.
const ROLES: &str = "[policy.roles.lead]\nmembers = [\"jo\"]\nrunbooks = [\"*\"]\nmay = [\"run\", \"approve\", \"cancel\", \"manage\"]\n\
    [policy.roles.operator]\nmembers = [\"maya\"]\nrunbooks = [\"te*\"]\nsystems = [\"host\"]\nmay = [\"run\", \"cancel\"]\n";

/// A project with a run that can go on, a plan, a secret and a copy of the state.
fn used() -> Done {
    let done =
        Project::new().runbook("test", NOTES).runbook("other", NOTES).command(["run", "test", "--crash-after", "step-started:a"]).exits(-9);
    let done = done.then(["secret", "set", "db"]).stdin("a long secret\n").succeeds();
    done.then(["state", "backup", "copy"]).succeeds()
}

#[test]
fn nothing_is_done_by_who_may_not_and_who_tried_is_on_record() {
    if !can_be_others() {
        return;
    }
    let done = used().then(["plan", "test", "--json"]).succeeds();
    let plan = done.json()["id"].as_str().unwrap().to_owned();
    let mut done = Done { project: done.project.file("runbook.toml", ROLES), ..done };
    let acts: &[&[&str]] = &[
        &["run", "test"],
        &["run", "--plan", &plan],
        &["run", "test", "--dry-run"],
        &["plan", "test"],
        &["resume", "1"],
        &["retry", "1"],
        &["approve", &plan, "--reason", "x"],
        &["deny", &plan, "--reason", "x"],
        &["approve", "test", "--reason", "x"],
        &["cancel", "1"],
        &["secret", "set", "db"],
        &["secret", "rm", "db"],
        &["secret", "rotate-key"],
        &["state", "prune"],
        &["state", "restore", "copy", "--yes"],
    ];
    for act in acts {
        done = done.then(act.iter().copied()).env("SUDO_USER", "ann").stdin("another secret\n").exits(6).talks("RB3205");
    }
    for act in [&["run", "other"][..], &["plan", "other"], &["approve", &plan, "--reason", "x"], &["secret", "rm", "db"]] {
        done = done.then(act.iter().copied()).env("SUDO_USER", "maya").exits(6).talks("`jo` may");
    }
    done = done.then(["audit", "-n", "0", "--json"]).succeeds();
    let refused = |who: &str| done.json().as_array().unwrap().iter().filter(|row| row["action"] == "refuse" && row["who"] == who).count();
    // A restore is refused before the state is looked at.
    assert_eq!((refused("ann"), refused("maya")), (acts.len() - 1, 4));
    for (act, who) in [
        (&["run", "test"][..], "maya"),
        (&["plan", "test"], "maya"),
        (&["resume", "1", "--step", "a=redo"], "maya"),
        (&["retry", "1"], "maya"),
        (&["run", "other"], "jo"),
        (&["approve", &plan, "--reason", "x"], "jo"),
        (&["secret", "rotate-key"], "jo"),
        (&["state", "prune"], "jo"),
    ] {
        done = done.then(act.iter().copied()).env("SUDO_USER", who).succeeds();
    }
}

/// The binary on a terminal, where a person could be asked.
fn at_a_terminal(project: &Project, arguments: &str) -> (Option<i32>, String) {
    let command = format!("{} {arguments}", env!("CARGO_BIN_EXE_runbook"));
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(project.path())
        .env("HOME", project.path())
        .env("RUNBOOK_STATE_DIR", project.state())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn what_a_run_may_touch_depends_on_whether_a_person_watches() {
    let project = Project::new()
        .runbook("test", NOTES)
        .file("runbook.toml", "[policy.unattended]\nallow = { sys = [\"*\"] }\n[policy.attended]\ndeny = { sys = [\"load\"] }\n");
    let done = project.command(["run", "test", "--json"]).exits(1);
    let run = done.json();
    assert_eq!((run["error"]["kind"].as_str(), run["trigger"].as_str()), (Some("denied"), Some("program")), "{run:#}");
    assert_eq!(run["error"]["hints"][0], "see `[policy.unattended.allow]` in runbook.toml");
    let (code, said) = at_a_terminal(&done.project, "run test");
    assert_eq!(code, Some(0), "{said}");
    let done = done.then(["report", "last", "--json"]).succeeds();
    assert_eq!(done.json()["trigger"], "command");
    let (code, said) = at_a_terminal(&done.project, "run test --no-input");
    assert_eq!(code, Some(1), "{said}");
}

const DESTROYS: &str =
    "runbook(#{ title: \"t\", danger: \"destructive\", allow: #{ store: [\"write:*\"] } }); step(\"a\", || store::put(\"k\", 1));";

#[test]
fn something_destructive_does_not_go_on_unattended_without_an_approval() {
    let project = Project::new().runbook("test", DESTROYS);
    let (code, said) = at_a_terminal(&project, "run test --yes --crash-after step-started:a");
    assert_ne!(code, Some(0), "{said}");
    let done = project.command(["resume", "1", "--step", "a=redo"]).exits(6).talks("RB3203").talks("at a terminal: runbook resume 1");
    let (code, said) = at_a_terminal(&done.project, "resume 1 --step a=redo");
    assert_eq!(code, Some(0), "{said}");
    let done = done.then(["plan", "test", "--json"]).succeeds();
    let plan = done.json()["id"].as_str().unwrap().to_owned();
    let done = done.then(["approve", &plan, "--reason", "CHG-1"]).succeeds();
    let done = done.then(["run", "--plan", &plan, "--crash-after", "step-started:a"]).exits(-9);
    let _ = done.then(["resume", "2", "--step", "a=redo"]).succeeds();
}
