//! `runbook init`.

use crate::harness::Test;

#[test]
fn a_new_project_runs_its_first_runbook() {
    let done = Test::new(["init", "shop"]).succeeds().says("cd shop && runbook run hello").talks("made shop/runbook.toml");
    for file in ["runbook.toml", "runbooks/hello.rhai", ".gitignore"] {
        assert!(done.project.path().join("shop").join(file).is_file(), "{file}");
    }
    let done = done.then(["-C", "shop", "config", "default_system"]).succeeds();
    assert_eq!(done.stdout, "host\n");
    let run = done.then(["-C", "shop", "run", "hello", "-p", "name=maya", "--json"]).run();
    assert!([0, 1, 3].contains(&run.code), "{}", run.stderr);
    let json = run.json();
    assert_eq!((json["outputs"]["greeting"].as_str(), json["error"].is_null()), (Some("hello, maya"), true));
}

#[test]
fn nothing_is_overwritten() {
    let done = Test::new(["init"]).exits(2).talks("runbook.toml` is there already").talks("runbook new NAME");
    assert_eq!(std::fs::read_to_string(done.project.path().join("runbook.toml")).unwrap(), "");
    assert!(!done.project.path().join("runbooks/hello.rhai").exists());
}
