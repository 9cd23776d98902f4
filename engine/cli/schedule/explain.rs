//! `runbook schedule explain`.

use jiff::civil::DateTime;
use serde::Serialize;

use super::next::Coming;
use super::{rule_or_schedule, shown};
use crate::cli::app::App;
use crate::cli::history::now;
use crate::cli::terminal::{DIM, STRONG, styled, table};
use crate::config::Problems;
use crate::error::Result;
use crate::model::Moment;
use crate::schedule::{Change, Entry};

/// How many moments, and how many changes of the clocks, are told.
const MOMENTS: usize = 5;
const CHANGES: usize = 2;
/// More moments of a day than this are counted.
const MOST_OF_A_DAY: usize = 4;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A rule like `30 2 * * *`, `@daily` or `every 5m`, or a schedule
    what: String,
    /// The system of the schedule, or whose zone the rule is for
    #[arg(long, short, add = crate::cli::complete::systems())]
    system: Option<String>,
    /// On the clocks of this zone
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// After this moment instead of now
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
}

#[derive(Serialize)]
struct Explained {
    rule: String,
    words: String,
    timezone: Option<String>,
    next: Vec<Coming>,
    changes: Vec<Changed>,
}

/// A day on which clocks change.
#[derive(Serialize)]
struct Changed {
    at: jiff::Timestamp,
    before: DateTime,
    after: DateTime,
    moments: Vec<Coming>,
    words: String,
}

pub(crate) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let entry = rule_or_schedule(app, &args.what, args.system.as_deref(), args.tz.as_deref())?;
    let zone = &entry.policy.zone;
    let from = args.from.and_then(|from| from.instant(zone)).unwrap_or_else(now);
    let changed = |change: Change| Changed {
        words: in_words(&change, &entry),
        at: change.at,
        before: change.before,
        after: change.after,
        moments: change.due.iter().map(|due| Coming::of(&entry, *due)).collect(),
    };
    let explained = Explained {
        rule: entry.rule(),
        words: entry.timing.in_words(),
        timezone: zone.iana_name().map(str::to_owned),
        next: entry.timing.after(from).take(MOMENTS).map(|due| Coming::of(&entry, due)).collect(),
        changes: entry.timing.around_changes(zone, from, CHANGES).into_iter().map(changed).collect(),
    };
    if app.json {
        app.answer_json(&explained)?;
        return Ok(0);
    }
    let mut text = format!("{}  {}\n{}\n\n{}\n", styled(STRONG, &explained.rule), policy(&entry), explained.words, styled(STRONG, "Next"));
    for coming in &explained.next {
        text.push_str(&format!("  {}  {}\n", coming.local, styled(DIM, coming.marks())));
    }
    text.push_str(&format!("\n{}\n", styled(STRONG, "Clocks")));
    let rows: Vec<Vec<String>> = explained
        .changes
        .iter()
        .map(|change| {
            let (before, after) = (change.before.strftime("%H:%M"), change.after.strftime("%H:%M"));
            vec![format!("  {}", change.before.strftime("%a %Y-%m-%d")), format!("{before} → {after}"), change.words.clone()]
        })
        .collect();
    text.push_str(&if rows.is_empty() { "  they do not change here".to_owned() } else { table(&rows) });
    app.terminal.answer(&text);
    Ok(0)
}

/// What is not the default of its policy.
fn policy(entry: &Entry) -> String {
    let policy = &entry.policy;
    let mut parts = Vec::new();
    if !policy.delay.is_zero() {
        parts.push(format!("{} after it is due", crate::model::Span(policy.delay.unsigned_abs())));
    }
    if let Some(deadline) = policy.deadline {
        parts.push(format!("not later than {}", crate::model::Span(deadline.unsigned_abs())));
    }
    parts.push(format!("overlap {}, catch up {}", policy.overlap.name(), policy.catch_up));
    styled(DIM, parts.join(", "))
}

/// What it comes to on the day of a change.
fn in_words(change: &Change, entry: &Entry) -> String {
    let time = |at| shown(at, &entry.policy.zone)["Sun 2026-01-01 ".len()..].to_owned();
    match change.due.as_slice() {
        [] => "not that day".to_owned(),
        few if few.len() <= MOST_OF_A_DAY => {
            let one = |due: &crate::schedule::Due| {
                let why = if due.after_gap { ", as its time does not exist" } else { "" };
                format!("at {}{why}", time(due.at))
            };
            few.iter().map(one).collect::<Vec<_>>().join("; ")
        }
        many => format!("{} times that day", many.len()),
    }
}
