//! The only place that builds a Rhai engine: limits, header, imports, the lint, and errors people can read.
//!
//! A script is text that was read by someone else; nothing here opens a file.

mod check;
mod codes;
mod diagnose;
mod engine;
mod header;
pub mod language;
mod params;
pub mod reference;
mod resolver;

use std::collections::BTreeMap;

use rhai::AST;
use sha2::{Digest, Sha256};

pub(crate) use check::token_length;
pub use check::{check, check_text, suggest_allow};
pub use codes::{CODES, Code, explain};
pub use diagnose::{Sources, diagnose};
pub use engine::{Language, evaluate};
pub use language::{Compensation, compensations};
pub use params::{Given, check_params};
pub use resolver::{STDLIB, imports, stdlib};

use crate::error::{Error, Kind, Place, Result};
use crate::model::{Header, Module};
use crate::words;

/// The longest script, in bytes: compiling is quadratic in places, and nothing can interrupt it.
pub const MAX_SOURCE: usize = 64 * 1024;

/// A runbook that was read, compiled and understood, but not run.
#[derive(Debug)]
pub struct Script {
    /// The name people run it by.
    pub name: String,
    /// The file as the user names it.
    pub path: String,
    /// The text.
    pub text: String,
    /// Its `//!` lines: the manual.
    pub manual: String,
    /// Its header.
    pub header: Header,
    /// Where the keys of the header stand: `params.keep` → place.
    pub header_places: BTreeMap<String, Place>,
    /// The compiled text.
    pub ast: AST,
    /// Every module it imports, directly or not, by import path.
    pub modules: BTreeMap<String, String>,
}

impl Script {
    /// Reads a runbook. `find` gives the text of a module by its import path, or nothing.
    ///
    /// # Errors
    ///
    /// `script`, with the place, when it does not compile, has no valid header, or imports what is not there.
    pub fn read(name: &str, path: &str, text: &str, find: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let ast = compile(path, text)?;
        let (header, header_places) = header::read(&ast, path)?;
        let modules = resolver::collect(&ast, path, &find)?;
        let manual = ast
            .doc()
            .lines()
            .map(|line| line.trim_start_matches("//!").strip_prefix(' ').unwrap_or(line.trim_start_matches("//!")))
            .collect::<Vec<_>>()
            .join("\n");
        Ok(Self { name: name.to_owned(), path: path.to_owned(), text: text.to_owned(), manual, header, header_places, ast, modules })
    }

    /// The hash of its text, shortened: what `version` shows.
    pub fn version(&self) -> String {
        hash(&self.text)[..12].to_owned()
    }

    /// Its text and the text of each module it imports, for the record.
    pub fn record(&self) -> Vec<Module> {
        let of = |name: &str, text: &str| Module { name: name.to_owned(), hash: hash(text), text: text.to_owned() };
        std::iter::once(of(&self.path, &self.text)).chain(self.modules.iter().map(|(name, text)| of(name, text))).collect()
    }
}

/// SHA-256 of a text, in hex.
pub fn hash(text: &str) -> String {
    words::hex(&Sha256::digest(text.as_bytes()))
}

/// Compiles a text within all limits.
///
/// # Errors
///
/// `script`, with the place.
pub fn compile(path: &str, text: &str) -> Result<AST> {
    if text.len() > MAX_SOURCE {
        return Err(Error::new(Kind::Script, format!("the script is {} bytes long; at most {MAX_SOURCE} are allowed", text.len()))
            .at(Place { file: path.to_owned(), line: 0, column: 0 })
            .code("RB1009")
            .hint("move parts of it into modules and import them"));
    }
    let mut ast = Language::compiler().compile(text).map_err(|error| diagnose::parse_error(path, text, &error))?;
    ast.set_source(path);
    Ok(ast)
}
