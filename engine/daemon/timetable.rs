//! The schedules: the task that owns them, and how it has runs started here.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use jiff::Timestamp;
use tokio::runtime::Builder;

use super::metrics::Metrics;
use super::runs::Runs;
use super::{Place, now};
use crate::error::{Error, Kind, Result};
use crate::model::{Reason, ScheduleState, System, Tick, TickOutcome, Trigger};
use crate::run::daemon::{Next, Order, Schedules};
use crate::schedule::{Entry, Handle, Launch, Scheduler, SystemClock};
use crate::store::{Store, TickFilter};

/// How far back the runs of a schedule are looked for that may go on still.
const LOOK_BACK: u32 = 50;
/// How many runs are made ready at the same time: each reads its script.
const MOST_AT_ONCE: usize = 4;

/// The schedules there are.
#[derive(Debug, Clone, Default)]
pub struct Timetable {
    /// Whose settings and rights hold for their runs.
    pub place: Place,
    /// The schedules that are on.
    pub entries: Vec<Entry>,
    /// The systems they belong to.
    pub systems: Vec<System>,
    /// The systems that can not be read: those they had before hold.
    pub broken: Vec<String>,
    /// What is wrong with these, and with schedules that are left out.
    pub problems: Vec<Error>,
}

/// The scheduler under way, on a thread of its own.
pub(super) struct Timekeeper {
    store: Arc<dyn Store>,
    handle: Handle,
    table: Arc<Mutex<Timetable>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Timekeeper {
    /// Takes up the schedules where the daemon before left them, and begins. The runs of that one have to be back.
    pub(super) fn start(store: Arc<dyn Store>, runs: &Arc<Runs>, metrics: Arc<Metrics>, table: Timetable, places: u32) -> Result<Self> {
        let entries = table.entries.clone();
        table.tell_problems();
        let table = Arc::new(Mutex::new(table));
        let launcher = Launcher { store: store.clone(), runs: runs.clone(), metrics, table: table.clone() };
        let mut scheduler = Scheduler::new(store.clone(), Arc::new(launcher), Arc::new(SystemClock), places as usize);
        let handle = scheduler.handle();
        runs.report_to(handle.clone());
        scheduler.load(entries)?;
        let failed = |error: std::io::Error| Error::because(Kind::Bug, "the scheduler can not be started", &error);
        let runtime = Builder::new_current_thread().enable_time().max_blocking_threads(MOST_AT_ONCE).build().map_err(failed)?;
        let work = move || runtime.block_on(scheduler.run());
        let thread = std::thread::Builder::new().name("scheduler".to_owned()).spawn(work).map_err(failed)?;
        Ok(Self { store, handle, table, thread: Mutex::new(Some(thread)) })
    }

    /// Takes these schedules in place of those it had.
    pub(super) fn load(&self, table: Timetable, places: u32) {
        table.tell_problems();
        let mut held = lock(&self.table);
        *held = table.with_broken_of(&held);
        self.handle.make_room(places as usize);
        self.handle.load(held.entries.clone());
    }

    /// Whether it ended by itself, which it never should.
    pub(super) fn is_lost(&self) -> bool {
        lock(&self.thread).as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Ends it. What it did not start is started by the next daemon.
    pub(super) fn close(&self) {
        self.handle.close();
        let thread = lock(&self.thread).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the scheduler panicked; please report it");
        }
    }

    /// How the schedules are.
    pub(super) fn standing(&self) -> Schedules {
        let held = self.store.held_schedules().unwrap_or_default();
        let table = lock(&self.table);
        Schedules {
            systems: table.systems.iter().map(|system| system.name.clone()).collect(),
            count: table.entries.len(),
            next: table.next(&held, now()),
            paused: held.into_iter().find(|state| state.schedule == "*").and_then(|state| state.paused).filter(|pause| pause.holds(now())),
            problems: table.problems.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Timetable {
    fn tell_problems(&self) {
        for problem in &self.problems {
            tracing::error!("a schedule: {problem}");
        }
    }

    /// This one, with what the one before had of the systems that can not be read.
    fn with_broken_of(mut self, before: &Self) -> Self {
        let is_broken = |system: &str| self.broken.iter().any(|broken| broken == system);
        let systems: Vec<System> = before.systems.iter().filter(|system| is_broken(&system.name)).cloned().collect();
        let entries: Vec<Entry> = before.entries.iter().filter(|entry| is_broken(&entry.system)).cloned().collect();
        self.systems.extend(systems);
        self.entries.extend(entries);
        self
    }

    /// What starts next, of what is not paused.
    fn next(&self, held: &[ScheduleState], now: Timestamp) -> Option<Next> {
        let paused = held.iter().filter(|state| state.paused.as_ref().is_some_and(|pause| pause.holds(now)));
        let paused: BTreeSet<&str> = paused.map(|state| state.schedule.as_str()).collect();
        let is_paused = |entry: &Entry| ["*", &format!("{}/*", entry.system), &entry.key].into_iter().any(|name| paused.contains(name));
        let open = self.entries.iter().filter(|entry| !is_paused(entry));
        let moments = open.filter_map(|entry| Some((entry.start(entry.timing.next(now)?.at), entry)));
        moments.min_by_key(|(at, _)| *at).map(|(at, entry)| Next { schedule: entry.key.clone(), at })
    }
}

/// What starts runs for the scheduler.
struct Launcher {
    store: Arc<dyn Store>,
    runs: Arc<Runs>,
    metrics: Arc<Metrics>,
    table: Arc<Mutex<Timetable>>,
}

impl Launch for Launcher {
    fn launch(&self, tick: &Tick) -> Result<u64> {
        match self.store.run(tick.id) {
            // It was recorded, and only that was not said.
            Ok(run) => return Ok(run.run),
            Err(error) if error.kind == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        let Place { directory, config, account } = lock(&self.table).place.clone();
        let order = Order {
            directory,
            config,
            runbook: tick.runbook.clone(),
            system: Some(tick.system.clone()),
            params: tick.params.clone(),
            secrets: std::collections::BTreeMap::new(),
            timeout: None,
            when_locked: None,
            plan: None,
            trigger: Trigger::Schedule,
            by: "schedule".to_owned(),
            account,
        };
        let queued = self.runs.order_as(&order, tick.id).map_err(|error| match error.kind {
            // The next daemon starts it.
            _ if self.runs.is_closed() => Error { kind: Kind::Store, ..error },
            _ => error,
        })?;
        Ok(queued.run)
    }

    fn running(&self, schedule: &str) -> Vec<u64> {
        if self.runs.are_none() {
            return Vec::new();
        }
        let filter = TickFilter { schedule: Some(schedule.to_owned()), limit: LOOK_BACK, ..TickFilter::default() };
        let ticks = self.store.ticks(&filter).unwrap_or_default();
        let started = ticks.into_iter().filter_map(|tick| match tick.outcome {
            TickOutcome::Started { run } => Some(run),
            _ => None,
        });
        started.filter(|run| self.runs.knows(*run)).collect()
    }

    fn stop(&self, run: u64) {
        if let Err(error) = self.runs.cancel(run, false) {
            tracing::debug!(run, "it was to be replaced: {error}");
        }
    }

    fn decided(&self, tick: &Tick) {
        self.metrics.decided(tick);
        let Some(cause) = tick.outcome.cause() else { return };
        tracing::info!(schedule = tick.schedule, due = %tick.due, "{}: {}", tick.outcome.name(), cause.detail);
        if cause.reason != Reason::Refused {
            return;
        }
        let system = lock(&self.table).systems.iter().find(|system| system.name == tick.system).cloned();
        if let Err(error) = self.runs.tell_refused(tick, &cause.detail, &system.unwrap_or_default()) {
            tracing::error!(schedule = tick.schedule, "nobody could be told that it did not start: {error}");
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Pause, Schedule};

    fn system(name: &str, every: &str) -> System {
        let schedule = Schedule { every: Some(every.parse().unwrap()), ..Schedule::default() };
        System { name: name.to_owned(), schedules: [("tidy".to_owned(), schedule)].into(), ..System::default() }
    }

    fn table(systems: Vec<System>) -> Timetable {
        let entries = systems.iter().flat_map(|system| crate::schedule::entries_of(system).unwrap()).collect();
        Timetable { systems, entries, ..Timetable::default() }
    }

    fn names(table: &Timetable) -> Vec<&str> {
        table.entries.iter().map(|entry| entry.key.as_str()).collect()
    }

    #[test]
    fn a_system_that_can_not_be_read_any_more_keeps_its_schedules() {
        let before = table(vec![system("shop", "1h"), system("blog", "1h"), system("gone", "1h")]);
        let now = Timetable { broken: vec!["shop".to_owned()], ..table(vec![system("blog", "1h")]) };
        assert_eq!(names(&now.with_broken_of(&before)), ["blog/tidy", "shop/tidy"]);
    }

    #[test]
    fn what_is_paused_is_not_next() {
        let table = table(vec![system("shop", "1h"), system("blog", "2h")]);
        let next = |paused: &str| {
            let pause = Pause { by: "maya".to_owned(), reason: String::new(), since: Timestamp::UNIX_EPOCH, until: None };
            let state = ScheduleState { schedule: paused.to_owned(), paused: Some(pause), ..ScheduleState::default() };
            table.next(&[state], Timestamp::UNIX_EPOCH).map(|next| next.schedule)
        };
        assert_eq!(next("other").as_deref(), Some("shop/tidy"));
        assert_eq!(next("shop/tidy").as_deref(), Some("blog/tidy"));
        assert_eq!(next("shop/*").as_deref(), Some("blog/tidy"));
        assert_eq!(next("*"), None);
    }
}
