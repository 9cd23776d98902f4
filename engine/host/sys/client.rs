//! Facts about this machine, from sysinfo and the kernel's own files.

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use sysinfo::{Disks, Networks, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind, Users};

use crate::error::{Error, Kind, Result};
use crate::model::Span;

/// How to look at the processors.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CpuOptions {
    over: Option<Span>,
}

/// How to look at processes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProcessOptions {
    by: Option<Order>,
    limit: Option<usize>,
    over: Option<Span>,
    name: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    Cpu,
    Memory,
}

const INTERVAL: Span = Span::millis(200);
/// Below this the counters of the kernel, which tick a hundred times a second, say nothing.
const SHORTEST_INTERVAL: Span = Span::millis(50);

#[derive(Debug, Serialize)]
pub(super) struct Cpu {
    used: f64,
    iowait: f64,
    steal: f64,
    cores: usize,
}

/// The counters of `/proc/stat`, in ticks.
#[derive(Debug, Clone, Copy)]
struct Ticks {
    total: u64,
    idle: u64,
    iowait: u64,
    steal: u64,
    cores: usize,
}

pub(super) async fn cpu(options: CpuOptions) -> Result<Cpu> {
    let before = ticks()?;
    tokio::time::sleep(options.over.unwrap_or(INTERVAL).max(SHORTEST_INTERVAL).0).await;
    Ok(share(before, ticks()?))
}

fn share(before: Ticks, after: Ticks) -> Cpu {
    // Counters of a virtual machine can step back a little; that counts as nothing.
    let total = after.total.saturating_sub(before.total).max(1) as f64;
    let percent = |before: u64, after: u64| round(100.0 * after.saturating_sub(before) as f64 / total);
    let iowait = percent(before.iowait, after.iowait);
    let used = (100.0 - percent(before.idle, after.idle) - iowait).clamp(0.0, 100.0);
    Cpu { used: round(used), iowait, steal: percent(before.steal, after.steal), cores: after.cores }
}

/// The seconds each processor was idle and busy since the start of the machine, in the mean.
pub(super) fn processor_seconds() -> Result<(f64, f64)> {
    let ticks = ticks()?;
    let each = rustix::param::clock_ticks_per_second().max(1) as f64 * ticks.cores.max(1) as f64;
    let idle = ticks.idle + ticks.iowait;
    Ok((idle as f64 / each, ticks.total.saturating_sub(idle) as f64 / each))
}

/// The fields of the first line of `/proc/stat`, as of proc(5).
fn ticks() -> Result<Ticks> {
    let text = read("/proc/stat")?;
    let unreadable = || Error::new(Kind::Remote, "`/proc/stat` has no line of processor times");
    let line = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).ok_or_else(unreadable)?;
    let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = fields[..] else { return Err(unreadable()) };
    let cores = text.lines().skip(1).take_while(|line| line.starts_with("cpu")).count();
    Ok(Ticks { total: user + nice + system + idle + iowait + irq + softirq + steal, idle, iowait, steal, cores })
}

#[derive(Debug, Serialize)]
pub(super) struct Memory {
    total: u64,
    available: u64,
    used: u64,
    used_percent: f64,
    swap_total: u64,
    swap_used: u64,
    swap_percent: f64,
}

pub(super) fn memory() -> Result<Memory> {
    let mut system = System::new().map_err(failed)?;
    system.refresh_memory();
    let (total, available) = (system.total_memory(), system.available_memory());
    let used = total.saturating_sub(available);
    let (swap_total, swap_used) = (system.total_swap(), system.used_swap());
    Ok(Memory {
        total,
        available,
        used,
        used_percent: percent(used, total),
        swap_total,
        swap_used,
        swap_percent: percent(swap_used, swap_total),
    })
}

#[derive(Debug, Serialize)]
pub(super) struct Load {
    one: f64,
    five: f64,
    fifteen: f64,
    cores: usize,
    per_core: f64,
}

pub(super) fn load() -> Result<Load> {
    let load = System::load_average().map_err(failed)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(Load { one: load.one, five: load.five, fifteen: load.fifteen, cores, per_core: round(load.five / cores as f64) })
}

#[derive(Debug, Serialize)]
pub(super) struct Disk {
    mount: String,
    device: String,
    kind: String,
    read_only: bool,
    total: u64,
    used: u64,
    free: u64,
    used_percent: f64,
    inodes: u64,
    inodes_used_percent: f64,
    error: Option<String>,
}

/// Filesystems that hold no data of their own, or can not fill up.
const NOT_REAL: [&str; 14] = [
    "tmpfs",
    "ramfs",
    "devtmpfs",
    "overlay",
    "squashfs",
    "iso9660",
    "udf",
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "autofs",
    "fuse.lxcfs",
    "nsfs",
];

pub(super) fn disks() -> Result<Vec<Disk>> {
    let listed = Disks::new_with_refreshed_list().map_err(failed)?;
    let mut disks: Vec<Disk> = listed.iter().map(disk).filter(|disk| !NOT_REAL.contains(&disk.kind.as_str())).collect();
    disks.sort_by(|a, b| a.mount.cmp(&b.mount));
    // A device that is mounted at several places is one filesystem; the shortest place names it.
    let mut seen = std::collections::BTreeSet::new();
    disks.sort_by_key(|disk| disk.mount.len());
    disks.retain(|disk| !disk.device.starts_with('/') || seen.insert(disk.device.clone()));
    disks.sort_by(|a, b| a.mount.cmp(&b.mount));
    Ok(disks)
}

fn disk(disk: &sysinfo::Disk) -> Disk {
    let mut found = Disk {
        mount: disk.mount_point().display().to_string(),
        device: disk.name().to_string_lossy().into_owned(),
        kind: disk.file_system().to_string_lossy().into_owned(),
        read_only: disk.is_read_only(),
        total: 0,
        used: 0,
        free: 0,
        used_percent: 0.0,
        inodes: 0,
        inodes_used_percent: 0.0,
        error: None,
    };
    match rustix::fs::statvfs(disk.mount_point()) {
        Ok(space) => {
            found.total = space.f_blocks * space.f_frsize;
            found.free = space.f_bavail * space.f_frsize;
            found.used = (space.f_blocks - space.f_bfree) * space.f_frsize;
            // As df: of what users other than root can have.
            found.used_percent = percent(found.used, found.used + found.free);
            found.inodes = space.f_files;
            found.inodes_used_percent = percent(space.f_files.saturating_sub(space.f_ffree), space.f_files);
        }
        Err(error) => found.error = Some(error.to_string()),
    }
    found
}

#[derive(Debug, Serialize)]
pub(super) struct Io {
    device: String,
    read_bytes: u64,
    written_bytes: u64,
    reads: u64,
    writes: u64,
    busy_ms: u64,
}

/// Sectors of `/proc/diskstats` are 512 bytes whatever the device, as of the kernel's iostats.rst.
const SECTOR: u64 = 512;

pub(super) fn io() -> Result<Vec<Io>> {
    Ok(read("/proc/diskstats")?.lines().filter_map(io_line).collect())
}

fn io_line(line: &str) -> Option<Io> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    let device = (*fields.get(2)?).to_owned();
    let io = Io {
        device,
        reads: number(3)?,
        read_bytes: number(5)? * SECTOR,
        writes: number(7)?,
        written_bytes: number(9)? * SECTOR,
        busy_ms: number(12)?,
    };
    (io.reads + io.writes > 0).then_some(io)
}

#[derive(Debug, Serialize)]
pub(super) struct Interface {
    name: String,
    received: u64,
    sent: u64,
    receive_errors: u64,
    send_errors: u64,
}

pub(super) fn network() -> Result<Vec<Interface>> {
    let networks = Networks::new_with_refreshed_list().map_err(failed)?;
    let mut interfaces: Vec<Interface> = networks
        .iter()
        .map(|(name, data)| Interface {
            name: name.to_string_lossy().into_owned(),
            received: data.total_received(),
            sent: data.total_transmitted(),
            receive_errors: data.total_errors_on_received(),
            send_errors: data.total_errors_on_transmitted(),
        })
        .collect();
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(interfaces)
}

#[derive(Debug, Serialize)]
pub(super) struct Process {
    pid: u32,
    parent: Option<u32>,
    name: String,
    user: String,
    cpu: f64,
    memory: u64,
    age_s: u64,
    state: String,
}

const PROCESSES: usize = 10;

pub(super) async fn processes(options: ProcessOptions) -> Result<Vec<Process>> {
    let looks = ProcessRefreshKind::nothing().with_cpu().with_memory().with_user(UpdateKind::OnlyIfNotSet).without_tasks();
    let mut system = System::new().map_err(failed)?;
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, looks);
    tokio::time::sleep(options.over.unwrap_or(INTERVAL).max(SHORTEST_INTERVAL).0).await;
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, looks);
    let users = Users::new_with_refreshed_list().map_err(failed)?;
    let mut processes: Vec<Process> = system
        .processes()
        .values()
        .map(|process| Process {
            pid: process.pid().as_u32(),
            parent: process.parent().map(sysinfo::Pid::as_u32),
            name: process.name().to_string_lossy().into_owned(),
            user: process.user_id().and_then(|id| users.get_user_by_id(id)).map(|user| user.name().to_owned()).unwrap_or_default(),
            cpu: round(f64::from(process.cpu_usage())),
            memory: process.memory(),
            age_s: process.run_time(),
            state: process.status().to_string().to_ascii_lowercase(),
        })
        .filter(|process| options.name.as_ref().is_none_or(|name| process.name == *name))
        .collect();
    match options.by.unwrap_or(Order::Cpu) {
        Order::Cpu => processes.sort_by(|a, b| b.cpu.total_cmp(&a.cpu).then(a.pid.cmp(&b.pid))),
        Order::Memory => processes.sort_by(|a, b| b.memory.cmp(&a.memory).then(a.pid.cmp(&b.pid))),
    }
    processes.truncate(options.limit.unwrap_or(PROCESSES));
    Ok(processes)
}

#[derive(Debug, Serialize)]
pub(super) struct User {
    name: String,
    id: String,
    groups: Vec<String>,
}

pub(super) fn users() -> Result<Vec<User>> {
    let users = Users::new_with_refreshed_list().map_err(failed)?;
    let mut users: Vec<User> = users
        .iter()
        .map(|user| User {
            name: user.name().to_owned(),
            id: user.id().to_string(),
            groups: user.groups().iter().map(|group| group.name().to_owned()).collect(),
        })
        .collect();
    users.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(users)
}

#[derive(Debug, Serialize)]
pub(super) struct Host {
    name: String,
    os: String,
    kernel: String,
    uptime_s: u64,
    booted: String,
    pid_1: String,
}

pub(super) fn host() -> Result<Host> {
    let booted = i64::try_from(System::boot_time().map_err(failed)?).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    Ok(Host {
        name: System::host_name().map_err(failed)?,
        os: System::long_os_version().map_err(failed)?,
        kernel: System::kernel_version().map_err(failed)?,
        uptime_s: System::uptime().map_err(failed)?,
        booted: booted.map(|booted| booted.to_string()).unwrap_or_default(),
        pid_1: read("/proc/1/comm").map(|name| name.trim().to_owned()).unwrap_or_default(),
    })
}

#[derive(Debug, Serialize)]
pub(super) struct Clock {
    synchronised: bool,
    max_error_ms: Option<f64>,
    zone: String,
    now: String,
}

/// systemd-timesyncd touches this file at each successful synchronisation; chrony and ntpd keep the
/// others while they run.
const SYNC_MARKS: [&str; 3] = ["/run/systemd/timesync/synchronized", "/run/chrony/chronyd.pid", "/run/ntpd.pid"];

pub(super) fn clock(now: Timestamp) -> Clock {
    let zone = TimeZone::system();
    Clock {
        synchronised: SYNC_MARKS.iter().any(|mark| Path::new(mark).exists()),
        max_error_ms: None,
        zone: zone.iana_name().unwrap_or("unknown").to_owned(),
        now: now.to_zoned(zone).to_string(),
    }
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::because(Kind::Remote, format_args!("`{path}` can not be read"), &error))
}

pub(super) fn failed(error: sysinfo::Error) -> Error {
    Error::because(Kind::Remote, "the kernel does not tell", &error)
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { round(100.0 * part as f64 / whole as f64) }
}

/// One digit after the point: more would be noise.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_disks_is_not_use() {
        let before = Ticks { total: 0, idle: 0, iowait: 0, steal: 0, cores: 2 };
        let after = Ticks { total: 100, idle: 50, iowait: 20, steal: 5, cores: 2 };
        let cpu = share(before, after);
        assert_eq!((cpu.used, cpu.iowait, cpu.steal), (30.0, 20.0, 5.0));
    }

    #[test]
    fn counters_that_step_back_count_as_nothing() {
        let before = Ticks { total: 100, idle: 60, iowait: 0, steal: 0, cores: 1 };
        let after = Ticks { total: 99, idle: 59, iowait: 0, steal: 0, cores: 1 };
        assert!(share(before, after).used <= 100.0);
    }
}
