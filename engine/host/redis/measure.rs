//! Caches as samples.

use serde_json::Value;

use super::client::{self, Server, WaitOptions};
use super::described;
use crate::error::{Error, Kind, Result};
use crate::host::measure::{Found, number, one};
use crate::host::{Access, Ctx};
use crate::model::{Reading, Span};

/// The most fields of a hash that are read.
const MOST_FIELDS: u64 = 2_000;

/// Whether a cache answers, and how much memory it uses of how much; 0 where no limit is set, as exporters have it.
pub(in crate::host) async fn measure(ctx: &Ctx, name: &str) -> Found {
    let mut ping = Value::Null;
    let mut memory = Value::Null;
    let server = ctx.permissions().check(&Access::word("redis", "read", name)).and_then(|_| described(ctx, name));
    if let Ok(server) = &server {
        ping = serde_json::to_value(client::ping(server, &WaitOptions::default()).await).unwrap_or_default();
        memory = if ping["ok"] == true { used(server).await } else { Value::Null };
    }
    let max = if memory.is_object() && memory["max"].is_null() { Reading::Known(0.0) } else { number(&memory, "max") };
    let values = [
        ("cache_up", Reading::from(ping["ok"].as_bool().map(|ok| if ok { 1.0 } else { 0.0 }))),
        ("redis_memory_used_bytes", number(&memory, "used")),
        ("redis_memory_max_bytes", max),
    ];
    let measured = values.map(|(series, value)| one(series, "cache", name, value)).to_vec();
    Found { measured, problem: server.err() }
}

async fn used(server: &Server) -> Value {
    client::memory(server).await.ok().and_then(|memory| serde_json::to_value(memory).ok()).unwrap_or_default()
}

/// The fields of a hash, with their texts.
///
/// # Errors
///
/// `not_found` when there is no such hash, `limit` when it has too many fields; otherwise as `redis::read`.
pub(in crate::host) async fn fields(ctx: &Ctx, name: &str, key: &str, limit: Span) -> Result<Vec<(String, String)>> {
    ctx.permissions().check(&Access::word("redis", "read", name))?;
    let server = described(ctx, name)?;
    let ask = async |command: &str| client::read(&server, &[command.to_owned(), key.to_owned()], &WaitOptions::within(limit)).await;
    match ask("HLEN").await?.as_u64() {
        None | Some(0) => return Err(Error::new(Kind::NotFound, format!("cache `{name}` has no hash `{key}`")).target(name)),
        Some(count) if count > MOST_FIELDS => {
            return Err(Error::new(Kind::Limit, format!("the hash `{key}` has {count} fields, and {MOST_FIELDS} are read")).target(name));
        }
        Some(_) => {}
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    // A map by the newer protocol, names and values in turn by the older.
    Ok(match ask("HGETALL").await? {
        Value::Object(fields) => fields.iter().map(|(field, value)| (field.clone(), text(value))).collect(),
        Value::Array(list) => list.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
        _ => Vec::new(),
    })
}
