//! A question of a run, told where the run is followed, and answered there when a person can.

use std::io::BufRead;
use std::path::Path;

use crate::cli::app::App;
use crate::cli::approve::{keep, left, may_answer};
use crate::cli::history::now;
use crate::cli::report::visible;
use crate::cli::terminal::{DIM, WARN, styled};
use crate::cli::who;
use crate::config::Right;
use crate::error::Result;
use crate::model::{Approval, Asked, Run};
use crate::store::Sqlite;

/// Tells that a run waits, with the commands that answer it.
pub(super) fn tell(run: &Run, asked: &Asked, database: &Path, app: &App) {
    let who = match (asked.quorum, asked.approvers.as_slice()) {
        (1, []) => String::new(),
        (quorum, []) => format!(" ({quorum} people)"),
        (quorum, names) => format!(" ({quorum} of: {})", names.join(", ")),
    };
    let mark = app.terminal.symbol(WARN, "⏸", "=");
    let reason = if asked.reason.is_empty() { String::new() } else { format!(" – {}", visible(&asked.reason)) };
    app.terminal.insist(&format!(
        "{mark} {} #{} waits: {}{reason}{who}     expires in {}",
        run.runbook,
        run.run,
        visible(&asked.question),
        left(asked.until)
    ));
    let number = run.run;
    app.terminal.insist(&styled(
        DIM,
        format!("    approve:  runbook approve {number} --reason \"…\"     deny:  runbook deny {number} --reason \"…\""),
    ));
    let person = who::person(&app.environment);
    let system = run.system.as_deref().unwrap_or_default();
    let has_right =
        || app.project().is_ok_and(|project| project.settings.policy.permit(&app.origin(), Right::Approve, &run.runbook, system).is_ok());
    if !app.origin().is_attended() || may_answer(asked, &person).is_err() || !has_right() {
        return;
    }
    app.terminal.insist("    or here:  yes, or no, and why");
    let (asked, database) = (asked.clone(), database.to_owned());
    // It may wait for a line that never comes; the end of the command ends it.
    std::thread::spawn(move || answer(&asked, person, &database));
}

/// Keeps the first line that is an answer.
fn answer(asked: &Asked, person: String, database: &Path) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let (word, reason) = line.trim().split_once(' ').unwrap_or((line.trim(), "answered at the terminal"));
        let approved = match word.trim_end_matches(',') {
            "yes" => true,
            "no" => false,
            _ => continue,
        };
        let approval =
            Approval { of: asked.hash.clone(), by: person, approved, reason: reason.trim().to_owned(), at: now(), until: asked.until };
        return keep(&Sqlite::open(database)?, &approval, &format!("question `{}`", asked.question));
    }
    Ok(())
}
