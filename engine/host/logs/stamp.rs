//! The times of log lines, read from bytes.
//!
//! Read by hand, since this is done for every line; the calendar is asked once per minute of a log. A
//! stamp without a zone is in the zone of the log. The hour that a change of clocks repeats is told
//! apart by an abbreviation after the stamp (`CEST`, `CET`) or by the order of the lines.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Lines may stand this much out of order and still be in the first of two equal hours.
const DISORDER_MS: i64 = 60_000;
/// A line may be stamped this much after the file was last written (clocks differ) and still be of this year.
const YEAR_SLACK: SignedDuration = SignedDuration::from_hours(24);

/// A time that was read, and how many bytes it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Milliseconds since 1970.
    pub(super) millis: i64,
    /// Where the text goes on.
    pub(super) end: usize,
}

/// A minute, or ten of them, that was looked up: the seconds it begins at.
#[derive(Debug, Clone, Copy, Default)]
struct Base {
    /// The first bytes of the stamp; 0 is none.
    key: u128,
    /// When its digits are UTC.
    utc: i64,
    /// When they are of the zone of the log.
    local: i64,
    /// The second time the clocks showed it; the same as `local` when they did once.
    again: i64,
}

/// Reads stamps; remembers the minute it read last.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    zone: TimeZone,
    /// The latest a stamp without a year may be.
    latest: Timestamp,
    local: Base,
    access: Base,
    last: i64,
}

impl Clock {
    /// A reader of stamps of this zone, in a file that was last written at `latest`.
    pub(super) fn new(zone: TimeZone, latest: Timestamp) -> Self {
        Self { zone, latest, local: Base::default(), access: Base::default(), last: i64::MIN }
    }

    /// Begins with lines that do not follow those read before.
    pub(super) fn restart(&mut self, latest: Timestamp) {
        self.latest = latest;
        self.local = Base::default();
        self.last = i64::MIN;
    }

    /// The stamp a text begins with, in any of the shapes but that of access logs.
    #[inline]
    pub(super) fn read(&mut self, text: &[u8]) -> Option<Stamp> {
        match text {
            [b'0'..=b'9', _, _, _, b'-' | b'/', ..] => self.civil(text),
            [b'0'..=b'9', _, b'/', ..] => self.access(text),
            [b'0'..=b'9', ..] => epoch(text),
            [b'A'..=b'Z', ..] => self.syslog(text),
            [b'[', rest @ ..] => {
                let stamp = self.read(rest)?;
                (rest.get(stamp.end) == Some(&b']')).then(|| Stamp { end: stamp.end + 2, ..stamp })
            }
            _ => None,
        }
    }

    /// `2026-11-21 10:00:00`, with a `T`, slashes, a fraction, a zone.
    #[inline]
    fn civil(&mut self, text: &[u8]) -> Option<Stamp> {
        let head: &[u8; 16] = text.first_chunk()?;
        let key = u128::from_le_bytes(*head);
        if key != self.local.key {
            self.local = self.base(key, civil_minute(head)?)?;
        }
        let seconds = seconds(text.get(16..19)?)?;
        let mut end = 19;
        let mut fraction = 0;
        if let Some(b'.' | b',') = text.get(end) {
            let digits = text[end + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let scale = [0, 100, 10, 1][digits.min(3)];
            fraction = number(&text[end + 1..end + 1 + digits.min(3)])? * scale;
            end += 1 + digits;
        }
        let millis = |base: i64| (base + seconds) * 1000 + fraction;
        if let Some((offset, length)) = zone(&text[end..]) {
            return Some(Stamp { millis: millis(self.local.utc - offset), end: end + length });
        }
        let millis = if self.local.local == self.local.again {
            millis(self.local.local)
        } else {
            self.twice(millis(self.local.local), millis(self.local.again), &text[end..])
        };
        self.last = millis;
        Some(Stamp { millis, end })
    }

    /// The stamp of a line in the minute that was read last, when the clocks showed it once and no zone
    /// follows; whether one does is for the caller to see, who then says that it [passed](Self::pass).
    #[inline]
    pub(super) fn same_minute(&self, text: &[u8]) -> Option<Stamp> {
        let text: &[u8; 24] = text.first_chunk()?;
        let head: &[u8; 16] = text.first_chunk()?;
        if u128::from_le_bytes(*head) != self.local.key || self.local.local != self.local.again || !text[0].is_ascii_digit() {
            return None;
        }
        let millis = (self.local.local + seconds(&text[16..19])?) * 1000;
        match &text[19..] {
            [b'.' | b',', fraction @ .., after] if !after.is_ascii_digit() => Some(Stamp { millis: millis + number(fraction)?, end: 23 }),
            [b'.' | b',', ..] => None,
            _ => Some(Stamp { millis, end: 19 }),
        }
    }

    /// Goes on from a time that was read by [`Self::same_minute`].
    #[inline]
    pub(super) fn pass(&mut self, millis: i64) {
        self.last = millis;
    }

    /// Which of two instants a local time means that the clocks showed twice.
    #[cold]
    fn twice(&self, first: i64, second: i64, rest: &[u8]) -> i64 {
        let named = |millis: i64| {
            let instant = Timestamp::from_millisecond(millis).ok()?;
            let word = rest.strip_prefix(b" ")?;
            word.starts_with(self.zone.to_offset_info(instant).abbreviation().as_bytes()).then_some(millis)
        };
        match (named(first), named(second)) {
            (None, Some(second)) => second,
            (Some(first), None) => first,
            _ if first + DISORDER_MS < self.last => second,
            _ => first,
        }
    }

    /// `21/Nov/2026:10:00:00 +0000`, of access logs.
    #[inline]
    pub(super) fn access(&mut self, text: &[u8]) -> Option<Stamp> {
        let text: &[u8; 26] = text.first_chunk()?;
        let head: &[u8; 16] = text.first_chunk()?;
        let key = u128::from_le_bytes(*head);
        if key != self.access.key {
            self.access = self.base(key, access_ten_minutes(head)?)?;
        }
        let minute = digit(text[16])?;
        let seconds = seconds(&text[17..20])?;
        let (offset, _) = zone(&text[20..])?;
        Some(Stamp { millis: (self.access.utc + minute * 60 + seconds - offset) * 1000, end: 26 })
    }

    /// `Nov  5 10:00:00`, the day with one digit or two, and no year: the latest that is not after the
    /// file was written.
    fn syslog(&mut self, text: &[u8]) -> Option<Stamp> {
        let month = month(text.get(..3)?)?;
        let day_at = if text.get(4) == Some(&b' ') { 5 } else { 4 };
        let day_digits = text.get(day_at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let clock_at = day_at + day_digits + 1;
        let clock = text.get(clock_at..clock_at + 8)?;
        if text[3] != b' ' || text[clock_at - 1] != b' ' || clock[2] != b':' || !matches!(day_digits, 1 | 2) {
            return None;
        }
        let mut head = [0; 16];
        head[..clock_at + 5].copy_from_slice(&text[..clock_at + 5]);
        let key = u128::from_le_bytes(head);
        if key != self.local.key {
            let day = number(&text[day_at..day_at + day_digits])?;
            let (hour, minute) = (number(&clock[..2])?, number(&clock[3..5])?);
            self.local = self.latest_year(key, month, day, hour, minute)?;
        }
        let seconds = seconds(&clock[5..8])?;
        let millis = |base: i64| (base + seconds) * 1000;
        let end = clock_at + 8;
        let millis = self.twice(millis(self.local.local), millis(self.local.again), &text[end..]);
        self.last = millis;
        Some(Stamp { millis, end })
    }

    fn latest_year(&self, key: u128, month: i8, day: i64, hour: i64, minute: i64) -> Option<Base> {
        let limit = self.latest.checked_add(YEAR_SLACK).unwrap_or(Timestamp::MAX);
        let year = limit.to_zoned(self.zone.clone()).year();
        // A leap day may be eight years back, around 2100.
        (0..=8)
            .filter_map(|back| self.base(key, minute_of((year - back).into(), month, day, hour, minute)?))
            .find(|base| base.local <= limit.as_second())
    }

    fn base(&self, key: u128, minute: DateTime) -> Option<Base> {
        let utc = TimeZone::UTC.to_timestamp(minute).ok()?.as_second();
        let (local, again) = match self.zone.to_ambiguous_timestamp(minute).offset() {
            AmbiguousOffset::Unambiguous { offset } => (offset, offset),
            // The clocks never showed it; whoever wrote it had not put them forward yet.
            AmbiguousOffset::Gap { before, .. } => (before, before),
            AmbiguousOffset::Fold { before, after } => (before, after),
        };
        Some(Base { key, utc, local: utc - i64::from(local.seconds()), again: utc - i64::from(again.seconds()) })
    }
}

/// Whether the clocks of a zone show an hour twice in this time.
pub(super) fn repeats_an_hour(zone: &TimeZone, from: Timestamp, to: Timestamp) -> bool {
    let day = SignedDuration::from_hours(24);
    let (from, to) = (from.checked_sub(day).unwrap_or(from), to.checked_add(day).unwrap_or(to));
    let mut offset = zone.to_offset(from);
    for change in zone.following(from).take_while(|change| change.timestamp() <= to) {
        if change.offset() < offset {
            return true;
        }
        offset = change.offset();
    }
    false
}

/// Seconds since 1970, with a fraction or as milliseconds.
fn epoch(text: &[u8]) -> Option<Stamp> {
    let digits = text.iter().take(14).take_while(|byte| byte.is_ascii_digit()).count();
    let whole = number(&text[..digits])?;
    match digits {
        13 => Some(Stamp { millis: whole, end: 13 }),
        10 if text.get(10) == Some(&b'.') => {
            let fraction = text[11..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let scale = [0, 100, 10, 1][fraction.min(3)];
            Some(Stamp { millis: whole * 1000 + number(&text[11..11 + fraction.min(3)])? * scale, end: 11 + fraction })
        }
        10 => Some(Stamp { millis: whole * 1000, end: 10 }),
        _ => None,
    }
}

fn civil_minute(text: &[u8; 16]) -> Option<DateTime> {
    let separated = matches!((text[4], text[7]), (b'-', b'-') | (b'/', b'/')) && matches!(text[10], b' ' | b'T' | b't' | b'_');
    if !separated || text[13] != b':' {
        return None;
    }
    let month = i8::try_from(number(&text[5..7])?).ok()?;
    minute_of(number(&text[..4])?, month, number(&text[8..10])?, number(&text[11..13])?, number(&text[14..16])?)
}

/// The ten minutes of `21/Nov/2026:10:0`: what fits in a key of 16 bytes. The offset is added later.
fn access_ten_minutes(text: &[u8; 16]) -> Option<DateTime> {
    if text[2] != b'/' || text[6] != b'/' || text[11] != b':' || text[14] != b':' {
        return None;
    }
    minute_of(number(&text[7..11])?, month(&text[3..6])?, number(&text[..2])?, number(&text[12..14])?, digit(text[15])? * 10)
}

fn minute_of(year: i64, month: i8, day: i64, hour: i64, minute: i64) -> Option<DateTime> {
    let small = |value: i64| i8::try_from(value).ok();
    DateTime::new(i16::try_from(year).ok()?, month, small(day)?, small(hour)?, small(minute)?, 0, 0).ok()
}

/// `:59`; a leap second counts as the next second.
#[inline]
fn seconds(text: &[u8]) -> Option<i64> {
    match text {
        [b':', tens @ b'0'..=b'6', ones @ b'0'..=b'9'] => Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')),
        _ => None,
    }
}

/// A zone after a stamp, its offset in seconds and its length: `Z`, `+08:00`, ` +0000`, `-05`, ` UTC`.
/// Other abbreviations mean different things in different places, and are none.
#[inline]
pub(super) fn zone(text: &[u8]) -> Option<(i64, usize)> {
    match text {
        [b'Z' | b'z', ..] => Some((0, 1)),
        [b'+' | b'-', ..] => numeric_zone(text),
        [b' ', rest @ ..] => {
            let (offset, length) = match rest {
                [b'+' | b'-', ..] => numeric_zone(rest)?,
                [b'U', b'T', b'C', ..] | [b'G', b'M', b'T', ..] if !rest.get(3).is_some_and(u8::is_ascii_alphanumeric) => (0, 3),
                _ => return None,
            };
            Some((offset, length + 1))
        }
        _ => None,
    }
}

#[inline]
fn numeric_zone(text: &[u8]) -> Option<(i64, usize)> {
    let (&sign, rest) = text.split_first()?;
    let hours = number(rest.get(..2)?)?;
    let (minutes, length) = match rest.get(2..) {
        Some([b':', tens, ones, ..]) => (digit(*tens)? * 10 + digit(*ones)?, 6),
        Some([tens @ b'0'..=b'9', ones @ b'0'..=b'9', ..]) => (digit(*tens)? * 10 + digit(*ones)?, 5),
        _ => (0, 3),
    };
    let offset = hours * 3600 + minutes * 60;
    Some((if sign == b'-' { -offset } else { offset }, length))
}

fn month(name: &[u8]) -> Option<i8> {
    const NAMES: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let index = NAMES.chunks_exact(3).position(|month| month == name)?;
    i8::try_from(index + 1).ok()
}

/// A whole number of digits only.
#[inline]
pub(super) fn number(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |sum, &byte| Some(sum * 10 + digit(byte)?))
}

#[inline]
fn digit(byte: u8) -> Option<i64> {
    byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(zone: &str) -> Clock {
        Clock::new(TimeZone::get(zone).unwrap(), "2026-11-21T12:00:00Z".parse().unwrap())
    }

    fn read(zone: &str, text: &str) -> Option<String> {
        let stamp = clock(zone).read(text.as_bytes())?;
        Some(format!("{}|{}", Timestamp::from_millisecond(stamp.millis).unwrap(), &text[stamp.end..]))
    }

    #[test]
    fn every_shape_is_read_with_its_zone() {
        for (text, expected) in [
            ("2026-11-21 10:00:05 x", "2026-11-21T02:00:05Z| x"),
            ("2026-11-21 10:00:05,123 - app", "2026-11-21T02:00:05.123Z| - app"),
            ("2026-11-21 10:00:05.5 ERROR", "2026-11-21T02:00:05.5Z| ERROR"),
            ("2026-11-21T10:00:05Z x", "2026-11-21T10:00:05Z| x"),
            ("2026-11-21T10:00:05.123456+02:00 x", "2026-11-21T08:00:05.123Z| x"),
            ("2026-11-21T10:00:05-0530 x", "2026-11-21T15:30:05Z| x"),
            ("2026-11-21 10:00:05.123 UTC [7]", "2026-11-21T10:00:05.123Z| [7]"),
            ("2026-11-21 10:00:05.123 +00 [7]", "2026-11-21T10:00:05.123Z| [7]"),
            ("2026-11-21 10:00:05.123 CST [7]", "2026-11-21T02:00:05.123Z| CST [7]"),
            ("2026-11-21 10:00:05 UTCX", "2026-11-21T02:00:05Z| UTCX"),
            ("2026/11/21 10:00:05 [error]", "2026-11-21T02:00:05Z| [error]"),
            ("21/Nov/2026:10:00:05 +0100] x", "2026-11-21T09:00:05Z|] x"),
            ("[2026-11-21 10:00:05] x", "2026-11-21T02:00:05Z| x"),
            ("Nov  5 10:00:05 host", "2026-11-05T02:00:05Z| host"),
            ("Nov 5 10:00:05 host", "2026-11-05T02:00:05Z| host"),
            ("Nov 15 10:00:05 host", "2026-11-15T02:00:05Z| host"),
            ("1763719205 x", "2025-11-21T10:00:05Z| x"),
            ("1763719205.25 x", "2025-11-21T10:00:05.25Z| x"),
            ("1763719205250 x", "2025-11-21T10:00:05.25Z| x"),
        ] {
            assert_eq!(read("Asia/Shanghai", text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_stamp_is_none() {
        for text in [
            "",
            "2026",
            "2026-13-21 10:00:00",
            "2026-02-30 10:00:00",
            "2026-11-21 25:00:00",
            "2026-11-21 10:00",
            "2026-11-21x10:00:00",
            "Nov 31 10:00:00 h",
            "Nov  5 10:00",
            "Nox  5 10:00:00",
            "12345 x",
            "31/Foo/2026:10:00:00 +0000",
            "21/Nov/2026:10:00:00",
            "[2026-11-21 10:00:05",
            "  at x",
        ] {
            assert_eq!(read("UTC", text), None, "{text}");
        }
    }

    #[test]
    fn a_stamp_without_a_year_is_of_the_latest_year_that_fits() {
        let mut clock = Clock::new(TimeZone::UTC, "2027-01-01T00:10:00Z".parse().unwrap());
        let mut year = |text: &str| Timestamp::from_millisecond(clock.read(text.as_bytes()).unwrap().millis).unwrap().to_string();
        assert_eq!(year("Dec 31 23:59:59 h"), "2026-12-31T23:59:59Z");
        assert_eq!(year("Jan  1 00:00:01 h"), "2027-01-01T00:00:01Z");
        assert_eq!(year("Jan  1 12:00:00 h"), "2027-01-01T12:00:00Z", "clocks may differ by hours");
        assert_eq!(year("Feb 29 12:00:00 h"), "2024-02-29T12:00:00Z");
    }

    #[test]
    fn the_repeated_hour_is_told_apart_by_order() {
        let mut clock = clock("Europe/Berlin");
        let mut at = |text: &str| Timestamp::from_millisecond(clock.read(text.as_bytes()).unwrap().millis).unwrap().to_string();
        assert_eq!(at("2026-10-25 02:30:00 x"), "2026-10-25T00:30:00Z");
        assert_eq!(at("2026-10-25 02:59:59 x"), "2026-10-25T00:59:59Z");
        assert_eq!(at("2026-10-25 02:59:40 x"), "2026-10-25T00:59:40Z", "a little out of order");
        assert_eq!(at("2026-10-25 02:00:00 x"), "2026-10-25T01:00:00Z");
        assert_eq!(at("2026-10-25 02:30:00 x"), "2026-10-25T01:30:00Z");
        assert_eq!(at("2026-10-25 03:00:00 x"), "2026-10-25T02:00:00Z");
    }

    #[test]
    fn the_repeated_hour_is_told_apart_by_its_abbreviation() {
        assert_eq!(read("Europe/Berlin", "2026-10-25 02:30:00.000 CEST [1]").unwrap(), "2026-10-25T00:30:00Z| CEST [1]");
        assert_eq!(read("Europe/Berlin", "2026-10-25 02:30:00.000 CET [1]").unwrap(), "2026-10-25T01:30:00Z| CET [1]");
    }

    #[test]
    fn a_time_the_clocks_skipped_is_read_as_before_the_change() {
        assert_eq!(read("Europe/Berlin", "2026-03-29 02:30:00 x").unwrap(), "2026-03-29T01:30:00Z| x");
    }

    #[test]
    fn a_fold_is_found_in_the_days_it_may_matter() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(repeats_an_hour(&berlin, at("2026-10-24T12:00:00Z"), at("2026-10-25T12:00:00Z")));
        assert!(!repeats_an_hour(&berlin, at("2026-10-28T12:00:00Z"), at("2026-11-25T12:00:00Z")));
        assert!(!repeats_an_hour(&berlin, at("2026-03-28T12:00:00Z"), at("2026-03-30T12:00:00Z")));
        assert!(!repeats_an_hour(&TimeZone::UTC, at("2000-10-24T12:00:00Z"), at("2026-10-25T12:00:00Z")));
    }
}
