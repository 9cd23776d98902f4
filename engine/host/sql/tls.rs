//! How the server of a database is trusted.

use std::path::Path;

use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Kind, Result};
use crate::host::trust::Trust;
use crate::model::system::Database;

/// The mode and the connector that `tls` and `ca` of a database ask for.
///
/// `prefer` checks no certificate: who can take TLS away could show any.
///
/// # Errors
///
/// `config`, when the mode is unknown; as [`Trust::of_file`] for the authorities.
pub(super) fn connector(database: &Database) -> Result<(SslMode, MakeRustlsConnect)> {
    let (mode, trust) = match database.tls.as_str() {
        "disable" => (SslMode::Disable, Trust::Anyone),
        "" | "prefer" => (SslMode::Prefer, Trust::Anyone),
        "require" => (SslMode::Require, Trust::of_file(database.ca.as_deref().map(Path::new))?),
        "require-noverify" => (SslMode::Require, Trust::Anyone),
        other => {
            return Err(Error::new(Kind::Config, format!("unknown `tls` mode `{other}`"))
                .hint("the modes are `disable`, `prefer`, `require` and `require-noverify`"));
        }
    };
    Ok((mode, MakeRustlsConnect::new(trust.client()?)))
}
