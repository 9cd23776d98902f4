//! What lines say, whatever they are written in: levels, records, requests, failed logins.

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Trace,
    Debug,
    Info,
    Log,
    Notice,
    Warning,
    Error,
    Critical,
    Fatal,
}

impl Level {
    /// How many there are.
    pub(super) const COUNT: usize = 9;
    /// Every level, mildest first.
    pub(super) const ALL: [Self; Self::COUNT] =
        [Self::Trace, Self::Debug, Self::Info, Self::Log, Self::Notice, Self::Warning, Self::Error, Self::Critical, Self::Fatal];

    /// Its name, whatever the log calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Log => "LOG",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
            Self::Fatal => "FATAL",
        }
    }

    /// The level a word in capitals means.
    #[inline]
    pub(super) fn of(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"INFO" | b"INFORMATION" => Self::Info,
            b"ERROR" | b"ERR" | b"SEVERE" => Self::Error,
            b"WARNING" | b"WARN" => Self::Warning,
            b"DEBUG" | b"FINE" => Self::Debug,
            b"CRITICAL" | b"CRIT" | b"ALERT" => Self::Critical,
            b"FATAL" | b"EMERG" | b"EMERGENCY" | b"PANIC" => Self::Fatal,
            b"TRACE" => Self::Trace,
            b"NOTICE" => Self::Notice,
            _ => return None,
        })
    }

    pub(super) fn of_any_case(word: &[u8]) -> Option<Self> {
        let mut upper = [0; 12];
        let upper = upper.get_mut(..word.len())?;
        upper.copy_from_slice(word);
        upper.make_ascii_uppercase();
        Self::of(upper)
    }

    /// The level of a severity of syslog, 0 to 7.
    pub(super) fn of_severity(severity: i64) -> Self {
        match severity {
            0 => Self::Fatal,
            1 | 2 => Self::Critical,
            3 => Self::Error,
            4 => Self::Warning,
            5 => Self::Notice,
            6 => Self::Info,
            _ => Self::Debug,
        }
    }
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// The beginning of something that was logged.
    Record(Record<'a>),
    /// More of the record before: a stack trace, the rest of a statement.
    Continuation,
    /// Nothing that was expected.
    Malformed,
}

/// Something that was logged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// When, in milliseconds since 1970; none when the line does not say.
    pub(super) time: Option<i64>,
    /// How grave.
    pub(super) level: Option<Level>,
    /// The text after stamp, level and logger.
    pub(super) message: &'a [u8],
    /// The request it tells of.
    pub(super) request: Option<Request<'a>>,
    /// The failed login it tells of.
    pub(super) failure: Option<Failure<'a>>,
}

/// A request that was answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// The address it came from; empty when unknown.
    pub(super) client: &'a [u8],
    /// Method and path as they stand in the log: `GET /api?x=1`.
    pub(super) line: &'a [u8],
    /// The length of the method and the blank after it; 0 when the line is none of HTTP.
    pub(super) method: usize,
    /// The status.
    pub(super) status: u16,
    /// How long it took.
    pub(super) micros: Option<u32>,
}

/// Logins that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure<'a> {
    /// Where they came from; empty when unknown.
    pub(super) address: &'a [u8],
    /// How many the line stands for.
    pub(super) count: u64,
}

/// The first level in a line and where it ends. In capitals anywhere at the beginning; in small letters
/// only where it is clearly meant: as the first word, in brackets, after `level=`.
#[inline]
pub(super) fn level(text: &[u8], only_first: bool) -> Option<(Level, usize)> {
    /// Names of loggers are seldom longer; further on it would be the message.
    const HEADER: usize = 120;
    let text = &text[..text.len().min(HEADER)];
    let first = text.iter().position(|&byte| CLASS[usize::from(byte)] >= WORD)?;
    if only_first || !text[first].is_ascii_uppercase() {
        let found = level_at(text, first, Level::of_any_case);
        if found.is_some() || only_first {
            return found;
        }
    }
    let mut before = OTHER;
    for (at, &byte) in text.iter().enumerate().skip(first) {
        let class = CLASS[usize::from(byte)];
        let begins = before < WORD && class >= WORD;
        if begins && (class == CAPITAL || before == OPENING) {
            let of = if before == OPENING { Level::of_any_case } else { Level::of };
            let found = level_at(text, at, of);
            if found.is_some() {
                return found;
            }
        }
        before = class;
    }
    None
}

/// The level that the word at this place is, and where it ends.
fn level_at(text: &[u8], at: usize, of: impl Fn(&[u8]) -> Option<Level>) -> Option<(Level, usize)> {
    let length = text[at..].iter().take_while(|&&byte| CLASS[usize::from(byte)] >= WORD).count();
    of(&text[at..at + length]).map(|level| (level, at + length))
}

/// What a byte is to the search for a level.
const CLASS: [u8; 256] = {
    let mut class = [OTHER; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'A' | b'C'..=b'F' | b'I' | b'N' | b'P' | b'S' | b'T' | b'W' => CAPITAL,
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => WORD,
            b'[' | b'=' | b'<' => OPENING,
            _ => OTHER,
        };
        byte += 1;
    }
    class
};
const OTHER: u8 = 0;
/// After it small letters may be a level.
const OPENING: u8 = 1;
const WORD: u8 = 2;
/// The first letter of a level.
const CAPITAL: u8 = 3;
