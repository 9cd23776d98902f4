//! Steps: what earlier workers left of them decides whether they start.

use std::time::Instant;

use super::{PATIENCE, Supervisor};
use crate::error::{Error, Kind, Result};
use crate::host::{Gate, StopReason};
use crate::model::{Compensation, Event, EventKind, Intent, Outcome, Run, RunState, StepState};
use crate::run::faults;
use crate::run::journal::{Past, Verdict};

impl Supervisor<'_> {
    /// A step wants to start: whether it may, by what earlier workers left of it.
    pub(super) fn gate(&mut self, intent: Intent, watch: &mut dyn FnMut(&Run, &Event)) -> Result<Gate> {
        self.go_on()?;
        let attempts = self.journal.attempts(&intent.key);
        let verdict = self.journal.begin(&intent);
        let gate = match verdict {
            Verdict::Value(value) => return Ok(Gate::Done(value)),
            Verdict::Error(error) => return Ok(Gate::Failed(error)),
            Verdict::Diverged(why) => return Err(self.diverged(&intent.key, &why)),
            _ if self.compensation.is_some() && !intent.undo && !self.is_compensating(&intent) => return Ok(Gate::TakeBack),
            Verdict::Doubt(past) => return Err(self.doubt(&past, None)),
            Verdict::Verify(past) => {
                self.doubtful.insert(intent.key.clone(), *past);
                Gate::Verify
            }
            Verdict::Run if self.request.faults.repeats(&intent) => Gate::Twice,
            Verdict::Run => Gate::Go,
        };
        let fails = !intent.undo && self.request.faults.fails(&intent);
        let key = intent.key.clone();
        self.around.insert(key.clone(), intent.within.clone());
        self.event(EventKind::StepStarted(Intent { attempt: attempts + intent.attempt, ..intent }), watch)?;
        if fails { self.fail_on_purpose(key, watch) } else { Ok(gate) }
    }

    fn fail_on_purpose(&mut self, key: String, watch: &mut dyn FnMut(&Run, &Event)) -> Result<Gate> {
        let error = Error::new(Kind::Failed, format!("step `{key}` fails because of `--fail-at`"));
        self.event(EventKind::StepEnded { key, outcome: Outcome::Error(error.clone()), duration_ms: 0 }, watch)?;
        Ok(Gate::Failed(error))
    }

    /// Whether a step belongs to a compensation.
    fn is_compensating(&self, intent: &Intent) -> bool {
        self.run.steps.iter().any(|step| step.undo && step.key == intent.within)
    }

    pub(super) fn end(&mut self, key: String, outcome: Outcome, duration_ms: u64, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        self.go_on()?;
        if self.request.faults.crashes_in(&key) {
            self.commit()?;
            self.kill();
            faults::die();
        }
        if let Some(missed) = self.journal.ended(&key, matches!(outcome, Outcome::Value(_))) {
            return Err(self.diverged(&missed, &format!("step `{key}` ended without it")));
        }
        self.event(EventKind::StepEnded { key, outcome, duration_ms }, watch)
    }

    /// The compensations to run: those that are registered, unless the run was taking back already.
    pub(super) fn take_back(
        &mut self,
        registered: Vec<String>,
        error: Option<Error>,
        stopped: Option<StopReason>,
        watch: &mut dyn FnMut(&Run, &Event),
    ) -> Result<Vec<String>> {
        self.go_on()?;
        let is_settled = |key: &String| {
            self.run.steps.iter().any(|step| step.key == *key && matches!(step.status, StepState::Succeeded | StepState::Skipped))
        };
        let wanted = match &self.compensation {
            Some(compensation) => compensation.undo.clone(),
            // It failed before it came to where it had stopped: its work is not taken back half.
            None if self.journal.unasked("").is_some() => return Ok(Vec::new()),
            None => self.journal.undos.iter().map(|(key, _)| key.clone()).collect(),
        };
        let lost = wanted.iter().find(|key| !registered.contains(key) && !is_settled(key));
        if let Some(key) = lost.cloned() {
            return Err(self.lost(&key));
        }
        let compensation = match (self.compensation.clone(), error) {
            (Some(compensation), _) => compensation,
            (None, Some(error)) if !registered.is_empty() => {
                let compensation = Compensation { undo: registered, status: self.status_of(stopped, Some(&error)), error };
                self.event(EventKind::CompensationStarted(compensation.clone()), watch)?;
                self.compensation.insert(compensation).clone()
            }
            _ => return Ok(Vec::new()),
        };
        self.kill_at = Some(Instant::now() + self.request.limits.grace.0 + PATIENCE);
        Ok(compensation.undo)
    }

    /// What only a worker knows, and needs no answer.
    pub(super) fn tell(&mut self, event: EventKind, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        let is_known = match &event {
            // A replay says again what was said already.
            EventKind::Log { step, text } if step.is_empty() => self.said.get_mut(text).is_some_and(|count| {
                let again = *count > 0;
                *count = count.saturating_sub(1);
                again
            }),
            EventKind::Output { name, value } => self.run.attempt > 1 && self.run.outputs.get(name) == Some(value),
            EventKind::UndoRegistered { key, .. } => self.journal.undos.iter().any(|(known, _)| known == key),
            EventKind::Checked(_) | EventKind::Log { .. } | EventKind::Progress { .. } | EventKind::Read { .. } => false,
            other => return Err(Error::new(Kind::Bug, format!("the worker told `{}`, which is not its to tell", other.name()))),
        };
        if is_known { Ok(()) } else { self.event(event, watch) }
    }

    pub(super) fn diverged(&mut self, key: &str, why: &str) -> Error {
        let error = Error::new(Kind::Conflict, format!("diverged at step `{key}`: {why}"))
            .code("RB3104")
            .hint("nothing was done: the script took another way than before, as one does that decides by what it reads outside of a step")
            .hint(format!("look at what was done with `runbook report {0}`, then start anew: runbook retry {0}", self.run.run));
        self.halt(RunState::Failed, error)
    }

    /// A step of which nobody knows whether it was done.
    pub(super) fn doubt(&mut self, past: &Past, unanswered: Option<&Error>) -> Error {
        let (key, number) = (&past.intent.key, self.run.run);
        let effects: Vec<&str> = past.effects.iter().map(|effect| effect.summary.as_str()).collect();
        let began = if effects.is_empty() { String::new() } else { format!(" and began to: {}", effects.join("; ")) };
        let why = unanswered.map(|error| format!("; its `verify` could not tell: {}", error.message)).unwrap_or_default();
        let started = past.started.strftime("%Y-%m-%d %H:%M:%S UTC");
        let say = |what: &str, means: &str| format!("{means}: runbook resume {number} --step '{}={what}'", key.replace('\'', "'\\''"));
        let error = Error::new(Kind::Waiting, format!("step `{key}` may have been done or not: it started at {started}{began}{why}"))
            .code("RB3103")
            .hint(say("done", "look whether it was done; if it was"))
            .hint(say("redo", "if it was not"))
            .hint(say("skip", "to go on without it"));
        self.halt(RunState::NeedsAttention, error)
    }

    /// A compensation that was registered in a step which is not run again.
    fn lost(&mut self, key: &str) -> Error {
        let number = self.run.run;
        let name = key.replace('\'', "'\\''");
        let error =
            Error::new(Kind::Waiting, format!("`{key}` has to be done by hand: it was registered inside of a step that is not run again"))
                .code("RB3103")
                .hint(format!("when it is done: runbook resume {number} --step '{name}=done'"))
                .hint(format!("to go on without it: runbook resume {number} --step '{name}=skip'"))
                .hint("call `undo` outside of the step, and a resumed run knows it");
        self.halt(RunState::NeedsAttention, error)
    }
}
