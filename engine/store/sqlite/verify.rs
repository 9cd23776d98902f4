//! Finds what was changed in the store behind its back.

use std::ops::RangeInclusive;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::audit::{COLUMNS, Data, Pruned};
use super::incidents::{INCIDENT, RECORD, REPAIR};
use super::seal::{Hash, link, seal, seal_of, stored};
use crate::store::audit::Anchor;
use crate::words::{hex, unhex};

/// What kind of damage it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A row says something else than it did, or was put where none was, or moved, or taken out.
    Altered,
    /// The last rows are missing.
    Truncated,
}

impl Verdict {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::Truncated => "truncated",
        }
    }
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// What kind.
    pub verdict: Verdict,
    /// The run it is in, when it is in one.
    pub run: Option<u64>,
    /// The row: `event 5`, `audit row 7`, `note KEY of SCOPE`.
    pub row: String,
    /// What was found.
    pub found: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(run) = self.run {
            write!(f, "run #{run}, ")?;
        }
        write!(f, "{} ({}): {}", self.row, self.verdict.name(), self.found)
    }
}

/// What was looked through, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// Runs.
    pub runs: u64,
    /// Events of runs.
    pub events: u64,
    /// Rows of the audit log.
    pub audit: u64,
    /// Rows after the last checkpoint, which nothing outside vouches for; all, when none was given.
    pub unanchored: u64,
    /// What is not as it was written; nothing when all is.
    pub damage: Vec<Damage>,
}

/// More than this is not told.
const MOST: usize = 1000;

/// The columns of `runs` that its seal is over, in the order they are bound.
pub(super) const RUN: &str = "id, runbook, version, commit_id, system, params, trigger_by, actor, started, \
                              pid, pid_started, status, exit_code, ended, duration_ms, changes, level, note";
/// How many of them are its identity.
pub(super) const IDENTITY: usize = 9;
/// How many there are.
pub(super) const SEALED: usize = 18;

/// The columns of a parcel that its seal is over.
pub(super) const PARCEL: &[&str] = &["id", "project", "system", "contact", "dedupe", "state", "attempts", "created", "body"];
/// The columns of a note that its seal is over.
pub(super) const NOTE: &[&str] = &["key", "scope", "value"];

/// The head of a run without events: its identity and its texts.
pub(super) fn identity(connection: &Connection, number: i64, row: &Row<'_>, first: usize) -> rusqlite::Result<Hash> {
    let own = seal_of("identity", row, first..first + IDENTITY)?;
    with_texts(connection, number, own)
}

/// The identity with the texts that are recorded of a run.
pub(super) fn with_texts(connection: &Connection, number: i64, own: Hash) -> rusqlite::Result<Hash> {
    let mut texts = connection.prepare_cached("SELECT seq, name, hash FROM run_texts WHERE run = ?1 ORDER BY seq")?;
    let mut rows = texts.query([number])?;
    let mut head = own;
    while let Some(row) = rows.next()? {
        head = link(head, seal_of("text", row, 0..3)?);
    }
    Ok(head)
}

/// The hash of an event: of the one before, the run, its place, and what it says.
pub(super) fn chained(before: Hash, id: &str, seq: i64, body: &str) -> rusqlite::Result<Hash> {
    Ok(link(before, seal("event", params![id, seq, body])?))
}

/// Looks through everything.
pub(super) fn examine(connection: &Connection, anchors: &[Anchor]) -> Examination {
    let mut found = Finder { connection, seen: Examination::default() };
    let passes = [
        ("database", found.pages()),
        ("audit log", found.audit(anchors)),
        ("runs", found.runs()),
        ("runs in the audit log", found.anchors()),
        ("texts", found.texts()),
        ("sub-runs", found.sub_runs()),
        ("notes and parcels", found.seals()),
    ];
    for (area, pass) in passes {
        // A page that can not be read is damage like any other; what is on other pages was still looked at.
        if let Err(error) = pass {
            found.tell(Verdict::Altered, None, area.to_owned(), format!("can not be read: {error}"));
        }
    }
    found.seen
}

/// Looks through one run.
pub(super) fn run(connection: &Connection, number: i64) -> Vec<Damage> {
    let mut finder = Finder { connection, seen: Examination::default() };
    let one = || format!("SELECT number, {RUN}, events, head, seal FROM runs WHERE number = ?1");
    let looked = connection.prepare(&one()).and_then(|mut select| {
        let mut rows = select.query([number])?;
        while let Some(row) = rows.next()? {
            finder.run(row)?;
        }
        Ok(())
    });
    if let Err(error) = looked.and_then(|()| finder.texts_of(number)) {
        finder.tell(Verdict::Altered, Some(number), "its rows".to_owned(), format!("can not be read: {error}"));
    }
    finder.seen.damage
}

struct Finder<'a> {
    connection: &'a Connection,
    seen: Examination,
}

impl Finder<'_> {
    fn tell(&mut self, verdict: Verdict, run: Option<i64>, row: String, found: impl Into<String>) {
        if self.seen.damage.len() < MOST {
            let run = run.and_then(|run| u64::try_from(run).ok());
            self.seen.damage.push(Damage { verdict, run, row, found: found.into() });
        }
    }

    fn altered(&mut self, run: Option<i64>, row: impl Into<String>) {
        self.tell(Verdict::Altered, run, row.into(), "its hash is of something else");
    }

    /// What SQLite itself finds.
    fn pages(&mut self) -> rusqlite::Result<()> {
        let mut check = self.connection.prepare("PRAGMA integrity_check(10)")?;
        let lines: Vec<String> = check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for line in lines.into_iter().filter(|line| line != "ok") {
            self.tell(Verdict::Altered, None, "page".to_owned(), line);
        }
        Ok(())
    }

    fn audit(&mut self, anchors: &[Anchor]) -> rusqlite::Result<()> {
        let pruned = self.pruned()?;
        let base = pruned.iter().max_by_key(|pruned| pruned.rows);
        let start = base.map_or(0, |pruned| pruned.rows);
        // What is no hash is one that nothing has.
        let hash = |pruned: &Pruned| unhex(&pruned.hash).and_then(|bytes| bytes.try_into().ok());
        let mut before: Hash = base.and_then(hash).unwrap_or_default();
        let mut last = start;
        let mut held: Vec<&Anchor> = anchors.iter().collect();
        let mut vouched = 0;
        held.retain(|anchor| anchor.count == 0 || i64::try_from(anchor.count).is_ok_and(|count| count > start));
        let mut select = self.connection.prepare(&format!("SELECT hash, {COLUMNS} FROM audit ORDER BY seq"))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (seq, hash): (i64, Hash) = (row.get(1)?, stored(row, 0)?);
            if seq != last + 1 {
                let (from, to) = (last + 1, seq - 1);
                self.tell(Verdict::Altered, None, format!("audit row {from}"), format!("the rows {from} to {to} are missing"));
            }
            if link(before, seal_of("audit", row, 1..11)?) != hash {
                self.altered(row.get_ref(9)?.as_i64_or_null().ok().flatten(), format!("audit row {seq}"));
            }
            for anchor in anchors.iter().filter(|anchor| i64::try_from(anchor.count).is_ok_and(|count| count == seq)) {
                vouched = seq;
                if anchor.head != hex(&hash) {
                    self.tell(
                        Verdict::Altered,
                        None,
                        format!("audit row {seq}"),
                        "it is not what the checkpoint says: the log was made anew",
                    );
                }
            }
            held.retain(|anchor| anchor.count > u64::try_from(seq).unwrap_or(0));
            (last, before) = (seq, hash);
            self.seen.audit += 1;
        }
        let counted: i64 = self
            .connection
            .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'audit'", [], |row| row.get(0))
            .optional()?
            .unwrap_or_default();
        let promised = held.iter().filter_map(|anchor| i64::try_from(anchor.count).ok()).max().unwrap_or(0).max(counted);
        if promised > last {
            let why = format!("there were {promised} rows, {last} are left");
            self.tell(Verdict::Truncated, None, format!("audit row {}", last + 1), why);
        }
        self.seen.unanchored = u64::try_from(last - vouched.max(start)).unwrap_or(0);
        Ok(())
    }

    /// What was removed on purpose.
    fn pruned(&self) -> rusqlite::Result<Vec<Pruned>> {
        let mut select = self.connection.prepare("SELECT data FROM audit WHERE action IN ('prune', 'upgrade') AND data IS NOT NULL")?;
        let mut rows = select.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let text = row.get_ref(0)?.as_bytes()?;
            if let Ok(Data::Pruned(pruned)) = serde_json::from_slice(text) {
                found.push(pruned);
            }
        }
        Ok(found)
    }

    fn runs(&mut self) -> rusqlite::Result<()> {
        let mut select = self.connection.prepare(&format!("SELECT number, {RUN}, events, head, seal FROM runs ORDER BY number"))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            self.run(row)?;
        }
        let mut strangers = self.connection.prepare("SELECT DISTINCT run FROM events WHERE run NOT IN (SELECT number FROM runs)")?;
        let strangers: Vec<i64> = strangers.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for number in strangers {
            self.tell(Verdict::Altered, Some(number), "events".to_owned(), "they belong to no run");
        }
        Ok(())
    }

    /// A row of `number, RUN…, events, head, seal`.
    fn run(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let number: i64 = row.get(0)?;
        let run = Some(number);
        self.seen.runs += 1;
        let (count, head): (i64, Hash) = (row.get(SEALED + 1)?, stored(row, SEALED + 2)?);
        if seal_of("run", row, 1..SEALED + 1)? != stored(row, SEALED + 3)? {
            self.altered(run, "its row");
        }
        let id = String::from_utf8_lossy(row.get_ref(1)?.as_bytes().unwrap_or_default()).into_owned();
        let mut before = identity(self.connection, number, row, 1)?;
        let mut last = 0;
        let mut events = self.connection.prepare_cached("SELECT seq, body, hash FROM events WHERE run = ?1 ORDER BY seq")?;
        let mut rows = events.query([number])?;
        let mut is_whole = true;
        while let Some(event) = rows.next()? {
            let (seq, hash): (i64, Hash) = (event.get(0)?, stored(event, 2)?);
            if seq != last + 1 {
                is_whole = false;
                self.tell(Verdict::Altered, run, format!("event {}", last + 1), format!("it is missing, {seq} follows"));
            }
            let body = String::from_utf8_lossy(event.get_ref(1)?.as_bytes()?);
            if is_whole && chained(before, &id, seq, &body)? != hash {
                self.altered(run, if seq == 1 { "event 1, or its texts".to_owned() } else { format!("event {seq}") });
            }
            is_whole = true;
            (last, before) = (seq, hash);
            self.seen.events += 1;
        }
        if last < count {
            self.tell(Verdict::Truncated, run, format!("event {}", last + 1), format!("there were {count} events, {last} are left"));
        } else if last > count {
            self.tell(Verdict::Altered, run, format!("event {}", count + 1), format!("there were {count} events, now there are {last}"));
        } else if before != head {
            self.altered(run, "its head");
        }
        Ok(())
    }

    /// Whether each run stood where the audit log says, and each run is in the log.
    fn anchors(&mut self) -> rusqlite::Result<()> {
        let pruned = self.pruned()?;
        let ranges: Vec<RangeInclusive<i64>> = pruned.iter().flat_map(|pruned| &pruned.runs).map(|(first, last)| *first..=*last).collect();
        let unknown = pruned.iter().map(|pruned| pruned.unknown_runs).max().unwrap_or(0);
        let mut select =
            self.connection.prepare("SELECT seq, run, data FROM audit WHERE run IS NOT NULL AND data IS NOT NULL ORDER BY seq")?;
        let mut rows = select.query([])?;
        let mut missing = 0;
        while let Some(row) = rows.next()? {
            let (seq, number): (i64, i64) = (row.get(0)?, row.get(1)?);
            let Ok(Data::Stood { events, head }) = serde_json::from_slice(row.get_ref(2)?.as_bytes()?) else { continue };
            if number == missing || ranges.iter().any(|range| range.contains(&number)) {
                continue;
            }
            match self.head_at(number, events)? {
                Head::Is(found) if hex(&found) == head => {}
                Head::Is(_) => {
                    self.tell(Verdict::Altered, Some(number), format!("event {events}"), format!("audit row {seq} knows another one"));
                }
                Head::NoEvent => {
                    let found = format!("audit row {seq} knows {events} events");
                    self.tell(Verdict::Truncated, Some(number), format!("event {events}"), found);
                }
                Head::NoRun => {
                    missing = number;
                    self.tell(Verdict::Truncated, Some(number), "its row".to_owned(), format!("it is missing, audit row {seq} knows it"));
                }
            }
        }
        let sql = "SELECT number FROM runs WHERE number > ?1 AND number NOT IN (SELECT run FROM audit WHERE run IS NOT NULL)";
        let strangers: Vec<i64> = self.connection.prepare(sql)?.query_map([unknown], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for number in strangers {
            self.tell(Verdict::Altered, Some(number), "its row".to_owned(), "the audit log does not know it");
        }
        Ok(())
    }

    fn head_at(&self, number: i64, events: i64) -> rusqlite::Result<Head> {
        let mut select = self.connection.prepare_cached(&format!("SELECT {RUN} FROM runs WHERE number = ?1"))?;
        let mut rows = select.query([number])?;
        let Some(row) = rows.next()? else { return Ok(Head::NoRun) };
        if events == 0 {
            return identity(self.connection, number, row, 0).map(Head::Is);
        }
        let mut event = self.connection.prepare_cached("SELECT hash FROM events WHERE run = ?1 AND seq = ?2")?;
        let found = event.query_row([number, events], |row| stored(row, 0)).optional()?;
        Ok(found.map_or(Head::NoEvent, Head::Is))
    }

    fn texts(&mut self) -> rusqlite::Result<()> {
        self.check_texts("SELECT hash, body FROM texts WHERE ?1 = 0", 0, None)?;
        let sql = "SELECT run, name FROM run_texts WHERE hash NOT IN (SELECT hash FROM texts)";
        let missing: Vec<(i64, String)> =
            self.connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        for (number, name) in missing {
            self.tell(Verdict::Altered, Some(number), format!("text `{name}`"), "it is missing");
        }
        Ok(())
    }

    fn texts_of(&mut self, number: i64) -> rusqlite::Result<()> {
        let sql = "SELECT run_texts.hash, body FROM run_texts LEFT JOIN texts USING (hash) WHERE run = ?1";
        self.check_texts(sql, number, Some(number))
    }

    fn check_texts(&mut self, sql: &str, parameter: i64, run: Option<i64>) -> rusqlite::Result<()> {
        let mut select = self.connection.prepare(sql)?;
        let mut rows = select.query([parameter])?;
        while let Some(row) = rows.next()? {
            let hash = String::from_utf8_lossy(row.get_ref(0)?.as_bytes()?).into_owned();
            let body = row.get_ref(1)?.as_bytes_or_null()?.unwrap_or_default();
            if hex(&Sha256::digest(body)) != hash {
                self.altered(run, format!("text {}", hash.get(..12).unwrap_or(&hash)));
            }
        }
        Ok(())
    }

    /// Whether each run that another one started is still known as its step.
    fn sub_runs(&mut self) -> rusqlite::Result<()> {
        let mut select = self.connection.prepare("SELECT run, parent, step, seal FROM sub_runs")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            if seal_of("sub-run", row, 0..3)? != stored(row, 3)? {
                self.altered(Some(row.get(0)?), "what it is a step of");
            }
        }
        let sql = "SELECT number FROM runs WHERE trigger_by = 'run' AND number NOT IN (SELECT run FROM sub_runs)";
        let lost: Vec<i64> = self.connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for number in lost {
            self.tell(Verdict::Altered, Some(number), "what it is a step of".to_owned(), "it is missing");
        }
        Ok(())
    }

    fn seals(&mut self) -> rusqlite::Result<()> {
        for (kind, table, columns) in [
            ("parcel", "parcels", PARCEL),
            ("note", "notes", NOTE),
            ("incident", "incidents", INCIDENT),
            ("repair", "repairs", REPAIR),
            ("record", "records", RECORD),
        ] {
            let mut select = self.connection.prepare(&format!("SELECT {}, seal FROM {table}", columns.join(", ")))?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                if seal_of(kind, row, 0..columns.len())? != stored(row, columns.len())? {
                    let name = String::from_utf8_lossy(row.get_ref(0)?.as_bytes().unwrap_or_default()).into_owned();
                    self.altered(None, format!("{kind} `{name}`"));
                }
            }
        }
        Ok(())
    }
}

enum Head {
    Is(Hash),
    NoEvent,
    NoRun,
}
