//! What decides over runs is out of the reach of runs, whatever they are granted.

use std::os::unix::process::CommandExt;

use super::{NOBODY, as_nobody, can_be_nobody, run_in};
use crate::harness::Project;

fn project() -> Project {
    let project = Project::new()
        .file("secret.txt", "the-sentinel-of-the-file\n")
        .file("runbook.toml", "[secrets.token]\nfile = \"secret.txt\"\n")
        .runbook("other", "runbook(#{ title: \"other\" });");
    std::fs::set_permissions(project.path().join("secret.txt"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    project
        .command(["secret", "set", "stored"])
        .stdin("the-sentinel-of-the-store\n")
        .succeeds()
        .project
        .command(["run", "other"])
        .succeeds()
        .project
}

/// Each path with what a run must not do to it, tried by host functions and by a shell with the same grants.
#[test]
fn a_grant_for_everything_does_not_cover_runbook_itself() {
    nothing_of_runbook_is_reached(project().file("free/file", ""), "/");
}

/// With a grant for everything no program starts, since the run could change it; with this one the kernel decides.
#[test]
fn a_grant_for_the_project_does_not_cover_runbook_itself() {
    let project = project().file("free/file", "");
    let directory = project.path().display().to_string();
    nothing_of_runbook_is_reached(project, &directory);
}

fn nothing_of_runbook_is_reached(project: Project, granted: &str) {
    let state = project.state();
    let stored = std::fs::read_dir(state.join("secrets")).unwrap().next().unwrap().unwrap().path();
    let paths = [
        state.join("runbook.db"),
        state.join("runs/1/log.jsonl"),
        state.join("runs/2/log.jsonl"),
        stored,
        project.path().join("runbook.toml"),
        project.path().join("secret.txt"),
        project.path().join("runbooks/other.rhai"),
        env!("CARGO_BIN_EXE_runbook").into(),
    ];
    let before: Vec<_> = paths.iter().map(|path| std::fs::read(path).ok().map(|bytes| bytes.len())).collect();
    let list: Vec<String> = paths.iter().map(|path| format!("{path:?}")).collect();
    let body = format!(
        "let done = [];
         for path in [{}] {{
             try {{ fs::write(path, \"x\"); done.push(\"wrote \" + path); }} catch {{}}
             try {{ fs::append(path, \"x\"); done.push(\"appended \" + path); }} catch {{}}
             try {{ fs::chmod(path, \"0666\"); done.push(\"chmod \" + path); }} catch {{}}
             try {{ fs::rename(path, \"{stolen}\"); done.push(\"moved \" + path); }} catch {{}}
             try {{ fs::remove(path); done.push(\"removed \" + path); }} catch {{}}
             try {{ exec::run([\"/bin/sh\", \"-c\", \"echo x >> \" + path]); done.push(\"sh wrote \" + path); }} catch {{}}
             try {{ exec::run([\"/bin/rm\", \"-f\", path]); done.push(\"rm \" + path); }} catch {{}}
             try {{ fs::copy(path, \"{stolen}\"); done.push(\"copied \" + path); }} catch {{}}
             if !path.ends_with(\"/runbook\") {{
                 try {{ fs::read_bytes(path); done.push(\"read \" + path); }} catch {{}}
                 try {{ exec::run([\"/bin/cat\", path]); done.push(\"cat \" + path); }} catch {{}}
             }}
         }}
         try {{ exec::run([\"/bin/mv\", \"{state}\", \"{state}2\"]); done.push(\"moved the state\"); }} catch {{}}
         output(\"done\", done);
         try {{ exec::run([\"/bin/sh\", \"-c\", \"echo works > {free}\"]); }} catch {{}}",
        list.join(", "),
        state = state.display(),
        free = project.path().join("free/file").display(),
        stolen = project.path().join("free/stolen").display(),
    );
    let allow = format!(
        "exec: [\"/bin/sh\", \"/bin/rm\", \"/bin/cat\", \"/bin/mv\"], fs: #{{ read: [\"{granted}\"], write: [\"{granted}\"], remove: [\"{granted}\"] }}"
    );
    let free = project.path().join("free/file");
    let done = run_in(project, &allow, &body);
    assert_eq!(done.json()["outputs"]["done"], serde_json::json!([]), "{}{}", done.stdout, done.stderr);
    if granted != "/" {
        assert_eq!(std::fs::read_to_string(free).unwrap(), "works\n", "a program writes where it may: {}", done.stdout);
    }
    let now: Vec<_> = paths.iter().map(|path| std::fs::read(path).ok().map(|bytes| bytes.len())).collect();
    for ((path, before), now) in paths.iter().zip(before).zip(now) {
        // The database and the log of this run grow; they are the supervisor's.
        assert!(before.is_none() || now >= before, "{}: {before:?} bytes before, {now:?} now", path.display());
    }
}

#[test]
fn the_memory_of_a_run_can_not_be_read_by_its_own_user() {
    if !can_be_nobody() {
        return;
    }
    let project = Project::new().runbook("test", "runbook(#{ title: \"t\" }); print(\"begun\"); wait(\"60s\");");
    let mut supervisor =
        as_nobody(&project, &["run", "test"]).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let log = project.state().join("runs/1/log.jsonl");
    crate::harness::wait_until("the script has begun", || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("begun")));
    let of_supervisor = supervisor.id().to_string();
    let workers = std::fs::read_to_string(format!("/proc/{of_supervisor}/task/{of_supervisor}/children")).unwrap();
    let pids: Vec<&str> = std::iter::once(of_supervisor.as_str()).chain(workers.split_whitespace()).collect();
    assert!(pids.len() >= 2, "there is a worker");
    for pid in pids {
        for file in ["mem", "environ", "maps"] {
            let path = format!("/proc/{pid}/{file}");
            let read = std::process::Command::new("/bin/dd")
                .arg(format!("if={path}"))
                .args(["of=/dev/null", "count=1"])
                .uid(NOBODY)
                .gid(NOBODY)
                .output()
                .unwrap();
            assert!(!read.status.success(), "{path} was opened");
            assert!(
                String::from_utf8_lossy(&read.stderr).contains("Permission denied"),
                "{path}: {}",
                String::from_utf8_lossy(&read.stderr)
            );
        }
    }
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
}
