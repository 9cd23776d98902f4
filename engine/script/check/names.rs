//! Calls: whether there is such a function, and whether it takes so many arguments.

use rhai::{Expr, FnCallExpr, Position};

use crate::script::check::calls::{Argument, Called, Target};
use crate::script::check::known::{Form, declared, is_keyword, modules_with, system_fields};
use crate::script::check::near;
use crate::script::check::text::Text;
use crate::script::check::walk::{Role, Seat, Walk};
use crate::words;

impl<'a> Walk<'a> {
    /// A call that is not a method.
    pub(super) fn call(&mut self, call: &FnCallExpr, at: Position, seat: Seat) {
        if call.is_operator_call() {
            return call.args.iter().for_each(|argument| self.expr(argument, Seat::Used));
        }
        if self.is_header(call) {
            return;
        }
        let given = call.args.len();
        if call.is_qualified() {
            self.arguments(call, Role::Other);
            let path: Vec<&str> = call.namespace.path.iter().map(|part| part.name.as_str()).collect();
            let form = self.module_function(&path, call.namespace.position(), call, at);
            return self.of_form(form, call, &format!("{}::{}", path.join("::"), call.name), at, seat);
        }
        let name = call.name.as_str();
        if self.text.has_function(name) {
            self.arguments(call, Role::Other);
            let arities = self.text.arities(name);
            if !arities.contains(&given) {
                self.wrong_arity(name, &arities, given, at);
            }
            return self.note(Called { target: Target::Own(name.to_owned()), arguments: Vec::new(), at });
        }
        self.arguments(call, Role::of(name).unwrap_or(Role::Other));
        if is_keyword(name) {
            if let ("Fn", [Expr::StringConstant(function, _)]) = (name, call.args.as_slice()) {
                self.note(Called { target: Target::Own(function.to_string()), arguments: Vec::new(), at });
            }
            return;
        }
        let Some(forms) = self.known.global(name) else { return self.unknown_function(name, at) };
        if declared(None, name).is_some_and(|function| function.all_needs().next().is_some()) {
            let arguments = call.args.iter().map(Argument::of).collect();
            self.note(Called { target: Target::Host { module: String::new(), function: name.to_owned() }, arguments, at });
        }
        match forms.get(&given) {
            Some(form) => self.of_form(Some(*form), call, name, at, seat),
            None => self.wrong_arity(name, &forms.keys().copied().collect::<Vec<_>>(), given, at),
        }
    }

    /// A call behind a dot.
    pub(super) fn method(&mut self, call: &FnCallExpr, at: Position, seat: Seat) {
        let keeps = matches!(call.name.as_str(), "push" | "insert" | "append" | "set");
        for argument in &call.args {
            self.expr(argument, if keeps { Seat::Kept } else { Seat::Used });
        }
        let (name, given) = (call.name.as_str(), call.args.len());
        let own = self.text.arities(name);
        if !own.is_empty() {
            self.note(Called { target: Target::Own(name.to_owned()), arguments: Vec::new(), at });
        }
        // The value may be a map whose closure is called.
        if is_keyword(name) || own.contains(&given) || self.world.keys.contains(name) {
            return;
        }
        let Some(forms) = self.known.global(name) else {
            if !own.is_empty() {
                return self.wrong_arity(name, &own, given, at);
            }
            let near = self.findings.suggest(name, self.known.globals());
            let mut finding = self.findings.error(self.text, at, "RB1105", format!("unknown method `{name}`"));
            match near {
                Some(near) => finding.hint(format!("did you mean `{near}`?")),
                None => finding.hint(format!("see `runbook docs --search {name}`")),
            }
            return;
        };
        match forms.get(&(given + 1)) {
            Some(form) => {
                if form.nothing {
                    self.nothing(name, at, seat);
                }
            }
            None => {
                let takes: Vec<usize> = forms.keys().filter_map(|arguments| arguments.checked_sub(1)).collect();
                self.wrong_arity(name, &takes, given, at);
            }
        }
    }

    /// A variable with a module: `params::keep`, `system::name`, `lib::LIMIT`.
    pub(super) fn qualified(&mut self, path: &[&str], module_at: Position, name: &str, at: Position) {
        match (path, self.world.header) {
            (["params"], Some(header)) => {
                self.findings.used_params.insert(name.to_owned());
                if !header.params.contains_key(name) {
                    let near = near(name, header.params.keys()).map(str::to_owned);
                    let mut finding = self.findings.error(self.text, at, "RB1108", format!("the header declares no parameter `{name}`"));
                    match near {
                        Some(near) => finding.hint(format!("did you mean `{near}`?")),
                        None => finding.hint(format!("declare it: params: #{{ {name}: #{{ type: \"string\" }} }}")),
                    }
                }
            }
            (["system"], _) => {
                if !system_fields().contains(name) {
                    let fields: Vec<String> = system_fields().iter().cloned().collect();
                    let near = near(name, &fields).map(str::to_owned);
                    let mut finding = self.findings.error(self.text, at, "RB1108", format!("a system has no `{name}`"));
                    match near {
                        Some(near) => finding.hint(format!("did you mean `{near}`?")),
                        None => finding.hint(format!("it has {}", words::list(&fields))),
                    }
                }
            }
            (["params" | "global"], _) => {
                if let Some(index) = self.find(name) {
                    self.scope_used(index);
                }
                self.findings.used_globals.insert((self.text.path.clone(), name.to_owned()));
            }
            _ => match self.resolve(path, module_at) {
                Resolved::Text(text) if !text.exports.contains(name) => {
                    let near = near(name, &text.exports).map(str::to_owned);
                    let mut finding = self.findings.error(self.text, at, "RB1108", format!("`{}` exports no `{name}`", text.path));
                    match near {
                        Some(near) => finding.hint(format!("did you mean `{near}`?")),
                        None => finding.hint(format!("write `export const {name} = …;` in the module")),
                    }
                }
                Resolved::Host => {
                    let module = path.join("::");
                    self.findings
                        .error(self.text, at, "RB1108", format!("`{module}` has no variable `{name}`"))
                        .hint(format!("call a function: `{module}::{name}()`; see `runbook docs {module}`"));
                }
                _ => {}
            },
        }
    }

    fn arguments(&mut self, call: &FnCallExpr, role: Role) {
        for argument in &call.args {
            match argument {
                // The closures in the options of a step are called at once.
                Expr::Map(map, _) if role != Role::Other => map.0.iter().for_each(|(_, value)| self.expr(value, Seat::Used)),
                argument if role == Role::Other => self.expr(argument, Seat::Used),
                argument => self.expr(argument, Seat::Work(role)),
            }
        }
    }

    /// What follows from the form of a known function.
    fn of_form(&mut self, form: Option<Form>, call: &FnCallExpr, name: &str, at: Position, seat: Seat) {
        let Some(form) = form else { return };
        if form.nothing {
            self.nothing(name, at, seat);
        }
        if let Some(Expr::Map(options, _)) = form.options.and_then(|index| call.args.get(index)) {
            self.options(name, &options.0);
        }
    }

    fn nothing(&mut self, name: &str, at: Position, seat: Seat) {
        if !matches!(seat, Seat::Used | Seat::Kept | Seat::Work(_)) {
            return;
        }
        let mut finding = self.findings.warning(self.text, at, "RB1112", format!("`{name}` returns nothing, but its value is used"));
        match self.known.global(name) {
            Some(_) if !name.contains("::") => finding.hint("it works in place; use the variable after the call"),
            _ => finding.hint(format!("see `runbook docs {name}`")),
        }
    }

    fn module_function(&mut self, path: &[&str], module_at: Position, call: &FnCallExpr, at: Position) -> Option<Form> {
        let (name, given, full) = (call.name.as_str(), call.args.len(), format!("{}::{}", path.join("::"), call.name));
        match self.resolve(path, module_at) {
            Resolved::Host => {
                let functions = self.known.module(path[0])?;
                let Some(forms) = functions.get(name) else {
                    let near = self.findings.suggest(name, functions.keys());
                    let mut finding = self.findings.error(self.text, at, "RB1102", format!("unknown function `{full}`"));
                    match near {
                        Some(near) => finding.hint(format!("did you mean `{0}::{near}`? see `runbook docs {0}`", path[0])),
                        None => finding.hint(format!("see `runbook docs {}`", path[0])),
                    }
                    return None;
                };
                self.argv(path[0], call);
                let arguments = call.args.iter().map(Argument::of).collect();
                let target = Target::Host { module: path[0].to_owned(), function: name.to_owned() };
                self.note(Called { target, arguments, at });
                if !forms.contains_key(&given) {
                    self.wrong_arity(&full, &forms.keys().copied().collect::<Vec<_>>(), given, at);
                }
                forms.get(&given).copied()
            }
            Resolved::Text(text) => {
                let arities = text.public_arities(name);
                if arities.is_empty() {
                    let near = self.findings.suggest(name, &text.public_names());
                    let private = text.has_function(name);
                    let mut finding = self.findings.error(self.text, at, "RB1102", format!("unknown function `{full}`"));
                    match near {
                        _ if private => finding.hint(format!("it is private in `{}`", text.path)),
                        Some(near) => finding.hint(format!("did you mean `{}::{near}`?", path.join("::"))),
                        None => finding.hint(format!("`{}` has {}", text.path, words::list(&text.public_names()))),
                    }
                } else if !arities.contains(&given) {
                    self.wrong_arity(&full, &arities, given, at);
                }
                let target = Target::Imported { path: text.path.clone(), function: name.to_owned() };
                self.note(Called { target, arguments: Vec::new(), at });
                None
            }
            Resolved::Unknown => None,
        }
    }

    /// The module a path of names leads to; tells when there is none.
    fn resolve(&mut self, path: &[&str], at: Position) -> Resolved<'a> {
        let Some((&root, rest)) = path.split_first() else { return Resolved::Unknown };
        if let Some(imported) = self.imported(root) {
            let texts = self.world.texts;
            let mut text = imported.and_then(|path| texts.get(&path));
            for alias in rest {
                text = text.and_then(|text| text.imports.get(*alias)).and_then(|path| texts.get(path));
            }
            return text.map_or(Resolved::Unknown, Resolved::Text);
        }
        if rest.is_empty() && self.known.module(root).is_some() {
            return Resolved::Host;
        }
        if matches!(root, "params" | "system" | "global") {
            return Resolved::Unknown;
        }
        let aliases: Vec<String> = self.aliases().cloned().collect();
        let near = self.findings.suggest(root, self.known.modules().chain(&aliases));
        let mut finding = self.findings.error(self.text, at, "RB1103", format!("there is no module `{root}`"));
        match near {
            Some(near) => finding.hint(format!("did you mean `{near}`?")),
            None => finding.hint("see `runbook docs` for the host modules, or import it"),
        }
        Resolved::Unknown
    }

    fn unknown_function(&mut self, name: &str, at: Position) {
        let near = self.findings.suggest(name, self.known.globals().chain(self.text.names()));
        let elsewhere: Vec<String> = modules_with(name).map(|module| format!("{module}::{name}")).collect();
        let variable = self.find(name);
        variable.into_iter().for_each(|index| self.scope_used(index));
        let mut finding = self.findings.error(self.text, at, "RB1102", format!("unknown function `{name}`"));
        match (near, elsewhere.first()) {
            _ if variable.is_some() => finding.hint(format!("`{name}` is a variable; call it with `{name}.call(…)`")),
            (_, Some(first)) => finding.hint(format!("did you mean {}? see `runbook docs {first}`", words::either(&elsewhere))),
            (Some(near), None) => finding.hint(format!("did you mean `{near}`? see `runbook docs {near}`")),
            (None, None) => finding.hint(format!("see `runbook docs --search {name}`")),
        }
    }

    fn wrong_arity(&mut self, name: &str, takes: &[usize], given: usize, at: Position) {
        let takes = numbers_in_words(takes);
        self.findings
            .error(self.text, at, "RB1104", format!("`{name}` takes {takes}, {given} given"))
            .hint(format!("see `runbook docs {name}`"));
    }
}

enum Resolved<'a> {
    Host,
    Text(&'a Text),
    Unknown,
}

/// `2 or 3 arguments`.
fn numbers_in_words(numbers: &[usize]) -> String {
    match numbers {
        [] => "no dot before it".to_owned(),
        [0] => "no arguments".to_owned(),
        [one] => words::count(*one, "argument"),
        [most @ .., last] => {
            let most: Vec<String> = most.iter().map(ToString::to_string).collect();
            format!("{} or {}", most.join(", "), words::count(*last, "argument"))
        }
    }
}
