//! What happens with a step when an interrupted run goes on: decided here and nowhere else.
//!
//! [`decide`] is the rule, a pure function. [`Journal`] is what it is asked about: the steps of earlier
//! workers of the run, in the order in which the script must ask for them again.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use jiff::Timestamp;
use serde_json::Value;

use crate::error::{Error, Kind};
use crate::model::{Compensation, Decision, Effect, Event, EventKind, Intent, Outcome, Run, RunState, Says, StepState};

/// What an earlier worker of the run left of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// What it declared.
    pub intent: Intent,
    /// When it was started the last time.
    pub started: Timestamp,
    /// The effects it told since then.
    pub effects: Vec<Effect>,
    /// How it ended.
    pub end: End,
}

/// How a step ended, as far as is known.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// With a value.
    Value(Value),
    /// With an error; whether the script was seen to go on after it.
    Error(Error, bool),
    /// It is not known: the run ended before.
    Open,
    /// A person said that it has to run again.
    Redo,
}

/// What happens with a step that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It runs.
    Run,
    /// It asks the world, and runs when it was not done.
    Verify(Box<Past>),
    /// It has a value already.
    Value(Value),
    /// It has an error already.
    Error(Error),
    /// Nobody knows whether it was done: a person has to say.
    Doubt(Box<Past>),
    /// It is not what the record says comes now.
    Diverged(String),
}

/// The rule: what happens with a step that declares `intent`, and of which `past` is known.
pub fn decide(intent: &Intent, past: Option<Past>) -> Verdict {
    let Some(past) = past else { return Verdict::Run };
    if (&past.intent.idempotent, past.intent.verifiable, past.intent.undo) != (&intent.idempotent, intent.verifiable, intent.undo) {
        return Verdict::Diverged("it declares something else than before".to_owned());
    }
    match &past.end {
        End::Value(value) => Verdict::Value(value.clone()),
        End::Error(error, true) => Verdict::Error(error.clone()),
        End::Redo => Verdict::Run,
        End::Error(..) | End::Open if intent.verifiable => Verdict::Verify(Box::new(past)),
        // It ended, and told how. Whoever resumes the run wants it to be tried again.
        End::Error(error, _) if !is_stop(error) => Verdict::Run,
        _ if intent.idempotent.is_some() => Verdict::Run,
        // Without an effect it only read; an effect that its target remembers is not had twice.
        _ if past.effects.iter().all(Effect::may_repeat) => Verdict::Run,
        _ => Verdict::Doubt(Box::new(past)),
    }
}

/// Whether a step ended because the run had to, in the middle of whatever it did.
fn is_stop(error: &Error) -> bool {
    matches!(error.kind, Kind::Cancelled | Kind::Limit | Kind::Store | Kind::Bug)
}

/// The steps of earlier workers that were not asked for again yet, and what goes with them.
#[derive(Debug, Default)]
pub struct Journal {
    past: HashMap<String, Past>,
    /// The keys of each frame, in the order in which they were started. Compensations have no order here.
    order: HashMap<String, VecDeque<String>>,
    /// The step around each step.
    within: HashMap<String, String>,
    /// What was read outside of steps, and the answers of checks that steps followed.
    pub recalled: BTreeMap<String, Value>,
    /// The compensations that were registered: key and the step around it.
    pub undos: Vec<(String, String)>,
    /// How the run was taking back what it did, when it was.
    pub compensation: Option<Compensation>,
    /// The number of the last try of each step.
    attempts: HashMap<String, u32>,
}

impl Journal {
    /// What the events of earlier workers tell.
    pub fn read(events: &[Event]) -> Self {
        let mut journal = Self::default();
        let mut answers: Vec<(String, Value)> = Vec::new();
        // What this worker saw fail: when it starts again, its inner steps do too.
        let mut failed: HashSet<&String> = HashSet::new();
        for event in events {
            match &event.kind {
                EventKind::StepStarted(intent) => {
                    if !intent.undo {
                        journal.went_on(intent);
                        journal.recalled.extend(answers.drain(..));
                    }
                    if failed.remove(&intent.key) {
                        journal.forget_inside(&intent.key);
                    }
                    journal.start(intent, event.at);
                }
                EventKind::Effect { key, effect } => {
                    if let Some(past) = journal.past.get_mut(key) {
                        past.effects.push(effect.clone());
                    }
                }
                EventKind::StepEnded { key, outcome, .. } => {
                    if matches!(outcome, Outcome::Error(_)) {
                        failed.insert(key);
                    }
                    if let Some(past) = journal.past.get_mut(key) {
                        past.end = match outcome {
                            Outcome::Value(value) => End::Value(value.clone()),
                            Outcome::Error(error) => End::Error(error.clone(), false),
                        };
                    }
                }
                EventKind::Read { key, value } => {
                    journal.recalled.insert(key.clone(), value.clone());
                }
                EventKind::Checked(check) if !check.key.is_empty() => {
                    answers.push((check.key.clone(), serde_json::to_value(check).unwrap_or_default()));
                }
                EventKind::UndoRegistered { key, step } => journal.undos.push((key.clone(), step.clone())),
                EventKind::CompensationStarted(compensation) => journal.compensation = Some(compensation.clone()),
                EventKind::Resumed { decisions, .. } => {
                    failed.clear();
                    decisions.iter().for_each(|decision| journal.take(decision, event.at));
                }
                _ => {}
            }
        }
        journal
    }

    fn start(&mut self, intent: &Intent, at: Timestamp) {
        if !self.past.contains_key(&intent.key) {
            self.within.insert(intent.key.clone(), intent.within.clone());
            // Records without frames are older than this; their steps are found by their keys alone.
            if let Some(frame) = intent.frame.as_ref().filter(|_| !intent.undo) {
                self.order.entry(frame.clone()).or_default().push_back(intent.key.clone());
            }
        }
        self.attempts.insert(intent.key.clone(), intent.attempt);
        let past = Past { intent: intent.clone(), started: at, effects: Vec::new(), end: End::Open };
        self.past.insert(intent.key.clone(), past);
    }

    /// A step that starts shows that the script went on after those that failed before it in the same
    /// strand of work; not after those of another branch of a `parallel`.
    fn went_on(&mut self, started: &Intent) {
        let mut after: Vec<(String, String)> = Vec::new();
        let mut next = Some((started.key.clone(), started.within.clone(), started.frame.clone()));
        let mut own = HashSet::new();
        while let Some((key, within, frame)) = next.take() {
            after.push((within.clone(), frame.unwrap_or_default()));
            own.insert(key);
            next = self.past.get(&within).map(|around| {
                let intent = &around.intent;
                (intent.key.clone(), intent.within.clone(), intent.frame.clone())
            });
        }
        for (key, past) in &mut self.past {
            let End::Error(_, went_on) = &mut past.end else { continue };
            let frame = past.intent.frame.as_deref().unwrap_or_default();
            let same_strand = |at: &(String, String)| at.0 == past.intent.within && (at.1.starts_with(frame) || frame.starts_with(&at.1));
            *went_on |= !past.intent.undo && !own.contains(key) && after.iter().any(same_strand);
        }
    }

    fn take(&mut self, decision: &Decision, at: Timestamp) {
        let undo = Intent { key: decision.key.clone(), undo: true, ..Intent::default() };
        let past = self.past.entry(decision.key.clone()).or_insert(Past { intent: undo, started: at, effects: Vec::new(), end: End::Open });
        past.end = match &decision.says {
            Says::Redo => End::Redo,
            says => End::Value(says.value()),
        };
    }

    /// What was recorded before the first start of the step of this key, for a new run that begins there;
    /// nothing when it is not at the top level, or a step before it has no value.
    pub fn before(events: &[Event], step: &str) -> Option<Vec<Event>> {
        let is_it = |intent: &Intent| intent.key == step && intent.frame.as_deref() == Some("") && !intent.undo;
        let at = events.iter().position(|event| matches!(&event.kind, EventKind::StepStarted(intent) if is_it(intent)))?;
        let journal = Self::read(&events[..at]);
        let is_kept = |event: &&Event| {
            matches!(
                event.kind,
                EventKind::StepStarted(_)
                    | EventKind::StepEnded { .. }
                    | EventKind::Checked(_)
                    | EventKind::Output { .. }
                    | EventKind::Read { .. }
                    | EventKind::UndoRegistered { .. }
            )
        };
        let all_done = journal.past.values().all(|past| matches!(past.end, End::Value(_)));
        all_done.then(|| events[..at].iter().filter(is_kept).cloned().collect())
    }

    /// Whether a run has taken back all that it did: there is nothing to go on from.
    pub fn took_back_all(&self, run: &Run) -> bool {
        let is_settled = |key: &String| {
            run.steps.iter().any(|step| step.key == *key && matches!(step.status, StepState::Succeeded | StepState::Skipped))
        };
        // Interrupted after the last of them, it still has to say how it ended.
        let took_back = self.compensation.as_ref().filter(|_| run.status != RunState::Interrupted);
        took_back.is_some_and(|compensation| compensation.undo.iter().all(is_settled))
    }

    /// How often a step was started so far.
    pub fn attempts(&self, key: &str) -> u32 {
        self.attempts.get(key).copied().unwrap_or(0)
    }

    /// What is known of a step that was not asked for again yet.
    pub fn past(&self, key: &str) -> Option<&Past> {
        self.past.get(key)
    }

    /// A step is asked for: what happens with it. What it says holds once; after that it is this worker's step.
    pub fn begin(&mut self, intent: &Intent) -> Verdict {
        if !intent.undo
            && let Some(verdict) = self.out_of_order(intent)
        {
            return verdict;
        }
        let verdict = decide(intent, self.past.remove(&intent.key));
        if matches!(verdict, Verdict::Value(_) | Verdict::Error(_)) {
            self.forget_inside(&intent.key);
        }
        verdict
    }

    fn out_of_order(&mut self, intent: &Intent) -> Option<Verdict> {
        let frame = intent.frame.clone().unwrap_or_default();
        let queue = self.order.entry(frame.clone()).or_default();
        match queue.front() {
            Some(next) if *next == intent.key => {
                queue.pop_front();
                None
            }
            Some(next) => Some(Verdict::Diverged(format!("the record has step `{next}` here"))),
            None => {
                let is_branch = |key: &String, of: &String| of != key && of.starts_with(key.as_str());
                let unasked = self.order.iter().find_map(|(of, keys)| {
                    let next = keys.front()?;
                    (is_branch(&frame, of) && self.within.get(next) == Some(&intent.within)).then_some(next)
                });
                unasked.map(|next| Verdict::Diverged(format!("the record has step `{next}` before it")))
            }
        }
    }

    /// A step ended, or all of the script did (with an empty key): a step of the record that it did not
    /// ask for. With an error nothing is missed, since it may not have come that far.
    pub fn ended(&mut self, key: &str, well: bool) -> Option<String> {
        let missed = if well { self.unasked(key) } else { None };
        if missed.is_none() && !key.is_empty() {
            self.forget_inside(key);
        }
        missed
    }

    /// The first step inside of this one that the script has not asked for.
    pub fn unasked(&self, key: &str) -> Option<String> {
        let next = self.order.values().filter_map(VecDeque::front);
        next.filter(|next| self.is_inside(next, key)).min_by_key(|next| self.past.get(*next).map(|past| past.started)).cloned()
    }

    fn is_inside(&self, key: &str, around: &str) -> bool {
        let mut at = key;
        loop {
            match self.within.get(at) {
                Some(within) if within == around => return true,
                Some(within) if !within.is_empty() => at = within,
                _ => return false,
            }
        }
    }

    fn forget_inside(&mut self, key: &str) {
        let mut order = std::mem::take(&mut self.order);
        order.retain(|_, keys| {
            let inside = keys.front().is_some_and(|first| self.is_inside(first, key));
            if inside {
                keys.iter().for_each(|key| drop(self.past.remove(key)));
            }
            !inside
        });
        self.order = order;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    fn declared(policy: &str) -> Intent {
        let idempotent = (policy == "idempotent").then(|| "k".to_owned());
        Intent { key: "s".into(), frame: Some(String::new()), idempotent, verifiable: policy == "verify", attempt: 1, ..Intent::default() }
    }

    fn past(policy: &str, effects: &[bool], end: End) -> Past {
        let effects = effects.iter().map(|once| Effect::new("fs::write", "/x", "write /x").once(*once)).collect();
        Past { intent: declared(policy), started: at(0), effects, end }
    }

    fn failed(kind: Kind) -> Error {
        Error::new(kind, "no")
    }

    fn word(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Run => "run",
            Verdict::Verify(_) => "verify",
            Verdict::Value(_) => "value",
            Verdict::Error(_) => "error",
            Verdict::Doubt(_) => "doubt",
            Verdict::Diverged(_) => "diverged",
        }
    }

    #[test]
    fn what_happens_with_a_step() {
        let value = || End::Value(json!(1));
        let error = |went_on| End::Error(failed(Kind::Failed), went_on);
        let stopped = || End::Error(failed(Kind::Cancelled), false);
        // What it declares, what it declared, its effects (remembered by the target or not), its end, the verdict.
        let table: &[(&str, &str, &[bool], End, &str)] = &[
            ("", "", &[], value(), "value"),
            ("", "", &[false], value(), "value"),
            ("verify", "verify", &[false], value(), "value"),
            ("", "", &[], End::Open, "run"),
            ("", "", &[false], End::Open, "doubt"),
            ("", "", &[true], End::Open, "run"),
            ("", "", &[true, false], End::Open, "doubt"),
            ("idempotent", "idempotent", &[false], End::Open, "run"),
            ("verify", "verify", &[false], End::Open, "verify"),
            ("verify", "verify", &[], End::Open, "verify"),
            ("", "", &[false], End::Redo, "run"),
            ("verify", "verify", &[false], End::Redo, "run"),
            ("", "", &[false], error(false), "run"),
            ("", "", &[false], error(true), "error"),
            ("verify", "verify", &[false], error(false), "verify"),
            ("", "", &[false], stopped(), "doubt"),
            ("", "", &[], stopped(), "run"),
            ("idempotent", "idempotent", &[false], stopped(), "run"),
            ("", "idempotent", &[], End::Open, "diverged"),
            ("verify", "", &[], value(), "diverged"),
        ];
        for (number, (now, before, effects, end, expected)) in table.iter().enumerate() {
            let verdict = decide(&declared(now), Some(past(before, effects, end.clone())));
            assert_eq!(word(&verdict), *expected, "row {number}: {now} {before} {effects:?} {end:?}");
        }
        assert_eq!(word(&decide(&declared(""), None)), "run");
    }

    fn step(key: &str, frame: &str, within: &str) -> Intent {
        Intent { key: key.into(), frame: Some(frame.into()), within: within.into(), attempt: 1, ..Intent::default() }
    }

    fn started(key: &str, frame: &str, within: &str) -> EventKind {
        EventKind::StepStarted(step(key, frame, within))
    }

    fn ended(key: &str) -> EventKind {
        EventKind::StepEnded { key: key.into(), outcome: Outcome::Value(json!(key)), duration_ms: 1 }
    }

    fn broke(key: &str) -> EventKind {
        EventKind::StepEnded { key: key.into(), outcome: Outcome::Error(failed(Kind::Failed)), duration_ms: 1 }
    }

    fn journal(kinds: Vec<EventKind>) -> Journal {
        let events: Vec<Event> = kinds.into_iter().zip(0..).map(|(kind, second)| Event { at: at(second), kind }).collect();
        Journal::read(&events)
    }

    #[test]
    fn steps_are_asked_for_in_the_order_of_the_record() {
        let mut it = journal(vec![started("a", "", ""), ended("a"), started("b", "", ""), ended("b")]);
        assert_eq!(word(&it.begin(&step("a", "", ""))), "value");
        assert_eq!(it.begin(&step("x", "", "")), Verdict::Diverged("the record has step `b` here".to_owned()));
        assert_eq!(it.ended("", true), Some("b".to_owned()));
    }

    #[test]
    fn what_is_inside_of_a_finished_step_is_not_asked_for() {
        let mut it = journal(vec![started("a", "", ""), started("a/i", "a", "a"), ended("a/i"), ended("a")]);
        assert_eq!(word(&it.begin(&step("a", "", ""))), "value");
        assert_eq!(it.ended("", true), None);
    }

    #[test]
    fn a_step_that_runs_again_must_ask_for_what_was_inside() {
        let mut it = journal(vec![started("a", "", ""), started("a/i", "a", "a"), ended("a/i")]);
        assert_eq!(word(&it.begin(&step("a", "", ""))), "run");
        assert_eq!(it.ended("a", true), Some("a/i".to_owned()));
        assert_eq!(word(&it.begin(&step("a/i", "a", "a"))), "value");
        assert_eq!(it.ended("a", true), None);
    }

    #[test]
    fn branches_come_in_any_order_and_before_what_follows_them() {
        let record = || vec![started("[0]/p", "[0]", ""), started("[1]/p", "[1]", ""), ended("[1]/p"), ended("[0]/p")];
        let mut it = journal(record());
        assert_eq!(word(&it.begin(&step("[1]/p", "[1]", ""))), "value");
        assert_eq!(it.begin(&step("z", "", "")), Verdict::Diverged("the record has step `[0]/p` before it".to_owned()));
        let mut it = journal(record());
        assert_eq!(word(&it.begin(&step("[1]/p", "[1]", ""))), "value");
        assert_eq!(word(&it.begin(&step("[0]/p", "[0]", ""))), "value");
        assert_eq!(word(&it.begin(&step("z", "", ""))), "run");
    }

    #[test]
    fn a_failure_is_given_again_only_when_the_script_went_on_after_it() {
        let mut it = journal(vec![started("a", "", ""), broke("a"), started("b", "", ""), broke("b")]);
        assert_eq!(word(&it.begin(&step("a", "", ""))), "error");
        assert_eq!(word(&it.begin(&step("b", "", ""))), "run");
        // A branch beside it says nothing.
        let mut it = journal(vec![started("[0]/p", "[0]", ""), broke("[0]/p"), started("[1]/p", "[1]", ""), ended("[1]/p")]);
        assert_eq!(word(&it.begin(&step("[0]/p", "[0]", ""))), "run");
    }

    #[test]
    fn another_try_of_a_step_asks_anew_for_what_is_inside() {
        let first = vec![started("a", "", ""), started("a/x", "a", "a"), ended("a/x"), broke("a")];
        let second = vec![started("a", "", ""), started("a/y", "a", "a"), ended("a/y")];
        let mut it = journal(first.into_iter().chain(second).collect());
        assert_eq!(word(&it.begin(&step("a", "", ""))), "run");
        assert_eq!(word(&it.begin(&step("a/y", "a", "a"))), "value");
    }

    #[test]
    fn a_name_with_a_slash_is_inside_of_nothing() {
        let mut it =
            journal(vec![started("a", "", ""), ended("a"), started("a/b", "", ""), started("a/b/c", "a/b", "a/b"), ended("a/b/c")]);
        assert_eq!(word(&it.begin(&step("a", "", ""))), "value");
        assert_eq!(word(&it.begin(&step("a/b", "", ""))), "run");
        assert_eq!(word(&it.begin(&step("a/b/c", "a/b", "a/b"))), "value");
    }

    #[test]
    fn what_a_person_says_holds_like_a_record() {
        let says = |says| EventKind::Resumed { by: "maya".into(), decisions: vec![Decision { key: "a".into(), says }] };
        let effect = EventKind::Effect { key: "a".into(), effect: Effect::new("fs::write", "/x", "write /x") };
        let with = |end: EventKind| journal(vec![started("a", "", ""), effect.clone(), end]).begin(&step("a", "", ""));
        assert_eq!(with(says(Says::Done(json!(7)))), Verdict::Value(json!(7)));
        assert_eq!(with(says(Says::Skip)), Verdict::Value(Value::Null));
        assert_eq!(with(says(Says::Redo)), Verdict::Run);
    }

    #[test]
    fn an_answer_is_recalled_when_a_step_followed_it() {
        let check = |name: &str| EventKind::Checked(serde_json::from_value(json!({ "name": name, "key": name, "level": "ok" })).unwrap());
        let it = journal(vec![check("early"), started("a", "", ""), ended("a"), check("late")]);
        assert_eq!(it.recalled.keys().collect::<Vec<_>>(), ["early"]);
    }
}
