//! What every store has to do; each backend runs it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::error::{Error, Kind};
use crate::model::{Check, Effect, Event, EventKind, Intent, Level, Module, Outcome, Run, RunId, RunState, StepState, Trigger};
use crate::store::{Filter, Memory, ProcessId, Sqlite, Store, find};

fn start() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn run(runbook: &str) -> Run {
    Run {
        run: 0,
        id: RunId::new(),
        runbook: runbook.to_owned(),
        version: "abc".to_owned(),
        commit: None,
        system: Some("host".to_owned()),
        params: [("profile".to_owned(), json!("quick"))].into(),
        status: RunState::Running,
        exit_code: None,
        trigger: Trigger::Command,
        by: "maya".to_owned(),
        started: start(),
        ended: None,
        duration_ms: 0,
        steps: Vec::new(),
        checks: Vec::new(),
        outputs: BTreeMap::new(),
        error: None,
    }
}

const US: ProcessId = ProcessId { pid: 42, started: 7 };

fn at(seconds: i64, kind: EventKind) -> Event {
    Event { at: start() + SignedDuration::from_secs(seconds), kind }
}

fn intent(key: &str) -> EventKind {
    EventKind::StepStarted(Intent { key: key.to_owned(), name: key.to_owned(), attempt: 1, ..Intent::default() })
}

fn ended(status: RunState) -> EventKind {
    EventKind::Ended { status, exit_code: 0, error: None }
}

fn with_each_store(test: impl Fn(&dyn Store)) {
    test(&Memory::default());
    let directory = tempfile::tempdir().unwrap();
    test(&Sqlite::open(&directory.path().join("runbook.db")).unwrap());
}

#[test]
fn a_run_is_what_its_events_tell() {
    with_each_store(|store| {
        let new = run("backup");
        let text = Module { name: "backup.rhai".into(), hash: "h".into(), text: "let x = 1;".into() };
        assert_eq!(store.create(&new, std::slice::from_ref(&text), US).unwrap(), 1);
        let effect = Effect::new("fs::write", "/srv/x", "write /srv/x");
        let check = Check {
            name: "c".into(),
            level: Level::Warning,
            detail: String::new(),
            value: Some(1.0),
            unit: None,
            limit: None,
            duration_ms: 3,
        };
        store.append(new.id, &[at(1, intent("a")), at(1, EventKind::Effect { key: "a".into(), effect: effect.clone() })]).unwrap();
        store
            .append(new.id, &[at(2, EventKind::StepEnded { key: "a".into(), outcome: Outcome::Value(json!(5)), duration_ms: 1000 })])
            .unwrap();
        store
            .append(new.id, &[at(3, EventKind::Checked(check)), at(4, EventKind::Output { name: "o".into(), value: json!([1]) })])
            .unwrap();
        store.append(new.id, &[at(5, ended(RunState::Warning))]).unwrap();
        let read = store.run(new.id).unwrap();
        assert_eq!((read.status, read.duration_ms, read.run), (RunState::Warning, 5000, 1));
        assert_eq!((read.steps[0].status, &read.steps[0].value, &read.steps[0].effects), (StepState::Succeeded, &json!(5), &vec![effect]));
        assert_eq!((read.checks.len(), read.outputs["o"].clone()), (1, json!([1])));
        assert_eq!(store.modules(new.id).unwrap(), [text]);
        let line = &store.list(&Filter::default()).unwrap()[0];
        assert_eq!((line.changes, line.level, line.note.as_str()), (1, Level::Warning, "warning: c"));
    });
}

#[test]
fn nothing_follows_the_end() {
    with_each_store(|store| {
        let new = run("noop");
        store.create(&new, &[], US).unwrap();
        store.append(new.id, &[at(1, ended(RunState::Succeeded))]).unwrap();
        let late = store.append(new.id, &[at(2, ended(RunState::Failed))]);
        assert!(late.is_err() || store.run(new.id).is_err());
    });
}

#[test]
fn unknown_runs_are_not_found() {
    with_each_store(|store| {
        assert_eq!(store.append(RunId::new(), &[]).unwrap_err().kind, Kind::NotFound);
        assert_eq!(store.run(RunId::new()).unwrap_err().kind, Kind::NotFound);
    });
}

#[test]
fn runs_are_listed_newest_first_and_filtered() {
    with_each_store(|store| {
        for name in ["a", "b", "a"] {
            let new = run(name);
            store.create(&new, &[], US).unwrap();
            store.append(new.id, &[at(1, ended(RunState::Succeeded))]).unwrap();
        }
        let numbers = |filter: &Filter| store.list(filter).unwrap().iter().map(|run| run.run).collect::<Vec<_>>();
        assert_eq!(numbers(&Filter::default()), [3, 2, 1]);
        assert_eq!(numbers(&Filter { runbook: Some("a".into()), ..Filter::default() }), [3, 1]);
        assert_eq!(numbers(&Filter { limit: 1, ..Filter::default() }), [3]);
        assert_eq!(numbers(&Filter { states: vec![RunState::Failed], ..Filter::default() }), [0; 0]);
        assert_eq!(find(store, "last:b").unwrap().run, 2);
        assert_eq!(find(store, "#1").unwrap().run, 1);
        let id = store.list(&Filter::default()).unwrap()[0].id.to_string();
        assert_eq!(find(store, &id).unwrap().run, 3);
        assert_eq!(find(store, "99").unwrap_err().kind, Kind::Usage);
    });
}

#[test]
fn notes_are_kept_by_scope_and_forgotten_with_null() {
    with_each_store(|store| {
        store.keep_note("s", "a/1", &json!({ "x": 1 })).unwrap();
        store.keep_note("s", "a/2", &json!(2)).unwrap();
        store.keep_note("other", "a/3", &json!(3)).unwrap();
        assert_eq!(store.note("s", "a/1").unwrap(), Some(json!({ "x": 1 })));
        assert_eq!(store.note("other", "a/1").unwrap(), None);
        assert_eq!(store.note_keys("s", "a/").unwrap(), ["a/1", "a/2"]);
        store.keep_note("s", "a/1", &json!(null)).unwrap();
        assert_eq!(store.note("s", "a/1").unwrap(), None);
    });
}

#[test]
fn an_error_survives_with_everything_it_says() {
    with_each_store(|store| {
        let new = run("fails");
        store.create(&new, &[], US).unwrap();
        let error = Error::new(Kind::Timeout, "no answer").target("db").hint("look").code("RB1");
        store.append(new.id, &[at(1, EventKind::Ended { status: RunState::Failed, exit_code: 1, error: Some(error.clone()) })]).unwrap();
        assert_eq!(store.run(new.id).unwrap().error, Some(error));
        assert_eq!(store.list(&Filter::default()).unwrap()[0].note, "no answer");
    });
}

#[test]
fn two_processes_can_write_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("runbook.db");
    let (one, two) = (Sqlite::open(&path).unwrap(), Sqlite::open(&path).unwrap());
    assert_eq!(one.create(&run("a"), &[], US).unwrap(), 1);
    assert_eq!(two.create(&run("b"), &[], US).unwrap(), 2);
    assert_eq!(one.list(&Filter::default()).unwrap().len(), 2);
}

#[test]
fn a_newer_format_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("runbook.db");
    drop(Sqlite::open(&path).unwrap());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(Sqlite::open(&path).unwrap_err().message.contains("format 99"));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
