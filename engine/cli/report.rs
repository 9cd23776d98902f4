//! `runbook report`: a run as text, Markdown or JSON; and the texts `run` ends with.

use clap::ValueEnum;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::cli::app::App;
use crate::cli::escape;
use crate::cli::plain::zone_of_machine;
use crate::cli::terminal::{DIM, STRONG, Terminal, styled, table};
use crate::config::Problems;
use crate::error::{Error, Kind, Result};
use crate::model::{Check, Level, Run, RunState, Span, Step, StepState};
use crate::store::{Store, find};
use crate::words;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run: a number, `last`, `last:NAME`, or the beginning of its id
    #[arg(default_value = "last", add = crate::cli::complete::runs())]
    run: String,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Print this file of the run instead
    #[arg(long, value_name = "NAME")]
    file: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Markdown,
    Json,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let (state, store) = app.store()?;
    let run = store.run(find(&store, &args.run)?.id)?;
    if let Some(name) = &args.file {
        if name.contains('/') {
            return Err(Error::new(Kind::Usage, format!("`{name}` is not a file of a run")).into());
        }
        let path = state.run(run.run).join("files").join(name);
        let bytes = std::fs::read(&path).map_err(|_| Error::new(Kind::Usage, format!("run #{} has no file `{name}`", run.run)))?;
        app.terminal.raw(&bytes);
        return Ok(0);
    }
    match args.format {
        Format::Json => app.answer_json(&run)?,
        Format::Text if app.json => app.answer_json(&run)?,
        Format::Markdown => app.terminal.answer(&markdown(&run, &zone_of(&run, app))),
        Format::Text => {
            app.terminal.answer(&head(&run, &zone_of(&run, app)));
            let found = text(&run, app.terminal);
            if !found.is_empty() {
                app.terminal.answer(&found);
            }
            if let Some(error) = &run.error {
                let modules = store.modules(run.id)?;
                app.terminal.answer(&app.error_text(error, &modules));
            }
            app.terminal.answer(&last_line(&run, app.terminal));
        }
    }
    Ok(0)
}

/// The zone the people of the run's system live in; the machine's when nothing says so.
fn zone_of(run: &Run, app: &App) -> TimeZone {
    let system = || app.project().ok()?.systems(&app.environment).load(run.system.as_deref()?).ok();
    let named = system().and_then(|loaded| TimeZone::get(&loaded.system.timezone).ok());
    named.unwrap_or_else(zone_of_machine)
}

/// A time as people read it, to the second and with its offset.
fn local(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

fn head(run: &Run, zone: &TimeZone) -> String {
    let system = run.system.as_deref().map(|system| format!("  {system}")).unwrap_or_default();
    let part = run.parent.as_ref().map(|parent| format!(" in #{}", parent.run)).unwrap_or_default();
    format!(
        "{} #{}{system}  {}  by {}{part}  version {}",
        styled(STRONG, &run.runbook),
        run.run,
        local(run.started, zone),
        run.by,
        run.version
    )
}

/// What a run found and put out: sub-runs, checks worst first, outputs.
pub(super) fn text(run: &Run, terminal: Terminal) -> String {
    let mut parts = Vec::new();
    if run.steps.iter().any(|step| step.run.is_some()) {
        parts.push(sub_runs(run, terminal));
    }
    if !run.checks.is_empty() {
        parts.push(checks(run, terminal));
    }
    parts.extend(run.outputs.iter().filter_map(|(name, value)| output(name, value)));
    parts.join("\n\n")
}

/// The runs it started, each as the step that it is.
fn sub_runs(run: &Run, terminal: Terminal) -> String {
    let symbol = |status: StepState| match status {
        StepState::Succeeded => terminal.level(Level::Ok),
        StepState::Running => terminal.state(RunState::Running),
        StepState::Failed | StepState::Interrupted => terminal.level(Level::Critical),
        StepState::Cancelled | StepState::Skipped => terminal.state(RunState::Skipped),
    };
    let row = |step: &Step| {
        let took = Span::millis(step.duration_ms).to_string();
        Some(vec![format!(" {}", symbol(step.status)), visible(&step.key), format!("#{}", step.run?), styled(DIM, took)])
    };
    table(&run.steps.iter().filter_map(row).collect::<Vec<_>>())
}

fn checks(run: &Run, terminal: Terminal) -> String {
    let mut sorted: Vec<&Check> = run.checks.iter().collect();
    let weight = |level: Level| match level {
        Level::Critical => 0,
        Level::Unknown => 1,
        Level::Warning => 2,
        Level::Ok => 3,
    };
    // They were answered in any order; names begin with what they are about.
    sorted.sort_by(|a, b| weight(a.level).cmp(&weight(b.level)).then_with(|| a.name.cmp(&b.name)));
    let rows: Vec<Vec<String>> = sorted
        .iter()
        .map(|check| {
            vec![format!(" {}", terminal.level(check.level)), visible(&check.name), visible(&detail(check)), styled(DIM, limit(check))]
        })
        .collect();
    table(&rows)
}

/// What a check says in one line: its value and its detail.
pub(super) fn detail(check: &Check) -> String {
    let value = check.value.map(|value| {
        let unit = check.unit.as_deref().unwrap_or_default();
        let number = if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") };
        if unit.is_empty() { number } else { format!("{number} {unit}") }
    });
    match (value, check.detail.as_str()) {
        (None, detail) => detail.to_owned(),
        (Some(value), "") => value,
        (Some(value), detail) => format!("{value}  {detail}"),
    }
}

fn limit(check: &Check) -> String {
    let Some(limit) = check.limit.as_ref().filter(|_| check.level != Level::Ok) else { return String::new() };
    let sign = if limit.below { "<" } else { ">" };
    let part = |name: &str, value: Option<f64>| value.map(|value| format!("{name} {sign} {value}"));
    [part("warning", limit.warn), part("critical", limit.alarm)].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn output(name: &str, value: &Value) -> Option<String> {
    let title = styled(STRONG, visible(name));
    Some(match value {
        Value::Null => return None,
        Value::Array(rows) if rows.is_empty() => return None,
        Value::Array(rows) if rows.iter().all(Value::is_object) => format!("{title}\n{}", rows_text(rows, None)),
        Value::Object(map) => match (map.get("columns"), map.get("rows")) {
            (Some(Value::Array(_)), Some(Value::Array(rows))) if rows.is_empty() => return None,
            (Some(Value::Array(columns)), Some(Value::Array(rows))) => format!("{title}\n{}", rows_text(rows, Some(columns))),
            _ if map.is_empty() => return None,
            _ => {
                let rows: Vec<Vec<String>> = map.iter().map(|(key, value)| vec![format!(" {}", visible(key)), cell(value)]).collect();
                format!("{title}\n{}", table(&rows))
            }
        },
        Value::String(text) => format!("{title}\n{}", lines_visible(text)),
        other => format!("{title}  {}", cell(other)),
    })
}

/// Rows as a table: the columns in their order, or all there are by name.
fn rows_text(rows: &[Value], columns: Option<&Vec<Value>>) -> String {
    let columns: Vec<&str> = match columns {
        Some(columns) => columns.iter().filter_map(Value::as_str).collect(),
        None => {
            let mut all: Vec<&str> = rows.iter().filter_map(Value::as_object).flat_map(|row| row.keys().map(String::as_str)).collect();
            all.sort_unstable();
            all.dedup();
            all
        }
    };
    let header = columns.iter().map(|column| styled(DIM, visible(column).to_uppercase())).collect();
    let body = rows.iter().map(|row| columns.iter().map(|column| row.get(column).map(cell).unwrap_or_default()).collect());
    table(&std::iter::once(header).chain(body).collect::<Vec<_>>())
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => visible(text),
        Value::Null => String::new(),
        // More digits would be noise; the JSON has them all.
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            if number.fract() == 0.0 { format!("{number:.0}") } else { format!("{number:.1}") }
        }
        other => visible(&other.to_string()),
    }
}

/// A text in one line in which nothing can drive the terminal.
pub(super) fn visible(text: &str) -> String {
    escape::line(text).into_owned()
}

fn lines_visible(text: &str) -> String {
    escape::lines(text).into_owned()
}

/// How a run ended, and what to type next.
pub(super) fn last_line(run: &Run, terminal: Terminal) -> String {
    let took = Span::millis(run.duration_ms);
    let counts = counts(run);
    let next = match run.status {
        RunState::Succeeded | RunState::Warning => format!("log: runbook logs {}", run.run),
        _ => format!("why: runbook logs {}", run.run),
    };
    format!("{} {} in {took}{counts}   {}", terminal.state(run.status), styled(STRONG, run.status.name()), styled(DIM, next))
}

fn counts(run: &Run) -> String {
    let mut parts = Vec::new();
    let steps = run.steps.iter().filter(|step| step.status != StepState::Running).count();
    if steps > 0 {
        parts.push(words::count(steps, "step"));
    }
    if run.changes() > 0 {
        parts.push(words::count(run.changes(), "change"));
    }
    for level in [Level::Critical, Level::Unknown, Level::Warning, Level::Ok] {
        let number = run.checks.iter().filter(|check| check.level == level).count();
        if number > 0 {
            parts.push(format!("{number} {}", level.name()));
        }
    }
    if parts.is_empty() { String::new() } else { format!("   {}", parts.join(", ")) }
}

fn markdown(run: &Run, zone: &TimeZone) -> String {
    let escape = |text: &str| visible(text).replace('|', "\\|").replace('<', "&lt;");
    let mut text = format!("# {} #{}: {}\n\n", escape(&run.runbook), run.run, run.status.name());
    let part = run.parent.as_ref().map(|parent| format!(" as a part of #{}", parent.run)).unwrap_or_default();
    text.push_str(&format!(
        "System {}, started {} by {}{part}, took {}.\n",
        run.system.as_deref().unwrap_or("none"),
        local(run.started, zone),
        escape(&run.by),
        Span::millis(run.duration_ms)
    ));
    if let Some(error) = &run.error {
        text.push_str(&format!("\n**{}**\n", escape(&error.message)));
    }
    if !run.checks.is_empty() {
        text.push_str("\n| check | level | detail |\n|---|---|---|\n");
        for check in &run.checks {
            text.push_str(&format!("| {} | {} | {} |\n", escape(&check.name), check.level.name(), escape(&detail(check))));
        }
    }
    if !run.steps.is_empty() {
        text.push_str("\n| step | status | took | changes |\n|---|---|---|---|\n");
        for step in &run.steps {
            let status = serde_json::to_value(step.status).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
            let number = step.run.map(|run| format!(" (#{run})")).unwrap_or_default();
            text.push_str(&format!(
                "| {}{number} | {status} | {} | {} |\n",
                escape(&step.key),
                Span::millis(step.duration_ms),
                step.changes()
            ));
        }
    }
    for (name, value) in &run.outputs {
        text.push_str(&format!(
            "\n## {}\n\n```\n{}\n```\n",
            escape(name),
            match value {
                Value::String(text) => lines_visible(text).replace("```", "'''"),
                other => serde_json::to_string_pretty(other).unwrap_or_default(),
            }
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_zone_to_the_second() {
        let time = "2026-11-21T14:22:28.123456789Z".parse().unwrap();
        assert_eq!(local(time, &TimeZone::get("Asia/Shanghai").unwrap()), "2026-11-21 22:22:28 +08:00");
        assert_eq!(local(time, &TimeZone::UTC), "2026-11-21 14:22:28 +00:00");
    }
}
