//! A plan is about the database it was made for, not about whatever answers at its address.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::harness::Project;

/// Two clusters, of which one listens at `$1`; the name of the other on standard input exchanges them.
const CLUSTERS: &str = r#"
for bin in /usr/lib/postgresql/*/bin; do PATH="$bin:$PATH"; done
command -v initdb > /dev/null || { echo "PostgreSQL is not installed: this test needs initdb and pg_ctl"; exit 1; }
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
options="-c port=$1 -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
begin() { pg_ctl -D "$dir/$1" -o "$options" -l "$dir/log" -w start > /dev/null || { cat "$dir/log"; exit 1; }; now=$1; echo ready; }
for name in one two; do initdb -D "$dir/$name" -U master --auth=trust --no-sync --locale=C > "$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }; done
begin one
while read -r name; do pg_ctl -D "$dir/$now" -m immediate -w stop > /dev/null; begin "$name"; done
pg_ctl -D "$dir/$now" -m immediate stop > /dev/null
"#;

/// Gone with the pipe this process holds.
struct Clusters {
    port: u16,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _script: Child,
}

impl Clusters {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // The server refuses to run as root.
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-ec", CLUSTERS, "sh", &port.to_string()]).current_dir("/tmp");
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (script.stdin.take().unwrap(), BufReader::new(script.stdout.take().unwrap()));
        let mut clusters = Self { port, input, output, _script: script };
        clusters.wait();
        clusters
    }

    fn exchange_for(&mut self, name: &str) {
        writeln!(self.input, "{name}").unwrap();
        self.wait();
    }

    fn wait(&mut self) {
        let mut said = String::new();
        while self.output.read_line(&mut said).unwrap() > 0 {
            if said.ends_with("ready\n") {
                return;
            }
        }
        panic!("PostgreSQL does not start:\n{said}");
    }
}

#[test]
fn a_plan_is_not_carried_out_on_another_cluster_at_the_same_address() {
    let mut clusters = Clusters::start();
    let database = "host = \"127.0.0.1\"\nname = \"postgres\"\nuser = \"master\"\ntls = \"disable\"\n";
    let system = format!("title = \"Shop\"\n[databases.main]\n{database}port = {}\n", clusters.port);
    let text = "runbook(#{ title: \"t\", allow: #{ sql: [\"main:write\"] } }); step(\"make\", || sql::execute(\"main\", \"CREATE TABLE orders (id int)\"));";
    let project = Project::new()
        .runbook("test", text)
        .file("runbooks/systems/shop.toml", &system)
        .file("runbook.toml", "default_system = \"shop\"\n");
    let mut done = project.command(["plan", "test", "--json"]).succeeds();
    let plan = done.json();
    let one = plan["fingerprints"]["sql:main"].as_str().unwrap().to_owned();
    clusters.exchange_for("two");
    done = done.then(["plan", "test", "--json"]).succeeds();
    let two = done.json()["fingerprints"]["sql:main"].as_str().unwrap().to_owned();
    assert_ne!(one, two);
    done = done.then(["run", "--plan", plan["id"].as_str().unwrap(), "--json"]).exits(1);
    let error = &done.json()["error"];
    assert_eq!((error["kind"].as_str(), error["code"].as_str()), (Some("conflict"), Some("RB3201")), "{error:#}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&one) && message.contains(&two), "{message}");
    // Nothing was done: the table is still to be made, there and here.
    for name in ["two", "one"] {
        clusters.exchange_for(name);
        done = done.then(["plan", "test", "--json"]).succeeds();
        let plan = done.json()["id"].as_str().unwrap().to_owned();
        done = done.then(["run", "--plan", &plan]).succeeds();
    }
}
