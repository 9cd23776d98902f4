//! A finding of the check of a script.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Place};

/// What is wrong, or probably wrong, with a script, found without running it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Whether it stops a run.
    pub severity: Verdict,
    /// The stable code `runbook explain` knows.
    pub code: String,
    /// A lower-case fragment that says what was found.
    pub message: String,
    /// Where it stands.
    pub at: Place,
    /// How many characters of the line it is about, from the place on.
    pub length: usize,
    /// What to do next, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

/// Whether a finding stops a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It does; nothing runs.
    Error,
    /// It does not.
    Warning,
}

impl Verdict {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Diagnostic {
    /// The error of a script that could not be read, as a finding.
    pub fn of(error: &Error, length: usize) -> Self {
        Self {
            severity: Verdict::Error,
            code: error.code.clone().unwrap_or_default(),
            message: error.message.clone(),
            at: error.at.clone().unwrap_or(Place { file: String::new(), line: 0, column: 0 }),
            length,
            hints: error.hints.clone(),
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Whether it stops a run.
    pub fn is_error(&self) -> bool {
        self.severity == Verdict::Error
    }
}
