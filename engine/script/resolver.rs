//! Imports: the stdlib in the binary, and modules beside the runbook. Nothing else can be imported.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rhai::{AST, ASTNode, Engine, EvalAltResult, Expr, Module, ModuleResolver, Position, Scope, Shared, Stmt};

use crate::error::{Error, Kind, Place, Result};
use crate::host::argument::WrittenOptions;
use crate::script::compile;

/// The modules of the stdlib: import path and text.
pub const STDLIB: &[(&str, &str)] = &[
    ("stdlib/alerting", include_str!("../../stdlib/alerting.rhai")),
    ("stdlib/checklist", include_str!("../../stdlib/checklist.rhai")),
    ("stdlib/health", include_str!("../../stdlib/health.rhai")),
    ("stdlib/logbook", include_str!("../../stdlib/logbook.rhai")),
    ("stdlib/metrics", include_str!("../../stdlib/metrics.rhai")),
    ("stdlib/postgres", include_str!("../../stdlib/postgres.rhai")),
    ("stdlib/recovery", include_str!("../../stdlib/recovery.rhai")),
    ("stdlib/scaling", include_str!("../../stdlib/scaling.rhai")),
    ("stdlib/security", include_str!("../../stdlib/security.rhai")),
];

/// The text of a module of the stdlib.
pub fn stdlib(path: &str) -> Option<&'static str> {
    STDLIB.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
}

/// The import paths of a script, with their places.
///
/// # Errors
///
/// `script`, when a path is not a literal, or leads out of the runbook directory.
pub fn imports(ast: &AST, file: &str) -> Result<Vec<(String, Place)>> {
    let mut found = Ok(Vec::new());
    ast.walk(&mut |path: &[ASTNode]| {
        if let (Some(ASTNode::Stmt(Stmt::Import(import, _))), Ok(list)) = (path.last(), &mut found) {
            let position = import.0.start_position();
            let place = Place { file: file.to_owned(), line: position.line().unwrap_or(0), column: position.position().unwrap_or(0) };
            match import_path(&import.0, place) {
                Ok(import) => list.push(import),
                Err(error) => found = Err(error),
            }
        }
        found.is_ok()
    });
    found
}

fn import_path(expr: &Expr, place: Place) -> Result<(String, Place)> {
    let Expr::StringConstant(path, _) = expr else {
        return Err(Error::new(Kind::Script, "an import path is not a literal text")
            .at(place)
            .code("RB1006")
            .hint("modules are recorded before the run; write the path as a text"));
    };
    let segments_fine = path
        .split('/')
        .all(|segment| !segment.is_empty() && segment.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')));
    if !segments_fine {
        return Err(Error::new(Kind::Script, format!("`{path}` can not be imported"))
            .at(place)
            .code("RB1006")
            .hint("a path is letters, digits, `_` and `-`, with `/` between; only the stdlib and modules in the runbook directory can be imported"));
    }
    Ok((path.to_string(), place))
}

/// Every module a script imports, directly or not.
pub(super) fn collect(ast: &AST, file: &str, find: &impl Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>> {
    let mut modules = BTreeMap::new();
    follow(ast, file, find, &mut modules, &mut Vec::new())?;
    Ok(modules)
}

fn follow(
    ast: &AST,
    file: &str,
    find: &impl Fn(&str) -> Option<String>,
    modules: &mut BTreeMap<String, String>,
    open: &mut Vec<String>,
) -> Result<()> {
    for (path, place) in imports(ast, file)? {
        if open.contains(&path) {
            return Err(Error::new(Kind::Script, format!("`{path}` imports itself, by way of {}", open.join(" → ")))
                .at(place)
                .code("RB1007"));
        }
        if modules.contains_key(&path) {
            continue;
        }
        let text = stdlib(&path).map(str::to_owned).or_else(|| find(&path)).ok_or_else(|| {
            let error = Error::new(Kind::Script, format!("there is no module `{path}`")).at(place).code("RB1008");
            error.suggest_or(&path, STDLIB.iter().map(|(name, _)| *name), || {
                format!("a module of your own is `{path}.rhai` in the runbook directory")
            })
        })?;
        let module = compile(&path, &text)?;
        modules.insert(path.clone(), text);
        open.push(path.clone());
        follow(&module, &path, find, modules, open)?;
        open.pop();
    }
    Ok(())
}

/// Gives an engine the modules that were collected before the run.
pub(super) struct Modules {
    texts: BTreeMap<String, String>,
    made: Mutex<BTreeMap<String, Shared<Module>>>,
    written: Arc<WrittenOptions>,
}

impl Modules {
    pub(super) fn new(texts: BTreeMap<String, String>, written: Arc<WrittenOptions>) -> Self {
        Self { texts, made: Mutex::default(), written }
    }
}

impl ModuleResolver for Modules {
    fn resolve(
        &self,
        engine: &Engine,
        _: Option<&str>,
        path: &str,
        position: Position,
    ) -> std::result::Result<Shared<Module>, Box<EvalAltResult>> {
        if let Some(module) = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(path) {
            return Ok(module.clone());
        }
        let Some(text) = self.texts.get(path) else {
            return Err(EvalAltResult::ErrorModuleNotFound(path.to_owned(), position).into());
        };
        let mut ast = engine.compile(text).map_err(|error| EvalAltResult::ErrorInModule(path.to_owned(), error.into(), position))?;
        ast.set_source(path);
        self.written.read(&ast);
        let module = Module::eval_ast_as_new(Scope::new(), &ast, engine)
            .map_err(|error| EvalAltResult::ErrorInModule(path.to_owned(), error, position))?;
        let module: Shared<Module> = module.into();
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), module.clone());
        Ok(module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect_text(text: &str) -> Result<BTreeMap<String, String>> {
        let find = |path: &str| match path {
            "a" => Some("import \"b\" as b;".to_owned()),
            "b" => Some("import \"a\" as a;".to_owned()),
            "lib/c" => Some("fn f() { 1 }".to_owned()),
            _ => None,
        };
        collect(&compile("main.rhai", text).unwrap(), "main.rhai", &find)
    }

    #[test]
    fn modules_are_found_before_the_run() {
        assert!(collect_text("import \"lib/c\" as c;").unwrap().contains_key("lib/c"));
    }

    #[test]
    fn nothing_else_can_be_imported() {
        for path in ["../../etc/x", "/etc/x", "lib//c", "lib/c.rhai", "", "a b", ".", "lib\\\\c"] {
            assert!(collect_text(&format!("import \"{path}\" as x;")).is_err(), "{path}");
        }
        assert_eq!(collect_text("import \"nope\" as x;").unwrap_err().message, "there is no module `nope`");
    }

    #[test]
    fn a_cycle_is_an_error() {
        assert!(collect_text("import \"a\" as a;").unwrap_err().message.contains("imports itself"));
    }
}
