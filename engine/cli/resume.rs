//! `runbook resume`: a new worker for a run that ended before its work did.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::app::App;
use crate::cli::office::Office;
use crate::cli::params::{self, ParamArgs};
use crate::cli::run::{Answer, Asked, FaultArgs, conduct, this_binary};
use crate::config::Problems;
use crate::error::{Error, Kind, Result};
use crate::model::{Decision, Event, EventKind, Header, Origin, ParamType, Plan, Run, Says, Span, StepState, System};
use crate::run::journal::Journal;
use crate::run::{Faults, Supervisor, Worker};
use crate::script::Script;
use crate::store::audit::{Act, Action, audited};
use crate::store::{Store, find};
use crate::words;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run: a number, `last`, `last:NAME`, or the beginning of its id
    #[arg(add = crate::cli::complete::runs())]
    run: String,
    /// What holds for a step in doubt: `KEY=done`, `KEY=done=JSON`, `KEY=redo` or `KEY=skip`
    #[arg(long, value_name = "KEY=WHAT")]
    step: Vec<String>,
    /// Give a secret parameter again, as in `token=@FILE`
    #[arg(short, value_name = "KEY=VALUE")]
    p: Vec<String>,
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
    let events = store.events(run.id)?;
    must_be_resumable(&run, &events)?;
    let decisions = args.step.iter().map(|text| decision(text, &run, &events)).collect::<Result<Vec<_>>>()?;
    let worker = Worker::start(&this_binary()?)?;
    let script = recorded_script(&store, &run)?;
    let prepared = prepared(&run, &events, app)?;
    let secret_params = secrets_again(&args.p, &script.header, &prepared.params, app)?;
    let plan = plan_of(&run, prepared.plan.as_deref(), &store)?;
    let asked = asked_again(&run, app.origin(), script, prepared, secret_params);
    let asked = Asked { timeout: args.timeout, plan, faults: args.faults.faults(), ..asked };
    let request = asked.for_resume(&run, app, &state, &store)?;
    app.terminal.say(&format!("#{} goes on: {}", run.run, standing(&run)));
    let act = act(&run, &decisions, app);
    let desk = Office { app, state: &state, store: &store, yes: false };
    let supervisor = audited(&store, &act, || Supervisor::resume(&store, &state, &desk, worker, request, run.id, decisions))?;
    conduct(supervisor, &store, &state, app, args.answer)
}

/// A recorded run that goes on, on the word of `origin`, with the texts and the system it began with.
pub(super) fn asked_again(run: &Run, origin: Origin, script: Script, prepared: Prepared, secret_params: BTreeMap<String, String>) -> Asked {
    let Prepared { system, params, .. } = prepared;
    let (shown, commit, faults) = (run.params.clone(), run.commit.clone(), Faults::default());
    Asked { origin, script, system, params, shown, secret_params, commit, timeout: None, plan: None, when_locked: None, faults }
}

/// The plan that a run carries out; that of a sub-run is a part of one that the run above it made its own.
pub(super) fn plan_of(run: &Run, hash: Option<&str>, store: &dyn Store) -> Result<Option<Plan>> {
    let plans = store.plans()?;
    let found = plans.iter().flat_map(|plan| plan.all()).find(|known| known.run == Some(run.id) || hash == Some(known.hash.as_str()));
    let taken = run.parent.as_ref().map(|_| run.id);
    Ok(found.cloned().map(|plan| Plan { run: plan.run.or(taken), ..plan }))
}

/// What the audit log says of it: who decided what, never with which value.
fn act(run: &Run, decisions: &[Decision], app: &App) -> Act {
    let subject = format!("#{} {}", run.run, run.runbook);
    let said: Vec<String> = decisions.iter().map(|decision| format!("{}={}", decision.key, decision.says.name())).collect();
    app.act(if said.is_empty() { Action::Resume } else { Action::Decide }, subject, said.join(" "))
}

/// What is kept and what is not, in one line.
fn standing(run: &Run) -> String {
    let count = |states: &[StepState]| run.steps.iter().filter(|step| !step.undo && states.contains(&step.status)).count();
    let kept = count(&[StepState::Succeeded, StepState::Skipped]);
    let open = count(&[StepState::Interrupted, StepState::Failed, StepState::Cancelled]);
    format!("{} kept, {open} not finished", words::count(kept, "step"))
}

fn must_be_resumable(run: &Run, events: &[Event]) -> Result<()> {
    let refused = |why: String| Error::new(Kind::Usage, why).hint(format!("to run it anew: runbook retry {}", run.run));
    if !run.status.is_over() {
        return Err(Error::new(Kind::Usage, format!("run #{} is not over: {}", run.run, run.status.name()))
            .hint(format!("to stop it: runbook cancel {}", run.run)));
    }
    if !run.status.is_resumable() || run.error.is_none() {
        return Err(refused(format!("run #{} came to its end: {}", run.run, run.status.name())));
    }
    if Journal::read(events).took_back_all(run) {
        return Err(refused(format!("run #{} has taken back what it did; there is nothing to go on from", run.run)));
    }
    Ok(())
}

/// `KEY=done`, `KEY=done=JSON`, `KEY=redo`, `KEY=skip`.
fn decision(text: &str, run: &Run, events: &[Event]) -> Result<Decision> {
    let wrong =
        |why: String| Error::new(Kind::Usage, why).hint("write `--step 'KEY=done'`, `'KEY=done=JSON'`, `'KEY=redo'` or `'KEY=skip'`");
    let undecided = undecided(run, events);
    // A key may hold a `=` itself: it is one of those that are there.
    let found = undecided
        .iter()
        .filter_map(|key| Some((key, text.strip_prefix(key.as_str())?.strip_prefix('=')?)))
        .max_by_key(|(key, _)| key.len());
    let Some((key, says)) = found else {
        let key = text.split_once('=').map_or(text, |(key, _)| key);
        if run.steps.iter().any(|step| step.key == key) && text.contains('=') {
            return Err(wrong(format!("step `{key}` is finished; there is nothing to decide")));
        }
        let list: Vec<String> = undecided.iter().map(|key| format!("`{key}`")).collect();
        let known = if list.is_empty() { "none is open".to_owned() } else { format!("open are {}", list.join(", ")) };
        return Err(wrong(format!("run #{} has no open step `{key}`; {known}", run.run)));
    };
    let says = match (says, says.strip_prefix("done=")) {
        ("done", _) => Says::Done(Value::Null),
        ("redo", _) => Says::Redo,
        ("skip", _) => Says::Skip,
        (_, Some(json)) => Says::Done(serde_json::from_str(json).map_err(|error| wrong(format!("`{json}` is no JSON: {error}")))?),
        (other, None) => return Err(wrong(format!("`{other}` is not `done`, `redo` or `skip`"))),
    };
    Ok(Decision { key: key.clone(), says })
}

/// The steps that have no value: those of the record, and compensations that were registered.
fn undecided(run: &Run, events: &[Event]) -> Vec<String> {
    let is_finished =
        |key: &str| run.steps.iter().any(|step| step.key == key && matches!(step.status, StepState::Succeeded | StepState::Skipped));
    let undos = Journal::read(events).undos.into_iter().map(|(key, _)| key);
    let steps = run.steps.iter().map(|step| step.key.clone());
    steps.chain(undos).filter(|key| !is_finished(key)).collect()
}

/// A decision for people.
pub(super) fn in_words(decision: &Decision) -> String {
    let says = match &decision.says {
        Says::Done(Value::Null) => "was done".to_owned(),
        Says::Done(value) => format!("was done with {value}"),
        Says::Redo => "runs again".to_owned(),
        Says::Skip => "is left out".to_owned(),
    };
    format!("`{}` {says}", decision.key)
}

/// The runbook as it was when the run was started.
pub(super) fn recorded_script(store: &dyn Store, run: &Run) -> Result<Script> {
    let mut texts = store.modules(run.id)?.into_iter();
    let Some(runbook) = texts.next() else {
        return Err(Error::new(Kind::Store, format!("the text of run #{} is not recorded", run.run)));
    };
    let modules: BTreeMap<String, String> = texts.map(|module| (module.name, module.text)).collect();
    Script::read(&run.runbook, &runbook.name, &runbook.text, |path| modules.get(path).cloned())
}

/// What a run was made of beside its texts.
pub(super) struct Prepared {
    pub(super) system: System,
    pub(super) params: BTreeMap<String, Value>,
    /// The hash of the plan it was to carry out.
    pub(super) plan: Option<String>,
}

pub(super) fn prepared(run: &Run, events: &[Event], app: &App) -> Result<Prepared, Problems> {
    for event in events {
        if let EventKind::Prepared { name, system, params, plan } = &event.kind {
            let system = System { name: name.clone(), ..(**system).clone() };
            return Ok(Prepared { system, params: params.clone(), plan: plan.clone() });
        }
    }
    // A record that is older than resuming: the system as it is now.
    let system = match &run.system {
        Some(name) => app.system(Some(name))?,
        None => System::default(),
    };
    Ok(Prepared { system, params: run.params.clone(), plan: None })
}

/// The values of secret parameters that were given on the command line are not recorded: they are given again.
pub(super) fn secrets_again(
    given: &[String],
    header: &Header,
    params: &BTreeMap<String, Value>,
    app: &App,
) -> Result<BTreeMap<String, String>> {
    let args = ParamArgs { p: given.to_vec(), ..ParamArgs::default() };
    let (given, secrets) = params::read(&args, header, &app.environment)?;
    let is_secret = |name: &String| header.params.get(name).is_some_and(|param| param.kind == ParamType::Secret);
    if let Some(name) = given.keys().find(|name| !is_secret(name)) {
        return Err(
            Error::new(Kind::Usage, format!("parameter `{name}` is recorded, and stays as it was")).hint("only secrets are given again")
        );
    }
    let missing = params.iter().find(|(name, value)| {
        let secret = params::secret_of(name);
        is_secret(name) && value.as_str() == Some(&secret) && !secrets.contains_key(&secret)
    });
    match missing {
        Some((name, _)) => Err(Error::new(Kind::Usage, format!("the secret parameter `{name}` is not recorded"))
            .hint(format!("give it again: `-p {name}=@FILE`"))),
        None => Ok(secrets),
    }
}
