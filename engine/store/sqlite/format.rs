//! The format of the database, and how older ones become it.

use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};

use super::audit::{self, Data, Pruned};
use super::seal::{Hash, seal_of};
use super::verify::{self, RUN, chained, identity};
use super::{failed, incidents, plans, ticks};
use crate::error::{Error, Kind, Result};
use crate::store::audit::{Act, Action};

/// The format this binary reads and writes. Format 2 had the tables of format 1; since format 3 rows are hashed
/// and there is an audit log, since format 4 there are plans, since format 5 sub-runs, incidents and ticks of schedules,
/// since format 6 runs are found by their status, their system and their start.
pub(super) const FORMAT: i64 = 6;

const SCHEMA: &str = include_str!("schema.sql");
const FORMAT_3: &str = include_str!("format3.sql");
const FORMAT_6: &str = include_str!("format6.sql");
const SUB_RUNS: &str = include_str!("subruns.sql");

/// Makes the tables when there are none, and brings older ones to this format, all or nothing.
///
/// # Errors
///
/// `store`; the database is as it was then, also when it was written by a newer binary.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    if read(connection)? == FORMAT {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|error| failed(&error))?;
    // Another process may have been faster.
    let found = read(&transaction)?;
    match found {
        0 => transaction.execute_batch(SCHEMA).map_err(|error| failed(&error))?,
        1 | 2 => hash_all(&transaction)?,
        3..FORMAT => {}
        _ => return Ok(()),
    }
    for (since, tables) in [(4, plans::SCHEMA), (5, SUB_RUNS), (5, incidents::SCHEMA), (5, ticks::SCHEMA)] {
        if found < since {
            transaction.execute_batch(tables).map_err(|error| failed(&error))?;
        }
    }
    if found > 0 {
        transaction.execute_batch(FORMAT_6).map_err(|error| failed(&error))?;
    }
    transaction.pragma_update(None, "user_version", FORMAT).and_then(|()| transaction.commit()).map_err(|error| failed(&error))
}

/// The format of a database; 0 when it is empty.
///
/// # Errors
///
/// `store`, when it can not be read, or is newer than this binary.
pub(super) fn read(connection: &Connection) -> Result<i64> {
    let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(|error| failed(&error))?;
    if format > FORMAT {
        return Err(Error::new(Kind::Store, format!("the state has format {format}; this binary knows formats up to {FORMAT}"))
            .hint("it was written by a newer version of runbook; use that one"));
    }
    Ok(format)
}

/// Hashes the rows of format 1 and 2 as they are, and begins the audit log.
fn hash_all(transaction: &Transaction<'_>) -> Result<()> {
    let last = || -> rusqlite::Result<i64> {
        transaction.execute_batch(FORMAT_3)?;
        chain_events(transaction)?;
        seal_rows(transaction, "parcel", "parcels", verify::PARCEL)?;
        seal_rows(transaction, "note", "notes", verify::NOTE)?;
        transaction.query_row("SELECT coalesce(max(number), 0) FROM runs", [], |row| row.get(0))
    };
    let last = last().map_err(|error| failed(&error))?;
    let act = Act { who: "runbook".to_owned(), action: Action::Upgrade, subject: "state".to_owned(), why: format!("to format {FORMAT}") };
    let data = Data::Pruned(Pruned { unknown_runs: last, ..Pruned::default() });
    audit::append(transaction, &act.entry(Some("done")), Some(&data)).map(drop)
}

fn chain_events(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut runs = transaction.prepare(&format!("SELECT number, {RUN} FROM runs"))?;
    let mut rows = runs.query([])?;
    let mut chain = transaction.prepare("UPDATE events SET hash = ?3 WHERE run = ?1 AND seq = ?2")?;
    let mut events = transaction.prepare("SELECT seq, body FROM events WHERE run = ?1 ORDER BY seq")?;
    let mut conclude = transaction.prepare("UPDATE runs SET events = ?2, head = ?3, seal = ?4 WHERE number = ?1")?;
    while let Some(row) = rows.next()? {
        let (number, id): (i64, String) = (row.get(0)?, row.get(1)?);
        let mut head: Hash = identity(transaction, number, row, 1)?;
        let bodies: Vec<(i64, String)> =
            events.query_map([number], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        // They were numbered without gaps.
        let count = bodies.last().map_or(0, |(seq, _)| *seq);
        for (seq, body) in bodies {
            head = chained(head, &id, seq, &body)?;
            chain.execute(params![number, seq, head])?;
        }
        conclude.execute(params![number, count, head, seal_of("run", row, 1..verify::SEALED + 1)?])?;
    }
    Ok(())
}

/// Seals the rows of a table, which are named by their first two columns.
fn seal_rows(transaction: &Transaction<'_>, kind: &str, table: &str, columns: &[&str]) -> rusqlite::Result<()> {
    let mut select = transaction.prepare(&format!("SELECT {} FROM {table}", columns.join(", ")))?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, seal_of(kind, row, 0..columns.len())?));
    let rows: Vec<(String, String, Hash)> = select.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
    let mut update = transaction.prepare(&format!("UPDATE {table} SET seal = ?3 WHERE {} = ?1 AND {} = ?2", columns[0], columns[1]))?;
    for (first, second, seal) in rows {
        update.execute(params![first, second, seal])?;
    }
    Ok(())
}
