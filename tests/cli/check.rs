//! `runbook check`.

use crate::harness::Project;

const FINE: &str = "runbook(#{ title: \"t\" });\nlog(\"x\");";
const BROKEN: &str = "runbook(#{ title: \"t\" });\nlgo(\"x\");";

#[test]
fn a_finding_comes_with_its_line_and_exits_with_4() {
    let done = Project::new().runbook("a", FINE).runbook("b", BROKEN).command(["check", "a", "b"]).exits(4);
    let _ =
        done.says("unknown function `lgo`").says("runbooks/b.rhai:2:1").says("did you mean `log`?").talks("2 runbooks: 1 fine, 1 error");
}

#[test]
fn where_nothing_is_found_no_code_has_to_be_explained() {
    let done = Project::new().runbook("a", FINE).command(["check", "a"]).succeeds();
    assert_eq!(done.stderr.trim(), "1 runbook: 1 fine, 0 errors, 0 warnings");
    let _ = Project::new().runbook("b", BROKEN).command(["check", "b"]).exits(4).talks("runbook explain CODE");
}

#[test]
fn json_has_each_runbook_with_its_findings() {
    let json = Project::new().runbook("a", FINE).runbook("b", BROKEN).command(["check", "--json", "a", "b"]).exits(4).json();
    assert_eq!(json[0]["findings"].as_array().unwrap().len(), 0);
    assert_eq!((json[1]["name"].as_str(), json[1]["findings"][0]["at"]["line"].as_u64()), (Some("b"), Some(2)));
    assert!(json[1]["findings"][0]["code"].as_str().unwrap().starts_with("RB"));
}

#[test]
fn the_built_in_runbooks_have_no_errors() {
    let done = Project::new().command(["check"]).run();
    assert!([0, 3].contains(&done.code), "{}", done.stdout);
    let _ = done.talks("0 errors");
}

#[test]
fn an_unknown_runbook_exits_with_2() {
    let _ = Project::new().runbook("backup", FINE).command(["check", "bakcup"]).exits(2).talks("did you mean `backup`?");
}
