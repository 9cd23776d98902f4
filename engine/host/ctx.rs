//! The context of a run: the only door of a host function to the world.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::error::{Error, Kind, Result};
use crate::host::sandbox::Sandbox;
use crate::host::{Permissions, Recorder, Secrets, Stop};
use crate::model::{RunId, System};

/// Whether effects are had or only told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Effects change the world.
    Apply,
    /// Effects are recorded; reads are live.
    Plan,
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
        Timestamp::now()
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
