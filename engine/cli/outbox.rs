//! Delivering messages after a run, and telling what became of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::cli::app::{App, secret_value};
use crate::cli::history::now;
use crate::cli::report::visible;
use crate::cli::terminal::{DIM, styled};
use crate::config::{Environment, Flags, Problems, Project};
use crate::error::{Error, Kind, Result};
use crate::host::secrets::names_in;
use crate::host::{Secrets, Stop};
use crate::model::{Channel, Level, System};
use crate::run::outbox::{Addresses, Delivery, Waiting, deliver_due};
use crate::store::{StateDir, Store};
use crate::words;

/// How long a command waits for messages that are not due yet, or not accepted at the first try.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where people are reached: in the systems of this project, and of others with the same outbox.
pub(super) fn addresses(app: &App, state: &StateDir) -> Result<Addresses, Problems> {
    let here = app.project()?.clone();
    let environment = app.environment.clone();
    let state = state.clone();
    let root = std::path::absolute(&here.root).unwrap_or_else(|_| here.root.clone()).display().to_string();
    let name = root.clone();
    Ok(Addresses::new(name, move |channel| {
        if channel.project == root {
            return look_up(&here, channel, &environment, &state);
        }
        let flags = Flags { directory: PathBuf::from(&channel.project), ..Flags::default() };
        look_up(&Project::find(&environment, &flags)?, channel, &environment, &state)
    }))
}

fn look_up(project: &Project, channel: &Channel, environment: &Environment, state: &StateDir) -> Result<(System, Secrets)> {
    let systems = project.systems(environment);
    let name = &channel.system;
    if !systems.names().contains(name) {
        return Err(Error::new(Kind::Usage, format!("there is no system `{name}` in `{}`", channel.project)));
    }
    let broken = |problems: Problems| Error { kind: Kind::Config, ..problems.into() };
    let system = systems.load(name).map_err(broken)?.system;
    let contacts = serde_json::to_string(&system.contacts).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
    let mut values = BTreeMap::new();
    for name in names_in(&contacts) {
        // One that can not be read is missed by its own contact; the others are still told.
        if let Ok(Some(value)) = secret_value(project, state, environment, name) {
            values.insert(name.to_owned(), value);
        }
    }
    Ok((system, Secrets::new(values)))
}

/// Delivers what is due, and says what became of it. What goes wrong here is said too, and changes nothing
/// of the run.
pub(super) fn deliver(app: &App, store: &dyn Store, state: &StateDir, addresses: &Addresses, stop: &Stop) {
    if app.terminal.is_watched() && store.queued().is_ok_and(|queued| queued.iter().any(|parcel| parcel.due <= now())) {
        app.terminal.say(&styled(DIM, "delivering messages; Ctrl-C leaves them for later"));
    }
    match deliver_due(store, state, addresses, stop, PATIENCE) {
        Ok(delivery) => {
            for (level, line) in lines(&delivery, addresses) {
                let line = format!("{} {line}", app.terminal.level(level));
                // Who asked to hear less did not ask to miss that nobody was told.
                if level == Level::Critical { app.terminal.insist(&line) } else { app.terminal.say(&line) }
            }
        }
        Err(error) => {
            app.complain(&error.context("the outbox").into());
        }
    }
}

fn lines(delivery: &Delivery, addresses: &Addresses) -> Vec<(Level, String)> {
    let name = |channel: &Channel| {
        let project = if channel.project == addresses.project { String::new() } else { format!(" in {}", channel.project) };
        format!("`{}` of {}{project}", channel.contact, channel.system)
    };
    let mut lines = Vec::new();
    for (channel, count) in &delivery.delivered {
        lines.push((Level::Ok, format!("sent {} to {}", words::count(*count, "message"), name(channel))));
    }
    let mut given_up: BTreeMap<(Channel, &str, Option<&str>), usize> = BTreeMap::new();
    for (parcel, fallback) in &delivery.given_up {
        let why = parcel.last_error.as_deref().unwrap_or_default();
        *given_up.entry((Channel::of(parcel), why, fallback.as_deref())).or_default() += 1;
    }
    for ((channel, why, fallback), count) in given_up {
        let instead = fallback.map_or("nobody is told instead".to_owned(), |fallback| format!("`{fallback}` is told instead"));
        let was = if count == 1 { "was" } else { "were" };
        let line = format!("{} for {} {was} given up: {}; {instead}", words::count(count, "message"), name(&channel), visible(why));
        lines.push((if fallback.is_some() { Level::Warning } else { Level::Critical }, line));
    }
    for Waiting { channel, count, due, error } in &delivery.waiting {
        let wait = if *count == 1 { "waits" } else { "wait" };
        let why = error.as_deref().map(|error| format!(": {}", visible(error))).unwrap_or_default();
        let until = match (delivery.busy, error) {
            (true, _) => "another runbook delivers at the moment".to_owned(),
            (false, Some(_)) => format!("tried again after {}", clock(*due)),
            (false, None) => format!("sent after {}", clock(*due)),
        };
        lines.push((Level::Warning, format!("{} {wait} for {}{why}; {until}", words::count(*count, "message"), name(channel))));
    }
    lines
}

/// A time of today, as exact as its distance makes sensible.
fn clock(time: Timestamp) -> String {
    let near = time.duration_since(now()) < SignedDuration::from_mins(2);
    time.to_zoned(TimeZone::system()).strftime(if near { "%H:%M:%S" } else { "%H:%M" }).to_string()
}
