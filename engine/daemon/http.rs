//! HTTP: takes requests apart, and puts answers together. What they mean is a [`Site`]'s.
//!
//! One request per connection, each with limits on its size and its time, so that no client holds much up.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub(super) use hyper::{Method, StatusCode};

/// The longest body.
const LONGEST_BODY: usize = 1 << 20;
/// How long a client may take for its headers, and for all of its request.
const HEADERS: Duration = Duration::from_secs(5);
const ALL: Duration = Duration::from_secs(30);
/// How many are answered at the same time; more wait to be accepted.
const MOST: usize = 256;

/// What a client asks.
#[derive(Debug)]
pub(super) struct Request {
    /// `GET`, `POST`.
    pub(super) method: Method,
    /// Its path, as it was sent.
    pub(super) path: String,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Its body.
    pub(super) body: Bytes,
}

impl Request {
    /// A header as text; nothing when it is not there, or no text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The name in its `Host`, without the port.
    fn host(&self) -> Option<&str> {
        let host = self.headers.get(HOST)?.to_str().ok()?;
        match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|letter| letter.is_ascii_digit()) => Some(name),
            _ => Some(host),
        }
    }

    /// Whether it means this machine by name or address: a page in a browser that was led here by a name of its own
    /// does not.
    pub(super) fn is_for_this_machine(&self) -> bool {
        let Some(host) = self.host() else { return false };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// What it is answered.
#[derive(Debug)]
pub(super) struct Response {
    /// How it went.
    pub(super) status: StatusCode,
    /// What the body is.
    pub(super) kind: &'static str,
    /// The body.
    pub(super) body: String,
}

impl Response {
    /// An answer in one line of text.
    pub(super) fn text(status: StatusCode, text: impl std::fmt::Display) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: format!("{text}\n") }
    }
}

/// What requests are answered by.
pub(super) trait Site: Send + Sync + 'static {
    /// Answers; it may block.
    fn answer(&self, request: &Request) -> Response;
}

/// Answers for as long as it is polled.
pub(super) async fn serve(listener: TcpListener, site: Arc<dyn Site>) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, mostly: to ask again at once would only burn time.
                tracing::warn!("a client was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let site = site.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(site.clone(), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .keep_alive(false)
                .max_buf_size(64 << 10)
                .serve_connection(TokioIo::new(stream), service);
            // What a client does wrong is its own affair.
            let _ = tokio::time::timeout(ALL, connection).await;
            drop(place);
        });
    }
}

async fn respond(site: Arc<dyn Site>, request: hyper::Request<Incoming>) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let response = match read(request).await {
        Ok(request) => tokio::task::spawn_blocking(move || site.answer(&request))
            .await
            .unwrap_or_else(|_| Response::text(StatusCode::INTERNAL_SERVER_ERROR, "a bug in runbook")),
        Err(response) => response,
    };
    let mut answer = hyper::Response::new(Full::new(Bytes::from(response.body)));
    *answer.status_mut() = response.status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(response.kind));
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(answer)
}

async fn read(request: hyper::Request<Incoming>) -> Result<Request, Response> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, LONGEST_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(Response::text(StatusCode::PAYLOAD_TOO_LARGE, format_args!("a body has {} KiB at most", LONGEST_BODY >> 10)));
        }
        Err(_) => return Err(Response::text(StatusCode::BAD_REQUEST, "the body did not come")),
    };
    Ok(Request { method: head.method, path: head.uri.path().to_owned(), headers: head.headers, body })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    struct Echo;

    impl Site for Echo {
        fn answer(&self, request: &Request) -> Response {
            let Request { method, path, body, .. } = request;
            Response::text(StatusCode::OK, format_args!("{method} {path} {} {}", body.len(), request.is_for_this_machine()))
        }
    }

    async fn say(text: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, Arc::new(Echo)));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (mut from, mut to) = stream.split();
        let mut answer = Vec::new();
        let read = async { from.read_to_end(&mut answer).await };
        // It may have answered before it read all.
        let (_, _) = tokio::join!(to.write_all(text.as_bytes()), read);
        server.abort();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_request_is_answered_and_the_connection_closed() {
        let answer = say("POST /a%2fb?c=d HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Length: 3\r\n\r\nabc".to_owned()).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("POST /a%2fb 3 true\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_refused() {
        let long = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{}", 2 << 20, "x".repeat(2 << 20));
        let answer = say(long).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }

    #[test]
    fn a_name_that_leads_here_is_not_this_machine() {
        let with = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_str(host).unwrap());
            Request { method: Method::GET, path: "/".to_owned(), headers, body: Bytes::new() }.is_for_this_machine()
        };
        for host in ["localhost", "localhost:9", "127.0.0.1", "127.0.0.1:8080", "[::1]:80", "[::1]"] {
            assert!(with(host), "{host}");
        }
        for host in ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test:80", "10.0.0.1", ""] {
            assert!(!with(host), "{host}");
        }
    }
}
