//! What the service manager is told: sd_notify(3), one datagram per message.

use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The service manager, if there is one that listens.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<String>,
    /// How often it wants to hear that the daemon is alive, and when it heard last.
    watchdog: Option<(Duration, Mutex<Instant>)>,
}

impl Manager {
    /// As `NOTIFY_SOCKET` and `WATCHDOG_USEC` say.
    pub fn new(socket: Option<&str>, watchdog_usec: Option<&str>) -> Self {
        let period = watchdog_usec.and_then(|text| text.parse().ok()).map(Duration::from_micros);
        // Half of what is allowed, as sd_watchdog_enabled(3) advises.
        let watchdog = period.filter(|period| !period.is_zero()).map(|period| (period / 2, Mutex::new(Instant::now())));
        Self { socket: socket.map(str::to_owned), watchdog }
    }

    pub(super) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    pub(super) fn reloading(&self) {
        self.tell("RELOADING=1");
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=waiting for steps under way");
    }

    /// Says so when it is time to.
    pub(super) fn alive(&self) {
        let Some((period, heard)) = &self.watchdog else { return };
        let mut heard = heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if heard.elapsed() >= *period {
            *heard = Instant::now();
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, text: &str) {
        let Some(socket) = &self.socket else { return };
        // A manager that does not listen is its own affair.
        let _ = send(socket, text);
    }
}

fn send(socket: &str, text: &str) -> std::io::Result<usize> {
    use std::os::linux::net::SocketAddrExt;
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_hears_of_every_change_at_a_path_or_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::new(path.to_str(), Some("0"));
        manager.ready();
        manager.alive();
        manager.stopping();
        let mut buffer = [0; 100];
        let mut next = || {
            let length = heard.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert_eq!(next(), "READY=1\nSTATUS=serving");
        assert!(next().starts_with("STOPPING=1\n"));
    }

    #[test]
    fn it_hears_that_the_daemon_is_alive_as_often_as_it_asked() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("runbook-test-{}", std::process::id());
        let heard = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let manager = Manager::new(Some(&format!("@{name}")), Some("2"));
        while manager.watchdog.as_ref().unwrap().1.lock().unwrap().elapsed() < Duration::from_micros(1) {}
        manager.alive();
        let mut buffer = [0; 100];
        assert_eq!(heard.recv(&mut buffer).unwrap(), "WATCHDOG=1".len());
    }

    #[test]
    fn without_a_manager_nobody_is_told() {
        Manager::default().ready();
        Manager::new(Some("/nowhere/at/all"), None).ready();
    }
}
