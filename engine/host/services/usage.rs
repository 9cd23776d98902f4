//! What a service uses, the same for every manager.

use serde::{Deserialize, Serialize};

use crate::model::Span;

/// How to look.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UsageOptions {
    pub(super) over: Option<Span>,
}

/// What one container, unit or process uses.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Usage {
    pub(super) name: String,
    /// Percent of one core.
    pub(super) cpu: Option<f64>,
    /// Of the processors it asks for, where it says so.
    pub(super) cpu_percent: Option<f64>,
    pub(super) memory: Option<u64>,
    /// Of what it may use, where that is limited.
    pub(super) memory_percent: Option<f64>,
    pub(super) processes: Option<u64>,
}

/// What a service uses in all.
#[derive(Debug, Serialize)]
pub(super) struct ServiceUsage {
    name: String,
    cpu: Option<f64>,
    memory: Option<u64>,
    memory_percent: Option<f64>,
    processes: Option<u64>,
    each: Vec<Usage>,
}

impl ServiceUsage {
    /// The sum of its parts; of the memory's percent the highest. One unknown part makes a sum unknown.
    pub(super) fn of(name: &str, each: Vec<Usage>) -> Self {
        Self {
            name: name.to_owned(),
            cpu: each.iter().map(|usage| usage.cpu).sum::<Option<f64>>().map(|cpu| (cpu * 10.0).round() / 10.0),
            memory: each.iter().map(|usage| usage.memory).sum(),
            memory_percent: each.iter().filter_map(|usage| usage.memory_percent).reduce(f64::max),
            processes: each.iter().map(|usage| usage.processes).sum(),
            each,
        }
    }
}
