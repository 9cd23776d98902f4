//! Which commands only read, and which are refused.

use crate::error::{Error, Kind, Result};

/// Commands that change nothing and can not hold the server up for long; after a space the one
/// subcommand that is meant.
const READING: &[&str] = &[
    "acl whoami",
    "bitcount",
    "client getname",
    "client info",
    "client list",
    "cluster info",
    "cluster nodes",
    "command count",
    "dbsize",
    "echo",
    "exists",
    "expiretime",
    "get",
    "getbit",
    "getrange",
    "hexists",
    "hget",
    "hgetall",
    "hlen",
    "hmget",
    "hscan",
    "hstrlen",
    "info",
    "lastsave",
    "latency doctor",
    "latency history",
    "latency latest",
    "lindex",
    "llen",
    "lpos",
    "lrange",
    "memory doctor",
    "memory stats",
    "memory usage",
    "mget",
    "module list",
    "object encoding",
    "object freq",
    "object idletime",
    "object refcount",
    "ping",
    "pttl",
    "randomkey",
    "role",
    "scan",
    "scard",
    "sismember",
    "slowlog get",
    "slowlog len",
    "smismember",
    "sscan",
    "strlen",
    "time",
    "ttl",
    "type",
    "xinfo consumers",
    "xinfo groups",
    "xinfo stream",
    "xlen",
    "xpending",
    "xrange",
    "zcard",
    "zcount",
    "zrange",
    "zrank",
    "zscan",
    "zscore",
];

/// Commands of a connection, which here lives for one call only, or that never end.
const CONNECTION: &[&str] = &[
    "auth",
    "discard",
    "exec",
    "hello",
    "monitor",
    "multi",
    "psubscribe",
    "psync",
    "quit",
    "reset",
    "select",
    "ssubscribe",
    "subscribe",
    "sync",
    "unwatch",
    "watch",
];

/// Refuses what is not on the list of commands that read.
///
/// # Errors
///
/// `denied`, naming the command.
pub(super) fn must_read(words: &[String]) -> Result<()> {
    let name = name_of(words)?;
    let both = words.get(1).map(|second| format!("{name} {}", second.to_ascii_lowercase()));
    if READING.contains(&name.as_str()) || both.is_some_and(|both| READING.contains(&both.as_str())) {
        return Ok(());
    }
    Err(Error::new(Kind::Denied, format!("`{}` is not a command that only reads", name.to_ascii_uppercase()))
        .hint("settings are read by `redis::config`; everything else goes through `redis::command`, with the permission `write`"))
}

/// Refuses what no runbook may send.
///
/// # Errors
///
/// `denied` for emptying a server, whatever the permissions; `invalid` for what needs a connection of its own.
pub(super) fn must_be_allowed(words: &[String]) -> Result<()> {
    let name = name_of(words)?;
    let flushes = |text: &str| text.to_ascii_lowercase().contains("flushall") || text.to_ascii_lowercase().contains("flushdb");
    let runs_text = name.starts_with("eval") || matches!(name.as_str(), "script" | "function" | "fcall" | "debug");
    if flushes(&name) || runs_text && words.iter().any(|word| flushes(word)) {
        return Err(Error::new(Kind::Denied, "emptying a cache is never allowed")
            .hint("it ends sessions, loses queues and sends every miss to the database at once: give keys an expiry, set `maxmemory-policy`, or `MEMORY PURGE`"));
    }
    if CONNECTION.contains(&name.as_str()) {
        return Err(Error::new(Kind::Invalid, format!("`{}` can not be sent here", name.to_ascii_uppercase()))
            .hint("each call has a connection of its own, which ends with it"));
    }
    Ok(())
}

fn name_of(words: &[String]) -> Result<String> {
    match words.first() {
        Some(name) if !name.is_empty() => Ok(name.to_ascii_lowercase()),
        _ => Err(Error::new(Kind::Invalid, "a command without a name").hint(r#"as in ["TTL", "key"]"#)),
    }
}
