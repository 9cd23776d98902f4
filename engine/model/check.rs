//! A check: a named question with one of four answers.

use serde::{Deserialize, Serialize};

/// The answer of a check. *Unknown* is not *ok*: it says that the question could not be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Someone should look, not at night.
    Warning,
    /// Someone must act.
    Critical,
    /// It could not be found out.
    Unknown,
}

impl Level {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Unknown => "unknown",
        }
    }

    /// The level of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Ok, Self::Warning, Self::Critical, Self::Unknown].into_iter().find(|level| level.name() == name)
    }

    /// How bad it is; unknown is worse than a warning, since it may hide anything.
    fn weight(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Unknown => 2,
            Self::Critical => 3,
        }
    }

    /// The worse of two.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }
}

/// The limits a value was compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// From here it is a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn: Option<f64>,
    /// From here it is critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<f64>,
    /// Whether small values are the bad ones, as for days left or a hit rate.
    #[serde(default)]
    pub below: bool,
}

impl Limit {
    /// The level of a value: beyond a limit, not at it.
    pub fn judge(&self, value: f64) -> Level {
        let beyond = |limit: Option<f64>| limit.is_some_and(|limit| if self.below { value < limit } else { value > limit });
        if value.is_nan() {
            Level::Unknown
        } else if beyond(self.alarm) {
            Level::Critical
        } else if beyond(self.warn) {
            Level::Warning
        } else {
            Level::Ok
        }
    }
}

/// One answered question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was asked; unique within a run.
    pub name: String,
    /// Where it was asked; the same when a resumed run asks again. Empty in records that are older than resuming.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The answer.
    pub level: Level,
    /// One line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The measured value, when the answer is a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The unit of the value: `%`, `ms`, `d`, `MB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The limits it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// How long the question took, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_its_limit_is_still_within_it() {
        let limit = Limit { warn: Some(80.0), alarm: Some(90.0), below: false };
        assert_eq!(limit.judge(80.0), Level::Ok);
        assert_eq!(limit.judge(80.1), Level::Warning);
        assert_eq!(limit.judge(90.1), Level::Critical);
        assert_eq!(limit.judge(f64::NAN), Level::Unknown);
    }

    #[test]
    fn days_left_are_bad_when_few() {
        let limit = Limit { warn: Some(30.0), alarm: Some(7.0), below: true };
        assert_eq!(limit.judge(90.0), Level::Ok);
        assert_eq!(limit.judge(10.0), Level::Warning);
        assert_eq!(limit.judge(6.0), Level::Critical);
    }

    #[test]
    fn unknown_is_worse_than_a_warning_and_never_ok() {
        assert_eq!(Level::Ok.worst(Level::Unknown), Level::Unknown);
        assert_eq!(Level::Warning.worst(Level::Unknown), Level::Unknown);
        assert_eq!(Level::Unknown.worst(Level::Critical), Level::Critical);
    }
}
