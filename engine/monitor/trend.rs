//! Where things are going: a line through samples, the time until a limit, availability.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{Reading, Sample};

/// So many numbers make a line.
const FEWEST: usize = 5;
/// A line that explains less than this of what was seen explains nothing.
const WEAKEST: f64 = 0.5;

/// A line through samples by least squares, on their real times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Trend {
    /// By how much it changes in an hour.
    pub per_hour: f64,
    /// The value of the line at the last sample.
    pub now: f64,
    /// The share of what was seen that the line explains, from 0 to 1.
    pub r2: f64,
    /// How many numbers it goes through.
    pub count: usize,
    /// How many samples had none.
    pub unknown: usize,
    /// The time of the last sample.
    pub at: Timestamp,
}

/// What a trend says of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "outlook", rename_all = "kebab-case")]
pub enum Outlook {
    /// Not enough data.
    NotEnough,
    /// It goes up and down without a direction.
    NoTrend,
    /// It stays where it is, or goes away from the limit, or does not reach it in time.
    Safe,
    /// It is there already.
    Beyond,
    /// It gets there.
    Reaches {
        /// When.
        at: Timestamp,
        /// In how many hours from the last sample.
        hours: f64,
        /// How well the line explains what was seen.
        r2: f64,
    },
}

impl Trend {
    /// The line through these samples; nothing when they are too few or all of one moment.
    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 samples")]
    pub fn of(samples: &[Sample]) -> Option<Self> {
        let last = samples.last()?.at;
        let hours = |at: Timestamp| last.duration_since(at).as_secs_f64() / -3600.0;
        let points: Vec<(f64, f64)> =
            samples.iter().filter_map(|sample| sample.value.number().map(|number| (hours(sample.at), number))).collect();
        if points.len() < FEWEST {
            return None;
        }
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
        let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y)| of(x - mean_x, y - mean_y)).sum::<f64>();
        let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
        if xx <= 0.0 {
            return None;
        }
        let per_hour = xy / xx;
        // A flat line explains all there is to explain of what never changed.
        let r2 = if yy <= f64::EPSILON { 1.0 } else { (xy * xy / (xx * yy)).clamp(0.0, 1.0) };
        let unknown = samples.len() - points.len();
        Some(Self { per_hour, now: mean_y - per_hour * mean_x, r2, count: points.len(), unknown, at: last })
    }

    /// When the line meets a limit, if that is within the horizon. `below` says that small values are the bad ones.
    pub fn outlook(&self, limit: f64, below: bool, horizon: SignedDuration) -> Outlook {
        let (way, speed) = if below { (self.now - limit, -self.per_hour) } else { (limit - self.now, self.per_hour) };
        if way < 0.0 {
            return Outlook::Beyond;
        }
        if self.r2 < WEAKEST {
            return Outlook::NoTrend;
        }
        let hours = way / speed;
        if speed <= 0.0 || !hours.is_finite() || hours > horizon.as_secs_f64() / 3600.0 {
            return Outlook::Safe;
        }
        let span = SignedDuration::try_from_secs_f64(hours * 3600.0).ok();
        let at = span.and_then(|span| self.at.checked_add(span).ok());
        at.map_or(Outlook::Safe, |at| Outlook::Reaches { at, hours, r2: self.r2 })
    }
}

/// What samples say of a limit.
pub fn outlook(samples: &[Sample], limit: f64, below: bool, horizon: SignedDuration) -> Outlook {
    Trend::of(samples).map_or(Outlook::NotEnough, |trend| trend.outlook(limit, below, horizon))
}

/// How much of a time something was up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Availability {
    /// Seconds it was up.
    pub up: f64,
    /// Seconds it was down.
    pub down: f64,
    /// Seconds nobody knows of: before the first sample, after unknown ones, and in gaps.
    pub unknown: f64,
}

impl Availability {
    /// What samples say, 0 being down and all else up. Each holds until the next one, but no longer than
    /// `longest`; what follows is unknown.
    pub fn of(samples: &[Sample], from: Timestamp, to: Timestamp, longest: SignedDuration) -> Self {
        let mut seen = Self::default();
        let mut covered = from;
        for (index, sample) in samples.iter().enumerate().filter(|(_, sample)| sample.at < to) {
            let next = samples.get(index + 1).map_or(to, |next| next.at).min(to);
            let until = sample.at.checked_add(longest).map_or(next, |limit| limit.min(next));
            let start = sample.at.max(covered);
            if until <= start {
                continue;
            }
            seen.unknown += start.duration_since(covered).as_secs_f64();
            let seconds = until.duration_since(start).as_secs_f64();
            match sample.value {
                Reading::Known(0.0) => seen.down += seconds,
                Reading::Known(_) => seen.up += seconds,
                Reading::Unknown => seen.unknown += seconds,
            }
            covered = until;
        }
        seen.unknown += to.duration_since(covered).as_secs_f64().max(0.0);
        seen
    }

    /// The per cent of the known time it was up; nothing when nothing is known.
    pub fn percent(&self) -> Option<f64> {
        let known = self.up + self.down;
        (known > 0.0).then(|| self.up / known * 100.0)
    }

    /// The seconds it may be down in this time for a target in per cent, and how much of them is left, which
    /// is below 0 when it was down for longer.
    pub fn budget(&self, target: f64) -> (f64, f64) {
        let allowed = (self.up + self.down + self.unknown) * (1.0 - target / 100.0);
        (allowed, allowed - self.down)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    fn samples(values: impl IntoIterator<Item = (i64, Option<f64>)>) -> Vec<Sample> {
        values.into_iter().map(|(seconds, value)| Sample { at: at(seconds), value: value.into() }).collect()
    }

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    #[test]
    fn a_line_to_ninety_in_six_hours_gets_there_in_six_hours() {
        // From 60 to 80 in four hours, with gaps and readings that failed.
        let rising = samples((0..240).filter(|minute| minute % 7 != 3).map(|minute| {
            let value = 60.0 + f64::from(minute) * 20.0 / 240.0;
            (i64::from(minute) * 60, (minute % 11 != 0).then_some(value))
        }));
        let trend = Trend::of(&rising).unwrap();
        assert!((trend.per_hour - 5.0).abs() < 1e-6 && trend.r2 > 0.999 && trend.unknown > 0, "{trend:?}");
        let Outlook::Reaches { hours, r2, .. } = trend.outlook(110.0, false, DAY) else { panic!() };
        assert!((hours - 6.0).abs() < 0.1 && r2 > 0.999, "{hours}");
        assert_eq!(trend.outlook(110.0, false, SignedDuration::from_hours(5)), Outlook::Safe);
    }

    #[test]
    fn noise_has_no_trend_and_flat_is_safe() {
        let noise = samples((0..100).map(|minute| (i64::from(minute) * 60, Some(f64::from(minute * 7919 % 31)))));
        assert_eq!(outlook(&noise, 90.0, false, DAY), Outlook::NoTrend);
        let flat = samples((0..100).map(|minute| (minute * 60, Some(42.0))));
        assert_eq!(outlook(&flat, 90.0, false, DAY), Outlook::Safe);
        assert_eq!(outlook(&flat, 40.0, false, DAY), Outlook::Beyond);
    }

    #[test]
    fn what_falls_reaches_a_limit_below_it() {
        let falling = samples((0..48).map(|hour| (i64::from(hour) * 3600, Some(100.0 - f64::from(hour)))));
        let Outlook::Reaches { hours, .. } = outlook(&falling, 50.0, true, DAY) else { panic!() };
        assert!((hours - 3.0).abs() < 1e-6);
        assert_eq!(outlook(&falling, 200.0, false, DAY), Outlook::Safe, "it goes away from it");
    }

    #[test]
    fn too_little_is_said_to_be_too_little() {
        assert_eq!(outlook(&[], 90.0, false, DAY), Outlook::NotEnough);
        assert_eq!(outlook(&samples((0..4).map(|index| (index, Some(1.0)))), 90.0, false, DAY), Outlook::NotEnough);
        assert_eq!(outlook(&samples((0..99).map(|index| (index, None))), 90.0, false, DAY), Outlook::NotEnough);
        assert_eq!(outlook(&samples((0..9).map(|_| (0, Some(1.0)))), 90.0, false, DAY), Outlook::NotEnough);
    }

    #[test]
    fn fifteen_minutes_in_a_week_are_99_85_per_cent() {
        let week = 7 * 24 * 3600;
        let up = samples((0..week / 60).map(|minute| (minute * 60, Some(if (100..115).contains(&minute) { 0.0 } else { 1.0 }))));
        let seen = Availability::of(&up, at(0), at(week), SignedDuration::from_mins(3));
        assert_eq!((seen.down, seen.unknown), (900.0, 0.0));
        assert!((seen.percent().unwrap() - 99.85).abs() < 0.002);
        let (allowed, left) = seen.budget(99.9);
        assert!((allowed - 604.8).abs() < 1e-6 && (left + 295.2).abs() < 1e-6);
    }

    #[test]
    fn what_nobody_saw_is_neither_up_nor_down() {
        let seen = samples([(100, Some(1.0)), (160, None), (220, Some(1.0)), (1000, Some(0.0))]);
        let availability = Availability::of(&seen, at(0), at(1100), SignedDuration::from_secs(120));
        assert_eq!(availability, Availability { up: 60.0 + 120.0, down: 100.0, unknown: 100.0 + 60.0 + 660.0 });
        assert_eq!(Availability::of(&[], at(0), at(60), SignedDuration::from_secs(120)).percent(), None);
    }
}
