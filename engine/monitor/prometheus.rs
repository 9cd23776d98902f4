//! Rules as Prometheus takes them: the same data for those who alarm with it.

use std::fmt::Write;

use crate::error::Result;
use crate::model::system::{Over, Rule, RuleKind};
use crate::model::{Selector, Span, System};

/// The rules of a system as a rule file. Each rule that knows silence is followed by one for that.
///
/// # Errors
///
/// `invalid` for a series that is no selector.
pub fn render(system: &System) -> Result<String> {
    let mut text = format!("# The alert rules of {}, made by `runbook rules render`.\ngroups:\n", system.title.replace('\n', " "));
    let _ = writeln!(text, "  - name: {}\n    rules:", quoted(&system.name));
    for (name, rule) in &system.rules {
        let summary = if rule.summary.is_empty() { name } else { &rule.summary };
        alert(&mut text, name, &expression(name, rule)?, rule.hold, &labels(rule, &rule.level), summary);
        if let Some(no_data) = rule.no_data {
            let silent = format!("{name}NoData");
            alert(&mut text, &silent, &absence(rule)?, Some(no_data), &labels(rule, "unknown"), &format!("{summary}: no data"));
        }
    }
    Ok(text)
}

/// A rule as an expression of Prometheus.
///
/// # Errors
///
/// `invalid` for a series that is no selector.
pub fn expression(name: &str, rule: &Rule) -> Result<String> {
    let value = value(rule)?;
    let compared = match (rule.kind, rule.above, rule.below) {
        (RuleKind::Down, ..) => return Ok(format!("{value} == 0")),
        (_, Some(above), _) => goes_on(name, rule, &value, ">", above),
        (_, _, below) => goes_on(name, rule, &value, "<", below.unwrap_or(0.0)),
    };
    let Some(minimum) = rule.minimum else { return Ok(compared) };
    // What the traffic is: all requests of a ratio, all observations of a histogram.
    let traffic = match (rule.kind, &rule.total) {
        (RuleKind::Quantile, _) => rate(&rule.series.parse::<Selector>()?.and("le", "+Inf").to_string(), rule),
        (_, Some(total)) => rate(&total.parse::<Selector>()?.to_string(), rule),
        _ => return Ok(compared),
    };
    let on = rule.by.join(", ");
    Ok(format!("({compared}) and on ({on}) ({}({traffic}) >= {minimum})", sum(&rule.by)))
}

/// What a rule compares with what, in short: without its traffic and the level that ends it.
///
/// # Errors
///
/// `invalid` for a series that is no selector.
pub fn condition(rule: &Rule) -> Result<String> {
    expression("", &Rule { minimum: None, clear: None, ..rule.clone() })
}

/// The comparison, with the level at which what fires stops doing so.
fn goes_on(name: &str, rule: &Rule, value: &str, sign: &str, limit: f64) -> String {
    let Some(clear) = rule.clear else { return format!("{value} {sign} {limit}") };
    let firing = format!("ALERTS{{alertname={}, alertstate=\"firing\"}}", quoted(name));
    let own: Vec<String> =
        ["alertname", "alertstate"].into_iter().map(str::to_owned).chain(labels(rule, "").into_iter().map(|(label, _)| label)).collect();
    format!("{value} {sign} {limit} or ({value} {sign} {clear} and ignoring ({}) {firing})", own.join(", "))
}

/// What is compared.
fn value(rule: &Rule) -> Result<String> {
    let series = rule.series.parse::<Selector>()?.to_string();
    let total = rule.total.as_ref().map(|total| total.parse::<Selector>()).transpose()?.map(|total| total.to_string()).unwrap_or_default();
    let window = window(rule);
    let value = match rule.kind {
        RuleKind::Down => return Ok(series),
        RuleKind::Value => {
            let over = match rule.over {
                None => series,
                Some(Over::Mean) => format!("avg_over_time({series}[{window}])"),
                Some(Over::Max) => format!("max_over_time({series}[{window}])"),
                Some(Over::Min) => format!("min_over_time({series}[{window}])"),
            };
            if rule.by.is_empty() { over } else { format!("{}({over})", sum(&rule.by)) }
        }
        RuleKind::Rate => format!("{}({})", sum(&rule.by), rate(&series, rule)),
        RuleKind::Ratio => {
            let part = format!("{}({})", sum(&rule.by), rate(&series, rule));
            // An error that was never seen is none, not an unknown.
            let part = if rule.by.is_empty() { format!("({part} or vector(0))") } else { part };
            format!("{part} / {}({})", sum(&rule.by), rate(&total, rule))
        }
        RuleKind::Share => format!("{series} / ({total} > 0)"),
        RuleKind::Used => format!("(1 - {series} / ({total} > 0))"),
        RuleKind::Busy => format!("(1 - {}({}))", sum(&rule.by).replacen("sum", "avg", 1), rate(&series, rule)),
        RuleKind::Quantile => {
            let by: Vec<String> = rule.by.iter().cloned().chain(["le".to_owned()]).collect();
            format!("histogram_quantile({}, {}({}))", rule.quantile.unwrap_or(0.5), sum(&by), rate(&series, rule))
        }
    };
    Ok(rule.scale.map_or_else(|| value.clone(), |scale| format!("{value} * {scale}")))
}

/// An expression of Prometheus that there is nothing. A ratio is silent when its total is: without an error it
/// only has nothing to report.
///
/// # Errors
///
/// `invalid` for a series that is no selector.
pub fn absence(rule: &Rule) -> Result<String> {
    let what = match (rule.kind, &rule.total) {
        (RuleKind::Ratio, Some(total)) => total,
        _ => &rule.series,
    };
    Ok(format!("absent({})", what.parse::<Selector>()?))
}

fn sum(by: &[String]) -> String {
    if by.is_empty() { "sum".to_owned() } else { format!("sum by ({}) ", by.join(", ")) }
}

fn rate(series: &str, rule: &Rule) -> String {
    format!("rate({series}[{}])", window(rule))
}

fn window(rule: &Rule) -> String {
    span(rule.window.unwrap_or(Span::secs(300)))
}

/// A span as Prometheus writes it: without blanks.
fn span(span: Span) -> String {
    span.exact().replace(' ', "")
}

fn labels(rule: &Rule, level: &str) -> Vec<(String, String)> {
    let own = [
        ("severity", Some(level)),
        ("sev", Some(rule.severity.as_str())),
        ("team", rule.team.as_deref()),
        ("service", rule.service.as_deref()),
    ];
    let own = own.into_iter().filter_map(|(label, value)| value.map(|value| (label.to_owned(), value.to_owned())));
    own.chain(rule.labels.iter().map(|(label, value)| (label.clone(), value.clone()))).collect()
}

fn alert(text: &mut String, name: &str, expression: &str, hold: Option<Span>, labels: &[(String, String)], summary: &str) {
    let _ = writeln!(text, "      - alert: {}\n        expr: {}", quoted(name), quoted(expression));
    if let Some(hold) = hold {
        let _ = writeln!(text, "        for: {}", span(hold));
    }
    text.push_str("        labels:\n");
    for (label, value) in labels {
        let _ = writeln!(text, "          {label}: {}", quoted(value));
    }
    let _ = writeln!(text, "        annotations:\n          summary: {}\n          value: {}", quoted(summary), quoted("{{ $value }}"));
}

/// A text as YAML takes it: a text of JSON is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(kind: RuleKind) -> Rule {
        Rule {
            kind,
            series: "a".to_owned(),
            total: Some("b".to_owned()),
            window: Some(Span::secs(300)),
            above: Some(0.5),
            level: "warning".to_owned(),
            severity: "sev3".to_owned(),
            ..Rule::default()
        }
    }

    #[test]
    fn each_kind_has_its_expression() {
        let by = |labels: &[&str], rule: Rule| Rule { by: labels.iter().map(|label| (*label).to_owned()).collect(), ..rule };
        for (rule, expected) in [
            (rule(RuleKind::Down), "a == 0"),
            (rule(RuleKind::Value), "a > 0.5"),
            (by(&["x"], rule(RuleKind::Value)), "sum by (x) (a) > 0.5"),
            (Rule { over: Some(Over::Mean), ..rule(RuleKind::Value) }, "avg_over_time(a[5m]) > 0.5"),
            (Rule { scale: Some(60.0), ..rule(RuleKind::Rate) }, "sum(rate(a[5m])) * 60 > 0.5"),
            (
                Rule { minimum: Some(0.1), ..rule(RuleKind::Ratio) },
                "((sum(rate(a[5m])) or vector(0)) / sum(rate(b[5m])) > 0.5) and on () (sum(rate(b[5m])) >= 0.1)",
            ),
            (rule(RuleKind::Share), "a / (b > 0) > 0.5"),
            (rule(RuleKind::Used), "(1 - a / (b > 0)) > 0.5"),
            (by(&["i"], rule(RuleKind::Busy)), "(1 - avg by (i) (rate(a[5m]))) > 0.5"),
            (Rule { quantile: Some(0.95), ..rule(RuleKind::Quantile) }, "histogram_quantile(0.95, sum by (le) (rate(a[5m]))) > 0.5"),
            (
                Rule { clear: Some(0.4), ..rule(RuleKind::Value) },
                "a > 0.5 or (a > 0.4 and ignoring (alertname, alertstate, severity, sev) ALERTS{alertname=\"R\", alertstate=\"firing\"})",
            ),
            (Rule { above: None, below: Some(0.6), ..rule(RuleKind::Value) }, "a < 0.6"),
        ] {
            assert_eq!(expression("R", &rule).unwrap(), expected);
        }
    }
}
