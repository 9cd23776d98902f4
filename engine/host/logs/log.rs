//! A log as it is asked about: where it is, what it is written in, and the time that matters.

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::error::{Error, Kind, Result};
use crate::host::logs::format::{Format, Reader};
use crate::host::logs::parts::{self, Content, Part, Permit, SLACK};
use crate::host::logs::record::Parsed;
use crate::host::logs::scan::{self, Halt, Input, Manner, Scanned, Visitor};
use crate::host::logs::stamp::{Clock, repeats_an_hour};
use crate::model::Span;

/// The time that is asked about, as scripts write it; the same options in every function.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) window: Option<Span>,
    pub(super) since: Option<String>,
    pub(super) before: Option<String>,
    pub(super) format: Option<Format>,
    pub(super) timezone: Option<String>,
}

/// A log.
#[derive(Debug, Clone)]
pub(super) struct Log {
    /// How errors name it.
    pub(super) name: String,
    /// Where it is.
    pub(super) source: Source,
    /// What it is written in; guessed when none.
    pub(super) format: Option<Format>,
    /// The zone of stamps without one.
    pub(super) zone: TimeZone,
    /// Whether it may be absent.
    pub(super) optional: bool,
}

/// Where a log is.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// In files: the current one, or a pattern of current ones.
    Files(PathBuf),
    /// In memory: what another module read, the output of a container.
    Lines(Vec<u8>),
}

/// The time that is asked about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// From then on.
    pub(super) since: Option<Timestamp>,
    /// Up to, without it.
    pub(super) until: Option<Timestamp>,
    /// When it was asked.
    pub(super) now: Timestamp,
}

/// Clocks of other machines may be ahead by this much.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);
/// What is read of a file to learn what it is.
const HEAD: usize = 64 * 1024;

impl Window {
    /// The window of the options.
    ///
    /// # Errors
    ///
    /// `invalid` for times that are none, or that contradict each other.
    pub(super) fn read(asked: &Asked, zone: &TimeZone, now: Timestamp) -> Result<Self> {
        let time = |option: &str, text: &Option<String>| text.as_deref().map(|text| instant(option, text, zone)).transpose();
        let (since, until) = (time("since", &asked.since)?, time("before", &asked.before)?);
        let since = match (asked.window, since) {
            (Some(_), Some(_)) => {
                bail!(Kind::Invalid, "options `window` and `since` exclude each other"; hint: "a window ends at `before`, or now")
            }
            (Some(window), None) => Some(until.unwrap_or(now).checked_sub(window.0).unwrap_or(Timestamp::MIN)),
            (None, since) => since,
        };
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            bail!(Kind::Invalid, "the time asked about is empty: `since` {since} is not earlier than `before` {until}");
        }
        Ok(Self { since, until, now })
    }

    /// Whether any time matters less than another.
    pub(super) fn is_bounded(&self) -> bool {
        self.since.is_some() || self.until.is_some()
    }

    /// The window in milliseconds: from, up to. A window that ends now leaves out what claims to be later.
    pub(super) fn millis(&self) -> Range<i64> {
        let end = match (self.until, self.since) {
            (Some(until), _) => until.as_millisecond(),
            (None, Some(_)) => self.now.saturating_add(AHEAD).map_or(i64::MAX, |end| end.as_millisecond()),
            (None, None) => i64::MAX,
        };
        self.since.map_or(i64::MIN, |since| since.as_millisecond())..end
    }
}

/// A time as people write it: with a zone, or in the zone of the log.
fn instant(option: &str, text: &str, zone: &TimeZone) -> Result<Timestamp> {
    let text = text.trim();
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let civil = text.parse::<jiff::civil::DateTime>().or_else(|_| text.parse::<jiff::civil::Date>().map(|date| date.at(0, 0, 0, 0)));
    civil.and_then(|civil| zone.to_timestamp(civil)).map_err(|_| {
        Error::new(Kind::Invalid, format!("option `{option}`: `{text}` is not a time"))
            .hint("write it like `2026-11-21T10:00:00Z`, `2026-11-21 10:00` or `2026-11-21`")
    })
}

/// The files of a log, open, and what of them to read.
pub(super) struct Opened {
    /// The parts, newest first.
    pub(super) parts: Vec<Part>,
    /// The range of each part that can be in the window.
    ranges: Vec<Range<u64>>,
    /// What it is written in.
    pub(super) format: Format,
    /// The zone of its stamps.
    pub(super) zone: TimeZone,
    /// What is asked about.
    pub(super) window: Window,
    /// Whether only the order of its lines tells two hours apart.
    pub(super) ordered: bool,
}

impl Log {
    /// Opens what can be in the window; none when there is no such log.
    ///
    /// # Errors
    ///
    /// As [`parts::open`].
    pub(super) fn open(&self, window: Window, permit: Permit<'_>) -> Result<Option<Opened>> {
        let all = match &self.source {
            Source::Files(path) => parts::open(path, window.since, permit)?,
            Source::Lines(lines) => Some(vec![Part {
                path: PathBuf::from(&self.name),
                log: self.name.clone(),
                bytes: lines.len() as u64,
                modified: window.now,
                content: Content::Lines(lines.clone()),
            }]),
        };
        let Some(all) = all else { return Ok(None) };
        let guessed = || {
            all.iter().map(head).find(|head| !head.is_empty()).map(|head| Format::guess(&head, &Clock::new(self.zone.clone(), window.now)))
        };
        let format = self.format.or_else(guessed).unwrap_or(Format::App);
        let mut opened = Opened { parts: Vec::new(), ranges: Vec::new(), format, zone: self.zone.clone(), window, ordered: false };
        // The log whose older parts end before the window begins.
        let mut done = None;
        for part in all {
            if done.as_ref() == Some(&part.log) {
                continue;
            }
            let first = opened.first_time(&part);
            if let Some(first) = first {
                opened.ordered |= repeats_an_hour(&self.zone, first, part.modified.min(window.now));
                if window.until.is_some_and(|until| first >= until.saturating_add(SLACK).unwrap_or(until)) {
                    continue;
                }
                if window.since.is_some_and(|since| first < since) {
                    done = Some(part.log.clone());
                }
            }
            opened.parts.push(part);
        }
        opened.ranges = opened.parts.iter().map(|part| opened.range(part)).collect();
        Ok(Some(opened))
    }

    /// Opens what can be in the window, and demands that there is something to read.
    ///
    /// # Errors
    ///
    /// `not_found` when there is no such log and it is not optional; `refused` when a part can not be read.
    pub(super) fn open_existing(&self, window: Window, permit: Permit<'_>) -> Result<Option<Opened>> {
        let opened = self.open(window, permit)?;
        let Some(opened) = opened else {
            return if self.optional { Ok(None) } else { Err(self.missing()) };
        };
        let unreadable = opened.parts.iter().find_map(|part| match &part.content {
            Content::Unreadable(why) => Some((part, why)),
            _ => None,
        });
        match unreadable {
            Some((part, why)) => Err(unreadable_part(&part.path, why)),
            None => Ok(Some(opened)),
        }
    }

    fn missing(&self) -> Error {
        Error::new(Kind::NotFound, format!("there is no log `{}`", self.name))
            .target(self.name.clone())
            .hint("see whether the program writes it there; `logs::report` tells a missing log without failing")
    }
}

/// The error for a part that can not be read.
pub(super) fn unreadable_part(path: &Path, why: &str) -> Error {
    Error::new(Kind::Refused, format!("`{}` can not be read: {why}", path.display()))
        .target(path.display().to_string())
        .hint("the user that runs the engine needs to be in the group that may read it, often `adm`")
}

impl Opened {
    /// A reader of its lines.
    pub(super) fn reader(&self) -> Reader {
        Reader::new(self.format, Clock::new(self.zone.clone(), self.window.now))
    }

    /// The latest that stamps without a year in this part can be.
    pub(super) fn latest(&self, part: usize) -> Timestamp {
        self.parts[part].modified.min(self.window.now)
    }

    /// Shows the lines that can be in the window to visitors; they have to look at the time.
    ///
    /// # Errors
    ///
    /// `cancelled` when it was halted.
    pub(super) fn scan<V: Visitor>(&self, look_back: bool, make: impl Fn() -> V + Sync, halt: &Halt) -> Result<Scanned<V>> {
        self.scan_inputs(&self.inputs(), look_back, make, halt)
    }

    /// Shows the lines of one part to one visitor.
    ///
    /// # Errors
    ///
    /// `cancelled` when it was halted.
    pub(super) fn scan_part<V: Visitor>(&self, part: usize, make: impl Fn() -> V + Sync, halt: &Halt) -> Result<Scanned<V>> {
        let inputs: Vec<_> =
            self.inputs().into_iter().enumerate().map(|(index, input)| if index == part { input } else { Input::Lines(&[]) }).collect();
        self.scan_inputs(&inputs, false, make, halt)
    }

    fn scan_inputs<V: Visitor>(
        &self,
        inputs: &[Input<'_>],
        look_back: bool,
        make: impl Fn() -> V + Sync,
        halt: &Halt,
    ) -> Result<Scanned<V>> {
        let mut scanned = scan::scan(inputs, Manner { split: !self.ordered, look_back }, make, halt)?;
        for (count, part) in scanned.parts.iter_mut().zip(&self.parts) {
            if let Content::Unreadable(why) = &part.content {
                count.problem = Some(why.clone());
            }
        }
        Ok(scanned)
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        let parts = self.parts.iter().zip(&self.ranges);
        parts
            .map(|(part, range)| match &part.content {
                Content::Plain(file) => Input::Plain(file, range.clone()),
                Content::Gzip(file) => Input::Gzip(file),
                Content::Lines(lines) => Input::Lines(lines),
                Content::Unreadable(_) => Input::Lines(&[]),
            })
            .collect()
    }

    fn first_time(&self, part: &Part) -> Option<Timestamp> {
        let mut reader = self.reader();
        reader.clock.restart(part.modified.min(self.window.now));
        let head = head(part);
        head.split(|&byte| byte == b'\n')
            .find_map(|line| time_of(&mut reader, line))
            .and_then(|millis| Timestamp::from_millisecond(millis).ok())
    }

    /// The range of a part that can be in the window. Lines stand in the order of their times, by and
    /// large; where samples show that they do not, everything is read.
    fn range(&self, part: &Part) -> Range<u64> {
        let Content::Plain(file) = &part.content else { return 0..part.bytes };
        if self.ordered || !self.window.is_bounded() {
            return 0..part.bytes;
        }
        let mut reader = self.reader();
        reader.clock.restart(part.modified.min(self.window.now));
        let mut probe = Probe { file, bytes: part.bytes, reader };
        let slack = SLACK.as_millis() as i64;
        let start = self.window.since.and_then(|since| probe.start(since.as_millisecond() - slack)).unwrap_or(0);
        let end = self.window.until.and_then(|until| probe.end(until.as_millisecond() + slack)).unwrap_or(part.bytes);
        start..end.max(start)
    }
}

/// The time of a line.
fn time_of(reader: &mut Reader, line: &[u8]) -> Option<i64> {
    match reader.read(line.strip_suffix(b"\r").unwrap_or(line)) {
        Parsed::Record(record) => record.time,
        Parsed::Continuation | Parsed::Malformed => None,
    }
}

/// The first bytes of a part.
fn head(part: &Part) -> Vec<u8> {
    let mut head = Vec::new();
    let limit = HEAD as u64;
    // What can not be read has no first lines; reading it in earnest says why.
    let _ = match &part.content {
        Content::Plain(file) => scan::From { file, offset: 0 }.take(limit).read_to_end(&mut head),
        Content::Gzip(file) => scan::gunzip(file).take(limit).read_to_end(&mut head),
        Content::Lines(lines) => lines.as_slice().take(limit).read_to_end(&mut head),
        Content::Unreadable(_) => Ok(0),
    };
    head
}

/// Finds a time in a file whose lines are in order, and notices when they are not.
struct Probe<'f> {
    file: &'f std::fs::File,
    bytes: u64,
    reader: Reader,
}

/// Places that are looked at in the part that would be left out.
const SAMPLES: u64 = 32;

impl Probe<'_> {
    /// A place before which every line is earlier; none when the lines are in no order.
    fn start(&mut self, time: i64) -> Option<u64> {
        let (start, _) = self.bracket(time)?;
        self.all(0..start, |found| found < time).then_some(start)
    }

    /// A place after which every line is later or at this time; none when the lines are in no order.
    fn end(&mut self, time: i64) -> Option<u64> {
        let (_, end) = self.bracket(time)?;
        self.all(end..self.bytes, |found| found >= time).then_some(end)
    }

    /// Two places near each other between which the time lies.
    fn bracket(&mut self, time: i64) -> Option<(u64, u64)> {
        let (mut low, mut high) = (0, self.bytes);
        let (mut earliest, mut latest) = (i64::MIN, i64::MAX);
        while high - low > 2 * scan::LONGEST_LINE as u64 {
            let middle = low + (high - low) / 2;
            let found = self.time_after(middle)?;
            if found < earliest || found > latest {
                return None;
            }
            if found < time {
                (low, earliest) = (middle, found);
            } else {
                (high, latest) = (middle, found);
            }
        }
        Some((low, high))
    }

    /// Whether samples of a range are in order, and as wanted.
    fn all(&mut self, range: Range<u64>, wanted: impl Fn(i64) -> bool) -> bool {
        let step = ((range.end - range.start) / SAMPLES).max(4096);
        let mut last = i64::MIN;
        let mut place = range.start;
        while place + step < range.end {
            let Some(found) = self.time_after(place) else { return false };
            if !wanted(found) || found.saturating_add(SLACK.as_millis() as i64) < last {
                return false;
            }
            last = found;
            place += step;
        }
        true
    }

    /// The first time in the lines that begin after this place.
    fn time_after(&mut self, place: u64) -> Option<i64> {
        // Most lines are short; some have a long trace behind them.
        [4096, 2 * scan::LONGEST_LINE].into_iter().find_map(|length| {
            let mut text = Vec::new();
            scan::From { file: self.file, offset: place }.take(length as u64).read_to_end(&mut text).ok()?;
            let whole = text.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
            text[..whole].split(|&byte| byte == b'\n').skip(1).find_map(|line| time_of(&mut self.reader, line))
        })
    }
}

/// A time for people and programs: RFC 3339 with the offset of the zone.
pub(super) fn time_text(millis: i64, zone: &TimeZone) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| String::new(), |time| time.display_with_offset(zone.to_offset(time)).to_string())
}
