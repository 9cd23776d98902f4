//! The daemon as others see it: who serves a state directory, and how it is asked.
//!
//! One process serves a state directory. It holds the lock on a file there, which names it, and listens on a
//! socket beside it: one line of JSON per question and per answer. A question is an [`Ask`]; every one
//! carries the version of this protocol, and one of another version is refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::model::{Pause, Span, Trigger, WhenLocked};
use crate::run::process::{hang_up, is_alive, me};
use crate::store::{Claim, ProcessId, StateDir};

/// The version of what is said over the socket.
pub const VERSION: u32 = 1;
/// The longest line either side accepts: a run with all its parameters.
const LONGEST_LINE: u64 = 16 << 20;
/// How long a question may take: secrets may come from programs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who serves a state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub process: ProcessId,
    /// Since when.
    pub since: Timestamp,
    /// Its version.
    pub version: String,
}

/// The right to serve a state directory. It ends with its process at the latest, however that ends.
#[derive(Debug)]
pub struct Seat {
    claim: Claim,
    socket: PathBuf,
}

impl Seat {
    /// Takes it.
    ///
    /// # Errors
    ///
    /// `not_started`, naming the holder, when another process has it; `store`.
    pub fn take(state: &StateDir, since: Timestamp) -> Result<Self> {
        let path = state.root().join("daemon.lock");
        let failed = |error: std::io::Error| Error::because(Kind::Store, format_args!("`{}`", path.display()), &error);
        let claim = Claim::take(&path).map_err(failed)?.ok_or_else(|| taken(state))?;
        let holder = Holder { process: me(), since, version: env!("CARGO_PKG_VERSION").to_owned() };
        let text = serde_json::to_string(&holder).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
        let mut file = claim.file();
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(failed)?;
        Ok(Self { claim, socket: state.root().join(SOCKET) })
    }

    /// Listens on the socket. What is left of an earlier one is removed first.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn listen(&self) -> Result<UnixListener> {
        use std::os::unix::fs::PermissionsExt;
        let failed = |error: std::io::Error| Error::because(Kind::Store, format_args!("the socket `{}`", self.socket.display()), &error);
        // It is ours: nobody else has the seat.
        let _ = std::fs::remove_file(&self.socket);
        let listener = Short::of(&self.socket).and_then(|short| UnixListener::bind(short.path())).map_err(failed)?;
        std::fs::set_permissions(&self.socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(listener)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // A file that stays names a process that is gone, and holds nobody up.
        let _ = std::fs::remove_file(&self.socket);
        let _ = self.claim.file().set_len(0);
    }
}

/// The name of the socket in the state directory.
const SOCKET: &str = "daemon.sock";

/// A path the kernel takes for a socket, which has to be shorter than a directory may be.
struct Short {
    directory: File,
    name: PathBuf,
}

impl Short {
    fn of(path: &Path) -> std::io::Result<Self> {
        let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
        Ok(Self { directory, name: path.file_name().unwrap_or_default().into() })
    }

    fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string()).join(&self.name)
    }
}

fn taken(state: &StateDir) -> Error {
    let who = holder(state).map_or("a daemon that is just starting".to_owned(), |holder| {
        format!("the daemon of process {}, since {}", holder.process.pid, holder.since.strftime("%Y-%m-%d %H:%M:%S UTC"))
    });
    Error::new(Kind::NotStarted, format!("`{}` is served by {who}", state.root().display()))
        .hint("`runbook status` says how it is; another state directory can have a daemon of its own: RUNBOOK_STATE_DIR")
}

/// Who serves a state directory; nothing when nobody does.
pub fn holder(state: &StateDir) -> Option<Holder> {
    let mut text = String::new();
    File::open(state.root().join("daemon.lock")).ok()?.take(64 << 10).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok().filter(|holder: &Holder| is_alive(holder.process))
}

/// A question to the daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// Start a run; answers with [`Queued`].
    Run(Box<Order>),
    /// Stop a run, after its clean-up or at once; answers when it was asked to.
    Cancel {
        /// Its number.
        run: u64,
        /// Without its clean-up.
        now: bool,
    },
    /// How it is; answers with [`Standing`].
    Status,
    /// Read settings and schedules again.
    Reload,
}

/// What somebody wants to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The directory whose project is meant.
    pub directory: PathBuf,
    /// The settings file, when it was named.
    pub config: Option<PathBuf>,
    /// The runbook.
    pub runbook: String,
    /// The system; the default one when absent.
    pub system: Option<String>,
    /// The parameters that were given; a text is read as on the command line, and names a secret where it is one.
    pub params: BTreeMap<String, Value>,
    /// The secrets among them.
    pub secrets: BTreeMap<String, String>,
    /// Stop it after this time.
    pub timeout: Option<Span>,
    /// What to do when another run holds the lock.
    pub when_locked: Option<WhenLocked>,
    /// The plan it carries out.
    pub plan: Option<String>,
    /// What starts it.
    pub trigger: Trigger,
    /// Who starts it.
    pub by: String,
    /// The same as approvals name people.
    pub account: String,
}

/// A run that was taken on: it is durable, and runs when its turn has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Its number.
    pub run: u64,
    /// Its identity.
    pub id: String,
    /// Why it does not run yet; nothing when it is about to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How the daemon is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Standing {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Since when it serves.
    pub since: Timestamp,
    /// Whether it is about to end.
    pub stopping: bool,
    /// The numbers of the runs that have a place.
    pub running: Vec<u64>,
    /// How many runs may have one.
    pub places: u32,
    /// The runs that wait for one, in their order.
    pub queued: Vec<Queued>,
    /// The schedules it has run.
    #[serde(default)]
    pub schedules: Schedules,
    /// The systems it watches.
    #[serde(default)]
    pub watches: Watches,
    /// Where its pages are, when it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
}

/// The schedules a daemon has run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Schedules {
    /// The systems they belong to.
    pub systems: Vec<String>,
    /// How many there are.
    pub count: usize,
    /// What starts next, of what is not paused.
    pub next: Option<Next>,
    /// Why nothing starts by itself, when that is so.
    pub paused: Option<Pause>,
    /// What is wrong with others.
    pub problems: Vec<String>,
}

/// The systems a daemon watches.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Watches {
    /// Each of them.
    pub each: Vec<Watching>,
    /// What is wrong, and leaves a part of a system unknown.
    pub problems: Vec<String>,
}

/// How the watch over a system is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watching {
    /// The system.
    pub system: String,
    /// When it last looked; nothing before the first time.
    pub looked: Option<Timestamp>,
    /// How many samples it has kept since the daemon began.
    pub samples: u64,
    /// How many samples were not kept before the last look, because there are too many series.
    #[serde(default)]
    pub refused: u64,
    /// What measures, and why it brought nothing or not all back the last time.
    #[serde(default)]
    pub samplers: BTreeMap<String, Option<String>>,
    /// How many series it measures.
    pub series: usize,
    /// How many of them nobody knows the value of.
    pub unknown: usize,
    /// How many rules it looks at.
    pub rules: usize,
    /// How many alarms fire.
    pub firing: usize,
    /// How many alarms are about silence.
    pub silent: usize,
    /// How often it ended by itself and began again.
    pub restarts: u64,
    /// Why it does not look.
    pub problem: Option<String>,
}

/// What starts next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// The schedule: `SYSTEM/NAME`.
    pub schedule: String,
    /// When.
    pub at: Timestamp,
}

/// A question as it goes over the socket.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// [`VERSION`].
    pub version: u32,
    /// The question.
    #[serde(flatten)]
    pub ask: Ask,
}

/// An answer as it goes over the socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// What was asked for.
    Answer(Value),
    /// Why not.
    Error(Error),
}

/// Asks the daemon of a state directory.
///
/// # Errors
///
/// `store`, when there is none or it does not answer; else what it says.
pub fn ask<T: DeserializeOwned>(state: &StateDir, ask: Ask) -> Result<T> {
    let gone = |error: std::io::Error| Error::because(Kind::Store, "the daemon does not answer", &error).hint(NO_DAEMON);
    let stream = Short::of(&state.root().join(SOCKET)).and_then(|short| UnixStream::connect(short.path()));
    let mut stream = stream.map_err(|_| Error::new(Kind::Store, "no daemon serves this state directory").hint(NO_DAEMON))?;
    stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE))).map_err(gone)?;
    write_line(&mut stream, &Line { version: VERSION, ask }).map_err(gone)?;
    let line = read_line(&mut BufReader::new(stream)).map_err(gone)?;
    let line = line.ok_or_else(|| Error::new(Kind::Store, "the daemon went away before it answered").hint(NO_DAEMON))?;
    let wrong = |error: serde_json::Error| Error::new(Kind::Store, format!("the daemon answers what is no answer: {error}"));
    match serde_json::from_str(&line).map_err(wrong)? {
        Said::Answer(value) => serde_json::from_value(value).map_err(wrong),
        Said::Error(error) => Err(error),
    }
}

/// What to do without a daemon.
const NO_DAEMON: &str = "start one with `runbook serve`";

/// Writes one line.
///
/// # Errors
///
/// As the system says.
pub fn write_line(to: &mut impl Write, value: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads one line; nothing at the end.
///
/// # Errors
///
/// As the system says; `InvalidData` for one that is too long or no text.
pub fn read_line(from: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    from.by_ref().take(LONGEST_LINE).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(text) => Ok(Some(text.to_owned())),
        None if line.is_empty() => Ok(None),
        None => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "a line without an end")),
    }
}

/// Asks a run to stop after its clean-up, whatever watches over it. To be asked again does not cut that short.
///
/// # Errors
///
/// `denied`, when it belongs to somebody else; what the daemon says, when it is one of its runs.
pub fn ask_to_stop(state: &StateDir, run: u64, supervisor: ProcessId) -> Result<()> {
    if watches(state, supervisor) {
        return ask(state, Ask::Cancel { run, now: false });
    }
    hang_up(supervisor).map_err(|error| Error::because(Kind::Denied, format_args!("run #{run}"), &error))
}

/// Whether this process is the daemon, which has many runs and is not to be signalled for one of them.
pub fn watches(state: &StateDir, supervisor: ProcessId) -> bool {
    holder(state).is_some_and(|holder| holder.process == supervisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(below: &str) -> (tempfile::TempDir, StateDir) {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(&directory.path().join(below)).unwrap();
        (directory, state)
    }

    #[test]
    fn one_process_serves_a_state_directory_and_the_next_is_told_who() {
        let (_directory, state) = state("state");
        let seat = Seat::take(&state, Timestamp::UNIX_EPOCH).unwrap();
        let refused = Seat::take(&state, Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(refused.kind, Kind::NotStarted);
        assert!(refused.message.contains(&format!("process {}, since 1970-01-01", std::process::id())), "{refused}");
        assert!(watches(&state, me()));
        drop(seat);
        assert!(holder(&state).is_none());
        Seat::take(&state, Timestamp::UNIX_EPOCH).unwrap();
    }

    #[test]
    fn a_socket_deep_below_is_reached_and_one_that_is_gone_is_no_daemon() {
        let (_directory, state) = state(&"deep/".repeat(40));
        let error = ask::<Value>(&state, Ask::Status).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (Kind::Store, "no daemon serves this state directory"));
        let seat = Seat::take(&state, Timestamp::UNIX_EPOCH).unwrap();
        let listener = seat.listen().unwrap();
        let answer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let line = read_line(&mut BufReader::new(&stream)).unwrap().unwrap();
            write_line(&mut stream, &Said::Answer(line.into())).unwrap();
        });
        let line: String = ask(&state, Ask::Cancel { run: 7, now: true }).unwrap();
        assert_eq!(line, r#"{"version":1,"ask":"cancel","run":7,"now":true}"#);
        answer.join().unwrap();
    }

    #[test]
    fn a_line_without_an_end_is_refused() {
        assert_eq!(read_line(&mut "".as_bytes()).unwrap(), None);
        assert_eq!(read_line(&mut "a\nb".as_bytes()).unwrap().as_deref(), Some("a"));
        assert_eq!(read_line(&mut "a".as_bytes()).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    }
}
