//! A day of the five systems, with all that goes wrong in one: each moment of each schedule is accounted for.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::at;
use super::bench::Bench;
use crate::error::{Error, Kind};
use crate::model::{Pause, System, Tick, TickOutcome};
use crate::schedule::{Entry, entries_of};

const MIDNIGHT: &str = "2026-11-20T16:00:00Z";
const SYSTEMS: [(&str, &str); 5] = [
    ("ai-hub", include_str!("../../../runbooks/systems/ai-hub.toml")),
    ("ai-notebook", include_str!("../../../runbooks/systems/ai-notebook.toml")),
    ("education", include_str!("../../../runbooks/systems/education.toml")),
    ("fin-pre-assist", include_str!("../../../runbooks/systems/fin-pre-assist.toml")),
    ("football", include_str!("../../../runbooks/systems/football.toml")),
];

fn entries() -> Vec<Entry> {
    let of = |(name, text): &(&str, &str)| {
        let system = System { name: (*name).to_owned(), ..toml::from_str(text).unwrap() };
        entries_of(&system).unwrap()
    };
    SYSTEMS.iter().flat_map(of).collect()
}

/// The moment so many minutes into the day, of Shanghai.
fn minute(minutes: i64) -> Timestamp {
    at(MIDNIGHT) + SignedDuration::from_mins(minutes)
}

/// Most runs take less than a minute, some minutes, and few of them an hour.
fn takes(run: u64) -> SignedDuration {
    SignedDuration::from_mins(match run * 7919 % 100 {
        0 => 60,
        1..=9 => 3,
        _ => 0,
    })
}

/// What goes wrong in a day, by its minute.
fn befalls(bench: &mut Bench, now: i64, entries: &[Entry]) {
    match now {
        // Killed with ticks on record whose runs are not.
        125 | 371 => {
            bench.write_only();
            bench.restart(entries);
        }
        // Killed with runs on record that their ticks do not know.
        130 | 911 => {
            bench.launch_only();
            bench.restart(entries);
        }
        // For ten minutes no run can be recorded.
        480 => bench.refuse(Some(Error::new(Kind::Store, "no space left on device"))),
        490 => bench.refuse(None),
        // The machine is off for the best part of an hour.
        600 => {
            bench.put(SignedDuration::from_mins(50));
            bench.restart(entries);
        }
        // Somebody keeps everything from starting.
        720 => {
            let pause = Pause { by: "maya".to_owned(), since: bench.clock_now(), until: None, reason: "freeze".to_owned() };
            bench.store.pause_schedule("*", Some(&pause)).unwrap();
        }
        750 => bench.store.pause_schedule("*", None).unwrap(),
        // The clock is put back, and on again.
        800 => bench.put(SignedDuration::from_mins(-20)),
        _ => {}
    }
}

#[test]
fn every_moment_of_a_day_of_the_five_systems_is_accounted_for() {
    let entries = entries();
    let mut bench = Bench::with(std::sync::Arc::new(crate::store::Memory::default()), MIDNIGHT, &entries, 10);
    let mut ends: BTreeMap<u64, Timestamp> = BTreeMap::new();
    for now in 0..24 * 60 {
        befalls(&mut bench, now, &entries);
        if bench.clock_now() < minute(now) {
            bench.until(&minute(now).to_string());
        }
        for (run, since) in bench.running() {
            let end = *ends.entry(run).or_insert_with(|| since + takes(run));
            if end <= bench.clock_now() {
                bench.end(run);
            }
        }
    }
    bench.is_sound();
    assert!(bench.most() <= 10);
    let ticks = bench.ticks();
    let until = bench.clock_now();
    for entry in &entries {
        is_accounted_for(entry, ticks.iter().filter(|tick| tick.schedule == entry.key), until);
    }
    let ran = ticks.iter().filter(|tick| matches!(tick.outcome, TickOutcome::Started { .. })).count();
    assert!(ran > 5_000, "{ran} of {}", ticks.len());
    let reasons: BTreeSet<&str> = ticks.iter().filter_map(|tick| tick.outcome.cause()).map(|cause| cause.reason.name()).collect();
    assert!(["down", "overlap", "paused"].iter().all(|reason| reasons.contains(reason)), "{reasons:?}");
}

/// Each due moment has one row, of its own or as one of those a row stands for, and the row says what became of it.
fn is_accounted_for<'t>(entry: &Entry, ticks: impl Iterator<Item = &'t Tick>, until: Timestamp) {
    let mut rows: Vec<&Tick> = ticks.collect();
    rows.sort_by_key(|tick| tick.due);
    let mut rows = rows.into_iter().peekable();
    for due in entry.timing.after(at(MIDNIGHT)).take_while(|due| entry.start(due.at) <= until) {
        let row = rows.peek().copied().unwrap_or_else(|| panic!("{} has no row for {}", entry.key, due.at));
        let last = row.through.unwrap_or(row.due);
        assert!(row.due <= due.at && due.at <= last, "{}: {} is due, and the next row is {row:?}", entry.key, due.at);
        let is_decided = !matches!(row.outcome, TickOutcome::Pending) || until.duration_since(row.due) < SignedDuration::from_hours(2);
        assert!(is_decided, "{row:?}");
        if due.at == last {
            rows.next();
        }
    }
    assert_eq!(rows.next(), None, "{} ran when it was not due", entry.key);
}
