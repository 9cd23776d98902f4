//! What is looked at and judged: endpoints, certificates, logs, limits, rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Limit, Span};

/// An HTTP address that must answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoint {
    /// The address.
    pub url: String,
    /// The `Host` header, when it is not the address's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// More headers.
    pub headers: BTreeMap<String, String>,
    /// The statuses that are fine; 200 when empty.
    pub status: Vec<u16>,
    /// A text the body must contain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Values the JSON body must have, by dotted path.
    pub json: BTreeMap<String, Value>,
    /// How long it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// The networks its name may resolve to beyond public ones: `loopback`, `private`, or a CIDR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// A file with the authorities to trust, when not the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The address to connect to instead of resolving the name: `127.0.0.1:18443`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<String>,
    /// The service behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// A TLS certificate, in a file, served, or both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certificate {
    /// The PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// `host:port` where it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served: Option<String>,
    /// The name it must be valid for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A file with the authorities to trust, when not the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The networks it may be served in beyond public ones, as for endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// How a new one comes to be, when nothing else renews it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Renewal>,
}

/// How a certificate is renewed: a program makes a new pair in a directory, from where it is installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Renewal {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it puts what it makes.
    pub directory: String,
    /// The new certificate with its chain, below the directory.
    pub fullchain: String,
    /// The new private key, below the directory.
    pub privkey: String,
    /// The installed private key.
    pub key: String,
    /// The service with the web server that shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// How many days before its end it is renewed; from the first warning on when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}

impl Default for Renewal {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            directory: String::new(),
            fullchain: "fullchain.pem".to_owned(),
            privkey: "privkey.pem".to_owned(),
            key: String::new(),
            service: None,
            days: None,
        }
    }
}

/// A log: a file with its rotated parts, or the output of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The current file, or a pattern of current files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The service whose output it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `app`, `nginx`, `nginx-error`, `syslog`, `postgres`, `security`, `json`.
    pub format: String,
    /// The zone of stamps without one; the system's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Whether it may be absent.
    pub optional: bool,
}

/// The limits of one metric. What is wanted and what alarms are different things.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Threshold {
    /// What is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
    /// Beyond it is a warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn: Option<f64>,
    /// Beyond it is critical.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm: Option<f64>,
    /// How long it must hold before anyone is told.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
    /// `%`, `ms`, `d`, `/min`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether small values are the bad ones.
    pub below: bool,
}

impl Threshold {
    /// The limits a value is judged by.
    pub fn limit(&self) -> Limit {
        Limit { warn: self.warn, alarm: self.alarm, below: self.below }
    }
}

/// An alert rule: what is computed, what it must not reach, and for how long.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// What it tells people.
    pub summary: String,
    /// The rule of the manual it stands for: `AH-01.2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What is computed from the series.
    pub kind: RuleKind,
    /// The series, as a Prometheus selector: `up{job="shop"}`.
    pub series: String,
    /// What it is divided by, for `ratio`, `share` and `used`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
    /// What of the window counts, for `value`; the newest sample when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over: Option<Over>,
    /// Which quantile, for `quantile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
    /// Over which time rates, `mean`, `max` and `min` are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// The labels that stay apart; all others are summed up.
    pub by: Vec<String>,
    /// What the result is multiplied with before it is compared: 100 for per cent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// It alarms above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// It alarms below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// Once it alarms, it goes on until the result is back at this; at the limit itself when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear: Option<f64>,
    /// The rate per second (observations for `quantile`, totals for `ratio`) under which nothing can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// How long it must hold.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
    /// How long the series may be absent before that is an alarm of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_data: Option<Span>,
    /// `warning` or `critical`.
    pub level: String,
    /// `sev1` to `sev5`.
    pub severity: String,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The service it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// More labels of the alarm.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What of a window counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// The mean of its samples.
    Mean,
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// What a rule computes from its series before it compares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    /// The newest value is 0.
    Down,
    /// The newest value, summed up by `by` when that is given.
    #[default]
    Value,
    /// The increase per second over the window, summed up.
    Rate,
    /// The summed rate of the series over the summed rate of `total`.
    Ratio,
    /// The newest value over that of `total` with the same labels; nothing where `total` is 0.
    Share,
    /// One minus the share: what is in use, from what is free.
    Used,
    /// One minus the mean rate: what is busy, from the seconds idle.
    Busy,
    /// The quantile of a histogram over the window, summed up by its bounds.
    Quantile,
}
