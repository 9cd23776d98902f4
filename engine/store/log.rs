//! The log of a run: every event as a line of JSON in a file, with an index from line to place.
//!
//! The index holds eight bytes per line, so that any line of a long log is found with one read.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::model::Event;

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its number, from 1.
    pub line: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// The log of a run.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    text: Option<File>,
    index: Option<File>,
    size: u64,
    limit: u64,
    dropped: u64,
}

impl Log {
    /// The log in the directory of a run, for reading.
    pub fn at(directory: &Path) -> Self {
        Self { path: directory.join("log.jsonl"), text: None, index: None, size: 0, limit: 0, dropped: 0 }
    }

    /// Opens the log of a run for writing, and makes it when it is new. It takes `limit` bytes at most.
    ///
    /// # Errors
    ///
    /// `store`, when the files can not be made.
    pub fn create(directory: &Path, limit: u64) -> Result<Self> {
        let mut log = Self::at(directory);
        let open = |name: &str| OpenOptions::new().append(true).create(true).mode(0o600).open(directory.join(name));
        let make = || -> std::io::Result<(File, File)> {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            Ok((open("log.jsonl")?, open("log.index")?))
        };
        let (text, index) = make().map_err(|error| failed(&log.path, &error))?;
        // A resumed run goes on where its log ends; a line that was torn would swallow the next one.
        let mend = || -> std::io::Result<u64> {
            let size = text.metadata()?.len();
            let mut last = [b'\n'];
            if size > 0 {
                std::os::unix::fs::FileExt::read_exact_at(&File::open(directory.join("log.jsonl"))?, &mut last, size - 1)?;
            }
            if last == *b"\n" {
                return Ok(size);
            }
            (&text).write_all(b"\n").map(|()| size + 1)
        };
        log.size = mend().map_err(|error| failed(&log.path, &error))?;
        log.text = Some(text);
        log.index = Some(index);
        log.limit = limit;
        Ok(log)
    }

    /// Appends events; what is over the limit is counted and left out. One write for all, so that no
    /// line is torn. Not synced: the journal is what must survive.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn append(&mut self, events: &[Event]) -> Result<()> {
        let (Some(text), Some(index)) = (&mut self.text, &mut self.index) else {
            return Err(Error::new(Kind::Bug, "a log that was opened for reading is written"));
        };
        let mut lines = Vec::new();
        let mut places = Vec::new();
        for event in events {
            let mut line = serde_json::to_vec(event).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
            line.push(b'\n');
            if self.size + line.len() as u64 > self.limit {
                self.dropped += line.len() as u64;
                continue;
            }
            places.extend_from_slice(&self.size.to_le_bytes());
            self.size += line.len() as u64;
            lines.extend_from_slice(&line);
        }
        text.write_all(&lines).and_then(|()| index.write_all(&places)).map_err(|error| failed(&self.path, &error))
    }

    /// Counts bytes that were left out before they came here.
    pub fn leave_out(&mut self, bytes: u64) {
        self.dropped += bytes;
    }

    /// Lets the last lines in, which say how it ended and that others are missing.
    pub fn make_room(&mut self) {
        self.limit = u64::MAX;
    }

    /// How many bytes were over the limit.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The lines from number `first` (from 1) on, at most `count`. A last line that is not complete yet is left out.
    ///
    /// # Errors
    ///
    /// `store`, when the file can not be read.
    pub fn lines(&self, first: u64, count: u64) -> Result<Vec<LogLine>> {
        let start = self.place(first)?;
        let Some(start) = start else { return Ok(Vec::new()) };
        let mut file = File::open(&self.path).map_err(|error| failed(&self.path, &error))?;
        file.seek(SeekFrom::Start(start)).map_err(|error| failed(&self.path, &error))?;
        let mut reader = BufReader::new(file);
        let mut lines = Vec::new();
        let mut text = String::new();
        while (lines.len() as u64) < count {
            text.clear();
            let read = reader.read_line(&mut text).map_err(|error| failed(&self.path, &error))?;
            if read == 0 || !text.ends_with('\n') {
                break;
            }
            if let Ok(event) = serde_json::from_str(&text) {
                lines.push(LogLine { line: first + lines.len() as u64, event });
            }
        }
        Ok(lines)
    }

    /// How many lines there are.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn len(&self) -> Result<u64> {
        match std::fs::metadata(self.path.with_file_name("log.index")) {
            Ok(found) => Ok(found.len() / 8),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(failed(&self.path, &error)),
        }
    }

    /// Whether there is no line.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    fn place(&self, line: u64) -> Result<Option<u64>> {
        if line == 0 || line > self.len()? {
            return Ok(None);
        }
        let path = self.path.with_file_name("log.index");
        let mut bytes = [0; 8];
        let read = || -> std::io::Result<u64> {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start((line - 1) * 8))?;
            file.read_exact(&mut bytes)?;
            Ok(u64::from_le_bytes(bytes))
        };
        let mut read = read;
        read().map(Some).map_err(|error| failed(&path, &error))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::because(Kind::Store, format_args!("the log `{}`", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventKind;

    fn line(text: &str) -> Event {
        Event { at: "2026-11-21T12:00:00Z".parse().unwrap(), kind: EventKind::Log { step: String::new(), text: text.to_owned() } }
    }

    #[test]
    fn any_line_is_found_by_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::create(directory.path(), 1 << 20).unwrap();
        for number in 1..=100 {
            log.append(&[line(&format!("line {number}"))]).unwrap();
        }
        let found = Log::at(directory.path()).lines(42, 2).unwrap();
        assert_eq!(found.iter().map(|line| line.line).collect::<Vec<_>>(), [42, 43]);
        assert_eq!(found[0].event, line("line 42"));
        assert_eq!(log.len().unwrap(), 100);
        assert!(log.lines(101, 1).unwrap().is_empty());
    }

    #[test]
    fn a_flood_stops_at_the_limit_and_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::create(directory.path(), 200).unwrap();
        for _ in 0..10 {
            log.append(&[line("x")]).unwrap();
        }
        assert!(log.len().unwrap() < 10);
        assert!(log.dropped() > 0);
    }
}
