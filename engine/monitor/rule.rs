//! What a rule says of samples at one moment.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::error::Result;
use crate::model::system::{Over, Rule, RuleKind};
use crate::model::{Labels, Reading, Sample, Selector, Span, Track};

/// How long a sample counts when the rule does not say how long its series may be absent; as in Prometheus.
const FRESH: SignedDuration = SignedDuration::from_mins(5);

/// What a rule says of the series with some labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    /// It is beyond the limit.
    Beyond(f64),
    /// It is back at the limit, but not at the level that ends an alarm.
    Between(f64),
    /// All is well.
    Within(f64),
    /// Too little happens to say anything, or it is divided by nothing.
    Idle,
    /// There is no number: since when, as far as the samples tell.
    Unknown(Option<Timestamp>),
    /// The series has ended: when.
    Gone(Timestamp),
}

/// Which samples a rule is about.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The series.
    pub series: Selector,
    /// What it is divided by.
    pub total: Option<Selector>,
    /// How far back samples matter.
    pub reach: SignedDuration,
}

impl Sources {
    /// The samples of a rule.
    ///
    /// # Errors
    ///
    /// `invalid` for what is no selector.
    pub fn of(rule: &Rule) -> Result<Self> {
        let total = rule.total.as_ref().map(|text| text.parse()).transpose()?;
        // Twice, so that the end of a series can be told from there being none.
        Ok(Self { series: rule.series.parse()?, total, reach: (fresh(rule) * 2).max(window(rule)) })
    }
}

/// How long a sample of a rule's series counts.
pub fn fresh(rule: &Rule) -> SignedDuration {
    rule.no_data.map_or(FRESH, Span::signed)
}

fn window(rule: &Rule) -> SignedDuration {
    rule.window.map_or(FRESH, Span::signed)
}

/// What a rule says of these samples at this moment, by the labels it keeps apart.
///
/// The samples are those of its [`Sources`]; more do no harm. Nothing at all means that there are none.
pub fn judge(rule: &Rule, series: &[Track], total: &[Track], now: Timestamp) -> BTreeMap<Labels, Answer> {
    let at = Moment { now, fresh: fresh(rule), window: window(rule), over: rule.over };
    let found = match rule.kind {
        RuleKind::Down => apart(series, |track| at.newest(track)),
        RuleKind::Value if rule.by.is_empty() => apart(series, |track| at.value(track)),
        RuleKind::Value => sums(series, &rule.by, |track| at.value(track)),
        RuleKind::Rate => sums(series, &rule.by, |track| at.rate(track)),
        RuleKind::Busy => grouped(series, &rule.by, |track| at.rate(track), |rates| 1.0 - mean(rates)),
        RuleKind::Share => shares(&at, series, total, |share| share),
        RuleKind::Used => shares(&at, series, total, |share| 1.0 - share),
        RuleKind::Ratio => ratios(&at, rule, series, total),
        RuleKind::Quantile => quantiles(&at, rule, series),
    };
    found.into_iter().map(|(labels, value)| (labels, answer(rule, value))).collect()
}

/// What a rule says of those of these samples that it would be given at a moment.
pub fn look(rule: &Rule, sources: &Sources, tracks: &[Track], now: Timestamp) -> BTreeMap<Labels, Answer> {
    let from = now.checked_sub(sources.reach).unwrap_or(Timestamp::MIN);
    let part = |track: &Track| {
        let first = track.samples.partition_point(|sample| sample.at < from);
        let last = track.samples.partition_point(|sample| sample.at <= now);
        Track { series: track.series.clone(), samples: track.samples[first..last].to_vec() }
    };
    let selected = |selector: &Selector| {
        let tracks = tracks.iter().filter(|track| selector.selects(&track.series)).map(part);
        tracks.filter(|track| !track.samples.is_empty()).collect::<Vec<_>>()
    };
    let total = sources.total.as_ref().map(selected).unwrap_or_default();
    judge(rule, &selected(&sources.series), &total, now)
}

/// What is computed before it is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Number(f64),
    Idle,
    Unknown(Option<Timestamp>),
    Gone(Timestamp),
}

fn answer(rule: &Rule, value: Value) -> Answer {
    let number = match value {
        Value::Number(number) if number.is_finite() => number * rule.scale.unwrap_or(1.0),
        Value::Number(_) => return Answer::Unknown(None),
        Value::Idle => return Answer::Idle,
        Value::Unknown(since) => return Answer::Unknown(since),
        Value::Gone(since) => return Answer::Gone(since),
    };
    let (beyond, back) = match (rule.kind, rule.above, rule.below) {
        (RuleKind::Down, ..) => (number == 0.0, number != 0.0),
        (_, Some(above), _) => (number > above, number <= rule.clear.unwrap_or(above)),
        (_, None, Some(below)) => (number < below, number >= rule.clear.unwrap_or(below)),
        (_, None, None) => (false, true),
    };
    match (beyond, back) {
        (true, _) => Answer::Beyond(number),
        (false, true) => Answer::Within(number),
        (false, false) => Answer::Between(number),
    }
}

/// A moment, and how far back samples count.
struct Moment {
    now: Timestamp,
    fresh: SignedDuration,
    window: SignedDuration,
    over: Option<Over>,
}

impl Moment {
    /// What the last sample gave.
    fn newest(&self, track: &Track) -> Value {
        let Some(last) = track.samples.iter().rfind(|sample| sample.at <= self.now) else {
            return Value::Unknown(None);
        };
        if self.now.duration_since(last.at) > self.fresh {
            return Value::Gone(last.at);
        }
        match last.value {
            Reading::Known(number) => Value::Number(number),
            Reading::Unknown => Value::Unknown(self.unknown_since(track)),
        }
    }

    /// When the samples that gave nothing began.
    fn unknown_since(&self, track: &Track) -> Option<Timestamp> {
        let past = || track.samples.iter().filter(|sample| sample.at <= self.now);
        let last_known = past().rfind(|sample| sample.value != Reading::Unknown).map(|sample| sample.at);
        past().find(|sample| last_known.is_none_or(|known| sample.at > known)).map(|sample| sample.at)
    }

    /// The numbers within the window, the oldest first.
    fn numbers<'t>(&self, track: &'t Track) -> impl Iterator<Item = (Timestamp, f64)> + use<'t> {
        let (now, window) = (self.now, self.window);
        let inside = move |sample: &&Sample| sample.at <= now && now.duration_since(sample.at) <= window;
        track.samples.iter().filter(inside).filter_map(|sample| sample.value.number().map(|number| (sample.at, number)))
    }

    /// The last value, or what the rule wants of the window.
    fn value(&self, track: &Track) -> Value {
        let (Some(over), newest @ Value::Number(_)) = (self.over, self.newest(track)) else { return self.newest(track) };
        let numbers: Vec<f64> = self.numbers(track).map(|(_, number)| number).collect();
        let value = match over {
            Over::Mean => Some(mean(&numbers)),
            Over::Max => numbers.into_iter().reduce(f64::max),
            Over::Min => numbers.into_iter().reduce(f64::min),
        };
        value.map_or(newest, Value::Number)
    }

    /// The increase per second of a counter, which begins at 0 again when what counts was started again.
    fn rate(&self, track: &Track) -> Value {
        let newest = self.newest(track);
        let Value::Number(_) = newest else { return newest };
        let mut numbers = self.numbers(track);
        let Some((first, mut before)) = numbers.next() else { return Value::Unknown(None) };
        let (mut last, mut increase) = (first, 0.0);
        for (at, number) in numbers {
            increase += if number < before { number } else { number - before };
            (last, before) = (at, number);
        }
        match last.duration_since(first).as_secs_f64() {
            // One sample says nothing of speed; another follows or the series ends.
            seconds if seconds <= 0.0 => Value::Unknown(Some(first)),
            seconds => Value::Number(increase / seconds),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a window has no 2^53 samples")]
fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

/// Each series on its own.
fn apart(series: &[Track], value: impl Fn(&Track) -> Value) -> BTreeMap<Labels, Value> {
    series.iter().map(|track| (track.series.labels.clone(), value(track))).collect()
}

fn sums(series: &[Track], by: &[String], value: impl Fn(&Track) -> Value) -> BTreeMap<Labels, Value> {
    grouped(series, by, value, |numbers| numbers.iter().sum())
}

/// Series with the same labels `by` together. One that has ended is not part of it any more; one that
/// is unknown makes all of it unknown, since a sum of the others would be another quantity.
fn grouped(series: &[Track], by: &[String], value: impl Fn(&Track) -> Value, together: impl Fn(&[f64]) -> f64) -> BTreeMap<Labels, Value> {
    let mut groups: BTreeMap<Labels, Vec<Value>> = BTreeMap::new();
    for track in series {
        groups.entry(only(&track.series.labels, by)).or_default().push(value(track));
    }
    groups.into_iter().map(|(labels, values)| (labels, of_all(&values, &together))).collect()
}

fn of_all(values: &[Value], together: impl Fn(&[f64]) -> f64) -> Value {
    if let Some(unknown) = values.iter().find(|value| matches!(value, Value::Unknown(_))) {
        return *unknown;
    }
    let numbers: Vec<f64> =
        values.iter().filter_map(|value| if let Value::Number(number) = value { Some(*number) } else { None }).collect();
    let ended = values.iter().filter_map(|value| if let Value::Gone(at) = value { Some(*at) } else { None }).max();
    match (numbers.is_empty(), ended) {
        (false, _) => Value::Number(together(&numbers)),
        (true, Some(at)) => Value::Gone(at),
        (true, None) => Value::Idle,
    }
}

fn only(labels: &Labels, by: &[String]) -> Labels {
    labels.iter().filter(|(label, _)| by.contains(label)).map(|(label, value)| (label.clone(), value.clone())).collect()
}

/// Each series over the total with the same labels.
fn shares(at: &Moment, series: &[Track], total: &[Track], result: impl Fn(f64) -> f64) -> BTreeMap<Labels, Value> {
    let of =
        |labels: &Labels| total.iter().find(|track| track.series.labels == *labels).map_or(Value::Unknown(None), |track| at.newest(track));
    apart(series, |track| match (at.newest(track), of(&track.series.labels)) {
        // No limit is set: a share of it is nothing, and not infinite.
        (Value::Number(_), Value::Number(0.0)) => Value::Idle,
        (Value::Number(part), Value::Number(whole)) => Value::Number(result(part / whole)),
        (Value::Number(_), Value::Gone(since)) => Value::Unknown(Some(since)),
        (Value::Number(_), other) | (other, _) => other,
    })
}

/// The summed rate of the series over that of the total. A series that was never seen has not happened.
fn ratios(at: &Moment, rule: &Rule, series: &[Track], total: &[Track]) -> BTreeMap<Labels, Value> {
    let parts = sums(series, &rule.by, |track| at.rate(track));
    let whole = sums(total, &rule.by, |track| at.rate(track));
    let ratio = |labels: &Labels, whole: Value| match (parts.get(labels), whole) {
        (_, Value::Number(whole)) if whole <= 0.0 || whole < rule.minimum.unwrap_or(0.0) => Value::Idle,
        (None | Some(Value::Gone(_) | Value::Idle), Value::Number(_)) => Value::Number(0.0),
        (Some(Value::Number(part)), Value::Number(whole)) => Value::Number(part / whole),
        (Some(Value::Unknown(since)), Value::Number(_)) => Value::Unknown(*since),
        (_, other) => other,
    };
    whole.into_iter().map(|(labels, whole)| (labels.clone(), ratio(&labels, whole))).collect()
}

/// The quantile of a histogram, by its bounds: its buckets are summed up by `le` first.
fn quantiles(at: &Moment, rule: &Rule, series: &[Track]) -> BTreeMap<Labels, Value> {
    let mut by = rule.by.clone();
    by.push("le".to_owned());
    let mut histograms: BTreeMap<Labels, Vec<(f64, Value)>> = BTreeMap::new();
    for (mut labels, value) in sums(series, &by, |track| at.rate(track)) {
        let Some(bound) = labels.remove("le").and_then(|bound| bound.parse::<f64>().ok()) else { continue };
        histograms.entry(labels).or_default().push((bound, value));
    }
    let of = |mut buckets: Vec<(f64, Value)>| {
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let values: Vec<Value> = buckets.iter().map(|(_, value)| *value).collect();
        match of_all(&values, |_| 0.0) {
            Value::Number(_) => {}
            other => return other,
        }
        let rates: Vec<(f64, f64)> = buckets
            .iter()
            .filter_map(|(bound, value)| if let Value::Number(rate) = value { Some((*bound, *rate)) } else { None })
            .collect();
        quantile(rule.quantile.unwrap_or(0.5), rule.minimum.unwrap_or(0.0), &rates)
    };
    histograms.into_iter().map(|(labels, buckets)| (labels, of(buckets))).collect()
}

/// Linear within a bucket, as Prometheus does it; the last finite bound for what lies above it.
fn quantile(quantile: f64, minimum: f64, buckets: &[(f64, f64)]) -> Value {
    let Some((f64::INFINITY, all)) = buckets.last().copied() else { return Value::Unknown(None) };
    if all <= 0.0 || all < minimum {
        return Value::Idle;
    }
    let rank = quantile * all;
    let place = buckets.iter().position(|(_, rate)| *rate >= rank).unwrap_or(buckets.len() - 1);
    let (start, below) = if place == 0 { (0.0, 0.0) } else { buckets[place - 1] };
    let (end, rate) = buckets[place];
    if end.is_infinite() {
        return if place == 0 { Value::Unknown(None) } else { Value::Number(start) };
    }
    let inside = rate - below;
    Value::Number(if inside <= 0.0 { end } else { start + (end - start) * (rank - below) / inside })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;

    fn start() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }

    fn track(series: &str, values: impl IntoIterator<Item = Option<f64>>) -> Track {
        let samples =
            (0..).zip(values).map(|(index, value)| Sample { at: start() + SignedDuration::from_secs(30 * index), value: value.into() });
        Track { series: series.parse().unwrap(), samples: samples.collect() }
    }

    fn counter(series: &str, per_sample: f64, samples: u32) -> Track {
        track(series, (0..samples).map(|index| Some(f64::from(index) * per_sample)))
    }

    fn rule(kind: RuleKind, above: f64) -> Rule {
        Rule { kind, above: Some(above), window: Some(Span::secs(300)), no_data: Some(Span::secs(300)), ..Rule::default() }
    }

    fn after(samples: i64) -> Timestamp {
        start() + SignedDuration::from_secs(30 * (samples - 1))
    }

    fn one(found: &BTreeMap<Labels, Answer>) -> Answer {
        assert_eq!(found.len(), 1, "{found:?}");
        *found.values().next().unwrap()
    }

    #[test]
    fn a_counter_that_begins_again_does_not_go_back() {
        let reset = track("c", [10.0, 40.0, 70.0, 5.0, 35.0].map(Some));
        assert_eq!(one(&judge(&rule(RuleKind::Rate, 9.0), &[reset], &[], after(5))), Answer::Within(95.0 / 120.0));
    }

    #[test]
    fn errors_are_a_share_of_all_requests_and_need_some() {
        let errors = [counter("r{status=\"500\"}", 1.8, 11), counter("r{status=\"503\"}", 0.0, 11)];
        let all = [counter("r{status=\"200\"}", 28.2, 11), counter("r{status=\"500\"}", 1.8, 11)];
        let ratio = Rule { minimum: Some(0.1), ..rule(RuleKind::Ratio, 0.05) };
        let Answer::Beyond(value) = one(&judge(&ratio, &errors, &all, after(11))) else { panic!() };
        assert!((value - 0.06).abs() < 1e-9);
        let rare = [counter("r{status=\"200\"}", 0.5, 11)];
        assert_eq!(one(&judge(&ratio, &errors, &rare, after(11))), Answer::Idle);
        assert_eq!(one(&judge(&ratio, &[], &all, after(11))), Answer::Within(0.0), "no error was ever seen");
        assert!(judge(&ratio, &errors, &[], after(11)).is_empty(), "without requests there is no answer");
    }

    #[test]
    fn a_share_of_no_limit_is_nothing() {
        let used = [track("used{db=\"a\"}", [Some(9.0)]), track("used{db=\"b\"}", [Some(9.0)]), track("used{db=\"c\"}", [Some(9.0)])];
        let most = [track("most{db=\"a\"}", [Some(0.0)]), track("most{db=\"b\"}", [Some(9.5)])];
        let found = judge(&rule(RuleKind::Share, 0.9), &used, &most, after(1));
        let of = |db: &str| found[&Labels::from([("db".to_owned(), db.to_owned())])];
        assert_eq!(of("a"), Answer::Idle);
        assert_eq!(of("b"), Answer::Beyond(9.0 / 9.5));
        assert_eq!(of("c"), Answer::Unknown(None), "its limit is not there");
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let buckets = |slow: f64| {
            let bucket = |le: &str, rate: f64| counter(&format!("b{{le=\"{le}\",pod=\"x\"}}"), rate, 11);
            [bucket("0.5", 30.0 - slow), bucket("2.5", 30.0), bucket("+Inf", 30.0)]
        };
        let p95 = Rule { quantile: Some(0.95), minimum: Some(0.1), ..rule(RuleKind::Quantile, 2.0) };
        let Answer::Beyond(value) = one(&judge(&p95, &buckets(15.0), &[], after(11))) else { panic!() };
        assert!((value - 2.3).abs() < 1e-9, "{value}");
        let Answer::Within(value) = one(&judge(&p95, &buckets(0.0), &[], after(11))) else { panic!() };
        assert!((value - 0.475).abs() < 1e-9, "{value}");
        let idle = buckets(0.0).map(|track| counter(&track.series.to_string(), 0.0, 11));
        assert_eq!(one(&judge(&p95, &idle, &[], after(11))), Answer::Idle);
    }

    #[test]
    fn busy_is_what_is_not_idle_and_used_is_what_is_not_free() {
        let idle = [counter("i{cpu=\"0\",instance=\"a\"}", 3.0, 11), counter("i{cpu=\"1\",instance=\"a\"}", 6.0, 11)];
        let busy = Rule { by: vec!["instance".to_owned()], scale: Some(100.0), ..rule(RuleKind::Busy, 80.0) };
        let Answer::Beyond(value) = one(&judge(&busy, &idle, &[], after(11))) else { panic!() };
        assert!((value - 85.0).abs() < 1e-9, "{value}");
        let used = Rule { scale: Some(100.0), ..rule(RuleKind::Used, 85.0) };
        let found = judge(&used, &[track("free", [Some(1.0)])], &[track("all", [Some(8.0)])], after(1));
        assert_eq!(one(&found), Answer::Beyond(87.5));
    }

    #[test]
    fn the_mean_of_a_window_forgets_a_spike() {
        let spiky = [track("cpu", [10.0, 10.0, 10.0, 100.0].map(Some))];
        let mean = Rule { over: Some(Over::Mean), ..rule(RuleKind::Value, 80.0) };
        assert_eq!(one(&judge(&mean, &spiky, &[], after(4))), Answer::Within(32.5));
        assert_eq!(one(&judge(&Rule { over: Some(Over::Max), ..mean.clone() }, &spiky, &[], after(4))), Answer::Beyond(100.0));
        assert_eq!(one(&judge(&Rule { over: Some(Over::Min), ..mean }, &spiky, &[], after(4))), Answer::Within(10.0));
    }

    #[test]
    fn unknown_is_neither_zero_nor_down_nor_left_out() {
        let down = Rule { above: None, ..rule(RuleKind::Down, 0.0) };
        let lost = track("up", [Some(1.0), None, None]);
        assert_eq!(one(&judge(&down, std::slice::from_ref(&lost), &[], after(3))), Answer::Unknown(Some(after(2))));
        let two = [track("n{i=\"a\"}", [Some(80.0)]), track("n{i=\"b\"}", [None])];
        let sum = Rule { by: vec!["job".to_owned()], ..rule(RuleKind::Value, 150.0) };
        assert_eq!(one(&judge(&sum, &two, &[], after(1))), Answer::Unknown(Some(after(1))));
    }

    #[test]
    fn a_series_that_ended_is_gone_and_no_part_of_a_sum() {
        let old = track("n{i=\"old\"}", [Some(100.0)]);
        let new = track("n{i=\"new\"}", (0..20).map(|_| Some(80.0)));
        let sum = Rule { by: vec!["job".to_owned()], ..rule(RuleKind::Value, 150.0) };
        assert_eq!(one(&judge(&sum, &[old.clone(), new], &[], after(20))), Answer::Within(80.0));
        assert_eq!(one(&judge(&sum, &[old], &[], after(20))), Answer::Gone(after(1)));
    }

    #[test]
    fn between_two_levels_an_alarm_goes_on() {
        let cpu = Rule { clear: Some(70.0), ..rule(RuleKind::Value, 80.0) };
        for (value, expected) in [(81.0, Answer::Beyond(81.0)), (80.0, Answer::Between(80.0)), (70.0, Answer::Within(70.0))] {
            assert_eq!(one(&judge(&cpu, &[track("cpu", [Some(value)])], &[], after(1))), expected);
        }
        let accuracy = Rule { above: None, below: Some(0.6), clear: Some(0.65), ..rule(RuleKind::Value, 0.0) };
        assert_eq!(one(&judge(&accuracy, &[track("a", [Some(0.62)])], &[], after(1))), Answer::Between(0.62));
    }
}
