//! A secret goes everywhere a script can send it, and is found nowhere.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::harness::Project;

const SENTINEL: &str = "s3nt1n3l/Zq7+w'xK\"9vB#4mTj8LrPc2Yd";

/// Every form the redactor promises to know.
fn forms() -> Vec<String> {
    let bytes = SENTINEL.as_bytes();
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let url = url::form_urlencoded::byte_serialize(bytes).collect();
    let json = serde_json::to_string(SENTINEL).unwrap().trim_matches('"').to_owned();
    let mut forms = vec![SENTINEL.to_owned(), hex, url, json, SENTINEL.replace('\'', "'\\''")];
    for offset in 0..3 {
        let padded = [vec![b'x'; offset], bytes.to_vec()].concat();
        for text in [STANDARD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            // Without the digits that depend on what stands around it.
            forms.push(text[4..text.len() - 4].to_owned());
        }
    }
    forms
}

#[track_caller]
fn is_clean(what: &str, bytes: &[u8]) {
    for form in forms() {
        let found = bytes.windows(form.len()).any(|window| window == form.as_bytes());
        assert!(!found, "{what} holds the secret as `{form}`");
    }
}

fn files(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn a_secret_is_found_nowhere() {
    let script = r##"runbook(#{
        title: "t",
        params: #{ token: #{ type: "secret" } },
        allow: #{ secrets: ["api", "parameter-token"], http: ["http://127.0.0.1:9/*"], exec: ["/bin/cat", "/bin/sh"], store: ["write:*"] },
    });
    let api = secret::get("api");
    print(api); print(`${api} ${params::token}`); log("x" + api);
    output("map", #{ api: api, list: [api] });
    output("kept", "see " + api, #{ file: "kept.txt" });
    let echoed = exec::run(["/bin/cat"], #{ stdin: api }).stdout;
    print(echoed); output("echoed", echoed);
    store::put("echoed", echoed);
    step("returns it", || echoed);
    check("says it", || #{ level: "warning", detail: echoed });
    try { http::get(`http://127.0.0.1:9/?token=${echoed}`); } catch (error) { print(error.message); output("error", error); }
    try { exec::run(["/bin/sh", "-c", "cat >&2; exit 3"], #{ stdin: api }); } catch (error) { print(error.message); output("failed", error); }
    undo("say it", || print(echoed));
    throw `failed with ${echoed}`;
    "##;
    let project = Project::new()
        .file("runbook.toml", "[secrets.api]\nfile = \"api.secret\"\n")
        .file("api.secret", SENTINEL)
        .file("token.txt", SENTINEL);
    for name in ["api.secret", "token.txt"] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(project.path().join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let command = project.runbook("test", script).command(["run", "test", "-p", "token=@token.txt"]);
    let done = command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full").exits(1);
    assert!(done.stderr.contains("***"), "{}", done.stderr);
    is_clean("stdout", done.stdout.as_bytes());
    is_clean("stderr", done.stderr.as_bytes());
    let state = done.project.state();
    let mut project = done.project;
    for arguments in [
        &["logs"][..],
        &["report"],
        &["report", "--json"],
        &["report", "--format", "markdown"],
        &["report", "--file", "kept.txt"],
        &["history", "--json"],
    ] {
        let done = project.command(arguments.iter().copied()).succeeds();
        is_clean(&arguments.join(" "), done.stdout.as_bytes());
        project = done.project;
    }
    let mut found = Vec::new();
    files(&state, &mut found);
    assert!(found.iter().any(|path| path.ends_with("runbook.db")) && found.iter().any(|path| path.ends_with("kept.txt")), "{found:?}");
    for path in found {
        is_clean(&path.display().to_string(), &std::fs::read(&path).unwrap());
    }
}

#[test]
fn a_short_secret_is_refused_and_a_readable_file_too() {
    let text = "runbook(#{ title: \"t\", allow: #{ secrets: [\"api\"] } });";
    let project = |mode: u32, value: &str| {
        use std::os::unix::fs::PermissionsExt;
        let project =
            Project::new().file("runbook.toml", "[secrets.api]\nfile = \"api.secret\"\n").file("api.secret", value).runbook("test", text);
        std::fs::set_permissions(project.path().join("api.secret"), std::fs::Permissions::from_mode(mode)).unwrap();
        project
    };
    let _ = project(0o600, "12345").command(["run", "test"]).exits(2).talks("secret `api` is shorter than 6 characters");
    let _ = project(0o644, "long enough").command(["run", "test"]).exits(2).talks("chmod 600");
}

#[test]
fn the_state_is_private_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let project = Project::new().runbook("test", "runbook(#{ title: \"t\" }); output(\"f\", \"x\", #{ file: \"f.txt\" });");
    let done = project.command(["run", "test"]).umask("000").succeeds();
    let mut found = Vec::new();
    files(&done.project.state(), &mut found);
    assert!(found.len() >= 4, "{found:?}");
    for path in found {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
    let mode = std::fs::metadata(done.project.state()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
}

#[test]
fn a_secret_on_the_command_line_is_refused() {
    let text = "runbook(#{ title: \"t\", params: #{ token: #{ type: \"secret\" } } });";
    let done = Project::new().runbook("test", text).command(["run", "test", "-p", "token=hunter2hunter2"]).exits(2);
    assert!(!done.stderr.contains("hunter2"));
}
