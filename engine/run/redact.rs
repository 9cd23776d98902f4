//! The redactor: nothing that looks like a granted secret leaves the supervisor.
//!
//! A net under the [`Secret`](crate::host::Secret) type, not a boundary: a script can always encode a
//! value on purpose. Each secret is known raw, line by line, field by field when it is JSON, and in
//! base64 (three alignments, both alphabets), hex, URL-, JSON- and shell-escaped forms.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::host::Secrets;
use crate::host::secrets::MASK;
use crate::words;

/// Shorter secrets would shred every log.
pub const SHORTEST: usize = 6;
/// Lines and fields of a secret are masked on their own from this length on.
const SHORTEST_PART: usize = 8;

/// Replaces every known form of every secret by `***`.
#[derive(Debug)]
pub struct Redactor(Option<AhoCorasick>);

impl Redactor {
    /// A redactor for these secrets.
    ///
    /// # Errors
    ///
    /// `config`, naming a secret that is too short to be masked.
    pub fn new(secrets: &Secrets) -> Result<Self> {
        let mut forms = Vec::new();
        for (name, value) in secrets.iter() {
            if value.trim().len() < SHORTEST {
                return Err(Error::new(Kind::Config, format!("secret `{name}` is shorter than {SHORTEST} characters"))
                    .hint("masking it would shred every log; use a longer one"));
            }
            add(&mut forms, value, SHORTEST);
            add(&mut forms, value.trim(), SHORTEST);
            for line in value.lines() {
                add(&mut forms, line.trim(), SHORTEST_PART);
            }
            if let Ok(structured) = serde_json::from_str::<Value>(value) {
                fields(&mut forms, &structured);
            }
        }
        forms.sort_by_key(|form: &String| std::cmp::Reverse(form.len()));
        forms.dedup();
        if forms.is_empty() {
            return Ok(Self(None));
        }
        AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&forms)
            .map(|known| Self(Some(known)))
            .map_err(|error| Error::new(Kind::Limit, format!("the secrets are too long to be masked: {error}")))
    }

    /// Whether there is anything to mask.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The text with every secret masked.
    pub fn text(&self, text: &str) -> String {
        match &self.0 {
            None => text.to_owned(),
            Some(known) => {
                let mut masked = String::with_capacity(text.len());
                known.replace_all_with(text, &mut masked, |_, _, masked| {
                    masked.push_str(MASK);
                    true
                });
                masked
            }
        }
    }

    /// The value with every text in it masked, keys included.
    pub fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(list) => list.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(map) => map.into_iter().map(|(key, item)| (self.text(&key), self.value(item))).collect(),
            other => other,
        }
    }
}

fn fields(forms: &mut Vec<String>, value: &Value) {
    match value {
        Value::String(text) => add(forms, text, SHORTEST_PART),
        Value::Array(list) => list.iter().for_each(|item| fields(forms, item)),
        Value::Object(map) => map.values().for_each(|item| fields(forms, item)),
        _ => {}
    }
}

fn add(forms: &mut Vec<String>, value: &str, shortest: usize) {
    if value.len() < shortest {
        return;
    }
    forms.push(value.to_owned());
    let bytes = value.as_bytes();
    let hex = words::hex(bytes);
    forms.push(hex.to_uppercase());
    forms.push(hex);
    for offset in 0..3 {
        forms.extend(aligned(bytes, offset));
    }
    forms.push(url::form_urlencoded::byte_serialize(bytes).collect());
    forms.push(percent(bytes));
    forms.push(percent(bytes).replace('+', "%2B"));
    if let Ok(json) = serde_json::to_string(value) {
        forms.push(json.trim_matches('"').to_owned());
    }
    forms.push(value.replace('\'', "'\\''"));
    forms.push(value.chars().flat_map(|letter| if letter.is_ascii_alphanumeric() { vec![letter] } else { vec!['\\', letter] }).collect());
    forms.retain(|form| !form.is_empty());
}

/// The base64 digits that depend on the value alone when it stands `offset` bytes into a longer text.
fn aligned(bytes: &[u8], offset: usize) -> impl Iterator<Item = String> {
    let mut padded = vec![0; offset];
    padded.extend_from_slice(bytes);
    let first = (offset * 8).div_ceil(6);
    let whole = padded.len() * 8 / 6;
    [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)]
        .into_iter()
        .map(move |text| text[first..whole.max(first)].to_owned())
        .filter(|form| form.len() >= SHORTEST)
}

/// Everything but unreserved characters escaped, as of RFC 3986.
fn percent(bytes: &[u8]) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    bytes.iter().map(|&byte| if unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn redactor(value: &str) -> Redactor {
        Redactor::new(&Secrets::new([("s".to_owned(), value.to_owned())].into())).unwrap()
    }

    #[test]
    fn every_form_is_masked() {
        let secret = "p@ss/w+rd'\"x 0123456789";
        let redactor = redactor(secret);
        for form in [
            secret.to_owned(),
            format!("a{secret}b"),
            STANDARD.encode(secret),
            STANDARD.encode(format!("a{secret}")),
            STANDARD.encode(format!("user:{secret}")),
            URL_SAFE_NO_PAD.encode(format!("ab{secret}cd")),
            secret.bytes().map(|byte| format!("{byte:02x}")).collect(),
            url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
            percent(secret.as_bytes()),
            serde_json::to_string(secret).unwrap(),
        ] {
            let masked = redactor.text(&form);
            assert!(masked.contains(MASK), "{form}");
            assert!(!masked.contains("0123456789") && !masked.contains("ss/w"), "{form} → {masked}");
        }
    }

    #[test]
    fn lines_and_fields_are_masked_alone() {
        let pem = redactor("-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----");
        assert_eq!(pem.text("line: kqhkiG9w0BAQEF."), "line: ***.");
        let json = redactor(r#"{"user":"maya","password":"correct-horse"}"#);
        assert_eq!(json.text("pw=correct-horse"), "pw=***");
    }

    #[test]
    fn short_secrets_are_refused() {
        let error = Redactor::new(&Secrets::new([("pin".to_owned(), "12345".to_owned())].into())).unwrap_err();
        assert_eq!(error.message, "secret `pin` is shorter than 6 characters");
    }
}
