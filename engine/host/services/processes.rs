//! Plain processes, found by their pid files.

use jiff::Timestamp;

use super::state::Part;
use super::usage::Usage;
use crate::error::{Error, Kind, Result};
use crate::host::process::Stat;
use crate::host::{Access, Ctx};
use crate::model::system::Service;

/// A daemon may write its pid file a moment before it forks for the last time.
const SLACK_SECONDS: i64 = 10;

/// A process of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pid: u32,
    started: Timestamp,
    stat: Stat,
}

/// Whether the run may look at processes.
pub(super) fn permit(ctx: &Ctx) -> Result<()> {
    ctx.permissions().check(&Access::word("sys", "read", "processes")).map(drop)
}

/// The process of a service, or what its pid file says instead; none without a pid file.
pub(super) fn part(name: &str, service: &Service) -> Result<Option<Part>> {
    let path = pid_file(name, service)?;
    let stopped = |state: &str, detail: String| {
        let name = name.to_owned();
        Ok(Some(Part { name, state: state.to_owned(), health: "none".to_owned(), restarts: 0, started: None, detail: Some(detail) }))
    };
    let Some((pid, written)) = read_pid(path)? else { return Ok(None) };
    let Some(process) = process(pid)? else {
        return stopped("exited", format!("its pid file `{path}` is stale: there is no process {pid}"));
    };
    if process.stat.is_over() {
        return stopped("dead", format!("process {pid} is a zombie"));
    }
    if process.started.as_second() > written.as_second() + SLACK_SECONDS {
        return stopped("exited", format!("its pid file `{path}` is stale: process {pid} is `{}`, which is younger", process.stat.name));
    }
    Ok(Some(Part {
        name: format!("{} ({pid})", process.stat.name),
        state: if process.stat.state == 'T' { "paused" } else { "running" }.to_owned(),
        health: "none".to_owned(),
        restarts: 0,
        started: Some(process.started),
        detail: None,
    }))
}

/// The process of a service that runs.
pub(super) fn running(name: &str, service: &Service) -> Result<Process> {
    let path = pid_file(name, service)?;
    let found = read_pid(path)?.map(|(pid, _)| process(pid)).transpose()?.flatten();
    found.ok_or_else(|| Error::new(Kind::Conflict, format!("service `{name}` does not run, by its pid file `{path}`")).target(name))
}

impl Process {
    /// What it used since `before`, so many seconds ago.
    pub(super) fn usage(&self, before: &Self, seconds: f64) -> Usage {
        let ticks = self.stat.ticks.saturating_sub(before.stat.ticks) as f64 / rustix::param::clock_ticks_per_second() as f64;
        let same = self.pid == before.pid && self.started == before.started;
        Usage {
            name: format!("{} ({})", self.stat.name, self.pid),
            cpu: same.then(|| (1000.0 * ticks / seconds).round() / 10.0),
            memory: Some(self.stat.memory),
            memory_percent: None,
            cpu_percent: None,
            processes: Some(self.stat.threads),
        }
    }
}

fn pid_file<'s>(name: &str, service: &'s Service) -> Result<&'s str> {
    service.pid_file.as_deref().ok_or_else(|| {
        Error::new(Kind::Config, format!("service `{name}` has no `pid_file`, by which a plain process is found"))
            .target(name)
            .hint(format!("add it to the system file: `[services.{name}] pid_file = \"/run/{name}.pid\"`"))
    })
}

/// The number in a pid file, and when it was written.
fn read_pid(path: &str) -> Result<Option<(u32, Timestamp)>> {
    let unreadable = |error: std::io::Error| Error::because(Kind::Remote, format_args!("pid file `{path}`"), &error).target(path);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let written = std::fs::metadata(path).and_then(|data| data.modified()).map_err(unreadable)?;
    let written = Timestamp::try_from(written).map_err(|error| Error::because(Kind::Remote, format_args!("pid file `{path}`"), &error))?;
    // Some write more after it, as PostgreSQL does; the first word is the number everywhere.
    let pid = text.split_whitespace().next().and_then(|word| word.parse().ok()).filter(|&pid| pid > 0);
    match pid {
        Some(pid) => Ok(Some((pid, written))),
        None => Err(Error::new(Kind::Invalid, format!("pid file `{path}` does not begin with the number of a process")).target(path)),
    }
}

fn process(pid: u32) -> Result<Option<Process>> {
    let Some(stat) = Stat::of(pid) else { return Ok(None) };
    let seconds = i64::try_from(stat.started / rustix::param::clock_ticks_per_second()).unwrap_or(i64::MAX);
    let started = Timestamp::from_second(booted()?.saturating_add(seconds))
        .map_err(|error| Error::because(Kind::Remote, format_args!("process {pid}"), &error))?;
    Ok(Some(Process { pid, started, stat }))
}

fn booted() -> Result<i64> {
    let failed = || Error::new(Kind::Remote, "`/proc/stat` does not say when the machine started");
    let text = std::fs::read_to_string("/proc/stat").map_err(|_| failed())?;
    text.lines().find_map(|line| line.strip_prefix("btime ")).and_then(|text| text.trim().parse().ok()).ok_or_else(failed)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Child, Command};

    use super::*;

    fn service(path: &Path) -> Service {
        Service { pid_file: Some(path.display().to_string()), ..Service::default() }
    }

    /// A process that ends when nobody holds its input any more.
    fn cat() -> Child {
        Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_process_is_found_by_its_pid_file_and_a_stale_one_is_told() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("a.pid");
        let service = service(&path);
        assert!(part("a", &service).unwrap().is_none());
        let mut child = cat();
        let pid = child.id();
        std::fs::write(&path, format!("{pid}\n")).unwrap();
        assert_eq!(part("a", &service).unwrap().unwrap().state, "running");
        drop(child.stdin.take());
        child.wait().unwrap();
        let gone = part("a", &service).unwrap().unwrap();
        assert_eq!(gone.detail.unwrap(), format!("its pid file `{}` is stale: there is no process {pid}", path.display()));
    }

    #[test]
    fn a_number_that_was_given_to_another_process_is_stale() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("a.pid");
        let mut child = cat();
        std::fs::write(&path, child.id().to_string()).unwrap();
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        let found = part("a", &service(&path)).unwrap().unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(found.state, "exited");
        assert!(found.detail.unwrap().contains("is `cat`, which is younger"));
    }
}
