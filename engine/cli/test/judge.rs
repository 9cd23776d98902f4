//! What came of a case, compared with what was expected.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::cli::report::detail;
use crate::model::case::{Case, fits};
use crate::model::{Run, Step};
use crate::words::is_like;

/// What came of a case.
pub(super) struct Came<'a> {
    pub(super) run: &'a Run,
    /// What was sent: the contact and the subject.
    pub(super) messages: &'a [String],
    pub(super) log: &'a [String],
    /// What is kept under the keys that were asked about.
    pub(super) stored: &'a BTreeMap<String, Value>,
}

/// Something that is not as expected.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Difference {
    pub(super) what: String,
    pub(super) expected: String,
    pub(super) found: String,
    /// A list, line by line; empty for what is no list.
    #[serde(skip)]
    pub(super) lines: Vec<(Side, String)>,
}

/// Where a line is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Side {
    Both,
    Expected,
    Found,
}

/// Everything that differs.
pub(super) fn differences(case: &Case, came: &Came<'_>) -> Vec<Difference> {
    let (expect, run) = (&case.expect, came.run);
    let mut told = Told::default();
    if let Some(status) = expect.status {
        told.word("status", status.name(), run.status.name());
    }
    if let Some(code) = expect.exit_code {
        told.word("exit code", &code.to_string(), &run.exit_code.map_or_else(|| "none".to_owned(), |code| code.to_string()));
    }
    if let Some(error) = &expect.error {
        let found = run.error.as_ref();
        if let Some(kind) = error.kind {
            told.word(
                "error",
                &format!("`{}`", kind.name()),
                &found.map_or_else(|| "none".to_owned(), |found| format!("`{}`", found.kind.name())),
            );
        }
        let pattern = error.message.as_deref().unwrap_or("*");
        told.pattern("error", pattern, found.map(|found| found.message.as_str()), "none");
    }
    for (name, level) in &expect.checks {
        let found = run.checks.iter().find(|check| check.name == *name);
        let said = found.map(|check| match detail(check) {
            detail if detail.is_empty() || check.level == *level => check.level.name().to_owned(),
            detail => format!("{} ({detail})", check.level.name()),
        });
        if found.is_none_or(|check| check.level != *level) {
            told.push(&format!("check `{name}`"), level.name(), &said.unwrap_or_else(|| not_among("it was not asked", &names(run))));
        }
    }
    for (name, pattern) in &expect.details {
        let found = run.checks.iter().find(|check| check.name == *name).map(detail);
        told.pattern(&format!("check `{name}`"), pattern, found.as_deref(), &not_among("it was not asked", &names(run)));
    }
    for (key, state) in &expect.steps {
        let keys: Vec<&str> = run.steps.iter().map(|step| step.key.as_str()).collect();
        let found = run.steps.iter().find(|step| step.key == *key);
        let word = |state: &crate::model::StepState| {
            serde_json::to_value(state).ok().and_then(|word| Some(word.as_str()?.to_owned())).unwrap_or_default()
        };
        if found.is_none_or(|step| step.status != *state) {
            let said = found.map_or_else(|| not_among("it did not run", &keys), |step| word(&step.status));
            told.push(&format!("step `{key}`"), &word(state), &said);
        }
    }
    if let Some(effects) = &expect.effects {
        told.list("effects", effects, &effects_of(&run.steps));
    }
    if let Some(messages) = &expect.messages {
        told.list("messages", messages, came.messages);
    }
    for (name, wanted) in &expect.outputs {
        told.value(&format!("output `{name}`"), wanted, run.outputs.get(name));
    }
    for pattern in &expect.log {
        if !came.log.iter().any(|line| is_like(pattern, line)) {
            told.push("log", &format!("a line `{pattern}`"), &not_among("none", &came.log.iter().map(String::as_str).collect::<Vec<_>>()));
        }
    }
    for (key, wanted) in &expect.stored {
        told.value(&format!("stored `{key}`"), wanted, came.stored.get(key));
    }
    told.0
}

/// All that was changed, as a case writes it.
pub(super) fn effects_of(steps: &[Step]) -> Vec<String> {
    let effects = steps.iter().flat_map(|step| &step.effects);
    effects.map(|effect| format!("{} {}", effect.function, effect.target).trim_end().to_owned()).collect()
}

fn names(run: &Run) -> Vec<&str> {
    run.checks.iter().map(|check| check.name.as_str()).collect()
}

/// What there is instead, as far as it fits on a line.
fn not_among(what: &str, known: &[&str]) -> String {
    const MOST: usize = 8;
    match known {
        [] => format!("{what}, nor was anything else"),
        known => {
            let more = if known.len() > MOST { ", …" } else { "" };
            format!("{what}; there are {}{more}", known.iter().take(MOST).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
        }
    }
}

#[derive(Default)]
struct Told(Vec<Difference>);

impl Told {
    fn push(&mut self, what: &str, expected: &str, found: &str) {
        self.0.push(Difference { what: what.to_owned(), expected: expected.to_owned(), found: found.to_owned(), lines: Vec::new() });
    }

    fn word(&mut self, what: &str, expected: &str, found: &str) {
        if expected != found {
            self.push(what, expected, found);
        }
    }

    fn pattern(&mut self, what: &str, pattern: &str, found: Option<&str>, absent: &str) {
        if !found.is_some_and(|found| is_like(pattern, found)) {
            self.push(what, &format!("`{pattern}`"), &found.map_or_else(|| absent.to_owned(), |found| format!("`{found}`")));
        }
    }

    fn value(&mut self, what: &str, wanted: &Value, found: Option<&Value>) {
        if !found.is_some_and(|found| fits(wanted, found)) {
            self.push(what, &wanted.to_string(), &found.map_or_else(|| "none".to_owned(), Value::to_string));
        }
    }

    /// A list that has to be whole and in order.
    fn list(&mut self, what: &str, expected: &[String], found: &[String]) {
        let lines = aligned(expected, found);
        if lines.iter().any(|(side, _)| *side != Side::Both) {
            let (expected, found) = (expected.join(", "), found.join(", "));
            self.0.push(Difference { what: what.to_owned(), expected, found, lines });
        }
    }
}

/// Both lists line by line, with as much in common as possible.
fn aligned(expected: &[String], found: &[String]) -> Vec<(Side, String)> {
    let (Some((wanted, others)), Some((there, rest))) = (expected.split_first(), found.split_first()) else {
        let missing = expected.iter().map(|line| (Side::Expected, line.clone()));
        return missing.chain(found.iter().map(|line| (Side::Found, line.clone()))).collect();
    };
    if is_like(wanted, there) {
        return [vec![(Side::Both, there.clone())], aligned(others, rest)].concat();
    }
    // Whichever of the two comes again later is not what is missing here.
    match rest.iter().any(|line| is_like(wanted, line)) {
        true => [vec![(Side::Found, there.clone())], aligned(expected, rest)].concat(),
        false => [vec![(Side::Expected, wanted.clone())], aligned(others, found)].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_list_shows_what_is_missing_and_what_is_too_much() {
        let shown = |expected: &str, found: &str| -> String {
            let sign = |side| match side {
                Side::Both => ' ',
                Side::Expected => '-',
                Side::Found => '+',
            };
            aligned(&lines(expected), &lines(found)).into_iter().map(|(side, text)| format!("{}{text}", sign(side))).collect()
        };
        assert_eq!(shown("a b c", "a c"), " a-b c");
        assert_eq!(shown("a c", "a b c"), " a+b c");
        assert_eq!(shown("a* b", "ax x"), " ax-b+x");
        assert_eq!(shown("", "x"), "+x");
    }

    #[test]
    fn a_name_that_is_not_there_is_told_with_those_that_are() {
        assert_eq!(not_among("it was not asked", &["cpu"]), "it was not asked; there are `cpu`");
        assert_eq!(not_among("none", &[]), "none, nor was anything else");
    }
}
