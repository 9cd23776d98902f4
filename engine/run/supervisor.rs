//! The supervisor: starts a worker, writes down what it says, answers it, and ends it.

mod child;
mod leave;
mod person;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::host::notify::kind_of;
use crate::host::{
    Access, Answer, Gate, Mode, Permissions, Question, RunInfo, SECRET_FILES, Secrets, Stop, StopReason, kill_descendants, socket_owners,
};
use crate::model::system::Contact;
use crate::model::{
    Compensation, Decision, Event, EventKind, Intent, Message as Notice, Origin, Outcome, Parcel, Parent, Plan, Run, RunId, RunState,
    StepState, System, Trigger, WhenLocked,
};
use crate::run::answers::Answers;
use crate::run::daemon::ask_to_stop;
use crate::run::dispatch::{Dispatch, Within};
use crate::run::faults::{self, Faults};
use crate::run::journal::{End, Journal, Past, Verdict};
use crate::run::lock::{Lock, LockRequest, Owner, Taken, owner_of};
use crate::run::outbox::{self, Addresses};
use crate::run::process::{Children, children, me, resident, sweep, workers};
use crate::run::protocol::{Carried, FromWorker, Job, Limits, Reply, ToWorker, receive, send};
use crate::run::redact::Redactor;
use crate::script::Script;
use crate::store::{Filter, Log, StateDir, Store, now};
use child::SubRuns;

/// Everything a run is made of.
#[derive(Debug)]
pub struct Request {
    /// The runbook.
    pub script: Script,
    /// The values of its parameters, checked; names where they are secrets.
    pub params: BTreeMap<String, Value>,
    /// The same as they are shown and recorded: secrets masked.
    pub shown: BTreeMap<String, Value>,
    /// The system it runs for.
    pub system: System,
    /// What it may touch.
    pub permissions: Permissions,
    /// The secrets it is given.
    pub secrets: Secrets,
    /// What it may use.
    pub limits: Limits,
    /// The plan it carries out.
    pub plan: Option<Plan>,
    /// The commit of the runbook, when it is in git and unchanged.
    pub commit: Option<String>,
    /// What started it.
    pub trigger: Trigger,
    /// Who started it.
    pub by: String,
    /// Who is behind it; of the run it is part of, when it is part of one.
    pub origin: Origin,
    /// Where the people are reached that it sends messages to.
    pub addresses: Addresses,
    /// What no script may touch, whatever it was granted: the state, the settings, the library, this binary.
    pub protected: Vec<PathBuf>,
    /// The lock it holds while it runs; nothing when the run it is part of holds it.
    pub lock: Option<LockRequest>,
    /// What goes wrong on purpose.
    pub faults: Faults,
    /// What answers in place of the world, when it is a test.
    pub answers: Option<Arc<Answers>>,
    /// The runs above it, when it is a sub-run.
    pub within: Option<Within>,
    /// The secrets of the runs above, which it is not given and must not show either.
    pub masks: Secrets,
}

/// The run whose journal a new run begins with.
#[derive(Debug)]
pub struct Source {
    /// Its number.
    pub run: u64,
    /// Its events before the first step that is run again.
    pub events: Vec<Event>,
    /// The key of that step.
    pub step: String,
}

/// How many messages of the worker may wait: enough for bursts, few enough to slow a flood down.
const BACKLOG: usize = 512;
/// How often limits are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How many events may wait for the next commit.
const BATCH: usize = 128;
/// How long a worker that should stop by itself may take before it is killed.
const PATIENCE: Duration = Duration::from_millis(800);
/// How long a script that delivers the outbox waits for what is not due yet.
const FLUSH_PATIENCE: Duration = Duration::from_secs(10);
/// How long a lock may be held by nobody in particular before it counts as held.
const NAMELESS: Duration = Duration::from_millis(500);
/// How long a run that is replaced may clean up.
const REPLACE_PATIENCE: Duration = Duration::from_secs(120);
/// A longer message is refused, whatever the worker let through.
const LONGEST_MESSAGE: usize = 4 << 20;

enum Message {
    Worker(FromWorker),
    Broken(Error),
    Gone,
    Cancel(u8),
    Leave(Instant),
    /// The lock that was queued for, and who left it.
    Turn(Result<(Lock, Option<Owner>)>),
    /// A sub-run has something to tell.
    Wake,
}

/// What goes on beside the worker, on threads of its own.
struct Beside<'s> {
    flush: Option<Flush<'s>>,
    sub_runs: SubRuns<'s>,
}

/// A delivery that a script waits for.
struct Flush<'s> {
    /// The questions it answers.
    asked: Vec<u64>,
    stop: Arc<Stop>,
    thread: ScopedJoinHandle<'s, Result<()>>,
}

impl Flush<'_> {
    fn stop(&self) {
        self.stop.stop(StopReason::Cancelled);
    }
}

/// A handle that can stop a run from elsewhere: a signal, a button.
#[derive(Clone)]
pub struct Control(SyncSender<Message>);

impl Control {
    /// Asks the run to stop: the first time with clean-up, the second time at once. `exit_code` is what
    /// the command will end with.
    pub fn cancel(&self, exit_code: u8) {
        // A run that is over needs no stop.
        let _ = self.0.try_send(Message::Cancel(exit_code));
    }

    /// Asks the run to stop before its next step, as `interrupted`: it takes nothing back, and goes on later.
    /// The steps under way have until then. To be asked again changes nothing but the time.
    pub fn leave(&self, until: Instant) {
        // A run that is over needs no stop.
        let _ = self.0.try_send(Message::Leave(until));
    }
}

/// A run that is on record and waits for its turn to have a worker.
#[derive(Debug)]
pub struct Enrolled {
    run: Run,
    request: Request,
}

impl Enrolled {
    /// The run as it stands.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// What it is made of.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Ends it before it began. That is durable when this returns.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn give_up(mut self, store: &dyn Store, status: RunState, exit_code: u8, error: Error) -> Result<Run> {
        let ended = Event { at: now(), kind: EventKind::Ended { status, exit_code, error: Some(error) } };
        self.run.apply(&ended)?;
        store.append(self.run.id, &[ended])?;
        Ok(self.run)
    }
}

/// One run under way.
pub struct Supervisor<'a> {
    store: &'a dyn Store,
    state: &'a StateDir,
    dispatch: &'a dyn Dispatch,
    redactor: Redactor,
    request: Request,
    run: Run,
    log: Log,
    pending: Vec<Event>,
    worker: Worker,
    input: Option<ChildStdin>,
    messages: Receiver<Message>,
    control: Control,
    deadline: Option<Instant>,
    kill_at: Option<Instant>,
    cancelled: Option<u8>,
    /// Whether it was told to stop at once.
    hurried: bool,
    stopping: Option<StopReason>,
    /// Held until the record is closed.
    lock: Option<Lock>,
    /// Who held it before, and was cut off.
    left: Option<Owner>,
    /// What earlier workers of the run left.
    journal: Journal,
    /// The lines they logged outside of steps, which a replay says again: how often each.
    said: HashMap<String, u32>,
    /// How the run takes back what it did, once it does.
    compensation: Option<Compensation>,
    /// The interrupted steps that ask the world whether they were done.
    doubtful: HashMap<String, Past>,
    /// The steps under way that had an effect that may not be had twice, on record.
    unrepeatable: BTreeSet<String>,
    /// Why a person has to look first.
    halted: Option<(RunState, Error)>,
    persons: VecDeque<person::Waiting>,
    /// When it has to stop, to go on later.
    leaving: Option<Instant>,
    /// The steps that want to start while it does.
    held: Vec<(u64, Intent)>,
    /// The sub-runs that stopped while it does: the questions they answer, and their steps.
    left_below: Vec<(u64, String)>,
    /// The step around each step that started.
    around: HashMap<String, String>,
    /// How many sub-runs are under way.
    below: usize,
}

/// Why a run ended before it began.
struct NotBegun(RunState, u8, Error);

impl<'a> Supervisor<'a> {
    /// Takes the lock of the run, if it is free, and records the run, as queued if it is not. It is durable
    /// when this returns; nothing of the script was evaluated yet.
    ///
    /// # Errors
    ///
    /// `store`, when it can not be recorded.
    pub fn start(
        store: &'a dyn Store,
        state: &'a StateDir,
        dispatch: &'a dyn Dispatch,
        worker: Worker,
        request: Request,
        source: Option<Source>,
    ) -> Result<Self> {
        let taken = take(state, &request)?;
        let status = if matches!(taken, Taken::ByOther(_)) { RunState::Queued } else { RunState::Running };
        let run = record(store, &request, RunId::new(), status)?;
        let mut supervisor = Self::made(store, state, dispatch, worker, request, run, taken)?;
        supervisor.prepare(source)?;
        Ok(supervisor)
    }

    /// Records a run that waits for its turn; it has neither a worker nor its lock. It is durable with all it
    /// is made of when this returns.
    ///
    /// # Errors
    ///
    /// `store`, when it can not be recorded.
    pub fn enroll(store: &dyn Store, request: Request, id: RunId) -> Result<Enrolled> {
        let prepared = masked(&Redactor::new(&request.secrets)?, prepared(&request))?;
        let run = record(store, &request, id, RunState::Queued)?;
        store.append(id, &[Event { at: now(), kind: prepared }])?;
        Ok(Enrolled { run, request })
    }

    /// Gives an enrolled run its worker. It waits for its lock as its header says; nothing of the script was
    /// evaluated yet.
    ///
    /// # Errors
    ///
    /// `store`, when its log can not be made; that is recorded, if it can be.
    pub fn begin(
        store: &'a dyn Store,
        state: &'a StateDir,
        dispatch: &'a dyn Dispatch,
        worker: Worker,
        enrolled: Enrolled,
    ) -> Result<Self> {
        let Enrolled { run, request } = enrolled;
        Self::made(store, state, dispatch, worker, request, run, Taken::Above)
    }

    /// Takes over a run that ended before its work did. That is durable when this returns; nothing of
    /// the script was evaluated yet.
    ///
    /// # Errors
    ///
    /// `conflict` when it is not over, `not_started` when another run holds its lock, `store`.
    pub fn resume(
        store: &'a dyn Store,
        state: &'a StateDir,
        dispatch: &'a dyn Dispatch,
        worker: Worker,
        request: Request,
        id: RunId,
        decisions: Vec<Decision>,
    ) -> Result<Self> {
        let taken = take(state, &request)?;
        if let (Taken::ByOther(owner), Some(wanted)) = (&taken, &request.lock) {
            let holder = holder(owner.as_ref());
            return Err(
                Error::new(Kind::NotStarted, format!("`{}` is held by {holder}", wanted.name)).hint("resume it when that run is over")
            );
        }
        let resumed = Event { at: now(), kind: EventKind::Resumed { by: request.by.clone(), decisions } };
        store.verify(id)?;
        spend(store, &request, id)?;
        store.take_over(id, me(), &resumed)?;
        let mut supervisor = Self::made(store, state, dispatch, worker, request, store.run(id)?, taken)?;
        supervisor.journal = Journal::read(&store.events(id)?);
        supervisor.compensation.clone_from(&supervisor.journal.compensation);
        supervisor.said = said(state, supervisor.run.run)?;
        supervisor.log.append(&[resumed])?;
        Ok(supervisor)
    }

    fn made(
        store: &'a dyn Store,
        state: &'a StateDir,
        dispatch: &'a dyn Dispatch,
        mut worker: Worker,
        request: Request,
        run: Run,
        taken: Taken,
    ) -> Result<Self> {
        worker.alone = request.within.is_none();
        let redactor = Redactor::new(&request.secrets.and(&request.masks))?;
        let log = Log::create(&state.run(run.run), request.limits.output.0).inspect_err(|error| {
            // It is on record, so its end has to be as well, if it can be.
            let kind = EventKind::Ended { status: RunState::Interrupted, exit_code: 8, error: Some(error.clone()) };
            let _ = store.append(run.id, &[Event { at: now(), kind }]);
        })?;
        if request.permissions.uses("exec") {
            state.make_work(run.run)?;
        }
        let (sender, messages) = sync_channel(BACKLOG);
        let output = worker.process.stdout.take().ok_or_else(|| Error::new(Kind::Bug, "the worker has no output"))?;
        let input = worker.process.stdin.take();
        let control = Control(sender.clone());
        std::thread::spawn(move || listen(&mut BufReader::new(output), &sender));
        let deadline = request.limits.time.and_then(|limit| Instant::now().checked_add(limit.0));
        let mut supervisor = Self {
            store,
            state,
            dispatch,
            redactor,
            request,
            run,
            log,
            pending: Vec::new(),
            worker,
            input,
            messages,
            control,
            deadline,
            kill_at: None,
            cancelled: None,
            hurried: false,
            stopping: None,
            lock: None,
            left: None,
            journal: Journal::default(),
            said: HashMap::new(),
            compensation: None,
            doubtful: HashMap::new(),
            unrepeatable: BTreeSet::new(),
            halted: None,
            persons: VecDeque::new(),
            leaving: None,
            held: Vec::new(),
            left_below: Vec::new(),
            around: HashMap::new(),
            below: 0,
        };
        if let Taken::Now(lock, left) = taken {
            supervisor.hold(lock, left)?;
        }
        Ok(supervisor)
    }

    /// Records what the run is made of, and what it takes over from another one. It is written with the
    /// first commit, which comes before anything is done.
    fn prepare(&mut self, source: Option<Source>) -> Result<()> {
        let prepared = self.masked(prepared(&self.request))?;
        self.pending.push(Event { at: now(), kind: prepared });
        let Some(Source { run, events, step }) = source else {
            // One that waits for its turn has no next commit for long.
            return if self.run.status == RunState::Queued { self.commit() } else { Ok(()) };
        };
        self.journal = Journal::read(&events);
        let taken = Event { at: now(), kind: EventKind::TakenFrom { run, step } };
        for event in std::iter::once(taken).chain(events.into_iter().map(|event| Event { at: now(), ..event })) {
            self.run.apply(&event)?;
            self.log.append(std::slice::from_ref(&event))?;
            self.pending.push(event);
        }
        self.commit()
    }

    /// The run as it stands.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The system it runs for.
    pub fn system(&self) -> &System {
        &self.request.system
    }

    /// Where its messages go.
    pub fn addresses(&self) -> &Addresses {
        &self.request.addresses
    }

    /// A handle that can stop it.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Follows the run to its end; `watch` sees every event after it was applied. The end is durable
    /// when this returns.
    ///
    /// # Errors
    ///
    /// `store`, when something could not be recorded; the worker is gone then.
    pub fn follow(mut self, watch: &mut dyn FnMut(&Run, &Event)) -> Result<Run> {
        if self.run.status == RunState::Queued
            && let Some(NotBegun(status, exit_code, error)) = self.wait_for_turn(watch)
        {
            self.worker.end();
            self.event(EventKind::Ended { status, exit_code, error: Some(error) }, watch)?;
            self.commit()?;
            return Ok(self.run);
        }
        let sent = self.send_job();
        let stderr = self.worker.process.stderr.take().map(read_last_words);
        let result = sent.and_then(|()| self.begin_run(watch)).and_then(|()| {
            std::thread::scope(|scope| {
                let mut beside = Beside { flush: None, sub_runs: SubRuns::default() };
                let over = self.listen(scope, &mut beside, watch);
                // The run is over; a message on its way stays queued, and nobody waits for a sub-run any more.
                beside.flush.iter().for_each(Flush::stop);
                self.end_sub_runs(&mut beside.sub_runs, watch).and(over)
            })
        });
        match result {
            // Who said that it is over does nothing any more; it ends while its end is written down.
            Ok(Some((error, stopped))) => {
                self.input = None;
                let concluded = self.conclude(error, stopped, watch);
                self.finish_worker();
                concluded?;
            }
            Ok(None) => {
                let status = self.finish_worker();
                let last_words = stderr.and_then(|thread| thread.join().ok()).unwrap_or_default();
                let vanished = status.as_ref().is_some_and(was_killed) && self.stopping.is_none();
                let error = self.crash(status, &last_words);
                self.conclude(Some(error), self.stopping.or(vanished.then_some(StopReason::Lost)), watch)?;
            }
            Err(error) => {
                self.finish_worker();
                // The record must say how it ended, if it can be written at all.
                let _ = self.conclude(Some(error.clone()), Some(StopReason::Lost), watch);
                return Err(error);
            }
        }
        Ok(self.run)
    }

    fn begin_run(&mut self, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        if self.run.attempt == 1 {
            self.event(EventKind::Started, watch)?;
        }
        self.tell_who_left(watch)
    }

    /// Waits until the lock is free, if there is one, and makes the plan its own; why the run does not begin.
    fn wait_for_turn(&mut self, watch: &mut dyn FnMut(&Run, &Event)) -> Option<NotBegun> {
        let not_begun = self.request.lock.clone().and_then(|lock| self.wait_for_lock(&lock, watch));
        // The limit on time is for the work, not for the wait before it.
        self.deadline = self.request.limits.time.and_then(|limit| Instant::now().checked_add(limit.0));
        not_begun.or_else(|| {
            let spent = spend(self.store, &self.request, self.run.id);
            spent.err().map(|error| NotBegun(RunState::Skipped, 6, error))
        })
    }

    /// Waits until the other run gives the lock up, as the header says.
    fn wait_for_lock(&mut self, lock: &LockRequest, watch: &mut dyn FnMut(&Run, &Event)) -> Option<NotBegun> {
        let when = lock.when;
        let name = Lock::turns(self.state, &lock.name, self.request.within.as_ref());
        let until = match when {
            WhenLocked::Fail => Some(Instant::now() + NAMELESS),
            WhenLocked::Wait(patience) => Instant::now().checked_add(patience.0),
            WhenLocked::Replace => Instant::now().checked_add(REPLACE_PATIENCE),
        };
        let no_lock = |error| Some(NotBegun(RunState::Skipped, 8, error));
        match Lock::take(self.state, &name) {
            Ok(Taken::Now(lock, left)) => return self.hold(lock, left).err().and_then(no_lock),
            Ok(Taken::Above) => return None,
            Ok(Taken::ByOther(Some(_))) if when == WhenLocked::Fail => {}
            // Nobody's name on it: somebody is about to begin, or had given up when the turn came, and drops it at once.
            Ok(Taken::ByOther(_)) => {
                let messages = self.control.0.clone();
                let turn = move |held| {
                    // Who waits no longer gives the turn to the next one.
                    let _ = messages.send(Message::Turn(held));
                };
                if let Err(error) = Lock::queue(self.state, &name, turn) {
                    return no_lock(error);
                }
            }
            Err(error) => return no_lock(error),
        }
        let mut asked = None;
        loop {
            let owner = owner_of(self.state, &name);
            let holder = holder(owner.as_ref());
            if until.is_some_and(|until| Instant::now() >= until) || (when == WhenLocked::Fail && owner.is_some()) {
                break Some(NotBegun(RunState::Skipped, 6, locked(&name, &holder, owner.as_ref(), when)));
            }
            if owner.is_some() && owner != asked {
                if let Err(error) = self.ask_for(&name, &holder, owner.as_ref(), when, watch) {
                    break Some(NotBegun(RunState::Skipped, 6, error));
                }
                asked = owner;
            }
            match self.messages.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Turn(held)) => break held.and_then(|(lock, left)| self.hold(lock, left)).err().and_then(no_lock),
                Ok(Message::Cancel(exit_code)) => {
                    let error = Error::new(Kind::Cancelled, format!("cancelled while it waited for `{name}`"));
                    break Some(NotBegun(RunState::Cancelled, exit_code, error));
                }
                Ok(Message::Leave(_)) => break Some(NotBegun(RunState::Interrupted, 1, leave::left())),
                _ => break Some(NotBegun(RunState::Interrupted, 8, Error::new(Kind::Bug, "the worker ended before it got its work"))),
            }
        }
    }

    /// Says what is waited for, and asks a run that is to be replaced to stop.
    fn ask_for(
        &mut self,
        name: &str,
        holder: &str,
        owner: Option<&Owner>,
        when: WhenLocked,
        watch: &mut dyn FnMut(&Run, &Event),
    ) -> Result<()> {
        let text = if when == WhenLocked::Replace {
            format!("replaces {holder}, which holds `{name}` and cleans up first")
        } else {
            format!("waits for `{name}`, held by {holder}")
        };
        self.event(EventKind::Log { step: String::new(), text }, watch)?;
        let Some(owner) = owner.filter(|_| when == WhenLocked::Replace) else { return Ok(()) };
        ask_to_stop(self.state, owner.run, owner.supervisor).map_err(|error| {
            Error::new(Kind::NotStarted, format!("{holder} holds `{name}` and can not be replaced: {}", error.message))
                .hint(format!("it was started by {}", owner.by))
        })
    }

    /// The run holds its lock from here on.
    fn hold(&mut self, mut lock: Lock, left: Option<Owner>) -> Result<()> {
        lock.belongs_to(&self.run, self.worker.process.id(), now())?;
        self.lock = Some(lock);
        self.left = left;
        Ok(())
    }

    /// What a run that was cut off left is for a person to look at, and this one begins with it.
    fn tell_who_left(&mut self, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        // A run that goes on left it itself.
        let Some(Owner { lock, run, runbook, .. }) = self.left.take().filter(|left| left.run != self.run.run) else { return Ok(()) };
        let text = format!("`{lock}` was left by {runbook} #{run}, which was cut off: see `runbook report {run}`");
        self.event(EventKind::Log { step: String::new(), text }, watch)
    }

    fn send_job(&mut self) -> Result<()> {
        let script = &self.request.script;
        let directory = self.state.work(self.run.run);
        let clock = self.request.answers.as_ref().map(|answers| answers.now());
        let started = clock.unwrap_or(self.run.started);
        let job = Job {
            run: RunInfo { id: self.run.id, number: self.run.run, runbook: self.run.runbook.clone(), started, directory },
            name: script.name.clone(),
            path: script.path.clone(),
            text: script.text.clone(),
            modules: script.modules.clone(),
            params: self.request.params.clone(),
            system: self.request.system.clone(),
            system_name: self.request.system.name.clone(),
            mode: if clock.is_some() { Mode::Test } else { Mode::Apply },
            clock,
            before: Vec::new(),
            plan: self.request.plan.as_ref().map(|plan| Carried {
                steps: plan.steps.clone(),
                unknown: plan.unknown.clone(),
                fingerprints: plan
                    .fingerprints
                    .iter()
                    .filter(|(name, _)| *name != "host")
                    .map(|(name, id)| (name.clone(), id.clone()))
                    .collect(),
            }),
            permissions: self.request.permissions.clone(),
            secrets: self.request.secrets.clone(),
            limits: self.request.limits,
            recalled: std::mem::take(&mut self.journal.recalled),
            takes_back: self.compensation.is_some(),
            protected: self.request.protected.clone(),
        };
        self.tell_worker(&ToWorker::Job(Box::new(job)));
        Ok(())
    }

    /// A worker that is gone is noticed by the end of its output.
    fn tell_worker(&mut self, message: &ToWorker) {
        if let Some(input) = &mut self.input {
            let _ = send(input, message);
        }
    }

    /// The messages of the worker, until it is over (with how), or gone (with nothing).
    fn listen<'s>(
        &mut self,
        scope: &'s Scope<'s, '_>,
        beside: &mut Beside<'s>,
        watch: &mut dyn FnMut(&Run, &Event),
    ) -> Result<Option<(Option<Error>, Option<StopReason>)>>
    where
        'a: 's,
    {
        let mut looked = Instant::now();
        loop {
            let message = match self.messages.recv_timeout(LOOK) {
                Ok(message) => message,
                Err(RecvTimeoutError::Disconnected) => Message::Gone,
                Err(RecvTimeoutError::Timeout) => {
                    self.commit()?;
                    self.look();
                    self.look_beside(scope, beside, watch)?;
                    continue;
                }
            };
            match message {
                Message::Worker(FromWorker::Over { error, stopped }) => return Ok(Some((error, stopped))),
                Message::Worker(FromWorker::Ask { id, question }) if self.is_for_the_test(&question) => self.answer_by_test(id, question),
                Message::Worker(FromWorker::Ask { id, question: Question::Flush }) => self.flush(id, scope, &mut beside.flush),
                Message::Worker(FromWorker::Ask { id, question: Question::Run(order) }) => {
                    self.order_run(id, order, scope, &mut beside.sub_runs)?;
                }
                Message::Worker(FromWorker::Ask { id, question: Question::Person(question) }) => self.ask_person(id, question),
                Message::Worker(message) => self.handle(message, watch)?,
                Message::Broken(error) => {
                    self.kill();
                    return Ok(Some((Some(error), self.stopping)));
                }
                Message::Gone => return Ok(None),
                Message::Cancel(exit_code) => self.cancel(exit_code),
                Message::Leave(until) => self.leave(until),
                Message::Wake => self.look_at_sub_runs(&mut beside.sub_runs, watch)?,
                Message::Turn(_) => {}
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.look();
                self.look_beside(scope, beside, watch)?;
            }
        }
    }

    fn look_beside<'s>(&mut self, scope: &'s Scope<'s, '_>, beside: &mut Beside<'s>, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()>
    where
        'a: 's,
    {
        if let Some(sub) = self.look_at_persons(watch)? {
            self.start_sub_run(sub, scope, &mut beside.sub_runs);
        }
        self.look_at_flush(&mut beside.flush);
        self.look_at_sub_runs(&mut beside.sub_runs, watch)
    }

    fn handle(&mut self, message: FromWorker, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        match message {
            FromWorker::Begin { id, intent } if self.leaving.is_some() && self.halted.is_none() => {
                self.held.push((id, intent));
                self.look_at_leaving();
                Ok(())
            }
            FromWorker::Begin { id, intent } => {
                self.unrepeatable.remove(&intent.key);
                let gate = self.gate(intent, watch).and_then(|gate| self.commit().map(|()| Reply::Gate(gate)));
                self.reply(id, gate)
            }
            FromWorker::End { id, key, outcome, duration_ms } => {
                let ended = self.end(key, outcome, duration_ms, watch).and_then(|()| self.commit());
                self.reply(id, ended.map(|()| Reply::Recorded))?;
                self.look_at_leaving();
                Ok(())
            }
            FromWorker::Effect { id, key, effect } => {
                // Once one effect on record says that the step can not simply run again, the rest may wait.
                let is_news = !effect.may_repeat() && self.unrepeatable.insert(key.clone());
                let told = self.go_on().and_then(|()| self.event(EventKind::Effect { key, effect }, watch));
                let told = told.and_then(|()| if is_news { self.commit() } else { Ok(()) });
                self.reply(id, told.map(|()| Reply::Recorded))
            }
            FromWorker::Tell(event) => self.tell(event, watch),
            FromWorker::Ask { id, question } => {
                let answer = self.answer(question);
                let reply = ToWorker::Reply { id, reply: answer.map(Reply::Answer) };
                self.tell_worker(&reply);
                Ok(())
            }
            FromWorker::LeftOut(bytes) => {
                self.log.leave_out(bytes);
                Ok(())
            }
            FromWorker::CleaningUp { id, undo, error, stopped } => {
                let keys = self.take_back(undo, error, stopped, watch).and_then(|keys| self.commit().map(|()| keys));
                self.reply(id, keys.map(Reply::TakeBack))
            }
            FromWorker::Planned(_) => Err(Error::new(Kind::Bug, "a worker that runs told a plan")),
            FromWorker::Over { .. } => Ok(()),
        }
    }

    /// A record that can not be made is told to the worker, and ends the run.
    fn reply(&mut self, id: u64, reply: Result<Reply>) -> Result<()> {
        let failure = reply.as_ref().err().cloned();
        self.tell_worker(&ToWorker::Reply { id, reply });
        // A run that was halted ends by itself, and its record says why.
        failure.filter(|_| self.halted.is_none()).map_or(Ok(()), Err)
    }

    /// What only a worker knows, and needs no answer.
    fn tell(&mut self, event: EventKind, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        let is_known = match &event {
            // A replay says again what was said already.
            EventKind::Log { step, text } if step.is_empty() => self.said.get_mut(text).is_some_and(|count| {
                let again = *count > 0;
                *count = count.saturating_sub(1);
                again
            }),
            EventKind::Output { name, value } => self.run.attempt > 1 && self.run.outputs.get(name) == Some(value),
            EventKind::UndoRegistered { key, .. } => self.journal.undos.iter().any(|(known, _)| known == key),
            EventKind::Checked(_) | EventKind::Log { .. } | EventKind::Progress { .. } | EventKind::Read { .. } => false,
            other => return Err(Error::new(Kind::Bug, format!("the worker told `{}`, which is not its to tell", other.name()))),
        };
        if is_known { Ok(()) } else { self.event(event, watch) }
    }

    /// A step wants to start: whether it may, by what earlier workers left of it.
    fn gate(&mut self, intent: Intent, watch: &mut dyn FnMut(&Run, &Event)) -> Result<Gate> {
        self.go_on()?;
        let attempts = self.journal.attempts(&intent.key);
        let verdict = self.journal.begin(&intent);
        let gate = match verdict {
            Verdict::Value(value) => return Ok(Gate::Done(value)),
            Verdict::Error(error) => return Ok(Gate::Failed(error)),
            Verdict::Diverged(why) => return Err(self.diverged(&intent.key, &why)),
            _ if self.compensation.is_some() && !intent.undo && !self.is_compensating(&intent) => return Ok(Gate::TakeBack),
            Verdict::Doubt(past) => return Err(self.doubt(&past, None)),
            Verdict::Verify(past) => {
                self.doubtful.insert(intent.key.clone(), *past);
                Gate::Verify
            }
            Verdict::Run if self.request.faults.repeats(&intent) => Gate::Twice,
            Verdict::Run => Gate::Go,
        };
        let key = intent.key.clone();
        self.around.insert(key.clone(), intent.within.clone());
        let fails = !intent.undo && self.request.faults.fails(&intent);
        self.event(EventKind::StepStarted(Intent { attempt: attempts + intent.attempt, ..intent }), watch)?;
        if !fails {
            return Ok(gate);
        }
        let error = Error::new(Kind::Failed, format!("step `{key}` fails because of `--fail-at`"));
        self.event(EventKind::StepEnded { key, outcome: Outcome::Error(error.clone()), duration_ms: 0 }, watch)?;
        Ok(Gate::Failed(error))
    }

    /// Whether a step belongs to a compensation.
    fn is_compensating(&self, intent: &Intent) -> bool {
        self.run.steps.iter().any(|step| step.undo && step.key == intent.within)
    }

    fn end(&mut self, key: String, outcome: Outcome, duration_ms: u64, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        self.go_on()?;
        if self.request.faults.crashes_in(&key) {
            self.commit()?;
            self.kill();
            faults::die();
        }
        if let Some(missed) = self.journal.ended(&key, matches!(outcome, Outcome::Value(_))) {
            return Err(self.diverged(&missed, &format!("step `{key}` ended without it")));
        }
        self.event(EventKind::StepEnded { key, outcome, duration_ms }, watch)
    }

    /// The compensations to run: those that are registered, unless the run was taking back already.
    fn take_back(
        &mut self,
        registered: Vec<String>,
        error: Option<Error>,
        stopped: Option<StopReason>,
        watch: &mut dyn FnMut(&Run, &Event),
    ) -> Result<Vec<String>> {
        self.go_on()?;
        let is_settled = |key: &String| {
            self.run.steps.iter().any(|step| step.key == *key && matches!(step.status, StepState::Succeeded | StepState::Skipped))
        };
        let wanted = match &self.compensation {
            Some(compensation) => compensation.undo.clone(),
            // It failed before it came to where it had stopped: its work is not taken back half.
            None if self.journal.unasked("").is_some() => return Ok(Vec::new()),
            None => self.journal.undos.iter().map(|(key, _)| key.clone()).collect(),
        };
        let lost = wanted.iter().find(|key| !registered.contains(key) && !is_settled(key));
        if let Some(key) = lost.cloned() {
            return Err(self.lost(&key));
        }
        let compensation = match (self.compensation.clone(), error) {
            (Some(compensation), _) => compensation,
            (None, Some(error)) if !registered.is_empty() => {
                let compensation = Compensation { undo: registered, status: self.status_of(stopped, Some(&error)), error };
                self.event(EventKind::CompensationStarted(compensation.clone()), watch)?;
                self.compensation.insert(compensation).clone()
            }
            _ => return Ok(Vec::new()),
        };
        self.kill_at = Some(Instant::now() + self.request.limits.grace.0 + PATIENCE);
        Ok(compensation.undo)
    }

    fn go_on(&self) -> Result<()> {
        self.halted.as_ref().map_or(Ok(()), |(_, error)| Err(error.clone()))
    }

    /// Stops the worker where it is: it does nothing more, and takes nothing back.
    fn halt(&mut self, status: RunState, error: Error) -> Error {
        let error = error.permanent();
        self.halted = Some((status, error.clone()));
        self.kill_at = Some(Instant::now() + PATIENCE);
        self.tell_worker(&ToWorker::Stop(StopReason::Halted));
        error
    }

    fn diverged(&mut self, key: &str, why: &str) -> Error {
        let error = Error::new(Kind::Conflict, format!("diverged at step `{key}`: {why}"))
            .code("RB3104")
            .hint("nothing was done: the script took another way than before, as one does that decides by what it reads outside of a step")
            .hint(format!("look at what was done with `runbook report {0}`, then start anew: runbook retry {0}", self.run.run));
        self.halt(RunState::Failed, error)
    }

    /// A step of which nobody knows whether it was done.
    fn doubt(&mut self, past: &Past, unanswered: Option<&Error>) -> Error {
        let (key, number) = (&past.intent.key, self.run.run);
        let effects: Vec<&str> = past.effects.iter().map(|effect| effect.summary.as_str()).collect();
        let began = if effects.is_empty() { String::new() } else { format!(" and began to: {}", effects.join("; ")) };
        let why = unanswered.map(|error| format!("; its `verify` could not tell: {}", error.message)).unwrap_or_default();
        let started = past.started.strftime("%Y-%m-%d %H:%M:%S UTC");
        let say = |what: &str, means: &str| format!("{means}: runbook resume {number} --step '{}={what}'", key.replace('\'', "'\\''"));
        let error = Error::new(Kind::Waiting, format!("step `{key}` may have been done or not: it started at {started}{began}{why}"))
            .code("RB3103")
            .hint(say("done", "look whether it was done; if it was"))
            .hint(say("redo", "if it was not"))
            .hint(say("skip", "to go on without it"));
        self.halt(RunState::NeedsAttention, error)
    }

    /// A compensation that was registered in a step which is not run again.
    fn lost(&mut self, key: &str) -> Error {
        let number = self.run.run;
        let name = key.replace('\'', "'\\''");
        let error =
            Error::new(Kind::Waiting, format!("`{key}` has to be done by hand: it was registered inside of a step that is not run again"))
                .code("RB3103")
                .hint(format!("when it is done: runbook resume {number} --step '{name}=done'"))
                .hint(format!("to go on without it: runbook resume {number} --step '{name}=skip'"))
                .hint("call `undo` outside of the step, and a resumed run knows it");
        self.halt(RunState::NeedsAttention, error)
    }

    /// Applies, logs and shows an event; it is durable with the next commit.
    fn event(&mut self, kind: EventKind, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        let kind = self.masked(kind)?;
        let event = Event { at: now(), kind };
        self.run.apply(&event)?;
        watch(&self.run, &event);
        match event.kind {
            EventKind::Progress { .. } => return Ok(()),
            EventKind::Log { .. } => self.log.append(std::slice::from_ref(&event))?,
            _ => {
                // The journal must have it also when the log has no room left.
                self.pending.push(event.clone());
                self.log.append(std::slice::from_ref(&event))?;
                if self.request.faults.crashes_after(&event.kind) {
                    self.commit()?;
                    self.kill();
                    faults::die();
                }
            }
        }
        if self.pending.len() >= BATCH { self.commit() } else { Ok(()) }
    }

    fn masked(&self, kind: EventKind) -> Result<EventKind> {
        masked(&self.redactor, kind)
    }

    fn commit(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.store.append(self.run.id, &self.pending)?;
        self.pending.clear();
        Ok(())
    }

    fn is_for_the_test(&self, question: &Question) -> bool {
        self.request.answers.as_ref().is_some_and(|answers| answers.are_for(question))
    }

    fn answer_by_test(&mut self, id: u64, question: Question) {
        let Some(answers) = &self.request.answers else { return };
        let reply = answers.answer(question).map(Reply::Answer);
        self.tell_worker(&ToWorker::Reply { id, reply });
    }

    fn answer(&mut self, question: Question) -> Result<Answer> {
        let scope = format!("{}@{}", self.run.runbook, self.run.system.as_deref().unwrap_or_default());
        // The worker has asked for permission already; it is asked here again, since it may be hostile.
        let permit =
            |section: &str, verb: &str, object: &str| self.request.permissions.check(&Access::word(section, verb, object)).map(drop);
        match question {
            Question::Get { key } => {
                permit("store", "read", &key)?;
                Ok(self.store.note(&scope, &key)?.map_or(Answer::Nothing, Answer::Value))
            }
            Question::Put { key, value } => {
                permit("store", "write", &key)?;
                self.store.keep_note(&scope, &key, &self.redactor.value(value))?;
                Ok(Answer::Nothing)
            }
            Question::Keys { prefix } => {
                permit("store", "read", &prefix)?;
                Ok(Answer::Value(self.store.note_keys(&scope, &prefix)?.into()))
            }
            Question::Keep { name, content } => {
                let artefact = self.state.keep(self.run.run, &name, self.redactor.text(&content).as_bytes())?;
                serde_json::to_value(artefact).map(Answer::Value).map_err(|error| Error::new(Kind::Bug, error.to_string()))
            }
            Question::History { runbook, limit } => {
                let filter =
                    Filter { runbook: Some(runbook), system: self.run.system.clone(), limit: limit.clamp(1, 1000), ..Filter::default() };
                serde_json::to_value(self.store.list(&filter)?).map(Answer::Value).map_err(|error| Error::new(Kind::Bug, error.to_string()))
            }
            Question::Send { contact, message } => {
                permit("notify", "send", &contact)?;
                self.post(&contact, message)
            }
            Question::Outbox => {
                permit("notify", "send", "outbox")?;
                self.standing()
            }
            Question::Doubt { key, error } => {
                let intent = Intent { key: key.clone(), ..Intent::default() };
                let past = self.doubtful.remove(&key).unwrap_or(Past { intent, started: now(), effects: Vec::new(), end: End::Open });
                Err(self.doubt(&past, Some(&error)))
            }
            Question::SocketOwners => {
                self.request.permissions.check(&Access::host("listeners", "localhost", 0))?;
                serde_json::to_value(socket_owners()).map(Answer::Value).map_err(|error| Error::new(Kind::Bug, error.to_string()))
            }
            Question::Person(_) => Err(Error::new(Kind::Bug, "people answer later")),
            Question::Call { .. } => Err(Error::new(Kind::Bug, "only a test answers calls")),
            Question::Flush => Err(Error::new(Kind::Bug, "a flush is answered when it is done")),
            Question::Run(_) => Err(Error::new(Kind::Bug, "a sub-run is answered when it is over")),
        }
    }

    /// Puts a message into the outbox; the identity of its parcel, or nothing when it was said already.
    fn post(&self, contact: &str, message: Value) -> Result<Answer> {
        let system = &self.request.system;
        match system.contacts.get(contact) {
            None => return Err(Error::new(Kind::NotFound, format!("system `{}` has no contact `{contact}`", system.name))),
            Some(person @ Contact::Person { .. }) => {
                return Err(Error::new(Kind::Invalid, format!("`{contact}` is a {} and gets no messages", kind_of(person))));
            }
            Some(_) => {}
        }
        let message = self.redactor.value(message);
        if message.to_string().len() > LONGEST_MESSAGE {
            return Err(Error::new(Kind::Limit, format!("the message is longer than {} MiB", LONGEST_MESSAGE >> 20)));
        }
        let message: Notice =
            serde_json::from_value(message).map_err(|error| Error::new(Kind::Invalid, format!("this is no message: {error}")))?;
        let message = Notice { id: None, ..message };
        let mut parcel = Parcel::new(uuid::Uuid::now_v7(), contact, &system.name, message, now());
        parcel.project.clone_from(&self.request.addresses.project);
        let posted = outbox::post(self.store, &parcel)?;
        Ok(if posted { Answer::Value(parcel.id.into()) } else { Answer::Nothing })
    }

    fn standing(&self) -> Result<Answer> {
        let standing = outbox::standing(self.store)?;
        serde_json::to_value(standing).map(Answer::Value).map_err(|error| Error::new(Kind::Bug, error.to_string()))
    }

    /// Delivers on a thread of its own, so that limits and cancellation are still looked at. Whoever
    /// asks while it is under way waits for the same end.
    fn flush<'s>(&mut self, id: u64, scope: &'s Scope<'s, '_>, flush: &mut Option<Flush<'s>>)
    where
        'a: 's,
    {
        if let Err(error) = self.request.permissions.check(&Access::word("notify", "send", "outbox")) {
            self.tell_worker(&ToWorker::Reply { id, reply: Err(error) });
            return;
        }
        if let Some(flush) = flush {
            flush.asked.push(id);
            return;
        }
        let stop = Arc::new(Stop::new(None));
        let (store, state, addresses, stopped) = (self.store, self.state, self.request.addresses.clone(), stop.clone());
        let thread = scope.spawn(move || outbox::deliver_due(store, state, &addresses, &stopped, FLUSH_PATIENCE).map(drop));
        *flush = Some(Flush { asked: vec![id], stop, thread });
    }

    /// Ends a flush that must, and answers one that ended.
    fn look_at_flush(&mut self, flush: &mut Option<Flush<'_>>) {
        if self.stopping.is_some() {
            flush.iter().for_each(Flush::stop);
        }
        let Some(Flush { asked, thread, .. }) = flush.take_if(|flush| flush.thread.is_finished()) else { return };
        let delivered = thread.join().unwrap_or_else(|_| Err(Error::new(Kind::Bug, "the delivery panicked")));
        let answer = delivered.and_then(|()| self.standing());
        for id in asked {
            self.tell_worker(&ToWorker::Reply { id, reply: answer.clone().map(Reply::Answer) });
        }
    }

    fn cancel(&mut self, exit_code: u8) {
        if self.cancelled.replace(exit_code).is_some() {
            self.hurried = true;
            self.kill();
            return;
        }
        self.stop(StopReason::Cancelled);
    }

    fn stop(&mut self, reason: StopReason) {
        if self.stopping.is_none() {
            self.stopping = Some(reason);
            self.kill_at = Some(Instant::now() + PATIENCE);
            self.tell_worker(&ToWorker::Stop(reason));
        }
    }

    /// The limits, from outside: a script can not switch them off.
    fn look(&mut self) {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.stop(StopReason::Time);
        }
        let most = self.request.limits.memory.0;
        if resident(self.worker.process.id()).is_some_and(|bytes| bytes > most + most / 4) {
            self.stopping = Some(StopReason::Memory);
            self.kill();
        }
        // While it waits for sub-runs, which clean up, it can not stop by itself.
        if self.kill_at.is_some_and(|at| now >= at) && self.below == 0 {
            self.kill();
        }
        self.look_at_leaving();
    }

    fn kill(&mut self) {
        self.worker.kill();
    }

    /// Leaves nothing of the worker: no process, no file with a secret.
    fn finish_worker(&mut self) -> Option<ExitStatus> {
        self.input = None;
        let status = self.reap();
        if self.request.within.is_none() {
            end_orphans();
        }
        // A worker that was killed could not remove them.
        let _ = std::fs::remove_dir_all(self.state.work(self.run.run).join(SECRET_FILES));
        self.state.drop_work(self.run.run);
        status
    }

    fn reap(&mut self) -> Option<ExitStatus> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.worker.process.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_micros(200)),
                _ => {
                    self.worker.end();
                    return self.worker.process.try_wait().ok().flatten();
                }
            }
        }
    }

    /// What to say of a worker that vanished without a word.
    fn crash(&self, status: Option<ExitStatus>, last_words: &str) -> Error {
        use std::os::unix::process::ExitStatusExt;
        if let Some(reason) = self.stopping {
            let kind = if reason == StopReason::Cancelled { Kind::Cancelled } else { Kind::Limit };
            return Error::new(kind, reason.message());
        }
        let signal = status.and_then(|status| status.signal()).and_then(signal_name);
        let how = signal.map(str::to_owned).unwrap_or_else(|| status.map_or("no status".to_owned(), |status| status.to_string()));
        let error = Error::new(Kind::Limit, format!("the worker crashed: {how}")).code("RB3102");
        if status.as_ref().is_some_and(was_killed) {
            return Error::new(Kind::Limit, format!("the worker was killed: {how}"))
                .code("RB3102")
                .hint("somebody ended it, or the machine ran out of memory")
                .hint(format!("it goes on where it stopped with `runbook resume {}`", self.run.run));
        }
        let reason = last_words.lines().find(|line| line.contains("overflow") || line.contains("memory allocation"));
        match reason {
            Some(reason) => error.hint(self.redactor.text(reason.trim())),
            None => error.hint("a script can only crash its own worker; look for values that nest or grow without end"),
        }
    }

    /// How a run stands that ended like this.
    fn status_of(&self, stopped: Option<StopReason>, error: Option<&Error>) -> RunState {
        match (stopped.or(self.stopping.filter(|_| error.is_some())), error) {
            (Some(StopReason::Cancelled), _) => RunState::Cancelled,
            (Some(StopReason::Time), _) => RunState::TimedOut,
            (Some(StopReason::Lost), _) => RunState::Interrupted,
            (Some(StopReason::Halted), _) => RunState::NeedsAttention,
            (Some(StopReason::Memory | StopReason::Processes), _) | (None, Some(_)) => RunState::Failed,
            (None, None) => self.run.verdict(),
        }
    }

    fn conclude(&mut self, error: Option<Error>, stopped: Option<StopReason>, watch: &mut dyn FnMut(&Run, &Event)) -> Result<()> {
        if self.log.dropped() > 0 {
            let text = format!("limit: output: {} bytes of the log were left out", self.log.dropped());
            let event = Event { at: now(), kind: EventKind::Log { step: String::new(), text } };
            watch(&self.run, &event);
            // The record says that it is not complete, and how the run ended.
            self.log.make_room();
            self.log.append(std::slice::from_ref(&event))?;
        }
        let missed = if error.is_none() { self.journal.ended("", true) } else { None };
        let missed = missed.filter(|_| self.compensation.is_none()).map(|key| self.diverged(&key, "the script ended without it"));
        let (status, error) = match (self.halted.take(), self.compensation.take()) {
            (Some((status, error)), _) => (status, Some(error)),
            (None, Some(compensation)) => (compensation.status, Some(compensation.error)),
            (None, None) => (self.status_of(stopped, error.as_ref()), error.or(missed)),
        };
        let exit_code = match status {
            RunState::Succeeded => 0,
            RunState::Warning => 3,
            RunState::Cancelled => self.cancelled.unwrap_or(130),
            RunState::TimedOut => 124,
            RunState::NeedsAttention => 5,
            _ => match error.as_ref().map(|error| error.kind) {
                Some(Kind::Bug) => 70,
                Some(Kind::Store) => 8,
                _ => 1,
            },
        };
        let told = self.event(EventKind::Ended { status, exit_code, error }, watch);
        self.commit()?;
        told
    }
}

/// Records a new run.
fn record(store: &dyn Store, request: &Request, id: RunId, status: RunState) -> Result<Run> {
    let mut run = Run {
        run: 0,
        id,
        runbook: request.script.name.clone(),
        version: request.script.version(),
        commit: request.commit.clone(),
        system: Some(request.system.name.clone()).filter(|name| !name.is_empty()),
        params: request.shown.clone(),
        status,
        exit_code: None,
        trigger: request.trigger,
        by: request.by.clone(),
        parent: request.within.as_ref().map(|within| Parent { run: within.parent(), step: within.step.clone() }),
        attempt: 1,
        started: now(),
        ended: None,
        duration_ms: 0,
        steps: Vec::new(),
        checks: Vec::new(),
        outputs: BTreeMap::new(),
        error: None,
        waits_for: None,
    };
    // A run that still waits may never begin what its plan says.
    if run.status == RunState::Running {
        spend(store, request, run.id)?;
    }
    run.run = store.create(&run, &request.script.record(), me())?;
    Ok(run)
}

/// What a run is made of beside its texts.
fn prepared(request: &Request) -> EventKind {
    let Request { system, params, plan, .. } = request;
    let (name, plan) = (system.name.clone(), plan.as_ref().map(|plan| plan.hash.clone()));
    EventKind::Prepared { name, system: Box::new(system.clone()), params: params.clone(), plan }
}

fn masked(redactor: &Redactor, kind: EventKind) -> Result<EventKind> {
    if redactor.is_empty() {
        return Ok(kind);
    }
    let read = |error: serde_json::Error| Error::new(Kind::Bug, format!("an event does not survive masking: {error}"));
    let value = serde_json::to_value(&kind).map_err(read)?;
    serde_json::from_value(redactor.value(value)).map_err(read)
}

/// Why a run did not get its lock, and what can be done.
fn locked(name: &str, holder: &str, owner: Option<&Owner>, when: WhenLocked) -> Error {
    let error = Error::new(Kind::NotStarted, format!("`{name}` is held by {holder}")).target(name);
    let Some(Owner { run, .. }) = owner else { return error };
    match when {
        WhenLocked::Fail => error.hint("wait for it: `--when-locked 'wait 10m'`, or `when_locked` in the header"),
        WhenLocked::Wait(_) => error.hint(format!("see what it does: `runbook logs {run} -f`")),
        WhenLocked::Replace => error.hint(format!("it still cleans up; at once: `runbook cancel {run} --now`")),
    }
}

/// Who holds a lock, for people.
fn holder(owner: Option<&Owner>) -> String {
    owner.map_or_else(|| "a run that is just starting".to_owned(), |owner| owner.in_words(now()))
}

/// Makes the plan this run's own, once; others can not carry it out any more. That of a sub-run is a part of one
/// that is the run's above.
fn spend(store: &dyn Store, request: &Request, run: RunId) -> Result<()> {
    let own = request.plan.as_ref().filter(|plan| plan.run != Some(run) && request.within.is_none());
    own.map_or(Ok(()), |plan| store.spend_plan(&plan.hash, run))
}

/// Takes the lock a run asks for, if it is free.
fn take(state: &StateDir, request: &Request) -> Result<Taken> {
    match &request.lock {
        Some(wanted) => Lock::take_within(state, &wanted.name, request.within.as_ref()),
        None => Ok(Taken::Above),
    }
}

/// The lines that were logged outside of steps.
fn said(state: &StateDir, number: u64) -> Result<HashMap<String, u32>> {
    let mut said = HashMap::new();
    for line in Log::at(&state.run(number)).lines(1, u64::MAX)? {
        if let EventKind::Log { step, text } = line.event.kind
            && step.is_empty()
        {
            *said.entry(text).or_default() += 1;
        }
    }
    Ok(said)
}

/// A process that has loaded everything and waits for what to run.
#[derive(Debug)]
pub struct Worker {
    pub(super) process: Child,
    /// Whether what else this process has for children was left by it.
    alone: bool,
}

impl Worker {
    /// Starts one from this binary. It takes as long to load as everything that comes before the run,
    /// so this is best done first.
    ///
    /// # Errors
    ///
    /// `bug`, when it can not be started.
    pub fn start(binary: &Path) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        // A subreaper inherits what a killed worker leaves behind; without it, process groups must do.
        if children() != Children::OfAnother {
            let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        }
        // Nobody sweeps between its start and the note that it is one.
        let mut workers = workers();
        let process = Command::new(binary)
            .arg("__worker")
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Error::because(Kind::Bug, format_args!("the worker `{}` can not be started", binary.display()), &error))?;
        workers.insert(process.id());
        Ok(Self { process, alone: true })
    }

    fn kill(&mut self) {
        // Beside other workers, or in another program, its orphans could not be told from other children: they go
        // before it.
        if (children() == Children::OfAnother || !self.alone) && matches!(self.process.try_wait(), Ok(None)) {
            kill_descendants(self.process.id());
        }
        // It may have ended by itself in between.
        let _ = self.process.kill();
    }

    fn end(&mut self) {
        self.kill();
        let _ = self.process.wait();
    }
}

/// Ends what a worker left behind, which this process inherits.
fn end_orphans() {
    match children() {
        Children::OfOneRun => drop(kill_descendants(std::process::id())),
        Children::OfManyRuns => sweep(),
        Children::OfAnother => {}
    }
}

/// A run that does not come about leaves no process.
impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
        workers().remove(&self.process.id());
    }
}

fn listen(output: &mut BufReader<impl Read>, sender: &SyncSender<Message>) {
    loop {
        let message = match receive(output) {
            Ok(Some(message)) => Message::Worker(message),
            Ok(None) => Message::Gone,
            Err(error) => Message::Broken(error),
        };
        let last = !matches!(message, Message::Worker(_));
        if sender.send(message).is_err() || last {
            return;
        }
    }
}

/// What a dying process says: its first lines tell why.
fn read_last_words(stderr: ChildStderr) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut words = Vec::new();
        let mut stderr = stderr;
        // What is over the limit is read and dropped, so that the worker does not block.
        let _ = stderr.by_ref().take(64 << 10).read_to_end(&mut words);
        let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        String::from_utf8_lossy(&words).into_owned()
    })
}

/// Whether somebody else ended a process, which says nothing about the script.
fn was_killed(status: &ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    matches!(status.signal(), Some(9 | 15))
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        _ => return None,
    })
}
