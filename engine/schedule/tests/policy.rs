//! What is done when a schedule is due.

use super::bench::Bench;
use super::{at, entry};
use crate::error::{Error, Kind};
use crate::model::{Mark, Pause, TickOutcome};

const NINE: &str = "2026-11-20T09:00:30Z"; // a Friday

fn hourly(name: &str, keys: &str) -> crate::schedule::Entry {
    entry(name, &format!("cron = \"0 * * * *\"\n{keys}"))
}

#[test]
fn a_tick_is_a_row_with_its_run() {
    let mut bench = Bench::new(NINE, &[entry("backup", "cron = \"0 10 * * *\"\nrunbook = \"backup-full\"\nparams = { scope = \"all\" }")]);
    bench.until("2026-11-20T10:00:00Z");
    let ticks = bench.ticks();
    assert_eq!((ticks.len(), ticks[0].schedule.as_str(), ticks[0].due), (1, "shop/backup", at("2026-11-20T10:00:00Z")));
    assert_eq!((ticks[0].runbook.as_str(), ticks[0].system.as_str(), &ticks[0].params["scope"]), ("backup-full", "shop", &"all".into()));
    assert_eq!(ticks[0].outcome, TickOutcome::Started { run: 1 });
    assert_eq!(bench.store.run(ticks[0].id).unwrap().run, 1);
    bench.is_sound();
}

#[test]
fn a_run_that_outlasts_its_period_keeps_the_next_out() {
    let mut bench = Bench::new(NINE, &[hourly("a", "")]);
    bench.until("2026-11-20T12:30:00Z");
    assert_eq!(bench.story(), ["10:00 started", "11:00 skipped overlap", "12:00 skipped overlap"]);
    bench.end(1);
    bench.until("2026-11-20T13:30:00Z");
    assert_eq!(bench.story()[3], "13:00 started");
    bench.is_sound();
}

#[test]
fn in_a_queue_each_waits_for_the_one_before() {
    let mut bench = Bench::new(NINE, &[hourly("a", "overlap = \"queue\"")]);
    bench.until("2026-11-20T12:30:00Z");
    assert_eq!(bench.story(), ["10:00 started", "11:00 pending", "12:00 pending"]);
    bench.end(1);
    assert_eq!(bench.story(), ["10:00 started", "11:00 started", "12:00 pending"]);
    bench.end(2);
    bench.end(3);
    assert_eq!(bench.count("started"), 3);
    assert_eq!(bench.most(), 1);
    bench.is_sound();
}

#[test]
fn a_replaced_run_is_stopped_and_the_next_starts_when_it_has_ended() {
    let mut bench = Bench::new(NINE, &[hourly("a", "overlap = \"replace\"")]);
    bench.until("2026-11-20T11:30:00Z");
    assert_eq!((bench.stopped(), bench.story()), (vec![1], vec!["10:00 started".to_owned(), "11:00 pending".to_owned()]));
    // It takes its time; what waited is replaced as well.
    bench.until("2026-11-20T12:30:00Z");
    bench.end(1);
    assert_eq!(bench.story(), ["10:00 started", "11:00 skipped replaced", "12:00 started"]);
    assert_eq!(bench.most(), 1);
    bench.is_sound();
}

#[test]
fn what_may_overlap_does() {
    let mut bench = Bench::new(NINE, &[hourly("a", "overlap = \"allow\"")]);
    bench.until("2026-11-20T12:30:00Z");
    assert_eq!((bench.count("started"), bench.most()), (3, 3));
    bench.is_sound();
}

#[test]
fn a_group_takes_turns_and_so_do_all() {
    let all: Vec<_> = (0..4).map(|n| hourly(&format!("one{n}"), "group = \"alone\"")).collect();
    let pairs: Vec<_> = (0..4).map(|n| hourly(&format!("two{n}"), "group = \"pairs\"")).collect();
    let mut bench = Bench::with(std::sync::Arc::new(crate::store::Memory::default()), NINE, &[all, pairs].concat(), 2);
    bench.until("2026-11-20T10:00:00Z");
    let running = |bench: &Bench| bench.started().iter().map(|(schedule, ..)| schedule["shop/".len()..].to_owned()).collect::<Vec<_>>();
    assert_eq!(running(&bench), ["one0", "two0"], "one of the group, two of all");
    bench.end(1);
    assert_eq!(running(&bench)[2..], ["one1"]);
    for run in 2..=8 {
        bench.end(run);
    }
    assert_eq!((bench.count("started"), bench.most()), (8, 2));
    bench.is_sound();
}

#[test]
fn what_waits_too_long_is_skipped() {
    let mut bench = Bench::new(NINE, &[hourly("a", "overlap = \"queue\"\ndeadline = \"20m\"")]);
    bench.until("2026-11-20T11:19:59Z");
    assert_eq!(bench.story(), ["10:00 started", "11:00 pending"]);
    bench.until("2026-11-20T11:20:00Z");
    assert_eq!(bench.story(), ["10:00 started", "11:00 skipped deadline"]);
    bench.end(1);
    bench.until("2026-11-20T12:00:00Z");
    assert_eq!(bench.story()[2], "12:00 started");
    bench.is_sound();
}

#[test]
fn windows_and_calendars_leave_moments_out() {
    let mut bench =
        Bench::new(NINE, &[entry("a", "cron = \"0 */6 * * *\"\nwindows = [\"Mon-Fri 17:00-07:00\"]\ncalendars = [\"holidays\"]")]).ending();
    bench.until("2026-11-23T23:00:00Z");
    let story = bench.story();
    let days: Vec<String> =
        bench.ticks().iter().zip(&story).map(|(tick, line)| format!("{} {line}", &tick.due.to_string()[8..10])).collect();
    assert_eq!(
        days,
        [
            "20 12:00 skipped window",
            "20 18:00 started",
            "21 00:00 started",
            "21 06:00 started",
            "21 12:00 skipped window",
            "21 18:00 skipped window",
            "22 00:00 skipped window",
            "22 06:00 skipped window",
            "22 12:00 skipped window",
            "22 18:00 skipped window",
            "23 00:00 skipped calendar",
            "23 06:00 skipped calendar",
            "23 12:00 skipped calendar",
            "23 18:00 skipped calendar",
        ]
    );
}

#[test]
fn a_pause_skips_until_it_is_over_and_says_whose_it_is() {
    let mut bench = Bench::new(NINE, &[hourly("a", ""), hourly("b", "")]).ending();
    let pause = Pause { by: "jo".to_owned(), reason: "freeze".to_owned(), since: at(NINE), until: Some(at("2026-11-20T11:30:00Z")) };
    bench.store.pause_schedule("shop/a", Some(&pause)).unwrap();
    bench.store.pause_schedule("other/*", Some(&pause)).unwrap();
    bench.until("2026-11-20T12:30:00Z");
    let of_a: Vec<_> = bench.ticks().into_iter().filter(|tick| tick.schedule == "shop/a").collect();
    assert_eq!(of_a[0].outcome.cause().unwrap().detail, "paused by jo: freeze");
    assert_eq!(of_a.iter().map(|tick| tick.outcome.name()).collect::<Vec<_>>(), ["skipped", "skipped", "started"]);
    assert_eq!(bench.count("started"), 4);
    // A pause of everything, or of a system, is one of each schedule.
    for key in ["shop/*", "*"] {
        let pause = Pause { since: bench.clock_now(), until: None, ..pause.clone() };
        bench.store.pause_schedule(key, Some(&pause)).unwrap();
        let before = bench.count("started");
        bench.put(jiff::SignedDuration::from_hours(1));
        bench.look();
        assert_eq!(bench.count("started"), before, "{key}");
        bench.store.pause_schedule(key, None).unwrap();
    }
    bench.is_sound();
}

#[test]
fn what_someone_asked_to_skip_is_skipped_as_often() {
    let mut bench = Bench::new(NINE, &[hourly("a", "")]).ending();
    bench.store.skip_ticks("shop/a", 2).unwrap();
    bench.until("2026-11-20T13:00:00Z");
    assert_eq!(bench.story(), ["10:00 skipped asked", "11:00 skipped asked", "12:00 started", "13:00 started"]);
}

#[test]
fn what_can_not_start_says_why_and_a_store_that_fails_is_tried_again() {
    let mut bench = Bench::new(NINE, &[hourly("a", "")]).ending();
    bench.refuse(Some(Error::new(Kind::NotStarted, "`data:shop` is held by run #7")));
    bench.until("2026-11-20T10:30:00Z");
    assert_eq!(bench.ticks()[0].outcome.cause().unwrap().detail, "`data:shop` is held by run #7");
    bench.refuse(Some(Error::new(Kind::Store, "the disk is full")));
    bench.until("2026-11-20T11:00:10Z");
    assert_eq!(bench.story(), ["10:00 skipped refused", "11:00 pending"]);
    bench.refuse(None);
    bench.until("2026-11-20T11:00:30Z");
    assert_eq!(bench.story()[1], "11:00 started");
    bench.is_sound();
}

#[test]
fn a_schedule_with_another_rule_has_nothing_to_catch_up_with() {
    let mut bench = Bench::new(NINE, &[hourly("a", ""), hourly("b", "overlap = \"queue\"")]);
    bench.until("2026-11-20T11:00:00Z");
    assert_eq!(bench.count("pending"), 1);
    bench.put(jiff::SignedDuration::from_hours(5));
    bench.scheduler.load(vec![entry("a", "every = \"1m\"")]).unwrap();
    bench.look();
    // Nothing of the hours nobody was there, by neither rule; and what waited of the one that is gone, is.
    assert_eq!(bench.story(), ["10:00 started", "10:00 started", "11:00 skipped overlap", "11:00 skipped removed"]);
    bench.end(1);
    bench.until("2026-11-20T16:02:00Z");
    assert_eq!(bench.count("started"), 3, "{:?}", bench.story());
    bench.is_sound();
}

#[test]
fn a_moment_after_a_gap_of_the_clocks_says_so() {
    let mut bench = Bench::new("2026-03-08T05:00:00Z", &[entry("a", "cron = \"30 2 * * *\"\ntimezone = \"America/New_York\"")]).ending();
    bench.until("2026-03-09T07:00:00Z");
    let ticks = bench.ticks();
    assert_eq!(ticks.iter().map(|tick| tick.marks.clone()).collect::<Vec<_>>(), [vec![Mark::DstGap], vec![]]);
    assert_eq!(ticks[0].due, at("2026-03-08T07:00:00Z"));
}

#[test]
fn a_moment_comes_once_and_not_again_after_a_restart() {
    let once = [entry("a", "at = \"2026-11-20 10:00\"")];
    let mut bench = Bench::new(NINE, &once).ending();
    bench.until("2026-11-20T11:00:00Z");
    assert_eq!(bench.story(), ["10:00 started"]);
    let mut later = Bench::with(bench.store.clone(), "2026-11-20T12:00:00Z", &once, 10).ending();
    later.until("2026-11-20T13:00:00Z");
    assert_eq!(later.story(), ["10:00 started"]);
}
