//! security-monitor: what logs say is counted once, people hear of it once, and no secret is told.

use std::fmt::Write as _;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use serde_json::Value;

use crate::harness::sink::Sink;
use crate::harness::{Done, Project, wait_until};

/// A system with a log of logins, one of a firewall, and people who hear of it.
fn shop(sink: &Sink, more: &str) -> Project {
    let project = Project::new();
    let directory = project.path().display().to_string();
    let system = format!(
        r#"
title = "小店"
language = "zh"
timezone = "UTC"
[logs.auth]
path = "{directory}/logs/auth.log"
format = "syslog"
[logs.events]
path = "{directory}/logs/security.log"
format = "security"
optional = true
[thresholds.failed_logins]
warn = 50
[routes]
warning = ["chat"]
unknown = ["chat"]
recovery = ["chat"]
[contacts.chat]
kind = "webhook"
url = "{url}"
per_minute = 1000
{more}
"#,
        url = sink.url("webhook"),
        more = more.replace("DIR", &directory),
    );
    project.file("runbooks/systems/shop.toml", &system).file("runbook.toml", "default_system = \"shop\"\n").file("logs/auth.log", "")
}

/// The moment it is.
#[expect(clippy::disallowed_methods, reason = "the runbook reads the clock of the machine, so its logs are written by it")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// A refused login, stamped as RFC 3164 has it.
fn refused(at: Timestamp, address: &str) -> String {
    format!("{} host sshd[7]: Failed password for root from {address} port 51234 ssh2\n", at.strftime("%b %e %H:%M:%S"))
}

/// The same, stamped in ISO 8601.
fn refused_iso(at: Timestamp, address: &str) -> String {
    format!(
        "{} host sshd-session[7]: Failed password for invalid user from from {address} port 51234 ssh2\n",
        at.strftime("%Y-%m-%dT%H:%M:%S.123456+00:00")
    )
}

fn check<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let checks = answer["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no `{name}` in {checks:#?}"))
}

fn told(sink: &Sink) -> Vec<String> {
    let words =
        |message: &Value| format!("{}\n{}", message["json"]["subject"].as_str().unwrap(), message["json"]["text"].as_str().unwrap());
    sink.accepted("webhook").iter().map(words).collect()
}

fn watch(project: Project) -> Done {
    project.command(["run", "security-monitor", "--json"]).run()
}

#[test]
fn fifty_one_failed_logins_of_the_5th_in_both_stamps_are_told_once_with_their_addresses() {
    let sink = Sink::new();
    let project = shop(&sink, "");
    let today = now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let back = if today.day() > 5 { today } else { today.checked_sub(1.month()).unwrap() };
    let fifth = Date::new(back.year(), back.month(), 5).unwrap().at(10, 0, 0, 0).in_tz("UTC").unwrap().timestamp();
    let at = |second: i64| fifth.checked_add(second.seconds()).unwrap();
    let rotated: String = (0..20).map(|n| refused(at(n), "203.0.113.9")).collect();
    let current: String = (20..51).map(|n| refused_iso(at(n), "2001:db8::7")).collect();
    let project = project.file("logs/auth.log.1", &rotated).file("logs/auth.log", &current);
    let window = format!("window={}h", (now().duration_since(fifth).as_hours() + 24));
    let first = project.command(["run", "security-monitor", "--json", "-p", &window]).exits(3);
    let answer = first.json();
    let logins = check(&answer, "failed logins auth");
    assert_eq!((&logins["level"], &logins["value"]), (&"warning".into(), &51.0.into()), "{logins}");
    let second = first.then(["run", "security-monitor", "--json", "-p", &window]).exits(3);
    assert_eq!(check(&second.json(), "failed logins auth")["value"], 51.0);
    let messages = told(&sink);
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].contains("[小店] 警告：failed logins auth"), "{messages:?}");
    assert!(messages[0].contains("2001:db8::7 (31), 203.0.113.9 (20)"), "{messages:?}");
}

#[test]
fn only_new_lines_are_counted_across_a_rotation_and_a_quiet_run_changes_nothing() {
    let sink = Sink::new();
    let hour_ago = now().checked_sub(1.hour()).unwrap();
    let fifty: String = (0..50).map(|_| refused(hour_ago, "203.0.113.9")).collect();
    let done = watch(shop(&sink, "").file("logs/auth.log", &fifty));
    assert_eq!((done.code, &check(&done.json(), "failed logins auth")["value"]), (0, &50.0.into()), "{}", done.stderr);
    let done = done.then(["plan", "security-monitor", "--exit-code"]).exits(0);
    let done = watch(done.project);
    assert_eq!(done.changes(), 0, "nothing new is not worth a note");
    let log = done.project.path().join("logs/auth.log");
    std::fs::rename(&log, log.with_extension("log.1")).unwrap();
    std::fs::write(&log, refused(now(), "198.51.100.4")).unwrap();
    let mut last = Some(done.project);
    wait_until("the line is old enough to be read", || {
        let done = watch(last.take().unwrap());
        let value = check(&done.json(), "failed logins auth")["value"].as_f64().unwrap();
        assert!(value == 50.0 || value == 51.0, "{value}");
        last = Some(done.project);
        value == 51.0
    });
    let _ = watch(last.unwrap());
    let messages = told(&sink);
    assert!(messages.len() == 1 && messages[0].contains("198.51.100.4 (1)"), "{messages:?}");
}

#[test]
fn what_an_application_says_of_logins_counts_and_a_log_that_is_not_there_is_told() {
    let sink = Sink::new();
    let hour_ago = now().checked_sub(1.hour()).unwrap().strftime("%Y-%m-%d %H:%M:%S,123").to_string();
    let mut text = String::new();
    for user in 0..60 {
        let event = if user < 51 { "LOGIN_FAILED" } else { "LOGIN_SUCCESS" };
        writeln!(text, "{hour_ago} - security - INFO - SECURITY_EVENT: {event} - USER: {user} - DETAILS: {{'ip': '203.0.113.9'}}").unwrap();
    }
    let project = shop(&sink, "").file("logs/security.log", &text);
    std::fs::remove_file(project.path().join("logs/auth.log")).unwrap();
    let done = watch(project);
    let answer = done.json();
    assert_eq!(check(&answer, "failed logins events")["value"], 51.0);
    assert_eq!(check(&answer, "log auth")["level"], "warning");
    assert_eq!(answer["outputs"]["failed logins"]["rows"][0]["address"], "203.0.113.9");
    assert_eq!(answer["outputs"]["not run"][0]["question"], "log auth");
}

#[test]
fn an_address_that_a_firewall_refuses_at_many_ports_is_scanning() {
    let sink = Sink::new();
    let minutes_ago = now().checked_sub(30.minutes()).unwrap().strftime("%b %e %H:%M:%S").to_string();
    let mut text = String::new();
    for port in 0..12 {
        writeln!(text, "{minutes_ago} host kernel: [1.2] [UFW BLOCK] IN=eth0 OUT= SRC=203.0.113.9 DST=192.0.2.1 PROTO=TCP DPT={port}")
            .unwrap();
        writeln!(text, "{minutes_ago} host kernel: [1.2] [UFW BLOCK] IN=eth0 OUT= SRC=198.51.100.4 DST=192.0.2.1 PROTO=TCP DPT=22")
            .unwrap();
    }
    for _ in 0..10 {
        writeln!(text, "{minutes_ago} host psad: scan detected (Nmap: [NULL or FIN scan]): SRC=203.0.113.9").unwrap();
    }
    let done = watch(shop(&sink, "[thresholds.port_scans]\nwarn = 10").file("logs/auth.log", &text));
    let answer = done.json();
    let scans = check(&answer, "port scans auth");
    assert_eq!(
        (&scans["level"], &scans["value"], &scans["detail"]),
        (&"warning".into(), &11.0.into(), &"203.0.113.9 (11)".into()),
        "{scans}"
    );
}

#[test]
fn secrets_that_everybody_knows_are_named_and_never_told() {
    let sink = Sink::new();
    let more = "[services]\nmanager = \"compose\"\ndirectory = \"DIR\"\nfiles = [\"docker-compose.yml\"]\n[services.web]\n[paths]\nenv = \"DIR/.env\"";
    let compose = r#"
services:
  web:
    environment:
      - POSTGRES_PASSWORD=changeme
      - ADMIN_TOKEN=${ADMIN_TOKEN}
      - CACHE_PASSWORD=${CACHE_PASSWORD:-admin123}
      - "DATABASE_URL=postgresql://app:postgres@db/shop"
      SIGNING_KEY: 'oD8kq2Lw9VnZ-in-the-file'
      LOG_LEVEL: secret
"#;
    let env = "SECRET_KEY=qX7f2m9ZtLr4-long-enough\nexport API_TOKEN=\"kurz1\" # short\n# DB_PASSWORD=changeme\nDB_PASSWORD=\nACCESS_TOKEN_EXPIRE_MINUTES=30\n";
    let project = shop(&sink, more).file("docker-compose.yml", compose).file(".env", env);
    let path = project.path().display().to_string();
    let done = watch(project);
    let answer = done.json();
    let detail = |name: &str| check(&answer, &format!("secrets {path}/{name}"))["detail"].as_str().unwrap().to_owned();
    assert_eq!(
        detail("docker-compose.yml"),
        "CACHE_PASSWORD (默认值), DATABASE_URL (地址中的默认口令), POSTGRES_PASSWORD (默认值), SIGNING_KEY (明文写在文件中)"
    );
    assert_eq!(detail(".env"), "API_TOKEN (过短)");
    let messages = told(&sink).join("\n");
    let log = std::fs::read_to_string(done.project.state().join("runs/1/log.jsonl")).unwrap();
    for value in ["changeme", "admin123", "kurz1", "oD8kq2", "qX7f2m"] {
        assert!(!done.stdout.contains(value) && !messages.contains(value) && !log.contains(value), "{value} was told");
    }
}

#[test]
fn a_run_killed_at_any_place_goes_on_and_counts_and_tells_once() {
    for event in [
        "started",
        "check",
        "step-started:remember what auth said",
        "effect:remember what auth said",
        "step-ended:remember what auth said",
        "step-ended:tell people",
    ] {
        let sink = Sink::new();
        let hour_ago = now().checked_sub(1.hour()).unwrap();
        let lines: String = (0..51).map(|_| refused(hour_ago, "203.0.113.9")).collect();
        let project = shop(&sink, "").file("logs/auth.log", &lines);
        let done = project.command(["run", "security-monitor", "--crash-after", event]).exits(-9);
        let done = done.then(["resume", "last", "--json"]).exits(3);
        assert_eq!(check(&done.json(), "failed logins auth")["value"], 51.0, "{event}");
        let done = watch(done.project);
        assert_eq!((done.code, &check(&done.json(), "failed logins auth")["value"]), (3, &51.0.into()), "{event}");
        assert_eq!(told(&sink).len(), 1, "{event}");
    }
}
