//! The moments of a schedule: civil time to instants, over both clock changes.
//!
//! A job of a fixed time means a moment on people's clocks. When clocks are put forward over it, it is the
//! first instant after that; when they are put back and show it twice, it is the first time. An interval means
//! real time: it has a moment whenever the clocks show one, skips what they skip and repeats what they repeat.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::model::{Calendar, Cron};

/// When a schedule is due.
#[derive(Debug, Clone)]
pub enum Timing {
    /// At moments of the calendar.
    Cron(Cron, TimeZone),
    /// Again after so much time, counted from 1970.
    Every(SignedDuration),
    /// Once.
    At(Timestamp),
}

/// A due moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub at: Timestamp,
    /// Whether clocks were put forward over the moment it stands for.
    pub after_gap: bool,
}

impl Due {
    fn plain(at: Timestamp) -> Self {
        Self { at, after_gap: false }
    }
}

impl Timing {
    /// The first due moment after this one; none when there is none any more.
    pub fn next(&self, after: Timestamp) -> Option<Due> {
        self.after(after).next()
    }

    /// The due moments after this one.
    pub fn after(&self, after: Timestamp) -> After<'_> {
        let calendar = match self {
            Self::Cron(cron, _) => Some((cron.calendar(), cron.is_fixed())),
            Self::Every(_) | Self::At(_) => None,
        };
        After { timing: self, calendar, after }
    }
}

/// The due moments after one, in order.
#[derive(Debug, Clone)]
pub struct After<'t> {
    timing: &'t Timing,
    /// Whether its times are fixed.
    calendar: Option<(Calendar, bool)>,
    after: Timestamp,
}

impl Iterator for After<'_> {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        let after = self.after;
        let due = match (self.timing, &self.calendar) {
            (Timing::Cron(_, zone), Some((calendar, true))) => fixed(calendar, zone, after),
            (Timing::Cron(_, zone), Some((calendar, false))) => interval(calendar, zone, after),
            (Timing::Every(every), _) => multiple(*every, after).map(Due::plain),
            (Timing::At(at), _) => (*at > after).then(|| Due::plain(*at)),
            (Timing::Cron(..), None) => None,
        }?;
        self.after = due.at;
        Some(due)
    }
}

/// Each civil moment that matches, as the one instant it stands for.
fn fixed(calendar: &Calendar, zone: &TimeZone, after: Timestamp) -> Option<Due> {
    let mut civil = zone.to_datetime(after);
    loop {
        civil = calendar.next(civil)?;
        let due = instant(civil, zone)?;
        // In the second pass of a fold, what is next on the clocks was in the first one already.
        if due.at > after {
            return Some(due);
        }
    }
}

fn instant(civil: DateTime, zone: &TimeZone) -> Option<Due> {
    match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            offset.to_timestamp(civil).ok().map(Due::plain)
        }
        AmbiguousOffset::Gap { after, .. } => {
            // By the later offset it is an instant before the change.
            let earlier = after.to_timestamp(civil).ok()?;
            let change = zone.following(earlier).next()?;
            Some(Due { at: change.timestamp(), after_gap: true })
        }
    }
}

/// Each instant at which the clocks show a moment that matches: the stretches between clock changes, one after the other.
fn interval(calendar: &Calendar, zone: &TimeZone, after: Timestamp) -> Option<Due> {
    let mut offset = zone.to_offset(after);
    let mut civil = offset.to_datetime(after);
    let mut changes = zone.following(after);
    loop {
        let next = calendar.next(civil).and_then(|civil| offset.to_timestamp(civil).ok());
        let Some(change) = changes.next() else { return next.map(Due::plain) };
        if let Some(at) = next.filter(|at| *at < change.timestamp()) {
            return Some(Due::plain(at));
        }
        // The calendar of the `cron` crate ends before that of the zones does.
        next?;
        (offset, civil) = (change.offset(), just_before(change.timestamp(), change.offset())?);
    }
}

/// The civil moment after which an instant is the first.
fn just_before(at: Timestamp, offset: Offset) -> Option<DateTime> {
    offset.to_datetime(at).checked_sub(SignedDuration::from_secs(1)).ok()
}

/// The first multiple of an interval after a moment, counted from 1970.
fn multiple(every: SignedDuration, after: Timestamp) -> Option<Timestamp> {
    let every = every.as_nanos();
    if every <= 0 {
        return None;
    }
    let next = (after.as_nanosecond().div_euclid(every) + 1).checked_mul(every)?;
    Timestamp::from_nanosecond(next).ok()
}
