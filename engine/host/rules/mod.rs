//! `rules::`: what alert rules say of the samples of the system, of series that were made up, and how
//! Prometheus writes them.
//!
//! The same functions as the daemon's watch judge: for, hysteresis, silence, too little traffic.

use rhai::plugin::*;
use serde::Deserialize;

use crate::error::Result;
use crate::host::watched::{Firing, MadeUp, RulesQuestion, WatchQuestion, ask, data};
use crate::host::{Call, Function, HostModule, RhaiResultOf};
use crate::model::{Series, Span};

/// The module `rules`.
pub const MODULE: HostModule = HostModule {
    name: "rules",
    summary: "what alert rules say of samples, and how Prometheus writes them",
    build: || exported_module!(api),
    functions: &[
        // Needs to read the samples that its rules are about.
        Function::read("evaluate").checked_by(check_options),
        Function::pure("expressions"),
    ],
};

/// What `evaluate` is asked beside the rules.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    also: Vec<Measured>,
    firing: Vec<Firing>,
    series: Vec<MadeUp>,
    every: Option<Span>,
    at: Option<Span>,
}

/// A sample as `samples::measure` has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measured {
    series: Series,
    #[serde(default)]
    value: Option<f64>,
}

#[export_module]
mod api {
    use rhai::{Dynamic, Map};

    use super::{asked, written};
    use crate::host::{Call, RhaiResultOf};

    /// What rules say at the moment, after what they said before.
    ///
    /// ```rhai
    /// let rule = #{ kind: "value", series: "queue", above: 10, clear: 5, "for": "2m", level: "warning", severity: "sev3" };
    /// let made_up = [#{ series: "queue{of=\"mail\"}", values: "0x4 20x10" }];
    /// let found = rules::evaluate(#{ Queue: rule }, #{ series: made_up, every: "30s", at: "7m" });
    /// found.len() == 1 && found[0].stands == "firing" && found[0].value == 20.0 && found[0].labels.of == "mail"
    /// ```
    ///
    /// `rules` is a map by name, each as `[rules.NAME]` of a system file: `system::rules`, or some made of thresholds.
    ///
    /// Options: `also` (a list as of `samples::measure`: newer than what is stored), `firing` (a list of `rule`, `labels` and `since`:
    /// alarms that fired the last time, which go on until an answer ends them), `series` (made up, instead of those stored:
    /// a list of `series` and `values` like `"1x10 0x20 ?x5 _x5"`), and for these `every` (the time between two samples, 30 s when
    /// absent) and `at` (the moment, from the first sample; the end when absent).
    ///
    /// Returns a list, by rule and labels: `rule`, `labels`, `stands` (`quiet`, `pending`, `firing` or `no-data`), `known` (whether the newest
    /// answer was one; a rule with too little traffic is `idle`), `idle`, `value` (the last number, else `()`), `holds` (since when it is
    /// beyond the limit), `since` (since when it fires), `service` (that it is about, as far as the system tells) and `summary`. A rule
    /// without any series is in it once, without labels, and not `known`. Hold times count back over the stored samples, so that a
    /// look every minute sees what a look every 15 seconds sees.
    ///
    /// Needs `samples: ["read:…"]` for each series of the rules; nothing for what was made up.
    #[rhai_fn(name = "evaluate", return_raw, volatile)]
    pub fn evaluate_with(native: NativeCallContext, rules: Map, options: Map) -> RhaiResultOf<Dynamic> {
        asked(&Call::new(&native, "rules::evaluate")?, rules, options)
    }

    /// What rules say of the stored samples at the moment.
    #[rhai_fn(return_raw, volatile)]
    pub fn evaluate(native: NativeCallContext, rules: Map) -> RhaiResultOf<Dynamic> {
        evaluate_with(native, rules, Map::new())
    }

    /// Rules as Prometheus writes them.
    ///
    /// ```rhai
    /// let rule = #{ kind: "value", series: "queue", above: 10, level: "warning", severity: "sev3" };
    /// let written = rules::expressions(#{ Queue: rule });
    /// written == () || written.expressions.Queue == "queue > 10" && written.file.contains("- alert: \"Queue\"")
    /// ```
    ///
    /// Returns `expressions` (by name), `absent` (the expression that says that there is no data, for rules with `no_data`) and
    /// `file`: a rule file, which `promtool check rules` takes.
    #[rhai_fn(return_raw, volatile)]
    pub fn expressions(native: NativeCallContext, rules: Map) -> RhaiResultOf<Dynamic> {
        written(&Call::new(&native, "rules::expressions")?, rules)
    }
}

fn check_options(options: &Dynamic) -> std::result::Result<(), crate::host::OptionError> {
    crate::host::read_options::<Keys>(options).map(drop)
}

/// The keys there are; what stands under them is looked at when it is known.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    also: serde::de::IgnoredAny,
    firing: serde::de::IgnoredAny,
    series: serde::de::IgnoredAny,
    every: Option<Span>,
    at: Option<Span>,
}

fn asked(call: &Call<'_>, rules: rhai::Map, options: rhai::Map) -> RhaiResultOf<Dynamic> {
    let question = || -> Result<RulesQuestion> {
        let options: Options = data(&Dynamic::from_map(options), "the options of `rules::evaluate`")?;
        Ok(RulesQuestion {
            rules: data(&Dynamic::from_map(rules), "these are no rules")?,
            also: options.also.into_iter().map(|one| (one.series, one.value)).collect(),
            firing: options.firing,
            made_up: options.series,
            every: options.every,
            at: options.at,
        })
    };
    let question = question().map_err(|error| call.fail(error))?;
    if question.made_up.is_empty() {
        call.permit_any("samples", "read")?;
    }
    ask(call, WatchQuestion::Rules(question))
}

fn written(call: &Call<'_>, rules: rhai::Map) -> RhaiResultOf<Dynamic> {
    let rules = data(&Dynamic::from_map(rules), "these are no rules").map_err(|error| call.fail(error))?;
    ask(call, WatchQuestion::Expressions { rules })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Kind;
    use crate::host::Question;
    use crate::host::testing::Bench;

    const RULE: &str = r#"#{ Down: #{ kind: "down", series: "up{job=\"a\"}", level: "critical", severity: "sev1" } }"#;

    #[test]
    fn rules_read_the_series_they_are_about_and_no_others() {
        let bench = Bench::new(json!({ "samples": ["read:up"] }));
        drop(bench.eval(&format!(r#"rules::evaluate({RULE}, #{{ also: [#{{ series: "up{{job=\"a\"}}", value: 0 }}] }})"#)).unwrap());
        let [Question::Watch(WatchQuestion::Rules(asked))] = &bench.recorder.questions()[..] else { panic!("not asked") };
        assert_eq!((asked.rules["Down"].series.as_str(), asked.also[0].1), ("up{job=\"a\"}", Some(0.0)));
        let denied = Bench::new(json!({ "samples": ["read:down"] }));
        assert_eq!(denied.error(&format!("rules::evaluate({RULE})")).kind, Kind::Denied);
        let made_up = format!(r#"rules::evaluate({RULE}, #{{ series: [#{{ series: "up", values: "1" }}] }})"#);
        drop(denied.eval(&made_up).unwrap());
    }

    #[test]
    fn what_is_no_rule_or_option_is_named() {
        let bench = Bench::new(json!({ "samples": ["read:*"] }));
        let error = bench.error(r#"rules::evaluate(#{ A: #{ kind: "downn", series: "up" } })"#);
        assert_eq!((error.kind, error.message.contains("downn")), (Kind::Invalid, true), "{error}");
        assert!(bench.error(&format!("rules::evaluate({RULE}, #{{ serie: [] }})")).message.contains("serie"));
    }
}
