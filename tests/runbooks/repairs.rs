//! remediate-auto: nothing for one sample, one repair and a wait, then a person; nothing that it only watches.

use super::keep;
use crate::harness::{Done, Project, Test};

/// A shop whose processors are busy when `busy` says so; `mend` repairs it, or so it says.
fn shop(mode: &str) -> Project {
    let system = format!(
        "title = \"Shop\"\nlanguage = \"en\"\ntimezone = \"UTC\"\n\
         [services]\nmanager = \"none\"\n\
         [rules.Busy]\nsummary = \"busy\"\nseries = 'busy'\nabove = 80\nfor = \"5m\"\nno_data = \"1h\"\nlevel = \"warning\"\nseverity = \"sev3\"\n\
         [remediation.cpu]\nrunbook = \"mend\"\nwhen = [\"Busy\"]\nmode = \"{mode}\"\nfor = \"1m\"\ncooldown = \"30m\"\nbudget = 2\nper = \"24h\"\n"
    );
    Project::new().file("runbooks/systems/shop.toml", &system).runbook("mend", "runbook(#{ title: \"Mend\" });\nlog(\"mended\");\n")
}

fn busy(project: &Project, values: &[f64]) {
    let values: Vec<Option<f64>> = values.iter().copied().map(Some).collect();
    keep(project, "busy", 1, 30, &values);
}

fn alarms(project: Project) -> Project {
    project.command(["run", "check-alerts", "-s", "shop", "--json"]).run().project
}

fn repair(project: Project) -> Test {
    project.command(["run", "remediate-auto", "-s", "shop", "-p", "patience=0s", "--json"])
}

/// How often the repair ran.
fn runs(done: Done) -> (Project, usize) {
    let list = done.then(["history", "--runbook", "mend", "--json"]).run();
    let count = list.json().as_array().map_or(0, Vec::len);
    (list.project, count)
}

#[test]
fn one_bad_sample_repairs_nothing() {
    let project = shop("act");
    busy(&project, &[10.0, 10.0, 10.0, 95.0]);
    let done = repair(alarms(project)).exits(0);
    assert_eq!(done.json()["outputs"]["repairs"], serde_json::json!([]));
    assert_eq!(runs(done).1, 0);
}

#[test]
fn what_lasts_is_repaired_once_and_left_alone_for_a_while() {
    let project = shop("act");
    busy(&project, &[95.0; 60]);
    let first = repair(alarms(project)).exits(3);
    assert_eq!(first.json()["outputs"]["repairs"][0]["decision"], "act");
    let mut project = first.project;
    // Two more loops: the rule still fires, and the wait is not over.
    for _ in 0..2 {
        let again = repair(project).exits(3);
        let row = &again.json()["outputs"]["repairs"][0];
        assert_eq!(row["decision"], "skip", "{row}");
        project = again.project;
    }
    let shown = project.command(["incident", "show", "1", "--json"]).succeeds();
    let moments: Vec<String> = shown.json()["timeline"].as_array().unwrap().iter().map(|moment| moment["text"].to_string()).collect();
    assert_eq!(moments.iter().filter(|text| text.contains("mend on machine: succeeded")).count(), 1, "{moments:?}");
    assert_eq!(runs(shown).1, 1);
}

#[test]
fn who_only_watches_says_so_once_and_does_nothing() {
    for (mode, asked) in [("observe", "act"), ("act", "observe")] {
        let project = shop(mode);
        busy(&project, &[95.0; 60]);
        let first = repair(alarms(project)).arg("-p").arg(&format!("mode={asked}")).exits(3);
        assert_eq!(first.json()["outputs"]["repairs"][0]["decision"], "observe");
        let second = repair(first.project).arg("-p").arg(&format!("mode={asked}")).exits(3);
        assert_eq!(second.json()["outputs"]["repairs"][0]["decision"], "skip");
        assert_eq!(runs(second).1, 0);
    }
}

#[test]
fn while_everything_is_paused_nothing_is_repaired() {
    let project = shop("act");
    busy(&project, &[95.0; 60]);
    let paused = alarms(project).command(["schedule", "pause", "--all", "--reason", "a freeze"]).succeeds();
    let done = repair(paused.project).exits(3);
    let row = &done.json()["outputs"]["repairs"][0];
    assert!(row["decision"] == "skip" && row["why"].as_str().unwrap().contains("a freeze"), "{row}");
    assert_eq!(runs(done).1, 0);
}

#[test]
fn a_plan_tells_what_would_be_counted_and_counts_nothing() {
    let project = shop("act");
    busy(&project, &[95.0; 60]);
    let plan = alarms(project).command(["plan", "remediate-auto", "-s", "shop"]).succeeds().says("a repair by the policy `cpu`");
    let done = repair(plan.project).exits(3);
    assert_eq!(done.json()["outputs"]["repairs"][0]["decision"], "act");
}

#[test]
fn killed_between_the_count_and_the_repair_it_makes_the_one_it_counted() {
    for cut in ["step-started:count cpu for #1", "step-ended:count cpu for #1", "step-started:write down what mend did for #1"] {
        let project = shop("act");
        busy(&project, &[95.0; 60]);
        let cut_off = repair(alarms(project)).arg("--crash-after").arg(cut).run();
        assert_ne!(cut_off.code, 0);
        let done = cut_off.then(["resume", "last:remediate-auto", "--json"]).exits(3);
        assert_eq!(done.json()["outputs"]["repairs"][0]["decision"], "act", "{cut}");
        let project = done.project;
        // Counted once: the next one waits, and the budget of 2 has one left.
        let again = repair(project).exits(3);
        assert_eq!(again.json()["outputs"]["repairs"][0]["decision"], "skip", "{cut}");
        assert_eq!(again.json()["outputs"]["made"].as_array().unwrap().len(), 1, "{cut}");
        assert_eq!(runs(again).1, 1, "{cut}");
    }
}
