//! What a system is like at the moment, as samples: the same questions as scripts ask, by the same clients
//! and permissions.
//!
//! Each question answers with numbers or with `unknown`; none fails, and none takes longer than its clients'
//! timeouts. Names are those of the exporters people know where there are some, so that a rule means the same
//! here and in Prometheus.

use futures_util::future::join_all;

use crate::error::{Error, Kind};
use crate::host::Ctx;
use crate::model::{Reading, Series, System};

/// What was measured.
pub type Measured = Vec<(Series, Reading)>;

/// What came back of a question.
#[derive(Debug, Default)]
pub struct Found {
    /// What was measured.
    pub measured: Measured,
    /// Why it is not all.
    pub problem: Option<Error>,
}

impl Found {
    /// All of them as one, with the first problem.
    fn all(each: Vec<Self>) -> Self {
        let mut all = Self::default();
        for found in each {
            all.measured.extend(found.measured);
            all.problem = all.problem.or(found.problem);
        }
        all
    }
}

impl From<Measured> for Found {
    fn from(measured: Measured) -> Self {
        Self { measured, problem: None }
    }
}

/// The machine: processors, memory, swap, load, filesystems.
pub fn machine() -> Measured {
    super::sys::machine()
}

/// Each service of the system: `service_up`, `service_running`, `service_restarts`.
pub async fn services(ctx: &Ctx) -> Found {
    super::services::measure(ctx).await
}

/// Each endpoint of the system: `endpoint_up` and `endpoint_ms`.
pub async fn endpoints(ctx: &Ctx) -> Found {
    Found::all(join_all(ctx.system().endpoints.keys().map(|name| super::http::measure(ctx, name))).await)
}

/// Each database of the system: `database_up`, `database_ms`, its client connections and how many it accepts.
pub async fn databases(ctx: &Ctx) -> Found {
    Found::all(join_all(ctx.system().databases.keys().map(|name| super::sql::measure(ctx, name))).await)
}

/// Each cache of the system: `cache_up`, its memory and how much it may use.
pub async fn caches(ctx: &Ctx) -> Found {
    Found::all(join_all(ctx.system().caches.keys().map(|name| super::redis::measure(ctx, name))).await)
}

/// What a source of `[metrics]` tells, and `source_up`, which is 0 when it does not answer or not as it must, and
/// unknown when it may not be asked.
pub async fn source(ctx: &Ctx, name: &str) -> Found {
    let up = |up: Reading| one("source_up", "source", name, up);
    match super::samples::ask_source(ctx, name).await {
        Ok(measured) => Found::from([measured, vec![up(1.0.into())]].concat()),
        Err(problem) => {
            let own = ctx.system().metrics.get(name).and_then(|metric| metric.only_series(name));
            let unknown = own.map(|series| (series, Reading::Unknown));
            Found {
                measured: unknown
                    .into_iter()
                    .chain([up(if problem.kind == Kind::Denied { Reading::Unknown } else { 0.0.into() })])
                    .collect(),
                problem: Some(problem),
            }
        }
    }
}

/// What each source of `[metrics]` tells.
pub async fn sources(ctx: &Ctx) -> Found {
    Found::all(join_all(ctx.system().metrics.keys().map(|name| source(ctx, name))).await)
}

/// Whether something measures a series of this name: the machine, or what the system has.
pub fn is_measured(system: &System, series: &str) -> bool {
    let parts = [
        (true, &MACHINE[..]),
        (!system.services.each.is_empty(), &SERVICES),
        (!system.endpoints.is_empty(), &ENDPOINTS),
        (!system.databases.is_empty(), &DATABASES),
        (!system.caches.is_empty(), &CACHES),
        (!system.metrics.is_empty(), &SOURCES),
    ];
    parts.into_iter().any(|(is_there, names)| is_there && names.contains(&series))
        || system.metrics.iter().any(|(name, metric)| metric.may_tell(name, series))
}

/// The series of each part.
const MACHINE: [&str; 11] = [
    "node_cpu_seconds_total",
    "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes",
    "node_memory_MemAvailable_bytes",
    "node_memory_MemTotal_bytes",
    "system_cpu_usage_percent",
    "system_disk_usage_percent",
    "system_inodes_usage_percent",
    "system_load_per_core",
    "system_memory_usage_percent",
    "system_swap_usage_percent",
];
const SERVICES: [&str; 4] = ["service_restarts", "service_running", "service_up", "up"];
const ENDPOINTS: [&str; 2] = ["endpoint_ms", "endpoint_up"];
const DATABASES: [&str; 6] = [
    "database_connections",
    "database_connections_max",
    "database_idle_in_transaction",
    "database_ms",
    "database_up",
    "pg_stat_activity_count",
];
const CACHES: [&str; 3] = ["cache_up", "redis_memory_max_bytes", "redis_memory_used_bytes"];
const SOURCES: [&str; 1] = ["source_up"];

/// The seconds the processors have been busy and idle so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    busy: f64,
    idle: f64,
}

/// What a look at the machine says of its processors; nothing when they are not counted.
pub fn spent(machine: &Measured) -> Option<Spent> {
    let seconds = |mode: &str| {
        let is_meant = |series: &Series| series.name == "node_cpu_seconds_total" && series.labels.get("mode").is_some_and(|it| it == mode);
        machine.iter().find(|(series, _)| is_meant(series)).and_then(|(_, value)| value.number())
    };
    Some(Spent { busy: seconds("busy")?, idle: seconds("idle")? })
}

/// The per cent of the time between two looks that the processors were busy; unknown when nothing was counted in between.
pub fn usage(before: Option<Spent>, after: Option<Spent>) -> (Series, Reading) {
    let share = before.zip(after).and_then(|(before, after)| {
        let (busy, idle) = (after.busy - before.busy, after.idle - before.idle);
        (busy + idle > 0.0).then(|| (busy / (busy + idle) * 100.0).clamp(0.0, 100.0))
    });
    (Series::new("system_cpu_usage_percent").with("instance", "machine"), share.into())
}

/// One value of something that is named.
pub(super) fn one(series: &str, label: &str, name: &str, value: impl Into<Reading>) -> (Series, Reading) {
    (Series::new(series).with(label, name), value.into())
}

/// A number of an answer; unknown when it is not there.
pub(super) fn number(answer: &serde_json::Value, key: &str) -> Reading {
    answer[key].as_f64().into()
}
