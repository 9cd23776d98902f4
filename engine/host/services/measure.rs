//! Services as samples.

use serde_json::Value;

use super::view::View;
use crate::host::Ctx;
use crate::host::measure::{Found, number, one};
use crate::model::Reading;

/// Each service: whether it is well, how many of it run, how often it was restarted. A manager that does
/// not answer leaves all of them unknown.
pub(in crate::host) async fn measure(ctx: &Ctx) -> Found {
    let (states, problem) = match View::of(ctx).list().await {
        Ok(states) => (serde_json::to_value(states).unwrap_or_default(), None),
        Err(problem) => (Value::Null, Some(problem)),
    };
    let state = |name: &str| states.as_array().into_iter().flatten().find(|state| state["name"] == name).cloned().unwrap_or_default();
    let of = |name: &String| {
        let state = state(name);
        let up = match &state["problem"] {
            _ if state.is_null() => Reading::Unknown,
            Value::Null => Reading::Known(1.0),
            // It is on its way up, which is neither.
            _ if state["starting"] == true => Reading::Unknown,
            _ => Reading::Known(0.0),
        };
        [
            one("service_up", "service", name, up),
            one("service_running", "service", name, number(&state, "running")),
            one("service_restarts", "service", name, number(&state, "restarts")),
        ]
    };
    Found { measured: ctx.system().services.each.keys().flat_map(of).collect(), problem }
}
