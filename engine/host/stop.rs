//! Why a run has to stop: asked after every statement of a script and watched by every wait.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Why a run has to stop. None of these can be caught by a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Someone cancelled it.
    Cancelled,
    /// It took longer than it may.
    Time,
    /// It used more memory than it may.
    Memory,
    /// The programs it started were more processes than it may have.
    Processes,
    /// The programs it started held more memory together than they may.
    ProgramMemory,
    /// The supervisor is gone, or the record can not be written.
    Lost,
    /// A person has to look first. Nothing is taken back.
    Halted,
}

impl StopReason {
    /// One line for people.
    pub fn message(self) -> &'static str {
        match self {
            Self::Cancelled => "the run was cancelled",
            Self::Time => "limit: time: the run took longer than it may",
            Self::Memory => "limit: memory: the run used more memory than it may",
            Self::Processes => "limit: processes: the run had more processes than `limits.processes` allows",
            Self::ProgramMemory => "limit: memory: the programs of the run held more memory than `limits.program_memory` allows",
            Self::Lost => "the run lost its supervisor",
            Self::Halted => "the run was halted",
        }
    }
}

/// The stop signal of one run: sticky until the clean-up begins.
#[derive(Debug)]
pub struct Stop {
    sender: watch::Sender<Option<StopReason>>,
    deadline: Mutex<Option<Instant>>,
    /// Nanoseconds from `born` to the deadline, `u64::MAX` without one; read after every statement.
    deadline_fast: AtomicU64,
    born: Instant,
}

impl Stop {
    /// A signal that fires by itself after `limit`, if there is one.
    pub fn new(limit: Option<Duration>) -> Self {
        let stop = Self {
            sender: watch::Sender::new(None),
            deadline: Mutex::new(None),
            deadline_fast: AtomicU64::new(u64::MAX),
            born: Instant::now(),
        };
        stop.set_limit(limit);
        stop
    }

    fn set_limit(&self, limit: Option<Duration>) {
        let now = Instant::now();
        let deadline = limit.and_then(|limit| now.checked_add(limit));
        let nanos = deadline.map_or(u64::MAX, |deadline| u64::try_from((deadline - self.born).as_nanos()).unwrap_or(u64::MAX - 1));
        *self.deadline.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = deadline;
        self.deadline_fast.store(nanos, Ordering::Relaxed);
    }

    /// Asks the run to stop. The first reason stays.
    pub fn stop(&self, reason: StopReason) {
        self.sender.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        });
    }

    /// Why the run has to stop, if it has to.
    pub fn reason(&self) -> Option<StopReason> {
        if let Some(reason) = *self.sender.borrow() {
            return Some(reason);
        }
        let limit = self.deadline_fast.load(Ordering::Relaxed);
        if limit != u64::MAX && self.born.elapsed().as_nanos() >= u128::from(limit) {
            self.stop(StopReason::Time);
            return *self.sender.borrow();
        }
        None
    }

    /// Returns when the run has to stop.
    pub async fn stopped(&self) -> StopReason {
        let mut receiver = self.sender.subscribe();
        loop {
            if let Some(reason) = *receiver.borrow_and_update() {
                return reason;
            }
            let deadline = *self.deadline.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let timer = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = receiver.changed() => {}
                () = timer => self.stop(StopReason::Time),
            }
        }
    }

    /// Forgets the reason so that compensations can run, for at most `grace`.
    pub fn begin_cleanup(&self, grace: Duration) {
        self.set_limit(Some(grace));
        self.sender.send_replace(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let stop = Stop::new(None);
        assert_eq!(stop.reason(), None);
        stop.stop(StopReason::Cancelled);
        stop.stop(StopReason::Memory);
        assert_eq!(stop.reason(), Some(StopReason::Cancelled));
    }

    #[test]
    fn a_passed_deadline_is_a_reason() {
        assert_eq!(Stop::new(Some(Duration::ZERO)).reason(), Some(StopReason::Time));
    }

    #[tokio::test]
    async fn a_wait_ends_at_the_deadline() {
        assert_eq!(Stop::new(Some(Duration::from_millis(5))).stopped().await, StopReason::Time);
    }

    #[test]
    fn clean_up_runs_after_a_stop_and_ends_too() {
        let stop = Stop::new(None);
        stop.stop(StopReason::Cancelled);
        stop.begin_cleanup(Duration::from_secs(60));
        assert_eq!(stop.reason(), None);
        stop.stop(StopReason::Cancelled);
        assert_eq!(stop.reason(), Some(StopReason::Cancelled));
    }
}
