//! A run: one execution of a runbook, for one system or none.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Error, Kind};
use crate::model::{Asked, Check, Effect, Intent, Level, Outcome, Step, StepState, System, Trigger};

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

    /// Whether it can go on from its journal: it ended before its work did.
    pub fn is_resumable(self) -> bool {
        matches!(self, Self::Failed | Self::Cancelled | Self::TimedOut | Self::Interrupted | Self::NeedsAttention)
    }
}

/// What a sub-run is part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The number of the run that started it.
    pub run: u64,
    /// The key of the step it is.
    pub step: String,
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
    /// The run that started it, when it is a sub-run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The how-manieth worker it has, from 1; one more with each `resume`.
    #[serde(default = "first")]
    pub attempt: u32,
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
    /// The question it waits with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<Asked>,
}

fn first() -> u32 {
    1
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

    /// How much its steps changed.
    pub fn changes(&self) -> usize {
        self.steps.iter().map(Step::changes).sum()
    }

    /// Applies one event; the only way a run changes. An event that can not follow is a defect.
    ///
    /// # Errors
    ///
    /// `bug`, naming the event and the state it met, when the event can not happen now.
    pub fn apply(&mut self, event: &Event) -> Result<(), Error> {
        let illegal =
            |what: &str| Err(Error::new(Kind::Bug, format!("run {}: {what} can not follow in state `{}`", self.run, self.status.name())));
        let goes_on = matches!(event.kind, EventKind::Resumed { .. });
        if goes_on != self.status.is_over() || goes_on && !self.status.is_resumable() {
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
                self.steps.push(Step::of(intent));
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
            EventKind::SubRun { key, run, .. } => {
                let Some(step) = self.steps.iter_mut().find(|step| step.key == *key) else {
                    return illegal("a sub-run outside any step");
                };
                step.run = Some(*run);
            }
            EventKind::Asked(asked) => {
                self.status = RunState::Waiting;
                self.waits_for = Some(asked.clone());
            }
            EventKind::Answered { .. } => {
                self.status = RunState::Running;
                self.waits_for = None;
            }
            EventKind::Checked(check) => {
                // Asked again by a resumed run, it is the same question.
                let asked = self.checks.iter_mut().find(|asked| !check.key.is_empty() && asked.key == check.key);
                match asked {
                    Some(asked) => *asked = check.clone(),
                    None => self.checks.push(check.clone()),
                }
            }
            EventKind::Output { name, value } => {
                self.outputs.insert(name.clone(), value.clone());
            }
            EventKind::Ended { status, exit_code, error } => {
                self.status = *status;
                self.exit_code = Some(*exit_code);
                self.ended = Some(event.at);
                self.duration_ms = u64::try_from(event.at.duration_since(self.started).as_millis()).unwrap_or(0);
                self.error = error.clone();
                for step in self.steps.iter_mut().filter(|step| step.status == StepState::Running) {
                    step.status = StepState::Interrupted;
                }
            }
            EventKind::Resumed { decisions, .. } => {
                self.status = RunState::Running;
                self.attempt += 1;
                (self.exit_code, self.ended, self.error) = (None, None, None);
                self.duration_ms = 0;
                decisions.iter().for_each(|decision| self.decide(decision));
            }
            EventKind::Started => self.status = RunState::Running,
            EventKind::Prepared { .. }
            | EventKind::TakenFrom { .. }
            | EventKind::Read { .. }
            | EventKind::RunOrdered { .. }
            | EventKind::UndoRegistered { .. }
            | EventKind::CompensationStarted(_)
            | EventKind::Log { .. }
            | EventKind::Progress { .. } => {}
        }
        Ok(())
    }

    /// What a person says of a step holds as if it had been recorded.
    fn decide(&mut self, decision: &Decision) {
        let status = match &decision.says {
            Says::Done(_) => StepState::Succeeded,
            Says::Skip => StepState::Skipped,
            Says::Redo => return,
        };
        if !self.steps.iter().any(|step| step.key == decision.key) {
            // Only a compensation can be decided about before it was started.
            self.steps.push(Step::of(&Intent { key: decision.key.clone(), name: decision.key.clone(), undo: true, ..Intent::default() }));
        }
        for step in self.steps.iter_mut().filter(|step| step.key == decision.key) {
            step.status = status;
            step.error = None;
            step.value = decision.says.value();
        }
    }
}

/// What a person says of a step whose result is not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The key of the step.
    pub key: String,
    /// What holds for it.
    pub says: Says,
}

/// What holds for a step that was decided about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    /// It was done, with this value.
    Done(Value),
    /// It runs again.
    Redo,
    /// It is left out; its value is nothing.
    Skip,
}

impl Says {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Redo => "redo",
            Self::Skip => "skip",
        }
    }

    /// The value the script gets for the step.
    pub fn value(&self) -> Value {
        match self {
            Self::Done(value) => value.clone(),
            Self::Redo | Self::Skip => Value::Null,
        }
    }
}

/// Why and how a run takes back what it did; recorded before it begins to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compensation {
    /// The keys of the compensations, in the order they run.
    pub undo: Vec<String>,
    /// How the run will end.
    pub status: RunState,
    /// Why.
    pub error: Error,
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
    /// What the run is made of beside its texts, so that it can be resumed as it was started.
    Prepared {
        /// The name of the system; empty when there is none.
        name: String,
        /// The system, secrets as references.
        system: Box<System>,
        /// The parameters; names where they are secrets.
        params: BTreeMap<String, Value>,
        /// The hash of the plan it carries out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<String>,
    },
    /// The run has a worker.
    Started,
    /// The run has a new worker, and goes on from its journal.
    Resumed {
        /// Who resumed it.
        by: String,
        /// What was said of steps whose result is not known.
        decisions: Vec<Decision>,
    },
    /// The steps recorded from here to the next start were taken over from another run.
    TakenFrom {
        /// The number of that run.
        run: u64,
        /// The first step that is run again.
        step: String,
    },
    /// What was read outside of any step and decides what comes after: the clock. A resumed run gets it again.
    Read {
        /// Where it was read.
        key: String,
        /// What was read.
        value: Value,
    },
    /// A compensation was registered.
    UndoRegistered {
        /// Its key.
        key: String,
        /// The step it was registered in, empty outside of steps.
        step: String,
    },
    /// The run begins to take back what it did.
    CompensationStarted(Compensation),
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
    /// A step is about to start a run; durable before that is on record.
    RunOrdered {
        /// The step.
        key: String,
        /// The hash of what it asks for.
        order: String,
    },
    /// A step is a run of its own, which is recorded.
    SubRun {
        /// The step.
        key: String,
        /// The number of that run.
        run: u64,
        /// Its runbook.
        runbook: String,
    },
    /// The run waits for a person; durable before anyone is asked.
    Asked(Asked),
    /// It goes on.
    Answered {
        /// The step that asked.
        key: String,
        /// Whether enough people said yes.
        approved: bool,
        /// Who said yes.
        by: Vec<String>,
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
            Self::Prepared { .. } => "prepared",
            Self::Started => "started",
            Self::Resumed { .. } => "resumed",
            Self::TakenFrom { .. } => "taken from another run",
            Self::Read { .. } => "read",
            Self::UndoRegistered { .. } => "undo registered",
            Self::CompensationStarted(_) => "compensation started",
            Self::StepStarted(_) => "step started",
            Self::StepEnded { .. } => "step ended",
            Self::Effect { .. } => "effect",
            Self::RunOrdered { .. } => "run-ordered",
            Self::SubRun { .. } => "sub-run",
            Self::Asked(_) => "asked",
            Self::Answered { .. } => "answered",
            Self::Checked(_) => "check",
            Self::Output { .. } => "output",
            Self::Log { .. } => "log",
            Self::Progress { .. } => "progress",
            Self::Ended { .. } => "ended",
        }
    }
}
