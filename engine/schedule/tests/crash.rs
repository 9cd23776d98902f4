//! The scheduler is killed between a tick and its run.

use std::sync::Arc;

use super::bench::Bench;
use super::{at, entry};
use crate::model::TickOutcome;
use crate::store::{Filter, Sqlite, Store, TickFilter, Ticks};

/// One look of a scheduler that is killed then: the store is all that is left of it.
fn killed(bench: Bench) -> Arc<dyn Store> {
    bench.store
}

#[test]
fn a_tick_has_one_run_wherever_the_scheduler_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("runbook.db");
    let entries = [entry("a", "every = \"1m\"\ncatch_up = \"all(100)\"\noverlap = \"allow\""), entry("b", "every = \"1m\"")];
    for round in 0..50 {
        let minute = at("2026-11-20T12:00:00Z") + jiff::SignedDuration::from_mins(round);
        let now = minute.to_string();
        let open = || Arc::new(Sqlite::open(&path).unwrap());
        let mut bench = Bench::with(open(), &now, &entries, 10);
        if round % 2 == 0 {
            // The tick is written, the run is not.
            bench.write_only();
        } else {
            // The run is written, and the tick does not know it.
            bench.launch_only();
        }
        drop(killed(bench));
        let mut next = Bench::with(open(), &now, &entries, 10).ending();
        next.look();
    }
    let store = Sqlite::open(&path).unwrap();
    let ticks = store.ticks(&TickFilter::default()).unwrap();
    let runs = store.list(&Filter::default()).unwrap();
    // The first look only learns of the schedules; a minute later each is due.
    assert_eq!((ticks.len(), runs.len()), (98, 98));
    for tick in ticks {
        let run = store.run(tick.id).unwrap();
        assert_eq!(tick.outcome, TickOutcome::Started { run: run.run });
    }
}

#[test]
fn what_was_left_pending_for_long_is_caught_up_with_as_it_says() {
    for (catch_up, story) in
        [("skip", vec!["12:05 missed down", "12:10 missed down"]), ("latest", vec!["12:05 missed down", "12:10 started"])]
    {
        let entries = [entry("a", &format!("every = \"5m\"\ncatch_up = \"{catch_up}\""))];
        let mut bench = Bench::new("2026-11-20T12:01:00Z", &entries);
        bench.set("2026-11-20T12:05:00Z");
        bench.write_only();
        let mut next = Bench::with(killed(bench), "2026-11-20T12:14:00Z", &entries, 10).ending();
        next.look();
        assert_eq!(next.story(), story, "{catch_up}");
        next.is_sound();
    }
}

#[test]
fn a_run_that_still_goes_on_counts_after_a_restart() {
    let entries = [entry("a", "every = \"5m\"")];
    let mut bench = Bench::new("2026-11-20T12:01:00Z", &entries);
    bench.until("2026-11-20T12:05:00Z");
    // The same runs, another scheduler.
    bench.restart(&entries);
    bench.until("2026-11-20T12:10:00Z");
    assert_eq!(bench.story(), ["12:05 started", "12:10 skipped overlap"]);
    bench.end(1);
    bench.until("2026-11-20T12:15:00Z");
    assert_eq!(bench.story()[2], "12:15 started");
}
