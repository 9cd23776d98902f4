//! What every store has to do; each backend runs it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::error::{Error, Kind};
use crate::model::{
    Approval, Cause, Channel, Check, Effect, Event, EventKind, Incident, IncidentState, Intent, Level, Message, Module, Outcome, Parcel,
    ParcelState, Parent, Pause, Pinned, Plan, Reason, Record, Repair, RepairState, Run, RunId, RunState, ScheduleState, StepState, Tick,
    TickOutcome, Trigger,
};
use crate::store::audit::{Act, Action, AuditFilter, audited};
use crate::store::{
    Changed, Filter, IncidentFilter, Memory, ProcessId, Settlement, Sqlite, Store, TickFilter, Which, find, find_incident, find_plan,
};

pub(super) fn start() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

pub(super) fn run(runbook: &str) -> Run {
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
        parent: None,
        attempt: 1,
        started: start(),
        ended: None,
        duration_ms: 0,
        steps: Vec::new(),
        checks: Vec::new(),
        outputs: BTreeMap::new(),
        error: None,
        waits_for: None,
    }
}

pub(super) const US: ProcessId = ProcessId { pid: 42, started: 7 };

pub(super) fn at(seconds: i64, kind: EventKind) -> Event {
    Event { at: start() + SignedDuration::from_secs(seconds), kind }
}

pub(super) fn intent(key: &str) -> EventKind {
    EventKind::StepStarted(Intent { key: key.to_owned(), name: key.to_owned(), attempt: 1, ..Intent::default() })
}

pub(super) fn ended(status: RunState) -> EventKind {
    EventKind::Ended { status, exit_code: 0, error: None }
}

fn with_each_store(test: impl Fn(&dyn Store)) {
    test(&Memory::default());
    let directory = tempfile::tempdir().unwrap();
    test(&Sqlite::open(&directory.path().join("runbook.db")).unwrap());
}

#[test]
fn a_queued_run_is_running_from_its_start_on() {
    with_each_store(|store| {
        let new = Run { status: RunState::Queued, ..run("backup") };
        store.create(&new, &[], US).unwrap();
        let states = || (store.run(new.id).unwrap().status, store.list(&Filter::default()).unwrap()[0].status);
        assert_eq!(states(), (RunState::Queued, RunState::Queued));
        store.append(new.id, &[at(1, EventKind::Started)]).unwrap();
        assert_eq!(states(), (RunState::Running, RunState::Running));
        store.append(new.id, &[at(2, ended(RunState::Skipped))]).unwrap();
        assert_eq!(states(), (RunState::Skipped, RunState::Skipped));
    });
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
            key: String::new(),
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

fn act(subject: &str) -> Act {
    Act { who: "maya".to_owned(), action: Action::SetSecret, subject: subject.to_owned(), why: "rotated".to_owned() }
}

#[test]
fn what_is_done_has_a_row_before_and_a_row_after_it() {
    with_each_store(|store| {
        audited(store, &act("db"), || {
            assert_eq!(store.audited(&AuditFilter::default()).unwrap()[0].outcome, None, "it is not done yet");
            Ok(())
        })
        .unwrap();
        let failed = audited(store, &act("api"), || Err::<(), _>(Error::new(Kind::Store, "no room")));
        assert_eq!(failed.unwrap_err().message, "no room");
        let rows = store.audited(&AuditFilter::default()).unwrap();
        let told: Vec<_> = rows.iter().map(|row| (row.seq, row.subject.as_str(), row.outcome.as_deref())).collect();
        assert_eq!(told, [(4, "api", Some("failed: no room")), (3, "api", None), (2, "db", Some("done")), (1, "db", None)]);
        assert_eq!((rows[0].who.as_str(), rows[0].why.as_str(), rows[0].action), ("maya", "rotated", Action::SetSecret));
        let newest = AuditFilter { action: Some(Action::SetSecret), limit: 1, ..AuditFilter::default() };
        assert_eq!(store.audited(&newest).unwrap(), rows[..1]);
        assert_eq!(store.audited(&AuditFilter { action: Some(Action::Run), ..AuditFilter::default() }).unwrap(), []);
    });
}

#[test]
fn a_run_has_its_rows_in_the_audit_log_and_can_be_verified() {
    with_each_store(|store| {
        let new = run("backup");
        store.create(&new, &[], US).unwrap();
        store.append(new.id, &[at(1, ended(RunState::Failed))]).unwrap();
        store.verify(new.id).unwrap();
        assert_eq!(store.verify(RunId::new()).unwrap_err().kind, Kind::NotFound);
        let rows = store.audited(&AuditFilter { since: Some(start()), ..AuditFilter::default() }).unwrap();
        let told: Vec<_> =
            rows.iter().map(|row| (row.run, row.subject.as_str(), row.why.as_str(), row.outcome.as_deref(), row.at)).collect();
        let end = start() + SignedDuration::from_secs(1);
        assert_eq!(
            told,
            [(Some(1), "#1 backup for host", "", Some("failed"), end), (Some(1), "#1 backup for host", "command", None, start())]
        );
        assert_eq!(rows[0].who, "maya");
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

fn resumed() -> EventKind {
    EventKind::Resumed { by: "maya".into(), decisions: Vec::new() }
}

#[test]
fn a_run_is_taken_over_once_and_only_when_it_is_over() {
    with_each_store(|store| {
        let new = run("again");
        store.create(&new, &[], US).unwrap();
        store.append(new.id, &[at(1, intent("a"))]).unwrap();
        let them = ProcessId { pid: 43, started: 8 };
        assert_eq!(store.take_over(new.id, them, &at(2, resumed())).unwrap_err().kind, Kind::Conflict);
        store.append(new.id, &[at(3, ended(RunState::Interrupted))]).unwrap();
        assert_eq!(store.run(new.id).unwrap().steps[0].status, StepState::Interrupted);
        store.take_over(new.id, them, &at(4, resumed())).unwrap();
        assert_eq!(store.take_over(new.id, US, &at(5, resumed())).unwrap_err().kind, Kind::Conflict);
        let read = store.run(new.id).unwrap();
        assert_eq!((read.status, read.attempt, read.ended), (RunState::Running, 2, None));
        let line = &store.list(&Filter { states: vec![RunState::Running], ..Filter::default() }).unwrap()[0];
        assert_eq!((line.supervisor, line.ended), (Some(them), None));
        assert_eq!(store.events(new.id).unwrap().len(), 3);
    });
}

#[test]
fn what_succeeded_is_not_resumed() {
    with_each_store(|store| {
        let new = run("fine");
        store.create(&new, &[], US).unwrap();
        store.append(new.id, &[at(1, ended(RunState::Succeeded))]).unwrap();
        store.take_over(new.id, US, &at(2, resumed())).unwrap_err();
        assert_eq!(store.run(new.id).unwrap().status, RunState::Succeeded);
    });
}

#[test]
fn only_what_its_own_process_left_is_abandoned() {
    with_each_store(|store| {
        let new = run("left");
        store.create(&new, &[], US).unwrap();
        let gone = at(1, ended(RunState::Interrupted));
        assert!(!store.abandon(new.id, ProcessId { pid: 42, started: 8 }, &gone).unwrap(), "another process has its number");
        assert!(store.abandon(new.id, US, &gone).unwrap());
        assert!(!store.abandon(new.id, US, &gone).unwrap(), "it is over already");
        assert_eq!(store.run(new.id).unwrap().status, RunState::Interrupted);
    });
}

#[test]
fn a_store_of_format_1_opens_and_its_runs_can_be_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("runbook.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(include_str!("fixtures/format-1.sql")).unwrap();
    let store = Sqlite::open(&path).unwrap();
    assert_eq!(store.health(true).unwrap().format, 6);
    let runs = store.list(&Filter::default()).unwrap();
    assert_eq!(runs.iter().map(|run| run.status).collect::<Vec<_>>(), [RunState::Running, RunState::Failed, RunState::Succeeded]);
    let failed = store.run(runs[1].id).unwrap();
    assert_eq!((failed.attempt, failed.steps.len(), failed.steps[0].status), (1, 2, StepState::Succeeded));
    store.take_over(failed.id, US, &Event { at: failed.ended.unwrap(), kind: resumed() }).unwrap();
    store.verify(failed.id).unwrap();
    assert_eq!(store.modules(failed.id).unwrap().len(), 1);
    assert!(store.run(runs[0].id).unwrap().steps[0].status == StepState::Running);
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
        for (name, how) in [("a", RunState::Succeeded), ("b", RunState::Warning), ("a", RunState::Succeeded)] {
            let new = run(name);
            store.create(&new, &[], US).unwrap();
            store.append(new.id, &[at(1, ended(how))]).unwrap();
        }
        let numbers = |filter: &Filter| store.list(filter).unwrap().iter().map(|run| run.run).collect::<Vec<_>>();
        assert_eq!(numbers(&Filter::default()), [3, 2, 1]);
        assert_eq!(numbers(&Filter { runbook: Some("a".into()), ..Filter::default() }), [3, 1]);
        assert_eq!(numbers(&Filter { limit: 1, ..Filter::default() }), [3]);
        let with = |states: &[RunState], limit: u32| numbers(&Filter { states: states.to_vec(), limit, ..Filter::default() });
        assert_eq!(with(&[RunState::Failed], 0), [0; 0]);
        assert_eq!(with(&[RunState::Running, RunState::Warning, RunState::Failed], 0), [2]);
        assert_eq!(with(&[RunState::Warning, RunState::Succeeded, RunState::Warning], 0), [3, 2, 1]);
        assert_eq!(with(&[RunState::Warning, RunState::Succeeded], 2), [3, 2]);
        let first = store.list(&Filter::default()).unwrap()[2].started;
        let since = |since: Timestamp| numbers(&Filter { since: Some(since), ..Filter::default() });
        assert_eq!(since(first).len(), 3);
        assert_eq!(since(Timestamp::MAX), [0; 0]);
        assert_eq!(find(store, "last:b").unwrap().run, 2);
        assert_eq!(find(store, "#1").unwrap().run, 1);
        let id = store.list(&Filter::default()).unwrap()[0].id.to_string();
        assert_eq!(find(store, &id).unwrap().run, 3);
        assert_eq!(find(store, &id[..id.len() - 1]).unwrap().run, 3);
        // Too short to stand for an identity, whatever begins like this.
        assert!(find(store, "0a").unwrap_err().message.starts_with("there is no run"));
        assert_eq!(find(store, "99").unwrap_err().kind, Kind::Usage);
    });
}

#[test]
fn what_a_run_started_is_found_by_the_run_and_the_step() {
    with_each_store(|store| {
        let above = store.create(&run("above"), &[], US).unwrap();
        let part = |step: &str| {
            let parent = Some(Parent { run: above, step: step.to_owned() });
            let new = Run { trigger: Trigger::Run, parent: parent.clone(), ..run("part") };
            let number = store.create(&new, &[], US).unwrap();
            assert_eq!(store.run(new.id).unwrap().parent, parent);
            number
        };
        let (first, second, other) = (part("run part"), part("run part"), part("run part#2"));
        let found = |filter: Filter| store.list(&filter).unwrap().iter().map(|run| run.run).collect::<Vec<_>>();
        assert_eq!(found(Filter { parent: Some(above), ..Filter::default() }), [other, second, first]);
        assert_eq!(found(Filter { parent: Some(above), step: Some("run part".into()), ..Filter::default() }), [second, first]);
        assert_eq!(found(Filter { parent: Some(first), ..Filter::default() }), [0; 0]);
        let listed = store.list(&Filter { number: Some(other), ..Filter::default() }).unwrap();
        assert_eq!(listed[0].parent, Some(Parent { run: above, step: "run part#2".into() }));
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

pub(super) fn parcel(id: &str, contact: &str, millis: i64) -> Parcel {
    let message = Message { subject: format!("event {id}"), ..Message::default() };
    Parcel::new(id, contact, "host", message, start() + SignedDuration::from_millis(millis))
}

fn post(store: &dyn Store, parcel: &Parcel) {
    assert!(store.post(parcel, &|_| panic!("it has no key to compare")).unwrap());
}

fn tried(parcel: &Parcel, state: ParcelState) -> Parcel {
    Parcel { state, attempts: parcel.attempts + 1, ..parcel.clone() }
}

fn settlement(millis: i64, parcels: &[Parcel]) -> Settlement {
    let channel = Channel::of(&parcels[0]);
    Settlement { channel, sent: Some(start() + SignedDuration::from_millis(millis)), parcels: parcels.to_vec(), fallbacks: Vec::new() }
}

#[test]
fn parcels_wait_in_the_order_they_were_made_until_they_are_settled() {
    with_each_store(|store| {
        // A text of these times would sort the other way round.
        let (first, second, third) = (parcel("b", "ops", 0), parcel("a", "mail", 500), parcel("c", "ops", 500));
        for parcel in [&third, &first, &second] {
            post(store, parcel);
        }
        assert_eq!(store.queued().unwrap(), [first.clone(), second.clone(), third.clone()]);
        let later = Parcel { due: start() + SignedDuration::from_secs(5), ..tried(&third, ParcelState::Queued) };
        store.settle(&settlement(600, &[tried(&first, ParcelState::Delivered), later.clone()])).unwrap();
        assert_eq!(store.queued().unwrap(), [second, later]);
    });
}

#[test]
fn a_parcel_that_is_there_stays_as_it_is() {
    with_each_store(|store| {
        let first = parcel("a", "ops", 0);
        post(store, &first);
        store.settle(&settlement(1, &[tried(&first, ParcelState::Delivered)])).unwrap();
        post(store, &first);
        assert_eq!(store.queued().unwrap(), []);
    });
}

#[test]
fn the_same_is_asked_about_and_not_put() {
    with_each_store(|store| {
        let keyed = |id: &str, contact: &str| {
            let mut parcel = parcel(id, contact, 0);
            parcel.message.dedupe = Some("disk".to_owned());
            parcel
        };
        assert!(store.post(&keyed("a", "ops"), &|alike| !alike.is_empty()).unwrap());
        assert!(store.post(&keyed("b", "mail"), &|alike| !alike.is_empty()).unwrap(), "another channel");
        let elsewhere = Parcel { project: "/srv/other".into(), ..keyed("d", "ops") };
        assert!(store.post(&elsewhere, &|alike| !alike.is_empty()).unwrap(), "another project");
        assert!(!store.post(&keyed("c", "ops"), &|alike| alike == [keyed("a", "ops")]).unwrap());
        assert_eq!(store.queued().unwrap().len(), 3);
    });
}

#[test]
fn a_settlement_is_whole_or_nothing() {
    with_each_store(|store| {
        let (first, second) = (parcel("a", "ops", 0), parcel("b", "ops", 1));
        post(store, &first);
        let unknown = store.settle(&settlement(2, &[tried(&first, ParcelState::Delivered), tried(&second, ParcelState::Delivered)]));
        assert_eq!(unknown.unwrap_err().kind, Kind::NotFound);
        assert_eq!((store.queued().unwrap(), store.sendings(start()).unwrap()), (vec![first.clone()], vec![]));
        let dead = tried(&first, ParcelState::Dead);
        let fallback = parcel("a.mail", "mail", 3);
        let with_fallback = Settlement { fallbacks: vec![fallback.clone()], ..settlement(3, std::slice::from_ref(&dead)) };
        store.settle(&with_fallback).unwrap();
        assert_eq!(store.queued().unwrap(), [fallback]);
        let again = store.settle(&settlement(4, &[tried(&dead, ParcelState::Delivered)]));
        assert_eq!(again.unwrap_err().kind, Kind::Conflict);
    });
}

#[test]
fn sendings_are_remembered_for_the_window_of_a_rate() {
    with_each_store(|store| {
        let first = parcel("a", "ops", 0);
        post(store, &first);
        let later = tried(&first, ParcelState::Queued);
        store.settle(&settlement(0, std::slice::from_ref(&later))).unwrap();
        let ops = Channel { project: String::new(), system: "host".into(), contact: "ops".into() };
        assert_eq!(store.sendings(start()).unwrap(), [(ops.clone(), start())]);
        let last = tried(&later, ParcelState::Queued);
        store.settle(&settlement(300_000, std::slice::from_ref(&last))).unwrap();
        let at = start() + SignedDuration::from_secs(300);
        assert_eq!(store.sendings(start()).unwrap(), [(ops, at)]);
        assert_eq!(store.sendings(at + SignedDuration::from_millis(1)).unwrap(), []);
        store.settle(&Settlement { sent: None, ..settlement(0, &[tried(&last, ParcelState::Dead)]) }).unwrap();
        assert_eq!(store.sendings(start()).unwrap().len(), 1, "nobody was sent to");
    });
}

#[test]
fn the_outbox_is_counted_and_what_does_not_wait_is_pruned() {
    with_each_store(|store| {
        let (first, second, third) = (parcel("a", "ops", 0), parcel("b", "ops", 1), parcel("c", "mail", 2));
        let fourth = parcel("d", "mail", 3);
        for parcel in [&first, &second, &third, &fourth] {
            post(store, parcel);
        }
        store.settle(&settlement(5, &[tried(&first, ParcelState::Delivered)])).unwrap();
        let failed = tried(&second, ParcelState::Queued);
        store.settle(&settlement(6, std::slice::from_ref(&failed))).unwrap();
        let dead = tried(&third, ParcelState::Dead);
        store.settle(&settlement(7, std::slice::from_ref(&dead))).unwrap();
        let mut tally = store.tally().unwrap();
        tally.last_tried.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!((tally.queued, tally.delivered, tally.dead, tally.last_tried), (2, 1, 1, vec![failed, dead]));
        assert_eq!(store.prune_parcels(start()).unwrap(), 0);
        assert_eq!(store.prune_parcels(start() + SignedDuration::from_secs(60)).unwrap(), 2);
        let tally = store.tally().unwrap();
        assert_eq!((tally.queued, tally.delivered, tally.dead), (2, 0, 0));
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

#[test]
fn a_plan_is_run_once() {
    with_each_store(|store| {
        let plan = Plan {
            id: String::new(),
            hash: String::new(),
            runbook: "backup".to_owned(),
            texts: BTreeMap::new(),
            params: BTreeMap::new(),
            system: "host".to_owned(),
            system_hash: "h".to_owned(),
            fingerprints: BTreeMap::new(),
            steps: Vec::new(),
            unknown: None,
            destructive: false,
            approvals: 0,
            by: "maya".to_owned(),
            made: start(),
            until: start(),
            run: None,
        }
        .sealed();
        store.keep_plan(&plan).unwrap();
        assert_eq!(find_plan(store, &plan.id).unwrap(), plan);
        let run = RunId::new();
        store.spend_plan(&plan.hash, run).unwrap();
        assert_eq!(store.spend_plan(&plan.hash, RunId::new()).unwrap_err().kind, Kind::NotStarted);
        assert_eq!(store.plans().unwrap()[0].run, Some(run));
        assert_eq!(store.keep_plan(&plan).unwrap_err().kind, Kind::Store);
        assert_eq!(find_plan(store, "nope").unwrap_err().kind, Kind::Usage);
    });
}

#[test]
fn approvals_and_pins_are_found_by_what_they_are_about() {
    with_each_store(|store| {
        let said = |of: &str| Approval {
            of: of.to_owned(),
            by: "jo".to_owned(),
            approved: true,
            reason: "x".to_owned(),
            at: start(),
            until: start(),
        };
        store.keep_approval(&said("a")).unwrap();
        store.keep_approval(&said("b")).unwrap();
        assert_eq!(store.approvals("a").unwrap(), [said("a")]);
        let pin = |power: &str| Pinned {
            runbook: "backup".to_owned(),
            system: "host".to_owned(),
            powers: vec![power.to_owned()],
            by: "jo".to_owned(),
            reason: "x".to_owned(),
            at: start(),
        };
        store.pin(&pin("one")).unwrap();
        store.pin(&pin("two")).unwrap();
        assert_eq!(store.pinned("backup", "host").unwrap(), Some(pin("two")));
        assert_eq!(store.pinned("backup", "other").unwrap(), None);
    });
}

fn incident(number: u64, system: &str, state: IncidentState) -> Incident {
    Incident {
        number,
        fingerprint: format!("{system} is ill"),
        system: system.to_owned(),
        title: "it is ill".to_owned(),
        severity: crate::model::Severity::Sev2,
        source: crate::model::Source::Person("maya".to_owned()),
        labels: BTreeMap::new(),
        service: None,
        state,
        flapping: false,
        because: None,
        told: true,
        held: None,
        clock: None,
        opened: start(),
        seen: start(),
        count: 1,
        calm: None,
        turns: Vec::new(),
        acknowledged: None,
        resolved: None,
        overdue: std::collections::BTreeSet::new(),
        last_told: None,
        messages: 0,
        value: None,
        timeline: Vec::new(),
        findings: crate::model::Findings::default(),
    }
}

#[test]
fn an_incident_is_changed_with_its_messages_or_not_at_all() {
    with_each_store(|store| {
        let key = Which::Fingerprint("a is ill");
        let keep = |which: Which<'_>, system: &str, state: IncidentState, parcels: &[Parcel]| {
            let mut seen = None;
            let kept = store.change_incident(which, &mut |before, next| {
                let number = before.as_ref().filter(|incident| incident.is_open()).map_or(next, |incident| incident.number);
                seen = before;
                Ok(Some(Changed { incident: incident(number, system, state), parcels: parcels.to_vec() }))
            });
            (seen, kept.unwrap().unwrap())
        };
        assert_eq!(keep(key, "a", IncidentState::Open, &[parcel("one", "ops", 0)]), (None, incident(1, "a", IncidentState::Open)));
        let failed = store.change_incident(key, &mut |_, _| Err(Error::new(Kind::Bug, "no")));
        assert_eq!(failed.unwrap_err().message, "no");
        let stays = store.change_incident(key, &mut |before, _| {
            assert_eq!(before, Some(incident(1, "a", IncidentState::Open)));
            Ok(None)
        });
        assert_eq!(stays.unwrap(), Some(incident(1, "a", IncidentState::Open)));
        // The same message again is the same message.
        let parcels = [parcel("one", "ops", 0), parcel("two", "ops", 1)];
        assert_eq!(keep(Which::Number(1), "a", IncidentState::Resolved, &parcels).1.number, 1);
        assert_eq!(store.queued().unwrap().len(), 2);
        let (before, after) = keep(key, "a", IncidentState::Open, &[]);
        assert_eq!((before.unwrap().number, after.number), (1, 2), "the newest one is meant");
        keep(Which::Fingerprint("b is ill"), "b", IncidentState::Open, &[]);
        let numbers = |filter: &IncidentFilter| store.incidents(filter).unwrap().iter().map(|incident| incident.number).collect::<Vec<_>>();
        assert_eq!(numbers(&IncidentFilter::default()), [3, 2, 1]);
        assert_eq!(numbers(&IncidentFilter { open: true, system: Some("a".to_owned()), ..IncidentFilter::default() }), [2]);
        assert_eq!(numbers(&IncidentFilter { limit: 1, ..IncidentFilter::default() }), [3]);
        assert_eq!(numbers(&IncidentFilter { since: Some(start() + SignedDuration::from_secs(1)), ..IncidentFilter::default() }), [0; 0]);
        assert_eq!(find_incident(store, "#2").unwrap().number, 2);
        assert_eq!(find_incident(store, "9").unwrap_err().kind, Kind::Usage);
    });
}

#[test]
fn a_repair_is_chosen_by_those_before_it_and_concluded() {
    with_each_store(|store| {
        let repair = |system: &str, seconds: i64| Repair {
            number: 0,
            system: system.to_owned(),
            policy: "service".to_owned(),
            target: "api".to_owned(),
            incident: 1,
            at: start() + SignedDuration::from_secs(seconds),
            run: None,
            ended: None,
            state: RepairState::Trying,
        };
        let reserve = |system: &str, seconds: i64| {
            let mut choose = |before: &[Repair]| (before.len() < 2).then(|| repair(system, seconds));
            store.reserve_repair(system, start(), &mut choose).unwrap()
        };
        assert_eq!(reserve("a", 0).unwrap().number, 1);
        assert_eq!(reserve("b", 1).unwrap().number, 2);
        let third = reserve("a", 2).unwrap();
        assert_eq!(reserve("a", 3), None);
        let done = Repair { run: Some(7), ended: Some(start()), state: RepairState::Helped, ..third.clone() };
        store.conclude_repair(&done).unwrap();
        assert_eq!(store.repairs("a", third.at).unwrap(), [done]);
        assert_eq!(store.conclude_repair(&repair("a", 9)).unwrap_err().kind, Kind::NotFound);
    });
}

#[test]
fn registers_keep_their_lines_in_order() {
    with_each_store(|store| {
        let line = |kind: &str, seconds: i64| Record {
            number: 0,
            kind: kind.to_owned(),
            system: "a".to_owned(),
            at: start() + SignedDuration::from_secs(seconds),
            by: "maya".to_owned(),
            title: "new switch".to_owned(),
            details: json!({ "euro": 12 }),
        };
        assert_eq!([store.record(&line("change", 9)).unwrap(), store.record(&line("cost", 1)).unwrap()], [1, 2]);
        store.record(&line("change", 5)).unwrap();
        let numbers = |since| {
            store
                .records("change", start() + SignedDuration::from_secs(since))
                .unwrap()
                .iter()
                .map(|record| record.number)
                .collect::<Vec<_>>()
        };
        assert_eq!((numbers(0), numbers(6)), (vec![3, 1], vec![1]));
        assert_eq!(store.records("cost", start()).unwrap()[0].details["euro"], 12);
    });
}

fn tick(schedule: &str, minutes: i64, outcome: TickOutcome) -> Tick {
    let due = start() + SignedDuration::from_mins(minutes);
    Tick {
        schedule: schedule.to_owned(),
        due,
        start: due,
        decided: due,
        marks: Vec::new(),
        runbook: "backup".to_owned(),
        system: "shop".to_owned(),
        params: [("scope".to_owned(), json!("all"))].into(),
        id: RunId::new(),
        outcome,
        through: None,
    }
}

fn skipped(reason: Reason) -> TickOutcome {
    TickOutcome::Skipped(Cause { reason, detail: "for the test".to_owned() })
}

#[test]
fn a_schedule_has_one_tick_for_a_due_moment() {
    with_each_store(|store| {
        let (first, again) = (tick("shop/a", 0, TickOutcome::Pending), tick("shop/a", 0, skipped(Reason::Paused)));
        let other = tick("shop/b", 0, TickOutcome::Pending);
        assert_eq!(store.keep_ticks(&[first.clone(), again, other.clone()]).unwrap(), [true, false, true]);
        assert_eq!(store.keep_ticks(std::slice::from_ref(&first)).unwrap(), [false]);
        assert_eq!(store.pending_ticks().unwrap(), [first, other]);
        assert!(store.keep_ticks(&[]).unwrap().is_empty());
    });
}

#[test]
fn what_became_of_a_tick_is_said_once() {
    with_each_store(|store| {
        let (first, second) = (tick("shop/a", 0, TickOutcome::Pending), tick("shop/a", 5, TickOutcome::Pending));
        store.keep_ticks(&[first.clone(), second.clone()]).unwrap();
        let started = Tick { outcome: TickOutcome::Started { run: 7 }, ..first.clone() };
        store.settle_ticks(std::slice::from_ref(&started)).unwrap();
        assert_eq!(store.pending_ticks().unwrap(), std::slice::from_ref(&second));
        assert_eq!(store.settle_ticks(std::slice::from_ref(&started)).unwrap_err().kind, Kind::Conflict);
        // All or none.
        let late = Tick { outcome: skipped(Reason::Deadline), ..second.clone() };
        let unknown = tick("shop/a", 9, skipped(Reason::Deadline));
        assert_eq!(store.settle_ticks(&[late, unknown]).unwrap_err().kind, Kind::NotFound);
        assert_eq!(store.ticks(&TickFilter::default()).unwrap(), [second, started]);
    });
}

#[test]
fn ticks_are_found_by_schedule_and_time() {
    with_each_store(|store| {
        let all: Vec<Tick> = (0..4).map(|n| tick(if n % 2 == 0 { "shop/a" } else { "shop/b" }, n, skipped(Reason::Window))).collect();
        store.keep_ticks(&all).unwrap();
        let found = |filter: TickFilter| store.ticks(&filter).unwrap().into_iter().map(|tick| tick.due).collect::<Vec<_>>();
        let due = |n: usize| all[n].due;
        assert_eq!(found(TickFilter { schedule: Some("shop/a".to_owned()), ..TickFilter::default() }), [due(2), due(0)]);
        assert_eq!(found(TickFilter { since: Some(due(1)), before: Some(due(3)), ..TickFilter::default() }), [due(2), due(1)]);
        assert_eq!(found(TickFilter { limit: 1, ..TickFilter::default() }), [due(3)]);
    });
}

#[test]
fn a_schedule_is_its_rule_its_last_tick_and_what_people_said() {
    with_each_store(|store| {
        store.keep_rules(&[("shop/a".to_owned(), "every 1m".to_owned(), start())]).unwrap();
        let ticks = [tick("shop/a", 1, skipped(Reason::Window)), tick("shop/a", 2, skipped(Reason::Window))];
        store.keep_ticks(&ticks).unwrap();
        let pause = Pause { by: "jo".to_owned(), reason: "freeze".to_owned(), since: start(), until: None };
        store.pause_schedule("shop/*", Some(&pause)).unwrap();
        store.skip_ticks("shop/a", 2).unwrap();
        let of_all = ScheduleState { schedule: "shop/*".to_owned(), paused: Some(pause), ..ScheduleState::default() };
        let of_one = ScheduleState {
            schedule: "shop/a".to_owned(),
            rule: "every 1m".to_owned(),
            since: Some(start()),
            last: Some(ticks[1].due),
            paused: None,
            skip: 2,
        };
        assert_eq!(store.schedule_states().unwrap(), [of_all.clone(), of_one.clone()]);
        assert_eq!(store.held_schedules().unwrap(), [of_all, of_one.clone()]);
        // One that was skipped as asked uses a skip up, and only when it is new.
        let asked = tick("shop/a", 3, skipped(Reason::Asked));
        store.keep_ticks(std::slice::from_ref(&asked)).unwrap();
        store.keep_ticks(std::slice::from_ref(&asked)).unwrap();
        store.pause_schedule("shop/*", None).unwrap();
        assert_eq!(store.held_schedules().unwrap(), [ScheduleState { skip: 1, last: Some(asked.due), ..of_one.clone() }]);
        store.skip_ticks("shop/a", 0).unwrap();
        store.keep_rules(&[("shop/a".to_owned(), "every 2m".to_owned(), asked.due)]).unwrap();
        assert_eq!(store.held_schedules().unwrap(), []);
        assert_eq!(store.schedule_states().unwrap()[1].rule, "every 2m");
    });
}

#[test]
fn old_ticks_go_but_not_the_last_and_none_that_waits() {
    with_each_store(|store| {
        let over = |schedule: &str, minutes: i64| tick(schedule, minutes, skipped(Reason::Window));
        let waits = tick("shop/a", 1, TickOutcome::Pending);
        store.keep_ticks(&[over("shop/a", 0), waits.clone(), over("shop/a", 2), over("shop/b", 0)]).unwrap();
        assert_eq!(store.prune_ticks(start() + SignedDuration::from_hours(1)).unwrap(), 1);
        let left: Vec<_> = store.ticks(&TickFilter::default()).unwrap().into_iter().map(|tick| (tick.schedule, tick.due)).collect();
        let due = |minutes| start() + SignedDuration::from_mins(minutes);
        assert_eq!(left, [("shop/a".to_owned(), due(2)), ("shop/a".to_owned(), waits.due), ("shop/b".to_owned(), due(0))]);
    });
}
