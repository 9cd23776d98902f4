//! The record: what happens is masked, applied, logged and written down.

use super::{BATCH, Supervisor};
use crate::error::{Error, Kind, Result};
use crate::model::{Event, EventKind, Run};
use crate::run::faults;
use crate::run::redact::Redactor;
use crate::store::now;

impl Supervisor<'_> {
    /// Applies, logs and shows an event; it is durable with the next commit.
    pub(super) fn event(&mut self, kind: EventKind, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        let kind = self.masked(kind)?;
        let event = Event { at: now(), kind };
        self.run.apply(&event)?;
        watch(&self.run, &event);
        match event.kind {
            EventKind::Progress { .. } => return Ok(()),
            EventKind::Log { .. } => self.log.append(std::slice::from_ref(&event))?,
            _ => {
                // The journal must have it also when the log has no room left.
                self.pending.push(event.clone());
                self.log.append(std::slice::from_ref(&event))?;
                if self.request.faults.crashes_after(&event.kind) {
                    self.commit()?;
                    self.kill();
                    faults::die();
                }
            }
        }
        if self.pending.len() >= BATCH { self.commit() } else { Ok(()) }
    }

    pub(super) fn masked(&self, kind: EventKind) -> Result<EventKind> {
        masked(&self.redactor, kind)
    }

    pub(super) fn commit(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.store.append(self.run.id, &self.pending)?;
        self.pending.clear();
        Ok(())
    }
}

pub(super) fn masked(redactor: &Redactor, kind: EventKind) -> Result<EventKind> {
    if redactor.is_empty() {
        return Ok(kind);
    }
    let read = |error: serde_json::Error| Error::new(Kind::Bug, format!("an event does not survive masking: {error}"));
    let value = serde_json::to_value(&kind).map_err(read)?;
    serde_json::from_value(redactor.value(value)).map_err(read)
}
