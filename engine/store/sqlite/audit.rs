//! The audit log in SQLite: rows that are chained.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::seal::{Hash, link, seal, stored};
use super::{failed, sortable, timestamp};
use crate::error::{Error, Kind, Result};
use crate::model::Event;
use crate::store::audit::{Action, Anchor, AuditFilter, Entry, uid};
use crate::words::hex;

/// What a row says to the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Data {
    /// Where the journal of the run stood: so many events, and its head in hex.
    Stood { events: i64, head: String },
    /// What was removed.
    Pruned(Pruned),
}

impl Data {
    pub(super) fn stood(events: i64, head: &Hash) -> Self {
        Self::Stood { events, head: hex(head) }
    }
}

/// What was removed, or never was in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pruned {
    /// The numbers of the runs, first and last of each row of numbers.
    pub(super) runs: Vec<(i64, i64)>,
    /// The audit rows up to this number, when any were.
    pub(super) rows: i64,
    /// The hash of the last of them, in hex.
    pub(super) hash: String,
    /// Runs up to this number have no row here.
    pub(super) unknown_runs: i64,
}

/// The columns of a row that its hash is over, in order.
pub(super) const COLUMNS: &str = "seq, at, who, uid, action, subject, why, outcome, run, data";

pub(super) fn append(transaction: &Transaction<'_>, entry: &Entry, data: Option<&Data>) -> Result<u64> {
    let data = data.map(serde_json::to_string).transpose().map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
    let insert = || -> rusqlite::Result<i64> {
        let (last, before) = head(transaction)?;
        let seq = last + 1;
        let (at, run) = (sortable(entry.at), entry.run.and_then(|run| i64::try_from(run).ok()));
        let action = entry.action.name();
        let row = params![seq, at, entry.who, entry.uid, action, entry.subject, entry.why, entry.outcome, run, data];
        let hash = link(before, seal("audit", row)?);
        transaction
            .prepare_cached(
                "INSERT INTO audit (seq, at, who, uid, action, subject, why, outcome, run, data, hash)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![seq, at, entry.who, entry.uid, action, entry.subject, entry.why, entry.outcome, run, data, hash])?;
        Ok(seq)
    };
    insert().map(|seq| u64::try_from(seq).unwrap_or(0)).map_err(|error| failed(&error))
}

/// The number and the hash of the last row.
fn head(connection: &Connection) -> rusqlite::Result<(i64, Hash)> {
    let last = connection
        .prepare_cached("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, stored(row, 1)?)))
        .optional()?;
    Ok(last.unwrap_or_default())
}

pub(super) fn anchor(connection: &Connection) -> Result<Anchor> {
    let (count, hash) = head(connection).map_err(|error| failed(&error))?;
    Ok(Anchor { count: u64::try_from(count).unwrap_or(0), head: hex(&hash) })
}

/// A run as the log names it.
pub(super) fn subject(number: i64, runbook: &str, system: Option<&str>) -> String {
    let system = system.map(|system| format!(" for {system}")).unwrap_or_default();
    format!("#{number} {runbook}{system}")
}

/// The row of an event that begins or ends a run's work, when it is one.
pub(super) fn of_event(event: &Event, number: i64, subject: &str, who: &str) -> Option<Entry> {
    use crate::model::EventKind;
    let EventKind::Ended { status, .. } = &event.kind else { return None };
    Some(Entry {
        seq: 0,
        at: event.at,
        who: who.to_owned(),
        uid: uid(),
        action: Action::Run,
        subject: subject.to_owned(),
        why: String::new(),
        outcome: Some(status.name().to_owned()),
        run: u64::try_from(number).ok(),
    })
}

pub(super) fn list(connection: &Connection, filter: &AuditFilter) -> Result<Vec<Entry>> {
    let mut sql = format!("SELECT {COLUMNS} FROM audit WHERE 1");
    let mut values: Vec<String> = Vec::new();
    if let Some(since) = filter.since {
        values.push(sortable(since));
        sql.push_str(&format!(" AND at >= ?{}", values.len()));
    }
    if let Some(action) = filter.action {
        values.push(action.name().to_owned());
        sql.push_str(&format!(" AND action = ?{}", values.len()));
    }
    sql.push_str(" ORDER BY seq DESC");
    if filter.limit > 0 {
        sql.push_str(&format!(" LIMIT {}", filter.limit));
    }
    let read = || -> rusqlite::Result<Vec<Result<Entry>>> {
        connection.prepare_cached(&sql)?.query_map(rusqlite::params_from_iter(&values), |row| Ok(entry(row)))?.collect()
    };
    read().map_err(|error| failed(&error))?.into_iter().collect()
}

fn entry(row: &Row<'_>) -> Result<Entry> {
    let column = |error: rusqlite::Error| failed(&error);
    let action: String = row.get(4).map_err(column)?;
    let number = |index: usize| row.get::<_, Option<i64>>(index).map_err(column);
    Ok(Entry {
        seq: number(0)?.and_then(|seq| u64::try_from(seq).ok()).unwrap_or(0),
        at: timestamp(&row.get::<_, String>(1).map_err(column)?)?,
        who: row.get(2).map_err(column)?,
        uid: row.get(3).map_err(column)?,
        action: Action::parse(&action).ok_or_else(|| {
            Error::new(Kind::Store, format!("the audit log holds the unknown action `{action}`")).hint("runbook audit verify")
        })?,
        subject: row.get(5).map_err(column)?,
        why: row.get(6).map_err(column)?,
        outcome: row.get(7).map_err(column)?,
        run: number(8)?.and_then(|run| u64::try_from(run).ok()),
    })
}
