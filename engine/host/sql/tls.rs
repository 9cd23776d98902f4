//! How the server of a database is trusted.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Kind, Result};
use crate::model::system::Database;

/// The mode and the connector that `tls` and `ca` of a database ask for.
///
/// `prefer` checks no certificate: who can take TLS away could show any.
///
/// # Errors
///
/// `config`, when the mode is unknown or the file of authorities can not be read.
pub(super) fn connector(database: &Database) -> Result<(SslMode, MakeRustlsConnect)> {
    let (mode, verified) = match database.tls.as_str() {
        "disable" => (SslMode::Disable, false),
        "" | "prefer" => (SslMode::Prefer, false),
        "require" => (SslMode::Require, true),
        "require-noverify" => (SslMode::Require, false),
        other => {
            return Err(Error::new(Kind::Config, format!("unknown `tls` mode `{other}`"))
                .hint("the modes are `disable`, `prefer`, `require` and `require-noverify`"));
        }
    };
    let config = match (verified, &database.ca) {
        (false, _) => unverified(),
        (true, Some(file)) => trusting(file),
        (true, None) => trusting_the_machine(),
    };
    Ok((mode, MakeRustlsConnect::new(config?)))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(unusable)
}

fn unusable(error: rustls::Error) -> Error {
    Error::because(Kind::Config, "TLS can not be used", &error)
}

fn trusting_the_machine() -> Result<ClientConfig> {
    Ok(builder()?.with_platform_verifier().map_err(unusable)?.with_no_client_auth())
}

fn trusting(file: &str) -> Result<ClientConfig> {
    let unreadable = |cause: &dyn std::fmt::Display| Error::new(Kind::Config, format!("`{file}` can not be read as certificates: {cause}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() {
        return Err(unreadable(&"it holds none"));
    }
    Ok(builder()?.with_root_certificates(roots).with_no_client_auth())
}

fn unverified() -> Result<ClientConfig> {
    Ok(builder()?.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider()))).with_no_client_auth())
}

/// Trusts every server; only for databases that say so.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
