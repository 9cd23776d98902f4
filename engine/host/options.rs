//! Options: the object map at the end of a host call, read into a struct with named, typed fields.

use rhai::Dynamic;
use rhai::serde::DynamicDeserializer;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::host::secrets::mark_secrets;

/// An option that is a number as people write it, with a point or without.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number(pub f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyNumber;
        impl serde::de::Visitor<'_> for AnyNumber {
            type Value = Number;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }
        }
        deserializer.deserialize_any(AnyNumber)
    }
}

/// What is wrong with an options map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionError {
    /// The key, as in `ports[1]`; empty when the whole map is meant.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
    /// The keys there are, when the key is not one of them.
    pub known: Vec<String>,
}

impl OptionError {
    /// Whether the key itself is not known.
    pub fn is_unknown_key(&self) -> bool {
        !self.known.is_empty()
    }
}

/// Reads an options map into its struct.
///
/// # Errors
///
/// Names the key that is unknown, or whose value has the wrong type.
pub fn read_options<T: DeserializeOwned>(options: &Dynamic) -> Result<T, OptionError> {
    let options = mark_secrets(options);
    serde_path_to_error::deserialize(DynamicDeserializer::new(&options)).map_err(|error| {
        let path = error.path().to_string();
        let text = raw_message(error.inner());
        let known = known_keys(&text);
        let unknown = text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
        let path = match unknown {
            Some(key) if path == "." => key.to_owned(),
            Some(key) if !path.ends_with(key) => format!("{path}.{key}"),
            _ if path == "." => String::new(),
            _ => path,
        };
        OptionError { path, message: text, known }
    })
}

/// The text of serde, without what Rhai wraps around it.
fn raw_message(error: &rhai::EvalAltResult) -> String {
    match error {
        rhai::EvalAltResult::ErrorParsing(rhai::ParseErrorType::BadInput(rhai::LexError::ImproperSymbol(_, text)), _) => reworded(text),
        // Rhai names them the other way round here: the first is what was wanted.
        rhai::EvalAltResult::ErrorMismatchOutputType(wanted, found, _) => {
            format!("expected {}, found {}", type_in_words(wanted), type_in_words(found))
        }
        other => other.to_string(),
    }
}

/// `invalid type: string "90", expected a number` as we say it.
fn reworded(text: &str) -> String {
    let Some((found, wanted)) = text.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected ")) else {
        return text.to_owned();
    };
    let found = match found.split([' ', '`']).next().unwrap_or_default() {
        "string" => "a text",
        "integer" => "a whole number",
        "floating" => "a number",
        "boolean" => "true or false",
        "sequence" => "a list",
        "unit" => "nothing",
        other => other,
    };
    format!("expected {wanted}, found {found}")
}

fn known_keys(text: &str) -> Vec<String> {
    let Some((_, list)) = text.split_once("`, expected ") else { return Vec::new() };
    if !text.starts_with("unknown field") {
        return Vec::new();
    }
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A type as people name it.
pub(crate) fn type_in_words(name: &str) -> &str {
    match name {
        "string" | "String" | "&str" | "ImmutableString" | "alloc::string::String" => "a text",
        "i64" | "u64" | "u32" | "u16" | "usize" | "i32" => "a whole number",
        "f64" | "f32" => "a number",
        "bool" => "true or false",
        "array" => "a list",
        "map" => "a map",
        "()" => "nothing",
        "Fn" => "a function",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use rhai::{Engine, Map};

    use super::*;
    use crate::model::Span;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        timeout: Option<Span>,
        retries: u32,
        ports: Vec<u16>,
        rate: Option<Number>,
    }

    fn read(script: &str) -> Result<Sample, OptionError> {
        read_options(&Engine::new().eval::<Map>(script).unwrap().into())
    }

    #[test]
    fn known_keys_are_read() {
        let sample = read(r#"#{timeout: "5s", retries: 2, ports: [80]}"#).unwrap();
        assert_eq!(sample, Sample { timeout: Some(Span::secs(5)), retries: 2, ports: vec![80], rate: None });
    }

    #[test]
    fn a_number_has_a_point_or_none() {
        assert_eq!(read("#{rate: 2}").unwrap().rate, Some(Number(2.0)));
        assert_eq!(read("#{rate: 2.5}").unwrap().rate, Some(Number(2.5)));
        assert_eq!(read(r#"#{rate: "2"}"#).unwrap_err().message, "expected a number, found a text");
    }

    #[test]
    fn an_unknown_key_is_named_with_the_known_ones() {
        let error = read(r#"#{timout: "5s"}"#).unwrap_err();
        assert_eq!(error.path, "timout");
        assert_eq!(error.known, ["timeout", "retries", "ports", "rate"]);
    }

    #[test]
    fn a_wrong_type_is_named_with_its_key() {
        assert_eq!(read(r#"#{ports: [80, 70000]}"#).unwrap_err().path, "ports[1]");
        let error = read(r#"#{retries: "two"}"#).unwrap_err();
        assert_eq!(error.path, "retries");
        assert!(!error.is_unknown_key());
    }
}
