//! Connections and names.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::host::dial::{self, Peer, millis};
use crate::host::permission::{Grant, Permissions};
use crate::model::Span;

/// How long an answer is waited for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TimeoutOptions {
    pub(super) timeout: Option<Span>,
}

const PATIENCE: Duration = Duration::from_secs(5);

impl TimeoutOptions {
    fn limit(&self) -> Duration {
        self.timeout.map_or(PATIENCE, |timeout| timeout.0)
    }
}

/// Whether a port answers.
#[derive(Debug, Default, Serialize)]
pub(super) struct Reach {
    ok: bool,
    ms: f64,
    address: Option<String>,
    problem: Option<String>,
    kind: Option<&'static str>,
}

/// Connects and closes again.
pub(super) async fn tcp(peer: &Peer, options: &TimeoutOptions, permissions: &Permissions, grant: &Grant) -> Result<Reach> {
    let limit = options.limit();
    let started = Instant::now();
    let reached = async {
        let addresses = peer.resolve(permissions, grant, limit).await?;
        let resolved = Instant::now();
        let stream = dial::connect(&addresses, limit.saturating_sub(started.elapsed())).await?;
        Ok((stream, resolved))
    };
    match reached.await {
        Ok((stream, resolved)) => Ok(Reach {
            ok: true,
            ms: millis(resolved.elapsed()),
            address: stream.peer_addr().ok().map(|address| address.to_string()),
            ..Reach::default()
        }),
        Err(error) => {
            let (problem, kind) = as_problem(error)?;
            Ok(Reach { ms: millis(started.elapsed()), problem: Some(problem), kind: Some(kind), ..Reach::default() })
        }
    }
}

/// What a name stands for.
#[derive(Debug, Default, Serialize)]
pub(super) struct Names {
    ok: bool,
    addresses: Vec<String>,
    ms: f64,
    problem: Option<String>,
    kind: Option<&'static str>,
}

/// Resolves a name as this machine does: hosts file, then DNS.
pub(super) async fn dns(peer: &Peer, options: &TimeoutOptions) -> Result<Names> {
    let started = Instant::now();
    let found = peer.lookup(options.limit()).await;
    let ms = millis(started.elapsed());
    match found {
        Ok(addresses) => {
            let mut addresses: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            addresses.dedup();
            Ok(Names { ok: true, addresses, ms, ..Names::default() })
        }
        Err(error) => {
            let (problem, kind) = as_problem(error)?;
            Ok(Names { ms, problem: Some(problem), kind: Some(kind), ..Names::default() })
        }
    }
}

/// What an unreachable host makes of a result; anything else stays an error.
fn as_problem(error: Error) -> Result<(String, &'static str)> {
    if error.kind.is_retryable() { Ok((error.message, error.kind.name())) } else { Err(error) }
}
