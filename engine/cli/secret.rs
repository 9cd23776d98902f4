//! `runbook secret`: sets, lists and checks secrets. None of them is ever printed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use clap::Subcommand;
use serde::Serialize;

use crate::cli::app::{App, stored_secret};
use crate::cli::terminal::{BAD, DIM, GOOD, STRONG, styled, table};
use crate::config::{BUILTIN, Problems, SecretSource};
use crate::error::{Error, Kind, Result};
use crate::host::secrets::names_in;
use crate::store::audit::{self, audited};
use crate::store::{StateDir, write_private};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Set a secret: typed unseen, or from standard input
    Set {
        /// What systems and runbooks call it
        name: String,
    },
    /// The secrets, where each comes from and which systems need it; never a value
    List,
    /// Forget a secret that was set here
    Rm {
        /// Its name
        name: String,
    },
    /// Whether every secret the systems need can be read
    Check,
}

/// A shorter one could not be masked without masking ordinary words.
const SHORTEST: usize = 6;
/// The longest secret; keys and certificates fit.
const LONGEST: u64 = 64 << 10;

/// A secret as it stands.
#[derive(Debug, Serialize)]
pub(super) struct Known {
    pub(super) name: String,
    /// `set`, `missing` or `broken`.
    pub(super) state: &'static str,
    /// Where it comes from.
    pub(super) source: String,
    /// Why it can not be read.
    pub(super) problem: Option<String>,
    /// The systems that refer to it.
    pub(super) systems: BTreeSet<String>,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    match args.action {
        Action::Set { name } => Ok(set(&name, app)?),
        Action::Rm { name } => Ok(remove(&name, app)?),
        Action::List => list(app),
        Action::Check => check(app),
    }
}

fn set(name: &str, app: &App) -> Result<u8> {
    check_name(name)?;
    let value = if app.terminal.can_ask() && !app.no_input {
        dialoguer::Password::new()
            .with_prompt(format!("secret `{name}`"))
            .with_confirmation("again", "these two are not the same")
            .interact()
            .map_err(|error| Error::new(Kind::Usage, error.to_string()))?
    } else {
        from_stdin()?
    };
    if value.chars().count() < SHORTEST {
        return Err(Error::new(Kind::Usage, format!("a secret has at least {SHORTEST} characters"))
            .hint("a shorter one could not be masked in outputs; nothing was changed"));
    }
    let (state, store) = app.store()?;
    audited(&store, &app.act(audit::Action::SetSecret, name, ""), || {
        write_private(&state.secrets(), name, value.as_bytes())
            .map_err(|error| Error::because(Kind::Store, format_args!("secret `{name}` can not be kept"), &error))
    })?;
    app.terminal.say(&format!("secret `{name}` is set     which systems need it: runbook secret list"));
    Ok(0)
}

fn from_stdin() -> Result<String> {
    let mut text = String::new();
    let failed = |error: std::io::Error| Error::because(Kind::Usage, "standard input", &error);
    std::io::stdin().take(LONGEST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LONGEST {
        return Err(Error::new(Kind::Usage, format!("a secret has at most {LONGEST} bytes")));
    }
    Ok(text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line)).to_owned())
}

fn check_name(name: &str) -> Result<()> {
    let fine =
        !name.is_empty() && name.len() <= 100 && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'));
    if fine {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("`{}` is no name of a secret", name.escape_default())).hint("use letters, digits, `-` and `_`"))
}

fn remove(name: &str, app: &App) -> Result<u8> {
    check_name(name)?;
    let (state, store) = app.store()?;
    audited(&store, &app.act(audit::Action::RemoveSecret, name, ""), || match std::fs::remove_file(state.secrets().join(name)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::new(Kind::Usage, format!("no secret `{name}` was set here")).hint("`runbook secret list` shows them"))
        }
        Err(error) => Err(Error::because(Kind::Store, format_args!("secret `{name}` can not be removed"), &error)),
    })?;
    app.terminal.say(&format!("secret `{name}` is forgotten"));
    Ok(0)
}

/// Every secret that is set, configured, or needed by a system of the project.
pub(super) fn known(app: &App) -> Result<Vec<Known>, Problems> {
    let project = app.project()?;
    let state = app.state()?;
    let mut needed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in needing(app)? {
        let Ok(loaded) = project.systems(&app.environment).load(&name) else { continue };
        let text = serde_json::to_string(&loaded.system).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
        for secret in names_in(&text) {
            needed.entry(secret.to_owned()).or_default().insert(name.clone());
        }
    }
    for name in stored(&state)?.into_iter().chain(project.settings.secrets.keys().cloned()) {
        needed.entry(name).or_default();
    }
    let look = |(name, systems): (String, BTreeSet<String>)| {
        let (source, value) = match project.settings.secrets.get(&name) {
            Some(source) => (place(source), source.read(&name, &project.root, &app.environment).map(Some)),
            None => ("set here".to_owned(), stored_secret(&state, &name)),
        };
        let (state, source, problem) = match value {
            Ok(Some(_)) => ("set", source, None),
            Ok(None) => ("missing", String::new(), Some(format!("runbook secret set {name}"))),
            Err(error) => ("broken", source, Some(error.message)),
        };
        Known { name, state, source, problem, systems }
    };
    Ok(needed.into_iter().map(look).collect())
}

/// The systems of the project itself and the default one; the other built-in ones are somebody else's.
pub(super) fn needing(app: &App) -> Result<Vec<String>, Problems> {
    let project = app.project()?;
    let own = |name: &String| {
        let is_builtin = BUILTIN.iter().any(|(builtin, _)| builtin == name);
        !is_builtin || *name == project.settings.default_system || project.runbooks().join("systems").join(format!("{name}.toml")).exists()
    };
    Ok(project.systems(&app.environment).names().into_iter().filter(own).collect())
}

fn stored(state: &StateDir) -> Result<Vec<String>> {
    match std::fs::read_dir(state.secrets()) {
        Ok(entries) => {
            Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| check_name(name).is_ok()).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::because(Kind::Store, "the secrets can not be listed", &error)),
    }
}

fn place(source: &SecretSource) -> String {
    let program = source.command.as_ref().and_then(|command| command.first());
    [
        source.file.as_ref().map(|file| format!("file {file}")),
        source.env.as_ref().map(|name| format!("${name}")),
        source.credential.as_ref().map(|name| format!("credential {name}")),
        // Its arguments are left out: people put passwords there.
        program.map(|program| format!("program {program}")),
    ]
    .into_iter()
    .flatten()
    .next()
    .unwrap_or_default()
}

fn list(app: &App) -> Result<u8, Problems> {
    let all = known(app)?;
    if app.json {
        app.answer_json(&all)?;
    } else if all.is_empty() {
        app.terminal.say("no secrets, and no system that needs one; set one with `runbook secret set NAME`");
    } else {
        app.terminal.answer(&listing(&all, app));
    }
    Ok(0)
}

fn listing(all: &[Known], app: &App) -> String {
    let titles = ["NAME", "STATE", "FROM", "SYSTEMS", "NOTE"].map(|title| styled(DIM, title)).to_vec();
    let row = |secret: &Known| {
        let symbol = if secret.state == "set" { app.terminal.symbol(GOOD, "✔", "ok") } else { app.terminal.symbol(BAD, "✖", "x") };
        vec![
            styled(STRONG, &secret.name),
            format!("{symbol} {}", secret.state),
            secret.source.clone(),
            secret.systems.iter().cloned().collect::<Vec<_>>().join(", "),
            secret.problem.clone().unwrap_or_default(),
        ]
    };
    table(&std::iter::once(titles).chain(all.iter().map(row)).collect::<Vec<_>>())
}

fn check(app: &App) -> Result<u8, Problems> {
    let all = known(app)?;
    let bad: Vec<&Known> = all.iter().filter(|secret| secret.state != "set").collect();
    if app.json {
        app.answer_json(&all)?;
    } else if bad.is_empty() {
        app.terminal.answer(&format!("{} secrets, all of them can be read", all.len()));
    } else {
        app.terminal.answer(&listing(&all, app));
        app.terminal.say(&format!("{} of {} can not be read", bad.len(), all.len()));
    }
    Ok(u8::from(!bad.is_empty()))
}
