//! Units: their state, and starting and stopping them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::command::run;
use crate::error::{Error, Kind, Result};
use crate::host::{Access, Ctx};
use crate::model::{Effect, Span};

/// Which units to list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UnitsOptions {
    state: Option<String>,
    kind: Option<String>,
}

/// How long a unit may take.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::host) struct ActOptions {
    pub(in crate::host) timeout: Option<Span>,
}

const LOOK: Duration = Duration::from_secs(15);
const ACT: Span = Span::secs(120);
const PROPERTIES: &str = "Id,Description,LoadState,ActiveState,SubState,StateChangeTimestamp,NRestarts,MainPID,MemoryCurrent,TasksCurrent,CPUUsageNSec,Result,ExecMainStatus,UnitFileState";
/// Units end in one of these; a name without is that of a service.
const KINDS: [&str; 11] = ["service", "socket", "target", "timer", "mount", "path", "slice", "scope", "device", "swap", "automount"];

/// systemd, as one run sees it.
#[derive(Clone)]
pub(in crate::host) struct Systemd {
    pub(super) ctx: Ctx,
}

/// The name of a unit: nothing that `systemctl` could take for an option, a path or a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::host) struct UnitName {
    full: String,
    /// What else a grant may call it: without `.service`, and as the system file does.
    others: Vec<String>,
}

/// A unit and its state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::host) struct Unit {
    pub(in crate::host) name: String,
    description: String,
    pub(in crate::host) loaded: String,
    pub(in crate::host) active: String,
    pub(in crate::host) sub: String,
    pub(in crate::host) failed: bool,
    pub(in crate::host) since: Option<String>,
    pub(in crate::host) restarts: Option<u64>,
    pub(in crate::host) main_pid: Option<u64>,
    pub(in crate::host) memory: Option<u64>,
    pub(in crate::host) tasks: Option<u64>,
    #[serde(skip)]
    pub(in crate::host) cpu_nanos: Option<u64>,
    result: String,
    #[serde(skip)]
    exit_code: Option<u64>,
    enabled: String,
}

/// A unit in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Listed {
    name: String,
    loaded: String,
    active: String,
    sub: String,
    description: String,
}

/// A unit after it was acted on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::host) struct Acted {
    name: String,
    active: String,
    sub: String,
}

impl UnitName {
    /// The unit of this name.
    ///
    /// # Errors
    ///
    /// `invalid`, for what is no name of one unit.
    pub(in crate::host) fn read(text: &str) -> Result<Self> {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, ':' | '_' | '.' | '\\' | '@' | '-');
        if text.is_empty() || text.len() > 255 || text.starts_with(['-', '.']) || !text.chars().all(is_plain) {
            return Err(Error::new(Kind::Invalid, format!("`{text}` is not the name of a unit"))
                .hint("letters, digits and `: _ . \\ @ -`, not beginning with `-`; no paths and no patterns"));
        }
        let kind = text.rsplit_once('.').map(|(_, kind)| kind).filter(|kind| KINDS.contains(kind));
        let full = if kind.is_some() { text.to_owned() } else { format!("{text}.service") };
        let others = full.strip_suffix(".service").map(str::to_owned).into_iter().collect();
        Ok(Self { full, others })
    }

    /// Says that the system file calls it by this name.
    #[must_use]
    pub(in crate::host) fn known_as(mut self, service: &str) -> Self {
        self.others.push(service.to_owned());
        self
    }

    /// Its full name.
    pub(in crate::host) fn full(&self) -> &str {
        &self.full
    }
}

impl Systemd {
    /// The systemd of this machine.
    pub(in crate::host) fn of(ctx: &Ctx) -> Self {
        Self { ctx: ctx.clone() }
    }

    /// Whether the run may do this to this unit.
    pub(in crate::host) fn permit(&self, verb: &str, name: &UnitName) -> Result<()> {
        self.ctx.permissions().check(&Access::named("systemd", verb, &name.full, &name.others)).map(drop)
    }

    /// Refuses a verb that no grant could cover.
    pub(super) fn permit_any(&self, verb: &str) -> Result<()> {
        if self.ctx.permissions().could("systemd", verb) {
            return Ok(());
        }
        self.ctx.permissions().check(&Access::word("systemd", verb, "*")).map(drop)
    }

    /// The state of a unit.
    pub(in crate::host) async fn unit(&self, name: &UnitName) -> Result<Unit> {
        require()?;
        let arguments = ["show", "--timestamp=unix", "-p", PROPERTIES, "--", &name.full].map(str::to_owned);
        let said = run("systemctl", &arguments, LOOK).await?;
        if !said.ok {
            return Err(refusal(&said.stderr, name));
        }
        let unit = unit_of(&said.stdout);
        if unit.loaded != "not-found" {
            return Ok(unit);
        }
        let known: Vec<String> = self.listed(&["--all"]).await.unwrap_or_default().into_iter().map(|unit| unit.name).collect();
        let error = Error::new(Kind::NotFound, format!("there is no unit `{}`", name.full)).target(&name.full);
        Err(error.suggest_or(&name.full, &known, || "`systemctl list-unit-files` shows which there are"))
    }

    /// The units in memory that the run may see.
    pub(super) async fn units(&self, options: UnitsOptions) -> Result<Vec<Listed>> {
        require()?;
        let mut arguments = vec!["--all".to_owned()];
        for (option, word) in [("--state", &options.state), ("--type", &options.kind)] {
            let Some(word) = word else { continue };
            if word.is_empty() || !word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-') {
                return Err(Error::new(Kind::Invalid, format!("`{word}` is not a word systemd has for units"))
                    .hint("states are `failed`, `active`, `running`, …; kinds are `service`, `timer`, …"));
            }
            arguments.push(format!("{option}={word}"));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let visible = |unit: &Listed| UnitName::read(&unit.name).is_ok_and(|name| self.permit("status", &name).is_ok());
        Ok(self.listed(&arguments).await?.into_iter().filter(visible).collect())
    }

    async fn listed(&self, arguments: &[&str]) -> Result<Vec<Listed>> {
        let fixed = ["list-units", "--plain", "--no-legend", "--no-pager", "--full"];
        let arguments: Vec<String> = fixed.iter().chain(arguments).map(|&text| text.to_owned()).collect();
        let said = run("systemctl", &arguments, LOOK).await?;
        if !said.ok {
            return Err(Error::new(Kind::Remote, format!("`systemctl list-units`: {}", said.stderr.trim())));
        }
        Ok(said.stdout.lines().filter_map(listed).collect())
    }

    /// Restarts, starts or stops a unit, and waits until that is done.
    pub(in crate::host) async fn act(&self, verb: &str, name: &UnitName, options: ActOptions) -> Result<Acted> {
        let limit = options.timeout.unwrap_or(ACT);
        let arguments = [verb, "--no-ask-password", "--", &name.full].map(str::to_owned);
        let said = run("systemctl", &arguments, limit.0).await.map_err(|error| match error.kind {
            Kind::Timeout => Error::new(Kind::Timeout, format!("{verb} of `{}` took longer than {limit}", name.full))
                .target(&name.full)
                .hint("systemd goes on with it by itself"),
            _ => error,
        })?;
        if !said.ok {
            return Err(refusal(&said.stderr, name));
        }
        Ok(self.unit(name).await?.acted())
    }
}

impl Unit {
    /// What acting on it leaves behind.
    pub(in crate::host) fn acted(&self) -> Acted {
        Acted { name: self.name.clone(), active: self.active.clone(), sub: self.sub.clone() }
    }

    /// What acting on it would change.
    pub(in crate::host) fn effect(&self, function: &str, verb: &str) -> Effect {
        let effect = Effect::new(function, &self.name, format!("{verb} unit `{}` ({}, {})", self.name, self.active, self.sub));
        if verb == "restart" { effect } else { effect.reversible() }
    }

    /// What more there is to say of its state: how it failed, or what its kind calls the state.
    pub(in crate::host) fn detail(&self) -> Option<String> {
        match (self.failed, self.result.as_str(), self.exit_code) {
            (true, "exit-code", Some(code)) => Some(format!("exit code {code}")),
            (true, result, _) => Some(result.replace('-', " ")),
            (false, ..) => (self.sub != self.active).then(|| self.sub.clone()),
        }
    }
}

/// Whether systemd runs this machine: its own test, sd_booted(3).
pub(super) fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Refuses everything where systemd does not run this machine.
pub(super) fn require() -> Result<()> {
    if is_running() {
        return Ok(());
    }
    let first = std::fs::read_to_string("/proc/1/comm").unwrap_or_default();
    Err(Error::new(Kind::Conflict, format!("systemd does not run this machine (process 1 is `{}`)", first.trim()))
        .target("systemd")
        .permanent()
        .hint("name another manager in the system file: `[services] manager = \"compose\"` or `\"processes\"`"))
}

fn refusal(stderr: &str, name: &UnitName) -> Error {
    let text = stderr.trim();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let (kind, hint) = if says(&["Access denied", "authentication required", "Permission denied", "Operation not permitted"]) {
        (Kind::Refused, "the user needs the right to manage this unit, by polkit or as root")
    } else if says(&["not found", "not be found", "not loaded"]) {
        (Kind::NotFound, "`systemctl list-unit-files` shows which there are")
    } else if says(&["is masked", "Refusing"]) {
        (Kind::Conflict, "its unit file forbids it; `systemctl cat` shows it")
    } else {
        (Kind::Remote, "its journal says why: `systemd::journal`")
    };
    // The first line has the reason; the others tell a person at a terminal what to type.
    Error::new(kind, format!("`{}`: {}", name.full, text.lines().next().unwrap_or("systemctl failed"))).target(&name.full).hint(hint)
}

/// One block of `systemctl show`.
fn unit_of(text: &str) -> Unit {
    let values: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let value = |name: &str| values.get(name).copied().unwrap_or_default().to_owned();
    // What is not known is `[not set]`, or the largest number there is.
    let number = |name: &str| values.get(name).and_then(|value| value.parse::<u64>().ok()).filter(|&number| number != u64::MAX);
    Unit {
        name: value("Id"),
        description: value("Description"),
        loaded: value("LoadState"),
        failed: value("ActiveState") == "failed",
        active: value("ActiveState"),
        sub: value("SubState"),
        since: unix_time(&value("StateChangeTimestamp")),
        restarts: number("NRestarts"),
        main_pid: number("MainPID").filter(|&pid| pid > 0),
        memory: number("MemoryCurrent"),
        tasks: number("TasksCurrent"),
        cpu_nanos: number("CPUUsageNSec"),
        result: value("Result"),
        exit_code: number("ExecMainStatus"),
        enabled: value("UnitFileState"),
    }
}

/// `@1700000000`, as `--timestamp=unix` writes it.
fn unix_time(text: &str) -> Option<String> {
    let seconds = text.strip_prefix('@')?.parse().ok()?;
    Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// One line of `systemctl list-units --plain`.
fn listed(line: &str) -> Option<Listed> {
    // Some versions mark failed units also with `--plain`.
    let mut rest = line.trim_start_matches(['●', '*', '×', '○', ' ']);
    let mut word = || {
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = after.trim_start();
        (!word.is_empty()).then(|| word.to_owned())
    };
    let (name, loaded, active, sub) = (word()?, word()?, word()?, word()?);
    Some(Listed { name, loaded, active, sub, description: rest.trim_end().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NGINX: &str = "\
Id=nginx.service
Description=A high performance web server and a reverse proxy server
LoadState=loaded
ActiveState=failed
SubState=failed
StateChangeTimestamp=@1763719200
NRestarts=5
MainPID=0
MemoryCurrent=[not set]
TasksCurrent=18446744073709551615
CPUUsageNSec=41284000
Result=exit-code
ExecMainStatus=1
UnitFileState=enabled
";

    #[test]
    fn a_unit_is_read_from_its_properties() {
        let unit = unit_of(NGINX);
        assert_eq!((unit.name.as_str(), unit.active.as_str(), unit.failed, unit.restarts), ("nginx.service", "failed", true, Some(5)));
        assert_eq!((unit.main_pid, unit.memory, unit.tasks, unit.cpu_nanos), (None, None, None, Some(41_284_000)));
        assert_eq!(unit.detail().as_deref(), Some("exit code 1"));
        assert_eq!(unit_of("ActiveState=failed\nResult=oom-kill\nExecMainStatus=9\n").detail().as_deref(), Some("oom kill"));
        assert_eq!(unit_of("ActiveState=inactive\nSubState=dead\nResult=success\n").detail().as_deref(), Some("dead"));
        assert_eq!(unit.since.as_deref(), Some("2025-11-21T10:00:00Z"));
        assert_eq!(unit.effect("systemd::restart", "restart").summary, "restart unit `nginx.service` (failed, failed)");
    }

    #[test]
    fn lists_are_read_with_and_without_marks() {
        let text = "ssh.service    loaded active running OpenBSD Secure Shell server\n\
                    ● x.service  not-found inactive dead x.service\n\n";
        let units: Vec<Listed> = text.lines().filter_map(listed).collect();
        assert_eq!(units.len(), 2);
        assert_eq!((units[0].sub.as_str(), units[0].description.as_str()), ("running", "OpenBSD Secure Shell server"));
        assert_eq!((units[1].name.as_str(), units[1].loaded.as_str()), ("x.service", "not-found"));
    }

    #[test]
    fn names_that_are_options_paths_or_patterns_are_refused() {
        for name in ["", "-H evil", "--host=x", "a b", "/etc/systemd/system/x.service", "ngin*", "[ab]", "a?", "x\n", "a;b", "ü", ".hidden"]
        {
            assert_eq!(UnitName::read(name).unwrap_err().kind, Kind::Invalid, "{name}");
        }
        for (name, full) in [
            ("nginx", "nginx.service"),
            ("postgresql@15-main", "postgresql@15-main.service"),
            ("logrotate.timer", "logrotate.timer"),
            ("php8.2-fpm", "php8.2-fpm.service"),
        ] {
            assert_eq!(UnitName::read(name).unwrap().full(), full);
        }
    }

    #[test]
    fn a_refusal_says_what_helps() {
        let name = UnitName::read("nginx").unwrap();
        for (stderr, kind) in [
            (
                "Failed to restart nginx.service: Access denied\nSee system logs and 'systemctl status nginx.service' for details.",
                Kind::Refused,
            ),
            ("Failed to restart nginx.service: Interactive authentication required.", Kind::Refused),
            ("Failed to restart nginx.service: Unit nginx.service not found.", Kind::NotFound),
            ("Failed to restart nginx.service: Unit nginx.service is masked.", Kind::Conflict),
            ("Job for nginx.service failed because the control process exited with error code.", Kind::Remote),
        ] {
            assert_eq!(refusal(stderr, &name).kind, kind, "{stderr}");
        }
    }
}
