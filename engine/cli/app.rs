//! What all commands share: the project, the store, the terminal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::cli::Global;
use crate::cli::exit;
use crate::cli::render;
use crate::cli::terminal::{Terminal, WARN, styled};
use crate::cli::{clearance, who};
use crate::config::{Environment, Flags, KeyPlace, Library, Loaded, Problems, Project, Right, state_place};
use crate::error::{Error, Kind, Result};
use crate::host::Permissions;
use crate::model::{Diagnostic, Module, Origin, System, Trigger};
use crate::run::recover;
use crate::script::{Script, stdlib};
use crate::store::audit::{Act, Action};
use crate::store::{Keys, Sqlite, StateDir, Store, Vault};

/// One command under way.
pub(super) struct App {
    pub(super) terminal: Terminal,
    pub(super) environment: Environment,
    pub(super) json: bool,
    pub(super) no_input: bool,
    /// Whether it changes nothing that is recorded.
    only_reads: bool,
    flags: Flags,
    project: OnceLock<Project>,
}

impl App {
    pub(super) fn new(global: Global, only_reads: bool) -> Self {
        let environment = Environment::of_process();
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| environment.get(name).filter(|value| !value.is_empty()));
        let here = PathBuf::from(".");
        let directory = global.directory.unwrap_or_else(|| std::env::current_dir().unwrap_or(here));
        Self {
            terminal: Terminal::new(global.quiet, locale),
            json: global.json,
            no_input: global.no_input,
            only_reads,
            flags: Flags { directory, config: global.config, ..Flags::default() },
            project: OnceLock::new(),
            environment,
        }
    }

    /// The directory the command works in.
    pub(super) fn directory(&self) -> &Path {
        &self.flags.directory
    }

    /// The settings file that was named.
    pub(super) fn config(&self) -> Option<&Path> {
        self.flags.config.as_deref()
    }

    /// The project of the working directory.
    pub(super) fn project(&self) -> Result<&Project, Problems> {
        if let Some(project) = self.project.get() {
            return Ok(project);
        }
        let project = Project::find(&self.environment, &self.flags)?;
        tracing::info!(root = %project.root.display(), "project");
        Ok(self.project.get_or_init(|| project))
    }

    /// The runbooks of the project and the built-in ones.
    pub(super) fn library(&self) -> Result<Library, Problems> {
        Ok(Library::of(self.project()?))
    }

    /// A runbook, read.
    pub(super) fn script(&self, name: &str) -> Result<Script, Problems> {
        let library = self.library()?;
        let found = library.find(name)?;
        Script::read(&found.name, &found.path, &found.text, |path| library.module(path)).map_err(|error| {
            let mut problems = Problems::from(error);
            problems.texts.insert(found.path.clone(), found.text.clone());
            problems
        })
    }

    /// The system of this name, or the default one.
    pub(super) fn system(&self, name: Option<&str>) -> Result<System, Problems> {
        let project = self.project()?;
        let name = name.unwrap_or(&project.settings.default_system);
        let Loaded { system, warnings, .. } = project.systems(&self.environment).load(name)?;
        for warning in warnings {
            self.terminal.say(&format!("{} {warning}", styled(WARN, "warning:")));
        }
        Ok(system)
    }

    /// What a runbook may touch for a system, attended or not: its header, capped by the policy.
    pub(super) fn permissions(&self, script: &Script, system: &System, attended: bool) -> Result<Permissions, Problems> {
        self.permissions_for(&script.header.allow, system, attended)
    }

    /// The same for what is asked for without a script.
    pub(super) fn permissions_for(
        &self,
        asked: &BTreeMap<String, Value>,
        system: &System,
        attended: bool,
    ) -> Result<Permissions, Problems> {
        let policy = &self.project()?.settings.policy;
        let asked = Permissions::read(asked, system)?.capped(policy.allow.as_ref(), &policy.deny, system)?;
        let (table, caps) = policy.caps(attended);
        Ok(asked.capped_by(table, caps.allow.as_ref(), &caps.deny, system)?)
    }

    /// Who is behind the command: a person when one can be asked, else a program of theirs.
    pub(super) fn origin(&self) -> Origin {
        let is_attended = !self.no_input && self.terminal.can_ask();
        let trigger = if is_attended { Trigger::Command } else { Trigger::Program };
        Origin { trigger, account: who::person(&self.environment) }
    }

    /// Refuses what whoever is behind the command may not do, and has that on record.
    pub(super) fn permit(&self, store: &dyn Store, right: Right, runbook: &str, system: Option<&str>) -> Result<(), Problems> {
        let policy = &self.project()?.settings.policy;
        Ok(clearance::permit(policy, store, &self.origin(), right, runbook, system.unwrap_or_default())?)
    }

    /// The state directory.
    pub(super) fn state(&self) -> Result<StateDir> {
        StateDir::open(&state_place(&self.environment)?)
    }

    /// The store in it; one that can not be written where the command says that it only reads.
    pub(super) fn store(&self) -> Result<(StateDir, Sqlite)> {
        let state = self.state()?;
        let store = Sqlite::open(&state.database())?;
        tracing::info!(state = %state.root().display(), "store");
        for number in recover(&store)? {
            self.terminal.say(&format!("{} run #{number} was interrupted     runbook resume {number}", styled(WARN, "warning:")));
        }
        if self.only_reads {
            store.only_read()?;
        }
        Ok((state, store))
    }

    /// The person behind the command, as the environment calls them; else by their account.
    pub(super) fn who(&self) -> String {
        let called = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| self.environment.get(name));
        called.map_or_else(|| who::person(&self.environment), str::to_owned)
    }

    /// What the person is about to do, for the audit log.
    pub(super) fn act(&self, action: Action, subject: impl Into<String>, why: impl Into<String>) -> Act {
        Act { who: self.who(), action, subject: subject.into(), why: why.into() }
    }

    /// Prints an answer as JSON.
    pub(super) fn answer_json(&self, value: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
        self.terminal.answer(&text);
        Ok(())
    }

    /// Tells why a command failed; returns its exit code.
    pub(super) fn complain(&self, problems: &Problems) -> u8 {
        for error in &problems.errors {
            self.terminal.insist(&self.render(error, problems));
        }
        problems.errors.first().map_or(70, exit::of)
    }

    fn render(&self, error: &Error, problems: &Problems) -> String {
        let text = |file: &str| problems.texts.get(file).cloned().or_else(|| self.source(file));
        render::error(error, &text, true)
    }

    /// An error of a run, with the lines of the texts it was made of.
    pub(super) fn error_text(&self, error: &Error, modules: &[Module]) -> String {
        let text = |file: &str| modules.iter().find(|module| module.name == file).map(|module| module.text.clone());
        render::error(error, &text, true)
    }

    /// The text of a script by the name an error has for it.
    pub(super) fn source(&self, file: &str) -> Option<String> {
        if let Some(text) = stdlib(file) {
            return Some(text.to_owned());
        }
        let library = self.library().ok()?;
        let name = file.strip_prefix("built-in/").unwrap_or(file);
        let is_script = name.ends_with(".rhai");
        let found =
            if is_script && name != file { library.find(name.trim_end_matches(".rhai")).ok().map(|found| found.text) } else { None };
        found.or_else(|| if is_script { std::fs::read_to_string(file).ok() } else { library.module(file) })
    }

    /// Shows findings of the check.
    pub(super) fn show_findings(&self, findings: &[Diagnostic], script: &Script) {
        let text = |file: &str| if file == script.path { Some(script.text.clone()) } else { script.modules.get(file).cloned() };
        for finding in findings {
            self.terminal.insist(&render::diagnostic(finding, &text, true));
        }
    }
}

/// The value of a secret, from where the settings say, or as it was set with `runbook secret set`; nothing
/// when it has none.
pub(super) fn secret_value(project: &Project, state: &StateDir, environment: &Environment, name: &str) -> Result<Option<String>> {
    match project.settings.secrets.get(name) {
        Some(source) => source.read(name, &project.root, environment).map(Some),
        None => stored_secret(state, environment, name),
    }
}

fn stored_secret(state: &StateDir, environment: &Environment, name: &str) -> Result<Option<String>> {
    let vault = Vault::of(state);
    if !vault.has(name) {
        return Ok(None);
    }
    let place = KeyPlace::find(environment)?;
    let text = place.read()?.map(Zeroizing::new).ok_or_else(|| {
        Error::new(Kind::Config, format!("secret `{name}` can not be opened: there is no key at `{}`", place.file.display()))
            .hint(format!("bring the key back, or set the secret again: `runbook secret set {name}`"))
    })?;
    vault.get(name, &Keys::read(&text)?).map(Some)
}
