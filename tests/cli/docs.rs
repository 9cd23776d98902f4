//! `runbook docs`.

use crate::harness::Test;

#[test]
fn the_modules_are_listed_and_a_function_is_told_whole() {
    let done = Test::new(["docs"]).succeeds().says("language").says("facts about this machine");
    let done = done.then(["docs", "sys::cpu"]).succeeds();
    let _ = done.says("sys::cpu(options: map)").says("needs sys: read cpu").says("options over").says("let cpu = sys::cpu(");
}

#[test]
fn json_has_every_function_with_its_forms() {
    let json = Test::new(["docs", "--json"]).succeeds().json();
    let modules = json.as_array().unwrap();
    assert_eq!(modules[0]["name"], "language");
    let sys = modules.iter().find(|module| module["name"] == "sys").unwrap();
    let cpu = sys["functions"].as_array().unwrap().iter().find(|function| function["name"] == "sys::cpu").unwrap();
    assert_eq!((cpu["kind"].as_str(), cpu["forms"].as_array().unwrap().len()), (Some("read"), 2));
    assert!(cpu["forms"][1]["examples"][0]["script"].as_str().unwrap().contains("cpu.used"));
}

#[test]
fn a_name_without_a_function_exits_with_2_and_a_suggestion() {
    let done = Test::new(["docs", "sys::memry"]).exits(2).talks("did you mean `sys::memory`?");
    let _ = done.then(["docs", "--search", "no such words"]).exits(2);
}

#[test]
fn a_word_is_looked_for_in_manuals() {
    let _ = Test::new(["docs", "--search", "load averages"]).succeeds().says("sys::load");
}

#[test]
fn definitions_are_written_for_the_language_server() {
    let done = Test::new(["docs", "--definitions", "defs"]).succeeds();
    let names: Vec<String> = std::fs::read_dir(done.project.path().join("defs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.iter().any(|name| name == "sys.d.rhai"), "{names:?}");
}
