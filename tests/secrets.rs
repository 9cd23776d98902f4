//! A secret goes everywhere a script can send it, and is found nowhere.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::harness::{Project, wait_until};

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

/// A port of this machine at which nobody is.
fn refusing() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A system whose passwords are the secret, and whose servers are not there.
fn system(port: u16) -> String {
    format!(
        "title = \"Shop\"
        [databases.shop]\nhost = \"127.0.0.1\"\nport = {port}\nname = \"shop\"\nuser = \"shop\"\npassword = \"${{secret:api}}\"
        [caches.cart]\nhost = \"127.0.0.1\"\nport = {port}\npassword = \"${{secret:api}}\"
        [contacts.ops]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/?key=${{secret:api}}\"\n"
    )
}

#[test]
fn a_secret_in_pieces_is_masked() {
    let pem =
        format!("-----BEGIN KEY-----\n{}\n{}\n-----END KEY-----\n", "MIIabc+/defGHIjklMNOpqrSTUvwx12", "ZZy98xwVUtsRQPonmLKJihgFEDcba7");
    let fields = r#"{"user": "svc-account", "private": {"password": "n0t-4-the-l0g", "pin": "99887766"}}"#;
    let text = r##"runbook(#{ title: "t", allow: #{ secrets: ["api", "pem", "fields"], exec: ["/bin/sh", "/usr/bin/head"] } });
        let api = secret::get("api"); let pem = secret::get("pem"); let fields = secret::get("fields");
        output("bytes", exec::run(["/bin/sh", "-c", "dd bs=1 2>/dev/null"], #{ stdin: api }).stdout);
        for size in [4080, 4095, 8170, 8191, 65520, 65535] {
            let said = exec::run(["/bin/sh", "-c", `head -c ${size} /dev/zero | tr '\0' x; cat`], #{ stdin: api }).stdout;
            print(said); output(`at ${size}`, said);
        }
        for line in exec::run(["/bin/sh", "-c", "cat"], #{ stdin: pem }).stdout.lines() { print(line); log(line); }
        let all = parse_json(exec::run(["/bin/sh", "-c", "cat"], #{ stdin: fields }).stdout);
        print(all["private"]["password"]); output("pin", all["private"]["pin"]); output("all", all);
    "##;
    let settings = ["api", "pem", "fields"].map(|name| format!("[secrets.{name}]\nfile = \"{name}.secret\"\n")).concat();
    let project = Project::new().file("runbook.toml", &settings).runbook("test", text);
    let project = project.file("api.secret", SENTINEL).file("pem.secret", &pem).file("fields.secret", fields);
    for name in ["api", "pem", "fields"] {
        private(&project.path().join(format!("{name}.secret")));
    }
    let done = project.command(["run", "test"]).succeeds();
    let mut found = Vec::new();
    files(&done.project.state(), &mut found);
    let written: Vec<Vec<u8>> = found.iter().map(|path| std::fs::read(path).unwrap()).collect();
    for bytes in written.iter().map(Vec::as_slice).chain([done.stdout.as_bytes(), done.stderr.as_bytes()]) {
        is_clean("the record", bytes);
        let text = String::from_utf8_lossy(bytes);
        for piece in ["MIIabc+/def", "KJihgFEDcba7", "n0t-4-the-l0g", "99887766"] {
            assert!(!text.contains(piece), "{piece}");
        }
    }
    assert!(done.stderr.contains("***"), "{}", done.stderr);
}

fn private(path: &Path) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// What the processes that started since show to everyone: arguments, and to their own user: variables.
struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

#[derive(Default)]
struct Seen {
    rounds: usize,
    /// How often a child of the run was seen with its marks, which are no secret.
    arguments: usize,
    variables: usize,
    secret: Vec<String>,
}

impl Watch {
    fn begin() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        let before: BTreeSet<u32> = processes().collect();
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !is_over.load(Ordering::Relaxed) {
                seen.rounds += 1;
                for process in processes().filter(|process| !before.contains(process)) {
                    let read = |name: &str| std::fs::read(format!("/proc/{process}/{name}")).unwrap_or_default();
                    let (arguments, variables) = (read("cmdline"), read("environ"));
                    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
                    seen.arguments += usize::from(holds(&arguments, "a-mark-of-the-test"));
                    seen.variables += usize::from(holds(&variables, "MARK=of-the-test"));
                    if holds(&arguments, SENTINEL) || holds(&variables, SENTINEL) {
                        seen.secret.push(String::from_utf8_lossy(&arguments).replace('\0', " "));
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        });
        Self { over, thread }
    }

    fn end(self) -> Seen {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn processes() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[test]
fn a_thousand_calls_with_a_secret_show_it_to_nobody() {
    let text = r#"runbook(#{
            title: "t",
            allow: #{ secrets: ["api"], exec: ["/bin/sh"], http: ["http://127.0.0.1:*"], sql: ["shop"], redis: ["cart"] },
        });
        let api = secret::get("api");
        let known = exec::run(["/bin/sh", "-c", "cat"], #{ stdin: api }).stdout;
        let url = `http://127.0.0.1:${system::databases.shop.port}/`;
        let mark = "a-mark-of-the-test";
        let done = 0;
        let refused = 0;
    "#;
    let calls = r#"
        for turn in 0..240 {
            let calls = [
                || exec::run(["/bin/sh", "-c", "cat >/dev/null", mark], #{ stdin: api, env: #{ MARK: "of-the-test" } }),
                || exec::run(["/bin/sh", "-c", "cat $PGPASSFILE >/dev/null", mark], #{ secret_files: #{ PGPASSFILE: ["*:*:*:*:", api] }, env: #{ MARK: "of-the-test" } }),
                || exec::run(["/bin/sh", "-c", "true", known]),
                || exec::run(["/bin/sh", "-c", "true"], #{ env: #{ TOKEN: api } }),
            ];
            if turn % 6 == 0 {
                calls.push(|| http::get(url, #{ bearer: api }));
                calls.push(|| sql::query("shop", "SELECT 1"));
                calls.push(|| redis::ping("cart"));
            }
            for attempt in calls { try { attempt.call(); done += 1; } catch { refused += 1; } }
        }
        output("done", done); output("refused", refused);
    "#;
    let project = Project::new()
        .file("runbook.toml", "default_system = \"shop\"\n[secrets.api]\nfile = \"api.secret\"\n")
        .file("runbooks/systems/shop.toml", &system(refusing()))
        .file("api.secret", SENTINEL)
        .runbook("test", &[text, calls].concat());
    private(&project.path().join("api.secret"));
    let watch = Watch::begin();
    let done = project.command(["run", "test", "--json"]).run();
    let seen = watch.end();
    let outputs = done.json()["outputs"].clone();
    assert_eq!((&outputs["done"], &outputs["refused"]), (&serde_json::json!(520), &serde_json::json!(560)), "{}", done.stderr);
    assert!(seen.secret.is_empty(), "seen in {:?}", seen.secret);
    assert!(seen.arguments >= 50 && seen.variables >= 50, "{} rounds saw {} and {}", seen.rounds, seen.arguments, seen.variables);
    assert_eq!(
        std::fs::read_dir(done.project.state().join("runs/1")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count(),
        0
    );
}

#[test]
fn a_secret_is_found_nowhere() {
    let script = r##"runbook(#{
        title: "t",
        params: #{ token: #{ type: "secret" } },
        allow: #{
            secrets: ["api", "parameter-token"], http: ["http://127.0.0.1:9/*"], exec: ["/bin/cat", "/bin/sh"], store: ["write:*"],
            sql: ["shop:write"], redis: ["cart"], notify: ["ops"],
        },
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
    try { sql::query("shop", "SELECT 1"); } catch (error) { print(error.message); output("login", error); }
    try { redis::ping("cart"); } catch (error) { print(error.message); output("cache", error); }
    try { sql::query("shop", "SELECT '" + echoed + "'"); } catch (error) { output("query", error); }
    for attempt in [|| exec::run(["/bin/cat", echoed]), || exec::run(["/bin/cat"], #{ env: #{ TOKEN: api } }), || exec::run(["/bin/cat", api])] {
        try { attempt.call(); output("shown", true); } catch (error) { print(error.message); output("refused", error); }
    }
    output("in a file", exec::run(["/bin/sh", "-c", "cat $TOKEN"], #{ secret_files: #{ TOKEN: api } }).stdout);
    notify::send("ops", #{ subject: `say ${api} ${echoed}`, text: echoed, facts: #{ key: echoed } });
    output("preview", notify::preview("ops", #{ subject: echoed, text: echoed }));
    step("ask " + echoed, || echoed); check("is " + echoed, || echoed);
    try { let list = [1]; list[echoed]; } catch (error) { print(error); output("index", `${error}`); }
    try { parse_int(echoed); } catch (error) { print(error); output("number", `${error}`); }
    undo("say it", || print(echoed));
    throw `failed with ${echoed}`;
    "##;
    let project = Project::new()
        .file("runbook.toml", "default_system = \"shop\"\n[secrets.api]\nfile = \"api.secret\"\n")
        .file("runbooks/systems/shop.toml", &system(refusing()))
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
        &["show", "test"],
        &["config", "--json"],
        &["secret", "list"],
        &["secret", "check"],
        &["ps", "--json"],
    ] {
        let done = project.command(arguments.iter().copied()).succeeds();
        is_clean(&arguments.join(" "), done.stdout.as_bytes());
        project = done.project;
    }
    project = project.command(["state", "backup", "copy"]).succeeds().project;
    let mut found = Vec::new();
    files(&project.path().join("copy"), &mut found);
    assert!(found.iter().any(|path| path.ends_with("runbook.db")), "{found:?}");
    files(&state, &mut found);
    assert!(found.iter().any(|path| path.ends_with("runbook.db")) && found.iter().any(|path| path.ends_with("kept.txt")), "{found:?}");
    for path in found {
        is_clean(&path.display().to_string(), &std::fs::read(&path).unwrap());
    }
}

#[test]
fn a_secret_that_is_handed_to_a_sub_run_is_found_nowhere() {
    let child = r#"runbook(#{ title: "c", params: #{ key: #{ type: "secret" } }, allow: #{ secrets: ["parameter-key"], exec: ["/bin/sh"] } });
        let calls = || exec::run(["/bin/sh", "-c", "cat; sleep 0.05", "a-mark-of-the-test"], #{ stdin: params::key, env: #{ MARK: "of-the-test" } });
        let said = step("use it", || calls.call().stdout);
        print(said); output("said", said); output("kept", said, #{ file: "kept.txt" });
        throw `failed with ${said}`;"#;
    let parent = r#"runbook(#{ title: "p", params: #{ token: #{ type: "secret" } }, allow: #{ runs: ["child"], secrets: ["parameter-token"] } });
        try { run("child", #{ key: params::token }); } catch (error) { print(error); output("why", `${error}`); }"#;
    let project = Project::new().runbook("child", child).runbook("parent", parent).file("token.txt", SENTINEL);
    private(&project.path().join("token.txt"));
    let watch = Watch::begin();
    let done = project.command(["run", "parent", "-p", "token=@token.txt"]).run();
    let seen = watch.end();
    is_clean("stdout", done.stdout.as_bytes());
    is_clean("stderr", done.stderr.as_bytes());
    assert!(done.stderr.contains("***"), "{}", done.stderr);
    assert!(seen.secret.is_empty(), "seen in {:?}", seen.secret);
    assert!(
        seen.arguments > 0 && seen.variables > 0,
        "{} rounds saw {} and {}\n{}",
        seen.rounds,
        seen.arguments,
        seen.variables,
        done.stderr
    );
    let child = done.then(["report", "2", "--json"]).succeeds();
    assert_eq!((&child.json()["runbook"], &child.json()["params"]["key"]), (&"child".into(), &"***".into()));
    let mut found = Vec::new();
    files(&child.project.state(), &mut found);
    assert!(found.iter().any(|path| path.ends_with("kept.txt")), "{found:?}");
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
    for short in ["1", "ab", "abc", "1234", "12345", "12345\n", "    5     "] {
        let _ = project(0o600, short).command(["run", "test"]).exits(2).talks("secret `api` is shorter than 6 characters");
    }
    assert_eq!(project(0o600, "").command(["run", "test"]).run().code, 2);
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

/// Bar 36: a run is of one piece. What starts after a secret was changed has the new value, without a restart, and
/// shows neither.
#[test]
fn a_run_keeps_the_secret_it_began_with_and_what_starts_later_has_the_new_one() {
    let (old, new) = ("correct horse battery", "staple of another kind");
    let child = r#"runbook(#{ title: "c", allow: #{ secrets: ["api"], exec: ["/usr/bin/sha256sum"], fs: #{ read: ["DIR"] } } });
        output("seen", exec::run(["/usr/bin/sha256sum"], #{ stdin: secret::get("api") }).stdout);
        output("both", fs::read("DIR/both"));"#;
    let parent = r#"runbook(#{ title: "p", allow: #{ secrets: ["api"], exec: ["/usr/bin/sha256sum"], runs: ["child"], fs: #{ read: ["DIR"], write: ["DIR"] } } });
        output("before", exec::run(["/usr/bin/sha256sum"], #{ stdin: secret::get("api") }).stdout);
        step("wait", || { fs::write("DIR/waits", ""); while !fs::exists("DIR/changed") { wait("10ms"); } });
        output("after", exec::run(["/usr/bin/sha256sum"], #{ stdin: secret::get("api") }).stdout);
        let below = run("child").outputs;
        output("below", below.seen); output("both", below.both);"#;
    let project = Project::new();
    let work = project.path().join("work");
    let text = |text: &str| text.replace("DIR", work.to_str().unwrap());
    let project = project.runbook("child", &text(child)).runbook("test", &text(parent)).file("work/both", &format!("{old} and {new}"));
    let project = project.command(["secret", "set", "api"]).stdin(old).succeeds().project;
    let run = project.start(&["run", "test", "--json"]);
    wait_until("the run waits", || work.join("waits").exists());
    let project = project.command(["secret", "set", "api"]).stdin(new).succeeds().project;
    std::fs::write(work.join("changed"), "").unwrap();
    let answer = run.wait_with_output().unwrap();
    let said: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    let outputs = &said["outputs"];
    assert_eq!(outputs["before"], outputs["after"], "{said}");
    assert_eq!(outputs["both"], "*** and ***", "a part of a run hides what that run was given too");
    let done = project.command(["run", "child", "--json"]).succeeds();
    let later = done.json();
    assert_eq!(outputs["below"], later["outputs"]["seen"]);
    assert_ne!(outputs["below"], outputs["before"]);
    assert_eq!(later["outputs"]["both"], format!("{old} and ***"), "a run hides what it was given");
}
