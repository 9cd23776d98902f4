//! Runbooks inside of another program. This module is the public API of the library; everything else that is
//! `pub` is for this repository and may change with any release.
//!
//! It is a command without a command line: [`Start::follow`] does what `runbook run` does, with
//! the same settings, permissions, secrets, locks and record, and prints nothing.
//!
//! A run is a process of its own, the worker. The program that embeds the library is its own worker: it
//! begins its `main` with [`worker`], which tells the library the host modules it adds, and does the work
//! when this process was started for that.
//!
//! ```standalone_crate
//! use std::process::ExitCode;
//!
//! use runbook::embed::{self, EventKind, Extension, RunState, Runbooks};
//!
//! fn main() -> ExitCode {
//!     if let Some(code) = embed::worker(Extension::NONE) {
//!         return code;
//!     }
//!     let place = std::env::temp_dir().join(format!("runbook-embed-{}", std::process::id()));
//!     std::fs::create_dir_all(place.join("runbooks")).unwrap();
//!     let text = "runbook(#{ title: \"Greet\", params: #{ name: #{} } }); step(\"greet\", || `hello ${params::name}`);";
//!     std::fs::write(place.join("runbooks/greet.rhai"), text).unwrap();
//!
//!     let runbooks = Runbooks::builder().project(&place).state_dir(place.join("state")).build().unwrap();
//!     let mut steps = 0;
//!     let run = runbooks.run("greet").param("name", "Maya").follow(|_, event| {
//!         steps += usize::from(matches!(event.kind, EventKind::StepEnded { .. }));
//!     });
//!
//!     let run = run.unwrap();
//!     assert_eq!((run.status, steps), (RunState::Succeeded, 1));
//!     assert_eq!(run.steps[0].value, "hello Maya");
//!     std::fs::remove_dir_all(&place).unwrap();
//!     ExitCode::SUCCESS
//! }
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::cli::app::App;
use crate::cli::office::Office;
use crate::cli::{Color, Global, commit, params, run as command};
use crate::host::{Stop, extend};
use crate::model::Origin;
use crate::run::outbox::deliver_due;
use crate::run::process::{Children, declare};
use crate::run::{Faults, Request, Supervisor, Worker};
use crate::script::{Given, check_params};

#[doc(inline)]
pub use crate::error::{Error, Kind, Place, Result};
#[doc(inline)]
pub use crate::host::permission::{Access, ObjectKind, Section};
#[doc(inline)]
pub use crate::host::{Call, Extension, Function, HostModule, RhaiResultOf, Secret, SecretText};
#[doc(inline)]
pub use crate::model::{
    Check, Danger, Effect, Event, EventKind, Level, Outcome, Run, RunId, RunState, Size, Span, Step, StepState, Trigger, WhenLocked,
};
#[doc(inline)]
pub use crate::run::Control;

/// Begins the `main` of a program that runs runbooks: makes its own host modules known, and does the work of
/// a run when this process was started as its worker. The program ends with the exit code then.
///
/// It has to be called before anything else of the library, before threads are started, and with the same
/// modules every time.
#[must_use = "a worker must end with this exit code"]
pub fn worker(extension: Extension) -> Option<ExitCode> {
    extend(extension);
    declare(Children::OfAnother);
    super::is_worker().then(|| ExitCode::from(crate::run::worker::main()))
}

/// How long the messages of a run may take after its end.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(10);

/// Where runbooks, settings and the record are.
#[derive(Debug, Default)]
pub struct Builder {
    project: Option<PathBuf>,
    state: Option<PathBuf>,
}

impl Builder {
    /// The directory with `runbook.toml` and `runbooks/`, or one below it; the working directory when absent.
    #[must_use]
    pub fn project(mut self, directory: impl Into<PathBuf>) -> Self {
        self.project = Some(directory.into());
        self
    }

    /// Where runs are recorded, an absolute path; it is made when it is not there. As for the command when
    /// absent: `RUNBOOK_STATE_DIR`, or below the home directory.
    #[must_use]
    pub fn state_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state = Some(directory.into());
        self
    }

    /// Reads the settings.
    ///
    /// # Errors
    ///
    /// `config`, when they are wrong, or the state directory is not its owner's alone.
    pub fn build(self) -> Result<Runbooks> {
        let global = Global { directory: self.project, quiet: true, no_input: true, color: Color::Never, ..Global::default() };
        let mut app = App::new(global, false);
        if let Some(state) = self.state {
            let text = state.to_str().ok_or_else(|| Error::new(Kind::Config, format!("`{}` is not UTF-8", state.display())))?;
            app.environment = app.environment.with("RUNBOOK_STATE_DIR", text);
        }
        app.project()?;
        app.state()?;
        Ok(Runbooks(app))
    }
}

/// The runbooks of a project, and the record of their runs.
pub struct Runbooks(App);

impl Runbooks {
    /// Says where they are.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The names of the runbooks, the built-in ones included.
    ///
    /// # Errors
    ///
    /// `config`, when the settings are wrong.
    pub fn names(&self) -> Result<Vec<String>> {
        Ok(self.0.library()?.names())
    }

    /// A run of this runbook; nothing happens before [`Start::follow`].
    pub fn run(&self, name: &str) -> Start<'_> {
        Start {
            app: &self.0,
            name: name.to_owned(),
            system: None,
            params: BTreeMap::new(),
            by: "embedded".to_owned(),
            timeout: None,
            when_locked: None,
            person: None,
            yes: false,
            control: None,
        }
    }
}

/// A run that is about to start.
#[must_use = "nothing runs before `follow`"]
pub struct Start<'a> {
    app: &'a App,
    name: String,
    system: Option<String>,
    params: BTreeMap<String, Given>,
    by: String,
    timeout: Option<Duration>,
    when_locked: Option<WhenLocked>,
    person: Option<String>,
    yes: bool,
    control: Option<Box<dyn FnOnce(Control) + 'a>>,
}

impl<'a> Start<'a> {
    /// The system it runs for; the default one of the settings when absent.
    pub fn system(mut self, name: &str) -> Self {
        self.system = Some(name.to_owned());
        self
    }

    /// Sets a parameter. A text is read as on the command line, so `"5m"` is a duration; the value of one of
    /// type `secret` is masked everywhere.
    pub fn param(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params.insert(name.to_owned(), Given::of(value.into()));
        self
    }

    /// Who starts it, for the record; `embedded` when absent.
    pub fn by(mut self, who: &str) -> Self {
        self.by = who.to_owned();
        self
    }

    /// Stops it after this time; as the header and the settings say when absent.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// What to do when another run holds its lock; as the header says when absent.
    pub fn when_locked(mut self, when: WhenLocked) -> Self {
        self.when_locked = Some(when);
        self
    }

    /// A person watches over it, of this account: what `[policy.attended]` and the roles say of them holds. Otherwise it
    /// is unattended, and runs by the account of the program.
    pub fn attended(mut self, account: &str) -> Self {
        self.person = Some(account.to_owned());
        self
    }

    /// The person who watches over it says yes to a runbook that is destructive; it is refused without.
    pub fn yes(mut self) -> Self {
        self.yes = true;
        self
    }

    /// Hands out, as soon as the run is recorded, what can stop it from another thread.
    pub fn control(mut self, take: impl FnOnce(Control) + 'a) -> Self {
        self.control = Some(Box::new(take));
        self
    }

    /// Runs it to its end; `watch` sees every event after it was applied to the run. How it ended is in the
    /// run, and durable; a run that failed is no error.
    ///
    /// # Errors
    ///
    /// When it could not be started: `usage`, `config`, `script`, `not_started`; or `store`, when it could not
    /// be recorded to its end.
    pub fn follow(self, mut watch: impl FnMut(&Run, &Event)) -> Result<Run> {
        let app = self.app;
        let worker = Worker::start(&command::this_binary()?)?;
        let commit = commit::of(app.library()?.find(&self.name)?.file);
        let script = app.script(&self.name)?;
        let script = command::passed(script)?;
        if script.header.danger == Danger::Destructive && !self.yes {
            return Err(Error::new(Kind::NotStarted, format!("`{}` is destructive", script.name)).hint("`yes` says that it is meant"));
        }
        let system = app.system(self.system.as_deref())?;
        let mut given = self.params;
        let secret_params = params::secrets_of(&mut given, &script.header);
        let (shown, _) = check_params(&script.header, &given)?;
        let (state, store) = app.store()?;
        let program = app.origin();
        let asked = command::Asked {
            origin: self.person.map_or(program, |account| Origin { trigger: Trigger::Command, account }),
            params: command::plain_params(&script, &given, &shown),
            shown,
            secret_params,
            commit: commit.and_then(|asked| asked.join().ok().flatten()),
            timeout: self.timeout.map(Span),
            when_locked: self.when_locked,
            plan: None,
            faults: Faults::default(),
            system,
            script,
        };
        let request = Request { by: self.by, ..asked.for_run(app, &state, &store, self.yes)? };
        let addresses = request.addresses.clone();
        let desk = Office { app, state: &state, store: &store, yes: self.yes };
        let supervisor = Supervisor::start(&store, &state, &desk, worker, request, None)?;
        if let Some(take) = self.control {
            take(supervisor.control());
        }
        let run = supervisor.follow(&mut watch)?;
        // What can not be delivered now stays in the outbox, for the next run or `runbook run`.
        let _ = deliver_due(&store, &state, &addresses, &Stop::new(None), DELIVERY_PATIENCE);
        Ok(run)
    }
}
