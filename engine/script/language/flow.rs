//! What makes a script a procedure: steps, checks, parallel work, outputs.

use rhai::plugin::*;

use crate::host::{Call, RhaiResultOf};
use crate::model::EventKind;

/// Sends an event that belongs to the open step.
fn tell(native: &NativeCallContext<'_>, function: &'static str, event: EventKind) -> RhaiResultOf<()> {
    let call = Call::new(native, function)?;
    call.ctx().recorder().tell(event).map_err(|error| call.fail(error))
}

#[export_module]
#[expect(clippy::unwrap_used, reason = "rhai's macro writes one for each `&mut` parameter")]
pub mod api {
    use rhai::{Array, Dynamic, EvalAltResult, FnPtr, ImmutableString, Map};

    use super::tell;
    use crate::error::{Error, Kind};
    use crate::host::{Call, Question, RhaiResultOf, frames, value};
    use crate::model::{EventKind, Span};
    use crate::script::language::step::{self, Finished};
    use crate::script::language::{ask, parallel, run};

    /// The header of a runbook: its title, parameters and permissions, as one literal map at the top.
    ///
    /// It is read without running the script, so it does nothing here.
    ///
    /// ```rhai
    /// runbook(#{ title: "Nothing" });
    /// true
    /// ```
    pub fn runbook(_header: Map) {}

    /// Runs a named part of the procedure and records its value, so that an interrupted run need not
    /// do it again.
    ///
    /// Its intent is recorded before it starts and its value after it ended. The value must be plain
    /// data. Changing outer variables inside is an error of the check, since a replay would lose it.
    ///
    /// ```rhai
    /// step("add", || 1 + 2) == 3
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn step(native: NativeCallContext, name: &str, work: FnPtr) -> RhaiResultOf<Dynamic> {
        step::run(&native, name, Map::new(), &work)
    }

    /// As `step`, with options.
    ///
    /// Options: `retry` (how many more tries after an error that may pass), `backoff` (duration before the
    /// second try, doubled each time; 1 s when absent), `timeout`, and what holds when it was interrupted between
    /// its start and its result: `idempotent` (a key under which it may run again), `verify` (a closure that asks the
    /// world whether it is done: `false` or `()` runs it again, `true` or a value is its result), `on_doubt`
    /// (`stop` when absent: a person decides; or `redo`).
    ///
    /// ```rhai
    /// step("add", #{ retry: 2, timeout: "5s" }, || 1 + 2) == 3
    /// ```
    #[rhai_fn(name = "step", return_raw, volatile)]
    pub fn step_with(native: NativeCallContext, name: &str, options: Map, work: FnPtr) -> RhaiResultOf<Dynamic> {
        step::run(&native, name, options, &work)
    }

    /// Asks a named question and records its answer: `ok`, `warning`, `critical` or `unknown`.
    ///
    /// The closure returns a level, `true` (ok) or `false` (critical), a number that is compared with the
    /// limits, or a map of `level`, `detail`, `value`, `unit`. A closure that throws or returns nothing
    /// leaves the question unanswered: `unknown`, never `ok`.
    ///
    /// ```rhai
    /// check("one is one", || 1 == 1).level == "ok"
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn check(native: NativeCallContext, name: &str, question: FnPtr) -> RhaiResultOf<Dynamic> {
        step::ask(&native, name, Map::new(), &question)
    }

    /// As `check`, with options.
    ///
    /// Options: `metric` (the name of a threshold of the system, for its limits and unit), `limit` (`#{warn,
    /// alarm, below}` instead), `unit`, `timeout` (then `unknown`), `on_error` (the level when it throws).
    ///
    /// ```rhai
    /// check("disk", #{ limit: #{ warn: 80.0, alarm: 90.0 }, unit: "%" }, || 85.0).level == "warning"
    /// ```
    #[rhai_fn(name = "check", return_raw, volatile)]
    pub fn check_with(native: NativeCallContext, name: &str, options: Map, question: FnPtr) -> RhaiResultOf<Dynamic> {
        step::ask(&native, name, options, &question)
    }

    /// Asks people, and waits until one said yes, here or with `runbook approve RUN`.
    ///
    /// ```rhai
    /// let answer = "yes";
    /// try { ask("switch over to the standby?", #{ expires: "1s" }); } catch (no) { answer = no.kind; }
    /// answer == "timeout"
    /// ```
    ///
    /// Returns `approved` (true), `by` (who said yes), `reason`. A no is an error of kind `refused`, and no answer
    /// within an hour one of kind `timeout`; both end the run and take it back unless they are caught. The
    /// answer is recorded as a step, so a resumed run does not ask again. The time limit of the run goes on.
    #[rhai_fn(return_raw, volatile)]
    pub fn ask(native: NativeCallContext, question: &str) -> RhaiResultOf<Dynamic> {
        ask::run(&native, question, Map::new())
    }

    /// As `ask`, with options.
    ///
    /// Options: `approvers` (the accounts that may answer; everyone when absent), `quorum` (how many have to say yes,
    /// 1 when absent; with more, whoever started the run does not count), `expires` (duration, `1h` when
    /// absent), `reason` (why it is asked).
    #[rhai_fn(name = "ask", return_raw, volatile)]
    pub fn ask_with(native: NativeCallContext, question: &str, options: Map) -> RhaiResultOf<Dynamic> {
        ask::run(&native, question, options)
    }

    /// Runs another runbook as a part of this run, and waits for its end.
    ///
    /// ```rhai
    /// try { run("no-such-runbook"); } catch (error) { return error.kind == "not_found"; }
    /// ```
    ///
    /// It is a run of its own: with a number, a record, a process, the permissions of its own header and the limits
    /// and the lock of its own header; and a step of this run, so that a resumed run finds it again and never starts
    /// it twice. It is for the same system. Returns `run` (its number), `status`, `outputs` (by name), `checks` (as
    /// `check` returns them). One that failed, was skipped or cancelled is an error with its kind, whose target is its
    /// number.
    #[rhai_fn(name = "run", return_raw, volatile)]
    pub fn run_alone(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        run::run(&native, name, Map::new(), Map::new())
    }

    /// As `run`, with parameters.
    ///
    /// ```rhai
    /// try { run("no-such-runbook", #{ keep: 7 }); } catch (error) { return error.kind == "not_found"; }
    /// ```
    #[rhai_fn(name = "run", return_raw, volatile)]
    pub fn run_with(native: NativeCallContext, name: &str, params: Map) -> RhaiResultOf<Dynamic> {
        run::run(&native, name, params, Map::new())
    }

    /// As `run`, with parameters and options.
    ///
    /// Options: `system` (another one than that of this run, which needs `runs: ["elsewhere:NAME@SYSTEM"]`),
    /// `timeout` (how long it may take; as its header says when absent), `must_succeed` (true when absent; with
    /// false one that came to its end with bad checks, or failed, is returned and not thrown, with `error`).
    ///
    /// ```rhai
    /// try { run("no-such-runbook", #{}, #{ timeout: "5m" }); } catch (error) { return error.kind == "not_found"; }
    /// ```
    #[rhai_fn(name = "run", return_raw, volatile)]
    pub fn run_options(native: NativeCallContext, name: &str, params: Map, options: Map) -> RhaiResultOf<Dynamic> {
        run::run(&native, name, params, options)
    }

    /// Runs a closure for every item at the same time and returns the values in the order of the items.
    ///
    /// At most 64 run at once. All are run to their end; the first error by order is thrown, with its item.
    /// Return values instead of changing shared variables.
    ///
    /// ```rhai
    /// parallel([1, 2, 3], |n| n * 2) == [2, 4, 6]
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn parallel(native: NativeCallContext, items: Array, work: FnPtr) -> RhaiResultOf<Array> {
        parallel::run(&native, items, Map::new(), &work)
    }

    /// As `parallel`, with options.
    ///
    /// Options: `limit` (how many at once).
    ///
    /// ```rhai
    /// parallel([1, 2, 3], #{ limit: 1 }, |n| n + 1) == [2, 3, 4]
    /// ```
    #[rhai_fn(name = "parallel", return_raw, volatile)]
    pub fn parallel_with(native: NativeCallContext, items: Array, options: Map, work: FnPtr) -> RhaiResultOf<Array> {
        parallel::run(&native, items, options, &work)
    }

    /// Registers what takes the last step back. It runs when the run fails or is cancelled: the last
    /// registered first, each as a step of its own. It does not run on success.
    ///
    /// Register it outside of the step: what was registered inside of a finished step is not known to a resumed
    /// run, which then asks a person.
    ///
    /// ```rhai
    /// undo("nothing to take back", || ());
    /// true
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn undo(native: NativeCallContext, name: &str, work: FnPtr) -> RhaiResultOf<()> {
        step::register(&native, name, Map::new(), work)
    }

    /// As `undo`, with options: `timeout`, `idempotent`, `verify` and `on_doubt`, as of `step`.
    ///
    /// ```rhai
    /// undo("nothing to take back", #{ idempotent: "nothing" }, || ());
    /// true
    /// ```
    #[rhai_fn(name = "undo", return_raw, volatile)]
    pub fn undo_with(native: NativeCallContext, name: &str, options: Map, work: FnPtr) -> RhaiResultOf<()> {
        step::register(&native, name, options, work)
    }

    /// The key of the open step, 32 letters and digits: the same after a crash, in a resumed run and in another
    /// try; no other step, turn of a loop, branch or run has it. What has an effect can give it along, so that
    /// the other side knows a repetition; `http::` does so by itself in a step that is `idempotent`.
    ///
    /// Outside of steps it is an error.
    ///
    /// ```rhai
    /// step("one", || step_key()) != step("another", || step_key())
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn step_key(native: NativeCallContext) -> RhaiResultOf<String> {
        let call = Call::new(&native, "step_key")?;
        let outside = || call.fail(Error::new(Kind::Invalid, "there is no step around it").hint("call it in the closure of a `step`"));
        call.step_key().ok_or_else(outside)
    }

    /// Puts out a value under a name: a text, a number, a map, or a list of maps, which prints as a table.
    ///
    /// ```rhai
    /// output("sum", 1 + 2);
    /// true
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn output(native: NativeCallContext, name: &str, data: Dynamic) -> RhaiResultOf<()> {
        let call = Call::new(&native, "output")?;
        let plain = value::plain(&data).map_err(|error| call.fail(error))?;
        tell(&native, "output", EventKind::Output { name: name.to_owned(), value: plain })
    }

    /// Keeps a text as a file with the run; `runbook report RUN --file NAME` prints it.
    ///
    /// Options: `file` (the name of the file).
    #[rhai_fn(name = "output", return_raw, volatile)]
    pub fn output_file(native: NativeCallContext, name: &str, text: &str, options: Map) -> RhaiResultOf<()> {
        let call = Call::new(&native, "output")?;
        let options: step::OutputOptions = call.options(options)?;
        let file = options.file.unwrap_or_else(|| name.to_owned());
        let kept = call.ctx().recorder().ask(Question::Keep { name: file, content: text.to_owned() }).map_err(|error| call.fail(error))?;
        tell(&native, "output", EventKind::Output { name: name.to_owned(), value: kept.into_value() })
    }

    /// Adds a line to the log of the run.
    ///
    /// ```rhai
    /// log("looking around");
    /// true
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn log(native: NativeCallContext, text: &str) -> RhaiResultOf<()> {
        tell(&native, "log", EventKind::Log { step: frames::step_key(), text: text.to_owned() })
    }

    /// Tells what is being done, for people who watch; nothing is kept.
    ///
    /// ```rhai
    /// progress("4 of 6 healthy");
    /// true
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn progress(native: NativeCallContext, text: &str) -> RhaiResultOf<()> {
        tell(&native, "progress", EventKind::Progress { step: frames::step_key(), text: text.to_owned(), done: None })
    }

    /// As `progress`, with how much is done, from 0 to 1.
    ///
    /// ```rhai
    /// progress("copying", 0.5);
    /// true
    /// ```
    #[rhai_fn(name = "progress", return_raw, volatile)]
    pub fn progress_done(native: NativeCallContext, text: &str, done: f64) -> RhaiResultOf<()> {
        tell(&native, "progress", EventKind::Progress { step: frames::step_key(), text: text.to_owned(), done: Some(done.clamp(0.0, 1.0)) })
    }

    /// Waits; ends at once when the run has to stop.
    ///
    /// ```rhai
    /// wait("1ms");
    /// true
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn wait(native: NativeCallContext, duration: &str) -> RhaiResultOf<()> {
        let call = Call::new(&native, "wait")?;
        let span: Span = duration.parse().map_err(|error| call.fail(error))?;
        call.pause(span.0)
    }

    /// Waits so many seconds; `wait("5s")` says the unit.
    #[rhai_fn(name = "sleep", return_raw, volatile)]
    pub fn sleep(native: NativeCallContext, seconds: i64) -> RhaiResultOf<()> {
        wait(native, &format!("{}s", seconds.max(0)))
    }

    /// Waits so many seconds; `wait("500ms")` says the unit.
    #[rhai_fn(name = "sleep", return_raw, volatile)]
    pub fn sleep_float(native: NativeCallContext, seconds: f64) -> RhaiResultOf<()> {
        wait(native, &format!("{}ms", (seconds.clamp(0.0, 1e12) * 1000.0) as u64))
    }

    /// Ends the run here, successfully; works everywhere, also inside closures.
    #[rhai_fn(return_raw, volatile)]
    pub fn finish(native: NativeCallContext) -> RhaiResultOf<()> {
        Err(EvalAltResult::ErrorTerminated(Dynamic::from(Finished), native.call_position()).into())
    }

    /// Ends the run here, successfully; `finish()` says what it does.
    #[rhai_fn(name = "exit", return_raw, volatile)]
    pub fn exit(native: NativeCallContext) -> RhaiResultOf<()> {
        finish(native)
    }

    /// Ends the run here, successfully; the value is dropped.
    #[rhai_fn(name = "exit", return_raw, volatile)]
    pub fn exit_with(native: NativeCallContext, _value: Dynamic) -> RhaiResultOf<()> {
        finish(native)
    }

    /// Throws an error with a message that a person can act on.
    ///
    /// ```rhai
    /// try { fail("no room"); } catch (error) { return error.message == "no room"; }
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn fail(native: NativeCallContext, message: &str) -> RhaiResultOf<()> {
        Err(step::thrown(Error::new(Kind::Failed, message), native.call_position()))
    }

    /// As `fail`, with what to do next.
    ///
    /// ```rhai
    /// try { fail("no room", "free some"); } catch (error) { return error.hint == "free some"; }
    /// ```
    #[rhai_fn(name = "fail", return_raw, volatile)]
    pub fn fail_with(native: NativeCallContext, message: &str, hint: &str) -> RhaiResultOf<()> {
        Err(step::thrown(Error::new(Kind::Failed, message).hint(hint), native.call_position()))
    }

    /// There is no clock outside the journal: use `time::now()`.
    #[rhai_fn(name = "timestamp", return_raw, volatile)]
    pub fn timestamp(native: NativeCallContext) -> RhaiResultOf<()> {
        Err(step::thrown(Error::new(Kind::Invalid, "`timestamp` can not be recorded").hint("use `time::now()`"), native.call_position()))
    }

    /// The message of an error that was thrown as a text, so that `error.message` always works.
    #[rhai_fn(get = "message", pure)]
    pub fn message(text: &mut ImmutableString) -> ImmutableString {
        text.clone()
    }
}
