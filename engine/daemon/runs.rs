//! The runs of the daemon: a queue, the places of those that run, and what becomes of each.
//!
//! A run is a thread, which starts its worker and follows it. The kernel ends a worker with the thread that
//! started it, so both have the same life.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::metrics::Metrics;
use super::notice::Notice;
use super::post::Post;
use super::{Config, Desk, Place, care, notice};
use crate::error::{Error, Kind, Result};
use crate::model::{Event, EventKind, Pause, Run, RunId, RunState, Span, System, Tick, Trigger};
use crate::monitor::repairs::why_paused;
use crate::run::daemon::{Order, Queued};
use crate::run::lock::owners;
use crate::run::process::{helpers, me};
use crate::run::{Control, Dispatch, Enrolled, Request, Supervisor, Worker, recover};
use crate::schedule::Handle;
use crate::store::audit::{Act, Action, audited};
use crate::store::{Filter, StateDir, Store};
use crate::words;

/// How long to wait before a run is tried again that was cut off, or whose lock another one holds.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is tried to have what a run needs of its project; the pauses in between double, and take a minute.
const MOST_TRIES: u32 = 6;
/// The exit code of a run that was cancelled, as of a command that was terminated.
const CANCELLED: u8 = 143;

/// Why what starts by itself does not.
const PAUSED: &str = "everything is paused     runbook schedule resume --all";

/// The runs of a daemon.
pub(super) struct Runs {
    store: Arc<dyn Store>,
    state: StateDir,
    desk: Arc<dyn Desk>,
    binary: PathBuf,
    post: Arc<Post>,
    metrics: Arc<Metrics>,
    floor: Mutex<Floor>,
    /// Held while a run is on record and not on the floor yet.
    doorway: RwLock<()>,
    /// Held while it is found out whether a run is there already.
    turnstile: Mutex<()>,
    scheduler: OnceLock<Handle>,
}

/// Who runs and who waits.
#[derive(Default)]
struct Floor {
    places: usize,
    queue: VecDeque<Waiting>,
    active: BTreeMap<u64, Active>,
    is_closed: bool,
}

/// A run that waits for a place.
struct Waiting {
    number: u64,
    id: RunId,
    work: Work,
    since: Instant,
    /// Whether no person started it: it waits as long as everything is paused.
    is_automatic: bool,
    /// Why it waits, beside that there is no place.
    why: Option<String>,
    not_before: Option<Instant>,
    /// How often what it needs of its project could not be had.
    tries: u32,
}

/// What is to be done with a run that gets a place.
enum Work {
    /// It begins.
    Begin(Box<Enrolled>),
    /// It was cut off, and goes on.
    GoOn,
}

/// A run that has a place.
struct Active {
    /// What can stop it, once it has a supervisor.
    control: Option<Control>,
    cancel: Cancel,
}

/// How a run was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cancel {
    No,
    AfterCleanUp,
    AtOnce,
}

/// What became of a run that had a place.
enum Became {
    /// It is over, and its end is recorded.
    Over,
    /// It goes on later.
    Later { why: String },
    /// It waits again, as it was.
    Waits(Box<Waiting>),
}

impl Runs {
    pub(super) fn new(config: &Config, store: Arc<dyn Store>, places: u32, post: Arc<Post>, metrics: Arc<Metrics>) -> Arc<Self> {
        let floor = Mutex::new(Floor { places: places as usize, ..Floor::default() });
        Arc::new(Self {
            store,
            state: config.state.clone(),
            desk: config.desk.clone(),
            binary: config.binary.clone(),
            post,
            metrics,
            floor,
            doorway: RwLock::default(),
            turnstile: Mutex::default(),
            scheduler: OnceLock::new(),
        })
    }

    pub(super) fn post(&self) -> &Post {
        &self.post
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Takes a run on. It is durable when this returns, and runs when its turn has come.
    pub(super) fn order(self: &Arc<Self>, order: &Order) -> Result<Queued> {
        self.order_as(order, RunId::new())
    }

    /// The same for what may come twice: the second time it is refused with `conflict`.
    pub(super) fn order_once(self: &Arc<Self>, order: &Order, id: RunId) -> Result<Queued> {
        let _one_after_the_other = self.turnstile.lock().unwrap_or_else(PoisonError::into_inner);
        match self.store.run(id) {
            Ok(run) => Err(Error::new(Kind::Conflict, format!("this was taken already: run #{}", run.run)).permanent()),
            Err(error) if error.kind == Kind::NotFound => self.order_as(order, id),
            Err(error) => Err(error),
        }
    }

    /// The same with an identity of which there can not be two.
    pub(super) fn order_as(self: &Arc<Self>, order: &Order, id: RunId) -> Result<Queued> {
        let request = {
            let _helpers = helpers();
            self.desk.request(order, &*self.store)?
        };
        let Order { directory, config, account, .. } = order.clone();
        self.take_on(request, id, &Place { directory, config, account })
    }

    fn take_on(self: &Arc<Self>, request: Request, id: RunId, place: &Place) -> Result<Queued> {
        if self.floor().is_closed {
            return Err(Error::new(Kind::NotStarted, "the daemon is about to stop").hint("start it again, and ask again"));
        }
        let doorway = self.doorway.read().unwrap_or_else(PoisonError::into_inner);
        care::take(&*self.store, id, place)?;
        let enrolled = match Supervisor::enroll(&*self.store, request, id) {
            Ok(enrolled) => enrolled,
            Err(error) => {
                // What is left of it is found by the next round.
                let _ = care::drop(&*self.store, id);
                return Err(error);
            }
        };
        let run = enrolled.run();
        let number = run.run;
        tracing::info!(run = number, runbook = run.runbook, system = run.system, by = run.by, "taken on");
        let is_automatic = is_automatic(run.trigger);
        self.floor().queue.push_back(Waiting {
            number,
            id,
            work: Work::Begin(Box::new(enrolled)),
            since: Instant::now(),
            is_automatic,
            why: None,
            not_before: None,
            tries: 0,
        });
        drop(doorway);
        self.fill();
        let why = self.queued().into_iter().find(|queued| queued.run == number).and_then(|queued| queued.why);
        Ok(Queued { run: number, id: id.to_string(), why })
    }

    /// Finds the runs that were cut off with an earlier daemon, and lets them go on; how many there are.
    pub(super) fn bring_back(self: &Arc<Self>) -> Result<usize> {
        recover(&*self.store)?;
        let mut found = 0;
        for id in care::all(&*self.store)? {
            let run = match self.store.run(id) {
                Ok(run) => run,
                Err(error) if error.kind == Kind::NotFound => {
                    // It was never recorded, and nobody was told that it was.
                    care::drop(&*self.store, id)?;
                    continue;
                }
                Err(error) => {
                    // A damaged record ends this run, and no other.
                    tracing::error!("run {id} can not be read, and does not go on: {error}");
                    care::drop(&*self.store, id)?;
                    continue;
                }
            };
            if run.status == RunState::Interrupted {
                self.floor().queue.push_back(Waiting::again(run.run, id, is_automatic(run.trigger), "it was cut off", None));
                found += 1;
            } else {
                // It ended, and perhaps nobody was told.
                let system = self.system_of(id)?;
                self.tell_end(&run, &system)?;
                care::drop(&*self.store, id)?;
            }
        }
        self.fill();
        Ok(found)
    }

    /// Finds the runs that nobody watches over any more: of commands that were killed, and of threads that were lost.
    pub(super) fn look_for_lost(self: &Arc<Self>) -> Result<()> {
        for number in recover(&*self.store)? {
            tracing::warn!(run = number, "its command was killed; it goes on with `runbook resume {number}`");
        }
        let states = vec![RunState::Running, RunState::Waiting, RunState::Queued];
        let nobody_comes = self.doorway.write().unwrap_or_else(PoisonError::into_inner);
        for run in self.store.list(&Filter { states, ..Filter::default() })? {
            // One that another run started has its place in that one.
            if run.supervisor != Some(me()) || run.parent.is_some() || self.floor().knows(run.run) {
                continue;
            }
            let error = Error::new(Kind::Bug, "its supervisor ended without a last word").hint("see the log of the daemon");
            let ended = EventKind::Ended { status: RunState::Interrupted, exit_code: 70, error: Some(error) };
            if self.store.abandon(run.id, me(), &Event { at: super::now(), kind: ended })? {
                tracing::error!(run = run.run, "its supervisor ended without a last word");
                let again = Some(Instant::now() + AGAIN);
                self.floor().queue.push_back(Waiting::again(run.run, run.id, is_automatic(run.trigger), "its supervisor was lost", again));
            }
        }
        drop(nobody_comes);
        self.fill();
        Ok(())
    }

    /// Asks a run to stop.
    pub(super) fn cancel(self: &Arc<Self>, number: u64, now: bool) -> Result<()> {
        let wanted = if now { Cancel::AtOnce } else { Cancel::AfterCleanUp };
        let mut floor = self.floor();
        if let Some(active) = floor.active.get_mut(&number) {
            active.ask(wanted);
            return Ok(());
        }
        let Some(at) = floor.queue.iter().position(|waiting| waiting.number == number) else {
            return Err(Error::new(Kind::Usage, format!("run #{number} is none of the daemon's")).hint("`runbook ps` shows what runs"));
        };
        let waiting = floor.queue.remove(at);
        drop(floor);
        let Some(waiting) = waiting else { return Ok(()) };
        let error = Error::new(Kind::Cancelled, "cancelled while it waited for its turn");
        self.end(waiting, RunState::Cancelled, CANCELLED, error)
    }

    /// From here on no step starts; those under way have until then. What waits goes on with the next daemon.
    pub(super) fn leave(self: &Arc<Self>, until: Instant) {
        let mut floor = self.floor();
        floor.is_closed = true;
        let waiting: Vec<Waiting> = floor.queue.drain(..).collect();
        for control in floor.active.values().filter_map(|active| active.control.as_ref()) {
            control.leave(until);
        }
        drop(floor);
        waiting.into_iter().for_each(|waiting| self.put_off(waiting));
    }

    /// A run that waits goes on with the next daemon.
    fn put_off(&self, waiting: Waiting) {
        // One that was cut off is on record as that already.
        let Work::Begin(enrolled) = waiting.work else { return };
        let error = Error::new(Kind::Cancelled, "the daemon stopped before it began").hint("it begins by itself when the daemon is back");
        if let Err(error) = enrolled.give_up(&*self.store, RunState::Interrupted, 1, error) {
            tracing::error!(run = waiting.number, "that it waits can not be recorded: {error}");
        }
    }

    /// Whether it is about to end.
    pub(super) fn is_closed(&self) -> bool {
        self.floor().is_closed
    }

    /// Whether nothing runs any more.
    pub(super) fn are_over(&self) -> bool {
        self.floor().active.is_empty()
    }

    /// So many may run at the same time from now on.
    pub(super) fn make_room(self: &Arc<Self>, places: u32) {
        self.floor().places = places as usize;
        self.fill();
    }

    /// The numbers of the runs that have a place, and how many places there are.
    pub(super) fn running(&self) -> (Vec<u64>, u32) {
        let floor = self.floor();
        (floor.active.keys().copied().collect(), u32::try_from(floor.places).unwrap_or(u32::MAX))
    }

    /// The runs that wait, in their order, and why.
    pub(super) fn queued(&self) -> Vec<Queued> {
        let floor = self.floor();
        let full = format!("{} under way, of {} at a time", words::count(floor.active.len(), "run"), floor.places);
        let is_held = floor.has_automatic() && self.is_paused();
        let why = |waiting: &Waiting| {
            if is_held && waiting.is_automatic { PAUSED.to_owned() } else { waiting.why.clone().unwrap_or_else(|| full.clone()) }
        };
        floor.queue.iter().map(|waiting| Queued { run: waiting.number, id: waiting.id.to_string(), why: Some(why(waiting)) }).collect()
    }

    /// Gives free places to those that wait.
    pub(super) fn fill(self: &Arc<Self>) {
        loop {
            let is_held = self.floor().has_automatic() && self.is_paused();
            let mut floor = self.floor();
            let Some(waiting) = floor.next(is_held) else { return };
            let number = waiting.number;
            if matches!(waiting.work, Work::Begin(_)) {
                self.metrics.placed(waiting.since.elapsed());
            }
            floor.active.insert(number, Active { control: None, cancel: Cancel::No });
            drop(floor);
            let runs = self.clone();
            let started = std::thread::Builder::new().name(format!("run {number}")).spawn(move || runs.conduct(waiting));
            if let Err(error) = started {
                // Its record says that it runs here, and the next round finds that it does not.
                tracing::error!(run = number, "no thread for it: {error}");
                self.floor().active.remove(&number);
                return;
            }
        }
    }

    /// The life of a run that has a place.
    fn conduct(self: Arc<Self>, waiting: Waiting) {
        let Waiting { number, id, is_automatic, .. } = waiting;
        let became = catch_unwind(AssertUnwindSafe(|| self.run(waiting)));
        let mut floor = self.floor();
        floor.active.remove(&number);
        match became {
            Ok(Ok(Became::Over)) => self.report_end(number),
            Ok(Ok(Became::Later { .. })) if floor.is_closed => {}
            Ok(Ok(Became::Later { why })) => {
                floor.queue.push_back(Waiting::again(number, id, is_automatic, why, Some(Instant::now() + AGAIN)));
            }
            Ok(Ok(Became::Waits(waiting))) if floor.is_closed => self.put_off(*waiting),
            Ok(Ok(Became::Waits(waiting))) => floor.queue.push_back(*waiting),
            Ok(Err(error)) => tracing::error!(run = number, "{error}"),
            Err(_) => tracing::error!(run = number, "its supervisor panicked; please report it"),
        }
        drop(floor);
        self.post.call();
        self.fill();
    }

    fn run(&self, waiting: Waiting) -> Result<Became> {
        let (number, id) = (waiting.number, waiting.id);
        let place = care::place(&*self.store, id)?.unwrap_or_default();
        let below = match self.desk.below(&place, self.store.clone()) {
            Ok(below) => below,
            Err(error) => return self.without_project(waiting, error),
        };
        let supervisor = match waiting.work {
            Work::Begin(enrolled) => self.begin(*enrolled, &*below)?,
            Work::GoOn => match self.go_on(id, &place, &*below)? {
                Ok(supervisor) => Some(supervisor),
                Err(became) => return Ok(became),
            },
        };
        let Some(supervisor) = supervisor else { return Ok(Became::Over) };
        let system = supervisor.system().clone();
        self.has_control(number, supervisor.control());
        let run = supervisor.follow(&mut |run, event| self.watch(run, event, &system))?;
        self.after(run, &system)
    }

    /// What a run needs of its project can not be had: it waits, longer each time, and then for a person.
    fn without_project(&self, waiting: Waiting, error: Error) -> Result<Became> {
        let tries = waiting.tries + 1;
        if tries == 1 {
            tracing::warn!(run = waiting.number, "its project can not be had, and is tried again for a minute: {error}");
        }
        if tries < MOST_TRIES {
            let not_before = Some(Instant::now() + AGAIN * 2_u32.pow(tries));
            return Ok(Became::Waits(Box::new(Waiting { tries, not_before, why: Some(error.message), ..waiting })));
        }
        tracing::error!(run = waiting.number, "its project can not be had, and a person has to look: {error}");
        let error = Error { kind: Kind::Waiting, message: format!("its project can not be had: {}", error.message), ..error };
        match waiting.work {
            Work::GoOn => self.needs_a_person(&self.store.run(waiting.id)?, error),
            Work::Begin(enrolled) => {
                let system = enrolled.request().system.clone();
                let error = error.hint(format!("to let it begin: runbook resume {}", waiting.number));
                let run = enrolled.give_up(&*self.store, RunState::NeedsAttention, 5, error)?;
                self.tell_end(&run, &system)?;
                care::drop(&*self.store, run.id)?;
                Ok(Became::Over)
            }
        }
    }

    fn begin<'a>(&'a self, enrolled: Enrolled, below: &'a dyn Dispatch) -> Result<Option<Supervisor<'a>>> {
        match Worker::start(&self.binary) {
            Ok(worker) => Supervisor::begin(&*self.store, &self.state, below, worker, enrolled).map(Some),
            Err(error) => {
                let id = enrolled.run().id;
                let run = enrolled.give_up(&*self.store, RunState::Failed, 70, error)?;
                self.tell_end(&run, &self.system_of(id)?)?;
                care::drop(&*self.store, id)?;
                Ok(None)
            }
        }
    }

    /// A new supervisor for a run that was cut off; else what became of it.
    fn go_on<'a>(&'a self, id: RunId, place: &Place, below: &'a dyn Dispatch) -> Result<Result<Supervisor<'a>, Became>> {
        let (run, events) = (self.store.run(id)?, self.store.events(id)?);
        if run.status != RunState::Interrupted {
            // A person was faster.
            care::drop(&*self.store, id)?;
            return Ok(Err(Became::Over));
        }
        let request = {
            let _helpers = helpers();
            care::in_vain(&events).map_or_else(|| self.desk.again(&run, &events, place, &*self.store), Err)
        };
        let request = match request {
            Ok(request) => request,
            Err(error) => return self.needs_a_person(&run, error).map(Err),
        };
        let system = request.system.clone();
        if let Some(why) = self.held(&request)? {
            return Ok(Err(Became::Later { why }));
        }
        let subject = format!("#{} {}", run.run, run.runbook);
        let act = Act { who: "daemon".to_owned(), action: Action::Resume, subject, why: "it was cut off".to_owned() };
        let resume = |worker| Supervisor::resume(&*self.store, &self.state, below, worker, request, id, Vec::new());
        let resumed = Worker::start(&self.binary).and_then(|worker| audited(&*self.store, &act, || resume(worker)));
        match resumed {
            Ok(supervisor) => {
                tracing::info!(run = run.run, runbook = run.runbook, system = run.system, "goes on");
                Ok(Ok(supervisor))
            }
            Err(error) if error.kind == Kind::NotStarted => Ok(Err(Became::Later { why: error.message })),
            Err(error) if error.kind == Kind::Conflict => {
                care::drop(&*self.store, id)?;
                Ok(Err(Became::Over))
            }
            Err(error) => {
                tracing::error!(run = run.run, system = system.name, "it can not go on: {error}");
                self.needs_a_person(&run, error).map(Err)
            }
        }
    }

    /// Who holds the lock it needs, when another run does.
    fn held(&self, request: &Request) -> Result<Option<String>> {
        let Some(wanted) = &request.lock else { return Ok(None) };
        let owner = owners(&self.state)?.into_iter().find(|owner| owner.lock == wanted.name && owner.holds());
        Ok(owner.map(|owner| format!("`{}` is held by {}", wanted.name, owner.in_words(super::now()))))
    }

    /// Ends a run that was cut off and can not go on by itself.
    fn needs_a_person(&self, run: &Run, error: Error) -> Result<Became> {
        let error = error.hint(format!("to let it go on: runbook resume {}", run.run));
        let run = care::close(&*self.store, &self.state, run.id, RunState::NeedsAttention, 5, error)?;
        self.tell_end(&run, &self.system_of(run.id)?)?;
        care::drop(&*self.store, run.id)?;
        Ok(Became::Over)
    }

    /// The system of a run, as it was when that was made.
    fn system_of(&self, id: RunId) -> Result<System> {
        let system = self.store.events(id)?.into_iter().find_map(|event| match event.kind {
            EventKind::Prepared { name, system, .. } => Some(System { name, ..*system }),
            _ => None,
        });
        Ok(system.unwrap_or_default())
    }

    /// Counts a run that ended, and tells people what they have to know of it. The same is said once.
    fn tell_end(&self, run: &Run, system: &System) -> Result<()> {
        self.metrics.ended(run);
        let addresses = self.post.addresses();
        if run.status == RunState::NeedsAttention {
            return notice::needs_a_person(&*self.store, &addresses, system, run);
        }
        if is_automatic(run.trigger) { self.notice(&addresses.project, system).ended(run) } else { Ok(()) }
    }

    fn notice<'n>(&'n self, project: &'n str, system: &'n System) -> Notice<'n> {
        Notice { store: &*self.store, project, system }
    }

    /// Tells people that what was due could not be started.
    pub(super) fn tell_refused(&self, tick: &Tick, why: &str, system: &System) -> Result<()> {
        self.notice(&self.post.addresses().project, system).refused(tick, why)?;
        self.post.call();
        Ok(())
    }

    /// Has ends of runs said there.
    pub(super) fn report_to(&self, scheduler: Handle) {
        // There is one in the life of a daemon.
        let _ = self.scheduler.set(scheduler);
    }

    fn report_end(&self, number: u64) {
        if let Some(scheduler) = self.scheduler.get() {
            scheduler.ended(number);
        }
    }

    /// Whether nothing may start by itself. Who can not find out starts nothing.
    pub(super) fn is_paused(&self) -> bool {
        let holds = |pause: &Pause| pause.holds(super::now());
        match self.store.held_schedules() {
            Ok(held) => held.iter().any(|state| state.schedule == "*" && state.paused.as_ref().is_some_and(holds)),
            Err(error) => {
                tracing::error!("whether everything is paused is not known, so nothing starts by itself: {error}");
                true
            }
        }
    }

    /// Why nothing may happen by itself in a system; nothing when it may. Who can not find out lets nothing happen.
    pub(super) fn why_paused(&self, system: &str) -> Option<String> {
        let why = why_paused(&*self.store, system, super::now());
        why.unwrap_or_else(|error| Some(format!("whether it is paused is not known: {error}")))
    }

    /// Whether a run of this number is under way here, or waits.
    pub(super) fn knows(&self, number: u64) -> bool {
        self.floor().knows(number)
    }

    /// Whether no run is under way here, and none waits.
    pub(super) fn are_none(&self) -> bool {
        let floor = self.floor();
        floor.active.is_empty() && floor.queue.is_empty()
    }

    fn watch(&self, run: &Run, event: &Event, system: &System) {
        if !matches!(event.kind, EventKind::Asked(_)) {
            return;
        }
        if let Err(error) = notice::needs_a_person(&*self.store, &self.post.addresses(), system, run) {
            tracing::error!(run = run.run, "nobody could be told that it waits: {error}");
        }
        self.post.call();
    }

    fn after(&self, run: Run, system: &System) -> Result<Became> {
        let took = Span::millis(run.duration_ms);
        tracing::info!(run = run.run, runbook = run.runbook, system = run.system, "{} after {took}", run.status.name());
        if run.status == RunState::Interrupted {
            let why = run.error.map_or_else(|| "it was cut off".to_owned(), |error| error.message);
            return Ok(Became::Later { why });
        }
        self.tell_end(&run, system)?;
        care::drop(&*self.store, run.id)?;
        Ok(Became::Over)
    }

    /// Ends a run that waits.
    fn end(&self, waiting: Waiting, status: RunState, exit_code: u8, error: Error) -> Result<()> {
        let run = match waiting.work {
            Work::Begin(enrolled) => enrolled.give_up(&*self.store, status, exit_code, error)?,
            Work::GoOn => care::close(&*self.store, &self.state, waiting.id, status, exit_code, error)?,
        };
        self.metrics.ended(&run);
        self.report_end(waiting.number);
        care::drop(&*self.store, waiting.id)
    }

    /// A run can be stopped from now on; who asked before asks again.
    fn has_control(&self, number: u64, control: Control) {
        if let Some(active) = self.floor().active.get_mut(&number) {
            active.control = Some(control);
            let cancel = std::mem::replace(&mut active.cancel, Cancel::No);
            active.ask(cancel);
        }
    }

    fn floor(&self) -> MutexGuard<'_, Floor> {
        self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Floor {
    /// The next one that may have a place, when there is one.
    fn next(&mut self, is_held: bool) -> Option<Waiting> {
        if self.is_closed || self.active.len() >= self.places {
            return None;
        }
        let now = Instant::now();
        let at = self
            .queue
            .iter()
            .position(|waiting| waiting.not_before.is_none_or(|then| then <= now) && !(is_held && waiting.is_automatic))?;
        self.queue.remove(at)
    }

    /// Whether a run waits that no person started.
    fn has_automatic(&self) -> bool {
        self.queue.iter().any(|waiting| waiting.is_automatic)
    }

    fn knows(&self, number: u64) -> bool {
        self.active.contains_key(&number) || self.queue.iter().any(|waiting| waiting.number == number)
    }
}

/// Whether no person is behind it.
fn is_automatic(trigger: Trigger) -> bool {
    matches!(trigger, Trigger::Schedule | Trigger::Rule | Trigger::Hook)
}

impl Waiting {
    fn again(number: u64, id: RunId, is_automatic: bool, why: impl Into<String>, not_before: Option<Instant>) -> Self {
        Self { number, id, work: Work::GoOn, since: Instant::now(), is_automatic, why: Some(why.into()), not_before, tries: 0 }
    }
}

impl Active {
    /// Asks it to stop, once for each degree of hurry.
    fn ask(&mut self, wanted: Cancel) {
        let before = self.cancel;
        self.cancel = before.max(wanted);
        let Some(control) = &self.control else { return };
        if before == Cancel::No && wanted > Cancel::No {
            control.cancel(CANCELLED);
        }
        if before < Cancel::AtOnce && wanted == Cancel::AtOnce {
            control.cancel(CANCELLED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Doors, Manager, Outlook, Settings, Timetable};
    use super::*;
    use crate::run::outbox::Addresses;
    use crate::store::{Memory, now};

    /// Nothing of a project can be had here.
    struct Nowhere;

    fn gone<T>() -> Result<T> {
        Err(Error::new(Kind::Config, "the disk is away"))
    }

    impl Desk for Nowhere {
        fn request(&self, _: &Order, _: &dyn Store) -> Result<Request> {
            gone()
        }

        fn again(&self, _: &Run, _: &[Event], _: &Place, _: &dyn Store) -> Result<Request> {
            gone()
        }

        fn below(&self, _: &Place, _: Arc<dyn Store>) -> Result<Box<dyn Dispatch>> {
            gone()
        }

        fn addresses(&self) -> Result<Addresses> {
            gone()
        }

        fn timetable(&self) -> Result<Timetable> {
            gone()
        }

        fn doors(&self) -> Result<Doors> {
            gone()
        }

        fn outlook(&self) -> Result<Outlook> {
            gone()
        }

        fn settings(&self) -> Result<Settings> {
            gone()
        }
    }

    /// A run that was cut off.
    fn cut_off(store: &dyn Store) -> Run {
        let mut run: Run = serde_json::from_value(serde_json::json!({
            "run": 0, "id": RunId::new(), "runbook": "backup", "version": "v", "system": null, "params": {}, "status": "running",
            "trigger": "command", "by": "maya", "attempt": 1, "started": now(), "duration_ms": 0, "steps": [], "checks": [], "outputs": {},
        }))
        .unwrap();
        run.run = store.create(&run, &[], me()).unwrap();
        let error = Some(Error::new(Kind::Cancelled, "its supervisor was lost"));
        let ended = EventKind::Ended { status: RunState::Interrupted, exit_code: 1, error };
        store.append(run.id, &[Event { at: now(), kind: ended }]).unwrap();
        run
    }

    #[test]
    fn a_run_whose_project_is_gone_waits_longer_each_time_and_then_for_a_person() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(&directory.path().join("state")).unwrap();
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        let run = cut_off(&*store);
        let post = Post::start(store.clone(), state.clone(), Addresses::none());
        let config = Config { state, desk: Arc::new(Nowhere), binary: PathBuf::new(), manager: Manager::default() };
        let runs = Runs::new(&config, store.clone(), 1, post, Arc::new(Metrics::new()));
        let mut waiting = Waiting::again(run.run, run.id, false, "it was cut off", None);
        let mut pauses = Vec::new();
        loop {
            let asked = Instant::now();
            match runs.run(waiting).unwrap() {
                Became::Waits(again) => waiting = *again,
                Became::Over => break,
                Became::Later { why } => panic!("{why}"),
            }
            assert_eq!(waiting.why.as_deref(), Some("the disk is away"));
            pauses.push(waiting.not_before.unwrap().duration_since(asked).as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32]);
        let run = store.run(run.id).unwrap();
        assert_eq!((run.status, run.exit_code), (RunState::NeedsAttention, Some(5)));
        assert!(run.error.unwrap().message.contains("the disk is away"));
    }
}
