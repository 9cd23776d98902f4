//! What the shell offers while a command is typed: names, not guesses. It reads directories, headers
//! and the store; it writes nothing and asks no network.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::env::CompleteEnv;
use clap_complete::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};

use crate::cli::app::App;
use crate::cli::history::ago;
use crate::cli::new::{TEMPLATES, about};
use crate::cli::{Cli, Global};
use crate::config::state_place;
use crate::error::Result;
use crate::model::ParamType;
use crate::script::reference::reference;
use crate::store::{DATABASE, Filter, Sqlite, Store, Summary};

/// Answers the shell, when it is the shell that asks (`COMPLETE` is set).
pub(super) fn answer() -> Option<ExitCode> {
    let here = std::env::current_dir().ok();
    match CompleteEnv::with_factory(Cli::command).completer("runbook").try_complete(std::env::args_os(), here.as_deref()) {
        Ok(false) => None,
        Ok(true) => Some(ExitCode::SUCCESS),
        Err(error) => {
            // The shell shows nothing of it; whoever tries it by hand does.
            let _ = error.print();
            Some(ExitCode::from(2))
        }
    }
}

/// The names of the runbooks, each with what it is about.
pub(super) fn runbooks() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let Ok(library) = app().library() else { return Vec::new() };
        let candidate = |name: String| {
            let title = library.find(&name).ok().and_then(|found| title(&found.text));
            CompletionCandidate::new(name).help(title.map(Into::into))
        };
        library.names().into_iter().map(candidate).collect()
    })
}

/// The names of the systems.
pub(super) fn systems() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let app = app();
        let Ok(project) = app.project() else { return Vec::new() };
        project.systems(&app.environment).names().into_iter().map(CompletionCandidate::new).collect()
    })
}

/// The parameters of the runbook that was typed before: `keep=`, and the values of an enum.
pub(super) fn params() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let typed = typed.to_string_lossy();
        let app = app();
        let Some(script) = named_runbook(&words()).and_then(|name| app.script(&name).ok()) else { return Vec::new() };
        let mut candidates = Vec::new();
        for (name, param) in &script.header.params {
            let values = match param.kind {
                ParamType::Bool => vec!["true".to_owned(), "false".to_owned()],
                _ => param.of.clone(),
            };
            if typed.contains('=') {
                candidates.extend(values.iter().map(|value| CompletionCandidate::new(format!("{name}={value}"))));
            } else {
                let help = if param.help.is_empty() { param.kind.name().to_owned() } else { param.help.clone() };
                candidates.push(CompletionCandidate::new(format!("{name}=")).help(Some(help.into())));
            }
        }
        candidates.retain(|candidate| candidate.get_value().to_string_lossy().starts_with(&*typed));
        candidates
    })
}

/// The newest runs.
pub(super) fn runs() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let mut candidates = vec![CompletionCandidate::new("last").help(Some("the newest".into()))];
        let runs = newest(&app()).unwrap_or_default();
        let mut runbooks: Vec<&str> = runs.iter().map(|run| run.runbook.as_str()).collect();
        runbooks.sort_unstable();
        runbooks.dedup();
        let number = |run: &Summary| {
            let help = format!("{} {} {}", run.runbook, run.status.name(), ago(run.started));
            CompletionCandidate::new(run.run.to_string()).help(Some(help.into()))
        };
        candidates.extend(runs.iter().map(number));
        candidates.extend(runbooks.iter().map(|name| CompletionCandidate::new(format!("last:{name}"))));
        candidates
    })
}

/// The templates of `runbook new`.
pub(super) fn templates() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        TEMPLATES.iter().map(|(name, text)| CompletionCandidate::new(*name).help(Some(about(text).into()))).collect()
    })
}

/// The modules and functions of the reference.
pub(super) fn functions() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let mut candidates = Vec::new();
        for module in reference() {
            candidates.push(CompletionCandidate::new(&module.name).help(Some(module.summary.clone().into())));
            candidates.extend(module.functions.iter().map(|function| CompletionCandidate::new(&function.name)));
        }
        candidates
    })
}

/// How many runs are offered.
const MOST: u32 = 20;

fn newest(app: &App) -> Result<Vec<Summary>> {
    let database = state_place(&app.environment)?.join(DATABASE);
    if !database.exists() {
        return Ok(Vec::new());
    }
    Sqlite::look(&database)?.list(&Filter { limit: MOST, ..Filter::default() })
}

/// The line that is being typed: the shell gives it after `--`.
fn words() -> Vec<String> {
    std::env::args_os().skip_while(|word| word != "--").skip(2).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The application as the typed line would have it.
fn app() -> App {
    let words = words();
    let value_of = |flag: &str| words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1)).map(PathBuf::from);
    App::new(Global { directory: value_of("-C"), config: value_of("--config"), ..Global::default() }, true)
}

/// The options of `run` and its like that take a value.
const WITH_VALUE: &[&str] = &["-C", "--config", "-s", "--system", "-p", "--params", "--timeout", "--format", "--color"];

/// The runbook in a line: the second word that is no option.
fn named_runbook(words: &[String]) -> Option<String> {
    let mut rest = words.iter();
    let mut plain = Vec::new();
    while let Some(word) = rest.next() {
        if WITH_VALUE.contains(&word.as_str()) {
            rest.next();
        } else if !word.starts_with('-') {
            plain.push(word);
        }
    }
    plain.get(1).map(|name| (*name).clone())
}

/// The title in a header, without compiling the script.
fn title(text: &str) -> Option<String> {
    let (_, header) = text.split_once("runbook(")?;
    let (_, rest) = header.split_once("title:")?;
    rest.trim_start().strip_prefix('"')?.split('"').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runbook_is_found_between_options() {
        let words = ["-C", "/x", "run", "-s", "ai-hub", "backup", "-p", ""].map(str::to_owned);
        assert_eq!(named_runbook(&words).as_deref(), Some("backup"));
        assert_eq!(named_runbook(&["run".to_owned()]), None);
    }

    #[test]
    fn a_title_is_read_from_the_text_alone() {
        assert_eq!(title("//! m\nrunbook(#{\n  title: \"Full backup\", params: #{} });").as_deref(), Some("Full backup"));
        assert_eq!(title("fn helper() {}"), None);
    }
}
