//! Rhai's errors as ours: the place, the call chain, and a hint.

use std::collections::BTreeMap;

use rhai::{AST, EvalAltResult, ParseError, ParseErrorType, Position};

use crate::error::{Error, Frame, Kind, Place};
use crate::host::error_of;
use crate::script::{Script, compile};

/// Which file each text and each closure of a run stands in.
#[derive(Debug, Default)]
pub struct Sources {
    main: String,
    /// Closures have names of their own; an error in one is attributed to the module that called it,
    /// with the right line of the wrong file, so the name decides.
    closures: BTreeMap<String, String>,
}

impl Sources {
    /// Those of a script and its modules.
    pub fn of(script: &Script) -> Self {
        let mut sources = Self { main: script.path.clone(), closures: BTreeMap::new() };
        sources.add(&script.ast, &script.path);
        for (path, text) in &script.modules {
            if let Ok(ast) = compile(path, text) {
                sources.add(&ast, path);
            }
        }
        sources
    }

    fn add(&mut self, ast: &AST, file: &str) {
        for function in ast.iter_functions().filter(|function| function.name.starts_with("anon$")) {
            self.closures.insert(function.name.to_owned(), file.to_owned());
        }
    }
}

/// The error of a run as a person needs it.
pub fn diagnose(error: &EvalAltResult, sources: &Sources) -> Error {
    let mut frames = Vec::new();
    let mut file = sources.main.clone();
    let mut next = error;
    loop {
        match next {
            EvalAltResult::ErrorInFunctionCall(function, source, inner, position) => {
                let is_closure = function.contains("anon$");
                let name = if is_closure { "closure".to_owned() } else { function.split(" @ ").next().unwrap_or(function).to_owned() };
                frames.push(Frame { function: name, called_at: place(&file, *position) });
                let closure_name = function.split(" @ ").next().unwrap_or(function);
                if let Some(known) = sources.closures.get(closure_name) {
                    file.clone_from(known);
                } else if !source.is_empty() {
                    file.clone_from(source);
                }
                next = inner;
            }
            EvalAltResult::ErrorInModule(path, inner, position) => {
                frames.push(Frame { function: format!("import \"{path}\""), called_at: place(&file, *position) });
                file.clone_from(path);
                next = inner;
            }
            _ => break,
        }
    }
    frames.reverse();
    // A closure is called where it stands; its frame says nothing a reader can not see.
    frames.retain(|frame| frame.called_at.line > 0 && frame.function != "closure");
    let mut told = describe(next);
    told.frames = frames;
    told.at(place(&file, next.position()))
}

fn place(file: &str, position: Position) -> Place {
    Place { file: file.to_owned(), line: position.line().unwrap_or(0), column: position.position().unwrap_or(0) }
}

/// The message of the innermost error, in our words.
fn describe(error: &EvalAltResult) -> Error {
    match error {
        EvalAltResult::ErrorRuntime(..) | EvalAltResult::ErrorTerminated(..) => error_of(error),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => missing_function(signature),
        EvalAltResult::ErrorVariableNotFound(name, _) => Error::new(Kind::Failed, format!("there is no variable `{name}`")).code("RB1101"),
        EvalAltResult::ErrorPropertyNotFound(name, _) => Error::new(Kind::Failed, format!("there is no `{name}` in this map"))
            .code("RB2101")
            .hint(format!("use `.get(\"{name}\")` when it may be absent")),
        EvalAltResult::ErrorIndexNotFound(index, _) => {
            Error::new(Kind::Failed, format!("there is no `{index}` in this map")).code("RB2101")
        }
        EvalAltResult::ErrorArrayBounds(length, index, _) => {
            Error::new(Kind::Failed, format!("there is no item {index} in a list of {length}")).code("RB2102")
        }
        EvalAltResult::ErrorStackOverflow(_) => Error::new(Kind::Limit, "limit: calls: functions call each other too deeply")
            .code("RB3101")
            .hint("use a loop instead of recursion"),
        EvalAltResult::ErrorTooManyModules(_) => {
            Error::new(Kind::Limit, "limit: modules: too many imports").hint("import at the top, not in a loop")
        }
        EvalAltResult::ErrorMismatchOutputType(wanted, found, _) => {
            Error::new(Kind::Failed, format!("expected `{wanted}`, found `{found}`")).code("RB2103")
        }
        EvalAltResult::ErrorMismatchDataType(wanted, found, _) => {
            Error::new(Kind::Failed, format!("expected `{wanted}`, found `{found}`")).code("RB2103")
        }
        EvalAltResult::ErrorModuleNotFound(path, _) => Error::new(Kind::Script, format!("there is no module `{path}`")).code("RB1008"),
        EvalAltResult::ErrorParsing(kind, _) => Error::new(Kind::Script, parse_message(kind)).code("RB1000"),
        EvalAltResult::ErrorDataRace(name, _) => Error::new(Kind::Failed, format!("`{name}` is used by two threads at once"))
            .code("RB2104")
            .hint("return values from the closures of `parallel`; do not share variables"),
        other => Error::new(Kind::Failed, lower(&without_place(&other.to_string()))),
    }
}

fn missing_function(signature: &str) -> Error {
    let name = signature.split(" (").next().unwrap_or(signature);
    let arguments = signature.split_once(" (").map_or("", |(_, rest)| rest.trim_end_matches(')'));
    let types: Vec<String> = split_types(arguments).iter().map(|name| type_in_words(name)).collect();
    if name.len() <= 2 && !name.chars().any(char::is_alphanumeric) && types.len() == 2 {
        return Error::new(Kind::Failed, format!("`{name}` does not work between {} and {}", types[0], types[1])).code("RB2105");
    }
    let error = if types.is_empty() {
        Error::new(Kind::Failed, format!("there is no function `{name}` without arguments"))
    } else {
        Error::new(Kind::Failed, format!("there is no function `{name}` that takes {}", types.join(" and ")))
    };
    error.code("RB1102").hint(format!("see `runbook docs {name}`"))
}

fn split_types(arguments: &str) -> Vec<&str> {
    arguments.split(", ").map(str::trim).filter(|name| !name.is_empty()).collect()
}

fn type_in_words(name: &str) -> String {
    let name = name.split(" | ").next().unwrap_or(name);
    match crate::host::type_in_words(name) {
        known if known != name => known.to_owned(),
        _ => format!("a `{}`", name.rsplit("::").next().unwrap_or(name)),
    }
}

fn without_place(text: &str) -> String {
    text.rsplit_once(" (line ").map_or(text, |(before, _)| before).to_owned()
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// The error of a text that does not compile.
pub(super) fn parse_error(file: &str, _text: &str, error: &ParseError) -> Error {
    let mut told = Error::new(Kind::Script, parse_message(error.err_type())).at(place(file, error.position())).code("RB1000");
    match error.err_type() {
        ParseErrorType::VariableUndefined(_) => told.code = Some("RB1101".to_owned()),
        ParseErrorType::ModuleUndefined(_) => {
            told.code = Some("RB1103".to_owned());
            told.hints.push("see `runbook docs` for the host modules, or import it".to_owned());
        }
        ParseErrorType::Reserved(word) => {
            told.hints.push(format!("it is a reserved word; as a key of a map write it in quotes: `\"{word}\": …`, `map[\"{word}\"]`"));
        }
        ParseErrorType::BadInput(_) if told.message.contains("'eval'") => {
            "`eval` can not be used here".clone_into(&mut told.message);
            told.hints.push("text can not become code here; write a function".to_owned());
        }
        _ => {}
    }
    told
}

fn parse_message(kind: &ParseErrorType) -> String {
    match kind {
        ParseErrorType::VariableUndefined(name) => format!("there is no variable `{name}`"),
        ParseErrorType::ModuleUndefined(name) => format!("there is no module `{name}`"),
        ParseErrorType::Reserved(word) => format!("`{word}` can not be used here"),
        ParseErrorType::MissingToken(token, what) => format!("`{token}` is missing {what}"),
        ParseErrorType::UnexpectedEOF => "the script ends too early".to_owned(),
        ParseErrorType::ExprTooDeep => "the expression is nested too deeply".to_owned(),
        other => lower(&without_place(&other.to_string())),
    }
}
