//! The commands: one file each. Only here is anything printed, and the command line read.

mod app;
mod approvals;
mod approve;
mod audit;
mod cancel;
mod check;
mod clearance;
mod commit;
mod complete;
mod completions;
mod config;
mod desk;
mod docs;
mod doctor;
pub mod embed;
mod escape;
mod exit;
mod explain;
mod history;
mod incident;
mod init;
mod list;
mod live;
mod locks;
mod logs;
mod new;
mod offer;
mod office;
mod outbox;
mod params;
mod plain;
mod plan;
mod ps;
mod reference;
mod register;
mod render;
mod report;
mod resume;
mod retry;
mod rules;
mod run;
mod schedule;
mod secret;
mod serve;
mod show;
mod state;
mod status;
mod terminal;
mod test;
mod who;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

pub use exit::{EXITS, Exit};

use app::App;

use crate::store::audit::Action;

/// run your runbooks
#[derive(Debug, Parser)]
#[command(name = "runbook", version, long_version = long_version(), max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Default, clap::Args)]
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

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a runbook now
    Run(run::Args),
    /// Show what a run would change, and change nothing
    Plan(plan::Args),
    /// Say yes to a plan, to the question of a run, or to the permissions of a runbook
    Approve(approve::Args),
    /// Say no to a plan, or to the question of a run
    Deny(approve::DenyArgs),
    /// What waits for a yes or a no, and what was said
    Approvals(approvals::Args),
    /// What is there, with the last result
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// What a runbook does: its manual, parameters and permissions
    Show(show::Args),
    /// Runs that run, wait or are queued, and those that do not go on without you
    Ps(ps::Args),
    /// The locks runs hold, and those that were left by runs that were cut off
    Locks(locks::Args),
    /// Past runs
    History(history::Args),
    /// The log of a run
    Logs(logs::Args),
    /// A run as text, Markdown or JSON
    Report(report::Args),
    /// Let an interrupted, failed or halted run go on where it stopped
    Resume(resume::Args),
    /// Run a runbook anew, as an earlier run was asked for
    Retry(retry::Args),
    /// Stop a run, letting it clean up
    Cancel(cancel::Args),
    /// Watch over runs: those of `run --detach`, and those that were cut off
    Serve(serve::Args),
    /// Whether a daemon serves this state, what it does, and what is wrong
    Status(status::Args),
    /// Check runbooks without running them
    #[command(visible_alias = "lint")]
    Check(check::Args),
    /// Run the tests of runbooks, which touch nothing
    Test(test::Args),
    /// What a code in an error means, and how to mend it; or what a runbook may touch
    Explain(explain::Args),
    /// When runbooks run by themselves, why one did not, and what to leave out
    Schedule(schedule::Args),
    /// Make a project
    Init(init::Args),
    /// Make a runbook from a template
    New(new::Args),
    /// What is broken, who takes care of it, and what was learnt
    Incident(incident::Args),
    /// Incidents, changes, problems and costs, as reports count them
    Register(register::Args),
    /// The alert rules of a system: list them, render them for Prometheus, try them
    Rules(rules::Args),
    /// Check this machine: settings, state, connections, clock, tools, kernel
    Doctor(doctor::Args),
    /// The functions scripts can call, with search and examples
    Docs(docs::Args),
    /// The settings that hold, and where each comes from
    Config(config::Args),
    /// Set, list and check secrets
    Secret(secret::Args),
    /// Who did what, when, and why; whether the log is whole
    Audit(audit::Args),
    /// Copy, verify, put back and tidy the state
    State(state::Args),
    /// What a shell needs to complete commands
    Completions(completions::Args),
    /// Write the reference in Markdown
    #[command(name = "__reference", hide = true)]
    Reference(reference::Args),
}

impl Command {
    /// What it does, as the audit log calls it; nothing when it only reads, and then it can not write the state either.
    /// A test does everything that stands here, and looks for it in the log.
    fn acts(&self) -> &'static [Action] {
        match self {
            Self::Run(_) => &[Action::Run, Action::Plan],
            Self::Retry(_) => &[Action::Run],
            Self::Plan(_) => &[Action::Plan],
            Self::Approve(_) => &[Action::Approve, Action::Pin],
            Self::Deny(_) => &[Action::Deny],
            Self::Resume(_) => &[Action::Resume, Action::Decide],
            Self::Serve(_) => &[Action::Run, Action::Resume],
            Self::Cancel(_) => &[Action::Cancel],
            Self::Secret(args) => args.acts(),
            Self::State(args) => args.acts(),
            Self::Incident(args) => args.acts(),
            Self::Register(args) => args.acts(),
            Self::Schedule(args) => args.acts(),
            Self::Test(args) => args.acts(),
            Self::Approvals(_)
            | Self::List(_)
            | Self::Show(_)
            | Self::Ps(_)
            | Self::Locks(_)
            | Self::History(_)
            | Self::Logs(_)
            | Self::Report(_)
            | Self::Status(_)
            | Self::Check(_)
            | Self::Explain(_)
            | Self::Init(_)
            | Self::New(_)
            | Self::Rules(_)
            | Self::Doctor(_)
            | Self::Docs(_)
            | Self::Config(_)
            | Self::Audit(_)
            | Self::Completions(_)
            | Self::Reference(_) => &[],
        }
    }
}

/// The version, and that of the store's engine.
fn long_version() -> String {
    format!("{}\nSQLite {}", env!("CARGO_PKG_VERSION"), crate::store::sqlite_version())
}

/// Our own log, to standard error, for whoever asks for it; the output of runs is no part of it.
fn start_log(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let asked = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = match (asked, verbose) {
        (Some(filter), _) => filter,
        (None, 0) => return,
        (None, 1) => "runbook=info,warn".to_owned(),
        (None, _) => "debug".to_owned(),
    };
    // Fails only when there is a log already, and nothing else in this program starts one.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never)
        .try_init();
}

fn use_colors(color: Color) {
    let (choice, is_on) = match color {
        Color::Auto => return,
        Color::Always => (anstream::ColorChoice::Always, true),
        Color::Never => (anstream::ColorChoice::Never, false),
    };
    choice.write_global();
    // The progress and the prompts of other crates ask here.
    console::set_colors_enabled(is_on);
    console::set_colors_enabled_stderr(is_on);
}

/// Whether this process was started by a supervisor, which gives exactly this argument.
fn is_worker() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == "__worker")
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // Everything else would cost a worker time.
    if is_worker() {
        return ExitCode::from(crate::run::worker::main());
    }
    if let Some(answered) = complete::answer() {
        return answered;
    }
    let cli = Cli::parse();
    use_colors(cli.global.color);
    // What nobody watches tells what it does.
    start_log(cli.global.verbose.max(u8::from(matches!(cli.command, Command::Serve(_)))));
    let app = App::new(cli.global, cli.command.acts().is_empty());
    let result = match cli.command {
        Command::Run(args) => run::run(args, &app),
        Command::Plan(args) => plan::run(args, &app),
        Command::Approve(args) => approve::run(args, &app),
        Command::Deny(args) => approve::deny(args, &app),
        Command::Approvals(args) => approvals::run(args, &app),
        Command::List(args) => list::run(args, &app),
        Command::Show(args) => show::run(args, &app),
        Command::Ps(args) => ps::run(args, &app),
        Command::Locks(args) => locks::run(args, &app),
        Command::History(args) => history::run(args, &app),
        Command::Logs(args) => logs::run(args, &app),
        Command::Report(args) => report::run(args, &app),
        Command::Resume(args) => resume::run(args, &app),
        Command::Retry(args) => retry::run(args, &app),
        Command::Cancel(args) => cancel::run(args, &app),
        Command::Serve(args) => serve::run(args, &app),
        Command::Status(args) => status::run(args, &app),
        Command::Check(args) => check::run(args, &app),
        Command::Test(args) => test::run(args, &app),
        Command::Explain(args) => explain::run(args, &app),
        Command::Schedule(args) => schedule::run(args, &app),
        Command::Init(args) => init::run(args, &app),
        Command::New(args) => new::run(args, &app),
        Command::Incident(args) => incident::run(args, &app),
        Command::Register(args) => register::run(args, &app),
        Command::Rules(args) => rules::run(args, &app),
        Command::Doctor(args) => doctor::run(args, &app),
        Command::Docs(args) => docs::run(args, &app),
        Command::Config(args) => config::run(args, &app),
        Command::Secret(args) => secret::run(args, &app),
        Command::Audit(args) => audit::run(args, &app),
        Command::State(args) => state::run(args, &app),
        Command::Completions(args) => completions::run(args, &app),
        Command::Reference(args) => reference::run(args, &app),
    };
    ExitCode::from(result.unwrap_or_else(|problems| app.complain(&problems)))
}
