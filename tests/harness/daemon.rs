//! A daemon in a project.

use std::process::{Child, Command, Stdio};

use super::{Project, wait_until};

/// A daemon under way. Dropped, it is killed.
pub(crate) struct Daemon {
    process: Child,
}

impl Project {
    /// Starts a daemon here, and waits until it can be asked.
    pub(crate) fn serve(&self) -> Daemon {
        self.serve_with(&[])
    }

    /// The same with more in its environment.
    pub(crate) fn serve_with(&self, environment: &[(&str, &str)]) -> Daemon {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(self.path().join("daemon.log")).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let process = super::prepared(self, "022", ["serve"].into_iter(), &environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut daemon = Daemon { process };
        let asked = || {
            Command::new(env!("CARGO_BIN_EXE_runbook"))
                .args(["status", "--json"])
                .env_clear()
                .env("RUNBOOK_STATE_DIR", self.state())
                .env("HOME", self.path())
                .output()
                .unwrap()
        };
        wait_until("the daemon answers", || {
            assert!(daemon.process.try_wait().unwrap().is_none(), "the daemon ended:\n{}", self.daemon_log());
            let pid = format!("\"pid\": {}", daemon.process.id());
            String::from_utf8_lossy(&asked().stdout).contains(&pid)
        });
        daemon
    }

    /// What the daemons of this project said.
    pub(crate) fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.path().join("daemon.log")).unwrap_or_default()
    }
}

impl Daemon {
    /// Its process number.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap().success());
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Waits for its end; its exit code.
    pub(crate) fn ends(mut self) -> Option<i32> {
        let mut code = None;
        wait_until("the daemon ends", || {
            code = self.process.try_wait().unwrap();
            code.is_some()
        });
        code.and_then(|status| status.code())
    }

    /// Stops it; it must end well.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.signal("TERM");
        assert_eq!(self.ends(), Some(0));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
