//! One run, from its request to its record.
//!
//! A run is a process: the *supervisor* (this command, or the daemon) is the only writer of the store
//! and treats the *worker*, which evaluates the script, as hostile. They talk over the worker's
//! standard input and output, see [`protocol`].

mod answers;
pub mod daemon;
mod dispatch;
mod faults;
pub mod journal;
pub mod lock;
mod notes;
pub mod outbox;
pub mod plan;
pub mod process;
mod protocol;
mod recover;
mod redact;
mod sketch;
mod supervisor;
mod watched;
pub mod worker;

pub use answers::{Answers, HostCall};
pub use dispatch::{Dispatch, Ordered, Within};
pub use faults::Faults;
pub use lock::LockRequest;
pub use notes::Notes;
pub use protocol::Limits;
pub use recover::recover;
pub use redact::Redactor;
pub use supervisor::{Control, Enrolled, Request, Source, Supervisor, Worker};
