//! Rules tried on series that were made up: what must fire does, what must not does not.
//!
//! A file of TOML, like the unit tests of promtool:
//!
//! ```toml
//! system = "shop"
//!
//! [[series]]
//! series = 'up{job="shop"}'
//! values = "1x10 0x20 ?x5 _x5"
//!
//! [[expect]]
//! at = "7m"
//! rule = "ServiceDown"
//! is = "firing"
//! ```

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::alarm::{Alarms, Standing};
use super::rule::{Answer, Sources, look};
use crate::error::{Error, Kind, Result};
use crate::model::system::Rule;
use crate::model::{Labels, Reading, Sample, Series, Span, Track};

/// The most samples one notation stands for.
const MOST: usize = 1_000_000;

/// A file of made-up series and of what is expected of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// The system whose rules are tried.
    #[serde(default)]
    pub system: Option<String>,
    /// The time between two samples.
    #[serde(default = "Drill::every")]
    pub every: Span,
    /// The time between two looks at the rules; `every` when absent.
    #[serde(default)]
    pub look: Option<Span>,
    /// The series.
    #[serde(default)]
    pub series: Vec<Values>,
    /// What is expected.
    pub expect: Vec<Expectation>,
}

/// A series that was made up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Values {
    /// Its name and labels.
    pub series: Series,
    /// Its samples: `0+10x5` is 0 and five more, each larger by 10; `3x5` is six times 3; `_x5` are five that
    /// are absent, `?x5` five that are unknown.
    pub values: String,
}

/// What is expected of a rule at a moment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The moment, from the first sample.
    pub at: Span,
    /// The rule.
    pub rule: String,
    /// The labels that are meant; those of the worst alarm when absent.
    #[serde(default)]
    pub labels: Option<Labels>,
    /// Where it must stand.
    pub is: Standing,
    /// The number it must have, to a thousandth of it.
    #[serde(default)]
    pub value: Option<f64>,
}

/// What became of an expectation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The rule.
    pub rule: String,
    /// The moment, from the first sample.
    pub at: Span,
    /// Where it had to stand.
    pub expected: Standing,
    /// Where it stood.
    pub found: Standing,
    /// The last number.
    pub value: Option<f64>,
    /// Whether that is as expected.
    pub passed: bool,
}

impl Drill {
    fn every() -> Span {
        Span::secs(30)
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// `invalid`, with what is wrong and where.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| Error::new(Kind::Invalid, error.to_string().trim_end().to_owned()))
    }

    /// Tries the rules.
    ///
    /// # Errors
    ///
    /// `invalid` for values that can not be read; `not_found` for a rule that is not there.
    pub fn run(&self, rules: &BTreeMap<String, Rule>) -> Result<Vec<Outcome>> {
        if self.every.0.is_zero() {
            return Err(Error::new(Kind::Invalid, "`every` is 0, expected some time"));
        }
        let tracks: Vec<Track> = self.series.iter().map(|values| self.track(values)).collect::<Result<_>>()?;
        self.expect.iter().map(|expected| self.compare(expected, rules, &tracks)).collect()
    }

    fn compare(&self, expected: &Expectation, rules: &BTreeMap<String, Rule>, tracks: &[Track]) -> Result<Outcome> {
        let rule = rules.get(&expected.rule).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("there is no rule `{}`", expected.rule)).suggest(&expected.rule, rules.keys())
        })?;
        let alarms = self.at(rule, tracks, expected.at)?;
        let alarm = match &expected.labels {
            Some(labels) => alarms.of(labels),
            None => alarms.each().map(|(_, alarm)| *alarm).max_by_key(|alarm| rank(alarm.standing())).unwrap_or_default(),
        };
        let found = alarm.standing();
        let near = |wanted: f64| alarm.value.is_some_and(|value| (value - wanted).abs() <= wanted.abs().max(1e-9) / 1000.0);
        let passed = found == expected.is && expected.value.is_none_or(near);
        Ok(Outcome { rule: expected.rule.clone(), at: expected.at, expected: expected.is, found, value: alarm.value, passed })
    }

    /// What one rule says at a moment, at the last sample when there is none, and its alarms then.
    ///
    /// # Errors
    ///
    /// `invalid` for values or selectors that can not be read.
    pub(super) fn try_one(&self, rule: &Rule, moment: Option<Span>) -> Result<(BTreeMap<Labels, Answer>, Alarms)> {
        if self.every.0.is_zero() {
            return Err(Error::new(Kind::Invalid, "`every` is 0, expected some time"));
        }
        let tracks: Vec<Track> = self.series.iter().map(|values| self.track(values)).collect::<Result<_>>()?;
        let last = tracks.iter().filter_map(|track| track.samples.last()).map(|sample| sample.at).max().unwrap_or_else(start);
        let end = moment.map_or(Ok(last), after)?;
        let moment = Span(end.duration_since(start()).unsigned_abs());
        Ok((look(rule, &Sources::of(rule)?, &tracks, end), self.at(rule, &tracks, moment)?))
    }

    /// The alarms of a rule after it was looked at from the first sample to a moment.
    fn at(&self, rule: &Rule, tracks: &[Track], moment: Span) -> Result<Alarms> {
        let step = self.look.unwrap_or(self.every).signed().max(SignedDuration::from_secs(1));
        Ok(Alarms::of_looks(rule, &Sources::of(rule)?, tracks, start(), after(moment)?, step))
    }

    fn track(&self, values: &Values) -> Result<Track> {
        let mut samples = Vec::new();
        let mut at = start();
        for value in notation(&values.values)? {
            samples.extend(value.map(|value| Sample { at, value }));
            at = at.checked_add(self.every.0).map_err(|_| too_long())?;
        }
        Ok(Track { series: values.series.clone(), samples })
    }
}

fn rank(standing: Standing) -> u8 {
    match standing {
        Standing::Quiet => 0,
        Standing::Pending => 1,
        Standing::NoData => 2,
        Standing::Firing => 3,
    }
}

/// Any moment will do: the first of 2026.
fn start() -> Timestamp {
    Timestamp::constant(1_767_225_600, 0)
}

fn after(span: Span) -> Result<Timestamp> {
    start().checked_add(span.0).map_err(|_| too_long())
}

fn too_long() -> Error {
    Error::new(Kind::Invalid, "the series are longer than time")
}

/// The samples a notation stands for; nothing where one is absent.
fn notation(text: &str) -> Result<Vec<Option<Reading>>> {
    let wrong = |part: &str| {
        Error::new(Kind::Invalid, format!("`{part}` stands for no samples"))
            .hint("`0+10x5` is 0 and five more, `3x5` is 3 and five more, `_x5` are five absent ones, `?x5` five unknown ones")
    };
    let mut samples = Vec::new();
    for part in text.split_whitespace() {
        let (first, times) = match part.rsplit_once('x') {
            Some((first, times)) => (first, Some(times.parse::<usize>().ok().filter(|times| *times <= MOST).ok_or_else(|| wrong(part))?)),
            None => (part, None),
        };
        let count = times.unwrap_or(0);
        match first {
            "_" => samples.extend(std::iter::repeat_n(None, times.unwrap_or(1))),
            "?" => samples.extend(std::iter::repeat_n(Some(Reading::Unknown), times.unwrap_or(1))),
            _ => {
                let (base, step) = line(first).ok_or_else(|| wrong(part))?;
                #[expect(clippy::cast_precision_loss, reason = "at most a million")]
                samples.extend((0..=count).map(|index| Some(Reading::of(base + step * index as f64))));
            }
        }
        if samples.len() > MOST {
            return Err(wrong(part));
        }
    }
    Ok(samples)
}

/// `5`, `5+2`, `5-2`, `-5+2`.
fn line(text: &str) -> Option<(f64, f64)> {
    let sign = text.char_indices().skip(1).find(|(at, letter)| matches!(letter, '+' | '-') && !text[..*at].ends_with(['e', 'E']));
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    match sign {
        Some((at, _)) => Some((number(&text[..at])?, number(&text[at..])?)),
        None => Some((number(text)?, 0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BUILTIN, Environment, Systems};
    use crate::model::System;
    use crate::model::system::RuleKind;

    #[test]
    fn the_notation_is_that_of_promtool_and_knows_the_unknown() {
        let numbers = |text: &str| notation(text).unwrap().into_iter().map(|value| value.map(Reading::number)).collect::<Vec<_>>();
        let known = |values: &[f64]| values.iter().map(|value| Some(Some(*value))).collect::<Vec<_>>();
        assert_eq!(numbers("1 2.5"), known(&[1.0, 2.5]));
        assert_eq!(numbers("0+10x3"), known(&[0.0, 10.0, 20.0, 30.0]));
        assert_eq!(numbers("-2+1x2 5-2x1 7x1"), known(&[-2.0, -1.0, 0.0, 5.0, 3.0, 7.0, 7.0]));
        assert_eq!(numbers("_x2 ? _"), [None, None, Some(None), None]);
        for wrong in ["x", "1x", "1x-1", "ax3", "1+x3", "NaN", "1x9999999"] {
            assert!(notation(wrong).is_err(), "{wrong}");
        }
    }

    fn systems() -> Vec<System> {
        let environment = Environment::default();
        let systems = Systems::new("/nowhere", &environment);
        let manuals = BUILTIN.iter().filter(|(name, _)| *name != "host");
        manuals.map(|(name, _)| systems.load(name).unwrap().system).collect()
    }

    /// A series that a selector means, with the values.
    fn made(selector: &str, labels: &[(&str, &str)], values: impl Fn(f64) -> f64, samples: u32) -> Track {
        let name = selector.split('{').next().unwrap();
        let mut series = Series::new(name).with("instance", "one").with("fstype", "ext4").with("mountpoint", "/");
        let exact = regex::Regex::new(r#"(\w+)=~?"([^"|]*)"#).unwrap();
        for found in exact.captures_iter(selector) {
            series = series.with(&found[1], found[2].replace("5..", "500").replace(".*", "-x"));
        }
        for (label, value) in labels {
            series = series.with(*label, *value);
        }
        let every = SignedDuration::from_secs(30);
        let samples = (0..samples)
            .map(|index| Sample { at: start() + every * i32::try_from(index).unwrap(), value: values(f64::from(index)).into() });
        Track { series, samples: samples.collect() }
    }

    /// Samples of every 30 s that are beyond the limit of a rule by a factor, or within it.
    fn situation(rule: &Rule, factor: f64) -> Vec<Track> {
        let limit = rule.above.or(rule.below).unwrap_or(0.0) / rule.scale.unwrap_or(1.0);
        let wanted = limit * factor;
        let total = rule.total.clone().unwrap_or_default();
        let flat = |selector: &str, value: f64| made(selector, &[], move |_| value, 400);
        let count = |selector: &str, labels: &[(&str, &str)], rate: f64| made(selector, labels, move |index| index * 30.0 * rate, 400);
        match rule.kind {
            RuleKind::Down => vec![flat(&rule.series, if factor > 1.0 { 0.0 } else { 1.0 })],
            RuleKind::Value => vec![flat(&rule.series, wanted)],
            RuleKind::Rate => vec![count(&rule.series, &[], wanted)],
            RuleKind::Ratio => {
                vec![count(&rule.series, &[("status", "500")], 100.0 * wanted), count(&total, &[("status", "200")], 100.0 * (1.0 - wanted))]
            }
            RuleKind::Share => vec![flat(&rule.series, wanted * 1000.0), flat(&total, 1000.0)],
            RuleKind::Used => vec![flat(&rule.series, (1.0 - wanted) * 1000.0), flat(&total, 1000.0)],
            RuleKind::Busy => vec![count(&rule.series, &[], 1.0 - wanted)],
            RuleKind::Quantile => {
                let slow = if factor > 1.0 { 0.5 } else { 0.0 };
                let bucket = |le: &str, rate: f64| count(&rule.series, &[("le", le)], rate);
                vec![bucket("0.1", 10.0 * (1.0 - slow)), bucket("1", 10.0 * (1.0 - slow)), bucket("10", 10.0), bucket("+Inf", 10.0)]
            }
        }
    }

    /// Where a rule stands after each look, one every 30 s.
    fn watched(rule: &Rule, tracks: &[Track], looks: i32) -> Vec<Standing> {
        let sources = Sources::of(rule).unwrap();
        let mut alarms = Alarms::default();
        let step = |index: i32| {
            let now = start() + SignedDuration::from_secs(30) * index;
            alarms.take(rule, &look(rule, &sources, tracks, now), now);
            let worst = alarms.each().map(|(_, alarm)| alarm.standing()).max_by_key(|standing| rank(*standing));
            worst.unwrap_or(Standing::Quiet)
        };
        (0..looks).map(step).collect()
    }

    #[test]
    fn all_29_rules_of_the_manuals_fire_after_their_time_and_never_when_all_is_well() {
        let mut count = 0;
        for system in systems() {
            for (name, rule) in &system.rules {
                count += 1;
                let name = format!("{} {name}", system.name);
                // A limit that small values are beyond: the other way round.
                let (bad, good) = if rule.below.is_some() { (0.8, 1.05) } else { (1.05, 0.8) };
                let mut bad = situation(rule, bad);
                if rule.kind == RuleKind::Quantile {
                    bad = situation(rule, 2.0);
                }
                let stood = watched(rule, &bad, 200);
                let fired = stood.iter().position(|standing| *standing == Standing::Firing);
                let held = stood.iter().position(|standing| *standing == Standing::Pending).unwrap_or(0);
                let hold = rule.hold.unwrap().0.as_secs() / 30;
                assert_eq!(fired.unwrap_or_else(|| panic!("{name} never fires")) - held, usize::try_from(hold).unwrap(), "{name}");
                let well = if rule.kind == RuleKind::Quantile { situation(rule, 0.5) } else { situation(rule, good) };
                assert!(watched(rule, &well, 200).iter().all(|standing| *standing == Standing::Quiet), "{name} fires when all is well");
            }
        }
        assert_eq!(count, 29);
    }

    #[test]
    fn all_29_rules_tell_silence_and_unknown_and_never_take_them_for_good_news() {
        for system in systems() {
            for (name, rule) in &system.rules {
                let no_data = usize::try_from(rule.no_data.unwrap().0.as_secs() / 30).unwrap();
                let never = watched(rule, &[], 200);
                assert_eq!(never.iter().position(|standing| *standing == Standing::NoData), Some(no_data), "{} {name}", system.name);
                let mut lost = situation(rule, 1.0);
                for track in &mut lost {
                    track.samples.retain(|sample| sample.at <= start() + SignedDuration::from_mins(10));
                }
                assert_eq!(watched(rule, &lost, 200)[20 + no_data + 1], Standing::NoData, "{} {name} when its series ends", system.name);
                let mut unknown = situation(rule, 1.0);
                for sample in unknown.iter_mut().flat_map(|track| &mut track.samples) {
                    if sample.at > start() + SignedDuration::from_mins(10) {
                        sample.value = Reading::Unknown;
                    }
                }
                assert_eq!(watched(rule, &unknown, 200).last(), Some(&Standing::NoData), "{} {name} when it is unknown", system.name);
            }
        }
    }

    #[test]
    fn one_error_of_a_thousand_is_silent_and_one_at_night_too() {
        for system in systems() {
            for (name, rule) in system.rules.iter().filter(|(_, rule)| rule.kind == RuleKind::Ratio) {
                let total = rule.total.clone().unwrap();
                let errors = |per_second: f64| made(&rule.series, &[("status", "500")], move |index| index * 30.0 * per_second, 200);
                let fine = |per_second: f64| made(&total, &[("status", "200")], move |index| index * 30.0 * per_second, 200);
                let quiet = |tracks: &[Track]| watched(rule, tracks, 200).iter().all(|standing| *standing == Standing::Quiet);
                assert!(quiet(&[errors(0.01), fine(9.99)]), "{} {name}", system.name);
                assert!(quiet(&[errors(0.001), fine(0.0)]), "{} {name} at night", system.name);
                assert!(!quiet(&[errors(1.2), fine(8.8)]), "{} {name}", system.name);
            }
        }
    }

    #[test]
    fn a_file_says_what_it_expects() {
        let rules = BTreeMap::from([(
            "ServiceDown".to_owned(),
            Rule {
                kind: RuleKind::Down,
                series: "up".to_owned(),
                hold: Some(Span::secs(60)),
                no_data: Some(Span::secs(120)),
                ..Rule::default()
            },
        )]);
        let drill = Drill::parse(
            r#"
            every = "30s"
            [[series]]
            series = 'up{job="shop"}'
            values = "1x3 0x3 ?x9"
            [[expect]]
            at = "1m"
            rule = "ServiceDown"
            is = "quiet"
            [[expect]]
            at = "150s"
            rule = "ServiceDown"
            is = "pending"
            [[expect]]
            at = "3m"
            rule = "ServiceDown"
            is = "firing"
            value = 0.0
            labels = { job = "shop" }
            [[expect]]
            at = "7m"
            rule = "ServiceDown"
            is = "quiet"
            "#,
        )
        .unwrap();
        let outcomes = drill.run(&rules).unwrap();
        assert_eq!(outcomes.iter().map(|outcome| outcome.passed).collect::<Vec<_>>(), [true, true, true, false]);
        assert_eq!(outcomes[3].found, Standing::NoData);
        assert!(Drill::parse("[[expect]]\nat = \"1m\"\nrule = \"a\"\nis = \"loud\"").is_err());
        let unknown = Drill { expect: vec![Expectation { rule: "ServiceDwn".to_owned(), ..drill.expect[0].clone() }], ..drill };
        assert_eq!(unknown.run(&rules).unwrap_err().hints, ["did you mean `ServiceDown`?"]);
    }
}
