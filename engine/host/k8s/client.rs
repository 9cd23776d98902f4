//! Requests to the API server: one connection each, with a time and a size they may not pass.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Resource;
use kube::core::params::{GetParams, ListParams, Patch, PatchParams};
use kube::core::subresource::LogParams;
use kube::core::{ObjectList, Request};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::access::Access;
use crate::error::{Error, Kind, Result};
use crate::host::dial::Peer;
use crate::host::http::{Answer, Route, Timings, exchange};
use crate::host::permission::Access as Asked;
use crate::host::{Ctx, session};
use crate::model::Span;

pub(super) const TIMEOUT: Span = Span::secs(30);
const CONNECT: Duration = Duration::from_secs(10);
const MOST_BYTES: usize = 16 << 20;
/// So many objects are asked for at a time, and so many are read at all.
const PAGE: u32 = 500;
const MOST_OBJECTS: usize = 5000;
/// What an API server says may be long.
const MOST_SAID: usize = 500;

/// A request of `kube`.
type Built = std::result::Result<hyper::Request<Vec<u8>>, kube::core::request::Error>;

/// The cluster of this run's system, in one of its namespaces.
#[derive(Clone)]
pub(in crate::host) struct Cluster {
    ctx: Ctx,
    pub(super) namespace: String,
    timeout: Span,
}

impl Cluster {
    /// The namespace the options name, or else the system.
    ///
    /// # Errors
    ///
    /// `config`, when neither names one; `invalid`, when it can be none.
    pub(in crate::host) fn of(ctx: &Ctx, namespace: Option<&str>, timeout: Option<Span>) -> Result<Self> {
        let system = ctx.system();
        let namespace = namespace.unwrap_or(&system.services.namespace);
        if namespace.is_empty() {
            return Err(Error::new(Kind::Config, format!("system `{}` names no namespace", system.name))
                .target(&system.name)
                .hint("add it to the system file: `[services] namespace = \"…\"`, or give the option `namespace`"));
        }
        named("namespace", namespace)?;
        Ok(Self { ctx: ctx.clone(), namespace: namespace.to_owned(), timeout: timeout.unwrap_or(TIMEOUT) })
    }

    pub(super) fn ctx(&self) -> &Ctx {
        &self.ctx
    }

    /// An object of the namespace, as permissions have it: `shop/deployment/web`.
    pub(super) fn object(&self, kind: &str, name: &str) -> String {
        format!("{}/{kind}/{name}", self.namespace)
    }

    /// Asks whether this may be done to that object.
    ///
    /// # Errors
    ///
    /// `denied`, naming the grant that is missing; `invalid` for what can be no name.
    pub(in crate::host) fn permit(&self, verb: &str, kind: &str, name: &str) -> Result<()> {
        if name != "*" {
            named(kind, name)?;
        }
        self.ctx.permissions().check(&Asked::word("k8s", verb, &self.object(kind, name))).map(drop)
    }

    /// Whether this may be done to that object.
    pub(in crate::host) fn may(&self, verb: &str, kind: &str, name: &str) -> bool {
        self.permit(verb, kind, name).is_ok()
    }

    /// What the namespace has of one kind.
    fn all<K: Resource<DynamicType = ()>>(&self) -> Request {
        Request::new(K::url_path(&(), Some(&self.namespace)))
    }

    /// One object.
    pub(super) async fn get<K: Resource<DynamicType = ()> + DeserializeOwned>(&self, name: &str) -> Result<K> {
        self.send(self.all::<K>().get(name, &GetParams::default()), name).await
    }

    /// A part of an object that has an address of its own.
    pub(super) async fn get_part<K: Resource<DynamicType = ()>, T: DeserializeOwned>(&self, part: &str, name: &str) -> Result<T> {
        self.send(self.all::<K>().get_subresource(part, name), name).await
    }

    /// Every object of a kind that the selectors let through.
    pub(super) async fn list<K>(&self, selected: ListParams) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned,
    {
        let kind = K::plural(&());
        self.pages(&self.all::<K>(), &kind, selected).await
    }

    /// As [`Cluster::list`], of what is at a path.
    pub(super) async fn pages<K: Clone + DeserializeOwned>(&self, request: &Request, kind: &str, selected: ListParams) -> Result<Vec<K>> {
        let mut selected = selected.limit(PAGE);
        let mut found = Vec::new();
        loop {
            let page: ObjectList<K> = self.send(request.list(&selected), kind).await?;
            found.extend(page.items);
            if found.len() > MOST_OBJECTS {
                return Err(Error::new(Kind::Limit, format!("there are more than {MOST_OBJECTS} {kind} in `{}`", self.namespace))
                    .hint("choose among them by `labels`, or by the name of a deployment"));
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => selected = selected.continue_token(&token),
                None => return Ok(found),
            }
        }
    }

    /// Changes an object, or a part of it that has an address of its own.
    pub(super) async fn patch<K>(&self, name: &str, part: Option<&str>, change: &Value) -> Result<Value>
    where
        K: Resource<DynamicType = ()>,
    {
        let (request, how, change) = (self.all::<K>(), PatchParams::default(), Patch::Merge(change));
        let request = match part {
            Some(part) => request.patch_subresource(part, name, &how, &change),
            None => request.patch(name, &how, &change),
        };
        self.send(request, name).await
    }

    /// Changes an object by single operations (RFC 6902), which can say what must be so before.
    pub(super) async fn operate<K>(&self, name: &str, operations: &Value) -> Result<Value>
    where
        K: Resource<DynamicType = ()>,
    {
        let request =
            hyper::Request::patch(format!("{}/{name}", self.all::<K>().url_path)).header(CONTENT_TYPE, "application/json-patch+json");
        let request = request.body(operations.to_string().into_bytes());
        self.send(request.map_err(kube::core::request::Error::BuildRequest), name).await
    }

    /// The newest text of a pod, and whether there is more of it than was read.
    pub(super) async fn log(&self, pod: &str, selected: &LogParams, most: usize) -> Result<(Vec<u8>, bool)> {
        let answer = self.call(self.all::<Pod>().logs(pod, selected), pod, most).await?;
        Ok((answer.body.bytes, answer.body.truncated))
    }

    /// One request, and what is answered as data.
    pub(super) async fn send<T: DeserializeOwned>(&self, request: Built, name: &str) -> Result<T> {
        let answer = self.call(request, name, MOST_BYTES).await?;
        if answer.body.truncated {
            return Err(Error::new(Kind::Limit, format!("the answer about `{name}` is larger than {} MiB", MOST_BYTES >> 20)));
        }
        serde_json::from_slice(&answer.body.bytes).map_err(|error| {
            Error::because(Kind::Remote, format_args!("the API server: its answer about `{name}` can not be read"), &error)
        })
    }

    /// One request, and an answer that is no refusal.
    async fn call(&self, request: Built, name: &str, most: usize) -> Result<Answer> {
        let access = self.access()?;
        let request = request.map_err(|error| Error::because(Kind::Invalid, "the request can not be written", &error))?;
        let request = message(&access, request)?;
        let port = access.server.port_or_known_default().unwrap_or(443);
        let peer = Peer::new(access.server.host_str().unwrap_or_default(), port)?;
        let client = access.identity.as_ref().map(|identity| access.trust.client_as(identity)).transpose()?;
        let work = async {
            let route = Route {
                addresses: &peer.lookup(CONNECT).await?,
                server_name: (access.server.scheme() == "https").then_some(access.server_name.as_str()),
                trust: &access.trust,
                client,
                connect_timeout: CONNECT,
                now: self.ctx.now(),
            };
            exchange(&route, request, most, &mut Timings::default()).await
        };
        let answer = session::within(&peer.to_string(), self.timeout, Duration::ZERO, work).await?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        Err(refused(&access, &answer).target(format!("{}/{name}", self.namespace)))
    }

    /// The way to the cluster. Read anew for each request: what proves who asks may have been renewed.
    fn access(&self) -> Result<Access> {
        let system = self.ctx.system();
        let Some(cluster) = &system.cluster else {
            return Err(Error::new(Kind::Config, format!("system `{}` does not say how its cluster is reached", system.name))
                .target(&system.name)
                .hint("add it to the system file: `[cluster] kubeconfig = \"/etc/…\"`, or `in_cluster = true`"));
        };
        Access::of(cluster, self.ctx.secrets())
    }
}

/// The request as the API server gets it.
fn message(access: &Access, request: hyper::Request<Vec<u8>>) -> Result<hyper::Request<Full<Bytes>>> {
    let (mut head, body) = request.into_parts();
    let base = access.server.path().trim_end_matches('/');
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).trim_end_matches(['?', '&']);
    head.uri = format!("{base}{target}").parse().map_err(|error| Error::because(Kind::Invalid, "the path of the request", &error))?;
    let value =
        |text: &str| HeaderValue::from_str(text).map_err(|_| Error::new(Kind::Config, "what logs in holds characters that no token has"));
    head.headers.insert(HOST, value(&access.server[url::Position::BeforeHost..url::Position::AfterPort])?);
    head.headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
    head.headers.insert(USER_AGENT, HeaderValue::from_static(concat!("runbook/", env!("CARGO_PKG_VERSION"))));
    if let Some(token) = &access.token {
        let mut bearer = value(&format!("Bearer {}", token.as_str()))?;
        bearer.set_sensitive(true);
        head.headers.insert(AUTHORIZATION, bearer);
    }
    Ok(hyper::Request::from_parts(head, Full::new(Bytes::from(body))))
}

/// What the API server says when it says no.
fn refused(access: &Access, answer: &Answer) -> Error {
    let status: Status = serde_json::from_slice(&answer.body.bytes).unwrap_or_default();
    let said = status.message.filter(|text| !text.is_empty()).unwrap_or_else(|| format!("status {} without a reason", answer.status));
    let said = access.scrub(said.chars().take(MOST_SAID).collect());
    let error = |kind| Error::new(kind, format!("the API server: {said}"));
    match answer.status {
        401 => {
            error(Kind::Refused).hint("it does not know who asks: what the kubeconfig logs in with has run out, or is of another cluster")
        }
        403 => error(Kind::Refused).hint("its rules (RBAC) do not let this user do that: a Role has to give the verb and the resource"),
        404 => error(Kind::NotFound),
        409 => error(Kind::Conflict).hint("somebody changed it in between: look at it again"),
        400 | 422 => error(Kind::Invalid),
        429 => error(Kind::Refused).hint("it is asked too much: try again later"),
        504 => error(Kind::Timeout),
        _ => error(Kind::Remote),
    }
}

/// A name as Kubernetes has them, so that no name is a path, a query or a pattern.
pub(super) fn named(kind: &str, name: &str) -> Result<()> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_name = (1..=253).contains(&name.len())
        && name.bytes().all(|byte| letter(byte) || matches!(byte, b'-' | b'.'))
        && name.bytes().next().is_some_and(letter)
        && name.bytes().last().is_some_and(letter);
    if is_name {
        return Ok(());
    }
    let found = name.escape_debug();
    Err(Error::new(Kind::Invalid, format!("`{found}` can be no name of a {kind}, expected lower-case letters, digits, `-` and `.`")))
}
