//! Spans of time as people write them: `90s`, `2h`, `1d 12h`, `250ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Kind, Result};

/// A length of time, not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }
}

impl Span {
    /// The same length, or the longest there is, for moments to be reckoned with.
    pub fn signed(self) -> SignedDuration {
        SignedDuration::try_from(self.0).unwrap_or(SignedDuration::MAX)
    }

    /// The moment so long before another one, or the first there is.
    pub fn before(self, moment: Timestamp) -> Timestamp {
        moment.checked_sub(self.signed()).unwrap_or(Timestamp::MIN)
    }

    /// The span to the millisecond, as in `1h` or `1d 12h 30s`; it reads back as the same.
    pub fn exact(self) -> String {
        let mut rest = self.0.as_millis();
        let mut parts = Vec::new();
        for (name, unit) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            if rest >= unit {
                parts.push(format!("{}{name}", rest / unit));
                rest %= unit;
            }
        }
        if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
    }
}

impl FromStr for Span {
    type Err = Error;

    /// Days and weeks are 24 hours and 7 days long; months and years have no length.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::new(Kind::Invalid, format!("`{text}` is not a duration")).hint("write it like `30s`, `5m`, `2h`, `1d 12h` or `250ms`")
        };
        let span: jiff::Span = text.trim().parse().map_err(|_| bad())?;
        let length = span
            .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
            .or_else(|_: jiff::Error| text.trim().parse::<SignedDuration>())
            .map_err(|_| bad())?;
        Duration::try_from(length).map(Self).map_err(|_| bad())
    }
}

impl fmt::Display for Span {
    /// The two largest units, as in `3m 12s`, `1d 4h`, `250ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.as_millis();
        let (seconds, millis) = (total / 1000, total % 1000);
        match seconds {
            0 => write!(f, "{millis}ms"),
            1..10 if millis > 0 => write!(f, "{seconds}.{}s", millis / 100),
            1..60 => write!(f, "{seconds}s"),
            60..3600 => pair(f, seconds, 60, "m", 1, "s"),
            3600..86_400 => pair(f, seconds, 3600, "h", 60, "m"),
            _ => pair(f, seconds, 86_400, "d", 3600, "h"),
        }
    }
}

fn pair(f: &mut fmt::Formatter<'_>, seconds: u128, large: u128, large_name: &str, small: u128, small_name: &str) -> fmt::Result {
    write!(f, "{}{large_name}", seconds / large)?;
    match seconds % large / small {
        0 => Ok(()),
        rest => write!(f, " {rest}{small_name}"),
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.exact())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| de::Error::custom(error.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("2h", 7200), ("1d 12h", 129_600), ("1w", 604_800), ("90 seconds", 90)] {
            assert_eq!(text.parse::<Span>().unwrap(), Span::secs(seconds), "{text}");
        }
        assert_eq!("250ms".parse::<Span>().unwrap(), Span::millis(250));
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        for text in ["30", "", "soon", "-5s", "1y"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_exact_duration_reads_back_as_the_same() {
        for (span, text) in [
            (Span::millis(0), "0s"),
            (Span::secs(3600), "1h"),
            (Span::secs(90 * 86_400), "90d"),
            (Span::millis(129_630_250), "1d 12h 30s 250ms"),
        ] {
            assert_eq!(span.exact(), text);
            assert_eq!(text.parse::<Span>().unwrap(), span);
        }
    }

    #[test]
    fn durations_print_with_two_units_at_most() {
        for (span, text) in [
            (Span::millis(8), "8ms"),
            (Span::millis(1900), "1.9s"),
            (Span::secs(41), "41s"),
            (Span::secs(192), "3m 12s"),
            (Span::secs(7200), "2h"),
            (Span::secs(100_000), "1d 3h"),
        ] {
            assert_eq!(span.to_string(), text);
        }
    }
}
