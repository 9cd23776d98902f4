//! Text of others on our terminal: what could move the cursor, forge a line or turn it round is shown, not done.

use std::borrow::Cow;
use std::fmt::Write;

/// A text in one line: line ends are shown too.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escape(text, is_harmful)
}

/// A text of several lines; tabs and line ends stay.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |letter| !matches!(letter, '\n' | '\t') && is_harmful(letter))
}

/// One letter as it is shown.
pub(crate) fn letter(letter: char) -> String {
    match letter {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        other => format!("\\u{{{:x}}}", u32::from(other)),
    }
}

/// Control characters, and what is invisible or changes the direction of what follows.
pub(crate) fn is_harmful(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn escape(text: &str, is_harmful: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for each in text.chars() {
        match is_harmful(each) {
            true => shown.push_str(&letter(each)),
            false => write!(shown, "{each}").expect("a text takes every letter"),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_deceive_is_shown() {
        for (text, shown) in [
            ("plain, ünïcode, 中文, 👍", "plain, ünïcode, 中文, 👍"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\u{1b}]8;;http://x\u{7}a", "\\u{1b}]8;;http://x\\u{7}a"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\rb", "a\\rb"),
            ("user\u{202e}txt.exe", "user\\u{202e}txt.exe"),
            ("a\nerror: forged", "a\\nerror: forged"),
        ] {
            assert_eq!(line(text), shown);
        }
        assert_eq!(lines("a\n\tb\r\n"), "a\n\tb\\r\n");
    }
}
