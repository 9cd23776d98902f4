//! The only place that prints: the answer on standard output, talk on standard error.

use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};

use crate::model::{Level, RunState};

/// What is good.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// What is bad.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What someone should look at.
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
/// What matters less.
pub(super) const DIM: Style = Style::new().dimmed();
/// What matters more.
pub(super) const STRONG: Style = Style::new().bold();

/// The two streams of a command and what they can show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terminal {
    quiet: bool,
    unicode: bool,
}

impl Terminal {
    /// The terminal of this process.
    pub(super) fn new(quiet: bool, locale: Option<&str>) -> Self {
        let unicode = locale.is_some_and(|locale| locale.to_ascii_lowercase().replace('-', "").contains("utf8"));
        Self { quiet, unicode }
    }

    /// Whether it was asked to say less.
    pub(super) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Whether a person watches the talk.
    pub(super) fn is_watched(self) -> bool {
        std::io::stderr().is_terminal()
    }

    /// Whether a person can be asked.
    pub(super) fn can_ask(self) -> bool {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// How wide the answer may be; nothing when no terminal shows it.
    #[expect(clippy::unused_self, reason = "the terminal is the only one who knows the streams")]
    pub(super) fn columns(self) -> Option<usize> {
        console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns))
    }

    /// Prints a part of the answer. A reader that went away ends nothing but the printing.
    #[expect(clippy::unused_self, reason = "printing goes through the terminal, so that it has one home")]
    pub(super) fn answer(self, text: &str) {
        let mut out = anstream::stdout().lock();
        let _ = writeln!(out, "{}", text.trim_end_matches('\n'));
    }

    /// Prints a part of the answer that may be empty.
    pub(super) fn answer_if_any(self, text: &str) {
        if !text.is_empty() {
            self.answer(text);
        }
    }

    /// Prints raw bytes of an answer.
    #[expect(clippy::unused_self, reason = "printing goes through the terminal, so that it has one home")]
    pub(super) fn raw(self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// Says something beside the answer.
    pub(super) fn say(self, text: &str) {
        if !self.quiet {
            self.insist(text);
        }
    }

    /// Says something beside the answer, also when asked to be quiet.
    #[expect(clippy::unused_self, reason = "printing goes through the terminal, so that it has one home")]
    pub(super) fn insist(self, text: &str) {
        let mut talk = anstream::stderr().lock();
        let _ = writeln!(talk, "{}", text.trim_end_matches('\n'));
    }

    /// The symbol of a level, styled.
    pub(super) fn level(self, level: Level) -> String {
        match level {
            Level::Ok => self.symbol(GOOD, "✔", "ok"),
            Level::Warning => self.symbol(WARN, "▲", "!"),
            Level::Critical => self.symbol(BAD, "✖", "x"),
            Level::Unknown => self.symbol(BAD, "?", "?"),
        }
    }

    /// The symbol of a state, styled.
    pub(super) fn state(self, state: RunState) -> String {
        match state {
            RunState::Succeeded => self.symbol(GOOD, "✔", "ok"),
            RunState::Warning => self.symbol(WARN, "▲", "!"),
            RunState::Failed | RunState::TimedOut | RunState::NeedsAttention | RunState::Interrupted => self.symbol(BAD, "✖", "x"),
            RunState::Running => self.symbol(STRONG, "●", "*"),
            RunState::Queued => self.symbol(DIM, "○", "o"),
            RunState::Waiting => self.symbol(WARN, "⏸", "="),
            RunState::Cancelled | RunState::Skipped => self.symbol(DIM, "↷", "-"),
        }
    }

    /// A styled symbol, or its ASCII stand-in.
    pub(super) fn symbol(self, style: Style, symbol: &str, ascii: &str) -> String {
        styled(style, if self.unicode { symbol } else { ascii })
    }
}

/// A styled text.
pub(super) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// How wide a text is on a terminal, styles left out.
pub(super) fn width(text: &str) -> usize {
    console::measure_text_width(text)
}

/// A text in lines no wider than this, broken between words.
pub(super) fn wrapped(text: &str, widest: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a line from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if width(line) + 1 + width(word) <= widest {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

/// A table without borders: columns are as wide as they have to be, two blanks apart.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (cell, wide) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(wide - width(cell) + 2));
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_broken_between_words_and_a_long_word_stays_whole() {
        assert_eq!(wrapped("ab cd efghij k", 5), "ab cd\nefghij\nk");
        assert_eq!(wrapped("中文 字", 6), "中文\n字");
        assert_eq!(wrapped("", 5), "");
    }
}
