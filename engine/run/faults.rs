//! What goes wrong on purpose, to show that a runbook stands it.

use rustix::process::{Signal, getpid, kill_process};

use crate::model::{EventKind, Intent};

/// What goes wrong in a run.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The step that fails instead of running.
    pub fail_at: Option<String>,
    /// The event after which supervisor and worker are killed: its word, and after a colon whose. `work:STEP` is no
    /// event: the work of the step is done, and its result is not recorded.
    pub crash_after: Option<String>,
    /// Whether steps that may run again do so at once, and have to give the same.
    pub repeat_steps: bool,
}

impl Faults {
    /// Those that go wrong in the sub-run that is the step of this key: its steps are named by its key and theirs.
    pub(super) fn inside(&self, key: &str) -> Self {
        let inside = |named: &str| named.strip_prefix(key).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned);
        let event = |wanted: &str| {
            let (word, whose) = wanted.split_once(':')?;
            Some(format!("{word}:{}", inside(whose)?))
        };
        Self {
            fail_at: self.fail_at.as_deref().and_then(inside),
            crash_after: self.crash_after.as_deref().and_then(event),
            repeat_steps: self.repeat_steps,
        }
    }

    pub(super) fn fails(&self, intent: &Intent) -> bool {
        self.fail_at.as_ref().is_some_and(|key| *key == intent.key)
    }

    /// Whether the run is killed when the work of this step is done and its result is not recorded.
    pub(super) fn crashes_in(&self, key: &str) -> bool {
        self.crash_after.as_deref().and_then(|event| event.strip_prefix("work:")) == Some(key)
    }

    pub(super) fn repeats(&self, intent: &Intent) -> bool {
        self.repeat_steps && (intent.idempotent.is_some() || intent.verifiable)
    }

    pub(super) fn crashes_after(&self, event: &EventKind) -> bool {
        let Some(wanted) = &self.crash_after else { return false };
        let (word, whose) = wanted.split_once(':').unwrap_or((wanted, ""));
        word == event.name().replace(' ', "-") && (whose.is_empty() || whose == subject(event))
    }
}

/// Whose event it is.
fn subject(event: &EventKind) -> &str {
    match event {
        EventKind::StepStarted(intent) => &intent.key,
        EventKind::StepEnded { key, .. }
        | EventKind::SubRun { key, .. }
        | EventKind::Effect { key, .. }
        | EventKind::UndoRegistered { key, .. } => key,
        EventKind::Checked(check) => &check.name,
        EventKind::Output { name, .. } => name,
        _ => "",
    }
}

/// Ends this process as a power cut would: nothing is cleaned up.
pub(super) fn die() {
    // The signal can not be refused.
    let _ = kill_process(getpid(), Signal::KILL);
}
