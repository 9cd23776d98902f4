//! `runbook secret`: sets, lists and checks secrets. None of them is ever printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use clap::Subcommand;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::cli::app::{App, secret_value};
use crate::cli::terminal::{BAD, DIM, GOOD, STRONG, styled, table};
use crate::config::{BUILTIN, KeyPlace, Problems, Right, SecretSource};
use crate::error::{Error, Kind, Result};
use crate::host::secrets::names_in;
use crate::store::audit::{self, audited};
use crate::store::{Keys, Vault, is_name, keep_keys};

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
    /// Make a new key, and encrypt every secret that was set here with it
    RotateKey,
}

impl Args {
    /// What the audit log calls it.
    pub(super) fn acts(&self) -> &'static [audit::Action] {
        match self.action {
            Action::Set { .. } => &[audit::Action::SetSecret],
            Action::Rm { .. } => &[audit::Action::RemoveSecret],
            Action::RotateKey => &[audit::Action::RotateKey],
            Action::List | Action::Check => &[],
        }
    }
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
        Action::Set { name } => set(&name, app),
        Action::Rm { name } => remove(&name, app),
        Action::List => list(app),
        Action::Check => check(app),
        Action::RotateKey => rotate(app),
    }
}

fn set(name: &str, app: &App) -> Result<u8, Problems> {
    check_name(name)?;
    let (state, store) = app.store()?;
    app.permit(&store, Right::Manage, "", None)?;
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
            .hint("a shorter one could not be masked in outputs; nothing was changed")
            .into());
    }
    let place = KeyPlace::find(&app.environment)?;
    let _turn = turn(&place)?;
    let keys = match keys(&place)? {
        Some(keys) => keys,
        None => {
            let keys = Keys::fresh()?;
            keep_keys(&place.file, &keys)?;
            app.terminal.say(&format!("a key was made: {}     keep a copy of it, apart from backups of the state", place.file.display()));
            keys
        }
    };
    audited(&store, &app.act(audit::Action::SetSecret, name, ""), || Vault::of(&state).set(name, &value, &keys))?;
    app.terminal.say(&format!("secret `{name}` is set     which systems need it: runbook secret list"));
    Ok(0)
}

fn keys(place: &KeyPlace) -> Result<Option<Keys>> {
    place.read()?.map(Zeroizing::new).map(|text| Keys::read(&text)).transpose()
}

/// Nobody else sets a secret or makes a key meanwhile; it ends with the process at the latest.
fn turn(place: &KeyPlace) -> Result<File> {
    let directory = place.file.parent().unwrap_or(Path::new("/"));
    let failed = |error: &std::io::Error| Error::because(Kind::Config, format_args!("`{}`", directory.display()), error);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| failed(&error))?;
    let turn = File::open(directory).map_err(|error| failed(&error))?;
    flock(&turn, FlockOperation::LockExclusive).map_err(|error| failed(&error.into()))?;
    Ok(turn)
}

/// The old key goes when nothing needs it any more; where this is cut off, both are there and the next one goes on.
fn rotate(app: &App) -> Result<u8, Problems> {
    let (state, store) = app.store()?;
    app.permit(&store, Right::Manage, "", None)?;
    let vault = Vault::of(&state);
    let place = KeyPlace::find(&app.environment)?;
    let _turn = turn(&place)?;
    let keys = keys(&place)?.ok_or_else(|| {
        Error::new(Kind::Usage, format!("there is no key at `{}`", place.file.display())).hint("the first `runbook secret set` makes one")
    })?;
    let act = app.act(audit::Action::RotateKey, "secrets", "");
    if place.is_credential {
        let count = audited(&store, &act, || vault.reseal(&keys))?;
        app.terminal.say(&format!("{count} secrets are encrypted with the first key of the credential; the others can be removed from it"));
        return Ok(0);
    }
    let count = audited(&store, &act, || {
        let keys = keys.renewed()?;
        keep_keys(&place.file, &keys)?;
        let count = vault.reseal(&keys)?;
        keep_keys(&place.file, &keys.first())?;
        Ok(count)
    })?;
    app.terminal.say(&format!("{count} secrets are encrypted with a new key: {}     keep a copy of it", place.file.display()));
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
    if is_name(name) {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("`{}` is no name of a secret", name.escape_default())).hint("use letters, digits, `-` and `_`"))
}

fn remove(name: &str, app: &App) -> Result<u8, Problems> {
    check_name(name)?;
    let (state, store) = app.store()?;
    app.permit(&store, Right::Manage, "", None)?;
    let missing = || Error::new(Kind::Usage, format!("no secret `{name}` was set here")).hint("`runbook secret list` shows them");
    audited(&store, &app.act(audit::Action::RemoveSecret, name, ""), || {
        if Vault::of(&state).remove(name)? { Ok(()) } else { Err(missing()) }
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
    for name in Vault::of(&state).names()?.into_iter().chain(project.settings.secrets.keys().cloned()) {
        needed.entry(name).or_default();
    }
    let look = |(name, systems): (String, BTreeSet<String>)| {
        let source = project.settings.secrets.get(&name).map_or_else(|| "set here".to_owned(), place);
        let (state, source, problem) = match secret_value(project, &state, &app.environment, &name) {
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
