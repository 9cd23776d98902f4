//! check-metrics: sampled or read, unknown and never 0, held, hysteresis, told once, kept once.

use crate::harness::sink::Sink;
use crate::harness::{Done, Project, Test};

use super::{Teller, check, effects, keep, level, samples, steps};

const USERS: &str = "active_users 20\n";

/// A shop whose application tells how many users it has.
fn shop(teller: &Teller, more: &str) -> Project {
    let users = "[thresholds.active_users]\ntarget = 50\nwarn = 100\nalarm = 200\n";
    let system = format!("title = \"商店\"\nlanguage = \"zh\"\ntimezone = \"UTC\"\n{}{users}{more}", teller.endpoint());
    Project::new().file("runbooks/systems/shop.toml", &system)
}

/// One look that samples in any case.
fn look(project: Project) -> Test {
    project.command(["run", "check-metrics", "-s", "shop", "-p", "fresh=1ms", "-p", "only=active_users", "--json"])
}

fn looks(done: Done, teller: &Teller, users: &str) -> Done {
    teller.tells(Some(&format!("active_users {users}\n")));
    look(done.project).run()
}

#[test]
fn a_limit_is_told_when_it_is_passed_and_over_at_the_step_below() {
    let teller = Teller::new(USERS);
    let mut done = look(shop(&teller, "")).exits(0);
    for (users, expected, code) in
        [("101", "warning", 3), ("60", "warning", 3), ("201", "critical", 1), ("150", "critical", 1), ("99", "warning", 3), ("50", "ok", 0)]
    {
        done = looks(done, &teller, users);
        assert_eq!((level(&done, "active_users app app").as_str(), done.code), (expected, code), "{users}: {}", done.stdout);
    }
}

#[test]
fn what_has_to_last_is_no_alarm_before_it_has() {
    let teller = Teller::new("active_users 150\n");
    let held = |minutes: u32| "[thresholds.active_users]\nwarn = 100\nfor = \"MINm\"\n".replace("MIN", &minutes.to_string());
    let system = |minutes| format!("title = \"Shop\"\nlanguage = \"en\"\ntimezone = \"UTC\"\n{}{}", teller.endpoint(), held(minutes));
    // It has been so for half an hour: as often as a schedule of five minutes saw it.
    let project = Project::new().file("runbooks/systems/shop.toml", &system(60));
    keep(&project, "active_users{instance=\"app\",job=\"app\"}", 290, 300, &[Some(150.0); 6]);
    let done = look(project).exits(0);
    let answer = done.json();
    assert!(check(&answer, "active_users app app")["detail"].as_str().unwrap().contains("which has to last 1h"), "{answer:#}");
    std::fs::write(done.project.path().join("runbooks/systems/shop.toml"), system(20)).unwrap();
    assert_eq!(level(&look(done.project).exits(3), "active_users app app"), "warning");
}

#[test]
fn what_can_not_be_measured_is_unknown_in_the_answer_and_in_the_samples() {
    let teller = Teller::new(USERS);
    // Nothing listens there.
    let cache = "[caches.main]\nhost = \"127.0.0.1\"\nport = 1\n[thresholds.cache_memory]\nwarn = 90\nunit = \"%\"\n";
    let done = look(shop(&teller, cache)).exits(0);
    teller.tells(None);
    let both = ["run", "check-metrics", "-s", "shop", "-p", "fresh=1ms", "-p", "only=active_users,cache_memory", "--json"];
    let done = done.project.command(both).exits(1);
    for name in ["active_users app app", "cache_memory main"] {
        let answer = done.json();
        let found = check(&answer, name);
        assert_eq!(
            (found["level"].as_str(), found.get("value").is_none_or(serde_json::Value::is_null)),
            (Some("unknown"), true),
            "{found}"
        );
    }
    let stored = samples(&done.project);
    let now = runbook::store::now();
    for series in ["active_users", "redis_memory_used_bytes"] {
        let tracks = stored.tracks(&series.parse().unwrap(), now - jiff::SignedDuration::from_hours(1), now).unwrap();
        assert_eq!(tracks.len(), 1, "{series}");
        assert_eq!(tracks[0].samples.last().unwrap().value.number(), None, "{series}");
    }
    let again = looks(done, &teller, "20");
    assert_eq!((level(&again, "active_users app app").as_str(), again.code), ("ok", 0));
}

#[test]
fn what_was_sampled_a_moment_ago_is_not_sampled_again_and_nothing_is_kept() {
    let teller = Teller::new(USERS);
    let ask =
        |project: Project| project.command(["run", "check-metrics", "-s", "shop", "-p", "scope=application", "-p", "fresh=1h", "--json"]);
    let first = ask(shop(&teller, "")).exits(0);
    assert_eq!(steps(&first), ["keep the samples"]);
    teller.tells(None);
    let second = ask(first.project).exits(0);
    assert!(steps(&second).is_empty(), "{:?}", steps(&second));
    assert_eq!(level(&second, "active_users app app"), "ok");
}

#[test]
fn a_plan_tells_what_would_be_kept_and_keeps_nothing() {
    let teller = Teller::new("active_users 150\n");
    let done = shop(&teller, "").command(["plan", "check-metrics", "-s", "shop", "-p", "only=active_users", "--json"]).succeeds();
    assert_eq!(effects(&done.json()), 3, "samples, alarms, levels: {}", done.stdout);
    assert!(!done.project.state().join("samples.db").exists());
}

#[test]
fn people_hear_of_each_change_once_in_their_language() {
    let sink = Sink::new();
    let teller = Teller::new("active_users 150\n");
    let people = format!(
        "[routes]\nwarning = [\"hook\"]\nrecovery = [\"hook\"]\n[contacts.hook]\nkind = \"webhook\"\nurl = \"{}\"\n",
        sink.url("webhook")
    );
    let done = look(shop(&teller, &people)).exits(3);
    let done = looks(done, &teller, "151");
    let done = looks(done, &teller, "20");
    drop(looks(done, &teller, "21"));
    let told: Vec<String> = sink.accepted("webhook").iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("警告") && told[0].contains("active_users") && told[1].contains("已恢复"), "{told:?}");
}

#[test]
fn a_month_is_judged_by_the_time_it_may_be_down() {
    let teller = Teller::new(USERS);
    let system = "[thresholds.availability]\nbelow = true\nwarn = 99.9\nalarm = 99.5\nunit = \"%\"\n";
    let ask =
        |project: Project| project.command(["run", "check-metrics", "-s", "shop", "-p", "only=availability", "-p", "fresh=1h", "--json"]);
    // Of a day that is known: half an hour down is within the 43 minutes of a month, an hour is not.
    for (down, expected) in [(30, "ok"), (60, "warning")] {
        let project = shop(&teller, system);
        let day: Vec<Option<f64>> = (0..1440).map(|minute| Some(if minute < down { 0.0 } else { 1.0 })).collect();
        keep(&project, "endpoint_up{endpoint=\"app\"}", 60, 60, &day);
        let done = ask(project).run();
        assert_eq!(level(&done, "availability app"), expected, "{}", done.stdout);
    }
}
