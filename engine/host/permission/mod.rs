//! What a run may touch: the one place that decides.
//!
//! Nothing is allowed by default. A header asks (`allow: #{…}`), the policy caps (`[policy.allow]`,
//! `[policy.deny]`), and what holds is the intersection, with a deny beating every allow. Host
//! functions ask with the *resolved* object: the address that is connected to, the container by its
//! full name, the path as opened.
//!
//! An entry is `OBJECT`, `VERB:OBJECT` or `OBJECT:VERB` (`http` writes `METHOD URL`); a section is a
//! list of entries or a map from verb to objects. `*` in an object stands for any characters.
//! A URL or host may end with ` @NETWORK`: the networks its name may resolve to beyond public ones,
//! `loopback`, `private` or a CIDR.

mod asked;
mod expand;
mod network;
mod pattern;
mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

pub use asked::{Asked, AskedEntry, entry_of};
pub use network::Networks;
pub(crate) use network::without_secrets;
pub use words::in_words;

use crate::error::{Error, Kind, Result};
use crate::host::sections;
use crate::model::System;
use crate::words::list;

/// How the objects of a section are written and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// A name; `*` stands for any characters.
    Word,
    /// An address: scheme, host, port and path; `*` in host and path.
    Url,
    /// `host:port`; `*` for either.
    Host,
    /// An absolute path; a directory covers what is below it.
    Path,
}

/// A section of `allow`: what it is about, and its verbs.
#[derive(Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// Its verbs; the first is meant when none is written.
    pub verbs: &'static [&'static str],
    /// How its objects are written.
    pub object: ObjectKind,
}

/// Every section.
pub const SECTIONS: &[Section] = &[
    Section { name: "sys", verbs: &["read"], object: ObjectKind::Word },
    Section { name: "http", verbs: &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"], object: ObjectKind::Url },
    Section { name: "net", verbs: &["connect", "ping", "resolve", "listeners"], object: ObjectKind::Host },
    Section { name: "sql", verbs: &["read", "write"], object: ObjectKind::Word },
    Section { name: "redis", verbs: &["read", "write"], object: ObjectKind::Word },
    Section {
        name: "docker",
        verbs: &["inspect", "list", "logs", "stats", "exec", "restart", "start", "stop", "scale", "images", "disk", "prune"],
        object: ObjectKind::Word,
    },
    Section { name: "k8s", verbs: &["read", "logs", "top", "scale", "restart", "rollback", "bounds"], object: ObjectKind::Word },
    Section { name: "prom", verbs: &["read", "silence", "reload"], object: ObjectKind::Word },
    Section { name: "systemd", verbs: &["status", "logs", "restart", "start", "stop"], object: ObjectKind::Word },
    Section { name: "fs", verbs: &["read", "write", "remove"], object: ObjectKind::Path },
    Section { name: "exec", verbs: &["run", "host"], object: ObjectKind::Path },
    Section { name: "secrets", verbs: &["use"], object: ObjectKind::Word },
    Section { name: "store", verbs: &["read", "write"], object: ObjectKind::Word },
    Section { name: "notify", verbs: &["send"], object: ObjectKind::Word },
    Section { name: "samples", verbs: &["read", "write"], object: ObjectKind::Word },
    Section { name: "incidents", verbs: &["read", "open", "note", "ack", "resolve", "escalate", "repair"], object: ObjectKind::Word },
    Section { name: "runs", verbs: &["start", "elsewhere", "read"], object: ObjectKind::Word },
];

/// How an alias that is a label begins: `label:tier=db`.
const LABEL: &str = "label:";

/// The section of this name.
///
/// # Errors
///
/// `invalid`, with the section that was probably meant.
pub fn section(name: &str) -> Result<&'static Section> {
    sections().find(|section| section.name == name).ok_or_else(|| {
        Error::new(Kind::Invalid, format!("unknown permission section `{name}`")).suggest(name, sections().map(|section| section.name))
    })
}

impl Section {
    /// Whether a grant of verb `have` covers verb `want`.
    fn implies(&self, have: &str, want: &str) -> bool {
        have == want
            || match self.name {
                "http" => have == "GET" && want == "HEAD",
                "sql" | "redis" | "store" | "samples" => have == "write" && want == "read",
                // Who may add to the incidents may see them.
                "incidents" => want == "read",
                // Who may act on a container or unit may see its state.
                "docker" => matches!(want, "inspect" | "list") && !matches!(have, "images" | "disk" | "prune"),
                "systemd" => want == "status",
                // Who may change an object may see it.
                "k8s" => want == "read" && !matches!(have, "logs" | "top"),
                // Who may silence alerts may see them.
                "prom" => have == "silence" && want == "read",
                // With the power of the host is started what may be started.
                "exec" => have == "host" && want == "run",
                // Who may start it may see what became of it.
                "runs" => want == "read" || have == "elsewhere" && want == "start",
                "net" => want == "resolve" && matches!(have, "connect" | "ping"),
                _ => false,
            }
    }
}

/// One thing that is allowed or denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The section.
    pub section: String,
    /// The verb.
    pub verb: String,
    /// The object, expanded for the system.
    pub object: String,
    /// The networks a name may resolve to beyond public ones.
    #[serde(default, skip_serializing_if = "Networks::is_empty")]
    pub networks: Networks,
    /// The only place a secret may go to; anywhere the run may reach when absent. Its verb says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<Box<Self>>,
}

/// What a host function is about to touch, resolved.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    section: &'a str,
    verb: &'a str,
    object: Object<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Object<'a> {
    /// A name and the other names of the same thing.
    Word(&'a str, &'a [String]),
    Url(&'a Url),
    Host(&'a str, u16),
    Path(&'a Path),
}

impl<'a> Access<'a> {
    /// An access to something that has a name.
    pub fn word(section: &'a str, verb: &'a str, name: &'a str) -> Self {
        Self { section, verb, object: Object::Word(name, &[]) }
    }

    /// An access to something with several names, any of which may be granted: a container by its
    /// full name, its service, its labels.
    pub fn named(section: &'a str, verb: &'a str, name: &'a str, aliases: &'a [String]) -> Self {
        Self { section, verb, object: Object::Word(name, aliases) }
    }

    /// A request to an address.
    pub fn url(method: &'a str, url: &'a Url) -> Self {
        Self { section: "http", verb: method, object: Object::Url(url) }
    }

    /// A connection to a host; port 0 for what has none.
    pub fn host(verb: &'a str, host: &'a str, port: u16) -> Self {
        Self { section: "net", verb, object: Object::Host(host, port) }
    }

    /// An access to a file, by its absolute path without `.` and `..`.
    pub fn path(verb: &'a str, path: &'a Path) -> Self {
        Self { section: "fs", verb, object: Object::Path(path) }
    }

    /// A start of a program, by its absolute path.
    pub fn program(path: &'a Path) -> Self {
        Self { section: "exec", verb: "run", object: Object::Path(path) }
    }

    /// A start of a program with all the power of this user, and no sandbox around it.
    pub fn host_program(path: &'a Path) -> Self {
        Self { section: "exec", verb: "host", object: Object::Path(path) }
    }

    fn object_in_words(&self) -> String {
        match self.object {
            Object::Word(name, _) => name.to_owned(),
            Object::Url(url) => without_secrets(url),
            Object::Host(host, 0) => host.to_owned(),
            Object::Host(host, port) => format!("{host}:{port}"),
            Object::Path(path) => path.display().to_string(),
        }
    }

    /// The entry that would allow it, as a header writes it.
    fn entry(&self) -> String {
        entry_of(self.section, self.verb, &self.object_in_words())
    }
}

impl Grant {
    fn covers(&self, access: &Access<'_>) -> bool {
        let Ok(section) = section(&self.section) else { return false };
        self.section == access.section && section.implies(&self.verb, access.verb) && self.is_about(access)
    }

    /// Whether this denial is of the access: of its verb, or of one that its verb includes.
    fn denies(&self, access: &Access<'_>) -> bool {
        let Ok(section) = section(&self.section) else { return false };
        // What is denied towards one place is denied when it would go there.
        self.sink.is_none() && self.section == access.section && section.implies(access.verb, &self.verb) && self.is_about(access)
    }

    /// Whether a secret may go there by this grant.
    fn is_towards(&self, sink: &[Access<'_>]) -> bool {
        let is_it = |granted: &Self| sink.iter().any(|access| granted.section == access.section && granted.is_about(access));
        self.sink.as_ref().is_none_or(|granted| is_it(granted))
    }

    fn is_about(&self, access: &Access<'_>) -> bool {
        match access.object {
            Object::Word(name, aliases) => {
                // A pattern for names, as `*web`, must not reach into labels.
                let same_sort = |alias: &&String| self.object.starts_with(LABEL) == alias.starts_with(LABEL);
                pattern::word(&self.object, name) || aliases.iter().filter(same_sort).any(|alias| pattern::word(&self.object, alias))
            }
            Object::Url(url) => pattern::url(&self.object, url),
            Object::Host(host, port) => pattern::host(&self.object, host, port),
            Object::Path(path) => pattern::path(&self.object, path),
        }
    }
}

/// Everything a run may touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// What the header asks for.
    allow: Vec<Grant>,
    /// What the policy leaves of it; each of them holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    caps: Vec<Cap>,
}

/// A table of the policy that limits what runs may touch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cap {
    /// Its name in `runbook.toml`.
    table: String,
    /// What it allows at most; without that, what the header asks for holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allow: Option<Vec<Grant>>,
    /// What it forbids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deny: Vec<Grant>,
}

impl Cap {
    fn allows(&self, is_meant: impl Fn(&Grant) -> bool) -> bool {
        self.allow.as_ref().is_none_or(|allow| allow.iter().any(is_meant))
    }
}

impl Permissions {
    /// What `allow` of a header asks for, for this system.
    ///
    /// # Errors
    ///
    /// `invalid`, naming the section and the entry.
    pub fn read(allow: &BTreeMap<String, Value>, system: &System) -> Result<Self> {
        Ok(Self { allow: grants(allow, system)?, caps: Vec::new() })
    }

    /// Caps them by the policy.
    ///
    /// # Errors
    ///
    /// `invalid`, naming the section and the entry of the policy.
    pub fn capped(self, allow: Option<&BTreeMap<String, Value>>, deny: &BTreeMap<String, Value>, system: &System) -> Result<Self> {
        self.capped_by("policy", allow, deny, system)
    }

    /// Caps them by one more table of the policy, of this name.
    ///
    /// # Errors
    ///
    /// `invalid`, naming the section and the entry of the policy.
    pub fn capped_by(
        mut self,
        table: &str,
        allow: Option<&BTreeMap<String, Value>>,
        deny: &BTreeMap<String, Value>,
        system: &System,
    ) -> Result<Self> {
        let allow = allow.map(|allow| grants(allow, system)).transpose()?;
        let deny = grants(deny, system)?;
        if allow.is_some() || !deny.is_empty() {
            self.caps.push(Cap { table: table.to_owned(), allow, deny });
        }
        Ok(self)
    }

    /// Decides whether an access is covered, and by which grant.
    ///
    /// # Errors
    ///
    /// `denied`, naming the grant that is missing.
    pub fn check(&self, access: &Access<'_>) -> Result<&Grant> {
        let denied = |why: &str| {
            Error::new(Kind::Denied, format!("`{}` on `{}` is not allowed{why}", access.verb, access.object_in_words()))
                .target(access.object_in_words())
                .code("RB3001")
        };
        let Some(grant) = self.allow.iter().find(|grant| grant.covers(access)) else {
            return Err(denied("").hint(format!("the header would have to ask for it: allow: #{{ {} }}", access.entry())));
        };
        if let Some(cap) = self.caps.iter().find(|cap| cap.deny.iter().any(|grant| grant.denies(access))) {
            return Err(denied(" by the policy").hint(format!("see `[{}.deny]` in runbook.toml", cap.table)));
        }
        if let Some(cap) = self.caps.iter().find(|cap| !cap.allows(|grant| grant.covers(access))) {
            return Err(denied(" by the policy").hint(format!("see `[{}.allow]` in runbook.toml", cap.table)));
        }
        Ok(grant)
    }

    /// Decides as far as a name tells that was not resolved, for tests, where there is nothing it stands for. What has
    /// several names, or none yet, has to be asked for in some way.
    ///
    /// # Errors
    ///
    /// `denied`, naming the grant that is missing.
    pub fn check_name(&self, section: &str, verb: &str, name: Option<&str>) -> Result<()> {
        let name = name.unwrap_or_default();
        let url = Url::parse(name).ok().filter(|_| section == "http");
        let path = Path::new(name);
        let access = match (section, &url) {
            ("http", Some(url)) => Some(Access::url(verb, url)),
            ("fs", _) if path.is_absolute() => Some(Access::path(verb, path)),
            ("sys" | "sql" | "redis" | "prom" | "store" | "secrets", _) => Some(Access::word(section, verb, name)),
            _ => None,
        };
        match access {
            Some(access) => self.check(&access).map(drop),
            None if self.could(section, verb) => Ok(()),
            None => self.check(&Access::word(section, verb, name)).map(drop),
        }
    }

    /// Decides whether a secret may be opened for a sink: the database, address, container or program it
    /// goes to, by all its names, any of which may be granted.
    ///
    /// # Errors
    ///
    /// `denied`, naming the grant that is missing.
    pub fn check_secret(&self, name: &str, sink: &[Access<'_>]) -> Result<()> {
        let access = Access::word("secrets", "use", name);
        self.check(&access)?;
        let goes_there = |grant: &Grant| grant.covers(&access) && grant.is_towards(sink);
        let there = sink.first().map(|sink| format!("{}:{}", sink.section, sink.object_in_words())).unwrap_or_default();
        let denied =
            |why: &str| Error::new(Kind::Denied, format!("secret `{name}` may not go to `{there}`{why}")).target(name).code("RB3003");
        if !self.allow.iter().any(goes_there) {
            return Err(
                denied("").hint(format!("the header would have to ask for it: allow: #{{ secrets: #{{ {name}: [\"{there}\"] }} }}"))
            );
        }
        if let Some(cap) = self.caps.iter().find(|cap| cap.deny.iter().any(|grant| grant.sink.is_some() && goes_there(grant))) {
            return Err(denied(" by the policy").hint(format!("see `[{}.deny]` in runbook.toml", cap.table)));
        }
        if let Some(cap) = self.caps.iter().find(|cap| !cap.allows(goes_there)) {
            return Err(denied(" by the policy").hint(format!("see `[{}.allow]` in runbook.toml", cap.table)));
        }
        Ok(())
    }

    /// Decides whether a connection to this address is covered by the grant for its name.
    ///
    /// A name may resolve to public addresses only, unless the grant names the network, or is for
    /// this very address. This is what stops a name that is rebound to a private address.
    ///
    /// # Errors
    ///
    /// `denied`, naming the network.
    pub fn check_address(&self, grant: &Grant, host: &str, address: IpAddr) -> Result<()> {
        let is_granted_itself = pattern::host_of(&grant.object).is_some_and(|granted| network::is_literal(&granted, address));
        if network::is_public(address) || grant.networks.contain(address) || is_granted_itself {
            return Ok(());
        }
        Err(Error::new(Kind::Denied, format!("`{host}` resolves to `{address}`, which is {}", network::describe(address)))
            .target(host)
            .code("RB3002")
            .hint(format!("name the network in the header when it is meant: `{} @{}`", grant.object, network::network_of(address))))
    }

    /// What holds, for `show` and the reference: grants of the header that the policy leaves.
    pub fn effective(&self) -> impl Iterator<Item = &Grant> {
        self.allow.iter().filter(|grant| !self.denials().any(|denied| denied == *grant))
    }

    fn denials(&self) -> impl Iterator<Item = &Grant> {
        self.caps.iter().flat_map(|cap| &cap.deny)
    }

    /// Whether a policy caps them.
    pub fn is_capped(&self) -> bool {
        !self.caps.is_empty()
    }

    /// The directories and files of the `fs` section with this verb, for opening them as handles.
    pub fn roots<'a>(&'a self, verb: &'a str) -> impl Iterator<Item = &'a str> {
        self.allow.iter().filter(move |grant| grant.section == "fs" && grant.verb == verb).map(|grant| grant.object.as_str())
    }

    /// Whether the policy forbids this access; for the other names of a thing whose first name was checked.
    pub fn forbids(&self, access: &Access<'_>) -> bool {
        self.denials().any(|grant| grant.covers(access))
    }

    /// The verbs and paths of the `fs` section that the policy forbids.
    pub fn forbidden_paths(&self) -> impl Iterator<Item = (&str, &str)> {
        self.denials().filter(|grant| grant.section == "fs").map(|grant| (grant.verb.as_str(), grant.object.as_str()))
    }

    /// The objects of the `fs` section with this verb that header and policy both allow: the narrower of each
    /// two that overlap. What is denied is not taken out, see [`forbidden_paths`](Self::forbidden_paths).
    pub fn paths<'a>(&'a self, verb: &'a str) -> impl Iterator<Item = String> + 'a {
        let is_meant = move |grant: &&Grant| grant.section == "fs" && grant.verb == verb;
        self.roots(verb).flat_map(move |asked| {
            self.caps.iter().filter_map(|cap| cap.allow.as_ref()).fold(vec![asked.to_owned()], |left, allow| {
                let under = |path: &String| {
                    let allowed = allow.iter().filter(is_meant);
                    allowed.filter_map(|grant| narrower(path, &grant.object)).map(str::to_owned).collect::<Vec<_>>()
                };
                left.iter().flat_map(under).collect()
            })
        })
    }

    /// The programs that are asked for; patterns included.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.allow.iter().filter(|grant| grant.section == "exec").map(|grant| grant.object.as_str())
    }

    /// The sections and objects that stand for addresses to connect to.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, &str)> {
        let connects = |grant: &&Grant| grant.section == "http" || grant.section == "net" && grant.verb == "connect";
        self.allow.iter().filter(connects).map(|grant| (grant.section.as_str(), grant.object.as_str()))
    }

    /// Whether a program may be started with all the power of this user.
    pub fn has_host_power(&self) -> bool {
        let asked = self.allow.iter().filter(|grant| grant.section == "exec" && grant.verb == "host");
        asked.into_iter().any(|grant| self.check(&Access::host_program(Path::new(&grant.object))).is_ok())
    }

    /// The names of the secrets that are asked for; patterns included.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        self.allow.iter().filter(|grant| grant.section == "secrets").map(|grant| grant.object.as_str())
    }

    /// Whether anything of this section is asked for.
    pub fn uses(&self, section: &str) -> bool {
        self.allow.iter().any(|grant| grant.section == section)
    }

    /// Whether any object at all could be covered for this verb. Without that a host function does not
    /// even look up what a name stands for.
    pub fn could(&self, section: &str, verb: &str) -> bool {
        let implied =
            |grant: &&Grant| grant.section == section && self::section(section).is_ok_and(|section| section.implies(&grant.verb, verb));
        let forbidden = self.denials().filter(implied).any(|grant| grant.object == "*");
        let capped = self.caps.iter().any(|cap| !cap.allows(|grant| implied(&grant)));
        self.asks_for(section, verb) && !capped && !forbidden
    }

    /// Whether the header asks for this access, whatever the policy says; for the lint.
    pub fn asks_for(&self, section: &str, verb: &str) -> bool {
        self.allow
            .iter()
            .any(|grant| grant.section == section && self::section(section).is_ok_and(|section| section.implies(&grant.verb, verb)))
    }
}

/// Of two patterns for paths the one that covers no more than the other; nothing when neither does.
fn narrower<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    if pattern::path(other, Path::new(one)) {
        return Some(one);
    }
    pattern::path(one, Path::new(other)).then_some(other)
}

fn grants(allow: &BTreeMap<String, Value>, system: &System) -> Result<Vec<Grant>> {
    let mut grants = Vec::new();
    for (name, entries) in allow {
        let section = section(name)?;
        for (verb, text) in entries_of(section, entries)? {
            let (text, sinks) = match text.split_once(TOWARDS) {
                Some((secret, sink)) if section.name == "secrets" => (secret, sinks(sink, system)?),
                _ => (text.as_str(), vec![None]),
            };
            for (object, networks) in expand::expand(section, text, system)? {
                for sink in &sinks {
                    grants.push(Grant { sink: sink.clone(), ..grant(section, &verb, &object, networks.clone())? });
                }
            }
        }
    }
    Ok(grants)
}

/// What stands between a secret and its sink, where both are one text; no name of a secret holds it.
const TOWARDS: &str = " -> ";

/// The sections whose functions open secrets.
const SINKS: [&str; 7] = ["sql", "redis", "http", "net", "docker", "exec", "fs"];

/// What a sink as it is written, `sql:main`, stands for in this system.
fn sinks(text: &str, system: &System) -> Result<Vec<Option<Box<Grant>>>> {
    let (section, object) = sink(text)?;
    let sink = |(object, networks): (String, Networks)| grant(section, "", &object, networks).map(|grant| Some(Box::new(grant)));
    expand::expand(section, object, system)?.into_iter().map(sink).collect()
}

fn sink(text: &str) -> Result<(&'static Section, &str)> {
    let known = text.split_once(':').filter(|(name, _)| SINKS.contains(name));
    let (name, object) = known.ok_or_else(|| {
        Error::new(Kind::Invalid, format!("allow.secrets: `{text}` is no place a secret can go to"))
            .hint("write `sql:NAME`, `redis:NAME`, `http:URL`, `docker:CONTAINER`, `exec:PROGRAM` or `fs:PATH`")
    })?;
    Ok((section(name)?, object))
}

/// The secret of an entry, without where it may go.
pub(super) fn without_sink(entry: &str) -> &str {
    entry.split_once(TOWARDS).map_or(entry, |(secret, _)| secret)
}

/// The verb and object of each entry; placeholders not yet expanded.
pub fn entries_of(section: &'static Section, entries: &Value) -> Result<Vec<(String, String)>> {
    let text_of = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(Error::new(Kind::Invalid, format!("allow.{}: `{other}` is not a text", section.name))),
    };
    match entries {
        Value::String(text) => Ok(vec![split_entry(section, text)]),
        Value::Array(list) => list.iter().map(|entry| text_of(entry).map(|text| split_entry(section, &text))).collect(),
        Value::Object(map) => {
            let mut all = Vec::new();
            for (verb, objects) in map {
                if section.name == "secrets" && verb != "use" {
                    let sinks: Vec<String> = match objects {
                        Value::String(sink) => vec![sink.clone()],
                        Value::Array(list) => list.iter().map(text_of).collect::<Result<_>>()?,
                        other => return Err(Error::new(Kind::Invalid, format!("allow.secrets.{verb}: `{other}` is not a list of texts"))),
                    };
                    for text in sinks {
                        sink(&text)?;
                        all.push(("use".to_owned(), format!("{verb}{TOWARDS}{text}")));
                    }
                    continue;
                }
                if !section.verbs.contains(&verb.as_str()) {
                    return Err(unknown_verb(section, verb));
                }
                match objects {
                    Value::String(object) => all.push((verb.clone(), object.clone())),
                    Value::Array(list) => {
                        for object in list {
                            all.push((verb.clone(), text_of(object)?));
                        }
                    }
                    other => {
                        return Err(Error::new(Kind::Invalid, format!("allow.{}.{verb}: `{other}` is not a list of texts", section.name)));
                    }
                }
            }
            Ok(all)
        }
        other => Err(Error::new(Kind::Invalid, format!("allow.{}: `{other}` is neither a list nor a map", section.name))
            .hint(format!("write it like {}: [\"…\"] or {}: #{{ {}: [\"…\"] }}", section.name, section.name, section.verbs[0]))),
    }
}

fn split_entry(section: &Section, text: &str) -> (String, String) {
    let is_verb = |word: &str| section.verbs.contains(&word);
    let (first, rest) = if section.name == "http" { text.split_once(' ') } else { text.split_once(':') }.unwrap_or(("", text));
    if is_verb(first) {
        return (first.to_owned(), rest.trim().to_owned());
    }
    match text.rsplit_once(':') {
        Some((object, verb)) if is_verb(verb) => (verb.to_owned(), object.to_owned()),
        // A verb alone is that verb on everything: `docker: ["disk"]`.
        _ if is_verb(text) => (text.to_owned(), "*".to_owned()),
        _ => (section.verbs[0].to_owned(), text.to_owned()),
    }
}

fn unknown_verb(section: &Section, verb: &str) -> Error {
    let verbs: Vec<String> = section.verbs.iter().map(|&verb| verb.to_owned()).collect();
    Error::new(Kind::Invalid, format!("allow.{}: unknown verb `{verb}`", section.name)).hint(format!("the verbs are {}", list(&verbs)))
}

fn grant(section: &Section, verb: &str, object: &str, networks: Networks) -> Result<Grant> {
    pattern::validate(section, object)?;
    let mut grant = Grant { section: section.name.to_owned(), verb: verb.to_owned(), object: object.to_owned(), networks, sink: None };
    if let Some((object, written)) = object.rsplit_once(" @") {
        grant.networks = grant.networks.and(written)?;
        grant.object = object.to_owned();
    }
    Ok(grant)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn permissions(allow: Value) -> Permissions {
        Permissions::read(&serde_json::from_value(allow).unwrap(), &System::default()).unwrap()
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let error = Permissions::default().check(&Access::word("sys", "read", "cpu")).unwrap_err();
        assert_eq!(error.kind, Kind::Denied);
        assert_eq!(error.hints, [r#"the header would have to ask for it: allow: #{ sys: ["cpu"] }"#]);
    }

    #[test]
    fn entries_are_written_three_ways() {
        let permissions = permissions(json!({ "sql": ["main:read"], "docker": ["restart:web"], "fs": { "read": ["/srv"] } }));
        assert!(permissions.check(&Access::word("sql", "read", "main")).is_ok());
        assert!(permissions.check(&Access::word("sql", "write", "main")).is_err());
        assert!(permissions.check(&Access::word("docker", "restart", "web")).is_ok());
        assert!(permissions.check(&Access::word("docker", "inspect", "web")).is_ok());
        for other in ["web2", "/web", "we", "WEB"] {
            assert!(permissions.check(&Access::word("docker", "restart", other)).is_err(), "{other}");
        }
        assert!(permissions.check(&Access::path("read", Path::new("/srv/a/b"))).is_ok());
        assert!(permissions.check(&Access::path("read", Path::new("/srvx"))).is_err());
        assert!(permissions.check(&Access::path("write", Path::new("/srv/a"))).is_err());
    }

    #[test]
    fn a_label_is_granted_as_a_label_only() {
        let labels = ["web".to_owned(), "label:role=web".to_owned()];
        let access = Access::named("docker", "restart", "shop_web_1", &labels);
        for (object, covered) in [("label:role=web", true), ("web", true), ("*=web", false), ("label:*", true), ("label:web", false)] {
            let permissions = permissions(json!({ "docker": [format!("restart:{object}")] }));
            assert_eq!(permissions.check(&access).is_ok(), covered, "{object}");
        }
    }

    #[test]
    fn a_verb_could_be_covered_only_when_header_and_policy_name_it() {
        let policy = |text: Value| serde_json::from_value::<BTreeMap<String, Value>>(text).unwrap();
        let asked = permissions(json!({ "docker": ["restart:web"] }));
        assert!(asked.could("docker", "restart") && asked.could("docker", "inspect") && !asked.could("docker", "exec"));
        let other = asked.clone().capped(Some(&policy(json!({ "sys": ["*"] }))), &BTreeMap::new(), &System::default()).unwrap();
        assert!(!other.could("docker", "restart"));
        let denied = asked.capped(None, &policy(json!({ "docker": ["restart:*"] })), &System::default()).unwrap();
        assert!(!denied.could("docker", "restart"));
    }

    #[test]
    fn deny_beats_allow_and_the_policy_caps() {
        let asked = permissions(json!({ "fs": { "read": ["/srv"] } }));
        let policy = |text: Value| serde_json::from_value::<BTreeMap<String, Value>>(text).unwrap();
        let capped = asked
            .capped(
                Some(&policy(json!({ "fs": { "read": ["/srv/data", "/srv/keys"] } }))),
                &policy(json!({ "fs": { "read": ["/srv/keys"] } })),
                &System::default(),
            )
            .unwrap();
        assert!(capped.check(&Access::path("read", Path::new("/srv/data/x"))).is_ok());
        assert!(capped.check(&Access::path("read", Path::new("/srv/keys/x"))).is_err());
        assert!(capped.check(&Access::path("read", Path::new("/srv/other"))).is_err());
    }

    #[test]
    fn each_cap_holds_and_is_named() {
        let table = |text: Value| serde_json::from_value::<BTreeMap<String, Value>>(text).unwrap();
        let asked = permissions(json!({ "fs": { "write": ["/srv"] }, "sys": ["*"] }));
        let capped =
            asked.capped(Some(&table(json!({ "fs": { "write": ["/srv/data"] }, "sys": ["*"] }))), &BTreeMap::new(), &System::default());
        let capped = capped.unwrap();
        let night = table(json!({ "fs": { "write": ["/srv/data/night", "/srv/other"] } }));
        let both =
            capped.clone().capped_by("policy.unattended", Some(&night), &table(json!({ "sys": ["*"] })), &System::default()).unwrap();
        assert_eq!(both.paths("write").collect::<Vec<_>>(), ["/srv/data/night"]);
        let refusal = |access: Access<'_>| both.check(&access).unwrap_err().hints;
        assert_eq!(refusal(Access::path("write", Path::new("/srv/data/x"))), ["see `[policy.unattended.allow]` in runbook.toml"]);
        assert_eq!(refusal(Access::path("write", Path::new("/srv/other"))), ["see `[policy.allow]` in runbook.toml"]);
        assert_eq!(refusal(Access::word("sys", "read", "cpu")), ["see `[policy.unattended.deny]` in runbook.toml"]);
        assert!(!both.could("sys", "read") && capped.could("sys", "read"));
    }

    #[test]
    fn paths_are_the_narrower_of_header_and_policy() {
        let policy = serde_json::from_value(json!({ "fs": { "write": ["/srv/data", "/var/log/*.log"] } })).unwrap();
        let asked = permissions(json!({ "fs": { "write": ["/srv", "/var/log/app.log", "/etc"], "read": ["/srv"] } }));
        let capped = asked.clone().capped(Some(&policy), &BTreeMap::new(), &System::default()).unwrap();
        assert_eq!(capped.paths("write").collect::<Vec<_>>(), ["/srv/data", "/var/log/app.log"]);
        assert_eq!(capped.paths("read").count(), 0);
        assert_eq!(asked.paths("read").collect::<Vec<_>>(), ["/srv"]);
    }

    #[test]
    fn the_power_of_the_host_is_asked_for_and_can_be_capped() {
        let policy = |text: Value| serde_json::from_value::<BTreeMap<String, Value>>(text).unwrap();
        let program = Path::new("/usr/bin/apt-get");
        let confined = permissions(json!({ "exec": ["/usr/bin/apt-get"] }));
        assert!(!confined.has_host_power() && confined.check(&Access::host_program(program)).is_err());
        let asked = permissions(json!({ "exec": ["host:/usr/bin/apt-get"] }));
        assert!(asked.has_host_power() && asked.check(&Access::program(program)).is_ok());
        let capped = asked.clone().capped(Some(&policy(json!({ "exec": ["/*"] }))), &BTreeMap::new(), &System::default()).unwrap();
        assert!(!capped.has_host_power() && capped.check(&Access::program(program)).is_ok());
        let denied = asked.capped(None, &policy(json!({ "exec": ["host:/*"] })), &System::default()).unwrap();
        assert!(!denied.has_host_power() && denied.check(&Access::program(program)).is_ok());
    }

    #[test]
    fn a_denial_reaches_up_but_not_down() {
        let denied = |deny: Value, verb: &str| {
            let asked = permissions(json!({ "docker": ["exec:web", "restart:web"] }));
            let capped = asked.capped(None, &serde_json::from_value(deny).unwrap(), &System::default()).unwrap();
            capped.check(&Access::word("docker", verb, "web")).is_err()
        };
        assert!(denied(json!({ "docker": ["exec:*"] }), "exec"));
        assert!(!denied(json!({ "docker": ["exec:*"] }), "inspect"));
        assert!(!denied(json!({ "docker": ["exec:*"] }), "restart"));
        assert!(denied(json!({ "docker": ["inspect:web"] }), "restart"));
    }

    #[test]
    fn a_private_address_needs_its_own_grant_or_its_network() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let check = |entry: &str, host: &str, to: &str| {
            let permissions = permissions(json!({ "http": [entry] }));
            let grant = permissions.allow[0].clone();
            permissions.check_address(&grant, host, address(to)).is_ok()
        };
        assert!(check("http://127.0.0.1:8000", "127.0.0.1", "127.0.0.1"));
        assert!(check("http://localhost:8000", "localhost", "::1"));
        assert!(check("http://api.test @loopback", "api.test", "127.0.0.1"));
        assert!(check("http://*", "api.test", "1.1.1.1"));
        for (entry, host) in [
            ("http://*", "127.0.0.1"),
            ("http://*", "localhost"),
            ("*", "127.0.0.1"),
            ("http://api.test", "api.test"),
            ("http://localhost*", "localhost"),
        ] {
            assert!(!check(entry, host, "127.0.0.1"), "{entry} {host}");
        }
        assert!(!check("http://localhost", "localhost", "10.0.0.1"));
    }

    #[test]
    fn a_secret_goes_where_it_may_and_nowhere_else() {
        let url = |text: &str| Url::parse(text).unwrap();
        let asked = permissions(json!({
            "http": ["*"], "sql": ["*"],
            "secrets": { "api": ["http:https://api.test/v1/*", "sql:main"], "use": ["free"] },
        }));
        let may = |permissions: &Permissions, name: &str, sink: Access<'_>| permissions.check_secret(name, &[sink]).is_ok();
        let (good, bad) = (url("https://api.test/v1/x"), url("https://evil.test/v1/x"));
        assert!(may(&asked, "api", Access::url("POST", &good)) && may(&asked, "api", Access::word("sql", "write", "main")));
        assert!(!may(&asked, "api", Access::url("POST", &bad)) && !may(&asked, "api", Access::word("sql", "read", "other")));
        assert!(!may(&asked, "api", Access::word("redis", "read", "main")));
        assert!(may(&asked, "free", Access::url("POST", &bad)) && !may(&asked, "other", Access::url("POST", &good)));
        let policy = |text: Value| serde_json::from_value::<BTreeMap<String, Value>>(text).unwrap();
        let cap = policy(json!({ "secrets": { "free": ["sql:main"], "use": ["api"] } }));
        let capped = asked.clone().capped(Some(&cap), &BTreeMap::new(), &System::default()).unwrap();
        assert!(may(&capped, "free", Access::word("sql", "read", "main")) && !may(&capped, "free", Access::url("POST", &bad)));
        let denied = asked.capped(None, &policy(json!({ "secrets": { "free": ["http:*"] } })), &System::default()).unwrap();
        assert!(may(&denied, "free", Access::word("sql", "read", "main")) && !may(&denied, "free", Access::url("POST", &bad)));
        let error = denied.check_secret("api", &[Access::url("GET", &bad)]).unwrap_err();
        assert_eq!(error.message, "secret `api` may not go to `http:https://evil.test/v1/x`");
        let wrong = Permissions::read(&policy(json!({ "secrets": { "api": ["mail:maya"] } })), &System::default()).unwrap_err();
        assert_eq!(wrong.message, "allow.secrets: `mail:maya` is no place a secret can go to");
    }

    #[test]
    fn unknown_sections_and_verbs_are_refused_with_a_suggestion() {
        let read = |allow: Value| Permissions::read(&serde_json::from_value(allow).unwrap(), &System::default()).unwrap_err();
        assert_eq!(read(json!({ "dokcer": [] })).hints, ["did you mean `docker`?"]);
        assert!(read(json!({ "fs": { "delete": ["/x"] } })).message.contains("unknown verb `delete`"));
    }
}
