//! The header of a runbook: what it is, what it takes, what it may touch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Schedule, Size, Span, WhenLocked, schedule};

/// The literal `runbook(#{…})` at the top of a script.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Header {
    /// One line that says what it does.
    pub title: String,
    /// What the caller may set.
    pub params: BTreeMap<String, Param>,
    /// What it may touch, as written: section → entries. See [`crate::host::permission`].
    pub allow: BTreeMap<String, Value>,
    /// How long a run may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How much memory its worker may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// The lock a run holds: `data:${system}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
    /// What a run does when another one holds the lock.
    #[serde(skip_serializing_if = "is_default")]
    pub when_locked: WhenLocked,
    /// When it runs by itself for the default system: a rule of cron, or a map as in a system file.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "schedule::in_header")]
    pub schedule: Option<Schedule>,
    /// How much harm it can do.
    pub danger: Danger,
    /// How many people must approve its plan before it runs.
    #[serde(skip_serializing_if = "is_zero")]
    pub approvals: u32,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// The procedures of the manuals it serves.
    pub serves: Vec<String>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_default(when: &WhenLocked) -> bool {
    *when == WhenLocked::default()
}

/// How much harm a runbook can do when it is run for the wrong target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Danger {
    /// None that matters.
    #[default]
    None,
    /// It interrupts a service.
    Disruptive,
    /// It destroys or replaces data.
    Destructive,
}

/// One parameter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Param {
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: ParamType,
    /// Whether the caller must give it.
    pub required: bool,
    /// What holds when the caller does not; `default` is a reserved word of the language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub def: Option<Value>,
    /// The smallest value: a number, a duration or a size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Value>,
    /// The largest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Value>,
    /// What the text has to match, whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What an enum, or the items of a list, may be.
    pub of: Vec<String>,
    /// One line for people.
    pub help: String,
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParamType {
    /// Text.
    #[default]
    String,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// `true` or `false`.
    Bool,
    /// `30s`, `5m`, `2h`.
    Duration,
    /// `512MiB`, `10GB`.
    Size,
    /// An absolute path.
    Path,
    /// An http or https address.
    Url,
    /// A host name or address.
    Host,
    /// `2026-11-21`.
    Date,
    /// One of `of`.
    Enum,
    /// Several texts, each one of `of` when that is given.
    List,
    /// The name of a secret, or a value that is masked everywhere.
    Secret,
}

impl ParamType {
    /// The word for it, as in the header.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Duration => "duration",
            Self::Size => "size",
            Self::Path => "path",
            Self::Url => "url",
            Self::Host => "host",
            Self::Date => "date",
            Self::Enum => "enum",
            Self::List => "list",
            Self::Secret => "secret",
        }
    }
}
