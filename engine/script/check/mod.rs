//! The check of a script: what is wrong with it, found without running it.
//!
//! It reads the tree the compiler made, the metadata of the engine and the tables of the host modules.
//! It does not know systems: a placeholder in the header covers anything.

mod calls;
mod closures;
mod known;
mod names;
mod options;
mod permissions;
mod text;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use rhai::{AST, Position};

use crate::error::{Error, Place, Result};
use crate::host::permission::Asked;
use crate::model::{Diagnostic, Header, Verdict};
use crate::script::check::calls::Calls;
use crate::script::check::text::Text;
use crate::script::check::walk::Walk;
use crate::script::{Language, MAX_SOURCE, Script, compile, diagnose, header, resolver, stdlib};
use crate::words;

/// The most findings that are told; a broken script needs no more.
const MOST: usize = 200;

/// The most names that are compared with all others, which takes a while.
const MOST_SUGGESTIONS: usize = 50;

/// A longer name was not typed.
const LONGEST_NAME: usize = 64;

/// Checks a script and every module it imports.
///
/// The findings come by place; an error among them is enough not to run it.
pub fn check(script: &Script) -> Vec<Diagnostic> {
    let main = Text::new(&script.path, &script.text, &script.ast);
    examine(&main, &texts(&script.modules), Some(&script.header), &script.header_places, false)
}

/// Checks a text that may not even compile. `find` gives the text of a module by its import path.
pub fn check_text(name: &str, path: &str, text: &str, find: impl Fn(&str) -> Option<String>) -> Vec<Diagnostic> {
    let error = match Script::read(name, path, text, &find) {
        Ok(script) => return check(&script),
        Err(error) => error,
    };
    let told = Diagnostic::of(&error, length_in(&error, path, text, &find));
    // The compiler stops at the first name it does not know; the rest may still be worth telling.
    let ast = match compile_loosely(path, text) {
        Ok(ast) => ast,
        Err(syntax) if told.code != syntax.code.as_deref().unwrap_or_default() => {
            return vec![explained(Diagnostic::of(&syntax, length_in(&syntax, path, text, &find)), text)];
        }
        Err(_) => return vec![explained(told, text)],
    };
    let header = header::read(&ast, path).ok();
    let modules = resolver::collect(&ast, path, &find).unwrap_or_default();
    let none = BTreeMap::new();
    let (header, places) = header.as_ref().map_or((None, &none), |(header, places)| (Some(header), places));
    let mut found = examine(&Text::new(path, text, &ast), &texts(&modules), header, places, true);
    let is_told = found.iter().any(|other| other.at == told.at && other.code == told.code);
    found.extend((!is_told).then_some(told));
    sort(&mut found, path);
    found
}

/// The permissions a script needs, as its header would ask for them: section and entries.
pub fn suggest_allow(script: &Script) -> BTreeMap<String, Vec<String>> {
    let main = Text::new(&script.path, &script.text, &script.ast);
    let texts = texts(&script.modules);
    let world = World::new(&main, &texts, Some(&script.header), &script.header_places, false);
    let (_, calls) = walk_all(&main, &world);
    permissions::suggest(&calls.reached(&main, &world))
}

/// What the walk through one text knows of the others.
struct World<'a> {
    texts: &'a BTreeMap<String, Text>,
    header: Option<&'a Header>,
    header_places: &'a BTreeMap<String, Place>,
    /// Names that are keys of some map, in any text.
    keys: BTreeSet<String>,
    /// Whether variables that are nowhere are told here, since the compiler was not strict.
    tells_variables: bool,
}

impl<'a> World<'a> {
    fn new(
        main: &Text,
        texts: &'a BTreeMap<String, Text>,
        header: Option<&'a Header>,
        header_places: &'a BTreeMap<String, Place>,
        tells_variables: bool,
    ) -> Self {
        let keys = texts.values().chain([main]).flat_map(|text| text.keys.iter().cloned()).collect();
        Self { texts, header, header_places, keys, tells_variables }
    }
}

fn texts(modules: &BTreeMap<String, String>) -> BTreeMap<String, Text> {
    let compiled = modules.iter().filter_map(|(path, source)| Some((path.clone(), Text::new(path, source, &compile(path, source).ok()?))));
    compiled.collect()
}

/// Compiles a text in which names may be unknown.
fn compile_loosely(path: &str, text: &str) -> Result<AST> {
    if text.len() > MAX_SOURCE {
        return compile(path, text);
    }
    let mut engine = Language::compiler();
    engine.set_strict_variables(false);
    engine.compile(text).map_err(|error| diagnose::parse_error(path, text, &error))
}

/// A finding of the compiler, with a hint where people of other languages go wrong.
fn explained(mut found: Diagnostic, text: &str) -> Diagnostic {
    let line = text.lines().nth(found.at.line.saturating_sub(1)).unwrap_or_default();
    let rest: String = line.chars().skip(found.at.column.saturating_sub(1)).take(1).collect();
    if rest == ":" && found.hints.is_empty() {
        found.hints.push("arguments have no names; options are a map at the end: `#{ timeout: \"5s\" }`".to_owned());
    }
    found
}

fn walk_all(main: &Text, world: &World<'_>) -> (Findings, Calls) {
    let (mut findings, mut calls) = (Findings::default(), Calls::default());
    Walk::through(main, world, &mut findings, &mut calls);
    for text in world.texts.values() {
        findings.is_muted = stdlib(&text.path).is_some();
        Walk::through(text, world, &mut findings, &mut calls);
    }
    findings.is_muted = false;
    (findings, calls)
}

fn examine(
    main: &Text,
    texts: &BTreeMap<String, Text>,
    header: Option<&Header>,
    header_places: &BTreeMap<String, Place>,
    tells_variables: bool,
) -> Vec<Diagnostic> {
    let world = World::new(main, texts, header, header_places, tells_variables);
    let (mut findings, calls) = walk_all(main, &world);
    if let Some(header) = header {
        check_header(main, header, header_places, &mut findings);
        if let Ok(asked) = Asked::read(&header.allow) {
            permissions::compare(main, &world, &calls.reached(main, &world), &asked, &mut findings);
        }
    }
    findings.finish(main, texts)
}

fn check_header(main: &Text, header: &Header, places: &BTreeMap<String, Place>, findings: &mut Findings) {
    let at = |key: &str| places.get(key).map_or(Position::NONE, |place| permissions::position(place.line, place.column));
    if header.title.trim().is_empty() {
        findings
            .warning(main, at("title"), "RB1010", "the header has no title")
            .hint("add `title: \"…\"`: one line that says what it does");
    }
    for name in header.params.keys() {
        // A lock or a permission may name it too.
        let is_named = header.lock.as_ref().is_some_and(|lock| lock.contains(&format!("params.{name}")));
        if !findings.used_params.contains(name) && !is_named {
            findings
                .warning(main, at(&format!("params.{name}")), "RB1110", format!("parameter `{name}` is never used"))
                .hint(format!("use it as `params::{name}`, or remove it"));
        }
    }
}

/// The candidate that was probably meant.
fn near<'n>(name: &str, candidates: impl IntoIterator<Item = &'n String>) -> Option<&'n str> {
    if name.len() > LONGEST_NAME {
        return None;
    }
    words::nearest(name, candidates)
}

/// What was found so far.
#[derive(Default)]
struct Findings {
    found: Vec<Diagnostic>,
    /// Where the findings about the stdlib go, which has its own tests.
    aside: Option<Diagnostic>,
    is_muted: bool,
    suggestions: usize,
    looks: usize,
    used_params: BTreeSet<String>,
    used_globals: BTreeSet<(String, String)>,
}

/// A finding that may get hints.
struct Finding<'f>(&'f mut Diagnostic);

impl Finding<'_> {
    fn hint(&mut self, hint: impl Into<String>) {
        self.0.hints.push(hint.into());
    }
}

impl Findings {
    fn error(&mut self, text: &Text, at: Position, code: &str, message: impl Into<String>) -> Finding<'_> {
        self.add(Verdict::Error, text, at, code, message.into())
    }

    fn warning(&mut self, text: &Text, at: Position, code: &str, message: impl Into<String>) -> Finding<'_> {
        self.add(Verdict::Warning, text, at, code, message.into())
    }

    fn add(&mut self, severity: Verdict, text: &Text, at: Position, code: &str, message: String) -> Finding<'_> {
        let at = Place { file: text.path.clone(), line: at.line().unwrap_or(1), column: at.position().unwrap_or(1) };
        let finding = Diagnostic { severity, code: code.to_owned(), message, at, length: 1, hints: Vec::new() };
        // An error is worth more than the warning that came before it, so only warnings are cut off.
        if self.is_muted || self.found.len() >= MOST && severity == Verdict::Warning || self.found.len() >= 2 * MOST {
            return Finding(self.aside.insert(finding));
        }
        self.found.push(finding);
        Finding(self.found.last_mut().expect("a finding was pushed above"))
    }

    /// The letter at a place of a text; none once many were looked at, each of which takes a while.
    fn looks_at(&mut self, text: &Text, at: Position) -> Option<char> {
        self.looks += 1;
        if self.looks > MOST {
            return None;
        }
        text.source.lines().nth(at.line()?.checked_sub(1)?)?.chars().nth(at.position()?.checked_sub(1)?)
    }

    /// The known name that was probably meant; none once many names were wrong.
    fn suggest<'n>(&mut self, name: &str, candidates: impl IntoIterator<Item = &'n String>) -> Option<String> {
        self.suggestions += 1;
        if self.suggestions > MOST_SUGGESTIONS {
            return None;
        }
        near(name, candidates).map(str::to_owned)
    }

    /// Sorted by place, each once, with the length of what it is about.
    fn finish(mut self, main: &Text, texts: &BTreeMap<String, Text>) -> Vec<Diagnostic> {
        for text in texts.values().chain([main]) {
            let lines: Vec<&str> = text.source.lines().collect();
            for finding in self.found.iter_mut().filter(|finding| finding.at.file == text.path) {
                finding.length = token_length(&lines, &finding.at);
            }
        }
        sort(&mut self.found, &main.path);
        self.found.dedup_by(|one, other| one.at == other.at && one.code == other.code && one.message == other.message);
        self.found.truncate(MOST);
        self.found
    }
}

/// By place, the runbook itself first.
fn sort(found: &mut [Diagnostic], main: &str) {
    found.sort_by(|one, other| {
        let order = |finding: &Diagnostic| (finding.at.file != main, finding.at.line, finding.at.column, finding.severity);
        (order(one).0, &one.at.file).cmp(&(order(other).0, &other.at.file)).then(order(one).cmp(&order(other)))
    });
}

/// How long the word, text or sign at a place is.
pub(crate) fn token_length(lines: &[&str], at: &Place) -> usize {
    let line = at.line.checked_sub(1).and_then(|line| lines.get(line)).copied().unwrap_or_default();
    let mut letters = line.chars().skip(at.column.saturating_sub(1));
    let is_word = |letter: &char| letter.is_alphanumeric() || *letter == '_';
    match letters.next() {
        Some(first) if is_word(&first) => 1 + letters.take_while(is_word).count(),
        Some(quote @ ('"' | '`' | '\'')) => {
            let rest: Vec<char> = letters.collect();
            rest.iter().position(|letter| *letter == quote).map_or(1, |end| end + 2)
        }
        _ => 1,
    }
}

fn length_in(error: &Error, path: &str, text: &str, find: &impl Fn(&str) -> Option<String>) -> usize {
    let Some(at) = &error.at else { return 1 };
    let source = if at.file == path { Some(text.to_owned()) } else { find(&at.file) };
    source.map_or(1, |source| token_length(&source.lines().collect::<Vec<_>>(), at))
}

#[cfg(test)]
mod tests;
