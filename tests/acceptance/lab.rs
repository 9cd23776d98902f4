//! A system of the lab with a project, a state and a sink of its own.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::systems::System;
use crate::harness::sink::Sink;
use crate::harness::{Daemon, Done, Project};

pub(super) const HOME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab");
/// Its settings.
pub(crate) const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/runbook.toml");
const CHANNELS: [&str; 5] = ["dingtalk", "slack", "sms", "smtp", "webhook"];
/// What is looked at: the machine of the tests is busy, and its load is no finding.
const KINDS: &str = "only=services,endpoint,database,cache,certificate,log";

/// The lab, when it is up.
pub(crate) struct Lab {
    pub(crate) state: PathBuf,
    /// What its settings take from the environment.
    pub(crate) environment: BTreeMap<String, String>,
}

/// The lab; without it says once that what needs it is not run.
pub(crate) fn lab() -> Option<&'static Lab> {
    static LAB: OnceLock<Option<Lab>> = OnceLock::new();
    let found = LAB.get_or_init(|| {
        if std::env::var_os("RUNBOOK_TEST_LAB").is_none() {
            // Not captured, so that it is seen even though nothing failed.
            std::io::stderr().write_all(b"not run: the lab is not up (tests/run brings it up)\n").unwrap();
            return None;
        }
        let environment = exports(&lab_says(&["env"]));
        Some(Lab { state: PathBuf::from(&environment["RUNBOOK_LAB_STATE"]), environment })
    });
    found.as_ref()
}

/// The variables of `export A=b C=d` lines.
fn exports(text: &str) -> BTreeMap<String, String> {
    let words = text.lines().flat_map(|line| line.trim_start_matches("export ").split(' '));
    words.filter_map(|word| word.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(format!("{HOME}/lab"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command of the lab.
#[track_caller]
pub(crate) fn lab_says(arguments: &[&str]) -> String {
    let output = command(arguments).output().unwrap();
    assert!(output.status.success(), "lab {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the lab says of itself: ports, passwords, places.
pub(crate) fn lab_status() -> &'static Value {
    static STATUS: OnceLock<Value> = OnceLock::new();
    STATUS.get_or_init(|| serde_json::from_str(&lab_says(&["status", "--json"])).unwrap())
}

/// What docker says.
#[track_caller]
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The lab's small filesystem, for as long as a test takes; taken away again.
pub(crate) struct Disk(#[expect(dead_code, reason = "held, never read")] MutexGuard<'static, ()>);

impl Disk {
    /// The disk, when no other test has it.
    pub(crate) fn alone() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        Self(ALONE.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = command(&["disk", "down"]).status();
    }
}

/// A project with the settings of the lab, whose messages go to a sink of its own.
pub(crate) struct Station {
    system: &'static System,
    sink: Sink,
    project: Option<Project>,
    environment: BTreeMap<String, String>,
    news: News,
}

/// How much of each channel of a sink was seen.
#[derive(Default)]
pub(super) struct News(BTreeMap<&'static str, usize>);

impl News {
    /// What came since the last time, where this came in all to a channel.
    pub(super) fn since(&mut self, got: impl Fn(&str) -> Vec<Value>) -> Vec<(&'static str, String)> {
        let mut news = Vec::new();
        for channel in CHANNELS {
            let got = got(channel);
            let seen = self.0.insert(channel, got.len()).unwrap_or(0);
            news.extend(got[seen..].iter().map(|message| (channel, text_of(message))));
        }
        news
    }
}

/// A system for as long as a test takes. Whole at the beginning, and at the end whatever happens.
pub(crate) struct Site {
    pub(crate) system: &'static System,
    whole: MutexGuard<'static, bool>,
    station: Station,
}

/// One look at a system.
pub(crate) struct Look {
    pub(crate) code: i32,
    pub(crate) took: Duration,
    pub(crate) answer: Value,
    pub(crate) stderr: String,
    /// What came to the sink because of it: channel and text.
    pub(crate) messages: Vec<(&'static str, String)>,
}

impl Station {
    /// A station for a system that may be in anybody's hands.
    pub(crate) fn new(lab: &Lab, system: &'static System) -> Self {
        let sink = Sink::new();
        let mut environment = lab.environment.clone();
        for value in environment.values_mut() {
            *value = at_sink(value, &sink).replace("lab-dingtalk-secret", "SEC-of-the-robot");
        }
        let mut project = Project::new();
        for file in ["runbook.toml".to_owned(), format!("systems/{}.toml", system.name)] {
            let text = std::fs::read_to_string(format!("{HOME}/{file}")).unwrap();
            project = project.file(&file, &at_sink(&text, &sink));
        }
        Self { system, sink, project: Some(project), environment, news: News::default() }
    }

    /// Runs a runbook.
    #[track_caller]
    pub(crate) fn run(&mut self, runbook: &str, params: &[&str]) -> Look {
        let mut words = vec!["run", runbook, "--json", "-s", self.system.name];
        words.extend(params.iter().flat_map(|param| ["-p", param]));
        self.command(&words)
    }

    /// Runs a command; one that says nothing has no answer.
    #[track_caller]
    fn command(&mut self, words: &[&str]) -> Look {
        let mut test = self.project.take().unwrap().command(words.iter().copied());
        for (name, value) in &self.environment {
            test = test.env(name, value);
        }
        let Done { project, code, stdout, stderr, took } = test.run();
        self.project = Some(project);
        let answer = match stdout.is_empty() {
            true => Value::Null,
            false => serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}\n{stdout}\n{stderr}")),
        };
        Look { code, took, answer, stderr, messages: self.news.since(|channel| self.sink.got(channel)) }
    }
}

impl Site {
    /// The system, or nothing without the lab.
    pub(crate) fn of(system: &'static System) -> Option<Self> {
        let lab = lab()?;
        let whole = system.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let mut site = Self { system, whole, station: Station::new(lab, system) };
        if !*site.whole {
            site.mend();
        }
        Some(site)
    }

    /// Breaks something of it.
    #[track_caller]
    pub(crate) fn breaks(&mut self, switch: &str, argument: &str) {
        *self.whole = false;
        let mut words = vec!["break", switch, self.system.name];
        words.extend((!argument.is_empty()).then_some(argument));
        lab_says(&words);
    }

    /// Mends all of it.
    #[track_caller]
    pub(crate) fn mend(&mut self) {
        lab_says(&["mend", self.system.name]);
        *self.whole = true;
    }

    /// The daily look at its health.
    #[track_caller]
    pub(crate) fn look(&mut self) -> Look {
        self.run("check-health", &["profile=daily", KINDS])
    }

    /// Adds a runbook.
    pub(crate) fn adds(&mut self, name: &str, text: &str) {
        let project = self.station.project.take().unwrap();
        self.station.project = Some(project.file(&format!("{name}.rhai"), text));
    }

    /// Adds tables to its system file.
    pub(crate) fn amends(&mut self, tables: &str) {
        let project = self.station.project.take().unwrap();
        let file = format!("systems/{}.toml", self.system.name);
        let text = std::fs::read_to_string(project.path().join(&file)).unwrap();
        self.station.project = Some(project.file(&file, &format!("{text}\n{tables}\n")));
    }

    /// Makes ready what a daemon needs to watch it, which looks often: no schedule is due, and these tables are added.
    pub(crate) fn watched(&mut self, tables: &str) {
        let project = self.station.project.take().unwrap();
        let file = format!("systems/{}.toml", self.system.name);
        let read = |file: &str| std::fs::read_to_string(project.path().join(file)).unwrap();
        let system = read(&file).replacen("remove = [", "remove = [\n    \"schedules\",", 1);
        let settings = read("runbook.toml");
        let project = project.file(&file, &format!("{system}\n[schedules.check-health]\ncron = \"0 0 1 1 *\"\n{tables}\n"));
        self.station.project = Some(project.file("runbook.toml", &format!("{settings}\n[daemon]\nlook = \"500ms\"\n")));
    }

    /// A daemon for it.
    pub(crate) fn serve(&self) -> Daemon {
        let environment: Vec<(&str, &str)> = self.station.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.station.project.as_ref().unwrap().serve_with(&environment)
    }

    /// What its daemons said.
    pub(crate) fn daemon_log(&self) -> String {
        self.station.project.as_ref().unwrap().daemon_log()
    }

    /// All that came to a channel.
    pub(crate) fn told(&self, channel: &str) -> Vec<String> {
        self.station.sink.accepted(channel).iter().map(text_of).collect()
    }

    /// Runs a command.
    #[track_caller]
    pub(crate) fn ask(&mut self, words: &[&str]) -> Look {
        self.station.command(words)
    }

    /// Runs a runbook for it.
    #[track_caller]
    pub(crate) fn run(&mut self, runbook: &str, params: &[&str]) -> Look {
        self.station.run(runbook, params)
    }

    /// Kills a run of a runbook after an event, and lets it go on.
    #[track_caller]
    pub(crate) fn resumed(&mut self, runbook: &str, params: &[&str], event: &str) -> Look {
        let mut words = vec!["run", runbook, "--json", "-s", self.system.name, "--crash-after", event];
        words.extend(params.iter().flat_map(|param| ["-p", param]));
        let cut = self.station.command(&words);
        assert_eq!(cut.code, -9, "{}", cut.stderr);
        let mut look = self.station.command(&["resume", "last", "--json"]);
        look.messages.splice(0..0, cut.messages);
        look
    }

    /// The plan of a run.
    #[track_caller]
    pub(crate) fn plan(&mut self, runbook: &str, params: &[&str]) -> Look {
        let mut words = vec!["plan", runbook, "--json", "-s", self.system.name];
        words.extend(params.iter().flat_map(|param| ["-p", param]));
        self.station.command(&words)
    }

    /// What lives of it, and since when: changes as soon as anything of it is restarted.
    pub(crate) fn lives(&self) -> String {
        let status = lab_status();
        let Some(project) = status["systems"][self.system.name]["project"].as_str() else {
            let run = PathBuf::from(status["state"].as_str().unwrap()).join("run");
            let names = ["postgresql", "redis", "api", "nginx"];
            return names.map(|name| std::fs::read_to_string(run.join(format!("education-{name}.pid"))).unwrap_or_default()).join("");
        };
        let ids = docker(&["ps", "-aq", "--filter", &format!("label=com.docker.compose.project={project}")]);
        let mut words = vec!["inspect", "-f", "{{.Name}} {{.State.Status}} {{.State.StartedAt}}"];
        words.extend(ids.lines());
        let mut lines: Vec<String> = docker(&words).lines().map(str::to_owned).collect();
        lines.sort();
        lines.join("\n")
    }

    /// Makes a channel of its sink misbehave.
    pub(crate) fn channel(&self, channel: &str, mode: &str) {
        self.station.sink.mode(&json!({ "channel": channel, "mode": mode }));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !*self.whole {
            *self.whole = command(&["mend", self.system.name]).output().is_ok_and(|output| output.status.success());
        }
    }
}

impl Look {
    /// The checks that are not ok: their levels by their names.
    pub(crate) fn findings(&self) -> BTreeMap<&str, &str> {
        let checks = self.answer["checks"].as_array().unwrap();
        let pairs = checks.iter().map(|check| (check["name"].as_str().unwrap(), check["level"].as_str().unwrap()));
        pairs.filter(|(_, level)| *level != "ok").collect()
    }

    /// A check by its name.
    #[track_caller]
    pub(crate) fn check(&self, name: &str) -> &Value {
        let found = self.answer["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no check `{name}` in {:#}", self.answer["checks"]))
    }

    /// The detail of a check must contain this.
    #[track_caller]
    pub(crate) fn says(&self, name: &str, text: &str) -> &Self {
        let detail = self.check(name)["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(text), "`{text}` is not in the detail of `{name}`: {detail}");
        self
    }

    /// Exactly these checks are not ok, and the exit code is what the worst of them means.
    #[track_caller]
    pub(crate) fn finds(&self, expected: &BTreeMap<String, &str>) -> &Self {
        let expected: BTreeMap<&str, &str> = expected.iter().map(|(name, level)| (name.as_str(), *level)).collect();
        assert_eq!(self.findings(), expected, "\n{}", self.stderr);
        let code = if expected.is_empty() { 0 } else { 1 + 2 * i32::from(expected.values().all(|level| *level == "warning")) };
        assert_eq!(self.code, code, "{}", self.stderr);
        self
    }

    /// Exactly one message came to each of these channels, and each names all of this.
    #[track_caller]
    pub(crate) fn tells(&self, channels: &[&str], words: &[&str]) -> &Self {
        let reached: Vec<&str> = self.messages.iter().map(|(channel, _)| *channel).collect();
        assert_eq!(reached, channels, "{:#?}\n{}", self.messages, self.stderr);
        for (channel, text) in &self.messages {
            // A short message has room for the worst only.
            let room = if *channel == "sms" { words.len().min(3) } else { words.len() };
            for word in &words[..room] {
                assert!(text.contains(word), "`{word}` is not in what {channel} got: {text}");
            }
        }
        self
    }

    /// Nobody heard anything.
    #[track_caller]
    pub(crate) fn is_quiet(&self) -> &Self {
        self.tells(&[], &[])
    }

    /// It took no longer than this.
    #[track_caller]
    pub(crate) fn within(&self, seconds: u64) -> &Self {
        assert!(self.took < Duration::from_secs(seconds), "it took {:?}\n{}", self.took, self.stderr);
        self
    }
}

/// Settings of the lab, with the test's own sink in place of the lab's.
fn at_sink(text: &str, sink: &Sink) -> String {
    let ca = "ca = \"${env:RUNBOOK_LAB_STATE}/ca/ca.pem\"";
    text.replace("http://127.0.0.1:10080", &format!("http://127.0.0.1:{}", sink.http)).replace(
        &format!("server = \"smtp://localhost:10025\"\n{ca}"),
        &format!("server = \"smtp://localhost:{}\"\nca = \"{}\"", sink.smtp, sink.ca().display()),
    )
}

/// All the words of a message: the body of a webhook, or the subject and the text of a mail.
fn text_of(message: &Value) -> String {
    match &message["json"] {
        Value::Object(body) => json!(body).to_string(),
        _ => {
            let headers = message["headers"].as_object();
            let subject = headers.and_then(|headers| headers.get("Subject")).and_then(Value::as_str).unwrap_or_default();
            let encoding = headers.and_then(|headers| headers.get("Content-Transfer-Encoding")).and_then(Value::as_str);
            let body = message["body"].as_str().unwrap();
            let body = if encoding == Some("base64") { base64(&body.replace("\r\n", "")) } else { quoted_printable(body) };
            format!("{}\n{body}", words_of(subject))
        }
    }
}

/// The words of a header, RFC 2047: each `=?utf-8?b?…?=` is opened, and a space between two of them is none.
fn words_of(header: &str) -> String {
    let mut text = String::new();
    let mut is_after_encoded = true;
    for word in header.split(' ') {
        let inner = word.strip_prefix("=?utf-8?b?").and_then(|word| word.strip_suffix("?="));
        if !(is_after_encoded && inner.is_some()) {
            text.push(' ');
        }
        text += &inner.map_or_else(|| word.to_owned(), base64);
        is_after_encoded = inner.is_some();
    }
    text.trim().to_owned()
}

fn base64(text: &str) -> String {
    use base64::Engine;
    String::from_utf8_lossy(&base64::engine::general_purpose::STANDARD.decode(text).unwrap()).into_owned()
}

fn quoted_printable(text: &str) -> String {
    let text = text.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'=').then(|| after.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
