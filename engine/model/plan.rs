//! A plan: what a run would change, told before it does, and what people said to it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::model::{Effect, Level, RunId};
use crate::words::hex;

/// How much of the hash people type.
const SHORT: usize = 8;

/// What a runbook would do with these parameters, for this system, as things are. Never a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The beginning of its hash.
    pub id: String,
    /// SHA-256 over all it says, in hex.
    pub hash: String,
    /// The runbook.
    pub runbook: String,
    /// The hash of each text it is made of, by name.
    pub texts: BTreeMap<String, String>,
    /// The parameters, defaults filled in, secrets masked.
    pub params: BTreeMap<String, Value>,
    /// The system it is for.
    pub system: String,
    /// The hash of what the system's file says.
    pub system_hash: String,
    /// What tells its targets from others like them: `host`, `docker`, `sql:NAME` → identity.
    pub fingerprints: BTreeMap<String, String>,
    /// Its steps and checks, in the order they began.
    pub steps: Vec<PlannedStep>,
    /// Why nothing is known of what comes after the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Whether the runbook says that it destroys or replaces data.
    pub destructive: bool,
    /// How many people must approve it, by the header of the runbook.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub approvals: u32,
    /// Who asked for it.
    pub by: String,
    /// When it was made.
    pub made: Timestamp,
    /// Until when it may be run.
    pub until: Timestamp,
    /// The run that did what it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

/// A step or a check of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Its key, as a run journals it.
    pub key: String,
    /// The name as written.
    pub name: String,
    /// The answer of a check; nothing for a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// What it would change, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<PlannedEffect>,
    /// Why the rest of it can not be predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// The plan of the run it is, when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Box<Plan>>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An effect that was told and not had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedEffect {
    /// The branch of the step it belongs to; the key of the step outside of `parallel`.
    pub branch: String,
    /// What it is.
    #[serde(flatten)]
    pub effect: Effect,
    /// Whether its words hold as they are. Otherwise an earlier part of the plan decides over them, and
    /// only function and target are known.
    pub exact: bool,
}

/// What sort of change an effect is, for the one who reads a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Something comes to be.
    Add,
    /// Something becomes something else.
    Change,
    /// Something goes.
    Delete,
    /// It is as it should be already.
    Same,
}

impl PlannedEffect {
    /// Whether this is the effect that was told.
    pub fn is(&self, effect: &Effect) -> bool {
        let same_target = self.effect.function == effect.function && self.effect.target == effect.target;
        same_target && (!self.exact || self.effect.summary == effect.summary && self.effect.diff == effect.diff)
    }

    /// What sort of change it is.
    pub fn change(&self) -> Change {
        let Effect { function, summary, .. } = &self.effect;
        let first = |words: &[&str]| {
            let sql = summary.split_once(": ").map_or("", |(_, sql)| sql.trim_start()).to_ascii_uppercase();
            words.iter().any(|word| sql.starts_with(word))
        };
        match function.as_str() {
            _ if self.effect.idle => Change::Same,
            "fs::mkdir" | "fs::copy" | "notify::send" | "notify::test" | "http::post" => Change::Add,
            "fs::write" if summary.starts_with("create ") => Change::Add,
            "fs::remove" | "redis::del" | "store::remove" | "http::delete" => Change::Delete,
            "sql::execute" | "sql::transaction" if first(&["DELETE", "DROP", "TRUNCATE"]) => Change::Delete,
            "sql::execute" | "sql::transaction" if first(&["INSERT", "CREATE"]) => Change::Add,
            _ => Change::Change,
        }
    }
}

impl Plan {
    /// Seals it: its hash and its id are those of what it says now.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.hash = hash_of(&self.content());
        self.id = self.hash[..SHORT].to_owned();
        self
    }

    /// Whether its hash is that of what it says.
    pub fn is_sealed(&self) -> bool {
        self.hash == hash_of(&self.content())
    }

    /// Everything that decides what happens, and whose plan it is. The branches of a `parallel` are in the order of their
    /// keys, whichever was faster.
    fn content(&self) -> Value {
        let mut effects: BTreeMap<&str, Vec<&PlannedEffect>> = BTreeMap::new();
        for effect in self.steps.iter().flat_map(|step| &step.effects) {
            effects.entry(&effect.branch).or_default().push(effect);
        }
        let unknown: BTreeMap<&str, &str> =
            self.steps.iter().filter_map(|step| Some((step.key.as_str(), step.unknown.as_deref()?))).collect();
        let keys: std::collections::BTreeSet<&str> = self.steps.iter().map(|step| step.key.as_str()).collect();
        let mut content = json!({
            "runbook": self.runbook, "texts": self.texts, "params": self.params,
            "system": [self.system, self.system_hash], "fingerprints": self.fingerprints,
            "by": self.by, "made": self.made, "until": self.until,
            "steps": keys, "effects": effects, "unknown": unknown, "rest": self.unknown,
        });
        let runs: BTreeMap<&str, Value> = self.runs().map(|(key, plan)| (key, plan.content())).collect();
        if !runs.is_empty() {
            content["runs"] = json!(runs);
        }
        content
    }

    /// The plans of its sub-runs, by the keys of their steps.
    pub fn runs(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.steps.iter().filter_map(|step| Some((step.key.as_str(), &**step.run.as_ref()?)))
    }

    /// It and the plans in it.
    pub fn all(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        Box::new(std::iter::once(self).chain(self.runs().flat_map(|(_, plan)| plan.all())))
    }

    /// The plan of the sub-run that is the step of this key.
    pub fn run_of(&self, key: &str) -> Option<&Self> {
        self.runs().find_map(|(known, plan)| (known == key).then_some(plan))
    }

    /// Whether it, or a run that it starts, destroys or replaces data.
    pub fn is_destructive(&self) -> bool {
        self.destructive || self.runs().any(|(_, plan)| plan.is_destructive())
    }

    /// How many people must approve it, by the headers of all runbooks in it.
    pub fn most_approvals(&self) -> u32 {
        self.runs().map(|(_, plan)| plan.most_approvals()).fold(self.approvals, u32::max)
    }

    /// Its effects and those of its sub-runs, in order.
    pub fn effects(&self) -> Box<dyn Iterator<Item = &PlannedEffect> + '_> {
        Box::new(self.steps.iter().flat_map(|step| step.effects.iter().chain(step.run.iter().flat_map(|plan| plan.effects()))))
    }

    /// Whether a part of it, or of a sub-run, has no end that is known.
    pub fn is_open(&self) -> bool {
        self.unknown.is_some() || self.steps.iter().any(|step| step.unknown.is_some() || step.run.iter().any(|plan| plan.is_open()))
    }

    /// How many effects of this sort it has.
    pub fn count(&self, change: Change) -> usize {
        self.effects().filter(|effect| effect.change() == change).count()
    }

    /// How many of its parts can not be predicted.
    pub fn unknowns(&self) -> usize {
        let inexact = self.steps.iter().flat_map(|step| &step.effects).filter(|effect| !effect.exact).count();
        let own = inexact + self.steps.iter().filter(|step| step.unknown.is_some()).count() + usize::from(self.unknown.is_some());
        own + self.runs().map(|(_, plan)| plan.unknowns()).sum::<usize>()
    }

    /// Whether running it would, or could, change something.
    pub fn changes(&self) -> bool {
        self.effects().any(|effect| effect.change() != Change::Same) || self.unknowns() > 0
    }
}

/// SHA-256 of plain data whose maps are sorted, in hex.
pub fn hash_of(value: &impl Serialize) -> String {
    // Through a value, so that maps are sorted whatever the type says.
    let text = serde_json::to_value(value).map(|value| value.to_string()).unwrap_or_default();
    hex(&Sha256::digest(text.as_bytes()))
}

/// What a person said to a plan, or to the question of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The hash of what was approved or denied.
    pub of: String,
    /// Who.
    pub by: String,
    /// Whether it may happen.
    pub approved: bool,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// Until when it counts.
    pub until: Timestamp,
}

/// A question a run waits with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The step that asks.
    pub key: String,
    /// What is asked.
    pub question: String,
    /// The hash over the run, the question and what the run did until now.
    pub hash: String,
    /// Who asked for the run, as approvals name people.
    pub requester: String,
    /// Who may answer; everyone when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// How many have to say yes.
    pub quorum: u32,
    /// Until when there must be an answer.
    pub until: Timestamp,
    /// Why it is asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Enough people said yes.
    Approved,
    /// Someone said no.
    Denied,
    /// Not enough people said yes yet.
    Open,
}

/// What approvals add up to. One `no` decides; a person counts once, with the last word; whoever asked
/// counts only where one `yes` is enough.
pub fn verdict(approvals: &[Approval], requester: &str, approvers: &[String], quorum: u32, now: Timestamp) -> Verdict {
    let mut last: BTreeMap<&str, &Approval> = BTreeMap::new();
    let may = |who: &str| (quorum <= 1 || who != requester) && (approvers.is_empty() || approvers.iter().any(|name| name == who));
    for approval in approvals.iter().filter(|approval| approval.until > now && may(&approval.by)) {
        last.insert(&approval.by, approval);
    }
    if last.values().any(|approval| !approval.approved) {
        return Verdict::Denied;
    }
    if last.len() >= quorum.max(1) as usize { Verdict::Approved } else { Verdict::Open }
}

/// The permissions of a runbook that a person approved last, for a system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The runbook.
    pub runbook: String,
    /// The system.
    pub system: String,
    /// What it may do, each as `runbook show` prints it.
    pub powers: Vec<String>,
    /// Who approved it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn said(by: &str, approved: bool) -> Approval {
        let (at, until) = (at("2026-11-21T12:00:00Z"), at("2026-11-21T13:00:00Z"));
        Approval { of: "x".to_owned(), by: by.to_owned(), approved, reason: "because".to_owned(), at, until }
    }

    #[test]
    fn the_requester_counts_only_where_one_is_enough() {
        let now = at("2026-11-21T12:30:00Z");
        let decided = |said: &[Approval], quorum| verdict(said, "maya", &[], quorum, now);
        assert_eq!(decided(&[], 1), Verdict::Open);
        assert_eq!(decided(&[said("maya", true)], 1), Verdict::Approved);
        assert_eq!(decided(&[said("maya", true), said("jo", true)], 2), Verdict::Open);
        assert_eq!(decided(&[said("jo", true), said("jo", true)], 2), Verdict::Open);
        assert_eq!(decided(&[said("jo", true), said("ann", true)], 2), Verdict::Approved);
        assert_eq!(decided(&[said("jo", true), said("ann", false)], 1), Verdict::Denied);
    }

    #[test]
    fn what_is_out_of_date_or_said_by_others_does_not_count() {
        let only = ["ann".to_owned()];
        assert_eq!(verdict(&[said("jo", true)], "maya", &only, 1, at("2026-11-21T12:30:00Z")), Verdict::Open);
        assert_eq!(verdict(&[said("jo", true)], "maya", &[], 1, at("2026-11-21T13:30:00Z")), Verdict::Open);
    }
}
