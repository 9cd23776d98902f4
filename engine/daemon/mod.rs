//! The daemon: one process that watches over many runs of a state directory, starts them when their turn has
//! come, brings back those that were cut off, and delivers messages.
//!
//! It is another supervisor, and never evaluates a script. What it knows of runbooks, systems and settings it
//! asks a [`Desk`]. It prints nothing; its own log goes to `tracing`.
//!
//! | file | what is in it |
//! |---|---|
//! | `runs.rs` | the places for runs, the queue before them, and what becomes of each |
//! | `timetable.rs` | the schedules, and how their runs are started |
//! | `watches.rs` | the watches over the systems, and how repairs are started |
//! | `care.rs` | which runs are the daemon's to bring to an end, also after its own |
//! | `socket.rs` | the control socket |
//! | `pages.rs` | what is answered over HTTP, and the sign of life |
//! | `hooks.rs` | runs that other systems start |
//! | `alerts.rs` | alerts of Prometheus |
//! | `metrics.rs` | what is counted |
//! | `http.rs` | requests taken apart, answers put together |
//! | `post.rs` | the delivery of messages |
//! | `notice.rs` | what people are told of runs that nobody watched |
//! | `systemd.rs` | what the service manager is told |

mod alerts;
mod care;
mod hooks;
mod http;
mod metrics;
mod notice;
mod pages;
mod post;
mod runs;
mod socket;
mod systemd;
mod timetable;
mod watches;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

pub use care::Place;
pub use hooks::{Deed, Hook};
pub use pages::{Doors, Secret};
pub use systemd::Manager;
pub use timetable::Timetable;
pub use watches::{Outlook, Watched};

use crate::error::{Error, Kind, Result};
use crate::model::{Event, Run, Span};
use crate::run::daemon::{Order, Seat};
use crate::run::outbox::Addresses;
use crate::run::process::{Children, declare, helpers, sweep};
use crate::run::{self, Request};
use crate::store::{Sqlite, StateDir, Store, now};

use metrics::Metrics;
use pages::Pages;
use post::Post;
use runs::Runs;
use timetable::Timekeeper;
use watches::Watches;

/// Where runbooks, systems and settings are known.
pub trait Desk: Send + Sync {
    /// Everything a new run is made of.
    ///
    /// # Errors
    ///
    /// Why it can not run.
    fn request(&self, order: &Order, store: &dyn Store) -> Result<Request>;

    /// Everything a run is made of that goes on where it was cut off.
    ///
    /// # Errors
    ///
    /// Why it can not go on.
    fn again(&self, run: &Run, events: &[Event], place: &Place, store: &dyn Store) -> Result<Request>;

    /// What the runs of a place get of their project when they start others.
    ///
    /// # Errors
    ///
    /// `config`.
    fn below(&self, place: &Place, store: Arc<dyn Store>) -> Result<Box<dyn run::Dispatch>>;

    /// Where people are reached.
    ///
    /// # Errors
    ///
    /// `config`.
    fn addresses(&self) -> Result<Addresses>;

    /// The schedules there are. What is wrong with one is in its place, and silences no other.
    ///
    /// # Errors
    ///
    /// `config`; the daemon goes on with those it had.
    fn timetable(&self) -> Result<Timetable>;

    /// The systems there are to watch. What is wrong with one is in its place, and blinds no other.
    ///
    /// # Errors
    ///
    /// `config`; the daemon goes on with those it had.
    fn outlook(&self) -> Result<Outlook>;

    /// What the settings say of those who come from outside.
    ///
    /// # Errors
    ///
    /// `config`; the daemon goes on with what it had.
    fn doors(&self) -> Result<Doors>;

    /// What the settings say now.
    ///
    /// # Errors
    ///
    /// `config`; the daemon goes on with what it had.
    fn settings(&self) -> Result<Settings>;
}

/// What the settings say of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How many runs there are at the same time.
    pub places: u32,
    /// How long steps may go on when the daemon is asked to stop.
    pub grace: Span,
}

/// What a daemon is made of.
pub struct Config {
    /// The state directory it serves.
    pub state: StateDir,
    /// What knows runbooks and systems.
    pub desk: Arc<dyn Desk>,
    /// This binary, which is started as the worker of each run.
    pub binary: PathBuf,
    /// The service manager that watches over the daemon.
    pub manager: Manager,
}

/// What the daemon is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// To stop: no step starts any more, those under way have the grace; told again, they have not.
    Stop,
    /// To read settings and schedules again.
    Reload,
}

/// How often the daemon looks around by itself.
const LOOK: Duration = Duration::from_millis(500);
/// The same while it waits for runs to stop.
const LOOK_STOPPING: Duration = Duration::from_millis(20);
/// How often it looks for runs that nobody watches over any more.
const ROUNDS: Duration = Duration::from_secs(5);
/// How many of these rounds may fail, one after the other.
const PATIENCE: u32 = 3;
/// What a run may take to stop that has no time left.
const HURRY: Duration = Duration::from_secs(5);

/// Serves a state directory until it is told to stop. Runs that were cut off are brought back first; those under
/// way when it stops go on with the next daemon.
///
/// # Errors
///
/// `not_started` when another process serves it; `store`, `config`.
pub fn serve(config: Config, told: &Receiver<Told>) -> Result<()> {
    let since = now();
    let seat = Seat::take(&config.state, since)?;
    declare(Children::OfManyRuns);
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(&config.state.database())?);
    let settings = config.desk.settings()?;
    let post = Post::start(store.clone(), config.state.clone(), config.desk.addresses()?);
    let metrics = Arc::new(Metrics::new());
    let runs = Runs::new(&config, store.clone(), settings.places, post.clone(), metrics.clone());
    let watches = Watches::new(runs.clone(), store.clone(), config.state.clone());
    let pages = Pages::new(runs.clone(), watches.clone(), store.clone(), metrics.clone(), config.desk.doors()?);
    let listener = seat.listen()?;
    let found = runs.bring_back()?;
    let timekeeper = Timekeeper::start(store, &runs, metrics, config.desk.timetable()?, settings.places)?;
    watches.load(config.desk.outlook()?);
    pages.open()?;
    let daemon = Arc::new(Daemon { runs, timekeeper, watches, pages, config, since });
    socket::serve(listener, daemon.clone());
    tracing::info!(state = %daemon.config.state.root().display(), "serving; {found} runs were cut off and go on");
    daemon.config.manager.ready();
    let result = daemon.work(told, settings.grace);
    daemon.config.manager.stopping();
    daemon.watches.close();
    daemon.timekeeper.close();
    post.stop();
    drop(seat);
    tracing::info!("stopped");
    result
}

/// The daemon under way.
struct Daemon {
    config: Config,
    runs: Arc<Runs>,
    timekeeper: Timekeeper,
    watches: Arc<Watches>,
    pages: Arc<Pages>,
    since: Timestamp,
}

impl Daemon {
    /// Looks around until every run has stopped.
    fn work(&self, told: &Receiver<Told>, mut grace: Span) -> Result<()> {
        let mut round = Instant::now();
        let mut failures = 0;
        let mut until = None;
        loop {
            match told.recv_timeout(if until.is_some() { LOOK_STOPPING } else { LOOK }) {
                Ok(Told::Stop) if until.is_none() => {
                    tracing::info!("stopping: no step starts any more, those under way have {grace}");
                    self.config.manager.stopping();
                    // No repair begins that could not end.
                    self.watches.close();
                    until = Some(Instant::now() + grace.0);
                }
                Ok(Told::Stop) => until = Some(Instant::now()),
                Ok(Told::Reload) => {
                    if let Ok(settings) = self.reload() {
                        grace = settings.grace;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Who can not be told any more would never stop.
                Err(RecvTimeoutError::Disconnected) => until = Some(until.unwrap_or_else(Instant::now)),
            }
            if self.timekeeper.is_lost() {
                // A daemon that starts nothing is no use; the next one picks up what was due.
                return Err(Error::new(Kind::Bug, "the scheduler ended by itself"));
            }
            if let Some(until) = until {
                self.runs.leave(until);
                if self.runs.are_over() || Instant::now() > until + HURRY {
                    return Ok(());
                }
            }
            sweep();
            self.runs.fill();
            if round.elapsed() >= ROUNDS {
                round = Instant::now();
                match self.runs.look_for_lost() {
                    Ok(()) => failures = 0,
                    Err(error) if failures < PATIENCE => {
                        tracing::error!("the store: {error}");
                        failures += 1;
                    }
                    // A daemon that can not write is no use; the next one opens the store anew.
                    Err(error) => return Err(error),
                }
            }
            self.pages.is_alive();
            self.config.manager.alive();
        }
    }

    /// Reads the settings again. What is wrong with them is logged, and those before hold.
    fn reload(&self) -> Result<Settings> {
        self.config.manager.reloading();
        let read = || {
            let _helpers = helpers();
            let desk = &self.config.desk;
            let (settings, table, outlook, doors) = (desk.settings()?, desk.timetable()?, desk.outlook()?, desk.doors()?);
            self.runs.post().move_to(desk.addresses()?);
            self.pages.change(doors);
            self.timekeeper.load(table, settings.places);
            if !self.runs.is_closed() {
                self.watches.load(outlook);
            }
            Ok(settings)
        };
        let settings = read();
        match &settings {
            Ok(settings) => {
                self.runs.make_room(settings.places);
                tracing::info!("settings were read again");
            }
            Err(error) => tracing::error!("the settings before hold: {error}"),
        }
        self.config.manager.ready();
        settings
    }
}
