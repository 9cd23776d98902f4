//! The services of a system, how many of each, and the machines they are on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Span;

/// The manager of the services, and each service by its name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Services {
    /// What runs them.
    pub manager: Manager,
    /// The compose project; what compose makes of `directory` when absent, see [`Services::compose_project`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// The compose files, relative to `directory`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// The directory of the compose project.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub directory: String,
    /// Where the Docker engine listens, when not at its usual socket: `unix:///run/user/1000/docker.sock`,
    /// `tcp://127.0.0.1:2375`. The environment is not asked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub docker_host: String,
    /// The Kubernetes namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Each service by its name.
    #[serde(flatten)]
    pub each: BTreeMap<String, Service>,
}

impl Services {
    /// The compose project: the one that is named, or the name of the directory without the letters
    /// compose does not allow in one, as compose itself has it. Empty without either.
    pub fn compose_project(&self) -> String {
        if !self.project.is_empty() || self.manager != Manager::Compose {
            return self.project.clone();
        }
        let directory = self.directory.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_lowercase();
        let allowed = |letter: &char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '_');
        directory.chars().filter(allowed).collect::<String>().trim_start_matches(['-', '_']).to_owned()
    }
}

/// What runs the services of a system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// Docker Compose.
    Compose,
    /// Units of systemd.
    Systemd,
    /// Deployments of Kubernetes.
    Kubernetes,
    /// Plain processes, found by their pid files.
    Processes,
    /// There are none to manage.
    #[default]
    None,
}

/// One service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// What it does, in a word or two.
    pub title: String,
    /// The unit, deployment or container, when it is not called like the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The pid file of a plain process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<String>,
    /// The image, for compose and Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How many are expected.
    pub replicas: Option<u32>,
    /// The services it needs; they start before it.
    pub needs: Vec<String>,
    /// Whether it may be restarted without a person.
    pub restartable: bool,
    /// Whether it may be absent.
    pub optional: bool,
}

/// How far a service may be scaled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scaling {
    /// The fewest replicas.
    pub min: u32,
    /// The most replicas.
    pub max: u32,
    /// How many at once; any number when 0.
    pub step: u32,
    /// The metric that decides; each of several must agree to scale down, one is enough to scale up.
    pub metrics: Vec<String>,
    /// Beyond it, more: as many as bring the mean back to it.
    pub up: f64,
    /// Below it, fewer.
    pub down: f64,
    /// How far beyond `up` it has to be before it counts, as a share of it; not at all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// How long fewer must be enough before one goes.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
    /// How long nothing changes after a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Span>,
    /// The object that scales it already, which is then respected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// `keep` (the default) leaves the bounds of an `owner` as they are and tells when they differ; `apply` makes
    /// them `min` and `max`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bounds: String,
}

/// The Kubernetes cluster of a system, and how it is reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// The kubeconfig with the server and what logs in; programs that log in (`exec`) are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
    /// The context in it; its current one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Whether this is a pod of the cluster itself, which logs in with its service account.
    pub in_cluster: bool,
    /// The token to log in with, as `${secret:NAME}`, instead of what the kubeconfig has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    /// Its name or address.
    pub address: String,
    /// The user to log in as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What it is for: `web`, `database`, `monitor`.
    pub role: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compose_project_is_named_or_comes_from_the_directory() {
        let services = |project: &str, directory: &str| Services {
            manager: Manager::Compose,
            project: project.to_owned(),
            directory: directory.to_owned(),
            ..Services::default()
        };
        for (project, directory, name) in
            [("shop", "/opt/other", "shop"), ("", "/opt/ai-hub", "ai-hub"), ("", "/srv/_My.Shop 2/", "myshop2"), ("", "", "")]
        {
            assert_eq!(services(project, directory).compose_project(), name);
        }
        assert_eq!(Services { manager: Manager::Systemd, ..services("", "/opt/ai-hub") }.compose_project(), "");
    }
}
