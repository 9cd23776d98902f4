//! A terminal, as far as programs need one: what a person sees at the end.

use std::iter::Peekable;
use std::str::Chars;

/// How wide it is.
pub(super) const COLUMNS: usize = 110;

/// What stands on it.
#[derive(Default)]
struct Screen {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

/// What can be read after all of this was printed.
pub(super) fn shown(printed: &str) -> String {
    let mut screen = Screen::default();
    let mut letters = printed.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => screen.escape(&mut letters),
            '\r' => screen.column = 0,
            '\n' => screen.row += 1,
            letter if letter.is_control() => {}
            letter => screen.put(letter),
        }
    }
    let lines: Vec<String> = screen.lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect();
    lines.join("\n").trim_end().to_owned()
}

impl Screen {
    fn put(&mut self, letter: char) {
        // A full line is left with the next letter, not with its last.
        if self.column == COLUMNS {
            self.column = 0;
            self.row += 1;
        }
        let column = self.column;
        let line = self.line();
        if line.len() <= column {
            line.resize(column + 1, ' ');
        }
        line[column] = letter;
        self.column += 1;
    }

    fn line(&mut self) -> &mut Vec<char> {
        if self.lines.len() <= self.row {
            self.lines.resize(self.row + 1, Vec::new());
        }
        &mut self.lines[self.row]
    }

    /// What begins with escape: moves, erasures; colours and titles are nothing to read.
    fn escape(&mut self, letters: &mut Peekable<Chars<'_>>) {
        match letters.next() {
            Some('[') => {}
            Some(']') => {
                letters.find(|letter| *letter == '\u{7}');
                return;
            }
            _ => return,
        }
        let mut digits = String::new();
        while let Some(letter) = letters.next_if(|letter| !letter.is_ascii_alphabetic()) {
            digits.push(letter);
        }
        let number = digits.parse::<usize>().ok();
        let by = number.unwrap_or(1).max(1);
        match letters.next() {
            Some('A') => self.row = self.row.saturating_sub(by),
            Some('B') => self.row += by,
            Some('C') => self.column = (self.column + by).min(COLUMNS - 1),
            Some('D') => self.column = self.column.saturating_sub(by),
            Some('G') => self.column = by - 1,
            Some('K') if number == Some(2) => self.line().clear(),
            Some('K') => {
                let column = self.column;
                self.line().truncate(column);
            }
            Some('J') => {
                let (row, column) = (self.row, self.column);
                self.line().truncate(column);
                self.lines.truncate(row + 1);
            }
            _ => {}
        }
    }
}

#[test]
fn what_was_painted_over_is_not_seen() {
    assert_eq!(shown("a\r\n\u{1b}[1mworking\u{1b}[0m\r\u{1b}[2Kdone\r\nb\r\n"), "a\ndone\nb");
    assert_eq!(shown("one\r\ntwo\u{1b}[1A\r\u{1b}[2Kthree\u{1b}[1B\r\u{1b}[2K"), "three");
    assert_eq!(shown(&format!("{}x\r\u{1b}[2Ky", " ".repeat(COLUMNS))), "\ny");
}
