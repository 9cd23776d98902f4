//! Sub-runs: another run on a thread of its own, whose end is the answer to a question of the worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Control, LOOK, Message, PATIENCE, Request, Supervisor, ToWorker};
use crate::error::{Error, Kind, Result};
use crate::host::{Answer, PersonQuestion, RunOrder};
use crate::model::{Event, EventKind, Level, Run, RunId, RunState, Span, Trigger, hash_of};
use crate::run::dispatch::{Ordered, Within};
use crate::run::journal::Journal;
use crate::run::protocol::Reply;
use crate::run::recover::recover;
use crate::store::{Filter, Store, Summary};
use crate::words;

/// How long people may take to say yes to a sub-run that needs it.
const EXPIRES: Span = Span::secs(3600);
/// How often to look whether a run is over that another command lets go on.
const POLL: Duration = Duration::from_millis(200);

/// The sub-runs under way, and what they tell.
pub(super) struct SubRuns<'s> {
    under_way: Vec<Child<'s>>,
    told: Receiver<(u64, Told)>,
    tell: Sender<(u64, Told)>,
}

impl Default for SubRuns<'_> {
    fn default() -> Self {
        let (tell, told) = channel();
        Self { under_way: Vec::new(), told, tell }
    }
}

/// A sub-run under way.
struct Child<'s> {
    /// The question it answers.
    id: u64,
    key: String,
    /// What stops it, once it is recorded.
    control: Option<Control>,
    /// How often it was told to stop.
    cancels: u8,
    /// Until when it was told to leave.
    leaves: Option<Instant>,
    /// Whether it takes back what the run did, which a stop of the run does not end.
    takes_back: bool,
    /// Whether nobody waits for it any more.
    let_go: Arc<AtomicBool>,
    thread: ScopedJoinHandle<'s, ()>,
}

/// What the thread of a sub-run tells.
enum Told {
    Begun {
        run: u64,
        runbook: String,
        control: Option<Control>,
    },
    Doing(String),
    /// A question to people, or its answer, of the run it is of.
    Asks(Box<Run>, Event),
    Over(Box<Result<Run>>),
}

struct Teller {
    id: u64,
    tell: Sender<(u64, Told)>,
    wake: SyncSender<Message>,
}

impl Teller {
    fn say(&self, told: Told) {
        // Both ends are there as long as the thread is; a full queue is being looked at.
        let _ = self.tell.send((self.id, told));
        let _ = self.wake.try_send(Message::Wake);
    }

    fn follow(&self, supervisor: Supervisor<'_>) -> Result<Run> {
        let (run, runbook) = (supervisor.run.run, supervisor.run.runbook.clone());
        self.say(Told::Begun { run, runbook: runbook.clone(), control: Some(supervisor.control()) });
        supervisor.follow(&mut |of: &Run, event: &Event| match &event.kind {
            EventKind::StepStarted(intent) => self.say(Told::Doing(format!("{runbook} #{run}: {}", intent.key))),
            EventKind::Asked(_) | EventKind::Answered { .. } => self.say(Told::Asks(Box::new(of.clone()), event.clone())),
            _ => {}
        })
    }
}

/// A sub-run that is about to begin, or to go on.
pub(super) struct SubRun {
    /// The question it answers.
    pub(super) id: u64,
    order: RunOrder,
    ordered: Ordered,
    /// What goes on; a new one without.
    run: Option<RunId>,
}

/// What has to be done for a sub-run that is asked for.
enum Next {
    /// It starts.
    Start(Ordered),
    /// It was started before, and goes on.
    GoOn(RunId, Ordered),
    /// It was started before, and another command lets it go on.
    Await(RunId),
    /// It was started before, and is over; nobody heard of it.
    Over(Run),
}

impl<'a> Supervisor<'a> {
    /// Takes an order. It is answered when that run is over. What is asked for is durable before that run is on record.
    pub(super) fn order_run<'s>(
        &mut self,
        id: u64,
        order: RunOrder,
        scope: &'s Scope<'s, '_>,
        subs: &mut SubRuns<'s>,
        watch: &mut dyn FnMut(&Run, &Event),
    ) -> Result<()>
    where
        'a: 's,
    {
        let store = self.store;
        match self.next(&order) {
            Ok(Next::Start(ordered)) => {
                self.event(EventKind::RunOrdered { key: order.key.clone(), order: hash(&order) }, watch)?;
                self.commit()?;
                self.clear(SubRun { id, order, ordered, run: None }, scope, subs);
            }
            Ok(Next::GoOn(run, ordered)) => self.clear(SubRun { id, order, ordered, run: Some(run) }, scope, subs),
            Ok(Next::Await(run)) => self.spawn(id, &order, scope, subs, move |teller, let_go| {
                let found = store.run(run)?;
                teller.say(Told::Begun { run: found.run, runbook: found.runbook, control: None });
                end_of(store, run, let_go)
            }),
            Ok(Next::Over(run)) => return self.answer_run(id, Ok(run)),
            Err(error) => return self.answer_run(id, Err(error)),
        }
        Ok(())
    }

    /// Starts a sub-run, or asks people first.
    fn clear<'s>(&mut self, sub: SubRun, scope: &'s Scope<'s, '_>, subs: &mut SubRuns<'s>)
    where
        'a: 's,
    {
        match sub.ordered.approvals {
            0 => self.start_sub_run(sub, scope, subs),
            quorum => {
                let question = question(&sub.order, &sub.ordered.request, quorum);
                self.ask_person_for(question, sub);
            }
        }
    }

    /// Lets a sub-run begin, or go on, on a thread of its own.
    pub(super) fn start_sub_run<'s>(&mut self, sub: SubRun, scope: &'s Scope<'s, '_>, subs: &mut SubRuns<'s>)
    where
        'a: 's,
    {
        let (store, state, dispatch) = (self.store, self.state, self.dispatch);
        let SubRun { id, order, ordered: Ordered { request, .. }, run } = sub;
        self.spawn(id, &order, scope, subs, move |teller, _| {
            let worker = dispatch.worker()?;
            teller.follow(match run {
                None => Supervisor::start(store, state, dispatch, worker, request, None)?,
                Some(run) => Supervisor::resume(store, state, dispatch, worker, request, run, Vec::new())?,
            })
        });
    }

    fn spawn<'s>(
        &mut self,
        id: u64,
        order: &RunOrder,
        scope: &'s Scope<'s, '_>,
        subs: &mut SubRuns<'s>,
        work: impl FnOnce(&Teller, &AtomicBool) -> Result<Run> + Send + 's,
    ) {
        let teller = Teller { id, tell: subs.tell.clone(), wake: self.control.0.clone() };
        let let_go = Arc::new(AtomicBool::new(false));
        let is_let_go = let_go.clone();
        // A worker dies with the thread that started it, which is this one until it is over.
        let thread = scope.spawn(move || {
            let over = work(&teller, &is_let_go);
            teller.say(Told::Over(Box::new(over)));
        });
        let takes_back = self.compensation.is_some();
        let key = order.key.clone();
        subs.under_way.push(Child { id, key, control: None, cancels: 0, leaves: None, takes_back, let_go, thread });
        self.below = subs.under_way.len();
    }

    /// What is known of the step decides: a sub-run is never started twice for it.
    fn next(&mut self, order: &RunOrder) -> Result<Next> {
        let within = Within::of(order, &self.request, self.run.run)?;
        if self.stopping.is_some() && self.compensation.is_none() {
            return Err(Error::new(Kind::Cancelled, format!("`{}` was not started: the run has to stop", order.runbook)));
        }
        let planned = self.request.plan.as_ref().and_then(|plan| plan.run_of(&order.key));
        let filter = Filter { parent: Some(self.run.run), step: Some(order.key.clone()), limit: 1, ..Filter::default() };
        if let Some(last) = self.store.list(&filter)?.pop() {
            if self.is_of_another_order(&last, order)? {
                return Err(self.diverged(&order.key, &format!("#{} was started with other parameters, or for something else", last.run)));
            }
            if !last.status.is_over() {
                return Ok(Next::Await(last.id));
            }
            let (run, events) = (self.store.run(last.id)?, self.store.events(last.id)?);
            if run.status.is_resumable() && run.error.is_some() && !Journal::read(&events).took_back_all(&run) {
                let Ordered { request, approvals } = self.dispatch.again(order, &run, &events, &self.request, planned)?;
                return Ok(Next::GoOn(last.id, Ordered { request: self.part(request, within), approvals }));
            }
            if run.status != RunState::Skipped && !self.has_heard_of(&order.key, run.run)? {
                return Ok(Next::Over(run));
            }
        }
        let Ordered { request, approvals } = self.dispatch.order(order, &self.request, planned)?;
        Ok(Next::Start(Ordered { request: self.part(request, within), approvals }))
    }

    /// Whether a sub-run whose end nobody heard of is not what is asked for in its place now.
    fn is_of_another_order(&self, run: &Summary, order: &RunOrder) -> Result<bool> {
        if run.runbook != order.runbook {
            return Ok(true);
        }
        let of = |event: &Event| match &event.kind {
            EventKind::RunOrdered { key, order: of } if *key == order.key => Some(of.clone()),
            _ => None,
        };
        // Records of older versions do not say what was asked for.
        let recorded = self.store.events(self.run.id)?.iter().rev().find_map(of);
        Ok(recorded.is_some_and(|recorded| recorded != hash(order)) && !self.has_heard_of(&order.key, run.run)?)
    }

    /// Whether what became of this sub-run was told to the script.
    fn has_heard_of(&self, key: &str, number: u64) -> Result<bool> {
        let events = self.store.events(self.run.id)?;
        let begun = |event: &Event| matches!(&event.kind, EventKind::SubRun { key: of, run, .. } if of == key && *run == number);
        let Some(at) = events.iter().position(begun) else { return Ok(false) };
        Ok(events[at..].iter().any(|event| matches!(&event.kind, EventKind::StepEnded { key: of, .. } if of == key)))
    }

    /// A request as a part of this run.
    fn part(&self, request: Request, within: Within) -> Request {
        let mut limits = request.limits;
        if let Some(end) = self.kill_at.filter(|_| self.compensation.is_some()) {
            let left = end.saturating_duration_since(Instant::now() + PATIENCE).max(PATIENCE);
            limits.time = Some(Span(limits.time.map_or(left, |time| time.0.min(left))));
        }
        let shown = request.shown.into_iter().map(|(name, value)| (name, self.redactor.value(value))).collect();
        Request {
            limits,
            shown,
            trigger: Trigger::Run,
            by: self.request.by.clone(),
            origin: self.request.origin.clone(),
            faults: self.request.faults.inside(&within.step),
            masks: self.request.secrets.and(&self.request.masks),
            plan: self.request.plan.as_ref().and_then(|plan| plan.run_of(&within.step)).cloned(),
            within: Some(within),
            ..request
        }
    }

    /// Hears what sub-runs tell, and tells them to stop when the run has to.
    pub(super) fn look_at_sub_runs(&mut self, subs: &mut SubRuns<'_>, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        // Asked first: what they told before their end is heard below.
        let gone: Vec<u64> = subs.under_way.iter().filter(|child| child.thread.is_finished()).map(|child| child.id).collect();
        while let Ok((id, told)) = subs.told.try_recv() {
            self.hear(id, told, subs, watch)?;
        }
        self.stop_sub_runs(subs, false);
        for id in gone {
            // Whoever said that it is over is not there any more.
            let over = Err(Error::new(Kind::Bug, "what watches over a sub-run panicked"));
            self.hear(id, Told::Over(Box::new(over)), subs, watch)?;
        }
        Ok(())
    }

    fn hear(&mut self, id: u64, told: Told, subs: &mut SubRuns<'_>, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        let Some(at) = subs.under_way.iter().position(|child| child.id == id) else { return Ok(()) };
        let child = &mut subs.under_way[at];
        let key = child.key.clone();
        match told {
            Told::Begun { run, runbook, control } => {
                child.control = control;
                self.event(EventKind::SubRun { key, run, runbook }, watch)
            }
            Told::Doing(text) => self.event(EventKind::Progress { step: key, text, done: None }, watch),
            Told::Asks(run, event) => {
                watch(&run, &event);
                Ok(())
            }
            Told::Over(over) => {
                let child = subs.under_way.swap_remove(at);
                self.below = subs.under_way.len();
                // It has said all it had to say.
                let _ = child.thread.join();
                // Whoever waited for it has as long to stop as anyone.
                self.kill_at = self.kill_at.map(|at| at.max(Instant::now() + PATIENCE));
                self.left_or_over(id, key, *over)
            }
        }
    }

    /// A sub-run that left with this run is no answer to its script: both go on later.
    fn left_or_over(&mut self, id: u64, key: String, over: Result<Run>) -> Result<()> {
        if self.leaving.is_some() && over.as_ref().is_ok_and(|run| run.status == RunState::Interrupted) {
            self.left_below.push((id, key));
            self.look_at_leaving();
            return Ok(());
        }
        self.answer_run(id, over)
    }

    fn stop_sub_runs(&self, subs: &mut SubRuns<'_>, all: bool) {
        for child in &mut subs.under_way {
            let wanted = match (self.hurried, all || self.stopping.is_some() && !child.takes_back) {
                (true, _) => 2,
                (false, true) => 1,
                (false, false) => 0,
            };
            child.let_go.store(wanted > 0, Ordering::Relaxed);
            let Some(control) = &child.control else { continue };
            if let Some(until) = self.leaving.filter(|until| !child.takes_back && child.leaves.is_none_or(|before| *until < before)) {
                control.leave(until);
                child.leaves = Some(until);
            }
            // What it did stays; it stops between two steps, unless there is no time for that.
            let wanted = if child.leaves.is_some() && !self.hurried { 0 } else { wanted };
            while child.cancels < wanted && control.tell_to_stop(self.cancelled.unwrap_or(130)) {
                child.cancels += 1;
            }
        }
    }

    /// Ends every sub-run, each with its clean-up, and waits for it.
    pub(super) fn end_sub_runs(&mut self, subs: &mut SubRuns<'_>, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        let mut failed = Ok(());
        while !subs.under_way.is_empty() {
            self.stop_sub_runs(subs, true);
            std::thread::sleep(LOOK);
            while let Ok(message) = self.messages.try_recv() {
                if let Message::Cancel(exit_code) = message {
                    self.cancel(exit_code);
                }
            }
            failed = failed.and(self.look_at_sub_runs(subs, watch));
        }
        failed
    }

    /// Tells the worker what became of a sub-run. One that a person has to look at is waited for by no script.
    fn answer_run(&mut self, id: u64, over: Result<Run>) -> Result<()> {
        let answer = match over {
            Ok(run) if run.status == RunState::NeedsAttention => Err(self.needs_attention(&run)),
            Ok(run) => Ok(Reply::Answer(Answer::Value(outcome(&run)))),
            Err(error) => Err(error),
        };
        self.tell_worker(&ToWorker::Reply { id, reply: answer });
        Ok(())
    }

    fn needs_attention(&mut self, run: &Run) -> Error {
        let why = run.error.clone().unwrap_or_else(|| Error::new(Kind::Waiting, "a person has to look"));
        let message = format!("`{}` #{} waits for a person: {}", run.runbook, run.run, why.message);
        let error = Error { kind: Kind::Waiting, message, at: None, ..why }.hint(format!("after that: runbook resume {}", self.run.run));
        self.halt(RunState::NeedsAttention, error)
    }
}

impl Control {
    /// Whether there was room for the request to stop.
    fn tell_to_stop(&self, exit_code: u8) -> bool {
        !matches!(self.0.try_send(Message::Cancel(exit_code)), Err(TrySendError::Full(_)))
    }
}

/// Waits for the end of a run that another command watches over.
fn end_of(store: &dyn Store, id: RunId, let_go: &AtomicBool) -> Result<Run> {
    loop {
        recover(store)?;
        let run = store.run(id)?;
        if run.status.is_over() {
            return Ok(run);
        }
        if let_go.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Cancelled, format!("#{} is not over: another command lets it go on", run.run)));
        }
        std::thread::sleep(POLL);
    }
}

/// What people are asked before something destructive that is in no plan.
fn question(order: &RunOrder, request: &Request, quorum: u32) -> PersonQuestion {
    let params: String =
        request.shown.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| format!(" {name}={value}")).collect();
    let (script, system) = (&request.script, &request.system.name);
    PersonQuestion {
        key: order.key.clone(),
        question: format!("run {} {} for {system}{params}?", script.name, script.version()),
        approvers: Vec::new(),
        quorum,
        expires: order.timeout.map_or(EXPIRES, |timeout| Span(timeout.0.min(EXPIRES.0))),
        reason: "it is in no approved plan".to_owned(),
    }
}

/// What an order asks for, apart from how long it may take.
fn hash(order: &RunOrder) -> String {
    hash_of(&json!({ "runbook": order.runbook, "system": order.system, "params": order.params }))
}

/// What a script gets of a run that is over.
fn outcome(run: &Run) -> Value {
    let mut outcome = json!({ "run": run.run, "status": run.status.name(), "outputs": run.outputs, "checks": run.checks });
    if !matches!(run.status, RunState::Succeeded | RunState::Warning) {
        outcome["error"] = json!(failure(run));
    }
    outcome
}

/// Why a run is no success, as the error of the step that it is.
fn failure(run: &Run) -> Error {
    let bad: Vec<&str> = run.checks.iter().filter(|check| check.level != Level::Ok).map(|check| check.name.as_str()).collect();
    let (kind, why) = match &run.error {
        Some(error) => (error.kind, error.message.clone()),
        None => (Kind::Failed, words::list(&bad)),
    };
    let kind = match (run.status, kind) {
        (RunState::TimedOut, _) => Kind::Timeout,
        (RunState::Cancelled, _) => Kind::Cancelled,
        // Of the machinery below a script nothing follows for the one above it.
        (_, Kind::Usage | Kind::Config | Kind::Script | Kind::Waiting | Kind::Store | Kind::Bug) => Kind::Failed,
        (_, kind) => kind,
    };
    let error = Error::new(kind, format!("`{}` #{} {}: {why}", run.runbook, run.run, run.status.name()));
    let retryable = run.error.as_ref().is_some_and(|error| error.retryable);
    Error { retryable, ..error }.hint(format!("see `runbook report {}`", run.run))
}
