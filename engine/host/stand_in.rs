//! Host modules as a test of a runbook has them: what touches the world is not done. What it answers is asked of
//! the test, after everything a name alone can tell was checked: types, options, permissions.

use std::any::TypeId;

use rhai::{Dynamic, Engine, EvalAltResult, FuncInfo, FuncRegistration, Module, NativeCallContext, RhaiFunc, Shared};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::host::{Answer, Call, Function, FunctionKind, HostModule, NeedObject, Question, RhaiResultOf, argument, plan, value};
use crate::model::Effect;
use crate::model::case::Reply;

/// What ends a script that reads what its test does not say; no script can catch it.
#[derive(Debug, Clone)]
pub(crate) struct Unanswered(pub(crate) Error);

/// A module of which only that works which touches nothing but the run.
pub(crate) fn module(host: &'static HostModule) -> Module {
    let mut module = (host.build)();
    for form in forms(host) {
        let (name, types) = (form.function.name, form.types.clone());
        let stand_in = move |native: Option<NativeCallContext<'_>>, arguments: &mut [&mut Dynamic]| match native {
            Some(native) => form.call(&native, arguments),
            None => Err("no run to ask".into()),
        };
        let stand_in = RhaiFunc::Pure { func: Shared::new(stand_in), has_context: true, is_pure: true, is_volatile: true };
        FuncRegistration::new(name).in_internal_namespace().set_into_module_raw(&mut module, types, stand_in);
    }
    module
}

/// One way to call a function that a test answers.
struct Form {
    function: &'static Function,
    /// With its module, as in `docker::restart`.
    name: String,
    types: Vec<TypeId>,
    /// Which argument is the map of options.
    options: Option<usize>,
    returns_nothing: bool,
}

/// Every form of the functions of a module that a test answers, from the metadata of the module itself.
fn forms(host: &'static HostModule) -> Vec<Form> {
    let mut engine = Engine::new_raw();
    engine.register_static_module(host.name, (host.build)().into());
    let form = |info: FuncInfo<'_>| {
        let found = info.metadata;
        let function = host.functions.iter().find(|function| function.name == found.name && function.is_answered_in_tests())?;
        let returned: String = found.return_type.split_whitespace().collect();
        Some(Form {
            function,
            name: format!("{}::{}", host.name, function.name),
            types: found.param_types.iter().copied().collect(),
            options: found.params_info.iter().position(|param| param.split(':').next().is_some_and(|name| name.trim() == "options")),
            returns_nothing: matches!(returned.as_str(), "" | "()" | "RhaiResultOf<()>"),
        })
    };
    engine.collect_fn_metadata(None, form, false)
}

impl Form {
    fn call(&self, native: &NativeCallContext<'_>, arguments: &[&mut Dynamic]) -> RhaiResultOf<Dynamic> {
        let call = Call::new(native, &self.name)?;
        if let (Some(check), Some(options)) = (self.function.options, self.options.and_then(|at| arguments.get(at))) {
            check(options).map_err(|wrong| call.wrong_option(&wrong))?;
        }
        let plain: Result<Vec<Value>> = arguments.iter().map(|argument| value::plain(&argument::as_texts(argument))).collect();
        let plain = plain.map_err(|error| call.fail(error))?;
        self.permit(&call, &plain)?;
        match self.function.kind {
            FunctionKind::Effect => self.change(&call, plain),
            FunctionKind::Read | FunctionKind::Pure => self.read(&call, plain),
        }
    }

    /// Asks for the permissions as far as names go: what they stand for is not there.
    fn permit(&self, call: &Call<'_>, arguments: &[Value]) -> RhaiResultOf<()> {
        let name_of = |object: NeedObject| match object {
            NeedObject::Fixed(name) => Some(name.to_owned()),
            NeedObject::Argument(at) => Some(in_words(arguments.get(at)?)),
        };
        let permissions = call.ctx().permissions();
        let checked =
            self.function.all_needs().map(|need| permissions.check_name(need.section, need.verb, name_of(need.object).as_deref()));
        let mut denied = Vec::new();
        let mut granted = 0;
        for check in checked {
            match check {
                Ok(()) => granted += 1,
                Err(error) => denied.push(error),
            }
        }
        match denied.into_iter().next() {
            Some(error) if granted == 0 || !self.function.one_is_enough => Err(call.fail(error)),
            _ => Ok(()),
        }
    }

    fn read(&self, call: &Call<'_>, arguments: Vec<Value>) -> RhaiResultOf<Dynamic> {
        let target = arguments.first().map(in_words).unwrap_or_default();
        let asked = call.ctx().recorder().ask(self.question(arguments));
        let unanswered = |error| EvalAltResult::ErrorTerminated(Dynamic::from(Unanswered(error)), call.position());
        let said = reply(asked.map_err(unanswered)?).and_then(|said| result(said, &target));
        said.map(|said| value::dynamic(&said.unwrap_or_default())).map_err(|error| call.fail(error))
    }

    /// What a change answers is recorded with it, in a list of one: nothing when the test does not say.
    fn change(&self, call: &Call<'_>, arguments: Vec<Value>) -> RhaiResultOf<Dynamic> {
        let target = arguments.first().map(in_words).unwrap_or_default();
        let summary = format!("{} {target}", self.name);
        let (ctx, question) = (call.ctx().clone(), self.question(arguments));
        let effect = Effect::new(&self.name, &target, summary.trim());
        let said: Vec<Value> = call.effect(effect, Vec::new(), async move {
            let said = reply(ctx.recorder().ask(question)?)?;
            Ok(result(said, &target)?.into_iter().collect())
        })?;
        Ok(match said.first() {
            Some(said) => value::dynamic(said),
            None if self.returns_nothing => Dynamic::UNIT,
            None => plan::unsaid(&self.name),
        })
    }

    fn question(&self, arguments: Vec<Value>) -> Question {
        Question::Call { function: self.name.clone(), arguments, changes: self.function.kind == FunctionKind::Effect }
    }
}

fn reply(answer: Answer) -> Result<Option<Reply>> {
    let read = |value| serde_json::from_value(value).map_err(|error| Error::new(Kind::Bug, format!("this is no answer: {error}")));
    match answer {
        Answer::Nothing => Ok(None),
        Answer::Value(value) => read(value).map(Some),
    }
}

/// What the test says, of this target when it is an error.
fn result(said: Option<Reply>, target: &str) -> Result<Option<Value>> {
    said.map(Reply::into_result).transpose().map_err(|error| if target.is_empty() { error } else { error.target(target) })
}

/// An argument as an effect names it: a command by its words.
fn in_words(argument: &Value) -> String {
    match argument {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(in_words).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::MODULES;

    #[test]
    fn every_function_that_touches_the_world_has_a_stand_in_in_each_of_its_forms() {
        for host in MODULES {
            let forms = forms(host);
            for function in host.functions {
                let is_there = forms.iter().any(|form| form.function.name == function.name);
                assert_eq!(is_there, function.is_answered_in_tests(), "{}::{}", host.name, function.name);
            }
        }
        let sql = MODULES.iter().find(|host| host.name == "sql").unwrap();
        let mut lengths: Vec<usize> = forms(sql).iter().filter(|form| form.function.name == "ping").map(|form| form.types.len()).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, [1, 2]);
    }

    #[test]
    fn what_returns_nothing_is_known() {
        let redis = MODULES.iter().find(|host| host.name == "redis").unwrap();
        let nothing = |name: &str| forms(redis).iter().filter(|form| form.function.name == name).all(|form| form.returns_nothing);
        assert!(nothing("set") && !nothing("get"));
    }

    #[test]
    fn a_command_is_named_by_its_words() {
        assert_eq!(in_words(&serde_json::json!(["/bin/echo", "a b", 1])), "/bin/echo a b 1");
    }
}
