//! check-logs: exact counts of crafted logs, and errors of a real system that people hear of once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use super::in_every_system;
use super::lab::Site;
use super::systems::{self, System};
use crate::harness::Project;

const SYSTEM: &str = r#"
title = "Shop"
language = "en"
timezone = "UTC"

[logs.app]
path = "logs/app.log"
format = "app"

[logs.access]
path = "logs/access.log"
format = "nginx"
"#;

/// So many minutes ago.
#[expect(clippy::disallowed_methods, reason = "the runbook reads the clock of the machine, so its logs are written by it")]
fn before(minutes: i64) -> Timestamp {
    Timestamp::now().checked_sub(minutes.minutes()).unwrap()
}

/// A stamp so many minutes ago.
fn ago(minutes: i64, format: &str) -> String {
    before(minutes).strftime(format).to_string()
}

fn app(minutes: i64, rest: &str) -> String {
    format!("{} {rest}\n", ago(minutes, "%Y-%m-%d %H:%M:%S"))
}

fn access(minutes: i64, address: &str, status: u16, seconds: f64) -> String {
    let stamp = ago(minutes, "%d/%b/%Y:%H:%M:%S +0000");
    format!("{address} - - [{stamp}] \"GET /api/models HTTP/1.1\" {status} 12 \"-\" \"curl\" {seconds:.3}\n")
}

fn write(project: &Project, path: &str, text: &str) {
    let path = project.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut file = GzEncoder::new(std::fs::File::create(path).unwrap(), Compression::fast());
        file.write_all(text.as_bytes()).unwrap();
        file.finish().unwrap();
    } else {
        std::fs::write(path, text).unwrap();
    }
}

/// A project whose logs hold these, with absolute paths.
fn shop() -> Project {
    let project = Project::new();
    let system = SYSTEM.replace("logs/", &format!("{}/logs/", project.path().display()));
    let project = project.file("runbooks/systems/shop.toml", &system).file("runbook.toml", "default_system = \"shop\"\n");
    write(&project, "logs/app.log", "");
    write(&project, "logs/access.log", "");
    project
}

/// What check-logs puts out about this window.
fn outputs(project: Project, window: &str) -> Value {
    let done = project.command(["run", "check-logs", "--json", "-p", "tell=false"]).arg("-p").arg(&format!("window={window}")).run();
    done.json()["outputs"].clone()
}

/// The row of a table that is about this log.
fn row(outputs: &Value, table: &str, log: &str) -> Value {
    let rows = outputs[table]["rows"].as_array().unwrap_or_else(|| panic!("{outputs:#}"));
    rows.iter().find(|row| row["log"] == log).unwrap_or_else(|| panic!("no {log} in {rows:?}")).clone()
}

#[test]
fn lines_of_the_window_are_counted_in_the_file_and_its_rotated_parts_and_older_ones_are_not() {
    let project = shop();
    write(&project, "logs/app.log", &[app(10, "ERROR one"), app(5, "INFO fine"), app(1, "ERROR two")].concat());
    write(&project, "logs/app.log.1", &[app(300, "ERROR old"), app(90, "ERROR too old"), app(50, "ERROR three")].concat());
    write(&project, "logs/app.log.2.gz", &[app(5 * 24 * 60, "ERROR of day five"), app(400, "ERROR four")].concat());
    let of_hour = outputs(project, "1h");
    let newest: Vec<&str> = of_hour["newest errors"]["rows"].as_array().unwrap().iter().map(|row| row["text"].as_str().unwrap()).collect();
    assert!(newest.len() == 3 && newest[0].ends_with("ERROR two") && newest[2].ends_with("ERROR three"), "{newest:?}");
    assert_eq!((&row(&of_hour, "logs", "app")["lines"], &row(&of_hour, "logs", "app")["errors"]), (&json!(4), &json!(3)));
}

#[test]
fn a_week_reaches_day_five_in_a_compressed_part() {
    let project = shop();
    write(&project, "logs/app.log", &app(1, "ERROR now"));
    write(&project, "logs/app.log.1", &app(300, "ERROR of today"));
    write(&project, "logs/app.log.2.gz", &[app(9 * 24 * 60, "ERROR of day nine"), app(5 * 24 * 60, "ERROR of day five")].concat());
    assert_eq!(row(&outputs(project, "7d"), "logs", "app")["errors"], 3);
}

#[test]
fn stamps_of_iso_8601_with_and_without_a_zone_are_read() {
    let project = shop();
    let here = before(10).to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(8)));
    let text = [
        format!("{} ERROR zulu", ago(10, "%Y-%m-%dT%H:%M:%SZ")),
        format!("{} ERROR with millis", ago(10, "%Y-%m-%dT%H:%M:%S.123Z")),
        format!("{} ERROR in Shanghai", here.strftime("%Y-%m-%dT%H:%M:%S+08:00")),
        format!("{} ERROR two hours old", ago(120, "%Y-%m-%dT%H:%M:%SZ")),
    ];
    write(&project, "logs/app.log", &(text.join("\n") + "\n"));
    assert_eq!(row(&outputs(project, "1h"), "logs", "app")["errors"], 3);
}

#[test]
fn an_address_that_asks_a_thousand_and_one_times_is_found_and_the_mean_time_is_right() {
    let project = shop();
    let mut text = String::new();
    for n in 0..1001 {
        text += &access(30, "203.0.113.9", if n < 7 { 502 } else { 200 }, 0.100);
    }
    for _ in 0..999 {
        text += &access(20, "2001:db8::7", 200, 0.300);
    }
    text += "this is no access log\n\n\"GET / HTTP/1.1\" 200\n";
    write!(text, "{}", access(180, "198.51.100.1", 500, 9.0)).unwrap();
    write(&project, "logs/access.log", &text);
    let done = project.command(["run", "check-logs", "--json", "-p", "tell=false"]).exits(3);
    let answer = done.json();
    let overview = row(&answer["outputs"], "logs", "access");
    assert_eq!(overview["requests"], 2000);
    // (1001 × 100 ms + 999 × 300 ms) / 2000
    assert_eq!(overview["mean_ms"], "199.9");
    let addresses: BTreeMap<&str, &Value> = answer["outputs"]["addresses"]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["address"].as_str().unwrap(), &row["count"]))
        .collect();
    assert_eq!(addresses, BTreeMap::from([("203.0.113.9", &json!(1001)), ("2001:db8::7", &json!(999))]));
    let checks = answer["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "requests of one address access").unwrap();
    assert_eq!((&check["level"], &check["value"], &check["detail"]), (&json!("warning"), &json!(1001.0), &json!("203.0.113.9")));
    let rate = checks.iter().find(|check| check["name"] == "error rate access").unwrap();
    assert_eq!(rate["detail"], "7 of 2000 requests with status 5xx");
}

in_every_system! {
    fn every_log_of_a_system_can_be_read_whether_a_file_or_the_output_of_a_service(site) {
        let look = site.run("check-logs", &["tell=false"]);
        let rows = look.answer["outputs"]["logs"]["rows"].as_array().unwrap_or_else(|| panic!("{}", look.stderr));
        assert!(rows.iter().all(|row| row["problem"] == "" || row["problem"] == "empty"), "{rows:#?}");
        assert!(look.findings().values().all(|level| *level == "warning"), "{:?}", look.findings());
    }

    fn errors_in_the_log_of_the_application_are_counted_and_told_once(site) {
        let system: &System = site.system;
        if system.logs.is_empty() {
            return; // It writes to its standard output only.
        }
        // What a container wrote to its output stays there when the lab is mended; the files are emptied.
        let logs = format!("logs={}", system.logs.join(","));
        site.breaks("errors", "25");
        let expected: BTreeMap<String, &str> = system.logs.iter().map(|log| (format!("errors {log}"), "warning")).collect();
        let words: Vec<&str> = [system.title, "警告"].into_iter().chain(expected.keys().map(String::as_str)).collect();
        let look = site.run("check-logs", &[&logs]);
        look.finds(&expected).tells(system.warning, &words);
        for log in system.logs {
            look.says(&format!("errors {log}"), "25 in all: 25 × ");
        }
        site.run("check-logs", &[&logs]).finds(&expected).is_quiet();
        site.mend();
        site.run("check-logs", &[&logs]).finds(&BTreeMap::new()).tells(system.recovery, &["已恢复"]);
    }
}
