//! `runbook config`.

use crate::harness::Project;

fn project() -> Project {
    Project::new().file("runbook.toml", "language = \"zh\"\n[secrets.db]\nenv = \"DB_PASSWORD\"\n")
}

#[test]
fn each_setting_says_where_it_comes_from() {
    let done = project().command(["config", "--origins"]).env("RUNBOOK_LIMITS_MEMORY", "1GiB").succeeds();
    let line = |name: &str| done.stdout.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("language").contains("\"zh\"") && line("language").contains("runbook.toml"));
    assert!(line("limits.memory").contains("$RUNBOOK_LIMITS_MEMORY"), "{}", line("limits.memory"));
    assert!(line("limits.timeout").contains("default"));
}

#[test]
fn one_key_is_its_value_alone_and_json_has_both() {
    let done = project().command(["config", "language"]).succeeds();
    assert_eq!(done.stdout, "zh\n");
    let json = done.then(["config", "limits", "--json"]).succeeds().json();
    assert_eq!((json["limits.runs"]["value"].as_u64(), json["limits.runs"]["origin"].as_str()), (Some(4), Some("default")));
    assert!(json.get("language").is_none());
}

#[test]
fn durations_and_sizes_are_printed_as_one_writes_them() {
    let done = project().command(["config", "limits"]).env("RUNBOOK_LIMITS_MEMORY", "512MiB").succeeds();
    let _ = done.says("limits.memory = \"512MiB\"").says("limits.timeout = \"1h\"");
    let done = project().command(["config", "limits.output"]).succeeds();
    assert_eq!(done.stdout, "16MiB\n");
}

#[test]
fn the_value_of_a_secret_is_not_a_setting() {
    let done = project().command(["config"]).env("DB_PASSWORD", "hunter2-hunter2").succeeds().says("DB_PASSWORD");
    assert!(!done.stdout.contains("hunter2"));
}

#[test]
fn an_unknown_key_exits_with_2_and_a_suggestion() {
    let done = project().command(["config", "langage"]).exits(2).talks("did you mean `language`?");
    let _ = done.then(["config", "policy.allow"]).succeeds().talks("it is not set");
}
