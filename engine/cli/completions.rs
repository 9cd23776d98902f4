//! `runbook completions`: what a shell needs to complete commands.

use clap::ValueEnum;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use crate::cli::app::App;
use crate::config::Problems;
use crate::error::{Error, Kind, Result};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell; `source <(runbook completions bash)` in its start file
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell
        .write_registration("COMPLETE", "runbook", "runbook", "runbook", &mut script)
        .map_err(|error| Error::because(Kind::Bug, "the completion script", &error))?;
    app.terminal.raw(&script);
    Ok(0)
}
