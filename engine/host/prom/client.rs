//! Requests to Prometheus and Alertmanager, and what they say when they say no.

use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::host::Ctx;
use crate::host::http::{Answer, Content, Question, ask};
use crate::model::Span;

const TIMEOUT: Span = Span::secs(30);
/// So much longer than the server is waited for: its own words are better than none.
const GRACE: Duration = Duration::from_secs(2);
const MOST_BYTES: usize = 16 << 20;
/// So many series, alerts, rules or targets are given to a script.
pub(super) const MOST: usize = 5000;
/// What a server says may be long.
const MOST_SAID: usize = 500;

/// How long one waits.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WaitOptions {
    pub(super) timeout: Option<Span>,
}

/// A server behind an endpoint of the system.
pub(super) struct Server {
    ctx: Ctx,
    name: String,
    timeout: Span,
}

/// What Prometheus wraps an answer in.
#[derive(Deserialize)]
pub(super) struct Told<T> {
    pub(super) data: T,
    #[serde(default)]
    pub(super) warnings: Vec<String>,
}

impl Server {
    /// The server behind this endpoint; its file says how long it may take, unless the script does.
    pub(super) fn of(ctx: &Ctx, name: &str, timeout: Option<Span>) -> Self {
        let own = ctx.system().endpoints.get(name).and_then(|endpoint| endpoint.timeout);
        Self { ctx: ctx.clone(), name: name.to_owned(), timeout: timeout.or(own).unwrap_or(TIMEOUT) }
    }

    pub(super) fn ctx(&self) -> &Ctx {
        &self.ctx
    }

    /// How long the server may take, as it reads it.
    pub(super) fn patience(&self) -> String {
        format!("{}ms", self.timeout.0.as_millis())
    }

    /// Reads what is at a path.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T> {
        self.data(Method::GET, path, Content::Nothing).await
    }

    /// Sends something, and reads the answer.
    pub(super) async fn data<T: DeserializeOwned>(&self, method: Method, path: &[&str], content: Content) -> Result<T> {
        let answer = self.send(method, path, content).await?;
        if answer.body.truncated {
            let error = Error::new(Kind::Limit, format!("the answer is larger than {} MiB", MOST_BYTES >> 20));
            return Err(error.target(&self.name).hint("ask for less: fewer series, a shorter time, a longer step"));
        }
        serde_json::from_slice(&answer.body.bytes).map_err(|error| {
            Error::because(Kind::Remote, "the answer is none of Prometheus or Alertmanager", &error)
                .target(&self.name)
                .hint(format!("see `url` of `[endpoints.{}]`: it has to be the address that `/api/` is below", self.name))
        })
    }

    /// Sends something, and sees that it is not refused.
    pub(super) async fn send(&self, method: Method, path: &[&str], content: Content) -> Result<Answer> {
        let question = Question { method, path, content, limit: self.timeout.0.saturating_add(GRACE), most: MOST_BYTES };
        let answer = ask(&self.ctx, &self.name, question).await.map_err(|error| match error.kind {
            // Where it is tells less than what it is called, and stands in the message.
            Kind::Timeout | Kind::Connect | Kind::Remote => error.target(&self.name),
            _ => error,
        })?;
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(refused(&answer).target(&self.name)) }
    }
}

/// Refuses more than a script can do something with.
pub(super) fn capped<T>(what: &str, found: Vec<T>, hint: &str) -> Result<Vec<T>> {
    if found.len() > MOST {
        return Err(Error::new(Kind::Limit, format!("there are {} {what}; {MOST} is the most", found.len())).hint(hint));
    }
    Ok(found)
}

/// What a server says when it says no.
fn refused(answer: &Answer) -> Error {
    let said: Value = serde_json::from_slice(&answer.body.bytes).unwrap_or_default();
    let plain = || Some(String::from_utf8_lossy(&answer.body.bytes).trim().to_owned()).filter(|text| !text.starts_with('<'));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    // Prometheus, Alertmanager by its validation, Alertmanager by itself, both of them outside of their APIs.
    let words = text(&said["error"]).or_else(|| text(&said["message"])).or_else(|| text(&said)).or_else(plain);
    let words: String = words.unwrap_or_default().chars().take(MOST_SAID).collect();
    let error = |kind| match words.as_str() {
        "" => Error::new(kind, format!("status {} without a reason", answer.status)),
        words => Error::new(kind, format!("status {}: {words}", answer.status)),
    };
    match (said["errorType"].as_str().unwrap_or_default(), answer.status) {
        ("timeout", _) => error(Kind::Timeout).hint("ask for less, or give it longer: the option `timeout`"),
        ("execution", _) if words.contains("too many samples") => error(Kind::Limit).hint("ask for less: a shorter time, a longer step"),
        ("bad_data" | "execution", _) => error(Kind::Invalid),
        ("not_found", _) => error(Kind::NotFound),
        ("canceled" | "unavailable" | "internal", _) => error(Kind::Remote),
        (_, 300..400) => error(Kind::Remote).permanent().hint("it redirects: the address of the endpoint has to be the one it leads to"),
        (_, 400 | 422) => error(Kind::Invalid),
        (_, 401) => error(Kind::Refused).hint("it does not know who asks: see `headers` of the endpoint"),
        (_, 403 | 429) => error(Kind::Refused),
        (_, 404 | 405) => error(Kind::NotFound),
        (_, 408 | 504) => error(Kind::Timeout),
        _ => error(Kind::Remote),
    }
}
