//! What the daemon does not know itself: runbooks, systems and settings, read anew for each run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cli::app::App;
use crate::cli::resume::{Prepared, prepared, recorded_script, secrets_again};
use crate::cli::run::{Asked, Order as Wanted, passed, request_of};
use crate::cli::{Color, Global, outbox};
use crate::config::Problems;
use crate::daemon::{Place, Settings};
use crate::error::{Error, Result};
use crate::model::{Event, Run};
use crate::run::daemon::Order;
use crate::run::outbox::Addresses;
use crate::run::{Faults, Request};
use crate::script::Given;
use crate::store::{Store, find_plan};

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
    App::new(Global { directory: Some(directory), config, quiet: true, no_input: true, color: Color::Never, ..Global::default() })
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
            request_of(&wanted, script, given, order.secrets.clone(), &app, &app.state()?)
        };
        let request = read()?;
        Ok(Request { trigger: order.trigger, by: order.by.clone(), account: order.account.clone(), ..request })
    }

    fn again(&self, run: &Run, events: &[Event], place: &Place, store: &dyn Store) -> Result<Request> {
        let app = app_in(place.directory.clone(), place.config.clone());
        let read = || -> Result<Request, Problems> {
            let script = recorded_script(store, run)?;
            let Prepared { system, params } = prepared(run, events, &app)?;
            let secret_params = secrets_again(&[], &script.header, &params, &app)?;
            let permissions = app.permissions(&script, &system)?;
            let asked = Asked {
                script,
                system,
                permissions,
                params,
                shown: run.params.clone(),
                secret_params,
                commit: run.commit.clone(),
                timeout: None,
                plan: store.plans()?.into_iter().find(|plan| plan.run == Some(run.id)),
                when_locked: None,
                faults: Faults::default(),
            };
            asked.request(&app, &app.state()?)
        };
        let request = read().map_err(Error::from)?;
        Ok(Request { trigger: run.trigger, by: "daemon".to_owned(), ..request })
    }

    fn addresses(&self) -> Result<Addresses> {
        let app = self.app();
        Ok(outbox::addresses(&app, &app.state()?)?)
    }

    fn settings(&self) -> Result<Settings> {
        let app = self.app();
        let settings = &app.project()?.settings;
        Ok(Settings { places: settings.limits.runs, grace: settings.daemon.grace })
    }
}
