//! `parallel`: closures on threads of their own, results in order.

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use rhai::{Array, Dynamic, EvalAltResult, FnPtr, Map, NativeCallContext};
use serde::Deserialize;

use crate::error::{Error, Kind};
use crate::host::{Call, Mode, RhaiResultOf, error_of, frames};
use crate::script::language::step::thrown;

/// What the deepest script within the limits needs, measured, with room to spare; a debug build needs
/// many times as much. Virtual until touched.
const STACK: usize = if cfg!(debug_assertions) { 128 << 20 } else { 16 << 20 };
const AT_ONCE: usize = 64;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    limit: Option<usize>,
}

pub(super) fn run(native: &NativeCallContext<'_>, items: Array, options: Map, work: &FnPtr) -> RhaiResultOf<Array> {
    let call = Call::new(native, "parallel")?;
    let options: Options = call.options(options)?;
    // A test is the same each time: one after the other.
    let at_once = if call.ctx().mode() == Mode::Test { 1 } else { AT_ONCE };
    let workers = options.limit.unwrap_or(AT_ONCE).clamp(1, at_once).min(items.len());
    let parent = frames::top();
    let branches = parent.branches();
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<RhaiResultOf<Dynamic>>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let turn = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return };
            let _open = frames::open_branch(&parent, &branches, index);
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| work.call_within_context::<Dynamic>(native, (item.clone(),))));
            let result = result.unwrap_or_else(|_| Err(thrown(Error::new(Kind::Bug, "a host function panicked"), call.position())));
            *results[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
    };
    std::thread::scope(|scope| -> std::io::Result<()> {
        for worker in 0..workers {
            std::thread::Builder::new().name(format!("parallel {worker}")).stack_size(STACK).spawn_scoped(scope, turn)?;
        }
        Ok(())
    })
    .map_err(|error| call.fail(Error::new(Kind::Limit, format!("no thread for `parallel`: {error}")).hint("set a smaller `limit`")))?;
    let mut values = Array::with_capacity(items.len());
    for (item, result) in items.iter().zip(results) {
        match result.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(Ok(value)) => values.push(value),
            Some(Err(error)) => return Err(with_item(error, item)),
            None => return Err(call.fail(Error::new(Kind::Bug, "an item of `parallel` was not run"))),
        }
    }
    Ok(values)
}

/// Says for which item it failed; what can not be caught stays as it is.
fn with_item(error: Box<EvalAltResult>, item: &Dynamic) -> Box<EvalAltResult> {
    let EvalAltResult::ErrorRuntime(value, position) = error.unwrap_inner() else { return error };
    if !value.is_map() {
        return error;
    }
    let mut told = error_of(&error);
    let name = match item.read_lock::<Map>() {
        Some(map) => map.get("name").map_or(String::new(), ToString::to_string),
        None => item.to_string(),
    };
    if !name.is_empty() && name.len() <= 80 {
        told = told.context(format_args!("for `{name}`"));
    }
    thrown(told, *position)
}
