//! Latency and loss.
//!
//! By ICMP where the kernel lets ordinary users send an echo (`net.ipv4.ping_group_range`), else by the
//! time a TCP connection takes to be accepted or refused: either is an answer of the host.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, Kind, Result};
use crate::host::dial::millis;
use crate::model::Span;

/// How a host is pinged.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PingOptions {
    count: Option<u16>,
    interval: Option<Span>,
    timeout: Option<Span>,
    port: Option<u16>,
}

/// How far away a host is.
#[derive(Debug, Serialize)]
pub(super) struct Ping {
    ok: bool,
    method: &'static str,
    address: String,
    sent: u16,
    received: usize,
    loss_percent: f64,
    min: Option<f64>,
    avg: Option<f64>,
    max: Option<f64>,
    problem: Option<String>,
}

const COUNT: u16 = 3;
const MOST: u16 = 100;
const INTERVAL: Span = Span::millis(200);
const PATIENCE: Span = Span::secs(1);
/// The port that is knocked at where the kernel sends no echo for this user.
pub(in crate::host) const PORT: u16 = 443;

/// Pings one address.
pub(super) async fn ping(address: IpAddr, options: PingOptions) -> Result<Ping> {
    let count = options.count.unwrap_or(COUNT);
    if !(1..=MOST).contains(&count) {
        return Err(Error::new(Kind::Invalid, format!("`count` is {count}, expected 1 to {MOST}")));
    }
    let (interval, patience) = (options.interval.unwrap_or(INTERVAL).0, options.timeout.unwrap_or(PATIENCE).0);
    let probe = Probe::new(address, options.port.unwrap_or(PORT));
    let mut times = Vec::new();
    let mut problem = None;
    for sequence in 1..=count {
        let started = Instant::now();
        match timeout(patience, probe.once(sequence)).await {
            Ok(Ok(())) => times.push(started.elapsed()),
            // That is the wall around the run, and says nothing of the way.
            Ok(Err(error)) if error.kind() == ErrorKind::PermissionDenied => return Err(walled(&probe, &error)),
            Ok(Err(error)) => problem = Some(error.to_string()),
            Err(_) => problem = Some(format!("no answer within {}", Span(patience))),
        }
        if sequence < count {
            sleep_until(started + interval).await;
        }
    }
    Ok(report(&probe, address, count, &times, problem))
}

fn walled(probe: &Probe, error: &std::io::Error) -> Error {
    let error = Error::because(Kind::Denied, "this machine lets no ping out", error);
    match probe {
        Probe::Tcp(address) if address.port() != PORT => {
            error.hint(format!("ask for the port in the header: allow: #{{ net: [\"connect:HOST:{}\"] }}", address.port()))
        }
        _ => error,
    }
}

fn report(probe: &Probe, address: IpAddr, sent: u16, times: &[Duration], problem: Option<String>) -> Ping {
    let received = times.len();
    let all: Duration = times.iter().sum();
    let lost = f64::from(sent) - received as f64;
    Ping {
        ok: received > 0,
        method: probe.method(),
        address: address.to_string(),
        sent,
        received,
        loss_percent: (1000.0 * lost / f64::from(sent)).round() / 10.0,
        min: times.iter().min().map(|&time| millis(time)),
        avg: u32::try_from(received).ok().and_then(|count| all.checked_div(count)).map(millis),
        max: times.iter().max().map(|&time| millis(time)),
        problem,
    }
}

/// The way an answer is got.
enum Probe {
    Icmp(UdpSocket, SocketAddr),
    Tcp(SocketAddr),
}

impl Probe {
    fn new(address: IpAddr, port: u16) -> Self {
        echo_socket(address).map_or(Self::Tcp(SocketAddr::new(address, port)), |socket| Self::Icmp(socket, SocketAddr::new(address, 0)))
    }

    fn method(&self) -> &'static str {
        match self {
            Self::Icmp(..) => "icmp",
            Self::Tcp(_) => "tcp",
        }
    }

    async fn once(&self, sequence: u16) -> std::io::Result<()> {
        match self {
            Self::Icmp(socket, address) => echo(socket, *address, sequence).await,
            Self::Tcp(address) => match TcpStream::connect(address).await {
                Err(error) if error.kind() != ErrorKind::ConnectionRefused => Err(error),
                _ => Ok(()),
            },
        }
    }
}

/// A datagram socket for ICMP: unprivileged, and the kernel fills in identifier and checksum. tokio
/// has no type of its own for it, but it is read and written like one for UDP.
fn echo_socket(address: IpAddr) -> std::io::Result<UdpSocket> {
    let (family, protocol, any) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, Some(protocol))?;
    rustix::net::bind(&socket, &SocketAddr::new(any, 0))?;
    UdpSocket::from_std(socket.into())
}

/// Type, code, checksum, identifier, sequence, and a few bytes to carry.
async fn echo(socket: &UdpSocket, address: SocketAddr, sequence: u16) -> std::io::Result<()> {
    let (request, reply) = if address.is_ipv4() { (8, 0) } else { (128, 129) };
    let [high, low] = sequence.to_be_bytes();
    let mut packet = [0; 16];
    packet[0] = request;
    packet[6..8].copy_from_slice(&[high, low]);
    packet[8..].copy_from_slice(b"runbook\0");
    socket.send_to(&packet, address).await?;
    let mut buffer = [0; 64];
    loop {
        // Answers to earlier packets may come late.
        let (read, _) = socket.recv_from(&mut buffer).await?;
        if read >= 8 && buffer[0] == reply && buffer[6..8] == [high, low] {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::refusing_port;

    #[tokio::test]
    async fn this_machine_answers() {
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let Ok(_) = echo_socket(address) else { continue };
            let options = PingOptions { count: Some(2), interval: Some(Span::millis(1)), timeout: Some(Span::secs(5)), port: None };
            let ping = ping(address, options).await.unwrap();
            assert_eq!((ping.method, ping.ok, ping.received, ping.loss_percent), ("icmp", true, 2, 0.0), "{address}: {:?}", ping.problem);
            assert!(ping.min <= ping.avg && ping.avg <= ping.max);
        }
    }

    #[tokio::test]
    async fn a_refused_connection_is_an_answer_too() {
        let (_socket, port) = refusing_port();
        let probe = Probe::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
        probe.once(1).await.unwrap();
        assert_eq!(probe.method(), "tcp");
    }

    #[test]
    fn what_is_lost_counts() {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let probe = Probe::Tcp(SocketAddr::new(address, 1));
        let times = [Duration::from_millis(1), Duration::from_millis(2)];
        let some = report(&probe, address, 3, &times, None);
        assert_eq!((some.loss_percent, some.min, some.avg, some.max), (33.3, Some(1.0), Some(1.5), Some(2.0)));
        let none = report(&probe, address, 3, &[], Some("no answer".to_owned()));
        assert_eq!((none.ok, none.loss_percent, none.avg), (false, 100.0, None));
    }
}
