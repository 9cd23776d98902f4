use rhai::Dynamic;
use serde_json::{Value, json};

use super::fake::{FakeEngine, container};
use crate::error::Kind;
use crate::host::testing::Bench;
use crate::host::value::plain;
use crate::host::{Mode, Secrets};
use crate::model::System;
use crate::model::system::{Manager, Service, Services};

fn system(address: &str) -> System {
    System {
        name: "shop".to_owned(),
        services: Services {
            manager: Manager::Compose,
            project: "shop".to_owned(),
            docker_host: address.to_owned(),
            each: [("web".to_owned(), Service::default()), ("db".to_owned(), Service::default())].into(),
            ..Services::default()
        },
        ..System::default()
    }
}

/// `shop` with two replicas of `web` and a `db`; another project with a `web`; a container outside of compose.
fn engine() -> FakeEngine {
    let none = json!({});
    let outside = json!({ "labels": { "com.docker.compose.project": null, "com.docker.compose.service": null, "tier": "edge" } });
    FakeEngine::new(vec![
        container("shop_web_1", "shop", "web", "running", &json!({ "health": "healthy", "restarts": 2 })),
        container("shop-web-2", "shop", "web", "running", &json!({ "labels": { "com.docker.compose.container-number": "2" } })),
        container("shop_db_1", "shop", "db", "running", &json!({ "health": "unhealthy", "labels": { "tier": "data" } })),
        container("shop_web_run_f00", "shop", "web", "exited", &json!({ "labels": { "com.docker.compose.oneoff": "True" } })),
        container("other_web_1", "other", "web", "running", &none),
        container("web2", "", "", "running", &outside),
        container("Upper", "shop", "Upper", "exited", &json!({ "exit_code": 3 })),
    ])
}

fn bench(engine: &FakeEngine, allow: Value) -> Bench {
    bench_in(engine, allow, Mode::Apply)
}

fn bench_in(engine: &FakeEngine, allow: Value, mode: Mode) -> Bench {
    Bench::with(allow, system(&engine.address()), Secrets::default(), mode)
}

fn read(value: Dynamic) -> Value {
    plain(&value).unwrap()
}

const EVERY_CALL: [&str; 13] = [
    "docker::containers()",
    r#"docker::inspect("web")"#,
    r#"docker::logs("web")"#,
    r#"docker::stats("web")"#,
    r#"docker::exec("web", ["true"])"#,
    r#"docker::restart("web")"#,
    r#"docker::start("web")"#,
    r#"docker::stop("web")"#,
    r#"docker::wait_healthy("web")"#,
    "docker::images()",
    "docker::disk()",
    "docker::info()",
    "docker::engine_id()",
];

#[test]
fn without_a_grant_nothing_is_connected() {
    let engine = engine();
    let bench = bench(&engine, json!({ "sys": ["*"] }));
    for call in EVERY_CALL {
        assert_eq!(bench.error(call).kind, Kind::Denied, "{call}");
    }
    assert!(engine.calls().is_empty(), "{:?}", engine.calls());
}

#[test]
fn a_grant_for_one_service_reaches_no_other_container_by_any_trick() {
    let engine = engine();
    let bench = bench(&engine, json!({ "docker": ["restart:web"] }));
    let id = container("shop_web_1", "", "", "", &json!({}))["id"].as_str().unwrap().to_owned();
    let tricks = [
        "web2",
        "/web",
        "we",
        "WEB",
        "",
        "db",
        "shop_db_1",
        "other_web_1",
        "shop_web_run_f00",
        "Upper",
        "../web",
        "label:tier=edge",
        "*",
        &id,
        &id[..12],
    ];
    for name in tricks {
        let error = bench.error(&format!("docker::restart({name:?})"));
        assert!(matches!(error.kind, Kind::Denied | Kind::NotFound), "{name}: {error}");
    }
    for call in [r#"docker::exec("web", ["sh"])"#, r#"docker::stop("web")"#, r#"docker::logs("web")"#, "docker::images()", "docker::disk()"]
    {
        assert_eq!(bench.error(call).kind, Kind::Denied, "{call}");
    }
    assert!(engine.calls_beyond_the_list().is_empty(), "{:?}", engine.calls_beyond_the_list());
}

#[test]
fn a_service_is_all_its_replicas_whatever_compose_calls_them() {
    let engine = engine();
    let bench = bench(&engine, json!({ "docker": ["restart:web"] }));
    assert_eq!(read(bench.eval(r#"docker::restart("web", #{ timeout: "5s" })"#).unwrap()), json!(["shop_web_1", "shop-web-2"]));
    assert_eq!(engine.calls_beyond_the_list().len(), 2);
}

#[test]
fn a_label_can_be_granted() {
    let engine = engine();
    let bench = bench(&engine, json!({ "docker": ["restart:label:tier=data"] }));
    assert_eq!(read(bench.eval(r#"docker::restart("db")"#).unwrap()), json!(["shop_db_1"]));
    assert_eq!(bench.error(r#"docker::restart("web2")"#).kind, Kind::Denied);
}

#[test]
fn a_plan_tells_the_containers_with_their_states_and_changes_nothing() {
    let engine = engine();
    let bench = bench_in(&engine, json!({ "docker": ["*:restart", "exec:web"] }), Mode::Plan);
    assert_eq!(read(bench.eval(r#"docker::restart("db")"#).unwrap()), json!(["shop_db_1"]));
    assert_eq!(read(bench.eval(r#"docker::exec("web", ["rm", "-rf", "/tmp/x"])"#).unwrap())["exit_code"], Value::Null);
    let told = serde_json::to_string(&bench.recorder.events()).unwrap();
    assert!(told.contains("restart container `shop_db_1` (as the list says)"), "{told}");
    assert!(told.contains("run `rm -rf /tmp/x` in container `shop_web_1`"), "{told}");
    assert!(engine.calls_beyond_the_list().is_empty());
}

#[test]
fn a_name_that_is_not_there_is_answered_with_one_that_was_meant_and_may_be_used() {
    let engine = engine();
    let bench = bench(&engine, json!({ "docker": ["inspect:shop_db_1"] }));
    let error = bench.error(r#"docker::inspect("shop_db_2")"#);
    assert_eq!((error.kind, error.hints[0].as_str()), (Kind::NotFound, "did you mean `shop_db_1`?"));
    assert!(!bench.error(r#"docker::inspect("other_web_2")"#).hints[0].contains("other_web_1"));
}

#[test]
fn containers_are_listed_in_every_state_as_far_as_the_grants_go() {
    let engine = engine();
    let all = read(bench(&engine, json!({ "docker": ["list"] })).eval("docker::containers()").unwrap());
    let states: Vec<_> =
        all.as_array().unwrap().iter().map(|one| (one["name"].as_str().unwrap(), one["state"].as_str().unwrap())).collect();
    assert_eq!(
        states,
        [
            ("Upper", "exited"),
            ("shop_db_1", "running"),
            ("shop_web_1", "running"),
            ("shop_web_run_f00", "exited"),
            ("shop-web-2", "running")
        ]
    );
    assert_eq!((&all[1]["health"], &all[4]["health"], &all[2]["restarts"]), (&json!("unhealthy"), &json!("none"), &json!(2)));
    assert_eq!((&all[0]["exit_code"], &all[1]["exit_code"]), (&json!(3), &Value::Null));
    let some = read(bench(&engine, json!({ "docker": ["logs:db"] })).eval(r#"docker::containers(#{ project: "*" })"#).unwrap());
    assert_eq!(some.as_array().unwrap().len(), 1);
}

#[test]
fn an_inspection_shows_no_values_of_the_environment() {
    let engine = engine();
    let details = read(bench(&engine, json!({ "docker": ["inspect:db"] })).eval(r#"docker::inspect("db")"#).unwrap());
    assert_eq!(details["env_names"], json!(["PASSWORD", "PATH"]));
    assert!(!details.to_string().contains("hunter22"));
}

#[test]
fn a_question_about_one_container_does_not_pick_one_of_several() {
    let engine = engine();
    let error = bench(&engine, json!({ "docker": ["inspect:web"] })).error(r#"docker::inspect("web")"#);
    assert_eq!(error.kind, Kind::Conflict);
    assert!(error.hints[0].contains("`shop_web_1` and `shop-web-2`"), "{:?}", error.hints);
}

#[test]
fn logs_have_both_streams_with_their_times() {
    let log = json!([["stdout", "2026-11-21T12:00:00.5Z started\n"], ["stderr", "2026-11-21T12:00:01Z ERROR: broken\n"]]);
    let engine = FakeEngine::new(vec![container("shop_db_1", "shop", "db", "running", &json!({ "log": log }))]);
    let lines = read(bench(&engine, json!({ "docker": ["logs:db"] })).eval(r#"docker::logs("db")"#).unwrap());
    assert_eq!(
        lines,
        json!([
            { "container": "shop_db_1", "time": "2026-11-21T12:00:00.5Z", "stream": "stdout", "text": "started" },
            { "container": "shop_db_1", "time": "2026-11-21T12:00:01Z", "stream": "stderr", "text": "ERROR: broken" },
        ])
    );
}

#[test]
fn waiting_ends_in_time_and_says_what_it_saw() {
    let engine = engine();
    let error = bench(&engine, json!({ "docker": ["inspect:db"] }))
        .error(r#"docker::wait_healthy("db", #{ timeout: "300ms", interval: "100ms" })"#);
    assert_eq!(error.kind, Kind::Timeout);
    assert!(error.message.contains("`shop_db_1` is running, health unhealthy"), "{error}");
}

#[test]
fn an_engine_that_is_not_there_is_told_with_what_helps() {
    let directory = tempfile::TempDir::new().unwrap();
    let socket = directory.path().join("docker.sock");
    let address = format!("unix://{}", socket.display());
    let bench = || Bench::with(json!({ "docker": ["list"] }), system(&address), Secrets::default(), Mode::Apply);
    let error = bench().error("docker::info()");
    assert_eq!(error.kind, Kind::Connect);
    assert!(error.hints[0].contains("docker_host"), "{:?}", error.hints);
    // A socket nobody listens on any more.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let error = bench().error("docker::info()");
    assert_eq!(error.kind, Kind::Connect, "{error}");
    assert!(error.message.contains("is not running"), "{error}");
}

#[test]
fn secrets_are_no_arguments() {
    let engine = engine();
    let bench = bench(&engine, json!({ "docker": ["exec:web"] }));
    let error = bench.error(r#"docker::exec("web", ["mysql", #{}])"#);
    assert_eq!(error.kind, Kind::Invalid);
    assert!(engine.calls().is_empty());
}
