//! Scripts that want to harm: each ends within its limits and leaves a record.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::{Done, Project};

fn run(body: &str, timeout: &str) -> Done {
    let text = format!("runbook(#{{ title: \"hostile\" }});\n{body}");
    Project::new().runbook("test", &text).command(["run", "test", "--json", "--timeout", timeout]).run()
}

/// A limit, whichever comes first, named in the record.
#[track_caller]
fn ends_by_a_limit(body: &str) {
    ends_by_a_limit_within(body, "20s");
}

/// The same, where the time is a limit that may come first.
#[track_caller]
fn ends_by_a_limit_within(body: &str, timeout: &str) {
    let done = run(body, timeout);
    let json = done.json();
    assert!(json["status"] == "failed" || json["status"] == "timed-out", "{body}: {}", done.stdout);
    assert_eq!(json["error"]["kind"], "limit", "{body}: {}", done.stdout);
}

#[test]
fn an_endless_loop_ends_at_its_time_limit() {
    let bodies = [
        "loop {}",
        "loop { try { loop {} } catch {} }",
        "sleep(3600);",
        "try { wait(\"1h\"); } catch { loop {} }",
        "let x = 0; while true { x += 1; }",
        "fn f() { loop {} } f();",
        "step(\"s\", || loop { let x = \"a\" + 1; });",
        "parallel([1, 2], |number| loop { let x = number; });",
    ];
    for two in bodies.chunks(2) {
        std::thread::scope(|scope| two.iter().for_each(|body| drop(scope.spawn(|| ends_in_time(body)))));
    }
}

fn ends_in_time(body: &str) {
    let done = run(body, "2s");
    assert_eq!((&done.json()["status"], done.code), (&"timed-out".into(), 124), "{body}");
    let took = done.json()["duration_ms"].as_u64().unwrap();
    assert!((1900..=3000).contains(&took), "{body} took {took} ms");
}

#[test]
fn what_comes_after_a_limit_does_not_happen() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("written");
    for body in ["try { loop {} } catch {}", "try { sleep(3600); } catch {}", "try { step(\"s\", || sleep(3600)); } catch {}"] {
        let allow = format!("allow: #{{ fs: #{{ write: [\"{}\"] }} }}", directory.path().display());
        let text = format!("runbook(#{{ title: \"t\", {allow} }});\n{body}\nfs::write(\"{}\", \"x\");", file.display());
        let done = Project::new().runbook("test", &text).command(["run", "test", "--json", "--timeout", "2s"]).exits(124);
        assert!(done.json()["duration_ms"].as_u64().unwrap() <= 3000 && !file.exists(), "{body}: {}", done.stdout);
    }
}

#[test]
fn a_healthy_run_beside_hostile_ones_is_unharmed() {
    let healthy = "runbook(#{ title: \"healthy\", allow: #{ store: [\"write:*\"], fs: #{ read: [\"/tmp\", \"/var/tmp\", \"DIR\"] } } });
        let count = 0;
        while !fs::exists(\"DIR/over\") { count += 1; step(`turn ${count}`, || store::put(\"count\", count)); sleep(0.05); }
        output(\"turns\", count);";
    let directory = tempfile::tempdir().unwrap();
    let healthy = healthy.replace("DIR", &directory.path().display().to_string());
    let hostile = [
        "let s = \"x\"; loop { s += s; }",
        "loop {}",
        "let a = []; for i in 0..1000000 { a = [a]; } print(a);",
        "fn f(n) { f(n + 1) } f(0)",
        "let line = \"x\".repeat(100000); loop { print(line); }",
        "let b = blob(2000000000);",
    ];
    let project = Project::new().runbook("healthy", &healthy);
    let mut project = hostile.iter().enumerate().fold(project, |project, (number, body)| {
        project.runbook(&format!("bad{number}"), &format!("runbook(#{{ title: \"hostile\" }});\n{body}"))
    });
    let beside = project.start(&["run", "healthy", "--json"]);
    for (number, body) in hostile.iter().enumerate() {
        let done = project.command(["run", &format!("bad{number}"), "--json", "--timeout", "1s"]).run();
        assert_eq!(done.json()["error"]["kind"], "limit", "{body}: {}", done.stdout);
        project = done.project;
    }
    std::fs::write(directory.path().join("over"), "").unwrap();
    let output = beside.wait_with_output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && answer["outputs"]["turns"].as_i64().unwrap() > 10, "{answer}");
    drop(project);
}

#[test]
fn deep_values_crash_no_more_than_their_worker() {
    ends_by_a_limit_within("let a = []; for i in 0..1000000 { a = [a]; } let b = []; for i in 0..1000000 { b = [b]; } a == b", "5s");
    ends_by_a_limit_within("let a = []; for i in 0..100000 { a = [a]; } print(a);", "3s");
    // Deep, and still within the limits of a script.
    let deep = "let a = []; for i in 0..3000 { a = [a]; } let b = []; for i in 0..3000 { b = [b]; }";
    assert_eq!(run(&format!("{deep} print(a); output(\"same\", a == b);"), "20s").json()["outputs"]["same"], true);
    for kept in ["output(\"a\", a);", "step(\"s\", || a);", "store::put(\"a\", a);"] {
        let text = format!("runbook(#{{ title: \"t\", allow: #{{ store: [\"write:*\"] }} }}); {deep} {kept}");
        let done = Project::new().runbook("test", &text).command(["run", "test", "--json"]).exits(1);
        assert_eq!(done.json()["error"]["kind"], "limit", "{kept}: {}", done.stdout);
    }
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
fn the_process_that_keeps_the_record_stays_small() {
    let most = |body: &str| {
        let text = format!("runbook(#{{ title: \"t\" }});\n{body}");
        let mut child = Project::new().runbook("test", &text).start(&["run", "test", "--json", "--timeout", "20s"]);
        let status = format!("/proc/{}/status", child.id());
        let mut most = 0_u64;
        while child.try_wait().unwrap().is_none() {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
            most = most.max(peak.unwrap_or(0));
            std::thread::sleep(Duration::from_millis(2));
        }
        most << 10
    };
    let usual = most("print(\"x\");");
    for body in [
        "let s = \"a\".repeat(50000); let t = \"b\".repeat(50000); s.replace(\"a\", t);",
        "let f = || 1; loop { f = f.curry(f); }",
        "let b = blob(2000000000);",
        "let a = []; a.pad(2000000000, 0);",
        "let s = \"x\"; loop { s += s; }",
    ] {
        let grown = most(body).saturating_sub(usual);
        assert!(grown < 20 << 20, "{body}: {grown} bytes more than {usual}");
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
fn a_gigabyte_of_output_takes_no_longer_than_printing_it() {
    let text = "runbook(#{ title: \"t\" }); let line = \"x\".repeat(1000000); for i in 0..1000 { print(line); }";
    let done = Project::new().runbook("test", text).command(["run", "test", "--json", "--timeout", "20s"]).succeeds();
    let log = std::fs::read_to_string(done.project.state().join("runs/1/log.jsonl")).unwrap();
    assert!(log.len() <= (16 << 20) + 4096, "{} bytes", log.len());
    let last: Vec<&str> = log.lines().rev().take(2).collect();
    assert!(last[0].contains("\"succeeded\"") && last[1].contains("bytes of the log were left out"), "{last:?}");
}

/// What a server may send without end, and whether the call ends by its size or its time.
fn trap(kind: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                // It ends when the client has enough.
                let _ = spring(&mut stream, kind);
            });
        }
    });
    port
}

fn spring(stream: &mut TcpStream, kind: &str) -> std::io::Result<()> {
    let block = vec![b'x'; 64 << 10];
    let chunk = |stream: &mut TcpStream, bytes: &[u8]| {
        write!(stream, "{:x}\r\n", bytes.len())?;
        stream.write_all(bytes)?;
        stream.write_all(b"\r\n")
    };
    write!(stream, "HTTP/1.1 200 OK\r\n")?;
    match kind {
        "length" => {
            write!(stream, "content-length: 100000000000\r\n\r\n")?;
            loop {
                stream.write_all(&block)?;
            }
        }
        "chunks" => {
            write!(stream, "transfer-encoding: chunked\r\n\r\n")?;
            loop {
                chunk(stream, &block)?;
            }
        }
        "gzip" => {
            write!(stream, "content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n")?;
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            let zeros = vec![0; 1 << 20];
            loop {
                packed.write_all(&zeros)?;
                packed.flush()?;
                let bytes = std::mem::take(packed.get_mut());
                chunk(stream, &bytes)?;
            }
        }
        "headers" => loop {
            write!(stream, "x-more: {}\r\n", "y".repeat(1000))?;
        },
        "drip" => {
            write!(stream, "content-length: 1000\r\n\r\nx")?;
            // Nothing more, until the client hangs up.
            stream.read(&mut [0]).map(drop)
        }
        "chunk size" => write!(stream, "transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n"),
        other => unreachable!("{other}"),
    }
}

#[test]
fn no_body_of_a_server_is_read_without_end() {
    for (kind, how) in
        [("length", "cut"), ("chunks", "cut"), ("gzip", "cut"), ("drip", "timeout"), ("headers", "remote"), ("chunk size", "remote")]
    {
        let port = trap(kind);
        let text = format!(
            "runbook(#{{ title: \"t\", allow: #{{ http: [\"GET http://127.0.0.1:{port}\"] }} }});
             let got = http::get(\"http://127.0.0.1:{port}/\", #{{ timeout: \"3s\" }});
             output(\"truncated\", got.truncated); output(\"length\", got.body.len());"
        );
        let done = Project::new().runbook("test", &text).command(["run", "test", "--json", "--timeout", "20s"]).run();
        let json = done.json();
        let took = json["duration_ms"].as_u64().unwrap();
        assert!(took < 5000, "{kind}: {took} ms");
        match how {
            "cut" => {
                assert_eq!(json["outputs"]["truncated"], true, "{kind}: {}", done.stdout);
                assert!(json["outputs"]["length"].as_u64().unwrap() <= 16 << 20, "{kind}");
            }
            error => assert_eq!(json["error"]["kind"], error, "{kind}: {}", done.stdout),
        }
    }
}

#[test]
fn source_bombs_are_errors_within_a_second() {
    // A build without optimisation, on a machine that does other things too, gets more.
    let allowed = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 });
    for bomb in [
        "(".repeat(100_000),
        format!("let x = 1{};", "+1".repeat(200_000)),
        format!("let s = \"{}\";", "x".repeat(5 << 20)),
        // As long as a script may be, so that the compiler meets them.
        "(".repeat(60_000),
        format!("let x = 1{};", "+1".repeat(30_000)),
        "[".repeat(60_000),
        "#{a:".repeat(15_000),
        "!".repeat(60_000),
        "if true {".repeat(7_000),
        "`${".repeat(20_000),
        "f(".repeat(30_000),
        (0..900).map(|number| format!("{}{number}();", "x".repeat(60))).collect(),
        (0..6000).map(|number| format!("aaa{number}();")).collect(),
    ] {
        let text = format!("runbook(#{{ title: \"hostile\" }});\n{bomb}");
        let mut project = Project::new().runbook("test", &text);
        for command in ["check", "run"] {
            // The quickest of three: another process may have had the processor.
            let mut quickest = Duration::MAX;
            for _ in 0..3 {
                let done = project.command([command, "test"]).run();
                assert!(matches!(done.code, 2 | 4), "{command} of {}…: {} {}", &bomb[..20], done.code, done.stderr);
                quickest = quickest.min(done.took);
                project = done.project;
                if quickest < allowed {
                    break;
                }
            }
            assert!(quickest < allowed, "{command} of {}…: {quickest:?}", &bomb[..20]);
        }
    }
    for deep in ["[", "{\\\"a\\\":"] {
        let done = run(&format!("let text = \"{deep}\".repeat(1000000); parse_json(text);"), "20s");
        assert!(done.code == 1 && done.took < Duration::from_secs(5), "{} in {:?}", done.stdout, done.took);
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    /// A number below `most`.
    fn roll(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % most.max(1) as u64).unwrap()
    }
}

/// Scripts that are nearly right: the ones that come with the program, and those the check is tested with.
fn seeds() -> Vec<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open = vec![root.join("runbooks"), root.join("stdlib"), root.join("tests/suite")];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rhai") {
                found.push(path);
            }
        }
    }
    found.sort();
    let text = |path: &std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    // The long ones in pieces, so that each mutation is met soon.
    found.iter().map(text).flat_map(|text| [text.chars().take(1500).collect::<String>(), text.chars().take(300).collect()]).collect()
}

/// A script with a few things changed in it.
fn mutated(seeds: &[String], dice: &mut Dice) -> String {
    const WORDS: [&str; 40] = [
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        "#{",
        "\"",
        "`",
        "${",
        "||",
        "|x|",
        "::",
        ".",
        ",",
        ";",
        "=",
        "=>",
        "??",
        "?.",
        "..",
        "-",
        "!",
        "let ",
        "fn f(",
        "if ",
        "else ",
        "loop {",
        "import \"",
        "switch ",
        "try {",
        "throw",
        "runbook(#{",
        "step(",
        "\u{202e}",
        "\0",
        "9e999",
        "0x",
        "/*",
        "//",
    ];
    let mut letters: Vec<char> = seeds[dice.roll(seeds.len())].chars().collect();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(letters.len() + 1);
        let end = (at + dice.roll(40)).min(letters.len());
        match dice.roll(9) {
            0 => drop(letters.drain(at..end)),
            1 => drop(letters.splice(at..at, WORDS[dice.roll(WORDS.len())].chars())),
            2 => drop(letters.splice(at..end, WORDS[dice.roll(WORDS.len())].chars())),
            3 => letters.truncate(at),
            4 => {
                let other: Vec<char> = seeds[dice.roll(seeds.len())].chars().collect();
                let from = dice.roll(other.len());
                letters.splice(at..at, other[from..(from + 60).min(other.len())].iter().copied());
            }
            5 => {
                let copied = letters[at..end].to_vec();
                let copies = dice.roll(30);
                letters.splice(at..at, copied.iter().copied().cycle().take(copied.len() * copies));
            }
            6 if at < letters.len() => letters[at] = char::from_u32(u32::try_from(dice.roll(0x11_0000)).unwrap()).unwrap_or('\u{fffd}'),
            7 if at < letters.len() => letters[at] = char::from(u8::try_from(dice.roll(128)).unwrap()),
            _ => {
                let mut words: Vec<&str> = WORDS.to_vec();
                words.rotate_left(dice.roll(WORDS.len()));
                let nested = words[0].repeat(dice.roll(200));
                letters.splice(at..at, nested.chars());
            }
        }
    }
    letters.into_iter().collect()
}

#[test]
fn ten_thousand_broken_scripts_are_checked_without_a_panic() {
    let seeds = seeds();
    let next = std::sync::atomic::AtomicU64::new(0);
    let check = || {
        while let number @ 0..10_000 = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            let text = mutated(&seeds, &mut Dice(number));
            let started = Instant::now();
            let found = std::panic::catch_unwind(|| runbook::script::check_text("test", "test.rhai", &text, |_| None));
            let took = started.elapsed();
            assert!(found.is_ok(), "number {number} panics:\n{text}");
            assert!(took < Duration::from_secs(2), "number {number} took {took:?}:\n{text}");
        }
    };
    // With the stack that the program has.
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..2).map(|_| std::thread::Builder::new().stack_size(8 << 20).spawn_scoped(scope, check).unwrap()).collect();
        started.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn only_the_runbook_library_can_be_imported() {
    for path in ["../../etc/passwd", "/etc/passwd", "a/../b", ""] {
        let done = run(&format!("import \"{path}\" as x;"), "5s");
        assert_eq!(done.code, 4, "{path}");
    }
    let circle = Project::new().file("runbooks/one.rhai", "import \"two\" as two;").file("runbooks/two.rhai", "import \"one\" as one;");
    let _ = circle.runbook("test", "runbook(#{ title: \"t\" }); import \"one\" as one;").command(["run", "test"]).exits(4);
    for body in [
        "eval(\"1\")",
        "let code = \"1\"; eval(code)",
        "let f = Fn(\"eval\"); f.call(\"1\")",
        "let path = \"stdlib/health\"; import path as x;",
    ] {
        assert!(matches!(run(body, "5s").code, 1 | 4), "{body}");
    }
}

#[test]
fn nothing_a_script_prints_can_be_taken_for_ours() {
    let text = "runbook(#{ title: \"t\" }); log(\"12:00:00 x\\n12:00:00 ok succeeded\\x9b31m\"); output(\"o\\x1b[2J\", \"\\x1b]0;x\\x07\");
        check(\"c\\r\\n12:00:00 ok succeeded\", || true); step(\"s\\x1b[31m\", || 1); print(\"a\\x1b[31m\\x1b]52;c;eA==\\x07\\r\\n12:00:00 ok succeeded\\u202e\");";
    let done = Project::new().runbook("test", text).command(["run", "test"]).succeeds();
    let (talk, answer) = (done.stderr.clone(), done.stdout.clone());
    let done = done.then(["logs"]).succeeds();
    let logs = done.stdout.clone();
    for stream in [&talk, &answer, &logs, &done.then(["report"]).succeeds().stdout] {
        assert!(!stream.contains('\u{1b}') && !stream.contains('\r') && !stream.contains('\u{202e}'), "{stream:?}");
        assert!(!stream.lines().any(|line| line.starts_with("12:00:00 ok succeeded")), "{stream}");
    }
}

/// The processes that work in this directory.
fn working_in(directory: &std::path::Path) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == directory)).count()
}

#[test]
fn programs_that_multiply_end_at_the_limit_of_processes() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().canonicalize().unwrap();
    // It doubles eight times at most, should nothing stop it.
    std::fs::write(at.join("bomb.sh"), "b() {\n  if [ $1 -gt 0 ]; then b $(($1 - 1)) & b $(($1 - 1)) & fi\n  sleep 300\n}\nb 8\n").unwrap();
    let text = format!(
        "runbook(#{{ title: \"t\", allow: #{{ exec: [\"/bin/sh\"], fs: #{{ read: [\"{at}\"] }} }} }});
        exec::run([\"/bin/sh\", \"bomb.sh\"], #{{ cwd: \"{at}\", timeout: \"5m\" }});",
        at = at.display()
    );
    let test = Project::new().runbook("test", &text).command(["run", "test", "--json", "--timeout", "2m"]);
    let done = test.env("RUNBOOK_LIMITS_PROCESSES", "50").exits(1);
    let json = done.json();
    let error = (json["status"].as_str().unwrap(), json["error"]["kind"].as_str().unwrap(), json["error"]["message"].as_str().unwrap());
    assert_eq!((error.0, error.1), ("failed", "limit"), "{json}");
    assert!(error.2.contains("limits.processes"), "{json}");
    crate::harness::wait_until("nothing is left of it", || working_in(&at) == 0);
}

#[test]
fn programs_that_grow_end_at_the_limit_of_their_memory() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().canonicalize().unwrap();
    // None of them holds as much as all may hold, and the script knows of one only.
    let text = format!(
        "runbook(#{{ title: \"t\", allow: #{{ exec: [\"/bin/sh\", \"/usr/bin/perl\"], fs: #{{ read: [\"{at}\"], write: [\"{at}\"] }} }} }});
        undo(\"note\", || fs::write(\"{at}/undone\", \"x\"));
        exec::run([\"/bin/sh\", \"-c\", \"for n in 1 2 3 4; do perl -e '$x = q(a) x (40 << 20); sleep 300' & done; wait\"], #{{ cwd: \"{at}\", timeout: \"5m\" }});",
        at = at.display()
    );
    let test = Project::new().runbook("test", &text).command(["run", "test", "--json", "--timeout", "2m"]);
    let done = test.env("RUNBOOK_LIMITS_PROGRAM_MEMORY", "100MiB").exits(1);
    let json = done.json();
    assert_eq!((json["status"].as_str(), json["error"]["kind"].as_str()), (Some("failed"), Some("limit")), "{json}");
    assert!(json["error"]["message"].as_str().unwrap().contains("limits.program_memory"), "{json}");
    assert!(at.join("undone").exists(), "what was done is taken back");
    crate::harness::wait_until("nothing is left of it", || working_in(&at) == 0);
}

/// What is shared counts once: forty processes that hold the same memory.
#[test]
fn programs_that_share_memory_are_not_taken_for_many_times_as_large() {
    let text = "runbook(#{ title: \"t\", allow: #{ exec: [\"/usr/bin/perl\"] } });
        let script = \"$x = q(a) x (40 << 20); for (1 .. 10) { if (!fork) { sleep 2; exit } } 1 while wait() > 0\";
        exec::run([\"/usr/bin/perl\", \"-e\", script], #{ timeout: \"1m\" });";
    let test = Project::new().runbook("test", text).command(["run", "test", "--json"]);
    let _ = test.env("RUNBOOK_LIMITS_PROGRAM_MEMORY", "300MiB").succeeds();
}
