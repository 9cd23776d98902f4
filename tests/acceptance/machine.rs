//! The education platform where its manual puts it: units of a systemd that is process 1, on a machine of its own.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use serde_json::Value;

use super::lab::{HOME, Look, News};
use super::systems;
use crate::harness::wait_until;

/// What is looked at: the load of the machine of the tests is no finding.
const KINDS: &str = "only=services,endpoint,database,cache,log";
const BACKEND: &str = "education-api";

/// The machine, for as long as a test takes.
struct Machine {
    root: PathBuf,
    news: News,
    _alone: MutexGuard<'static, ()>,
}

impl Machine {
    /// The machine when it runs; without it says once that what needs it is not run.
    fn up() -> Option<Self> {
        static ROOT: OnceLock<Option<PathBuf>> = OnceLock::new();
        static ALONE: Mutex<()> = Mutex::new(());
        let root = ROOT.get_or_init(|| {
            let root = found();
            if root.is_none() {
                std::io::stderr().write_all(b"not run: no machine with systemd as process 1 (`lab machine up` starts one)\n").unwrap();
            }
            root
        });
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut machine = Self { root: root.clone()?, news: News::default(), _alone: alone };
        machine.file("/app/crash", None);
        machine.does(&["systemctl", "start", "postgresql@15-main", "redis-server", "nginx", BACKEND]);
        wait_until("the application answers", || machine.answers());
        machine.news();
        Some(machine)
    }

    fn answers(&self) -> bool {
        let asks = "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/db', timeout=3)";
        self.runs(&["python3", "-c", asks]).status.success()
    }

    fn runs(&self, words: &[&str]) -> Output {
        lab_machine("run").args(words).output().unwrap()
    }

    /// Runs a program on it, which must end well; what it said.
    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let output = self.runs(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A property of a unit.
    fn unit(&self, unit: &str, property: &str) -> String {
        self.does(&["systemctl", "show", "--value", "-p", property, unit])
    }

    /// Writes a file on it, or removes it.
    fn file(&self, path: &str, text: Option<&str>) {
        let path = self.root.join(path.trim_start_matches('/'));
        match text {
            Some(text) => {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            None => _ = std::fs::remove_file(path),
        }
    }

    /// A project with the settings of the machine, and these runbooks.
    fn project(&self, name: &'static str, runbooks: &[(&str, &str)]) -> String {
        let directory = format!("/srv/{name}");
        let _ = std::fs::remove_dir_all(self.root.join(directory.trim_start_matches('/')));
        for file in ["runbook.toml", "systems/education.toml"] {
            let text = std::fs::read_to_string(format!("{HOME}/machine/{file}")).unwrap();
            self.file(&format!("{directory}/{file}"), Some(&text));
        }
        for (name, text) in runbooks {
            self.file(&format!("{directory}/{name}.rhai"), Some(text));
        }
        directory
    }

    /// Runs a runbook of a project.
    #[track_caller]
    fn run(&mut self, project: &str, words: &[&str]) -> Look {
        let state = format!("RUNBOOK_STATE_DIR={project}/state");
        let began = Instant::now();
        let output = self.runs(&[&["env", &state, "runbook", "-C", project, "run", "--json"], words].concat());
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr).into_owned());
        let answer = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}\n{stdout}\n{stderr}"));
        Look { code: output.status.code().unwrap(), took: began.elapsed(), answer, stderr, messages: self.news() }
    }

    #[track_caller]
    fn look(&mut self, project: &str) -> Look {
        self.run(project, &["check-health", "-p", "profile=daily", "-p", KINDS])
    }

    /// What came to its sink since the last time.
    fn news(&mut self) -> Vec<(&'static str, String)> {
        self.news.since(|channel| {
            let got = std::fs::read_to_string(self.root.join(format!("lab/sink/{channel}.jsonl"))).unwrap_or_default();
            got.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        })
    }
}

fn lab_machine(command: &str) -> Command {
    let mut lab = Command::new(format!("{HOME}/lab"));
    lab.args(["machine", command]).stdin(Stdio::null());
    lab
}

/// The root of the machine, with the binary of this build in it.
fn found() -> Option<PathBuf> {
    std::env::var_os("RUNBOOK_TEST_LAB")?;
    let root = lab_machine("root").output().unwrap();
    let root = root.status.success().then(|| Path::new(String::from_utf8_lossy(&root.stdout).trim()).to_owned())?;
    std::fs::copy(env!("CARGO_BIN_EXE_runbook"), root.join("usr/local/bin/runbook")).unwrap();
    Some(root)
}

fn findings(names: &[&str]) -> BTreeMap<String, &'static str> {
    names.iter().map(|name| ((*name).to_owned(), "critical")).collect()
}

#[test]
fn a_unit_that_stops_is_named_told_once_and_told_when_it_is_back() {
    let Some(mut machine) = Machine::up() else { return };
    let project = machine.project("stops", &[]);
    machine.look(&project).finds(&findings(&[])).is_quiet();
    machine.does(&["systemctl", "stop", BACKEND]);
    let broken = findings(&["endpoint health", "service education-api"]);
    let look = machine.look(&project);
    look.finds(&broken)
        .says("service education-api", "inactive (dead)")
        .tells(systems::EDUCATION.critical, &["严重", "service education-api"]);
    machine.look(&project).finds(&broken).is_quiet();
    machine.does(&["systemctl", "start", BACKEND]);
    wait_until("the application answers", || machine.answers());
    machine.look(&project).finds(&findings(&[])).tells(systems::EDUCATION.recovery, &["已恢复", "service education-api"]);
}

#[test]
fn a_unit_that_can_not_start_says_how_it_ended() {
    let Some(mut machine) = Machine::up() else { return };
    let project = machine.project("fails", &[]);
    machine.file("/app/crash", Some(""));
    machine.does(&["systemctl", "restart", BACKEND]);
    wait_until("the unit has failed", || machine.unit(BACKEND, "ActiveState") == "failed");
    let look = machine.look(&project);
    look.finds(&findings(&["endpoint health", "service education-api"])).says("service education-api", "failed (exit code 1)");
}

#[test]
fn a_cluster_that_is_down_is_seen_though_its_meta_unit_is_active() {
    let Some(mut machine) = Machine::up() else { return };
    let project = machine.project("cluster", &[]);
    machine.does(&["systemctl", "stop", "postgresql@15-main"]);
    assert_eq!(machine.unit("postgresql", "ActiveState"), "active");
    let look = machine.look(&project);
    assert_eq!(look.check("service postgresql")["level"], "critical", "{}", look.stderr);
    assert_eq!(look.check("database main")["level"], "critical", "{}", look.stderr);
}

#[test]
fn a_service_is_restarted_by_its_unit_and_only_planned_by_a_plan() {
    let Some(mut machine) = Machine::up() else { return };
    let restart = r#"//! Restarts the API.
runbook(#{ title: "Restart", allow: #{ systemd: ["status:education-api", "restart:education-api", "logs:education-api"] } });
step("restart", || service::restart("education-api"));
output("state", service::state("education-api").problem == ());
output("log", service::logs("education-api", #{ tail: 50 }).len() > 0);
"#;
    let project = machine.project("restart", &[("restart-api", restart)]);
    let before = machine.unit(BACKEND, "MainPID");
    let planned = machine.does(&["runbook", "-C", &project, "plan", "restart-api", "-s", "education"]);
    assert!(planned.contains("education-api"), "{planned}");
    assert_eq!(machine.unit(BACKEND, "MainPID"), before);
    let look = machine.run(&project, &["restart-api"]);
    assert_eq!((look.code, &look.answer["outputs"]["state"], &look.answer["outputs"]["log"]), (0, &true.into(), &true.into()));
    assert_ne!(machine.unit(BACKEND, "MainPID"), before, "{}", look.stderr);
}

#[test]
fn a_unit_that_stopped_is_brought_back_by_a_recovery_and_only_once() {
    let Some(mut machine) = Machine::up() else { return };
    let project = machine.project("recovers", &[]);
    let words = ["recover-service", "-p", "service=education-api"];
    machine.does(&["systemctl", "stop", BACKEND]);
    let look = machine.run(&project, &words);
    assert_eq!(look.code, 0, "{}", look.stderr);
    look.says("service education-api", "restarted 1 times").tells(systems::EDUCATION.recovery, &["已恢复", BACKEND]);
    assert_eq!(machine.unit(BACKEND, "ActiveState"), "active");
    let before = machine.unit(BACKEND, "MainPID");
    machine.run(&project, &words).says("service education-api", "nothing was done").is_quiet();
    assert_eq!(machine.unit(BACKEND, "MainPID"), before);
}

#[test]
fn a_unit_that_can_not_come_up_is_tried_as_often_as_it_may_be_and_then_a_persons() {
    let Some(mut machine) = Machine::up() else { return };
    let project = machine.project("gives-up", &[]);
    let words = ["recover-service", "-p", "service=education-api", "-p", "tries=2", "-p", "patience=5s"];
    machine.file("/app/crash", Some(""));
    machine.does(&["systemctl", "stop", BACKEND]);
    let look = machine.run(&project, &words);
    assert_eq!((look.code, &look.answer["outputs"]["restarted"][0]["restarts"]), (1, &2.into()), "{}", look.stderr);
    look.tells(systems::EDUCATION.critical, &[systems::EDUCATION.title, "重启失败", BACKEND, "cannot start"]);
    let look = machine.run(&project, &words);
    assert_eq!((look.code, &look.answer["outputs"]["restarted"][0]["restarts"]), (1, &0.into()), "{}", look.stderr);
    look.says("service education-api", "restarted 2 times within 1h, not again for").is_quiet();
    machine.file("/app/crash", None);
    machine.does(&["systemctl", "start", BACKEND]);
    wait_until("the application answers", || machine.answers());
    machine.run(&project, &words).tells(systems::EDUCATION.recovery, &["已恢复", BACKEND]);
}

#[test]
fn the_unit_file_serves_in_its_sandbox_and_systemd_brings_it_back() {
    let Some(machine) = Machine::up() else { return };
    let served = Served::new(&machine);
    let runs = |more: u64| {
        let wanted = served.ended() + more;
        wait_until("the schedule has run it", || served.ended() >= wanted);
    };
    // It is active when it says that it is ready, and runs what is due with the secret it was given.
    assert_eq!(machine.unit("runbook", "ActiveState"), "active");
    runs(2);
    machine.does(&["systemctl", "reload", "runbook"]);
    runs(1);
    // One that hangs is ended by the watchdog, one that is killed comes back.
    for (how, restarts) in [("STOP", "1"), ("KILL", "2")] {
        machine.does(&["systemctl", "kill", "--kill-whom=main", "-s", how, "runbook"]);
        wait_until("systemd starts it again", || {
            machine.unit("runbook", "NRestarts") == restarts && machine.unit("runbook", "ActiveState") == "active"
        });
        runs(1);
    }
    machine.does(&["systemctl", "stop", "runbook"]);
    assert_eq!(machine.unit("runbook", "Result"), "success");
    assert_eq!(served.count("running"), 0);
    assert_eq!(served.count("failed"), 0, "{}", machine.does(&["journalctl", "-u", "runbook", "--no-pager"]));
}

/// The daemon as the guide installs it, with a runbook that is due each second.
struct Served<'m> {
    machine: &'m Machine,
}

impl<'m> Served<'m> {
    fn new(machine: &'m Machine) -> Self {
        let runbook = r#"//! Uses a secret.
runbook(#{ title: "Tick", allow: #{ secrets: ["token"] } });
step("has it", || if secret::exists("token") { "yes" } else { throw "no secret" });
"#;
        machine.file("/etc/runbook/runbook.toml", Some("[secrets.token]\ncredential = \"token\"\n"));
        machine.file("/etc/runbook/runbooks/tick.rhai", Some(runbook));
        machine.file("/etc/runbook/runbooks/systems/here.toml", Some("title = \"here\"\n\n[schedules.tick]\nevery = \"1s\"\n"));
        machine.does(&["chmod", "-R", "a+rX", "/etc/runbook/runbooks", "/etc/runbook/runbook.toml"]);
        machine.does(&["chmod", "a+x", "/etc/runbook"]);
        let more = "[Service]\nLoadCredential=token:/etc/runbook/secrets/db_password\nWatchdogSec=3s\n";
        machine.file("/etc/systemd/system/runbook.service.d/test.conf", Some(more));
        machine.file("/etc/systemd/system/runbook.service", Some(&machine.does(&["runbook", "serve", "--unit"])));
        if !machine.runs(&["id", "runbook"]).status.success() {
            machine.does(&["useradd", "--system", "--home-dir", "/var/lib/runbook", "runbook"]);
        }
        machine.does(&["systemctl", "daemon-reload"]);
        machine.does(&["systemctl", "start", "runbook"]);
        Self { machine }
    }

    fn history(&self, status: &str) -> Vec<Value> {
        let state = "RUNBOOK_STATE_DIR=/var/lib/runbook";
        let asked = ["runuser", "-u", "runbook", "--", "env", state, "runbook", "history", "--json", "--limit", "1000", "--status", status];
        let found = self.machine.does(&asked);
        serde_json::from_str(&found).unwrap()
    }

    fn count(&self, status: &str) -> usize {
        self.history(status).len()
    }

    fn ended(&self) -> u64 {
        u64::try_from(self.count("succeeded")).unwrap()
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.machine.runs(&["systemctl", "stop", "runbook"]);
        self.machine.runs(&["rm", "-rf", "/var/lib/runbook"]);
    }
}
