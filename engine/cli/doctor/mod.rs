//! `runbook doctor`: is this machine fit to run runbooks, and what to do where it is not.

mod kernel;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::app::App;
use crate::cli::secret;
use crate::cli::terminal::{DIM, styled, table};
use crate::config::{Problems, Project};
use crate::error::Error;
use crate::model::system::Manager;
use crate::model::{Level, Size, System};
use crate::run::lock::{Owner, owners};
use crate::store::{Health, Sqlite, StateDir, Store, Tally, filesystem, sqlite_version};
use crate::words;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Look through the whole state only: pages, journals, audit log
    #[arg(long)]
    store: bool,
}

/// One line of the examination.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    area: &'static str,
    level: Level,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    pub(super) fn good(area: &'static str, detail: impl Into<String>) -> Self {
        Self { area, level: Level::Ok, detail: detail.into(), fix: None }
    }

    pub(super) fn warning(area: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { area, level: Level::Warning, detail: detail.into(), fix: Some(fix.into()) }
    }

    fn critical(area: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { area, level: Level::Critical, detail: detail.into(), fix: Some(fix.into()) }
    }

    fn of(area: &'static str, error: &Error) -> Self {
        Self { area, level: Level::Critical, detail: error.to_string(), fix: error.hints.first().cloned() }
    }
}

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let findings = if args.store { whole_store(app) } else { examine(app) };
    let worst = findings.iter().fold(Level::Ok, |worst, finding| worst.worst(finding.level));
    if app.json {
        app.answer_json(&findings)?;
    } else {
        app.terminal.answer(&table(&findings.iter().map(|finding| row(finding, app)).collect::<Vec<_>>()));
        app.terminal.say(&styled(DIM, sum(&findings)));
    }
    Ok(match worst {
        Level::Ok => 0,
        Level::Warning => 3,
        Level::Critical | Level::Unknown => 1,
    })
}

fn row(finding: &Finding, app: &App) -> Vec<String> {
    let fix = finding.fix.as_ref().map(|fix| format!("fix: {fix}")).unwrap_or_default();
    vec![format!("{} {}", app.terminal.level(finding.level), finding.area), crate::cli::report::visible(&finding.detail), fix]
}

fn sum(findings: &[Finding]) -> String {
    let count = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    match (count(Level::Critical), count(Level::Warning)) {
        (0, 0) => "this machine is fit".to_owned(),
        (errors, warnings) => format!("{}, {}", words::count(errors, "error"), words::count(warnings, "warning")),
    }
}

fn examine(app: &App) -> Vec<Finding> {
    let mut findings = Vec::new();
    let systems = match app.project() {
        Ok(project) => {
            findings.push(settings(project));
            systems(app, project, &mut findings)
        }
        Err(problems) => {
            findings.extend(problems.errors.iter().map(|error| Finding::of("config", error)));
            Vec::new()
        }
    };
    match app.state() {
        Ok(state) => findings.extend(state_findings(&state, false)),
        Err(error) => findings.push(Finding::of("state", &error)),
    }
    findings.extend(secrets(app));
    findings.push(clock());
    findings.push(authorities(app));
    findings.push(docker(&systems));
    findings.push(systemd(&systems));
    findings.extend(tools(&systems));
    let sandbox = app.project().map_or_else(|_| crate::config::Sandbox::default(), |project| project.settings.sandbox);
    findings.extend(kernel::findings(sandbox));
    findings
}

fn settings(project: &Project) -> Finding {
    use crate::config::Origin;
    let set = project.origins.values().filter(|origin| **origin != Origin::Default).count();
    let from_environment = project.origins.values().filter(|origin| matches!(origin, Origin::Environment(_))).count();
    let environment = if from_environment == 0 { String::new() } else { format!(", {from_environment} from the environment") };
    Finding::good("config", format!("{} ({set} values set{environment})", project.root.display()))
}

/// The systems of the project that can be read; what is wrong with the others becomes findings.
fn systems(app: &App, project: &Project, findings: &mut Vec<Finding>) -> Vec<System> {
    let names = secret::needing(app).unwrap_or_default();
    let mut good = Vec::new();
    for name in &names {
        match project.systems(&app.environment).load(name) {
            Ok(loaded) => {
                findings.extend(loaded.warnings.iter().map(|warning| {
                    Finding::warning("system", format!("{name}: {warning}"), warning.hints.first().cloned().unwrap_or_default())
                }));
                good.push(loaded.system);
            }
            Err(problems) => findings.extend(problems.errors.iter().map(|error| Finding::of("system", error))),
        }
    }
    if good.len() == names.len() {
        findings.push(Finding::good("systems", names.join(", ")));
    }
    good
}

/// Less free space than this is a warning.
const LITTLE: u64 = 1 << 30;
/// With less than this the next run may not be recorded.
const TOO_LITTLE: u64 = 100 << 20;

fn state_findings(state: &StateDir, all_pages: bool) -> Vec<Finding> {
    let root = state.root().display().to_string();
    let mut findings = vec![Finding::good("state", format!("{root}, its owner's alone"))];
    findings.push(match filesystem(state.root()) {
        Ok(kind @ ("nfs" | "smb" | "9p")) => Finding::critical(
            "filesystem",
            format!("{root} is on {kind}, whose locks SQLite can not trust; nothing is written there"),
            "set RUNBOOK_STATE_DIR to a local disk",
        ),
        Ok("tmpfs") => {
            Finding::warning("filesystem", format!("{root} is in memory and gone with the next start"), "set RUNBOOK_STATE_DIR to a disk")
        }
        Ok(kind) => Finding::good("filesystem", kind),
        Err(error) => Finding::critical("filesystem", format!("{root}: {error}"), "look at the mount"),
    });
    findings.extend(space(state.root()));
    findings.extend(store(state, all_pages));
    findings.extend(left_locks(state));
    findings
}

/// Runs that were cut off while they held a lock: nothing is held up, but somebody should look.
fn left_locks(state: &StateDir) -> Vec<Finding> {
    let owners = match owners(state) {
        Ok(owners) => owners,
        Err(error) => return vec![Finding::of("locks", &error)],
    };
    let left = owners.iter().filter(|owner| !owner.holds());
    let tell = |owner: &Owner| {
        let detail = format!("`{}` was left by {} #{}, which was cut off", owner.lock, owner.runbook, owner.run);
        Finding::warning("locks", detail, format!("see how far it came: runbook report {}", owner.run))
    };
    left.map(tell).collect()
}

/// Everything the store can be asked about itself. It takes a while when it is large.
fn whole_store(app: &App) -> Vec<Finding> {
    let state = match app.state() {
        Ok(state) => state,
        Err(error) => return vec![Finding::of("state", &error)],
    };
    let mut findings = state_findings(&state, true);
    let Ok(store) = Sqlite::open(&state.database()) else { return findings };
    let seen = store.examine(&[]);
    let fix = "keep a copy of the state directory, then: runbook state restore PATH";
    findings.extend(seen.damage.iter().map(|damage| Finding::critical("journal", damage.to_string(), fix)));
    if seen.damage.is_empty() {
        findings.push(Finding::good("journal", format!("{}: as they were written", crate::cli::audit::scope(&seen))));
    }
    findings.extend(quota(app, &state));
    findings
}

fn quota(app: &App, state: &StateDir) -> Option<Finding> {
    let quota = app.project().ok()?.settings.retention.quota;
    let taken = Size(size(state.root()));
    Some(match taken > quota {
        true => Finding::warning("quota", format!("the state takes {taken}, more than {quota}"), "runbook state prune"),
        false => Finding::good("quota", format!("{taken} of {quota}")),
    })
}

/// How much all files below a directory take; what vanishes meanwhile takes nothing.
fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => size(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}

fn space(path: &Path) -> Vec<Finding> {
    let Ok(about) = rustix::fs::statvfs(path) else { return Vec::new() };
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    let text = format!("{} free", Size(free));
    let fix = "remove what is not needed, or set RUNBOOK_STATE_DIR to another disk";
    let mut findings = vec![match free {
        free if free < TOO_LITTLE => Finding::critical("space", text, fix),
        free if free < LITTLE => Finding::warning("space", text, fix),
        _ => Finding::good("space", text),
    }];
    if about.f_files > 0 && about.f_favail < 1000 {
        findings.push(Finding::critical("inodes", format!("{} left", about.f_favail), fix));
    }
    findings
}

/// Older ones can damage a database in WAL mode when several processes write.
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];

fn store(state: &StateDir, all_pages: bool) -> Vec<Finding> {
    let examined = Sqlite::open(&state.database()).and_then(|store| Ok((store.health(all_pages)?, store.tally()?)));
    let mut findings = match &examined {
        Ok((health, tally)) => database(&state.database(), health).into_iter().chain([outbox(tally)]).collect(),
        Err(error) => vec![Finding::of("store", error)],
    };
    let mut parts = sqlite_version().split('.').map(|part| part.parse().unwrap_or(0));
    let version = [(); 3].map(|()| parts.next().unwrap_or(0));
    findings.push(if version >= OLDEST_SQLITE {
        Finding::good("sqlite", sqlite_version())
    } else {
        Finding::warning("sqlite", format!("{}, which has known defects", sqlite_version()), "use a newer runbook")
    });
    findings
}

fn outbox(tally: &Tally) -> Finding {
    let waiting = format!("{} waiting, {} delivered", tally.queued, tally.delivered);
    match tally.dead {
        0 => Finding::good("outbox", waiting),
        dead => Finding::warning("outbox", format!("{waiting}, {dead} given up"), "test the contacts: runbook show notify"),
    }
}

fn database(path: &Path, health: &Health) -> Vec<Finding> {
    let size = std::fs::metadata(path).map_or(0, |about| about.len());
    let mut findings = Vec::new();
    let damage = health.damage.as_deref().unwrap_or_default();
    if !damage.is_empty() {
        findings.push(Finding::critical(
            "store",
            format!("{} is damaged: {}", path.display(), damage.join("; ")),
            "stop everything that uses it, keep a copy, then: runbook state restore PATH",
        ));
    }
    if health.journal != "wal" || !health.synchronous_full {
        findings.push(Finding::critical(
            "store",
            format!("journal {}, synchronous full: {}", health.journal, health.synchronous_full),
            "move the state directory to a local disk",
        ));
    }
    if findings.is_empty() {
        let (path, size, format) = (path.display(), Size(size), health.format);
        let pages = if health.damage.is_some() { "sound" } else { "its pages not looked at: runbook doctor --store" };
        findings.push(Finding::good("store", format!("{path}, {size}, format {format}, WAL, synchronous FULL, {pages}")));
    }
    findings
}

fn secrets(app: &App) -> Vec<Finding> {
    let Ok(known) = secret::known(app) else { return Vec::new() };
    let mut findings: Vec<Finding> = known
        .iter()
        .filter(|secret| secret.state != "set")
        .map(|secret| {
            let needed = secret.systems.iter().cloned().collect::<Vec<_>>().join(", ");
            let why = secret.problem.clone().filter(|_| secret.state == "broken").map(|why| format!(": {why}")).unwrap_or_default();
            let by = if needed.is_empty() { String::new() } else { format!(", which {needed} needs") };
            Finding::warning(
                "secrets",
                format!("`{}`{by}, is {}{why}", secret.name, secret.state),
                format!("runbook secret set {}", secret.name),
            )
        })
        .collect();
    if findings.is_empty() && !known.is_empty() {
        findings.push(Finding::good("secrets", format!("{} can be read", known.len())));
    }
    findings
}

/// What time daemons leave behind when the clock is right.
const SYNCHRONISED: [&str; 3] = ["/run/systemd/timesync/synchronized", "/run/chrony/chronyd.pid", "/run/ntpd.pid"];

fn clock() -> Finding {
    let zone = jiff::tz::TimeZone::system();
    let zone = zone.iana_name().unwrap_or("unknown");
    match SYNCHRONISED.iter().any(|mark| Path::new(mark).exists()) {
        true => Finding::good("clock", format!("synchronised, zone {zone}")),
        // A container has the clock of its host, and no daemon.
        false => Finding::warning(
            "clock",
            format!("no time daemon is seen here, zone {zone}"),
            "timedatectl set-ntp true; in a container, look at the host",
        ),
    }
}

/// Where distributions keep the authorities they trust.
const BUNDLES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

fn authorities(app: &App) -> Finding {
    let chosen = app.environment.get("SSL_CERT_FILE");
    let found = chosen.into_iter().chain(BUNDLES).find_map(|path| Some((path, std::fs::read_to_string(path).ok()?)));
    let fix = "apt install ca-certificates";
    match found {
        Some((path, text)) => match text.matches("BEGIN CERTIFICATE").count() {
            0 => Finding::warning("ca bundle", format!("{path} holds no certificate"), fix),
            roots => Finding::good("ca bundle", format!("{path} ({roots} roots)")),
        },
        None => Finding::warning("ca bundle", "no authorities are trusted here: every https:// will be refused", fix),
    }
}

/// How long another program may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

fn docker(systems: &[System]) -> Finding {
    let chosen = systems.iter().map(|system| system.services.docker_host.as_str()).find_map(|host| host.strip_prefix("unix://"));
    let socket = chosen.unwrap_or("/var/run/docker.sock");
    let is_needed = systems.iter().any(|system| system.services.manager == Manager::Compose && !system.services.each.is_empty());
    let ping = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ping() {
        Ok(answer) if answer.contains(" 200 ") => Finding::good("docker", format!("{socket} answers")),
        Ok(_) => Finding::warning("docker", format!("{socket} does not answer as Docker does"), "systemctl status docker"),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Finding::warning("docker", format!("{socket}: permission denied"), "usermod -aG docker USER (as good as root!)")
        }
        Err(error) if is_needed => Finding::critical("docker", format!("{socket}: {error}"), "systemctl start docker"),
        Err(_) => Finding::good("docker", "not here, and no system needs it"),
    }
}

fn systemd(systems: &[System]) -> Finding {
    let is_needed = systems.iter().any(|system| system.services.manager == Manager::Systemd && !system.services.each.is_empty());
    match (Path::new("/run/systemd/system").exists(), is_needed) {
        (true, _) => Finding::good("systemd", "is process 1"),
        (false, true) => {
            Finding::critical("systemd", "is not process 1, and a system needs it", "run on the machine itself, not in a container")
        }
        (false, false) => Finding::good("systemd", "is not process 1, and no system needs it"),
    }
}

/// Programs that runbooks start: the program, and what to install.
const TOOLS: &[(&str, &str)] = &[
    ("git", "git"),
    ("tar", "tar"),
    ("pg_dump", "postgresql-client"),
    ("pg_restore", "postgresql-client"),
    ("redis-cli", "redis-tools"),
    ("docker", "docker.io"),
    ("systemctl", "systemd"),
    ("journalctl", "systemd"),
];

fn tools(systems: &[System]) -> Vec<Finding> {
    let mut present = Vec::new();
    let mut absent = Vec::new();
    for (tool, package) in TOOLS {
        match version(tool) {
            Some(version) => present.push(format!("{tool} {version}")),
            None => absent.push((*tool, *package)),
        }
    }
    let needs_dump = systems.iter().any(|system| !system.databases.is_empty());
    let missing = |(tool, package): &(&str, &str)| {
        (needs_dump && *tool == "pg_dump")
            .then(|| Finding::warning("tools", format!("{tool} is not here, and a system has databases"), format!("apt install {package}")))
    };
    let mut findings: Vec<Finding> = absent.iter().filter_map(missing).collect();
    let names: Vec<&str> = absent.iter().map(|(tool, _)| *tool).collect();
    let rest = if names.is_empty() { String::new() } else { format!("; not here: {}", names.join(", ")) };
    findings.push(Finding::good("tools", format!("{}{rest}", present.join(", "))));
    findings
}

/// The first number in what a program says of its version.
fn version(program: &str) -> Option<String> {
    let text = answer_of(program)?;
    let is_version = |word: &&str| word.starts_with(|letter: char| letter.is_ascii_digit());
    let word = text.lines().next()?.split_whitespace().find(is_version).unwrap_or("(no version)");
    Some(word.trim_end_matches(',').to_owned())
}

fn answer_of(program: &str) -> Option<String> {
    let mut child =
        Command::new(program).arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let until = Instant::now() + PATIENCE;
    // A version fits into the pipe: it can end without being read.
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
    let mut text = String::new();
    child.stdout.take()?.take(4096).read_to_string(&mut text).ok()?;
    Some(text)
}
