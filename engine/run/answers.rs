//! What a test of a runbook answers in place of the world, and what was asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::host::{Answer, Question};
use crate::model::case;

/// The answers of a case, and how far they were used.
#[derive(Debug)]
pub struct Answers {
    now: Timestamp,
    /// Those of the case, then those of its file.
    all: Vec<case::Answer>,
    /// How many of them are of the case itself, and have to be asked for.
    own: usize,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// How often each first answer of its kind was asked for.
    asked: BTreeMap<usize, usize>,
    used: BTreeSet<usize>,
    unanswered: Vec<HostCall>,
    unsaid: Vec<HostCall>,
}

/// A call that was not made.
#[derive(Debug, Clone, PartialEq)]
pub struct HostCall {
    /// The function, as in `docker::inspect`; or `ask` or `run`.
    pub function: String,
    /// Its arguments.
    pub arguments: Vec<Value>,
}

impl Answers {
    /// Those of a case and of its file, at a time.
    pub fn new(own: &[case::Answer], shared: &[case::Answer], now: Timestamp) -> Self {
        Self { now, all: [own, shared].concat(), own: own.len(), heard: Mutex::default() }
    }

    /// The time it is.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The calls that had to be answered and were not, each once.
    pub fn unanswered(&self) -> Vec<HostCall> {
        self.heard().unanswered.clone()
    }

    /// The changes of which is not said what they answer, each once.
    pub fn unsaid(&self) -> Vec<HostCall> {
        self.heard().unsaid.clone()
    }

    /// The places of the answers of the case that nobody asked for.
    pub fn unused(&self) -> Vec<usize> {
        let heard = self.heard();
        (0..self.own).filter(|at| !heard.used.contains(at)).collect()
    }

    /// Whether this is a question to the world, which the test answers.
    pub(super) fn are_for(&self, question: &Question) -> bool {
        matches!(question, Question::Call { .. } | Question::Person(_) | Question::Run(_))
    }

    /// What the test says.
    ///
    /// # Errors
    ///
    /// `conflict`, when it says nothing of a call that has to be answered; as it says, for questions to people.
    pub(super) fn answer(&self, question: Question) -> Result<Answer> {
        let read = |reply: case::Reply| reply.into_result().map(Answer::Value);
        match question {
            Question::Call { function, arguments, changes } => {
                let call = HostCall { function, arguments };
                match self.find(&call) {
                    Some(reply) => Ok(Answer::Value(json!(reply))),
                    None if changes => {
                        note(&mut self.heard().unsaid, call);
                        Ok(Answer::Nothing)
                    }
                    None => Err(self.miss(call)),
                }
            }
            Question::Person(asked) => {
                let call = HostCall { function: "ask".to_owned(), arguments: vec![asked.question.into()] };
                self.find(&call).map_or_else(|| Err(self.miss(call)), read)
            }
            Question::Run(order) => {
                let call = HostCall { function: "run".to_owned(), arguments: vec![order.runbook.into(), json!(order.params)] };
                match self.find(&call).map(case::Reply::into_result).transpose()? {
                    Some(said) => Ok(Answer::Value(ended(said))),
                    None => Err(self.miss(call)),
                }
            }
            _ => Err(Error::new(Kind::Bug, "this is no question to the world")),
        }
    }

    /// The first answer that fits; of those to the same calls one after the other, the last for good.
    fn find(&self, call: &HostCall) -> Option<case::Reply> {
        let first = self.all.iter().position(|answer| answer.is_to(&call.function, &call.arguments))?;
        // What a file says for all cases does not go on with what one of them says.
        let kind = if first < self.own { 0..self.own } else { self.own..self.all.len() };
        let alike: Vec<usize> = kind.filter(|at| self.all[*at].is_after(&self.all[first])).collect();
        let mut heard = self.heard();
        let asked = heard.asked.entry(first).or_default();
        let at = alike[(*asked).min(alike.len() - 1)];
        *asked += 1;
        heard.used.insert(at);
        Some(self.all[at].reply())
    }

    fn miss(&self, call: HostCall) -> Error {
        let error = Error::new(Kind::Conflict, format!("the test does not say what `{}` answers", call.function)).permanent();
        note(&mut self.heard().unanswered, call);
        error.code("RB3301")
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(calls: &mut Vec<HostCall>, call: HostCall) {
    if !calls.contains(&call) {
        calls.push(call);
    }
}

/// What a script gets of a sub-run: what is left out is as of one that succeeded.
fn ended(said: Value) -> Value {
    let mut outcome = json!({ "run": 1, "status": "succeeded", "outputs": {}, "checks": [] });
    if let (Some(outcome), Value::Object(said)) = (outcome.as_object_mut(), said) {
        outcome.extend(said);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(call: &str, with: &[&str], returns: i64) -> case::Answer {
        let with = with.iter().map(|text| json!(text)).collect();
        case::Answer { call: call.to_owned(), with, returns: Some(returns.into()), throws: None }
    }

    fn said(answers: &Answers, call: &str, arguments: &[&str], changes: bool) -> Result<Option<i64>> {
        let arguments = arguments.iter().map(|text| json!(text)).collect();
        let said = answers.answer(Question::Call { function: call.to_owned(), arguments, changes })?;
        Ok(said.into_value()["returns"].as_i64())
    }

    #[test]
    fn the_first_that_fits_answers_and_its_like_follow_one_after_the_other() {
        let own = [answer("a::b", &["x"], 1), answer("a::b", &["x"], 2), answer("a::b", &[], 3)];
        let answers = Answers::new(&own, &[answer("a::b", &["x"], 4), answer("a::c", &[], 5)], case::Case::NOW);
        let x: Vec<_> = (0..3).map(|_| said(&answers, "a::b", &["x"], false).unwrap()).collect();
        assert_eq!(x, [Some(1), Some(2), Some(2)]);
        assert_eq!(said(&answers, "a::c", &["y"], false).unwrap(), Some(5));
        assert_eq!(answers.unused(), [2], "the one without arguments was not needed; those of the file need not be");
        assert_eq!(said(&answers, "a::b", &["y"], false).unwrap(), Some(3));
        assert!(answers.unused().is_empty());
    }

    #[test]
    fn a_read_without_an_answer_is_told_once_and_a_change_without_one_succeeds() {
        let answers = Answers::new(&[], &[], case::Case::NOW);
        for _ in 0..2 {
            assert_eq!(said(&answers, "a::b", &["x"], false).unwrap_err().code.as_deref(), Some("RB3301"));
            assert_eq!(said(&answers, "a::c", &[], true).unwrap(), None);
        }
        assert_eq!(answers.unanswered(), [HostCall { function: "a::b".to_owned(), arguments: vec![json!("x")] }]);
        assert_eq!(answers.unsaid().len(), 1);
    }

    #[test]
    fn a_sub_run_succeeds_unless_the_test_says_otherwise() {
        assert_eq!(ended(json!({ "outputs": { "a": 1 } }))["status"], "succeeded");
        assert_eq!(ended(json!({ "status": "failed" }))["status"], "failed");
    }
}
