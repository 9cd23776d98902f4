//! `runbook state`: copies the state, verifies copies, puts one back, removes what is old.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use crate::cli::app::App;
use crate::cli::audit::scope;
use crate::cli::history::now;
use crate::cli::terminal::{DIM, styled};
use crate::config::{Problems, Right, state_place};
use crate::error::{Error, Kind, Result};
use crate::model::{RunState, Size, Span};
use crate::run::daemon::{Holder, holder};
use crate::run::process::is_alive;
use crate::store::audit::{Action, failure};
use crate::store::{Backup, Filter, Retention, Sqlite, StateDir, Store, back_up, restore};
use crate::words::count;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Copy the state into a new directory, while runs go on; without secrets
    Backup {
        /// The directory, which is not there yet
        to: PathBuf,
    },
    /// Whether a copy is whole
    Verify {
        /// The directory of the copy
        path: PathBuf,
    },
    /// Put a copy in the place of the state; the old state stays beside it
    Restore {
        /// The directory of the copy
        path: PathBuf,
        /// Do not ask before the state is replaced
        #[arg(long)]
        yes: bool,
    },
    /// Remove runs, logs and files that are older than `[retention]` says
    Prune {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

impl Args {
    /// What the audit log calls it.
    pub(super) fn acts(&self) -> &'static [Action] {
        match self.action {
            Verb::Restore { .. } => &[Action::Restore],
            Verb::Prune { dry_run: false } => &[Action::Prune],
            Verb::Backup { .. } | Verb::Verify { .. } | Verb::Prune { dry_run: true } => &[],
        }
    }
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    Ok(match args.action {
        Verb::Backup { to } => backup(&app.directory().join(to), app)?,
        Verb::Verify { path } => verify(&app.directory().join(path), app)?,
        Verb::Restore { path, yes } => put_back(&app.directory().join(path), yes, app)?,
        Verb::Prune { dry_run } => return prune(dry_run, app),
    })
}

fn backup(to: &Path, app: &App) -> Result<u8> {
    let (state, store) = app.store()?;
    let (backup, seen) = back_up(&state, &store, to)?;
    let size = Size(backup.files.iter().map(|file| file.size).sum());
    if app.json {
        app.answer_json(&json!({ "path": to, "runs": seen.runs, "files": backup.files.len(), "bytes": size.0, "at": backup.at }))?;
    } else {
        let all = format!("{} in {}", count(seen.runs, "run"), count(backup.files.len() as u64, "file"));
        app.terminal.answer(&format!("{all}, {size}, verified: {}", to.display()));
    }
    Ok(0)
}

fn verify(path: &Path, app: &App) -> Result<u8> {
    let (backup, seen) = Backup::verify(path)?;
    if app.json {
        app.answer_json(&json!({ "at": backup.at, "version": backup.version, "audit": backup.audit, "seen": seen }))?;
    } else {
        app.terminal.answer(&format!("the copy of {} is whole: {}", backup.at.strftime("%Y-%m-%d %H:%M:%S UTC"), scope(&seen)));
    }
    Ok(0)
}

fn put_back(from: &Path, yes: bool, app: &App) -> Result<u8, Problems> {
    let place = state_place(&app.environment)?;
    let is_used = std::fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_some());
    app.project()?.settings.policy.permit(&app.origin(), Right::Manage, "", "")?;
    if is_used {
        refuse_served(&place)?;
        refuse_running(&place)?;
        confirm(&place, yes, app)?;
    }
    let act = app.act(Action::Restore, "state", format!("from {}", from.display()));
    // The state that goes says so too, when it still can.
    let old = Sqlite::open(&place.join(crate::store::DATABASE)).ok().filter(|_| is_used);
    if let Some(old) = &old {
        let _ = old.audit(&act.entry(None));
    }
    let put = restore(from, &place, |new| new.audit(&act.entry(None)).map(drop));
    if let (Some(old), Err(error)) = (&old, &put) {
        let _ = old.audit(&act.entry(Some(&failure(error))));
    }
    drop(old);
    let kept = put?;
    app.store()?.1.audit(&act.entry(Some("done")))?;
    if app.json {
        app.answer_json(&json!({ "state": place, "old": kept }))?;
        return Ok(0);
    }
    app.terminal.answer(&format!("the state is that of {}", from.display()));
    if let Some(kept) = kept {
        app.terminal.say(&styled(DIM, format!("the old one is {}; remove it when it is not needed", kept.display())));
    }
    Ok(0)
}

/// A daemon would go on with what was put aside.
fn refuse_served(place: &Path) -> Result<()> {
    match StateDir::open(place).ok().and_then(|state| holder(&state)) {
        Some(Holder { process, .. }) => {
            Err(Error::new(Kind::NotStarted, format!("the daemon of process {} serves it", process.pid)).hint("stop it first"))
        }
        None => Ok(()),
    }
}

/// A run that is under way would go on writing into what was put aside.
fn refuse_running(place: &Path) -> Result<()> {
    let states = vec![RunState::Running, RunState::Waiting, RunState::Queued];
    // A damaged state is what a restore is for.
    let runs = Sqlite::look(&place.join(crate::store::DATABASE)).and_then(|store| store.list(&Filter { states, ..Filter::default() }));
    let running = runs.unwrap_or_default().into_iter().find(|run| run.supervisor.is_some_and(is_alive));
    running.map_or(Ok(()), |run| {
        Err(Error::new(Kind::NotStarted, format!("run #{} is under way", run.run))
            .hint(format!("wait for it, or stop it: runbook cancel {}", run.run)))
    })
}

/// Asks for the name of what is replaced; never a bare `y`.
fn confirm(place: &Path, yes: bool, app: &App) -> Result<()> {
    if yes {
        return Ok(());
    }
    let name = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let refused = |message: String| Error::new(Kind::NotStarted, message).hint("`--yes` says that you mean it");
    if app.no_input || !app.terminal.can_ask() {
        return Err(refused(format!("`{}` holds a state, and nobody can be asked", place.display())));
    }
    let typed: String = dialoguer::Input::new()
        .with_prompt(format!("`{}` will be replaced. Type `{name}` to go on", place.display()))
        .allow_empty(true)
        .interact_text()
        .map_err(|error| Error::new(Kind::NotStarted, error.to_string()))?;
    if typed == name { Ok(()) } else { Err(refused(format!("`{typed}` is not `{name}`; nothing was done"))) }
}

fn prune(dry_run: bool, app: &App) -> Result<u8, Problems> {
    let keep = &app.project()?.settings.retention;
    let (state, store) = app.store()?;
    if !dry_run {
        app.permit(&store, Right::Manage, "", None)?;
    }
    let ago = |span: Span| span.before(now());
    let retention = Retention { before: ago(keep.runs), keep_min: keep.keep_min };
    let subject = format!("runs before {}", retention.before.strftime("%Y-%m-%d %H:%M:%S UTC"));
    let removed = if dry_run {
        store.prunable(&retention)?
    } else {
        let act = app.act(Action::Prune, subject, format!("keep {}, and {} of each runbook", keep.runs, keep.keep_min));
        store.audit(&act.entry(None))?;
        // The row after it is in the transaction that removes, since it says what is not missing.
        store.prune(&retention, &act.entry(Some("done"))).inspect_err(|error| drop(store.audit(&act.entry(Some(&failure(error))))))?
    };
    let files = files(&state, &store, &removed.runs, ago(keep.logs))?;
    if !dry_run {
        for directory in &files {
            std::fs::remove_dir_all(directory)
                .map_err(|error| Error::because(Kind::Store, format_args!("`{}` can not be removed", directory.display()), &error))?;
        }
        store.prune_parcels(ago(keep.logs))?;
        if !removed.runs.is_empty() {
            store.shrink()?;
        }
    }
    if app.json {
        app.answer_json(&json!({ "dry_run": dry_run, "runs": removed.runs, "audit": removed.audit, "files": files.len() }))?;
    } else {
        let verb = if dry_run { "would be removed" } else { "removed" };
        let [runs, files] = [removed.runs.len(), files.len()].map(|number| count(number as u64, "run"));
        app.terminal.answer(&format!("{verb}: {runs}, the logs and files of {files}, {} of the audit log", count(removed.audit, "row")));
    }
    Ok(0)
}

/// The directories of runs that are gone, or over for longer than logs are kept.
fn files(state: &StateDir, store: &Sqlite, removed: &[u64], before: jiff::Timestamp) -> Result<Vec<PathBuf>> {
    // Listed before the store is asked: a run is recorded before it has a directory.
    let directory = state.run(0).parent().map(Path::to_owned).unwrap_or_default();
    let names = std::fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let numbers: Vec<u64> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
    let mut old = Vec::new();
    for number in numbers {
        if removed.binary_search(&number).is_ok() || !store.keeps_files(number, before)? {
            old.push(state.run(number));
        }
    }
    Ok(old)
}
