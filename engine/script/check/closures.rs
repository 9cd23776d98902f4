//! Closures: what they change of the variables around them, and what they keep.

use rhai::{Expr, Position};

use crate::script::check::walk::{Role, VariableKind, Walk};

impl Walk<'_> {
    /// A variable, or something in it, is assigned or changed by a method.
    pub(super) fn changed(&mut self, first: &Expr, method: Option<&str>) {
        let Expr::Variable(variable, _, at) = first else { return };
        if !variable.2.is_empty() {
            return;
        }
        let Some(index) = self.find(&variable.1) else { return };
        let name = &variable.1;
        let how = method.map_or(String::new(), |method| format!(" by `{method}`"));
        // The closures that are between the variable and here; the strictest decides.
        let captured = |role: Role| self.frames.iter().any(|frame| frame.role == role && index < frame.base);
        if captured(Role::Step) {
            self.findings
                .error(self.text, *at, "RB1120", format!("the step changes the outer variable `{name}`{how}"))
                .hint("return the value instead: when a run is resumed, finished steps are not run again");
        } else if captured(Role::Parallel) {
            self.findings
                .warning(self.text, *at, "RB1121", format!("closures that run at the same time change `{name}`{how}"))
                .hint("return values instead; `parallel` gives them in the order of the items");
        } else if captured(Role::Check) {
            self.findings
                .warning(self.text, *at, "RB1121", format!("the check changes the outer variable `{name}`{how}"))
                .hint("a question changes nothing; return the value with its level");
        }
    }

    /// A closure outlives the turn of the loop it is made in.
    pub(super) fn kept(&mut self, captured: &[Expr], at: Position, role: Role) {
        for variable in captured {
            let Expr::Variable(variable, _, mentioned) = variable else { continue };
            let Some(index) = self.find(&variable.1) else { continue };
            if self.scope[index].kind != VariableKind::Loop {
                continue;
            }
            let name = &variable.1;
            let at = if mentioned.is_none() { at } else { *mentioned };
            let when = if role == Role::Undo { "when the undo runs" } else { "when it is called later" };
            self.findings
                .warning(self.text, at, "RB1115", format!("the closure keeps the loop variable `{name}`, which is the last one {when}"))
                .hint(format!("copy it inside the loop: `let {name} = {name};`"));
        }
    }
}
