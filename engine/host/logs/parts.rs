//! The files of a log: the current one and what rotation made of it.
//!
//! `app.log`, `app.log.1`, `app.log.2.gz`, `app.log-20261120`, `app.log.2026-11-20`,
//! `app-2026-11-20.log.gz`. A tag begins with a digit and has nothing but digits and `-_T:` in it;
//! other names (`app.log.bak`) are other files. All files are opened before any is read, so that a
//! rotation in between neither hides lines nor doubles them.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rustix::fs::OFlags;

use crate::error::{Error, Kind, Result};

/// Says whether a file may be read.
pub(super) type Permit<'a> = &'a dyn Fn(&Path) -> Result<()>;

/// More files than that are no log.
const MOST_PARTS: usize = 512;
/// Clocks and caches may make a file look written this much before its last line.
pub(super) const SLACK: SignedDuration = SignedDuration::from_secs(60);
/// How often the directory is listed again because it changed while files were opened.
const TRIES: usize = 5;

/// A file of a log.
#[derive(Debug)]
pub(super) struct Part {
    /// Where it was found.
    pub(super) path: PathBuf,
    /// The log it is a part of: parts of the same log follow each other, newest first.
    pub(super) log: String,
    /// Its length in bytes when it was opened.
    pub(super) bytes: u64,
    /// When it was written last.
    pub(super) modified: Timestamp,
    /// What can be read of it.
    pub(super) content: Content,
}

/// What can be read of a file.
#[derive(Debug)]
pub(super) enum Content {
    /// Lines.
    Plain(File),
    /// Lines, after gunzip.
    Gzip(File),
    /// Lines that another module read.
    Lines(Vec<u8>),
    /// Nothing, and why.
    Unreadable(String),
}

impl Part {
    /// Whether it is compressed.
    pub(super) fn is_compressed(&self) -> bool {
        compression(&self.path).is_some()
    }
}

/// A file that was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    log: String,
    order: Order,
    path: PathBuf,
    identity: (u64, u64),
    modified: Timestamp,
}

/// The order of the parts of a log, newest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// The one that is written.
    Current,
    /// `.1`, `.2`: the larger the older.
    Number(u64),
    /// A date: the larger the newer.
    Date(Reverse<String>),
}

/// Opens the files of a log that were written since then, newest first. None when there is no log.
///
/// `path` is the current file; its name may have `*` for several logs.
///
/// # Errors
///
/// `invalid` for a path that is not absolute or has `..`; `denied` when a part may not be read;
/// `conflict` when the directory does not stop changing.
pub(super) fn open(path: &Path, since: Option<Timestamp>, permit: Permit<'_>) -> Result<Option<Vec<Part>>> {
    let (directory, name) = place(path)?;
    if !name.contains('*') {
        permit(path)?;
    }
    for _ in 0..TRIES {
        let Some(listed) = list(directory, name)? else { return Ok(None) };
        if let Some(parts) = open_listed(&listed, directory, name, since, permit)? {
            return Ok(Some(parts));
        }
    }
    Err(Error::new(Kind::Conflict, format!("the files of `{}` changed {TRIES} times while they were opened", path.display()))
        .target(path.display().to_string())
        .hint("something rotates this log again and again; see its logrotate rules"))
}

fn place(path: &Path) -> Result<(&Path, &str)> {
    let bad = |why: &str| Error::new(Kind::Invalid, format!("`{}` {why}", path.display())).target(path.display().to_string());
    if !path.is_absolute() {
        return Err(bad("is not an absolute path").hint("write the path from `/`, or the name of a log of the system file"));
    }
    if path.components().any(|part| matches!(part, Component::ParentDir)) {
        return Err(bad("has `..` in it"));
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
        return Err(bad("names no file"));
    };
    if directory.as_os_str().as_bytes().contains(&b'*') {
        return Err(bad("has a `*` in its directory").hint("`*` can stand in the name of the file only"));
    }
    Ok((directory, name))
}

/// The files of a log in their order; none when there are none.
fn list(directory: &Path, name: &str) -> Result<Option<Vec<Listed>>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(Error::because(Kind::Refused, format_args!("`{}` can not be listed", directory.display()), &error)),
    };
    let mut listed = Vec::new();
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let Some((log, order)) = file_name.to_str().and_then(|found| part_of(name, found)) else { continue };
        let path = entry.path();
        // Through symlinks, as the open will go; what vanished meanwhile is seen by the second look.
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if metadata.is_file() {
            listed.push(Listed { log, order, identity: identity(&metadata), modified: modified(&metadata), path });
        }
    }
    listed.sort_by(|a, b| (&a.log, &a.order, &a.path).cmp(&(&b.log, &b.order, &b.path)));
    // While gzip works, both forms of a part are there. The plain one is whole.
    listed.dedup_by(|later, first| later.log == first.log && later.order == first.order && later.order != Order::Current);
    let mut seen = std::collections::BTreeSet::new();
    listed.retain(|part| seen.insert(part.identity));
    if listed.len() > MOST_PARTS {
        return Err(Error::new(
            Kind::Limit,
            format!("`{}` has {} parts, which is more than {MOST_PARTS}", directory.join(name).display(), listed.len()),
        )
        .hint("remove old parts, or name the log without `*`"));
    }
    Ok((!listed.is_empty()).then_some(listed))
}

/// Opens what was listed; none when the directory changed since.
fn open_listed(listed: &[Listed], directory: &Path, name: &str, since: Option<Timestamp>, permit: Permit<'_>) -> Result<Option<Vec<Part>>> {
    let mut parts = Vec::new();
    for part in listed {
        if since.is_some_and(|since| part.modified.saturating_add(SLACK).is_ok_and(|last| last < since)) {
            continue;
        }
        permit(&part.path)?;
        match open_part(part, permit)? {
            Some(opened) => parts.push(opened),
            None => return Ok(None),
        }
    }
    let files = |list: &[Listed]| list.iter().map(|part| (part.path.clone(), part.identity)).collect::<Vec<_>>();
    let again = list(directory, name)?;
    Ok((again.is_some_and(|again| files(&again) == files(listed))).then_some(parts))
}

/// Opens one file; none when it is not the one that was listed.
fn open_part(part: &Listed, permit: Permit<'_>) -> Result<Option<Part>> {
    let opened = |bytes, content| Part { path: part.path.clone(), log: part.log.clone(), bytes, modified: part.modified, content };
    // A pipe in the place of a log must not hold us.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(&part.path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Ok(Some(opened(0, Content::Unreadable(error.to_string())))),
    };
    let Ok(metadata) = file.metadata() else { return Ok(None) };
    if identity(&metadata) != part.identity || !metadata.is_file() {
        return Ok(None);
    }
    // The permission is for the file that is open, whatever links led there.
    if let Ok(real) = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
        && real != part.path
        && !real.as_os_str().as_bytes().ends_with(b" (deleted)")
    {
        permit(&real)?;
    }
    let content = match compression(&part.path) {
        None => Content::Plain(file),
        Some("gz") => Content::Gzip(file),
        Some(other) => Content::Unreadable(format!("`.{other}` is not read, only `.gz` is")),
    };
    Ok(Some(opened(metadata.len(), content)))
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn modified(metadata: &Metadata) -> Timestamp {
    metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(Timestamp::MAX)
}

const COMPRESSIONS: [&str; 6] = ["gz", "zst", "xz", "bz2", "lz4", "Z"];

fn compression(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?;
    COMPRESSIONS.into_iter().find(|&known| known == extension)
}

/// The log whose part a file is, and its place in it, for the logs that `pattern` names.
fn part_of(pattern: &str, file: &str) -> Option<(String, Order)> {
    if matches(pattern, file) && compression(Path::new(file)).is_none() {
        return Some((file.to_owned(), Order::Current));
    }
    let plain = compression(Path::new(file)).map_or(file, |extension| &file[..file.len() - extension.len() - 1]);
    tagged(plain).into_iter().find(|(log, _)| matches(pattern, log)).or_else(|| {
        // `copytruncate` and the like with a compressed current name.
        (plain != file && matches(pattern, plain)).then(|| (plain.to_owned(), Order::Number(0)))
    })
}

/// What a name may be a rotated part of: `app.log` for `app.log.1`, `app.log-20261120` and `app-20261120.log`.
fn tagged(name: &str) -> Vec<(String, Order)> {
    let mut found = Vec::new();
    for (at, _) in name.match_indices(['.', '-', '_']) {
        let (base, rest) = (&name[..at], &name[at + 1..]);
        if base.is_empty() {
            continue;
        }
        if let Some(order) = order(rest) {
            found.push((base.to_owned(), order));
        }
        if let Some((tag, extension)) = rest.rsplit_once('.')
            && let Some(order) = order(tag)
            && !extension.starts_with(|letter: char| letter.is_ascii_digit())
        {
            found.push((format!("{base}.{extension}"), order));
        }
    }
    found
}

/// The order a tag gives: a number of up to five digits, or a date.
fn order(tag: &str) -> Option<Order> {
    let is_tag = tag.starts_with(|letter: char| letter.is_ascii_digit())
        && tag.chars().all(|letter| letter.is_ascii_digit() || "-_T:.".contains(letter));
    if !is_tag {
        return None;
    }
    if tag.len() <= 5
        && let Ok(number) = tag.parse()
    {
        return Some(Order::Number(number));
    }
    let digits: String = tag.chars().filter(char::is_ascii_digit).collect();
    (digits.len() >= 6).then_some(Order::Date(Reverse(digits)))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(after, &rest[at..]))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn allow(_: &Path) -> Result<()> {
        Ok(())
    }

    fn names(parts: &[Part]) -> Vec<&str> {
        parts.iter().map(|part| part.path.file_name().unwrap().to_str().unwrap()).collect()
    }

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        files.iter().for_each(|name| fs::write(directory.path().join(name), format!("{name}\n")).unwrap());
        directory
    }

    #[test]
    fn parts_are_found_newest_first_and_nothing_else() {
        let logs = directory(&[
            "app.log",
            "app.log.1",
            "app.log.2.gz",
            "app.log.10.gz",
            "app.log-20261119",
            "app.log-20261120.gz",
            "app.log.2026-11-18",
            "app-2026-11-17.log.gz",
            "app.log.bak",
            "app.log.old",
            "app.logs",
            "myapp.log",
            "app-error.log",
            "app.log.1.tmp",
            "other.log.1",
        ]);
        let parts = open(&logs.path().join("app.log"), None, &allow).unwrap().unwrap();
        assert_eq!(
            names(&parts),
            [
                "app.log",
                "app.log.1",
                "app.log.2.gz",
                "app.log.10.gz",
                "app.log-20261120.gz",
                "app.log-20261119",
                "app.log.2026-11-18",
                "app-2026-11-17.log.gz"
            ]
        );
        assert_eq!(parts.iter().filter(|part| part.is_compressed()).count(), 4);
    }

    #[test]
    fn a_pattern_names_several_logs() {
        let logs = directory(&["a.log", "b.log", "b.log.1", "postgresql-2026-11-20.log", "x.txt"]);
        assert_eq!(names(&open(&logs.path().join("?.log"), None, &allow).unwrap().unwrap_or_default()), [""; 0]);
        assert_eq!(
            names(&open(&logs.path().join("*.log"), None, &allow).unwrap().unwrap()),
            ["a.log", "b.log", "b.log.1", "postgresql-2026-11-20.log"]
        );
    }

    #[test]
    fn both_forms_of_a_part_count_once() {
        let logs = directory(&["app.log", "app.log.1", "app.log.1.gz"]);
        fs::hard_link(logs.path().join("app.log"), logs.path().join("app.log.7")).unwrap();
        assert_eq!(names(&open(&logs.path().join("app.log"), None, &allow).unwrap().unwrap()), ["app.log", "app.log.1"]);
    }

    #[test]
    fn a_missing_log_is_none_and_an_empty_one_is_a_part() {
        let logs = directory(&[]);
        assert!(open(&logs.path().join("app.log"), None, &allow).unwrap().is_none());
        assert!(open(&logs.path().join("no/such/app.log"), None, &allow).unwrap().is_none());
        fs::write(logs.path().join("app.log"), "").unwrap();
        assert_eq!(open(&logs.path().join("app.log"), None, &allow).unwrap().unwrap()[0].bytes, 0);
    }

    #[test]
    fn a_rotation_between_listing_and_opening_is_noticed() {
        let logs = directory(&["app.log"]);
        let path = logs.path().join("app.log");
        let listed = list(logs.path(), "app.log").unwrap().unwrap();
        fs::rename(&path, logs.path().join("app.log.1")).unwrap();
        assert!(open_listed(&listed, logs.path(), "app.log", None, &allow).unwrap().is_none(), "the current file is gone");
        fs::write(&path, "new\n").unwrap();
        assert!(open_listed(&listed, logs.path(), "app.log", None, &allow).unwrap().is_none(), "it is another one");
        assert_eq!(names(&open(&path, None, &allow).unwrap().unwrap()), ["app.log", "app.log.1"]);
    }

    #[test]
    fn a_rotation_while_files_are_opened_is_noticed() {
        let logs = directory(&["app.log"]);
        let path = logs.path().join("app.log");
        let rotated = std::cell::Cell::new(false);
        let asked_before = std::cell::Cell::new(false);
        let permit = |asked: &Path| {
            if asked_before.replace(true) && !rotated.replace(true) {
                fs::rename(&path, logs.path().join("app.log.1")).unwrap();
                fs::write(&path, "new\n").unwrap();
            }
            assert!(asked.starts_with(logs.path()));
            Ok(())
        };
        let parts = open(&path, None, &permit).unwrap().unwrap();
        assert_eq!(names(&parts), ["app.log", "app.log.1"]);
        assert_eq!(parts[1].bytes, 8);
    }

    #[test]
    fn old_parts_are_not_opened() {
        let logs = directory(&["app.log", "app.log.1"]);
        let old = File::options().write(true).open(logs.path().join("app.log.1")).unwrap();
        let hour_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        old.set_modified(hour_ago).unwrap();
        let since = Timestamp::from_second(1_000_003_600).unwrap();
        assert_eq!(names(&open(&logs.path().join("app.log"), Some(since), &allow).unwrap().unwrap()), ["app.log"]);
        let since = Timestamp::from_second(1_000_000_030).unwrap();
        assert_eq!(open(&logs.path().join("app.log"), Some(since), &allow).unwrap().unwrap().len(), 2);
    }

    #[test]
    fn a_link_is_read_only_when_its_end_may_be() {
        let logs = directory(&["app.log"]);
        let secret = directory(&["secret"]);
        std::os::unix::fs::symlink(secret.path().join("secret"), logs.path().join("app.log.1")).unwrap();
        let permit =
            |path: &Path| if path.starts_with(logs.path()) { Ok(()) } else { Err(Error::new(Kind::Denied, path.display().to_string())) };
        assert_eq!(open(&logs.path().join("app.log"), None, &permit).unwrap_err().kind, Kind::Denied);
    }

    #[test]
    fn paths_that_are_no_files_are_refused() {
        for path in ["app.log", "/var/../etc/passwd", "/", "/var/*/app.log"] {
            assert_eq!(open(Path::new(path), None, &allow).unwrap_err().kind, Kind::Invalid, "{path}");
        }
    }

    #[test]
    fn compressions_that_are_not_read_are_named() {
        let logs = directory(&["app.log", "app.log.1.zst"]);
        let parts = open(&logs.path().join("app.log"), None, &allow).unwrap().unwrap();
        assert!(matches!(&parts[1].content, Content::Unreadable(why) if why.contains(".zst")));
    }
}
