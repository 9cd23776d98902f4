//! Permissions: what a script calls, compared with what its header asks for.

use std::collections::{BTreeMap, BTreeSet};

use rhai::Position;

use crate::host::permission::{Asked, entry_of};
use crate::host::{FunctionKind, NeedObject};
use crate::script::check::calls::{Argument, Reached};
use crate::script::check::known::declared;
use crate::script::check::text::Text;
use crate::script::check::{Findings, World};

/// Compares the host calls a runbook reaches with its header.
pub(super) fn compare(main: &Text, world: &World<'_>, reached: &[Reached<'_>], asked: &Asked, findings: &mut Findings) {
    let mut told = BTreeSet::new();
    let mut used = BTreeSet::new();
    let mut is_known = true;
    for call in reached {
        let Some(function) = declared(Some(call.module), call.function) else { continue };
        let Some(need) = &function.need else {
            // It decides when it runs what it needs.
            is_known &= function.kind == FunctionKind::Pure;
            continue;
        };
        let object = object_of(&need.object, call.arguments);
        let literal = match &object {
            Argument::Literal(text) => Some(text.as_str()),
            _ => None,
        };
        used.extend(asked.covering(need.section, need.verb));
        let others: Vec<usize> = function.alternatives.iter().flat_map(|(section, verb)| asked.covering(section, verb)).collect();
        let has_another = !others.is_empty();
        used.extend(others);
        // Only a module of the section's own name is certain to need it: `logs` may read a file or a container.
        let is_certain = call.module == need.section && call.text == main.path;
        let name = format!("{}::{}", call.module, call.function);
        let entry = entry_of(need.section, need.verb, &suggested(need.section, &object));
        let missing = if asked.covering(need.section, need.verb).is_empty() {
            if has_another {
                continue;
            }
            format!("`{name}` needs `{}` of `{}`, which the header does not ask for", need.verb, need.section)
        } else if let Some(literal) = literal.filter(|literal| !asked.may_cover(need.section, need.verb, literal)) {
            format!("`{name}` needs `{}` on `{literal}`, which no entry of the header covers", need.verb)
        } else {
            continue;
        };
        let at = if call.text == main.path { call.at } else { call.from };
        if !told.insert((missing.clone(), at)) {
            continue;
        }
        let mut finding = match is_certain {
            true => findings.error(main, at, "RB1201", missing),
            false => findings.warning(main, at, "RB1201", missing),
        };
        finding.hint(format!("ask for it in the header: allow: #{{ {entry} }}"));
        if call.text != main.path {
            let line = call.at.line().unwrap_or(0);
            finding.hint(format!("it is called in `{}`, line {line}", call.text));
        }
    }
    // What a misspelt call would have needed is not known either.
    if is_known && !findings.found.iter().any(|finding| matches!(finding.code.as_str(), "RB1102" | "RB1103")) {
        unused(main, world, asked, &used, findings);
    }
}

fn unused(main: &Text, world: &World<'_>, asked: &Asked, used: &BTreeSet<usize>, findings: &mut Findings) {
    for (index, entry) in asked.entries().iter().enumerate() {
        // Secrets are used by the system's own settings too.
        if used.contains(&index) || entry.section == "secrets" {
            continue;
        }
        let places = world.header_places;
        let key = [entry.key.as_str(), &format!("allow.{}.{}", entry.section, entry.verb), &format!("allow.{}", entry.section)]
            .into_iter()
            .find_map(|key| places.get(key));
        let at = key.map_or(Position::NONE, |place| position(place.line, place.column));
        findings
            .warning(main, at, "RB1202", format!("the header asks for `{}` of `{}`, which nothing here needs", entry.verb, entry.section))
            .hint("remove it; a runbook asks for what it needs only");
    }
}

pub(super) fn position(line: usize, column: usize) -> Position {
    let small = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    if line == 0 { Position::NONE } else { Position::new(small(line), small(column)) }
}

fn object_of(object: &NeedObject, arguments: &[Argument]) -> Argument {
    match object {
        NeedObject::Fixed(text) => Argument::Literal((*text).to_owned()),
        NeedObject::Argument(index) => arguments.get(*index).cloned().unwrap_or(Argument::Unknown),
    }
}

/// The object of an entry that would cover it.
fn suggested(section: &str, object: &Argument) -> String {
    match object {
        Argument::Literal(text) => text.clone(),
        Argument::Prefix(text) => format!("{text}*"),
        Argument::Unknown => match section {
            "docker" | "systemd" => "${services.*}",
            "sql" => "${databases.*}",
            "redis" => "${caches.*}",
            "http" | "net" => "${endpoints.*}",
            "fs" => "${paths.*}",
            "notify" => "${contacts.*}",
            _ => "*",
        }
        .to_owned(),
    }
}

/// What the header would have to ask for, by section.
pub(super) fn suggest(reached: &[Reached<'_>]) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for call in reached {
        let Some(need) = declared(Some(call.module), call.function).and_then(|function| function.need.as_ref()) else { continue };
        let object = suggested(need.section, &object_of(&need.object, call.arguments));
        let entry = entry_of(need.section, need.verb, &object);
        let texts = entry.split('"').nth(1).unwrap_or(&object).to_owned();
        let text = if need.section == "fs" { format!("{}:{object}", need.verb) } else { texts };
        all.entry(need.section.to_owned()).or_default().insert(text);
    }
    all.into_iter().map(|(section, entries)| (section, entries.into_iter().collect())).collect()
}
