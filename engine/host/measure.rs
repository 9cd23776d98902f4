//! What a system is like at the moment, as samples: the same questions as scripts ask, by the same clients
//! and permissions.
//!
//! Each question answers with numbers or with `unknown`; none fails, and none takes longer than its clients'
//! timeouts. Names are those of the exporters people know where there are some, so that a rule means the same
//! here and in Prometheus.

use crate::host::Ctx;
use crate::model::{Reading, Series};

/// What was measured.
pub type Measured = Vec<(Series, Reading)>;

/// The machine: processors, memory, swap, load, filesystems.
pub fn machine() -> Measured {
    super::sys::machine()
}

/// Each service of the system: `service_up`, `service_running`, `service_restarts`.
pub async fn services(ctx: &Ctx) -> Measured {
    super::services::measure(ctx).await
}

/// Each endpoint of the system: `endpoint_up` and `endpoint_ms`.
pub async fn endpoints(ctx: &Ctx) -> Measured {
    futures_util::future::join_all(ctx.system().endpoints.keys().map(|name| super::http::measure(ctx, name))).await.concat()
}

/// Each database of the system: `database_up`, `database_ms`, its client connections and how many it accepts.
pub async fn databases(ctx: &Ctx) -> Measured {
    futures_util::future::join_all(ctx.system().databases.keys().map(|name| super::sql::measure(ctx, name))).await.concat()
}

/// Each cache of the system: `cache_up`, its memory and how much it may use.
pub async fn caches(ctx: &Ctx) -> Measured {
    futures_util::future::join_all(ctx.system().caches.keys().map(|name| super::redis::measure(ctx, name))).await.concat()
}

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
