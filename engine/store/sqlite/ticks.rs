//! Ticks of schedules in SQLite.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params, params_from_iter};

use super::{Sqlite, failed, unreadable};
use crate::error::{Error, Kind, Result};
use crate::model::{Pause, ScheduleState, Tick};
use crate::store::ticks::{asked_for, settled, unknown_tick};
use crate::store::{TickFilter, Ticks};

pub(super) const SCHEMA: &str = include_str!("ticks.sql");

const STATE: &str = "schedule, rule, since, paused, skip, (SELECT max(due) FROM ticks WHERE ticks.schedule = schedules.schedule)";

impl Ticks for Sqlite {
    fn keep_ticks(&self, ticks: &[Tick]) -> Result<Vec<bool>> {
        if ticks.is_empty() {
            return Ok(Vec::new());
        }
        self.write(|transaction| ticks.iter().map(|tick| keep(transaction, tick)).collect())
    }

    fn settle_ticks(&self, ticks: &[Tick]) -> Result<()> {
        if ticks.is_empty() {
            return Ok(());
        }
        self.write(|transaction| ticks.iter().try_for_each(|tick| settle(transaction, tick)))
    }

    fn pending_ticks(&self) -> Result<Vec<Tick>> {
        read(&self.lock(), "SELECT body FROM ticks WHERE outcome = 'pending' ORDER BY due, schedule", Vec::new())
    }

    fn ticks(&self, filter: &TickFilter) -> Result<Vec<Tick>> {
        let mut sql = "SELECT body FROM ticks WHERE 1".to_owned();
        let mut values = Vec::new();
        let mut only = |condition: &str, value: Value| {
            values.push(value);
            sql.push_str(&format!(" AND {condition} ?{}", values.len()));
        };
        if let Some(schedule) = &filter.schedule {
            only("schedule =", Value::Text(schedule.clone()));
        }
        if let Some(since) = filter.since {
            only("due >=", Value::Integer(nanos(since)));
        }
        if let Some(before) = filter.before {
            only("due <", Value::Integer(nanos(before)));
        }
        sql.push_str(" ORDER BY due DESC, schedule");
        if filter.limit > 0 {
            sql.push_str(&format!(" LIMIT {}", filter.limit));
        }
        read(&self.lock(), &sql, values)
    }

    fn schedule_states(&self) -> Result<Vec<ScheduleState>> {
        states(&self.lock(), &format!("SELECT {STATE} FROM schedules ORDER BY schedule"))
    }

    fn held_schedules(&self) -> Result<Vec<ScheduleState>> {
        states(&self.lock(), &format!("SELECT {STATE} FROM schedules WHERE paused IS NOT NULL OR skip > 0 ORDER BY schedule"))
    }

    fn keep_rules(&self, rules: &[(String, String, Timestamp)]) -> Result<()> {
        self.write(|transaction| {
            let keep = || -> rusqlite::Result<()> {
                let mut keep = transaction.prepare_cached(
                    "INSERT INTO schedules (schedule, rule, since) VALUES (?1, ?2, ?3)
                     ON CONFLICT (schedule) DO UPDATE SET rule = ?2, since = ?3",
                )?;
                rules.iter().try_for_each(|(schedule, rule, since)| keep.execute(params![schedule, rule, nanos(*since)]).map(drop))
            };
            keep().map_err(|error| failed(&error))
        })
    }

    fn pause_schedule(&self, schedule: &str, pause: Option<&Pause>) -> Result<()> {
        let pause = pause.map(serde_json::to_string).transpose().map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
        let sql = "INSERT INTO schedules (schedule, paused) VALUES (?1, ?2) ON CONFLICT (schedule) DO UPDATE SET paused = ?2";
        self.write(|transaction| transaction.execute(sql, params![schedule, pause]).map(drop).map_err(|error| failed(&error)))
    }

    fn skip_ticks(&self, schedule: &str, count: u32) -> Result<()> {
        let sql = "INSERT INTO schedules (schedule, skip) VALUES (?1, ?2) ON CONFLICT (schedule) DO UPDATE SET skip = ?2";
        self.write(|transaction| transaction.execute(sql, params![schedule, count]).map(drop).map_err(|error| failed(&error)))
    }

    fn prune_ticks(&self, before: Timestamp) -> Result<u64> {
        self.write(|transaction| forget(transaction, before))
    }
}

/// Forgets what was due before this, but for what is pending and the last tick of each schedule.
pub(super) fn forget(transaction: &Transaction<'_>, before: Timestamp) -> Result<u64> {
    let sql = "DELETE FROM ticks WHERE due < ?1 AND outcome <> 'pending'
               AND due < (SELECT max(due) FROM ticks AS other WHERE other.schedule = ticks.schedule)";
    let removed = transaction.execute(sql, [nanos(before)]).map_err(|error| failed(&error))?;
    Ok(removed as u64)
}

fn keep(transaction: &Transaction<'_>, tick: &Tick) -> Result<bool> {
    let insert = |body: String| -> rusqlite::Result<bool> {
        let inserted = transaction
            .prepare_cached("INSERT OR IGNORE INTO ticks (schedule, due, outcome, body) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![tick.schedule, nanos(tick.due), tick.outcome.name(), body])?;
        if inserted > 0 && asked_for(tick) {
            transaction.prepare_cached("UPDATE schedules SET skip = max(0, skip - 1) WHERE schedule = ?1")?.execute([&tick.schedule])?;
        }
        Ok(inserted > 0)
    };
    insert(body_of(tick)?).map_err(|error| failed(&error))
}

fn settle(transaction: &Transaction<'_>, tick: &Tick) -> Result<()> {
    let update = |body: String| -> rusqlite::Result<usize> {
        transaction
            .prepare_cached("UPDATE ticks SET outcome = ?3, body = ?4 WHERE schedule = ?1 AND due = ?2 AND outcome = 'pending'")?
            .execute(params![tick.schedule, nanos(tick.due), tick.outcome.name(), body])
    };
    if update(body_of(tick)?).map_err(|error| failed(&error))? > 0 {
        return Ok(());
    }
    let found = transaction
        .query_row("SELECT outcome FROM ticks WHERE schedule = ?1 AND due = ?2", params![tick.schedule, nanos(tick.due)], |row| {
            row.get::<_, String>(0)
        })
        .optional()
        .map_err(|error| failed(&error))?;
    Err(found.map_or_else(|| unknown_tick(tick), |outcome| settled(tick, &outcome)))
}

fn read(connection: &Connection, sql: &str, values: Vec<Value>) -> Result<Vec<Tick>> {
    let bodies = || -> rusqlite::Result<Vec<String>> {
        connection.prepare_cached(sql)?.query_map(params_from_iter(values), |row| row.get(0))?.collect()
    };
    let bodies = bodies().map_err(|error| failed(&error))?;
    bodies.iter().map(|body| serde_json::from_str(body).map_err(|error| unreadable("a tick", &error))).collect()
}

fn states(connection: &Connection, sql: &str) -> Result<Vec<ScheduleState>> {
    type Found = (ScheduleState, Option<String>);
    let of = |row: &Row<'_>| -> rusqlite::Result<Found> {
        let moment = |column: usize| -> rusqlite::Result<Option<Timestamp>> {
            Ok(row.get::<_, Option<i64>>(column)?.and_then(|nanos| Timestamp::from_nanosecond(nanos.into()).ok()))
        };
        let state = ScheduleState {
            schedule: row.get(0)?,
            rule: row.get(1)?,
            since: moment(2)?,
            last: moment(5)?,
            paused: None,
            skip: row.get(4)?,
        };
        Ok((state, row.get(3)?))
    };
    let rows = || -> rusqlite::Result<Vec<Found>> { connection.prepare_cached(sql)?.query_map([], of)?.collect() };
    let with_pause = |(state, paused): Found| {
        let paused = paused.map(|body| serde_json::from_str(&body)).transpose();
        paused.map(|paused| ScheduleState { paused, ..state }).map_err(|error| unreadable("a pause", &error))
    };
    rows().map_err(|error| failed(&error))?.into_iter().map(with_pause).collect()
}

fn body_of(tick: &Tick) -> Result<String> {
    serde_json::to_string(tick).map_err(|error| Error::new(Kind::Bug, error.to_string()))
}

fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(if at < Timestamp::UNIX_EPOCH { i64::MIN } else { i64::MAX })
}
