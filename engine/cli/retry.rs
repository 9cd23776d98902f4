//! `runbook retry`: a new run as an earlier one was asked for, with the runbook as it is now.

use crate::cli::app::App;
use crate::cli::commit;
use crate::cli::office::Office;
use crate::cli::resume::{prepared, secrets_again};
use crate::cli::run::{Answer, Asked, FaultArgs, conduct, passes_the_check, plain_params, this_binary};
use crate::config::Problems;
use crate::model::Span;
use crate::run::{Supervisor, Worker};
use crate::script::{Given, check_params};
use crate::store::{Store, find};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run: a number, `last`, `last:NAME`, or the beginning of its id
    #[arg(add = crate::cli::complete::runs())]
    run: String,
    /// Give a secret parameter again, as in `token=@FILE`
    #[arg(short, value_name = "KEY=VALUE")]
    p: Vec<String>,
    /// Do not ask before something dangerous
    #[arg(long)]
    yes: bool,
    /// Stop it after this time
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,
    #[command(flatten)]
    faults: FaultArgs,
    #[command(flatten)]
    answer: Answer,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let (state, store) = app.store()?;
    let run = store.run(find(&store, &args.run)?.id)?;
    let recorded = prepared(&run, &store.events(run.id)?, app)?;
    let worker = Worker::start(&this_binary()?)?;
    let commit = commit::of(app.library()?.find(&run.runbook)?.file);
    let script = app.script(&run.runbook)?;
    if !passes_the_check(&script, app) {
        return Ok(4);
    }
    let system = app.system(run.system.as_deref())?;
    let secret_params = secrets_again(&args.p, &script.header, &recorded.params, app)?;
    let given = recorded.params.into_iter().map(|(name, value)| (name, Given::Value(value))).collect();
    let (shown, _) = check_params(&script.header, &given)?;
    let text = if script.version() == run.version { "its text is the same" } else { "its text has changed since" };
    app.terminal.say(&format!("`{}` is run anew, as #{} was asked for; {text}", run.runbook, run.run));
    let params = plain_params(&script, &given, &shown);
    let commit = commit.and_then(|asked| asked.join().ok().flatten());
    let faults = args.faults.faults();
    let (timeout, when_locked, plan) = (args.timeout, None, None);
    let origin = app.origin();
    let asked = Asked { origin, script, system, params, shown, secret_params, commit, timeout, when_locked, plan, faults };
    let request = asked.for_run(app, &state, &store, args.yes)?;
    let desk = Office { app, state: &state, store: &store, yes: args.yes };
    let supervisor = Supervisor::start(&store, &state, &desk, worker, request, None)?;
    conduct(supervisor, &store, &state, app, args.answer)
}
