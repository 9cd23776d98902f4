//! Loss of power, as far as it can be had without a disk of its own: a run is traced, and what it wrote is played
//! onto files that know what of them was synced. At every moment the power goes, and what comes back must hold
//! everything that somebody was told.
//!
//! Names are kept at once, as most file systems do; contents only by a sync. One way of losing is tried at each
//! moment; all of them with `RUNBOOK_SWEEP=all`.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regex::{Captures, Regex};
use serde_json::Value;

use super::disk::can;
use crate::harness::{Project, note};

/// Enough for the WAL to be written back into the database, and begun anew, in between.
const STEPS: usize = 45;

const RUNBOOK: &str = r#"
runbook(#{ title: "t", allow: #{ fs: #{ write: ["DIR"] } } });
for turn in 0..STEPS { let turn = turn; step(`step ${turn}`, || fs::append("DIR/effects", "x\n")); }
"#;

/// What a process did to a file.
enum Call {
    /// Without a place: at the end.
    Write {
        path: PathBuf,
        at: Option<usize>,
        bytes: Vec<u8>,
    },
    Resize {
        path: PathBuf,
        length: usize,
    },
    Sync {
        path: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
}

/// What the disk does with what no sync was for.
#[derive(Debug, Clone, Copy)]
enum Loss {
    All,
    /// The second half is gone, and the write in the middle is torn.
    Half,
    /// Every second write is gone, whatever came after it.
    Gaps,
}

#[derive(Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// The writes since the last sync.
    loose: Vec<(usize, Vec<u8>)>,
}

impl File {
    fn write(&mut self, at: Option<usize>, bytes: Vec<u8>) {
        let at = at.unwrap_or(self.now.len());
        put(&mut self.now, at, &bytes);
        self.loose.push((at, bytes));
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.now);
        self.loose.clear();
    }

    fn after(&self, loss: Loss) -> Vec<u8> {
        let mut content = self.durable.clone();
        let middle = self.loose.len() / 2;
        for (number, (at, bytes)) in self.loose.iter().enumerate() {
            match loss {
                Loss::Half if number < middle => put(&mut content, *at, bytes),
                Loss::Half if number == middle => put(&mut content, *at, &bytes[..bytes.len() / 2]),
                Loss::Gaps if number % 2 == 1 => put(&mut content, *at, bytes),
                _ => {}
            }
        }
        content
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    content.resize(content.len().max(at + bytes.len()), 0);
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The files of a trace, and what somebody was told so far.
struct Disk<'a> {
    project: &'a Project,
    files: BTreeMap<PathBuf, File>,
    /// How many steps had their effect.
    effects: usize,
    /// Whether the command said how the run ended.
    said: bool,
    examined: usize,
}

impl Disk<'_> {
    fn apply(&mut self, call: Call) {
        match call {
            Call::Write { path, at, bytes } => {
                self.effects += usize::from(path.ends_with("work/effects"));
                self.said |= path.ends_with("work/said");
                self.files.entry(path).or_default().write(at, bytes);
            }
            Call::Resize { path, length } => self.files.entry(path).or_default().now.resize(length, 0),
            Call::Sync { path } => {
                if let Some(file) = self.files.get_mut(&path) {
                    file.sync();
                }
            }
            Call::Remove { path } => drop(self.files.remove(&path)),
        }
    }

    /// The power goes, and comes back.
    fn examine(&mut self, loss: Loss) {
        let state = self.project.path().join("after");
        let _ = std::fs::remove_dir_all(&state);
        std::fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
        for (path, file) in &self.files {
            // What is shared in memory is no file after a start.
            let Ok(name) = path.strip_prefix(self.project.state()) else { continue };
            if !name.ends_with("runbook.db-shm") {
                let path = state.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, file.after(loss)).unwrap();
            }
        }
        self.examined += 1;
        let place = format!("{loss:?} is lost after effect {} (said: {})", self.effects, self.said);
        let run: Value = serde_json::from_slice(&self.ask(&state, &["report", "last", "--json"], &place)).unwrap();
        let steps = run["steps"].as_array().unwrap();
        let done = steps.iter().filter(|step| step["status"] == "succeeded").count();
        // The effect of a step shows that the one before it is done, on record, and that its own intent is.
        assert!(steps.len() >= self.effects && done + 1 >= self.effects, "{place}: {} steps, {done} done", steps.len());
        assert!(!self.said || run["status"] == "succeeded", "{place}: {}", run["status"]);
        if self.examined.is_multiple_of(10) {
            self.ask(&state, &["audit", "verify"], &place);
        }
    }

    fn ask(&self, state: &Path, arguments: &[&str], place: &str) -> Vec<u8> {
        let output = binary(self.project, Command::new(env!("CARGO_BIN_EXE_runbook")))
            .env("RUNBOOK_STATE_DIR", state)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

fn binary(project: &Project, mut command: Command) -> Command {
    command
        .current_dir(project.path())
        .env_clear()
        .env("HOME", project.path())
        .env("USER", "maya")
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("RUNBOOK_STATE_DIR", project.state());
    command
}

/// Runs it, and everything it does to files.
fn trace(project: &Project) -> String {
    let trace = project.path().join("trace");
    let said = std::fs::File::create(project.path().join("work/said")).unwrap();
    let calls = "trace=write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,ftruncate,unlink,rename,renameat,renameat2";
    let status = binary(project, Command::new("strace"))
        .args(["-f", "-y", "-xx", "-qqq", "-s", "1000000", "-e", calls, "-o"])
        .arg(&trace)
        .args([env!("CARGO_BIN_EXE_runbook"), "run", "test", "--json"])
        .stdin(Stdio::null())
        .stdout(said)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    std::fs::read_to_string(trace).unwrap()
}

/// The calls of a trace, in their order. A sync counts when it returned.
fn calls(trace: &str) -> Vec<Call> {
    const TEXT: &str = r"((?:\\x[0-9a-f]{2})*)";
    let call = Regex::new(&format!(r#"^(\d+) +(\w+)\((?:\d+<{TEXT}>|"{TEXT}")(?:, "{TEXT}", \d+(?:, (\d+))?|, (\d+))?"#)).unwrap();
    let resumed = Regex::new(r"^(\d+) +<\.\.\. (?:fsync|fdatasync) resumed>").unwrap();
    let mut syncs: HashMap<String, PathBuf> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        if let Some(found) = resumed.captures(line) {
            calls.extend(syncs.remove(&found[1]).map(|path| Call::Sync { path }));
            continue;
        }
        let Some(found) = call.captures(line) else { continue };
        // A descriptor or a name.
        let path = PathBuf::from(String::from_utf8([bytes(&found, 3), bytes(&found, 4)].concat()).unwrap());
        let number = |group: usize| found.get(group).map(|number| number.as_str().parse().unwrap());
        match &found[2] {
            "write" | "pwrite64" => calls.push(Call::Write { path, at: number(6), bytes: bytes(&found, 5) }),
            "ftruncate" => calls.push(Call::Resize { path, length: number(7).unwrap() }),
            "fsync" | "fdatasync" if line.ends_with("<unfinished ...>") => drop(syncs.insert(found[1].to_owned(), path)),
            "fsync" | "fdatasync" => calls.push(Call::Sync { path }),
            "unlink" => calls.push(Call::Remove { path }),
            other => assert!(!path.to_string_lossy().contains("runbook.db"), "`{other}` is no call that is known here"),
        }
    }
    calls
}

fn bytes(found: &Captures<'_>, group: usize) -> Vec<u8> {
    let text = found.get(group).map_or("", |text| text.as_str());
    text.split("\\x").skip(1).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// Bar 45.
#[test]
fn what_was_said_to_be_done_is_there_after_a_loss_of_power() {
    if !can("strace", "strace -o /dev/null true") {
        return;
    }
    let project = Project::new().file("work/effects", "");
    let directory = project.path().join("work");
    let text = RUNBOOK.replace("DIR", directory.to_str().unwrap()).replace("STEPS", &STEPS.to_string());
    let project = project.runbook("test", &text);
    let calls = calls(&trace(&project));
    let is_database = |path: &Path| path.ends_with("state/runbook.db");
    let written_back = calls.iter().filter(|call| matches!(call, Call::Sync { path } if is_database(path))).count();
    let all = std::env::var("RUNBOOK_SWEEP").is_ok_and(|what| what == "all");
    let mut syncs = 0;
    let mut disk = Disk { project: &project, files: BTreeMap::new(), effects: 0, said: false, examined: 0 };
    for call in calls {
        // What is durable changes with a sync; just before it the most was said.
        let changes = matches!(&call, Call::Sync { path } if path.starts_with(project.state()));
        if changes && disk.effects > 0 {
            syncs += 1;
            let losses = [Loss::All, Loss::Half, Loss::Gaps];
            let tried = if all { &losses[..] } else { &losses[syncs % 3..][..1] };
            tried.iter().for_each(|loss| disk.examine(*loss));
        }
        disk.apply(call);
    }
    disk.examine(Loss::All);
    assert!(disk.said && disk.effects == STEPS, "{} effects", disk.effects);
    assert!(written_back > 1, "the WAL was never written back");
    note(&format!("{} losses of power", disk.examined));
}
