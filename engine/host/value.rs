//! Between Rhai's values and plain data.

use rhai::{Dynamic, Map};
use serde::Serialize;
use serde_json::{Number, Value};

use crate::error::{Error, Kind, Result};
use crate::host::secrets::Secret;

/// How deep a recorded value may nest: readers of JSON give up at 128, and the record has levels of its own.
const DEEPEST: usize = 100;

/// The plain data of a script value: what can be recorded, printed and read back.
///
/// # Errors
///
/// `invalid`, naming the place in the value, for functions, timestamps and handles, which can not be
/// recorded and read back; `limit` for what nests too deeply.
pub fn plain(value: &Dynamic) -> Result<Value> {
    plain_at(value, "", 0)
}

fn plain_at(value: &Dynamic, path: &str, depth: usize) -> Result<Value> {
    if depth > DEEPEST {
        return Err(Error::new(Kind::Limit, format!("the value nests more than {DEEPEST} deep, which can not be recorded"))
            .hint("a list that is put into itself grows deeper each time; add to it with `push`"));
    }
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(flag) = value.as_bool() {
        return Ok(Value::Bool(flag));
    }
    if let Ok(number) = value.as_int() {
        return Ok(Value::from(number));
    }
    if let Ok(number) = value.as_float() {
        return Ok(Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number));
    }
    if let Ok(letter) = value.as_char() {
        return Ok(Value::String(letter.to_string()));
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(Value::String(text.to_string()));
    }
    if let Ok(list) = value.as_array_ref() {
        return list.iter().enumerate().map(|(index, item)| plain_at(item, &format!("{path}[{index}]"), depth + 1)).collect();
    }
    if let Ok(bytes) = value.as_blob_ref() {
        return Ok(bytes.iter().copied().map(Value::from).collect());
    }
    if let Ok(map) = value.as_map_ref() {
        return map.iter().map(|(key, item)| Ok((key.to_string(), plain_at(item, &format!("{path}.{key}"), depth + 1)?))).collect();
    }
    if value.is::<Secret>() {
        return Ok(Value::String("***".to_owned()));
    }
    if value.is::<i64>() || value.is::<std::ops::Range<i64>>() || value.is::<std::ops::RangeInclusive<i64>>() {
        return Ok(Value::String(value.to_string()));
    }
    let place = if path.is_empty() { "the value".to_owned() } else { format!("`{}`", path.trim_start_matches('.')) };
    Err(Error::new(Kind::Invalid, format!("{place} is {}, which can not be recorded", kind_of(value)))
        .hint("return plain data: texts, numbers, true/false, lists and maps"))
}

fn kind_of(value: &Dynamic) -> String {
    if value.is_fnptr() {
        return "a function".to_owned();
    }
    match value.type_name() {
        name if name.contains("Instant") || name == "timestamp" => "a timestamp".to_owned(),
        name => format!("a `{}`", name.rsplit("::").next().unwrap_or(name)),
    }
}

/// The script value of plain data.
pub fn dynamic(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(list) => Dynamic::from_array(list.iter().map(dynamic).collect()),
        Value::Object(map) => Dynamic::from_map(map.iter().map(|(key, value)| (key.as_str().into(), dynamic(value))).collect::<Map>()),
    }
}

/// The script value of anything that serialises.
///
/// # Errors
///
/// `bug`, since our own types always serialise.
pub fn to_dynamic(value: &impl Serialize) -> Result<Dynamic> {
    let value = serde_json::to_value(value).map_err(|error| Error::new(Kind::Bug, format!("a host value does not serialise: {error}")))?;
    Ok(dynamic(&value))
}

#[cfg(test)]
mod tests {
    use rhai::Engine;

    use super::*;

    #[test]
    fn plain_data_survives_the_way_there_and_back() {
        let source = r#"#{a: 1, b: 1.0, c: "x", d: [true, ()], e: #{f: 'g'}}"#;
        let value = plain(&Engine::new().eval(source).unwrap()).unwrap();
        assert_eq!(value.to_string(), r#"{"a":1,"b":1.0,"c":"x","d":[true,null],"e":{"f":"g"}}"#);
        assert_eq!(plain(&dynamic(&value)).unwrap(), value);
    }

    #[test]
    fn functions_and_timestamps_are_refused_with_their_place() {
        let error = plain(&Engine::new().eval("#{list: [1, || 2]}").unwrap()).unwrap_err();
        assert_eq!(error.message, "`list[1]` is a function, which can not be recorded");
        let deep = "let a = []; for i in 0..500 { a = [a]; } a";
        assert_eq!(plain(&Engine::new().eval(deep).unwrap()).unwrap_err().kind, Kind::Limit);
        assert!(plain(&Engine::new().eval("timestamp()").unwrap()).unwrap_err().message.contains("a timestamp"));
    }
}
