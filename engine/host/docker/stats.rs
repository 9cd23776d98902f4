//! What a container uses: two looks, and the difference between them.

use std::time::Duration;

use bollard::models::{ContainerBlkioStats, ContainerMemoryStats, ContainerStatsResponse};
use bollard::query_parameters::StatsOptions as Asked;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::containers::Found;
use super::engine::{Docker, QUICK, failed, within};
use crate::error::{Error, Kind, Result};
use crate::model::Span;

/// How to look.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::host) struct StatsOptions {
    pub(in crate::host) over: Option<Span>,
}

const INTERVAL: Span = Span::secs(1);
/// Below this the counters of the kernel say nothing.
const SHORTEST: Span = Span::millis(100);
const LONGEST: Span = Span::secs(60);

/// What a container uses.
#[derive(Debug, Clone, Serialize)]
pub(in crate::host) struct Stats {
    pub(in crate::host) name: String,
    pub(in crate::host) cpu: Option<f64>,
    cpus: u32,
    pub(in crate::host) memory: u64,
    pub(in crate::host) memory_limit: u64,
    pub(in crate::host) memory_percent: f64,
    received: u64,
    sent: u64,
    read_bytes: u64,
    written_bytes: u64,
    pub(in crate::host) pids: u64,
}

impl Docker {
    /// What a container uses, its processors over an interval.
    pub(in crate::host) async fn stats(&self, found: &Found, options: &StatsOptions) -> Result<Stats> {
        if found.state != "running" && found.state != "paused" {
            return Err(Error::new(Kind::Conflict, format!("container {} uses nothing to measure", found.in_words()))
                .target(&found.name)
                .hint("it has to run"));
        }
        let over = options.over.unwrap_or(INTERVAL).clamp(SHORTEST, LONGEST);
        let before = self.sample(found).await?;
        tokio::time::sleep(over.0).await;
        let after = self.sample(found).await?;
        Ok(between(&found.name, &before, &after))
    }

    async fn sample(&self, found: &Found) -> Result<ContainerStatsResponse> {
        let client = self.client().await?;
        // One sample per question: an engine that takes two by itself takes a second or two for it.
        let asked = Asked { stream: false, one_shot: true };
        let what = || format!("the use of `{}`", found.name);
        let limit: Duration = QUICK;
        within(limit, what(), async {
            match std::pin::pin!(client.stats(&found.id, Some(asked))).next().await {
                Some(sample) => sample.map_err(|error| failed(what(), error).target(&found.name)),
                None => Err(Error::new(Kind::Remote, format!("{}: the docker engine said nothing", what())).target(&found.name)),
            }
        })
        .await
    }
}

fn between(name: &str, before: &ContainerStatsResponse, after: &ContainerStatsResponse) -> Stats {
    let memory = after.memory_stats.clone().unwrap_or_default();
    let used = used(&memory);
    let limit = memory.limit.unwrap_or(0);
    let networks = after.networks.clone().unwrap_or_default();
    let (read_bytes, written_bytes) = after.blkio_stats.as_ref().map_or((0, 0), blocks);
    Stats {
        name: name.to_owned(),
        cpu: cpu(before, after),
        cpus: after.cpu_stats.as_ref().map_or(0, cores),
        memory: used,
        memory_limit: limit,
        memory_percent: if limit == 0 { 0.0 } else { round(100.0 * used as f64 / limit as f64) },
        received: networks.values().filter_map(|network| network.rx_bytes).sum(),
        sent: networks.values().filter_map(|network| network.tx_bytes).sum(),
        read_bytes,
        written_bytes,
        pids: after.pids_stats.as_ref().and_then(|pids| pids.current).unwrap_or(0),
    }
}

/// Percent of one core, as `docker stats` counts; nothing when a counter is missing or was reset.
fn cpu(before: &ContainerStatsResponse, after: &ContainerStatsResponse) -> Option<f64> {
    let counters = |sample: &ContainerStatsResponse| {
        let cpu = sample.cpu_stats.as_ref()?;
        Some((cpu.cpu_usage.as_ref()?.total_usage?, cpu.system_cpu_usage?))
    };
    let ((used_before, all_before), (used_after, all_after)) = (counters(before)?, counters(after)?);
    let used = used_after.checked_sub(used_before)?;
    let all = all_after.checked_sub(all_before).filter(|&all| all > 0)?;
    Some(round(100.0 * used as f64 / all as f64 * f64::from(after.cpu_stats.as_ref().map_or(1, cores).max(1))))
}

fn cores(cpu: &bollard::models::ContainerCpuStats) -> u32 {
    let listed = || cpu.cpu_usage.as_ref().and_then(|usage| usage.percpu_usage.as_ref()).and_then(|each| u32::try_from(each.len()).ok());
    cpu.online_cpus.filter(|&cpus| cpus > 0).or_else(listed).unwrap_or(1)
}

/// Memory less what the kernel only caches, which it gives back when asked: as `docker stats` counts.
fn used(memory: &ContainerMemoryStats) -> u64 {
    let usage = memory.usage.unwrap_or(0);
    let stats = memory.stats.clone().unwrap_or_default();
    // cgroup v1 calls it the first, v2 the second.
    let cache = ["total_inactive_file", "inactive_file"].iter().find_map(|name| stats.get(*name)).copied();
    usage.saturating_sub(cache.unwrap_or(0))
}

fn blocks(stats: &ContainerBlkioStats) -> (u64, u64) {
    let sum = |name: &str| {
        let entries = stats.io_service_bytes_recursive.iter().flatten();
        entries.filter(|entry| entry.op.as_deref().is_some_and(|op| op.eq_ignore_ascii_case(name))).filter_map(|entry| entry.value).sum()
    };
    (sum("read"), sum("write"))
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(used: u64, all: u64) -> ContainerStatsResponse {
        serde_json::from_value(json!({
            "cpu_stats": { "cpu_usage": { "total_usage": used }, "system_cpu_usage": all, "online_cpus": 2 },
            "memory_stats": { "usage": 1000, "limit": 4000, "stats": { "inactive_file": 200, "active_file": 100 } },
        }))
        .unwrap()
    }

    #[test]
    fn the_use_of_processors_is_a_difference_and_memory_is_less_cache() {
        let stats = between("web", &sample(100, 1000), &sample(200, 1400));
        assert_eq!((stats.cpu, stats.memory, stats.memory_percent), (Some(50.0), 800, 20.0));
    }

    #[test]
    fn a_container_that_was_restarted_between_the_looks_has_no_share() {
        assert_eq!(between("web", &sample(100, 1000), &sample(5, 1400)).cpu, None);
    }
}
