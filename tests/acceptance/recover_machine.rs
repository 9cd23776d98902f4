//! recover-memory and recover-cpu: the culprit and nobody else, once.

use super::in_every_system;
use super::lab::{Look, Site, docker, lab_says};
use super::systems::{self, System};
use crate::harness::wait_until;

/// The container of a service.
fn container(system: &System, service: &str) -> String {
    let project = super::lab::lab_status()["systems"][system.name]["project"].as_str().unwrap();
    let of_project = format!("label=com.docker.compose.project={project}");
    let of_service = format!("label=com.docker.compose.service={service}");
    docker(&["ps", "-aq", "--filter", &of_project, "--filter", &of_service]).trim().to_owned()
}

/// How many megabytes a container has, as Docker counts.
fn megabytes(container: &str) -> f64 {
    let said = docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", container]);
    said.split("MiB").next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// A limit of memory, taken away again whatever happens.
struct Limit(String);

impl Limit {
    fn set(container: &str) -> Self {
        docker(&["update", "--memory", "340m", "--memory-swap", "340m", container]);
        Self(container.to_owned())
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["update", "--memory", "4g", "--memory-swap", "8g", &self.0]).output();
    }
}

/// The lines of `lives` that differ.
fn touched(before: &str, after: &str) -> Vec<String> {
    after.lines().filter(|line| !before.contains(line)).map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[track_caller]
fn was_restarted(look: &Look, service: &str) {
    assert_eq!(look.answer["outputs"]["done"][0], format!("restarted {service}"), "{:#}\n{}", look.answer, look.stderr);
}

in_every_system! {
    fn the_service_that_leaks_is_restarted_once_and_no_key_of_the_cache_is_lost(site) {
        let system = site.system;
        if !system.in_containers() {
            return;
        }
        let (leaks, redis) = (container(system, system.backend), container(system, "redis"));
        docker(&["exec", &redis, "sh", "-c", "for n in $(seq 200); do echo set lab:$n $(head -c 20000 /dev/zero | tr '\\0' x); done | redis-cli >/dev/null"]);
        let keys = docker(&["exec", &redis, "redis-cli", "dbsize"]);
        let _limit = Limit::set(&leaks);
        site.breaks("leak", "300");
        wait_until("the leak", || megabytes(&leaks) > 309.0);
        let before = site.lives();
        let words = ["limit=90", "share=0.1"];
        let look = site.run("recover-memory", &words);
        was_restarted(&look, system.backend);
        assert_eq!(look.code, 0, "{:#}", look.answer["checks"]);
        look.tells(system.recovery, &[system.title, "已恢复：内存", system.backend]);
        assert_eq!(touched(&before, &site.lives()), [docker(&["inspect", "-f", "{{.Name}}", &leaks]).trim()]);
        assert_eq!(docker(&["exec", &redis, "redis-cli", "dbsize"]), keys);
        site.run("recover-memory", &words).is_quiet();
        // It leaks again within the cooldown: a person hears of it.
        lab_says(&["break", "leak", system.name, "300"]);
        wait_until("the leak", || megabytes(&leaks) > 309.0);
        let before = site.lives();
        let look = site.run("recover-memory", &words);
        assert_eq!(look.code, 1, "{:#}", look.answer["checks"]);
        look.says("memory", "restarted 1 times within 30m, not again for").tells(system.critical, &[system.title, "需要人工介入"]);
        assert_eq!(site.lives(), before);
        docker(&["exec", &redis, "sh", "-c", "redis-cli --raw keys 'lab:*' | xargs redis-cli del >/dev/null"]);
    }

    fn the_service_that_burns_is_restarted_once_and_the_database_never(site) {
        let system = site.system;
        // Where there is no frontend the application burns.
        let burns = if matches!(system.name, "football" | "education") { system.backend } else { "frontend" };
        site.breaks("cpu", if burns == "frontend" { burns } else { "" });
        let before = site.lives();
        // The machine of the tests is busy: the limits are low, and who is the busiest service is the question.
        let words = ["limit=1", "share=2", "over=3s"];
        let look = site.run("recover-cpu", &words);
        if !system.in_containers() {
            assert_eq!(look.code, 1, "{:#}", look.answer["checks"]);
            look.says("cpu", "education-api uses").says("cpu", "which nothing can start again");
            return;
        }
        was_restarted(&look, burns);
        assert!(matches!(look.code, 0 | 3), "{:#}", look.answer["checks"]);
        look.tells(system.recovery, &[system.title, "已恢复：CPU", burns]);
        assert_eq!(touched(&before, &site.lives()), [docker(&["inspect", "-f", "{{.Name}}", &container(system, burns)]).trim()]);
        lab_says(&["break", "cpu", system.name, burns]);
        let before = site.lives();
        let look = site.run("recover-cpu", &words);
        assert_eq!(look.code, 1, "{:#}", look.answer["checks"]);
        look.says("cpu", "restarted 1 times within 30m, not again for");
        assert_eq!(site.lives(), before);
    }
}
