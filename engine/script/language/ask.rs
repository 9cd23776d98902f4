//! `ask`: a question to people, in the middle of a run.

use std::time::Instant;

use rhai::{Dynamic, EvalAltResult, Map, NativeCallContext};
use serde::Deserialize;

use crate::error::{Error, Kind};
use crate::host::{Call, Gate, Mode, PersonQuestion, Question, RhaiResultOf, TakeBack, frames, plan, value};
use crate::model::{Intent, Outcome, Span};

/// How long a question may stay open that does not say.
const EXPIRES: Span = Span::secs(3600);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    approvers: Vec<String>,
    quorum: Option<u32>,
    expires: Option<Span>,
    reason: String,
}

/// Asks, and waits. The answer is journaled as a step is, so that a resumed run does not ask again.
pub(super) fn run(native: &NativeCallContext<'_>, question: &str, options: Map) -> RhaiResultOf<Dynamic> {
    let call = Call::new(native, "ask")?;
    let options: Options = call.options(options)?;
    let quorum = options.quorum.unwrap_or(1).max(1);
    if !options.approvers.is_empty() && options.approvers.len() < quorum as usize {
        return Err(call.fail(Error::new(Kind::Invalid, format!("{quorum} of {} people can not answer", options.approvers.len()))));
    }
    let frame = frames::top();
    let name = format!("ask: {question}");
    let key = frame.child_key(&name);
    // To ask again does no harm.
    let idempotent = Some(key.clone());
    let intent = Intent { key: key.clone(), name, attempt: 1, frame: Some(frame.key), within: frame.step, idempotent, ..Intent::default() };
    let recorder = call.ctx().recorder();
    match recorder.begin(intent).map_err(|error| call.fail(error))? {
        Gate::Done(done) => return Ok(value::dynamic(&done)),
        Gate::Failed(error) => return Err(call.fail(error)),
        Gate::TakeBack => return Err(EvalAltResult::ErrorTerminated(Dynamic::from(TakeBack), call.position()).into()),
        Gate::Go | Gate::Twice | Gate::Verify => {}
    }
    if call.ctx().mode() == Mode::Plan {
        return Ok(plan::left_open(call.ctx(), &key, "a person answers it"));
    }
    let started = Instant::now();
    let asked = PersonQuestion {
        key: key.clone(),
        question: question.to_owned(),
        approvers: options.approvers,
        quorum,
        expires: options.expires.unwrap_or(EXPIRES),
        reason: options.reason,
    };
    let answer = recorder.ask(Question::Person(asked)).map(crate::host::Answer::into_value);
    let outcome = answer.clone().map_or_else(Outcome::Error, Outcome::Value);
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    recorder.end(&key, outcome, duration_ms).map_err(|error| call.fail(error))?;
    answer.map(|answer| value::dynamic(&answer)).map_err(|error| call.fail(error))
}
