//! The services of a system, whatever manages them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::{Judge, Part, ServiceState};
use super::usage::{ServiceUsage, Usage, UsageOptions};
use super::{cluster, processes};
use crate::error::{Error, Kind, Result};
use crate::host::docker::{Action, Container, Docker, Found, LogOptions, MOST_REPLICAS, Scaled, Scaling, StatsOptions, StopOptions};
use crate::host::systemd::{ActOptions, JournalOptions, Systemd, Unit, UnitName};
use crate::host::{Access, Ctx, Moment, docker, systemd};
use crate::model::system::{Manager, Service};
use crate::model::{Effect, Span};

/// How to start or restart.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TurnOptions {
    timeout: Option<Span>,
}

/// How to scale.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ScaleOptions {
    timeout: Option<Span>,
}

/// Which lines to read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LineOptions {
    pub(super) since: Option<Moment>,
    pub(super) until: Option<Moment>,
    pub(super) tail: usize,
}

impl Default for LineOptions {
    fn default() -> Self {
        Self { since: None, until: None, tail: 1000 }
    }
}

/// A line a service wrote.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) source: String,
    pub(super) time: Option<Timestamp>,
    pub(super) stream: &'static str,
    pub(super) text: String,
}

/// What starts or restarts with a service, found out before it is told and done.
pub(super) struct Turn {
    action: Action,
    of: Target,
}

enum Target {
    Containers(Vec<Found>),
    Unit(UnitName, Box<Unit>),
    Deployment(Box<Effect>),
}

/// What a change of the number of replicas is about, found out before it is told and done.
pub(super) enum Scale {
    Containers(Scaling),
    Pods(cluster::Scaling),
}

impl Scale {
    /// What it would change.
    pub(super) fn effect(&self, name: &str) -> Effect {
        match self {
            Self::Containers(scaling) => scaling.effect("service::scale"),
            Self::Pods(scaling) => Effect { target: name.to_owned(), ..scaling.effect("service::scale") },
        }
    }

    /// What it is expected to come to.
    pub(super) fn planned(&self, name: &str) -> Scaled {
        match self {
            Self::Containers(scaling) => scaling.planned(),
            Self::Pods(scaling) => cluster::planned(name, scaling),
        }
    }
}

const INTERVAL: Span = Span::secs(1);
/// How long new replicas may take to become healthy.
const PATIENCE: Span = Span::secs(120);

/// The services of this run's system.
pub(super) struct View {
    ctx: Ctx,
}

impl View {
    pub(super) fn of(ctx: &Ctx) -> Self {
        Self { ctx: ctx.clone() }
    }

    /// Every service of the system, and those that run beside it.
    pub(super) async fn list(&self) -> Result<Vec<ServiceState>> {
        let services = &self.ctx.system().services;
        if services.manager == Manager::None && services.each.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<&String> = services.each.keys().collect();
        self.states(&names, true).await
    }

    /// One service of the system.
    pub(super) async fn state(&self, name: &str) -> Result<ServiceState> {
        let (name, _) = self.known(name)?;
        let mut states = self.states(&[name], false).await?;
        states.pop().ok_or_else(|| Error::new(Kind::Bug, format!("service `{name}` was not judged")))
    }

    /// The name and the description of a service of the system file.
    fn known(&self, name: &str) -> Result<(&String, &Service)> {
        let system = self.ctx.system();
        if let Some(known) = system.services.each.get_key_value(name) {
            return Ok(known);
        }
        let error = Error::new(Kind::NotFound, format!("system `{}` has no service `{name}`", system.name)).target(name);
        Err(error.suggest(name, system.services.each.keys()))
    }

    async fn states(&self, names: &[&String], unexpected: bool) -> Result<Vec<ServiceState>> {
        match self.ctx.system().services.manager {
            Manager::Compose => self.compose(names, unexpected).await,
            Manager::Systemd => try_join_all(names.iter().map(|name| self.unit_state(name))).await,
            Manager::Processes => {
                processes::permit(&self.ctx)?;
                names.iter().map(|name| self.process_state(name)).collect()
            }
            Manager::Kubernetes => {
                let services: Vec<(&str, &Service)> =
                    names.iter().map(|name| self.known(name).map(|(name, service)| (name.as_str(), service))).collect::<Result<_>>()?;
                cluster::states(&self.ctx, &services, unexpected).await
            }
            Manager::None => Err(self.unmanaged()),
        }
    }

    /// Why there is nothing that manages the services.
    fn unmanaged(&self) -> Error {
        Error::new(Kind::Conflict, "nothing is named that manages the services")
            .hint("name it in the system file: `[services] manager = \"compose\"`, `\"systemd\"`, `\"kubernetes\"` or `\"processes\"`")
            .target(&self.ctx.system().name)
            .permanent()
    }

    async fn compose(&self, names: &[&String], unexpected: bool) -> Result<Vec<ServiceState>> {
        let (system, permissions) = (self.ctx.system(), self.ctx.permissions());
        if system.services.compose_project().is_empty() {
            return Err(Error::new(Kind::Config, format!("system `{}` names no compose project", system.name))
                .target(&system.name)
                .hint("add it to the system file: `[services] project = \"…\"`, or `directory`, which compose names it after"));
        }
        let docker = Docker::of(&self.ctx);
        docker.permit_any("inspect", names.first().map_or("*", |name| name))?;
        let mut of_service: BTreeMap<String, Vec<Found>> = names.iter().map(|&name| (name.clone(), Vec::new())).collect();
        let mut others: BTreeMap<String, Vec<Found>> = BTreeMap::new();
        for found in docker.list().await? {
            match found.service_in(system) {
                Some(name) => {
                    if let Some(list) = of_service.get_mut(name) {
                        found.permit(permissions, system, "inspect")?;
                        list.push(found);
                    }
                }
                None if unexpected && found.is_of(system) && found.permit(permissions, system, "inspect").is_ok() => {
                    others.entry(found.service.clone()).or_default().push(found);
                }
                None => {}
            }
        }
        let mut states = Vec::new();
        for (name, found) in of_service {
            if found.is_empty() {
                permissions.check(&Access::word("docker", "inspect", &name))?;
            }
            let parts: Vec<Part> = docker.states(found).await?.iter().map(container).collect();
            let (_, service) = self.known(&name)?;
            states.push(Judge::of(&self.ctx).expected(&name, service, &parts));
        }
        for (name, found) in others {
            let containers = docker.states(found).await?;
            let failed = containers.iter().any(|one| one.state != "running" && one.exit_code != Some(0));
            let parts: Vec<Part> = containers.iter().map(container).collect();
            states.push(Judge::of(&self.ctx).unexpected(&name, &parts, failed));
        }
        Ok(states)
    }

    async fn unit_state(&self, name: &str) -> Result<ServiceState> {
        let (_, service) = self.known(name)?;
        let unit = unit_name(name, service)?;
        let systemd = Systemd::of(&self.ctx);
        systemd.permit("status", &unit)?;
        let parts = match systemd.unit(&unit).await {
            Ok(unit) => vec![unit_part(&unit)],
            Err(error) if error.kind == Kind::NotFound && error.target.as_deref() == Some(unit.full()) => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Judge::of(&self.ctx).expected(name, service, &parts))
    }

    fn process_state(&self, name: &str) -> Result<ServiceState> {
        let (_, service) = self.known(name)?;
        let part = processes::part(name, service)?;
        Ok(Judge::of(&self.ctx).expected(name, service, part.as_slice()))
    }

    /// What a start or restart of a service is about; nothing is changed yet.
    pub(super) async fn turn(&self, action: Action, name: &str) -> Result<Turn> {
        let (_, service) = self.known(name)?;
        let of = match self.ctx.system().services.manager {
            Manager::Compose => Target::Containers(Docker::of(&self.ctx).resolve(action.verb(), name).await?),
            Manager::Systemd => {
                let unit = unit_name(name, service)?;
                let systemd = Systemd::of(&self.ctx);
                systemd.permit(action.verb(), &unit)?;
                let state = systemd.unit(&unit).await?;
                Target::Unit(unit, Box::new(state))
            }
            Manager::Processes => {
                return Err(Error::new(Kind::Conflict, format!("`{name}` is a plain process, which nothing can start again"))
                    .target(name)
                    .permanent()
                    .hint("start it with `exec::run`, or let systemd manage it"));
            }
            Manager::Kubernetes if action == Action::Restart => {
                Target::Deployment(Box::new(cluster::to_restart(&self.ctx, "service::restart", name, service).await?))
            }
            Manager::Kubernetes => {
                return Err(Error::new(Kind::Conflict, format!("`{name}` is a deployment, whose pods Kubernetes starts by itself"))
                    .target(name)
                    .permanent()
                    .hint(
                        "one that was scaled to 0 comes back with `service::scale`; one that does not come up may with `service::restart`",
                    ));
            }
            Manager::None => return Err(self.unmanaged()),
        };
        Ok(Turn { action, of })
    }

    /// Starts or restarts it, and gives the names of what was.
    pub(super) async fn act(&self, name: &str, turn: Turn, options: TurnOptions) -> Result<Vec<String>> {
        match turn.of {
            Target::Containers(found) => Docker::of(&self.ctx).act(turn.action, found, StopOptions { timeout: options.timeout }).await,
            Target::Unit(unit, _) => {
                Systemd::of(&self.ctx).act(turn.action.verb(), &unit, ActOptions { timeout: options.timeout }).await?;
                Ok(vec![unit.full().to_owned()])
            }
            Target::Deployment(_) => {
                let (name, service) = self.known(name)?;
                cluster::restart(&self.ctx, name, service).await
            }
        }
    }

    /// What it takes to have so many replicas of a service; nothing is changed yet.
    pub(super) async fn to_scale(&self, name: &str, replicas: i64) -> Result<Scale> {
        let (_, service) = self.known(name)?;
        let count = u32::try_from(replicas).ok().filter(|count| (1..=MOST_REPLICAS).contains(count));
        let Some(count) = count else {
            let error = Error::new(Kind::Invalid, format!("found {replicas} replicas, expected 1 to {MOST_REPLICAS}"));
            return Err(error.target(name).hint("stop a service with `docker::stop`"));
        };
        let refused =
            |what: &str| Err(Error::new(Kind::Conflict, format!("`{name}` is {what}, of which there is one")).target(name).permanent());
        match self.ctx.system().services.manager {
            Manager::Compose => Docker::of(&self.ctx).to_scale(name, count).await.map(Scale::Containers),
            Manager::Kubernetes => cluster::to_scale(&self.ctx, name, service, replicas).await.map(Scale::Pods),
            Manager::Systemd => {
                // Only who may see it is told what it is.
                Systemd::of(&self.ctx).permit("status", &unit_name(name, service)?)?;
                refused("a unit of systemd")
            }
            Manager::Processes => {
                processes::permit(&self.ctx)?;
                refused("a plain process")
            }
            Manager::None => Err(self.unmanaged()),
        }
    }

    /// Scales it, and waits until all replicas are well.
    pub(super) async fn scale(&self, name: &str, scale: Scale, options: ScaleOptions) -> Result<Scaled> {
        let patience = options.timeout.unwrap_or(PATIENCE);
        match scale {
            Scale::Containers(scaling) => Docker::of(&self.ctx).scale(scaling, patience).await,
            Scale::Pods(scaling) => cluster::scale(&self.ctx, name, &scaling, patience).await,
        }
    }

    /// What a service wrote, whatever it wrote it to.
    pub(super) async fn logs(&self, name: &str, options: LineOptions) -> Result<Vec<Line>> {
        let (_, service) = self.known(name)?;
        match self.ctx.system().services.manager {
            Manager::Compose => {
                let docker = Docker::of(&self.ctx);
                let found = docker.resolve("logs", name).await?;
                let asked = LogOptions::newest(options.tail, options.since, options.until);
                let lines = docker.logs(&found, &asked).await?;
                let line = |line: docker::Line| Line { source: line.container, time: line.time, stream: line.stream, text: line.text };
                Ok(lines.into_iter().map(line).collect())
            }
            Manager::Systemd => {
                let unit = unit_name(name, service)?;
                let systemd = Systemd::of(&self.ctx);
                systemd.permit("logs", &unit)?;
                let asked = JournalOptions::newest(options.tail, options.since, options.until);
                let entries = systemd.journal(&unit, asked).await?;
                let line =
                    |entry: systemd::Entry| Line { source: unit.full().to_owned(), time: entry.time, stream: "journal", text: entry.text };
                Ok(entries.into_iter().map(line).collect())
            }
            Manager::Processes => Err(Error::new(Kind::Conflict, format!("`{name}` is a plain process, whose output nobody keeps"))
                .target(name)
                .permanent()
                .hint("read its log file: the system file names it under `[logs]`")),
            Manager::Kubernetes => cluster::logs(&self.ctx, name, service, &options).await,
            Manager::None => Err(self.unmanaged()),
        }
    }

    /// What a service uses, its processors over an interval.
    pub(super) async fn stats(&self, name: &str, options: UsageOptions) -> Result<ServiceUsage> {
        let (_, service) = self.known(name)?;
        let over = options.over.unwrap_or(INTERVAL).clamp(Span::millis(100), Span::secs(60));
        let each = match self.ctx.system().services.manager {
            Manager::Compose => self.container_usage(name, over).await?,
            Manager::Systemd => vec![self.unit_usage(&unit_name(name, service)?, over).await?],
            Manager::Processes => {
                processes::permit(&self.ctx)?;
                let before = processes::running(name, service)?;
                let seconds = pause(over).await.as_secs_f64();
                vec![processes::running(name, service)?.usage(&before, seconds)]
            }
            Manager::Kubernetes => cluster::usage(&self.ctx, name, service).await?,
            Manager::None => return Err(self.unmanaged()),
        };
        Ok(ServiceUsage::of(name, each))
    }

    async fn container_usage(&self, name: &str, over: Span) -> Result<Vec<Usage>> {
        let docker = Docker::of(&self.ctx);
        let found = docker.resolve("stats", name).await?;
        let options = StatsOptions { over: Some(over) };
        let stats = try_join_all(found.iter().map(|found| docker.stats(found, &options))).await?;
        let usage = |stats: docker::Stats| Usage {
            name: stats.name,
            cpu: stats.cpu,
            cpu_percent: None,
            memory: Some(stats.memory),
            memory_percent: (stats.memory_limit > 0).then_some(stats.memory_percent),
            processes: Some(stats.pids),
        };
        Ok(stats.into_iter().map(usage).collect())
    }

    async fn unit_usage(&self, name: &UnitName, over: Span) -> Result<Usage> {
        let systemd = Systemd::of(&self.ctx);
        systemd.permit("status", name)?;
        let before = systemd.unit(name).await?;
        let seconds = pause(over).await.as_secs_f64();
        let after = systemd.unit(name).await?;
        let nanos = after.cpu_nanos.zip(before.cpu_nanos).and_then(|(after, before)| after.checked_sub(before));
        Ok(Usage {
            name: after.name,
            cpu: nanos.map(|nanos| (nanos as f64 / 1e6 / seconds).round() / 10.0),
            cpu_percent: None,
            memory: after.memory,
            memory_percent: None,
            processes: after.tasks,
        })
    }
}

impl Turn {
    /// What it would change.
    pub(super) fn effect(&self, function: &'static str, name: &str) -> Effect {
        let effect = match &self.of {
            Target::Containers(found) => self.action.effect(function, name, found),
            Target::Unit(_, unit) => unit.effect(function, self.action.verb()),
            Target::Deployment(effect) => (**effect).clone(),
        };
        Effect { target: name.to_owned(), ..effect }
    }

    /// The names of what would be started or restarted.
    pub(super) fn names(&self) -> Vec<String> {
        match &self.of {
            Target::Containers(found) => docker::names(found),
            Target::Unit(name, _) => vec![name.full().to_owned()],
            Target::Deployment(effect) => vec![effect.target.rsplit('/').next().unwrap_or_default().to_owned()],
        }
    }
}

/// Waits, and says how long that was.
async fn pause(over: Span) -> Duration {
    let started = Instant::now();
    tokio::time::sleep(over.0).await;
    started.elapsed()
}

fn unit_name(name: &str, service: &Service) -> Result<UnitName> {
    Ok(UnitName::read(service.unit.as_deref().unwrap_or(name))?.known_as(name))
}

fn container(container: &Container) -> Part {
    let killed = if container.oom_killed { ", out of memory" } else { "" };
    Part {
        name: container.name.clone(),
        state: container.state.clone(),
        health: container.health.clone(),
        restarts: container.restarts,
        started: container.started.as_deref().and_then(|text| text.parse().ok()),
        detail: container.exit_code.map(|code| format!("exit code {code}{killed}")),
    }
}

fn unit_part(unit: &Unit) -> Part {
    Part {
        name: unit.name.clone(),
        // A unit that is `active (exited)` has done its work and counts as running, as systemd holds it.
        state: if unit.active == "active" { "running".to_owned() } else { unit.active.clone() },
        health: "none".to_owned(),
        restarts: unit.restarts.and_then(|restarts| i64::try_from(restarts).ok()).unwrap_or(0),
        started: unit.since.as_deref().and_then(|text| text.parse().ok()),
        detail: unit.detail(),
    }
}
