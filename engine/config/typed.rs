//! From a tree to a type, with all that does not fit.
//!
//! serde stops at the first complaint and, behind tagged and flattened types, forgets which key it
//! was about. So the key is found by experiment: it is the one that draws the complaint alone. It is
//! told, taken out, and the rest is read again, until nothing is left to complain about.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::config::node::{Data, Node, Path};
use crate::error::{Error, Kind};

/// The tags of enums in files; an entry can not be judged without its own.
const TAG: &str = "kind";

/// How serde begins to complain about what is none of some words.
const UNKNOWN_WORD: &str = "unknown variant ";

/// Reads a type; what does not fit is told and stays at its default.
pub(super) fn read<T: DeserializeOwned + Default>(root: &Node, problems: &mut Vec<Error>) -> T {
    let mut left = root.clone();
    let mut taken: Vec<Path> = Vec::new();
    loop {
        let complaint = match serde_json::from_value::<T>(left.json()) {
            Ok(value) => return value,
            Err(error) => error.to_string(),
        };
        let path = culprit::<T>(&left, &complaint);
        // The stand-in of a list's item does not fit either: the list goes.
        if let Some((_, list)) = path.split_last().filter(|_| taken.contains(&path)) {
            if left.take(list).is_none() {
                return T::default();
            }
            continue;
        }
        // What was taken out for another reason is not missing.
        let gone = missing(&complaint).is_some_and(|field| taken.contains(&[&path[..], &[field.to_owned()]].concat()));
        if !gone {
            problems.push(describe(&left, &path, &complaint));
        }
        if !leave_out::<T>(&mut left, &path, &complaint) {
            return T::default();
        }
        taken.push(path);
    }
}

/// Takes a node out. The item of a list is exchanged for one that fits, so that those after it keep their numbers.
fn leave_out<T: DeserializeOwned>(left: &mut Node, path: &[String], complaint: &str) -> bool {
    let Some((_, parent)) = path.split_last() else { return false };
    if !matches!(left.at(parent).map(|node| &node.data), Some(Data::List(_))) {
        return left.take(path).is_some();
    }
    for stand_in in [json!(""), json!(0)] {
        let file = wrap(left, path, stand_in.clone());
        let fits = serde_json::from_value::<T>(file).map_err(|error| error.to_string());
        // Where one of some words is wanted, neither fits.
        let is_about_it = |other: &str| [UNKNOWN_WORD, "invalid type", "invalid value"].iter().any(|start| other.starts_with(start));
        if fits.is_err_and(|other| other == complaint || is_about_it(&other)) {
            continue;
        }
        if let Some(item) = left.at_mut(path) {
            item.data = Data::Plain(stand_in);
            return true;
        }
    }
    left.take(parent).is_some()
}

/// Whether a file draws this complaint.
fn draws<T: DeserializeOwned>(file: Value, complaint: &str) -> bool {
    serde_json::from_value::<T>(file).is_err_and(|error| error.to_string() == complaint)
}

/// The field that a complaint misses.
fn missing(complaint: &str) -> Option<&str> {
    complaint.strip_prefix("missing field `")?.strip_suffix('`')
}

/// The deepest node that draws the complaint when everything beside it is gone.
fn culprit<T: DeserializeOwned>(root: &Node, complaint: &str) -> Path {
    let draws = |file: Value| draws::<T>(file, complaint);
    let mut path = Path::new();
    while let Some(here) = root.at(&path) {
        let tagged = root.text(&[&path[..], &[TAG.to_owned()]].concat()).is_some();
        if draws(alone(root, &path, true)) {
            if tagged && missing(complaint).is_none() && !draws(alone(root, &path, false)) {
                path.push(TAG.to_owned());
            }
            break;
        }
        let guilty = here.children().into_iter().map(|(key, _)| key).find(|key| {
            let below = [&path[..], std::slice::from_ref(key)].concat();
            let whole = root.at(&below).map_or(Value::Null, Node::json);
            draws(wrap(root, &below, whole))
        });
        match guilty {
            Some(key) => path.push(key),
            None => break,
        }
    }
    path
}

/// The root with nothing but the way to this node, itself emptied.
fn alone(root: &Node, path: &[String], with_tag: bool) -> Value {
    let inner = match root.at(path).map(|node| &node.data) {
        Some(Data::Plain(value)) => value.clone(),
        Some(Data::List(_)) => json!([]),
        Some(Data::Table(_)) => tag_of(root, path, with_tag),
        None => Value::Null,
    };
    wrap(root, path, inner)
}

/// The root with nothing but the way to this value, and the tags on the way.
fn wrap(root: &Node, path: &[String], inner: Value) -> Value {
    path.iter().enumerate().rev().fold(inner, |value, (depth, key)| {
        let parent = &path[..depth];
        if matches!(root.at(parent).map(|node| &node.data), Some(Data::List(_))) {
            return json!([value]);
        }
        let mut table = tag_of(root, parent, true);
        table[key.as_str()] = value;
        table
    })
}

fn tag_of(root: &Node, path: &[String], wanted: bool) -> Value {
    let tag = root.text(&[path, &[TAG.to_owned()]].concat()).filter(|_| wanted);
    Value::Object(tag.map(|tag| (TAG.to_owned(), json!(tag))).into_iter().collect::<Map<_, _>>())
}

fn describe(root: &Node, path: &[String], complaint: &str) -> Error {
    let name = path.join(".");
    let node = root.at(path).unwrap_or(root);
    if let Some(rest) = complaint.strip_prefix("unknown field ") {
        let mut names = rest.split('`').skip(1).step_by(2);
        let found = names.next().unwrap_or_default();
        return Error::new(Kind::Config, format!("unknown key `{name}`")).suggest(found, names).at(node.key.clone());
    }
    if let Some(field) = missing(complaint) {
        return Error::new(Kind::Config, format!("`{name}` has no `{field}`")).at(node.key.clone());
    }
    if let Some(rest) = complaint.strip_prefix(UNKNOWN_WORD) {
        let mut names = rest.split('`').skip(1).step_by(2);
        let found = names.next().unwrap_or_default();
        return Error::new(Kind::Config, format!("`{name}`: found `{found}`")).suggest(found, names).at(node.place.clone());
    }
    Error::new(Kind::Config, format!("`{name}`: {}", in_words(complaint, path))).at(node.place.clone())
}

/// What serde says, in the words of a TOML file. The value of a password is not repeated.
fn in_words(complaint: &str, path: &[String]) -> String {
    let Some((_, rest)) = complaint.split_once(": ").filter(|(start, _)| matches!(*start, "invalid type" | "invalid value")) else {
        return complaint.to_owned();
    };
    let (found, expected) = rest.rsplit_once(", expected ").unwrap_or((rest, "something else"));
    let secret = path.last().is_some_and(|key| matches!(key.as_str(), "password" | "secret"));
    let found = if secret { "a value of another type" } else { found };
    let found = match found {
        "map" => "a table",
        "sequence" => "a list",
        "null" => "nothing",
        other => other,
    };
    let expected = match expected {
        "a string" | "string" => "text",
        "a boolean" => "`true` or `false`",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number",
        "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") || other.starts_with("internally tagged") => "a table",
        other => other,
    };
    format!("found {found}, expected {expected}")
}
