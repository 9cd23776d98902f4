//! Runs whose process vanished: they are found by whoever opens the store next, and said to be interrupted.

use crate::error::{Error, Kind, Result};
use crate::model::{Event, EventKind, RunState};
use crate::run::process::is_alive;
use crate::store::{Filter, Store, now};

/// Records the end of runs that nobody watches over any more; returns the numbers of those that are part of no
/// other one.
///
/// # Errors
///
/// `store`.
pub fn recover(store: &dyn Store) -> Result<Vec<u64>> {
    let states = vec![RunState::Running, RunState::Waiting, RunState::Queued];
    let mut found = Vec::new();
    for run in store.list(&Filter { states, ..Filter::default() })? {
        let Some(supervisor) = run.supervisor.filter(|process| !is_alive(*process)) else { continue };
        // A sub-run goes on with the run it is part of.
        let above = run.parent.as_ref().map_or(run.run, |parent| parent.run);
        let error = Error::new(Kind::Failed, "its process vanished without a last word")
            .hint(format!("it goes on where it stopped with `runbook resume {above}`"));
        let ended = EventKind::Ended { status: RunState::Interrupted, exit_code: 1, error: Some(error) };
        // What is recorded of it is older than now, whatever the clock did since.
        let last = store.events(run.id)?.last().map_or(run.started, |event| event.at);
        if store.abandon(run.id, supervisor, &Event { at: last.max(now()), kind: ended })? && run.parent.is_none() {
            found.push(run.run);
        }
    }
    Ok(found)
}
