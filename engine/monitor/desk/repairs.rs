//! What scripts ask of repair policies, and how they count what they repair.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Desk, rules};
use crate::error::{Error, Kind, Result};
use crate::host::Firing;
use crate::host::measure::Measured;
use crate::model::system::{Remediation, RemediationMode};
use crate::model::{Incident, Repair, RepairState, Source};
use crate::monitor::own::Own;
use crate::monitor::remedy::{Case, Decision, MACHINE, cause, policies};
use crate::monitor::repairs::{Repairs, why_paused};

impl Desk<'_> {
    /// An incident of a rule as the policies see it: its rule is asked again.
    fn case(&self, incident: &Incident, now: Timestamp) -> Result<Option<Case>> {
        let Source::Rule(name) = &incident.source else { return Ok(None) };
        let Some(rule) = self.duty.system.rules.get(name) else { return Ok(None) };
        let fired = Firing { rule: name.clone(), labels: incident.labels.clone(), since: incident.opened };
        let own = Own { samples: self.samples, system: &self.duty.system.name };
        let alarm = rules::stored(own, rule, &Measured::new(), [&fired].into_iter(), now)?.1.of(&incident.labels);
        // Who does not know whether it still fires repairs nothing.
        let is_known = alarm.silent.is_none() && alarm.unknown.is_none() && incident.calm.is_none();
        Ok(Some(Case {
            incident: incident.number,
            cause: cause(self.duty.system, rule, &incident.labels),
            fires: alarm.fires.and(alarm.holds).filter(|_| is_known),
            flapping: incident.flapping,
            because: incident.because,
        }))
    }

    fn paused(&self, now: Timestamp) -> Result<Option<String>> {
        why_paused(self.duty.store, &self.duty.system.name, now)
    }

    /// What is open, and what each policy that is about it says.
    pub(super) fn repairs(&self, observe: bool, now: Timestamp) -> Result<Value> {
        let (system, paused) = (self.duty.system, self.paused(now)?);
        let repairs = Repairs { duty: self.duty };
        let mut found = Vec::new();
        for incident in self.duty.open()? {
            let about = json!({
                "incident": incident.number, "title": incident.title, "rule": incident.source.name(), "labels": incident.labels,
            });
            let mut meant = policies(system, incident.source.name()).peekable();
            let case = if meant.peek().is_some() { self.case(&incident, now)? } else { None };
            let Some(case) = case else {
                found.push(joined(nobodys(), about));
                continue;
            };
            for (name, policy) in meant {
                let policy = watching(policy, observe);
                let decision = repairs.decide(name, &policy, &case, paused.as_deref(), now)?;
                found.push(joined(told(name, &policy, &decision), about.clone()));
            }
        }
        Ok(found.into())
    }

    pub(super) fn reserve(&self, name: &str, incident: u64, observe: bool, now: Timestamp) -> Result<Value> {
        let system = self.duty.system;
        let policy = system.remediation.get(name).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("{} has no repair policy `{name}`", system.name)).suggest(name, system.remediation.keys())
        })?;
        let policy = watching(policy, observe);
        let incident = self.one(incident)?;
        let is_meant = incident.is_open() && policy.when.iter().any(|when| when == incident.source.name());
        let case = if is_meant { self.case(&incident, now)? } else { None };
        let (decision, repair) = match case {
            Some(case) => {
                let paused = self.paused(now)?;
                Repairs { duty: self.duty }.reserve(name, &policy, &case, self.number(), paused.as_deref(), now)?
            }
            None => {
                let reason = if incident.is_open() { "the policy is not about it" } else { "it is over" };
                (Decision::Skip { reason: reason.to_owned() }, None)
            }
        };
        let made = repair.filter(|_| matches!(decision, Decision::Act { .. })).map(|repair| repair.number);
        Ok(joined(told(name, &policy, &decision), json!({ "repair": made })))
    }

    pub(super) fn conclude(&self, number: u64, run: Option<u64>, text: &str, now: Timestamp) -> Result<Value> {
        let repairs = Repairs { duty: self.duty };
        let found = repairs.all(now)?.into_iter().find(|repair| repair.number == number);
        let repair = found.ok_or_else(|| Error::new(Kind::NotFound, format!("{} has no repair {number}", self.duty.system.name)))?;
        if repair.ended.is_some() {
            return Ok(Value::Null);
        }
        if repair.run != self.number() {
            return Err(Error::new(Kind::Conflict, format!("repair {number} is made by another run")));
        }
        let state = if run.is_some() { repair.state } else { RepairState::Failed };
        let repair = Repair { run: run.or(repair.run), ended: Some(now), state, ..repair };
        repairs.note(&repair, text, now)?;
        self.duty.store.conclude_repair(&repair)?;
        Ok(Value::Null)
    }

    pub(super) fn prove(&self, now: Timestamp) -> Result<Value> {
        let repairs = Repairs { duty: self.duty };
        repairs.prove(now)?;
        let shown = |repair: &Repair| {
            json!({
                "repair": repair.number, "policy": repair.policy, "target": repair.target, "incident": repair.incident, "at": repair.at,
                "run": repair.run, "ended": repair.ended, "state": repair.state,
            })
        };
        Ok(repairs.all(now)?.iter().map(shown).collect())
    }
}

/// What is said of an incident that no policy is about.
fn nobodys() -> Value {
    json!({ "policy": null, "runbook": null, "params": {}, "decision": "skip", "target": null, "reason": "no policy is about it" })
}

/// Two maps in one.
fn joined(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

/// A policy that only watches when it is told to.
fn watching(policy: &Remediation, observe: bool) -> Remediation {
    let mode = if observe { RemediationMode::Observe } else { policy.mode };
    Remediation { mode, ..policy.clone() }
}

/// A decision as scripts see it.
fn told(name: &str, policy: &Remediation, decision: &Decision) -> Value {
    let (word, target, reason) = match decision {
        Decision::Act { target } => ("act", Some(target), None),
        Decision::Observe { target } => ("observe", Some(target), None),
        Decision::Skip { reason } => ("skip", None, Some(reason)),
        Decision::Escalate { target, reason } => ("escalate", Some(target), Some(reason)),
    };
    let mut params = policy.params.clone();
    if let Some(service) = target.filter(|target| *target != MACHINE && !target.is_empty()) {
        params.insert("service".to_owned(), service.clone().into());
    }
    json!({ "policy": name, "runbook": policy.runbook, "params": params, "decision": word, "target": target, "reason": reason })
}
