//! `runbook rules`: the alert rules of a system, as Prometheus takes them, and tried on series that were made up.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::app::App;
use crate::cli::report::visible;
use crate::cli::terminal::{BAD, DIM, GOOD, STRONG, styled, table};
use crate::config::Problems;
use crate::error::{Error, Kind, Result};
use crate::host::measure::is_measured;
use crate::model::system::Rule;
use crate::model::{Selector, System};
use crate::monitor::alarm::Standing;
use crate::monitor::drill::{Drill, Outcome};
use crate::monitor::prometheus::{condition, expression, render};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The rules, and what each computes
    List {
        /// The system; the default one when absent
        #[arg(short, long, value_name = "SYSTEM", add = crate::cli::complete::systems())]
        system: Option<String>,
    },
    /// The rules as a rule file of Prometheus
    Render {
        /// The system; the default one when absent
        #[arg(short, long, value_name = "SYSTEM", add = crate::cli::complete::systems())]
        system: Option<String>,
    },
    /// Try the rules on series that were made up
    Test {
        /// The file with the series and what is expected
        file: PathBuf,
        /// The system, when the file names none
        #[arg(short, long, value_name = "SYSTEM", add = crate::cli::complete::systems())]
        system: Option<String>,
    },
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    match args.action {
        Verb::List { system } => list(&app.system(system.as_deref())?, app)?,
        Verb::Render { system } => {
            let system = app.system(system.as_deref())?;
            if app.json {
                app.answer_json(&rules(&system)?)?;
            } else {
                app.terminal.answer(&render(&system)?);
            }
        }
        Verb::Test { file, system } => return test(&app.directory().join(file), system.as_deref(), app),
    }
    Ok(0)
}

fn list(system: &System, app: &App) -> Result<()> {
    if app.json {
        return app.answer_json(&rules(system)?);
    }
    if system.rules.is_empty() {
        app.terminal.say(&format!("system {} has no rules", system.name));
        return Ok(());
    }
    let titles = ["RULE", "LEVEL", "SEVERITY", "FOR", "SUMMARY", "FIRES WHEN"].map(|title| styled(DIM, title)).to_vec();
    let mut rows = vec![titles];
    for (name, rule) in &system.rules {
        rows.push(vec![
            styled(STRONG, visible(name)),
            rule.level.clone(),
            severity(system, rule),
            rule.hold.map_or_else(|| "-".to_owned(), |hold| hold.to_string()),
            visible(&rule.summary),
            visible(&condition(rule)?),
        ]);
    }
    app.terminal.answer(&table(&rows));
    for (name, rule) in &system.rules {
        for series in not_sampled(system, rule)? {
            app.terminal.say(&format!("{}: nothing samples {series}; a source of [metrics] would", visible(name)));
        }
    }
    Ok(())
}

/// The series of a rule that nothing of the system measures; a runbook may keep them all the same.
fn not_sampled(system: &System, rule: &Rule) -> Result<Vec<String>> {
    let names = std::iter::once(&rule.series).chain(&rule.total).map(|text| Ok(text.parse::<Selector>()?.name));
    let mut names: Vec<String> = names.collect::<Result<_>>()?;
    names.dedup();
    names.retain(|name| !is_measured(system, name));
    Ok(names)
}

/// The severity in the words of the system.
fn severity(system: &System, rule: &Rule) -> String {
    match system.severity.get(&rule.severity).map(|severity| severity.label.as_str()).filter(|label| !label.is_empty()) {
        Some(label) => format!("{} ({label})", rule.severity),
        None => rule.severity.clone(),
    }
}

fn rules(system: &System) -> Result<Vec<Value>> {
    let rule = |(name, rule): (&String, &Rule)| {
        let mut value = serde_json::to_value(rule).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
        value["name"] = name.clone().into();
        value["expression"] = expression(name, rule)?.into();
        value["not_sampled"] = not_sampled(system, rule)?.into();
        Ok(value)
    };
    system.rules.iter().map(rule).collect()
}

fn test(file: &Path, system: Option<&str>, app: &App) -> Result<u8, Problems> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| Error::because(Kind::Usage, format_args!("`{shown}`"), &error))?;
    let wrong = |error: Error| Error { kind: Kind::Usage, ..error.context(format_args!("`{shown}`")) };
    let drill = Drill::parse(&text).map_err(wrong)?;
    let system = app.system(system.or(drill.system.as_deref()))?;
    let outcomes = drill.run(&system.rules).map_err(wrong)?;
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    if app.json {
        app.answer_json(&json!({ "system": system.name, "passed": outcomes.len() - failed, "failed": failed, "outcomes": outcomes }))?;
    } else {
        for outcome in &outcomes {
            app.terminal.answer(&line(outcome, app));
        }
        app.terminal.say(&format!("{}: {} as expected, {failed} not", system.name, outcomes.len() - failed));
    }
    Ok(u8::from(failed > 0))
}

fn line(outcome: &Outcome, app: &App) -> String {
    let symbol = if outcome.passed { app.terminal.symbol(GOOD, "✔", "ok") } else { app.terminal.symbol(BAD, "✖", "x") };
    let value = outcome.value.map(|value| format!(" ({})", (value * 1e6).round() / 1e6)).unwrap_or_default();
    let found = format!("{}{value}", word(outcome.found));
    let what = if outcome.passed { found } else { format!("{found}, expected {}", word(outcome.expected)) };
    format!("{symbol} {} at {}: {what}", styled(STRONG, visible(&outcome.rule)), outcome.at)
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Quiet => "quiet",
        Standing::Pending => "pending",
        Standing::Firing => "firing",
        Standing::NoData => "no-data",
    }
}
