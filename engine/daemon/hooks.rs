//! Hooks: runs that other systems start, and alerts they have.
//!
//! A request for a run is signed: HMAC-SHA256 over its time and its raw body. It counts for five minutes, and once: its run
//! has an identity that follows from the signature, so that a second run of it can not be recorded, whatever was
//! restarted in between.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Builder;

use super::Secret;
use super::http::{Request, StatusCode};
use super::runs::Runs;
use crate::error::{Kind, Result};
use crate::model::RunId;
use crate::run::daemon::Order;
use crate::words;

/// How old a request may be, or how far ahead its clock, in seconds.
const WINDOW: u64 = 300;

/// The header with the time, in seconds since 1970.
const TIMESTAMP: &str = "x-runbook-timestamp";
/// The header with `sha256=` and the signature in hex, over the time, a dot and the body.
const SIGNATURE: &str = "x-runbook-signature";

/// What others may do here.
#[derive(Debug, Clone)]
pub struct Hook {
    /// What requests are signed with or show, or why it is not known.
    pub secret: Result<Secret>,
    /// What they do.
    pub does: Deed,
}

/// What a request to a hook does.
#[derive(Debug, Clone)]
pub enum Deed {
    /// It starts a run.
    Run(Box<Order>),
    /// It brings alerts of Alertmanager; the system of those that name none.
    Alerts(String),
}

/// Why a hook does nothing.
#[derive(Debug)]
pub(super) struct Refused(pub(super) StatusCode, pub(super) String);

impl Hook {
    /// Its secret.
    pub(super) fn secret(&self, name: &str) -> Result<&Secret, Refused> {
        self.secret.as_ref().map_err(|error| {
            tracing::error!(hook = name, "{error}");
            Refused(StatusCode::SERVICE_UNAVAILABLE, "the secret of this hook is not known; the log of the daemon says why".to_owned())
        })
    }
}

/// Starts the run of a hook.
pub(super) fn start(
    runs: &std::sync::Arc<Runs>,
    name: &str,
    secret: &Secret,
    order: &Order,
    request: &Request,
    now: Timestamp,
) -> Result<Value, Refused> {
    let id = admit(name, secret, request, now)?;
    let queued = runs.order_once(order, id).map_err(|error| {
        let status = match error.kind {
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Store | Kind::NotStarted => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        tracing::warn!(hook = name, "not started: {error}");
        Refused(status, error.message)
    })?;
    Ok(json!({ "run": queued.run, "id": queued.id }))
}

/// The identity of the run of a request that is signed, and not too old.
fn admit(name: &str, secret: &Secret, request: &Request, now: Timestamp) -> Result<RunId, Refused> {
    let refused = |text: String| Refused(StatusCode::UNAUTHORIZED, text);
    let time = request.header(TIMESTAMP).and_then(|text| text.parse::<i64>().ok());
    let time = time.ok_or_else(|| refused(format!("no time in `{TIMESTAMP}`")))?;
    if now.as_second().abs_diff(time) > WINDOW {
        return Err(refused(format!("the time in `{TIMESTAMP}` is more than {} min away", WINDOW / 60)));
    }
    let signature = request.header(SIGNATURE).and_then(|text| words::unhex(text.strip_prefix("sha256=")?));
    let signature = signature.filter(|signature| verify(secret, time, &request.body, signature));
    let signature = signature.ok_or_else(|| refused(format!("the signature in `{SIGNATURE}` is not that of this request")))?;
    Ok(identity(name, time, &signature))
}

fn verify(secret: &Secret, time: i64, body: &[u8], signature: &[u8]) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.text().as_bytes()) else { return false };
    mac.update(time.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    // In a time that does not depend on where they differ.
    mac.verify_slice(signature).is_ok()
}

/// The identity of the run of a request: of its time, and of its signature.
fn identity(name: &str, time: i64, signature: &[u8]) -> RunId {
    let mut hash = Sha256::new();
    hash.update(name);
    hash.update([0]);
    hash.update(signature);
    let hash = hash.finalize();
    let random: [u8; 10] = hash[..10].try_into().expect("a SHA-256 has 32 bytes");
    RunId(Builder::from_unix_timestamp_millis(u64::try_from(time).unwrap_or(0) * 1000, &random).into_uuid())
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderValue};

    use super::super::http::Method;
    use super::*;

    fn signed(time: i64, signed_time: i64, body: &'static str, signed_body: &str) -> Request {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
        mac.update(format!("{signed_time}.{signed_body}").as_bytes());
        let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut headers = HeaderMap::new();
        headers.insert(TIMESTAMP, HeaderValue::from(time));
        headers.insert(SIGNATURE, HeaderValue::from_str(&format!("sha256={signature}")).unwrap());
        Request { method: Method::POST, path: "/hooks/a".to_owned(), headers, body: body.into() }
    }

    fn admitted(request: &Request) -> Result<RunId, String> {
        admit("a", &Secret::new("secret"), request, Timestamp::from_second(1000).unwrap()).map_err(|refused| refused.1)
    }

    #[test]
    fn a_request_counts_for_five_minutes_and_as_it_was_signed() {
        assert!(admitted(&signed(1000, 1000, "x", "x")).is_ok());
        assert!(admitted(&signed(700, 700, "x", "x")).is_ok());
        assert!(admitted(&signed(699, 699, "x", "x")).unwrap_err().contains("5 min"));
        assert!(admitted(&signed(1301, 1301, "x", "x")).unwrap_err().contains("5 min"));
        assert!(admitted(&signed(1000, 1000, "y", "x")).unwrap_err().contains("signature"));
        assert!(admitted(&signed(1000, 700, "x", "x")).unwrap_err().contains("signature"));
        let request = signed(1000, 1000, "x", "x");
        let of = |secret: &str| admit("a", &Secret::new(secret), &request, Timestamp::from_second(1000).unwrap());
        assert!(of("").is_err() && of("secrets").is_err());
    }

    #[test]
    fn the_identity_of_a_run_follows_from_its_request() {
        let first = admitted(&signed(1000, 1000, "x", "x")).unwrap();
        assert_eq!(admitted(&signed(1000, 1000, "x", "x")).unwrap(), first);
        assert_ne!(admitted(&signed(1000, 1000, "y", "y")).unwrap(), first);
        assert_ne!(admitted(&signed(1001, 1001, "x", "x")).unwrap(), first);
    }
}
