//! What a certificate says of itself.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::error::{Error, Kind, Result};
use crate::words;

/// One certificate, in words and figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::host) struct Certificate {
    pub(super) subject: String,
    pub(super) issuer: String,
    /// The host names and addresses it is for.
    pub(super) names: Vec<String>,
    pub(super) not_before: String,
    pub(super) not_after: String,
    /// Whole days until it expires; negative when it has.
    pub(super) days_left: i64,
    /// In hexadecimal, as `openssl x509 -serial` prints it.
    pub(super) serial: String,
    /// SHA-256 of the certificate, in hexadecimal.
    pub(super) fingerprint: String,
}

const DAY: i64 = 86_400;

impl Certificate {
    /// Reads a certificate; `now` is what its days are counted from.
    ///
    /// # Errors
    ///
    /// `invalid`, when it is none.
    pub(in crate::host) fn read(der: &CertificateDer<'_>, now: Timestamp) -> Result<Self> {
        let broken = |error: x509_cert::der::Error| Error::because(Kind::Invalid, "the certificate can not be read", &error);
        let certificate = x509_cert::Certificate::from_der(der).map_err(broken)?.tbs_certificate;
        let stamp = |time: x509_cert::time::Time| {
            let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
            Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
        };
        let not_after = stamp(certificate.validity.not_after);
        let names = certificate.get::<SubjectAltName>().map_err(broken)?.map(|(_, names)| names.0).unwrap_or_default();
        Ok(Self {
            subject: certificate.subject.to_string(),
            issuer: certificate.issuer.to_string(),
            names: names.iter().filter_map(name).collect(),
            not_before: stamp(certificate.validity.not_before).to_string(),
            not_after: not_after.to_string(),
            days_left: (not_after.as_second() - now.as_second()).div_euclid(DAY),
            serial: serial(certificate.serial_number.as_bytes()),
            fingerprint: words::hex(&Sha256::digest(der)),
        })
    }

    /// What is wrong with its time, if anything.
    pub(super) fn validity_problem(&self, now: Timestamp) -> Option<String> {
        let begins: Option<Timestamp> = self.not_before.parse().ok();
        if self.days_left < 0 {
            Some("the certificate has expired".to_owned())
        } else if begins.is_some_and(|begins| now < begins) {
            Some("the certificate is not valid yet".to_owned())
        } else {
            None
        }
    }

    /// Whether it was signed by its own owner.
    pub(super) fn is_self_signed(&self) -> bool {
        self.subject == self.issuer
    }
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => match *bytes.as_bytes() {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            ref bytes => <[u8; 16]>::try_from(bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    }
}

/// The zero byte that keeps a large number positive in DER is not part of it.
fn serial(bytes: &[u8]) -> String {
    let digits = match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        bytes => bytes,
    };
    words::hex(digits).to_uppercase()
}
