//! `tls::`: certificates, in files and as servers show them. Reads only.

mod certificate;
mod file;
mod pem;
mod served;
mod system;
#[cfg(test)]
pub(in crate::host) mod testing;
#[cfg(test)]
mod tests;

pub(in crate::host) use certificate::Certificate;
pub(in crate::host) use pem::read_pem;

use rhai::plugin::*;

use crate::error::Result;
use crate::host::dial::Peer;
use crate::host::trust::{Trust, certificates_of};
use crate::host::{Access, Call, Function, HostModule, Permissions, RhaiResultOf};

/// The module `tls`.
pub const MODULE: HostModule = HostModule {
    name: "tls",
    summary: "certificates: in files and as served, how long they hold, whether they are trusted and match",
    build: || exported_module!(api),
    functions: &[
        Function::read("file").needs("fs", "read", 0).options::<file::FileOptions>(),
        Function::read("served").needs("net", "connect", 0).options::<served::ServedOptions>(),
        Function::read("certificate"),
    ],
};

#[export_module]
mod api {
    use std::path::Path;

    use rhai::{Dynamic, Map};

    use super::{ask, file, system};
    use crate::host::dial::Peer;
    use crate::host::{Call, RhaiResultOf};

    /// The certificate in a PEM file.
    ///
    /// ```rhai,lab
    /// let file = tls::file(system::certificates["public"].file);
    /// file.ok && file.days_left > 0 && file.names.len() > 0
    /// ```
    ///
    /// Returns `ok`, `problem` (one line, nothing when it is well: expired, not valid yet, another key), `subject`, `issuer`, `names`
    /// (hosts and addresses), `not_before`, `not_after` (RFC 3339), `days_left` (whole days, negative when expired), `serial`,
    /// `fingerprint` (SHA-256), `chain` (the certificates after the first, likewise) and `key_matches` (nothing without `key`).
    ///
    /// Options: `key` (the file of the private key, to compare), `name` (it must be for this one, and its chain lead to an authority that
    /// is trusted), `ca` (a PEM file with the authorities to trust then, instead of the machine's). All files need `fs`; where the grant is
    /// not for the very path, it must cover what a link leads to. Throws `denied`, `not_found`, `invalid` (no PEM, no certificate, larger than 1 MiB).
    #[rhai_fn(name = "file", return_raw, volatile)]
    pub fn file_with(native: NativeCallContext, path: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "tls::file")?;
        let options = call.options(options)?;
        let report = file::file(call.ctx().permissions(), Path::new(path), &options, call.ctx().now()).map_err(|error| call.fail(error))?;
        call.value(&report)
    }

    /// The certificate in a PEM file, without a key to compare.
    #[rhai_fn(name = "file", return_raw, volatile)]
    pub fn file_only(native: NativeCallContext, path: &str) -> RhaiResultOf<Dynamic> {
        file_with(native, path, Map::new())
    }

    /// The certificate a server shows, and whether it is to be trusted.
    ///
    /// ```rhai,lab
    /// let shop = system::certificates["public"];
    /// let shown = tls::served(shop.served, #{ name: shop.name, ca: shop.ca });
    /// shown.trusted && shown.days_left > 0 && shown.protocol == "TLSv1.3"
    /// ```
    ///
    /// The address is `"host:port"`, or host and port. Returns what `file` returns without `key_matches`, and `trusted` (as `ok`),
    /// `protocol` (nothing when the handshake failed after all), `address`, `ms`. `problem` says why it is not trusted: expired, not
    /// valid yet, wrong name, self-signed, from an unknown authority, without its intermediates; the dates are there all the same.
    ///
    /// Options: `name` (it must be for this one; the host when absent), `ca` (a PEM file with the authorities to trust; needs `fs`),
    /// `timeout` (10 s), `connect` (`"127.0.0.1:8443"`: connect there instead; needs `net` for it), `starttls` (`smtp` or `postgres`).
    /// Throws `denied`, `connect`, `timeout`, `remote` (it speaks no TLS), `invalid`.
    #[rhai_fn(name = "served", return_raw, volatile)]
    pub fn served_with(native: NativeCallContext, address: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "tls::served")?;
        let peer = Peer::parse(address).map_err(|error| call.fail(error))?;
        ask(&call, peer, options)
    }

    /// The certificate of the server at `"host:port"`.
    #[rhai_fn(name = "served", return_raw, volatile)]
    pub fn served(native: NativeCallContext, address: &str) -> RhaiResultOf<Dynamic> {
        served_with(native, address, Map::new())
    }

    /// The certificate of the server at a host and port.
    #[rhai_fn(name = "served", return_raw, volatile)]
    pub fn served_at_with(native: NativeCallContext, host: &str, port: i64, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "tls::served")?;
        let peer = Peer::new(host, port).map_err(|error| call.fail(error))?;
        ask(&call, peer, options)
    }

    /// The certificate of the server at a host and port.
    #[rhai_fn(name = "served", return_raw, volatile)]
    pub fn served_at(native: NativeCallContext, host: &str, port: i64) -> RhaiResultOf<Dynamic> {
        served_at_with(native, host, port, Map::new())
    }

    /// A certificate of the system: in its file, as served, or both.
    ///
    /// ```rhai,lab
    /// let certificate = tls::certificate("public");
    /// certificate.ok && certificate.days_left > 0 && certificate.matches != false
    /// ```
    ///
    /// Everything comes from `[certificates.NAME]`: `file` (needs `fs`), `served` (needs `net`), `name`, `ca`. Returns `ok`, `problem` (the
    /// first one found), `days_left` (the smaller of both), `matches` (the served serial is that of the file; nothing unless there are
    /// both), `file` and `served` as the functions of these names return them, or nothing. Throws what they throw.
    #[rhai_fn(return_raw, volatile)]
    pub fn certificate(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "tls::certificate")?;
        let found = call.wait(system::certificate(call.ctx(), name))?;
        call.value(&found)
    }
}

/// Asks a server, at the address the script wants to connect to.
fn ask(call: &Call<'_>, peer: Peer, options: rhai::Map) -> RhaiResultOf<Dynamic> {
    let options: served::ServedOptions = call.options(options)?;
    let permissions = call.ctx().permissions();
    let question = question(permissions, peer, options).map_err(|error| call.fail(error))?;
    let shown = call.wait(question.ask(permissions, call.ctx().now()))?;
    call.value(&shown)
}

fn question(permissions: &Permissions, peer: Peer, options: served::ServedOptions) -> Result<served::Question> {
    let granted = |peer: &Peer| permissions.check(&Access::host("connect", &peer.host, peer.port)).cloned();
    let mut grant = granted(&peer)?;
    let name = options.name.unwrap_or_else(|| peer.host.clone());
    let mut peer = peer;
    if let Some(text) = &options.connect {
        peer = Peer::parse(text)?;
        grant = granted(&peer)?;
    }
    let trust = match &options.ca {
        None => Trust::Machine,
        Some(path) => Trust::Only(certificates_of(&read_pem(permissions, path)?)?),
    };
    let timeout = options.timeout.map_or(served::PATIENCE, |timeout| timeout.0);
    Ok(served::Question { peer, grant, name, trust, timeout, starttls: options.starttls })
}
