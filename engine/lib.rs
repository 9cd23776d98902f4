//! runbook runs operations procedures as code.
//!
//! The tour, in reading order; a module uses those above it, never those below (a test holds the table):

pub mod words;

#[macro_use]
pub mod error;
pub mod model;

pub mod config;

pub mod store;

pub mod host;

pub mod script;

pub mod run;

pub mod cli;
