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
    let bench = bench(Manager::None, None, json!({ "docker": ["*"] }), Mode::Apply);
    assert_eq!(bench.error("service::list()").kind, Kind::Conflict);
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

#[cfg(feature = "k8s")]
mod on_kubernetes {
    use super::*;
    use crate::host::k8s::fake::{FakeCluster, deployment, hpa};

    fn shop() -> FakeCluster {
        let mut objects = deployment("web", 3, &json!({}));
        objects.extend(deployment("shop-api", 1, &json!({})));
        objects.extend(deployment("extra", 1, &json!({})));
        FakeCluster::new(objects)
    }

    fn bench(cluster: &FakeCluster, allow: &[&str], mode: Mode) -> Bench {
        Bench::with(json!({ "k8s": allow }), cluster.system(), Secrets::default(), mode)
    }

    fn told(bench: &Bench) -> Vec<Value> {
        let list = plain(&bench.eval("service::list()").unwrap()).unwrap();
        list.as_array()
            .unwrap()
            .iter()
            .map(|one| json!([one["name"], one["expected"], one["running"], one["healthy"], one["problem"], one["info"]]))
            .collect()
    }

    #[test]
    fn a_service_is_its_deployment_and_judged_by_its_pods() {
        let cluster = shop();
        let all = bench(&cluster, &["read:*"], Mode::Apply);
        let extra = json!(["extra", 0, 1, 1, null, "not in the system file: `extra-hash2-1` is running"]);
        assert_eq!(told(&all), [json!(["api", 1, 1, 1, null, null]), json!(["web", 3, 3, 3, null, null]), extra]);
        let crashing = json!({ "status": {
            "conditions": [{ "type": "Ready", "status": "False" }],
            "containerStatuses": [{
                "name": "main", "image": "web:v2", "imageID": "", "ready": false, "restartCount": 6,
                "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "lastState": { "terminated": { "exitCode": 1, "reason": "Error" } },
            }],
        } });
        cluster.change("pods", "web-hash2-1", &crashing);
        cluster.change("pods", "web-hash2-2", &json!({ "metadata": { "deletionTimestamp": "2026-11-21T11:59:00Z" } }));
        let own = bench(&cluster, &["read:${services.*}"], Mode::Apply);
        let problem = "1 of 3 running; `web-hash2-1` is crash loop back off (exit code 1); `web-hash2-1` was restarted 6 times";
        assert_eq!(told(&own), [json!(["api", 1, 1, 1, null, null]), json!(["web", 3, 1, 1, problem, null])]);
    }

    #[test]
    fn a_pod_that_is_not_ready_comes_up_at_first_and_is_ill_later() {
        let cluster = shop();
        let not_ready = |started: &str| {
            json!({ "status": {
                "conditions": [{ "type": "Ready", "status": "False" }],
                "containerStatuses": [{ "name": "main", "image": "web:v2", "imageID": "", "ready": false, "restartCount": 0, "state": { "running": { "startedAt": started } } }],
            } })
        };
        let own = bench(&cluster, &["read:${services.*}"], Mode::Apply);
        own.ctx.stop_clock("2026-11-21T12:00:00Z".parse().unwrap());
        let state = || plain(&own.eval(r#"service::state("api")"#).unwrap()).unwrap();
        cluster.change("pods", "shop-api-hash2-1", &not_ready("2026-11-21T11:59:30Z"));
        assert_eq!((&state()["health"], &state()["starting"]), (&json!("starting"), &json!(true)));
        cluster.change("pods", "shop-api-hash2-1", &not_ready("2026-11-21T11:40:00Z"));
        assert_eq!((&state()["health"], &state()["starting"]), (&json!("unhealthy"), &json!(false)));
    }

    #[test]
    fn a_deployment_that_is_not_there_is_absent_and_a_cluster_that_is_not_there_an_error() {
        let cluster = FakeCluster::new(deployment("web", 1, &json!({})));
        let own = bench(&cluster, &["read:${services.*}"], Mode::Apply);
        assert_eq!(told(&own)[0], json!(["api", 1, 0, 0, "0 of 1 running", null]));
        cluster.kubeconfig("http://127.0.0.1:1", "", "token: x");
        assert_eq!(own.error("service::list()").kind, Kind::Connect);
    }

    #[test]
    fn what_is_done_to_a_service_is_done_to_its_deployment() {
        let cluster = shop();
        let own = bench(&cluster, &["restart:${services.api}", "scale:${services.web}", "logs:${services.*}"], Mode::Apply);
        assert_eq!(plain(&own.eval(r#"service::restart("api")"#).unwrap()).unwrap(), json!(["shop-api"]));
        assert_eq!(own.error(r#"service::restart("web")"#).kind, Kind::Denied);
        assert_eq!(own.error(r#"service::scale("api", 2)"#).kind, Kind::Denied);
        let scaled = plain(&own.eval(r#"service::scale("web", 4)"#).unwrap()).unwrap();
        assert_eq!((&scaled["before"], &scaled["after"]), (&json!(3), &json!(4)));
        assert_eq!(cluster.object("deployments", "web")["spec"]["replicas"], 4);
        let changes: Vec<String> = cluster.changes().iter().map(|change| change.split(' ').nth(1).unwrap().to_owned()).collect();
        let base = "/apis/apps/v1/namespaces/shop/deployments";
        assert_eq!(changes, [format!("{base}/shop-api"), format!("{base}/web/scale")]);
        cluster.change("pods", "shop-api-hash2-1", &json!({ "log": ["2026-11-21T11:00:00Z here"] }));
        let line = plain(&own.eval(r#"service::logs("api", #{ tail: 5 })[0]"#).unwrap()).unwrap();
        assert_eq!((&line["source"], &line["stream"], &line["text"]), (&json!("shop-api-hash2-1"), &json!("output"), &json!("here")));
        assert_eq!(own.error(r#"service::start("web")"#).kind, Kind::Conflict);
    }

    #[test]
    fn a_plan_of_a_service_on_kubernetes_changes_nothing() {
        let cluster = shop();
        let planning = bench(&cluster, &["restart:*", "scale:*"], Mode::Plan);
        for call in [r#"service::restart("api")"#, r#"service::scale("web", 5)"#] {
            assert!(!planning.eval(call).unwrap().is_unit());
        }
        assert!(cluster.changes().is_empty());
        let told = serde_json::to_string(&planning.recorder.events()).unwrap();
        assert!(told.contains("restart the pods of `shop-api`") && told.contains("scale `web` from 3 to 5"), "{told}");
    }

    #[test]
    fn a_service_that_an_autoscaler_owns_is_not_scaled() {
        let mut objects = deployment("web", 3, &json!({}));
        objects.push(hpa("web-hpa", "web", (2, 6), (3, 6)));
        let cluster = FakeCluster::new(objects);
        let own = bench(&cluster, &["scale:*"], Mode::Apply);
        let error = own.error(r#"service::scale("web", 5)"#);
        assert!(error.kind == Kind::Conflict && error.message.contains("hpa/web-hpa"), "{error:?}");
        assert!(cluster.changes().is_empty());
    }
}
