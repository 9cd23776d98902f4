//! Locks: what two runs must not do at the same time has one name, and one run holds it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::model::Span;

/// The longest name of a lock.
const LONGEST: usize = 200;

/// What a run does when another one holds its lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenLocked {
    /// It does not start.
    #[default]
    Fail,
    /// It waits at most so long.
    Wait(Span),
    /// It cancels the other one, waits for its clean-up, and starts.
    Replace,
}

impl FromStr for WhenLocked {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::new(Kind::Invalid, format!("found `{text}`, expected `fail`, `wait 10m` or `replace`"));
        match text.trim() {
            "fail" => Ok(Self::Fail),
            "replace" => Ok(Self::Replace),
            other => other.strip_prefix("wait ").ok_or_else(bad)?.parse().map(Self::Wait).map_err(|_| bad()),
        }
    }
}

impl fmt::Display for WhenLocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => f.write_str("fail"),
            Self::Wait(span) => write!(f, "wait {span}"),
            Self::Replace => f.write_str("replace"),
        }
    }
}

impl Serialize for WhenLocked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WhenLocked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| de::Error::custom(error.message))
    }
}

/// The name of a lock as a header writes it, `data:${system}`, for one run.
///
/// # Errors
///
/// `invalid`, for a placeholder that stands for nothing, and for a name that is empty, too long or holds
/// characters that can not be seen.
pub fn lock_name(pattern: &str, system: &str, params: &BTreeMap<String, Value>) -> Result<String> {
    let mut name = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once("${") {
        let (placeholder, tail) =
            after.split_once('}').ok_or_else(|| Error::new(Kind::Invalid, format!("`{pattern}` has a `${{` without its `}}`")))?;
        name.push_str(before);
        name.push_str(&value_of(placeholder, system, params)?);
        rest = tail;
    }
    name.push_str(rest);
    let shown = name.escape_debug();
    if name.trim().is_empty() {
        return Err(Error::new(Kind::Invalid, format!("`{pattern}` is an empty name here")));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::new(Kind::Invalid, format!("`{shown}` holds a control character")));
    }
    if name.len() > LONGEST {
        return Err(Error::new(Kind::Invalid, format!("`{shown}` has {} bytes, at most {LONGEST}", name.len())));
    }
    Ok(name)
}

fn value_of(placeholder: &str, system: &str, params: &BTreeMap<String, Value>) -> Result<String> {
    if placeholder == "system" {
        return Ok(system.to_owned());
    }
    match placeholder.strip_prefix("params.").map(|name| params.get(name)) {
        Some(Some(Value::String(text))) => Ok(text.clone()),
        Some(Some(value @ (Value::Number(_) | Value::Bool(_)))) => Ok(value.to_string()),
        Some(Some(Value::Null)) => Ok(String::new()),
        Some(Some(_)) => Err(Error::new(Kind::Invalid, format!("`${{{placeholder}}}` is no text or number"))),
        _ => Err(Error::new(Kind::Invalid, format!("unknown placeholder `${{{placeholder}}}`"))
            .hint("there are `${system}` and `${params.NAME}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_the_system_and_parameters() {
        let params = [("day".to_owned(), Value::from("mon")), ("n".to_owned(), Value::from(3))].into();
        assert_eq!(lock_name("data:${system}/${params.day}-${params.n}", "shop", &params).unwrap(), "data:shop/mon-3");
        assert_eq!(lock_name("fixed", "", &params).unwrap(), "fixed");
    }

    #[test]
    fn a_name_nobody_could_tell_from_another_is_refused() {
        let params = [("name".to_owned(), Value::from("a\nb"))].into();
        for (pattern, why) in [
            ("${system}", "is an empty name here"),
            ("x${params.name}", "`xa\\nb` holds a control character"),
            (&"x".repeat(201), "has 201 bytes, at most 200"),
            ("${nothing}", "unknown placeholder `${nothing}`"),
            ("${params.other}", "unknown placeholder"),
            ("${system", "has a `${` without its `}`"),
        ] {
            let error = lock_name(pattern, "", &params).unwrap_err();
            assert!(error.message.contains(why), "{error}");
        }
    }

    #[test]
    fn what_to_do_when_it_is_locked_reads_as_it_is_written() {
        for text in ["fail", "wait 10m", "replace"] {
            assert_eq!(text.parse::<WhenLocked>().unwrap().to_string(), text);
        }
        for text in ["wait", "wait soon", "kill", ""] {
            assert!(text.parse::<WhenLocked>().unwrap_err().message.contains("expected `fail`, `wait 10m` or `replace`"));
        }
    }
}
