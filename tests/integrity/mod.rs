//! The state: changed behind our back, copied, put back, tidied, and on disks that fail.

mod disk;
mod power;

use std::path::Path;

use runbook::store::audit::Action;

use crate::harness::{Project, wait_until};

const STEPS: &str = "runbook(#{ title: \"t\" }); step(\"one\", || \"a value of a step\"); check(\"two\", || true);";

/// A project in which two runs ran.
fn used() -> Project {
    let done = Project::new().runbook("test", STEPS).command(["run", "test"]).succeeds();
    done.then(["run", "test"]).succeeds().project
}

/// Changes the database as someone with an editor would: the same length, other bytes.
fn overwrite(state: &Path, old: &str, new: &str) {
    assert_eq!(old.len(), new.len());
    let mut changed = 0;
    for name in ["runbook.db", "runbook.db-wal"] {
        let Ok(mut bytes) = std::fs::read(state.join(name)) else { continue };
        for at in 0..bytes.len().saturating_sub(old.len()) {
            if bytes[at..].starts_with(old.as_bytes()) {
                bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
                changed += 1;
            }
        }
        std::fs::write(state.join(name), bytes).unwrap();
    }
    assert!(changed > 0, "`{old}` is not in the database");
}

/// Brings everything into the one file.
fn settle(project: Project) -> Project {
    let copy = project.path().join("settled");
    let done = project.command(["state", "backup", "settled"]).succeeds();
    let done = done.then(["state", "restore", "settled", "--yes"]).succeeds();
    std::fs::remove_dir_all(copy).unwrap();
    done.project
}

#[test]
fn every_act_is_in_the_audit_log_before_and_after() {
    let done = used().command(["secret", "set", "db"]).stdin("a long secret\n").succeeds();
    let done = done.then(["secret", "rm", "db"]).succeeds();
    let done = done.then(["secret", "rm", "db"]).exits(2);
    let done = done.then(["audit", "--json"]).succeeds();
    let rows = done.json();
    let told = |row: &serde_json::Value| {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        format!("{} {} {}: {}", text("who"), text("action"), text("subject"), text("outcome"))
    };
    let told: Vec<String> = rows.as_array().unwrap().iter().rev().map(told).collect();
    assert_eq!(
        told,
        [
            "maya run #1 test for host: -",
            "maya run #1 test for host: succeeded",
            "maya run #2 test for host: -",
            "maya run #2 test for host: succeeded",
            "maya set-secret db: -",
            "maya set-secret db: done",
            "maya remove-secret db: -",
            "maya remove-secret db: done",
            "maya remove-secret db: -",
            "maya remove-secret db: failed: no secret `db` was set here",
        ]
    );
    assert!(!done.stdout.contains("a long secret"));
    let done = done.then(["audit", "list", "-n", "1"]).succeeds().says("no secret `db` was set here");
    assert_eq!(done.stdout.lines().count(), 2);
    let done = done.then(["audit", "--since", "1h", "--json"]).succeeds();
    assert_eq!(done.json().as_array().unwrap().len(), 10);
    let _ = done.then(["audit", "verify"]).succeeds().says("2 runs").says("10 rows of the audit log: as they were written");
}

#[test]
fn everything_that_can_be_done_is_in_the_audit_log() {
    let text = format!("{STEPS} if params::hold {{ wait(\"1h\"); }}")
        .replace("\"t\"", "\"t\", schedule: \"@daily\", params: #{ hold: #{ type: \"bool\", def: false } }");
    let plain = |arguments: &[&str]| arguments.iter().map(|&argument| argument.to_owned()).collect::<Vec<String>>();
    let mut done = Project::new().runbook("test", &text).command(["run", "test", "--crash-after", "step-started:one"]).exits(-9);
    let held = done.project.start(&["run", "test", "-p", "hold=true"]);
    wait_until("the run waits", || {
        std::fs::read_to_string(done.project.state().join("runs/2/log.jsonl")).is_ok_and(|log| log.contains("\"two\""))
    });
    done = done.then(["plan", "test", "--json"]).succeeds();
    let plan = done.json()["id"].as_str().unwrap().to_owned();
    for act in [
        plain(&["cancel", "2"]),
        plain(&["resume", "1", "--step", "one=redo"]),
        plain(&["run", "test", "--crash-after", "step-started:one"]),
        plain(&["resume", "3"]),
        plain(&["approve", &plan, "--reason", "x"]),
        plain(&["deny", &plan, "--reason", "x"]),
        plain(&["approve", "test", "--reason", "x"]),
        plain(&["secret", "set", "db"]),
        plain(&["secret", "rotate-key"]),
        plain(&["secret", "rm", "db"]),
        plain(&["incident", "open", "x", "--severity", "sev3"]),
        plain(&["register", "add", "problem", "x"]),
        plain(&["schedule", "pause", "test"]),
        plain(&["schedule", "resume", "--all"]),
        plain(&["schedule", "skip", "test"]),
        plain(&["state", "prune"]),
        plain(&["state", "backup", "copy"]),
        plain(&["state", "restore", "copy", "--yes"]),
    ] {
        let code = if act.contains(&"--crash-after".to_owned()) { -9 } else { 0 };
        done = done.then(act.iter().map(String::as_str)).stdin("a long secret\n").exits(code);
    }
    drop(held.wait_with_output());
    done = done.then(["audit", "-n", "0", "--json"]).succeeds();
    let rows = done.json();
    // What is refused has no row before it, and an upgrade is nobody's act.
    for action in Action::ALL.into_iter().filter(|action| !matches!(action, Action::Refuse | Action::Upgrade)) {
        let of = |is_before: bool| {
            rows.as_array().unwrap().iter().any(|row| row["action"] == action.name() && row["outcome"].is_null() == is_before)
        };
        assert!(of(true) && of(false), "{}: {rows:#}", action.name());
    }
}

#[test]
fn a_changed_journal_is_found_and_named() {
    let project = settle(used());
    overwrite(&project.state(), "a value of a step", "a value of a stop");
    let done = project.command(["audit", "verify"]).exits(1).says("run #1, event 4 (altered)").says("run #2, event 4 (altered)");
    let done = done.then(["doctor", "--store"]).exits(1).says("run #1, event 4").says("runbook state restore");
    let done = done.then(["audit", "verify", "--json"]).exits(1);
    assert_eq!(done.json()["damage"][0]["verdict"], "altered");
    assert_eq!(done.json()["damage"][0]["run"], 1);
    // SQLite itself sees nothing.
    let _ = done.then(["doctor"]).run().says("sound");
}

#[test]
fn a_changed_audit_log_is_found_and_a_cut_one_with_a_checkpoint() {
    let project = settle(used());
    let state = project.state();
    let done = project.command(["audit", "checkpoint", "--out", "kept.jsonl"]).succeeds().talks("the public key is");
    let done = done.then(["audit", "verify", "--checkpoint", "kept.jsonl"]).succeeds().says("vouches for all of it");
    let before = std::fs::read(state.join("runbook.db")).unwrap();
    let done = done.then(["run", "test"]).succeeds();
    let done = done.then(["audit", "verify", "--checkpoint", "kept.jsonl"]).succeeds().says("unanchored: 2 rows");
    let done = done.then(["audit", "checkpoint", "--out", "kept.jsonl"]).succeeds();
    // An older database in its place: whole in itself.
    for name in ["runbook.db-wal", "runbook.db-shm"] {
        let _ = std::fs::remove_file(state.join(name));
    }
    std::fs::write(state.join("runbook.db"), before).unwrap();
    let done = done.then(["audit", "verify"]).succeeds();
    let done = done.then(["audit", "verify", "--checkpoint", "kept.jsonl"]).exits(1).says("(truncated)");
    let forged = std::fs::read_to_string(done.project.path().join("kept.jsonl")).unwrap().replace("\"count\":", "\"count\":1");
    std::fs::write(done.project.path().join("forged.jsonl"), forged).unwrap();
    let done = done.then(["audit", "verify", "--checkpoint", "forged.jsonl"]).run();
    assert!(done.code != 0 && done.stderr.contains("does not hold"), "{}", done.stderr);
    overwrite(&state, "#2 test for host", "#2 nest for host");
    let _ = done.then(["audit", "verify"]).exits(1).says("run #2, audit row 3 (altered)").says("run #2, audit row 4 (altered)");
}

#[test]
fn a_copy_is_verified_and_put_back_and_the_old_state_stays_beside() {
    let done = used().command(["secret", "set", "db"]).stdin("a long secret\n").succeeds();
    let done = done.then(["state", "backup", "copy"]).succeeds().says("2 runs");
    let copy = done.project.path().join("copy");
    for entry in std::fs::read_dir(&copy).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.is_dir() || !String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains("a long secret"));
    }
    let done = done.then(["state", "backup", "copy"]).exits(2).talks("is there already");
    let done = done.then(["state", "verify", "copy"]).succeeds().says("is whole: 2 runs");
    let done = done.then(["run", "test"]).succeeds();
    let done = done.then(["state", "restore", "copy"]).exits(6).talks("nobody can be asked");
    let done = done.then(["state", "restore", "copy", "--yes"]).succeeds().talks("the old one is");
    let done = done.then(["history", "--json"]).succeeds();
    assert_eq!(done.json().as_array().unwrap().len(), 2);
    let done = done.then(["secret", "list"]).succeeds().says("db");
    let done = done.then(["logs", "2"]).succeeds();
    let done = done.then(["audit", "verify"]).succeeds();
    let done = done.then(["audit", "-n", "2"]).succeeds().says("restore");
    let beside = |name: &str| name.starts_with("state.before-");
    let names = std::fs::read_dir(done.project.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| beside(name)).count(), 1);
    let done = done.then(["run", "test"]).succeeds();
    std::fs::write(copy.join("runs/1/log.jsonl"), "nothing happened").unwrap();
    let done = done.then(["state", "verify", "copy"]).exits(8).talks("`runs/1/log.jsonl` was changed");
    let done = done.then(["state", "restore", "copy", "--yes"]).exits(8);
    let _ = done.then(["report", "3"]).succeeds();
}

#[test]
fn what_is_old_is_removed_and_the_rest_is_whole() {
    let project = used().file("runbook.toml", "[retention]\nruns = \"1ms\"\nlogs = \"1ms\"\nkeep_min = 0\n");
    let done = project.command(["state", "prune", "--dry-run"]).succeeds().says("would be removed: 1 run, the logs and files of 2 runs");
    let done = done.then(["state", "prune", "--json"]).succeeds();
    assert_eq!(done.json()["runs"], serde_json::json!([1]));
    // The last success stays, without its log.
    let done = done.then(["history", "--json"]).succeeds();
    assert_eq!((done.json().as_array().unwrap().len(), done.json()[0]["run"].as_u64()), (1, Some(2)));
    assert!(!done.project.state().join("runs/2").exists());
    let done = done.then(["audit", "verify"]).succeeds();
    let done = done.then(["run", "test"]).succeeds();
    let _ = done.then(["audit", "verify"]).succeeds();
}

#[test]
fn a_broken_database_is_told_with_the_way_back() {
    let project = settle(used());
    let mut project = project.command(["state", "backup", "copy"]).succeeds().project;
    let database = project.state().join("runbook.db");
    let bytes = std::fs::read(&database).unwrap();
    for length in [bytes.len() / 2, 2000] {
        for name in ["runbook.db-wal", "runbook.db-shm"] {
            let _ = std::fs::remove_file(project.state().join(name));
        }
        std::fs::write(&database, &bytes[..length]).unwrap();
        let done = project.command(["history"]).run();
        assert!(done.code == 8 && done.stderr.contains("runbook state restore"), "{} {}", done.code, done.stderr);
        let done = done.then(["doctor", "--store"]).exits(1);
        let done = done.then(["run", "test"]).exits(8);
        project = done.then(["state", "restore", "copy", "--yes"]).succeeds().then(["run", "test"]).succeeds().project;
    }
}
