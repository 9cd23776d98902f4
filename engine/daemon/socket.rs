//! The control socket: who may ask, and what is answered.

use std::io::BufReader;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::Daemon;
use crate::error::{Error, Kind, Result};
use crate::run::daemon::{Ask, Line, Said, Standing, VERSION, read_line, write_line};
use crate::run::process::comes_from_me;

/// How many may ask at the same time.
const MOST: usize = 64;
/// How long one may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers for as long as the process lives.
pub(super) fn serve(listener: UnixListener, daemon: Arc<Daemon>) {
    let under_way = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            if under_way.fetch_add(1, Ordering::Relaxed) >= MOST {
                under_way.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (daemon, under_way) = (daemon.clone(), under_way.clone());
            std::thread::spawn(move || {
                if let Err(error) = converse(stream, &daemon) {
                    tracing::debug!("a question over the socket: {error}");
                }
                under_way.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
}

fn converse(stream: UnixStream, daemon: &Daemon) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut out = stream.try_clone()?;
    let admitted = admit(&stream);
    let mut from = BufReader::new(stream);
    while let Some(line) = read_line(&mut from)? {
        let said = admitted.clone().and_then(|()| read(&line)).and_then(|ask| answer(ask, daemon));
        write_line(&mut out, &said.map_or_else(Said::Error, Said::Answer))?;
    }
    Ok(())
}

/// The user of the daemon may ask, and root. What a run started may not: it would be more than it was granted.
fn admit(stream: &UnixStream) -> Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)
        .map_err(|error| Error::because(Kind::Denied, "it is not known who asks", &std::io::Error::from(error)))?;
    let uid = peer.uid.as_raw();
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        return Err(Error::new(Kind::Denied, format!("user {uid} may not ask this daemon")));
    }
    if comes_from_me(u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or(0)) {
        return Err(Error::new(Kind::Denied, "what a run of the daemon started may not ask it").hint("use `run(…)` in the runbook"));
    }
    Ok(())
}

fn read(line: &str) -> Result<Ask> {
    let version = |value: &Value| value.get("version").and_then(Value::as_u64);
    let wrong = |error: serde_json::Error| Error::new(Kind::Usage, format!("the daemon was asked what is no question: {error}"));
    let value: Value = serde_json::from_str(line).map_err(wrong)?;
    if version(&value) != Some(u64::from(VERSION)) {
        let hint = "the command and the daemon are of different versions: restart the daemon";
        return Err(Error::new(Kind::Usage, format!("the daemon speaks version {VERSION} of its protocol")).hint(hint));
    }
    serde_json::from_value::<Line>(value).map(|line| line.ask).map_err(wrong)
}

fn answer(ask: Ask, daemon: &Daemon) -> Result<Value> {
    match ask {
        Ask::Run(order) => json(&daemon.runs.order(&order)?),
        Ask::Cancel { run, now } => daemon.runs.cancel(run, now).map(|()| Value::Null),
        Ask::Status => json(&standing(daemon)),
        Ask::Reload => daemon.reload().map(|_| Value::Null),
    }
}

fn standing(daemon: &Daemon) -> Standing {
    let (running, places) = daemon.runs.running();
    Standing {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        since: daemon.since,
        stopping: daemon.runs.is_closed(),
        running,
        places,
        queued: daemon.runs.queued(),
        schedules: daemon.timekeeper.standing(),
        watches: daemon.watches.standing(),
        listen: daemon.pages.address().map(|address| address.to_string()),
    }
}

fn json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::new(Kind::Bug, error.to_string()))
}
