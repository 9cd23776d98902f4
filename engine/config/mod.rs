//! Settings and systems: found, read, overlaid and checked, with the place of everything that is wrong.
//!
//! Knows files and the environment; knows nothing of scripts, stores and networks. Everything it
//! complains about is collected, so that one reading shows all that is wrong with a file.

mod cases;
mod environment;
mod guard;
mod key;
mod keys;
mod library;
mod metrics;
mod node;
mod policy;
mod project;
mod secret;
mod settings;
mod state;
mod systems;
mod typed;
mod validate;

pub use cases::CaseFile;
pub use environment::Environment;
pub use key::KeyPlace;
pub use keys::{KEYS, Key, KeyKind};
pub use library::{Found, Library, RUNBOOKS};
pub use metrics::{METRICS, Metric};
pub use policy::{Caps, Policy, Right, Role};
pub use project::{FILE, Flags, Origin, Project};
pub use secret::{SecretSource, kept_secret};
pub use settings::{Hook, Limits, Retention, Sandbox, Settings};
pub use state::state_place;
pub use systems::{BUILTIN, Loaded, Problems, Systems};

#[cfg(test)]
mod tests;
