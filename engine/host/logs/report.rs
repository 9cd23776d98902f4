//! Everything about a log in one pass.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use regex::bytes::RegexSet;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::host::logs::fold;
use crate::host::logs::format::{Format, Reader};
use crate::host::logs::log::{Asked, Log, Opened, Window, time_text};
use crate::host::logs::parts::Permit;
use crate::host::logs::quick::Shortcut;
use crate::host::logs::record::{Level, Parsed, Record, Request};
use crate::host::logs::scan::{Count, Halt, Line, Visitor};
use crate::host::logs::search::{Hit, LONGEST_SHOWN, Newest, REGEX_SIZE, Slow, SlowStatements, cut};
use crate::host::logs::tally::{Batch, Histogram, Shelf, Tally, Weighed};
use crate::model::Span;

/// What a report is made of.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ReportOptions {
    window: Option<Span>,
    since: Option<String>,
    before: Option<String>,
    format: Option<Format>,
    timezone: Option<String>,
    top: Option<usize>,
    ignore: Vec<String>,
    min_requests: u64,
    newest: usize,
    slow: Option<Span>,
}

impl ReportOptions {
    /// The time and format that are asked about.
    pub(super) fn asked(&self) -> Asked {
        let Self { window, since, before, format, timezone, .. } = self;
        Asked { window: *window, since: since.clone(), before: before.clone(), format: *format, timezone: timezone.clone() }
    }
}

const TOP: usize = 20;
const LARGEST_TOP: usize = 1000;
/// Distinct names that are counted exactly, each thread for itself; see [`Tally`].
const MOST_ENDPOINTS: usize = 512;
const MOST_CLIENTS: usize = 32_768;
const MOST_TYPES: usize = 2048;
const LONGEST_SAMPLE: usize = 500;

/// Everything about a log.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    problem: Option<&'static str>,
    detail: Option<String>,
    format: &'static str,
    lines: u64,
    in_window: u64,
    malformed: u64,
    ignored: u64,
    cut: u64,
    future: u64,
    first: Option<String>,
    last: Option<String>,
    levels: BTreeMap<&'static str, u64>,
    errors: u64,
    errors_by_type: Vec<ErrorType>,
    requests: u64,
    status: BTreeMap<String, u64>,
    statuses: BTreeMap<String, u64>,
    error_rate: f64,
    endpoints: Vec<Endpoint>,
    latency: Latency,
    clients: Vec<Client>,
    clients_total: usize,
    login_failures: Vec<Client>,
    newest: Vec<Hit>,
    slow: Vec<Slow>,
    parts: Vec<PartReport>,
    /// Lines that could be read, in the window or not.
    #[serde(skip)]
    records: u64,
}

#[derive(Debug, Serialize)]
struct ErrorType {
    #[serde(rename = "type")]
    name: String,
    count: u64,
    sample: String,
}

#[derive(Debug, Serialize)]
struct Endpoint {
    method: String,
    path: String,
    count: u64,
    errors: u64,
    error_rate: f64,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Latency {
    count: u64,
    mean: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Client {
    address: String,
    count: u64,
}

#[derive(Debug, Serialize)]
struct PartReport {
    path: String,
    bytes: u64,
    compressed: bool,
    lines: u64,
    problem: Option<String>,
}

/// Makes the report of a log. A log that is missing, empty or unreadable is a finding, not a failure.
///
/// # Errors
///
/// `invalid` for an expression that is none; otherwise as [`Log::open`].
pub(super) fn report(log: &Log, window: Window, options: &ReportOptions, permit: Permit<'_>, halt: &Halt) -> Result<Report> {
    let ignore = RegexSetIn::read(&options.ignore)?;
    let Some(opened) = log.open(window, permit)? else {
        let problem = (!log.optional).then_some("missing");
        return Ok(Report {
            problem,
            detail: problem.map(|_| format!("there is no log `{}`", log.name)),
            ..Report::new(log.format.unwrap_or(Format::App))
        });
    };
    let make = || Tallies {
        reader: opened.reader(),
        shortcut: Shortcut::new(opened.format),
        counts: Counts::new(&opened, options),
        ignore: &ignore,
        ignored: 0,
        malformed: 0,
        opened: &opened,
    };
    let scanned = opened.scan(false, make, halt)?;
    let mut visitors = scanned.visitors.into_iter();
    let Some(mut all) = visitors.next() else { return Err(Error::new(Kind::Bug, "a log was read by nobody")) };
    for other in visitors {
        all.ignored += other.ignored;
        all.malformed += other.malformed;
        all.counts.merge(other.counts);
    }
    let Tallies { counts, ignored, malformed, .. } = all;
    let mut report = counts.into_report(&opened, options);
    (report.ignored, report.malformed) = (ignored, malformed);
    report.add_parts(&opened, &scanned.parts);
    (report.problem, report.detail) = report.judge(&opened).unzip();
    Ok(report)
}

/// The lines that do not matter.
struct RegexSetIn(Option<RegexSet>);

impl RegexSetIn {
    fn read(patterns: &[String]) -> Result<Self> {
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        let set = regex::bytes::RegexSetBuilder::new(patterns).size_limit(REGEX_SIZE).build();
        set.map(|set| Self(Some(set))).map_err(|error| Error::new(Kind::Invalid, format!("option `ignore`: {error}")))
    }
}

/// What a thread counts.
struct Tallies<'o> {
    reader: Reader,
    shortcut: Shortcut,
    counts: Counts,
    ignore: &'o RegexSetIn,
    ignored: u64,
    malformed: u64,
    opened: &'o Opened,
}

impl Visitor for Tallies<'_> {
    fn begin(&mut self, part: usize) {
        self.reader.clock.restart(self.opened.latest(part));
    }

    #[inline]
    fn line(&mut self, line: &Line<'_>) {
        let text = line.text();
        if let RegexSetIn(Some(ignore)) = self.ignore
            && ignore.is_match(text)
        {
            self.ignored += 1;
            return;
        }
        if let Some(record) = self.shortcut.read(&mut self.reader, line) {
            return self.counts.add(&record, text, line);
        }
        match self.reader.read(text) {
            Parsed::Record(record) => self.counts.add(&record, text, line),
            Parsed::Continuation => {}
            Parsed::Malformed => self.malformed += 1,
        }
    }
}

struct Counts {
    window: std::ops::Range<i64>,
    bounded: bool,
    /// Whether the end of the window is now, so that what is later is in the future.
    ends_now: bool,
    records: u64,
    in_window: u64,
    future: u64,
    first: i64,
    last: i64,
    levels: [u64; Level::COUNT],
    types: Tally<Sample>,
    statuses: Vec<u64>,
    endpoints: Tally<Served>,
    requests: Shelf,
    clients: Batch,
    failures: Tally<u64>,
    newest: Newest<Grave>,
    /// Of a log of PostgreSQL, when they are asked for.
    slow: Option<SlowStatements>,
    scratch: Vec<u8>,
}

/// A line of level error or worse.
#[derive(Debug)]
struct Grave {
    part: usize,
    time: Option<i64>,
    level: Level,
    line: Vec<u8>,
}

/// An error type, and its newest line.
#[derive(Debug, Default)]
struct Sample {
    count: u64,
    time: i64,
    line: Vec<u8>,
}

impl Grave {
    fn hit(&self, opened: &Opened) -> Hit {
        Hit::new(opened, self.part, self.time, Some(self.level), &self.line)
    }
}

impl Weighed for Sample {
    fn weight(&self) -> u64 {
        self.count
    }

    fn absorb(&mut self, other: Self) {
        let count = self.count + other.count;
        if other.time > self.time || self.count == 0 {
            *self = other;
        }
        self.count = count;
    }
}

/// The requests of an endpoint.
#[derive(Debug, Default)]
struct Served {
    count: u64,
    errors: u64,
    latency: Histogram,
}

impl Weighed for Served {
    fn weight(&self) -> u64 {
        self.count
    }

    fn absorb(&mut self, other: Self) {
        self.count += other.count;
        self.errors += other.errors;
        self.latency.merge(&other.latency);
    }
}

impl Counts {
    fn new(opened: &Opened, options: &ReportOptions) -> Self {
        let window = &opened.window;
        Self {
            window: window.millis(),
            bounded: window.is_bounded(),
            ends_now: window.since.is_some() && window.until.is_none(),
            records: 0,
            in_window: 0,
            future: 0,
            first: i64::MAX,
            last: i64::MIN,
            levels: [0; Level::COUNT],
            types: Tally::new(MOST_TYPES),
            statuses: vec![0; 1000],
            endpoints: Tally::new(MOST_ENDPOINTS),
            requests: Shelf::new(),
            clients: Batch::new(MOST_CLIENTS),
            failures: Tally::new(MOST_CLIENTS),
            newest: Newest::new(options.newest.min(LARGEST_TOP)),
            slow: options.slow.filter(|_| opened.format == Format::Postgres).map(SlowStatements::new),
            scratch: Vec::new(),
        }
    }

    #[inline]
    fn add(&mut self, record: &Record<'_>, text: &[u8], line: &Line<'_>) {
        self.records += 1;
        match record.time {
            Some(time) if self.window.contains(&time) => {
                self.first = self.first.min(time);
                self.last = self.last.max(time);
            }
            Some(time) => {
                self.future += u64::from(self.ends_now && time >= self.window.end);
                return;
            }
            None if self.bounded => return,
            None => {}
        }
        self.in_window += 1;
        if let Some(level) = record.level {
            self.levels[level as usize] += 1;
            if level >= Level::Error {
                self.add_error(record, level, text, line);
            }
        }
        if let Some(request) = &record.request {
            self.add_request(request);
        }
        if let Some(failure) = &record.failure {
            let address = if failure.address.is_empty() { b"unknown" } else { failure.address };
            *self.failures.entry(address) += failure.count;
        }
        if let Some(slow) = &mut self.slow {
            slow.add(record, line);
        }
    }

    fn add_error(&mut self, record: &Record<'_>, level: Level, text: &[u8], line: &Line<'_>) {
        fold::error_type(record.message, line.following(), &mut self.scratch);
        let sample = self.types.entry(&self.scratch);
        let time = record.time.unwrap_or(0);
        if time >= sample.time {
            sample.time = time;
            sample.line.clear();
            sample.line.extend_from_slice(&text[..text.len().min(LONGEST_SAMPLE)]);
        }
        sample.count += 1;
        // Made presentable at the end: in the order of a log each is the newest so far.
        let grave = || Grave { part: line.part, time: record.time, level, line: text[..text.len().min(LONGEST_SHOWN + 1)].to_vec() };
        self.newest.keep(record.time, line, grave);
    }

    #[inline]
    fn add_request(&mut self, request: &Request<'_>) {
        if let Some(status) = self.statuses.get_mut(usize::from(request.status)) {
            *status += 1;
        }
        let place = |tally: &mut Tally<Served>| tally.place(fold::endpoint(request.line, request.method, &mut self.scratch));
        let endpoint = self.requests.entry(&mut self.endpoints, request.line, place);
        endpoint.count += 1;
        endpoint.errors += u64::from(request.status >= 400);
        if let Some(micros) = request.micros {
            endpoint.latency.add(micros);
        }
        if !request.client.is_empty() {
            self.clients.count(request.client);
        }
    }

    fn merge(&mut self, other: Self) {
        self.records += other.records;
        self.in_window += other.in_window;
        self.future += other.future;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        let sum = |mine: &mut [u64], theirs: &[u64]| mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        sum(&mut self.levels, &other.levels);
        sum(&mut self.statuses, &other.statuses);
        self.types.merge(other.types);
        self.endpoints.merge(other.endpoints);
        self.clients.merge(other.clients);
        self.failures.merge(other.failures);
        self.newest.merge(other.newest);
        if let (Some(mine), Some(theirs)) = (&mut self.slow, other.slow) {
            mine.merge(theirs);
        }
    }

    fn into_report(self, opened: &Opened, options: &ReportOptions) -> Report {
        let client_tally = self.clients.into_tally();
        let top = options.top.unwrap_or(TOP).min(LARGEST_TOP);
        let time = |millis: i64, zone: &TimeZone| (self.first <= self.last).then(|| time_text(millis, zone));
        let statuses: BTreeMap<String, u64> =
            self.statuses.iter().enumerate().filter(|(_, count)| **count > 0).map(|(status, &count)| (status.to_string(), count)).collect();
        let mut status = BTreeMap::new();
        statuses.iter().for_each(|(code, count)| *status.entry(format!("{}xx", &code[..1])).or_default() += count);
        let requests = self.statuses.iter().sum();
        let failed: u64 = self.endpoints.values().map(|served| served.errors).sum();
        let mut latency = Histogram::default();
        self.endpoints.values().for_each(|served| latency.merge(&served.latency));
        let errors_of = |(level, &count): (&Level, &u64)| if *level >= Level::Error { count } else { 0 };
        Report {
            in_window: self.in_window,
            future: self.future,
            first: time(self.first, &opened.zone),
            last: time(self.last, &opened.zone),
            levels: Level::ALL
                .iter()
                .zip(&self.levels)
                .filter(|(_, count)| **count > 0)
                .map(|(level, &count)| (level.name(), count))
                .collect(),
            errors: Level::ALL.iter().zip(&self.levels).map(errors_of).sum(),
            errors_by_type: error_types(self.types, top),
            requests,
            status,
            statuses,
            error_rate: percent(failed, requests),
            latency: Latency {
                count: latency.count(),
                mean: latency.mean().map(round),
                p50: latency.percentile(0.5).map(round),
                p95: latency.percentile(0.95).map(round),
                p99: latency.percentile(0.99).map(round),
                max: latency.max().map(round),
            },
            endpoints: endpoints(self.endpoints, top, options.min_requests),
            clients_total: client_tally.len(),
            clients: clients(client_tally, top),
            login_failures: clients(self.failures, top),
            newest: self.newest.into_sorted().iter().map(|found| found.hit(opened)).collect(),
            slow: self.slow.map_or_else(Vec::new, |slow| slow.into_sorted(top, &opened.zone)),
            records: self.records,
            ..Report::new(opened.format)
        }
    }
}

fn error_types(types: Tally<Sample>, top: usize) -> Vec<ErrorType> {
    let types = with_rest(types, top, |rest| rest.count > 0);
    types.into_iter().map(|(name, sample)| ErrorType { name, count: sample.count, sample: cut(&sample.line) }).collect()
}

fn clients(clients: Tally<u64>, top: usize) -> Vec<Client> {
    with_rest(clients, top, |rest| *rest > 0).into_iter().map(|(address, count)| Client { address, count }).collect()
}

/// The most frequent names, and `(other)` when some were folded together.
fn with_rest<V: Weighed>(mut tally: Tally<V>, top: usize, is_any: impl Fn(&V) -> bool) -> Vec<(String, V)> {
    let rest = std::mem::take(&mut tally.rest);
    let mut named: Vec<(String, V)> =
        tally.into_sorted().into_iter().take(top).map(|(name, value)| (String::from_utf8_lossy(&name).into_owned(), value)).collect();
    if is_any(&rest) {
        named.push(("(other)".to_owned(), rest));
    }
    named
}

fn endpoints(endpoints: Tally<Served>, top: usize, min_requests: u64) -> Vec<Endpoint> {
    let all = with_rest(endpoints, usize::MAX, |rest| rest.count > 0);
    let wanted = all.into_iter().filter(|(_, served)| served.count >= min_requests).take(top);
    wanted
        .map(|(name, served)| {
            let (method, path) = name.split_once(' ').unwrap_or(("-", &name));
            Endpoint {
                method: method.to_owned(),
                path: path.to_owned(),
                count: served.count,
                errors: served.errors,
                error_rate: percent(served.errors, served.count),
                p50: served.latency.percentile(0.5).map(round),
                p95: served.latency.percentile(0.95).map(round),
                p99: served.latency.percentile(0.99).map(round),
            }
        })
        .collect()
}

impl Report {
    fn new(format: Format) -> Self {
        Self {
            problem: None,
            detail: None,
            format: format.name(),
            lines: 0,
            in_window: 0,
            malformed: 0,
            ignored: 0,
            cut: 0,
            future: 0,
            first: None,
            last: None,
            levels: BTreeMap::new(),
            errors: 0,
            errors_by_type: Vec::new(),
            requests: 0,
            status: BTreeMap::new(),
            statuses: BTreeMap::new(),
            error_rate: 0.0,
            endpoints: Vec::new(),
            latency: Latency { count: 0, mean: None, p50: None, p95: None, p99: None, max: None },
            clients: Vec::new(),
            clients_total: 0,
            login_failures: Vec::new(),
            newest: Vec::new(),
            slow: Vec::new(),
            parts: Vec::new(),
            records: 0,
        }
    }

    fn add_parts(&mut self, opened: &Opened, counts: &[Count]) {
        for (part, count) in opened.parts.iter().zip(counts) {
            self.lines += count.lines;
            self.cut += count.cut;
            self.parts.push(PartReport {
                path: part.path.display().to_string(),
                bytes: part.bytes,
                compressed: part.is_compressed(),
                lines: count.lines,
                problem: count.problem.clone(),
            });
        }
    }

    /// What makes the figures say less than they seem to.
    fn judge(&self, opened: &Opened) -> Option<(&'static str, String)> {
        if let Some((part, why)) = self.parts.iter().find_map(|part| part.problem.as_ref().map(|why| (part, why))) {
            return Some(("unreadable", format!("`{}`: {why}", part.path)));
        }
        if self.parts.iter().all(|part| part.bytes == 0) && !self.parts.is_empty() {
            return Some(("empty", "there is no line in it".to_owned()));
        }
        if self.records == 0 && self.malformed > 0 {
            return Some(("format", format!("none of {} lines could be read as `{}`", self.malformed, self.format)));
        }
        let zone = opened.zone.iana_name().unwrap_or("unknown");
        (self.future > 0)
            .then(|| ("future", format!("{} lines are stamped later than now; is `{zone}` the zone of this log?", self.future)))
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (10_000.0 * part as f64 / whole as f64).round() / 100.0 }
}

/// Milliseconds with three digits after the point: microseconds.
fn round(millis: f64) -> f64 {
    (millis * 1000.0).round() / 1000.0
}
