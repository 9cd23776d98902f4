//! The TCP sockets of this machine, from the tables of the kernel.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::error::{Error, Kind, Result};

/// One line of `/proc/net/tcp` or `tcp6`, as of the kernel's `proc_net_tcp`.
#[derive(Debug, PartialEq)]
struct Socket {
    address: IpAddr,
    port: u16,
    state: &'static str,
    inode: u64,
}

/// A port something listens on.
#[derive(Debug, Serialize)]
pub(super) struct Listener {
    address: String,
    port: u16,
    pid: Option<u32>,
    process: Option<String>,
}

/// The listening ports in their order; processes of others are nameless without the rights to see them.
pub(super) fn listeners(owners: &BTreeMap<u64, u32>) -> Result<Vec<Listener>> {
    let mut listening: Vec<Socket> = sockets()?.into_iter().filter(|socket| socket.state == "listen").collect();
    listening.sort_by_key(|socket| (socket.port, socket.address));
    let describe = |socket: Socket| {
        let pid = owners.get(&socket.inode).copied();
        let process = pid.and_then(|pid| read_to_string(format!("/proc/{pid}/comm")).ok()).map(|name| name.trim().to_owned());
        Listener { address: socket.address.to_string(), port: socket.port, pid, process }
    };
    Ok(listening.into_iter().map(describe).collect())
}

/// How many sockets are in each state; every state is there.
pub(super) fn connections() -> Result<BTreeMap<&'static str, usize>> {
    let mut counts: BTreeMap<_, _> = STATES.iter().map(|state| (*state, 0)).collect();
    for socket in sockets()? {
        *counts.entry(socket.state).or_default() += 1;
    }
    Ok(counts)
}

fn sockets() -> Result<Vec<Socket>> {
    let unreadable = |error| Error::because(Kind::Remote, "`/proc/net/tcp` can not be read", &error);
    let v4 = read_to_string("/proc/net/tcp").map_err(unreadable)?;
    // A kernel without IPv6 has no second table.
    let v6 = read_to_string("/proc/net/tcp6").unwrap_or_default();
    Ok(v4.lines().chain(v6.lines()).filter_map(socket).collect())
}

/// By the numbers of the kernel's `tcp_states.h`, from 1.
const STATES: [&str; 12] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "new_syn_recv",
];

fn socket(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let state = usize::from_str_radix(fields.get(3)?, 16).ok()?;
    Some(Socket {
        address: address_of(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        state: STATES.get(state.checked_sub(1)?)?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// The kernel prints each four bytes as one number in the order of the machine.
fn address_of(hex: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for at in (0..hex.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    if let Ok(v4) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).to_canonical())
}

/// The process that holds each socket, as far as they may be seen.
pub(crate) fn owners() -> BTreeMap<u64, u32> {
    let mut owners = BTreeMap::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return owners };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(handles) = std::fs::read_dir(process.path().join("fd")) else { continue };
        for handle in handles.flatten() {
            let Ok(target) = std::fs::read_link(handle.path()) else { continue };
            let inode = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode {
                owners.entry(inode).or_insert(pid);
            }
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_a_socket() {
        let line = "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 594990 1 0 100 0 0 10 0";
        let found = socket(line).unwrap();
        assert_eq!(found, Socket { address: "127.0.0.1".parse().unwrap(), port: 8000, state: "listen", inode: 594_990 });
        assert_eq!(socket("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"), None);
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        assert_eq!(address_of("00000000000000000000000001000000").unwrap().to_string(), "::1");
        assert_eq!(address_of("0000000000000000FFFF00000100007F").unwrap().to_string(), "127.0.0.1");
        assert_eq!(address_of("0100"), None);
    }
}
