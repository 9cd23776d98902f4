//! `runbook check`: what is wrong with runbooks, found without running them.

use serde::Serialize;

use crate::cli::app::App;
use crate::cli::render;
use crate::cli::terminal::{DIM, styled};
use crate::config::{Found, Problems};
use crate::model::Diagnostic;
use crate::script::check_text;
use crate::words;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The runbooks, by name or file; all of them when none is named
    #[arg(add = crate::cli::complete::runbooks())]
    names: Vec<String>,
}

/// A runbook and what was found in it.
#[derive(Serialize)]
struct Checked {
    name: String,
    path: String,
    findings: Vec<Diagnostic>,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let library = app.library()?;
    let names = if args.names.is_empty() { library.names() } else { args.names };
    let mut all = Vec::new();
    for name in names {
        let found = library.find(&name)?;
        let findings = check_text(&found.name, &found.path, &found.text, |path| library.module(path));
        if !app.json {
            tell(&findings, &found, app);
        }
        all.push(Checked { name: found.name, path: found.path, findings });
    }
    if app.json {
        app.answer_json(&all)?;
    } else {
        app.terminal.say(&styled(DIM, sum(&all)));
    }
    Ok(match (count(&all, true), count(&all, false)) {
        (0, 0) => 0,
        (0, _) => 3,
        _ => 4,
    })
}

fn tell(findings: &[Diagnostic], found: &Found, app: &App) {
    let text_of = |file: &str| if file == found.path { Some(found.text.clone()) } else { app.source(file) };
    for finding in findings {
        app.terminal.answer(&render::diagnostic(finding, &text_of, true));
    }
}

fn count(all: &[Checked], errors: bool) -> usize {
    all.iter().flat_map(|checked| &checked.findings).filter(|finding| finding.is_error() == errors).count()
}

fn sum(all: &[Checked]) -> String {
    let fine = all.iter().filter(|checked| checked.findings.is_empty()).count();
    let (errors, warnings) = (words::count(count(all, true), "error"), words::count(count(all, false), "warning"));
    let next = if fine == all.len() { "" } else { "     what a code means: runbook explain CODE" };
    format!("{}: {fine} fine, {errors}, {warnings}{next}", words::count(all.len(), "runbook"))
}
