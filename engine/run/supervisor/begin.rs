//! How a run comes about: new, enrolled for later, or taken over.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::BufReader;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use super::record::masked;
use super::request::Request;
use super::stop::Control;
use super::turn::holder;
use super::worker::{Worker, listen};
use super::{BACKLOG, Supervisor};
use crate::error::{Error, Kind, Result};
use crate::model::{Decision, Event, EventKind, Parent, Run, RunId, RunState};
use crate::run::dispatch::Dispatch;
use crate::run::journal::Journal;
use crate::run::lock::{Lock, Taken};
use crate::run::process::me;
use crate::run::redact::Redactor;
use crate::run::watched::Watched;
use crate::store::{Log, StateDir, Store, now};

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
            watched: Watched::default(),
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

/// Makes the plan this run's own, once; others can not carry it out any more. That of a sub-run is a part of one
/// that is the run's above.
pub(super) fn spend(store: &dyn Store, request: &Request, run: RunId) -> Result<()> {
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
