//! `runbook explain`.

use crate::harness::{Project, Test};

#[test]
fn a_code_is_explained_with_an_example() {
    let done = Test::new(["explain", "rb1000"]).succeeds().says("RB1000  the script does not compile").says("right");
    let json = done.then(["explain", "RB1000", "--json"]).succeeds().json();
    assert_eq!(json["code"], "RB1000");
    assert!(!json["text"].as_str().unwrap().is_empty());
}

#[test]
fn all_codes_are_listed_and_an_unknown_one_is_refused() {
    let done = Test::new(["explain"]).succeeds().says("RB1000");
    let _ = done.then(["explain", "RB9999"]).exits(2).talks("there is no code `RB9999`");
}

#[test]
fn the_power_of_a_runbook_is_told_and_what_amounts_to_all_is_marked() {
    let header = r#"runbook(#{ title: "t", allow: #{ docker: ["restart:backend"], exec: ["/usr/bin/git", "/usr/bin/pg_dump"] } });"#;
    let done = Project::new().runbook("a", header).command(["explain", "a"]).succeeds();
    let done = done.says("restart container backend").says("start /usr/bin/git  ⚠ full power of this user");
    assert!(done.stdout.lines().any(|line| line.trim() == "start /usr/bin/pg_dump"), "{}", done.stdout);
    let json = done.then(["explain", "a", "--json"]).succeeds().json();
    assert_eq!(json["permissions"].as_array().unwrap().len(), 3);
    let _ = Test::new(["explain", "nothing-of-this-name"]).exits(2).talks("nothing-of-this-name");
}
