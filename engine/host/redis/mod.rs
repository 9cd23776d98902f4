//! `redis::`: the caches of the system.
//!
//! Which server is meant is a name of the system file; a script knows neither host nor password.

mod client;
mod command;
mod measure;
mod reply;
#[cfg(test)]
mod tests;

use rhai::Map;
use rhai::plugin::*;
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::host::{Access, Call, Ctx, Function, HostModule, RhaiResultOf, Secret, SecretText};
use crate::model::Effect;
use crate::words;
use client::{KeyOptions, Server, SetOptions, WaitOptions};

pub(super) use measure::{fields, measure};

/// The module `redis`.
pub const MODULE: HostModule = HostModule {
    name: "redis",
    summary: "Redis: the state, memory, keys and settings of the caches of the system",
    build: || exported_module!(api),
    functions: &[
        Function::pure("caches"),
        Function::read("ping").needs("redis", "read", 0).options::<WaitOptions>(),
        Function::read("info").needs("redis", "read", 0),
        Function::read("memory").needs("redis", "read", 0),
        Function::read("hits").needs("redis", "read", 0),
        Function::read("role").needs("redis", "read", 0),
        Function::read("size").needs("redis", "read", 0),
        Function::read("config").needs("redis", "read", 0),
        Function::read("get").needs("redis", "read", 0),
        Function::read("keys").needs("redis", "read", 0).options::<KeyOptions>(),
        Function::read("read").needs("redis", "read", 0).options::<WaitOptions>(),
        Function::effect("set", "the cache, the key and how long it stays").needs("redis", "write", 0).options::<SetOptions>(),
        Function::effect("del", "the cache and the keys").needs("redis", "write", 0),
        Function::effect("command", "the cache and the command").needs("redis", "write", 0).options::<WaitOptions>(),
    ],
};

#[export_module]
mod api {
    use rhai::{Array, Dynamic, Map};

    use super::client;
    use crate::host::{Call, RhaiResultOf};

    /// The names of the caches of the system, in order.
    ///
    /// ```rhai
    /// type_of(redis::caches()) == "array"
    /// ```
    ///
    /// Returns a list of texts; empty when the run is for no system.
    #[rhai_fn(return_raw, volatile)]
    pub fn caches(native: NativeCallContext) -> RhaiResultOf<Array> {
        let call = Call::new(&native, "redis::caches")?;
        Ok(call.ctx().system().caches.keys().map(Into::into).collect())
    }

    /// Whether a cache lets one in: a new connection, the login and `PING`.
    ///
    /// ```rhai,lab
    /// redis::ping("main").ok
    /// ```
    ///
    /// Options: `timeout` (5 s when absent). Returns `ok`, `ms`, and when it is not ok `problem`, `hint` and `kind`:
    /// `connect` (nothing there, or still loading), `refused` (password), `limit` (no connection free), `timeout`. It
    /// throws only when the permission or the secret is missing.
    #[rhai_fn(name = "ping", return_raw, volatile)]
    pub fn ping_with(native: NativeCallContext, cache: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "redis::ping")?;
        let server = server(&call, "read", cache)?;
        let options: WaitOptions = call.options(options)?;
        let ping = call.wait(async { Ok(client::ping(&server, &options).await) })?;
        call.value(&ping)
    }

    /// Whether a cache lets one in within 5 s.
    #[rhai_fn(return_raw, volatile)]
    pub fn ping(native: NativeCallContext, cache: &str) -> RhaiResultOf<Dynamic> {
        ping_with(native, cache, Map::new())
    }

    /// What a cache says of itself: a section of `INFO`, as `server`, `memory`, `persistence`, `replication`, `all`.
    ///
    /// ```rhai,lab
    /// redis::info("main", "server").uptime_in_seconds >= 0
    /// ```
    ///
    /// Returns a map by the names of Redis, numbers as numbers, and `db0` and its like as maps (`keys`, `expires`).
    #[rhai_fn(name = "info", return_raw, volatile)]
    pub fn info_section(native: NativeCallContext, cache: &str, section: &str) -> RhaiResultOf<Dynamic> {
        look(&native, "redis::info", cache, async |server| client::info(server, Some(section)).await)
    }

    /// What a cache says of itself, in its usual sections.
    #[rhai_fn(return_raw, volatile)]
    pub fn info(native: NativeCallContext, cache: &str) -> RhaiResultOf<Dynamic> {
        look(&native, "redis::info", cache, async |server| client::info(server, None).await)
    }

    /// How much memory a cache uses, of how much.
    ///
    /// ```rhai,lab
    /// redis::memory("main").used > 0
    /// ```
    ///
    /// Returns in bytes `used`, `peak`, `resident` (as the machine sees it) and `max`; `used_percent`, `fragmentation`
    /// (resident by used) and `policy` (what is evicted at the limit). Without a limit `max` and `used_percent` are `()`.
    #[rhai_fn(return_raw, volatile)]
    pub fn memory(native: NativeCallContext, cache: &str) -> RhaiResultOf<Dynamic> {
        look(&native, "redis::memory", cache, client::memory)
    }

    /// How often a key that was looked up was there, since the cache started.
    ///
    /// ```rhai,lab
    /// redis::hits("main").hits >= 0
    /// ```
    ///
    /// Returns `hits`, `misses`, `hit_percent` (`()` when nothing was looked up), `evicted`, `expired`.
    #[rhai_fn(return_raw, volatile)]
    pub fn hits(native: NativeCallContext, cache: &str) -> RhaiResultOf<Dynamic> {
        look(&native, "redis::hits", cache, client::hits)
    }

    /// The place of a cache in its replication.
    ///
    /// ```rhai,lab
    /// redis::role("main").role == "primary"
    /// ```
    ///
    /// Returns `role` (`primary` or `replica`), `replicas` (how many are connected), and of a replica `primary`
    /// (`host:port`), `link_up` and `silent_s` (seconds since it last heard of its primary).
    #[rhai_fn(return_raw, volatile)]
    pub fn role(native: NativeCallContext, cache: &str) -> RhaiResultOf<Dynamic> {
        look(&native, "redis::role", cache, client::role)
    }

    /// How many keys a cache holds, in the database of the system file.
    ///
    /// ```rhai,lab
    /// redis::size("main") >= 0
    /// ```
    ///
    /// Returns a whole number.
    #[rhai_fn(return_raw, volatile)]
    pub fn size(native: NativeCallContext, cache: &str) -> RhaiResultOf<Dynamic> {
        look(&native, "redis::size", cache, async |server| client::read(server, &["DBSIZE".to_owned()], &WaitOptions::default()).await)
    }

    /// The settings of a cache whose names match, `*` for all. Passwords show as `***`.
    ///
    /// ```rhai,lab
    /// redis::config("main", "maxmemory*").maxmemory >= 0
    /// ```
    ///
    /// Returns a map by the names of Redis, numbers as numbers.
    #[rhai_fn(return_raw, volatile)]
    pub fn config(native: NativeCallContext, cache: &str, pattern: &str) -> RhaiResultOf<Dynamic> {
        look(&native, "redis::config", cache, async |server| client::config(server, pattern).await)
    }

    /// The text under a key.
    ///
    /// ```rhai,lab
    /// redis::get("main", "no-such-key") == ()
    /// ```
    ///
    /// Returns a text, `()` when there is no such key. More than 16 MiB is `limit`; bytes that are no text, and a key that
    /// holds something else, are `invalid`.
    #[rhai_fn(return_raw, volatile)]
    pub fn get(native: NativeCallContext, cache: &str, key: &str) -> RhaiResultOf<Dynamic> {
        look(&native, "redis::get", cache, async |server| client::get(server, key).await)
    }

    /// The keys that match a pattern, `*` for any characters; found in small steps (`SCAN`) that do not hold the cache up.
    ///
    /// ```rhai,lab
    /// redis::keys("main", "no-such-key:*", #{ limit: 10 }) == #{ keys: [], complete: true }
    /// ```
    ///
    /// Options: `limit` (1000 when absent), `timeout` (30 s). Returns `keys` in order and `complete`: whether these are
    /// all. Keys that come or go meanwhile may be missed.
    #[rhai_fn(name = "keys", return_raw, volatile)]
    pub fn keys_with(native: NativeCallContext, cache: &str, pattern: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "redis::keys")?;
        let server = server(&call, "read", cache)?;
        let options: KeyOptions = call.options(options)?;
        let keys = call.wait(client::keys(&server, pattern, &options))?;
        call.value(&keys)
    }

    /// At most 1000 keys that match a pattern.
    #[rhai_fn(return_raw, volatile)]
    pub fn keys(native: NativeCallContext, cache: &str, pattern: &str) -> RhaiResultOf<Dynamic> {
        keys_with(native, cache, pattern, Map::new())
    }

    /// Sends a command that only reads, such as `TTL`, `LLEN`, `HGETALL`, `SLOWLOG GET`, `MEMORY USAGE`, `CLIENT LIST`.
    ///
    /// ```rhai,lab
    /// redis::read("main", ["TTL", "no-such-key"]) == -2
    /// ```
    ///
    /// Options: `timeout` (30 s when absent). Returns what Redis answers: a number, a text, a list or `()`. A command that
    /// is not known to only read is `denied`. Ask for parts of large values (`LRANGE`, `HSCAN`): the answer is held in memory.
    #[rhai_fn(name = "read", return_raw, volatile)]
    pub fn read_with(native: NativeCallContext, cache: &str, words: Array, options: Map) -> RhaiResultOf<Dynamic> {
        super::read(&native, cache, &words, options)
    }

    /// Sends a command that only reads.
    #[rhai_fn(return_raw, volatile)]
    pub fn read(native: NativeCallContext, cache: &str, words: Array) -> RhaiResultOf<Dynamic> {
        read_with(native, cache, words, Map::new())
    }

    /// Sets the value of a key: a text, a number or a secret.
    ///
    /// ```rhai,lab
    /// redis::set("main", "runbook:example", "1", #{ ttl: "1m" });
    /// redis::get("main", "runbook:example") == "1" && redis::del("main", "runbook:example") == 1
    /// ```
    ///
    /// Options: `ttl` (how long it stays; for ever when absent, also if the key had an expiry). Returns nothing.
    #[rhai_fn(name = "set", return_raw, volatile)]
    pub fn set_with(native: NativeCallContext, cache: &str, key: &str, value: Dynamic, options: Map) -> RhaiResultOf<()> {
        super::set(&native, cache, key, &value, options)
    }

    /// Sets the value of a key for ever.
    #[rhai_fn(return_raw, volatile)]
    pub fn set(native: NativeCallContext, cache: &str, key: &str, value: Dynamic) -> RhaiResultOf<()> {
        set_with(native, cache, key, value, Map::new())
    }

    /// Removes keys.
    ///
    /// ```rhai,lab
    /// redis::del("main", ["no-such-key", "nor-this"]) == 0
    /// ```
    ///
    /// Returns how many there were, `()` in a plan. An empty list removes nothing.
    #[rhai_fn(name = "del", return_raw, volatile)]
    pub fn del_all(native: NativeCallContext, cache: &str, keys: Array) -> RhaiResultOf<Dynamic> {
        super::del(&native, cache, &keys)
    }

    /// Removes a key.
    #[rhai_fn(return_raw, volatile)]
    pub fn del(native: NativeCallContext, cache: &str, key: &str) -> RhaiResultOf<Dynamic> {
        del_all(native, cache, vec![key.into()])
    }

    /// Sends any other command, word by word: `["CONFIG", "SET", "maxmemory", "256mb"]`, `["BGSAVE"]`, `["MEMORY", "PURGE"]`.
    ///
    /// Each word is sent as it is; there is nothing to quote. `FLUSHALL` and `FLUSHDB` are `denied` always, also inside of
    /// scripts as far as their text shows it; with this permission the user of the cache is the only boundary. Commands of a
    /// connection (`MULTI`, `SUBSCRIBE`, `MONITOR`) are `invalid`. `BGSAVE` only starts: it is done when `LASTSAVE` moves.
    ///
    /// ```rhai,lab
    /// redis::command("main", ["MEMORY", "PURGE"]) == "OK"
    /// ```
    ///
    /// Options: `timeout` (30 s when absent). Returns what Redis answers, `()` in a plan. When the connection breaks before the
    /// answer, the error says that the outcome is not known.
    #[rhai_fn(name = "command", return_raw, volatile)]
    pub fn command_with(native: NativeCallContext, cache: &str, words: Array, options: Map) -> RhaiResultOf<Dynamic> {
        send(&native, cache, &words, options)
    }

    /// Sends any other command, word by word.
    #[rhai_fn(return_raw, volatile)]
    pub fn command(native: NativeCallContext, cache: &str, words: Array) -> RhaiResultOf<Dynamic> {
        command_with(native, cache, words, Map::new())
    }
}

/// The server of a cache, when it may be used so.
fn server(call: &Call<'_>, verb: &str, name: &str) -> RhaiResultOf<Server> {
    call.permit(&Access::word("redis", verb, name))?;
    described(call.ctx(), name).map_err(|error| call.fail(error.target(name)))
}

/// The cache as the system file describes it.
fn described(ctx: &Ctx, name: &str) -> Result<Server> {
    let system = ctx.system();
    let Some(cache) = system.caches.get(name) else {
        let error = Error::new(Kind::NotFound, format!("system `{}` has no cache `{name}`", system.name));
        return Err(error.suggest(name, system.caches.keys()));
    };
    let password = cache.password.as_deref().map(|password| ctx.secrets().reveal(password)).transpose()?;
    Server::new(name, cache, password, format!("runbook/{}", ctx.run().number))
}

fn look<T: Serialize>(
    native: &NativeCallContext<'_>,
    function: &'static str,
    cache: &str,
    look: impl AsyncFnOnce(&Server) -> Result<T>,
) -> RhaiResultOf<Dynamic> {
    let call = Call::new(native, function)?;
    let server = server(&call, "read", cache)?;
    let found = call.wait(look(&server))?;
    call.value(&found)
}

fn read(native: &NativeCallContext<'_>, cache: &str, words: &[Dynamic], options: Map) -> RhaiResultOf<Dynamic> {
    let call = Call::new(native, "redis::read")?;
    let server = server(&call, "read", cache)?;
    let options: WaitOptions = call.options(options)?;
    let words = opened(&call, cache, words)?;
    command::must_read(&words).map_err(|error| call.fail(error.target(cache)))?;
    let answer = call.wait(client::read(&server, &words, &options))?;
    call.value(&answer)
}

fn set(native: &NativeCallContext<'_>, cache: &str, key: &str, value: &Dynamic, options: Map) -> RhaiResultOf<()> {
    let call = Call::new(native, "redis::set")?;
    let server = server(&call, "write", cache)?;
    let options: SetOptions = call.options(options)?;
    let mut words = vec!["SET".to_owned(), key.to_owned(), word(&call, cache, value)?];
    let stay = match options.ttl {
        Some(ttl) => {
            words.extend(["PX".to_owned(), ttl.0.as_millis().to_string()]);
            format!(" for {ttl}")
        }
        None => String::new(),
    };
    let effect = Effect::new("redis::set", format!("{cache} {key}"), format!("{cache}: set `{key}`{stay}"));
    call.effect(effect, (), async { client::change(&server, &words, &WaitOptions::default()).await.map(drop) })
}

fn del(native: &NativeCallContext<'_>, cache: &str, keys: &[Dynamic]) -> RhaiResultOf<Dynamic> {
    let call = Call::new(native, "redis::del")?;
    let server = server(&call, "write", cache)?;
    let keys = opened(&call, cache, keys)?;
    if keys.is_empty() {
        return Ok(0_i64.into());
    }
    let shown = words::list(&keys);
    let words: Vec<String> = std::iter::once("DEL".to_owned()).chain(keys).collect();
    let effect = Effect::new("redis::del", cache, format!("{cache}: remove {shown}"));
    let removed = call.effect(effect, serde_json::Value::Null, client::change(&server, &words, &WaitOptions::default()))?;
    call.answer(&removed)
}

fn send(native: &NativeCallContext<'_>, cache: &str, words: &[Dynamic], options: Map) -> RhaiResultOf<Dynamic> {
    let call = Call::new(native, "redis::command")?;
    let server = server(&call, "write", cache)?;
    let options: WaitOptions = call.options(options)?;
    // Secrets show as `***` here.
    let shown: Vec<String> = words.iter().map(ToString::to_string).collect();
    let words = opened(&call, cache, words)?;
    command::must_be_allowed(&words).map_err(|error| call.fail(error.target(cache)))?;
    let effect = Effect::new("redis::command", cache, format!("{cache}: {}", shown.join(" ")));
    let answer = call.effect(effect, serde_json::Value::Null, client::change(&server, &words, &options))?;
    call.answer(&answer)
}

fn opened(call: &Call<'_>, cache: &str, words: &[Dynamic]) -> RhaiResultOf<Vec<String>> {
    words.iter().map(|value| word(call, cache, value)).collect()
}

/// A word of a command: a text, a number, true, false, or a secret.
fn word(call: &Call<'_>, cache: &str, value: &Dynamic) -> RhaiResultOf<String> {
    if let Some(secret) = value.read_lock::<Secret>() {
        return call.open(&SecretText::Secret(secret.name().to_owned()), &[Access::word("redis", "write", cache)]);
    }
    if value.is_string() || value.is_int() || value.is_float() || value.is_bool() || value.is_char() {
        return Ok(value.to_string());
    }
    let error = Error::new(Kind::Invalid, format!("a `{}` where a text or a number is needed", value.type_name()));
    Err(call.fail(error.hint("write other values as JSON first: `value.to_json()`")))
}
