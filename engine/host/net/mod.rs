//! `net::`: ports, names, latency, and the sockets of this machine. Reads only; it sends nothing but what asks for an answer.

mod client;
mod ping;
mod sockets;

use std::collections::BTreeMap;

use rhai::plugin::*;
use serde::Serialize;

use crate::error::Result;
use crate::host::dial::Peer;
use crate::host::permission::Grant;
use crate::host::{Access, Answer, Call, Function, HostModule, Question, RhaiResultOf};
pub(super) use ping::PORT as PING_PORT;
pub(crate) use sockets::owners as socket_owners;

/// The module `net`.
pub const MODULE: HostModule = HostModule {
    name: "net",
    summary: "ports that answer, names that resolve, latency and loss, and the sockets of this machine",
    build: || exported_module!(api),
    functions: &[
        Function::read("tcp").needs("net", "connect", 0).options::<client::TimeoutOptions>(),
        Function::read("dns").needs("net", "resolve", 0).options::<client::TimeoutOptions>(),
        Function::read("ping").needs("net", "ping", 0).options::<ping::PingOptions>(),
        Function::read("listeners").needs_fixed("net", "listeners", THIS_MACHINE),
        Function::read("connections").needs_fixed("net", "listeners", THIS_MACHINE),
    ],
};

const THIS_MACHINE: &str = "localhost";

#[export_module]
mod api {
    use rhai::{Dynamic, Map};

    use super::{client, granted, owners, ping, sockets, table};
    use crate::host::dial::Peer;
    use crate::host::{Call, RhaiResultOf};

    /// Whether a port answers: connects and closes again.
    ///
    /// ```rhai
    /// let port = net::tcp("127.0.0.1", 1, #{ timeout: "500ms" });
    /// port.ok || port.problem != ()
    /// ```
    ///
    /// Returns `ok`, `ms` (the time the connection took), `address` (the one that answered), `problem` (one line, nothing when
    /// it is well) and `kind` (`connect` or `timeout`). Options: `timeout` (5 s when absent, for name and connection together).
    /// A port that does not answer is a result, not an error; throws `denied` and `invalid`.
    #[rhai_fn(name = "tcp", return_raw, volatile)]
    pub fn tcp_with(native: NativeCallContext, host: &str, port: i64, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "net::tcp")?;
        let peer = Peer::new(host, port).map_err(|error| call.fail(error))?;
        let grant = granted(&call, "connect", &peer)?;
        let options = call.options(options)?;
        let reach = call.wait(client::tcp(&peer, &options, call.ctx().permissions(), &grant))?;
        call.value(&reach)
    }

    /// Whether a port answers within 5 s.
    #[rhai_fn(return_raw, volatile)]
    pub fn tcp(native: NativeCallContext, host: &str, port: i64) -> RhaiResultOf<Dynamic> {
        tcp_with(native, host, port, Map::new())
    }

    /// What a name resolves to on this machine: hosts file, then DNS.
    ///
    /// ```rhai
    /// net::dns("localhost").addresses.len() > 0
    /// ```
    ///
    /// Returns `ok`, `addresses` (a list of texts), `ms`, `problem` and `kind`. Options: `timeout` (5 s when absent).
    /// A name that does not resolve is a result, not an error; throws `denied` and `invalid`.
    #[rhai_fn(name = "dns", return_raw, volatile)]
    pub fn dns_with(native: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "net::dns")?;
        let peer = Peer::new(name, 0).map_err(|error| call.fail(error))?;
        granted(&call, "resolve", &peer)?;
        let options = call.options(options)?;
        let names = call.wait(client::dns(&peer, &options))?;
        call.value(&names)
    }

    /// What a name resolves to, within 5 s.
    #[rhai_fn(return_raw, volatile)]
    pub fn dns(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        dns_with(native, name, Map::new())
    }

    /// The latency of a host and how much is lost on the way.
    ///
    /// ```rhai
    /// let ping = net::ping("127.0.0.1", #{ count: 2, interval: "10ms" });
    /// ping.ok && ping.loss_percent == 0.0 && ping.min <= ping.max
    /// ```
    ///
    /// Returns `ok` (anything came back), `method`, `address`, `sent`, `received`, `loss_percent`, `min`, `avg`, `max` (milliseconds;
    /// nothing when all was lost) and `problem` (of the last one lost). `method` is `icmp` where the kernel lets this user send an
    /// echo, else `tcp`: the time until a connection to `port` is accepted or refused.
    ///
    /// Options: `count` (3 when absent, at most 100), `interval` (200 ms), `timeout` (1 s, of each), `port` (443).
    /// Behind the wall of a run another `port` needs `net: ["connect:HOST:PORT"]` too. Throws `denied`, `invalid`, and `connect`
    /// or `timeout` when the name does not resolve.
    #[rhai_fn(name = "ping", return_raw, volatile)]
    pub fn ping_with(native: NativeCallContext, host: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "net::ping")?;
        let peer = Peer::new(host, 0).map_err(|error| call.fail(error))?;
        let grant = granted(&call, "ping", &peer)?;
        let options = call.options(options)?;
        let found = call.wait(async {
            let addresses = peer.resolve(call.ctx().permissions(), &grant, std::time::Duration::from_secs(5)).await?;
            ping::ping(addresses[0].ip(), options).await
        })?;
        call.value(&found)
    }

    /// The latency of a host over three tries.
    #[rhai_fn(name = "ping", return_raw, volatile)]
    pub fn ping_three(native: NativeCallContext, host: &str) -> RhaiResultOf<Dynamic> {
        ping_with(native, host, Map::new())
    }

    /// The TCP ports something on this machine listens on, by port.
    ///
    /// ```rhai
    /// net::listeners().all(|listener| listener.port > 0)
    /// ```
    ///
    /// Returns a list of `address`, `port`, `pid`, `process`; the last two are nothing for processes this user may not see.
    /// Ports published by a container are held by its proxy, or by nobody when the firewall forwards them.
    #[rhai_fn(return_raw, volatile)]
    pub fn listeners(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        table(&native, "net::listeners", |call| sockets::listeners(&owners(call)))
    }

    /// How many TCP sockets of this machine are in each state.
    ///
    /// ```rhai
    /// net::connections().established >= 0
    /// ```
    ///
    /// Returns `established`, `syn_sent`, `syn_recv`, `fin_wait1`, `fin_wait2`, `time_wait`, `close`, `close_wait`, `last_ack`,
    /// `listen`, `closing`, `new_syn_recv`; containers with a network of their own are not in it.
    #[rhai_fn(return_raw, volatile)]
    pub fn connections(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        table(&native, "net::connections", |_| sockets::connections())
    }
}

/// The grant for this host, which decides about its addresses too.
fn granted(call: &Call<'_>, verb: &str, peer: &Peer) -> RhaiResultOf<Grant> {
    let access = Access::host(verb, &peer.host, peer.port);
    call.ctx().permissions().check(&access).cloned().map_err(|error| call.fail(error))
}

/// Who holds which socket: as the supervisor sees it, which has no wall around it, or as it is seen from here.
fn owners(call: &Call<'_>) -> BTreeMap<u64, u32> {
    match call.ctx().recorder().ask(Question::SocketOwners) {
        Ok(Answer::Value(owners)) => serde_json::from_value(owners).unwrap_or_default(),
        _ => sockets::owners(),
    }
}

fn table<T: Serialize>(
    native: &NativeCallContext<'_>,
    function: &'static str,
    read: impl FnOnce(&Call<'_>) -> Result<T>,
) -> RhaiResultOf<Dynamic> {
    let call = Call::new(native, function)?;
    call.permit(&Access::host("listeners", THIS_MACHINE, 0))?;
    let found = read(&call).map_err(|error| call.fail(error))?;
    call.value(&found)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use serde_json::json;

    use crate::error::Kind;
    use crate::host::testing::{Bench, refusing_port};

    fn bench() -> Bench {
        Bench::new(json!({ "net": ["127.0.0.1:*", "ping:127.0.0.1", "resolve:*", "listeners"] }))
    }

    fn text(script: &str) -> String {
        bench().eval(script).unwrap().to_string()
    }

    #[test]
    fn a_port_answers_or_the_result_says_why_not() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = open.local_addr().unwrap().port();
        let script = format!(r#"let t = net::tcp("127.0.0.1", {port}); [t.ok, t.ms > 0.0, t.address, t.problem]"#);
        assert_eq!(text(&script), format!(r#"[true, true, "127.0.0.1:{port}", ()]"#));
        let (_socket, closed) = refusing_port();
        let script = format!(r#"let t = net::tcp("127.0.0.1", {closed}, #{{ timeout: "5s" }}); `${{t.ok}} ${{t.kind}} ${{t.problem}}`"#);
        assert!(text(&script).starts_with(&format!("false connect no connection to `127.0.0.1:{closed}`: ")));
    }

    #[test]
    fn only_granted_hosts_are_reached_in_any_spelling() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = open.local_addr().unwrap().port();
        assert_eq!(text(&format!(r#"net::tcp("2130706433", {port}).ok"#)), "true");
        for script in [
            format!(r#"net::tcp("::1", {port})"#),
            format!(r#"net::tcp("localhost", {port})"#),
            r#"net::tcp("10.0.0.1", 22)"#.to_owned(),
            r#"net::ping("10.0.0.1")"#.to_owned(),
        ] {
            assert_eq!(bench().error(&script).kind, Kind::Denied, "{script}");
        }
        let name = Bench::new(json!({ "net": ["ip6-localhost:*"] }));
        let error = name.eval(&format!(r#"net::tcp("ip6-localhost", {port}).ok"#));
        // Where the name is known it is this machine, which the grant does not say.
        assert!(error.is_err_and(|error| crate::host::error_of(&error).kind == Kind::Denied) || !port_is_known("ip6-localhost"));
        open.set_nonblocking(true).unwrap();
        assert!(open.accept().is_ok(), "the one that was granted");
        assert!(open.accept().is_err(), "and no other");
        assert_eq!(Bench::new(json!({})).error("net::listeners()").kind, Kind::Denied);
    }

    fn port_is_known(name: &str) -> bool {
        std::net::ToSocketAddrs::to_socket_addrs(&(name, 1)).is_ok()
    }

    #[test]
    fn what_is_no_port_or_host_is_invalid() {
        for script in [r#"net::tcp("127.0.0.1", 70000)"#, r#"net::tcp("a b", 80)"#, r#"net::ping("127.0.0.1", #{ count: 0 })"#] {
            assert_eq!(bench().error(script).kind, Kind::Invalid, "{script}");
        }
    }

    #[test]
    fn a_name_resolves_or_the_result_says_why_not() {
        assert_eq!(text(r#"let d = net::dns("localhost"); d.ok && d.addresses.len() > 0"#), "true");
        let started = Instant::now();
        let missing = text(r#"let d = net::dns("nowhere.invalid", #{ timeout: "2s" }); `${d.ok} ${d.addresses.len} ${d.problem}`"#);
        assert!(missing.starts_with("false 0 `nowhere.invalid` does not resolve: "), "{missing}");
        assert!(started.elapsed().as_secs() < 10);
    }

    #[test]
    fn a_listener_is_found_with_its_process() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = open.local_addr().unwrap().port();
        let script = format!("let l = net::listeners().filter(|l| l.port == {port}); [l.len(), l[0].address, l[0].pid]");
        assert_eq!(text(&script), format!(r#"[1, "127.0.0.1", {}]"#, std::process::id()));
        assert_eq!(text("net::connections().listen >= 1"), "true");
    }
}
