//! The functions scripts can call: one folder per module.
//!
//! A module is mechanism: small, general, in Rust. Policy belongs to the stdlib. Every module has an
//! async client that knows nothing of Rhai, and an `api` that does nothing but check the permission,
//! read the options and wait. The only door to the world is [`Ctx`]; no module knows the store.

use std::sync::OnceLock;

pub(crate) mod argument;
mod call;
mod ctx;
pub(crate) mod dial;
pub mod frames;
mod function;
pub mod measure;
mod moment;
mod options;
pub mod permission;
pub(crate) mod plan;
pub(crate) mod process;
mod recorder;
pub mod sandbox;
pub mod secrets;
pub(crate) mod session;
pub(crate) mod stand_in;
mod stop;
pub(crate) mod trust;
pub mod value;
pub(crate) mod watched;

mod docker;
mod exec;
mod fs;
mod http;
mod incident;
#[cfg(feature = "k8s")]
mod k8s;
#[cfg(test)]
mod leash;
mod logs;
mod net;
pub mod notify;
mod prom;
mod redis;
mod report;
mod rules;
mod runs;
mod samples;
pub(crate) mod secret;
mod services;
mod sql;
mod store;
mod sys;
mod systemd;
#[cfg(test)]
mod testing;
mod time;
mod tls;

pub use call::{Call, RhaiResultOf};
pub(crate) use call::{OutOfTime, TakeBack, error_of, thrown};
pub use ctx::{Ctx, Mode, RunInfo};
pub(crate) use exec::{Offspring, SECRET_FILES, kill_descendants, kill_strays};
pub use function::{Function, FunctionKind, HostModule, Need, NeedObject};
pub use moment::Moment;
pub(crate) use net::socket_owners;
pub(crate) use options::type_in_words;
pub use options::{Number, OptionError, read_options};
pub use permission::{Access, Permissions};
pub use plan::Expected;
pub use recorder::{Answer, Gate, PersonQuestion, Question, Recorder, Refusing, RunOrder};
pub use secrets::{Secret, SecretText, Secrets};
pub use stop::{Stop, StopReason};
pub(crate) use sys::deleted_files;
pub use watched::{Firing, MadeUp, Opening, OpeningSource, RulesQuestion, WatchQuestion};

/// The host modules of this library; nothing else names them all.
pub const MODULES: &[HostModule] = &[
    docker::MODULE,
    exec::MODULE,
    fs::MODULE,
    http::MODULE,
    incident::MODULE,
    #[cfg(feature = "k8s")]
    k8s::MODULE,
    logs::MODULE,
    net::MODULE,
    notify::MODULE,
    prom::MODULE,
    redis::MODULE,
    report::MODULE,
    rules::MODULE,
    runs::MODULE,
    samples::MODULE,
    secret::MODULE,
    services::MODULE,
    sql::MODULE,
    store::MODULE,
    sys::MODULE,
    systemd::MODULE,
    time::MODULE,
    tls::MODULE,
];

/// What a program that embeds the library adds to it.
#[derive(Clone, Copy)]
pub struct Extension {
    /// Its host modules. One that is called like a module of the library takes its place.
    pub modules: &'static [HostModule],
    /// The sections of `allow` that its modules ask for, beside those there are.
    pub sections: &'static [permission::Section],
}

impl Extension {
    /// Nothing.
    pub const NONE: Self = Self { modules: &[], sections: &[] };
}

static EXTENSION: OnceLock<Extension> = OnceLock::new();

/// Makes an extension known; before anything else of the library is used, and once per process.
pub(crate) fn extend(extension: Extension) {
    // The first one stays: engines may be made of it already.
    let _ = EXTENSION.set(extension);
}

/// Every host module, those of an embedding program first.
pub(crate) fn modules() -> impl Iterator<Item = &'static HostModule> {
    let own = EXTENSION.get().map_or(&[][..], |extension| extension.modules);
    own.iter().chain(MODULES.iter().filter(|module| own.iter().all(|other| other.name != module.name)))
}

/// Every section of `allow`.
fn sections() -> impl Iterator<Item = &'static permission::Section> {
    permission::SECTIONS.iter().chain(EXTENSION.get().map_or(&[][..], |extension| extension.sections))
}
