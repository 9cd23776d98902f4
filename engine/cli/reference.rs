//! `runbook __reference`: the reference in Markdown, one function per page. A test fails when the pages
//! that are checked in say something else.

use std::path::PathBuf;

use clap::CommandFactory;

use crate::cli::app::App;
use crate::cli::{Cli, EXITS};
use crate::config::{KEYS, Problems};
use crate::error::{Error, Kind, Result};
use crate::script::reference::{FunctionEntry, ModuleEntry, ModuleOrigin, reference};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to write it
    dir: PathBuf,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let modules = reference();
    let pages = [
        ("host.md", host(&modules)),
        ("language.md", language(&modules)),
        ("cli.md", commands()),
        ("exit-codes.md", exit_codes()),
        ("settings.md", settings()),
    ];
    let failed = |error: std::io::Error| Error::because(Kind::Usage, format_args!("`{}` can not be written", args.dir.display()), &error);
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    for (name, text) in &pages {
        std::fs::write(args.dir.join(name), text).map_err(failed)?;
    }
    app.terminal.say(&format!("{} pages are in {}", pages.len(), args.dir.display()));
    Ok(0)
}

/// What every page begins with, so that nobody edits it by hand.
fn page(title: &str, about: &str) -> String {
    format!("<!-- Made by `runbook __reference docs/reference`; edit the code instead. -->\n\n# {title}\n\n{about}\n")
}

fn host(modules: &[ModuleEntry]) -> String {
    let about = "Every function of every host module. `runbook docs NAME` prints the same on a terminal.\n\n\
        A *read* looks; an *effect* changes the world, and in a plan is told instead of done.\n\
        What a function *needs* has to stand in the `allow` of the header.\n\
        Options are a map in the last argument; an unknown key is an error.";
    let mut text = page("Host functions", about);
    let host: Vec<&ModuleEntry> = modules.iter().filter(|module| module.origin == ModuleOrigin::Host).collect();
    text.push_str("\n| module | about |\n|---|---|\n");
    for module in &host {
        text.push_str(&format!("| [`{0}`](#{0}) | {1} |\n", module.name, cell(&module.summary)));
    }
    for module in host {
        text.push_str(&module_section(module));
    }
    text
}

fn language(modules: &[ModuleEntry]) -> String {
    let about = "The words of a runbook that belong to no module, and the modules of the stdlib.\n\n\
        Everything of [Rhai](https://rhai.rs/book/)'s standard library is there too, but for `eval`.";
    let mut text = page("Language", about);
    for module in modules.iter().filter(|module| module.origin != ModuleOrigin::Host) {
        text.push_str(&module_section(module));
    }
    text
}

fn module_section(module: &ModuleEntry) -> String {
    let mut text = format!("\n## {}\n\n{}\n", module.name, sentence(&module.summary));
    if module.origin == ModuleOrigin::Stdlib {
        let short = module.name.rsplit('/').next().unwrap_or(&module.name);
        text.push_str(&format!("\n```rhai\nimport \"{}\" as {short};\n```\n", module.name));
    }
    for function in &module.functions {
        text.push_str(&function_section(function));
    }
    text
}

fn function_section(function: &FunctionEntry) -> String {
    let mut text = format!("\n### `{}`\n", function.name);
    let mut facts = Vec::new();
    facts.extend(function.kind.map(|kind| format!("*{kind}*")));
    facts.extend(function.need.as_ref().map(|need| format!("needs `{need}`")));
    if !function.plan.is_empty() {
        facts.push(format!("a plan shows {}", function.plan));
    }
    if !function.options.is_empty() {
        facts.push(format!("options `{}`", function.options.join("` `")));
    }
    if !facts.is_empty() {
        text.push_str(&format!("\n{}\n", facts.join(" · ")));
    }
    for form in &function.forms {
        text.push_str(&format!("\n```\n{}\n```\n\n{}\n", form.signature, form.manual));
    }
    text
}

fn commands() -> String {
    let mut text = page("Commands", "Standard output is the answer, standard error is talk. `--json` works on every command that answers.");
    let mut root = Cli::command();
    root.build();
    text.push_str(&format!("\n## Global options\n\n{}", options(&root, true)));
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        text.push_str(&command_section(command, "runbook"));
    }
    text
}

fn command_section(command: &clap::Command, above: &str) -> String {
    let name = format!("{above} {}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("\n## `{name}`\n\n{}\n", sentence(&about));
    let usage = command.clone().render_usage().to_string();
    text.push_str(&format!("\n```\n{}\n```\n", usage.trim_start_matches("Usage: ")));
    let options = options(command, false);
    if !options.is_empty() {
        text.push_str(&format!("\n{options}"));
    }
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        text.push_str(&command_section(below, &name));
    }
    text
}

/// The arguments of a command, without those that all commands take.
fn options(command: &clap::Command, global: bool) -> String {
    let is_own = |argument: &&clap::Arg| {
        !argument.is_hide_set() && argument.is_global_set() == global && !matches!(argument.get_id().as_str(), "help" | "version")
    };
    let rows: Vec<String> = command.get_arguments().filter(is_own).map(option_row).collect();
    if rows.is_empty() { String::new() } else { format!("| option | what |\n|---|---|\n{}\n", rows.join("\n")) }
}

fn option_row(argument: &clap::Arg) -> String {
    let value = argument.get_value_names().map(|names| names.join(" ")).filter(|_| argument.get_action().takes_values());
    let flag = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, Some(long)) => format!("--{long}"),
        (None, None) => String::new(),
    };
    let shown = [Some(flag).filter(|flag| !flag.is_empty()), value].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<String> = argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if !values.is_empty() && argument.get_action().takes_values() {
        help.push_str(&format!("; {}", values.join(", ")));
    }
    let defaults: Vec<String> = argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if !defaults.is_empty() && argument.get_action().takes_values() {
        help.push_str(&format!(" (default `{}`)", defaults.join(" ")));
    }
    format!("| `{shown}` | {} |", cell(&help))
}

fn exit_codes() -> String {
    let mut text = page("Exit codes", "What scripts may rely on.");
    text.push_str("\n| code | meaning |\n|---|---|\n");
    for exit in EXITS {
        text.push_str(&format!("| {} | {} |\n", exit.code, cell(exit.meaning)));
    }
    text
}

fn settings() -> String {
    let about = "The keys of `runbook.toml`. A flag beats the environment, which beats the project's file, the user's, the machine's \
        and the defaults.\nA key `limits.memory` is the variable `RUNBOOK_LIMITS_MEMORY`. `runbook config --origins` shows what holds.";
    let mut text = page("Settings", about);
    text.push_str("\n| key | holds | default | what |\n|---|---|---|---|\n");
    for key in KEYS {
        let default = key.default.map(|default| format!("`{default}`")).unwrap_or_default();
        text.push_str(&format!("| `{}` | {} | {default} | {} |\n", key.name, key.kind.name(), cell(key.help)));
    }
    text
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
