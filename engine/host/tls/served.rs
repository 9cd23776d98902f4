//! Certificates as servers show them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustls::CertificateError;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::certificate::Certificate;
use crate::error::{Error, Kind, Result};
use crate::host::dial::{self, Peer, millis};
use crate::host::permission::{Grant, Permissions};
use crate::host::trust::{self, Judge, Judged, Trust, client_with, in_words};
use crate::model::Span;

/// How a server is asked for its certificate.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServedOptions {
    pub(super) name: Option<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) timeout: Option<Span>,
    pub(super) connect: Option<String>,
    pub(super) starttls: Option<StartTls>,
}

/// How a plain connection is turned into an encrypted one.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StartTls {
    /// RFC 3207.
    Smtp,
    /// The `SSLRequest` of PostgreSQL.
    Postgres,
}

/// A question to a server, with everything decided.
pub(super) struct Question {
    pub(super) peer: Peer,
    /// The grant that covers the address.
    pub(super) grant: Grant,
    /// The name the certificate must be for.
    pub(super) name: String,
    pub(super) trust: Trust,
    pub(super) timeout: Duration,
    pub(super) starttls: Option<StartTls>,
}

/// What a server showed, and whether it is to be believed.
#[derive(Debug, Serialize)]
pub(super) struct Served {
    ok: bool,
    trusted: bool,
    pub(super) problem: Option<String>,
    #[serde(flatten)]
    pub(super) leaf: Certificate,
    chain: Vec<Certificate>,
    protocol: Option<String>,
    address: String,
    ms: f64,
}

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

impl Question {
    /// Asks, and judges the answer; a certificate that is not to be believed is described all the same.
    ///
    /// # Errors
    ///
    /// `denied`, `connect`, `timeout`, `remote` when it speaks no TLS.
    pub(super) async fn ask(self, permissions: &Permissions, now: Timestamp) -> Result<Served> {
        let (limit, peer) = (self.timeout, self.peer.to_string());
        let late = || Error::new(Kind::Timeout, format!("`{peer}` showed no certificate within {}", Span(limit))).target(&peer);
        timeout(limit, self.look(permissions, now)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn look(self, permissions: &Permissions, now: Timestamp) -> Result<Served> {
        let started = Instant::now();
        let addresses = self.peer.resolve(permissions, &self.grant, self.timeout).await?;
        let mut stream = dial::connect(&addresses, self.timeout).await?;
        let address = stream.peer_addr().map_err(|error| self.failed(&error))?;
        match self.starttls {
            None => {}
            Some(StartTls::Smtp) => start_smtp(&mut stream).await?,
            Some(StartTls::Postgres) => start_postgres(&mut stream).await?,
        }
        let witness = Arc::new(Judged(Witness::new(&self.trust)?));
        let name = ServerName::try_from(self.name.clone())
            .map_err(|error| Error::because(Kind::Invalid, format_args!("`{}` can not be the name of a server", self.name), &error))?;
        let config = client_with(witness.clone())?;
        let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let Some((chain, verdict)) = witness.0.seen() else {
            return Err(shaken.map_or_else(|error| self.failed(&error), |_| Error::new(Kind::Remote, "the server shows no certificate")));
        };
        // A handshake that failed after the certificate was shown says why as well.
        let protocol = shaken.as_ref().ok().and_then(|stream| stream.get_ref().1.protocol_version()).map(trust::protocol_in_words);
        let verdict = verdict.and(shaken.map(drop).map_err(|error| Verdict::Failed(self.failed(&error).message)));
        describe(&chain, verdict, now, protocol, address, started)
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        let why = trust::handshake_error(error).map_or_else(|| error.to_string(), in_words);
        Error::new(Kind::Remote, format!("no TLS with `{}`: {why}", self.peer)).target(self.peer.to_string())
    }
}

fn describe(
    chain: &[CertificateDer<'static>],
    verdict: std::result::Result<(), Verdict>,
    now: Timestamp,
    protocol: Option<String>,
    address: SocketAddr,
    started: Instant,
) -> Result<Served> {
    let mut chain = chain.iter().map(|der| Certificate::read(der, now)).collect::<Result<Vec<_>>>()?;
    let leaf = chain.remove(0);
    let problem = verdict.err().map(|verdict| match verdict {
        Verdict::Failed(why) => why,
        // One as `openssl req -x509` makes it fails for being that of an authority.
        Verdict::Refused(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_)))
            if leaf.is_self_signed() =>
        {
            "the certificate is self-signed and not among those trusted".to_owned()
        }
        Verdict::Refused(error @ rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) if chain.is_empty() => {
            format!("{}, `{}`; the server sends no intermediate certificates", in_words(&error), leaf.issuer)
        }
        Verdict::Refused(error) => in_words(&error),
    });
    let ok = problem.is_none();
    Ok(Served { ok, trusted: ok, problem, leaf, chain, protocol, address: address.to_string(), ms: millis(started.elapsed()) })
}

/// Why a chain is not believed.
#[derive(Debug, Clone)]
enum Verdict {
    Refused(rustls::Error),
    /// It could not be judged, or something else failed.
    Failed(String),
}

type Seen = (Vec<CertificateDer<'static>>, std::result::Result<(), Verdict>);

/// Lets every chain through and remembers it, with what the judge said.
#[derive(Debug)]
struct Witness {
    judge: Arc<dyn ServerCertVerifier>,
    /// Why nothing can be judged: the machine has no list of authorities.
    blind: Option<String>,
    seen: Mutex<Option<Seen>>,
}

impl Witness {
    fn new(trust: &Trust) -> Result<Self> {
        let (judge, blind) = match trust.verifier() {
            Ok(judge) => (judge, None),
            Err(error) if error.kind == Kind::Config => (Trust::Anyone.verifier()?, Some(error.message)),
            Err(error) => return Err(error),
        };
        Ok(Self { judge, blind, seen: Mutex::default() })
    }

    fn seen(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Judge for Witness {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let verdict = match &self.blind {
            Some(why) => Err(Verdict::Failed(why.clone())),
            None => self.judge.verify_server_cert(leaf, intermediates, name, ocsp, now).map(drop).map_err(Verdict::Refused),
        };
        let chain = std::iter::once(leaf).chain(intermediates).map(|der| der.clone().into_owned()).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((chain, verdict));
        Ok(ServerCertVerified::assertion())
    }
}

/// Greeting, `EHLO`, `STARTTLS`; each answered with its number.
async fn start_smtp(stream: &mut TcpStream) -> Result<()> {
    smtp_answer(stream, "220").await?;
    write(stream, b"EHLO runbook\r\n").await?;
    smtp_answer(stream, "250").await?;
    write(stream, b"STARTTLS\r\n").await?;
    smtp_answer(stream, "220").await
}

/// Reads one answer, byte by byte: what follows it belongs to TLS.
async fn smtp_answer(stream: &mut TcpStream, expected: &str) -> Result<()> {
    /// No server has this much to say.
    const LONGEST: usize = 8192;
    let mut answer = Vec::new();
    while answer.len() < LONGEST {
        let byte = stream.read_u8().await.map_err(|error| Error::because(Kind::Remote, "the mail server hung up", &error))?;
        answer.push(byte);
        if byte != b'\n' {
            continue;
        }
        let line = answer.split(|&byte| byte == b'\n').nth_back(1).unwrap_or_default();
        // A hyphen after the number says that there are more lines.
        if line.get(3) != Some(&b'-') {
            let line = String::from_utf8_lossy(line);
            let fits = line.starts_with(expected);
            return if fits {
                Ok(())
            } else {
                Err(Error::new(Kind::Remote, format!("the mail server says `{}`, expected {expected}", line.trim())))
            };
        }
    }
    Err(Error::new(Kind::Remote, "the mail server says too much"))
}

/// The request code of the protocol is 80877103; `S` is yes, `N` is no.
async fn start_postgres(stream: &mut TcpStream) -> Result<()> {
    write(stream, &[0, 0, 0, 8, 4, 210, 22, 47]).await?;
    match stream.read_u8().await {
        Ok(b'S') => Ok(()),
        Ok(b'N') => Err(Error::new(Kind::Remote, "the database offers no TLS").hint("set `ssl = on` in postgresql.conf")),
        Ok(_) => Err(Error::new(Kind::Remote, "the answer is not that of a PostgreSQL server")),
        Err(error) => Err(Error::because(Kind::Remote, "the database hung up", &error)),
    }
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).await.map_err(|error| Error::because(Kind::Remote, "the server hung up", &error))
}
