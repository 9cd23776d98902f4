//! check-health: what each fault looks like, that nothing else looks broken by it, and who hears of it, once.

use std::collections::BTreeMap;

use super::in_every_system;
use super::lab::{Disk, Look, Site, Station, lab, lab_says};
use super::systems::{self, System};

/// The longest a look may take where nothing hangs, on a machine with other work.
const SOON: u64 = 15;

type Findings = BTreeMap<String, &'static str>;

/// These checks of a kind, at a level.
fn of_kind(kind: &str, names: &[&str], level: &'static str) -> Findings {
    names.iter().map(|name| (format!("{kind} {name}"), level)).collect()
}

fn all(parts: impl IntoIterator<Item = Findings>) -> Findings {
    parts.into_iter().flatten().collect()
}

fn names(findings: &Findings) -> Vec<&str> {
    findings.keys().map(String::as_str).collect()
}

/// A service that Docker calls unhealthy. Nobody looks at the health of plain processes.
fn unhealthy(system: &System, service: &str) -> Findings {
    if system.in_containers() { of_kind("service", &[service], "critical") } else { Findings::new() }
}

/// Exactly these findings; one message for each contact of the route, naming all of them; nothing more on a second look.
#[track_caller]
fn is_found_and_told(site: &mut Site, findings: &Findings) -> Look {
    let (route, word) = match findings.values().any(|level| *level == "critical") {
        true => (site.system.critical, "严重"),
        false => (site.system.warning, "警告"),
    };
    let words: Vec<&str> = [site.system.title, word].into_iter().chain(names(findings)).collect();
    let look = site.look();
    look.finds(findings).tells(route, &words).within(SOON);
    site.look().finds(findings).is_quiet();
    look
}

/// After mending all is well, and the contacts of the route hear so once.
#[track_caller]
fn is_over_and_told(site: &mut Site, findings: &Findings) {
    site.mend();
    let words: Vec<&str> = [site.system.title, "已恢复"].into_iter().chain(names(findings)).collect();
    site.look().finds(&Findings::new()).tells(site.system.recovery, &words).within(SOON);
    site.look().finds(&Findings::new()).is_quiet();
}

in_every_system! {
    fn a_whole_system_with_an_empty_log_is_well_and_nobody_hears_of_it(site) {
        site.breaks("log-empty", "");
        let look = site.look();
        look.finds(&Findings::new()).is_quiet().within(SOON);
        for kind in ["service", "endpoint", "database", "cache", "certificate", "log"] {
            assert!(look.answer["checks"].as_array().unwrap().iter().any(|check| check["name"].as_str().unwrap().starts_with(kind)), "{kind}");
        }
    }

    fn a_stopped_backend_is_named(site) {
        let system = site.system;
        site.breaks("backend-stopped", "");
        let expected = all([of_kind("service", &[system.backend], "critical"), of_kind("endpoint", system.endpoints, "critical")]);
        let look = is_found_and_told(site, &expected);
        look.says(&format!("service {}", system.backend), if system.in_containers() { "has exited" } else { "0 of 1 running" });
        is_over_and_told(site, &expected);
    }

    fn a_backend_that_runs_and_is_not_healthy_a_short_certificate_and_a_missing_log_are_three_findings(site) {
        let system = site.system;
        site.breaks("backend-unhealthy", "");
        site.breaks("cert-days", "10");
        site.breaks("log-missing", "");
        let expected = all([
            unhealthy(system, system.backend),
            of_kind("endpoint", system.health, "critical"),
            of_kind("certificate", &["public"], "warning"),
            of_kind("log", system.logs, "warning"),
        ]);
        let look = is_found_and_told(site, &expected);
        assert_eq!(look.check("certificate public")["value"], 10.0);
        assert_eq!(look.check("certificate public")["unit"], "d");
        for name in system.health {
            look.says(&format!("endpoint {name}"), "status 503, expected 200");
        }
        for name in system.logs {
            look.says(&format!("log {name}"), "there is no log `");
        }
        if system.in_containers() {
            look.says(&format!("service {}", system.backend), "is running but its health is unhealthy");
        }
        is_over_and_told(site, &expected);
    }

    fn an_exited_service_called_upper_and_a_database_that_refuses_are_named(site) {
        let system = site.system;
        site.breaks("db-refusing", "");
        let mut expected = all([of_kind("database", system.databases, "critical"), of_kind("endpoint", system.need_database, "critical")]);
        if let Some(postgres) = system.watched_postgres {
            site.breaks("upper-exited", "");
            expected = all([expected, of_kind("service", &["Upper", postgres], "critical")]);
        }
        let look = is_found_and_told(site, &expected);
        for name in system.databases {
            // Docker's proxy accepts and hangs up, a process does not listen.
            look.says(&format!("database {name}"), if system.in_containers() { "hung up without an answer" } else { "nothing listens on" });
        }
        if system.in_containers() {
            look.says("service Upper", "has exited (exit code 3)");
        }
        is_over_and_told(site, &expected);
    }

    fn wrong_passwords_of_the_database_and_the_cache_are_said_to_be_that(site) {
        let system = site.system;
        site.breaks("db-password", "");
        site.breaks("redis-password", "");
        let of_application = all([of_kind("endpoint", system.need_database, "critical"), of_kind("endpoint", system.need_cache, "critical")]);
        // A system that knows only the application's role loses it; `admin` has a password of its own.
        let expected = all([of_kind("database", &["main"], "critical"), of_kind("cache", &["main"], "critical"), of_application]);
        let look = is_found_and_told(site, &expected);
        look.says("database main", "password authentication failed for").says("cache main", "WRONGPASS");
        is_over_and_told(site, &expected);
    }

    fn an_endpoint_that_fails_in_another_way_is_told_in_its_words_and_not_told_again(site) {
        let system = site.system;
        let expected = of_kind("endpoint", system.endpoints, "critical");
        let all_say = |look: &Look, text: &str| {
            for name in system.endpoints {
                look.says(&format!("endpoint {name}"), text);
            }
        };
        site.breaks("endpoint-redirect", "");
        all_say(&is_found_and_told(site, &expected), "status 302 to `/login`, expected 200");
        for (switch, text, patience) in [
            ("endpoint-500", "status 500, expected 200", SOON),
            ("endpoint-body", "the body `<html><title>It works</title>", SOON),
            ("endpoint-hang", "no complete answer within", 20),
        ] {
            site.breaks(switch, "");
            let look = site.look();
            look.finds(&expected).is_quiet().within(patience);
            all_say(&look, text);
        }
        is_over_and_told(site, &expected);
    }
}

#[test]
fn a_disk_is_judged_by_the_thresholds_of_each_system_and_named() {
    let Some(lab) = lab() else { return };
    let name = format!("disk {}", lab.state.join("disk").display());
    let _disk = Disk::alone();
    for (percent, value) in [("9", 9.0), ("85", 85.0), ("100", 100.0)] {
        lab_says(&["disk", "fill", percent]);
        for system in systems::ALL {
            let level = match percent {
                "9" => "ok",
                "85" => system.disk_at_85,
                _ => "critical",
            };
            let look = Station::new(lab, system).run("check-health", &["only=disks", "tell=false"]);
            let check = look.check(&name);
            let (found, used) = (check["level"].as_str().unwrap(), check["value"].as_f64().unwrap());
            assert_eq!(found, level, "{}: {check}", system.name);
            assert!((value - used).abs() <= 1.0, "{check}");
        }
    }
}
