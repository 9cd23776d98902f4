//! `runbook test`: the tests of runbooks, which touch nothing; and what a runbook does when it is cut off.

mod chaos;
mod judge;
mod seen;
mod trial;

use std::time::Instant;

use serde::Serialize;

use crate::cli::app::App;
use crate::cli::params::ParamArgs;
use crate::cli::report::visible;
use crate::cli::run::passes_the_check;
use crate::cli::terminal::{BAD, DIM, GOOD, STRONG, styled, width};
use crate::config::{CaseFile, Problems};
use crate::error::{Error, Kind};
use crate::host::modules;
use crate::model::{Span, case};
use crate::script::Script;
use crate::store::audit::Action;
use crate::words;
use judge::{Difference, Side};
use trial::{Outcome, Throwaway};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The runbooks whose tests are run; those of all runbooks of the project when none is named
    #[arg(add = crate::cli::complete::runbooks())]
    names: Vec<String>,
    /// Run the tests of the built-in runbooks too
    #[arg(long)]
    builtin: bool,
    /// Run the cases only that have this in their name
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Let each step fail once, and kill the run at each step, to see what is taken back and done again
    #[arg(long, conflicts_with_all = ["builtin", "filter"])]
    chaos: bool,
    /// With `--chaos`: nothing is touched, and this case answers
    #[arg(long, value_name = "CASE", requires = "chaos")]
    case: Option<String>,
    /// With `--chaos`: the system it runs for
    #[arg(short, long, value_name = "SYSTEM", requires = "chaos", conflicts_with = "case", add = crate::cli::complete::systems())]
    system: Option<String>,
    #[command(flatten)]
    params: ParamArgs,
    /// With `--chaos`: run this before each run, so that it finds things as they were
    #[arg(long, value_name = "RUNBOOK", requires = "chaos", conflicts_with = "case", add = crate::cli::complete::runbooks())]
    between: Option<String>,
    /// With `--chaos`: do not ask before it changes something
    #[arg(long, requires = "chaos")]
    yes: bool,
    #[command(flatten)]
    scene: chaos::Scene,
}

impl Args {
    pub(super) fn acts(&self) -> &'static [Action] {
        if self.chaos && self.case.is_none() { &[Action::Run] } else { &[] }
    }
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    if args.chaos {
        return chaos::run(&args, app);
    }
    if !args.params.is_none() {
        return Err(Error::new(Kind::Usage, "the parameters of a test stand in the cases")
            .hint("`-p` is for `--chaos` without `--case`")
            .into());
    }
    let Some(tests) = read(&args, app)? else { return Ok(4) };
    let wanted = |case: &case::Case| args.filter.as_ref().is_none_or(|text| case.name.contains(text));
    let count = tests.iter().flat_map(|test| &test.file.cases.case).filter(|case| wanted(case)).count();
    if count == 0 {
        return Err(nothing_to_run(&args, !tests.is_empty()).into());
    }
    let started = Instant::now();
    let place = Throwaway::new()?;
    let mut all = Vec::new();
    for test in &tests {
        for index in (0..test.file.cases.case.len()).filter(|index| wanted(&test.file.cases.case[*index])) {
            let outcome = trial::run(test, index, &place, app)?;
            if !app.json {
                app.terminal.answer(&line(&outcome));
                app.terminal.answer_if_any(&why(&outcome, test, app));
            }
            all.push(outcome);
        }
    }
    let failed = all.iter().filter(|outcome| !outcome.passed).count();
    let passed = all.len() - failed;
    if app.json {
        app.answer_json(&Summary { passed, failed, cases: all })?;
    } else {
        let took = Span::millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        app.terminal.say(&styled(DIM, format!("{}: {passed} passed, {failed} failed     in {took}", words::count(all.len(), "case"))));
    }
    Ok(u8::from(failed > 0))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Summary {
    passed: usize,
    failed: usize,
    cases: Vec<Outcome>,
}

/// The tests of a runbook, read and checked.
struct Test {
    runbook: String,
    file: CaseFile,
}

/// Reads the tests that were asked for. Nothing when a runbook does not pass the check, which is told.
fn read(args: &Args, app: &App) -> Result<Option<Vec<Test>>, Problems> {
    let library = app.library()?;
    let names = if args.names.is_empty() { library.names() } else { args.names.clone() };
    let mut tests = Vec::new();
    let mut all_pass = true;
    for name in names {
        if args.names.is_empty() && library.cases(&name)?.is_none_or(|found| found.file.is_none() && !args.builtin) {
            continue;
        }
        let test = read_one(&name, app)?;
        all_pass &= passes_the_check(&app.script(&name)?, app);
        tests.push(test);
    }
    Ok(Some(tests).filter(|_| all_pass))
}

/// Reads the tests of one runbook.
fn read_one(name: &str, app: &App) -> Result<Test, Problems> {
    let library = app.library()?;
    let Some(found) = library.cases(name)? else {
        let path = library.find(name)?.path;
        let file = path.strip_suffix(".rhai").unwrap_or(&path);
        let first = "[[case]]\nname = \"it ends well\"\n\n[case.expect]\nstatus = \"succeeded\"";
        return Err(Error::new(Kind::Usage, format!("there are no tests of `{name}`"))
            .hint(format!("begin with this in {file}.test.toml:\n{first}"))
            .into());
    };
    let file = CaseFile::read(&found.path, &found.text)?;
    check_calls(&file)?;
    Ok(Test { runbook: name.to_owned(), file })
}

fn nothing_to_run(args: &Args, are_there: bool) -> Error {
    match (&args.filter, are_there) {
        (Some(text), true) => Error::new(Kind::Usage, format!("no case has `{text}` in its name")),
        (_, true) => Error::new(Kind::Usage, "the tests have no cases").hint("begin one with `[[case]]` and its `name`"),
        (_, false) => Error::new(Kind::Usage, "there are no tests")
            .hint("write some beside a runbook: the cases of `runbooks/NAME.rhai` stand in `runbooks/NAME.test.toml`")
            .hint("those of the built-in runbooks run with `--builtin`"),
    }
}

/// Refuses answers to functions that are not there, or that need none.
fn check_calls(file: &CaseFile) -> Result<(), Problems> {
    let cases = file.cases.case.iter().enumerate().map(|(at, case)| (vec!["case".to_owned(), at.to_string()], &case.answer));
    for (path, answers) in cases.chain([(Vec::new(), &file.cases.answer)]) {
        for (at, answer) in answers.iter().enumerate() {
            let path = [&path[..], &["answer".to_owned(), at.to_string(), "call".to_owned()]].concat();
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            check_call(&answer.call).map_err(|error| file.wrong(&path, error))?;
        }
    }
    Ok(())
}

fn check_call(call: &str) -> Result<(), Error> {
    if matches!(call, "ask" | "run") {
        return Ok(());
    }
    let functions = || modules().flat_map(|module| module.functions.iter().map(move |function| (module, function)));
    let known: Vec<String> = functions()
        .filter(|(_, function)| function.is_answered_in_tests())
        .map(|(module, function)| format!("{}::{}", module.name, function.name))
        .collect();
    if known.iter().any(|known| known == call) {
        return Ok(());
    }
    if functions().any(|(module, function)| format!("{}::{}", module.name, function.name) == call) {
        let error = Error::new(Kind::Config, format!("`{call}` is asked of no test: it touches nothing, and works as it does"));
        let hint = match call.split("::").next() {
            Some("time") => "the time of a case is its `now`",
            Some("store") => "what was kept before stands in `stored` of the case",
            Some("notify") => "what is sent is compared with `messages` of `expect`",
            _ => "leave the answer out",
        };
        return Err(error.hint(hint));
    }
    let error = Error::new(Kind::Config, format!("there is no function `{call}`"));
    Err(error.suggest_or(call, &known, || "`runbook docs` lists them all"))
}

fn line(outcome: &Outcome) -> String {
    let word = if outcome.passed { styled(GOOD, "PASS") } else { styled(BAD, "FAIL") };
    let took = format!("[{}.{:03}s]", outcome.duration_ms / 1000, outcome.duration_ms % 1000);
    format!("{word} {} {}: {}", styled(DIM, took), styled(STRONG, &outcome.runbook), visible(&outcome.case))
}

/// Why a case failed: what differs, what was not answered, the error that nobody expected.
fn why(outcome: &Outcome, test: &Test, app: &App) -> String {
    let mut text: String = outcome.differences.iter().map(differs).collect();
    if let Some(error) = outcome.unexpected_error() {
        let script = app.script(&test.runbook).ok();
        let shown = script.map_or_else(|| error.to_string(), |script: Script| app.error_text(error, &script.record()));
        text.push_str(&indented(&shown));
    }
    for call in &outcome.unanswered {
        let file = &test.file.path;
        text.push_str(&indented(&format!("to {}, in {file}:", if call.changes { "say what it answers" } else { "answer it" })));
        text.push_str(&indented(&indented(&call.snippet)));
    }
    text
}

fn differs(difference: &Difference) -> String {
    let Difference { what, expected, found, lines } = difference;
    if lines.is_empty() {
        return indented(&format!("{}: found {}, expected {}", visible(what), visible(found), visible(expected)));
    }
    let line = |(side, text): &(Side, String)| match side {
        Side::Both => format!("    {}\n", visible(text)),
        Side::Expected => format!("  {} {}\n", styled(BAD, "-"), styled(BAD, visible(text))),
        Side::Found => format!("  {} {}\n", styled(GOOD, "+"), styled(GOOD, visible(text))),
    };
    indented(&format!(
        "{}: expected {}, found {}\n{}",
        visible(what),
        styled(BAD, "-"),
        styled(GOOD, "+"),
        lines.iter().map(line).collect::<String>()
    ))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| if width(line) == 0 { "\n".to_owned() } else { format!("     {line}\n") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_to_a_function_that_asks_the_world() {
        assert!(check_call("docker::inspect").is_ok() && check_call("run").is_ok());
        assert!(check_call("docker::inspct").unwrap_err().hints[0].contains("`docker::inspect`"));
        assert!(check_call("time::now").unwrap_err().hints[0].contains("`now`"));
        assert!(check_call("sql::ident").unwrap_err().message.contains("works as it does"));
    }
}
