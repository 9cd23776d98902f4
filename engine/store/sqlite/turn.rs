//! Whose turn it is to write.
//!
//! SQLite lets a process that finds the database locked look again after a while; with many at once the newest,
//! which look most often, go first, and the oldest give up. The kernel lets them queue.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::store::Claim;

/// How long to queue. A commit takes milliseconds: whoever holds the lock this long was stopped, or its disk was.
const PATIENCE: Duration = Duration::from_secs(60);

/// The queue of everyone who writes to a database.
#[derive(Debug)]
pub(super) struct Queue(PathBuf);

impl Queue {
    /// The queue of the database in this file.
    pub(super) fn of(database: &Path) -> Self {
        Self(database.with_extension("turn"))
    }

    /// Waits for the turn of this process.
    ///
    /// # Errors
    ///
    /// `store`, when it does not come, or the queue can not be opened.
    pub(super) fn wait(&self) -> Result<Claim> {
        let failed = |error: std::io::Error| Error::because(Kind::Store, format_args!("`{}`", self.0.display()), &error);
        if let Some(turn) = Claim::take(&self.0).map_err(failed)? {
            return Ok(turn);
        }
        let (sender, turn) = channel();
        let hand_over = move |turn| {
            // Whoever gave up wants it no more.
            let _ = sender.send(turn);
        };
        Claim::queue(&self.0, hand_over).map_err(failed)?;
        match turn.recv_timeout(PATIENCE) {
            Ok(turn) => turn.map_err(failed),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let message = format!("another process has been writing for more than {} seconds", PATIENCE.as_secs());
                Err(Error::new(Kind::Store, message).hint(format!("`fuser {}` tells which; try again when it is gone", self.0.display())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nobody_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("runbook.db");
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let turn = Queue::of(&database).wait().unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        assert_eq!(inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst), 1);
                        drop(turn);
                    }
                });
            }
        });
    }
}
