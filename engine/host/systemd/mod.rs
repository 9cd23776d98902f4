//! `systemd::`: units of this machine and their journals, by `systemctl` and `journalctl`.
//!
//! Where systemd does not run the machine, everything but `available` is a `conflict`: a check says
//! then that it was not made, and never that all is well.

mod command;
mod journal;
mod units;

use rhai::Map;
use rhai::plugin::*;

pub(in crate::host) use journal::{Entry, JournalOptions};
pub(in crate::host) use units::{ActOptions, Systemd, Unit, UnitName};

use crate::host::{Call, Function, HostModule, RhaiResultOf};

/// The module `systemd`.
pub const MODULE: HostModule = HostModule {
    name: "systemd",
    summary: "units of systemd: state, failed ones, journal, restart",
    build: || exported_module!(api),
    functions: &[
        Function::read("available").needs_fixed("systemd", "status", "*"),
        Function::read("unit").needs("systemd", "status", 0),
        Function::read("units").needs_fixed("systemd", "status", "*").options::<units::UnitsOptions>(),
        Function::read("failed").needs_fixed("systemd", "status", "*"),
        Function::read("journal").needs("systemd", "logs", 0).options::<JournalOptions>(),
        Function::effect("restart", "the unit and its state").needs("systemd", "restart", 0).options::<ActOptions>(),
        Function::effect("start", "the unit and its state").needs("systemd", "start", 0).options::<ActOptions>(),
        Function::effect("stop", "the unit and its state").needs("systemd", "stop", 0).options::<ActOptions>(),
    ],
};

#[export_module]
mod api {
    use rhai::{Dynamic, Map};

    use super::units::{self, UnitsOptions};
    use super::{JournalOptions, Systemd, UnitName, act};
    use crate::host::{Call, RhaiResultOf};

    /// Whether systemd runs this machine.
    ///
    /// Where it does not, every other function here is a `conflict` that names process 1.
    ///
    /// ```rhai
    /// type_of(systemd::available()) == "bool"
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn available(native: NativeCallContext) -> RhaiResultOf<bool> {
        let call = Call::new(&native, "systemd::available")?;
        Systemd::of(call.ctx()).permit_any("status").map_err(|error| call.fail(error))?;
        Ok(units::is_running())
    }

    /// The state of a unit; `nginx` is `nginx.service`.
    ///
    /// ```rhai
    /// !systemd::available() || systemd::unit("dbus").active == "active"
    /// ```
    ///
    /// Returns `name`, `description`, `loaded` (`loaded masked error bad-setting`), `active`
    /// (`active inactive failed activating deactivating reloading`), `sub`, `failed`, `since` (RFC 3339), `restarts` (by
    /// systemd), `main_pid`, `memory` (bytes), `tasks`, `result`, `enabled`; what systemd does not know is nothing. A unit that
    /// does not exist is `not_found`.
    #[rhai_fn(return_raw, volatile)]
    pub fn unit(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "systemd::unit")?;
        let systemd = Systemd::of(call.ctx());
        let name = UnitName::read(name).map_err(|error| call.fail(error))?;
        systemd.permit("status", &name).map_err(|error| call.fail(error))?;
        let unit = call.wait(systemd.unit(&name))?;
        call.value(&unit)
    }

    /// The units systemd has in memory, as far as the permissions cover their `status`.
    ///
    /// ```rhai
    /// !systemd::available() || systemd::units(#{ kind: "service" }).len() > 0
    /// ```
    ///
    /// Options: `state` (`failed`, `active`, `running`, …), `kind` (`service`, `timer`, …). Returns a list of `name`, `loaded`,
    /// `active`, `sub`, `description`.
    #[rhai_fn(name = "units", return_raw, volatile)]
    pub fn units_with(native: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "systemd::units")?;
        let systemd = Systemd::of(call.ctx());
        systemd.permit_any("status").map_err(|error| call.fail(error))?;
        let options: UnitsOptions = call.options(options)?;
        let units = call.wait(systemd.units(options))?;
        call.value(&units)
    }

    /// Every unit systemd has in memory.
    #[rhai_fn(return_raw, volatile)]
    pub fn units(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        units_with(native, Map::new())
    }

    /// The units that failed.
    ///
    /// ```rhai
    /// !systemd::available() || type_of(systemd::failed()) == "array"
    /// ```
    ///
    /// Returns a list as `systemd::units` does.
    #[rhai_fn(return_raw, volatile)]
    pub fn failed(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        let mut options = Map::new();
        options.insert("state".into(), "failed".into());
        units_with(native, options)
    }

    /// The newest entries of a unit's journal, the oldest first.
    ///
    /// ```rhai
    /// !systemd::available() || systemd::journal("dbus", #{ lines: 5, priority: "warning" }).len() <= 5
    /// ```
    ///
    /// Options: `since` and `until` (a time, or a duration like `15m` that means that long ago), `lines` (1000 when absent,
    /// 50 000 at most), `priority` (this bad or worse: `emerg alert crit err warning notice info debug`), `grep` (a Perl
    /// expression). Returns a list of `time`, `priority`, `text`, `program`, `pid`. A journal the user may not read is `refused`, not
    /// empty.
    #[rhai_fn(name = "journal", return_raw, volatile)]
    pub fn journal_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "systemd::journal")?;
        let systemd = Systemd::of(call.ctx());
        let name = UnitName::read(name).map_err(|error| call.fail(error))?;
        systemd.permit("logs", &name).map_err(|error| call.fail(error))?;
        let options: JournalOptions = call.options(options)?;
        let entries = call.wait(systemd.journal(&name, options))?;
        call.value(&entries)
    }

    /// The newest 1000 entries of a unit's journal.
    #[rhai_fn(return_raw, volatile)]
    pub fn journal(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        journal_with(native, name, Map::new())
    }

    /// Restarts a unit and waits until it is up.
    ///
    /// ```rhai
    /// systemd::available() || { let kind = ""; try { systemd::restart("nginx") } catch(error) { kind = error.kind } kind == "conflict" }
    /// ```
    ///
    /// Options: `timeout` (120 s when absent; systemd goes on by itself after it). Returns `name`, `active`, `sub`.
    #[rhai_fn(name = "restart", return_raw, volatile)]
    pub fn restart_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        act(&Call::new(&native, "systemd::restart")?, "systemd::restart", "restart", name, options)
    }

    /// Restarts a unit and waits until it is up.
    #[rhai_fn(return_raw, volatile)]
    pub fn restart(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        restart_with(native, name, Map::new())
    }

    /// Starts a unit and waits until it is up; one that is up stays as it is.
    ///
    /// ```rhai
    /// systemd::available() || { let kind = ""; try { systemd::start("nginx") } catch(error) { kind = error.kind } kind == "conflict" }
    /// ```
    ///
    /// Options: `timeout` (120 s when absent). Returns `name`, `active`, `sub`.
    #[rhai_fn(name = "start", return_raw, volatile)]
    pub fn start_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        act(&Call::new(&native, "systemd::start")?, "systemd::start", "start", name, options)
    }

    /// Starts a unit and waits until it is up.
    #[rhai_fn(return_raw, volatile)]
    pub fn start(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        start_with(native, name, Map::new())
    }

    /// Stops a unit and waits until it is down; one that is down stays as it is.
    ///
    /// ```rhai
    /// systemd::available() || { let kind = ""; try { systemd::stop("nginx") } catch(error) { kind = error.kind } kind == "conflict" }
    /// ```
    ///
    /// Options: `timeout` (120 s when absent). Returns `name`, `active`, `sub`.
    #[rhai_fn(name = "stop", return_raw, volatile)]
    pub fn stop_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        act(&Call::new(&native, "systemd::stop")?, "systemd::stop", "stop", name, options)
    }

    /// Stops a unit and waits until it is down.
    #[rhai_fn(return_raw, volatile)]
    pub fn stop(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        stop_with(native, name, Map::new())
    }
}

fn act(call: &Call<'_>, function: &'static str, verb: &str, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
    let systemd = Systemd::of(call.ctx());
    let name = UnitName::read(name).map_err(|error| call.fail(error))?;
    systemd.permit(verb, &name).map_err(|error| call.fail(error))?;
    let options: ActOptions = call.options(options)?;
    let unit = call.wait(systemd.unit(&name))?;
    let acted = call.effect(unit.effect(function, verb), unit.acted(), systemd.act(verb, &name, options))?;
    call.value(&acted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::error::Kind;
    use crate::host::testing::Bench;

    #[test]
    fn without_systemd_nothing_is_said_to_be_well() {
        let bench = Bench::new(json!({ "systemd": ["*", "restart:*", "logs:*"] }));
        let available = bench.eval("systemd::available()").unwrap().as_bool().unwrap();
        let expected = if available { Kind::NotFound } else { Kind::Conflict };
        for call in [r#"systemd::unit("no-such-unit-here")"#, r#"systemd::restart("no-such-unit-here")"#] {
            let error = bench.error(call);
            assert_eq!(error.kind, expected, "{error}");
        }
        assert_eq!(bench.eval("systemd::failed()").is_ok(), available);
        assert!(!bench.recorder.events().iter().any(|event| format!("{event:?}").contains("StepStarted")));
    }

    #[test]
    fn a_grant_for_a_unit_is_for_that_unit() {
        let bench = Bench::new(json!({ "systemd": ["restart:nginx"] }));
        for call in [
            r#"systemd::restart("nginx2")"#,
            r#"systemd::restart("nginx.socket")"#,
            r#"systemd::stop("nginx")"#,
            r#"systemd::journal("nginx")"#,
            r#"systemd::unit("ssh")"#,
        ] {
            assert_eq!(bench.error(call).kind, Kind::Denied, "{call}");
        }
        assert_eq!(bench.error(r#"systemd::restart("ngin*")"#).kind, Kind::Invalid);
        assert_ne!(bench.error(r#"systemd::restart("nginx.service")"#).kind, Kind::Denied);
        assert_eq!(Bench::new(json!({})).error("systemd::failed()").kind, Kind::Denied);
    }
}
