//! What was measured, when, and that it could not be.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Kind, Result};

/// The labels of a series, by name.
pub type Labels = BTreeMap<String, String>;

/// A quantity that is measured again and again: its name and labels, as in `up{job="shop"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// What is measured.
    pub name: String,
    /// Of what.
    pub labels: Labels,
}

/// What a measurement gave. That it gave nothing is an answer too: never zero, never left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// A finite number.
    Known(f64),
    /// It was tried, and there is no number.
    Unknown,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// When, to the millisecond.
    pub at: Timestamp,
    /// What it gave.
    pub value: Reading,
}

/// A series and some of its samples, the oldest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Track {
    /// The series.
    pub series: Series,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// The samples of a span in one line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bucket {
    /// Where the span begins.
    pub at: Timestamp,
    /// How many samples have a number.
    pub count: u64,
    /// How many have none.
    pub unknown: u64,
    /// The smallest number; unknown without any.
    pub min: Reading,
    /// The largest.
    pub max: Reading,
    /// Their mean.
    pub mean: Reading,
    /// What the last sample gave.
    pub last: Reading,
}

/// A series in spans of one length, the oldest first. A span without a sample is absent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// The series.
    pub series: Series,
    /// Its spans.
    pub buckets: Vec<Bucket>,
}

impl Reading {
    /// A number, or unknown when it is none.
    pub fn of(number: f64) -> Self {
        if number.is_finite() { Self::Known(number) } else { Self::Unknown }
    }

    /// The number.
    pub fn number(self) -> Option<f64> {
        match self {
            Self::Known(number) => Some(number),
            Self::Unknown => None,
        }
    }
}

impl From<f64> for Reading {
    fn from(number: f64) -> Self {
        Self::of(number)
    }
}

impl From<Option<f64>> for Reading {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::Unknown, Self::of)
    }
}

impl Serialize for Reading {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(number) => serializer.serialize_f64(*number),
            Self::Unknown => serializer.serialize_str("unknown"),
        }
    }
}

impl Series {
    /// A series without labels.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), labels: Labels::new() }
    }

    /// The same with one more label.
    #[must_use]
    pub fn with(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(label.into(), value.into());
        self
    }

    /// The same without this label: its value goes to `exported_LABEL`, as Prometheus has it.
    #[must_use]
    pub fn exported(mut self, label: &str) -> Self {
        let Some(value) = self.labels.remove(label) else { return self };
        let mut name = format!("exported_{label}");
        while self.labels.contains_key(&name) {
            name.insert_str(0, "exported_");
        }
        self.labels.insert(name, value);
        self
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.labels.is_empty() {
            return Ok(());
        }
        let labels: Vec<String> = self.labels.iter().map(|(label, value)| format!("{label}={}", quoted(value))).collect();
        write!(f, "{{{}}}", labels.join(","))
    }
}

impl FromStr for Series {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let selector: Selector = text.parse()?;
        let exact = selector.matchers.iter().all(|matcher| matcher.op == Op::Is);
        if selector.name.is_empty() || !exact {
            return Err(Error::new(Kind::Invalid, format!("`{text}` is not a series"))
                .hint("a series has a name and values for its labels: `up{job=\"shop\"}`"));
        }
        let labels = selector.matchers.into_iter().map(|matcher| (matcher.label, matcher.text)).collect();
        Ok(Self { name: selector.name, labels })
    }
}

impl Serialize for Series {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Series {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(error.message))
    }
}

/// Which series are meant, as Prometheus writes it: `up{job=~"shop.*",instance!="old"}`.
#[derive(Debug, Clone)]
pub struct Selector {
    /// The name of the series.
    pub name: String,
    matchers: Vec<Matcher>,
}

#[derive(Debug, Clone)]
struct Matcher {
    label: String,
    op: Op,
    text: String,
    /// What `text` means, for the two that compare with a pattern.
    pattern: Option<Regex>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Is,
    IsNot,
    Matches,
    Differs,
}

impl Op {
    const ALL: [(&'static str, Self); 4] = [("=~", Self::Matches), ("!~", Self::Differs), ("!=", Self::IsNot), ("=", Self::Is)];

    fn sign(self) -> &'static str {
        Self::ALL.iter().find(|(_, op)| *op == self).map_or("=", |(sign, _)| sign)
    }
}

impl Selector {
    /// Whether a series is meant. A label that is absent is empty.
    pub fn selects(&self, series: &Series) -> bool {
        series.name == self.name && self.matchers.iter().all(|matcher| matcher.accepts(&series.labels))
    }

    /// The one value a label must have, when it must have one.
    pub fn exactly(&self, label: &str) -> Option<&str> {
        self.matchers.iter().find(|matcher| matcher.label == label && matcher.op == Op::Is).map(|matcher| matcher.text.as_str())
    }

    /// The same, with one label of exactly this value.
    #[must_use]
    pub fn and(&self, label: &str, value: &str) -> Self {
        let mut selector = self.clone();
        selector.matchers.push(Matcher { label: label.to_owned(), op: Op::Is, text: value.to_owned(), pattern: None });
        selector
    }
}

impl Matcher {
    fn accepts(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.label).map(String::as_str).unwrap_or_default();
        let fits = self.pattern.as_ref().map_or(value == self.text, |pattern| pattern.is_match(value));
        fits == matches!(self.op, Op::Is | Op::Matches)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.matchers.is_empty() {
            return Ok(());
        }
        let matchers: Vec<String> =
            self.matchers.iter().map(|matcher| format!("{}{}{}", matcher.label, matcher.op.sign(), quoted(&matcher.text))).collect();
        write!(f, "{{{}}}", matchers.join(","))
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

impl FromStr for Selector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(Kind::Invalid, format!("`{text}` is not a selector of series: {why}"))
                .hint("write it like `http_requests_total{status=~\"5..\"}`")
        };
        let (name, mut rest) = word(text.trim(), true);
        if name.is_empty() {
            return Err(wrong("there is no name"));
        }
        let mut matchers = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside.trim_start();
            while !rest.starts_with('}') {
                let (label, after) = word(rest, false);
                if label.is_empty() {
                    return Err(wrong("there is no label where one is expected"));
                }
                let after = after.trim_start();
                let Some((sign, op)) = Op::ALL.into_iter().find(|(sign, _)| after.starts_with(sign)) else {
                    return Err(wrong("expected `=`, `!=`, `=~` or `!~` after a label"));
                };
                let (value, after) = value(after[sign.len()..].trim_start()).ok_or_else(|| wrong("expected a text in `\"`"))?;
                let pattern = match op {
                    Op::Is | Op::IsNot => None,
                    Op::Matches | Op::Differs => {
                        // As Prometheus has it: the whole value has to match.
                        Some(Regex::new(&format!("^(?s:{value})$")).map_err(|_| wrong("its pattern can not be read"))?)
                    }
                };
                matchers.push(Matcher { label: label.to_owned(), op, text: value, pattern });
                rest = after.trim_start();
                rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
            }
            rest = &rest[1..];
        }
        if !rest.trim().is_empty() {
            return Err(wrong("something follows it"));
        }
        Ok(Self { name: name.to_owned(), matchers })
    }
}

/// The name a text begins with, and what follows it.
fn word(text: &str, of_series: bool) -> (&str, &str) {
    let fits = |(at, letter): (usize, char)| {
        letter.is_ascii_alphabetic() || letter == '_' || of_series && letter == ':' || at > 0 && letter.is_ascii_digit()
    };
    let end = text.char_indices().find(|letter| !fits(*letter)).map_or(text.len(), |(at, _)| at);
    text.split_at(end)
}

/// The quoted text a text begins with, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut letters = inside.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &inside[at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                same @ ('"' | '\\') => same,
                _ => return None,
            }),
            _ => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(text: &str) -> Series {
        text.parse().unwrap()
    }

    #[test]
    fn a_selector_means_what_prometheus_means_by_it() {
        let selects = |selector: &str, text: &str| selector.parse::<Selector>().unwrap().selects(&series(text));
        for (selector, text, expected) in [
            ("up", "up{job=\"a\"}", true),
            ("up", "down", false),
            ("up{job=\"a\"}", "up{job=\"a\",instance=\"x\"}", true),
            ("up{job=\"a\"}", "up", false),
            ("up{job!=\"a\"}", "up", true),
            ("r{status=~\"5..\"}", "r{status=\"503\"}", true),
            ("r{status=~\"5..\"}", "r{status=\"1503\"}", false),
            ("r{ status =~ \"5..\" , }", "r{status=\"500\"}", true),
            ("fs{fstype!~\"tmpfs|overlay\"}", "fs{fstype=\"ext4\"}", true),
            ("fs{fstype!~\"tmpfs|overlay\"}", "fs{fstype=\"overlay\"}", false),
        ] {
            assert_eq!(selects(selector, text), expected, "{selector} {text}");
        }
    }

    #[test]
    fn what_is_no_selector_says_why() {
        for text in ["", "{a=\"b\"}", "up{", "up{a}", "up{a=b}", "up{a=\"b}", "up{a=\"\\d\"}", "up{a=~\"(\"}", "up{a=\"b\"} > 1", "1up"] {
            assert_eq!(text.parse::<Selector>().unwrap_err().kind, Kind::Invalid, "{text}");
        }
        assert!("up{job=~\"a\"}".parse::<Series>().is_err());
    }

    #[test]
    fn a_series_reads_back_as_it_is_written() {
        let odd = Series::new("up").with("path", "C:\\a \"b\"\nc").with("job", "食");
        assert_eq!(series(&odd.to_string()), odd);
    }

    #[test]
    fn a_label_that_is_somebody_elses_is_kept_under_another_name() {
        let one = series("a{exported_system=\"x\",system=\"y\"}").exported("system");
        assert_eq!(one, series("a{exported_exported_system=\"y\",exported_system=\"x\"}"));
        assert_eq!(series("a{b=\"c\"}").exported("system"), series("a{b=\"c\"}"));
    }

    #[test]
    fn no_number_is_unknown_and_not_zero() {
        assert_eq!(Reading::of(f64::NAN), Reading::Unknown);
        assert_eq!(Reading::of(f64::INFINITY), Reading::Unknown);
        assert_eq!(serde_json::to_value(Reading::Unknown).unwrap(), "unknown");
        assert_eq!(serde_json::to_value(Reading::of(0.0)).unwrap(), 0.0);
    }
}
