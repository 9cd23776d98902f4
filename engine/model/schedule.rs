//! When a runbook runs by itself, and what is done when that does not work out.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::model::{Cron, Span};

/// When a runbook runs: exactly one of `cron`, `every` and `at`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// The runbook, when the schedule is not called like it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// At these moments of the calendar: `0 9 * * *`, `@daily`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<Cron>,
    /// Again after this long, counted from 1970: with `5m`, at each fifth minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// Once, at this moment: `2026-12-01 02:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
    /// The zone of `cron`, `at`, `windows` and `calendars`, when not the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// It starts up to so much later, each schedule always by the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Span>,
    /// What becomes of moments at which nobody was there: `skip`, `latest`, `all(50)`.
    #[serde(skip_serializing_if = "is_default")]
    pub catch_up: CatchUp,
    /// It does not start when it is later than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// What is done when the run before it still goes on: `forbid`, `queue`, `replace`, `allow`.
    #[serde(skip_serializing_if = "is_default")]
    pub overlap: Overlap,
    /// It starts only within one of these: `Mon-Fri 22:00-06:00`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// The calendars of the system on whose days it does not run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calendars: Vec<String>,
    /// The group of which only so many run at once as the system's `groups` say; one when it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The parameters of the run.
    pub params: BTreeMap<String, Value>,
    /// Whether it is on.
    pub enabled: bool,
    /// The procedures of the manuals it serves.
    pub serves: Vec<String>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            runbook: None,
            cron: None,
            every: None,
            at: None,
            timezone: None,
            jitter: None,
            catch_up: CatchUp::default(),
            deadline: None,
            overlap: Overlap::default(),
            windows: Vec::new(),
            calendars: Vec::new(),
            group: None,
            params: BTreeMap::new(),
            enabled: true,
            serves: Vec::new(),
        }
    }
}

impl Schedule {
    /// The key that is wrong, and what is, beyond what types say.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let zero = |span: Option<Span>| span.is_some_and(|span| span.0.is_zero());
        match [self.cron.is_some(), self.every.is_some(), self.at.is_some()].iter().filter(|given| **given).count() {
            1 => {}
            _ => return Some(("", "expected one of `cron`, `every` and `at`".to_owned())),
        }
        if zero(self.every) {
            return Some(("every", "found 0, expected some time".to_owned()));
        }
        if zero(self.deadline) {
            return Some(("deadline", "found 0, expected some time".to_owned()));
        }
        if let (Some(every), Some(jitter)) = (self.every, self.jitter)
            && jitter > every
        {
            return Some(("jitter", format!("{jitter} is longer than the interval of {every}")));
        }
        None
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A schedule as a header may have it: the rule alone, `"0 3 * * *"`, or all of it.
pub(super) fn in_header<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Schedule>, D::Error> {
    struct Rule;
    impl<'de> de::Visitor<'de> for Rule {
        type Value = Schedule;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a rule of cron or a map")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Schedule, E> {
            let cron = text.parse().map_err(|error: Error| E::custom(error.message))?;
            Ok(Schedule { cron: Some(cron), ..Schedule::default() })
        }

        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Schedule, A::Error> {
            Schedule::deserialize(de::value::MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(Rule).map(Some)
}

/// What becomes of moments at which nobody was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// They are missed.
    Skip,
    /// The last of them runs, the others are missed.
    #[default]
    Latest,
    /// The last so many run, one after the other.
    All(u32),
}

/// More moments than this are not caught up with.
const MOST_CAUGHT_UP: u32 = 1000;

impl FromStr for CatchUp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::new(Kind::Invalid, format!("found `{text}`, expected `skip`, `latest` or `all(50)`"));
        match text.trim() {
            "skip" => Ok(Self::Skip),
            "latest" => Ok(Self::Latest),
            other => {
                let most = other.strip_prefix("all(").and_then(|rest| rest.strip_suffix(')')).ok_or_else(bad)?;
                let most = most.trim().parse().ok().filter(|most| (1..=MOST_CAUGHT_UP).contains(most)).ok_or_else(bad)?;
                Ok(Self::All(most))
            }
        }
    }
}

impl fmt::Display for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip => f.write_str("skip"),
            Self::Latest => f.write_str("latest"),
            Self::All(most) => write!(f, "all({most})"),
        }
    }
}

/// What is done when the run before still goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// The new one is skipped.
    #[default]
    Forbid,
    /// The new one waits for its end.
    Queue,
    /// The old one is cancelled, and the new one starts when it has cleaned up.
    Replace,
    /// Both run.
    Allow,
}

impl Overlap {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forbid => "forbid",
            Self::Queue => "queue",
            Self::Replace => "replace",
            Self::Allow => "allow",
        }
    }
}

/// A moment as people write it: in the schedule's zone, or with an offset of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// On the clocks of the schedule's zone.
    Civil(DateTime),
    /// Wherever one is.
    Exact(Timestamp),
}

impl Moment {
    /// The instant in a zone: the first after a gap, the earlier one in a fold.
    pub fn instant(self, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Exact(at) => Some(at),
            Self::Civil(civil) => zone.to_ambiguous_timestamp(civil).compatible().ok(),
        }
    }
}

impl FromStr for Moment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        text.parse().map(Self::Exact).or_else(|_| text.parse().map(Self::Civil)).map_err(|_| {
            Error::new(Kind::Invalid, format!("`{text}` is no moment, expected one like `2026-12-01 02:00` or `2026-12-01T02:00+01:00`"))
        })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Civil(civil) => civil.fmt(f),
            Self::Exact(at) => at.fmt(f),
        }
    }
}

/// Hours of some days: `22:00-06:00`, `Mon-Fri 22:00-06:00`. Those that end after midnight belong to the day they begin on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    text: String,
    /// Sunday is bit 0.
    days: u8,
    /// Minutes of the day.
    from: u16,
    /// Minutes of the day, up to 24 hours.
    to: u16,
}

const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const ALL_DAYS: u8 = 0b111_1111;

impl Window {
    /// Whether it is open at this moment on its clocks.
    pub fn is_open(&self, at: DateTime) -> bool {
        let minute = u16::from(at.hour().unsigned_abs()) * 60 + u16::from(at.minute().unsigned_abs());
        let today = weekday(at.date().weekday());
        let yesterday = (today + 6) % 7;
        let on = |day: u8| self.days & (1 << day) != 0;
        if self.from < self.to {
            return on(today) && (self.from..self.to).contains(&minute);
        }
        on(today) && minute >= self.from || on(yesterday) && minute < self.to
    }
}

fn weekday(day: Weekday) -> u8 {
    day.to_sunday_zero_offset().unsigned_abs()
}

impl FromStr for Window {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::new(Kind::Invalid, format!("found `{text}`, expected hours like `22:00-06:00` or `Mon-Fri 22:00-06:00`"));
        let mut words = text.split_whitespace().rev();
        let (from, to) = words.next().and_then(|hours| hours.split_once('-')).ok_or_else(bad)?;
        let days = match words.next() {
            Some(days) => days.split(',').try_fold(0, |days, item| Some(days | days_of(item)?)).ok_or_else(bad)?,
            None => ALL_DAYS,
        };
        let (from, to) = (minutes(from).ok_or_else(bad)?, minutes(to).ok_or_else(bad)?);
        if words.next().is_some() || from == to || from == 24 * 60 {
            return Err(bad());
        }
        Ok(Self { text: text.trim().to_owned(), days, from, to })
    }
}

/// The bits of `Mon` or `Fri-Mon`.
fn days_of(item: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    let (first, last) = (day(first)?, day(last)?);
    let count = (last + 7 - first) % 7;
    Some((0..=count).fold(0, |days, after| days | 1 << ((first + after) % 7)))
}

fn minutes(text: &str) -> Option<u16> {
    if text == "24:00" {
        return Some(24 * 60);
    }
    let (hours, minutes) = text.split_once(':')?;
    let time = Time::new(hours.parse().ok()?, minutes.parse().ok()?, 0, 0).ok()?;
    Some(u16::from(time.hour().unsigned_abs()) * 60 + u16::from(time.minute().unsigned_abs()))
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Days of a calendar: `2026-12-25`, `12-25` of each year, `2026-12-24..2027-01-02`, `12-24..01-02`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dates {
    text: String,
    first: Day,
    last: Day,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Day {
    Once(Date),
    /// Month and day.
    Yearly(i8, i8),
}

impl Dates {
    /// Whether it names this day.
    pub fn contain(&self, date: Date) -> bool {
        match (self.first, self.last) {
            (Day::Once(first), Day::Once(last)) => (first..=last).contains(&date),
            (Day::Yearly(month, day), Day::Yearly(last_month, last_day)) => {
                let (first, last, this) = ((month, day), (last_month, last_day), (date.month(), date.day()));
                if first <= last { (first..=last).contains(&this) } else { this >= first || this <= last }
            }
            _ => false,
        }
    }
}

impl FromStr for Dates {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let bad = || Error::new(Kind::Invalid, format!("found `{text}`, expected days like `2026-12-25`, `12-25` or `12-24..01-02`"));
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let (first, last) = (day_of(first).ok_or_else(bad)?, day_of(last).ok_or_else(bad)?);
        let fits = match (first, last) {
            (Day::Once(first), Day::Once(last)) => first <= last,
            (Day::Yearly(..), Day::Yearly(..)) => true,
            _ => false,
        };
        if fits { Ok(Self { text: text.to_owned(), first, last }) } else { Err(bad()) }
    }
}

fn day_of(text: &str) -> Option<Day> {
    if let Ok(date) = text.parse::<Date>() {
        return Some(Day::Once(date));
    }
    let (month, day) = text.split_once('-')?;
    // A leap year has each day there is.
    let date = Date::new(2024, month.parse().ok()?, day.parse().ok()?).ok()?;
    Some(Day::Yearly(date.month(), date.day()))
}

impl fmt::Display for Dates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Types that are written as texts.
macro_rules! as_text {
    ($($type:ty),+) => { $(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|error: Error| de::Error::custom(error.message))
            }
        }
    )+ };
}

as_text!(CatchUp, Moment, Window, Dates);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        let window: Window = "Fri 22:00-06:00".parse().unwrap();
        for (moment, open) in [
            ("2026-11-20T21:59:59", false), // a Friday
            ("2026-11-20T22:00:00", true),
            ("2026-11-21T05:59:59", true),
            ("2026-11-21T06:00:00", false),
            ("2026-11-21T23:00:00", false),
            ("2026-11-20T05:00:00", false),
        ] {
            assert_eq!(window.is_open(at(moment)), open, "{moment}");
        }
    }

    #[test]
    fn a_window_names_days_or_none() {
        let open = |window: &str, moment: &str| window.parse::<Window>().unwrap().is_open(at(moment));
        assert!(open("08:00-24:00", "2026-11-21T23:59:00"));
        assert!(open("Sat-Mon 08:00-09:00", "2026-11-22T08:30:00"));
        assert!(!open("Mon-Fri,Sun 08:00-09:00", "2026-11-21T08:30:00"));
        for bad in ["", "22:00", "Mon", "Mon-Fri", "25:00-26:00", "Moo 08:00-09:00", "08:00-08:00", "Mon Tue 08:00-09:00", "24:00-06:00"] {
            assert!(bad.parse::<Window>().is_err(), "{bad}");
        }
    }

    #[test]
    fn dates_are_of_one_year_or_of_each() {
        let named = |dates: &str, day: &str| dates.parse::<Dates>().unwrap().contain(day.parse().unwrap());
        assert!(named("2026-12-25", "2026-12-25") && !named("2026-12-25", "2027-12-25"));
        assert!(named("12-25", "2031-12-25") && named("02-29", "2028-02-29"));
        assert!(named("2026-12-24..2027-01-02", "2027-01-01") && !named("2026-12-24..2027-01-02", "2027-12-25"));
        assert!(named("12-24..01-02", "2030-01-01") && named("12-24..01-02", "2030-12-31") && !named("12-24..01-02", "2030-06-01"));
        for bad in ["", "christmas", "2026-02-30", "13-01", "2027-01-02..2026-12-24", "12-24..2027-01-02"] {
            assert!(bad.parse::<Dates>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_has_an_offset_or_that_of_the_zone() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for (text, instant) in [
            ("2026-12-01 02:00", "2026-12-01T01:00:00Z"),
            ("2026-12-01T02:00:00Z", "2026-12-01T02:00:00Z"),
            ("2026-12-01T02:00+05:30", "2026-11-30T20:30:00Z"),
            ("2026-03-29 02:30", "2026-03-29T01:30:00Z"),
            ("2026-10-25 02:30", "2026-10-25T00:30:00Z"),
        ] {
            assert_eq!(text.parse::<Moment>().unwrap().instant(&berlin).unwrap().to_string(), instant, "{text}");
        }
        assert!("tomorrow".parse::<Moment>().is_err());
    }

    #[test]
    fn what_is_caught_up_with_reads_as_it_is_written() {
        for text in ["skip", "latest", "all(50)"] {
            assert_eq!(text.parse::<CatchUp>().unwrap().to_string(), text);
        }
        for text in ["all", "all()", "all(0)", "all(1001)", "some"] {
            assert!(text.parse::<CatchUp>().unwrap_err().message.contains("expected `skip`, `latest` or `all(50)`"), "{text}");
        }
    }
}
