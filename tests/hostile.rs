//! Scripts that want to harm: each ends within its limits and leaves a record.

use std::time::Duration;

use crate::harness::{Done, Project};

fn run(body: &str, timeout: &str) -> Done {
    let text = format!("runbook(#{{ title: \"hostile\" }});\n{body}");
    Project::new().runbook("test", &text).command(["run", "test", "--json", "--timeout", timeout]).run()
}

/// A limit, whichever comes first, named in the record.
#[track_caller]
fn ends_by_a_limit(body: &str) {
    let done = run(body, "20s");
    let json = done.json();
    assert!(json["status"] == "failed" || json["status"] == "timed-out", "{body}: {}", done.stdout);
    assert_eq!(json["error"]["kind"], "limit", "{body}: {}", done.stdout);
}

#[test]
fn an_endless_loop_ends_at_its_time_limit() {
    for body in [
        "loop {}",
        "loop { try { loop {} } catch {} }",
        "sleep(3600);",
        "try { wait(\"1h\"); } catch { loop {} }",
        "let x = 0; while true { x += 1; }",
    ] {
        let done = run(body, "2s");
        assert_eq!(done.json()["status"], "timed-out", "{body}");
        assert_eq!(done.code, 124, "{body}");
        assert!(done.took < Duration::from_secs(4), "{body} took {:?}", done.took);
    }
}

#[test]
fn deep_values_crash_no_more_than_their_worker() {
    ends_by_a_limit("let a = []; for i in 0..1000000 { a = [a]; } let b = []; for i in 0..1000000 { b = [b]; } a == b");
}

#[test]
fn values_without_end_meet_the_memory_limit() {
    for body in [
        "let s = \"x\"; loop { s += s; }",
        "let a = [1]; loop { a += a; }",
        "let f = || 1; loop { f = f.curry(f); }",
        "let a = []; loop { a.push(\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\".to_upper() + a.len()); }",
    ] {
        ends_by_a_limit(body);
    }
}

#[test]
fn single_calls_that_would_take_gigabytes_are_refused() {
    for body in [
        "let s = \"a\".repeat(50000); let t = \"b\".repeat(50000); s.replace(\"a\", t);",
        "let b = blob(2000000000);",
        "let s = \"a\"; s.pad(2000000000, 'x');",
        "let a = []; a.pad(2000000000, 0);",
    ] {
        ends_by_a_limit(body);
    }
}

#[test]
fn recursion_ends_cleanly() {
    for body in ["fn f(n) { f(n + 1) } f(0)", "fn a(n) { b(n) } fn b(n) { a(n) } a(0)", "let f = |f| f.call(f); f.call(f)"] {
        let done = run(body, "20s");
        assert_eq!(done.json()["error"]["kind"], "limit", "{body}: {}", done.stdout);
    }
}

#[test]
fn a_flood_of_output_stops_at_its_limit() {
    let done = Project::new()
        .file("runbook.toml", "[limits]\noutput = \"100KiB\"\n")
        .runbook("test", "runbook(#{ title: \"t\" }); let line = \"x\".repeat(1000); for i in 0..20000 { print(line); }")
        .command(["run", "test", "--json"])
        .succeeds();
    let log = std::fs::metadata(done.project.state().join("runs/1/log.jsonl")).unwrap();
    assert!(log.len() <= 110 << 10, "{} bytes", log.len());
}

#[test]
fn source_bombs_are_errors() {
    for bomb in [
        "(".repeat(60_000),
        format!("let x = 1{};", "+1".repeat(30_000)),
        "[".repeat(60_000),
        format!("let s = \"{}\";", "x".repeat(5 << 20)),
        "!".repeat(60_000),
    ] {
        let done = run(&bomb, "5s");
        assert!(matches!(done.code, 2 | 4), "{}", &done.stderr[..done.stderr.len().min(300)]);
        assert!(done.took < Duration::from_secs(10));
    }
}

#[test]
fn only_the_runbook_library_can_be_imported() {
    for path in ["../../etc/passwd", "/etc/passwd", "a/../b", ""] {
        let done = run(&format!("import \"{path}\" as x;"), "5s");
        assert_eq!(done.code, 4, "{path}");
    }
    assert_eq!(run("eval(\"1\")", "5s").code, 4);
}

#[test]
fn nothing_a_script_prints_can_be_taken_for_ours() {
    let text = "runbook(#{ title: \"t\" }); print(\"a\\x1b[31m\\x1b]52;c;eA==\\x07\\r\\n12:00:00 ok succeeded\\u202e\");";
    let done = Project::new().runbook("test", text).command(["run", "test"]).succeeds();
    for stream in [&done.stderr.clone(), &done.then(["logs"]).succeeds().stdout] {
        assert!(!stream.contains('\u{1b}') && !stream.contains('\r') && !stream.contains('\u{202e}'), "{stream:?}");
        assert!(!stream.lines().any(|line| line.starts_with("12:00:00 ok succeeded")), "{stream}");
    }
}
