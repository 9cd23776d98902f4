//! Plans, what people said to them, and the permissions they approved.

use crate::error::{Error, Kind, Result};
use crate::model::{Approval, Pinned, Plan, RunId};

/// Plans and approvals, part of every store.
pub trait Plans {
    /// Keeps a plan. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `store`; nothing was kept then.
    fn keep_plan(&self, plan: &Plan) -> Result<()>;

    /// Every plan, the newest first.
    ///
    /// # Errors
    ///
    /// `store`.
    fn plans(&self) -> Result<Vec<Plan>>;

    /// Says that this run does what the plan says. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `conflict` when another run did already; `not_found`; `store`. Nothing changed then.
    fn spend_plan(&self, hash: &str, run: RunId) -> Result<()>;

    /// Keeps what a person said. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `store`; nothing was kept then.
    fn keep_approval(&self, approval: &Approval) -> Result<()>;

    /// What was said to this hash, in order.
    ///
    /// # Errors
    ///
    /// `store`.
    fn approvals(&self, of: &str) -> Result<Vec<Approval>>;

    /// Keeps the permissions that a person approved, in place of those before. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `store`; nothing was kept then.
    fn pin(&self, pinned: &Pinned) -> Result<()>;

    /// The permissions that were approved last for a runbook and a system.
    ///
    /// # Errors
    ///
    /// `store`.
    fn pinned(&self, runbook: &str, system: &str) -> Result<Option<Pinned>>;
}

pub(super) fn spent(run: &str) -> Error {
    Error::new(Kind::NotStarted, format!("run {run} did what this plan says already"))
        .hint("make a new plan: things are not as they were when this one was made")
}

/// The plan a person means: its id, or the beginning of its hash.
///
/// # Errors
///
/// `usage`, when there is none, or more than one.
pub fn find_plan(store: &dyn Plans, reference: &str) -> Result<Plan> {
    let mut found = store.plans()?;
    found.retain(|plan| reference.len() >= 4 && plan.hash.starts_with(reference));
    match found.len() {
        1 => found.pop().ok_or_else(|| missing(reference)),
        0 => Err(missing(reference)),
        _ => Err(Error::new(Kind::Usage, format!("`{reference}` means more than one plan")).hint("write more of it")),
    }
}

fn missing(reference: &str) -> Error {
    Error::new(Kind::Usage, format!("there is no plan `{reference}`")).hint("`runbook plan NAME` makes one, `runbook approvals` lists them")
}
