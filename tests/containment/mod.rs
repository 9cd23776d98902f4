//! What holds a run when its script, or a program it starts, wants out: seen from outside, by what was reached.

mod files;
mod programs;
mod protected;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::harness::{Done, Project, note};

/// Runs a script with these grants in a project.
fn run_in(project: Project, allow: &str, body: &str) -> Done {
    let text = format!("runbook(#{{ title: \"t\", allow: #{{ {allow} }} }});\n{body}");
    project.runbook("test", &text).command(["run", "test", "--json", "--timeout", "100s"]).run()
}

fn run(allow: &str, body: &str) -> Done {
    run_in(Project::new(), allow, body)
}

/// The user without any rights of his own.
const NOBODY: u32 = 65_534;

/// Whether this process can become another user. One that can not runs all of this without rights anyway.
fn can_be_nobody() -> bool {
    let can = rustix::process::geteuid().is_root();
    if !can {
        note("not run: only root can become nobody");
    }
    can
}

/// Gives somebody without rights all of a directory.
fn give_to_nobody(path: &Path) {
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| give_to_nobody(&entry.unwrap().path()));
    }
}

/// A command in a project of somebody without rights.
fn as_nobody(project: &Project, arguments: &[&str]) -> Command {
    // The binary may lie where nobody else may look.
    let binary = project.path().join("runbook");
    std::fs::copy(env!("CARGO_BIN_EXE_runbook"), &binary).unwrap();
    std::fs::set_permissions(project.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    give_to_nobody(project.path());
    let mut command = Command::new(binary);
    command
        .args(arguments)
        .current_dir(project.path())
        .env_clear()
        .env("HOME", project.path())
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("RUNBOOK_STATE_DIR", project.state())
        .uid(NOBODY)
        .gid(NOBODY);
    command
}

/// What a supervisor sees in place of its worker, which can look into no other process.
#[test]
fn who_holds_a_removed_file_is_named_though_the_wall_hides_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("live.log");
    let mut file = std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, &[b'x'; 100_000]).unwrap();
    file.sync_all().unwrap();
    std::fs::remove_file(&path).unwrap();
    let script = format!(
        "let held = sys::deleted_open_files(#{{ on: {:?}, limit: 1000 }}).files;\n\
         if !held.some(|file| file.path == {:?} && file.pid == {}) {{ throw `only these are seen: ${{held}}`; }}",
        directory.path(),
        path,
        std::process::id()
    );
    let text = format!("runbook(#{{ title: \"t\", allow: #{{ sys: [\"processes\"] }} }});\n{script}");
    for verb in ["run", "plan"] {
        let done = Project::new().runbook("test", &text).command([verb, "test", "--json"]).run();
        assert_eq!(done.code, 0, "{}", done.stderr);
    }
}
