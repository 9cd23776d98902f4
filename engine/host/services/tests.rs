use serde_json::{Value, json};

use crate::error::Kind;
use crate::host::docker::fake::{FakeEngine, container};
use crate::host::testing::Bench;
use crate::host::value::plain;
use crate::host::{Mode, Secrets};
use crate::model::System;
use crate::model::system::{Manager, Service, Services};

fn system(manager: Manager, engine: Option<&FakeEngine>) -> System {
    let replicas = Service { replicas: Some(2), ..Service::default() };
    let renamed = Service { unit: Some("postgres".to_owned()), ..Service::default() };
    let optional = Service { optional: true, ..Service::default() };
    let each = [("web", replicas), ("db", renamed), ("mail", optional), ("cache", Service::default())];
    System {
        name: "shop".to_owned(),
        services: Services {
            manager,
            project: "shop".to_owned(),
            docker_host: engine.map(FakeEngine::address).unwrap_or_default(),
            each: each.map(|(name, service)| (name.to_owned(), service)).into(),
            ..Services::default()
        },
        ..System::default()
    }
}

fn bench(manager: Manager, engine: Option<&FakeEngine>, allow: Value, mode: Mode) -> Bench {
    Bench::with(allow, system(manager, engine), Secrets::default(), mode)
}

fn engine() -> FakeEngine {
    FakeEngine::new(vec![
        container("shop_web_1", "shop", "web", "running", &json!({ "health": "healthy" })),
        container("shop_web_2", "shop", "web", "running", &json!({ "health": "unhealthy" })),
        container("shop_web_run_1", "shop", "web", "exited", &json!({ "labels": { "com.docker.compose.oneoff": "True" }, "exit_code": 1 })),
        container("shop_postgres_1", "shop", "postgres", "running", &json!({})),
        container("other_cache_1", "other", "cache", "running", &json!({})),
        container("shop_Upper_1", "shop", "Upper", "exited", &json!({ "exit_code": 3 })),
        container("shop_extra_1", "shop", "extra", "running", &json!({})),
    ])
}

#[test]
fn every_service_is_judged_and_what_is_beside_them_is_told() {
    let engine = engine();
    let bench = bench(Manager::Compose, Some(&engine), json!({ "docker": ["*"] }), Mode::Apply);
    let list = plain(&bench.eval("service::list()").unwrap()).unwrap();
    let told: Vec<Value> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!([one["name"], one["running"], one["state"], one["problem"], one["info"]]))
        .collect();
    assert_eq!(
        told,
        [
            json!(["cache", 0, "absent", "0 of 1 running", null]),
            json!(["db", 1, "running", null, null]),
            json!(["mail", 0, "absent", null, null]),
            json!(["web", 2, "running", "`shop_web_2` is running but its health is unhealthy", null]),
            json!(["Upper", 0, "exited", "not in the system file: `shop_Upper_1` has exited (exit code 3)", null]),
            json!(["extra", 1, "running", null, "not in the system file: `shop_extra_1` is running"]),
        ]
    );
}

#[test]
fn grants_for_services_are_enough_and_no_more_is_seen() {
    let engine = engine();
    let allow = json!({ "docker": ["inspect:${services.*}", "restart:db"] });
    let bench = bench(Manager::Compose, Some(&engine), allow, Mode::Apply);
    assert_eq!(plain(&bench.eval("service::list()").unwrap()).unwrap().as_array().unwrap().len(), 4);
    assert_eq!(bench.error(r#"service::restart("web")"#).kind, Kind::Denied);
    assert_eq!(plain(&bench.eval(r#"service::restart("db")"#).unwrap()).unwrap(), json!(["shop_postgres_1"]));
    let restarts: Vec<String> = engine.calls().into_iter().filter(|call| call.starts_with("POST")).collect();
    assert_eq!(restarts.len(), 1, "{restarts:?}");
}

#[test]
fn an_unknown_service_is_an_error_and_never_means_all() {
    let engine = engine();
    let bench = bench(Manager::Compose, Some(&engine), json!({ "docker": ["*", "restart:*"] }), Mode::Apply);
    let error = bench.error(r#"service::state("caches")"#);
    assert_eq!((error.kind, error.hints[0].as_str()), (Kind::NotFound, "did you mean `cache`?"));
    for name in ["", "*", "shop_web_1", "Upper"] {
        assert_eq!(bench.error(&format!("service::restart({name:?})")).kind, Kind::NotFound, "{name}");
    }
    assert!(engine.calls().is_empty());
}

#[test]
fn a_plan_of_a_restart_names_the_containers() {
    let engine = engine();
    let bench = bench(Manager::Compose, Some(&engine), json!({ "docker": ["restart:*"] }), Mode::Plan);
    assert_eq!(plain(&bench.eval(r#"service::restart("web")"#).unwrap()).unwrap(), json!(["shop_web_1", "shop_web_2"]));
    let told = serde_json::to_string(&bench.recorder.events()).unwrap();
    assert!(told.contains("restart containers `shop_web_1` (as the list says), `shop_web_2` (as the list says)"), "{told}");
    assert!(engine.calls_beyond_the_list().is_empty());
}

#[test]
fn without_a_grant_nothing_is_connected() {
    let engine = engine();
    for manager in [Manager::Compose, Manager::Systemd, Manager::Processes] {
        let bench = bench(manager, Some(&engine), json!({}), Mode::Apply);
        for call in ["service::list()", r#"service::state("web")"#, r#"service::stats("web")"#] {
            assert_eq!(bench.error(call).kind, Kind::Denied, "{call}");
        }
    }
    assert!(engine.calls().is_empty());
}

#[test]
fn what_manages_nothing_here_says_so() {
    for manager in [Manager::Kubernetes, Manager::None] {
        let bench = bench(manager, None, json!({ "docker": ["*"] }), Mode::Apply);
        assert_eq!(bench.error("service::list()").kind, Kind::Conflict);
    }
    let nothing = Bench::new(json!({}));
    assert_eq!(plain(&nothing.eval("service::list()").unwrap()).unwrap(), json!([]));
}

#[test]
fn a_plain_process_is_judged_by_its_pid_file() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("self.pid");
    std::fs::write(&path, std::process::id().to_string()).unwrap();
    let mut system = system(Manager::Processes, None);
    let with_file = |path: &std::path::Path| Service { pid_file: Some(path.display().to_string()), ..Service::default() };
    system.services.each =
        [("here".to_owned(), with_file(&path)), ("gone".to_owned(), with_file(&directory.path().join("gone.pid")))].into();
    let bench = Bench::with(json!({ "sys": ["processes"] }), system, Secrets::default(), Mode::Apply);
    let list = plain(&bench.eval("service::list()").unwrap()).unwrap();
    assert_eq!((&list[0]["problem"], &list[1]["problem"]), (&json!("0 of 1 running"), &Value::Null));
    let stats = plain(&bench.eval(r#"service::stats("here", #{ over: "100ms" })"#).unwrap()).unwrap();
    assert!(stats["memory"].as_u64().unwrap() > 0 && stats["cpu"].is_number(), "{stats}");
    assert_eq!(bench.error(r#"service::restart("here")"#).kind, Kind::Conflict);
}

/// Two healthy replicas of `web` on a network, and what their host settings are.
fn replicas(host: &Value) -> FakeEngine {
    let replica = |number: u32| {
        let networks = json!({ "shop_default": { "Aliases": ["web", "0000", format!("shop_web_{number}")], "IPAddress": "172.18.0.9" } });
        let about = json!({
            "health": "healthy", "host": host, "networks": networks,
            "labels": { "com.docker.compose.container-number": number.to_string() },
        });
        container(&format!("shop_web_{number}"), "shop", "web", "running", &about)
    };
    let engine = FakeEngine::new(vec![replica(1), replica(2)]);
    engine.makes("healthy");
    engine
}

fn names(engine: &FakeEngine) -> Vec<String> {
    engine.containers().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

fn scaling(engine: &FakeEngine) -> Bench {
    bench(Manager::Compose, Some(engine), json!({ "docker": ["scale:web"] }), Mode::Apply)
}

#[test]
fn a_replica_is_made_like_the_others_and_the_last_ones_go() {
    let engine = replicas(&json!({ "NetworkMode": "shop_default", "Binds": ["data:/data:rw", format!("{}:/tmp/x:rw", "ab".repeat(32))] }));
    let bench = scaling(&engine);
    let scaled = plain(&bench.eval(r#"service::scale("web", 4)"#).unwrap()).unwrap();
    assert_eq!((&scaled["before"], &scaled["after"], &scaled["created"]), (&json!(2), &json!(4), &json!(["shop_web_3", "shop_web_4"])));
    assert_eq!(names(&engine), ["shop_web_1", "shop_web_2", "shop_web_3", "shop_web_4"]);
    let made = &engine.containers()[2]["made_of"];
    assert_eq!(made["Labels"]["com.docker.compose.container-number"], "3");
    assert_eq!((&made["Labels"]["com.docker.compose.service"], &made["Image"]), (&json!("web"), &json!("sha256:1")));
    assert_eq!(made["Hostname"], Value::Null, "it has a name of its own");
    assert_eq!(made["HostConfig"]["Binds"], json!(["data:/data:rw"]), "the unnamed volume is of the other container");
    assert_eq!(made["NetworkingConfig"]["EndpointsConfig"]["shop_default"]["Aliases"], json!(["web", "0000"]));
    let state = plain(&bench.eval(r#"service::state("web").running"#).unwrap()).unwrap();
    assert_eq!(state, 4);
    let scaled = plain(&bench.eval(r#"service::scale("web", 1)"#).unwrap()).unwrap();
    assert_eq!(scaled["removed"], json!(["shop_web_4", "shop_web_3", "shop_web_2"]));
    assert_eq!(names(&engine), ["shop_web_1"]);
}

#[test]
fn a_plan_of_scaling_says_from_what_to_what_and_the_same_number_changes_nothing() {
    let engine = replicas(&json!({}));
    let bench = bench(Manager::Compose, Some(&engine), json!({ "docker": ["scale:web"] }), Mode::Plan);
    let _ = bench.eval(r#"service::scale("web", 3)"#).unwrap();
    let _ = bench.eval(r#"service::scale("web", 2)"#).unwrap();
    let told = serde_json::to_string(&bench.recorder.events()).unwrap();
    assert!(told.contains("scale `web` from 2 to 3: create `shop_web_3`") && told.contains(r"-replicas: 2\n+replicas: 3"), "{told}");
    assert!(told.contains("leave `web` at 2 replicas") && told.contains(r#""idle":true"#), "{told}");
    assert!(engine.calls().iter().all(|call| call.starts_with("GET")), "{:?}", engine.calls());
}

#[test]
fn replicas_that_do_not_become_healthy_are_taken_away_again() {
    let engine = replicas(&json!({}));
    engine.makes("unhealthy");
    let error = scaling(&engine).error(r#"service::scale("web", 3, #{ timeout: "300ms" })"#);
    assert_eq!(error.kind, Kind::Timeout);
    assert!(error.message.contains("`shop_web_3` is running, health unhealthy"), "{}", error.message);
    assert_eq!(names(&engine), ["shop_web_1", "shop_web_2"]);
}

#[test]
fn replicas_that_stopped_are_started_before_one_is_made() {
    let more = json!({ "health": "healthy", "labels": { "com.docker.compose.container-number": "2" } });
    let engine = FakeEngine::new(vec![
        container("shop_web_1", "shop", "web", "running", &json!({ "health": "healthy" })),
        container("shop_web_2", "shop", "web", "exited", &more),
    ]);
    let scaled = plain(&scaling(&engine).eval(r#"service::scale("web", 2)"#).unwrap()).unwrap();
    assert_eq!((&scaled["before"], &scaled["started"], &scaled["created"]), (&json!(1), &json!(["shop_web_2"]), &json!([])));
}

#[test]
fn what_there_can_be_one_of_is_not_copied_but_may_shrink() {
    let fixed = json!({ "PortBindings": { "8000/tcp": [{ "HostIp": "", "HostPort": "8000" }] } });
    let engine = replicas(&fixed);
    let bench = scaling(&engine);
    let error = bench.error(r#"service::scale("web", 3)"#);
    assert!(error.kind == Kind::Conflict && error.message.contains("port 8000"), "{}", error.message);
    let _ = bench.eval(r#"service::scale("web", 1)"#).unwrap();
    let named = FakeEngine::new(vec![container("the-web", "shop", "web", "running", &json!({}))]);
    let error = scaling(&named).error(r#"service::scale("web", 2)"#);
    assert!(error.kind == Kind::Conflict && error.message.contains("fixed name `the-web`"), "{}", error.message);
    assert_eq!(names(&named), ["the-web"]);
}

#[test]
fn only_a_granted_service_is_scaled_and_only_to_a_number_that_can_be_meant() {
    let engine = replicas(&json!({}));
    let bench = bench(Manager::Compose, Some(&engine), json!({ "docker": ["inspect:*", "restart:*"] }), Mode::Apply);
    assert_eq!(bench.error(r#"service::scale("web", 3)"#).kind, Kind::Denied);
    for count in [-1, 0, 101] {
        assert_eq!(scaling(&engine).error(&format!(r#"service::scale("web", {count})"#)).kind, Kind::Invalid, "{count}");
    }
    assert!(engine.calls().is_empty());
}

#[test]
fn units_and_processes_are_not_scaled() {
    let allow = json!({ "systemd": ["status:*"], "sys": ["processes"] });
    for manager in [Manager::Systemd, Manager::Processes, Manager::None] {
        assert_eq!(bench(manager, None, allow.clone(), Mode::Apply).error(r#"service::scale("web", 2)"#).kind, Kind::Conflict);
    }
}

#[test]
fn a_service_that_is_stopped_is_started_where_that_is_granted() {
    let engine = engine();
    let bench = bench(Manager::Compose, Some(&engine), json!({ "docker": ["inspect:*", "start:db"] }), Mode::Apply);
    assert_eq!(bench.error(r#"service::start("web")"#).kind, Kind::Denied);
    assert_eq!(bench.error(r#"service::start("dbx")"#).kind, Kind::NotFound);
    assert_eq!(plain(&bench.eval(r#"service::start("db")"#).unwrap()).unwrap(), json!(["shop_postgres_1"]));
    let started: Vec<String> = engine.calls().into_iter().filter(|call| call.starts_with("POST")).collect();
    assert!(matches!(&started[..], [call] if call.ends_with("/start")), "{started:?}");
}
