//! Options and other arguments that stand in the text as they are.

use rhai::{Dynamic, Expr, FnCallExpr, Ident, Map, Position, Stmt};

use crate::host::OptionError;
use crate::script::check::known::declared;
use crate::script::check::near;
use crate::script::check::walk::Walk;
use crate::words;

impl Walk<'_> {
    /// Checks the keys of a literal map of options, and the values that are literal too.
    pub(super) fn options(&mut self, function: &str, options: &[(Ident, Expr)]) {
        let (module, name) = match function.rsplit_once("::") {
            Some((module, name)) => (Some(module), name),
            None => (None, function),
        };
        let Some(check) = declared(module, name).and_then(|function| function.options) else { return };
        // Each key alone: one that is wrong must not hide the next.
        for (key, value) in options {
            let literal = literal(value);
            let is_literal = literal.is_some();
            let map: Map = [(key.name.as_str().into(), literal.unwrap_or(Dynamic::UNIT))].into();
            let Err(error) = check(&Dynamic::from_map(map)) else { continue };
            let is_about_key = error.path == key.name.as_str()
                || error.path.starts_with(&format!("{}.", key.name))
                || error.path.starts_with(&format!("{}[", key.name));
            if is_about_key && (is_literal || error.is_unknown_key() && error.path == key.name.as_str()) {
                self.wrong_option(function, &error, key, value);
            }
        }
    }

    fn wrong_option(&mut self, function: &str, error: &OptionError, key: &Ident, value: &Expr) {
        let at = place_in(key, value, &error.path);
        if error.is_unknown_key() {
            let name = error.path.rsplit('.').next().unwrap_or(&error.path);
            let near = near(name, &error.known).map(str::to_owned);
            let mut finding = self.findings.error(self.text, at, "RB1106", format!("`{function}` has no option `{}`", error.path));
            match near {
                Some(near) => finding.hint(format!("did you mean `{near}`?")),
                None => finding.hint(format!("the options are {}", words::list(&error.known))),
            }
            return;
        }
        self.findings
            .error(self.text, at, "RB1106", format!("`{function}`: option `{}`: {}", error.path, error.message))
            .hint(format!("see `runbook docs {function}`"));
    }

    /// A command line is a list of words; one made of a text is split by nobody, or by a shell.
    pub(super) fn argv(&mut self, module: &str, call: &FnCallExpr) {
        let is_command = match module {
            "exec" => true,
            "docker" | "compose" | "k8s" => call.name == "exec",
            _ => false,
        };
        if !is_command {
            return;
        }
        for argument in &call.args {
            let Expr::Array(items, at) = argument else { continue };
            let shell =
                items.windows(2).find(|pair| matches!(&pair[0], Expr::StringConstant(flag, _) if flag == "-c") && is_built(&pair[1]));
            if let Some(pair) = shell {
                self.findings
                    .warning(self.text, pair[1].start_position(), "RB1107", "a shell command is built from a value")
                    .hint("the shell reads what the value holds; pass the words one by one, without a shell");
            } else if matches!(items.as_slice(), [only] if is_built(only) && has_blank(only)) {
                self.one_text(*at);
            }
        }
        match call.args.first() {
            Some(program @ Expr::InterpolatedString(_, at)) if module == "exec" && has_blank(program) => self.one_text(*at),
            _ => {}
        }
    }

    fn one_text(&mut self, at: Position) {
        self.findings
            .warning(self.text, at, "RB1107", "a command of several words is one text")
            .hint("nothing splits it; pass the words one by one: `[\"ls\", \"-l\", path]`");
    }
}

/// Whether a text is put together from values.
fn is_built(expr: &Expr) -> bool {
    match expr {
        Expr::InterpolatedString(parts, _) => parts.iter().any(|part| !matches!(part, Expr::StringConstant(..))),
        Expr::FnCall(call, _) => call.name == "+",
        _ => false,
    }
}

fn has_blank(expr: &Expr) -> bool {
    match expr {
        Expr::StringConstant(text, _) => text.contains(' '),
        Expr::InterpolatedString(parts, _) => parts.iter().any(has_blank),
        Expr::FnCall(call, _) if call.name == "+" => call.args.iter().any(has_blank),
        _ => false,
    }
}

/// The value of a literal; nothing for what is known when it runs.
fn literal(expr: &Expr) -> Option<Dynamic> {
    Some(match expr {
        Expr::BoolConstant(flag, _) => (*flag).into(),
        Expr::IntegerConstant(number, _) => (*number).into(),
        Expr::FloatConstant(number, _) => (**number).into(),
        Expr::CharConstant(letter, _) => (*letter).into(),
        Expr::StringConstant(text, _) => text.clone().into(),
        Expr::Array(items, _) => Dynamic::from_array(items.iter().map(literal).collect::<Option<_>>()?),
        Expr::Map(map, _) => {
            let entries = map.0.iter().map(|(key, value)| Some((key.name.as_str().into(), literal(value)?)));
            Dynamic::from_map(entries.collect::<Option<Map>>()?)
        }
        Expr::Stmt(block) => match block.statements() {
            [Stmt::Expr(only)] => literal(only)?,
            _ => return None,
        },
        _ => return None,
    })
}

/// The place of `limit.warn` or `ports[1]` in the value of its first key.
fn place_in(key: &Ident, value: &Expr, path: &str) -> Position {
    let (mut at, mut value) = (key.pos, value);
    let rest = path.get(key.name.len()..).unwrap_or_default();
    for part in rest.split(['.', '[']).map(|part| part.trim_end_matches(']')).filter(|part| !part.is_empty()) {
        match value {
            Expr::Map(map, _) => {
                let Some((key, inner)) = map.0.iter().find(|(key, _)| key.name == part) else { return at };
                (at, value) = (key.pos, inner);
            }
            Expr::Array(items, _) => {
                let Some(item) = part.parse::<usize>().ok().and_then(|index| items.get(index)) else { return at };
                (at, value) = (item.start_position(), item);
            }
            _ => return at,
        }
    }
    at
}
