//! The sources of samples that a system file names: asked by the clients that scripts use, within their timeout
//! and with the permissions of whoever asks.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::exposition;
use crate::error::{Error, Kind, Result};
use crate::host::measure::Measured;
use crate::host::{Ctx, http, logs, redis, sql};
use crate::model::system::{Metric, MetricKind};
use crate::model::{Labels, Reading, Selector, Series, Span};

/// The most series of one source: all systems together may have 10 000.
const MOST_SERIES: usize = 2_000;
/// The longest name of a series or a label, and the longest value of a label.
const LONGEST_NAME: usize = 200;
const LONGEST_VALUE: usize = 1024;
/// The most labels of a series.
const MOST_LABELS: usize = 40;
/// The label that tells systems apart is not a source's to give.
const RESERVED: &str = "system";

/// What a source tells now.
///
/// # Errors
///
/// `not_found` when the system names no such source; `timeout`, `connect`, `remote`, `denied`, `invalid` when it can not be
/// asked or what it tells can not be read; `limit` when it tells too much. Nothing of it is taken then.
pub(in crate::host) async fn ask(ctx: &Ctx, name: &str) -> Result<Measured> {
    let metric = metric(ctx, name)?;
    let limit = metric.timeout();
    let told = match tokio::time::timeout(limit, told(ctx, name, metric, limit)).await {
        Ok(told) => told?,
        Err(_) => return Err(Error::new(Kind::Timeout, format!("no answer within {}", Span(limit))).target(name)),
    };
    let labels = labels(ctx, name, metric);
    let own: Measured = told.into_iter().map(|(series, value)| (called(series, &labels), value)).collect();
    within_limits(&own)?;
    Ok(own)
}

fn metric<'c>(ctx: &'c Ctx, name: &str) -> Result<&'c Metric> {
    let metrics = &ctx.system().metrics;
    metrics.get(name).ok_or_else(|| {
        let error = Error::new(Kind::NotFound, format!("the system has no metrics `{name}`"));
        error.suggest_or(name, metrics.keys(), || format!("add `[metrics.{name}]` to the file of the system"))
    })
}

async fn told(ctx: &Ctx, name: &str, metric: &Metric, limit: Duration) -> Result<Measured> {
    let given = |key: &Option<String>| key.as_deref().unwrap_or_default().to_owned();
    let series = || Series::new(metric.series_name(name));
    match metric.kind {
        MetricKind::Prometheus => {
            let page = http::page(ctx, &given(&metric.endpoint), metric.path.as_deref(), limit).await?;
            exposition::read(&page, &exposition::Options::only(&metric.only))
        }
        MetricKind::Json => {
            let page = http::page(ctx, &given(&metric.endpoint), metric.path.as_deref(), limit).await?;
            Ok(vec![(series(), number_at(&page, &given(&metric.field))?)])
        }
        MetricKind::Sql => {
            let rows = sql::numbers(ctx, &given(&metric.database), &given(&metric.query), Span(limit), MOST_SERIES).await?;
            one_each(rows.into_iter().map(|(labels, value)| (Series { labels, ..series() }, value)).collect())
        }
        MetricKind::Log => {
            let count = logs::matches(ctx, &given(&metric.log), &given(&metric.pattern), metric.window()).await?;
            #[expect(clippy::cast_precision_loss, reason = "a window has no 2^53 lines")]
            let per_minute = count as f64 / (metric.window().0.as_secs_f64() / 60.0);
            Ok(vec![(series(), per_minute.into())])
        }
        MetricKind::Hash => {
            let fields = redis::fields(ctx, &given(&metric.cache), &given(&metric.hash), Span(limit)).await?;
            let only = metric.only.iter().map(|only| only.parse()).collect::<Result<Vec<Selector>>>()?;
            // What is no number, like a time, is no metric.
            let number = |(field, text): (String, String)| Some((field.parse::<Series>().ok()?, text.trim().parse::<f64>().ok()?.into()));
            let is_meant = |series: &Series| only.is_empty() || only.iter().any(|only| only.selects(series));
            Ok(fields.into_iter().filter_map(number).filter(|(series, _)| is_meant(series)).collect())
        }
    }
}

/// These, when none is told twice: of rows that are the same but for the value nobody could say which one counts.
fn one_each(measured: Measured) -> Result<Measured> {
    let mut seen = BTreeSet::new();
    match measured.iter().find(|(series, _)| !seen.insert(series)) {
        Some((series, _)) => {
            let error = Error::new(Kind::Invalid, format!("two rows are `{series}`"));
            Err(error.hint("group by what tells them apart, and select it"))
        }
        None => Ok(measured),
    }
}

/// The labels of all its series. A page tells as a target of Prometheus does, which has a `job` and an `instance`;
/// a hash, whose fields have any name too, has an `instance`.
fn labels(ctx: &Ctx, name: &str, metric: &Metric) -> Labels {
    let mut labels = Labels::new();
    if metric.kind == MetricKind::Prometheus {
        let service = metric.endpoint.as_ref().and_then(|name| ctx.system().endpoints.get(name)?.service.clone());
        labels.insert("job".to_owned(), service.unwrap_or_else(|| name.to_owned()));
    }
    if matches!(metric.kind, MetricKind::Prometheus | MetricKind::Hash) {
        labels.insert("instance".to_owned(), name.to_owned());
    }
    labels.extend(metric.labels.clone());
    labels
}

/// The series with these labels; as Prometheus has it, what the source calls so too is kept under another name.
fn called(mut series: Series, labels: &Labels) -> Series {
    for label in labels.keys().map(String::as_str).chain([RESERVED]) {
        series = series.exported(label);
    }
    series.labels.extend(labels.clone());
    series
}

fn within_limits(measured: &Measured) -> Result<()> {
    let limit = |what: String| Err(Error::new(Kind::Limit, what).hint("name those that are needed with `only`"));
    if measured.len() > MOST_SERIES {
        return limit(format!("it tells {} series, and {MOST_SERIES} may be kept of one source", measured.len()));
    }
    for (series, _) in measured {
        let name: String = series.name.chars().take(80).collect();
        if series.name.len() > LONGEST_NAME || series.labels.keys().any(|label| label.len() > LONGEST_NAME) {
            return limit(format!("`{name}`: a name is longer than {LONGEST_NAME} characters"));
        }
        if series.labels.len() > MOST_LABELS {
            return limit(format!("`{name}` has {} labels, and {MOST_LABELS} may be kept", series.labels.len()));
        }
        if let Some((label, _)) = series.labels.iter().find(|(_, value)| value.len() > LONGEST_VALUE) {
            return limit(format!("`{name}`: the label `{label}` is longer than {LONGEST_VALUE} bytes"));
        }
        if !series.to_string().parse::<Series>().is_ok_and(|read| read == *series) {
            let error = Error::new(Kind::Invalid, format!("`{}` is no series", series.to_string().escape_debug()));
            return Err(error.hint("names have letters, digits and `_`"));
        }
    }
    Ok(())
}

/// The number at a dotted path of a JSON text. `null` is no number, and an answer.
fn number_at(text: &str, path: &str) -> Result<Reading> {
    let json: Value = serde_json::from_str(text).map_err(|error| Error::because(Kind::Remote, "the answer is no JSON", &error))?;
    match http::at(&json, path) {
        Some(Value::Number(number)) => Ok(number.as_f64().into()),
        Some(Value::Null) => Ok(Reading::Unknown),
        Some(other) => {
            let found: String = other.to_string().chars().take(60).collect();
            Err(Error::new(Kind::Remote, format!("`{path}` is `{found}`, expected a number")))
        }
        None => Err(Error::new(Kind::Remote, format!("the answer has no `{path}`"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;
    use crate::host::testing::Bench;
    use crate::host::{Mode, Secrets, value};

    /// A program that tells this; its port.
    fn teller(status: &'static str, body: String) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(std::result::Result::ok) {
                let _ = stream.read(&mut [0; 4096]);
                let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            }
        });
        port
    }

    /// A system with a program at this port, and these sources.
    fn bench(port: u16, metrics: Value) -> Bench {
        let system = json!({
            "endpoints": { "app": { "url": format!("http://127.0.0.1:{port}/health"), "network": "loopback", "service": "web" } },
            "metrics": metrics,
        });
        let allow = json!({ "http": ["${metrics.*}"] });
        Bench::with(allow, serde_json::from_value(system).unwrap(), Secrets::default(), Mode::Apply)
    }

    fn page(status: &'static str, body: impl Into<String>) -> Bench {
        bench(teller(status, body.into()), json!({ "app": { "endpoint": "app", "path": "/metrics" } }))
    }

    /// What a script found, by series; nothing for what is unknown.
    fn found(bench: &Bench, script: &str) -> BTreeMap<String, Option<f64>> {
        let found = bench.eval(script).unwrap_or_else(|error| panic!("{script}: {error}"));
        let all = value::plain(&found).unwrap();
        all.as_array().unwrap().iter().map(|one| (one["series"].as_str().unwrap().to_owned(), one["value"].as_f64())).collect()
    }

    fn expected(all: &[(&str, Option<f64>)]) -> BTreeMap<String, Option<f64>> {
        all.iter().map(|(series, value)| ((*series).to_owned(), *value)).collect()
    }

    #[test]
    fn a_page_is_kept_as_prometheus_keeps_it_and_labels_that_are_ours_are_exported() {
        let text = "# TYPE requests_total counter\nrequests_total{system=\"mine\",job=\"own\"} 7\nbusy NaN\nfree +Inf\n";
        assert_eq!(
            found(&page("200 OK", text), "samples::source(\"app\")"),
            expected(&[
                ("busy{instance=\"app\",job=\"web\"}", None),
                ("free{instance=\"app\",job=\"web\"}", None),
                ("requests_total{exported_job=\"own\",exported_system=\"mine\",instance=\"app\",job=\"web\"}", Some(7.0)),
            ])
        );
    }

    #[test]
    fn a_source_says_with_its_numbers_that_it_is_up() {
        let metrics = json!({ "app": { "endpoint": "app", "only": ["users{plan=\"a\"}"], "labels": { "job": "shop", "zone": "1" } } });
        let bench = bench(teller("200 OK", "users{plan=\"a\"} 3\nusers{plan=\"b\"} 4\nother 5\n".to_owned()), metrics);
        assert_eq!(
            found(&bench, "samples::measure(\"metrics\")"),
            expected(&[
                ("source_up{source=\"app\"}", Some(1.0)),
                ("users{instance=\"app\",job=\"shop\",plan=\"a\",zone=\"1\"}", Some(3.0))
            ])
        );
    }

    #[test]
    fn what_is_no_answer_gives_no_number() {
        let down = expected(&[("source_up{source=\"app\"}", Some(0.0))]);
        for (status, body, kind) in [
            ("503 Unavailable", "users 3\n", Kind::Remote),
            ("200 OK", "<html>users 3</html>\n", Kind::Invalid),
            ("200 OK", "users 3\nusers three\n", Kind::Invalid),
        ] {
            let bench = page(status, body);
            assert_eq!(bench.error("samples::source(\"app\")").kind, kind, "{body}");
            assert_eq!(found(&bench, "samples::measure(\"metrics\")"), down, "{body}");
        }
        // Nothing listens there.
        let nobody = bench(1, json!({ "app": { "endpoint": "app" }, "orders": { "kind": "json", "endpoint": "app", "field": "n" } }));
        assert_eq!(nobody.error("samples::source(\"app\")").kind, Kind::Connect);
        let silent = [("orders", None), ("source_up{source=\"app\"}", Some(0.0)), ("source_up{source=\"orders\"}", Some(0.0))];
        assert_eq!(found(&nobody, "samples::measure(\"metrics\")"), expected(&silent));
        assert_eq!(nobody.error("samples::source(\"ap\")").hints, ["did you mean `app`?"]);
    }

    #[test]
    fn what_may_not_be_asked_is_unknown_and_not_down() {
        let system = json!({
            "endpoints": { "app": { "url": "http://127.0.0.1:1/metrics", "network": "loopback" } },
            "metrics": { "app": { "endpoint": "app" } },
        });
        let bench = Bench::with(json!({}), serde_json::from_value(system).unwrap(), Secrets::default(), Mode::Apply);
        assert_eq!(bench.error("samples::source(\"app\")").kind, Kind::Denied);
        assert_eq!(found(&bench, "samples::measure(\"metrics\")"), expected(&[("source_up{source=\"app\"}", None)]));
    }

    #[test]
    fn of_too_much_nothing_is_taken() {
        let many = |count: usize| (0..count).map(|number| format!("a{{n=\"{number}\"}} 1\n")).collect::<String>();
        assert_eq!(found(&page("200 OK", many(MOST_SERIES)), "samples::source(\"app\")").len(), MOST_SERIES);
        let wide = (0..=MOST_LABELS).map(|number| format!("l{number}=\"1\"")).collect::<Vec<_>>().join(",");
        for text in [
            many(MOST_SERIES + 1),
            format!("{} 1\n", "a".repeat(LONGEST_NAME + 1)),
            format!("a{{{}=\"1\"}} 1\n", "b".repeat(LONGEST_NAME + 1)),
            format!("a{{b=\"{}\"}} 1\n", "c".repeat(LONGEST_VALUE + 1)),
            format!("a{{{wide}}} 1\n"),
            format!("# {}\na 1\n", "x".repeat(8 << 20)),
        ] {
            let bench = page("200 OK", text);
            assert_eq!(bench.error("samples::source(\"app\")").kind, Kind::Limit);
            assert_eq!(found(&bench, "samples::measure(\"metrics\")"), expected(&[("source_up{source=\"app\"}", Some(0.0))]));
        }
    }

    #[test]
    fn a_number_of_an_answer_in_json_is_a_sample() {
        let port = teller("200 OK", r#"{ "users": [{ "now": 12 }], "none": null, "text": "12" }"#.to_owned());
        let at = |field: &str| json!({ "kind": "json", "endpoint": "app", "path": "/api/numbers", "field": field, "series": "n" });
        let bench = bench(port, json!({ "here": at("users.0.now"), "none": at("none"), "text": at("text"), "far": at("a.b") }));
        assert_eq!(found(&bench, "samples::source(\"here\")"), expected(&[("n", Some(12.0))]));
        assert_eq!(found(&bench, "samples::source(\"none\")"), expected(&[("n", None)]));
        for (name, message) in [("text", "`text` is `\"12\"`, expected a number"), ("far", "the answer has no `a.b`")] {
            let error = bench.error(&format!("samples::source(\"{name}\")"));
            assert_eq!((error.kind, error.message), (Kind::Remote, format!("samples::source: {message}")));
        }
    }

    #[test]
    fn lines_of_a_log_are_counted_per_minute_and_no_log_is_not_no_lines() {
        let logs = tempfile::tempdir().unwrap();
        let file = logs.path().join("app.log");
        let source = json!({ "kind": "log", "log": "app", "pattern": "ERROR", "window": "10m", "labels": { "of": "app" } });
        let system = json!({
            "timezone": "UTC",
            "logs": { "app": { "path": file, "format": "app", "optional": true } },
            "metrics": { "errors": source },
        });
        let allow = json!({ "fs": { "read": ["${metrics.*}"] } });
        let bench = Bench::with(allow, serde_json::from_value(system).unwrap(), Secrets::default(), Mode::Apply);
        let ask = |bench: &Bench| found(bench, "samples::measure(\"metrics\")");
        let silent = [("errors{of=\"app\"}", None), ("source_up{source=\"errors\"}", Some(0.0))];
        assert_eq!(ask(&bench), expected(&silent));
        let now = bench.ctx.now();
        let line = |minutes: i64, level: &str| {
            let at = now - jiff::SignedDuration::from_mins(minutes);
            format!("{} {level} it\n", at.strftime("%Y-%m-%d %H:%M:%S"))
        };
        let text = [(30, "ERROR"), (8, "ERROR"), (5, "INFO"), (3, "ERROR"), (2, "ERROR")].map(|(minutes, level)| line(minutes, level));
        std::fs::write(&file, text.concat()).unwrap();
        let told = [("errors{of=\"app\"}", Some(0.3)), ("source_up{source=\"errors\"}", Some(1.0))];
        assert_eq!(ask(&bench), expected(&told));
    }

    #[test]
    fn rows_that_say_the_same_of_different_numbers_are_refused() {
        let row = |tenant: &str, value: f64| (Series::new("orders").with("tenant", tenant), Reading::Known(value));
        assert!(one_each(vec![row("a", 1.0), row("b", 1.0)]).is_ok());
        assert_eq!(one_each(vec![row("a", 1.0), row("a", 2.0)]).unwrap_err().message, "two rows are `orders{tenant=\"a\"}`");
    }
}
