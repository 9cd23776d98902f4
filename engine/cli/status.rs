//! `runbook status`: is the daemon alive, what does it do, and what is wrong.

use serde::Serialize;

use crate::cli::app::App;
use crate::cli::history::ago;
use crate::cli::report::visible;
use crate::cli::terminal::{BAD, DIM, GOOD, STRONG, WARN, styled};
use crate::config::Problems;
use crate::error::{Kind, Result};
use crate::host::notify::outbox::Standing as Outbox;
use crate::model::{Incident, IncidentState, RunState};
use crate::run::daemon::{Ask, Schedules, Standing, Watches, Watching, ask};
use crate::run::outbox;
use crate::store::{Filter, IncidentFilter, Incidents, Store, Summary};
use crate::words;

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// How everything stands.
#[derive(Serialize)]
struct Status {
    /// Nothing when no daemon serves this state.
    daemon: Option<Standing>,
    /// Runs that do not go on without a person.
    needs: Vec<Summary>,
    /// What is broken.
    incidents: Vec<Incident>,
    outbox: Outbox,
}

pub(super) fn run(_: Args, app: &App) -> Result<u8, Problems> {
    let (state, store) = app.store()?;
    let daemon = match ask::<Standing>(&state, Ask::Status) {
        Ok(standing) => Some(standing),
        Err(error) if error.kind == Kind::Store => None,
        Err(error) => return Err(error.into()),
    };
    let states = vec![RunState::Waiting, RunState::Interrupted, RunState::NeedsAttention];
    let needs = store.list(&Filter { states, ..Filter::default() })?;
    let incidents = store.incidents(&IncidentFilter { open: true, ..IncidentFilter::default() })?;
    let status = Status { daemon, needs, incidents, outbox: outbox::standing(&store)? };
    if app.json {
        app.answer_json(&status)?;
    } else {
        tell(&status, app);
    }
    Ok(match (&status.daemon, status.is_well()) {
        (None, _) => 8,
        (Some(_), true) => 0,
        (Some(_), false) => 1,
    })
}

impl Status {
    fn is_well(&self) -> bool {
        let is_blind = |watches: &Watches| !watches.problems.is_empty() || watches.each.iter().any(is_half_blind);
        let is_wrong = |daemon: &Standing| !daemon.schedules.problems.is_empty() || is_blind(&daemon.watches);
        self.needs.is_empty()
            && !self.incidents.iter().any(needs_somebody)
            && self.outbox.dead == 0
            && !self.daemon.as_ref().is_some_and(is_wrong)
    }
}

/// Whether a watch does not look, or a part of what it should see is not told or not kept.
fn is_half_blind(watch: &Watching) -> bool {
    watch.problem.is_some() || watch.refused > 0 || watch.samplers.values().any(Option::is_some)
}

/// Whether nobody takes care of an incident yet, and nothing else is its reason.
fn needs_somebody(incident: &Incident) -> bool {
    incident.state == IncidentState::Open && incident.because.is_none()
}

fn line(app: &App, symbol: &str, title: &str, text: &str) {
    app.terminal.answer(&format!("{symbol} {title:<8} {text}"));
}

/// What runs by itself, and what keeps it from that.
fn tell_schedules(schedules: &Schedules, app: &App) {
    let (good, bad) = (app.terminal.symbol(GOOD, "●", "*"), app.terminal.symbol(BAD, "✖", "x"));
    let of = if schedules.systems.is_empty() { String::new() } else { format!(" of {}", schedules.systems.join(", ")) };
    let count = words::count(schedules.count, "schedule");
    let next = match (&schedules.paused, &schedules.next) {
        (Some(pause), _) => format!(", paused by {}     runbook schedule resume --all", visible(&pause.by)),
        (None, Some(next)) => format!(", next {} {}", next.schedule, next.at.strftime("%Y-%m-%d %H:%M:%S UTC")),
        (None, None) => String::new(),
    };
    line(app, if schedules.paused.is_some() { &bad } else { &good }, "time", &format!("{count}{of}{next}"));
    for problem in &schedules.problems {
        line(app, &bad, "time", &visible(problem));
    }
}

/// What is watched, and what keeps it from that.
fn tell_watches(watches: &Watches, app: &App) {
    let (good, bad) = (app.terminal.symbol(GOOD, "●", "*"), app.terminal.symbol(BAD, "✖", "x"));
    for watch in &watches.each {
        let system = visible(&watch.system);
        let Some(looked) = watch.looked.filter(|_| watch.problem.is_none()) else {
            let why = watch.problem.as_deref().unwrap_or("it is about to look");
            line(app, if watch.problem.is_some() { &bad } else { &good }, "watch", &format!("{system}: {}", visible(why)));
            continue;
        };
        let unknown = if watch.unknown == 0 { String::new() } else { format!(", {} unknown", watch.unknown) };
        let fires = match watch.firing + watch.silent {
            0 => String::new(),
            count => format!(", {} on", words::count(count, "alarm")),
        };
        let (series, rules) = (words::count(watch.series, "value"), words::count(watch.rules, "rule"));
        line(app, &good, "watch", &format!("{system}: {series}{unknown}, {rules}{fires}, {}", ago(looked)));
        for (sampler, problem) in &watch.samplers {
            if let Some(problem) = problem {
                line(app, &bad, "watch", &format!("{system}: {} tells nothing: {}", visible(sampler), visible(problem)));
            }
        }
        if watch.refused > 0 {
            line(app, &bad, "watch", &format!("{system}: {} not kept: there are too many series", words::count(watch.refused, "sample")));
        }
    }
    for problem in &watches.problems {
        line(app, &bad, "watch", &visible(problem));
    }
}

/// What is broken.
fn tell_incidents(incidents: &[Incident], app: &App) {
    let Some(first) = incidents.iter().rev().find(|incident| needs_somebody(incident)) else { return };
    let open = incidents.iter().filter(|incident| needs_somebody(incident)).count();
    let text = format!(
        "{} without anybody: {} {}",
        words::count(open, "incident"),
        styled(STRONG, format!("#{}", first.number)),
        visible(&first.title)
    );
    line(app, &app.terminal.symbol(BAD, "✖", "x"), "incident", &format!("{text}     runbook incident list"));
}

fn tell(status: &Status, app: &App) {
    let line = |symbol: String, title: &str, text: String| line(app, &symbol, title, &text);
    let (good, bad) = (app.terminal.symbol(GOOD, "●", "*"), app.terminal.symbol(BAD, "✖", "x"));
    match &status.daemon {
        None => line(bad.clone(), "daemon", "none serves this state     runbook serve".to_owned()),
        Some(daemon) => {
            let stopping = if daemon.stopping { styled(WARN, "stopping, ") } else { String::new() };
            line(
                good.clone(),
                "daemon",
                format!("{stopping}process {}, version {}, started {}", daemon.pid, daemon.version, ago(daemon.since)),
            );
            if let Some(listen) = &daemon.listen {
                line(good.clone(), "pages", format!("http://{listen}/metrics"));
            }
            let running = format!("{} of {} at a time", words::count(daemon.running.len(), "run"), daemon.places);
            let queued = if daemon.queued.is_empty() { String::new() } else { format!(", {} queued", daemon.queued.len()) };
            line(good.clone(), "runs", format!("{running}{queued}"));
        }
    }
    if let Some(daemon) = &status.daemon {
        tell_schedules(&daemon.schedules, app);
        tell_watches(&daemon.watches, app);
    }
    tell_incidents(&status.incidents, app);
    for run in &status.needs {
        let why = if run.note.is_empty() { String::new() } else { format!(": {}", visible(&run.note)) };
        line(
            app.terminal.state(run.status),
            "run",
            format!("{} {} {}{why}", styled(STRONG, format!("#{}", run.run)), run.runbook, run.status.name()),
        );
    }
    let Outbox { queued, dead, .. } = status.outbox;
    let symbol = if dead > 0 { bad } else { good };
    let given_up = if dead > 0 { format!(", {dead} given up") } else { String::new() };
    line(symbol, "messages", format!("{queued} waiting{given_up}"));
    if !status.needs.is_empty() {
        app.terminal.say(&styled(DIM, "what needs you: runbook ps     runbook report RUN     runbook approvals"));
    }
}
