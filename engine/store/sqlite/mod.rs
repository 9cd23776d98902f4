//! The store in SQLite: WAL, synchronous FULL, bundled, several processes at a time.

mod outbox;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::model::{Channel, Event, EventKind, Level, Module, Parcel, Run, RunId, RunState, Trigger};
use crate::store::{Filter, ProcessId, Settlement, Store, Summary, Tally, note_of};

/// The format this binary reads and writes. Format 2 has the tables of format 1; its journals hold what
/// resuming needs, which a binary of format 1 can not read.
const FORMAT: i64 = 2;
const SCHEMA: &str = include_str!("schema.sql");

/// How long the WAL may grow before a commit writes it back into the database.
const WAL_PAGES: i64 = 200;

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(10);

/// The version of SQLite in this binary.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

/// How a database stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Its format.
    pub format: i64,
    /// How it journals; `wal` unless the filesystem can not.
    pub journal: String,
    /// Whether each commit waits for the disk.
    pub synchronous_full: bool,
    /// What SQLite finds wrong with it; nothing when it is sound.
    pub damage: Vec<String>,
}

/// The most damage that is told.
const MOST_DAMAGE: usize = 10;

/// The store in a file.
#[derive(Debug)]
pub struct Sqlite(Mutex<Connection>);

impl Sqlite {
    /// Opens the database, and makes it when it is not there.
    ///
    /// # Errors
    ///
    /// `store`, when it can not be opened, is damaged, or was written by a newer binary, which it then leaves as it is.
    pub fn open(path: &Path) -> Result<Self> {
        let fresh = !path.exists();
        let connection = Connection::open(path).map_err(|error| failed(&error).hint(format!("the state is in `{}`", path.display())))?;
        let mut store = Self::prepare(connection)?;
        if fresh {
            restrict(path)?;
        }
        store.migrate()?;
        Ok(store)
    }

    /// Opens the database to look at it: nothing is made, and nothing is waited for.
    ///
    /// # Errors
    ///
    /// `store`, when it is not there or can not be read.
    pub fn look(path: &Path) -> Result<Self> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| failed(&error))?;
        Ok(Self(Mutex::new(connection)))
    }

    /// Looks through the whole database for damage, which takes a while when it is large.
    ///
    /// # Errors
    ///
    /// `store`, when it can not be read.
    pub fn health(&self) -> Result<Health> {
        let connection = self.lock();
        let ask = || -> rusqlite::Result<Health> {
            let format = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            let journal = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
            let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
            let mut check = connection.prepare(&format!("PRAGMA integrity_check({MOST_DAMAGE})"))?;
            let lines: Vec<String> = check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            let damage = lines.into_iter().filter(|line| line != "ok").collect();
            Ok(Health { format, journal, synchronous_full: synchronous >= 2, damage })
        };
        ask().map_err(|error| failed(&error))
    }

    fn prepare(connection: Connection) -> Result<Self> {
        let set = || -> rusqlite::Result<()> {
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "full")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            // A checkpoint at close would cost every command two more syncs. What is not checkpointed is read
            // again by the next command, so the WAL is kept short: 0.2 ms at most, 1.5 at the default of 1000.
            connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            Ok(())
        };
        set().map_err(|error| failed(&error))?;
        Ok(Self(Mutex::new(connection)))
    }

    fn migrate(&mut self) -> Result<()> {
        let connection = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(|error| failed(&error))?;
        if format > FORMAT {
            return Err(Error::new(Kind::Store, format!("the state has format {format}; this binary knows formats up to {FORMAT}"))
                .hint("it was written by a newer version of runbook; use that one"));
        }
        if format == FORMAT {
            return Ok(());
        }
        let make = |connection: &mut Connection| -> rusqlite::Result<()> {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Another process may have been faster.
            let format: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if format == 0 {
                transaction.execute_batch(SCHEMA)?;
            }
            if format < FORMAT {
                transaction.pragma_update(None, "user_version", FORMAT)?;
            }
            transaction.commit()
        };
        make(connection).map_err(|error| failed(&error))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|error| failed(&error))?;
        let value = work(&transaction)?;
        transaction.commit().map_err(|error| failed(&error))?;
        Ok(value)
    }
}

fn restrict(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| Error::because(Kind::Store, format_args!("`{}` can not be made private", path.display()), &error))
}

fn failed(error: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let told = Error::because(Kind::Store, "the store", error);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => told.hint("free some space; the store is as it was"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => told.hint("another process has been writing for too long; try again"),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            told.hint("restore the state from a backup; `runbook doctor` tells more")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            told.hint("look at the owner and mode of the state directory")
        }
        _ => told,
    }
}

fn unreadable(what: &str, error: &dyn std::error::Error) -> Error {
    Error::new(Kind::Store, format!("the store holds {what} that can not be read: {error}")).hint("restore the state from a backup")
}

impl Store for Sqlite {
    fn create(&self, run: &Run, modules: &[Module], supervisor: ProcessId) -> Result<u64> {
        let params = serde_json::to_string(&run.params).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
        self.write(|transaction| {
            let insert = || -> rusqlite::Result<u64> {
                transaction.prepare_cached(
                    "INSERT INTO runs (id, runbook, version, commit_id, system, params, trigger_by, actor, started, pid, pid_started, status)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                )?
                .execute(params![
                    run.id.to_string(),
                    run.runbook,
                    run.version,
                    run.commit,
                    run.system,
                    params,
                    word(&run.trigger),
                    run.by,
                    sortable(run.started),
                    supervisor.pid,
                    i64::try_from(supervisor.started).unwrap_or(0),
                    run.status.name(),
                ])?;
                let number = transaction.last_insert_rowid();
                for (seq, module) in modules.iter().enumerate() {
                    transaction.prepare_cached("INSERT OR IGNORE INTO texts (hash, body) VALUES (?1, ?2)")?.execute(params![module.hash, module.text])?;
                    transaction
                        .prepare_cached("INSERT INTO run_texts (run, seq, name, hash) VALUES (?1, ?2, ?3, ?4)")?
                        .execute(params![number, i64::try_from(seq).unwrap_or(0), module.name, module.hash])?;
                }
                Ok(u64::try_from(number).unwrap_or(0))
            };
            insert().map_err(|error| failed(&error))
        })
    }

    fn append(&self, id: RunId, events: &[Event]) -> Result<()> {
        self.write(|transaction| {
            let number = number_of(transaction, id)?;
            insert(transaction, number, events)?;
            if events.iter().any(|event| matches!(event.kind, EventKind::Started)) {
                begin(transaction, number)?;
            }
            if events.iter().any(|event| matches!(event.kind, EventKind::Ended { .. })) {
                conclude(transaction, number)?;
            }
            Ok(())
        })
    }

    fn take_over(&self, id: RunId, supervisor: ProcessId, event: &Event) -> Result<()> {
        self.write(|transaction| {
            let number = number_of(transaction, id)?;
            if !fold(transaction, number)?.status.is_over() {
                return Err(crate::store::watched(u64::try_from(number).unwrap_or(0)));
            }
            insert(transaction, number, std::slice::from_ref(event))?;
            conclude(transaction, number)?;
            let update = "UPDATE runs SET pid = ?2, pid_started = ?3 WHERE number = ?1";
            let started = i64::try_from(supervisor.started).unwrap_or(0);
            transaction.execute(update, params![number, supervisor.pid, started]).map(drop).map_err(|error| failed(&error))
        })
    }

    fn abandon(&self, id: RunId, supervisor: ProcessId, event: &Event) -> Result<bool> {
        self.write(|transaction| {
            let number = number_of(transaction, id)?;
            let watched = || -> rusqlite::Result<(u32, i64)> {
                transaction
                    .prepare_cached("SELECT pid, pid_started FROM runs WHERE number = ?1")?
                    .query_row([number], |row| Ok((row.get(0)?, row.get(1)?)))
            };
            let by = watched().map_err(|error| failed(&error))?;
            let is_other = by != (supervisor.pid, i64::try_from(supervisor.started).unwrap_or(0));
            if is_other || fold(transaction, number)?.status.is_over() {
                return Ok(false);
            }
            insert(transaction, number, std::slice::from_ref(event))?;
            conclude(transaction, number).map(|()| true)
        })
    }

    fn events(&self, id: RunId) -> Result<Vec<Event>> {
        let connection = self.lock();
        let number = number_of(&connection, id)?;
        events(&connection, number)
    }

    fn run(&self, id: RunId) -> Result<Run> {
        let connection = self.lock();
        let number = number_of(&connection, id)?;
        fold(&connection, number)
    }

    fn modules(&self, id: RunId) -> Result<Vec<Module>> {
        let connection = self.lock();
        let number = number_of(&connection, id)?;
        let read = || -> rusqlite::Result<Vec<Module>> {
            connection
                .prepare_cached("SELECT name, hash, body FROM run_texts JOIN texts USING (hash) WHERE run = ?1 ORDER BY seq")?
                .query_map([number], |row| Ok(Module { name: row.get(0)?, hash: row.get(1)?, text: row.get(2)? }))?
                .collect()
        };
        read().map_err(|error| failed(&error))
    }

    fn list(&self, filter: &Filter) -> Result<Vec<Summary>> {
        let connection = self.lock();
        let mut sql = String::from(
            "SELECT number, id, runbook, system, status, exit_code, trigger_by, actor, started, ended, duration_ms, changes, level, note, pid, pid_started
             FROM runs WHERE 1",
        );
        let mut values: Vec<String> = Vec::new();
        let mut add = |condition: &str, value: String| {
            values.push(value);
            sql.push_str(&format!(" AND {condition} ?{}", values.len()));
        };
        if let Some(number) = filter.number {
            add("number =", number.to_string());
        }
        if let Some(beginning) = &filter.id {
            // A range, so that the index is used; `~` comes after all that is in an id.
            add("id >=", beginning.clone());
            add("id <", format!("{beginning}~"));
        }
        if let Some(runbook) = &filter.runbook {
            add("runbook =", runbook.clone());
        }
        if let Some(system) = &filter.system {
            add("system =", system.clone());
        }
        if let Some(since) = filter.since {
            add("started >=", sortable(since));
        }
        if !filter.states.is_empty() {
            let names: Vec<String> = filter.states.iter().map(|state| format!("'{}'", state.name())).collect();
            sql.push_str(&format!(" AND status IN ({})", names.join(", ")));
            if !filter.states.iter().any(|state| state.is_over()) {
                // There is an index of these, however many there are of the others.
                sql.push_str(" AND ended IS NULL");
            }
        }
        sql.push_str(" ORDER BY number DESC");
        if filter.limit > 0 {
            sql.push_str(&format!(" LIMIT {}", filter.limit));
        }
        let read = || -> rusqlite::Result<Vec<Result<Summary>>> {
            connection.prepare_cached(&sql)?.query_map(rusqlite::params_from_iter(&values), |row| Ok(summary(row)))?.collect()
        };
        read().map_err(|error| failed(&error))?.into_iter().collect()
    }

    fn note(&self, scope: &str, key: &str) -> Result<Option<Value>> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Option<String>> {
            connection
                .prepare_cached("SELECT value FROM notes WHERE scope = ?1 AND key = ?2")?
                .query_row([scope, key], |row| row.get(0))
                .optional()
        };
        let text = read().map_err(|error| failed(&error))?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| unreadable("a note", &error))).transpose()
    }

    fn keep_note(&self, scope: &str, key: &str, value: &Value) -> Result<()> {
        self.write(|transaction| {
            let done = match value {
                Value::Null => transaction.execute("DELETE FROM notes WHERE scope = ?1 AND key = ?2", [scope, key]),
                value => transaction.execute(
                    "INSERT INTO notes (scope, key, value) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = excluded.value",
                    [scope, key, &value.to_string()],
                ),
            };
            done.map(drop).map_err(|error| failed(&error))
        })
    }

    fn note_keys(&self, scope: &str, prefix: &str) -> Result<Vec<String>> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<String>> {
            connection
                .prepare_cached("SELECT key FROM notes WHERE scope = ?1 AND substr(key, 1, length(?2)) = ?2 ORDER BY key")?
                .query_map([scope, prefix], |row| row.get(0))?
                .collect()
        };
        read().map_err(|error| failed(&error))
    }

    fn post(&self, parcel: &Parcel, is_repeat: &dyn Fn(&[Parcel]) -> bool) -> Result<bool> {
        self.write(|transaction| outbox::post(transaction, parcel, is_repeat))
    }

    fn queued(&self) -> Result<Vec<Parcel>> {
        outbox::queued(&self.lock())
    }

    fn sendings(&self, since: Timestamp) -> Result<Vec<(Channel, Timestamp)>> {
        outbox::sendings(&self.lock(), since)
    }

    fn settle(&self, settlement: &Settlement) -> Result<()> {
        self.write(|transaction| outbox::settle(transaction, settlement))
    }

    fn tally(&self) -> Result<Tally> {
        outbox::tally(&self.lock())
    }

    fn prune_parcels(&self, before: Timestamp) -> Result<u64> {
        self.write(|transaction| outbox::prune(transaction, before))
    }
}

fn number_of(connection: &Connection, id: RunId) -> Result<i64> {
    let read = || -> rusqlite::Result<Option<i64>> {
        connection.prepare_cached("SELECT number FROM runs WHERE id = ?1")?.query_row([id.to_string()], |row| row.get(0)).optional()
    };
    read().map_err(|error| failed(&error))?.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no run `{id}`")))
}

/// A run from its row and its events.
fn fold(connection: &Connection, number: i64) -> Result<Run> {
    let head = || -> rusqlite::Result<Result<Run>> {
        connection
            .prepare_cached(
                "SELECT number, id, runbook, version, commit_id, system, params, trigger_by, actor, started, status FROM runs WHERE number = ?1",
            )?
            .query_row([number], |row| Ok(head(row)))
    };
    let mut run = head().map_err(|error| failed(&error))??;
    for event in events(connection, number)? {
        run.apply(&event)?;
    }
    Ok(run)
}

fn events(connection: &Connection, number: i64) -> Result<Vec<Event>> {
    let bodies = || -> rusqlite::Result<Vec<String>> {
        connection.prepare_cached("SELECT body FROM events WHERE run = ?1 ORDER BY seq")?.query_map([number], |row| row.get(0))?.collect()
    };
    let read = |body: String| serde_json::from_str(&body).map_err(|error| unreadable("an event", &error));
    bodies().map_err(|error| failed(&error))?.into_iter().map(read).collect()
}

fn insert(transaction: &Transaction<'_>, number: i64, events: &[Event]) -> Result<()> {
    let insert = || -> rusqlite::Result<()> {
        let mut next: i64 =
            transaction.prepare_cached("SELECT coalesce(max(seq), 0) FROM events WHERE run = ?1")?.query_row([number], |row| row.get(0))?;
        let mut add = transaction.prepare_cached("INSERT INTO events (run, seq, body) VALUES (?1, ?2, ?3)")?;
        for event in events {
            next += 1;
            let body = serde_json::to_string(event).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            add.execute(params![number, next, body])?;
        }
        Ok(())
    };
    insert().map_err(|error| failed(&error))
}

fn head(row: &Row<'_>) -> Result<Run> {
    let column = |error: rusqlite::Error| failed(&error);
    let id: String = row.get(1).map_err(column)?;
    let params: String = row.get(6).map_err(column)?;
    Ok(Run {
        run: row.get::<_, i64>(0).map_err(column).map(|number| u64::try_from(number).unwrap_or(0))?,
        id: RunId(id.parse().map_err(|error: uuid::Error| unreadable("an id", &error))?),
        runbook: row.get(2).map_err(column)?,
        version: row.get(3).map_err(column)?,
        commit: row.get(4).map_err(column)?,
        system: row.get(5).map_err(column)?,
        params: serde_json::from_str(&params).map_err(|error| unreadable("parameters", &error))?,
        trigger: trigger(&row.get::<_, String>(7).map_err(column)?)?,
        by: row.get(8).map_err(column)?,
        started: timestamp(&row.get::<_, String>(9).map_err(column)?)?,
        // Where it began; its events say where it stands.
        status: if row.get::<_, String>(10).map_err(column)? == RunState::Queued.name() { RunState::Queued } else { RunState::Running },
        attempt: 1,
        exit_code: None,
        ended: None,
        duration_ms: 0,
        steps: Vec::new(),
        checks: Vec::new(),
        outputs: std::collections::BTreeMap::new(),
        error: None,
    })
}

/// A run that waited for its turn runs.
fn begin(transaction: &Transaction<'_>, number: i64) -> Result<()> {
    let update = || -> rusqlite::Result<usize> {
        transaction.prepare_cached("UPDATE runs SET status = 'running' WHERE number = ?1 AND status = 'queued'")?.execute([number])
    };
    update().map(drop).map_err(|error| failed(&error))
}

/// Writes what the events say into the columns that listings read.
fn conclude(transaction: &Transaction<'_>, number: i64) -> Result<()> {
    let run = fold(transaction, number)?;
    let update = || -> rusqlite::Result<usize> {
        transaction
            .prepare_cached("UPDATE runs SET status = ?2, exit_code = ?3, ended = ?4, duration_ms = ?5, changes = ?6, level = ?7, note = ?8 WHERE number = ?1")?
            .execute(params![
                number,
                run.status.name(),
                run.exit_code,
                run.ended.map(|ended| ended.to_string()),
                i64::try_from(run.duration_ms).unwrap_or(i64::MAX),
                i64::try_from(run.changes()).unwrap_or(i64::MAX),
                run.level().name(),
                note_of(&run),
            ])
    };
    update().map(drop).map_err(|error| failed(&error))
}

fn summary(row: &Row<'_>) -> Result<Summary> {
    let column = |error: rusqlite::Error| failed(&error);
    let number = |index: usize| row.get::<_, i64>(index).map(|number| u64::try_from(number).unwrap_or(0)).map_err(column);
    let id: String = row.get(1).map_err(column)?;
    let status: String = row.get(4).map_err(column)?;
    let level: String = row.get(12).map_err(column)?;
    let ended: Option<String> = row.get(9).map_err(column)?;
    Ok(Summary {
        run: number(0)?,
        id: RunId(id.parse().map_err(|error: uuid::Error| unreadable("an id", &error))?),
        runbook: row.get(2).map_err(column)?,
        system: row.get(3).map_err(column)?,
        status: RunState::parse(&status).ok_or_else(|| Error::new(Kind::Store, format!("the store holds the unknown state `{status}`")))?,
        exit_code: row.get(5).map_err(column)?,
        trigger: trigger(&row.get::<_, String>(6).map_err(column)?)?,
        by: row.get(7).map_err(column)?,
        started: timestamp(&row.get::<_, String>(8).map_err(column)?)?,
        ended: ended.map(|text| timestamp(&text)).transpose()?,
        duration_ms: number(10)?,
        changes: number(11)?,
        level: Level::parse(&level).unwrap_or(Level::Unknown),
        note: row.get(13).map_err(column)?,
        supervisor: Some(ProcessId { pid: u32::try_from(number(14)?).unwrap_or(0), started: number(15)? }),
    })
}

/// A time with all its digits, so that texts stand in the order of the times.
fn sortable(time: Timestamp) -> String {
    format!("{time:.9}")
}

fn timestamp(text: &str) -> Result<Timestamp> {
    text.parse().map_err(|error: jiff::Error| unreadable("a time", &error))
}

fn trigger(text: &str) -> Result<Trigger> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|error| unreadable("a trigger", &error))
}

fn word(trigger: &Trigger) -> String {
    serde_json::to_value(trigger).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
