//! `runbook schedule list`.

use jiff::Timestamp;
use serde::Serialize;

use super::{Known, Schedules, shown, states};
use crate::cli::app::App;
use crate::cli::history::now;
use crate::cli::report::visible;
use crate::cli::terminal::{BAD, DIM, GOOD, STRONG, WARN, styled, table};
use crate::config::Problems;
use crate::error::Result;
use crate::model::{Pause, ScheduleState, Tick, TickOutcome};
use crate::store::{TickFilter, Ticks};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only of this system, also when it is none of the project's
    #[arg(long, short, add = crate::cli::complete::systems())]
    system: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    schedule: String,
    runbook: String,
    system: String,
    rule: String,
    words: String,
    source: &'static str,
    enabled: bool,
    /// Whether its runbook is in the library.
    exists: bool,
    paused: Option<Pause>,
    skip: u32,
    next: Option<Timestamp>,
    last: Option<Tick>,
}

pub(crate) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let schedules = Schedules::read(app, args.system.as_deref())?;
    schedules.warn(app);
    let (_, store) = app.store()?;
    let states = states(&store)?;
    let runbooks = app.library()?.names();
    let listed = schedules.known.iter().map(|known| {
        let filter = TickFilter { schedule: Some(known.entry.key.clone()), limit: 1, ..TickFilter::default() };
        let exists = runbooks.contains(&known.entry.runbook);
        Ok((known, of(known, exists, &|key| states.get(key), store.ticks(&filter)?.pop())))
    });
    let listed = listed.collect::<Result<Vec<(&Known, Listed)>>>()?;
    if app.json {
        app.answer_json(&listed.iter().map(|(_, listed)| listed).collect::<Vec<_>>())?;
        return Ok(0);
    }
    if listed.is_empty() {
        app.terminal
            .say("there are no schedules; a system has them under `[schedules.NAME]`, a runbook has one as `schedule` in its header");
        return Ok(0);
    }
    let mut rows = vec![["SCHEDULE", "RULE", "IN WORDS", "NEXT", "LAST", ""].map(|title| styled(DIM, title)).to_vec()];
    for (known, listed) in &listed {
        let zone = &known.entry.policy.zone;
        let next = listed.next.map_or("–".to_owned(), |next| shown(next, zone));
        let last = listed.last.as_ref().map_or(String::new(), |tick| format!("{} {}", shown(tick.due, zone), outcome(tick, app)));
        rows.push(vec![styled(STRONG, &listed.schedule), listed.rule.clone(), listed.words.clone(), next, last, note(listed)]);
    }
    app.terminal.answer(&table(&rows));
    Ok(0)
}

fn of<'s>(known: &Known, exists: bool, state: &dyn Fn(&str) -> Option<&'s ScheduleState>, last: Option<Tick>) -> Listed {
    let entry = &known.entry;
    let holds = |state: &'s ScheduleState| state.paused.as_ref().filter(|pause| pause.holds(now()));
    let paused = [entry.key.clone(), format!("{}/*", entry.system), "*".to_owned()].iter().find_map(|key| state(key).and_then(holds));
    Listed {
        schedule: entry.key.clone(),
        runbook: entry.runbook.clone(),
        system: entry.system.clone(),
        rule: entry.rule(),
        words: entry.timing.in_words(),
        source: known.source,
        enabled: known.enabled,
        exists,
        paused: paused.cloned(),
        skip: state(&entry.key).map_or(0, |state| state.skip),
        next: entry.timing.next(now()).filter(|_| known.enabled).map(|due| entry.start(due.at)),
        last,
    }
}

/// What became of a tick, in a word or three.
pub(super) fn outcome(tick: &Tick, app: &App) -> String {
    match &tick.outcome {
        TickOutcome::Pending => "pending".to_owned(),
        TickOutcome::Started { run } => format!("{} #{run}", app.terminal.symbol(GOOD, "●", "*")),
        TickOutcome::Missed(cause) => format!("{} missed: {}", app.terminal.symbol(BAD, "✖", "x"), cause.reason.name()),
        TickOutcome::Skipped(cause) => format!("{} skipped: {}", app.terminal.symbol(WARN, "↷", "-"), cause.reason.name()),
    }
}

fn note(listed: &Listed) -> String {
    if !listed.enabled {
        return styled(DIM, "off");
    }
    if !listed.exists {
        return styled(BAD, format!("there is no runbook `{}`", listed.runbook));
    }
    if let Some(pause) = &listed.paused {
        let reason = if pause.reason.is_empty() { String::new() } else { format!(": {}", visible(&pause.reason)) };
        return styled(WARN, format!("paused by {}{reason}", pause.by));
    }
    if listed.skip > 0 { styled(WARN, format!("the next {} skipped", listed.skip)) } else { String::new() }
}
