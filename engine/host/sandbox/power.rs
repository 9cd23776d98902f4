//! From permissions to what the kernel is told: paths, ports, families of sockets, capabilities.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landlock::{AccessFs, BitFlags};
use rustix::thread::CapabilitySet;
use url::Url;

use crate::host::http::is_reached_at;
use crate::host::net::PING_PORT;
use crate::host::permission::Access;
use crate::host::sandbox::files::{device, execute, read, remove, socket, write};
use crate::host::{Permissions, RunInfo};
use crate::model::System;
use crate::model::system::Contact;

/// What a run was given, from which its walls are built.
#[derive(Debug, Clone)]
pub struct Grants {
    /// What run it is.
    pub run: RunInfo,
    /// The system it runs for.
    pub system: System,
    /// What it may touch.
    pub permissions: Permissions,
    /// What no run may touch.
    pub protected: Vec<PathBuf>,
}

/// What a thread keeps.
#[derive(Debug)]
pub(crate) struct Power {
    pub(super) areas: Vec<Area>,
    pub(super) connect: Ports,
    pub(super) families: Vec<i32>,
    pub(super) starts_programs: bool,
    pub(super) changes_attributes: bool,
    pub(super) signals_stay_inside: bool,
    pub(super) capabilities: CapabilitySet,
}

/// A path, what is allowed on it and below it, and what below it is not meant.
#[derive(Debug)]
pub(super) struct Area {
    pub(super) path: PathBuf,
    pub(super) access: BitFlags<AccessFs>,
    pub(super) except: Vec<PathBuf>,
}

/// The TCP ports that may be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ports {
    Any,
    These(BTreeSet<u16>),
}

/// Programs, their libraries and what belongs to the machine and is nobody's secret.
const SHARED: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store"];
/// What the kernel tells; of other processes only what everyone may see.
const TOLD: [&str; 2] = ["/proc", "/sys"];
/// What names, users, times and certificates are looked up in. The rest of `/etc` may hold secrets.
const LOOKED_UP: [&str; 30] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld-musl-x86_64.path",
    "/etc/localtime",
    "/etc/machine-id",
    "/etc/mtab",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/postgresql-common",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
    "/run/systemd/resolve",
];
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
const JOURNALS: [&str; 3] = ["/var/log/journal", "/run/log/journal", "/run/systemd"];
const BUSES: [&str; 2] = ["/run/systemd", "/run/dbus"];

impl Power {
    /// What host functions need. Each of them asks for permission itself, and knows what is protected and what
    /// is made later, so that a directory is theirs where the permission is for something in it.
    pub(super) fn of_worker(grants: &Grants) -> Self {
        let Grants { permissions, system, .. } = grants;
        let starts_programs = permissions.uses("exec") || permissions.uses("systemd");
        // Where messages go is a secret; `notify::test` asks channels from here.
        let connect = if permissions.uses("notify") { Ports::Any } else { ports(permissions, system) };
        let mut power = Self::common(grants, connect, starts_programs);
        for (verb, access) in VERBS {
            for object in permissions.paths(verb) {
                let path = workplace(verb, &object);
                power.allow(&path, if verb == "read" { access() } else { access() | read() }, &[]);
            }
        }
        let authorities = system.databases.values().filter_map(|database| database.ca.as_ref());
        let authorities = authorities.chain(system.endpoints.values().filter_map(|endpoint| endpoint.ca.as_ref()));
        let authorities = authorities.chain(system.contacts.values().filter_map(authorities_of));
        for path in authorities {
            power.allow(Path::new(path), read(), &[]);
        }
        if permissions.uses("sys") {
            // Written anew at each start of a service, so it is the directory that must be readable.
            let files = system.services.each.values().filter_map(|service| service.pid_file.as_ref());
            files.filter_map(|file| Path::new(file).parent()).for_each(|directory| power.allow(directory, read(), &[]));
        }
        for path in cluster(permissions, system).0 {
            power.allow(&path, read(), &[]);
        }
        power.local(permissions, system);
        power.signals_stay_inside = !permissions.has_host_power();
        power
    }

    /// What programs get, with no host function in between: exactly what is granted, as it is there now.
    pub(super) fn of_programs(grants: &Grants) -> Self {
        let Grants { permissions, system, protected, .. } = grants;
        let mut power = Self::common(grants, ports(permissions, system), true);
        for (verb, access) in VERBS {
            let except = exceptions(permissions, verb, protected);
            for object in permissions.paths(verb) {
                for path in matching(permissions, verb, &object) {
                    power.allow(&path, access(), &except);
                }
            }
        }
        power.changes_attributes = permissions.paths("write").next().is_some();
        power.capabilities -= CapabilitySet::KILL;
        power
    }

    fn common(Grants { run, permissions, .. }: &Grants, connect: Ports, starts_programs: bool) -> Self {
        let mut power = Self {
            areas: Vec::new(),
            families: families(permissions, &connect),
            connect,
            starts_programs,
            changes_attributes: true,
            signals_stay_inside: true,
            capabilities: CapabilitySet::CHOWN
                | CapabilitySet::DAC_OVERRIDE
                | CapabilitySet::DAC_READ_SEARCH
                | CapabilitySet::FOWNER
                | CapabilitySet::FSETID
                | CapabilitySet::KILL,
        };
        if permissions.could("net", "ping") {
            power.capabilities |= CapabilitySet::NET_RAW;
        }
        let shared = if starts_programs { execute() } else { read() };
        SHARED.iter().for_each(|path| power.allow(Path::new(path), shared, &[]));
        TOLD.iter().chain(&LOOKED_UP).for_each(|path| power.allow(Path::new(path), read(), &[]));
        DEVICES.iter().for_each(|path| power.allow(Path::new(path), device(), &[]));
        power.allow(&run.directory, read() | write() | remove(), &[]);
        if starts_programs {
            for object in permissions.programs() {
                power.allow(&directory_of_pattern(object), execute(), &[]);
            }
        }
        power
    }

    /// The sockets of this machine that host functions speak to.
    fn local(&mut self, permissions: &Permissions, system: &System) {
        let docker = system.services.docker_host.as_str();
        let mut sockets: Vec<PathBuf> = Vec::new();
        if permissions.uses("docker") {
            match docker.split_once("://") {
                None | Some(("unix", "")) => sockets.push("/var/run/docker.sock".into()),
                Some(("unix", path)) => sockets.push(path.into()),
                Some(_) => {}
            }
        }
        if permissions.uses("systemd") {
            sockets.extend(BUSES.map(PathBuf::from));
            JOURNALS.iter().for_each(|path| self.allow(Path::new(path), read(), &[]));
        }
        let hosts = system.databases.values().map(|database| &database.host).filter(|_| permissions.uses("sql"));
        let hosts = hosts.chain(system.caches.values().map(|cache| &cache.host).filter(|_| permissions.uses("redis")));
        sockets.extend(hosts.filter(|host| host.starts_with('/')).map(PathBuf::from));
        if sockets.is_empty() {
            return;
        }
        self.families.push(libc::AF_UNIX);
        for path in sockets {
            self.allow(&path, socket(), &[]);
        }
    }

    fn allow(&mut self, path: &Path, access: BitFlags<AccessFs>, except: &[PathBuf]) {
        if let Ok(path) = path.canonicalize() {
            self.areas.push(Area { path, access, except: except.to_vec() });
        }
    }
}

type Rights = fn() -> BitFlags<AccessFs>;

const VERBS: [(&str, Rights); 3] = [("read", read), ("write", write), ("remove", remove)];

/// What is never meant: what decides over runs, and what the policy forbids. What may be read anyway is left out
/// for reading, since each exception costs a look into its directories.
fn exceptions(permissions: &Permissions, verb: &str, protected: &[PathBuf]) -> Vec<PathBuf> {
    let forbidden = permissions.forbidden_paths().filter(|(forbidden, object)| *forbidden == verb && !object.contains('*'));
    let all = forbidden.map(|(_, object)| PathBuf::from(object)).chain(protected.iter().cloned());
    let real = all.filter_map(|path| path.canonicalize().ok());
    real.filter(|path| verb != "read" || !SHARED.iter().any(|shared| path.starts_with(shared))).collect()
}

/// The directory a host function works in. A file is replaced in its directory, a directory is removed and made
/// anew in the one above it, which the kernel would otherwise refuse; the whole machine is never meant by that.
fn workplace(verb: &str, object: &str) -> PathBuf {
    let path = directory_of_pattern(object);
    let is_itself = path.is_dir() && (verb == "read" || object.contains('*') || path.parent().is_none_or(|above| above == Path::new("/")));
    let from = if is_itself { Some(path.as_path()) } else { path.parent() };
    let there = from.unwrap_or(&path).ancestors().find(|above| above.is_dir());
    there.unwrap_or(Path::new("/")).to_owned()
}

fn authorities_of(contact: &Contact) -> Option<&String> {
    match contact {
        Contact::Email { ca, .. } => ca.as_ref(),
        _ => None,
    }
}

/// The directory above the first `*`; the path itself without one.
fn directory_of_pattern(object: &str) -> PathBuf {
    match object.split_once('*') {
        Some((before, _)) => PathBuf::from(before.rfind('/').map_or("/", |at| &before[..at.max(1)])),
        None => PathBuf::from(object),
    }
}

/// What a grant covers now: the path itself, or what matches its `*` in its directory.
fn matching(permissions: &Permissions, verb: &str, object: &str) -> Vec<PathBuf> {
    if !object.contains('*') {
        return vec![PathBuf::from(object)];
    }
    let directory = directory_of_pattern(object);
    if object.strip_prefix(directory.to_string_lossy().as_ref()).is_some_and(|rest| matches!(rest, "*" | "/*")) {
        return vec![directory];
    }
    let Ok(entries) = std::fs::read_dir(&directory) else { return Vec::new() };
    let covered = |path: &PathBuf| permissions.check(&Access::path(verb_of(verb), path)).is_ok();
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()))
        .map(|entry| entry.path())
        .filter(covered)
        .collect()
}

fn verb_of(verb: &str) -> &'static str {
    VERBS.iter().map(|(name, _)| *name).find(|name| *name == verb).unwrap_or("read")
}

fn families(permissions: &Permissions, connect: &Ports) -> Vec<i32> {
    let has_network = *connect != Ports::These(BTreeSet::new()) || ["ping", "resolve"].iter().any(|verb| permissions.could("net", verb));
    let mut families = Vec::new();
    if has_network {
        families.extend([libc::AF_INET, libc::AF_INET6]);
    }
    if has_network || permissions.uses("sys") || permissions.uses("net") {
        families.push(libc::AF_NETLINK);
    }
    families
}

/// The ports of all that may be connected to. Landlock knows ports and no hosts; hosts are the client's to check.
fn ports(permissions: &Permissions, system: &System) -> Ports {
    const NAMES: u16 = 53;
    let mut ports = BTreeSet::new();
    for (section, object) in permissions.addresses() {
        match if section == "http" { port_of_url(object) } else { port_of_host(object) } {
            Some(port) => ports.insert(port),
            None => return Ports::Any,
        };
    }
    if permissions.uses("sql") {
        ports.extend(system.databases.values().map(|database| database.port));
    }
    if permissions.uses("redis") {
        ports.extend(system.caches.values().map(|cache| cache.port));
    }
    let may_ask = |name: &str| ["read", "reload"].iter().any(|verb| permissions.check(&Access::word("prom", verb, name)).is_ok());
    let asked = system.endpoints.iter().filter(|(name, _)| permissions.uses("prom") && may_ask(name));
    ports.extend(asked.filter_map(|(_, endpoint)| is_reached_at(endpoint)));
    let docker = system.services.docker_host.as_str();
    if permissions.uses("docker") && !docker.is_empty() && !docker.starts_with("unix://") {
        match Url::parse(docker).ok().and_then(|url| url.port()) {
            Some(port) => drop(ports.insert(port)),
            None => return Ports::Any,
        }
    }
    match cluster(permissions, system) {
        (_, Some(port)) => drop(ports.insert(port)),
        (files, None) if !files.is_empty() => return Ports::Any,
        _ => {}
    }
    if permissions.could("net", "ping") {
        // Where the kernel sends no echo for this user, a connection that is refused tells as much.
        ports.insert(PING_PORT);
    }
    if !ports.is_empty() {
        ports.insert(NAMES);
    }
    Ports::These(ports)
}

/// What the cluster of the system needs: the directories of its credentials, and its port.
#[cfg(feature = "k8s")]
fn cluster(permissions: &Permissions, system: &System) -> (Vec<PathBuf>, Option<u16>) {
    let used = system.cluster.as_ref().filter(|_| permissions.uses("k8s"));
    used.map(crate::host::k8s::needs).unwrap_or_default()
}

#[cfg(not(feature = "k8s"))]
fn cluster(_: &Permissions, _: &System) -> (Vec<PathBuf>, Option<u16>) {
    (Vec::new(), None)
}

/// The port of a pattern for addresses; nothing when it may be any.
fn port_of_url(object: &str) -> Option<u16> {
    let (scheme, rest) = object.split_once("://")?;
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse().ok(),
        _ if scheme == "https" => Some(443),
        _ if scheme == "http" => Some(80),
        _ => None,
    }
}

fn port_of_host(object: &str) -> Option<u16> {
    object.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::host::sandbox::files;
    use crate::model::RunId;

    fn grants(allow: Value, directory: &Path) -> Grants {
        let permissions = Permissions::read(&serde_json::from_value(allow).unwrap(), &System::default()).unwrap();
        let started = "2026-11-21T12:00:00Z".parse().unwrap();
        let run = RunInfo { id: RunId::new(), number: 1, runbook: "test".to_owned(), started, directory: directory.join("work") };
        Grants { run, system: System::default(), permissions, protected: vec![directory.join("state")] }
    }

    fn connect(allow: Value) -> Ports {
        Power::of_programs(&grants(allow, Path::new("/nonexistent"))).connect
    }

    #[test]
    fn ports_are_those_of_the_grants() {
        let these = |ports: &[u16]| Ports::These(ports.iter().copied().collect());
        assert_eq!(connect(json!({ "sys": ["*"] })), these(&[]));
        assert_eq!(
            connect(json!({ "http": ["GET https://a.test/x", "GET http://b.test:8080", "GET http://[::1]/"] })),
            these(&[53, 80, 443, 8080])
        );
        assert_eq!(connect(json!({ "net": ["connect:db:5432"] })), these(&[53, 5432]));
        assert_eq!(connect(json!({ "net": ["ping:db"] })), these(&[53, 443]));
        assert_eq!(connect(json!({ "net": ["connect:db:*"] })), Ports::Any);
        assert_eq!(connect(json!({ "http": ["GET http://a.test:*"] })), Ports::Any);
    }

    #[test]
    fn a_program_gets_what_is_granted_without_what_is_protected() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        for name in ["state", "data", "work"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        let grants = grants(json!({ "exec": ["/bin/sh"], "fs": { "read": [&root], "write": [root.join("data/new")] } }), &root);
        let rules = files::rules(&Power::of_programs(&grants));
        assert!(rules[&root.join("data")].contains(AccessFs::ReadFile) && rules[&root.join("work")].contains(AccessFs::MakeReg));
        assert_eq!(rules[&root], BitFlags::from(AccessFs::ReadDir), "what is protected is below it");
        assert!(!rules.contains_key(&root.join("state")) && !rules.contains_key(&root.join("data/new")));
        let rules = files::rules(&Power::of_worker(&grants));
        assert!(rules[&root.join("data")].contains(AccessFs::MakeReg), "a file is made in its directory");
    }

    #[test]
    fn who_starts_nothing_can_not() {
        let starts = |allow: Value| Power::of_worker(&grants(allow, Path::new("/nonexistent"))).starts_programs;
        assert!(
            !starts(json!({ "fs": { "read": ["/"] } })) && starts(json!({ "exec": ["/bin/true"] })) && starts(json!({ "systemd": ["*"] }))
        );
    }
}
