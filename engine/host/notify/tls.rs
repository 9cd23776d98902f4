//! Whom channels over TLS are believed; how, [`trust`] decides.

use std::error::Error as StdError;
use std::io;

use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, Kind, Result};
use crate::host::trust::{self, Trust};

/// The settings of a client that trusts the machine's authorities; nobody when `encrypted` is false,
/// so that a machine without any can still speak plain HTTP.
pub(super) fn config(encrypted: bool) -> Result<ClientConfig> {
    if encrypted {
        return Trust::Machine.client();
    }
    let builder = ClientConfig::builder_with_provider(trust::provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Error::because(Kind::Bug, "no TLS settings", &error))?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// What is wrong with the certificate of the other side, if that is the cause; another try will not
/// change it.
pub(super) fn certificate_error(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(refused @ rustls::Error::InvalidCertificate(_)) = cause.downcast_ref() {
            return Some(trust::in_words(refused));
        }
        // An I/O error hides what it wraps from `source`.
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| certificate_error(inner)) {
            return Some(found);
        }
        next = cause.source();
    }
    None
}
