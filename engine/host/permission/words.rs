//! Grants in words, for `runbook show`.

use crate::host::permission::Grant;

/// Programs that can start anything else, or have another one do it: a grant for one is a grant for all the user
/// may do. Without the version some names end with.
const FULL_POWER: [&str; 63] = [
    "sh",
    "bash",
    "dash",
    "zsh",
    "ksh",
    "mksh",
    "fish",
    "csh",
    "tcsh",
    "busybox",
    "python",
    "pypy",
    "perl",
    "ruby",
    "node",
    "nodejs",
    "php",
    "lua",
    "luajit",
    "tclsh",
    "expect",
    "awk",
    "gawk",
    "mawk",
    "env",
    "xargs",
    "find",
    "nice",
    "nohup",
    "setsid",
    "timeout",
    "stdbuf",
    "parallel",
    "watch",
    "script",
    "chroot",
    "unshare",
    "nsenter",
    "sudo",
    "su",
    "doas",
    "runuser",
    "docker",
    "docker-compose",
    "podman",
    "nerdctl",
    "ctr",
    "kubectl",
    "helm",
    "ssh",
    "scp",
    "sftp",
    "rsync",
    "socat",
    "tar",
    "git",
    "make",
    "vi",
    "vim",
    "gdb",
    "systemd-run",
    "crontab",
    "at",
];

/// Where such programs lie: a grant for a directory is one for each of them.
const PROGRAMS: [&str; 8] = ["", "bin", "sbin", "usr", "local", "lib", "libexec", "opt"];

/// What a grant allows, as a sentence fragment: `restart container backend`.
pub fn in_words(grant: &Grant) -> String {
    let object = if grant.object == "*" { "any".to_owned() } else { grant.object.clone() };
    let text = match (grant.section.as_str(), grant.verb.as_str()) {
        ("sys", _) => format!("see {object} of this machine"),
        ("http", verb) => format!("{verb} {object}"),
        ("net", "connect") => format!("connect to {object}"),
        ("net", "ping") => format!("ping {object}"),
        ("net", "resolve") => format!("look up {object}"),
        ("net", _) => "see what listens on this machine".to_owned(),
        ("sql", "read") => format!("read database {object}"),
        ("sql", _) => format!("read and change database {object}"),
        ("redis", "read") => format!("read cache {object}"),
        ("redis", _) => format!("read and change cache {object}"),
        ("prom", "read") => format!("ask Prometheus or Alertmanager at endpoint {object}"),
        ("prom", "silence") => format!("see and silence alerts at endpoint {object}"),
        ("prom", _) => format!("have endpoint {object} read its settings again"),
        ("docker", "images" | "disk") => format!("see docker {}", grant.verb),
        ("docker", "prune") => "remove docker images without a name and unused build cache".to_owned(),
        ("docker", "exec") => format!("run commands in container {object}"),
        ("docker", verb @ ("logs" | "stats")) => format!("read the {verb} of container {object}"),
        ("docker", verb) => format!("{verb} container {object}"),
        ("systemd", "status") => format!("see unit {object}"),
        ("systemd", "logs") => format!("read the journal of unit {object}"),
        ("systemd", verb) => format!("{verb} unit {object}"),
        ("k8s", "read") => format!("see {object} of the cluster"),
        ("k8s", "logs") => format!("read the logs of {object} of the cluster"),
        ("k8s", "top") => format!("see what {object} of the cluster uses"),
        ("k8s", "rollback") => format!("roll {object} of the cluster back"),
        ("k8s", "bounds") => format!("change the bounds of {object} of the cluster"),
        ("k8s", verb) => format!("{verb} {object} of the cluster"),
        ("fs", verb) => format!("{verb} {object}"),
        ("exec", "host") => format!("start {object} outside of the sandbox"),
        ("exec", _) => format!("start {object}"),
        ("secrets", _) => match &grant.sink {
            Some(sink) => format!("use secret {object} for {} {}", sink.section, sink.object),
            None => format!("use secret {object} wherever it may go"),
        },
        ("store", "read") => format!("read its own notes {object}"),
        ("store", _) => format!("keep notes {object}"),
        ("samples", "read") => format!("read the samples {object} of its system"),
        ("samples", _) => format!("keep samples {object} of its system"),
        ("incidents", "read") => "see the incidents of its system".to_owned(),
        ("incidents", "open") => "open incidents of its system".to_owned(),
        ("incidents", "note") => "write into the incidents of its system".to_owned(),
        ("incidents", "ack") => "acknowledge incidents of its system".to_owned(),
        ("incidents", "resolve") => "end incidents of its system".to_owned(),
        ("incidents", "repair") => "count repairs by the policies of its system".to_owned(),
        ("incidents", _) => "hand incidents of its system to the next person".to_owned(),
        ("notify", _) => format!("send to {object}"),
        ("runs", "read") => format!("see what became of {object}"),
        ("runs", "elsewhere") => format!("run {object}, for another system, with all that runbook may touch"),
        ("runs", _) => format!("run {object}, with all that runbook may touch"),
        (section, verb) => format!("{section} {verb} {object}"),
    };
    let network = if grant.networks.is_empty() { String::new() } else { format!(" (also in {})", grant.networks.names().join(", ")) };
    let warning = if is_full_power(grant) { "  ⚠ full power of this user" } else { "" };
    format!("{text}{network}{warning}")
}

fn is_full_power(grant: &Grant) -> bool {
    grant.section == "exec" && {
        let program = grant.object.rsplit('/').next().unwrap_or_default();
        let unversioned = program.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
        grant.verb == "host" || grant.object.contains('*') || FULL_POWER.contains(&unversioned) || PROGRAMS.contains(&program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::permission::Networks;

    fn words(section: &str, verb: &str, object: &str) -> String {
        in_words(&Grant { section: section.into(), verb: verb.into(), object: object.into(), networks: Networks::default(), sink: None })
    }

    #[test]
    fn grants_read_as_sentences() {
        assert_eq!(words("docker", "restart", "backend"), "restart container backend");
        assert_eq!(words("sql", "read", "main"), "read database main");
        assert_eq!(words("exec", "run", "/usr/bin/git"), "start /usr/bin/git  ⚠ full power of this user");
        assert_eq!(words("exec", "host", "/usr/sbin/ufw"), "start /usr/sbin/ufw outside of the sandbox  ⚠ full power of this user");
        assert_eq!(words("runs", "start", "backup"), "run backup, with all that runbook may touch");
        assert_eq!(words("exec", "run", "/usr/bin/pg_dump"), "start /usr/bin/pg_dump");
    }

    #[test]
    fn what_can_start_anything_is_marked() {
        let full = "sh bash python python3 python3.11 perl docker ssh tar find git env xargs sudo make awk busybox vim node systemd-run";
        for program in full.split(' ') {
            assert!(words("exec", "run", &format!("/usr/bin/{program}")).ends_with("⚠ full power of this user"), "{program}");
        }
        for place in ["/", "/usr/bin", "/usr/bin/", "/usr/local/*", "/opt"] {
            assert!(words("exec", "run", place).ends_with("⚠ full power of this user"), "{place}");
        }
        for program in ["pg_dump", "pg_restore", "redis-cli", "nginx", "df", "b2sum", "sha256sum", "zstd"] {
            assert!(!words("exec", "run", &format!("/usr/bin/{program}")).contains("full power"), "{program}");
        }
    }
}
