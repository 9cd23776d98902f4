//! `runbook.toml`, read. The defaults stand in [`KEYS`](crate::config::KEYS), not here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Policy, SecretSource};
use crate::model::{Size, Span};

/// The settings of `runbook.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The system of a run that names none.
    pub default_system: String,
    /// The language of messages to people: `en` or `zh`.
    pub language: String,
    /// The directory of the runbooks and of `systems/`, relative to this file.
    pub runbooks: String,
    /// `auto` uses what the kernel offers, `strict` refuses to run when it offers too little, `off` uses nothing of it.
    pub sandbox: Sandbox,
    /// What runbooks may touch, and who may do what.
    pub policy: Policy,
    /// What a run may use.
    pub limits: Limits,
    /// How `runbook serve` works.
    pub daemon: Daemon,
    /// Runs that other systems start, by name.
    pub hooks: BTreeMap<String, Hook>,
    /// How long things stay.
    pub retention: Retention,
    /// Where secrets come from, by name.
    pub secrets: BTreeMap<String, SecretSource>,
}

/// What a run may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The memory of a worker, unless its header asks for another amount.
    pub memory: Size,
    /// How long a run may take, unless its header says otherwise.
    pub timeout: Span,
    /// The output that is kept of a run.
    pub output: Size,
    /// The processes of all programs a run started.
    pub processes: u32,
    /// The memory of all programs a run started, together.
    pub program_memory: Size,
    /// The open files of a worker.
    pub files: u32,
    /// The runs the daemon has at the same time; more wait.
    pub runs: u32,
}

/// How `runbook serve` works.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Daemon {
    /// How long steps under way may go on when the daemon is asked to stop.
    pub grace: Span,
    /// The systems it watches and whose schedules run; those that are files of the project when absent.
    pub systems: Option<Vec<String>>,
    /// How often rules are looked at; services are measured as often, endpoints and databases half as often.
    pub look: Span,
    /// Where its pages and hooks are, as in `127.0.0.1:9321`; nowhere when absent. Beyond this machine only with a token.
    pub listen: Option<String>,
    /// The secret that whoever looks at its pages has to show.
    pub token: Option<String>,
    /// The sign of life it gives.
    pub heartbeat: Heartbeat,
}

/// The sign of life a daemon gives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Heartbeat {
    /// What is asked for again and again as long as the daemon is well, for a monitor that misses it.
    pub url: Option<String>,
    /// How often.
    pub every: Span,
}

/// What another system may start, or tell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    #[serde(default)]
    /// The runbook that a request to `/hooks/NAME` starts.
    pub runbook: Option<String>,
    #[serde(default)]
    /// Whose alerts it makes incidents of, in place of a run: `alertmanager`.
    pub alerts: Option<AlertSource>,
    #[serde(default)]
    /// Its system; the default one when absent.
    pub system: Option<String>,
    /// The secret that the requests are signed with, or that Alertmanager shows; there is no hook without one.
    pub secret: String,
    #[serde(default)]
    /// The parameters of the run.
    pub params: BTreeMap<String, Value>,
}

/// Who posts alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertSource {
    /// The Alertmanager of Prometheus.
    Alertmanager,
}

/// How long things stay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// How long the record of a run stays.
    pub runs: Span,
    /// How long the logs and artefacts of a run stay.
    pub logs: Span,
    /// How long measured values stay, the older the coarser.
    pub samples: Span,
    /// How many runs of each runbook stay whatever their age.
    pub keep_min: u32,
    /// The most the state should take; `runbook doctor` says when it takes more.
    pub quota: Size,
}

/// How much the sandbox must be able to enforce.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sandbox {
    /// What the kernel offers.
    #[default]
    Auto,
    /// Everything, or nothing runs.
    Strict,
    /// Nothing.
    Off,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{Environment, Flags, KEYS, Project, Role};

    fn fields(value: &Value, before: &str, all: &mut BTreeSet<String>) {
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    fields(value, &format!("{before}{}{key}", if before.is_empty() { "" } else { "." }), all);
                }
            }
            _ => drop(all.insert(before.to_owned())),
        }
    }

    #[test]
    fn the_table_of_keys_is_the_fields_of_the_settings() {
        let mut settings = Settings { secrets: [("NAME".to_owned(), SecretSource::default())].into(), ..Settings::default() };
        settings.hooks = [("NAME".to_owned(), Hook::default())].into();
        settings.policy.roles = [("NAME".to_owned(), Role::default())].into();
        let mut all = BTreeSet::new();
        fields(&serde_json::to_value(settings).unwrap(), "", &mut all);
        assert_eq!(all, KEYS.iter().map(|key| key.name.to_owned()).collect());
    }

    #[test]
    fn the_help_of_each_key_is_the_comment_of_its_field() {
        let source = concat!(include_str!("settings.rs"), include_str!("policy.rs"), include_str!("secret.rs"));
        for key in KEYS {
            let field = key.name.rsplit('.').next().unwrap();
            let comment = format!("/// {}\n    pub {field}: ", key.help);
            assert!(source.contains(&comment), "{}", key.name);
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let settings = Project::builtin(&Environment::default(), &Flags::default()).unwrap().settings;
        assert_eq!((settings.limits.memory, settings.limits.timeout), (Size(256 << 20), Span::secs(3600)));
        assert_eq!((settings.default_system.as_str(), settings.policy.allow), ("host", None));
    }
}
