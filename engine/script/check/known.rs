//! What a script can call, from the metadata of the engine itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use rhai::{Engine, FuncInfo};

use crate::host::{self, Function};
use crate::script::{Language, language};

/// Functions the engine knows by name; no package registers them.
const KEYWORDS: [&str; 9] = ["Fn", "call", "curry", "type_of", "print", "debug", "is_shared", "is_def_var", "is_def_fn"];

/// One way to call a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// Whether it returns nothing, in all its overloads.
    pub(super) nothing: bool,
    /// Which argument is the map of options, in any of them.
    pub(super) options: Option<usize>,
}

/// The forms of a function, by the number of its arguments.
pub(super) type Forms = BTreeMap<usize, Form>;

/// The forms of functions by their name.
type Functions = BTreeMap<String, Forms>;

/// Everything a script can call without importing it.
pub(super) struct Known {
    /// Functions without a module; their forms count the value before the dot as an argument.
    globals: OnceLock<Functions>,
    modules: BTreeMap<String, OnceLock<Functions>>,
}

impl Known {
    /// That of this binary.
    pub(super) fn shared() -> &'static Self {
        static KNOWN: OnceLock<Known> = OnceLock::new();
        KNOWN.get_or_init(|| Self {
            globals: OnceLock::new(),
            modules: host::modules().map(|module| (module.name.to_owned(), OnceLock::new())).collect(),
        })
    }

    fn all_globals(&self) -> &Functions {
        self.globals.get_or_init(|| functions(&Language::shared().without_modules()))
    }

    /// The forms of a function without a module.
    pub(super) fn global(&self, name: &str) -> Option<&Forms> {
        self.all_globals().get(name)
    }

    /// The names of the functions without a module.
    pub(super) fn globals(&self) -> impl Iterator<Item = &String> {
        self.all_globals().keys().filter(|name| name.chars().all(|letter| letter.is_alphanumeric() || letter == '_'))
    }

    /// The functions of a host module.
    pub(super) fn module(&self, name: &str) -> Option<&Functions> {
        self.modules.get(name).map(|known| known.get_or_init(|| functions(&Language::shared().only(name))))
    }

    /// The names of the host modules.
    pub(super) fn modules(&self) -> impl Iterator<Item = &String> {
        self.modules.keys()
    }
}

/// The host modules that have a function of this name.
pub(super) fn modules_with(function: &str) -> impl Iterator<Item = &'static str> {
    host::modules().filter(move |module| module.functions.iter().any(|known| known.name == function)).map(|module| module.name)
}

fn functions(engine: &Engine) -> Functions {
    let mut functions = Functions::new();
    for (name, arguments, form) in engine.collect_fn_metadata(None, signature, true) {
        add(functions.entry(name).or_default(), arguments, form);
    }
    functions
}

/// Whether the engine itself knows the name.
pub(super) fn is_keyword(name: &str) -> bool {
    KEYWORDS.contains(&name)
}

/// What a function declares of itself; those of the language have no module.
pub(super) fn declared(module: Option<&str>, name: &str) -> Option<&'static Function> {
    let table = match module {
        Some(module) => host::modules().find(|known| known.name == module)?.functions,
        None => language::FUNCTIONS,
    };
    table.iter().find(|function| function.name == name)
}

/// The names in `system::`.
pub(super) fn system_fields() -> &'static BTreeSet<String> {
    static FIELDS: OnceLock<BTreeSet<String>> = OnceLock::new();
    FIELDS.get_or_init(|| {
        // Serde names every field when it meets one it does not know.
        let error = serde_json::from_value::<crate::model::System>(serde_json::json!({ "?": 0 })).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        let fields = text.split_once("expected ").map_or("", |(_, list)| list).split('`').skip(1).step_by(2);
        fields.map(str::to_owned).chain(["name".to_owned()]).collect()
    })
}

fn signature(info: FuncInfo<'_>) -> Option<(String, usize, Form)> {
    let function = info.metadata;
    let returned: String = function.return_type.split_whitespace().collect();
    let returned = returned.strip_prefix("RhaiResultOf<").and_then(|inner| inner.strip_suffix('>')).unwrap_or(&returned);
    let options = function.params_info.iter().position(|param| param.split(':').next().is_some_and(|name| name.trim() == "options"));
    let form = Form { nothing: matches!(returned, "()" | ""), options };
    Some((function.name.to_string(), function.num_params, form))
}

fn add(forms: &mut Forms, arguments: usize, form: Form) {
    let all = forms.entry(arguments).or_insert(form);
    all.nothing &= form.nothing;
    all.options = all.options.or(form.options);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_tells_forms_options_and_what_returns_nothing() {
        let known = Known::shared();
        assert_eq!(known.module("sys").unwrap()["cpu"].keys().copied().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(known.module("sys").unwrap()["cpu"][&1].options, Some(0));
        assert_eq!(known.global("step").unwrap()[&3].options, Some(1));
        assert!(known.global("push").unwrap()[&2].nothing);
        assert!(known.global("make_upper").unwrap()[&1].nothing);
        assert!(!known.global("trim").unwrap()[&1].nothing);
        assert!(!known.global("replace").unwrap()[&3].nothing);
        assert!(known.global("fail").unwrap()[&1].nothing);
    }

    #[test]
    fn every_field_a_script_sees_of_a_system_is_known() {
        let system = crate::model::System::default();
        let json = serde_json::to_value(&system).unwrap();
        assert!(json.as_object().unwrap().keys().all(|field| system_fields().contains(field)));
        assert!(system_fields().contains("backup"));
    }
}
