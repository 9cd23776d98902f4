//! A runbook with one step of each policy, killed at one system call after the other.
//!
//! Which calls: a sample that takes less than a minute; all of them with `RUNBOOK_SWEEP=all`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use crate::harness::{Done, Project};
use crate::resume::lines;

/// A PostgreSQL whose life hangs on the pipe this process holds.
struct Server {
    port: u16,
    _script: Child,
}

const SCRIPT: &str = r#"
for bin in /usr/lib/postgresql/*/bin; do PATH="$bin:$PATH"; done
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
initdb -D "$dir/data" -U master --auth=trust --no-sync -E UTF8 --locale=C > "$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
printf "port = $1\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n" >> "$dir/data/postgresql.conf"
pg_ctl -D "$dir/data" -l "$dir/log" -w start > /dev/null || { cat "$dir/log"; exit 1; }
echo ready
cat > /dev/null
pg_ctl -D "$dir/data" -m immediate stop > /dev/null
"#;

impl Server {
    fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("setpriv");
        // As root it would refuse to start.
        match rustix::process::geteuid().is_root() {
            true => command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]),
            false => command.arg("sh"),
        };
        command.args(["-ec", SCRIPT, "sh", &port.to_string()]).current_dir("/tmp");
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(script.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(said.any(|line| line == "ready"), "PostgreSQL did not start");
        Self { port, _script: script }
    }
}

const RUNBOOK: &str = r#"
runbook(#{ title: "t", allow: #{ fs: #{ read: ["DIR"], write: ["DIR"] }, sql: ["main:write", "main:read"] } });
step("verify 1", #{ verify: || fs::exists("DIR/v1") }, || { fs::append("DIR/v1", "x\n"); });
step("idempotent 1", #{ idempotent: "i" }, || { fs::append("DIR/i1", step_key() + "\n"); });
step("sql", || sql::transaction("main", ["CREATE TABLE IF NOT EXISTS moves (run int)", "INSERT INTO moves VALUES (1)"]));
step("undeclared", || { fs::append("DIR/u", "x\n"); });
step("verify 2", #{ verify: || fs::exists("DIR/v2") }, || { fs::append("DIR/v2", "x\n"); });
step("idempotent 2", #{ idempotent: "i" }, || { fs::append("DIR/i2", step_key() + "\n"); });
output("moves", step("count", || sql::value("main", "SELECT count(*) FROM moves")));
"#;

fn project(port: u16, trial: usize) -> Project {
    let created = Command::new("psql")
        .args([
            "-qX",
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            "master",
            "-d",
            "postgres",
            "-c",
            &format!("CREATE DATABASE t{trial}"),
        ])
        .status()
        .unwrap();
    assert!(created.success());
    let project = Project::new();
    let directory = project.path().join("work");
    std::fs::create_dir(&directory).unwrap();
    let text = RUNBOOK.replace("DIR", directory.to_str().unwrap());
    let system = format!(
        "title = \"t\"\n[databases.main]\nhost = \"127.0.0.1\"\nport = {port}\nname = \"t{trial}\"\nuser = \"master\"\ntls = \"disable\"\n"
    );
    project.runbook("test", &text).file("runbooks/systems/here.toml", &system)
}

/// What became of one trial.
#[derive(Debug, Default)]
struct Tally {
    trials: usize,
    killed: usize,
    doubted: usize,
    before: usize,
    repeated: usize,
}

/// Runs it and kills whoever makes the `number`th call of these; whether somebody was.
fn kill_at(project: &Project, calls: &str, number: usize) -> bool {
    let status = Command::new("strace")
        .args(["-f", "-qqq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e"])
        .arg(format!("inject={calls}:signal=SIGKILL:when={number}"))
        .args([env!("CARGO_BIN_EXE_runbook"), "run", "test", "-s", "here", "-q"])
        .current_dir(project.path())
        .env_clear()
        .env("HOME", project.path())
        .env("USER", "maya")
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("RUNBOOK_STATE_DIR", project.state())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!matches!(status.code(), Some(2 | 4 | 6)), "it did not start: {status}");
    status.code() != Some(0)
}

fn trial(port: u16, calls: &str, number: usize, tally: &mut Tally) -> bool {
    tally.trials += 1;
    let place = format!("{calls}:{number}");
    let project = project(port, tally.trials);
    let killed = kill_at(&project, calls, number);
    tally.killed += usize::from(killed);
    let mut done: Done = project.command(["resume", "last", "--json"]).run();
    if done.code == 5 {
        tally.doubted += 1;
        let run = done.json();
        assert!(run["error"]["message"].as_str().unwrap().contains("`undeclared`"), "{place}: {}", done.stdout);
        let says = if lines(&done.project, "u").is_empty() { "undeclared=redo" } else { "undeclared=done" };
        done = done.then(["resume", "last", "--json", "--step", says]).run();
    }
    if done.code == 2 && done.stderr.contains("there is no run") {
        tally.before += 1;
        for file in ["v1", "v2", "i1", "i2", "u"] {
            assert!(lines(&done.project, file).is_empty(), "{place}: `{file}` was written before the run was recorded");
        }
        return killed;
    }
    let is_over = done.code == 2 && done.stderr.contains("came to its end: succeeded");
    assert!(done.code == 0 || is_over, "{place}: exit {}\n{}\n{}", done.code, done.stdout, done.stderr);
    let done = done.then(["report", "last", "--json"]).succeeds();
    assert_eq!(done.json()["outputs"]["moves"].as_u64(), Some(1), "{place}: the transaction");
    for file in ["v1", "v2", "u"] {
        assert_eq!(lines(&done.project, file).len(), 1, "{place}: `{file}`");
    }
    for file in ["i1", "i2"] {
        let mut keys = lines(&done.project, file);
        tally.repeated += keys.len().saturating_sub(1);
        keys.dedup();
        assert_eq!(keys.len(), 1, "{place}: `{file}`");
    }
    killed
}

#[test]
fn every_effect_is_had_as_promised_wherever_it_is_killed() {
    let server = Server::start();
    let all = std::env::var("RUNBOOK_SWEEP").is_ok_and(|what| what == "all");
    let mut tally = Tally::default();
    // Names that a kernel does not have are left out by the question mark.
    let sets: [(&str, usize, usize); 4] = [("%file", 25, 9), ("%network", 11, 4), ("fsync,fdatasync", 4, 1), ("write,pwrite64", 17, 6)];
    for (calls, stride, first) in sets {
        let mut number = if all { 1 } else { first };
        // It ends with the first number that nobody comes to.
        while trial(server.port, calls, number, &mut tally) {
            number += if all { 1 } else { stride };
        }
    }
    if all {
        writeln!(std::io::stderr(), "{tally:?}").unwrap();
    }
    assert!(tally.killed > 10, "{tally:?}");
}
