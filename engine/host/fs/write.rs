//! What changes files: each is looked at first, told, and only then done.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Uid};
use serde::{Deserialize, Serialize};
use similar::TextDiff;

use super::owner::{Bits, Owner, group_name, user_name};
use super::place::{Entry, Place, real_path, wrong};
use super::read::Facts;
use crate::error::{Error, Kind, Result};
use crate::host::Access;
use crate::model::{Effect, Size};
use crate::words;

/// How to write a file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WriteOptions {
    mode: Option<Bits>,
    owner: Option<String>,
    pub(super) backup: Option<String>,
}

/// How to make a directory.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DirectoryOptions {
    mode: Option<Bits>,
}

/// Whether to replace what has the new name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MoveOptions {
    overwrite: bool,
}

/// What a script wants in a file.
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) is_secret: bool,
}

/// What became of a file.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Written {
    path: String,
    bytes: u64,
    changed: bool,
    backup: Option<String>,
}

/// What became of a directory.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Made {
    path: String,
    created: bool,
}

const NEW_FILE: Bits = Bits(0o644);
const NEW_SECRET: Bits = Bits(0o600);
const NEW_DIRECTORY: Bits = Bits(0o755);
/// Larger files are compared by nobody who reads a plan.
const COMPARED: u64 = 256 << 10;

/// A file about to be written.
pub(super) struct Writing {
    place: Place,
    entry: Entry,
    content: Content,
    old: Option<Facts>,
    bits: Bits,
    owner: Owner,
    backup: Option<(Place, Entry)>,
    is_same: bool,
}

impl Writing {
    /// Looks at what is there, and tells what will be.
    ///
    /// # Errors
    ///
    /// `conflict` for a link, `invalid` for what is no regular file.
    pub(super) fn look(
        effect: Effect,
        place: Place,
        backup: Option<Place>,
        content: Content,
        options: &WriteOptions,
    ) -> Result<(Effect, Written, Self)> {
        let entry = place.entry()?;
        let old = regular(&place, &entry)?;
        let default = if content.is_secret { NEW_SECRET } else { NEW_FILE };
        let bits = options.mode.or(old.as_ref().map(|old| old.bits)).unwrap_or(default);
        let named = options.owner.as_deref().map(Owner::read).transpose()?;
        let owner = Owner {
            user: named.and_then(|named| named.user).or(old.as_ref().map(|old| Uid::from_raw(old.user))),
            group: named.and_then(|named| named.group).or(old.as_ref().map(|old| Gid::from_raw(old.group))),
        };
        let before = old.as_ref().filter(|old| old.size <= COMPARED).map(|_| content_of(&place, &entry)).transpose()?;
        let is_same = before.as_ref() == Some(&content.bytes) && old.as_ref().is_some_and(|old| is_as_wanted(old, bits, owner));
        let backup = backup.map(|backup| backup.entry().map(|entry| (backup, entry))).transpose()?;
        let mut effect = effect;
        effect.summary = in_words(&place.path, old.as_ref(), &content, is_same);
        effect.reversible = backup.is_some() || is_same;
        effect.idle = is_same;
        let is_private = content.is_secret || bits.is_private() || old.as_ref().is_some_and(|old| old.bits.is_private());
        let is_comparable = old.is_none() || before.is_some();
        if is_comparable && let Some(diff) = unified(&place.path, before.as_deref().unwrap_or_default(), &content.bytes, is_private) {
            effect = effect.diff(diff);
        }
        let planned = Written {
            path: place.path.display().to_string(),
            bytes: content.bytes.len() as u64,
            changed: !is_same,
            backup: backup.as_ref().map(|(place, _)| place.path.display().to_string()).filter(|_| old.is_some() && !is_same),
        };
        Ok((effect, planned, Self { place, entry, content, old, bits, owner, backup, is_same }))
    }

    /// Writes beside the old file and renames: a reader sees the old content or the new, never a part.
    ///
    /// # Errors
    ///
    /// As the system fails; the old file is as it was then.
    pub(super) fn perform(self, planned: Written) -> Result<Written> {
        if self.is_same {
            return Ok(planned);
        }
        if let (Some((backup, to)), Some(old)) = (&self.backup, &self.old) {
            let from = open(&self.entry, OFlags::RDONLY).map_err(|error| wrong(&self.place.path, &error))?;
            let owner = Owner { user: Some(Uid::from_raw(old.user)), group: Some(Gid::from_raw(old.group)) };
            put(to, &backup.path, from, old.bits, owner, RenameFlags::empty())?;
        }
        put(&self.entry, &self.place.path, self.content.bytes.as_slice(), self.bits, self.owner, RenameFlags::empty())?;
        Ok(planned)
    }
}

fn is_as_wanted(old: &Facts, bits: Bits, owner: Owner) -> bool {
    let is_owner = owner.user.is_none_or(|user| user.as_raw() == old.user) && owner.group.is_none_or(|group| group.as_raw() == old.group);
    old.bits == bits && is_owner
}

fn in_words(path: &Path, old: Option<&Facts>, content: &Content, is_same: bool) -> String {
    let (path, size) = (path.display(), Size(content.bytes.len() as u64));
    match old {
        _ if is_same => format!("leave {path} as it is"),
        None => format!("create {path} ({size})"),
        Some(old) => format!("replace {path} ({} → {size})", Size(old.size)),
    }
}

/// The facts of a regular file, or none for a free name.
fn regular(place: &Place, entry: &Entry) -> Result<Option<Facts>> {
    let path = &place.path;
    let facts = match Facts::of(entry.dir.as_fd(), &entry.name) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(path, &error)),
    };
    let target = path.display().to_string();
    match facts.kind {
        FileType::RegularFile => Ok(Some(facts)),
        FileType::Symlink => Err(Error::new(Kind::Conflict, format!("`{target}` is a link, which is not written through"))
            .hint("name the file it leads to")
            .permanent()
            .target(target)),
        FileType::Directory => Err(Error::new(Kind::Invalid, format!("`{target}` is a directory")).target(target)),
        _ => Err(Error::new(Kind::Invalid, format!("`{target}` is no regular file")).target(target)),
    }
}

fn content_of(place: &Place, entry: &Entry) -> Result<Vec<u8>> {
    let failed = |error: io::Error| wrong(&place.path, &error);
    let mut bytes = Vec::new();
    open(entry, OFlags::RDONLY).map_err(failed)?.take(COMPARED + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Opens the file of an entry, never through a link, never waiting for the other end of a pipe.
fn open(entry: &Entry, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(&entry.dir, &entry.name, flags, Mode::from_raw_mode(0o640))?;
    Ok(handle.into())
}

/// Puts content under a name in one step, durable when it returns.
fn put(entry: &Entry, path: &Path, mut content: impl Read, bits: Bits, owner: Owner, how: RenameFlags) -> Result<u64> {
    let failed = |error: io::Error| wrong(path, &error);
    let (temporary, mut file) = temporary(entry).map_err(failed)?;
    let mut fill = || {
        let length = io::copy(&mut content, &mut file)?;
        own(&file, owner)?;
        // After the owner, since a change of owner takes bits away.
        rustix::fs::fchmod(&file, bits.mode())?;
        file.sync_all()?;
        rustix::fs::renameat_with(&entry.dir, &temporary, &entry.dir, &entry.name, how)?;
        rustix::fs::fsync(&entry.dir)?;
        io::Result::Ok(length)
    };
    fill().map_err(|error| {
        // After the rename there is nothing under this name; before it, this is the clean-up.
        let _ = rustix::fs::unlinkat(&entry.dir, &temporary, AtFlags::empty());
        failed(error)
    })
}

/// A change of owner needs rights, so it is not tried when nothing changes.
fn own(file: &File, owner: Owner) -> io::Result<()> {
    let now = Facts::of_open(file.as_fd())?;
    let user = owner.user.filter(|user| user.as_raw() != now.user);
    let group = owner.group.filter(|group| group.as_raw() != now.group);
    if user.is_some() || group.is_some() {
        rustix::fs::fchown(file, user, group)?;
    }
    Ok(())
}

/// A new private file in the directory of an entry.
fn temporary(entry: &Entry) -> io::Result<(String, File)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let name = format!(".runbook-{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&entry.dir, &name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(handle) => return Ok((name, handle.into())),
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The change of a text in unified form. What only few may read is counted and not shown.
fn unified(path: &Path, old: &[u8], new: &[u8], is_private: bool) -> Option<String> {
    if new.len() as u64 > COMPARED || old == new {
        return None;
    }
    let (old, new) = (std::str::from_utf8(old).ok()?, std::str::from_utf8(new).ok()?);
    let diff = TextDiff::configure().timeout(std::time::Duration::from_millis(500)).diff_lines(old, new);
    if is_private {
        let count = |wanted| diff.iter_all_changes().filter(|change| change.tag() == wanted).count();
        let (more, less) = (count(similar::ChangeTag::Insert), count(similar::ChangeTag::Delete));
        return Some(format!("the file is private: {} in, {} out", words::count(more, "line"), words::count(less, "line")));
    }
    let name = path.display().to_string();
    Some(diff.unified_diff().context_radius(3).header(&name, &name).to_string())
}

/// Adds text to the end of a file.
pub(super) struct Appending {
    place: Place,
    entry: Entry,
}

impl Appending {
    /// Looks at the file.
    ///
    /// # Errors
    ///
    /// As [`Writing::look`].
    pub(super) fn look(mut effect: Effect, place: Place, text: &str) -> Result<(Effect, Written, Self)> {
        let entry = place.entry()?;
        let old = regular(&place, &entry)?;
        let path = place.path.display().to_string();
        effect.idle = text.is_empty() && old.is_some();
        effect.summary = format!("append {} to {path}", Size(text.len() as u64));
        if !old.is_some_and(|old| old.bits.is_private()) {
            effect.diff = Some(text.lines().map(|line| format!("+{line}\n")).collect());
        }
        let planned = Written { path, bytes: text.len() as u64, changed: !text.is_empty(), backup: None };
        Ok((effect, planned, Self { place, entry }))
    }

    /// Appends in one write, so that lines of several writers do not mix.
    ///
    /// # Errors
    ///
    /// As the system fails.
    pub(super) fn perform(self, text: &str, planned: Written) -> Result<Written> {
        let append = || {
            let mut file = open(&self.entry, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        append().map_err(|error| wrong(&self.place.path, &error))?;
        Ok(planned)
    }
}

/// A directory about to be made, with those above it that are granted and missing.
pub(super) struct Making {
    place: Place,
    bits: Bits,
}

impl Making {
    /// Looks whether it is there.
    ///
    /// # Errors
    ///
    /// `conflict` when something else has its name.
    pub(super) fn look(mut effect: Effect, place: Place, options: &DirectoryOptions) -> Result<(Effect, Made, Self)> {
        let created = match place.directory() {
            Ok(_) => false,
            Err(error) if error.kind == Kind::NotFound => true,
            Err(error) if error.kind == Kind::Invalid => {
                return Err(Error::new(Kind::Conflict, format!("`{}` is there and no directory", place.path.display()))
                    .permanent()
                    .target(place.path.display().to_string()));
            }
            Err(error) => return Err(error),
        };
        effect.reversible = true;
        let path = place.path.display().to_string();
        effect.idle = !created;
        effect.summary = if created { format!("make directory {path}") } else { format!("leave directory {path} as it is") };
        Ok((effect, Made { path, created }, Self { place, bits: options.mode.unwrap_or(NEW_DIRECTORY) }))
    }

    /// Makes it.
    ///
    /// # Errors
    ///
    /// As the system fails.
    pub(super) fn perform(self, planned: Made) -> Result<Made> {
        if !planned.created {
            return Ok(planned);
        }
        let permissions = self.place.ctx().permissions();
        let mut missing: Vec<&Path> = self.place.path.ancestors().collect();
        missing.reverse();
        for path in missing {
            if permissions.check(&Access::path("write", path)).is_ok() {
                self.make_one(&Place::new(self.place.ctx(), "write", &path.to_string_lossy())?)?;
            }
        }
        Ok(planned)
    }

    fn make_one(&self, place: &Place) -> Result<()> {
        if place.is_root() {
            return Ok(());
        }
        let entry = place.entry()?;
        let failed = |error: rustix::io::Errno| wrong(&place.path, &error.into());
        match rustix::fs::mkdirat(&entry.dir, &entry.name, self.bits.mode()) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
        // The umask of the process is not the script's business.
        let made = super::place::open_below(entry.dir.as_fd(), &entry.name).map_err(failed)?;
        rustix::fs::fchmod(&made, self.bits.mode()).map_err(failed)?;
        rustix::fs::fsync(&entry.dir).map_err(failed)
    }
}

/// A file about to be copied.
pub(super) struct Copying {
    from: Place,
    to: Place,
    entry: Entry,
    how: RenameFlags,
}

impl Copying {
    /// Looks at both ends.
    ///
    /// # Errors
    ///
    /// `conflict` when the new name is taken and nothing may be overwritten.
    pub(super) fn look(mut effect: Effect, from: Place, to: Place, options: &MoveOptions) -> Result<(Effect, Written, Self)> {
        let size = Facts::of_open(from.file()?.as_fd()).map_err(|error| wrong(&from.path, &error))?.size;
        let entry = to.entry()?;
        let old = regular(&to, &entry)?;
        let how = free_or(options, &to, old.is_some())?;
        effect.reversible = old.is_none();
        effect.summary = format!("copy {} to {} ({})", from.path.display(), to.path.display(), Size(size));
        let planned = Written { path: to.path.display().to_string(), bytes: size, changed: true, backup: None };
        Ok((effect, planned, Self { from, to, entry, how }))
    }

    /// Copies content and mode; the copy has its name only when it is whole.
    ///
    /// # Errors
    ///
    /// As the system fails; no part of a copy is left.
    pub(super) fn perform(self, planned: Written) -> Result<Written> {
        let from = self.from.file()?;
        let facts = Facts::of_open(from.as_fd()).map_err(|error| wrong(&self.from.path, &error))?;
        let bits = Bits(facts.bits.0 & 0o1777);
        let bytes = put(&self.entry, &self.to.path, from, bits, Owner { user: None, group: None }, self.how)?;
        Ok(Written { bytes, ..planned })
    }
}

fn free_or(options: &MoveOptions, to: &Place, is_taken: bool) -> Result<RenameFlags> {
    if options.overwrite {
        return Ok(RenameFlags::empty());
    }
    if is_taken {
        return Err(Error::new(Kind::Conflict, format!("`{}` exists already", to.path.display()))
            .hint("replace it with `#{ overwrite: true }` when that is meant")
            .permanent()
            .target(to.path.display().to_string()));
    }
    Ok(RenameFlags::NOREPLACE)
}

/// A file or directory about to get another name.
pub(super) struct Renaming {
    to: Place,
    old: Entry,
    new: Entry,
    how: RenameFlags,
}

impl Renaming {
    /// Looks at both ends. `from` is given once to remove and once to read: who moves a file to where he
    /// may read, reads it.
    ///
    /// # Errors
    ///
    /// `conflict` when the new name is taken; `invalid` for what keeps its name.
    pub(super) fn look(mut effect: Effect, from: Place, read: &Place, to: Place, options: &MoveOptions) -> Result<(Effect, Written, Self)> {
        let refused = |place: &Place, why: &str| {
            let target = place.path.display().to_string();
            Err(Error::new(Kind::Invalid, format!("`{target}` {why}")).target(target))
        };
        let (old, new) = (from.entry()?, to.entry()?);
        if from.is_root() || to.is_root() {
            return refused(if from.is_root() { &from } else { &to }, "is a granted directory itself, which stays");
        }
        read.admit(&old.real)?;
        let facts = Facts::of(old.dir.as_fd(), &old.name).map_err(|error| wrong(&from.path, &error))?;
        if facts.is_mount || old.real.components().count() <= 2 {
            return refused(&from, "is a mount point or a directory of the system");
        }
        if facts.is_directory() {
            from.admit_whole(&old.real)?;
            read.admit_whole(&old.real)?;
            to.admit_whole(&new.real)?;
        }
        let is_taken = Facts::of(new.dir.as_fd(), &new.name).is_ok();
        let how = free_or(options, &to, is_taken)?;
        effect.reversible = !is_taken;
        effect.summary = format!("rename {} to {}", from.path.display(), to.path.display());
        let planned = Written { path: to.path.display().to_string(), bytes: facts.size, changed: true, backup: None };
        Ok((effect, planned, Self { to, old, new, how }))
    }

    /// Renames in one step.
    ///
    /// # Errors
    ///
    /// As the system fails; both names are as they were then.
    pub(super) fn perform(self, planned: Written) -> Result<Written> {
        let rename = || {
            rustix::fs::renameat_with(&self.old.dir, &self.old.name, &self.new.dir, &self.new.name, self.how)?;
            rustix::fs::fsync(&self.new.dir)?;
            rustix::fs::fsync(&self.old.dir)
        };
        rename().map_err(|error| wrong(&self.to.path, &error.into()))?;
        Ok(planned)
    }
}

/// A file or directory whose mode or owner is about to change, held open so that it stays the same one.
pub(super) struct Changing {
    place: Place,
    handle: OwnedFd,
}

impl Changing {
    fn look(place: Place) -> Result<(Facts, Self)> {
        let entry = place.entry()?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle =
            rustix::fs::openat(&entry.dir, &entry.name, flags, Mode::empty()).map_err(|error| wrong(&place.path, &error.into()))?;
        let facts = Facts::of_open(handle.as_fd()).map_err(|error| wrong(&place.path, &error))?;
        if facts.kind == FileType::Symlink {
            let target = place.path.display().to_string();
            return Err(Error::new(Kind::Conflict, format!("`{target}` is a link"))
                .hint("name the file it leads to")
                .permanent()
                .target(target));
        }
        let real = real_path(handle.as_fd()).map_err(|error| wrong(&place.path, &error))?;
        place.admit(&real)?;
        Ok((facts, Self { place, handle }))
    }

    /// Looks at the mode.
    ///
    /// # Errors
    ///
    /// `conflict` for a link.
    pub(super) fn look_at_mode(mut effect: Effect, place: Place, bits: Bits) -> Result<(Effect, Bits, Self)> {
        let (facts, changing) = Self::look(place)?;
        effect.reversible = true;
        effect.idle = facts.bits == bits;
        effect.summary = format!("change the mode of {} from {} to {bits}", changing.place.path.display(), facts.bits);
        Ok((effect, bits, changing))
    }

    /// Looks at the owner.
    ///
    /// # Errors
    ///
    /// `conflict` for a link.
    pub(super) fn look_at_owner(mut effect: Effect, place: Place, owner: &str) -> Result<(Effect, Owner, Self)> {
        let (facts, changing) = Self::look(place)?;
        let (user, group) = (user_name(facts.user), group_name(facts.group));
        let wanted = Owner::read(owner)?;
        effect.reversible = true;
        effect.idle = is_as_wanted(&facts, facts.bits, wanted);
        effect.summary = format!("change the owner of {} from {user}:{group} to {owner}", changing.place.path.display());
        Ok((effect, wanted, changing))
    }

    /// Changes the mode.
    ///
    /// # Errors
    ///
    /// `refused`, when the user of the run has no right to it.
    pub(super) fn set_mode(self, bits: Bits) -> Result<()> {
        // fchmod does not work on this kind of handle; the name below /proc is the handle itself.
        let name = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
        rustix::fs::chmod(name, bits.mode()).map_err(|error| wrong(&self.place.path, &error.into()))
    }

    /// Changes the owner.
    ///
    /// # Errors
    ///
    /// `refused`, when the user of the run has no right to it.
    pub(super) fn set_owner(self, owner: Owner) -> Result<()> {
        rustix::fs::chownat(&self.handle, "", owner.user, owner.group, AtFlags::EMPTY_PATH)
            .map_err(|error| wrong(&self.place.path, &error.into()))
    }
}
