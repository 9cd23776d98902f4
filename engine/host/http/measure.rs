//! Endpoints as samples.

use std::time::Duration;

use serde_json::Value;

use super::client::read_url;
use super::probe::{endpoint, probe, request};
use crate::error::{Error, Kind, Result};
use crate::host::Ctx;
use crate::host::measure::{Found, number, one};
use crate::model::{Reading, Size};

/// The largest page that is read.
const PAGE: Size = Size(8 << 20);
/// The text format that everybody knows. Without it a page may have names that are no names here.
const FORMATS: &str = "text/plain;version=0.0.4, application/json;q=0.9, */*;q=0.1";

/// Whether an endpoint answers as it must, and in what time. One that can not be asked is unknown; one that
/// does not answer is down, which is what was asked.
pub(in crate::host) async fn measure(ctx: &Ctx, name: &str) -> Found {
    let (answer, problem) = match probe(ctx, name).await {
        Ok(probe) => (serde_json::to_value(probe).unwrap_or_default(), None),
        Err(problem) => (Value::Null, Some(problem)),
    };
    let up = match answer["problem"].is_null() {
        _ if answer.is_null() => Reading::Unknown,
        is_well => Reading::Known(if is_well { 1.0 } else { 0.0 }),
    };
    // The time of what never answered is that of the limit, and says nothing.
    let ms = if answer["status"].as_u64().unwrap_or(0) > 0 { number(&answer["timings"], "total") } else { Reading::Unknown };
    let measured = [("endpoint_up", up), ("endpoint_ms", ms)].map(|(series, value)| one(series, "endpoint", name, value)).to_vec();
    Found { measured, problem }
}

/// What an endpoint of the system answers, at its own path or another one of the same address.
///
/// # Errors
///
/// As a probe of it; `remote` for another status than 200, `limit` for a page of more than 8 MiB.
pub(in crate::host) async fn page(ctx: &Ctx, name: &str, path: Option<&str>, limit: Duration) -> Result<String> {
    let endpoint = endpoint(ctx, name)?;
    let own = read_url(&endpoint.url)?;
    let url = match path {
        Some(path) => own.join(path).map_err(|error| Error::because(Kind::Invalid, format_args!("`{path}` is no path"), &error))?,
        None => own,
    };
    let mut request = request(ctx, endpoint, url)?;
    request.header("accept", FORMATS)?;
    request.timeout = limit;
    request.expect = vec![200];
    request.max_body = usize::try_from(PAGE.0).unwrap_or(usize::MAX);
    let response = request.send(ctx.permissions(), ctx.now()).await?;
    if !response.ok {
        return Err(Error::new(Kind::Remote, format!("status {}, expected 200", response.status)).target(response.url));
    }
    if response.truncated {
        return Err(Error::new(Kind::Limit, format!("the page is larger than {PAGE}")).target(response.url));
    }
    Ok(response.body)
}
