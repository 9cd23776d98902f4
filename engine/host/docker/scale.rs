//! More and fewer containers of a service: one more is made like those there are, and the last ones go.
//!
//! Compose is not asked: its file may have changed since the containers were made, and then it would
//! replace them too. What is made bears the labels compose finds its containers by.

use std::collections::HashMap;

use bollard::models::{
    ContainerConfig, ContainerCreateBody, ContainerInspectResponse, EndpointSettings, HostConfig, NetworkConnectRequest, NetworkingConfig,
};
use bollard::query_parameters::{CreateContainerOptionsBuilder, InspectContainerOptions, RemoveContainerOptionsBuilder};
use serde::{Deserialize, Serialize};

use super::containers::{Found, NUMBER};
use super::engine::{Docker, QUICK, failed, within};
use super::lifecycle::{Action, Waited, until_well};
use crate::error::{Error, Kind, Result};
use crate::model::{Effect, Span};
use crate::words;

/// More than this is a mistake.
pub(in crate::host) const MOST: u32 = 100;
const GRACE: Span = Span::secs(10);
/// What starts has nothing to finish first.
const AT_ONCE: Span = Span::secs(0);
const INTERVAL: Span = Span::millis(500);

/// What a change of the number of replicas is about, found out before it is told and done.
pub(in crate::host) struct Scaling {
    service: String,
    /// How many run.
    before: u32,
    /// How many shall run.
    after: u32,
    /// Replicas that are there and do not run: they come first.
    start: Vec<Found>,
    /// Names and numbers of those that are made.
    create: Vec<(String, u32)>,
    /// Those that go, the last ones first.
    remove: Vec<Found>,
    /// The replica the new ones are made like.
    model: Option<Box<ContainerInspectResponse>>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::host) struct Scaled {
    pub(in crate::host) service: String,
    pub(in crate::host) before: u32,
    pub(in crate::host) after: u32,
    pub(in crate::host) started: Vec<String>,
    pub(in crate::host) created: Vec<String>,
    pub(in crate::host) removed: Vec<String>,
}

impl Scaling {
    /// What it would change.
    pub(in crate::host) fn effect(&self, function: &str) -> Effect {
        let named = |verb: &str, names: &[String]| (!names.is_empty()).then(|| format!("{verb} {}", words::list(names)));
        let planned = self.planned();
        let parts = [named("start", &planned.started), named("create", &planned.created), named("remove", &planned.removed)];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let Self { service, before, after, .. } = self;
        let mut effect = match parts[..] {
            [] => Effect::new(function, service, format!("leave `{service}` at {}", words::count(i64::from(*after), "replica"))),
            _ => Effect::new(function, service, format!("scale `{service}` from {before} to {after}: {}", parts.join(", ")))
                .diff(format!("-replicas: {before}\n+replicas: {after}\n")),
        };
        effect.idle = parts.is_empty();
        effect.reversible()
    }

    /// What it is expected to come to.
    pub(in crate::host) fn planned(&self) -> Scaled {
        let names = |found: &[Found]| found.iter().map(|container| container.name.clone()).collect();
        Scaled {
            service: self.service.clone(),
            before: self.before,
            after: self.after,
            started: names(&self.start),
            created: self.create.iter().map(|(name, _)| name.clone()).collect(),
            removed: names(&self.remove),
        }
    }
}

impl Docker {
    /// What it takes to have so many replicas of a service; nothing is changed yet.
    ///
    /// # Errors
    ///
    /// As [`Docker::resolve`]; `conflict` when the service can not be scaled: it has a fixed name, address or port.
    pub(in crate::host) async fn to_scale(&self, service: &str, after: u32) -> Result<Scaling> {
        let mut all = self.resolve("scale", service).await?;
        all.sort_by_key(|found| (found.state != "running", found.number));
        let before = u32::try_from(all.iter().filter(|found| found.state == "running").count()).unwrap_or(u32::MAX);
        let wanted = usize::try_from(after).unwrap_or(usize::MAX);
        let mut remove = all.split_off(wanted.min(all.len()));
        remove.reverse();
        let start: Vec<Found> = all.iter().filter(|found| found.state != "running").cloned().collect();
        let missing = wanted - all.len();
        let mut scaling = Scaling { service: service.to_owned(), before, after, start, create: Vec::new(), remove, model: None };
        if missing > 0
            && let Some(first) = all.first()
        {
            let model = self.inspected(first).await?;
            may_be_copied(service, &model)?;
            let taken: Vec<u32> = all.iter().map(|found| found.number).collect();
            let numbers = (1..).filter(|number| !taken.contains(number)).take(missing);
            scaling.create = numbers.map(|number| Ok((name_of(service, first, number)?, number))).collect::<Result<_>>()?;
            scaling.model = Some(Box::new(model));
        }
        Ok(scaling)
    }

    /// Does it, and waits until all replicas are well. Those it made are taken away again when they do not become so.
    pub(in crate::host) async fn scale(&self, scaling: Scaling, patience: Span) -> Result<Scaled> {
        let done = scaling.planned();
        for found in &scaling.start {
            self.act_on(Action::Start, &found.id, &found.name, AT_ONCE).await?;
        }
        if let Some(model) = &scaling.model {
            let made = self.add(model, &scaling.create).await;
            let well = match made {
                Ok(()) => self.settled(&scaling, patience).await,
                Err(error) => Err(error),
            };
            if let Err(error) = well {
                for (name, _) in &scaling.create {
                    // What is not there any more need not go; the first error is the one to tell.
                    let _ = self.remove(name, name).await;
                }
                return Err(error.hint(format!("{} were taken away again", words::list(&done.created))));
            }
        } else if !scaling.start.is_empty() {
            self.settled(&scaling, patience).await?;
        }
        for found in &scaling.remove {
            self.remove(&found.id, &found.name).await?;
        }
        Ok(done)
    }

    async fn inspected(&self, found: &Found) -> Result<ContainerInspectResponse> {
        let doing = format!("inspect `{}`", found.name);
        let work = async {
            let answer = self.client().await?.inspect_container(&found.id, None::<InspectContainerOptions>).await;
            answer.map_err(|error| failed(&doing, error))
        };
        within(QUICK, &doing, work).await
    }

    /// Makes and starts the containers.
    async fn add(&self, model: &ContainerInspectResponse, names: &[(String, u32)]) -> Result<()> {
        for (name, number) in names {
            let doing = format!("create `{name}`");
            let (body, more) = body_like(model, *number);
            let work = async {
                let client = self.client().await?;
                let options = CreateContainerOptionsBuilder::default().name(name).build();
                client.create_container(Some(options), body).await.map_err(|error| failed(&doing, error))?;
                // Older engines take one network when a container is made.
                for (network, endpoint) in more {
                    let request = NetworkConnectRequest { container: name.clone(), endpoint_config: Some(endpoint) };
                    client.connect_network(&network, request).await.map_err(|error| failed(&doing, error))?;
                }
                Ok(())
            };
            within(QUICK, &doing, work).await.map_err(|error| error.target(name))?;
            self.act_on(Action::Start, name, name, AT_ONCE).await?;
        }
        Ok(())
    }

    /// Stops and removes a container.
    async fn remove(&self, id: &str, name: &str) -> Result<()> {
        // One that does not run can be removed all the same.
        let _ = self.act_on(Action::Stop, id, name, GRACE).await;
        let doing = format!("remove `{name}`");
        let work = async {
            let options = RemoveContainerOptionsBuilder::default().force(true).build();
            let done = self.client().await?.remove_container(id, Some(options)).await;
            done.map_err(|error| failed(&doing, error).target(name))
        };
        within(QUICK, &doing, work).await
    }

    /// Waits until what was started and made is well.
    async fn settled(&self, scaling: &Scaling, patience: Span) -> Result<()> {
        let names: Vec<String> = scaling.planned().started.into_iter().chain(scaling.planned().created).collect();
        let look = || async {
            let found = self.list().await?.into_iter().filter(|found| names.contains(&found.name)).collect();
            Ok((names.len(), self.states(found).await?))
        };
        match until_well(&scaling.service, patience, INTERVAL, look).await? {
            Waited::Well(_) => Ok(()),
            Waited::Late(error) => Err(error),
        }
    }
}

/// Whether there can be two of it on one machine.
fn may_be_copied(service: &str, model: &ContainerInspectResponse) -> Result<()> {
    let refused = |why: String, hint: &str| Err(Error::new(Kind::Conflict, why).target(service).permanent().hint(hint));
    let host = model.host_config.clone().unwrap_or_default();
    let bindings = host.port_bindings.into_iter().flatten().flat_map(|(_, bindings)| bindings.into_iter().flatten());
    let fixed = bindings.filter_map(|binding| binding.host_port).find(|port| !matches!(port.as_str(), "" | "0"));
    if let Some(port) = fixed {
        return refused(
            format!("service `{service}` is published on port {port} of this machine, which only one container can be"),
            "leave the port of the machine out in the compose file, and put a proxy in front",
        );
    }
    let networks = model.network_settings.clone().and_then(|settings| settings.networks).unwrap_or_default();
    let address = networks.into_values().filter_map(|network| network.ipam_config?.ipv4_address).find(|address| !address.is_empty());
    if let Some(address) = address {
        return refused(
            format!("service `{service}` has the fixed address {address}, which only one container can have"),
            "leave `ipv4_address` out in the compose file",
        );
    }
    Ok(())
}

/// What compose would call this replica: as the other one, with another number.
fn name_of(service: &str, model: &Found, number: u32) -> Result<String> {
    let stem = model.name.strip_suffix(&model.number.to_string()).filter(|stem| stem.ends_with(['-', '_']));
    match stem {
        Some(stem) => Ok(format!("{stem}{number}")),
        None => Err(Error::new(
            Kind::Conflict,
            format!("service `{service}` has the fixed name `{}`, which only one container can have", model.name),
        )
        .target(service)
        .permanent()
        .hint("leave `container_name` out in the compose file")),
    }
}

/// A container like this one, and the networks it is connected to after it was made.
fn body_like(model: &ContainerInspectResponse, number: u32) -> (ContainerCreateBody, Vec<(String, EndpointSettings)>) {
    let config = model.config.clone().unwrap_or_default();
    let id = model.id.clone().unwrap_or_default();
    let host = host_like(model.host_config.clone().unwrap_or_default());
    let name = model.name.clone().unwrap_or_default();
    let networks = model.network_settings.clone().and_then(|settings| settings.networks).unwrap_or_default();
    let mut endpoints: Vec<(String, EndpointSettings)> =
        networks.into_iter().map(|(network, settings)| (network, endpoint_like(settings, &id, name.trim_start_matches('/')))).collect();
    // The one its mode names comes first: the engine connects it when the container is made.
    let mode = host.network_mode.clone().unwrap_or_default();
    endpoints.sort_by_key(|(network, _)| (*network != mode, network.clone()));
    let more = endpoints.split_off(endpoints.len().min(1));
    let ContainerConfig { hostname, labels, .. } = config.clone();
    let mut labels = labels.unwrap_or_default();
    labels.insert(NUMBER.to_owned(), number.to_string());
    // What compose replaced is of the container that is copied.
    labels.remove("com.docker.compose.replace");
    let body = ContainerCreateBody {
        // The engine names a host after its container unless someone else did.
        hostname: hostname.filter(|hostname| !id.starts_with(hostname.as_str())),
        domainname: config.domainname,
        user: config.user,
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        exposed_ports: config.exposed_ports,
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: config.env,
        cmd: config.cmd,
        healthcheck: config.healthcheck,
        args_escaped: config.args_escaped,
        // Not the tag: it may be of another image by now.
        image: model.image.clone().or(config.image),
        volumes: config.volumes,
        working_dir: config.working_dir,
        entrypoint: config.entrypoint,
        network_disabled: config.network_disabled,
        on_build: None,
        labels: Some(labels),
        stop_signal: config.stop_signal,
        stop_timeout: config.stop_timeout,
        shell: config.shell,
        host_config: Some(host),
        networking_config: Some(NetworkingConfig { endpoints_config: Some(endpoints.into_iter().collect::<HashMap<_, _>>()) }),
    };
    (body, more)
}

/// The same settings of the machine, without the volumes that are of the other container alone.
fn host_like(host: HostConfig) -> HostConfig {
    let is_its_own = |bind: &String| {
        let source = bind.split(':').next().unwrap_or_default();
        source.len() == 64 && source.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let binds = host.binds.map(|binds| binds.into_iter().filter(|bind| !is_its_own(bind)).collect());
    HostConfig { binds, container_id_file: None, ..host }
}

/// The same network, known by the names of the service and not by those of the other container.
fn endpoint_like(settings: EndpointSettings, id: &str, name: &str) -> EndpointSettings {
    let own = |alias: &String| alias == name || alias.len() >= 12 && id.starts_with(alias.as_str());
    let aliases = settings.aliases.map(|aliases| aliases.into_iter().filter(|alias| !own(alias)).collect());
    EndpointSettings { aliases, links: settings.links, driver_opts: settings.driver_opts, ..EndpointSettings::default() }
}
