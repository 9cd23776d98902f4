//! Certificates in files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustls::InconsistentKeys;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use super::certificate::Certificate;
use super::pem::read_pem;
use crate::error::{Error, Kind, Result};
use crate::host::Permissions;
use crate::host::trust::{Trust, certificates_of, in_words, provider};

/// What a certificate file is compared with.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileOptions {
    key: Option<PathBuf>,
    name: Option<String>,
    ca: Option<PathBuf>,
}

/// A certificate file: the first certificate, and those that vouch for it.
#[derive(Debug, Serialize)]
pub(super) struct FileReport {
    pub(super) ok: bool,
    pub(super) problem: Option<String>,
    #[serde(flatten)]
    pub(super) leaf: Certificate,
    chain: Vec<Certificate>,
    key_matches: Option<bool>,
}

/// Reads a certificate file, and its key when there is one to compare.
pub(super) fn file(permissions: &Permissions, path: &Path, options: &FileOptions, now: Timestamp) -> Result<FileReport> {
    let certificates = certificates_of(&read_pem(permissions, path)?).map_err(|error| error.target(path.display().to_string()))?;
    let refusal = refusal(permissions, &certificates, options, now)?;
    let mut chain = certificates.iter().map(|der| Certificate::read(der, now)).collect::<Result<Vec<_>>>()?;
    let leaf = chain.remove(0);
    let key_matches = match &options.key {
        None => None,
        Some(key) => {
            let pem = read_pem(permissions, key)?;
            Some(key_matches(certificates, &pem).map_err(|error| error.target(key.display().to_string()))?)
        }
    };
    let problem = match key_matches {
        Some(false) => Some("the key is not the one of the certificate".to_owned()),
        _ => leaf.validity_problem(now).or(refusal),
    };
    Ok(FileReport { ok: problem.is_none(), problem, leaf, chain, key_matches })
}

/// Why somebody who asks for the name would not believe the certificate, if so.
fn refusal(
    permissions: &Permissions,
    certificates: &[CertificateDer<'static>],
    options: &FileOptions,
    now: Timestamp,
) -> Result<Option<String>> {
    let Some(name) = &options.name else {
        return match options.ca {
            None => Ok(None),
            Some(_) => Err(Error::new(Kind::Invalid, "option `ca` without `name`").hint("`name` says whom the certificate has to be for")),
        };
    };
    let server = ServerName::try_from(name.clone())
        .map_err(|error| Error::because(Kind::Invalid, format_args!("`{name}` can not be the name of a server"), &error))?;
    let trust = match &options.ca {
        None => Trust::Machine,
        Some(path) => Trust::Only(certificates_of(&read_pem(permissions, path)?)?),
    };
    let moment = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0)));
    let (leaf, chain) = certificates.split_first().ok_or_else(|| Error::new(Kind::Invalid, "there is no certificate in it"))?;
    Ok(trust.verifier()?.verify_server_cert(leaf, chain, &server, &[], moment).err().map(|error| in_words(&error)))
}

/// Whether the private key belongs to the first certificate. An error never shows any of it.
fn key_matches(certificates: Vec<CertificateDer<'static>>, pem: &[u8]) -> Result<bool> {
    let unusable = || Error::new(Kind::Invalid, "no private key in it that can be used, expected a PEM text with `BEGIN PRIVATE KEY`");
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| unusable())?;
    let key = provider().key_provider.load_private_key(key).map_err(|_| unusable())?;
    match CertifiedKey::new(certificates, key).keys_match() {
        Ok(()) => Ok(true),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Ok(false),
        Err(error) => Err(Error::because(Kind::Invalid, "the key can not be compared", &error)),
    }
}
