//! An effect: one host call that changes the world.

use serde::{Deserialize, Serialize};

/// What a host call would change, told before it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The host function, as in `docker::restart`.
    pub function: String,
    /// What it changes: a container, a file, a channel. Never a secret.
    pub target: String,
    /// One line for people: `restart container aihub_backend_1`.
    pub summary: String,
    /// The change in unified form, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    /// Whether it can be taken back.
    #[serde(default)]
    pub reversible: bool,
    /// Whether the world is as wanted already, so that nothing changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// Whether the target remembers that it was done, so that asking again has no second effect.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
}

impl Effect {
    /// An effect of this function on this target.
    pub fn new(function: &str, target: impl Into<String>, summary: impl Into<String>) -> Self {
        Self {
            function: function.to_owned(),
            target: target.into(),
            summary: summary.into(),
            diff: None,
            reversible: false,
            idle: false,
            once: false,
        }
    }

    /// Whether it can be asked for again without changing anything a second time.
    pub fn may_repeat(&self) -> bool {
        self.once || self.idle
    }

    /// Says that it can be taken back.
    #[must_use]
    pub fn reversible(mut self) -> Self {
        self.reversible = true;
        self
    }

    /// Says that the target remembers it by the key of the step.
    #[must_use]
    pub fn once(mut self, once: bool) -> Self {
        self.once = once;
        self
    }

    /// Adds the change in unified form.
    #[must_use]
    pub fn diff(mut self, diff: impl Into<String>) -> Self {
        self.diff = Some(diff.into());
        self
    }
}
