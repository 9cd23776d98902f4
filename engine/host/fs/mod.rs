//! `fs::`: files and directories, beneath what is granted and nowhere else.
//!
//! A path is absolute. It only finds the grant; what is touched is opened beneath the directory of
//! the grant and checked again by its real path, so that links lead nowhere else. `place` has the
//! rules; `read`, `write` and `remove` do the work; nothing but this file knows Rhai.

mod owner;
mod place;
mod read;
mod remove;
#[cfg(test)]
mod tests;
mod work;
mod write;

use rhai::plugin::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};
use crate::host::options::type_in_words;
use crate::host::{Access, Call, Function, HostModule, Mode, RhaiResultOf, Secret, SecretText};
use crate::model::Effect;
use place::Place;
use work::{Waited, blocking};

/// The module `fs`.
pub const MODULE: HostModule = HostModule {
    name: "fs",
    summary: "files and directories: read, find, measure, write, move and remove within what is granted",
    build: || exported_module!(api),
    functions: &[
        Function::read("read").needs("fs", "read", 0).options::<read::ReadOptions>(),
        Function::read("read_bytes").needs("fs", "read", 0).options::<read::ReadOptions>(),
        Function::read("exists").needs("fs", "read", 0),
        Function::read("stat").needs("fs", "read", 0),
        Function::read("list").needs("fs", "read", 0),
        Function::read("glob").needs("fs", "read", 0).options::<read::GlobOptions>(),
        Function::read("du").needs("fs", "read", 0),
        Function::read("tail").needs("fs", "read", 0),
        Function::read("checksum").needs("fs", "read", 0),
        Function::read("space").needs("fs", "read", 0),
        Function::effect("write", "the file, with the difference").needs("fs", "write", 0).options::<write::WriteOptions>(),
        Function::effect("append", "the file and the added lines").needs("fs", "write", 0),
        Function::effect("mkdir", "the directory").needs("fs", "write", 0).options::<write::DirectoryOptions>(),
        Function::effect("copy", "both names").needs("fs", "read", 0).needs("fs", "write", 1).options::<write::MoveOptions>(),
        Function::effect("rename", "both names")
            .needs("fs", "read", 0)
            .needs("fs", "remove", 0)
            .needs("fs", "write", 1)
            .options::<write::MoveOptions>(),
        Function::effect("remove", "every file that goes").needs("fs", "remove", 0).options::<remove::RemoveOptions>(),
        Function::effect("chmod", "the old and the new mode").needs("fs", "write", 0),
        Function::effect("chown", "the old and the new owner").needs("fs", "write", 0),
    ],
};

#[export_module]
mod api {
    use rhai::{Dynamic, Map};

    use super::write::{Appending, Changing, Copying, Making, Renaming, Writing};
    use super::{change, content, look, owner, place_of, read, remove, write};
    use crate::host::{Call, RhaiResultOf};
    use crate::model::Effect;

    /// The text of a file.
    ///
    /// ```rhai
    /// fs::write("/tmp/runbook-fs-read", "one\ntwo\n");
    /// fs::read("/tmp/runbook-fs-read", #{ max: "1MiB" }) == "one\ntwo\n"
    /// ```
    ///
    /// Options: `max` (size, 4 MiB when absent): a larger file is an error of kind `limit`. What is no UTF-8
    /// is an error of kind `invalid`; read it with `fs::read_bytes`. Links are followed as long as they stay in
    /// what is granted. Devices and pipes are refused.
    #[rhai_fn(name = "read", return_raw, volatile)]
    pub fn read_with(native: NativeCallContext, path: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::read")?;
        let place = place_of(&call, "read", path)?;
        let options = call.options(options)?;
        let text = look(&call, move |_| read::text(&place, &options))?;
        Ok(text.into())
    }

    /// The text of a file of at most 4 MiB.
    #[rhai_fn(name = "read", return_raw, volatile)]
    pub fn read_text(native: NativeCallContext, path: &str) -> RhaiResultOf<Dynamic> {
        read_with(native, path, Map::new())
    }

    /// The bytes of a file, as a blob.
    ///
    /// ```rhai
    /// fs::write("/tmp/runbook-fs-bytes", "abc");
    /// fs::read_bytes("/tmp/runbook-fs-bytes").len() == 3
    /// ```
    ///
    /// Options as for `fs::read`.
    #[rhai_fn(name = "read_bytes", return_raw, volatile)]
    pub fn read_bytes_with(native: NativeCallContext, path: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::read_bytes")?;
        let place = place_of(&call, "read", path)?;
        let options = call.options(options)?;
        let bytes = look(&call, move |_| read::bytes(&place, &options))?;
        Ok(Dynamic::from_blob(bytes))
    }

    /// The bytes of a file of at most 4 MiB, as a blob.
    #[rhai_fn(return_raw, volatile)]
    pub fn read_bytes(native: NativeCallContext, path: &str) -> RhaiResultOf<Dynamic> {
        read_bytes_with(native, path, Map::new())
    }

    /// Whether there is something of this name: a file, a directory, or a link wherever it leads.
    ///
    /// ```rhai
    /// !fs::exists("/tmp/runbook-no-such-file")
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn exists(native: NativeCallContext, path: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::exists")?;
        let place = place_of(&call, "read", path)?;
        Ok(look(&call, move |_| read::exists(&place))?.into())
    }

    /// The facts of a file or directory. A link is told as a link, not followed.
    ///
    /// ```rhai
    /// fs::write("/tmp/runbook-fs-stat", "abc", #{ mode: "0600" });
    /// let file = fs::stat("/tmp/runbook-fs-stat");
    /// file.kind == "file" && file.size == 3 && file.mode == "0600" && file.age_s >= 0
    /// ```
    ///
    /// Returns `path`, `name`, `kind` (`file`, `directory`, `link`, `pipe`, `socket`, `device`), `size` (bytes),
    /// `mode` (as in `"0644"`), `owner`, `group`, `modified` (RFC 3339), `age_s`, `link_target` (nothing but for links).
    #[rhai_fn(return_raw, volatile)]
    pub fn stat(native: NativeCallContext, path: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::stat")?;
        let place = place_of(&call, "read", path)?;
        let found = look(&call, move |_| read::stat(&place))?;
        call.value(&found)
    }

    /// What is in a directory, sorted by name.
    ///
    /// ```rhai
    /// fs::mkdir("/tmp/runbook-fs-list");
    /// fs::write("/tmp/runbook-fs-list/a", "1");
    /// fs::list("/tmp/runbook-fs-list").map(|entry| entry.name) == ["a"]
    /// ```
    ///
    /// Returns a list of what `fs::stat` returns. More than 10 000 entries are an error of kind `limit`.
    #[rhai_fn(return_raw, volatile)]
    pub fn list(native: NativeCallContext, path: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::list")?;
        let place = place_of(&call, "read", path)?;
        let found = look(&call, move |_| read::list(&place))?;
        call.value(&found)
    }

    /// The paths that match a pattern, sorted: `*` and `?` within a name, `**` over directories, `[a-z]`, `{a,b}`.
    ///
    /// Only what is granted is found. Directories that are links are not entered. No match is an empty list; a
    /// missing directory above the pattern is an error of kind `not_found`.
    ///
    /// ```rhai
    /// fs::mkdir("/tmp/runbook-fs-glob");
    /// fs::write("/tmp/runbook-fs-glob/a.log", "1");
    /// fs::glob("/tmp/runbook-fs-glob/*.log", #{ limit: 10 }) == ["/tmp/runbook-fs-glob/a.log"]
    /// ```
    ///
    /// Options: `limit` (1000 when absent): more matches are an error of kind `limit`, never a short list.
    #[rhai_fn(name = "glob", return_raw, volatile)]
    pub fn glob_with(native: NativeCallContext, pattern: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::glob")?;
        let options = call.options(options)?;
        let (ctx, pattern) = (call.ctx().clone(), pattern.to_owned());
        let found = look(&call, move |waited| read::glob(&ctx, &pattern, &options, waited))?;
        call.value(&found)
    }

    /// The paths that match a pattern, at most 1000.
    #[rhai_fn(return_raw, volatile)]
    pub fn glob(native: NativeCallContext, pattern: &str) -> RhaiResultOf<Dynamic> {
        glob_with(native, pattern, Map::new())
    }

    /// What a file or directory takes on its filesystem; others mounted below it are left out.
    ///
    /// ```rhai
    /// fs::mkdir("/tmp/runbook-fs-du");
    /// fs::write("/tmp/runbook-fs-du/a", "12345");
    /// fs::du("/tmp/runbook-fs-du").apparent == 5
    /// ```
    ///
    /// Returns `bytes` (on disk), `apparent` (the sizes of the files), `files`, `directories`. A file with
    /// several names counts once. A directory that can not be read is an error, not a gap.
    #[rhai_fn(return_raw, volatile)]
    pub fn du(native: NativeCallContext, path: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::du")?;
        let place = place_of(&call, "read", path)?;
        let found = look(&call, move |waited| read::usage(&place, waited))?;
        call.value(&found)
    }

    /// The last lines of a file, oldest first. Bytes that are no UTF-8 show as `�`.
    ///
    /// ```rhai
    /// fs::write("/tmp/runbook-fs-tail", "1\n2\n3\n");
    /// fs::tail("/tmp/runbook-fs-tail", 2) == ["2", "3"]
    /// ```
    ///
    /// At most 10 000 lines, and of the last 4 MiB only.
    #[rhai_fn(return_raw, volatile)]
    pub fn tail(native: NativeCallContext, path: &str, lines: i64) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::tail")?;
        let place = place_of(&call, "read", path)?;
        let found = look(&call, move |_| read::tail(&place, lines))?;
        call.value(&found)
    }

    /// The SHA-256 of a file in hexadecimal, as `sha256sum` writes it.
    ///
    /// ```rhai
    /// fs::write("/tmp/runbook-fs-sum", "abc");
    /// fs::checksum("/tmp/runbook-fs-sum") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn checksum(native: NativeCallContext, path: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::checksum")?;
        let place = place_of(&call, "read", path)?;
        Ok(look(&call, move |waited| read::checksum(&place, waited))?.into())
    }

    /// The space of the filesystem a file or directory is on.
    ///
    /// ```rhai
    /// fs::space("/tmp").free > 0
    /// ```
    ///
    /// Returns `total`, `used`, `free` (bytes), `used_percent` (as `df` counts), `inodes`, `inodes_used_percent`.
    #[rhai_fn(return_raw, volatile)]
    pub fn space(native: NativeCallContext, path: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::space")?;
        let place = place_of(&call, "read", path)?;
        let found = look(&call, move |_| read::space(&place))?;
        call.value(&found)
    }

    /// Writes a file as a whole: a reader sees the old content or the new, never a part; durable when it returns.
    ///
    /// The content is a text, a blob or a secret. The mode and owner of an old file are kept; a new one is 0644,
    /// and 0600 for a secret. A file that is already so is left alone. A link is an error of kind `conflict`.
    ///
    /// ```rhai
    /// let first = fs::write("/tmp/runbook-fs-write", "a = 1\n", #{ mode: "0640" });
    /// let again = fs::write("/tmp/runbook-fs-write", "a = 1\n");
    /// first.bytes == 6 && !again.changed && fs::stat("/tmp/runbook-fs-write").mode == "0640"
    /// ```
    ///
    /// Options: `mode` (as in `"0640"`), `owner` (`"user:group"`), `backup` (a path the old content is copied to
    /// first). Returns `path`, `bytes`, `changed`, `backup` (nothing when none was made). The plan shows the
    /// difference, but only counts lines of files that not everyone may read.
    #[rhai_fn(name = "write", return_raw, volatile)]
    pub fn write_with(native: NativeCallContext, path: &str, text: Dynamic, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::write")?;
        let place = place_of(&call, "write", path)?;
        let options: write::WriteOptions = call.options(options)?;
        let backup = options.backup.as_deref().map(|path| place_of(&call, "write", path)).transpose()?;
        let content = content(&call, path, &text)?;
        let effect = Effect::new("fs::write", path, format!("write {path}"));
        let bare = effect.clone();
        change(
            &call,
            bare,
            move |_| Writing::look(effect, place, backup, content, &options),
            |planned, writing, _| writing.perform(planned),
        )
    }

    /// Writes a file as a whole.
    #[rhai_fn(name = "write", return_raw, volatile)]
    pub fn write_text(native: NativeCallContext, path: &str, text: Dynamic) -> RhaiResultOf<Dynamic> {
        write_with(native, path, text, Map::new())
    }

    /// Adds text to the end of a file, which is made when it is missing (0640); durable when it returns.
    ///
    /// ```rhai
    /// fs::write("/tmp/runbook-fs-append", "one\n");
    /// fs::append("/tmp/runbook-fs-append", "two\n");
    /// fs::read("/tmp/runbook-fs-append") == "one\ntwo\n"
    /// ```
    ///
    /// Returns `path`, `bytes` (added), `changed`.
    #[rhai_fn(return_raw, volatile)]
    pub fn append(native: NativeCallContext, path: &str, text: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::append")?;
        let place = place_of(&call, "write", path)?;
        let effect = Effect::new("fs::append", path, format!("append to {path}"));
        let (bare, shown, text) = (effect.clone(), text.to_owned(), text.to_owned());
        change(&call, bare, move |_| Appending::look(effect, place, &shown), move |planned, appending, _| appending.perform(&text, planned))
    }

    /// Makes a directory, and those above it that are missing and granted. One that is there is left alone.
    ///
    /// ```rhai
    /// fs::mkdir("/tmp/runbook-fs-mkdir/a/b", #{ mode: "0750" });
    /// fs::stat("/tmp/runbook-fs-mkdir/a/b").kind == "directory"
    /// ```
    ///
    /// Options: `mode` (0755 when absent). Returns `path` and `created`.
    #[rhai_fn(name = "mkdir", return_raw, volatile)]
    pub fn mkdir_with(native: NativeCallContext, path: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::mkdir")?;
        let place = place_of(&call, "write", path)?;
        let options: write::DirectoryOptions = call.options(options)?;
        let effect = Effect::new("fs::mkdir", path, format!("make directory {path}")).reversible();
        let bare = effect.clone();
        change(&call, bare, move |_| Making::look(effect, place, &options), |planned, making, _| making.perform(planned))
    }

    /// Makes a directory with mode 0755.
    #[rhai_fn(return_raw, volatile)]
    pub fn mkdir(native: NativeCallContext, path: &str) -> RhaiResultOf<Dynamic> {
        mkdir_with(native, path, Map::new())
    }

    /// Copies a file with its mode; the copy has its name only when it is whole.
    ///
    /// Needs `read` on the file and `write` on the copy. A taken name is an error of kind `conflict`.
    ///
    /// ```rhai
    /// fs::write("/tmp/runbook-fs-copy", "abc");
    /// fs::copy("/tmp/runbook-fs-copy", "/tmp/runbook-fs-copied", #{ overwrite: true }).bytes == 3
    /// ```
    ///
    /// Options: `overwrite` (false when absent). Returns `path` and `bytes`.
    #[rhai_fn(name = "copy", return_raw, volatile)]
    pub fn copy_with(native: NativeCallContext, from: &str, to: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::copy")?;
        let (source, target) = (place_of(&call, "read", from)?, place_of(&call, "write", to)?);
        let options: write::MoveOptions = call.options(options)?;
        let effect = Effect::new("fs::copy", to, format!("copy {from} to {to}"));
        let bare = effect.clone();
        change(&call, bare, move |_| Copying::look(effect, source, target, &options), |planned, copying, _| copying.perform(planned))
    }

    /// Copies a file to a name that is free.
    #[rhai_fn(return_raw, volatile)]
    pub fn copy(native: NativeCallContext, from: &str, to: &str) -> RhaiResultOf<Dynamic> {
        copy_with(native, from, to, Map::new())
    }

    /// Gives a file or directory another name on the same filesystem, in one step.
    ///
    /// Needs `read` and `remove` on the old name and `write` on the new one. A taken name is an error of kind
    /// `conflict`. A directory that holds what the policy forbids keeps its name.
    ///
    /// ```rhai
    /// fs::write("/tmp/runbook-fs-old", "abc");
    /// fs::rename("/tmp/runbook-fs-old", "/tmp/runbook-fs-new", #{ overwrite: true });
    /// !fs::exists("/tmp/runbook-fs-old")
    /// ```
    ///
    /// Options: `overwrite` (false when absent). Returns `path` and `bytes`.
    #[rhai_fn(name = "rename", return_raw, volatile)]
    pub fn rename_with(native: NativeCallContext, from: &str, to: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::rename")?;
        let (source, target) = (place_of(&call, "remove", from)?, place_of(&call, "write", to)?);
        let readable = place_of(&call, "read", from)?;
        let options: write::MoveOptions = call.options(options)?;
        let effect = Effect::new("fs::rename", to, format!("rename {from} to {to}"));
        let bare = effect.clone();
        change(
            &call,
            bare,
            move |_| Renaming::look(effect, source, &readable, target, &options),
            |planned, renaming, _| renaming.perform(planned),
        )
    }

    /// Gives a file or directory a name that is free.
    #[rhai_fn(return_raw, volatile)]
    pub fn rename(native: NativeCallContext, from: &str, to: &str) -> RhaiResultOf<Dynamic> {
        rename_with(native, from, to, Map::new())
    }

    /// Removes a file, a link (not where it leads), or a directory with all that is in it.
    ///
    /// What goes is listed first; when any of it must stay, nothing is removed. Directories of the system
    /// (`/`, `/etc`), granted directories themselves and mount points are never removed.
    ///
    /// ```rhai
    /// fs::mkdir("/tmp/runbook-fs-remove/a");
    /// fs::write("/tmp/runbook-fs-remove/a/b", "1");
    /// let gone = fs::remove("/tmp/runbook-fs-remove", #{ recursive: true, max_files: 3 });
    /// gone.files == 1 && gone.directories == 2
    /// ```
    ///
    /// Options: `recursive` (false), `max_files` (1000; more is an error of kind `limit`), `max_depth` (32),
    /// `older_than` (duration: only files not changed for so long go, and directories stay). Returns `files`,
    /// `directories`, `bytes` (on disk).
    #[rhai_fn(name = "remove", return_raw, volatile)]
    pub fn remove_with(native: NativeCallContext, path: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::remove")?;
        let place = place_of(&call, "remove", path)?;
        let options: remove::RemoveOptions = call.options(options)?;
        let effect = Effect::new("fs::remove", path, format!("remove {path}"));
        let (bare, target) = (effect.clone(), place.path.clone());
        change(
            &call,
            bare,
            move |waited| {
                let removal = remove::Removal::list(&place, &options, waited)?;
                let mut effect = effect.diff(removal.diff());
                effect.summary = format!("remove {} ({})", place.path.display(), removal.in_words());
                Ok((effect, removal.total.clone(), removal))
            },
            move |_, removal, waited| removal.perform(&target, waited),
        )
    }

    /// Removes a file or a link.
    #[rhai_fn(name = "remove", return_raw, volatile)]
    pub fn remove_file(native: NativeCallContext, path: &str) -> RhaiResultOf<Dynamic> {
        remove_with(native, path, Map::new())
    }

    /// Changes the mode of a file or directory.
    ///
    /// ```rhai
    /// fs::write("/tmp/runbook-fs-chmod", "abc");
    /// fs::chmod("/tmp/runbook-fs-chmod", "0600");
    /// fs::stat("/tmp/runbook-fs-chmod").mode == "0600"
    /// ```
    ///
    /// The mode is a text in octal. Set-user-id bits are refused; a link is an error of kind `conflict`.
    #[rhai_fn(return_raw, volatile)]
    pub fn chmod(native: NativeCallContext, path: &str, mode: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::chmod")?;
        let place = place_of(&call, "write", path)?;
        let bits = owner::Bits::read(mode).map_err(|error| call.fail(error))?;
        let effect = Effect::new("fs::chmod", path, format!("change the mode of {path} to {bits}")).reversible();
        let bare = effect.clone();
        let look = move |_: &_| Changing::look_at_mode(effect, place, bits).map(|(effect, bits, changing)| (effect, (), (bits, changing)));
        change(&call, bare, look, |(), (bits, changing), _| changing.set_mode(bits))
    }

    /// Changes the owner of a file or directory: `"user:group"`, `"user"` or `":group"`, by name or number.
    ///
    /// ```rhai
    /// fs::write("/tmp/runbook-fs-chown", "abc");
    /// let file = fs::stat("/tmp/runbook-fs-chown");
    /// fs::chown("/tmp/runbook-fs-chown", `${file.owner}:${file.group}`);
    /// true
    /// ```
    ///
    /// Usually only root may. A link is an error of kind `conflict`.
    #[rhai_fn(return_raw, volatile)]
    pub fn chown(native: NativeCallContext, path: &str, owner: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "fs::chown")?;
        let place = place_of(&call, "write", path)?;
        let effect = Effect::new("fs::chown", path, format!("change the owner of {path} to {owner}")).reversible();
        let (bare, name) = (effect.clone(), owner.to_owned());
        let look =
            move |_: &_| Changing::look_at_owner(effect, place, &name).map(|(effect, owner, changing)| (effect, (), (owner, changing)));
        change(&call, bare, look, |(), (owner, changing), _| changing.set_owner(owner))
    }
}

fn place_of(call: &Call<'_>, verb: &'static str, path: &str) -> RhaiResultOf<Place> {
    Place::new(call.ctx(), verb, path).map_err(|error| call.fail(error))
}

/// Waits for a look at the world.
fn look<T: Send + 'static>(call: &Call<'_>, work: impl FnOnce(&Waited) -> Result<T> + Send + 'static) -> RhaiResultOf<T> {
    call.wait(blocking(work))
}

/// Looks, tells, and changes.
///
/// A look that fails is the failure of the effect itself: on resume, an effect that was had is found in
/// the journal although the world no longer looks as it did before. In a plan, what is not there yet may
/// come from an earlier effect of the same plan.
fn change<S, T>(
    call: &Call<'_>,
    bare: Effect,
    look: impl FnOnce(&Waited) -> Result<(Effect, T, S)> + Send + 'static,
    perform: impl FnOnce(T, S, &Waited) -> Result<T> + Send + 'static,
) -> RhaiResultOf<Dynamic>
where
    S: Send + 'static,
    T: Serialize + DeserializeOwned + Default + Clone + Send + 'static,
{
    let looked = call.wait(async { Ok(blocking(look).await) })?;
    let done = match looked {
        Ok((effect, planned, subject)) => {
            let expected = planned.clone();
            call.effect(effect, planned, blocking(move |waited| perform(expected, subject, waited)))?
        }
        Err(error) if call.ctx().mode() == Mode::Plan && error.kind != Kind::NotFound => return Err(call.fail(error)),
        Err(error) => call.effect(bare, T::default(), async { Err(error) })?,
    };
    call.value(&done)
}

/// What a script wants in a file; a secret is opened here, towards the file only.
fn content(call: &Call<'_>, path: &str, given: &Dynamic) -> RhaiResultOf<write::Content> {
    if let Some(secret) = given.read_lock::<Secret>() {
        let path = place::normal(path).map_err(|error| call.fail(error))?;
        let value = call.open(&SecretText::Secret(secret.name().to_owned()), &[Access::path("write", &path)])?;
        return Ok(write::Content { bytes: value.into_bytes(), is_secret: true });
    }
    if let Ok(bytes) = given.as_blob_ref() {
        return Ok(write::Content { bytes: bytes.clone(), is_secret: false });
    }
    if let Ok(text) = given.as_immutable_string_ref() {
        return Ok(write::Content { bytes: text.as_bytes().to_vec(), is_secret: false });
    }
    let found = type_in_words(given.type_name());
    Err(call.fail(
        Error::new(Kind::Invalid, format!("the content is {found}, not a text, a blob or a secret"))
            .hint("make it a text with `to_json` or `to_string`"),
    ))
}
