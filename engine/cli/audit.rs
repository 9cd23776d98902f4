//! `runbook audit`: who did what, and whether the log of it is whole.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use jiff::tz::TimeZone;

use crate::cli::app::App;
use crate::cli::history::now;
use crate::cli::report::visible;
use crate::cli::terminal::{BAD, DIM, GOOD, STRONG, styled, table};
use crate::config::Problems;
use crate::error::{Error, Kind, Result};
use crate::model::Span;
use crate::store::audit::{AuditFilter, Checkpoint, Entry};
use crate::store::{Examination, Store};
use crate::words::count;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Verb>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The rows of the log, newest first
    List(ListArgs),
    /// Whether anything was changed, cut off or put in
    Verify {
        /// Signed checkpoints that were kept elsewhere
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
        /// The public key they have to be signed with; that of this state when it is not given
        #[arg(long, requires = "checkpoint")]
        key: Option<String>,
    },
    /// A signed statement of where the log stands, to be kept elsewhere
    Checkpoint {
        /// Append it to this file; to standard output when it is not given
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only of this time: `7d`
    #[arg(long, value_name = "DURATION")]
    since: Option<Span>,
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 50)]
    limit: u32,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    Ok(match args.action.unwrap_or(Verb::List(args.list)) {
        Verb::List(args) => list(&args, app)?,
        Verb::Verify { checkpoint, key } => verify(checkpoint.as_deref(), key, app)?,
        Verb::Checkpoint { out } => checkpoint(out.as_deref(), app)?,
    })
}

fn list(args: &ListArgs, app: &App) -> Result<u8> {
    let (_, store) = app.store()?;
    let since = args.since.map(|span| span.before(now()));
    let rows = store.audited(&AuditFilter { since, limit: args.limit, action: None })?;
    if app.json {
        app.answer_json(&rows)?;
    } else if rows.is_empty() {
        app.terminal.say("nothing was done yet");
    } else {
        let titles = ["ROW", "TIME", "WHO", "WHAT", "TO", "OUTCOME", "WHY"].map(|title| styled(DIM, title)).to_vec();
        app.terminal.answer(&table(&std::iter::once(titles).chain(rows.iter().map(row)).collect::<Vec<_>>()));
    }
    Ok(0)
}

fn row(entry: &Entry) -> Vec<String> {
    vec![
        entry.seq.to_string(),
        entry.at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        format!("{} ({})", visible(&entry.who), entry.uid),
        styled(STRONG, entry.action.name()),
        visible(&entry.subject),
        entry.outcome.as_deref().map_or_else(|| styled(DIM, "begins"), visible),
        visible(&entry.why),
    ]
}

fn verify(file: Option<&Path>, key: Option<String>, app: &App) -> Result<u8> {
    let (state, store) = app.store()?;
    let checkpoints = file.map(read).transpose()?.unwrap_or_default();
    let trusted = key.map_or_else(|| Checkpoint::key_of(state.root()), |key| Ok(Some(key)))?;
    if trusted.is_none() && !checkpoints.is_empty() {
        return Err(Error::new(Kind::Store, "this state has no key, and so it signed no checkpoint")
            .hint("`--key` takes the public key they were signed with"));
    }
    for checkpoint in &checkpoints {
        checkpoint.prove(trusted.as_deref())?;
    }
    let anchors: Vec<_> = checkpoints.into_iter().map(|checkpoint| checkpoint.anchor).collect();
    let seen = store.examine(&anchors);
    if app.json {
        app.answer_json(&seen)?;
    } else {
        app.terminal.answer(&verdict(&seen, anchors.len(), app));
    }
    if !seen.damage.is_empty() {
        app.terminal.say("keep a copy of the state directory; a backup is put back with `runbook state restore PATH`");
    }
    Ok(u8::from(!seen.damage.is_empty()))
}

fn verdict(seen: &Examination, checkpoints: usize, app: &App) -> String {
    if !seen.damage.is_empty() {
        let line = |damage: &crate::store::Damage| format!("{} {}", app.terminal.symbol(BAD, "✖", "x"), visible(&damage.to_string()));
        return seen.damage.iter().map(line).collect::<Vec<_>>().join("\n");
    }
    let good = app.terminal.symbol(GOOD, "✔", "ok");
    let all = format!("{good} {}: as they were written", scope(seen));
    let rest = match (checkpoints, seen.unanchored) {
        (0, _) => "a log that was cut or made anew is only found with a checkpoint: runbook audit checkpoint --out FILE".to_owned(),
        (_, 0) => "the last checkpoint vouches for all of it".to_owned(),
        (_, rows) => format!("unanchored: {} came after the last checkpoint", count(rows, "row")),
    };
    format!("{all}\n{}", styled(DIM, rest))
}

/// What was looked through.
pub(super) fn scope(seen: &Examination) -> String {
    let [runs, events] = [(seen.runs, "run"), (seen.events, "event")].map(|(number, thing)| count(number, thing));
    format!("{runs}, {events}, {} of the audit log", count(seen.audit, "row"))
}

fn read(file: &Path) -> Result<Vec<Checkpoint>> {
    let failed = |error: &dyn std::fmt::Display| Error::new(Kind::Usage, format!("the checkpoints of `{}`: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
    let read: Vec<Checkpoint> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>().map_err(|error: serde_json::Error| failed(&error))?;
    if read.is_empty() { Err(failed(&"there are none")) } else { Ok(read) }
}

fn checkpoint(out: Option<&Path>, app: &App) -> Result<u8> {
    let (state, store) = app.store()?;
    let signed = Checkpoint::sign(state.root(), store.anchor()?)?;
    let line = serde_json::to_string(&signed).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
    let Some(out) = out else {
        app.terminal.answer(&line);
        return Ok(0);
    };
    let append = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(out)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_all()
    };
    append().map_err(|error| Error::because(Kind::Usage, format_args!("the checkpoint can not be kept in `{}`", out.display()), &error))?;
    app.terminal.say(&format!("signed for {}; the public key is {}", count(signed.anchor.count, "row"), signed.key));
    Ok(0)
}
