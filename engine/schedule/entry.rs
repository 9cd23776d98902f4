//! A schedule made ready: names looked up, zones opened.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::model::{CatchUp, Dates, Overlap, Schedule, Span, System, Window};
use crate::schedule::Timing;

/// A schedule that is on, with everything that is decided by.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name: `SYSTEM/NAME`.
    pub key: String,
    /// The runbook.
    pub runbook: String,
    /// The system it runs for.
    pub system: String,
    /// The parameters of its runs.
    pub params: BTreeMap<String, Value>,
    /// When it is due.
    pub timing: Timing,
    /// What is done when it is due.
    pub policy: Policy,
}

/// What is done when a schedule is due.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The zone of its windows and calendars.
    pub zone: TimeZone,
    /// How much later than due it starts, which is the same each time.
    pub delay: SignedDuration,
    /// What becomes of moments at which nobody was there.
    pub catch_up: CatchUp,
    /// It does not start when it is later than this.
    pub deadline: Option<SignedDuration>,
    /// What is done when the run before still goes on.
    pub overlap: Overlap,
    /// It starts only within one of these, if there are any.
    pub windows: Vec<Window>,
    /// The days it does not run on, by the name of their calendar.
    pub days_off: Vec<(String, Vec<Dates>)>,
    /// Whom it shares its turns with.
    pub group: Option<Group>,
}

/// Schedules of a system of which only so many run at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name: `SYSTEM/NAME`.
    pub name: String,
    /// How many.
    pub most: u32,
}

/// How the schedule of this name is called everywhere: `SYSTEM/NAME`.
pub fn key(system: &str, name: &str) -> String {
    format!("{system}/{name}")
}

/// The schedules of a system that are on.
///
/// # Errors
///
/// `config`, naming the schedule, for a zone, a calendar or a moment that is not there.
pub fn entries_of(system: &System) -> Result<Vec<Entry>> {
    let on = system.schedules.iter().filter(|(_, schedule)| schedule.enabled);
    on.map(|(name, schedule)| Entry::new(system, name, schedule)).collect()
}

/// The schedule in the header of a runbook, for the default system. A schedule of that system with the
/// same name, on or off, stands in its place: there is nothing then.
///
/// # Errors
///
/// `config`, as for those of a system.
pub fn entry_of_header(system: &System, runbook: &str, schedule: &Schedule) -> Result<Option<Entry>> {
    if system.schedules.contains_key(runbook) || !schedule.enabled {
        return Ok(None);
    }
    Entry::new(system, runbook, schedule).map(Some)
}

impl Entry {
    /// A schedule of a system.
    ///
    /// # Errors
    ///
    /// `config`, naming the schedule, for a zone, a calendar or a moment that is not there.
    pub fn new(system: &System, name: &str, schedule: &Schedule) -> Result<Self> {
        let key = key(&system.name, name);
        let wrong = |what: String| Error::new(Kind::Config, format!("schedule `{key}`: {what}"));
        let zone_name = schedule.timezone.as_deref().unwrap_or(&system.timezone);
        let zone = zone(zone_name).ok_or_else(|| wrong(format!("unknown time zone `{zone_name}`")))?;
        if let Some((field, what)) = schedule.problem() {
            let field = if field.is_empty() { String::new() } else { format!("`{field}`: ") };
            return Err(wrong(format!("{field}{what}")));
        }
        let timing = timing(schedule, &zone).ok_or_else(|| wrong("it has no moment".to_owned()))?;
        let days_off = schedule.calendars.iter().map(|name| {
            let dates = system.calendars.get(name).ok_or_else(|| wrong(format!("there is no calendar `{name}`")))?;
            Ok((name.clone(), dates.clone()))
        });
        let days_off = days_off.collect::<Result<_>>()?;
        let group = schedule
            .group
            .as_ref()
            .map(|name| Group { name: self::key(&system.name, name), most: system.groups.get(name).copied().unwrap_or(1) });
        let policy = Policy {
            zone,
            delay: delay(&key, schedule.jitter),
            catch_up: schedule.catch_up,
            deadline: schedule.deadline.map(Span::signed),
            overlap: schedule.overlap,
            windows: schedule.windows.clone(),
            days_off,
            group,
        };
        let runbook = schedule.runbook.clone().unwrap_or_else(|| name.to_owned());
        Ok(Self { key, runbook, system: system.name.clone(), params: schedule.params.clone(), timing, policy })
    }

    /// The rule it is due by, with its zone. Another rule is another schedule, with nothing to catch up with.
    pub fn rule(&self) -> String {
        match &self.timing {
            Timing::Cron(cron, zone) => format!("{cron} {}", zone.iana_name().unwrap_or_default()).trim_end().to_owned(),
            Timing::Every(every) => format!("every {}", Span(every.unsigned_abs()).exact()),
            Timing::At(at) => format!("at {at}"),
        }
    }

    /// Whether people mean it by this name: `SYSTEM/NAME`, or the name alone.
    pub fn is_called(&self, name: &str) -> bool {
        self.key == name || self.key.strip_prefix(&self.system).and_then(|rest| rest.strip_prefix('/')) == Some(name)
    }

    /// When it is to start, being due then.
    pub fn start(&self, due: Timestamp) -> Timestamp {
        due.checked_add(self.policy.delay).unwrap_or(due)
    }
}

impl Policy {
    /// The calendar that has this moment's day, as it is in its zone.
    pub fn day_off(&self, at: Timestamp) -> Option<&str> {
        if self.days_off.is_empty() {
            return None;
        }
        let date: Date = self.zone.to_datetime(at).date();
        let (name, _) = self.days_off.iter().find(|(_, dates)| dates.iter().any(|dates| dates.contain(date)))?;
        Some(name)
    }

    /// Whether it may start at this moment.
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.windows.is_empty() || self.windows.iter().any(|window| window.is_open(self.zone.to_datetime(at)))
    }
}

fn zone(name: &str) -> Option<TimeZone> {
    if name.is_empty() { Some(TimeZone::system()) } else { TimeZone::get(name).ok() }
}

fn timing(schedule: &Schedule, zone: &TimeZone) -> Option<Timing> {
    if let Some(cron) = &schedule.cron {
        return Some(Timing::Cron(cron.clone(), zone.clone()));
    }
    if let Some(every) = schedule.every {
        return Some(Timing::Every(every.signed()));
    }
    schedule.at?.instant(zone).map(Timing::At)
}

/// A part of the jitter that depends on the name alone, evenly spread over names.
fn delay(key: &str, jitter: Option<Span>) -> SignedDuration {
    let Some(jitter) = jitter else { return SignedDuration::ZERO };
    let hash = Sha256::digest(key.as_bytes());
    let start: [u8; 8] = hash[..8].try_into().expect("a SHA-256 has 32 bytes");
    let millis = (u128::from(u64::from_be_bytes(start)) * jitter.0.as_millis()) >> 64;
    SignedDuration::from_millis(i64::try_from(millis).unwrap_or(0))
}
