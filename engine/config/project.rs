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
use crate::config::policy::check_roles;
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
    !matches!(kind, KeyKind::List | KeyKind::Permissions | KeyKind::Table)
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

/// A layer adds to what is denied below it, can not lift a pin, and gives no roles where there are some: who owns the
/// machine may not be overruled by a project.
fn keep_denials(below: &Node, layer: &mut Node, problems: &mut Vec<Error>) {
    if below.at(&["policy", "pin"]).is_some_and(|pin| pin.json() == true) {
        layer.take(&["policy", "pin"]);
    }
    for deny in [&["policy", "deny"][..], &["policy", "attended", "deny"], &["policy", "unattended", "deny"]] {
        if let (Some(lower), Some(upper)) = (below.at(deny), layer.at_mut(deny)) {
            unite(lower, upper, problems);
        }
    }
    if let (Some(lower), Some(upper)) = (below.at(&["policy", "roles"]), layer.at(&["policy", "roles"])) {
        problems.push(
            Error::new(Kind::Config, "who may do what is said in another file already, and not here")
                .hint(format!("leave `[policy.roles]` to the one at {}", lower.place))
                .at(upper.place.clone()),
        );
        layer.take(&["policy", "roles"]);
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
        // A value that is of the wrong type stands at nothing here; that was told already.
        if !problems.iter().any(|error| error.at.as_ref() == Some(&place)) {
            problems.push(Error::new(Kind::Config, message).hint(hint).at(place));
        }
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
    check_roles(root, &settings.policy.roles, problems);
}

/// Reads a settings or system file that nobody else may write.
pub(super) fn file(path: &Path) -> crate::error::Result<String> {
    guard::read(path, Care::Settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;

    /// A machine with a project, a user and files for everybody.
    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(dir.path().join("project/deep/below")).unwrap();
            for (name, text) in files {
                let path = dir.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Self { dir }
        }

        fn find_with(&self, variables: &[(&str, &str)], set: &[(&str, &str)]) -> Result<Project, Problems> {
            let home = self.dir.path().join("home");
            let home = [("HOME", home.to_str().unwrap())];
            let environment = home.iter().chain(variables).copied().collect();
            let set = set.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
            let flags = Flags { directory: self.dir.path().join("project/deep/below"), config: None, set };
            Project::find_in(&self.dir.path().join("etc"), &environment, &flags)
        }

        fn find(&self) -> Result<Project, Problems> {
            self.find_with(&[], &[])
        }
    }

    const USER: &str = "home/.config/runbook/runbook.toml";

    #[test]
    fn the_nearest_file_above_is_the_project() {
        let place = Place::new(&[("project/runbook.toml", "language = \"zh\""), ("runbook.toml", "language = \"en\"")]);
        let project = place.find().unwrap();
        assert_eq!((project.root, project.settings.language.as_str()), (place.dir.path().join("project"), "zh"));
    }

    #[test]
    fn without_a_project_it_is_the_users_and_then_the_machines() {
        let place = Place::new(&[(USER, ""), ("etc/runbook.toml", "")]);
        assert_eq!(place.find().unwrap().root, place.dir.path().join("home/.config/runbook"));
        let place = Place::new(&[("etc/runbook.toml", "")]);
        assert_eq!(place.find().unwrap().root, place.dir.path().join("etc"));
    }

    #[test]
    fn each_value_comes_from_the_highest_that_has_it_and_says_so() {
        let place = Place::new(&[
            ("etc/runbook.toml", "[limits]\nmemory = \"1GiB\"\ntimeout = \"2h\"\nruns = 2\nfiles = 99\n"),
            (USER, "limits.timeout = \"3h\"\nlimits.runs = 3\nlimits.files = 98\n"),
            ("project/runbook.toml", "limits.runs = 5\nlimits.files = 97\n"),
        ]);
        let project = place.find_with(&[("RUNBOOK_LIMITS_FILES", "96"), ("RUNBOOK_LANGUAGE", "zh")], &[("language", "en")]).unwrap();
        let limits = &project.settings.limits;
        assert_eq!((limits.memory.0, limits.timeout, limits.runs, limits.files), (1 << 30, Span::secs(10_800), 5, 96));
        assert_eq!(project.origins["limits.memory"], Origin::Machine(place.dir.path().join("etc/runbook.toml")));
        assert_eq!(project.origins["limits.runs"], Origin::Project(place.dir.path().join("project/runbook.toml")));
        assert_eq!(project.origins["limits.files"], Origin::Environment("RUNBOOK_LIMITS_FILES".to_owned()));
        assert_eq!((&project.origins["language"], &project.origins["sandbox"]), (&Origin::Flag, &Origin::Default));
    }

    #[test]
    fn a_project_can_not_lift_what_the_machine_denies() {
        let place = Place::new(&[
            ("etc/runbook.toml", "[policy]\npin = true\n[policy.deny]\nexec = [\"/bin/sh\"]\nfs = { write = [\"/etc\"] }\n"),
            ("project/runbook.toml", "[policy]\npin = false\n[policy.deny]\nexec = [\"/bin/rm\"]\nfs = { write = [] }\n"),
        ]);
        let policy = place.find().unwrap().settings.policy;
        assert_eq!(json!(policy.deny), json!({ "exec": ["/bin/rm", "/bin/sh"], "fs": { "write": ["/etc"] } }));
        assert!(policy.pin);
    }

    #[test]
    fn a_project_gives_no_roles_where_the_machine_has_some() {
        let role = "members = [\"jo\"]\nrunbooks = [\"*\"]\nmay = [\"run\"]\n";
        let machine = format!("[policy.roles.lead]\n{role}[policy.unattended.deny]\nexec = [\"/bin/sh\"]\n");
        let files = |project: &str| Place::new(&[("etc/runbook.toml", &machine), ("project/runbook.toml", project)]).find();
        let problems = files(&format!("[policy.roles.lead]\n{}", role.replace("jo", "maya"))).unwrap_err();
        assert_eq!(problems.errors.len(), 1, "{problems:?}");
        assert!(problems.errors[0].message.contains("in another file already"), "{problems:?}");
        let policy = files("[policy.unattended.deny]\nexec = [\"/bin/rm\"]\n").unwrap().settings.policy;
        assert_eq!(json!(policy.unattended.deny), json!({ "exec": ["/bin/rm", "/bin/sh"] }));
    }

    #[test]
    fn a_role_that_says_too_little_or_names_what_is_not_there_is_told() {
        let text = "[policy.roles.a]\nmembers = [\"@scedule\"]\nmay = [\"run\"]\n[policy.roles.b]\nmembers = [\"jo\"]\nmay = [\"fly\"]\n";
        let problems = Place::new(&[("project/runbook.toml", text)]).find().unwrap_err();
        let all: Vec<String> = problems.errors.iter().map(|error| format!("{} {:?}", error.message, error.hints)).collect();
        assert_eq!(
            all,
            [
                "`policy.roles.a` has no `runbooks` [\"write `[\\\"*\\\"]` for all\"]",
                "`policy.roles.a.members`: found `@scedule` [\"did you mean `@schedule`?\"]",
                "`policy.roles.b.may.0`: found `fly` [\"there are `plan`, `run`, `approve`, `cancel` and `manage`\"]",
            ]
        );
    }

    #[test]
    fn everything_wrong_with_the_settings_is_told_with_its_place() {
        let text = "langage = \"en\"\n[limits]\nmemory = \"lots\"\nruns = 0\n[secrets.db]\nfile = \"a\"\nenv = \"B\"\n";
        let place = Place::new(&[("project/runbook.toml", text)]);
        let problems = place.find_with(&[("RUNBOOK_LIMITS_PROCESSES", "many")], &[]).unwrap_err();
        let file = format!("{}/", place.dir.path().join("project").display());
        let all: Vec<String> = problems.errors.iter().map(|error| error.to_string().replace(&file, "")).collect();
        assert_eq!(
            all,
            [
                "$RUNBOOK_LIMITS_PROCESSES: `limits.processes`: found string \"many\", expected a whole number",
                "runbook.toml:1:1: unknown key `langage`",
                "runbook.toml:3:10: `limits.memory`: `lots` is not a size",
                "runbook.toml:4:8: `limits.runs`: found 0, expected at least 1",
                "runbook.toml:5:1: `secrets.db` has 2 places it comes from, expected one",
            ]
        );
    }

    #[test]
    fn a_named_file_that_is_not_there_is_an_error_and_no_default() {
        let place = Place::new(&[]);
        let flags = Flags { directory: place.dir.path().to_owned(), config: Some("other.toml".into()), ..Flags::default() };
        let problems = Project::find_in(place.dir.path(), &Environment::default(), &flags).unwrap_err();
        assert!(problems.errors[0].message.contains("can not read"), "{problems:?}");
    }
}
