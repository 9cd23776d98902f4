//! Planning a run: a worker that reads and tells, and the plan that comes of it.

use std::io::BufReader;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::host::{Access, Answer, Mode, Question, RunInfo, RunOrder, deleted_files, socket_owners};
use crate::model::{ApprovalVerdict, Danger, Effect, Plan, RunId, Span, System, hash_of, verdict};
use crate::run::dispatch::{Dispatch, Within};
use crate::run::notes::Notes;
use crate::run::outbox;
use crate::run::protocol::{Carried, FromWorker, Job, Reply, ToWorker, receive, send};
use crate::run::redact::Redactor;
use crate::run::supervisor::{Request, Worker};
use crate::run::watched::Watched;
use crate::script::Script;
use crate::store::{Filter, StateDir, Store, now};

/// How long a planning run takes that no limit says more of.
const LONGEST: Duration = Duration::from_secs(3600);

/// Lets a worker tell what a run of this request would do. Nothing is changed, and nothing recorded.
///
/// # Errors
///
/// As the script fails before its first effect, `denied` wherever it is, or `limit`.
pub fn draft(store: &dyn Store, state: &StateDir, dispatch: &dyn Dispatch, worker: Worker, request: &Request, valid: Span) -> Result<Plan> {
    Drafting { store, state, dispatch, valid }.draft(worker, request, Vec::new())
}

/// What a plan and the plans of its sub-runs are made with.
#[derive(Clone, Copy)]
struct Drafting<'a> {
    store: &'a dyn Store,
    state: &'a StateDir,
    dispatch: &'a dyn Dispatch,
    valid: Span,
}

impl Drafting<'_> {
    /// The plan of a request, before which this will have changed.
    fn draft(self, mut worker: Worker, request: &Request, before: Vec<Effect>) -> Result<Plan> {
        let Self { store, state, valid, .. } = self;
        let redactor = Redactor::new(&request.secrets.and(&request.masks))?;
        let made = now();
        let output = worker.process.stdout.take().ok_or_else(|| Error::new(Kind::Bug, "the worker has no output"))?;
        let mut input = worker.process.stdin.take().ok_or_else(|| Error::new(Kind::Bug, "the worker has no input"))?;
        send(&mut input, &ToWorker::Job(Box::new(job(state, request, made, before))))?;
        let (sender, messages) = sync_channel(64);
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Ok(Some(message)) = receive::<FromWorker>(&mut output) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let until = Instant::now() + request.limits.time.map_or(LONGEST, |time| time.0);
        let (mut told, mut watched) = (None, Watched::default());
        loop {
            let message = match messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => return Err(Error::new(Kind::Limit, "limit: time: planning took longer than a run may")),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(Kind::Limit, "the worker crashed while it planned").code("RB3102"));
                }
            };
            match message {
                FromWorker::Ask { id, question: Question::Run(order) } => {
                    let planned = self.sub_run(&order, request).and_then(|plan| value(serde_json::to_value(plan)));
                    send(&mut input, &ToWorker::Reply { id, reply: planned.map(Reply::Answer) })?;
                }
                FromWorker::Ask { id, question } => {
                    let reply = answer(store, state, request, &redactor, &mut watched, question).map(Reply::Answer);
                    send(&mut input, &ToWorker::Reply { id, reply })?;
                }
                FromWorker::Planned(planned) => told = Some(planned),
                FromWorker::LeftOut(_) => {}
                FromWorker::Over { error: Some(error), .. } => return Err(error),
                FromWorker::Over { error: None, .. } => break,
                _ => return Err(Error::new(Kind::Bug, "a planning worker wanted to do something")),
            }
        }
        let told = told.ok_or_else(|| Error::new(Kind::Bug, "the worker told no plan"))?;
        let told: Carried = masked(&redactor, &told)?;
        let mut fingerprints = told.fingerprints;
        fingerprints.extend(host().map(|id| ("host".to_owned(), id)));
        let until = made.checked_add(valid.signed()).unwrap_or(Timestamp::MAX);
        let plan = Plan {
            id: String::new(),
            hash: String::new(),
            runbook: request.script.name.clone(),
            texts: texts(&request.script),
            params: masked(&redactor, &request.shown)?,
            system: request.system.name.clone(),
            system_hash: system_hash(&request.system),
            fingerprints,
            steps: told.steps,
            unknown: told.unknown,
            destructive: request.script.header.danger == Danger::Destructive,
            approvals: request.script.header.approvals,
            by: request.origin.account.clone(),
            made,
            until,
            run: None,
        };
        Ok(plan.sealed())
    }

    /// The plan of a sub-run. It is part of the other one, and approved with it.
    fn sub_run(self, order: &RunOrder, request: &Request) -> Result<Plan> {
        let within = Within::of(order, request, 0)?;
        let child = self.dispatch.plan(order, request)?;
        let child = Request { within: Some(within), masks: request.secrets.and(&request.masks), ..child };
        self.draft(self.dispatch.worker()?, &child, order.before.clone())
    }
}

fn value(value: serde_json::Result<Value>) -> Result<Answer> {
    value.map(Answer::Value).map_err(|error| Error::new(Kind::Bug, error.to_string()))
}

fn job(state: &StateDir, request: &Request, made: Timestamp, before: Vec<Effect>) -> Job {
    let script = &request.script;
    Job {
        run: RunInfo { id: RunId::new(), number: 0, runbook: script.name.clone(), started: made, directory: state.run(0) },
        name: script.name.clone(),
        path: script.path.clone(),
        text: script.text.clone(),
        modules: script.modules.clone(),
        params: request.params.clone(),
        system: request.system.clone(),
        system_name: request.system.name.clone(),
        mode: Mode::Plan,
        plan: None,
        permissions: request.permissions.clone(),
        secrets: request.secrets.clone(),
        limits: request.limits,
        recalled: std::collections::BTreeMap::new(),
        takes_back: false,
        before,
        clock: None,
        protected: request.protected.clone(),
    }
}

fn masked<T: serde::Serialize + serde::de::DeserializeOwned>(redactor: &Redactor, value: &T) -> Result<T> {
    let read = |error: serde_json::Error| Error::new(Kind::Bug, format!("a plan does not survive masking: {error}"));
    serde_json::from_value(redactor.value(serde_json::to_value(value).map_err(read)?)).map_err(read)
}

/// What a worker may ask while it plans: what is read, and nothing else.
fn answer(
    store: &dyn Store,
    state: &StateDir,
    request: &Request,
    redactor: &Redactor,
    watched: &mut Watched,
    question: Question,
) -> Result<Answer> {
    let name = &request.system.name;
    let notes = Notes::new(store, &request.script.name, name);
    let permit = |section: &str, verb: &str, object: &str| request.permissions.check(&Access::word(section, verb, object)).map(drop);
    match question {
        Question::Get { key } => {
            permit("store", "read", &key)?;
            Ok(notes.get(&key)?.map_or(Answer::Nothing, Answer::Value))
        }
        Question::Keys { prefix } => {
            permit("store", "read", &prefix)?;
            Ok(Answer::Value(notes.keys(&prefix)?.into()))
        }
        Question::History { runbook, limit } => {
            permit("runs", "read", &runbook)?;
            let system = Some(name.clone()).filter(|name| !name.is_empty());
            let filter = Filter { runbook: Some(runbook), system, limit: limit.clamp(1, 1000), ..Filter::default() };
            value(serde_json::to_value(store.list(&filter)?))
        }
        Question::SocketOwners => {
            request.permissions.check(&Access::host("listeners", "localhost", 0))?;
            value(serde_json::to_value(socket_owners()))
        }
        Question::DeletedFiles { device, limit } => {
            permit("sys", "read", "processes")?;
            value(serde_json::to_value(deleted_files(device, limit)?))
        }
        Question::Outbox => {
            permit("notify", "send", "outbox")?;
            value(serde_json::to_value(outbox::standing(store)?))
        }
        Question::Watch(question) if question.is_read() => watched.answer(store, state, request, redactor, 0, question),
        _ => Err(Error::new(Kind::Bug, "a planning worker wanted to do something")),
    }
}

/// The hash of each text of a script, by name.
fn texts(script: &Script) -> std::collections::BTreeMap<String, String> {
    script.record().into_iter().map(|module| (module.name, module.hash)).collect()
}

fn system_hash(system: &System) -> String {
    hash_of(&system.json())
}

/// The identity of this machine.
fn host() -> Option<String> {
    std::fs::read_to_string("/etc/machine-id").ok().map(|id| id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Whether this request is what the plan is about, and may be run now.
///
/// # Errors
///
/// `not_started`, with what differs, or what is missing, and the next command.
pub fn admit(store: &dyn Store, plan: &Plan, request: &Request, quorum: u32) -> Result<()> {
    let again = format!("make a new one: {}", command(plan));
    let refused = |message: String| Err(Error::new(Kind::NotStarted, message).code("RB3202").hint(again.clone()));
    if !plan.is_sealed() {
        return refused(format!("plan {} was changed since it was made", plan.id));
    }
    if plan.until <= now() {
        return refused(format!("plan {} is out of date since {}", plan.id, plan.until.strftime("%Y-%m-%d %H:%M UTC")));
    }
    if let Some(run) = plan.run {
        return refused(format!("run {run} did what plan {} says already", plan.id));
    }
    let now_texts = texts(&request.script);
    if let Some(name) = now_texts.iter().chain(&plan.texts).find(|(name, _)| now_texts.get(*name) != plan.texts.get(*name)) {
        return refused(format!("`{}` is not the text that plan {} was made with", name.0, plan.id));
    }
    if let Some((name, _)) = request.shown.iter().chain(&plan.params).find(|(name, _)| request.shown.get(*name) != plan.params.get(*name)) {
        return refused(format!("parameter `{name}` is not the one that plan {} was made with", plan.id));
    }
    if request.system.name != plan.system || system_hash(&request.system) != plan.system_hash {
        return refused(format!("system `{}` is not as it was when plan {} was made", request.system.name, plan.id));
    }
    if plan.fingerprints.get("host") != host().as_ref() {
        return refused(format!("plan {} was made on another machine", plan.id));
    }
    match standing(store, plan, quorum, now())? {
        ApprovalVerdict::Denied => refused(format!("plan {} was denied", plan.id)),
        ApprovalVerdict::Open if quorum > 0 => {
            Err(Error::new(Kind::Waiting, format!("plan {} needs {}", plan.id, approvals_in_words(quorum)))
                .hint(format!("approve it: runbook approve {} --reason \"…\"", plan.id)))
        }
        _ => Ok(()),
    }
}

/// What people said to a plan, as it counted at this time.
///
/// # Errors
///
/// `store`.
pub fn standing(store: &dyn Store, plan: &Plan, quorum: u32, at: Timestamp) -> Result<ApprovalVerdict> {
    Ok(verdict(&store.approvals(&plan.hash)?, &plan.by, &[], quorum, at))
}

fn approvals_in_words(quorum: u32) -> String {
    match quorum {
        1 => "an approval".to_owned(),
        quorum => format!("the approval of {quorum} people, none of them who asked for it"),
    }
}

/// The command that made a plan; secrets have to be given again.
pub fn command(plan: &Plan) -> String {
    let params: String = plan
        .params
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let is_plain = !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_./:@%+,".contains(letter));
            if is_plain { format!(" -p {name}={text}") } else { format!(" -p '{name}={}'", text.replace('\'', "'\\''")) }
        })
        .collect();
    format!("runbook plan {} -s {}{params}", plan.runbook, plan.system)
}
