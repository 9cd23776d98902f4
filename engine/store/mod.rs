//! What survives a crash.
//!
//! [`Store`] is in terms of the nouns and says for each method what is durable when it returns. There
//! are two of them today: SQLite, and a strict fake in memory that refuses what SQLite would let pass.
//! Long texts (the log of a run) are files beside it, see [`Log`].

pub mod audit;
mod backup;
mod claim;
#[cfg(test)]
mod conformance;
mod disk;
mod incidents;
#[cfg(test)]
mod integrity;
mod log;
mod memory;
mod plans;
mod retention;
mod sqlite;
mod ticks;
mod vault;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use backup::{Backup, MANIFEST, back_up, restore};
pub use claim::Claim;
pub use disk::filesystem;
pub use incidents::{Change, Changed, Choose, IncidentFilter, Incidents, Which, find_incident, find_record};
pub use log::{Log, LogLine};
pub use memory::Memory;
pub use plans::{Plans, find_plan};
pub use retention::{Removed, Retention};
pub use sqlite::{Appended, Damage, Examination, Health, Keep, Samples, Sqlite, Verdict, sqlite_version};
pub use ticks::{TickFilter, Ticks};
pub use vault::{Keys, Vault, is_name, keep_keys};

use audit::{AuditFilter, Entry};

use crate::error::{Error, Kind, Result};
use crate::model::{Artefact, Channel, Event, Level, Module, Parcel, Parent, Run, RunId, RunState, Trigger};
use crate::words;

/// Where a process stands, so that a dead one is not taken for a living one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process number.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

/// A run in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The short number.
    pub run: u64,
    /// The identity.
    pub id: RunId,
    /// The runbook.
    pub runbook: String,
    /// The system.
    pub system: Option<String>,
    /// Where it stands.
    pub status: RunState,
    /// The exit code of the command.
    pub exit_code: Option<u8>,
    /// What started it.
    pub trigger: Trigger,
    /// Who started it.
    pub by: String,
    /// The run that started it, when it is a sub-run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// From start to end; 0 while it runs.
    pub duration_ms: u64,
    /// How much it changed.
    pub changes: u64,
    /// The worst answer of its checks.
    pub level: Level,
    /// One line: why it failed, or the worst check.
    pub note: String,
    /// The process that watches over it.
    #[serde(skip)]
    pub supervisor: Option<ProcessId>,
}

/// Which runs to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only the run of this number.
    pub number: Option<u64>,
    /// Only those whose identity begins like this.
    pub id: Option<String>,
    /// Only of this runbook.
    pub runbook: Option<String>,
    /// Only for this system.
    pub system: Option<String>,
    /// Only those that this run started.
    pub parent: Option<u64>,
    /// Only those that are the step of this key of the run that started them.
    pub step: Option<String>,
    /// Only in one of these states; all when empty.
    pub states: Vec<RunState>,
    /// Only started at or after this.
    pub since: Option<Timestamp>,
    /// At most so many; all when 0.
    pub limit: u32,
}

/// The journal of runs, notes of runbooks, the outbox, plans, incidents and ticks of schedules.
pub trait Store: Plans + Incidents + Ticks + Send + Sync {
    /// Records a new run with the texts it is made of. When it returns, the run survives a crash and
    /// has its number, which is returned.
    ///
    /// # Errors
    ///
    /// `store`; nothing was recorded then.
    fn create(&self, run: &Run, modules: &[Module], supervisor: ProcessId) -> Result<u64>;

    /// Appends events to a run, all or none. When it returns, they survive a crash.
    ///
    /// # Errors
    ///
    /// `store`, or `bug` for an event that can not follow; nothing was appended then.
    fn append(&self, id: RunId, events: &[Event]) -> Result<()>;

    /// Makes `supervisor` the process of a run that is over, with the event that says so. When it
    /// returns, this process alone writes the run.
    ///
    /// # Errors
    ///
    /// `conflict` when the run is not over, or another process was faster; `store`. Nothing changed then.
    fn take_over(&self, id: RunId, supervisor: ProcessId, event: &Event) -> Result<()>;

    /// Records the end of a run whose process vanished, and returns whether it did: it does not when
    /// the run is over, or another process than `supervisor` watches over it by now.
    ///
    /// # Errors
    ///
    /// `not_found`, or `store`; nothing was recorded then.
    fn abandon(&self, id: RunId, supervisor: ProcessId, event: &Event) -> Result<bool>;

    /// The events of a run, in order.
    ///
    /// # Errors
    ///
    /// `not_found`, or `store`.
    fn events(&self, id: RunId) -> Result<Vec<Event>>;

    /// A run as its events tell it.
    ///
    /// # Errors
    ///
    /// `not_found`, or `store`.
    fn run(&self, id: RunId) -> Result<Run>;

    /// The texts a run was made of, the runbook first.
    ///
    /// # Errors
    ///
    /// `store`.
    fn modules(&self, id: RunId) -> Result<Vec<Module>>;

    /// Runs in one line each, newest first.
    ///
    /// # Errors
    ///
    /// `store`.
    fn list(&self, filter: &Filter) -> Result<Vec<Summary>>;

    /// The value a runbook keeps under a key; nothing when there is none.
    ///
    /// # Errors
    ///
    /// `store`.
    fn note(&self, scope: &str, key: &str) -> Result<Option<Value>>;

    /// Keeps a value, or forgets it when it is null. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `store`; nothing changed then.
    fn keep_note(&self, scope: &str, key: &str, value: &Value) -> Result<()>;

    /// The keys that begin like this, sorted.
    ///
    /// # Errors
    ///
    /// `store`.
    fn note_keys(&self, scope: &str, prefix: &str) -> Result<Vec<String>>;

    /// Puts a parcel into the outbox, unless `is_repeat` says that the parcels of the same channel with
    /// the same `dedupe` key, which it is shown, have said it already; asked in one transaction with the
    /// insertion, so that of two who say the same at once one does. Durable when it returns, and
    /// whether it was put. A parcel whose identity is there already stays as it is and counts as put.
    ///
    /// # Errors
    ///
    /// `store`; nothing was put then.
    fn post(&self, parcel: &Parcel, is_repeat: &dyn Fn(&[Parcel]) -> bool) -> Result<bool>;

    /// The parcels that wait, of all channels, in the order they were made.
    ///
    /// # Errors
    ///
    /// `store`.
    fn queued(&self) -> Result<Vec<Parcel>>;

    /// When each channel was sent to at or after this, delivered or not, the oldest first. Only the
    /// last two minutes before the newest sending are kept.
    ///
    /// # Errors
    ///
    /// `store`.
    fn sendings(&self, since: Timestamp) -> Result<Vec<(Channel, Timestamp)>>;

    /// Records one sending and what became of its parcels, all or none. Durable when it returns: a
    /// crash before it leaves the parcels queued, as if nothing had been sent.
    ///
    /// # Errors
    ///
    /// `not_found` for a parcel that is not in the outbox, `conflict` for one that does not wait any
    /// more, or `store`; nothing changed then.
    fn settle(&self, settlement: &Settlement) -> Result<()>;

    /// How many parcels there are in each state, and the last one that was tried of each channel.
    ///
    /// # Errors
    ///
    /// `store`.
    fn tally(&self) -> Result<Tally>;

    /// Looks whether the journal of a run is as it was written: its row, its events, its texts.
    ///
    /// # Errors
    ///
    /// `not_found`; `store`, naming the row, when it is not. Such a run must not go on.
    fn verify(&self, id: RunId) -> Result<()>;

    /// Appends a row to the audit log, and returns its number. Durable when it returns. The rows of a
    /// run's start and end are written by [`create`](Self::create) and [`append`](Self::append);
    /// everything else goes through [`audit::audited`].
    ///
    /// # Errors
    ///
    /// `store`; nothing was appended then.
    fn audit(&self, entry: &Entry) -> Result<u64>;

    /// The rows of the audit log, newest first.
    ///
    /// # Errors
    ///
    /// `store`.
    fn audited(&self, filter: &AuditFilter) -> Result<Vec<Entry>>;

    /// Forgets parcels that were made before this and were delivered or given up, and returns how many.
    /// Those that wait stay, however old.
    ///
    /// # Errors
    ///
    /// `store`; nothing was forgotten then.
    fn prune_parcels(&self, before: Timestamp) -> Result<u64>;
}

/// What became of one sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Where it went.
    pub channel: Channel,
    /// When; nothing when no channel was sent to, since there was none.
    pub sent: Option<Timestamp>,
    /// The parcels it stood for, as they are now.
    pub parcels: Vec<Parcel>,
    /// The parcels that tell others what could not be told here. One that is there already stays.
    pub fallbacks: Vec<Parcel>,
}

/// How long a sending is kept before the newest one, in seconds: longer than the window of any rate.
const SENDINGS_KEPT: i64 = 120;

/// The outbox in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Parcels that wait.
    pub queued: usize,
    /// Parcels that were accepted and are not pruned.
    pub delivered: usize,
    /// Parcels that were given up and are not pruned.
    pub dead: usize,
    /// Of each channel, the newest parcel that was tried.
    pub last_tried: Vec<Parcel>,
}

/// The shortest beginning of a UUID that may stand for it; what is shorter is a number.
const SHORTEST_ID: usize = 8;

/// The run a reference means: `12`, `#12`, `last`, `last:NAME`, or the beginning of a UUID.
///
/// # Errors
///
/// `usage`, when there is none, or more than one.
pub fn find(store: &dyn Store, reference: &str) -> Result<Summary> {
    let bare = reference.trim_start_matches('#');
    let missing = || Error::new(Kind::Usage, format!("there is no run `{reference}`")).hint("`runbook history` lists the runs");
    if bare == "last" || bare.starts_with("last:") {
        let runbook = bare.strip_prefix("last:").map(str::to_owned);
        let run = store.list(&Filter { runbook, limit: 1, ..Filter::default() })?.pop().ok_or_else(missing)?;
        return match &run.parent {
            // Of the newest run a sub-run is only a part.
            Some(parent) if bare == "last" => find(store, &top(store, parent.run)?.to_string()),
            _ => Ok(run),
        };
    }
    if let Ok(number) = bare.parse()
        && let Some(run) = store.list(&Filter { number: Some(number), ..Filter::default() })?.pop()
    {
        return Ok(run);
    }
    if bare.len() < SHORTEST_ID {
        return Err(missing());
    }
    let mut found = store.list(&Filter { id: Some(bare.to_owned()), limit: 2, ..Filter::default() })?;
    match found.len() {
        1 => found.pop().ok_or_else(missing),
        0 => Err(missing()),
        _ => Err(Error::new(Kind::Usage, format!("`{reference}` means more than one run")).hint("write more of it")),
    }
}

/// The number of the run above all that this one is a part of.
fn top(store: &dyn Store, number: u64) -> Result<u64> {
    let above = store.list(&Filter { number: Some(number), ..Filter::default() })?.pop().and_then(|run| run.parent);
    above.map_or(Ok(number), |parent| top(store, parent.run))
}

/// The time by the clock of this machine, for what is put on record.
#[expect(clippy::disallowed_methods, reason = "a script has the clock of its run; the record has that of the world")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The name of the database in the state directory.
pub const DATABASE: &str = "runbook.db";

/// The name of the file of samples beside it.
pub const SAMPLES: &str = "samples.db";

/// The state directory: the database, and a directory per run.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// The state directory at this path, made when it is not there. It is its owner's alone.
    ///
    /// # Errors
    ///
    /// `config` with the fix, when others can get at it, it belongs to somebody else or can not be made.
    pub fn open(root: &Path) -> Result<Self> {
        use std::os::unix::fs::{DirBuilderExt, MetadataExt};
        let shown = root.display();
        let failed = |error: std::io::Error| {
            Error::because(Kind::Config, format_args!("no state directory at `{shown}`"), &error)
                .hint("choose another one with RUNBOOK_STATE_DIR")
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed)?;
        let found = std::fs::metadata(root).map_err(failed)?;
        let mode = found.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::new(Kind::Config, format!("others can get at the state directory `{shown}` (mode {mode:04o})"))
                .hint(format!("`chmod 700 {shown}`; in a unit file, `StateDirectoryMode=0700`")));
        }
        let me = rustix::process::geteuid().as_raw();
        if found.uid() != me {
            return Err(Error::new(
                Kind::Config,
                format!("the state directory `{shown}` belongs to user {}, not to user {me}", found.uid()),
            )
            .hint("choose another one with RUNBOOK_STATE_DIR"));
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.root.join(DATABASE)
    }

    /// The samples of what is watched.
    pub fn samples(&self) -> PathBuf {
        self.root.join(SAMPLES)
    }

    /// The directory of a run: its log, and the files kept with it.
    pub fn run(&self, number: u64) -> PathBuf {
        self.root.join("runs").join(number.to_string())
    }

    /// The directory in which programs of a run keep their files, apart from what is recorded of it.
    pub fn work(&self, number: u64) -> PathBuf {
        self.run(number).join("work")
    }

    /// Makes it.
    ///
    /// # Errors
    ///
    /// `store`, when it can not be made.
    pub fn make_work(&self, number: u64) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let work = self.work(number);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&work);
        made.map_err(|error| Error::because(Kind::Store, format_args!("`{}` can not be made", work.display()), &error))
    }

    /// Removes it when nothing was left in it.
    pub fn drop_work(&self, number: u64) {
        // What is left in it stays with the run.
        let _ = std::fs::remove_dir(self.work(number));
    }

    /// Keeps a file with a run, atomically.
    ///
    /// # Errors
    ///
    /// `invalid` for a name that is no plain file name, `store` when it can not be written.
    pub fn keep(&self, number: u64, name: &str, content: &[u8]) -> Result<Artefact> {
        use sha2::{Digest, Sha256};
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) || name.len() > 200 {
            return Err(Error::new(Kind::Invalid, format!("`{name}` is not a file name")).hint("use letters, digits, `-`, `_` and `.`"));
        }
        let directory = self.run(number).join("files");
        let failed = |error: &std::io::Error| Error::because(Kind::Store, format_args!("file `{name}` can not be kept"), error);
        write_private(&directory, name, content).map_err(|error| failed(&error))?;
        let sha256 = words::hex(&Sha256::digest(content));
        Ok(Artefact { name: name.to_owned(), size: content.len() as u64, sha256 })
    }
}

/// Writes a file of mode 0600 in a directory of mode 0700: beside, synced, renamed, the directory synced.
///
/// # Errors
///
/// As the system says; the old file is still there then.
pub fn write_private(directory: &Path, name: &str, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let partial = directory.join(format!(".{name}.partial"));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&partial, directory.join(name))?;
    std::fs::File::open(directory)?.sync_all()
}

fn watched(number: u64) -> Error {
    Error::new(Kind::Conflict, format!("run #{number} is not over: another process watches over it"))
        .permanent()
        .hint("`runbook ps` shows what runs")
}

/// What a listing shows of a run beyond its columns.
fn note_of(run: &Run) -> String {
    if let Some(error) = &run.error {
        return error.message.clone();
    }
    let worst = run.level();
    let bad: Vec<&str> = run.checks.iter().filter(|check| check.level != Level::Ok).map(|check| check.name.as_str()).collect();
    match bad.as_slice() {
        [] => String::new(),
        [one] => format!("{}: {one}", worst.name()),
        [one, rest @ ..] => format!("{}: {one} and {} more", worst.name(), rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_state_directory_is_made_for_its_owner_alone_and_refused_when_others_can_get_at_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        StateDir::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let error = StateDir::open(&path).unwrap_err();
        assert_eq!(error.kind, Kind::Config);
        assert!(error.hints[0].starts_with("`chmod 700 "));
    }

    #[test]
    fn a_file_is_no_state_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "").unwrap();
        assert_eq!(StateDir::open(&path).unwrap_err().kind, Kind::Config);
    }
}
