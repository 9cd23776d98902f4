//! What a run needs of the project to start another one: runbooks, systems and secrets are read above this module.

use crate::error::{Error, Kind, Result};
use crate::host::{Access, RunOrder};
use crate::model::{Event, Plan, Run};
use crate::run::supervisor::{Request, Worker};

/// How many runs may stand above each other: more is a mistake.
const DEEPEST: usize = 8;

/// Makes requests of sub-runs.
pub trait Dispatch: Sync {
    /// Everything a new run of this order is made of. `planned` is its part of the plan that is carried out.
    ///
    /// # Errors
    ///
    /// `not_found`, `usage`, `config`, `script`; `not_started`, when it may not be run like this.
    fn order(&self, order: &RunOrder, above: &Request, planned: Option<&Plan>) -> Result<Ordered>;

    /// Everything a new run of this order would be made of.
    ///
    /// # Errors
    ///
    /// As [`Dispatch::order`].
    fn plan(&self, order: &RunOrder, above: &Request) -> Result<Request>;

    /// Everything a run that ended before its work did goes on with.
    ///
    /// # Errors
    ///
    /// As [`Dispatch::order`], and `store`.
    fn again(&self, order: &RunOrder, run: &Run, events: &[Event], above: &Request, planned: Option<&Plan>) -> Result<Ordered>;

    /// A process for a run.
    ///
    /// # Errors
    ///
    /// `bug`, when it can not be started.
    fn worker(&self) -> Result<Worker>;
}

/// A run that may be started, or go on.
#[derive(Debug)]
pub struct Ordered {
    /// What it is made of.
    pub request: Request,
    /// How many people have to say yes before.
    pub approvals: u32,
}

/// Where a sub-run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within {
    /// The key of the step that it is.
    pub step: String,
    /// The runs above it, the nearest last: their numbers and runbooks.
    pub above: Vec<(u64, String)>,
}

impl Within {
    /// Where the run of an order stands that the run `number` of `request` gives.
    ///
    /// # Errors
    ///
    /// `denied` without the grant, `invalid` when it would be above itself, or too deep.
    pub(super) fn of(order: &RunOrder, request: &Request, number: u64) -> Result<Self> {
        let (verb, object) = order.access(&request.system.name);
        // The worker has asked already; it is asked here again, since it may be hostile.
        request.permissions.check(&Access::word("runs", verb, &object))?;
        let mut above = request.within.as_ref().map(|within| within.above.clone()).unwrap_or_default();
        above.push((number, request.script.name.clone()));
        let names = above.iter().map(|(_, name)| name.as_str()).chain([order.runbook.as_str()]).collect::<Vec<_>>().join(" → ");
        if above.iter().any(|(_, name)| *name == order.runbook) {
            return Err(Error::new(Kind::Invalid, format!("`{}` would be a part of itself: {names}", order.runbook)));
        }
        if above.len() > DEEPEST {
            return Err(Error::new(Kind::Limit, format!("more than {DEEPEST} runs above each other: {names}")));
        }
        Ok(Self { step: order.key.clone(), above })
    }

    /// The number of the run it is part of.
    pub(super) fn parent(&self) -> u64 {
        self.above.last().map_or(0, |(number, _)| *number)
    }

    /// Whether this run stands above it.
    pub(super) fn is_below(&self, number: u64) -> bool {
        self.above.iter().any(|(above, _)| *above == number)
    }
}
