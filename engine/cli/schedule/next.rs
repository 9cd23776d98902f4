//! `runbook schedule next`.

use jiff::Timestamp;
use serde::Serialize;

use super::{Schedules, distance, rule_or_schedule, shown, usage};
use crate::cli::app::App;
use crate::cli::history::{ago, now};
use crate::cli::schedule::list::outcome;
use crate::cli::terminal::{DIM, STRONG, styled, table};
use crate::config::Problems;
use crate::error::Result;
use crate::model::{Mark, Moment};
use crate::schedule::{Due, Entry};
use crate::store::{TickFilter, Ticks};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A schedule, or a rule like `30 2 * * *` or `every 5m`; each schedule once when absent
    what: Option<String>,
    /// Only of this system, also when it is none of the project's
    #[arg(long, short, add = crate::cli::complete::systems())]
    system: Option<String>,
    /// How many moments
    #[arg(short = 'n', long, default_value_t = 10)]
    count: usize,
    /// After this moment instead of now
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// On the clocks of this zone
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
}

/// A due moment.
#[derive(Serialize)]
pub(super) struct Coming {
    schedule: String,
    /// When it is due, on the clocks of its zone.
    pub(super) local: String,
    due: Timestamp,
    start: Timestamp,
    marks: Vec<Mark>,
}

impl Coming {
    pub(super) fn of(entry: &Entry, due: Due) -> Self {
        Self {
            schedule: entry.key.clone(),
            local: shown(due.at, &entry.policy.zone),
            due: due.at,
            start: entry.start(due.at),
            marks: due.after_gap.then_some(Mark::DstGap).into_iter().collect(),
        }
    }

    pub(super) fn marks(&self) -> String {
        self.marks.iter().map(|mark| mark.name()).collect::<Vec<_>>().join(" ")
    }
}

pub(crate) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    match &args.what {
        Some(what) => of_one(&rule_or_schedule(app, what, args.system.as_deref(), args.tz.as_deref())?, &args, app),
        None => of_each(&args, app),
    }
}

fn of_one(entry: &Entry, args: &Args, app: &App) -> Result<u8, Problems> {
    let from = args.from.and_then(|from| from.instant(&entry.policy.zone)).unwrap_or_else(now);
    let coming: Vec<Coming> = entry.timing.after(from).take(args.count).map(|due| Coming::of(entry, due)).collect();
    if app.json {
        app.answer_json(&coming)?;
        return Ok(0);
    }
    if coming.is_empty() {
        app.terminal.say("it is not due any more");
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = coming.iter().map(|coming| vec![coming.local.clone(), styled(DIM, coming.marks())]).collect();
    app.terminal.answer(&table(&rows));
    Ok(0)
}

fn of_each(args: &Args, app: &App) -> Result<u8, Problems> {
    let schedules = Schedules::read(app, args.system.as_deref())?;
    schedules.warn(app);
    let zone = args.tz.as_deref().map(jiff::tz::TimeZone::get).transpose();
    let zone = zone.map_err(|error| usage(crate::error::Error::because(crate::error::Kind::Usage, "`--tz`", &error)))?;
    let mut next: Vec<(&Entry, Coming)> = Vec::new();
    for known in schedules.known.iter().filter(|known| known.enabled) {
        let entry = &known.entry;
        let from = args.from.and_then(|from| from.instant(&entry.policy.zone)).unwrap_or_else(now);
        // What is due already may be to start later.
        let due = entry.timing.after(from - entry.policy.delay).find(|due| entry.start(due.at) > from);
        next.extend(due.map(|due| (entry, Coming::of(entry, due))));
    }
    next.sort_by_key(|(_, coming)| coming.start);
    next.truncate(args.count);
    if app.json {
        app.answer_json(&next.iter().map(|(_, coming)| coming).collect::<Vec<_>>())?;
        return Ok(0);
    }
    let (_, store) = app.store()?;
    let mut rows = vec![["NEXT", "LEFT", "LAST", "PASSED", "SCHEDULE", "RULE"].map(|title| styled(DIM, title)).to_vec()];
    for (entry, coming) in &next {
        let last = store.ticks(&TickFilter { schedule: Some(entry.key.clone()), limit: 1, ..TickFilter::default() })?.pop();
        rows.push(vec![
            shown(coming.start, zone.as_ref().unwrap_or(&entry.policy.zone)),
            distance(now(), coming.start).to_string(),
            last.as_ref().map_or(String::new(), |tick| outcome(tick, app)),
            last.as_ref().map_or(String::new(), |tick| ago(tick.due)),
            styled(STRONG, &coming.schedule),
            entry.rule(),
        ]);
    }
    app.terminal.answer(&table(&rows));
    Ok(0)
}
