//! What the kernel offers to confine a run.

use std::path::Path;

use crate::cli::doctor::Finding;

/// Every feature the sandbox can use, in one line.
pub(super) fn features() -> Finding {
    let all = [
        ("Landlock", landlock()),
        ("seccomp", Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()),
        ("user namespaces", user_namespaces()),
        ("openat2", openat2()),
    ];
    let named = |wanted: bool| all.iter().filter(|(_, is_there)| *is_there == wanted).map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match named(false) {
        missing if missing.is_empty() => Finding::good("kernel", format!("{release}: {}", named(true))),
        missing => Finding::warning(
            "kernel",
            format!("{release}: {}; not seen: {missing}", named(true)),
            "runs are confined by what there is; `sandbox = \"strict\"` refuses to run with less",
        ),
    }
}

/// Whether Landlock is among the active security modules. Without the listing it is not known, and so not promised.
fn landlock() -> bool {
    std::fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|list| list.trim().split(',').any(|name| name == "landlock"))
}

fn user_namespaces() -> bool {
    let number = |path: &str| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    number("/proc/sys/user/max_user_namespaces").is_some_and(|most| most > 0)
        && number("/proc/sys/kernel/unprivileged_userns_clone") != Some(0)
        && number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").unwrap_or(0) == 0
}

fn openat2() -> bool {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
    rustix::fs::openat2(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS).is_ok()
}
