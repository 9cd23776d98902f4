//! What types can not say about a system: references between tables, ranges, things that are dangerous.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use url::Url;

use crate::config::METRICS;
use crate::config::node::Node;
use crate::error::{Error, Kind};
use crate::model::system::{Contact, Manager, Metric, MetricKind, Renewal, Rule, RuleKind};
use crate::model::{Selector, Series, Span, System};

const SEVERITIES: [&str; 5] = ["sev1", "sev2", "sev3", "sev4", "sev5"];
const LEVELS: [&str; 3] = ["warning", "critical", "unknown"];
const LOG_FORMATS: [&str; 7] = ["app", "nginx", "nginx-error", "syslog", "postgres", "security", "json"];
/// The keys of a source that only some kinds have.
const SOURCE_KEYS: [&str; 12] =
    ["endpoint", "path", "only", "field", "series", "database", "query", "log", "pattern", "window", "cache", "hash"];
/// The longest that a source may take: nobody waits for longer.
const LONGEST_QUESTION: Duration = Duration::from_secs(25);
const TLS_MODES: [&str; 4] = ["disable", "prefer", "require", "require-noverify"];

/// Checks a system against itself.
pub(super) fn check(root: &Node, system: &System, errors: &mut Vec<Error>, warnings: &mut Vec<Error>) {
    let mut check = Check { root, errors, warnings };
    check.head(system);
    check.services(system);
    check.databases(system);
    check.caches(system);
    check.endpoints(system);
    check.certificates(system);
    check.logs(system);
    check.metrics(system);
    check.backup(system);
    check.thresholds(system);
    for (name, rule) in &system.rules {
        check.rule(name, rule);
    }
    check.people(system);
    check.schedules(system);
    check.remediation(system);
    check.cluster(system);
    check.maintenance(system);
    check.scaling(system);
    check.checklists(system);
    check.absolute_paths(system);
}

struct Check<'c> {
    root: &'c Node,
    errors: &'c mut Vec<Error>,
    warnings: &'c mut Vec<Error>,
}

impl Check<'_> {
    /// Tells that the value at a path is wrong; once for each value, and at the nearest table when there is none.
    fn wrong(&mut self, path: &[&str], what: impl std::fmt::Display, hint: &str) {
        let error = Error::new(Kind::Config, format!("`{}`: {what}", path.join(".")));
        self.tell(path, if hint.is_empty() { error } else { error.hint(hint) });
    }

    fn tell(&mut self, path: &[&str], error: Error) {
        let mut depth = path.len();
        while self.root.at(&path[..depth]).is_none() {
            depth -= 1;
        }
        let place = self.root.at(&path[..depth]).unwrap_or(self.root).place.clone();
        let told = depth == path.len() && self.errors.iter().any(|error| error.at.as_ref() == Some(&place));
        if !told {
            self.errors.push(error.at(place));
        }
    }

    /// A text that has to be one of some words.
    fn word(&mut self, path: &[&str], found: &str, known: &[&str]) {
        if !found.is_empty() && !known.contains(&found) {
            let error = Error::new(Kind::Config, format!("`{}`: found `{found}`", path.join(".")));
            self.tell(path, error.suggest(found, known));
        }
    }

    /// The name of an entry of another table. The tree is asked and not the system, from which wrong entries are missing.
    fn reference(&mut self, path: &[&str], name: &str, table: &str) {
        let known: Vec<String> = match (table, self.root.at(&[table])) {
            ("services", Some(node)) => node.entries().filter(|(_, entry)| !entry.is_plain()).map(|(name, _)| name.to_owned()).collect(),
            (_, Some(node)) => node.entries().map(|(name, _)| name.to_owned()).collect(),
            (_, None) => Vec::new(),
        };
        if !known.iter().any(|known| known == name) {
            let error = Error::new(Kind::Config, format!("`{}`: there is no `{table}.{name}`", path.join(".")));
            let error = error.suggest(name, &known);
            match self.root.at(path) {
                // The key itself is the reference.
                Some(node) if path.last() == Some(&name) => self.errors.push(error.at(node.key.clone())),
                _ => self.tell(path, error),
            }
        }
    }

    fn service(&mut self, path: &[&str], name: Option<&String>) {
        if let Some(name) = name {
            self.reference(path, name, "services");
        }
    }

    fn zone(&mut self, path: &[&str], name: Option<&str>) {
        if let Some(name) = name.filter(|name| !name.is_empty())
            && !is_zone(name)
        {
            self.wrong(path, format!("unknown time zone `{name}`"), "write an IANA name, like `Asia/Shanghai` or `UTC`");
        }
    }

    fn server(&mut self, path: [&str; 2], host: &str, port: u16) {
        if host.is_empty() {
            self.wrong(&[path[0], path[1], "host"], "there is no host", "");
        }
        if port == 0 {
            self.wrong(&[path[0], path[1], "port"], "found 0, expected 1 to 65535", "");
        }
    }

    /// A password must be a reference: what stands in a file or in the environment ends up in journals.
    fn secret(&mut self, path: &[&str], text: Option<&String>) {
        if text.is_some_and(|text| !(text.starts_with("${secret:") && text.ends_with('}'))) {
            self.wrong(path, "a secret stands in the file", "write `${secret:NAME}` and say in `runbook.toml` where NAME comes from");
        }
    }

    fn network(&mut self, path: &[&str], network: Option<&String>) {
        let Some(network) = network else { return };
        let cidr = |text: &str| {
            let (address, bits) = text.split_once('/')?;
            let (address, bits) = (address.parse::<std::net::IpAddr>().ok()?, bits.parse::<u8>().ok()?);
            (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(())
        };
        if !matches!(network.as_str(), "loopback" | "private") && cidr(network).is_none() {
            self.wrong(path, format!("found `{network}`"), "write `loopback`, `private` or a network like `10.0.1.0/24`");
        }
    }

    fn host_port(&mut self, path: &[&str], text: Option<&String>) {
        let Some(text) = text else { return };
        let fine = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
        if !fine {
            self.wrong(path, format!("found `{text}`, expected `host:port`"), "");
        }
    }

    fn absolute(&mut self, path: &[&str], text: &str) {
        if !text.starts_with('/') || text.split('/').any(|part| part == "..") {
            self.wrong(path, format!("found `{text}`, expected an absolute path without `..`"), "");
        }
    }

    fn head(&mut self, system: &System) {
        self.word(&["language"], &system.language, &["en", "zh"]);
        self.zone(&["timezone"], Some(&system.timezone));
    }

    fn services(&mut self, system: &System) {
        let services = &system.services;
        let missing = match services.manager {
            Manager::Compose if services.files.is_empty() && services.project.is_empty() => Some("files"),
            Manager::Kubernetes if services.namespace.is_empty() => Some("namespace"),
            _ => None,
        };
        if let Some(missing) = missing {
            self.wrong(&["services"], format!("there is no `{missing}`, which its manager needs"), "");
        }
        for (name, service) in &services.each {
            for (at, need) in service.needs.iter().enumerate() {
                self.reference(&["services", name, "needs", &at.to_string()], need, "services");
            }
            let needs = |name: &str| services.each.get(name).map(|service| service.needs.as_slice()).unwrap_or_default();
            if comes_back(name, needs) {
                self.wrong(&["services", name, "needs"], "services need each other in a circle", "");
            }
        }
        if let Some(release) = &system.release {
            for name in release.images.keys() {
                self.reference(&["release", "images", name], name, "services");
            }
        }
    }

    fn databases(&mut self, system: &System) {
        for (name, database) in &system.databases {
            self.server(["databases", name], &database.host, database.port);
            if database.name.is_empty() {
                self.wrong(&["databases", name, "name"], "there is no name of the database", "");
            }
            self.word(&["databases", name, "tls"], &database.tls, &TLS_MODES);
            self.secret(&["databases", name, "password"], database.password.as_ref());
            self.service(&["databases", name, "service"], database.service.as_ref());
        }
    }

    fn caches(&mut self, system: &System) {
        for (name, cache) in &system.caches {
            self.server(["caches", name], &cache.host, cache.port);
            self.secret(&["caches", name, "password"], cache.password.as_ref());
            self.service(&["caches", name, "service"], cache.service.as_ref());
            if let Some(Err(error)) = cache.max_memory.as_ref().map(|text| text.parse::<crate::model::Size>()) {
                self.wrong(&["caches", name, "max_memory"], error.message, "write it like `512MiB`");
            }
        }
    }

    fn endpoints(&mut self, system: &System) {
        for (name, endpoint) in &system.endpoints {
            let at = |key| ["endpoints", name.as_str(), key];
            self.url(&at("url"), &endpoint.url);
            for (index, status) in endpoint.status.iter().enumerate().filter(|(_, status)| !(100..600).contains(*status)) {
                self.wrong(&["endpoints", name, "status", &index.to_string()], format!("found {status}, expected 100 to 599"), "");
            }
            self.network(&at("network"), endpoint.network.as_ref());
            self.host_port(&at("connect"), endpoint.connect.as_ref());
            self.service(&at("service"), endpoint.service.as_ref());
        }
    }

    fn url(&mut self, path: &[&str], text: &str) {
        if text.starts_with("${secret:") {
            return;
        }
        let fine = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !fine {
            self.wrong(path, format!("found `{text}`, expected an http or https address"), "");
        }
    }

    fn certificates(&mut self, system: &System) {
        for (name, certificate) in &system.certificates {
            if certificate.file.is_none() && certificate.served.is_none() {
                self.wrong(&["certificates", name], "there is no `file` and no `served`", "one of them says where the certificate is");
            }
            self.host_port(&["certificates", name, "served"], certificate.served.as_ref());
            self.network(&["certificates", name, "network"], certificate.network.as_ref());
            if let Some(renewal) = &certificate.renewal {
                self.renewal(name, certificate.file.is_some(), renewal);
            }
        }
    }

    fn renewal(&mut self, name: &str, has_file: bool, renewal: &Renewal) {
        let at = |key| ["certificates", name, "renewal", key];
        if !has_file {
            self.wrong(&["certificates", name, "renewal"], "the certificate has no `file`", "it says where the new one is installed");
        }
        self.absolute(&at("directory"), &renewal.directory);
        self.absolute(&at("key"), &renewal.key);
        match renewal.command.first() {
            Some(program) => self.absolute(&at("command"), program),
            None => self.wrong(&at("command"), "there is no program", "give it with its arguments, as a list"),
        }
        self.service(&at("service"), renewal.service.as_ref());
    }

    fn logs(&mut self, system: &System) {
        for (name, log) in &system.logs {
            if log.path.is_none() && log.service.is_none() {
                self.wrong(&["logs", name], "there is no `path` and no `service`", "one of them says where the lines are");
            }
            self.word(&["logs", name, "format"], &log.format, &LOG_FORMATS);
            self.zone(&["logs", name, "timezone"], log.timezone.as_deref());
            self.service(&["logs", name, "service"], log.service.as_ref());
        }
    }

    fn metrics(&mut self, system: &System) {
        for (name, metric) in &system.metrics {
            self.metric(name, metric);
            let Some(series) = metric.only_series(name) else { continue };
            let mut before = system.metrics.iter().take_while(|(other, _)| *other != name);
            if let Some((other, _)) = before.find(|(other, metric)| metric.only_series(other).as_ref() == Some(&series)) {
                self.wrong(
                    &["metrics", name],
                    format!("`metrics.{other}` tells `{series}` already"),
                    "give one of them a `series` or a label",
                );
            }
        }
    }

    fn metric(&mut self, name: &str, metric: &Metric) {
        let at = |key| ["metrics", name, key];
        let (kind, needs, takes) = (metric.kind.name(), metric.kind.needs(), metric.kind.takes());
        for key in needs.iter().filter(|key| self.root.at(&at(key)).is_none()) {
            self.wrong(&at(key), format!("there is no `{key}`, which the kind `{kind}` needs"), "");
        }
        let given: Vec<String> =
            self.root.at(&["metrics", name]).map(|node| node.entries().map(|(key, _)| key.to_owned()).collect()).unwrap_or_default();
        for key in given.iter().filter(|key| SOURCE_KEYS.contains(&key.as_str())) {
            if !needs.contains(&key.as_str()) && !takes.contains(&key.as_str()) {
                self.wrong(&at(key), format!("the kind `{kind}` has none"), "leave it out, or write another `kind`");
            }
        }
        let references = [
            ("endpoint", &metric.endpoint, "endpoints"),
            ("database", &metric.database, "databases"),
            ("log", &metric.log, "logs"),
            ("cache", &metric.cache, "caches"),
        ];
        for (key, found, table) in references {
            if let Some(found) = found {
                self.reference(&at(key), found, table);
            }
        }
        if let Some(path) = metric.path.as_ref().filter(|path| !path.starts_with('/') || path.starts_with("//")) {
            self.wrong(
                &at("path"),
                format!("found `{path}`, expected a path that begins with one `/`"),
                "its host is that of the endpoint",
            );
        }
        for (index, only) in metric.only.iter().enumerate() {
            self.selector(&["metrics", name, "only", &index.to_string()], only);
        }
        if let Some(Err(error)) = metric.pattern.as_ref().map(|pattern| regex::Regex::new(pattern)) {
            self.wrong(&at("pattern"), format!("it is no expression: {}", error.to_string().lines().last().unwrap_or_default()), "");
        }
        let is_series = |text: &str| text.parse::<Series>().is_ok_and(|series| series.labels.is_empty());
        let is_named = matches!(metric.kind, MetricKind::Json | MetricKind::Sql | MetricKind::Log);
        if is_named && !is_series(metric.series_name(name)) {
            let path = if metric.series.is_some() { at("series").to_vec() } else { vec!["metrics", name] };
            self.wrong(&path, format!("`{}` is no name of a series", metric.series_name(name)), "write `series = \"orders_open\"`");
        }
        for label in metric.labels.keys() {
            let path = ["metrics", name, "labels", label];
            if label == "system" || label.starts_with("__") {
                self.wrong(&path, "this label is ours", "call it something else");
            } else if !is_series(label) || label.contains(':') {
                self.wrong(&path, format!("`{label}` is no name of a label"), "letters, digits and `_`");
            }
        }
        self.pace(name, metric);
    }

    fn pace(&mut self, name: &str, metric: &Metric) {
        let (every, timeout) = (metric.every(), metric.timeout());
        if every < Duration::from_secs(1) {
            self.wrong(&["metrics", name, "every"], format!("found {}, expected at least 1 s", Span(every)), "");
        }
        if timeout.is_zero() || timeout > LONGEST_QUESTION {
            self.wrong(&["metrics", name, "timeout"], format!("found {}, expected at most {}", Span(timeout), Span(LONGEST_QUESTION)), "");
        } else if timeout > every && metric.timeout.is_some() {
            self.wrong(&["metrics", name, "timeout"], format!("it may take {}, and is asked every {}", Span(timeout), Span(every)), "");
        }
        if metric.window.is_some_and(|window| window.0 < Duration::from_secs(1)) {
            self.wrong(&["metrics", name, "window"], "it is too short to count anything", "write at least `1m`");
        }
    }

    fn backup(&mut self, system: &System) {
        let Some(backup) = &system.backup else { return };
        self.absolute(&["backup", "dir"], &backup.dir);
        // Retention deletes below it (D-X-01): a directory that others may share is none for sets.
        let depth = backup.dir.split('/').filter(|part| !matches!(*part, "" | ".")).count();
        if depth < 2 {
            self.wrong(
                &["backup", "dir"],
                format!("`{}` may hold what is not this system's", backup.dir),
                "give the system a directory of its own, like `/backup/NAME`",
            );
        }
        if let Some(remote) = &backup.remote {
            let prefix = remote.strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
            if !prefix.is_some_and(|(bucket, prefix)| !bucket.is_empty() && !prefix.trim_matches('/').is_empty()) {
                self.wrong(
                    &["backup", "remote"],
                    format!("found `{remote}`, expected `s3://bucket/prefix`"),
                    "without a prefix, retention would be about the whole bucket",
                );
            }
        }
        if backup.keep_min == Some(0) {
            self.wrong(&["backup", "keep_min"], "found 0, expected at least 1", "the last good set must stay");
        }
    }

    fn thresholds(&mut self, system: &System) {
        for (name, threshold) in &system.thresholds {
            if !METRICS.iter().any(|metric| metric.name == name) {
                let place = self.root.at(&["thresholds", name]).unwrap_or(self.root).key.clone();
                let warning = Error::new(Kind::Config, format!("`thresholds.{name}`: no such metric is measured by this program"));
                self.warnings.push(warning.suggest(name, METRICS.iter().map(|metric| metric.name)).at(place));
            }
            if let (Some(warn), Some(alarm)) = (threshold.warn, threshold.alarm)
                && (if threshold.below { warn < alarm } else { warn > alarm })
            {
                let side = if threshold.below { "below" } else { "above" };
                self.wrong(&["thresholds", name, "warn"], format!("{warn} is {side} the alarm at {alarm}: it would never warn first"), "");
            }
        }
    }

    fn rule(&mut self, name: &str, rule: &Rule) {
        let at = |key| ["rules", name, key];
        if rule.series.is_empty() {
            self.wrong(&at("series"), "there is no series", "");
        } else {
            self.selector(&at("series"), &rule.series);
        }
        if let Some(total) = &rule.total {
            self.selector(&at("total"), total);
        }
        if rule.over.is_some() && rule.kind != RuleKind::Value {
            self.wrong(&at("over"), "only the kind `value` has one", "leave it out");
        }
        if rule.over.is_some() && rule.window.is_none() {
            self.wrong(&at("window"), "there is no window to take it over", "");
        }
        if let Some(clear) = rule.clear
            && !(rule.above.is_some_and(|above| clear < above) || rule.below.is_some_and(|below| clear > below))
        {
            self.wrong(&at("clear"), format!("{clear} is not on the good side of the limit"), "");
        }
        self.service(&at("service"), rule.service.as_ref());
        if matches!(rule.kind, RuleKind::Ratio | RuleKind::Share | RuleKind::Used) && rule.total.is_none() {
            self.wrong(&at("total"), "there is no total to divide by", "");
        }
        if matches!(rule.kind, RuleKind::Rate | RuleKind::Ratio | RuleKind::Busy | RuleKind::Quantile) && rule.window.is_none() {
            self.wrong(&at("window"), "there is no window to take the rate over", "");
        }
        if rule.kind == RuleKind::Quantile && !rule.quantile.is_some_and(|quantile| (0.0..=1.0).contains(&quantile)) {
            self.wrong(&at("quantile"), "expected a number from 0 to 1", "");
        }
        match (rule.kind, rule.above, rule.below) {
            (RuleKind::Down, None, None) => {}
            (RuleKind::Down, ..) => {
                self.wrong(&["rules", name], "`down` is 0 and has no limit of its own", "leave `above` and `below` out");
            }
            (_, Some(_), None) | (_, None, Some(_)) => {}
            _ => self.wrong(&["rules", name], "expected one of `above` and `below`", ""),
        }
        self.word(&at("level"), &rule.level, &LEVELS);
        self.word(&at("severity"), &rule.severity, &SEVERITIES);
        if rule.level.is_empty() || rule.severity.is_empty() {
            self.wrong(&["rules", name], "there is no `level` or no `severity`", "");
        }
    }

    fn selector(&mut self, path: &[&str], text: &str) {
        if let Err(error) = text.parse::<Selector>() {
            let hint = error.hints.first().cloned().unwrap_or_default();
            self.wrong(path, error.message, &hint);
        }
    }

    fn people(&mut self, system: &System) {
        for (name, severity) in &system.severity {
            self.key("severity", name, &SEVERITIES);
            if let (Some(respond), Some(resolve)) = (severity.respond, severity.resolve)
                && resolve < respond
            {
                self.wrong(&["severity", name, "resolve"], "it would be resolved before someone responds", "");
            }
        }
        for (name, contacts) in &system.routes {
            self.key("routes", name, &[&SEVERITIES[..], &LEVELS[..], &["recovery", "report", "default"]].concat());
            for (at, contact) in contacts.iter().enumerate() {
                self.reference(&["routes", name, &at.to_string()], contact, "contacts");
            }
        }
        let fallback = |name: &str| system.contacts.get(name).and_then(Contact::fallback).map(std::slice::from_ref).unwrap_or_default();
        for (name, contact) in &system.contacts {
            let Some(other) = contact.fallback() else { continue };
            self.reference(&["contacts", name, "fallback"], other, "contacts");
            if comes_back(name, fallback) {
                self.wrong(&["contacts", name, "fallback"], "contacts fall back to each other in a circle", "");
            }
        }
        for (name, contact) in &system.contacts {
            self.contact(name, contact);
        }
    }

    fn contact(&mut self, name: &str, contact: &Contact) {
        match contact {
            Contact::Email { to, password, .. } => {
                self.secret(&["contacts", name, "password"], password.as_ref());
                if to.is_empty() {
                    self.wrong(&["contacts", name, "to"], "it goes to nobody", "");
                }
            }
            Contact::Dingtalk { url, secret, .. } => {
                self.secret(&["contacts", name, "secret"], secret.as_ref());
                self.url(&["contacts", name, "url"], url);
            }
            Contact::Sms { url, to, .. } => {
                self.url(&["contacts", name, "url"], url);
                if to.is_empty() {
                    self.wrong(&["contacts", name, "to"], "it goes to nobody", "");
                }
            }
            Contact::Slack { url, .. } | Contact::Webhook { url, .. } => self.url(&["contacts", name, "url"], url),
            Contact::Person { .. } => {}
        }
    }

    fn key(&mut self, table: &str, name: &str, known: &[&str]) {
        if !known.contains(&name) {
            let place = self.root.at(&[table, name]).unwrap_or(self.root).key.clone();
            let error = Error::new(Kind::Config, format!("unknown key `{table}.{name}`"));
            self.errors.push(error.suggest(name, known).at(place));
        }
    }

    fn schedules(&mut self, system: &System) {
        for (name, schedule) in &system.schedules {
            self.zone(&["schedules", name, "timezone"], schedule.timezone.as_deref());
            if let Some((key, what)) = schedule.problem() {
                let path = ["schedules", name.as_str(), key];
                // A key that could not be read was told about, and is not missing.
                let rules = ["cron", "every", "at"];
                let is_missing =
                    key.is_empty() && rules.iter().filter(|rule| self.root.at(&["schedules", name, rule]).is_some()).count() != 1;
                if is_missing {
                    self.wrong(&path[..2], what, "");
                } else if !key.is_empty() {
                    self.wrong(&path, what, "");
                }
            }
            for (at, calendar) in schedule.calendars.iter().enumerate() {
                self.reference(&["schedules", name, "calendars", &at.to_string()], calendar, "calendars");
            }
        }
        for (name, _) in system.groups.iter().filter(|(_, most)| **most == 0) {
            self.wrong(&["groups", name], "found 0, expected at least 1", "`enabled = false` turns a schedule off");
        }
    }

    fn remediation(&mut self, system: &System) {
        for (name, remediation) in &system.remediation {
            if remediation.runbook.is_empty() {
                self.wrong(&["remediation", name, "runbook"], "there is no runbook", "");
            }
            for (at, service) in remediation.services.iter().enumerate() {
                let at = at.to_string();
                let path = ["remediation", name, "services", &at];
                self.reference(&path, service, "services");
                if system.services.each.get(service).is_some_and(|service| !service.restartable) {
                    self.wrong(
                        &path,
                        format!("`services.{service}` is not restartable"),
                        "set `restartable = true` there, or leave it out",
                    );
                }
            }
        }
    }

    fn cluster(&mut self, system: &System) {
        let Some(cluster) = &system.cluster else {
            if system.services.manager == Manager::Kubernetes {
                let hint = "say how it is reached: `kubeconfig = \"/etc/…\"`, or `in_cluster = true`";
                self.wrong(&["services"], "there is no `[cluster]`, which its manager needs", hint);
            }
            return;
        };
        match &cluster.kubeconfig {
            Some(path) => self.absolute(&["cluster", "kubeconfig"], path),
            None if !cluster.in_cluster => {
                self.wrong(&["cluster"], "there is no `kubeconfig`", "name one, or write `in_cluster = true` for a pod of the cluster");
            }
            None if cluster.context.is_some() => {
                self.wrong(&["cluster", "context"], "a context is one of a `kubeconfig`, and there is none", "");
            }
            None => {}
        }
        if cluster.in_cluster && cluster.kubeconfig.is_some() {
            self.wrong(&["cluster", "in_cluster"], "there is a `kubeconfig` too", "only one of both can be meant");
        }
        self.secret(&["cluster", "token"], cluster.token.as_ref());
    }

    fn maintenance(&mut self, system: &System) {
        let maintenance = &system.maintenance;
        if maintenance.window.is_some() && maintenance.hold.is_none() {
            self.wrong(&["maintenance", "window"], "how long it is open is not said", "add `for = \"2h\"`");
        }
        for (at, calendar) in maintenance.calendars.iter().enumerate() {
            self.reference(&["maintenance", "calendars", &at.to_string()], calendar, "calendars");
        }
    }

    fn scaling(&mut self, system: &System) {
        for (name, scaling) in &system.scaling {
            self.word(&["scaling", name, "bounds"], &scaling.bounds, &["keep", "apply"]);
            if scaling.bounds == "apply" && scaling.owner.as_ref().is_none_or(|owner| !owner.starts_with("hpa/")) {
                self.wrong(&["scaling", name, "bounds"], "there is no autoscaler to apply them to", "name it: `owner = \"hpa/NAME\"`");
            }
            if !system.services.each.contains_key(name) {
                self.reference(&["scaling", name], name, "services");
            }
            if scaling.min > scaling.max || scaling.max == 0 {
                self.wrong(&["scaling", name, "max"], format!("found {} to {} replicas", scaling.min, scaling.max), "");
            }
            if scaling.down >= scaling.up {
                self.wrong(
                    &["scaling", name, "down"],
                    "it would scale up and down at the same value",
                    "leave room between `down` and `up`",
                );
            }
        }
    }

    fn checklists(&mut self, system: &System) {
        for (period, items) in &system.checklists {
            for (at, item) in items.iter().enumerate() {
                let at = at.to_string();
                let path = |key| ["checklists", period, &at, key];
                if item.text.is_empty() {
                    self.wrong(&path("text"), "the item says nothing", "");
                }
                if item.run.is_some() && item.newest.is_some() {
                    self.wrong(&path("newest"), "it is answered by `run` already", "leave one of them out");
                }
                if item.newest.is_some() != item.within.is_some() {
                    self.wrong(&path("within"), "`newest` and `within` belong together", "say how old the newest run may be");
                }
                if item.run.is_none() && !item.params.is_empty() {
                    self.wrong(&path("params"), "there is no `run` they are for", "");
                }
                if let Some(contact) = &item.by {
                    self.reference(&path("by"), contact, "contacts");
                }
            }
        }
    }

    fn absolute_paths(&mut self, system: &System) {
        for (name, path) in &system.paths {
            self.absolute(&["paths", name], path);
        }
        for (name, cleanup) in &system.maintenance.cleanup {
            self.absolute(&["maintenance", "cleanup", name, "path"], &cleanup.path);
        }
    }
}

/// Whether there is a time zone of this name. The database of the system comes second: opening it reads
/// 25 directories.
fn is_zone(name: &str) -> bool {
    TimeZoneDatabase::bundled().get(name).is_ok() || TimeZone::get(name).is_ok()
}

/// Whether following the edges from a name leads back to it.
fn comes_back<'s>(from: &'s str, edges: impl Fn(&str) -> &'s [String]) -> bool {
    let mut seen = BTreeSet::new();
    let mut left: Vec<&str> = edges(from).iter().map(String::as_str).collect();
    while let Some(name) = left.pop() {
        if name == from {
            return true;
        }
        if seen.insert(name) {
            left.extend(edges(name).iter().map(String::as_str));
        }
    }
    false
}
