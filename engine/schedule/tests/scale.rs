//! Many schedules: the spread of jitter, limits at midnight, and what a look costs.

use std::time::Instant;

use jiff::SignedDuration;

use super::bench::Bench;
use super::{at, entry};
use crate::schedule::{Decision, Entry, Planner};

fn many(count: usize, keys: impl Fn(usize) -> String) -> Vec<Entry> {
    (0..count).map(|n| entry(&format!("job-{n:06}"), &keys(n))).collect()
}

#[test]
fn a_thousand_at_midnight_start_in_order_within_the_limit() {
    let entries = many(1000, |_| "cron = \"0 0 * * *\"".to_owned());
    let mut bench = Bench::with(std::sync::Arc::new(crate::store::Memory::default()), "2026-11-20T23:59:00Z", &entries, 20).ending();
    bench.until("2026-11-21T00:00:02Z");
    assert_eq!(bench.started().len(), 1000);
    assert!(bench.most() <= 20, "{} at once", bench.most());
    bench.is_sound();
}

#[test]
fn jitter_is_even_and_the_same_each_time() {
    let entries = many(1000, |_| "cron = \"0 0 * * *\"\njitter = \"300s\"".to_owned());
    let delays: Vec<SignedDuration> = entries.iter().map(|entry| entry.policy.delay).collect();
    assert!(delays.iter().all(|delay| (SignedDuration::ZERO..SignedDuration::from_secs(300)).contains(delay)));
    let mut buckets = [0_i64; 30];
    for delay in &delays {
        buckets[delay.as_secs() as usize / 10] += 1;
    }
    let expected = 1000.0 / 30.0;
    let chi: f64 = buckets.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    // With 29 degrees of freedom, p is 0.01 at 49.6.
    assert!(chi < 49.6, "χ² is {chi:.1}: {buckets:?}");
    let again = many(1000, |_| "cron = \"30 6 * * *\"\njitter = \"300s\"".to_owned());
    assert_eq!(delays, again.iter().map(|entry| entry.policy.delay).collect::<Vec<_>>());
    let mut bench = Bench::new("2026-11-20T23:59:00Z", &entries).ending();
    bench.until("2026-11-21T00:05:30Z");
    assert_eq!(bench.started().len(), 1000);
    for (tick, entry) in bench.ticks().iter().zip(&entries) {
        assert_eq!((tick.due, tick.start), (at("2026-11-21T00:00:00Z"), at("2026-11-21T00:00:00Z") + entry.policy.delay));
    }
}

/// A day of many schedules, as the mix of a machine: most daily, some hourly, a few by the minute. With
/// `RUNBOOK_SCHEDULES=100000` it tells what that costs.
#[test]
fn a_look_costs_what_is_due_and_not_what_there_is() {
    let asked = std::env::var("RUNBOOK_SCHEDULES").ok().and_then(|count| count.parse().ok());
    let count = asked.unwrap_or(3000);
    let before = resident();
    let entries = many(count, |n| match n % 25 {
        0 => "every = \"1m\"\njitter = \"59s\"".to_owned(),
        1..5 => format!("cron = \"{} * * * *\"", n % 60),
        _ => format!("cron = \"{} {} * * *\"\ntimezone = \"Europe/Berlin\"", n % 60, n % 24),
    });
    let mut now = at("2026-11-20T12:00:30Z");
    let mut planner = Planner::new(count);
    planner.load(entries, &[], now);
    let held = resident() - before;
    let (mut looks, mut due, mut worst) = (0, 0, std::time::Duration::ZERO);
    let end = now + SignedDuration::from_hours(2);
    let begun = Instant::now();
    while let Some(next) = planner.next_look().filter(|next| *next <= end) {
        now = next;
        let look = Instant::now();
        let ticks = planner.due(now, &[]);
        looks += 1;
        due += ticks.len();
        worst = worst.max(look.elapsed());
        for tick in ticks {
            planner.admit(tick);
        }
        for (run, decision) in (0..).zip(planner.decide(now)) {
            if let Decision::Start(tick) = decision {
                planner.started(&tick, run);
                planner.ended(run);
            }
        }
    }
    let took = begun.elapsed();
    assert!(due >= count * 2 / 25 * 60, "{due} ticks");
    if asked.is_some() {
        let share = took.as_secs_f64() / 7200.0 * 100.0;
        let text = format!(
            "{count} schedules: {} MiB, {due} ticks in {looks} looks, {took:?} of CPU for 2 h ({share:.3} % of a core), worst look {worst:?}",
            held >> 20
        );
        std::fs::write(std::env::temp_dir().join("runbook-schedules"), text).unwrap();
    }
}

/// Bytes of this process.
fn resident() -> i64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() * 4096
}
