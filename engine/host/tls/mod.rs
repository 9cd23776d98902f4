//! `tls::`: certificates, in files and as servers show them.

mod certificate;
mod pem;
#[cfg(test)]
pub(in crate::host) mod testing;

pub(in crate::host) use certificate::Certificate;
pub(in crate::host) use pem::read_pem;
