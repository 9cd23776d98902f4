//! Incidents, repairs and registers, part of every store.

use jiff::Timestamp;

use crate::error::{Error, Kind, Result};
use crate::model::{Incident, Parcel, Record, Repair};

/// Which incident is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// The one of this number.
    Number(u64),
    /// The newest one with this fingerprint.
    Fingerprint(&'a str),
}

/// An incident as it is from now on, and what people hear of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// The incident, with its number.
    pub incident: Incident,
    /// Messages on their way; they are put into the outbox with it, or neither.
    pub parcels: Vec<Parcel>,
}

/// Which incidents to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct IncidentFilter {
    /// Only of this system.
    pub system: Option<String>,
    /// Only those that are not over.
    pub open: bool,
    /// Only those opened at or after this.
    pub since: Option<Timestamp>,
    /// At most so many; all when 0.
    pub limit: u32,
}

/// What an incident becomes when it is looked at, and the number of one that is new; nothing when it stays.
pub type Change<'a> = dyn FnMut(Option<Incident>, u64) -> Result<Option<Changed>> + 'a;
/// The repair to make, seen those that were made; nothing when none is to be made.
pub type Choose<'a> = dyn FnMut(&[Repair]) -> Option<Repair> + 'a;

/// Incidents, part of every store.
pub trait Incidents {
    /// Changes an incident in one transaction with the messages about it, and returns it as it is then.
    /// Of two who change one at the same time the second sees what the first left. Durable when it returns.
    ///
    /// # Errors
    ///
    /// What `change` says, or `store`; nothing changed then.
    fn change_incident(&self, which: Which<'_>, change: &mut Change<'_>) -> Result<Option<Incident>>;

    /// An incident as it is; nothing when there is none.
    ///
    /// # Errors
    ///
    /// `store`.
    fn incident(&self, which: Which<'_>) -> Result<Option<Incident>>;

    /// Incidents, the newest first.
    ///
    /// # Errors
    ///
    /// `store`.
    fn incidents(&self, filter: &IncidentFilter) -> Result<Vec<Incident>>;

    /// Writes a repair down before it is made, in one transaction with the look at those of the system that
    /// began at or after `since`, the oldest first. Durable when it returns: after a crash it counts as made.
    ///
    /// # Errors
    ///
    /// `store`; nothing was written then, and nothing must be made.
    fn reserve_repair(&self, system: &str, since: Timestamp, choose: &mut Choose<'_>) -> Result<Option<Repair>>;

    /// Says what became of a repair. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `not_found`; `store`. Nothing changed then.
    fn conclude_repair(&self, repair: &Repair) -> Result<()>;

    /// The repairs of a system that began at or after this, the oldest first.
    ///
    /// # Errors
    ///
    /// `store`.
    fn repairs(&self, system: &str, since: Timestamp) -> Result<Vec<Repair>>;

    /// Writes a line into a register, and returns its number. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `store`; nothing was written then.
    fn record(&self, record: &Record) -> Result<u64>;

    /// The lines of a register at or after this, the oldest first.
    ///
    /// # Errors
    ///
    /// `store`.
    fn records(&self, kind: &str, since: Timestamp) -> Result<Vec<Record>>;
}

/// The incident of this number.
///
/// # Errors
///
/// `usage`, when there is none; `store`.
pub fn find_incident(store: &dyn Incidents, reference: &str) -> Result<Incident> {
    let missing =
        || Error::new(Kind::Usage, format!("there is no incident `{reference}`")).hint("`runbook incident list --all` lists them");
    let number: u64 = reference.trim_start_matches('#').parse().map_err(|_| missing())?;
    store.incident(Which::Number(number))?.ok_or_else(missing)
}

/// The line of this number in any register.
///
/// # Errors
///
/// `usage`, when there is none; `store`.
pub fn find_record(store: &dyn Incidents, reference: &str) -> Result<Record> {
    let missing = || {
        let error = Error::new(Kind::Usage, format!("there is no line `{reference}` in the registers"));
        error.hint("`runbook register list` lists them").hint("an incident is shown by `runbook incident show`")
    };
    let number: u64 = reference.trim_start_matches('#').parse().map_err(|_| missing())?;
    for kind in Record::KINDS {
        if let Some(found) = store.records(kind, Timestamp::MIN)?.into_iter().find(|record| record.number == number) {
            return Ok(found);
        }
    }
    Err(missing())
}

pub(super) fn no_repair(number: u64) -> Error {
    Error::new(Kind::NotFound, format!("there is no repair {number}"))
}
