//! Secrets: a type that scripts can pass on and nobody can print.

use std::collections::BTreeMap;
use std::fmt;

use rhai::{Dynamic, Map};
use serde::{Deserialize, Deserializer, Serialize, de};
use zeroize::Zeroize;

use crate::error::{Error, Kind, Result};

/// What a secret looks like to everyone.
pub const MASK: &str = "***";

/// A secret in a script: only its name. It prints, compares and serialises as `***`.
#[derive(Clone)]
pub struct Secret {
    name: String,
}

impl Secret {
    /// The secret of this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Its name, which is no secret.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// The values a run was granted, by name. Never printed, never serialised outside the worker's pipe.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(BTreeMap<String, String>);

impl Drop for Secrets {
    fn drop(&mut self) {
        self.0.values_mut().for_each(Zeroize::zeroize);
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets {
    /// These values.
    pub fn new(values: BTreeMap<String, String>) -> Self {
        Self(values)
    }

    /// The value of a secret.
    ///
    /// # Errors
    ///
    /// `not_found`, when the run was not given it.
    pub fn value(&self, name: &str) -> Result<&str> {
        self.0.get(name).map(String::as_str).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("secret `{name}` is not set")).hint(format!("set it with `runbook secret set {name}`"))
        })
    }

    /// Every value, for the redactor.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// These and those of another run, under names of their own.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let others = other.0.iter().map(|(name, value)| (format!("\0{name}"), value.clone()));
        Self(self.0.clone().into_iter().chain(others).collect())
    }

    /// A text of a system file with each `${secret:NAME}` replaced by its value.
    ///
    /// # Errors
    ///
    /// `not_found`, when one of them is not set.
    pub fn reveal(&self, text: &str) -> Result<String> {
        let mut revealed = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${secret:") {
            let Some((name, tail)) = after.split_once('}') else { break };
            revealed.push_str(before);
            revealed.push_str(self.value(name)?);
            rest = tail;
        }
        revealed.push_str(rest);
        Ok(revealed)
    }
}

/// The names of the secrets a text of a system file refers to.
pub fn names_in(text: &str) -> impl Iterator<Item = &str> {
    text.split("${secret:").skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

/// An option that takes a text or a [`Secret`]; opened by the host function, towards its sink only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretText {
    /// A text as it is.
    Plain(String),
    /// The name of a secret.
    Secret(String),
}

/// How a secret travels through an options map. A script that forges it gains nothing: opening it
/// checks the grant.
const MARK: &str = "\u{0}secret:";

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix(MARK) {
            Some("") => Err(de::Error::custom("a secret needs a name")),
            Some(name) => Ok(Self::Secret(name.to_owned())),
            None => Ok(Self::Plain(text)),
        }
    }
}

/// A copy of an options map in which each [`Secret`] is marked for [`SecretText`].
pub(crate) fn mark_secrets(value: &Dynamic) -> Dynamic {
    if let Some(secret) = value.read_lock::<Secret>() {
        return format!("{MARK}{}", secret.name).into();
    }
    if let Ok(map) = value.as_map_ref() {
        return Dynamic::from_map(map.iter().map(|(key, value)| (key.clone(), mark_secrets(value))).collect::<Map>());
    }
    if let Ok(list) = value.as_array_ref() {
        return Dynamic::from_array(list.iter().map(mark_secrets).collect());
    }
    value.flatten_clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing() {
        let secret = Secret::named("db");
        assert_eq!(format!("{secret} {secret:?} {}", serde_json::to_string(&secret).unwrap()), r#"*** *** "***""#);
    }

    #[test]
    fn references_in_system_files_are_replaced() {
        let secrets = Secrets::new([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into());
        assert_eq!(secrets.reveal("x${secret:a}y${secret:b}").unwrap(), "x1y2");
        assert!(secrets.reveal("${secret:c}").unwrap_err().hints[0].contains("runbook secret set c"));
        assert_eq!(names_in("x${secret:a}y${secret:b}").collect::<Vec<_>>(), ["a", "b"]);
    }
}
