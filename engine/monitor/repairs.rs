//! Repairs where they are kept: decided together with their count, followed to the end of their runs, proven by the rule.
//!
//! The watch of the daemon and a run that repairs count here, in one transaction with the decision: together they
//! repair nothing twice, and no crash gives one more.

use jiff::{SignedDuration, Timestamp};

use super::duty::Duty;
use super::incident::Happened;
use super::remedy::{Case, Conditions, Decision, decide, noted, proven};
use crate::error::Result;
use crate::model::system::Remediation;
use crate::model::{Milestone, Repair, RepairState, System};
use crate::store::{Filter, Store, Which};

/// Repairs that are older than this decide nothing any more.
pub const REPAIRS_MATTER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The repairs of one system.
#[derive(Clone, Copy)]
pub struct Repairs<'a> {
    /// Its incidents.
    pub duty: Duty<'a>,
}

impl Repairs<'_> {
    /// Those that still decide something, the oldest first.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn all(&self, now: Timestamp) -> Result<Vec<Repair>> {
        self.duty.store.repairs(&self.duty.system.name, since(now))
    }

    /// What a policy says to a case, without counting anything.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn decide(&self, name: &str, policy: &Remediation, case: &Case, paused: Option<&str>, now: Timestamp) -> Result<Decision> {
        Ok(decide(name, policy, case, &self.given(&self.all(now)?, paused, now)))
    }

    /// What a policy says to a case, and the repair that was written down for it, when it says something new. What
    /// is a person's from here on is handed to the next one, what would only be done is noted with the incident.
    ///
    /// `run` is the run that makes the repair, when it is known; asked again, it gets the repair that it has already.
    ///
    /// # Errors
    ///
    /// `store`; nothing was written down then, and nothing must be made.
    pub fn reserve(
        &self,
        name: &str,
        policy: &Remediation,
        case: &Case,
        run: Option<u64>,
        paused: Option<&str>,
        now: Timestamp,
    ) -> Result<(Decision, Option<Repair>)> {
        let system = self.duty.system;
        let mut decision = Decision::Skip { reason: String::new() };
        let mut own = None;
        let repair = self.duty.store.reserve_repair(&system.name, since(now), &mut |repairs| {
            own = run.and_then(|run| repairs.iter().find(|repair| is_own(repair, run, name, case.incident))).cloned();
            if let Some(own) = &own {
                decision = Decision::Act { target: own.target.clone() };
                return None;
            }
            decision = decide(name, policy, case, &self.given(repairs, paused, now));
            noted(&decision, &system.name, name, case.incident, now).map(|repair| Repair { run, ..repair })
        })?;
        let repair = repair.or(own);
        match &decision {
            Decision::Observe { target } => {
                if let Some(repair) = &repair {
                    self.note(repair, &format!("would run {} on {target}", policy.runbook), now)?;
                }
            }
            Decision::Escalate { reason, .. } => {
                let why = format!("{}: {reason}", policy.runbook);
                self.duty.happened(Which::Number(case.incident), &Happened::Handed { why }, now)?;
            }
            Decision::Act { .. } | Decision::Skip { .. } => {}
        }
        Ok((decision, repair))
    }

    /// Those that were written down and never got a run, since whoever wanted to start it was killed, have failed.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn cut_off(&self, now: Timestamp) -> Result<()> {
        for repair in self.all(now)? {
            if repair.state == RepairState::Trying && repair.run.is_none() {
                self.duty.store.conclude_repair(&Repair { ended: Some(now), state: RepairState::Failed, ..repair })?;
            }
        }
        Ok(())
    }

    /// Looks at those whose runs have ended: whether they helped.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn prove(&self, now: Timestamp) -> Result<()> {
        for mut repair in self.all(now)? {
            if repair.state != RepairState::Trying {
                continue;
            }
            if repair.ended.is_none()
                && let Some(run) = repair.run
            {
                let found = self.duty.store.list(&Filter { number: Some(run), ..Filter::default() })?.pop();
                if found.as_ref().is_some_and(|run| !run.status.is_over()) {
                    continue;
                }
                repair.ended = Some(found.and_then(|run| run.ended).unwrap_or(now));
                self.duty.store.conclude_repair(&repair)?;
            }
            let fires = self.duty.open()?.iter().any(|incident| incident.number == repair.incident && incident.calm.is_none());
            let Some(state) = proven(&repair, fires, now) else { continue };
            let what = if state == RepairState::Helped { "it helped" } else { "it did not help" };
            self.note(&repair, what, now)?;
            self.duty.store.conclude_repair(&Repair { state, ..repair })?;
        }
        Ok(())
    }

    /// Writes what became of a repair into the timeline of its incident.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn note(&self, repair: &Repair, text: &str, now: Timestamp) -> Result<()> {
        let moment = Milestone { at: now, what: "repair".to_owned(), by: repair.policy.clone(), text: text.to_owned(), run: repair.run };
        self.duty.happened(Which::Number(repair.incident), &Happened::Noted(moment), now).map(drop)
    }

    fn given<'g>(&self, repairs: &'g [Repair], paused: Option<&'g str>, now: Timestamp) -> Conditions<'g> {
        let System { services, .. } = self.duty.system;
        let in_maintenance = self.duty.system.maintenance_until(now).is_some();
        Conditions { now, paused, in_maintenance, repairs, services: services.each.len() }
    }
}

/// Why nothing happens by itself to a system.
///
/// # Errors
///
/// `store`: then nobody knows, and nothing must happen.
pub fn why_paused(store: &dyn Store, system: &str, now: Timestamp) -> Result<Option<String>> {
    let all_of_it = format!("{system}/*");
    let held = store.held_schedules()?.into_iter().filter(|state| state.schedule == "*" || state.schedule == all_of_it);
    let pause = held.filter_map(|state| state.paused).find(|pause| pause.holds(now));
    Ok(pause.map(|pause| if pause.reason.is_empty() { format!("by {}", pause.by) } else { format!("by {}: {}", pause.by, pause.reason) }))
}

fn since(now: Timestamp) -> Timestamp {
    now.checked_sub(REPAIRS_MATTER).unwrap_or(Timestamp::MIN)
}

/// Whether a repair is the one that a run is about to make.
fn is_own(repair: &Repair, run: u64, policy: &str, incident: u64) -> bool {
    let is_open = repair.state == RepairState::Trying && repair.ended.is_none();
    is_open && (repair.run, repair.policy.as_str(), repair.incident) == (Some(run), policy, incident)
}
