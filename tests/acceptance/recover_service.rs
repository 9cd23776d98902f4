//! recover-service: what is ill is restarted, what is not stays, and what does not help ends.

use super::in_every_system;
use super::lab::{Look, Site};
use super::systems;

const PATIENCE: &str = "patience=60s";

/// `service=NAME` of the application.
fn backend(site: &Site) -> String {
    format!("service={}", site.system.backend)
}

fn check(site: &Site) -> String {
    format!("service {}", site.system.backend)
}

/// It came back, the contacts of the route for that heard so once, and a second run leaves it alone.
#[track_caller]
fn is_recovered(site: &mut Site, look: &Look) {
    assert_eq!(look.code, 0, "{}", look.stderr);
    look.says(&check(site), "restarted 1 times").tells(site.system.recovery, &[site.system.title, "已恢复", site.system.backend]);
    let lives = site.lives();
    let again = site.run("recover-service", &[&backend(site), PATIENCE]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    again.says(&check(site), "nothing was done").is_quiet();
    assert_eq!(site.lives(), lives, "a service that is well was touched");
}

/// Nothing can start a plain process: a person hears so, once.
#[track_caller]
fn is_told(site: &mut Site, look: &Look) {
    assert_eq!(look.code, 1, "{}", look.stderr);
    look.says(&check(site), "which nothing can start again");
    look.tells(site.system.critical, &[site.system.title, "需要人工介入", site.system.backend]);
    site.run("recover-service", &[&backend(site), PATIENCE]).is_quiet();
    site.mend();
    site.run("recover-service", &[&backend(site)]).tells(site.system.recovery, &["已恢复"]);
}

in_every_system! {
    fn a_stopped_and_an_unhealthy_backend_are_restarted_once_and_that_is_told_once(site) {
        for fault in ["backend-stopped", "backend-unhealthy"] {
            site.breaks(fault, "");
            let look = site.run("recover-service", &[&backend(site), PATIENCE]);
            if site.system.in_containers() {
                is_recovered(site, &look);
            } else {
                is_told(site, &look);
            }
        }
    }

    fn a_crash_loop_opens_the_breaker_which_outlives_the_run(site) {
        if !site.system.in_containers() {
            return;
        }
        let service = backend(site);
        let words = [&service, "tries=2", "patience=2s"];
        site.breaks("crash-loop", "");
        let look = site.run("recover-service", &words);
        assert_eq!(look.code, 1, "{}", look.stderr);
        assert_eq!(look.answer["outputs"]["restarted"][0]["restarts"], 2);
        look.tells(site.system.critical, &[site.system.title, "重启失败", site.system.backend, "cannot start"]);
        let look = site.run("recover-service", &words);
        assert_eq!((look.code, &look.answer["outputs"]["restarted"][0]["restarts"]), (1, &0.into()), "{}", look.stderr);
        look.says(&check(site), "restarted 2 times within 1h, not again for").is_quiet();
        site.mend();
        let look = site.run("recover-service", &words);
        assert_eq!(look.code, 0, "{}", look.stderr);
        look.tells(site.system.recovery, &[site.system.title, "已恢复"]);
    }

    fn a_name_nobody_knows_none_at_all_and_what_is_protected_restart_nothing(site) {
        let lives = site.lives();
        let near = format!("service={}x", site.system.backend);
        let database = site.system.watched_postgres.unwrap_or("postgresql");
        for (service, says) in [
            (near, format!("did you mean `{}`?", site.system.backend)),
            ("service=".to_owned(), "has no service ``".to_owned()),
            (format!("service={database}"), format!("`{database}` may not be restarted by itself")),
        ] {
            let look = site.run("recover-service", &[&service, "always=true"]);
            assert_eq!(look.code, 1, "{}", look.stderr);
            let error = look.answer["error"].to_string();
            assert!(error.contains(&says), "`{says}` is not in {error}");
        }
        let look = site.run("recover-service", &[]);
        assert_eq!(look.code, 2, "{}", look.stderr);
        assert!(look.stderr.contains("parameter `service` is required"), "{}", look.stderr);
        assert_eq!(site.lives(), lives);
    }
}

#[test]
fn a_service_is_not_restarted_for_the_fault_of_what_it_needs() {
    let Some(mut site) = Site::of(&systems::AI_HUB) else { return };
    site.breaks("service-stopped", "redis");
    let lives = site.lives();
    let look = site.run("recover-service", &["service=backend", "patience=5s"]);
    assert_eq!(look.code, 1, "{}", look.stderr);
    look.says("service backend", "it needs redis: `aihub_redis_1` has exited").tells(site.system.critical, &["需要人工介入"]);
    assert_eq!(site.lives(), lives);
}

#[test]
fn what_a_service_needs_is_restarted_before_it_and_it_only_when_that_did_not_help() {
    let Some(mut site) = Site::of(&systems::AI_HUB) else { return };
    site.breaks("backend-stopped", "");
    let look = site.run("recover-service", &["service=nginx", PATIENCE]);
    assert_eq!(look.code, 0, "{}", look.stderr);
    assert_eq!(look.answer["outputs"]["restarted"].as_array().unwrap().len(), 1);
    assert_eq!(look.answer["outputs"]["restarted"][0]["service"], "backend");
}

#[test]
fn a_plan_shows_the_restart_and_has_none() {
    let Some(mut site) = Site::of(&systems::AI_NOTEBOOK) else { return };
    site.breaks("backend-stopped", "");
    let lives = site.lives();
    let look = site.plan("recover-service", &["service=backend"]);
    let steps = look.answer["steps"].as_array().unwrap();
    let effects = steps.iter().filter_map(|step| step["effects"].as_array()).flatten();
    let effects: Vec<&str> = effects.map(|effect| effect["function"].as_str().unwrap()).collect();
    assert_eq!(effects, ["store::put", "service::restart"], "{:#}", look.answer);
    look.is_quiet();
    assert_eq!(site.lives(), lives);
}

#[test]
fn a_run_killed_at_the_restart_goes_on_and_does_not_restart_twice() {
    let Some(mut site) = Site::of(&systems::AI_NOTEBOOK) else { return };
    site.breaks("backend-stopped", "");
    let look = site.resumed("recover-service", &["service=backend", PATIENCE], "effect:restart backend");
    assert_eq!(look.code, 0, "{}", look.stderr);
    look.tells(site.system.recovery, &["已恢复"]);
    let (lives, look) = (site.lives(), site.run("recover-service", &["service=backend"]));
    look.says("service backend", "nothing was done").is_quiet();
    assert_eq!(site.lives(), lives);
}
