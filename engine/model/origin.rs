//! Who or what is behind a run, or behind what is done to one.

use serde::{Deserialize, Serialize};

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// A person at a command line.
    Command,
    /// Another program, through the command line or the library.
    Program,
    /// A due tick of a schedule.
    Schedule,
    /// A rule that saw something.
    Rule,
    /// A message from another system.
    Hook,
    /// Another run.
    Run,
}

impl Trigger {
    /// Each of them.
    pub const ALL: [Self; 6] = [Self::Command, Self::Program, Self::Schedule, Self::Rule, Self::Hook, Self::Run];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Program => "program",
            Self::Schedule => "schedule",
            Self::Rule => "rule",
            Self::Hook => "hook",
            Self::Run => "run",
        }
    }

    /// The trigger of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trigger| trigger.name() == name)
    }
}

/// Who is behind something: what decides over rights and caps. A run that another run starts has the origin of that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// What began it.
    pub trigger: Trigger,
    /// The account, as approvals and roles name people; of the daemon where no person is behind it.
    pub account: String,
}

impl Origin {
    /// Whether a person watches over it, who can be asked.
    pub fn is_attended(&self) -> bool {
        self.trigger == Trigger::Command
    }

    /// The account, when a person or a program of theirs is behind it.
    pub fn person(&self) -> Option<&str> {
        matches!(self.trigger, Trigger::Command | Trigger::Program).then_some(self.account.as_str())
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.person() {
            Some(account) => f.write_str(account),
            None => write!(f, "a {}", self.trigger.name()),
        }
    }
}
