//! Databases as samples.

use serde_json::Value;

use super::client::{self, Databases, PingOptions, ReadOptions, Statement};
use super::described;
use crate::host::measure::{Measured, number, one};
use crate::host::{Access, Ctx};
use crate::model::Reading;

/// Client connections, and how many the server takes; background processes are none (D-X-10). What kind a session of
/// another role is, is hidden from a role that may not look at those; one of somebody in a database is a client.
const CONNECTIONS: &str = "SELECT count(*)::int8 AS used, current_setting('max_connections')::int8 AS most, \
     count(*) FILTER (WHERE state = 'idle in transaction')::int8 AS idle_in_transaction \
     FROM pg_stat_activity WHERE coalesce(backend_type = 'client backend', usesysid IS NOT NULL AND datid IS NOT NULL)";

/// Whether a database lets one in, in what time, and how many are in. What refuses is down; what was not
/// allowed to be asked is unknown.
pub(in crate::host) async fn measure(ctx: &Ctx, name: &str) -> Measured {
    let mut ping = Value::Null;
    let mut row = Value::Null;
    if ctx.permissions().check(&Access::word("sql", "read", name)).is_ok()
        && let Ok(pool) = ctx.state::<Databases>().pool(name, || described(ctx, name))
    {
        ping = serde_json::to_value(client::ping(&pool, &PingOptions::default()).await).unwrap_or_default();
        if ping["ok"] == true {
            let statement = Statement { sql: CONNECTIONS.to_owned(), params: Vec::new() };
            let table = client::read(&pool, &statement, &ReadOptions::default()).await.and_then(client::Table::one);
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
    values.map(|(series, value)| one(series, "database", name, value)).into_iter().chain([known_as]).collect()
}
