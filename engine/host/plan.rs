//! Planning: what a run would do is told and not done, and what nobody can know is unknown.
//!
//! Two rules keep a plan honest. The result of an effect that was not had is an [`Unknown`], unless it
//! follows from the call; it may be kept, passed on and printed (as `?`), and whoever decides on it ends
//! what can be predicted. And after an effect, whatever it may have changed can not be read any more.
//!
//! A run that carries a plan out has the same effects, see [`Expected`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, OnceLock, PoisonError};

use rhai::{Dynamic, Engine, EvalAltResult, ImmutableString, Position};

use crate::error::{Error, Kind, Result};
use crate::host::{Ctx, FunctionKind, MODULES, Mode, RhaiResultOf, error_of};
use crate::model::system::Manager;
use crate::model::{Effect, Plan, PlannedEffect, PlannedStep};

/// A value that depends on an effect that was not had.
#[derive(Debug, Clone)]
pub struct Unknown {
    why: ImmutableString,
}

/// Beside the `?` an unknown value prints as, so that it is found again in a longer text. Not visible.
const MARK: char = '\u{2063}';

/// How a run ends that decides on what its test does not say.
pub(crate) const UNSAID: &str = "which the test does not say";

/// What ends the part of a script that can be predicted; no script can catch it.
#[derive(Debug, Clone)]
pub(crate) struct Unpredictable(String);

/// What ends a run that would do something else than its plan says; no script can catch it.
#[derive(Debug, Clone)]
pub(crate) struct Drift(pub(crate) Error);

impl Unpredictable {
    /// As an error of the run.
    pub(crate) fn error(&self) -> Error {
        Error::new(Kind::Conflict, format!("this can not be predicted: {}", self.0)).permanent()
    }

    fn thrown(why: impl Into<String>, position: Position) -> Box<EvalAltResult> {
        EvalAltResult::ErrorTerminated(Dynamic::from(Self(why.into())), position).into()
    }
}

/// What a planning run told until now.
#[derive(Debug, Default)]
pub struct Told {
    effects: Vec<PlannedEffect>,
    unknown: BTreeMap<String, String>,
    printed: bool,
}

#[derive(Debug, Default)]
struct Telling(Mutex<Told>);

fn with<T>(ctx: &Ctx, work: impl FnOnce(&mut Told) -> T) -> T {
    work(&mut ctx.state::<Telling>().0.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The result of `function`, which was not called.
pub(super) fn unknown(function: &str) -> Dynamic {
    Dynamic::from(Unknown { why: format!("it depends on what `{function}` answers").into() })
}

/// The result of `function`, of which a test does not say what it answers.
pub(super) fn unsaid(function: &str) -> Dynamic {
    Dynamic::from(Unknown { why: format!("it depends on what `{function}` answers, {UNSAID}").into() })
}

/// Whether a call in a plan would see things as they are and not as they will be by then.
pub(super) fn must_be_fresh(ctx: &Ctx, function: &str, position: Position) -> RhaiResultOf<()> {
    if ctx.mode() != Mode::Plan || !is_read(function) {
        return Ok(());
    }
    is_fresh(ctx, function).map_err(|why| Unpredictable::thrown(why, position))
}

/// As [`must_be_fresh`], for a call whose arguments make it a read.
pub(super) fn reads(ctx: &Ctx, function: &str, position: Position) -> RhaiResultOf<()> {
    if ctx.mode() != Mode::Plan {
        return Ok(());
    }
    is_fresh(ctx, function).map_err(|why| Unpredictable::thrown(why, position))
}

fn is_fresh(ctx: &Ctx, function: &str) -> Result<(), String> {
    let module = module_of(function);
    if matches!(module, "time" | "secret" | "report") {
        return Ok(());
    }
    with(ctx, |told| {
        let mut changes = told.effects.iter().filter(|told| may_change(told));
        if let Some(first) = changes.find(|told| reaches(module_of(&told.effect.function), module)) {
            return Err(format!("`{function}` looks at what `{}` may have changed by then", first.effect.function));
        }
        if told.printed {
            return Err(format!("`{function}` may be asked with a text that has an unknown value in it"));
        }
        Ok(())
    })
}

fn is_read(function: &str) -> bool {
    let (module, name) = function.split_once("::").unwrap_or(("", function));
    let functions = MODULES.iter().find(|known| known.name == module).map_or(&[][..], |module| module.functions);
    functions.iter().any(|known| known.name == name && known.kind == FunctionKind::Read)
}

fn module_of(function: &str) -> &str {
    function.split("::").next().unwrap_or_default()
}

/// Whether an effect of the one module may change what the other one looks at. A program, a request or a
/// restart may change anything but what the run itself keeps.
fn reaches(effect: &str, read: &str) -> bool {
    match effect {
        "fs" => matches!(read, "fs" | "logs" | "tls"),
        "store" => read == "store",
        "notify" => read == "notify",
        "samples" => matches!(read, "samples" | "rules"),
        "incident" => read == "incident",
        "sql" => matches!(read, "sql" | "http"),
        "redis" => matches!(read, "redis" | "http"),
        "prom" => matches!(read, "prom" | "http"),
        _ => !matches!(read, "store" | "incident" | "rules"),
    }
}

/// Whether an effect changes something: one that finds everything as it should be does not, when it knows that.
fn may_change(told: &PlannedEffect) -> bool {
    !(told.exact && told.effect.idle)
}

/// Whether what an effect says was seen before an earlier one may have changed it.
fn is_stale(told: &Told, effect: &Effect) -> bool {
    let looks = matches!(module_of(&effect.function), "fs" | "docker" | "systemd" | "service") && effect.function != "docker::exec";
    looks
        && told.effects.iter().filter(|earlier| may_change(earlier)).any(|earlier| {
            let (theirs, ours) = (module_of(&earlier.effect.function), module_of(&effect.function));
            match theirs {
                _ if earlier.effect.function == "docker::exec" => true,
                "exec" | "http" => true,
                "fs" => ours == "fs" && overlap(&earlier.effect.target, &effect.target),
                "docker" | "systemd" | "service" if ours != "fs" => theirs != ours || earlier.effect.target == effect.target,
                _ => false,
            }
        })
}

/// Whether one path is the other, or in it.
fn overlap(one: &str, other: &str) -> bool {
    let within = |inner: &str, outer: &str| std::path::Path::new(inner).starts_with(outer);
    within(one, other) || within(other, one)
}

/// Tells an effect of a plan, or compares it with the plan that is carried out.
///
/// # Errors
///
/// When it is not the next one of the plan; nothing was done then.
pub(super) fn meet(ctx: &Ctx, branch: &str, effect: &Effect, position: Position) -> RhaiResultOf<()> {
    if ctx.mode() == Mode::Plan {
        with(ctx, |told| tell(told, branch, effect));
        return Ok(());
    }
    let Some(expected) = ctx.expected() else { return Ok(()) };
    expected.meet(ctx, branch, effect).map_err(|error| drift(error, position))
}

fn tell(told: &mut Told, branch: &str, effect: &Effect) {
    let shows = |text: &str| text.contains(MARK);
    let is_open = shows(&effect.target) || shows(&effect.summary) || effect.diff.as_deref().is_some_and(shows);
    let exact = !is_open && !is_stale(told, effect);
    let mut effect = effect.clone();
    if !exact {
        effect.diff = None;
        effect.summary = match is_open {
            true => effect.summary.replace(MARK, ""),
            false => format!("{} {}", effect.function, effect.target),
        };
        effect.target = effect.target.replace(MARK, "");
    }
    told.effects.push(PlannedEffect { branch: branch.to_owned(), effect, exact });
}

pub(crate) fn drift(error: Error, position: Position) -> Box<EvalAltResult> {
    EvalAltResult::ErrorTerminated(Dynamic::from(Drift(error)), position).into()
}

/// What the work of a step comes to. In a plan, an error after an effect may be due to its not being had:
/// the rest of the step is unknown, and so is its value. Where a plan is carried out, none of the step's
/// effects may be left.
///
/// # Errors
///
/// As the work failed; `conflict` when an effect is missing.
pub(crate) fn ended(ctx: &Ctx, key: &str, result: RhaiResultOf<Dynamic>) -> RhaiResultOf<Dynamic> {
    match result {
        Ok(value) => match ctx.expected().map_or(Ok(()), |expected| expected.all_met(key)) {
            Ok(()) => Ok(value),
            Err(error) => Err(drift(error, Position::NONE)),
        },
        Err(error) => match why(ctx, &error) {
            Some(why) => {
                with(ctx, |told| told.unknown.insert(key.to_owned(), why.clone()));
                Ok(Dynamic::from(Unknown { why: why.into() }))
            }
            None => Err(error),
        },
    }
}

/// Leaves a step open: its value is unknown, for this reason.
pub(crate) fn left_open(ctx: &Ctx, key: &str, why: &str) -> Dynamic {
    with(ctx, |told| told.unknown.insert(key.to_owned(), why.to_owned()));
    Dynamic::from(Unknown { why: why.into() })
}

/// What will have changed by now, as far as it was told.
pub(crate) fn so_far(ctx: &Ctx) -> Vec<Effect> {
    with(ctx, |told| told.effects.iter().map(|told| told.effect.clone()).collect())
}

/// Takes it that this will have changed before: by runs above a sub-run, or by a sub-run. It belongs to no
/// step here.
pub(crate) fn had(ctx: &Ctx, effects: impl IntoIterator<Item = Effect>) {
    let elsewhere = |effect| PlannedEffect { branch: String::new(), effect, exact: true };
    with(ctx, |told| told.effects.extend(effects.into_iter().map(elsewhere)));
}

/// The result of a sub-run, which was planned and not run.
pub(crate) fn planned_run(ctx: &Ctx, key: &str, plan: &Plan) -> Dynamic {
    had(ctx, plan.effects().map(|planned| planned.effect.clone()));
    if plan.is_open() {
        // It may have an effect on anything.
        had(ctx, [Effect::new("run", &plan.runbook, format!("run {}", plan.runbook))]);
    }
    Dynamic::from(Unknown { why: format!("it depends on what `{key}` comes to").into() })
}

/// The answer to a question that a plan can not have.
pub(crate) fn unanswered(ctx: &Ctx, result: &RhaiResultOf<Dynamic>) -> Option<(String, Dynamic)> {
    let why = match result {
        Ok(value) => value.read_lock::<Unknown>()?.why.to_string(),
        Err(error) => why(ctx, error)?,
    };
    Some((why.clone(), Dynamic::from(Unknown { why: why.into() })))
}

/// Why an error in a plan says nothing about the run.
fn why(ctx: &Ctx, error: &EvalAltResult) -> Option<String> {
    if ctx.mode() != Mode::Plan {
        return None;
    }
    match error.unwrap_inner() {
        EvalAltResult::ErrorTerminated(reason, _) => reason.read_lock::<Unpredictable>().map(|reason| reason.0.clone()),
        _ if with(ctx, |told| told.effects.is_empty()) || error_of(error).kind == Kind::Denied => None,
        _ => Some(error_of(error).message.lines().next().unwrap_or_default().replace(MARK, "")),
    }
}

/// Why a whole script that ended with this error can not be predicted further; nothing when it fails.
pub(crate) fn rest(ctx: &Ctx, error: &Error) -> Option<String> {
    let open = error.message.strip_prefix("this can not be predicted: ");
    match open {
        Some(why) => Some(why.to_owned()),
        None if with(ctx, |told| told.effects.is_empty()) || error.kind == Kind::Denied => None,
        None => Some(without_marks(&error.message)),
    }
}

/// Puts what was told to the steps it belongs to.
pub(crate) fn told(ctx: &Ctx, mut steps: Vec<PlannedStep>) -> Vec<PlannedStep> {
    let told = with(ctx, std::mem::take);
    for step in &mut steps {
        step.unknown = step.unknown.take().or_else(|| told.unknown.get(&step.key).cloned());
    }
    for effect in told.effects {
        let is_of = |step: &&mut PlannedStep| step.level.is_none() && belongs(&effect.branch, &step.key);
        if let Some(step) = steps.iter_mut().filter(is_of).max_by_key(|step| step.key.len()) {
            step.effects.push(effect);
        }
    }
    for step in &mut steps {
        // Whichever branch was faster.
        step.effects.sort_by(|one, other| one.branch.cmp(&other.branch));
    }
    steps
}

/// Whether a branch is of this step: the step itself, or a branch of a `parallel` in it.
fn belongs(branch: &str, step: &str) -> bool {
    branch.strip_prefix(step).is_some_and(|rest| rest.is_empty() || rest.starts_with('[') || rest.starts_with('/'))
}

/// What an unknown value can do: be kept, passed on, looked into and printed. Everything else decides
/// on it, or would need to know it.
pub(crate) fn register(engine: &mut Engine, ctx: &Ctx) {
    // Rhai would answer for types it does not know: `unknown == 1` is false, and so on.
    engine.set_fast_operators(false);
    engine.register_type_with_name::<Unknown>("unknown value");
    engine.register_indexer_get(|it: &mut Unknown, _: ImmutableString| it.clone());
    engine.register_indexer_get(|it: &mut Unknown, _: i64| it.clone());
    let run = ctx.clone();
    let print = move |_: &mut Unknown| {
        with(&run, |told| told.printed = true);
        format!("?{MARK}")
    };
    engine.register_fn("to_string", print.clone());
    engine.register_fn("to_debug", print);
    for operator in ["==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "**", "&", "|", "^", "<<", ">>", "+=", "-=", "contains"] {
        engine.register_fn(operator, |it: Unknown, _: Dynamic| -> RhaiResultOf<Dynamic> { Err(it.used()) });
        engine.register_fn(operator, |_: Dynamic, it: Unknown| -> RhaiResultOf<Dynamic> { Err(it.used()) });
        engine.register_fn(operator, |it: Unknown, _: Unknown| -> RhaiResultOf<Dynamic> { Err(it.used()) });
    }
    // Neither can a text that has an unknown value in it be compared.
    type Compare = fn(&str, &str) -> bool;
    let compare: [(&str, Compare); 5] = [
        ("==", |one, other| one == other),
        ("!=", |one, other| one != other),
        ("contains", |text, part| text.contains(part)),
        ("starts_with", |text, part| text.starts_with(part)),
        ("ends_with", |text, part| text.ends_with(part)),
    ];
    for (name, compare) in compare {
        engine.register_fn(name, move |one: ImmutableString, other: ImmutableString| -> RhaiResultOf<bool> {
            if one.contains(MARK) || other.contains(MARK) {
                return Err(Unpredictable::thrown("it decides on a text that has an unknown value in it", Position::NONE));
            }
            Ok(compare(&one, &other))
        });
    }
    for operator in ["!", "-", "+"] {
        engine.register_fn(operator, |it: Unknown| -> RhaiResultOf<Dynamic> { Err(it.used()) });
    }
}

impl Unknown {
    fn used(&self) -> Box<EvalAltResult> {
        Unpredictable::thrown(self.why.as_str(), Position::NONE)
    }
}

/// A text without the marks of unknown values.
pub(crate) fn without_marks(text: &str) -> String {
    text.replace(MARK, "")
}

/// The effects of the plan that a run carries out.
#[derive(Debug, Default)]
pub struct Expected {
    next: Mutex<BTreeMap<String, VecDeque<PlannedEffect>>>,
    /// Steps that the plan knows to the end.
    known: BTreeSet<String>,
    /// Steps of which the plan knows the beginning.
    open: BTreeSet<String>,
    /// Whether the plan ends before the script does.
    rest_is_open: bool,
    /// Sub-runs that did not come yet.
    runs: Mutex<BTreeSet<String>>,
    fingerprints: BTreeMap<String, String>,
    compared: OnceLock<Result<()>>,
    lifted: OnceLock<()>,
}

impl Expected {
    /// What a plan with these steps expects.
    pub fn new(steps: &[PlannedStep], rest_is_open: bool, fingerprints: BTreeMap<String, String>) -> Self {
        let mut next: BTreeMap<String, VecDeque<PlannedEffect>> = BTreeMap::new();
        for effect in steps.iter().flat_map(|step| &step.effects) {
            next.entry(effect.branch.clone()).or_default().push_back(effect.clone());
        }
        let keys = |open: bool| {
            steps.iter().filter(|step| step.level.is_none() && step.unknown.is_some() == open).map(|step| step.key.clone()).collect()
        };
        let runs = steps.iter().filter(|step| step.run.is_some()).map(|step| step.key.clone()).collect();
        Self {
            next: Mutex::new(next),
            known: keys(false),
            open: keys(true),
            runs: Mutex::new(runs),
            rest_is_open,
            fingerprints,
            ..Self::default()
        }
    }

    /// A sub-run starts: its effects are compared where it runs.
    ///
    /// # Errors
    ///
    /// `conflict`, when the plan does not have it.
    pub(crate) fn meet_run(&self, key: &str, runbook: &str) -> Result<()> {
        let is_planned = self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        if is_planned || self.lifted.get().is_some() || self.is_open(key) {
            return Ok(());
        }
        let run = Effect::new("run", runbook, format!("run {runbook}"));
        Err(differs(&format!("`{}` is not in the plan", run.summary), &run, &run))
    }

    fn meet(&self, ctx: &Ctx, branch: &str, effect: &Effect) -> Result<()> {
        if self.lifted.get().is_some() {
            return Ok(());
        }
        self.compared.get_or_init(|| compare(ctx, &self.fingerprints)).clone()?;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        match next.get_mut(branch).and_then(VecDeque::pop_front) {
            Some(planned) if planned.is(effect) => Ok(()),
            Some(planned) => Err(differs(
                &format!("the plan says `{}`, and this is `{}`", planned.effect.summary, effect.summary),
                &planned.effect,
                effect,
            )),
            None if self.is_open(branch) => Ok(()),
            None => Err(differs(&format!("`{}` is not in the plan", effect.summary), effect, effect)),
        }
    }

    fn is_open(&self, branch: &str) -> bool {
        let of = |keys: &BTreeSet<String>| keys.iter().filter(|key| belongs(branch, key)).map(String::len).max();
        match (of(&self.open), of(&self.known)) {
            (Some(open), Some(known)) => open >= known,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => self.rest_is_open,
        }
    }

    /// Whether every effect of this step was had.
    fn all_met(&self, step: &str) -> Result<()> {
        if self.lifted.get().is_some() {
            return Ok(());
        }
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        missing(next.iter().filter(|(branch, _)| belongs(branch, step)).flat_map(|(_, left)| left))?;
        self.no_run_missing(|key| belongs(key, step))
    }

    fn no_run_missing(&self, is_due: impl Fn(&str) -> bool) -> Result<()> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(key) = runs.iter().find(|key| is_due(key)) else { return Ok(()) };
        let run = Effect::new("run", key, key);
        Err(differs(&format!("the plan says `{key}`, which did not come"), &run, &run))
    }

    /// Whether every effect of the plan was had.
    ///
    /// # Errors
    ///
    /// `conflict`, naming the first that is missing.
    pub fn all(&self) -> Result<()> {
        missing(self.next.lock().unwrap_or_else(PoisonError::into_inner).values().flatten())?;
        self.no_run_missing(|_| true)
    }

    /// Takes a step for done: a resumed run had its effects before.
    pub fn skip(&self, step: &str) {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).retain(|branch, _| !belongs(branch, step));
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).retain(|key| !belongs(key, step));
    }

    /// Expects nothing any more: what takes a run back is in no plan.
    pub fn lift(&self) {
        self.lifted.get_or_init(|| ());
    }
}

fn missing<'e>(mut left: impl Iterator<Item = &'e PlannedEffect>) -> Result<()> {
    match left.next() {
        None => Ok(()),
        Some(planned) => {
            Err(differs(&format!("the plan says `{}`, which did not come", planned.effect.summary), &planned.effect, &planned.effect))
        }
    }
}

fn differs(what: &str, planned: &Effect, found: &Effect) -> Error {
    let error = Error::new(Kind::Conflict, format!("things are not as they were when the plan was made: {what}"))
        .permanent()
        .code("RB3201")
        .target(found.target.clone())
        .hint("look at it, and make a new plan");
    match (&planned.diff, &found.diff) {
        (Some(planned), Some(found)) if planned != found => error.hint(format!("the change would now be:\n{found}")),
        _ => error,
    }
}

/// What tells the targets of these effects from others like them. What can not be told is left out.
pub(crate) fn fingerprints(ctx: &Ctx, functions: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let mut names = BTreeSet::new();
    for (function, target) in functions {
        match module_of(&function) {
            "service" if ctx.system().services.manager == Manager::Kubernetes => names.insert("k8s".to_owned()),
            "docker" | "service" => names.insert("docker".to_owned()),
            "k8s" => names.insert("k8s".to_owned()),
            "sql" => names.insert(format!("sql:{target}")),
            _ => false,
        };
    }
    names.into_iter().filter_map(|name| Some((name.clone(), fingerprint(ctx, &name)?))).collect()
}

fn fingerprint(ctx: &Ctx, name: &str) -> Option<String> {
    let runtime = ctx.runtime().ok()?;
    let found = match name.split_once(':') {
        Some(("sql", database)) => runtime.block_on(super::sql::identity(ctx, database)),
        #[cfg(feature = "k8s")]
        None if name == "k8s" => super::k8s::identity(ctx),
        _ => runtime.block_on(super::docker::identity(ctx)),
    };
    found.ok().filter(|id| !id.is_empty())
}

fn compare(ctx: &Ctx, planned: &BTreeMap<String, String>) -> Result<()> {
    for (name, planned) in planned {
        let found = fingerprint(ctx, name);
        if found.as_ref() != Some(planned) {
            let found = found.unwrap_or_else(|| "not to be found".to_owned());
            return Err(Error::new(
                Kind::Conflict,
                format!("`{name}` is another one than when the plan was made: it was `{planned}`, it is `{found}`"),
            )
            .permanent()
            .code("RB3201")
            .target(name.clone())
            .hint("look where this would go, and make a new plan"));
        }
    }
    Ok(())
}
