//! `store::`: small values a runbook keeps from run to run, for each system its own, and those that the runbooks of a system share.
//!
//! The supervisor alone writes the store; this module only asks it.

use rhai::plugin::*;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::host::{Access, Call, Ctx, Function, HostModule, Question, RhaiResultOf, value};

/// The module `store`.
pub const MODULE: HostModule = HostModule {
    name: "store",
    summary: "small values kept from run to run, by runbook and system; below `shared/` by system",
    build: || exported_module!(api),
    functions: &[
        Function::read("get").needs("store", "read", 0).inside(),
        Function::read("get_or").needs("store", "read", 0).inside(),
        Function::read("keys").needs("store", "read", 0).inside(),
        Function::effect("put", "the key").needs("store", "write", 0).inside(),
        Function::effect("remove", "the key").needs("store", "write", 0).inside(),
    ],
};

/// What is larger belongs into a file.
const LARGEST: usize = 64 << 10;
const LONGEST_KEY: usize = 256;

#[export_module]
mod api {
    use rhai::Dynamic;
    use serde_json::Value;

    use super::{change, found, keys_of, small};
    use crate::host::{Access, Call, RhaiResultOf, value};

    /// The value kept under a key; nothing when there is none.
    ///
    /// ```rhai
    /// type_of(store::get("manual/never-kept")) == "()"
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn get(native: NativeCallContext, key: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "store::get")?;
        Ok(value::dynamic(&found(&call, key)?))
    }

    /// The value kept under a key, or another one when there is none.
    ///
    /// ```rhai
    /// store::get_or("manual/never-kept", 3) == 3
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn get_or(native: NativeCallContext, key: &str, otherwise: Dynamic) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "store::get_or")?;
        let found = found(&call, key)?;
        Ok(if found.is_null() { otherwise } else { value::dynamic(&found) })
    }

    /// The keys that begin like this and are granted, sorted.
    ///
    /// ```rhai
    /// store::keys("manual/never-kept") == []
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn keys(native: NativeCallContext, prefix: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "store::keys")?;
        call.permit(&Access::word("store", "read", prefix))?;
        let keys = keys_of(call.ctx(), prefix).map_err(|error| call.fail(error))?;
        call.value(&keys)
    }

    /// Keeps a value: plain data of at most 64 KiB. It is durable when this returns.
    ///
    /// ```rhai
    /// store::put("manual/kept", #{ restarts: 2 });
    /// true
    /// ```
    ///
    /// Functions, handles and secrets are an error of kind `invalid`.
    ///
    /// A key is of this runbook and this system alone. One that begins with `shared/` is of the system: each runbook
    /// that is granted it (`store: ["write:shared/restarts/*"]`) reads and changes the same value. Runbooks that read
    /// a value, change it and put it back share a `lock` too, since the last one to put wins.
    #[rhai_fn(return_raw, volatile)]
    pub fn put(native: NativeCallContext, key: &str, value: Dynamic) -> RhaiResultOf<()> {
        let call = Call::new(&native, "store::put")?;
        let value = small(&value).map_err(|error| call.fail(error))?;
        change(&call, "store::put", "keep", key, value)
    }

    /// Forgets the value under a key; one that is not there is fine.
    ///
    /// ```rhai
    /// store::remove("manual/kept");
    /// true
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn remove(native: NativeCallContext, key: &str) -> RhaiResultOf<()> {
        let call = Call::new(&native, "store::remove")?;
        change(&call, "store::remove", "forget", key, Value::Null)
    }
}

fn found(call: &Call<'_>, key: &str) -> RhaiResultOf<Value> {
    call.permit(&Access::word("store", "read", key))?;
    let answer = call.ctx().recorder().ask(Question::Get { key: key.to_owned() });
    answer.map(crate::host::Answer::into_value).map_err(|error| call.fail(error))
}

fn keys_of(ctx: &Ctx, prefix: &str) -> Result<Vec<String>> {
    let answer = ctx.recorder().ask(Question::Keys { prefix: prefix.to_owned() })?.into_value();
    let all = answer.as_array().cloned().unwrap_or_default();
    let mut keys: Vec<String> = all.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    keys.retain(|key| ctx.permissions().check(&Access::word("store", "read", key)).is_ok());
    keys.sort();
    Ok(keys)
}

fn change(call: &Call<'_>, function: &'static str, verb: &str, key: &str, value: Value) -> RhaiResultOf<()> {
    call.permit(&Access::word("store", "write", key))?;
    if key.is_empty() || key.len() > LONGEST_KEY || key.chars().any(char::is_control) {
        let error = Error::new(Kind::Invalid, format!("`{}` is no key", key.escape_debug()));
        return Err(call.fail(error.hint(format!("give a text of 1 to {LONGEST_KEY} bytes, as in \"restarts/backend\""))));
    }
    let effect = crate::model::Effect::new(function, key, format!("{verb} `{key}`"));
    call.effect(effect, (), async { call.ctx().recorder().ask(Question::Put { key: key.to_owned(), value }).map(drop) })
}

/// The plain data of a value that is small enough.
fn small(given: &Dynamic) -> Result<Value> {
    if has_secret(given) {
        return Err(Error::new(Kind::Invalid, "a secret is not kept").hint("ask for it by name in each run, with `secret::get`"));
    }
    let plain = value::plain(given)?;
    if plain.is_null() {
        return Err(Error::new(Kind::Invalid, "there is no value to keep").hint("forget a key with `store::remove`"));
    }
    let size = plain.to_string().len();
    if size > LARGEST {
        return Err(Error::new(Kind::Limit, format!("the value is {size} bytes large, and {LARGEST} may be kept"))
            .hint("write it to a file, and keep its path"));
    }
    Ok(plain)
}

fn has_secret(value: &Dynamic) -> bool {
    value.is::<crate::host::Secret>()
        || value.as_array_ref().is_ok_and(|list| list.iter().any(has_secret))
        || value.as_map_ref().is_ok_and(|map| map.values().any(has_secret))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::host::testing::Bench;

    fn bench() -> Bench {
        Bench::new(json!({ "store": ["write:health/*", "read:seen"] }))
    }

    #[test]
    fn values_are_asked_of_the_supervisor() {
        let bench = bench();
        let kept = bench.eval(r#"store::put("health/db", #{ restarts: 2 }); store::remove("health/db"); store::get_or("health/db", 7)"#);
        assert_eq!(kept.unwrap().as_int().unwrap(), 7);
        let asked = bench.recorder.questions();
        assert_eq!(asked[0], Question::Put { key: "health/db".into(), value: json!({ "restarts": 2 }) });
        assert_eq!(asked[1], Question::Put { key: "health/db".into(), value: Value::Null });
        assert_eq!(asked[2], Question::Get { key: "health/db".into() });
    }

    #[test]
    fn only_granted_keys_are_touched() {
        let bench = bench();
        for script in [r#"store::put("seen", 1)"#, r#"store::get("other")"#, r#"store::remove("health")"#, r#"store::keys("")"#] {
            assert_eq!(bench.error(script).kind, Kind::Denied, "{script}");
        }
        assert!(bench.recorder.questions().is_empty());
    }

    #[test]
    fn what_can_not_be_kept_is_refused() {
        let bench = bench();
        for (value, kind) in [("|| 1", Kind::Invalid), ("()", Kind::Invalid), (r#"let a = ""; a.pad(70000, 'x'); a"#, Kind::Limit)] {
            let script = format!(r#"let value = {{ {value} }}; store::put("health/x", value)"#);
            assert_eq!(bench.error(&script).kind, kind, "{value}");
        }
        assert_eq!(bench.error(r#"store::put("health/\n", 1)"#).kind, Kind::Invalid);
        assert!(bench.recorder.questions().is_empty());
    }
}
