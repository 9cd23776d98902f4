//! What a system keeps: databases, caches, backups, and the upkeep of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::model::{Cron, Span};

/// A PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// The host.
    pub host: String,
    /// The port; 5432 when absent.
    pub port: u16,
    /// The name of the database.
    pub name: String,
    /// The role.
    pub user: String,
    /// Its password, as `${secret:NAME}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// `disable`, `prefer`, `require` (verified), `require-noverify`.
    pub tls: String,
    /// A file with the authorities to trust, when not the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The service it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The most connections it accepts, as documented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Tables that are counted and compared.
    pub tables: Vec<String>,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 5432,
            name: String::new(),
            user: String::new(),
            password: None,
            tls: String::new(),
            ca: None,
            service: None,
            max_connections: None,
            tables: Vec::new(),
        }
    }
}

/// A Redis server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// The host.
    pub host: String,
    /// The port; 6379 when absent.
    pub port: u16,
    /// The number of the database.
    pub database: u16,
    /// The user, when it has users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its password, as `${secret:NAME}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// The service it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The memory it may use, as documented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<String>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { host: String::new(), port: 6379, database: 0, user: None, password: None, tls: false, service: None, max_memory: None }
    }
}

/// Where backups go and how long they stay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backup {
    /// The directory of this system's sets, shared with no other system.
    pub dir: String,
    /// The remote copy, as `s3://bucket/prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// Settings of the remote.
    pub remote_options: BTreeMap<String, String>,
    /// How long local sets stay.
    pub keep: Option<Span>,
    /// How long single parts stay when it is not as long as the set: `cache`.
    pub keep_parts: BTreeMap<String, Span>,
    /// How long remote sets stay.
    pub keep_remote: Option<Span>,
    /// How many verified sets stay whatever their age.
    pub keep_min: Option<u32>,
    /// What a set contains.
    pub scope: Vec<String>,
    /// Names of secrets that encrypt or upload it.
    pub secrets: Vec<String>,
    /// The newest good set may be this old (RPO).
    pub rpo: Option<Span>,
    /// A restore may take this long (RTO).
    pub rto: Option<Span>,
}

/// Upkeep of data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Maintenance {
    /// When it may disturb, as cron of its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Cron>,
    /// How long the window is open.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
    /// The calendars of the system whose days are windows from midnight to midnight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calendars: Vec<String>,
    /// Old rows that go, by table.
    pub purge: BTreeMap<String, Purge>,
    /// Indexes that must exist, by name.
    pub indexes: BTreeMap<String, Index>,
    /// Files that go, by what they are.
    pub cleanup: BTreeMap<String, Cleanup>,
    /// How many releases' images stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_images: Option<u32>,
}

impl Maintenance {
    /// Until when the window is open at this moment. One that begins in hours that clocks skip begins after them.
    pub(super) fn window_until(&self, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
        let (window, hold) = (self.window.as_ref()?, self.hold?);
        let calendar = window.calendar();
        let first = hold.before(at);
        let mut begin = zone.to_datetime(first);
        let mut until = None;
        loop {
            begin = calendar.next(begin)?;
            let began = begin.to_zoned(zone.clone()).ok()?.timestamp();
            if began > at {
                return until;
            }
            if began > first {
                until = began.checked_add(hold.signed()).ok();
            }
        }
    }
}

/// Old rows of a table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Purge {
    /// The column with the time of a row.
    pub column: String,
    /// How long rows stay after it.
    pub keep: Span,
    /// How many rows go in one transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// Whether they are written to the backup first.
    pub archive: bool,
}

/// An index that must exist.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Index {
    /// Its table.
    pub table: String,
    /// Its columns or expressions, in order.
    pub columns: Vec<String>,
    /// `btree`, `gin`, `brin`; the server's usual one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Which rows, as SQL.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// Files that go after a while.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cleanup {
    /// Which, as a pattern with an absolute directory.
    pub path: String,
    /// How long they stay after they were last written.
    pub keep: Span,
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::model::System;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn sundays(hours: u64) -> System {
        let maintenance =
            Maintenance { window: Some("0 2 * * 0".parse().unwrap()), hold: Some(Span::secs(hours * 3600)), ..Maintenance::default() };
        System { timezone: "Europe/Berlin".to_owned(), maintenance, ..System::default() }
    }

    #[test]
    fn a_window_is_open_from_its_start_and_not_at_its_end() {
        let system = sundays(2);
        let until = |text| system.maintenance_until(at(text));
        assert_eq!(until("2026-03-22T00:59:59Z"), None);
        assert_eq!(until("2026-03-22T01:00:00Z"), Some(at("2026-03-22T03:00:00Z")));
        assert_eq!(until("2026-03-22T02:59:59.9Z"), Some(at("2026-03-22T03:00:00Z")));
        assert_eq!(until("2026-03-22T03:00:00Z"), None);
    }

    #[test]
    fn clock_changes_move_a_window_and_never_lose_or_double_it() {
        let system = sundays(1);
        let opens = |from: &str, minutes: i64| {
            let minute = |minute: i64| at(from) + SignedDuration::from_mins(minute);
            (0..minutes).map(minute).filter(|at| system.maintenance_until(*at).is_some()).count()
        };
        // 02:00 is skipped on the 29th of March, and there twice on the 25th of October.
        assert_eq!(opens("2026-03-28T12:00:00Z", 1440), 60);
        assert_eq!(opens("2026-10-24T12:00:00Z", 1440), 60);
    }

    #[test]
    fn one_that_is_longer_than_its_interval_is_always_open() {
        let mut system = sundays(2);
        system.maintenance.window = Some("0 * * * *".parse().unwrap());
        assert_eq!(system.maintenance_until(at("2026-03-22T12:30:00Z")), Some(at("2026-03-22T14:00:00Z")));
        system.maintenance.hold = None;
        assert_eq!(system.maintenance_until(at("2026-03-22T12:30:00Z")), None);
    }

    #[test]
    fn the_days_of_a_calendar_are_windows_from_midnight_to_midnight() {
        let mut system = sundays(1);
        system.calendars = [("releases".to_owned(), vec!["2026-12-24..2026-12-25".parse().unwrap()])].into();
        let of = |system: &System, text| system.maintenance_until(at(text));
        assert_eq!(of(&system, "2026-12-24T12:00:00Z"), None);
        system.maintenance.calendars = vec!["releases".to_owned()];
        assert_eq!(of(&system, "2026-12-24T12:00:00Z"), Some(at("2026-12-24T23:00:00Z")));
        assert_eq!(of(&system, "2026-12-25T22:59:59Z"), Some(at("2026-12-25T23:00:00Z")));
        assert_eq!(of(&system, "2026-12-25T23:00:00Z"), None);
    }
}
