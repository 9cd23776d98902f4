//! Deployments: how they are, how many replicas they have, and what is rolled out.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use kube::core::params::ListParams;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::Cluster;
use super::hpas::{Condition, Hpa};
use super::pods::{name_of, owns, selector};
use crate::error::{Error, Kind, Result};
use crate::model::{Effect, Span};
use crate::words;

/// Where deployments are looked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeploymentOptions {
    pub(super) namespace: Option<String>,
    pub(super) timeout: Option<Span>,
}

/// How to scale.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ScaleOptions {
    pub(super) if_match: Option<String>,
    pub(super) wait: Option<Span>,
    pub(super) namespace: Option<String>,
    pub(super) timeout: Option<Span>,
}

/// Which revision to go back to.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RollbackOptions {
    to: Option<i64>,
    pub(super) namespace: Option<String>,
    pub(super) timeout: Option<Span>,
}

/// How long to wait.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WaitOptions {
    timeout: Option<Span>,
    interval: Option<Span>,
    pub(super) namespace: Option<String>,
}

const PATIENCE: Span = Span::secs(120);
const INTERVAL: Span = Span::secs(1);
const SHORTEST_INTERVAL: Span = Span::millis(100);
/// How often a change is tried that meets a version that is newer, though nothing of it matters.
const TRIES: u32 = 5;
const REVISION: &str = "deployment.kubernetes.io/revision";
/// What `kubectl rollout restart` writes, so that both tell the same.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// A deployment and how it is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DeploymentView {
    name: String,
    /// How many replicas there shall be.
    replicas: i32,
    ready: i32,
    updated: i32,
    available: i32,
    images: Vec<String>,
    paused: bool,
    revision: Option<i64>,
    /// Whether everything there is of it is as it shall be.
    done: bool,
    problem: Option<String>,
    conditions: Vec<Condition>,
    version: String,
}

/// What is known of one deployment.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DeploymentDetails {
    #[serde(flatten)]
    view: DeploymentView,
    /// What scales it.
    hpa: Option<Hpa>,
    /// How many more replicas the quotas leave room for.
    room: Option<u32>,
}

/// How far a deployment is rolled out.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Rollout {
    #[serde(flatten)]
    view: DeploymentView,
    revisions: Vec<Revision>,
}

#[derive(Debug, Clone, Serialize)]
struct Revision {
    revision: i64,
    images: Vec<String>,
    replicas: i32,
    created: Option<Timestamp>,
    #[serde(skip)]
    template: Value,
}

/// What became of the number of replicas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::host) struct Scaled {
    deployment: String,
    pub(in crate::host) before: i32,
    pub(in crate::host) after: i32,
    version: Option<String>,
}

/// A change of the number of replicas, found out before it is told and done.
pub(in crate::host) struct Scaling {
    pub(in crate::host) deployment: String,
    object: String,
    pub(in crate::host) before: i32,
    pub(in crate::host) after: i32,
    if_match: Option<String>,
}

/// What became of a rollout that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Turned {
    deployment: String,
    revision: Option<i64>,
    images: Vec<String>,
}

/// A way back to another revision, found out before it is told and done.
pub(super) struct Rollback {
    deployment: String,
    object: String,
    generation: i64,
    from: Option<i64>,
    to: Revision,
    images: Vec<String>,
}

/// That a deployment is available, and how long that took.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Available {
    deployment: String,
    replicas: i32,
    waited_ms: u64,
}

impl Scaling {
    /// What it would change.
    pub(in crate::host) fn effect(&self, function: &str) -> Effect {
        let Self { deployment, before, after, .. } = self;
        let mut effect = if before == after {
            Effect::new(function, &self.object, format!("leave `{deployment}` at {}", words::count(i64::from(*after), "replica")))
        } else {
            Effect::new(function, &self.object, format!("scale `{deployment}` from {before} to {after}"))
                .diff(format!("-replicas: {before}\n+replicas: {after}\n"))
        };
        effect.idle = before == after;
        effect.reversible()
    }

    pub(in crate::host) fn planned(&self) -> Scaled {
        Scaled { deployment: self.deployment.clone(), before: self.before, after: self.after, version: None }
    }
}

impl Rollback {
    pub(super) fn effect(&self) -> Effect {
        let from = self.from.map_or_else(|| "?".to_owned(), |revision| revision.to_string());
        let summary = format!("roll `{}` back from revision {from} to {}", self.deployment, self.to.revision);
        let line = |sign: char, images: &[String]| images.iter().map(|image| format!("{sign}image: {image}\n")).collect::<String>();
        Effect::new("k8s::rollback", &self.object, summary)
            .diff(format!("-revision: {from}\n{}+revision: {}\n{}", line('-', &self.images), self.to.revision, line('+', &self.to.images)))
            .reversible()
    }

    pub(super) fn planned(&self) -> Turned {
        Turned { deployment: self.deployment.clone(), revision: None, images: self.to.images.clone() }
    }
}

impl Cluster {
    /// A deployment as Kubernetes has it.
    pub(in crate::host) async fn deployment(&self, name: &str) -> Result<Deployment> {
        self.get::<Deployment>(name).await
    }

    /// Every deployment of the namespace that may be seen.
    pub(in crate::host) async fn deployments(&self) -> Result<Vec<Deployment>> {
        let all = self.list::<Deployment>(ListParams::default()).await?;
        Ok(all.into_iter().filter(|one| self.may("read", "deployment", name_of(&one.metadata))).collect())
    }

    /// One deployment, what scales it, and how much room there is for more of it.
    pub(super) async fn details(&self, name: &str) -> Result<DeploymentDetails> {
        let deployment = self.deployment(name).await?;
        let room = self.room_for(&deployment).await?.map(|(room, _)| room);
        Ok(DeploymentDetails { view: view_of(&deployment), hpa: self.owner_of(name).await?, room })
    }

    /// How far a deployment is rolled out, and what it can go back to.
    pub(super) async fn rollout(&self, name: &str) -> Result<Rollout> {
        let deployment = self.deployment(name).await?;
        Ok(Rollout { view: view_of(&deployment), revisions: self.revisions(&deployment).await? })
    }

    /// The revisions that are kept of a deployment, the newest first.
    async fn revisions(&self, deployment: &Deployment) -> Result<Vec<Revision>> {
        let selected = ListParams::default().labels(&selector(Some(&deployment.spec.selector)));
        let sets = self.list::<ReplicaSet>(selected).await?;
        let own = sets.iter().filter(|set| owns(&deployment.metadata, &set.metadata));
        let mut revisions: Vec<Revision> = own.filter_map(revision_of).collect();
        revisions.sort_by_key(|revision| std::cmp::Reverse(revision.revision));
        Ok(revisions)
    }

    /// What it takes to have so many replicas; nothing is changed yet.
    ///
    /// # Errors
    ///
    /// `conflict` when an autoscaler owns that number, or when it is of another version; `limit` when the quotas leave no
    /// room; `refused` when it may not be seen whether an autoscaler owns it.
    pub(in crate::host) async fn to_scale(&self, name: &str, replicas: i64, if_match: Option<String>) -> Result<Scaling> {
        let object = self.object("deployment", name);
        let after = i32::try_from(replicas).ok().filter(|count| (0..=MOST_REPLICAS).contains(count)).ok_or_else(|| {
            Error::new(Kind::Invalid, format!("found {replicas} replicas, expected 0 to {MOST_REPLICAS}")).target(&object)
        })?;
        if let Some(hpa) = self.owner_of(name).await? {
            return Err(Error::new(Kind::Conflict, format!("`{name}` is scaled by `{}`, which would undo it", hpa.in_words()))
                .target(&object)
                .permanent()
                .hint("change its bounds instead: `k8s::bounds`"));
        }
        let deployment = self.deployment(name).await?;
        let before = deployment.spec.replicas.unwrap_or(1);
        let version = deployment.metadata.resource_version.clone().unwrap_or_default();
        if if_match.as_ref().is_some_and(|wanted| *wanted != version) {
            return Err(other_version(&object, name, &version));
        }
        let more = u32::try_from(after - before).unwrap_or(0);
        if more > 0
            && let Some((room, quota)) = self.room_for(&deployment).await?
            && room < more
        {
            return Err(Error::new(Kind::Limit, format!("there is room for {room} more of `{name}`, not for {more}: {quota}"))
                .target(&object)
                .permanent()
                .hint("raise the quota of the namespace, or let fewer run"));
        }
        Ok(Scaling { deployment: name.to_owned(), object, before, after, if_match })
    }

    /// Does it. What changed in between but for the number does not matter, unless a version was demanded.
    pub(in crate::host) async fn scale(&self, scaling: &Scaling) -> Result<Scaled> {
        let Scaling { deployment: name, object, before, after, if_match } = scaling;
        let mut version = if_match.clone();
        for _ in 0..TRIES {
            let seen = match &version {
                Some(version) => version.clone(),
                None => {
                    let scale: Scale = self.scale_of(name).await?;
                    let now = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
                    // A request whose answer was lost has done it already.
                    if now != *before && now != *after {
                        return Err(Error::new(Kind::Conflict, format!("`{name}` was scaled to {now} in between"))
                            .target(object)
                            .permanent()
                            .hint("look at it again"));
                    }
                    scale.metadata.resource_version.unwrap_or_default()
                }
            };
            let change = json!({ "metadata": { "resourceVersion": seen }, "spec": { "replicas": after } });
            match self.patch::<Deployment>(name, Some("scale"), &change).await {
                Ok(done) => {
                    let version = done["metadata"]["resourceVersion"].as_str().map(str::to_owned);
                    return Ok(Scaled { version, ..scaling.planned() });
                }
                Err(error) if error.kind == Kind::Conflict && if_match.is_none() => version = None,
                Err(error) if error.kind == Kind::Conflict => return Err(other_version(object, name, "another one")),
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(Kind::Conflict, format!("`{name}` changes all the time")).target(object))
    }

    async fn scale_of(&self, name: &str) -> Result<Scale> {
        self.get_part::<Deployment, Scale>("scale", name).await
    }

    /// Starts all pods anew, as many at a time as the deployment lets go.
    pub(in crate::host) async fn restart(&self, name: &str) -> Result<()> {
        let at = self.ctx().now().to_string();
        let change = json!({ "spec": { "template": { "metadata": { "annotations": { RESTARTED: at } } } } });
        self.patch::<Deployment>(name, None, &change).await.map(drop)
    }

    /// What a restart would change.
    pub(in crate::host) async fn to_restart(&self, function: &str, name: &str) -> Result<Effect> {
        let deployment = self.deployment(name).await?;
        let replicas = deployment.spec.replicas.unwrap_or(1);
        if deployment.spec.paused == Some(true) {
            return Err(Error::new(Kind::Conflict, format!("`{name}` is paused, so nothing would be rolled out"))
                .target(self.object("deployment", name))
                .permanent()
                .hint(format!("`kubectl rollout resume deployment/{name}`")));
        }
        let summary = format!("restart the pods of `{name}` ({})", words::count(i64::from(replicas), "replica"));
        Ok(Effect::new(function, self.object("deployment", name), summary))
    }

    /// The way back to another revision: the one before, when none is named. Nothing is changed yet.
    pub(super) async fn to_roll_back(&self, name: &str, options: &RollbackOptions) -> Result<Rollback> {
        let object = self.object("deployment", name);
        let deployment = self.deployment(name).await?;
        let revisions = self.revisions(&deployment).await?;
        let view = view_of(&deployment);
        let known: Vec<String> = revisions.iter().map(|one| one.revision.to_string()).collect();
        let chosen = match options.to {
            Some(to) => revisions.into_iter().find(|one| one.revision == to),
            None => revisions.into_iter().find(|one| view.revision.is_none_or(|now| one.revision < now)),
        };
        let Some(to) = chosen else {
            let wanted = options.to.map_or_else(|| "an older revision".to_owned(), |to| format!("revision {to}"));
            return Err(Error::new(
                Kind::NotFound,
                format!("`{name}` has no {}, found {}", wanted.trim_start_matches("an "), words::list(&known)),
            )
            .target(object)
            .hint("`k8s::rollout` lists the revisions that are kept"));
        };
        if view.paused {
            return Err(Error::new(Kind::Conflict, format!("`{name}` is paused, so nothing would be rolled out"))
                .target(object)
                .permanent());
        }
        let generation = deployment.metadata.generation.unwrap_or(0);
        Ok(Rollback { deployment: name.to_owned(), object, generation, from: view.revision, to, images: view.images })
    }

    /// Goes back. It is refused when what shall run was changed in between.
    pub(super) async fn roll_back(&self, rollback: Rollback) -> Result<Turned> {
        let operations = json!([
            { "op": "test", "path": "/metadata/generation", "value": rollback.generation },
            { "op": "replace", "path": "/spec/template", "value": rollback.to.template },
        ]);
        match self.operate::<Deployment>(&rollback.deployment, &operations).await {
            Ok(_) => Ok(rollback.planned()),
            // A test that fails is told like any other mistake.
            Err(error) if error.kind == Kind::Invalid => {
                let now = self.deployment(&rollback.deployment).await?.metadata;
                if now.generation == Some(rollback.generation) {
                    return Err(error);
                }
                Err(other_version(&rollback.object, &rollback.deployment, now.resource_version.as_deref().unwrap_or("another one")))
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until what shall run does.
    pub(super) async fn wait_available(&self, name: &str, options: &WaitOptions) -> Result<Available> {
        let started = Instant::now();
        let interval = options.interval.unwrap_or(INTERVAL).max(SHORTEST_INTERVAL);
        let view = self.available(name, options.timeout.unwrap_or(PATIENCE), interval.0).await?;
        let waited_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Available { deployment: name.to_owned(), replicas: view.available, waited_ms })
    }

    /// As [`Cluster::wait_available`], with the time it looks again after.
    pub(super) async fn available(&self, name: &str, patience: Span, interval: Duration) -> Result<DeploymentView> {
        let mut last = String::from("nothing was seen");
        let watch = async {
            loop {
                let view = view_of(&self.deployment(name).await?);
                if view.done {
                    return Ok(view);
                }
                last = view.in_words();
                tokio::time::sleep(interval).await;
            }
        };
        match tokio::time::timeout(patience.0, watch).await {
            Ok(view) => view,
            Err(_) => Err(Error::new(Kind::Timeout, format!("`{name}` was not available within {patience}: {last}"))
                .target(self.object("deployment", name))
                .hint("`k8s::pods`, `k8s::events` and `k8s::logs` say why")),
        }
    }

    /// Scales, and waits until all replicas are available. When they do not become so, there are as many as before.
    pub(in crate::host) async fn scale_and_wait(&self, scaling: &Scaling, patience: Span) -> Result<Scaled> {
        let done = self.scale(scaling).await?;
        let Err(error) = self.available(&scaling.deployment, patience, INTERVAL.0).await else { return Ok(done) };
        if scaling.after <= scaling.before {
            return Err(error);
        }
        let back = Scaling { before: scaling.after, after: scaling.before, if_match: None, ..scaling.copy() };
        let told = match self.scale(&back).await {
            Ok(_) => format!("it is back at {}; `k8s::events` and `k8s::logs` say why", words::count(i64::from(scaling.before), "replica")),
            Err(failed) => format!("it is not back at {}: {}", scaling.before, failed.message),
        };
        // What was done about it comes before what to do next.
        Err(Error { hints: vec![told], ..error })
    }
}

/// More than this is a mistake.
pub(in crate::host) const MOST_REPLICAS: i32 = 1000;

impl Scaling {
    fn copy(&self) -> Self {
        Self {
            deployment: self.deployment.clone(),
            object: self.object.clone(),
            before: self.before,
            after: self.after,
            if_match: self.if_match.clone(),
        }
    }
}

impl DeploymentView {
    fn in_words(&self) -> String {
        let told = format!("{} of {} updated, {} available", self.updated, self.replicas, self.available);
        match &self.problem {
            Some(problem) => format!("{told}; {problem}"),
            None => told,
        }
    }
}

fn other_version(object: &str, name: &str, version: &str) -> Error {
    Error::new(Kind::Conflict, format!("`{name}` is of version {version}, not of the one it was looked at"))
        .target(object)
        .permanent()
        .hint("somebody changed it in between: look at it again")
}

pub(super) fn view_of(deployment: &Deployment) -> DeploymentView {
    let spec = deployment.spec.clone();
    let status = deployment.status.clone().unwrap_or_default();
    let count = |count: Option<i32>| count.unwrap_or(0);
    let replicas = spec.replicas.unwrap_or(1);
    let (updated, available) = (count(status.updated_replicas), count(status.available_replicas));
    let is_seen = status.observed_generation >= deployment.metadata.generation;
    let conditions: Vec<Condition> = status
        .conditions
        .iter()
        .flatten()
        .map(|one| Condition {
            name: one.type_.clone().unwrap_or_default(),
            status: one.status.clone().unwrap_or_default(),
            reason: one.reason.clone().unwrap_or_default(),
            message: one.message.clone().unwrap_or_default(),
            since: one.last_transition_time.as_ref().map(|time| time.0),
        })
        .collect();
    let ill = |one: &&Condition| one.name == "ReplicaFailure" && one.status == "True" || one.reason == "ProgressDeadlineExceeded";
    DeploymentView {
        name: name_of(&deployment.metadata).to_owned(),
        replicas,
        ready: count(status.ready_replicas),
        updated,
        available,
        images: images(&spec.template.spec.unwrap_or_default()),
        paused: spec.paused == Some(true),
        revision: revision(&deployment.metadata),
        done: is_seen && updated == replicas && count(status.replicas) == replicas && available == replicas,
        problem: conditions.iter().find(ill).map(|one| one.message.clone()),
        conditions,
        version: deployment.metadata.resource_version.clone().unwrap_or_default(),
    }
}

fn images(pod: &k8s_openapi::api::core::v1::PodSpec) -> Vec<String> {
    pod.containers.iter().filter_map(|container| container.image.clone()).collect()
}

fn revision(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<i64> {
    metadata.annotations.as_ref()?.get(REVISION)?.parse().ok()
}

fn revision_of(set: &ReplicaSet) -> Option<Revision> {
    let template = set.spec.template.as_ref()?;
    let mut written = serde_json::to_value(template).ok()?;
    // The label is of this replica set, and Kubernetes gives the next one its own.
    if let Some(labels) = written["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    Some(Revision {
        revision: revision(&set.metadata)?,
        images: images(template.spec.as_ref()?),
        replicas: set.status.as_ref().map_or(0, |status| status.replicas),
        created: set.metadata.creation_timestamp.as_ref().map(|time| time.0),
        template: written,
    })
}
