//! `docker::`: containers of the Docker engine, by their full names or by their services.
//!
//! A name is a service of the system's compose project (by label, so it does not matter which compose
//! made it), or else a container by its full name. The permission is asked for the container a name
//! turned out to mean. There is no way to
//! create a container here but one more of a service (`service::scale`), nor to reach the engine's own API.

mod containers;
mod engine;
mod exec;
#[cfg(test)]
pub(in crate::host) mod fake;
mod lifecycle;
mod logs;
mod scale;
mod space;
mod stats;
#[cfg(test)]
mod tests;

use rhai::plugin::*;
use rhai::{Array, Map};

pub(in crate::host) use containers::{Container, Found};
pub(in crate::host) use engine::Docker;
pub(in crate::host) use lifecycle::{Action, StopOptions, names};
pub(in crate::host) use logs::{Line, LogOptions};
pub(in crate::host) use scale::{MOST as MOST_REPLICAS, Scaled, Scaling};
pub(in crate::host) use stats::{Stats, StatsOptions};

use crate::error::{Error, Kind};
use crate::host::{Access, Call, Function, HostModule, RhaiResultOf, SecretText, argument, type_in_words};
use crate::model::Effect;

/// The module `docker`.
pub const MODULE: HostModule = HostModule {
    name: "docker",
    summary: "containers: state and health, logs, use of resources, commands, restart; images and disk space",
    build: || exported_module!(api),
    functions: &[
        Function::read("containers").needs_fixed("docker", "list", "*").options::<containers::ListOptions>(),
        Function::read("inspect").needs("docker", "inspect", 0),
        Function::read("logs").needs("docker", "logs", 0).options::<LogOptions>(),
        Function::read("stats").needs("docker", "stats", 0).options::<StatsOptions>(),
        Function::effect("exec", "the container and the command").needs("docker", "exec", 0).options::<exec::ExecOptions>(),
        Function::effect("restart", "the containers and their states").needs("docker", "restart", 0).options::<StopOptions>(),
        Function::effect("start", "the containers and their states").needs("docker", "start", 0),
        Function::effect("stop", "the containers and their states").needs("docker", "stop", 0).options::<StopOptions>(),
        Function::read("wait_healthy").needs("docker", "inspect", 0).options::<lifecycle::WaitOptions>(),
        Function::read("images").needs_fixed("docker", "images", "*"),
        Function::read("disk").needs_fixed("docker", "disk", "*"),
        Function::effect("prune", "how many images and entries of build cache go").needs_fixed("docker", "prune", "*"),
        Function::read("info").needs_fixed("docker", "list", "*"),
        Function::read("engine_id").needs_fixed("docker", "list", "*"),
    ],
};

#[export_module]
mod api {
    use rhai::{Array, Dynamic, Map};

    use super::lifecycle::WaitOptions;
    use super::space::Pruned;
    use super::{Action, Docker, LogOptions, StatsOptions, containers, run_action, run_exec};
    use crate::host::{Access, Call, RhaiResultOf};
    use crate::model::Effect;
    use crate::words::count;

    /// The containers of the system's compose project, in every state, as far as the permissions let them be listed.
    ///
    /// Without a project in the system, or with `project: "*"`, all containers of the engine. A container the
    /// permissions do not cover is left out; without any grant for `docker` it is an error.
    ///
    /// ```rhai,lab
    /// docker::containers().some(|container| container.service == "postgres" && container.state == "running")
    /// ```
    ///
    /// Options: `all` (exited ones too; true when absent), `project` (another compose project, or `*`). Returns a
    /// list of `name`, `service`, `project`, `number` (of the replica), `one_off` (made by `compose run`), `image`,
    /// `image_id`, `state` (`running exited paused restarting created dead removing`), `health`
    /// (`healthy unhealthy starting`, `none` without a health check), `exit_code` (nothing while it runs),
    /// `restarts` (by the engine, since the last start by hand), `started`, `finished` (RFC 3339 or nothing),
    /// `oom_killed`, and `ports` (`port`, `protocol`, `host_ip`, `host_port`).
    #[rhai_fn(name = "containers", return_raw, volatile)]
    pub fn containers_with(native: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "docker::containers")?;
        let docker = Docker::of(call.ctx());
        docker.permit_any("list", "*").map_err(|error| call.fail(error))?;
        let options: containers::ListOptions = call.options(options)?;
        let found = call.wait(docker.containers(options))?;
        call.value(&found)
    }

    /// The containers of the system's compose project, in every state.
    #[rhai_fn(return_raw, volatile)]
    pub fn containers(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        containers_with(native, Map::new())
    }

    /// Everything about one container that is no secret.
    ///
    /// Of its environment only the names are shown, and of its command nothing: that is where passwords are.
    ///
    /// ```rhai,lab
    /// let postgres = docker::inspect("postgres");
    /// postgres.state == "running" && postgres.health == "healthy" && "com.docker.compose.project" in postgres.labels
    /// ```
    ///
    /// Returns what `docker::containers` returns for it, and `id`, `created`, `pid`, `error`, `labels`, `env_names`,
    /// `user`, `restart_policy`, `memory_limit` (bytes, 0 without one), `privileged`, `read_only`, `log_driver`, `mounts`
    /// (`kind`, `source`, `target`, `writable`), `networks` (name to address), `health_failures` (in a row),
    /// `health_output` (of the last health check). A service with several containers is a `conflict` that names them.
    #[rhai_fn(return_raw, volatile)]
    pub fn inspect(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "docker::inspect")?;
        let details = call.wait(Docker::of(call.ctx()).inspect(name))?;
        call.value(&details)
    }

    /// The output of a container, both streams, each line with its time; of a service, of all its containers by time.
    ///
    /// ```rhai,lab
    /// docker::logs("nginx", #{ tail: 10 }).all(|line| line.stream in ["stdout", "stderr"])
    /// ```
    ///
    /// Options: `since` and `until` (a time, or a duration like `15m` that means that long ago), `tail` (the newest
    /// lines of each container, 1000 when absent), `stdout` and `stderr` (true when absent), `max_bytes` (1 MiB of text
    /// for each container when absent). Lines longer than 16 KiB are put together again, but for containers with a
    /// terminal, whose parts can not be told from lines. Returns a list of `container`, `time` (nothing when the line has none),
    /// `stream`, `text`. When the oldest lines did not fit, the first entry has the stream `cut` and says how many.
    #[rhai_fn(name = "logs", return_raw, volatile)]
    pub fn logs_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "docker::logs")?;
        let docker = Docker::of(call.ctx());
        docker.permit_any("logs", name).map_err(|error| call.fail(error))?;
        let options: LogOptions = call.options(options)?;
        let lines = call.wait(async { docker.logs(&docker.resolve("logs", name).await?, &options).await })?;
        call.value(&lines)
    }

    /// The newest 1000 lines of the output of a container.
    #[rhai_fn(return_raw, volatile)]
    pub fn logs(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        logs_with(native, name, Map::new())
    }

    /// What a container uses: processors over an interval, memory, network, disks, processes.
    ///
    /// ```rhai,lab
    /// let redis = docker::stats("redis");
    /// redis.memory > 0 && redis.memory_percent <= 100.0 && redis.cpu >= 0.0
    /// ```
    ///
    /// Options: `over` (between the two looks a share needs, 1 s when absent). Returns `name`, `cpu` (percent of one
    /// core, as `docker stats`; nothing when it was restarted between the looks), `cpus`, `memory` (bytes, less what is
    /// only cached), `memory_limit`, `memory_percent`, `received`, `sent`, `read_bytes`, `written_bytes` (since it
    /// started), `pids`. A container that does not run is a `conflict`. Most engines look once a second, so that it takes
    /// up to two seconds also with a shorter `over`.
    #[rhai_fn(name = "stats", return_raw, volatile)]
    pub fn stats_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "docker::stats")?;
        let docker = Docker::of(call.ctx());
        docker.permit_any("stats", name).map_err(|error| call.fail(error))?;
        let options: StatsOptions = call.options(options)?;
        let stats = call.wait(async { docker.stats(&docker.resolve_one("stats", name).await?, &options).await })?;
        call.value(&stats)
    }

    /// What a container uses, over one second.
    #[rhai_fn(return_raw, volatile)]
    pub fn stats(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        stats_with(native, name, Map::new())
    }

    /// Runs a command in a container: a list of arguments, no shell, no terminal.
    ///
    /// Arguments that begin with `-` must stand in the script, as for `exec::run`.
    ///
    /// Always an effect, since nobody can know what a command does; in a plan it is told, and its `exit_code` is
    /// nothing. In a service with several containers it runs in the first that runs. An exit code other than 0 is no
    /// error here: look at it.
    ///
    /// ```rhai,lab
    /// docker::exec("postgres", ["pg_isready", "-q"]).exit_code == 0
    /// ```
    ///
    /// Options: `user`, `env` (a map; a secret is refused, since variables
    /// can be looked at), `workdir`, `stdin` (a text or a secret), `timeout` (60 s when
    /// absent), `max_bytes` (of each stream, 1 MiB when absent; the rest is read and dropped), `encoding` (`text`, or
    /// `base64` for bytes: `stdin` is then base64 too). Returns `exit_code`, `stdout`, `stderr`, `truncated`.
    ///
    /// The docker engine can not end a command. One that takes too long is killed by its process when the engine is on
    /// this machine and the user may do that; the `timeout` error says which of both it was.
    #[rhai_fn(name = "exec", return_raw, volatile)]
    pub fn exec_with(native: NativeCallContext, name: &str, argv: Array, options: Map) -> RhaiResultOf<Dynamic> {
        run_exec(&Call::new(&native, "docker::exec")?, name, &argv, options)
    }

    /// Runs a command in a container, for at most 60 s.
    #[rhai_fn(return_raw, volatile)]
    pub fn exec(native: NativeCallContext, name: &str, argv: Array) -> RhaiResultOf<Dynamic> {
        exec_with(native, name, argv, Map::new())
    }

    /// Restarts a container, or each container of a service in turn.
    ///
    /// ```rhai,lab
    /// step("restart", || docker::restart("frontend", #{ timeout: "5s" })).len() == 1
    /// ```
    ///
    /// Options: `timeout` (how long it may take to stop before it is killed, 10 s when absent). Returns the full names.
    /// It does not wait until they are well: `docker::wait_healthy` does.
    #[rhai_fn(name = "restart", return_raw, volatile)]
    pub fn restart_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        run_action(&Call::new(&native, "docker::restart")?, "docker::restart", Action::Restart, name, options)
    }

    /// Restarts a container, or each container of a service in turn.
    #[rhai_fn(return_raw, volatile)]
    pub fn restart(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        restart_with(native, name, Map::new())
    }

    /// Starts a container, or each container of a service in turn; one that runs already stays as it is.
    ///
    /// ```rhai,lab
    /// step("start", || docker::start("frontend")).len() == 1
    /// ```
    ///
    /// Returns the full names. A container that was never made can not be started here.
    #[rhai_fn(return_raw, volatile)]
    pub fn start(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        run_action(&Call::new(&native, "docker::start")?, "docker::start", Action::Start, name, Map::new())
    }

    /// Stops a container, or each container of a service in turn; one that is stopped stays as it is.
    ///
    /// ```rhai,lab
    /// step("stop", || docker::stop("frontend"));
    /// step("start", || docker::start("frontend"));
    /// docker::wait_healthy("frontend").state == "running"
    /// ```
    ///
    /// Options: `timeout` (how long it may take before it is killed, 10 s when absent). Returns the full names.
    #[rhai_fn(name = "stop", return_raw, volatile)]
    pub fn stop_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        run_action(&Call::new(&native, "docker::stop")?, "docker::stop", Action::Stop, name, options)
    }

    /// Stops a container, or each container of a service in turn.
    #[rhai_fn(return_raw, volatile)]
    pub fn stop(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        stop_with(native, name, Map::new())
    }

    /// Waits until a container, or every container of a service, runs and is healthy.
    ///
    /// One without a health check is well when it runs; `health` is `none` then, so that nobody takes it for checked.
    ///
    /// ```rhai,lab
    /// docker::wait_healthy("backend", #{ timeout: "90s" }).health == "healthy"
    /// ```
    ///
    /// Options: `timeout` (60 s when absent), `interval` (1 s when absent). Returns `containers`, `state`, `health`,
    /// `waited_ms`. When the time is over it is a `timeout` that says what state each was last in.
    #[rhai_fn(name = "wait_healthy", return_raw, volatile)]
    pub fn wait_healthy_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "docker::wait_healthy")?;
        let docker = Docker::of(call.ctx());
        docker.permit_any("inspect", name).map_err(|error| call.fail(error))?;
        let options: WaitOptions = call.options(options)?;
        let well = call.wait(docker.wait_healthy(name, options))?;
        call.value(&well)
    }

    /// Waits up to 60 s until a container, or every container of a service, runs and is healthy.
    #[rhai_fn(return_raw, volatile)]
    pub fn wait_healthy(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        wait_healthy_with(native, name, Map::new())
    }

    /// The images of the engine, with the containers made of each.
    ///
    /// ```rhai,lab
    /// docker::images().some(|image| image.used_by.len() > 0)
    /// ```
    ///
    /// Returns a list of `id`, `tags`, `digests`, `size` (bytes, layers shared with others included), `created`,
    /// `used_by` (containers in any state).
    #[rhai_fn(return_raw, volatile)]
    pub fn images(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "docker::images")?;
        let images = call.wait(Docker::of(call.ctx()).images())?;
        call.value(&images)
    }

    /// The space the engine uses, as `docker system df` counts; may take a while, for it walks all volumes.
    ///
    /// ```rhai,lab
    /// let disk = docker::disk();
    /// disk.images.size > 0 && disk.reclaimable <= disk.size
    /// ```
    ///
    /// Returns `images`, `containers`, `volumes`, `build_cache`, each with `count`, `active`, `size`, `reclaimable`
    /// (bytes), and the sums `size` and `reclaimable`.
    #[rhai_fn(return_raw, volatile)]
    pub fn disk(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "docker::disk")?;
        let space = call.wait(Docker::of(call.ctx()).disk())?;
        call.value(&space)
    }

    /// Removes what is left over of builds: images without a name that no container is made of, and build cache that
    /// nothing uses. Never a volume, a container, or an image with a name.
    ///
    /// ```rhai,lab
    /// step("prune", || docker::prune()).bytes >= 0
    /// ```
    ///
    /// Returns `images`, `cache` (how many went) and `bytes`, as the engine counts its space before and after. Without
    /// anything to remove it does nothing.
    #[rhai_fn(return_raw, volatile)]
    pub fn prune(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "docker::prune")?;
        call.permit(&Access::word("docker", "prune", "*"))?;
        let docker = Docker::of(call.ctx());
        let planned = call.wait(docker.prunable())?;
        if planned == Pruned::default() {
            return call.value(&planned);
        }
        let summary =
            format!("remove {} without a name and {} of build cache", count(planned.images, "image"), count(planned.cache, "entry"));
        let done = call.effect(Effect::new("docker::prune", "dangling", summary), planned, docker.prune())?;
        call.value(&done)
    }

    /// What the engine says of itself.
    ///
    /// ```rhai,lab
    /// docker::info().version != ""
    /// ```
    ///
    /// Returns `id`, `name`, `version`, `api_version` (spoken with it), `storage`, `root`, `os`, `kernel`, `cpus`, `memory`
    /// (bytes), `containers`, `running`, `paused`, `stopped`, `images`, `log_driver`, `live_restore`, `warnings`. Needs
    /// any grant that lets a container be listed.
    #[rhai_fn(return_raw, volatile)]
    pub fn info(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "docker::info")?;
        let info = call.wait(Docker::of(call.ctx()).info())?;
        call.value(&info)
    }

    /// The identity of the engine, for telling one from another.
    ///
    /// ```rhai,lab
    /// docker::engine_id() == docker::info().id
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn engine_id(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "docker::engine_id")?;
        let id = call.wait(Docker::of(call.ctx()).id())?;
        call.value(&id)
    }
}

/// The identity of the engine, for plans.
pub(super) async fn identity(ctx: &crate::host::Ctx) -> Result<String, Error> {
    Docker::of(ctx).id().await
}

fn run_action(call: &Call<'_>, function: &'static str, action: Action, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
    let docker = Docker::of(call.ctx());
    docker.permit_any(action.verb(), name).map_err(|error| call.fail(error))?;
    let options: StopOptions = call.options(options)?;
    let found = call.wait(docker.resolve(action.verb(), name))?;
    let effect = action.effect(function, name, &found);
    let planned = names(&found);
    let done = call.effect(effect, planned, docker.act(action, found, options))?;
    call.value(&done)
}

fn run_exec(call: &Call<'_>, name: &str, argv: &Array, options: Map) -> RhaiResultOf<Dynamic> {
    let docker = Docker::of(call.ctx());
    docker.permit_any("exec", name).map_err(|error| call.fail(error))?;
    let options: exec::ExecOptions = call.options(options)?;
    let argv = words(call, argv).map_err(|error| call.fail(error))?;
    let env: Result<Vec<String>, Error> = options.env.iter().map(|(name, value)| variable(call, name, value)).collect();
    let env = env.map_err(|error| call.fail(error))?;
    let found = call.wait(docker.resolve("exec", name))?;
    let container = exec::first_running(name, &found).map_err(|error| call.fail(error))?;
    let aliases = container.aliases(call.ctx().system());
    let sink = [Access::named("docker", "exec", &container.name, &aliases)];
    let stdin = options.stdin.as_ref().map(|text| call.open(text, &sink)).transpose()?;
    let command = exec::Command::new(argv, &options, env, stdin).map_err(|error| call.fail(error))?;
    let effect = Effect::new("docker::exec", &container.name, format!("run `{}` in container `{}`", command.in_words(), container.name));
    let output = call.effect(effect, exec::Output::default(), docker.exec(container, command))?;
    call.answer(&output)
}

/// The words of a command: its program, and arguments that data can not make options of.
fn words(call: &Call<'_>, argv: &Array) -> Result<Vec<String>, Error> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(Vec::new()) };
    let program = match program.as_immutable_string_ref() {
        Ok(program) => program.to_string(),
        Err(found) => return Err(Error::new(Kind::Invalid, format!("the program is {}, not a text", type_in_words(found)))),
    };
    let arguments = argument::arguments(call.ctx(), &program, arguments)?;
    Ok(std::iter::once(program).chain(arguments).collect())
}

/// A variable of a command. A secret is refused: it would stand in `/proc` for whoever may look there.
fn variable(call: &Call<'_>, name: &str, value: &SecretText) -> Result<String, Error> {
    match value {
        SecretText::Plain(text) if argument::secret_in(call.ctx(), text).is_none() => Ok(format!("{name}={text}")),
        _ => Err(Error::new(Kind::Invalid, format!("option `env`: `{name}` is a secret, and variables of a program can be looked at"))
            .hint("give it by `stdin`")),
    }
}
