//! `runbook schedule simulate`.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Known, Schedules, shown};
use crate::cli::app::App;
use crate::cli::history::now;
use crate::cli::terminal::{DIM, STRONG, styled, table};
use crate::config::Problems;
use crate::error::{Error, Kind, Result};
use crate::model::Mark;
use crate::schedule::{Entry, Timing};
use crate::words;

/// How many of the busiest minutes are told.
const BUSIEST: usize = 5;
const MINUTE: i64 = 60;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The year; this one when absent
    #[arg(long, value_name = "YEAR")]
    year: Option<i16>,
    /// Only of this system, also when it is none of the project's
    #[arg(long, short, add = crate::cli::complete::systems())]
    system: Option<String>,
}

#[derive(Serialize)]
struct Simulated {
    year: i16,
    ticks: u64,
    schedules: Vec<Of>,
    /// The minutes in which most start together.
    busiest: Vec<Busy>,
    changes: Vec<Changed>,
}

#[derive(Serialize)]
struct Of {
    schedule: String,
    rule: String,
    ticks: u64,
    /// How many of them its calendars and windows leave out.
    left_out: u64,
}

#[derive(Serialize)]
struct Busy {
    minute: Timestamp,
    schedules: Vec<String>,
    /// In how many minutes of the year the same start together.
    times: u64,
}

#[derive(Serialize)]
struct Changed {
    schedule: String,
    at: Timestamp,
    local: String,
    ticks: usize,
    /// Whether it runs at another time, since its own does not exist.
    moved: bool,
}

pub(crate) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let year = args.year.unwrap_or_else(|| now().to_zoned(jiff::tz::TimeZone::system()).year());
    // The calendar of the `cron` crate goes up to 2100.
    if !(1970..2100).contains(&year) {
        return Err(Error::new(Kind::Usage, format!("found the year {year}, expected one from 1970 to 2099")).into());
    }
    let schedules = Schedules::read(app, args.system.as_deref())?;
    schedules.warn(app);
    let on: Vec<&Entry> = schedules.known.iter().filter(|known| known.enabled).map(|Known { entry, .. }| entry).collect();
    let simulated = simulate(&on, year);
    if app.json {
        app.answer_json(&simulated)?;
        return Ok(0);
    }
    let count = words::count(on.len(), "schedule");
    let mut text = format!("{}  {count}, {}\n\n", styled(STRONG, year), words::count(simulated.ticks, "tick"));
    let mut rows = vec![["SCHEDULE", "RULE", "TICKS", "LEFT OUT"].map(|title| styled(DIM, title)).to_vec()];
    rows.extend(
        simulated.schedules.iter().map(|of| vec![of.schedule.clone(), of.rule.clone(), of.ticks.to_string(), of.left_out.to_string()]),
    );
    text.push_str(&table(&rows));
    let zone = on.first().map_or(jiff::tz::TimeZone::UTC, |entry| entry.policy.zone.clone());
    let together: Vec<Vec<String>> = simulated
        .busiest
        .iter()
        .map(|busy| {
            let times = format!("from {}, {}", shown(busy.minute, &zone), words::count(busy.times, "time"));
            vec![format!("  {}", busy.schedules.len()), times, busy.schedules.join(", ")]
        })
        .collect();
    let changes: Vec<Vec<String>> = simulated
        .changes
        .iter()
        .map(|change| {
            let what = if change.moved { Mark::DstGap.name() } else { "" };
            vec![format!("  {}", change.local), change.schedule.clone(), words::count(change.ticks, "tick"), what.to_owned()]
        })
        .collect();
    for (title, rows) in [("Together", together), ("Clocks", changes)] {
        if !rows.is_empty() {
            text.push_str(&format!("\n\n{}\n{}", styled(STRONG, title), table(&rows)));
        }
    }
    app.terminal.answer(&text);
    Ok(0)
}

fn simulate(on: &[&Entry], year: i16) -> Simulated {
    let edge = |entry: &Entry, year: i16| {
        let first = Date::new(year, 1, 1).and_then(|first| first.to_zoned(entry.policy.zone.clone()));
        first.map_or(Timestamp::UNIX_EPOCH, |first| first.timestamp())
    };
    let mut of = Vec::new();
    let mut together: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    let mut changes = Vec::new();
    for (index, entry) in (0..).zip(on) {
        let (start, end) = (edge(entry, year), edge(entry, year + 1));
        let mut counted = Of { schedule: entry.key.clone(), rule: entry.rule(), ticks: 0, left_out: 0 };
        let just_before = start - SignedDuration::from_nanos(1);
        for due in entry.timing.after(just_before).take_while(|due| due.at < end) {
            counted.ticks += 1;
            let starts = entry.start(due.at);
            if entry.policy.day_off(due.at).is_some() || !entry.policy.is_open(starts) {
                counted.left_out += 1;
                continue;
            }
            // What runs each minute runs beside everything, and tells nothing.
            if !is_frequent(&entry.timing) {
                together.entry(starts.as_second().div_euclid(MINUTE)).or_default().push(index);
            }
        }
        if matches!(entry.timing, Timing::Cron(..)) {
            let of_year = entry.timing.around_changes(&entry.policy.zone, just_before, 4).into_iter().filter(|change| change.at < end);
            changes.extend(of_year.map(|change| Changed {
                schedule: entry.key.clone(),
                at: change.at,
                local: format!("{} → {}", change.before.strftime("%a %Y-%m-%d %H:%M"), change.after.strftime("%H:%M")),
                ticks: change.due.len(),
                moved: change.due.iter().any(|due| due.after_gap),
            }));
        }
        of.push(counted);
    }
    changes.sort_by_key(|change| change.at);
    Simulated { year, ticks: of.iter().map(|of| of.ticks).sum(), busiest: busiest(&together, on), schedules: of, changes }
}

fn is_frequent(timing: &Timing) -> bool {
    let mut first = timing.after(Timestamp::UNIX_EPOCH);
    let (Some(one), Some(next)) = (first.next(), first.next()) else { return false };
    next.at.duration_since(one.at) < SignedDuration::from_mins(10)
}

/// The largest sets of schedules that start in the same minute, each with its first minute.
fn busiest(together: &BTreeMap<i64, Vec<u32>>, on: &[&Entry]) -> Vec<Busy> {
    let mut sets: BTreeMap<&[u32], (i64, u64)> = BTreeMap::new();
    for (minute, set) in together.iter().filter(|(_, set)| set.len() > 1) {
        sets.entry(set.as_slice()).or_insert((*minute, 0)).1 += 1;
    }
    let mut sets: Vec<(&[u32], (i64, u64))> = sets.into_iter().collect();
    sets.sort_by_key(|(set, (minute, _))| (std::cmp::Reverse(set.len()), *minute));
    let busy = |(set, (minute, times)): (&[u32], (i64, u64))| Busy {
        minute: Timestamp::from_second(minute * MINUTE).unwrap_or(Timestamp::UNIX_EPOCH),
        schedules: set.iter().map(|index| on[*index as usize].key.clone()).collect(),
        times,
    };
    sets.into_iter().take(BUSIEST).map(busy).collect()
}
