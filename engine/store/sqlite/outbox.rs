//! The outbox in SQLite: parcels, and when each channel was last sent to.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Params, Transaction, params};

use super::seal::{Hash, seal};
use super::{failed, unreadable};
use crate::error::{Error, Kind, Result};
use crate::model::{Channel, Parcel, ParcelState};
use crate::store::{SENDINGS_KEPT, Settlement, Tally};

pub(super) fn post(transaction: &Transaction<'_>, parcel: &Parcel, is_repeat: &dyn Fn(&[Parcel]) -> bool) -> Result<bool> {
    if let Some(key) = &parcel.message.dedupe {
        let sql = "SELECT body FROM parcels WHERE project = ?1 AND system = ?2 AND contact = ?3 AND dedupe = ?4 AND id <> ?5";
        let alike = parcels(transaction, sql, [&parcel.project, &parcel.system, &parcel.contact, key, &parcel.id])?;
        if is_repeat(&alike) {
            return Ok(false);
        }
    }
    insert(transaction, parcel)?;
    Ok(true)
}

pub(super) fn queued(connection: &Connection) -> Result<Vec<Parcel>> {
    parcels(connection, "SELECT body FROM parcels WHERE state = 'queued' ORDER BY created, id", [])
}

pub(super) fn sendings(connection: &Connection, since: Timestamp) -> Result<Vec<(Channel, Timestamp)>> {
    let read = || -> rusqlite::Result<Vec<(Channel, i64)>> {
        connection
            .prepare_cached("SELECT project, system, contact, at FROM sendings WHERE at >= ?1 ORDER BY at")?
            .query_map([nanoseconds(since)], |row| {
                Ok((Channel { project: row.get(0)?, system: row.get(1)?, contact: row.get(2)? }, row.get(3)?))
            })?
            .collect()
    };
    let moment = |(channel, at): (Channel, i64)| {
        Timestamp::from_nanosecond(at.into()).map(|at| (channel, at)).map_err(|error| unreadable("a time", &error))
    };
    read().map_err(|error| failed(&error))?.into_iter().map(moment).collect()
}

pub(super) fn settle(transaction: &Transaction<'_>, settlement: &Settlement) -> Result<()> {
    for parcel in &settlement.parcels {
        update(transaction, parcel)?;
    }
    for fallback in &settlement.fallbacks {
        insert(transaction, fallback)?;
    }
    let Some(at) = settlement.sent else { return Ok(()) };
    let record = || -> rusqlite::Result<()> {
        transaction.prepare_cached("INSERT INTO sendings (project, system, contact, at) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            settlement.channel.project,
            settlement.channel.system,
            settlement.channel.contact,
            nanoseconds(at)
        ])?;
        let kept = nanoseconds(at).saturating_sub(SENDINGS_KEPT * 1_000_000_000);
        transaction.prepare_cached("DELETE FROM sendings WHERE at < ?1")?.execute([kept])?;
        Ok(())
    };
    record().map_err(|error| failed(&error))
}

pub(super) fn tally(connection: &Connection) -> Result<Tally> {
    let counts = || -> rusqlite::Result<Vec<(String, i64)>> {
        let mut counts = connection.prepare_cached("SELECT state, count(*) FROM parcels GROUP BY state")?;
        counts.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    let counts = counts().map_err(|error| failed(&error))?;
    let count = |state: ParcelState| {
        let found = counts.iter().find(|(name, _)| name == state.name());
        found.map_or(0, |(_, count)| usize::try_from(*count).unwrap_or(0))
    };
    let sql = "SELECT body FROM (
                   SELECT body, row_number() OVER (PARTITION BY project, system, contact ORDER BY created DESC, id DESC) AS place
                   FROM parcels WHERE attempts > 0
               ) WHERE place = 1";
    Ok(Tally {
        queued: count(ParcelState::Queued),
        delivered: count(ParcelState::Delivered),
        dead: count(ParcelState::Dead),
        last_tried: parcels(connection, sql, [])?,
    })
}

pub(super) fn prune(transaction: &Transaction<'_>, before: Timestamp) -> Result<u64> {
    let pruned = transaction
        .prepare_cached("DELETE FROM parcels WHERE state <> 'queued' AND created < ?1")
        .and_then(|mut delete| delete.execute([nanoseconds(before)]))
        .map_err(|error| failed(&error))?;
    Ok(pruned as u64)
}

fn insert(transaction: &Transaction<'_>, parcel: &Parcel) -> Result<()> {
    let body = body(parcel)?;
    let insert = || -> rusqlite::Result<usize> {
        transaction
            .prepare_cached(
                "INSERT INTO parcels (id, project, system, contact, dedupe, state, attempts, created, body, seal)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![
                parcel.id,
                parcel.project,
                parcel.system,
                parcel.contact,
                parcel.message.dedupe,
                parcel.state.name(),
                parcel.attempts,
                nanoseconds(parcel.created),
                body,
                sealed(parcel, &body)?,
            ])
    };
    insert().map(drop).map_err(|error| failed(&error))
}

fn update(transaction: &Transaction<'_>, parcel: &Parcel) -> Result<()> {
    let body = body(parcel)?;
    let update = || -> rusqlite::Result<Option<String>> {
        let before: Option<String> =
            transaction.prepare_cached("SELECT state FROM parcels WHERE id = ?1")?.query_row([&parcel.id], |row| row.get(0)).optional()?;
        if before.as_deref() == Some(ParcelState::Queued.name()) {
            transaction
                .prepare_cached("UPDATE parcels SET state = ?2, attempts = ?3, body = ?4, seal = ?5 WHERE id = ?1")?
                .execute(params![parcel.id, parcel.state.name(), parcel.attempts, body, sealed(parcel, &body)?,])?;
        }
        Ok(before)
    };
    match update().map_err(|error| failed(&error))?.as_deref() {
        Some("queued") => Ok(()),
        Some(state) => Err(Error::new(Kind::Conflict, format!("parcel `{}` is {state} already", parcel.id)).permanent()),
        None => Err(Error::new(Kind::NotFound, format!("there is no parcel `{}`", parcel.id))),
    }
}

/// The seal of a row, whose columns repeat what the parcel says.
fn sealed(parcel: &Parcel, body: &str) -> rusqlite::Result<Hash> {
    seal(
        "parcel",
        params![
            parcel.id,
            parcel.project,
            parcel.system,
            parcel.contact,
            parcel.message.dedupe,
            parcel.state.name(),
            parcel.attempts,
            nanoseconds(parcel.created),
            body,
        ],
    )
}

fn body(parcel: &Parcel) -> Result<String> {
    serde_json::to_string(parcel).map_err(|error| Error::new(Kind::Bug, error.to_string()))
}

fn parcels(connection: &Connection, sql: &str, params: impl Params) -> Result<Vec<Parcel>> {
    let read = || -> rusqlite::Result<Vec<String>> { connection.prepare_cached(sql)?.query_map(params, |row| row.get(0))?.collect() };
    let bodies = read().map_err(|error| failed(&error))?;
    bodies.iter().map(|body| serde_json::from_str(body).map_err(|error| unreadable("a parcel", &error))).collect()
}

/// Since 1970; enough until 2262.
fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(if time.as_nanosecond() < 0 { i64::MIN } else { i64::MAX })
}
