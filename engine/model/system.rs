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
    #[serde(skip_deserializing)]
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
    pub rules: BTreeMap<String, Value>,
    /// Its own severity names and time limits, by `sev1` to `sev5`.
    pub severity: BTreeMap<String, Severity>,
    /// Which contacts hear of what: level or severity → names of contacts.
    pub routes: BTreeMap<String, Vec<String>>,
    /// Channels that reach people.
    pub contacts: BTreeMap<String, Contact>,
    /// When runbooks run, by runbook.
    pub schedules: BTreeMap<String, Value>,
    /// What may be repaired without asking.
    pub remediation: BTreeMap<String, Value>,
}

/// The manager of the services, and each service by its name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Services {
    /// What runs them.
    pub manager: Manager,
    /// The compose project.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// The compose files, relative to `directory`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// The directory of the compose project.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub directory: String,
    /// The Kubernetes namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Each service by its name.
    #[serde(flatten)]
    pub each: BTreeMap<String, Service>,
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
