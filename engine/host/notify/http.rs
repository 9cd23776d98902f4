//! One POST of JSON to a channel: limits, and what each answer means for the next try.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use url::Url;

use crate::error::{Error, Kind, Result, chain};
use crate::host::Secrets;
use crate::host::notify::client::{CONNECT_TIMEOUT, Receipt, Refusal, TOTAL_TIMEOUT};
use crate::host::notify::{tls, words};

/// More of an answer is not read.
const ANSWER_LIMIT: usize = 64 * 1024;
/// How much of an answer is shown.
const EXCERPT: usize = 200;
/// How long to wait when a channel says "too fast" and not how long.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);
/// No channel makes us wait longer than a message lives.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// A 2xx answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Reply {
    /// One line for the receipt.
    pub(super) fn in_words(&self) -> String {
        match excerpt(&self.body) {
            body if body.is_empty() => format!("HTTP {}", self.status),
            body => format!("HTTP {}: {body}", self.status),
        }
    }

    /// The receipt, unless the answer is 2xx and yet no yes: a web page, or JSON that says no.
    pub(super) fn agreed(self) -> Result<Receipt, Refusal> {
        let is_page = self.body.trim_start().starts_with('<');
        let says_no = serde_json::from_str(&self.body).is_ok_and(|answer: Value| {
            answer["ok"] == false || answer["success"] == false || answer["errcode"].as_i64().is_some_and(|code| code != 0)
        });
        match (is_page, says_no) {
            (true, _) => Err(Refusal::later(Kind::Remote, format!("a web page instead of an answer ({})", self.in_words()))
                .hint("check the address of the contact; a proxy may answer in its place")),
            (_, true) => Err(Refusal::later(Kind::Remote, format!("not accepted ({})", self.in_words()))),
            _ => Ok(Receipt { detail: self.in_words() }),
        }
    }
}

/// The headers of a contact, with their secrets.
///
/// # Errors
///
/// `not_found` for a secret that is not set, `invalid` for what can not stand in a header.
pub(super) fn headers(headers: &BTreeMap<String, String>, secrets: &Secrets) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let bad = |what: &str| Error::new(Kind::Config, format!("header `{}` of the contact: {what}", words::line(name)));
        let key: HeaderName = name.parse().map_err(|_| bad("the name is none"))?;
        let mut value: HeaderValue = secrets.reveal(value)?.parse().map_err(|_| bad("the value has letters a header can not have"))?;
        value.set_sensitive(true);
        map.insert(key, value);
    }
    Ok(map)
}

/// The address of a contact.
///
/// # Errors
///
/// `config`, without the address, which may hold a token.
pub(super) fn address(url: &str) -> Result<Url, Refusal> {
    let bad = |what: &str| Refusal::never(Kind::Config, format!("the address of the contact {what}"));
    let url = Url::parse(url).map_err(|error| bad(&format!("is none: {error}")))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(bad(&format!("begins with `{other}`, not with `https`"))),
    }
}

/// Posts JSON, waits for a 2xx answer, and asks the channel's `judge` whether that is a yes.
///
/// # Errors
///
/// A [`Refusal`] that names scheme, host and port only: paths and queries of webhooks are tokens.
pub(super) async fn post(
    url: Url,
    headers: HeaderMap,
    body: &Value,
    judge: fn(Reply) -> Result<Receipt, Refusal>,
) -> Result<Receipt, Refusal> {
    let origin = url.origin().ascii_serialization();
    exchange(url, headers, body).await.and_then(judge).map_err(|refusal| refusal.target(origin))
}

async fn exchange(url: Url, headers: HeaderMap, body: &Value) -> Result<Reply, Refusal> {
    let client = client(url.scheme() == "https")?;
    let response = client.post(url).headers(headers).json(body).send().await.map_err(|error| broken(&error.without_url()))?;
    let status = response.status();
    let wait = retry_after(response.headers());
    let body = text(response).await.map_err(|error| broken(&error.without_url()))?;
    let reply = Reply { status: status.as_u16(), body };
    if status.is_success() { Ok(reply) } else { Err(refused(status, wait, &reply)) }
}

fn client(encrypted: bool) -> Result<Client> {
    Client::builder()
        .tls_backend_preconfigured(tls::config(encrypted)?)
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .user_agent(concat!("runbook/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Error::because(Kind::Config, "no HTTP client", &error))
}

async fn text(mut response: Response) -> reqwest::Result<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        bytes.extend_from_slice(&chunk[..chunk.len().min(ANSWER_LIMIT - bytes.len())]);
        if bytes.len() == ANSWER_LIMIT {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn broken(error: &reqwest::Error) -> Refusal {
    if let Some(why) = tls::certificate_error(error) {
        return Refusal::never(Kind::Refused, format!("{why}; nothing was sent"));
    }
    match error.is_timeout() {
        true => Refusal::later(Kind::Timeout, format!("no answer: {}", chain(error))),
        false => Refusal::later(Kind::Connect, format!("no connection: {}", chain(error))),
    }
}

fn refused(status: StatusCode, wait: Option<Duration>, reply: &Reply) -> Refusal {
    let said = reply.in_words();
    match (status.as_u16(), wait) {
        (429 | 503, Some(wait)) => Refusal::after(wait, said),
        (429, None) => Refusal::after(DEFAULT_WAIT, said),
        (301 | 308, _) => Refusal::never(Kind::Config, said).hint("the channel has moved: give the contact its new address"),
        (300..=399 | 408 | 425 | 500..=599, _) => Refusal::later(Kind::Remote, said),
        (404 | 410, _) => {
            Refusal::never(Kind::NotFound, said).hint("the channel is gone: make a new webhook and give the contact its address")
        }
        (401 | 403, _) => Refusal::never(Kind::Refused, said).hint("check the token of the contact"),
        _ => Refusal::never(Kind::Refused, said),
    }
}

/// Seconds, or a date that is compared with the server's own clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let date = |text: &str| -> Option<Timestamp> { rfc2822::parse(text).ok().map(|zoned| zoned.timestamp()) };
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let now = date(headers.get(DATE)?.to_str().ok()?)?;
            Duration::try_from(date(text)?.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

fn excerpt(body: &str) -> String {
    words::cut(&words::line(&body.chars().take(4 * EXCERPT).collect::<String>()), EXCERPT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::notify::client::Retry;

    fn refusal(status: u16, wait: Option<u64>) -> Retry {
        let reply = Reply { status, body: String::new() };
        refused(StatusCode::from_u16(status).unwrap(), wait.map(Duration::from_secs), &reply).retry
    }

    #[test]
    fn each_status_says_whether_to_try_again() {
        assert_eq!(refusal(429, Some(30)), Retry::After(Duration::from_secs(30)));
        assert_eq!(refusal(429, None), Retry::After(DEFAULT_WAIT));
        for status in [302, 408, 500, 502, 503, 504] {
            assert_eq!(refusal(status, None), Retry::Later, "{status}");
        }
        for status in [301, 400, 401, 403, 404, 405, 410, 413, 422] {
            assert_eq!(refusal(status, None), Retry::Never, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_clock() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("30"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(30)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("Sat, 21 Nov 2026 12:00:45 GMT"));
        headers.insert(DATE, HeaderValue::from_static("Sat, 21 Nov 2026 12:00:00 GMT"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(45)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("soon"));
        assert_eq!(retry_after(&headers), None);
    }

    #[test]
    fn a_2xx_answer_can_still_be_a_no() {
        let agreed = |body: &str| Reply { status: 200, body: body.to_owned() }.agreed().is_ok();
        assert!(agreed("ok") && agreed("") && agreed(r#"{"ok":true}"#) && agreed(r#"{"errcode":0}"#) && agreed("[1]"));
        assert!(!agreed("<html>It works</html>") && !agreed(r#"{"ok":false,"error":"x"}"#) && !agreed(r#"{"errcode":93000}"#));
    }

    #[test]
    fn a_header_with_a_line_break_is_refused_without_its_value() {
        let set = [("X-Token".to_owned(), "abc\r\nX-Evil: 1".to_owned())].into();
        let error = headers(&set, &Secrets::default()).unwrap_err();
        assert!(error.message.contains("X-Token") && !error.message.contains("abc"), "{error}");
    }
}
