//! A step: a named, journaled part of a run.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::model::{Effect, Span};

/// Where a step stands. Intent and result are two durable records; between them it is `running`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Its intent is recorded, its result is not.
    Running,
    /// Its value is recorded.
    Succeeded,
    /// Its error is recorded.
    Failed,
    /// It was given up because the run was cancelled or ran out of time.
    Cancelled,
    /// Its intent is recorded, and its run ended without its result.
    Interrupted,
    /// A person decided to leave it out.
    Skipped,
}

/// What is known of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Path of the enclosing steps, name and occurrence: `deploy/roll out#2`; unique within a run.
    pub key: String,
    /// The name as written.
    pub name: String,
    /// Where it stands.
    pub status: StepState,
    /// The how-manieth try this is, from 1.
    pub attempt: u32,
    /// Whether it takes back an earlier step.
    #[serde(default)]
    pub undo: bool,
    /// From intent to result.
    pub duration_ms: u64,
    /// What it changed.
    #[serde(default)]
    pub effects: Vec<Effect>,
    /// The number of the run it is, when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    /// What it returned, as plain data.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

impl Step {
    /// How many of its effects changed something.
    pub fn changes(&self) -> usize {
        self.effects.iter().filter(|effect| !effect.idle).count()
    }

    /// A step that starts.
    pub(crate) fn of(intent: &Intent) -> Self {
        Self {
            key: intent.key.clone(),
            name: intent.name.clone(),
            status: StepState::Running,
            attempt: intent.attempt,
            undo: intent.undo,
            duration_ms: 0,
            effects: Vec::new(),
            run: None,
            value: Value::Null,
            error: None,
        }
    }
}

/// What a step declares before it starts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Intent {
    /// The key it is journaled under.
    pub key: String,
    /// The name as written.
    pub name: String,
    /// The how-manieth try this is, from 1.
    pub attempt: u32,
    /// The step or branch it was asked for in, empty at the top. Steps of one frame follow each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// The step around it, empty when there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub within: String,
    /// The key under which it may run again after a crash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotent: Option<String>,
    /// Whether it can ask the world if it is done.
    pub verifiable: bool,
    /// Whether it takes back an earlier step.
    pub undo: bool,
    /// How long it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With a value.
    Value(Value),
    /// With an error.
    Error(Error),
}
