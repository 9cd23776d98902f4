//! `runbook new`: a runbook from a template.

use serde::Serialize;

use crate::cli::app::App;
use crate::cli::init::write_new;
use crate::cli::terminal::{DIM, STRONG, styled, table};
use crate::config::Problems;
use crate::error::{Error, Kind, Result};

/// The templates by name; each is a runbook that runs as it is.
pub(super) const TEMPLATES: &[(&str, &str)] = &[
    ("check", include_str!("templates/check.rhai")),
    ("check-service", include_str!("templates/check-service.rhai")),
    ("step-by-step", include_str!("templates/step-by-step.rhai")),
    ("report", include_str!("templates/report.rhai")),
    ("notify", include_str!("templates/notify.rhai")),
];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to call it; directories are part of a name: `db/backup`
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// What to begin with
    #[arg(long, value_name = "TEMPLATE", default_value = "check", add = crate::cli::complete::templates())]
    from: String,
    /// List the templates
    #[arg(long)]
    list: bool,
}

#[derive(Serialize)]
struct Template {
    name: &'static str,
    about: &'static str,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let Some(name) = args.name.filter(|_| !args.list) else {
        list(app)?;
        return Ok(0);
    };
    let library = app.library()?;
    check_name(&name)?;
    let text = template(&args.from)?;
    let path = library.directory().join(format!("{name}.rhai"));
    write_new(&path, text)?;
    app.terminal.say(&format!("made {}", path.display()));
    app.terminal.answer(&format!("{}\n  runbook show {name}\n  runbook run {name}\n  runbook test {name}", styled(STRONG, "next:")));
    Ok(0)
}

fn list(app: &App) -> Result<()> {
    let templates: Vec<Template> = TEMPLATES.iter().map(|(name, text)| Template { name, about: about(text) }).collect();
    if app.json {
        return app.answer_json(&templates);
    }
    let rows: Vec<Vec<String>> = templates.iter().map(|template| vec![styled(STRONG, template.name), template.about.to_owned()]).collect();
    app.terminal.answer(&table(&rows));
    app.terminal.say(&styled(DIM, "begin with one: runbook new NAME --from TEMPLATE"));
    Ok(())
}

/// The first line of its manual.
pub(super) fn about(text: &'static str) -> &'static str {
    text.lines().next().unwrap_or_default().trim_start_matches("//! ")
}

fn check_name(name: &str) -> Result<()> {
    let is_part = |part: &str| !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'));
    if name.split('/').all(is_part) {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("`{}` is no name of a runbook", name.escape_default()))
        .hint("use letters, digits, `-` and `_`, with `/` between directories"))
}

fn template(name: &str) -> Result<&'static str> {
    if let Some((_, text)) = TEMPLATES.iter().find(|(known, _)| *known == name) {
        return Ok(text);
    }
    let error = Error::new(Kind::Usage, format!("there is no template `{name}`"));
    Err(error.suggest(name, TEMPLATES.iter().map(|(name, _)| *name)))
}
