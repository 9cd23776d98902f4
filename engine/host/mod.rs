//! The functions scripts can call: one folder per module.
//!
//! A module is mechanism: small, general, in Rust. Policy belongs to the stdlib. Every module has an
//! async client that knows nothing of Rhai, and an `api` that does nothing but check the permission,
//! read the options and wait. The only door to the world is [`Ctx`]; no module knows the store.

pub(crate) mod argument;
mod call;
mod ctx;
pub(crate) mod dial;
pub mod frames;
mod function;
mod moment;
mod options;
pub mod permission;
pub(crate) mod plan;
pub(crate) mod process;
mod recorder;
pub mod sandbox;
pub mod secrets;
pub(crate) mod session;
mod stop;
pub(crate) mod trust;
pub mod value;

mod docker;
mod exec;
mod fs;
mod http;
#[cfg(test)]
mod leash;
mod logs;
mod net;
pub mod notify;
mod redis;
mod report;
mod secret;
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
pub(crate) use exec::{SECRET_FILES, kill_descendants};
pub use function::{Function, FunctionKind, HostModule, Need, NeedObject};
pub use moment::Moment;
pub(crate) use net::socket_owners;
pub(crate) use options::type_in_words;
pub use options::{Number, OptionError, read_options};
pub use permission::{Access, Permissions};
pub use plan::Expected;
pub use recorder::{Answer, Gate, PersonQuestion, Question, Recorder, Refusing};
pub use secrets::{Secret, SecretText, Secrets};
pub use stop::{Stop, StopReason};

/// Every host module; nothing else knows them all.
pub const MODULES: &[HostModule] = &[
    docker::MODULE,
    exec::MODULE,
    fs::MODULE,
    http::MODULE,
    logs::MODULE,
    net::MODULE,
    notify::MODULE,
    redis::MODULE,
    report::MODULE,
    secret::MODULE,
    services::MODULE,
    sql::MODULE,
    store::MODULE,
    sys::MODULE,
    systemd::MODULE,
    time::MODULE,
    tls::MODULE,
];
