//! Which function calls which: what a script reaches through its modules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rhai::{Expr, Position, Stmt};

use crate::script::check::World;
use crate::script::check::text::Text;

/// What an argument is, as far as it stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Argument {
    /// This text.
    Literal(String),
    /// A text that begins so.
    Prefix(String),
    /// Something that is known when it runs.
    Unknown,
}

impl Argument {
    pub(super) fn of(expr: &Expr) -> Self {
        match expr {
            Expr::StringConstant(text, _) => Self::Literal(text.to_string()),
            Expr::InterpolatedString(parts, _) => match parts.first() {
                Some(Expr::StringConstant(text, _)) if parts.len() == 1 => Self::Literal(text.to_string()),
                Some(Expr::StringConstant(text, _)) if !text.is_empty() => Self::Prefix(text.to_string()),
                _ => Self::Unknown,
            },
            Expr::Stmt(block) => match block.statements() {
                [Stmt::Expr(only)] => Self::of(only),
                _ => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }
}

/// What is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A function of a host module, or of the language with no name for a module.
    Host { module: String, function: String },
    /// A function of the same text.
    Own(String),
    /// A function of an imported module.
    Imported { path: String, function: String },
}

/// One call.
#[derive(Debug, Clone)]
pub(super) struct Called {
    pub(super) target: Target,
    pub(super) arguments: Vec<Argument>,
    pub(super) at: Position,
}

/// The calls of all texts, by text and function; those outside functions have none.
#[derive(Debug, Default)]
pub(super) struct Calls {
    made: BTreeMap<(String, Option<String>), Vec<Called>>,
    imports: BTreeMap<(String, Option<String>), BTreeSet<String>>,
}

/// A call of a host function that can happen in a run.
pub(super) struct Reached<'c> {
    pub(super) module: &'c str,
    pub(super) function: &'c str,
    pub(super) arguments: &'c [Argument],
    /// The text it stands in, and its place there.
    pub(super) text: &'c str,
    pub(super) at: Position,
    /// Where the runbook itself leads to it.
    pub(super) from: Position,
}

impl Calls {
    pub(super) fn note(&mut self, text: &Text, function: Option<&str>, called: Called) {
        self.made.entry((text.path.clone(), function.map(str::to_owned))).or_default().push(called);
    }

    pub(super) fn imports(&mut self, text: &Text, function: Option<&str>, path: &str) {
        self.imports.entry((text.path.clone(), function.map(str::to_owned))).or_default().insert(path.to_owned());
    }

    /// Every host call the runbook can reach: all of its own, and those of the module functions it calls.
    pub(super) fn reached<'c>(&'c self, main: &'c Text, world: &World<'_>) -> Vec<Reached<'c>> {
        let mut reached = Vec::new();
        let mut seen = BTreeSet::new();
        let mut open = VecDeque::from([(main.path.clone(), None, Position::NONE)]);
        open.extend(main.names().map(|name| (main.path.clone(), Some(name.clone()), Position::NONE)));
        while let Some((text, function, from)) = open.pop_front() {
            if !seen.insert((text.clone(), function.clone())) {
                continue;
            }
            let key = (text, function);
            for path in self.imports.get(&key).into_iter().flatten() {
                open.push_back((path.clone(), None, from));
            }
            let Some(((text, _), calls)) = self.made.get_key_value(&key) else { continue };
            for call in calls {
                let from = if *text == main.path { call.at } else { from };
                match &call.target {
                    Target::Host { module, function } => {
                        reached.push(Reached { module, function, arguments: &call.arguments, text, at: call.at, from });
                    }
                    Target::Own(name) => open.push_back((text.clone(), Some(name.clone()), from)),
                    Target::Imported { path, function } if world.texts.contains_key(path) => {
                        open.push_back((path.clone(), Some(function.clone()), from));
                    }
                    Target::Imported { .. } => {}
                }
            }
        }
        reached.sort_by_key(|call| (call.from, call.text.to_owned(), call.at));
        reached
    }
}
