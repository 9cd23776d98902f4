//! The journal of a unit.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::command::run;
use super::units::{Systemd, UnitName, require};
use crate::error::{Error, Kind, Result};
use crate::host::Moment;

/// Which entries to read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::host) struct JournalOptions {
    since: Option<Moment>,
    until: Option<Moment>,
    lines: usize,
    priority: Option<Priority>,
    grep: Option<String>,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { since: None, until: None, lines: 1000, priority: None, grep: None }
    }
}

impl JournalOptions {
    /// So many of the newest entries of that time.
    pub(in crate::host) fn newest(lines: usize, since: Option<Moment>, until: Option<Moment>) -> Self {
        Self { since, until, lines, ..Self::default() }
    }
}

/// How bad an entry is, from the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Priority {
    Emerg,
    Alert,
    Crit,
    #[serde(alias = "error")]
    Err,
    #[serde(alias = "warn")]
    Warning,
    Notice,
    Info,
    Debug,
}

const PRIORITIES: [Priority; 8] =
    [Priority::Emerg, Priority::Alert, Priority::Crit, Priority::Err, Priority::Warning, Priority::Notice, Priority::Info, Priority::Debug];

const LIMIT: Duration = Duration::from_secs(60);
const MOST_LINES: usize = 50_000;

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::host) struct Entry {
    pub(in crate::host) time: Option<Timestamp>,
    priority: Option<Priority>,
    pub(in crate::host) text: String,
    program: String,
    pid: Option<u64>,
}

impl Systemd {
    /// The newest entries of a unit's journal, the oldest first.
    pub(in crate::host) async fn journal(&self, name: &UnitName, options: JournalOptions) -> Result<Vec<Entry>> {
        require()?;
        let arguments = arguments(name, &options, self.ctx.now())?;
        let said = run("journalctl", &arguments, LIMIT).await?;
        // Without the right to read it, journalctl succeeds with nothing.
        if said.stderr.contains("not seeing messages") || said.stderr.contains("insufficient permissions") {
            return Err(Error::new(Kind::Refused, format!("the journal of `{}` may not be read by this user", name.full()))
                .target(name.full())
                .hint("add the user to the group `systemd-journal`"));
        }
        // It also fails when a search finds nothing, and says nothing then.
        if !said.ok && !said.stderr.trim().is_empty() {
            return Err(Error::new(Kind::Remote, format!("the journal of `{}`: {}", name.full(), said.stderr.trim())).target(name.full()));
        }
        Ok(said.stdout.lines().filter_map(entry).collect())
    }
}

fn arguments(name: &UnitName, options: &JournalOptions, now: Timestamp) -> Result<Vec<String>> {
    let lines = options.lines.min(MOST_LINES);
    // Without `--all` long texts come as null; `--quiet` would hide that there is no right to read.
    let mut arguments: Vec<String> = ["--output=json", "--no-pager", "--all"].map(str::to_owned).into();
    arguments.push(format!("--unit={}", name.full()));
    arguments.push(format!("--lines={lines}"));
    for (option, moment) in [("since", options.since), ("until", options.until)] {
        let Some(moment) = moment else { continue };
        let time = moment.resolve(now)?;
        arguments.push(format!("--{option}=@{}.{:06}", time.as_second(), time.subsec_microsecond()));
    }
    if let Some(priority) = options.priority {
        arguments.push(format!("--priority={}", priority as u8));
    }
    if let Some(pattern) = &options.grep {
        arguments.push(format!("--grep={pattern}"));
    }
    Ok(arguments)
}

fn entry(line: &str) -> Option<Entry> {
    let fields: Value = serde_json::from_str(line).ok()?;
    let number = |name: &str| fields[name].as_str().and_then(|text| text.parse::<u64>().ok());
    let micros = number("__REALTIME_TIMESTAMP").and_then(|micros| i64::try_from(micros).ok());
    Some(Entry {
        time: micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()),
        priority: number("PRIORITY").and_then(|number| PRIORITIES.get(usize::try_from(number).ok()?)).copied(),
        text: text(&fields["MESSAGE"]),
        program: text(&fields["SYSLOG_IDENTIFIER"]),
        pid: number("_PID"),
    })
}

/// A field: a text, a list of bytes when it is none, or a list of both when it is there twice.
fn text(field: &Value) -> String {
    match field {
        Value::String(text) => text.clone(),
        Value::Array(list) if list.iter().all(Value::is_u64) => {
            let bytes: Vec<u8> = list.iter().filter_map(Value::as_u64).filter_map(|byte| u8::try_from(byte).ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_also_when_they_are_no_text() {
        let line = r#"{"__REALTIME_TIMESTAMP":"1763719200123456","PRIORITY":"3","SYSLOG_IDENTIFIER":"nginx","_PID":"812","MESSAGE":"bind() failed","_TRANSPORT":"stdout"}"#;
        let entry = entry(line).unwrap();
        assert_eq!((entry.priority, entry.text.as_str(), entry.pid), (Some(Priority::Err), "bind() failed", Some(812)));
        assert_eq!(entry.time.unwrap().to_string(), "2025-11-21T10:00:00.123456Z");
        let bytes = super::entry(r#"{"MESSAGE":[104,105,255]}"#).unwrap();
        assert_eq!((bytes.text.as_str(), bytes.priority), ("hi\u{fffd}", None));
        assert_eq!(super::entry("-- No entries --"), None);
    }

    #[test]
    fn values_of_options_are_never_options() {
        let options: JournalOptions =
            serde_json::from_str(r#"{"grep":"--help","priority":"error","since":"15m","lines":9999999}"#).unwrap();
        let arguments = arguments(&UnitName::read("nginx").unwrap(), &options, "2026-11-21T12:00:00.5Z".parse().unwrap()).unwrap();
        assert!(
            ["--grep=--help", "--priority=3", "--since=@1795261500.500000", "--lines=50000", "--unit=nginx.service"]
                .iter()
                .all(|wanted| arguments.iter().any(|argument| argument == wanted)),
            "{arguments:?}"
        );
    }
}
