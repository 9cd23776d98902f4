//! Nobody looks: the daemon notices what breaks, tells it once, has it repaired, and sees whether that helped.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::lab::Site;
use super::systems;

/// The rule and the repair of the system, without their long breath.
const SOON: &str = "[rules.ServiceDown]\nfor = \"1s\"\n[remediation.service]\nfor = \"1s\"\n";

/// What is watched takes its time: it is over when it was well for a minute.
#[track_caller]
fn wait_long(site: &mut Site, what: &str, mut is_true: impl FnMut(&mut Site) -> bool) {
    let until = Instant::now() + Duration::from_secs(300);
    while !is_true(site) {
        assert!(Instant::now() < until, "{what} did not come true: {:#?}\n{}", site.told("slack"), site.daemon_log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The only incident.
fn incident(site: &mut Site) -> Value {
    site.ask(&["incident", "show", "1", "--json"]).answer
}

fn timeline(incident: &Value) -> Vec<&str> {
    incident["timeline"].as_array().unwrap().iter().map(|moment| moment["what"].as_str().unwrap()).collect()
}

/// The runs that rules started.
fn repairs(site: &mut Site) -> Vec<Value> {
    let runs = site.ask(&["history", "--json"]).answer;
    runs.as_array().unwrap().iter().filter(|run| run["runbook"] == "recover-service").cloned().collect()
}

#[test]
fn a_service_that_stops_is_told_once_restarted_proven_and_over() {
    let Some(mut site) = Site::of(&systems::AI_NOTEBOOK) else { return };
    site.watched(SOON);
    let _daemon = site.serve();
    site.breaks("backend-stopped", "");
    wait_long(&mut site, "it is over", |site| site.told("slack").len() >= 3);
    let told = site.told("slack");
    for (text, words) in told.iter().zip([["P0", "服务宕机"], ["已恢复", "服务 backend"], ["已恢复", "服务宕机"]]) {
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not in {text}");
    }
    assert_eq!(told.len(), 3, "{told:#?}");
    let found = incident(&mut site);
    assert_eq!((found["state"].as_str(), found["service"].as_str()), (Some("resolved"), Some("backend")), "{found:#}");
    assert_eq!(timeline(&found), ["opened", "repair", "well again", "repair", "resolved"], "{found:#}");
    assert_eq!(site.ask(&["incident", "list", "--all", "--json"]).answer.as_array().unwrap().len(), 1);
    let runs = repairs(&mut site);
    assert_eq!((runs.len(), runs[0]["status"].as_str()), (1, Some("succeeded")), "{runs:#?}");
    site.run("recover-service", &["service=backend"]).says("service backend", "nothing was done");
}

#[test]
fn a_service_that_can_not_come_up_is_tried_three_times_also_when_the_daemon_is_killed_and_then_a_persons() {
    let Some(mut site) = Site::of(&systems::AI_HUB) else { return };
    site.watched(&format!("{SOON}params = {{ tries = 3, patience = \"2s\" }}\ncooldown = \"1s\"\n"));
    let daemon = site.serve();
    site.breaks("crash-loop", "");
    wait_long(&mut site, "the repair has begun", |site| !repairs(site).is_empty());
    daemon.kill();
    let _daemon = site.serve();
    wait_long(&mut site, "people are asked", |site| site.told("slack").iter().any(|text| text.contains("重启失败")));
    wait_long(&mut site, "the incident knows how it ended", |site| timeline(&incident(site)) == ["opened", "repair", "repair"]);
    let found = incident(&mut site);
    assert!(found["timeline"][2]["text"].as_str().unwrap().starts_with("recover-service failed: service backend"), "{found:#}");
    assert_eq!(found["state"], "open", "{found:#}");
    let runs = repairs(&mut site);
    assert_eq!((runs.len(), runs[0]["status"].as_str()), (1, Some("failed")), "{runs:#?}");
    let look = site.run("recover-service", &["service=backend", "tries=3", "patience=2s"]);
    look.says("service backend", "restarted 3 times within 1h, not again for");
    let told = site.told("slack");
    assert_eq!(told.iter().filter(|text| text.contains("重启失败")).count(), 1, "{told:#?}");
}
