//! `runbook secret`.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{Project, Test};

#[test]
fn a_secret_is_kept_for_its_owner_alone_and_never_shown() {
    let done = Test::new(["secret", "set", "api-key"]).stdin("correct horse\n").succeeds().talks("secret `api-key` is set");
    let file = done.project.state().join("secrets/api-key");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "correct horse");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let done = done.then(["secret", "list", "--json"]).succeeds();
    let json = done.json();
    assert_eq!((json[0]["name"].as_str(), json[0]["state"].as_str()), (Some("api-key"), Some("set")));
    assert!(!done.stdout.contains("correct"));
    let done = done.then(["secret", "rm", "api-key"]).succeeds();
    assert!(!done.project.state().join("secrets/api-key").exists());
    let _ = done.then(["secret", "rm", "api-key"]).exits(2).talks("no secret `api-key` was set here");
}

#[test]
fn a_run_that_is_granted_it_gets_it_masked() {
    let text = "runbook(#{ title: \"t\", allow: #{ secrets: [\"token\"] } }); log(`the token is ${\"correct horse\"}`);";
    let done = Project::new().runbook("test", text).command(["secret", "set", "token"]).stdin("correct horse").succeeds();
    let done = done.then(["run", "test"]).succeeds();
    let log = std::fs::read_to_string(done.project.state().join("runs/1/log.jsonl")).unwrap();
    assert!(log.contains("the token is ***") && !log.contains("correct horse"), "{log}");
}

#[test]
fn what_can_not_be_a_secret_is_refused() {
    let done = Test::new(["secret", "set", "x"]).stdin("short\n").exits(2).talks("at least 6 characters");
    assert!(!done.stderr.contains("short\n"));
    let done = done.then(["secret", "set", "../x"]).stdin("long enough").exits(2).talks("is no name of a secret");
    let done = done.then(["secret", "set", "x"]).stdin("").exits(2);
    assert!(!done.project.state().join("secrets/x").exists());
}

#[test]
fn a_check_names_the_secret_that_can_not_be_read() {
    let project = Project::new().file("runbook.toml", "[secrets.db]\nenv = \"DB_PASSWORD\"\n");
    let done = project.command(["secret", "check"]).exits(1).says("db").says("`DB_PASSWORD` is not set");
    let _ = done.then(["secret", "check"]).env("DB_PASSWORD", "long enough").succeeds().says("1 secrets, all of them can be read");
}
