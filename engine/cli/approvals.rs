//! `runbook approvals`: what waits for a yes or a no, and what was said.

use serde::Serialize;

use crate::cli::app::App;
use crate::cli::approve::left;
use crate::cli::history::now;
use crate::cli::report::visible;
use crate::cli::terminal::{DIM, STRONG, styled, table};
use crate::config::Problems;
use crate::model::{Approval, RunState};
use crate::store::{Filter, Plans, Store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also what is out of date, or was run
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Entry {
    subject: String,
    what: String,
    by: String,
    until: jiff::Timestamp,
    said: Vec<Approval>,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let (_, store) = app.store()?;
    let mut entries = Vec::new();
    for summary in store.list(&Filter { states: vec![RunState::Running, RunState::Waiting], ..Filter::default() })? {
        let run = store.run(summary.id)?;
        if let Some(asked) = run.waits_for {
            let what = format!("{}: {}", run.runbook, asked.question);
            entries.push(Entry {
                subject: format!("#{}", run.run),
                what,
                by: asked.requester,
                until: asked.until,
                said: store.approvals(&asked.hash)?,
            });
        }
    }
    for plan in store.plans()? {
        if args.all || plan.run.is_none() && plan.until > now() {
            let what = format!("plan for {}, system {}", plan.runbook, plan.system);
            entries.push(Entry { subject: plan.id, what, by: plan.by, until: plan.until, said: store.approvals(&plan.hash)? });
        }
    }
    if app.json {
        app.answer_json(&entries)?;
        return Ok(0);
    }
    if entries.is_empty() {
        app.terminal.say("nothing waits for a yes or a no");
        return Ok(0);
    }
    let mut rows = vec![["SUBJECT", "WHAT", "BY", "EXPIRES IN", "SAID"].map(|title| styled(DIM, title)).to_vec()];
    for entry in &entries {
        let word = |approval: &Approval| if approval.approved { "yes" } else { "no" };
        let said: Vec<String> = entry.said.iter().map(|said| format!("{} {}: {}", said.by, word(said), visible(&said.reason))).collect();
        rows.push(vec![styled(STRONG, &entry.subject), visible(&entry.what), entry.by.clone(), left(entry.until), said.join("; ")]);
    }
    app.terminal.answer(&table(&rows));
    app.terminal.say(&styled(DIM, "runbook approve SUBJECT --reason \"…\"     runbook deny SUBJECT --reason \"…\""));
    Ok(0)
}
