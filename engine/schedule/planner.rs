//! What is due, what becomes of it, and what may start. Pure: it reads no clock and writes nothing.
//!
//! A heap holds the next moment of each schedule, so that a look costs what is due and not what there is. What
//! is due becomes ticks; they are written, and those that were new come back to be admitted. From then on they
//! wait for their turn: for the run before them, for their group, for the limit of all.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::error::Error;
use crate::model::{CatchUp, Cause, Mark, Overlap, Pause, Reason, RunId, ScheduleState, Span, Tick, TickOutcome};
use crate::schedule::{Due, Entry};

/// A tick that starts no later than this after its moment is on time: nobody was away.
const ON_TIME: SignedDuration = SignedDuration::from_secs(60);

/// A clock that goes back by more than this was put back.
const PUT_BACK: SignedDuration = SignedDuration::from_secs(60);

/// More missed moments of a schedule than this have one row together, but for the last.
const MOST_ROWS: usize = 1000;

/// After so many moments in a row the others are estimated and jumped over.
const MOST_COUNTED: usize = 10_000;

/// More ticks of a schedule than this do not wait for the run before them.
const MOST_WAITING: usize = 100;

/// How long nothing is started after the store failed.
const RETRY: SignedDuration = SignedDuration::from_secs(5);

/// Something that is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Start the run of this tick.
    Start(Tick),
    /// Write what became of this tick, which is pending in the store.
    Settle(Tick),
    /// Ask this run to end.
    Stop(u64),
}

/// The schedules, and where each stands.
#[derive(Debug, Default)]
pub struct Planner {
    slots: Vec<Slot>,
    by_key: HashMap<String, usize>,
    /// When each slot is due next; entries that do not say what their slot says are old.
    next: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// Slots whose first waiting tick may start, by when that was to start.
    ready: BTreeSet<(Timestamp, usize)>,
    /// When ticks that wait are too late.
    deadlines: BinaryHeap<Reverse<(Timestamp, usize)>>,
    groups: HashMap<String, Turns>,
    /// The ticks that are being started, each with its slot.
    starting: HashMap<RunId, usize>,
    /// The runs that go on, each with its slot.
    runs: HashMap<u64, usize>,
    /// Runs that ended before their start was told.
    over: HashSet<u64>,
    /// How many go on or are being started, of all and at most.
    busy: usize,
    at_once: usize,
    decisions: Vec<Decision>,
    /// The latest time it was told.
    seen: Option<Timestamp>,
    /// Nothing is started before this.
    not_before: Option<Timestamp>,
}

/// A schedule and where it stands.
#[derive(Debug)]
struct Slot {
    /// None when it was taken away and something of it still goes on.
    entry: Option<Entry>,
    next: Option<Due>,
    waiting: VecDeque<Tick>,
    /// Being started, and going on.
    starting: usize,
    running: Vec<u64>,
    /// The group its runs take turns in, also when the entry is gone.
    group: Option<String>,
}

/// The turns of a group.
#[derive(Debug, Default)]
struct Turns {
    most: usize,
    busy: usize,
    waiting: BTreeSet<(Timestamp, usize)>,
}

impl Slot {
    fn is_busy(&self) -> bool {
        self.starting > 0 || !self.running.is_empty()
    }

    /// When the next tick is to start.
    fn start(&self) -> Option<Timestamp> {
        Some(self.entry.as_ref()?.start(self.next?.at))
    }

    /// The first tick that waits, if the runs before it let it start.
    fn ready(&self) -> Option<Timestamp> {
        let allows = self.entry.as_ref().is_some_and(|entry| entry.policy.overlap == Overlap::Allow);
        if self.is_busy() && !allows {
            return None;
        }
        self.waiting.front().map(|tick| tick.start)
    }
}

impl Planner {
    /// A planner without schedules. At most so many runs go on at once.
    pub fn new(at_once: usize) -> Self {
        Self { at_once: at_once.max(1), ..Self::default() }
    }

    /// At most so many runs go on at once from now on.
    pub fn make_room(&mut self, at_once: usize) {
        self.at_once = at_once.max(1);
    }

    /// Whether it has no schedules.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Whether it has, or had, this schedule.
    pub fn knows(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// Takes these schedules in place of those it had, and returns the rules that are new: of which schedule,
    /// which, since when. A schedule that keeps its rule goes on after its last moment.
    pub fn load(&mut self, entries: Vec<Entry>, states: &[ScheduleState], now: Timestamp) -> Vec<(String, String, Timestamp)> {
        let states: HashMap<&str, &ScheduleState> = states.iter().map(|state| (state.schedule.as_str(), state)).collect();
        let kept: HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let gone: Vec<String> = self.by_key.keys().filter(|key| !kept.contains(key.as_str())).cloned().collect();
        drop(kept);
        for key in gone {
            self.remove(&key, now);
        }
        self.seen.get_or_insert(now);
        self.set_groups(&entries);
        let mut rules = Vec::new();
        for entry in entries {
            let state = states.get(entry.key.as_str()).filter(|state| state.since.is_some() && state.rule == entry.rule());
            let cursor = match state {
                // A last moment after now is from before the clock was put back.
                Some(state) => state.since.max(state.last).unwrap_or(now).min(now),
                None => {
                    rules.push((entry.key.clone(), entry.rule(), now));
                    now
                }
            };
            self.put(entry, cursor);
        }
        rules
    }

    fn set_groups(&mut self, entries: &[Entry]) {
        for turns in self.groups.values_mut() {
            turns.most = 1;
        }
        for group in entries.iter().filter_map(|entry| entry.policy.group.as_ref()) {
            self.groups.entry(group.name.clone()).or_default().most = group.most.max(1) as usize;
        }
    }

    fn put(&mut self, entry: Entry, cursor: Timestamp) {
        let slot = match self.by_key.get(&entry.key) {
            Some(slot) => *slot,
            None => {
                self.by_key.insert(entry.key.clone(), self.slots.len());
                self.slots.push(Slot { entry: None, next: None, waiting: VecDeque::new(), starting: 0, running: Vec::new(), group: None });
                self.slots.len() - 1
            }
        };
        let known = self.slots[slot].entry.as_ref().is_some_and(|known| known.rule() == entry.rule());
        if !self.slots[slot].is_busy() {
            self.slots[slot].group = entry.policy.group.as_ref().map(|group| group.name.clone());
        }
        self.slots[slot].entry = Some(entry);
        if !known || self.slots[slot].next.is_none() {
            self.aim(slot, cursor);
        } else {
            // The jitter may be another one.
            self.schedule(slot);
        }
    }

    fn remove(&mut self, key: &str, now: Timestamp) {
        let Some(slot) = self.by_key.get(key).copied() else { return };
        for tick in std::mem::take(&mut self.slots[slot].waiting) {
            self.unready(slot, tick.start);
            self.settle_as(tick, Reason::Removed, "the schedule was taken away", now);
        }
        (self.slots[slot].entry, self.slots[slot].next) = (None, None);
    }

    /// Looks for the next moment of a slot after this one.
    fn aim(&mut self, slot: usize, cursor: Timestamp) {
        self.slots[slot].next = self.slots[slot].entry.as_ref().and_then(|entry| entry.timing.next(cursor));
        self.schedule(slot);
    }

    fn schedule(&mut self, slot: usize) {
        if let Some(start) = self.slots[slot].start() {
            self.next.push(Reverse((start, slot)));
        }
    }

    /// Says that a run of a schedule goes on which it did not start.
    pub fn is_running(&mut self, key: &str, run: u64) {
        let Some(slot) = self.by_key.get(key).copied() else { return };
        if self.runs.insert(run, slot).is_none() {
            self.slots[slot].running.push(run);
            self.take_turn(slot);
        }
    }

    /// Takes ticks that were left pending: those that would be caught up with wait for their turn.
    pub fn pick_up(&mut self, ticks: Vec<Tick>, now: Timestamp) {
        let mut last: HashMap<String, Timestamp> = HashMap::new();
        for tick in &ticks {
            let due = last.entry(tick.schedule.clone()).or_insert(tick.due);
            *due = tick.due.max(*due);
        }
        for tick in ticks {
            let entry = self.by_key.get(&tick.schedule).and_then(|slot| self.slots[*slot].entry.as_ref());
            let Some(entry) = entry else {
                self.settle_as(tick, Reason::Removed, "the schedule was taken away", now);
                continue;
            };
            let late = now.duration_since(tick.start);
            let is_last = last[&tick.schedule] == tick.due && entry.timing.next(tick.due).is_none_or(|next| entry.start(next.at) > now);
            let starts = match entry.policy.catch_up {
                CatchUp::Skip => late <= ON_TIME,
                CatchUp::Latest => is_last,
                CatchUp::All(_) => true,
            };
            if starts {
                let marks = if late > ON_TIME { with(&tick.marks, Mark::CatchUp) } else { tick.marks.clone() };
                self.admit(Tick { marks, ..tick });
            } else {
                let outcome = TickOutcome::Missed(down(late));
                self.decisions.push(Decision::Settle(Tick { outcome, decided: now, ..tick }));
            }
        }
    }

    /// Whether something is due.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.is_put_back(now) || self.next.peek().is_some_and(|Reverse((start, _))| *start <= now)
    }

    fn is_put_back(&self, now: Timestamp) -> bool {
        self.seen.is_some_and(|seen| seen.duration_since(now) > PUT_BACK)
    }

    /// The ticks that are due, to be written; `held` says what is paused or to be skipped. Those that are pending
    /// have to come back with [`admit`](Self::admit), unless the store had them already.
    pub fn due(&mut self, now: Timestamp, held: &[ScheduleState]) -> Vec<Tick> {
        if self.is_put_back(now) {
            self.put_back_to(now);
        }
        self.seen = Some(now);
        let held: HashMap<&str, &ScheduleState> = held.iter().map(|state| (state.schedule.as_str(), state)).collect();
        let mut ticks = Vec::new();
        while let Some(Reverse((start, slot))) = self.next.peek().copied().filter(|Reverse((start, _))| *start <= now) {
            self.next.pop();
            if self.slots[slot].start() == Some(start) {
                self.collect(slot, now, &held, &mut ticks);
            }
        }
        ticks
    }

    /// The clock was put back: everything is due after now again. What ran then has its tick, and runs no second time.
    fn put_back_to(&mut self, now: Timestamp) {
        self.next.clear();
        for slot in 0..self.slots.len() {
            self.aim(slot, now);
        }
    }

    /// The ticks of a slot that is due.
    fn collect(&mut self, slot: usize, now: Timestamp, held: &HashMap<&str, &ScheduleState>, ticks: &mut Vec<Tick>) {
        let place = &mut self.slots[slot];
        let (Some(entry), Some(first)) = (&place.entry, place.next) else { return };
        let (moments, next) = moments(entry, first, now);
        place.next = next;
        let is_busy = place.is_busy() || !place.waiting.is_empty();
        Judge { entry, now, held: Held::of(held, &entry.key), is_busy }.judge(moments, ticks);
        self.schedule(slot);
    }

    /// Takes a pending tick that was written; it waits for its turn.
    pub fn admit(&mut self, tick: Tick) {
        let Some(slot) = self.by_key.get(&tick.schedule).copied() else {
            let now = tick.decided;
            return self.settle_as(tick, Reason::Removed, "the schedule was taken away", now);
        };
        let Some(policy) = self.slots[slot].entry.as_ref().map(|entry| &entry.policy) else { return };
        let (overlap, deadline, now) = (policy.overlap, policy.deadline, tick.decided);
        if overlap == Overlap::Replace && !tick.marks.contains(&Mark::CatchUp) {
            for older in std::mem::take(&mut self.slots[slot].waiting) {
                self.unready(slot, older.start);
                self.settle_as(older, Reason::Replaced, "the next one is due", now);
            }
            let running = self.slots[slot].running.iter().map(|run| Decision::Stop(*run));
            self.decisions.extend(running);
        }
        if self.slots[slot].waiting.len() >= MOST_WAITING && !tick.marks.contains(&Mark::CatchUp) {
            return self.settle_as(tick, Reason::Overlap, &format!("{MOST_WAITING} others wait already"), now);
        }
        if let Some(deadline) = deadline.and_then(|deadline| tick.start.checked_add(deadline).ok()) {
            self.deadlines.push(Reverse((deadline, slot)));
        }
        self.slots[slot].waiting.push_back(tick);
        self.wake(slot);
    }

    /// Puts a slot among those that are ready, when it is.
    fn wake(&mut self, slot: usize) {
        if let Some(start) = self.slots[slot].ready() {
            self.ready.insert((start, slot));
        }
    }

    fn unready(&mut self, slot: usize, start: Timestamp) {
        self.ready.remove(&(start, slot));
        if let Some(turns) = self.slots[slot].group.as_ref().and_then(|group| self.groups.get_mut(group)) {
            turns.waiting.remove(&(start, slot));
        }
    }

    /// What is to be done now.
    pub fn decide(&mut self, now: Timestamp) -> Vec<Decision> {
        self.too_late(now);
        if self.not_before.is_none_or(|moment| moment <= now || moment.duration_since(now) > RETRY) {
            self.not_before = None;
            self.start_ready(now);
        }
        std::mem::take(&mut self.decisions)
    }

    fn too_late(&mut self, now: Timestamp) {
        while let Some(Reverse((_, slot))) = self.deadlines.peek().copied().filter(|Reverse((deadline, _))| *deadline <= now) {
            self.deadlines.pop();
            let Some(deadline) = self.slots[slot].entry.as_ref().and_then(|entry| entry.policy.deadline) else { continue };
            let is_late = |tick: &Tick| now.duration_since(tick.start) >= deadline;
            let (late, waiting) = std::mem::take(&mut self.slots[slot].waiting).into_iter().partition(is_late);
            self.slots[slot].waiting = waiting;
            let late: VecDeque<Tick> = late;
            for tick in late {
                self.unready(slot, tick.start);
                self.settle_as(tick, Reason::Deadline, &format!("it had to start within {}", span(deadline)), now);
            }
            self.wake(slot);
        }
    }

    fn start_ready(&mut self, now: Timestamp) {
        while self.busy < self.at_once {
            let Some((start, slot)) = self.ready.pop_first() else { return };
            if self.slots[slot].ready() != Some(start) {
                continue;
            }
            if let Some(turns) = self.slots[slot].group.as_ref().and_then(|group| self.groups.get_mut(group))
                && turns.busy >= turns.most
            {
                turns.waiting.insert((start, slot));
                continue;
            }
            let Some(tick) = self.slots[slot].waiting.pop_front() else { continue };
            self.slots[slot].starting += 1;
            self.starting.insert(tick.id, slot);
            self.take_turn(slot);
            self.decisions.push(Decision::Start(Tick { decided: now, ..tick }));
            self.wake(slot);
        }
    }

    fn take_turn(&mut self, slot: usize) {
        self.busy += 1;
        if let Some(turns) = self.slots[slot].group.as_ref().and_then(|group| self.groups.get_mut(group)) {
            turns.busy += 1;
        }
    }

    fn give_turn(&mut self, slot: usize) {
        self.busy -= 1;
        if let Some(turns) = self.slots[slot].group.as_ref().and_then(|group| self.groups.get_mut(group)) {
            turns.busy -= 1;
            self.ready.extend(turns.waiting.pop_first());
        }
        self.wake(slot);
    }

    /// Says that a tick has its run.
    pub fn started(&mut self, tick: &Tick, run: u64) {
        let Some(slot) = self.starting.remove(&tick.id) else { return };
        self.slots[slot].starting -= 1;
        let is_over = self.over.remove(&run);
        if self.starting.is_empty() {
            self.over.clear();
        }
        if is_over {
            return self.give_turn(slot);
        }
        self.runs.insert(run, slot);
        self.slots[slot].running.push(run);
        let replaces = self.slots[slot].entry.as_ref().is_some_and(|entry| entry.policy.overlap == Overlap::Replace);
        let is_replaced = self.slots[slot].waiting.front().is_some_and(|next| !next.marks.contains(&Mark::CatchUp));
        if replaces && is_replaced {
            self.decisions.push(Decision::Stop(run));
        }
    }

    /// Says that a run is over.
    pub fn ended(&mut self, run: u64) {
        let Some(slot) = self.runs.remove(&run) else {
            // Its start may be told later than its end.
            if !self.starting.is_empty() {
                self.over.insert(run);
            }
            return;
        };
        self.slots[slot].running.retain(|other| *other != run);
        self.give_turn(slot);
    }

    /// Says that a tick could not be started, and returns what became of it.
    pub fn refused(&mut self, tick: Tick, error: &Error, now: Timestamp) -> Tick {
        if let Some(slot) = self.starting.remove(&tick.id) {
            self.slots[slot].starting -= 1;
            self.give_turn(slot);
        }
        let outcome = TickOutcome::Skipped(Cause { reason: Reason::Refused, detail: error.message.clone() });
        Tick { outcome, decided: now, ..tick }
    }

    /// Says that the store failed before a tick was started: it waits, and is tried again.
    pub fn put_back(&mut self, tick: Tick, now: Timestamp) {
        let Some(slot) = self.starting.remove(&tick.id) else { return };
        self.slots[slot].starting -= 1;
        self.slots[slot].waiting.push_front(tick);
        self.not_before = now.checked_add(RETRY).ok();
        self.give_turn(slot);
    }

    /// When it has to be asked again, if nothing else happens.
    pub fn next_look(&self) -> Option<Timestamp> {
        let next = self.next.peek().map(|Reverse((start, _))| *start);
        let deadline = self.deadlines.peek().map(|Reverse((deadline, _))| *deadline);
        [next, deadline, self.not_before].into_iter().flatten().min()
    }

    fn settle_as(&mut self, tick: Tick, reason: Reason, detail: &str, now: Timestamp) {
        let outcome = TickOutcome::Skipped(Cause { reason, detail: detail.to_owned() });
        self.decisions.push(Decision::Settle(Tick { outcome, decided: now, ..tick }));
    }
}

/// The due moments of a schedule, the oldest first.
#[derive(Debug, Default)]
struct Moments {
    /// The first of those that are too many, and the last.
    folded: Option<(Due, Timestamp)>,
    each: VecDeque<Due>,
}

/// The moments that are due from the first on, and the next one that is not.
fn moments(entry: &Entry, first: Due, now: Timestamp) -> (Moments, Option<Due>) {
    let mut found = Moments::default();
    let (mut from, mut counted) = (first.at, 0);
    let mut after = entry.timing.after(first.at);
    let mut next = Some(first);
    while let Some(due) = next.filter(|due| entry.start(due.at) <= now) {
        if found.each.len() == MOST_ROWS {
            found.fold();
        }
        found.each.push_back(due);
        counted += 1;
        if counted == MOST_COUNTED {
            // As far apart as they were so far, the last rows are within this of now.
            let rest = due.at.duration_since(from) / (MOST_COUNTED as i32) * (2 * MOST_ROWS as i32);
            if let Some(target) = now.checked_sub(rest).ok().filter(|target| *target > due.at) {
                found.fold_all(target);
                after = entry.timing.after(target);
            }
            (from, counted) = (due.at, 0);
        }
        next = after.next();
    }
    (found, next)
}

impl Moments {
    fn fold(&mut self) {
        if let Some(oldest) = self.each.pop_front() {
            let first = self.folded.map_or(oldest, |(first, _)| first);
            self.folded = Some((first, oldest.at));
        }
    }

    fn fold_all(&mut self, through: Timestamp) {
        let first = self.folded.map(|(first, _)| first).or(self.each.front().copied());
        self.folded = first.map(|first| (first, through));
        self.each.clear();
    }
}

/// What is paused, and what is to be skipped, of one schedule.
#[derive(Debug, Default)]
struct Held<'h> {
    pauses: Vec<&'h Pause>,
    skip: u32,
}

impl<'h> Held<'h> {
    fn of(held: &HashMap<&str, &'h ScheduleState>, key: &str) -> Self {
        if held.is_empty() {
            return Self::default();
        }
        let system = format!("{}/*", key.split('/').next().unwrap_or_default());
        let states = [key, &system, "*"].map(|key| held.get(key).copied());
        Self {
            pauses: states.iter().flatten().filter_map(|state| state.paused.as_ref()).collect(),
            skip: states[0].map_or(0, |state| state.skip),
        }
    }

    /// The pause that holds now, or held at the moment.
    fn pause(&self, at: Timestamp) -> Option<Cause> {
        let pause = self.pauses.iter().find(|pause| pause.since <= at && pause.holds(at))?;
        let reason = if pause.reason.is_empty() { String::new() } else { format!(": {}", pause.reason) };
        Some(Cause { reason: Reason::Paused, detail: format!("paused by {}{reason}", pause.by) })
    }
}

/// Decides about the due moments of one schedule.
struct Judge<'j> {
    entry: &'j Entry,
    now: Timestamp,
    held: Held<'j>,
    /// Whether a run of it goes on, or a tick waits.
    is_busy: bool,
}

impl Judge<'_> {
    fn judge(mut self, moments: Moments, ticks: &mut Vec<Tick>) {
        if let Some((first, through)) = moments.folded {
            let cause = Cause { reason: Reason::Down, detail: format!("nobody was there, through {through}") };
            ticks.push(Tick { through: Some(through), ..self.tick(first, false, TickOutcome::Missed(cause)) });
        }
        let excluded: Vec<Option<Cause>> = moments.each.iter().map(|due| self.excluded(due.at)).collect();
        let most = match self.entry.policy.catch_up {
            CatchUp::Skip | CatchUp::Latest => 1,
            CatchUp::All(most) => most as usize,
        };
        let mut left = excluded.iter().filter(|cause| cause.is_none()).count();
        let together = left.min(most) > 1;
        for (due, cause) in moments.each.into_iter().zip(excluded) {
            let outcome = match cause {
                Some(cause) => TickOutcome::Skipped(cause),
                None => {
                    left -= 1;
                    if left < most { self.candidate(due, together) } else { TickOutcome::Missed(down(self.late(due))) }
                }
            };
            ticks.push(self.tick(due, together, outcome));
        }
    }

    fn late(&self, due: Due) -> SignedDuration {
        self.now.duration_since(self.entry.start(due.at))
    }

    /// Why a moment counts for nothing, whoever was there.
    fn excluded(&self, at: Timestamp) -> Option<Cause> {
        let day_off = |name| Cause { reason: Reason::Calendar, detail: format!("the day is in `{name}`") };
        self.held.pause(at).or_else(|| self.entry.policy.day_off(at).map(day_off))
    }

    /// What becomes of a moment that may run; one of several `together` waits for those before it.
    fn candidate(&mut self, due: Due, together: bool) -> TickOutcome {
        let policy = &self.entry.policy;
        let late = self.late(due);
        if policy.catch_up == CatchUp::Skip && late > ON_TIME {
            return TickOutcome::Missed(down(late));
        }
        if let Some(cause) = self.held.pause(self.now) {
            return TickOutcome::Skipped(cause);
        }
        if self.held.skip > 0 {
            self.held.skip -= 1;
            return TickOutcome::Skipped(Cause { reason: Reason::Asked, detail: "someone asked to skip it".to_owned() });
        }
        if let Some(deadline) = policy.deadline.filter(|deadline| late >= *deadline) {
            let detail = format!("seen {} late, it had to start within {}", span(late), span(deadline));
            return TickOutcome::Missed(Cause { reason: Reason::Deadline, detail });
        }
        if !policy.is_open(self.now) {
            let windows: Vec<String> = policy.windows.iter().map(ToString::to_string).collect();
            return TickOutcome::Skipped(Cause { reason: Reason::Window, detail: format!("it starts only in {}", windows.join(", ")) });
        }
        if self.is_busy && policy.overlap == Overlap::Forbid && !together {
            let detail = "the run before it still goes on, or waits for its turn".to_owned();
            return TickOutcome::Skipped(Cause { reason: Reason::Overlap, detail });
        }
        TickOutcome::Pending
    }

    fn tick(&self, due: Due, together: bool, outcome: TickOutcome) -> Tick {
        let Entry { key, runbook, system, params, .. } = self.entry;
        let is_late = (together || self.late(due) > ON_TIME) && outcome == TickOutcome::Pending;
        let marks = [(due.after_gap, Mark::DstGap), (is_late, Mark::CatchUp)];
        Tick {
            schedule: key.clone(),
            due: due.at,
            start: self.entry.start(due.at),
            decided: self.now,
            marks: marks.into_iter().filter_map(|(has, mark)| has.then_some(mark)).collect(),
            runbook: runbook.clone(),
            system: system.clone(),
            params: params.clone(),
            id: RunId::new(),
            outcome,
            through: None,
        }
    }
}

fn down(late: SignedDuration) -> Cause {
    Cause { reason: Reason::Down, detail: format!("nobody was there; seen {} late", span(late)) }
}

fn span(length: SignedDuration) -> Span {
    Span(length.unsigned_abs())
}

fn with(marks: &[Mark], mark: Mark) -> Vec<Mark> {
    let mut marks = marks.to_vec();
    if !marks.contains(&mark) {
        marks.push(mark);
    }
    marks
}
