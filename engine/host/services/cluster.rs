//! Services of Kubernetes: each is a deployment of the namespace, and its pods are what is judged.

use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;

use super::state::{Judge, Part, ServiceState};
use super::usage::Usage;
use super::view::{Line, LineOptions};
use crate::error::Result;
use crate::host::Ctx;
use crate::host::docker::Scaled;
pub(super) use crate::host::k8s::Scaling;
use crate::host::k8s::{Cluster, LogOptions, PodOptions, PodState, PodUsage};
use crate::model::system::Service;
use crate::model::{Effect, Span};

/// Kubernetes has no word for what comes up. A pod that is not ready for longer than this is ill.
const COMES_UP: SignedDuration = SignedDuration::from_mins(5);
/// What `service::logs` reads of a pod.
const MOST_LOG_BYTES: u64 = 1 << 20;

fn of(ctx: &Ctx) -> Result<Cluster> {
    Cluster::of(ctx, None, None)
}

fn deployment<'a>(name: &'a str, service: &'a Service) -> &'a str {
    service.unit.as_deref().unwrap_or(name)
}

/// These services, and the deployments beside them that may be seen.
pub(super) async fn states(ctx: &Ctx, services: &[(&str, &Service)], unexpected: bool) -> Result<Vec<ServiceState>> {
    let cluster = of(ctx)?;
    for (name, service) in services {
        cluster.permit("read", "deployment", deployment(name, service))?;
    }
    let found = cluster.deployments().await?;
    let judged = services.iter().map(|(name, service)| {
        let one = deployment(name, service);
        state(ctx, &cluster, (name, service), found.iter().find(|found| found.metadata.name.as_deref() == Some(one)))
    });
    let mut states = try_join_all(judged).await?;
    let is_known = |one: &str| ctx.system().services.each.iter().any(|(name, service)| deployment(name, service) == one);
    let beside = found.iter().filter_map(|found| Some((found.metadata.name.as_deref()?, found)));
    for (name, found) in beside.filter(|(name, _)| unexpected && !is_known(name)) {
        let parts: Vec<Part> = cluster.replicas_of(found).await?.iter().map(|pod| part(pod, ctx.now())).collect();
        let failed = parts.iter().any(|part| part.state != "running");
        if !parts.is_empty() {
            states.push(Judge::of(ctx).unexpected(name, &parts, failed));
        }
    }
    Ok(states)
}

/// One service, judged by its deployment and the pods of it.
async fn state(ctx: &Ctx, cluster: &Cluster, (name, service): (&str, &Service), found: Option<&Deployment>) -> Result<ServiceState> {
    let Some(found) = found else { return Ok(Judge::of(ctx).expected(name, service, &[])) };
    // How many there shall be is for whoever scales it, unless the system file says it.
    let replicas = service.replicas.or(found.spec.replicas.and_then(|count| u32::try_from(count).ok()));
    let service = Service { replicas, ..service.clone() };
    let parts: Vec<Part> = cluster.replicas_of(found).await?.iter().map(|pod| part(pod, ctx.now())).collect();
    Ok(Judge::of(ctx).expected(name, &service, &parts))
}

fn part(pod: &PodState, now: Timestamp) -> Part {
    let is_young = pod.started.is_some_and(|started| now.duration_since(started) < COMES_UP);
    let health = match (pod.state.as_str(), pod.ready) {
        ("running", true) => "healthy",
        ("running", false) if is_young => "starting",
        ("running", false) => "unhealthy",
        _ => "none",
    };
    Part {
        name: pod.name.clone(),
        state: pod.state.clone(),
        health: health.to_owned(),
        restarts: pod.restarts,
        started: pod.started,
        detail: pod.detail.clone(),
    }
}

/// What a restart would change.
pub(super) async fn to_restart(ctx: &Ctx, function: &str, name: &str, service: &Service) -> Result<Effect> {
    let (cluster, name) = (of(ctx)?, deployment(name, service));
    cluster.permit("restart", "deployment", name)?;
    cluster.to_restart(function, name).await
}

/// Restarts it, and gives its name.
pub(super) async fn restart(ctx: &Ctx, name: &str, service: &Service) -> Result<Vec<String>> {
    let name = deployment(name, service);
    of(ctx)?.restart(name).await?;
    Ok(vec![name.to_owned()])
}

/// What it takes to have so many replicas.
pub(super) async fn to_scale(ctx: &Ctx, name: &str, service: &Service, replicas: i64) -> Result<Scaling> {
    let (cluster, name) = (of(ctx)?, deployment(name, service));
    cluster.permit("scale", "deployment", name)?;
    cluster.to_scale(name, replicas, None).await
}

/// Scales it and waits; as many as before when that fails.
pub(super) async fn scale(ctx: &Ctx, service: &str, scaling: &Scaling, patience: Span) -> Result<Scaled> {
    let cluster = of(ctx)?;
    let before = cluster.names_of(&scaling.deployment).await?;
    cluster.scale_and_wait(scaling, patience).await?;
    let after = cluster.names_of(&scaling.deployment).await?;
    let apart = |these: &[String], those: &[String]| these.iter().filter(|name| !those.contains(name)).cloned().collect();
    Ok(Scaled { created: apart(&after, &before), removed: apart(&before, &after), ..planned(service, scaling) })
}

/// What it is expected to come to; what pods will be called is for Kubernetes to say.
pub(super) fn planned(service: &str, scaling: &Scaling) -> Scaled {
    let count = |count: i32| u32::try_from(count).unwrap_or(0);
    Scaled {
        service: service.to_owned(),
        before: count(scaling.before),
        after: count(scaling.after),
        started: Vec::new(),
        created: Vec::new(),
        removed: Vec::new(),
    }
}

/// What its pods wrote.
pub(super) async fn logs(ctx: &Ctx, name: &str, service: &Service, options: &LineOptions) -> Result<Vec<Line>> {
    let (cluster, name) = (of(ctx)?, deployment(name, service));
    cluster.permit("logs", "deployment", name)?;
    let pods = cluster.names_of(name).await?;
    let lines = cluster.lines(&pods, &LogOptions::newest(options.tail, options.since, options.until, MOST_LOG_BYTES)).await?;
    Ok(lines.into_iter().map(|line| Line { source: line.pod, time: line.time, stream: line.stream, text: line.text }).collect())
}

/// What its pods use, as the metrics server saw them last.
pub(super) async fn usage(ctx: &Ctx, name: &str, service: &Service) -> Result<Vec<Usage>> {
    let (cluster, name) = (of(ctx)?, deployment(name, service));
    cluster.permit("top", "deployment", name)?;
    let used = cluster.top(&PodOptions::of(name)).await?;
    let usage = |pod: PodUsage| Usage {
        name: pod.name,
        cpu: pod.cpu,
        cpu_percent: pod.cpu_percent,
        memory: pod.memory,
        memory_percent: pod.memory_percent,
        processes: None,
    };
    Ok(used.into_iter().map(usage).collect())
}
