//! One case, run: a worker as always, a record in memory, and a world that answers what the case says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::cli::app::App;
use crate::cli::office::Office;
use crate::cli::params;
use crate::cli::run::{Asked, plain_params, this_binary};
use crate::cli::terminal::{WARN, styled};
use crate::cli::test::Test;
use crate::cli::test::judge::{Came, Difference, differences};
use crate::config::Problems;
use crate::error::{Error, Kind, Place, Result};
use crate::model::case::{Case, said};
use crate::model::{Event, EventKind, Run, Span};
use crate::run::{Answers, Faults, HostCall, Notes, Request, Supervisor, Worker};
use crate::script::{Given, check_params};
use crate::store::{Memory, StateDir, Store};

/// A case waits for nothing, so it is over in a moment.
const LONGEST: Span = Span::secs(60);

/// What came of a case.
#[derive(Serialize)]
pub(super) struct Outcome {
    pub(super) runbook: String,
    pub(super) case: String,
    /// Where the case stands.
    at: Place,
    pub(super) passed: bool,
    pub(super) duration_ms: u64,
    pub(super) differences: Vec<Difference>,
    pub(super) unanswered: Vec<Missing>,
    run: Run,
    #[serde(skip)]
    expects_error: bool,
}

/// A call of which the case does not say what it answers.
#[derive(Serialize)]
pub(super) struct Missing {
    call: String,
    arguments: Vec<Value>,
    pub(super) changes: bool,
    /// What to put into the file.
    pub(super) snippet: String,
}

impl Outcome {
    /// Why the run failed, when nobody expected it to.
    pub(super) fn unexpected_error(&self) -> Option<&Error> {
        self.run.error.as_ref().filter(|_| !self.expects_error)
    }
}

/// Runs a case.
pub(super) fn run(test: &Test, index: usize, place: &Throwaway, app: &App) -> Result<Outcome, Problems> {
    let case = &test.file.cases.case[index];
    let answers = Arc::new(answers(test, case));
    let request = request(test, index, answers.clone(), &place.state, app)?;
    let store = Memory::default();
    keep(case, &request, &store)?;
    let notes = Notes::new(&store, &request.script.name, &request.system.name);
    let desk = Office { app, state: &place.state, store: &store, yes: false };
    let supervisor = Supervisor::start(&store, &place.state, &desk, Worker::start(&this_binary()?)?, request, None)?;
    let mut log = Vec::new();
    let run = supervisor.follow(&mut |_: &Run, event: &Event| {
        if let EventKind::Log { text, .. } = &event.kind {
            log.push(text.clone());
        }
    })?;
    let messages: Vec<String> = store.queued()?.iter().map(|parcel| format!("{}: {}", parcel.contact, parcel.message.subject)).collect();
    let kept = |key: &String| Ok(notes.get(key)?.map(|value| (key.clone(), value)));
    let stored: Vec<Option<(String, Value)>> = case.expect.stored.keys().map(kept).collect::<Result<_>>()?;
    let stored: BTreeMap<String, Value> = stored.into_iter().flatten().collect();
    let mut differences = differences(case, &Came { run: &run, messages: &messages, log: &log, stored: &stored });
    let expects_error = case.expect.error.is_some();
    let missing = missing(&answers, &run);
    if missing.is_empty() {
        differences.extend(unused(case, &answers));
    }
    let passed = differences.is_empty() && missing.is_empty() && (run.error.is_none() || expects_error);
    Ok(Outcome {
        runbook: test.runbook.clone(),
        case: case.name.clone(),
        at: test.file.place(&["case", &index.to_string()]),
        passed,
        duration_ms: run.duration_ms,
        differences,
        unanswered: missing,
        run,
        expects_error,
    })
}

/// Keeps what a case says was kept before.
pub(super) fn keep(case: &Case, request: &Request, store: &dyn Store) -> Result<()> {
    let notes = Notes::new(store, &request.script.name, &request.system.name);
    case.stored.iter().try_for_each(|(key, value)| notes.keep(key, &said(value)))
}

/// What a case answers.
pub(super) fn answers(test: &Test, case: &Case) -> Answers {
    Answers::new(&case.answer, &test.file.cases.answer, case.now.unwrap_or(Case::NOW))
}

/// Everything the run of a case is made of.
pub(super) fn request(test: &Test, index: usize, answers: Arc<Answers>, state: &StateDir, app: &App) -> Result<Request, Problems> {
    let (file, case) = (&test.file, &test.file.cases.case[index]);
    let project = app.project()?;
    let loaded = file.system(index, &project.systems(&app.environment), &project.settings.default_system)?;
    for warning in loaded.warnings {
        app.terminal.say(&format!("{} {warning}", styled(WARN, "warning:")));
    }
    let script = app.script(&test.runbook)?;
    let mut given = case.params.iter().map(|(name, value)| (name.clone(), Given::of(value.clone()))).collect();
    let secret_params = params::secrets_of(&mut given, &script.header);
    let wrong = |error: Error| file.wrong(&["case", &index.to_string(), "params"], Error { kind: Kind::Config, ..error });
    let (shown, _) = check_params(&script.header, &given).map_err(wrong)?;
    let asked = Asked {
        origin: app.origin(),
        params: plain_params(&script, &given, &shown),
        script,
        system: loaded.system,
        shown,
        secret_params,
        commit: None,
        timeout: Some(LONGEST),
        plan: None,
        when_locked: None,
        faults: Faults::default(),
    };
    asked.for_test(app, state, answers)
}

/// The calls that stand in the way: reads without an answer, and changes whose answer decided something.
fn missing(answers: &Answers, run: &Run) -> Vec<Missing> {
    let decides = |call: &HostCall| {
        let name = format!("`{}` answers", call.function);
        run.error.as_ref().is_some_and(|error| error.message.contains(&name))
    };
    let reads = answers.unanswered().into_iter().map(|call| (call, false));
    let changes = answers.unsaid().into_iter().filter(decides).map(|call| (call, true));
    reads
        .chain(changes)
        .map(|(call, changes)| Missing { snippet: snippet(&call), call: call.function, arguments: call.arguments, changes })
        .collect()
}

/// Answers that nobody asked for: the case does not show what it seems to.
fn unused(case: &Case, answers: &Answers) -> Vec<Difference> {
    let told = |at: usize| Difference {
        what: format!("answer to `{}`", called(&case.answer[at].call, &case.answer[at].with)),
        expected: "one that is needed".to_owned(),
        found: "that nothing asks for it".to_owned(),
        lines: Vec::new(),
    };
    answers.unused().into_iter().map(told).collect()
}

fn called(function: &str, arguments: &[Value]) -> String {
    let arguments: Vec<String> = arguments.iter().map(Value::to_string).collect();
    if arguments.is_empty() { function.to_owned() } else { format!("{function}({})", arguments.join(", ")) }
}

/// The lines that answer a call.
fn snippet(call: &HostCall) -> String {
    let returns = match call.function.as_str() {
        "ask" => "returns = { approved = true, by = [\"jo\"], reason = \"\" }".to_owned(),
        "run" => "returns = { status = \"succeeded\", outputs = {} }".to_owned(),
        function => format!("returns = {{}}  # what it gives: runbook docs {function}"),
    };
    let with: Vec<String> = call.arguments.iter().map(toml).collect();
    let with = if with.is_empty() { String::new() } else { format!("with = [{}]\n", with.join(", ")) };
    format!("[[case.answer]]\ncall = \"{}\"\n{with}{returns}", call.function)
}

/// A value as a line of TOML; a long text as a pattern.
fn toml(value: &Value) -> String {
    const LONGEST: usize = 48;
    match value {
        Value::String(text) => {
            let first = text.lines().next().unwrap_or_default();
            let short: String = first.chars().take(LONGEST).collect();
            let rest = if short.len() < text.len() { "*" } else { "" };
            Value::String(format!("{short}{rest}")).to_string()
        }
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let is_bare =
                |key: &str| !key.is_empty() && key.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'));
            let key = |key: &str| if is_bare(key) { key.to_owned() } else { Value::from(key).to_string() };
            let entries: Vec<String> =
                map.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| format!("{} = {}", key(name), toml(value))).collect();
            if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
        }
        other => other.to_string(),
    }
}

/// A state directory of this command alone, gone with it.
pub(super) struct Throwaway {
    root: PathBuf,
    pub(super) state: StateDir,
}

impl Throwaway {
    pub(super) fn new() -> Result<Self> {
        let root = std::env::temp_dir().join(format!("runbook-test-{}", uuid::Uuid::now_v7()));
        Ok(Self { state: StateDir::open(&root.join("state"))?, root })
    }

    /// A directory beside the state.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        // What can not be removed is for whoever cleans temporary files.
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_snippet_is_toml_that_answers_the_call() {
        let sql = "SELECT count(*) FILTER (WHERE backend_type = 'client backend')\nFROM pg_stat_activity";
        let call = HostCall { function: "sql::query".to_owned(), arguments: vec!["main".into(), sql.into(), json!({ "a b": [1, null] })] };
        let text = snippet(&HostCall { arguments: call.arguments[..2].to_vec(), ..call.clone() });
        let cases: crate::model::case::Cases = toml::from_str(&format!("[[case]]\nname = \"a\"\n{text}")).unwrap();
        assert!(cases.case[0].answer[0].is_to(&call.function, &call.arguments), "{text}");
        assert_eq!(toml(&json!({ "a b": true, "c": null })), "{ \"a b\" = true }");
    }
}
