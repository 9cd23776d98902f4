//! Which records stay.

use jiff::Timestamp;

/// Which runs may go, and which stay in any case: those that are not over or need a person, the newest of each
/// runbook, and the last success of each runbook and system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Runs that ended before this may go.
    pub before: Timestamp,
    /// So many of each runbook stay whatever their age.
    pub keep_min: u32,
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Removed {
    /// The numbers of the runs.
    pub runs: Vec<u64>,
    /// How many rows of the audit log.
    pub audit: u64,
}
