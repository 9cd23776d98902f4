//! Runs the binary in a directory of its own and says what it must print.

mod daemon;
pub(crate) mod sink;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use regex::{Captures, Regex};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) use daemon::Daemon;

/// A project in a temporary directory, and one command in it.
#[must_use = "a test that runs nothing says nothing: call `succeeds`, `fails` or `run`"]
pub(crate) struct Test {
    project: Project,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    stdin: Option<String>,
    umask: &'static str,
}

/// A directory with runbooks and a state of its own.
pub(crate) struct Project {
    directory: TempDir,
}

/// What a command did.
#[must_use = "look at what the command did"]
pub(crate) struct Done {
    pub(crate) project: Project,
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

/// Nothing in a test may take longer.
const PATIENCE: Duration = Duration::from_secs(120);

impl Project {
    /// An empty project.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("runbooks")).unwrap();
        std::fs::write(directory.path().join("runbook.toml"), "").unwrap();
        Self { directory }
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into it.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Adds a runbook.
    pub(crate) fn runbook(self, name: &str, text: &str) -> Self {
        self.file(&format!("runbooks/{name}.rhai"), text)
    }

    /// Its state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// A command in it.
    pub(crate) fn command<'a>(self, arguments: impl IntoIterator<Item = &'a str>) -> Test {
        Test {
            project: self,
            arguments: arguments.into_iter().map(str::to_owned).collect(),
            environment: BTreeMap::new(),
            stdin: None,
            umask: "022",
        }
    }

    /// The command as a process that is not waited for.
    pub(crate) fn start(&self, arguments: &[&str]) -> std::process::Child {
        prepared(self, "022", arguments.iter().copied(), &BTreeMap::new())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Test {
    /// A command in a new project.
    pub(crate) fn new<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Self {
        Project::new().command(arguments)
    }

    /// A run of a script in a new project.
    pub(crate) fn script(text: &str) -> Self {
        Project::new().runbook("test", text).command(["run", "test", "--json"])
    }

    /// One more argument.
    pub(crate) fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Gives it a standard input.
    pub(crate) fn stdin(mut self, text: &str) -> Self {
        self.stdin = Some(text.to_owned());
        self
    }

    /// Sets the umask it starts with.
    pub(crate) fn umask(mut self, umask: &'static str) -> Self {
        self.umask = umask;
        self
    }

    /// Runs it.
    pub(crate) fn run(self) -> Done {
        let mut command = prepared(&self.project, self.umask, self.arguments.iter().map(String::as_str), &self.environment);
        command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().unwrap();
        if let Some(text) = &self.stdin {
            use std::io::Write;
            child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        }
        let Output { status, stdout, stderr } = wait(child);
        let took = started.elapsed();
        use std::os::unix::process::ExitStatusExt;
        Done {
            project: self.project,
            code: status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            took,
        }
    }

    /// Runs it; it must exit with 0.
    pub(crate) fn succeeds(self) -> Done {
        self.exits(0)
    }

    /// Runs it; it must exit with this code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Done {
        let done = self.run();
        assert_eq!(done.code, code, "\n--- stdout\n{}\n--- stderr\n{}", done.stdout, done.stderr);
        done
    }
}

fn wait(mut child: std::process::Child) -> Output {
    let until = Instant::now() + PATIENCE;
    let stdout = child.stdout.take().unwrap();
    let stderr = child.stderr.take().unwrap();
    let drain = |mut from: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).unwrap();
            bytes
        })
    };
    let (stdout, stderr) = (drain(Box::new(stdout)), drain(Box::new(stderr)));
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() >= until {
            child.kill().unwrap();
            panic!("the command took longer than {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn prepared<'a>(
    project: &Project,
    umask: &str,
    arguments: impl Iterator<Item = &'a str>,
    environment: &BTreeMap<String, String>,
) -> Command {
    // The umask belongs to the whole process, so it is set in one that becomes the command.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_runbook")])
        .args(arguments)
        .current_dir(project.path())
        .env_clear()
        .env("HOME", project.path())
        .env("USER", "maya")
        .env("LANG", "C.UTF-8")
        .env("TZ", "UTC")
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("RUNBOOK_STATE_DIR", project.state())
        .envs(environment);
    command
}

impl Done {
    /// The answer as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr))
    }

    /// How much the run changed, by its answer.
    #[track_caller]
    pub(crate) fn changes(&self) -> usize {
        self.json()["steps"].as_array().unwrap().iter().map(|step| step["effects"].as_array().map_or(0, Vec::len)).sum()
    }

    /// The answer must contain this.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "`{text}` is not in\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// The talk must contain this.
    #[track_caller]
    pub(crate) fn talks(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "`{text}` is not in\n--- stderr\n{}", self.stderr);
        self
    }

    /// One more command in the same project.
    pub(crate) fn then<'a>(self, arguments: impl IntoIterator<Item = &'a str>) -> Test {
        self.project.command(arguments)
    }
}

/// Says something beside the result: that a test was not run, or what it measured.
pub(crate) fn note(text: &str) {
    use std::io::Write;
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// Waits until something is true.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_true() {
        assert!(Instant::now() < until, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A text whose `/tmp` is this directory, so that what it writes meets nobody else's files.
pub(crate) fn with_tmp(text: &str, directory: &Path) -> String {
    let tmp = Regex::new(r"(?m)(^|[^\w./-])/tmp\b").unwrap();
    tmp.replace_all(text, |found: &Captures<'_>| format!("{}{}", &found[1], directory.display())).into_owned()
}
