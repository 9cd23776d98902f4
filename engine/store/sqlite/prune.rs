//! Removes old runs.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, Transaction};

use super::audit::{self, Data, Pruned};
use super::seal::{Hash, stored};
use super::{failed, sortable};
use crate::error::Result;
use crate::store::audit::Entry;
use crate::store::{Removed, Retention};
use crate::words::hex;

/// Every run, the newest first: whether it succeeded, and whether it is over for long enough and may go. Interrupted
/// runs are kept like those that wait: someone may still resume them.
const RUNS: &str = "
    SELECT number, runbook, coalesce(system, ''), status IN ('succeeded', 'warning'),
           coalesce(ended < ?1, 0) AND status NOT IN ('needs-attention', 'interrupted', 'running', 'waiting', 'queued')
    FROM runs ORDER BY number DESC";

/// What was seen of the runs of a runbook so far.
#[derive(Default)]
struct Seen {
    runs: u32,
    /// The systems it succeeded for.
    succeeded: HashSet<String>,
}

pub(super) fn prunable(connection: &Connection, retention: &Retention) -> Result<Removed> {
    let read = || -> rusqlite::Result<Removed> {
        let (last, first) = (last_row(connection, retention)?, first_row(connection)?);
        let runs = prunable_runs(connection, retention)?;
        Ok(Removed { runs, audit: u64::try_from(last - first + 1).unwrap_or(0) })
    };
    read().map_err(|error| failed(&error))
}

/// One pass in the order of the table: windows over it sort it twice, which takes ten times as long.
fn prunable_runs(connection: &Connection, retention: &Retention) -> rusqlite::Result<Vec<u64>> {
    let mut books: HashMap<String, Seen> = HashMap::new();
    let mut prunable = Vec::new();
    let mut select = connection.prepare(RUNS)?;
    let mut rows = select.query([sortable(retention.before)])?;
    while let Some(row) = rows.next()? {
        let (runbook, system) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
        let (succeeded, may_go): (bool, bool) = (row.get(3)?, row.get(4)?);
        if !books.contains_key(runbook) {
            books.insert(runbook.to_owned(), Seen::default());
        }
        let Some(seen) = books.get_mut(runbook) else { continue };
        seen.runs += 1;
        let is_last_success = succeeded && !seen.succeeded.contains(system) && seen.succeeded.insert(system.to_owned());
        if may_go && seen.runs > retention.keep_min && !is_last_success {
            prunable.extend(u64::try_from(row.get::<_, i64>(0)?));
        }
    }
    prunable.reverse();
    Ok(prunable)
}

/// The last row of the audit log before the first one that is young enough to stay; its newest row always stays.
fn last_row(connection: &Connection, retention: &Retention) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(min(seq), (SELECT max(seq) FROM audit), 1) - 1 FROM audit WHERE at >= ?1";
    connection.query_row(sql, [sortable(retention.before)], |row| row.get(0))
}

fn first_row(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(min(seq), 1) FROM audit", [], |row| row.get(0))
}

/// Removes the runs and writes the row that says so, in one transaction.
pub(super) fn prune(transaction: &Transaction<'_>, retention: &Retention, after: &Entry) -> Result<Removed> {
    let removed = prunable(transaction, retention)?;
    if removed.runs.is_empty() && removed.audit == 0 {
        audit::append(transaction, after, None)?;
        return Ok(removed);
    }
    let delete = || -> rusqlite::Result<Pruned> {
        for number in &removed.runs {
            let number = i64::try_from(*number).unwrap_or(0);
            for sql in [
                "DELETE FROM events WHERE run = ?1",
                "DELETE FROM run_texts WHERE run = ?1",
                "DELETE FROM sub_runs WHERE run = ?1",
                "DELETE FROM runs WHERE number = ?1",
            ] {
                transaction.prepare_cached(sql)?.execute([number])?;
            }
        }
        transaction.execute("DELETE FROM texts WHERE hash NOT IN (SELECT hash FROM run_texts)", [])?;
        forget_rows(transaction, retention, &removed)
    };
    let pruned = delete().map_err(|error| failed(&error))?;
    audit::append(transaction, after, Some(&Data::Pruned(pruned)))?;
    Ok(removed)
}

fn forget_rows(transaction: &Transaction<'_>, retention: &Retention, removed: &Removed) -> rusqlite::Result<Pruned> {
    let last = if removed.audit == 0 { first_row(transaction)? - 1 } else { last_row(transaction, retention)? };
    let mut known = earlier(transaction)?;
    if removed.audit > 0 {
        let hash: Hash = transaction.query_row("SELECT hash FROM audit WHERE seq = ?1", [last], |row| stored(row, 0))?;
        let runs: Option<i64> = transaction.query_row("SELECT max(run) FROM audit WHERE seq <= ?1", [last], |row| row.get(0))?;
        transaction.execute("DELETE FROM audit WHERE seq <= ?1", [last])?;
        known = Pruned { rows: last, hash: hex(&hash), unknown_runs: known.unknown_runs.max(runs.unwrap_or(0)), ..known };
    }
    // What was removed earlier is said again, since the row that said it may be gone by now.
    known.runs = ranges(known.runs.into_iter().flat_map(|(first, last)| first..=last), &removed.runs);
    Ok(known)
}

/// What the rows that are there say of what is not.
fn earlier(transaction: &Transaction<'_>) -> rusqlite::Result<Pruned> {
    let mut known = Pruned::default();
    let mut select =
        transaction.prepare("SELECT data FROM audit WHERE action IN ('prune', 'upgrade') AND data IS NOT NULL ORDER BY seq")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        if let Ok(Data::Pruned(pruned)) = serde_json::from_slice(row.get_ref(0)?.as_bytes()?) {
            known = pruned;
        }
    }
    Ok(known)
}

/// Numbers as ranges, so that a million of them takes a line.
fn ranges(known: impl Iterator<Item = i64>, removed: &[u64]) -> Vec<(i64, i64)> {
    let mut all: Vec<i64> = known.chain(removed.iter().filter_map(|number| i64::try_from(*number).ok())).collect();
    all.sort_unstable();
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for number in all {
        match ranges.last_mut() {
            Some((_, last)) if number <= *last + 1 => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}
