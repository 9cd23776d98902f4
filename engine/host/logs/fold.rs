//! What makes two lines the same: names of exceptions, messages, paths and statements without their
//! values.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

/// Longer names are cut; what differs later is the same.
const LONGEST: usize = 160;

/// The type of an error: the class name of its exception, else its message without values.
///
/// The class is looked for in the message, then in the lines that follow it (a traceback).
pub(super) fn error_type(message: &[u8], following: &[u8], out: &mut Vec<u8>) {
    out.clear();
    if let Some(class) = class_in(message).or_else(|| class_after(following)) {
        out.extend_from_slice(class);
        return;
    }
    fold_message(message, out);
    if out.is_empty() {
        out.extend_from_slice(b"(no message)");
    }
}

/// The first class name of an exception: `ValueError`, `psycopg2.OperationalError` as `OperationalError`.
fn class_in(text: &[u8]) -> Option<&[u8]> {
    static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("Error"));
    static EXCEPTION: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("Exception"));
    let candidate = |finder: &Finder<'_>, length: usize| finder.find_iter(text).find_map(|at| class_ending(text, at + length));
    match (candidate(&ERROR, 5), candidate(&EXCEPTION, 9)) {
        (Some((a, class)), Some((b, other))) => Some(if a < b { class } else { other }),
        (found, other) => found.or(other).map(|(_, class)| class),
    }
}

/// The class name that ends here, and where it begins.
fn class_ending(text: &[u8], end: usize) -> Option<(usize, &[u8])> {
    if text.get(end).is_some_and(|&byte| is_word(byte)) {
        return None;
    }
    let start = text[..end].iter().rposition(|&byte| !is_word(byte)).map_or(0, |at| at + 1);
    let class = &text[start..end];
    // A word alone ("Error") says nothing.
    let is_class = class.first().is_some_and(u8::is_ascii_uppercase) && class != b"Error" && class != b"Exception";
    is_class.then_some((start, class))
}

/// The class that the lines after a message name: the last line of a Python traceback, the first of a Java one.
fn class_after(following: &[u8]) -> Option<&[u8]> {
    let mut found = None;
    for line in following.split(|&byte| byte == b'\n').take(200) {
        let is_class_line = line.first().is_some_and(u8::is_ascii_alphabetic);
        if !is_class_line {
            if matches!(line.first(), Some(b'0'..=b'9' | b'[' | b'{')) {
                break;
            }
            continue;
        }
        if line.starts_with(b"Traceback")
            || line.starts_with(b"Caused by")
            || line.starts_with(b"During handling")
            || line.starts_with(b"The above")
        {
            continue;
        }
        let name_end = line.iter().position(|&byte| !is_word(byte) && byte != b'.' && byte != b'$').unwrap_or(line.len());
        if !matches!(line.get(name_end), None | Some(b':' | b'\r')) {
            break;
        }
        let start = line[..name_end].iter().rposition(|&byte| byte == b'.').map_or(0, |at| at + 1);
        let class = &line[start..name_end];
        if class.len() < 4 || !class[0].is_ascii_uppercase() || class.iter().all(u8::is_ascii_uppercase) {
            break;
        }
        found = Some(class);
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A message without its values: numbers are `<n>`, identifiers `<id>`, quoted parts `<text>`.
fn fold_message(message: &[u8], out: &mut Vec<u8>) {
    let mut rest = message.trim_ascii();
    while let Some(&byte) = rest.first() {
        if out.len() >= LONGEST {
            out.extend_from_slice("…".as_bytes());
            return;
        }
        let taken = match byte {
            b'"' | b'\'' | b'`' => fold_quoted(rest, byte, out),
            _ if is_word(byte) => fold_word(rest, out),
            _ if byte.is_ascii_whitespace() => {
                out.push(b' ');
                rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
            }
            _ => {
                out.push(byte);
                1
            }
        };
        rest = &rest[taken..];
    }
}

fn fold_quoted(text: &[u8], quote: u8, out: &mut Vec<u8>) -> usize {
    match memchr(quote, &text[1..]) {
        Some(close) => {
            out.extend_from_slice(b"<text>");
            close + 2
        }
        None => {
            out.push(quote);
            1
        }
    }
}

fn fold_word(text: &[u8], out: &mut Vec<u8>) -> usize {
    let length = text.iter().take_while(|&&byte| is_word(byte) || byte == b'-').count();
    let word = &text[..length];
    if is_id(word) && !word.iter().all(u8::is_ascii_digit) {
        out.extend_from_slice(b"<id>");
        return length;
    }
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > 0 {
        out.extend_from_slice(b"<n>");
        // `1.5` and `10.0.0.7` are one value.
        let more = text[digits..].iter().take_while(|&&byte| byte.is_ascii_digit() || byte == b'.').count();
        let value = &text[..digits + more];
        return value.iter().rposition(u8::is_ascii_digit).map_or(digits, |last| last + 1);
    }
    let length = word.iter().position(|&byte| !is_word(byte)).unwrap_or(length);
    for &byte in &word[..length] {
        if !byte.is_ascii_digit() {
            out.push(byte);
        } else if out.last() != Some(&b'#') {
            out.push(b'#');
        }
    }
    length
}

/// Whether a word names one thing among many: a number, a UUID, a hash.
fn is_id(word: &[u8]) -> bool {
    let (mut digits, mut hex) = (0, 0);
    for &byte in word {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'a'..=b'f' | b'A'..=b'F' | b'-' => hex += 1,
            _ => return is_long_mix(word),
        }
    }
    digits > 0 && (digits == word.len() || digits + hex >= 8)
}

/// Random identifiers of other alphabets: long, with digits and letters of both cases or many digits.
fn is_long_mix(word: &[u8]) -> bool {
    if let Some(hex) = word.strip_prefix(b"0x") {
        return !hex.is_empty() && hex.iter().all(u8::is_ascii_hexdigit);
    }
    let digits = word.iter().filter(|byte| byte.is_ascii_digit()).count();
    word.len() >= 20 && digits >= 4 && word.iter().all(|&byte| is_word(byte) || byte == b'-')
}

/// A method and path with the identifiers in it as `:id`, and no query. What needs no folding is
/// given back as it is.
#[inline]
pub(super) fn endpoint<'a>(request: &'a [u8], method_length: usize, out: &'a mut Vec<u8>) -> &'a [u8] {
    // Only a segment with a digit in it can be an identifier; that of a version (`/v1/`) can not.
    let mut suspect = (request.len() > LONGEST).then_some(method_length);
    let mut end = request.len();
    let (mut before, mut previous) = (0, 0);
    for (at, &byte) in request.iter().enumerate().skip(method_length) {
        match byte {
            b'0'..=b'9' if suspect.is_none() && (previous != b'v' || before != b'/') => suspect = Some(at),
            b'?' | b'#' | b';' => {
                end = at;
                break;
            }
            _ => {}
        }
        (before, previous) = (previous, byte);
    }
    let request = &request[..end];
    let Some(suspect) = suspect else { return request };
    let start = memrchr(b'/', &request[..suspect]).map_or(method_length, |slash| slash + 1);
    out.clear();
    out.extend_from_slice(&request[..start]);
    for segment in request[start..].split_inclusive(|&byte| byte == b'/') {
        let name = segment.strip_suffix(b"/").unwrap_or(segment);
        if is_id(name) {
            out.extend_from_slice(b":id");
        } else {
            out.extend_from_slice(name);
        }
        if name.len() < segment.len() {
            out.push(b'/');
        }
        if out.len() >= LONGEST {
            out.truncate(LONGEST);
            out.extend_from_slice("…".as_bytes());
            break;
        }
    }
    out
}

/// A SQL statement with its literals as `?`, lists of them as one, and its whitespace as one blank.
pub(super) fn statement(text: &[u8]) -> Vec<u8> {
    const LONGEST_STATEMENT: usize = 600;
    let mut out = Vec::with_capacity(text.len().min(LONGEST_STATEMENT));
    let mut rest = text.trim_ascii();
    while let Some(&byte) = rest.first() {
        if out.len() >= LONGEST_STATEMENT {
            out.extend_from_slice("…".as_bytes());
            break;
        }
        let after_word = out.last().is_some_and(|&last| is_word(last) || matches!(last, b'$' | b'"'));
        let taken = match byte {
            b'\'' => {
                push_literal(&mut out);
                quoted_length(rest)
            }
            b'0'..=b'9' if !after_word => {
                push_literal(&mut out);
                rest.iter().take_while(|&&byte| byte.is_ascii_digit() || byte == b'.').count()
            }
            _ if byte.is_ascii_whitespace() => {
                out.push(b' ');
                rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
            }
            _ => {
                out.push(byte);
                1
            }
        };
        rest = &rest[taken..];
    }
    out
}

/// A `?`, unless it only makes a list of them longer.
fn push_literal(out: &mut Vec<u8>) {
    let list = out.strip_suffix(b"?, ").or_else(|| out.strip_suffix(b"?,")).map(<[u8]>::len);
    if let Some(length) = list {
        out.truncate(length);
    }
    out.push(b'?');
}

/// The length of a literal in single quotes; a doubled quote is part of it.
fn quoted_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(close) = memchr(b'\'', &text[at..]) {
        at += close + 1;
        if text.get(at) != Some(&b'\'') {
            return at;
        }
        at += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_of(message: &str, following: &str) -> String {
        let mut out = Vec::new();
        error_type(message.as_bytes(), following.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_class_of_the_exception_is_the_type() {
        assert_eq!(type_of("ValueError: bad value 7", ""), "ValueError");
        assert_eq!(type_of("request failed: sqlalchemy.exc.OperationalError: (psycopg2.Error) x", ""), "OperationalError");
        assert_eq!(type_of("java.lang.NullPointerException at x", ""), "NullPointerException");
        assert_eq!(type_of("Error: no", ""), "Error: no");
    }

    #[test]
    fn a_traceback_names_the_class() {
        let traceback = "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    x\nKeyError: 'id'\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"b.py\"\napp.errors.NotReady: no\n2026-11-21 10:00:00 INFO ok\nValueError: other";
        assert_eq!(type_of("request failed", traceback), "NotReady");
        assert_eq!(type_of("request failed", "java.net.SocketTimeout: x\n\tat a.b\nCaused by: c.D: y"), "SocketTimeout");
        assert_eq!(type_of("request failed", "2026-11-21 10:00:00 ERROR x\nKeyError: 1"), "request failed");
    }

    #[test]
    fn messages_that_differ_in_values_are_one_type() {
        assert_eq!(type_of("user 17 not found in 'main'", ""), type_of("user 4 not found in 'other'", ""));
        assert_eq!(type_of("user 17 not found in 'main'", ""), "user <n> not found in <text>");
        assert_eq!(type_of("job 018f2c3e-7b7a-7000-8000-0242ac120002 took 1.52s on 10.0.0.7", ""), "job <id> took <n>s on <n>");
        assert_eq!(type_of("at 0xdeadbeef of worker3", ""), "at <id> of worker#");
        assert_eq!(type_of("", ""), "(no message)");
        assert!(type_of(&"word ".repeat(1000), "").len() < 200);
    }

    #[test]
    fn identifiers_in_paths_are_folded() {
        for (path, expected) in [
            ("/api/v1/users", "/api/v1/users"),
            ("/api/v1/users/42", "/api/v1/users/:id"),
            ("/api/v1/users/42/notes/7?x=1/2", "/api/v1/users/:id/notes/:id"),
            ("/files/018f2c3e-7b7a-7000-8000-0242ac120002.png", "/files/018f2c3e-7b7a-7000-8000-0242ac120002.png"),
            ("/n/018f2c3e-7b7a-7000-8000-0242ac120002/", "/n/:id/"),
            ("/c/d41d8cd98f00b204", "/c/:id"),
            ("/static/facade", "/static/facade"),
            ("/a/deadbeefs", "/a/deadbeefs"),
            ("/2fa/setup", "/2fa/setup"),
            ("/", "/"),
            ("/search?q=1", "/search"),
        ] {
            let request = format!("GET {path}");
            let mut out = Vec::new();
            assert_eq!(String::from_utf8_lossy(endpoint(request.as_bytes(), 4, &mut out)), format!("GET {expected}"), "{path}");
        }
    }

    #[test]
    fn statements_are_one_without_their_literals() {
        let folded = |text: &str| String::from_utf8(statement(text.as_bytes())).unwrap();
        assert_eq!(folded("SELECT *\n\tFROM t1 WHERE id = 42 AND name = 'O''Neil'"), "SELECT * FROM t1 WHERE id = ? AND name = ?");
        assert_eq!(folded("SELECT 1 WHERE x IN (1, 2,3)"), "SELECT ? WHERE x IN (?)");
        assert_eq!(folded("SELECT $1, \"col2\" LIMIT 1.5"), "SELECT $1, \"col2\" LIMIT ?");
        assert_eq!(folded("SELECT 'open"), "SELECT ?");
    }
}
