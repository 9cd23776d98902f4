//! What makes a run stop: its limits, a person, its own record.

use std::sync::mpsc::SyncSender;
use std::time::Instant;

use super::{Message, PATIENCE, Supervisor};
use crate::error::{Error, Result};
use crate::host::StopReason;
use crate::model::RunState;
use crate::run::process::resident;
use crate::run::protocol::ToWorker;

/// A handle that can stop a run from elsewhere: a signal, a button.
#[derive(Clone)]
pub struct Control(pub(super) SyncSender<Message>);

impl Control {
    /// Asks the run to stop: the first time with clean-up, the second time at once. `exit_code` is what
    /// the command will end with.
    pub fn cancel(&self, exit_code: u8) {
        // A run that is over needs no stop.
        let _ = self.0.try_send(Message::Cancel(exit_code));
    }

    /// Asks the run to stop before its next step, as `interrupted`: it takes nothing back, and goes on later.
    /// The steps under way have until then. To be asked again changes nothing but the time.
    pub fn leave(&self, until: Instant) {
        // A run that is over needs no stop.
        let _ = self.0.try_send(Message::Leave(until));
    }
}

impl Supervisor<'_> {
    pub(super) fn cancel(&mut self, exit_code: u8) {
        if self.cancelled.replace(exit_code).is_some() {
            self.hurried = true;
            self.kill();
            return;
        }
        self.stop(StopReason::Cancelled);
    }

    fn stop(&mut self, reason: StopReason) {
        if self.stopping.is_none() {
            self.stopping = Some(reason);
            self.kill_at = Some(Instant::now() + PATIENCE);
            self.tell_worker(&ToWorker::Stop(reason));
        }
    }

    /// The limits, from outside: a script can not switch them off.
    pub(super) fn look(&mut self) {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.stop(StopReason::Time);
        }
        let most = self.request.limits.memory.0;
        if resident(self.worker.process.id()).is_some_and(|bytes| bytes > most + most / 4) {
            self.stopping = Some(StopReason::Memory);
            self.kill();
        }
        // While it waits for sub-runs, which clean up, it can not stop by itself.
        if self.kill_at.is_some_and(|at| now >= at) && self.below == 0 {
            self.kill();
        }
        self.look_at_leaving();
    }

    pub(super) fn kill(&mut self) {
        self.worker.kill();
    }

    pub(super) fn go_on(&self) -> Result<()> {
        self.halted.as_ref().map_or(Ok(()), |(_, error)| Err(error.clone()))
    }

    /// Stops the worker where it is: it does nothing more, and takes nothing back.
    pub(super) fn halt(&mut self, status: RunState, error: Error) -> Error {
        let error = error.permanent();
        self.halted = Some((status, error.clone()));
        self.kill_at = Some(Instant::now() + PATIENCE);
        self.tell_worker(&ToWorker::Stop(StopReason::Halted));
        error
    }
}
