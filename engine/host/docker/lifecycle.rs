//! Restart, start and stop, and waiting until a container is well.

use std::time::Instant;

use bollard::query_parameters::{RestartContainerOptions, StartContainerOptions, StopContainerOptions};
use serde::{Deserialize, Serialize};

use super::containers::{Container, Found};
use super::engine::{Docker, QUICK, failed, within};
use crate::error::{Error, Kind, Result};
use crate::model::{Effect, Span};
use crate::words;

/// How long a container may take to stop before it is killed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::host) struct StopOptions {
    pub(in crate::host) timeout: Option<Span>,
}

/// How long to wait, and how often to look.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WaitOptions {
    timeout: Option<Span>,
    interval: Option<Span>,
}

const GRACE: Span = Span::secs(10);
const PATIENCE: Span = Span::secs(60);
const INTERVAL: Span = Span::secs(1);
const SHORTEST_INTERVAL: Span = Span::millis(100);

/// What to do to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::host) enum Action {
    Restart,
    Start,
    Stop,
}

impl Action {
    /// The verb of the permission, and its name.
    pub(in crate::host) fn verb(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Start => "start",
            Self::Stop => "stop",
        }
    }

    /// What it would change.
    pub(in crate::host) fn effect(self, function: &str, name: &str, found: &[Found]) -> Effect {
        let what = if found.len() == 1 { "container" } else { "containers" };
        let each: Vec<String> = found.iter().map(Found::in_words).collect();
        let target = if let [one] = found { one.name.as_str() } else { name };
        let effect = Effect::new(function, target, format!("{} {what} {}", self.verb(), each.join(", ")));
        // What was started can be stopped and the other way round; a restart is over.
        if self == Self::Restart { effect } else { effect.reversible() }
    }
}

/// That a container is well, and how long that took.
#[derive(Debug, Serialize)]
pub(super) struct Well {
    containers: Vec<String>,
    state: String,
    health: String,
    waited_ms: u64,
}

/// What waiting for containers came to.
pub(super) enum Waited {
    Well(Vec<Container>),
    /// They were not well in time.
    Late(Error),
}

impl Docker {
    /// Does it to each of these containers in turn, and gives their names.
    pub(in crate::host) async fn act(&self, action: Action, found: Vec<Found>, options: StopOptions) -> Result<Vec<String>> {
        let grace = options.timeout.unwrap_or(GRACE);
        for container in &found {
            self.act_on(action, &container.id, &container.name, grace).await?;
        }
        Ok(names(&found))
    }

    /// Does it to a container.
    pub(super) async fn act_on(&self, action: Action, id: &str, name: &str, grace: Span) -> Result<()> {
        let doing = format!("{} `{name}`", action.verb());
        let work = async {
            let client = self.client().await?;
            // The engine counts in whole seconds; rounded up, so that `500ms` does not mean at once.
            let t = i32::try_from(grace.0.as_millis().div_ceil(1000)).ok();
            let done = match action {
                Action::Restart => client.restart_container(id, Some(RestartContainerOptions { t, signal: None })).await,
                Action::Start => client.start_container(id, None::<StartContainerOptions>).await,
                Action::Stop => client.stop_container(id, Some(StopContainerOptions { t, signal: None })).await,
            };
            done.map_err(|error| failed(&doing, error).target(name))
        };
        within(grace.0 + QUICK, &doing, work).await
    }

    /// Waits until every container of a name runs, and is healthy where it has a health check.
    pub(super) async fn wait_healthy(&self, name: &str, options: WaitOptions) -> Result<Well> {
        let started = Instant::now();
        let patience = options.timeout.unwrap_or(PATIENCE);
        let interval = options.interval.unwrap_or(INTERVAL).max(SHORTEST_INTERVAL);
        // Resolved each time: a container that is recreated has another id.
        let look = || async {
            let found = self.resolve("inspect", name).await?;
            Ok((found.len(), self.states(found).await?))
        };
        match until_well(name, patience, interval, look).await? {
            Waited::Well(states) => Ok(well(&states, u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX))),
            Waited::Late(error) => Err(error.hint("its log says why: `docker::logs`")),
        }
    }
}

/// Looks until as many containers as are expected are there and all of them are well.
pub(super) async fn until_well<L>(name: &str, patience: Span, interval: Span, look: impl Fn() -> L) -> Result<Waited>
where
    L: Future<Output = Result<(usize, Vec<Container>)>>,
{
    let mut last = String::from("nothing was seen");
    let watch = async {
        loop {
            let (expected, states) = look().await?;
            if states.len() == expected && states.iter().all(is_well) {
                return Ok(Waited::Well(states));
            }
            last = states.iter().map(in_words).collect::<Vec<_>>().join(", ");
            tokio::time::sleep(interval.0).await;
        }
    };
    let Ok(seen) = tokio::time::timeout(patience.0, watch).await else {
        let late = Error::new(Kind::Timeout, format!("`{name}` was not well within {patience}: {last}"));
        return Ok(Waited::Late(late.target(name)));
    };
    seen
}

/// The full names of containers.
pub(in crate::host) fn names(found: &[Found]) -> Vec<String> {
    found.iter().map(|container| container.name.clone()).collect()
}

fn is_well(container: &Container) -> bool {
    container.state == "running" && matches!(container.health.as_str(), "healthy" | "none")
}

fn in_words(container: &Container) -> String {
    format!("{} is {}, health {}", words::list(std::slice::from_ref(&container.name)), container.state, container.health)
}

fn well(states: &[Container], waited_ms: u64) -> Well {
    let has_check = states.iter().any(|container| container.health == "healthy");
    Well {
        containers: states.iter().map(|container| container.name.clone()).collect(),
        state: "running".to_owned(),
        health: if has_check { "healthy" } else { "none" }.to_owned(),
        waited_ms,
    }
}
