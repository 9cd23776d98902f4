//! The turn of a run: it waits for its lock as its header says.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::begin::spend;
use super::{LOOK, Message, Supervisor, leave};
use crate::error::{Error, Kind, Result};
use crate::model::{Event, EventKind, Run, RunState, WhenLocked};
use crate::run::daemon::ask_to_stop;
use crate::run::lock::{Lock, LockRequest, Owner, Taken, owner_of};
use crate::store::now;

/// How long a lock may be held by nobody in particular before it counts as held.
const NAMELESS: Duration = Duration::from_millis(500);

/// How long a run that is replaced may clean up.
const REPLACE_PATIENCE: Duration = Duration::from_secs(120);

/// Why a run ended before it began.
pub(super) struct NotBegun(pub(super) RunState, pub(super) u8, pub(super) Error);

/// A lock that can not be had at all.
impl From<Error> for NotBegun {
    fn from(error: Error) -> Self {
        Self(RunState::Skipped, 8, error)
    }
}

impl Supervisor<'_> {
    /// Waits until the lock is free, if there is one, and makes the plan its own.
    pub(super) fn wait_for_turn(&mut self, watch: &mut dyn FnMut(&Run, &Event)) -> Result<(), NotBegun> {
        if let Some(wanted) = self.request.lock.clone() {
            self.wait_for_lock(&wanted, watch)?;
        }
        // The limit on time is for the work, not for the wait before it.
        self.deadline = self.request.limits.time.and_then(|limit| Instant::now().checked_add(limit.0));
        spend(self.store, &self.request, self.run.id).map_err(|error| NotBegun(RunState::Skipped, 6, error))
    }

    /// Waits until the other run gives the lock up, as the header says.
    fn wait_for_lock(&mut self, wanted: &LockRequest, watch: &mut dyn FnMut(&Run, &Event)) -> Result<(), NotBegun> {
        let name = Lock::turns(self.state, &wanted.name, self.request.within.as_ref());
        match Lock::take(self.state, &name)? {
            Taken::Now(lock, left) => return Ok(self.hold(lock, left)?),
            Taken::Above => return Ok(()),
            Taken::ByOther(Some(_)) if wanted.when == WhenLocked::Fail => {}
            // Nobody's name on it: somebody is about to begin, or had given up when the turn came, and drops it at once.
            Taken::ByOther(_) => self.queue_for(&name)?,
        }
        self.wait_in_line(&name, wanted.when, watch)
    }

    fn queue_for(&self, name: &str) -> Result<()> {
        let messages = self.control.0.clone();
        let turn = move |held| {
            // Who waits no longer gives the turn to the next one.
            let _ = messages.send(Message::Turn(held));
        };
        Lock::queue(self.state, name, turn)
    }

    fn wait_in_line(&mut self, name: &str, when: WhenLocked, watch: &mut dyn FnMut(&Run, &Event)) -> Result<(), NotBegun> {
        let until = Instant::now().checked_add(patience(when));
        let mut asked = None;
        loop {
            let owner = owner_of(self.state, name);
            let holder = holder(owner.as_ref());
            if until.is_some_and(|until| Instant::now() >= until) || (when == WhenLocked::Fail && owner.is_some()) {
                return Err(NotBegun(RunState::Skipped, 6, locked(name, &holder, owner.as_ref(), when)));
            }
            if owner.is_some() && owner != asked {
                let told = self.ask_for(name, &holder, owner.as_ref(), when, watch);
                told.map_err(|error| NotBegun(RunState::Skipped, 6, error))?;
                asked = owner;
            }
            match self.messages.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Turn(held)) => return Ok(held.and_then(|(lock, left)| self.hold(lock, left))?),
                message => return Err(not_begun(name, message.ok())),
            }
        }
    }

    /// Says what is waited for, and asks a run that is to be replaced to stop.
    fn ask_for(
        &mut self,
        name: &str,
        holder: &str,
        owner: Option<&Owner>,
        when: WhenLocked,
        watch: &mut dyn FnMut(&Run, &Event),
    ) -> Result<()> {
        let text = if when == WhenLocked::Replace {
            format!("replaces {holder}, which holds `{name}` and cleans up first")
        } else {
            format!("waits for `{name}`, held by {holder}")
        };
        self.event(EventKind::Log { step: String::new(), text }, watch)?;
        let Some(owner) = owner.filter(|_| when == WhenLocked::Replace) else { return Ok(()) };
        ask_to_stop(self.state, owner.run, owner.supervisor).map_err(|error| {
            Error::new(Kind::NotStarted, format!("{holder} holds `{name}` and can not be replaced: {}", error.message))
                .hint(format!("it was started by {}", owner.by))
        })
    }

    /// The run holds its lock from here on.
    pub(super) fn hold(&mut self, mut lock: Lock, left: Option<Owner>) -> Result<()> {
        lock.belongs_to(&self.run, self.worker.process.id(), now())?;
        self.lock = Some(lock);
        self.left = left;
        Ok(())
    }

    /// What a run that was cut off left is for a person to look at, and this one begins with it.
    pub(super) fn tell_who_left(&mut self, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        // A run that goes on left it itself.
        let Some(Owner { lock, run, runbook, .. }) = self.left.take().filter(|left| left.run != self.run.run) else { return Ok(()) };
        let text = format!("`{lock}` was left by {runbook} #{run}, which was cut off: see `runbook report {run}`");
        self.event(EventKind::Log { step: String::new(), text }, watch)
    }
}

/// How long a run waits for its lock.
fn patience(when: WhenLocked) -> Duration {
    match when {
        WhenLocked::Fail => NAMELESS,
        WhenLocked::Wait(patience) => patience.0,
        WhenLocked::Replace => REPLACE_PATIENCE,
    }
}

/// What a run that waits is told instead of that it is its turn.
fn not_begun(name: &str, message: Option<Message>) -> NotBegun {
    match message {
        Some(Message::Cancel(exit_code)) => {
            let error = Error::new(Kind::Cancelled, format!("cancelled while it waited for `{name}`"));
            NotBegun(RunState::Cancelled, exit_code, error)
        }
        Some(Message::Leave(_)) => NotBegun(RunState::Interrupted, 1, leave::left()),
        _ => NotBegun(RunState::Interrupted, 8, Error::new(Kind::Bug, "the worker ended before it got its work")),
    }
}

/// Why a run did not get its lock, and what can be done.
fn locked(name: &str, holder: &str, owner: Option<&Owner>, when: WhenLocked) -> Error {
    let error = Error::new(Kind::NotStarted, format!("`{name}` is held by {holder}")).target(name);
    let Some(Owner { run, .. }) = owner else { return error };
    match when {
        WhenLocked::Fail => error.hint("wait for it: `--when-locked 'wait 10m'`, or `when_locked` in the header"),
        WhenLocked::Wait(_) => error.hint(format!("see what it does: `runbook logs {run} -f`")),
        WhenLocked::Replace => error.hint(format!("it still cleans up; at once: `runbook cancel {run} --now`")),
    }
}

/// Who holds a lock, for people.
pub(super) fn holder(owner: Option<&Owner>) -> String {
    owner.map_or_else(|| "a run that is just starting".to_owned(), |owner| owner.in_words(now()))
}
