//! `service::`: the services of the system, the same for compose, systemd, Kubernetes and plain processes.
//!
//! Every service of the system file is judged by state *and* health *and* restarts, and found by label,
//! unit or pid file, never by a line of text. It knows no manager's own words beyond [`view`].
//!
//! The permissions are those of the manager: `docker` for compose, `systemd` for units, `k8s` for deployments, and
//! `sys: ["processes"]` for plain processes. So no function here names one of its own.

#[cfg_attr(not(feature = "k8s"), path = "no_cluster.rs")]
mod cluster;
mod measure;
mod processes;
mod state;
#[cfg(test)]
mod tests;
mod usage;
mod view;

use rhai::Map;
use rhai::plugin::*;

use crate::host::docker::Action;
use crate::host::{Call, Function, HostModule, RhaiResultOf};

pub(super) use measure::measure;

/// The module `service`.
pub const MODULE: HostModule = HostModule {
    name: "service",
    summary: "the services of the system, whatever manages them: state, health, restart, output, use of resources",
    build: || exported_module!(api),
    functions: &[
        Function::read("list"),
        Function::read("state"),
        Function::read("logs").options::<view::LineOptions>(),
        Function::read("stats").options::<usage::UsageOptions>(),
        Function::effect("restart", "the containers or the unit, and their states").options::<view::TurnOptions>(),
        Function::effect("scale", "how many replicas there are and will be, by name").options::<view::ScaleOptions>(),
        Function::effect("start", "the containers or the unit, and their states"),
    ],
};

#[export_module]
mod api {
    use rhai::{Dynamic, Map};

    use super::usage::UsageOptions;
    use super::view::{LineOptions, View};
    use super::{act, scale_service};
    use crate::host::docker::Action;
    use crate::host::{Call, RhaiResultOf};

    /// Every service of the system, with what is wrong with it.
    ///
    /// A service has a `problem` when one of its containers, its unit or its process does not run, is not healthy
    /// (still `starting` included), or is being restarted again and again: 3 times and for the last time within 5 minutes, or
    /// what the threshold `restarts` of the system says (`alarm`, `for`). An `optional` one may be absent, but not ill.
    /// Services of the compose project that are not in the system file come last, as `unexpected`, when the permissions
    /// cover them: `info` tells of them, and `problem` when they failed.
    ///
    /// ```rhai,lab
    /// service::list().some(|one| one.name == "postgres" && one.running == one.expected && one.problem == ())
    /// ```
    ///
    /// Returns a list of `name`, `title`, `manager`, `expected`, `running`, `healthy` (how many; one nobody looks at counts
    /// when it runs), `state` (`absent` when there is nothing of it), `health` (`unhealthy starting healthy none`, the worst),
    /// `restarts`, `problem`, `info`, `optional`, `unexpected`, `starting` (whether the problem is only that it still comes
    /// up). Needs to `inspect` its containers, the `status` of its units, to `read` its deployments, or `sys: ["processes"]`. A system without services has none.
    #[rhai_fn(return_raw, volatile)]
    pub fn list(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "service::list")?;
        let states = call.wait(View::of(call.ctx()).list())?;
        call.value(&states)
    }

    /// One service of the system, as `service::list` has it.
    ///
    /// ```rhai,lab
    /// service::state("backend").health == "healthy"
    /// ```
    ///
    /// A name the system file does not have is `not_found`, with the name that was probably meant.
    ///
    /// Needs what `service::list` needs, for this one.
    #[rhai_fn(return_raw, volatile)]
    pub fn state(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "service::state")?;
        let state = call.wait(View::of(call.ctx()).state(name))?;
        call.value(&state)
    }

    /// What a service wrote: the output of its containers, or the journal of its unit.
    ///
    /// ```rhai,lab
    /// service::logs("backend", #{ since: "1h", tail: 20 }).len() <= 21
    /// ```
    ///
    /// Options: `since` and `until` (a time, or a duration like `15m` that means that long ago), `tail` (the newest lines,
    /// 1000 when absent; of each container). Returns a list of `source`, `time`, `stream` (`stdout`, `stderr`, `journal`, or `cut`
    /// for what was left out), `text`. Nobody keeps the output of a plain process: that is a `conflict`.
    ///
    /// Kubernetes does not tell the streams apart: there it is `output`.
    ///
    /// Needs `docker: ["logs:…"]`, `systemd: ["logs:…"]` or `k8s: ["logs:…"]`, by what manages the service.
    #[rhai_fn(name = "logs", return_raw, volatile)]
    pub fn logs_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "service::logs")?;
        let options: LineOptions = call.options(options)?;
        let lines = call.wait(View::of(call.ctx()).logs(name, options))?;
        call.value(&lines)
    }

    /// The newest 1000 lines a service wrote.
    #[rhai_fn(return_raw, volatile)]
    pub fn logs(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        logs_with(native, name, Map::new())
    }

    /// What a service uses, its processors over an interval.
    ///
    /// ```rhai,lab
    /// let redis = service::stats("redis", #{ over: "200ms" });
    /// redis.memory > 0 && redis.each.len() == 1
    /// ```
    ///
    /// Options: `over` (1 s when absent). Returns `name`, `cpu` (percent of one core, in all), `memory` (bytes, in all),
    /// `memory_percent` (of its limit, the highest), `processes`, and `each` with the same of every container, and
    /// `cpu_percent` (of the processors it asks for, where that is said); what is not known is nothing. On Kubernetes it is what
    /// the metrics server saw last.
    ///
    /// Needs `docker: ["stats:…"]`, `systemd: ["status:…"]`, `k8s: ["top:…"]` or `sys: ["processes"]`, by what manages the service.
    #[rhai_fn(name = "stats", return_raw, volatile)]
    pub fn stats_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "service::stats")?;
        let options: UsageOptions = call.options(options)?;
        let usage = call.wait(View::of(call.ctx()).stats(name, options))?;
        call.value(&usage)
    }

    /// What a service uses, over one second.
    #[rhai_fn(return_raw, volatile)]
    pub fn stats(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        stats_with(native, name, Map::new())
    }

    /// Restarts a service of the system: its containers in turn, or its unit.
    ///
    /// ```rhai,lab
    /// step("restart", || service::restart("frontend", #{ timeout: "5s" })).len() == 1
    /// ```
    ///
    /// Options: `timeout` (for containers, how long they may take to stop before they are killed, 10 s when absent; for a unit, how long it
    /// may take in all, 120 s when absent). Returns the names of what was restarted. It does not wait until they are healthy. A
    /// plain process is a `conflict`, since nothing knows how to start it.
    ///
    /// The pods of a deployment start anew a few at a time, the new ones first.
    ///
    /// Needs `docker: ["restart:…"]`, `systemd: ["restart:…"]` or `k8s: ["restart:…"]`, by what manages the service.
    #[rhai_fn(name = "restart", return_raw, volatile)]
    pub fn restart_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        act(&Call::new(&native, "service::restart")?, "service::restart", Action::Restart, name, options)
    }

    /// Restarts a service of the system.
    #[rhai_fn(return_raw, volatile)]
    pub fn restart(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        restart_with(native, name, Map::new())
    }

    /// Starts a service of the system that was stopped; what of it runs stays as it is.
    ///
    /// ```rhai,lab
    /// step("start", || service::start("frontend")).len() == 1
    /// ```
    ///
    /// Returns the names of its containers, or of its unit. It does not wait until they are healthy. A container that was
    /// never made can not be started here. A plain process is a `conflict`, since nothing knows how to start it, and so is a
    /// deployment, whose pods Kubernetes starts by itself.
    ///
    /// Needs `docker: ["start:…"]` or `systemd: ["start:…"]`, by what manages the service.
    #[rhai_fn(return_raw, volatile)]
    pub fn start(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        act(&Call::new(&native, "service::start")?, "service::start", Action::Start, name, Map::new())
    }

    /// Lets so many replicas of a service run, from 1 to 100, and waits until they are healthy.
    ///
    /// More are started, or made like the one with the lowest number: with its image, settings, volumes and networks, under
    /// the name and with the labels compose would give them. Of fewer the ones with the highest numbers are stopped and removed.
    /// It does not read the compose file, and the next `compose up` has as many run as that says.
    ///
    /// ```rhai,lab
    /// let scaled = step("scale", || service::scale("frontend", 1, #{ timeout: "1m" }));
    /// scaled.before == 1 && scaled.after == 1
    /// ```
    ///
    /// Options: `timeout` (how long new ones may take to become healthy, 2 min when absent; those that do not are taken away again,
    /// and it is an error of kind `timeout`). Returns `service`, `before`, `after`, `started`, `created`, `removed` (names). A service
    /// with a fixed name, address or port of the machine has room for one only: more of it are a `conflict`, as
    /// are units and plain processes, whose number nothing manages. As a part of a step it may be
    /// done again: `#{ verify: || service::state(NAME).running == COUNT }`. On Kubernetes the number of the deployment is changed;
    /// one that an autoscaler owns is a `conflict`, more than the quotas of the namespace leave room for a `limit`.
    ///
    /// Needs `docker: ["scale:…"]` or `k8s: ["scale:…"]`, by what manages the service.
    #[rhai_fn(name = "scale", return_raw, volatile)]
    pub fn scale_with(native: NativeCallContext, name: &str, replicas: i64, options: Map) -> RhaiResultOf<Dynamic> {
        scale_service(&Call::new(&native, "service::scale")?, name, replicas, options)
    }

    /// Lets so many replicas of a service run, and waits for two minutes until they are healthy.
    #[rhai_fn(return_raw, volatile)]
    pub fn scale(native: NativeCallContext, name: &str, replicas: i64) -> RhaiResultOf<Dynamic> {
        scale_with(native, name, replicas, Map::new())
    }
}

fn scale_service(call: &Call<'_>, name: &str, replicas: i64, options: Map) -> RhaiResultOf<Dynamic> {
    let view = view::View::of(call.ctx());
    let options: view::ScaleOptions = call.options(options)?;
    let scaling = call.wait(view.to_scale(name, replicas))?;
    let (effect, planned) = (scaling.effect(name), scaling.planned(name));
    let done = call.effect(effect, planned, view.scale(name, scaling, options))?;
    call.value(&done)
}

fn act(call: &Call<'_>, function: &'static str, action: Action, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
    let view = view::View::of(call.ctx());
    let options: view::TurnOptions = call.options(options)?;
    let turn = call.wait(view.turn(action, name))?;
    let (effect, planned) = (turn.effect(function, name), turn.names());
    let done = call.effect(effect, planned, view.act(name, turn, options))?;
    call.value(&done)
}
