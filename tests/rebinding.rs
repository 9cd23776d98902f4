//! Names that turn into addresses of this machine: a live name server in a network of its own.

use std::io::Write as _;
use std::process::Command;

use serde_json::Value;

use crate::harness::Project;

/// Runs a runbook beside the name server, and says what came where; nothing where namespaces can not be had.
fn beside_the_name_server(body: &str) -> Option<Value> {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "--mount"]);
        command
    };
    if !unshare().args(["ip", "link", "set", "lo", "up"]).status().is_ok_and(|status| status.success()) {
        std::io::stderr().write_all(b"not run: no network of one's own can be made here\n").unwrap();
        return None;
    }
    let allow = "http: [\"GET http://*:*\"], net: [\"connect:*:*\"]";
    let project = Project::new().runbook("test", &format!("runbook(#{{ title: \"t\", allow: #{{ {allow} }} }});\n{body}"));
    let output = unshare()
        .args(["python3", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/rebind.py"), env!("CARGO_BIN_EXE_runbook")])
        .args(["run", "test", "--json", "--timeout", "60s"])
        .current_dir(project.path())
        .env("HOME", project.path())
        .env("RUNBOOK_STATE_DIR", project.state())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    Some(serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr))))
}

#[test]
fn a_name_that_turns_private_is_not_followed() {
    let body = r#"
        let ends = #{};
        fn end(work) { try { work.call(); } catch (error) { return error.kind; } "done" }
        for name in ["rebind", "late", "both", "bothways", "inside", "metadata", "six", "fine"] {
            let host = name + ".test";
            let url = `http://${host}:8080/`;
            let seen = [];
            for turn in 0..2 {
                seen.push(end(|| http::get(url, #{ timeout: "3s" })));
                seen.push(end(|| http::get(url, #{ timeout: "3s", follow: 3 })));
                seen.push(end(|| net::tcp(host, 8080)));
                seen.push(end(|| tls::served(host, 8080, #{ timeout: "3s" })));
            }
            ends[name] = seen;
        }
        output("ends", ends);
    "#;
    let Some(seen) = beside_the_name_server(body) else { return };
    let answer: Value = serde_json::from_str(seen["stdout"].as_str().unwrap()).unwrap_or_else(|_| panic!("{seen}"));
    let ends = &answer["outputs"]["ends"];
    assert_eq!(seen["private"], 0, "{seen}");
    // Its first answer was good enough to be connected to, and was asked for again each time.
    assert!(seen["public"].as_u64().unwrap() >= 5 && ends["fine"][0] == "done", "{seen}");
    assert!(ends["rebind"][0] == "done" && seen["asked"]["rebind"].as_u64().unwrap() >= 5, "{seen}");
    assert!(ends["rebind"].as_array().unwrap()[1..].iter().all(|end| end == "denied"), "{ends}");
    for name in ["both", "bothways", "inside", "metadata", "six"] {
        assert!(ends[name].as_array().unwrap().iter().all(|end| end == "denied"), "{name}: {ends}");
    }
}
