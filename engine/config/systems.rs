//! Systems: those of a project, and the built-in ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::node::{Data, Node};
use crate::config::{Environment, project, typed, validate};
use crate::error::{Error, Kind, Result};
use crate::model::System;

/// The system files of the binary, by name. A file of the same name in the project comes before them.
pub const BUILTIN: &[(&str, &str)] = &[
    ("host", include_str!("../../runbooks/systems/host.toml")),
    ("ai-hub", include_str!("../../runbooks/systems/ai-hub.toml")),
    ("ai-notebook", include_str!("../../runbooks/systems/ai-notebook.toml")),
    ("education", include_str!("../../runbooks/systems/education.toml")),
    ("football", include_str!("../../runbooks/systems/football.toml")),
    ("fin-pre-assist", include_str!("../../runbooks/systems/fin-pre-assist.toml")),
];

/// All that is wrong with some files, and their texts to show it in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Problems {
    /// What is wrong, in the order of the files; nothing is loaded then.
    pub errors: Vec<Error>,
    /// The texts of the files that were read, by the name that places use.
    pub texts: BTreeMap<String, String>,
}

impl Problems {
    pub(super) fn parse(&mut self, file: &str, text: &str) -> Node {
        self.texts.insert(file.to_owned(), text.to_owned());
        Node::parse(file, text, &mut self.errors)
    }

    pub(super) fn read(&mut self, path: &Path) -> Option<Node> {
        match project::file(path) {
            Ok(text) => Some(self.parse(&path.display().to_string(), &text)),
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    /// The value, when nothing is wrong.
    pub(super) fn or<T>(mut self, value: T) -> Result<T, Self> {
        if self.errors.is_empty() {
            return Ok(value);
        }
        let order = |error: &Error| error.at.as_ref().map(|at| (at.file.clone(), at.line, at.column));
        self.errors.sort_by_key(order);
        self.errors.dedup();
        Err(self)
    }
}

impl From<Error> for Problems {
    fn from(error: Error) -> Self {
        Self { errors: vec![error], texts: BTreeMap::new() }
    }
}

/// The first, with the number of the others: for callers that show one error only.
impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        let more = problems.errors.len().saturating_sub(1);
        let first = problems.errors.into_iter().next().unwrap_or_else(|| Self::new(Kind::Bug, "problems without an error"));
        if more == 0 { first } else { first.hint(format!("{more} more in the same files")) }
    }
}

/// A system with what is odd about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The system.
    pub system: System,
    /// What is odd and holds nothing up.
    pub warnings: Vec<Error>,
    /// The files it was read from, the system's own first.
    pub files: Vec<String>,
}

/// Where systems are found.
#[derive(Debug, Clone)]
pub struct Systems<'e> {
    directory: PathBuf,
    environment: &'e Environment,
}

impl<'e> Systems<'e> {
    /// The systems of this directory, and the built-in ones.
    pub fn new(directory: impl Into<PathBuf>, environment: &'e Environment) -> Self {
        Self { directory: directory.into(), environment }
    }

    /// The names of the systems that are files of the project, sorted.
    pub fn own(&self) -> Vec<String> {
        let files = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let names = files.filter_map(|file| file.file_name().to_str()?.strip_suffix(".toml").map(str::to_owned));
        let mut names: Vec<String> = names.filter(|name| is_name(name)).collect();
        names.sort();
        names
    }

    /// The names of all systems, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.own();
        names.extend(BUILTIN.iter().map(|(name, _)| (*name).to_owned()));
        names.sort();
        names.dedup();
        names
    }

    /// Reads a system with all it extends.
    ///
    /// # Errors
    ///
    /// All that is wrong, each with its place.
    pub fn load(&self, name: &str) -> Result<Loaded, Problems> {
        let mut problems = Problems::default();
        let merged = self.merged(name, &mut Vec::new(), &mut problems);
        self.read(name, merged, problems)
    }

    /// Reads a system that stands in another file, with all it extends.
    pub(super) fn load_tree(&self, name: &str, tree: Node) -> Result<Loaded, Problems> {
        let mut problems = Problems::default();
        let merged = self.extended(tree, &mut vec![name.to_owned()], &mut problems);
        self.read(name, merged, problems)
    }

    fn read(&self, name: &str, merged: Result<(Node, Vec<String>)>, mut problems: Problems) -> Result<Loaded, Problems> {
        let (mut root, files) = match merged {
            Ok(merged) => merged,
            Err(error) => {
                problems.errors.push(error);
                return Err(problems);
            }
        };
        root.interpolate(self.environment, &mut problems.errors);
        let system = System { name: name.to_owned(), ..typed::read(&root, &mut problems.errors) };
        let mut warnings = Vec::new();
        validate::check(&root, &system, &mut problems.errors, &mut warnings);
        problems.or(Loaded { system, warnings, files })
    }

    /// The tree of a system laid over those it extends, and their files.
    fn merged(&self, name: &str, way: &mut Vec<String>, problems: &mut Problems) -> Result<(Node, Vec<String>)> {
        let again = way.iter().filter(|seen| *seen == name).count();
        // A file called like a built-in system may extend that one; nothing else comes back to itself.
        let shadowed = again == 1 && way.last().is_some_and(|last| last == name) && self.file(name).is_some();
        way.push(name.to_owned());
        if again > 0 && !shadowed {
            return Err(Error::new(Kind::Config, format!("systems extend each other in a circle: {}", way.join(" → "))));
        }
        let tree = match self.file(name).filter(|_| !shadowed) {
            Some(path) => problems.parse(&path.display().to_string(), &project::file(&path)?),
            None => self.builtin(name, problems)?,
        };
        self.extended(tree, way, problems)
    }

    /// A tree laid over those it extends, and their files.
    fn extended(&self, mut tree: Node, way: &mut Vec<String>, problems: &mut Problems) -> Result<(Node, Vec<String>)> {
        let file = tree.place.file.clone();
        let Some(place) = tree.at(&["extends"]).map(|node| node.place.clone()) else {
            reject_removal(&mut tree, &mut problems.errors);
            return Ok((tree, vec![file]));
        };
        let parent = tree.text(&["extends"]).unwrap_or_default().to_owned();
        let (mut below, files) = self.merged(&parent, way, problems).map_err(|error| error.at(place))?;
        remove(&mut below, &mut tree, &mut problems.errors);
        below.overlay(tree);
        Ok((below, [vec![file], files].concat()))
    }

    /// The file of a system in the project.
    fn file(&self, name: &str) -> Option<PathBuf> {
        is_name(name).then(|| self.directory.join(format!("{name}.toml"))).filter(|path| path.is_file())
    }

    fn builtin(&self, name: &str, problems: &mut Problems) -> Result<Node> {
        let Some((_, text)) = BUILTIN.iter().find(|(builtin, _)| *builtin == name) else {
            let names = self.names();
            return Err(Error::new(Kind::Usage, format!("there is no system `{name}`")).suggest(name, &names));
        };
        Ok(problems.parse(&format!("built-in/{name}.toml"), text))
    }
}

/// Whether it can be the name of a system: no path leads out of the directory.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_'))
}

/// Takes out of a system what the overlay's `remove` names: `remove = ["endpoints.public"]`.
fn remove(below: &mut Node, overlay: &mut Node, problems: &mut Vec<Error>) {
    let Some(list) = overlay.take(&["remove"]) else { return };
    let Data::List(items) = list.data else {
        problems.push(Error::new(Kind::Config, "`remove` is not a list").hint("write `remove = [\"endpoints.public\"]`").at(list.place));
        return;
    };
    for item in items {
        let text = item.json().as_str().unwrap_or_default().to_owned();
        let path: Vec<&str> = text.split('.').collect();
        if below.take(&path).is_none() {
            problems.push(
                Error::new(Kind::Config, format!("`remove`: the system below has no `{text}`"))
                    .hint("write the dotted name of a key: `endpoints.public`")
                    .at(item.place),
            );
        }
    }
}

fn reject_removal(tree: &mut Node, problems: &mut Vec<Error>) {
    if let Some(list) = tree.take(&["remove"]) {
        problems.push(Error::new(Kind::Config, "`remove` without `extends`: there is nothing to remove it from").at(list.key));
    }
}
