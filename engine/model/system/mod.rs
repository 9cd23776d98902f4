//! A system: one TOML file that describes a deployment.
//!
//! Plain data. Reading files, overlays, `${env:…}` and places of errors are [`crate::config`]'s.

mod data;
mod metric;
mod people;
mod services;
mod watch;
mod work;

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use data::{Backup, Cache, Cleanup, Database, Index, Maintenance, Purge};
pub use metric::{Metric, MetricKind};
pub use people::{Contact, Severity};
pub use services::{Cluster, Host, Manager, Scaling, Service, Services};
pub use watch::{Certificate, Endpoint, Log, Over, Renewal, Rule, RuleKind, Threshold};
pub use work::{Item, Release, Remediation, RemediationMode};

use crate::model::Dates;
pub use crate::model::Schedule;

/// A deployment: its services, stores, endpoints, limits and people.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct System {
    /// The name of the file without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// The name of the system this one is an overlay of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extends: Option<String>,
    /// What people call it.
    pub title: String,
    /// Two letters, as in `AH`.
    pub code: String,
    /// The language of messages to people: `en` or `zh`.
    pub language: String,
    /// The IANA zone its people live in and its logs are written in.
    pub timezone: String,
    /// `production`, `staging`, `lab`.
    pub environment: String,
    /// How its services are managed, and the services.
    pub services: Services,
    /// The Kubernetes cluster, and how it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// PostgreSQL databases.
    pub databases: BTreeMap<String, Database>,
    /// Redis servers.
    pub caches: BTreeMap<String, Cache>,
    /// HTTP addresses that must answer.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// TLS certificates, in files or served.
    pub certificates: BTreeMap<String, Certificate>,
    /// Logs, in files or of containers.
    pub logs: BTreeMap<String, Log>,
    /// Directories and files by what they are for: `data`, `uploads`, `config`.
    pub paths: BTreeMap<String, String>,
    /// Where backups go and how long they stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// How it is released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// Limits by metric: `cpu`, `memory`, `disk`, `certificate_days`.
    pub thresholds: BTreeMap<String, Threshold>,
    /// Sources of samples beside those that every system has, by name.
    pub metrics: BTreeMap<String, Metric>,
    /// Alert rules by name.
    pub rules: BTreeMap<String, Rule>,
    /// Its own severity names and time limits, by `sev1` to `sev5`.
    pub severity: BTreeMap<String, Severity>,
    /// Which contacts hear of what: level or severity → names of contacts.
    pub routes: BTreeMap<String, Vec<String>>,
    /// Channels that reach people.
    pub contacts: BTreeMap<String, Contact>,
    /// When runbooks run; called like the runbook unless it says which.
    pub schedules: BTreeMap<String, Schedule>,
    /// Days on which schedules do not run, by the name they have there.
    pub calendars: BTreeMap<String, Vec<Dates>>,
    /// How many runs of a group of schedules may go on at once, by group.
    pub groups: BTreeMap<String, u32>,
    /// What may be repaired without asking, by cause: `memory`, `cpu`, `service_down`.
    pub remediation: BTreeMap<String, Remediation>,
    /// How far services may be scaled, by service.
    pub scaling: BTreeMap<String, Scaling>,
    /// Machines by name.
    pub hosts: BTreeMap<String, Host>,
    /// Wanted settings of `postgres`, `redis`, `nginx`, `ssh`, `app`: compared and applied, never assumed.
    pub baselines: BTreeMap<String, BTreeMap<String, Value>>,
    /// Upkeep of data: purging, indexes, cleaning.
    pub maintenance: Maintenance,
    /// The inputs of the capacity model, by name.
    pub capacity: BTreeMap<String, Value>,
    /// What has to be done again and again, by period: `daily`, `weekly`, `monthly`.
    pub checklists: BTreeMap<String, Vec<Item>>,
}

impl System {
    /// Until when a maintenance window is open at this moment; nothing when none is.
    pub fn maintenance_until(&self, at: Timestamp) -> Option<Timestamp> {
        let maintenance = &self.maintenance;
        if maintenance.window.is_none() && maintenance.calendars.is_empty() {
            return None;
        }
        let zone = TimeZone::get(&self.timezone).unwrap_or(TimeZone::UTC);
        maintenance.window_until(&zone, at).max(self.day_until(&zone, at))
    }

    /// The end of a day that is one of maintenance.
    fn day_until(&self, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
        let today = zone.to_datetime(at).date();
        let calendars = self.maintenance.calendars.iter().filter_map(|name| self.calendars.get(name));
        calendars.flatten().find(|dates| dates.contain(today))?;
        Some(today.tomorrow().ok()?.to_zoned(zone.clone()).ok()?.timestamp())
    }

    /// The system as plain data for scripts and `--json`, with `***` for each reference to a secret.
    pub fn json(&self) -> Value {
        let mut value = serde_json::to_value(self).expect("a system has text keys and finite numbers");
        mask(&mut value);
        value["name"] = self.name.clone().into();
        value
    }
}

/// Hides each reference to a secret; the host functions open it in their own copy of the system.
fn mask(value: &mut Value) {
    match value {
        Value::String(text) => {
            while let Some(start) = text.find("${secret:") {
                let end = text[start..].find('}').map_or(text.len(), |end| start + end + 1);
                text.replace_range(start..end, "***");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Object(fields) => fields.values_mut().for_each(mask),
        _ => {}
    }
}
