//! Steps, checks and compensations: what they record, and when.

#![expect(deprecated, reason = "rhai marks `store_data` as volatile; its version is pinned, and only it can call a module's closure later")]

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rhai::{Dynamic, Engine, EvalAltResult, FnPtr, Map, NativeCallContext, NativeCallContextStore, Position};
use serde::Deserialize;

use crate::error::{Error, Kind, Place};
use crate::host::{
    Call, Ctx, Gate, Number, OptionError, OutOfTime, Question, RhaiResultOf, StopReason, TakeBack, error_of, frames, plan, read_options,
    value,
};
use crate::model::{Check, EventKind, Intent, Level, Limit, Outcome, Span};
use crate::words;

/// The payload of `finish()`.
#[derive(Debug, Clone, Copy)]
pub struct Finished;

/// The options of `output` for files.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OutputOptions {
    pub(super) file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StepOptions {
    retry: u32,
    backoff: Option<Span>,
    timeout: Option<Span>,
    idempotent: Option<String>,
    on_doubt: Option<OnDoubt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnDoubt {
    Stop,
    Redo,
}

/// Checks the options of `step`, without running anything; `verify` is a closure, which no struct can hold.
pub(super) fn check_step_options(options: &Dynamic) -> Result<(), OptionError> {
    let mut options = options.clone();
    if let Some(mut map) = options.write_lock::<Map>() {
        map.remove("verify");
    }
    read_options::<StepOptions>(&options).map(drop).map_err(|mut error| {
        if error.is_unknown_key() {
            error.known.push("verify".to_owned());
        }
        error
    })
}

const BACKOFF: Span = Span::secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

pub(super) fn thrown(error: Error, position: Position) -> Box<EvalAltResult> {
    EvalAltResult::ErrorRuntime(crate::host::thrown(&error, position), position).into()
}

/// What a step is made of: what it declares, its work, and what asks the world whether it was done.
struct Part<'w> {
    intent: Intent,
    work: &'w FnPtr,
    verify: Option<FnPtr>,
}

impl<'w> Part<'w> {
    fn new(call: &Call<'_>, mut options: Map, intent: Intent, work: &'w FnPtr) -> RhaiResultOf<(Self, StepOptions)> {
        let verify = options.remove("verify").and_then(Dynamic::try_cast::<FnPtr>);
        let options: StepOptions = call.options(options)?;
        let idempotent = match options.on_doubt {
            Some(OnDoubt::Redo) => Some(options.idempotent.clone().unwrap_or_else(|| intent.key.clone())),
            _ => options.idempotent.clone(),
        };
        let intent = Intent { idempotent, verifiable: verify.is_some(), timeout: options.timeout, ..intent };
        Ok((Self { intent, work, verify }, options))
    }
}

/// Runs a step: intent, work, result; again while it may help.
pub(super) fn run(native: &NativeCallContext<'_>, name: &str, options: Map, work: &FnPtr) -> RhaiResultOf<Dynamic> {
    let call = Call::new(native, "step")?;
    let frame = frames::top();
    let key = frame.child_key(name);
    let intent = Intent { key, name: name.to_owned(), frame: Some(frame.key), within: frame.step, ..Intent::default() };
    let (mut part, options) = Part::new(&call, options, intent, work)?;
    let mut attempt = 1;
    loop {
        part.intent.attempt = attempt;
        match perform(&call, native, &part)? {
            Ok(value) => return Ok(value),
            Err(error) if attempt <= options.retry && error_of(&error).retryable => {
                let pause = options.backoff.unwrap_or(BACKOFF).0 * 2_u32.saturating_pow(attempt - 1);
                call.pause(pause.min(LONGEST_BACKOFF))?;
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// One try of a step. The outer error is one that no retry can mend.
fn perform(call: &Call<'_>, native: &NativeCallContext<'_>, part: &Part<'_>) -> RhaiResultOf<RhaiResultOf<Dynamic>> {
    let intent = &part.intent;
    let deadline = intent.timeout.and_then(|timeout| Instant::now().checked_add(timeout.0));
    let late = || Error::new(Kind::Timeout, format!("step `{}` took longer than {}", intent.name, intent.timeout.unwrap_or_default()));
    let gate = call.ctx().recorder().begin(intent.clone()).map_err(|error| lost(call, error))?;
    let work = || part.work.call_within_context::<Dynamic>(native, ());
    let started = Instant::now();
    let result = {
        let _open = frames::open_step(intent.key.clone(), intent.idempotent.clone(), deadline);
        match gate {
            Gate::Done(done) => {
                call.ctx().was_done(&intent.key);
                return Ok(Ok(value::dynamic(&done)));
            }
            Gate::Failed(error) => {
                call.ctx().was_done(&intent.key);
                return Ok(Err(thrown(error, call.position())));
            }
            Gate::TakeBack => return Err(EvalAltResult::ErrorTerminated(Dynamic::from(TakeBack), call.position()).into()),
            Gate::Go => work(),
            Gate::Verify => match verified(call, native, part)? {
                Some(value) => {
                    call.ctx().was_done(&intent.key);
                    Ok(value)
                }
                None => work(),
            },
            Gate::Twice => work().and_then(|value| repeated(call, native, part, value)),
        }
    };
    let result = plan::ended(call.ctx(), &intent.key, result);
    let result = result.map_err(|error| match out_of_time(&error) && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
        true => thrown(late(), call.position()),
        false => error,
    });
    let (outcome, result) = match result {
        Ok(value) => match value::plain(&value) {
            Ok(plain) => (Outcome::Value(plain), Ok(value)),
            Err(error) => {
                let error = error.context(format_args!("step `{}`", intent.name));
                (Outcome::Error(error.clone()), Err(thrown(error, call.position())))
            }
        },
        Err(error) if is_finish(&error) => (Outcome::Value(serde_json::Value::Null), Err(error)),
        Err(error) => (Outcome::Error(told(&error)), Err(error)),
    };
    if call.ctx().stop().reason() == Some(StopReason::Halted) {
        // It stopped for a reason that is not its own: its result stays open.
        return result.map(Ok);
    }
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    call.ctx().recorder().end(&intent.key, outcome, duration_ms).map_err(|error| lost(call, error))?;
    match result {
        Err(error) if matches!(error.unwrap_inner(), EvalAltResult::ErrorTerminated(..)) => Err(error),
        result => Ok(result),
    }
}

/// Asks the world whether a step was done: its value when it was, nothing when it was not. A question
/// without an answer leaves the step in doubt.
fn verified(call: &Call<'_>, native: &NativeCallContext<'_>, part: &Part<'_>) -> RhaiResultOf<Option<Dynamic>> {
    let Some(verify) = &part.verify else { return Ok(None) };
    match verify.call_within_context::<Dynamic>(native, ()) {
        Ok(no) if no.is_unit() || no.as_bool() == Ok(false) => Ok(None),
        Ok(yes) if yes.is_bool() => Ok(Some(Dynamic::UNIT)),
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.unwrap_inner(), EvalAltResult::ErrorTerminated(..)) => Err(error),
        Err(error) => {
            let question = Question::Doubt { key: part.intent.key.clone(), error: error_of(&error) };
            match call.ctx().recorder().ask(question) {
                Ok(_) => Err(error),
                Err(error) => Err(lost(call, error)),
            }
        }
    }
}

/// Shows that a step may run again: what is idempotent gives the same, what can be verified is done.
fn repeated(call: &Call<'_>, native: &NativeCallContext<'_>, part: &Part<'_>, value: Dynamic) -> RhaiResultOf<Dynamic> {
    let intent = &part.intent;
    let wrong = |what: String| Err(thrown(Error::new(Kind::Failed, what).permanent().code("RB3105"), call.position()));
    if part.verify.is_some() {
        return match verified(call, native, part)? {
            Some(_) => Ok(value),
            None => wrong(format!("step `{}` was done, and its `verify` says it was not", intent.name)),
        };
    }
    let second = {
        // Its inner steps and keys are those of the first time.
        let _open = frames::open_step(intent.key.clone(), intent.idempotent.clone(), frames::deadline());
        part.work.call_within_context::<Dynamic>(native, ())?
    };
    let plain = |value: &Dynamic| value::plain(value).map_err(|error| call.fail(error));
    let (first, second) = (plain(&value)?, plain(&second)?);
    if first == second {
        return Ok(value);
    }
    wrong(format!("step `{}` is not idempotent: it gave {first}, and {second} when it was run again", intent.name))
}

/// The journal can not be written: nothing may go on.
fn lost(call: &Call<'_>, error: Error) -> Box<EvalAltResult> {
    let halted = matches!(error.kind, Kind::Conflict | Kind::Waiting);
    call.ctx().stop().stop(if halted { StopReason::Halted } else { StopReason::Lost });
    EvalAltResult::ErrorTerminated(Dynamic::from(call.ctx().stop().reason().unwrap_or(StopReason::Lost)), call.position()).into()
}

fn out_of_time(error: &EvalAltResult) -> bool {
    matches!(error.unwrap_inner(), EvalAltResult::ErrorTerminated(reason, _) if reason.is::<OutOfTime>())
}

fn is_finish(error: &EvalAltResult) -> bool {
    matches!(error.unwrap_inner(), EvalAltResult::ErrorTerminated(reason, _) if reason.is::<Finished>())
}

/// The error with its line, for the record; the file is added by the diagnosis of the run.
fn told(error: &EvalAltResult) -> Error {
    let place = innermost(error);
    let told = error_of(error);
    match place.line() {
        Some(line) => told.at(Place { file: source_of(error), line, column: place.position().unwrap_or(0) }),
        None => told,
    }
}

fn innermost(error: &EvalAltResult) -> Position {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) | EvalAltResult::ErrorInModule(_, inner, _) => innermost(inner),
        other => other.position(),
    }
}

fn source_of(error: &EvalAltResult) -> String {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, source, inner, _) => match source_of(inner) {
            inner if inner.is_empty() => source.clone(),
            inner => inner,
        },
        EvalAltResult::ErrorInModule(path, inner, _) => match source_of(inner) {
            inner if inner.is_empty() => path.clone(),
            inner => inner,
        },
        _ => String::new(),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CheckOptions {
    metric: Option<String>,
    limit: Option<LimitOption>,
    unit: Option<String>,
    timeout: Option<Span>,
    on_error: Option<Level>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitOption {
    warn: Option<Number>,
    alarm: Option<Number>,
    below: bool,
}

/// What a closure may answer in full.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    level: Option<Level>,
    detail: Option<String>,
    value: Option<f64>,
    unit: Option<String>,
}

/// Asks a question and records the answer.
pub(super) fn ask(native: &NativeCallContext<'_>, name: &str, options: Map, question: &FnPtr) -> RhaiResultOf<Dynamic> {
    let call = Call::new(native, "check")?;
    let options: CheckOptions = call.options(options)?;
    let frame = frames::top();
    let key = frame.child_key(&format!("check {name}"));
    let name = unique(call.ctx(), name);
    let recalled = if frame.is_step { None } else { call.ctx().recorder().recall(&key) };
    if let Some(answer) = recalled.and_then(|value| serde_json::from_value::<Check>(value).ok()) {
        // The script went on after this answer: another one would lead it elsewhere.
        return call.value(&answer);
    }
    let (limit, unit) = limits(&call, &options)?;
    let started = Instant::now();
    let deadline = options.timeout.and_then(|timeout| started.checked_add(timeout.0));
    let result = {
        let _open = frames::open_part(deadline);
        question.call_within_context::<Dynamic>(native, ())
    };
    if let Some((why, unknown)) = plan::unanswered(call.ctx(), &result) {
        let check = Check { name, key, level: Level::Unknown, detail: why, value: None, unit, limit: None, duration_ms: 0 };
        call.ctx().recorder().tell(EventKind::Checked(check)).map_err(|error| lost(&call, error))?;
        return Ok(unknown);
    }
    let mut check = Check { name, key, level: Level::Unknown, detail: String::new(), value: None, unit, limit: None, duration_ms: 0 };
    match result {
        Ok(value) => judge(&call, &mut check, value, limit)?,
        Err(error) if out_of_time(&error) && deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
            check.detail = format!("no answer within {}", options.timeout.unwrap_or_default());
        }
        Err(error) if matches!(error.unwrap_inner(), EvalAltResult::ErrorTerminated(..)) => return Err(error),
        Err(error) => {
            let error = error_of(&error);
            check.level = options.on_error.unwrap_or(Level::Unknown);
            check.detail = error.message;
        }
    }
    check.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    call.ctx().recorder().tell(EventKind::Checked(check.clone())).map_err(|error| lost(&call, error))?;
    call.value(&check)
}

/// How often each name was asked.
#[derive(Default)]
struct Asked(Mutex<BTreeMap<String, u32>>);

/// The name of a check, with its occurrence from the second on; a branch of `parallel` adds nothing to it.
fn unique(ctx: &Ctx, name: &str) -> String {
    let asked = ctx.state::<Asked>();
    let mut asked = asked.0.lock().unwrap_or_else(PoisonError::into_inner);
    let count = asked.entry(name.to_owned()).or_default();
    *count += 1;
    if *count == 1 { name.to_owned() } else { format!("{name} #{count}") }
}

fn limits(call: &Call<'_>, options: &CheckOptions) -> RhaiResultOf<(Option<Limit>, Option<String>)> {
    if let Some(limit) = &options.limit {
        let number = |number: Option<Number>| number.map(|number| number.0);
        return Ok((Some(Limit { warn: number(limit.warn), alarm: number(limit.alarm), below: limit.below }), options.unit.clone()));
    }
    let Some(metric) = &options.metric else { return Ok((None, options.unit.clone())) };
    let thresholds = &call.ctx().system().thresholds;
    match thresholds.get(metric) {
        Some(threshold) => Ok((Some(threshold.limit()), options.unit.clone().or_else(|| threshold.unit.clone()))),
        None => {
            let names: Vec<String> = thresholds.keys().cloned().collect();
            let error = Error::new(Kind::Invalid, format!("system `{}` has no threshold `{metric}`", call.ctx().system().name)).hint(
                match words::nearest(metric, &names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("it has {}", words::list(&names)),
                },
            );
            Err(call.fail(error))
        }
    }
}

fn judge(call: &Call<'_>, check: &mut Check, answer: Dynamic, limit: Option<Limit>) -> RhaiResultOf<()> {
    let measured = |check: &mut Check, value: f64, limit: Option<Limit>| {
        check.value = Some(value);
        if let Some(limit) = limit {
            check.level = limit.judge(value);
            check.limit = Some(limit);
        }
    };
    if let Ok(flag) = answer.as_bool() {
        check.level = if flag { Level::Ok } else { Level::Critical };
    } else if let Ok(value) = answer.as_float().or_else(|_| answer.as_int().map(|whole| whole as f64)) {
        if limit.is_none() {
            check.detail = "it answered with a number, but there is no limit to compare it with".to_owned();
        }
        measured(check, value, limit);
    } else if let Some(level) = answer.clone().into_string().ok().and_then(|name| Level::parse(&name)) {
        check.level = level;
    } else if answer.is_map() {
        let plain = value::plain(&answer).map_err(|error| call.fail(error))?;
        let answer: Answer = serde_json::from_value(plain).map_err(|error| {
            call.fail(
                Error::new(Kind::Invalid, format!("check `{}`: its answer is not one: {error}", check.name))
                    .hint("return `#{ level: \"ok\", detail: \"…\" }`"),
            )
        })?;
        if let Some(value) = answer.value {
            measured(check, value, limit);
        }
        check.level = answer.level.unwrap_or(check.level);
        check.detail = answer.detail.unwrap_or_default();
        check.unit = answer.unit.or_else(|| check.unit.take());
        if answer.level.is_none() && check.limit.is_none() {
            check.detail = format!(
                "it answered without a level{}",
                if check.detail.is_empty() { String::new() } else { format!(": {}", check.detail) }
            );
        }
    } else if answer.is_unit() {
        check.detail = "it answered nothing".to_owned();
    } else {
        check.detail = format!("it answered with {}, which is no level", crate::host::type_in_words(answer.type_name()));
    }
    Ok(())
}

/// What takes a step back.
pub struct Compensation {
    /// The key of its step.
    pub key: String,
    name: String,
    options: Map,
    work: FnPtr,
    context: NativeCallContextStore,
}

/// The compensations of a run, in the order they were registered.
#[derive(Default)]
struct Compensations(Mutex<Vec<Compensation>>);

pub(super) fn register(native: &NativeCallContext<'_>, name: &str, options: Map, work: FnPtr) -> RhaiResultOf<()> {
    let call = Call::new(native, "undo")?;
    Part::new(&call, options.clone(), Intent::default(), &work)?;
    let frame = frames::top();
    let key = frame.child_key(&format!("undo: {name}"));
    let registered = EventKind::UndoRegistered { key: key.clone(), step: frame.step };
    call.ctx().recorder().tell(registered).map_err(|error| lost(&call, error))?;
    let context = native.store_data();
    let compensation = Compensation { key, name: name.to_owned(), options, work, context };
    call.ctx().state::<Compensations>().0.lock().unwrap_or_else(PoisonError::into_inner).push(compensation);
    Ok(())
}

/// Takes the registered compensations, the last first; what is taken is not there any more.
pub fn compensations(ctx: &Ctx) -> Vec<Compensation> {
    let state = ctx.state::<Compensations>();
    let mut taken = std::mem::take(&mut *state.0.lock().unwrap_or_else(PoisonError::into_inner));
    taken.reverse();
    taken
}

impl Compensation {
    /// Runs it, as a step.
    ///
    /// # Errors
    ///
    /// What it threw; it is recorded already.
    pub fn run(&self, engine: &Engine) -> RhaiResultOf<()> {
        let native = self.context.create_context(engine);
        let call = Call::new(&native, "undo")?;
        let intent = Intent { key: self.key.clone(), name: self.name.clone(), attempt: 1, undo: true, ..Intent::default() };
        let (part, _) = Part::new(&call, self.options.clone(), intent, &self.work)?;
        perform(&call, &native, &part)?.map(drop)
    }
}
