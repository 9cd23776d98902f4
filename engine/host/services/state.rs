//! How a service is judged: by what runs of it, by its health, and by how often it was restarted.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::host::Ctx;
use crate::model::Span;
use crate::model::system::{Manager, Service, System};
use crate::words;

/// So many restarts are a loop, unless the system's threshold `restarts` says otherwise.
const MOST_RESTARTS: i64 = 3;
/// A service that has run this long since is over it: engines wait a minute between tries at most.
const RESTART_WINDOW: Span = Span::secs(300);

/// A service and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ServiceState {
    pub(super) name: String,
    title: String,
    manager: Manager,
    expected: u32,
    running: u32,
    healthy: u32,
    state: String,
    health: String,
    restarts: i64,
    problem: Option<String>,
    info: Option<String>,
    optional: bool,
    unexpected: bool,
    /// Whether its problem is only that it has not come up yet.
    starting: bool,
}

/// One container, unit or process of a service.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) name: String,
    /// `running`, or the manager's own word for what it is instead.
    pub(super) state: String,
    /// `healthy`, `unhealthy`, `starting`, or `none` when nobody looks.
    pub(super) health: String,
    pub(super) restarts: i64,
    pub(super) started: Option<Timestamp>,
    /// What explains its state: an exit code, a stale pid file.
    pub(super) detail: Option<String>,
}

/// What a service is judged by.
pub(super) struct Judge {
    manager: Manager,
    most_restarts: i64,
    window: Span,
    now: Timestamp,
}

impl Part {
    fn runs(&self) -> bool {
        self.state == "running"
    }

    fn is_well(&self) -> bool {
        self.runs() && matches!(self.health.as_str(), "healthy" | "none")
    }

    /// The same, come up.
    fn settled(&self) -> Self {
        let mut part = self.clone();
        if part.health == "starting" {
            "healthy".clone_into(&mut part.health);
        }
        part
    }

    fn in_words(&self) -> String {
        let verb = if self.state == "exited" { "has" } else { "is" };
        match &self.detail {
            Some(detail) => format!("`{}` {verb} {} ({detail})", self.name, self.state),
            None => format!("`{}` {verb} {}", self.name, self.state),
        }
    }
}

impl Judge {
    /// The judge of this run's system.
    pub(super) fn of(ctx: &Ctx) -> Self {
        Self::new(ctx.system(), ctx.now())
    }

    fn new(system: &System, now: Timestamp) -> Self {
        let threshold = system.thresholds.get("restarts");
        let limit = threshold.and_then(|threshold| threshold.alarm.or(threshold.warn));
        Self {
            manager: system.services.manager,
            most_restarts: limit.map_or(MOST_RESTARTS, |limit| limit.ceil() as i64).max(1),
            window: threshold.and_then(|threshold| threshold.hold).unwrap_or(RESTART_WINDOW),
            now,
        }
    }

    /// A service of the system file.
    pub(super) fn expected(&self, name: &str, service: &Service, parts: &[Part]) -> ServiceState {
        let expected = service.replicas.unwrap_or(1);
        let mut state = self.state(name, expected, parts);
        state.title.clone_from(&service.title);
        state.optional = service.optional;
        let may_be_absent = expected == 0 || service.optional;
        state.problem = if parts.is_empty() && may_be_absent { None } else { self.problem(expected, parts) };
        let settled: Vec<Part> = parts.iter().map(Part::settled).collect();
        state.starting = state.problem.is_some() && self.problem(expected, &settled).is_none();
        state
    }

    /// A service that runs here and is not in the system file: worth telling, and worse when it failed.
    pub(super) fn unexpected(&self, name: &str, parts: &[Part], failed: bool) -> ServiceState {
        let mut state = self.state(name, 0, parts);
        state.unexpected = true;
        let told: Vec<String> = parts.iter().map(Part::in_words).collect();
        let told = format!("not in the system file: {}", told.join(", "));
        if failed {
            state.problem = Some(told);
        } else {
            state.info = Some(told);
        }
        state
    }

    fn state(&self, name: &str, expected: u32, parts: &[Part]) -> ServiceState {
        let count = |is: fn(&Part) -> bool| u32::try_from(parts.iter().filter(|part| is(part)).count()).unwrap_or(u32::MAX);
        let not_running = parts.iter().find(|part| !part.runs());
        ServiceState {
            name: name.to_owned(),
            title: String::new(),
            manager: self.manager,
            expected,
            running: count(Part::runs),
            healthy: count(Part::is_well),
            state: match (not_running, parts.first()) {
                (Some(part), _) | (None, Some(part)) => part.state.clone(),
                (None, None) => "absent".to_owned(),
            },
            health: worst_health(parts).to_owned(),
            restarts: parts.iter().map(|part| part.restarts).sum(),
            problem: None,
            info: None,
            optional: false,
            unexpected: false,
            starting: false,
        }
    }

    fn problem(&self, expected: u32, parts: &[Part]) -> Option<String> {
        let mut problems: Vec<String> = parts.iter().filter(|part| !part.runs()).map(Part::in_words).collect();
        let running = parts.iter().filter(|part| part.runs()).count();
        if running < usize::try_from(expected).unwrap_or(usize::MAX) && (parts.is_empty() || expected > 1) {
            problems.insert(0, format!("{running} of {expected} running"));
        }
        for part in parts.iter().filter(|part| part.runs() && !part.is_well()) {
            problems.push(format!("`{}` is running but its health is {}", part.name, part.health));
        }
        problems.extend(parts.iter().filter_map(|part| self.loops(part)));
        (!problems.is_empty()).then(|| problems.join("; "))
    }

    /// Whether it is being restarted again and again.
    fn loops(&self, part: &Part) -> Option<String> {
        let age = part.started.map(|started| self.now.duration_since(started).max(SignedDuration::ZERO));
        let age = age.and_then(|age| age.try_into().ok()).map(Span);
        let recent = age.is_none_or(|age| age < self.window);
        let when = age.map_or_else(String::new, |age| format!(", the last time {age} ago"));
        (part.restarts >= self.most_restarts && recent)
            .then(|| format!("`{}` was restarted {}{when}", part.name, words::count(part.restarts, "time")))
    }
}

fn worst_health(parts: &[Part]) -> &'static str {
    let any = |health: &str| parts.iter().any(|part| part.health == health);
    ["unhealthy", "starting", "healthy"].into_iter().find(|health| any(health)).unwrap_or("none")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::system::Threshold;

    const NOW: &str = "2026-11-21T12:00:00Z";

    fn judge() -> Judge {
        Judge::new(&System::default(), NOW.parse().unwrap())
    }

    fn part(state: &str, health: &str) -> Part {
        Part { name: "a_1".into(), state: state.into(), health: health.into(), restarts: 0, started: None, detail: None }
    }

    fn problem(replicas: u32, parts: &[Part]) -> Option<String> {
        let service = Service { replicas: Some(replicas), ..Service::default() };
        judge().expected("a", &service, parts).problem
    }

    #[test]
    fn only_what_runs_and_is_not_ill_is_no_problem() {
        assert_eq!(problem(1, &[part("running", "healthy")]), None);
        assert_eq!(problem(1, &[part("running", "none")]), None);
        for (state, health, told) in [
            ("running", "unhealthy", "`a_1` is running but its health is unhealthy"),
            ("running", "starting", "`a_1` is running but its health is starting"),
            ("exited", "none", "`a_1` has exited"),
            ("paused", "healthy", "`a_1` is paused"),
            ("restarting", "none", "`a_1` is restarting"),
        ] {
            assert_eq!(problem(1, &[part(state, health)]).as_deref(), Some(told));
        }
        assert_eq!(problem(1, &[]).as_deref(), Some("0 of 1 running"));
    }

    #[test]
    fn what_only_comes_up_is_starting_and_what_is_ill_as_well_is_not() {
        let is_starting = |parts: &[Part]| judge().expected("a", &Service { replicas: Some(2), ..Service::default() }, parts).starting;
        assert!(is_starting(&[part("running", "starting"), part("running", "healthy")]));
        assert!(!is_starting(&[part("running", "healthy"), part("running", "healthy")]));
        assert!(!is_starting(&[part("running", "starting")]));
        assert!(!is_starting(&[part("running", "starting"), part("running", "unhealthy")]));
        let loops = Part { restarts: 5, ..part("running", "starting") };
        assert!(!is_starting(&[loops, part("running", "healthy")]));
    }

    #[test]
    fn replicas_are_counted_and_each_is_looked_at() {
        let parts = [part("running", "healthy"), part("exited", "none"), part("running", "unhealthy")];
        let service = Service { replicas: Some(3), ..Service::default() };
        let state = judge().expected("a", &service, &parts);
        assert_eq!((state.running, state.healthy, state.state.as_str(), state.health.as_str()), (2, 1, "exited", "unhealthy"));
        assert_eq!(state.problem.as_deref(), Some("2 of 3 running; `a_1` has exited; `a_1` is running but its health is unhealthy"));
    }

    #[test]
    fn an_optional_service_may_be_absent_but_not_ill() {
        let service = Service { optional: true, ..Service::default() };
        assert_eq!(judge().expected("a", &service, &[]).problem, None);
        assert!(judge().expected("a", &service, &[part("running", "unhealthy")]).problem.is_some());
    }

    #[test]
    fn restarts_are_a_problem_while_they_go_on() {
        let started = |text: &str| Part { restarts: 5, started: Some(text.parse().unwrap()), ..part("running", "healthy") };
        assert_eq!(problem(1, &[started("2026-11-21T11:59:00Z")]).as_deref(), Some("`a_1` was restarted 5 times, the last time 1m ago"));
        assert_eq!(problem(1, &[started("2026-11-20T11:59:00Z")]), None);
        let threshold = Threshold { alarm: Some(10.0), ..Threshold::default() };
        let system = System { thresholds: [("restarts".to_owned(), threshold)].into(), ..System::default() };
        let judge = Judge::new(&system, NOW.parse().unwrap());
        assert_eq!(judge.expected("a", &Service::default(), &[started("2026-11-21T11:59:00Z")]).problem, None);
    }

    #[test]
    fn an_unexpected_service_is_told_and_is_a_problem_when_it_failed() {
        let state = judge().unexpected("Upper", &[part("exited", "none")], true);
        assert_eq!(state.problem.as_deref(), Some("not in the system file: `a_1` has exited"));
        assert_eq!(judge().unexpected("extra", &[part("running", "none")], false).problem, None);
    }
}
