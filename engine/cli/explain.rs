//! `runbook explain`: what a code in an error means, and how to mend it.

use serde::Serialize;

use crate::cli::app::App;
use crate::cli::terminal::{DIM, STRONG, styled, table, wrapped};
use crate::config::Problems;
use crate::error::{Error, Kind};
use crate::script::{CODES, Code, explain};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The code, as in `error[RB1102]`; all of them when none is given
    code: Option<String>,
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
        return Err(Error::new(Kind::Usage, format!("there is no code `{}`", name.escape_default()))
            .hint("`runbook explain` lists them")
            .into());
    };
    if app.json {
        app.answer_json(&Explained::from(code))?;
    } else {
        app.terminal.answer(&in_words(code, app.terminal.columns()));
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
