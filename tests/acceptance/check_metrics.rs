//! check-metrics and check-alerts: what is measured of a system that is really broken.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::lab::{HOME, Look, Site};
use super::postgres::{Role, Sessions};
use super::systems;
use crate::harness::note;

const METRICS: &str = "check-metrics";
/// Nobody sampled it a moment ago.
const FRESH: &str = "fresh=1ms";

/// Looks until an alarm was on for its time; before that nobody may hear of it.
#[track_caller]
fn alarmed(site: &mut Site, runbook: &str, params: &[&str]) -> Look {
    for _ in 0..100 {
        let look = site.run(runbook, params);
        if look.code == 1 {
            return look;
        }
        assert_eq!(look.code, 0, "{}", look.stderr);
        look.is_quiet();
    }
    panic!("there was no alarm");
}

#[test]
fn connections_are_an_alarm_after_their_time_until_the_step_below() {
    let Some(mut site) = Site::of(&systems::FIN_PRE_ASSIST) else { return };
    let system = site.system;
    site.amends("[thresholds.db_connections]\ntarget = 30\nwarn = 30\nalarm = 40\nfor = \"1s\"\n");
    let (words, name) = (["only=db_connections", FRESH], "db_connections main");
    site.run(METRICS, &words).is_quiet();
    let admin = Sessions::admin(system, "psql");
    let mut many = Sessions::open(system, Role::Superuser, "lab-many", 41);
    let first = site.run(METRICS, &words);
    assert!(first.check(name)["value"].as_f64().unwrap() > 40.0, "{}", first.check(name));
    first.says(name, "which has to last 1s").is_quiet();
    alarmed(&mut site, METRICS, &words).tells(system.critical, &[system.title, "严重", name]);
    for (left, code) in [(32, 1), (2, 0)] {
        many.keep(left);
        admin.wait_for(i64::try_from(left).unwrap(), "application_name = 'lab-many'");
        let look = site.run(METRICS, &words);
        assert_eq!(look.code, code, "{}", look.check(name));
        if code == 1 {
            look.is_quiet();
        } else {
            look.tells(system.recovery, &[system.title, "已恢复", name]);
        }
    }
}

#[test]
fn a_cache_that_is_down_is_unknown_and_never_zero_in_the_answer_and_in_what_is_kept() {
    let Some(mut site) = Site::of(&systems::FIN_PRE_ASSIST) else { return };
    let kept = r#"runbook(#{ title: "t", allow: #{ samples: ["read:*"] } });
output("values", samples::last("redis_memory_used_bytes").map(|sample| sample.value));"#;
    site.adds("kept", kept);
    let words = ["scope=cache", FRESH];
    site.run(METRICS, &words);
    assert!(site.run("kept", &[]).answer["outputs"]["values"][0].as_f64() > Some(0.0));
    site.breaks("service-stopped", "redis");
    let look = site.run(METRICS, &words);
    for name in ["cache_hit_rate main", "cache_memory main"] {
        assert_eq!((look.check(name)["level"].as_str(), &look.check(name)["value"]), (Some("unknown"), &Value::Null), "{name}");
    }
    assert_eq!(site.run("kept", &[]).answer["outputs"]["values"], serde_json::json!([null]));
}

#[test]
fn an_endpoint_that_hangs_has_no_time_it_takes() {
    let Some(mut site) = Site::of(&systems::FIN_PRE_ASSIST) else { return };
    let words = ["only=response_time", FRESH];
    assert_eq!(site.run(METRICS, &words).check("response_time health")["level"], "ok");
    site.breaks("endpoint-hang", "/health");
    let look = site.run(METRICS, &words);
    let found = look.check("response_time health");
    assert!(matches!(found["level"].as_str(), Some("critical" | "unknown")), "{found}");
    assert_ne!(look.code, 0);
}

/// Threads that use every processor.
struct Burn(Arc<AtomicBool>);

impl Burn {
    fn all() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let is_over = is_over.clone();
            std::thread::spawn(move || while !is_over.load(Ordering::Relaxed) {});
        }
        Self(is_over)
    }
}

impl Drop for Burn {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_machine_that_burns_is_an_alarm_after_its_time() {
    let Some(mut site) = Site::of(&systems::FIN_PRE_ASSIST) else { return };
    site.amends("[thresholds.cpu]\ntarget = 30\nwarn = 30\nalarm = 50\nfor = \"1s\"\n");
    let _burn = Burn::all();
    let look = alarmed(&mut site, METRICS, &["only=cpu", FRESH]);
    look.tells(site.system.critical, &[site.system.title, "严重", "cpu"]);
}

/// A host that is far away, for as long as it is held.
struct Far(Child);

impl Far {
    const ADDRESS: &str = "10.231.7.2";

    /// One that answers so late, and not to every fourth.
    fn new(milliseconds: &str) -> Self {
        let mut child = Command::new("python3")
            .arg(format!("{HOME}/far.py"))
            .args(["rblabfar", "10.231.7.1", Self::ADDRESS, milliseconds, "4"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_host_that_is_far_and_loses_packets_is_both() {
    let Some(mut site) = Site::of(&systems::FIN_PRE_ASSIST) else { return };
    if !rustix::process::geteuid().is_root() || !std::path::Path::new("/dev/net/tun").exists() {
        return note("not run: only root can make a tunnel, where the kernel has any");
    }
    site.amends(&format!("[hosts.far]\naddress = \"{}\"\nrole = \"web\"\n", Far::ADDRESS));
    let words = ["scope=network", FRESH];
    let _far = Far::new("80");
    let look = site.run(METRICS, &words);
    assert_eq!(look.code, 1, "{}", look.stderr);
    let value = |look: &Look, name: &str| look.check(name)["value"].as_f64();
    assert!(value(&look, "latency far") >= Some(80.0), "{}", look.check("latency far"));
    assert_eq!(value(&look, "packet_loss far"), Some(20.0));
    look.tells(site.system.critical, &[site.system.title, "严重", "latency far", "packet_loss far"]);
}

#[test]
fn a_rule_that_fires_is_one_incident_which_an_answer_ends() {
    let Some(mut site) = Site::of(&systems::AI_NOTEBOOK) else { return };
    site.amends("[rules.ServiceDown]\nfor = \"1s\"\n");
    let words = ["rules=ServiceDown", FRESH];
    let open = |site: &mut Site| site.ask(&["incident", "list", "--json"]).answer.as_array().unwrap().len();
    site.run("check-alerts", &words).is_quiet();
    site.breaks("backend-stopped", "");
    let look = alarmed(&mut site, "check-alerts", &words);
    assert!(
        look.messages.iter().filter(|(channel, text)| *channel == "slack" && text.contains("服务宕机")).count() == 1,
        "{:#?}",
        look.messages
    );
    site.run("check-alerts", &words).is_quiet();
    assert_eq!(open(&mut site), 1);
    site.mend();
    site.run("check-alerts", &words);
    let found = site.ask(&["incident", "show", "1", "--json"]).answer;
    assert!(found["calm"].is_string(), "{found:#}");
}
