//! `runbook register`: incidents, changes, problems and costs, as the reports count them.

use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Number, Value, json};

use crate::cli::app::App;
use crate::cli::history::now;
use crate::cli::report::visible;
use crate::cli::terminal::{DIM, STRONG, styled, table};
use crate::config::Problems;
use crate::error::{Error, Kind, Result};
use crate::model::{Incident, Moment, Record, Span, Urgency};
use crate::store::audit::{Action, audited};
use crate::store::{IncidentFilter, Incidents, find_record};

/// What is longer belongs into a document that the line names.
const LONGEST_TITLE: usize = 200;
const LONGEST_FIELD: usize = 2000;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Verb,
}

impl Args {
    /// What it does, as the audit log calls it.
    pub(super) fn acts(&self) -> &'static [Action] {
        match &self.action {
            Verb::List { .. } | Verb::Show { .. } => &[],
            Verb::Add(_) => &[Action::Register],
        }
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The lines of the registers, the newest first
    List {
        /// Only of this register
        #[arg(value_enum)]
        register: Option<Register>,
        /// Only of this system
        #[arg(short, long, value_name = "SYSTEM", add = crate::cli::complete::systems())]
        system: Option<String>,
        /// Only of this time: `30d`
        #[arg(long, value_name = "DURATION")]
        since: Option<Span>,
        /// At most so many; all with 0
        #[arg(long, short = 'n', default_value_t = 30)]
        limit: usize,
    },
    /// A change, problem or cost with all that is known of it
    Show {
        /// Its number
        line: String,
    },
    /// Write a change, a problem or a cost down
    Add(Line),
}

/// What a person writes down.
#[derive(Debug, clap::Args)]
struct Line {
    /// Into which register
    #[arg(value_enum)]
    register: Kept,
    /// What it is, in one line
    title: String,
    /// The system; the default one when absent
    #[arg(short, long, value_name = "SYSTEM", add = crate::cli::complete::systems())]
    system: Option<String>,
    /// What else there is to know; a cost has its `amount`
    #[arg(long = "field", short, value_name = "NAME=VALUE")]
    fields: Vec<String>,
    /// When it was, in the time zone of the system; now when absent
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Register {
    Incident,
    Change,
    Problem,
    Cost,
}

/// The registers people write into; incidents are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kept {
    Change,
    Problem,
    Cost,
}

impl Register {
    /// The word for it, as it is kept.
    fn name(self) -> &'static str {
        match self {
            Self::Incident => "incident",
            Self::Change => Kept::Change.name(),
            Self::Problem => Kept::Problem.name(),
            Self::Cost => Kept::Cost.name(),
        }
    }
}

impl Kept {
    fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Problem => "problem",
            Self::Cost => "cost",
        }
    }
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    match args.action {
        Verb::List { register, system, since, limit } => list(register, system.as_deref(), since, limit, app)?,
        Verb::Show { line } => show(&line, app)?,
        Verb::Add(line) => add(&line, app)?,
    }
    Ok(0)
}

fn list(register: Option<Register>, system: Option<&str>, since: Option<Span>, limit: usize, app: &App) -> Result<()> {
    let (_, store) = app.store()?;
    let since = since.map_or(Timestamp::MIN, |span| span.before(now()));
    let mut lines = lines(&store, register, system, since)?;
    lines.sort_by(|one, other| other.at.cmp(&one.at).then(other.number.cmp(&one.number)));
    if limit > 0 {
        lines.truncate(limit);
    }
    if app.json {
        return app.answer_json(&lines);
    }
    if lines.is_empty() {
        app.terminal.say("nothing is written down; `runbook register add` writes changes, problems and costs");
        return Ok(());
    }
    let titles = ["REGISTER", "NUMBER", "AT", "SYSTEM", "BY", "TITLE", "DETAILS"].map(|title| styled(DIM, title)).to_vec();
    let rows = lines.iter().map(|line| {
        let details: Vec<String> = details(line).map(|(name, value)| format!("{}={}", visible(name), visible(&value))).collect();
        vec![
            line.kind.clone(),
            styled(STRONG, line.number),
            here(line.at, "%Y-%m-%d %H:%M"),
            visible(&line.system),
            visible(&line.by),
            visible(&line.title),
            details.join(" "),
        ]
    });
    app.terminal.answer(&table(&std::iter::once(titles).chain(rows).collect::<Vec<_>>()));
    Ok(())
}

/// The lines of one register, or of all.
fn lines(store: &dyn Incidents, register: Option<Register>, system: Option<&str>, since: Timestamp) -> Result<Vec<Record>> {
    let mut lines = Vec::new();
    for one in register.map_or(Register::value_variants().to_vec(), |register| vec![register]) {
        if one == Register::Incident {
            let filter = IncidentFilter { system: system.map(str::to_owned), since: Some(since), ..IncidentFilter::default() };
            lines.extend(store.incidents(&filter)?.iter().map(line_of));
        } else {
            lines.extend(store.records(one.name(), since)?);
        }
    }
    lines.retain(|line| system.is_none_or(|system| line.system == system));
    Ok(lines)
}

/// An incident as a line; it is kept with its timeline and nowhere else.
fn line_of(incident: &Incident) -> Record {
    let mut details = json!({
        "severity": Urgency::Severity(incident.severity).name(),
        "state": incident.state.name(),
    });
    if let Some(service) = &incident.service {
        details["service"] = service.as_str().into();
    }
    if let Some(lasted) = incident.duration() {
        details["lasted_s"] = lasted.as_secs().into();
    }
    Record {
        number: incident.number,
        kind: Register::Incident.name().to_owned(),
        system: incident.system.clone(),
        at: incident.opened,
        by: format!("{} {}", incident.source.kind(), incident.source.name()),
        title: incident.title.clone(),
        details,
    }
}

fn show(reference: &str, app: &App) -> Result<()> {
    let (_, store) = app.store()?;
    let line = find_record(&store, reference)?;
    if app.json {
        return app.answer_json(&line);
    }
    let head = format!("{} {}  {}", line.kind, styled(STRONG, line.number), visible(&line.title));
    let by = format!("  of {}, written down by {}, {}", visible(&line.system), visible(&line.by), here(line.at, "%Y-%m-%d %H:%M:%S"));
    let details: Vec<Vec<String>> =
        details(&line).map(|(name, value)| vec![format!("  {}", styled(DIM, visible(name))), visible(&value)]).collect();
    app.terminal.answer(&[vec![head, by], table(&details).lines().map(str::to_owned).collect()].concat().join("\n"));
    Ok(())
}

fn add(line: &Line, app: &App) -> Result<(), Problems> {
    let system = app.system(line.system.as_deref())?;
    let zone = TimeZone::get(&system.timezone).unwrap_or(TimeZone::UTC);
    let at = line.at.map_or_else(|| Some(now()), |moment| moment.instant(&zone));
    let record = Record {
        number: 0,
        kind: line.register.name().to_owned(),
        system: system.name.clone(),
        at: at.ok_or_else(|| Error::new(Kind::Usage, "`--at` is a moment that no clock shows"))?,
        by: app.who(),
        title: title(&line.title)?,
        details: fields(line.register, &line.fields)?,
    };
    let (_, store) = app.store()?;
    let act = app.act(Action::Register, format!("{} of {}", record.kind, record.system), &record.title);
    let number = audited(&store, &act, || store.record(&record))?;
    let record = Record { number, ..record };
    if app.json {
        app.answer_json(&record)?;
        return Ok(());
    }
    app.terminal.answer(&format!("{} {number} of {} is written down: {}", record.kind, record.system, visible(&record.title)));
    Ok(())
}

fn title(given: &str) -> Result<String> {
    let title = given.trim();
    let wrong = |what: &str| Err(Error::new(Kind::Usage, what).hint("say in one line what it is; the rest goes into `--field note=…`"));
    match title {
        "" => wrong("there is no title"),
        _ if title.chars().count() > LONGEST_TITLE => wrong(&format!("the title is longer than {LONGEST_TITLE} letters")),
        _ if title.chars().any(char::is_control) => wrong("the title is more than one line"),
        _ => Ok(title.to_owned()),
    }
}

/// The fields by name. What is counted is a number; all else stays as it was written.
fn fields(register: Kept, given: &[String]) -> Result<Value> {
    let mut fields = Map::new();
    for pair in given {
        let (name, value) = field(pair)?;
        let value = if name == "amount" { amount(value)? } else { value.into() };
        if fields.insert(name.to_owned(), value).is_some() {
            return Err(Error::new(Kind::Usage, format!("`--field {name}` is given twice")).hint("each field has one value"));
        }
    }
    if register == Kept::Cost && !fields.contains_key("amount") {
        return Err(Error::new(Kind::Usage, "a cost has no `amount`").hint("add `--field amount=12.50 --field currency=EUR`"));
    }
    Ok(if fields.is_empty() { Value::Null } else { fields.into() })
}

fn field(pair: &str) -> Result<(&str, &str)> {
    let example = "write it like `--field ticket=OPS-12`";
    let Some((name, value)) = pair.split_once('=') else {
        return Err(Error::new(Kind::Usage, format!("`--field {}` has no value", visible(pair))).hint(example));
    };
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    if !name.starts_with(|letter: char| letter.is_ascii_lowercase()) || !name.chars().all(is_plain) {
        let error = Error::new(Kind::Usage, format!("`{}` is no name of a field", visible(name)));
        return Err(error.hint(format!("names are small letters, digits and `_`; {example}")));
    }
    if value.is_empty() {
        return Err(Error::new(Kind::Usage, format!("`--field {name}` is empty")).hint(format!("leave it out, or {example}")));
    }
    if value.len() > LONGEST_FIELD {
        let error = Error::new(Kind::Usage, format!("`--field {name}` is {} bytes long, and {LONGEST_FIELD} may be kept", value.len()));
        return Err(error.hint("write it into a document, and name that"));
    }
    Ok((name, value))
}

fn amount(text: &str) -> Result<Value> {
    let whole = text.parse::<i64>().ok().map(Number::from);
    let number = whole.or_else(|| text.parse().ok().and_then(Number::from_f64));
    let wrong = || {
        let error = Error::new(Kind::Usage, format!("`amount` is `{}`, which is no number", visible(text)));
        error.hint("write it like `--field amount=12.50 --field currency=EUR`")
    };
    number.map(Value::Number).ok_or_else(wrong)
}

/// The details by name, as people read them.
fn details(line: &Record) -> impl Iterator<Item = (&str, String)> {
    let words = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    line.details.as_object().into_iter().flatten().map(move |(name, value)| (name.as_str(), words(value)))
}

/// A time on the clocks here.
fn here(at: Timestamp, format: &str) -> String {
    at.to_zoned(TimeZone::system()).strftime(format).to_string()
}
