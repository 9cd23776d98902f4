//! How the object of a grant is compared with the object of an access.

use std::path::{Component, Path};

use url::Url;

use crate::error::{Error, Kind, Result};
use crate::host::permission::{ObjectKind, Section};
pub(super) use crate::words::is_like as word;

/// Whether a URL matches `scheme://host[:port][/path]`. A pattern without a path covers every path;
/// a path covers itself, and what `*` says.
pub(super) fn url(pattern: &str, url: &Url) -> bool {
    if pattern == "*" {
        return true;
    }
    let Some((scheme, rest)) = pattern.split_once("://") else { return false };
    if scheme != url.scheme() {
        return false;
    }
    let (authority, path) = rest.find('/').map_or((rest, "*"), |at| rest.split_at(at));
    let (name, port) = split_port(authority);
    let wanted = port.map(str::to_owned).unwrap_or_else(|| default_port(scheme).to_string());
    let port_matches = wanted == "*" || url.port_or_known_default().is_some_and(|port| wanted == port.to_string());
    let Some(host) = url.host_str() else { return false };
    let path_and_query = match url.query() {
        Some(query) if path.contains('?') => format!("{}?{query}", url.path()),
        _ => url.path().to_owned(),
    };
    port_matches && word(&normal_host(name), host) && (word(path, &path_and_query) || path == "/" && path_and_query == "/")
}

/// The one host a pattern is for; none when it has a `*`.
pub(super) fn host_of(pattern: &str) -> Option<String> {
    let rest = pattern.split_once("://").map_or(pattern, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let (host, _) = split_port(authority);
    (!host.is_empty() && !host.contains('*')).then(|| normal_host(host))
}

/// The host as `url` writes it, so that every spelling of an address is one.
fn normal_host(host: &str) -> String {
    if host.contains('*') {
        return host.to_ascii_lowercase();
    }
    Url::parse(&format!("http://{host}/")).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_else(|| host.to_owned())
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    if authority.ends_with(']') {
        return (authority, None);
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

/// Whether `host:port` matches; a pattern without a port covers none but portless accesses.
pub(super) fn host(pattern: &str, host: &str, port: u16) -> bool {
    if pattern == "*" {
        return true;
    }
    let (name, wanted) = split_port(pattern);
    let port_matches = match wanted {
        Some("*") => true,
        Some(wanted) => port == 0 || wanted == port.to_string(),
        None => port == 0,
    };
    port_matches && word(&name.to_ascii_lowercase(), &host.to_ascii_lowercase())
}

/// Whether a path is the granted one, below it, or matches its `*`, which stops at no `/` but never
/// covers a `..`.
pub(super) fn path(pattern: &str, path: &Path) -> bool {
    if path.components().any(|part| matches!(part, Component::ParentDir | Component::CurDir)) {
        return false;
    }
    let Some(text) = path.to_str() else { return false };
    if pattern.contains('*') {
        return word(pattern, text);
    }
    let root = pattern.trim_end_matches('/');
    text == root || text.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

/// Refuses objects that can not mean what was wanted.
pub(super) fn validate(section: &Section, object: &str) -> Result<()> {
    let bad = |expected: &str| Err(Error::new(Kind::Invalid, format!("allow.{}: `{object}` is not {expected}", section.name)));
    if object.is_empty() {
        return bad("an object").map_err(|error: Error| error.hint("an empty entry would mean everything or nothing; leave it out"));
    }
    let bare = object.rsplit_once(" @").map_or(object, |(bare, _)| bare);
    match section.object {
        ObjectKind::Path if !bare.starts_with('/') => bad("an absolute path"),
        ObjectKind::Path if Path::new(bare).components().any(|part| part == Component::ParentDir) => bad("a path without `..`"),
        ObjectKind::Url if bare != "*" && !bare.starts_with("http://") && !bare.starts_with("https://") => bad("an http or https address"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_match_with_stars() {
        for (pattern, text, matches) in [
            ("web", "web", true),
            ("web", "web2", false),
            ("web*", "web2", true),
            ("*", "", true),
            ("*web", "my-web", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("", "x", false),
        ] {
            assert_eq!(word(pattern, text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn urls_match_by_parts() {
        for (pattern, text, matches) in [
            ("https://api.example.com", "https://api.example.com/any/thing?x=1", true),
            ("https://api.example.com/v1/*", "https://api.example.com/v1/users", true),
            ("https://api.example.com/v1/*", "https://api.example.com/v2", false),
            ("https://api.example.com", "http://api.example.com/", false),
            ("https://api.example.com", "https://api.example.com:8443/", false),
            ("https://api.example.com:*", "https://api.example.com:8443/", true),
            ("https://*.example.com", "https://a.example.com/", true),
            ("https://*.example.com", "https://example.com.evil.test/", false),
            ("http://127.0.0.1:8000", "http://2130706433:8000/", true),
            ("http://ok.example", "http://ok.example@127.0.0.1/", false),
            ("https://a.test/", "https://a.test/x", false),
        ] {
            assert_eq!(url(pattern, &Url::parse(text).unwrap()), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn paths_cover_what_is_below_them() {
        for (pattern, text, matches) in [
            ("/srv", "/srv", true),
            ("/srv/", "/srv/a", true),
            ("/srv", "/srvx", false),
            ("/srv", "/srv/../etc/passwd", false),
            ("/var/log/*.log", "/var/log/a.log", true),
            ("/var/log/app.log*", "/var/log/app.log.1.gz", true),
            ("/", "/anything", true),
        ] {
            assert_eq!(path(pattern, Path::new(text)), matches, "{pattern} {text}");
        }
    }
}
