//! Errors and findings as people read them: the line, what is meant underlined, the way there, what to do.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::cli::escape;
use crate::error::{Error, Place};
use crate::model::{Diagnostic, Verdict};

/// Gives the text of a file by the name an error has for it.
pub(crate) type Sources<'s> = dyn Fn(&str) -> Option<String> + 's;

/// The longest message that is shown; a script may throw anything.
const LONGEST: usize = 4000;
/// The longest line that is shown.
const LONGEST_LINE: usize = 2000;

/// An error with its line, its call chain and its hints.
pub(crate) fn error(error: &Error, sources: &Sources<'_>, styled: bool) -> String {
    let mut notes = vec![Note { at: error.at.as_ref(), length: None, label: None }];
    notes.extend(error.frames.iter().map(|frame| Note {
        at: Some(&frame.called_at),
        length: None,
        label: Some(format!("called `{}` from here", frame.function)),
    }));
    render(Level::ERROR, error.code.as_deref(), &error.message, &notes, &error.hints, sources, styled)
}

/// A finding of the check, with its line and its hints.
pub(crate) fn diagnostic(finding: &Diagnostic, sources: &Sources<'_>, styled: bool) -> String {
    let level = match finding.severity {
        Verdict::Error => Level::ERROR,
        Verdict::Warning => Level::WARNING,
    };
    let note = Note { at: Some(&finding.at), length: Some(finding.length), label: None };
    render(level, Some(&finding.code), &finding.message, &[note], &finding.hints, sources, styled)
}

/// A place and what is to be said of it; the first one of all has the message itself.
struct Note<'n> {
    at: Option<&'n Place>,
    length: Option<usize>,
    label: Option<String>,
}

fn render(
    level: Level<'_>,
    code: Option<&str>,
    message: &str,
    notes: &[Note<'_>],
    hints: &[String],
    sources: &Sources<'_>,
    styled: bool,
) -> String {
    let mut title = level.primary_title(shortened(message));
    if let Some(code) = code.filter(|code| !code.is_empty()) {
        title = title.id(escape::line(code).into_owned());
    }
    let mut group = Group::with_title(title);
    for (file, notes) in by_file(notes) {
        group = match sources(file) {
            Some(source) if notes[0].at.is_some_and(|at| at.line > 0) && can_be_shown(&source, &notes) => {
                group.element(snippet(file, &source, &notes))
            }
            _ => notes.iter().fold(group, |group, note| match (&note.label, note.at) {
                (Some(label), Some(at)) => {
                    group.element(Level::NOTE.message(shortened(&label.replace("from here", &format!("from {at}")))))
                }
                _ => group.element(origin(note.at, file)),
            }),
        };
    }
    for hint in hints {
        group = group.element(Level::HELP.message(shortened(hint)));
    }
    let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

fn shortened(text: &str) -> String {
    let text = escape::line(text);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

/// The notes of each file together, files in the order they come.
fn by_file<'n>(notes: &'n [Note<'n>]) -> Vec<(&'n str, Vec<&'n Note<'n>>)> {
    let mut files: Vec<(&str, Vec<&Note<'_>>)> = Vec::new();
    for note in notes {
        let Some(at) = note.at else { continue };
        match files.iter_mut().find(|(file, _)| *file == at.file) {
            Some((_, notes)) => notes.push(note),
            None => files.push((&at.file, vec![note])),
        }
    }
    files
}

fn origin<'o>(at: Option<&Place>, file: &str) -> Origin<'o> {
    let origin = Origin::path(escape::line(file).into_owned());
    match at {
        Some(at) if at.line > 0 => origin.line(at.line).char_column(at.column.max(1)),
        _ => origin,
    }
}

/// Whether the lines that are meant are such as people read. One that no screen holds shows nothing, and
/// laying it out for each of many findings takes seconds.
fn can_be_shown(source: &str, notes: &[&Note<'_>]) -> bool {
    let is_meant = |number: usize| notes.iter().filter_map(|note| note.at).any(|at| at.line == number);
    source.lines().enumerate().all(|(index, line)| line.len() <= LONGEST_LINE || !is_meant(index + 1))
}

/// The lines of a file from the first note to the last, each note under its word.
fn snippet<'s>(file: &str, source: &str, notes: &[&Note<'_>]) -> Snippet<'s, annotate_snippets::Annotation<'s>> {
    let lines: Vec<&str> = source.lines().collect();
    let numbers: Vec<usize> = notes.iter().filter_map(|note| note.at).map(|at| at.line.clamp(1, lines.len().max(1))).collect();
    let (first, last) = (numbers.iter().min().copied().unwrap_or(1), numbers.iter().max().copied().unwrap_or(1));
    let mut shown = String::new();
    let mut annotations = Vec::new();
    for number in first..=last {
        let line = lines.get(number - 1).copied().unwrap_or_default();
        let start = shown.len();
        // Where each letter stands in what is shown.
        let mut places = vec![start];
        for each in line.chars() {
            match each != '\t' && escape::is_harmful(each) {
                true => shown.push_str(&escape::letter(each)),
                false => shown.push(each),
            }
            places.push(shown.len());
        }
        for (index, note) in notes.iter().enumerate().filter(|(index, _)| numbers.get(*index) == Some(&number)) {
            let Some(at) = note.at else { continue };
            let column = at.column.saturating_sub(1).min(places.len() - 1);
            let length = note.length.unwrap_or_else(|| crate::script::token_length(&lines, at)).max(1);
            let end = (column + length).min(places.len() - 1);
            let span = places[column]..places[end].max(places[column]);
            let is_first = index == 0 && note.label.is_none();
            let kind = if is_first { AnnotationKind::Primary } else { AnnotationKind::Context };
            let annotation = kind.span(span);
            annotations.push(match &note.label {
                Some(label) => annotation.label(shortened(label)),
                None => annotation,
            });
        }
        shown.push('\n');
    }
    Snippet::source(shown).line_start(first).path(escape::line(file).into_owned()).annotations(annotations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Frame, Kind};

    fn place(file: &str, line: usize, column: usize) -> Place {
        Place { file: file.to_owned(), line, column }
    }

    fn shown(found: &Error, source: &str) -> String {
        let text = source.to_owned();
        error(found, &move |file| (file == "db.rhai").then(|| text.clone()), false)
    }

    #[test]
    fn the_word_is_underlined_and_the_way_there_is_told() {
        let found = Error::new(Kind::Connect, "connection refused").at(place("db.rhai", 2, 18)).code("RB2001").hint("is the database up?");
        let mut found = found;
        found.frames = vec![
            Frame { function: "look".to_owned(), called_at: place("db.rhai", 4, 1) },
            Frame { function: "all".to_owned(), called_at: place("lib/a", 9, 3) },
        ];
        let text = shown(&found, "fn look(db) {\n    let c = sql::ping(db);\n}\nlook(\"main\");");
        assert_eq!(
            text,
            "error[RB2001]: connection refused\n --> db.rhai:2:18\n  |\n2 |     let c = sql::ping(db);\n  |                  ^^^^\n3 | }\n\
             4 | look(\"main\");\n  | ---- called `look` from here\n  |\n  = note: called `all` from lib/a:9:3\n  = help: is the database up?"
        );
    }

    #[test]
    fn a_finding_is_shown_like_an_error() {
        let finding = Diagnostic {
            severity: Verdict::Warning,
            code: "RB1109".to_owned(),
            message: "unused import `a`".to_owned(),
            at: place("x", 1, 17),
            length: 1,
            hints: vec!["remove the line".to_owned()],
        };
        let text = diagnostic(&finding, &|_| Some("import \"lib\" as a;".to_owned()), false);
        assert_eq!(
            text,
            "warning[RB1109]: unused import `a`\n --> x:1:17\n  |\n1 | import \"lib\" as a;\n  |                 ^\n  |\n  = help: remove the line"
        );
    }

    #[test]
    fn nothing_can_forge_a_line_or_reach_the_terminal() {
        let evil = "x\nerror[RB0000]: forged\r\u{1b}[2J\u{202e}\u{1b}]0;title\u{7}";
        let mut found = Error::new(Kind::Failed, evil).at(place("db.rhai", 1, 40)).hint(evil);
        found.frames = vec![Frame { function: evil.to_owned(), called_at: place(evil, 1, 1) }];
        for styled in [false, true] {
            let text = error(&found, &|_| Some("let a = \"\u{1b}[2J\u{202e}\"; // \u{9b}\rerror: forged".to_owned()), styled);
            assert!(
                !text.lines().any(|line| line.trim_start().starts_with("error[RB0000]") || line.starts_with("error: forged")),
                "{text}"
            );
            assert!(!text.contains(['\r', '\u{202e}', '\u{9b}', '\u{7}']) && !text.contains("\u{1b}[2J"), "{text:?}");
            assert!(styled || !text.contains('\u{1b}'), "{text:?}");
        }
    }

    #[test]
    fn a_place_that_is_not_there_harms_nothing() {
        for (line, column, source) in [(0, 0, "a"), (9, 9, "a"), (1, 99, "a"), (1, 1, ""), (2, 1, "a\n"), (1, 2, "中文字")] {
            let text = shown(&Error::new(Kind::Failed, "it broke").at(place("db.rhai", line, column)), source);
            assert!(text.starts_with("error: it broke\n"), "{text}");
        }
        assert_eq!(shown(&Error::new(Kind::Failed, "it broke"), ""), "error: it broke");
    }
}
