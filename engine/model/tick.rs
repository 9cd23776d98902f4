//! A due moment of a schedule, and what became of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::RunId;

/// One due moment of a schedule. Its row is written before its run is, and carries what the run needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// The schedule: `SYSTEM/NAME`. With `due`, the identity.
    pub schedule: String,
    /// When it was due, before jitter.
    pub due: Timestamp,
    /// When it was to start: `due` and the jitter of its schedule.
    pub start: Timestamp,
    /// When it was last decided about.
    pub decided: Timestamp,
    /// What is odd about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
    /// The runbook.
    pub runbook: String,
    /// The system.
    pub system: String,
    /// The parameters as the schedule has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Value>,
    /// The identity of its run: whoever starts it gives it this, so that there can not be two.
    pub id: RunId,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: TickOutcome,
    /// The last of the moments it stands for, when there were too many for a row each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<Timestamp>,
}

/// What is odd about a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// Clocks were put forward over its moment; it is the first instant after that.
    DstGap,
    /// Nobody was there at its moment.
    CatchUp,
}

impl Mark {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::DstGap => "dst-gap",
            Self::CatchUp => "catch-up",
        }
    }
}

/// What became of a tick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum TickOutcome {
    /// It is to start: it waits for its turn, or is being started.
    Pending,
    /// It has its run.
    Started {
        /// The number of the run.
        run: u64,
    },
    /// Nobody was there at its time, and it is not made up for.
    Missed(Cause),
    /// It was decided not to start it.
    Skipped(Cause),
}

impl TickOutcome {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Started { .. } => "started",
            Self::Missed(_) => "missed",
            Self::Skipped(_) => "skipped",
        }
    }

    /// Why it did not run.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Missed(cause) | Self::Skipped(cause) => Some(cause),
            Self::Pending | Self::Started { .. } => None,
        }
    }
}

/// Why a tick did not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// In a word.
    pub reason: Reason,
    /// In a sentence.
    pub detail: String,
}

/// Why a tick did not run, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Nobody was there: stopped, suspended, or the clock was put forward.
    Down,
    /// It was too late to start.
    Deadline,
    /// The run before it still went on.
    Overlap,
    /// A later tick took its place.
    Replaced,
    /// The schedule was paused.
    Paused,
    /// A person asked to skip it.
    Asked,
    /// It was outside of the windows.
    Window,
    /// Its day is in a calendar of days to leave out.
    Calendar,
    /// It could not be started: locked, denied, a script or a system that is wrong.
    Refused,
    /// Its schedule is gone.
    Removed,
}

impl Reason {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Deadline => "deadline",
            Self::Overlap => "overlap",
            Self::Replaced => "replaced",
            Self::Paused => "paused",
            Self::Asked => "asked",
            Self::Window => "window",
            Self::Calendar => "calendar",
            Self::Refused => "refused",
            Self::Removed => "removed",
        }
    }
}

/// What is kept of a schedule beside its ticks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// The schedule, `SYSTEM/NAME`; `SYSTEM/*` for all of a system, `*` for all.
    pub schedule: String,
    /// The rule it had when it was last looked at.
    pub rule: String,
    /// Since when it has this rule: nothing before is due.
    pub since: Option<Timestamp>,
    /// Its last due moment that was decided about.
    pub last: Option<Timestamp>,
    /// Who paused it, when it is.
    pub paused: Option<Pause>,
    /// How many of its next ticks are to be skipped.
    pub skip: u32,
}

/// A pause of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when; without it, until someone resumes it.
    pub until: Option<Timestamp>,
}

impl Pause {
    /// Whether it holds at this moment.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}
