//! What the kernel offers to confine a run.

use crate::cli::doctor::Finding;
use crate::config::Sandbox;
use crate::host::sandbox::{limits, restrictions};

/// The kernel, each restriction of the sandbox with why it is not enforced, and what none of them reaches.
pub(super) fn findings(setting: Sandbox) -> Vec<Finding> {
    let mut findings = vec![features()];
    if setting == Sandbox::Off {
        findings.push(Finding::warning("sandbox", "switched off: the kernel confines no run", "set `sandbox = \"auto\"`"));
        return findings;
    }
    let fix = match setting {
        Sandbox::Strict => "use a newer kernel; until then `sandbox = \"strict\"` refuses every run",
        _ => "use a newer kernel; `sandbox = \"strict\"` refuses to run without",
    };
    findings.extend(restrictions().into_iter().map(|restriction| match restriction.missing {
        None => Finding::good("sandbox", format!("{}: enforced", restriction.name)),
        Some(why) => Finding::warning("sandbox", format!("{}: not enforced, {why}", restriction.name), fix),
    }));
    findings.extend(limits().into_iter().map(|limit| Finding::good("sandbox", format!("not covered: {limit}"))));
    findings
}

fn features() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match openat2() {
        true => Finding::good("kernel", format!("{release}: openat2")),
        false => Finding::warning(
            "kernel",
            format!("{release}: no openat2, so paths are walked part by part, which is slower"),
            "use Linux 5.6 or newer; in a container, look at its seccomp profile",
        ),
    }
}

fn openat2() -> bool {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
    rustix::fs::openat2(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS).is_ok()
}
