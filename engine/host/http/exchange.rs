//! One request to one checked address, and what came back of it.
//!
//! On hyper and rustls directly: the connection is made here, to an address that was checked, so
//! nothing can resolve, redirect or ask a proxy behind the back of the permissions; and each phase
//! can be timed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::{Error, Kind, Result, chain};
use crate::host::dial::{self, millis};
use crate::host::tls::Certificate;
use crate::host::trust::{self, Trust};
use crate::model::Span;

/// How long each phase took, in milliseconds; 0 for a phase that was not needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::host) struct Timings {
    /// Resolving the name.
    pub(super) dns: f64,
    /// Connecting.
    pub(super) connect: f64,
    /// The TLS handshake.
    pub(super) tls: f64,
    /// From the request to the head of the answer.
    pub(super) first_byte: f64,
    /// Everything, redirects included.
    pub(super) total: f64,
}

/// The encryption of a connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::host) struct Encryption {
    protocol: String,
    cipher: String,
    /// Whether the chain and the name were verified.
    verified: bool,
    #[serde(flatten)]
    certificate: Certificate,
}

/// Where a connection goes and how it is made.
pub(in crate::host) struct Route<'a> {
    pub(in crate::host) addresses: &'a [SocketAddr],
    /// The name the server must prove; none without TLS.
    pub(in crate::host) server_name: Option<&'a str>,
    pub(in crate::host) trust: &'a Trust,
    /// The settings for TLS, when they are more than the trust.
    pub(in crate::host) client: Option<ClientConfig>,
    pub(in crate::host) connect_timeout: Duration,
    pub(in crate::host) now: Timestamp,
}

/// What came back.
pub(in crate::host) struct Answer {
    pub(in crate::host) status: u16,
    pub(in crate::host) headers: HeaderMap,
    pub(in crate::host) body: Body,
    pub(in crate::host) remote: Option<SocketAddr>,
    pub(in crate::host) tls: Option<Encryption>,
}

/// The body of an answer, decompressed, up to a cap.
#[derive(Debug, Default)]
pub(in crate::host) struct Body {
    pub(in crate::host) bytes: Vec<u8>,
    pub(in crate::host) truncated: bool,
}

/// Makes one request on a connection of its own.
pub(in crate::host) async fn exchange(
    route: &Route<'_>,
    request: hyper::Request<Full<Bytes>>,
    max_body: usize,
    timings: &mut Timings,
) -> Result<Answer> {
    let started = Instant::now();
    let stream = dial::connect(route.addresses, route.connect_timeout).await?;
    timings.connect = millis(started.elapsed());
    let remote = stream.peer_addr().ok();
    let (mut answer, tls) = match route.server_name {
        None => (speak(stream, request, max_body, timings).await?, None),
        Some(name) => {
            let started = Instant::now();
            let stream = encrypt(stream, name, route).await?;
            timings.tls = millis(started.elapsed());
            let tls = encryption(&stream, route)?;
            (speak(stream, request, max_body, timings).await?, Some(tls))
        }
    };
    answer.remote = remote;
    answer.tls = tls;
    Ok(answer)
}

async fn encrypt(stream: TcpStream, name: &str, route: &Route<'_>) -> Result<TlsStream<TcpStream>> {
    let config = route.client.clone().map_or_else(|| route.trust.client(), Ok)?;
    let server_name = ServerName::try_from(name.to_owned())
        .map_err(|error| Error::because(Kind::Invalid, format_args!("`{name}` can not be the name of a server"), &error))?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(server_name, stream);
    match timeout(route.connect_timeout, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match trust::handshake_error(&error) {
            Some(rustls) => Error::new(Kind::Connect, format!("no TLS with `{name}`: {}", trust::in_words(rustls))).permanent(),
            None => Error::because(Kind::Connect, format_args!("no TLS with `{name}`"), &error),
        }),
        Err(_) => Err(Error::new(Kind::Timeout, format!("no TLS with `{name}` within {}", Span(route.connect_timeout)))),
    }
}

fn encryption(stream: &TlsStream<TcpStream>, route: &Route<'_>) -> Result<Encryption> {
    let (_, connection) = stream.get_ref();
    let leaf = connection.peer_certificates().and_then(<[_]>::first);
    Ok(Encryption {
        protocol: connection.protocol_version().map(trust::protocol_in_words).unwrap_or_default(),
        cipher: connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default(),
        verified: !matches!(route.trust, Trust::Anyone),
        certificate: leaf.map(|leaf| Certificate::read(leaf, route.now)).transpose()?.unwrap_or_default(),
    })
}

/// Speaks HTTP/1.1 on a connection. The connection is driven here and ends with the answer.
async fn speak<S>(stream: S, request: hyper::Request<Full<Bytes>>, max_body: usize, timings: &mut Timings) -> Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| Error::new(Kind::Remote, format!("the answer is no proper HTTP or broke off: {}", chain(&error)));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let driver = async {
        // Its failures come out of the answer as well.
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    let answer = async {
        let started = Instant::now();
        let response = sender.send_request(request).await.map_err(broken)?;
        timings.first_byte = millis(started.elapsed());
        let (head, body) = response.into_parts();
        let gzip = head.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"gzip"));
        let body = if gzip { read(body, Gunzip::new(max_body)).await? } else { read(body, Capped::new(max_body)).await? };
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, remote: None, tls: None })
    };
    tokio::select! {
        answer = answer => answer,
        never = driver => match never {},
    }
}

async fn read(mut body: Incoming, mut sink: impl Sink) -> Result<Body> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::because(Kind::Remote, "the body broke off", &error))?;
        if let Ok(data) = frame.into_data()
            && !sink.take(&data)?
        {
            break;
        }
    }
    sink.finish()
}

/// Where the bytes of a body go.
trait Sink {
    /// Takes a chunk; false when it is full.
    fn take(&mut self, chunk: &[u8]) -> Result<bool>;
    fn finish(self) -> Result<Body>;
}

/// Keeps so many bytes and refuses the rest.
struct Capped {
    body: Body,
    max: usize,
}

impl Capped {
    fn new(max: usize) -> Self {
        Self { body: Body::default(), max }
    }
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = self.max - self.body.bytes.len();
        self.body.truncated |= bytes.len() > room;
        self.body.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if self.body.truncated { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink for Capped {
    fn take(&mut self, chunk: &[u8]) -> Result<bool> {
        Ok(self.write(chunk).is_ok())
    }

    fn finish(self) -> Result<Body> {
        Ok(self.body)
    }
}

/// Decompresses in small portions, so that the cap holds for what comes out and not for what goes in.
struct Gunzip {
    decoder: MultiGzDecoder<Capped>,
    /// An answer to `HEAD` promises a body it does not have.
    is_empty: bool,
}

impl Gunzip {
    fn new(max: usize) -> Self {
        Self { decoder: MultiGzDecoder::new(Capped::new(max)), is_empty: true }
    }

    fn is_full(&self) -> bool {
        self.decoder.get_ref().body.truncated
    }
}

impl Sink for Gunzip {
    fn take(&mut self, chunk: &[u8]) -> Result<bool> {
        self.is_empty &= chunk.is_empty();
        match self.decoder.write_all(chunk).and_then(|()| self.decoder.flush()) {
            Ok(()) => Ok(true),
            Err(_) if self.is_full() => Ok(false),
            Err(error) => Err(no_gzip(&error)),
        }
    }

    fn finish(mut self) -> Result<Body> {
        if !self.is_empty
            && !self.is_full()
            && let Err(error) = self.decoder.try_finish()
            && !self.is_full()
        {
            return Err(no_gzip(&error));
        }
        Ok(std::mem::take(&mut self.decoder.get_mut().body))
    }
}

fn no_gzip(error: &std::io::Error) -> Error {
    Error::because(Kind::Remote, "the body is no proper gzip", error)
}

/// The headers by name in lower case; several of one name are joined as RFC 9110 has it.
pub(super) fn headers_by_name(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut by_name: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        by_name
            .entry(name.as_str().to_owned())
            .and_modify(|joined| {
                joined.push_str(", ");
                joined.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    by_name
}
