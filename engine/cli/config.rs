//! `runbook config`: which settings hold, and where each comes from.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::cli::app::App;
use crate::cli::terminal::{DIM, styled, table};
use crate::config::{KEYS, KeyKind, Origin, Problems, Project};
use crate::error::{Error, Kind, Result};
use crate::model::Size;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this key, or those below it
    key: Option<String>,
    /// Say where each value comes from
    #[arg(long)]
    origins: bool,
}

#[derive(Serialize)]
struct Setting {
    value: Value,
    origin: String,
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let project = app.project()?;
    let settings = effective(project)?;
    let chosen: BTreeMap<&String, &Setting> = settings.iter().filter(|(name, _)| is_meant(name, args.key.as_deref())).collect();
    if let Some(key) = args.key.as_deref().filter(|key| chosen.is_empty() && !is_unset(key)) {
        return Err(unknown(key, &settings).into());
    }
    if app.json {
        app.answer_json(&chosen)?;
        return Ok(0);
    }
    match chosen.iter().next() {
        None => app.terminal.say("it is not set, and has no default"),
        // A script that asks for one key wants its value and nothing else.
        Some((name, setting)) if args.key.as_ref() == Some(name) && !args.origins => {
            app.terminal.answer(&bare(&readable(name, &setting.value)));
        }
        Some(_) => app.terminal.answer(&listing(&chosen, args.origins)),
    }
    Ok(0)
}

/// Every setting that holds. A secret has a place it comes from here, and no value.
fn effective(project: &Project) -> Result<BTreeMap<String, Setting>> {
    let all = serde_json::to_value(&project.settings).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
    let value_of = |name: &str| name.split('.').try_fold(&all, |value, key| value.get(key)).cloned();
    let setting = |(name, origin): (&String, &Origin)| Some((name.clone(), Setting { value: value_of(name)?, origin: origin.to_string() }));
    Ok(project.origins.iter().filter_map(setting).collect())
}

fn is_meant(name: &str, key: Option<&str>) -> bool {
    key.is_none_or(|key| name == key || name.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// Whether there is such a key, which no file sets.
fn is_unset(key: &str) -> bool {
    let fits = |known: &str, key: &str| {
        let mut parts = known.split('.').zip(key.split('.'));
        parts.all(|(known, part)| known == "NAME" || known == part) && known.split('.').count() >= key.split('.').count()
    };
    KEYS.iter().any(|known| fits(known.name, key))
}

fn unknown(key: &str, settings: &BTreeMap<String, Setting>) -> Error {
    let error = Error::new(Kind::Usage, format!("there is no setting `{key}`"));
    let names: Vec<String> = KEYS.iter().map(|key| key.name.to_owned()).chain(settings.keys().cloned()).collect();
    error.suggest_or(key, &names, || "`runbook config` lists them")
}

fn listing(settings: &BTreeMap<&String, &Setting>, origins: bool) -> String {
    let row = |(name, setting): (&&String, &&Setting)| {
        let origin = if origins { styled(DIM, format!("# {}", setting.origin)) } else { String::new() };
        vec![format!("{name} = {}", readable(name, &setting.value)), origin]
    };
    table(&settings.iter().map(row).collect::<Vec<_>>())
}

/// A value as one writes it in `runbook.toml`: a number of bytes with its unit.
fn readable(name: &str, value: &Value) -> Value {
    let is_size = KEYS.iter().any(|key| key.name == name && key.kind == KeyKind::Size);
    value.as_u64().filter(|_| is_size).map_or_else(|| value.clone(), |bytes| Size(bytes).exact().into())
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
