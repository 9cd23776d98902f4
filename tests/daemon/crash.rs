//! A daemon that is killed, and what becomes of its runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{GATED, detach, is_waiting, project, read, there, wait_for, write};
use crate::harness::sink::Sink;
use crate::harness::{note, wait_until};

#[test]
fn a_run_whose_daemon_was_killed_goes_on_with_the_next_one() {
    let project = project(&[("test", GATED)]);
    let daemon = project.serve();
    let project = detach(project, "a");
    wait_until("it runs", || is_waiting(&project, 1));
    daemon.kill();
    // A command in between says so, and changes nothing.
    let done = project.command(["ps"]).succeeds().says("interrupted");
    let _daemon = done.project.serve();
    write(&done.project, "a.go");
    wait_for(&done.project, "1", "succeeded");
    assert_eq!(read(&done.project, "a.ended"), "once\n");
    let done = done.then(["report", "1", "--json"]).succeeds();
    assert_eq!(done.json()["attempt"], 2);
    let _ = done.then(["audit", "verify"]).succeeds();
}

#[test]
fn a_step_in_doubt_is_a_persons_who_is_told() {
    let sink = Sink::new();
    let text = r#"runbook(#{ title: "t", allow: #{ fs: #{ read: ["DIR"], write: ["DIR"] } } });
        step("pay", || { fs::append("DIR/paid", "once\n"); while true { wait("10ms"); } });"#;
    let system = format!(
        "title = \"Shop\"\ncode = \"SH\"\n[routes]\ncritical = [\"ops\"]\n[contacts.ops]\nkind = \"webhook\"\nurl = \"{}\"\n",
        sink.url("webhook")
    );
    let project = project(&[("test", text)]).file("runbooks/systems/shop.toml", &system);
    let daemon = project.serve();
    let done = project.command(["run", "test", "-s", "shop", "--detach"]).succeeds();
    wait_until("it was paid", || there(&done.project, "paid") && read(&done.project, "paid") == "once\n");
    daemon.kill();
    let _daemon = done.project.serve();
    wait_for(&done.project, "1", "needs-attention");
    wait_until("people are told", || !sink.accepted("webhook").is_empty());
    let told = sink.accepted("webhook")[0].to_string();
    assert!(told.contains("test #1: needs-attention") && told.contains("step `pay` may have been done or not"), "{told}");
    assert_eq!(read(&done.project, "paid"), "once\n");
    let done = done.then(["status"]).exits(1).says("needs-attention");
    let _ = done.then(["resume", "1", "--step", "pay=done"]).succeeds();
}

#[test]
fn a_run_whose_worker_was_killed_goes_on_and_nothing_of_it_is_left() {
    let text = r#"runbook(#{ title: "t", allow: #{ exec: ["/bin/sh", "/usr/bin/setsid", "/bin/sleep"], fs: #{ read: ["DIR"], write: ["DIR"] } } });
        step("start", #{ idempotent: "start" }, || if !fs::exists("DIR/begun") {
            exec::run(["/bin/sh", "-c", "setsid sleep 4711 >/dev/null 2>&1 & exit 0"]);
            fs::write("DIR/begun", "yes");
            while true { wait("10ms"); }
        });
        step("end", || fs::append("DIR/ended", "once\n"));"#;
    let project = project(&[("test", text), ("other", GATED)]);
    let daemon = project.serve();
    let done = project.command(["run", "other", "-p", "name=b", "--detach"]).succeeds();
    wait_until("the other one runs", || there(&done.project, "b.begun"));
    let others = workers(daemon.pid());
    let done = done.then(["run", "test", "--detach"]).succeeds();
    wait_until("it runs", || there(&done.project, "begun"));
    let worker = *workers(daemon.pid()).iter().find(|pid| !others.contains(pid)).unwrap();
    let sleeper = || processes().into_iter().any(|(_, (_, line))| line.contains("sleep\u{0}4711"));
    assert!(sleeper(), "the program that outlives its parent runs");
    assert!(std::process::Command::new("kill").args(["-9", &worker.to_string()]).status().unwrap().success());
    wait_for(&done.project, "2", "succeeded");
    wait_until("nothing of it is left", || !sleeper());
    assert_eq!(read(&done.project, "ended"), "once\n");
    // The other one did not notice.
    assert_eq!(workers(daemon.pid()), others);
    write(&done.project, "b.go");
    wait_for(&done.project, "1", "succeeded");
}

#[test]
fn a_run_that_gets_nowhere_does_not_go_on_for_ever() {
    let text = "runbook(#{ title: \"t\" }); step(\"wait\", || wait(\"1h\"));";
    let project = project(&[("test", text)]);
    let mut daemon = project.serve();
    let mut project = project.command(["run", "test", "--detach"]).succeeds().project;
    for attempt in 1..=6 {
        let log = project.state().join("runs/1/log.jsonl");
        let started = || std::fs::read_to_string(&log).unwrap_or_default().matches("\"event\":\"step_started\"").count();
        wait_until("it runs again", || started() == attempt);
        daemon.kill();
        daemon = project.serve();
    }
    wait_for(&project, "1", "needs-attention");
    let done = project.command(["report", "1", "--json"]).succeeds();
    assert!(done.json()["error"]["message"].as_str().unwrap().contains("6 times in a row"), "{}", done.stdout);
    project = done.project;
    daemon.stop();
    let _ = project;
}

#[test]
fn what_a_person_started_at_a_terminal_stays_theirs() {
    let project = project(&[("test", GATED)]);
    let _daemon = project.serve();
    let mut command = project.start(&["run", "test", "-p", "name=a"]);
    wait_until("it runs", || is_waiting(&project, 1));
    command.kill().unwrap();
    command.wait().unwrap();
    // The daemon notes that it was cut off, and leaves it.
    wait_until("it is found", || project.daemon_log().contains("its command was killed"));
    wait_for(&project, "1", "interrupted");
    write(&project, "a.go");
    let done = project.command(["resume", "1"]).succeeds();
    assert_eq!(read(&done.project, "a.ended"), "once\n");
}

/// Kills at random moments: no run is lost, none runs for ever, and what asks the world is done once.
/// `RUNBOOK_KILLS=200` is the full measure.
#[test]
fn random_kills_lose_no_run() {
    let kills: u64 = std::env::var("RUNBOOK_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    // Enough work that there is some left at the last kill.
    let turns = kills * 2;
    let text = r#"
runbook(#{ title: "t", params: #{ name: #{} }, timeout: "1h", allow: #{ fs: #{ read: ["DIR"], write: ["DIR"] } } });
let name = params::name;
for turn in 0..TURNS {
    let turn = turn;
    let file = `DIR/${name}.${turn}`;
    step("once", #{ verify: || fs::exists(file) }, || { wait("20ms"); fs::append(file, "x"); });
    step("again", #{ idempotent: file }, || { wait("20ms"); fs::append(file + ".key", file + "\n"); });
}
if name == "run 0" { step("never sure", || { wait("50ms"); fs::append("DIR/unsure", "x"); wait("200ms"); }); }
"#;
    const RUNS: usize = 20;
    let mut project = project(&[("test", &text.replace("TURNS", &turns.to_string()))]).file("runbook.toml", "limits.runs = 20\n");
    let mut daemon = project.serve();
    for run in 0..RUNS {
        project = detach(project, &format!("run {run}"));
    }
    let mut random = 88_172_645_463_325_252_u64;
    for _ in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // The moment of the kill is chance; nothing is waited for.
        std::thread::sleep(Duration::from_millis(random % 700));
        daemon.kill();
        daemon = project.serve();
    }
    let log = project.daemon_log();
    let last = log.lines().rev().find_map(|line| line.split_once("serving; ")).map_or("nothing", |(_, said)| said);
    note(&format!("after {kills} kills: {last}"));
    let until = Instant::now() + Duration::from_secs(600);
    let ended = loop {
        let done = project.command(["history", "--json"]).succeeds();
        let states: Vec<String> = done.json().as_array().unwrap().iter().map(|run| run["status"].as_str().unwrap().to_owned()).collect();
        project = done.project;
        let is_over = |state: &String| matches!(state.as_str(), "succeeded" | "failed" | "needs-attention");
        if states.iter().all(is_over) {
            break states;
        }
        assert!(Instant::now() < until, "{states:?}\n{}", project.daemon_log());
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(ended.len(), RUNS);
    for (number, _) in (1..=RUNS).zip(&ended).filter(|(_, state)| *state != "succeeded") {
        let number = number.to_string();
        let done = project.command(["report", &number, "--json"]).succeeds();
        let run = done.json();
        let why = run["error"]["message"].as_str().unwrap_or_default();
        assert!(run["status"] == "succeeded" || why.contains("may have been done or not") || why.contains("in a row"), "{run}");
        project = done.project;
    }
    for run in 0..RUNS {
        for turn in 0..turns {
            let once = read(&project, &format!("run {run}.{turn}"));
            assert!(once.len() <= 1, "run {run}, turn {turn}: {once}");
        }
    }
    let unsure = read(&project, "unsure");
    assert!(unsure.len() <= 1, "{unsure}");
    daemon.stop();
    let _ = project.command(["audit", "verify"]).succeeds();
}

/// Every process: its parent, and its command line.
fn processes() -> BTreeMap<u32, (u32, String)> {
    let of = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse().ok()?;
        let line = String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).ok()?).into_owned();
        Some((pid, (parent, line)))
    };
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    all.filter_map(of).collect()
}

/// The workers of a daemon.
fn workers(daemon: u32) -> Vec<u32> {
    let all = processes();
    all.into_iter().filter(|(_, (parent, line))| *parent == daemon && line.contains("__worker")).map(|(pid, _)| pid).collect()
}
