//! What a run asks of what is watched, answered with the store of the one who supervises it.

use crate::error::{Error, Kind, Result};
use crate::host::{Answer, WatchQuestion};
use crate::monitor::desk::Desk;
use crate::monitor::duty::Duty;
use crate::run::redact::Redactor;
use crate::run::supervisor::Request;
use crate::store::{Keep, Samples, StateDir, Store, now};

/// Answers, or does what is said. The worker has asked for permission already; it is asked here again, since
/// it may be hostile. `run` is 0 while planning.
pub(super) fn answer(
    store: &dyn Store,
    state: &StateDir,
    request: &Request,
    redactor: &Redactor,
    run: u64,
    question: WatchQuestion,
) -> Result<Answer> {
    question.permit(&request.permissions)?;
    let question = masked(redactor, &question)?;
    let file = state.samples();
    // Who only looks leaves no file.
    let samples =
        if question.is_read() && !file.exists() { Samples::in_memory(Keep::default())? } else { Samples::open(&file, Keep::default())? };
    let duty = Duty { store, system: &request.system, project: &request.addresses.project };
    Desk { duty, samples: &samples, by: &request.by, runbook: &request.script.name, run }.answer(question, now()).map(Answer::Value)
}

fn masked(redactor: &Redactor, question: &WatchQuestion) -> Result<WatchQuestion> {
    let read = |error: serde_json::Error| Error::new(Kind::Bug, format!("a question does not survive masking: {error}"));
    serde_json::from_value(redactor.value(serde_json::to_value(question).map_err(read)?)).map_err(read)
}
