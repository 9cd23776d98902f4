//! `logs::`: what logs say, within a time, over all rotated parts.
//!
//! A log is named as in the system file (`[logs.NAME]`), or by the absolute path of its current file.
//! Files are read in blocks on two to four threads in less than 64 MB of memory, whatever their size;
//! of a file in order, only what can be in the window is read. How services keep their output is not
//! known here: [`output`] gets those lines from the modules that do.

mod fold;
mod format;
mod log;
mod output;
mod parts;
mod quick;
mod record;
mod report;
mod request;
mod scan;
mod search;
mod stamp;
mod tally;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;
use rhai::plugin::*;

use crate::error::{Error, Kind, Result};
use crate::host::{Access, Call, Ctx, Function, HostModule, RhaiResultOf};
use crate::model::Span;
use crate::words;

/// The module `logs`.
pub const MODULE: HostModule = HostModule {
    name: "logs",
    summary: "what logs say: reports, errors, requests, slow statements, within a time and over rotated parts",
    build: || exported_module!(api),
    functions: &[
        reads("report").options::<report::ReportOptions>(),
        reads("errors").options::<search::ErrorOptions>(),
        reads("grep").options::<search::GrepOptions>(),
        reads("count").options::<search::CountOptions>(),
        reads("tail"),
        reads("slow").options::<search::SlowOptions>(),
    ],
};

/// A function that reads a log: a file, or what a service writes.
const fn reads(name: &'static str) -> Function {
    Function::read(name).needs("fs", "read", 0).needs("docker", "logs", 0).needs("systemd", "logs", 0).one_is_enough()
}

#[export_module]
mod api {
    use rhai::{Dynamic, Map};

    use super::log::Window;
    use super::{read, report as reports, resolve, resolve_last, search};
    use crate::host::{Call, RhaiResultOf};

    /// Everything a log says, in one pass over its current file and all rotated parts.
    ///
    /// The log is a name of `[logs]` in the system file, or the absolute path of the current file, whose
    /// name may have `*`. A log that is the output of a service is read from what manages it (at most 64 MiB, with the
    /// permission `docker: ["logs:…"]` or `systemd: ["logs:…"]`); its lines have the time they came when they say none.
    ///
    /// ```rhai,lab
    /// let report = logs::report("backend-container", #{ window: "1h" });
    /// report.parts.len() == 1 && report.problem != "missing"
    /// ```
    ///
    /// Of files the parts (`.1`, `.2.gz`, `-20261120`, `-2026-11-20.log.gz`) are found by
    /// themselves; each needs the permission `fs: #{ read: […] }`, as in `/var/log/app.log*`.
    ///
    /// ```rhai
    /// let report = logs::report("/var/log/no-such-program.log", #{ window: "1h" });
    /// report.problem == "missing" && report.errors == 0
    /// ```
    ///
    /// Options:
    /// `window` (duration: the time up to now, or up to `before`), `since`, `before` (times, in the zone of the log
    /// when they have none; everything when absent), `format` (`app`, `nginx`, `nginx-error`, `syslog`, `postgres`,
    /// `security`, `json`; of the system file, else guessed), `timezone` (of stamps without a zone; of the system
    /// file, else this machine's), `top` (20; how long the lists are), `ignore` (expressions; lines that match
    /// count as `ignored` and nothing else), `min_requests` (0; endpoints with fewer are not listed), `newest` (0, at most
    /// 1 000; how many of the newest errors to tell), `slow` (a duration; tells the statements of a PostgreSQL log that took
    /// at least this long).
    ///
    /// Returns
    /// `problem`: nothing, or `missing`, `unreadable`, `empty` (no line at all), `format` (no line could be read so),
    /// `future` (lines are stamped later than now: a wrong zone), with the reason in `detail`;
    /// `format`; `lines` (that were read: lines before the window mostly are not), `in_window`, `malformed`, `ignored`,
    /// `cut` (longer than 64 KiB), `future`; `first`, `last` (RFC 3339, in the window);
    /// `levels` (`#{ERROR: 3, …}`), `errors` (level ERROR and worse),
    /// `errors_by_type` (list of `type`, `count`, `sample`; the type is the class of the exception, also from the
    /// traceback below, else the message with numbers, identifiers and quoted parts folded);
    /// `requests`, `status` (`#{"2xx": 10, …}`), `statuses` (`#{"200": 9, …}`), `error_rate` (percent with status 400
    /// and above), `endpoints` (list of `method`, `path` without query and with identifiers as `:id`, `count`, `errors`,
    /// `error_rate`, `p50`, `p95`, `p99`), `latency` (`count`, `mean`, `p50`, `p95`, `p99`, `max`), all in milliseconds
    /// and percentiles within 1 %, nothing where the log has no times;
    /// `clients` (list of `address`, `count`), `clients_total`, `login_failures` (list of `address`, `count`);
    /// `newest` (the lines of `errors`, newest first, as `errors` gives them), `slow` (as `slow` gives them, `top` at most);
    /// `parts` (list of `path`, `bytes`, `compressed`, `lines`, `problem`).
    ///
    /// Memory is bounded: beyond 512 endpoints, 32 768 addresses or 2 048 error types the rarer half is folded into
    /// `(other)` at the end of the list, from where counts are lower bounds. A log that is missing or
    /// empty is a finding here, never an error.
    #[rhai_fn(name = "report", return_raw, volatile)]
    pub fn report_with(native: NativeCallContext, log: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "logs::report")?;
        let options: reports::ReportOptions = call.options(options)?;
        let (log, window) = resolve(&call, log, &options.asked())?;
        let report = read(&call, move |permit, halt| reports::report(&log, window, &options, permit, halt))?;
        call.value(&report)
    }

    /// Everything a log says, without a limit of time.
    #[rhai_fn(return_raw, volatile)]
    pub fn report(native: NativeCallContext, log: &str) -> RhaiResultOf<Dynamic> {
        report_with(native, log, Map::new())
    }

    /// The newest error lines of a log, newest first.
    ///
    /// Error lines are those of level ERROR and worse, in an access log requests with status 400 and above, or the
    /// lines that match `pattern`.
    ///
    /// ```rhai
    /// logs::errors("/etc/passwd", #{ pattern: "^root:", limit: 5 }).len() == 1
    /// ```
    ///
    /// Options: `window`, `since`, `before`, `format`, `timezone` as in `report`, `limit` (50, at most 1 000), `pattern` (an
    /// expression). Returns a list of `time` (RFC 3339; nothing when the line has none), `level`, `line` (cut at 4 KiB),
    /// `path`, `before`, `after` (empty). Fails with `not_found` when there is no such log, unless it is optional, and with
    /// `refused` when a part can not be read.
    #[rhai_fn(name = "errors", return_raw, volatile)]
    pub fn errors_with(native: NativeCallContext, log: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "logs::errors")?;
        let options: search::ErrorOptions = call.options(options)?;
        let (log, window) = resolve(&call, log, &options.asked())?;
        let found = read(&call, move |permit, halt| search::errors(&log, window, &options, permit, halt))?;
        call.value(&found)
    }

    /// The newest error lines of a log, without a limit of time.
    #[rhai_fn(return_raw, volatile)]
    pub fn errors(native: NativeCallContext, log: &str) -> RhaiResultOf<Dynamic> {
        errors_with(native, log, Map::new())
    }

    /// The newest lines of a log that match an expression, in the order of the log.
    ///
    /// Lines of a stack trace have the time of the record they follow.
    ///
    /// ```rhai
    /// let found = logs::grep("/etc/passwd", "^root:", #{ limit: 1, context: 1 });
    /// found.len() == 1 && found[0].line.starts_with("root:")
    /// ```
    ///
    /// Options: `window`, `since`, `before`, `format`, `timezone` as in `report`, `limit` (50, at most 1 000), `context` (0, at most
    /// 20; lines of the same part before and after). Returns a list of `time`, `level`, `line`, `path`, `before`, `after`. Fails as
    /// `errors` does, and with `invalid` for an expression that is none or too large.
    #[rhai_fn(name = "grep", return_raw, volatile)]
    pub fn grep_with(native: NativeCallContext, log: &str, pattern: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "logs::grep")?;
        let options: search::GrepOptions = call.options(options)?;
        let (log, window) = resolve(&call, log, &options.asked())?;
        let pattern = pattern.to_owned();
        let found = read(&call, move |permit, halt| search::grep(&log, window, &pattern, &options, permit, halt))?;
        call.value(&found)
    }

    /// The newest lines of a log that match an expression, without a limit of time.
    #[rhai_fn(return_raw, volatile)]
    pub fn grep(native: NativeCallContext, log: &str, pattern: &str) -> RhaiResultOf<Dynamic> {
        grep_with(native, log, pattern, Map::new())
    }

    /// How many lines of a log match an expression.
    ///
    /// ```rhai
    /// logs::count("/etc/passwd", "^root:") == 1
    /// ```
    ///
    /// Options: `window`, `since`, `before`, `format`, `timezone` as in `report`. Returns a whole number. Fails as `grep` does.
    #[rhai_fn(name = "count", return_raw, volatile)]
    pub fn count_with(native: NativeCallContext, log: &str, pattern: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "logs::count")?;
        let options: search::CountOptions = call.options(options)?;
        let (log, window) = resolve(&call, log, &options.asked())?;
        let pattern = pattern.to_owned();
        let count = read(&call, move |permit, halt| search::count(&log, window, &pattern, permit, halt))?;
        call.value(&count)
    }

    /// How many lines of a log match an expression, without a limit of time.
    #[rhai_fn(return_raw, volatile)]
    pub fn count(native: NativeCallContext, log: &str, pattern: &str) -> RhaiResultOf<Dynamic> {
        count_with(native, log, pattern, Map::new())
    }

    /// The last lines of a log, oldest first; rotated parts make up for a current file that has too few.
    ///
    /// ```rhai
    /// logs::tail("/etc/passwd", 1).len() == 1
    /// ```
    ///
    /// Returns a list of texts, at most 10 000, each cut at 4 KiB. Fails as `errors` does.
    #[rhai_fn(return_raw, volatile)]
    pub fn tail(native: NativeCallContext, log: &str, count: i64) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "logs::tail")?;
        let count = usize::try_from(count).unwrap_or(0).min(search::MOST_TAIL);
        let (log, window) = resolve_last(&call, log, count)?;
        let lines =
            read(&call, move |permit, halt| search::tail(&log, Window { since: None, until: None, ..window }, count, permit, halt))?;
        call.value(&lines)
    }

    /// The slow statements of a PostgreSQL log, by what they have in common, the most time first.
    ///
    /// PostgreSQL logs them when `log_min_duration_statement` is set. Statements that differ in literals only are one.
    ///
    /// ```rhai
    /// logs::slow("/etc/passwd", #{ min: "1s" }) == []
    /// ```
    ///
    /// Options: `window`, `since`, `before`, `timezone` as in `report`, `min` (a duration; all that were logged when absent), `limit`
    /// (50). Returns a list of `statement` (literals as `?`), `count`, `total`, `mean`, `max` (milliseconds), `last` (RFC 3339).
    /// Fails as `errors` does.
    #[rhai_fn(name = "slow", return_raw, volatile)]
    pub fn slow_with(native: NativeCallContext, log: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "logs::slow")?;
        let options: search::SlowOptions = call.options(options)?;
        let (log, window) = resolve(&call, log, &options.asked())?;
        let found = read(&call, move |permit, halt| search::slow(&log, window, &options, permit, halt))?;
        call.value(&found)
    }

    /// The slow statements of a PostgreSQL log, without a limit of time.
    #[rhai_fn(return_raw, volatile)]
    pub fn slow(native: NativeCallContext, log: &str) -> RhaiResultOf<Dynamic> {
        slow_with(native, log, Map::new())
    }
}

/// The log and the window a call means.
fn resolve(call: &Call<'_>, name: &str, asked: &log::Asked) -> RhaiResultOf<(log::Log, log::Window)> {
    let find = || {
        let mut log = named(call.ctx(), name)?;
        log.format = asked.format.or(log.format);
        if let Some(zone) = &asked.timezone {
            log.zone = zone_named("option `timezone`", zone)?;
        }
        let window = log::Window::read(asked, &log.zone, call.ctx().now())?;
        Ok((log, window))
    };
    let (mut log, window) = find().map_err(|error| call.fail(error))?;
    if let Some(service) = service_of(call.ctx(), name) {
        log.source = call.wait(written(call.ctx(), name, service, &log, window))?;
    }
    Ok((log, window))
}

/// What a service wrote in a time, as its program would have written it to a file.
async fn written(ctx: &Ctx, name: &str, service: &str, log: &log::Log, window: log::Window) -> Result<log::Source> {
    let (known, now) = (log::Log { source: log::Source::Lines(Vec::new()), ..log.clone() }, ctx.now());
    let output = output::read(ctx, name, service, output::Extent::Window(window)).await?;
    let lines = tokio::task::spawn_blocking(move || output::lines(&output, &known, now)).await;
    lines.map(log::Source::Lines).map_err(|error| Error::because(Kind::Bug, "the reading of an output ended", &error))
}

/// How many lines of a log of the system match an expression, within a time up to now.
///
/// # Errors
///
/// As `logs::count`, and `not_found` for a log that may be absent and is: it says nothing then.
pub(super) async fn matches(ctx: &Ctx, name: &str, pattern: &str, within: Span) -> Result<u64> {
    let now = ctx.now();
    let window = log::Window { since: Some(within.before(now)), until: None, now };
    let mut log = log::Log { optional: false, ..named(ctx, name)? };
    if let Some(service) = service_of(ctx, name) {
        log.source = written(ctx, name, service, &log, window).await?;
    }
    let pattern = pattern.to_owned();
    reading(ctx, move |permit, halt| search::count(&log, window, &pattern, permit, halt)).await
}

/// The log a call means, of the output of a service the last lines only.
fn resolve_last(call: &Call<'_>, name: &str, count: usize) -> RhaiResultOf<(log::Log, log::Window)> {
    let Some(service) = service_of(call.ctx(), name) else { return resolve(call, name, &log::Asked::default()) };
    let log = named(call.ctx(), name).map_err(|error| call.fail(error))?;
    let output = call.wait(output::read(call.ctx(), name, service, output::Extent::Last(count)))?;
    let window = log::Window { since: None, until: None, now: call.ctx().now() };
    Ok((log::Log { source: log::Source::Lines(output::without_stamps(&output)), ..log }, window))
}

/// The service whose output a log is.
fn service_of<'c>(ctx: &'c Ctx, name: &str) -> Option<&'c str> {
    let log = ctx.system().logs.get(name).filter(|log| log.path.is_none())?;
    log.service.as_deref()
}

/// The log of this path, or of this name in the system file.
fn named(ctx: &Ctx, name: &str) -> Result<log::Log> {
    let system = ctx.system();
    let zone_of = |name: &str| if name.is_empty() { Ok(TimeZone::system()) } else { zone_named("`timezone`", name) };
    if name.contains('/') {
        let source = log::Source::Files(PathBuf::from(name));
        return Ok(log::Log { name: name.to_owned(), source, format: None, zone: zone_of(&system.timezone)?, optional: false });
    }
    let Some(found) = system.logs.get(name) else {
        let known: Vec<String> = system.logs.keys().cloned().collect();
        let hint = match words::nearest(name, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its logs are {}; a path begins with `/`", words::list(&known)),
        };
        return Err(Error::new(Kind::NotFound, format!("the system has no log `{name}`")).target(name).hint(hint));
    };
    // The output of a service is read later, by the manager of the services.
    let (title, source) = match (&found.path, &found.service) {
        (Some(path), _) => (path, log::Source::Files(PathBuf::from(path))),
        (None, Some(service)) => (service, log::Source::Lines(Vec::new())),
        (None, None) => {
            return Err(Error::new(Kind::Config, format!("log `{name}` has neither a `path` nor a `service`"))
                .target(name)
                .hint("give it one in the system file"));
        }
    };
    let format = match found.format.as_str() {
        "" => None,
        format => Some(format_named(name, format)?),
    };
    Ok(log::Log {
        name: title.clone(),
        source,
        format,
        // Containers run in UTC unless someone changed it; files are written in the system's zone.
        zone: zone_of(found.timezone.as_deref().unwrap_or(if found.path.is_none() { "UTC" } else { &system.timezone }))?,
        optional: found.optional,
    })
}

fn format_named(log: &str, name: &str) -> Result<format::Format> {
    format::Format::named(name).ok_or_else(|| {
        let known = format::Format::ALL.map(|format| format.name().to_owned());
        Error::new(Kind::Config, format!("log `{log}`: unknown format `{name}`")).hint(format!("the formats are {}", words::list(&known)))
    })
}

fn zone_named(place: &str, name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|_| {
        Error::new(Kind::Invalid, format!("{place}: `{name}` is not a time zone")).hint("write an IANA name, as `Asia/Shanghai` or `UTC`")
    })
}

/// Reads files away from the script's thread; ends within a block when the call does.
fn read<T: Send + 'static>(
    call: &Call<'_>,
    work: impl FnOnce(parts::Permit<'_>, &scan::Halt) -> Result<T> + Send + 'static,
) -> RhaiResultOf<T> {
    call.wait(reading(call.ctx(), work))
}

/// Reads files on a thread of their own; ends within a block when nobody waits any more.
async fn reading<T: Send + 'static>(
    ctx: &Ctx,
    work: impl FnOnce(parts::Permit<'_>, &scan::Halt) -> Result<T> + Send + 'static,
) -> Result<T> {
    struct HaltOnDrop(Arc<scan::Halt>);
    impl Drop for HaltOnDrop {
        fn drop(&mut self) {
            self.0.stop();
        }
    }
    let ctx = ctx.clone();
    let halt = HaltOnDrop(Arc::default());
    let seen = halt.0.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let permit = |path: &Path| ctx.permissions().check(&Access::path("read", path)).map(drop);
        work(&permit, &seen)
    });
    reading.await.map_err(|error| Error::because(Kind::Bug, "the reading of a log ended", &error))?
}
