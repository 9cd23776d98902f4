//! Sessions with the servers of a system: what databases and caches have in common.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::model::Span;

/// Whether a server lets one in.
#[derive(Debug, Serialize)]
pub(crate) struct Ping {
    ok: bool,
    ms: u64,
    problem: Option<String>,
    kind: Option<Kind>,
    hint: Option<String>,
}

impl Ping {
    /// Knocks at an address; what fails is the answer, not an error.
    pub(crate) async fn of<T>(address: &str, limit: Span, knocking: impl Future<Output = Result<T>>) -> Self {
        let started = Instant::now();
        let error = within(address, limit, Duration::ZERO, knocking).await.err();
        Self {
            ok: error.is_none(),
            ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            kind: error.as_ref().map(|error| error.kind),
            hint: error.as_ref().and_then(|error| error.hints.first().cloned()),
            problem: error.map(|error| error.message),
        }
    }
}

/// Does the work within its limit and what comes on top of it: the login, and the time a server needs
/// to give up itself.
///
/// # Errors
///
/// As the work fails; `timeout` after that.
pub(crate) async fn within<T>(address: &str, limit: Span, on_top: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(on_top + limit.0, work).await.unwrap_or_else(|_| Err(silent(address, limit)))
}

/// Why nobody waits for a server any longer.
pub(crate) fn silent(address: &str, limit: Span) -> Error {
    Error::new(Kind::Timeout, format!("`{address}` does not answer within {limit}"))
}

/// The error of a change that may have happened nevertheless.
pub(crate) fn in_doubt(error: Error) -> Error {
    error.permanent().hint("whether it took effect is not known: look before it is run again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_says_nothing_does_not_let_one_in() {
        let ping = Ping::of("db:5432", Span(Duration::from_millis(1)), std::future::pending::<Result<()>>()).await;
        assert_eq!((ping.ok, ping.kind), (false, Some(Kind::Timeout)));
        assert_eq!(ping.problem.unwrap(), "`db:5432` does not answer within 1ms");
    }
}
