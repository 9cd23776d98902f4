//! Against an API server of tests.

use serde_json::{Value, json};

use super::client::Cluster;
use super::deployments::RollbackOptions;
use super::fake::{FakeCluster, TOKEN, deployment, failure, hpa, pod, quota};
use crate::error::{Error, Kind};
use crate::host::testing::{Bench, refusing_port};
use crate::host::tls::testing::Authority;
use crate::host::value::plain;
use crate::host::{Mode, Secrets};
use crate::model::System;

const ALL: [&str; 7] = ["read:*", "logs:*", "top:*", "scale:*", "restart:*", "rollback:*", "bounds:*"];

fn everything() -> Value {
    json!({ "k8s": ALL })
}

fn bench(cluster: &FakeCluster, allow: Value) -> Bench {
    Bench::with(allow, cluster.system(), Secrets::default(), Mode::Apply)
}

fn eval(bench: &Bench, script: &str) -> Value {
    plain(&bench.eval(script).unwrap_or_else(|error| panic!("{script}: {error}"))).unwrap()
}

/// The shop: `web` of three pods, and `shop-api` of one.
fn shop() -> FakeCluster {
    let mut objects = deployment("web", 3, &json!({}));
    objects.extend(deployment("shop-api", 1, &json!({})));
    FakeCluster::new(objects)
}

#[test]
fn the_examples_of_the_manual_are_true() {
    let text = include_str!("mod.rs");
    let examples: Vec<String> = text
        .split("/// ```rhai,lab\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("/// ```\n").map(|(example, _)| example.replace("    /// ", "").replace("    ///", "")))
        .collect();
    assert!(examples.len() >= 14, "{}", examples.len());
    for example in examples {
        // The words of the language that steps are made of are those of a run; here they do what they stand for.
        let words = "fn step(name, work) { work.call() }\nfn undo(name, work) { }\n";
        let mut objects = deployment("web", 3, &json!({}));
        if example.contains("bounds") {
            objects.push(hpa("web", "other", (1, 5), (3, 3)));
        }
        let cluster = FakeCluster::new(objects.into_iter().chain(metrics("web")).collect());
        assert_eq!(eval(&bench(&cluster, everything()), &format!("{words}{example}")), true, "{example}");
    }
}

fn metrics(deployment: &str) -> Vec<(&'static str, Value)> {
    let of = |number: i64, cpu: &str, memory: &str| {
        let object = json!({
            "metadata": { "name": format!("{deployment}-hash2-{number}"), "namespace": "shop" }, "timestamp": "2026-11-21T11:59:30Z", "window": "30s",
            "containers": [{ "name": "main", "usage": { "cpu": cpu, "memory": memory } }],
        });
        ("podmetrics", object)
    };
    vec![of(1, "125m", "64Mi"), of(2, "375123456n", "131072Ki")]
}

#[test]
fn without_a_grant_nothing_is_connected_and_nothing_is_read() {
    let cluster = shop();
    let mut system = cluster.system();
    system.cluster.as_mut().unwrap().kubeconfig = Some("/nowhere/kubeconfig".to_owned());
    let calls = [
        "k8s::pods()",
        "k8s::deployments()",
        r#"k8s::deployment("web")"#,
        "k8s::top()",
        "k8s::events()",
        r#"k8s::logs("web")"#,
        "k8s::hpas()",
        "k8s::quotas()",
        r#"k8s::rollout("web")"#,
        r#"k8s::wait_available("web")"#,
        r#"k8s::scale("web", 1)"#,
        r#"k8s::restart("web")"#,
        r#"k8s::rollback("web")"#,
        r#"k8s::bounds("web", 1, 2)"#,
    ];
    let bench = Bench::with(json!({}), system, Secrets::default(), Mode::Apply);
    for call in calls {
        assert_eq!(bench.error(call).kind, Kind::Denied, "{call}");
    }
    assert!(cluster.requests().is_empty());
}

#[test]
fn a_grant_is_for_one_object_of_one_namespace() {
    let cluster = shop();
    let bench = bench(&cluster, json!({ "k8s": ["scale:shop/deployment/web", "logs:shop/pod/web-hash2-1"] }));
    assert_eq!(eval(&bench, r#"k8s::deployment("web").replicas"#), 3, "who may scale it may see it");
    for denied in [
        r#"k8s::deployment("shop-api")"#,
        r#"k8s::deployment("web", #{ namespace: "kube-system" })"#,
        r#"k8s::scale("shop-api", 2)"#,
        r#"k8s::restart("web")"#,
        r#"k8s::logs("web")"#,
        r#"k8s::logs("pod/web-hash2-2")"#,
        "k8s::pods()",
        "k8s::hpas()",
        r#"k8s::events(#{ about: "deployment/web" })"#,
    ] {
        assert_eq!(bench.error(denied).kind, Kind::Denied, "{denied}");
    }
    assert_eq!(eval(&bench, "k8s::deployments().map(|one| one.name)"), json!(["web"]), "the others are left out");
    for name in ["", "web/scale", "../secrets/x", "web?x=1", "*", "Web", "-web", "web%2fscale"] {
        let error = bench.error(&format!("k8s::scale({name:?}, 2)"));
        assert!(matches!(error.kind, Kind::Invalid | Kind::Denied), "{name}: {error:?}");
    }
    assert!(cluster.changes().is_empty());
}

#[test]
fn pods_of_a_deployment_are_those_it_controls() {
    let mut objects = deployment("web", 1, &json!({}));
    let stranger = json!({ "metadata": { "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "x", "controller": true }] } });
    objects.push(("pods", pod("stranger", "web", &stranger)));
    objects.push(("pods", pod("loose", "web", &json!({ "metadata": { "ownerReferences": null } }))));
    let cluster = FakeCluster::new(objects);
    let bench = bench(&cluster, everything());
    assert_eq!(eval(&bench, r#"k8s::pods(#{ deployment: "web" }).map(|pod| pod.name)"#), json!(["web-hash2-1"]));
    assert_eq!(eval(&bench, "k8s::pods().len()"), 3);
    assert_eq!(eval(&bench, r#"k8s::pods(#{ labels: "app=other" })"#), json!([]));
}

#[test]
fn a_pod_says_why_it_does_not_run() {
    let container = |state: Value, last: Value, restarts: i64| {
        json!({ "status": {
            "conditions": [{ "type": "Ready", "status": "False" }],
            "containerStatuses": [{ "name": "main", "image": "web:v2", "imageID": "", "ready": false, "restartCount": restarts, "state": state, "lastState": last }],
        } })
    };
    let cases = [
        (
            json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 40s" } }),
            json!({ "terminated": { "exitCode": 1, "reason": "Error" } }),
            "crash loop back off",
            "back-off 40s",
            json!(1),
        ),
        (
            json!({ "waiting": { "reason": "CrashLoopBackOff" } }),
            json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } }),
            "crash loop back off",
            "out of memory",
            json!(137),
        ),
        (
            json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } }),
            json!({}),
            "image pull back off",
            "no such image",
            Value::Null,
        ),
        (json!({ "terminated": { "exitCode": 3, "reason": "Error" } }), json!({}), "error", "exit code 3", json!(3)),
    ];
    for (state, last, told, detail, code) in cases {
        let cluster = FakeCluster::new(vec![("pods", pod("one", "web", &container(state, last, 4)))]);
        let found = eval(&bench(&cluster, everything()), "k8s::pods()[0]");
        assert_eq!((&found["state"], &found["detail"], &found["containers"][0]["exit_code"]), (&json!(told), &json!(detail), &code));
        assert_eq!((&found["ready"], &found["restarts"]), (&json!(false), &json!(4)));
    }
    let unplaced = json!({ "status": {
        "phase": "Pending", "containerStatuses": null,
        "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient cpu." }],
    } });
    let cluster = FakeCluster::new(vec![("pods", pod("one", "web", &unplaced))]);
    let found = eval(&bench(&cluster, everything()), "k8s::pods()[0]");
    assert_eq!((&found["state"], &found["detail"]), (&json!("pending"), &json!("0/3 nodes are available: 3 Insufficient cpu.")));
}

#[test]
fn what_pods_use_is_compared_with_what_they_ask_for_and_what_is_not_known_is_nothing() {
    let mut objects = deployment("web", 3, &json!({}));
    objects.extend(metrics("web"));
    let cluster = FakeCluster::new(objects);
    let used = eval(&bench(&cluster, everything()), r#"k8s::top(#{ deployment: "web" })"#);
    let told = |at: usize| json!([used[at]["cpu"], used[at]["cpu_percent"], used[at]["memory"], used[at]["memory_percent"]]);
    assert_eq!(told(0), json!([12.5, 50.0, 67_108_864, 50.0]));
    assert_eq!(told(1), json!([37.5, 150.0, 134_217_728, 100.0]));
    assert_eq!(told(2), json!([null, null, null, null]), "it was not measured yet");
}

#[test]
fn without_a_metrics_server_that_is_said() {
    let cluster = shop();
    let (status, body) = failure(404, "NotFound", "the server could not find the requested resource");
    cluster.says("GET /apis/metrics.k8s.io", status, &body);
    let error = bench(&cluster, everything()).error("k8s::top()");
    assert_eq!(error.kind, Kind::NotFound);
    assert!(error.hints.iter().any(|hint| hint.contains("metrics server")), "{error:?}");
}

#[test]
fn the_number_of_replicas_is_changed_only_from_what_was_seen() {
    let cluster = shop();
    let bench = bench(&cluster, everything());
    let done = eval(&bench, r#"k8s::scale("web", 5)"#);
    assert_eq!((&done["before"], &done["after"]), (&json!(3), &json!(5)));
    let path = "PATCH /apis/apps/v1/namespaces/shop/deployments/web/scale application/merge-patch+json";
    assert_eq!(cluster.changes(), [format!("{path} {}", json!({ "metadata": { "resourceVersion": "100" }, "spec": { "replicas": 5 } }))]);
    let error = bench.error(r#"k8s::scale("web", 2, #{ if_match: "100" })"#);
    assert_eq!((error.kind, error.retryable), (Kind::Conflict, false));
    assert_eq!(cluster.object("deployments", "web")["spec"]["replicas"], 5);
    assert_eq!(eval(&bench, r#"k8s::scale("web", 2, #{ if_match: k8s::deployment("web").version }).after"#), 2);
    assert_eq!(bench.error(r#"k8s::scale("web", -1)"#).kind, Kind::Invalid);
    assert_eq!(bench.error(r#"k8s::scale("web", 1001)"#).kind, Kind::Invalid);
}

#[test]
fn a_change_that_meets_another_one_is_tried_again_and_given_up_when_that_was_about_the_number() {
    let cluster = shop();
    let (status, body) = failure(409, "Conflict", "the object has been modified");
    cluster.says("PATCH /apis/apps/v1/namespaces/shop/deployments/web/scale", status, &body);
    let error = bench(&cluster, everything()).error(r#"k8s::scale("web", 5)"#);
    assert_eq!(error.kind, Kind::Conflict);
    assert_eq!(cluster.changes().len(), 5, "each time with the version as it was then");
}

#[test]
fn the_replicas_of_an_autoscaler_are_left_to_it() {
    let mut objects = deployment("web", 3, &json!({}));
    objects.push(hpa("web-hpa", "web", (2, 6), (3, 6)));
    let cluster = FakeCluster::new(objects);
    let bench = bench(&cluster, everything());
    let error = bench.error(r#"k8s::scale("web", 5)"#);
    assert_eq!((error.kind, error.message.as_str()), (Kind::Conflict, "`web` is scaled by `hpa/web-hpa`, which would undo it"));
    assert!(cluster.changes().is_empty());
    let owner = eval(&bench, r#"k8s::deployment("web").hpa"#);
    assert_eq!((&owner["name"], &owner["wanted"], &owner["metrics"][0]["value"]), (&json!("web-hpa"), &json!(6), &json!("55 %")));
    assert_eq!(eval(&bench, r#"k8s::bounds("web-hpa", 3, 20)"#), json!({ "hpa": "web-hpa", "before": [2, 6], "after": [3, 20] }));
    assert_eq!(cluster.object("horizontalpodautoscalers", "web-hpa")["spec"]["maxReplicas"], 20);
    assert_eq!(cluster.object("deployments", "web")["spec"]["replicas"], 3, "never the replicas themselves");
    assert_eq!(eval(&bench, r#"k8s::bounds("web-hpa", 3, 20)"#)["before"], json!([3, 20]));
    assert_eq!(cluster.changes().len(), 1, "bounds that are so already are not changed");
    for wrong in ["0, 5", "5, 3", "-1, 3"] {
        assert_eq!(bench.error(&format!(r#"k8s::bounds("web-hpa", {wrong})"#)).kind, Kind::Invalid, "{wrong}");
    }
}

#[test]
fn what_may_not_be_seen_of_autoscalers_lets_nothing_be_scaled() {
    let cluster = shop();
    let (status, body) = failure(403, "Forbidden", "horizontalpodautoscalers.autoscaling is forbidden: User \"me\" cannot list resource");
    cluster.says("GET /apis/autoscaling/", status, &body);
    let error = bench(&cluster, everything()).error(r#"k8s::scale("web", 5)"#);
    assert_eq!(error.kind, Kind::Refused);
    assert!(error.message.contains("cannot list resource") && error.hints[0].contains("RBAC"), "{error:?}");
    assert!(cluster.changes().is_empty());
}

#[test]
fn an_older_server_has_the_first_version_of_autoscalers() {
    let mut objects = deployment("web", 3, &json!({}));
    let (kind, mut old) = hpa("web-hpa", "web", (2, 6), (3, 6));
    old["apiVersion"] = "autoscaling/v1".into();
    old["spec"]["metrics"] = Value::Null;
    old["spec"]["targetCPUUtilizationPercentage"] = 70.into();
    old["status"] = json!({ "currentReplicas": 3, "desiredReplicas": 6, "currentCPUUtilizationPercentage": 55 });
    objects.push((kind, old));
    let cluster = FakeCluster::new(objects);
    let (status, body) = failure(404, "NotFound", "the server could not find the requested resource");
    cluster.says("GET /apis/autoscaling/v2/", status, &body);
    let found = eval(&bench(&cluster, everything()), "k8s::hpas()[0]");
    assert_eq!((&found["min"], &found["max"], &found["target"]), (&json!(2), &json!(6), &json!("deployment/web")));
    assert_eq!(found["metrics"], json!([{ "name": "cpu", "value": "55 %", "target": "70 %" }]));
}

#[test]
fn more_than_a_quota_leaves_room_for_is_refused_before_anything_changes() {
    let cases = [
        (json!({ "pods": "5" }), json!({ "pods": "3" }), 2),
        (json!({ "requests.cpu": "1" }), json!({ "requests.cpu": "750m" }), 1),
        (json!({ "limits.memory": "1Gi" }), json!({ "limits.memory": "1Gi" }), 0),
        (json!({ "requests.cpu": "2", "requests.memory": "256Mi" }), json!({ "requests.cpu": "750m", "requests.memory": "192Mi" }), 1),
    ];
    for (hard, used, room) in cases {
        let mut objects = deployment("web", 3, &json!({}));
        objects.push(quota(&hard, &used));
        let cluster = FakeCluster::new(objects);
        let bench = bench(&cluster, everything());
        assert_eq!(eval(&bench, r#"k8s::deployment("web").room"#), room, "{hard}");
        let error = bench.error(&format!(r#"k8s::scale("web", {})"#, 4 + room));
        assert_eq!(error.kind, Kind::Limit, "{error:?}");
        assert!(error.message.contains("quota `compute`"), "{error:?}");
        assert!(cluster.changes().is_empty());
        assert_eq!(eval(&bench, &format!(r#"k8s::scale("web", {}).after"#, 3 + room)), 3 + room);
        assert_eq!(eval(&bench, r#"k8s::scale("web", 1).after"#), 1, "fewer always have room");
    }
    let unlimited = shop();
    assert_eq!(eval(&bench(&unlimited, everything()), r#"k8s::deployment("web").room"#), Value::Null);
}

#[test]
fn replicas_that_do_not_become_available_are_taken_back() {
    let cluster = shop();
    cluster.stalls();
    let bench = bench(&cluster, everything());
    let error = bench.error(r#"k8s::scale("web", 5, #{ wait: "50ms" })"#);
    assert_eq!(error.kind, Kind::Timeout);
    assert!(error.message.contains("3 of 5 updated, 3 available"), "{error:?}");
    assert!(error.hints.iter().any(|hint| hint.contains("back at 3 replicas")), "{error:?}");
    assert_eq!(cluster.object("deployments", "web")["spec"]["replicas"], 3);
}

#[test]
fn what_kubernetes_says_of_a_rollout_that_hangs_is_told() {
    let hangs = json!({ "status": { "updatedReplicas": 1, "availableReplicas": 2, "conditions": [
        { "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "ReplicaSet \"web-x\" has timed out progressing." },
    ] } });
    let cluster = FakeCluster::new(deployment("web", 3, &hangs));
    let bench = bench(&cluster, everything());
    let found = eval(&bench, r#"k8s::rollout("web")"#);
    assert_eq!((&found["done"], &found["problem"]), (&json!(false), &json!("ReplicaSet \"web-x\" has timed out progressing.")));
    let error = bench.error(r#"k8s::wait_available("web", #{ timeout: "50ms" })"#);
    assert!(error.message.contains("has timed out progressing"), "{error:?}");
    // What was asked for and not seen yet is not done, whatever the counts say.
    cluster.change(
        "deployments",
        "web",
        &json!({ "metadata": { "generation": 9 }, "status": { "updatedReplicas": 3, "availableReplicas": 3 } }),
    );
    assert_eq!(eval(&bench, r#"k8s::deployment("web").done"#), false);
}

#[test]
fn a_restart_is_that_of_kubectl() {
    let cluster = shop();
    let bench = bench(&cluster, everything());
    assert_eq!(eval(&bench, r#"k8s::restart("web")"#), "web");
    let at = &cluster.object("deployments", "web")["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"];
    assert!(at.as_str().is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok()), "{at}");
    cluster.change("deployments", "web", &json!({ "spec": { "paused": true } }));
    assert_eq!(bench.error(r#"k8s::restart("web")"#).kind, Kind::Conflict);
}

#[test]
fn going_back_replaces_what_runs_by_what_ran() {
    let cluster = shop();
    let bench = bench(&cluster, everything());
    let rollout = eval(&bench, r#"k8s::rollout("web")"#);
    let revisions: Vec<Value> =
        rollout["revisions"].as_array().unwrap().iter().map(|one| json!([one["revision"], one["images"]])).collect();
    assert_eq!(revisions, [json!([2, ["web:v2"]]), json!([1, ["web:v1"]])]);
    assert!(rollout["revisions"][0].get("template").is_none());
    assert_eq!(eval(&bench, r#"k8s::rollback("web").images"#), json!(["web:v1"]));
    let template = &cluster.object("deployments", "web")["spec"]["template"];
    assert_eq!(template["spec"]["containers"][0]["image"], "web:v1");
    assert_eq!(template["metadata"]["labels"], json!({ "app": "web" }), "the label of the replica set is not one of the template");
    let error = bench.error(r#"k8s::rollback("web", #{ to: 9 })"#);
    assert_eq!((error.kind, error.message.as_str()), (Kind::NotFound, "`web` has no revision 9, found `2` and `1`"));
    let told = serde_json::to_string(&bench.recorder.events()).unwrap();
    assert!(told.contains("roll `web` back from revision 2 to 1") && told.contains("+image: web:v1"), "{told}");
}

#[test]
fn nothing_is_rolled_back_that_was_changed_since_it_was_looked_at() {
    let cluster = shop();
    let bench = bench(&cluster, everything());
    let here = Cluster::of(&bench.ctx, None, None).unwrap();
    let runtime = bench.ctx.runtime().unwrap();
    let rollback = runtime.block_on(here.to_roll_back("web", &RollbackOptions::default())).unwrap();
    cluster.change("deployments", "web", &json!({ "metadata": { "generation": 4 }, "spec": { "replicas": 5 } }));
    let error = runtime.block_on(here.roll_back(rollback)).unwrap_err();
    assert_eq!((error.kind, error.retryable), (Kind::Conflict, false), "{error:?}");
    assert_eq!(cluster.object("deployments", "web")["spec"]["template"]["spec"]["containers"][0]["image"], "web:v2");
}

#[test]
fn a_plan_tells_what_it_would_do_and_does_nothing() {
    let mut objects = deployment("web", 3, &json!({}));
    objects.push(hpa("other", "other", (1, 5), (1, 1)));
    let cluster = FakeCluster::new(objects);
    let bench = Bench::with(everything(), cluster.system(), Secrets::default(), Mode::Plan);
    for call in [r#"k8s::scale("web", 5)"#, r#"k8s::restart("web")"#, r#"k8s::rollback("web")"#, r#"k8s::bounds("other", 2, 9)"#] {
        assert!(!bench.eval(call).unwrap().is_unit());
    }
    assert!(cluster.changes().is_empty());
    let told = serde_json::to_string(&bench.recorder.events()).unwrap();
    for summary in [
        "scale `web` from 3 to 5",
        "-replicas: 3",
        "restart the pods of `web` (3 replicas)",
        "let `other` have 2 to 9 replicas",
        "+maxReplicas: 9",
        "shop/deployment/web",
    ] {
        assert!(told.contains(summary), "{summary}: {told}");
    }
}

#[test]
fn lines_have_their_times_and_too_many_of_them_are_cut_at_the_old_end() {
    let lines: Vec<String> = (0..40).map(|second| format!("2026-11-21T11:00:{second:02}.123456789Z line {second}")).collect();
    let mut objects = deployment("web", 2, &json!({}));
    for (kind, object) in &mut objects {
        if *kind == "pods" {
            object["log"] = json!(lines);
        }
    }
    let cluster = FakeCluster::new(objects);
    let bench = bench(&cluster, everything());
    let newest = eval(&bench, r#"k8s::logs("pod/web-hash2-1", #{ tail: 2 })"#);
    assert_eq!(newest[1], json!({ "pod": "web-hash2-1", "time": "2026-11-21T11:00:39.123456789Z", "stream": "output", "text": "line 39" }));
    assert_eq!(
        eval(&bench, r#"k8s::logs("web", #{ tail: 3 }).map(|line| line.text)"#),
        json!(["line 37", "line 37", "line 38", "line 38", "line 39", "line 39"])
    );
    assert_eq!(eval(&bench, r#"k8s::logs("pod/web-hash2-1", #{ "until": "2026-11-21T11:00:01Z" }).len()"#), 1);
    let cut = eval(&bench, r#"k8s::logs("pod/web-hash2-1", #{ max_bytes: "500B" })"#);
    assert_eq!(cut[0]["stream"], "cut");
    assert_eq!(cut.as_array().unwrap().last().unwrap()["text"], "line 39", "the newest are kept: {cut}");
}

#[test]
fn events_are_told_by_time_and_chosen() {
    let event = |name: &str, kind: &str, level: &str, time: &str| {
        let object = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": { "name": name, "namespace": "shop" },
            "involvedObject": { "kind": kind, "name": "web" }, "type": level, "reason": "R", "message": name, "lastTimestamp": time, "count": 3,
        });
        ("events", object)
    };
    let cluster = FakeCluster::new(vec![
        event("late", "Deployment", "Normal", "2026-11-21T11:59:00Z"),
        event("early", "Pod", "Warning", "2026-11-21T11:00:00Z"),
    ]);
    let bench = bench(&cluster, everything());
    assert_eq!(eval(&bench, "k8s::events().map(|event| event.message)"), json!(["early", "late"]));
    assert_eq!(eval(&bench, r#"k8s::events(#{ since: "2026-11-21T11:30:00Z" }).map(|event| event.message)"#), json!(["late"]));
    assert_eq!(eval(&bench, r#"k8s::events(#{ warnings: true, about: "pod/web" })[0].about"#), "pod/web");
    assert_eq!(bench.error(r#"k8s::events(#{ about: "thing/web" })"#).kind, Kind::Invalid);
    assert_eq!(bench.error(r#"k8s::events(#{ about: "pod/web,x=y" })"#).kind, Kind::Invalid);
}

#[test]
fn more_objects_than_fit_on_a_page_are_all_read() {
    let cluster = FakeCluster::new(deployment("web", 7, &json!({})));
    assert_eq!(eval(&bench(&cluster, everything()), "k8s::pods().len()"), 7);
    assert_eq!(cluster.requests().len(), 4, "the fake has pages of two");
}

fn refused(kubeconfig: impl Fn(&FakeCluster)) -> Error {
    let cluster = shop();
    kubeconfig(&cluster);
    let error = bench(&cluster, everything()).error("k8s::pods()");
    assert!(cluster.requests().is_empty(), "{:?}", cluster.requests());
    assert!(!format!("{error:?}").contains(TOKEN), "{error:?}");
    error
}

#[test]
fn a_kubeconfig_starts_no_program() {
    let exec =
        "exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [/tmp/started-by-kubeconfig], interactiveMode: Never}";
    for user in [exec, "auth-provider: {name: gcp, config: {}}"] {
        let error = refused(|cluster| cluster.kubeconfig("https://127.0.0.1:1", "", user));
        assert_eq!(error.kind, Kind::Config);
        assert!(error.message.contains("starts a program, and that is refused") && error.hints[0].contains("token"), "{error:?}");
    }
}

#[test]
fn what_a_kubeconfig_can_not_be_used_for_is_said() {
    let token = format!("token: {TOKEN}");
    let cases: [(&str, &str, &str, &str); 6] = [
        ("http://api.example:8080", "", &token, "would get the token in the clear"),
        ("https://127.0.0.1:1", "    proxy-url: http://127.0.0.1:2\n", &token, "goes through a proxy"),
        ("https://127.0.0.1:1", "", "{username: me, password: word}", "logs in with a password"),
        ("https://127.0.0.1:1", "", "{token: a-token-that-nobody-may-see, as: root}", "is somebody else"),
        ("https://127.0.0.1:1", "    certificate-authority-data: '!!'\n", &token, "broken `certificate-authority-data`"),
        ("not an address", "", &token, "names no proper server"),
    ];
    for (server, more, user, told) in cases {
        let error = refused(|cluster| cluster.kubeconfig(server, more, user));
        assert!(error.kind == Kind::Config && error.message.contains(told), "{told}: {error:?}");
    }
    let broken = refused(|cluster| std::fs::write(cluster.path(), format!("users: [{{ token: {TOKEN}")).unwrap());
    assert!(broken.message.contains("no proper YAML"), "{broken:?}");
    let absent = refused(|cluster| std::fs::remove_file(cluster.path()).unwrap());
    assert_eq!(absent.kind, Kind::NotFound);
    let cluster = shop();
    let mut system = cluster.system();
    system.cluster.as_mut().unwrap().context = Some("mian".to_owned());
    let error = Bench::with(everything(), system, Secrets::default(), Mode::Apply).error("k8s::pods()");
    assert_eq!((error.kind, error.hints[0].as_str()), (Kind::Config, "did you mean `main`?"));
    let nowhere = System { cluster: None, ..cluster.system() };
    let error = Bench::with(everything(), nowhere, Secrets::default(), Mode::Apply).error("k8s::pods()");
    assert!(error.kind == Kind::Config && error.hints[0].contains("[cluster]"), "{error:?}");
}

#[test]
fn a_token_of_the_system_file_is_a_secret_and_nothing_shows_it() {
    let cluster = shop();
    cluster.kubeconfig(&format!("http://127.0.0.1:{}", cluster.port()), "", "{}");
    let mut system = cluster.system();
    system.cluster.as_mut().unwrap().token = Some("${secret:cluster}".to_owned());
    assert!(!system.json().to_string().contains("secret:cluster"));
    let secrets = Secrets::new([("cluster".to_owned(), TOKEN.to_owned())].into());
    let bench = Bench::with(everything(), system.clone(), secrets, Mode::Apply);
    assert_eq!(eval(&bench, "k8s::pods().len()"), 4);
    // A server that says it back is not repeated.
    let (status, body) = failure(500, "InternalError", &format!("header Bearer {TOKEN}"));
    cluster.says("GET /apis/apps", status, &body);
    let error = bench.error("k8s::deployments()");
    assert_eq!((error.kind, error.message.as_str()), (Kind::Remote, "the API server: header Bearer ***"));
    let without = Bench::with(everything(), system, Secrets::default(), Mode::Apply);
    assert_eq!(without.error("k8s::pods()").kind, Kind::NotFound);
}

#[test]
fn who_is_not_known_and_who_is_not_there_is_told_apart() {
    let cluster = shop();
    cluster.kubeconfig(&format!("http://127.0.0.1:{}", cluster.port()), "", "token: a-wrong-token");
    let error = bench(&cluster, everything()).error("k8s::pods()");
    assert!(error.kind == Kind::Refused && error.hints[0].contains("who asks"), "{error:?}");
    assert!(!format!("{error:?}").contains("a-wrong-token"));
    let (_socket, port) = refusing_port();
    cluster.kubeconfig(&format!("http://127.0.0.1:{port}"), "", "token: a-wrong-token");
    assert_eq!(bench(&cluster, everything()).error("k8s::pods()").kind, Kind::Connect);
    let error = bench(&shop(), everything()).error(r#"k8s::deployment("wbe")"#);
    assert_eq!((error.kind, error.target.as_deref()), (Kind::NotFound, Some("shop/wbe")));
}

#[test]
fn a_server_has_to_prove_its_name_to_whom_the_kubeconfig_names() {
    use base64::Engine;
    let authority = Authority::new();
    let cluster = FakeCluster::secure(deployment("web", 1, &json!({})), authority.issue("127.0.0.1", 2100).acceptor());
    let address = format!("https://127.0.0.1:{}", cluster.port());
    let bench = |more: &str| {
        cluster.kubeconfig(&address, more, &format!("token: {TOKEN}"));
        bench(&cluster, everything())
    };
    let encoded = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    let trusted = format!("    certificate-authority-data: {}\n", encoded(&authority.pem));
    assert_eq!(eval(&bench(&trusted), "k8s::pods().len()"), 1);
    assert_eq!(bench("").error("k8s::pods()").kind, Kind::Connect, "the machine does not trust it");
    let other = format!("    certificate-authority-data: {}\n", encoded(&Authority::new().pem));
    assert_eq!(bench(&other).error("k8s::pods()").kind, Kind::Connect);
    let named = format!("{trusted}    tls-server-name: api.example\n");
    assert!(bench(&named).error("k8s::pods()").message.contains("expected `api.example`"));
    assert_eq!(eval(&bench("    insecure-skip-tls-verify: true\n"), "k8s::pods().len()"), 1);
}
