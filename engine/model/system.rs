//! A system: one TOML file that describes a deployment.
//!
//! Plain data. Reading files, overlays, `${env:…}` and places of errors are [`crate::config`]'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Limit, Span};

/// A deployment: its services, stores, endpoints, limits and people.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct System {
    /// The name of the file without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// The name of the system this one is an overlay of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extends: Option<String>,
    /// What people call it.
    pub title: String,
    /// Two letters, as in `AH`.
    pub code: String,
    /// The language of messages to people: `en` or `zh`.
    pub language: String,
    /// The IANA zone its people live in and its logs are written in.
    pub timezone: String,
    /// `production`, `staging`, `lab`.
    pub environment: String,
    /// How its services are managed, and the services.
    pub services: Services,
    /// PostgreSQL databases.
    pub databases: BTreeMap<String, Database>,
    /// Redis servers.
    pub caches: BTreeMap<String, Cache>,
    /// HTTP addresses that must answer.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// TLS certificates, in files or served.
    pub certificates: BTreeMap<String, Certificate>,
    /// Logs, in files or of containers.
    pub logs: BTreeMap<String, Log>,
    /// Directories and files by what they are for: `data`, `uploads`, `config`.
    pub paths: BTreeMap<String, String>,
    /// Where backups go and how long they stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// How it is released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// Limits by metric: `cpu`, `memory`, `disk`, `certificate_days`.
    pub thresholds: BTreeMap<String, Threshold>,
    /// Alert rules by name.
    pub rules: BTreeMap<String, Rule>,
    /// Its own severity names and time limits, by `sev1` to `sev5`.
    pub severity: BTreeMap<String, Severity>,
    /// Which contacts hear of what: level or severity → names of contacts.
    pub routes: BTreeMap<String, Vec<String>>,
    /// Channels that reach people.
    pub contacts: BTreeMap<String, Contact>,
    /// When runbooks run; called like the runbook unless it says which.
    pub schedules: BTreeMap<String, Schedule>,
    /// What may be repaired without asking, by cause: `memory`, `cpu`, `service_down`.
    pub remediation: BTreeMap<String, Remediation>,
    /// How far services may be scaled, by service.
    pub scaling: BTreeMap<String, Scaling>,
    /// Machines by name.
    pub hosts: BTreeMap<String, Host>,
    /// Wanted settings of `postgres`, `redis`, `nginx`, `ssh`, `app`: compared and applied, never assumed.
    pub baselines: BTreeMap<String, BTreeMap<String, Value>>,
    /// Upkeep of data: purging, indexes, cleaning.
    pub maintenance: Maintenance,
    /// The inputs of the capacity model, by name.
    pub capacity: BTreeMap<String, Value>,
    /// Items people tick off, by period: `daily`, `weekly`, `monthly`.
    pub checklists: BTreeMap<String, Vec<String>>,
}

impl System {
    /// The system as plain data for scripts and `--json`, with `***` for each reference to a secret.
    pub fn json(&self) -> Value {
        let mut value = serde_json::to_value(self).expect("a system has text keys and finite numbers");
        mask(&mut value);
        value["name"] = self.name.clone().into();
        value
    }
}

/// Hides each reference to a secret; the host functions open it in their own copy of the system.
fn mask(value: &mut Value) {
    match value {
        Value::String(text) => {
            while let Some(start) = text.find("${secret:") {
                let end = text[start..].find('}').map_or(text.len(), |end| start + end + 1);
                text.replace_range(start..end, "***");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Object(fields) => fields.values_mut().for_each(mask),
        _ => {}
    }
}

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

/// A PostgreSQL database.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The name of the database.
    pub name: String,
    /// The role.
    pub user: String,
    /// Its password, as `${secret:NAME}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// `disable`, `prefer`, `require` (verified), `require-noverify`.
    pub tls: String,
    /// A file with the authorities to trust, when not the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The service it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The most connections it accepts, as documented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Tables that are counted and compared.
    pub tables: Vec<String>,
}

/// A Redis server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The number of the database.
    pub database: u16,
    /// The user, when it has users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its password, as `${secret:NAME}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// The service it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The memory it may use, as documented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<String>,
}

/// An HTTP address that must answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoint {
    /// The address.
    pub url: String,
    /// The `Host` header, when it is not the address's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// More headers.
    pub headers: BTreeMap<String, String>,
    /// The statuses that are fine; 200 when empty.
    pub status: Vec<u16>,
    /// A text the body must contain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Values the JSON body must have, by dotted path.
    pub json: BTreeMap<String, Value>,
    /// How long it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// The networks its name may resolve to beyond public ones: `loopback`, `private`, or a CIDR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// A file with the authorities to trust, when not the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The address to connect to instead of resolving the name: `127.0.0.1:18443`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<String>,
    /// The service behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// A TLS certificate, in a file, served, or both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certificate {
    /// The PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// `host:port` where it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served: Option<String>,
    /// The name it must be valid for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A file with the authorities to trust, when not the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The networks it may be served in beyond public ones, as for endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

/// A log: a file with its rotated parts, or the output of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The current file, or a pattern of current files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The service whose output it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `app`, `nginx`, `nginx-error`, `syslog`, `postgres`, `security`, `json`.
    pub format: String,
    /// The zone of stamps without one; the system's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Whether it may be absent.
    pub optional: bool,
}

/// Where backups go and how long they stay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backup {
    /// The directory of this system's sets, shared with no other system.
    pub dir: String,
    /// The remote copy, as `s3://bucket/prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// Settings of the remote.
    pub remote_options: BTreeMap<String, String>,
    /// How long local sets stay.
    pub keep: Option<Span>,
    /// How long single parts stay when it is not as long as the set: `cache`.
    pub keep_parts: BTreeMap<String, Span>,
    /// How long remote sets stay.
    pub keep_remote: Option<Span>,
    /// How many verified sets stay whatever their age.
    pub keep_min: Option<u32>,
    /// What a set contains.
    pub scope: Vec<String>,
    /// Names of secrets that encrypt or upload it.
    pub secrets: Vec<String>,
    /// The newest good set may be this old (RPO).
    pub rpo: Option<Span>,
    /// A restore may take this long (RTO).
    pub rto: Option<Span>,
}

/// How it is released.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Release {
    /// The source directory.
    pub directory: String,
    /// Images by service.
    pub images: BTreeMap<String, String>,
    /// How many releases stay.
    pub keep: Option<u32>,
    /// The command that migrates the database.
    pub migrate: Vec<String>,
    /// Everything else, by name.
    pub options: BTreeMap<String, Value>,
}

/// The limits of one metric. What is wanted and what alarms are different things.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Threshold {
    /// What is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
    /// Beyond it is a warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn: Option<f64>,
    /// Beyond it is critical.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm: Option<f64>,
    /// How long it must hold before anyone is told.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
    /// `%`, `ms`, `d`, `/min`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether small values are the bad ones.
    pub below: bool,
}

impl Threshold {
    /// The limits a value is judged by.
    pub fn limit(&self) -> Limit {
        Limit { warn: self.warn, alarm: self.alarm, below: self.below }
    }
}

/// An alert rule: what is computed, what it must not reach, and for how long.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// What it tells people.
    pub summary: String,
    /// The rule of the manual it stands for: `AH-01.2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What is computed from the series.
    pub kind: RuleKind,
    /// The series, as a Prometheus selector: `up{job="shop"}`.
    pub series: String,
    /// What it is divided by, for `ratio`, `share` and `used`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
    /// Which quantile, for `quantile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
    /// Over which time rates are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// The labels that stay apart; all others are summed up.
    pub by: Vec<String>,
    /// What the result is multiplied with before it is compared: 100 for per cent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// It alarms above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// It alarms below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// The rate per second (observations for `quantile`, totals for `ratio`) under which nothing can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// How long it must hold.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
    /// How long the series may be absent before that is an alarm of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_data: Option<Span>,
    /// `warning` or `critical`.
    pub level: String,
    /// `sev1` to `sev5`.
    pub severity: String,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
}

/// What a rule computes from its series before it compares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    /// The newest value is 0.
    Down,
    /// The newest value, summed up by `by` when that is given.
    #[default]
    Value,
    /// The increase per second over the window, summed up.
    Rate,
    /// The summed rate of the series over the summed rate of `total`.
    Ratio,
    /// The newest value over that of `total` with the same labels; nothing where `total` is 0.
    Share,
    /// One minus the share: what is in use, from what is free.
    Used,
    /// One minus the mean rate: what is busy, from the seconds idle.
    Busy,
    /// The quantile of a histogram over the window, summed up by its bounds.
    Quantile,
}

/// When a runbook runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// The runbook, when the schedule is not called like it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// At these moments of the calendar: `0 9 * * *`, `@daily`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Again after this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// The zone of `cron`, when not the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// The parameters of the run.
    pub params: BTreeMap<String, Value>,
    /// Whether it is on.
    pub enabled: bool,
    /// The procedures of the manuals it serves.
    pub serves: Vec<String>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { runbook: None, cron: None, every: None, timezone: None, params: BTreeMap::new(), enabled: true, serves: Vec::new() }
    }
}

/// What may be repaired without asking, and how often.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Remediation {
    /// The runbook that repairs.
    pub runbook: String,
    /// The rules or metrics that call for it.
    pub when: Vec<String>,
    /// The services it may act on; no others.
    pub services: Vec<String>,
    /// `observe` records what it would do, `act` does it.
    pub mode: RemediationMode,
    /// How long the alarm must hold first.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
    /// How long it leaves a service alone after acting on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Span>,
    /// How often it acts within `per`; after that it is a person's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<u32>,
    /// The time the budget is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per: Option<Span>,
    /// The parameters of the run.
    pub params: BTreeMap<String, Value>,
}

/// Whether a remediation acts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RemediationMode {
    /// It records what it would do.
    #[default]
    Observe,
    /// It does it.
    Act,
}

/// How far a service may be scaled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scaling {
    /// The fewest replicas.
    pub min: u32,
    /// The most replicas.
    pub max: u32,
    /// How many at once.
    pub step: u32,
    /// The metric that decides; each of several must agree to scale down, one is enough to scale up.
    pub metrics: Vec<String>,
    /// Beyond it, more.
    pub up: f64,
    /// Below it, fewer.
    pub down: f64,
    /// How long it must hold.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
    /// How long nothing changes after a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Span>,
    /// The object that scales it already, which is then respected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
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

/// Upkeep of data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Maintenance {
    /// When it may disturb, as cron of its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// How long the window is open.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
    /// Old rows that go, by table.
    pub purge: BTreeMap<String, Purge>,
    /// Indexes that must exist, by name.
    pub indexes: BTreeMap<String, Index>,
    /// Files that go, by what they are.
    pub cleanup: BTreeMap<String, Cleanup>,
    /// How many releases' images stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_images: Option<u32>,
}

/// Old rows of a table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Purge {
    /// The column with the time of a row.
    pub column: String,
    /// How long rows stay after it.
    pub keep: Span,
    /// How many rows go in one transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// Whether they are written to the backup first.
    pub archive: bool,
}

/// An index that must exist.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Index {
    /// Its table.
    pub table: String,
    /// Its columns or expressions, in order.
    pub columns: Vec<String>,
    /// `btree`, `gin`, `brin`; the server's usual one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Which rows, as SQL.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// Files that go after a while.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cleanup {
    /// Which, as a pattern with an absolute directory.
    pub path: String,
    /// How long they stay after they were last written.
    pub keep: Span,
}

/// A severity of the system's own scale.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Severity {
    /// The system's own name for it, as in `P0`.
    pub label: String,
    /// What it means.
    pub meaning: String,
    /// How soon someone must respond.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respond: Option<Span>,
    /// How soon it must be resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolve: Option<Span>,
    /// When it goes to the next person, unresolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalate: Option<Span>,
}

/// A channel that reaches people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Contact {
    /// Mail by SMTP.
    Email {
        /// The addresses it goes to.
        to: Vec<String>,
        /// The address it comes from.
        from: String,
        /// `smtps://user@host:465`, `smtp://host:587` (STARTTLS required), `smtp+plain://host:25` (no TLS, said openly).
        server: String,
        /// The password of the server, as `${secret:NAME}`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<String>,
        /// A file with the authorities to trust, when not the machine's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca: Option<String>,
        /// The most messages per minute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_minute: Option<u32>,
        /// The contact that gets what this one can not deliver.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallback: Option<String>,
    },
    /// A Slack-compatible webhook.
    Slack {
        /// The address, usually `${secret:NAME}`.
        url: String,
        /// The most messages per minute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_minute: Option<u32>,
        /// The contact that gets what this one can not deliver.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallback: Option<String>,
    },
    /// A DingTalk robot.
    Dingtalk {
        /// The address with its access token, usually `${secret:NAME}`.
        url: String,
        /// The signing secret, as `${secret:NAME}`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
        /// The mobile numbers to call out when it is critical.
        #[serde(default)]
        mobiles: Vec<String>,
        /// The most messages per minute; the robot blocks for ten minutes after 20.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_minute: Option<u32>,
        /// The contact that gets what this one can not deliver.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallback: Option<String>,
    },
    /// A webhook of one's own: a JSON object with `text` and the message.
    Webhook {
        /// The address.
        url: String,
        /// More headers; values may be secrets.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The most messages per minute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_minute: Option<u32>,
        /// The contact that gets what this one can not deliver.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallback: Option<String>,
    },
    /// Text messages by an HTTP gateway.
    Sms {
        /// The address of the gateway.
        url: String,
        /// The numbers.
        to: Vec<String>,
        /// More headers; values may be secrets.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The JSON body, with `{to}` and `{text}`; `{"to": "{to}", "text": "{text}"}` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<Value>,
        /// The most messages per minute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_minute: Option<u32>,
        /// The contact that gets what this one can not deliver.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallback: Option<String>,
    },
    /// Someone who is told by a person: listed, never sent to.
    Person {
        /// Who.
        who: String,
        /// How to reach them.
        #[serde(default)]
        reach: String,
    },
}

impl Contact {
    /// The contact that gets what this one can not deliver.
    pub fn fallback(&self) -> Option<&String> {
        match self {
            Self::Email { fallback, .. }
            | Self::Slack { fallback, .. }
            | Self::Dingtalk { fallback, .. }
            | Self::Webhook { fallback, .. }
            | Self::Sms { fallback, .. } => fallback.as_ref(),
            Self::Person { .. } => None,
        }
    }
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
