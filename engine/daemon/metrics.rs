//! What is counted, in the format Prometheus reads.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::error::{Error, Kind, Result};
use crate::model::{Incident, Level, Run, Tick, TickOutcome, Urgency};
use crate::run::daemon::Watching;

/// From 50 ms to 2 h.
const DURATIONS: [f64; 12] = [0.05, 0.2, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0];
/// From 1 ms to 10 min.
const WAITS: [f64; 9] = [0.001, 0.01, 0.05, 0.2, 1.0, 5.0, 30.0, 120.0, 600.0];

/// What is counted while the daemon lives. Labels are names of one's own files, so there are few of them.
pub(super) struct Metrics {
    registry: Registry,
    runs: Family<Ended, Counter>,
    durations: Family<Of, Histogram>,
    waits: Histogram,
    ticks: Family<Ticked, Counter>,
    lateness: Histogram,
    checks: Family<Checked, Gauge>,
    last: Family<Of, Gauge>,
    hooks: Family<Hooked, Counter>,
    running: Gauge,
    queued: Gauge,
    places: Gauge,
    paused: Gauge,
    needs: Gauge,
    messages: Family<Parcelled, Gauge>,
    incidents: Family<Severe, Gauge>,
    watches: Watches,
}

/// What is counted of each watch.
#[derive(Default)]
struct Watches {
    looked: Family<OfSystem, Gauge>,
    samples: Family<OfSystem, Counter>,
    series: Family<OfSystem, Gauge>,
    unknown: Family<OfSystem, Gauge>,
    rules: Family<OfSystem, Gauge>,
    firing: Family<OfSystem, Gauge>,
    silent: Family<OfSystem, Gauge>,
    restarts: Family<OfSystem, Gauge>,
    refused: Family<OfSystem, Gauge>,
    samplers: Family<OfSampler, Gauge>,
}

impl Watches {
    fn register(&self, registry: &mut Registry) {
        registry.register("watch_last_look_seconds", "When the rules were last looked at, in seconds since 1970", self.looked.clone());
        registry.register("watch_samples", "Samples that were kept", self.samples.clone());
        registry.register("watch_series", "Series that are measured", self.series.clone());
        registry.register("watch_series_unknown", "Series whose value nobody knows", self.unknown.clone());
        registry.register("watch_rules", "Rules that are looked at", self.rules.clone());
        registry.register("watch_alarms_firing", "Alarms that fire", self.firing.clone());
        registry.register("watch_alarms_silent", "Alarms about silence", self.silent.clone());
        registry.register("watch_restarts", "How often a watch ended by itself since the settings were read", self.restarts.clone());
        registry.register(
            "watch_samples_refused",
            "Samples that were not kept before the last look, because there are too many series",
            self.refused.clone(),
        );
        registry.register("watch_sampler_up", "Whether a sampler could ask the last time", self.samplers.clone());
    }

    fn show(&self, watches: &[Watching]) {
        for family in [&self.looked, &self.series, &self.unknown, &self.rules, &self.firing, &self.silent, &self.restarts, &self.refused] {
            family.clear();
        }
        self.samplers.clear();
        for watch in watches {
            let of = OfSystem { system: watch.system.clone() };
            self.looked.get_or_create(&of).set(watch.looked.map_or(0, |at| at.as_second()));
            count(&self.series.get_or_create(&of), watch.series);
            count(&self.unknown.get_or_create(&of), watch.unknown);
            count(&self.rules.get_or_create(&of), watch.rules);
            count(&self.firing.get_or_create(&of), watch.firing);
            count(&self.silent.get_or_create(&of), watch.silent);
            self.refused.get_or_create(&of).set(i64::try_from(watch.refused).unwrap_or(i64::MAX));
            for (sampler, problem) in &watch.samplers {
                let of = OfSampler { system: watch.system.clone(), sampler: sampler.clone() };
                self.samplers.get_or_create(&of).set(i64::from(problem.is_none()));
            }
            self.restarts.get_or_create(&of).set(i64::try_from(watch.restarts).unwrap_or(i64::MAX));
        }
    }
}

/// A system.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSystem {
    system: String,
}

/// What measures a part of a system.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSampler {
    system: String,
    sampler: String,
}

/// How severe something is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Severe {
    system: String,
    severity: String,
}

/// A runbook for a system.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    runbook: String,
    system: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    runbook: String,
    system: String,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Checked {
    runbook: String,
    system: String,
    level: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ticked {
    schedule: String,
    outcome: String,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Hooked {
    hook: String,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Parcelled {
    state: String,
}

/// How things stand at the moment somebody asks.
pub(super) struct Now {
    pub(super) running: usize,
    pub(super) queued: usize,
    pub(super) places: u32,
    pub(super) is_paused: bool,
    /// Runs that do not go on without a person.
    pub(super) needs: usize,
    pub(super) messages_queued: usize,
    pub(super) messages_dead: usize,
    pub(super) watches: Vec<Watching>,
    /// The incidents that are not over.
    pub(super) incidents: Vec<Incident>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("runbook");
        let build = Family::<[(String, String); 1], Gauge>::default();
        build.get_or_create(&[("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        registry.register("build", "The version that serves", build);
        let metrics = Self {
            runs: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            waits: Histogram::new(WAITS),
            ticks: Family::default(),
            lateness: Histogram::new(WAITS),
            checks: Family::default(),
            last: Family::default(),
            hooks: Family::default(),
            running: Gauge::default(),
            queued: Gauge::default(),
            places: Gauge::default(),
            paused: Gauge::default(),
            needs: Gauge::default(),
            messages: Family::default(),
            incidents: Family::default(),
            watches: Watches::default(),
            registry: Registry::default(),
        };
        registry.register("runs", "Runs of the daemon that ended, by how", metrics.runs.clone());
        registry.register("run_duration_seconds", "How long its runs took", metrics.durations.clone());
        registry.register("run_queue_seconds", "How long runs waited for a place", metrics.waits.clone());
        registry.register("run_last_end_seconds", "When a runbook last ended well, in seconds since 1970", metrics.last.clone());
        registry.register("runs_active", "Runs that have a place", metrics.running.clone());
        registry.register("runs_queued", "Runs that wait for a place", metrics.queued.clone());
        registry.register("runs_places", "Runs that may have a place", metrics.places.clone());
        registry.register("runs_need_person", "Runs that do not go on without a person", metrics.needs.clone());
        registry.register("paused", "Whether nothing starts by itself", metrics.paused.clone());
        registry.register("ticks", "Due moments of schedules, by what became of them", metrics.ticks.clone());
        registry.register("tick_lateness_seconds", "How much later than due runs of schedules were started", metrics.lateness.clone());
        registry.register("checks", "The checks of the last run, by level", metrics.checks.clone());
        registry.register("hooks", "Requests to hooks, by the code of the answer", metrics.hooks.clone());
        registry.register("messages", "Messages in the outbox, by state", metrics.messages.clone());
        registry.register("incidents_open", "Incidents that are not over", metrics.incidents.clone());
        metrics.watches.register(&mut registry);
        Self { registry, ..metrics }
    }

    /// A run got its place after this time.
    pub(super) fn placed(&self, after: std::time::Duration) {
        self.waits.observe(after.as_secs_f64());
    }

    /// A run ended.
    pub(super) fn ended(&self, run: &Run) {
        let of = Of { runbook: run.runbook.clone(), system: run.system.clone().unwrap_or_default() };
        let Of { runbook, system } = of.clone();
        self.runs.get_or_create(&Ended { runbook, system, status: run.status.name().to_owned() }).inc();
        self.durations.get_or_create(&of).observe(seconds(run.duration_ms));
        if let Some(ended) = run.ended.filter(|_| run.exit_code == Some(0)) {
            self.last.get_or_create(&of).set(ended.as_second());
        }
        for level in [Level::Ok, Level::Warning, Level::Critical, Level::Unknown] {
            let Of { runbook, system } = of.clone();
            let checks = run.checks.iter().filter(|check| check.level == level).count();
            count(&self.checks.get_or_create(&Checked { runbook, system, level: level.name().to_owned() }), checks);
        }
    }

    /// A tick was decided about.
    pub(super) fn decided(&self, tick: &Tick) {
        let reason = tick.outcome.cause().map(|cause| cause.reason.name().to_owned()).unwrap_or_default();
        let outcome = tick.outcome.name().to_owned();
        self.ticks.get_or_create(&Ticked { schedule: tick.schedule.clone(), outcome, reason }).inc();
        if matches!(tick.outcome, TickOutcome::Started { .. }) {
            self.lateness.observe(tick.decided.duration_since(tick.start).as_secs_f64().max(0.0));
        }
    }

    /// Samples were kept.
    pub(super) fn sampled(&self, system: &str, samples: u64) {
        self.watches.samples.get_or_create(&OfSystem { system: system.to_owned() }).inc_by(samples);
    }

    /// A hook was answered.
    pub(super) fn hooked(&self, hook: &str, code: u16) {
        self.hooks.get_or_create(&Hooked { hook: hook.to_owned(), code: code.to_string() }).inc();
    }

    /// All of it as text.
    pub(super) fn text(&self, now: &Now) -> Result<String> {
        count(&self.running, now.running);
        count(&self.queued, now.queued);
        count(&self.needs, now.needs);
        self.places.set(i64::from(now.places));
        self.paused.set(i64::from(now.is_paused));
        for (state, number) in [("queued", now.messages_queued), ("dead", now.messages_dead)] {
            count(&self.messages.get_or_create(&Parcelled { state: state.to_owned() }), number);
        }
        self.watches.show(&now.watches);
        self.incidents.clear();
        for incident in &now.incidents {
            let severity = Urgency::Severity(incident.severity).name().to_owned();
            self.incidents.get_or_create(&Severe { system: incident.system.clone(), severity }).inc();
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
        Ok(text)
    }
}

fn count(gauge: &Gauge, number: usize) {
    gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
}

fn seconds(millis: u64) -> f64 {
    std::time::Duration::from_millis(millis).as_secs_f64()
}
