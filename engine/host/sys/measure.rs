//! The machine as samples.

use serde_json::Value;

use super::client;
use crate::error::Result;
use crate::host::measure::{Measured, number};
use crate::model::{Reading, Series};

/// What the kernel says now: counters of processor time for rates, everything else as it is.
pub(in crate::host) fn machine() -> Measured {
    let mut found = Measured::new();
    let mut add = |name: &str, labels: &[(&str, &str)], value: Reading| {
        let series = Series::new(name).with("instance", "machine");
        found.push((labels.iter().fold(series, |series, (label, value)| series.with(*label, *value)), value));
    };
    let times = client::processor_seconds().ok();
    add("node_cpu_seconds_total", &[("cpu", "all"), ("mode", "idle")], times.map(|times| times.0).into());
    add("node_cpu_seconds_total", &[("cpu", "all"), ("mode", "busy")], times.map(|times| times.1).into());
    let memory = json(client::memory());
    add("node_memory_MemTotal_bytes", &[], number(&memory, "total"));
    add("node_memory_MemAvailable_bytes", &[], number(&memory, "available"));
    add("system_memory_usage_percent", &[], number(&memory, "used_percent"));
    add("system_swap_usage_percent", &[], number(&memory, "swap_percent"));
    add("system_load_per_core", &[], number(&json(client::load()), "per_core"));
    // Without a list there is nothing to name; the rule over it notices the silence.
    for disk in json(client::disks()).as_array().into_iter().flatten() {
        let text = |key: &str| disk[key].as_str().unwrap_or_default();
        let value = |key: &str| if disk["error"].is_null() { number(disk, key) } else { Reading::Unknown };
        let labels = [("mountpoint", text("mount")), ("fstype", text("kind"))];
        add("node_filesystem_size_bytes", &labels, value("total"));
        add("node_filesystem_avail_bytes", &labels, value("free"));
        add("system_disk_usage_percent", &[("mount_point", text("mount"))], value("used_percent"));
        // A filesystem that makes inodes as it needs them has none to run out of.
        if !disk["error"].is_null() || disk["inodes"].as_u64() != Some(0) {
            add("system_inodes_usage_percent", &[("mount_point", text("mount"))], value("inodes_used_percent"));
        }
    }
    found
}

/// What was found, or nothing.
fn json(found: Result<impl serde::Serialize>) -> Value {
    found.ok().and_then(|found| serde_json::to_value(found).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_processor_memory_and_no_value_beyond_its_range() {
        let found = machine();
        let of = |name: &str| found.iter().find(|(series, _)| series.name == name).and_then(|(_, value)| value.number());
        assert!(of("node_cpu_seconds_total").unwrap() > 0.0);
        assert!(of("node_memory_MemTotal_bytes") > of("node_memory_MemAvailable_bytes"));
        let shares: Vec<f64> =
            found.iter().filter(|(series, _)| series.name.ends_with("_percent")).filter_map(|(_, value)| value.number()).collect();
        assert!(shares.len() >= 2 && shares.iter().all(|share| (0.0..=100.0).contains(share)), "{shares:?}");
    }
}
