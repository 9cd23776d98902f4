//! Containers: which there are, which one a name means, and what state they are in.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{ContainerInspectResponse, ContainerSummary, PortSummary};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::engine::{Docker, QUICK, failed, within};
use crate::error::{Error, Kind, Result};
use crate::host::{Access, Permissions};
use crate::model::System;
use crate::words;

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
pub(super) const NUMBER: &str = "com.docker.compose.container-number";
const ONE_OFF: &str = "com.docker.compose.oneoff";

/// How many containers are looked at at a time.
const AT_ONCE: usize = 8;

/// Which containers to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ListOptions {
    all: bool,
    project: Option<String>,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self { all: true, project: None }
    }
}

/// A container as the list of the engine has it: enough to know which one it is.
#[derive(Debug, Clone, Default)]
pub(in crate::host) struct Found {
    /// The full identity.
    pub(in crate::host) id: String,
    /// The full name, without the slash the engine puts before it.
    pub(in crate::host) name: String,
    /// The compose project it belongs to; empty without one.
    pub(in crate::host) project: String,
    /// The service it is of in its project; empty without one.
    pub(in crate::host) service: String,
    /// Which replica of the service it is.
    pub(in crate::host) number: u32,
    /// Whether `compose run` made it: it is no replica of the service then.
    pub(in crate::host) one_off: bool,
    /// `running`, `exited`, `paused`, `restarting`, `created`, `dead`, `removing`.
    pub(in crate::host) state: String,
    /// The state in words, as in `Up 3 minutes (healthy)`.
    pub(in crate::host) status: String,
    image: String,
    pub(super) image_id: String,
    labels: BTreeMap<String, String>,
    ports: Vec<Port>,
}

/// A port of a container and where it is reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Port {
    port: u16,
    protocol: String,
    host_ip: Option<String>,
    host_port: Option<u16>,
}

/// A container and the state it is in.
#[derive(Debug, Clone, Serialize)]
pub(in crate::host) struct Container {
    pub(in crate::host) name: String,
    pub(in crate::host) service: String,
    pub(in crate::host) project: String,
    pub(in crate::host) number: u32,
    pub(in crate::host) one_off: bool,
    image: String,
    image_id: String,
    pub(in crate::host) state: String,
    pub(in crate::host) health: String,
    pub(in crate::host) exit_code: Option<i64>,
    pub(in crate::host) restarts: i64,
    pub(in crate::host) started: Option<String>,
    finished: Option<String>,
    pub(in crate::host) oom_killed: bool,
    ports: Vec<Port>,
}

/// Everything about one container that is no secret.
#[derive(Debug, Serialize)]
pub(super) struct Details {
    #[serde(flatten)]
    container: Container,
    id: String,
    created: Option<String>,
    pid: Option<i64>,
    error: String,
    labels: BTreeMap<String, String>,
    env_names: Vec<String>,
    user: String,
    restart_policy: String,
    memory_limit: i64,
    privileged: bool,
    read_only: bool,
    log_driver: String,
    mounts: Vec<Mount>,
    networks: BTreeMap<String, String>,
    health_failures: i64,
    health_output: String,
}

#[derive(Debug, Serialize)]
struct Mount {
    kind: String,
    source: String,
    target: String,
    writable: bool,
}

impl Found {
    fn read(summary: ContainerSummary) -> Self {
        let labels: BTreeMap<String, String> = summary.labels.unwrap_or_default().into_iter().collect();
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        // Links give a container more names, as in `/web/db`; its own has one slash.
        let own = |name: &&String| name.trim_start_matches('/').split('/').count() == 1;
        let name = summary.names.iter().flatten().find(own).map(|name| name.trim_start_matches('/').to_owned());
        Self {
            id: summary.id.unwrap_or_default(),
            name: name.unwrap_or_default(),
            project: label(PROJECT),
            service: label(SERVICE),
            number: label(NUMBER).parse().unwrap_or(0),
            one_off: label(ONE_OFF).eq_ignore_ascii_case("true"),
            state: summary.state.map(|state| state.to_string()).unwrap_or_default(),
            status: summary.status.unwrap_or_default(),
            image: summary.image.unwrap_or_default(),
            image_id: summary.image_id.unwrap_or_default(),
            ports: summary.ports.unwrap_or_default().into_iter().map(port).collect(),
            labels,
        }
    }

    /// Whether it is a replica of a service of this system.
    pub(in crate::host) fn is_of(&self, system: &System) -> bool {
        !self.project.is_empty() && self.project == system.services.compose_project() && !self.one_off
    }

    /// What the system file calls it, if it does: a service may go by another name in compose.
    pub(in crate::host) fn service_in<'s>(&self, system: &'s System) -> Option<&'s str> {
        let called = |(name, service): (&'s String, &crate::model::system::Service)| {
            let known_as = service.unit.as_ref().unwrap_or(name);
            let is = self.name == *known_as && service.unit.is_some() || self.is_of(system) && self.service == *known_as;
            is.then_some(name.as_str())
        };
        system.services.each.iter().find_map(called)
    }

    /// Everything a grant may name it by beside its full name.
    pub(super) fn aliases(&self, system: &System) -> Vec<String> {
        let mut aliases: Vec<String> = self.labels.iter().map(|(key, value)| format!("label:{key}={value}")).collect();
        if self.is_of(system) && !self.service.is_empty() {
            aliases.push(self.service.clone());
        }
        aliases.extend(self.service_in(system).map(str::to_owned));
        aliases
    }

    /// Whether the run may do this with it.
    pub(in crate::host) fn permit(&self, permissions: &Permissions, system: &System, verb: &str) -> Result<()> {
        permissions.check(&Access::named("docker", verb, &self.name, &self.aliases(system))).map(drop)
    }

    /// Its name with its state, for people: `` `aihub_backend_1` (Up 3 minutes (healthy)) ``.
    pub(super) fn in_words(&self) -> String {
        let status = if self.status.is_empty() { &self.state } else { &self.status };
        format!("`{}` ({status})", self.name)
    }
}

fn port(port: PortSummary) -> Port {
    Port {
        port: port.private_port,
        protocol: port.typ.map(|typ| typ.to_string()).unwrap_or_default(),
        host_ip: port.ip,
        host_port: port.public_port,
    }
}

impl Docker {
    /// The containers a name means, all of which the run may do this with. The only place where a
    /// name becomes a container.
    ///
    /// A name is a service of the system's compose project, or else the full name of a container:
    /// never the beginning of one, nor of an id.
    ///
    /// # Errors
    ///
    /// `denied` before anything is connected when no grant could cover the verb, and when the grants
    /// do not cover each container; `not_found` with the name that was probably meant.
    pub(in crate::host) async fn resolve(&self, verb: &str, name: &str) -> Result<Vec<Found>> {
        self.permit_any(verb, name)?;
        let all = self.list().await?;
        let found = select(&all, self.ctx.system(), name);
        if found.is_empty() {
            return Err(self.missing(verb, name, &all));
        }
        for container in &found {
            container.permit(self.ctx.permissions(), self.ctx.system(), verb)?;
        }
        Ok(found)
    }

    /// The one container a name means.
    ///
    /// # Errors
    ///
    /// As [`Docker::resolve`], and `conflict` when it means several.
    pub(super) async fn resolve_one(&self, verb: &str, name: &str) -> Result<Found> {
        let mut found = self.resolve(verb, name).await?;
        if found.len() > 1 {
            let names: Vec<String> = found.iter().map(|container| container.name.clone()).collect();
            return Err(Error::new(Kind::Conflict, format!("service `{name}` has {} containers, and this is about one", names.len()))
                .target(name)
                .permanent()
                .hint(format!("name one of {}", words::list(&names))));
        }
        Ok(found.remove(0))
    }

    fn missing(&self, verb: &str, name: &str, all: &[Found]) -> Error {
        let (permissions, system) = (self.ctx.permissions(), self.ctx.system());
        // Only names the run may use: a hint is no way to see what else runs here.
        let known: Vec<String> = all
            .iter()
            .filter(|container| container.permit(permissions, system, verb).is_ok())
            .flat_map(|container| {
                let service = if container.is_of(system) { container.service.clone() } else { String::new() };
                [container.name.clone(), service]
            })
            .chain(system.services.each.keys().cloned())
            .filter(|name| !name.is_empty())
            .collect();
        let error = Error::new(Kind::NotFound, format!("there is no service or container `{name}`")).target(name);
        if system.services.each.contains_key(name) {
            let project = system.services.compose_project();
            return error
                .hint(format!("service `{name}` has no container in project `{project}`: it was never started, or it was removed"));
        }
        match words::nearest(name, &known) {
            Some(near) if near != name => error.hint(format!("did you mean `{near}`?")),
            _ => error.hint("name a service of the system, or a container by its full name"),
        }
    }

    /// Every container there is, in any state.
    pub(in crate::host) async fn list(&self) -> Result<Vec<Found>> {
        let client = self.client().await?;
        let options = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        let listed = within(QUICK, "the docker engine", async {
            client.list_containers(Some(options)).await.map_err(|error| failed("listing containers", error))
        });
        let mut found: Vec<Found> = listed.await?.into_iter().map(Found::read).collect();
        found.sort_by(|a, b| (&a.project, &a.service, a.number, &a.name).cmp(&(&b.project, &b.service, b.number, &b.name)));
        Ok(found)
    }

    /// The containers the run may list, with their states.
    pub(super) async fn containers(&self, options: ListOptions) -> Result<Vec<Container>> {
        self.permit_any("list", "*")?;
        let system = self.ctx.system();
        let project = options.project.unwrap_or_else(|| system.services.compose_project());
        let all = project.is_empty() || project == "*";
        let wanted = |found: &Found| {
            (options.all || found.state == "running")
                && (all || found.project == project)
                && found.permit(self.ctx.permissions(), system, "list").is_ok()
        };
        let found: Vec<Found> = self.list().await?.into_iter().filter(wanted).collect();
        self.states(found).await
    }

    /// The states of these containers; one that went away meanwhile is left out.
    pub(in crate::host) async fn states(&self, found: Vec<Found>) -> Result<Vec<Container>> {
        let look = |found: Found| async move { Ok::<_, Error>(self.look(&found).await?.map(|inspected| container(&found, &inspected))) };
        let states: Vec<Option<Container>> = stream::iter(found).map(look).buffered(AT_ONCE).try_collect().await?;
        Ok(states.into_iter().flatten().collect())
    }

    /// Everything about one container that is no secret.
    pub(super) async fn inspect(&self, name: &str) -> Result<Details> {
        let found = self.resolve_one("inspect", name).await?;
        let gone = || Error::new(Kind::NotFound, format!("container `{}` went away meanwhile", found.name)).target(name);
        let inspected = self.look(&found).await?.ok_or_else(gone)?;
        Ok(details(&found, inspected))
    }

    async fn look(&self, found: &Found) -> Result<Option<ContainerInspectResponse>> {
        let client = self.client().await?;
        let what = format!("container `{}`", found.name);
        let answer = within(QUICK, &what, async { Ok(client.inspect_container(&found.id, None::<InspectContainerOptions>).await) });
        match answer.await?.map_err(|error| failed(&what, error)) {
            Ok(inspected) => Ok(Some(inspected)),
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            Err(error) => Err(error.target(&found.name)),
        }
    }
}

/// The containers that `name` means.
fn select(all: &[Found], system: &System, name: &str) -> Vec<Found> {
    let of_service = |found: &&Found| {
        found.service_in(system) == Some(name)
            || !system.services.each.contains_key(name) && found.is_of(system) && found.service == name && !name.is_empty()
    };
    let services: Vec<Found> = all.iter().filter(of_service).cloned().collect();
    if !services.is_empty() {
        return services;
    }
    all.iter().filter(|found| found.name == name && !name.is_empty()).cloned().collect()
}

fn container(found: &Found, inspected: &ContainerInspectResponse) -> Container {
    let state = inspected.state.clone().unwrap_or_default();
    let status = state.status.map(|status| status.to_string()).unwrap_or_else(|| found.state.clone());
    let health = state.health.and_then(|health| health.status).map(|status| status.to_string()).filter(|status| !status.is_empty());
    let is_over = matches!(status.as_str(), "exited" | "dead" | "restarting");
    Container {
        name: found.name.clone(),
        service: found.service.clone(),
        project: found.project.clone(),
        number: found.number,
        one_off: found.one_off,
        image: found.image.clone(),
        image_id: inspected.image.clone().unwrap_or_else(|| found.image_id.clone()),
        state: status,
        health: health.unwrap_or_else(|| "none".to_owned()),
        exit_code: state.exit_code.filter(|_| is_over),
        restarts: inspected.restart_count.unwrap_or(0),
        started: stamp(state.started_at),
        finished: stamp(state.finished_at),
        oom_killed: state.oom_killed.unwrap_or(false),
        ports: found.ports.clone(),
    }
}

/// The engine writes the year 1 for what did not happen yet.
fn stamp(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty() && !text.starts_with("0001-"))
}

fn details(found: &Found, inspected: ContainerInspectResponse) -> Details {
    let container = container(found, &inspected);
    let state = inspected.state.unwrap_or_default();
    let config = inspected.config.unwrap_or_default();
    let host = inspected.host_config.unwrap_or_default();
    let health = state.health.unwrap_or_default();
    let networks = inspected.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let policy = host.restart_policy.and_then(|policy| policy.name).map(|name| name.to_string());
    Details {
        container,
        id: found.id.clone(),
        created: inspected.created,
        pid: state.pid.filter(|&pid| pid > 0),
        error: state.error.unwrap_or_default(),
        labels: found.labels.clone(),
        env_names: env_names(&config.env.unwrap_or_default()),
        user: config.user.unwrap_or_default(),
        restart_policy: policy.filter(|name| !name.is_empty()).unwrap_or_else(|| "no".to_owned()),
        memory_limit: host.memory.unwrap_or(0),
        privileged: host.privileged.unwrap_or(false),
        read_only: host.readonly_rootfs.unwrap_or(false),
        log_driver: host.log_config.and_then(|config| config.typ).unwrap_or_default(),
        mounts: inspected.mounts.unwrap_or_default().into_iter().map(mount).collect(),
        networks: addresses(networks),
        health_failures: health.failing_streak.unwrap_or(0),
        health_output: health.log.and_then(|log| log.into_iter().next_back()).and_then(|last| last.output).unwrap_or_default(),
    }
}

/// Only the names: the values are where containers keep their passwords.
fn env_names(env: &[String]) -> Vec<String> {
    let mut names: Vec<String> = env.iter().filter_map(|entry| entry.split('=').next()).map(str::to_owned).collect();
    names.sort();
    names
}

fn mount(point: bollard::models::MountPoint) -> Mount {
    Mount {
        kind: point.typ.unwrap_or_default(),
        source: point.source.unwrap_or_default(),
        target: point.destination.unwrap_or_default(),
        writable: point.rw.unwrap_or(false),
    }
}

fn addresses(networks: HashMap<String, bollard::models::EndpointSettings>) -> BTreeMap<String, String> {
    networks.into_iter().map(|(name, settings)| (name, settings.ip_address.unwrap_or_default())).collect()
}
