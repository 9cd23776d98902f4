//! What other modules ask of an endpoint of the system: its address is the base, and the permission is theirs.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use url::Url;

use super::client::read_url;
use super::exchange::Answer;
use super::probe::{endpoint, request_under};
use crate::error::Result;
use crate::host::Ctx;
use crate::host::dial::Peer;
use crate::host::permission::{Grant, Networks};
use crate::model::system::Endpoint;

/// What is sent with a question.
pub(in crate::host) enum Content {
    Nothing,
    Form(Vec<(&'static str, String)>),
    Json(Value),
}

/// A question to an endpoint.
pub(in crate::host) struct Question<'q> {
    pub(in crate::host) method: Method,
    /// The segments of its path below the base; whatever is in one, it is one.
    pub(in crate::host) path: &'q [&'q str],
    pub(in crate::host) content: Content,
    pub(in crate::host) limit: Duration,
    /// The most bytes that are read.
    pub(in crate::host) most: usize,
}

/// Asks an endpoint of the system, with its headers, its trust and its way to connect. Whoever calls has asked for permission.
///
/// # Errors
///
/// `not_found` when there is no such endpoint; `denied` when its name leads to a network that its file does not name; as a
/// request of a script. Any status is an answer.
pub(in crate::host) async fn ask(ctx: &Ctx, name: &str, question: Question<'_>) -> Result<Answer> {
    let endpoint = endpoint(ctx, name)?;
    let url = below(read_url(&endpoint.url)?, question.path);
    let grant = grant(endpoint)?;
    let mut request = request_under(ctx, endpoint, (question.method, url), &grant)?;
    match question.content {
        Content::Nothing => {}
        Content::Form(pairs) => {
            let mut text = url::form_urlencoded::Serializer::new(String::new());
            text.extend_pairs(pairs);
            request.content("application/x-www-form-urlencoded", text.finish());
        }
        Content::Json(value) => request.content("application/json", value.to_string()),
    }
    request.grant = Some(grant);
    request.timeout = question.limit;
    request.max_body = question.most;
    request.answer(ctx.permissions(), ctx.now()).await
}

/// What is below the base. That may be a server's page about its health, which is what endpoints are probed by.
fn below(mut base: Url, path: &[&str]) -> Url {
    base.set_query(None);
    base.set_fragment(None);
    let own = base.path().trim_end_matches('/');
    let own = ["/-/healthy", "/-/ready"].iter().find_map(|page| own.strip_suffix(page)).unwrap_or(own).to_owned();
    base.set_path(&own);
    if let Ok(mut segments) = base.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    base
}

/// The operator names the address; its name may lead where the operator says.
fn grant(endpoint: &Endpoint) -> Result<Grant> {
    let networks = endpoint.network.as_deref().map_or(Ok(Networks::default()), |network| Networks::default().and(network))?;
    Ok(Grant { section: "http".to_owned(), verb: String::new(), object: endpoint.url.clone(), networks, sink: None })
}

/// The ports an endpoint is reached at.
pub(in crate::host) fn is_reached_at(endpoint: &Endpoint) -> Option<u16> {
    match &endpoint.connect {
        Some(connect) => Peer::parse(connect).ok().map(|peer| peer.port),
        None => read_url(&endpoint.url).ok()?.port_or_known_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_the_base_and_a_segment_is_one() {
        let of = |base: &str, path: &[&str]| below(base.parse().unwrap(), path).to_string();
        assert_eq!(of("http://a:9090", &["api", "v1", "query"]), "http://a:9090/api/v1/query");
        assert_eq!(of("http://a/prometheus/?x=1#y", &["-", "reload"]), "http://a/prometheus/-/reload");
        assert_eq!(of("http://a/prometheus/-/healthy", &["api"]), "http://a/prometheus/api");
        assert_eq!(of("http://a:9093/-/ready", &["api"]), "http://a:9093/api");
        assert_eq!(of("http://a", &["silence", "../x?y"]), "http://a/silence/..%2Fx%3Fy");
    }
}
