//! For unit tests: a real server, started once per test process and gone with it.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// A server whose life hangs on the pipe this process holds: when the process ends, however it ends,
/// the script reads the end of its input, stops the server and removes its files.
pub(crate) struct Leashed {
    /// The port on 127.0.0.1 it listens on.
    pub(crate) port: u16,
    /// What the script said before it was ready, line by line.
    pub(crate) said: Vec<String>,
    _script: Child,
}

/// Starts a server by a shell script, which gets the port as `$1`, makes its own directory, says
/// `ready`, waits for the end of its input, and cleans up.
///
/// # Panics
///
/// When the server does not come up, with what the script said.
pub(crate) fn start(user: Option<&str>, script: &str) -> Leashed {
    let port = free_port();
    let mut command = match user.filter(|_| rustix::process::geteuid().is_root()) {
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "sh"]);
            command
        }
        None => Command::new("sh"),
    };
    command.args(["-ec", script, "sh", &port.to_string()]).current_dir("/tmp");
    let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("`sh` starts");
    let mut said = Vec::new();
    let lines = BufReader::new(script.stdout.take().expect("it is piped")).lines();
    let ready = lines.map_while(Result::ok).inspect(|line| said.push(line.clone())).any(|line| line == "ready");
    if !ready {
        let ended = script.wait().expect("it was started here");
        panic!("the server did not start ({ended}):\n{}", said.join("\n"));
    }
    Leashed { port, said, _script: script }
}

/// A port nothing listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback has a free port").port()
}
