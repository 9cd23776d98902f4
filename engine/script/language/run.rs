//! `run`: another runbook, as a step of this run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rhai::{Dynamic, EvalAltResult, Map, NativeCallContext};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::host::{
    Access, Call, Gate, Mode, OutOfTime, Question, RhaiResultOf, RunOrder, Secret, StopReason, TakeBack, frames, plan, value,
};
use crate::model::{Intent, Outcome, Plan, Span};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    system: Option<String>,
    timeout: Option<Span>,
    must_succeed: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { system: None, timeout: None, must_succeed: true }
    }
}

/// Starts it, and waits for its end. What became of it is journaled as the value of a step.
pub(super) fn run(native: &NativeCallContext<'_>, runbook: &str, params: Map, options: Map) -> RhaiResultOf<Dynamic> {
    let call = Call::new(native, "run")?;
    let Options { system, timeout, must_succeed } = call.options(options)?;
    let params = plain(params).map_err(|error| call.fail(error))?;
    let order = RunOrder { key: String::new(), runbook: runbook.to_owned(), system, params, timeout, before: Vec::new() };
    let (verb, object) = order.access(&call.ctx().system().name);
    call.permit(&Access::word("runs", verb, &object))?;
    let frame = frames::top();
    let name = format!("run {object}");
    let key = frame.child_key(&name);
    let deadline = frame.deadline;
    let intent = Intent { key: key.clone(), name, attempt: 1, frame: Some(frame.key), within: frame.step, ..Intent::default() };
    let recorder = call.ctx().recorder();
    match recorder.begin(intent).map_err(|error| stopped(&call, error))? {
        Gate::Done(done) => {
            call.ctx().was_done(&key);
            return Ok(value::dynamic(&done));
        }
        Gate::Failed(error) => {
            call.ctx().was_done(&key);
            return Err(call.fail(error));
        }
        Gate::TakeBack => return Err(EvalAltResult::ErrorTerminated(Dynamic::from(TakeBack), call.position()).into()),
        Gate::Go | Gate::Twice | Gate::Verify => {}
    }
    if let Some(expected) = call.ctx().expected() {
        expected.meet_run(&key, runbook).map_err(|error| plan::drift(error, call.position()))?;
    }
    let left = deadline.map(|deadline| Span(deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))));
    let timeout = order.timeout.into_iter().chain(left).min_by_key(|span| span.0);
    let is_plan = call.ctx().mode() == Mode::Plan;
    let before = if is_plan { plan::so_far(call.ctx()) } else { Vec::new() };
    let started = Instant::now();
    let answer = recorder.ask(Question::Run(RunOrder { key: key.clone(), timeout, before, ..order })).map(crate::host::Answer::into_value);
    if is_plan {
        let read = |plan: Value| serde_json::from_value::<Plan>(plan).map_err(|error| Error::new(Kind::Bug, error.to_string()));
        let plan = answer.and_then(read).map_err(|error| call.fail(error))?;
        return Ok(plan::planned_run(call.ctx(), &key, &plan));
    }
    let stop = call.ctx().stop().reason();
    if let Some(reason @ (StopReason::Halted | StopReason::Lost)) = stop {
        // What becomes of it is not known yet: the step stays open.
        return Err(EvalAltResult::ErrorTerminated(Dynamic::from(reason), call.position()).into());
    }
    let result = answer.and_then(|answer| if must_succeed { succeeded(answer) } else { Ok(answer) });
    let outcome = result.clone().map_or_else(Outcome::Error, Outcome::Value);
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    recorder.end(&key, outcome, duration_ms).map_err(|error| stopped(&call, error))?;
    if let Some(reason) = stop {
        return Err(EvalAltResult::ErrorTerminated(Dynamic::from(reason), call.position()).into());
    }
    if result.is_err() && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
        return Err(EvalAltResult::ErrorTerminated(Dynamic::from(OutOfTime), call.position()).into());
    }
    result.map(|answer| value::dynamic(&answer)).map_err(|error| call.fail(error))
}

/// Parameters as the supervisor reads them: secrets by their names.
fn plain(params: Map) -> Result<BTreeMap<String, Value>> {
    let read = |value: &Dynamic| match value.read_lock::<Secret>() {
        Some(secret) => Ok(Value::from(secret.name())),
        None => value::plain(value),
    };
    let named = |(name, value): (_, Dynamic)| match read(&value) {
        Ok(value) => Ok((name, value)),
        Err(error) => Err(error.context(format_args!("parameter `{name}`"))),
    };
    params.into_iter().map(|(name, value)| named((name.to_string(), value))).collect()
}

/// The answer of a run that is worth going on with, or why it is none.
fn succeeded(answer: Value) -> Result<Value> {
    #[derive(Deserialize)]
    struct Ended {
        run: u64,
        error: Option<Error>,
    }
    let Ok(Ended { run, error: Some(error) }) = serde_json::from_value::<Ended>(answer.clone()) else { return Ok(answer) };
    Err(Error { target: Some(format!("#{run}")), ..error })
}

/// The record can not be made, or a person has to look: nothing may go on.
fn stopped(call: &Call<'_>, error: Error) -> Box<EvalAltResult> {
    let halted = matches!(error.kind, Kind::Conflict | Kind::Waiting);
    call.ctx().stop().stop(if halted { StopReason::Halted } else { StopReason::Lost });
    EvalAltResult::ErrorTerminated(Dynamic::from(call.ctx().stop().reason().unwrap_or(StopReason::Lost)), call.position()).into()
}
