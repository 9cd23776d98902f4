//! What a run is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::host::{Permissions, Secrets};
use crate::model::{Origin, Plan, System, Trigger};
use crate::run::answers::Answers;
use crate::run::dispatch::Within;
use crate::run::faults::Faults;
use crate::run::lock::LockRequest;
use crate::run::outbox::Addresses;
use crate::run::protocol::Limits;
use crate::script::Script;

/// Everything a run is made of.
#[derive(Debug)]
pub struct Request {
    /// The runbook.
    pub script: Script,
    /// The values of its parameters, checked; names where they are secrets.
    pub params: BTreeMap<String, Value>,
    /// The same as they are shown and recorded: secrets masked.
    pub shown: BTreeMap<String, Value>,
    /// The system it runs for.
    pub system: System,
    /// What it may touch.
    pub permissions: Permissions,
    /// The secrets it is given.
    pub secrets: Secrets,
    /// What it may use.
    pub limits: Limits,
    /// The plan it carries out.
    pub plan: Option<Plan>,
    /// The commit of the runbook, when it is in git and unchanged.
    pub commit: Option<String>,
    /// What started it.
    pub trigger: Trigger,
    /// Who started it.
    pub by: String,
    /// Who is behind it; of the run it is part of, when it is part of one.
    pub origin: Origin,
    /// Where the people are reached that it sends messages to.
    pub addresses: Addresses,
    /// What no script may touch, whatever it was granted: the state, the settings, the library, this binary.
    pub protected: Vec<PathBuf>,
    /// The lock it holds while it runs; nothing when the run it is part of holds it.
    pub lock: Option<LockRequest>,
    /// What goes wrong on purpose.
    pub faults: Faults,
    /// What answers in place of the world, when it is a test.
    pub answers: Option<Arc<Answers>>,
    /// The runs above it, when it is a sub-run.
    pub within: Option<Within>,
    /// The secrets of the runs above, which it is not given and must not show either.
    pub masks: Secrets,
}
