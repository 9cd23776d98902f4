//! What a script may touch, seen from outside: the other side counts what reaches it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Done, Project};

/// A server that counts connections and answers each with the same bytes.
struct Counting {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Counting {
    fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { port, connections }
    }

    fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";

fn run(allow: &str, body: &str) -> Done {
    let text = format!("runbook(#{{ title: \"t\", allow: #{{ {allow} }} }});\n{body}");
    Project::new().runbook("test", &text).command(["run", "test", "--json", "--timeout", "20s"]).run()
}

#[test]
fn no_spelling_of_this_machine_gets_past_a_grant_for_others() {
    let server = Counting::answering(HELLO);
    let spellings = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "[::]",
        "0.0.0.0",
        "0",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "\u{ff11}27.0.0.1",
        "127.0.0.1.",
        "[64:ff9b::7f00:1]",
        "[::127.0.0.1]",
        "127.000.000.001",
        "[2002:7f00:1::]",
        "127.255.255.254",
        "[::ffff:0:127.0.0.1]",
        "%31%32%37.0.0.1",
        "127。0。0。1",
        "0x7f.1",
        "127.0x1",
        "[0000::0001]",
        "169.254.169.254",
        "2852039166",
        "[fe80::1]",
        "[fd00::1]",
        "10.0.0.1",
        "[::ffff:10.0.0.1]",
    ];
    for host in spellings {
        // The grant is for every name: what it names is not what it resolves to.
        let done = run("http: [\"GET http://*:*\"]", &format!("let url = \"http://{host}:{}/\"; http::get(url);", server.port));
        assert_eq!(done.code, 1, "{host}: {}{}", done.stdout, done.stderr);
        assert!(matches!(done.json()["error"]["kind"].as_str(), Some("denied" | "invalid" | "connect")), "{host}: {}", done.stdout);
    }
    for url in [
        "http://ok.example@127.0.0.1:PORT/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:PORT/",
        "unix:///var/run/docker.sock",
        "http://127.0.0.1:PORT@1.1.1.1.invalid/",
        "http:\\\\\\\\127.0.0.1:PORT/",
        "ftp://127.0.0.1:PORT/",
        "data:,x",
    ] {
        let url = url.replace("PORT", &server.port.to_string());
        let done = run("http: [\"GET http://*:*\"]", &format!("let url = \"{url}\"; http::get(url);"));
        assert_eq!(done.code, 1, "{url}: {}", done.stdout);
    }
    assert_eq!(server.count(), 0);
}

#[test]
fn a_redirect_reaches_nothing_that_is_not_granted() {
    let denied = Counting::answering(HELLO);
    let answer =
        format!("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{}/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", denied.port);
    let allowed = Counting::answering(Box::leak(answer.into_boxed_str()));
    let grant = format!("http: [\"GET http://127.0.0.1:{}\"]", allowed.port);
    let followed = run(&grant, &format!("http::get(\"http://127.0.0.1:{}/\", #{{ follow: 5 }});", allowed.port));
    assert_eq!(followed.json()["error"]["kind"], "denied", "{}", followed.stdout);
    let plain = run(&grant, &format!("output(\"ok\", http::get(\"http://127.0.0.1:{}/\").ok);", allowed.port));
    assert_eq!(plain.json()["outputs"]["ok"], false);
    assert_eq!((allowed.count(), denied.count()), (2, 0));
}

#[test]
fn no_way_of_redirecting_reaches_what_is_not_granted() {
    let denied = Counting::answering(HELLO);
    let answer = |status: &str, to: &str| -> &'static str {
        let text = format!("HTTP/1.1 {status} Moved\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        Box::leak(text.into_boxed_str())
    };
    for host in ["127.0.0.1", "localhost", "[::1]", "2130706433", "127.1", "ok@127.0.0.1"] {
        for status in ["301", "302", "303", "307", "308"] {
            let allowed = Counting::answering(answer(status, &format!("http://{host}:{}/", denied.port)));
            let port = allowed.port;
            let call = if status == "307" { "http::post(url, #{ follow: 20, body: \"x\" })" } else { "http::get(url, #{ follow: 20 })" };
            let grant = format!("http: [\"GET http://127.0.0.1:{port}\", \"POST http://127.0.0.1:{port}\"]");
            let done = run(&grant, &format!("let url = \"http://127.0.0.1:{port}/\"; {call};"));
            assert!(matches!(done.json()["error"]["kind"].as_str(), Some("denied" | "invalid")), "{status} {host}: {}", done.stdout);
            assert_eq!(allowed.count(), 1, "{status} {host}");
        }
    }
    // Twenty steps within what is granted, and then one out of it; and round and round.
    let hops = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, out) = (hops.local_addr().unwrap().port(), denied.port);
    std::thread::spawn(move || {
        for (turn, stream) in hops.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let to = if turn == 19 { format!("http://127.0.0.1:{out}/") } else { format!("/{turn}") };
            let _ = write!(stream, "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let done =
        run(&format!("http: [\"GET http://127.0.0.1:{port}\"]"), &format!("http::get(\"http://127.0.0.1:{port}/\", #{{ follow: 20 }});"));
    assert_eq!(done.code, 1, "{}", done.stdout);
    assert_eq!(denied.count(), 0);
}

#[test]
fn a_proxy_in_the_environment_sees_nothing() {
    let (server, proxy) = (Counting::answering(HELLO), Counting::answering(HELLO));
    let url = format!("http://127.0.0.1:{}/", server.port);
    let text = format!("runbook(#{{ title: \"t\", allow: #{{ http: [\"{url}*\"] }} }});\nhttp::get(\"{url}\");");
    let address = format!("http://127.0.0.1:{}", proxy.port);
    let command = Project::new().runbook("test", &text).command(["run", "test"]);
    let command =
        ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"].iter().fold(command, |command, name| command.env(name, &address));
    let _ = command.succeeds();
    assert_eq!((server.count(), proxy.count()), (1, 0));
}

#[test]
fn arguments_are_never_read_by_a_shell() {
    let planted = tempfile::tempdir().unwrap();
    let mark = planted.path().join("p");
    let body = format!(
        "let said = exec::run([\"/bin/echo\", \"; touch {0}\", \"$(touch {0})\", \"`touch {0}`\", \"\\n| touch {0}\"]); output(\"said\", said.stdout);",
        mark.display()
    );
    let done = run("exec: [\"/bin/echo\"]", &body);
    assert_eq!(done.code, 0, "{}", done.stdout);
    assert!(done.json()["outputs"]["said"].as_str().unwrap().contains("$(touch "));
    assert!(!mark.exists());
}

#[test]
fn data_is_no_option_of_any_program() {
    let hostile = [
        ("tar", "[program, \"-xf\", data]", "[program, \"-x\", \"--\", data]", "--checkpoint-action=exec=touch planted"),
        ("git", "[program, \"clone\", data]", "[program, \"clone\", \"--\", data]", "--upload-pack=touch planted"),
        ("pg_dump", "[program, data]", "[program, \"--\", data]", "--file=/etc/planted"),
        ("rsync", "[program, \"-a\", data, \"/tmp\"]", "[program, \"-a\", \"--\", data, \"/tmp\"]", "-e touch planted"),
        ("ssh", "[program, data, \"uptime\"]", "[program, \"--\", data, \"uptime\"]", "-oProxyCommand=touch planted"),
        ("curl", "[program, \"-s\", data]", "", "-o/etc/planted"),
    ];
    // Programs of these names that write down what they are given.
    let (directory, notes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let seen = notes.path().join("seen");
    for (program, plain, after, data) in hostile {
        let path = directory.path().join(program);
        std::fs::write(&path, format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >> {}\n", seen.display())).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let run = |words: &str| {
            let text = format!(
                "runbook(#{{ title: \"t\", params: #{{ data: #{{ type: \"string\" }} }}, allow: #{{ exec: [\"{0}\"], fs: #{{ write: [\"{2}\"] }} }} }});
                 let program = \"{1}\"; let data = params::data; exec::run({words});",
                directory.path().display(),
                path.display(),
                notes.path().display()
            );
            let given = format!("data={data}");
            Project::new().runbook("test", &text).command(["run", "test", "--json", "-p", &given]).run()
        };
        let done = run(plain);
        assert_eq!(done.json()["error"]["kind"], "invalid", "{program}: {}", done.stdout);
        assert!(!seen.exists(), "{program} was started");
        if !after.is_empty() {
            let done = run(after);
            assert_eq!(done.code, 0, "{program}: {}", done.stdout);
            let words = std::fs::read_to_string(&seen).unwrap();
            assert!(words.contains(&format!("--\n{data}\n")), "{program}: {words}");
            std::fs::remove_file(&seen).unwrap();
        }
    }
}

#[test]
fn a_child_gets_the_documented_environment_and_no_more() {
    let hostile = [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "BASH_ENV",
        "ENV",
        "PYTHONPATH",
        "PERL5LIB",
        "GIT_SSH_COMMAND",
        "PGPASSWORD",
        "HTTP_PROXY",
        "https_proxy",
        "RUNBOOK_ANYTHING",
        "AWS_SECRET_ACCESS_KEY",
    ];
    let text = "runbook(#{ title: \"t\", allow: #{ exec: [\"/bin/cat\"] } }); output(\"env\", exec::run([\"/bin/cat\", \"/proc/self/environ\"]).stdout);";
    let command = Project::new().runbook("test", text).command(["run", "test", "--json"]);
    let command = hostile.iter().fold(command, |command, name| command.env(name, "planted"));
    let json = command.succeeds().json();
    let environment = json["outputs"]["env"].as_str().unwrap();
    let names: Vec<&str> = environment.split('\0').filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["HOME", "LC_ALL", "PATH", "TMPDIR"], "{environment}");
    for name in hostile {
        assert!(!names.contains(&name), "{name} in {environment}");
        let body = format!("exec::run([\"/usr/bin/env\"], #{{ env: #{{ \"{name}\": \"x\" }} }});");
        let done = run("exec: [\"/usr/bin/env\"]", &body);
        assert!(done.code != 0 || name.starts_with("AWS"), "{name}: {}", done.stdout);
    }
}

#[test]
fn nothing_a_run_started_outlives_it() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    let script = directory.path().join("leave.sh");
    std::fs::write(&script, format!("#!/bin/sh\nsetsid sh -c '(setsid sleep 300 & echo $! > {0}.new; mv {0}.new {0}) &' >/dev/null 2>&1 &\nwhile [ ! -s {0} ]; do sleep 0.05; done\n", pid_file.display())).unwrap();
    let allow = format!("exec: [\"/bin/sh\"], fs: #{{ read: [\"{0}\"], write: [\"{0}\"] }}", directory.path().display());
    let done = run(&allow, &format!("exec::run([\"/bin/sh\", \"{}\"]);", script.display()));
    assert_eq!(done.code, 0, "{}", done.stdout);
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let gone = || {
        !std::path::Path::new(&format!("/proc/{}", pid.trim())).exists() || {
            std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| stat.contains(") Z "))
        }
    };
    let over = std::time::Instant::now();
    crate::harness::wait_until("the grandchild is gone", gone);
    assert!(over.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn the_state_and_the_settings_are_out_of_reach() {
    let project = Project::new();
    let (state, settings) = (project.state(), project.path().join("runbook.toml"));
    let project = project.runbook("first", "runbook(#{ title: \"t\" });");
    let project = project.command(["run", "first"]).succeeds().project;
    let text = format!(
        "runbook(#{{ title: \"t\", allow: #{{ fs: #{{ read: [\"/\"], write: [\"/\"], remove: [\"/\"] }} }} }});
         let tries = [|| fs::write(\"{0}\", \"x\"), || fs::read_bytes(\"{1}/runbook.db\"), || fs::write(\"{1}/runbook.db\", \"x\"), || fs::remove(\"{1}\", #{{ recursive: true }})];
         let denied = 0;
         for attempt in tries {{ try {{ attempt.call(); }} catch (error) {{ denied += 1; }} }}
         output(\"denied\", denied);",
        settings.display(),
        state.display()
    );
    let json = project.runbook("second", &text).command(["run", "second", "--json"]).succeeds().json();
    assert_eq!(json["outputs"]["denied"], 4);
}
