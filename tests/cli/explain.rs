//! `runbook explain`.

use crate::harness::Test;

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
