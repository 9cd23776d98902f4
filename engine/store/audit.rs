//! The audit log: who did what, when, why, and with what outcome; one row before and one after.
//!
//! The rows are chained: each carries a hash of itself and of the one before. What the chain can not
//! show, rows cut off at its end or a log that was made anew, a [`Checkpoint`] kept elsewhere shows.

mod checkpoint;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::{Store, now};

pub use checkpoint::{Anchor, Checkpoint};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A run was started, and ended.
    Run,
    /// A run was resumed.
    Resume,
    /// A person said what holds for a step.
    Decide,
    /// A plan was made, and kept.
    Plan,
    /// A plan was approved.
    Approve,
    /// A plan was denied.
    Deny,
    /// A run was asked to stop.
    Cancel,
    /// A secret was set.
    SetSecret,
    /// A secret was forgotten.
    RemoveSecret,
    /// The secrets were encrypted with a new key.
    RotateKey,
    /// What a header asks for was pinned.
    Pin,
    /// A schedule was paused.
    PauseSchedule,
    /// A schedule was let go on.
    ResumeSchedule,
    /// Moments of a schedule are to be skipped.
    SkipSchedule,
    /// Old records were removed.
    Prune,
    /// Something was not done, since whoever wanted it may not.
    Refuse,
    /// The state was replaced by a backup.
    Restore,
    /// The state came from a format without an audit log.
    Upgrade,
    /// An incident was opened, acknowledged or resolved by a person.
    Incident,
    /// A line was written into a register.
    Register,
}

impl Action {
    /// Each of them.
    pub const ALL: [Self; 20] = [
        Self::Run,
        Self::Resume,
        Self::Decide,
        Self::Plan,
        Self::Approve,
        Self::Deny,
        Self::Cancel,
        Self::SetSecret,
        Self::RemoveSecret,
        Self::RotateKey,
        Self::Pin,
        Self::PauseSchedule,
        Self::ResumeSchedule,
        Self::SkipSchedule,
        Self::Prune,
        Self::Refuse,
        Self::Restore,
        Self::Upgrade,
        Self::Incident,
        Self::Register,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Resume => "resume",
            Self::Decide => "decide",
            Self::Plan => "plan",
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Cancel => "cancel",
            Self::SetSecret => "set-secret",
            Self::RemoveSecret => "remove-secret",
            Self::RotateKey => "rotate-key",
            Self::Pin => "pin",
            Self::PauseSchedule => "pause-schedule",
            Self::ResumeSchedule => "resume-schedule",
            Self::SkipSchedule => "skip-schedule",
            Self::Prune => "prune",
            Self::Refuse => "refuse",
            Self::Restore => "restore",
            Self::Upgrade => "upgrade",
            Self::Incident => "incident",
            Self::Register => "register",
        }
    }

    /// The action of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// Something a person, or the program for one, is about to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Who: the name of the user.
    pub who: String,
    /// What.
    pub action: Action,
    /// To what: a run, a secret, a plan.
    pub subject: String,
    /// Why, when that was said.
    pub why: String,
}

impl Act {
    /// The row before it, with no outcome, or the one after it.
    pub fn entry(&self, outcome: Option<&str>) -> Entry {
        Entry {
            seq: 0,
            at: now(),
            who: self.who.clone(),
            uid: uid(),
            action: self.action,
            subject: self.subject.clone(),
            why: self.why.clone(),
            outcome: outcome.map(str::to_owned),
            run: None,
        }
    }
}

/// A row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 1, without a gap.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who: the name of the user.
    pub who: String,
    /// The number of the user, as the system knows it.
    pub uid: u32,
    /// What.
    pub action: Action,
    /// To what.
    pub subject: String,
    /// Why.
    pub why: String,
    /// What came of it; nothing in the row before it.
    pub outcome: Option<String>,
    /// The run it is about.
    pub run: Option<u64>,
}

/// Which rows of the audit log to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only those at or after this.
    pub since: Option<Timestamp>,
    /// Only of this action.
    pub action: Option<Action>,
    /// At most so many; all when 0.
    pub limit: u32,
}

/// Does something between its two rows. What can not be recorded is not done.
///
/// # Errors
///
/// `store`, when a row could not be written; else what the work says, after it was recorded.
pub fn audited<T>(store: &dyn Store, act: &Act, work: impl FnOnce() -> Result<T>) -> Result<T> {
    store.audit(&act.entry(None))?;
    let result = work();
    let outcome = result.as_ref().err().map_or_else(|| "done".to_owned(), failure);
    store.audit(&act.entry(Some(&outcome)))?;
    result
}

/// The outcome of what failed.
pub fn failure(error: &Error) -> String {
    format!("failed: {}", error.message)
}

/// The number of the user this process acts for.
pub(super) fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}
