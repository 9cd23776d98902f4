//! Which settings hold, and where each of them comes from.
//!
//! A flag beats the environment, which beats the project's file, the user's, the machine's and the
//! defaults. What is denied by any file stays denied, and what one pins stays pinned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::guard::{self, Care};
use crate::config::keys::{KEYS, KeyKind, defaults};
use crate::config::node::{Data, Node};
use crate::config::systems::Problems;
use crate::config::{Environment, Settings, Systems, typed};
use crate::error::{Error, Kind, Place};

/// The name of the settings file.
pub const FILE: &str = "runbook.toml";

/// The directory of the machine's settings.
const MACHINE: &str = "/etc/runbook";

/// What the command line says about settings.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `-C`: where to look for the project.
    pub directory: PathBuf,
    /// `--config`: the project's file, wherever it is and whatever its name.
    pub config: Option<PathBuf>,
    /// Single keys: `limits.memory` → `1GiB`.
    pub set: BTreeMap<String, String>,
}

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// [`KEYS`].
    Default,
    /// The machine's file.
    Machine(PathBuf),
    /// The user's file.
    User(PathBuf),
    /// The project's file.
    Project(PathBuf),
    /// This variable of the environment.
    Environment(String),
    /// A flag.
    Flag,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Machine(path) | Self::User(path) | Self::Project(path) => write!(f, "{}", path.display()),
            Self::Environment(variable) => write!(f, "${variable}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// A directory with settings, runbooks and systems.
#[derive(Debug, Clone)]
pub struct Project {
    /// The directory of the settings file; where it was looked for when there is none.
    pub root: PathBuf,
    /// The settings that hold.
    pub settings: Settings,
    /// Where each setting comes from, by dotted name.
    pub origins: BTreeMap<String, Origin>,
}

impl Project {
    /// Finds the settings and reads them.
    ///
    /// # Errors
    ///
    /// All that is wrong with the files, each with its place.
    pub fn find(environment: &Environment, flags: &Flags) -> Result<Self, Problems> {
        Self::find_in(Path::new(MACHINE), environment, flags)
    }

    /// The defaults with the environment and the flags, as if there were no files.
    ///
    /// # Errors
    ///
    /// What is wrong with the environment or the flags.
    pub fn builtin(environment: &Environment, flags: &Flags) -> Result<Self, Problems> {
        Self::read(flags.directory.clone(), Vec::new(), environment, flags)
    }

    fn find_in(machine: &Path, environment: &Environment, flags: &Flags) -> Result<Self, Problems> {
        let machine = Origin::Machine(machine.join(FILE));
        let user = environment.home_or("XDG_CONFIG_HOME", ".config").map(|directory| Origin::User(directory.join("runbook").join(FILE)));
        let named = flags.config.clone().or_else(|| environment.get("RUNBOOK_CONFIG").map(PathBuf::from));
        let project = match named {
            Some(path) => Some(Origin::Project(flags.directory.join(path))),
            None => nearest(&flags.directory).map(Origin::Project),
        };
        let is_there = |origin: &Origin| matches!(origin, Origin::Project(_)) || origin.file().is_some_and(Path::exists);
        let files: Vec<Origin> = [Some(machine), user, project].into_iter().flatten().filter(is_there).collect();
        let root = files.last().and_then(|origin| origin.file()?.parent()).unwrap_or(&flags.directory).to_owned();
        Self::read(root, files, environment, flags)
    }

    fn read(root: PathBuf, files: Vec<Origin>, environment: &Environment, flags: &Flags) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut layers = vec![(Origin::Default, problems.parse("default", &defaults()))];
        for origin in files {
            if let Some(layer) = origin.file().and_then(|path| problems.read(path)) {
                layers.push((origin, layer));
            }
        }
        for key in KEYS.iter().filter(|key| settable(key.kind) && !key.name.contains("NAME")) {
            let variable = format!("RUNBOOK_{}", key.name.replace('.', "_").to_uppercase());
            if let Some(text) = environment.get(&variable) {
                let layer = single(key.name, key.kind, text, &format!("${variable}"));
                layers.push((Origin::Environment(variable), layer));
            }
        }
        for (name, text) in &flags.set {
            match KEYS.iter().find(|key| key.name == name && settable(key.kind)) {
                Some(key) => layers.push((Origin::Flag, single(name, key.kind, text, &format!("--set {name}")))),
                None => problems.errors.push(Error::new(Kind::Usage, format!("`{name}` can not be set on the command line"))),
            }
        }
        let (merged, origins) = merge(layers, &mut problems.errors);
        let settings: Settings = typed::read(&merged, &mut problems.errors);
        check(&merged, &settings, &mut problems.errors);
        problems.or(Self { root, settings, origins })
    }

    /// The directory of the runbooks.
    pub fn runbooks(&self) -> PathBuf {
        self.root.join(&self.settings.runbooks)
    }

    /// The systems of the project and the built-in ones.
    pub fn systems<'e>(&self, environment: &'e Environment) -> Systems<'e> {
        Systems::new(self.runbooks().join("systems"), environment)
    }
}

impl Origin {
    fn file(&self) -> Option<&Path> {
        match self {
            Self::Machine(path) | Self::User(path) | Self::Project(path) => Some(path),
            Self::Default | Self::Environment(_) | Self::Flag => None,
        }
    }
}

/// The settings file of this directory or the nearest one above it.
fn nearest(directory: &Path) -> Option<PathBuf> {
    let directory = std::path::absolute(directory).ok()?;
    directory.ancestors().map(|above| above.join(FILE)).find(|path| path.is_file())
}

fn settable(kind: KeyKind) -> bool {
    !matches!(kind, KeyKind::List | KeyKind::Permissions)
}

/// A layer with a single key, whose text is read as its kind wants it.
fn single(name: &str, kind: KeyKind, text: &str, source: &str) -> Node {
    let value = match kind {
        KeyKind::Int => text.parse::<i64>().map_or_else(|_| json!(text), Value::from),
        KeyKind::Bool => text.parse::<bool>().map_or_else(|_| json!(text), Value::from),
        _ => json!(text),
    };
    let place = Place { file: source.to_owned(), line: 0, column: 0 };
    let node = |data| Node { data, place: place.clone(), key: place.clone() };
    name.rsplit('.').fold(node(Data::Plain(value)), |inner, key| node(Data::Table([(key.to_owned(), inner)].into())))
}

/// Lays the layers over one another, lowest first, and notes where each value comes from.
fn merge(layers: Vec<(Origin, Node)>, problems: &mut Vec<Error>) -> (Node, BTreeMap<String, Origin>) {
    let mut merged = Node::empty("default");
    let mut origins = BTreeMap::new();
    for (origin, mut layer) in layers {
        keep_denials(&merged, &mut layer, problems);
        for path in layer.leaves().into_iter().filter(|path| !path.is_empty()) {
            origins.insert(path.join("."), origin.clone());
        }
        merged.overlay(layer);
    }
    (merged, origins)
}

/// A layer adds to what is denied below it and can not lift a pin: who may deny may not be overruled by a project.
fn keep_denials(below: &Node, layer: &mut Node, problems: &mut Vec<Error>) {
    if below.at(&["policy", "pin"]).is_some_and(|pin| pin.json() == true) {
        layer.take(&["policy", "pin"]);
    }
    if let (Some(lower), Some(upper)) = (below.at(&["policy", "deny"]), layer.at_mut(&["policy", "deny"])) {
        unite(lower, upper, problems);
    }
}

fn unite(lower: &Node, upper: &mut Node, problems: &mut Vec<Error>) {
    match (&lower.data, &mut upper.data) {
        (Data::List(below), Data::List(above)) => above.extend(below.iter().cloned()),
        (Data::Table(below), Data::Table(above)) => {
            for (key, node) in above {
                if let Some(lower) = below.get(key) {
                    unite(lower, node, problems);
                }
            }
        }
        _ => problems.push(
            Error::new(Kind::Config, "what is denied here is written in another form than in the file below it")
                .hint(format!("write it as at {}", lower.place))
                .at(upper.place.clone()),
        ),
    }
}

fn check(root: &Node, settings: &Settings, problems: &mut Vec<Error>) {
    let mut wrong = |path: &[&str], message: String, hint: &str| {
        let place = root.at(path).unwrap_or(root).place.clone();
        problems.push(Error::new(Kind::Config, message).hint(hint).at(place));
    };
    if !matches!(settings.language.as_str(), "en" | "zh") {
        wrong(&["language"], format!("`language`: found `{}`", settings.language), "there are `en` and `zh`");
    }
    for (name, source) in &settings.secrets {
        if source.places() != 1 {
            let message = format!("`secrets.{name}` has {} places it comes from, expected one", source.places());
            wrong(&["secrets", name], message, "give `file`, `env`, `credential` or `command`");
        }
        if source.command.as_ref().is_some_and(Vec::is_empty) {
            wrong(&["secrets", name, "command"], format!("`secrets.{name}.command` is empty"), "write the program and its arguments");
        }
    }
    for (name, number) in [("processes", settings.limits.processes), ("files", settings.limits.files), ("runs", settings.limits.runs)] {
        if number == 0 {
            wrong(&["limits", name], format!("`limits.{name}`: found 0, expected at least 1"), "nothing could run");
        }
    }
}

/// Reads a settings or system file that nobody else may write.
pub(super) fn file(path: &Path) -> crate::error::Result<String> {
    guard::read(path, Care::Settings)
}
