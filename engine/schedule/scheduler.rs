//! The task that owns the schedules: it waits, writes ticks, and has runs started.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::error::{Error, Kind, Result};
use crate::model::{Tick, TickOutcome};
use crate::schedule::{Decision, Entry, Planner};
use crate::store::Store;

/// The longest wait: a clock that was put forward, or a machine that slept, is noticed after it.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long after a failure of the store it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A wait that is under way.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The time of day, and waits that do not depend on it.
pub trait Clock: Send + Sync + 'static {
    /// Now, on the wall.
    fn now(&self) -> Timestamp;

    /// Waits this long, by a clock that nobody can put forward or back.
    fn sleep(&self, time: Duration) -> Sleep;
}

/// The clocks of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "it is the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep(&self, time: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(time))
    }
}

/// Who starts runs for the scheduler, and knows which go on.
pub trait Launch: Send + Sync + 'static {
    /// Starts the run of a tick, with the identity `tick.id`, and returns its number when it is on record. It may
    /// block, and is called on a thread where it may. When the run has ended, [`Handle::ended`] has to be called.
    ///
    /// # Errors
    ///
    /// `store`: the tick stays as it is and is tried again. Everything else is why it is skipped.
    fn launch(&self, tick: &Tick) -> Result<u64>;

    /// The runs of a schedule that go on, also those that others started. Asked once, when the schedule is new.
    fn running(&self, schedule: &str) -> Vec<u64>;

    /// Asks a run to clean up and end. It does not wait for that.
    fn stop(&self, run: u64);

    /// Hears what became of a tick, after it was written: for metrics and notifications.
    fn decided(&self, tick: &Tick) {
        let _ = tick;
    }
}

enum Message {
    Launched(Box<Tick>, Result<u64>),
    Ended(u64),
    Load(Vec<Entry>),
    MakeRoom(usize),
    Look,
    Close,
}

/// Reaches the scheduler from elsewhere.
#[derive(Debug, Clone)]
pub struct Handle(UnboundedSender<Message>);

impl Handle {
    /// Says that a run is over. Runs it does not know are no harm.
    pub fn ended(&self, run: u64) {
        self.send(Message::Ended(run));
    }

    /// Gives it all schedules there are now, in place of those it had.
    pub fn load(&self, entries: Vec<Entry>) {
        self.send(Message::Load(entries));
    }

    /// At most so many of its runs go on at once from now on.
    pub fn make_room(&self, at_once: usize) {
        self.send(Message::MakeRoom(at_once));
    }

    /// Lets it look at once: someone paused or resumed a schedule.
    pub fn look(&self) {
        self.send(Message::Look);
    }

    /// Ends it. Ticks that wait for their turn stay in the store for the next one.
    pub fn close(&self) {
        self.send(Message::Close);
    }

    fn send(&self, message: Message) {
        // A scheduler that is gone needs to hear nothing.
        let _ = self.0.send(message);
    }
}

/// The owner of the schedules.
pub struct Scheduler {
    store: Arc<dyn Store>,
    launch: Arc<dyn Launch>,
    clock: Arc<dyn Clock>,
    planner: Planner,
    sender: UnboundedSender<Message>,
    inbox: UnboundedReceiver<Message>,
    /// Ticks the store did not take yet.
    unwritten: Vec<Tick>,
    /// What became of ticks, which the store did not take yet.
    unsettled: Vec<Tick>,
    /// Launches under way.
    launching: usize,
}

impl Scheduler {
    /// A scheduler without schedules. At most so many of its runs go on at once.
    pub fn new(store: Arc<dyn Store>, launch: Arc<dyn Launch>, clock: Arc<dyn Clock>, at_once: usize) -> Self {
        let (sender, inbox) = unbounded_channel();
        let planner = Planner::new(at_once);
        Self { store, launch, clock, planner, sender, inbox, unwritten: Vec::new(), unsettled: Vec::new(), launching: 0 }
    }

    /// A way to reach it.
    pub fn handle(&self) -> Handle {
        Handle(self.sender.clone())
    }

    /// Takes these schedules in place of those it had, and picks up the ticks that were left pending.
    ///
    /// # Errors
    ///
    /// `store`; it goes on with those it had.
    pub fn load(&mut self, entries: Vec<Entry>) -> Result<()> {
        let now = self.clock.now();
        let states = self.store.schedule_states()?;
        let is_first = self.planner.is_empty();
        let new: Vec<String> = entries.iter().map(|entry| entry.key.clone()).filter(|key| !self.planner.knows(key)).collect();
        let rules = self.planner.load(entries, &states, now);
        self.store.keep_rules(&rules)?;
        for key in new {
            for run in self.launch.running(&key) {
                self.planner.is_running(&key, run);
            }
        }
        if is_first {
            self.pick_up(now)?;
        }
        Ok(())
    }

    /// The ticks that were to start when the scheduler before this one ended.
    fn pick_up(&mut self, now: Timestamp) -> Result<()> {
        let mut left = Vec::new();
        for tick in self.store.pending_ticks()? {
            match self.store.run(tick.id) {
                // It was started, and only that was not written.
                Ok(run) => self.unsettled.push(Tick { outcome: TickOutcome::Started { run: run.run }, decided: now, ..tick }),
                Err(error) if error.kind == Kind::NotFound => left.push(tick),
                Err(error) => return Err(error),
            }
        }
        self.planner.pick_up(left, now);
        Ok(())
    }

    /// Runs until it is closed.
    pub async fn run(mut self) {
        loop {
            let wait = self.step();
            let sleep = self.clock.sleep(wait);
            let message = tokio::select! {
                message = self.inbox.recv() => message,
                () = sleep => continue,
            };
            if message.is_none_or(|message| self.take(message)) {
                break;
            }
            // What came together is looked at together.
            while let Ok(message) = self.inbox.try_recv() {
                if self.take(message) {
                    return;
                }
            }
        }
    }

    /// One look: writes what is due, and has started what may start. Returns how long nothing will be due.
    pub fn step(&mut self) -> Duration {
        let now = self.clock.now();
        if let Err(error) = self.look(now) {
            tracing::error!(%error, "the scheduler can not write; it tries again");
            return RETRY;
        }
        let Some(next) = self.planner.next_look() else { return LONGEST_WAIT };
        let wait = Duration::try_from(next.duration_since(self.clock.now())).unwrap_or(Duration::ZERO);
        wait.min(LONGEST_WAIT)
    }

    fn look(&mut self, now: Timestamp) -> Result<()> {
        self.write_due(now)?;
        for decision in self.planner.decide(now) {
            match decision {
                Decision::Start(tick) => self.start(tick),
                Decision::Settle(tick) => self.unsettled.push(tick),
                Decision::Stop(run) => self.launch.stop(run),
            }
        }
        self.settle()
    }

    /// Writes the ticks that are due, before anything is done about them.
    pub(super) fn write_due(&mut self, now: Timestamp) -> Result<()> {
        if self.unwritten.is_empty() && self.planner.is_due(now) {
            let held = self.store.held_schedules()?;
            self.unwritten = self.planner.due(now, &held);
        }
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let new = self.store.keep_ticks(&self.unwritten)?;
        for (tick, is_new) in std::mem::take(&mut self.unwritten).into_iter().zip(new) {
            match tick.outcome {
                // The clock was put back: what was due then had its tick already.
                _ if !is_new => {}
                TickOutcome::Pending => self.planner.admit(tick),
                _ => self.launch.decided(&tick),
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        if self.unsettled.is_empty() {
            return Ok(());
        }
        let done = self.store.settle_ticks(&self.unsettled);
        if let Err(error) = done {
            if !matches!(error.kind, Kind::Conflict | Kind::NotFound) {
                return Err(error);
            }
            // Someone else wrote one of them; the others are written nevertheless.
            tracing::error!(%error, "a tick was decided about elsewhere");
            self.unsettled.retain(|tick| self.store.settle_ticks(std::slice::from_ref(tick)).is_ok());
        }
        for tick in std::mem::take(&mut self.unsettled) {
            self.launch.decided(&tick);
        }
        Ok(())
    }

    fn start(&mut self, tick: Tick) {
        let (launch, sender) = (Arc::clone(&self.launch), self.sender.clone());
        self.launching += 1;
        tokio::task::spawn_blocking(move || {
            // A turn that is never given back would hold up the others for ever.
            let started = catch_unwind(AssertUnwindSafe(|| launch.launch(&tick)));
            let started = started.unwrap_or_else(|_| Err(Error::new(Kind::Bug, "starting it failed in a way that is a defect")));
            let _ = sender.send(Message::Launched(Box::new(tick), started));
        });
    }

    /// Takes a message; whether it was the last one.
    fn take(&mut self, message: Message) -> bool {
        let now = self.clock.now();
        match message {
            Message::Launched(tick, started) => {
                self.launching -= 1;
                match started {
                    Ok(run) => {
                        self.planner.started(&tick, run);
                        self.unsettled.push(Tick { outcome: TickOutcome::Started { run }, decided: now, ..*tick });
                    }
                    Err(error) if error.kind == Kind::Store => self.planner.put_back(*tick, now),
                    Err(error) => self.unsettled.push(self.planner.refused(*tick, &error, now)),
                }
            }
            Message::Ended(run) => self.planner.ended(run),
            Message::Load(entries) => {
                if let Err(error) = self.load(entries) {
                    tracing::error!(%error, "the schedules could not be exchanged");
                }
            }
            Message::MakeRoom(at_once) => self.planner.make_room(at_once),
            Message::Look => {}
            Message::Close => return true,
        }
        false
    }

    /// Waits until no launch is under way, and takes what was said meanwhile.
    #[cfg(test)]
    pub(super) async fn settled(&mut self) {
        while self.launching > 0 || !self.inbox.is_empty() {
            match self.inbox.recv().await {
                Some(message) => drop(self.take(message)),
                None => return,
            }
        }
    }

    /// Whether nothing is under way, and everything that happened was written.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.launching == 0 && self.inbox.is_empty() && self.unwritten.is_empty() && self.unsettled.is_empty()
    }
}
