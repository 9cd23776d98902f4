//! The watch over one system: samples are judged, what changed becomes incidents, and what may be repaired is.
//!
//! [`Watch::tick`] is given the moment and does all of it; nothing here waits or asks a clock. What was not
//! kept has not happened: an alarm moves on only when what it means is in the store.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::alarm::{Alarm, Alarms, Turn};
use super::duty::{Duty, needs};
use super::incident::{Happened, Report, fingerprint};
use super::own::Own;
use super::remedy::{Case, Cause, Decision, MACHINE, cause, policies};
use super::repairs::Repairs;
use super::rule::{Answer, Sources, judge};
use super::sampler::{Rounds, send};
use crate::error::{Error, Result};
use crate::model::system::{Remediation, Rule, System};
use crate::model::{Incident, Labels, Repair, RepairState, Sample, Series, Severity, Source, Span};
use crate::store::{Appended, IncidentFilter, Samples, Store, Which};

/// How often old samples are forgotten.
const TRIM: SignedDuration = SignedDuration::from_hours(1);
/// How often the rules are looked at, unless the settings say otherwise.
pub const LOOK: Duration = Duration::from_secs(15);
/// It looks no more often than this, however short the settings say.
const SHORTEST: Duration = Duration::from_millis(100);
/// How often it sees whether something is to be measured.
const BEAT: Duration = Duration::from_secs(1);

/// A repair that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The system.
    pub system: String,
    /// The runbook.
    pub runbook: String,
    /// Its parameters.
    pub params: BTreeMap<String, Value>,
    /// The incident it is for.
    pub incident: u64,
}

/// Who starts runs.
pub trait Repairer: Send + Sync {
    /// Starts a run and returns its number, without waiting for its end.
    ///
    /// # Errors
    ///
    /// Why it could not be started; it counts as a try that failed.
    fn start(&self, order: &Order) -> Result<u64>;
}

/// One rule under watch.
struct Watched {
    name: String,
    rule: Rule,
    sources: Sources,
    alarms: Alarms,
}

/// What watches work with.
#[derive(Clone)]
pub struct Means {
    /// The directory of the project, which says whose contacts are meant.
    pub project: String,
    /// Where incidents and repairs are kept.
    pub store: Arc<dyn Store>,
    /// Where samples are kept.
    pub samples: Arc<Samples>,
    /// Who starts repairs.
    pub repairer: Arc<dyn Repairer>,
    /// How often the rules are looked at.
    pub look: Duration,
}

/// The process around a watch.
pub trait Around {
    /// The time.
    fn now(&self) -> Timestamp;

    /// Why nothing may happen by itself.
    fn paused(&self) -> Option<String>;

    /// It looked.
    fn looked(&self, look: &Look);
}

/// What a look found.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// When it was.
    pub at: Timestamp,
    /// How many samples were kept since the look before.
    pub taken: u64,
    /// How many were not, because there are too many series.
    pub refused: u64,
    /// What measures, and why it brought nothing or not all back the last time.
    pub samplers: BTreeMap<String, Option<String>>,
    /// How many series there are.
    pub series: usize,
    /// How many of them nobody knows the value of.
    pub unknown: usize,
    /// How many rules there are.
    pub rules: usize,
    /// How many alarms fire.
    pub firing: usize,
    /// How many alarms are about silence.
    pub silent: usize,
    /// Why it could not look; it looks again.
    pub failed: Option<Error>,
}

/// The watch over one system.
pub struct Watch {
    system: System,
    means: Means,
    rules: Vec<Watched>,
    trimmed: Option<Timestamp>,
}

impl Watch {
    /// A watch that goes on where the last one ended: alarms whose incidents are open fire, and a repair that
    /// was written down and never started has failed.
    ///
    /// # Errors
    ///
    /// `invalid` for a rule that can not be read; `store`.
    pub fn new(system: System, means: Means, now: Timestamp) -> Result<Self> {
        let filter = IncidentFilter { system: Some(system.name.clone()), open: true, ..IncidentFilter::default() };
        let open = means.store.incidents(&filter)?;
        let watched = |(name, rule): (&String, &Rule)| {
            let sources = Sources::of(rule)?;
            let own = Own { samples: &means.samples, system: &system.name };
            let alarms = resumed(own, rule, &sources, Span(means.look.max(SHORTEST)).signed(), remembered(name, &open), now)?;
            Ok(Watched { name: name.clone(), rule: rule.clone(), sources, alarms })
        };
        let rules = system.rules.iter().map(watched).collect::<Result<Vec<_>>>()?;
        let duty = Duty { store: &*means.store, system: &system, project: &means.project };
        Repairs { duty }.cut_off(now)?;
        Ok(Self { system, means, rules, trimmed: None })
    }

    /// Keeps what was measured, as what it is of this system; what became of it.
    ///
    /// # Errors
    ///
    /// `store`; nothing was kept then.
    pub fn take_in(&self, measured: Vec<(Series, Sample)>) -> Result<Appended> {
        self.own().append(measured)
    }

    /// How the alarms stand: how many fire, and how many are about silence.
    fn alarms(&self) -> (usize, usize) {
        let each = || self.rules.iter().flat_map(|watched| watched.alarms.each());
        (each().filter(|(_, alarm)| alarm.fires.is_some()).count(), each().filter(|(_, alarm)| alarm.silent.is_some()).count())
    }

    /// Looks at everything at one moment. `paused` says why nothing may happen by itself.
    ///
    /// # Errors
    ///
    /// `store`; what was not kept is looked at again the next time.
    pub fn tick(&mut self, now: Timestamp, paused: Option<&str>) -> Result<()> {
        self.judge(now)?;
        self.duty().pass(now)?;
        self.repairs().prove(now)?;
        self.repair(now, paused)?;
        if self.trimmed.is_none_or(|at| now.duration_since(at) >= TRIM) {
            self.means.samples.trim(now)?;
            self.trimmed = Some(now);
        }
        Ok(())
    }

    fn own(&self) -> Own<'_> {
        Own { samples: &self.means.samples, system: &self.system.name }
    }

    fn duty(&self) -> Duty<'_> {
        Duty { store: &*self.means.store, system: &self.system, project: &self.means.project }
    }

    /// Judges the samples and takes in what changed, what others need first.
    fn judge(&mut self, now: Timestamp) -> Result<()> {
        let mut turned = Vec::new();
        let mut alarms = Vec::new();
        for watched in &self.rules {
            let mut next = watched.alarms.clone();
            let turns = next.take(&watched.rule, &answers(self.own(), &watched.rule, &watched.sources, now)?, now);
            turned.extend(turns.into_iter().map(|(labels, turn)| (self.depth(&watched.rule, &labels), watched, labels, turn)));
            alarms.push(next);
        }
        turned.sort_by_key(|(depth, ..)| *depth);
        for (_, watched, labels, turn) in &turned {
            self.take(watched, labels, *turn, now)?;
        }
        for (watched, alarms) in self.rules.iter_mut().zip(alarms) {
            watched.alarms = alarms;
        }
        Ok(())
    }

    fn depth(&self, rule: &Rule, labels: &Labels) -> usize {
        match cause(&self.system, rule, labels) {
            Cause::Service(service) => needs(&self.system, &service).len(),
            _ => 0,
        }
    }

    fn take(&self, watched: &Watched, labels: &Labels, turn: Turn, now: Timestamp) -> Result<()> {
        let (name, duty) = (&watched.name, self.duty());
        let broke = |value| duty.report(&self.report(name, &watched.rule, labels, value), now);
        let ended = |source: Source, value| {
            let which = fingerprint(&self.system.name, &source, labels);
            duty.happened(Which::Fingerprint(&which), &Happened::Recovered { value }, now)
        };
        let kept = match turn {
            Turn::Fired(value) => broke(Some(value)),
            Turn::Silent => broke(None),
            Turn::Cleared(value) => ended(Source::Rule(name.clone()), value),
            Turn::Heard => ended(Source::Silence(name.clone()), None),
        };
        kept.map(drop)
    }

    /// What is reported of a rule: that it fires, or without a value that it has no answer.
    fn report(&self, name: &str, rule: &Rule, labels: &Labels, value: Option<f64>) -> Report {
        let summary = if rule.summary.is_empty() { name } else { &rule.summary };
        let severity = Severity::parse(&rule.severity).unwrap_or(Severity::Sev3);
        let (source, title, severity) = match value {
            Some(_) => (Source::Rule(name.to_owned()), summary.to_owned(), severity),
            // That nobody knows is bad enough, and a step less than knowing the worst.
            None => (
                Source::Silence(name.to_owned()),
                format!("{summary}{}", if self.system.language == "zh" { "：无数据" } else { ": no data" }),
                below(severity),
            ),
        };
        let service = match cause(&self.system, rule, labels) {
            Cause::Service(service) => Some(service),
            _ => None,
        };
        Report {
            system: self.system.name.clone(),
            source,
            labels: labels.clone(),
            title,
            severity,
            service,
            value,
            text: String::new(),
            because: None,
            run: None,
        }
    }

    fn repairs(&self) -> Repairs<'_> {
        Repairs { duty: self.duty() }
    }

    fn open(&self) -> Result<Vec<Incident>> {
        self.duty().open()
    }

    /// Makes the repairs that are due.
    fn repair(&self, now: Timestamp, paused: Option<&str>) -> Result<()> {
        let open = self.open()?;
        for watched in &self.rules {
            let is_known = |alarm: &Alarm| alarm.silent.is_none() && alarm.unknown.is_none();
            for (labels, alarm) in watched.alarms.each().filter(|(_, alarm)| alarm.fires.is_some() && is_known(alarm)) {
                let which = fingerprint(&self.system.name, &Source::Rule(watched.name.clone()), labels);
                let Some(incident) = open.iter().find(|incident| incident.fingerprint == which) else { continue };
                let case = Case {
                    incident: incident.number,
                    cause: cause(&self.system, &watched.rule, labels),
                    fires: alarm.holds.filter(|_| incident.calm.is_none()),
                    flapping: incident.flapping,
                    because: incident.because,
                };
                for (name, policy) in policies(&self.system, &watched.name) {
                    self.try_repair(name, policy, &case, now, paused)?;
                }
            }
        }
        Ok(())
    }

    fn try_repair(&self, name: &str, policy: &Remediation, case: &Case, now: Timestamp, paused: Option<&str>) -> Result<()> {
        match self.repairs().reserve(name, policy, case, None, paused, now)? {
            (Decision::Act { target }, Some(repair)) => self.act(policy, &target, repair, now),
            _ => Ok(()),
        }
    }

    fn act(&self, policy: &Remediation, target: &str, repair: Repair, now: Timestamp) -> Result<()> {
        let mut params = policy.params.clone();
        if target != MACHINE {
            params.insert("service".to_owned(), target.into());
        }
        let order = Order { system: self.system.name.clone(), runbook: policy.runbook.clone(), params, incident: repair.incident };
        let (repair, what) = match self.means.repairer.start(&order) {
            Ok(run) => (Repair { run: Some(run), ..repair }, format!("{} on {target}", policy.runbook)),
            Err(error) => {
                let what = format!("{} on {target} could not be started: {}", policy.runbook, error.message);
                (Repair { ended: Some(now), state: RepairState::Failed, ..repair }, what)
            }
        };
        self.means.store.conclude_repair(&repair)?;
        self.repairs().note(&repair, &what, now)
    }
}

/// What a rule says of the samples of a moment.
fn answers(own: Own<'_>, rule: &Rule, sources: &Sources, now: Timestamp) -> Result<BTreeMap<Labels, Answer>> {
    let from = now.checked_sub(sources.reach).unwrap_or(Timestamp::MIN);
    let total = sources.total.as_ref().map(|total| own.tracks(total, from, now)).transpose()?.unwrap_or_default();
    Ok(judge(rule, &own.tracks(&sources.series, from, now)?, &total, now))
}

/// The alarms as they would be if somebody had looked all the time: what holds has held since before this
/// process, and what fires without an incident fires now.
fn resumed(own: Own<'_>, rule: &Rule, sources: &Sources, step: SignedDuration, known: Alarms, now: Timestamp) -> Result<Alarms> {
    let hold = rule.hold.unwrap_or_default().signed();
    let first = now.checked_sub(hold.saturating_add(step)).unwrap_or(now);
    let past = Alarms::of_looks(rule, sources, &own.of_rule(sources, first, now)?, first, now, step);
    // Nobody measured while nobody was there, which is no silence; samples that say unknown say since when.
    let quiet = |alarm: &Alarm| Alarm { fires: None, silent: None, unknown: None, ..*alarm };
    let past = past.each().map(|(labels, alarm)| (labels.clone(), quiet(alarm)));
    Ok(Alarms::remembered(past.chain(known.each().map(|(labels, alarm)| (labels.clone(), *alarm)))))
}

/// The alarms of a rule whose incidents are open.
fn remembered(name: &str, open: &[Incident]) -> Alarms {
    let mut alarms: BTreeMap<Labels, Alarm> = BTreeMap::new();
    for incident in open.iter().filter(|incident| incident.calm.is_none()) {
        let since = Some(incident.opened);
        match &incident.source {
            Source::Rule(rule) if rule == name => {
                let alarm = alarms.entry(incident.labels.clone()).or_default();
                (alarm.holds, alarm.fires) = (since, since);
            }
            Source::Silence(rule) if rule == name => {
                let alarm = alarms.entry(incident.labels.clone()).or_default();
                (alarm.unknown, alarm.silent) = (since, since);
            }
            _ => {}
        }
    }
    Alarms::remembered(alarms)
}

fn below(severity: Severity) -> Severity {
    match severity {
        Severity::Sev1 => Severity::Sev2,
        Severity::Sev2 => Severity::Sev3,
        Severity::Sev3 => Severity::Sev4,
        Severity::Sev4 | Severity::Sev5 => Severity::Sev5,
    }
}

/// Measures and looks until `stop` is over.
///
/// A look that fails is told and made again; it never ends the watch.
pub async fn keep(mut watch: Watch, mut rounds: Rounds, around: &dyn Around, stop: impl Future<Output = ()>) {
    let mut out = FuturesUnordered::new();
    let mut beat = tokio::time::interval(watch.means.look.clamp(SHORTEST, BEAT));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let look = Span(watch.means.look).signed();
    let (mut looked, mut taken, mut refused): (Option<Timestamp>, u64, u64) = (None, 0, 0);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            Some((place, sent, measured)) = out.next() => {
                match watch.take_in(rounds.back(place, measured, sent)) {
                    Ok(kept) => {
                        taken += kept.kept as u64;
                        refused += kept.refused as u64;
                    }
                    Err(error) => tracing::error!(%error, system = watch.system.name, "samples can not be kept"),
                }
            }
            _ = beat.tick() => {
                let at = around.now();
                for (place, sampler) in rounds.due(at) {
                    out.push(async move { (place, at, send(sampler).await) });
                }
                // What was measured before this process began says nothing of now.
                let is_early = looked.is_some_and(|last| at >= last && at.duration_since(last) < look);
                if is_early || !rounds.have_all_come() {
                    continue;
                }
                looked = Some(at);
                let failed = watch.tick(at, around.paused().as_deref()).err();
                let (firing, silent) = watch.alarms();
                let (series, unknown) = rounds.standing();
                let (taken, refused) = (std::mem::take(&mut taken), std::mem::take(&mut refused));
                let samplers = rounds.problems();
                around.looked(&Look { at, taken, refused, samplers, series, unknown, rules: watch.rules.len(), firing, silent, failed });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::error::Kind;
    use crate::model::system::{RemediationMode, RuleKind};
    use crate::model::{IncidentState, Reading, Span};
    use crate::monitor::testing;
    use crate::store::{Keep, Memory, Sqlite, StateDir};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    /// Starts nothing, and remembers what it was asked for.
    #[derive(Default)]
    struct Asked(Mutex<Vec<Order>>);

    impl Repairer for Asked {
        fn start(&self, order: &Order) -> Result<u64> {
            let mut orders = self.0.lock().unwrap();
            orders.push(order.clone());
            // A run nobody knows is over.
            Ok(1000 + orders.len() as u64)
        }
    }

    struct Refusing;

    impl Repairer for Refusing {
        fn start(&self, _: &Order) -> Result<u64> {
            Err(Error::new(Kind::NotStarted, "no place"))
        }
    }

    fn shop() -> System {
        let rule = |series: &str, service: Option<&str>| Rule {
            kind: RuleKind::Down,
            series: series.to_owned(),
            hold: Some(Span::secs(60)),
            no_data: Some(Span::secs(300)),
            level: "critical".to_owned(),
            severity: "sev1".to_owned(),
            service: service.map(str::to_owned),
            ..Rule::default()
        };
        let policy = Remediation {
            runbook: "recover-service".to_owned(),
            when: vec!["ServiceDown".to_owned()],
            services: vec!["api".to_owned(), "web".to_owned()],
            mode: RemediationMode::Act,
            hold: Some(Span::secs(60)),
            budget: Some(3),
            per: Some(Span::secs(900)),
            ..Remediation::default()
        };
        System {
            rules: [("ServiceDown".to_owned(), rule("service_up", None))].into(),
            remediation: [("service".to_owned(), policy)].into(),
            routes: [("sev1".to_owned(), vec!["chat".to_owned()])].into(),
            ..testing::shop()
        }
    }

    fn means(store: &Arc<dyn Store>, samples: &Arc<Samples>, repairer: Arc<dyn Repairer>) -> Means {
        Means { project: String::new(), store: store.clone(), samples: samples.clone(), repairer, look: LOOK }
    }

    struct Scene {
        store: Arc<dyn Store>,
        samples: Arc<Samples>,
        repairer: Arc<Asked>,
        watch: Watch,
    }

    impl Scene {
        fn of(store: Arc<dyn Store>) -> Self {
            let samples = Arc::new(Samples::in_memory(Keep::default()).unwrap());
            let repairer = Arc::new(Asked::default());
            let watch = Watch::new(shop(), means(&store, &samples, repairer.clone()), at(0)).unwrap();
            Self { store, samples, repairer, watch }
        }

        fn new() -> Self {
            Self::of(Arc::new(Memory::default()))
        }

        /// A process that was killed and started again.
        fn killed(self, seconds: i64) -> Self {
            let Self { store, samples, repairer, .. } = self;
            let watch = Watch::new(shop(), means(&store, &samples, repairer.clone()), at(seconds)).unwrap();
            Self { store, samples, repairer, watch }
        }

        /// Every 15 s the services are like this, and the watch looks.
        fn while_(&mut self, seconds: std::ops::Range<i64>, services: &[(&str, Option<f64>)], paused: Option<&str>) {
            for second in seconds.step_by(15) {
                let sample = |(name, value): &(&str, Option<f64>)| {
                    (Series::new("service_up").with("service", *name), Sample { at: at(second), value: Reading::from(*value) })
                };
                self.watch.take_in(services.iter().map(sample).collect()).unwrap();
                self.watch.tick(at(second), paused).unwrap();
            }
        }

        fn subjects(&self) -> Vec<String> {
            self.store.queued().unwrap().into_iter().map(|parcel| parcel.message.subject).collect()
        }

        fn repairs(&self) -> usize {
            self.repairer.0.lock().unwrap().len()
        }
    }

    const UP: Option<f64> = Some(1.0);
    const DOWN: Option<f64> = Some(0.0);

    #[test]
    fn what_breaks_is_noticed_repaired_proven_and_told() {
        let mut scene = Scene::new();
        scene.while_(0..60, &[("api", UP)], None);
        scene.while_(60..180, &[("api", DOWN)], None);
        let orders = scene.repairer.0.lock().unwrap().clone();
        assert_eq!(orders.len(), 1, "{orders:?}");
        assert_eq!((orders[0].runbook.as_str(), &orders[0].params["service"]), ("recover-service", &Value::from("api")));
        scene.while_(180..300, &[("api", UP)], None);
        assert_eq!(scene.subjects(), ["[sev1] Shop: ServiceDown", "[sev1 recovered] Shop: ServiceDown"]);
        let repairs = scene.store.repairs("shop", at(0)).unwrap();
        assert_eq!((repairs.len(), repairs[0].state), (1, RepairState::Helped));
        let incident = scene.store.incidents(&IncidentFilter::default()).unwrap().remove(0);
        let told: Vec<String> = incident.timeline.iter().map(|moment| format!("{} {}", moment.what, moment.text)).collect();
        assert!(
            told.iter().any(|line| line == "repair recover-service on api") && told.iter().any(|line| line == "repair it helped"),
            "{told:?}"
        );
        assert_eq!((incident.state, incident.resolved.unwrap().at), (IncidentState::Resolved, at(180)));
    }

    #[test]
    fn a_loop_is_repaired_three_times_also_when_the_watch_is_killed_again_and_again() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(&directory.path().join("state")).unwrap();
        let mut scene = Scene::of(Arc::new(Sqlite::open(&state.database()).unwrap()));
        for minute in 0..60 {
            scene.while_(minute * 60..minute * 60 + 60, &[("api", DOWN)], None);
            scene = scene.killed(minute * 60 + 59);
        }
        assert_eq!(scene.repairs(), 3);
        let escalated = scene.subjects().into_iter().filter(|subject| subject.contains("escalated")).count();
        assert_eq!((scene.subjects().len(), escalated), (2 + 1, 1), "{:?}", scene.subjects());
        assert_eq!(scene.store.incidents(&IncidentFilter::default()).unwrap().len(), 1);
    }

    #[test]
    fn one_bad_sample_and_what_comes_and_goes_repair_nothing() {
        let mut scene = Scene::new();
        scene.while_(0..60, &[("api", UP)], None);
        scene.while_(60..75, &[("api", DOWN)], None);
        scene.while_(75..200, &[("api", UP)], None);
        assert_eq!((scene.repairs(), scene.subjects().len()), (0, 0));
        for turn in 0..20 {
            let value = if turn % 2 == 0 { DOWN } else { UP };
            scene.while_(200 + turn * 30..230 + turn * 30, &[("api", value)], None);
        }
        assert_eq!((scene.repairs(), scene.subjects().len()), (0, 0));
    }

    #[test]
    fn while_all_is_paused_nothing_is_repaired_and_everything_is_told() {
        let mut scene = Scene::new();
        scene.while_(0..300, &[("api", DOWN)], Some("by jo: freeze"));
        assert_eq!((scene.repairs(), scene.subjects().len()), (0, 1));
        scene.while_(300..315, &[("api", DOWN)], None);
        assert_eq!(scene.repairs(), 1);
    }

    #[test]
    fn when_a_database_takes_others_with_it_one_thing_is_told_and_nothing_else_is_restarted() {
        let mut scene = Scene::new();
        scene.while_(0..300, &[("api", DOWN), ("db", DOWN)], None);
        assert_eq!(scene.repairs(), 0, "the database is a person's, and the API is because of it");
        let open = scene.watch.open().unwrap();
        assert_eq!((open[0].service.as_deref(), open[1].because), (Some("db"), Some(1)));
        let told = scene.subjects();
        assert_eq!(told, ["[sev1] Shop: ServiceDown", "[sev1 escalated] Shop: ServiceDown"], "the second says that no policy covers it");
    }

    #[test]
    fn a_series_that_falls_silent_is_told_and_does_not_resolve_what_was_wrong() {
        let mut scene = Scene::new();
        scene.while_(0..120, &[("web", DOWN)], Some("test"));
        scene.while_(120..600, &[("web", None)], Some("test"));
        let open = scene.watch.open().unwrap();
        let sources: Vec<&str> = open.iter().map(|incident| incident.source.kind()).collect();
        assert_eq!(sources, ["rule", "silence"]);
        scene.while_(600..700, &[("web", UP)], Some("test"));
        assert_eq!(scene.watch.open().unwrap().len(), 0);
    }

    #[test]
    fn a_repair_that_can_not_be_started_counts_as_one_that_failed() {
        let mut scene = Scene::new();
        scene.watch.means.repairer = Arc::new(Refusing);
        scene.while_(0..600, &[("web", DOWN)], None);
        let repairs = scene.store.repairs("shop", at(0)).unwrap();
        let states: Vec<RepairState> = repairs.iter().map(|repair| repair.state).collect();
        assert_eq!(states, [RepairState::Failed, RepairState::Failed, RepairState::Failed, RepairState::Escalated]);
    }

    #[test]
    fn a_watch_that_begins_has_not_waited_for_data_before() {
        let patient = |rule: &Rule| Rule { hold: Some(Span::secs(3600)), ..rule.clone() };
        let rules = shop().rules.iter().map(|(name, rule)| (name.clone(), patient(rule))).collect();
        let (store, scene): (Arc<dyn Store>, _) = (Arc::new(Memory::default()), Scene::new());
        let system = System { rules, ..shop() };
        let mut watch = Watch::new(system, means(&store, &scene.samples, scene.repairer.clone()), at(0)).unwrap();
        for second in (0..300).step_by(15) {
            watch.tick(at(second), None).unwrap();
        }
        assert_eq!(store.incidents(&IncidentFilter::default()).unwrap(), []);
        watch.tick(at(300), None).unwrap();
        assert_eq!(store.incidents(&IncidentFilter::default()).unwrap()[0].source.kind(), "silence");
    }

    #[test]
    fn services_of_two_systems_that_have_one_name_are_two() {
        let mut scene = Scene::new();
        let other = System { name: "blog".to_owned(), ..shop() };
        let mut other = Watch::new(other, means(&scene.store, &scene.samples, scene.repairer.clone()), at(0)).unwrap();
        for second in (0..120).step_by(15) {
            scene.while_(second..second + 15, &[("web", DOWN)], None);
            let up = Sample { at: at(second), value: UP.into() };
            other.take_in(vec![(Series::new("service_up").with("service", "web"), up)]).unwrap();
            other.tick(at(second), None).unwrap();
        }
        let systems: Vec<String> =
            scene.store.incidents(&IncidentFilter::default()).unwrap().into_iter().map(|incident| incident.system).collect();
        assert_eq!((systems, other.alarms()), (vec!["shop".to_owned()], (0, 0)));
        assert_eq!(scene.watch.alarms(), (1, 0));
    }
}
