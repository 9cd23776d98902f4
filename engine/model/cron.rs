//! Moments of the calendar as cron writes them: five fields, or six with seconds first.
//!
//! The meaning is that of POSIX and of Debian's cron: Sunday is 0 or 7, names are months and days, and
//! a day matches when either of its two fields does, unless one of them begins with `*`. The `cron`
//! crate looks for the next match on a civil calendar; it counts days of the week from 1 and wants both
//! day fields to match, so it is given numbers and, when either may match, two calendars.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime as ChronoTime, Utc};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Kind, Result};

/// A rule of the calendar, checked: there is a moment it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron(Box<str>);

/// A rule made ready for looking: it is some hundred bytes, and made in microseconds.
#[derive(Debug, Clone)]
pub struct Calendar(
    /// One, or two of which either may match.
    Vec<cron::Schedule>,
);

/// One field: which values match, and how it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CronField<'c> {
    bits: u64,
    text: &'c str,
}

/// What a field is about, and the values it may have.
#[derive(Debug, Clone, Copy)]
struct Column {
    name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const COLUMNS: [Column; 6] = [
    Column { name: "second", first: 0, last: 59, names: &[] },
    Column { name: "minute", first: 0, last: 59, names: &[] },
    Column { name: "hour", first: 0, last: 23, names: &[] },
    Column { name: "day of the month", first: 1, last: 31, names: &[] },
    Column { name: "month", first: 1, last: 12, names: MONTHS },
    Column { name: "day of the week", first: 0, last: 7, names: DAYS },
];

/// The names that stand for a rule.
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

const HINT: &str = "`0 9 * * 1-5` is 9:00 on weekdays";

/// Four years from here have each date there is.
const LEAP_YEAR: &str = "2024-01-01T00:00:00";

impl Calendar {
    /// The first civil moment after this one that matches; none when the calendar of the `cron` crate
    /// ends first, in 2100.
    pub fn next(&self, after: DateTime) -> Option<DateTime> {
        let after = to_chrono(after)?;
        let next = self.0.iter().filter_map(|calendar| calendar.after(&after).next()).min()?;
        let moment = Timestamp::from_second(next.timestamp()).ok()?;
        Some(moment.to_zoned(TimeZone::UTC).datetime())
    }
}

impl Cron {
    /// Its calendar, to look for moments.
    pub fn calendar(&self) -> Calendar {
        calendar(&self.fields()).expect("it was made once when the rule was read")
    }

    /// Whether it names its times of the day one by one, and so means moments of the day and no interval.
    pub fn is_fixed(&self) -> bool {
        self.fields()[..3].iter().all(|field| !field.text.contains(['*', '/', '-']))
    }

    /// Its fields, from seconds to the day of the week.
    pub fn fields(&self) -> [CronField<'_>; 6] {
        fields(rule_of(&self.0)).expect("they were read once when the rule was")
    }
}

/// What a nickname stands for; anything else stands for itself.
fn rule_of(text: &str) -> &str {
    NICKNAMES.iter().find(|(name, _)| *name == text).map_or(text, |(_, rule)| rule)
}

/// The fields of a rule, that of the seconds first.
fn fields(rule: &str) -> Result<[CronField<'_>; 6]> {
    let mut parts: Vec<&str> = rule.split_whitespace().collect();
    if parts.len() == COLUMNS.len() - 1 {
        parts.insert(0, "0");
    }
    if parts.len() != COLUMNS.len() {
        return Err(Error::new(Kind::Invalid, format!("found `{rule}`, expected 5 fields, or 6 with seconds")).hint(HINT));
    }
    let read = |at: usize| CronField::read(parts[at], &COLUMNS[at]);
    Ok([read(0)?, read(1)?, read(2)?, read(3)?, read(4)?, read(5)?])
}

impl<'c> CronField<'c> {
    /// Whether it leaves the value open, as `*` and `*/2` do.
    pub fn is_star(&self) -> bool {
        self.text.starts_with('*')
    }

    /// As it was written.
    pub fn text(&self) -> &'c str {
        self.text
    }

    /// The values that match, in order.
    pub fn values(&self) -> Vec<u32> {
        (0..64).filter(|value| self.bits & (1 << value) != 0).collect()
    }

    fn read(text: &'c str, column: &Column) -> Result<Self> {
        let mut bits = 0;
        for item in text.split(',') {
            bits |= column.item(item)?;
        }
        // Sunday has two numbers.
        if column.last == 7 && bits & (1 << 7) != 0 {
            bits = bits & !(1 << 7) | 1;
        }
        Ok(Self { bits, text })
    }
}

impl Column {
    fn wrong(&self, item: &str, why: impl fmt::Display) -> Error {
        Error::new(Kind::Invalid, format!("the {} `{item}` {why}", self.name))
    }

    /// `*`, `*/2`, `5`, `mon`, `1-5`, `1-5/2`.
    fn item(&self, item: &str) -> Result<u64> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(self.step(item, step)?)),
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.first, if self.last == 7 { 6 } else { self.last }),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None if step.is_some() => {
                let error = self.wrong(item, "has a step and no range");
                return Err(error.hint(format!("write `{range}-{}/{}`", self.last, step.unwrap_or(1))));
            }
            None => (self.value(range)?, self.value(range)?),
        };
        if first > last {
            let error = self.wrong(item, "ends before it begins");
            let highest = if self.last == 7 { 6 } else { self.last };
            return Err(error.hint(format!("write `{first}-{highest},{}-{last}`", self.first)));
        }
        let step = step.unwrap_or(1);
        Ok((first..=last).step_by(step as usize).fold(0, |bits, value| bits | 1 << value))
    }

    fn step(&self, item: &str, text: &str) -> Result<u32> {
        let step: u32 = number(text).ok_or_else(|| self.wrong(item, format_args!("has `{text}` for a step, expected a number")))?;
        match step {
            0 => Err(self.wrong(item, "has a step of 0")),
            // Its only match would be the first value, and that is not what anybody means by it.
            _ if step > self.last => Err(self.wrong(item, format_args!("has a step beyond {}", self.last))),
            _ => Ok(step),
        }
    }

    fn value(&self, text: &str) -> Result<u32> {
        if let Some(at) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(self.first + u32::try_from(at).unwrap_or(0));
        }
        let names = self.names.first().zip(self.names.last());
        let or_names = names.map(|(first, last)| format!(", or `{first}` to `{last}`")).unwrap_or_default();
        number(text)
            .filter(|number| (self.first..=self.last).contains(number))
            .ok_or_else(|| self.wrong(text, format_args!("is out of range, expected {} to {}{or_names}", self.first, self.last)))
    }

    /// The field as the `cron` crate writes it.
    fn translated(&self, field: CronField<'_>) -> String {
        // It counts the days of the week from 1.
        let shift = u32::from(self.last == 7);
        let values = field.values();
        let all = if self.last == 7 { 7 } else { self.last - self.first + 1 };
        if values.len() == all as usize {
            return "*".to_owned();
        }
        values.iter().map(|value| (value + shift).to_string()).collect::<Vec<_>>().join(",")
    }
}

fn number(text: &str) -> Option<u32> {
    // `parse` would take a sign as well.
    text.bytes().all(|letter| letter.is_ascii_digit()).then(|| text.parse().ok())?
}

fn to_chrono(moment: DateTime) -> Option<ChronoTime<Utc>> {
    ChronoTime::from_timestamp(TimeZone::UTC.to_timestamp(moment).ok()?.as_second(), 0)
}

impl FromStr for Cron {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let rule = rule_of(text);
        if rule == "@reboot" {
            return Err(Error::new(Kind::Invalid, "found `@reboot`, which is no moment of the calendar").hint(HINT));
        }
        if rule.starts_with('@') {
            let error = Error::new(Kind::Invalid, format!("found `{text}`"));
            return Err(error.suggest(text, NICKNAMES.iter().map(|(name, _)| *name)));
        }
        let fields = fields(rule)?;
        let start: DateTime = LEAP_YEAR.parse().expect("it is a moment");
        if calendar(&fields)?.next(start).is_none() {
            let (days, months) = (fields[3].text, fields[4].text);
            return Err(Error::new(Kind::Invalid, format!("the day of the month `{days}` is in no month `{months}`")));
        }
        Ok(Self(text.into()))
    }
}

/// The fields as the `cron` crate reads them.
fn calendar(fields: &[CronField<'_>; 6]) -> Result<Calendar> {
    let parts: Vec<String> = fields.iter().zip(&COLUMNS).map(|(field, column)| column.translated(*field)).collect();
    let with = |day: &str, weekday: &str| {
        let text = format!("{} {} {} {day} {} {weekday}", parts[0], parts[1], parts[2], parts[4]);
        cron::Schedule::from_str(&text).map_err(|error| Error::because(Kind::Bug, format_args!("`{text}`"), &error))
    };
    let either = !fields[3].is_star() && !fields[5].is_star();
    Ok(Calendar(if either { vec![with(&parts[3], "*")?, with("*", &parts[5])?] } else { vec![with(&parts[3], &parts[5])?] }))
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| de::Error::custom(error.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        text.parse::<Cron>().expect_err(text).message
    }

    #[test]
    fn what_is_wrong_is_named_by_its_column() {
        for (text, message) in [
            ("60 * * * *", "the minute `60` is out of range, expected 0 to 59"),
            ("* 24 * * *", "the hour `24` is out of range, expected 0 to 23"),
            ("* * 0 * *", "the day of the month `0` is out of range, expected 1 to 31"),
            ("* * * 13 *", "the month `13` is out of range, expected 1 to 12, or `jan` to `dec`"),
            ("* * * * 8", "the day of the week `8` is out of range, expected 0 to 7, or `sun` to `sat`"),
            ("61 * * * * *", "the second `61` is out of range, expected 0 to 59"),
            ("* * * * 6-1", "the day of the week `6-1` ends before it begins"),
            ("0 0 30 2 *", "the day of the month `30` is in no month `2`"),
            ("0 0 31 4,jun *", "the day of the month `31` is in no month `4,jun`"),
            ("0 9 *", "found `0 9 *`, expected 5 fields, or 6 with seconds"),
            ("0 0 9 * * 1 2026", "found `0 0 9 * * 1 2026`, expected 5 fields, or 6 with seconds"),
            ("", "found ``, expected 5 fields, or 6 with seconds"),
            ("*/0 * * * *", "the minute `*/0` has a step of 0"),
            ("*/90 * * * *", "the minute `*/90` has a step beyond 59"),
            ("5/15 * * * *", "the minute `5/15` has a step and no range"),
            ("+5 * * * *", "the minute `+5` is out of range, expected 0 to 59"),
            ("1,,2 * * * *", "the minute `` is out of range, expected 0 to 59"),
            ("0 0 L * *", "the day of the month `L` is out of range, expected 1 to 31"),
            ("0 0 * * 5#3", "the day of the week `5#3` is out of range, expected 0 to 7, or `sun` to `sat`"),
            ("0 0 ? * *", "the day of the month `?` is out of range, expected 1 to 31"),
            ("@reboot", "found `@reboot`, which is no moment of the calendar"),
            ("@dayly", "found `@dayly`"),
        ] {
            assert_eq!(complaint(text), message);
        }
    }

    #[test]
    fn a_rule_that_names_its_times_is_fixed_and_one_with_gaps_between_is_an_interval() {
        for (text, fixed) in [
            ("30 2 * * *", true),
            ("0,30 2,14 * * *", true),
            ("@daily", true),
            ("0 * * * *", false),
            ("*/30 2 * * *", false),
            ("0 1-5 * * *", false),
            ("* 30 2 * * *", false),
        ] {
            assert_eq!(text.parse::<Cron>().unwrap().is_fixed(), fixed, "{text}");
        }
    }

    #[test]
    fn it_reads_back_as_it_was_written() {
        for text in ["0 9 * * MON-FRI", "@daily", "*/10 0 9 * * 1"] {
            assert_eq!(text.parse::<Cron>().unwrap().to_string(), text);
        }
    }
}
