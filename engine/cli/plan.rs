//! `runbook plan`: what a run would change; nothing is changed.

use crate::cli::app::App;
use crate::cli::clearance::quorum_of;
use crate::cli::office::Office;
use crate::cli::params::ParamArgs;
use crate::cli::plain::short;
use crate::cli::report::visible;
use crate::cli::run::{Order, asked, this_binary};
use crate::cli::terminal::{BAD, DIM, GOOD, STRONG, Terminal, WARN, styled, width};
use crate::config::Problems;
use crate::model::{Change, Level, Plan, PlannedEffect, PlannedStep, Span};
use crate::run::{Worker, plan};
use crate::store::audit::{Action, failure};
use crate::store::{Plans, Store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The runbook
    #[arg(add = crate::cli::complete::runbooks())]
    name: String,
    /// The system it would run for
    #[arg(short, long, value_name = "SYSTEM", add = crate::cli::complete::systems())]
    system: Option<String>,
    #[command(flatten)]
    params: ParamArgs,
    #[command(flatten)]
    showing: Showing,
    /// Give up after this time
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,
}

/// How a plan is shown.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Showing {
    /// Show the lines that would change
    #[arg(long)]
    diff: bool,
    /// Exit with 7 when there is something to do, and with 0 when there is not
    #[arg(long)]
    exit_code: bool,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let order = Order::of_runbook(args.name, args.system, args.timeout);
    show(&order, &args.params, args.showing, app)
}

/// Makes a plan, keeps it and shows it.
pub(super) fn show(order: &Order, params: &ParamArgs, showing: Showing, app: &App) -> Result<u8, Problems> {
    let worker = Worker::start(&this_binary()?)?;
    let (state, store) = app.store()?;
    let Some(asked) = asked(order, params, app)? else { return Ok(4) };
    let request = asked.for_plan(app, &state, &store)?;
    let policy = &app.project()?.settings.policy;
    let desk = Office { app, state: &state, store: &store, yes: false };
    let act = app.act(Action::Plan, format!("{} for {}", request.script.name, request.system.name), "");
    store.audit(&act.entry(None))?;
    let drafted =
        plan::draft(&store, &state, &desk, worker, &request, policy.plan_valid).and_then(|plan| store.keep_plan(&plan).map(|()| plan));
    let outcome = drafted.as_ref().map_or_else(failure, |plan| format!("plan {}", plan.id));
    store.audit(&act.entry(Some(&outcome)))?;
    let plan = drafted?;
    if app.json {
        app.answer_json(&plan)?;
    } else {
        app.terminal.answer(&text(&plan, showing.diff, app.terminal));
        let approve = format!("approve it first:  runbook approve {} --reason \"…\"", plan.id);
        if quorum_of(&plan, policy) > 0 {
            app.terminal.say(&styled(DIM, approve));
        }
        app.terminal.say(&styled(DIM, format!("run exactly this:  runbook run --plan {}", plan.id)));
    }
    Ok(if showing.exit_code && plan.changes() { 7 } else { 0 })
}

/// A plan for people.
pub(super) fn text(plan: &Plan, diff: bool, terminal: Terminal) -> String {
    let params: String = plan
        .params
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| format!("  {name}={}", visible(&short(value))))
        .collect();
    let mut text = format!(
        "plan for {}{params}  system={}     {}\n",
        styled(STRONG, &plan.runbook),
        plan.system,
        styled(DIM, "nothing is changed by this")
    );
    text.push_str(&lines(plan, diff, terminal));
    let count = |change: Change| plan.count(change);
    let valid = Span::millis(u64::try_from(plan.until.duration_since(plan.made).as_millis()).unwrap_or(0));
    text.push_str(&format!(
        "plan: {} to add, {} to change, {} to delete, {} unknown     id {}, valid {valid}\n",
        count(Change::Add),
        count(Change::Change),
        count(Change::Delete),
        plan.unknowns(),
        styled(STRONG, &plan.id)
    ));
    text
}

/// The steps of a plan, those of its sub-runs below the step they are.
fn lines(plan: &Plan, diff: bool, terminal: Terminal) -> String {
    let wide = plan.steps.iter().map(|step| width(title(step))).max().unwrap_or(0).min(40);
    let mut text = String::new();
    for step in &plan.steps {
        match &step.run {
            None => text.push_str(&lines_of(step, wide, diff, terminal)),
            Some(run) => {
                let worst = run.effects().map(PlannedEffect::change).max_by_key(|change| rank(*change)).unwrap_or(Change::Same);
                let danger = if run.destructive { "destructive" } else { "" };
                text.push_str(&line(Sign::Effect(worst), &step.key, wide, danger, terminal));
                text.extend(lines(run, diff, terminal).lines().map(|line| format!("    {line}\n")));
            }
        }
    }
    if let Some(why) = &plan.unknown {
        text.push_str(&line(Sign::Unknown, "the rest", wide, &format!("cannot be predicted: {}", visible(why)), terminal));
    }
    text
}

#[derive(Debug, Clone, Copy)]
enum Sign {
    Effect(Change),
    Unknown,
}

/// An effect outside of steps is a step of its own, and its words are its name.
fn title(step: &PlannedStep) -> &str {
    if is_bare(step) { "" } else { &step.key }
}

fn is_bare(step: &PlannedStep) -> bool {
    step.effects.len() == 1 && step.unknown.is_none() && step.name.starts_with(&step.effects[0].effect.function)
}

fn lines_of(step: &PlannedStep, wide: usize, diff: bool, terminal: Terminal) -> String {
    let effects: Vec<&PlannedEffect> = step.effects.iter().collect();
    let mut text = match (effects.as_slice(), step.level) {
        ([effect], _) if is_bare(step) => line(sign_of(effect), &words_of(effect), 0, "", terminal),
        ([effect], _) => line(sign_of(effect), &step.key, wide, &words_of(effect), terminal),
        ([], None) if step.unknown.is_none() => line(Sign::Effect(Change::Same), &step.key, wide, "changes nothing", terminal),
        ([], Some(level)) if step.unknown.is_none() => line(Sign::Effect(Change::Same), &step.name, wide, would(level), terminal),
        ([], _) => String::new(),
        (effects, _) => {
            let worst = effects.iter().map(|effect| effect.change()).max_by_key(|change| rank(*change)).unwrap_or(Change::Same);
            let lines: String =
                effects.iter().map(|effect| format!("  {}", line(sign_of(effect), &words_of(effect), 0, "", terminal))).collect();
            format!("{}{lines}", line(Sign::Effect(worst), &step.key, wide, "", terminal))
        }
    };
    for effect in step.effects.iter().filter(|_| diff) {
        let lines = effect.effect.diff.iter().flat_map(|diff| diff.lines());
        text.extend(lines.map(|line| format!("      {}\n", colored(&visible(line)))));
    }
    if let Some(why) = &step.unknown {
        let name = if step.level.is_some() { &step.name } else { &step.key };
        text.push_str(&line(Sign::Unknown, name, wide, &format!("cannot be predicted: {}", visible(why)), terminal));
    }
    text
}

fn rank(change: Change) -> u8 {
    match change {
        Change::Same => 0,
        Change::Add => 1,
        Change::Change => 2,
        Change::Delete => 3,
    }
}

fn sign_of(effect: &PlannedEffect) -> Sign {
    if effect.exact { Sign::Effect(effect.change()) } else { Sign::Unknown }
}

fn words_of(effect: &PlannedEffect) -> String {
    let words = visible(&effect.effect.summary);
    if effect.exact { words } else { format!("{words}   details depend on what comes before") }
}

fn would(level: Level) -> &'static str {
    match level {
        Level::Ok => "would pass",
        Level::Warning => "would warn",
        Level::Critical => "would fail",
        Level::Unknown => "would have no answer",
    }
}

fn line(sign: Sign, name: &str, wide: usize, words: &str, terminal: Terminal) -> String {
    let sign = match sign {
        Sign::Effect(Change::Same) => terminal.symbol(DIM, "=", "="),
        Sign::Effect(Change::Add) => terminal.symbol(GOOD, "+", "+"),
        Sign::Effect(Change::Change) => terminal.symbol(WARN, "~", "~"),
        Sign::Effect(Change::Delete) => terminal.symbol(BAD, "!", "!"),
        Sign::Unknown => terminal.symbol(WARN, "?", "?"),
    };
    let name = visible(name);
    let gap = if words.is_empty() { String::new() } else { " ".repeat(wide.saturating_sub(width(&name)) + 3) };
    format!("  {sign} {name}{gap}{words}\n")
}

fn colored(line: &str) -> String {
    match line.as_bytes().first() {
        Some(b'+') => styled(GOOD, line),
        Some(b'-') => styled(BAD, line),
        _ => line.to_owned(),
    }
}
