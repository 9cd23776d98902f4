//! A run as lines: one per event, for pipes, CI and journald.

use std::time::{Duration, Instant};

use jiff::tz::TimeZone;

use crate::cli::report::{detail, visible};
use crate::cli::terminal::Terminal;
use crate::model::{Event, EventKind, Outcome, Run, Span};

/// How often a silent run says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Writes a line per event.
pub(super) struct Plain {
    terminal: Terminal,
    zone: TimeZone,
    said: Instant,
}

impl Plain {
    pub(super) fn new(terminal: Terminal) -> Self {
        Self { terminal, zone: zone_of_machine(), said: Instant::now() }
    }

    pub(super) fn begin(&mut self, run: &Run) {
        let params: String = said_params(run).map(|(key, value)| format!(" {key}={value}")).collect();
        let system = run.system.as_deref().map(|system| format!(" system={system}")).unwrap_or_default();
        self.line(run.started, &format!("{} #{} started{system}{params} by={} version={}", run.runbook, run.run, run.by, run.version));
    }

    pub(super) fn event(&mut self, run: &Run, event: &Event) {
        match &event.kind {
            EventKind::StepEnded { key, outcome, duration_ms } => {
                let Some(step) = run.steps.iter().find(|step| step.key == *key) else { return };
                let symbol = match outcome {
                    Outcome::Value(_) => self.terminal.level(crate::model::Level::Ok),
                    Outcome::Error(_) => self.terminal.level(crate::model::Level::Critical),
                };
                let again = if step.attempt > 1 { format!(", try {}", step.attempt) } else { String::new() };
                let why = step.error.as_ref().map(|error| format!(" {}", visible(&error.message))).unwrap_or_default();
                let changes = if step.changes() == 0 { String::new() } else { format!(" changed={}", step.changes()) };
                self.line(event.at, &format!("{symbol} {} ({}{again}){changes}{why}", visible(&step.key), Span::millis(*duration_ms)));
            }
            EventKind::Effect { effect, .. } => self.line(event.at, &format!("  {}", visible(&effect.summary))),
            EventKind::Checked(check) => {
                let detail = visible(&detail(check));
                self.line(
                    event.at,
                    &format!(
                        "{} {}{}{detail}",
                        self.terminal.level(check.level),
                        visible(&check.name),
                        if detail.is_empty() { "" } else { ": " }
                    ),
                );
            }
            EventKind::Log { text, .. } => self.line(event.at, &format!("  {}", visible(text))),
            EventKind::Progress { text, .. } if self.said.elapsed() >= HEARTBEAT => {
                self.line(event.at, &format!("  {}", visible(text)));
            }
            _ => {}
        }
    }

    fn line(&mut self, at: jiff::Timestamp, text: &str) {
        self.said = Instant::now();
        let time = at.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string();
        self.terminal.say(&format!("{time} {text}"));
    }
}

/// The zone of this machine. `TimeZone::system` would first read the names of all zones there are.
pub(super) fn zone_of_machine() -> TimeZone {
    let file = || TimeZone::tzif("local", &std::fs::read("/etc/localtime").ok()?).ok();
    let named = std::env::var_os("TZ").is_some();
    if named { None } else { file() }.unwrap_or_else(TimeZone::system)
}

/// The parameters that say something: not those that are off or empty.
pub(super) fn said_params(run: &Run) -> impl Iterator<Item = (&str, String)> {
    use serde_json::Value;
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    };
    run.params.iter().filter(move |(_, value)| says(value)).map(|(key, value)| (key.as_str(), visible(&short(value))))
}

/// A value short enough for a line.
pub(super) fn short(value: &serde_json::Value) -> String {
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
