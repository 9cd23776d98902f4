//! The seam to the journal: host functions must be recorded, but may not know the store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::host::watched::WatchQuestion;
use crate::model::{Effect, EventKind, Intent, Outcome, Span};

/// Where a run is written down. Implemented by [`crate::run`]; the strict fake is for tests.
pub trait Recorder: Send + Sync {
    /// Records that a step is about to start. When it returns, the intent survives a crash.
    ///
    /// # Errors
    ///
    /// When the record could not be made; the step must not start then.
    fn begin(&self, intent: Intent) -> Result<Gate>;

    /// Records how a step ended. When it returns, the result survives a crash.
    ///
    /// # Errors
    ///
    /// When the record could not be made; the run must stop then.
    fn end(&self, key: &str, outcome: Outcome, duration_ms: u64) -> Result<()>;

    /// Records that the open step is about to change the world. When it returns, that survives a crash.
    ///
    /// # Errors
    ///
    /// When the record could not be made; the effect must not happen then.
    fn effect(&self, key: &str, effect: Effect) -> Result<()>;

    /// What an interrupted worker of this run read here; given once. Nothing in a run that was not resumed.
    fn recall(&self, _key: &str) -> Option<Value> {
        None
    }

    /// Records an event that needs no answer. It is kept in order, and durable with the next answer.
    ///
    /// # Errors
    ///
    /// When the supervisor is gone.
    fn tell(&self, event: EventKind) -> Result<()>;

    /// Asks what only the supervisor knows or may do.
    ///
    /// # Errors
    ///
    /// As the supervisor answers.
    fn ask(&self, question: Question) -> Result<Answer>;
}

/// Whether a step has to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// It has to.
    Go,
    /// It has to run twice and give the same, to show that it may.
    Twice,
    /// It was started before: it says itself whether it was done, and runs when it was not.
    Verify,
    /// It ran before; this is its recorded value.
    Done(Value),
    /// It ran before; this is its recorded error, which the script went on after.
    Failed(Error),
    /// It must not: the run takes back what it did.
    TakeBack,
}

/// What a worker can ask of its supervisor, which alone may write the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Question {
    /// The value kept under this key by this runbook for this system.
    Get {
        /// The key.
        key: String,
    },
    /// Keep a value, or forget it when it is null. Durable when answered.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Value,
    },
    /// The keys that begin like this.
    Keys {
        /// The beginning.
        prefix: String,
    },
    /// Put a message into the outbox. Durable when answered, with the identity of its parcel, or with
    /// nothing when the same was said already; delivery comes after.
    Send {
        /// The name of the contact.
        contact: String,
        /// The message.
        message: Value,
    },
    /// Try to deliver what is due in the outbox now.
    Flush,
    /// What became of messages: counts by state, and the dead ones.
    Outbox,
    /// The process that holds each socket of this machine. A worker behind its wall can not see it.
    SocketOwners,
    /// The removed files that processes of this machine hold open, which a worker can not see either.
    DeletedFiles {
        /// Only those on this device.
        device: Option<u64>,
        /// How many at most.
        limit: usize,
    },
    /// The newest runs of a runbook for this run's system.
    History {
        /// The name of the runbook.
        runbook: String,
        /// How many at most.
        limit: u32,
    },
    /// A step was interrupted, and its `verify` could not say whether it was done. Answered with an error:
    /// a person has to.
    Doubt {
        /// The key of the step.
        key: String,
        /// Why there is no answer.
        error: Error,
    },
    /// Ask people. Answered when enough of them said yes; an error when one said no, or none in time.
    Person(PersonQuestion),
    /// Run another runbook. Answered when that run is over, with what became of it, whatever that is; while
    /// planning with its plan.
    Run(RunOrder),
    /// About what is watched: samples, rules, incidents.
    Watch(WatchQuestion),
    /// In a test: what a host function answers, which is not called. Answered with a [`Reply`](crate::model::case::Reply), or with nothing
    /// for a change of which the test does not say what it answers; an error when a read has no answer.
    Call {
        /// The function, as in `docker::restart`.
        function: String,
        /// Its arguments, secrets masked.
        arguments: Vec<Value>,
        /// Whether it changes the world.
        changes: bool,
    },
    /// Keep a file with the run: the worker wrote it at this path in the run's directory.
    Keep {
        /// The name of the artefact.
        name: String,
        /// Its content.
        content: String,
    },
}

/// What people are asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PersonQuestion {
    /// The key of the step.
    pub key: String,
    /// The question.
    pub question: String,
    /// Who may answer; everyone when empty.
    pub approvers: Vec<String>,
    /// How many have to say yes.
    pub quorum: u32,
    /// After this it is a no.
    pub expires: Span,
    /// Why it is asked.
    pub reason: String,
}

/// The run of another runbook, as a script asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunOrder {
    /// The key of the step that it is.
    pub key: String,
    /// The runbook.
    pub runbook: String,
    /// The system it runs for; that of the run which asks when absent.
    pub system: Option<String>,
    /// Its parameters; secrets by their names.
    pub params: BTreeMap<String, Value>,
    /// How long it may take; as its header says when absent.
    pub timeout: Option<Span>,
    /// While planning: what will have changed by then.
    pub before: Vec<Effect>,
}

impl RunOrder {
    /// What has to be granted: to run it, for this system or for another one than `of`, the system of the
    /// run that asks. The name is that of the grant.
    pub fn access(&self, of: &str) -> (&'static str, String) {
        match self.system.as_deref().filter(|system| *system != of) {
            Some(other) => ("elsewhere", format!("{}@{other}", self.runbook)),
            None => ("start", self.runbook.clone()),
        }
    }
}

/// What the supervisor answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done, or nothing there.
    Nothing,
    /// A value.
    Value(Value),
}

impl Answer {
    /// The value; null for nothing.
    pub fn into_value(self) -> Value {
        match self {
            Self::Nothing => Value::Null,
            Self::Value(value) => value,
        }
    }
}

/// A recorder that takes no step and answers nothing: for engines that only check or document.
#[derive(Debug, Default)]
pub struct Refusing;

impl Recorder for Refusing {
    fn begin(&self, intent: Intent) -> Result<Gate> {
        Err(crate::error!(crate::error::Kind::Bug, "step `{}` started where nothing may run", intent.name))
    }

    fn end(&self, key: &str, _: Outcome, _: u64) -> Result<()> {
        Err(crate::error!(crate::error::Kind::Bug, "step `{key}` ended where nothing may run"))
    }

    fn effect(&self, key: &str, _: Effect) -> Result<()> {
        Err(crate::error!(crate::error::Kind::Bug, "step `{key}` has an effect where nothing may run"))
    }

    fn tell(&self, _: EventKind) -> Result<()> {
        Ok(())
    }

    fn ask(&self, _: Question) -> Result<Answer> {
        Err(crate::error!(crate::error::Kind::Bug, "a question was asked where nothing may run"))
    }
}
