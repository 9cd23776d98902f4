//! The watches over the systems: each on a thread of its own, and started again when it ends by itself.
//!
//! A watch reads and never changes anything: what it may ask is what its [`Watched`] permits, and nothing it works
//! with can have an effect. Repairs are runs, and wait for their turn as all runs do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch::{Receiver, Sender, channel};

use super::runs::Runs;
use super::timetable::lock;
use super::{Place, now};
use crate::error::{Error, Kind, Result};
use crate::host::measure::Found;
use crate::host::{Ctx, Mode, Permissions, Refusing, RunInfo, Secrets, Stop};
use crate::model::{RunId, Span, System, Trigger};
use crate::monitor::sampler::{Rounds, SOURCES, Sampler, samplers};
use crate::monitor::watch::{Around, Look, Means, Order, Repairer, Watch, keep};
use crate::run::daemon::{self, Watching};
use crate::run::process::helping;
use crate::store::{Keep, Samples, StateDir, Store};

/// How long a watch that ended by itself waits before it begins again; twice as long each time, up to the longest.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// How many names a watch looks up at the same time.
const MOST_AT_ONCE: usize = 4;

/// A system that is watched, and what may be asked of it.
#[derive(Debug)]
pub struct Watched {
    /// The system.
    pub system: System,
    /// What may be read.
    pub permissions: Permissions,
    /// The secrets that takes.
    pub secrets: Secrets,
}

/// What is watched.
#[derive(Debug, Clone, Default)]
pub struct Outlook {
    /// Whose settings and rights hold for repairs.
    pub place: Place,
    /// The systems.
    pub systems: Vec<Arc<Watched>>,
    /// The systems that can not be read: those that were watched before still are.
    pub broken: Vec<String>,
    /// What is wrong, and leaves a part of a system unknown.
    pub problems: Vec<Error>,
    /// How often the rules are looked at.
    pub look: Span,
    /// How long samples stay.
    pub samples: Span,
}

/// The watches under way.
pub(super) struct Watches {
    runs: Arc<Runs>,
    store: Arc<dyn Store>,
    state: StateDir,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    outlook: Outlook,
    /// The file of samples, once it could be opened.
    samples: Option<Arc<Samples>>,
    each: Vec<Guard>,
    /// Why there is no watch at all.
    failed: Option<Error>,
}

/// A watch on its thread.
struct Guard {
    board: Arc<Mutex<Watching>>,
    stop: Sender<bool>,
    thread: JoinHandle<()>,
}

impl Watches {
    pub(super) fn new(runs: Arc<Runs>, store: Arc<dyn Store>, state: StateDir) -> Arc<Self> {
        Arc::new(Self { runs, store, state, held: Mutex::default() })
    }

    /// Watches these systems in place of those before.
    pub(super) fn load(&self, outlook: Outlook) {
        for problem in &outlook.problems {
            tracing::error!("what is watched: {problem}");
        }
        let mut held = lock(&self.held);
        end(std::mem::take(&mut held.each));
        held.outlook = outlook.with_broken_of(&held.outlook);
        held.failed = self.start(&mut held).err();
        if let Some(error) = &held.failed {
            tracing::error!("nothing is watched: {error}");
        }
    }

    fn start(&self, held: &mut Held) -> Result<()> {
        if held.outlook.systems.is_empty() {
            return Ok(());
        }
        let samples = match &held.samples {
            Some(samples) => samples.clone(),
            None => Arc::new(Samples::open(&self.state.samples(), kept_for(held.outlook.samples))?),
        };
        held.samples = Some(samples.clone());
        let repairer = Arc::new(Starter { runs: self.runs.clone(), place: held.outlook.place.clone() });
        let means = Means {
            project: self.runs.post().addresses().project,
            store: self.store.clone(),
            samples,
            repairer,
            look: held.outlook.look.0,
        };
        for watched in &held.outlook.systems {
            held.each.push(self.post(watched.clone(), means.clone())?);
        }
        Ok(())
    }

    fn post(&self, watched: Arc<Watched>, means: Means) -> Result<Guard> {
        let board = Arc::new(Mutex::new(Watching { system: watched.system.name.clone(), ..Watching::default() }));
        let (stop, stopped) = channel(false);
        let name = format!("watch {}", watched.system.name);
        let shift = Shift { watched, means, runs: self.runs.clone(), board: board.clone(), directory: self.state.root().to_owned() };
        let thread = std::thread::Builder::new().name(name).spawn(move || shift.work(&stopped));
        let thread = thread.map_err(|error| Error::because(Kind::Limit, "no thread for a watch", &error))?;
        Ok(Guard { board, stop, thread })
    }

    /// Ends them. What they know is in the store, and the next daemon goes on with it.
    pub(super) fn close(&self) {
        end(std::mem::take(&mut lock(&self.held).each));
    }

    /// A system that is watched.
    pub(super) fn of(&self, name: &str) -> Option<Arc<Watched>> {
        lock(&self.held).outlook.systems.iter().find(|watched| watched.system.name == name).cloned()
    }

    /// How they are.
    pub(super) fn standing(&self) -> daemon::Watches {
        let held = lock(&self.held);
        let problems = held.outlook.problems.iter().chain(&held.failed).map(ToString::to_string);
        daemon::Watches { each: held.each.iter().map(|guard| lock(&guard.board).clone()).collect(), problems: problems.collect() }
    }
}

/// Ends watches, all at the same time.
fn end(each: Vec<Guard>) {
    for guard in &each {
        // Its thread may be over.
        let _ = guard.stop.send(true);
    }
    for Guard { thread, board, .. } in each {
        if thread.join().is_err() {
            tracing::error!(system = lock(&board).system, "the watch panicked where nothing catches it; please report it");
        }
    }
}

fn kept_for(longest: Span) -> Keep {
    let longest = longest.signed();
    let keep = Keep::default();
    Keep { raw: keep.raw.min(longest), minutes: keep.minutes.min(longest), hours: longest, ..keep }
}

impl Outlook {
    /// This one, with what the one before had of the systems that can not be read.
    fn with_broken_of(mut self, before: &Self) -> Self {
        let is_broken = |watched: &&Arc<Watched>| self.broken.contains(&watched.system.name);
        let kept: Vec<Arc<Watched>> = before.systems.iter().filter(is_broken).cloned().collect();
        self.systems.extend(kept);
        self
    }
}

/// The work of one watch.
struct Shift {
    watched: Arc<Watched>,
    means: Means,
    runs: Arc<Runs>,
    board: Arc<Mutex<Watching>>,
    directory: std::path::PathBuf,
}

impl Shift {
    /// Watches until it is told to stop, whatever happens in between.
    fn work(&self, stop: &Receiver<bool>) {
        let mut wait = AGAIN;
        loop {
            let since = Instant::now();
            let why = match catch_unwind(AssertUnwindSafe(|| self.watch(stop.clone()))) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panicked; please report it".to_owned(),
            };
            wait = if since.elapsed() > LONGEST { AGAIN } else { wait };
            tracing::error!(system = self.watched.system.name, "the watch ended: {why}; it begins again in {}", Span(wait));
            let mut board = lock(&self.board);
            board.problem = Some(why);
            board.restarts += 1;
            drop(board);
            if is_over(stop.clone(), wait) {
                return;
            }
            wait = (wait * 2).min(LONGEST);
        }
    }

    fn watch(&self, stop: Receiver<bool>) -> Result<()> {
        let runtime = runtime()?;
        let (watched, look) = (&self.watched, self.means.look);
        let watch = Watch::new(watched.system.clone(), self.means.clone(), now())?;
        let run = RunInfo { id: RunId::new(), number: 0, runbook: "watch".to_owned(), started: now(), directory: self.directory.clone() };
        let (permissions, secrets) = (watched.permissions.clone(), watched.secrets.clone());
        let never = Arc::new(Stop::new(None));
        let ctx = Ctx::new(run, watched.system.clone(), Mode::Plan, permissions, secrets, Arc::new(Refusing), never);
        let each = samplers(&ctx).into_iter().map(|sampler| Arc::new(Helped(sampler)) as Arc<dyn Sampler>);
        let rounds = Rounds::paced(each.collect(), look);
        runtime.block_on(keep(watch, rounds, self, told(stop)));
        // A name that is still being looked up holds nobody back.
        runtime.shutdown_background();
        Ok(())
    }
}

fn runtime() -> Result<Runtime> {
    let made = Builder::new_current_thread().enable_all().max_blocking_threads(MOST_AT_ONCE).build();
    made.map_err(|error| Error::because(Kind::Limit, "no runtime for a watch", &error))
}

/// Until it is told to stop, or nobody is left who could tell.
async fn told(mut stop: Receiver<bool>) {
    let _ = stop.wait_for(|is_over| *is_over).await;
}

/// Waits, unless it is told to stop meanwhile.
fn is_over(stop: Receiver<bool>, wait: Duration) -> bool {
    match runtime() {
        Ok(runtime) => runtime.block_on(async { tokio::time::timeout(wait, told(stop)).await.is_ok() }),
        Err(_) => {
            std::thread::sleep(wait);
            *stop.borrow()
        }
    }
}

impl Around for Shift {
    fn now(&self) -> Timestamp {
        now()
    }

    fn paused(&self) -> Option<String> {
        self.runs.why_paused(&self.watched.system.name)
    }

    fn looked(&self, look: &Look) {
        let mut board = lock(&self.board);
        board.problem = look.failed.as_ref().map(ToString::to_string);
        if let Some(problem) = &board.problem {
            tracing::error!(system = board.system, "the watch could not look: {problem}");
            return;
        }
        let Look { at, taken, refused, series, unknown, rules, firing, silent, .. } = *look;
        board.samples += taken;
        for (sampler, problem) in &look.samplers {
            if let Some(problem) =
                problem.as_ref().filter(|problem| board.samplers.get(sampler).cloned().flatten().as_ref() != Some(problem))
            {
                tracing::warn!(system = board.system, "{sampler} tells nothing: {problem}");
            }
        }
        board.samplers.clone_from(&look.samplers);
        self.runs.metrics().sampled(&board.system, taken);
        *board = Watching { looked: Some(at), refused, series, unknown, rules, firing, silent, ..board.clone() };
        drop(board);
        // What came of it need not wait for the next round of the post.
        self.runs.post().call();
    }
}

/// A sampler that may start programs, which are nobody's strays.
struct Helped(Arc<dyn Sampler>);

impl Sampler for Helped {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn every(&self) -> Duration {
        self.0.every()
    }

    fn sample(&self) -> BoxFuture<'_, Found> {
        if self.0.name() != "services" && !self.0.name().starts_with(SOURCES) {
            return self.0.sample();
        }
        Box::pin(async move {
            let _helping = helping();
            self.0.sample().await
        })
    }
}

/// Has repairs made by the runs of the daemon.
struct Starter {
    runs: Arc<Runs>,
    place: Place,
}

impl Repairer for Starter {
    fn start(&self, order: &Order) -> Result<u64> {
        let Place { directory, config, account } = self.place.clone();
        let order = daemon::Order {
            directory,
            config,
            runbook: order.runbook.clone(),
            system: Some(order.system.clone()),
            params: order.params.clone(),
            secrets: std::collections::BTreeMap::new(),
            timeout: None,
            when_locked: None,
            plan: None,
            trigger: Trigger::Rule,
            by: format!("incident #{}", order.incident),
            account,
        };
        Ok(self.runs.order(&order)?.run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlook(names: &[&str], broken: &[&str]) -> Outlook {
        let watched = |name: &&str| {
            let system = System { name: (*name).to_owned(), ..System::default() };
            Arc::new(Watched { system, permissions: Permissions::default(), secrets: Secrets::default() })
        };
        let broken = broken.iter().map(|name| (*name).to_owned()).collect();
        Outlook { systems: names.iter().map(watched).collect(), broken, ..Outlook::default() }
    }

    #[test]
    fn a_system_that_can_not_be_read_any_more_is_watched_as_it_was() {
        let before = outlook(&["shop", "blog", "gone"], &[]);
        let now = outlook(&["blog"], &["shop"]).with_broken_of(&before);
        let names: Vec<&str> = now.systems.iter().map(|watched| watched.system.name.as_str()).collect();
        assert_eq!(names, ["blog", "shop"]);
    }

    #[test]
    fn samples_stay_no_longer_than_the_settings_say() {
        let hours = |hours| jiff::SignedDuration::from_hours(hours);
        let keep = kept_for(Span::secs(3600));
        assert_eq!((keep.raw, keep.minutes, keep.hours), (hours(1), hours(1), hours(1)));
        let keep = kept_for(Span::secs(400 * 24 * 3600));
        assert_eq!(keep, Keep::default());
    }
}
