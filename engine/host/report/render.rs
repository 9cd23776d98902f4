//! Templates with limits: strict about what is missing, and what they print can do no harm.

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, HtmlEscape, UndefinedBehavior};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// Longer templates are refused.
const TEMPLATE_LIMIT: usize = 256 * 1024;
/// Longer results are refused; it is what a mail server takes.
const RESULT_LIMIT: usize = 8 * 1024 * 1024;
/// So many instructions a template may take: a table of ten thousand rows, not a loop for ever.
const FUEL: u64 = 2_000_000;

/// What the result is read as; decides what of the data has to be escaped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// By people, in a terminal or a mail.
    #[default]
    Text,
    /// By a chat program or a wiki.
    Markdown,
    /// By a browser or a mail program.
    Html,
}

impl Format {
    /// A value of the data, without what this format would read as its own.
    pub(super) fn escaped(self, text: &str) -> String {
        let clean: String = text.chars().filter(|&letter| matches!(letter, '\n' | '\t') || !letter.is_control()).collect();
        match self {
            Self::Text => clean,
            Self::Markdown => markdown(&clean),
            Self::Html => HtmlEscape(&clean).to_string(),
        }
    }
}

/// Letters that mean something are marked; line breaks would let a value begin a heading or a list.
fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (index, letter) in text.trim_end().chars().enumerate() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\n' => escaped.push_str("<br>"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' => escaped.extend(['\\', letter]),
            '#' | '+' | '-' | '=' if index == 0 => escaped.extend(['\\', letter]),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The template filled with the data.
///
/// # Errors
///
/// `invalid` with the line, for a template that is wrong or asks for what the data does not have;
/// `limit` for one that takes too long or makes too much.
pub(super) fn render(format: Format, template: &str, data: &impl Serialize) -> Result<String> {
    if template.len() > TEMPLATE_LIMIT {
        return Err(Error::new(Kind::Limit, format!("the template has {} bytes, more than {TEMPLATE_LIMIT}", template.len())));
    }
    let environment = environment(format);
    let mut result = Capped(Vec::new());
    let filled =
        environment.template_from_str(template).and_then(|template| template.render_captured_to(Serde(data), &mut result).map(drop));
    match filled {
        Ok(()) => Ok(String::from_utf8_lossy(&result.0).into_owned()),
        Err(error) => Err(explained(&error, template)),
    }
}

fn environment(format: Format) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_debug(true);
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_formatter(move |out, _, value| {
        let text = match value {
            nothing if nothing.is_none() => String::new(),
            safe if safe.is_safe() => safe.to_string(),
            other => format.escaped(&other.to_string()),
        };
        out.write_str(&text).map_err(minijinja::Error::from)
    });
    environment
}

fn explained(error: &minijinja::Error, template: &str) -> Error {
    let place = error.line().map_or_else(String::new, |line| format!(" line {line}"));
    let piece = error.range().and_then(|range| template.get(range)).map(str::trim).unwrap_or_default();
    match error.kind() {
        ErrorKind::OutOfFuel => Error::new(Kind::Limit, format!("the template{place} takes too long")),
        ErrorKind::WriteFailure => Error::new(Kind::Limit, format!("the result is longer than {RESULT_LIMIT} bytes")),
        ErrorKind::UndefinedError if !piece.is_empty() => {
            Error::new(Kind::Invalid, format!("template{place}: `{piece}` is not in the data"))
                .hint(format!("give it, or write `{{{{ {piece} | default(\"…\") }}}}`"))
        }
        kind => {
            let detail = error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}"));
            Error::new(Kind::Invalid, format!("template{place}: {detail}"))
        }
    }
}

/// Takes what fits and then fails.
struct Capped(Vec<u8>);

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > RESULT_LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOSTILE: &str = "<b onclick=x>&\u{1b}[31m *bold* [a](https://evil.example) `x` |\n# head";

    #[test]
    fn data_is_escaped_for_its_format() {
        let filled = |format| render(format, "{{ x }}", &json!({ "x": HOSTILE })).unwrap();
        assert_eq!(filled(Format::Text), "<b onclick=x>&[31m *bold* [a](https://evil.example) `x` |\n# head");
        assert_eq!(filled(Format::Markdown), r"&lt;b onclick=x&gt;&amp;\[31m \*bold\* \[a\](https://evil.example) \`x\` \|<br># head");
        assert!(filled(Format::Html).starts_with("&lt;b onclick=x&gt;&amp;[31m"), "{}", filled(Format::Html));
    }

    #[test]
    fn what_is_missing_is_named_with_its_line() {
        let error = render(Format::Text, "a\n{{ host }}", &json!({})).unwrap_err();
        assert_eq!(error.message, "template line 2: `host` is not in the data");
        let error = render(Format::Text, "{{ a.b }}", &json!({ "a": {} })).unwrap_err();
        assert_eq!(error.message, "template line 1: `a.b` is not in the data");
    }

    #[test]
    fn a_wrong_template_is_told_with_its_line() {
        let error = render(Format::Text, "a\n{% if %}", &json!({})).unwrap_err();
        assert!(error.kind == Kind::Invalid && error.message.contains("line 2"), "{error}");
    }

    #[test]
    fn no_template_takes_for_ever_or_everything() {
        let slow = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        assert_eq!(render(Format::Text, slow, &json!({})).unwrap_err().kind, Kind::Limit);
        let long = "{% for a in range(9999) %}{{ x }}{% endfor %}";
        assert_eq!(render(Format::Text, long, &json!({ "x": "x".repeat(10_000) })).unwrap_err().kind, Kind::Limit);
    }

    #[test]
    fn nothing_prints_as_nothing() {
        assert_eq!(render(Format::Text, "[{{ x }}]", &json!({ "x": null })).unwrap(), "[]");
    }
}
