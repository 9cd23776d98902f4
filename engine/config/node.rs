//! A TOML file as a tree in which everything knows where it stands.
//!
//! Overlays are merged as trees, so an error in a merged system still points into the right file.

use std::collections::BTreeMap;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::Environment;
use crate::error::{Error, Kind, Place};

/// A value with its place and that of its key.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) data: Data,
    /// Where the value stands; for a `[table]`, its header.
    pub(super) place: Place,
    /// Where its key stands.
    pub(super) key: Place,
}

#[derive(Debug, Clone)]
pub(super) enum Data {
    Plain(Value),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

/// The keys from the root to a node; a number for the item of a list.
pub(super) type Path = Vec<String>;

impl Node {
    /// A table with nothing in it.
    pub(super) fn empty(file: &str) -> Self {
        let place = Place { file: file.to_owned(), line: 1, column: 1 };
        Self { data: Data::Table(BTreeMap::new()), key: place.clone(), place }
    }

    /// Reads a TOML text; what can not be read is told and left out.
    pub(super) fn parse(file: &str, text: &str, problems: &mut Vec<Error>) -> Self {
        let lines = Lines::of(file, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let place = lines.place(error.span().map_or(0, |span| span.start));
            problems.push(Error::new(Kind::Config, error.message().trim_end_matches('.')).at(place));
        }
        let root = lines.place(0);
        lines.table(table.into_inner(), root.clone(), root, problems)
    }

    /// The entries of a table; none when it is something else.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        let table = match &self.data {
            Data::Table(table) => Some(table),
            _ => None,
        };
        table.into_iter().flatten().map(|(key, node)| (key.as_str(), node))
    }

    /// What stands right below: the entries of a table, the items of a list by number.
    pub(super) fn children(&self) -> Vec<(String, &Self)> {
        match &self.data {
            Data::Plain(_) => Vec::new(),
            Data::List(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
            Data::Table(table) => table.iter().map(|(key, node)| (key.clone(), node)).collect(),
        }
    }

    /// The node at a path.
    pub(super) fn at<S: AsRef<str>>(&self, path: &[S]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| match &node.data {
            Data::Plain(_) => None,
            Data::List(items) => items.get(key.as_ref().parse::<usize>().ok()?),
            Data::Table(table) => table.get(key.as_ref()),
        })
    }

    /// The text at a path.
    pub(super) fn text<S: AsRef<str>>(&self, path: &[S]) -> Option<&str> {
        match &self.at(path)?.data {
            Data::Plain(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Takes the node at a path out.
    pub(super) fn take<S: AsRef<str>>(&mut self, path: &[S]) -> Option<Self> {
        let (last, before) = path.split_last()?;
        let parent = self.at_mut(before)?;
        match &mut parent.data {
            Data::Plain(_) => None,
            Data::List(items) => {
                let at = last.as_ref().parse::<usize>().ok().filter(|at| *at < items.len())?;
                Some(items.remove(at))
            }
            Data::Table(table) => table.remove(last.as_ref()),
        }
    }

    /// The node at a path, to change it.
    pub(super) fn at_mut<S: AsRef<str>>(&mut self, path: &[S]) -> Option<&mut Self> {
        path.iter().try_fold(self, |node, key| node.child_mut(key.as_ref()))
    }

    fn child_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.data {
            Data::Plain(_) => None,
            Data::List(items) => items.get_mut(key.parse::<usize>().ok()?),
            Data::Table(table) => table.get_mut(key),
        }
    }

    /// Lays another over this one: tables merge, everything else replaces.
    pub(super) fn overlay(&mut self, over: Self) {
        match (&mut self.data, over.data) {
            (Data::Table(below), Data::Table(above)) => {
                for (key, node) in above {
                    match below.get_mut(&key) {
                        Some(lower) => lower.overlay(node),
                        None => drop(below.insert(key, node)),
                    }
                }
                (self.place, self.key) = (over.place, over.key);
            }
            (_, data) => *self = Self { data, place: over.place, key: over.key },
        }
    }

    /// Puts the variables of the environment in for each `${env:NAME}`. `${secret:NAME}` stays: only host functions open it.
    pub(super) fn interpolate(&mut self, environment: &Environment, problems: &mut Vec<Error>) {
        match &mut self.data {
            Data::Plain(Value::String(text)) if text.contains("${") => match interpolated(text, environment) {
                Ok(done) => *text = done,
                Err(error) => problems.push(error.at(self.place.clone())),
            },
            Data::Plain(_) => {}
            Data::List(items) => items.iter_mut().for_each(|item| item.interpolate(environment, problems)),
            Data::Table(table) => table.values_mut().for_each(|node| node.interpolate(environment, problems)),
        }
    }

    /// Whether it is no table and no list.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.data, Data::Plain(_))
    }

    /// The plain data.
    pub(super) fn json(&self) -> Value {
        match &self.data {
            Data::Plain(value) => value.clone(),
            Data::List(items) => items.iter().map(Self::json).collect(),
            Data::Table(table) => Value::Object(table.iter().map(|(key, node)| (key.clone(), node.json())).collect()),
        }
    }

    /// The paths of everything that is not a table with entries.
    pub(super) fn leaves(&self) -> Vec<Path> {
        let below = |(key, node): (&str, &Self)| {
            node.leaves().into_iter().map(move |rest| [vec![key.to_owned()], rest].concat()).collect::<Vec<_>>()
        };
        match &self.data {
            Data::Table(table) if !table.is_empty() => self.entries().flat_map(below).collect(),
            _ => vec![Path::new()],
        }
    }
}

fn interpolated(text: &str, environment: &Environment) -> Result<String, Error> {
    let Some((before, rest)) = text.split_once("${") else { return Ok(text.to_owned()) };
    let Some((placeholder, after)) = rest.split_once('}') else {
        return Err(Error::new(Kind::Config, format!("`{text}` has a `${{` without its `}}`")));
    };
    let value = match placeholder.split_once(':') {
        Some(("env", name)) => environment.get(name).map(str::to_owned).ok_or_else(|| {
            Error::new(Kind::Config, format!("the environment variable `{name}` is not set")).hint(format!("set `{name}` before the start"))
        })?,
        Some(("secret", name)) if !name.is_empty() => format!("${{secret:{name}}}"),
        _ => {
            return Err(Error::new(Kind::Config, format!("unknown placeholder `${{{placeholder}}}`"))
                .hint("there are `${env:NAME}` and `${secret:NAME}`"));
        }
    };
    Ok(format!("{before}{value}{}", interpolated(after, environment)?))
}

/// Where the lines of a text begin.
struct Lines<'t> {
    file: &'t str,
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(file: &'t str, text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, text, starts }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let column = self.text.get(self.starts[line - 1]..offset).map_or(0, |before| before.chars().count()) + 1;
        Place { file: self.file.to_owned(), line, column }
    }

    fn table(&self, table: DeTable<'_>, place: Place, key: Place, problems: &mut Vec<Error>) -> Node {
        let entries = table.into_iter().map(|(name, value)| {
            let key = self.place(name.span().start);
            (name.into_inner().into_owned(), self.node(value, key, problems))
        });
        Node { data: Data::Table(entries.collect()), place, key }
    }

    fn node(&self, value: Spanned<DeValue<'_>>, key: Place, problems: &mut Vec<Error>) -> Node {
        let place = self.place(value.span().start);
        let plain = match value.into_inner() {
            DeValue::Table(table) => return self.table(table, place, key, problems),
            DeValue::Array(items) => {
                let items = items.into_iter().map(|item| {
                    let at = self.place(item.span().start);
                    self.node(item, at, problems)
                });
                return Node { data: Data::List(items.collect()), place, key };
            }
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Boolean(yes) => Value::Bool(yes),
            DeValue::Datetime(moment) => Value::String(moment.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Null, Value::from),
            DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        };
        if plain.is_null() {
            problems.push(Error::new(Kind::Config, "the number is too large or not finite").at(place.clone()));
        }
        Node { data: Data::Plain(plain), place, key }
    }
}
