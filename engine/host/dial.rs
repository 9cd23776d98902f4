//! Reaching a host: its name is resolved once, every address is checked, and only a checked address
//! is connected to. No proxy of the environment is asked.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use url::Host;

use crate::error::{Error, Kind, Result};
use crate::host::Permissions;
use crate::host::permission::Grant;
use crate::model::Span;

/// A host and port, in the one spelling permissions compare: `2130706433` is `127.0.0.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The name in lower case, or the address without brackets.
    pub(crate) host: String,
    /// The port; 0 where none matters.
    pub(crate) port: u16,
}

impl Peer {
    /// This host and port.
    ///
    /// # Errors
    ///
    /// `invalid`, when it can be no host or no port.
    pub(crate) fn new<P: TryInto<u16> + fmt::Display + Copy>(host: &str, port: P) -> Result<Self> {
        let Ok(port) = port.try_into() else {
            return Err(Error::new(Kind::Invalid, format!("{port} is not a port, expected 1 to 65535")));
        };
        let host = match host.parse::<Ipv6Addr>() {
            Ok(address) => address.to_string(),
            Err(_) => match Host::parse(host) {
                Ok(Host::Ipv6(address)) => address.to_string(),
                Ok(other) => other.to_string(),
                Err(error) => return Err(Error::because(Kind::Invalid, format_args!("`{host}` is not a host"), &error)),
            },
        };
        Ok(Self { host, port })
    }

    /// Reads `host:port`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    ///
    /// `invalid`, when the port is missing or the host can be none.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let Some((host, port)) = parts else {
            return Err(Error::new(Kind::Invalid, format!("`{text}` is not `host:port`")));
        };
        Self::new(host, port)
    }

    /// The addresses, each one covered by the grant; one that is not spoils them all, so that a name
    /// with a public and a private address reaches neither.
    ///
    /// # Errors
    ///
    /// `connect` when the name does not resolve, `timeout`, or `denied` naming the address.
    pub(crate) async fn resolve(&self, permissions: &Permissions, grant: &Grant, limit: Duration) -> Result<Vec<SocketAddr>> {
        let addresses = self.lookup(limit).await?;
        self.check(&addresses, permissions, grant)?;
        Ok(addresses)
    }

    fn check(&self, addresses: &[SocketAddr], permissions: &Permissions, grant: &Grant) -> Result<()> {
        addresses.iter().try_for_each(|address| permissions.check_address(grant, &self.host, address.ip()))
    }

    /// What the name stands for, whoever may reach it; in the order they should be tried.
    ///
    /// # Errors
    ///
    /// `connect` when it does not resolve, `timeout`.
    pub(crate) async fn lookup(&self, limit: Duration) -> Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let unresolved =
            |kind, why: &dyn fmt::Display| Error::new(kind, format!("`{}` does not resolve: {why}", self.host)).target(&self.host);
        let found = timeout(limit, tokio::net::lookup_host((self.host.as_str(), self.port)))
            .await
            .map_err(|_| unresolved(Kind::Timeout, &format_args!("no answer within {}", Span(limit))))?
            .map_err(|error| unresolved(Kind::Connect, &error))?;
        let addresses: Vec<_> = found.collect();
        if addresses.is_empty() {
            return Err(unresolved(Kind::Connect, &"it has no address"));
        }
        Ok(addresses)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

/// Connects to the first address that answers, in their order; each gets its share of the time.
///
/// # Errors
///
/// `connect` or `timeout`, of the last address that was tried.
pub(crate) async fn connect(addresses: &[SocketAddr], limit: Duration) -> Result<TcpStream> {
    let end = Instant::now() + limit;
    let mut last = Error::new(Kind::Connect, "there is no address to connect to");
    for (index, address) in addresses.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(1);
        last = match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => Error::because(Kind::Connect, format_args!("no connection to `{address}`"), &error),
            Err(_) => Error::new(Kind::Timeout, format!("no connection to `{address}` within {}", Span(share))),
        };
        last = last.target(address.to_string());
    }
    Err(last)
}

/// Milliseconds with two digits after the point, as timings are told.
pub(crate) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::host::testing::refusing_port;
    use crate::model::System;

    #[test]
    fn every_spelling_of_an_address_is_one() {
        for text in ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "１２７.0.0.1"] {
            assert_eq!(Peer::new(text, 80).unwrap().to_string(), "127.0.0.1:80", "{text}");
        }
        assert_eq!(Peer::parse("[::1]:443").unwrap(), Peer { host: "::1".to_owned(), port: 443 });
        assert_eq!(Peer::new("::1", 443).unwrap().to_string(), "[::1]:443");
        assert_eq!(Peer::parse("DB.example:5432").unwrap().host, "db.example");
        for text in ["host", "host:", ":80", "a b:80", "host:99999"] {
            assert_eq!(Peer::parse(text).unwrap_err().kind, Kind::Invalid, "{text}");
        }
    }

    #[test]
    fn one_private_address_spoils_all() {
        let checked = |entry: &str, addresses: &[&str]| {
            let permissions = Permissions::read(&serde_json::from_value(json!({ "net": [entry] })).unwrap(), &System::default()).unwrap();
            let grant = permissions.effective().next().unwrap().clone();
            let addresses: Vec<SocketAddr> = addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 80)).collect();
            Peer::new("app.test", 80).unwrap().check(&addresses, &permissions, &grant)
        };
        assert!(checked("app.test:80", &["1.1.1.1", "2606:4700::1111"]).is_ok());
        for private in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd00::1"] {
            assert_eq!(checked("app.test:80", &["1.1.1.1", private]).unwrap_err().kind, Kind::Denied, "{private}");
        }
        assert!(checked("app.test:80 @private", &["10.0.0.1", "fd00::1"]).is_ok());
        assert!(checked("app.test:80 @private", &["10.0.0.1", "127.0.0.1"]).is_err());
    }

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_refuses() {
        let (_socket, closed) = refusing_port();
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [([127, 0, 0, 1], closed).into(), open.local_addr().unwrap()];
        let stream = connect(&addresses, Duration::from_secs(5)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        let error = connect(&addresses[..1], Duration::from_secs(5)).await.unwrap_err();
        assert_eq!((error.kind, error.retryable), (Kind::Connect, true));
    }
}
