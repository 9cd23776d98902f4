//! The end of a run: nothing of its worker is left, and the record says how it ended.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::worker::end_orphans;
use super::{PATIENCE, Supervisor};
use crate::error::{Error, Kind, Result};
use crate::host::{SECRET_FILES, StopReason};
use crate::model::{Event, EventKind, Run, RunState};
use crate::store::now;

impl Supervisor<'_> {
    /// Writes down how the run ended. That is durable when this returns.
    pub(super) fn conclude(
        &mut self,
        error: Option<Error>,
        stopped: Option<StopReason>,
        watch: &mut dyn FnMut(&Run, &Event),
    ) -> Result<()> {
        self.tell_what_is_left_out(watch)?;
        let missed = if error.is_none() { self.journal.ended("", true) } else { None };
        let missed = missed.filter(|_| self.compensation.is_none()).map(|key| self.diverged(&key, "the script ended without it"));
        let (status, error) = match (self.halted.take(), self.compensation.take()) {
            (Some((status, error)), _) => (status, Some(error)),
            (None, Some(compensation)) => (compensation.status, Some(compensation.error)),
            (None, None) => (self.status_of(stopped, error.as_ref()), error.or(missed)),
        };
        let exit_code = self.exit_code(status, error.as_ref());
        let told = self.event(EventKind::Ended { status, exit_code, error }, watch);
        self.commit()?;
        told
    }

    /// The record says that it is not complete, and still how the run ended.
    fn tell_what_is_left_out(&mut self, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        if self.log.dropped() == 0 {
            return Ok(());
        }
        let text = format!("limit: output: {} bytes of the log were left out", self.log.dropped());
        let event = Event { at: now(), kind: EventKind::Log { step: String::new(), text } };
        watch(&self.run, &event);
        self.log.make_room();
        self.log.append(std::slice::from_ref(&event))
    }

    fn exit_code(&self, status: RunState, error: Option<&Error>) -> u8 {
        match (status, error.map(|error| error.kind)) {
            (RunState::Succeeded, _) => 0,
            (RunState::Warning, _) => 3,
            (RunState::Cancelled, _) => self.cancelled.unwrap_or(130),
            (RunState::TimedOut, _) => 124,
            (RunState::NeedsAttention, _) => 5,
            (_, Some(Kind::Bug)) => 70,
            (_, Some(Kind::Store)) => 8,
            _ => 1,
        }
    }

    /// How a run stands that ended like this.
    pub(super) fn status_of(&self, stopped: Option<StopReason>, error: Option<&Error>) -> RunState {
        match (stopped.or(self.stopping.filter(|_| error.is_some())), error) {
            (Some(StopReason::Cancelled), _) => RunState::Cancelled,
            (Some(StopReason::Time), _) => RunState::TimedOut,
            (Some(StopReason::Lost), _) => RunState::Interrupted,
            (Some(StopReason::Halted), _) => RunState::NeedsAttention,
            (Some(StopReason::Memory | StopReason::Processes | StopReason::ProgramMemory), _) | (None, Some(_)) => RunState::Failed,
            (None, None) => self.run.verdict(),
        }
    }

    /// Leaves nothing of the worker: no process, no file with a secret.
    pub(super) fn finish_worker(&mut self) -> Option<ExitStatus> {
        self.input = None;
        let status = self.reap();
        if self.request.within.is_none() {
            end_orphans();
        }
        // A worker that was killed could not remove them.
        let _ = std::fs::remove_dir_all(self.state.work(self.run.run).join(SECRET_FILES));
        self.state.drop_work(self.run.run);
        status
    }

    fn reap(&mut self) -> Option<ExitStatus> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.worker.process.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_micros(200)),
                _ => {
                    self.worker.end();
                    return self.worker.process.try_wait().ok().flatten();
                }
            }
        }
    }

    /// What to say of a worker that vanished without a word.
    pub(super) fn crash(&self, status: Option<ExitStatus>, last_words: &str) -> Error {
        use std::os::unix::process::ExitStatusExt;
        if let Some(reason) = self.stopping {
            let kind = if reason == StopReason::Cancelled { Kind::Cancelled } else { Kind::Limit };
            return Error::new(kind, reason.message());
        }
        let signal = status.and_then(|status| status.signal()).and_then(signal_name);
        let how = signal.map(str::to_owned).unwrap_or_else(|| status.map_or("no status".to_owned(), |status| status.to_string()));
        if status.as_ref().is_some_and(was_killed) {
            return Error::new(Kind::Limit, format!("the worker was killed: {how}"))
                .code("RB3102")
                .hint("somebody ended it, or the machine ran out of memory")
                .hint(format!("it goes on where it stopped with `runbook resume {}`", self.run.run));
        }
        let error = Error::new(Kind::Limit, format!("the worker crashed: {how}")).code("RB3102");
        let reason = last_words.lines().find(|line| line.contains("overflow") || line.contains("memory allocation"));
        match reason {
            Some(reason) => error.hint(self.redactor.text(reason.trim())),
            None => error.hint("a script can only crash its own worker; look for values that nest or grow without end"),
        }
    }
}

/// Whether somebody else ended a process, which says nothing about the script.
pub(super) fn was_killed(status: &ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    matches!(status.signal(), Some(9 | 15))
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        _ => return None,
    })
}
