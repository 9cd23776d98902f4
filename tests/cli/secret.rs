//! `runbook secret`.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{Project, Test};

#[test]
fn a_secret_is_kept_for_its_owner_alone_and_never_shown() {
    let done = Test::new(["secret", "set", "api-key"]).stdin("correct horse\n").succeeds().talks("secret `api-key` is set");
    let file = done.project.state().join("secrets/api-key");
    let sealed = std::fs::read(&file).unwrap();
    assert!(sealed.starts_with(b"runbook secret 1\n") && !sealed.windows(7).any(|window| window == b"correct"));
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

#[test]
fn a_key_is_made_once_outside_of_the_state_and_can_be_rotated() {
    let text = "runbook(#{ title: \"t\", allow: #{ secrets: [\"token\"] } }); log(`the token is ${\"correct horse\"}`);";
    let done =
        Project::new().runbook("test", text).command(["secret", "set", "token"]).stdin("correct horse").succeeds().talks("a key was made");
    let key = done.project.path().join(".config/runbook/secrets.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let old = std::fs::read(&key).unwrap();
    let done = done.then(["secret", "set", "other"]).stdin("battery staple").succeeds();
    assert!(!done.stderr.contains("a key was made"));
    let done = done.then(["secret", "rotate-key"]).succeeds().talks("2 secrets are encrypted with a new key");
    assert_ne!(std::fs::read(&key).unwrap(), old);
    let done = done.then(["run", "test"]).succeeds().talks("the token is ***");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let done = done.then(["run", "test"]).exits(2).talks("chmod 600");
    std::fs::write(&key, old).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let done = done.then(["run", "test"]).exits(2).talks("was sealed with a key that is not there");
    std::fs::remove_file(&key).unwrap();
    let _ = done.then(["run", "test"]).exits(2).talks("there is no key at");
}

#[test]
fn a_secret_of_the_environment_is_warned_of() {
    let text = "runbook(#{ title: \"t\", allow: #{ secrets: [\"db\"] } }); log(\"x\");";
    let project = Project::new().file("runbook.toml", "[secrets.db]\nenv = \"DB_PASSWORD\"\n").runbook("test", text);
    let done = project.command(["run", "test"]).env("DB_PASSWORD", "long enough").succeeds().talks("secret `db` comes from `DB_PASSWORD`");
    assert_eq!(done.stderr.matches("comes from").count(), 1);
}

#[test]
fn a_secret_goes_only_where_it_is_granted() {
    let text = r##"runbook(#{
        title: "t",
        allow: #{ exec: ["/bin/cat", "/usr/bin/wc"], secrets: #{ token: ["exec:/bin/cat"] } },
    });
    check("masked", || exec::run(["/bin/cat"], #{ stdin: secret::get("token") }).stdout == "correct horse");
    exec::run(["/usr/bin/wc", "-c"], #{ stdin: secret::get("token") });"##;
    let done = Project::new().runbook("test", text).command(["secret", "set", "token"]).stdin("correct horse").succeeds();
    let done = done.then(["run", "test", "--json"]).exits(1);
    let json = done.json();
    assert_eq!((json["checks"][0]["level"].as_str(), json["error"]["kind"].as_str()), (Some("ok"), Some("denied")));
    assert_eq!(json["error"]["message"], "secret `token` may not go to `exec:/usr/bin/wc`");
    let _ = done.then(["show", "test"]).succeeds().says("use secret token for exec /bin/cat");
}

#[test]
fn what_a_program_prints_byte_by_byte_or_line_by_line_is_masked() {
    let pem = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----";
    let json = r#"{"user":"maya","password":"correct-horse-battery"}"#;
    let text = r##"runbook(#{ title: "t", allow: #{ exec: ["/bin/dd", "/bin/cat", "/usr/bin/head"], secrets: ["pem", "json"] } });
    let slow = exec::run(["/bin/dd", "bs=1", "status=none"], #{ stdin: secret::get("pem") }).stdout;
    print(slow);
    for line in slow.split("\n") { print(`line ${line}`); }
    let filler = "";
    filler.pad(4090, "x");
    print(filler + slow);
    filler.pad(8187, "x");
    print(filler + slow);
    output("field", exec::run(["/bin/cat"], #{ stdin: secret::get("json") }).stdout.split("\"")[7]);"##;
    let done = Project::new().runbook("test", text).command(["secret", "set", "pem"]).stdin(pem).succeeds();
    let done = done.then(["secret", "set", "json"]).stdin(json).succeeds();
    let done = done.then(["run", "test", "--json"]).succeeds();
    assert_eq!(done.json()["outputs"]["field"], "***");
    let log = std::fs::read_to_string(done.project.state().join("runs/1/log.jsonl")).unwrap();
    for part in ["MIIEvQIBADANBgkq", "hkiG9w0BAQEFAASC", "correct-horse"] {
        assert!(!log.contains(part) && !done.stdout.contains(part), "{part}");
    }
}
