//! When runbooks run by themselves.
//!
//! A [`Schedule`](crate::model::Schedule) becomes an [`Entry`], whose [`Timing`] knows the next moment after any.
//! The [`Planner`] is pure: moments and what happened go in, [`Decision`]s and the ticks to write come out. The
//! [`Scheduler`] owns it, and brings it together with the store, a [`Clock`] and a [`Launch`]; it knows neither
//! how a run is started nor what a runbook is.

mod entry;
mod planner;
mod scheduler;
mod timing;
mod words;

#[cfg(test)]
mod tests;

pub use entry::{Entry, Group, Policy, entries_of, entry_of_header, key};
pub use planner::{Decision, Planner};
pub use scheduler::{Clock, Handle, Launch, Scheduler, Sleep, SystemClock};
pub use timing::{Due, Timing};
pub use words::Change;
