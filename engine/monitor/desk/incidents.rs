//! What scripts ask of incidents, and say of them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Desk;
use crate::error::{Error, Kind, Result};
use crate::host::{Opening, OpeningSource};
use crate::model::{Deadline, Findings, Incident, IncidentState, Labels, Milestone, Source};
use crate::monitor::incident::{Clocks, Happened, Report};
use crate::monitor::{news, postmortem};
use crate::store::{Changed, IncidentFilter, Which};

impl Desk<'_> {
    pub(super) fn incidents(&self, open: bool, since: Option<Timestamp>, limit: u32, now: Timestamp) -> Result<Value> {
        let filter = IncidentFilter { system: Some(self.duty.system.name.clone()), open, since, limit };
        Ok(self.duty.store.incidents(&filter)?.iter().map(|incident| self.incident(incident, now)).collect())
    }

    pub(super) fn shown(&self, number: u64, now: Timestamp) -> Result<Value> {
        Ok(self.found(number)?.map_or(Value::Null, |incident| self.incident(&incident, now)))
    }

    pub(super) fn postmortem(&self, number: u64) -> Result<Value> {
        Ok(postmortem::report(self.duty.system, &self.one(number)?).into())
    }

    pub(super) fn pass(&self, now: Timestamp) -> Result<Value> {
        self.duty.pass(now)?;
        Ok(self.duty.open()?.iter().map(|incident| self.incident(incident, now)).collect())
    }

    pub(super) fn resolve(&self, number: u64, note: String, now: Timestamp) -> Result<Value> {
        self.happened(number, &Happened::Resolved { by: self.who(), note }, now)
    }

    pub(super) fn recovered(&self, number: u64, value: Option<f64>, now: Timestamp) -> Result<Value> {
        self.happened(number, &Happened::Recovered { value }, now)
    }

    /// The incident of this number, if it is one of the system.
    fn found(&self, number: u64) -> Result<Option<Incident>> {
        let found = self.duty.store.incident(Which::Number(number))?;
        Ok(found.filter(|incident| incident.system == self.duty.system.name))
    }

    pub(super) fn one(&self, number: u64) -> Result<Incident> {
        let missing = || Error::new(Kind::NotFound, format!("{} has no incident #{number}", self.duty.system.name));
        self.found(number)?.ok_or_else(|| missing().hint("`runbook incident list --all` lists them"))
    }

    fn happened(&self, number: u64, happened: &Happened, now: Timestamp) -> Result<Value> {
        let before = self.one(number)?;
        let after = self.duty.happened(Which::Number(number), happened, now)?;
        Ok(self.incident(&after.unwrap_or(before), now))
    }

    pub(super) fn open(&self, opening: Opening, now: Timestamp) -> Result<Value> {
        let system = self.duty.system;
        let rule = |name: String| match system.rules.contains_key(&name) {
            true => Ok(name),
            false => Err(Error::new(Kind::NotFound, format!("{} has no rule `{name}`", system.name)).suggest(&name, system.rules.keys())),
        };
        if let Some(service) = opening.service.as_ref().filter(|service| !system.services.each.contains_key(*service)) {
            let error = Error::new(Kind::NotFound, format!("{} has no service `{service}`", system.name));
            return Err(error.suggest(service, system.services.each.keys()));
        }
        let (source, is_ours) = match opening.source {
            OpeningSource::Runbook => (Source::Runbook(self.runbook.to_owned()), true),
            OpeningSource::Person => (Source::Person(self.who()), true),
            OpeningSource::Rule(name) => (Source::Rule(rule(name)?), false),
            OpeningSource::Silence(name) => (Source::Silence(rule(name)?), false),
        };
        let labels = match opening.labels {
            // Without anything that tells it from others, its title does.
            labels if labels.is_empty() && is_ours => Labels::from([("title".to_owned(), opening.title.clone())]),
            labels => labels,
        };
        let report = Report {
            system: system.name.clone(),
            source,
            labels,
            title: opening.title,
            severity: opening.severity,
            service: opening.service,
            value: opening.value,
            text: opening.text,
            because: None,
            run: self.number(),
        };
        let opened = self.duty.report(&report, now)?;
        let opened = opened.ok_or_else(|| Error::new(Kind::Bug, "an incident that was reported is not there"))?;
        Ok(self.incident(&opened, now))
    }

    pub(super) fn note(&self, number: u64, kind: String, text: String, now: Timestamp) -> Result<Value> {
        let before = self.one(number)?;
        if self.has_said(&before, &kind, &text) {
            return Ok(self.incident(&before, now));
        }
        let moment = Milestone { at: now, what: kind, by: self.runbook.to_owned(), text, run: self.number() };
        self.happened(number, &Happened::Noted(moment), now)
    }

    pub(super) fn acknowledge(&self, number: u64, text: String, now: Timestamp) -> Result<Value> {
        let before = self.one(number)?;
        let is_known = before.acknowledged.as_ref().is_some_and(|stamp| stamp.by == self.who());
        if before.state == IncidentState::Acknowledged && is_known {
            return Ok(self.incident(&before, now));
        }
        self.happened(number, &Happened::Acknowledged { by: self.who(), note: text }, now)
    }

    pub(super) fn escalate(&self, number: u64, why: String, now: Timestamp) -> Result<Value> {
        let before = self.one(number)?;
        let started = before.timeline.iter().rfind(|moment| moment.what == "escalated").filter(|moment| moment.text == why);
        if started.is_some() {
            return Ok(self.incident(&before, now));
        }
        self.happened(number, &Happened::Handed { why }, now)
    }

    pub(super) fn learn(&self, number: u64, given: &BTreeMap<String, String>, now: Timestamp) -> Result<Value> {
        let before = self.one(number)?;
        let or = |name: &str, old: &str| given.get(name).cloned().unwrap_or_else(|| old.to_owned());
        let learnt = |old: &Findings| Findings {
            impact: or("impact", &old.impact),
            cause: or("cause", &old.cause),
            repair: or("repair", &old.repair),
            prevention: or("prevention", &old.prevention),
        };
        let after = self.duty.store.change_incident(Which::Number(number), &mut |before, _| {
            let changed = before.filter(|before| learnt(&before.findings) != before.findings);
            Ok(changed.map(|before| Changed { incident: Incident { findings: learnt(&before.findings), ..before }, parcels: Vec::new() }))
        })?;
        Ok(self.incident(&after.unwrap_or(before), now))
    }

    /// Who is behind what the run says.
    fn who(&self) -> String {
        if self.by.is_empty() { self.runbook.to_owned() } else { self.by.to_owned() }
    }

    /// Whether the run said this already: before a crash, or twice.
    fn has_said(&self, incident: &Incident, what: &str, text: &str) -> bool {
        let is_ours = |moment: &&Milestone| moment.run == self.number() && moment.what == what && moment.text == text;
        incident.timeline.iter().any(|moment| is_ours(&moment))
    }

    pub(super) fn number(&self) -> Option<u64> {
        Some(self.run).filter(|run| *run > 0)
    }

    /// An incident as scripts see it: every key is there.
    fn incident(&self, incident: &Incident, now: Timestamp) -> Value {
        let clocks = Clocks(self.duty.system);
        let stamp = |stamp: &Option<crate::model::Stamp>| stamp.as_ref().map(|stamp| json!({ "at": stamp.at, "by": stamp.by }));
        let moment =
            |moment: &Milestone| json!({ "at": moment.at, "what": moment.what, "by": moment.by, "text": moment.text, "run": moment.run });
        let findings = &incident.findings;
        json!({
            "number": incident.number, "title": incident.title, "severity": incident.severity,
            "label": news::label(self.duty.system, incident.severity), "state": incident.state,
            "source": incident.source.kind(), "name": incident.source.name(), "labels": incident.labels, "service": incident.service,
            "value": incident.value, "flapping": incident.flapping, "because": incident.because, "calm": incident.calm,
            "told": incident.told, "held": incident.held.as_ref().map(|held| held.until), "opened": incident.opened, "seen": incident.seen, "count": incident.count,
            "age_s": now.duration_since(incident.opened).as_secs(),
            "acknowledged": stamp(&incident.acknowledged), "resolved": stamp(&incident.resolved), "overdue": incident.overdue,
            "clocks": {
                "respond": clocks.deadline(incident, Deadline::Respond), "escalate": clocks.deadline(incident, Deadline::Escalate),
                "resolve": clocks.deadline(incident, Deadline::Resolve),
            },
            "timeline": incident.timeline.iter().map(moment).collect::<Value>(),
            "findings": {
                "impact": findings.impact, "cause": findings.cause, "repair": findings.repair, "prevention": findings.prevention,
            },
        })
    }
}
