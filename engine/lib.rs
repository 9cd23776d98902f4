//! runbook runs operations procedures as code.
//!
//! The public API of the library is [`embed`]: runbooks inside of another program, with host modules of its
//! own. All other modules are parts of the `runbook` command; they are `pub` for its tests, and may change with
//! any release.
//!
//! The tour, in reading order; a module uses those above it, never those below (a test holds the table):

#[doc(hidden)]
pub mod words;

#[doc(hidden)]
#[macro_use]
pub mod error;
#[doc(hidden)]
pub mod model;

#[doc(hidden)]
pub mod config;

#[doc(hidden)]
pub mod store;

#[doc(hidden)]
pub mod host;

#[doc(hidden)]
pub mod script;

#[doc(hidden)]
pub mod run;

#[doc(hidden)]
pub mod schedule;

#[doc(hidden)]
pub mod monitor;

#[doc(hidden)]
pub mod daemon;

#[doc(hidden)]
pub mod cli;

#[doc(inline)]
pub use cli::embed;
