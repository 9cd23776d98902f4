//! A daemon that is told to stop, and the next one.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::{GATED, detach, is_waiting, log_of, project, read, there, wait_for, write};
use crate::harness::{Project, note, wait_until};

#[test]
fn a_step_under_way_ends_and_the_next_one_is_the_next_daemons() {
    let project = project(&[("test", GATED)]);
    let daemon = project.serve();
    let project = detach(project, "a");
    wait_until("the step is under way", || is_waiting(&project, 1));
    daemon.signal("TERM");
    wait_until("it stops", || project.daemon_log().contains("stopping"));
    let done = project.command(["run", "test", "-p", "name=b", "--detach"]).exits(6).talks("the daemon is about to stop");
    write(&done.project, "a.go");
    assert_eq!(daemon.ends(), Some(0));
    let done = done.then(["report", "1", "--json"]).succeeds();
    let run = done.json();
    assert_eq!(run["status"], "interrupted");
    let steps: Vec<(&str, &str)> =
        run["steps"].as_array().unwrap().iter().map(|step| (step["key"].as_str().unwrap(), step["status"].as_str().unwrap())).collect();
    assert_eq!(steps, [("begin", "succeeded"), ("wait", "succeeded")]);
    assert!(!there(&done.project, "a.undone") && !there(&done.project, "a.ended"));
    let _daemon = done.project.serve();
    wait_for(&done.project, "1", "succeeded");
    assert_eq!(read(&done.project, "a.ended"), "once\n");
    assert!(!there(&done.project, "a.undone"));
}

#[test]
fn told_twice_it_waits_for_no_step() {
    let project = project(&[("test", GATED)]);
    let daemon = project.serve();
    let project = detach(project, "a");
    wait_until("the step is under way", || is_waiting(&project, 1));
    daemon.signal("TERM");
    wait_until("it stops", || project.daemon_log().contains("stopping"));
    daemon.signal("TERM");
    assert_eq!(daemon.ends(), Some(0));
    wait_for(&project, "1", "interrupted");
    // The step only waited: nothing speaks against doing it again.
    let _daemon = project.serve();
    write(&project, "a.go");
    wait_for(&project, "1", "succeeded");
    assert_eq!(read(&project, "a.ended"), "once\n");
}

#[test]
fn a_step_longer_than_the_grace_is_left_where_it_is() {
    let project = project(&[("test", GATED)]).file("runbook.toml", "daemon.grace = \"100ms\"\n");
    let daemon = project.serve();
    let project = detach(project, "a");
    wait_until("the step is under way", || is_waiting(&project, 1));
    daemon.stop();
    wait_for(&project, "1", "interrupted");
}

#[test]
fn nested_and_parallel_steps_stop_where_each_of_them_is_done() {
    let text = r#"
runbook(#{ title: "t", allow: #{ fs: #{ read: ["DIR"], write: ["DIR"] } } });
fn part(name) {
    step(`part ${name}`, || {
        step("begin", || fs::append(`DIR/${name}.begun`, "once\n"));
        step("wait", || while !fs::exists("DIR/go") { wait("10ms"); });
        step("end", || fs::append(`DIR/${name}.ended`, "once\n"));
    });
}
parallel(["a", "b", "c"], |name| part(name));
"#;
    let project = project(&[("test", text)]);
    let daemon = project.serve();
    let done = project.command(["run", "test", "--detach"]).succeeds();
    let project = done.project;
    wait_until("all are under way", || log_of(&project, 1).matches("/wait\",\"name\":\"wait\"").count() == 3);
    daemon.signal("TERM");
    wait_until("it stops", || project.daemon_log().contains("stopping"));
    write(&project, "go");
    assert_eq!(daemon.ends(), Some(0));
    wait_for(&project, "1", "interrupted");
    let _daemon = project.serve();
    wait_for(&project, "1", "succeeded");
    for name in ["a", "b", "c"] {
        assert_eq!(
            (read(&project, &format!("{name}.begun")), read(&project, &format!("{name}.ended"))),
            ("once\n".into(), "once\n".into())
        );
    }
}

#[test]
fn a_sub_run_stops_with_the_run_it_is_part_of_and_both_go_on() {
    let above = r#"
runbook(#{ title: "t", allow: #{ runs: ["below"], fs: #{ write: ["DIR"] } } });
undo("take back", || fs::append("DIR/above.undone", "once\n"));
let below = run("below");
step("after", || fs::append("DIR/after", below.status + "\n"));
"#;
    let below = r#"
runbook(#{ title: "t", allow: #{ fs: #{ read: ["DIR"], write: ["DIR"] } } });
undo("take back", || fs::append("DIR/below.undone", "once\n"));
step("begin", || fs::append("DIR/begun", "once\n"));
step("wait", || while !fs::exists("DIR/go") { wait("10ms"); });
step("end", || fs::append("DIR/ended", "once\n"));
"#;
    let project = project(&[("test", above), ("below", below)]);
    let daemon = project.serve();
    let project = project.command(["run", "test", "--detach"]).succeeds().project;
    wait_until("the step below is under way", || log_of(&project, 2).contains("\"name\":\"wait\""));
    daemon.signal("TERM");
    wait_until("it stops", || project.daemon_log().contains("stopping"));
    write(&project, "go");
    assert_eq!(daemon.ends(), Some(0));
    wait_for(&project, "1", "interrupted");
    wait_for(&project, "2", "interrupted");
    let _daemon = project.serve();
    wait_for(&project, "1", "succeeded");
    wait_for(&project, "2", "succeeded");
    assert_eq!((read(&project, "begun"), read(&project, "ended")), ("once\n".into(), "once\n".into()));
    assert_eq!(read(&project, "after"), "succeeded\n");
    assert!(!there(&project, "above.undone") && !there(&project, "below.undone"));
}

#[test]
fn who_waits_for_a_place_runs_with_the_next_daemon() {
    let project = project(&[("test", GATED)]).file("runbook.toml", "limits.runs = 1\n");
    let daemon = project.serve();
    let project = detach(detach(project, "a"), "b");
    wait_until("the first one runs", || is_waiting(&project, 1));
    write(&project, "a.go");
    write(&project, "b.go");
    daemon.stop();
    let _daemon = project.serve();
    wait_for(&project, "1", "succeeded");
    wait_for(&project, "2", "succeeded");
    assert_eq!((read(&project, "a.ended"), read(&project, "b.ended")), ("once\n".into(), "once\n".into()));
}

#[test]
fn the_service_manager_hears_of_every_change() {
    let project = Project::new();
    let path = project.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut buffer = [0; 200];
    let mut next = || {
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).lines().next().unwrap().to_owned()
    };
    let daemon = project.serve_with(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "100000")]);
    assert_eq!(next(), "READY=1");
    assert_eq!(next(), "WATCHDOG=1");
    daemon.signal("HUP");
    let mut heard = || loop {
        match next() {
            word if word == "WATCHDOG=1" => {}
            word => return word,
        }
    };
    assert_eq!((heard(), heard()), ("RELOADING=1".to_owned(), "READY=1".to_owned()));
    daemon.signal("TERM");
    assert_eq!(heard(), "STOPPING=1");
    assert_eq!(daemon.ends(), Some(0));
}

/// The first process of a container collects what loses its parent, and passes signals on.
#[test]
fn as_the_first_process_it_collects_the_dead_and_ends_well() {
    let project = project(&[("test", GATED)]);
    let script = format!(
        "mount -t proc proc /proc && exec {} -C {} serve 2>>{}/daemon.log",
        env!("CARGO_BIN_EXE_runbook"),
        project.path().display(),
        project.path().display()
    );
    let started = std::process::Command::new("unshare")
        .args(["--pid", "--mount", "--fork", "--kill-child", "sh", "-c", &script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", project.path())
        .env("RUNBOOK_STATE_DIR", project.state())
        .spawn();
    let mut outer = match started {
        Ok(outer) => outer,
        Err(error) => return note(&format!("not run: {error}")),
    };
    let mut is_up = || {
        if outer.try_wait().unwrap().is_some() {
            return None;
        }
        Some(project.daemon_log().contains("serving"))
    };
    let mut state = Some(false);
    wait_until("it serves, or can not", || {
        state = is_up();
        state != Some(false)
    });
    if state.is_none() {
        return note("not run: no processes of its own here");
    }
    // From the outside: the first process, its daemon, and what is left of them.
    let inside = |parent: u32| children(parent);
    let first = inside(outer.id())[0];
    let daemon = inside(first)[0];
    let enter = |command: &str| {
        let done = std::process::Command::new("nsenter")
            .args(["--target", &first.to_string(), "--pid", "--mount", "sh", "-c", command])
            .env("RUNBOOK_STATE_DIR", project.state())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    // A process whose parent is gone belongs to the first one, and does not stay as a zombie.
    enter("(sh -c 'echo $$ >/dev/null' & ) ; true");
    enter(&format!("{} -C {} run test -p name=a --detach", env!("CARGO_BIN_EXE_runbook"), project.path().display()));
    wait_until("it runs", || is_waiting(&project, 1));
    wait_until("no zombie is left", || inside(first) == [daemon]);
    write(&project, "a.go");
    wait_until("it ends", || there(&project, "a.ended"));
    assert!(std::process::Command::new("kill").args(["-TERM", &first.to_string()]).status().unwrap().success());
    let mut code = None;
    wait_until("it ends well", || {
        code = outer.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(0), "{}", project.daemon_log());
}

/// The children of a process.
fn children(of: u32) -> Vec<u32> {
    let stat = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let parent = |pid: u32| stat(pid)?.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse::<u32>().ok();
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    all.filter(|pid| parent(*pid) == Some(of)).collect()
}
