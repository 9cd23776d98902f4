//! For tests: an authority of their own, and servers with its certificates.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::host::trust::provider;

/// An authority nobody else knows.
pub(in crate::host) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(in crate::host) pem: String,
}

/// A certificate and its key.
pub(in crate::host) struct Identity {
    pub(in crate::host) certificate: String,
    pub(in crate::host) key: String,
    chain: Vec<CertificateDer<'static>>,
    key_der: PrivateKeyDer<'static>,
}

impl Authority {
    pub(in crate::host) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Test Authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this name, valid from 2020 to the first day of this year.
    pub(in crate::host) fn issue(&self, name: &str, until: i32) -> Identity {
        let (params, key) = leaf(name, until);
        Identity::new(&params.signed_by(&key, &self.issuer).unwrap(), &key)
    }
}

/// A certificate that vouches for itself, as `openssl req -x509` makes it: one of an authority.
pub(in crate::host) fn self_signed(name: &str, until: i32) -> Identity {
    let (mut params, key) = leaf(name, until);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Identity::new(&params.self_signed(&key).unwrap(), &key)
}

fn leaf(name: &str, until: i32) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    (params, KeyPair::generate().unwrap())
}

impl Identity {
    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            chain: vec![certificate.der().clone()],
            key_der: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    /// What a server with this identity does to a connection.
    pub(in crate::host) fn acceptor(self) -> TlsAcceptor {
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(self.chain, self.key_der).unwrap()))
    }
}
