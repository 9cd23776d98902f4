//! seccomp: system calls no run needs, and the families of sockets it was not granted.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch, apply_filter,
    sock_filter,
};

use crate::host::sandbox::power::Power;

/// Into other processes, out of the file system and around it, into the kernel.
const REFUSED: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
    libc::SYS_mknodat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// Modes, owners and attributes of files, which Landlock does not know.
const ATTRIBUTES: &[i64] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
];

/// New namespaces, in which a user has the rights of root.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Why it can not be used here; nothing when it can.
pub(super) fn missing() -> Option<String> {
    if TargetArch::try_from(std::env::consts::ARCH).is_err() {
        return Some(format!("not written for `{}`", std::env::consts::ARCH));
    }
    let is_there = rustix::thread::secure_computing_mode().is_ok();
    (!is_there).then(|| "seccomp is not in this kernel".to_owned())
}

/// Restricts this thread and what it starts.
pub(super) fn restrict(power: &Power) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("seccomp: {error}");
    for filter in [absent(power), refused(power).map_err(|error| failed(&error))?] {
        apply_filter(&filter).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// What is said not to exist, so that programs do without: `clone3`, whose flags a filter can not read, for which
/// `clone` is used; the calls of the x32 ABI, which are all others by another number; and the families of sockets
/// that were not granted. One filter by hand, since each that is added costs every run a fifth of a millisecond.
fn absent(power: &Power) -> BpfProgram {
    // As of linux/bpf_common.h and linux/seccomp.h: load a word; jump if equal, if at least; return.
    const LOAD: u16 = 0x20;
    const IF_EQUAL: u16 = 0x15;
    const IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const NUMBER: u32 = 0;
    const FIRST_ARGUMENT: u32 = 16;
    const X32: u32 = 0x4000_0000;
    let call = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let load = |k: u32| sock_filter { code: LOAD, jt: 0, jf: 0, k };
    let jump = |code: u16, k: u32, jt: u8, jf: u8| sock_filter { code, jt, jf, k };
    let answer = |k: u32| sock_filter { code: RETURN, jt: 0, jf: 0, k };
    let refuse = |error: i32| answer(libc::SECCOMP_RET_ERRNO | error.cast_unsigned());
    // What follows the families: refused, allowed, no such call.
    let left = |index: usize| u8::try_from(power.families.len() - index).unwrap_or(u8::MAX);
    let all = left(0);
    let mut program = vec![
        load(NUMBER),
        jump(IF_AT_LEAST, X32, all + 5, 0),
        jump(IF_EQUAL, call(libc::SYS_clone3), all + 4, 0),
        jump(IF_EQUAL, call(libc::SYS_socket), 0, all + 2),
        load(FIRST_ARGUMENT),
    ];
    program.extend(power.families.iter().enumerate().map(|(index, family)| jump(IF_EQUAL, family.cast_unsigned(), left(index), 0)));
    program.extend([refuse(libc::EAFNOSUPPORT), answer(libc::SECCOMP_RET_ALLOW), refuse(libc::ENOSYS)]);
    program
}

fn refused(power: &Power) -> Result<BpfProgram, seccompiler::BackendError> {
    let argument = |number: u8, operator: SeccompCmpOp, value: u64| {
        SeccompCondition::new(number, SeccompCmpArgLen::Qword, operator, value).and_then(|condition| SeccompRule::new(vec![condition]))
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    if !power.changes_attributes {
        rules.extend(ATTRIBUTES.iter().map(|call| (*call, Vec::new())));
    }
    if !power.starts_programs {
        rules.extend([libc::SYS_execve, libc::SYS_execveat].map(|call| (call, Vec::new())));
    }
    let namespaces = (0..u64::from(i32::BITS)).map(|bit| 1 << bit).filter(|bit| u64::from(NAMESPACES.cast_unsigned()) & bit != 0);
    let each = namespaces.map(|bit| argument(0, SeccompCmpOp::MaskedEq(bit), bit)).collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_clone, each);
    // 0xffffffff asks which personality it is.
    rules.insert(
        libc::SYS_personality,
        vec![SeccompRule::new(
            [0, 0xffff_ffff]
                .into_iter()
                .map(|value| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value))
                .collect::<Result<Vec<_>, _>>()?,
        )?],
    );
    // Typing into the terminal of whoever started the run.
    const INPUTS: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];
    let typed = INPUTS.map(|input| SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, input));
    let typed = typed.into_iter().map(|condition| condition.and_then(|condition| SeccompRule::new(vec![condition])));
    rules.insert(libc::SYS_ioctl, typed.collect::<Result<Vec<_>, _>>()?);
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture)?.try_into()
}
