//! `runbook serve`: watches over the runs of this state directory, until it is told to stop.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::app::App;
use crate::cli::desk::Desk;
use crate::cli::run::this_binary;
use crate::config::Problems;
use crate::daemon::{Config, Manager, Told, serve};
use crate::error::{Error, Kind, Result};
use crate::run::process::hide;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print a unit file for systemd, and serve nothing
    #[arg(long)]
    unit: bool,
}

/// The unit file, with its sandbox.
const UNIT: &str = include_str!("../../docs/examples/runbook.service");

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    if args.unit {
        app.terminal.answer(UNIT);
        return Ok(0);
    }
    if std::process::id() == 1 {
        return Ok(first_process()?);
    }
    hide();
    let variable = |name: &str| app.environment.get(name);
    let config = Config {
        state: app.state()?,
        desk: Arc::new(Desk::of(app)),
        binary: this_binary()?,
        manager: Manager::new(variable("NOTIFY_SOCKET"), variable("WATCHDOG_USEC")),
    };
    serve(config, &told_by_signals()?)?;
    Ok(0)
}

/// SIGTERM and SIGINT stop it, twice in a hurry; SIGHUP lets it read its settings again.
fn told_by_signals() -> Result<Receiver<Told>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|error| Error::because(Kind::Bug, "signals", &error))?;
    let (sender, told) = channel();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let word = if signal == SIGHUP { Told::Reload } else { Told::Stop };
            if sender.send(word).is_err() {
                return;
            }
        }
    });
    Ok(told)
}

/// The first process of a container has two duties that would disturb the daemon: to collect every process that
/// loses its parent, and to take the signals that have no effect on it unless it asks for them. So it does only
/// these, and the daemon is its child.
fn first_process() -> Result<u8> {
    let failed = |error: std::io::Error| Error::because(Kind::Bug, "the daemon can not be started", &error);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    let daemon = std::process::Command::new(this_binary()?).args(std::env::args_os().skip(1)).spawn().map_err(failed)?;
    let daemon =
        i32::try_from(daemon.id()).ok().and_then(Pid::from_raw).ok_or_else(|| Error::new(Kind::Bug, "the daemon has no number"))?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let signal = match signal {
                SIGHUP => Signal::HUP,
                SIGINT => Signal::INT,
                _ => Signal::TERM,
            };
            // It may be gone, which ends this process as well.
            let _ = kill_process(daemon, signal);
        }
    });
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == daemon => {
                return Ok(status.exit_status().map_or(70, |code| u8::try_from(code).unwrap_or(70)));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
}
