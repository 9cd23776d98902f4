//! Exit codes: the contract scripts rely on.

use crate::error::{Error, Kind};

/// An exit code and what it says.
#[derive(Debug, Clone, Copy)]
pub struct Exit {
    /// The number.
    pub code: u8,
    /// What it says.
    pub meaning: &'static str,
}

/// Every exit code, for the reference.
pub const EXITS: &[Exit] = &[
    Exit { code: 0, meaning: "succeeded" },
    Exit { code: 1, meaning: "failed: a step failed, or a check is critical or unknown" },
    Exit { code: 2, meaning: "usage or configuration: an unknown runbook, a wrong flag, parameter or settings file" },
    Exit { code: 3, meaning: "finished with warnings" },
    Exit { code: 4, meaning: "the script does not pass the check; nothing ran" },
    Exit { code: 5, meaning: "waits for a person: a step is in doubt, or an approval is missing" },
    Exit { code: 6, meaning: "not started: locked, outside its window, paused, or denied by the policy" },
    Exit { code: 7, meaning: "`plan --exit-code`: there are changes" },
    Exit { code: 8, meaning: "the store or the daemon can not be reached" },
    Exit { code: 70, meaning: "a bug in runbook" },
    Exit { code: 124, meaning: "timed out" },
    Exit { code: 130, meaning: "interrupted (SIGINT), after clean-up" },
    Exit { code: 143, meaning: "terminated (SIGTERM), after clean-up" },
];

/// The exit code of an error that ended a command.
pub(super) fn of(error: &Error) -> u8 {
    match error.kind {
        Kind::Usage | Kind::Config => 2,
        Kind::Script => 4,
        Kind::Waiting => 5,
        Kind::NotStarted => 6,
        Kind::Store => 8,
        Kind::Bug => 70,
        Kind::Cancelled => 130,
        _ => 1,
    }
}
