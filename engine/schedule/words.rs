//! Rules as people say them, and what clock changes do to them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::model::{Cron, CronField, Span};
use crate::schedule::{Due, Timing};

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/// More times of the day than this are told as minutes of hours.
const MOST_TIMES: usize = 6;

impl Timing {
    /// The rule as one says it: `at 02:30 on Monday to Friday`.
    pub fn in_words(&self) -> String {
        match self {
            Self::Cron(cron, _) => in_words(cron),
            Self::Every(every) => format!("every {}, counted from 1970", Span(every.unsigned_abs())),
            Self::At(_) => "once".to_owned(),
        }
    }

    /// What it comes to on the days on which clocks change, from a moment on.
    pub fn around_changes(&self, zone: &TimeZone, from: Timestamp, count: usize) -> Vec<Change> {
        changes(zone, from).take(count).map(|change| self.around(change, zone)).collect()
    }

    fn around(&self, (at, before, after): (Timestamp, DateTime, DateTime), zone: &TimeZone) -> Change {
        let day = before.date().max(after.date());
        let edge = |day: jiff::civil::Date| day.to_zoned(zone.clone()).map_or(at, |zoned| zoned.timestamp());
        let (start, end) = (edge(day), day.tomorrow().map_or(at, edge));
        // The first instant of the day counts as well.
        let just_before = start - SignedDuration::from_nanos(1);
        let due = self.after(just_before).take_while(|due| due.at < end).collect();
        Change { at, before, after, due }
    }
}

/// A change of the clocks of a zone, and the moments of a schedule on its day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// What the clocks would have shown.
    pub before: DateTime,
    /// What they show.
    pub after: DateTime,
    /// The due moments of that day.
    pub due: Vec<Due>,
}

/// The changes of the clocks of a zone: when, from what, to what.
fn changes(zone: &TimeZone, from: Timestamp) -> impl Iterator<Item = (Timestamp, DateTime, DateTime)> + '_ {
    zone.following(from).filter_map(|change| {
        let (at, offset) = (change.timestamp(), change.offset());
        let before = zone.to_offset(at - SignedDuration::from_nanos(1));
        (before != offset).then(|| (at, before.to_datetime(at), offset.to_datetime(at)))
    })
}

fn in_words(cron: &Cron) -> String {
    let [second, minute, hour, day, month, weekday] = cron.fields();
    let mut words = time_of_day(&second, &minute, &hour);
    let on_days = || format!("day {} of the month", series(&day.values(), u32::to_string));
    let on_weekdays = || series(&weekday.values(), |day| DAYS[*day as usize % 7].to_owned());
    match (is_any(day), is_any(weekday)) {
        (true, true) => {}
        (false, true) => words.push_str(&format!(" on {}", on_days())),
        (true, false) => words.push_str(&format!(" on {}", on_weekdays())),
        (false, false) if day.is_star() || weekday.is_star() => {
            words.push_str(&format!(" on {} when it is {}", on_days(), on_weekdays()));
        }
        (false, false) => words.push_str(&format!(" on {}, and on {}", on_days(), on_weekdays())),
    }
    if !is_any(month) {
        words.push_str(&format!(" in {}", series(&month.values(), |month| MONTHS[(*month as usize + 11) % 12].to_owned())));
    }
    words
}

fn is_any(field: CronField<'_>) -> bool {
    field.text() == "*"
}

fn time_of_day(second: &CronField<'_>, minute: &CronField<'_>, hour: &CronField<'_>) -> String {
    let seconds = match (second.text(), second.values().as_slice()) {
        ("0", _) => String::new(),
        ("*", _) => "each second ".to_owned(),
        (text, _) if text.strip_prefix("*/").is_some_and(divides_an_hour) => format!("every {} seconds ", &text[2..]),
        (_, values) => format!("at second {} ", series(values, u32::to_string)),
    };
    let (minutes, hours) = (minute.values(), hour.values());
    if !minute.is_star() && !hour.is_star() && minutes.len() * hours.len() <= MOST_TIMES {
        let times: Vec<String> = hours.iter().flat_map(|hour| minutes.iter().map(move |minute| format!("{hour:02}:{minute:02}"))).collect();
        let of = if seconds.is_empty() { "at" } else { "of" };
        return format!("{seconds}{of} {}", and(&times));
    }
    let of_hours = match hour.text() {
        "*" => "each hour".to_owned(),
        _ if hours.len() == 1 => format!("the hour from {:02}:00", hours[0]),
        _ => format!("the hours {}", series(&hours, u32::to_string)),
    };
    let minutes = match (minute.text(), minutes.as_slice()) {
        ("*", _) if hour.text() == "*" && second.is_star() => return seconds.trim_end().to_owned(),
        ("*", _) if hour.text() == "*" => return format!("{seconds}every minute"),
        ("*", _) => format!("every minute of {of_hours}"),
        (text, _) if hour.text() == "*" && text.strip_prefix("*/").is_some_and(divides_an_hour) => {
            return format!("{seconds}every {} minutes", &text[2..]);
        }
        (_, [0]) if hour.text() == "*" => return format!("{seconds}at each full hour"),
        (_, values) => format!("at minute {} of {of_hours}", series(values, u32::to_string)),
    };
    format!("{seconds}{minutes}")
}

fn divides_an_hour(step: &str) -> bool {
    step.parse::<u32>().is_ok_and(|step| step > 1 && 60 % step == 0)
}

/// `1, 3 and 5 to 8`.
fn series(values: &[u32], name: impl Fn(&u32) -> String) -> String {
    let mut parts = Vec::new();
    for run in values.chunk_by(|one, next| one + 1 == *next) {
        match run {
            [first, _, .., last] => parts.push(format!("{} to {}", name(first), name(last))),
            few => parts.extend(few.iter().map(&name)),
        }
    }
    and(&parts)
}

fn and(parts: &[String]) -> String {
    match parts {
        [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
        _ => parts.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_as_one_says_them() {
        for (rule, words) in [
            ("30 2 * * *", "at 02:30"),
            ("0 9 * * 1-5", "at 09:00 on Monday to Friday"),
            ("0,30 9,17 * * 0", "at 09:00, 09:30, 17:00 and 17:30 on Sunday"),
            ("* * * * *", "every minute"),
            ("*/15 * * * *", "every 15 minutes"),
            ("*/7 * * * *", "at minute 0, 7, 14, 21, 28, 35, 42, 49 and 56 of each hour"),
            ("0 * * * *", "at each full hour"),
            ("5,35 * * * *", "at minute 5 and 35 of each hour"),
            ("0 */6 * * *", "at minute 0 of the hours 0, 6, 12 and 18"),
            ("* 3 * * *", "every minute of the hour from 03:00"),
            ("0 9-17 * * *", "at minute 0 of the hours 9 to 17"),
            ("@monthly", "at 00:00 on day 1 of the month"),
            ("0 0 13 * FRI", "at 00:00 on day 13 of the month, and on Friday"),
            ("0 0 */10 * 1", "at 00:00 on day 1, 11, 21 and 31 of the month when it is Monday"),
            ("0 0 1 1,7 *", "at 00:00 on day 1 of the month in January and July"),
            ("30 0 9 * * *", "at second 30 of 09:00"),
            ("* * * * * *", "each second"),
            ("*/2 * * * * *", "every 2 seconds"),
            ("15 * * * * *", "at second 15 every minute"),
        ] {
            assert_eq!(in_words(&rule.parse().unwrap()), words, "{rule}");
        }
    }

    #[test]
    fn both_clock_changes_say_what_they_do() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let timing = |rule: &str| Timing::Cron(rule.parse().unwrap(), zone.clone());
        let from = "2026-01-01T00:00:00Z".parse().unwrap();
        let around = |rule: &str| timing(rule).around_changes(&zone, from, 2);
        let daily = around("30 2 * * *");
        assert_eq!((daily[0].before.to_string(), daily[0].after.to_string()), ("2026-03-29T02:00:00".into(), "2026-03-29T03:00:00".into()));
        assert_eq!(daily.iter().map(|change| (change.due.len(), change.due[0].after_gap)).collect::<Vec<_>>(), [(1, true), (1, false)]);
        let hourly: Vec<usize> = around("0 * * * *").iter().map(|change| change.due.len()).collect();
        assert_eq!(hourly, [23, 25]);
        assert_eq!(timing("0 * * * *").around_changes(&TimeZone::UTC, from, 2), []);
    }
}
