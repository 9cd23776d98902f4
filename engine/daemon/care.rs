//! Which runs are the daemon's to bring to an end, also after its own.
//!
//! Each has a note in the store, from before it is recorded until it is over. What is noted and was cut off goes
//! on with the next daemon; what people started at a terminal is theirs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::model::{Event, EventKind, Outcome, Run, RunId, RunState};
use crate::run::process::me;
use crate::store::{Log, StateDir, Store};

use super::now;

/// Where the notes stand. Those of runbooks have an `@` in this place.
pub(super) const SCOPE: &str = "daemon";
/// What the keys begin with.
const RUN: &str = "run/";
/// How often a run that is cut off goes on by itself without a step getting done.
const MOST_IN_VAIN: usize = 5;

/// Whose settings, secrets and rights hold for a run: it has them again when it goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The directory of the project.
    pub directory: PathBuf,
    /// The settings file, when it was named.
    pub config: Option<PathBuf>,
    /// The account behind it.
    pub account: String,
}

/// From here on the run is the daemon's. Durable when it returns.
pub(super) fn take(store: &dyn Store, id: RunId, place: &Place) -> Result<()> {
    let note = serde_json::to_value(place).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
    store.keep_note(SCOPE, &format!("{RUN}{id}"), &note)
}

/// Where it belongs; nothing when it is not the daemon's.
pub(super) fn place(store: &dyn Store, id: RunId) -> Result<Option<Place>> {
    Ok(store.note(SCOPE, &format!("{RUN}{id}"))?.and_then(|note| serde_json::from_value(note).ok()))
}

/// From here on it is not. Durable when it returns.
pub(super) fn drop(store: &dyn Store, id: RunId) -> Result<()> {
    store.keep_note(SCOPE, &format!("{RUN}{id}"), &Value::Null)
}

/// Those that are.
pub(super) fn all(store: &dyn Store) -> Result<Vec<RunId>> {
    let keys = store.note_keys(SCOPE, RUN)?;
    Ok(keys.iter().filter_map(|key| key.strip_prefix(RUN)?.parse().ok().map(RunId)).collect())
}

/// Why a run that was cut off does not go on by itself any more: it was again and again, and nothing got done.
pub(super) fn in_vain(events: &[Event]) -> Option<Error> {
    let since = events.iter().rev().take_while(|event| {
        !matches!(&event.kind, EventKind::StepEnded { outcome: Outcome::Value(_), .. })
            // A person who lets it go on starts the count anew.
            && !matches!(&event.kind, EventKind::Resumed { decisions, .. } if !decisions.is_empty())
    });
    let times = since.filter(|event| matches!(event.kind, EventKind::Resumed { .. })).count();
    (times >= MOST_IN_VAIN)
        .then(|| Error::new(Kind::Waiting, format!("it was cut off {} times in a row without a step getting done", times + 1)))
}

/// Ends a run that was cut off and does not go on by itself: with this state, and why. Durable when it returns.
pub(super) fn close(store: &dyn Store, state: &StateDir, id: RunId, status: RunState, exit_code: u8, error: Error) -> Result<Run> {
    let resumed = Event { at: now(), kind: EventKind::Resumed { by: "daemon".to_owned(), decisions: Vec::new() } };
    let ended = Event { at: now(), kind: EventKind::Ended { status, exit_code, error: Some(error) } };
    store.take_over(id, me(), &resumed)?;
    store.append(id, std::slice::from_ref(&ended))?;
    let run = store.run(id)?;
    // The journal has it; the log repeats it for people.
    let _ = Log::create(&state.run(run.run), u64::MAX).and_then(|mut log| log.append(&[resumed, ended]));
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Decision, Says};

    fn event(kind: EventKind) -> Event {
        Event { at: jiff::Timestamp::UNIX_EPOCH, kind }
    }

    fn resumed(decisions: Vec<Decision>) -> Event {
        event(EventKind::Resumed { by: "daemon".to_owned(), decisions })
    }

    #[test]
    fn a_run_goes_on_by_itself_as_long_as_something_gets_done() {
        let step = event(EventKind::StepEnded { key: "a".to_owned(), outcome: Outcome::Value(Value::Null), duration_ms: 1 });
        let mut events: Vec<Event> = (0..20).flat_map(|_| [resumed(Vec::new()), step.clone()]).collect();
        assert_eq!(in_vain(&events), None);
        events.extend((0..MOST_IN_VAIN - 1).map(|_| resumed(Vec::new())));
        assert_eq!(in_vain(&events), None);
        events.push(resumed(Vec::new()));
        assert!(in_vain(&events).unwrap().message.contains("6 times in a row"));
        events.push(resumed(vec![Decision { key: "a".to_owned(), says: Says::Redo }]));
        assert_eq!(in_vain(&events), None);
    }

    #[test]
    fn what_is_taken_is_noted_until_it_is_dropped() {
        let store = crate::store::Memory::default();
        let id = RunId::new();
        let here = Place { directory: "/srv/ops".into(), account: "maya".to_owned(), ..Place::default() };
        take(&store, id, &here).unwrap();
        assert_eq!((all(&store).unwrap(), place(&store, id).unwrap()), (vec![id], Some(here)));
        drop(&store, id).unwrap();
        assert!(all(&store).unwrap().is_empty());
    }
}
