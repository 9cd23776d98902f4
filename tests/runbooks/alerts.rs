//! check-alerts: the rules of the manuals on series that are made up, on stored samples, and as Prometheus takes them.

use std::path::Path;

use super::{check, keep, level, steps};
use crate::harness::{Done, Project, Test, note};

const SYSTEMS: [&str; 5] = ["ai-hub", "ai-notebook", "education", "football", "fin-pre-assist"];

/// A trial of one rule of a built-in system.
fn trial(system: &str, rule: &str, series: &[&str], at: &str, is: &str) -> Done {
    let given = |name: &str, value: String| ["-p".to_owned(), format!("{name}={value}")];
    let mut test = Test::new(["run", "check-alerts", "-s", system, "--json"]);
    let params = [
        given("mode", "test".to_owned()),
        given("rules", rule.to_owned()),
        given("series", series.join(",")),
        given("at", at.to_owned()),
        given("expect", format!("{rule}={is}")),
    ];
    for param in params.as_flattened() {
        test = test.arg(param);
    }
    test.run()
}

#[test]
fn one_error_in_a_thousand_is_quiet_and_six_in_a_hundred_fire_after_their_time() {
    let few = ["http_requests_total{status=\"200\"} = 0+999x40", "http_requests_total{status=\"500\"} = 0+1x40"];
    let many = ["http_requests_total{status=\"200\"} = 0+940x40", "http_requests_total{status=\"500\"} = 0+60x40"];
    for system in ["ai-hub", "football", "fin-pre-assist"] {
        assert_eq!(trial(system, "HighErrorRate", &few, "20m", "quiet").code, 0, "{system}");
        assert_eq!(trial(system, "HighErrorRate", &many, "1m", "pending").code, 0, "{system}");
        assert_eq!(trial(system, "HighErrorRate", &many, "20m", "firing").code, 0, "{system}");
        let wrong = trial(system, "HighErrorRate", &many, "20m", "quiet");
        assert_eq!((wrong.code, level(&wrong, "HighErrorRate is quiet").as_str()), (1, "critical"), "{system}");
    }
}

#[test]
fn a_series_that_is_missing_is_no_data_and_no_limit_is_no_share() {
    assert_eq!(trial("fin-pre-assist", "HighErrorRate", &["other = 1x40"], "20m", "no-data").code, 0);
    let unlimited = ["redis_memory_used_bytes = 100x40", "redis_memory_max_bytes = 0x40"];
    assert_eq!(trial("fin-pre-assist", "RedisHighMemoryUsage", &unlimited, "20m", "quiet").code, 0);
}

#[test]
fn promtool_takes_the_rules_of_every_system() {
    let is_here = ["/usr/bin/promtool", "/usr/local/bin/promtool"].iter().any(|path| Path::new(path).exists());
    for system in SYSTEMS {
        let done = Test::new(["run", "check-alerts", "-s", system, "-p", "mode=render", "--json"]).run();
        let answer = done.json();
        let linted = check(&answer, "promtool check rules");
        assert_eq!(
            (linted["level"].as_str(), done.code),
            if is_here { (Some("ok"), 0) } else { (Some("warning"), 3) },
            "{system}: {linted}"
        );
        let file = done.project.state().join("runs/1/files/rules.yml");
        assert!(std::fs::read_to_string(file).unwrap().contains("- alert: \"ServiceDown\"") || system == "football");
    }
    if !is_here {
        note("not run: promtool is not installed");
    }
}

/// A shop with two rules; one needs a series that nobody samples.
fn shop() -> Project {
    let rule = |name: &str, series: &str| {
        format!(
            "[rules.{name}]\nsummary = \"{name} it is\"\nseries = '{series}'\nabove = 10\nclear = 5\nfor = \"1m\"\nlevel = \"critical\"\nseverity = \"sev2\"\n"
        )
    };
    let system =
        format!("title = \"Shop\"\nlanguage = \"en\"\ntimezone = \"UTC\"\n{}no_data = \"1h\"\n", rule("Queue", "queue{of=~\".*\"}"));
    Project::new().file("runbooks/systems/shop.toml", &system)
}

fn ask(project: Project) -> Test {
    project.command(["run", "check-alerts", "-s", "shop", "--json"])
}

fn incidents(done: Done) -> (Project, serde_json::Value) {
    let list = done.then(["incident", "list", "--all", "--json"]).succeeds();
    let found = list.json();
    (list.project, found)
}

#[test]
fn what_fires_is_one_incident_and_ends_with_an_answer_only() {
    let project = shop();
    keep(&project, "queue{of=\"mail\"}", 200, 10, &[Some(20.0); 20]);
    keep(&project, "queue{of=\"print\"}", 200, 10, &[Some(1.0); 20]);
    let first = ask(project).exits(1);
    assert_eq!(level(&first, "Queue mail"), "critical");
    assert_eq!(level(&first, "Queue print"), "ok");
    assert_eq!(steps(&first), ["open Queue mail"]);

    // Nothing is new: nothing is opened, and nobody is told again.
    let second = ask(first.project).exits(1);
    assert_eq!(steps(&second), ["look at the clocks"]);
    let (project, found) = incidents(second);
    assert_eq!((found.as_array().unwrap().len(), &found[0]["count"], &found[0]["severity"]), (1, &1.into(), &"sev2".into()));
    assert_eq!(found[0]["title"], "Queue it is");

    // Between the two limits it goes on; unknown ends nothing.
    keep(&project, "queue{of=\"mail\"}", 100, 10, &[Some(7.0); 2]);
    let third = ask(project).exits(1);
    assert_eq!(level(&third, "Queue mail"), "critical");
    keep(&third.project, "queue{of=\"mail\"}", 60, 10, &[None; 2]);
    let fourth = ask(third.project).exits(1);
    assert_eq!(level(&fourth, "Queue mail"), "critical");

    keep(&fourth.project, "queue{of=\"mail\"}", 1, 10, &[Some(4.0); 2]);
    let fifth = ask(fourth.project).exits(0);
    assert_eq!(steps(&fifth), ["end #1", "look at the clocks"]);
    let (_, found) = incidents(fifth);
    assert!(found[0]["calm"].is_string() && found[0]["state"] == "open", "{found}");
}

#[test]
fn a_rule_without_an_answer_is_unknown_and_an_incident_of_its_own() {
    let done = ask(shop()).exits(1);
    assert_eq!(level(&done, "Queue"), "unknown");
    let (project, found) = incidents(done);
    assert_eq!((&found[0]["title"], &found[0]["severity"]), (&"Queue it is: no data".into(), &"sev3".into()));
    keep(&project, "queue{of=\"mail\"}", 1, 10, &[Some(1.0); 3]);
    let done = ask(project).exits(0);
    assert!(steps(&done).contains(&"end #1".to_owned()), "{:?}", steps(&done));
}

#[test]
fn a_plan_tells_which_incidents_it_would_open_and_opens_none() {
    let done = shop().command(["plan", "check-alerts", "-s", "shop", "--json"]).succeeds();
    assert!(done.stdout.contains("open an incident of sev3: Queue it is: no data"), "{}", done.stdout);
    let (_, found) = incidents(done);
    assert_eq!(found, serde_json::json!([]));
}
