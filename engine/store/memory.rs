//! A store in memory: for tests and embedders. Stricter than SQLite: it refuses unknown runs, events
//! that go back in time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::model::{Event, Module, Run, RunId};
use crate::store::{Filter, ProcessId, Store, Summary, note_of};

/// A store that is gone with its process.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    runs: Vec<Recorded>,
    notes: BTreeMap<(String, String), Value>,
}

#[derive(Debug)]
struct Recorded {
    run: Run,
    modules: Vec<Module>,
    supervisor: ProcessId,
    last: jiff::Timestamp,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(id: RunId) -> Error {
    Error::new(Kind::NotFound, format!("there is no run `{id}`"))
}

impl Store for Memory {
    fn create(&self, run: &Run, modules: &[Module], supervisor: ProcessId) -> Result<u64> {
        let mut inner = self.lock();
        if inner.runs.iter().any(|recorded| recorded.run.id == run.id) {
            return Err(Error::new(Kind::Store, format!("run `{}` is recorded already", run.id)));
        }
        let number = inner.runs.len() as u64 + 1;
        let run = Run { run: number, ..run.clone() };
        inner.runs.push(Recorded { last: run.started, run, modules: modules.to_vec(), supervisor });
        Ok(number)
    }

    fn append(&self, id: RunId, events: &[Event]) -> Result<()> {
        let mut inner = self.lock();
        let recorded = inner.runs.iter_mut().find(|recorded| recorded.run.id == id).ok_or_else(|| missing(id))?;
        let mut run = recorded.run.clone();
        let mut last = recorded.last;
        for event in events {
            if event.at < last {
                return Err(Error::new(Kind::Bug, format!("event `{}` goes back in time", event.kind.name())));
            }
            last = event.at;
            run.apply(event)?;
        }
        recorded.run = run;
        recorded.last = last;
        Ok(())
    }

    fn run(&self, id: RunId) -> Result<Run> {
        self.lock().runs.iter().find(|recorded| recorded.run.id == id).map(|recorded| recorded.run.clone()).ok_or_else(|| missing(id))
    }

    fn modules(&self, id: RunId) -> Result<Vec<Module>> {
        self.lock().runs.iter().find(|recorded| recorded.run.id == id).map(|recorded| recorded.modules.clone()).ok_or_else(|| missing(id))
    }

    fn list(&self, filter: &Filter) -> Result<Vec<Summary>> {
        let inner = self.lock();
        let wanted = |run: &Run| {
            filter.runbook.as_ref().is_none_or(|name| *name == run.runbook)
                && filter.system.as_ref().is_none_or(|name| Some(name) == run.system.as_ref())
                && (filter.states.is_empty() || filter.states.contains(&run.status))
                && filter.since.is_none_or(|since| run.started >= since)
        };
        let limit = if filter.limit == 0 { usize::MAX } else { filter.limit as usize };
        Ok(inner.runs.iter().rev().filter(|recorded| wanted(&recorded.run)).take(limit).map(summary).collect())
    }

    fn note(&self, scope: &str, key: &str) -> Result<Option<Value>> {
        Ok(self.lock().notes.get(&(scope.to_owned(), key.to_owned())).cloned())
    }

    fn keep_note(&self, scope: &str, key: &str, value: &Value) -> Result<()> {
        let place = (scope.to_owned(), key.to_owned());
        match value {
            Value::Null => self.lock().notes.remove(&place),
            value => self.lock().notes.insert(place, value.clone()),
        };
        Ok(())
    }

    fn note_keys(&self, scope: &str, prefix: &str) -> Result<Vec<String>> {
        Ok(self.lock().notes.keys().filter(|(of, key)| of == scope && key.starts_with(prefix)).map(|(_, key)| key.clone()).collect())
    }
}

fn summary(recorded: &Recorded) -> Summary {
    let run = &recorded.run;
    Summary {
        run: run.run,
        id: run.id,
        runbook: run.runbook.clone(),
        system: run.system.clone(),
        status: run.status,
        exit_code: run.exit_code,
        trigger: run.trigger,
        by: run.by.clone(),
        started: run.started,
        ended: run.ended,
        duration_ms: run.duration_ms,
        changes: run.changes() as u64,
        level: run.level(),
        note: note_of(run),
        supervisor: Some(recorded.supervisor),
    }
}
