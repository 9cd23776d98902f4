//! A store in memory: for tests and embedders. Stricter than SQLite: it refuses unknown runs, events
//! that go back in time, and parcels that do not grow up.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::model::{
    Approval, Channel, Event, Incident, Module, Parcel, ParcelState, Pause, Pinned, Plan, Record, Repair, Run, RunId, ScheduleState, Tick,
    TickOutcome,
};
use crate::store::audit::{Action, AuditFilter, Entry, uid};
use crate::store::incidents::{Change, Choose, IncidentFilter, Incidents, Which, no_repair};
use crate::store::ticks::{asked_for, settled, unknown_tick};
use crate::store::{Filter, Plans, ProcessId, SENDINGS_KEPT, Settlement, Store, Summary, Tally, TickFilter, Ticks, note_of};

/// A store that is gone with its process.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    runs: Vec<Recorded>,
    notes: BTreeMap<(String, String), Value>,
    parcels: Vec<Parcel>,
    sendings: Vec<(Channel, Timestamp)>,
    audit: Vec<Entry>,
    plans: Vec<Plan>,
    approvals: Vec<Approval>,
    pins: Vec<Pinned>,
    incidents: Vec<Incident>,
    repairs: Vec<Repair>,
    records: Vec<Record>,
    ticks: BTreeMap<(String, Timestamp), Tick>,
    schedules: BTreeMap<String, ScheduleState>,
}

#[derive(Debug)]
struct Recorded {
    run: Run,
    events: Vec<Event>,
    modules: Vec<Module>,
    supervisor: ProcessId,
    last: Timestamp,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(id: RunId) -> Error {
    Error::new(Kind::NotFound, format!("there is no run `{id}`"))
}

impl Store for Memory {
    fn create(&self, run: &Run, modules: &[Module], supervisor: ProcessId) -> Result<u64> {
        let mut inner = self.lock();
        if inner.runs.iter().any(|recorded| recorded.run.id == run.id) {
            return Err(Error::new(Kind::Store, format!("run `{}` is recorded already", run.id)));
        }
        let number = inner.runs.len() as u64 + 1;
        let run = Run { run: number, ..run.clone() };
        inner.note(&run, run.started, None);
        inner.runs.push(Recorded { last: run.started, run, events: Vec::new(), modules: modules.to_vec(), supervisor });
        Ok(number)
    }

    fn append(&self, id: RunId, events: &[Event]) -> Result<()> {
        self.lock().append(id, events)
    }

    fn take_over(&self, id: RunId, supervisor: ProcessId, event: &Event) -> Result<()> {
        let mut inner = self.lock();
        let recorded = inner.recorded(id)?;
        if !recorded.run.status.is_over() {
            return Err(crate::store::watched(recorded.run.run));
        }
        recorded.supervisor = supervisor;
        inner.append(id, std::slice::from_ref(event))
    }

    fn abandon(&self, id: RunId, supervisor: ProcessId, event: &Event) -> Result<bool> {
        let mut inner = self.lock();
        let recorded = inner.recorded(id)?;
        if recorded.run.status.is_over() || recorded.supervisor != supervisor {
            return Ok(false);
        }
        inner.append(id, std::slice::from_ref(event)).map(|()| true)
    }

    fn events(&self, id: RunId) -> Result<Vec<Event>> {
        self.lock().recorded(id).map(|recorded| recorded.events.clone())
    }

    fn verify(&self, id: RunId) -> Result<()> {
        self.run(id).map(drop)
    }

    fn audit(&self, entry: &Entry) -> Result<u64> {
        Ok(self.lock().add(entry))
    }

    fn audited(&self, filter: &AuditFilter) -> Result<Vec<Entry>> {
        let wanted = |entry: &&Entry| {
            filter.since.is_none_or(|since| entry.at >= since) && filter.action.is_none_or(|action| entry.action == action)
        };
        let limit = if filter.limit == 0 { usize::MAX } else { filter.limit as usize };
        Ok(self.lock().audit.iter().rev().filter(wanted).take(limit).cloned().collect())
    }

    fn run(&self, id: RunId) -> Result<Run> {
        self.lock().runs.iter().find(|recorded| recorded.run.id == id).map(|recorded| recorded.run.clone()).ok_or_else(|| missing(id))
    }

    fn modules(&self, id: RunId) -> Result<Vec<Module>> {
        self.lock().runs.iter().find(|recorded| recorded.run.id == id).map(|recorded| recorded.modules.clone()).ok_or_else(|| missing(id))
    }

    fn list(&self, filter: &Filter) -> Result<Vec<Summary>> {
        let inner = self.lock();
        let wanted = |run: &Run| {
            filter.number.is_none_or(|number| number == run.run)
                && filter.id.as_ref().is_none_or(|beginning| run.id.to_string().starts_with(beginning))
                && filter.runbook.as_ref().is_none_or(|name| *name == run.runbook)
                && filter.system.as_ref().is_none_or(|name| Some(name) == run.system.as_ref())
                && filter.parent.is_none_or(|number| run.parent.as_ref().is_some_and(|parent| parent.run == number))
                && filter.step.as_ref().is_none_or(|step| run.parent.as_ref().is_some_and(|parent| parent.step == *step))
                && (filter.states.is_empty() || filter.states.contains(&run.status))
                && filter.since.is_none_or(|since| run.started >= since)
        };
        let limit = if filter.limit == 0 { usize::MAX } else { filter.limit as usize };
        Ok(inner.runs.iter().rev().filter(|recorded| wanted(&recorded.run)).take(limit).map(summary).collect())
    }

    fn note(&self, scope: &str, key: &str) -> Result<Option<Value>> {
        Ok(self.lock().notes.get(&(scope.to_owned(), key.to_owned())).cloned())
    }

    fn keep_note(&self, scope: &str, key: &str, value: &Value) -> Result<()> {
        let place = (scope.to_owned(), key.to_owned());
        match value {
            Value::Null => self.lock().notes.remove(&place),
            value => self.lock().notes.insert(place, value.clone()),
        };
        Ok(())
    }

    fn note_keys(&self, scope: &str, prefix: &str) -> Result<Vec<String>> {
        Ok(self.lock().notes.keys().filter(|(of, key)| of == scope && key.starts_with(prefix)).map(|(_, key)| key.clone()).collect())
    }

    fn post(&self, parcel: &Parcel, is_repeat: &dyn Fn(&[Parcel]) -> bool) -> Result<bool> {
        let mut inner = self.lock();
        let alike = inner.in_order(|other| {
            let same_key = parcel.message.dedupe.is_some() && other.message.dedupe == parcel.message.dedupe;
            same_key && other.id != parcel.id && Channel::of(other) == Channel::of(parcel)
        });
        if parcel.message.dedupe.is_some() && is_repeat(&alike) {
            return Ok(false);
        }
        inner.put(parcel);
        Ok(true)
    }

    fn queued(&self) -> Result<Vec<Parcel>> {
        Ok(self.lock().in_order(|parcel| parcel.state == ParcelState::Queued))
    }

    fn sendings(&self, since: Timestamp) -> Result<Vec<(Channel, Timestamp)>> {
        let mut found: Vec<_> = self.lock().sendings.iter().filter(|(_, at)| *at >= since).cloned().collect();
        found.sort_by_key(|(_, at)| *at);
        Ok(found)
    }

    fn settle(&self, settlement: &Settlement) -> Result<()> {
        let mut inner = self.lock();
        for parcel in &settlement.parcels {
            inner.may_become(parcel)?;
        }
        for new in &settlement.parcels {
            inner.parcels.retain(|old| old.id != new.id);
            inner.put(new);
        }
        for fallback in &settlement.fallbacks {
            inner.put(fallback);
        }
        if let Some(at) = settlement.sent {
            inner.sendings.push((settlement.channel.clone(), at));
            inner.sendings.retain(|(_, earlier)| at.duration_since(*earlier) <= SignedDuration::from_secs(SENDINGS_KEPT));
        }
        Ok(())
    }

    fn tally(&self) -> Result<Tally> {
        let inner = self.lock();
        let count = |state: ParcelState| inner.parcels.iter().filter(|parcel| parcel.state == state).count();
        let tried = inner.in_order(|parcel| parcel.attempts > 0);
        let last: BTreeMap<Channel, Parcel> = tried.into_iter().map(|parcel| (Channel::of(&parcel), parcel)).collect();
        Ok(Tally {
            queued: count(ParcelState::Queued),
            delivered: count(ParcelState::Delivered),
            dead: count(ParcelState::Dead),
            last_tried: last.into_values().collect(),
        })
    }

    fn prune_parcels(&self, before: Timestamp) -> Result<u64> {
        let mut inner = self.lock();
        let count = inner.parcels.len();
        inner.parcels.retain(|parcel| parcel.state == ParcelState::Queued || parcel.created >= before);
        Ok((count - inner.parcels.len()) as u64)
    }
}

impl Recorded {
    fn append(&mut self, events: &[Event]) -> Result<()> {
        let mut run = self.run.clone();
        let mut last = self.last;
        for event in events {
            if event.at < last {
                return Err(Error::new(Kind::Bug, format!("event `{}` goes back in time", event.kind.name())));
            }
            last = event.at;
            run.apply(event)?;
        }
        self.run = run;
        self.last = last;
        self.events.extend_from_slice(events);
        Ok(())
    }
}

impl Plans for Memory {
    fn keep_plan(&self, plan: &Plan) -> Result<()> {
        let mut inner = self.lock();
        if inner.plans.iter().any(|other| other.hash == plan.hash) {
            return Err(Error::new(Kind::Store, format!("plan `{}` is kept already", plan.hash)));
        }
        inner.plans.push(plan.clone());
        Ok(())
    }

    fn plans(&self) -> Result<Vec<Plan>> {
        let mut plans = self.lock().plans.clone();
        plans.sort_by_key(|plan| std::cmp::Reverse(plan.made));
        Ok(plans)
    }

    fn spend_plan(&self, hash: &str, run: RunId) -> Result<()> {
        let mut inner = self.lock();
        let plan = inner.plans.iter_mut().find(|plan| plan.hash == hash);
        let plan = plan.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no plan `{hash}`")))?;
        if let Some(by) = plan.run {
            return Err(crate::store::plans::spent(&by.to_string()));
        }
        plan.run = Some(run);
        Ok(())
    }

    fn keep_approval(&self, approval: &Approval) -> Result<()> {
        self.lock().approvals.push(approval.clone());
        Ok(())
    }

    fn approvals(&self, of: &str) -> Result<Vec<Approval>> {
        Ok(self.lock().approvals.iter().filter(|approval| approval.of == of).cloned().collect())
    }

    fn pin(&self, pinned: &Pinned) -> Result<()> {
        let mut inner = self.lock();
        inner.pins.retain(|other| (&other.runbook, &other.system) != (&pinned.runbook, &pinned.system));
        inner.pins.push(pinned.clone());
        Ok(())
    }

    fn pinned(&self, runbook: &str, system: &str) -> Result<Option<Pinned>> {
        Ok(self.lock().pins.iter().find(|pinned| pinned.runbook == runbook && pinned.system == system).cloned())
    }
}

impl Incidents for Memory {
    fn change_incident(&self, which: Which<'_>, change: &mut Change<'_>) -> Result<Option<Incident>> {
        let mut inner = self.lock();
        let before = inner.incident_of(which);
        let next = inner.incidents.len() as u64 + 1;
        let Some(changed) = change(before.clone(), next)? else { return Ok(before) };
        let number = changed.incident.number;
        match before {
            Some(before) if before.number == number => inner.incidents[usize::try_from(number - 1).unwrap_or(0)] = changed.incident.clone(),
            _ if number == next => inner.incidents.push(changed.incident.clone()),
            _ => return Err(Error::new(Kind::Bug, format!("incident #{number} became another one"))),
        }
        for parcel in &changed.parcels {
            inner.put(parcel);
        }
        Ok(Some(changed.incident))
    }

    fn incident(&self, which: Which<'_>) -> Result<Option<Incident>> {
        Ok(self.lock().incident_of(which))
    }

    fn incidents(&self, filter: &IncidentFilter) -> Result<Vec<Incident>> {
        let wanted = |incident: &&Incident| {
            filter.system.as_ref().is_none_or(|system| *system == incident.system)
                && (!filter.open || incident.is_open())
                && filter.since.is_none_or(|since| incident.opened >= since)
        };
        let limit = if filter.limit == 0 { usize::MAX } else { filter.limit as usize };
        Ok(self.lock().incidents.iter().rev().filter(wanted).take(limit).cloned().collect())
    }

    fn reserve_repair(&self, system: &str, since: Timestamp, choose: &mut Choose<'_>) -> Result<Option<Repair>> {
        let mut inner = self.lock();
        let Some(repair) = choose(&inner.repairs_of(system, since)) else { return Ok(None) };
        let repair = Repair { number: inner.repairs.len() as u64 + 1, ..repair };
        inner.repairs.push(repair.clone());
        Ok(Some(repair))
    }

    fn conclude_repair(&self, repair: &Repair) -> Result<()> {
        let mut inner = self.lock();
        let found = inner.repairs.iter_mut().find(|known| known.number == repair.number).ok_or_else(|| no_repair(repair.number))?;
        repair.clone_into(found);
        Ok(())
    }

    fn repairs(&self, system: &str, since: Timestamp) -> Result<Vec<Repair>> {
        Ok(self.lock().repairs_of(system, since))
    }

    fn record(&self, record: &Record) -> Result<u64> {
        let mut inner = self.lock();
        let number = inner.records.len() as u64 + 1;
        inner.records.push(Record { number, ..record.clone() });
        Ok(number)
    }

    fn records(&self, kind: &str, since: Timestamp) -> Result<Vec<Record>> {
        let mut found: Vec<Record> =
            self.lock().records.iter().filter(|record| record.kind == kind && record.at >= since).cloned().collect();
        found.sort_by_key(|record| (record.at, record.number));
        Ok(found)
    }
}

impl Inner {
    fn incident_of(&self, which: Which<'_>) -> Option<Incident> {
        let is_meant = |incident: &&Incident| match which {
            Which::Number(number) => incident.number == number,
            Which::Fingerprint(fingerprint) => incident.fingerprint == fingerprint,
        };
        self.incidents.iter().rfind(is_meant).cloned()
    }

    fn repairs_of(&self, system: &str, since: Timestamp) -> Vec<Repair> {
        let mut found: Vec<Repair> = self.repairs.iter().filter(|repair| repair.system == system && repair.at >= since).cloned().collect();
        found.sort_by_key(|repair| (repair.at, repair.number));
        found
    }
}

impl Ticks for Memory {
    fn keep_ticks(&self, ticks: &[Tick]) -> Result<Vec<bool>> {
        let mut inner = self.lock();
        Ok(ticks.iter().map(|tick| inner.keep_tick(tick)).collect())
    }

    fn settle_ticks(&self, ticks: &[Tick]) -> Result<()> {
        let mut inner = self.lock();
        for tick in ticks {
            match inner.ticks.get(&(tick.schedule.clone(), tick.due)) {
                None => return Err(unknown_tick(tick)),
                Some(known) if known.outcome != TickOutcome::Pending => return Err(settled(tick, known.outcome.name())),
                Some(known) if known.id != tick.id => return Err(Error::new(Kind::Bug, "a tick became another one")),
                Some(_) => {}
            }
        }
        for tick in ticks {
            inner.ticks.insert((tick.schedule.clone(), tick.due), tick.clone());
        }
        Ok(())
    }

    fn pending_ticks(&self) -> Result<Vec<Tick>> {
        let mut pending: Vec<Tick> = self.lock().ticks.values().filter(|tick| tick.outcome == TickOutcome::Pending).cloned().collect();
        pending.sort_by(|one, other| (one.due, &one.schedule).cmp(&(other.due, &other.schedule)));
        Ok(pending)
    }

    fn ticks(&self, filter: &TickFilter) -> Result<Vec<Tick>> {
        let wanted = |tick: &&Tick| {
            filter.schedule.as_ref().is_none_or(|schedule| *schedule == tick.schedule)
                && filter.since.is_none_or(|since| tick.due >= since)
                && filter.before.is_none_or(|before| tick.due < before)
        };
        let mut found: Vec<Tick> = self.lock().ticks.values().filter(wanted).cloned().collect();
        found.sort_by(|one, other| (other.due, &one.schedule).cmp(&(one.due, &other.schedule)));
        found.truncate(if filter.limit == 0 { usize::MAX } else { filter.limit as usize });
        Ok(found)
    }

    fn schedule_states(&self) -> Result<Vec<ScheduleState>> {
        Ok(self.lock().states(|_| true))
    }

    fn held_schedules(&self) -> Result<Vec<ScheduleState>> {
        Ok(self.lock().states(|state| state.paused.is_some() || state.skip > 0))
    }

    fn keep_rules(&self, rules: &[(String, String, Timestamp)]) -> Result<()> {
        let mut inner = self.lock();
        for (schedule, rule, since) in rules {
            let state = inner.schedule(schedule);
            (state.rule, state.since) = (rule.clone(), Some(*since));
        }
        Ok(())
    }

    fn pause_schedule(&self, schedule: &str, pause: Option<&Pause>) -> Result<()> {
        self.lock().schedule(schedule).paused = pause.cloned();
        Ok(())
    }

    fn skip_ticks(&self, schedule: &str, count: u32) -> Result<()> {
        self.lock().schedule(schedule).skip = count;
        Ok(())
    }

    fn prune_ticks(&self, before: Timestamp) -> Result<u64> {
        let mut inner = self.lock();
        let mut last: BTreeMap<String, Timestamp> = BTreeMap::new();
        for (schedule, due) in inner.ticks.keys() {
            last.insert(schedule.clone(), *due);
        }
        let count = inner.ticks.len();
        inner.ticks.retain(|(schedule, due), tick| *due >= before || tick.outcome == TickOutcome::Pending || last[schedule] == *due);
        Ok((count - inner.ticks.len()) as u64)
    }
}

impl Inner {
    fn states(&self, wanted: impl Fn(&&ScheduleState) -> bool) -> Vec<ScheduleState> {
        let last = |schedule: &str| self.ticks.keys().filter(|(of, _)| of == schedule).map(|(_, due)| *due).max();
        self.schedules.values().filter(wanted).map(|state| ScheduleState { last: last(&state.schedule), ..state.clone() }).collect()
    }

    fn schedule(&mut self, schedule: &str) -> &mut ScheduleState {
        let new = || ScheduleState { schedule: schedule.to_owned(), ..ScheduleState::default() };
        self.schedules.entry(schedule.to_owned()).or_insert_with(new)
    }

    fn keep_tick(&mut self, tick: &Tick) -> bool {
        let key = (tick.schedule.clone(), tick.due);
        if self.ticks.contains_key(&key) {
            return false;
        }
        if asked_for(tick)
            && let Some(state) = self.schedules.get_mut(&tick.schedule)
        {
            state.skip = state.skip.saturating_sub(1);
        }
        self.ticks.insert(key, tick.clone());
        true
    }

    fn recorded(&mut self, id: RunId) -> Result<&mut Recorded> {
        self.runs.iter_mut().find(|recorded| recorded.run.id == id).ok_or_else(|| missing(id))
    }

    fn append(&mut self, id: RunId, events: &[Event]) -> Result<()> {
        let recorded = self.recorded(id)?;
        recorded.append(events)?;
        let run = recorded.run.clone();
        if let Some(ended) = run.ended.filter(|_| !events.is_empty()) {
            self.note(&run, ended, Some(run.status.name()));
        }
        Ok(())
    }

    fn add(&mut self, entry: &Entry) -> u64 {
        let seq = self.audit.len() as u64 + 1;
        self.audit.push(Entry { seq, ..entry.clone() });
        seq
    }

    fn note(&mut self, run: &Run, at: Timestamp, outcome: Option<&str>) {
        let system = run.system.as_ref().map(|system| format!(" for {system}")).unwrap_or_default();
        let why = if outcome.is_some() { String::new() } else { "command".to_owned() };
        self.add(&Entry {
            seq: 0,
            at,
            who: run.by.clone(),
            uid: uid(),
            action: Action::Run,
            subject: format!("#{} {}{system}", run.run, run.runbook),
            why,
            outcome: outcome.map(str::to_owned),
            run: Some(run.run),
        });
    }

    fn in_order(&self, wanted: impl Fn(&Parcel) -> bool) -> Vec<Parcel> {
        let mut found: Vec<Parcel> = self.parcels.iter().filter(|parcel| wanted(parcel)).cloned().collect();
        found.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        found
    }

    /// Only what waits changes, and what was tried once was tried.
    fn may_become(&self, new: &Parcel) -> Result<()> {
        let old = self
            .parcels
            .iter()
            .find(|parcel| parcel.id == new.id)
            .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no parcel `{}`", new.id)))?;
        if old.state != ParcelState::Queued {
            return Err(Error::new(Kind::Conflict, format!("parcel `{}` is {} already", old.id, old.state.name())).permanent());
        }
        if Channel::of(old) != Channel::of(new) || old.created != new.created || new.attempts <= old.attempts {
            return Err(Error::new(Kind::Bug, format!("parcel `{}` became another one", old.id)));
        }
        Ok(())
    }

    fn put(&mut self, parcel: &Parcel) {
        if !self.parcels.iter().any(|known| known.id == parcel.id) {
            self.parcels.push(parcel.clone());
        }
    }
}

fn summary(recorded: &Recorded) -> Summary {
    let run = &recorded.run;
    Summary {
        run: run.run,
        id: run.id,
        runbook: run.runbook.clone(),
        system: run.system.clone(),
        status: run.status,
        exit_code: run.exit_code,
        trigger: run.trigger,
        by: run.by.clone(),
        parent: run.parent.clone(),
        started: run.started,
        ended: run.ended,
        duration_ms: run.duration_ms,
        changes: run.changes() as u64,
        level: run.level(),
        note: note_of(run),
        supervisor: Some(recorded.supervisor),
    }
}
