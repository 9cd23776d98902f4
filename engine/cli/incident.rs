//! `runbook incident`: what is broken, who takes care of it, and what was learnt.

use clap::{Subcommand, ValueEnum};

use crate::cli::app::App;
use crate::cli::history::{ago, now};
use crate::cli::outbox::{addresses, deliver};
use crate::cli::report::visible;
use crate::cli::terminal::{BAD, DIM, GOOD, STRONG, WARN, styled, table};
use crate::config::Problems;
use crate::error::{Error, Kind, Result};
use crate::host::Stop;
use crate::model::{Findings, Incident, IncidentState, Labels, Severity, Source, Span, System};
use crate::monitor::duty::Duty;
use crate::monitor::incident::{Happened, Report};
use crate::monitor::{news, postmortem};
use crate::store::audit::{Action, audited};
use crate::store::{Changed, IncidentFilter, Incidents, Sqlite, StateDir, Which, find_incident};
use crate::words::count;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Verb,
}

impl Args {
    /// What it does, as the audit log calls it.
    pub(super) fn acts(&self) -> &'static [Action] {
        match &self.action {
            Verb::Report { findings, .. } if findings.is_empty() => &[],
            Verb::List { .. } | Verb::Show { .. } => &[],
            Verb::Ack { .. } | Verb::Resolve { .. } | Verb::Open { .. } | Verb::Report { .. } => &[Action::Incident],
        }
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What is open
    List {
        /// Also what is over
        #[arg(long)]
        all: bool,
        /// Only of this system
        #[arg(short, long, value_name = "SYSTEM", add = crate::cli::complete::systems())]
        system: Option<String>,
        /// Only those opened within this time: `7d`
        #[arg(long, value_name = "DURATION")]
        since: Option<Span>,
        /// At most so many
        #[arg(long, short = 'n', default_value_t = 30)]
        limit: u32,
    },
    /// An incident with its timeline
    Show {
        /// Its number
        incident: String,
    },
    /// Say that you take care of it
    Ack {
        /// Its number
        incident: String,
        /// What is to be said of it
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Say that it is over, and what was learnt
    Resolve {
        /// Its number
        incident: String,
        /// What is to be said of it
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
        #[command(flatten)]
        findings: Learnt,
    },
    /// Open one for what no rule has noticed
    Open {
        /// What it is, in one line
        title: String,
        /// How severe it is
        #[arg(long, value_enum)]
        severity: Grade,
        /// The system; the default one when absent
        #[arg(short, long, value_name = "SYSTEM", add = crate::cli::complete::systems())]
        system: Option<String>,
        /// The service it is about
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// What is to be said of it
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// The root-cause report, in Markdown and the language of the system
    Report {
        /// Its number
        incident: String,
        #[command(flatten)]
        findings: Learnt,
    },
}

/// What was learnt; what is not given stays as it is.
#[derive(Debug, clap::Args)]
struct Learnt {
    /// Whom it hit, and how
    #[arg(long, value_name = "TEXT")]
    impact: Option<String>,
    /// Why it happened
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
    /// What ended it
    #[arg(long, value_name = "TEXT")]
    repair: Option<String>,
    /// What keeps it from coming back
    #[arg(long, value_name = "TEXT")]
    prevention: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Grade {
    Sev1,
    Sev2,
    Sev3,
    Sev4,
    Sev5,
}

impl From<Grade> for Severity {
    fn from(grade: Grade) -> Self {
        match grade {
            Grade::Sev1 => Self::Sev1,
            Grade::Sev2 => Self::Sev2,
            Grade::Sev3 => Self::Sev3,
            Grade::Sev4 => Self::Sev4,
            Grade::Sev5 => Self::Sev5,
        }
    }
}

impl Learnt {
    fn is_empty(&self) -> bool {
        [&self.impact, &self.cause, &self.repair, &self.prevention].into_iter().all(Option::is_none)
    }

    fn add_to(&self, findings: &Findings) -> Findings {
        let or = |new: &Option<String>, old: &String| new.clone().unwrap_or_else(|| old.clone());
        Findings {
            impact: or(&self.impact, &findings.impact),
            cause: or(&self.cause, &findings.cause),
            repair: or(&self.repair, &findings.repair),
            prevention: or(&self.prevention, &findings.prevention),
        }
    }
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    match args.action {
        Verb::List { all, system, since, limit } => list(all, system, since, limit, app)?,
        Verb::Show { incident } => show(&incident, app)?,
        Verb::Ack { incident, note } => ack(&incident, &note, app)?,
        Verb::Resolve { incident, note, findings } => resolve(&incident, &note, &findings, app)?,
        Verb::Open { title, severity, system, service, note } => open(&title, severity.into(), system.as_deref(), service, &note, app)?,
        Verb::Report { incident, findings } => report(&incident, &findings, app)?,
    }
    Ok(0)
}

fn list(all: bool, system: Option<String>, since: Option<Span>, limit: u32, app: &App) -> Result<()> {
    let (_, store) = app.store()?;
    let since = since.map(|span| span.before(now()));
    let incidents = store.incidents(&IncidentFilter { system, open: !all, since, limit })?;
    if app.json {
        return app.answer_json(&incidents);
    }
    if incidents.is_empty() {
        app.terminal.say(if all { "there were no incidents" } else { "nothing is open; `--all` shows what is over" });
        return Ok(());
    }
    let titles = ["INCIDENT", "STATE", "SEVERITY", "OPENED", "LASTED", "SYSTEM", "SEEN", "TITLE"].map(|title| styled(DIM, title)).to_vec();
    let rows = incidents.iter().map(|incident| {
        vec![
            styled(STRONG, format!("#{}", incident.number)),
            format!("{} {}", symbol(incident, app), standing(incident)),
            severity(incident, app),
            ago(incident.opened),
            incident.duration().map_or_else(|| news::span(now().duration_since(incident.opened)), news::span),
            visible(&incident.system),
            incident.count.to_string(),
            visible(&incident.title),
        ]
    });
    app.terminal.answer(&table(&std::iter::once(titles).chain(rows).collect::<Vec<_>>()));
    if let Some(first) = incidents.iter().find(|incident| incident.state == IncidentState::Open) {
        app.terminal.say(&format!("take care of one:  runbook incident ack {}", first.number));
    }
    Ok(())
}

fn symbol(incident: &Incident, app: &App) -> String {
    match incident.state {
        IncidentState::Open => app.terminal.symbol(BAD, "✖", "x"),
        IncidentState::Acknowledged => app.terminal.symbol(WARN, "●", "*"),
        IncidentState::Resolved => app.terminal.symbol(GOOD, "✔", "ok"),
    }
}

/// Where it stands, with what else there is to know of it.
fn standing(incident: &Incident) -> String {
    if let Some(held) = &incident.held {
        let until = held.until.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M");
        return format!("{}, held back until {until}", incident.state.name());
    }
    let more = match (incident.because, incident.flapping, incident.calm) {
        (Some(number), ..) if incident.is_open() => format!(", because of #{number}"),
        (_, true, _) => ", flapping".to_owned(),
        (.., Some(_)) => ", well again".to_owned(),
        _ => String::new(),
    };
    format!("{}{more}", incident.state.name())
}

/// The severity in the words of the system, when there is that system here.
fn severity(incident: &Incident, app: &App) -> String {
    let name = crate::model::Urgency::Severity(incident.severity).name();
    let system = app.project().ok().and_then(|project| project.systems(&app.environment).load(&incident.system).ok());
    match system.map(|loaded| news::label(&loaded.system, incident.severity)) {
        Some(label) if label != name => format!("{name} ({label})"),
        _ => name.to_owned(),
    }
}

fn show(reference: &str, app: &App) -> Result<()> {
    let (_, store) = app.store()?;
    let incident = find_incident(&store, reference)?;
    if app.json {
        return app.answer_json(&incident);
    }
    app.terminal.answer(&in_words(&incident, app));
    app.terminal.say(&match incident.state {
        IncidentState::Open => format!("take care of it:  runbook incident ack {}", incident.number),
        IncidentState::Acknowledged => format!("when it is over:  runbook incident resolve {}", incident.number),
        IncidentState::Resolved => format!("what was learnt:  runbook incident report {}", incident.number),
    });
    Ok(())
}

fn in_words(incident: &Incident, app: &App) -> String {
    let mut lines = vec![
        format!("{} {}  {}", symbol(incident, app), styled(STRONG, format!("#{}", incident.number)), visible(&incident.title)),
        format!("  {} of {}, {}, {}", severity(incident, app), visible(&incident.system), standing(incident), ago(incident.opened)),
        format!("  reported by {} {}, seen {}", incident.source.kind(), visible(incident.source.name()), count(incident.count, "time")),
    ];
    let labels: Vec<String> = incident.labels.iter().map(|(label, value)| format!("{}={}", visible(label), visible(value))).collect();
    if !labels.is_empty() {
        lines.push(format!("  {}", labels.join(" ")));
    }
    if incident.held.is_some() {
        lines.push("  in a maintenance window: people hear of it then, if it is still so".to_owned());
    }
    lines.push(String::new());
    for moment in &incident.timeline {
        let said: Vec<String> = [&moment.by, &moment.text].into_iter().filter(|part| !part.is_empty()).map(|part| visible(part)).collect();
        let run = moment.run.map(|run| format!("  run #{run}")).unwrap_or_default();
        let at = moment.at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        lines.push(format!("  {}  {}  {}{run}", styled(DIM, at), visible(&moment.what), said.join(": ")).trim_end().to_owned());
    }
    lines.join("\n")
}

/// What a person does to an incident, between its rows of the audit log; then whoever is to hear of it does.
fn act(reference: &str, verb: &str, happened: &Happened, why: &str, app: &App) -> Result<Incident, Problems> {
    let (state, store) = app.store()?;
    let incident = find_incident(&store, reference)?;
    if !incident.is_open() {
        let over = format!(
            "incident #{} is over since {}",
            incident.number,
            incident.resolved.as_ref().map_or_else(String::new, |stamp| ago(stamp.at))
        );
        return Err(Error::new(Kind::Usage, over).hint(format!("runbook incident show {}", incident.number)).into());
    }
    // A system that is gone has nobody to tell, and its incidents can still be ended.
    let system = app.project()?.systems(&app.environment).load(&incident.system).map(|loaded| loaded.system).unwrap_or_default();
    let act = app.act(Action::Incident, format!("{verb} #{}", incident.number), why);
    let changed = on_duty(&store, &state, &system, app, |duty| {
        audited(&store, &act, || duty.happened(Which::Number(incident.number), happened, now()))
    })?;
    Ok(changed.unwrap_or(incident))
}

/// Does something on duty for a system and delivers what came of it.
fn on_duty<T>(
    store: &Sqlite,
    state: &StateDir,
    system: &System,
    app: &App,
    work: impl FnOnce(&Duty<'_>) -> Result<T>,
) -> Result<T, Problems> {
    let addresses = addresses(app, state)?;
    let done = work(&Duty { store, system, project: &addresses.project })?;
    deliver(app, store, state, &addresses, &Stop::new(None));
    Ok(done)
}

fn answer(incident: &Incident, words: &str, app: &App) -> Result<()> {
    if app.json {
        return app.answer_json(incident);
    }
    app.terminal.answer(words);
    Ok(())
}

fn ack(reference: &str, note: &str, app: &App) -> Result<(), Problems> {
    let happened = Happened::Acknowledged { by: app.who(), note: note.to_owned() };
    let incident = act(reference, "acknowledge", &happened, note, app)?;
    answer(&incident, &format!("{} takes care of incident #{}: {}", app.who(), incident.number, visible(&incident.title)), app)?;
    Ok(())
}

fn resolve(reference: &str, note: &str, learnt: &Learnt, app: &App) -> Result<(), Problems> {
    let happened = Happened::Resolved { by: app.who(), note: note.to_owned() };
    let incident = act(reference, "resolve", &happened, note, app)?;
    let incident = learn(&incident, learnt, app)?;
    let lasted = incident.duration().map(news::span).unwrap_or_default();
    answer(&incident, &format!("incident #{} is over after {lasted}: {}", incident.number, visible(&incident.title)), app)?;
    app.terminal.say(&format!("write down what was learnt:  runbook incident report {} --cause \"…\"", incident.number));
    Ok(())
}

fn open(title: &str, severity: Severity, system: Option<&str>, service: Option<String>, note: &str, app: &App) -> Result<(), Problems> {
    let system = app.system(system)?;
    if let Some(service) = service.as_ref().filter(|service| !system.services.each.contains_key(*service)) {
        let error = Error::new(Kind::Usage, format!("{} has no service `{service}`", system.name));
        return Err(error.suggest(service, system.services.each.keys()).into());
    }
    if title.trim().is_empty() {
        return Err(Error::new(Kind::Usage, "there is no title").hint("say in one line what is wrong").into());
    }
    let (state, store) = app.store()?;
    let report = Report {
        system: system.name.clone(),
        source: Source::Person(app.who()),
        labels: Labels::from([("title".to_owned(), title.to_owned())]),
        title: title.to_owned(),
        severity,
        service,
        value: None,
        text: note.to_owned(),
        because: None,
        run: None,
    };
    let act = app.act(Action::Incident, format!("open {}", system.name), title);
    let opened = on_duty(&store, &state, &system, app, |duty| audited(&store, &act, || duty.report(&report, now())))?;
    let opened = opened.ok_or_else(|| Error::new(Kind::Bug, "an incident that was reported is not there"))?;
    answer(&opened, &format!("incident #{} is open: {}", opened.number, visible(&opened.title)), app)?;
    app.terminal.say(&format!("take care of it:  runbook incident ack {}", opened.number));
    Ok(())
}

fn report(reference: &str, learnt: &Learnt, app: &App) -> Result<(), Problems> {
    let (_, store) = app.store()?;
    let incident = learn(&find_incident(&store, reference)?, learnt, app)?;
    let system = app.project()?.systems(&app.environment).load(&incident.system).map(|loaded| loaded.system).unwrap_or_default();
    let text = postmortem::report(&system, &incident);
    if app.json {
        app.answer_json(&serde_json::json!({ "incident": incident, "report": text }))?;
    } else {
        app.terminal.answer(&text);
    }
    Ok(())
}

/// Keeps what was learnt with the incident.
fn learn(incident: &Incident, learnt: &Learnt, app: &App) -> Result<Incident> {
    if learnt.is_empty() {
        return Ok(incident.clone());
    }
    let (_, store) = app.store()?;
    let act = app.act(Action::Incident, format!("findings of #{}", incident.number), "");
    let changed = audited(&store, &act, || {
        store.change_incident(Which::Number(incident.number), &mut |before, _| {
            let with = |before: Incident| Incident { findings: learnt.add_to(&before.findings), ..before };
            Ok(before.map(|before| Changed { incident: with(before), parcels: Vec::new() }))
        })
    })?;
    Ok(changed.unwrap_or_else(|| incident.clone()))
}
