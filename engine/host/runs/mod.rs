//! `runs::`: what became of runs that are on record.
//!
//! The supervisor alone reads the store; this module only asks it, about runs of this run's system.

use rhai::plugin::*;
use serde_json::Value;

use crate::error::Result;
use crate::host::{Ctx, Function, HostModule, Question};

/// The module `runs`.
pub const MODULE: HostModule = HostModule {
    name: "runs",
    summary: "what became of other runs of this system",
    build: || exported_module!(api),
    functions: &[Function::read("newest").needs("runs", "read", 0)],
};

/// So many runs are looked through for one that came to its end.
const MOST: u32 = 50;

#[export_module]
mod api {
    use rhai::Dynamic;

    use super::newest_ended;
    use crate::host::{Access, Call, RhaiResultOf, value};

    /// The newest run of a runbook for this system that came to its end; nothing when there is none on record.
    ///
    /// Returns `run` (its number), `status` (`succeeded warning failed cancelled timed-out interrupted`), `level` (the worst
    /// answer of its checks), `note` (why it failed, or the worst check), `by`, `started`, `ended` (RFC 3339),
    /// `duration_ms`. One that goes on, waits, or was skipped is passed over. Needs `runs: ["read:NAME"]`, which is also
    /// granted by the permission to start it.
    ///
    /// ```rhai
    /// type_of(runs::newest("never-recorded")) == "()"
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn newest(native: NativeCallContext, runbook: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "runs::newest")?;
        call.permit(&Access::word("runs", "read", runbook))?;
        let found = newest_ended(call.ctx(), runbook).map_err(|error| call.fail(error))?;
        Ok(value::dynamic(&found))
    }
}

fn newest_ended(ctx: &Ctx, runbook: &str) -> Result<Value> {
    let answer = ctx.recorder().ask(Question::History { runbook: runbook.to_owned(), limit: MOST })?.into_value();
    let runs = answer.as_array().cloned().unwrap_or_default();
    let ended = runs.into_iter().find(|run| !run["ended"].is_null() && run["status"] != "skipped");
    let told = ["run", "status", "level", "note", "by", "started", "ended", "duration_ms"];
    Ok(ended
        .map_or(Value::Null, |run| told.iter().map(|&key| (key.to_owned(), run[key].clone())).collect::<serde_json::Map<_, _>>().into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Kind;
    use crate::host::testing::Bench;

    #[test]
    fn only_the_record_of_a_granted_runbook_is_asked_for() {
        let bench = Bench::new(json!({ "runs": ["read:backup", "check"] }));
        assert_eq!(bench.error(r#"runs::newest("other")"#).kind, Kind::Denied);
        for name in ["backup", "check"] {
            assert!(bench.eval(&format!("runs::newest({name:?})")).unwrap().is_unit());
        }
        let asked = |runbook: &str| Question::History { runbook: runbook.to_owned(), limit: MOST };
        assert_eq!(bench.recorder.questions(), [asked("backup"), asked("check")]);
    }
}
