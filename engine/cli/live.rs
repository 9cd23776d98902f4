//! A run on a terminal: finished steps scroll up, what runs stays below with its time.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::report::visible;
use crate::cli::terminal::{DIM, STRONG, Terminal, styled};
use crate::model::{Event, EventKind, Level, Outcome, Run, Span};
use crate::words;

/// The live part of a terminal.
pub(super) struct Live {
    terminal: Terminal,
    bars: MultiProgress,
    steps: BTreeMap<String, ProgressBar>,
    checks: Option<ProgressBar>,
    begun: bool,
}

impl Live {
    pub(super) fn new(terminal: Terminal) -> Self {
        Self { terminal, bars: MultiProgress::new(), steps: BTreeMap::new(), checks: None, begun: false }
    }

    pub(super) fn event(&mut self, run: &Run, event: &Event) {
        if !self.begun {
            self.begun = true;
            let params: String = crate::cli::plain::said_params(run).map(|(key, value)| format!("  {key}={value}")).collect();
            let system = run.system.as_deref().map(|system| format!("  {system}")).unwrap_or_default();
            self.print(&format!(
                "{} {}{system}{}",
                styled(STRONG, &run.runbook),
                styled(DIM, format!("#{}", run.run)),
                styled(DIM, params)
            ));
        }
        match &event.kind {
            EventKind::StepStarted(intent) => {
                let bar = self.spinner(&intent.key);
                self.steps.insert(intent.key.clone(), bar);
            }
            EventKind::StepEnded { key, outcome, duration_ms } => {
                if let Some(bar) = self.steps.remove(key) {
                    bar.finish_and_clear();
                }
                let level = if matches!(outcome, Outcome::Value(_)) { Level::Ok } else { Level::Critical };
                let depth = run.steps.iter().filter(|step| is_inside(key, &step.key)).count();
                let name = run.steps.iter().find(|step| step.key == *key).map_or(key.as_str(), |step| step.name.as_str());
                let took = styled(DIM, Span::millis(*duration_ms));
                self.print(&format!(" {}{} {:<40} {took}", "  ".repeat(depth), self.terminal.level(level), visible(name)));
            }
            EventKind::Effect { effect, .. } => self.print(&format!("     {}", visible(&effect.summary))),
            EventKind::Progress { step, text, done } => {
                if let Some(bar) = self.steps.get(step) {
                    let share = done.map(|done| format!("{:.0} %  ", done * 100.0)).unwrap_or_default();
                    bar.set_message(format!("{}  {share}{}", visible(step), visible(text)));
                }
            }
            EventKind::Log { text, .. } => self.print(&styled(DIM, format!("     {}", visible(text)))),
            EventKind::Checked(_) => {
                let bar = self.checks.get_or_insert_with(|| {
                    let bar = self.bars.add(ProgressBar::new_spinner());
                    bar.set_style(style());
                    bar.enable_steady_tick(Duration::from_millis(100));
                    bar
                });
                bar.set_message(format!("{} answered", words::count(run.checks.len(), "check")));
            }
            _ => {}
        }
    }

    /// Clears the live part; what scrolled up stays.
    pub(super) fn end(&mut self) {
        for (_, bar) in std::mem::take(&mut self.steps) {
            bar.finish_and_clear();
        }
        if let Some(bar) = self.checks.take() {
            bar.finish_and_clear();
        }
    }

    fn spinner(&self, key: &str) -> ProgressBar {
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(style());
        bar.set_message(visible(key));
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    /// Prints above the live part.
    fn print(&self, text: &str) {
        // The terminal may be gone; the run goes on.
        let _ = self.bars.println(text);
    }
}

/// Whether a step is part of another one. A name may hold a `/` of its own: `write /etc/hosts`.
fn is_inside(key: &str, other: &str) -> bool {
    key.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template(" {spinner} {wide_msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[test]
fn a_slash_in_a_name_makes_no_part() {
    assert!(is_inside("move a/undo: bring back a", "move a"));
    assert!(!is_inside("write /etc/hosts", "write /etc/hosts") && !is_inside("write /etc/hosts", "read"));
}
