//! Looking for lines: errors, expressions, the end of a log, slow statements.

use std::io::Read;

use jiff::tz::TimeZone;
use memchr::{memchr, memrchr};
use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::host::logs::fold;
use crate::host::logs::format::{Format, Reader, slow_statement};
use crate::host::logs::log::{Asked, Log, Opened, Window, time_text, unreadable_part};
use crate::host::logs::parts::{Content, Part, Permit};
use crate::host::logs::record::{Level, Parsed, Record};
use crate::host::logs::scan::{self, Count, Halt, LONGEST_LINE, Line, Visitor};
use crate::host::logs::tally::{Tally, Weighed};
use crate::model::Span;

/// The most memory a compiled expression takes.
pub(super) const REGEX_SIZE: usize = 1 << 20;
/// What a script sees of a line.
pub(super) const LONGEST_SHOWN: usize = 4096;
const LIMIT: usize = 50;
const LARGEST_LIMIT: usize = 1000;
const MOST_CONTEXT: usize = 20;
/// The most lines `tail` returns.
pub(super) const MOST_TAIL: usize = 10_000;
/// What `tail` reads back at most.
const MOST_TAIL_BYTES: u64 = 32 * 1024 * 1024;
const MOST_STATEMENTS: usize = 2048;
/// A statement is cut after this many bytes.
const LONGEST_STATEMENT: usize = 8192;

/// Which error lines.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ErrorOptions {
    window: Option<Span>,
    since: Option<String>,
    before: Option<String>,
    format: Option<Format>,
    timezone: Option<String>,
    limit: Option<usize>,
    pattern: Option<String>,
}

/// Which matching lines.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GrepOptions {
    window: Option<Span>,
    since: Option<String>,
    before: Option<String>,
    format: Option<Format>,
    timezone: Option<String>,
    limit: Option<usize>,
    context: usize,
}

/// Which lines to count.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CountOptions {
    window: Option<Span>,
    since: Option<String>,
    before: Option<String>,
    format: Option<Format>,
    timezone: Option<String>,
}

/// Which statements.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SlowOptions {
    window: Option<Span>,
    since: Option<String>,
    before: Option<String>,
    timezone: Option<String>,
    min: Option<Span>,
    limit: Option<usize>,
}

macro_rules! asked {
    ($($options:ty),+) => {$(
        impl $options {
            /// The time and format that are asked about.
            pub(super) fn asked(&self) -> Asked {
                let Self { window, since, before, format, timezone, .. } = self;
                Asked { window: *window, since: since.clone(), before: before.clone(), format: *format, timezone: timezone.clone() }
            }
        }
    )+};
}
asked!(ErrorOptions, GrepOptions, CountOptions);

impl SlowOptions {
    /// The time that is asked about, of a log of PostgreSQL.
    pub(super) fn asked(&self) -> Asked {
        let Self { window, since, before, timezone, .. } = self;
        let format = Some(Format::Postgres);
        Asked { window: *window, since: since.clone(), before: before.clone(), format, timezone: timezone.clone() }
    }
}

/// A line that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Hit {
    time: Option<String>,
    level: Option<&'static str>,
    line: String,
    path: String,
    before: Vec<String>,
    after: Vec<String>,
}

impl Hit {
    /// A line without those around it.
    pub(super) fn new(opened: &Opened, part: usize, time: Option<i64>, level: Option<Level>, line: &[u8]) -> Self {
        Self {
            time: time.map(|time| time_text(time, &opened.zone)),
            level: level.map(Level::name),
            line: cut(line),
            path: opened.parts[part].path.display().to_string(),
            before: Vec::new(),
            after: Vec::new(),
        }
    }
}

/// The newest lines that tell of errors, newest first.
///
/// # Errors
///
/// As [`Log::open_existing`].
pub(super) fn errors(log: &Log, window: Window, options: &ErrorOptions, permit: Permit<'_>, halt: &Halt) -> Result<Vec<Hit>> {
    let wanted = match &options.pattern {
        Some(pattern) => Wanted::Matching(expression(pattern)?),
        None => Wanted::Errors,
    };
    let limit = options.limit.unwrap_or(LIMIT).min(LARGEST_LIMIT);
    find(log, window, &Search { wanted, limit, context: 0 }, permit, halt)
}

/// The newest lines that match, in the order of the log.
///
/// # Errors
///
/// `invalid` for an expression that is none or too large; otherwise as [`Log::open_existing`].
pub(super) fn grep(log: &Log, window: Window, pattern: &str, options: &GrepOptions, permit: Permit<'_>, halt: &Halt) -> Result<Vec<Hit>> {
    let limit = options.limit.unwrap_or(LIMIT).min(LARGEST_LIMIT);
    let search = Search { wanted: Wanted::Matching(expression(pattern)?), limit, context: options.context.min(MOST_CONTEXT) };
    let mut found = find(log, window, &search, permit, halt)?;
    found.reverse();
    Ok(found)
}

/// How many lines match.
///
/// # Errors
///
/// `invalid` for an expression that is none or too large; otherwise as [`Log::open_existing`].
pub(super) fn count(log: &Log, window: Window, pattern: &str, permit: Permit<'_>, halt: &Halt) -> Result<u64> {
    let search = Search { wanted: Wanted::Matching(expression(pattern)?), limit: 0, context: 0 };
    let Some(opened) = log.open_existing(window, permit)? else { return Ok(0) };
    let scanned = opened.scan(true, || Finder::new(&opened, &search), halt)?;
    whole(&opened, &scanned.parts)?;
    Ok(scanned.visitors.iter().map(|finder| finder.count).sum())
}

fn expression(pattern: &str) -> Result<Regex> {
    RegexBuilder::new(pattern).size_limit(REGEX_SIZE).dfa_size_limit(4 * REGEX_SIZE).build().map_err(|error| {
        Error::new(Kind::Invalid, format!("`{pattern}` is not an expression that can be searched: {error}"))
            .hint("a special character that is meant as itself needs a `\\` before it")
    })
}

/// What is looked for.
struct Search {
    wanted: Wanted,
    limit: usize,
    context: usize,
}

enum Wanted {
    /// Lines of level error and worse; of an access log, requests that failed.
    Errors,
    /// Lines that match.
    Matching(Regex),
}

fn find(log: &Log, window: Window, search: &Search, permit: Permit<'_>, halt: &Halt) -> Result<Vec<Hit>> {
    let Some(opened) = log.open_existing(window, permit)? else { return Ok(Vec::new()) };
    let scanned = opened.scan(true, || Finder::new(&opened, search), halt)?;
    whole(&opened, &scanned.parts)?;
    let mut newest = Newest::new(search.limit);
    scanned.visitors.into_iter().for_each(|finder| newest.merge(finder.newest));
    Ok(newest.into_sorted())
}

/// Fails when a part was not read to its end: what was not read may hold what is looked for.
fn whole(opened: &Opened, counts: &[Count]) -> Result<()> {
    let broken = opened.parts.iter().zip(counts).find_map(|(part, count)| count.problem.as_ref().map(|why| (part, why)));
    broken.map_or(Ok(()), |(part, why)| Err(unreadable_part(&part.path, why)))
}

/// The order of lines: by time, then by part and place.
type Age = (i64, std::cmp::Reverse<usize>, u64);

/// What was found on the newest of many lines.
#[derive(Debug)]
pub(super) struct Newest<T> {
    limit: usize,
    found: Vec<(Age, T)>,
    /// What is older is not among the newest any more.
    oldest: Option<Age>,
}

impl<T> Newest<T> {
    /// Nothing yet, and at most `limit`.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, found: Vec::new(), oldest: None }
    }

    /// Keeps what `make` finds on a line of this time, unless enough is newer.
    pub(super) fn keep(&mut self, time: Option<i64>, line: &Line<'_>, make: impl FnOnce() -> T) {
        let age = (time.unwrap_or(i64::MIN), std::cmp::Reverse(line.part), line.offset);
        if self.limit == 0 || self.oldest.is_some_and(|oldest| age < oldest) {
            return;
        }
        self.found.push((age, make()));
        if self.found.len() >= 2 * self.limit {
            self.sort();
            self.oldest = self.found.last().map(|(age, _)| *age);
        }
    }

    /// Adds what another kept.
    pub(super) fn merge(&mut self, other: Self) {
        self.found.extend(other.found);
    }

    /// The newest first.
    pub(super) fn into_sorted(mut self) -> Vec<T> {
        self.sort();
        self.found.into_iter().map(|(_, found)| found).collect()
    }

    fn sort(&mut self) {
        self.found.sort_unstable_by_key(|(age, _)| std::cmp::Reverse(*age));
        self.found.truncate(self.limit);
    }
}

/// Finds lines and keeps the newest.
struct Finder<'s> {
    opened: &'s Opened,
    search: &'s Search,
    reader: Reader,
    window: std::ops::Range<i64>,
    count: u64,
    newest: Newest<Hit>,
}

impl<'s> Finder<'s> {
    fn new(opened: &'s Opened, search: &'s Search) -> Self {
        let newest = Newest::new(search.limit);
        Self { opened, search, reader: opened.reader(), window: opened.window.millis(), count: 0, newest }
    }

    fn keep(&mut self, line: &Line<'_>, time: Option<i64>, level: Option<Level>) {
        let (opened, context) = (self.opened, self.search.context);
        self.newest.keep(time, line, || Hit {
            before: before(line.preceding(), context),
            after: after(line.following(), context),
            ..Hit::new(opened, line.part, time, level, line.text())
        });
    }
}

impl Visitor for Finder<'_> {
    fn begin(&mut self, part: usize) {
        self.reader.clock.restart(self.opened.latest(part));
    }

    fn line(&mut self, line: &Line<'_>) {
        let matching = match &self.search.wanted {
            Wanted::Matching(expression) => expression.is_match(line.text()),
            Wanted::Errors => true,
        };
        // Where the order of lines tells their time, all of them have to be read.
        if !matching && !self.opened.ordered {
            return;
        }
        let (time, level, is_error) = match self.reader.read(line.text()) {
            Parsed::Record(record) => {
                let failed = record.level.is_none() && record.request.is_some_and(|request| request.status >= 400);
                (record.time, record.level, failed || record.level.is_some_and(|level| level >= Level::Error))
            }
            Parsed::Continuation | Parsed::Malformed => (None, None, false),
        };
        if !matching || matches!(self.search.wanted, Wanted::Errors) && !is_error {
            return;
        }
        // A line of a stack trace has the time of its record.
        let time = time.or_else(|| last_time(&mut self.reader, line.preceding()));
        if self.opened.window.is_bounded() && !time.is_some_and(|time| self.window.contains(&time)) {
            return;
        }
        self.count += 1;
        self.keep(line, time, level);
    }
}

/// The time of the last record in a text.
fn last_time(reader: &mut Reader, text: &[u8]) -> Option<i64> {
    let text = &text[text.len().saturating_sub(LONGEST_LINE)..];
    text.rsplit(|&byte| byte == b'\n').take(500).find_map(|line| match reader.read(line.strip_suffix(b"\r").unwrap_or(line)) {
        Parsed::Record(record) => record.time,
        Parsed::Continuation | Parsed::Malformed => None,
    })
}

/// The last lines of what stands before a line.
fn before(text: &[u8], count: usize) -> Vec<String> {
    let mut lines: Vec<_> = text.rsplit(|&byte| byte == b'\n').take(if text.is_empty() { 0 } else { count }).map(cut).collect();
    lines.reverse();
    lines
}

fn after(text: &[u8], count: usize) -> Vec<String> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|&byte| byte == b'\n').take(if text.is_empty() { 0 } else { count }).map(cut).collect()
}

/// A line as scripts see it: text, without its end, not endless.
pub(super) fn cut(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() <= LONGEST_SHOWN {
        return String::from_utf8_lossy(line).into_owned();
    }
    format!("{}…", String::from_utf8_lossy(&line[..LONGEST_SHOWN]).trim_end_matches(char::REPLACEMENT_CHARACTER))
}

/// The last lines of a log, oldest first, from rotated parts when the current one has too few.
///
/// # Errors
///
/// As [`Log::open_existing`].
pub(super) fn tail(log: &Log, window: Window, count: usize, permit: Permit<'_>, halt: &Halt) -> Result<Vec<String>> {
    let count = count.min(MOST_TAIL);
    let Some(opened) = log.open_existing(window, permit)? else { return Ok(Vec::new()) };
    let mut lines: Vec<String> = Vec::new();
    for (index, part) in opened.parts.iter().enumerate() {
        if lines.len() >= count {
            break;
        }
        let mut older = match &part.content {
            Content::Plain(_) => tail_of_file(part, count - lines.len())?,
            _ => tail_of_lines(&opened, index, count - lines.len(), halt)?,
        };
        older.append(&mut lines);
        lines = older;
    }
    Ok(lines)
}

/// The last lines of a file, read from its end.
fn tail_of_file(part: &Part, count: usize) -> Result<Vec<String>> {
    let Content::Plain(file) = &part.content else { return Ok(Vec::new()) };
    let mut length = 64 * 1024;
    loop {
        let from = part.bytes.saturating_sub(length);
        let mut text = Vec::new();
        let mut end = scan::From { file, offset: from }.take(part.bytes - from);
        end.read_to_end(&mut text).map_err(|error| unreadable_part(&part.path, &error.to_string()))?;
        let lines = text.strip_suffix(b"\n").unwrap_or(&text);
        let found = if text.is_empty() { 0 } else { lines.iter().filter(|&&byte| byte == b'\n').count() + 1 };
        // The first of what was read may be the end of a line.
        if from == 0 || found > count || length >= MOST_TAIL_BYTES {
            return Ok(before(if found == 0 { b"" } else { lines }, count.min(found)));
        }
        length *= 4;
    }
}

/// The last lines of what can only be read from its beginning.
fn tail_of_lines(opened: &Opened, part: usize, count: usize, halt: &Halt) -> Result<Vec<String>> {
    struct Last {
        part: usize,
        count: usize,
        lines: std::collections::VecDeque<Vec<u8>>,
    }
    impl Visitor for Last {
        fn begin(&mut self, _: usize) {}

        fn line(&mut self, line: &Line<'_>) {
            if line.part != self.part {
                return;
            }
            let mut kept = if self.lines.len() == self.count { self.lines.pop_front().unwrap_or_default() } else { Vec::new() };
            kept.clear();
            kept.extend_from_slice(&line.text()[..line.text().len().min(LONGEST_SHOWN + 1)]);
            self.lines.push_back(kept);
        }
    }
    let scanned = opened.scan_part(part, || Last { part, count, lines: std::collections::VecDeque::new() }, halt)?;
    whole(opened, &scanned.parts)?;
    Ok(scanned.visitors.into_iter().flat_map(|last| last.lines).map(|line| cut(&line)).collect())
}

/// A statement that was slow.
#[derive(Debug, Serialize)]
pub(super) struct Slow {
    statement: String,
    count: u64,
    total: f64,
    mean: f64,
    max: f64,
    last: Option<String>,
}

#[derive(Debug, Default)]
struct Times {
    count: u64,
    total: f64,
    max: f64,
    last: i64,
}

impl Weighed for Times {
    fn weight(&self) -> u64 {
        self.total as u64
    }

    fn absorb(&mut self, other: Self) {
        self.count += other.count;
        self.total += other.total;
        self.max = self.max.max(other.max);
        self.last = self.last.max(other.last);
    }
}

/// The statements PostgreSQL logged with their duration, by what they have in common, the most time first.
///
/// # Errors
///
/// As [`Log::open_existing`].
pub(super) fn slow(log: &Log, window: Window, options: &SlowOptions, permit: Permit<'_>, halt: &Halt) -> Result<Vec<Slow>> {
    let Some(opened) = log.open_existing(window, permit)? else { return Ok(Vec::new()) };
    let make = || Statements {
        reader: opened.reader(),
        window: opened.window.millis(),
        opened: &opened,
        slow: SlowStatements::new(options.min.unwrap_or_default()),
    };
    let scanned = opened.scan(false, make, halt)?;
    whole(&opened, &scanned.parts)?;
    let mut all = SlowStatements::new(Span::default());
    scanned.visitors.into_iter().for_each(|visitor| all.merge(visitor.slow));
    Ok(all.into_sorted(options.limit.unwrap_or(LIMIT).min(LARGEST_LIMIT), &opened.zone))
}

struct Statements<'o> {
    reader: Reader,
    window: std::ops::Range<i64>,
    opened: &'o Opened,
    slow: SlowStatements,
}

impl Visitor for Statements<'_> {
    fn begin(&mut self, part: usize) {
        self.reader.clock.restart(self.opened.latest(part));
    }

    fn line(&mut self, line: &Line<'_>) {
        let Parsed::Record(record) = self.reader.read(line.text()) else { return };
        if record.time.is_some_and(|time| self.window.contains(&time)) {
            self.slow.add(&record, line);
        }
    }
}

/// Statements that took long, by what they have in common.
#[derive(Debug)]
pub(super) struct SlowStatements {
    /// In milliseconds.
    min: f64,
    found: Tally<Times>,
}

impl SlowStatements {
    /// None yet; of those that took at least `min`.
    pub(super) fn new(min: Span) -> Self {
        Self { min: min.0.as_secs_f64() * 1000.0, found: Tally::new(MOST_STATEMENTS) }
    }

    /// Adds the statement a record tells of, if it does and took long.
    pub(super) fn add(&mut self, record: &Record<'_>, line: &Line<'_>) {
        let Some((millis, first)) = slow_statement(record.message).filter(|(millis, _)| *millis >= self.min) else { return };
        let mut statement = first.to_vec();
        append_rest(&mut statement, line.following());
        let times = self.found.entry(&fold::statement(&statement));
        times.absorb(Times { count: 1, total: millis, max: millis, last: record.time.unwrap_or(0) });
    }

    /// Adds what another found.
    pub(super) fn merge(&mut self, other: Self) {
        self.found.merge(other.found);
    }

    /// The most time first, at most `limit`.
    pub(super) fn into_sorted(self, limit: usize, zone: &TimeZone) -> Vec<Slow> {
        let round = |millis: f64| (millis * 1000.0).round() / 1000.0;
        let told = self.found.into_sorted().into_iter().take(limit);
        told.map(|(statement, times)| Slow {
            statement: String::from_utf8_lossy(&statement).into_owned(),
            count: times.count,
            total: round(times.total),
            mean: round(times.total / times.count as f64),
            max: times.max,
            last: (times.last > 0).then(|| time_text(times.last, zone)),
        })
        .collect()
    }
}

/// The lines of a statement after its first begin with a tab.
fn append_rest(statement: &mut Vec<u8>, mut following: &[u8]) {
    while following.first() == Some(&b'\t') && statement.len() < LONGEST_STATEMENT {
        let end = memchr(b'\n', following).unwrap_or(following.len());
        statement.push(b'\n');
        statement.extend_from_slice(&following[1..end]);
        following = following.get(end + 1..).unwrap_or_default();
    }
    let cut = memrchr(b'\n', &statement[..statement.len().min(LONGEST_STATEMENT)]);
    if statement.len() > LONGEST_STATEMENT {
        statement.truncate(cut.unwrap_or(LONGEST_STATEMENT));
    }
}
