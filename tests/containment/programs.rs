//! Programs that a run may start, and what else they can do.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use std::os::unix::process::CommandExt;

use serde_json::Value;

use super::{NOBODY, as_nobody, can_be_nobody, give_to_nobody, run, run_in};
use crate::harness::{Done, Project};

/// Everything the probe looks for, each within its reach if nothing holds it.
struct Reach {
    directory: tempfile::TempDir,
    tcp: TcpListener,
    udp: UdpSocket,
    _local: UnixListener,
}

impl Reach {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind(tcp.local_addr().unwrap()).unwrap();
        let local = UnixListener::bind(directory.path().join("docker.sock")).unwrap();
        std::fs::write(directory.path().join("secret"), "secret").unwrap();
        tcp.set_nonblocking(true).unwrap();
        udp.set_nonblocking(true).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/containment/probe.c");
        let built =
            std::process::Command::new("gcc").args(["-static", "-O1", "-o"]).arg(directory.path().join("probe")).arg(source).status();
        assert!(built.unwrap().success(), "the probe does not compile");
        Self { directory, tcp, udp, _local: local }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn port(&self) -> u16 {
        self.tcp.local_addr().unwrap().port()
    }

    /// What the probe says, one line for each try. The process it goes for is this one: of the same user, and no child of the run.
    fn probe(&self, allow: &str, extra: &str) -> Done {
        run(&self.grants(allow, extra), &self.script(std::process::id()))
    }

    /// The same of a run of somebody without rights, who owns all it looks for.
    fn probe_as_nobody(&self, allow: &str) -> Value {
        give_to_nobody(self.directory.path());
        std::fs::set_permissions(self.directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut victim = std::process::Command::new("sleep").arg("600").uid(NOBODY).gid(NOBODY).spawn().unwrap();
        let text = format!("runbook(#{{ title: \"t\", allow: #{{ {} }} }});\n{}", self.grants(allow, ""), self.script(victim.id()));
        let done = as_nobody(&Project::new().runbook("test", &text), &["run", "test", "--json"]).output().unwrap();
        victim.kill().unwrap();
        victim.wait().unwrap();
        serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&done.stderr)))
    }

    fn grants(&self, allow: &str, extra: &str) -> String {
        format!("exec: [\"{allow}{}\"]{extra}", self.path("probe").display())
    }

    fn script(&self, victim: u32) -> String {
        format!(
            "let said = exec::run([\"{}\", \"{}\", \"{}\", \"{}\", \"{victim}\", \"{}\"]); output(\"said\", said.stdout);",
            self.path("probe").display(),
            self.path("outside").display(),
            self.path("docker.sock").display(),
            self.port(),
            self.path("secret").display()
        )
    }

    fn succeeded(done: &Done) -> Vec<String> {
        Self::succeeded_of(&done.json())
    }

    fn succeeded_of(run: &Value) -> Vec<String> {
        let said = run["outputs"]["said"].as_str().unwrap_or_else(|| panic!("{run}"));
        assert_eq!(said.lines().count(), 10, "{said}");
        said.lines().filter_map(|line| line.strip_suffix(": SUCCEEDED")).map(str::to_owned).collect()
    }
}

#[test]
fn a_program_can_do_nothing_but_what_the_run_may() {
    let reach = Reach::new();
    let done = reach.probe("", "");
    assert_eq!(Reach::succeeded(&done), [""; 0], "{}", done.stdout);
    assert!(!reach.path("outside").exists());
    assert!(reach.tcp.accept().is_err() && reach.udp.recv(&mut [0; 1]).is_err());
    assert_eq!(std::fs::metadata(reach.path("secret")).unwrap().permissions().mode() & 0o777, 0o644);
}

/// Bar 26 as somebody who has no rights to give away: what holds a run needs none.
#[test]
fn without_root_a_program_can_do_nothing_but_what_the_run_may_either() {
    if !can_be_nobody() {
        return;
    }
    let reach = Reach::new();
    let run = reach.probe_as_nobody("");
    assert_eq!(Reach::succeeded_of(&run), [""; 0], "{run}");
    assert!(!reach.path("outside").exists());
    assert!(reach.tcp.accept().is_err() && reach.udp.recv(&mut [0; 1]).is_err());
    // What it looks for is within the reach of its user.
    let succeeded = Reach::succeeded_of(&reach.probe_as_nobody("host:"));
    for way in ["read", "tcp", "udp", "local", "signal", "write", "chmod"] {
        assert!(succeeded.contains(&way.to_owned()), "{way} is not in {succeeded:?}");
    }
}

#[test]
fn what_the_worker_may_is_not_what_its_programs_may() {
    let reach = Reach::new();
    // The worker speaks to a local socket here, and reads one file.
    let done = reach.probe("", &format!(", docker: [\"list\"], fs: #{{ read: [\"{}\"] }}", reach.path("secret").display()));
    assert_eq!(Reach::succeeded(&done), ["read"], "{}", done.stdout);
}

#[test]
fn a_grant_for_an_address_opens_its_port() {
    let reach = Reach::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let done = reach.probe("", &format!(", net: [\"connect:127.0.0.1:{}\"]", reach.port()));
    assert_eq!(Reach::succeeded(&done), ["tcp", "udp"], "{}", done.stdout);
    let done = reach.probe("", &format!(", net: [\"connect:127.0.0.1:{other}\"]"));
    assert_eq!(Reach::succeeded(&done), ["udp"], "Landlock knows TCP only, as doctor says: {}", done.stdout);
}

#[test]
fn the_power_of_the_host_is_the_power_of_the_user() {
    let reach = Reach::new();
    let done = reach.probe("host:", "");
    let succeeded = Reach::succeeded(&done);
    for way in ["read", "tcp", "udp", "local", "signal", "write", "chmod"] {
        assert!(succeeded.contains(&way.to_owned()), "{way} is not in {succeeded:?}");
    }
    let project = Project::new()
        .runbook("test", "runbook(#{ title: \"t\", allow: #{ exec: [\"host:/usr/sbin/ufw\"] } }); exec::run([\"/usr/sbin/ufw\"]);");
    let _ = project.command(["show", "test"]).run().says("start /usr/sbin/ufw outside of the sandbox");
}

#[test]
fn strict_runs_what_is_confined_and_refuses_what_is_not() {
    let strict = || Project::new().file("runbook.toml", "sandbox = \"strict\"\n");
    let doctor = strict().command(["doctor", "--json"]).run();
    let enforces_all = !doctor.json().as_array().unwrap().iter().any(|finding| finding["area"] == "sandbox" && finding["level"] != "ok");
    let done = run_in(strict(), "exec: [\"/bin/echo\"]", "exec::run([\"/bin/echo\", \"hello\"]);");
    assert_eq!(done.code, if enforces_all { 0 } else { 6 }, "{}{}", done.stdout, done.stderr);
    let done = run_in(strict(), "exec: [\"host:/bin/echo\"]", "exec::run([\"/bin/echo\", \"hello\"]);");
    assert_eq!(done.code, 6, "{}{}", done.stdout, done.stderr);
    let _ = done.talks("sandbox = \"strict\"");
}

#[test]
fn ordinary_programs_work_behind_the_wall() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().display();
    let allow = format!(
        "exec: [\"/bin/sh\", \"/bin/tar\", \"/usr/bin/perl\", \"/bin/ls\", \"/usr/bin/sort\", \"/bin/df\", \"/usr/bin/id\", \"/bin/date\"], fs: #{{ read: [\"{data}\"], write: [\"{data}\"], remove: [\"{data}\"] }}"
    );
    let body = format!(
        "fs::write(\"{data}/in\", \"b\\na\\n\");
         exec::run([\"/bin/tar\", \"-czf\", \"{data}/a.tgz\", \"-C\", \"{data}\", \"in\"]);
         exec::run([\"/bin/tar\", \"-xzf\", \"{data}/a.tgz\", \"-C\", \"{data}\", \"--transform\", \"s/in/out/\"]);
         exec::run([\"/bin/sh\", \"-c\", \"mktemp; (sleep 0 & wait); echo x | cat > /dev/null\"]);
         exec::run([\"/usr/bin/perl\", \"-e\", \"use POSIX; print strftime('%Y', localtime)\"]);
         for program in [\"/bin/ls\", \"/bin/df\", \"/usr/bin/id\", \"/bin/date\"] {{ exec::run([program]); }}
         output(\"sorted\", exec::pipe([[\"/bin/sh\", \"-c\", \"cat {data}/out\"], [\"/usr/bin/sort\"]]).stdout);"
    );
    let done = run(&allow, &body);
    assert_eq!(done.json()["outputs"]["sorted"], "a\nb\n", "{}{}", done.stdout, done.stderr);
    let work = done.project.state().join("runs/1/work");
    assert!(work.is_dir(), "mktemp left a file there");
    let done = run("exec: [\"/bin/echo\"]", "exec::run([\"/bin/echo\"]);");
    assert!(!done.project.state().join("runs/1/work").exists(), "nothing was left in it");
}

/// The planted program says so; it must never be what runs.
fn plant(path: &Path) {
    std::fs::write(path, "#!/bin/sh\necho PLANTED\n").unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_program_is_not_taken_from_the_path_of_the_caller() {
    let planted = tempfile::tempdir().unwrap();
    plant(&planted.path().join("echo"));
    let path = format!("{}:/usr/bin:/bin", planted.path().display());
    let text = "runbook(#{ title: \"t\", allow: #{ exec: [\"/bin/echo\", \"/usr/bin/echo\"] } }); output(\"said\", exec::run([\"echo\", \"original\"]).stdout);";
    let done = Project::new().runbook("test", text).command(["run", "test", "--json"]).env("PATH", &path).succeeds();
    assert_eq!(done.json()["outputs"]["said"], "original\n");
}

#[test]
fn a_program_that_is_swapped_is_refused_or_the_one_that_was_checked() {
    // The granted place holds links that change between a good program and a planted one.
    let ground = tempfile::tempdir().unwrap();
    let (good, planted) = (ground.path().join("good"), ground.path().join("planted"));
    std::fs::create_dir(&good).unwrap();
    std::fs::create_dir(&planted).unwrap();
    std::fs::copy("/bin/echo", good.join("tool")).unwrap();
    plant(&planted.join("tool"));
    let (link, other) = (ground.path().join("tool"), ground.path().join("other"));
    symlink(good.join("tool"), &link).unwrap();
    symlink(planted.join("tool"), &other).unwrap();
    let swap = || rustix::fs::renameat_with(rustix::fs::CWD, &link, rustix::fs::CWD, &other, rustix::fs::RenameFlags::EXCHANGE).unwrap();
    // Only the good one is granted; the link is how the script calls it.
    let allow = format!("exec: [\"{}\"]", good.join("tool").display());
    let calls = |times: usize| {
        let body = format!(
            "let all = step(\"run\", || {{
                 let all = #{{ said: \"\", refused: 0 }};
                 for i in 0..{times} {{
                     try {{ all.said += exec::run([\"{}\", \"original\"]).stdout; }} catch {{ all.refused += 1; }}
                 }}
                 all
             }});
             output(\"all\", all);",
            link.display()
        );
        let done = run(&allow, &body);
        assert_eq!(done.code, 0, "{}", done.stdout);
        done.json()["outputs"]["all"].clone()
    };
    assert_eq!(calls(1), serde_json::json!({ "said": "original\n", "refused": 0 }), "at rest on the good one");
    swap();
    assert_eq!(calls(1), serde_json::json!({ "said": "", "refused": 1 }), "at rest on the planted one");
    let all = std::thread::scope(|scope| {
        let calls = scope.spawn(|| calls(150));
        while !calls.is_finished() {
            swap();
            std::thread::yield_now();
        }
        calls.join().unwrap()
    });
    // How many meet the good one is chance; that nothing else ever runs is not.
    let ran = 150 - all["refused"].as_u64().unwrap();
    assert_eq!(all["said"], "original\n".repeat(ran as usize));
}

#[test]
fn a_program_the_run_may_change_is_not_started() {
    let ground = tempfile::tempdir().unwrap();
    let tool = ground.path().join("tool");
    std::fs::copy("/bin/echo", &tool).unwrap();
    let (directory, tool) = (ground.path().display(), tool.display());
    for grant in [format!("write: [\"{directory}\"]"), format!("write: [\"{tool}\"]"), "write: [\"/tmp/*\"]".to_owned()] {
        let done = run(&format!("exec: [\"{tool}\"], fs: #{{ {grant} }}"), &format!("exec::run([\"{tool}\", \"x\"]);"));
        assert_eq!(done.json()["error"]["kind"], "denied", "{grant}: {}", done.stdout);
    }
}
