//! `runbook logs`: the log of a run, from any line, followed when it goes on.

use std::time::Duration;

use jiff::tz::TimeZone;
use regex::Regex;

use crate::cli::app::App;
use crate::cli::report::{detail, visible};
use crate::cli::terminal::{DIM, STRONG, Terminal, styled};
use crate::config::Problems;
use crate::error::{Error, Kind, Result};
use crate::model::{Event, EventKind, Level, Outcome, Span};
use crate::run::process::is_alive;
use crate::store::{Log, LogLine, Store, find};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run: a number, `last`, `last:NAME`, or the beginning of its id
    #[arg(default_value = "last", add = crate::cli::complete::runs())]
    run: String,
    /// Go on until the run ends
    #[arg(short, long)]
    follow: bool,
    /// Only this step
    #[arg(long, value_name = "KEY")]
    step: Option<String>,
    /// Only lines that match
    #[arg(long, value_name = "REGEX")]
    grep: Option<Regex>,
    /// Only the last so many lines
    #[arg(short = 'n', long, value_name = "LINES")]
    lines: Option<u64>,
    /// Only what failed
    #[arg(long)]
    failed: bool,
    /// Show dates too
    #[arg(long)]
    timestamps: bool,
}

/// How many lines are read at a time.
const PAGE: u64 = 1000;
/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let (state, store) = app.store()?;
    let found = find(&store, &args.run)?;
    let log = Log::at(&state.run(found.run));
    let length = log.len()?;
    if length == 0 && found.ended.is_some() {
        return Err(Error::new(Kind::Usage, format!("the log of run #{} is not kept any more", found.run))
            .hint(format!("`runbook report {}` shows what is", found.run))
            .into());
    }
    let mut next = args.lines.map_or(1, |lines| length.saturating_sub(lines) + 1);
    loop {
        let lines = log.lines(next, PAGE)?;
        let ended = lines.iter().any(|line| matches!(line.event.kind, EventKind::Ended { .. }));
        for line in &lines {
            show(line, &args, app)?;
        }
        next += lines.len() as u64;
        if ended {
            return Ok(0);
        }
        if (lines.len() as u64) < PAGE {
            let gone = || found.supervisor.is_none_or(|process| !is_alive(process));
            if !args.follow || log.len()? < next && (store.run(found.id)?.status.is_over() || gone()) {
                return Ok(0);
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn show(line: &LogLine, args: &Args, app: &App) -> Result<()> {
    let wanted =
        args.step.as_deref().is_none_or(|step| step_of(&line.event).is_some_and(|key| key == step || key.starts_with(&format!("{step}/"))));
    if !wanted || args.failed && !is_failure(&line.event) {
        return Ok(());
    }
    let Some(text) = text(&line.event, app.terminal) else { return Ok(()) };
    if args.grep.as_ref().is_some_and(|regex| !regex.is_match(&text)) {
        return Ok(());
    }
    if app.json {
        let json = serde_json::to_string(line).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
        app.terminal.answer(&json);
        return Ok(());
    }
    let format = if args.timestamps { "%Y-%m-%d %H:%M:%S%.3f%:z" } else { "%H:%M:%S" };
    let time = line.event.at.to_zoned(TimeZone::system()).strftime(format).to_string();
    app.terminal.answer(&format!("{} {text}", styled(DIM, time)));
    Ok(())
}

fn step_of(event: &Event) -> Option<&str> {
    match &event.kind {
        EventKind::StepStarted(intent) => Some(&intent.key),
        EventKind::StepEnded { key, .. } | EventKind::Effect { key, .. } | EventKind::SubRun { key, .. } => Some(key),
        EventKind::Log { step, .. } | EventKind::Progress { step, .. } => Some(step),
        _ => None,
    }
}

fn is_failure(event: &Event) -> bool {
    match &event.kind {
        EventKind::StepEnded { outcome, .. } => matches!(outcome, Outcome::Error(_)),
        EventKind::Checked(check) => check.level != Level::Ok,
        EventKind::Ended { error, .. } => error.is_some(),
        _ => false,
    }
}

/// An event in one line.
fn text(event: &Event, terminal: Terminal) -> Option<String> {
    Some(match &event.kind {
        EventKind::Started => styled(DIM, "started"),
        EventKind::StepStarted(intent) => format!("{} {}", terminal.symbol(STRONG, "●", "*"), visible(&intent.key)),
        EventKind::StepEnded { key, outcome, duration_ms } => {
            let (level, why) = match outcome {
                Outcome::Value(_) => (Level::Ok, String::new()),
                Outcome::Error(error) => (Level::Critical, format!(": {}", visible(&error.message))),
            };
            format!("{} {}{why} {}", terminal.level(level), visible(key), styled(DIM, format!("({})", Span::millis(*duration_ms))))
        }
        EventKind::Effect { effect, .. } => format!("  {} {}", terminal.symbol(STRONG, "~", "~"), visible(&effect.summary)),
        EventKind::Checked(check) => {
            let detail = visible(&detail(check));
            format!("{} {}{}{detail}", terminal.level(check.level), visible(&check.name), if detail.is_empty() { "" } else { ": " })
        }
        EventKind::Output { name, value } => format!("  {} = {}", visible(name), visible(&crate::cli::plain::short(value))),
        EventKind::Log { text, .. } => format!("  {}", visible(text)),
        EventKind::Resumed { by, decisions } => {
            let said: Vec<String> =
                decisions.iter().map(|decision| format!(", {}", visible(&crate::cli::resume::in_words(decision)))).collect();
            format!("{}{}", styled(DIM, format!("resumed by {}", visible(by))), said.concat())
        }
        EventKind::SubRun { run, runbook, .. } => format!("  {} {} #{run}", terminal.symbol(STRONG, "▸", ">"), visible(runbook)),
        EventKind::TakenFrom { run, step } => styled(DIM, format!("before `{}`: as in run #{run}", visible(step))),
        EventKind::CompensationStarted(_) => styled(DIM, "takes back what it did"),
        EventKind::Prepared { .. }
        | EventKind::Read { .. }
        | EventKind::RunOrdered { .. }
        | EventKind::UndoRegistered { .. }
        | EventKind::Progress { .. } => return None,
        EventKind::Asked(asked) => format!("  waits: {}", visible(&asked.question)),
        EventKind::Answered { approved: true, by, .. } => format!("  approved by {}", visible(&by.join(", "))),
        EventKind::Answered { .. } => "  not approved".to_owned(),
        EventKind::Ended { status, error, .. } => {
            let why = error.as_ref().map(|error| format!(": {}", visible(&error.to_string()))).unwrap_or_default();
            format!("{} {}{why}", terminal.state(*status), styled(STRONG, status.name()))
        }
    })
}
