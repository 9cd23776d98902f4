//! The output of containers: both streams, with the time of each line.

use std::collections::VecDeque;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::containers::Found;
use super::engine::{Docker, failed, within};
use crate::error::{Error, Kind, Result};
use crate::host::Moment;
use crate::model::Size;
use crate::words;

/// Which output to read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::host) struct LogOptions {
    since: Option<Moment>,
    until: Option<Moment>,
    tail: usize,
    stdout: bool,
    stderr: bool,
    max_bytes: Size,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { since: None, until: None, tail: 1000, stdout: true, stderr: true, max_bytes: Size(1 << 20) }
    }
}

impl LogOptions {
    /// Both streams, so many of the newest lines of that time.
    pub(in crate::host) fn newest(tail: usize, since: Option<Moment>, until: Option<Moment>) -> Self {
        Self { since, until, tail, ..Self::default() }
    }
}

const LIMIT: Duration = Duration::from_secs(60);
/// A line is one row of a list in a script, which may not grow without end.
const MOST_LINES: usize = 50_000;

/// A line of output. One whose `stream` is `cut` says how much was left out before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::host) struct Line {
    pub(in crate::host) container: String,
    pub(in crate::host) time: Option<Timestamp>,
    pub(in crate::host) stream: &'static str,
    pub(in crate::host) text: String,
}

/// The newest lines that fit, in the order they came.
struct Lines<'a> {
    container: &'a str,
    kept: VecDeque<Line>,
    bytes: usize,
    most_bytes: usize,
    left_out: usize,
    /// Whether the last line of a stream is still open: long lines come in parts of 16 KiB.
    open: [bool; 3],
}

impl<'a> Lines<'a> {
    fn new(container: &'a str, most_bytes: usize) -> Self {
        Self { container, kept: VecDeque::new(), bytes: 0, most_bytes, left_out: 0, open: [false; 3] }
    }

    fn push(&mut self, output: &LogOutput) {
        let (index, stream) = stream(output);
        let bytes: &Bytes = output.as_ref_bytes();
        let text = String::from_utf8_lossy(bytes);
        let (time, text) = split_time(&text);
        let is_whole = text.ends_with('\n');
        let text = text.trim_end_matches(['\n', '\r']);
        let continued = std::mem::replace(&mut self.open[index], !is_whole);
        self.bytes += text.len();
        match self.kept.iter_mut().rev().find(|line| line.stream == stream) {
            Some(line) if continued => line.text.push_str(text),
            _ => self.kept.push_back(Line { container: self.container.to_owned(), time, stream, text: text.to_owned() }),
        }
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.bytes > self.most_bytes || self.kept.len() > MOST_LINES {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= oldest.text.len();
            self.left_out += 1;
        }
    }

    fn finish(mut self) -> Vec<Line> {
        if self.left_out > 0 {
            let text = format!("{} left out", words::count(self.left_out, "older line"));
            let time = self.kept.front().and_then(|line| line.time);
            self.kept.push_front(Line { container: self.container.to_owned(), time, stream: "cut", text });
        }
        self.kept.into()
    }
}

/// Lines with their stamps, put together from the pieces of two streams.
#[derive(Default)]
struct Text {
    whole: Vec<u8>,
    /// The line of each stream that has not ended yet.
    open: [Vec<u8>; 3],
}

impl Text {
    fn push(&mut self, output: &LogOutput) {
        let (index, _) = stream(output);
        let open = &mut self.open[index];
        let bytes = output.as_ref_bytes();
        // Each further piece of a long line has a stamp too.
        let stamp = bytes.iter().position(|&byte| byte == b' ').map_or(0, |blank| blank + 1);
        open.extend_from_slice(&bytes[if open.is_empty() { 0 } else { stamp }..]);
        if open.ends_with(b"\n") {
            self.whole.append(open);
        }
    }

    /// Ends the lines that are open.
    fn end(&mut self) {
        for open in &mut self.open {
            if !open.is_empty() {
                self.whole.append(open);
                self.whole.push(b'\n');
            }
        }
    }
}

/// The number of a stream, and its name.
fn stream(output: &LogOutput) -> (usize, &'static str) {
    match output {
        LogOutput::StdErr { .. } => (1, "stderr"),
        // A container with a terminal has one stream only.
        LogOutput::Console { .. } => (2, "stdout"),
        LogOutput::StdOut { .. } | LogOutput::StdIn { .. } => (0, "stdout"),
    }
}

/// The bytes of a piece of output.
trait AsBytes {
    fn as_ref_bytes(&self) -> &Bytes;
}

impl AsBytes for LogOutput {
    fn as_ref_bytes(&self) -> &Bytes {
        match self {
            Self::StdErr { message } | Self::StdOut { message } | Self::StdIn { message } | Self::Console { message } => message,
        }
    }
}

/// The stamp the engine puts before each line, and the line.
fn split_time(text: &str) -> (Option<Timestamp>, &str) {
    let Some((stamp, rest)) = text.split_once(' ') else { return (text.trim_end().parse().ok(), "\n") };
    match stamp.parse() {
        Ok(time) => (Some(time), rest),
        Err(_) => (None, text),
    }
}

impl Docker {
    /// The output of these containers, merged by time.
    pub(in crate::host) async fn logs(&self, found: &[Found], options: &LogOptions) -> Result<Vec<Line>> {
        if !options.stdout && !options.stderr {
            return Err(Error::new(Kind::Invalid, "neither `stdout` nor `stderr` is wanted").hint("set one of them"));
        }
        let mut lines = Vec::new();
        for container in found {
            let read = self.logs_of(container, options);
            lines.extend(within(LIMIT, format_args!("the log of `{}`", container.name), read).await?);
        }
        // Stable: lines of one container keep their order, also where stamps are equal or missing.
        if found.len() > 1 {
            lines.sort_by_key(|line| line.time);
        }
        Ok(lines)
    }

    /// The output of these containers as lines of `STAMP text`, one container after the other: that of a
    /// time, or the `last` lines of each.
    pub(in crate::host) async fn output(
        &self,
        found: &[Found],
        (since, until): (Option<Timestamp>, Option<Timestamp>),
        last: Option<usize>,
        most_bytes: usize,
    ) -> Result<Vec<u8>> {
        let asked = LogsOptions {
            stdout: true,
            stderr: true,
            since: since.map_or(0, |time| i32::try_from(time.as_second()).unwrap_or(i32::MAX)),
            until: until.map_or(0, |time| i32::try_from(time.as_second() + 1).unwrap_or(i32::MAX)),
            timestamps: true,
            tail: last.map_or_else(|| "all".to_owned(), |last| last.to_string()),
            follow: false,
        };
        let mut text = Text::default();
        for container in found {
            let read = async {
                let mut output = std::pin::pin!(self.client().await?.logs(&container.id, Some(asked.clone())));
                while let Some(piece) = output.next().await {
                    let piece =
                        piece.map_err(|error| failed(format_args!("the log of `{}`", container.name), error).target(&container.name))?;
                    text.push(&piece);
                    if text.whole.len() > most_bytes {
                        let most = Size(most_bytes as u64);
                        return Err(Error::new(
                            Kind::Limit,
                            format!("the output of `{}` in this time is more than {most}", container.name),
                        )
                        .target(&container.name)
                        .hint("ask about a shorter time, as in `window: \"1h\"`"));
                    }
                }
                Ok(())
            };
            within(LIMIT, format!("the log of `{}`", container.name), read).await?;
            text.end();
        }
        Ok(text.whole)
    }

    async fn logs_of(&self, found: &Found, options: &LogOptions) -> Result<Vec<Line>> {
        let now = self.ctx.now();
        let since = options.since.map(|since| since.resolve(now)).transpose()?;
        let until = options.until.map(|until| until.resolve(now)).transpose()?;
        let asked = LogsOptions {
            stdout: options.stdout,
            stderr: options.stderr,
            // Whole seconds are all the library can ask for; the rest is cut below.
            since: since.map_or(0, |time| i32::try_from(time.as_second()).unwrap_or(i32::MAX)),
            until: until.map_or(0, |time| i32::try_from(time.as_second() + 1).unwrap_or(i32::MAX)),
            timestamps: true,
            tail: options.tail.to_string(),
            follow: false,
        };
        let most = usize::try_from(options.max_bytes.0).unwrap_or(usize::MAX);
        let mut lines = Lines::new(&found.name, most);
        let mut output = std::pin::pin!(self.client().await?.logs(&found.id, Some(asked)));
        while let Some(piece) = output.next().await {
            lines.push(&piece.map_err(|error| failed(format_args!("the log of `{}`", found.name), error).target(&found.name))?);
        }
        let in_time = |line: &Line| match line.time {
            Some(time) => since.is_none_or(|since| time >= since) && until.is_none_or(|until| time <= until),
            None => true,
        };
        Ok(lines.finish().into_iter().filter(|line| line.stream == "cut" || in_time(line)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(text: &str) -> LogOutput {
        LogOutput::StdOut { message: Bytes::copy_from_slice(text.as_bytes()) }
    }

    fn err(text: &str) -> LogOutput {
        LogOutput::StdErr { message: Bytes::copy_from_slice(text.as_bytes()) }
    }

    #[test]
    fn a_long_line_that_came_in_parts_is_one_line() {
        let mut lines = Lines::new("web", 1000);
        lines.push(&out("2026-11-21T12:00:00.5Z begin "));
        lines.push(&err("2026-11-21T12:00:00.6Z between\n"));
        lines.push(&out("2026-11-21T12:00:00.7Z end\r\n"));
        lines.push(&out("2026-11-21T12:00:01Z \n"));
        let lines = lines.finish();
        let texts: Vec<_> = lines.iter().map(|line| (line.stream, line.text.as_str())).collect();
        assert_eq!(texts, [("stdout", "begin end"), ("stderr", "between"), ("stdout", "")]);
        assert_eq!(lines[0].time, Some("2026-11-21T12:00:00.5Z".parse().unwrap()));
    }

    #[test]
    fn a_long_line_is_one_line_of_text_with_its_first_stamp() {
        let mut text = Text::default();
        for piece in [out("2026-11-21T12:00:00.5Z begin "), err("2026-11-21T12:00:00.6Z between\n"), out("2026-11-21T12:00:00.7Z end\n")] {
            text.push(&piece);
        }
        text.push(&out("2026-11-21T12:00:01Z open"));
        text.end();
        assert_eq!(
            String::from_utf8(text.whole).unwrap(),
            "2026-11-21T12:00:00.6Z between\n2026-11-21T12:00:00.5Z begin end\n2026-11-21T12:00:01Z open\n"
        );
    }

    #[test]
    fn the_oldest_lines_are_left_out_and_that_is_said() {
        let mut lines = Lines::new("web", 10);
        for text in ["2026-11-21T12:00:00Z 12345\n", "2026-11-21T12:00:01Z 67890\n", "2026-11-21T12:00:02Z x\n"] {
            lines.push(&out(text));
        }
        let texts: Vec<_> = lines.finish().into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["1 older line left out", "67890", "x"]);
    }
}
