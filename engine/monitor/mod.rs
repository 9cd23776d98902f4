//! What is watched without anyone looking: rules over samples, alarms, trends, incidents, repairs.
//!
//! Judging is pure: samples, a rule and a moment in; an answer out. It knows no clock, no store and no
//! network, so that a day of a system is a test of milliseconds. Who samples, keeps and tells stands at
//! the end of this list.

pub mod alarm;
#[cfg(test)]
mod day;
pub mod desk;
pub mod drill;
pub mod duty;
pub mod incident;
pub mod news;
pub mod own;
pub mod postmortem;
pub mod prometheus;
pub mod remedy;
pub mod repairs;
pub mod rule;
pub mod sampler;
#[cfg(test)]
pub(crate) mod testing;
pub mod trend;
pub mod watch;
