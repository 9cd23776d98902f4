//! Samples of series, in a file of their own.
//!
//! They are kept as they came for two days, in spans of 5 minutes for a month, and of an hour for a year
//! and a month: enough to judge now, to see last week, and to compare with last year. The spans are made
//! as the samples come, so that each is whole at any time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{BUSY, failed, restrict};
use crate::error::{Error, Kind, Result};
use crate::model::{Bucket, Curve, Labels, Sample, Selector, Series, Track};
use crate::store::disk::refuse_remote;

const SCHEMA: &str = include_str!("samples.sql");
/// The format this binary reads and writes.
const FORMAT: i64 = 1;
/// The spans that are kept, in milliseconds.
const MINUTES: i64 = 5 * 60_000;
const HOURS: i64 = 3_600_000;
/// The most rows one question reads.
const MOST_ROWS: usize = 2_000_000;

/// How much is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// How long samples stay as they came.
    pub raw: SignedDuration,
    /// How long spans of 5 minutes stay.
    pub minutes: SignedDuration,
    /// How long spans of an hour stay.
    pub hours: SignedDuration,
    /// The most bytes; the oldest samples go before their time when they are more.
    pub bytes: u64,
    /// The most series; new ones beyond are refused.
    pub series: usize,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            raw: SignedDuration::from_hours(48),
            minutes: SignedDuration::from_hours(31 * 24),
            hours: SignedDuration::from_hours(400 * 24),
            bytes: 256 << 20,
            series: 10_000,
        }
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Appended {
    /// Samples that were kept.
    pub kept: usize,
    /// Samples whose series and time were there already.
    pub known: usize,
    /// Samples of series beyond the most.
    pub refused: usize,
}

/// The samples in a file.
#[derive(Debug)]
pub struct Samples {
    inner: Mutex<Inner>,
    keep: Keep,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    /// The series that were met, so that a sample costs no search for its series.
    known: HashMap<Series, i64>,
    /// The state of the file they were met in: another process may have forgotten a series since, and given its
    /// number to another one.
    version: i64,
}

/// One row on its way in.
struct Row {
    series: i64,
    at: i64,
    value: Option<f64>,
}

impl Samples {
    /// Opens the file, and makes it when it is not there.
    ///
    /// # Errors
    ///
    /// `store`, when it can not be opened, or was written by a newer binary.
    pub fn open(path: &Path, keep: Keep) -> Result<Self> {
        refuse_remote(path.parent().unwrap_or(Path::new(".")))?;
        let fresh = !path.exists();
        let connection = Connection::open(path).map_err(|error| failed(&error).hint(format!("the samples are in `{}`", path.display())))?;
        let samples = Self::of(connection, keep)?;
        if fresh {
            restrict(path)?;
        }
        Ok(samples)
    }

    /// Samples that are gone with their process.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn in_memory(keep: Keep) -> Result<Self> {
        Self::of(Connection::open_in_memory().map_err(|error| failed(&error))?, keep)
    }

    fn of(mut connection: Connection, keep: Keep) -> Result<Self> {
        let prepare = |connection: &mut Connection| -> rusqlite::Result<i64> {
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            // A commit is whole after a power cut or it is gone; it does not wait for the disk.
            connection.pragma_update(None, "synchronous", "normal")?;
            let found = format(connection)?;
            if found > 0 {
                return Ok(found);
            }
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Another process may have been faster.
            let found = format(&transaction)?;
            if found == 0 {
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "user_version", FORMAT)?;
            }
            transaction.commit()?;
            Ok(found)
        };
        let format = prepare(&mut connection).map_err(|error| failed(&error))?;
        if format > FORMAT {
            return Err(Error::new(Kind::Store, format!("the samples have format {format}; this binary knows formats up to {FORMAT}"))
                .hint("they were written by a newer version of runbook; use that one"));
        }
        Ok(Self { inner: Mutex::new(Inner { connection, known: HashMap::new(), version: 0 }), keep })
    }

    /// Appends samples, all or none. A sample that is there already stays as it is; two answers for one
    /// moment of one series would both be right.
    ///
    /// # Errors
    ///
    /// `store`; nothing was appended then.
    pub fn append(&self, batch: &[(Series, Sample)]) -> Result<Appended> {
        let mut inner = self.lock();
        let Inner { connection, known, version } = &mut *inner;
        // What was met in a transaction that did not commit was not met.
        let mut met = Vec::new();
        let mut write = || -> rusqlite::Result<Appended> {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let seen: i64 = transaction.pragma_query_value(None, "data_version", |row| row.get(0))?;
            if std::mem::replace(version, seen) != seen {
                known.clear();
            }
            let mut appended = Appended::default();
            for (series, sample) in batch {
                let id = match known.get(series) {
                    Some(id) => Some(*id),
                    None => identity(&transaction, series, self.keep.series)?.inspect(|id| {
                        known.insert(series.clone(), *id);
                        met.push(series.clone());
                    }),
                };
                let Some(series) = id else {
                    appended.refused += 1;
                    continue;
                };
                let value = sample.value.number();
                if insert(&transaction, &Row { series, at: sample.at.as_millisecond(), value })? {
                    appended.kept += 1;
                } else {
                    appended.known += 1;
                }
            }
            transaction.commit()?;
            Ok(appended)
        };
        let result = write().map_err(|error| failed(&error));
        if result.is_err() {
            known.retain(|series, _| !met.contains(series));
        }
        result
    }

    /// The samples of the selected series from one moment to another, both included.
    ///
    /// # Errors
    ///
    /// `limit`, when they are too many; `store`.
    pub fn tracks(&self, selector: &Selector, from: Timestamp, to: Timestamp) -> Result<Vec<Track>> {
        let inner = self.lock();
        let mut tracks = Vec::new();
        let mut left = MOST_ROWS;
        for (id, series) in inner.selected(selector)? {
            let read = || -> rusqlite::Result<Vec<(i64, Option<f64>)>> {
                let sql = "SELECT at, value FROM raw WHERE series = ?1 AND at BETWEEN ?2 AND ?3 ORDER BY at LIMIT ?4";
                let limit = i64::try_from(left + 1).unwrap_or(i64::MAX);
                let mut select = inner.connection.prepare_cached(sql)?;
                let range = params![id, from.as_millisecond(), to.as_millisecond(), limit];
                select.query_map(range, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            };
            let rows = read().map_err(|error| failed(&error))?;
            left = left.checked_sub(rows.len()).ok_or_else(too_many)?;
            if !rows.is_empty() {
                let samples = rows.into_iter().map(|(at, value)| Sample { at: moment(at), value: value.into() }).collect();
                tracks.push(Track { series, samples });
            }
        }
        Ok(tracks)
    }

    /// The selected series from one moment to another in spans of `step`, which come from the coarsest
    /// samples that are fine enough. A span begins at a multiple of `step`.
    ///
    /// # Errors
    ///
    /// `invalid` for a step of nothing; `limit`, when they are too many; `store`.
    pub fn curves(&self, selector: &Selector, from: Timestamp, to: Timestamp, step: Duration) -> Result<Vec<Curve>> {
        let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        if step < 1 {
            return Err(Error::new(Kind::Invalid, "found a step of 0, expected some time"));
        }
        let from = from.as_millisecond().div_euclid(step) * step;
        let (source, unit) = match step {
            step if step >= HOURS && step % HOURS == 0 => ("hours", HOURS),
            step if step >= MINUTES && step % MINUTES == 0 => ("minutes", MINUTES),
            _ => ("raw", 1),
        };
        let columns = match unit {
            1 => "at, value IS NOT NULL, value IS NULL, value, value, coalesce(value, 0), at, value",
            _ => "at, count, unknown, low, high, sum, last_at, last",
        };
        let sql = format!("SELECT {columns} FROM {source} WHERE series = ?1 AND at BETWEEN ?2 AND ?3 ORDER BY at");
        let inner = self.lock();
        let mut curves = Vec::new();
        let mut left = MOST_ROWS;
        for (id, series) in inner.selected(selector)? {
            let mut spans: Vec<Span> = Vec::new();
            let mut read = || -> rusqlite::Result<bool> {
                let mut select = inner.connection.prepare_cached(&sql)?;
                let mut rows = select.query(params![id, from, to.as_millisecond()])?;
                while let Some(row) = rows.next()? {
                    let Some(rest) = left.checked_sub(1) else { return Ok(false) };
                    left = rest;
                    let part = Span::read(row)?;
                    let at = part.at.div_euclid(step) * step;
                    match spans.last_mut() {
                        Some(span) if span.at == at => span.add(&part),
                        _ => spans.push(Span { at, ..part }),
                    }
                }
                Ok(true)
            };
            if !read().map_err(|error| failed(&error))? {
                return Err(too_many());
            }
            if !spans.is_empty() {
                curves.push(Curve { series, buckets: spans.iter().map(Span::bucket).collect() });
            }
        }
        Ok(curves)
    }

    /// All series, by name.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn series(&self) -> Result<Vec<Series>> {
        let inner = self.lock();
        let read = || -> rusqlite::Result<Vec<Series>> {
            let mut select = inner.connection.prepare_cached("SELECT name, labels FROM series ORDER BY name, labels")?;
            select.query_map([], |row| Ok(series_of(row.get(0)?, &row.get::<_, String>(1)?)))?.collect()
        };
        read().map_err(|error| failed(&error))
    }

    /// Forgets what is older than it has to be kept, then, while the file is too large, the oldest of
    /// what is left; and what is from a future that a clock once told.
    ///
    /// # Errors
    ///
    /// `store`; nothing was forgotten then.
    pub fn trim(&self, now: Timestamp) -> Result<()> {
        let mut inner = self.lock();
        let Inner { connection, known, .. } = &mut *inner;
        let mut trim = || -> rusqlite::Result<()> {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let kept = [("raw", self.keep.raw), ("minutes", self.keep.minutes), ("hours", self.keep.hours)];
            for (table, keep) in kept {
                forget(&transaction, table, before(now, keep), now.as_millisecond() + 24 * HOURS)?;
            }
            for (table, _) in kept {
                while used(&transaction)? > self.keep.bytes {
                    let sql = format!("SELECT min(at), max(at) FROM {table}");
                    let (first, last): (Option<i64>, Option<i64>) =
                        transaction.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
                    let (Some(first), Some(last)) = (first, last) else { break };
                    forget(&transaction, table, first + (last - first) / 4 + 1, i64::MAX)?;
                }
            }
            transaction.execute(
                "DELETE FROM series WHERE NOT EXISTS (SELECT 1 FROM hours WHERE series = id) AND NOT EXISTS (SELECT 1 FROM minutes WHERE series = id)
                 AND NOT EXISTS (SELECT 1 FROM raw WHERE series = id)",
                [],
            )?;
            transaction.commit()
        };
        known.clear();
        trim().map_err(|error| failed(&error))
    }

    /// How many bytes the samples take, without what is free in the file.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn bytes(&self) -> Result<u64> {
        used(&self.lock().connection).map_err(|error| failed(&error))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn selected(&self, selector: &Selector) -> Result<Vec<(i64, Series)>> {
        let read = || -> rusqlite::Result<Vec<(i64, Series)>> {
            let mut select = self.connection.prepare_cached("SELECT id, name, labels FROM series WHERE name = ?1 ORDER BY labels")?;
            select.query_map([&selector.name], |row| Ok((row.get(0)?, series_of(row.get(1)?, &row.get::<_, String>(2)?))))?.collect()
        };
        let mut found = read().map_err(|error| failed(&error))?;
        found.retain(|(_, series)| selector.selects(series));
        Ok(found)
    }
}

/// A span that is being put together.
#[derive(Clone)]
struct Span {
    at: i64,
    count: i64,
    unknown: i64,
    low: Option<f64>,
    high: Option<f64>,
    sum: f64,
    last_at: i64,
    last: Option<f64>,
}

impl Span {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            at: row.get(0)?,
            count: row.get(1)?,
            unknown: row.get(2)?,
            low: row.get(3)?,
            high: row.get(4)?,
            sum: row.get(5)?,
            last_at: row.get(6)?,
            last: row.get(7)?,
        })
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.unknown += other.unknown;
        self.low = [self.low, other.low].into_iter().flatten().reduce(f64::min);
        self.high = [self.high, other.high].into_iter().flatten().reduce(f64::max);
        self.sum += other.sum;
        if other.last_at >= self.last_at {
            (self.last_at, self.last) = (other.last_at, other.last);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a span has no 2^53 samples")]
    fn bucket(&self) -> Bucket {
        Bucket {
            at: moment(self.at),
            count: self.count.unsigned_abs(),
            unknown: self.unknown.unsigned_abs(),
            min: self.low.into(),
            max: self.high.into(),
            mean: (self.count > 0).then(|| self.sum / self.count as f64).into(),
            last: self.last.into(),
        }
    }
}

fn too_many() -> Error {
    Error::new(Kind::Limit, format!("the question is about more than {MOST_ROWS} samples")).hint("ask for a shorter time or a longer step")
}

/// The number of a series; nothing when it is new and there are too many.
fn identity(transaction: &Transaction<'_>, series: &Series, most: usize) -> rusqlite::Result<Option<i64>> {
    let labels = serde_json::to_string(&series.labels).unwrap_or_default();
    let known: Option<i64> = transaction
        .prepare_cached("SELECT id FROM series WHERE name = ?1 AND labels = ?2")?
        .query_row(params![series.name, labels], |row| row.get(0))
        .optional()?;
    if known.is_some() {
        return Ok(known);
    }
    let count: i64 = transaction.prepare_cached("SELECT count(*) FROM series")?.query_row([], |row| row.get(0))?;
    if usize::try_from(count).unwrap_or(usize::MAX) >= most {
        return Ok(None);
    }
    transaction.prepare_cached("INSERT INTO series (name, labels) VALUES (?1, ?2)")?.execute(params![series.name, labels])?;
    Ok(Some(transaction.last_insert_rowid()))
}

/// Puts a row and counts it in its spans; whether it was new.
fn insert(transaction: &Transaction<'_>, row: &Row) -> rusqlite::Result<bool> {
    let new = transaction
        .prepare_cached("INSERT OR IGNORE INTO raw (series, at, value) VALUES (?1, ?2, ?3)")?
        .execute(params![row.series, row.at, row.value])?;
    if new == 0 {
        return Ok(false);
    }
    let (count, unknown) = if row.value.is_some() { (1, 0) } else { (0, 1) };
    for (sql, span) in [(ADD_TO_MINUTES, MINUTES), (ADD_TO_HOURS, HOURS)] {
        let start = row.at.div_euclid(span) * span;
        let sum = row.value.unwrap_or(0.0);
        transaction.prepare_cached(sql)?.execute(params![row.series, start, count, unknown, row.value, sum, row.at])?;
    }
    Ok(true)
}

macro_rules! add_to {
    ($table:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " AS old (series, at, count, unknown, low, high, sum, last_at, last)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?5)
             ON CONFLICT DO UPDATE SET
                count = old.count + ?3,
                unknown = old.unknown + ?4,
                low = min(coalesce(old.low, ?5), coalesce(?5, old.low)),
                high = max(coalesce(old.high, ?5), coalesce(?5, old.high)),
                sum = old.sum + ?6,
                last = iif(?7 >= old.last_at, ?5, old.last),
                last_at = max(old.last_at, ?7)"
        )
    };
}

const ADD_TO_MINUTES: &str = add_to!("minutes");
const ADD_TO_HOURS: &str = add_to!("hours");

/// Forgets the rows of a table before and after these, series by series, as they lie.
fn forget(transaction: &Transaction<'_>, table: &str, before: i64, after: i64) -> rusqlite::Result<()> {
    let ids: Vec<i64> = transaction.prepare_cached("SELECT id FROM series")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut delete = transaction.prepare_cached(&format!("DELETE FROM {table} WHERE series = ?1 AND (at < ?2 OR at > ?3)"))?;
    for id in ids {
        delete.execute([id, before, after])?;
    }
    Ok(())
}

fn format(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn used(connection: &Connection) -> rusqlite::Result<u64> {
    let ask = |what: &str| connection.pragma_query_value(None, what, |row| row.get::<_, i64>(0));
    let bytes = (ask("page_count")? - ask("freelist_count")?) * ask("page_size")?;
    Ok(bytes.unsigned_abs())
}

fn before(now: Timestamp, keep: SignedDuration) -> i64 {
    now.as_millisecond().saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX))
}

fn moment(at: i64) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn series_of(name: String, labels: &str) -> Series {
    Series { name, labels: serde_json::from_str::<Labels>(labels).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reading;

    fn at(seconds: i64) -> Timestamp {
        // The beginning of an hour.
        Timestamp::from_second(1_795_000_000 / 3600 * 3600 + seconds).unwrap()
    }

    fn sample(seconds: i64, value: impl Into<Option<f64>>) -> Sample {
        Sample { at: at(seconds), value: Reading::from(value.into()) }
    }

    fn load() -> Series {
        Series::new("load").with("host", "a")
    }

    fn filled(values: impl IntoIterator<Item = (i64, Option<f64>)>) -> Samples {
        let samples = Samples::in_memory(Keep::default()).unwrap();
        let batch: Vec<_> = values.into_iter().map(|(seconds, value)| (load(), sample(seconds, value))).collect();
        samples.append(&batch).unwrap();
        samples
    }

    fn selector(text: &str) -> Selector {
        text.parse().unwrap()
    }

    #[test]
    fn unknown_is_kept_as_unknown_at_every_resolution() {
        let samples = filled([(0, Some(1.0)), (10, None), (20, Some(3.0)), (310, None)]);
        let track = &samples.tracks(&selector("load"), at(0), at(3600)).unwrap()[0];
        assert_eq!(track.samples, [sample(0, 1.0), sample(10, None), sample(20, 3.0), sample(310, None)]);
        for step in [60, 300, 900, 3600, 7200] {
            let curve = &samples.curves(&selector("load{host=\"a\"}"), at(0), at(3600), Duration::from_secs(step)).unwrap()[0];
            let known: u64 = curve.buckets.iter().map(|bucket| bucket.count).sum();
            let unknown: u64 = curve.buckets.iter().map(|bucket| bucket.unknown).sum();
            assert_eq!((known, unknown), (2, 2), "step {step}");
            assert_eq!(curve.buckets.last().unwrap().last, Reading::Unknown, "step {step}");
        }
        let curve = &samples.curves(&selector("load"), at(0), at(3600), Duration::from_secs(300)).unwrap()[0];
        let [first, second] = curve.buckets[..] else { panic!("{curve:?}") };
        assert_eq!((first.min, first.max, first.mean, first.last), (1.0.into(), 3.0.into(), 2.0.into(), 3.0.into()));
        assert_eq!((second.at, second.min, second.mean, second.unknown), (at(300), Reading::Unknown, Reading::Unknown, 1));
    }

    #[test]
    fn a_second_answer_for_the_same_moment_changes_nothing() {
        let samples = filled([(0, Some(1.0))]);
        let again = samples.append(&[(load(), sample(0, 9.0)), (load(), sample(5, 2.0))]).unwrap();
        assert_eq!(again, Appended { kept: 1, known: 1, refused: 0 });
        let bucket = samples.curves(&selector("load"), at(0), at(9), Duration::from_secs(300)).unwrap()[0].buckets[0];
        assert_eq!((bucket.count, bucket.max), (2, 2.0.into()));
    }

    #[test]
    fn what_comes_late_counts_and_is_not_the_last() {
        let samples = filled([(100, Some(5.0)), (50, Some(7.0))]);
        let bucket = samples.curves(&selector("load"), at(0), at(299), Duration::from_secs(300)).unwrap()[0].buckets[0];
        assert_eq!((bucket.max, bucket.last), (7.0.into(), 5.0.into()));
    }

    #[test]
    fn raw_samples_go_and_their_spans_stay() {
        let samples = filled([(0, Some(1.0)), (40 * 24 * 3600, Some(2.0))]);
        samples.trim(at(40 * 24 * 3600)).unwrap();
        let end = at(41 * 24 * 3600);
        assert_eq!(samples.tracks(&selector("load"), at(0), end).unwrap()[0].samples.len(), 1);
        let count = |step| samples.curves(&selector("load"), at(0), end, Duration::from_secs(step)).unwrap()[0].buckets.len();
        assert_eq!((count(300), count(3600)), (1, 2));
        samples.trim(at(500 * 24 * 3600)).unwrap();
        assert_eq!(samples.series().unwrap(), []);
    }

    #[test]
    fn what_a_wrong_clock_wrote_goes() {
        let samples = filled([(0, Some(1.0)), (3600 * 24 * 700, Some(2.0))]);
        samples.trim(at(60)).unwrap();
        let track = &samples.tracks(&selector("load"), at(0), at(3600 * 24 * 800)).unwrap()[0];
        assert_eq!(track.samples, [sample(0, 1.0)]);
    }

    #[test]
    fn the_file_stays_below_its_size() {
        let keep = Keep { bytes: 400_000, ..Keep::default() };
        let samples = Samples::in_memory(keep).unwrap();
        for batch in 0..20 {
            let rows: Vec<_> = (0..1000).map(|index| (load(), sample(batch * 1000 + index, f64::from(7)))).collect();
            samples.append(&rows).unwrap();
            samples.trim(at(batch * 1000 + 999)).unwrap();
            assert!(samples.bytes().unwrap() <= 400_000);
        }
        let tracks = samples.tracks(&selector("load"), at(0), at(20_000)).unwrap();
        assert_eq!(tracks[0].samples.last().unwrap().at, at(19_999), "the newest stay");
    }

    #[test]
    fn too_many_series_are_refused_and_counted() {
        let samples = Samples::in_memory(Keep { series: 2, ..Keep::default() }).unwrap();
        let batch: Vec<_> = (0..5).map(|index| (Series::new("s").with("i", index.to_string()), sample(index, 1.0))).collect();
        assert_eq!(samples.append(&batch).unwrap(), Appended { kept: 2, known: 0, refused: 3 });
    }

    #[test]
    fn a_series_that_another_process_forgot_is_met_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("samples.db");
        let (one, other) = (Samples::open(&path, Keep::default()).unwrap(), Samples::open(&path, Keep::default()).unwrap());
        let year = 500 * 24 * 3600;
        one.append(&[(load(), sample(0, 1.0))]).unwrap();
        other.trim(at(year)).unwrap();
        other.append(&[(Series::new("other"), sample(year, 2.0))]).unwrap();
        one.append(&[(load(), sample(year, 3.0))]).unwrap();
        let of = |name: &str| one.tracks(&selector(name), at(0), at(year)).unwrap().remove(0).samples;
        assert_eq!((of("load"), of("other")), (vec![sample(year, 3.0)], vec![sample(year, 2.0)]));
    }

    #[test]
    fn who_opens_the_file_waits_for_nobody_who_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("samples.db");
        drop(Samples::open(&path, Keep::default()).unwrap());
        let mut writer = Connection::open(&path).unwrap();
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        assert_eq!(Samples::open(&path, Keep::default()).unwrap().series().unwrap(), []);
        transaction.commit().unwrap();
    }

    #[test]
    fn the_file_opens_again_and_a_newer_one_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("samples.db");
        Samples::open(&path, Keep::default()).unwrap().append(&[(load(), sample(0, 1.0))]).unwrap();
        assert_eq!(Samples::open(&path, Keep::default()).unwrap().series().unwrap(), [load()]);
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
        assert_eq!(Samples::open(&path, Keep::default()).unwrap_err().kind, Kind::Store);
    }
}
