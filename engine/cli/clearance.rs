//! Whether something may be done: rights, typed names, plans, approvals and pinned permissions.

use crate::cli::app::App;
use crate::cli::history::now;
use crate::config::{Policy, Problems, Right};
use crate::error::{Error, Kind, Result};
use crate::host::permission::in_words;
use crate::model::{ApprovalVerdict, Danger, Header, Origin, Plan, Run};
use crate::run::{Request, plan};
use crate::store::Store;
use crate::store::audit::{Act, Action};

/// Refuses what whoever is behind it may not do; who tried is on record.
pub(super) fn permit(policy: &Policy, store: &dyn Store, origin: &Origin, right: Right, runbook: &str, system: &str) -> Result<()> {
    let decided = policy.permit(origin, right, runbook, system);
    if let Err(error) = &decided {
        let subject = if runbook.is_empty() { "secrets and the state" } else { runbook };
        let act = Act { who: origin.to_string(), action: Action::Refuse, subject: subject.to_owned(), why: right.name().to_owned() };
        store.audit(&act.entry(Some(&error.message)))?;
    }
    decided
}

/// Refuses a run that may not begin, or asks on the terminal.
pub(super) fn ask(request: &Request, store: &dyn Store, yes: bool, app: &App) -> Result<(), Problems> {
    let policy = &app.project()?.settings.policy;
    let is_attended = request.origin.is_attended();
    if policy.pin && !is_attended {
        must_be_pinned(request, store)?;
    }
    let header = &request.script.header;
    let is_destructive = header.danger == Danger::Destructive;
    let quorum = quorum(header, policy);
    let Some(planned) = &request.plan else {
        if quorum > 0 || is_destructive && !is_attended {
            return Err(needs_a_plan(request, quorum).into());
        }
        if is_destructive && !yes {
            type_the_target(request)?;
        }
        return Ok(());
    };
    let is_destructive = is_destructive || planned.is_destructive();
    let needed = quorum.max(quorum_of(planned, policy)).max(u32::from(is_destructive && !is_attended));
    plan::admit(store, planned, request, needed)?;
    let is_approved = plan::standing(store, planned, needed, now())? == ApprovalVerdict::Approved;
    if is_destructive && !is_approved && !yes {
        type_the_target(request)?;
    }
    Ok(())
}

/// Refuses a run that may not go on: where nobody can be asked, it needs what it would have needed to begin there.
pub(super) fn again(request: &Request, run: &Run, store: &dyn Store, app: &App) -> Result<(), Problems> {
    let policy = &app.project()?.settings.policy;
    let (header, is_attended) = (&request.script.header, request.origin.is_attended());
    let planned = request.plan.as_ref();
    let is_destructive = header.danger == Danger::Destructive || planned.is_some_and(Plan::is_destructive);
    let quorum = quorum(header, policy).max(planned.map_or(0, |planned| quorum_of(planned, policy)));
    let needed = quorum.max(u32::from(is_destructive && !is_attended));
    if let Some(planned) = request.plan.as_ref().filter(|plan| plan.run.is_none()) {
        // It was cut off while it waited for its turn.
        return Ok(plan::admit(store, planned, request, needed)?);
    }
    if is_attended {
        return Ok(());
    }
    if policy.pin {
        must_be_pinned(request, store)?;
    }
    let approved = match &request.plan {
        // What was said counts as of the start: a run may well go on after its plan is out of date.
        Some(planned) => plan::standing(store, planned, needed, run.started)? == ApprovalVerdict::Approved,
        None => false,
    };
    if needed == 0 || approved {
        return Ok(());
    }
    Err(Error::new(Kind::NotStarted, format!("`{}` is destructive, and nobody can be asked", run.runbook))
        .code("RB3203")
        .hint(format!("at a terminal: runbook resume {}", run.run))
        .into())
}

/// How many people must say yes to a plan of this runbook.
pub(super) fn quorum(header: &Header, policy: &Policy) -> u32 {
    let asked = if header.danger == Danger::Destructive { policy.approvals } else { 0 };
    header.approvals.max(asked)
}

/// How many people must say yes to this plan, with all runs in it.
pub(super) fn quorum_of(plan: &Plan, policy: &Policy) -> u32 {
    let asked = if plan.is_destructive() { policy.approvals } else { 0 };
    plan.most_approvals().max(asked)
}

/// Refuses a sub-run, or says how many people must say yes to it before it starts. What is in the plan that
/// is carried out was approved with it.
pub(super) fn of_sub_run(request: &Request, planned: Option<&Plan>, store: &dyn Store, yes: bool, app: &App) -> Result<u32, Problems> {
    if let Some(planned) = planned {
        plan::admit(store, planned, request, 0)?;
    }
    approvals_of_sub_run(request, planned, store, yes && request.origin.is_attended(), app)
}

/// As [`of_sub_run`], for one that goes on: a person who lets it go on says yes by that.
pub(super) fn of_sub_run_again(request: &Request, planned: Option<&Plan>, store: &dyn Store, app: &App) -> Result<u32, Problems> {
    match request.origin.is_attended() {
        true => Ok(0),
        false => approvals_of_sub_run(request, planned, store, false, app),
    }
}

fn approvals_of_sub_run(request: &Request, planned: Option<&Plan>, store: &dyn Store, yes: bool, app: &App) -> Result<u32, Problems> {
    let policy = &app.project()?.settings.policy;
    if policy.pin && !request.origin.is_attended() {
        must_be_pinned(request, store)?;
    }
    let header = &request.script.header;
    let asks = header.danger == Danger::Destructive && !yes;
    Ok(if planned.is_some() { 0 } else { quorum(header, policy).max(u32::from(asks)) })
}

fn needs_a_plan(request: &Request, quorum: u32) -> Error {
    let name = &request.script.name;
    let why = match quorum {
        0 => format!("`{name}` is destructive, and nobody can be asked"),
        1 => format!("`{name}` runs only as planned, when the plan was approved"),
        quorum => format!("`{name}` runs only as planned, when {quorum} people approved the plan"),
    };
    Error::new(Kind::NotStarted, why)
        .code("RB3203")
        .hint(format!("make a plan: runbook plan {name} -s {}", request.system.name))
        .hint("then: runbook approve PLAN --reason \"…\"     and: runbook run --plan PLAN")
}

/// Asks for the name of the target before something destructive; never a bare `y`.
fn type_the_target(request: &Request) -> Result<()> {
    let (name, system) = (&request.script.name, &request.system.name);
    let target = if system.is_empty() { name } else { system };
    let typed: String = dialoguer::Input::new()
        .with_prompt(format!("{name} is destructive. Type `{target}` to go on"))
        .allow_empty(true)
        .interact_text()
        .map_err(|error| Error::new(Kind::NotStarted, error.to_string()))?;
    if typed == *target {
        return Ok(());
    }
    Err(Error::new(Kind::NotStarted, format!("`{typed}` is not `{target}`; nothing was done")))
}

/// What a runbook may do, in words, for comparing with what was approved.
pub(super) fn powers(permissions: &crate::host::Permissions) -> Vec<String> {
    let mut powers: Vec<String> = permissions.effective().map(in_words).collect();
    powers.sort();
    powers.dedup();
    powers
}

/// Without a person, a runbook does no more than what was approved last.
fn must_be_pinned(request: &Request, store: &dyn Store) -> Result<()> {
    let (name, system) = (&request.script.name, &request.system.name);
    let pinned = store.pinned(name, system)?;
    let approved = pinned.as_ref().map(|pinned| pinned.powers.as_slice()).unwrap_or_default();
    let more: Vec<String> = powers(&request.permissions).into_iter().filter(|power| !approved.contains(power)).collect();
    if more.is_empty() {
        return Ok(());
    }
    let what = match pinned {
        Some(_) => format!("`{name}` asks for more than was approved: {}", more.join(", ")),
        None => format!("the permissions of `{name}` were never approved: {}", more.join(", ")),
    };
    Err(Error::new(Kind::NotStarted, what)
        .code("RB3204")
        .hint(format!("when that is right: runbook approve {name} -s {system} --reason \"…\"")))
}
