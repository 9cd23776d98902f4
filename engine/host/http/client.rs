//! Requests: what is asked for, whom it may reach, and how far redirects are followed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::header::{
    ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
    TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use url::Url;

use super::exchange::{Answer, Encryption, Route, Timings, exchange, headers_by_name};
use crate::error::{Error, Kind, Result};
use crate::host::dial::{Peer, millis};
use crate::host::permission::{Access, Grant, Permissions, without_secrets};
use crate::host::trust::Trust;
use crate::model::Span;

/// A request with everything decided.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The name in the `Host` header and of the TLS server, when it is not the address's own.
    pub(super) host: Option<String>,
    /// Where to connect instead of resolving the host, and the grant that covers it.
    pub(super) connect: Option<(Peer, Grant)>,
    /// The grant it is sent under, when another permission than one for its address covers it.
    pub(super) grant: Option<Grant>,
    pub(super) trust: Trust,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    /// The statuses that are fine; any 2xx when empty.
    pub(super) expect: Vec<u16>,
    pub(super) follow: u32,
    pub(super) max_body: usize,
}

/// What came back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Response {
    pub(super) status: u16,
    /// Whether the status is one of those expected.
    pub(super) ok: bool,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
    /// Whether the body is longer than was read.
    pub(super) truncated: bool,
    /// The body as data, when it says it is JSON and is.
    pub(super) json: Option<Value>,
    /// Where the answer came from, without its query.
    pub(super) url: String,
    pub(super) redirected: bool,
    pub(super) remote: Option<String>,
    pub(super) timings: Timings,
    pub(super) tls: Option<Encryption>,
}

/// The headers that may go to another origin than the one they were meant for.
const HARMLESS: [HeaderName; 3] = [ACCEPT, ACCEPT_LANGUAGE, USER_AGENT];

/// The headers that decide where a message goes and where it ends.
const OWN: [HeaderName; 5] = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE];

/// Reads an address, and refuses what could hide where it leads.
pub(super) fn read_url(text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|error| Error::because(Kind::Invalid, "the address is not a URL", &error))?;
    let refuse = |message: String| Err(Error::new(Kind::Invalid, message).target(without_secrets(&url)));
    if !matches!(url.scheme(), "http" | "https") {
        return refuse(format!("the scheme is `{}`, expected `http` or `https`", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("the address holds a user or a password, expected none: use the options `user` and `password`".to_owned());
    }
    Ok(url)
}

impl Request {
    /// A request without a body, with the defaults.
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            host: None,
            connect: None,
            grant: None,
            trust: Trust::Machine,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            expect: Vec::new(),
            follow: 0,
            max_body: 1 << 20,
        }
    }

    /// Names the key under which it may be made again, unless the script has named one.
    pub(super) fn repeatable(&mut self, key: &str) {
        if let Ok(key) = key.parse() {
            self.headers.entry("idempotency-key").or_insert(key);
        }
    }

    /// Adds a header; an error never shows the value.
    pub(super) fn header(&mut self, name: &str, value: &str) -> Result<()> {
        let bad = |what: &str| Error::new(Kind::Invalid, format!("header `{}` {what}", name.escape_debug()));
        let header = HeaderName::try_from(name).map_err(|_| bad("has a name that is not allowed in HTTP"))?;
        if OWN.contains(&header) {
            return Err(bad("is set by the engine").hint("the options `host`, `body`, `json` and `form` decide it"));
        }
        let mut value = HeaderValue::try_from(value).map_err(|_| bad("has a value that is not allowed in HTTP"))?;
        value.set_sensitive(true);
        self.headers.insert(header, value);
        Ok(())
    }

    /// Sets a body of this type, unless a header names its type already.
    pub(super) fn content(&mut self, content_type: &'static str, body: impl Into<Bytes>) {
        self.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
        self.body = body.into();
    }

    /// Adds a user and a password as RFC 7617 has it.
    pub(super) fn basic(&mut self, user: &str, password: &str) -> Result<()> {
        use base64::Engine;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.header(AUTHORIZATION.as_str(), &format!("Basic {pair}"))
    }

    fn expects(&self, status: u16) -> bool {
        if self.expect.is_empty() { (200..300).contains(&status) } else { self.expect.contains(&status) }
    }

    /// What a plan assumes came back: the first status that is fine, and nothing else.
    pub(super) fn planned(&self) -> Response {
        let status = self.expect.first().copied().unwrap_or(200);
        Response { status, ok: true, url: without_secrets(&self.url), ..Response::default() }
    }

    /// Sends it, following redirects as far as allowed.
    ///
    /// # Errors
    ///
    /// `denied`, `timeout`, `connect`, `remote`; an answer with an unexpected status is none.
    pub(super) async fn send(self, permissions: &Permissions, now: Timestamp) -> Result<Response> {
        let (limit, target) = (self.timeout, without_secrets(&self.url));
        in_time(limit, target, self.follow(permissions, now)).await
    }

    /// Sends it, and gives the answer as it came; a redirect is an answer.
    ///
    /// # Errors
    ///
    /// As [`Request::send`].
    pub(super) async fn answer(&self, permissions: &Permissions, now: Timestamp) -> Result<Answer> {
        let mut timings = Timings::default();
        in_time(self.timeout, without_secrets(&self.url), self.once(permissions, now, &mut timings)).await
    }

    async fn follow(mut self, permissions: &Permissions, now: Timestamp) -> Result<Response> {
        let started = Instant::now();
        let mut timings = Timings::default();
        let mut redirects = 0;
        loop {
            let answer = self.once(permissions, now, &mut timings).await?;
            match self.next(&answer)? {
                Some(next) if redirects < self.follow => {
                    redirects += 1;
                    self.turn_to(next, answer.status)?;
                }
                _ => {
                    timings.total = millis(started.elapsed());
                    return Ok(self.response(answer, timings, redirects > 0));
                }
            }
        }
    }

    /// One request: permission, addresses, exchange.
    async fn once(&self, permissions: &Permissions, now: Timestamp, timings: &mut Timings) -> Result<Answer> {
        let grant = match &self.grant {
            Some(grant) => grant,
            None => permissions.check(&Access::url(self.method.as_str(), &self.url))?,
        };
        let own = Peer::new(self.url.host_str().unwrap_or_default(), self.url.port_or_known_default().unwrap_or_default())?;
        let (peer, grant) = self.connect.as_ref().map_or((&own, grant), |(peer, grant)| (peer, grant));
        let started = Instant::now();
        let addresses = peer.resolve(permissions, grant, self.connect_timeout).await?;
        timings.dns = millis(started.elapsed());
        let name = self.host.as_deref().map_or(own.host.as_str(), without_port);
        let route = Route {
            addresses: &addresses,
            server_name: (self.url.scheme() == "https").then_some(name),
            trust: &self.trust,
            client: None,
            connect_timeout: self.connect_timeout,
            now,
        };
        exchange(&route, self.message()?, self.max_body, timings).await
    }

    fn message(&self) -> Result<hyper::Request<Full<Bytes>>> {
        let invalid = |error: hyper::http::Error| Error::because(Kind::Invalid, "the request can not be written", &error);
        let path = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut message = hyper::Request::builder().method(&self.method).uri(path).body(Full::new(self.body.clone())).map_err(invalid)?;
        let host = self.host.as_deref().unwrap_or(&self.url[url::Position::BeforeHost..url::Position::AfterPort]);
        let host = HeaderValue::try_from(host).map_err(|error| Error::because(Kind::Invalid, "the host can not be sent", &error))?;
        let headers = message.headers_mut();
        headers.insert(HOST, host);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("runbook/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.extend(self.headers.clone());
        Ok(message)
    }

    /// Where a redirect leads, if the answer is one.
    fn next(&self, answer: &Answer) -> Result<Option<Url>> {
        if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) || self.follow == 0 {
            return Ok(None);
        }
        let Some(location) = answer.headers.get(LOCATION) else { return Ok(None) };
        let location = location.to_str().ok().and_then(|location| self.url.join(location).ok());
        let next = location.ok_or_else(|| Error::new(Kind::Remote, "it redirects to something that is not a URL"))?;
        read_url(next.as_str()).map(Some).map_err(|error| error.context("it redirects"))
    }

    /// Makes it the request a redirect asks for; to another origin go no body and no headers that
    /// could mean something there.
    fn turn_to(&mut self, next: Url, status: u16) -> Result<()> {
        let keeps_method = matches!(status, 307 | 308) || matches!(self.method, Method::GET | Method::HEAD);
        if !keeps_method {
            self.method = Method::GET;
            self.body = Bytes::new();
            self.headers.remove(CONTENT_TYPE);
        }
        if next.origin() != self.url.origin() {
            if !matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS) || !self.body.is_empty() {
                let message = format!("it redirects a {} to another origin, `{}`", self.method, without_secrets(&next));
                return Err(Error::new(Kind::Denied, message).hint("send it to that address directly, when it is meant"));
            }
            self.headers = HARMLESS.iter().filter_map(|name| Some((name.clone(), self.headers.get(name)?.clone()))).collect();
            self.host = None;
            self.connect = None;
            self.grant = None;
        }
        self.url = next;
        Ok(())
    }

    fn response(&self, answer: Answer, timings: Timings, redirected: bool) -> Response {
        let headers = headers_by_name(&answer.headers);
        let is_json = headers.get("content-type").is_some_and(|written| is_json(written));
        let json = if is_json && !answer.body.truncated { serde_json::from_slice(&answer.body.bytes).ok() } else { None };
        Response {
            status: answer.status,
            ok: self.expects(answer.status),
            headers,
            truncated: answer.body.truncated,
            body: text(answer.body.bytes, answer.body.truncated),
            json,
            url: without_secrets(&self.url),
            redirected,
            remote: answer.remote.map(|address| address.to_string()),
            timings,
            tls: answer.tls,
        }
    }
}

/// Ends what takes too long, and names what failed.
async fn in_time<T>(limit: Duration, target: String, sent: impl Future<Output = Result<T>>) -> Result<T> {
    let late = || Error::new(Kind::Timeout, format!("no complete answer within {}", Span(limit)));
    timeout(limit, sent).await.unwrap_or_else(|_| Err(late())).map_err(|error| {
        // What is denied or invalid names itself.
        let error = if error.kind.is_retryable() { error.context(format_args!("`{target}`")) } else { error };
        if error.target.is_some() { error } else { error.target(target) }
    })
}

/// `host` of `host:port` and `[host]:port`.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// The text of a body; a character the cap cut in two is left out, other bytes that are no UTF-8
/// become `U+FFFD`.
fn text(mut bytes: Vec<u8>, truncated: bool) -> String {
    if truncated
        && let Err(error) = std::str::from_utf8(&bytes)
        && error.error_len().is_none()
    {
        bytes.truncate(error.valid_up_to());
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
