//! Permissions: what a script calls, compared with what its header asks for.

use std::collections::{BTreeMap, BTreeSet};

use rhai::Position;

use crate::host::permission::{Asked, entry_of};
use crate::host::{Function, FunctionKind, Need, NeedObject};
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
        let Some(function) = declared(module_of(call), call.function) else { continue };
        if function.all_needs().next().is_none() {
            // It decides when it runs what it needs.
            is_known &= function.kind == FunctionKind::Pure;
            continue;
        }
        for need in function.all_needs() {
            used.extend(asked.covering(need.section, need.verb));
        }
        for need in demanded(function, asked) {
            let object = object_of(&need.object, call.arguments);
            let Some(missing) = missing(call, need, &object, asked) else { continue };
            let at = if call.text == main.path { call.at } else { call.from };
            if !told.insert((missing.clone(), at)) {
                continue;
            }
            // Only a module of the section's own name is certain to need it: `logs` may read a file or a container.
            let is_certain = (call.module == need.section || call.module.is_empty()) && call.text == main.path;
            let mut finding = match is_certain {
                true => findings.error(main, at, "RB1201", missing),
                false => findings.warning(main, at, "RB1201", missing),
            };
            let entry = entry_of(need.section, need.verb, &suggested(need.section, &object));
            finding.hint(format!("ask for it in the header: allow: #{{ {entry} }}"));
            if call.text != main.path {
                let line = call.at.line().unwrap_or(0);
                finding.hint(format!("it is called in `{}`, line {line}", call.text));
            }
        }
    }
    // What a misspelt call would have needed is not known either.
    if is_known && !findings.found.iter().any(|finding| matches!(finding.code.as_str(), "RB1102" | "RB1103")) {
        unused(main, world, asked, &used, findings);
    }
}

/// The host module of a call; none of a word of the language.
fn module_of<'c>(call: &Reached<'c>) -> Option<&'c str> {
    Some(call.module).filter(|module| !module.is_empty())
}

/// The permissions the header has to have. Where one is enough that is the first, unless the header has another.
fn demanded<'f>(function: &'f Function, asked: &Asked) -> Vec<&'f Need> {
    let has = |need: &Need| !asked.covering(need.section, need.verb).is_empty();
    let mut needs: Vec<&Need> = function.all_needs().collect();
    if function.one_is_enough {
        let has_another = needs.iter().skip(1).any(|need| has(need));
        needs.truncate(1);
        needs.retain(|need| has(need) || !has_another);
    }
    needs
}

/// What the header does not cover of a need, if anything.
fn missing(call: &Reached<'_>, need: &Need, object: &Argument, asked: &Asked) -> Option<String> {
    let name = module_of(call).map_or_else(|| call.function.to_owned(), |module| format!("{module}::{}", call.function));
    if asked.covering(need.section, need.verb).is_empty() {
        return Some(format!("`{name}` needs `{}` of `{}`, which the header does not ask for", need.verb, need.section));
    }
    match object {
        Argument::Literal(literal) if !asked.may_cover(need.section, need.verb, literal) => {
            Some(format!("`{name}` needs `{}` on `{literal}`, which no entry of the header covers", need.verb))
        }
        _ => None,
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
            "http" | "net" | "prom" => "${endpoints.*}",
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
        let Some(function) = declared(module_of(call), call.function) else { continue };
        let most = if function.one_is_enough { 1 } else { usize::MAX };
        for need in function.all_needs().take(most) {
            let object = suggested(need.section, &object_of(&need.object, call.arguments));
            let entry = entry_of(need.section, need.verb, &object);
            let texts = entry.split('"').nth(1).unwrap_or(&object).to_owned();
            let text = if need.section == "fs" { format!("{}:{object}", need.verb) } else { texts };
            all.entry(need.section.to_owned()).or_default().insert(text);
        }
    }
    all.into_iter().map(|(section, entries)| (section, entries.into_iter().collect())).collect()
}
