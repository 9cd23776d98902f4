//! The context of a run: the only door of a host function to the world.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::error::{Error, Kind, Result};
use crate::host::sandbox::Sandbox;
use crate::host::{Expected, Permissions, Recorder, Secrets, Stop};
use crate::model::{RunId, System};

/// Whether effects are had or only told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Effects change the world.
    Apply,
    /// Effects are recorded; reads are live.
    Plan,
    /// Nothing is touched: what functions answer is said by a test, and the clock stands still.
    Test,
}

/// What a run is, for those who work for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Its identity.
    pub id: RunId,
    /// Its short number.
    pub number: u64,
    /// The name of its runbook.
    pub runbook: String,
    /// When it started.
    pub started: Timestamp,
    /// Its own directory, mode 0700, for files kept with it; removed when empty.
    pub directory: PathBuf,
}

/// Everything a host function may know and use. A cheap clone.
#[derive(Clone)]
pub struct Ctx(Arc<Inner>);

struct Inner {
    run: RunInfo,
    system: System,
    mode: Mode,
    permissions: Permissions,
    secrets: Secrets,
    recorder: Arc<dyn Recorder>,
    stop: Arc<Stop>,
    protected: OnceLock<Vec<PathBuf>>,
    sandbox: OnceLock<Arc<Sandbox>>,
    expected: OnceLock<Expected>,
    /// The clock of a test.
    clock: OnceLock<Clock>,
    runtime: OnceLock<std::io::Result<Runtime>>,
    state: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

/// A name that is still being looked up would hold the end of the run back.
impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(Ok(runtime)) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A clock that stands still unless somebody waits.
struct Clock {
    at: Mutex<Timestamp>,
}

impl Clock {
    fn now(&self) -> Timestamp {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn go_on(&self, time: Duration) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        *at = at.checked_add(time).unwrap_or(Timestamp::MAX);
    }
}

impl Ctx {
    /// A context for one run.
    pub fn new(
        run: RunInfo,
        system: System,
        mode: Mode,
        permissions: Permissions,
        secrets: Secrets,
        recorder: Arc<dyn Recorder>,
        stop: Arc<Stop>,
    ) -> Self {
        Self(Arc::new(Inner {
            run,
            system,
            mode,
            permissions,
            secrets,
            recorder,
            stop,
            protected: OnceLock::new(),
            sandbox: OnceLock::new(),
            expected: OnceLock::new(),
            clock: OnceLock::new(),
            runtime: OnceLock::new(),
            state: Mutex::default(),
        }))
    }

    /// What run it is.
    pub fn run(&self) -> &RunInfo {
        &self.0.run
    }

    /// The system it runs for.
    pub fn system(&self) -> &System {
        &self.0.system
    }

    /// Whether effects are had or only told.
    pub fn mode(&self) -> Mode {
        self.0.mode
    }

    /// What it may touch.
    pub fn permissions(&self) -> &Permissions {
        &self.0.permissions
    }

    /// What no run may touch whatever it is granted: the state directory, the secrets, the library of
    /// runbooks, the settings, the running binary.
    pub fn protected(&self) -> &[PathBuf] {
        self.0.protected.get().map_or(&[], Vec::as_slice)
    }

    /// Names what no run may touch; once, before the script starts.
    pub fn protect(&self, paths: Vec<PathBuf>) {
        self.0.protected.get_or_init(|| paths);
    }

    /// What starts its programs behind a wall; nothing in a process that has none, as that of a test.
    pub fn sandbox(&self) -> Option<&Arc<Sandbox>> {
        self.0.sandbox.get()
    }

    /// Says what wall there is; once, before the script starts.
    pub fn confine(&self, sandbox: Arc<Sandbox>) {
        self.0.sandbox.get_or_init(|| sandbox);
    }

    /// The effects of the plan it carries out, if it does.
    pub fn expected(&self) -> Option<&Expected> {
        self.0.expected.get()
    }

    /// Takes a step of the plan for done: a run that goes on had its effects before.
    pub fn was_done(&self, step: &str) {
        if let Some(expected) = self.expected() {
            expected.skip(step);
        }
    }

    /// Names the effects of the plan it carries out; once, before the script starts.
    pub fn expect(&self, expected: Expected) {
        self.0.expected.get_or_init(|| expected);
    }

    /// The secrets it was given.
    pub fn secrets(&self) -> &Secrets {
        &self.0.secrets
    }

    /// Where it is written down.
    pub fn recorder(&self) -> &dyn Recorder {
        &*self.0.recorder
    }

    /// Its stop signal.
    pub fn stop(&self) -> &Stop {
        &self.0.stop
    }

    /// The time now. The only clock of host functions, so that it can be recorded.
    #[expect(clippy::disallowed_methods, reason = "this is the one home of the clock")]
    pub fn now(&self) -> Timestamp {
        self.0.clock.get().map_or_else(Timestamp::now, Clock::now)
    }

    /// Stops the clock at this moment; once, before the script starts.
    pub fn stop_clock(&self, at: Timestamp) {
        self.0.clock.get_or_init(|| Clock { at: Mutex::new(at) });
    }

    /// Whether nobody waits here: in a plan, and in a test, whose clock goes on by this instead.
    pub fn skips(&self, pause: Duration) -> bool {
        if let Some(clock) = self.0.clock.get() {
            clock.go_on(pause);
        }
        self.mode() != Mode::Apply
    }

    /// The runtime that drives the async clients; made at the first wait, since many runs need none.
    ///
    /// # Errors
    ///
    /// `limit`, when the machine gives no threads.
    pub fn runtime(&self) -> Result<&Runtime> {
        let made = self
            .0
            .runtime
            .get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("host").enable_all().build());
        made.as_ref().map_err(|error| Error::new(Kind::Limit, format!("no runtime for host calls: {error}")))
    }

    /// What a host module keeps for the length of a run: pools, clients. Made when first asked for.
    pub fn state<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut states = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default())).clone();
        drop(states);
        state.downcast().unwrap_or_else(|_| Arc::new(T::default()))
    }
}
