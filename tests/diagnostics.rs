//! The check of scripts: `tests/suite/**/*.rhai` hold what is to be found in them.
//!
//! Expected findings stand at the end of a script, one a line, in the order they are told:
//! `// Error: 3:1 RB1102 unknown function `lgo``, `// Warning: …`, and `// Hint: …` below what it belongs to.
//! `BLESS=1` writes what is found now; read the difference before you keep it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runbook::model::{Diagnostic, Verdict};
use runbook::script::check_text;

/// What the main thread of a program has; the parser bounds how deep a tree gets.
const STACK: usize = 8 << 20;

fn suite() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite")
}

/// A module of the suite by its import path.
fn module(path: &str) -> Option<String> {
    std::fs::read_to_string(suite().join("modules").join(format!("{path}.rhai"))).ok()
}

/// Every script with its name, modules left out.
fn scripts() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(suite()).unwrap().map(|entry| entry.unwrap().path()) {
        if !folder.is_dir() || folder.ends_with("modules") {
            continue;
        }
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(suite()).unwrap().display().to_string();
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// The script and what is expected of it.
fn apart(text: &str) -> (String, Vec<String>) {
    let expects = |line: &&str| ["// Error: ", "// Warning: ", "// Hint: "].iter().any(|start| line.starts_with(start));
    let script = text.lines().filter(|line| !expects(line)).map(|line| format!("{line}\n")).collect();
    (script, text.lines().filter(expects).map(str::to_owned).collect())
}

fn told(findings: &[Diagnostic]) -> Vec<String> {
    let mut lines = Vec::new();
    for finding in findings {
        let word = if finding.severity == Verdict::Error { "Error" } else { "Warning" };
        let file = if finding.at.file == "test.rhai" { String::new() } else { format!("{}:", finding.at.file) };
        lines.push(format!("// {word}: {file}{}:{} {} {}", finding.at.line, finding.at.column, finding.code, finding.message));
        lines.extend(finding.hints.iter().map(|hint| format!("// Hint: {hint}")));
    }
    lines
}

#[test]
fn every_script_of_the_suite_has_the_findings_it_says() {
    let scripts = scripts();
    assert!(scripts.len() >= 40, "{} scripts", scripts.len());
    let mut wrong = Vec::new();
    for (name, text) in scripts {
        let (script, expected) = apart(&text);
        let found = told(&check_text("test", "test.rhai", &script, module));
        if std::env::var_os("BLESS").is_some() {
            let findings: String = found.iter().map(|line| format!("{line}\n")).collect();
            std::fs::write(suite().join(&name), format!("{script}{findings}")).unwrap();
        } else if found != expected {
            wrong.push(format!("{name}\n  expected\n{}\n  found\n{}", expected.join("\n"), found.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_runbooks_of_this_repository_pass() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks");
    let find = |path: &str| std::fs::read_to_string(directory.join(format!("{path}.rhai"))).ok();
    for path in std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "rhai"))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut found = check_text("test", "test.rhai", &text, find);
        found.retain(Diagnostic::is_error);
        let found = told(&found);
        assert!(found.is_empty(), "{}\n{}", path.display(), found.join("\n"));
    }
}

/// Runs on a thread with the stack of a program's main thread.
fn with_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK).spawn(work).unwrap().join().unwrap();
}

/// What this thread has worked so far, whatever else the machine does.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

fn check_in_time(text: &str, longest: Duration) {
    let start = processor_time();
    check_text("test", "test.rhai", text, module);
    let took = processor_time() - start;
    assert!(took < longest, "{took:?} for {}…", text.chars().take(200).collect::<String>());
}

#[test]
fn two_thousand_broken_scripts_are_checked_without_harm() {
    with_stack(|| {
        let scripts: Vec<Vec<char>> = scripts().into_iter().map(|(_, text)| apart(&text).0.chars().collect()).collect();
        let pieces = [
            "{",
            "}",
            "(",
            ")",
            "[",
            "]",
            "|",
            "||",
            ";",
            "`",
            "${",
            "\"",
            "#{",
            "::",
            ".",
            "=",
            "+=",
            "step(\"a\", ",
            "let ",
            "fn ",
            "for i in ",
            "\u{0}",
            "中",
        ];
        let mut dice = Dice(0x5eed);
        for _ in 0..2000 {
            let mut text = scripts[dice.below(scripts.len())].clone();
            for _ in 0..=dice.below(4) {
                let at = dice.below(text.len());
                let end = (at + dice.below(20)).min(text.len());
                match dice.below(4) {
                    0 => drop(text.drain(at..end)),
                    1 => drop(text.splice(at..at, pieces[dice.below(pieces.len())].chars())),
                    2 => {
                        let copy = text[at..end].to_vec();
                        let to = dice.below(text.len());
                        text.splice(to..to, copy);
                    }
                    _ => {
                        let other = &scripts[dice.below(scripts.len())];
                        let from = dice.below(other.len());
                        let part = other[from..(from + dice.below(80)).min(other.len())].to_vec();
                        text.splice(at..end, part);
                    }
                }
                if text.is_empty() {
                    text.push(';');
                }
            }
            check_in_time(&text.into_iter().collect::<String>(), Duration::from_secs(2));
        }
    });
}

#[test]
fn a_script_that_wants_to_break_the_check_does_not() {
    with_stack(|| {
        let header = "runbook(#{ title: \"T\" });\n";
        let many = |part: &str, times: usize| part.repeat(times.min(60_000 / part.len()));
        let numbered = |part: &str, times: usize| (0..times).map(|n| part.replace('#', &n.to_string())).collect::<String>();
        let bombs = [
            many("(", 60_000),
            many("[", 60_000),
            many("#{a:", 60_000),
            many("`${", 60_000),
            many("if true {", 60_000),
            many("|| ", 60_000),
            format!("let a = 1; a{}", many(".a", 60_000)),
            format!("let a = 1; a{}", many("[0]", 60_000)),
            format!("let a = {}1;", many("1+", 60_000)),
            format!("let a = 1; {}", many("nowhere();", 60_000)),
            many("nowhere;", 60_000),
            numbered("nowhere_#();", 4000),
            format!("{}();", many("x", 60_000)),
            format!("let {} = 1;", many("x", 60_000)),
            format!("log(\"{}\", 1, 2);", many("x", 60_000)),
            numbered("let a# = 1;", 4500),
            numbered("fn f#() { f#() }", 999),
            numbered("let c# = || #;", 990),
            format!("let a = [{}];", many("1,", 60_000)),
            format!("let m = #{{{}}};", numbered("k#: 1,", 6000)),
            format!("sys::cpu(#{{{}}});", numbered("k#: 1,", 4000)),
            format!("let a = 1; switch a {{ {} }}", numbered("# => 1,", 5000)),
        ];
        for bomb in bombs {
            check_in_time(&format!("{header}{bomb}"), Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 }));
        }
    });
}

/// Numbers that are the same in every run of the tests.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}
