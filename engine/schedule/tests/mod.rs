//! Schedules against two oracles, on a clock that is told, with everything that goes wrong.

mod bench;
mod crash;
mod day;
mod jumps;
mod policy;
mod scale;
mod timing;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::{Schedule, System};
use crate::schedule::{Entry, Timing};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(rule: &str, zone: &str) -> Timing {
    Timing::Cron(rule.parse().unwrap(), TimeZone::get(zone).unwrap())
}

/// A schedule `shop/NAME`, as a system file has it.
fn entry(name: &str, keys: &str) -> Entry {
    let schedule: Schedule = toml::from_str(keys).unwrap();
    Entry::new(&shop(), name, &schedule).unwrap()
}

fn shop() -> System {
    let text = "timezone = \"UTC\"\n[calendars]\nholidays = [\"12-25\", \"2026-11-23..2026-11-24\"]\n[groups]\npairs = 2\n";
    System { name: "shop".to_owned(), ..toml::from_str(text).unwrap() }
}
