//! Moments, days and weeks.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit, Zoned};

use crate::error::{Error, Kind, Result};

/// The zone of this name.
pub(super) fn zone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|_| {
        Error::new(Kind::Invalid, format!("`{name}` is no time zone")).hint("give an IANA name, as in \"Europe/Berlin\" or \"UTC\"")
    })
}

/// A moment as people and programs write it; without a zone it is one of the given zone.
pub(super) fn moment(text: &str, zone: &TimeZone) -> Result<Zoned> {
    let text = text.trim();
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment.to_zoned(zone.clone()));
    }
    if let Ok(moment) = text.parse::<Zoned>() {
        return Ok(moment.with_time_zone(zone.clone()));
    }
    let civil = text.parse::<DateTime>().ok().or_else(|| text.parse::<Date>().ok().map(|date| date.at(0, 0, 0, 0)));
    civil.and_then(|civil| civil.to_zoned(zone.clone()).ok()).ok_or_else(|| {
        Error::new(Kind::Invalid, format!("`{text}` is no moment"))
            .hint("write it like 2026-11-21T08:30:00Z, 2026-11-21 08:30 or 2026-11-21")
    })
}

/// RFC 3339, with milliseconds when there are any.
pub(super) fn written(moment: &Zoned) -> String {
    let moment = moment.round(Unit::Millisecond).unwrap_or_else(|_| moment.clone());
    moment.strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string()
}

/// A moment in a pattern of strftime(3).
pub(super) fn formatted(moment: &Zoned, pattern: &str) -> Result<String> {
    jiff::fmt::strtime::format(pattern, moment).map_err(|error| {
        Error::new(Kind::Invalid, format!("`{pattern}` is no pattern of a time: {error}")).hint("write it like \"%Y-%m-%d %H:%M:%S\"")
    })
}

/// A moment later, or earlier for a span with `-`: days, weeks and months follow the calendar.
pub(super) fn later(moment: &Zoned, span: &str) -> Result<Zoned> {
    let bad =
        || Error::new(Kind::Invalid, format!("`{span}` is not a duration")).hint("write it like \"30s\", \"2h\", \"1d 12h\" or \"-7d\"");
    let parsed: jiff::Span = span.trim().parse().map_err(|_| bad())?;
    moment.checked_add(parsed).map_err(|error| Error::because(Kind::Invalid, format_args!("`{span}` can not be added"), &error))
}

/// A moment by its seconds since 1970.
pub(super) fn of_unix(seconds: i64, zone: &TimeZone) -> Result<Zoned> {
    let moment = Timestamp::from_second(seconds);
    let moment =
        moment.map_err(|_| Error::new(Kind::Invalid, format!("`{seconds}` is no moment")).hint("give seconds, not milliseconds"))?;
    Ok(moment.to_zoned(zone.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> TimeZone {
        zone("Europe/Berlin").unwrap()
    }

    #[test]
    fn moments_are_read_in_every_common_form() {
        for (text, expected) in [
            ("2026-11-21T08:30:00Z", "2026-11-21T09:30:00+01:00"),
            ("2026-11-21T08:30:00.25+00:00", "2026-11-21T09:30:00.25+01:00"),
            ("2026-11-21T08:30:00[UTC]", "2026-11-21T09:30:00+01:00"),
            ("2026-11-21 08:30", "2026-11-21T08:30:00+01:00"),
            ("2026-07-01", "2026-07-01T00:00:00+02:00"),
        ] {
            assert_eq!(written(&moment(text, &berlin()).unwrap()), expected, "{text}");
        }
        for text in ["", "soon", "2026-02-30", "1763713800"] {
            assert_eq!(moment(text, &berlin()).unwrap_err().kind, Kind::Invalid, "{text}");
        }
    }

    #[test]
    fn a_day_later_is_the_same_hour_also_when_the_clocks_change() {
        let before = moment("2026-10-24 12:00", &berlin()).unwrap();
        assert_eq!(written(&later(&before, "1d").unwrap()), "2026-10-25T12:00:00+01:00");
        assert_eq!(written(&later(&before, "24h").unwrap()), "2026-10-25T11:00:00+01:00");
        assert_eq!(written(&later(&before, "-1 month").unwrap()), "2026-09-24T12:00:00+02:00");
    }

    #[test]
    fn the_week_at_the_turn_of_the_year_has_the_year_of_the_week() {
        for (day, week) in [("2025-12-29", "2026-W01"), ("2027-01-01", "2026-W53"), ("2026-06-15", "2026-W25")] {
            assert_eq!(formatted(&moment(day, &berlin()).unwrap(), super::super::WEEK).unwrap(), week);
        }
    }
}
