//! The formats of logs, and how the lines of each are read.

use memchr::memchr;
use memchr::memmem::{self, Finder};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::host::logs::record::{Failure, Level, Parsed, Record, Request, level};
use crate::host::logs::request::{access, app_request};
use crate::host::logs::stamp::{Clock, number};

/// The formats of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Format {
    /// A stamp, a level and a message, in any order of level and logger; the output of most programs.
    App,
    /// The combined access log of nginx and Apache, with request time and upstream time when there.
    Nginx,
    /// nginx's own messages.
    NginxError,
    /// Syslog files, RFC 3164 or with RFC 3339 stamps.
    Syslog,
    /// PostgreSQL on stderr.
    Postgres,
    /// Security events of an application: as `app`, with failed logins.
    Security,
    /// An object per line.
    Json,
}

impl Format {
    /// Its name, as system files write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Nginx => "nginx",
            Self::NginxError => "nginx-error",
            Self::Syslog => "syslog",
            Self::Postgres => "postgres",
            Self::Security => "security",
            Self::Json => "json",
        }
    }

    /// Every format.
    pub(super) const ALL: [Self; 7] = [Self::App, Self::Nginx, Self::NginxError, Self::Syslog, Self::Postgres, Self::Security, Self::Json];

    /// The format of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The format most of the first lines are in; `app` when it is none in particular.
    pub(super) fn guess(head: &[u8], clock: &Clock) -> Self {
        // The narrow ones first: what is an access log could also pass for an application's.
        let narrow = [Self::Json, Self::Nginx, Self::NginxError, Self::Postgres, Self::Syslog];
        let fits = |format: Self| {
            let typical = |line: &[u8]| match format {
                Self::NginxError => line.get(4) == Some(&b'/'),
                Self::Syslog => line.first().is_some_and(|&byte| byte == b'<' || byte.is_ascii_uppercase()) || is_syslog(line),
                _ => true,
            };
            let mut reader = Reader::new(format, clock.clone());
            let lines = head.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).take(20);
            let (mut all, mut read) = (0, 0);
            for line in lines {
                all += 1;
                read += usize::from(typical(line) && matches!(reader.read(line), Parsed::Record(_)));
            }
            read * 2 > all
        };
        narrow.into_iter().find(|&format| fits(format)).unwrap_or(Self::App)
    }
}

/// Whether a line with an ISO stamp has a host and a tag after it, not a level.
fn is_syslog(line: &[u8]) -> bool {
    let mut words = line.split(|&byte| byte == b' ').skip(1);
    let host = words.next().unwrap_or_default();
    let tag = words.next().unwrap_or_default();
    line.get(10) == Some(&b'T')
        && Level::of_any_case(host).is_none()
        && host.first().is_some_and(u8::is_ascii_alphanumeric)
        && tag.ends_with(b":")
}

/// The text before the first such byte, and what follows it.
#[inline]
pub(super) fn split(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr(byte, text)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Reads the lines of one format.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    format: Format,
    /// The clock of its stamps.
    pub(super) clock: Clock,
    /// The texts of an object, unescaped.
    object: Object,
}

#[derive(Debug, Clone, Default)]
struct Object {
    message: String,
    client: String,
    request: String,
}

impl Reader {
    /// A reader of this format.
    pub(super) fn new(format: Format, clock: Clock) -> Self {
        Self { format, clock, object: Object::default() }
    }

    /// Reads one line.
    #[inline]
    pub(super) fn read<'r>(&'r mut self, line: &'r [u8]) -> Parsed<'r> {
        let format = self.format;
        let record = match format {
            Format::Nginx => access(&mut self.clock, line),
            Format::App => app(&mut self.clock, line),
            Format::NginxError => nginx_error(&mut self.clock, line),
            Format::Syslog => syslog(&mut self.clock, line),
            Format::Postgres => match postgres(&mut self.clock, line) {
                Some(parsed) => return parsed,
                None => None,
            },
            Format::Security => app(&mut self.clock, line).map(|record| Record { failure: security_failure(line), ..record }),
            Format::Json => self.json(line),
        };
        match record {
            Some(record) => Parsed::Record(record),
            None if format != Format::Nginx && continues(line) => Parsed::Continuation,
            None => Parsed::Malformed,
        }
    }

    fn json<'r>(&'r mut self, line: &[u8]) -> Option<Record<'r>> {
        let Ok(Value::Object(fields)) = serde_json::from_slice(line) else { return None };
        let status = number_of(&fields, &["status", "status_code", "statusCode"]);
        let path = text_of(&fields, &["path", "uri", "request_uri", "url"]);
        let time =
            field(&fields, &["time", "timestamp", "@timestamp", "ts", "asctime", "datetime", "date"]).and_then(|time| self.time(time));
        self.object.message = text_of(&fields, &["message", "msg", "event", "error", "exception"]).unwrap_or_default();
        if let Some(class) = text_of(&fields, &["exc_type", "error_type", "exception_class"]) {
            self.object.message = format!("{class}: {}", self.object.message);
        }
        self.object.client = text_of(&fields, &["client_ip", "remote_addr", "client", "ip", "remote_ip"]).unwrap_or_default();
        let method = text_of(&fields, &["method", "request_method", "http_method"]).unwrap_or_else(|| "-".to_owned());
        self.object.request = format!("{method} {}", path.as_deref().unwrap_or("-"));
        let micros = number_of(&fields, &["duration_ms", "latency_ms", "elapsed_ms", "response_time_ms"])
            .map(|millis| millis * 1000.0)
            .or_else(|| number_of(&fields, &["request_time", "duration", "latency", "response_time"]).map(|seconds| seconds * 1e6));
        let request = status.filter(|_| path.is_some()).map(|status| Request {
            client: self.object.client.as_bytes(),
            line: self.object.request.as_bytes(),
            method: method.len() + 1,
            status: status as u16,
            micros: micros.map(|micros| micros as u32),
        });
        let level = text_of(&fields, &["level", "severity", "levelname", "lvl", "log.level"])
            .and_then(|level| Level::of_any_case(level.as_bytes()));
        Some(Record { time, level, message: self.object.message.as_bytes(), request, failure: None })
    }

    fn time(&mut self, time: &Value) -> Option<i64> {
        match time {
            Value::String(text) => Some(self.clock.read(text.as_bytes())?.millis),
            // Seconds or milliseconds; no log is of 1970 or of the year 5138.
            Value::Number(number) => number.as_f64().map(|time| if time < 1e11 { (time * 1000.0) as i64 } else { time as i64 }),
            _ => None,
        }
    }
}

fn field<'v>(fields: &'v Map<String, Value>, names: &[&str]) -> Option<&'v Value> {
    names.iter().find_map(|&name| fields.get(name))
}

fn text_of(fields: &Map<String, Value>, names: &[&str]) -> Option<String> {
    field(fields, names).and_then(Value::as_str).map(str::to_owned)
}

fn number_of(fields: &Map<String, Value>, names: &[&str]) -> Option<f64> {
    let value = field(fields, names)?;
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

/// Whether a line without a stamp is more of the record before.
fn continues(line: &[u8]) -> bool {
    let Some(&first) = line.first() else { return true };
    if first.is_ascii_whitespace() || matches!(first, b'}' | b')' | b']') {
        return true;
    }
    const OPENINGS: [&[u8]; 5] =
        [b"Traceback (most recent call last)", b"Caused by:", b"During handling of", b"The above exception", b"Stack trace:"];
    if OPENINGS.iter().any(|opening| line.starts_with(opening)) {
        return true;
    }
    // `package.SomeError: text`, the last line of a traceback.
    let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
    let is_name = name.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'$'));
    is_name && (name.ends_with(b"Error") || name.ends_with(b"Exception") || name.ends_with(b"Interrupt") || name.ends_with(b"Exit"))
}

/// `STAMP … LEVEL … MESSAGE`, or a level first and no stamp.
#[inline]
fn app<'a>(clock: &mut Clock, line: &'a [u8]) -> Option<Record<'a>> {
    let stamp = clock.read(line);
    let after = &line[stamp.map_or(0, |stamp| stamp.end.min(line.len()))..];
    let (level, message) = match level(after, stamp.is_none()) {
        Some((level, end)) => (Some(level), separated(&after[end..])),
        None if stamp.is_none() => return None,
        None => (None, separated(after)),
    };
    Some(Record { time: stamp.map(|stamp| stamp.millis), level, message, request: app_request(message), failure: None })
}

/// The text without the punctuation between the fields of a line.
#[inline]
pub(super) fn separated(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'-' | b':' | b'|' | b']' | b'\t' | b',' | b'"')).unwrap_or(text.len());
    &text[start..]
}

fn is_address(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<std::net::IpAddr>().is_ok())
}

fn decimal(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `2026/11/21 10:00:00 [error] 12#12: *5 message, client: …`.
fn nginx_error<'a>(clock: &mut Clock, line: &'a [u8]) -> Option<Record<'a>> {
    let stamp = clock.read(line)?;
    let rest = line.get(stamp.end..)?.strip_prefix(b" [")?;
    let (level, rest) = split(rest, b']')?;
    let message = memmem::find(rest, b": ").map_or(rest, |at| &rest[at + 2..]);
    // The number of the connection.
    let message = match message.strip_prefix(b"*") {
        Some(numbered) => memchr(b' ', numbered).map_or(message, |at| &numbered[at + 1..]),
        None => message,
    };
    let message = memmem::find(message, b", client: ").map_or(message, |at| &message[..at]);
    Some(Record { time: Some(stamp.millis), level: Level::of_any_case(level), message, ..Record::default() })
}

/// `[<PRI>]STAMP host tag[pid]: message`.
fn syslog<'a>(clock: &mut Clock, line: &'a [u8]) -> Option<Record<'a>> {
    let (severity, rest) = priority(line);
    let stamp = clock.read(rest)?;
    let rest = rest.get(stamp.end..)?.trim_ascii_start();
    let host = memchr(b' ', rest)?;
    let message = &rest[host + 1..];
    let text = memmem::find(message, b": ").map_or(message, |at| &message[at + 2..]);
    let level = severity.map(Level::of_severity).or_else(|| level(text, true).map(|(level, _)| level));
    Some(Record { time: Some(stamp.millis), level, message: text, request: None, failure: sshd_failure(message) })
}

/// The severity of `<34>1 `, and what follows.
fn priority(line: &[u8]) -> (Option<i64>, &[u8]) {
    let read = || {
        let (digits, rest) = split(line.strip_prefix(b"<")?, b'>')?;
        Some((number(digits)? % 8, rest.strip_prefix(b"1 ").unwrap_or(rest)))
    };
    read().map_or((None, line), |(severity, rest)| (Some(severity), rest))
}

/// A login that sshd refused. The address is the last `from`, since the name before it is the attacker's.
fn sshd_failure(message: &[u8]) -> Option<Failure<'_>> {
    if !message.starts_with(b"sshd") {
        return None;
    }
    let text = &message[memmem::find(message, b": ")? + 2..];
    let (count, text) = match text.strip_prefix(b"message repeated ") {
        Some(rest) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (number(&rest[..digits.min(9)])?, &rest[memmem::find(rest, b": [ ")? + 4..])
        }
        None => (1, text),
    };
    if !text.starts_with(b"Failed password for ") && !text.starts_with(b"Failed keyboard-interactive") {
        return None;
    }
    let from = memmem::rfind(text, b" from ")? + 6;
    let address = text[from..].split(|&byte| byte == b' ').next().unwrap_or_default();
    Some(Failure { address, count: count.unsigned_abs() })
}

/// A failed login among the security events of an application.
fn security_failure(line: &[u8]) -> Option<Failure<'_>> {
    const EVENTS: [&[u8]; 4] = [b"LOGIN_FAILED", b"LOGIN_FAILURE", b"FAILED_LOGIN", b"AUTH_FAILED"];
    let event = EVENTS.iter().find_map(|event| memmem::find(line, event))?;
    Some(Failure { address: address_in(&line[event..]), count: 1 })
}

/// The address that is named so: `'ip': '1.2.3.4'`, `"ip": "::1"`, `ip=…`, ` from …`.
fn address_in(text: &[u8]) -> &[u8] {
    const KEYS: [&[u8]; 9] = [b"'ip'", b"\"ip\"", b"ip=", b"ip:", b"client_ip", b"ip_address", b"remote_addr", b"address", b" from "];
    for key in KEYS {
        let Some(at) = memmem::find(text, key) else { continue };
        let rest = &text[at + key.len()..];
        let start = rest.iter().position(|byte| !matches!(byte, b' ' | b':' | b'=' | b'\'' | b'"')).unwrap_or(rest.len());
        let rest = &rest[start..];
        // `::1` begins with what separates.
        let rest = if start >= 2 && text[..at + key.len() + start].ends_with(b"::") { &text[at + key.len() + start - 2..] } else { rest };
        let length = rest.iter().take_while(|&&byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':')).count();
        if is_address(&rest[..length]) {
            return &rest[..length];
        }
    }
    &[]
}

/// `STAMP [pid] user@db LEVEL:  message`; details of a message are more of it.
fn postgres<'a>(clock: &mut Clock, line: &'a [u8]) -> Option<Parsed<'a>> {
    let stamp = clock.read(line)?;
    let rest = line.get(stamp.end..)?;
    const DETAILS: [&[u8]; 6] = [b"DETAIL", b"HINT", b"STATEMENT", b"CONTEXT", b"QUERY", b"LOCATION"];
    let mut from = 0;
    for _ in 0..12 {
        let colon = from + memmem::find(&rest[from..], b":  ")?;
        let start = rest[..colon].iter().rposition(|byte| !byte.is_ascii_alphanumeric()).map_or(0, |at| at + 1);
        let word = &rest[start..colon];
        if DETAILS.contains(&word) {
            return Some(Parsed::Continuation);
        }
        let level = if word == b"LOG" {
            Some(Level::Log)
        } else if word.starts_with(b"DEBUG") {
            Some(Level::Debug)
        } else {
            Level::of(word)
        };
        if level.is_some() {
            let message = &rest[colon + 3..];
            let refused = memmem::find(message, b"authentication failed for user").is_some();
            let failure = refused.then(|| Failure { address: host_in(&rest[..start]), count: 1 });
            return Some(Parsed::Record(Record { time: Some(stamp.millis), level, message, request: None, failure }));
        }
        from = colon + 3;
    }
    None
}

/// The client's address in a prefix of PostgreSQL: the first word that is one, `%h` or `%r`.
fn host_in(prefix: &[u8]) -> &[u8] {
    let words = prefix.split(|byte| matches!(byte, b' ' | b'(' | b')' | b',' | b'[' | b']' | b'@' | b'='));
    words.into_iter().find(|word| is_address(word)).unwrap_or_default()
}

/// The time and the statement of `duration: 1234.5 ms  statement: …` and its kin.
pub(super) fn slow_statement(message: &[u8]) -> Option<(f64, &[u8])> {
    static UNIT: std::sync::LazyLock<Finder<'static>> = std::sync::LazyLock::new(|| Finder::new(" ms  "));
    let rest = message.strip_prefix(b"duration: ")?;
    let unit = UNIT.find(&rest[..rest.len().min(40)])?;
    let millis = decimal(&rest[..unit])?;
    let (_, text) = split(&rest[unit + 5..], b':')?;
    Some((millis, text.trim_ascii_start()))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    fn reader(format: Format) -> Reader {
        Reader::new(format, Clock::new(TimeZone::UTC, "2026-11-21T12:00:00Z".parse().unwrap()))
    }

    fn with<T>(format: Format, line: &str, look: impl FnOnce(&Record<'_>) -> T) -> T {
        let mut reader = reader(format);
        let Parsed::Record(record) = reader.read(line.as_bytes()) else { panic!("not a record: {line}") };
        look(&record)
    }

    fn kind(format: Format, line: &str) -> &'static str {
        match reader(format).read(line.as_bytes()) {
            Parsed::Record(_) => "record",
            Parsed::Continuation => "continuation",
            Parsed::Malformed => "malformed",
        }
    }

    #[test]
    fn levels_are_found_where_programs_write_them() {
        for (line, level, message) in [
            ("2026-11-21 10:00:00,123 - app.db - ERROR - it failed", Some(Level::Error), "it failed"),
            ("2026-11-21 10:00:00 WARNING [pool] slow", Some(Level::Warning), "[pool] slow"),
            ("[2026-11-21 10:00:00] app.CRITICAL: down", Some(Level::Critical), "down"),
            ("2026-11-21T10:00:00.5Z  INFO app::x: an ERROR was seen", Some(Level::Info), "app::x: an ERROR was seen"),
            ("2026-11-21T10:00:00Z [error] upstream", Some(Level::Error), "upstream"),
            ("2026-11-21T10:00:00Z level=warn msg=x", Some(Level::Warning), "msg=x"),
            ("2026-11-21 10:00:00 error: small letters", Some(Level::Error), "small letters"),
            ("2026-11-21 10:00:00 no error here", None, "no error here"),
            ("INFO:     started", Some(Level::Info), "started"),
        ] {
            with(Format::App, line, |record| {
                assert_eq!((record.level, record.message), (level, message.as_bytes()), "{line}");
            });
        }
    }

    #[test]
    fn lines_without_a_stamp_are_told_apart() {
        for (line, expected) in [
            ("  File \"x.py\", line 1", "continuation"),
            ("\tat a.b.C(C.java:1)", "continuation"),
            ("Traceback (most recent call last):", "continuation"),
            ("requests.exceptions.ConnectionError: x", "continuation"),
            ("", "continuation"),
            ("garbage without a stamp", "malformed"),
            ("\u{fffd}\u{fffd}", "malformed"),
        ] {
            assert_eq!(kind(Format::App, line), expected, "{line}");
        }
        assert_eq!(kind(Format::Nginx, "  x"), "malformed");
    }

    #[test]
    fn nginx_errors_lose_what_differs_from_request_to_request() {
        let line = r#"2026/11/21 10:00:00 [error] 7#7: *15 connect() failed (111: Connection refused) while connecting to upstream, client: 10.0.0.1, server: x"#;
        with(Format::NginxError, line, |record| {
            assert_eq!(record.level, Some(Level::Error));
            assert_eq!(record.message, b"connect() failed (111: Connection refused) while connecting to upstream");
        });
    }

    #[test]
    fn failed_logins_of_sshd_have_their_address() {
        for (line, address, count) in [
            ("Nov  5 10:00:00 h sshd[1]: Failed password for root from 10.0.0.7 port 22 ssh2", "10.0.0.7", 1),
            (
                "2026-11-05T10:00:00.5+00:00 h sshd-session[1]: Failed password for invalid user x from 2001:db8::7 port 22 ssh2",
                "2001:db8::7",
                1,
            ),
            (
                "<38>Nov 15 10:00:00 h sshd[1]: Failed password for invalid user a from 1.1.1.1 port 1 ssh2 from 6.6.6.6 port 22 ssh2",
                "6.6.6.6",
                1,
            ),
            ("Nov  5 10:00:00 h sshd[1]: message repeated 4 times: [ Failed password for root from 10.0.0.7 port 22 ssh2]", "10.0.0.7", 4),
        ] {
            with(Format::Syslog, line, |record| {
                assert_eq!(record.failure, Some(Failure { address: address.as_bytes(), count }), "{line}");
            });
        }
        with(Format::Syslog, "Nov  5 10:00:00 h app[1]: Failed password for root from 10.0.0.7 port 1", |record| {
            assert_eq!(record.failure, None);
        });
    }

    #[test]
    fn failed_logins_of_an_application_have_their_address() {
        for (details, address) in [
            ("{'ip': '10.0.0.7'}", "10.0.0.7"),
            (r#"{"user": 1, "ip": "2001:db8::1"}"#, "2001:db8::1"),
            ("{'ip': '::1'}", "::1"),
            ("ip=10.0.0.8", "10.0.0.8"),
            ("{}", ""),
        ] {
            let line = format!("2026-11-21 10:00:00,1 - security - INFO - SECURITY_EVENT: LOGIN_FAILED - USER: 5 - DETAILS: {details}");
            with(Format::Security, &line, |record| {
                assert_eq!(record.failure, Some(Failure { address: address.as_bytes(), count: 1 }), "{line}");
            });
        }
    }

    #[test]
    fn postgres_lines_are_records_and_their_details() {
        let line = "2026-11-21 10:00:00.123 UTC [77] app@main LOG:  duration: 1234.500 ms  statement: SELECT 1";
        with(Format::Postgres, line, |record| {
            assert_eq!(record.level, Some(Level::Log));
            assert_eq!(slow_statement(record.message), Some((1234.5, &b"SELECT 1"[..])));
        });
        let execute = "2026-11-21 10:00:00.123 UTC [77] LOG:  duration: 2.5 ms  execute S_1: UPDATE t SET a = $1";
        with(Format::Postgres, execute, |record| assert_eq!(slow_statement(record.message), Some((2.5, &b"UPDATE t SET a = $1"[..]))));
        let refused = "2026-11-21 10:00:00.123 UTC [77] 10.0.0.3(5000) app@main FATAL:  password authentication failed for user \"app\"";
        with(Format::Postgres, refused, |record| assert_eq!(record.failure.as_ref().unwrap().address, b"10.0.0.3"));
        assert_eq!(kind(Format::Postgres, "2026-11-21 10:00:00.123 UTC [77] app@main STATEMENT:  SELECT x"), "continuation");
        assert_eq!(kind(Format::Postgres, "\tFROM t"), "continuation");
        assert_eq!(kind(Format::Postgres, "x"), "malformed");
    }

    #[test]
    fn objects_are_read_by_their_usual_names() {
        let line = r#"{"timestamp":"2026-11-21T10:00:00Z","level":"error","message":"a\nb","exc_type":"KeyError","method":"GET","path":"/x","status":500,"duration_ms":12.5,"remote_addr":"::1"}"#;
        with(Format::Json, line, |record| {
            assert_eq!(Timestamp::from_millisecond(record.time.unwrap()).unwrap().to_string(), "2026-11-21T10:00:00Z");
            assert_eq!((record.level, record.message), (Some(Level::Error), &b"KeyError: a\nb"[..]));
            let request = record.request.as_ref().unwrap();
            assert_eq!((request.line, request.method, request.micros, request.client), (&b"GET /x"[..], 4, Some(12_500), &b"::1"[..]));
        });
        with(Format::Json, r#"{"ts":1763719205.5,"msg":"x"}"#, |record| assert_eq!(record.time, Some(1_763_719_205_500)));
        assert_eq!(kind(Format::Json, "{\"open"), "malformed");
    }

    #[test]
    fn formats_are_guessed_from_the_first_lines() {
        let guess = |text: &str| Format::guess(text.as_bytes(), &reader(Format::App).clock);
        assert_eq!(guess(r#"1.1.1.1 - - [21/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 1"#), Format::Nginx);
        assert_eq!(guess("2026/11/21 10:00:00 [error] 7#7: x"), Format::NginxError);
        assert_eq!(guess("2026-11-21 10:00:00.123 UTC [77] LOG:  x"), Format::Postgres);
        assert_eq!(guess("Nov  5 10:00:00 h sshd[1]: x"), Format::Syslog);
        assert_eq!(guess(r#"{"ts":1}"#), Format::Json);
        assert_eq!(guess("2026-11-21 10:00:00,1 - app - INFO - x"), Format::App);
        assert_eq!(guess("anything"), Format::App);
    }
}
