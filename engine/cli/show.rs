//! `runbook show`: what a runbook does, takes and may touch.

use serde::Serialize;

use crate::cli::app::App;
use crate::cli::history::ago;
use crate::cli::plain::short;
use crate::cli::schedule;
use crate::cli::terminal::{DIM, STRONG, styled, table};
use crate::config::Problems;
use crate::error::Result;
use crate::host::Permissions;
use crate::host::permission::{Grant, in_words};
use crate::model::{Header, Param, RunState, Span};
use crate::store::{Filter, Store, Summary};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The runbook
    #[arg(add = crate::cli::complete::runbooks())]
    name: String,
    /// The system whose names the permissions are shown with
    #[arg(short, long, add = crate::cli::complete::systems())]
    system: Option<String>,
    /// Show what holds for runs nobody watches over
    #[arg(long)]
    unattended: bool,
    /// Print the script instead
    #[arg(long)]
    source: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    path: &'a str,
    version: String,
    manual: &'a str,
    header: &'a Header,
    system: &'a str,
    permissions: Vec<Permission<'a>>,
    /// When it starts by itself, for this system.
    schedules: &'a [schedule::Starts],
}

#[derive(Serialize)]
pub(super) struct Permission<'a> {
    #[serde(flatten)]
    grant: &'a Grant,
    words: String,
}

impl<'a> Permission<'a> {
    /// Each that a run has.
    pub(super) fn all(permissions: &'a Permissions) -> Vec<Self> {
        permissions.effective().map(|grant| Self { grant, words: in_words(grant) }).collect()
    }
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let script = app.script(&args.name)?;
    if args.source {
        app.terminal.answer(&script.text);
        return Ok(0);
    }
    let system = app.system(args.system.as_deref())?;
    let permissions = app.permissions(&script, &system, !args.unattended)?;
    let starts = schedule::of_runbook(app, &script.name, &system.name)?;
    if app.json {
        app.answer_json(&Shown {
            name: &script.name,
            path: &script.path,
            version: script.version(),
            manual: &script.manual,
            header: &script.header,
            system: &system.name,
            permissions: Permission::all(&permissions),
            schedules: &starts,
        })?;
        return Ok(0);
    }
    let mut text = format!("{} {}  {}\n", styled(STRONG, &script.name), styled(DIM, script.version()), styled(DIM, &script.path));
    text.push_str(&format!("{}\n", if script.manual.is_empty() { &script.header.title } else { script.manual.trim_end() }));
    if !script.header.params.is_empty() {
        let rows: Vec<Vec<String>> = script.header.params.iter().map(|(name, param)| parameter(name, param)).collect();
        text.push_str(&format!("\n{}\n{}\n", styled(STRONG, "Parameters"), table(&rows)));
    }
    text.push_str(&format!("\n{}", may(&permissions, &system.name)));
    let limit = script.header.timeout.map_or("the settings' limit".to_owned(), |timeout| timeout.to_string());
    text.push_str(&format!("\n{}  within {limit}\n", styled(STRONG, "Ends")));
    if let Some(lock) = &script.header.lock {
        let when = script.header.when_locked;
        text.push_str(&format!("{}  `{lock}` while it runs   {}\n", styled(STRONG, "Holds"), styled(DIM, format!("when locked: {when}"))));
    }
    for start in &starts {
        text.push_str(&format!("{}  {}\n", styled(STRONG, "Starts"), start.in_words()));
    }
    text.push_str(&past(app, &script.name)?);
    app.terminal.answer(&text);
    app.terminal.say(&styled(DIM, format!("run it: runbook run {}", script.name)));
    Ok(0)
}

/// What a run may touch, in words.
pub(super) fn may(permissions: &Permissions, system: &str) -> String {
    let mut text = format!("{} {}\n", styled(STRONG, "May"), styled(DIM, format!("for system {system}")));
    let mut grants = permissions.effective().peekable();
    if grants.peek().is_none() {
        text.push_str("  touch nothing\n");
    }
    for grant in grants {
        text.push_str(&format!("  {}\n", in_words(grant)));
    }
    if permissions.is_capped() {
        text.push_str(&styled(DIM, "  and no more than [policy] of runbook.toml allows\n"));
    }
    text
}

fn parameter(name: &str, param: &Param) -> Vec<String> {
    let need = match (&param.def, param.required) {
        (_, true) => "required".to_owned(),
        (Some(def), _) => format!("default {}", short(def)),
        (None, _) => String::new(),
    };
    let range = match (&param.min, &param.max) {
        (Some(min), Some(max)) => format!("({}..{})", short(min), short(max)),
        (Some(min), None) => format!("(from {})", short(min)),
        (None, Some(max)) => format!("(up to {})", short(max)),
        (None, None) if !param.of.is_empty() => format!("({})", param.of.join(", ")),
        (None, None) => String::new(),
    };
    vec![format!("  {name}"), param.kind.name().to_owned(), need, range, param.help.clone()]
}

fn past(app: &App, name: &str) -> Result<String> {
    let (_, store) = app.store()?;
    let runs = store.list(&Filter { runbook: Some(name.to_owned()), limit: 30, ..Filter::default() })?;
    let Some(last) = runs.first() else { return Ok(String::new()) };
    let good = runs.iter().filter(|run| matches!(run.status, RunState::Succeeded | RunState::Warning)).count();
    let mut took: Vec<u64> = runs.iter().filter(|run| run.ended.is_some()).map(|run: &Summary| run.duration_ms).collect();
    took.sort_unstable();
    let median = took.get(took.len() / 2).map(|median| format!("   median {}", Span::millis(*median))).unwrap_or_default();
    Ok(format!(
        "{}  last {}: {good} good{median}   last run {} {}\n",
        styled(STRONG, "History"),
        runs.len(),
        last.status.name(),
        ago(last.started)
    ))
}
