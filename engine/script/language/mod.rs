//! The words of the language that are no module: steps, checks, and what Rhai's own functions lack.

mod ask;
mod flow;
mod parallel;
mod run;
mod step;
mod text;

use rhai::{Module, exported_module};

use crate::host::Function;

pub use step::{Compensation, Finished, compensations};

/// All of them, over Rhai's standard package: a later registration wins.
pub fn module() -> Module {
    let mut module = exported_module!(flow::api);
    module.combine(exported_module!(text::api));
    module
}

/// What the functions of the language declare of themselves.
pub const FUNCTIONS: &[Function] = &[
    Function::pure("step").checked_by(step::check_step_options),
    Function::pure("undo").checked_by(step::check_step_options),
    Function::pure("check").options::<step::CheckOptions>(),
    Function::pure("parallel").options::<parallel::Options>(),
    Function::pure("ask").options::<ask::Options>(),
    Function::effect("run", "the plan of that run").needs("runs", "start", 0).options::<run::Options>(),
    Function::pure("output").options::<step::OutputOptions>(),
];
