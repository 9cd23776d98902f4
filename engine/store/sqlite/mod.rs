//! The store in SQLite: WAL, synchronous FULL, bundled, several processes at a time.

mod audit;
mod format;
mod incidents;
mod outbox;
mod plans;
mod prune;
mod samples;
mod seal;
mod ticks;
mod turn;
mod verify;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, ToSql, Transaction, TransactionBehavior, params};
use serde_json::Value;

pub use samples::{Appended, Keep, Samples};
pub use verify::{Damage, Examination, Verdict};

use seal::{Hash, link, seal, stored};
use turn::Queue;

use crate::error::{Error, Kind, Result};
use crate::model::{Channel, Event, EventKind, Level, Module, Parcel, Parent, Run, RunId, RunState, Trigger};
use crate::store::audit::{Action, Anchor, AuditFilter, Entry, uid};
use crate::store::disk::{Ballast, refuse_remote};
use crate::store::{Filter, ProcessId, Removed, Retention, Settlement, Store, Summary, Tally, note_of};

/// How long the WAL may grow before a commit writes it back into the database.
const WAL_PAGES: i64 = 200;

/// How long to wait for another program that writes; ours queue.
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
    /// What SQLite finds wrong with its pages, an empty list when they are sound; nothing when they were not looked at.
    pub damage: Option<Vec<String>>,
}

/// So many pages are looked through in some milliseconds.
const FEW_PAGES: i64 = 2000;

/// The most damage that is told.
const MOST_DAMAGE: usize = 10;

/// The store in a file.
#[derive(Debug)]
pub struct Sqlite {
    connection: Mutex<Connection>,
    /// Where it waits to write; nothing when it was opened to look.
    queue: Option<Queue>,
    /// What is given up on a full disk so that runs can record how they ended.
    ballast: Option<Ballast>,
    /// The disk failed under it: what it holds in memory may not be what is on the disk.
    failed: AtomicBool,
}

impl Sqlite {
    /// Opens the database, and makes it when it is not there.
    ///
    /// # Errors
    ///
    /// `store`, when it can not be opened, is damaged, or was written by a newer binary, which it then leaves as it is.
    pub fn open(path: &Path) -> Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("."));
        refuse_remote(directory)?;
        let fresh = !path.exists();
        let mut connection =
            Connection::open(path).map_err(|error| failed(&error).hint(format!("the state is in `{}`", path.display())))?;
        connection.busy_timeout(BUSY).map_err(|error| failed(&error))?;
        let queue = Queue::of(path);
        // Before anything is written: a newer database stays as it is, to the byte. One that is being made is not
        // looked at by two: SQLite refuses the second one that asks for a WAL, and does not let it wait.
        let _turn = (format::read(&connection)? == 0).then(|| queue.wait()).transpose()?;
        prepare(&connection)?;
        if fresh {
            restrict(path)?;
        }
        format::migrate(&mut connection)?;
        Ok(Self { queue: Some(queue), ballast: Some(Ballast::of(directory)), ..Self::of(connection) })
    }

    /// Opens the database to look at it: nothing is made, and nothing is waited for.
    ///
    /// # Errors
    ///
    /// `store`, when it is not there or can not be read.
    pub fn look(path: &Path) -> Result<Self> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| failed(&error))?;
        format::read(&connection)?;
        Ok(Self::of(connection))
    }

    fn of(connection: Connection) -> Self {
        Self { connection: Mutex::new(connection), queue: None, ballast: None, failed: AtomicBool::new(false) }
    }

    /// Looks through all of it for what was changed behind its back; the audit log must go on from
    /// these anchors. Takes a while when it is large.
    pub fn examine(&self, anchors: &[Anchor]) -> Examination {
        verify::examine(&self.lock(), anchors)
    }

    /// Where the audit log stands.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn anchor(&self) -> Result<Anchor> {
        audit::anchor(&self.lock())
    }

    /// What [`prune`](Self::prune) would remove.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn prunable(&self, retention: &Retention) -> Result<Removed> {
        prune::prunable(&self.lock(), retention)
    }

    /// Removes old runs, old ticks and old rows of the audit log, and writes `after`, the row that says so.
    ///
    /// # Errors
    ///
    /// `store`; nothing was removed then.
    pub fn prune(&self, retention: &Retention, after: &Entry) -> Result<Removed> {
        self.write(|transaction| {
            ticks::forget(transaction, retention.before)?;
            prune::prune(transaction, retention, after)
        })
    }

    /// Gives the space of what was removed back to the disk.
    ///
    /// # Errors
    ///
    /// `store`; nothing is lost then.
    pub fn shrink(&self) -> Result<()> {
        self.lock().execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").map_err(|error| failed(&error))
    }

    /// Whether the files of a run are to stay: it is there, and not over since before this time.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn keeps_files(&self, number: u64, before: Timestamp) -> Result<bool> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Option<bool>> {
            let number = i64::try_from(number).unwrap_or(0);
            connection
                .prepare_cached("SELECT ended IS NULL OR ended >= ?2 OR status = 'needs-attention' FROM runs WHERE number = ?1")?
                .query_row(params![number, sortable(before)], |row| row.get(0))
                .optional()
        };
        read().map(Option::unwrap_or_default).map_err(|error| failed(&error))
    }

    /// The numbers of all runs, the oldest first.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn numbers(&self) -> Result<Vec<u64>> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<i64>> {
            connection.prepare("SELECT number FROM runs ORDER BY number")?.query_map([], |row| row.get(0))?.collect()
        };
        let numbers = read().map_err(|error| failed(&error))?;
        Ok(numbers.into_iter().filter_map(|number| u64::try_from(number).ok()).collect())
    }

    /// Refuses every change from here on.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn only_read(&self) -> Result<()> {
        self.lock().pragma_update(None, "query_only", true).map_err(|error| failed(&error))
    }

    /// Copies the database, as it is at one moment, into a file that is not there yet. Others may write meanwhile.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn copy_to(&self, path: &Path) -> Result<()> {
        let copy = || -> rusqlite::Result<()> {
            let mut copy = Connection::open(path)?;
            rusqlite::backup::Backup::new(&self.lock(), &mut copy)?.run_to_completion(i32::MAX, BUSY / 100, None)?;
            // One file, which can be read where nothing can be written.
            copy.pragma_update(None, "journal_mode", "delete")
        };
        copy().map_err(|error| failed(&error))?;
        restrict(path)
    }

    /// How the database stands. Its pages are looked through for damage when that is asked for, which takes a while when
    /// there are many, and always while there are few.
    ///
    /// # Errors
    ///
    /// `store`, when it can not be read.
    pub fn health(&self, all_pages: bool) -> Result<Health> {
        let connection = self.lock();
        let ask = || -> rusqlite::Result<Health> {
            let format = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            let journal = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
            let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
            let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
            let damage = (all_pages || pages <= FEW_PAGES).then(|| damage(&connection)).transpose()?;
            Ok(Health { format, journal, synchronous_full: synchronous >= 2, damage })
        };
        ask().map_err(|error| failed(&error))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Store, "the disk failed under the store; nothing more is written").hint(DISK_FAILED));
        }
        let _turn = self.queue.as_ref().map(Queue::wait).transpose()?;
        let mut connection = self.lock();
        let done = (|| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|error| failed(&error))?;
            let value = work(&transaction)?;
            transaction.commit().map_err(|error| failed(&error))?;
            Ok(value)
        })();
        if done.as_ref().is_err_and(|error| says(error, DISK_FAILED)) {
            self.failed.store(true, Ordering::Relaxed);
        }
        done
    }

    fn insert(&self, id: RunId, events: &[Event]) -> Result<()> {
        self.write(|transaction| insert(transaction, number_of(transaction, id)?, events))
    }
}

fn damage(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut check = connection.prepare(&format!("PRAGMA integrity_check({MOST_DAMAGE})"))?;
    let lines: Vec<String> = check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

fn prepare(connection: &Connection) -> Result<()> {
    let set = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // A checkpoint at close would cost every command two more syncs. What is not checkpointed is read
        // again by the next command, so the WAL is kept short: 0.2 ms at most, 1.5 at the default of 1000.
        connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(())
    };
    set().map_err(|error| failed(&error))
}

fn restrict(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| Error::because(Kind::Store, format_args!("`{}` can not be made private", path.display()), &error))
}

/// What to do when the disk is full. It also marks the error.
const DISK_FULL: &str = "free some space; the store is as it was";
/// What to do when the disk fails. It also marks the error.
const DISK_FAILED: &str = "look at the disk and the kernel's log; what was acknowledged before is safe as far as the disk keeps its word";

fn says(error: &Error, hint: &str) -> bool {
    error.hints.iter().any(|said| said == hint)
}

fn failed(error: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let told = Error::because(Kind::Store, "the store", error);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => told.hint(DISK_FULL),
        Some(ErrorCode::SystemIoFailure) => told.hint(DISK_FAILED),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => told.hint("another process has been writing for too long; try again"),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            told.hint("restore it from a backup: runbook state restore PATH; `runbook doctor --store` tells more")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            told.hint("look at the owner and mode of the state directory")
        }
        _ => told,
    }
}

fn unreadable(what: &str, error: &dyn std::error::Error) -> Error {
    Error::new(Kind::Store, format!("the store holds {what} that can not be read: {error}"))
        .hint("restore it from a backup: runbook state restore PATH; `runbook doctor --store` tells more")
}

impl Store for Sqlite {
    fn create(&self, run: &Run, modules: &[Module], supervisor: ProcessId) -> Result<u64> {
        let params = serde_json::to_string(&run.params).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
        self.write(|transaction| {
            let insert = || -> rusqlite::Result<(i64, Hash)> {
                let (id, trigger, started) = (run.id.to_string(), run.trigger.name(), sortable(run.started));
                let pid_started = i64::try_from(supervisor.started).unwrap_or(0);
                let (status, ended, level) = (run.status.name(), None::<String>, Level::Ok.name());
                // In the order of `verify::RUN`.
                let row = params![
                    id,
                    run.runbook,
                    run.version,
                    run.commit,
                    run.system,
                    params,
                    trigger,
                    run.by,
                    started,
                    supervisor.pid,
                    pid_started,
                    status,
                    run.exit_code,
                    ended,
                    0,
                    0,
                    level,
                    "",
                ];
                let mut head = seal("identity", &row[..verify::IDENTITY])?;
                for (seq, module) in (0_i64..).zip(modules) {
                    head = link(head, seal("text", params![seq, module.name, module.hash])?);
                }
                let sealed = seal("run", row)?;
                let mut row = row.to_vec();
                row.extend([&head as &dyn ToSql, &sealed]);
                transaction
                    .prepare_cached(&format!(
                        "INSERT INTO runs ({}, head, seal)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
                        verify::RUN
                    ))?
                    .execute(&*row)?;
                let number = transaction.last_insert_rowid();
                for (seq, module) in (0_i64..).zip(modules) {
                    transaction
                        .prepare_cached("INSERT OR IGNORE INTO texts (hash, body) VALUES (?1, ?2)")?
                        .execute(params![module.hash, module.text])?;
                    transaction
                        .prepare_cached("INSERT INTO run_texts (run, seq, name, hash) VALUES (?1, ?2, ?3, ?4)")?
                        .execute(params![number, seq, module.name, module.hash])?;
                }
                if let Some(Parent { run, step }) = &run.parent {
                    let parent = i64::try_from(*run).unwrap_or(0);
                    let sealed = seal("sub-run", params![number, parent, step])?;
                    transaction
                        .prepare_cached("INSERT INTO sub_runs (run, parent, step, seal) VALUES (?1, ?2, ?3, ?4)")?
                        .execute(params![number, parent, step, sealed])?;
                }
                Ok((number, head))
            };
            let (number, head) = insert().map_err(|error| failed(&error))?;
            let entry = Entry {
                seq: 0,
                at: run.started,
                who: run.by.clone(),
                uid: uid(),
                action: Action::Run,
                subject: audit::subject(number, &run.runbook, run.system.as_deref()),
                why: run.trigger.name().to_owned(),
                outcome: None,
                run: u64::try_from(number).ok(),
            };
            audit::append(transaction, &entry, Some(&audit::Data::stood(0, &head)))?;
            Ok(u64::try_from(number).unwrap_or(0))
        })
    }

    fn append(&self, id: RunId, events: &[Event]) -> Result<()> {
        let done = self.insert(id, events);
        let is_last = events.iter().any(|event| matches!(event.kind, EventKind::Ended { .. }));
        let is_full = done.as_ref().is_err_and(|error| says(error, DISK_FULL));
        // How a run ended is worth the last space there is.
        if is_full && is_last && self.ballast.as_ref().is_some_and(Ballast::release) {
            return self.insert(id, events);
        }
        done
    }

    fn verify(&self, id: RunId) -> Result<()> {
        let connection = self.lock();
        let number = number_of(&connection, id)?;
        let Some(damage) = verify::run(&connection, number).into_iter().next() else { return Ok(()) };
        Err(Error::new(Kind::Store, format!("the journal is damaged: {damage}"))
            .hint("restore the state from a backup: runbook state restore PATH")
            .hint("`runbook doctor --store` looks through all of it"))
    }

    fn audit(&self, entry: &Entry) -> Result<u64> {
        self.write(|transaction| audit::append(transaction, entry, None))
    }

    fn audited(&self, filter: &AuditFilter) -> Result<Vec<Entry>> {
        audit::list(&self.lock(), filter)
    }

    fn take_over(&self, id: RunId, supervisor: ProcessId, event: &Event) -> Result<()> {
        self.write(|transaction| {
            let number = number_of(transaction, id)?;
            if !fold(transaction, number)?.status.is_over() {
                return Err(crate::store::watched(u64::try_from(number).unwrap_or(0)));
            }
            let update = "UPDATE runs SET pid = ?2, pid_started = ?3 WHERE number = ?1";
            let started = i64::try_from(supervisor.started).unwrap_or(0);
            transaction.execute(update, params![number, supervisor.pid, started]).map_err(|error| failed(&error))?;
            insert(transaction, number, std::slice::from_ref(event))?;
            conclude(transaction, number)
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
            insert(transaction, number, std::slice::from_ref(event)).map(|()| true)
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
        let (sql, values) = listing(filter);
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
                    "INSERT INTO notes (scope, key, value, seal) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT DO UPDATE SET value = excluded.value, seal = excluded.seal",
                    params![
                        scope,
                        key,
                        value.to_string(),
                        seal("note", params![key, scope, value.to_string()]).map_err(|error| failed(&error))?
                    ],
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

/// A question for runs, and its values. Several states are asked for one by one and merged: each is found by the
/// index in the order of the runs, and nothing is sorted.
fn listing(filter: &Filter) -> (String, Vec<String>) {
    let (conditions, values) = conditions(filter);
    let rows = format!(
        "SELECT number, id, runbook, system, status, exit_code, trigger_by, actor, started, ended, duration_ms, changes, level, note, pid, pid_started, parent, step
         FROM runs LEFT JOIN sub_runs ON run = number WHERE {conditions}"
    );
    let states: BTreeSet<&str> = filter.states.iter().map(|state| state.name()).collect();
    let parts: Vec<String> = states.into_iter().map(|state| format!("{rows} AND status = '{state}'")).collect();
    let rows = if parts.is_empty() { rows } else { parts.join(" UNION ALL ") };
    let limit = if filter.limit > 0 { format!(" LIMIT {}", filter.limit) } else { String::new() };
    (format!("{rows} ORDER BY number DESC{limit}"), values)
}

/// What a filter asks of each run beside its state.
fn conditions(filter: &Filter) -> (String, Vec<String>) {
    let mut sql = String::from("1");
    let mut values: Vec<String> = Vec::new();
    let mut add = |condition: &str, value: String| {
        values.push(value);
        sql.push_str(&format!(" AND {}", condition.replace('?', &format!("?{}", values.len()))));
    };
    if let Some(number) = filter.number {
        add("number = ?", number.to_string());
    }
    if let Some(beginning) = &filter.id {
        // A range, so that the index is used; `~` comes after all that is in an id.
        add("id >= ?", beginning.clone());
        add("id < ?", format!("{beginning}~"));
    }
    if let Some(runbook) = &filter.runbook {
        add("runbook = ?", runbook.clone());
    }
    if let Some(system) = &filter.system {
        add("system = ?", system.clone());
    }
    if let Some(parent) = filter.parent {
        add("parent = ?", parent.to_string());
    }
    if let Some(step) = &filter.step {
        add("step = ?", step.clone());
    }
    if let Some(since) = filter.since {
        // The first of them is found by the index, and no row before it is looked at. The plus signs keep SQLite from
        // scanning for the smallest number, and from sorting what it would find by the start.
        add("number >= (SELECT min(+number) FROM runs WHERE started >= ?) AND +started >= ?", sortable(since));
    }
    (sql, values)
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
                "SELECT number, id, runbook, version, commit_id, system, params, trigger_by, actor, started, status, parent, step
                 FROM runs LEFT JOIN sub_runs ON run = number WHERE number = ?1",
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
        parent: parent(row, 11)?,
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
        waits_for: None,
    })
}

/// Appends events to the chain of a run, and what ends it to the audit log.
fn insert(transaction: &Transaction<'_>, number: i64, events: &[Event]) -> Result<()> {
    let insert = || -> rusqlite::Result<(String, String, audit::Data)> {
        let (id, by, subject, mut seq, mut head) = transaction
            .prepare_cached("SELECT id, actor, runbook, system, events, head FROM runs WHERE number = ?1")?
            .query_row([number], |row| {
                let (runbook, system): (String, Option<String>) = (row.get(2)?, row.get(3)?);
                let subject = audit::subject(number, &runbook, system.as_deref());
                Ok((row.get::<_, String>(0)?, row.get(1)?, subject, row.get::<_, i64>(4)?, stored(row, 5)?))
            })?;
        let mut add = transaction.prepare_cached("INSERT INTO events (run, seq, body, hash) VALUES (?1, ?2, ?3, ?4)")?;
        for event in events {
            seq += 1;
            let body = serde_json::to_string(event).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            head = verify::chained(head, &id, seq, &body)?;
            add.execute(params![number, seq, body, head])?;
        }
        transaction.prepare_cached("UPDATE runs SET events = ?2, head = ?3 WHERE number = ?1")?.execute(params![number, seq, head])?;
        Ok((by, subject, audit::Data::stood(seq, &head)))
    };
    let (by, subject, stood) = insert().map_err(|error| failed(&error))?;
    for entry in events.iter().filter_map(|event| audit::of_event(event, number, &subject, &by)) {
        audit::append(transaction, &entry, Some(&stood))?;
    }
    if events.iter().any(|event| matches!(event.kind, EventKind::Started)) {
        begin(transaction, number)?;
    }
    if events.iter().any(|event| matches!(event.kind, EventKind::Ended { .. } | EventKind::Asked(_) | EventKind::Answered { .. })) {
        conclude(transaction, number)?;
    }
    Ok(())
}

/// A run that waited for its turn runs.
fn begin(transaction: &Transaction<'_>, number: i64) -> Result<()> {
    let update = || -> rusqlite::Result<usize> {
        transaction.prepare_cached("UPDATE runs SET status = 'running' WHERE number = ?1 AND status = 'queued'")?.execute([number])
    };
    match update().map_err(|error| failed(&error))? {
        0 => Ok(()),
        _ => reseal(transaction, number),
    }
}

/// Seals the row of a run anew; for whoever changes a column of it.
fn reseal(transaction: &Transaction<'_>, number: i64) -> Result<()> {
    let update = || -> rusqlite::Result<usize> {
        let seal = transaction
            .prepare_cached(&format!("SELECT {} FROM runs WHERE number = ?1", verify::RUN))?
            .query_row([number], |row| seal::seal_of("run", row, 0..verify::SEALED))?;
        transaction.prepare_cached("UPDATE runs SET seal = ?2 WHERE number = ?1")?.execute(params![number, seal])
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
                run.ended.map(sortable),
                i64::try_from(run.duration_ms).unwrap_or(i64::MAX),
                i64::try_from(run.changes()).unwrap_or(i64::MAX),
                run.level().name(),
                note_of(&run),
            ])
    };
    update().map_err(|error| failed(&error))?;
    reseal(transaction, number)
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
        parent: parent(row, 16)?,
        started: timestamp(&row.get::<_, String>(8).map_err(column)?)?,
        ended: ended.map(|text| timestamp(&text)).transpose()?,
        duration_ms: number(10)?,
        changes: number(11)?,
        level: Level::parse(&level).unwrap_or(Level::Unknown),
        note: row.get(13).map_err(column)?,
        supervisor: Some(ProcessId { pid: u32::try_from(number(14)?).unwrap_or(0), started: number(15)? }),
    })
}

/// What a run is part of, from two columns that are empty for most.
fn parent(row: &Row<'_>, first: usize) -> Result<Option<Parent>> {
    let read = || Ok(row.get::<_, Option<i64>>(first)?.zip(row.get::<_, Option<String>>(first + 1)?));
    let found = read().map_err(|error: rusqlite::Error| failed(&error))?;
    Ok(found.map(|(run, step)| Parent { run: u64::try_from(run).unwrap_or(0), step }))
}

/// A time with all its digits, so that texts stand in the order of the times.
fn sortable(time: Timestamp) -> String {
    format!("{time:.9}")
}

fn timestamp(text: &str) -> Result<Timestamp> {
    text.parse().map_err(|error: jiff::Error| unreadable("a time", &error))
}

fn trigger(text: &str) -> Result<Trigger> {
    Trigger::parse(text).ok_or_else(|| unreadable("a trigger", &Error::new(Kind::Store, format!("`{text}`"))))
}
