//! `runbook schedule`: when runbooks run by themselves, why one did not, and what to leave out.

mod explain;
mod hold;
mod list;
mod next;
mod simulate;
mod why;

use std::collections::BTreeMap;

use clap::Subcommand;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::cli::app::App;
use crate::cli::history::now;
use crate::cli::terminal::{DIM, WARN, styled};
use crate::config::Problems;
use crate::error::{Error, Kind, Result};
use crate::model::{Cron, Schedule, ScheduleState, Span, System};
use crate::schedule::Entry;
use crate::store::{Ticks, audit};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The schedules, their rules, and what became of each last
    List(list::Args),
    /// What runs next, or when a schedule or a rule is due
    Next(next::Args),
    /// A rule in words, its next moments, and what clock changes do to it
    Explain(explain::Args),
    /// A year of the schedules: how often, how many at once, clock changes
    Simulate(simulate::Args),
    /// Why a runbook ran, or did not, at a time
    Why(why::Args),
    /// Keep schedules from starting anything
    Pause(hold::PauseArgs),
    /// Let paused schedules go on
    Resume(hold::ResumeArgs),
    /// Leave out the next moments of a schedule
    Skip(hold::SkipArgs),
}

impl Args {
    /// What the audit log calls it.
    pub(super) fn acts(&self) -> &'static [audit::Action] {
        match self.action {
            Action::Pause(_) => &[audit::Action::PauseSchedule],
            Action::Resume(_) => &[audit::Action::ResumeSchedule],
            Action::Skip(_) => &[audit::Action::SkipSchedule],
            Action::List(_) | Action::Next(_) | Action::Explain(_) | Action::Simulate(_) | Action::Why(_) => &[],
        }
    }
}

/// When a runbook starts by itself for a system: each rule in words, with its next moment.
pub(super) fn of_runbook(app: &App, runbook: &str, system: &str) -> Result<Vec<Starts>, Problems> {
    let schedules = Schedules::read(app, Some(system))?;
    let on = schedules.known.into_iter().filter(|known| known.enabled && known.entry.runbook == runbook);
    Ok(on.map(|known| Starts::new(&known.entry)).collect())
}

/// When a schedule starts something.
#[derive(Serialize)]
pub(super) struct Starts {
    schedule: String,
    rule: String,
    words: String,
    next: Option<Timestamp>,
    #[serde(skip)]
    zone: TimeZone,
}

impl Starts {
    fn new(entry: &Entry) -> Self {
        let next = entry.timing.next(now()).map(|due| entry.start(due.at));
        Self { schedule: entry.key.clone(), rule: entry.rule(), words: entry.timing.in_words(), next, zone: entry.policy.zone.clone() }
    }

    /// Its words and its next moment, for people.
    pub(super) fn in_words(&self) -> String {
        let next = self.next.map_or_else(|| "never again".to_owned(), |next| format!("next {}", shown(next, &self.zone)));
        format!("{}   {}", self.words, styled(DIM, next))
    }
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    match args.action {
        Action::List(args) => list::run(args, app),
        Action::Next(args) => next::run(args, app),
        Action::Explain(args) => explain::run(args, app),
        Action::Simulate(args) => simulate::run(args, app),
        Action::Why(args) => why::run(args, app),
        Action::Pause(args) => hold::pause(args, app),
        Action::Resume(args) => hold::resume(args, app),
        Action::Skip(args) => hold::skip(args, app),
    }
}

/// A schedule as a file has it.
pub(super) struct Known {
    pub(super) entry: Entry,
    /// Whether it is on.
    enabled: bool,
    /// `system` or `header`.
    source: &'static str,
}

/// The schedules the daemon has run.
pub(super) struct Live {
    pub(super) schedules: Schedules,
    pub(super) systems: Vec<System>,
    pub(super) broken: Vec<String>,
}

/// The schedules there are, on or off, and what is wrong with others: one that is wrong silences no other.
pub(super) struct Schedules {
    pub(super) known: Vec<Known>,
    pub(super) problems: Vec<Error>,
}

impl Schedules {
    /// Those of a system, or of every system of the project and the default one.
    pub(super) fn read(app: &App, system: Option<&str>) -> Result<Self, Problems> {
        let project = app.project()?;
        let default = &project.settings.default_system;
        let systems = project.systems(&app.environment);
        let mut names = system.map_or_else(|| systems.own(), |name| vec![name.to_owned()]);
        if system.is_none() && !names.contains(default) {
            names.push(default.clone());
        }
        let mut found = Self { known: Vec::new(), problems: Vec::new() };
        for name in names {
            match systems.load(&name) {
                Ok(loaded) => found.of_system(app, &loaded.system, *default == name)?,
                Err(problems) if system.is_some() => return Err(problems),
                Err(problems) => found.problems.extend(problems.errors),
            }
        }
        Ok(found)
    }

    /// Those the daemon has run: of the systems the settings name, else of those that are files of the project, and
    /// what the headers have for the default one. A system that can not be read is among the broken ones.
    pub(super) fn live(app: &App) -> Result<Live, Problems> {
        let project = app.project()?;
        let default = &project.settings.default_system;
        let systems = project.systems(&app.environment);
        let mut names = project.settings.daemon.systems.clone().unwrap_or_else(|| systems.own());
        let has_only_headers = project.settings.daemon.systems.is_none() && !names.contains(default);
        if has_only_headers {
            names.push(default.clone());
        }
        let mut live = Live { schedules: Self { known: Vec::new(), problems: Vec::new() }, systems: Vec::new(), broken: Vec::new() };
        for name in names {
            let mut system = match systems.load(&name) {
                Ok(loaded) => loaded.system,
                Err(problems) => {
                    live.schedules.problems.extend(problems.errors);
                    live.broken.push(name);
                    continue;
                }
            };
            if has_only_headers && name == *default {
                system.schedules.clear();
            }
            let before = live.schedules.known.len();
            live.schedules.of_system(app, &system, name == *default)?;
            if !has_only_headers || name != *default || live.schedules.known.len() > before {
                live.systems.push(system);
            }
        }
        Ok(live)
    }

    fn of_system(&mut self, app: &App, system: &System, is_default: bool) -> Result<(), Problems> {
        for (name, schedule) in &system.schedules {
            self.add(system, name, schedule, "system");
        }
        let library = app.library()?;
        for name in library.names().into_iter().filter(|name| is_default && !system.schedules.contains_key(name)) {
            // Reading a script takes a while, and few have one.
            if !library.find(&name)?.text.contains("schedule:") {
                continue;
            }
            match app.script(&name) {
                Ok(script) => {
                    if let Some(schedule) = &script.header.schedule {
                        self.add(system, &name, schedule, "header");
                    }
                }
                Err(problems) => self.problems.extend(problems.errors),
            }
        }
        Ok(())
    }

    fn add(&mut self, system: &System, name: &str, schedule: &Schedule, source: &'static str) {
        match Entry::new(system, name, schedule) {
            Ok(entry) => self.known.push(Known { entry, enabled: schedule.enabled, source }),
            Err(error) => self.problems.push(error),
        }
    }

    /// Those that are on, for whoever has them run.
    pub(super) fn entries(self) -> Vec<Entry> {
        self.known.into_iter().filter(|known| known.enabled).map(|known| known.entry).collect()
    }

    /// Says what is wrong with those that are not among them.
    fn warn(&self, app: &App) {
        for problem in &self.problems {
            app.terminal.insist(&format!("{} {problem}", styled(WARN, "warning:")));
        }
    }

    /// The schedule of this name: `SYSTEM/NAME`, or the name alone where one system has it.
    fn find(&self, name: &str) -> Result<&Known> {
        let alike: Vec<&Known> = self.known.iter().filter(|known| known.entry.is_called(name)).collect();
        match alike.as_slice() {
            [one] => Ok(*one),
            [] => {
                let names = self.known.iter().filter_map(|known| known.entry.key.split('/').nth(1));
                let error = Error::new(Kind::Usage, format!("there is no schedule `{name}`"));
                Err(error.suggest_or(name, names, || "`runbook schedule list` lists them"))
            }
            _ => {
                Err(Error::new(Kind::Usage, format!("more than one system has a schedule `{name}`"))
                    .hint("write `SYSTEM/NAME`, or add `-s`"))
            }
        }
    }
}

/// What is kept of schedules, by name.
fn states(store: &dyn Ticks) -> Result<BTreeMap<String, ScheduleState>> {
    Ok(store.schedule_states()?.into_iter().map(|state| (state.schedule.clone(), state)).collect())
}

/// A schedule by its name, or one that is made of a rule: of cron, or `every 5m`.
fn rule_or_schedule(app: &App, text: &str, system: Option<&str>, zone: Option<&str>) -> Result<Entry, Problems> {
    let of = |schedule: Schedule| -> Result<Entry, Problems> {
        let schedule = Schedule { timezone: zone.map(str::to_owned), ..schedule };
        let timezone = app.system(system).map(|system| system.timezone).unwrap_or_default();
        let nowhere = System { name: "rule".to_owned(), timezone, ..System::default() };
        Entry::new(&nowhere, text, &schedule).map_err(|error| Error { kind: Kind::Usage, ..error }.into())
    };
    if let Some(every) = text.strip_prefix("every ") {
        let every: Span = every.parse().map_err(usage)?;
        return of(Schedule { every: Some(every), ..Schedule::default() });
    }
    if text.contains(char::is_whitespace) || text.starts_with('@') {
        let cron: Cron = text.parse().map_err(usage)?;
        return of(Schedule { cron: Some(cron), ..Schedule::default() });
    }
    let mut entry = Schedules::read(app, system)?.find(text)?.entry.clone();
    if let Some(zone) = zone {
        let zone = TimeZone::get(zone).map_err(|_| Error::new(Kind::Usage, format!("unknown time zone `{zone}`")))?;
        if let crate::schedule::Timing::Cron(_, of) = &mut entry.timing {
            of.clone_from(&zone);
        }
        entry.policy.zone = zone;
    }
    Ok(entry)
}

/// What a person typed is wrong, and no file.
fn usage(error: Error) -> Error {
    Error { kind: Kind::Usage, ..error }
}

/// A moment as its zone's clocks show it.
fn shown(at: Timestamp, zone: &TimeZone) -> String {
    let zoned = at.to_zoned(zone.clone());
    let format = if zoned.second() == 0 { "%a %Y-%m-%d %H:%M %:z" } else { "%a %Y-%m-%d %H:%M:%S %:z" };
    zoned.strftime(format).to_string()
}

/// How far a moment is away, whichever way.
fn distance(from: Timestamp, to: Timestamp) -> Span {
    Span(to.duration_since(from).max(SignedDuration::ZERO).unsigned_abs())
}
