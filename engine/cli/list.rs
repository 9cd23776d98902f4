//! `runbook list`: what is there, with the last result.

use serde::Serialize;

use crate::cli::app::App;
use crate::cli::history::ago;
use crate::cli::terminal::{DIM, STRONG, styled, table};
use crate::config::Problems;
use crate::error::Result;
use crate::model::{RunState, Span};
use crate::store::{Filter, Store, Summary};
use crate::words;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only those with this tag
    #[arg(long)]
    tag: Option<String>,
    /// Only those whose last run failed
    #[arg(long)]
    failing: bool,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    title: String,
    tags: Vec<String>,
    path: String,
    broken: Option<String>,
    last: Option<Summary>,
}

/// How many runs the bars show.
const BARS: u32 = 12;

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let library = app.library()?;
    let (_, store) = app.store()?;
    let mut entries = Vec::new();
    for name in library.names() {
        let found = library.find(&name)?;
        let (title, tags, broken) = match app.script(&name) {
            Ok(script) => (script.header.title, script.header.tags, None),
            Err(problems) => (String::new(), Vec::new(), problems.errors.first().map(ToString::to_string)),
        };
        let past = store.list(&Filter { runbook: Some(name.clone()), limit: BARS, ..Filter::default() })?;
        entries.push((Entry { name, title, tags, path: found.path, broken, last: past.first().cloned() }, past));
    }
    let failing = |entry: &Entry| entry.broken.is_some() || entry.last.as_ref().is_some_and(|run| is_bad(run.status));
    entries.retain(|(entry, _)| args.tag.as_ref().is_none_or(|tag| entry.tags.contains(tag)) && (!args.failing || failing(entry)));
    if app.json {
        app.answer_json(&entries.iter().map(|(entry, _)| entry).collect::<Vec<_>>())?;
        return Ok(0);
    }
    let mut rows = vec![["NAME", "LAST RUN", "TOOK", "LAST 12", "ABOUT"].map(|title| styled(DIM, title)).to_vec()];
    for (entry, past) in &entries {
        let last = entry.last.as_ref().map_or("–".to_owned(), |run| format!("{} {}", app.terminal.state(run.status), ago(run.started)));
        let took =
            entry.last.as_ref().filter(|run| run.ended.is_some()).map_or(String::new(), |run| Span::millis(run.duration_ms).to_string());
        let about = entry.broken.as_ref().map_or(entry.title.clone(), |why| styled(crate::cli::terminal::BAD, format!("broken: {why}")));
        rows.push(vec![styled(STRONG, &entry.name), last, took, bars(past, app), about]);
    }
    app.terminal.answer(&table(&rows));
    let bad = entries.iter().filter(|(entry, _)| failing(entry)).count();
    let next = entries
        .iter()
        .find(|(entry, _)| failing(entry))
        .map_or("run one: runbook run NAME".to_owned(), |(entry, _)| format!("why: runbook logs last:{}", entry.name));
    app.terminal.say(&styled(DIM, format!("{}, {bad} failing     {next}", words::count(entries.len(), "runbook"))));
    Ok(0)
}

fn is_bad(state: RunState) -> bool {
    matches!(state, RunState::Failed | RunState::TimedOut | RunState::Interrupted | RunState::NeedsAttention)
}

/// The newest run is on the right.
fn bars(past: &[Summary], app: &App) -> String {
    let bar = |run: &Summary| {
        use crate::cli::terminal::{BAD, GOOD, WARN};
        match run.status {
            RunState::Succeeded => app.terminal.symbol(GOOD, "▮", "+"),
            RunState::Warning => app.terminal.symbol(WARN, "▴", "!"),
            state if is_bad(state) => app.terminal.symbol(BAD, "▯", "x"),
            RunState::Running => app.terminal.symbol(STRONG, "●", "*"),
            _ => app.terminal.symbol(DIM, "·", "-"),
        }
    };
    past.iter().rev().map(bar).collect()
}
