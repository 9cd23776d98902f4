//! Placeholders of a grant: `${services.postgres}`, `${databases.*}`, `${backup.dir}`.
//!
//! A placeholder stands for what the section needs of the system: a database is its name in `sql`,
//! its address in `net`, its secret in `secrets`. One that names nothing in this system stands for
//! no grant at all, never for an empty pattern.

use std::collections::BTreeMap;

use crate::error::{Error, Kind, Result};
use crate::host::permission::{Networks, Section};
use crate::host::secrets::names_in;
use crate::model::System;
use crate::model::system::{Log, Manager, Metric, Scaling, Services};

/// The program of the web server, where it runs in no container.
const WEB_SERVER: &str = "/usr/sbin/nginx";

/// An object with the networks it may resolve to.
type Expanded = (String, Networks);

/// The objects an entry stands for in this system.
pub(super) fn expand(section: &Section, text: &str, system: &System) -> Result<Vec<Expanded>> {
    let Some((before, rest)) = text.split_once("${") else {
        return Ok(vec![(text.to_owned(), Networks::default())]);
    };
    let Some((placeholder, after)) = rest.split_once('}') else {
        return Err(Error::new(Kind::Invalid, format!("allow.{}: `{text}` has a `${{` without its `}}`", section.name)));
    };
    let mut all = Vec::new();
    for (value, networks) in resolve(section, placeholder, system)? {
        for (rest, more) in expand(section, after, system)? {
            let networks = more.names().iter().try_fold(networks.clone(), |networks, name| networks.and(name))?;
            all.push((format!("{before}{value}{rest}"), networks));
        }
    }
    Ok(all)
}

fn resolve(section: &Section, placeholder: &str, system: &System) -> Result<Vec<Expanded>> {
    if placeholder == "system" {
        return Ok(vec![(system.name.clone(), Networks::default())]);
    }
    let (table, key) = placeholder.split_once('.').unwrap_or((placeholder, "*"));
    let plain = |values: Vec<String>| Ok(values.into_iter().map(|value| (value, Networks::default())).collect());
    match (table, section.name) {
        ("services", "fs") => plain(if key == "*" { compose_files(&system.services) } else { Vec::new() }),
        ("services", "k8s") => plain(deployments(&system.services, keys(&system.services.each, key))),
        ("restartable", "k8s") => plain(deployments(&system.services, restartable(system, key))),
        ("scaling", "k8s") => plain(deployments(&system.services, pick_keys(&system.scaling, key, |scaling| scaling.owner.is_none()))),
        ("owners", "k8s") => plain(owners(system, key)),
        ("logs", "k8s") => plain(deployments(&system.services, pick(&system.logs, key, |log| log.service.clone()))),
        ("services", _) => plain(keys(&system.services.each, key)),
        ("restartable", _) => plain(restartable(system, key)),
        ("contacts", _) => plain(keys(&system.contacts, key)),
        ("databases", "net") => plain(pick(&system.databases, key, |d| Some(format!("{}:{}", d.host, d.port)))),
        ("databases", "docker" | "systemd") => plain(pick(&system.databases, key, |d| d.service.clone())),
        ("databases", "secrets") => plain(pick_all(&system.databases, key, |d| secrets_of(d.password.as_deref()))),
        ("databases", _) => plain(keys(&system.databases, key)),
        ("caches", "net") => plain(pick(&system.caches, key, |c| Some(format!("{}:{}", c.host, c.port)))),
        ("caches", _) => plain(keys(&system.caches, key)),
        ("remediation", _) => plain(pick(&system.remediation, key, |policy| Some(policy.runbook.clone()))),
        ("hosts", "net") => plain(pick(&system.hosts, key, |host| Some(host.address.clone()))),
        ("hosts", _) => plain(keys(&system.hosts, key)),
        ("endpoints", "prom") => plain(keys(&system.endpoints, key)),
        ("endpoints", _) => with_network(&system.endpoints, key, |e| Some(e.url.clone()), |e| e.network.as_deref()),
        ("metrics", "http") => pages(system, key),
        ("metrics", "sql") => plain(pick(&system.metrics, key, |metric| metric.database.clone())),
        ("metrics", "redis") => plain(pick(&system.metrics, key, |metric| metric.cache.clone())),
        ("metrics", "fs") => plain(pick_all(&system.metrics, key, |metric| {
            log_of(metric, system).and_then(|log| log.path.as_deref()).map(parts_of_log).unwrap_or_default()
        })),
        ("metrics", "docker" | "systemd") => plain(pick(&system.metrics, key, |metric| {
            log_of(metric, system).filter(|log| log.path.is_none())?.service.clone()
        })),
        ("certificates", "net") => with_network(&system.certificates, key, |c| c.served.clone(), |c| c.network.as_deref()),
        ("certificates", _) => plain(pick_all(&system.certificates, key, |c| c.file.iter().chain(&c.ca).cloned().collect())),
        ("renewals", _) => plain(renewals(section.name, system, key)),
        ("cleanups", _) => plain(pick(&system.maintenance.cleanup, key, |cleanup| Some(cleanup.path.clone()))),
        ("logs", "fs") => plain(pick_all(&system.logs, key, |log| log.path.as_deref().map(parts_of_log).unwrap_or_default())),
        ("logs", _) => plain(pick(&system.logs, key, |log| log.service.clone())),
        ("paths", _) => plain(pick(&system.paths, key, |path| Some(path.clone()))),
        ("checklists", _) => plain(pick_all(&system.checklists, key, |items| items.iter().filter_map(|item| item.run.clone()).collect())),
        // What something else scales is left to that.
        ("scaling", _) => plain(pick_keys(&system.scaling, key, |scaling| scaling.owner.is_none())),
        ("routes", _) => plain(routes(system, key)),
        ("backup", _) => plain(backup(system, key)?),
        _ => Err(Error::new(Kind::Invalid, format!("allow.{}: unknown placeholder `${{{placeholder}}}`", section.name)).hint(
            "there are system, services, restartable, databases, caches, hosts, endpoints, metrics, certificates, renewals, logs, paths, scaling, owners, checklists, cleanups, remediation, contacts, routes and backup, each with `.NAME` or `.*`",
        )),
    }
}

fn keys<T>(table: &BTreeMap<String, T>, key: &str) -> Vec<String> {
    table.keys().filter(|name| key == "*" || *name == key).cloned().collect()
}

fn pick_keys<T>(table: &BTreeMap<String, T>, key: &str, is_meant: impl Fn(&T) -> bool) -> Vec<String> {
    table.iter().filter(|(name, entry)| (key == "*" || *name == key) && is_meant(entry)).map(|(name, _)| name.clone()).collect()
}

fn pick<T>(table: &BTreeMap<String, T>, key: &str, value: impl Fn(&T) -> Option<String>) -> Vec<String> {
    pick_all(table, key, |entry| value(entry).into_iter().collect())
}

fn pick_all<T>(table: &BTreeMap<String, T>, key: &str, values: impl Fn(&T) -> Vec<String>) -> Vec<String> {
    table
        .iter()
        .filter(|(name, _)| key == "*" || *name == key)
        .flat_map(|(_, entry)| values(entry))
        .filter(|value| !value.is_empty())
        .collect()
}

/// The files that say what the services are.
fn compose_files(services: &Services) -> Vec<String> {
    let path = |file: &String| if file.starts_with('/') { file.clone() } else { format!("{}/{file}", services.directory) };
    services.files.iter().map(path).filter(|path| path.starts_with('/')).collect()
}

/// The files of a log: `/d/app.log*` for `app.log.1` and `app.log-20261120.gz`, and for the names that have
/// the tag before the extension `/d/app-*.log*` and its like. `/d/app*` would be other logs too.
fn parts_of_log(path: &str) -> Vec<String> {
    let path = path.trim_end_matches('*');
    let mut parts = vec![format!("{path}*")];
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    if let Some((stem, extension)) = name.rsplit_once('.')
        && !stem.is_empty()
        && !extension.is_empty()
    {
        parts.extend(['-', '_', '.'].map(|separator| format!("{directory}/{stem}{separator}*.{extension}*")));
    }
    parts
}

fn with_network<T>(
    table: &BTreeMap<String, T>,
    key: &str,
    value: impl Fn(&T) -> Option<String>,
    network: impl Fn(&T) -> Option<&str>,
) -> Result<Vec<Expanded>> {
    let mut all = Vec::new();
    for (_, entry) in table.iter().filter(|(name, _)| key == "*" || *name == key) {
        let Some(value) = value(entry).filter(|value| !value.is_empty()) else { continue };
        let networks = network(entry).map_or(Ok(Networks::default()), |name| Networks::default().and(name))?;
        all.push((value, networks));
    }
    Ok(all)
}

/// What the renewals of certificates need: their files in `fs`, what they start in `exec`, the web server in `docker`.
fn renewals(section: &str, system: &System, key: &str) -> Vec<String> {
    let in_containers = system.services.manager == Manager::Compose;
    pick_all(&system.certificates, key, |certificate| {
        let (Some(renewal), Some(file)) = (&certificate.renewal, &certificate.file) else { return Vec::new() };
        match section {
            "fs" => {
                let pair = [file, &renewal.key].into_iter().flat_map(|path| [path.clone(), format!("{path}.before")]);
                pair.chain([renewal.directory.clone()]).collect()
            }
            "exec" => {
                let server = (!in_containers && renewal.service.is_some()).then(|| WEB_SERVER.to_owned());
                renewal.command.first().cloned().into_iter().chain(server).collect()
            }
            "docker" if in_containers => renewal.service.iter().cloned().collect(),
            _ => Vec::new(),
        }
    })
}

/// The pages that tell metrics; the networks are those of their endpoints.
fn pages(system: &System, key: &str) -> Result<Vec<Expanded>> {
    let mut all = Vec::new();
    for (_, metric) in system.metrics.iter().filter(|(name, _)| key == "*" || *name == key) {
        let Some(url) = metric.url(system).filter(|url| !url.is_empty()) else { continue };
        let network = metric.endpoint.as_ref().and_then(|name| system.endpoints.get(name)?.network.as_deref());
        all.push((url, network.map_or(Ok(Networks::default()), |name| Networks::default().and(name))?));
    }
    Ok(all)
}

fn log_of<'s>(metric: &Metric, system: &'s System) -> Option<&'s Log> {
    system.logs.get(metric.log.as_ref()?)
}

fn secrets_of(text: Option<&str>) -> Vec<String> {
    text.map(|text| names_in(text).map(str::to_owned).collect()).unwrap_or_default()
}

/// The deployments of these services, as the permissions of a cluster name them; none where no cluster runs them.
fn deployments(services: &Services, names: Vec<String>) -> Vec<String> {
    let unit = |name: &String| services.each.get(name).and_then(|service| service.unit.clone()).unwrap_or_else(|| name.clone());
    let names = names.iter().filter(|_| services.manager == Manager::Kubernetes && !services.namespace.is_empty());
    names.map(|name| format!("{}/deployment/{}", services.namespace, unit(name))).collect()
}

/// The autoscalers whose bounds are to be those of the system file.
fn owners(system: &System, key: &str) -> Vec<String> {
    let services = &system.services;
    if services.manager != Manager::Kubernetes || services.namespace.is_empty() {
        return Vec::new();
    }
    let owner = |scaling: &Scaling| scaling.owner.clone().filter(|owner| scaling.bounds == "apply" && owner.starts_with("hpa/"));
    pick(&system.scaling, key, owner).into_iter().map(|owner| format!("{}/{owner}", services.namespace)).collect()
}

/// The services that may be restarted without a person.
fn restartable(system: &System, key: &str) -> Vec<String> {
    let each = system.services.each.iter().filter(|(name, service)| service.restartable && (key == "*" || *name == key));
    each.map(|(name, _)| name.clone()).collect()
}

fn routes(system: &System, key: &str) -> Vec<String> {
    let mut contacts = pick_all(&system.routes, key, Clone::clone);
    contacts.sort();
    contacts.dedup();
    contacts
}

fn backup(system: &System, key: &str) -> Result<Vec<String>> {
    let Some(backup) = &system.backup else { return Ok(Vec::new()) };
    match key {
        "dir" => Ok(vec![backup.dir.clone()].into_iter().filter(|dir| !dir.is_empty()).collect()),
        "remote" => Ok(backup.remote.clone().into_iter().collect()),
        "secrets" => Ok(backup.secrets.clone()),
        other => {
            Err(Error::new(Kind::Invalid, format!("unknown placeholder `${{backup.{other}}}`"))
                .hint("there are `dir`, `remote` and `secrets`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::permission::section;
    use crate::model::system::{Backup, Certificate, Database, Endpoint, Item, MetricKind, Renewal, Service};

    fn system() -> System {
        let each = [("api", true), ("postgres", false), ("web", true)]
            .map(|(name, restartable)| (name.to_owned(), Service { restartable, ..Service::default() }));
        let main = Database { host: "db".into(), port: 5432, service: Some("postgres".into()), ..Database::default() };
        System {
            name: "shop".to_owned(),
            databases: [("main".to_owned(), main)].into(),
            endpoints: [(
                "api".to_owned(),
                Endpoint { url: "http://api:8000/health".into(), network: Some("private".into()), ..Endpoint::default() },
            )]
            .into(),
            logs: [
                ("app".to_owned(), Log { path: Some("/d/app.log".into()), ..Log::default() }),
                ("plain".to_owned(), Log { path: Some("/d/messages".into()), ..Log::default() }),
                ("web".to_owned(), Log { service: Some("frontend".into()), ..Log::default() }),
            ]
            .into(),
            metrics: [
                ("app".to_owned(), Metric { endpoint: Some("api".into()), path: Some("/metrics".into()), ..Metric::default() }),
                ("users".to_owned(), Metric { kind: MetricKind::Sql, database: Some("main".into()), ..Metric::default() }),
                ("errors".to_owned(), Metric { kind: MetricKind::Log, log: Some("plain".into()), ..Metric::default() }),
                ("pages".to_owned(), Metric { kind: MetricKind::Log, log: Some("web".into()), ..Metric::default() }),
            ]
            .into(),
            services: Services {
                directory: "/opt/shop".into(),
                files: vec!["compose.yml".into(), "/etc/more.yml".into()],
                each: each.into(),
                ..Services::default()
            },
            scaling: [
                ("web".to_owned(), Scaling::default()),
                ("api".to_owned(), Scaling { owner: Some("hpa/api".into()), ..Scaling::default() }),
            ]
            .into(),
            checklists: [(
                "daily".to_owned(),
                vec![
                    Item { run: Some("check-health".into()), ..Item::default() },
                    Item { newest: Some("backup".into()), ..Item::default() },
                ],
            )]
            .into(),
            backup: Some(Backup { dir: "/backup/shop".into(), ..Backup::default() }),
            ..System::default()
        }
    }

    fn objects(name: &str, text: &str) -> Vec<String> {
        expand(section(name).unwrap(), text, &system()).unwrap().into_iter().map(|(object, _)| object).collect()
    }

    #[test]
    fn a_placeholder_stands_for_what_its_section_needs() {
        assert_eq!(objects("sql", "${databases.*}"), ["main"]);
        assert_eq!(objects("net", "${databases.main}"), ["db:5432"]);
        assert_eq!(objects("docker", "start:${databases.*}"), ["start:postgres"]);
        assert_eq!(objects("docker", "${restartable.*}"), ["api", "web"]);
        assert_eq!(objects("systemd", "${restartable.web}"), ["web"]);
        assert!(objects("docker", "${restartable.postgres}").is_empty());
        assert_eq!(objects("fs", "${backup.dir}/sets"), ["/backup/shop/sets"]);
        assert_eq!(objects("store", "health/${system}/"), ["health/shop/"]);
        assert_eq!(objects("fs", "${services.*}"), ["/opt/shop/compose.yml", "/etc/more.yml"]);
        assert_eq!(objects("docker", "scale:${scaling.*}"), ["scale:web"]);
        assert_eq!(objects("http", "${metrics.*}"), ["http://api:8000/metrics"]);
        assert_eq!(objects("sql", "${metrics.*}"), ["main"]);
        assert_eq!(objects("fs", "${metrics.*}"), ["/d/messages*"]);
        assert_eq!(objects("docker", "logs:${metrics.*}"), ["logs:frontend"]);
        assert_eq!(objects("runs", "${checklists.*}"), ["check-health"]);
        assert_eq!(expand(section("http").unwrap(), "${endpoints.api}", &system()).unwrap()[0].1.names(), ["private"]);
    }

    #[test]
    fn a_renewal_is_its_files_its_program_and_its_web_server() {
        let renewal = Renewal {
            command: vec!["/usr/bin/certbot".into(), "renew".into()],
            directory: "/etc/letsencrypt".into(),
            key: "/d/key.pem".into(),
            service: Some("web".into()),
            ..Renewal::default()
        };
        let public = Certificate { file: Some("/d/cert.pem".into()), renewal: Some(renewal), ..Certificate::default() };
        let other = Certificate { file: Some("/d/other.pem".into()), ..Certificate::default() };
        let mut system = System { certificates: [("public".to_owned(), public), ("other".to_owned(), other)].into(), ..System::default() };
        let objects = |system: &System, name: &str, text: &str| -> Vec<String> {
            expand(section(name).unwrap(), text, system).unwrap().into_iter().map(|(object, _)| object).collect()
        };
        let files = ["/d/cert.pem", "/d/cert.pem.before", "/d/key.pem", "/d/key.pem.before", "/etc/letsencrypt"];
        system.services.manager = Manager::Compose;
        assert_eq!(objects(&system, "fs", "${renewals.*}"), files);
        assert_eq!(objects(&system, "exec", "host:${renewals.*}"), ["host:/usr/bin/certbot"]);
        assert_eq!(objects(&system, "docker", "exec:${renewals.*}"), ["exec:web"]);
        system.services.manager = Manager::Systemd;
        assert_eq!(objects(&system, "exec", "host:${renewals.*}"), ["host:/usr/bin/certbot", "host:/usr/sbin/nginx"]);
        assert!(objects(&system, "docker", "exec:${renewals.*}").is_empty());
        assert!(objects(&system, "fs", "${renewals.other}").is_empty());
    }

    #[test]
    fn services_of_a_cluster_are_deployments_of_its_namespace() {
        let mut system = system();
        let of = |system: &System, text: &str| -> Vec<String> {
            expand(section("k8s").unwrap(), text, system).unwrap().into_iter().map(|(object, _)| object).collect()
        };
        assert!(of(&system, "read:${services.*}").is_empty(), "compose has no deployments");
        system.services.manager = Manager::Kubernetes;
        system.services.namespace = "shop".into();
        system.services.each.get_mut("web").unwrap().unit = Some("shop-web".into());
        assert_eq!(
            of(&system, "read:${services.*}"),
            ["read:shop/deployment/api", "read:shop/deployment/postgres", "read:shop/deployment/shop-web"]
        );
        assert_eq!(of(&system, "restart:${restartable.web}"), ["restart:shop/deployment/shop-web"]);
        assert_eq!(of(&system, "scale:${scaling.*}"), ["scale:shop/deployment/shop-web"]);
        assert!(of(&system, "bounds:${owners.*}").is_empty(), "the system file does not say that its bounds are to be applied");
        system.scaling.get_mut("api").unwrap().bounds = "apply".into();
        assert_eq!(of(&system, "bounds:${owners.*}"), ["bounds:shop/hpa/api"]);
    }

    #[test]
    fn what_the_system_does_not_have_grants_nothing() {
        assert!(objects("sql", "${databases.other}").is_empty());
        assert!(objects("redis", "${caches.*}").is_empty());
    }

    #[test]
    fn a_log_is_its_rotated_parts_too_and_no_other_log() {
        let granted = objects("fs", "${logs.app}");
        let may = |path: &str| granted.iter().any(|object| crate::host::permission::pattern::path(object, path.as_ref()));
        for part in ["app.log", "app.log.1", "app.log.2.gz", "app.log-20261120", "app-2026-11-20.log.gz", "app_20261120.log", "app.1.log"] {
            assert!(may(&format!("/d/{part}")), "{part}");
        }
        for other in ["/d/application.log", "/d/app", "/d/app-secrets.txt", "/e/app.log", "/d/myapp.log"] {
            assert!(!may(other), "{other}");
        }
        assert_eq!(objects("fs", "${logs.plain}"), ["/d/messages*"]);
        assert!(objects("fs", "${logs.web}").is_empty());
        assert_eq!(objects("docker", "${logs.web}"), ["frontend"]);
    }

    #[test]
    fn an_unknown_placeholder_is_an_error() {
        assert!(expand(section("sql").unwrap(), "${database.main}", &system()).is_err());
    }
}
