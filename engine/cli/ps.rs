//! `runbook ps`: what runs, waits or is queued, and what does not go on without a person.

use crate::cli::app::App;
use crate::cli::history::{ago, now, started_by};
use crate::cli::report::visible;
use crate::cli::terminal::{DIM, STRONG, styled, table};
use crate::config::Problems;
use crate::error::Result;
use crate::model::{RunState, Span};
use crate::run::daemon::{Ask, Standing, ask, holder};
use crate::store::{Filter, Store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: Args, app: &App) -> Result<u8, Problems> {
    let (state, store) = app.store()?;
    let states = vec![RunState::Running, RunState::Waiting, RunState::Queued, RunState::Interrupted, RunState::NeedsAttention];
    let mut runs = store.list(&Filter { states, ..Filter::default() })?;
    for run in &mut runs {
        if run.status.is_over() {
            continue;
        }
        run.duration_ms = u64::try_from(now().duration_since(run.started).as_millis()).unwrap_or(0);
    }
    if app.json {
        app.answer_json(&runs)?;
        return Ok(0);
    }
    if runs.is_empty() {
        app.terminal.say("nothing runs; `runbook history` shows what ran");
        return Ok(0);
    }
    // What only the daemon knows: why a run waits.
    let queued = holder(&state).and_then(|_| ask::<Standing>(&state, Ask::Status).ok()).map(|standing| standing.queued);
    let why = |number: u64| queued.iter().flatten().find(|queued| queued.run == number)?.why.clone();
    let titles = ["RUN", "STATUS", "RUNBOOK", "SYSTEM", "STARTED", "FOR", "BY", "WHY"].map(|title| styled(DIM, title)).to_vec();
    let rows = runs.iter().map(|run| {
        vec![
            format!("#{}", run.run),
            format!("{} {}", app.terminal.state(run.status), run.status.name()),
            styled(STRONG, &run.runbook),
            run.system.clone().unwrap_or_default(),
            ago(run.started),
            Span::millis(run.duration_ms).to_string(),
            started_by(run),
            visible(&why(run.run).unwrap_or_default()),
        ]
    });
    app.terminal.answer(&table(&std::iter::once(titles).chain(rows).collect::<Vec<_>>()));
    app.terminal
        .say(&styled(DIM, "follow one: runbook logs RUN -f     stop one: runbook cancel RUN     let one go on: runbook resume RUN"));
    Ok(0)
}
