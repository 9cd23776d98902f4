//! What a header asks for as it is written, before a system gives the placeholders their meaning.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use url::Url;

use crate::error::Result;
use crate::host::permission::{ObjectKind, entries_of, pattern, section, without_sink};

/// One entry of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedEntry {
    /// The section.
    pub section: String,
    /// The verb.
    pub verb: String,
    /// The object, with its placeholders.
    pub object: String,
    /// Where it stands in the header: `allow.fs.write[0]`.
    pub key: String,
}

/// The entries of a header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked(Vec<AskedEntry>);

impl Asked {
    /// Reads `allow` of a header.
    ///
    /// # Errors
    ///
    /// `invalid`, naming the section and the entry.
    pub fn read(allow: &BTreeMap<String, Value>) -> Result<Self> {
        let mut all = Vec::new();
        for (name, entries) in allow {
            let known = section(name)?;
            for (key, entry) in apart(&format!("allow.{name}"), entries) {
                for (verb, object) in entries_of(known, &entry)? {
                    all.push(AskedEntry { section: name.clone(), verb, object: without_sink(&object).to_owned(), key: key.clone() });
                }
            }
        }
        Ok(Self(all))
    }

    /// Every entry.
    pub fn entries(&self) -> &[AskedEntry] {
        &self.0
    }

    /// The entries that allow the verb on something.
    pub fn covering(&self, name: &str, verb: &str) -> Vec<usize> {
        let covers = |entry: &AskedEntry| entry.section == name && section(name).is_ok_and(|section| section.implies(&entry.verb, verb));
        self.0.iter().enumerate().filter(|(_, entry)| covers(entry)).map(|(index, _)| index).collect()
    }

    /// Whether an entry may allow the verb on this very object; a placeholder may be anything, and what
    /// has several names can not be compared before it is resolved.
    pub fn may_cover(&self, name: &str, verb: &str, object: &str) -> bool {
        self.covering(name, verb).into_iter().any(|index| may_match(name, &self.0[index].object, object))
    }
}

/// Each entry alone, with its place in the header.
fn apart(key: &str, entries: &Value) -> Vec<(String, Value)> {
    match entries {
        Value::Array(list) => {
            list.iter().enumerate().map(|(index, entry)| (format!("{key}[{index}]"), Value::Array(vec![entry.clone()]))).collect()
        }
        Value::Object(verbs) => verbs
            .iter()
            .flat_map(|(verb, objects)| {
                apart(&format!("{key}.{verb}"), objects)
                    .into_iter()
                    .map(|(place, object)| (place, Value::Object([(verb.clone(), object)].into_iter().collect())))
                    .collect::<Vec<_>>()
            })
            .collect(),
        other => vec![(key.to_owned(), other.clone())],
    }
}

fn may_match(name: &str, asked: &str, object: &str) -> bool {
    let asked = asked.rsplit_once(" @").map_or(asked, |(bare, _)| bare);
    if asked.contains("${") || object.contains("${") {
        return true;
    }
    match (section(name).map(|section| section.object), name) {
        (Ok(ObjectKind::Word), "sys" | "sql" | "redis" | "store" | "secrets" | "samples" | "incidents") => pattern::word(asked, object),
        // For which system is known when it runs.
        (Ok(ObjectKind::Word), "runs") => pattern::word(asked.split('@').next().unwrap_or(asked), object),
        (Ok(ObjectKind::Url), _) => Url::parse(object).map_or(true, |url| pattern::url(asked, &url)),
        (Ok(ObjectKind::Path), "fs") if object.starts_with('/') => pattern::path(asked, Path::new(object)),
        (Ok(ObjectKind::Host), _) => match object.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
            Some((host, port)) => pattern::host(asked, host, port),
            None => true,
        },
        _ => true,
    }
}

/// An entry as a header writes it, with its section: `sql: ["main:read"]`.
pub fn entry_of(section: &str, verb: &str, object: &str) -> String {
    match (section, verb) {
        ("http", method) => format!("http: [\"{method} {object}\"]"),
        ("fs", verb) => format!("fs: #{{ {verb}: [\"{object}\"] }}"),
        ("sql" | "redis", verb) => format!("{section}: [\"{object}:{verb}\"]"),
        ("exec", "host") => format!("exec: [\"host:{object}\"]"),
        ("incidents", verb) => format!("incidents: [\"{verb}\"]"),
        ("exec" | "secrets" | "notify" | "sys", _) | ("runs", "start") => format!("{section}: [\"{object}\"]"),
        (section, verb) => format!("{section}: [\"{verb}:{object}\"]"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(allow: Value) -> Asked {
        Asked::read(&serde_json::from_value(allow).unwrap()).unwrap()
    }

    #[test]
    fn each_entry_knows_its_place() {
        let asked = asked(json!({ "fs": { "write": ["/a", "/b"] }, "sql": ["main:read"] }));
        let keys: Vec<_> = asked.entries().iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["allow.fs.write[0]", "allow.fs.write[1]", "allow.sql[0]"]);
    }

    #[test]
    fn literals_are_compared_and_placeholders_cover() {
        let asked = asked(json!({
            "sql": ["other:read", "${databases.x}:write"], "docker": ["exec:web"], "fs": { "read": ["/srv"] },
            "http": ["GET https://a.test/"], "net": ["connect:db:5432"],
        }));
        assert!(asked.may_cover("sql", "read", "main"), "a write grant with a placeholder covers a read");
        assert!(asked.may_cover("docker", "exec", "shop-web-1"), "a container has several names");
        assert!(asked.may_cover("fs", "read", "/srv/x") && !asked.may_cover("fs", "read", "/etc"));
        assert!(!asked.may_cover("http", "GET", "https://b.test/") && asked.may_cover("http", "HEAD", "https://a.test/"));
        assert!(asked.may_cover("net", "connect", "db:5432") && !asked.may_cover("net", "connect", "db:1"));
    }
}
