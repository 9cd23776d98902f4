//! `samples::`: what was measured of the system, when, and that it could not be.
//!
//! The supervisor alone has the samples; this module measures, and asks it. The samples of other systems
//! can neither be read nor written.

mod exposition;
mod source;

use rhai::plugin::*;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::host::measure::{self, Measured};
use crate::host::options::Number;
use crate::host::watched::{WatchQuestion, data, tell};
use crate::host::{Access, Call, Function, HostModule, Moment, RhaiResultOf};
use crate::model::{Effect, Reading, Selector, Series, Span};

pub(super) use source::ask as ask_source;

/// The module `samples`.
pub const MODULE: HostModule = HostModule {
    name: "samples",
    summary: "what was measured of the system and when: read, summed up, followed, and added to",
    build: || exported_module!(api),
    functions: &[
        Function::read("measure"),
        Function::read("source"),
        Function::pure("exposition").options::<exposition::Options>(),
        Function::pure("selected"),
        Function::effect("append", "how many samples of which series").needs("samples", "write", 0),
        Function::read("last").needs("samples", "read", 0).options::<WindowOptions>(),
        Function::read("range").needs("samples", "read", 0).options::<RangeOptions>(),
        Function::read("stats").needs("samples", "read", 0).options::<WindowOptions>(),
        Function::read("trend").needs("samples", "read", 0).options::<TrendOptions>(),
        Function::read("availability").needs("samples", "read", 0).options::<AvailabilityOptions>(),
    ],
};

/// Over how long the use of the processors is looked at.
const GLIMPSE: std::time::Duration = std::time::Duration::from_millis(500);
/// The most samples one call appends.
const MOST: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WindowOptions {
    window: Span,
}

impl Default for WindowOptions {
    fn default() -> Self {
        Self { window: Span::secs(300) }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RangeOptions {
    window: Option<Span>,
    from: Option<Moment>,
    to: Option<Moment>,
    step: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TrendOptions {
    window: Span,
    limit: Option<Number>,
    below: bool,
    horizon: Span,
}

impl Default for TrendOptions {
    fn default() -> Self {
        Self { window: Span::secs(6 * 3600), limit: None, below: false, horizon: Span::secs(24 * 3600) }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AvailabilityOptions {
    window: Span,
    target: Option<Number>,
    holds: Span,
}

impl Default for AvailabilityOptions {
    fn default() -> Self {
        Self { window: Span::secs(24 * 3600), target: None, holds: Span::secs(600) }
    }
}

#[export_module]
mod api {
    use rhai::{Array, Dynamic, Map};

    use super::{
        AvailabilityOptions, RangeOptions, TrendOptions, WindowOptions, appended, ask_source, between, exposition, following, kept,
        measure_part, picked,
    };
    use crate::error::{Error, Kind};
    use crate::host::watched::{WatchQuestion, ask};
    use crate::host::{Call, RhaiResultOf};

    /// Measures a part of the system now, and keeps nothing: the same questions as the daemon asks.
    ///
    /// ```rhai
    /// let found = samples::measure("machine");
    /// found.some(|one| one.series.contains("system_memory_usage_percent") && one.value > 0.0)
    /// ```
    ///
    /// `part` is `machine` (processors over half a second, memory, swap, load, filesystems), `services`, `endpoints`, `databases`,
    /// `caches` or `metrics` (what `[metrics]` of the system file names, with `source_up` of each). Returns a list of `series` (its name and labels, as Prometheus writes them) and `value`: a number, or `()`
    /// for what could not be measured, which is never left out and never 0.
    ///
    /// Needs what `sys::cpu`, `sys::memory`, `sys::load` and `sys::disks` need, for `machine`; of the others, what is not granted
    /// is `()`. Nothing of it throws but an unknown part.
    #[rhai_fn(return_raw, volatile)]
    pub fn measure(native: NativeCallContext, part: &str) -> RhaiResultOf<Dynamic> {
        measure_part(&Call::new(&native, "samples::measure")?, part)
    }

    /// Asks one source of `[metrics]` of the system file now, and keeps nothing.
    ///
    /// ```rhai,lab
    /// samples::source("backend").some(|one| one.series.starts_with("http_requests_total"))
    /// ```
    ///
    /// Returns a list as `samples::measure` does. What the source calls like one of its labels in the file, or `system`, is kept as
    /// `exported_…`. Throws `not_found` when there is no such source; `connect`, `timeout`, `remote`, `invalid` when it can not be
    /// asked or read; `limit` when it tells more than 2000 series, or names and labels that are too long: nothing of it is
    /// taken then.
    ///
    /// Needs what its kind needs: `http` for the address, `sql` or `redis` to read, `fs` or the logs of the service; `${metrics.*}`
    /// stands for it in each of those sections.
    #[rhai_fn(return_raw, volatile)]
    pub fn source(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "samples::source")?;
        let found = call.wait(ask_source(call.ctx(), name))?;
        kept(&call, found)
    }

    /// Reads what a program tells of itself in the text format of Prometheus.
    ///
    /// ```rhai
    /// let text = "# TYPE up gauge\nup{job=\"shop\"} 1\nhits_total 3e2\nodd NaN";
    /// let found = samples::exposition(text, #{ labels: #{ instance: "a" }, only: ["up", "odd"] });
    /// found.len() == 2 && found[0].series == "up{instance=\"a\",job=\"shop\"}" && found[1].value == ()
    /// ```
    ///
    /// Options: `labels` (added to each series that has not got them), `only` (selectors; everything when absent). Returns a list as
    /// `samples::measure` does. What is no line of that format is an error of kind `invalid`, which names the line; more than
    /// 10000 series are one of kind `limit`.
    #[rhai_fn(name = "exposition", return_raw, volatile)]
    pub fn exposition_with(native: NativeCallContext, text: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "samples::exposition")?;
        let options = call.options(options)?;
        let found = exposition::read(text, &options).map_err(|error| call.fail(error))?;
        kept(&call, found)
    }

    /// Reads everything a program tells of itself in the text format of Prometheus.
    #[rhai_fn(return_raw, volatile)]
    pub fn exposition(native: NativeCallContext, text: &str) -> RhaiResultOf<Dynamic> {
        exposition_with(native, text, Map::new())
    }

    /// Those of a list of samples that a selector means.
    ///
    /// ```rhai
    /// let all = [#{ series: "up{job=\"a\"}", value: 1 }, #{ series: "up{job=\"b\"}", value: 0 }];
    /// samples::selected(all, "up{job=~\"b|c\"}").map(|one| one.value) == [0]
    /// ```
    ///
    /// A selector is written as in Prometheus: `=`, `!=`, `=~` and `!~` compare labels, and a pattern must match the whole value.
    /// What is none is an error of kind `invalid`.
    #[rhai_fn(return_raw, volatile)]
    pub fn selected(native: NativeCallContext, samples: Array, selector: &str) -> RhaiResultOf<Array> {
        picked(&Call::new(&native, "samples::selected")?, samples, selector)
    }

    /// Keeps samples of the system, so that rules, trends and reports can look at them.
    ///
    /// ```rhai
    /// samples::append([#{ series: "orders_total{shop=\"a\"}", value: 12 }, #{ series: "queue_length", value: () }]);
    /// true
    /// ```
    ///
    /// Each has a `series`, a `value` (a number, or `()` when it could not be measured) and `at` (RFC 3339; now when absent). Of
    /// two samples of one series and one millisecond the first stays. A `service_up` is kept as `up` too, with the job that the
    /// rules of the system call the service by. At most 10000 at once.
    ///
    /// Returns how many were `kept`, `known` already, or `refused` because there are too many series; `()` in a plan.
    #[rhai_fn(return_raw, volatile)]
    pub fn append(native: NativeCallContext, samples: Array) -> RhaiResultOf<Dynamic> {
        appended(&Call::new(&native, "samples::append")?, samples)
    }

    /// The newest sample of each series.
    ///
    /// ```rhai
    /// samples::last("never_measured", #{ window: "1h" }) == []
    /// ```
    ///
    /// Options: `window` (how far back; 5 m when absent). Returns a list of `series`, `name`, `labels`, `at`, `age_s` and `value`, which
    /// is `()` when it could not be measured. A series without a sample in the window is not in the list.
    #[rhai_fn(name = "last", return_raw, volatile)]
    pub fn last_with(native: NativeCallContext, selector: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "samples::last")?;
        let WindowOptions { window } = call.options(options)?;
        ask(&call, WatchQuestion::Last { selector: selector.to_owned(), window })
    }

    /// The newest sample of each series within 5 minutes.
    #[rhai_fn(return_raw, volatile)]
    pub fn last(native: NativeCallContext, selector: &str) -> RhaiResultOf<Dynamic> {
        last_with(native, selector, Map::new())
    }

    /// The samples of a time, as they came or in spans.
    ///
    /// ```rhai
    /// samples::range("never_measured", #{ from: "2h", to: "1h", step: "5m" }) == []
    /// ```
    ///
    /// Options: `window` (how far back; an hour when neither it nor `from` is there), or `from` and `to` (a time, or how long ago;
    /// `to` is now when absent), `step` (the length of a span; as they came when absent, which they are for 2 days). Returns a list
    /// of `series`, `name`, `labels` and `samples`: the oldest first, each with `at` and `value`; with a `step` each with
    /// `at`, `count`, `unknown`, `min`, `max`, `mean` and `last`. What is not known is `()`. Too many samples are an error of kind
    /// `limit`.
    #[rhai_fn(name = "range", return_raw, volatile)]
    pub fn range_with(native: NativeCallContext, selector: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "samples::range")?;
        let options: RangeOptions = call.options(options)?;
        let question = between(call.ctx().now(), selector, &options).map_err(|error| call.fail(error))?;
        ask(&call, question)
    }

    /// The samples of the last hour, as they came.
    #[rhai_fn(return_raw, volatile)]
    pub fn range(native: NativeCallContext, selector: &str) -> RhaiResultOf<Dynamic> {
        range_with(native, selector, Map::new())
    }

    /// What the samples of a window come to, for each series.
    ///
    /// ```rhai
    /// samples::stats("never_measured", #{ window: "1h" }) == []
    /// ```
    ///
    /// Options: `window` (5 m when absent). Returns a list of `series`, `name`, `labels`, `count` (samples with a number),
    /// `unknown` (samples without), `avg`, `min`, `max`, `sum`, `p50`, `p95`, `p99`, `first`, `last`, and for counters `increase` and
    /// `rate` (per second; they begin at 0 again when what counts was started again). Without a number all of them are `()`;
    /// `last` is, too, when the newest sample has none.
    #[rhai_fn(name = "stats", return_raw, volatile)]
    pub fn stats_with(native: NativeCallContext, selector: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "samples::stats")?;
        let WindowOptions { window } = call.options(options)?;
        ask(&call, WatchQuestion::Stats { selector: selector.to_owned(), window })
    }

    /// What the samples of the last 5 minutes come to.
    #[rhai_fn(return_raw, volatile)]
    pub fn stats(native: NativeCallContext, selector: &str) -> RhaiResultOf<Dynamic> {
        stats_with(native, selector, Map::new())
    }

    /// Where series are going: a line through their samples by least squares, on their real times.
    ///
    /// ```rhai
    /// samples::trend("never_measured", #{ window: "6h", limit: 90, horizon: "24h" }) == []
    /// ```
    ///
    /// Options: `window` (6 h when absent), `limit` (what it should not reach), `below` (whether small values are the bad ones),
    /// `horizon` (how far ahead; 24 h when absent). Returns a list of `series`, `name`, `labels`, `per_hour` (the change), `now` (the line at
    /// the last sample), `r2` (how much of what was seen the line explains, from 0 to 1), `count`, `unknown`, `at` (the last sample), and
    /// with a `limit` the `outlook`: `not-enough` (fewer than 5 numbers), `no-trend` (it explains less than half), `safe`, `beyond`, or
    /// `reaches` with `hours` and `reaches_at`. Where there are not enough numbers the line is `()`.
    #[rhai_fn(name = "trend", return_raw, volatile)]
    pub fn trend_with(native: NativeCallContext, selector: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "samples::trend")?;
        let options: TrendOptions = call.options(options)?;
        ask(&call, following(selector, &options))
    }

    /// The line through the samples of the last 6 hours.
    #[rhai_fn(return_raw, volatile)]
    pub fn trend(native: NativeCallContext, selector: &str) -> RhaiResultOf<Dynamic> {
        trend_with(native, selector, Map::new())
    }

    /// How much of a time series were up: 0 is down, every other number is up.
    ///
    /// ```rhai
    /// samples::availability("endpoint_up{endpoint=\"never\"}", #{ window: "30d", target: 99.9 }) == []
    /// ```
    ///
    /// Options: `window` (24 h when absent), `target` (the per cent that are wanted), `holds` (how long a sample holds when none follows,
    /// 10 m when absent). Returns a list of `series`, `name`, `labels`, `up_s`, `down_s`, `unknown_s` (seconds; before the first sample, after unknown ones
    /// and in gaps nobody knows), `percent` (of the known time; `()` when nothing is known), and with a `target` `budget_s` (how long it
    /// may be down in that time) and `left_s` (what of it is left; below 0 when it was down for longer). What is older than 2 days is
    /// counted by spans of 5 minutes: such a span is down by the share its mean tells.
    #[rhai_fn(name = "availability", return_raw, volatile)]
    pub fn availability_with(native: NativeCallContext, selector: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "samples::availability")?;
        let AvailabilityOptions { window, target, holds } = call.options(options)?;
        if target.is_some_and(|target| !(0.0..=100.0).contains(&target.0)) {
            return Err(call.fail(Error::new(Kind::Invalid, "`target` is no per cent").hint("write 99.9 for 99.9 %")));
        }
        ask(&call, WatchQuestion::Availability { selector: selector.to_owned(), window, target: target.map(|target| target.0), holds })
    }

    /// How much of the last 24 hours series were up.
    #[rhai_fn(return_raw, volatile)]
    pub fn availability(native: NativeCallContext, selector: &str) -> RhaiResultOf<Dynamic> {
        availability_with(native, selector, Map::new())
    }
}

fn measure_part(call: &Call<'_>, part: &str) -> RhaiResultOf<Dynamic> {
    let found = match part {
        "machine" => {
            for what in ["cpu", "memory", "load", "disks"] {
                call.permit(&Access::word("sys", "read", what))?;
            }
            call.wait(async { Ok(machine().await) })?
        }
        "services" => call.wait(async { Ok(measure::services(call.ctx()).await.measured) })?,
        "endpoints" => call.wait(async { Ok(measure::endpoints(call.ctx()).await.measured) })?,
        "databases" => call.wait(async { Ok(measure::databases(call.ctx()).await.measured) })?,
        "caches" => call.wait(async { Ok(measure::caches(call.ctx()).await.measured) })?,
        "metrics" => call.wait(async { Ok(measure::sources(call.ctx()).await.measured) })?,
        other => {
            let parts = ["machine", "services", "endpoints", "databases", "caches", "metrics"];
            let error = Error::new(Kind::Invalid, format!("there is no part `{other}` of a system to measure"));
            return Err(call.fail(error.suggest(other, parts)));
        }
    };
    kept(call, found)
}

/// The machine, with how busy its processors are over a moment.
async fn machine() -> Measured {
    let before = measure::spent(&measure::machine());
    tokio::time::sleep(GLIMPSE).await;
    let mut found = measure::machine();
    found.push(measure::usage(before, measure::spent(&found)));
    found
}

/// What was measured, as scripts have it.
fn kept(call: &Call<'_>, found: Measured) -> RhaiResultOf<Dynamic> {
    let each: Vec<Value> = found.into_iter().map(|(series, value)| json!({ "series": series, "value": value.number() })).collect();
    call.value(&each)
}

fn picked(call: &Call<'_>, samples: rhai::Array, selector: &str) -> RhaiResultOf<rhai::Array> {
    let selector: Selector = selector.parse().map_err(|error| call.fail(error))?;
    let mut picked = rhai::Array::new();
    for sample in samples {
        let (series, ..) = one(&sample).map_err(|error| call.fail(error))?;
        if selector.selects(&series) {
            picked.push(sample);
        }
    }
    Ok(picked)
}

fn appended(call: &Call<'_>, samples: rhai::Array) -> RhaiResultOf<Dynamic> {
    call.permit_any("samples", "write")?;
    if samples.len() > MOST {
        let error = Error::new(Kind::Limit, format!("there are {} samples, and {MOST} can be kept at once", samples.len()));
        return Err(call.fail(error.hint("keep them in several calls")));
    }
    let samples = samples.iter().map(one).collect::<Result<Vec<_>>>().map_err(|error| call.fail(error))?;
    let series: std::collections::BTreeSet<&Series> = samples.iter().map(|(series, ..)| series).collect();
    let (count, of) = (crate::words::count(samples.len() as u64, "sample"), series.len());
    let effect = Effect::new("samples::append", "samples", format!("keep {count} of {of} series"));
    tell(call, effect, WatchQuestion::Append { samples })
}

/// A sample as a script writes it.
fn one(sample: &Dynamic) -> Result<(Series, Option<f64>, Option<jiff::Timestamp>)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written {
        series: Series,
        #[serde(default)]
        value: Value,
        #[serde(default)]
        at: Option<jiff::Timestamp>,
    }
    let Written { series, value, at } = data(sample, "this is no sample")?;
    let value = match &value {
        Value::Number(number) => number.as_f64(),
        // What is no number, like 0/0.
        Value::Null => None,
        Value::String(text) if text.parse::<f64>().is_ok_and(|number| !number.is_finite()) => None,
        other => {
            return Err(Error::new(
                Kind::Invalid,
                format!("the value of `{series}` is `{other}`, expected a number, or nothing for unknown"),
            ));
        }
    };
    Ok((series, value.and_then(|value| Reading::of(value).number()), at))
}

fn between(now: jiff::Timestamp, selector: &str, options: &RangeOptions) -> Result<WatchQuestion> {
    if options.window.is_some() && options.from.is_some() {
        return Err(Error::new(Kind::Invalid, "there are `window` and `from`, expected one of them"));
    }
    let back = Moment::Ago(options.window.unwrap_or(Span::secs(3600)));
    let from = options.from.unwrap_or(back).resolve(now)?;
    let to = options.to.map_or(Ok(now), |to| to.resolve(now))?;
    Ok(WatchQuestion::Range { selector: selector.to_owned(), from, to, step: options.step })
}

fn following(selector: &str, options: &TrendOptions) -> WatchQuestion {
    WatchQuestion::Trend {
        selector: selector.to_owned(),
        window: options.window,
        limit: options.limit.map(|limit| limit.0),
        below: options.below,
        horizon: options.horizon,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::host::Question;
    use crate::host::testing::Bench;

    fn bench() -> Bench {
        Bench::new(json!({ "samples": ["write:orders*", "read:up"], "sys": ["cpu", "memory", "load"] }))
    }

    fn asked(bench: &Bench) -> WatchQuestion {
        let Some(Question::Watch(question)) = bench.recorder.questions().pop() else { panic!("nothing was asked") };
        question
    }

    #[test]
    fn what_is_no_number_is_kept_as_unknown_and_never_as_0() {
        let bench = bench();
        drop(bench
            .eval(
                r#"samples::append([#{ series: "orders", value: 3 }, #{ series: "orders_a", value: 0.0 / 0.0 }, #{ series: "orders_b" }])"#,
            )
            .unwrap());
        let WatchQuestion::Append { samples } = asked(&bench) else { panic!("not kept") };
        let values: Vec<Option<f64>> = samples.iter().map(|(_, value, _)| *value).collect();
        assert_eq!(values, [Some(3.0), None, None]);
        let error = bench.error(r#"samples::append([#{ series: "orders", value: "many" }])"#);
        assert_eq!((error.kind, error.message.contains("expected a number")), (Kind::Invalid, true), "{error}");
    }

    #[test]
    fn only_granted_series_are_read_and_written() {
        let bench = bench();
        drop(bench.eval(r#"samples::last("up{job=\"a\"}"); samples::stats("orders", #{ window: "1h" })"#).unwrap());
        for script in [
            r#"samples::last("down")"#,
            r#"samples::append([#{ series: "orders", value: 1 }, #{ series: "up", value: 1 }])"#,
            r#"samples::trend("down", #{ limit: 3 })"#,
            r#"samples::measure("machine")"#,
        ] {
            assert_eq!(bench.error(script).kind, Kind::Denied, "{script}");
        }
        assert_eq!(bench.error(r#"samples::last("1up")"#).kind, Kind::Invalid);
        assert_eq!(bench.error(r#"samples::measure("machines")"#).hints[0], "did you mean `machine`?");
    }

    #[test]
    fn a_limit_is_a_number_with_a_point_or_without() {
        let bench = bench();
        drop(bench.eval(r#"samples::trend("up", #{ limit: 90, window: "2h" })"#).unwrap());
        let WatchQuestion::Trend { limit, window, horizon, .. } = asked(&bench) else { panic!("not asked") };
        assert_eq!((limit, window, horizon), (Some(90.0), Span::secs(7200), Span::secs(86400)));
        assert_eq!(bench.error(r#"samples::availability("up", #{ target: 999 })"#).kind, Kind::Invalid);
    }
}
