use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{at, cron};
use crate::schedule::Timing;

const ZONES: [&str; 8] = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Asia/Kolkata",
    "Africa/Casablanca",
    "Pacific/Apia",
];

fn moments(timing: &Timing, after: &str, count: usize) -> Vec<String> {
    timing.after(at(after)).take(count).map(|due| due.at.to_string()).collect()
}

/// What `tests/schedule/golden.py` says of Debian's cron. There is one difference: a rule with a range or a step in
/// its hours is an interval here and a fixed time there; it shows at a clock change only, and no line has it.
#[test]
fn the_moments_are_those_of_debian() {
    let lines: Vec<&str> = include_str!("../../../tests/schedule/golden.txt").lines().collect();
    assert!(lines.len() >= 80, "{} lines", lines.len());
    for line in lines {
        let mut parts = line.split(" | ");
        let (zone, after, rule) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let expected: Vec<Timestamp> = parts.map(at).collect();
        assert!(!expected.is_empty(), "{line}");
        let found: Vec<Timestamp> = cron(rule, zone).after(at(after)).take(expected.len()).map(|due| due.at).collect();
        assert_eq!(found, expected, "{rule} in {zone} after {after}");
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len() as u64) as usize].clone()
    }

    /// A field that croner reads as POSIX does. It takes a list of times for an interval, and `*/2` for a list of days.
    fn field(&mut self, first: u64, last: u64, lists: bool, steps: bool) -> String {
        let low = first + self.roll(last - first + 1);
        let high = low + self.roll(last - low + 1);
        match self.roll(6) {
            0 | 1 => "*".to_owned(),
            2 if steps => format!("*/{}", 1 + self.roll(last)),
            3 => format!("{low}-{high}/{}", 1 + self.roll(last)),
            4 if lists => format!("{low},{high}"),
            5 => format!("{low}-{high}"),
            _ => low.to_string(),
        }
    }
}

#[test]
fn the_moments_are_those_of_croner() {
    let mut dice = Dice(0x2545_F491_4F6C_DD1D);
    let parser = croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Disallowed).build();
    let starts = [
        "2026-03-07T20:00:00Z",
        "2026-03-28T20:00:00Z",
        "2026-10-24T20:00:00Z",
        "2026-11-01T04:10:00Z",
        "2026-11-01T05:40:00Z",
        "2026-04-04T10:00:00Z",
        "2026-10-03T10:00:00Z",
        "2026-09-05T20:00:00Z",
        "2026-02-14T20:00:00Z",
        "2028-02-27T20:00:00Z",
        "2026-06-30T20:00:00Z",
    ];
    let (mut compared, mut rules) = (0, 0);
    while rules < 1500 {
        let minute = dice.field(0, 59, false, true);
        let hour = dice.field(0, 23, false, true);
        let (day, month, weekday) = (dice.field(1, 31, true, false), dice.field(1, 12, true, true), dice.field(0, 7, true, false));
        // Debian's cron and croner differ about what is fixed when a range has one value.
        let rule = format!("{minute} {hour} {day} {month} {weekday}");
        let Ok(ours) = rule.parse::<crate::model::Cron>() else { continue };
        let Ok(oracle) = parser.parse(&rule) else { continue };
        let is_fixed = matches!(oracle.determine_job_type(), croner::JobType::FixedTime);
        if ours.is_fixed() != is_fixed {
            continue;
        }
        rules += 1;
        let (zone, start) = (dice.one_of(&ZONES), at(dice.one_of(&starts)));
        let zone = TimeZone::get(zone).unwrap();
        let mut theirs = start.to_zoned(zone.clone());
        let timing = Timing::Cron(ours, zone.clone());
        for due in timing.after(start).take(20) {
            // It gives up on rules that match once in many years.
            let Ok(next) = oracle.find_next_occurrence(&theirs, false) else { break };
            assert_eq!(due.at, next.timestamp(), "{rule} in {zone:?} after {theirs}");
            theirs = next;
            compared += 1;
        }
    }
    assert!(compared > 20_000, "{compared} moments were compared");
}

#[test]
fn a_fixed_time_that_clocks_jump_over_is_the_first_instant_after_it() {
    for (rule, zone, after, expected) in [
        ("30 2 * * *", "America/New_York", "2026-03-08T00:00:00Z", "2026-03-08T07:00:00Z"),
        ("30 2 * * SUN", "America/New_York", "2026-03-07T00:00:00Z", "2026-03-08T07:00:00Z"),
        ("0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", "2026-09-06T04:00:00Z"),
        ("0 9 30 12 *", "Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-30T10:00:00Z"),
    ] {
        let due = cron(rule, zone).next(at(after)).unwrap();
        assert_eq!((due.at, due.after_gap), (at(expected), true), "{rule}");
    }
    let next = cron("30 2 * * *", "America/New_York").next(at("2026-03-08T07:00:00Z")).unwrap();
    assert_eq!((next.at, next.after_gap), (at("2026-03-09T06:30:00Z"), false));
}

#[test]
fn a_fixed_time_that_clocks_show_twice_is_the_first_of_them() {
    let timing = cron("30 1 * * *", "America/New_York");
    assert_eq!(moments(&timing, "2026-11-01T00:00:00Z", 2), ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]);
    // From inside the second pass nothing of that day is left, and nothing lies in the past.
    assert_eq!(moments(&timing, "2026-11-01T06:10:00Z", 1), ["2026-11-02T06:30:00Z"]);
}

#[test]
fn an_interval_follows_real_time_over_both_changes() {
    let hourly = cron("0 * * * *", "America/New_York");
    // From the midnight before to that after: 25 hours, and 23.
    let within = |from: &str, to: &str| hourly.after(at(from)).take_while(|due| due.at <= at(to)).count();
    assert_eq!(within("2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"), 25);
    assert_eq!(within("2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"), 23);
    let mut last = at("2026-11-01T03:00:00Z");
    for due in cron("*/30 * * * *", "America/New_York").after(last).take(20) {
        assert_eq!(due.at.duration_since(last), SignedDuration::from_mins(30));
        last = due.at;
    }
}

#[test]
fn seconds_come_first_when_there_are_six_fields() {
    assert_eq!(
        moments(&cron("*/20 30 2 * * *", "UTC"), "2026-01-01T00:00:00Z", 4),
        ["2026-01-01T02:30:00Z", "2026-01-01T02:30:20Z", "2026-01-01T02:30:40Z", "2026-01-02T02:30:00Z"]
    );
}

#[test]
fn an_interval_counts_from_1970_and_a_moment_comes_once() {
    let every = Timing::Every(SignedDuration::from_mins(5));
    assert_eq!(moments(&every, "2026-01-01T00:03:00Z", 2), ["2026-01-01T00:05:00Z", "2026-01-01T00:10:00Z"]);
    assert_eq!(moments(&every, "2026-01-01T00:05:00Z", 1), ["2026-01-01T00:10:00Z"]);
    let once = Timing::At(at("2026-01-01T00:05:00Z"));
    assert_eq!(moments(&once, "2026-01-01T00:00:00Z", 2), ["2026-01-01T00:05:00Z"]);
    assert_eq!(once.next(at("2026-01-01T00:05:00Z")), None);
}

#[test]
fn moments_rise_in_every_zone_and_none_lies_in_the_past() {
    for zone in ZONES {
        for rule in ["30 2 * * *", "*/30 * * * *", "0 0,1,2,3 * * *", "15 1-3 * * *", "0 0 1 * 1"] {
            let timing = cron(rule, zone);
            // Each half hour around both changes, as a start.
            for step in 0..400 {
                let start = at("2026-03-07T00:00:00Z") + SignedDuration::from_mins(30 * 48 * step);
                let mut last = start;
                for due in timing.after(start).take(6) {
                    assert!(due.at > last, "{rule} in {zone} after {last}");
                    last = due.at;
                }
            }
        }
    }
}
