//! `runbook new`.

use crate::harness::Test;

fn templates() -> Vec<String> {
    let json = Test::new(["new", "--list", "--json"]).succeeds().json();
    let entries = json.as_array().unwrap();
    assert!(entries.iter().all(|entry| !entry["about"].as_str().unwrap().is_empty()));
    entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_template_runs_unchanged() {
    let names = templates();
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        let done = Test::new(["new", "mine", "--from", &name]).succeeds().says("runbook run mine");
        let done = done.then(["check", "mine"]).succeeds();
        let mut run = done.then(["run", "mine", "--json"]);
        if name == "notify" {
            // Nobody is told by a machine without contacts, however full its disks are.
            run = run.arg("-p").arg("full=1000");
        }
        let run = run.run();
        assert!([0, 1, 3].contains(&run.code), "{name}: {}", run.stderr);
        let json = run.json();
        assert!(json["error"].is_null(), "{name}: {}", json["error"]);
        let checks = json["checks"].as_array().unwrap();
        assert!(checks.iter().all(|check| check["level"] != "unknown"), "{name}: {checks:?}");
    }
}

#[test]
fn names_and_templates_are_checked_and_files_are_kept() {
    let done = Test::new(["new", "../x"]).exits(2).talks("`../x` is no name of a runbook");
    let done = done.then(["new", "x", "--from", "chekc"]).exits(2).talks("did you mean `check`?");
    let done = done.then(["new", "db/x"]).succeeds();
    let done = done.then(["new", "db/x", "--from", "report"]).exits(2).talks("is there already");
    assert!(std::fs::read_to_string(done.project.path().join("runbooks/db/x.rhai")).unwrap().contains("Is this machine well"));
}
