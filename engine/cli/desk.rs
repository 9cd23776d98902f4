//! What the daemon does not know itself: runbooks, systems and settings, read anew for each run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::cli::app::{App, secret_value};
use crate::cli::office::Office;
use crate::cli::resume::{asked_again, plan_of, prepared, recorded_script, secrets_again};
use crate::cli::run::{Asked, Order as Wanted, asked_of, passed};
use crate::cli::schedule::{Live, Schedules};
use crate::cli::{Color, Global, outbox};
use crate::config::{self, Problems};
use crate::daemon::{Deed, Doors, Hook, Outlook, Place, Secret, Settings, Timetable, Watched};
use crate::error::{Error, Kind, Result};
use crate::host::secrets::names_in;
use crate::host::{RunOrder, Secrets};
use crate::model::{Event, Origin, Plan, Run, System, Trigger};
use crate::run::daemon::Order;
use crate::run::outbox::Addresses;
use crate::run::process::helpers;
use crate::run::{self, Ordered, Request, Worker};
use crate::script::Given;
use crate::store::{StateDir, Store, find_plan};

/// The projects of this machine, as one who is never asked sees them.
pub(super) struct Desk {
    /// The directory of the daemon's own project.
    directory: PathBuf,
    /// The settings file, when it was named.
    config: Option<PathBuf>,
}

impl Desk {
    pub(super) fn of(app: &App) -> Self {
        Self { directory: app.directory().to_owned(), config: app.config().map(PathBuf::from) }
    }

    fn app(&self) -> App {
        app_in(self.directory.clone(), self.config.clone())
    }
}

fn app_in(directory: PathBuf, config: Option<PathBuf>) -> App {
    let global = Global { directory: Some(directory), config, quiet: true, no_input: true, color: Color::Never, ..Global::default() };
    App::new(global, false)
}

impl crate::daemon::Desk for Desk {
    fn request(&self, order: &Order, store: &dyn Store) -> Result<Request> {
        let app = app_in(order.directory.clone(), order.config.clone());
        let plan = order.plan.as_deref().map(|plan| find_plan(store, plan)).transpose()?;
        let wanted = Wanted {
            name: order.runbook.clone(),
            system: order.system.clone(),
            timeout: order.timeout,
            when_locked: order.when_locked,
            plan,
        };
        let given: BTreeMap<String, Given> = order.params.iter().map(|(name, value)| (name.clone(), Given::of(value.clone()))).collect();
        let read = || -> Result<Request, Problems> {
            let script = passed(app.script(&order.runbook)?)?;
            let asked = asked_of(&wanted, script, given, order.secrets.clone(), &app)?;
            let origin = Origin { trigger: order.trigger, account: order.account.clone() };
            // Nobody can type a name here; what needs that needs a plan.
            Asked { origin, ..asked }.for_run(&app, &app.state()?, store, true)
        };
        Ok(Request { by: order.by.clone(), ..read()? })
    }

    fn again(&self, run: &Run, events: &[Event], place: &Place, store: &dyn Store) -> Result<Request> {
        let app = app_in(place.directory.clone(), place.config.clone());
        let read = || -> Result<Request, Problems> {
            let script = recorded_script(store, run)?;
            let prepared = prepared(run, events, &app)?;
            let secret_params = secrets_again(&[], &script.header, &prepared.params, &app)?;
            let plan = plan_of(run, prepared.plan.as_deref(), store)?;
            let origin = Origin { trigger: run.trigger, account: place.account.clone() };
            let asked = Asked { plan, ..asked_again(run, origin, script, prepared, secret_params) };
            asked.for_resume(run, &app, &app.state()?, store)
        };
        Ok(Request { by: "daemon".to_owned(), ..read()? })
    }

    fn below(&self, place: &Place, store: Arc<dyn Store>) -> Result<Box<dyn run::Dispatch>> {
        let app = app_in(place.directory.clone(), place.config.clone());
        let state = app.state()?;
        Ok(Box::new(Below { app, state, store }))
    }

    fn addresses(&self) -> Result<Addresses> {
        let app = self.app();
        Ok(outbox::addresses(&app, &app.state()?)?)
    }

    fn doors(&self) -> Result<Doors> {
        let app = self.app();
        let (project, state) = (app.project()?, app.state()?);
        let wrong = |what: String| Error::new(Kind::Config, format!("`daemon.listen`: {what}"));
        let secret = |name: &str| secret(name, &app, &state).map(Secret::new);
        let settings = &project.settings.daemon;
        let address =
            |text: &String| text.parse::<SocketAddr>().map_err(|_| wrong(format!("`{text}` is no address, expected `127.0.0.1:9321`")));
        let listen = settings.listen.as_ref().map(address).transpose()?;
        let token = settings.token.as_deref().map(secret).transpose()?;
        if let Some(listen) = listen.filter(|listen| token.is_none() && !listen.ip().is_loopback()) {
            return Err(wrong(format!("`{listen}` can be reached from elsewhere")).hint("set `daemon.token` to the name of a secret"));
        }
        let started = |name: &String, runbook: &String, hook: &config::Hook| Order {
            directory: self.directory.clone(),
            config: self.config.clone(),
            runbook: runbook.clone(),
            system: hook.system.clone(),
            params: hook.params.clone(),
            secrets: BTreeMap::new(),
            timeout: None,
            when_locked: None,
            plan: None,
            trigger: Trigger::Hook,
            by: format!("hook {name}"),
            account: app.origin().account,
        };
        let hook = |(name, hook): (&String, &config::Hook)| {
            let does = match (&hook.runbook, hook.alerts) {
                (Some(runbook), None) => Deed::Run(Box::new(started(name, runbook, hook))),
                (None, Some(_)) if hook.params.is_empty() => {
                    Deed::Alerts(hook.system.clone().unwrap_or_else(|| project.settings.default_system.clone()))
                }
                _ => {
                    let what = format!("`hooks.{name}` needs either a `runbook` to start, or `alerts`, which have no `params`");
                    return Err(Error::new(Kind::Config, what));
                }
            };
            Ok((name.clone(), Hook { secret: secret(&hook.secret), does }))
        };
        let hooks = project.settings.hooks.iter().map(hook).collect::<Result<_>>()?;
        let heartbeat = settings.heartbeat.url.clone().map(|url| (url, settings.heartbeat.every));
        Ok(Doors { listen, token, hooks, heartbeat })
    }

    fn timetable(&self) -> Result<Timetable> {
        let app = self.app();
        let Live { schedules, systems, broken } = Schedules::live(&app)?;
        let problems = schedules.problems.clone();
        let place = Place { directory: self.directory.clone(), config: self.config.clone(), account: app.origin().account };
        Ok(Timetable { place, entries: schedules.entries(), systems, broken, problems })
    }

    fn outlook(&self) -> Result<Outlook> {
        let app = self.app();
        let (project, state) = (app.project()?, app.state()?);
        let place = Place { directory: self.directory.clone(), config: self.config.clone(), account: app.origin().account };
        let (look, samples) = (project.settings.daemon.look, project.settings.retention.samples);
        let mut outlook = Outlook { place, look, samples, ..Outlook::default() };
        let systems = project.systems(&app.environment);
        for name in project.settings.daemon.systems.clone().unwrap_or_else(|| systems.own()) {
            // What is wrong with its file is said with the schedules.
            let Ok(loaded) = systems.load(&name) else {
                outlook.broken.push(name);
                continue;
            };
            let permissions = match app.permissions_for(&looks(), &loaded.system, false) {
                Ok(permissions) => permissions,
                Err(problems) => {
                    outlook.problems.extend(problems.errors);
                    continue;
                }
            };
            let (secrets, problems) = secrets_to_look(&loaded.system, &app, &state);
            outlook.problems.extend(problems);
            outlook.systems.push(Arc::new(Watched { system: loaded.system, permissions, secrets }));
        }
        Ok(outlook)
    }

    fn settings(&self) -> Result<Settings> {
        let app = self.app();
        let settings = &app.project()?.settings;
        Ok(Settings { places: settings.limits.runs, grace: settings.daemon.grace })
    }
}

/// What a watch asks of a system: what its file names, and nothing that changes anything.
fn looks() -> BTreeMap<String, Value> {
    let entry = |section: &str, entries: &[&str]| (section.to_owned(), Value::from(entries.to_vec()));
    BTreeMap::from([
        entry("sys", &["*"]),
        entry("docker", &["inspect:*", "logs:${metrics.*}"]),
        entry("systemd", &["status:*", "logs:${metrics.*}"]),
        entry("http", &["GET ${endpoints.*}", "GET ${metrics.*}"]),
        entry("sql", &["read:${databases.*}"]),
        entry("redis", &["read:${caches.*}"]),
        entry("fs", &["read:${metrics.*}"]),
    ])
}

/// The secrets that looking at a system takes, and what is wrong with others: what needs one of those is unknown.
fn secrets_to_look(system: &System, app: &App, state: &StateDir) -> (Secrets, Vec<Error>) {
    let text = serde_json::to_string(&(&system.databases, &system.caches, &system.endpoints)).unwrap_or_default();
    let names: BTreeSet<&str> = names_in(&text).collect();
    let (mut values, mut problems) = (BTreeMap::new(), Vec::new());
    for name in names {
        match secret(name, app, state) {
            Ok(value) => drop(values.insert(name.to_owned(), value)),
            Err(error) => problems.push(error.context(format_args!("system `{}`", system.name))),
        }
    }
    (Secrets::new(values), problems)
}

/// The value of a secret.
fn secret(name: &str, app: &App, state: &StateDir) -> Result<String> {
    let value = secret_value(app.project()?, state, &app.environment, name)?.filter(|value| !value.is_empty());
    value.ok_or_else(|| Error::new(Kind::Config, format!("there is no secret `{name}`")).hint(format!("runbook secret set {name}")))
}

/// The project of a run of the daemon, for the runs it starts.
struct Below {
    app: App,
    state: StateDir,
    store: Arc<dyn Store>,
}

impl Below {
    fn office(&self) -> Office<'_> {
        Office { app: &self.app, state: &self.state, store: &*self.store, yes: false }
    }
}

impl run::Dispatch for Below {
    fn order(&self, order: &RunOrder, above: &Request, planned: Option<&Plan>) -> Result<Ordered> {
        let _helpers = helpers();
        self.office().order(order, above, planned)
    }

    fn plan(&self, order: &RunOrder, above: &Request) -> Result<Request> {
        let _helpers = helpers();
        self.office().plan(order, above)
    }

    fn again(&self, order: &RunOrder, run: &Run, events: &[Event], above: &Request, planned: Option<&Plan>) -> Result<Ordered> {
        let _helpers = helpers();
        self.office().again(order, run, events, above, planned)
    }

    fn worker(&self) -> Result<Worker> {
        self.office().worker()
    }
}
