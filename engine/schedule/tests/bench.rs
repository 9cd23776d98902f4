//! A scheduler with a store in memory, a clock that is set, and runs that end when they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::runtime::{Builder, Runtime};

use super::at;
use crate::error::{Error, Result};
use crate::model::{Run, RunState, Tick, TickOutcome, Trigger};
use crate::schedule::{Clock, Entry, Handle, Launch, Scheduler, Sleep};
use crate::store::{Memory, ProcessId, Store, TickFilter};

pub(super) struct Bench {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<Wall>,
    pub(super) runs: Arc<Runs>,
    pub(super) scheduler: Scheduler,
    runtime: Runtime,
}

/// A clock on which time is what it is set to.
#[derive(Debug)]
pub(super) struct Wall(Mutex<Timestamp>);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn sleep(&self, _: Duration) -> Sleep {
        Box::pin(std::future::pending())
    }
}

/// Starts runs on record and nowhere else.
pub(super) struct Runs {
    store: Arc<dyn Store>,
    clock: Arc<Wall>,
    seen: Mutex<Seen>,
    /// Ends each run before its start is told, when there is one.
    ends: Mutex<Option<Handle>>,
    refuses: Mutex<Option<Error>>,
}

#[derive(Debug, Default)]
struct Seen {
    started: Vec<(String, Timestamp, Timestamp)>,
    running: BTreeMap<u64, String>,
    most: usize,
    stopped: Vec<u64>,
}

impl Launch for Runs {
    fn launch(&self, tick: &Tick) -> Result<u64> {
        if let Some(error) = self.refuses.lock().unwrap().clone() {
            return Err(error);
        }
        let number = self.store.create(&run(tick, self.clock.now()), &[], ProcessId { pid: 1, started: 1 })?;
        let mut seen = self.seen.lock().unwrap();
        seen.started.push((tick.schedule.clone(), tick.due, self.clock.now()));
        seen.running.insert(number, tick.schedule.clone());
        seen.most = seen.most.max(seen.running.len());
        if let Some(handle) = &*self.ends.lock().unwrap() {
            seen.running.remove(&number);
            handle.ended(number);
        }
        Ok(number)
    }

    fn running(&self, schedule: &str) -> Vec<u64> {
        let seen = self.seen.lock().unwrap();
        seen.running.iter().filter(|(_, of)| *of == schedule).map(|(run, _)| *run).collect()
    }

    fn stop(&self, run: u64) {
        self.seen.lock().unwrap().stopped.push(run);
    }
}

fn run(tick: &Tick, started: Timestamp) -> Run {
    Run {
        run: 0,
        id: tick.id,
        runbook: tick.runbook.clone(),
        version: "abc".to_owned(),
        commit: None,
        system: Some(tick.system.clone()),
        params: tick.params.clone(),
        status: RunState::Running,
        exit_code: None,
        trigger: Trigger::Schedule,
        parent: None,
        by: "schedule".to_owned(),
        attempt: 1,
        started,
        ended: None,
        duration_ms: 0,
        steps: Vec::new(),
        checks: Vec::new(),
        outputs: BTreeMap::new(),
        error: None,
        waits_for: None,
    }
}

/// A runtime that starts runs in the order they are asked for, so that a test can name them by number.
fn one_at_a_time() -> Runtime {
    Builder::new_current_thread().max_blocking_threads(1).build().unwrap()
}

impl Bench {
    /// These schedules, first seen at this moment, with room for many runs.
    pub(super) fn new(start: &str, entries: &[Entry]) -> Self {
        Self::with(Arc::new(Memory::default()), start, entries, 1000)
    }

    pub(super) fn with(store: Arc<dyn Store>, start: &str, entries: &[Entry], at_once: usize) -> Self {
        let clock = Arc::new(Wall(Mutex::new(at(start))));
        let runs = Arc::new(Runs {
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            seen: Mutex::default(),
            ends: Mutex::default(),
            refuses: Mutex::default(),
        });
        let launch: Arc<dyn Launch> = runs.clone();
        let wall: Arc<dyn Clock> = clock.clone();
        let mut scheduler = Scheduler::new(Arc::clone(&store), launch, wall, at_once);
        scheduler.load(entries.to_vec()).unwrap();
        Self { runtime: one_at_a_time(), store, clock, runs, scheduler }
    }

    /// Lets each run end at once.
    pub(super) fn ending(self) -> Self {
        *self.runs.ends.lock().unwrap() = Some(self.scheduler.handle());
        self
    }

    pub(super) fn refuse(&self, error: Option<Error>) {
        *self.runs.refuses.lock().unwrap() = error;
    }

    /// Puts the clock to this moment, without anybody looking.
    pub(super) fn set(&self, moment: &str) {
        *self.clock.0.lock().unwrap() = at(moment);
    }

    pub(super) fn put(&self, by: SignedDuration) {
        *self.clock.0.lock().unwrap() += by;
    }

    pub(super) fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Writes what is due, and is killed before anything starts.
    pub(super) fn write_only(&mut self) {
        let now = self.clock.now();
        self.scheduler.write_due(now).unwrap();
    }

    /// Has started what is due, and is killed before it hears of it.
    pub(super) fn launch_only(&mut self) {
        let _inside = self.runtime.enter();
        self.scheduler.step();
        // Blocking threads of a runtime that is dropped are waited for.
        drop(std::mem::replace(&mut self.runtime, one_at_a_time()));
    }

    /// Another scheduler, beside runs that go on.
    pub(super) fn restart(&mut self, entries: &[Entry]) {
        let (launch, wall): (Arc<dyn Launch>, Arc<dyn Clock>) = (self.runs.clone(), self.clock.clone());
        self.scheduler = Scheduler::new(Arc::clone(&self.store), launch, wall, 10);
        self.scheduler.load(entries.to_vec()).unwrap();
    }

    /// Looks until nothing is left to do at this moment; returns how long the scheduler would wait.
    pub(super) fn look(&mut self) -> Duration {
        let _inside = self.runtime.enter();
        loop {
            self.runtime.block_on(self.scheduler.settled());
            let wait = self.scheduler.step();
            if self.scheduler.is_idle() {
                return wait;
            }
        }
    }

    /// Lets time pass up to this moment, looking as often as the scheduler wants to.
    pub(super) fn until(&mut self, moment: &str) {
        let end = at(moment);
        loop {
            let wait = self.look();
            let next = self.clock.now() + wait.max(Duration::from_millis(1));
            if next > end {
                break;
            }
            *self.clock.0.lock().unwrap() = next;
        }
        *self.clock.0.lock().unwrap() = end;
        self.look();
    }

    pub(super) fn end(&mut self, run: u64) {
        self.runs.seen.lock().unwrap().running.remove(&run);
        self.scheduler.handle().ended(run);
        self.look();
    }

    /// Schedule, due moment and start of every run.
    pub(super) fn started(&self) -> Vec<(String, Timestamp, Timestamp)> {
        self.runs.seen.lock().unwrap().started.clone()
    }

    /// The runs that go on, and since when.
    pub(super) fn running(&self) -> Vec<(u64, Timestamp)> {
        let seen = self.runs.seen.lock().unwrap();
        seen.running.keys().map(|run| (*run, seen.started[usize::try_from(*run - 1).unwrap()].2)).collect()
    }

    pub(super) fn stopped(&self) -> Vec<u64> {
        self.runs.seen.lock().unwrap().stopped.clone()
    }

    /// The most runs that went on at the same time.
    pub(super) fn most(&self) -> usize {
        self.runs.seen.lock().unwrap().most
    }

    /// Every tick, the first due first.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        let mut ticks = self.store.ticks(&TickFilter::default()).unwrap();
        ticks.sort_by(|one, other| (one.due, &one.schedule).cmp(&(other.due, &other.schedule)));
        ticks
    }

    /// `09:00 started`, `10:00 skipped overlap`: what became of each tick.
    pub(super) fn story(&self) -> Vec<String> {
        let line = |tick: &Tick| {
            let why = tick.outcome.cause().map(|cause| format!(" {}", cause.reason.name())).unwrap_or_default();
            format!("{} {}{why}", &tick.due.to_string()[11..16], tick.outcome.name())
        };
        self.ticks().iter().map(line).collect()
    }

    pub(super) fn count(&self, outcome: &str) -> usize {
        self.ticks().iter().filter(|tick| tick.outcome.name() == outcome).count()
    }

    /// That no tick has two runs, and each that has one says so.
    pub(super) fn is_sound(&self) {
        let started = self.started();
        let each: BTreeSet<_> = started.iter().map(|(schedule, due, _)| (schedule.clone(), *due)).collect();
        assert_eq!(each.len(), started.len(), "a tick ran twice");
        for tick in self.ticks() {
            let ran = each.contains(&(tick.schedule.clone(), tick.due));
            assert_eq!(ran, matches!(tick.outcome, TickOutcome::Started { .. }), "{tick:?}");
        }
    }
}
