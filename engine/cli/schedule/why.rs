//! `runbook schedule why`.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Schedules, shown, states};
use crate::cli::app::App;
use crate::cli::history::now;
use crate::cli::report::visible;
use crate::cli::terminal::{DIM, STRONG, styled};
use crate::config::Problems;
use crate::error::{Error, Kind, Result};
use crate::model::{Mark, Moment, ScheduleState, Tick, TickOutcome};
use crate::schedule::{Due, Entry};
use crate::store::{Sqlite, TickFilter, Ticks};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The runbook, or the schedule
    name: String,
    /// The moment, to the minute: `2026-11-20 03:00`, in the zone of the schedule
    time: Moment,
    /// Only of this system, also when it is none of the project's
    #[arg(long, short, add = crate::cli::complete::systems())]
    system: Option<String>,
}

/// What one schedule did about the moment.
#[derive(Serialize)]
struct Answer {
    schedule: String,
    moment: Timestamp,
    local: String,
    /// `started`, `pending`, `missed`, `skipped`; without a tick `not-due`, `unknown`, `expected`.
    verdict: &'static str,
    words: String,
    /// The due moments before and after it.
    before: Option<Timestamp>,
    after: Option<Timestamp>,
    tick: Option<Tick>,
}

pub(crate) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let schedules = Schedules::read(app, args.system.as_deref())?;
    let (_, store) = app.store()?;
    let states = states(&store)?;
    let is_meant = |entry: &Entry| entry.runbook == args.name || entry.is_called(&args.name);
    let meant: Vec<_> = schedules.known.iter().filter(|known| is_meant(&known.entry)).collect();
    if meant.is_empty() {
        schedules.warn(app);
        let names = schedules.known.iter().map(|known| known.entry.runbook.as_str());
        let error = Error::new(Kind::Usage, format!("no schedule runs `{}`", args.name));
        return Err(error.suggest_or(&args.name, names, || "`runbook schedule list` lists them").into());
    }
    let answers = meant.into_iter().map(|known| {
        let moment = args.time.instant(&known.entry.policy.zone).ok_or_else(|| Error::new(Kind::Usage, "there is no such moment"))?;
        answer(&known.entry, known.enabled, moment, states.get(&known.entry.key), &store)
    });
    let answers = answers.collect::<Result<Vec<Answer>>>()?;
    if app.json {
        app.answer_json(&answers)?;
        return Ok(0);
    }
    for answer in &answers {
        let line = format!("{}  {}  {}", styled(STRONG, &answer.schedule), answer.local, answer.verdict);
        app.terminal.answer(&format!("{line}\n  {}", visible(&answer.words)));
    }
    if let Some(run) = answers.iter().find_map(|answer| match answer.tick.as_ref()?.outcome {
        TickOutcome::Started { run } => Some(run),
        _ => None,
    }) {
        app.terminal.say(&styled(DIM, format!("how it went: runbook report {run}")));
    }
    Ok(0)
}

fn answer(entry: &Entry, enabled: bool, moment: Timestamp, state: Option<&ScheduleState>, store: &Sqlite) -> Result<Answer> {
    let minute = SignedDuration::from_mins(1);
    let zone = &entry.policy.zone;
    let filter = |since: Option<Timestamp>, before: Timestamp| TickFilter {
        schedule: Some(entry.key.clone()),
        since,
        before: Some(before),
        limit: 1,
    };
    let just_before = moment - SignedDuration::from_nanos(1);
    let due = entry.timing.next(just_before).filter(|due| due.at < moment + minute);
    let own = store.ticks(&filter(Some(moment), moment + minute))?.pop();
    // A row may stand for many moments.
    let folded = store.ticks(&filter(None, moment))?.pop().filter(|tick| tick.through.is_some_and(|through| through >= moment));
    let tick = own.or(folded.filter(|_| due.is_some()));
    let (verdict, words) = match (&tick, due) {
        (Some(tick), _) => (tick.outcome.name(), of_tick(tick, entry)),
        (None, None) => ("not-due", format!("it is due {}", entry.timing.in_words())),
        (None, Some(due)) => without_tick(entry, enabled, due, state),
    };
    Ok(Answer {
        schedule: entry.key.clone(),
        moment,
        local: shown(moment, zone),
        verdict,
        words,
        before: before(entry, moment),
        after: entry.timing.next(moment).map(|due| due.at),
        tick,
    })
}

fn of_tick(tick: &Tick, entry: &Entry) -> String {
    let zone = &entry.policy.zone;
    let mut words = match &tick.outcome {
        TickOutcome::Pending => "it waits for its turn, or nobody is there to start it".to_owned(),
        TickOutcome::Started { run } => format!("run #{run} was started at {}", shown(tick.decided, zone)),
        TickOutcome::Missed(cause) | TickOutcome::Skipped(cause) => format!("{}: {}", cause.reason.name(), cause.detail),
    };
    if tick.marks.contains(&Mark::DstGap) {
        words.push_str("; clocks were put forward over its time");
    }
    if tick.marks.contains(&Mark::CatchUp) {
        words.push_str("; nobody was there at its time, and it was made up for");
    }
    words
}

/// What can be said of a due moment without a row.
fn without_tick(entry: &Entry, enabled: bool, due: Due, state: Option<&ScheduleState>) -> (&'static str, String) {
    let zone = &entry.policy.zone;
    if !enabled {
        return ("not-due", "the schedule is off: `enabled = false`".to_owned());
    }
    if due.at > now() {
        let why = if let Some(name) = entry.policy.day_off(due.at) {
            format!("it will be left out: the day is in `{name}`")
        } else if !entry.policy.is_open(entry.start(due.at)) {
            "it will be left out: it starts only in its windows".to_owned()
        } else {
            format!("it will be due, and start at {}", shown(entry.start(due.at), zone))
        };
        return ("expected", why);
    }
    match state.and_then(|state| state.since) {
        None => ("unknown", "it was due, and no scheduler has seen this schedule yet: nothing serves it".to_owned()),
        Some(since) if since > due.at => {
            ("unknown", format!("it was due by the rule it has now, which was first seen at {}", shown(since, zone)))
        }
        Some(_) => ("unknown", "it was due, and no scheduler was there since; it will be decided about when one is".to_owned()),
    }
}

/// The last due moment before this one, within a year and a bit.
fn before(entry: &Entry, moment: Timestamp) -> Option<Timestamp> {
    let spans = [60, 3600, 86_400, 32 * 86_400, 400 * 86_400];
    spans.into_iter().find_map(|seconds| {
        let from = moment - SignedDuration::from_secs(seconds);
        entry.timing.after(from).take_while(|due| due.at < moment).last().map(|due| due.at)
    })
}
