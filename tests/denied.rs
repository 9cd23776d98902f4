//! A run that may do nothing: every host function there is refuses, and the kernel is asked for nothing.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Project, Test};

/// Those that need no permission: they ask the clock of the run.
const FREE: [&str; 1] = ["time"];

/// Two systems' worth of names, so that every function finds what it is asked about.
const SYSTEM: &str = r#"
title = "Shop"
[hosts.web-1]
address = "127.0.0.1"
[databases.main]
host = "127.0.0.1"
port = PORT
name = "shop"
user = "shop"
password = "${secret:word}"
[caches.main]
host = "127.0.0.1"
port = PORT
[services]
manager = "systemd"
[services.web]
unit = "web.service"
[endpoints.site]
url = "http://127.0.0.1:PORT/"
[metrics.web]
endpoint = "site"
[certificates.site]
served = "127.0.0.1:PORT"
[logs.main]
path = "/etc/hostname"
[contacts.main]
kind = "webhook"
url = "http://127.0.0.1:PORT/"
[routes]
warning = ["main"]
"#;

/// A call of every form of every function that touches the world, from the program's own tables.
fn calls(port: u16) -> Vec<(String, String)> {
    let modules = Test::new(["docs", "--json"]).succeeds().json();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut calls = Vec::new();
    for module in modules.as_array().unwrap().iter().filter(|module| module["origin"] == "host") {
        for function in list(module, "functions") {
            if function["kind"] == "pure" || FREE.contains(&module["name"].as_str().unwrap()) {
                continue;
            }
            for form in list(&function, "forms") {
                let signature = form["signature"].as_str().unwrap().to_owned();
                let (name, rest) = signature.split_once('(').unwrap();
                let parameters = rest.split_once(')').unwrap().0;
                let given: Vec<String> =
                    parameters.split(", ").filter(|each| !each.is_empty()).map(|each| argument(name, each, port)).collect();
                calls.push((signature.clone(), format!("{name}({})", given.join(", "))));
            }
        }
    }
    calls
}

/// Something for a parameter, by its name and type as the manual has them.
fn argument(function: &str, parameter: &str, port: u16) -> String {
    let (name, kind) = parameter.split_once(": ").unwrap();
    match (function, name, kind) {
        ("exec::pipe", _, "list") => "[[program]]".to_owned(),
        (_, "argv", _) => "[program]".to_owned(),
        ("redis::read", "words", _) => "[\"GET\", \"a\"]".to_owned(),
        ("redis::command", "words", _) => "[\"SET\", \"a\", \"1\"]".to_owned(),
        ("sql::transaction", "statements", _) => "[\"DELETE FROM a\"]".to_owned(),
        ("http::request", "method", _) => "\"POST\"".to_owned(),
        ("http::probe" | "tls::certificate", _, _) => "\"site\"".to_owned(),
        ("net::dns", _, "text") => "\"localhost\"".to_owned(),
        ("tls::served", "address", _) => format!("\"127.0.0.1:{port}\""),
        (_, "message", "map") => "#{ text: \"x\" }".to_owned(),
        (_, _, "map") => "#{}".to_owned(),
        (_, _, "list") => "[]".to_owned(),
        (_, "port", _) => port.to_string(),
        (_, _, "int") => "1".to_owned(),
        (_, "url", _) => format!("\"http://127.0.0.1:{port}/\""),
        (_, "host", _) => "\"127.0.0.1\"".to_owned(),
        (_, "path" | "from" | "to" | "pattern" | "log", _) if function.starts_with("fs") || function.starts_with("tls") => {
            "\"/etc/hostname\"".to_owned()
        }
        (_, "path" | "log", _) => "\"main\"".to_owned(),
        (_, "part", _) => "\"machine\"".to_owned(),
        (_, "mode", _) => "\"0644\"".to_owned(),
        (_, "owner", _) => "\"root\"".to_owned(),
        (_, "sql", _) => "\"SELECT 1\"".to_owned(),
        (_, "database" | "cache" | "contact" | "to", _) => "\"main\"".to_owned(),
        (_, "name", _) if function.starts_with("secret") => "\"word\"".to_owned(),
        (_, "name", _) => "\"web\"".to_owned(),
        (_, _, "text" | "value") => "\"x\"".to_owned(),
        other => panic!("what is given for {other:?}? add it here"),
    }
}

/// What the kernel was asked for while a runbook ran: the call and the name, without what differs from
/// run to run.
fn traced(project: &Project, runbook: &str) -> (BTreeSet<String>, String) {
    let log = project.path().join(format!("{runbook}.strace"));
    let output = Command::new("strace")
        .args(["-f", "-qq", "-s", "300", "-e", "trace=%file,%network,execve", "-o"])
        .arg(&log)
        .args([env!("CARGO_BIN_EXE_runbook"), "run", runbook, "--json"])
        .current_dir(project.path())
        .env_clear()
        .env("HOME", project.path())
        .env("PATH", "/usr/bin:/bin")
        .env("RUNBOOK_STATE_DIR", project.path().join(format!("state-{runbook}")))
        .output()
        .unwrap();
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let asked = text.lines().filter(|line| !line.contains("resumed>") && !line.contains("+++") && !line.contains("--- SIG"));
    // `1234 openat(AT_FDCWD, "/etc/x", …`: what is asked for, and by which name.
    let asked = asked.filter_map(|line| line.split_once(' ').map(|(_, call)| call.trim_start())).map(|call| {
        let name = call.split('(').next().unwrap_or_default();
        let object: Vec<&str> = call.split('"').skip(1).step_by(2).take(1).collect();
        let object = if name == "execve" { call.split(']').next().unwrap_or(call).to_owned() } else { object.concat() };
        let object = object.replace(runbook, "RUNBOOK").chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
        let address = call.split("sin_addr=").nth(1).map(|rest| rest.chars().take(30).collect::<String>()).unwrap_or_default();
        format!("{name} {object} {address}")
    });
    (asked.collect(), [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat())
}

#[test]
fn without_a_grant_every_function_refuses_and_the_kernel_is_asked_for_nothing() {
    if Command::new("strace").args(["-o", "/dev/null", "/bin/true"]).status().is_ok_and(|status| !status.success()) {
        return std::io::stderr().write_all(b"not run: strace can trace nothing here\n").unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let calls = calls(port);
    assert!(calls.len() > 100, "{} calls", calls.len());
    // The header may ask for anything: what the policy leaves of it is nothing.
    let asks =
        ["sys", "docker", "k8s", "systemd", "net", "redis", "sql", "secrets", "notify", "store", "runs", "samples", "incidents", "prom"];
    let verbs = |section: &str| match section {
        "docker" => {
            "\"list:*\", \"inspect:*\", \"logs:*\", \"stats:*\", \"exec:*\", \"restart:*\", \"start:*\", \"stop:*\", \"scale:*\", \"images:*\", \"disk:*\", \"prune:*\""
        }
        "k8s" => "\"read:*\", \"logs:*\", \"top:*\", \"scale:*\", \"restart:*\", \"rollback:*\", \"bounds:*\"",
        "systemd" => "\"status:*\", \"logs:*\", \"restart:*\", \"start:*\", \"stop:*\"",
        "net" => "\"connect:* @loopback\", \"ping:* @loopback\", \"resolve:* @loopback\", \"listeners:* @loopback\"",
        "redis" | "sql" => "\"*:write\"",
        "prom" => "\"read:*\", \"silence:*\", \"reload:*\"",
        "store" | "samples" => "\"write:*\"",
        "incidents" => "\"open:*\", \"note:*\", \"ack:*\", \"resolve:*\", \"escalate:*\", \"repair:*\"",
        "runs" => "\"read:*\"",
        _ => "\"*\"",
    };
    let mut allow: Vec<String> = asks.iter().map(|section| format!("{section}: [{}]", verbs(section))).collect();
    allow.push("fs: #{ read: [\"/\"], write: [\"/\"], remove: [\"/\"] }".to_owned());
    // To find out which program is meant it is looked at, but not when nothing of the kind is granted.
    allow.push("exec: [\"${paths.*}\"]".to_owned());
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].map(|method| format!("\"{method} * @loopback\""));
    allow.push(format!("http: [{}]", methods.join(", ")));
    let header =
        format!("runbook(#{{ title: \"t\", allow: #{{ {} }} }});\nlet kinds = [];\nlet program = \"/bin/true\";\n", allow.join(", "));
    let tried: Vec<String> = calls
        .iter()
        .map(|(_, call)| format!("try {{ {call}; kinds.push(\"done\"); }} catch (error) {{ kinds.push(error.kind); }}\n"))
        .collect();
    let nothing = "for turn in 0..3 { try { throw #{ kind: \"x\" }; } catch (error) { kinds.push(error.kind); } }\n";
    let answer = "output(\"kinds\", kinds);";
    let settings = "default_system = \"shop\"\n[secrets.word]\nfile = \"word.secret\"\n[policy.allow]\nstore = [\"read:no-such-key\"]\n";
    let project = Project::new()
        .file("runbook.toml", settings)
        .file("word.secret", "long enough")
        .file("runbooks/systems/shop.toml", &SYSTEM.replace("PORT", &port.to_string()))
        .runbook("nothing", &[&header, nothing, answer].concat())
        .runbook("everyth", &[&header, &tried.concat(), answer].concat())
        .runbook("honest", &["runbook(#{ title: \"t\" });\nlet kinds = [];\nlet program = \"/bin/true\";\n", &tried.concat()].concat());
    std::fs::set_permissions(project.path().join("word.secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (allowed, _) = traced(&project, "nothing");
    let (asked, answer) = traced(&project, "everyth");
    let json = serde_json::Deserializer::from_str(&answer).into_iter::<Value>().next().unwrap().unwrap_or_else(|_| panic!("{answer}"));
    let kinds = json["outputs"]["kinds"].as_array().unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(kinds.len(), calls.len());
    let done: Vec<String> = calls
        .iter()
        .zip(kinds)
        .filter(|(_, kind)| *kind != "denied")
        .map(|((form, call), kind)| format!("{form} as {call}: {kind}"))
        .collect();
    assert!(done.is_empty(), "not denied:\n{}", done.join("\n"));
    // The zone of the machine and the number of its processors are the program's own questions.
    let own = ["/usr/share/zoneinfo", "/etc/localtime", "/proc/self/cgroup", "/sys/fs/cgroup/cpu", "/sys/devices/system/cpu"];
    let is_own = |call: &&String| own.iter().any(|path| call.contains(path));
    let caused: Vec<&String> = asked.difference(&allowed).filter(|call| !is_own(call)).collect();
    assert!(caused.is_empty() && asked.iter().any(|call| call.starts_with("execve")), "the kernel was asked for {caused:#?}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody connected");
    // A header that asks for nothing does not even get that far.
    let done = project.command(["run", "honest"]).exits(4);
    let _ = done.talks("nothing ran").talks("RB1201");
}
