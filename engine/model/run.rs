//! A run: one execution of a runbook, for one system or none.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Error, Kind};
use crate::model::{Check, Effect, Intent, Level, Outcome, Step, StepState};

/// The identity of a run: sortable by its start, unique everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl RunId {
    /// A new one, for a run that starts now.
    #[expect(clippy::new_without_default, reason = "an id is made on purpose, never by default")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Waits for its turn.
    Queued,
    /// Has a worker.
    Running,
    /// Waits for a person.
    Waiting,
    /// All steps and checks are fine.
    Succeeded,
    /// Finished, with warnings.
    Warning,
    /// A step failed, or a check is critical or unknown.
    Failed,
    /// Someone stopped it; clean-up was done.
    Cancelled,
    /// It took longer than it may.
    TimedOut,
    /// Its worker or supervisor vanished.
    Interrupted,
    /// A step is in doubt: a person has to say whether it was done.
    NeedsAttention,
    /// It was not started; the reason is recorded.
    Skipped,
}

impl RunState {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Succeeded,
        Self::Warning,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
        Self::Interrupted,
        Self::NeedsAttention,
        Self::Skipped,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed-out",
            Self::Interrupted => "interrupted",
            Self::NeedsAttention => "needs-attention",
            Self::Skipped => "skipped",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing more will happen by itself.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Waiting)
    }
}

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// A person at a command line.
    Command,
    /// A due tick of a schedule.
    Schedule,
    /// Another run.
    Run,
}

/// A script text that took part in a run, kept so that the run can be told and replayed later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// The runbook's path, or the import path of a module.
    pub name: String,
    /// SHA-256 of the text, in hex.
    pub hash: String,
    /// The text itself; only in detailed answers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// A file kept with the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artefact {
    /// The name it was given.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// Everything known of a run. This is also what `run --json` and `report --json` print.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The short number, unique within a store.
    pub run: u64,
    /// The identity.
    pub id: RunId,
    /// The name of the runbook.
    pub runbook: String,
    /// The hash of the runbook's text, shortened; what `version` shows.
    pub version: String,
    /// The commit the runbook's file was at, when it is in a git work tree and unchanged.
    pub commit: Option<String>,
    /// The system it ran for.
    pub system: Option<String>,
    /// The parameters, defaults filled in, secrets masked.
    pub params: BTreeMap<String, Value>,
    /// Where it stands.
    pub status: RunState,
    /// The exit code of the command that ran it; none while it runs.
    pub exit_code: Option<u8>,
    /// What started it.
    pub trigger: Trigger,
    /// Who started it.
    pub by: String,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// From start to end, or to now.
    pub duration_ms: u64,
    /// Its steps, in the order they began.
    pub steps: Vec<Step>,
    /// Its answered checks, in the order they were asked.
    pub checks: Vec<Check>,
    /// What it put out, by name.
    pub outputs: BTreeMap<String, Value>,
    /// Why it failed.
    pub error: Option<Error>,
}

impl Run {
    /// The worst answer among the checks; `ok` when there are none.
    pub fn level(&self) -> Level {
        self.checks.iter().fold(Level::Ok, |level, check| level.worst(check.level))
    }

    /// How a run that came to its end without an error stands, by its checks.
    pub fn verdict(&self) -> RunState {
        match self.level() {
            Level::Ok => RunState::Succeeded,
            Level::Warning => RunState::Warning,
            Level::Critical | Level::Unknown => RunState::Failed,
        }
    }

    /// How many effects its steps had.
    pub fn changes(&self) -> usize {
        self.steps.iter().map(|step| step.effects.len()).sum()
    }

    /// Applies one event; the only way a run changes. An event that can not follow is a defect.
    ///
    /// # Errors
    ///
    /// `bug`, naming the event and the state it met, when the event can not happen now.
    pub fn apply(&mut self, event: &Event) -> Result<(), Error> {
        let illegal =
            |what: &str| Err(Error::new(Kind::Bug, format!("run {}: {what} can not follow in state `{}`", self.run, self.status.name())));
        if self.status.is_over() {
            return illegal(event.kind.name());
        }
        match &event.kind {
            EventKind::StepStarted(intent) => {
                if let Some(step) = self.steps.iter_mut().find(|step| step.key == intent.key) {
                    if step.status == StepState::Running {
                        return illegal("a second start of a running step");
                    }
                    step.attempt = intent.attempt;
                    step.status = StepState::Running;
                    step.error = None;
                    return Ok(());
                }
                self.steps.push(Step {
                    key: intent.key.clone(),
                    name: intent.name.clone(),
                    status: StepState::Running,
                    attempt: intent.attempt,
                    undo: intent.undo,
                    duration_ms: 0,
                    effects: Vec::new(),
                    value: Value::Null,
                    error: None,
                });
            }
            EventKind::StepEnded { key, outcome, duration_ms } => {
                let Some(step) = self.steps.iter_mut().find(|step| step.key == *key && step.status == StepState::Running) else {
                    return illegal("the end of a step that does not run");
                };
                step.duration_ms = *duration_ms;
                match outcome {
                    Outcome::Value(value) => {
                        step.status = StepState::Succeeded;
                        step.value = value.clone();
                    }
                    Outcome::Error(error) => {
                        step.status = if error.kind == Kind::Cancelled { StepState::Cancelled } else { StepState::Failed };
                        step.error = Some(error.clone());
                    }
                }
            }
            EventKind::Effect { key, effect } => {
                let Some(step) = self.steps.iter_mut().find(|step| step.key == *key) else {
                    return illegal("an effect outside any step");
                };
                step.effects.push(effect.clone());
            }
            EventKind::Checked(check) => self.checks.push(check.clone()),
            EventKind::Output { name, value } => {
                self.outputs.insert(name.clone(), value.clone());
            }
            EventKind::Ended { status, exit_code, error } => {
                self.status = *status;
                self.exit_code = Some(*exit_code);
                self.ended = Some(event.at);
                self.duration_ms = u64::try_from(event.at.duration_since(self.started).as_millis()).unwrap_or(0);
                self.error = error.clone();
            }
            EventKind::Started => self.status = RunState::Running,
            EventKind::Log { .. } | EventKind::Progress { .. } => {}
        }
        Ok(())
    }
}

/// One thing that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The run has a worker.
    Started,
    /// A step is about to start; durable before it does.
    StepStarted(Intent),
    /// A step ended; durable before the script goes on.
    StepEnded {
        /// Its key.
        key: String,
        /// How.
        outcome: Outcome,
        /// From intent to result.
        duration_ms: u64,
    },
    /// A host call is about to change the world; durable before it does.
    Effect {
        /// The step it belongs to.
        key: String,
        /// What it changes.
        effect: Effect,
    },
    /// A check was answered.
    Checked(Check),
    /// A value or a file was put out.
    Output {
        /// Its name.
        name: String,
        /// The value; for files an [`Artefact`].
        value: Value,
    },
    /// A line was logged.
    Log {
        /// The step it belongs to, empty outside of steps.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        step: String,
        /// The line.
        text: String,
    },
    /// A step tells how far it is; not kept.
    Progress {
        /// The step it belongs to.
        step: String,
        /// What is being done.
        text: String,
        /// How much is done, 0 to 1, when known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        done: Option<f64>,
    },
    /// The run is over.
    Ended {
        /// How.
        status: RunState,
        /// The exit code of the command.
        exit_code: u8,
        /// Why, when it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Error>,
    },
}

impl EventKind {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::StepStarted(_) => "step started",
            Self::StepEnded { .. } => "step ended",
            Self::Effect { .. } => "effect",
            Self::Checked(_) => "check",
            Self::Output { .. } => "output",
            Self::Log { .. } => "log",
            Self::Progress { .. } => "progress",
            Self::Ended { .. } => "ended",
        }
    }
}
