//! The arguments of a program: what the script wrote may be an option, what it was told may not.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use rhai::{AST, ASTNode, Dynamic, Expr};

use crate::error::{Error, Kind, Result};
use crate::host::{Ctx, Secret, type_in_words};

/// An argument that comes from data: it is never taken for an option.
#[derive(Clone)]
pub(crate) struct DataArgument(pub(crate) String);

/// An option that the script put together and answers for.
#[derive(Clone)]
pub(crate) struct OptionArgument(pub(crate) String);

/// The options that stand in the texts of a run: its script and what that imports. A text that begins
/// with `-` and is none of them came from outside.
#[derive(Default)]
pub(crate) struct WrittenOptions(Mutex<BTreeSet<String>>);

impl WrittenOptions {
    /// Adds those of a text.
    pub(crate) fn read(&self, ast: &AST) {
        let mut found = BTreeSet::new();
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            match path.last() {
                Some(ASTNode::Expr(Expr::StringConstant(text, _))) => keep(text, &mut found),
                Some(ASTNode::Expr(Expr::DynamicConstant(value, _))) => keep_all(value, &mut found),
                _ => {}
            }
            true
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).append(&mut found);
    }

    /// Whether the script wrote this, or its name up to the `=`.
    fn hold(&self, text: &str) -> bool {
        let options = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = text.find('=').map(|end| &text[..=end]);
        options.contains(text) || name.is_some_and(|name| options.contains(name))
    }
}

fn keep(text: &str, found: &mut BTreeSet<String>) {
    if text.starts_with('-') {
        found.insert(text.to_owned());
    }
}

fn keep_all(value: &Dynamic, found: &mut BTreeSet<String>) {
    if let Ok(text) = value.as_immutable_string_ref() {
        keep(&text, found);
    } else if let Ok(list) = value.as_array_ref() {
        list.iter().for_each(|item| keep_all(item, found));
    } else if let Ok(map) = value.as_map_ref() {
        map.values().for_each(|item| keep_all(item, found));
    }
}

/// The arguments of a program, each as it is.
///
/// # Errors
///
/// `invalid` for data that the program would take for an option, for a secret, and for what is no text.
pub(crate) fn arguments(ctx: &Ctx, program: &str, values: &[Dynamic]) -> Result<Vec<String>> {
    let knows_the_end_of_options = !matches!(program.rsplit('/').next(), Some("find" | "curl"));
    let written = ctx.state::<WrittenOptions>();
    let mut after_options = false;
    let mut texts = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let (text, may_be_option) = text_of(value, index + 1, &written)?;
        if text.starts_with('-') && !may_be_option && !(after_options && knows_the_end_of_options) {
            let data = format!("comes from data and begins with `-`: `{}`", text.escape_debug());
            let end = "put \"--\" before it, when the program knows that as the end of its options";
            return Err(bad(index + 1, &data, end).hint("an option that the script puts together itself is `exec::option(…)`"));
        }
        if text.contains('\0') {
            return Err(Error::new(Kind::Invalid, format!("argument {} holds a NUL character", index + 1)));
        }
        if let Some(name) = secret_in(ctx, &text) {
            return Err(shown(index + 1, &format!("holds the secret `{name}`")));
        }
        after_options |= text == "--";
        texts.push(text);
    }
    Ok(texts)
}

/// The name of the secret whose value stands in a text.
pub(crate) fn secret_in<'c>(ctx: &'c Ctx, text: &str) -> Option<&'c str> {
    ctx.secrets().iter().find(|(_, value)| !value.is_empty() && text.contains(value)).map(|(name, _)| name)
}

/// The text of an argument, and whether it may be an option.
fn text_of(value: &Dynamic, index: usize, written: &WrittenOptions) -> Result<(String, bool)> {
    if value.is::<Secret>() {
        return Err(shown(index, "is a secret"));
    }
    if let Some(data) = value.read_lock::<DataArgument>() {
        return Ok((data.0.clone(), false));
    }
    if let Some(option) = value.read_lock::<OptionArgument>() {
        return Ok((option.0.clone(), true));
    }
    let text = match value.as_immutable_string_ref() {
        Ok(text) => text.to_string(),
        Err(_) if value.is_int() || value.is_float() || value.is_char() => value.to_string(),
        Err(_) => return Err(bad(index, &format!("is {}, not a text", type_in_words(value.type_name())), "make it a text")),
    };
    let may_be_option = written.hold(&text);
    Ok((text, may_be_option))
}

/// A value with the words of programs in it as texts, for who records what was asked.
pub(crate) fn as_texts(value: &Dynamic) -> Dynamic {
    if let Some(data) = value.read_lock::<DataArgument>() {
        return data.0.clone().into();
    }
    if let Some(option) = value.read_lock::<OptionArgument>() {
        return option.0.clone().into();
    }
    match value.as_array_ref() {
        Ok(list) => Dynamic::from_array(list.iter().map(as_texts).collect()),
        Err(_) => value.clone(),
    }
}

fn shown(index: usize, what: &str) -> Error {
    bad(index, &format!("{what}, and everyone can see the arguments of a program"), "give it by `stdin`, or to `exec` by `secret_files`")
}

fn bad(index: usize, why: &str, hint: &str) -> Error {
    Error::new(Kind::Invalid, format!("argument {index} {why}")).hint(hint)
}
