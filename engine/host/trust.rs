//! Whom TLS trusts: the one place that chooses the cryptography and makes the settings of clients.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
#[cfg(feature = "k8s")]
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_cert::der::Decode;

use crate::error::{Error, Kind, Result};
use crate::words;

/// Whose word counts for the identity of a server.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// The authorities this machine trusts.
    Machine,
    /// These authorities and no others.
    Only(Vec<CertificateDer<'static>>),
    /// Nobody is asked: encrypted, but with whom is not known.
    Anyone,
}

/// A certificate of a client with its key: what proves to a server who asks.
#[cfg(feature = "k8s")]
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

#[cfg(feature = "k8s")]
impl Identity {
    /// The certificates of one PEM text and the key of another.
    ///
    /// # Errors
    ///
    /// `invalid`, which shows nothing of the key.
    pub(crate) fn of_pem(chain: &[u8], key: &[u8]) -> Result<Self> {
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|_| Error::new(Kind::Invalid, "the key of the client certificate is broken"))?;
        Ok(Self { chain: certificates_of(chain)?, key })
    }
}

/// The cryptography of every TLS connection. Made the default of the process too, for the libraries
/// that ask there.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let install = || {
        let provider = aws_lc_rs::default_provider();
        // Fails only when there is a default already, and nothing else in this program sets one.
        let _ = provider.clone().install_default();
        Arc::new(provider)
    };
    PROVIDER.get_or_init(install).clone()
}

/// The certificates of a PEM text, in their order; other entries are passed over.
///
/// # Errors
///
/// `invalid`, when there is none or one is broken.
pub(crate) fn certificates_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let read: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = read.map_err(|error| Error::because(Kind::Invalid, "the PEM text is broken", &error))?;
    if certificates.is_empty() {
        return Err(Error::new(Kind::Invalid, "no certificate in it, expected a PEM text with `BEGIN CERTIFICATE`"));
    }
    Ok(certificates)
}

impl Trust {
    /// The authorities in a PEM file and no others; the machine's when there is no file.
    ///
    /// Asks no permission: the caller knows whether the path comes from the script or the system.
    ///
    /// # Errors
    ///
    /// `not_found` or `invalid`, naming the file.
    pub(crate) fn of_file(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::Machine) };
        let pem = std::fs::read(path).map_err(|error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Invalid };
            Error::because(kind, format_args!("the authorities in `{}` can not be read", path.display()), &error)
        })?;
        certificates_of(&pem).map(Self::Only).map_err(|error| error.context(format_args!("`{}`", path.display())))
    }

    /// The settings of a client that trusts like this.
    ///
    /// # Errors
    ///
    /// `config`, when the machine has no authorities; `invalid`, when one of the given is none.
    pub(crate) fn client(&self) -> Result<ClientConfig> {
        client_with(self.verifier()?)
    }

    /// The settings of a client that trusts like this, and proves itself who it is.
    ///
    /// # Errors
    ///
    /// As [`Trust::client`]; `invalid`, when the key is not that of the certificate.
    #[cfg(feature = "k8s")]
    pub(crate) fn client_as(&self, identity: &Identity) -> Result<ClientConfig> {
        let Identity { chain, key } = identity;
        let made = builder(self.verifier()?)?.with_client_auth_cert(chain.clone(), key.clone_key());
        made.map_err(|error| Error::because(Kind::Invalid, "the client certificate can not be used", &error))
    }

    /// What decides about the chain of a server.
    ///
    /// # Errors
    ///
    /// As [`Trust::client`].
    pub(crate) fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>> {
        match self {
            Self::Machine => machine(),
            Self::Anyone => Ok(Arc::new(Judged(Unverified))),
            Self::Only(authorities) => {
                let unusable =
                    |error: &(dyn std::error::Error + 'static)| Error::because(Kind::Invalid, "an authority can not be used", error);
                let mut roots = RootCertStore::empty();
                for authority in authorities {
                    roots.add(authority.clone()).map_err(|error| unusable(&error))?;
                }
                let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider()).build();
                let authorities = authorities.clone();
                Ok(Arc::new(Judged(Chosen { authorities, verifier: verifier.map_err(|error| unusable(&error))? })))
            }
        }
    }
}

/// The settings of a client with this verifier.
///
/// # Errors
///
/// `bug` only: the provider knows the protocols.
pub(crate) fn client_with(verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig> {
    Ok(builder(verifier)?.with_no_client_auth())
}

fn builder(verifier: Arc<dyn ServerCertVerifier>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::because(Kind::Bug, "no TLS settings", &error))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

/// What rustls says in the error of a handshake.
pub(crate) fn handshake_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// `TLSv1.3`, as openssl writes it.
pub(crate) fn protocol_in_words(version: rustls::ProtocolVersion) -> String {
    format!("{version:?}").replace('_', ".")
}

/// Why a handshake failed, for people.
pub(crate) fn in_words(error: &rustls::Error) -> String {
    use CertificateError as Bad;
    let rustls::Error::InvalidCertificate(bad) = error else { return error.to_string() };
    match bad {
        Bad::Expired | Bad::ExpiredContext { .. } => "the certificate has expired".to_owned(),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => "the certificate is not valid yet".to_owned(),
        Bad::UnknownIssuer => "the certificate comes from no trusted authority".to_owned(),
        Bad::NotValidForNameContext { expected, presented } => {
            format!("the certificate is for {}, expected `{}`", presented_in_words(presented), expected.to_str())
        }
        Bad::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "the certificate is one of an authority, and not itself among those trusted".to_owned()
        }
        other => format!("the certificate is refused: {other}"),
    }
}

fn presented_in_words(presented: &[String]) -> String {
    // rustls shows them as `DnsName("a.example")`.
    let names: Vec<String> = presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name).to_owned()).collect();
    if names.is_empty() { "no name".to_owned() } else { words::list(&names) }
}

/// Reading the machine's bundle takes milliseconds, so it is read once per process.
fn machine() -> Result<Arc<dyn ServerCertVerifier>> {
    static VERIFIER: OnceLock<Arc<rustls_platform_verifier::Verifier>> = OnceLock::new();
    if let Some(verifier) = VERIFIER.get() {
        return Ok(verifier.clone());
    }
    let verifier = rustls_platform_verifier::Verifier::new(provider()).map_err(|error| {
        Error::because(Kind::Config, "this machine has no list of trusted authorities", &error)
            .hint("install the package `ca-certificates`, or set SSL_CERT_FILE")
    })?;
    Ok(VERIFIER.get_or_init(|| Arc::new(verifier)).clone())
}

/// Decides about the chain of a server.
pub(crate) trait Judge: fmt::Debug + Send + Sync {
    /// Believes the chain, or says why not; as [`ServerCertVerifier::verify_server_cert`].
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error>;
}

/// A verifier that lets a judge decide about the chain, and demands whatever it says that the server
/// holds the key of its certificate.
#[derive(Debug)]
pub(crate) struct Judged<J>(pub(crate) J);

impl<J: Judge> ServerCertVerifier for Judged<J> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        self.0.judge(leaf, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Believes chosen authorities, and a server that shows one of these very certificates: a self-signed
/// certificate as `openssl req -x509` makes it is one of an authority, which webpki lets no server use.
#[derive(Debug)]
struct Chosen {
    authorities: Vec<CertificateDer<'static>>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl Judge for Chosen {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if !self.authorities.contains(leaf) {
            return self.verifier.verify_server_cert(leaf, intermediates, name, ocsp, now);
        }
        verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        verify_time(leaf, now)?;
        Ok(ServerCertVerified::assertion())
    }
}

fn verify_time(leaf: &CertificateDer<'_>, now: UnixTime) -> std::result::Result<(), CertificateError> {
    let validity = x509_cert::Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?.tbs_certificate.validity;
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet);
    }
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired);
    }
    Ok(())
}

/// Accepts any chain.
#[derive(Debug)]
struct Unverified;

impl Judge for Unverified {
    fn judge(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_certificates_trusts_nobody() {
        assert_eq!(certificates_of(b"hello").unwrap_err().kind, Kind::Invalid);
        assert!(certificates_of(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n").is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Trust::of_file(Some(Path::new("/nowhere/ca.pem"))).unwrap_err();
        assert_eq!(error.kind, Kind::NotFound);
        assert!(error.message.contains("/nowhere/ca.pem"));
    }

    #[test]
    fn the_provider_becomes_the_default_of_the_process() {
        Trust::Anyone.client().unwrap();
        assert!(CryptoProvider::get_default().is_some());
    }
}
