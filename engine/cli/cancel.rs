//! `runbook cancel`: stops a run, letting it clean up.

use std::time::{Duration, Instant};

use crate::cli::app::App;
use crate::cli::report::last_line;
use crate::config::{Problems, Right};
use crate::error::{Error, Kind, Result};
use crate::model::{RunState, Span};
use crate::run::daemon::{self, Ask};
use crate::run::process::{is_alive, terminate};
use crate::store::audit::{Action, audited};
use crate::store::{Filter, ProcessId, StateDir, Store, Summary, find};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run: a number, `last`, `last:NAME`, or the beginning of its id
    #[arg(add = crate::cli::complete::runs())]
    run: String,
    /// Stop it at once, without its clean-up
    #[arg(long)]
    now: bool,
    /// How long to wait for its end
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    wait: Span,
}

/// How often to look whether it is over.
const LOOK: Duration = Duration::from_millis(20);

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let (state, store) = app.store()?;
    let run = find(&store, &args.run)?;
    app.permit(&store, Right::Cancel, &run.runbook, run.system.as_deref())?;
    let supervisor = watcher(&run)?;
    must_be_on_its_own(&run, supervisor, &store)?;
    let how = if args.now { "at once" } else { "" };
    let subject = format!("#{} {}", run.run, run.runbook);
    audited(&store, &app.act(Action::Cancel, subject, how), || stop(&run, supervisor, &args, &store, &state, app))?;
    let run = store.run(run.id)?;
    if app.json {
        app.answer_json(&run)?;
    } else {
        app.terminal.answer(&format!("#{} {}", run.run, last_line(&run, app.terminal)));
    }
    Ok(0)
}

/// A sub-run is watched over by the process of the run it is part of, which would be stopped as a whole.
fn must_be_on_its_own(run: &Summary, supervisor: ProcessId, store: &dyn Store) -> Result<()> {
    let Some(parent) = &run.parent else { return Ok(()) };
    let above = store.list(&Filter { number: Some(parent.run), ..Filter::default() })?;
    if above.iter().all(|above| above.supervisor != Some(supervisor)) {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("run #{} is part of #{} and ends with it", run.run, parent.run))
        .hint(format!("runbook cancel {}", parent.run)))
}

/// Asks until it is over.
fn stop(run: &Summary, supervisor: ProcessId, args: &Args, store: &dyn Store, state: &StateDir, app: &App) -> Result<()> {
    // The daemon has other runs as well, and is told which one is meant.
    let is_daemons = daemon::watches(state, supervisor);
    let ask = || match is_daemons {
        true => daemon::ask(state, Ask::Cancel { run: run.run, now: args.now }),
        false => signal(run, supervisor),
    };
    ask()?;
    if !args.now {
        app.terminal.say(&format!("#{} is asked to stop; it cleans up first     at once: runbook cancel {} --now", run.run, run.run));
    }
    let until = Instant::now() + args.wait.0;
    while is_alive(supervisor) && !(is_daemons && store.run(run.id)?.status.is_over()) {
        if Instant::now() >= until {
            return Err(Error::new(Kind::Timeout, format!("run #{} did not end within {}", run.run, args.wait))
                .hint(format!("`runbook cancel {} --now` does not wait for its clean-up", run.run)));
        }
        std::thread::sleep(LOOK);
        if args.now && !is_daemons {
            // Two signals in one instant count as one: it is told again until it is gone.
            ask()?;
        }
    }
    Ok(())
}

/// The process that watches over a run, if it still does.
fn watcher(run: &Summary) -> Result<ProcessId> {
    if !matches!(run.status, RunState::Running | RunState::Waiting | RunState::Queued) {
        return Err(
            Error::new(Kind::Usage, format!("run #{} is over: {}", run.run, run.status.name())).hint("`runbook ps` shows what runs")
        );
    }
    run.supervisor.filter(|process| is_alive(*process)).ok_or_else(|| {
        Error::new(Kind::Usage, format!("nothing of run #{} runs any more: its process is gone without a last word", run.run))
            .hint(format!("`runbook report {}` shows how far it came", run.run))
    })
}

fn signal(run: &Summary, supervisor: ProcessId) -> Result<()> {
    terminate(supervisor).map_err(|error| {
        Error::because(Kind::Denied, format_args!("run #{} (process {}) can not be stopped", run.run, supervisor.pid), &error)
            .hint(format!("it was started by {}", run.by))
    })
}
