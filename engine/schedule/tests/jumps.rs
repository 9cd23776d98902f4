//! Clocks that jump, machines that sleep, and nobody there.

use std::time::Duration;

use jiff::SignedDuration;

use super::bench::Bench;
use super::{at, entry};
use crate::model::Reason;

const START: &str = "2026-11-20T12:01:00Z";

#[test]
fn three_days_away_are_caught_up_with_as_it_says() {
    for (catch_up, runs) in [("skip", 0), ("latest", 1), ("all(50)", 50)] {
        let entries = [entry("a", &format!("cron = \"*/5 * * * *\"\ncatch_up = \"{catch_up}\""))];
        // It was there once, and then for three days it was not.
        let store = Bench::new(START, &entries).store;
        let mut bench = Bench::with(store, "2026-11-23T12:02:00Z", &entries, 10).ending();
        bench.look();
        let ticks = bench.ticks();
        assert_eq!((ticks.len(), bench.started().len(), bench.count("missed")), (864, runs, 864 - runs), "{catch_up}");
        assert!(ticks.iter().filter_map(|tick| tick.outcome.cause()).all(|cause| cause.reason == Reason::Down));
        assert!(bench.most() <= 1, "they come one after the other");
        // Those that ran are the last, in order, and it goes on.
        let due: Vec<_> = bench.started().iter().map(|(_, due, _)| *due).collect();
        assert!(due.is_sorted() && due.last().is_none_or(|last| *last == at("2026-11-23T12:00:00Z")));
        bench.until("2026-11-23T12:30:00Z");
        assert_eq!(bench.started().len(), runs + 6, "{catch_up}");
        bench.is_sound();
    }
}

#[test]
fn no_jump_of_the_clock_runs_a_tick_twice_or_many_at_once() {
    let rules = [
        "cron = \"*/5 * * * *\"",
        "every = \"10m\"",
        "cron = \"0 3 * * *\"",
        "every = \"30s\"",
        "cron = \"0 * * * *\"\noverlap = \"allow\"",
    ];
    let entries: Vec<_> = rules.iter().enumerate().map(|(n, rule)| entry(&format!("s{n}"), rule)).collect();
    let year = SignedDuration::from_hours(24 * 365);
    for jump in [SignedDuration::from_hours(1), SignedDuration::from_hours(-1), year * 2, year * -2] {
        let mut bench = Bench::new(START, &entries).ending();
        bench.until("2026-11-20T13:31:00Z");
        let before = bench.started().len();
        bench.put(jump);
        let wait = bench.look();
        assert!(wait <= Duration::from_secs(30), "the next jump would be noticed late");
        let at_once = bench.started().split_off(before);
        for entry in &entries {
            let count = at_once.iter().filter(|(schedule, ..)| *schedule == entry.key).count();
            assert!(count <= 1, "{} started {count} times after {jump}", entry.key);
        }
        bench.is_sound();
        // Life goes on: after another two hours of the new time each of the short ones ran again.
        let two_hours_on = (bench.clock_now() + SignedDuration::from_hours(2)).to_string();
        let before = bench.started().len();
        bench.until(&two_hours_on);
        assert!(bench.started().len() - before >= 100, "{jump}: {}", bench.started().len() - before);
        bench.is_sound();
        // And when the clock is right again, it goes on as well.
        bench.put(-jump);
        let before = bench.started().len();
        let two_hours_on = (bench.clock_now() + SignedDuration::from_hours(2)).to_string();
        bench.until(&two_hours_on);
        assert!(bench.started().len() > before, "{jump} and back");
        bench.is_sound();
    }
}

#[test]
fn eight_hours_of_sleep_are_one_catch_up() {
    let mut bench = Bench::new(START, &[entry("a", "cron = \"*/5 * * * *\""), entry("b", "cron = \"0 14 * * *\"")]).ending();
    let wait = bench.look();
    // The clock that waits stood still, so at most this much of the wait is left.
    assert!(wait <= Duration::from_secs(30));
    bench.put(SignedDuration::from_hours(8));
    bench.look();
    assert_eq!(bench.started().len(), 2, "{:?}", bench.started());
    assert_eq!(bench.count("missed"), 95);
    bench.is_sound();
}

#[test]
fn what_was_missed_for_years_has_a_row_for_the_last_and_one_for_the_rest() {
    let entries = [entry("a", "every = \"1s\"\ncatch_up = \"skip\""), entry("b", "cron = \"* * * * *\"\ncatch_up = \"all(3)\"")];
    let store = Bench::new(START, &entries).store;
    let mut bench = Bench::with(store, "2028-11-20T12:01:30Z", &entries, 10).ending();
    bench.look();
    let ticks = bench.ticks();
    for entry in &entries {
        let of: Vec<_> = ticks.iter().filter(|tick| tick.schedule == entry.key).collect();
        assert_eq!(of.len(), 1001, "{}", entry.key);
        let through = of[0].through.unwrap();
        assert!(of[0].due < through && through < of[1].due && of[0].due < at("2026-11-20T12:03:00Z"));
        assert!(of[1..].iter().all(|tick| tick.through.is_none()));
    }
    assert_eq!(bench.started().iter().filter(|(schedule, ..)| schedule == "shop/b").count(), 3);
    bench.is_sound();
}

#[test]
fn what_was_paused_or_off_at_its_time_is_not_missed() {
    let entries = [entry("a", "cron = \"0 * * * *\"\ncalendars = [\"holidays\"]")];
    let store = Bench::new("2026-11-22T12:01:00Z", &entries).store;
    let mut bench = Bench::with(store, "2026-11-25T01:30:00Z", &entries, 10).ending();
    bench.look();
    assert_eq!((bench.count("skipped"), bench.count("missed"), bench.count("started")), (48, 12, 1));
}
