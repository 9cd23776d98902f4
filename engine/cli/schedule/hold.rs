//! `runbook schedule pause`, `resume` and `skip`.

use jiff::Timestamp;
use serde::Serialize;

use super::{Schedules, states};
use crate::cli::app::App;
use crate::cli::history::now;
use crate::cli::terminal::{DIM, styled};
use crate::config::{Problems, Right};
use crate::error::{Error, Kind, Result};
use crate::model::{Moment, Pause, Span};
use crate::store::Ticks;
use crate::store::audit::{Action, audited};
use crate::words;

/// Which schedules are meant.
#[derive(Debug, clap::Args)]
struct Which {
    /// The schedule
    #[arg(required_unless_present_any = ["all", "system"])]
    name: Option<String>,
    /// Its system; every schedule of it when no schedule is named
    #[arg(long, short, add = crate::cli::complete::systems())]
    system: Option<String>,
    /// Every schedule of every system
    #[arg(long, conflicts_with_all = ["name", "system"])]
    all: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    which: Which,
    /// For so long; until someone resumes it when absent
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "until")]
    span: Option<Span>,
    /// Until this moment
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Why, for those who wonder
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SkipArgs {
    /// The schedule
    name: String,
    /// Its system
    #[arg(long, short, add = crate::cli::complete::systems())]
    system: Option<String>,
    /// How many of its next moments; 0 takes it back
    #[arg(short = 'n', long, default_value_t = 1)]
    count: u32,
    /// Why
    #[arg(long, default_value = "")]
    reason: String,
}

/// What holds now.
#[derive(Serialize)]
struct Held {
    schedule: String,
    paused: Option<Pause>,
    skip: u32,
}

/// The schedule that is meant, and what rights over it are about.
struct Target {
    key: String,
    runbook: String,
    system: Option<String>,
}

impl Which {
    fn target(&self, app: &App) -> Result<Target, Problems> {
        let Some(name) = &self.name else {
            let key = self.system.as_ref().map_or_else(|| "*".to_owned(), |system| format!("{system}/*"));
            if let Some(system) = &self.system {
                app.system(Some(system))?;
            }
            return Ok(Target { key, runbook: String::new(), system: self.system.clone() });
        };
        one(app, name, self.system.as_deref())
    }
}

fn one(app: &App, name: &str, system: Option<&str>) -> Result<Target, Problems> {
    // A system outside of the project can be named with the schedule.
    let system = system.or_else(|| name.split_once('/').map(|(system, _)| system));
    let schedules = Schedules::read(app, system)?;
    let entry = &schedules.find(name)?.entry;
    Ok(Target { key: entry.key.clone(), runbook: entry.runbook.clone(), system: Some(entry.system.clone()) })
}

pub(crate) fn pause(args: PauseArgs, app: &App) -> Result<u8, Problems> {
    let target = args.which.target(app)?;
    let until = until(&args)?;
    if until.is_some_and(|until| until <= now()) {
        return Err(Error::new(Kind::Usage, "the pause would be over already").hint("give `--until` a later time").into());
    }
    let (_, store) = app.store()?;
    permit(app, &store, Right::Cancel, &target)?;
    let pause = Pause { by: app.who(), reason: args.reason.clone(), since: now(), until };
    let act = app.act(Action::PauseSchedule, &target.key, args.reason);
    audited(&store, &act, || store.pause_schedule(&target.key, Some(&pause)))?;
    answer(app, &store, &target.key, || {
        let until = until
            .map_or("until someone resumes it".to_owned(), |until| format!("until {}", super::shown(until, &jiff::tz::TimeZone::system())));
        format!("{} paused {until}; what goes on is not stopped     runbook schedule resume {}", target.words(), target.argument())
    })
}

pub(crate) fn resume(args: ResumeArgs, app: &App) -> Result<u8, Problems> {
    let target = args.which.target(app)?;
    let (_, store) = app.store()?;
    permit(app, &store, Right::Run, &target)?;
    let act = app.act(Action::ResumeSchedule, &target.key, "");
    audited(&store, &act, || store.pause_schedule(&target.key, None))?;
    answer(app, &store, &target.key, || format!("{} not paused; what was left out is not made up for", target.words()))
}

pub(crate) fn skip(args: SkipArgs, app: &App) -> Result<u8, Problems> {
    let target = one(app, &args.name, args.system.as_deref())?;
    let (_, store) = app.store()?;
    permit(app, &store, Right::Cancel, &target)?;
    let act = app.act(Action::SkipSchedule, &target.key, args.reason);
    audited(&store, &act, || store.skip_ticks(&target.key, args.count))?;
    answer(app, &store, &target.key, || match args.count {
        0 => format!("nothing of {} is left out", target.key),
        count => format!("the next {} of {} left out", words::count(count, "moment"), target.key),
    })
}

impl Target {
    fn words(&self) -> String {
        match &self.system {
            None => "every schedule is".to_owned(),
            Some(system) if self.runbook.is_empty() => format!("every schedule of {system} is"),
            Some(_) => format!("{} is", self.key),
        }
    }

    /// As it is named on the command line.
    fn argument(&self) -> String {
        match &self.system {
            None => "--all".to_owned(),
            Some(system) if self.runbook.is_empty() => format!("-s {system}"),
            Some(_) => self.key.clone(),
        }
    }
}

fn until(args: &PauseArgs) -> Result<Option<Timestamp>> {
    let zone = jiff::tz::TimeZone::system();
    if let Some(until) = args.until {
        return Ok(until.instant(&zone));
    }
    let Some(span) = args.span else { return Ok(None) };
    let length = span.signed();
    let end = now().checked_add(length).map_err(|_| Error::new(Kind::Usage, format!("{span} is longer than time")))?;
    Ok(Some(end))
}

/// Who pauses everything manages; who pauses one schedule needs a right over its runbook.
fn permit(app: &App, store: &dyn crate::store::Store, right: Right, target: &Target) -> Result<(), Problems> {
    let right = if target.runbook.is_empty() { Right::Manage } else { right };
    app.permit(store, right, &target.runbook, target.system.as_deref())
}

fn answer(app: &App, store: &dyn Ticks, key: &str, words: impl Fn() -> String) -> Result<u8, Problems> {
    if app.json {
        let state = states(store)?.remove(key).unwrap_or_default();
        app.answer_json(&Held { schedule: key.to_owned(), paused: state.paused, skip: state.skip })?;
        return Ok(0);
    }
    app.terminal.say(&styled(DIM, words()));
    Ok(0)
}
