//! One compiled text: its statements, functions and imports, apart.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rhai::{AST, ASTFlags, ASTNode, Expr, FnAccess, Module, Position, Stmt};

/// A function a script defines.
#[derive(Debug, Clone, Default)]
pub(super) struct Body {
    /// The names of its parameters; those of a closure begin with what it captures.
    pub(super) params: Vec<String>,
    /// Its statements.
    pub(super) statements: Vec<Stmt>,
    /// Where it starts.
    pub(super) at: Position,
    is_private: bool,
}

/// A text of a run: the runbook, or a module it imports.
#[derive(Debug)]
pub(super) struct Text {
    /// The file, or the import path.
    pub(super) path: String,
    /// What it says.
    pub(super) source: String,
    /// Its statements outside functions.
    pub(super) statements: Vec<Stmt>,
    /// Its functions by name and number of parameters.
    functions: BTreeMap<String, BTreeMap<usize, Body>>,
    /// Its closures by the name the compiler gave them.
    closures: HashMap<String, Body>,
    /// The imports at its top: alias to path.
    pub(super) imports: BTreeMap<String, String>,
    /// The variables others see.
    pub(super) exports: BTreeSet<String>,
    /// Names that are keys of some map: calling one may call a closure.
    pub(super) keys: BTreeSet<String>,
}

impl Text {
    /// Takes a compiled text apart.
    pub(super) fn new(path: &str, source: &str, ast: &AST) -> Self {
        let mut text = Self {
            path: path.to_owned(),
            source: source.to_owned(),
            statements: ast.statements().to_vec(),
            functions: BTreeMap::new(),
            closures: HashMap::new(),
            imports: BTreeMap::new(),
            exports: BTreeSet::new(),
            keys: BTreeSet::new(),
        };
        for function in ast.iter_fn_def() {
            // The type of a body has no public name, but a tree of one function can be walked.
            let mut module = Module::new();
            module.set_script_fn(function.clone());
            let mut statements = Vec::new();
            AST::new_from_module(module).walk(&mut |path: &[ASTNode<'_>]| {
                if let [ASTNode::Stmt(statement)] = path {
                    statements.push((*statement).clone());
                }
                true
            });
            let body = Body {
                params: function.params.iter().map(ToString::to_string).collect(),
                statements,
                at: function.body.start_position(),
                is_private: function.access == FnAccess::Private,
            };
            match is_closure(&function.name) {
                true => drop(text.closures.insert(function.name.to_string(), body)),
                false => drop(text.functions.entry(function.name.to_string()).or_default().insert(body.params.len(), body)),
            }
        }
        text.note_top();
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            match path.last() {
                Some(ASTNode::Expr(Expr::Map(map, _))) => text.keys.extend(map.0.iter().map(|(key, _)| key.name.to_string())),
                Some(ASTNode::Expr(Expr::Property(property, _))) => {
                    text.keys.insert(property.2.to_string());
                }
                Some(ASTNode::Expr(Expr::Index(index, ..))) => {
                    if let Expr::StringConstant(key, _) = &index.rhs {
                        text.keys.insert(key.to_string());
                    }
                }
                _ => {}
            }
            true
        });
        text
    }

    fn note_top(&mut self) {
        for statement in &self.statements {
            match statement {
                Stmt::Import(import, _) => {
                    if let Expr::StringConstant(path, _) = &import.0 {
                        self.imports.insert(import.1.name.to_string(), path.to_string());
                    }
                }
                Stmt::Export(export, _) => {
                    let name = if export.1.name.is_empty() { &export.0.name } else { &export.1.name };
                    self.exports.insert(name.to_string());
                }
                Stmt::Var(variable, flags, _) if flags.contains(ASTFlags::EXPORTED) => {
                    self.exports.insert(variable.0.name.to_string());
                }
                _ => {}
            }
        }
    }

    /// The functions with names, in the order of the text.
    pub(super) fn functions(&self) -> Vec<(&str, &Body)> {
        let mut functions: Vec<_> =
            self.functions.iter().flat_map(|(name, forms)| forms.values().map(move |body| (name.as_str(), body))).collect();
        functions.sort_by_key(|(name, body)| (body.at, *name));
        functions
    }

    /// The numbers of parameters a function of this name takes; none when there is no such function.
    pub(super) fn arities(&self, name: &str) -> Vec<usize> {
        self.functions.get(name).map(|forms| forms.keys().copied().collect()).unwrap_or_default()
    }

    /// The same, for those who import it.
    pub(super) fn public_arities(&self, name: &str) -> Vec<usize> {
        let public = |forms: &BTreeMap<usize, Body>| forms.iter().filter(|(_, body)| !body.is_private).map(|(params, _)| *params).collect();
        self.functions.get(name).map(public).unwrap_or_default()
    }

    /// The names of the functions others can call.
    pub(super) fn public_names(&self) -> Vec<String> {
        self.functions.iter().filter(|(_, forms)| forms.values().any(|body| !body.is_private)).map(|(name, _)| name.clone()).collect()
    }

    /// The names of all its functions.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.functions.keys()
    }

    /// Whether a function of this name stands in the text.
    pub(super) fn has_function(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    /// A closure by the name the compiler gave it.
    pub(super) fn closure(&self, name: &str) -> Option<&Body> {
        self.closures.get(name)
    }
}

/// Whether the compiler made the name.
pub(super) fn is_closure(name: &str) -> bool {
    name.starts_with("anon$")
}
