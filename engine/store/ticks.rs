//! Ticks of schedules, and what is kept of a schedule beside them.

use jiff::Timestamp;

use crate::error::{Error, Kind, Result};
use crate::model::{Pause, Reason, ScheduleState, Tick};

/// Ticks and the state of schedules, part of every store.
pub trait Ticks {
    /// Writes ticks, all or none, and returns for each whether it was new: a tick is its schedule and its
    /// due moment, and one that is there already stays as it is. A new one that was skipped because a
    /// person asked for it uses up one of the skips of its schedule. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `store`; nothing was written then.
    fn keep_ticks(&self, ticks: &[Tick]) -> Result<Vec<bool>>;

    /// Says what became of pending ticks, all or none. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `not_found` for a tick that is not there, `conflict` for one that is not pending; `store`. Nothing
    /// changed then.
    fn settle_ticks(&self, ticks: &[Tick]) -> Result<()>;

    /// The ticks that are to start and did not, the first due first.
    ///
    /// # Errors
    ///
    /// `store`.
    fn pending_ticks(&self) -> Result<Vec<Tick>>;

    /// Ticks, the last due first.
    ///
    /// # Errors
    ///
    /// `store`.
    fn ticks(&self, filter: &TickFilter) -> Result<Vec<Tick>>;

    /// What is kept of every schedule, with its last due moment.
    ///
    /// # Errors
    ///
    /// `store`.
    fn schedule_states(&self) -> Result<Vec<ScheduleState>>;

    /// The schedules that are paused, or have ticks to skip; `SYSTEM/*` and `*` among them.
    ///
    /// # Errors
    ///
    /// `store`.
    fn held_schedules(&self) -> Result<Vec<ScheduleState>>;

    /// Keeps the rules that schedules have, each since when. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `store`; nothing was kept then.
    fn keep_rules(&self, rules: &[(String, String, Timestamp)]) -> Result<()>;

    /// Pauses a schedule, or lets it go on. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `store`; nothing changed then.
    fn pause_schedule(&self, schedule: &str, pause: Option<&Pause>) -> Result<()>;

    /// Says how many of its next ticks are skipped. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `store`; nothing changed then.
    fn skip_ticks(&self, schedule: &str, count: u32) -> Result<()>;

    /// Forgets ticks that were due before this, and returns how many; those that are pending and the
    /// last one of each schedule stay.
    ///
    /// # Errors
    ///
    /// `store`; nothing was forgotten then.
    fn prune_ticks(&self, before: Timestamp) -> Result<u64>;
}

/// Which ticks to list.
#[derive(Debug, Clone, Default)]
pub struct TickFilter {
    /// Only of this schedule.
    pub schedule: Option<String>,
    /// Only due at or after this.
    pub since: Option<Timestamp>,
    /// Only due before this.
    pub before: Option<Timestamp>,
    /// At most so many; all when 0.
    pub limit: u32,
}

/// Whether it uses up a skip.
pub(super) fn asked_for(tick: &Tick) -> bool {
    tick.outcome.cause().is_some_and(|cause| cause.reason == Reason::Asked)
}

pub(super) fn unknown_tick(tick: &Tick) -> Error {
    Error::new(Kind::NotFound, format!("there is no tick of `{}` at {}", tick.schedule, tick.due))
}

pub(super) fn settled(tick: &Tick, outcome: &str) -> Error {
    Error::new(Kind::Conflict, format!("the tick of `{}` at {} is {outcome} already", tick.schedule, tick.due)).permanent()
}
