//! Requests in lines: those of access logs, and those an application tells of.

use memchr::{memchr, memrchr};

use crate::host::logs::format::split;
use crate::host::logs::record::{Record, Request};
use crate::host::logs::stamp::{Clock, number};

/// `ADDRESS - user [STAMP] "METHOD path HTTP/1.1" STATUS bytes "referer" "agent" [request_time …]`.
#[inline]
pub(super) fn access<'a>(clock: &mut Clock, line: &'a [u8]) -> Option<Record<'a>> {
    let client_end = memchr(b' ', line)?;
    let open = client_end + if line[client_end..].starts_with(b" - - [") { 5 } else { memchr(b'[', &line[client_end..])? };
    let stamp = clock.access(&line[open + 1..])?;
    let rest = line[open + 1 + stamp.end..].strip_prefix(b"] \"")?;
    let close = closing_quote(rest)?;
    let (status, after) = status(&rest[close + 1..])?;
    let (request, method) = match method_length(&rest[..close]) {
        Some(method) => (request_line(&rest[..close]), method),
        // Bytes of TLS on a plain port, scanners, nothing at all.
        None => (&b"- (no http)"[..], 2),
    };
    let request = Request { client: &line[..client_end], line: request, method, status, micros: request_time(after) };
    Some(Record { time: Some(stamp.millis), level: None, message: rest, request: Some(request), failure: None })
}

/// The quote that closes; a quote after a backslash does not.
#[inline]
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr(b'"', &text[from..])?;
        if at == 0 || text[at - 1] != b'\\' {
            return Some(at);
        }
        from = at + 1;
    }
}

/// The request time after the quoted fields: the first bare decimal, or what is named `rt`,
/// `request_time` or `duration`; in seconds.
#[inline]
pub(super) fn request_time(after: &[u8]) -> Option<u32> {
    // The bytes that were sent.
    let mut rest = after.strip_prefix(b" ")?;
    rest = &rest[memchr(b' ', rest)?..];
    loop {
        rest = rest.strip_prefix(b" ")?;
        if let Some(quoted) = rest.strip_prefix(b"\"") {
            let close = closing_quote(quoted)?;
            rest = &quoted[close + 1..];
            continue;
        }
        let length = memchr(b' ', rest).unwrap_or(rest.len());
        let field = &rest[..length];
        rest = &rest[length..];
        let value = match field.first() {
            Some(b'0'..=b'9') => field,
            _ => match split(field, b'=') {
                Some((b"rt" | b"request_time" | b"duration", value)) => value.trim_ascii_start().strip_prefix(b"\"").unwrap_or(value),
                _ => continue,
            },
        };
        if let Some(micros) = seconds_to_micros(value) {
            return Some(micros);
        }
    }
}

/// `0.123` in microseconds; what has no point is no time but a size.
#[inline]
fn seconds_to_micros(text: &[u8]) -> Option<u32> {
    let text = text.strip_suffix(b"\"").unwrap_or(text);
    if !text.contains(&b'.') {
        return None;
    }
    u32::try_from(millionths(text)?).ok()
}

/// A request in the message of an application: `1.2.3.4:5 - "GET /path HTTP/1.1" 200 OK 12ms`.
#[inline]
pub(super) fn app_request(message: &[u8]) -> Option<Request<'_>> {
    let mut from = 0;
    for _ in 0..4 {
        let open = from + memchr(b'"', &message[from..])?;
        let rest = &message[open + 1..];
        if let Some(method) = method_length(rest) {
            let close = memchr(b'"', rest)?;
            let (status, after) = status(&rest[close + 1..])?;
            let before = message[..open].strip_suffix(b" - ").unwrap_or_default();
            let client = &before[memrchr(b' ', before).map_or(0, |at| at + 1)..];
            return Some(Request {
                client: without_port(client),
                line: request_line(&rest[..close]),
                method,
                status,
                micros: unit_duration(after),
            });
        }
        from = open + 1;
    }
    None
}

/// The address of `1.2.3.4:5` or `[::1]:5`; nothing when it is none.
fn without_port(text: &[u8]) -> &[u8] {
    let bare = match text.strip_prefix(b"[") {
        Some(rest) => &rest[..memchr(b']', rest).unwrap_or(0)],
        None => match (memchr(b':', text), memrchr(b':', text)) {
            (Some(first), Some(last)) if first == last => &text[..first],
            _ => text,
        },
    };
    // Parsing each would cost more than all the rest of the line.
    let looks_like = bare.iter().all(|&byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':'));
    if looks_like && bare.len() >= 2 { bare } else { &[] }
}

/// The length of a method of HTTP and its blank.
#[inline]
pub(super) fn method_length(text: &[u8]) -> Option<usize> {
    const METHODS: [&[u8]; 9] = [b"GET ", b"POST ", b"PUT ", b"DELETE ", b"PATCH ", b"HEAD ", b"OPTIONS ", b"CONNECT ", b"TRACE "];
    METHODS.iter().find(|&&method| text.starts_with(method)).map(|method| method.len())
}

/// Method and path, without the version of HTTP after them.
#[inline]
pub(super) fn request_line(text: &[u8]) -> &[u8] {
    let version = text.len().checked_sub(9).filter(|&at| text[at..].starts_with(b" HTTP/"));
    &text[..version.unwrap_or(text.len())]
}

/// ` 200`, and what follows.
#[inline]
pub(super) fn status(text: &[u8]) -> Option<(u16, &[u8])> {
    let [b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = text else { return None };
    let ends = rest.first().is_none_or(|byte| !byte.is_ascii_digit());
    let digit = |byte: &u8| u16::from(byte - b'0');
    ends.then(|| (digit(a) * 100 + digit(b) * 10 + digit(c), rest))
}

/// The first number with a unit of time: `12.5ms`, `0.2s`.
pub(super) fn unit_duration(text: &[u8]) -> Option<u32> {
    let text = &text[..text.len().min(80)];
    let mut at = 0;
    loop {
        at += text[at..].iter().position(u8::is_ascii_digit)?;
        let length = text[at..].iter().take_while(|&&byte| byte.is_ascii_digit() || byte == b'.').count();
        let unit = text[at + length..].trim_ascii_start();
        let word = &unit[..unit.iter().take_while(|byte| byte.is_ascii_alphabetic()).count()];
        let scale = match word {
            b"ms" => Some(1000),
            b"s" | b"sec" | b"seconds" => Some(1_000_000),
            b"us" => Some(1),
            _ => None,
        };
        if let Some(scale) = scale {
            return millionths(&text[at..at + length])?.checked_mul(scale).and_then(|value| u32::try_from(value / 1_000_000).ok());
        }
        at += length;
    }
}

/// A decimal number in millionths.
#[inline]
fn millionths(text: &[u8]) -> Option<i64> {
    const SCALE: [i64; 7] = [1_000_000, 100_000, 10_000, 1000, 100, 10, 1];
    let (whole, fraction) = split(text, b'.').unwrap_or((text, &[]));
    let fraction = &fraction[..fraction.len().min(6)];
    if whole.len() > 9 {
        return None;
    }
    Some(number(whole)? * 1_000_000 + number(fraction)? * SCALE[fraction.len()])
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::host::logs::format::{Format, Reader};
    use crate::host::logs::record::Parsed;

    fn clock() -> Clock {
        Clock::new(TimeZone::UTC, "2026-11-21T12:00:00Z".parse().unwrap())
    }

    fn with<T>(format: Format, line: &str, look: impl FnOnce(&Record<'_>) -> T) -> T {
        let mut reader = Reader::new(format, clock());
        let Parsed::Record(record) = reader.read(line.as_bytes()) else { panic!("not a record: {line}") };
        look(&record)
    }

    #[test]
    fn access_lines_are_read_by_field() {
        let line =
            r#"10.1.2.3 - bob [21/Nov/2026:10:00:00 +0000] "GET /api/x?q=1 HTTP/1.1" 404 153 "-" "Mozilla/5.0 \"x\" (y)" 0.123 0.120"#;
        with(Format::Nginx, line, |record| {
            let request = record.request.as_ref().unwrap();
            assert_eq!(request.client, b"10.1.2.3");
            assert_eq!(request.line, b"GET /api/x?q=1");
            assert_eq!((request.method, request.status, request.micros), (4, 404, Some(123_000)));
        });
        for (tail, micros) in [
            ("", None),
            (" 1.5", Some(1_500_000)),
            (" -", None),
            (" 512", None),
            (" \"gzip\" rt=0.250 uct=\"0.1\"", Some(250_000)),
            (" request_time=\"0.007\"", Some(7000)),
            (" urt=0.9 rt=0.5", Some(500_000)),
        ] {
            let line = format!(r#"::1 - - [21/Nov/2026:10:00:00 +0000] "POST / HTTP/2.0" 200 1 "-" "a"{tail}"#);
            with(Format::Nginx, &line, |record| assert_eq!(record.request.as_ref().unwrap().micros, micros, "{tail}"));
        }
    }

    #[test]
    fn requests_that_are_no_http_are_requests_still() {
        for request in [r"\x16\x03\x01", "-", "", "SSH-2.0-Go"] {
            let line = format!(r#"::1 - - [21/Nov/2026:10:00:00 +0000] "{request}" 400 1 "-" "-""#);
            with(Format::Nginx, &line, |record| assert_eq!(record.request.as_ref().unwrap().line, b"- (no http)"));
        }
        for line in [
            "x",
            r#"1.1.1.1 - - [21/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1"#,
            r#"1.1.1.1 - - [21/Nov/2026] "GET / HTTP/1.1" 200 1"#,
            r#"1.1.1.1 - - [21/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" abc 1"#,
        ] {
            assert_eq!(access(&mut clock(), line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn requests_in_the_log_of_an_application() {
        let line = r#"2026-11-21 10:00:00 INFO 10.0.0.9:5012 - "GET /api/v1/users/7 HTTP/1.1" 500 Internal 12.5ms"#;
        with(Format::App, line, |record| {
            let request = record.request.as_ref().unwrap();
            assert_eq!((request.client, request.line), (&b"10.0.0.9"[..], &b"GET /api/v1/users/7"[..]));
            assert_eq!((request.status, request.micros), (500, Some(12_500)));
        });
        with(Format::App, r#"2026-11-21 10:00:00 INFO call "PUT /x" 201"#, |record| {
            assert_eq!(record.request.as_ref().unwrap().status, 201);
        });
        with(Format::App, r#"2026-11-21 10:00:00 INFO say "hi" and "GET lost""#, |record| assert_eq!(record.request, None));
    }
}
