//! The short way through lines that look like those before them.
//!
//! Most lines of a log differ in little: the same minute, the same logger, another path. What is
//! recognised here is exactly what [`Reader`] would have read; about every other line this has nothing
//! to say, and the reader is asked.

use memchr::memchr;

use crate::host::logs::format::{self, Format, Reader};
use crate::host::logs::record::{self, Level, Record, Request};
use crate::host::logs::request;
use crate::host::logs::scan::Line;
use crate::host::logs::stamp::zone;

/// The short way through one format.
#[derive(Debug)]
pub(super) struct Shortcut {
    format: Format,
    heads: Heads,
    /// The last stamp of an access log, and its time.
    stamp: ([u8; STAMP], i64),
}

/// The length of `21/Nov/2026:10:00:00 +0000`.
const STAMP: usize = 26;

impl Shortcut {
    /// The short way through this format, which has to be learned.
    pub(super) fn new(format: Format) -> Self {
        Self { format, heads: Heads::new(), stamp: ([0; STAMP], 0) }
    }

    /// The record a line is, when it looks like those before it.
    #[inline]
    pub(super) fn read<'b>(&mut self, reader: &mut Reader, line: &Line<'b>) -> Option<Record<'b>> {
        match self.format {
            Format::Nginx => self.access(reader, line.text()),
            Format::App => self.app(reader, line),
            _ => None,
        }
    }

    #[inline]
    fn access<'b>(&mut self, reader: &mut Reader, line: &'b [u8]) -> Option<Record<'b>> {
        let client_end = places(line.first_chunk()?, b' ').first().or_else(|| memchr(b' ', line))?;
        let open = client_end + if line[client_end..].starts_with(b" - - [") { 5 } else { memchr(b'[', &line[client_end..])? };
        let (stamp, rest) = line[open + 1..].split_first_chunk::<STAMP>()?;
        if *stamp != self.stamp.0 {
            self.stamp = (*stamp, reader.clock.access(stamp)?.millis);
        }
        let message = rest.strip_prefix(b"] \"")?;
        let close = unescaped_quote(message)?;
        let request = &message[..close];
        let method = method_length(request)?;
        let (status, after) = request::status(&message[close + 1..])?;
        let request = Request {
            client: &line[..client_end],
            line: request::request_line(request),
            method,
            status,
            micros: request_time(after).unwrap_or_else(|| request::request_time(after)),
        };
        Some(Record { time: Some(self.stamp.1), level: None, message, request: Some(request), failure: None })
    }

    #[inline]
    fn app<'b>(&mut self, reader: &mut Reader, line: &Line<'b>) -> Option<Record<'b>> {
        let stamp = reader.clock.same_minute(line.onwards())?;
        let Some((level, end)) = self.heads.find(&line.onwards()[stamp.end..]) else {
            self.heads.learn(line.text().get(stamp.end..)?);
            return None;
        };
        reader.clock.pass(stamp.millis);
        let message = message(line.text().get(stamp.end + end..)?);
        Some(Record { time: Some(stamp.millis), level: Some(level), message, request: app_request(message), failure: None })
    }
}

/// What stands between the stamp and the level: ` - app.api - `, ` [main] `.
#[derive(Debug)]
struct Heads {
    /// How many bytes tell heads apart: those of the shortest, at most 16.
    width: u32,
    /// In sets of a few, the one found last first.
    sets: Vec<[Head; WAYS]>,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    /// The bytes, and zeros.
    bytes: [u128; 3],
    /// Ones where there are bytes; all zeros is no head.
    mask: [u128; 3],
    length: usize,
}

const SETS: usize = 64;
const WAYS: usize = 4;
const LONGEST_HEAD: usize = 48;

impl Heads {
    fn new() -> Self {
        Self { width: 16, sets: vec![[Head { bytes: [0; 3], mask: [0; 3], length: 0 }; WAYS]; SETS] }
    }

    fn set(&self, text: u128) -> usize {
        let key = text & ones(self.width as usize);
        let mixed = (key as u64 ^ (key >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 58) as usize % SETS
    }

    /// The level after the known head that a text begins with, and where it ends.
    #[inline]
    fn find(&mut self, text: &[u8]) -> Option<(Level, usize)> {
        let start = words(text.first_chunk()?);
        let set = self.set(start[0]);
        let set = &mut self.sets[set];
        let after = |head: &Head| {
            let differs = (0..3).fold(0, |difference, word| difference | (start[word] & head.mask[word]) ^ head.bytes[word]);
            if head.length == 0 || differs != 0 {
                return None;
            }
            let (level, length) = level(text[head.length..].first_chunk()?)?;
            Some((level, head.length + length))
        };
        if let Some(found) = after(&set[0]) {
            return Some(found);
        }
        // The head of one line may begin that of another.
        let (way, found) = (1..WAYS).find_map(|way| after(&set[way]).map(|found| (way, found)))?;
        set.swap(0, way);
        Some(found)
    }

    /// Learns the head of a text that was not known, if it has one.
    #[cold]
    fn learn(&mut self, text: &[u8]) {
        let Some((_, end)) = record::level(text, false) else { return };
        let length = end - text[..end].iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let head = &text[..length];
        if length == 0 || length > LONGEST_HEAD || !decides_zone(head) {
            return;
        }
        if length < self.width as usize {
            *self = Self { width: length as u32, ..Self::new() };
        }
        let mut bytes = [0; LONGEST_HEAD];
        bytes[..length].copy_from_slice(head);
        let bytes = words(&bytes);
        let mask = [0, 16, 32].map(|from| ones(length.saturating_sub(from).min(16)));
        let set = self.set(bytes[0]);
        if self.sets[set].iter().any(|head| head.length == length && head.bytes == bytes) {
            return;
        }
        self.sets[set].rotate_right(1);
        self.sets[set][0] = Head { bytes, mask, length };
    }
}

/// Whether there is no zone at the beginning of a head, whatever follows it.
fn decides_zone(head: &[u8]) -> bool {
    zone(head).is_none()
        && match head {
            [b'+' | b'-', ..] | [b' ', b'+' | b'-' | b'U' | b'G', ..] => head.len() >= 8,
            _ => true,
        }
}

fn words(bytes: &[u8; LONGEST_HEAD]) -> [u128; 3] {
    let (words, _) = bytes.as_chunks::<16>();
    [words[0], words[1], words[2]].map(u128::from_le_bytes)
}

/// As many bytes of ones.
fn ones(bytes: usize) -> u128 {
    if bytes >= 16 { u128::MAX } else { (1 << (8 * bytes)) - 1 }
}

/// The most frequent levels, and how long they are.
#[inline]
fn level(text: &[u8; 9]) -> Option<(Level, usize)> {
    let word = u64::from_le_bytes(*text.first_chunk()?);
    let is = |level: &[u8]| {
        let level = level.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        (word ^ level) << (level.leading_zeros() / 8 * 8) == 0
    };
    let found = if is(b"INFO") {
        (Level::Info, 4)
    } else if is(b"DEBUG") {
        (Level::Debug, 5)
    } else if is(b"WARNING") {
        (Level::Warning, 7)
    } else if is(b"WARN") {
        (Level::Warning, 4)
    } else if is(b"ERROR") {
        (Level::Error, 5)
    } else {
        return None;
    };
    (!text[found.1].is_ascii_alphanumeric()).then_some(found)
}

/// What stands after the level and the punctuation around it.
#[inline]
fn message(text: &[u8]) -> &[u8] {
    match text {
        [b' ', b'-', b' ', rest @ ..] if rest.first().is_some_and(u8::is_ascii_alphanumeric) => rest,
        _ => format::separated(text),
    }
}

/// Where in 16 bytes a byte is: the highest bit of each place.
#[derive(Clone, Copy)]
struct Places(u128);

const LOW: u128 = u128::MAX / 0xff * 0x7f;
const HIGH: u128 = !LOW;

/// Where digits are.
#[inline]
fn digits(text: &[u8; 16]) -> Places {
    let differs = u128::from_le_bytes(*text) ^ (u128::MAX / 0xff * 0x30);
    Places(!(((differs & LOW) + u128::MAX / 0xff * (0x80 - 10)) | differs | LOW))
}

/// Where a byte is.
#[inline]
fn places(text: &[u8; 16], byte: u8) -> Places {
    let differs = u128::from_le_bytes(*text) ^ (u128::MAX / 0xff * u128::from(byte));
    // No byte overflows into the next: a bit is set where all of a byte's bits are zero, nowhere else.
    Places(!(((differs & LOW) + LOW) | differs | LOW))
}

impl Places {
    #[inline]
    fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize / 8)
    }
}

/// The first quote, unless it is escaped.
#[inline]
fn unescaped_quote(text: &[u8]) -> Option<usize> {
    let at = memchr(b'"', text)?;
    (at == 0 || text[at - 1] != b'\\').then_some(at)
}

#[inline]
fn method_length(text: &[u8]) -> Option<usize> {
    match text {
        [b'G', b'E', b'T', b' ', ..] => Some(4),
        [b'P', b'O', b'S', b'T', b' ', ..] => Some(5),
        _ => request::method_length(text),
    }
}

/// The request time in ` 512 "referer" "agent" 0.123`, which may be none; nothing when it looks otherwise.
#[inline]
fn request_time(after: &[u8]) -> Option<Option<u32>> {
    let start = after.first_chunk()?;
    let quote = places(start, b'"').first()?;
    // One number between two blanks.
    let blanks = places(start, b' ').0 & ones(quote);
    if quote < 3 || blanks != 0x80 | 0x80 << (8 * (quote - 1)) {
        return None;
    }
    let referer = &after[quote + 1..];
    let agent = referer[unescaped_quote(referer)? + 1..].strip_prefix(b" \"")?;
    match &agent[unescaped_quote(agent)? + 1..] {
        [] => Some(None),
        [b' ', whole @ b'0'..=b'9', b'.', a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            let digit = |byte: &u8| u32::from(byte - b'0');
            Some(Some((digit(whole) * 1000 + digit(a) * 100 + digit(b) * 10 + digit(c)) * 1000))
        }
        _ => None,
    }
}

/// The request in the message of an application.
#[inline]
fn app_request(message: &[u8]) -> Option<Request<'_>> {
    let open = memchr(b'"', message)?;
    quick_request(message, open).or_else(|| request::app_request(message))
}

/// `1.2.3.4:5 - "GET /path HTTP/1.1" 200 OK 12ms`.
#[inline]
fn quick_request(message: &[u8], open: usize) -> Option<Request<'_>> {
    let rest = &message[open + 1..];
    let method = method_length(rest)?;
    let close = memchr(b'"', rest)?;
    let (status, after) = request::status(&rest[close + 1..])?;
    let client = client(message, open)?;
    let micros = milliseconds(after).or_else(|| request::unit_duration(after));
    Some(Request { client, line: request::request_line(&rest[..close]), method, status, micros })
}

/// The address in `1.2.3.4:5 - "`, where the quote stands there.
#[inline]
fn client(message: &[u8], quote: usize) -> Option<&[u8]> {
    let start = message.first_chunk()?;
    let end = places(start, b':').first().filter(|&end| end >= 2)?;
    let other = !(digits(start).0 | places(start, b'.').0) & HIGH & ones(end);
    let port = message[..quote].strip_suffix(b" - ")?.get(end + 1..)?;
    (other == 0 && port.iter().all(u8::is_ascii_digit)).then(|| &message[..end])
}

/// ` OK 12ms`.
#[inline]
fn milliseconds(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b" OK ")?.strip_suffix(b"ms")?;
    if !matches!(digits.len(), 1..=6) {
        return None;
    }
    let sum = digits.iter().try_fold(0, |sum, &byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))?;
    Some(sum * 1000)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::host::logs::record::Parsed;
    use crate::host::logs::scan::{Halt, Input, Manner, Visitor, scan};
    use crate::host::logs::stamp::Clock;

    /// Reads each line both ways.
    struct Both {
        shortcut: Shortcut,
        reader: Reader,
        straight: Reader,
        short: usize,
    }

    impl Visitor for Both {
        fn begin(&mut self, _: usize) {}

        fn line(&mut self, line: &Line<'_>) {
            let text = line.text();
            let shown = String::from_utf8_lossy(&text[..text.len().min(200)]);
            let record = self.shortcut.read(&mut self.reader, line);
            self.short += usize::from(record.is_some());
            let found = match record {
                Some(record) => Parsed::Record(record),
                None => self.reader.read(text),
            };
            assert_eq!(found, self.straight.read(text), "{shown}");
        }
    }

    /// How many lines of a text were read the short way; all were read the same way as straight on.
    fn short(format: Format, zone: &str, text: &[u8]) -> usize {
        let reader = || Reader::new(format, Clock::new(TimeZone::get(zone).unwrap(), "2026-11-21T12:00:00Z".parse().unwrap()));
        let both = || Both { shortcut: Shortcut::new(format), reader: reader(), straight: reader(), short: 0 };
        let scanned = scan(&[Input::Lines(text)], Manner { split: false, look_back: false }, both, &Halt::default()).unwrap();
        scanned.visitors[0].short
    }

    /// Numbers that look like chance, always the same ones.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % end
        }

        fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
            texts[self.below(texts.len())]
        }
    }

    const ADDRESSES: [&str; 9] =
        ["10.0.0.7", "203.0.113.250", "2001:db8::7", "2001:db8:85a3:8d3:1319:8a2e:370:7348", "::1", "-", "host", "unix:", "1"];
    const REQUESTS: [&str; 12] = [
        "GET /api/v1/users/42 HTTP/1.1",
        "GET /api/v2/users/42/notes?page=7 HTTP/1.1",
        "POST / HTTP/2.0",
        "PATCH /x;a=1 HTTP/1.0",
        "OPTIONS * HTTP/1.1",
        "GET /no/version",
        "GET /quote\\\"d HTTP/1.1",
        "\\x16\\x03\\x01",
        "-",
        "",
        "GET  HTTP/1.1",
        "BREW /pot HTTP/1.1",
    ];

    #[test]
    fn an_access_log_is_read_as_without_shortcuts() {
        let mut chance = Chance(1);
        let mut text = String::new();
        for line in 0..20_000 {
            let second = if chance.below(20) == 0 { chance.below(7200) } else { line / 10 };
            let stamp = format!(
                "21/Nov/2026:{:02}:{:02}:{:02} {}",
                second / 3600,
                second / 60 % 60,
                second % 60,
                chance.of(&["+0000", "+0000", "-0530"])
            );
            let user = chance.of(&["- -", "- -", "- -", "- bob", "- a b", "id -"]);
            let request = if chance.below(2) == 0 { REQUESTS[0] } else { chance.of(&REQUESTS) };
            let status = chance.of(&["200", "200", "404", "500", "2000", "099", "-", "20"]);
            let sent = chance.of(&["512", "0", "-", "1 2", "123456789012345678", "\"512\""]);
            let agents = chance.of(&[
                "\"-\" \"agent\" 0.123",
                "\"https://x/\" \"agent\" 0.030",
                "\"-\" \"agent\"",
                "\"-\" \"agent\" 12.5",
                "\"-\" \"a \\\" b\" 0.123",
                "\"-\" \"agent\" 0.123 0.100",
                "\"-\" \"agent\" \"1.1.1.1\" rt=0.250",
                "\"-\" \"agent\" -",
                "\"-\" \"agent\" 0.12x",
                "",
            ]);
            let end = chance.of(&["\n", "\n", "\n", "\r\n"]);
            text += &format!("{} {user} [{stamp}] \"{request}\" {status} {sent} {agents}{end}", chance.of(&ADDRESSES));
            match chance.below(200) {
                0 => text += "garbage\n",
                1 => text += "\n",
                2 => text += "1.1.1.1 - - [\n",
                3 => text += "1.1.1.1 - - [21/Nov/2026:00:00:00 +0000] \"GET /cut",
                4 => text += &format!("1.1.1.1 - - [21/Nov/2026:00:00:00 +0000] \"GET /{} HTTP/1.1\" 200 1\n", "x".repeat(70_000)),
                _ => {}
            }
        }
        assert!(short(Format::Nginx, "Asia/Shanghai", text.as_bytes()) > 5_000);
    }

    #[test]
    fn a_log_of_an_application_is_read_as_without_shortcuts() {
        let mut chance = Chance(2);
        let mut text = String::new();
        for line in 0..30_000 {
            // Also through the hour that comes twice in Berlin, 2026-10-25 02:00.
            let second = if chance.below(20) == 0 { chance.below(14_400) } else { line / 5 + 3600 };
            let fraction = chance.of(&[",123", ",007", ",123", ",999", ".5", ".123456", "", ",", ",12a"]);
            let zone = chance.of(&["", "", "", "", "", "", "Z", "+02:00", " -05", " UTC", " CEST", " UTCX"]);
            let head = chance.of(&[
                " - app.api - ",
                " - app.db - ",
                " - app.worker.tasks - ",
                " ",
                " [main] ",
                " - ERRORS - ",
                " -05 ",
                " info=",
                " [x] level=",
                " - a.very.long.name.of.a.logger.that.has.no.end.whatever - ",
                " - INFORMED - ",
                " U ",
                "",
            ]);
            let level = chance.of(&[
                "INFO", "INFO", "INFO", "ERROR", "INFO", "DEBUG", "WARNING", "WARN", "ERROR", "CRITICAL", "info", "INFORM", "ERRORS",
                "INFO9", "WARNINGS", "NOTE",
            ]);
            let separator = chance.of(&[" - ", " - ", ": ", "] ", " ", "", " -  ", "|"]);
            let message = match chance.below(6) {
                0 => "task 7 done".to_owned(),
                1 => "ValueError: bad 'x'".to_owned(),
                2 => "said \"hello\" and \"GET /\"".to_owned(),
                3 => String::new(),
                _ => format!(
                    "{}{}\"{}\" {}{}",
                    chance.of(&ADDRESSES),
                    chance.of(&[":5123 - ", ":5 - ", " - ", ":x - ", ":1:2 - ", " "]),
                    chance.of(&REQUESTS),
                    chance.of(&["200", "404", "500", "2000", ""]),
                    chance.of(&[" OK 12ms", " OK 1234567ms", " OK 0.5s", " OK", "", " OK 12ms more", " 12 ms", " OK ms"]),
                ),
            };
            let plain = chance.below(2) == 0;
            let (fraction, zone) = if plain { (",123", "") } else { (fraction, zone) };
            let (head, level) = if plain { (" - app.api - ", "INFO") } else { (head, level) };
            let (hour, minute) = (second / 3600, second / 60 % 60);
            let end = chance.of(&["\n", "\n", "\n", "\r\n"]);
            text += &format!("2026-10-25 {hour:02}:{minute:02}:{:02}{fraction}{zone}{head}{level}{separator}{message}{end}", second % 60);
            match chance.below(100) {
                0 => text += "Traceback (most recent call last):\n  File \"a.py\", line 1\nKeyError: 'id'\n",
                1 => text += "\n",
                2 => text += "hello\n",
                3 => text += "2026-10-25 01:00:00",
                4 => text += &"y".repeat(70_000),
                _ => {}
            }
        }
        assert!(short(Format::App, "UTC", text.as_bytes()) > 3_000);
        assert!(short(Format::App, "Europe/Berlin", text.as_bytes()) > 1_000);
    }

    #[test]
    fn bytes_are_found_where_they_are() {
        let text: [u8; 16] = *b"/0129:;\x00\x7f\x80\xb0\xb9 a::";
        let at = |places: Places| (0..16).filter(|&at| places.0 >> (8 * at + 7) & 1 == 1).collect::<Vec<_>>();
        assert_eq!(at(digits(&text)), [1, 2, 3, 4]);
        assert_eq!(at(places(&text, b':')), [5, 14, 15]);
        assert_eq!(places(&text, b'q').first(), None);
    }
}
