//! The walk through one text: scopes, names and calls.
//!
//! It recurses; the parser bounds how deep a tree gets (`set_max_expr_depths`).

use rhai::{ASTFlags, Dynamic, Expr, FnCallExpr, FnPtr, Position, Stmt};

use crate::script::check::calls::{Called, Calls};
use crate::script::check::known::Known;
use crate::script::check::text::{Text, is_closure};
use crate::script::check::{Findings, World};

/// What becomes of the value of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    /// Nothing.
    Dropped,
    /// It is the value of a block; whether someone wants it is not known.
    Tail,
    /// It is used at once.
    Used,
    /// It is put somewhere that may outlive the turn of a loop.
    Kept,
    /// It is handed to a function of the language that runs it.
    Work(Role),
}

impl Seat {
    /// That of an item of a list or map.
    fn of_part(self) -> Self {
        if self == Self::Kept { Self::Kept } else { Self::Used }
    }
}

/// Who runs a closure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// `step`: it may be replayed.
    Step,
    /// `check`: it may be asked again.
    Check,
    /// `parallel`: it runs beside others.
    Parallel,
    /// `undo`: it runs after the script ended.
    Undo,
    /// Someone else.
    Other,
}

impl Role {
    pub(super) fn of(function: &str) -> Option<Self> {
        Some(match function {
            "step" => Self::Step,
            "check" => Self::Check,
            "parallel" => Self::Parallel,
            "undo" => Self::Undo,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VariableKind {
    Local,
    Loop,
    Param,
    Catch,
}

#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) kind: VariableKind,
    at: Position,
    is_used: bool,
    is_exported: bool,
}

/// An open closure: the variables below its base are captured.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) base: usize,
    pub(super) role: Role,
}

struct Import {
    alias: String,
    path: Option<String>,
    at: Position,
    is_used: bool,
}

/// The walk through one text.
pub(super) struct Walk<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) text: &'a Text,
    pub(super) known: &'static Known,
    pub(super) findings: &'a mut Findings,
    pub(super) calls: &'a mut Calls,
    pub(super) scope: Vec<Variable>,
    pub(super) frames: Vec<Frame>,
    imports: Vec<Import>,
    /// The named function that is walked.
    function: Option<String>,
    /// Whether a name that is nowhere is told; the compiler did already when it was strict.
    is_strict: bool,
}

/// The first escape of a text in which every backslash begins one; a pattern has others as well.
fn escape_in(text: &str) -> Option<&'static str> {
    let is_escape = |at: usize| text[at + 1..].starts_with(['n', 't', 'r', '"']);
    let is_text = text.match_indices('\\').all(|(at, _)| is_escape(at));
    let found = ["\\n", "\\t", "\\r"].into_iter().filter_map(|escape| Some((text.find(escape)?, escape))).min();
    found.filter(|_| is_text).map(|(_, escape)| escape)
}

impl<'a> Walk<'a> {
    /// Walks the whole text.
    pub(super) fn through(text: &'a Text, world: &'a World<'a>, findings: &'a mut Findings, calls: &'a mut Calls) {
        let is_strict = world.tells_variables;
        let mut walk = Self {
            world,
            text,
            known: Known::shared(),
            findings,
            calls,
            scope: Vec::new(),
            frames: Vec::new(),
            imports: Vec::new(),
            function: None,
            is_strict,
        };
        walk.statements(&text.statements, Seat::Dropped);
        let top = std::mem::take(&mut walk.scope);
        for (name, body) in text.functions() {
            walk.function = Some(name.to_owned());
            let params = body.params.iter().map(|name| (name.as_str(), Position::NONE));
            walk.params(params);
            walk.body(&body.statements);
            walk.close(0);
        }
        walk.scope = top;
        walk.close(0);
        walk.close_imports(0);
    }

    // Scopes.

    fn declare(&mut self, name: &str, kind: VariableKind, at: Position) {
        if self.text.has_function(name) && !at.is_none() {
            self.findings
                .warning(self.text, at, "RB1114", format!("`{name}` is also a function of this script"))
                .hint("a closure that names it gets the function, not the variable; rename one of them");
        }
        self.scope.push(Variable { name: name.to_owned(), kind, at, is_used: false, is_exported: false });
    }

    fn params<'n>(&mut self, params: impl Iterator<Item = (&'n str, Position)>) {
        for (name, at) in params {
            self.declare(name, VariableKind::Param, at);
        }
    }

    /// Leaves the scopes from `base` on.
    fn close(&mut self, base: usize) {
        for variable in self.scope.split_off(base) {
            let tells =
                variable.kind == VariableKind::Local && !variable.is_used && !variable.is_exported && !self.is_global_used(base, &variable);
            if tells && !variable.name.starts_with('_') {
                self.findings
                    .warning(self.text, variable.at, "RB1111", format!("variable `{}` is never used", variable.name))
                    .hint(format!("remove it, or call it `_{}`", variable.name));
            }
        }
    }

    /// Whether a function names it, as in `global::LIMIT`.
    fn is_global_used(&self, base: usize, variable: &Variable) -> bool {
        base == 0 && self.findings.used_globals.contains(&(self.text.path.clone(), variable.name.clone()))
    }

    fn close_imports(&mut self, base: usize) {
        for import in self.imports.split_off(base).into_iter().filter(|import| !import.is_used) {
            self.findings.warning(self.text, import.at, "RB1109", format!("unused import `{}`", import.alias)).hint("remove the line");
        }
    }

    /// The variable a name stands for, by its place in the scope.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.scope.iter().rposition(|variable| variable.name == name)
    }

    fn mention(&mut self, name: &str, at: Position) {
        // Inside a closure a function wins over a captured variable of the same name.
        let base = self.frames.last().map_or(0, |frame| frame.base);
        match self.find(name) {
            Some(index) => {
                self.scope[index].is_used = true;
                if index < base && self.text.has_function(name) {
                    self.findings
                        .error(self.text, at, "RB1114", format!("`{name}` is the function here, not the variable"))
                        .hint("closures do not capture a variable that has the name of a function; rename one of them");
                }
            }
            None if self.text.has_function(name) || name == "this" => {}
            None if self.is_strict => {
                let near = self.findings.suggest(name, self.scope.iter().map(|variable| &variable.name));
                let mut finding = self.findings.error(self.text, at, "RB1101", format!("there is no variable `{name}`"));
                match near {
                    Some(near) => finding.hint(format!("did you mean `{near}`?")),
                    None if self.function.is_some() => {
                        finding.hint("a function sees its parameters only; pass the value as one");
                    }
                    None => {}
                }
            }
            None => {}
        }
    }

    pub(super) fn scope_used(&mut self, index: usize) {
        self.scope[index].is_used = true;
    }

    // Statements.

    /// A block that is not a body: what it declares ends with it.
    fn block(&mut self, statements: &[Stmt], seat: Seat) {
        let (variables, imports) = (self.scope.len(), self.imports.len());
        self.statements(statements, seat);
        self.close(variables);
        self.close_imports(imports);
    }

    /// The statements of a function or closure.
    fn body(&mut self, statements: &[Stmt]) {
        // A body that is one block in braces has it as its only statement.
        if let [Stmt::Block(block)] = statements {
            return self.body(block.statements());
        }
        if let Some(Stmt::TryCatch(parts, _)) = statements.last() {
            self.dropped_catch(parts.branch.statements());
        }
        self.block(statements, Seat::Tail);
    }

    /// `fn f() { try { 1 } catch { 2 } }` returns nothing when it catches.
    fn dropped_catch(&mut self, branch: &[Stmt]) {
        let Some(Stmt::Expr(last)) = branch.last() else { return };
        let is_value = !matches!(&**last, Expr::FnCall(..) | Expr::Dot(..) | Expr::Stmt(..) | Expr::Unit(..));
        if is_value {
            self.findings
                .warning(self.text, last.start_position(), "RB1113", "the value of `catch` is dropped")
                .hint("`try` is a statement; write `return` before the value");
        }
    }

    fn statements(&mut self, statements: &[Stmt], seat: Seat) {
        for (index, statement) in statements.iter().enumerate() {
            let seat = if index + 1 == statements.len() { seat } else { Seat::Dropped };
            self.statement(statement, seat);
        }
    }

    fn statement(&mut self, statement: &Stmt, seat: Seat) {
        match statement {
            Stmt::Var(variable, flags, _) => {
                self.expr(&variable.1, Seat::Used);
                self.declare(&variable.0.name, VariableKind::Local, variable.0.pos);
                if let Some(variable) = self.scope.last_mut() {
                    variable.is_exported = flags.contains(ASTFlags::EXPORTED);
                }
            }
            Stmt::Assignment(parts) => {
                self.expr(&parts.1.rhs, Seat::Kept);
                self.expr(&parts.1.lhs, Seat::Dropped);
                self.assigned(&parts.1.lhs);
            }
            Stmt::If(parts, _) => {
                self.expr(&parts.expr, Seat::Used);
                self.block(parts.body.statements(), seat);
                self.block(parts.branch.statements(), seat);
            }
            Stmt::Switch(parts, _) => {
                self.expr(&parts.0, Seat::Used);
                for case in &parts.1.expressions {
                    self.expr(&case.lhs, Seat::Used);
                    self.expr(&case.rhs, seat);
                }
            }
            Stmt::While(parts, _) | Stmt::Do(parts, ..) => {
                self.expr(&parts.expr, Seat::Used);
                self.block(parts.body.statements(), Seat::Dropped);
            }
            Stmt::For(parts, _) => {
                let (name, counter, flow) = &**parts;
                self.expr(&flow.expr, Seat::Used);
                let base = self.scope.len();
                if let Some(counter) = counter {
                    self.declare(&counter.name, VariableKind::Loop, counter.pos);
                }
                self.declare(&name.name, VariableKind::Loop, name.pos);
                self.block(flow.body.statements(), Seat::Dropped);
                self.close(base);
            }
            Stmt::TryCatch(parts, _) => {
                self.block(parts.body.statements(), seat);
                let base = self.scope.len();
                if let Expr::Variable(variable, _, at) = &parts.expr {
                    self.declare(&variable.1, VariableKind::Catch, *at);
                }
                self.block(parts.branch.statements(), Seat::Dropped);
                self.close(base);
            }
            Stmt::Return(Some(value), flags, at) => {
                if flags.contains(ASTFlags::BREAK) {
                    self.thrown(value, *at);
                }
                self.expr(value, if flags.contains(ASTFlags::BREAK) { Seat::Used } else { Seat::Tail });
            }
            Stmt::BreakLoop(Some(value), ..) => self.expr(value, Seat::Used),
            Stmt::FnCall(call, at) => self.call(call, *at, seat),
            Stmt::Block(block) => self.block(block.statements(), seat),
            Stmt::Expr(expr) => self.expr(expr, seat),
            Stmt::Import(import, _) => self.import(import),
            Stmt::Export(export, _) => {
                self.mention(&export.0.name, export.0.pos);
            }
            _ => {}
        }
    }

    /// `throw e` in a catch makes a new error here.
    fn thrown(&mut self, value: &Expr, at: Position) {
        let Expr::Variable(variable, ..) = value else { return };
        let is_caught = self.find(&variable.1).is_some_and(|index| self.scope[index].kind == VariableKind::Catch);
        if is_caught {
            self.findings
                .warning(self.text, at, "RB1116", format!("`throw {}` forgets where the error happened", variable.1))
                .hint("write `throw;`, which throws it again as it was");
        }
    }

    fn import(&mut self, import: &(Expr, rhai::Ident)) {
        let path = match &import.0 {
            Expr::StringConstant(path, _) => Some(path.to_string()),
            _ => None,
        };
        if let Some(path) = &path {
            self.calls.imports(self.text, self.function.as_deref(), path);
        }
        if !import.1.name.is_empty() {
            self.imports.push(Import { alias: import.1.name.to_string(), path, at: import.1.pos, is_used: false });
        }
    }

    // Expressions.

    /// Tells of escapes in a text in backticks, where they stand for themselves.
    fn backticks(&mut self, text: &str, at: Position) {
        let Some(escape) = escape_in(text) else { return };
        if self.findings.looks_at(self.text, at) != Some('`') {
            return;
        }
        self.findings
            .warning(self.text, at, "RB1117", format!("`{escape}` in a text in backticks stays a backslash and a letter"))
            .hint("write the text in double quotes, or break the line itself");
    }

    pub(super) fn expr(&mut self, expr: &Expr, seat: Seat) {
        match expr {
            Expr::DynamicConstant(value, at) => {
                if let Some(closure) = closure_name(value) {
                    self.closure(&closure, &[], *at, seat);
                }
            }
            Expr::StringConstant(text, at) if escape_in(text).is_some() => self.backticks(text, *at),
            Expr::InterpolatedString(parts, at) => {
                for part in parts {
                    match part {
                        Expr::StringConstant(text, _) => self.backticks(text, *at),
                        part => self.expr(part, Seat::Used),
                    }
                }
            }
            Expr::Array(items, _) => items.iter().for_each(|item| self.expr(item, seat.of_part())),
            Expr::Map(map, _) => map.0.iter().for_each(|(_, value)| self.expr(value, seat.of_part())),
            Expr::And(parts, _) | Expr::Or(parts, _) | Expr::Coalesce(parts, _) => {
                parts.iter().for_each(|part| self.expr(part, Seat::Used));
            }
            Expr::Variable(variable, _, at) if variable.2.is_empty() => self.mention(&variable.1, *at),
            Expr::Variable(variable, _, at) => {
                let path: Vec<&str> = variable.2.path.iter().map(|part| part.name.as_str()).collect();
                self.qualified(&path, variable.2.position(), &variable.1, *at);
            }
            Expr::Stmt(block) => match curried(block.statements()) {
                Some((name, captured, at)) => self.closure(&name, captured, at, seat),
                None => self.block(block.statements(), seat),
            },
            Expr::FnCall(call, at) => self.call(call, *at, seat),
            Expr::Dot(..) | Expr::Index(..) => self.chain(expr, seat),
            _ => {}
        }
    }

    /// `a.b[c].d(e)`: the parts from left to right.
    fn chain(&mut self, expr: &Expr, seat: Seat) {
        let (first, links) = links(expr);
        self.expr(first, Seat::Used);
        let last = links.len().saturating_sub(1);
        for (index, link) in links.iter().enumerate() {
            let seat = if index == last { seat } else { Seat::Used };
            match link {
                Link::Index(key) => self.expr(key, Seat::Used),
                Link::Member(Expr::MethodCall(call, at)) => {
                    self.method(call, *at, seat);
                    if is_in_place(&call.name) && links[..index].iter().all(Link::is_place) {
                        self.changed(first, Some(&call.name));
                    }
                }
                Link::Member(_) => {}
            }
        }
    }

    fn assigned(&mut self, target: &Expr) {
        match target {
            Expr::Dot(..) | Expr::Index(..) => {
                let (first, links) = links(target);
                if links.iter().all(Link::is_place) {
                    self.changed(first, None);
                }
            }
            other => self.changed(other, None),
        }
    }

    /// Walks a closure where it stands, so that its captures are the variables around it.
    fn closure(&mut self, name: &str, captured: &[Expr], at: Position, seat: Seat) {
        let text = self.text;
        let Some(body) = text.closure(name) else { return };
        let role = match seat {
            Seat::Work(role) => role,
            _ => Role::Other,
        };
        if seat == Seat::Kept || role == Role::Undo {
            self.kept(captured, at, role);
        }
        self.frames.push(Frame { base: self.scope.len(), role });
        let base = self.scope.len();
        let own = body.params.get(captured.len()..).unwrap_or_default();
        self.params(own.iter().map(|name| (name.as_str(), Position::NONE)));
        self.body(&body.statements);
        self.close(base);
        self.frames.pop();
    }

    // Names with a module.

    /// The import of this alias; it counts as used from now on.
    pub(super) fn imported(&mut self, alias: &str) -> Option<Option<String>> {
        let import = self.imports.iter_mut().rev().find(|import| import.alias == alias)?;
        import.is_used = true;
        Some(import.path.clone())
    }

    pub(super) fn aliases(&self) -> impl Iterator<Item = &String> {
        self.imports.iter().map(|import| &import.alias)
    }

    pub(super) fn note(&mut self, called: Called) {
        self.calls.note(self.text, self.function.as_deref(), called);
    }
}

/// A part of a chain after its first.
pub(super) enum Link<'e> {
    Index(&'e Expr),
    Member(&'e Expr),
}

impl Link<'_> {
    /// Whether it is a place in the value before it, not a new value.
    fn is_place(&self) -> bool {
        matches!(self, Self::Index(_) | Self::Member(Expr::Property(..)))
    }
}

/// Takes a chain apart. Rhai nests it to the right: `a.(b[(c).(d)])`.
pub(super) fn links(expr: &Expr) -> (&Expr, Vec<Link<'_>>) {
    let (mut first, mut links) = (expr, Vec::new());
    let (mut next, mut flags, mut is_index) = match expr {
        Expr::Dot(parts, flags, _) => (&**parts, *flags, false),
        Expr::Index(parts, flags, _) => (&**parts, *flags, true),
        _ => return (first, links),
    };
    first = if matches!(first, Expr::Dot(..) | Expr::Index(..)) { &next.lhs } else { first };
    loop {
        let rest = &next.rhs;
        let (link, following) = match rest {
            Expr::Dot(parts, more, _) if !flags.contains(ASTFlags::BREAK) => (&parts.lhs, Some((&**parts, *more, false))),
            Expr::Index(parts, more, _) if !flags.contains(ASTFlags::BREAK) => (&parts.lhs, Some((&**parts, *more, true))),
            other => (other, None),
        };
        links.push(if is_index { Link::Index(link) } else { Link::Member(link) });
        let Some(following) = following else { return (first, links) };
        (next, flags, is_index) = following;
    }
}

/// The name of a closure that captures nothing.
fn closure_name(value: &Dynamic) -> Option<String> {
    let pointer = value.read_lock::<FnPtr>()?;
    is_closure(pointer.fn_name()).then(|| pointer.fn_name().to_owned())
}

/// A closure that captures: the compiler shares the variables and curries them.
fn curried(statements: &[Stmt]) -> Option<(String, &[Expr], Position)> {
    let [Stmt::Share(_), Stmt::Expr(call)] = statements else { return None };
    let Expr::FnCall(call, at) = &**call else { return None };
    match call.args.split_first()? {
        (Expr::DynamicConstant(value, _), captured) if call.name == "curry" => Some((closure_name(value)?, captured, *at)),
        _ => None,
    }
}

/// Methods of texts, lists, maps and blobs that change the value before the dot.
fn is_in_place(method: &str) -> bool {
    const IN_PLACE: [&str; 26] = [
        "push",
        "pop",
        "shift",
        "insert",
        "remove",
        "append",
        "clear",
        "truncate",
        "chop",
        "drain",
        "retain",
        "splice",
        "dedup",
        "sort",
        "sort_by",
        "order",
        "order_desc",
        "reverse",
        "pad",
        "set",
        "crop",
        "make_upper",
        "make_lower",
        "mixin",
        "fill_with",
        "set_bit",
    ];
    IN_PLACE.contains(&method)
}

impl Walk<'_> {
    /// The literal call `runbook(#{…})`, which is read without running it.
    pub(super) fn is_header(&self, call: &FnCallExpr) -> bool {
        call.name == "runbook" && !call.is_qualified() && self.function.is_none() && self.frames.is_empty()
    }
}
