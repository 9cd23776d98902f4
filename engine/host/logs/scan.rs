//! Reading files line by line, in blocks, on several threads, in little memory.
//!
//! A plain file is cut into pieces that threads take in turn; a line belongs to the piece it begins in.
//! A compressed file is one piece. Blocks overlap by the longest line, so that whoever looks at a line
//! sees what follows it.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use flate2::bufread::MultiGzDecoder;
use memchr::memchr;

use crate::error::{Error, Kind, Result};

/// What is longer is cut; the rest of the line is dropped and counted.
pub(super) const LONGEST_LINE: usize = 64 * 1024;
/// What is read at once: larger than what overlaps, smaller than the cache of a core.
const BLOCK: usize = 256 * 1024;
/// What a thread takes at once.
const PIECE: u64 = 8 * 1024 * 1024;
/// More threads would want more memory, and wait for it.
const MOST_THREADS: usize = 4;

/// Ends the work of a call that nobody waits for any more.
#[derive(Debug, Default)]
pub(super) struct Halt(AtomicBool);

impl Halt {
    /// Asks the work to end.
    pub(super) fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::new(Kind::Cancelled, "the reading of a log was stopped")) } else { Ok(()) }
    }
}

/// What is read of one part.
#[derive(Debug)]
pub(super) enum Input<'a> {
    /// The lines that begin in this range of a file.
    Plain(&'a File, Range<u64>),
    /// All lines of a compressed file.
    Gzip(&'a File),
    /// These lines.
    Lines(&'a [u8]),
}

/// A line and its surroundings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'b> {
    block: &'b [u8],
    start: usize,
    end: usize,
    /// The part it is in.
    pub(super) part: usize,
    /// Where it begins in the part, after decompression.
    pub(super) offset: u64,
}

impl<'b> Line<'b> {
    /// The line, without its end.
    #[inline]
    pub(super) fn text(&self) -> &'b [u8] {
        let text = &self.block[self.start..self.end];
        text.strip_suffix(b"\r").unwrap_or(text)
    }

    /// The line and what follows it, as far as the block goes.
    #[inline]
    pub(super) fn onwards(&self) -> &'b [u8] {
        &self.block[self.start..]
    }

    /// The lines after it, as far as the block goes: at least the length of the longest line.
    pub(super) fn following(&self) -> &'b [u8] {
        self.block.get(self.end + 1..).unwrap_or_default()
    }

    /// The lines before it, as far as the block goes.
    pub(super) fn preceding(&self) -> &'b [u8] {
        &self.block[..self.start.saturating_sub(1)]
    }
}

/// Looks at lines; each thread has its own.
pub(super) trait Visitor: Send {
    /// Lines of this part are next, and they do not follow those before.
    fn begin(&mut self, part: usize);
    /// The next line.
    fn line(&mut self, line: &Line<'_>);
}

/// What a scan left.
#[derive(Debug)]
pub(super) struct Scanned<V> {
    /// The visitors, one per thread.
    pub(super) visitors: Vec<V>,
    /// What was read of each part.
    pub(super) parts: Vec<Count>,
}

/// What was read of a part.
#[derive(Debug, Clone, Default)]
pub(super) struct Count {
    /// Its lines.
    pub(super) lines: u64,
    /// Its lines that were cut.
    pub(super) cut: u64,
    /// Why it was not read to its end.
    pub(super) problem: Option<String>,
}

/// How to scan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Whether pieces may be read out of order.
    pub(super) split: bool,
    /// Whether visitors look back.
    pub(super) look_back: bool,
}

/// A part, or a piece of it.
struct Piece {
    part: usize,
    range: Range<u64>,
}

/// Shows every line to one of the visitors.
///
/// # Errors
///
/// `cancelled` when it was halted. What can not be read is a problem of its part.
pub(super) fn scan<V: Visitor>(inputs: &[Input<'_>], manner: Manner, make: impl Fn() -> V + Sync, halt: &Halt) -> Result<Scanned<V>> {
    let pieces = pieces(inputs, manner);
    let next = AtomicUsize::new(0);
    let work = || -> Result<(V, Vec<Count>)> {
        let mut visitor = make();
        let mut counts = vec![Count::default(); inputs.len()];
        let mut buffer = Vec::new();
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            visitor.begin(piece.part);
            let mut feed =
                Feed { part: piece.part, look_back: manner.look_back, count: &mut counts[piece.part], visitor: &mut visitor, halt };
            feed.piece(&inputs[piece.part], piece.range.clone(), &mut buffer)?;
        }
        Ok((visitor, counts))
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = cores.min(MOST_THREADS).min(pieces.len()).max(1);
    let done: Vec<_> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mine = work();
        let joined = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(mine).chain(joined).collect()
    });
    let mut scanned = Scanned { visitors: Vec::new(), parts: vec![Count::default(); inputs.len()] };
    for result in done {
        let (visitor, counts) = result?;
        scanned.visitors.push(visitor);
        for (sum, count) in scanned.parts.iter_mut().zip(counts) {
            sum.lines += count.lines;
            sum.cut += count.cut;
            sum.problem = sum.problem.take().or(count.problem);
        }
    }
    Ok(scanned)
}

/// What threads take in turn: what can not be cut first, since it takes longest.
fn pieces(inputs: &[Input<'_>], manner: Manner) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (part, input) in inputs.iter().enumerate() {
        match input {
            Input::Plain(_, range) if manner.split => {
                let mut from = range.start;
                while from < range.end {
                    let to = (from + PIECE).min(range.end);
                    pieces.push(Piece { part, range: from..to });
                    from = to;
                }
            }
            Input::Plain(_, range) => pieces.push(Piece { part, range: range.clone() }),
            Input::Gzip(_) | Input::Lines(_) => pieces.push(Piece { part, range: 0..u64::MAX }),
        }
    }
    pieces.sort_by_key(|piece| matches!(inputs[piece.part], Input::Plain(..)));
    pieces
}

/// A file from a place on; other readers of it are not disturbed.
pub(super) struct From<'f> {
    /// The file.
    pub(super) file: &'f File,
    /// The place.
    pub(super) offset: u64,
}

impl Read for From<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// The lines of a compressed file.
pub(super) fn gunzip(file: &File) -> impl Read + '_ {
    MultiGzDecoder::new(BufReader::with_capacity(128 * 1024, From { file, offset: 0 }))
}

/// Feeds the lines of one piece to a visitor.
struct Feed<'f, V> {
    part: usize,
    look_back: bool,
    count: &'f mut Count,
    visitor: &'f mut V,
    halt: &'f Halt,
}

impl<V: Visitor> Feed<'_, V> {
    fn piece(&mut self, input: &Input<'_>, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
        match input {
            Input::Plain(file, _) => {
                // From the byte before, to see whether a line begins here.
                let skip = range.start.saturating_sub(1);
                let offset = if self.look_back { skip.saturating_sub(LONGEST_LINE as u64) } else { skip };
                self.lines(From { file, offset }, offset, skip, range, buffer)
            }
            Input::Gzip(file) => self.lines(gunzip(file), 0, 0, range, buffer),
            Input::Lines(lines) => self.lines(*lines, 0, 0, range, buffer),
        }
    }

    /// The lines that begin in `range`, of a reader that stands at `base`; they are looked for from `from` on.
    fn lines(&mut self, mut reader: impl Read, mut base: u64, from: u64, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.resize(BLOCK + 2 * LONGEST_LINE, 0);
        let mut at = (from - base) as usize;
        let mut filled = 0;
        // In the middle of a line that another piece has, or that was cut.
        let mut inside = range.start > 0;
        loop {
            self.halt.check()?;
            let ended = self.fill(&mut reader, buffer, &mut filled);
            let block = &buffer[..filled];
            // Before the end of a block only lines that are in it as a whole.
            let safe = if ended { filled } else { filled.saturating_sub(LONGEST_LINE) };
            let safe = safe.min(usize::try_from(range.end - base).unwrap_or(usize::MAX));
            loop {
                if inside {
                    match memchr(b'\n', &block[at.min(filled)..]) {
                        Some(length) => at += length + 1,
                        None => {
                            at = filled;
                            break;
                        }
                    }
                    inside = false;
                }
                if at >= safe {
                    break;
                }
                let room = &block[at..filled.min(at + LONGEST_LINE)];
                let found = memchr(b'\n', room);
                let end = at + found.unwrap_or(room.len());
                self.visitor.line(&Line { block, start: at, end, part: self.part, offset: base + at as u64 });
                self.count.lines += 1;
                if found.is_some() {
                    at = end + 1;
                } else {
                    at = end;
                    inside = end < filled || !ended;
                    self.count.cut += u64::from(inside);
                }
            }
            if ended || base + at as u64 >= range.end {
                return Ok(());
            }
            let keep = if self.look_back { at.saturating_sub(LONGEST_LINE) } else { at };
            buffer.copy_within(keep..filled, 0);
            filled -= keep;
            at -= keep;
            base += keep as u64;
        }
    }

    /// Fills the block; true at the end of what can be read.
    fn fill(&mut self, reader: &mut impl Read, buffer: &mut [u8], filled: &mut usize) -> bool {
        while *filled < buffer.len() {
            match reader.read(&mut buffer[*filled..]) {
                Ok(0) => return true,
                Ok(read) => *filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.count.problem = Some(error.to_string());
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    /// Part, place and text.
    type Seen = (usize, u64, Vec<u8>);

    #[derive(Default)]
    struct Collect(Vec<Seen>);

    impl Visitor for Collect {
        fn begin(&mut self, _: usize) {}

        fn line(&mut self, line: &Line<'_>) {
            self.0.push((line.part, line.offset, line.text().to_vec()));
        }
    }

    const SPLIT: Manner = Manner { split: true, look_back: false };

    fn file(text: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        file
    }

    fn collect(inputs: &[Input<'_>], manner: Manner) -> (Vec<Seen>, Vec<Count>) {
        let scanned = scan(inputs, manner, Collect::default, &Halt::default()).unwrap();
        let mut lines: Vec<_> = scanned.visitors.into_iter().flat_map(|visitor| visitor.0).collect();
        lines.sort();
        (lines, scanned.parts)
    }

    fn texts(text: &[u8]) -> Vec<Vec<u8>> {
        let file = file(text);
        collect(&[Input::Plain(&file, 0..text.len() as u64)], SPLIT).0.into_iter().map(|(_, _, line)| line).collect()
    }

    #[test]
    fn lines_end_as_they_do_everywhere() {
        assert_eq!(texts(b""), Vec::<Vec<u8>>::new());
        assert_eq!(texts(b"a\nb"), [b"a", b"b"]);
        assert_eq!(texts(b"a\r\n\nb\n"), [b"a".to_vec(), vec![], b"b".to_vec()]);
        assert_eq!(texts(b"\xff\xfe\n"), [b"\xff\xfe"]);
    }

    #[test]
    fn every_line_is_seen_once_whatever_the_cuts() {
        let text: Vec<u8> = (0..180_000_u32).flat_map(|number| format!("{number:099}\n").into_bytes()).collect();
        assert!(text.len() as u64 > 2 * PIECE);
        let file = file(&text);
        for (split, look_back) in [(true, false), (true, true), (false, false)] {
            let (lines, counts) = collect(&[Input::Plain(&file, 0..text.len() as u64)], Manner { split, look_back });
            assert_eq!(counts[0].lines, 180_000);
            let in_order = |(number, (_, offset, line)): (usize, &Seen)| {
                *offset == number as u64 * 100 && line.ends_with(number.to_string().as_bytes())
            };
            assert!(lines.iter().enumerate().all(in_order));
        }
        let (lines, _) = collect(&[Input::Plain(&file, 801..1601)], SPLIT);
        assert_eq!((lines.len(), lines[0].1, lines.last().unwrap().1), (8, 900, 1600), "lines that begin in the range");
    }

    #[test]
    fn a_line_longer_than_the_cap_is_cut_and_counted() {
        for length in [LONGEST_LINE - 1, LONGEST_LINE, LONGEST_LINE + 1, BLOCK + 3 * LONGEST_LINE, PIECE as usize * 2 + 5] {
            let mut text = b"before\n".to_vec();
            text.extend(std::iter::repeat_n(b'x', length));
            text.extend(b"\nafter\n");
            let file = file(&text);
            for input in [Input::Plain(&file, 0..text.len() as u64), Input::Lines(&text)] {
                let (lines, counts) = collect(&[input], SPLIT);
                let lengths: Vec<_> = lines.iter().map(|(_, _, line)| line.len()).collect();
                assert_eq!(lengths, [6, length.min(LONGEST_LINE), 5], "{length}");
                assert_eq!(counts[0].cut, u64::from(length >= LONGEST_LINE), "{length}");
            }
        }
    }

    #[test]
    fn compressed_lines_are_the_same_lines() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(|number| format!("{number:07}\n").into_bytes()).collect();
        let gzip = |text: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        // As `cat a.gz b.gz` makes it.
        let (first, second) = text.split_at(800_004);
        let compressed = file(&[gzip(first), gzip(second)].concat());
        let (lines, counts) = collect(&[Input::Gzip(&compressed), Input::Lines(b"x")], SPLIT);
        assert_eq!(counts[0].lines, 200_000);
        assert_eq!(lines[199_999].2, b"0199999");
        assert_eq!(lines[200_000], (1, 0, b"x".to_vec()));
    }

    #[test]
    fn a_compressed_file_that_is_cut_off_has_a_problem() {
        let mut encoder = flate2::write::GzEncoder::new(tempfile::tempfile().unwrap(), flate2::Compression::fast());
        (0..100_000).for_each(|number| writeln!(encoder, "line {number} {}", number * 7919).unwrap());
        let mut file = encoder.finish().unwrap();
        let length = file.stream_position().unwrap();
        file.set_len(length / 2).unwrap();
        let (lines, counts) = collect(&[Input::Gzip(&file)], SPLIT);
        assert!(lines.len() > 10_000, "what can be read is read");
        assert!(counts[0].problem.is_some());
    }

    #[test]
    fn a_scan_that_is_halted_ends() {
        let halt = Halt::default();
        halt.stop();
        assert_eq!(scan(&[Input::Lines(b"a\n")], SPLIT, Collect::default, &halt).err().unwrap().kind, Kind::Cancelled);
    }
}
