//! Parameters: one declaration in the header makes flags, forms, validation and documentation.

use std::collections::BTreeMap;

use regex::Regex;
use rhai::{Dynamic, Map};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::host::{Secret, value};
use crate::model::{Header, Param, ParamType, Size, Span};
use crate::words;

/// What a caller gave for a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// A text, as from a command line; read by the declared type.
    Text(String),
    /// A value, as from a JSON or TOML file.
    Value(Value),
}

impl Given {
    /// A value of unknown origin: a text is read by the declared type.
    pub fn of(value: Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text),
            value => Self::Value(value),
        }
    }
}

/// The values of all parameters, defaults filled in: plain ones for the record and the script's.
///
/// # Errors
///
/// `usage`, naming every parameter that is unknown, missing or wrong, all at once.
pub fn check_params(header: &Header, given: &BTreeMap<String, Given>) -> Result<(BTreeMap<String, Value>, Map)> {
    let mut problems = Vec::new();
    let known: Vec<String> = header.params.keys().cloned().collect();
    for name in given.keys().filter(|name| !header.params.contains_key(*name)) {
        let near = words::nearest(name, &known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        problems.push(format!("unknown parameter `{name}`{near}"));
    }
    let mut plain = BTreeMap::new();
    let mut script = Map::new();
    for (name, param) in &header.params {
        match value_of(name, param, given.get(name)) {
            Ok(found) => {
                let shown = if param.kind == ParamType::Secret && !found.is_null() { Value::from("***") } else { found.clone() };
                let dynamic = match (&param.kind, &found) {
                    (ParamType::Secret, Value::String(name)) => Dynamic::from(Secret::named(name.clone())),
                    (ParamType::Size, Value::String(text)) => bytes(text),
                    _ => value::dynamic(&found),
                };
                plain.insert(name.clone(), shown);
                script.insert(name.as_str().into(), dynamic);
            }
            Err(error) => problems.push(error.message),
        }
    }
    if problems.is_empty() {
        return Ok((plain, script));
    }
    let mut error = Error::new(Kind::Usage, problems.join("; ")).code("RB2001");
    if !known.is_empty() {
        error = error.hint(format!("the parameters are {}", words::list(&known)));
    }
    Err(error)
}

/// A size as scripts count it.
fn bytes(text: &str) -> Dynamic {
    let size: Option<i64> = text.parse::<Size>().ok().and_then(|size| size.0.try_into().ok());
    size.map_or_else(|| Dynamic::from(text.to_owned()), Dynamic::from)
}

fn value_of(name: &str, param: &Param, given: Option<&Given>) -> Result<Value> {
    let value = match given {
        Some(Given::Text(text)) => from_text(name, param, text)?,
        Some(Given::Value(value)) => value.clone(),
        None => match &param.def {
            Some(value) => value.clone(),
            None if param.required => return Err(Error::new(Kind::Usage, format!("parameter `{name}` is required"))),
            None => return Ok(empty(param.kind)),
        },
    };
    check_value(name, param, value)
}

/// What a parameter is that is neither required nor has a default.
fn empty(kind: ParamType) -> Value {
    match kind {
        ParamType::List => Value::Array(Vec::new()),
        ParamType::Bool => Value::Bool(false),
        _ => Value::Null,
    }
}

fn from_text(name: &str, param: &Param, text: &str) -> Result<Value> {
    let wrong = |what: &str| Err(Error::new(Kind::Usage, format!("parameter `{name}`: `{text}` is not {what}")));
    Ok(match param.kind {
        ParamType::Int => match text.parse::<i64>() {
            Ok(number) => Value::from(number),
            Err(_) => return wrong("a whole number"),
        },
        ParamType::Float => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Value::from(number),
            _ => return wrong("a number"),
        },
        ParamType::Bool => match text {
            "true" | "yes" | "on" | "1" => Value::Bool(true),
            "false" | "no" | "off" | "0" => Value::Bool(false),
            _ => return wrong("true or false"),
        },
        ParamType::List => text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect(),
        _ => Value::from(text),
    })
}

fn check_value(name: &str, param: &Param, value: Value) -> Result<Value> {
    let wrong = |what: &str| Error::new(Kind::Usage, format!("parameter `{name}`: {value} is not {what}"));
    let text = || value.as_str().ok_or_else(|| wrong("a text"));
    match param.kind {
        ParamType::Int => value.as_i64().map(drop).ok_or_else(|| wrong("a whole number"))?,
        ParamType::Float => value.as_f64().map(drop).ok_or_else(|| wrong("a number"))?,
        ParamType::Bool => value.as_bool().map(drop).ok_or_else(|| wrong("true or false"))?,
        ParamType::Duration => text()?.parse::<Span>().map(drop).map_err(|_| wrong("a duration such as `30s` or `2h`"))?,
        ParamType::Size => {
            if value.as_u64().is_none() {
                text()?.parse::<Size>().map(drop).map_err(|_| wrong("a size such as `512MiB`"))?;
            }
        }
        ParamType::Path => {
            if !text()?.starts_with('/') {
                return Err(wrong("an absolute path"));
            }
        }
        ParamType::Url => {
            let parsed = url::Url::parse(text()?).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            parsed.map(drop).ok_or_else(|| wrong("an http or https address"))?;
        }
        ParamType::Host => url::Host::parse(text()?.trim_start_matches('[').trim_end_matches(']'))
            .map(drop)
            .map_err(|_| wrong("a host name or address"))?,
        ParamType::Date => text()?.parse::<jiff::civil::Date>().map(drop).map_err(|_| wrong("a date such as `2026-11-21`"))?,
        ParamType::Enum => one_of(name, param, text()?)?,
        ParamType::List => {
            for item in value.as_array().ok_or_else(|| wrong("a list"))? {
                let item = item.as_str().ok_or_else(|| wrong("a list of texts"))?;
                if !param.of.is_empty() {
                    one_of(name, param, item)?;
                }
            }
        }
        ParamType::String | ParamType::Secret => text().map(drop)?,
    }
    check_range(name, param, &value)?;
    check_pattern(name, param, &value)?;
    Ok(value)
}

fn one_of(name: &str, param: &Param, text: &str) -> Result<()> {
    if param.of.iter().any(|allowed| allowed == text) {
        return Ok(());
    }
    let near = words::nearest(text, &param.of).map_or(String::new(), |near| format!(", did you mean `{near}`?"));
    Err(Error::new(Kind::Usage, format!("parameter `{name}`: `{text}` is not one of {}{near}", words::list(&param.of))))
}

fn check_range(name: &str, param: &Param, value: &Value) -> Result<()> {
    let Some(amount) = amount(param.kind, value) else { return Ok(()) };
    let limit = |limit: &Option<Value>| limit.as_ref().and_then(|limit| amount_of(param.kind, limit));
    if let (Some(min), Some(written)) = (limit(&param.min), &param.min)
        && amount < min
    {
        return Err(Error::new(Kind::Usage, format!("parameter `{name}`: {value} is less than {written}")));
    }
    if let (Some(max), Some(written)) = (limit(&param.max), &param.max)
        && amount > max
    {
        return Err(Error::new(Kind::Usage, format!("parameter `{name}`: {value} is more than {written}")));
    }
    Ok(())
}

/// What `min` and `max` are compared with: numbers, seconds, bytes, days, or the number of items.
fn amount(kind: ParamType, value: &Value) -> Option<f64> {
    match kind {
        ParamType::List => value.as_array().map(|items| items.len() as f64),
        _ => amount_of(kind, value),
    }
}

fn amount_of(kind: ParamType, value: &Value) -> Option<f64> {
    match kind {
        ParamType::Duration => value.as_str()?.parse::<Span>().ok().map(|span| span.0.as_secs_f64()),
        ParamType::Size => value.as_f64().or_else(|| value.as_str()?.parse::<Size>().ok().map(|size| size.0 as f64)),
        ParamType::Date => {
            let date = value.as_str()?.parse::<jiff::civil::Date>().ok()?;
            Some(f64::from(date.year()) * 10_000.0 + f64::from(date.month()) * 100.0 + f64::from(date.day()))
        }
        _ => value.as_f64(),
    }
}

fn check_pattern(name: &str, param: &Param, value: &Value) -> Result<()> {
    let (Some(pattern), Some(text)) = (&param.pattern, value.as_str()) else { return Ok(()) };
    let regex =
        whole(pattern).map_err(|_| Error::new(Kind::Script, format!("params.{name}.pattern: `{pattern}` is not a regular expression")))?;
    if regex.is_match(text) {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("parameter `{name}`: `{text}` does not match `{pattern}`")))
}

fn whole(pattern: &str) -> std::result::Result<Regex, regex::Error> {
    regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build()
}

/// Checks what a header declares of a parameter.
pub(super) fn check_declaration(name: &str, param: &Param) -> Result<()> {
    let wrong = |what: String| Err(Error::new(Kind::Invalid, format!("params.{name}: {what}")));
    if param.kind == ParamType::Enum && param.of.is_empty() {
        return wrong("an enum needs `of`: its values".to_owned());
    }
    if param.required && param.def.is_some() {
        return wrong("a required parameter can not have a `def`".to_owned());
    }
    if let Some(pattern) = &param.pattern
        && whole(pattern).is_err()
    {
        return wrong(format!("`{pattern}` is not a regular expression"));
    }
    if let Some(def) = &param.def
        && let Err(error) = check_value(name, param, def.clone())
    {
        return wrong(format!("its `def` does not fit: {}", error.message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn header(params: Value) -> Header {
        serde_json::from_value(json!({ "params": params })).unwrap()
    }

    fn given(values: &[(&str, &str)]) -> BTreeMap<String, Given> {
        values.iter().map(|(name, text)| ((*name).to_owned(), Given::Text((*text).to_owned()))).collect()
    }

    #[test]
    fn texts_are_read_by_type_and_defaults_fill_in() {
        let header = header(
            json!({ "keep": { "type": "int", "def": 14 }, "on": { "type": "bool" }, "scope": { "type": "list", "of": ["a", "b"] } }),
        );
        let (plain, _) = check_params(&header, &given(&[("scope", "a, b")])).unwrap();
        assert_eq!(json!(plain), json!({ "keep": 14, "on": false, "scope": ["a", "b"] }));
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let header = header(
            json!({ "keep": { "type": "int", "min": 1 }, "host": { "type": "host", "required": true }, "mode": { "type": "enum", "of": ["fast", "slow"] } }),
        );
        let error = check_params(&header, &given(&[("keep", "0"), ("mode", "fats"), ("hsot", "x")])).unwrap_err();
        assert_eq!(
            error.message,
            "unknown parameter `hsot`; did you mean `host`?; parameter `host` is required; parameter `keep`: 0 is less than 1; parameter `mode`: `fats` is not one of `fast` and `slow`, did you mean `fast`?"
        );
    }

    #[test]
    fn types_refuse_what_is_not_theirs() {
        for (kind, bad) in [
            ("int", "1.5"),
            ("duration", "5"),
            ("size", "big"),
            ("path", "a/b"),
            ("url", "ftp://x"),
            ("host", "a b"),
            ("date", "2026-02-30"),
            ("bool", "maybe"),
        ] {
            let header = header(json!({ "x": { "type": kind } }));
            assert!(check_params(&header, &given(&[("x", bad)])).is_err(), "{kind} {bad}");
        }
    }

    #[test]
    fn a_size_is_recorded_as_written_and_a_number_of_bytes_in_the_script() {
        let header = header(json!({ "need": { "type": "size", "def": "2KiB" } }));
        let (plain, script) = check_params(&header, &BTreeMap::new()).unwrap();
        assert_eq!((plain["need"].as_str(), script["need"].as_int()), (Some("2KiB"), Ok(2048)));
    }

    #[test]
    fn a_secret_is_recorded_as_stars() {
        let header = header(json!({ "token": { "type": "secret" } }));
        let (plain, script) = check_params(&header, &given(&[("token", "db")])).unwrap();
        assert_eq!(plain["token"], "***");
        assert!(script["token"].is::<Secret>());
    }
}
