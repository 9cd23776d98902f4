//! `prom::`: what a Prometheus and an Alertmanager of the system know, and silences.
//!
//! Which server is meant is the name of an endpoint of the system file: its address is the base, and its headers, trust,
//! network and time hold. A script knows neither address nor token, and reaches no other page of the server.

mod alerting;
mod client;
mod query;
mod silence;
#[cfg(test)]
mod tests;

use hyper::Method;
use rhai::Map;
use rhai::plugin::*;
use serde::Serialize;

use crate::error::{Kind, Result};
use crate::host::http::Content;
use crate::host::{Access, Call, Function, HostModule, RhaiResultOf, session};
use crate::model::{Effect, Span};
use client::{Server, WaitOptions};
use query::{QueryOptions, RangeOptions};
use silence::{Matchers, Silence, SilenceOptions};

/// The module `prom`.
pub const MODULE: HostModule = HostModule {
    name: "prom",
    summary: "Prometheus and Alertmanager: expressions, alerts, rules, targets, silences, reload",
    build: || exported_module!(api),
    functions: &[
        Function::read("query").needs("prom", "read", 0).options::<QueryOptions>(),
        Function::read("query_range").needs("prom", "read", 0).options::<RangeOptions>(),
        Function::read("alerts").needs("prom", "read", 0).options::<WaitOptions>(),
        Function::read("rules").needs("prom", "read", 0).options::<WaitOptions>(),
        Function::read("targets").needs("prom", "read", 0).options::<WaitOptions>(),
        Function::effect("silence", "the matchers and how long").needs("prom", "silence", 0).options::<SilenceOptions>(),
        Function::effect("unsilence", "the silence").needs("prom", "silence", 0),
        Function::effect("reload", "the endpoint").needs("prom", "reload", 0).options::<WaitOptions>(),
    ],
};

#[export_module]
mod api {
    use rhai::{Dynamic, Map};

    use super::{QueryOptions, RangeOptions, Server, alerting, end_silence, look, make_silence, permit, query, reload_settings, server};
    use crate::host::{Call, RhaiResultOf};

    /// What an expression is now, or was at another time.
    ///
    /// ```rhai,lab
    /// let up = prom::query("prometheus", "up");
    /// up.kind == "vector" && up.series.all(|one| one.value == 1.0) && prom::query("prometheus", "1 / 0").value == ()
    /// ```
    ///
    /// Options: `at` (a time, or a duration like `15m` that means that long ago; now when absent), `timeout` (what the file says of
    /// the endpoint, or else 30 s). Returns `kind` (`vector`, `matrix`, `scalar`, `string`), `series`, a list of `name`, `labels`, `value`
    /// and `at` (of a matrix the last ones, and `points`, a list of `at` and `value`), `value` (when there is exactly one series; else
    /// nothing), `text` (of a string) and `warnings` (of Prometheus: the answer may be a part only). A value is a number with a point;
    /// one that is no number or infinite, and a native histogram, is `()`. No series is no error: `series` is empty.
    ///
    /// An expression that can not be read or evaluated is `invalid`; `timeout`, `remote` and `refused` are what the server says. More than
    /// 5000 series, 100 000 numbers or 16 MiB are a `limit`.
    ///
    /// Needs `prom: ["read:NAME"]` for the name of the endpoint, or `"read:${endpoints.NAME}"`.
    #[rhai_fn(name = "query", return_raw, volatile)]
    pub fn query_with(native: NativeCallContext, name: &str, expr: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "prom::query")?;
        permit(&call, "read", name)?;
        let options: QueryOptions = call.options(options)?;
        let server = Server::of(call.ctx(), name, options.timeout);
        look(&call, name, query::query(&server, expr, options))
    }

    /// What an expression is now.
    #[rhai_fn(return_raw, volatile)]
    pub fn query(native: NativeCallContext, name: &str, expr: &str) -> RhaiResultOf<Dynamic> {
        query_with(native, name, expr, Map::new())
    }

    /// What an expression was over a time, at each step of it.
    ///
    /// ```rhai,lab
    /// let up = prom::query_range("prometheus", "up", #{ since: "10m", step: "1m" });
    /// up.series.all(|one| one.points.len() == 11)
    /// ```
    ///
    /// Options: `since` and `before` (a time, or a duration like `15m` that means that long ago; an hour ago and now when absent), `step`
    /// (a 240th of that in whole seconds when absent), `timeout`. Returns `kind` (`matrix`), `series` and `warnings` as `prom::query` does;
    /// the `points` of each series are all steps, and one at which it was absent or no number has the value `()`.
    ///
    /// Errors and permission as of `prom::query`; Prometheus itself refuses more than 11 000 steps, as `invalid`.
    #[rhai_fn(name = "query_range", return_raw, volatile)]
    pub fn query_range_with(native: NativeCallContext, name: &str, expr: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "prom::query_range")?;
        permit(&call, "read", name)?;
        let options: RangeOptions = call.options(options)?;
        let server = Server::of(call.ctx(), name, options.timeout);
        look(&call, name, query::query_range(&server, expr, options))
    }

    /// What an expression was over the last hour.
    #[rhai_fn(return_raw, volatile)]
    pub fn query_range(native: NativeCallContext, name: &str, expr: &str) -> RhaiResultOf<Dynamic> {
        query_range_with(native, name, expr, Map::new())
    }

    /// The alerts of an Alertmanager, or of a Prometheus.
    ///
    /// ```rhai,lab
    /// prom::alerts("alertmanager").all(|alert| alert.state in ["firing", "silenced", "inhibited"])
    /// ```
    ///
    /// Options: `timeout`. Returns a list of `name`, `state` (of Prometheus `pending` or `firing`; of Alertmanager `firing`, `silenced` or
    /// `inhibited`), `labels`, `annotations`, `since`, `value` (as Prometheus measured it; `()` of Alertmanager), `silences` (their ids) and
    /// `receivers`. Alerts that are resolved are not among them. Which of the two it is, is asked: Prometheus has no `/api/v2`.
    ///
    /// Errors and permission as of `prom::query`.
    #[rhai_fn(name = "alerts", return_raw, volatile)]
    pub fn alerts_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "prom::alerts")?;
        let server = server(&call, "read", name, options)?;
        look(&call, name, alerting::alerts(&server))
    }

    /// The alerts of an Alertmanager, or of a Prometheus.
    #[rhai_fn(return_raw, volatile)]
    pub fn alerts(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        alerts_with(native, name, Map::new())
    }

    /// The rules a Prometheus has loaded, and how they are.
    ///
    /// ```rhai,lab
    /// prom::rules("prometheus").all(|rule| rule.problem == ())
    /// ```
    ///
    /// Options: `timeout`. Returns a list of `name`, `kind` (`alert`, `record`), `group`, `file`, `expr`, `state` (of an alert `inactive`,
    /// `pending` or `firing`; else `()`), `hold_s` (seconds until it fires), `labels`, `annotations`, `health` (`ok`, `err`, `unknown`),
    /// `problem` (why it could not be evaluated) and `evaluated` (when; `()` before the first time).
    ///
    /// Errors and permission as of `prom::query`.
    #[rhai_fn(name = "rules", return_raw, volatile)]
    pub fn rules_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "prom::rules")?;
        let server = server(&call, "read", name, options)?;
        look(&call, name, alerting::rules(&server))
    }

    /// The rules a Prometheus has loaded.
    #[rhai_fn(return_raw, volatile)]
    pub fn rules(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        rules_with(native, name, Map::new())
    }

    /// What a Prometheus asks for samples, and how that went.
    ///
    /// ```rhai,lab
    /// prom::targets("prometheus").all(|target| target.up != false)
    /// ```
    ///
    /// Options: `timeout`. Returns a list of `job`, `instance`, `pool`, `url` (without its query), `up` (`()` before the first time),
    /// `problem` (why not), `scraped` (when; `()` before the first time), `took_ms` and `labels`. Targets that were dropped are not
    /// among them.
    ///
    /// Errors and permission as of `prom::query`.
    #[rhai_fn(name = "targets", return_raw, volatile)]
    pub fn targets_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "prom::targets")?;
        let server = server(&call, "read", name, options)?;
        look(&call, name, alerting::targets(&server))
    }

    /// What a Prometheus asks for samples.
    #[rhai_fn(return_raw, volatile)]
    pub fn targets(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        targets_with(native, name, Map::new())
    }

    /// Silences alerts at an Alertmanager for a time; it is over by itself.
    ///
    /// ```rhai,lab
    /// let silence = step("silence", || {
    ///     let made = prom::silence("alertmanager", #{ alertname: "HighCPU", instance: #{ matches: "web-.*" } }, #{ "for": "10m" });
    ///     undo("unsilence", || prom::unsilence("alertmanager", made.id));
    ///     made
    /// });
    /// prom::unsilence("alertmanager", silence.id)
    /// ```
    ///
    /// The matchers are labels, all of which have to fit: a text is the value itself, `#{ matches: "…" }` an expression for the whole of it,
    /// `#{ is_not: "…" }` and `#{ matches_not: "…" }` the opposite. There must be one at least.
    ///
    /// Options: `"for"` (in quotes, since it is a word of the language; 1 h when absent, 30 d at most), `comment` (the runbook and its run
    /// when absent), `by` (`runbook`), `timeout`. Returns `id` and `ends`. The comment carries the key of the step: done again after a
    /// crash or in another try, the step gets the silence it has made and makes no second one.
    ///
    /// Matchers that Alertmanager does not take are `invalid`; other errors as of `prom::query`.
    ///
    /// Needs `prom: ["silence:NAME"]`, which includes `read`.
    #[rhai_fn(name = "silence", return_raw, volatile)]
    pub fn silence_with(native: NativeCallContext, name: &str, matchers: Map, options: Map) -> RhaiResultOf<Dynamic> {
        make_silence(&Call::new(&native, "prom::silence")?, name, matchers, options)
    }

    /// Silences alerts at an Alertmanager for an hour.
    #[rhai_fn(return_raw, volatile)]
    pub fn silence(native: NativeCallContext, name: &str, matchers: Map) -> RhaiResultOf<Dynamic> {
        silence_with(native, name, matchers, Map::new())
    }

    /// Ends a silence before its time.
    ///
    /// ```rhai,lab
    /// let made = prom::silence("alertmanager", #{ alertname: "HighCPU" });
    /// prom::unsilence("alertmanager", made.id) && !prom::unsilence("alertmanager", made.id)
    /// ```
    ///
    /// Returns whether it was still there to be ended; true in a plan. One that never was is `not_found`.
    ///
    /// Needs `prom: ["silence:NAME"]`.
    #[rhai_fn(return_raw, volatile)]
    pub fn unsilence(native: NativeCallContext, name: &str, id: &str) -> RhaiResultOf<bool> {
        end_silence(&Call::new(&native, "prom::unsilence")?, name, id)
    }

    /// Has a Prometheus or an Alertmanager read its settings and rules again.
    ///
    /// ```rhai,lab
    /// prom::reload("prometheus");
    /// prom::targets("prometheus").len() > 0
    /// ```
    ///
    /// Options: `timeout`. Returns nothing, when what was read holds. Settings that do not hold are `invalid`, and those of before stay; a
    /// Prometheus that runs without `--web.enable-lifecycle` is `refused`.
    ///
    /// Needs `prom: ["reload:NAME"]`.
    #[rhai_fn(name = "reload", return_raw, volatile)]
    pub fn reload_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<()> {
        reload_settings(&Call::new(&native, "prom::reload")?, name, options)
    }

    /// Has a Prometheus or an Alertmanager read its settings and rules again.
    #[rhai_fn(return_raw, volatile)]
    pub fn reload(native: NativeCallContext, name: &str) -> RhaiResultOf<()> {
        reload_with(native, name, Map::new())
    }
}

fn permit(call: &Call<'_>, verb: &str, name: &str) -> RhaiResultOf<()> {
    call.permit(&Access::word("prom", verb, name))
}

/// The server behind an endpoint, when it may be used so.
fn server(call: &Call<'_>, verb: &str, name: &str, options: Map) -> RhaiResultOf<Server> {
    permit(call, verb, name)?;
    let options: WaitOptions = call.options(options)?;
    Ok(Server::of(call.ctx(), name, options.timeout))
}

fn look<T: Serialize>(call: &Call<'_>, name: &str, found: impl Future<Output = Result<T>>) -> RhaiResultOf<Dynamic> {
    let found = call.wait(async { found.await.map_err(|error| if error.target.is_none() { error.target(name) } else { error }) })?;
    call.value(&found)
}

fn make_silence(call: &Call<'_>, name: &str, matchers: Map, options: Map) -> RhaiResultOf<Dynamic> {
    permit(call, "silence", name)?;
    let options: SilenceOptions = call.options(options)?;
    let matchers: Matchers = call.options(matchers)?;
    let server = Server::of(call.ctx(), name, options.timeout);
    let silence = Silence::of(&server, &matchers, options).map_err(|error| call.fail(error.target(name)))?;
    let (effect, planned) = (Effect::new("prom::silence", name, silence.in_words(name)).reversible().once(true), silence.planned());
    let made = call.effect_by_key(effect, planned, |key| async move { silence.make(&server, &key).await })?;
    call.answer(&made)
}

fn end_silence(call: &Call<'_>, name: &str, id: &str) -> RhaiResultOf<bool> {
    permit(call, "silence", name)?;
    silence::identified(id).map_err(|error| call.fail(error.target(name)))?;
    let server = Server::of(call.ctx(), name, None::<Span>);
    let effect = Effect::new("prom::unsilence", name, format!("{name}: end silence `{id}`")).once(true);
    call.effect(effect, true, silence::end(&server, id))
}

fn reload_settings(call: &Call<'_>, name: &str, options: Map) -> RhaiResultOf<()> {
    let server = server(call, "reload", name, options)?;
    let effect = Effect::new("prom::reload", name, format!("{name}: read its settings again"));
    let reload = async {
        server.send(Method::POST, &["-", "reload"], Content::Nothing).await.map(drop).map_err(|error| match error.kind {
            Kind::Timeout | Kind::Connect => session::in_doubt(error),
            Kind::Remote if error.message.contains("failed to reload") => crate::error::Error {
                kind: Kind::Invalid,
                ..error.permanent().hint("try it with `promtool check config` or `amtool check-config`")
            },
            Kind::Refused if error.message.contains("ifecycle") => error.hint("start Prometheus with `--web.enable-lifecycle`"),
            _ => error,
        })
    };
    call.effect(effect, (), reload)
}
