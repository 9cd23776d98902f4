//! The text in which programs tell their metrics to Prometheus.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Kind, Result};
use crate::host::measure::Measured;
use crate::model::{Reading, Selector, Series};

/// The most series one text may have.
const MOST: usize = 10_000;

/// How it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    labels: BTreeMap<String, String>,
    only: Vec<String>,
}

impl Options {
    /// Those that these selectors mean; all when there are none.
    pub(super) fn only(only: &[String]) -> Self {
        Self { only: only.to_vec(), ..Self::default() }
    }
}

/// The series of a text, with the options' labels where they have none of that name.
pub(super) fn read(text: &str, options: &Options) -> Result<Measured> {
    let only = options.only.iter().map(|selector| selector.parse()).collect::<Result<Vec<Selector>>>()?;
    let mut found = Measured::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (mut series, value) = sample(line).ok_or_else(|| {
            let start: String = line.chars().take(80).collect();
            Error::new(
                Kind::Invalid,
                format!("line {} is no sample of the text format of Prometheus: `{}`", number + 1, start.escape_debug()),
            )
        })?;
        for (label, value) in &options.labels {
            series.labels.entry(label.clone()).or_insert_with(|| value.clone());
        }
        if !only.is_empty() && !only.iter().any(|selector| selector.selects(&series)) {
            continue;
        }
        if found.len() == MOST {
            return Err(
                Error::new(Kind::Limit, format!("the text has more than {MOST} series")).hint("name those that are needed with `only`")
            );
        }
        found.push((series, value));
    }
    Ok(found)
}

/// `name{label="value"} 3.5 1700000000000`: the time is that of whoever asks.
fn sample(line: &str) -> Option<(Series, Reading)> {
    let (series, rest) = line.split_at(end_of_series(line)?);
    let value = rest.split_whitespace().next()?;
    // `+Inf` and `NaN` are numbers there, and none here.
    let value = value.parse::<f64>().ok()?;
    Some((series.parse().ok()?, Reading::of(value)))
}

/// Where name and labels end; a `}` in a value is no end.
fn end_of_series(line: &str) -> Option<usize> {
    let name = line.find(|letter: char| letter == '{' || letter.is_whitespace())?;
    if !line[name..].starts_with('{') {
        return Some(name);
    }
    let (mut quoted, mut escaped) = (false, false);
    for (at, letter) in line.char_indices().skip_while(|(at, _)| *at < name) {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(String, Option<f64>)> {
        read(text, &Options::default()).unwrap().into_iter().map(|(series, value)| (series.to_string(), value.number())).collect()
    }

    #[test]
    fn the_text_of_an_exporter_is_read_as_prometheus_reads_it() {
        let text = "# HELP a b\n# TYPE a counter\na 1\n  b{x=\"1\"} 2.5 1700000000000\nc_bucket{le=\"+Inf\"} 3e2\n\nd{p=\"C:\\\\ {\\\"}\\\"\"} -4\ne NaN\nf +Inf\n";
        let expected = [
            ("a", Some(1.0)),
            ("b{x=\"1\"}", Some(2.5)),
            ("c_bucket{le=\"+Inf\"}", Some(300.0)),
            ("d{p=\"C:\\\\ {\\\"}\\\"\"}", Some(-4.0)),
            ("e", None),
            ("f", None),
        ];
        assert_eq!(all(text), expected.map(|(series, value)| (series.to_owned(), value)));
    }

    #[test]
    fn what_is_no_sample_names_its_line() {
        for wrong in ["a 1\nb", "a 1\n<html>", "a 1\nb{x=\"1\" 3", "a 1\nb one"] {
            let error = read(wrong, &Options::default()).unwrap_err();
            assert!(error.message.starts_with("line 2 "), "{error}");
        }
    }

    #[test]
    fn only_what_is_asked_for_is_taken_and_its_own_labels_win() {
        let options =
            Options { labels: [("job".to_owned(), "b".to_owned())].into(), only: vec!["up{job=\"a\"}".to_owned(), "x".to_owned()] };
        let found = read("up{job=\"a\"} 1\nup 0\nx 2\ny 3", &options).unwrap();
        let names: Vec<String> = found.iter().map(|(series, _)| series.to_string()).collect();
        assert_eq!(names, ["up{job=\"a\"}", "x{job=\"b\"}"]);
    }
}
