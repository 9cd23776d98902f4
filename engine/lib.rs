//! runbook runs operations procedures as code.
//!
//! The tour, in reading order; a module uses those above it, never those below:

#[macro_use]
pub mod error;
pub mod host;
pub mod model;
pub mod run;
pub mod script;
pub mod store;
