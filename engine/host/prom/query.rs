//! Expressions of Prometheus and the numbers they have.

use std::collections::BTreeMap;

use hyper::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::client::{MOST, Server, Told, capped};
use crate::error::{Error, Kind, Result};
use crate::host::http::Content;
use crate::host::moment::Moment;
use crate::model::Span;

/// So many numbers of a time are given to a script.
const MOST_POINTS: usize = 100_000;
/// The steps a time is cut into when the script names none.
const STEPS: f64 = 240.0;
const FEWER: &str = "ask for less: `sum by (…)`, `topk(…)`, or more labels in the selector";

/// When an expression is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct QueryOptions {
    at: Option<Moment>,
    pub(super) timeout: Option<Span>,
}

/// The time an expression is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RangeOptions {
    since: Option<Moment>,
    before: Option<Moment>,
    step: Option<Span>,
    pub(super) timeout: Option<Span>,
}

/// A number at a time, as Prometheus writes it.
type Written = (f64, String);

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Row>),
    Matrix(Vec<Row>),
    Scalar(Written),
    String(Written),
}

/// A series with what is known of it. A native histogram has no single number.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Row {
    metric: BTreeMap<String, String>,
    value: Option<Written>,
    values: Vec<Written>,
    histogram: Option<(f64, serde::de::IgnoredAny)>,
}

/// What an expression is.
#[derive(Debug, Default, Serialize)]
pub(super) struct Found {
    kind: &'static str,
    series: Vec<Series>,
    /// The number, when there is one series.
    value: Option<f64>,
    text: Option<String>,
    warnings: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    /// The number, or the last one of a time.
    value: Option<f64>,
    at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    points: Option<Vec<Point>>,
}

#[derive(Debug, Clone, Serialize)]
struct Point {
    at: Option<Timestamp>,
    value: Option<f64>,
}

/// Asks for an expression at one time.
pub(super) async fn query(server: &Server, expr: &str, options: QueryOptions) -> Result<Found> {
    let mut form = vec![("query", expr.to_owned()), ("timeout", server.patience())];
    if let Some(at) = options.at {
        form.push(("time", at.resolve(server.ctx().now())?.to_string()));
    }
    let told: Told<Data> = server.data(Method::POST, &["api", "v1", "query"], Content::Form(form)).await?;
    let mut found = match told.data {
        Data::Vector(rows) => vector(rows)?,
        Data::Matrix(rows) => matrix(rows, |values| Ok(values.iter().map(point).collect()))?,
        Data::Scalar(written) => {
            let series = Series { value: number(&written.1), at: moment(written.0), ..Series::default() };
            Found { kind: "scalar", series: vec![series], ..Found::default() }
        }
        Data::String((_, text)) => Found { kind: "string", text: Some(text), ..Found::default() },
    };
    if let [only] = found.series.as_slice() {
        found.value = only.value;
    }
    found.warnings = told.warnings;
    Ok(found)
}

/// Asks for an expression over a time, at each step of it.
pub(super) async fn query_range(server: &Server, expr: &str, options: RangeOptions) -> Result<Found> {
    let now = server.ctx().now();
    let grid = Grid::of(&options, now)?;
    let form = vec![
        ("query", expr.to_owned()),
        ("start", format!("{:.3}", grid.start)),
        ("end", format!("{:.3}", grid.end)),
        ("step", format!("{}", grid.step)),
        ("timeout", server.patience()),
    ];
    let told: Told<Data> = server.data(Method::POST, &["api", "v1", "query_range"], Content::Form(form)).await?;
    let Data::Matrix(rows) = told.data else {
        return Err(Error::new(Kind::Remote, "the answer is no series of numbers over a time"));
    };
    if rows.len().saturating_mul(grid.points) > MOST_POINTS {
        let (rows, points) = (rows.len(), grid.points);
        return Err(Error::new(Kind::Limit, format!("{rows} series with {points} steps each are more than {MOST_POINTS} numbers"))
            .hint("ask for less: a shorter time, a longer `step`, fewer series"));
    }
    let mut found = matrix(rows, |values| Ok(grid.fill(values)))?;
    found.warnings = told.warnings;
    Ok(found)
}

/// The times an expression is asked for: a number that is absent at one of them is nothing, and not the next one.
struct Grid {
    start: f64,
    end: f64,
    step: f64,
    points: usize,
}

impl Grid {
    fn of(options: &RangeOptions, now: Timestamp) -> Result<Self> {
        let seconds = |moment: Timestamp| moment.as_millisecond() as f64 / 1000.0;
        let since = options.since.unwrap_or(Moment::Ago(Span::secs(3600))).resolve(now)?;
        let before = options.before.map_or(Ok(now), |before| before.resolve(now))?;
        if since >= before {
            let error =
                Error::new(Kind::Invalid, format!("the time asked about is empty: `since` {since} is not earlier than `before` {before}"));
            return Err(error);
        }
        let (start, end) = (seconds(since), seconds(before));
        let step = options.step.map_or_else(|| ((end - start) / STEPS).ceil().max(1.0), |step| step.0.as_secs_f64());
        if step < 0.001 {
            return Err(Error::new(Kind::Invalid, "the step is 0s, expected at least 1ms"));
        }
        let points = ((end - start) / step).floor() + 1.0;
        if points > MOST_POINTS as f64 {
            return Err(
                Error::new(Kind::Limit, format!("the time has {points} steps; {MOST_POINTS} is the most")).hint("make `step` longer")
            );
        }
        Ok(Self { start, end, step, points: points as usize })
    }

    fn fill(&self, values: &[Written]) -> Vec<Point> {
        let at = |index: usize| moment(self.start + self.step * index as f64);
        let mut points: Vec<Point> = (0..self.points).map(|index| Point { at: at(index), value: None }).collect();
        for (time, written) in values {
            let index = ((time - self.start) / self.step).round();
            if index >= 0.0
                && let Some(point) = points.get_mut(index as usize)
            {
                point.value = number(written);
            }
        }
        points
    }
}

fn vector(rows: Vec<Row>) -> Result<Found> {
    let series = capped("series", rows, FEWER)?.into_iter().map(|row| {
        let value = row.value.as_ref().and_then(|(_, written)| number(written));
        let at = row.value.as_ref().map(|value| value.0).or(row.histogram.as_ref().map(|histogram| histogram.0)).and_then(moment);
        named(row.metric, value, at, None)
    });
    Ok(Found { kind: "vector", series: series.collect(), ..Found::default() })
}

fn matrix(rows: Vec<Row>, points: impl Fn(&[Written]) -> Result<Vec<Point>>) -> Result<Found> {
    if rows.iter().map(|row| row.values.len()).sum::<usize>() > MOST_POINTS {
        return Err(Error::new(Kind::Limit, format!("the series have more than {MOST_POINTS} numbers")).hint(FEWER));
    }
    let series = capped("series", rows, FEWER)?.into_iter().map(|row| {
        let points = points(&row.values)?;
        let last = points.last().cloned();
        Ok(named(row.metric, last.as_ref().and_then(|last| last.value), last.and_then(|last| last.at), Some(points)))
    });
    Ok(Found { kind: "matrix", series: series.collect::<Result<_>>()?, ..Found::default() })
}

fn named(mut labels: BTreeMap<String, String>, value: Option<f64>, at: Option<Timestamp>, points: Option<Vec<Point>>) -> Series {
    Series { name: labels.remove("__name__").unwrap_or_default(), labels, value, at, points }
}

fn point((time, written): &Written) -> Point {
    Point { at: moment(*time), value: number(written) }
}

/// A number as Prometheus writes it; what is none, or without end, is nothing.
pub(super) fn number(written: &str) -> Option<f64> {
    written.parse().ok().filter(|number: &f64| number.is_finite())
}

fn moment(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_millisecond((seconds * 1000.0).round() as i64).ok()
}

const _: () = assert!(MOST < MOST_POINTS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_nothing() {
        let numbers = ["1", "-2.5e3", "NaN", "+Inf", "-Inf", ""].map(number);
        assert_eq!(numbers, [Some(1.0), Some(-2500.0), None, None, None, None]);
    }

    #[test]
    fn a_gap_in_a_time_is_nothing_and_not_the_next_number() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let options = RangeOptions { since: Some(Moment::Ago(Span::secs(60))), step: Some(Span::secs(20)), ..RangeOptions::default() };
        let grid = Grid::of(&options, now).unwrap();
        let points = grid.fill(&[(grid.start, "1".into()), (grid.start + 40.0, "NaN".into()), (grid.start + 60.0, "4".into())]);
        assert_eq!(points.iter().map(|point| point.value).collect::<Vec<_>>(), [Some(1.0), None, None, Some(4.0)]);
        assert_eq!(points[3].at, Some(now));
        for (step, kind) in [(Span::secs(0), Kind::Invalid), (Span::millis(1), Kind::Limit)] {
            let options = RangeOptions { since: Some(Moment::Ago(Span::secs(3600))), step: Some(step), ..RangeOptions::default() };
            assert_eq!(Grid::of(&options, now).err().unwrap().kind, kind);
        }
        let empty = RangeOptions { since: Some(Moment::At(now)), ..RangeOptions::default() };
        assert_eq!(Grid::of(&empty, now).err().unwrap().kind, Kind::Invalid);
    }
}
