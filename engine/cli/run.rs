//! `runbook run`: run one now, and follow it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::app::{App, secret_value};
use crate::cli::commit;
use crate::cli::live::Live;
use crate::cli::office::Office;
use crate::cli::params::{self, ParamArgs};
use crate::cli::plain::Plain;
use crate::cli::plan::{self, Showing};
use crate::cli::report;
use crate::cli::terminal::{WARN, styled};
use crate::cli::{clearance, offer};
use crate::config::{FILE, KeyPlace, Problems, Right, Sandbox};
use crate::error::{Error, Kind, Result};
use crate::host::sandbox::{Enforcement, demand};
use crate::host::secrets::names_in;
use crate::host::{Permissions, Secrets, Stop, StopReason};
use crate::model::{
    Channel, Diagnostic, Event, EventKind, Level, Module, Origin, ParamType, Plan, Run, RunState, Span, System, Trigger, WhenLocked,
    lock_name,
};
use crate::run::daemon;
use crate::run::journal::Journal;
use crate::run::outbox::Addresses;
use crate::run::process::hide;
use crate::run::{Answers, Faults, Limits, LockRequest, Request, Source, Supervisor, Worker};
use crate::script::{Given, Script, check, check_params};
use crate::store::{Filter, Sqlite, StateDir, Store, find_plan};
use crate::words;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The runbook
    #[arg(add = crate::cli::complete::runbooks(), required_unless_present = "plan")]
    name: Option<String>,
    /// The system it runs for
    #[arg(short, long, value_name = "SYSTEM", add = crate::cli::complete::systems())]
    system: Option<String>,
    #[command(flatten)]
    params: ParamArgs,
    /// Do exactly what this plan says, and nothing when things are no longer as they were
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["name", "system"])]
    plan: Option<String>,
    /// Show what would change, and change nothing; as `runbook plan`
    #[arg(long, conflicts_with = "plan")]
    dry_run: bool,
    /// Do not ask on the terminal before something dangerous
    #[arg(long)]
    yes: bool,
    /// Stop it after this time
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,
    /// Begin at this step: those before it are taken from the last run for the same system
    #[arg(long, value_name = "STEP")]
    from: Option<String>,
    #[command(flatten)]
    faults: FaultArgs,
    /// Leave it to the daemon: it is recorded when this returns, and goes on without the terminal
    #[arg(long, conflicts_with_all = ["dry_run", "from", "fail_at", "crash_after", "repeat_steps", "warn_ok", "format"])]
    detach: bool,
    /// What to do when another run holds the lock: `fail`, `wait 10m` or `replace`; as the header says when absent
    #[arg(long, value_name = "POLICY")]
    when_locked: Option<WhenLocked>,
    #[command(flatten)]
    answer: Answer,
}

/// What goes wrong on purpose, to try a runbook.
#[derive(Debug, Default, clap::Args)]
pub(super) struct FaultArgs {
    /// Let this step fail instead of running it, to try what comes then
    #[arg(long, value_name = "STEP")]
    fail_at: Option<String>,
    /// Kill the run right after this event is recorded, as in `effect:STEP`, or after `work:STEP`, of which no result
    /// is recorded, to try `resume`
    #[arg(long, value_name = "EVENT")]
    crash_after: Option<String>,
    /// Run each step twice that may run again, and demand the same
    #[arg(long)]
    repeat_steps: bool,
}

impl FaultArgs {
    pub(super) fn faults(&self) -> Faults {
        Faults { fail_at: self.fail_at.clone(), crash_after: self.crash_after.clone(), repeat_steps: self.repeat_steps }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
    /// One line and performance data, for Icinga, Nagios and Checkmk; exits with 0, 1, 2 or 3
    Nagios,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    if args.dry_run {
        let name = args.name.unwrap_or_default();
        return plan::show(&Order::of_runbook(name, args.system, args.timeout), &args.params, Showing::default(), app);
    }
    hide();
    // It loads while the runbook is read and the run recorded.
    let worker = if args.detach { None } else { Some(Worker::start(&this_binary()?)?) };
    let (state, store) = app.store()?;
    let mut order = match &args.plan {
        Some(reference) => Order::of_plan(find_plan(&store, reference)?, args.timeout),
        None => Order::of_runbook(args.name.clone().unwrap_or_default(), args.system.clone(), args.timeout),
    };
    order.when_locked = args.when_locked;
    let Some(worker) = worker else { return hand_over(&order, &args.params, app, &state) };
    let Some(asked) = asked(&order, &args.params, app)? else { return Ok(4) };
    if args.when_locked == Some(WhenLocked::Replace) {
        app.permit(&store, Right::Cancel, &asked.script.name, Some(&asked.system.name))?;
    }
    let request = Asked { faults: args.faults.faults(), ..asked }.for_run(app, &state, &store, args.yes)?;
    let source = args.from.as_deref().map(|step| source(&store, &request, step)).transpose()?;
    let desk = Office { app, state: &state, store: &store, yes: args.yes };
    let supervisor = Supervisor::start(&store, &state, &desk, worker, request, source)?;
    conduct(supervisor, &store, &state, app, args.answer)
}

/// Leaves a run to the daemon, which reads all of it, and decides whether it may run where nobody watches.
fn hand_over(order: &Order, params: &ParamArgs, app: &App, state: &StateDir) -> Result<u8, Problems> {
    let script = app.script(&order.name)?;
    if !passes_the_check(&script, app) {
        return Ok(4);
    }
    let (given, secrets) = params::read(params, &script.header, &app.environment)?;
    let value = |given| match given {
        Given::Text(text) => Value::String(text),
        Given::Value(value) => value,
    };
    let absolute = |path: &Path| std::path::absolute(app.directory().join(path)).unwrap_or_else(|_| path.to_owned());
    let order = daemon::Order {
        directory: absolute(Path::new("")),
        config: app.config().map(absolute),
        runbook: order.name.clone(),
        system: order.system.clone(),
        params: given.into_iter().map(|(name, given)| (name, value(given))).collect(),
        secrets,
        timeout: order.timeout,
        when_locked: order.when_locked,
        plan: order.plan.as_ref().map(|plan| plan.id.clone()),
        // Whoever hands it over does not watch over it.
        trigger: Trigger::Program,
        by: app.who(),
        account: app.origin().account,
    };
    let queued: daemon::Queued = daemon::ask(state, daemon::Ask::Run(Box::new(order)))
        .map_err(|error| if error.kind == Kind::Store { error.hint("or leave `--detach` out, and it runs here") } else { error })?;
    if app.json {
        app.answer_json(&queued)?;
        return Ok(0);
    }
    app.terminal.answer(&format!("#{}", queued.run));
    let waits = queued.why.map(|why| format!(" and waits: {why}")).unwrap_or_default();
    app.terminal.say(&format!("the daemon has it{waits}     follow it: runbook logs {0} -f     stop it: runbook cancel {0}", queued.run));
    Ok(0)
}

/// What somebody wants to run, or to plan.
pub(super) struct Order {
    pub(super) name: String,
    pub(super) system: Option<String>,
    pub(super) timeout: Option<Span>,
    /// What to do when another run holds the lock.
    pub(super) when_locked: Option<WhenLocked>,
    /// The plan that is carried out.
    pub(super) plan: Option<Plan>,
}

impl Order {
    pub(super) fn of_runbook(name: String, system: Option<String>, timeout: Option<Span>) -> Self {
        Self { name, system, timeout, when_locked: None, plan: None }
    }

    fn of_plan(plan: Plan, timeout: Option<Span>) -> Self {
        Self { plan: Some(plan.clone()), ..Self::of_runbook(plan.runbook, Some(plan.system), timeout) }
    }
}

/// Reads everything an order is about. Nothing when the script does not pass the check, which is told.
pub(super) fn asked(order: &Order, params: &ParamArgs, app: &App) -> Result<Option<Asked>, Problems> {
    let script = app.script(&order.name)?;
    if !passes_the_check(&script, app) {
        return Ok(None);
    }
    let (given, secrets) = params::read(params, &script.header, &app.environment)?;
    asked_of(order, script, given, secrets, app).map(Some)
}

/// The same with its script read, and with what was given for its parameters.
pub(super) fn asked_of(
    order: &Order,
    script: Script,
    mut given: BTreeMap<String, Given>,
    secret_params: BTreeMap<String, String>,
    app: &App,
) -> Result<Asked, Problems> {
    let commit = commit::of(app.library()?.find(&order.name)?.file);
    let system = app.system(order.system.as_deref())?;
    if let Some(plan) = &order.plan {
        let is_plain = |name: &String| script.header.params.get(name).is_some_and(|param| param.kind != ParamType::Secret);
        for (name, value) in plan.params.iter().filter(|(name, value)| is_plain(name) && !value.is_null()) {
            given.entry(name.clone()).or_insert_with(|| Given::Value(value.clone()));
        }
    }
    let (shown, _) = check_params(&script.header, &given)?;
    let params = plain_params(&script, &given, &shown);
    let commit = commit.and_then(|asked| asked.join().ok().flatten());
    let (timeout, when_locked, plan, faults) = (order.timeout, order.when_locked, order.plan.clone(), Faults::default());
    let origin = app.origin();
    Ok(Asked { origin, script, system, params, shown, secret_params, commit, timeout, when_locked, plan, faults })
}

/// A run as it was asked for, new or again. There is no other way to a [`Request`], and each of its ways decides.
pub(super) struct Asked {
    pub(super) origin: Origin,
    pub(super) script: Script,
    pub(super) system: System,
    pub(super) params: BTreeMap<String, Value>,
    pub(super) shown: BTreeMap<String, Value>,
    pub(super) secret_params: BTreeMap<String, String>,
    pub(super) commit: Option<String>,
    pub(super) timeout: Option<Span>,
    pub(super) plan: Option<Plan>,
    pub(super) when_locked: Option<WhenLocked>,
    pub(super) faults: Faults,
}

impl Asked {
    /// Everything a run is made of that begins now, if it may.
    pub(super) fn for_run(self, app: &App, state: &StateDir, store: &dyn Store, yes: bool) -> Result<Request, Problems> {
        let request = self.request(app, state, store, Right::Run)?;
        clearance::ask(&request, store, yes, app)?;
        Ok(request)
    }

    /// Everything a run is made of that goes on now, if it may.
    pub(super) fn for_resume(self, run: &Run, app: &App, state: &StateDir, store: &dyn Store) -> Result<Request, Problems> {
        let request = self.request(app, state, store, Right::Run)?;
        clearance::again(&request, run, store, app)?;
        Ok(request)
    }

    /// Everything a sub-run is made of; whether it may begin is asked beside.
    pub(super) fn for_sub_run(self, app: &App, state: &StateDir, store: &dyn Store) -> Result<Request, Problems> {
        self.request(app, state, store, Right::Run)
    }

    /// Everything a run would be made of.
    pub(super) fn for_plan(self, app: &App, state: &StateDir, store: &dyn Store) -> Result<Request, Problems> {
        self.request(app, state, store, Right::Plan)
    }

    /// Everything a run is made of that touches nothing: a test answers in place of the world, and its secrets are
    /// none. What the header asks for holds, whatever the policy of this place.
    pub(super) fn for_test(mut self, app: &App, state: &StateDir, answers: Arc<Answers>) -> Result<Request, Problems> {
        let permissions = Permissions::read(&self.script.header.allow, &self.system)?;
        let mut values = std::mem::take(&mut self.secret_params);
        let system = self.system.json().to_string();
        for name in permissions.secret_names().filter(|name| !name.contains('*')).chain(names_in(&system)) {
            values.entry(name.to_owned()).or_insert_with(|| format!("not-the-secret-{name}"));
        }
        let nobody = |_: &Channel| Err(Error::new(Kind::Bug, "a test delivers no message"));
        let addresses = Addresses::new(app.project()?.root.display().to_string(), nobody);
        let request = self.of(permissions, Secrets::new(values), addresses, app, state)?;
        Ok(Request { answers: Some(answers), lock: None, ..request })
    }

    fn request(mut self, app: &App, state: &StateDir, store: &dyn Store, right: Right) -> Result<Request, Problems> {
        let settings = &app.project()?.settings;
        clearance::permit(&settings.policy, store, &self.origin, right, &self.script.name, &self.system.name)?;
        let permissions = app.permissions(&self.script, &self.system, self.origin.is_attended())?;
        if enforcement(settings.sandbox) == Enforcement::Strict {
            demand(&permissions)?;
        }
        let given = std::mem::take(&mut self.secret_params);
        let secrets = secrets(app, state, &self.system, &permissions, given)?;
        let addresses = super::outbox::addresses(app, state)?;
        self.of(permissions, secrets, addresses, app, state)
    }

    fn of(
        self,
        permissions: Permissions,
        secrets: Secrets,
        addresses: Addresses,
        app: &App,
        state: &StateDir,
    ) -> Result<Request, Problems> {
        let settings = &app.project()?.settings;
        let limits = Limits {
            time: self.timeout.or(self.script.header.timeout).or(Some(settings.limits.timeout)),
            memory: self.script.header.memory.unwrap_or(settings.limits.memory),
            output: settings.limits.output,
            files: u64::from(settings.limits.files),
            processes: settings.limits.processes,
            program_memory: settings.limits.program_memory,
            sandbox: enforcement(settings.sandbox),
            ..Limits::default()
        };
        Ok(Request {
            lock: lock(&self.script, &self.system, &self.shown, self.when_locked)?,
            secrets,
            script: self.script,
            params: self.params,
            shown: self.shown,
            permissions,
            limits,
            commit: self.commit,
            trigger: self.origin.trigger,
            by: app.who(),
            protected: protected(app, state)?,
            addresses,
            system: self.system,
            plan: self.plan,
            origin: self.origin,
            faults: self.faults,
            answers: None,
            within: None,
            masks: Secrets::default(),
        })
    }
}

/// How a run is answered, new or again.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Answer {
    /// Exit with 0 instead of 3 when there are warnings
    #[arg(long)]
    warn_ok: bool,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Follows a run to its end, answers, and delivers its messages.
pub(super) fn conduct(supervisor: Supervisor<'_>, store: &Sqlite, state: &StateDir, app: &App, how: Answer) -> Result<u8, Problems> {
    let addresses = supervisor.addresses().clone();
    let after = Arc::new(After::default());
    listen_to_signals(&supervisor, after.clone())?;
    let quiet = how.format != Format::Text || app.json || app.terminal.is_quiet();
    let run = follow(supervisor, app, &state.database(), quiet)?;
    after.begun.store(true, Ordering::Relaxed);
    let code = answer(&run, how, app);
    super::outbox::deliver(app, store, state, &addresses, &after.stop);
    code
}

/// The lock the header names, for this system and these parameters.
fn lock(script: &Script, system: &System, shown: &BTreeMap<String, Value>, when: Option<WhenLocked>) -> Result<Option<LockRequest>> {
    let Some(pattern) = &script.header.lock else { return Ok(None) };
    let wrong = |error: Error| Error { kind: Kind::Usage, ..error }.context("the lock of the run");
    let name = lock_name(pattern, &system.name, shown).map_err(wrong)?;
    Ok(Some(LockRequest { name, when: when.unwrap_or(script.header.when_locked) }))
}

/// The steps before `step` of the last run of this runbook for this system.
fn source(store: &dyn Store, request: &Request, step: &str) -> Result<Source> {
    let Request { script, system, shown, .. } = request;
    let filter = Filter { runbook: Some(script.name.clone()), ..Filter::default() };
    let name = Some(&system.name).filter(|name| !name.is_empty());
    let last = store.list(&filter)?.into_iter().find(|run| run.system.as_ref() == name && run.status.is_over());
    let refused = |message: String| Error::new(Kind::Usage, message).hint("leave `--from` out to run all of it");
    let last = last.ok_or_else(|| refused(format!("`{}` has no earlier run to take the steps before `{step}` from", script.name)))?;
    let changed = |what: &str| refused(format!("{what} changed since run #{}: its steps say nothing about what would run now", last.run));
    let hashes = |modules: Vec<Module>| modules.into_iter().map(|module| module.hash).collect::<Vec<_>>();
    if hashes(store.modules(last.id)?) != hashes(script.record()) {
        return Err(changed("the text"));
    }
    let run = store.run(last.id)?;
    if run.params != *shown {
        return Err(changed("the parameters"));
    }
    let events = store.events(last.id)?;
    Journal::before(&events, step).map(|events| Source { run: last.run, events, step: step.to_owned() }).ok_or_else(|| {
        let known: Vec<String> = run.steps.iter().map(|step| format!("`{}`", step.key)).collect();
        refused(format!("run #{} can not be taken up at step `{step}`", last.run))
            .hint(format!("it has to be at the top level, and all before it done; the run has {}", known.join(", ")))
    })
}

fn enforcement(setting: Sandbox) -> Enforcement {
    match setting {
        Sandbox::Auto => Enforcement::Auto,
        Sandbox::Strict => Enforcement::Strict,
        Sandbox::Off => Enforcement::Off,
    }
}

/// What comes after a run: delivering its messages, which nobody has to wait for.
struct After {
    begun: AtomicBool,
    stop: Stop,
}

impl Default for After {
    fn default() -> Self {
        Self { begun: AtomicBool::new(false), stop: Stop::new(None) }
    }
}

/// What the check calls an error would fail in the middle of the run. Warnings are for `runbook check`.
pub(super) fn passes_the_check(script: &Script, app: &App) -> bool {
    let errors: Vec<Diagnostic> = check(script).into_iter().filter(Diagnostic::is_error).collect();
    if errors.is_empty() {
        return true;
    }
    app.show_findings(&errors, script);
    app.terminal.insist("nothing ran: the script does not pass the check");
    false
}

/// The same where nobody reads: the first error is why it does not run.
pub(super) fn passed(script: Script) -> Result<Script> {
    match check(&script).into_iter().find(Diagnostic::is_error) {
        Some(finding) => Err(Error::new(Kind::Script, finding.message).at(finding.at).code(&finding.code)),
        None => Ok(script),
    }
}

pub(super) fn this_binary() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| Error::because(Kind::Bug, "this binary", &error))
}

/// What decides over scripts must be out of their reach.
fn protected(app: &App, state: &StateDir) -> Result<Vec<PathBuf>, Problems> {
    let project = app.project()?;
    let unit = PathBuf::from("/etc/systemd/system/runbook.service");
    let mut paths =
        vec![state.root().to_owned(), project.root.join(FILE), project.runbooks(), PathBuf::from("/etc/runbook"), unit, this_binary()?];
    paths.extend(KeyPlace::find(&app.environment).ok().map(|place| place.file));
    paths.extend(project.settings.secrets.values().filter_map(|source| source.file.as_ref()).map(|file| project.root.join(file)));
    Ok(paths)
}

fn follow(supervisor: Supervisor<'_>, app: &App, database: &Path, quiet: bool) -> Result<Run> {
    let offer = |run: &Run, event: &Event| {
        if let EventKind::Asked(asked) = &event.kind {
            offer::tell(run, asked, database, app);
        }
    };
    if quiet {
        return supervisor.follow(&mut |run: &Run, event: &Event| offer(run, event));
    }
    if app.terminal.is_watched() {
        let mut live = Live::new(app.terminal);
        let run = supervisor.follow(&mut |run: &Run, event: &Event| {
            live.event(run, event);
            offer(run, event);
        });
        live.end();
        return run;
    }
    let mut plain = Plain::new(app.terminal);
    plain.begin(supervisor.run());
    supervisor.follow(&mut |run: &Run, event: &Event| {
        plain.event(run, event);
        offer(run, event);
    })
}

fn answer(run: &Run, how: Answer, app: &App) -> Result<u8, Problems> {
    let code = match run.exit_code.unwrap_or(70) {
        3 if how.warn_ok => 0,
        code => code,
    };
    match how.format {
        Format::Nagios => {
            app.terminal.answer(&nagios(run));
            return Ok(match run.status {
                RunState::Succeeded => 0,
                RunState::Warning => 1,
                RunState::Failed if run.level() != Level::Unknown => 2,
                _ => 3,
            });
        }
        Format::Json => app.answer_json(run)?,
        Format::Text if app.json => app.answer_json(run)?,
        Format::Text => {
            let text = report::text(run, app.terminal);
            if !text.is_empty() {
                app.terminal.answer(&text);
            }
            if let Some(error) = &run.error {
                app.complain(&Problems { errors: vec![error.clone()], texts: BTreeMap::new() });
            }
            app.terminal.say(&report::last_line(run, app.terminal));
        }
    }
    Ok(code)
}

/// The line of a monitoring plugin, as of the Monitoring Plugins guidelines.
fn nagios(run: &Run) -> String {
    let word = match run.status {
        RunState::Succeeded => "OK",
        RunState::Warning => "WARNING",
        RunState::Failed if run.level() != Level::Unknown => "CRITICAL",
        _ => "UNKNOWN",
    };
    let bad: Vec<String> = run
        .checks
        .iter()
        .filter(|check| check.level != Level::Ok)
        .map(|check| if check.detail.is_empty() { check.name.clone() } else { format!("{} ({})", check.name, check.detail) })
        .collect();
    let said = match (&run.error, bad.as_slice()) {
        (Some(error), _) => error.message.clone(),
        (None, []) => words::count(run.checks.len(), "check"),
        (None, bad) => bad.join(", "),
    };
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let data: Vec<String> = run
        .checks
        .iter()
        .filter_map(|check| {
            let unit = check.unit.as_deref().filter(|unit| matches!(*unit, "%" | "ms" | "s" | "B")).unwrap_or_default();
            let limits = check.limit.as_ref().map(|limit| format!(";{};{}", number(limit.warn), number(limit.alarm))).unwrap_or_default();
            Some(format!("'{}'={}{unit}{limits}", check.name.replace(['\'', '='], "_"), check.value?))
        })
        .collect();
    let line = |text: &str| text.replace(['\n', '|'], " ");
    if data.is_empty() { format!("{word}: {}", line(&said)) } else { format!("{word}: {} | {}", line(&said), data.join(" ")) }
}

/// The values as the worker needs them: masked parameters get their secret's name back.
pub(super) fn plain_params(script: &Script, given: &BTreeMap<String, Given>, shown: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut params = shown.clone();
    for (name, param) in script.header.params.iter().filter(|(_, param)| param.kind == ParamType::Secret) {
        let value = match given.get(name) {
            Some(Given::Text(text)) => text.clone().into(),
            Some(Given::Value(value)) => value.clone(),
            None => param.def.clone().unwrap_or_default(),
        };
        params.insert(name.clone(), value);
    }
    params.retain(|_, value| !value.is_null());
    params
}

/// The secrets a run is given: those its header names, those its system needs for what it may touch,
/// and those on its command line. One that is not set is missed when it is used, not before.
pub(super) fn secrets(
    app: &App,
    state: &StateDir,
    system: &System,
    permissions: &Permissions,
    params: BTreeMap<String, String>,
) -> Result<Secrets, Problems> {
    let mut names: Vec<String> = permissions.secret_names().filter(|name| !name.contains('*')).map(str::to_owned).collect();
    let tables = [
        ("sql", serde_json::to_string(&system.databases)),
        ("redis", serde_json::to_string(&system.caches)),
        ("http", serde_json::to_string(&system.endpoints)),
        ("prom", serde_json::to_string(&system.endpoints)),
        ("notify", serde_json::to_string(&system.contacts)),
    ];
    for (section, table) in tables {
        let table = table.map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
        if permissions.uses(section) {
            names.extend(names_in(&table).map(str::to_owned));
        }
    }
    names.sort();
    names.dedup();
    let project = app.project()?;
    hide();
    let mut values = params;
    for name in names {
        if let Some(variable) = project.settings.secrets.get(&name).and_then(|source| source.env.as_ref()) {
            let text = format!("secret `{name}` comes from `{variable}`, which every program started here inherits; a file is safer");
            app.terminal.say(&format!("{} {text}", styled(WARN, "warning:")));
        }
        if let Some(value) = secret_value(project, state, &app.environment, &name)? {
            values.insert(name, value);
        }
    }
    Ok(Secrets::new(values))
}

/// The first signal cancels with clean-up, the second kills; after the run, one leaves messages for later.
/// A terminal that goes away, or a run that wants to take over, cuts no clean-up short.
fn listen_to_signals(supervisor: &Supervisor<'_>, after: Arc<After>) -> Result<()> {
    let control = supervisor.control();
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|error| Error::because(Kind::Bug, "signals", &error))?;
    std::thread::spawn(move || {
        let mut asked = false;
        for signal in signals.forever() {
            if asked && signal == SIGHUP {
                continue;
            }
            asked = true;
            if after.begun.load(Ordering::Relaxed) {
                after.stop.stop(StopReason::Cancelled);
            } else {
                control.cancel(if signal == SIGINT { 130 } else { 143 });
            }
        }
    });
    Ok(())
}
