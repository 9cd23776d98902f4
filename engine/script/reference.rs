//! The reference: every function a script can call, from the metadata of the engine, the tables of
//! the host modules and the texts of the stdlib. What it says can not drift from what there is.

use std::collections::BTreeMap;

use rhai::{Engine, FnAccess, FuncInfo};
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::host::{self, Function, FunctionKind, Need, NeedObject};
use crate::script::{Language, STDLIB, compile, language};

/// A namespace of functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModuleEntry {
    /// How scripts name it; `language` for the functions without a module.
    pub name: String,
    /// Where its functions come from.
    pub origin: ModuleOrigin,
    /// One line.
    pub summary: String,
    /// Its functions, in the order of its table.
    pub functions: Vec<FunctionEntry>,
}

/// Where functions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleOrigin {
    /// The language itself.
    Language,
    /// A host module: `sys::cpu()`.
    Host,
    /// A module of the stdlib, which is imported.
    Stdlib,
}

/// A function with all its forms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FunctionEntry {
    /// How scripts call it: `sys::cpu`.
    pub name: String,
    /// `pure`, `read` or `effect`; nothing for the stdlib, whose functions are scripts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// The permissions it needs, as a header asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub need: Option<String>,
    /// What a plan shows of it.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub plan: &'static str,
    /// The keys of its options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The ways to call it.
    pub forms: Vec<FormEntry>,
}

/// One way to call a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FormEntry {
    /// Name, arguments and result.
    pub signature: String,
    /// Its manual, in Markdown; the first paragraph is a summary.
    pub manual: String,
    /// The examples of the manual.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Example>,
}

/// An example that evaluates to `true`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The script.
    pub script: String,
    /// Whether it needs the servers of the lab.
    pub lab: bool,
}

impl FunctionEntry {
    /// The first sentence of its manual.
    pub fn summary(&self) -> &str {
        let first = self.forms.iter().map(|form| form.manual.as_str()).find(|manual| !manual.is_empty()).unwrap_or_default();
        let paragraph = first.split("\n\n").next().unwrap_or_default();
        paragraph.split_once(". ").map_or(paragraph, |(sentence, _)| sentence).trim_end_matches('.')
    }

    /// Every example of its forms.
    pub fn examples(&self) -> impl Iterator<Item = &Example> {
        self.forms.iter().flat_map(|form| &form.examples)
    }
}

/// Every module: the language, the host modules by name, the stdlib.
pub fn reference() -> Vec<ModuleEntry> {
    let mut forms = collect(&Language::shared().whole());
    let mut modules = vec![the_language()];
    let mut host: Vec<ModuleEntry> = host::modules()
        .map(|module| ModuleEntry {
            // The namespace is its name; a second module of the same name would hide the first.
            name: module.name.to_owned(),
            origin: ModuleOrigin::Host,
            summary: module.summary.to_owned(),
            functions: module
                .functions
                .iter()
                .map(|function| {
                    let key = (module.name.to_owned(), function.name.to_owned());
                    entry(Some(module.name), function.name, Some(function), forms.remove(&key).unwrap_or_default())
                })
                .collect(),
        })
        .collect();
    host.sort_by(|a, b| a.name.cmp(&b.name));
    modules.extend(host);
    modules.extend(STDLIB.iter().filter_map(|(path, text)| of_stdlib(path, text)));
    modules
}

/// What a name means: a module, a function with its module, or a function of any module.
///
/// # Errors
///
/// `usage`, with the name that was probably meant.
pub fn look_up(modules: &[ModuleEntry], name: &str) -> Result<Vec<ModuleEntry>> {
    let name = name.trim_end_matches("()").trim_end_matches("::");
    if let Some(module) = modules.iter().find(|module| module.name == name) {
        return Ok(vec![module.clone()]);
    }
    let is_meant = |function: &FunctionEntry| function.name == name || function.name.rsplit("::").next() == Some(name);
    let found = narrowed(modules, is_meant);
    if !found.is_empty() {
        return Ok(found);
    }
    let names: Vec<String> = modules
        .iter()
        .flat_map(|module| std::iter::once(module.name.clone()).chain(module.functions.iter().map(|function| function.name.clone())))
        .collect();
    let shorts: Vec<String> = names.iter().filter_map(|name| Some(name.split_once("::")?.1.to_owned())).collect();
    let error = Error::new(Kind::Usage, format!("there is no function or module `{name}`"));
    Err(error.suggest_or(name, names.iter().chain(&shorts), || {
        format!("`runbook docs` lists them; `runbook docs --search {name}` looks into the manuals")
    }))
}

/// The functions whose name or manual has this word.
pub fn search(modules: &[ModuleEntry], word: &str) -> Vec<ModuleEntry> {
    let word = word.to_lowercase();
    narrowed(modules, |function| {
        function.name.to_lowercase().contains(&word) || function.forms.iter().any(|form| form.manual.to_lowercase().contains(&word))
    })
}

fn narrowed(modules: &[ModuleEntry], keep: impl Fn(&FunctionEntry) -> bool) -> Vec<ModuleEntry> {
    modules
        .iter()
        .filter_map(|module| {
            let functions: Vec<FunctionEntry> = module.functions.iter().filter(|function| keep(function)).cloned().collect();
            (!functions.is_empty()).then(|| ModuleEntry { functions, ..module.clone() })
        })
        .collect()
}

/// The definition files of the Rhai language server: name and text.
pub fn definitions() -> Vec<(String, String)> {
    let engine = Language::shared().whole();
    let definitions = engine.definitions();
    definitions.iter_files().collect()
}

type Forms = BTreeMap<(String, String), Vec<(usize, FormEntry)>>;

fn collect(engine: &Engine) -> Forms {
    let mut forms = Forms::new();
    for (module, name, arguments, form) in engine.collect_fn_metadata(None, form, false) {
        forms.entry((module, name)).or_default().push((arguments, form));
    }
    forms
}

fn the_language() -> ModuleEntry {
    let mut engine = Engine::new_raw();
    engine.register_static_module("language", language::module().into());
    let functions = collect(&engine).into_iter().map(|((_, name), forms)| {
        let declared = language::FUNCTIONS.iter().find(|function| function.name == name);
        entry(None, &name, declared, forms)
    });
    ModuleEntry {
        name: "language".to_owned(),
        origin: ModuleOrigin::Language,
        summary: "steps, checks, parallel work and outputs; what Rhai's own texts and lists lack".to_owned(),
        functions: functions.collect(),
    }
}

fn entry(module: Option<&str>, name: &str, declared: Option<&Function>, mut forms: Vec<(usize, FormEntry)>) -> FunctionEntry {
    forms.sort_by(|(a, left), (b, right)| a.cmp(b).then_with(|| left.signature.cmp(&right.signature)));
    FunctionEntry {
        name: module.map_or(name.to_owned(), |module| format!("{module}::{name}")),
        kind: Some(declared.map_or("pure", |function| match function.kind {
            FunctionKind::Pure => "pure",
            FunctionKind::Read => "read",
            FunctionKind::Effect => "effect",
        })),
        need: declared.and_then(need),
        plan: declared.map_or("", |function| function.plan),
        options: declared.map(option_keys).unwrap_or_default(),
        forms: forms.into_iter().map(|(_, form)| form).collect(),
    }
}

fn need(function: &Function) -> Option<String> {
    let needs: Vec<String> = function.all_needs().map(need_in_words).collect();
    let joint = if function.one_is_enough { " or " } else { " and " };
    (!needs.is_empty()).then(|| needs.join(joint))
}

fn need_in_words(need: &Need) -> String {
    let object = match need.object {
        NeedObject::Fixed(object) => object.to_owned(),
        NeedObject::Argument(0) => "its first argument".to_owned(),
        NeedObject::Argument(1) => "its second argument".to_owned(),
        NeedObject::Argument(place) => format!("its argument {}", place + 1),
    };
    format!("{}: {} {object}", need.section, need.verb)
}

/// Serde names every key when it meets one it does not know.
fn option_keys(function: &Function) -> Vec<String> {
    let nonsense: rhai::Map = [("?".into(), rhai::Dynamic::UNIT)].into_iter().collect();
    function.options.and_then(|check| check(&nonsense.into()).err()).map(|error| error.known).unwrap_or_default()
}

fn form(info: FuncInfo<'_>) -> Option<(String, String, usize, FormEntry)> {
    let function = info.metadata;
    if info.namespace.is_empty() || !is_name(&function.name) {
        return None;
    }
    let arguments: Vec<String> = function.params_info.iter().map(|param| argument(param)).collect();
    let returned = in_words(&function.return_type);
    let result = if returned == "nothing" { String::new() } else { format!(" -> {returned}") };
    let prefix = if info.namespace == "language" { String::new() } else { format!("{}::", info.namespace) };
    let signature = format!("{prefix}{}({}){result}", function.name, arguments.join(", "));
    let comments: Vec<&str> = function.comments.iter().flat_map(|comment| comment.lines()).collect();
    let manual = manual_of(&comments);
    let examples = examples_in(&manual);
    Some((info.namespace.to_string(), function.name.to_string(), function.num_params, FormEntry { signature, manual, examples }))
}

/// Whether it is a function of its own: getters, operators and closures are not.
fn is_name(name: &str) -> bool {
    name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

fn argument(param: &str) -> String {
    match param.split_once(':') {
        Some((name, kind)) => format!("{}: {}", name.trim().trim_start_matches('_').trim_start_matches("mut "), in_words(kind)),
        None => param.to_owned(),
    }
}

/// A type as a script writer thinks of it.
fn in_words(kind: &str) -> &str {
    let kind = kind.trim();
    let inner = kind.strip_prefix("RhaiResultOf<").and_then(|rest| rest.strip_suffix('>')).unwrap_or(kind).trim();
    match inner.trim_start_matches('&').trim_start_matches("mut ").trim() {
        "str" | "String" | "ImmutableString" | "string" => "text",
        "char" => "letter",
        "i64" | "INT" => "int",
        "f64" | "FLOAT" => "float",
        "Map" | "map" => "map",
        "Array" | "array" => "list",
        "Blob" | "blob" => "blob",
        "FnPtr" | "Fn" => "function",
        "Dynamic" | "?" => "value",
        "()" | "" => "nothing",
        other => other.rsplit("::").next().unwrap_or(other),
    }
}

fn manual_of(comments: &[&str]) -> String {
    let lines = comments.iter().map(|line| {
        let line = line.trim_start();
        let text = line.trim_start_matches('/').trim_start_matches('!');
        text.strip_prefix(' ').unwrap_or(text)
    });
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// The fenced examples of a manual.
fn examples_in(manual: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut open: Option<(bool, Vec<&str>)> = None;
    for line in manual.lines() {
        match (&mut open, line.trim()) {
            (None, "```rhai") => open = Some((false, Vec::new())),
            (None, "```rhai,lab") => open = Some((true, Vec::new())),
            (Some(_), "```") => {
                if let Some((lab, lines)) = open.take() {
                    examples.push(Example { script: lines.join("\n"), lab });
                }
            }
            (Some((_, lines)), _) => lines.push(line),
            (None, _) => {}
        }
    }
    examples
}

/// A module of the stdlib; one that does not compile is told by the check, not here.
fn of_stdlib(path: &str, text: &str) -> Option<ModuleEntry> {
    let ast = compile(path, text).ok()?;
    let manual = manual_of(&ast.doc().lines().collect::<Vec<_>>());
    let mut functions = BTreeMap::<String, Vec<(usize, FormEntry)>>::new();
    for function in ast.iter_functions().filter(|function| function.access == FnAccess::Public && is_name(function.name)) {
        let comments: Vec<&str> = function.comments.iter().flat_map(|comment| comment.lines()).collect();
        let manual = manual_of(&comments);
        let signature = format!("{}({})", function.name, function.params.join(", "));
        let examples = examples_in(&manual);
        functions.entry(function.name.to_owned()).or_default().push((function.params.len(), FormEntry { signature, manual, examples }));
    }
    let short = path.rsplit('/').next().unwrap_or(path);
    let functions = functions.into_iter().map(|(name, forms)| FunctionEntry { kind: None, ..entry(Some(short), &name, None, forms) });
    Some(ModuleEntry {
        name: path.to_owned(),
        origin: ModuleOrigin::Stdlib,
        summary: manual.lines().next().unwrap_or_default().to_owned(),
        functions: functions.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_told_with_its_forms_need_options_and_examples() {
        let modules = reference();
        let cpu = &look_up(&modules, "sys::cpu").unwrap()[0].functions[0];
        let signatures: Vec<&str> = cpu.forms.iter().map(|form| form.signature.as_str()).collect();
        assert_eq!(signatures, ["sys::cpu() -> value", "sys::cpu(options: map) -> value"]);
        assert_eq!(
            (cpu.kind, cpu.need.as_deref(), cpu.options.as_slice()),
            (Some("read"), Some("sys: read cpu"), &["over".to_owned()][..])
        );
        assert_eq!(cpu.examples().count(), 1);
        assert!(!cpu.examples().next().unwrap().lab);
    }

    #[test]
    fn the_language_is_in_it_without_what_is_rhais_own() {
        let modules = reference();
        let language = &look_up(&modules, "language").unwrap()[0];
        assert!(language.functions.iter().any(|function| function.name == "step" && function.options.contains(&"retry".to_owned())));
        assert!(!language.functions.iter().any(|function| function.name == "push"));
    }

    #[test]
    fn a_near_miss_is_suggested() {
        let error = look_up(&reference(), "htpt").unwrap_err();
        assert_eq!(error.hints, ["did you mean `http`?"]);
        assert!(look_up(&reference(), "memory").unwrap().iter().any(|module| module.name == "sys"));
    }

    #[test]
    fn a_search_looks_into_manuals() {
        assert!(search(&reference(), "LOAD AVERAGES").iter().any(|module| module.name == "sys"));
        assert!(search(&reference(), "no such words at all").is_empty());
    }

    /// Every function has a manual and an example, and an effect says what a plan shows of it.
    #[test]
    fn every_function_has_a_summary_an_example_and_says_what_it_needs() {
        let mut wrong = Vec::new();
        for module in reference().iter().filter(|module| module.origin == ModuleOrigin::Host) {
            assert!(!module.summary.is_empty(), "{}", module.name);
            for function in &module.functions {
                if function.summary().is_empty() || function.forms.iter().any(|form| form.manual.is_empty()) {
                    wrong.push(format!("`{}` has a form without a manual", function.name));
                }
                if function.examples().next().is_none() {
                    wrong.push(format!("`{}` has no example", function.name));
                }
                if (function.kind == Some("effect")) == function.plan.is_empty() {
                    wrong.push(format!("`{}`: an effect, and nothing else, says what a plan shows", function.name));
                }
                let says_need = function.need.is_some() || function.forms.iter().any(|form| form.manual.contains("eeds"));
                if function.kind != Some("pure") && !says_need {
                    wrong.push(format!("`{}` says nothing of the permission it needs", function.name));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
