//! `k8s::`: pods, deployments, autoscalers and quotas of a Kubernetes cluster, by their full names.
//!
//! The system file names the cluster (`[cluster]`) and the namespace. The permission is asked for
//! `NAMESPACE/KIND/NAME`. What is read and changed is what operations need; there is no way to create or delete an
//! object here, none into a container, and none to the API itself. It knows no service of a system: `service::` does.

mod access;
mod client;
mod deployments;
#[cfg(test)]
pub(in crate::host) mod fake;
mod hpas;
mod pods;
mod quantity;
#[cfg(test)]
mod tests;

use rhai::Map;
use rhai::plugin::*;

pub(in crate::host) use access::needs;
pub(in crate::host) use client::Cluster;
pub(in crate::host) use deployments::Scaling;
pub(in crate::host) use pods::{LogOptions, PodOptions, PodState, PodUsage};

use crate::error::Error;
use crate::host::{Call, Ctx, Function, HostModule, RhaiResultOf};
use crate::model::Span;
use deployments::{DeploymentOptions, RollbackOptions, ScaleOptions, WaitOptions, view_of};
use hpas::{BoundOptions, HpaOptions};
use pods::EventOptions;

/// The module `k8s`.
pub const MODULE: HostModule = HostModule {
    name: "k8s",
    summary: "Kubernetes: pods, deployments, logs, events, use of resources, scale, rollouts, autoscalers, quotas",
    build: || exported_module!(api),
    functions: &[
        Function::read("pods").needs_fixed("k8s", "read", "*").options::<PodOptions>(),
        Function::read("deployments").needs_fixed("k8s", "read", "*").options::<DeploymentOptions>(),
        Function::read("deployment").needs("k8s", "read", 0).options::<DeploymentOptions>(),
        Function::read("top").needs_fixed("k8s", "top", "*").options::<PodOptions>(),
        Function::read("events").needs_fixed("k8s", "read", "*").options::<EventOptions>(),
        Function::read("logs").needs("k8s", "logs", 0).options::<LogOptions>(),
        Function::read("hpas").needs_fixed("k8s", "read", "*").options::<HpaOptions>(),
        Function::read("quotas").needs_fixed("k8s", "read", "*").options::<HpaOptions>(),
        Function::read("rollout").needs("k8s", "read", 0).options::<DeploymentOptions>(),
        Function::read("wait_available").needs("k8s", "read", 0).options::<WaitOptions>(),
        Function::effect("scale", "how many replicas there are and will be").needs("k8s", "scale", 0).options::<ScaleOptions>(),
        Function::effect("restart", "the deployment and how many pods it has").needs("k8s", "restart", 0).options::<DeploymentOptions>(),
        Function::effect("rollback", "the revisions and their images").needs("k8s", "rollback", 0).options::<RollbackOptions>(),
        Function::effect("bounds", "the bounds as they are and will be").needs("k8s", "bounds", 0).options::<BoundOptions>(),
    ],
};

#[export_module]
mod api {
    use rhai::{Dynamic, Map};

    use super::{
        DeploymentOptions, EventOptions, HpaOptions, PodOptions, WaitOptions, bound, cluster, permit, read_logs, restart_pods, roll_back,
        scale_to, view_of,
    };
    use crate::host::{Call, RhaiResultOf};

    /// The pods of the namespace, or of one deployment, in every state.
    ///
    /// ```rhai,lab
    /// k8s::pods(#{ deployment: "web" }).all(|pod| pod.ready || pod.state != "running")
    /// ```
    ///
    /// Options: `deployment` (only those of its replica sets, whatever labels others have), `labels` (a selector as of
    /// `kubectl -l`, like `app=web,tier!=cache`), `namespace` (that of the system when absent), `timeout` (of each
    /// request, 30 s when absent). Returns a list of `name`, `phase`, `state` (`running`, `terminating`, or why it does not
    /// run: `crash loop back off`, `image pull back off`, `pending`, …), `ready`, `restarts`, `started` (of the container that was
    /// started last; nothing when none runs), `detail`, `node`, `ip`, `containers` (`name`, `image`, `ready`, `restarts`, `state`,
    /// `exit_code` of the last time it ended, `message`). More than 5000 are a `limit`.
    ///
    /// Needs `k8s: ["read:NAMESPACE/deployment/NAME"]`, or `"read:NAMESPACE/pod/*"` without a deployment.
    #[rhai_fn(name = "pods", return_raw, volatile)]
    pub fn pods_with(native: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "k8s::pods")?;
        call.permit_any("k8s", "read")?;
        let options: PodOptions = call.options(options)?;
        let cluster = cluster(&call, options.namespace.as_deref(), options.timeout)?;
        let (kind, name) = options.deployment.as_deref().map_or(("pod", "*"), |name| ("deployment", name));
        permit(&call, &cluster, "read", kind, name)?;
        let pods = call.wait(cluster.pods(&options))?;
        call.value(&pods)
    }

    /// The pods of the namespace of the system.
    #[rhai_fn(return_raw, volatile)]
    pub fn pods(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        pods_with(native, Map::new())
    }

    /// The deployments of the namespace that the permissions let be seen.
    ///
    /// ```rhai,lab
    /// k8s::deployments().some(|one| one.name == "web" && one.available == one.replicas)
    /// ```
    ///
    /// Options: `namespace`, `timeout` (as for `k8s::pods`). Returns a list of `name`, `replicas` (how many there shall be),
    /// `ready`, `updated`, `available`, `images`, `paused`, `revision`, `done` (whether all of it is as it shall be), `problem` (why it
    /// does not get there, where Kubernetes says so), `conditions` (`name`, `status`, `reason`, `message`, `since`), `version`
    /// (for `if_match`).
    #[rhai_fn(name = "deployments", return_raw, volatile)]
    pub fn deployments_with(native: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "k8s::deployments")?;
        call.permit_any("k8s", "read")?;
        let options: DeploymentOptions = call.options(options)?;
        let cluster = cluster(&call, options.namespace.as_deref(), options.timeout)?;
        let views: Vec<_> = call.wait(cluster.deployments())?.iter().map(view_of).collect();
        call.value(&views)
    }

    /// The deployments of the namespace of the system.
    #[rhai_fn(return_raw, volatile)]
    pub fn deployments(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        deployments_with(native, Map::new())
    }

    /// One deployment, the autoscaler that owns its replicas, and how much room the quotas leave.
    ///
    /// ```rhai,lab
    /// let web = k8s::deployment("web");
    /// web.hpa == () && web.replicas >= 1
    /// ```
    ///
    /// Returns what `k8s::deployments` has of it, `hpa` (as `k8s::hpas` has it; nothing when none scales it) and `room` (how
    /// many more replicas the quotas of the namespace leave room for; nothing when none limits them, or when they may not be
    /// seen). Options: `namespace`, `timeout`.
    #[rhai_fn(name = "deployment", return_raw, volatile)]
    pub fn deployment_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "k8s::deployment")?;
        call.permit_any("k8s", "read")?;
        let options: DeploymentOptions = call.options(options)?;
        let cluster = cluster(&call, options.namespace.as_deref(), options.timeout)?;
        permit(&call, &cluster, "read", "deployment", name)?;
        let details = call.wait(cluster.details(name))?;
        call.value(&details)
    }

    /// One deployment of the namespace of the system.
    #[rhai_fn(return_raw, volatile)]
    pub fn deployment(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        deployment_with(native, name, Map::new())
    }

    /// What running pods use, as the metrics server saw it last.
    ///
    /// ```rhai,lab
    /// k8s::top(#{ deployment: "web" }).all(|pod| pod.cpu == () || pod.cpu >= 0.0)
    /// ```
    ///
    /// Options: `deployment`, `labels`, `namespace`, `timeout` (as for `k8s::pods`). Returns a list of `name`, `cpu` (percent of one
    /// core), `cpu_percent` (of what its containers ask for, which is what an autoscaler compares), `memory` (bytes), `memory_percent`
    /// (of what its containers may use), `measured` (when). What is not known is nothing: a pod that was not measured yet, a
    /// container that asks for nothing. Without a metrics server it is `not_found`.
    ///
    /// Needs `k8s: ["top:NAMESPACE/deployment/NAME"]`, or `"top:NAMESPACE/pod/*"` without a deployment.
    #[rhai_fn(name = "top", return_raw, volatile)]
    pub fn top_with(native: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "k8s::top")?;
        call.permit_any("k8s", "top")?;
        let options: PodOptions = call.options(options)?;
        let cluster = cluster(&call, options.namespace.as_deref(), options.timeout)?;
        let (kind, name) = options.deployment.as_deref().map_or(("pod", "*"), |name| ("deployment", name));
        permit(&call, &cluster, "top", kind, name)?;
        let used = call.wait(cluster.top(&options))?;
        call.value(&used)
    }

    /// What the running pods of the namespace of the system use.
    #[rhai_fn(return_raw, volatile)]
    pub fn top(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        top_with(native, Map::new())
    }

    /// What happened in the namespace, the oldest first; Kubernetes keeps it for an hour, unless told otherwise.
    ///
    /// ```rhai,lab
    /// k8s::events(#{ about: "deployment/web", since: "1h" }).all(|event| event.about == "deployment/web")
    /// ```
    ///
    /// Options: `about` (`KIND/NAME`, with `pod`, `deployment`, `replicaset`, `hpa`, `node` or `job`; or a name alone), `since` (a
    /// time, or a duration like `15m` that means that long ago), `warnings` (only those; false when absent), `namespace`, `timeout`.
    /// Returns a list of `time` (the last one of many), `level` (`Normal`, `Warning`), `reason`, `message`, `about`, `count`.
    ///
    /// Needs `k8s: ["read:NAMESPACE/event/*"]`.
    #[rhai_fn(name = "events", return_raw, volatile)]
    pub fn events_with(native: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "k8s::events")?;
        call.permit_any("k8s", "read")?;
        let options: EventOptions = call.options(options)?;
        let cluster = cluster(&call, options.namespace.as_deref(), options.timeout)?;
        permit(&call, &cluster, "read", "event", "*")?;
        let events = call.wait(cluster.events(&options))?;
        call.value(&events)
    }

    /// What happened in the namespace of the system.
    #[rhai_fn(return_raw, volatile)]
    pub fn events(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        events_with(native, Map::new())
    }

    /// What the pods of a deployment wrote, by time; or one pod, as `pod/NAME`.
    ///
    /// ```rhai,lab
    /// k8s::logs("web", #{ since: "1h", tail: 20 }).all(|line| line.stream in ["output", "cut"])
    /// ```
    ///
    /// Options: `since` and `"until"` (a time, or a duration like `15m` that means that long ago), `tail` (the newest lines of each pod,
    /// 1000 when absent, 50 000 at most), `container` (needed for pods with several), `previous` (of the container that ran before,
    /// which is what tells why it crashed; false when absent), `max_bytes` (of each pod, 1 MiB when absent, 64 MiB at most),
    /// `namespace`, `timeout`. Returns a list of `pod`, `time`, `stream` (`output`: Kubernetes does not tell the two streams apart),
    /// `text`. When the oldest lines did not fit, the first entry of a pod has the stream `cut` and says how many.
    ///
    /// Needs `k8s: ["logs:NAMESPACE/deployment/NAME"]`, or `"logs:NAMESPACE/pod/NAME"`.
    #[rhai_fn(name = "logs", return_raw, volatile)]
    pub fn logs_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        read_logs(&Call::new(&native, "k8s::logs")?, name, options)
    }

    /// The newest 1000 lines of each pod of a deployment.
    #[rhai_fn(return_raw, volatile)]
    pub fn logs(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        logs_with(native, name, Map::new())
    }

    /// The autoscalers of the namespace.
    ///
    /// ```rhai,lab
    /// k8s::hpas().all(|hpa| hpa.min <= hpa.max)
    /// ```
    ///
    /// Options: `namespace`, `timeout`. Returns a list of `name`, `target` (`deployment/web`), `min`, `max`, `current`, `wanted`,
    /// `metrics` (`name`, `value`, `target`, as text; a value that is not known is nothing), `conditions`, `scaled` (when it did so
    /// last), `version` (for `if_match`). Servers before 1.23 say no conditions, and no metric but the processor.
    ///
    /// Needs `k8s: ["read:NAMESPACE/hpa/*"]`.
    #[rhai_fn(name = "hpas", return_raw, volatile)]
    pub fn hpas_with(native: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "k8s::hpas")?;
        call.permit_any("k8s", "read")?;
        let options: HpaOptions = call.options(options)?;
        let cluster = cluster(&call, options.namespace.as_deref(), options.timeout)?;
        permit(&call, &cluster, "read", "hpa", "*")?;
        let hpas = call.wait(cluster.hpas())?;
        call.value(&hpas)
    }

    /// The autoscalers of the namespace of the system.
    #[rhai_fn(return_raw, volatile)]
    pub fn hpas(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        hpas_with(native, Map::new())
    }

    /// What the quotas of the namespace allow, and what is used of it.
    ///
    /// ```rhai,lab
    /// k8s::quotas().all(|quota| quota.used <= quota.hard)
    /// ```
    ///
    /// Options: `namespace`, `timeout`. Returns a list of `name`, `resource` (`pods`, `requests.cpu`, `limits.memory`, …), `used`,
    /// `hard` (cores, bytes, or how many).
    ///
    /// Needs `k8s: ["read:NAMESPACE/quota/*"]`.
    #[rhai_fn(name = "quotas", return_raw, volatile)]
    pub fn quotas_with(native: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "k8s::quotas")?;
        call.permit_any("k8s", "read")?;
        let options: HpaOptions = call.options(options)?;
        let cluster = cluster(&call, options.namespace.as_deref(), options.timeout)?;
        permit(&call, &cluster, "read", "quota", "*")?;
        let quotas = call.wait(cluster.quotas())?;
        call.value(&quotas)
    }

    /// What the quotas of the namespace of the system allow.
    #[rhai_fn(return_raw, volatile)]
    pub fn quotas(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        quotas_with(native, Map::new())
    }

    /// How far a deployment is rolled out, and which revisions it can go back to.
    ///
    /// ```rhai,lab
    /// let web = k8s::rollout("web");
    /// web.done && web.revisions[0].revision == web.revision
    /// ```
    ///
    /// Options: `namespace`, `timeout`. Returns what `k8s::deployments` has of it, and `revisions`, the newest first: `revision`,
    /// `images`, `replicas`, `created`.
    #[rhai_fn(name = "rollout", return_raw, volatile)]
    pub fn rollout_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "k8s::rollout")?;
        call.permit_any("k8s", "read")?;
        let options: DeploymentOptions = call.options(options)?;
        let cluster = cluster(&call, options.namespace.as_deref(), options.timeout)?;
        permit(&call, &cluster, "read", "deployment", name)?;
        let rollout = call.wait(cluster.rollout(name))?;
        call.value(&rollout)
    }

    /// How far a deployment of the namespace of the system is rolled out.
    #[rhai_fn(return_raw, volatile)]
    pub fn rollout(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        rollout_with(native, name, Map::new())
    }

    /// Waits until a deployment has as many replicas as it shall have, all of them updated and available.
    ///
    /// ```rhai,lab
    /// k8s::wait_available("web", #{ timeout: "90s" }).replicas >= 1
    /// ```
    ///
    /// Options: `timeout` (in all, 2 min when absent), `interval` (1 s when absent), `namespace`. Returns `deployment`, `replicas`,
    /// `waited_ms`. When the time is over it is a `timeout` that says how far it came, and what Kubernetes says of it.
    #[rhai_fn(name = "wait_available", return_raw, volatile)]
    pub fn wait_available_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "k8s::wait_available")?;
        call.permit_any("k8s", "read")?;
        let options: WaitOptions = call.options(options)?;
        let cluster = cluster(&call, options.namespace.as_deref(), None)?;
        permit(&call, &cluster, "read", "deployment", name)?;
        let available = call.wait(cluster.wait_available(name, &options))?;
        call.value(&available)
    }

    /// Waits for two minutes until a deployment is available.
    #[rhai_fn(return_raw, volatile)]
    pub fn wait_available(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        wait_available_with(native, name, Map::new())
    }

    /// Lets a deployment have so many replicas, from 0 to 1000.
    ///
    /// One that an autoscaler scales is a `conflict`: change the bounds of that with `k8s::bounds`. More than the quotas of the
    /// namespace leave room for are a `limit`, before anything is changed. When somebody else scaled it between the look and the
    /// change, it is a `conflict` too.
    ///
    /// ```rhai,lab
    /// let done = step("more", || k8s::scale("web", 3, #{ wait: "2m" }));
    /// undo("as many as before", || k8s::scale("web", done.before));
    /// done.after == 3
    /// ```
    ///
    /// Options: `if_match` (the `version` of `k8s::deployment`, when nothing at all may have changed since), `wait` (until they are
    /// available, for so long; not at all when absent; what does not become available in that time is scaled back, and it is a
    /// `timeout`), `namespace`, `timeout` (of each request). Returns `deployment`, `before`, `after`, `version`. As a part of a step it may be
    /// done again: `#{ verify: || k8s::deployment(NAME).replicas == COUNT }`.
    #[rhai_fn(name = "scale", return_raw, volatile)]
    pub fn scale_with(native: NativeCallContext, name: &str, replicas: i64, options: Map) -> RhaiResultOf<Dynamic> {
        scale_to(&Call::new(&native, "k8s::scale")?, name, replicas, options)
    }

    /// Lets a deployment have so many replicas, and does not wait for them.
    #[rhai_fn(return_raw, volatile)]
    pub fn scale(native: NativeCallContext, name: &str, replicas: i64) -> RhaiResultOf<Dynamic> {
        scale_with(native, name, replicas, Map::new())
    }

    /// Starts the pods of a deployment anew, as `kubectl rollout restart` does: a few at a time, the new ones first.
    ///
    /// ```rhai,lab
    /// step("restart", || k8s::restart("web"));
    /// k8s::wait_available("web").replicas >= 1
    /// ```
    ///
    /// Options: `namespace`, `timeout`. Returns the name. It does not wait: `k8s::wait_available` does. A paused deployment is a
    /// `conflict`.
    #[rhai_fn(name = "restart", return_raw, volatile)]
    pub fn restart_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        restart_pods(&Call::new(&native, "k8s::restart")?, name, options)
    }

    /// Starts the pods of a deployment anew.
    #[rhai_fn(return_raw, volatile)]
    pub fn restart(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        restart_with(native, name, Map::new())
    }

    /// Goes back to an earlier revision of a deployment, as `kubectl rollout undo` does.
    ///
    /// ```rhai,lab
    /// let before = k8s::rollout("web").revision;
    /// step("back", || k8s::rollback("web"));
    /// undo("and forth", || k8s::rollback("web", #{ to: before }));
    /// k8s::wait_available("web").replicas >= 1
    /// ```
    ///
    /// Options: `to` (a revision of `k8s::rollout`; the one before when absent), `namespace`, `timeout`. Returns `deployment`, `images`, and
    /// `revision`, which is nothing: Kubernetes gives it a new number. One that is not kept is `not_found`; a deployment that
    /// was changed between the look and the change, or is paused, a `conflict`.
    #[rhai_fn(name = "rollback", return_raw, volatile)]
    pub fn rollback_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        roll_back(&Call::new(&native, "k8s::rollback")?, name, options)
    }

    /// Goes back to the revision before.
    #[rhai_fn(return_raw, volatile)]
    pub fn rollback(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        rollback_with(native, name, Map::new())
    }

    /// Lets an autoscaler have between so many replicas, and changes none itself.
    ///
    /// ```rhai,lab
    /// let done = step("bounds", || k8s::bounds("web", 3, 20));
    /// undo("bounds as before", || k8s::bounds("web", done.before[0], done.before[1]));
    /// done.after == [3, 20]
    /// ```
    ///
    /// Options: `if_match` (the `version` of `k8s::hpas`), `namespace`, `timeout`. Returns `hpa`, `before` and `after`, each a list of the
    /// fewest and the most.
    ///
    /// Needs `k8s: ["bounds:NAMESPACE/hpa/NAME"]`.
    #[rhai_fn(name = "bounds", return_raw, volatile)]
    pub fn bounds_with(native: NativeCallContext, hpa: &str, min: i64, max: i64, options: Map) -> RhaiResultOf<Dynamic> {
        bound(&Call::new(&native, "k8s::bounds")?, hpa, (min, max), options)
    }

    /// Lets an autoscaler have between so many replicas.
    #[rhai_fn(return_raw, volatile)]
    pub fn bounds(native: NativeCallContext, hpa: &str, min: i64, max: i64) -> RhaiResultOf<Dynamic> {
        bounds_with(native, hpa, min, max, Map::new())
    }
}

fn cluster(call: &Call<'_>, namespace: Option<&str>, timeout: Option<Span>) -> RhaiResultOf<Cluster> {
    Cluster::of(call.ctx(), namespace, timeout).map_err(|error| call.fail(error))
}

fn permit(call: &Call<'_>, cluster: &Cluster, verb: &str, kind: &str, name: &str) -> RhaiResultOf<()> {
    cluster.permit(verb, kind, name).map_err(|error| call.fail(error))
}

fn read_logs(call: &Call<'_>, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
    call.permit_any("k8s", "logs")?;
    let options: LogOptions = call.options(options)?;
    let cluster = cluster(call, options.namespace.as_deref(), options.timeout)?;
    let (kind, name) = name.split_once('/').filter(|(kind, _)| *kind == "pod").unwrap_or(("deployment", name));
    permit(call, &cluster, "logs", kind, name)?;
    let lines = call.wait(async {
        let pods = if kind == "pod" { vec![name.to_owned()] } else { cluster.names_of(name).await? };
        cluster.lines(&pods, &options).await
    })?;
    call.value(&lines)
}

fn scale_to(call: &Call<'_>, name: &str, replicas: i64, options: Map) -> RhaiResultOf<Dynamic> {
    call.permit_any("k8s", "scale")?;
    let options: ScaleOptions = call.options(options)?;
    let cluster = cluster(call, options.namespace.as_deref(), options.timeout)?;
    permit(call, &cluster, "scale", "deployment", name)?;
    let scaling = call.wait(cluster.to_scale(name, replicas, options.if_match))?;
    let (effect, planned) = (scaling.effect("k8s::scale"), scaling.planned());
    let done = call.effect(effect, planned, async {
        match options.wait {
            Some(patience) => cluster.scale_and_wait(&scaling, patience).await,
            None => cluster.scale(&scaling).await,
        }
    })?;
    call.value(&done)
}

fn restart_pods(call: &Call<'_>, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
    call.permit_any("k8s", "restart")?;
    let options: DeploymentOptions = call.options(options)?;
    let cluster = cluster(call, options.namespace.as_deref(), options.timeout)?;
    permit(call, &cluster, "restart", "deployment", name)?;
    let effect = call.wait(cluster.to_restart("k8s::restart", name))?;
    let done = call.effect(effect, name.to_owned(), async { cluster.restart(name).await.map(|()| name.to_owned()) })?;
    call.value(&done)
}

fn roll_back(call: &Call<'_>, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
    call.permit_any("k8s", "rollback")?;
    let options: RollbackOptions = call.options(options)?;
    let cluster = cluster(call, options.namespace.as_deref(), options.timeout)?;
    permit(call, &cluster, "rollback", "deployment", name)?;
    let rollback = call.wait(cluster.to_roll_back(name, &options))?;
    let (effect, planned) = (rollback.effect(), rollback.planned());
    let done = call.effect(effect, planned, cluster.roll_back(rollback))?;
    call.value(&done)
}

fn bound(call: &Call<'_>, hpa: &str, (min, max): (i64, i64), options: Map) -> RhaiResultOf<Dynamic> {
    call.permit_any("k8s", "bounds")?;
    let options: BoundOptions = call.options(options)?;
    let cluster = cluster(call, options.namespace.as_deref(), options.timeout)?;
    permit(call, &cluster, "bounds", "hpa", hpa)?;
    let bounding = call.wait(cluster.to_bound(hpa, min, max, &options))?;
    let (effect, planned) = (bounding.effect(cluster.object("hpa", hpa)), bounding.planned());
    let done = call.effect(effect, planned, cluster.bound(bounding))?;
    call.value(&done)
}

/// The identity of the cluster, for plans: where it is, and whom it is trusted by.
pub(super) fn identity(ctx: &Ctx) -> Result<String, Error> {
    let Some(cluster) = &ctx.system().cluster else { return Ok(String::new()) };
    access::Access::of(cluster, ctx.secrets()).map(|access| access.identity_of_server())
}
