//! The output of services, as the lines of a log.
//!
//! What manages a service stamps each line it keeps. A line that has a time of its own keeps that one;
//! any other that begins a record gets the stamp; what continues a record stays as it is.

use jiff::Timestamp;

use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::logs::format::{Format, Reader};
use crate::host::logs::log::{Log, Window};
use crate::host::logs::parts::SLACK;
use crate::host::logs::record::Parsed;
use crate::host::logs::stamp::Clock;
use crate::host::systemd::{JournalOptions, Systemd, UnitName};
use crate::host::{Ctx, Moment};
use crate::model::system::Manager;

/// The most output that is read.
const MOST_BYTES: usize = 64 << 20;
/// The most entries that are read of a journal.
const MOST_ENTRIES: usize = 50_000;

/// What is read of an output.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extent {
    /// What can be in the window.
    Window(Window),
    /// The last lines.
    Last(usize),
}

/// The output of a service: lines of `STAMP text`.
///
/// # Errors
///
/// `denied` without the permission for its containers or its unit; `conflict` for a plain process, whose
/// output nobody keeps; `limit` when it is larger than 64 MiB; otherwise as the manager of the services says.
pub(super) async fn read(ctx: &Ctx, log: &str, service: &str, extent: Extent) -> Result<Vec<u8>> {
    let (since, until, last) = match extent {
        Extent::Window(window) => (window.since.map(|since| since.saturating_sub(SLACK).unwrap_or(since)), window.until, None),
        Extent::Last(count) => (None, None, Some(count)),
    };
    let unit = ctx.system().services.each.get(service).and_then(|service| service.unit.as_deref()).unwrap_or(service);
    match ctx.system().services.manager {
        Manager::Compose => {
            let docker = Docker::of(ctx);
            let found = docker.resolve("logs", service).await?;
            docker.output(&found, (since, until), last, MOST_BYTES).await
        }
        Manager::Systemd => {
            let systemd = Systemd::of(ctx);
            let unit = UnitName::read(unit)?.known_as(service);
            systemd.permit("logs", &unit)?;
            let asked = JournalOptions::newest(last.unwrap_or(MOST_ENTRIES), since.map(Moment::At), until.map(Moment::At));
            let entries = systemd.journal(&unit, asked).await?;
            if last.is_none() && entries.len() >= MOST_ENTRIES {
                return Err(too_much(service, &format!("{MOST_ENTRIES} entries")));
            }
            let lines =
                entries.iter().flat_map(|entry| entry.text.lines().map(|line| format!("{} {line}\n", entry.time.unwrap_or_default())));
            Ok(lines.collect::<String>().into_bytes())
        }
        Manager::Processes => Err(Error::new(Kind::Conflict, format!("`{service}` is a plain process, whose output nobody keeps"))
            .target(service)
            .permanent()
            .hint(format!("give the log `{log}` a `path` in the system file"))),
        Manager::Kubernetes => {
            Err(Error::new(Kind::Conflict, format!("`{service}` runs on Kubernetes, whose pods take their output with them"))
                .target(service)
                .permanent()
                .hint("read what there is of it with `k8s::logs`; searching over time needs a place that keeps logs"))
        }
        Manager::None => Err(Error::new(
            Kind::Invalid,
            format!("log `{log}` is the output of a service, and nothing is named that manages the services"),
        )
        .target(log)
        .hint("name it in the system file: `[services] manager = \"compose\"`; or give the log a `path`")),
    }
}

/// The error for an output that is too large.
fn too_much(service: &str, limit: &str) -> Error {
    Error::new(Kind::Limit, format!("the output of `{service}` in this time is more than {limit}"))
        .target(service)
        .hint("ask about a shorter time, as in `window: \"1h\"`")
}

/// The lines of an output as its program would have written them to a file.
pub(super) fn lines(output: &[u8], log: &Log, now: Timestamp) -> Vec<u8> {
    let clock = Clock::new(log.zone.clone(), now);
    let format = log.format.unwrap_or_else(|| Format::guess(&bare(output), &clock));
    let mut reader = Reader::new(format, clock);
    let mut text = Vec::with_capacity(output.len());
    for (stamp, line) in stamped(output) {
        let lacks_time = match reader.read(line.strip_suffix(b"\r").unwrap_or(line)) {
            Parsed::Record(record) => record.time.is_none(),
            // Words of a program before its log is set up.
            Parsed::Malformed => format == Format::App,
            Parsed::Continuation => false,
        };
        match line {
            [b'{', rest @ ..] if lacks_time && format == Format::Json && rest.contains(&b'"') => {
                text.extend_from_slice(b"{\"time\":\"");
                text.extend_from_slice(stamp);
                text.extend_from_slice(b"\",");
                text.extend_from_slice(rest);
            }
            _ => {
                if lacks_time && matches!(format, Format::App | Format::Security) {
                    text.extend_from_slice(stamp);
                    text.push(b' ');
                }
                text.extend_from_slice(line);
            }
        }
        text.push(b'\n');
    }
    text
}

/// The lines of an output without their stamps, as many as it takes to know their format.
fn bare(output: &[u8]) -> Vec<u8> {
    stamped(output).flat_map(|(_, line)| line.iter().copied().chain([b'\n'])).take(64 * 1024).collect()
}

/// Each line with its stamp.
fn stamped(output: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = output.strip_suffix(b"\n").unwrap_or(output).split(|&byte| byte == b'\n');
    lines.filter(|line| !line.is_empty()).map(|line| {
        let end = memchr::memchr(b' ', line).unwrap_or(line.len());
        (&line[..end], line.get(end + 1..).unwrap_or_default())
    })
}

/// All lines of an output without their stamps.
pub(super) fn without_stamps(output: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(output.len());
    for (_, line) in stamped(output) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::host::logs::log::Source;

    fn log(format: Option<Format>) -> Log {
        Log { name: "web".to_owned(), source: Source::Files(PathBuf::new()), format, zone: TimeZone::UTC, optional: false }
    }

    fn lines_of(output: &str, format: Option<Format>) -> String {
        String::from_utf8(lines(output.as_bytes(), &log(format), "2026-11-21T12:00:00Z".parse().unwrap())).unwrap()
    }

    #[test]
    fn a_line_without_a_time_gets_the_one_it_came_with() {
        let output = "2026-11-21T11:00:00.5Z 2026-11-21 10:59:59 ERROR own time\n\
                      2026-11-21T11:00:01.5Z INFO:     uvicorn\n\
                      2026-11-21T11:00:02.5Z Traceback (most recent call last):\n\
                      2026-11-21T11:00:02.6Z   File \"a.py\"\n\
                      2026-11-21T11:00:02.7Z KeyError: 'id'\n\
                      2026-11-21T11:00:03.5Z listening on 8000\n";
        let expected = "2026-11-21 10:59:59 ERROR own time\n\
                        2026-11-21T11:00:01.5Z INFO:     uvicorn\n\
                        Traceback (most recent call last):\n  File \"a.py\"\nKeyError: 'id'\n\
                        2026-11-21T11:00:03.5Z listening on 8000\n";
        assert_eq!(lines_of(output, Some(Format::App)), expected);
        assert_eq!(without_stamps(b"2026-11-21T11:00:00.5Z a b\n2026-11-21T11:00:00.5Z \n"), b"a b\n\n");
    }

    #[test]
    fn an_object_without_a_time_gets_one() {
        let output = "2026-11-21T11:00:00.5Z {\"level\":\"error\",\"msg\":\"x\"}\n2026-11-21T11:00:01Z {}\n";
        assert_eq!(lines_of(output, None), "{\"time\":\"2026-11-21T11:00:00.5Z\",\"level\":\"error\",\"msg\":\"x\"}\n{}\n");
    }
}
