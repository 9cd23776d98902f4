//! Disks that are full, and disks that fail. Both need root and tools that may not be here; then this is said.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::Project;

/// Runs a script of the shell with the binary as `$RUNBOOK`, in a mount namespace of its own.
fn shell(directory: &Path, script: &str) -> Output {
    let output = Command::new("unshare")
        .args(["-m", "/bin/sh", "-euc", script])
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", directory)
        .env("USER", "maya")
        .env("RUNBOOK", env!("CARGO_BIN_EXE_runbook"))
        .env("RUNBOOK_STATE_DIR", directory.join("disk/state"))
        .output();
    output.unwrap_or_else(|error| panic!("unshare: {error}"))
}

/// Whether all of this can be had here; what can not is reported, never passed over in silence.
pub(super) fn can(what: &str, script: &str) -> bool {
    let works = Command::new("/bin/sh").args(["-c", script]).output().is_ok_and(|output| output.status.success());
    if !works {
        use std::io::Write;
        std::io::stderr().write_all(format!("not run: {what} can not be had here\n").as_bytes()).unwrap();
    }
    works
}

/// Bar 47: whichever write meets the full disk, nothing is torn, the run ends on the record, and when there is
/// space again the next one starts.
#[test]
fn a_full_disk_tears_nothing_and_the_run_ends_on_the_record() {
    if !can("a disk of its own", "unshare -m mount -t tmpfs none /mnt") {
        return;
    }
    let script = r#"runbook(#{ title: "t" });
        for turn in range(0, 30) {
            let turn = turn;
            step(`step ${turn}`, || `a result that takes some room, so that the pages of the journal fill up ${turn}`);
        }"#;
    let project = Project::new().runbook("test", script).runbook("noop", "runbook(#{ title: \"nothing\" });");
    std::fs::create_dir(project.path().join("disk")).unwrap();
    // Each run meets a disk that has a few pages more left, and so another write meets its end.
    let script = r#"
        mount -t tmpfs -o size=4m none disk
        free=0
        while [ $free -le 60 ]; do
            rm -rf disk/state
            "$RUNBOOK" run noop -q
            cat /dev/zero > disk/fill 2>/dev/null || true
            truncate -s -$((free * 4096)) disk/fill
            code=0; "$RUNBOOK" run test -q 2> said || code=$?
            echo "$free $code"
            case $code in 0) ;; 8) grep -q 'full\|No space left' said || { cat said; exit 9; } ;; *) cat said; exit 9 ;; esac
            rm disk/fill
            "$RUNBOOK" history --json > all.$free
            "$RUNBOOK" audit verify > verified || { cat verified; exit 9; }
            "$RUNBOOK" run noop -q
            free=$((free + 6))
        done
    "#;
    let output = shell(project.path(), script);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let mut interrupted = 0;
    for line in said.lines() {
        let (free, code) = line.split_once(' ').unwrap();
        let all: serde_json::Value = serde_json::from_slice(&std::fs::read(project.path().join(format!("all.{free}"))).unwrap()).unwrap();
        let all = all.as_array().unwrap();
        assert!(all.iter().all(|run| !run["ended"].is_null()), "with {free} pages left a run has no end: {all:?}");
        match (code, all.len(), all[0]["status"].as_str().unwrap()) {
            // It was not recorded, and so did not start.
            ("8", 1, "succeeded") | ("0", 2, "succeeded") => {}
            ("8", 2, "interrupted" | "succeeded") => interrupted += 1,
            other => panic!("with {free} pages left: {other:?}"),
        }
    }
    assert!(interrupted > 0, "no run was under way when the disk was full: {said}");
}

/// Bar 46: whichever sync fails, what was not durable is never called so. Of the database, that is: the sync of
/// the directory, which matters once in the life of a state, SQLite does not look at.
#[test]
fn a_failing_sync_is_never_a_success() {
    if !can("strace", "strace -o /dev/null true") {
        return;
    }
    let project = Project::new().runbook("test", "runbook(#{ title: \"t\" }); step(\"one\", || 1);");
    std::fs::create_dir(project.path().join("disk")).unwrap();
    let script = r#"
        for turn in 1 2 3 4 5 6; do
            # A fresh one each time: a checkpoint that fails loses nothing, and is no failure of the run.
            rm -rf disk/state
            "$RUNBOOK" run test -q
            code=0
            strace -f -o trace -P disk/state/runbook.db -P disk/state/runbook.db-wal -e trace=fsync,fdatasync -e inject=fsync,fdatasync:error=EIO:when=$turn "$RUNBOOK" run test -q 2> said || code=$?
            echo "$turn $code $(grep -c INJECTED trace) $("$RUNBOOK" history -n 1 --json | tr -d ' \n' | grep -o '"status":"[a-z-]*"')"
            "$RUNBOOK" audit verify > verified || { cat verified; exit 9; }
            "$RUNBOOK" run test -q
        done
    "#;
    let output = shell(project.path(), script);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let mut failed = 0;
    for line in said.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match (words[1], words[2]) {
            ("0", "0") => {}
            ("8", "1") => failed += 1,
            other => panic!("{other:?}: {said}"),
        }
    }
    assert!(failed >= 3, "{said}");
}
