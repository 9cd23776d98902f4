//! Messages from a script to the wire, against the lab's sink: what a dead, slow or lying channel does
//! to them, and that none of it touches the run.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::sink::Sink;
use crate::harness::{Done, Project, wait_until};

const SENDS: &str = r#"
runbook(#{
    title: "sends",
    params: #{ first: #{ type: "int", def: 0 }, count: #{ type: "int", def: 1 }, level: #{ def: "warning" }, stay: #{ type: "bool" } },
    allow: #{ notify: ["${contacts.*}"] },
});
for i in params::first..(params::first + params::count) { notify::send(params::level, #{ subject: `event ${i}` }); }
if params::stay { wait("1h"); }
"#;
const NOTHING: &str = "runbook(#{ title: \"nothing\" });";

/// A project with a system `shop` whose people are reached in these ways; `warning` goes to the first.
fn shop(contacts: &[(&str, String)]) -> Project {
    routed(&contacts[..1], contacts)
}

/// The same with a route of one's own.
fn routed(route: &[(&str, String)], contacts: &[(&str, String)]) -> Project {
    let names: Vec<&str> = route.iter().map(|(name, _)| *name).collect();
    let mut system = format!("title = \"Shop\"\nlanguage = \"en\"\n[severity.sev1]\nlabel = \"P0\"\n[routes]\nwarning = {names:?}\n");
    for (name, table) in contacts {
        system += &format!("[contacts.{name}]\n{table}\n");
    }
    Project::new()
        .file("runbooks/systems/shop.toml", &system)
        .runbook("sends", SENDS)
        .runbook("nothing", NOTHING)
        .file("runbook.toml", "default_system = \"shop\"\n[secrets.robot]\nenv = \"ROBOT\"\n")
}

fn hook(url: &str) -> String {
    format!("kind = \"webhook\"\nurl = \"{url}\"\nper_minute = 1000")
}

fn killed(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn log_says(project: &Project, run: u32, text: &str) -> bool {
    std::fs::read_to_string(project.state().join(format!("runs/{run}/log.jsonl"))).is_ok_and(|log| log.contains(text))
}

/// How the outbox stands.
fn standing(done: Done) -> (Done, Value) {
    let done = done.then(["run", "notify", "--json", "-p", "mode=status"]).env("ROBOT", "SEC-of-the-robot").run();
    let standing = done.json()["outputs"]["outbox"].clone();
    (done, standing)
}

#[test]
fn a_dead_sink_and_two_kills_lose_no_event_double_none_and_keep_their_order() {
    let sink = Sink::new();
    let contacts = [("hook", hook(&sink.url("webhook"))), ("other", hook(&sink.url("sms")))];
    let project = routed(&contacts, &contacts);
    let mut kept = None;
    let sink = sink.dead_during(|| {
        let done = project.command(["run", "sends", "-p", "count=40"]).succeeds();
        assert!(done.took < Duration::from_secs(20), "{:?}", done.took);
        let project = done.talks("40 messages wait for `hook` of shop").project;
        let child = project.start(&["run", "sends", "-p", "first=40", "-p", "count=30", "-p", "stay=true"]);
        wait_until("all are in the outbox", || log_says(&project, 2, "notify::send other#30\",\"outcome"));
        killed(child);
        kept = Some(project);
    });
    let project = kept.unwrap();
    // Killed with one message on its way to each channel, which has read it and says nothing. One that it
    // had accepted would come twice, with the same identity.
    sink.mode(&json!({ "channel": "all", "mode": "hang" }));
    let child = project.start(&["run", "sends", "-p", "first=70", "-p", "count=30"]);
    wait_until("a message is on its way to each", || !sink.got("webhook").is_empty() && !sink.got("sms").is_empty());
    killed(child);
    sink.mode(&json!({ "channel": "all", "mode": "ok" }));
    let mut done = project.command(["run", "nothing"]).succeeds();
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let (next, standing) = standing(done);
        done = next.then(["run", "nothing"]).succeeds();
        if standing["queued"] == 0 {
            break;
        }
        assert!(Instant::now() < until, "{standing}");
    }
    for channel in ["webhook", "sms"] {
        let subjects: Vec<String> = sink.accepted(channel).iter().map(|got| got["json"]["subject"].as_str().unwrap().to_owned()).collect();
        let expected: Vec<String> = (0..100).map(|number| format!("event {number}")).collect();
        assert_eq!(subjects, expected, "{channel}");
        let (on_its_way, again) = (&sink.got(channel)[0], &sink.accepted(channel)[0]);
        assert_eq!(on_its_way["json"]["id"], again["json"]["id"], "a copy is recognisable");
    }
}

#[test]
fn two_runs_at_once_deliver_each_message_once() {
    let sink = Sink::new();
    let project = shop(&[("hook", hook(&sink.url("webhook")))]);
    let children: Vec<Child> =
        (0..4).map(|first| project.start(&["run", "sends", "-p", &format!("first={}", first * 5), "-p", "count=5"])).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let _ = project.command(["run", "nothing"]).succeeds();
    let mut subjects: Vec<String> = sink.accepted("webhook").iter().map(|got| got["json"]["subject"].to_string()).collect();
    assert_eq!(subjects.len(), 20);
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), 20);
}

#[test]
fn a_robot_that_says_no_with_http_200_has_not_taken_the_message() {
    let sink = Sink::new();
    let robot = format!("kind = \"dingtalk\"\nurl = \"{}?access_token=x\"\nsecret = \"${{secret:robot}}\"", sink.url("dingtalk"));
    let project = shop(&[("robot", robot)]);
    let signed = |project: Project| project.command(["run", "sends"]).env("ROBOT", "SEC-of-the-robot").succeeds();
    let done = signed(project).talks("sent 1 message to `robot` of shop");
    assert_eq!(sink.accepted("dingtalk").len(), 1, "the sink verifies the signature");
    let done = done.then(["run", "sends"]).env("ROBOT", "SEC-of-another").succeeds();
    let done = done.talks("1 message for `robot` of shop was given up").talks("sign not match");
    sink.mode(&json!({ "channel": "dingtalk", "mode": "errcode", "code": 130_101 }));
    let done = signed(done.project).talks("1 message waits for `robot` of shop").talks("130101");
    let (_, standing) = standing(done);
    assert_eq!((&standing["queued"], &standing["delivered"], &standing["dead"]), (&json!(1), &json!(1), &json!(1)), "{standing}");
    assert_eq!(sink.accepted("dingtalk").len(), 1);
}

#[test]
fn a_channel_that_says_when_gets_the_message_then() {
    let sink = Sink::new();
    sink.mode(&json!({ "channel": "slack", "mode": "429", "retry_after": 2, "times": 1 }));
    let project = shop(&[("slack", format!("kind = \"slack\"\nurl = \"{}\"", sink.url("slack")))]);
    let done = project.command(["run", "sends", "-p", "count=2"]).succeeds().talks("sent 2 messages to `slack` of shop");
    let times: Vec<f64> = sink.got("slack").iter().map(|got| got["at"].as_f64().unwrap()).collect();
    assert!(times[1] - times[0] >= 1.9 && times[2] - times[1] >= 0.9, "{times:?}");
    assert!(sink.accepted("slack")[0]["body"].as_str().unwrap().contains("event 0"), "order is kept");
    drop(done);
}

#[test]
fn a_channel_that_is_gone_is_given_up_at_once_and_its_fallback_told() {
    for status in ["404", "410"] {
        is_given_up_at_once(status);
    }
}

fn is_given_up_at_once(status: &str) {
    let sink = Sink::new();
    sink.mode(&json!({ "channel": "slack", "mode": status }));
    let slack = format!("kind = \"slack\"\nurl = \"{}\"\nfallback = \"mail\"", sink.url("slack"));
    let done = shop(&[("slack", slack), ("mail", sink.mail())]).command(["run", "sends"]).succeeds();
    let done = done.talks("1 message for `slack` of shop was given up").talks("`mail` is told instead").talks("sent 1 message to `mail`");
    assert_eq!(sink.got("slack").len(), 1);
    let mail = &sink.accepted("smtp")[0];
    assert_eq!((&mail["tls"], &mail["headers"]["Subject"]), (&json!(true), &json!("[warning] event 0")));
    assert!(mail["body"].as_str().unwrap().contains("not delivered to `slack`"), "{mail}");
    drop(done);
}

#[test]
fn mail_without_the_promised_encryption_is_not_sent_and_shows_no_password() {
    let sink = Sink::new();
    sink.mode(&json!({ "channel": "smtp", "mode": "stripped-starttls" }));
    let mail = sink.mail().replace("smtp://", "smtp://maya@") + "\npassword = \"${secret:robot}\"";
    let done = shop(&[("mail", mail)]).command(["run", "sends"]).env("ROBOT", "not-for-the-wire").succeeds();
    let _ = done.talks("the server does not offer STARTTLS; nothing was sent");
    let sessions = sink.got("smtp");
    let commands: Vec<&str> =
        sessions.iter().flat_map(|session| session["commands"].as_array().unwrap()).filter_map(Value::as_str).collect();
    assert!(commands.iter().all(|command| command.starts_with("EHLO") || command.starts_with("QUIT")), "{commands:?}");
}

#[test]
fn mail_goes_to_no_server_of_another_name() {
    let sink = Sink::new();
    // Its certificate is for `localhost`.
    let mail = sink.mail().replace("smtp://localhost", "smtp://maya@127.0.0.1") + "\npassword = \"${secret:robot}\"";
    let done = shop(&[("mail", mail)]).command(["run", "sends"]).env("ROBOT", "not-for-the-wire").succeeds();
    let _ = done.talks("1 message for `mail` of shop was given up").talks("nothing was sent");
    let sessions = sink.got("smtp");
    assert!(sessions.iter().all(|session| session["auth"] == Value::Null && session["accepted"] == false), "{sessions:?}");
    let commands: Vec<&str> =
        sessions.iter().flat_map(|session| session["commands"].as_array().unwrap()).filter_map(Value::as_str).collect();
    assert!(commands.iter().all(|command| ["EHLO", "STARTTLS", "QUIT"].iter().any(|word| command.starts_with(word))), "{commands:?}");
    let recorded = serde_json::to_string(&sessions).unwrap();
    assert!(!recorded.contains("event 0") && !recorded.contains("not-for-the-wire"), "{recorded}");
}

#[test]
fn two_hundred_alerts_are_a_digest_on_the_wire_and_none_is_lost() {
    let sink = Sink::new();
    let robot = format!("kind = \"dingtalk\"\nurl = \"{}?access_token=x\"\nsecret = \"${{secret:robot}}\"", sink.url("dingtalk"));
    let mut project = shop(&[("robot", robot)]);
    for (first, count) in [(0, 1), (1, 3), (4, 96), (100, 100)] {
        let (first, count) = (format!("first={first}"), format!("count={count}"));
        let command = project.command(["run", "sends", "-p", &first, "-p", &count]);
        project = command.env("ROBOT", "SEC-of-the-robot").succeeds().project;
    }
    let (_, standing) = standing(project.command(["run", "nothing"]).env("ROBOT", "SEC-of-the-robot").succeeds());
    assert_eq!((&standing["queued"], &standing["delivered"], &standing["dead"]), (&json!(0), &json!(200), &json!(0)), "{standing}");
    let (got, taken) = (sink.got("dingtalk"), sink.accepted("dingtalk"));
    assert!(got.len() <= 20 && got.len() == taken.len(), "{} messages", got.len());
    // Each message says of how many events it tells.
    let told: usize = taken.iter().map(|message| events(&message["json"].to_string())).sum();
    assert_eq!(told, 200);
}

/// How many events a message tells of: those its digest counts, or one.
fn events(text: &str) -> usize {
    let counted = text.split_once(" messages: ").map(|(before, _)| before.rsplit(|letter: char| !letter.is_ascii_digit()).next());
    counted.flatten().and_then(|count| count.parse().ok()).unwrap_or(1)
}

#[test]
fn a_subject_can_not_add_a_header_or_a_recipient() {
    let sink = Sink::new();
    let project = shop(&[("mail", sink.mail())]);
    let subject = "subject=disk\r\nBcc: eve@example.com\r\n\r\nfull";
    let done = project.command(["run", "notify", "--json", "-p", subject, "-p", "message=x"]).exits(1);
    let error = done.json()["error"].clone();
    assert!(error["kind"] == "invalid" && error["message"].as_str().unwrap().contains("line break"), "{error}");
    let scripts = ["send(\"mail\", #{ subject: S", "test(\"mail\", #{ subject: S", "preview(\"mail\", #{ subject: S"];
    let mut project = done.project;
    for (number, script) in scripts.iter().enumerate() {
        for (which, end) in
            ["\\r\\nBcc: eve@example.com", "\\nBcc: eve@example.com", "\\rBcc: eve@example.com", "\\r\\n"].iter().enumerate()
        {
            let name = format!("bad{number}{which}");
            let call = script.replace('S', &format!("\"disk{end}\""));
            let text = format!("runbook(#{{ title: \"t\", allow: #{{ notify: [\"mail\"] }} }}); notify::{call}, text: \"x\" }});");
            let done = project.runbook(&name, &text).command(["run", &name, "--json"]).exits(1);
            assert_eq!(done.json()["error"]["kind"], "invalid", "{call}");
            project = done.project;
        }
    }
    // Elsewhere it is text, or is refused with the address.
    let fact = "facts=a\r\nBcc: eve@example.com=b";
    let done = project.command(["run", "notify", "-p", "subject=disk", "-p", fact, "-p", "message=x\r\nBcc: eve@example.com"]).succeeds();
    let mail = &sink.accepted("smtp")[0];
    assert_eq!((&mail["to"], &mail["headers"]["Bcc"]), (&json!(["ops@example.com"]), &Value::Null));
    assert_eq!(sink.got("smtp").len(), 1);
    drop(done);
}

#[test]
fn a_black_hole_holds_up_neither_the_run_nor_its_answer() {
    let sink = Sink::new();
    sink.mode(&json!({ "channel": "smtp", "mode": "hang" }));
    let project = shop(&[("mail", sink.mail()), ("hook", hook(&sink.url("webhook")))]);
    let started = Instant::now();
    let mut child = project.start(&["run", "sends", "--json"]);
    let answer: Value = serde_json::Deserializer::from_reader(child.stdout.take().unwrap()).into_iter().next().unwrap().unwrap();
    let answered = started.elapsed();
    assert_eq!(answer["status"], "succeeded");
    let recorded = project.command(["report", "--json"]).succeeds();
    assert_eq!(recorded.json()["status"], "succeeded", "the end is durable");
    // Another run meets the first one delivering, and does not wait for it.
    let second = recorded.then(["run", "sends"]).succeeds().talks("another runbook delivers at the moment");
    assert!(second.took < Duration::from_secs(4), "{:?}", second.took);
    let output = child.wait_with_output().unwrap();
    assert!(answered < Duration::from_secs(4) && started.elapsed() < Duration::from_secs(30), "{answered:?} {:?}", started.elapsed());
    assert!(String::from_utf8_lossy(&output.stderr).contains("messages wait for `mail` of shop"), "{output:?}");
}

#[test]
fn an_interrupt_leaves_messages_for_later() {
    let sink = Sink::new();
    sink.mode(&json!({ "channel": "webhook", "mode": "hang" }));
    let project = shop(&[("hook", hook(&sink.url("webhook")))]);
    let child = project.start(&["run", "sends"]);
    wait_until("the message is on its way", || !sink.got("webhook").is_empty());
    let interrupted = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "the run had succeeded");
    assert!(interrupted.elapsed() < Duration::from_secs(3));
    sink.mode(&json!({ "channel": "webhook", "mode": "ok" }));
    let _ = project.command(["run", "nothing"]).succeeds().talks("sent 1 message to `hook` of shop");
}

#[test]
fn a_flush_delivers_within_the_run_and_can_be_cancelled() {
    let sink = Sink::new();
    let flushes = "runbook(#{ title: \"t\", allow: #{ notify: [\"hook\", \"outbox\"] } });
        notify::send(\"hook\", #{ subject: \"now\" }); output(\"standing\", notify::flush());";
    let project = shop(&[("hook", hook(&sink.url("webhook")))]).runbook("flushes", flushes);
    let done = project.command(["run", "flushes", "--json"]).succeeds();
    let standing = done.json()["outputs"]["standing"].clone();
    assert_eq!((&standing["queued"], &standing["delivered"]), (&json!(0), &json!(1)));
    sink.mode(&json!({ "channel": "webhook", "mode": "hang" }));
    let child = done.project.start(&["run", "flushes"]);
    wait_until("the message is on its way", || sink.got("webhook").len() == 2);
    let interrupted = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    wait_until("the run is over", || log_says(&done.project, 2, "\"cancelled\""));
    assert!(interrupted.elapsed() < Duration::from_secs(3));
    sink.mode(&json!({ "channel": "webhook", "mode": "ok" }));
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
}

#[test]
fn what_is_not_granted_is_not_sent_and_the_same_is_said_once() {
    let sink = Sink::new();
    let project = shop(&[("hook", hook(&sink.url("webhook"))), ("other", hook(&sink.url("sms")))]);
    let text = "runbook(#{ title: \"t\", allow: #{ notify: [\"hook\"] } });
        for i in 0..50 { notify::send(\"hook\", #{ subject: `try ${i}`, dedupe: \"disk\" }); }
        notify::send(\"other\", #{ subject: \"x\" });";
    let done = project.runbook("test", text).command(["run", "test", "--json"]).exits(1);
    assert_eq!(done.json()["error"]["kind"], "denied");
    assert_eq!((sink.accepted("webhook").len(), sink.got("sms").len()), (1, 0));
}

#[test]
fn a_message_arrives_as_it_was_written_with_the_severity_of_the_system() {
    let sink = Sink::new();
    let project = shop(&[("hook", hook(&sink.url("webhook")))]);
    let text = "say \"hi\", it's $(x) `y` \\ {{ z }}\n第二行：数据库连接失败";
    let message = format!("message={text}");
    let done = project
        .command(["run", "notify", "-p", "to=hook", "-p", "level=sev1", "-p", "subject=数据库", "-p", &message, "-p", "facts=host=db-1"])
        .succeeds();
    let got = &sink.accepted("webhook")[0]["json"];
    assert_eq!((&got["subject"], &got["detail"], &got["facts"]["host"]), (&json!("[P0] Shop: 数据库"), &json!(text), &json!("db-1")));
    let fields = ["-p", "recovered=16:15", "-p", "cause=pool", "-p", "solution=restart", "-p", "prevention=an alert"];
    let notice = ["run", "notify", "-p", "to=hook", "-p", "template=recovery"].into_iter().chain(fields);
    let done = done.then(notice).succeeds();
    assert!(sink.accepted("webhook")[1]["json"]["detail"].as_str().unwrap().contains("an alert"));
    let _ = done.then(["run", "notify", "-p", "template=fault"]).exits(1).talks("the notice `fault` needs `started`");
}

#[test]
fn a_test_asks_every_channel_and_tells_the_fallback_of_one_that_fails() {
    let sink = Sink::new();
    sink.mode(&json!({ "channel": "slack", "mode": "500" }));
    let slack = format!("kind = \"slack\"\nurl = \"{}\"\nfallback = \"hook\"", sink.url("slack"));
    let boss = "kind = \"person\"\nwho = \"Maya\"".to_owned();
    let project = shop(&[("slack", slack), ("hook", hook(&sink.url("webhook"))), ("boss", boss)]);
    let done = project.command(["run", "notify", "--json", "-p", "mode=test"]).exits(1);
    let json = done.json();
    let levels: Vec<(&str, &str)> = json["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| (check["name"].as_str().unwrap(), check["level"].as_str().unwrap()))
        .collect();
    assert_eq!(levels, [("channel hook", "ok"), ("channel slack", "critical")]);
    let told = sink.accepted("webhook");
    assert_eq!((told.len(), &told[1]["json"]["subject"]), (2, &json!("the channel slack does not deliver")));
}
