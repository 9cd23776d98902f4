//! Types commands on a terminal, in a directory of their own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regex::Regex;
use tempfile::TempDir;

use super::markdown::Block;
use super::screen::{COLUMNS, shown};
use crate::harness::with_tmp;

/// Where the reader works, as the pages show it.
const HOME: &str = "/home/maya";

/// A reader's terminal.
pub(super) struct Shell {
    home: TempDir,
    /// What is `/tmp` on the page. Its name is short, so that lines wrap where they do for a reader.
    tmp: TempDir,
}

/// A command and what the page shows after it.
pub(super) struct Typed {
    pub(super) line: String,
    pub(super) shown: String,
}

impl Shell {
    /// In an empty directory `ops`, with `runbook` installed. `cargo run … --` runs it as well.
    pub(super) fn new() -> Self {
        let tmp = tempfile::Builder::new().prefix("").rand_bytes(4).tempdir_in("/tmp").unwrap();
        let shell = Self { home: tempfile::tempdir().unwrap(), tmp };
        std::fs::create_dir_all(shell.path("")).unwrap();
        let bin = shell.home.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_runbook"), bin.join("runbook")).unwrap();
        let cargo = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec runbook \"$@\"\n";
        std::fs::write(bin.join("cargo"), cargo).unwrap();
        std::fs::set_permissions(bin.join("cargo"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(shell.home.path().join("where"), shell.path("").to_str().unwrap()).unwrap();
        shell
    }

    /// A path in the directory.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.home.path().join("ops").join(path)
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.here().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, self.apart(text)).unwrap();
    }

    /// A text of a page whose `/tmp` is a directory of this reader.
    pub(super) fn apart(&self, text: &str) -> String {
        with_tmp(text, self.tmp.path())
    }

    pub(super) fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.here().join(path)).ok()
    }

    /// Where the last `cd` led.
    fn here(&self) -> PathBuf {
        PathBuf::from(std::fs::read_to_string(self.home.path().join("where")).unwrap().trim())
    }

    /// Whether a shell understands it.
    pub(super) fn parses(&self, text: &str) -> Result<(), String> {
        let output = Command::new("bash").args(["-n", "-c", text]).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Types a command; returns what stands on the screen after it, and its exit code.
    pub(super) fn type_in(&self, line: &str) -> (String, i32) {
        let (home, line) = (self.home.path(), self.apart(line));
        let script = format!("stty cols {COLUMNS} rows 60\ncd \"$(cat ~/where)\"\n{line}\ncode=$?\npwd >~/where\nexit $code\n");
        std::fs::write(home.join("line"), script).unwrap();
        let output = Command::new("script")
            .args(["-qec", "bash ~/line", "/dev/null"])
            .env_clear()
            .env("HOME", home)
            .env("USER", "maya")
            .env("LANG", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .env("TZ", "UTC")
            .env("SHELL", "/bin/bash")
            .env("PATH", path_with(&home.join("bin")))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let seen = shown(&String::from_utf8_lossy(&output.stdout));
        (seen.replace(home.to_str().unwrap(), HOME).replace(self.tmp.path().to_str().unwrap(), "/tmp"), output.status.code().unwrap_or(-1))
    }
}

fn path_with(bin: &Path) -> String {
    format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", bin.display())
}

impl Typed {
    /// What `# exits with 3` at its end says; 0 without.
    pub(super) fn exit_code(&self) -> i32 {
        self.line.rsplit_once("# exits with ").map_or(0, |(_, code)| code.trim().parse().unwrap())
    }
}

/// The commands of a block with what is shown after each. A long one goes on after `> `.
pub(super) fn typed(text: &str) -> Result<Vec<Typed>, String> {
    let mut all: Vec<Typed> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            all.push(Typed { line: command.to_owned(), shown: String::new() });
            is_open = true;
            continue;
        }
        let Some(last) = all.last_mut() else { return Err("a block of commands begins with `$ `".to_owned()) };
        match line.strip_prefix("> ").filter(|_| is_open) {
            Some(more) => last.line.push_str(&format!("\n{more}")),
            None => {
                is_open = false;
                last.shown.push_str(&format!("{line}\n"));
            }
        }
    }
    Ok(all)
}

/// The commands of a block, prompted or not.
pub(super) fn commands_in(block: &Block) -> Vec<String> {
    if block.language != "sh" {
        return Vec::new();
    }
    match typed(&block.text) {
        Ok(typed) => typed.into_iter().map(|typed| typed.line).collect(),
        Err(_) => block.text.lines().map(|line| line.split("  #").next().unwrap_or_default().trim_end().to_owned()).collect(),
    }
}

/// Whether what is printed is what is shown. A page that shows nothing promises nothing.
pub(super) fn alike(page: &str, printed: &str) -> bool {
    let lines = |text: &str| text.lines().map(alike_line).filter(|line| !line.is_empty()).collect::<Vec<_>>();
    page.trim().is_empty() || matches(&lines(page), &lines(printed))
}

fn matches(page: &[String], printed: &[String]) -> bool {
    match page.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == "…" => (0..=printed.len()).any(|skipped| matches(rest, &printed[skipped..])),
        Some((first, rest)) => printed.first() == Some(first) && matches(rest, &printed[1..]),
    }
}

/// A line in which whatever changes from run to run is the same.
fn alike_line(line: &str) -> String {
    const CHANGING: &[(&str, &str)] = &[
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
        (r"\b[0-9a-f]{12}\b", "HASH"),
        (r"(id|--plan) [0-9a-f]{8}\b", "$1 PLAN"),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", "DATE"),
        (r"\b\d\d:\d\d:\d\d\b", "TIME"),
        (r"\bjust now\b|\b\d+ \w+ ago\b|\btoday \d\d:\d\d", "AGO"),
        (r"\b\d+(\.\d+)?(ms|s|m)\b( \d+s\b)?", "TOOK"),
        (r"\b\d+(\.\d+)? ?%", "SHARE"),
        (r"\b\d+(\.\d+)? ?([KMG]i)?B\b", "SIZE"),
        (r"\s+", " "),
    ];
    let mut line = line.trim().to_owned();
    for (what, word) in CHANGING {
        line = Regex::new(what).unwrap().replace_all(&line, *word).into_owned();
    }
    line
}

#[test]
fn what_changes_from_run_to_run_is_alike() {
    assert!(alike("✔ a (1ms)  2 %\n…\nend", "✔ a (12.5s) 99.5 %\nb\nc\nend\n"));
    assert!(!alike("✔ a\n…\nend", "✔ a\nb\n"));
    assert!(!alike("✔ a", "✖ a"));
}
