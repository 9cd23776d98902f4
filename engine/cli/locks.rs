//! `runbook locks`: which run holds which lock.

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::app::App;
use crate::cli::history::ago;
use crate::cli::report::visible;
use crate::cli::terminal::{DIM, GOOD, STRONG, WARN, styled, table};
use crate::config::Problems;
use crate::run::lock::{Owner, owners};

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// A lock as it stands.
#[derive(Debug, Serialize)]
struct Lock {
    lock: String,
    /// `held`, or `left` by a run that was cut off.
    state: &'static str,
    run: u64,
    runbook: String,
    by: String,
    since: Timestamp,
}

impl From<Owner> for Lock {
    fn from(owner: Owner) -> Self {
        let state = if owner.holds() { "held" } else { "left" };
        let Owner { lock, run, runbook, by, since, .. } = owner;
        Self { lock, state, run, runbook, by, since }
    }
}

pub(super) fn run(_: Args, app: &App) -> Result<u8, Problems> {
    let locks: Vec<Lock> = owners(&app.state()?)?.into_iter().map(Lock::from).collect();
    if app.json {
        app.answer_json(&locks)?;
        return Ok(0);
    }
    if locks.is_empty() {
        app.terminal.say("no run holds a lock");
        return Ok(0);
    }
    let titles = ["LOCK", "STATE", "RUN", "RUNBOOK", "SINCE", "BY"].map(|title| styled(DIM, title)).to_vec();
    let rows = locks.iter().map(|lock| {
        let symbol = if lock.state == "held" { app.terminal.symbol(GOOD, "●", "*") } else { app.terminal.symbol(WARN, "▲", "!") };
        vec![
            styled(STRONG, visible(&lock.lock)),
            format!("{symbol} {}", lock.state),
            format!("#{}", lock.run),
            lock.runbook.clone(),
            ago(lock.since),
            lock.by.clone(),
        ]
    });
    app.terminal.answer(&table(&std::iter::once(titles).chain(rows).collect::<Vec<_>>()));
    if let Some(left) = locks.iter().find(|lock| lock.state == "left") {
        app.terminal
            .say(&styled(DIM, format!("left: its run was cut off and holds nobody up; see how far it came: runbook report {}", left.run)));
    }
    Ok(0)
}
