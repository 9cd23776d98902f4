//! What an endpoint of the system must answer, and whether it does.

use std::time::Duration;

use hyper::Method;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::client::{Request, Response, read_url};
use crate::error::{Error, Kind, Result};
use crate::host::dial::{Peer, millis};
use crate::host::permission::{Grant, without_secrets};
use crate::host::trust::Trust;
use crate::host::{Access, Ctx};
use crate::model::system::Endpoint;

/// How an endpoint is.
#[derive(Debug, Default, Serialize)]
pub(super) struct Probe {
    #[serde(flatten)]
    response: Response,
    /// What was found and what was expected, when it is not well.
    problem: Option<String>,
    /// The kind of the failure.
    kind: Option<&'static str>,
}

const PATIENCE: Duration = Duration::from_secs(10);

/// Asks an endpoint of the system and judges the answer.
///
/// # Errors
///
/// Only when it can not be asked: `denied`, `invalid`, `not_found`, `config`.
pub(super) async fn probe(ctx: &Ctx, name: &str) -> Result<Probe> {
    let endpoint = endpoint(ctx, name)?;
    let request = request(ctx, endpoint, read_url(&endpoint.url)?)?;
    let (url, started) = (without_secrets(&request.url), Instant::now());
    match request.send(ctx.permissions(), ctx.now()).await {
        Ok(mut response) => {
            let problem = problem(endpoint, &response);
            response.ok = problem.is_none();
            let kind = problem.is_some().then(|| Kind::Remote.name());
            Ok(Probe { response, problem, kind })
        }
        Err(error) if error.kind.is_retryable() => {
            let mut response = Response { url, ..Response::default() };
            response.timings.total = millis(started.elapsed());
            Ok(Probe { response, problem: Some(error.message), kind: Some(error.kind.name()) })
        }
        Err(error) => Err(error),
    }
}

pub(super) fn endpoint<'c>(ctx: &'c Ctx, name: &str) -> Result<&'c Endpoint> {
    let endpoints = &ctx.system().endpoints;
    endpoints.get(name).filter(|endpoint| !endpoint.url.is_empty()).ok_or_else(|| {
        let error = Error::new(Kind::NotFound, format!("the system has no endpoint `{name}`"));
        error.suggest_or(name, endpoints.keys(), || format!("add `[endpoints.{name}]` with its `url` to the file of the system"))
    })
}

/// A request at an endpoint. Its `ca` and `connect` come from the operator, not from the script, and
/// need no grant beyond the one for its address.
pub(super) fn request(ctx: &Ctx, endpoint: &Endpoint, url: Url) -> Result<Request> {
    let grant = ctx.permissions().check(&Access::url("GET", &url))?.clone();
    request_under(ctx, endpoint, (Method::GET, url), &grant)
}

/// As [`request`], of any method, covered by this grant.
pub(super) fn request_under(ctx: &Ctx, endpoint: &Endpoint, (method, url): (Method, Url), grant: &Grant) -> Result<Request> {
    let connect = endpoint.connect.as_deref().map(|text| Ok::<_, Error>((Peer::parse(text)?, grant.clone()))).transpose()?;
    let mut request = Request::new(method, url);
    request.host.clone_from(&endpoint.host);
    request.connect = connect;
    request.trust = Trust::of_file(endpoint.ca.as_deref().map(std::path::Path::new))?;
    request.timeout = endpoint.timeout.map_or(PATIENCE, |timeout| timeout.0);
    request.expect = if endpoint.status.is_empty() { vec![200] } else { endpoint.status.clone() };
    for (name, value) in &endpoint.headers {
        request.header(name, &ctx.secrets().reveal(value)?)?;
    }
    Ok(request)
}

/// What is wrong with an answer, in one line; the first thing only.
fn problem(endpoint: &Endpoint, response: &Response) -> Option<String> {
    if !response.ok {
        return Some(format!("status {}{}, expected {}", response.status, whereto(response), statuses(&endpoint.status)));
    }
    if let Some(wanted) = endpoint.contains.as_ref().filter(|wanted| !response.body.contains(*wanted)) {
        return Some(format!("the body{} does not contain `{wanted}`", beginning(&response.body)));
    }
    endpoint.json.iter().find_map(|(path, wanted)| {
        let Some(json) = response.json.as_ref() else {
            return Some(format!("the body{} is no JSON, expected `{path}` to be {wanted}", beginning(&response.body)));
        };
        match at(json, path) {
            Some(found) if same(found, wanted) => None,
            Some(found) => Some(format!("`{path}` is {}, expected {wanted}", shortened(&found.to_string()))),
            None => Some(format!("the body has no `{path}`, expected {wanted}")),
        }
    })
}

fn whereto(response: &Response) -> String {
    let location = response.headers.get("location").filter(|_| (300..400).contains(&response.status));
    location.map(|location| format!(" to `{}`", location.split(['?', '#']).next().unwrap_or_default())).unwrap_or_default()
}

fn statuses(expected: &[u16]) -> String {
    if expected.is_empty() {
        return "200".to_owned();
    }
    expected.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ")
}

fn beginning(body: &str) -> String {
    if body.is_empty() { " is empty and".to_owned() } else { format!(" `{}`", shortened(body)) }
}

/// Enough to recognise an error page, in one line.
fn shortened(text: &str) -> String {
    const ENOUGH: usize = 60;
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(ENOUGH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The value at `a.b.0`: keys of objects, places in lists.
pub(in crate::host) fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, key| match value {
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}

/// Numbers are the same by value: a system file can not know whether a server writes `1` or `1.0`.
fn same(found: &Value, wanted: &Value) -> bool {
    match (found.as_f64(), wanted.as_f64()) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => found == wanted,
    }
}
