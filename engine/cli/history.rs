//! `runbook history`: past runs.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::app::App;
use crate::cli::terminal::{DIM, STRONG, styled, table};
use crate::config::Problems;
use crate::error::{Error, Kind, Result};
use crate::model::{RunState, Span};
use crate::store::{Filter, Store, Summary};
use crate::words;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only of this runbook
    #[arg(long, short, add = crate::cli::complete::runbooks())]
    runbook: Option<String>,
    /// Only for this system
    #[arg(long, short, add = crate::cli::complete::systems())]
    system: Option<String>,
    /// Only with this status
    #[arg(long)]
    status: Vec<String>,
    /// Only those started within this time: `7d`
    #[arg(long, value_name = "DURATION")]
    since: Option<Span>,
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 30)]
    limit: u32,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let (_, store) = app.store()?;
    let states = args
        .status
        .iter()
        .map(|name| {
            RunState::parse(name).ok_or_else(|| {
                let names: Vec<&str> = RunState::ALL.into_iter().map(RunState::name).collect();
                Error::new(Kind::Usage, format!("there is no status `{name}`")).hint(format!("there are {}", names.join(", ")))
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let since = args.since.map(|span| span.before(now()));
    let filter = Filter { runbook: args.runbook, system: args.system, states, since, limit: args.limit, ..Filter::default() };
    let runs = store.list(&filter)?;
    if app.json {
        app.answer_json(&runs)?;
        return Ok(0);
    }
    if runs.is_empty() {
        app.terminal.say("no runs yet; start one with `runbook run NAME`");
        return Ok(0);
    }
    let titles =
        ["RUN", "STARTED", "TOOK", "STATUS", "RUNBOOK", "SYSTEM", "BY", "CHANGES", "NOTE"].map(|title| styled(DIM, title)).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(titles).chain(runs.iter().map(|run| row(run, app))).collect();
    app.terminal.answer(&table(&rows));
    app.terminal.say(&styled(DIM, sum(&runs)));
    Ok(0)
}

fn row(run: &Summary, app: &App) -> Vec<String> {
    let zoned = run.started.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let took = if run.ended.is_some() { Span::millis(run.duration_ms).to_string() } else { String::new() };
    vec![
        format!("#{}", run.run),
        zoned,
        took,
        format!("{} {}", app.terminal.state(run.status), run.status.name()),
        styled(STRONG, &run.runbook),
        run.system.clone().unwrap_or_default(),
        started_by(run),
        run.changes.to_string(),
        crate::cli::report::visible(&run.note),
    ]
}

/// Who started a run: a person, or another run.
pub(super) fn started_by(run: &Summary) -> String {
    run.parent.as_ref().map_or_else(|| run.by.clone(), |parent| format!("#{}", parent.run))
}

fn sum(runs: &[Summary]) -> String {
    let mut took: Vec<u64> = runs.iter().filter(|run| run.ended.is_some()).map(|run| run.duration_ms).collect();
    took.sort_unstable();
    let median = took.get(took.len() / 2).map(|median| format!("   median {}", Span::millis(*median))).unwrap_or_default();
    let p95 = took.get(took.len() * 95 / 100).map(|p95| format!("   p95 {}", Span::millis(*p95))).unwrap_or_default();
    let mut counts = Vec::new();
    for state in RunState::ALL {
        let number = runs.iter().filter(|run| run.status == state).count();
        if number > 0 {
            counts.push(format!("{number} {}", state.name()));
        }
    }
    format!("{}: {}{median}{p95}", words::count(runs.len(), "run"), counts.join(", "))
}

/// How long ago something was: `12 min ago`, `3 d ago`.
pub(super) fn ago(then: Timestamp) -> String {
    let seconds = now().duration_since(then).as_secs().max(0);
    match seconds {
        0..60 => "just now".to_owned(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[expect(clippy::disallowed_methods, reason = "what a person sees is relative to the person's now")]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}
