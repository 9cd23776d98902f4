//! What is measured of a system beside what every system has: the numbers of its application and its business.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::System;
use crate::model::{Labels, Selector, Series, Span};

/// A source of samples: what is asked, how often, and what its samples are called.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metric {
    /// What is asked.
    pub kind: MetricKind,
    /// The name of the series, for `json`, `sql` and `log`; that of the source when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// The endpoint whose address, headers and authorities hold, for `prometheus` and `json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The path there, when it is not that of the endpoint: `/metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The series that are kept, as selectors, for `prometheus` and `hash`; all of them when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Where the number stands in the JSON, as a dotted path: `data.users.0.count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The database, for `sql`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The statement: it reads one value, or rows with a column `value`, whose other columns are labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The log, for `log`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The expression that counts a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Over which time lines are counted; 5 minutes when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// The cache, for `hash`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// The hash there, whose fields are series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Labels of all its series.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// How often it is asked; every 30 seconds when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// How long it may take; 10 seconds when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// What a source is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// A page in the text format of Prometheus.
    #[default]
    Prometheus,
    /// A number in an answer in JSON.
    Json,
    /// What a statement reads.
    Sql,
    /// Lines of a log, counted per minute.
    Log,
    /// The fields of a hash in a cache.
    Hash,
}

impl MetricKind {
    /// As system files write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Json => "json",
            Self::Sql => "sql",
            Self::Log => "log",
            Self::Hash => "hash",
        }
    }

    /// The keys it can not do without.
    pub fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Prometheus => &["endpoint"],
            Self::Json => &["endpoint", "field"],
            Self::Sql => &["database", "query"],
            Self::Log => &["log", "pattern"],
            Self::Hash => &["cache", "hash"],
        }
    }

    /// The keys it may have beside those of all.
    pub fn takes(self) -> &'static [&'static str] {
        match self {
            Self::Prometheus => &["path", "only"],
            Self::Json => &["path", "series"],
            Self::Sql => &["series"],
            Self::Log => &["series", "window"],
            Self::Hash => &["only"],
        }
    }
}

impl Metric {
    /// How often it is asked.
    pub fn every(&self) -> Duration {
        self.every.unwrap_or(Span::secs(30)).0
    }

    /// How long it may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Span::secs(10)).0
    }

    /// Over which time lines are counted.
    pub fn window(&self) -> Span {
        self.window.unwrap_or(Span::secs(300))
    }

    /// The address of a page: that of its endpoint, with its own path.
    pub fn url(&self, system: &System) -> Option<String> {
        let url = &system.endpoints.get(self.endpoint.as_ref()?)?.url;
        let Some(path) = &self.path else { return Some(url.clone()) };
        Some(Url::parse(url).ok()?.join(path).ok()?.to_string())
    }

    /// Its one series, when its file says all of it; `name` is that of the source.
    pub fn only_series(&self, name: &str) -> Option<Series> {
        let is_one = matches!(self.kind, MetricKind::Json | MetricKind::Log);
        is_one.then(|| Series { name: self.series_name(name).to_owned(), labels: self.labels.clone() })
    }

    /// The name of its series, where it gives it one.
    pub fn series_name<'n>(&'n self, name: &'n str) -> &'n str {
        self.series.as_deref().unwrap_or(name)
    }

    /// Whether it may tell series of this name.
    pub fn may_tell(&self, name: &str, series: &str) -> bool {
        match self.kind {
            MetricKind::Prometheus | MetricKind::Hash => {
                let is_meant = |only: &String| only.parse::<Selector>().is_ok_and(|only| only.name == series);
                self.only.is_empty() || self.only.iter().any(is_meant)
            }
            MetricKind::Json | MetricKind::Sql | MetricKind::Log => self.series_name(name) == series,
        }
    }
}
