//! `sys::`: facts about this machine. Reads only; it changes nothing.

mod client;
mod measure;
mod open_files;

use rhai::plugin::*;
use serde::Serialize;

use crate::error::Result;
use crate::host::{Access, Call, Function, HostModule, RhaiResultOf};

pub(super) use measure::machine;
pub(crate) use open_files::deleted_files;

/// The module `sys`.
pub const MODULE: HostModule = HostModule {
    name: "sys",
    summary: "facts about this machine: processors, memory, filesystems, load, network, processes, clock",
    build: || exported_module!(api),
    functions: &[
        Function::read("cpu").needs_fixed("sys", "read", "cpu").options::<client::CpuOptions>(),
        Function::read("memory").needs_fixed("sys", "read", "memory"),
        Function::read("load").needs_fixed("sys", "read", "load"),
        Function::read("disks").needs_fixed("sys", "read", "disks"),
        Function::read("io").needs_fixed("sys", "read", "io"),
        Function::read("network").needs_fixed("sys", "read", "network"),
        Function::read("processes").needs_fixed("sys", "read", "processes").options::<client::ProcessOptions>(),
        Function::read("deleted_open_files").needs_fixed("sys", "read", "processes").options::<open_files::DeletedOptions>(),
        Function::read("users").needs_fixed("sys", "read", "users"),
        Function::read("host").needs_fixed("sys", "read", "host"),
        Function::read("clock").needs_fixed("sys", "read", "clock"),
    ],
};

#[export_module]
mod api {
    use rhai::{Dynamic, Map};

    use super::{client, open_files};
    use crate::host::{Access, Call, RhaiResultOf};

    /// The use of the processors over an interval, in percent of all cores.
    ///
    /// A share needs two looks: the counters of the kernel are read before and after the interval.
    /// `used` is everything but idle time and waiting for disks.
    ///
    /// ```rhai
    /// let cpu = sys::cpu(#{ over: "100ms" });
    /// cpu.used >= 0.0 && cpu.used <= 100.0 && cpu.cores >= 1
    /// ```
    ///
    /// Options: `over` (duration, 200 ms when absent). Returns `used`, `iowait`, `steal`, `cores`.
    #[rhai_fn(name = "cpu", return_raw, volatile)]
    pub fn cpu_over(native: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "sys::cpu")?;
        call.permit(&Access::word("sys", "read", "cpu"))?;
        let options: client::CpuOptions = call.options(options)?;
        let cpu = call.wait(client::cpu(options))?;
        call.value(&cpu)
    }

    /// The use of the processors over 200 ms.
    #[rhai_fn(return_raw, volatile)]
    pub fn cpu(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        cpu_over(native, Map::new())
    }

    /// Memory and swap in bytes and percent; `used` is what can not be had (total less available).
    ///
    /// ```rhai
    /// let memory = sys::memory();
    /// memory.total > 0 && memory.used_percent <= 100.0
    /// ```
    ///
    /// Returns `total`, `available`, `used`, `used_percent`, `swap_total`, `swap_used`, `swap_percent`.
    #[rhai_fn(return_raw, volatile)]
    pub fn memory(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        fact(&native, "sys::memory", "memory", client::memory)
    }

    /// The load averages, as they are and per core.
    ///
    /// ```rhai
    /// sys::load().per_core >= 0.0
    /// ```
    ///
    /// Returns `one`, `five`, `fifteen`, `cores`, `per_core` (of the last five minutes).
    #[rhai_fn(return_raw, volatile)]
    pub fn load(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        fact(&native, "sys::load", "load", client::load)
    }

    /// Every real filesystem with its space and inodes; no tmpfs, overlay, squashfs or optical media.
    ///
    /// `used_percent` counts as `df` does: what only root may use is not free. A filesystem that could
    /// not be read has an `error` instead of figures.
    ///
    /// ```rhai
    /// sys::disks().some(|disk| disk.total > 0)
    /// ```
    ///
    /// Returns a list of `mount`, `device`, `kind`, `read_only`, `total`, `used`, `free`, `used_percent`,
    /// `inodes`, `inodes_used_percent`, `error`.
    #[rhai_fn(return_raw, volatile)]
    pub fn disks(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        fact(&native, "sys::disks", "disks", client::disks)
    }

    /// Counters of the disks since the machine started.
    ///
    /// ```rhai
    /// type_of(sys::io()) == "array"
    /// ```
    ///
    /// Returns a list of `device`, `read_bytes`, `written_bytes`, `reads`, `writes`, `busy_ms`.
    #[rhai_fn(return_raw, volatile)]
    pub fn io(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        fact(&native, "sys::io", "io", client::io)
    }

    /// Counters of the network interfaces since they came up.
    ///
    /// ```rhai
    /// sys::network().some(|interface| interface.name == "lo")
    /// ```
    ///
    /// Returns a list of `name`, `received`, `sent`, `receive_errors`, `send_errors`.
    #[rhai_fn(return_raw, volatile)]
    pub fn network(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        fact(&native, "sys::network", "network", client::network)
    }

    /// The processes that use most, with their share of the processors over the interval.
    ///
    /// ```rhai
    /// sys::processes(#{ by: "memory", limit: 3, over: "100ms" }).len() <= 3
    /// ```
    ///
    /// Options: `by` (`cpu` or `memory`), `limit` (10 when absent), `over` (200 ms when absent), `name` (only
    /// processes of this name). Returns a list of `pid`, `parent`, `name`, `user`, `cpu`, `memory`, `age_s`, `state`.
    /// Command lines are left out, since they may hold secrets.
    #[rhai_fn(return_raw, volatile)]
    pub fn processes(native: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "sys::processes")?;
        call.permit(&Access::word("sys", "read", "processes"))?;
        let options: client::ProcessOptions = call.options(options)?;
        let processes = call.wait(client::processes(options))?;
        call.value(&processes)
    }

    /// Files that were removed and are still open: they take space until their process closes them or ends.
    ///
    /// ```rhai
    /// let found = sys::deleted_open_files(#{ on: "/" });
    /// found.bytes >= 0 && found.unseen >= 0
    /// ```
    ///
    /// Options: `on` (only those on the filesystem of this path), `limit` (20 when absent). Returns `files` (the largest
    /// first, each with the `path` it had, `bytes` on disk, `pid`, `process`, `user`), `bytes` (of all), and `unseen`: how many
    /// processes could not be looked into, whose files are missing here. Throws `not_found` when `on` is not there.
    #[rhai_fn(name = "deleted_open_files", return_raw, volatile)]
    pub fn deleted_open_files_on(native: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "sys::deleted_open_files")?;
        call.permit(&Access::word("sys", "read", "processes"))?;
        let options: open_files::DeletedOptions = call.options(options)?;
        let found = open_files::deleted(call.ctx().recorder(), &options).map_err(|error| call.fail(error))?;
        call.value(&found)
    }

    /// Files that were removed and are still open, on all filesystems.
    #[rhai_fn(return_raw, volatile)]
    pub fn deleted_open_files(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        deleted_open_files_on(native, Map::new())
    }

    /// The users that can log in: those with a shell.
    ///
    /// ```rhai
    /// sys::users().some(|user| user.name == "root")
    /// ```
    ///
    /// Returns a list of `name`, `id`, `groups`.
    #[rhai_fn(return_raw, volatile)]
    pub fn users(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        fact(&native, "sys::users", "users", client::users)
    }

    /// What machine this is.
    ///
    /// ```rhai
    /// sys::host().name != ""
    /// ```
    ///
    /// Returns `name`, `os`, `kernel`, `uptime_s`, `booted` (RFC 3339), `pid_1` (what runs as process 1).
    #[rhai_fn(return_raw, volatile)]
    pub fn host(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        fact(&native, "sys::host", "host", client::host)
    }

    /// Whether the kernel holds the clock for synchronised, and how far it may be off.
    ///
    /// ```rhai
    /// type_of(sys::clock().synchronised) == "bool"
    /// ```
    ///
    /// Returns `synchronised`, `max_error_ms` (nothing when unknown), `zone`, `now` (RFC 3339).
    #[rhai_fn(return_raw, volatile)]
    pub fn clock(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "sys::clock")?;
        call.permit(&Access::word("sys", "read", "clock"))?;
        let clock = client::clock(call.ctx().now());
        call.value(&clock)
    }
}

fn fact<T: Serialize>(
    native: &NativeCallContext<'_>,
    function: &'static str,
    name: &str,
    look: fn() -> Result<T>,
) -> RhaiResultOf<Dynamic> {
    let call = Call::new(native, function)?;
    call.permit(&Access::word("sys", "read", name))?;
    let found = look().map_err(|error| call.fail(error))?;
    call.value(&found)
}
