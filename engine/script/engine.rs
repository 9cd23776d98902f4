//! Building engines: the shared parts once per process, the rest in microseconds per run.

use std::sync::OnceLock;

use rhai::packages::{Package, StandardPackage};
use rhai::{Dynamic, Engine, EvalAltResult, Map, Module, OptimizationLevel, Scope, Shared};

use crate::error::Result;
use crate::host::argument::WrittenOptions;
use crate::host::{Ctx, HostModule, Mode, OutOfTime, modules, plan, secret, stand_in, value};
use crate::model::EventKind;
use crate::script::{Script, Sources, diagnose, language, resolver};

/// The limits of rhai.md §0. None on strings, arrays and maps: these would make building an array
/// quadratic; memory is watched by the worker instead.
const MAX_CALL_LEVELS: usize = 64;
const MAX_EXPR_DEPTH: usize = 64;
const MAX_NAMES: usize = 1000;

/// What all engines share; built once per process, each module when a script first names it.
pub struct Language {
    standard: Shared<Module>,
    globals: Shared<Module>,
    /// What secrets can do, wherever a script has them from.
    secrets: Shared<Module>,
    modules: Vec<Lazy>,
}

/// A host module, built once it is wanted.
type Lazy = (&'static HostModule, OnceLock<Shared<Module>>);

impl Language {
    /// The language of this binary.
    pub fn shared() -> &'static Self {
        static LANGUAGE: OnceLock<Language> = OnceLock::new();
        LANGUAGE.get_or_init(|| Self {
            standard: StandardPackage::new().as_shared_module(),
            globals: language::module().into(),
            secrets: secret::handle().into(),
            modules: modules().map(|module| (module, OnceLock::new())).collect(),
        })
    }

    /// An engine that compiles: it knows the host modules by name, and no function at all.
    pub fn compiler() -> Engine {
        let mut engine = Engine::new_raw();
        // The compiler demands that every module exists, and asks for no more.
        let empty: Shared<Module> = Module::new().into();
        for name in modules().map(|module| module.name).chain(["params", "system"]) {
            engine.register_static_module(name, empty.clone());
        }
        limit(&mut engine);
        engine
    }

    /// An engine that describes: it has all functions, and runs nothing.
    pub fn whole(&self) -> Engine {
        self.engine_with(self.modules.iter())
    }

    /// One that describes what needs no module.
    pub fn without_modules(&self) -> Engine {
        self.engine_with([].iter())
    }

    /// One that describes a single host module, and nothing else.
    pub fn only(&self, name: &str) -> Engine {
        let mut engine = Engine::new_raw();
        for (name, module) in self.modules.iter().filter(|(module, _)| module.name == name).map(built) {
            engine.register_static_module(name, module);
        }
        engine
    }

    fn engine_with<'m>(&self, modules: impl Iterator<Item = &'m Lazy>) -> Engine {
        let mut engine = Engine::new_raw();
        engine.register_global_module(self.standard.clone());
        engine.register_global_module(self.globals.clone());
        engine.register_global_module(self.secrets.clone());
        for (name, module) in modules.map(built) {
            engine.register_static_module(name, module);
        }
        limit(&mut engine);
        engine
    }

    /// An engine for one run.
    pub fn engine(&self, ctx: &Ctx, script: &Script, params: &Map) -> Engine {
        // A module that no text names is called by none. More are named than called, which does no harm.
        let is_named = |name: &str| script.modules.values().chain([&script.text]).any(|text| text.contains(name));
        let mut engine = self.engine_with(self.modules.iter().filter(|(module, _)| is_named(module.name)));
        engine.register_static_module("params", constants(params.iter().map(|(name, value)| (name.to_string(), value.clone()))).into());
        engine.register_static_module("system", system_module(ctx).into());
        let written = ctx.state::<WrittenOptions>();
        written.read(&script.ast);
        engine.set_module_resolver(resolver::Modules::new(script.modules.clone(), written));
        let run = ctx.clone();
        engine.on_progress(move |_| {
            if let Some(reason) = run.stop().reason() {
                return Some(Dynamic::from(reason));
            }
            let late = crate::host::frames::deadline().is_some_and(|deadline| std::time::Instant::now() >= deadline);
            late.then(|| Dynamic::from(OutOfTime))
        });
        let run = ctx.clone();
        engine.on_print(move |text| say(&run, text));
        let run = ctx.clone();
        engine.on_debug(move |text, _, _| say(&run, text));
        engine.set_default_tag(Dynamic::from(ctx.clone()));
        match ctx.mode() {
            Mode::Apply => {}
            Mode::Plan => plan::register(&mut engine, ctx),
            Mode::Test => {
                for (module, _) in self.modules.iter().filter(|(module, _)| is_named(module.name)) {
                    engine.register_static_module(module.name, stand_in::module(module).into());
                }
                plan::register(&mut engine, ctx);
            }
        }
        engine
    }
}

fn built((module, built): &Lazy) -> (&'static str, Shared<Module>) {
    (module.name, built.get_or_init(|| (module.build)().into()).clone())
}

fn limit(engine: &mut Engine) {
    engine
        .set_optimization_level(OptimizationLevel::None)
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(true)
        .set_max_call_levels(MAX_CALL_LEVELS)
        .set_max_expr_depths(MAX_EXPR_DEPTH, MAX_EXPR_DEPTH)
        .set_max_modules(MAX_NAMES)
        .set_max_functions(MAX_NAMES)
        .set_max_variables(MAX_NAMES);
    engine.disable_symbol("eval");
}

fn say(ctx: &Ctx, text: &str) {
    let event = EventKind::Log { step: crate::host::frames::step_key(), text: text.to_owned() };
    if ctx.recorder().tell(event).is_err() {
        ctx.stop().stop(crate::host::StopReason::Lost);
    }
}

fn constants(values: impl Iterator<Item = (String, Dynamic)>) -> Module {
    let mut module = Module::new();
    for (name, value) in values {
        module.set_var(name, value);
    }
    module
}

/// `system::name`, `system::services`, …: the system file as constants, secrets masked.
fn system_module(ctx: &Ctx) -> Module {
    let mut module = Module::new();
    for (name, value) in ctx.system().json().as_object().into_iter().flatten() {
        module.set_var(name.as_str(), value::dynamic(value));
    }
    module
}

/// Runs a script to its end on this thread, which needs a large stack.
///
/// # Errors
///
/// What the script threw, with its place and call chain; or why it had to stop.
pub fn evaluate(engine: &Engine, script: &Script) -> Result<()> {
    let mut scope = Scope::new();
    let result = engine.eval_ast_with_scope::<Dynamic>(&mut scope, &script.ast);
    match result {
        Ok(_) => Ok(()),
        Err(error) => match error.unwrap_inner() {
            EvalAltResult::ErrorTerminated(reason, _) if reason.is::<language::Finished>() => Ok(()),
            _ => Err(diagnose(&error, &Sources::of(script))),
        },
    }
}
