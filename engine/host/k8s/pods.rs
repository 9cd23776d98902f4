//! Pods: their states, what they use, what they write, and what happened to them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Event, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::Request;
use kube::core::params::ListParams;
use kube::core::subresource::LogParams;
use serde::{Deserialize, Serialize};

use super::client::{Cluster, named};
use super::quantity;
use crate::error::{Error, Kind, Result};
use crate::host::Moment;
use crate::model::{Size, Span};
use crate::words;

/// Which pods.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::host) struct PodOptions {
    pub(in crate::host) deployment: Option<String>,
    labels: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) timeout: Option<Span>,
}

/// Which events.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EventOptions {
    about: Option<String>,
    since: Option<Moment>,
    warnings: bool,
    pub(super) namespace: Option<String>,
    pub(super) timeout: Option<Span>,
}

/// Which lines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::host) struct LogOptions {
    since: Option<Moment>,
    until: Option<Moment>,
    tail: usize,
    container: Option<String>,
    previous: bool,
    max_bytes: Size,
    pub(super) namespace: Option<String>,
    pub(super) timeout: Option<Span>,
}

impl PodOptions {
    /// Those of a deployment.
    pub(in crate::host) fn of(deployment: &str) -> Self {
        Self { deployment: Some(deployment.to_owned()), ..Self::default() }
    }
}

impl LogOptions {
    /// So many of the newest lines of that time.
    pub(in crate::host) fn newest(tail: usize, since: Option<Moment>, until: Option<Moment>, most: u64) -> Self {
        Self { since, until, tail, max_bytes: Size(most), ..Self::default() }
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            since: None,
            until: None,
            tail: 1000,
            container: None,
            previous: false,
            max_bytes: Size(1 << 20),
            namespace: None,
            timeout: None,
        }
    }
}

/// A line is one row of a list in a script, which may not grow without end.
const MOST_LINES: usize = 50_000;
const MOST_LOG_BYTES: u64 = 64 << 20;

/// A pod and how it is.
#[derive(Debug, Clone, Serialize)]
pub(in crate::host) struct PodState {
    pub(in crate::host) name: String,
    phase: String,
    /// `running`, or why it does not run.
    pub(in crate::host) state: String,
    pub(in crate::host) ready: bool,
    pub(in crate::host) restarts: i64,
    pub(in crate::host) started: Option<Timestamp>,
    /// What explains it.
    pub(in crate::host) detail: Option<String>,
    node: Option<String>,
    ip: Option<String>,
    containers: Vec<ContainerView>,
}

#[derive(Debug, Clone, Serialize)]
struct ContainerView {
    name: String,
    image: String,
    ready: bool,
    restarts: i64,
    state: String,
    exit_code: Option<i32>,
    message: Option<String>,
}

/// What a pod uses.
#[derive(Debug, Clone, Serialize)]
pub(in crate::host) struct PodUsage {
    pub(in crate::host) name: String,
    /// Percent of one core.
    pub(in crate::host) cpu: Option<f64>,
    /// Of what its containers ask for, which is what an autoscaler compares.
    pub(in crate::host) cpu_percent: Option<f64>,
    pub(in crate::host) memory: Option<u64>,
    /// Of what its containers may use.
    pub(in crate::host) memory_percent: Option<f64>,
    measured: Option<Timestamp>,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
pub(super) struct EventView {
    time: Option<Timestamp>,
    /// `Normal` or `Warning`.
    level: String,
    reason: String,
    message: String,
    /// What it happened to, as `pod/web-1`.
    about: String,
    count: i32,
}

/// A line of output. One whose `stream` is `cut` says how much was left out before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::host) struct Line {
    pub(in crate::host) pod: String,
    pub(in crate::host) time: Option<Timestamp>,
    pub(in crate::host) stream: &'static str,
    pub(in crate::host) text: String,
}

/// What `metrics.k8s.io` says of a pod.
#[derive(Debug, Clone, Deserialize)]
struct PodMetrics {
    metadata: ObjectMeta,
    timestamp: Option<Timestamp>,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Debug, Clone, Deserialize)]
struct ContainerMetrics {
    #[serde(default)]
    usage: BTreeMap<String, Quantity>,
}

impl Cluster {
    /// Pods of the namespace, of a deployment or with labels.
    pub(super) async fn pods(&self, options: &PodOptions) -> Result<Vec<PodState>> {
        let pods = match &options.deployment {
            Some(name) => self.pods_of(&self.deployment(name).await?).await?,
            None => self.list::<Pod>(labelled(options.labels.as_deref())).await?,
        };
        Ok(pods.iter().map(state_of).collect())
    }

    /// The pods a deployment has, of its replica sets and of no other's with the same labels.
    pub(super) async fn pods_of(&self, deployment: &Deployment) -> Result<Vec<Pod>> {
        let selected = labelled(Some(&selector(Some(&deployment.spec.selector))));
        let sets: Vec<ReplicaSet> = self.list::<ReplicaSet>(selected.clone()).await?;
        let sets: Vec<&ObjectMeta> = sets.iter().map(|set| &set.metadata).filter(|set| owns(&deployment.metadata, set)).collect();
        let pods = self.list::<Pod>(selected).await?;
        Ok(pods.into_iter().filter(|pod| sets.iter().any(|set| owns(set, &pod.metadata))).collect())
    }

    /// The names of the pods a deployment has.
    pub(in crate::host) async fn names_of(&self, deployment: &str) -> Result<Vec<String>> {
        let pods = self.pods_of(&self.deployment(deployment).await?).await?;
        Ok(pods.iter().map(|pod| name_of(&pod.metadata).to_owned()).collect())
    }

    /// The pods of a deployment that it counts on: none that go or that were evicted.
    pub(in crate::host) async fn replicas_of(&self, deployment: &Deployment) -> Result<Vec<PodState>> {
        let pods = self.pods_of(deployment).await?;
        let over = |pod: &Pod| {
            pod.status.as_ref().and_then(|status| status.phase.as_deref()).is_some_and(|phase| matches!(phase, "Failed" | "Succeeded"))
        };
        Ok(pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && !over(pod)).map(state_of).collect())
    }

    /// What pods use, as the metrics server saw it last.
    pub(in crate::host) async fn top(&self, options: &PodOptions) -> Result<Vec<PodUsage>> {
        let pods: Vec<Pod> = match &options.deployment {
            Some(name) => self.pods_of(&self.deployment(name).await?).await?,
            None => self.list::<Pod>(labelled(options.labels.as_deref())).await?,
        };
        let request = Request::new(format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", self.namespace));
        let metrics = self.pages::<PodMetrics>(&request, "pods", ListParams::default()).await.map_err(|error| {
            let is_absent = error.kind == Kind::NotFound;
            if is_absent { error.hint("nothing measures the pods: install the metrics server (`metrics.k8s.io`)") } else { error }
        })?;
        let measured: BTreeMap<&str, &PodMetrics> = metrics.iter().filter_map(|one| Some((one.metadata.name.as_deref()?, one))).collect();
        let runs = |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        Ok(pods.iter().filter(runs).map(|pod| usage_of(pod, measured.get(name_of(&pod.metadata)).copied())).collect())
    }

    /// What happened in the namespace, the oldest first.
    pub(super) async fn events(&self, options: &EventOptions) -> Result<Vec<EventView>> {
        let since = options.since.map(|since| since.resolve(self.ctx().now())).transpose()?;
        let mut selected = ListParams::default();
        if let Some(about) = &options.about {
            let (kind, name) = about.split_once('/').unwrap_or(("", about));
            let kind = if kind.is_empty() { String::new() } else { format!(",involvedObject.kind={}", kind_of(kind)?) };
            named("object", name)?;
            selected = selected.fields(&format!("involvedObject.name={name}{kind}"));
        }
        let events = self.list::<Event>(selected).await?;
        let mut views: Vec<EventView> = events.iter().map(event_view).collect();
        views.retain(|event| since.is_none_or(|since| event.time.is_none_or(|time| time >= since)));
        views.retain(|event| !options.warnings || event.level == "Warning");
        views.sort_by_key(|event| event.time);
        Ok(views)
    }

    /// The newest lines of each of these pods.
    pub(in crate::host) async fn lines(&self, pods: &[String], options: &LogOptions) -> Result<Vec<Line>> {
        let now = self.ctx().now();
        let since = options.since.map(|since| since.resolve(now)).transpose()?;
        let until = options.until.map(|until| until.resolve(now)).transpose()?;
        let most = options.max_bytes.0.min(MOST_LOG_BYTES);
        let selected = LogParams {
            container: options.container.clone(),
            previous: options.previous,
            since_time: since,
            tail_lines: i64::try_from(options.tail.min(MOST_LINES)).ok(),
            timestamps: true,
            ..LogParams::default()
        };
        let mut lines = Vec::new();
        for pod in pods {
            lines.extend(self.lines_of(pod, &selected, until, most).await?);
        }
        if pods.len() > 1 {
            lines.sort_by_key(|line: &Line| line.time);
        }
        Ok(lines)
    }

    async fn lines_of(&self, pod: &str, selected: &LogParams, until: Option<Timestamp>, most: u64) -> Result<Vec<Line>> {
        // The server begins with the oldest of the lines; of too much the newest would be missing. So as many are
        // asked for as must fit, twice at most.
        let mut selected = selected.clone();
        let mut cut = 0;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let text = loop {
            let (bytes, is_cut) = self.log(pod, &selected, most).await?;
            if !is_cut {
                break String::from_utf8_lossy(&bytes).into_owned();
            }
            let seen = bytes.iter().filter(|byte| **byte == b'\n').count();
            let asked = selected.tail_lines.and_then(|tail| usize::try_from(tail).ok()).unwrap_or(MOST_LINES);
            let fewer = (seen / 2).min(asked / 2);
            cut += asked - fewer;
            if fewer == 0 {
                return Ok(vec![left_out(pod, &format!("lines of more than {most} bytes"))]);
            }
            selected.tail_lines = i64::try_from(fewer).ok();
        };
        let lines = text.lines().map(|line| {
            // `2026-11-21T12:00:00.123456789Z text`, as the option `timestamps` has it.
            let (time, rest) = line.split_once(' ').unwrap_or((line, ""));
            match time.parse::<Timestamp>() {
                Ok(time) => Line { pod: pod.to_owned(), time: Some(time), stream: "output", text: rest.to_owned() },
                Err(_) => Line { pod: pod.to_owned(), time: None, stream: "output", text: line.to_owned() },
            }
        });
        let lines = lines.filter(|line| until.is_none_or(|until| line.time.is_none_or(|time| time <= until)));
        let first = (cut > 0).then(|| left_out(pod, &words::count(i64::try_from(cut).unwrap_or(i64::MAX), "older line at most")));
        Ok(first.into_iter().chain(lines).collect())
    }
}

fn left_out(pod: &str, what: &str) -> Line {
    Line { pod: pod.to_owned(), time: None, stream: "cut", text: format!("{what} left out") }
}

/// A selector as the API server reads it.
pub(super) fn selector(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return String::new() };
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|one| {
        let values = one.values.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(",");
        match one.operator.as_str() {
            "In" => format!("{} in ({values})", one.key),
            "NotIn" => format!("{} notin ({values})", one.key),
            "DoesNotExist" => format!("!{}", one.key),
            _ => one.key.clone(),
        }
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

fn labelled(labels: Option<&str>) -> ListParams {
    match labels {
        Some(labels) if !labels.is_empty() => ListParams::default().labels(labels),
        _ => ListParams::default(),
    }
}

/// Whether one object controls the other.
pub(super) fn owns(owner: &ObjectMeta, object: &ObjectMeta) -> bool {
    let mut owners = object.owner_references.iter().flatten();
    owners.any(|reference| reference.controller == Some(true) && Some(&reference.uid) == owner.uid.as_ref())
}

pub(super) fn name_of(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

/// `Pod` for `pod`, as events have it.
fn kind_of(word: &str) -> Result<&'static str> {
    const KINDS: [(&str, &str); 6] = [
        ("pod", "Pod"),
        ("deployment", "Deployment"),
        ("replicaset", "ReplicaSet"),
        ("hpa", "HorizontalPodAutoscaler"),
        ("node", "Node"),
        ("job", "Job"),
    ];
    let known = KINDS.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind);
    known.ok_or_else(|| Error::new(Kind::Invalid, format!("unknown kind `{word}`")).suggest(word, KINDS.iter().map(|(known, _)| *known)))
}

fn state_of(pod: &Pod) -> PodState {
    let status = pod.status.clone().unwrap_or_default();
    let containers: Vec<ContainerView> = status.container_statuses.iter().flatten().map(container_view).collect();
    let initial: Vec<ContainerView> = status.init_container_statuses.iter().flatten().map(container_view).collect();
    let phase = status.phase.unwrap_or_else(|| "Unknown".to_owned());
    let is_ready = status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    // What hinders it is its first container that does not run; those that prepare it come first.
    let hindered = initial.iter().chain(&containers).find(|one| !matches!(one.state.as_str(), "running" | "completed"));
    let unplaced = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let state = match (phase.as_str(), hindered) {
        _ if pod.metadata.deletion_timestamp.is_some() => "terminating".to_owned(),
        ("Failed" | "Succeeded", _) => status.reason.clone().unwrap_or_else(|| phase.clone()).to_lowercase(),
        (_, Some(container)) => container.state.clone(),
        ("Running", None) => "running".to_owned(),
        _ => phase.to_lowercase(),
    };
    let exit = |container: &ContainerView| container.exit_code.map(|code| format!("exit code {code}"));
    let detail = hindered.and_then(|one| one.message.clone().or_else(|| exit(one)));
    PodState {
        name: name_of(&pod.metadata).to_owned(),
        state,
        ready: is_ready,
        restarts: containers.iter().map(|container| container.restarts).sum(),
        // Of the containers the one that was started last: that is when it was restarted.
        started: status.container_statuses.iter().flatten().filter_map(started).max(),
        detail: detail.or_else(|| unplaced.and_then(|condition| condition.message.clone())).or(status.message),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        ip: status.pod_ip,
        phase,
        containers,
    }
}

fn started(container: &ContainerStatus) -> Option<Timestamp> {
    container.state.as_ref()?.running.as_ref()?.started_at.as_ref().map(|time| time.0)
}

fn container_view(container: &ContainerStatus) -> ContainerView {
    let state = container.state.clone().unwrap_or_default();
    let ended = |state: &ContainerState| state.terminated.clone();
    let last = ended(&state).or_else(|| container.last_state.as_ref().and_then(ended));
    let waiting = state.waiting.clone();
    let name = match (&state.running, &waiting, ended(&state)) {
        (Some(_), ..) => "running".to_owned(),
        (_, Some(waiting), _) => waiting.reason.clone().unwrap_or_else(|| "waiting".to_owned()),
        (_, _, Some(ended)) if ended.exit_code == 0 => "completed".to_owned(),
        (_, _, Some(ended)) => ended.reason.unwrap_or_else(|| "terminated".to_owned()),
        _ => "waiting".to_owned(),
    };
    let killed = last.as_ref().filter(|last| last.reason.as_deref() == Some("OOMKilled")).map(|_| "out of memory".to_owned());
    ContainerView {
        name: container.name.clone(),
        image: container.image.clone(),
        ready: container.ready,
        restarts: container.restart_count.into(),
        state: if name == "running" || name == "completed" { name } else { spaced(&name) },
        exit_code: last.map(|last| last.exit_code),
        message: killed.or_else(|| waiting.and_then(|waiting| waiting.message)),
    }
}

/// `crash loop back off` for `CrashLoopBackOff`: as people read it.
fn spaced(reason: &str) -> String {
    let mut text = String::with_capacity(reason.len() + 4);
    let mut before = ' ';
    for letter in reason.chars() {
        if letter.is_ascii_uppercase() && before.is_ascii_lowercase() {
            text.push(' ');
        }
        text.push(letter.to_ascii_lowercase());
        before = letter;
    }
    text
}

fn usage_of(pod: &Pod, metrics: Option<&PodMetrics>) -> PodUsage {
    let sum = |resource: &str| {
        let containers = &metrics?.containers;
        // A pod of which nothing was measured yet uses something all the same.
        if containers.is_empty() {
            None
        } else {
            containers.iter().map(|one| quantity::number(one.usage.get(resource)?)).sum::<Option<f64>>()
        }
    };
    let (cpu, memory) = (sum("cpu"), sum("memory"));
    let spec = pod.spec.as_ref();
    let requested = spec.and_then(|spec| quantity::sum(spec, quantity::requests, "cpu"));
    let limit = spec.and_then(|spec| quantity::sum(spec, quantity::limits, "memory"));
    let percent = |used: Option<f64>, of: Option<f64>| used.zip(of).filter(|(_, of)| *of > 0.0).map(|(used, of)| tenth(used / of * 100.0));
    PodUsage {
        name: name_of(&pod.metadata).to_owned(),
        cpu: cpu.map(|cpu| tenth(cpu * 100.0)),
        cpu_percent: percent(cpu, requested),
        memory: memory.map(|bytes| bytes.max(0.0) as u64),
        memory_percent: percent(memory, limit),
        measured: metrics.and_then(|metrics| metrics.timestamp),
    }
}

fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn event_view(event: &Event) -> EventView {
    let about = &event.involved_object;
    let time = event.last_timestamp.as_ref().or(event.first_timestamp.as_ref()).map(|time| time.0);
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).or(event.event_time.as_ref());
    EventView {
        time: series.map(|time| time.0).max(time),
        level: event.type_.clone().unwrap_or_else(|| "Normal".to_owned()),
        reason: event.reason.clone().unwrap_or_default(),
        message: event.message.clone().unwrap_or_default(),
        about: format!("{}/{}", about.kind.as_deref().unwrap_or("object").to_lowercase(), about.name.as_deref().unwrap_or_default()),
        count: event.count.or_else(|| event.series.as_ref().and_then(|series| series.count)).unwrap_or(1),
    }
}
