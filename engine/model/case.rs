//! A test of a runbook: cases, each with what the world answers and what has to come of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::model::{Level, RunState, StepState};
use crate::words::is_like;

/// The cases of a runbook, as a file has them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cases {
    /// The system of every case that names none: a name, or a system as in a file of its own.
    pub system: Value,
    /// What is answered in every case, after what the case says itself.
    pub answer: Vec<Answer>,
    /// The cases.
    pub case: Vec<Case>,
}

/// One run of the runbook that touches nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Case {
    /// What is true, in words.
    pub name: String,
    /// The system: a name, a system as in a file of its own, or what differs from that of the file.
    pub system: Value,
    /// The parameters.
    pub params: BTreeMap<String, Value>,
    /// The time it is, for the whole run.
    pub now: Option<Timestamp>,
    /// What `store::` has kept before.
    pub stored: BTreeMap<String, Value>,
    /// What the world answers.
    pub answer: Vec<Answer>,
    /// What has to come of it.
    pub expect: Expect,
}

/// What a host function answers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// The function, as in `docker::inspect`; or `ask` or `run`.
    pub call: String,
    /// The first arguments it has to be called with: texts are patterns, tables may leave keys out.
    pub with: Vec<Value>,
    /// What it returns; nothing when absent.
    pub returns: Option<Value>,
    /// What it throws instead.
    pub throws: Option<Thrown>,
}

/// An error that a host function throws.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thrown {
    /// What sort of failure it is.
    pub kind: Kind,
    /// What it says.
    #[serde(default)]
    pub message: String,
    /// What to do next.
    #[serde(default)]
    pub hint: Option<String>,
}

/// An answer on its way to the script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The function returns this.
    Returns(Value),
    /// The function throws this.
    Throws(Thrown),
}

/// What has to come of a case; what is absent may be anything. Texts are patterns, in which `*` stands for anything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// How the run ends.
    pub status: Option<RunState>,
    /// The exit code of `runbook run`.
    pub exit_code: Option<u8>,
    /// Why it fails. Without it, a run that ends with an error is not as expected, whatever its status.
    pub error: Option<ExpectedError>,
    /// The levels of checks, by name.
    pub checks: BTreeMap<String, Level>,
    /// What checks say beside their level, by name.
    pub details: BTreeMap<String, String>,
    /// How steps end, by key.
    pub steps: BTreeMap<String, StepState>,
    /// All that is changed, in order: the function and its target.
    pub effects: Option<Vec<String>>,
    /// All messages, in order: the contact, and after a colon the subject.
    pub messages: Option<Vec<String>>,
    /// What is put out, by name; tables may leave keys out.
    pub outputs: BTreeMap<String, Value>,
    /// Lines that are in the log.
    pub log: Vec<String>,
    /// What `store::` keeps after, by key.
    pub stored: BTreeMap<String, Value>,
}

/// An error that has to end a run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectedError {
    /// Its sort.
    pub kind: Option<Kind>,
    /// What it says.
    pub message: Option<String>,
}

/// How a file writes nothing.
const NOTHING: &str = "()";

impl Case {
    /// The time it is where a case does not say: any will do, as long as it is the same each day.
    pub const NOW: Timestamp = Timestamp::constant(1_767_607_200, 0);
}

impl Answer {
    /// Whether it is an answer to this call.
    pub fn is_to(&self, function: &str, arguments: &[Value]) -> bool {
        self.call == function
            && self.with.len() <= arguments.len()
            && self.with.iter().zip(arguments).all(|(wanted, found)| fits(wanted, found))
    }

    /// Whether it is to the same calls as another, so that they are given one after the other.
    pub fn is_after(&self, other: &Self) -> bool {
        self.call == other.call && self.with == other.with
    }

    /// What the script gets.
    pub fn reply(&self) -> Reply {
        match &self.throws {
            Some(thrown) => Reply::Throws(thrown.clone()),
            None => Reply::Returns(self.returns.as_ref().map(said).unwrap_or_default()),
        }
    }
}

impl Reply {
    /// The value, or the error that is thrown.
    ///
    /// # Errors
    ///
    /// As the test says.
    pub fn into_result(self) -> Result<Value> {
        match self {
            Self::Returns(value) => Ok(value),
            Self::Throws(Thrown { kind, message, hint }) => {
                let message = if message.is_empty() { format!("the test says `{}`", kind.name()) } else { message };
                let error = Error::new(kind, message);
                Err(hint.into_iter().fold(error, Error::hint))
            }
        }
    }
}

/// What a value of a file stands for: TOML has no word for nothing, which scripts write `()`.
pub fn said(written: &Value) -> Value {
    match written {
        Value::String(text) if text == NOTHING => Value::Null,
        Value::Array(items) => items.iter().map(said).collect(),
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), said(value))).collect()),
        other => other.clone(),
    }
}

/// Whether a value is as it is wanted: texts as their pattern says, tables in the keys that are named, all else the same.
pub fn fits(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::String(nothing), Value::Null) => nothing == NOTHING,
        (Value::String(pattern), Value::String(text)) => is_like(pattern, text),
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| fits(wanted, found)))
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(wanted, found)| fits(wanted, found))
        }
        // `2` and `2.0` are one number to whoever writes a test.
        (Value::Number(wanted), Value::Number(found)) => wanted == found || wanted.as_f64() == found.as_f64(),
        _ => wanted == found,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_may_be_anything_and_a_list_is_whole() {
        assert!(fits(&json!({ "a": 1 }), &json!({ "a": 1.0, "b": 2 })));
        assert!(!fits(&json!({ "a": 1 }), &json!({ "b": 2 })));
        assert!(fits(&json!(["SELECT count(*)*"]), &json!(["SELECT count(*) FROM a"])));
        assert!(!fits(&json!([1]), &json!([1, 2])));
    }

    #[test]
    fn nothing_is_written_as_scripts_write_it() {
        assert_eq!(said(&json!({ "a": ["()", 1] })), json!({ "a": [null, 1] }));
        assert!(fits(&json!("()"), &Value::Null) && !fits(&json!("*"), &Value::Null));
    }

    #[test]
    fn an_answer_names_the_first_arguments() {
        let answer = Answer { call: "sql::query".to_owned(), with: vec![json!("main")], ..Answer::default() };
        assert!(answer.is_to("sql::query", &[json!("main"), json!("SELECT 1")]));
        assert!(!answer.is_to("sql::query", &[json!("other"), json!("SELECT 1")]));
        assert!(!answer.is_to("sql::query", &[]));
        assert!(!answer.is_to("sql::value", &[json!("main")]));
    }
}
