//! The system calls that are left to the process once its machine is built.
//!
//! ```text
//!   KVM and threads made ──► filters in place ──► contents (boot, restore) ──► guest runs
//!
//!   threads vcpuN and devices   what a running machine needs
//!   main thread                 that, and what machines are made of: files, sockets, events, the state of KVM
//!   anything not listed         SIGSYS, a line on stderr, status 31
//! ```
//!
//! The threads that a guest's data passes through have no way to open a file, start a program or thread, or make memory
//! executable; sockets can be made for unix addresses only, for streams that the guest opens towards the host. The main thread,
//! which only ever sees the control socket and the numbers of KVM, may also open, make, link and rename files and make sockets: it
//! fills a prepared machine, and writes and reads snapshots. It can start neither program nor thread. Which files it can reach is
//! the business of the jail around the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// Why the filter could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The rules do not make a filter.
    #[error("the system call filter cannot be compiled: {0}")]
    Compile(#[from] seccompiler::BackendError),
    /// The kernel refused it.
    #[error("the kernel refused the system call filter: {0}")]
    Install(#[from] seccompiler::Error),
}

/// Allowed with any arguments.
const ALLOWED: &[i64] = &[
    // Files and sockets that are open.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fcntl,
    libc::SYS_close,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    // Sockets are removed at the end.
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    // Waiting and time.
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_getrandom,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory of the allocator; see RESTRICTED for the rest.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Signals, and the end of threads and process.
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What the main thread needs on top: files of snapshots and disks, sockets and events of devices.
const MAIN: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_timerfd_create,
    libc::SYS_userfaultfd,
    libc::SYS_openat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_rmdir,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_flock,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_getdents64,
    libc::SYS_stat,
];

/// An argument must have this value under this mask.
struct Restricted {
    call: i64,
    argument: u8,
    mask: u64,
    value: u64,
}

const fn restricted(call: i64, argument: u8, mask: u64, value: u64) -> Restricted {
    Restricted {
        call,
        argument,
        mask,
        value,
    }
}

/// Bit of a mapping's protection that makes it executable.
const PROT_EXEC: u64 = 4;
/// Address family of unix sockets.
const AF_UNIX: u64 = 1;
/// All bits of a 32-bit argument.
const WHOLE: u64 = 0xffff_ffff;
const KVM_RUN: u64 = 0xae80;
const KVM_KVMCLOCK_CTRL: u64 = 0xaead;
const FIONBIO: u64 = 0x5421;
const TUNSETOFFLOAD: u64 = 0x4004_54d0;

/// What the main thread asks of KVM and of its page map on top: the state of CPUs and machine, taken and put back.
const MAIN_IOCTLS: &[u64] = &[
    0x8090_ae81, // KVM_GET_REGS
    0x4090_ae82, // KVM_SET_REGS
    0x8138_ae83, // KVM_GET_SREGS
    0x4138_ae84, // KVM_SET_SREGS
    0xc008_ae88, // KVM_GET_MSRS
    0x4008_ae89, // KVM_SET_MSRS
    0x8400_ae8e, // KVM_GET_LAPIC
    0x4400_ae8f, // KVM_SET_LAPIC
    0x8004_ae98, // KVM_GET_MP_STATE
    0x4004_ae99, // KVM_SET_MP_STATE
    0x8040_ae9f, // KVM_GET_VCPU_EVENTS
    0x4040_aea0, // KVM_SET_VCPU_EVENTS
    0x8080_aea1, // KVM_GET_DEBUGREGS
    0x4080_aea2, // KVM_SET_DEBUGREGS
    0xaea3,      // KVM_GET_TSC_KHZ
    0x9000_aea4, // KVM_GET_XSAVE
    0x5000_aea5, // KVM_SET_XSAVE
    0x8188_aea6, // KVM_GET_XCRS
    0x4188_aea7, // KVM_SET_XCRS
    0xc208_ae62, // KVM_GET_IRQCHIP
    0x8208_ae63, // KVM_SET_IRQCHIP
    0x4030_ae7b, // KVM_SET_CLOCK
    0x8030_ae7c, // KVM_GET_CLOCK
    0x41a0_ae8d, // KVM_SET_FPU
    0xc040_aed5, // KVM_PRE_FAULT_MEMORY
    0xc060_6610, // PAGEMAP_SCAN
    0xc018_aa3f, // UFFDIO_API
    0xc020_aa00, // UFFDIO_REGISTER
    0x4004_54ca, // TUNSETIFF
    0x4004_54d8, // TUNSETVNETHDRSZ
    0x8921,      // SIOCGIFMTU
];

/// Allowed with some arguments; several lines for one call are alternatives.
fn restrictions(pid: u32) -> [Restricted; 8] {
    [
        restricted(libc::SYS_mmap, 2, PROT_EXEC, 0),
        restricted(libc::SYS_mprotect, 2, PROT_EXEC, 0),
        restricted(libc::SYS_socket, 0, WHOLE, AF_UNIX),
        restricted(libc::SYS_tgkill, 0, WHOLE, u64::from(pid)),
        restricted(libc::SYS_ioctl, 1, WHOLE, KVM_RUN),
        restricted(libc::SYS_ioctl, 1, WHOLE, KVM_KVMCLOCK_CTRL),
        restricted(libc::SYS_ioctl, 1, WHOLE, FIONBIO),
        restricted(libc::SYS_ioctl, 1, WHOLE, TUNSETOFFLOAD),
    ]
}

/// The filters of a machine, compiled before they are needed: entering one is a single system call.
#[derive(Clone)]
pub struct Filters {
    main: BpfProgram,
    thread: ThreadFilter,
}

/// The filter of virtual CPUs and devices.
#[derive(Clone)]
pub struct ThreadFilter(Arc<BpfProgram>);

impl ThreadFilter {
    /// Restricts the calling thread; false when the kernel refuses.
    pub fn enter(&self) -> bool {
        apply_filter(&self.0).is_ok()
    }
}

impl Filters {
    /// Compiles the filters, and has a refused call say which it was.
    ///
    /// # Errors
    /// When the rules make no filter.
    pub fn compile() -> Result<Self, SeccompError> {
        report::install();
        let pid = std::process::id();
        Ok(Self {
            main: compile(pid, true)?,
            thread: ThreadFilter(Arc::new(compile(pid, false)?)),
        })
    }

    /// The filter for threads.
    pub fn thread(&self) -> &ThreadFilter {
        &self.thread
    }

    /// Restricts the calling thread as the main one.
    ///
    /// # Errors
    /// When the kernel has no filters, or refuses this one.
    pub fn enter_main(&self) -> Result<(), SeccompError> {
        Ok(apply_filter(&self.main)?)
    }
}

fn compile(pid: u32, main: bool) -> Result<BpfProgram, SeccompError> {
    let more: &[i64] = if main { MAIN } else { &[] };
    let ioctls: &[u64] = if main { MAIN_IOCTLS } else { &[] };
    let calls = ALLOWED.iter().chain(more);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        calls.map(|call| (*call, Vec::new())).collect();
    let restrictions = restrictions(pid)
        .into_iter()
        .filter(|rule| !more.contains(&rule.call));
    let ioctls = ioctls
        .iter()
        .map(|&request| restricted(libc::SYS_ioctl, 1, WHOLE, request));
    for rule in restrictions.chain(ioctls) {
        let condition = SeccompCondition::new(
            rule.argument,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(rule.mask),
            rule.value,
        )?;
        rules
            .entry(rule.call)
            .or_default()
            .push(SeccompRule::new(vec![condition])?);
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Trap,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    Ok(filter.try_into()?)
}

/// Saying which call was refused. This is the only unsafe part of the module.
#[allow(unsafe_code)]
mod report {
    use std::ffi::c_int;

    use vmm_sys_util::signal::register_signal_handler;

    /// Exit status after a refused call: the number of SIGSYS.
    const STATUS: c_int = 31;

    /// Makes SIGSYS say its call and end the process. Without the handler it would end it all the same.
    pub fn install() {
        let _ = register_signal_handler(libc::SIGSYS, refused);
    }

    extern "C" fn refused(_: c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel gives a valid siginfo_t, and for SIGSYS the call's number lies 24 bytes into it (si_syscall in
        // include/uapi/asm-generic/siginfo.h), inside the structure's 128 bytes.
        let call = unsafe { info.cast::<u8>().add(24).cast::<c_int>().read_unaligned() };
        let line = line(call);
        // SAFETY: write and _exit may be called in a signal handler; the buffer is ours.
        unsafe {
            libc::write(2, line.as_ptr().cast(), line.len());
            libc::_exit(STATUS);
        }
    }

    /// The message, made without allocation.
    fn line(call: c_int) -> [u8; 41] {
        let mut line = *b"microvm: refused system call number 0000\n";
        let mut rest = call.unsigned_abs();
        for place in line[36..40].iter_mut().rev() {
            *place = b'0' + (rest % 10).to_le_bytes()[0];
            rest /= 10;
        }
        line
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn the_line_names_the_call() {
            assert_eq!(
                &super::line(59),
                b"microvm: refused system call number 0059\n"
            );
            assert_eq!(
                &super::line(435),
                b"microvm: refused system call number 0435\n"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles() {
        let thread = compile(1, false).unwrap();
        assert!(thread.len() > ALLOWED.len());
        assert!(compile(1, true).unwrap().len() > thread.len());
    }

    #[test]
    fn threads_can_neither_start_nor_open_anything() {
        let restricted: Vec<i64> = restrictions(1).iter().map(|rule| rule.call).collect();
        for call in [
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_fork,
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_process_vm_writev,
        ] {
            assert!(
                !ALLOWED.contains(&call) && !restricted.contains(&call),
                "{call}"
            );
            assert!(call == libc::SYS_openat || !MAIN.contains(&call), "{call}");
        }
    }
}
