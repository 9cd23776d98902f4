//! `runbook register`.

use serde_json::{Value, json};

use crate::harness::{Done, Project};

const SYSTEM: &str = "title = \"Shop\"\ntimezone = \"Asia/Shanghai\"\n[services]\nmanager = \"processes\"\n[services.api]\n";

fn project() -> Project {
    let project = Project::new().file("runbook.toml", "default_system = \"shop\"\n");
    project.file("runbooks/systems/shop.toml", SYSTEM).file("runbooks/systems/bank.toml", SYSTEM)
}

#[track_caller]
fn titles(done: &Done) -> Vec<String> {
    done.json().as_array().unwrap().iter().map(|line| line["title"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_written_down_is_listed_by_register_system_and_time() {
    let add = ["register", "add", "change", "new switch", "--field", "result=succeeded", "--field", "ticket=0042"];
    let done = project().command(add).succeeds().says("change 1 of shop is written down: new switch");
    let done = done.then(["register", "add", "problem", "api loses connections", "-s", "bank"]).succeeds();
    let cost = ["register", "add", "cost", "server rent", "-f", "amount=120.5", "-f", "currency=EUR", "--at", "2020-02-01 08:00", "--json"];
    let done = done.then(cost).succeeds();
    let expected = json!({
        "number": 3, "kind": "cost", "system": "shop", "at": "2020-02-01T00:00:00Z", "by": "maya", "title": "server rent",
        "details": { "amount": 120.5, "currency": "EUR" },
    });
    assert_eq!(done.json(), expected);
    let mut done = done.then(["incident", "open", "no orders", "--severity", "sev2", "--service", "api"]).succeeds();
    for (filter, found) in [
        (&["-s", "shop"][..], &["no orders", "new switch", "server rent"][..]),
        (&["-s", "bank"], &["api loses connections"]),
        (&["cost"], &["server rent"]),
        (&["cost", "--since", "30d"], &[]),
        (&["change", "--since", "30d"], &["new switch"]),
        (&["-s", "shop", "-n", "1"], &["no orders"]),
        (&["-s", "elsewhere"], &[]),
    ] {
        done = done.then([&["register", "list", "--json"], filter].concat()).succeeds();
        assert_eq!(titles(&done), found, "{filter:?}");
    }
    let done = done.then(["register", "list"]).succeeds().says("server rent").says("result=succeeded ticket=0042");
    let done = done.says("amount=120.5 currency=EUR").says("service=api severity=sev2 state=open");
    let done = done
        .then(["register", "show", "3"])
        .succeeds()
        .says("cost 3  server rent")
        .says("of shop, written down by maya")
        .says("currency  EUR");
    let done = done.then(["register", "show", "#3", "--json"]).succeeds();
    assert_eq!(done.json(), expected);
    let done = done.then(["audit", "list", "--json"]).succeeds();
    let rows = done.json();
    let written = |row: &&Value| row["action"] == "register" && row["subject"] == "cost of shop" && row["outcome"] != Value::Null;
    assert_eq!(rows.as_array().unwrap().iter().filter(written).count(), 1, "{rows:#}");
    let _ = done.then(["audit", "verify"]).succeeds();
}

#[test]
fn an_incident_is_in_its_register_as_it_is_now() {
    let done = project().command(["incident", "open", "no orders", "--severity", "sev1"]).succeeds();
    let done = done.then(["register", "list", "incident", "--json"]).succeeds();
    assert_eq!((&done.json()[0]["number"], &done.json()[0]["details"]["state"]), (&json!(1), &json!("open")));
    let done = done.then(["incident", "resolve", "1"]).succeeds().then(["register", "list", "incident", "--json"]).succeeds();
    let line = done.json()[0].clone();
    assert_eq!((&line["by"], &line["details"]["state"]), (&json!("person maya"), &json!("resolved")));
    assert!(line["details"]["lasted_s"].is_i64(), "{line}");
}

#[test]
fn what_no_report_could_count_is_refused_and_nothing_is_written() {
    let long = "x".repeat(201);
    let mut done = project().command(["register", "list"]).succeeds().talks("nothing is written down");
    for (arguments, said, hint) in [
        (&["cost", "rent"][..], "a cost has no `amount`", "amount=12.50"),
        (&["cost", "rent", "-f", "amount=a lot"], "`amount` is `a lot`, which is no number", "amount=12.50"),
        (&["cost", "rent", "-f", "amount=NaN"], "`amount` is `NaN`, which is no number", "amount=12.50"),
        (&["change", "x", "-f", "ticket"], "`--field ticket` has no value", "ticket=OPS-12"),
        (&["change", "x", "-f", "ticket="], "`--field ticket` is empty", "leave it out"),
        (&["change", "x", "-f", "My Ticket=1"], "`My Ticket` is no name of a field", "small letters"),
        (&["change", "x", "-f", "a=1", "-f", "a=2"], "`--field a` is given twice", "one value"),
        (&["change", " "], "there is no title", "in one line"),
        (&["change", "x\ny"], "the title is more than one line", "in one line"),
        (&["change", &long], "the title is longer than 200 letters", "in one line"),
        (&["change", "x", "-s", "shp"], "`shp`", "shop"),
        (&["change", "x", "--at", "yesterday"], "`yesterday` is no moment", "2026-12-01 02:00"),
        (&["incident", "x"], "'incident'", "problem"),
    ] {
        done = done.then([&["register", "add"], arguments].concat()).run();
        assert!(done.stderr.contains(said) && done.stderr.contains(hint), "{arguments:?}: {}", done.stderr);
        done = done.then(["register", "list", "--json"]).succeeds();
        assert_eq!(titles(&done), [""; 0], "{arguments:?}");
    }
    for reference in ["7", "x"] {
        done = done.then(["register", "show", reference]).exits(2).talks(&format!("there is no line `{reference}` in the registers"));
    }
    let _ = done.then(["audit", "list"]).succeeds();
}
