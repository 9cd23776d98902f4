//! Which addresses are public, and the networks a grant names beyond them.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::{Error, Kind, Result};

/// Networks by name or CIDR: `loopback`, `private`, `10.0.0.0/8`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Networks(Vec<String>);

impl Networks {
    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names as written.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// These and another one.
    ///
    /// # Errors
    ///
    /// `invalid`, when it is neither a known name nor a CIDR.
    pub fn and(mut self, written: &str) -> Result<Self> {
        if !matches!(written, "loopback" | "private") && parse_cidr(written).is_none() {
            return Err(Error::new(Kind::Invalid, format!("`{written}` is not a network"))
                .hint("write `loopback`, `private` or a CIDR such as `10.0.0.0/8`"));
        }
        self.0.push(written.to_owned());
        Ok(self)
    }

    /// Whether an address lies in one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        self.0.iter().any(|name| match name.as_str() {
            "loopback" => address.is_loopback(),
            "private" => is_private(address),
            cidr => parse_cidr(cidr).is_some_and(|(network, bits)| in_network(address, network, bits)),
        })
    }
}

fn parse_cidr(text: &str) -> Option<(IpAddr, u32)> {
    let (network, bits) = text.split_once('/')?;
    let network: IpAddr = network.parse().ok()?;
    let bits: u32 = bits.parse().ok()?;
    (bits <= if network.is_ipv4() { 32 } else { 128 }).then_some((network, bits))
}

fn in_network(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let same = |a: u128, b: u128, width: u32| bits == 0 || (a ^ b) >> (width - bits) == 0;
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

/// The IPv4 address inside an IPv6 one that only carries it: mapped, compatible, NAT64, 6to4.
fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let parts = v6.segments();
    let last = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)));
    match parts {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => last(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => last(high, low),
        [0x2002, high, low, ..] => last(high, low),
        _ => address,
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64,
        IpAddr::V6(v6) => v6.segments()[0] & 0xfe00 == 0xfc00,
    }
}

/// Whether an address can belong to a host of the public internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    match canonical(address) {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(a == 0
                || v4.is_loopback()
                || is_private(IpAddr::V4(v4))
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || a >= 240
                || (a, b, c) == (192, 0, 0)
                || (a, b) == (198, 18)
                || (a, b) == (198, 19))
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            !(v6.is_loopback() || v6.is_unspecified() || is_private(IpAddr::V6(v6)) || first & 0xffc0 == 0xfe80 || first & 0xff00 == 0xff00)
        }
    }
}

/// What sort of address it is, for messages.
pub(super) fn describe(address: IpAddr) -> &'static str {
    let address = canonical(address);
    if address.is_loopback() {
        "this machine"
    } else if is_private(address) {
        "a private address"
    } else {
        "no public address"
    }
}

/// The network to name in a grant for this address.
pub(super) fn network_of(address: IpAddr) -> String {
    let address = canonical(address);
    if address.is_loopback() {
        "loopback".to_owned()
    } else if is_private(address) {
        "private".to_owned()
    } else {
        format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
    }
}

/// Whether the granted host is this very address, or the name that always means this machine.
pub(super) fn is_literal(host: &str, address: IpAddr) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return canonical(address).is_loopback();
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok_and(|literal| canonical(literal) == canonical(address))
}

/// A URL for messages: without user, password, query and fragment.
pub(crate) fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    // These fail only for URLs that have no host, which can carry neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_that_are_not_public() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "198.18.0.1",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "::7f00:1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2002:7f00:1::",
        ] {
            assert!(!is_public(address(text)), "{text}");
        }
        for text in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(is_public(address(text)), "{text}");
        }
    }

    #[test]
    fn named_networks_contain_their_addresses() {
        let networks = |names: &[&str]| names.iter().try_fold(Networks::default(), |networks, name| networks.and(name)).unwrap();
        assert!(networks(&["loopback"]).contain(address("::ffff:127.0.0.1")));
        assert!(!networks(&["loopback"]).contain(address("10.0.0.1")));
        assert!(networks(&["private"]).contain(address("fd00::1")));
        assert!(networks(&["10.0.0.0/8"]).contain(address("10.200.0.1")));
        assert!(!networks(&["10.0.0.0/8"]).contain(address("11.0.0.1")));
        assert!(Networks::default().and("10.0.0.0/33").is_err());
    }
}
