//! Values on their way to the server, as text that the server itself reads.
//!
//! PostgreSQL knows the type of each parameter and how that type is written, so one integer goes into
//! `int2`, `numeric` and `oid`, and one text into `timestamptz`, `uuid`, `inet` and an enum.

use std::error::Error as StdError;
use std::fmt;

use bytes::BytesMut;
use serde_json::Value;
use tokio_postgres::types::{Format, IsNull, Kind as TypeKind, ToSql, Type, to_sql_checked};

use crate::error::{Error, Kind, Result};

/// A value of a parameter. It has no `Debug` that shows it, since it may be a secret.
#[derive(Clone)]
pub(super) enum Param {
    /// Null, true, a number, a text, or a map, which becomes JSON.
    Plain(Value),
    /// A list: an array, or JSON where the parameter is JSON.
    List(Vec<Self>),
    /// Bytes, for `bytea`.
    Bytes(Vec<u8>),
}

/// A parameter as it is sent: text, or nothing for NULL.
pub(super) struct Bound(Option<String>);

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl ToSql for Bound {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let Some(text) = &self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// The most bytes all parameters of a call may have; the protocol ends at 1 GiB per message.
const MOST_BYTES: usize = 64 << 20;

/// The values as the parameters of a statement.
///
/// # Errors
///
/// `invalid`, naming the parameter.
pub(super) fn bind(values: &[Param], types: &[Type]) -> Result<Vec<Bound>> {
    if values.len() != types.len() {
        let counts = format!("{} values for {} parameters", values.len(), types.len());
        return Err(Error::new(Kind::Invalid, counts).hint("the statement names its parameters `$1`, `$2`, …; the values are a list"));
    }
    let mut bytes = 0;
    let bound = values.iter().zip(types).enumerate().map(|(index, (value, ty))| {
        let bound = written(value, ty).map_err(|error| error.context(format!("parameter `${}`", index + 1)))?;
        bytes += bound.as_ref().map_or(0, String::len);
        Ok(Bound(bound))
    });
    let bound = bound.collect::<Result<_>>()?;
    if bytes > MOST_BYTES {
        return Err(Error::new(Kind::Limit, format!("parameters of {bytes} bytes; {MOST_BYTES} is the most")));
    }
    Ok(bound)
}

fn written(value: &Param, ty: &Type) -> Result<Option<String>> {
    let is_json = *ty == Type::JSON || *ty == Type::JSONB;
    match (value, ty.kind()) {
        (value, TypeKind::Domain(inner)) => written(value, inner),
        (Param::Plain(Value::Null), _) => Ok(None),
        (Param::Plain(Value::Bool(flag)), _) => Ok(Some(flag.to_string())),
        // Not as JSON writes them: `1.0` is a whole number to `int4` only without its `.0`.
        (Param::Plain(Value::Number(number)), _) => Ok(Some(match (number.as_i64(), number.as_f64()) {
            (None, Some(float)) => float.to_string(),
            _ => number.to_string(),
        })),
        (Param::Plain(Value::String(text)), _) if text.contains('\0') => Err(Error::new(Kind::Invalid, "a text with a NUL")),
        (Param::Plain(Value::String(text)), _) => Ok(Some(text.clone())),
        (Param::Bytes(bytes), _) if *ty == Type::BYTEA => Ok(Some(super::cell::hex(bytes))),
        (Param::Plain(value @ Value::Object(_)), _) if is_json => Ok(Some(value.to_string())),
        (Param::List(items), _) if is_json => Ok(Some(Value::Array(items.iter().map(json).collect()).to_string())),
        (Param::List(items), TypeKind::Array(member)) => array(items, member).map(Some),
        (value, _) => {
            let found = match value {
                Param::Bytes(_) => "bytes",
                Param::List(_) => "a list",
                Param::Plain(_) => "a map",
            };
            Err(Error::new(Kind::Invalid, format!("{found} where the statement takes a `{}`", ty.name()))
                .hint("a map goes into `jsonb`, a list into an array or `jsonb`, bytes into `bytea`: write the type, as in `$1::jsonb`"))
        }
    }
}

fn json(param: &Param) -> Value {
    match param {
        Param::Plain(value) => value.clone(),
        Param::List(items) => Value::Array(items.iter().map(json).collect()),
        Param::Bytes(bytes) => Value::String(super::cell::hex(bytes)),
    }
}

fn array(items: &[Param], member: &Type) -> Result<String> {
    let items = items.iter().map(|item| match item {
        Param::List(inner) if *member != Type::JSON && *member != Type::JSONB => array(inner, member),
        item => Ok(match written(item, member)? {
            Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            None => "NULL".to_owned(),
        }),
    });
    Ok(format!("{{{}}}", items.collect::<Result<Vec<_>>>()?.join(",")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(value: Param, ty: &Type) -> String {
        written(&value, ty).unwrap().unwrap()
    }

    #[test]
    fn lists_become_arrays_or_json() {
        let list = || Param::List(vec![Param::Plain(json!("a\"b\\")), Param::Plain(Value::Null), Param::Plain(json!("{}"))]);
        assert_eq!(text(list(), &Type::TEXT_ARRAY), r#"{"a\"b\\",NULL,"{}"}"#);
        assert_eq!(text(list(), &Type::JSONB), r#"["a\"b\\",null,"{}"]"#);
        assert!(written(&list(), &Type::INT4).unwrap_err().message.contains("a list where the statement takes a `int4`"));
    }

    #[test]
    fn a_parameter_does_not_show_itself() {
        assert_eq!(format!("{:?}", Bound(Some("hunter2".to_owned()))), "***");
    }

    #[test]
    fn the_number_of_values_must_fit() {
        assert_eq!(bind(&[], &[Type::INT4]).unwrap_err().message, "0 values for 1 parameters");
    }
}
