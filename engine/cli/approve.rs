//! `runbook approve` and `runbook deny`: what a person says to a plan, a question, or permissions.

use jiff::{SignedDuration, Timestamp};

use crate::cli::app::App;
use crate::cli::clearance::powers;
use crate::cli::history::now;
use crate::cli::plan::text;
use crate::cli::who;
use crate::config::{Problems, Right};
use crate::error::{Error, Kind, Result};
use crate::model::{Approval, Asked, Pinned, Plan};
use crate::store::audit::{Act, Action, audited};
use crate::store::{Plans, Sqlite, Store, find, find_plan};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A plan, a run that waits, or a runbook whose permissions have grown
    subject: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The system whose names the permissions are approved with
    #[arg(short, long, value_name = "SYSTEM", add = crate::cli::complete::systems())]
    system: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct DenyArgs {
    /// A plan, or a run that waits
    subject: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    say(&args.subject, &args.reason, args.system.as_deref(), true, app)
}

pub(super) fn deny(args: DenyArgs, app: &App) -> Result<u8, Problems> {
    say(&args.subject, &args.reason, None, false, app)
}

fn say(subject: &str, reason: &str, system: Option<&str>, approved: bool, app: &App) -> Result<u8, Problems> {
    let (_, store) = app.store()?;
    let by = who::person(&app.environment);
    if reason.trim().is_empty() {
        return Err(Error::new(Kind::Usage, "there is no reason").hint("write one for those who come after: --reason \"…\"").into());
    }
    let word = if approved { "approved" } else { "denied" };
    if let Ok(plan) = find_plan(&store, subject) {
        app.permit(&store, Right::Approve, &plan.runbook, Some(&plan.system))?;
        let approval = to_plan(&plan, by, reason, approved)?;
        keep(&store, &approval, &format!("plan {}", plan.id))?;
        answer(&approval, &format!("{}plan {} is {word} by {}", text(&plan, false, app.terminal), plan.id, approval.by), app)?;
        if approved {
            app.terminal.say(&format!("run exactly this:  runbook run --plan {}", plan.id));
        }
        return Ok(0);
    }
    if app.library()?.find(subject).is_ok() {
        return pin(subject, system, by, reason, approved, app, &store);
    }
    let approval = to_question(&store, subject, by, reason, approved, app)?;
    keep(&store, &approval, &format!("run {subject}"))?;
    answer(&approval, &format!("the question of run {subject} is {word} by {}", approval.by), app)?;
    Ok(0)
}

/// Keeps what was said, between its rows of the audit log.
pub(super) fn keep(store: &Sqlite, approval: &Approval, subject: &str) -> Result<()> {
    let action = if approval.approved { Action::Approve } else { Action::Deny };
    let act = Act { who: approval.by.clone(), action, subject: subject.to_owned(), why: approval.reason.clone() };
    audited(store, &act, || store.keep_approval(approval))
}

fn answer(value: &impl serde::Serialize, words: &str, app: &App) -> Result<()> {
    if app.json {
        return app.answer_json(value);
    }
    app.terminal.answer(words);
    Ok(())
}

fn to_plan(plan: &Plan, by: String, reason: &str, approved: bool) -> Result<Approval> {
    let refused = |why: String| Err(Error::new(Kind::Usage, why).hint(format!("make a new one: {}", crate::run::plan::command(plan))));
    if plan.until <= now() {
        return refused(format!("plan {} is out of date", plan.id));
    }
    if plan.run.is_some() {
        return refused(format!("plan {} was run already", plan.id));
    }
    Ok(Approval { of: plan.hash.clone(), by, approved, reason: reason.to_owned(), at: now(), until: plan.until })
}

fn to_question(store: &Sqlite, reference: &str, by: String, reason: &str, approved: bool, app: &App) -> Result<Approval, Problems> {
    let missing = |error: Error| match error.kind {
        Kind::Usage => {
            Error::new(Kind::Usage, format!("there is no plan, runbook or run `{reference}`")).hint("`runbook approvals` lists what waits")
        }
        _ => error,
    };
    let run = store.run(find(store, reference).map_err(missing)?.id)?;
    let asked: Asked = run.waits_for.clone().ok_or_else(|| {
        Error::new(Kind::Usage, format!("run #{} waits for nobody: {}", run.run, run.status.name()))
            .hint("`runbook approvals` lists what waits")
    })?;
    app.permit(store, Right::Approve, &run.runbook, run.system.as_deref())?;
    may_answer(&asked, &by)?;
    Ok(Approval { of: asked.hash, by, approved, reason: reason.to_owned(), at: now(), until: asked.until })
}

/// Whether a person may say yes or no to the question of a run.
pub(super) fn may_answer(asked: &Asked, by: &str) -> Result<()> {
    if !asked.approvers.is_empty() && !asked.approvers.iter().any(|name| name == by) {
        return Err(Error::new(Kind::Denied, format!("{by} may not answer this; {} may", asked.approvers.join(", "))));
    }
    if asked.quorum > 1 && asked.requester == by {
        return Err(Error::new(Kind::Denied, format!("{by} asked for this run; {} others have to answer", asked.quorum)));
    }
    Ok(())
}

/// Keeps the permissions a runbook has now.
fn pin(name: &str, system: Option<&str>, by: String, reason: &str, approved: bool, app: &App, store: &Sqlite) -> Result<u8, Problems> {
    if !approved {
        return Err(Error::new(Kind::Usage, format!("`{name}` is a runbook: what is not approved does not run unattended")).into());
    }
    let script = app.script(name)?;
    let system = app.system(system)?;
    app.permit(store, Right::Approve, &script.name, Some(&system.name))?;
    let powers = powers(&app.permissions(&script, &system, false)?);
    let pinned = Pinned { runbook: script.name.clone(), system: system.name.clone(), powers, by, reason: reason.to_owned(), at: now() };
    let act = Act {
        who: pinned.by.clone(),
        action: Action::Pin,
        subject: format!("{} for {}", pinned.runbook, pinned.system),
        why: reason.to_owned(),
    };
    audited(store, &act, || store.pin(&pinned))?;
    let list: String = pinned.powers.iter().map(|power| format!("  {power}\n")).collect();
    answer(&pinned, &format!("{list}{} may do this for system {}, says {}", pinned.runbook, pinned.system, pinned.by), app)?;
    Ok(0)
}

/// How long from now.
pub(super) fn left(until: Timestamp) -> String {
    let left = until.duration_since(now()).max(SignedDuration::ZERO);
    crate::model::Span::secs(u64::try_from(left.as_secs()).unwrap_or(0)).to_string()
}
