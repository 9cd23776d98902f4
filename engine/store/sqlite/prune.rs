//! Removes old runs.

use rusqlite::{Connection, Transaction, params};

use super::audit::{self, Data, Pruned};
use super::seal::{Hash, stored};
use super::{failed, sortable};
use crate::error::Result;
use crate::store::audit::Entry;
use crate::store::{Removed, Retention};
use crate::words::hex;

/// Runs that may go. Interrupted runs are kept like those that wait: someone may still resume them.
const PRUNABLE: &str = "
    WITH over AS (
        SELECT number, ended, status, row_number() OVER (PARTITION BY runbook ORDER BY number DESC) AS place,
               max(number) FILTER (WHERE status IN ('succeeded', 'warning')) OVER (PARTITION BY runbook, system) AS last_success
        FROM runs
    )
    SELECT number FROM over
    WHERE ended < ?1 AND status NOT IN ('needs-attention', 'interrupted', 'running', 'waiting', 'queued')
      AND place > ?2 AND number IS NOT last_success
    ORDER BY number";

pub(super) fn prunable(connection: &Connection, retention: &Retention) -> Result<Removed> {
    let read = || -> rusqlite::Result<Removed> {
        let mut select = connection.prepare(PRUNABLE)?;
        let runs: Vec<i64> = select
            .query_map(params![sortable(retention.before), retention.keep_min], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let (last, first) = (last_row(connection, retention)?, first_row(connection)?);
        let runs = runs.into_iter().filter_map(|number| u64::try_from(number).ok()).collect();
        Ok(Removed { runs, audit: u64::try_from(last - first + 1).unwrap_or(0) })
    };
    read().map_err(|error| failed(&error))
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
