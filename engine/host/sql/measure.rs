//! Databases as samples.

use serde_json::{Map, Value};

use super::client::{self, Databases, PingOptions, ReadOptions, Statement};
use super::described;
use crate::error::{Error, Kind, Result};
use crate::host::measure::{Found, number, one};
use crate::host::{Access, Ctx};
use crate::model::{Labels, Reading, Span};

/// Client connections, and how many the server takes; background processes are none (D-X-10). What kind a session of
/// another role is, is hidden from a role that may not look at those; one of somebody in a database is a client.
const CONNECTIONS: &str = "SELECT count(*)::int8 AS used, current_setting('max_connections')::int8 AS most, \
     count(*) FILTER (WHERE state = 'idle in transaction')::int8 AS idle_in_transaction \
     FROM pg_stat_activity WHERE coalesce(backend_type = 'client backend', usesysid IS NOT NULL AND datid IS NOT NULL)";

/// Whether a database lets one in, in what time, and how many are in. What refuses is down; what was not
/// allowed to be asked is unknown.
pub(in crate::host) async fn measure(ctx: &Ctx, name: &str) -> Found {
    let mut ping = Value::Null;
    let mut row = Value::Null;
    let allowed = ctx.permissions().check(&Access::word("sql", "read", name));
    let pool = allowed.and_then(|_| ctx.state::<Databases>().pool(name, || described(ctx, name)));
    if let Ok(pool) = &pool {
        ping = serde_json::to_value(client::ping(pool, &PingOptions::default()).await).unwrap_or_default();
        if ping["ok"] == true {
            let statement = Statement { sql: CONNECTIONS.to_owned(), params: Vec::new() };
            let table = client::read(pool, &statement, &ReadOptions::default()).await.and_then(client::Table::one);
            row = table.map(Value::Object).unwrap_or_default();
        }
    }
    let up = ping["ok"].as_bool().map(|ok| if ok { 1.0 } else { 0.0 });
    let values = [
        ("database_up", Reading::from(up)),
        ("database_ms", if up == Some(1.0) { number(&ping, "ms") } else { Reading::Unknown }),
        ("database_connections", number(&row, "used")),
        ("database_connections_max", number(&row, "most")),
        ("database_idle_in_transaction", number(&row, "idle_in_transaction")),
    ];
    // As the exporter for Prometheus calls it.
    let known_as = one("pg_stat_activity_count", "instance", name, number(&row, "used"));
    let measured = values.map(|(series, value)| one(series, "database", name, value)).into_iter().chain([known_as]).collect();
    Found { measured, problem: pool.err() }
}

/// The numbers a statement reads: the only value, or the column `value` of each row, whose other columns are labels.
/// It can do nothing but read, and the server ends it after `limit`.
///
/// # Errors
///
/// As `sql::query`; `limit` for more rows than `most`; `invalid` for what is no number or no label.
pub(in crate::host) async fn numbers(ctx: &Ctx, name: &str, sql: &str, limit: Span, most: usize) -> Result<Vec<(Labels, Reading)>> {
    ctx.permissions().check(&Access::word("sql", "read", name))?;
    let pool = ctx.state::<Databases>().pool(name, || described(ctx, name))?;
    let statement = Statement { sql: sql.to_owned(), params: Vec::new() };
    let rows = client::read(&pool, &statement, &ReadOptions::within(limit, most)).await?.maps()?;
    rows.into_iter().map(number_of).collect()
}

fn number_of(mut row: Map<String, Value>) -> Result<(Labels, Reading)> {
    let column = if row.len() == 1 { row.keys().next().cloned().unwrap_or_default() } else { "value".to_owned() };
    let reading = match row.remove(&column) {
        Some(Value::Null) => Reading::Unknown,
        Some(Value::Number(number)) => Reading::from(number.as_f64()),
        // What is no number, like 0/0, is one for the server.
        Some(Value::String(text)) if text.parse::<f64>().is_ok() => Reading::from(text.parse::<f64>().ok()),
        Some(other) => return Err(Error::new(Kind::Invalid, format!("column `{column}` is `{other}`, expected a number"))),
        None => {
            let error = Error::new(Kind::Invalid, "there are several columns and none is called `value`");
            return Err(error.hint("name the number: `SELECT tenant, count(*) AS value FROM …`; the other columns are labels"));
        }
    };
    let labels = row.into_iter().filter_map(|(label, value)| match value {
        Value::Null => None,
        Value::String(text) => Some((label, text)),
        other => Some((label, other.to_string())),
    });
    Ok((labels.collect(), reading))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(row: Value) -> Result<(Labels, Reading)> {
        number_of(row.as_object().unwrap().clone())
    }

    #[test]
    fn a_row_is_a_number_and_its_labels() {
        assert_eq!(read(json!({ "count": 3 })).unwrap(), (Labels::new(), Reading::Known(3.0)));
        let (labels, value) = read(json!({ "tenant": "a", "plan": 2, "none": null, "value": 1.5 })).unwrap();
        let expected = [("plan".to_owned(), "2".to_owned()), ("tenant".to_owned(), "a".to_owned())];
        assert_eq!((labels, value), (Labels::from(expected), Reading::Known(1.5)));
    }

    #[test]
    fn what_is_no_number_is_unknown_or_an_error_and_never_0() {
        for (row, expected) in [
            (json!({ "n": null }), Reading::Unknown),
            (json!({ "n": "NaN" }), Reading::Unknown),
            (json!({ "n": "12.5" }), Reading::Known(12.5)),
        ] {
            assert_eq!(read(row).unwrap().1, expected);
        }
        for row in [json!({ "n": "many" }), json!({ "n": true }), json!({ "a": 1, "b": 2 })] {
            assert_eq!(read(row.clone()).unwrap_err().kind, Kind::Invalid, "{row}");
        }
    }
}
