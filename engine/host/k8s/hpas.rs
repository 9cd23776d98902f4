//! Horizontal pod autoscalers, and what quotas leave room for.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::{v1, v2};
use k8s_openapi::api::core::v1::{PodSpec, ResourceQuota};
use kube::core::params::ListParams;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::Cluster;
use super::pods::name_of;
use super::quantity;
use crate::error::{Error, Kind, Result};
use crate::model::{Effect, Span};

/// Where autoscalers are looked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HpaOptions {
    pub(super) namespace: Option<String>,
    pub(super) timeout: Option<Span>,
}

/// The bounds an autoscaler is to have.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BoundOptions {
    pub(super) if_match: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) timeout: Option<Span>,
}

/// An autoscaler and how it is.
#[derive(Debug, Clone, Serialize)]
pub(in crate::host) struct Hpa {
    pub(in crate::host) name: String,
    /// What it scales, as `deployment/web`.
    target: String,
    min: i32,
    max: i32,
    current: i32,
    wanted: i32,
    metrics: Vec<Metric>,
    conditions: Vec<Condition>,
    scaled: Option<Timestamp>,
    version: String,
}

#[derive(Debug, Clone, Serialize)]
struct Metric {
    name: String,
    /// What it is now; nothing when the autoscaler does not know.
    value: Option<String>,
    target: Option<String>,
}

/// What an object says of itself.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Condition {
    pub(super) name: String,
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) since: Option<Timestamp>,
}

/// A quota of the namespace.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Quota {
    name: String,
    resource: String,
    used: Option<f64>,
    hard: Option<f64>,
}

/// What became of the bounds of an autoscaler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Bounded {
    hpa: String,
    before: (i32, i32),
    after: (i32, i32),
}

/// A change of bounds, found out before it is told and done.
pub(super) struct Bounding {
    hpa: Hpa,
    min: i32,
    max: i32,
}

impl Bounding {
    pub(super) fn effect(&self, object: String) -> Effect {
        let (hpa, before, after) = (&self.hpa.name, self.before(), (self.min, self.max));
        let mut effect = Effect::new("k8s::bounds", object, format!("let `{hpa}` have {} to {} replicas", after.0, after.1)).reversible();
        effect.idle = before == after;
        effect
            .diff(format!("-minReplicas: {}\n-maxReplicas: {}\n+minReplicas: {}\n+maxReplicas: {}\n", before.0, before.1, after.0, after.1))
    }

    pub(super) fn planned(&self) -> Bounded {
        Bounded { hpa: self.hpa.name.clone(), before: self.before(), after: (self.min, self.max) }
    }

    fn before(&self) -> (i32, i32) {
        (self.hpa.min, self.hpa.max)
    }
}

impl Hpa {
    /// `hpa/web`, as a system file names an owner.
    pub(in crate::host) fn in_words(&self) -> String {
        format!("hpa/{}", self.name)
    }

    fn scales(&self, deployment: &str) -> bool {
        self.target.strip_prefix("deployment/") == Some(deployment)
    }
}

impl Cluster {
    /// The autoscalers of the namespace. Servers before 1.23 know only the first version of them.
    pub(super) async fn hpas(&self) -> Result<Vec<Hpa>> {
        match self.list::<v2::HorizontalPodAutoscaler>(ListParams::default()).await {
            Ok(found) => Ok(found.iter().map(of_v2).collect()),
            Err(error) if error.kind == Kind::NotFound => {
                let found = self.list::<v1::HorizontalPodAutoscaler>(ListParams::default()).await?;
                Ok(found.iter().map(of_v1).collect())
            }
            Err(error) => Err(error),
        }
    }

    /// The autoscaler that owns the number of replicas of a deployment.
    pub(in crate::host) async fn owner_of(&self, deployment: &str) -> Result<Option<Hpa>> {
        Ok(self.hpas().await?.into_iter().find(|hpa| hpa.scales(deployment)))
    }

    /// What it takes to give an autoscaler these bounds; nothing is changed yet.
    pub(super) async fn to_bound(&self, name: &str, min: i64, max: i64, options: &BoundOptions) -> Result<Bounding> {
        let bounds = (i32::try_from(min).ok(), i32::try_from(max).ok());
        let (Some(min @ 1..), Some(max)) = bounds else {
            return Err(
                Error::new(Kind::Invalid, format!("found {min} to {max} replicas, expected 1 or more")).target(self.object("hpa", name))
            );
        };
        if min > max {
            return Err(Error::new(Kind::Invalid, format!("found {min} to {max} replicas, of which the first is the larger one")));
        }
        let Some(hpa) = self.hpas().await?.into_iter().find(|hpa| hpa.name == name) else {
            return Err(Error::new(Kind::NotFound, format!("there is no autoscaler `{name}` in `{}`", self.namespace))
                .target(self.object("hpa", name)));
        };
        if options.if_match.as_ref().is_some_and(|version| *version != hpa.version) {
            return Err(Error::new(Kind::Conflict, format!("`{name}` is of version {}, not of the one it was looked at", hpa.version))
                .target(self.object("hpa", name))
                .permanent()
                .hint("somebody changed it in between: look at it again"));
        }
        Ok(Bounding { hpa, min, max })
    }

    /// Gives an autoscaler these bounds; never the replicas themselves.
    pub(super) async fn bound(&self, bounding: Bounding) -> Result<Bounded> {
        let Bounding { hpa, min, max } = &bounding;
        if bounding.before() != (*min, *max) {
            let change = json!({ "metadata": { "resourceVersion": hpa.version }, "spec": { "minReplicas": min, "maxReplicas": max } });
            // The first version has these fields too, and every server knows it.
            self.patch::<v1::HorizontalPodAutoscaler>(&hpa.name, None, &change).await?;
        }
        Ok(bounding.planned())
    }

    /// The quotas of the namespace, one entry for each resource.
    pub(super) async fn quotas(&self) -> Result<Vec<Quota>> {
        let quotas = self.list::<ResourceQuota>(ListParams::default()).await?;
        let entries = |quota: &ResourceQuota| {
            let status = quota.status.clone().unwrap_or_default();
            let used = status.used.unwrap_or_default();
            let hard = status.hard.unwrap_or_default();
            let name = name_of(&quota.metadata).to_owned();
            let entry = move |(resource, hard)| Quota {
                name: name.clone(),
                used: used.get(&resource).and_then(quantity::number),
                hard: quantity::number(&hard),
                resource,
            };
            hard.into_iter().map(entry).collect::<Vec<_>>()
        };
        Ok(quotas.iter().flat_map(entries).collect())
    }

    /// How many more replicas of a deployment the quotas leave room for, and which of them leaves the least; nothing
    /// when none limits it, or when they may not be seen.
    pub(super) async fn room_for(&self, deployment: &Deployment) -> Result<Option<(u32, String)>> {
        let Some(pod) = deployment.spec.template.spec.as_ref() else { return Ok(None) };
        let quotas = match self.quotas().await {
            Err(error) if error.kind == Kind::Refused => return Ok(None),
            quotas => quotas?,
        };
        let room = |quota: &Quota| {
            let (used, hard, needed) = (quota.used?, quota.hard?, needed_for(pod, &quota.resource)?);
            // A share of a millionth is what arithmetic leaves of an exact fit.
            let count = ((hard - used) / needed + 1e-6).floor().clamp(0.0, f64::from(u32::MAX));
            Some((count as u32, format!("quota `{}`: {} of {} {} are used", quota.name, used, hard, quota.resource)))
        };
        Ok(quotas.iter().filter_map(room).min_by_key(|(count, _)| *count))
    }
}

/// What one more pod takes of what a quota counts; nothing when it takes none of it, or does not say.
fn needed_for(pod: &PodSpec, resource: &str) -> Option<f64> {
    let needed = match resource {
        "pods" | "count/pods" => Some(1.0),
        "cpu" | "requests.cpu" => quantity::sum(pod, quantity::requests, "cpu"),
        "memory" | "requests.memory" => quantity::sum(pod, quantity::requests, "memory"),
        "limits.cpu" => quantity::sum(pod, quantity::limits, "cpu"),
        "limits.memory" => quantity::sum(pod, quantity::limits, "memory"),
        _ => None,
    };
    needed.filter(|needed| *needed > 0.0)
}

fn target(kind: &str, name: &str) -> String {
    format!("{}/{name}", kind.to_lowercase())
}

fn of_v2(hpa: &v2::HorizontalPodAutoscaler) -> Hpa {
    let spec = hpa.spec.clone();
    let status = hpa.status.clone().unwrap_or_default();
    let known = status.current_metrics.unwrap_or_default();
    let metric = |metric: &v2::MetricSpec| {
        let name = metric_name(metric);
        let value = known.iter().find_map(|now| {
            let now = now.resource.as_ref().filter(|_| metric.type_ == "Resource")?;
            (now.name == name)
                .then(|| in_words(now.current.average_utilization, now.current.average_value.as_ref().map(|value| &value.0)))?
        });
        let wanted = metric.resource.as_ref().map(|resource| &resource.target).or(metric.container_resource.as_ref().map(|of| &of.target));
        let wanted = wanted.or(metric.pods.as_ref().map(|pods| &pods.target)).or(metric.external.as_ref().map(|external| &external.target));
        let target = wanted.and_then(|target| {
            in_words(target.average_utilization, target.average_value.as_ref().or(target.value.as_ref()).map(|value| &value.0))
        });
        Metric { name, value, target }
    };
    Hpa {
        name: name_of(&hpa.metadata).to_owned(),
        target: target(&spec.scale_target_ref.kind, &spec.scale_target_ref.name),
        min: spec.min_replicas.unwrap_or(1),
        max: spec.max_replicas,
        current: status.current_replicas.unwrap_or(0),
        wanted: status.desired_replicas,
        metrics: spec.metrics.iter().flatten().map(metric).collect(),
        conditions: status.conditions.iter().flatten().map(condition).collect(),
        scaled: status.last_scale_time.map(|time| time.0),
        version: hpa.metadata.resource_version.clone().unwrap_or_default(),
    }
}

fn of_v1(hpa: &v1::HorizontalPodAutoscaler) -> Hpa {
    let spec = hpa.spec.clone();
    let status = hpa.status.clone().unwrap_or_default();
    let cpu = spec.target_cpu_utilization_percentage.map(|target| Metric {
        name: "cpu".to_owned(),
        value: in_words(status.current_cpu_utilization_percentage, None),
        target: in_words(Some(target), None),
    });
    Hpa {
        name: name_of(&hpa.metadata).to_owned(),
        target: target(&spec.scale_target_ref.kind, &spec.scale_target_ref.name),
        min: spec.min_replicas.unwrap_or(1),
        max: spec.max_replicas,
        current: status.current_replicas,
        wanted: status.desired_replicas,
        metrics: cpu.into_iter().collect(),
        conditions: Vec::new(),
        scaled: status.last_scale_time.map(|time| time.0),
        version: hpa.metadata.resource_version.clone().unwrap_or_default(),
    }
}

fn metric_name(metric: &v2::MetricSpec) -> String {
    let of_resource = metric.resource.as_ref().map(|resource| resource.name.clone());
    let of_container = metric.container_resource.as_ref().map(|of| format!("{} of {}", of.name, of.container));
    let of_pods = metric.pods.as_ref().map(|pods| pods.metric.name.clone());
    let of_external = metric.external.as_ref().map(|external| external.metric.name.clone());
    of_resource.or(of_container).or(of_pods).or(of_external).unwrap_or_else(|| metric.type_.clone())
}

fn in_words(percent: Option<i32>, amount: Option<&String>) -> Option<String> {
    percent.map(|percent| format!("{percent} %")).or_else(|| amount.cloned())
}

fn condition(condition: &v2::HorizontalPodAutoscalerCondition) -> Condition {
    Condition {
        name: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        since: condition.last_transition_time.as_ref().map(|time| time.0),
    }
}
