//! What is there: content, facts, listings.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use globset::GlobBuilder;
use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, StatxAttributes, StatxFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::owner::{Bits, group_name, user_name};
use super::place::{Entry, Place, normal, open_below, wrong};
use super::work::Waited;
use crate::error::{Error, Kind, Result};
use crate::host::{Access, Ctx};
use crate::model::Size;
use crate::words;

/// How much of a file to read.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ReadOptions {
    max: Option<Size>,
}

/// How many paths to find.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GlobOptions {
    limit: Option<usize>,
}

/// A script's memory is capped; what is larger is for `tail`, `checksum` or a program.
const READ_MAX: Size = Size(4 << 20);
/// Directories with more entries are not for a script to list.
const ENTRIES: usize = 10_000;
const MATCHES: usize = 1_000;
/// A search that looks at more than this was not meant.
const LOOKED_AT: usize = 200_000;
/// How deep directories are followed; deeper ones are a loop or an attack.
pub(super) const DEPTH: usize = 64;
const TAIL_LINES: usize = 10_000;
const TAIL_BYTES: u64 = 4 << 20;

/// The facts of a file, as the kernel gives them.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) kind: FileType,
    pub(super) size: u64,
    pub(super) on_disk: u64,
    pub(super) bits: Bits,
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) modified: Timestamp,
    /// The same for every name of one file.
    pub(super) identity: (u32, u32, u64),
    pub(super) links: u32,
    pub(super) is_mount: bool,
}

impl Facts {
    /// Of a name in a directory, not followed.
    pub(super) fn of(dir: BorrowedFd<'_>, name: &std::ffi::OsStr) -> io::Result<Self> {
        Self::ask(dir, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Of what is open.
    pub(super) fn of_open(handle: BorrowedFd<'_>) -> io::Result<Self> {
        Self::ask(handle, "".as_ref(), AtFlags::EMPTY_PATH)
    }

    fn ask(dir: BorrowedFd<'_>, name: &std::ffi::OsStr, flags: AtFlags) -> io::Result<Self> {
        let found = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?;
        let modified = Timestamp::new(found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec.cast_signed());
        Ok(Self {
            kind: FileType::from_raw_mode(u32::from(found.stx_mode)),
            size: found.stx_size,
            // Blocks of stat are 512 bytes whatever the filesystem, as of inode(7).
            on_disk: found.stx_blocks * 512,
            bits: Bits(u32::from(found.stx_mode) & 0o7777),
            user: found.stx_uid,
            group: found.stx_gid,
            modified: modified.unwrap_or(Timestamp::UNIX_EPOCH),
            identity: (found.stx_dev_major, found.stx_dev_minor, found.stx_ino),
            links: found.stx_nlink,
            is_mount: found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        })
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// The device, which tells filesystems apart.
    pub(super) fn device(&self) -> (u32, u32) {
        (self.identity.0, self.identity.1)
    }
}

/// The bytes of a file.
pub(super) fn bytes(place: &Place, options: &ReadOptions) -> Result<Vec<u8>> {
    let file = place.file()?;
    let max = options.max.unwrap_or(READ_MAX);
    let mut bytes = Vec::new();
    // The size of a file is a hint only: files of /proc have none, and logs grow.
    file.take(max.0 + 1).read_to_end(&mut bytes).map_err(|error| wrong(&place.path, &error))?;
    if bytes.len() as u64 > max.0 {
        return Err(Error::new(Kind::Limit, format!("`{}` is larger than {max}", place.path.display()))
            .hint("raise `max`, or read its end with `fs::tail`")
            .target(place.path.display().to_string()));
    }
    Ok(bytes)
}

/// The text of a file.
pub(super) fn text(place: &Place, options: &ReadOptions) -> Result<String> {
    String::from_utf8(bytes(place, options)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::new(Kind::Invalid, format!("`{}` is no UTF-8 text: byte {at} is wrong", place.path.display()))
            .hint("read it with `fs::read_bytes`")
            .target(place.path.display().to_string())
    })
}

/// Whether something is there.
pub(super) fn exists(place: &Place) -> Result<bool> {
    let looked = place.entry().and_then(|entry| Facts::of(entry.dir.as_fd(), &entry.name).map_err(|error| wrong(&place.path, &error)));
    match looked {
        Ok(_) => Ok(true),
        Err(error) if error.kind == Kind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a script sees of a file.
#[derive(Debug, Serialize)]
pub(super) struct Stat {
    path: String,
    name: String,
    kind: &'static str,
    size: u64,
    mode: Bits,
    owner: String,
    group: String,
    modified: String,
    age_s: i64,
    link_target: Option<String>,
}

pub(super) fn stat(place: &Place) -> Result<Stat> {
    let Entry { dir, name, .. } = place.entry()?;
    let facts = Facts::of(dir.as_fd(), &name).map_err(|error| wrong(&place.path, &error))?;
    Ok(described(place.ctx(), &place.path, dir.as_fd(), &name, &facts))
}

fn described(ctx: &Ctx, path: &Path, dir: BorrowedFd<'_>, name: &std::ffi::OsStr, facts: &Facts) -> Stat {
    let is_link = facts.kind == FileType::Symlink;
    let link_target = is_link.then(|| rustix::fs::readlinkat(dir, name, Vec::new()).ok()).flatten();
    Stat {
        path: path.display().to_string(),
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        kind: kind_in_words(facts.kind),
        size: facts.size,
        mode: facts.bits,
        owner: user_name(facts.user),
        group: group_name(facts.group),
        modified: facts.modified.to_string(),
        age_s: ctx.now().duration_since(facts.modified).as_secs(),
        link_target: link_target.map(|target| target.to_string_lossy().into_owned()),
    }
}

fn kind_in_words(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "link",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        FileType::Unknown => "unknown",
    }
}

pub(super) fn list(place: &Place) -> Result<Vec<Stat>> {
    let dir = place.directory()?;
    let mut names = names(&dir, &place.path)?;
    if names.len() > ENTRIES {
        return Err(Error::new(Kind::Limit, format!("`{}` has more than {ENTRIES} entries", place.path.display()))
            .hint("look for the wanted ones with `fs::glob`")
            .target(place.path.display().to_string()));
    }
    names.sort();
    let mut entries = Vec::new();
    for name in names {
        let path = place.path.join(&name);
        match Facts::of(dir.as_fd(), &name) {
            Ok(facts) => entries.push(described(place.ctx(), &path, dir.as_fd(), &name, &facts)),
            // It went away since; a listing is of what is there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(wrong(&path, &error)),
        }
    }
    Ok(entries)
}

/// The names in a directory, in no order.
pub(super) fn names(dir: &OwnedFd, path: &Path) -> Result<Vec<OsString>> {
    use std::os::unix::ffi::OsStringExt;
    let failed = |error: rustix::io::Errno| wrong(path, &error.into());
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// The paths a pattern matches, of those that are granted, sorted.
pub(super) fn glob(ctx: &Ctx, pattern: &str, options: &GlobOptions, waited: &Waited) -> Result<Vec<String>> {
    let path = normal(pattern)?;
    let glob = GlobBuilder::new(pattern).literal_separator(true).build().map_err(|error| {
        Error::new(Kind::Invalid, format!("`{pattern}` is not a pattern: {}", error.kind()))
            .hint("`*`, `?`, `[…]`, `{a,b}` and `**` are known")
    })?;
    let base = literal_part(&path);
    let place = Place::to_search(ctx, &base)?;
    let depth = if pattern.contains("**") { DEPTH } else { path.components().count() - base.components().count() };
    let limit = options.limit.unwrap_or(MATCHES);
    let mut search = Search { ctx, place: &place, glob: glob.compile_matcher(), limit, looked_at: 0, found: Vec::new(), waited };
    search.below(&place.search()?, &base, depth)?;
    search.found.sort();
    Ok(search.found)
}

/// The directory above the first part with a special character.
fn literal_part(path: &Path) -> PathBuf {
    let is_literal = |part: &std::path::Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{', '\\']);
    let base: PathBuf = path.components().take_while(is_literal).collect();
    if base == path { base.parent().unwrap_or(Path::new("/")).to_owned() } else { base }
}

struct Search<'a> {
    ctx: &'a Ctx,
    place: &'a Place,
    glob: globset::GlobMatcher,
    limit: usize,
    looked_at: usize,
    found: Vec<String>,
    waited: &'a Waited,
}

impl Search<'_> {
    fn below(&mut self, dir: &OwnedFd, path: &Path, depth: usize) -> Result<()> {
        self.waited.check()?;
        for name in names(dir, path)? {
            self.looked_at += 1;
            if self.looked_at > LOOKED_AT {
                return Err(self.too_many(format!("there are more than {LOOKED_AT} names to look at"), "begin the pattern further down"));
            }
            let path = path.join(&name);
            // Names that are no UTF-8 can not be told to a script; and those that are not granted are not.
            let Some(text) = path.to_str() else { continue };
            let is_granted = self.ctx.permissions().check(&Access::path("read", &path)).is_ok();
            if is_granted && self.glob.is_match(&path) && self.is_admitted(dir, &name) {
                if self.found.len() == self.limit {
                    return Err(self.too_many(format!("more than {} paths match", self.limit), "raise `limit`, or narrow the pattern"));
                }
                self.found.push(text.to_owned());
            }
            if depth > 1
                && let Ok(inner) = open_below(dir.as_fd(), &name)
            {
                self.below(&inner, &path, depth - 1)?;
            }
        }
        Ok(())
    }

    fn is_admitted(&self, dir: &OwnedFd, name: &OsString) -> bool {
        super::place::real_path(dir.as_fd()).is_ok_and(|real| self.place.admit(&real.join(name)).is_ok())
    }

    fn too_many(&self, message: String, hint: &str) -> Error {
        Error::new(Kind::Limit, message).hint(hint).target(self.place.path.display().to_string())
    }
}

/// What a file or directory takes.
#[derive(Debug, Default, Serialize)]
pub(super) struct Usage {
    bytes: u64,
    apparent: u64,
    files: u64,
    directories: u64,
}

pub(super) fn usage(place: &Place, waited: &Waited) -> Result<Usage> {
    let Entry { dir, name, .. } = place.entry()?;
    let facts = Facts::of(dir.as_fd(), &name).map_err(|error| wrong(&place.path, &error))?;
    let mut usage = Usage::default();
    let mut seen = HashSet::new();
    usage.add(&facts, &mut seen);
    if facts.is_directory() {
        let inner = open_below(dir.as_fd(), &name).map_err(|error| wrong(&place.path, &error.into()))?;
        usage.add_below(&inner, &place.path, facts.device(), DEPTH, &mut seen, waited)?;
    }
    Ok(usage)
}

impl Usage {
    /// A file with several names counts once, as for du(1).
    fn add(&mut self, facts: &Facts, seen: &mut HashSet<(u32, u32, u64)>) {
        if facts.links > 1 && !facts.is_directory() && !seen.insert(facts.identity) {
            return;
        }
        self.bytes += facts.on_disk;
        if facts.is_directory() {
            self.directories += 1;
        } else {
            self.files += 1;
            self.apparent += facts.size;
        }
    }

    fn add_below(
        &mut self,
        dir: &OwnedFd,
        path: &Path,
        device: (u32, u32),
        depth: usize,
        seen: &mut HashSet<(u32, u32, u64)>,
        waited: &Waited,
    ) -> Result<()> {
        waited.check()?;
        if depth == 0 {
            return Err(Error::new(Kind::Limit, format!("`{}` is more than {DEPTH} directories deep", path.display())));
        }
        for name in names(dir, path)? {
            let facts = match Facts::of(dir.as_fd(), &name) {
                Ok(facts) => facts,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(wrong(&path.join(&name), &error)),
            };
            if facts.device() != device {
                continue;
            }
            self.add(&facts, seen);
            if !facts.is_directory() {
                continue;
            }
            let path = path.join(&name);
            match open_below(dir.as_fd(), &name) {
                Ok(inner) => self.add_below(&inner, &path, device, depth - 1, seen, waited)?,
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(wrong(&path, &error.into())),
            }
        }
        Ok(())
    }
}

/// The last lines of a file, oldest first.
pub(super) fn tail(place: &Place, lines: i64) -> Result<Vec<String>> {
    let wanted = usize::try_from(lines).ok().filter(|lines| *lines <= TAIL_LINES).ok_or_else(|| {
        Error::new(Kind::Invalid, format!("`{lines}` is not a number of lines")).hint(format!("ask for 0 to {TAIL_LINES}"))
    })?;
    let mut file = place.file()?;
    let end = last_bytes(&mut file, wanted).map_err(|error| wrong(&place.path, &error))?;
    let text = String::from_utf8_lossy(&end);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(wanted)..].iter().map(|line| (*line).to_owned()).collect())
}

/// As much from the end as holds so many lines, from the start of a line on.
fn last_bytes(file: &mut File, lines: usize) -> io::Result<Vec<u8>> {
    const BLOCK: u64 = 64 << 10;
    let length = file.seek(SeekFrom::End(0))?;
    let mut start = length;
    let mut end: Vec<u8> = Vec::new();
    while start > 0 && length - start < TAIL_BYTES && memchr::memchr_iter(b'\n', &end).count() <= lines {
        let size = BLOCK.min(start);
        start -= size;
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        file.by_ref().take(size).read_to_end(&mut block)?;
        block.append(&mut end);
        end = block;
    }
    Ok(end)
}

/// The SHA-256 of a file, as `sha256sum` writes it.
pub(super) fn checksum(place: &Place, waited: &Waited) -> Result<String> {
    let mut file = place.file()?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 256 << 10];
    loop {
        waited.check()?;
        match file.read(&mut block).map_err(|error| wrong(&place.path, &error))? {
            0 => break,
            length => hash.update(&block[..length]),
        }
    }
    Ok(words::hex(&hash.finalize()))
}

/// The space of a filesystem.
#[derive(Debug, Serialize)]
pub(super) struct Space {
    total: u64,
    used: u64,
    free: u64,
    used_percent: f64,
    inodes: u64,
    inodes_used_percent: f64,
}

pub(super) fn space(place: &Place) -> Result<Space> {
    let dir = match place.directory() {
        Err(error) if matches!(error.kind, Kind::Invalid) => place.entry()?.dir,
        other => other?,
    };
    let space = rustix::fs::fstatvfs(&dir).map_err(|error| wrong(&place.path, &error.into()))?;
    let (used, free) = ((space.f_blocks - space.f_bfree) * space.f_frsize, space.f_bavail * space.f_frsize);
    Ok(Space {
        total: space.f_blocks * space.f_frsize,
        used,
        free,
        // As df: of what users other than root can have.
        used_percent: percent(used, used + free),
        inodes: space.f_files,
        inodes_used_percent: percent(space.f_files.saturating_sub(space.f_ffree), space.f_files),
    })
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (1000.0 * part as f64 / whole as f64).round() / 10.0 }
}
