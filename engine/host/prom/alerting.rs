//! Alerts, rules and targets, as Prometheus and Alertmanager tell them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::client::{Server, Told, capped};
use super::query::number;
use crate::error::{Kind, Result};

type Labels = BTreeMap<String, String>;

/// An alert, by either of the two.
#[derive(Debug, Serialize)]
pub(super) struct Alert {
    name: String,
    state: &'static str,
    labels: Labels,
    annotations: Labels,
    since: Option<Timestamp>,
    value: Option<f64>,
    silences: Vec<String>,
    receivers: Vec<String>,
}

/// As Prometheus tells it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Pending {
    labels: Labels,
    annotations: Labels,
    state: String,
    active_at: Option<Timestamp>,
    value: String,
}

/// As Alertmanager tells it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Received {
    labels: Labels,
    annotations: Labels,
    starts_at: Option<Timestamp>,
    status: Status,
    receivers: Vec<Receiver>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    silenced_by: Vec<String>,
    inhibited_by: Vec<String>,
}

#[derive(Deserialize)]
struct Receiver {
    name: String,
}

/// The alerts of Alertmanager, where it is one, else those of Prometheus.
pub(super) async fn alerts(server: &Server) -> Result<Vec<Alert>> {
    #[derive(Deserialize)]
    struct Data {
        alerts: Vec<Pending>,
    }
    let alerts = match server.get::<Vec<Received>>(&["api", "v2", "alerts"]).await {
        Ok(received) => received.into_iter().map(Alert::from).collect(),
        // Prometheus knows no such path.
        Err(error) if error.kind == Kind::NotFound => {
            let told: Told<Data> = server.get(&["api", "v1", "alerts"]).await?;
            told.data.alerts.into_iter().map(Alert::from).collect()
        }
        Err(error) => return Err(error),
    };
    capped("alerts", alerts, "ask Prometheus for some of them: `ALERTS{severity=\"critical\"}`")
}

fn name_of(labels: &Labels) -> String {
    labels.get("alertname").cloned().unwrap_or_default()
}

impl From<Pending> for Alert {
    fn from(alert: Pending) -> Self {
        let state = if alert.state == "pending" { "pending" } else { "firing" };
        Self {
            name: name_of(&alert.labels),
            state,
            since: alert.active_at,
            value: number(&alert.value),
            labels: alert.labels,
            annotations: alert.annotations,
            silences: Vec::new(),
            receivers: Vec::new(),
        }
    }
}

impl From<Received> for Alert {
    fn from(alert: Received) -> Self {
        let state = match &alert.status {
            status if !status.silenced_by.is_empty() => "silenced",
            status if !status.inhibited_by.is_empty() => "inhibited",
            _ => "firing",
        };
        Self {
            name: name_of(&alert.labels),
            state,
            since: alert.starts_at,
            value: None,
            labels: alert.labels,
            annotations: alert.annotations,
            silences: alert.status.silenced_by,
            receivers: alert.receivers.into_iter().map(|receiver| receiver.name).collect(),
        }
    }
}

/// A rule of Prometheus.
#[derive(Debug, Serialize)]
pub(super) struct Rule {
    name: String,
    kind: &'static str,
    group: String,
    file: String,
    expr: String,
    /// Of a rule for alerts only.
    state: Option<String>,
    hold_s: Option<f64>,
    labels: Labels,
    annotations: Labels,
    health: String,
    problem: Option<String>,
    evaluated: Option<Timestamp>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Group {
    name: String,
    file: String,
    rules: Vec<Written>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    query: String,
    state: Option<String>,
    duration: Option<f64>,
    labels: Labels,
    annotations: Labels,
    health: String,
    last_error: Option<String>,
    last_evaluation: Option<Timestamp>,
}

/// The rules that are loaded, in the order of their files.
pub(super) async fn rules(server: &Server) -> Result<Vec<Rule>> {
    #[derive(Deserialize)]
    struct Data {
        groups: Vec<Group>,
    }
    let told: Told<Data> = server.get(&["api", "v1", "rules"]).await?;
    let rules = told.data.groups.into_iter().flat_map(|Group { name, file, rules }| {
        rules.into_iter().map(move |rule| Rule {
            name: rule.name,
            kind: if rule.kind == "alerting" { "alert" } else { "record" },
            group: name.clone(),
            file: file.clone(),
            expr: rule.query,
            state: rule.state,
            hold_s: rule.duration,
            labels: rule.labels,
            annotations: rule.annotations,
            health: rule.health,
            problem: rule.last_error.filter(|text| !text.is_empty()),
            evaluated: rule.last_evaluation.filter(happened),
        })
    });
    capped("rules", rules.collect(), "ask for the state of some of them: `ALERTS{alertname=\"…\"}`")
}

/// What Prometheus asks for samples.
#[derive(Debug, Serialize)]
pub(super) struct Target {
    job: String,
    instance: String,
    pool: String,
    url: String,
    /// Nothing before it was asked the first time.
    up: Option<bool>,
    problem: Option<String>,
    scraped: Option<Timestamp>,
    took_ms: Option<f64>,
    labels: Labels,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Asked {
    labels: Labels,
    scrape_pool: String,
    scrape_url: String,
    health: String,
    last_error: String,
    last_scrape: Option<Timestamp>,
    last_scrape_duration: Option<f64>,
}

/// What Prometheus asks for samples, and how that went.
pub(super) async fn targets(server: &Server) -> Result<Vec<Target>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Data {
        active_targets: Vec<Asked>,
    }
    let told: Told<Data> = server.get(&["api", "v1", "targets"]).await?;
    let targets = told.data.active_targets.into_iter().map(Target::from).collect();
    capped("targets", targets, "ask for those that are down: `up == 0`")
}

impl From<Asked> for Target {
    fn from(asked: Asked) -> Self {
        let label = |name: &str| asked.labels.get(name).cloned().unwrap_or_default();
        let (job, instance) = (label("job"), label("instance"));
        let scraped = asked.last_scrape.filter(happened);
        // A query may hold a token, and the error has the address as it was asked.
        let url = asked.scrape_url.split('?').next().unwrap_or_default().to_owned();
        let problem = asked.last_error.replace(&asked.scrape_url, &url);
        Self {
            job,
            instance,
            pool: asked.scrape_pool,
            up: match asked.health.as_str() {
                "up" => Some(true),
                "down" => Some(false),
                _ => None,
            },
            problem: (!problem.is_empty()).then_some(problem),
            scraped,
            took_ms: asked.last_scrape_duration.filter(|_| scraped.is_some()).map(|seconds| seconds * 1000.0),
            url,
            labels: asked.labels,
        }
    }
}

/// What never happened did so in the year 1.
fn happened(time: &Timestamp) -> bool {
    *time > Timestamp::UNIX_EPOCH
}
