//! Who measures, how often, and what becomes of a measurement that fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use super::remedy::{Cause, cause};
use super::watch::LOOK;
use crate::error::{Error, Kind};
use crate::host::Ctx;
use crate::host::measure::{self, Found, Measured, Spent};
use crate::model::system::{RuleKind, System};
use crate::model::{Labels, Reading, Sample, Selector, Series, Span};

/// No measurement takes longer; clients end before.
const PATIENCE: Duration = Duration::from_secs(30);
/// Who did not look for so long was asleep: what was measured before says nothing of now.
const ASLEEP: SignedDuration = SignedDuration::from_mins(1);

/// How the names of the samplers of `[metrics]` begin.
pub const SOURCES: &str = "metrics.";

/// Something that measures.
pub trait Sampler: Send + Sync {
    /// What it is called.
    fn name(&self) -> &str;

    /// How often it measures.
    fn every(&self) -> Duration;

    /// Measures now. What it could not measure is in the answer, as unknown.
    fn sample(&self) -> BoxFuture<'_, Found>;
}

/// What of a system is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Machine,
    Services,
    Endpoints,
    Databases,
    Caches,
    /// A source of `[metrics]`, by its name.
    Source(String),
}

/// A part of a system, measured by the clients that scripts use.
struct Part {
    what: What,
    name: String,
    every: Duration,
    ctx: Ctx,
    /// What the processors had done the last time.
    before: Mutex<Option<Spent>>,
}

/// The samplers of a system, each for what the system has. What they may ask is what `ctx` permits.
pub fn samplers(ctx: &Ctx) -> Vec<Arc<dyn Sampler>> {
    let system = ctx.system();
    let parts = [
        (What::Machine, "machine", 10, true),
        (What::Services, "services", 15, !system.services.each.is_empty()),
        (What::Endpoints, "endpoints", 30, !system.endpoints.is_empty()),
        (What::Databases, "databases", 30, !system.databases.is_empty()),
        (What::Caches, "caches", 30, !system.caches.is_empty()),
    ];
    let parts = parts.into_iter().filter(|(.., is_there)| *is_there);
    let parts = parts.map(|(what, name, seconds, _)| (what, name.to_owned(), Duration::from_secs(seconds)));
    let sources = system.metrics.iter().map(|(name, metric)| (What::Source(name.clone()), format!("{SOURCES}{name}"), metric.every()));
    let made = parts
        .chain(sources)
        .map(|(what, name, every)| Arc::new(Part { what, name, every, ctx: ctx.clone(), before: Mutex::default() }) as Arc<dyn Sampler>);
    made.collect()
}

impl Sampler for Part {
    fn name(&self) -> &str {
        &self.name
    }

    fn every(&self) -> Duration {
        self.every
    }

    fn sample(&self) -> BoxFuture<'_, Found> {
        Box::pin(async move {
            match &self.what {
                What::Machine => self.machine().into(),
                What::Services => {
                    let found = measure::services(&self.ctx).await;
                    Found { measured: with_jobs(self.ctx.system(), found.measured), ..found }
                }
                What::Endpoints => measure::endpoints(&self.ctx).await,
                What::Databases => measure::databases(&self.ctx).await,
                What::Caches => measure::caches(&self.ctx).await,
                What::Source(name) => measure::source(&self.ctx, name).await,
            }
        })
    }
}

impl Part {
    /// The machine, and how busy its processors were since the last time.
    fn machine(&self) -> Measured {
        let mut found = measure::machine();
        let now = measure::spent(&found);
        let before = std::mem::replace(&mut *self.before.lock().unwrap_or_else(PoisonError::into_inner), now);
        // The first time there is nothing to compare with, which is no failure.
        if before.is_some() || now.is_none() {
            found.push(measure::usage(before, now));
        }
        found
    }
}

/// Adds `up` for each service, under the jobs that rules know it by: what a rule of Prometheus names so, and
/// the name of the system and the service.
pub(super) fn with_jobs(system: &System, mut measured: Measured) -> Measured {
    let named = jobs(system);
    let mut ups = Measured::new();
    for (series, value) in measured.iter().filter(|(series, _)| series.name == "service_up") {
        let Some(service) = series.labels.get("service") else { continue };
        let own = format!("{}-{service}", system.name);
        let jobs: BTreeSet<&String> = named.iter().filter(|(_, of)| *of == service).map(|(job, _)| job).chain([&own]).collect();
        ups.extend(jobs.into_iter().map(|job| (Series::new("up").with("job", job).with("service", service), *value)));
    }
    measured.extend(ups);
    measured
}

/// The jobs that rules name, and the service each is.
fn jobs(system: &System) -> BTreeMap<String, String> {
    let job = |rule: &crate::model::system::Rule| {
        let job = rule.series.parse::<Selector>().ok()?.exactly("job")?.to_owned();
        match cause(system, rule, &Labels::from([("job".to_owned(), job.clone())])) {
            Cause::Service(service) => Some((job, service)),
            _ => None,
        }
    };
    system.rules.values().filter(|rule| rule.kind == RuleKind::Down).filter_map(job).collect()
}

/// When each sampler measures, and what it has measured before.
pub struct Rounds {
    each: Vec<Round>,
    /// When it was last asked what is due.
    asked: Option<Timestamp>,
    /// How often this machine woke up, or its clock was put back.
    wakes: u32,
}

struct Round {
    sampler: Arc<dyn Sampler>,
    next: Option<Timestamp>,
    every: Duration,
    is_out: bool,
    /// Before which wake it was sent last.
    sent: u32,
    /// Before which wake what came back last was sent.
    came: Option<u32>,
    known: BTreeSet<Series>,
    unknown: usize,
    problem: Option<Error>,
}

impl Rounds {
    /// The first round of each begins at once.
    pub fn new(samplers: Vec<Arc<dyn Sampler>>) -> Self {
        Self::paced(samplers, LOOK)
    }

    /// The same, each more or less often as the rules are looked at.
    pub fn paced(samplers: Vec<Arc<dyn Sampler>>, look: Duration) -> Self {
        let pace = look.as_secs_f64() / LOOK.as_secs_f64();
        let round = |sampler: Arc<dyn Sampler>| {
            let every = sampler.every().mul_f64(pace);
            Round { sampler, next: None, every, is_out: false, sent: 0, came: None, known: BTreeSet::new(), unknown: 0, problem: None }
        };
        Self { each: samplers.into_iter().map(round).collect(), asked: None, wakes: 0 }
    }

    /// Whether each has brought something back since this machine woke up, or nothing in time.
    pub fn have_all_come(&self) -> bool {
        self.each.iter().all(|round| round.came == Some(self.wakes))
    }

    /// How many series there are, and how many of them nobody knows the value of.
    pub fn standing(&self) -> (usize, usize) {
        let known = self.each.iter().map(|round| round.known.len()).sum();
        (known, self.each.iter().map(|round| round.unknown).sum())
    }

    /// The samplers whose turn it is, by their place. One that is still out is not sent again, and after a
    /// sleep, or a clock that was put back, each is sent once.
    pub fn due(&mut self, now: Timestamp) -> Vec<(usize, Arc<dyn Sampler>)> {
        if self.asked.is_some_and(|last| now < last || now.duration_since(last) > ASLEEP) {
            self.wakes += 1;
        }
        self.asked = Some(now);
        let mut due = Vec::new();
        for (place, round) in self.each.iter_mut().enumerate() {
            let is_early = round.sent == self.wakes && round.next.is_some_and(|next| next > now);
            if round.is_out || is_early {
                continue;
            }
            round.next = now.checked_add(round.every).ok();
            (round.is_out, round.sent) = (true, self.wakes);
            due.push((place, round.sampler.clone()));
        }
        due
    }

    /// The samplers by name, and why one brought nothing or not all back the last time.
    pub fn problems(&self) -> BTreeMap<String, Option<String>> {
        let about = |round: &Round| (round.sampler.name().to_owned(), round.problem.as_ref().map(|problem| problem.to_string()));
        self.each.iter().map(about).collect()
    }

    /// What a sampler brought back, as samples of the moment it was sent.
    /// What it had measured before and could not ask now is unknown, not absent.
    pub fn back(&mut self, place: usize, found: Found, sent: Timestamp) -> Vec<(Series, Sample)> {
        let Some(round) = self.each.get_mut(place) else { return Vec::new() };
        (round.is_out, round.came) = (false, Some(round.sent));
        let Found { measured, problem } = found;
        let mut found: BTreeMap<Series, Reading> = measured.into_iter().collect();
        if problem.is_some() {
            for series in &round.known {
                found.entry(series.clone()).or_insert(Reading::Unknown);
            }
        }
        round.known = found.keys().cloned().collect();
        round.problem = problem;
        round.unknown = found.values().filter(|value| **value == Reading::Unknown).count();
        found.into_iter().map(|(series, value)| (series, Sample { at: sent, value })).collect()
    }
}

/// Sends a sampler, and waits no longer than it may take.
pub async fn send(sampler: Arc<dyn Sampler>) -> Found {
    tokio::time::timeout(PATIENCE, sampler.sample()).await.unwrap_or_else(|_| late())
}

fn late() -> Found {
    Found { measured: Measured::new(), problem: Some(Error::new(Kind::Timeout, format!("no answer within {}", Span(PATIENCE)))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::system::{Rule, Service, Services};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    struct Fixed(Duration);

    impl Sampler for Fixed {
        fn name(&self) -> &'static str {
            "fixed"
        }

        fn every(&self) -> Duration {
            self.0
        }

        fn sample(&self) -> BoxFuture<'_, Found> {
            Box::pin(async { vec![(Series::new("a"), 1.0.into())].into() })
        }
    }

    fn rounds() -> Rounds {
        Rounds::new([10, 30].map(|seconds| Arc::new(Fixed(Duration::from_secs(seconds))) as Arc<dyn Sampler>).to_vec())
    }

    fn places(rounds: &mut Rounds, seconds: i64) -> Vec<usize> {
        rounds.due(at(seconds)).into_iter().map(|(place, _)| place).collect()
    }

    #[test]
    fn each_sampler_has_its_own_interval_and_is_not_sent_twice() {
        let mut rounds = rounds();
        assert_eq!(places(&mut rounds, 0), [0, 1]);
        assert_eq!(places(&mut rounds, 40), [0_usize; 0], "both are still out");
        rounds.back(0, Found::default(), at(0));
        rounds.back(1, Found::default(), at(0));
        assert_eq!(places(&mut rounds, 41), [0, 1]);
        rounds.back(0, Found::default(), at(41));
        assert_eq!(places(&mut rounds, 50), [0_usize; 0]);
        assert_eq!(places(&mut rounds, 51), [0]);
        rounds.back(0, Found::default(), at(51));
        rounds.back(1, Found::default(), at(41));
        assert_eq!(places(&mut rounds, 100_000), [0, 1], "a clock that jumped sends each once");
        rounds.back(0, Found::default(), at(100_000));
        assert_eq!(places(&mut rounds, 20), [0], "and one that was put back does not stop it");
    }

    #[test]
    fn who_was_asleep_looks_when_all_has_been_measured_again() {
        let mut rounds = rounds();
        rounds.due(at(0));
        rounds.back(0, Found::default(), at(0));
        rounds.back(1, Found::default(), at(0));
        assert_eq!((rounds.have_all_come(), places(&mut rounds, 31)), (true, vec![0, 1]));
        rounds.back(0, Found::default(), at(31));
        assert_eq!(places(&mut rounds, 3600), [0], "one is out since before");
        rounds.back(0, Found::default(), at(3600));
        rounds.back(1, Found::default(), at(31));
        assert!(!rounds.have_all_come(), "what it brings is an hour old");
        assert_eq!(places(&mut rounds, 3601), [1]);
        rounds.back(1, Found::default(), at(3601));
        assert!(rounds.have_all_come());
    }

    #[test]
    fn a_sampler_that_hangs_leaves_its_series_unknown() {
        let mut rounds = rounds();
        rounds.due(at(0));
        let series = Series::new("a");
        assert_eq!(
            rounds.back(0, vec![(series.clone(), 1.0.into())].into(), at(0)),
            [(series.clone(), Sample { at: at(0), value: 1.0.into() })]
        );
        rounds.due(at(10));
        assert_eq!(rounds.back(0, late(), at(10)), [(series, Sample { at: at(10), value: Reading::Unknown })]);
    }

    #[test]
    fn a_source_that_can_not_be_asked_says_so_and_what_it_told_is_unknown_and_not_0() {
        let mut rounds = Rounds::new(vec![Arc::new(Fixed(Duration::from_secs(10)))]);
        let (told, up) = (Series::new("orders"), Series::new("source_up"));
        rounds.back(0, vec![(told.clone(), 3.0.into()), (up.clone(), 1.0.into())].into(), at(0));
        assert_eq!(rounds.problems()["fixed"], None);
        let refused = || Found { measured: vec![(up.clone(), 0.0.into())], problem: Some(Error::new(Kind::Connect, "nobody is there")) };
        for second in [10, 20] {
            let found: BTreeMap<Series, Reading> =
                rounds.back(0, refused(), at(second)).into_iter().map(|(series, sample)| (series, sample.value)).collect();
            assert_eq!(found, BTreeMap::from([(told.clone(), Reading::Unknown), (up.clone(), 0.0.into())]));
        }
        assert_eq!(rounds.problems()["fixed"].as_deref(), Some("nobody is there"));
    }

    #[test]
    fn services_are_known_by_the_jobs_of_the_rules() {
        let rule = Rule { kind: RuleKind::Down, series: "up{job=\"aihub-backend\"}".to_owned(), ..Rule::default() };
        let each = [("backend".to_owned(), Service::default()), ("db".to_owned(), Service::default())].into();
        let system = System {
            name: "ai-hub".to_owned(),
            services: Services { each, ..Services::default() },
            rules: [("ServiceDown".to_owned(), rule)].into(),
            ..System::default()
        };
        let up = |service: &str, value| (Series::new("service_up").with("service", service), value);
        let found = with_jobs(&system, vec![up("backend", 0.0.into()), up("db", Reading::Unknown)]);
        let texts: Vec<String> = found.iter().skip(2).map(|(series, _)| series.to_string()).collect();
        assert_eq!(
            texts,
            [
                "up{job=\"ai-hub-backend\",service=\"backend\"}",
                "up{job=\"aihub-backend\",service=\"backend\"}",
                "up{job=\"ai-hub-db\",service=\"db\"}"
            ]
        );
        assert_eq!(found[4].1, Reading::Unknown);
    }

    #[test]
    fn every_series_of_a_rule_of_the_manuals_has_a_sampler() {
        use crate::config::{BUILTIN, Environment, Systems};
        let environment = Environment::default();
        let mut count = 0;
        for (name, _) in BUILTIN {
            let mut system = Systems::new("/nowhere", &environment).load(name).unwrap().system;
            for rule in system.rules.values() {
                for text in std::iter::once(&rule.series).chain(&rule.total) {
                    let series = text.parse::<Selector>().unwrap().name;
                    assert!(measure::is_measured(&system, &series), "{name}: {text}");
                    count += 1;
                }
            }
            system.metrics.clear();
            assert!(!measure::is_measured(&system, "http_requests_total"), "{name}: nobody tells it without its source");
        }
        assert!(count >= 29, "{count}");
    }

    #[test]
    fn every_rule_of_the_manuals_that_asks_whether_something_is_up_gets_an_answer_and_a_service() {
        use crate::config::{BUILTIN, Environment, Systems};
        let environment = Environment::default();
        let mut count = 0;
        for (name, _) in BUILTIN {
            let system = Systems::new("/nowhere", &environment).load(name).unwrap().system;
            let services = system.services.each.keys().map(|service| (Series::new("service_up").with("service", service), 1.0.into()));
            let measured = with_jobs(&system, services.collect());
            for rule in system.rules.values().filter(|rule| rule.kind == RuleKind::Down) {
                let selector: Selector = rule.series.parse().unwrap();
                let meant: Vec<&Series> = measured.iter().map(|(series, _)| series).filter(|series| selector.selects(series)).collect();
                assert!(!meant.is_empty(), "{name}: {}", rule.series);
                assert!(meant.iter().all(|series| matches!(cause(&system, rule, &series.labels), Cause::Service(_))), "{name}: {meant:?}");
                count += 1;
            }
        }
        assert_eq!(count, 5);
    }
}
