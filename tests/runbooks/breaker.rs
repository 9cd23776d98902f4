//! The breaker of stdlib/recovery: what one recovery has restarted, none of the same system restarts again.

use serde_json::{Value, json};

use crate::harness::{Done, Project};

/// A service that nobody can start: its restart is counted, and does not come about.
const SYSTEM: &str = "language = \"en\"\ntimezone = \"UTC\"\n[services]\nmanager = \"processes\"\n\
                      [services.api]\nrestartable = true\npid_file = \"/nowhere/api.pid\"\n";
/// A recovery that is none of the built-in ones.
const OWN: &str = r#"
runbook(#{
    title: "Own recovery",
    params: #{ most: #{ type: "int", def: 1 }, window: #{ type: "duration", def: "1h" } },
    allow: #{ sys: ["processes"], store: ["write:shared/restarts/*"] },
    lock: "recovery:${system}",
});
import "stdlib/recovery" as recovery;
output("came", step("restart", || recovery::restart("api", params::most, params::window, "1s")));
output("counted", store::keys("shared/restarts/"));
output("times", recovery::restarts("api", "1h").len());
"#;

fn project() -> Project {
    let systems = |project: Project, name: &str| project.file(&format!("runbooks/systems/{name}.toml"), SYSTEM);
    systems(systems(Project::new(), "shop"), "bank").runbook("own", OWN)
}

fn own(project: Project, system: &str, params: &[&str]) -> Done {
    let mut test = project.command(["run", "own", "-s", system, "--json"]);
    for param in params {
        test = test.arg("-p").arg(param);
    }
    test.succeeds()
}

#[track_caller]
fn problem(answer: &Value) -> &str {
    answer["outputs"]["came"]["problem"].as_str().unwrap()
}

#[test]
fn a_restart_by_one_recovery_counts_for_every_other_of_the_system_and_for_no_other_system() {
    let built_in = project().command(["run", "recover-service", "-s", "shop", "-p", "service=api", "-p", "patience=1s", "--yes", "--json"]);
    let done = built_in.exits(1);
    let done = own(done.project, "shop", &[]);
    let found = done.json();
    assert!(problem(&found).starts_with("restarted 1 times within 1h, not again for "), "{found}");
    assert_eq!((&found["outputs"]["came"]["open"], &found["outputs"]["counted"]), (&json!(true), &json!(["shared/restarts/api"])));
    let done = own(done.project, "bank", &[]);
    assert!(!problem(&done.json()).starts_with("restarted"), "{}", done.json());
    // The other way round: what the own recovery counted ends the built-in one.
    let built_in = done.then(["run", "recover-service", "-s", "bank", "-p", "service=api", "-p", "tries=1", "--yes", "--json"]);
    let done = built_in.exits(1);
    assert_eq!(
        done.json()["outputs"]["restarted"][0]["problem"].as_str().unwrap().get(..26),
        Some("restarted 1 times within 1"),
        "{}",
        done.json()
    );
}

#[test]
fn a_recovery_that_counts_in_a_short_window_forgets_nothing_for_one_that_counts_in_a_long_one() {
    let mut done = own(project(), "shop", &["most=9"]);
    for _ in 0..2 {
        done = own(done.project, "shop", &["most=9", "window=1ms"]);
    }
    assert_eq!(done.json()["outputs"]["times"], 3);
    let found = own(done.project, "shop", &["most=2"]).json();
    assert!(problem(&found).starts_with("restarted 3 times within 1h, not again for "), "{found}");
}
