//! What people are told of runs that nobody watched.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::error::Result;
use crate::model::{
    Check, Incident, Labels, Level, Message, Milestone, Parcel, Repair, Run, RunState, Severity, Source, System, Tick, Trigger, Urgency,
};
use crate::monitor::duty::{Duty, needs};
use crate::monitor::incident::{Happened, Report, fingerprint};
use crate::monitor::repairs::REPAIRS_MATTER;
use crate::run::outbox::{self, Addresses};
use crate::store::{Store, Which};

use super::now;

/// Tells whoever the routes of the system name for it, that a run needs a person. The same is said once.
///
/// # Errors
///
/// `store`.
pub(super) fn needs_a_person(store: &dyn Store, addresses: &Addresses, system: &System, run: &Run) -> Result<()> {
    let why = match (&run.waits_for, &run.error) {
        (Some(asked), _) => asked.question.clone(),
        (None, Some(error)) => error.message.clone(),
        (None, None) => run.status.name().to_owned(),
    };
    let next = match (&run.waits_for, run.status) {
        (Some(_), _) => format!("runbook approve {} --reason \"…\"", run.run),
        (None, RunState::NeedsAttention) => format!("runbook report {}", run.run),
        (None, _) => format!("runbook logs {} --failed", run.run),
    };
    let level = if run.waits_for.is_some() { Level::Warning } else { Level::Critical };
    let subject = format!("{} #{}: {}", run.runbook, run.run, run.status.name());
    let mut facts = vec![("run".to_owned(), format!("#{}", run.run)), ("runbook".to_owned(), run.runbook.clone())];
    facts.extend(run.system.clone().map(|system| ("system".to_owned(), system)));
    let dedupe = Some(format!("run {} {} {}", run.id, run.status.name(), run.attempt));
    let language = system.language.clone();
    let message =
        Message { subject, text: why, level: Urgency::Level(level), facts, next: Some(next), language, dedupe, ..Message::default() };
    post(store, addresses, system, level, &message, now())
}

/// How bad it is that something fails which runs by itself, and which nobody sees fail.
const UNSEEN: Severity = Severity::Sev2;

/// What people are told of what runs by itself: its failures are incidents, and told as those are.
#[derive(Clone, Copy)]
pub(super) struct Notice<'n> {
    pub(super) store: &'n dyn Store,
    /// The directory of the project, which says whose contacts are meant.
    pub(super) project: &'n str,
    pub(super) system: &'n System,
}

impl Notice<'_> {
    /// A run that nobody watched has ended.
    ///
    /// # Errors
    ///
    /// `store`.
    pub(super) fn ended(&self, run: &Run) -> Result<()> {
        match run.status {
            RunState::Failed => self.failed(run, ("failed", "运行失败")),
            RunState::TimedOut => self.failed(run, ("took too long", "运行超时")),
            RunState::Succeeded | RunState::Warning => self.is_well(run),
            _ => Ok(()),
        }
    }

    /// What was due could not be started.
    ///
    /// # Errors
    ///
    /// `store`.
    pub(super) fn refused(&self, tick: &Tick, why: &str) -> Result<()> {
        let text = format!("{why}     runbook schedule why {} {}", tick.runbook, tick.due);
        let labels = self.labels(&tick.params);
        self.report(&tick.runbook, labels, ("could not start", "未能启动"), text, None, None)
    }

    fn failed(&self, run: &Run, how: (&str, &str)) -> Result<()> {
        let why = why(run);
        if let Some(repair) = self.repair(run)? {
            // Its incident says how it goes on; one more would say the same.
            let text = format!("{} {}: {why}", run.runbook, how.0);
            let moment = Milestone { at: now(), what: "repair".to_owned(), by: repair.policy, text, run: Some(run.run) };
            return self.duty().happened(Which::Number(repair.incident), &Happened::Noted(moment), now()).map(drop);
        }
        let because = self.reason(run)?;
        self.report(&run.runbook, self.labels(&run.params), how, why, Some(run.run), because)
    }

    fn is_well(&self, run: &Run) -> Result<()> {
        let which = fingerprint(&self.system.name, &Source::Run(run.runbook.clone()), &self.labels(&run.params));
        self.duty().happened(Which::Fingerprint(&which), &Happened::Recovered { value: None }, now()).map(drop)
    }

    fn report(&self, runbook: &str, labels: Labels, how: (&str, &str), text: String, run: Option<u64>, because: Option<u64>) -> Result<()> {
        let title = if self.system.language == "zh" { format!("{runbook} {}", how.1) } else { format!("{runbook} {}", how.0) };
        let report = Report {
            system: self.system.name.clone(),
            source: Source::Run(runbook.to_owned()),
            labels,
            title,
            severity: UNSEEN,
            // What fails for a service does not say that the service is down.
            service: None,
            value: None,
            text,
            because,
            run,
        };
        self.duty().report(&report, now()).map(drop)
    }

    fn duty(&self) -> Duty<'_> {
        Duty { store: self.store, system: self.system, project: self.project }
    }

    /// What tells failures of one runbook apart: the service it was for.
    fn labels(&self, params: &BTreeMap<String, Value>) -> Labels {
        let service = params.get("service").and_then(Value::as_str);
        let known = service.filter(|service| self.system.services.each.contains_key(*service));
        known.map(|service| ("service".to_owned(), service.to_owned())).into_iter().collect()
    }

    /// The repair that a run was made for.
    fn repair(&self, run: &Run) -> Result<Option<Repair>> {
        if run.trigger != Trigger::Rule {
            return Ok(None);
        }
        let repairs = self.store.repairs(&self.system.name, now() - REPAIRS_MATTER)?;
        Ok(repairs.into_iter().find(|repair| repair.run == Some(run.run)))
    }

    /// The incident that explains all of a failure: what failed names services, and each of them is known to be ill,
    /// or needs one that is.
    fn reason(&self, run: &Run) -> Result<Option<u64>> {
        let open = self.duty().open()?;
        let ill = |service: &str| {
            let needed = needs(self.system, service);
            let is_it = |incident: &&Incident| {
                let of = incident.service.as_deref();
                incident.calm.is_none() && of.is_some_and(|of| of == service || needed.contains(of))
            };
            open.iter().find(is_it).map(|incident| incident.because.unwrap_or(incident.number))
        };
        let mut told: Vec<String> = failed_checks(run).map(|check| check.name.clone()).collect();
        if let Some(error) = &run.error {
            let target = error.target.clone().unwrap_or_default();
            told.push(if target.is_empty() { self.labels(&run.params).remove("service").unwrap_or_default() } else { target });
        }
        let services = || self.system.services.each.keys();
        let explained = told.iter().map(|text| {
            let is_named = |service: &&String| {
                text.split(|letter: char| !(letter.is_alphanumeric() || "-_".contains(letter))).any(|word| word == *service)
            };
            services().filter(is_named).find_map(|service| ill(service))
        });
        Ok(explained.collect::<Option<Vec<u64>>>().and_then(|reasons| reasons.first().copied()))
    }
}

/// The checks that let a run fail.
fn failed_checks(run: &Run) -> impl Iterator<Item = &Check> {
    run.checks.iter().filter(|check| matches!(check.level, Level::Critical | Level::Unknown))
}

/// Why a run failed: its error, or what its checks found.
fn why(run: &Run) -> String {
    if let Some(error) = &run.error {
        return error.message.clone();
    }
    let lines: Vec<String> = failed_checks(run)
        .map(|check| format!("{}: {}", check.name, if check.detail.is_empty() { check.level.name() } else { &check.detail }))
        .collect();
    if lines.is_empty() { run.status.name().to_owned() } else { lines.join("\n") }
}

/// Puts a message into the outbox for each contact of a route.
fn post(store: &dyn Store, addresses: &Addresses, system: &System, level: Level, message: &Message, at: Timestamp) -> Result<()> {
    for contact in system.routes.get(level.name()).into_iter().flatten() {
        let mut parcel = Parcel::new(uuid::Uuid::now_v7(), contact, &system.name, message.clone(), at);
        parcel.project.clone_from(&addresses.project);
        outbox::post(store, &parcel)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use crate::model::{IncidentState, RepairState, RunId, Stamp};
    use crate::monitor::testing;
    use crate::store::{IncidentFilter, Incidents, Memory};

    fn shop() -> System {
        System { routes: [("critical".to_owned(), vec!["chat".to_owned()])].into(), ..testing::shop() }
    }

    fn run(number: u64, status: RunState, trigger: Trigger, bad: &[&str]) -> Run {
        let check = |name: &&str| serde_json::json!({ "name": name, "level": "critical", "detail": "it is down" });
        let json = serde_json::json!({
            "run": number, "id": RunId::new(), "runbook": "check", "version": "1", "commit": null, "system": "shop",
            "params": {}, "status": status, "exit_code": 1, "trigger": trigger, "by": "schedule", "started": now(), "ended": now(),
            "duration_ms": 5, "steps": [], "checks": bad.iter().map(check).collect::<Vec<_>>(), "outputs": {}, "error": null,
        });
        serde_json::from_value(json).unwrap()
    }

    fn subjects(store: &Memory) -> Vec<String> {
        store.queued().unwrap().into_iter().map(|parcel| parcel.message.subject).collect()
    }

    fn broken(service: &str) -> Report {
        Report {
            system: "shop".to_owned(),
            source: Source::Rule("ServiceDown".to_owned()),
            labels: Labels::from([("service".to_owned(), service.to_owned())]),
            title: format!("{service} is down"),
            severity: Severity::Sev1,
            service: Some(service.to_owned()),
            value: None,
            text: String::new(),
            because: None,
            run: None,
        }
    }

    #[test]
    fn what_a_known_incident_explains_is_not_told_twice_and_what_it_does_not_is() {
        let (store, system) = (Memory::default(), shop());
        let notice = Notice { store: &store, project: "", system: &system };
        notice.duty().report(&broken("db"), now()).unwrap();
        notice.ended(&run(1, RunState::Failed, Trigger::Schedule, &["service api"])).unwrap();
        notice.ended(&run(2, RunState::Failed, Trigger::Schedule, &["service api", "database db"])).unwrap();
        notice.duty().pass(now()).unwrap();
        assert_eq!(subjects(&store), ["[sev1] Shop: db is down"], "an API without its database is no news");
        notice.ended(&run(3, RunState::Failed, Trigger::Schedule, &["service api", "service web"])).unwrap();
        assert_eq!(subjects(&store), ["[sev1] Shop: db is down", "[sev2] Shop: check failed"]);
        notice.ended(&run(4, RunState::Failed, Trigger::Schedule, &["service web"])).unwrap();
        notice.ended(&run(5, RunState::Succeeded, Trigger::Schedule, &[])).unwrap();
        assert_eq!(subjects(&store)[2..], ["[sev2 recovered] Shop: check failed"]);
        let found = store.incidents(&IncidentFilter::default()).unwrap();
        assert_eq!((found.len(), found[0].count, found[0].state), (2, 4, IncidentState::Resolved));
        assert!(matches!(&found[0].resolved, Some(Stamp { by, .. }) if by == "check"));
    }

    #[test]
    fn a_repair_that_fails_is_told_by_the_incident_it_was_made_for() {
        let (store, system) = (Memory::default(), shop());
        let notice = Notice { store: &store, project: "", system: &system };
        notice.duty().report(&broken("api"), now()).unwrap();
        let repair = Repair {
            number: 0,
            system: "shop".to_owned(),
            policy: "service".to_owned(),
            target: "api".to_owned(),
            incident: 1,
            at: now(),
            run: Some(7),
            ended: None,
            state: RepairState::Trying,
        };
        store.reserve_repair("shop", now() - REPAIRS_MATTER, &mut |_| Some(repair.clone())).unwrap();
        let failed = Run { error: Some(Error::new(Kind::Timeout, "it does not come up")), ..run(7, RunState::Failed, Trigger::Rule, &[]) };
        notice.ended(&failed).unwrap();
        let found = store.incidents(&IncidentFilter::default()).unwrap();
        let last = found[0].timeline.last().unwrap();
        assert_eq!((found.len(), last.run, last.text.as_str()), (1, Some(7), "check failed: it does not come up"));
        // The run of a hook or of a rule that is no repair is told as all are.
        notice.ended(&run(8, RunState::TimedOut, Trigger::Hook, &[])).unwrap();
        assert_eq!(subjects(&store), ["[sev1] Shop: api is down", "[sev2] Shop: check took too long"]);
    }
}
