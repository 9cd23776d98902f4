//! What people are told of runs that nobody watched.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::error::Result;
use crate::model::{Level, Message, Parcel, Run, RunState, System, Tick, Urgency};
use crate::run::outbox::{self, Addresses};
use crate::store::Store;

use super::care::SCOPE;
use super::now;

/// Tells whoever the routes of the system name for it, that a run needs a person. The same is said once.
///
/// # Errors
///
/// `store`.
pub(super) fn needs_a_person(store: &dyn Store, addresses: &Addresses, system: &System, run: &Run) -> Result<()> {
    let why = match (&run.waits_for, &run.error) {
        (Some(asked), _) => asked.question.clone(),
        (None, Some(error)) => error.message.clone(),
        (None, None) => run.status.name().to_owned(),
    };
    let next = match (&run.waits_for, run.status) {
        (Some(_), _) => format!("runbook approve {} --reason \"…\"", run.run),
        (None, RunState::NeedsAttention) => format!("runbook report {}", run.run),
        (None, _) => format!("runbook logs {} --failed", run.run),
    };
    let level = if run.waits_for.is_some() { Level::Warning } else { Level::Critical };
    let subject = format!("{} #{}: {}", run.runbook, run.run, run.status.name());
    let mut facts = vec![("run".to_owned(), format!("#{}", run.run)), ("runbook".to_owned(), run.runbook.clone())];
    facts.extend(run.system.clone().map(|system| ("system".to_owned(), system)));
    let dedupe = Some(format!("run {} {} {}", run.id, run.status.name(), run.attempt));
    let language = system.language.clone();
    let message =
        Message { subject, text: why, level: Urgency::Level(level), facts, next: Some(next), language, dedupe, ..Message::default() };
    post(store, addresses, system, level, &message, now())
}

/// Tells how a run ended that nobody watched: when it is the first of its kind that failed, and when it is the first
/// that is well again.
///
/// # Errors
///
/// `store`.
pub(super) fn ended(store: &dyn Store, addresses: &Addresses, system: &System, run: &Run) -> Result<()> {
    let what = format!("{} #{}", run.runbook, run.run);
    let dedupe = format!("run {} {} {}", run.id, run.status.name(), run.attempt);
    let news = |text: String, next: Option<String>| News { runbook: &run.runbook, system, dedupe, what, text, next, at: now() };
    match run.status {
        RunState::Failed | RunState::TimedOut => {
            let why = run.error.as_ref().map_or_else(|| run.status.name().to_owned(), |error| error.message.clone());
            news(why, Some(format!("runbook logs {} --failed", run.run))).is_bad(store, addresses, run.status.name())
        }
        RunState::Succeeded | RunState::Warning => news(run.status.name().to_owned(), None).is_good(store, addresses),
        _ => Ok(()),
    }
}

/// Tells that what was due could not be started, when that is news.
///
/// # Errors
///
/// `store`.
pub(super) fn refused(store: &dyn Store, addresses: &Addresses, system: &System, tick: &Tick, why: &str) -> Result<()> {
    let next = Some(format!("runbook schedule why {} {}", tick.runbook, tick.due));
    let dedupe = format!("tick {} {}", tick.schedule, tick.due);
    let news = News { runbook: &tick.runbook, system, dedupe, what: tick.runbook.clone(), text: why.to_owned(), next, at: now() };
    news.is_bad(store, addresses, "not started")
}

/// What happened to a runbook that starts by itself.
struct News<'n> {
    runbook: &'n str,
    system: &'n System,
    dedupe: String,
    what: String,
    text: String,
    next: Option<String>,
    at: Timestamp,
}

impl News<'_> {
    /// What is noted from its first failure until it is well again.
    fn key(&self) -> String {
        format!("trouble/{}/{}", self.system.name, self.runbook)
    }

    fn is_bad(&self, store: &dyn Store, addresses: &Addresses, how: &str) -> Result<()> {
        let key = self.key();
        if store.note(SCOPE, &key)?.is_some() {
            return Ok(());
        }
        self.send(store, addresses, Level::Critical, how)?;
        // Whoever is cut off in between says it again, which the key of the message prevents.
        store.keep_note(SCOPE, &key, &json!({ "since": self.at }))
    }

    fn is_good(&self, store: &dyn Store, addresses: &Addresses) -> Result<()> {
        let key = self.key();
        if store.note(SCOPE, &key)?.is_none() {
            return Ok(());
        }
        self.send(store, addresses, Level::Ok, "recovered")?;
        store.keep_note(SCOPE, &key, &Value::Null)
    }

    /// To those who are told of what is critical, also when it is over.
    fn send(&self, store: &dyn Store, addresses: &Addresses, level: Level, how: &str) -> Result<()> {
        let system = self.system;
        let facts = vec![("runbook".to_owned(), self.runbook.to_owned()), ("system".to_owned(), system.name.clone())];
        let message = Message {
            subject: format!("{}: {how}", self.what),
            text: self.text.clone(),
            level: Urgency::Level(level),
            facts,
            next: self.next.clone(),
            language: system.language.clone(),
            dedupe: Some(self.dedupe.clone()),
            ..Message::default()
        };
        post(store, addresses, system, Level::Critical, &message, self.at)
    }
}

/// Puts a message into the outbox for each contact of a route.
fn post(store: &dyn Store, addresses: &Addresses, system: &System, level: Level, message: &Message, at: Timestamp) -> Result<()> {
    for contact in system.routes.get(level.name()).into_iter().flatten() {
        let mut parcel = Parcel::new(uuid::Uuid::now_v7(), contact, &system.name, message.clone(), at);
        parcel.project.clone_from(&addresses.project);
        outbox::post(store, &parcel)?;
    }
    Ok(())
}
