//! A day of the five systems under watch, with all that goes wrong in one: each trouble is one incident, told
//! when it begins and when it ends, repaired within its budget; and nothing else is told or done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use super::watch::{LOOK, Means, Order, Repairer, Watch};
use crate::error::Result;
use crate::model::system::{Rule, RuleKind};
use crate::model::{Incident, RepairState, Sample, Selector, Series, System};
use crate::store::{IncidentFilter, Keep, Memory, Samples, Store};

const MIDNIGHT: &str = "2026-11-20T16:00:00Z";
const SYSTEMS: [(&str, &str); 5] = [
    ("ai-hub", include_str!("../../runbooks/systems/ai-hub.toml")),
    ("ai-notebook", include_str!("../../runbooks/systems/ai-notebook.toml")),
    ("education", include_str!("../../runbooks/systems/education.toml")),
    ("fin-pre-assist", include_str!("../../runbooks/systems/fin-pre-assist.toml")),
    ("football", include_str!("../../runbooks/systems/football.toml")),
];
/// Everything is measured, and the rules are looked at, so often.
const STEP: SignedDuration = SignedDuration::from_mins(1);
const DAY: i64 = 24 * 60;
/// A repair that works has worked after so long.
const HEALS: SignedDuration = SignedDuration::from_mins(1);

/// What goes wrong, in minutes of the day.
struct Trouble {
    system: &'static str,
    rule: &'static str,
    from: i64,
    until: i64,
    is: Is,
}

#[derive(Clone, Copy, PartialEq)]
enum Is {
    /// Wrong until it is over by itself or by a person.
    Wrong,
    /// Wrong until it is repaired.
    Repairable,
    /// Wrong for so many minutes, and well for as many.
    Coming(i64),
    /// Not measured: nobody can say.
    Unknown,
}

const TROUBLES: [Trouble; 9] = [
    Trouble { system: "ai-hub", rule: "ServiceDown", from: 180, until: DAY, is: Is::Repairable },
    Trouble { system: "football", rule: "HighErrorRate", from: 240, until: 270, is: Is::Wrong },
    Trouble { system: "education", rule: "ServiceDown", from: 300, until: 480, is: Is::Wrong },
    Trouble { system: "ai-notebook", rule: "ServiceDown", from: 500, until: 590, is: Is::Coming(2) },
    Trouble { system: "fin-pre-assist", rule: "RedisHighMemoryUsage", from: 540, until: 600, is: Is::Coming(4) },
    Trouble { system: "ai-hub", rule: "HighMemoryUsage", from: 660, until: 690, is: Is::Unknown },
    Trouble { system: "fin-pre-assist", rule: "HighCPUUsage", from: 970, until: DAY, is: Is::Repairable },
    Trouble { system: "ai-notebook", rule: "HighResponseTime", from: 1085, until: 1120, is: Is::Wrong },
    Trouble { system: "education", rule: "DiskSpaceLow", from: 1200, until: DAY, is: Is::Repairable },
];

/// The process is killed, and started again at once.
const KILLED: [i64; 6] = [181, 305, 360, 545, 668, 1205];
/// Nothing may happen by itself.
const PAUSED: std::ops::Range<i64> = 960..1020;
/// The machine sleeps.
const ASLEEP: std::ops::Range<i64> = 1080..1130;
/// The clock is put back.
const BACK: (i64, SignedDuration) = (860, SignedDuration::from_mins(-20));

/// Remembers what it was asked for, and when.
#[derive(Default)]
struct Repairs {
    now: Mutex<Timestamp>,
    orders: Mutex<Vec<(Timestamp, Order)>>,
}

impl Repairer for Repairs {
    fn start(&self, order: &Order) -> Result<u64> {
        let mut orders = self.orders.lock().unwrap();
        orders.push((*self.now.lock().unwrap(), order.clone()));
        // A run nobody knows is over.
        Ok(1000 + orders.len() as u64)
    }
}

/// The series that rules are about, as a world has them.
#[derive(Default)]
struct World {
    counters: BTreeMap<Series, f64>,
    /// By the selectors that select them.
    series: BTreeMap<String, Series>,
}

impl World {
    /// A series that a selector selects.
    fn series(&mut self, text: &str) -> Series {
        self.series.entry(text.to_owned()).or_insert_with(|| Self::selected(text)).clone()
    }

    fn selected(text: &str) -> Series {
        let selector: Selector = text.parse().unwrap();
        let values = ["500", "ai-notebook-backend", "fin-pre-assist-backend", "ext4", ""];
        let labels = ["status", "job", "fstype", "mode"];
        let exact = labels.iter().fold(Series::new(&selector.name), |series, label| match selector.exactly(label) {
            Some(value) => series.with(*label, value),
            None => series,
        });
        let candidates = labels.iter().flat_map(|label| values.iter().map(|value| exact.clone().with(*label, *value)));
        std::iter::once(exact.clone()).chain(candidates).find(|series| selector.selects(series)).unwrap()
    }

    fn counted(&mut self, series: Series, more: f64) -> (Series, f64) {
        let counter = self.counters.entry(series.clone()).or_default();
        *counter += more;
        (series, *counter)
    }

    /// What is measured of a rule: half of what it bears, or a tenth too much.
    fn measure(&mut self, system: &str, rule: &Rule, is_bad: bool) -> Vec<(Series, f64)> {
        let level = match (rule.above, rule.below) {
            (Some(limit), _) => limit * if is_bad { 1.1 } else { 0.5 },
            (_, Some(limit)) => limit * if is_bad { 0.9 } else { 1.5 },
            _ => 0.0,
        };
        let level = level / rule.scale.unwrap_or(1.0);
        let series = self.series(&rule.series).with("of", system);
        let total = rule.total.as_ref().map(|text| self.series(text).with("of", system));
        let total = || total.clone().unwrap();
        let seconds = STEP.as_secs_f64();
        match rule.kind {
            RuleKind::Down => vec![(series, if is_bad { 0.0 } else { 1.0 })],
            RuleKind::Value => vec![(series, level)],
            RuleKind::Share => vec![(series, level * 100.0), (total(), 100.0)],
            RuleKind::Used => vec![(series, (1.0 - level) * 100.0), (total(), 100.0)],
            RuleKind::Rate => vec![self.counted(series, level * seconds)],
            RuleKind::Busy => vec![self.counted(series, (1.0 - level) * seconds)],
            RuleKind::Ratio => {
                let fine = total().with("status", "200");
                vec![self.counted(series, level * seconds), self.counted(fine, (1.0 - level) * seconds)]
            }
            RuleKind::Quantile => {
                let bounds = [0.1, level, f64::INFINITY];
                let bucket = |world: &mut Self, bound: f64| {
                    let within = if is_bad && bound < 0.5 { 0.0 } else { 1.0 };
                    world.counted(
                        series.clone().with("le", if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() }),
                        within * seconds,
                    )
                };
                bounds.into_iter().map(|bound| bucket(self, bound)).collect()
            }
        }
    }
}

struct Day {
    store: Arc<dyn Store>,
    samples: Arc<Samples>,
    repairs: Arc<Repairs>,
    world: World,
    watches: Vec<(System, Watch)>,
}

fn midnight() -> Timestamp {
    MIDNIGHT.parse().unwrap()
}

/// The moment so many minutes into the day, by the clock that is put back once.
fn clock(minute: i64) -> Timestamp {
    let back = if minute >= BACK.0 { BACK.1 } else { SignedDuration::ZERO };
    midnight() + STEP * i32::try_from(minute).unwrap() + back
}

impl Day {
    fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        let samples = Arc::new(Samples::in_memory(Keep::default()).unwrap());
        let mut day = Self { store, samples, repairs: Arc::default(), world: World::default(), watches: Vec::new() };
        day.start(midnight());
        day
    }

    /// A process begins, with what is in the stores.
    fn start(&mut self, now: Timestamp) {
        let means = || Means {
            project: String::new(),
            store: self.store.clone(),
            samples: self.samples.clone(),
            repairer: self.repairs.clone(),
            look: LOOK,
        };
        let watch = |(name, text): &(&str, &str)| {
            let system = System { name: (*name).to_owned(), ..toml::from_str(text).unwrap() };
            (system.clone(), Watch::new(system, means(), now).unwrap())
        };
        self.watches = SYSTEMS.iter().map(watch).collect();
    }

    fn state(&self, system: &str, rule: &str, minute: i64, now: Timestamp) -> Option<Is> {
        let trouble = TROUBLES
            .iter()
            .find(|trouble| (trouble.system, trouble.rule) == (system, rule) && (trouble.from..trouble.until).contains(&minute))?;
        let is_repaired = |orders: &[(Timestamp, Order)]| {
            let works = |at: Timestamp| at >= clock(trouble.from) && now.duration_since(at) >= HEALS;
            orders.iter().any(|(at, order)| order.system == system && works(*at))
        };
        match trouble.is {
            Is::Repairable if is_repaired(&self.repairs.orders.lock().unwrap()) => None,
            Is::Coming(each) if (minute - trouble.from) / each % 2 == 1 => None,
            is => Some(is),
        }
    }

    fn step(&mut self, minute: i64) {
        let now = clock(minute);
        *self.repairs.now.lock().unwrap() = now;
        let paused = PAUSED.contains(&minute).then_some("by maya: freeze");
        for place in 0..self.watches.len() {
            let system = self.watches[place].0.clone();
            let mut measured = Vec::new();
            for (name, rule) in &system.rules {
                let state = self.state(&system.name, name, minute, now);
                let found = self.world.measure(&system.name, rule, state.is_some());
                let reading = |value: f64| if state == Some(Is::Unknown) { None } else { Some(value) };
                measured.extend(found.into_iter().map(|(series, value)| (series, Sample { at: now, value: reading(value).into() })));
            }
            let watch = &mut self.watches[place].1;
            watch.take_in(measured).unwrap();
            watch.tick(now, paused).unwrap();
        }
    }

    /// What is open of each kind is open once.
    fn is_sound(&self) {
        let open = self.store.incidents(&IncidentFilter { open: true, limit: 1000, ..IncidentFilter::default() }).unwrap();
        let kinds: BTreeSet<&String> = open.iter().map(|incident| &incident.fingerprint).collect();
        assert_eq!(kinds.len(), open.len(), "{open:#?}");
    }
}

fn minutes(at: Timestamp) -> i64 {
    at.duration_since(midnight()).as_mins()
}

/// An incident in one line: what it is, its minutes, and what became of what was tried.
fn line(day: &Day, incident: &Incident) -> String {
    let end = incident.resolved.as_ref().map_or("open".to_owned(), |resolved| minutes(resolved.at).to_string());
    let repairs = day.store.repairs(&incident.system, midnight()).unwrap();
    let states: Vec<RepairState> = repairs.iter().filter(|repair| repair.incident == incident.number).map(|repair| repair.state).collect();
    format!("{} {} {} {}..{end} {states:?}", incident.system, incident.source.kind(), incident.title, minutes(incident.opened))
}

#[test]
fn a_day_of_the_five_systems_has_the_incidents_it_should_have_and_no_other() {
    let mut day = Day::new();
    for minute in (0..DAY).filter(|minute| !ASLEEP.contains(minute)) {
        if KILLED.contains(&minute) {
            day.start(clock(minute));
        }
        day.step(minute);
        day.is_sound();
    }
    let mut incidents = day.store.incidents(&IncidentFilter { limit: 1000, ..IncidentFilter::default() }).unwrap();
    incidents.reverse();
    let lines: Vec<String> = incidents.iter().map(|incident| line(&day, incident)).collect();
    let expected = [
        "ai-hub rule 服务不可用 181..182 [Helped]",
        "football rule API错误率过高 246..270 []",
        "education rule 服务已停止 302..480 [Failed, Failed, Failed, Escalated]",
        "ai-notebook rule 服务宕机 501..590 [Helped]",
        "ai-hub silence 内存使用率过高：无数据 665..690 []",
        "fin-pre-assist rule CPU 使用率过高 959..1001 [Helped]",
        "education rule 磁盘空间不足 1190..1191 [Helped]",
    ];
    assert_eq!(lines, expected);
    let mut told: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for parcel in day.store.queued().unwrap() {
        *told.entry(parcel.message.subject).or_default().entry(parcel.contact).or_default() += 1;
    }
    let expected = [
        ("[P0 升级] 智能教育平台：服务已停止", 4),
        ("[P0 已恢复] AI Hub：服务不可用", 1),
        ("[P0 已恢复] AI智能记事本：服务宕机", 3),
        ("[P0 已恢复] 智能教育平台：服务已停止", 1),
        ("[P0 抖动] AI智能记事本：服务宕机", 1),
        ("[P0 提醒] AI智能记事本：服务宕机", 2),
        ("[P0 提醒] 智能教育平台：服务已停止", 3),
        ("[P0] AI Hub：服务不可用", 1),
        ("[P0] AI智能记事本：服务宕机", 3),
        ("[P0] 智能教育平台：服务已停止", 1),
        ("[P1 升级] 足球预测系统：API错误率过高", 2),
        ("[P1 已恢复] 足球预测系统：API错误率过高", 1),
        ("[P1 已恢复] 智能教育平台：磁盘空间不足", 1),
        ("[P1] 智能教育平台：磁盘空间不足", 1),
        ("[P1] 足球预测系统：API错误率过高", 1),
        ("[P3 已恢复] AI Hub：内存使用率过高：无数据", 1),
        ("[P3 已恢复] 金融售前方案辅助编写系统：CPU 使用率过高", 1),
        ("[P3] AI Hub：内存使用率过高：无数据", 1),
        ("[P3] 金融售前方案辅助编写系统：CPU 使用率过高", 1),
        ("[P3 升级] 金融售前方案辅助编写系统：CPU 使用率过高", 1),
    ];
    let most = |(subject, times): (String, BTreeMap<String, usize>)| (subject, times.values().copied().max().unwrap_or(0));
    let told: BTreeMap<String, usize> = told.into_iter().map(most).collect();
    let expected: BTreeMap<String, usize> = expected.map(|(subject, times)| (subject.to_owned(), times)).into();
    assert_eq!(told, expected);
}
