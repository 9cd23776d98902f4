//! Whether a run may begin: typed names, plans, approvals and pinned permissions.

use crate::cli::app::App;
use crate::config::{Policy, Problems};
use crate::error::{Error, Kind, Result};
use crate::host::permission::in_words;
use crate::model::{ApprovalVerdict, Danger, Header};
use crate::run::{Request, plan};
use crate::store::Store;

/// Refuses, or asks on the terminal.
pub(super) fn ask(request: &Request, store: &dyn Store, yes: bool, app: &App) -> Result<(), Problems> {
    let policy = &app.project()?.settings.policy;
    if policy.pin && app.no_input {
        must_be_pinned(request, store)?;
    }
    let header = &request.script.header;
    let is_attended = !app.no_input && app.terminal.can_ask();
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
    let needed = quorum.max(u32::from(is_destructive && !is_attended));
    plan::admit(store, planned, request, needed)?;
    let is_approved = plan::standing(store, planned, needed)? == ApprovalVerdict::Approved;
    if is_destructive && !is_approved && !yes {
        type_the_target(request)?;
    }
    Ok(())
}

/// How many people must say yes to a plan of this runbook.
pub(super) fn quorum(header: &Header, policy: &Policy) -> u32 {
    let asked = if header.danger == Danger::Destructive { policy.approvals } else { 0 };
    header.approvals.max(asked)
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
