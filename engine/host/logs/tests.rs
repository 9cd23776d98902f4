//! Exact figures of crafted logs, through scripts and through the functions behind them.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::log::{Asked, Log, Source, Window};
use super::report::{self, ReportOptions};
use super::scan::Halt;
use super::{format, record, search};
use crate::error::{Error, Kind, Result};
use crate::host::testing::Bench;
use crate::host::{Mode, Secrets, value};
use crate::model::System;

const NOW: &str = "2026-11-21T12:00:00Z";

fn log(path: &Path, zone: &str) -> Log {
    Log {
        name: path.display().to_string(),
        source: Source::Files(path.to_owned()),
        format: None,
        zone: TimeZone::get(zone).unwrap(),
        optional: false,
    }
}

fn allow(_: &Path) -> Result<()> {
    Ok(())
}

/// The report of a log at [`NOW`].
fn report_of(log: &Log, options: Value) -> Value {
    let options: ReportOptions = serde_json::from_value(options).unwrap();
    let window = Window::read(&options.asked(), &log.zone, NOW.parse().unwrap()).unwrap();
    let log = &Log { format: options.asked().format.or(log.format), ..log.clone() };
    serde_json::to_value(report::report(log, window, &options, &allow, &Halt::default()).unwrap()).unwrap()
}

fn write(directory: &Path, name: &str, text: &str) {
    let file = File::create(directory.join(name)).unwrap();
    if name.ends_with(".gz") {
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
    } else {
        (&file).write_all(text.as_bytes()).unwrap();
    }
}

fn access_line(address: &str, time: &str, request: &str, status: u16, took: &str) -> String {
    format!("{address} - - [21/Nov/2026:{time} +0000] \"{request} HTTP/1.1\" {status} 10 \"-\" \"agent\" {took}\n")
}

#[test]
fn an_hour_of_an_access_log_is_counted_exactly_over_its_parts() {
    let logs = tempfile::tempdir().unwrap();
    let minute = |minute: u32| format!("11:{minute:02}:00");
    let mut current = String::new();
    (0..1001).for_each(|_| current += &access_line("203.0.113.9", "11:30:00", "GET /login?next=/x", 401, "0.010"));
    (0..30)
        .for_each(|number| current += &access_line("2001:db8::7", &minute(30 + number), &format!("GET /api/users/{number}"), 200, "0.100"));
    current += "garbage\n1.1.1.1 - - [broken\n";
    write(logs.path(), "access.log", &current);
    let mut rotated: String = (0..5).map(|_| access_line("10.0.0.1", "11:10:00", "POST /api/users", 500, "1.000")).collect();
    rotated.insert_str(0, &access_line("10.0.0.1", "10:59:59", "GET /old", 200, "9.000"));
    write(logs.path(), "access.log.1", &rotated);
    write(logs.path(), "access.log.2.gz", &access_line("10.0.0.1", "10:00:00", "GET /older", 200, "9.000"));

    let report = report_of(&log(&logs.path().join("access.log"), "Asia/Shanghai"), json!({ "window": "1h" }));
    assert_eq!(report["problem"], Value::Null);
    assert_eq!(report["in_window"], 1036);
    assert_eq!(report["requests"], 1036);
    assert_eq!(report["malformed"], 2);
    assert_eq!(report["first"], "2026-11-21T19:10:00+08:00");
    assert_eq!(report["last"], "2026-11-21T19:59:00+08:00");
    assert_eq!(report["status"], json!({ "2xx": 30, "4xx": 1001, "5xx": 5 }));
    assert_eq!(report["statuses"], json!({ "200": 30, "401": 1001, "500": 5 }));
    assert_eq!(report["clients"][0], json!({ "address": "203.0.113.9", "count": 1001 }));
    assert_eq!(report["clients"][1], json!({ "address": "2001:db8::7", "count": 30 }));
    assert_eq!(report["clients_total"], 3);
    let endpoint = &report["endpoints"][1];
    assert_eq!((&endpoint["method"], &endpoint["path"], &endpoint["count"]), (&json!("GET"), &json!("/api/users/:id"), &json!(30)));
    assert_eq!(report["endpoints"][2]["error_rate"], 100.0);
    assert_eq!(report["endpoints"].as_array().unwrap().len(), 3);
    // (1001 × 10 ms + 30 × 100 ms + 5 × 1000 ms) / 1036
    assert_eq!(report["latency"]["mean"], 17.384);
    assert_eq!(report["latency"]["max"], 1000.0);
    // What begins after the window is read no further back.
    let parts = report["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 2, "{parts:?}");

    let whole = report_of(&log(&logs.path().join("access.log"), "UTC"), json!({ "min_requests": 5, "top": 2, "ignore": ["/login"] }));
    assert_eq!((&whole["requests"], &whole["ignored"]), (&json!(37), &json!(1001)));
    assert_eq!(
        whole["parts"][2],
        json!({ "path": logs.path().join("access.log.2.gz"), "bytes": fs::metadata(logs.path().join("access.log.2.gz")).unwrap().len(), "compressed": true, "lines": 1, "problem": null })
    );
    assert_eq!(whole["endpoints"].as_array().unwrap().len(), 2);
}

#[test]
fn errors_of_an_application_are_counted_by_type() {
    let logs = tempfile::tempdir().unwrap();
    let text = "2026-11-21 11:00:00,000 - app - INFO - started\r\n\
                2026-11-21 11:30:00,000 - app - ERROR - user 17 not found\r\n\
                2026-11-21 11:31:00,000 - app - ERROR - user 18 not found\r\n\
                2026-11-21 11:32:00,000 - app - CRITICAL - request failed\r\n\
                Traceback (most recent call last):\r\n  File \"x.py\", line 1\r\nKeyError: 'id'\r\n\
                what is this\r\n\
                2026-11-21 11:59:00,000 - app - WARNING - the last line has no end";
    write(logs.path(), "app.log", text);
    fs::OpenOptions::new().append(true).open(logs.path().join("app.log")).unwrap().write_all(b" \xff\xfe").unwrap();
    let report = report_of(&log(&logs.path().join("app.log"), "UTC"), json!({}));
    assert_eq!(report["format"], "app");
    assert_eq!(report["levels"], json!({ "INFO": 1, "WARNING": 1, "ERROR": 2, "CRITICAL": 1 }));
    assert_eq!(
        (&report["lines"], &report["in_window"], &report["malformed"], &report["errors"]),
        (&json!(9), &json!(5), &json!(1), &json!(3))
    );
    assert_eq!(
        report["errors_by_type"],
        json!([
            { "type": "user <n> not found", "count": 2, "sample": "2026-11-21 11:31:00,000 - app - ERROR - user 18 not found" },
            { "type": "KeyError", "count": 1, "sample": "2026-11-21 11:32:00,000 - app - CRITICAL - request failed" },
        ])
    );
}

#[test]
fn a_missing_an_empty_and_a_foreign_log_are_different_findings() {
    let logs = tempfile::tempdir().unwrap();
    let path = logs.path().join("app.log");
    assert_eq!(report_of(&log(&path, "UTC"), json!({}))["problem"], "missing");
    assert_eq!(report_of(&Log { optional: true, ..log(&path, "UTC") }, json!({}))["problem"], Value::Null);
    write(logs.path(), "app.log", "");
    let empty = report_of(&log(&path, "UTC"), json!({ "window": "1h" }));
    assert_eq!((&empty["problem"], &empty["errors"]), (&json!("empty"), &json!(0)));
    write(logs.path(), "app.log", "{}\nhello\n");
    let foreign = report_of(&log(&path, "UTC"), json!({ "format": "nginx" }));
    assert_eq!((&foreign["problem"], &foreign["detail"]), (&json!("format"), &json!("none of 2 lines could be read as `nginx`")));
    write(logs.path(), "app.log.1.gz", "x\n");
    fs::write(logs.path().join("app.log.1.gz"), b"no gzip").unwrap();
    assert_eq!(report_of(&log(&path, "UTC"), json!({}))["problem"], "unreadable");
}

#[test]
fn a_wrong_zone_is_a_finding_and_not_a_figure() {
    let logs = tempfile::tempdir().unwrap();
    write(logs.path(), "app.log", "2026-11-21 19:30:00 ERROR in Shanghai\n");
    let path = logs.path().join("app.log");
    let wrong = report_of(&log(&path, "UTC"), json!({ "window": "1h" }));
    assert_eq!((&wrong["problem"], &wrong["errors"], &wrong["future"]), (&json!("future"), &json!(0), &json!(1)));
    assert_eq!(report_of(&log(&path, "UTC"), json!({ "window": "1h" })).get("in_window"), Some(&json!(0)));
    let right = report_of(&log(&path, "Asia/Shanghai"), json!({ "window": "1h" }));
    assert_eq!((&right["problem"], &right["errors"]), (&Value::Null, &json!(1)));
}

#[test]
fn failed_logins_are_counted_by_address_with_both_sorts_of_days_and_stamps() {
    let logs = tempfile::tempdir().unwrap();
    let mut text = "Dec 31 23:59:59 h sshd[1]: Failed password for root from 10.0.0.9 port 22 ssh2\n".to_owned();
    (0..51)
        .for_each(|second| text += &format!("Nov  5 10:00:{second:02} h sshd[1]: Failed password for root from 10.0.0.7 port 22 ssh2\n"));
    text += "2026-11-15T10:00:00.123456+00:00 h sshd[1]: Failed password for invalid user a from 2001:db8::1 port 22 ssh2\n";
    write(logs.path(), "auth.log", &text);
    let report = report_of(&log(&logs.path().join("auth.log"), "UTC"), json!({ "format": "syslog", "since": "2026-11-01" }));
    assert_eq!(report["login_failures"], json!([{ "address": "10.0.0.7", "count": 51 }, { "address": "2001:db8::1", "count": 1 }]));
    assert_eq!(report["first"], "2026-11-05T10:00:00+00:00");
    let all = report_of(&log(&logs.path().join("auth.log"), "UTC"), json!({ "format": "syslog" }));
    assert_eq!(all["first"], "2025-12-31T23:59:59+00:00");
}

#[test]
fn the_hour_that_comes_twice_is_two_hours() {
    let logs = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for _ in 0..2 {
        (0..60).for_each(|minute| text += &format!("2026-10-25 02:{minute:02}:00 ERROR x\n"));
    }
    write(logs.path(), "app.log", &text);
    let log = log(&logs.path().join("app.log"), "Europe/Berlin");
    let first = report_of(&log, json!({ "since": "2026-10-25T00:00:00Z", "before": "2026-10-25T01:00:00Z" }));
    let second = report_of(&log, json!({ "since": "2026-10-25T01:00:00Z", "before": "2026-10-25T02:00:00Z" }));
    assert_eq!((&first["errors"], &second["errors"]), (&json!(60), &json!(60)));
    assert_eq!(second["first"], "2026-10-25T02:00:00+01:00");
}

#[test]
fn of_a_large_log_only_the_window_is_read_and_all_when_it_is_in_no_order() {
    let logs = tempfile::tempdir().unwrap();
    // 100 000 seconds up to 12:00:00, of 60 bytes each.
    let end = NOW.parse::<Timestamp>().unwrap().as_second();
    let line = |second: i64| format!("{} ERROR {}\n", Timestamp::from_second(second).unwrap(), "x".repeat(32));
    let ordered: Vec<String> = (end - 100_000..end).map(line).collect();
    write(logs.path(), "app.log", &ordered.concat());
    let path = logs.path().join("app.log");
    let hour = report_of(&log(&path, "UTC"), json!({ "window": "1h" }));
    assert_eq!(hour["errors"], 3600, "{hour:#}");
    assert!(hour["lines"].as_u64().unwrap() < 10_000, "{}", hour["lines"]);
    let earlier = report_of(&log(&path, "UTC"), json!({ "since": "2026-11-20T20:00:00Z", "before": "2026-11-20T21:00:00Z" }));
    assert_eq!(earlier["errors"], 3600);
    assert!(earlier["lines"].as_u64().unwrap() < 15_000, "{}", earlier["lines"]);

    let mut mixed = ordered;
    mixed.reverse();
    write(logs.path(), "app.log", &mixed.concat());
    let hour = report_of(&log(&path, "UTC"), json!({ "window": "1h" }));
    assert_eq!((&hour["errors"], &hour["lines"]), (&json!(3600), &json!(100_000)));
}

#[test]
fn lines_from_elsewhere_are_read_as_those_of_files() {
    let lines = b"2026-11-21T11:30:00.5Z INFO ok\n2026-11-21T11:31:00Z ERROR TimeoutError: x\n".to_vec();
    let log = Log { source: Source::Lines(lines), ..log(Path::new("web-1"), "UTC") };
    let report = report_of(&log, json!({ "window": "1h" }));
    assert_eq!((&report["in_window"], &report["errors_by_type"][0]["type"]), (&json!(2), &json!("TimeoutError")));
}

#[test]
fn a_report_counts_what_counting_line_by_line_does() {
    use std::collections::BTreeMap;

    let logs = tempfile::tempdir().unwrap();
    let mut text = String::new();
    // More addresses than wait at once, more paths than are remembered, and names longer than those that wait.
    for line in 0..60_000_u64 {
        let chance = line.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let address = match chance % 7 {
            0 => format!("2001:db8:85a3:8d3:1319:8a2e:370:{:x}", chance % 5000),
            _ => format!("10.{}.{}.7", chance % 3, chance / 8 % 2000),
        };
        let path = ["/", "/api/v1/users", "/static/app.js", "/login"][(chance / 64 % 4) as usize];
        let request = if chance % 5 == 0 { format!("GET {path}/{}/x?y={chance}", chance % 9973) } else { format!("GET {path}") };
        let second = line / 20;
        let time = format!("10:{:02}:{:02}", second / 60 % 60, second % 60);
        text += &access_line(&address, &time, &request, [200, 200, 304, 404, 500][(chance / 512 % 5) as usize], "0.010");
    }
    write(logs.path(), "access.log", &text);
    let report = report_of(&log(&logs.path().join("access.log"), "UTC"), json!({ "top": 1000 }));

    let mut reader = format::Reader::new(format::Format::Nginx, super::stamp::Clock::new(TimeZone::UTC, NOW.parse().unwrap()));
    let (mut clients, mut endpoints) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
    for line in text.lines() {
        let record::Parsed::Record(record::Record { request: Some(request), .. }) = reader.read(line.as_bytes()) else { panic!("{line}") };
        *clients.entry(String::from_utf8_lossy(request.client).into_owned()).or_default() += 1;
        let mut name = Vec::new();
        let name = String::from_utf8_lossy(super::fold::endpoint(request.line, request.method, &mut name)).into_owned();
        *endpoints.entry(name).or_default() += 1;
    }
    let counted = |list: &str, name: &dyn Fn(&Value) -> String| -> BTreeMap<String, u64> {
        report[list].as_array().unwrap().iter().map(|one| (name(one), one["count"].as_u64().unwrap())).collect()
    };
    let text_of = |value: &Value| value.as_str().unwrap().to_owned();
    assert_eq!(counted("endpoints", &|one| format!("{} {}", text_of(&one["method"]), text_of(&one["path"]))), endpoints);
    assert_eq!(report["clients_total"], clients.len());
    let listed = counted("clients", &|one| text_of(&one["address"]));
    assert_eq!(listed.len(), 1000);
    assert!(listed.iter().all(|(address, count)| clients[address] == *count));
}

#[test]
fn the_output_of_a_container_is_a_log() {
    use crate::host::docker::fake::{FakeEngine, container};
    use crate::model::system::{Manager, Service, Services};

    let log =
        json!([["stdout", "2026-11-21T11:00:00.5Z 2026-11-21 11:00:00 ERROR one\n"], ["stderr", "2026-11-21T11:30:00.5Z INFO: two\n"]]);
    let engine = FakeEngine::new(vec![container("shop_web_1", "shop", "web", "running", &json!({ "log": log }))]);
    let services = |manager| Services {
        manager,
        project: "shop".to_owned(),
        docker_host: engine.address(),
        each: [("web".to_owned(), Service::default())].into(),
        ..Services::default()
    };
    let bench = |manager, allow: Value| {
        let found = crate::model::system::Log { service: Some("web".to_owned()), format: "app".to_owned(), ..Default::default() };
        let system = System {
            timezone: "UTC".to_owned(),
            services: services(manager),
            logs: [("web".to_owned(), found)].into(),
            ..System::default()
        };
        Bench::with(allow, system, Secrets::default(), Mode::Apply)
    };
    let may = bench(Manager::Compose, json!({ "docker": ["logs:${logs.web}"] }));
    let report = plain(&may, r#"logs::report("web")"#);
    assert_eq!(
        (&report["levels"], &report["last"]),
        (&json!({ "ERROR": 1, "INFO": 1 }), &json!("2026-11-21T11:30:00.5+00:00")),
        "{report:#}"
    );
    assert_eq!(plain(&may, r#"logs::errors("web")[0].line"#), "2026-11-21 11:00:00 ERROR one");
    assert_eq!(plain(&may, r#"logs::tail("web", 9)"#), json!(["2026-11-21 11:00:00 ERROR one", "INFO: two"]));
    assert_eq!(bench(Manager::Compose, json!({ "fs": { "read": ["/"] } })).error(r#"logs::report("web")"#).kind, Kind::Denied);
    assert_eq!(bench(Manager::Processes, json!({ "fs": { "read": ["/"] } })).error(r#"logs::tail("web", 1)"#).kind, Kind::Conflict);
}

/// A system with one log, and what may be read.
fn bench(path: &Path, grant: &str) -> Bench {
    let mut system = System { timezone: "UTC".to_owned(), ..System::default() };
    let found = crate::model::system::Log { path: Some(path.display().to_string()), format: "app".to_owned(), ..Default::default() };
    system.logs.insert("app".to_owned(), found);
    let service = crate::model::system::Log { service: Some("web".to_owned()), ..Default::default() };
    system.logs.insert("web".to_owned(), service);
    Bench::with(json!({ "fs": { "read": [grant] } }), system, Secrets::default(), Mode::Apply)
}

fn plain(bench: &Bench, script: &str) -> Value {
    value::plain(&bench.eval(script).unwrap()).unwrap()
}

#[test]
fn lines_are_found_newest_first_with_their_time() {
    let logs = tempfile::tempdir().unwrap();
    write(logs.path(), "app.log.2.gz", "2026-11-21 09:00:00 ERROR one\n");
    write(logs.path(), "app.log.1", "2026-11-21 10:00:00 ERROR two\n2026-11-21 10:00:01 INFO error in small\n");
    write(logs.path(), "app.log", "2026-11-21 11:00:00 ERROR three\n  at trace\n2026-11-21 11:00:01 FATAL four\n");
    let bench = bench(&logs.path().join("app.log"), "${logs.app}");
    let lines = |script: &str| -> Vec<String> {
        plain(&bench, script).as_array().unwrap().iter().map(|hit| hit["line"].as_str().unwrap_or_default()[20..].to_owned()).collect()
    };
    assert_eq!(lines(r#"logs::errors("app")"#), ["FATAL four", "ERROR three", "ERROR two", "ERROR one"]);
    assert_eq!(lines(r#"logs::errors("app", #{ limit: 2 })"#), ["FATAL four", "ERROR three"]);
    assert_eq!(lines(r#"logs::errors("app", #{ pattern: "(?i)error in" })"#), ["INFO error in small"]);
    assert_eq!(lines(r#"logs::grep("app", "ERROR", #{ limit: 2 })"#), ["ERROR two", "ERROR three"]);
    assert_eq!(lines(r#"logs::errors("app", #{ before: "2026-11-21 10:30" })"#), ["ERROR two", "ERROR one"]);
    let trace = plain(&bench, r#"logs::grep("app", "at trace", #{ context: 1, since: "2026-11-21 10:30" })"#);
    assert_eq!(
        trace,
        json!([{ "time": "2026-11-21T11:00:00+00:00", "level": null, "line": "  at trace", "path": logs.path().join("app.log"),
            "before": ["2026-11-21 11:00:00 ERROR three"], "after": ["2026-11-21 11:00:01 FATAL four"] }])
    );
    assert_eq!(plain(&bench, r#"logs::count("app", "ERROR|FATAL")"#), 4);
    assert_eq!(plain(&bench, r#"logs::count("app", "ERROR", #{ since: "2026-11-21 10:30" })"#), 1);
    assert_eq!(plain(&bench, r#"logs::tail("app", 4).map(|line| line.len())"#), json!([39, 31, 10, 30]));
    assert_eq!(plain(&bench, r#"logs::tail("app", 100).len()"#), 6);
    assert_eq!(plain(&bench, r#"logs::report("app").errors"#), 4);
}

#[test]
fn a_report_tells_the_newest_errors_as_looking_for_them_does() {
    let logs = tempfile::tempdir().unwrap();
    let line =
        |second: u32, level: &str| format!("2026-11-21 11:{:02}:{:02},000 - app - {level} - line {second}\r\n", second / 60, second % 60);
    write(
        logs.path(),
        "app.log",
        &(600..900).map(|second| line(second, ["INFO", "ERROR", "CRITICAL"][second as usize % 3])).collect::<String>(),
    );
    write(logs.path(), "app.log.1", &(0..600).map(|second| line(second, ["ERROR", "WARNING"][second as usize % 2])).collect::<String>());
    let log = log(&logs.path().join("app.log"), "UTC");
    let always = Window { since: None, until: None, now: NOW.parse().unwrap() };
    for (limit, expected) in [(5, 5), (250, 250), (1000, 500)] {
        let found = search::errors(&log, always, &serde_json::from_value(json!({ "limit": limit })).unwrap(), &allow, &Halt::default());
        let newest = &report_of(&log, json!({ "newest": limit }))["newest"];
        assert_eq!(newest, &serde_json::to_value(found.unwrap()).unwrap());
        assert_eq!(newest.as_array().unwrap().len(), expected);
        assert_eq!(newest[0]["line"], "2026-11-21 11:14:59,000 - app - CRITICAL - line 899");
    }
    assert_eq!(report_of(&log, json!({}))["newest"], json!([]));
}

#[test]
fn the_end_of_a_long_log_is_read_from_its_end() {
    let logs = tempfile::tempdir().unwrap();
    let text: String = (0..30_000).map(|number| format!("line {number} {}\n", "x".repeat(20))).collect();
    write(logs.path(), "app.log", &text);
    let tail = search::tail(
        &log(&logs.path().join("app.log"), "UTC"),
        Window::read(&Asked::default(), &TimeZone::UTC, NOW.parse().unwrap()).unwrap(),
        5000,
        &allow,
        &Halt::default(),
    );
    let tail = tail.unwrap();
    assert_eq!(tail.len(), 5000);
    assert!(tail[0].starts_with("line 25000 ") && tail[4999].starts_with("line 29999 "));
}

#[test]
fn slow_statements_are_grouped_by_what_they_have_in_common() {
    let logs = tempfile::tempdir().unwrap();
    let text = "2026-11-21 11:00:00.000 UTC [1] a@d LOG:  duration: 100.5 ms  statement: SELECT *\n\tFROM notes\n\tWHERE id = 1\n\
                2026-11-21 11:00:01.000 UTC [1] a@d LOG:  duration: 300.5 ms  statement: SELECT *\n\tFROM notes\n\tWHERE id = 22\n\
                2026-11-21 11:00:02.000 UTC [1] a@d LOG:  duration: 250 ms  execute <unnamed>: UPDATE t SET a = $1\n\
                2026-11-21 11:00:03.000 UTC [1] a@d LOG:  duration: 1 ms  statement: SELECT 1\n\
                2026-11-21 11:00:04.000 UTC [1] a@d ERROR:  relation \"x\" does not exist\n";
    write(logs.path(), "postgresql.log", text);
    let path = logs.path().join("postgresql.log");
    let bench = bench(&path, &path.display().to_string());
    let found = plain(&bench, &format!(r#"logs::slow("{}", #{{ min: "100ms" }})"#, path.display()));
    let in_report = plain(&bench, &format!(r#"logs::report("{}", #{{ slow: "100ms" }}).slow"#, path.display()));
    assert_eq!(in_report, found, "one pass tells the same");
    assert_eq!(
        found,
        json!([
            { "statement": "SELECT * FROM notes WHERE id = ?", "count": 2, "total": 401.0, "mean": 200.5, "max": 300.5, "last": "2026-11-21T11:00:01+00:00" },
            { "statement": "UPDATE t SET a = $1", "count": 1, "total": 250.0, "mean": 250.0, "max": 250.0, "last": "2026-11-21T11:00:02+00:00" },
        ])
    );
}

#[test]
fn errors_say_what_to_do() {
    let logs = tempfile::tempdir().unwrap();
    let path = logs.path().join("app.log");
    let bench = bench(&path, "${logs.app}");
    let error = |script: &str| -> Error { bench.error(script) };
    assert_eq!(error(r#"logs::tail("app", 5)"#).kind, Kind::NotFound);
    assert_eq!(error(r#"logs::report("ap")"#).hints, ["did you mean `app`?"]);
    assert_eq!(error(r#"logs::report("web")"#).kind, Kind::Invalid);
    assert_eq!(error(r#"logs::report("/etc/shadow")"#).kind, Kind::Denied);
    assert_eq!(error(r#"logs::report("../x")"#).kind, Kind::Invalid);
    assert_eq!(error(r#"logs::report("app", #{ window: "1h", since: "2026-11-21" })"#).kind, Kind::Invalid);
    assert_eq!(error(r#"logs::report("app", #{ since: "yesterday" })"#).message, "logs::report: option `since`: `yesterday` is not a time");
    assert_eq!(error(r#"logs::report("app", #{ format: "apache" })"#).kind, Kind::Invalid);
    write(logs.path(), "app.log", "x\n");
    assert_eq!(error(r#"logs::grep("app", "(")"#).kind, Kind::Invalid);
    assert_eq!(error(r#"logs::grep("app", "\\w{1000}{1000}")"#).kind, Kind::Invalid);
}

#[test]
fn the_names_of_formats_are_those_of_system_files() {
    for format in format::Format::ALL {
        assert_eq!(format::Format::named(format.name()), Some(format));
        assert_eq!(serde_json::from_value::<format::Format>(json!(format.name())).unwrap(), format);
    }
}
