//! `runbook docs`: every function a script can call, from the code itself.

use std::path::{Path, PathBuf};

use crate::cli::app::App;
use crate::cli::terminal::{DIM, STRONG, styled, table};
use crate::config::Problems;
use crate::error::{Error, Kind, Result};
use crate::script::reference::{FunctionEntry, ModuleEntry, ModuleOrigin, definitions, look_up, reference, search};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A module (`http`), a function (`http::get`, `get`) or `language`
    #[arg(add = crate::cli::complete::functions())]
    name: Option<String>,
    /// Look for this word in names and manuals
    #[arg(long, value_name = "WORD", conflicts_with = "name")]
    search: Option<String>,
    /// Write the definition files of the Rhai language server into this directory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["name", "search"])]
    definitions: Option<PathBuf>,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    if let Some(directory) = &args.definitions {
        return Ok(write_definitions(directory, app)?);
    }
    let all = reference();
    let found = match (&args.name, &args.search) {
        (Some(name), _) => look_up(&all, name)?,
        (None, Some(word)) => search(&all, word),
        (None, None) => all,
    };
    if found.is_empty() {
        let word = args.search.unwrap_or_default();
        return Err(Error::new(Kind::Usage, format!("no manual says `{word}`")).hint("`runbook docs` lists the modules").into());
    }
    if app.json {
        app.answer_json(&found)?;
        return Ok(0);
    }
    let functions = found.iter().map(|module| module.functions.len()).sum::<usize>();
    let text = match (&args.name, found.as_slice()) {
        (Some(_), modules) if functions <= 3 => {
            modules.iter().flat_map(|module| &module.functions).map(function).collect::<Vec<_>>().join("\n\n")
        }
        (None, modules) if args.search.is_none() => contents(modules),
        (_, modules) => modules.iter().map(module).collect::<Vec<_>>().join("\n\n"),
    };
    app.terminal.answer(&text);
    if functions > 3 {
        app.terminal.say(&styled(DIM, "one of them: runbook docs NAME     by a word: runbook docs --search WORD"));
    }
    Ok(0)
}

/// The modules, each in one line.
fn contents(modules: &[ModuleEntry]) -> String {
    let row = |module: &ModuleEntry| vec![styled(STRONG, &module.name), module.functions.len().to_string(), module.summary.clone()];
    let titles = ["MODULE", "FUNCTIONS", "ABOUT"].map(|title| styled(DIM, title)).to_vec();
    table(&std::iter::once(titles).chain(modules.iter().map(row)).collect::<Vec<_>>())
}

/// The functions of a module, each in one line.
fn module(module: &ModuleEntry) -> String {
    let mut head = format!("{}  {}", styled(STRONG, &module.name), module.summary);
    if module.origin == ModuleOrigin::Stdlib {
        let short = module.name.rsplit('/').next().unwrap_or(&module.name);
        head.push_str(&format!("\n{}", styled(DIM, format!("import \"{}\" as {short};", module.name))));
    }
    let row = |function: &FunctionEntry| {
        vec![format!("  {}", function.name), styled(DIM, function.kind.unwrap_or("")), function.summary().replace('\n', " ")]
    };
    format!("{head}\n{}", table(&module.functions.iter().map(row).collect::<Vec<_>>()))
}

fn function(function: &FunctionEntry) -> String {
    let mut facts = Vec::new();
    if let Some(kind) = function.kind {
        let plan = if function.plan.is_empty() { String::new() } else { format!("; a plan shows {}", function.plan) };
        facts.push(format!("{kind}{plan}"));
    }
    facts.extend(function.need.as_ref().map(|need| format!("needs {need}")));
    if !function.options.is_empty() {
        facts.push(format!("options {}", function.options.join(", ")));
    }
    let mut text = format!("{}\n", styled(DIM, facts.join("   ")));
    for form in &function.forms {
        text.push_str(&format!("\n{}\n", styled(STRONG, &form.signature)));
        for line in form.manual.lines() {
            let line = if line.starts_with("```") { String::new() } else { line.to_owned() };
            text.push_str(format!("  {line}").trim_end());
            text.push('\n');
        }
    }
    text
}

fn write_definitions(directory: &Path, app: &App) -> Result<u8> {
    let failed = |error: std::io::Error| Error::because(Kind::Usage, format_args!("`{}` can not be written", directory.display()), &error);
    std::fs::create_dir_all(directory).map_err(failed)?;
    let files = definitions();
    for (name, text) in &files {
        std::fs::write(directory.join(name), text).map_err(failed)?;
    }
    app.terminal.say(&format!("{} definition files are in {}", files.len(), directory.display()));
    Ok(0)
}
