//! `runbook doctor`.

use serde_json::Value;

use crate::harness::{Done, Project, Test};

fn level(done: &Done, area: &str) -> Option<String> {
    let json = done.json();
    let found = json.as_array().unwrap().iter().find(|finding| finding["area"] == area)?;
    found["level"].as_str().map(str::to_owned)
}

#[test]
fn every_area_is_examined_and_the_worst_decides_the_exit_code() {
    let done = Test::new(["doctor", "--json"]).run();
    let json = done.json();
    let findings = json.as_array().unwrap();
    for area in [
        "config",
        "systems",
        "state",
        "filesystem",
        "store",
        "outbox",
        "sqlite",
        "clock",
        "ca bundle",
        "docker",
        "systemd",
        "tools",
        "kernel",
    ] {
        assert!(findings.iter().any(|finding| finding["area"] == area), "{area} is missing");
    }
    let has = |level: &str| findings.iter().any(|finding| finding["level"] == level);
    let code = if has("critical") {
        1
    } else if has("warning") {
        3
    } else {
        0
    };
    assert_eq!(done.code, code);
    let without_fix = |finding: &&Value| finding["level"] != "ok" && finding["fix"].is_null();
    assert!(!findings.iter().any(|finding| without_fix(&finding)), "{findings:?}");
    assert_eq!((level(&done, "store").as_deref(), level(&done, "sqlite").as_deref()), (Some("ok"), Some("ok")));
}

#[test]
fn a_secret_a_system_needs_is_missed() {
    let project = Project::new().file(
        "runbooks/systems/shop.toml",
        "title = \"Shop\"\ncode = \"SH\"\nlanguage = \"en\"\ntimezone = \"UTC\"\nenvironment = \"lab\"\n[databases.main]\nhost = \"127.0.0.1\"\nport = 5432\nname = \"shop\"\nuser = \"shop\"\npassword = \"${secret:shop_db}\"\n",
    );
    let done = project.command(["doctor"]).run();
    assert!(done.stdout.contains("`shop_db`, which shop needs, is missing"), "{}{}", done.stdout, done.stderr);
    let done = done.then(["secret", "set", "shop_db"]).stdin("a long secret\n").succeeds();
    let done = done.then(["doctor"]).run();
    assert!(done.stdout.contains("1 can be read"), "{}", done.stdout);
    assert!(!done.stdout.contains("a long secret"));
}

#[test]
fn broken_settings_and_an_open_state_directory_are_told_with_the_fix() {
    use std::os::unix::fs::PermissionsExt;
    let project = Project::new().file("runbook.toml", "langage = \"en\"\n");
    std::fs::create_dir(project.state()).unwrap();
    std::fs::set_permissions(project.state(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let _ = project.command(["doctor"]).exits(1).says("unknown key `langage`").says("chmod 700");
}

#[test]
fn a_damaged_store_is_told() {
    let done = Project::new().runbook("test", "runbook(#{ title: \"t\" });").command(["run", "test"]).succeeds();
    for file in ["runbook.db-wal", "runbook.db-shm"] {
        let _ = std::fs::remove_file(done.project.state().join(file));
    }
    std::fs::write(done.project.state().join("runbook.db"), "not a database, but long enough to be read as one".repeat(100)).unwrap();
    let done = done.then(["doctor", "--json"]).exits(1);
    assert_eq!(level(&done, "store").as_deref(), Some("critical"));
}
