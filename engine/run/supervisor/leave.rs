//! A run that has to stop, to go on later: its supervisor goes away, and its journal stays.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Supervisor, ToWorker};
use crate::error::{Error, Kind};
use crate::model::{RunState, StepState};

impl Supervisor<'_> {
    /// From here on no step starts. What is under way has until then.
    pub(super) fn leave(&mut self, until: Instant) {
        self.leaving = Some(self.leaving.map_or(until, |before| before.min(until)));
        self.look_at_leaving();
    }

    /// Stops where nothing is under way, or where there is no more time.
    pub(super) fn look_at_leaving(&mut self) {
        let Some(until) = self.leaving.filter(|_| self.halted.is_none()) else { return };
        if !self.is_between_steps() && Instant::now() < until {
            return;
        }
        let error = self.halt(RunState::Interrupted, left());
        let below = std::mem::take(&mut self.left_below).into_iter().map(|(id, _)| id);
        for id in std::mem::take(&mut self.held).into_iter().map(|(id, _)| id).chain(below) {
            self.tell_worker(&ToWorker::Reply { id, reply: Err(error.clone()) });
        }
        self.leave_persons(&error);
    }

    /// Whether every step under way waits for one inside of it that is held back, for a sub-run that left, or for a person.
    fn is_between_steps(&self) -> bool {
        let mut parked: BTreeSet<&str> = BTreeSet::new();
        let held = self.held.iter().map(|(_, intent)| intent.within.as_str());
        let below = self.left_below.iter().map(|(_, step)| step.as_str());
        for step in held.chain(below).chain(self.asked_in()) {
            let around = |step: &&str| self.around.get(*step).map(String::as_str);
            parked.extend(std::iter::successors(Some(step), around));
        }
        self.run.steps.iter().filter(|step| step.status == StepState::Running).all(|step| parked.contains(step.key.as_str()))
    }
}

/// Why a run stopped that goes on later.
pub(super) fn left() -> Error {
    Error::new(Kind::Cancelled, "the daemon that watched over it stopped").hint("it goes on by itself when the daemon is back")
}
