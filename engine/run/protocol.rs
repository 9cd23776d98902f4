//! What supervisor and worker say to each other: one line of JSON each.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::host::sandbox::Enforcement;
use crate::host::{Answer, Gate, Mode, Permissions, Question, RunInfo, Secrets, StopReason};
use crate::model::{Effect, EventKind, Intent, Outcome, PlannedStep, Size, Span, System};

/// The longest line either side accepts.
const LONGEST_LINE: u64 = 64 << 20;

/// What a run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From its start to the first request to stop.
    pub time: Option<Span>,
    /// Resident memory of the worker.
    pub memory: Size,
    /// The log.
    pub output: Size,
    /// For compensations, after a failure or a cancellation.
    pub grace: Span,
    /// The open files of the worker, and of each program it starts.
    pub files: u64,
    /// The processes of all programs it started.
    pub processes: u32,
    /// The memory of all programs it started, together.
    pub program_memory: Size,
    /// How much of the sandbox must be enforced.
    pub sandbox: Enforcement,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: None,
            memory: Size(256 << 20),
            output: Size(10 << 20),
            grace: Span::secs(30),
            files: 1024,
            processes: 64,
            program_memory: Size(2 << 30),
            sandbox: Enforcement::Auto,
        }
    }
}

/// Everything a worker needs; it reads no file and no environment.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) run: RunInfo,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) text: String,
    pub(super) modules: BTreeMap<String, String>,
    pub(super) params: BTreeMap<String, Value>,
    pub(super) system: System,
    pub(super) system_name: String,
    pub(super) mode: Mode,
    /// The plan it carries out.
    pub(super) plan: Option<Carried>,
    pub(super) permissions: Permissions,
    pub(super) secrets: Secrets,
    pub(super) limits: Limits,
    /// What earlier workers of the run read outside of steps.
    pub(super) recalled: BTreeMap<String, Value>,
    /// Whether it was taking back what it did.
    pub(super) takes_back: bool,
    /// While planning a sub-run: what the runs above it will have changed by then.
    pub(super) before: Vec<Effect>,
    /// The time at which the clock stands, in a test.
    pub(super) clock: Option<Timestamp>,
    /// What no script may touch, whatever it was granted.
    pub(super) protected: Vec<PathBuf>,
}

/// The steps of a plan, on their way from the worker that told them or to the one that carries them out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Carried {
    pub(super) steps: Vec<PlannedStep>,
    /// Why nothing is known of the rest.
    pub(super) unknown: Option<String>,
    pub(super) fingerprints: BTreeMap<String, String>,
}

/// From the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToWorker {
    Job(Box<Job>),
    Reply { id: u64, reply: Result<Reply, Error> },
    Stop(StopReason),
}

/// An answer to a question, or the go-ahead of a step.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Gate(Gate),
    Recorded,
    /// The keys of the compensations to run, in their order.
    TakeBack(Vec<String>),
    Answer(Answer),
}

/// From the worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromWorker {
    /// A step wants to start; answered when the intent is durable.
    Begin { id: u64, intent: Intent },
    /// A step ended; answered when the result is durable.
    End { id: u64, key: String, outcome: Outcome, duration_ms: u64 },
    /// The open step is about to change the world; answered when that is durable.
    Effect { id: u64, key: String, effect: Effect },
    /// Something happened.
    Tell(EventKind),
    /// So many bytes of output were left out here, since the log is full.
    LeftOut(u64),
    /// Answered by the supervisor.
    Ask { id: u64, question: Question },
    /// What a run would do; before the end of a planning worker.
    Planned(Carried),
    /// The script is over, and these compensations are registered, the last first; answered with those to run.
    CleaningUp { id: u64, undo: Vec<String>, error: Option<Error>, stopped: Option<StopReason> },
    /// Everything is over.
    Over { error: Option<Error>, stopped: Option<StopReason> },
}

/// Writes one line.
pub(super) fn send(to: &mut impl Write, message: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(message).map_err(|error| Error::new(Kind::Bug, format!("a message does not serialise: {error}")))?;
    line.push(b'\n');
    to.write_all(&line)
        .and_then(|()| to.flush())
        .map_err(|error| Error::because(Kind::Store, "the other side of the run is gone", &error).permanent())
}

/// Reads one line; nothing at the end.
pub(super) fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> Result<Option<T>> {
    let mut line = Vec::new();
    let read = from
        .take(LONGEST_LINE)
        .read_until(b'\n', &mut line)
        .map_err(|error| Error::because(Kind::Store, "the other side of the run", &error))?;
    if read == 0 {
        return Ok(None);
    }
    if read as u64 == LONGEST_LINE {
        return Err(Error::new(Kind::Limit, format!("limit: output: a message is longer than {} MiB", LONGEST_LINE >> 20)));
    }
    serde_json::from_slice(&line).map(Some).map_err(|error| Error::new(Kind::Bug, format!("a message can not be read: {error}")))
}
