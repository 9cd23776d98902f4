//! Sub-runs: what a run that starts another runbook gets of the project.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::app::App;
use crate::cli::params::secret_of;
use crate::cli::resume::{asked_again, prepared, recorded_script};
use crate::cli::run::{Asked, plain_params, this_binary};
use crate::cli::{clearance, commit};
use crate::config::Problems;
use crate::error::{Error, Kind, Result};
use crate::host::RunOrder;
use crate::model::{Diagnostic, Event, Header, ParamType, Plan, Run};
use crate::run::{Dispatch, Faults, Ordered, Request, Worker};
use crate::script::{Given, Script, check, check_params};
use crate::store::{StateDir, Store};

/// The project, the state and the person of a command.
pub(super) struct Office<'a> {
    pub(super) app: &'a App,
    pub(super) state: &'a StateDir,
    pub(super) store: &'a dyn Store,
    /// Whether somebody who could have been asked said yes to what is dangerous before.
    pub(super) yes: bool,
}

impl Dispatch for Office<'_> {
    fn order(&self, order: &RunOrder, above: &Request, planned: Option<&Plan>) -> Result<Ordered> {
        let request = self.asked(order, above)?.for_sub_run(self.app, self.state, self.store)?;
        let approvals = clearance::of_sub_run(&request, planned, self.store, self.yes, self.app)?;
        Ok(Ordered { request, approvals })
    }

    fn plan(&self, order: &RunOrder, above: &Request) -> Result<Request> {
        Ok(self.asked(order, above)?.for_plan(self.app, self.state, self.store)?)
    }

    fn again(&self, order: &RunOrder, run: &Run, events: &[Event], above: &Request, planned: Option<&Plan>) -> Result<Ordered> {
        let script = recorded_script(self.store, run)?;
        let mut prepared = prepared(run, events, self.app)?;
        let (handed, secret_params) = handed(&script.header, order, above);
        prepared.params.extend(handed);
        let asked = asked_again(run, above.origin.clone(), script, prepared, secret_params);
        let request = asked.for_sub_run(self.app, self.state, self.store)?;
        let approvals = clearance::of_sub_run_again(&request, planned, self.store, self.app)?;
        Ok(Ordered { request, approvals })
    }

    fn worker(&self) -> Result<Worker> {
        Worker::start(&this_binary()?)
    }
}

impl Office<'_> {
    fn asked(&self, order: &RunOrder, above: &Request) -> Result<Asked, Problems> {
        let app = self.app;
        let unknown = |error: Error| Error { kind: Kind::NotFound, ..error }.target(&order.runbook);
        if order.runbook.ends_with(".rhai") {
            return Err(unknown(Error::new(Kind::NotFound, format!("`{}` is a file, not the name of a runbook", order.runbook))).into());
        }
        let commit = commit::of(app.library()?.find(&order.runbook).map_err(unknown)?.file);
        let script = app.script(&order.runbook)?;
        must_pass_the_check(&script)?;
        let system = match &order.system {
            Some(other) if *other != above.system.name => app.system(Some(other))?,
            _ => above.system.clone(),
        };
        let (handed, secret_params) = handed(&script.header, order, above);
        let params = order.params.clone().into_iter().chain(handed);
        let given = params.map(|(name, value)| (name, Given::Value(value))).collect();
        let wrong = |error: Error| Error { kind: Kind::Invalid, ..error }.target(&order.runbook);
        let (shown, _) = check_params(&script.header, &given).map_err(wrong)?;
        Ok(Asked {
            origin: above.origin.clone(),
            params: plain_params(&script, &given, &shown),
            commit: commit.and_then(|asked| asked.join().ok().flatten()),
            timeout: order.timeout,
            when_locked: None,
            plan: None,
            faults: Faults::default(),
            script,
            system,
            shown,
            secret_params,
        })
    }
}

/// What the check calls an error would fail in the middle of the run.
fn must_pass_the_check(script: &Script) -> Result<()> {
    let Some(finding) = check(script).into_iter().find(Diagnostic::is_error) else { return Ok(()) };
    let (name, line) = (&script.name, finding.at.line);
    Err(Error::new(Kind::Invalid, format!("`{name}` does not pass the check: {}, in line {line}", finding.message))
        .code(&finding.code)
        .target(name)
        .hint(format!("runbook check {name}")))
}

/// The parameters that are secrets of the run above, by the names they have below, and their values by these names:
/// below nobody knows, and nobody need be granted, what they are called above.
fn handed(header: &Header, order: &RunOrder, above: &Request) -> (BTreeMap<String, Value>, BTreeMap<String, String>) {
    let is_secret = |name: &String| header.params.get(name).is_some_and(|param| param.kind == ParamType::Secret);
    let value_of = |value: &Value| above.secrets.value(value.as_str()?).ok().map(str::to_owned);
    let secrets = order.params.iter().filter(|(name, _)| is_secret(name)).filter_map(|(name, value)| Some((name, value_of(value)?)));
    secrets.map(|(name, value)| ((name.clone(), secret_of(name).into()), (secret_of(name), value))).unzip()
}
