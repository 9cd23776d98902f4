//! Incidents in SQLite.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, ToSql, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::seal::seal;
use super::{Sqlite, failed, outbox, sortable, unreadable};
use crate::error::{Error, Kind, Result};
use crate::model::{Incident, Record, Repair};
use crate::store::incidents::{Change, Choose, IncidentFilter, Incidents, Which, no_repair};

pub(super) const SCHEMA: &str = include_str!("incidents.sql");

impl Incidents for Sqlite {
    fn change_incident(&self, which: Which<'_>, change: &mut Change<'_>) -> Result<Option<Incident>> {
        self.write(|transaction| {
            let before = newest(transaction, which)?;
            let next = next_number(transaction).map_err(|error| failed(&error))?;
            let Some(changed) = change(before.clone(), next)? else { return Ok(before) };
            keep(transaction, &changed.incident)?;
            for parcel in &changed.parcels {
                outbox::post(transaction, parcel, &|_| false)?;
            }
            Ok(Some(changed.incident))
        })
    }

    fn incident(&self, which: Which<'_>) -> Result<Option<Incident>> {
        newest(&self.lock(), which)
    }

    fn incidents(&self, filter: &IncidentFilter) -> Result<Vec<Incident>> {
        let sql = "SELECT number, body FROM incidents
             WHERE (?1 IS NULL OR system = ?1) AND (?2 = 0 OR state <> 'resolved') AND (?3 IS NULL OR opened >= ?3)
             ORDER BY number DESC LIMIT ?4";
        let limit = if filter.limit == 0 { -1 } else { i64::from(filter.limit) };
        rows(&self.lock(), sql, params![filter.system, filter.open, filter.since.map(sortable), limit], number_incident)
    }

    fn reserve_repair(&self, system: &str, since: Timestamp, choose: &mut Choose<'_>) -> Result<Option<Repair>> {
        self.write(|transaction| {
            let Some(repair) = choose(&repairs(transaction, system, since)?) else { return Ok(None) };
            let at = sortable(repair.at);
            insert(transaction, "repair", "repairs", REPAIR, &repair, &[&repair.system, &at])
                .map(|number| Some(Repair { number, ..repair }))
        })
    }

    fn conclude_repair(&self, repair: &Repair) -> Result<()> {
        self.write(|transaction| {
            let body = body_of(repair)?;
            let number = i64::try_from(repair.number).unwrap_or(0);
            let sealed = seal("repair", params![repair.system, sortable(repair.at), body]).map_err(|error| failed(&error))?;
            let changed = transaction
                .execute("UPDATE repairs SET body = ?2, seal = ?3 WHERE number = ?1", params![number, body, sealed])
                .map_err(|error| failed(&error))?;
            if changed == 1 { Ok(()) } else { Err(no_repair(repair.number)) }
        })
    }

    fn repairs(&self, system: &str, since: Timestamp) -> Result<Vec<Repair>> {
        repairs(&self.lock(), system, since)
    }

    fn record(&self, record: &Record) -> Result<u64> {
        let at = sortable(record.at);
        self.write(|transaction| insert(transaction, "record", "records", RECORD, record, &[&record.kind, &at]))
    }

    fn records(&self, kind: &str, since: Timestamp) -> Result<Vec<Record>> {
        let sql = "SELECT number, body FROM records WHERE kind = ?1 AND at >= ?2 ORDER BY at, number";
        rows(&self.lock(), sql, params![kind, sortable(since)], |number, record: Record| Record { number, ..record })
    }
}

/// The columns of each table that are sealed, beside its number.
pub(super) const INCIDENT: &[&str] = &["fingerprint", "system", "state", "opened", "body"];
pub(super) const REPAIR: &[&str] = &["system", "at", "body"];
pub(super) const RECORD: &[&str] = &["kind", "at", "body"];

fn number_incident(number: u64, incident: Incident) -> Incident {
    Incident { number, ..incident }
}

fn newest(connection: &Connection, which: Which<'_>) -> Result<Option<Incident>> {
    let (sql, value): (_, Box<dyn ToSql>) = match which {
        Which::Number(number) => ("SELECT number, body FROM incidents WHERE number = ?1", Box::new(i64::try_from(number).unwrap_or(0))),
        Which::Fingerprint(fingerprint) => {
            ("SELECT number, body FROM incidents WHERE fingerprint = ?1 ORDER BY number DESC LIMIT 1", Box::new(fingerprint.to_owned()))
        }
    };
    Ok(rows(connection, sql, [value], number_incident)?.pop())
}

/// Numbers are not used again, also when an incident was removed.
fn next_number(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    let last: Option<i64> =
        transaction.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'incidents'", [], |row| row.get(0)).optional()?;
    Ok(last.unwrap_or(0).unsigned_abs() + 1)
}

fn keep(transaction: &Transaction<'_>, incident: &Incident) -> Result<()> {
    let body = body_of(incident)?;
    let (number, opened, state) = (i64::try_from(incident.number).unwrap_or(0), sortable(incident.opened), incident.state.name());
    let write = || -> rusqlite::Result<usize> {
        let sealed = seal("incident", params![incident.fingerprint, incident.system, state, opened, body])?;
        let sql = "INSERT INTO incidents (number, fingerprint, system, state, opened, body, seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET fingerprint = ?2, system = ?3, state = ?4, opened = ?5, body = ?6, seal = ?7";
        let row = params![number, incident.fingerprint, incident.system, state, opened, body, sealed];
        transaction.prepare_cached(sql)?.execute(row)
    };
    write().map(drop).map_err(|error| failed(&error))
}

fn repairs(connection: &Connection, system: &str, since: Timestamp) -> Result<Vec<Repair>> {
    let sql = "SELECT number, body FROM repairs WHERE system = ?1 AND at >= ?2 ORDER BY at, number";
    rows(connection, sql, params![system, sortable(since)], |number, repair: Repair| Repair { number, ..repair })
}

/// Puts a row with a number of its own.
fn insert(
    transaction: &Transaction<'_>,
    kind: &str,
    table: &str,
    columns: &[&str],
    value: &impl Serialize,
    keys: &[&dyn ToSql; 2],
) -> Result<u64> {
    let body = body_of(value)?;
    let write = || -> rusqlite::Result<i64> {
        let sealed = seal(kind, params![keys[0], keys[1], body])?;
        let sql = format!("INSERT INTO {table} ({}, seal) VALUES (?1, ?2, ?3, ?4)", columns.join(", "));
        transaction.prepare_cached(&sql)?.execute(params![keys[0], keys[1], body, sealed])?;
        Ok(transaction.last_insert_rowid())
    };
    write().map(i64::unsigned_abs).map_err(|error| failed(&error))
}

fn rows<T: DeserializeOwned>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    number: impl Fn(u64, T) -> T,
) -> Result<Vec<T>> {
    let read = || -> rusqlite::Result<Vec<(i64, String)>> {
        connection.prepare_cached(sql)?.query_map(parameters, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    let found = read().map_err(|error| failed(&error))?;
    let value = |(found, body): (i64, String)| {
        let value = serde_json::from_str(&body).map_err(|error| unreadable("an incident", &error))?;
        Ok(number(found.unsigned_abs(), value))
    };
    found.into_iter().map(value).collect()
}

fn body_of(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::new(Kind::Bug, error.to_string()))
}
