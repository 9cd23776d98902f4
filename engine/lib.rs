//! runbook runs operations procedures as code.
//!
//! The tour, in reading order; a module uses those above it, never those below:

#[macro_use]
pub mod error;
pub mod model;

pub mod config;

pub mod host;
