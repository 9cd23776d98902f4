//! Incidents: what broke, from the first alarm to what was learnt of it; and the registers beside them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Labels, Severity};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its number, from 1; 0 before it is kept.
    pub number: u64,
    /// What makes two reports one incident: system, source and labels.
    pub fingerprint: String,
    /// The system.
    pub system: String,
    /// What it is, in one line.
    pub title: String,
    /// How severe it is.
    pub severity: Severity,
    /// What reported it.
    pub source: Source,
    /// What tells it from others of the same source.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The service it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Where it stands.
    pub state: IncidentState,
    /// Whether it comes and goes.
    #[serde(default)]
    pub flapping: bool,
    /// The incident that is the reason for this one, which is not told while that one is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<u64>,
    /// Whether people were told.
    #[serde(default)]
    pub told: bool,
    /// What people do not hear yet, since a maintenance window is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// From when its clocks run, when not from the first report: nobody is late for what nobody heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Timestamp>,
    /// When it was first reported.
    pub opened: Timestamp,
    /// When it was last reported.
    pub seen: Timestamp,
    /// How often it was reported.
    pub count: u64,
    /// Since when all has been well again; it is resolved when that lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calm: Option<Timestamp>,
    /// When it broke and got well, as far as that tells whether it comes and goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Timestamp>,
    /// Who takes care of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Stamp>,
    /// Who or what ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Stamp>,
    /// The clocks that ran out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub overdue: BTreeSet<Deadline>,
    /// When people were last told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_told: Option<Timestamp>,
    /// How many messages it made; makes each of them one, also after a crash.
    #[serde(default)]
    pub messages: u64,
    /// The last measured value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What happened, the oldest first.
    pub timeline: Vec<Milestone>,
    /// What was learnt of it.
    #[serde(default)]
    pub findings: Findings,
}

/// Where an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncidentState {
    /// Nobody takes care of it yet.
    Open,
    /// Someone does.
    Acknowledged,
    /// It is over.
    Resolved,
}

impl IncidentState {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// What reports incidents.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A rule that fires.
    Rule(String),
    /// A rule that got no answer for too long.
    Silence(String),
    /// A run that failed, by its runbook.
    Run(String),
    /// Something that a runbook found, by its name.
    Runbook(String),
    /// An alarm of another program, by the name it has there.
    Webhook(String),
    /// A person.
    Person(String),
}

impl Source {
    /// The name of the rule, runbook, alarm or person.
    pub fn name(&self) -> &str {
        match self {
            Self::Rule(name) | Self::Silence(name) | Self::Run(name) | Self::Runbook(name) | Self::Webhook(name) | Self::Person(name) => {
                name
            }
        }
    }

    /// What sort of source it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Rule(_) => "rule",
            Self::Silence(_) => "silence",
            Self::Run(_) => "run",
            Self::Runbook(_) => "runbook",
            Self::Webhook(_) => "webhook",
            Self::Person(_) => "person",
        }
    }
}

/// What people hear when a maintenance window is over, if it is still so then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The end of the window.
    pub until: Timestamp,
    /// Why it goes to the next person, when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalated: Option<String>,
}

/// The clocks of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deadline {
    /// Nobody took care of it in time.
    Respond,
    /// It goes to the next person.
    Escalate,
    /// It was not resolved in time.
    Resolve,
}

/// Who, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// When.
    pub at: Timestamp,
    /// A person, or the rule.
    pub by: String,
}

/// A moment of a timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Milestone {
    /// When.
    pub at: Timestamp,
    /// What sort of moment it is: `opened`, `acknowledged`, `repair`, `note`.
    pub what: String,
    /// Who did it; nothing when it happened by itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// What is to be said of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The run it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
}

/// What was learnt of an incident, in the words of people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    /// Whom it hit, and how.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub impact: String,
    /// Why it happened.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// What ended it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub repair: String,
    /// What keeps it from coming back.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prevention: String,
}

/// A try to repair something without asking. Written before it is made, so that none is made twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// Its number, from 1; 0 before it is kept.
    pub number: u64,
    /// The system.
    pub system: String,
    /// The policy that allows it.
    pub policy: String,
    /// What it is made on: a service, or `machine`.
    pub target: String,
    /// The incident it is for.
    pub incident: u64,
    /// When it began.
    pub at: Timestamp,
    /// The run that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    /// When that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// What became of it.
    pub state: RepairState,
}

/// What became of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepairState {
    /// It is being made, or it is not known yet whether it helped.
    Trying,
    /// It helped.
    Helped,
    /// It did not.
    Failed,
    /// None was made: from here on it is a person's. Says so once.
    Escalated,
    /// None was made: the policy only watches.
    Observed,
}

/// A line of a register: what the monthly report counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its number, from 1; 0 before it is kept.
    pub number: u64,
    /// `change`, `problem` or `cost`; incidents are their own register.
    pub kind: String,
    /// The system.
    pub system: String,
    /// When.
    pub at: Timestamp,
    /// Who wrote it.
    pub by: String,
    /// What it is, in one line.
    pub title: String,
    /// Everything else, by name.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

impl Record {
    /// The registers there are.
    pub const KINDS: [&str; 3] = ["change", "problem", "cost"];
}

impl Incident {
    /// Whether it is not over.
    pub fn is_open(&self) -> bool {
        self.state != IncidentState::Resolved
    }

    /// From its first report to its end.
    pub fn duration(&self) -> Option<jiff::SignedDuration> {
        self.resolved.as_ref().map(|stamp| stamp.at.duration_since(self.opened))
    }

    /// Adds to the timeline, which keeps its beginning and its newest moments.
    pub fn note(&mut self, moment: Milestone) {
        const MOST: usize = 200;
        const FIRST: usize = 20;
        self.timeline.push(moment);
        if self.timeline.len() > MOST {
            self.timeline.remove(FIRST);
        }
    }
}
