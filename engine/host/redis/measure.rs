//! Caches as samples.

use serde_json::Value;

use super::client::{self, Server, WaitOptions};
use super::described;
use crate::host::measure::{Measured, number, one};
use crate::host::{Access, Ctx};
use crate::model::Reading;

/// Whether a cache answers, and how much memory it uses of how much; 0 where no limit is set, as exporters have it.
pub(in crate::host) async fn measure(ctx: &Ctx, name: &str) -> Measured {
    let mut ping = Value::Null;
    let mut memory = Value::Null;
    let allowed = ctx.permissions().check(&Access::word("redis", "read", name)).is_ok();
    if let Some(server) = allowed.then(|| described(ctx, name).ok()).flatten() {
        ping = serde_json::to_value(client::ping(&server, &WaitOptions::default()).await).unwrap_or_default();
        memory = if ping["ok"] == true { used(&server).await } else { Value::Null };
    }
    let max = if memory.is_object() && memory["max"].is_null() { Reading::Known(0.0) } else { number(&memory, "max") };
    let values = [
        ("cache_up", Reading::from(ping["ok"].as_bool().map(|ok| if ok { 1.0 } else { 0.0 }))),
        ("redis_memory_used_bytes", number(&memory, "used")),
        ("redis_memory_max_bytes", max),
    ];
    values.map(|(series, value)| one(series, "cache", name, value)).to_vec()
}

async fn used(server: &Server) -> Value {
    client::memory(server).await.ok().and_then(|memory| serde_json::to_value(memory).ok()).unwrap_or_default()
}
