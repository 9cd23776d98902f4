//! The commands: one file each. Only here is anything printed, and the command line read.

mod app;
mod commit;
mod escape;
mod exit;
mod history;
mod list;
mod live;
mod logs;
mod outbox;
mod params;
mod plain;
mod ps;
mod render;
mod report;
mod run;
mod show;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

pub use exit::{EXITS, Exit};

use app::App;

/// run your runbooks
#[derive(Debug, Parser)]
#[command(name = "runbook", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
struct Global {
    /// Work in this directory
    #[arg(short = 'C', global = true, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Use this settings file
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    /// Say less
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more: `-v` own log, `-vv` everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Never ask
    #[arg(long, global = true)]
    no_input: bool,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a runbook now
    Run(run::Args),
    /// What is there, with the last result
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// What a runbook does: its manual, parameters and permissions
    Show(show::Args),
    /// Runs that run, wait or are queued
    Ps(ps::Args),
    /// Past runs
    History(history::Args),
    /// The log of a run
    Logs(logs::Args),
    /// A run as text, Markdown or JSON
    Report(report::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // The worker is started by us with exactly this argument; everything else would cost it time.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "__worker") {
        return ExitCode::from(crate::run::worker::main());
    }
    let cli = Cli::parse();
    match cli.global.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    let app = App::new(cli.global);
    let result = match cli.command {
        Command::Run(args) => run::run(args, &app),
        Command::List(args) => list::run(args, &app),
        Command::Show(args) => show::run(args, &app),
        Command::Ps(args) => ps::run(args, &app),
        Command::History(args) => history::run(args, &app),
        Command::Logs(args) => logs::run(args, &app),
        Command::Report(args) => report::run(args, &app),
    };
    ExitCode::from(result.unwrap_or_else(|problems| app.complain(&problems)))
}
