//! A point in time as an option: a date and time, seconds since 1970, or how long ago.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, de};

use crate::error::{Error, Kind, Result};
use crate::model::Span;

/// A point in time, as in `since: "15m"` or `since: "2026-11-21T12:00:00Z"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// At this time.
    At(Timestamp),
    /// So long before now.
    Ago(Span),
}

impl Moment {
    /// The time it means.
    ///
    /// # Errors
    ///
    /// `invalid`, when it lies before all time.
    pub fn resolve(self, now: Timestamp) -> Result<Timestamp> {
        let span = match self {
            Self::At(time) => return Ok(time),
            Self::Ago(span) => span,
        };
        let before = SignedDuration::try_from(span.0).ok().and_then(|span| now.checked_sub(span).ok());
        before.ok_or_else(|| Error::new(Kind::Invalid, format!("`{span}` ago is before all time")))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Seconds(i64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Seconds(seconds) => Timestamp::from_second(seconds).map(Self::At).map_err(de::Error::custom),
            Written::Text(text) => match (text.parse(), text.parse()) {
                (Ok(time), _) => Ok(Self::At(time)),
                (_, Ok(span)) => Ok(Self::Ago(span)),
                _ => Err(de::Error::custom(format!(
                    "`{text}` is neither a time like `2026-11-21T12:00:00Z` nor a duration like `15m`, which means that long ago"
                ))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_seconds_or_how_long_ago() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (json, time) in [
            (r#""15m""#, "2026-11-21T11:45:00Z"),
            (r#""2026-11-20T00:00:00+08:00""#, "2026-11-19T16:00:00Z"),
            ("0", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(serde_json::from_str::<Moment>(json).unwrap().resolve(now).unwrap().to_string(), time);
        }
        assert!(serde_json::from_str::<Moment>(r#""yesterday""#).is_err());
    }
}
