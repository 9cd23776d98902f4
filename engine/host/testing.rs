//! For unit tests of host modules: a context that records in memory, and scripts evaluated in it.

use std::sync::{Arc, Mutex, PoisonError};

use rhai::{Dynamic, Engine, EvalAltResult};
use serde_json::Value;

use crate::error::Result;
use crate::host::argument::WrittenOptions;
use crate::host::{Answer, Ctx, Gate, MODULES, Mode, Permissions, Question, Recorder, RunInfo, Secrets, Stop};
use crate::model::{Effect, EventKind, Intent, Outcome, RunId, System};

/// A recorder that lets everything through and remembers it.
#[derive(Debug, Default)]
pub(crate) struct Remembering {
    events: Mutex<Vec<EventKind>>,
    questions: Mutex<Vec<Question>>,
}

impl Remembering {
    /// What was told so far.
    pub(crate) fn events(&self) -> Vec<EventKind> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was asked so far.
    pub(crate) fn questions(&self) -> Vec<Question> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn push(&self, event: EventKind) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl Recorder for Remembering {
    fn begin(&self, intent: Intent) -> Result<Gate> {
        self.push(EventKind::StepStarted(intent));
        Ok(Gate::Go)
    }

    fn end(&self, key: &str, outcome: Outcome, duration_ms: u64) -> Result<()> {
        self.push(EventKind::StepEnded { key: key.to_owned(), outcome, duration_ms });
        Ok(())
    }

    fn effect(&self, key: &str, effect: Effect) -> Result<()> {
        self.push(EventKind::Effect { key: key.to_owned(), effect });
        Ok(())
    }

    fn tell(&self, event: EventKind) -> Result<()> {
        self.push(event);
        Ok(())
    }

    fn ask(&self, question: Question) -> Result<Answer> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).push(question);
        Ok(Answer::Nothing)
    }
}

/// A run in memory.
pub(crate) struct Bench {
    pub(crate) recorder: Arc<Remembering>,
    pub(crate) ctx: Ctx,
    engine: Engine,
}

impl Bench {
    /// A run with these permissions, in JSON as a header writes them, for no system.
    pub(crate) fn new(allow: Value) -> Self {
        Self::with(allow, System::default(), Secrets::default(), Mode::Apply)
    }

    /// A run with everything chosen.
    pub(crate) fn with(allow: Value, system: System, secrets: Secrets, mode: Mode) -> Self {
        let permissions = Permissions::read(&serde_json::from_value(allow).unwrap(), &system).unwrap();
        Self::made(Self::run(), system, secrets, mode, permissions)
    }

    /// A run whose own directory is this.
    pub(crate) fn inside(directory: &std::path::Path, allow: Value, secrets: Secrets) -> Self {
        let system = System::default();
        let permissions = Permissions::read(&serde_json::from_value(allow).unwrap(), &system).unwrap();
        Self::made(RunInfo { directory: directory.to_owned(), ..Self::run() }, system, secrets, Mode::Apply, permissions)
    }

    /// A run with permissions that a policy capped.
    pub(crate) fn permitted(run: RunInfo, permissions: Permissions) -> Self {
        Self::made(run, System::default(), Secrets::default(), Mode::Apply, permissions)
    }

    fn run() -> RunInfo {
        RunInfo {
            id: RunId::new(),
            number: 1,
            runbook: "test".to_owned(),
            started: "2026-11-21T12:00:00Z".parse().unwrap(),
            directory: std::env::temp_dir(),
        }
    }

    fn made(run: RunInfo, system: System, secrets: Secrets, mode: Mode, permissions: Permissions) -> Self {
        let recorder = Arc::new(Remembering::default());
        let ctx = Ctx::new(run, system, mode, permissions, secrets, recorder.clone(), Arc::new(Stop::new(None)));
        let mut engine = Engine::new();
        engine.register_global_module(crate::host::secret::handle().into());
        for module in MODULES {
            engine.register_static_module(module.name, (module.build)().into());
        }
        engine.set_default_tag(Dynamic::from(ctx.clone()));
        if mode == Mode::Plan {
            crate::host::plan::register(&mut engine, &ctx);
        }
        Self { recorder, ctx, engine }
    }

    /// Evaluates a script.
    pub(crate) fn eval(&self, script: &str) -> std::result::Result<Dynamic, Box<EvalAltResult>> {
        self.eval_with(&mut rhai::Scope::new(), script)
    }

    /// Evaluates a script with variables of its own.
    pub(crate) fn eval_with(&self, scope: &mut rhai::Scope<'_>, script: &str) -> std::result::Result<Dynamic, Box<EvalAltResult>> {
        let ast = self.engine.compile_with_scope(scope, script)?;
        self.ctx.state::<WrittenOptions>().read(&ast);
        self.engine.eval_ast_with_scope(scope, &ast)
    }

    /// Evaluates a script that must fail, and says how.
    pub(crate) fn error(&self, script: &str) -> crate::error::Error {
        crate::host::error_of(&self.eval(script).unwrap_err())
    }
}

#[test]
fn a_module_answers_a_script_within_its_permissions() {
    let bench = Bench::new(serde_json::json!({ "sys": ["memory"] }));
    assert!(bench.eval("sys::memory().total > 0").unwrap().as_bool().unwrap());
    assert_eq!(bench.error("sys::cpu()").kind, crate::error::Kind::Denied);
}

#[test]
fn the_tables_and_the_functions_of_every_module_are_the_same() {
    for module in MODULES {
        let mut exported: Vec<String> = (module.build)().names();
        exported.sort();
        exported.dedup();
        let mut declared: Vec<String> = module.functions.iter().map(|function| function.name.to_owned()).collect();
        declared.sort();
        assert_eq!(declared, exported, "module `{}`", module.name);
    }
}

/// The names of the functions of a module.
trait FunctionNames {
    fn names(&self) -> Vec<String>;
}

impl FunctionNames for rhai::Module {
    fn names(&self) -> Vec<String> {
        let mut engine = Engine::new_raw();
        engine.register_static_module("it", self.clone().into());
        let json: Value = serde_json::from_str(&engine.gen_fn_metadata_to_json(false).unwrap()).unwrap();
        let functions = json["modules"]["it"]["functions"].as_array().cloned().unwrap_or_default();
        // Global functions are how a type of the module behaves, such as how it prints.
        let own = functions.iter().filter(|function| function["namespace"] != "global");
        own.filter_map(|function| function["name"].as_str()).map(str::to_owned).collect()
    }
}

/// A port of this machine that refuses connections for as long as the socket is kept.
pub(crate) fn refusing_port() -> (tokio::net::TcpSocket, u16) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}
