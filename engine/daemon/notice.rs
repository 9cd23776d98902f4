//! What people are told of runs that nobody watched.

use jiff::Timestamp;

use crate::error::Result;
use crate::model::{Level, Message, Parcel, Run, RunState, System, Urgency};
use crate::run::outbox::{self, Addresses};
use crate::store::Store;

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

/// Puts a message into the outbox for each contact of a route.
fn post(store: &dyn Store, addresses: &Addresses, system: &System, level: Level, message: &Message, at: Timestamp) -> Result<()> {
    for contact in system.routes.get(level.name()).into_iter().flatten() {
        let mut parcel = Parcel::new(uuid::Uuid::now_v7(), contact, &system.name, message.clone(), at);
        parcel.project.clone_from(&addresses.project);
        outbox::post(store, &parcel)?;
    }
    Ok(())
}
