//! Endpoints as samples.

use super::probe::probe;
use crate::host::Ctx;
use crate::host::measure::{Measured, number, one};
use crate::model::Reading;

/// Whether an endpoint answers as it must, and in what time. One that can not be asked is unknown; one that
/// does not answer is down, which is what was asked.
pub(in crate::host) async fn measure(ctx: &Ctx, name: &str) -> Measured {
    let answer = probe(ctx, name).await.ok().and_then(|probe| serde_json::to_value(probe).ok()).unwrap_or_default();
    let up = match answer["problem"].is_null() {
        _ if answer.is_null() => Reading::Unknown,
        is_well => Reading::Known(if is_well { 1.0 } else { 0.0 }),
    };
    // The time of what never answered is that of the limit, and says nothing.
    let ms = if answer["status"].as_u64().unwrap_or(0) > 0 { number(&answer["timings"], "total") } else { Reading::Unknown };
    [("endpoint_up", up), ("endpoint_ms", ms)].map(|(series, value)| one(series, "endpoint", name, value)).to_vec()
}
