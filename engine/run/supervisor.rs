//! The supervisor: starts a worker, writes down what it says, answers it, and ends it.

mod answer;
mod begin;
mod child;
mod end;
mod flush;
mod leave;
mod person;
mod record;
mod request;
mod steps;
mod stop;
mod turn;
mod worker;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::host::{Question, StopReason};
use crate::model::{Compensation, Event, EventKind, Intent, Run, RunState, System};
use crate::run::dispatch::Dispatch;
use crate::run::journal::{Journal, Past};
use crate::run::lock::{Lock, Owner};
use crate::run::outbox::Addresses;
use crate::run::protocol::{FromWorker, Reply, ToWorker};
use crate::run::redact::Redactor;
use crate::run::watched::Watched;
use crate::store::{Log, StateDir, Store};
use child::SubRuns;
use end::was_killed;
use flush::Flush;
use turn::NotBegun;
use worker::read_last_words;

pub use begin::{Enrolled, Source};
pub use request::Request;
pub use stop::Control;
pub use worker::Worker;

/// How many messages of the worker may wait: enough for bursts, few enough to slow a flood down.
const BACKLOG: usize = 512;
/// How often limits are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How many events may wait for the next commit.
const BATCH: usize = 128;
/// How long a worker that should stop by itself may take before it is killed.
const PATIENCE: Duration = Duration::from_millis(800);

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
    watched: Watched,
}

impl<'a> Supervisor<'a> {
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
            && let Err(NotBegun(status, exit_code, error)) = self.wait_for_turn(watch)
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
                    self.order_run(id, order, scope, &mut beside.sub_runs, watch)?;
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
}
