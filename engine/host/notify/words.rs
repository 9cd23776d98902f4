//! How a message reads: subject, plain body, and texts that can neither ping people nor hide links.

use crate::model::{Message, Urgency};

/// Longer subjects are cut.
const SUBJECT_LENGTH: usize = 200;
/// Longer bodies are cut; whoever needs more reads the run.
const BODY_LENGTH: usize = 60_000;
/// Breaks a word for machines and not for people.
const BREAK: char = '\u{200b}';

/// The subject, with the urgency before it unless it brings a mark of its own.
pub(super) fn subject(message: &Message) -> String {
    let mut subject = line(&message.subject);
    if subject.is_empty() {
        subject = line(message.text.lines().next().unwrap_or_default());
    }
    if !subject.starts_with(['[', '【']) {
        let label = label(message.level, &message.language);
        subject = if message.language == "zh" { format!("【{label}】{subject}") } else { format!("[{label}] {subject}") };
    }
    cut(&subject, SUBJECT_LENGTH)
}

/// The text, the facts and the next command, in plain text.
pub(super) fn body(message: &Message) -> String {
    let zh = message.language == "zh";
    let mut parts = vec![clean(&message.text).trim_end().to_owned()];
    let separator = if zh { "：" } else { ": " };
    let facts: Vec<String> = message.facts.iter().map(|(name, value)| format!("{}{separator}{}", line(name), line(value))).collect();
    parts.push(facts.join("\n"));
    if let Some(next) = &message.next {
        parts.push(format!("{}{separator}{}", if zh { "下一步" } else { "Next" }, line(next)));
    }
    parts.retain(|part| !part.is_empty());
    cut(&parts.join("\n\n"), BODY_LENGTH)
}

/// The word for an urgency.
pub(super) fn label(urgency: Urgency, language: &str) -> &'static str {
    match (language, urgency.name()) {
        ("zh", "ok") => "正常",
        ("zh", "warning") => "警告",
        ("zh", "critical") => "严重",
        ("zh", "unknown") => "未知",
        (_, name) => name,
    }
}

/// A text without what steers terminals, mail headers and the direction of reading.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|&letter| letter == '\n' || letter == '\t' || !steers(letter)).collect()
}

/// A text on one line.
pub(super) fn line(text: &str) -> String {
    let spaced: String = text.chars().map(|letter| if letter == '\t' || steers(letter) { ' ' } else { letter }).collect();
    spaced.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn steers(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The first `length` characters, and how many more there were.
pub(super) fn cut(text: &str, length: usize) -> String {
    let count = text.chars().count();
    if count <= length {
        return text.to_owned();
    }
    let kept: String = text.chars().take(length).collect();
    format!("{kept}… (+{})", count - length)
}

/// A text in which nobody is mentioned: `@all`, `@everyone`, `@13800000000` are only words.
pub(super) fn without_mentions(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut before = ' ';
    for letter in text.chars() {
        // An address like ops@example.com is no mention; the letter before its sign tells.
        if before == '@' {
            let is_address = safe.chars().rev().nth(1).is_some_and(|letter| letter.is_ascii_alphanumeric());
            if !is_address {
                safe.push(BREAK);
            }
        }
        safe.push(letter);
        before = letter;
    }
    safe
}

/// A text in which no Markdown hides an address behind words, and no markup is read.
pub(super) fn without_links(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut before = ' ';
    for letter in text.chars() {
        let opens_link = before == ']' && (letter == '(' || letter == ':' || letter == '[');
        let opens_tag = before == '<' && (letter.is_ascii_alphabetic() || matches!(letter, '/' | '!' | '@' | '#'));
        if opens_link || opens_tag {
            safe.push(BREAK);
        }
        safe.push(letter);
        before = letter;
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Level;

    fn message(subject: &str) -> Message {
        Message { subject: subject.to_owned(), level: Urgency::Level(Level::Critical), ..Message::default() }
    }

    #[test]
    fn a_subject_is_one_line_with_its_urgency() {
        assert_eq!(subject(&message("disk\r\nBcc: eve@example.com\tfull")), "[critical] disk Bcc: eve@example.com full");
        assert_eq!(subject(&message("[P0] disk full")), "[P0] disk full");
        assert_eq!(subject(&Message { language: "zh".to_owned(), ..message("磁盘已满") }), "【严重】磁盘已满");
        assert_eq!(subject(&Message { text: "first\nsecond".to_owned(), ..Message::default() }), "[ok] first");
    }

    #[test]
    fn a_body_holds_text_facts_and_the_next_command() {
        let message = Message {
            text: "it is \x1b[31mred\n".to_owned(),
            facts: vec![("host".to_owned(), "a\nb".to_owned())],
            next: Some("runbook run check-health".to_owned()),
            ..Message::default()
        };
        assert_eq!(body(&message), "it is [31mred\n\nhost: a b\n\nNext: runbook run check-health");
    }

    #[test]
    fn nobody_is_mentioned_and_addresses_stay() {
        for mention in ["@all", "@everyone now", "x @channel", "@所有人", "(@here)", "@@all"] {
            let safe = without_mentions(mention);
            assert!(!safe.contains(mention.trim_start_matches(['x', ' ', '('])), "{safe:?}");
            assert_eq!(safe.replace(BREAK, ""), mention);
        }
        assert_eq!(without_mentions("ops@example.com"), "ops@example.com");
    }

    #[test]
    fn no_link_hides_behind_words() {
        for link in
            ["[bank](https://evil.example)", "![](https://evil.example/x.png)", "[a]: https://evil.example", "<a href=x>", "<!channel>"]
        {
            let safe = without_links(link);
            assert!(!safe.contains("](") && !safe.contains("]:") && !safe.contains("<a") && !safe.contains("<!"), "{safe:?}");
        }
        assert_eq!(without_links("a[0] < b"), "a[0] < b");
    }

    #[test]
    fn a_cut_text_says_how_much_is_missing() {
        assert_eq!(cut("数据库连接", 3), "数据库… (+2)");
        assert_eq!(cut("abc", 3), "abc");
    }
}
