//! One call of a host function: permission, options, waiting, effects and errors, the same for all.

use std::future::Future;
use std::time::{Duration, Instant};

use rhai::{Dynamic, EvalAltResult, Map, NativeCallContext, Position};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::host::stand_in::Unanswered;
use crate::host::{Access, Ctx, Gate, Mode, OptionError, SecretText, frames, plan, read_options, value};
use crate::model::{Effect, EventKind, Intent, Outcome};
use crate::words;

/// The result of a host function; the alias shows as its plain type in the reference.
pub type RhaiResultOf<T> = std::result::Result<T, Box<EvalAltResult>>;

/// One call of a host function.
pub struct Call<'a> {
    native: &'a NativeCallContext<'a>,
    ctx: Ctx,
    function: &'a str,
}

impl<'a> Call<'a> {
    /// A call of `function`, as in `docker::restart`.
    ///
    /// # Errors
    ///
    /// When the engine runs no run: in the lint and in documentation nothing is called.
    pub fn new(native: &'a NativeCallContext<'a>, function: &'a str) -> RhaiResultOf<Self> {
        match native.tag().and_then(|tag| tag.read_lock::<Ctx>().map(|ctx| ctx.clone())) {
            Some(ctx) => {
                plan::must_be_fresh(&ctx, function, native.call_position())?;
                Ok(Self { native, ctx, function })
            }
            None => {
                Err(EvalAltResult::ErrorRuntime(format!("`{function}` can only be called in a run").into(), native.call_position()).into())
            }
        }
    }

    /// The context of the run.
    pub fn ctx(&self) -> &Ctx {
        &self.ctx
    }

    /// Where the script calls.
    pub fn position(&self) -> Position {
        self.native.call_position()
    }

    /// Asks whether the permissions cover this access; the one place is [`crate::host::Permissions`].
    ///
    /// # Errors
    ///
    /// `denied`, naming the grant that is missing.
    pub fn permit(&self, access: &Access<'_>) -> RhaiResultOf<()> {
        self.ctx.permissions().check(access).map(drop).map_err(|error| self.fail(error))
    }

    /// Refuses what no grant of this verb covers, before anything is looked at that the call was given.
    ///
    /// # Errors
    ///
    /// `denied`, naming the grant that is missing.
    pub fn permit_any(&self, section: &str, verb: &str) -> RhaiResultOf<()> {
        if self.ctx.permissions().could(section, verb) {
            return Ok(());
        }
        self.permit(&Access::word(section, verb, "*"))
    }

    /// Reads the options map.
    ///
    /// # Errors
    ///
    /// `invalid`, naming the key, with the known keys or the expected type.
    pub fn options<T: DeserializeOwned>(&self, options: Map) -> RhaiResultOf<T> {
        read_options(&Dynamic::from_map(options)).map_err(|wrong| self.wrong_option(&wrong))
    }

    /// Says what is wrong with the options map.
    pub(crate) fn wrong_option(&self, wrong: &OptionError) -> Box<EvalAltResult> {
        let mut error = if wrong.is_unknown_key() {
            Error::new(Kind::Invalid, format!("unknown option `{}`", wrong.path))
                .hint(format!("the options are {}", words::list(&wrong.known)))
        } else {
            Error::new(Kind::Invalid, format!("option `{}`: {}", wrong.path, wrong.message))
        };
        if let Some(near) = words::nearest(&wrong.path, &wrong.known) {
            error = error.hint(format!("did you mean `{near}`?"));
        }
        self.fail(error)
    }

    /// The value of an option that may be a secret, when the run may use that secret for this sink: what it
    /// is sent to, by all its names, any of which may be granted.
    ///
    /// # Errors
    ///
    /// `denied` without the grant, `not_found` when it is not set.
    pub fn open(&self, text: &SecretText, sink: &[Access<'_>]) -> RhaiResultOf<String> {
        match text {
            SecretText::Plain(text) => Ok(text.clone()),
            SecretText::Secret(name) => {
                self.ctx.permissions().check_secret(name, sink).map_err(|error| self.fail(error))?;
                self.ctx.secrets().value(name).map(str::to_owned).map_err(|error| self.fail(error))
            }
        }
    }

    /// Blocks the script's thread on async work; ends at once when the run or the step has to stop.
    ///
    /// The work is made inside the runtime, so timers in it find their reactor.
    ///
    /// # Errors
    ///
    /// As the work fails; a stop can not be caught by the script.
    pub fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> RhaiResultOf<T> {
        let deadline = frames::deadline();
        let runtime = self.ctx.runtime().map_err(|error| self.fail(error))?;
        runtime.block_on(async {
            let out_of_time = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                reason = self.ctx.stop().stopped() => Err(EvalAltResult::ErrorTerminated(Dynamic::from(reason), self.position()).into()),
                () = out_of_time => Err(EvalAltResult::ErrorTerminated(Dynamic::from(OutOfTime), self.position()).into()),
                done = work => done.map_err(|error| self.fail(error)),
            }
        })
    }

    /// Lets time go by; ends at once when the run or the step has to stop.
    ///
    /// # Errors
    ///
    /// A stop, which can not be caught by the script.
    pub fn pause(&self, time: Duration) -> RhaiResultOf<()> {
        if self.ctx.skips(time) {
            return Ok(());
        }
        self.wait(async move {
            tokio::time::sleep(time).await;
            Ok(())
        })
    }

    /// Changes the world, as part of the open step, or as a step of its own outside of steps.
    ///
    /// The effect is durable in the journal before `work` starts. In a plan it is told instead, and
    /// `planned` is returned.
    ///
    /// # Errors
    ///
    /// As `work` fails, or when the journal can not be written.
    pub fn effect<T: Serialize + DeserializeOwned>(
        &self,
        effect: Effect,
        planned: T,
        work: impl Future<Output = Result<T>>,
    ) -> RhaiResultOf<T> {
        self.effect_by_key(effect, planned, |_| work)
    }

    /// As [`Call::effect`], for targets that can remember what they did: `work` gets a key that is the
    /// same whenever this call of this step is made again, and no other.
    ///
    /// # Errors
    ///
    /// As `work` fails, or when the journal can not be written.
    pub fn effect_by_key<T: Serialize + DeserializeOwned, W: Future<Output = Result<T>>>(
        &self,
        effect: Effect,
        planned: T,
        work: impl FnOnce(String) -> W,
    ) -> RhaiResultOf<T> {
        let frame = frames::top();
        let is_plan = self.ctx.mode() == Mode::Plan;
        if frame.is_step {
            plan::meet(&self.ctx, &frame.key, &effect, self.position())?;
            self.record(&frame.step, effect)?;
            let key = format!("{}/{}/{}", self.ctx.run().id, frame.key, frame.occurrence(&format!("\0{}", self.function)));
            return if is_plan { Ok(planned) } else { self.wait(work(key)) };
        }
        let name = plan::without_marks(&format!("{} {}", self.function, effect.target));
        let key = frame.child_key(&name);
        let started = Instant::now();
        let intent = Intent { key: key.clone(), name, attempt: 1, frame: Some(frame.key), within: frame.step, ..Intent::default() };
        match self.ctx.recorder().begin(intent).map_err(|error| self.fail(error))? {
            // What a person declared done has no value of this shape; it is as in a plan.
            Gate::Done(done) => {
                self.ctx.was_done(&key);
                return Ok(serde_json::from_value(done).unwrap_or(planned));
            }
            Gate::Failed(error) => {
                self.ctx.was_done(&key);
                return Err(self.fail(error));
            }
            Gate::TakeBack => return Err(EvalAltResult::ErrorTerminated(Dynamic::from(TakeBack), self.position()).into()),
            Gate::Go | Gate::Twice | Gate::Verify => {}
        }
        let met = plan::meet(&self.ctx, &key, &effect, self.position());
        let result = met.and_then(|()| self.record(&key, effect)).and_then(|()| {
            let _open = frames::open_step(key.clone(), None, None);
            if is_plan { Ok(planned) } else { self.wait(work(format!("{}/{key}/1", self.ctx.run().id))) }
        });
        let outcome = match &result {
            Ok(value) => Outcome::Value(serde_json::to_value(value).unwrap_or(Value::Null)),
            Err(error) => Outcome::Error(error_of(error)),
        };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ctx.recorder().end(&key, outcome, duration_ms).map_err(|error| self.fail(error))?;
        result
    }

    fn record(&self, key: &str, effect: Effect) -> RhaiResultOf<()> {
        self.ctx.recorder().effect(key, effect).map_err(|error| self.fail(error))
    }

    /// The key of the open step for whoever changes the world in it: the same after a crash, in a
    /// resumed run and in another try, and no other step, turn of a loop, branch or run has it.
    /// Nothing outside of steps.
    pub fn step_key(&self) -> Option<String> {
        let frame = frames::top();
        let declared = frame.idempotent.as_deref().unwrap_or_default();
        frame.is_step.then(|| digest(&format!("{}\0{}\0{declared}", self.ctx.run().id, frame.key)))
    }

    /// The key under which one call of a step that declares to be `idempotent` may be made again.
    pub fn idempotency_key(&self) -> Option<String> {
        let frame = frames::top();
        frame.idempotent.as_ref()?;
        let key = self.step_key()?;
        match frame.occurrence("\0idempotent") {
            1 => Some(key),
            count => Some(format!("{key}-{count}")),
        }
    }

    /// What is read outside of any step and decides what comes after, such as the clock: recorded, so
    /// that a resumed run gets it again. In a step it is read anew with the step.
    ///
    /// # Errors
    ///
    /// When the journal can not be written.
    pub fn recorded<T: Serialize + DeserializeOwned>(&self, read: impl FnOnce() -> T) -> RhaiResultOf<T> {
        let frame = frames::top();
        if frame.is_step {
            return Ok(read());
        }
        let key = frame.child_key(self.function);
        let recorder = self.ctx.recorder();
        if let Some(value) = recorder.recall(&key).and_then(|value| serde_json::from_value(value).ok()) {
            return Ok(value);
        }
        let value = read();
        let event = EventKind::Read { key, value: serde_json::to_value(&value).unwrap_or(Value::Null) };
        // It is durable with the next intent, and nothing is done before that.
        recorder.tell(event).map_err(|error| self.fail(error))?;
        Ok(value)
    }

    /// The script value of a host value.
    ///
    /// # Errors
    ///
    /// `bug` only.
    pub fn value(&self, host_value: &impl Serialize) -> RhaiResultOf<Dynamic> {
        value::to_dynamic(host_value).map_err(|error| self.fail(error))
    }

    /// The script value of what an effect answered; in a plan nobody knows it.
    ///
    /// # Errors
    ///
    /// `bug` only.
    pub fn answer(&self, host_value: &impl Serialize) -> RhaiResultOf<Dynamic> {
        match self.ctx.mode() {
            Mode::Plan => Ok(plan::unknown(self.function)),
            Mode::Apply | Mode::Test => self.value(host_value),
        }
    }

    /// Ends what can be predicted when an earlier effect of a plan may have changed what this call
    /// looks at. Asked of itself for functions that always read; for others, by what they are given.
    ///
    /// # Errors
    ///
    /// What no script can catch, in a plan only.
    pub fn must_be_fresh(&self) -> RhaiResultOf<()> {
        plan::reads(&self.ctx, self.function, self.position())
    }

    /// The error a script sees: a map it can catch, at the place of the call.
    pub fn fail(&self, error: Error) -> Box<EvalAltResult> {
        let error = match error.target {
            None => error.context(self.function),
            Some(_) => error,
        };
        EvalAltResult::ErrorRuntime(thrown(&error, self.position()), self.position()).into()
    }
}

/// What ends a script that takes back what it did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakeBack;

fn digest(text: &str) -> String {
    use sha2::{Digest, Sha256};
    words::hex(&Sha256::digest(text.as_bytes())[..16])
}

/// A step or check that has no time left; its owner turns it into an error of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutOfTime;

/// The map a script catches for an error.
pub(crate) fn thrown(error: &Error, position: Position) -> Dynamic {
    let mut map = Map::new();
    map.insert("kind".into(), error.kind.name().into());
    map.insert("message".into(), error.message.as_str().into());
    map.insert("target".into(), error.target.as_deref().map_or(Dynamic::UNIT, Into::into));
    map.insert("retryable".into(), error.retryable.into());
    map.insert("code".into(), error.code.as_deref().map_or(Dynamic::UNIT, Into::into));
    map.insert("hint".into(), error.hints.first().map_or(Dynamic::UNIT, |hint| hint.as_str().into()));
    map.insert("line".into(), position.line().map_or(Dynamic::UNIT, |line| i64::try_from(line).unwrap_or(0).into()));
    Dynamic::from_map(map)
}

/// The error in what a script threw; the inverse of [`thrown`], and more forgiving.
pub(crate) fn error_of(error: &EvalAltResult) -> Error {
    let inner = error.unwrap_inner();
    let thrown = match inner {
        EvalAltResult::ErrorRuntime(thrown, _) => thrown,
        EvalAltResult::ErrorTerminated(reason, _) => return stop_error(reason),
        other => return Error::new(Kind::Failed, other.to_string()),
    };
    let Ok(map) = thrown.as_map_ref() else {
        return Error::new(Kind::Failed, thrown.to_string());
    };
    let text = |key: &str| map.get(key).and_then(|value| value.clone().into_string().ok());
    let kind = text("kind").and_then(|kind| serde_json::from_value(Value::String(kind)).ok()).unwrap_or(Kind::Failed);
    let mut error = Error::new(kind, text("message").unwrap_or_else(|| thrown.to_string()));
    error.target = text("target");
    error.code = text("code");
    error.hints.extend(text("hint"));
    error.retryable = map.get("retryable").and_then(|flag| flag.as_bool().ok()).unwrap_or(error.retryable);
    error
}

fn stop_error(reason: &Dynamic) -> Error {
    use crate::host::StopReason;
    if reason.is::<TakeBack>() {
        return Error::new(Kind::Cancelled, "the run takes back what it did");
    }
    if let Some(unpredictable) = reason.read_lock::<plan::Unpredictable>() {
        return unpredictable.error();
    }
    if let Some(drift) = reason.read_lock::<plan::Drift>() {
        return drift.0.clone();
    }
    if let Some(unanswered) = reason.read_lock::<Unanswered>() {
        return unanswered.0.clone();
    }
    match reason.clone().try_cast::<StopReason>() {
        Some(reason @ StopReason::Cancelled) => Error::new(Kind::Cancelled, reason.message()),
        Some(reason @ (StopReason::Time | StopReason::Memory | StopReason::Processes | StopReason::ProgramMemory)) => {
            Error::new(Kind::Limit, reason.message())
        }
        Some(reason @ (StopReason::Lost | StopReason::Halted)) => Error::new(Kind::Store, reason.message()),
        None => Error::new(Kind::Timeout, "it took longer than it may"),
    }
}
