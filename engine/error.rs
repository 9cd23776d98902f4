//! Errors: what was found, what was expected, where, and what to do next.
//!
//! One type for the whole engine. Whoever knows the place adds it with [`Error::at`]; whoever knows
//! the cause keeps it with [`Error::because`]. Messages are lower-case fragments with names in
//! backticks and no final dot. An error never carries the value of a secret.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::words;

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is; decides the exit code and whether a retry makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The permissions do not cover it; nothing was touched.
    Denied,
    /// The named thing is not there.
    NotFound,
    /// It did not answer in time.
    Timeout,
    /// No connection could be made, or it broke.
    Connect,
    /// The other side said no: credentials, rights, limits of its own.
    Refused,
    /// The state of the world does not allow it now.
    Conflict,
    /// A value is not what it has to be.
    Invalid,
    /// The other side answered with a failure.
    Remote,
    /// One of our own limits was reached: time, memory, size.
    Limit,
    /// A command line, a name or a parameter is wrong.
    Usage,
    /// A settings file or a system file is wrong.
    Config,
    /// The script does not compile or does not pass the check.
    Script,
    /// The script threw, or a step of it failed.
    Failed,
    /// Someone or something cancelled the run.
    Cancelled,
    /// The run was not started: locked, paused, denied before the start.
    NotStarted,
    /// It waits for a person.
    Waiting,
    /// The store can not be read or written.
    Store,
    /// A defect in this program.
    Bug,
}

impl Kind {
    /// The stable name scripts and `--json` see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Remote => "remote",
            Self::Limit => "limit",
            Self::Usage => "usage",
            Self::Config => "config",
            Self::Script => "script",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::NotStarted => "not_started",
            Self::Waiting => "waiting",
            Self::Store => "store",
            Self::Bug => "bug",
        }
    }

    /// Whether trying again later may help.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Timeout | Self::Connect | Self::Conflict | Self::Remote)
    }
}

/// A place in a text file; lines and columns start at 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file as the user names it, or `stdlib/…` for a built-in module.
    pub file: String,
    /// The line, from 1; 0 when only the file is known.
    pub line: usize,
    /// The column in characters, from 1; 0 when only the line is known.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => write!(f, "{}", self.file),
            (line, 0) => write!(f, "{}:{line}", self.file),
            (line, column) => write!(f, "{}:{line}:{column}", self.file),
        }
    }
}

/// One call on the way from the top of a script to the place of an error, innermost first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The function that was called, as the script names it.
    pub function: String,
    /// Where it was called from.
    pub called_at: Place,
}

/// A failure with everything a person needs to act on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Error {
    /// What sort of failure it is.
    pub kind: Kind,
    /// A lower-case fragment that says what was found and what was expected.
    pub message: String,
    /// The stable code `runbook explain` knows, for errors that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What it was about: a container, a URL without its query, a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Where it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// What to do next, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// The calls that led there, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<Frame>,
    /// Whether trying again may help; from the kind unless the cause knows better.
    pub retryable: bool,
}

impl Error {
    /// A failure of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            code: None,
            target: None,
            at: None,
            hints: Vec::new(),
            frames: Vec::new(),
            retryable: kind.is_retryable(),
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Hints at the known name that was probably meant, or at all there are.
    #[must_use]
    pub fn suggest<'n, N: AsRef<str> + ?Sized + 'n>(self, name: &str, known: impl IntoIterator<Item = &'n N>) -> Self {
        let known: Vec<&str> = known.into_iter().map(AsRef::as_ref).collect();
        self.suggest_or(name, known.iter(), || format!("there are {}", words::list(&known)))
    }

    /// Hints at the known name that was probably meant, or says what helps `otherwise`.
    #[must_use]
    pub fn suggest_or<'n, N: AsRef<str> + ?Sized + 'n, Hint: Into<String>>(
        self,
        name: &str,
        known: impl IntoIterator<Item = &'n N>,
        otherwise: impl FnOnce() -> Hint,
    ) -> Self {
        match words::nearest(name, known) {
            Some(near) => self.hint(format!("did you mean `{near}`?")),
            None => self.hint(otherwise()),
        }
    }

    /// Names what it is about.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// Adds the place, unless a more exact one is known already.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.at.get_or_insert(place);
        self
    }

    /// Gives it the stable code that `runbook explain` knows.
    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    /// Says that a retry can not help, whatever the kind says.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.retryable = false;
        self
    }

    /// Puts what was being done before the message: `what: message`.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// A failure with the whole chain of its cause in the message.
    ///
    /// Libraries hide the reason behind `source()`; the last link is usually the one that helps.
    pub fn because(kind: Kind, what: impl fmt::Display, cause: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(kind, format!("{what}: {}", chain(cause)))
    }
}

/// The messages of an error and of all its causes, each said once.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Makes an [`Error`]: `error!(Kind::Invalid, "…{x}"; hint: "…")`.
#[macro_export]
macro_rules! error {
    ($kind:expr, $($message:expr),+ $(; hint: $($hint:expr),+)* $(;)?) => {
        $crate::error::Error::new($kind, format!($($message),+)) $(.hint(format!($($hint),+)))*
    };
}

/// Returns an [`Error`] from the function: `bail!(Kind::Invalid, "…{x}"; hint: "…")`.
#[macro_export]
macro_rules! bail {
    ($($all:tt)+) => {
        return Err($crate::error!($($all)+))
    };
}
