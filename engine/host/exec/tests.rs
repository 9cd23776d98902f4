use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::kill_descendants;
use crate::error::Kind;
use crate::host::testing::Bench;
use crate::host::{Mode, Secret, Secrets};
use crate::model::System;

fn bench() -> Bench {
    Bench::new(json!({ "exec": ["/usr/bin", "/bin"] }))
}

fn text(bench: &Bench, script: &str) -> String {
    bench.eval(script).unwrap().to_string()
}

/// Waits for what another process brings about.
fn soon(is_so: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn arguments_are_literal() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench();
    let planted = dir.path().join("planted").display().to_string();
    for hostile in [
        format!("; touch {planted}"),
        format!("$(touch {planted})"),
        format!("`touch {planted}`"),
        format!("\n touch {planted}"),
        format!("| touch {planted}"),
    ] {
        let mut scope = rhai::Scope::new();
        scope.push("hostile", hostile.clone());
        let said = bench.eval_with(&mut scope, r#"exec::run(["/bin/echo", hostile]).stdout"#).unwrap();
        assert_eq!(said.to_string(), format!("{hostile}\n"));
    }
    assert!(!Path::new(&planted).exists());
}

#[test]
fn data_is_never_an_option() {
    let bench = bench();
    for program in ["tar", "find", "sort", "ls"] {
        let error = bench.error(&format!(r#"exec::run(["{program}", exec::arg("--checkpoint-action=exec=sh")])"#));
        assert!(error.kind == Kind::Invalid && error.message.contains("begins with `-`"), "{program}: {error}");
    }
    assert!(text(&bench, r#"exec::run(["ls", "--", exec::arg("-no-such-file")], #{ ok_codes: [2] }).stderr"#).contains("-no-such-file"));
    assert_eq!(bench.error(r#"exec::run(["find", "--", exec::arg("-delete")])"#).kind, Kind::Invalid);
    assert_eq!(text(&bench, r#"exec::run(["/bin/echo", exec::arg("x"), 5, 1.5]).stdout"#), "x 5 1.5\n");
}

#[test]
fn the_environment_is_the_documented_list() {
    let bench = bench();
    let environment = text(&bench, r#"exec::run(["cat", "/proc/self/environ"], #{ env: #{ PGPASSFILE: "/x" } }).stdout"#);
    let mut names: Vec<&str> = environment.split('\0').filter_map(|entry| entry.split_once('=')).map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LC_ALL", "PATH", "PGPASSFILE", "TMPDIR"]);
    assert!(environment.contains("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\0"));
    for name in [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "BASH_ENV",
        "ENV",
        "PYTHONPATH",
        "PERL5LIB",
        "GIT_SSH_COMMAND",
        "PGPASSWORD",
        "http_proxy",
        "ALL_PROXY",
        "RUNBOOK_STATE_DIR",
        "PATH",
        "GLIBC_TUNABLES",
    ] {
        assert_eq!(bench.error(&format!(r#"exec::run(["/bin/true"], #{{ env: #{{ {name}: "x" }} }})"#)).kind, Kind::Denied, "{name}");
    }
    assert_eq!(bench.error(r#"exec::run(["/bin/true"], #{ env: #{ "A=B": "x" } })"#).kind, Kind::Invalid);
}

#[test]
fn secrets_go_by_stdin_and_never_by_argument() {
    let secrets = Secrets::new([("db".to_owned(), "hunter2hunter2".to_owned())].into());
    let bench = Bench::with(json!({ "exec": ["/usr/bin", "/bin"], "secrets": ["db"] }), System::default(), secrets, Mode::Apply);
    let mut scope = rhai::Scope::new();
    scope.push("password", Secret::named("db"));
    let count = bench.eval_with(&mut scope, r#"exec::run(["wc", "-c"], #{ stdin: password }).stdout"#).unwrap();
    assert_eq!(count.to_string().trim(), "14");
    let error = crate::host::error_of(&bench.eval_with(&mut scope, r#"exec::run(["/bin/echo", password])"#).unwrap_err());
    assert!(error.kind == Kind::Invalid && error.hints[0].contains("stdin"));
    assert!(!format!("{:?}", bench.recorder.events()).contains("hunter2"));
}

#[test]
fn what_the_script_did_not_write_is_never_an_option() {
    let bench = bench();
    let run = |name: &str, script: &str| {
        let mut scope = rhai::Scope::new();
        scope.push("data", name.to_owned());
        bench.eval_with(&mut scope, script).map_err(|error| crate::host::error_of(&error))
    };
    let said = r#"exec::run(["/bin/echo", "-n", data]).stdout"#;
    for option in ["-e", "--checkpoint-action=exec=sh", "-", "--", "-oProxyCommand=x", "-n=x"] {
        let error = run(option, said).unwrap_err();
        assert!(error.kind == Kind::Invalid && error.message.contains("comes from data"), "{option}: {error}");
    }
    assert_eq!(run("x-y", said).unwrap().to_string(), "x-y");
    assert_eq!(run("-5", r#"exec::run(["/bin/echo", parse_int(data)])"#).unwrap_err().kind, Kind::Invalid);
    // Its own options, whole or as far as the `=`, however they got there.
    assert_eq!(run("-x", r#"exec::run(["/bin/echo", "a", `--file=${data}`]).stdout"#).unwrap().to_string(), "a --file=-x\n");
    assert_eq!(
        run("", r#"let flags = ["-n"]; let last = "b"; flags += last; exec::run(["/bin/echo"] + flags).stdout"#).unwrap().to_string(),
        "b"
    );
    assert_eq!(run("3", r#"exec::run(["/bin/echo", exec::option("-w" + data)]).stdout"#).unwrap().to_string(), "-w3\n");
    assert_eq!(run("-x", r#"exec::run(["/bin/echo", "--", data]).stdout"#).unwrap().to_string(), "-- -x\n");
}

#[test]
fn a_secret_is_no_variable_and_can_be_in_a_file() {
    let secrets = Secrets::new([("db".to_owned(), "hunter2hunter2".to_owned())].into());
    let allow = json!({ "exec": ["/usr/bin", "/bin"], "secrets": ["db"] });
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::inside(directory.path(), allow, secrets);
    let mut scope = rhai::Scope::new();
    scope.push("password", Secret::named("db"));
    scope.push("known", "x-hunter2hunter2-x".to_owned());
    for call in [
        r#"exec::run(["/bin/true"], #{ env: #{ TOKEN: password } })"#,
        r#"exec::run(["/bin/true"], #{ env: #{ TOKEN: known } })"#,
        r#"exec::run(["/bin/true", known])"#,
        r#"exec::run(["/bin/true"], #{ secret_files: #{ "A=B": password } })"#,
    ] {
        let error = crate::host::error_of(&bench.eval_with(&mut scope, call).unwrap_err());
        assert!(error.kind == Kind::Invalid && !error.to_string().contains("hunter2"), "{call}: {error}");
    }
    let refused = r#"exec::run(["/bin/true"], #{ secret_files: #{ LD_PRELOAD: password } })"#;
    assert_eq!(crate::host::error_of(&bench.eval_with(&mut scope, refused).unwrap_err()).kind, Kind::Denied);
    let script = r#"exec::run(["sh", "-c", "stat -c %a \"$PGPASSFILE\"; wc -c < \"$PGPASSFILE\"; tail -c 3 \"$PGPASSFILE\"; exit 3"],
        #{ secret_files: #{ PGPASSFILE: ["*:*:*:*:", password] }, ok_codes: [3] }).stdout"#;
    assert_eq!(bench.eval_with(&mut scope, script).unwrap().to_string(), "600\n22\ner2");
    let left = std::fs::read_dir(directory.path().join(super::SECRET_FILES)).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn at_the_timeout_the_whole_group_ends() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid").display().to_string();
    let started = Instant::now();
    let script = format!("trap '' TERM; sleep 1000 & echo $! > {pid}; while :; do sleep 1; done");
    let error = bench().error(&format!(r#"exec::run(["sh", "-c", "{script}"], #{{ timeout: "200ms" }})"#));
    assert_eq!(error.kind, Kind::Timeout);
    assert!(started.elapsed() < Duration::from_secs(8));
    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(soon(|| !is_running(&pid)), "{pid}");
}

#[test]
fn a_stop_of_the_run_ends_the_group_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid").display().to_string();
    let bench = bench();
    std::thread::scope(|scope| {
        let run = scope
            .spawn(|| bench.eval(&format!(r#"exec::run(["sh", "-c", "echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 1000"])"#)).is_err());
        assert!(soon(|| Path::new(&pid).exists()));
        bench.ctx.stop().stop(crate::host::StopReason::Cancelled);
        assert!(run.join().unwrap());
    });
    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(soon(|| !is_running(&pid)), "{pid}");
}

#[test]
fn a_flood_is_drained_and_capped() {
    let ended = r#"let said = exec::run(["head", "-c", "50000000", "/dev/zero"], #{ max_output: "1KiB" }); [said.stdout.len(), said.truncated, said.code]"#;
    assert_eq!(text(&bench(), ended), "[1024, true, 0]");
}

#[test]
fn a_background_child_that_holds_the_pipes_does_not_hold_the_call() {
    let started = Instant::now();
    assert_eq!(text(&bench(), r#"exec::run(["sh", "-c", "sleep 1000 & echo started"]).stdout"#), "started\n");
    assert!(started.elapsed() < Duration::from_secs(9));
}

#[test]
fn a_code_that_is_not_fine_is_an_error_with_what_was_said() {
    let bench = bench();
    let error = bench.error(r#"exec::run(["sh", "-c", "echo one >&2; echo two >&2; exit 3"])"#);
    assert_eq!((error.kind, error.message.as_str()), (Kind::Remote, "`/usr/bin/sh` ended with code 3: two"));
    assert_eq!(error.hints, ["it said:\none\ntwo"]);
    assert_eq!(text(&bench, r#"exec::run(["sh", "-c", "exit 3"], #{ ok_codes: [0, 3] }).code"#), "3");
    assert!(bench.error(r#"exec::run(["sh", "-c", "kill -9 $$"])"#).message.contains("signal 9"));
    assert_eq!(bench.error(r#"exec::run(["no-such-program"])"#).kind, Kind::NotFound);
    assert_eq!(bench.error(r#"exec::run([])"#).kind, Kind::Invalid);
    assert_eq!(bench.error(r#"exec::run(["bin/sh"])"#).kind, Kind::Invalid);
}

#[test]
fn every_program_of_a_pipe_has_to_end_well() {
    let bench = bench();
    assert_eq!(text(&bench, r#"exec::pipe([["printf", "b\na\n"], ["sort"], ["head", "-n", "1"]]).stdout"#), "a\n");
    let error = bench.error(r#"exec::pipe([["sh", "-c", "echo broken >&2; exit 1"], ["gzip", "-c"]])"#);
    assert_eq!(error.message, "`/usr/bin/sh` ended with code 1: broken");
}

/// A program that says its name. Another process writes it: a file that this one has open for writing
/// could be inherited by what another test starts just then, and could not be executed.
fn plant(path: &Path, says: &str) {
    write_by("printf '#!/bin/sh\necho %s\n' \"$1\" > \"$2\"; chmod 755 \"$2\"", says, path);
}

fn write_by(script: &str, from: &str, to: &Path) {
    let wrote = std::process::Command::new("sh").args(["-c", script, "sh", from]).arg(to).status().unwrap();
    assert!(wrote.success());
}

#[test]
fn a_planted_program_is_never_started() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    plant(&path("tool"), "granted");
    plant(&path("evil"), "evil");
    symlink(path("tool"), path("by-link")).unwrap();
    let run = |name: &str| format!(r#"exec::run(["{}"]).stdout"#, path(name).display());

    let granted = Bench::new(json!({ "exec": [path("tool")] }));
    assert_eq!(text(&granted, &run("tool")), "granted\n");
    assert_eq!(text(&granted, &run("by-link")), "granted\n", "what runs is the granted file, whatever its name");
    assert_eq!(granted.error(&run("evil")).kind, Kind::Denied);
    assert_eq!(granted.error(r#"exec::run(["tool"])"#).kind, Kind::NotFound, "a bare name is looked up in the fixed list only");

    let writing = Bench::new(json!({ "exec": [path("tool")], "fs": { "write": [dir.path()] } }));
    assert!(writing.error(&run("tool")).message.contains("lies where this run may write"));

    std::fs::set_permissions(path("tool"), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(granted.error(&run("tool")).kind, Kind::Denied, "everyone may change it");
}

#[test]
fn what_takes_the_name_of_a_program_after_the_check_is_not_started() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    write_by("cp \"$1\" \"$2\"", "/bin/echo", &path("elf"));
    plant(&path("script"), "granted");
    let bench = Bench::new(json!({ "exec": [dir.path()] }));
    let find = |name: &str| super::Program::find(&bench.ctx, &path(name).display().to_string()).unwrap();
    let (elf, script) = (find("elf"), find("script"));
    for name in ["elf", "script"] {
        plant(&path("evil"), "evil");
        std::fs::rename(path("evil"), path(name)).unwrap();
    }
    let said = std::process::Command::new(elf.executed().unwrap()).arg("original").output().unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "original\n");
    assert_eq!(script.executed().unwrap_err().kind, Kind::Conflict);
}

#[test]
fn a_plan_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::with(json!({ "exec": ["/usr/bin"] }), System::default(), Secrets::default(), Mode::Plan);
    let path = dir.path().join("planted");
    assert_eq!(text(&bench, &format!(r#"exec::run(["touch", "{}"]).ok"#, path.display())), "true");
    assert!(!path.exists());
}

#[test]
fn descendants_that_left_their_session_are_found() {
    let mut child = std::process::Command::new("setsid").args(["sh", "-c", "sleep 1000 & sleep 1000"]).spawn().unwrap();
    let pid = child.id();
    let sleeping = || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(soon(|| sleeping().len() == 2));
    let grandchildren = sleeping();
    assert!(kill_descendants(pid));
    assert!(grandchildren.iter().all(|pid| !is_running(pid)));
    child.wait().unwrap();
}
