//! `runbook explain`: what a code in an error means, and how to mend it; or what a runbook may touch.

use serde::Serialize;

use crate::cli::app::App;
use crate::cli::show::{Permission, may};
use crate::cli::terminal::{DIM, STRONG, styled, table, wrapped};
use crate::config::Problems;
use crate::error::{Error, Kind};
use crate::script::{CODES, Code, explain};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The code, as in `error[RB1102]`, or a runbook; all codes when none is given
    #[arg(value_name = "CODE or RUNBOOK", add = crate::cli::complete::runbooks())]
    code: Option<String>,
    /// The system whose names the permissions of a runbook are told with
    #[arg(short, long, add = crate::cli::complete::systems())]
    system: Option<String>,
    /// Tell what holds for runs nobody watches over
    #[arg(long)]
    unattended: bool,
}

#[derive(Serialize)]
struct Power<'a> {
    name: &'a str,
    version: String,
    system: &'a str,
    permissions: Vec<Permission<'a>>,
}

#[derive(Serialize)]
struct Explained {
    code: &'static str,
    title: &'static str,
    text: &'static str,
    wrong: &'static str,
    right: &'static str,
}

impl From<&'static Code> for Explained {
    fn from(code: &'static Code) -> Self {
        Self { code: code.code, title: code.title, text: code.text, wrong: code.wrong, right: code.right }
    }
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let Some(name) = args.code else {
        if app.json {
            app.answer_json(&CODES.iter().map(Explained::from).collect::<Vec<_>>())?;
        } else {
            app.terminal
                .answer(&table(&CODES.iter().map(|code| vec![styled(STRONG, code.code), code.title.to_owned()]).collect::<Vec<_>>()));
        }
        return Ok(0);
    };
    let Some(code) = explain(&name) else {
        if looks_like_code(&name) {
            return Err(Error::new(Kind::Usage, format!("there is no code `{}`", name.escape_default()))
                .hint("`runbook explain` lists them")
                .into());
        }
        return power(&name, args.system.as_deref(), !args.unattended, app);
    };
    if app.json {
        app.answer_json(&Explained::from(code))?;
    } else {
        app.terminal.answer(&in_words(code, app.terminal.columns()));
    }
    Ok(0)
}

fn looks_like_code(name: &str) -> bool {
    let digits = name.get(..2).filter(|letters| letters.eq_ignore_ascii_case("rb")).and(name.get(2..));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What a runbook may touch: its header, capped by the policy.
fn power(name: &str, system: Option<&str>, attended: bool, app: &App) -> Result<u8, Problems> {
    let script = app.script(name)?;
    let system = app.system(system)?;
    let permissions = app.permissions(&script, &system, attended)?;
    if app.json {
        app.answer_json(&Power {
            name: &script.name,
            version: script.version(),
            system: &system.name,
            permissions: Permission::all(&permissions),
        })?;
    } else {
        let title = format!("{} {}  {}", styled(STRONG, &script.name), styled(DIM, script.version()), script.header.title);
        app.terminal.answer(&format!("{title}\n{}", may(&permissions, &system.name)));
    }
    Ok(0)
}

fn in_words(code: &Code, columns: Option<usize>) -> String {
    let manual = columns.map_or_else(|| code.text.to_owned(), |columns| wrapped(code.text, columns));
    let mut text = format!("{}  {}\n\n{manual}\n", styled(STRONG, code.code), code.title);
    for (title, script) in [("wrong", code.wrong), ("right", code.right)] {
        if !script.is_empty() {
            let lines: Vec<String> = script.lines().map(|line| format!("    {line}")).collect();
            text.push_str(&format!("\n{}\n{}\n", styled(DIM, title), lines.join("\n")));
        }
    }
    text
}
