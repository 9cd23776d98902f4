//! A plan of everything that changes something changes nothing: seen from the other side.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use runbook::host::{FunctionKind, MODULES};
use serde_json::{Value, json};

use crate::harness::Project;

/// What a server heard.
type Heard = Arc<Mutex<Vec<String>>>;

/// Keeps what each connection begins with, and answers with what `reply` makes of it.
fn serve<S: Read + Write>(streams: impl Iterator<Item = std::io::Result<S>> + Send + 'static, reply: fn(&str) -> String) -> Heard {
    let heard = Heard::default();
    let kept = heard.clone();
    std::thread::spawn(move || {
        for mut stream in streams.flatten() {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).unwrap_or(0);
            let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
            let answer = reply(&text);
            kept.lock().unwrap().push(text);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    heard
}

/// A server that hears and says nothing.
fn silent() -> (u16, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // A listener that outlives its iterator is leaked on purpose: the thread has it until the test ends.
    let listener: &'static TcpListener = Box::leak(Box::new(listener));
    (port, serve(listener.incoming(), |_| String::new()))
}

/// A docker engine with one container, and an image that lost its name.
fn engine(socket: &Path) -> Heard {
    let listener: &'static UnixListener = Box::leak(Box::new(UnixListener::bind(socket).unwrap()));
    serve(listener.incoming(), |request| {
        let target = request.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
        let id = "77".repeat(32);
        let body = match target.rsplit('/').next().unwrap_or_default() {
            "version" => r#"{"Version":"20.10.24","ApiVersion":"1.41"}"#.to_owned(),
            "info" => r#"{"ID":"ENGINE"}"#.to_owned(),
            "df" => r#"{"LayersSize":7,"Images":[{"Size":7,"SharedSize":0,"Containers":0}],"Containers":[],"Volumes":[],"BuildCache":[]}"#
                .to_owned(),
            "json" if target.ends_with("/containers/json") => format!(
                r#"[{{"Id":"{id}","Names":["/shop_web_1"],"Image":"a","ImageID":"b","State":"running","Status":"Up","Ports":[],"Labels":{{"com.docker.compose.project":"shop","com.docker.compose.service":"web","com.docker.compose.container-number":"1","com.docker.compose.oneoff":"False"}}}}]"#
            ),
            _ => format!(
                r#"{{"Id":"{id}","Name":"/shop_web_1","Image":"b","RestartCount":0,"State":{{"Status":"running","ExitCode":0,"OOMKilled":false,"StartedAt":"2026-11-21T11:00:00Z","FinishedAt":"0001-01-01T00:00:00Z"}},"Config":{{}}}}"#
            ),
        };
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    })
}

/// An API server with one deployment of two revisions, and an autoscaler of another one.
fn cluster() -> (u16, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let listener: &'static TcpListener = Box::leak(Box::new(listener));
    let heard = serve(listener.incoming(), |request| {
        let target = request.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
        let template = |image: &str| json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "a", "image": image }] } });
        let selector = json!({ "matchLabels": { "app": "web" } });
        let set = |revision: &str| {
            json!({
                "metadata": {
                    "name": revision, "annotations": { "deployment.kubernetes.io/revision": revision },
                    "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u", "controller": true }],
                },
                "spec": { "selector": selector, "template": template(revision) },
            })
        };
        let hpa = json!({
            "metadata": { "name": "other", "resourceVersion": "1" },
            "spec": { "scaleTargetRef": { "kind": "Deployment", "name": "other" }, "minReplicas": 1, "maxReplicas": 5 },
        });
        let body = match target.rsplit('/').next().unwrap_or_default() {
            "web" => json!({
                "metadata": { "name": "web", "uid": "u", "generation": 1, "annotations": { "deployment.kubernetes.io/revision": "2" } },
                "spec": { "replicas": 3, "selector": selector, "template": template("2") },
            }),
            "replicasets" => json!({ "metadata": {}, "items": [set("1"), set("2")] }),
            "horizontalpodautoscalers" => json!({ "metadata": {}, "items": [hpa] }),
            _ => json!({ "metadata": {}, "items": [] }),
        };
        let body = body.to_string();
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    });
    (port, heard)
}

/// A call of each function that changes something. `AT` is a directory with a file `old`.
fn calls(http: u16) -> BTreeMap<&'static str, String> {
    let url = format!("http://127.0.0.1:{http}/x");
    BTreeMap::from([
        ("docker::exec", r#"docker::exec("web", ["true"])"#.to_owned()),
        ("docker::prune", "docker::prune()".to_owned()),
        ("docker::restart", r#"docker::restart("web")"#.to_owned()),
        ("docker::start", r#"docker::start("web")"#.to_owned()),
        ("docker::stop", r#"docker::stop("web")"#.to_owned()),
        ("exec::run", r#"exec::run(["/bin/mkdir", AT + "/by-program"])"#.to_owned()),
        ("exec::pipe", r#"exec::pipe([["/bin/mkdir", AT + "/by-pipe"], ["/bin/mkdir", AT + "/by-pipe-2"]])"#.to_owned()),
        ("fs::append", r#"fs::append(AT + "/old", "more")"#.to_owned()),
        ("fs::chmod", r#"fs::chmod(AT + "/old", "0600")"#.to_owned()),
        ("fs::chown", r#"{ let old = fs::stat(AT + "/old"); fs::chown(AT + "/old", `${old.owner}:${old.group}`) }"#.to_owned()),
        ("fs::copy", r#"fs::copy(AT + "/old", AT + "/copied")"#.to_owned()),
        ("fs::mkdir", r#"fs::mkdir(AT + "/made")"#.to_owned()),
        ("fs::remove", r#"fs::remove(AT + "/old")"#.to_owned()),
        ("fs::rename", r#"fs::rename(AT + "/old", AT + "/renamed")"#.to_owned()),
        ("fs::write", r#"fs::write(AT + "/new", "text")"#.to_owned()),
        ("http::post", format!(r#"http::post("{url}", #{{}})"#)),
        ("http::put", format!(r#"http::put("{url}", #{{}})"#)),
        ("http::patch", format!(r#"http::patch("{url}", #{{}})"#)),
        ("http::delete", format!(r#"http::delete("{url}")"#)),
        ("http::request", format!(r#"http::request("POST", "{url}", #{{}})"#)),
        ("k8s::scale", r#"k8s::scale("web", 5)"#.to_owned()),
        ("k8s::restart", r#"k8s::restart("web")"#.to_owned()),
        ("k8s::rollback", r#"k8s::rollback("web")"#.to_owned()),
        ("k8s::bounds", r#"k8s::bounds("other", 3, 20)"#.to_owned()),
        ("notify::send", r#"notify::send("mail", #{ subject: "x" })"#.to_owned()),
        ("notify::test", r#"notify::test("mail")"#.to_owned()),
        ("notify::flush", "notify::flush()".to_owned()),
        ("prom::silence", r#"prom::silence("site", #{ alertname: "a" })"#.to_owned()),
        ("prom::unsilence", r#"prom::unsilence("site", "00000000-0000-0000-0000-000000000000")"#.to_owned()),
        ("prom::reload", r#"prom::reload("site")"#.to_owned()),
        ("redis::set", r#"redis::set("main", "k", "v")"#.to_owned()),
        ("redis::del", r#"redis::del("main", "k")"#.to_owned()),
        ("redis::command", r#"redis::command("main", ["INCR", "k"])"#.to_owned()),
        ("service::restart", r#"service::restart("web")"#.to_owned()),
        ("service::scale", r#"service::scale("web", 2)"#.to_owned()),
        ("service::start", r#"service::start("web")"#.to_owned()),
        ("sql::execute", r#"sql::execute("main", "DELETE FROM t")"#.to_owned()),
        ("sql::transaction", r#"sql::transaction("main", ["DELETE FROM t"])"#.to_owned()),
        ("incident::open", r#"incident::open(#{ title: "t", severity: "sev3" })"#.to_owned()),
        ("incident::recovered", "incident::recovered(1)".to_owned()),
        ("incident::note", r#"incident::note(1, "note", "t")"#.to_owned()),
        ("incident::learn", r#"incident::learn(1, #{ cause: "t" })"#.to_owned()),
        ("incident::ack", r#"incident::ack(1, "t")"#.to_owned()),
        ("incident::resolve", r#"incident::resolve(1, "t")"#.to_owned()),
        ("incident::escalate", r#"incident::escalate(1, "t")"#.to_owned()),
        ("incident::pass", "incident::pass()".to_owned()),
        ("incident::reserve", r#"incident::reserve("service", 1)"#.to_owned()),
        ("incident::conclude", r#"incident::conclude(1, 0, "t")"#.to_owned()),
        ("incident::prove", "incident::prove()".to_owned()),
        ("samples::append", r#"samples::append([#{ series: "a", value: 1 }])"#.to_owned()),
        ("store::put", r#"store::put("k", 1)"#.to_owned()),
        ("store::remove", r#"store::remove("k")"#.to_owned()),
        ("systemd::restart", r#"systemd::restart("no-such-unit-here")"#.to_owned()),
        ("systemd::start", r#"systemd::start("no-such-unit-here")"#.to_owned()),
        ("systemd::stop", r#"systemd::stop("no-such-unit-here")"#.to_owned()),
    ])
}

/// Every function of the tables that changes something, and what it says a plan shows.
fn declared() -> Vec<(String, &'static str)> {
    let effects = MODULES.iter().flat_map(|module| {
        let is_effect = |function: &&runbook::host::Function| function.kind == FunctionKind::Effect;
        module.functions.iter().filter(is_effect).map(|function| (format!("{}::{}", module.name, function.name), function.plan))
    });
    effects.collect()
}

struct World {
    project: Project,
    http: Heard,
    smtp: Heard,
    sql: Heard,
    redis: Heard,
    docker: Heard,
    cluster: Heard,
}

fn world() -> World {
    let project = Project::new().file("at/old", "old\n");
    let ((http_port, http), (smtp_port, smtp), (sql_port, sql), (redis_port, redis)) = (silent(), silent(), silent(), silent());
    let socket = project.path().join("docker.sock");
    let docker = engine(&socket);
    let (api_port, cluster) = cluster();
    let kubeconfig = format!(
        "current-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
         clusters: [{{name: a, cluster: {{server: 'http://127.0.0.1:{api_port}'}}}}]\nusers: [{{name: a, user: {{}}}}]\n"
    );
    let project = project.file("kubeconfig", &kubeconfig);
    let system = format!(
        "title = \"Shop\"
         [services]
         manager = \"compose\"
         project = \"shop\"
         docker_host = \"unix://{}\"
         namespace = \"shop\"
         [cluster]
         kubeconfig = \"{}\"
         [services.web]
         restartable = true
         [databases.main]
         host = \"127.0.0.1\"
         port = {sql_port}
         name = \"shop\"
         user = \"shop\"
         [caches.main]
         host = \"127.0.0.1\"
         port = {redis_port}
         [endpoints.site]
         url = \"http://127.0.0.1:{http_port}/\"
         [contacts.mail]
         kind = \"email\"
         to = [\"ops@example.com\"]
         from = \"runbook@example.com\"
         server = \"smtp://127.0.0.1:{smtp_port}\"
         ",
        socket.display(),
        project.path().join("kubeconfig").display()
    );
    let at = project.path().join("at");
    let at = at.display();
    let header = format!(
        "runbook(#{{ title: \"everything\", allow: #{{
            docker: [\"exec:*\", \"restart:*\", \"start:*\", \"stop:*\", \"scale:*\", \"prune\"], exec: [\"/bin/mkdir\", \"/usr/bin/mkdir\"],
            fs: #{{ read: [\"{at}\"], write: [\"{at}\"], remove: [\"{at}\"] }},
            http: [\"POST http://127.0.0.1:{http_port}/x\", \"PUT http://127.0.0.1:{http_port}/x\", \"PATCH http://127.0.0.1:{http_port}/x\", \"DELETE http://127.0.0.1:{http_port}/x\"],
            notify: [\"*\", \"outbox\"], redis: [\"*:write\"], sql: [\"*:write\"], store: [\"write:*\"], samples: [\"write:*\"],
            incidents: [\"open\", \"note\", \"ack\", \"resolve\", \"escalate\", \"repair\"],
            prom: [\"silence:*\", \"reload:*\"],
            k8s: [\"scale:*\", \"restart:*\", \"rollback:*\", \"bounds:*\"],
            systemd: [\"restart:*\", \"start:*\", \"stop:*\"] }} }});\nconst AT = \"{at}\";\n"
    );
    // What may not exist on this machine comes last: its error leaves no more to say.
    let all = calls(http_port);
    let (last, first): (Vec<_>, Vec<_>) = all.iter().partition(|(name, _)| name.starts_with("systemd::"));
    let steps: String = first.iter().chain(&last).map(|(name, call)| format!("step(\"{name}\", || {{ {call}; () }});\n")).collect();
    let project = project
        .file("runbooks/systems/shop.toml", &system.lines().map(|line| format!("{}\n", line.trim())).collect::<String>())
        .file("runbook.toml", "default_system = \"shop\"\n")
        .runbook("everything", &format!("{header}{steps}"));
    World { project, http, smtp, sql, redis, docker, cluster }
}

#[test]
fn every_function_that_changes_something_says_what_a_plan_shows_of_it() {
    let calls = calls(1);
    let declared = declared();
    for (name, plan) in &declared {
        assert!(!plan.is_empty(), "{name} says nothing");
        assert!(calls.contains_key(name.as_str()), "{name} is new: add a call of it here");
    }
    assert_eq!(declared.len(), calls.len());
}

#[test]
fn a_plan_of_everything_changes_nothing() {
    let World { project, http, smtp, sql, redis, docker, cluster } = world();
    let done = project.command(["plan", "everything", "--json"]).succeeds();
    let plan = done.json();
    for step in plan["steps"].as_array().unwrap() {
        let name = step["name"].as_str().unwrap();
        let told = step["effects"].as_array().is_some_and(|effects| effects.iter().any(|effect| effect["function"] == name));
        let may_be_missing = name.starts_with("systemd::") || matches!(name, "fs::chown");
        assert!(told || may_be_missing && step["unknown"].is_string(), "{name}: {step:#}");
    }
    assert_eq!(plan["steps"].as_array().unwrap().len(), calls(1).len(), "{:#}", plan["unknown"]);
    assert_eq!(plan["unknown"], Value::Null);
    assert_eq!(plan["fingerprints"]["docker"], "ENGINE");
    let heard = |heard: &Heard| heard.lock().unwrap().clone();
    assert_eq!((heard(&http), heard(&smtp), heard(&redis)), (vec![], vec![], vec![]));
    // The database is only asked who it is, for the fingerprint; it hangs up before that here.
    let says_sql = |text: &String| ["DELETE", "BEGIN"].iter().any(|word| text.contains(word));
    assert!(!heard(&sql).iter().any(says_sql), "{:?}", heard(&sql));
    let other = |request: &String| !request.starts_with("GET ");
    assert!(!heard(&docker).is_empty() && !heard(&docker).iter().any(other), "{:?}", heard(&docker));
    assert!(!heard(&cluster).is_empty() && !heard(&cluster).iter().any(other), "{:?}", heard(&cluster));
    assert!(plan["fingerprints"]["k8s"].as_str().is_some_and(|id| id.starts_with("http://127.0.0.1:")));
    let left: Vec<_> = std::fs::read_dir(done.project.path().join("at")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["old"]);
    assert_eq!(std::fs::read_to_string(done.project.path().join("at/old")).unwrap(), "old\n");
    let done = done.then(["history", "--json"]).succeeds();
    assert_eq!(done.stdout.trim(), "[]");
}

/// The calls that would change a file, as the kernel sees them.
const CHANGING: &str = "execve,execveat,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,\
chmod,fchmod,fchmodat,chown,fchown,fchownat,lchown,truncate,ftruncate,open,openat,openat2,creat,kill";

#[test]
fn the_kernel_sees_no_change_either() {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|output| output.status.success());
    if !works {
        return;
    }
    let World { project, .. } = world();
    let trace = project.path().join("trace");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-s", "256", "-e", &format!("trace={CHANGING}"), "-o"])
        .arg(&trace)
        .args([env!("CARGO_BIN_EXE_runbook"), "plan", "everything"])
        .current_dir(project.path())
        .env("RUNBOOK_STATE_DIR", project.state())
        .env("HOME", project.path())
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let trace = std::fs::read_to_string(trace).unwrap();
    let state = project.state().display().to_string();
    assert!(trace.contains(&state), "the trace sees nothing");
    let started: Vec<&str> =
        trace.lines().filter(|line| line.contains("execve") && !line.contains("runbook\"") && !line.contains("resumed>")).collect();
    assert!(started.is_empty(), "{started:#?}");
    let reads = ["O_RDONLY", "O_PATH"];
    let changed: Vec<&str> = trace
        .lines()
        .filter(|line| !line.contains("execve") && !line.contains("resumed>") && !line.contains("ENOENT"))
        .filter(|line| !line.contains(" open") || !reads.iter().any(|word| line.contains(word)))
        // The store keeps the plan. Lines without a path are about files that are open already, which are the store's.
        .filter(|line| !line.contains(&state) && !line.contains("/dev/null") && line.contains('"'))
        .filter(|line| !line.contains("/sys/fs/cgroup") && !line.contains("/proc/self"))
        .collect();
    assert!(changed.is_empty(), "{changed:#?}");
}
