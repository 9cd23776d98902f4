//! Replies of Redis as plain data.

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};

/// The plain data of a reply.
///
/// # Errors
///
/// `invalid` for bytes that are no text, which would be changed on the way.
pub(super) fn plain(reply: redis::Value) -> Result<Value> {
    Ok(match reply {
        redis::Value::Nil => Value::Null,
        redis::Value::Int(number) => number.into(),
        redis::Value::Double(number) => serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number),
        redis::Value::Boolean(flag) => flag.into(),
        redis::Value::Okay => "OK".into(),
        redis::Value::SimpleString(text) | redis::Value::VerbatimString { text, .. } => text.into(),
        redis::Value::BulkString(bytes) | redis::Value::BigNumber(bytes) => {
            String::from_utf8(bytes).map_err(|_| not_text("the reply"))?.into()
        }
        redis::Value::Array(list) | redis::Value::Set(list) => list.into_iter().map(plain).collect::<Result<_>>()?,
        redis::Value::Attribute { data, .. } => plain(*data)?,
        redis::Value::Map(pairs) => {
            let pair = |(key, value)| {
                let key = match plain(key)? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                Ok((key, plain(value)?))
            };
            Value::Object(pairs.into_iter().map(pair).collect::<Result<_>>()?)
        }
        other => return Err(Error::new(Kind::Remote, format!("a reply that is not read here: {other:?}"))),
    })
}

/// The error for bytes where a text is needed.
pub(super) fn not_text(what: &str) -> Error {
    Error::new(Kind::Invalid, format!("{what} is not text")).hint("binary data can not be read here")
}

/// The lines `key:value` of `INFO`, with numbers as numbers and `a=1,b=2` as a map.
pub(super) fn info(text: &str) -> Map<String, Value> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(':')).map(|(key, value)| (key.to_owned(), part(value))).collect()
}

fn part(value: &str) -> Value {
    let pairs: Option<Map<String, Value>> =
        value.split(',').map(|pair| pair.split_once('=').map(|(key, value)| (key.to_owned(), typed(value)))).collect();
    pairs.map_or_else(|| typed(value), Value::Object)
}

/// A number as a number: `12`, `-1`, `1.03`; versions, hashes and the like stay text.
pub(super) fn typed(text: &str) -> Value {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && digits.bytes().any(|byte| byte.is_ascii_digit());
    let is_padded = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    if !is_number || is_padded {
        return text.into();
    }
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(whole), _) => whole.into(),
        (_, Ok(number)) => number.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn info_is_typed() {
        let text = "# Server\r\nredis_version:7.0.15\r\nsha:00000000\r\nuptime:12\r\nratio:1.03\r\nlag:-1\r\ndb0:keys=2,ttl=0\r\nrun:1e5\r\nempty:\r\n";
        let expected = json!({
            "redis_version": "7.0.15", "sha": "00000000", "uptime": 12, "ratio": 1.03, "lag": -1,
            "db0": {"keys": 2, "ttl": 0}, "run": "1e5", "empty": "",
        });
        assert_eq!(Value::Object(info(text)), expected);
    }
}
