//! What a run did, read from its record: its steps and those of the runs below it, what was taken back, what was
//! done again.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Result;
use crate::host::modules;
use crate::model::{Effect, EventKind, Run, RunId, Step, StepState};
use crate::store::{Filter, Store};

/// A step of a run, or of one below it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Its key, as seen from the run above all.
    pub(super) key: String,
    pub(super) undo: bool,
    run: RunId,
    /// Where it was registered, or began, among the events of its run.
    order: usize,
    may_repeat: bool,
    step: Step,
}

impl Seen {
    /// Whether it failed because it was told to.
    pub(super) fn fails_on_purpose(&self) -> bool {
        self.step.error.as_ref().is_some_and(|error| error.message.ends_with("because of `--fail-at`"))
    }

    /// Why it did not take back what it should.
    pub(super) fn why_not_undone(&self) -> Option<String> {
        let error = self.step.error.as_ref().filter(|_| self.undo)?;
        Some(format!("`{}`: {}", self.key, error.message))
    }

    fn is_done(&self) -> bool {
        self.step.status == StepState::Succeeded
    }

    /// What it changed that can be taken back: not what people were told, and not what the run keeps.
    fn changes(&self) -> impl Iterator<Item = &Effect> {
        self.step.effects.iter().filter(|effect| !effect.idle && !is_inside(&effect.function))
    }
}

/// Reads a run and all below it.
pub(super) fn look(store: &dyn Store, run: &Run, above: &str, seen: &mut Vec<Seen>) -> Result<()> {
    let mut began: BTreeMap<String, usize> = BTreeMap::new();
    let mut may_repeat: BTreeMap<String, bool> = BTreeMap::new();
    for (order, event) in store.events(run.id)?.into_iter().enumerate() {
        match event.kind {
            EventKind::StepStarted(intent) => {
                began.entry(intent.key.clone()).or_insert(order);
                may_repeat.insert(intent.key, intent.idempotent.is_some());
            }
            EventKind::UndoRegistered { key, .. } => drop(began.entry(key).or_insert(order)),
            _ => {}
        }
    }
    for step in &run.steps {
        seen.push(Seen {
            key: format!("{above}{}", step.key),
            undo: step.undo,
            run: run.id,
            order: began.get(&step.key).copied().unwrap_or_default(),
            may_repeat: may_repeat.get(&step.key).copied().unwrap_or_default(),
            step: step.clone(),
        });
        if let Some(number) = step.run {
            let below = store.list(&Filter { number: Some(number), ..Filter::default() })?.pop();
            if let Some(below) = below {
                look(store, &store.run(below.id)?, &format!("{above}{}/", step.key), seen)?;
            }
        }
    }
    Ok(())
}

/// How much was changed, and what of it was not taken back.
///
/// A compensation takes back what was done to its own target. One that does something to another target takes back
/// the step it stands at: the last one before it that changed something, else the first one after it.
pub(super) fn left(seen: &[Seen]) -> (usize, Vec<String>) {
    let forward: Vec<&Seen> = seen.iter().filter(|step| !step.undo && step.changes().next().is_some()).collect();
    let back: Vec<&Seen> = seen.iter().filter(|step| step.undo && step.is_done()).collect();
    // Also what was as it should be before: its compensation is of no other step.
    let all = || seen.iter().filter(|step| !step.undo).flat_map(|step| &step.step.effects);
    let names_one = |undo: &Seen| undo.changes().any(|change| all().any(|done| is_about(change, done)));
    let stands_at = |undo: &Seen| {
        let own = || forward.iter().filter(|step| step.run == undo.run);
        own().rfind(|step| step.order < undo.order).or_else(|| own().next()).map(|step| step.key.as_str())
    };
    let beside: Vec<&str> =
        back.iter().filter(|undo| undo.changes().next().is_some() && !names_one(undo)).filter_map(|undo| stands_at(undo)).collect();
    let is_back = |step: &Seen, done: &Effect| {
        beside.contains(&step.key.as_str()) || back.iter().flat_map(|undo| undo.changes()).any(|change| is_about(change, done))
    };
    let changes = || forward.iter().flat_map(|step| step.changes().map(move |done| (*step, done)));
    (changes().count(), changes().filter(|(step, done)| !is_back(step, done)).map(|(_, done)| words(done)).collect())
}

/// Whether steps that may be done again were, and what was done again without that, by a run that was killed;
/// compared with one that was not.
pub(super) fn twice(plain: &[Seen], killed: &[Seen]) -> (bool, Vec<String>) {
    let mut again = false;
    let mut twice = Vec::new();
    for step in killed.iter().filter(|step| !step.undo) {
        let before = plain.iter().find(|other| other.key == step.key);
        for done in step.step.effects.iter().filter(|done| !done.may_repeat()) {
            let times = |step: &Seen, idle: bool| {
                let same =
                    |other: &&Effect| other.function == done.function && other.target == done.target && (idle || !other.may_repeat());
                step.step.effects.iter().filter(same).count()
            };
            if times(step, false) <= before.map_or(1, |before| times(before, true)) {
                continue;
            }
            if step.may_repeat {
                again = true;
            } else if !twice.contains(&words(done)) {
                twice.push(words(done));
            }
        }
    }
    (again, twice)
}

/// Whether two changes are of the same thing: of the same target, or one in the other where that is a path.
fn is_about(one: &Effect, other: &Effect) -> bool {
    let within = |inner: &str, outer: &str| outer.starts_with('/') && Path::new(inner).starts_with(outer);
    one.target == other.target || within(&one.target, &other.target) || within(&other.target, &one.target)
}

/// Whether a function changes nothing but the run itself.
fn is_inside(function: &str) -> bool {
    let Some((module, name)) = function.split_once("::") else { return false };
    let functions = modules().find(|known| known.name == module).map_or(&[][..], |module| module.functions);
    functions.iter().any(|known| known.name == name && known.is_inside)
}

fn words(effect: &Effect) -> String {
    format!("{} {}", effect.function, effect.target).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Intent;

    fn seen(key: &str, order: usize, undo: bool, effects: &[(&str, &str)]) -> Seen {
        let mut step = Step::of(&Intent { key: key.to_owned(), undo, ..Intent::default() });
        step.status = StepState::Succeeded;
        step.effects = effects.iter().map(|(function, target)| Effect::new(function, *target, "")).collect();
        Seen { key: key.to_owned(), undo, run: RunId(uuid::Uuid::nil()), order, may_repeat: false, step }
    }

    #[test]
    fn what_was_done_to_a_target_is_taken_back_there() {
        let steps = [
            seen("make", 0, false, &[("fs::mkdir", "/a")]),
            seen("write", 1, false, &[("fs::write", "/a/b"), ("fs::write", "/c")]),
            seen("undo: clear", 2, true, &[("fs::remove", "/a")]),
        ];
        assert_eq!(left(&steps), (3, vec!["fs::write /c".to_owned()]));
    }

    #[test]
    fn a_compensation_of_another_target_takes_back_the_step_it_stands_at() {
        let steps = [
            seen("mount", 0, false, &[("exec::run", "/bin/mount")]),
            seen("start", 2, false, &[("docker::start", "web")]),
            seen("undo: unmount", 1, true, &[("exec::run", "/bin/umount")]),
        ];
        assert_eq!(left(&steps), (2, vec!["docker::start web".to_owned()]));
    }

    #[test]
    fn the_compensation_of_a_step_that_changed_nothing_this_time_takes_nothing_else_back() {
        let mut write = seen("write", 0, false, &[("fs::write", "/a/new")]);
        write.step.effects[0].idle = true;
        let steps = [write, seen("log", 2, false, &[("fs::append", "/a/log")]), seen("undo: clear", 1, true, &[("fs::remove", "/a/new")])];
        assert_eq!(left(&steps), (1, vec!["fs::append /a/log".to_owned()]));
    }

    #[test]
    fn messages_and_notes_are_not_left() {
        let steps = [seen("tell", 0, false, &[("notify::send", "ops"), ("store::put", "levels")])];
        assert_eq!(left(&steps), (0, Vec::new()));
    }

    #[test]
    fn what_is_done_more_often_than_without_the_kill_is_done_twice() {
        let plain = [seen("write", 0, false, &[("fs::append", "/a")])];
        let once = [seen("write", 0, false, &[("fs::append", "/a")])];
        assert_eq!(twice(&plain, &once), (false, Vec::new()));
        let mut again = [seen("write", 0, false, &[("fs::append", "/a"), ("fs::append", "/a")])];
        assert_eq!(twice(&plain, &again), (false, vec!["fs::append /a".to_owned()]));
        again[0].may_repeat = true;
        assert_eq!(twice(&plain, &again), (true, Vec::new()));
        again[0].step.effects[1].idle = true;
        assert_eq!(twice(&plain, &again), (false, Vec::new()), "the second time changed nothing");
    }
}
