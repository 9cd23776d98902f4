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

impl Docker {
    /// Does it to each of these containers in turn, and gives their names.
    pub(in crate::host) async fn act(&self, action: Action, found: Vec<Found>, options: StopOptions) -> Result<Vec<String>> {
        let grace = options.timeout.unwrap_or(GRACE);
        for container in &found {
            let doing = format!("{} `{}`", action.verb(), container.name);
            within(grace.0 + QUICK, &doing, self.act_on(action, container, grace, &doing)).await?;
        }
        Ok(names(&found))
    }

    async fn act_on(&self, action: Action, found: &Found, grace: Span, doing: &str) -> Result<()> {
        let client = self.client().await?;
        // The engine counts in whole seconds; rounded up, so that `500ms` does not mean at once.
        let t = i32::try_from(grace.0.as_millis().div_ceil(1000)).ok();
        let done = match action {
            Action::Restart => client.restart_container(&found.id, Some(RestartContainerOptions { t, signal: None })).await,
            Action::Start => client.start_container(&found.id, None::<StartContainerOptions>).await,
            Action::Stop => client.stop_container(&found.id, Some(StopContainerOptions { t, signal: None })).await,
        };
        done.map_err(|error| failed(doing, error).target(&found.name))
    }

    /// Waits until every container of a name runs, and is healthy where it has a health check.
    pub(super) async fn wait_healthy(&self, name: &str, options: WaitOptions) -> Result<Well> {
        let started = Instant::now();
        let patience = options.timeout.unwrap_or(PATIENCE);
        let interval = options.interval.unwrap_or(INTERVAL).max(SHORTEST_INTERVAL);
        let mut last = String::from("nothing was seen");
        let watch = async {
            loop {
                // Resolved each time: a container that is recreated has another id.
                let found = self.resolve("inspect", name).await?;
                let (expected, states) = (found.len(), self.states(found).await?);
                if states.len() == expected && states.iter().all(is_well) {
                    return Ok(states);
                }
                last = states.iter().map(in_words).collect::<Vec<_>>().join(", ");
                tokio::time::sleep(interval.0).await;
            }
        };
        let outcome = tokio::time::timeout(patience.0, watch).await;
        let waited_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match outcome {
            Ok(states) => states.map(|states| well(&states, waited_ms)),
            Err(_) => Err(Error::new(Kind::Timeout, format!("`{name}` was not well within {patience}: {last}"))
                .target(name)
                .hint("its log says why: `docker::logs`")),
        }
    }
}

/// The full names of containers.
pub(in crate::host) fn names(found: &[Found]) -> Vec<String> {
    found.iter().map(|container| container.name.clone()).collect()
}

pub(super) fn is_well(container: &Container) -> bool {
    container.state == "running" && matches!(container.health.as_str(), "healthy" | "none")
}

pub(super) fn in_words(container: &Container) -> String {
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
