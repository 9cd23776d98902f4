//! What scripts ask of samples, and add to them.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::error::Result;
use crate::model::{Bucket, Curve, Reading, Sample, Selector, Series, Span, System, Track};
use crate::monitor::own::Own;
use crate::monitor::sampler::with_jobs;
use crate::monitor::trend::{Availability, Outlook, Trend};

/// Samples are there as they came for a little longer; what is older is asked in spans.
const RAW: SignedDuration = SignedDuration::from_hours(47);
/// The length of the spans of a month, and of those of a year.
const MINUTES: Span = Span::secs(300);
const HOURS: Span = Span::secs(3600);
const MONTH: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Samples as they came, or in spans of `step`.
pub(super) fn range(own: Own<'_>, selector: &str, from: Timestamp, to: Timestamp, step: Option<Span>) -> Result<Value> {
    let selector = selector.parse()?;
    let Some(step) = step else {
        let tracks = own.tracks(&selector, from, to)?;
        return Ok(tracks.iter().map(|track| named(&track.series, listed(&track.samples, sample))).collect());
    };
    let curves = own.curves(&selector, from, to, step)?;
    Ok(curves.iter().map(|curve| named(&curve.series, listed(&curve.buckets, bucket))).collect())
}

/// A window of the samples of a selector.
pub(super) struct Window<'a> {
    pub(super) own: Own<'a>,
    pub(super) selector: &'a str,
    pub(super) span: Span,
    pub(super) now: Timestamp,
}

impl Window<'_> {
    /// The newest sample of each series.
    pub(super) fn last(&self) -> Result<Value> {
        self.each(|track| last(track, self.now))
    }

    /// What its samples come to.
    pub(super) fn stats(&self) -> Result<Value> {
        self.each(stats)
    }

    /// Where its series are going.
    pub(super) fn trend(&self, limit: Option<f64>, below: bool, horizon: Span) -> Result<Value> {
        self.each(|track| trend(track, limit, below, horizon.signed()))
    }

    /// How much of it the series were up.
    pub(super) fn availability(&self, target: Option<f64>, holds: Span) -> Result<Value> {
        let (from, selector) = (self.from(), self.selector.parse()?);
        let told = |series: &Series, seen: Availability| {
            let budget = target.map(|target| seen.budget(target));
            let (allowed, left) = (budget.map(|budget| budget.0), budget.map(|budget| budget.1));
            named(
                series,
                json!({
                    "up_s": seen.up, "down_s": seen.down, "unknown_s": seen.unknown, "percent": seen.percent(),
                    "budget_s": allowed, "left_s": left,
                }),
            )
        };
        if self.span.signed() <= RAW {
            let tracks = self.own.tracks(&selector, from, self.now)?;
            let seen = |track: &Track| told(&track.series, Availability::of(&track.samples, from, self.now, holds.signed()));
            return Ok(tracks.iter().map(seen).collect());
        }
        let step = spans(self.span);
        let curves = self.own.curves(&selector, from, self.now, step)?;
        Ok(curves.iter().map(|curve| told(&curve.series, by_spans(&curve.buckets, step, from, self.now))).collect())
    }

    /// Something of each series; of a long window by the means of its spans.
    fn each(&self, of: impl Fn(&Track) -> Value) -> Result<Value> {
        let (from, selector): (_, Selector) = (self.from(), self.selector.parse()?);
        let step = spans(self.span);
        let tracks = match self.span.signed() <= RAW {
            true => self.own.tracks(&selector, from, self.now)?,
            false => self.own.curves(&selector, from, self.now, step)?.into_iter().map(|curve| means(curve, step)).collect(),
        };
        Ok(tracks.iter().map(|track| named(&track.series, of(track))).collect())
    }

    fn from(&self) -> Timestamp {
        self.span.before(self.now)
    }
}

/// Keeps samples; those of services also under the jobs that rules know them by.
pub(super) fn append(own: Own<'_>, system: &System, given: Vec<(Series, Option<f64>, Option<Timestamp>)>, now: Timestamp) -> Result<Value> {
    let known_as = |(series, value, at): (Series, Option<f64>, Option<Timestamp>)| {
        let at = at.unwrap_or(now);
        with_jobs(system, vec![(series, value.into())]).into_iter().map(move |(series, value)| (series, Sample { at, value }))
    };
    let appended = own.append(given.into_iter().flat_map(known_as))?;
    Ok(json!({ "kept": appended.kept, "known": appended.known, "refused": appended.refused }))
}

/// The spans a long window is asked in.
fn spans(window: Span) -> Span {
    if window.signed() <= MONTH { MINUTES } else { HOURS }
}

fn named(series: &Series, mut about: Value) -> Value {
    about["series"] = series.to_string().into();
    about["name"] = series.name.clone().into();
    about["labels"] = json!(series.labels);
    about
}

fn listed<T>(samples: &[T], one: impl Fn(&T) -> Value) -> Value {
    json!({ "samples": samples.iter().map(one).collect::<Value>() })
}

fn sample(sample: &Sample) -> Value {
    json!({ "at": sample.at, "value": sample.value.number() })
}

fn bucket(bucket: &Bucket) -> Value {
    json!({
        "at": bucket.at, "count": bucket.count, "unknown": bucket.unknown, "min": bucket.min.number(), "max": bucket.max.number(),
        "mean": bucket.mean.number(), "last": bucket.last.number(),
    })
}

/// A curve as samples in the middle of its spans.
fn means(curve: Curve, step: Span) -> Track {
    let middle = |at: Timestamp| at.checked_add(step.signed() / 2).unwrap_or(at);
    let samples = curve.buckets.iter().map(|bucket| Sample { at: middle(bucket.at), value: bucket.mean });
    Track { series: curve.series, samples: samples.collect() }
}

fn last(track: &Track, now: Timestamp) -> Value {
    let last = track.samples.last();
    json!({
        "at": last.map(|last| last.at), "value": last.and_then(|last| last.value.number()),
        "age_s": last.map(|last| now.duration_since(last.at).as_secs_f64()),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a window has no 2^53 samples")]
fn stats(track: &Track) -> Value {
    let known: Vec<(Timestamp, f64)> =
        track.samples.iter().filter_map(|sample| sample.value.number().map(|number| (sample.at, number))).collect();
    let mut sorted: Vec<f64> = known.iter().map(|(_, number)| *number).collect();
    sorted.sort_by(f64::total_cmp);
    let sum: f64 = sorted.iter().sum();
    let count = sorted.len();
    let (increase, seconds) = increase(&known);
    json!({
        "count": count, "unknown": track.samples.len() - count,
        "avg": (count > 0).then(|| sum / count as f64), "sum": (count > 0).then_some(sum),
        "min": sorted.first(), "max": sorted.last(),
        "p50": quantile(&sorted, 0.5), "p95": quantile(&sorted, 0.95), "p99": quantile(&sorted, 0.99),
        "first": known.first().map(|(_, number)| *number),
        "last": track.samples.last().and_then(|sample| sample.value.number()),
        "increase": (seconds > 0.0).then_some(increase), "rate": (seconds > 0.0).then(|| increase / seconds),
    })
}

/// By how much a counter grew, over how many seconds; it begins at 0 again when what counts was started again.
fn increase(known: &[(Timestamp, f64)]) -> (f64, f64) {
    let grown = known.windows(2).map(|pair| if pair[1].1 < pair[0].1 { pair[1].1 } else { pair[1].1 - pair[0].1 }).sum();
    let seconds = known.first().zip(known.last()).map_or(0.0, |(first, last)| last.0.duration_since(first.0).as_secs_f64());
    (grown, seconds)
}

/// The smallest value that so many are not above.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = (sorted.len() as f64 * share).ceil().max(1.0) as usize - 1;
    sorted.get(place).copied()
}

fn trend(track: &Track, limit: Option<f64>, below: bool, horizon: SignedDuration) -> Value {
    let line = Trend::of(&track.samples);
    let outlook = limit.map(|limit| line.map_or(Outlook::NotEnough, |line| line.outlook(limit, below, horizon)));
    let (at, hours) = match outlook {
        Some(Outlook::Reaches { at, hours, .. }) => (Some(at), Some(hours)),
        _ => (None, None),
    };
    json!({
        "per_hour": line.map(|line| line.per_hour), "now": line.map(|line| line.now), "r2": line.map(|line| line.r2),
        "count": line.map_or(track.samples.iter().filter(|sample| sample.value != Reading::Unknown).count(), |line| line.count),
        "unknown": track.samples.iter().filter(|sample| sample.value == Reading::Unknown).count(),
        "at": track.samples.last().map(|last| last.at),
        "outlook": outlook.map(|outlook| json!(outlook)["outlook"].clone()), "reaches_at": at, "hours": hours,
    })
}

/// How much of a time something was up, by spans: of each the share its numbers tell.
#[expect(clippy::cast_precision_loss, reason = "a span has no 2^53 samples")]
fn by_spans(buckets: &[Bucket], step: Span, from: Timestamp, to: Timestamp) -> Availability {
    let mut seen = Availability::default();
    for bucket in buckets {
        let end = bucket.at.checked_add(step.signed()).map_or(to, |end| end.min(to));
        let seconds = end.duration_since(bucket.at.max(from)).as_secs_f64().max(0.0);
        let known = bucket.count as f64 / (bucket.count + bucket.unknown).max(1) as f64;
        let up = bucket.mean.number().unwrap_or(0.0).clamp(0.0, 1.0);
        seen.up += seconds * known * up;
        seen.down += seconds * known * (1.0 - up);
    }
    seen.unknown = (to.duration_since(from).as_secs_f64() - seen.up - seen.down).max(0.0);
    seen
}
