//! The unsafe leaf of process starting: fork, the child's few steps up to `execve`, and the pipe that tells the parent
//! how they went.
//!
//! ```text
//!   parent                               child (only async-signal-safe calls)
//!     fork ───────────────────────────────▶ new session
//!     close write end                       join cgroup · OOM score · controlling terminal · standard streams
//!     read status pipe ◀──[step, errno]──── groups, gid, uid · working directory · limits, signals · execve
//!        end of file = execve succeeded     _exit(127) after a failure
//! ```
//!
//! Everything the child needs is prepared before the fork ([`Plan`]): between fork and `execve` the child of a
//! threaded process may neither allocate nor take a lock (signal-safety(7)).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

/// Soft limit of open files in user processes, as systemd gives; programs that need more raise it.
const NOFILE_SOFT: libc::rlim_t = 1024;

/// Hard limit of open files in user processes, as systemd gives.
const NOFILE_HARD: libc::rlim_t = 524_288;

/// Score that makes the kernel prefer user processes when memory runs out (envd: 100).
const OOM_SCORE_ADJ: &[u8] = b"100";

/// What a child does before it becomes the program. All memory is owned by the parent and read by the child.
pub(super) struct Plan<'a> {
    /// Programs to try in this order: one, or one for each directory of `PATH`.
    pub candidates: Vec<CString>,
    /// Arguments, the program's name first.
    pub args: Vec<CString>,
    /// `NAME=value` strings.
    pub env: Vec<CString>,
    /// Working directory.
    pub cwd: CString,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All group ids.
    pub groups: &'a [u32],
    /// Becomes standard input, output and error.
    pub streams: [BorrowedFd<'a>; 3],
    /// Whether stream 0 is a terminal that becomes the controlling one.
    pub terminal: bool,
    /// `cgroup.procs` of the cgroup to join, open for writing.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// A step of the child that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    /// Own session, standard streams, controlling terminal.
    Session = 1,
    /// Joining the cgroup.
    Cgroup = 2,
    /// Groups, gid and uid.
    Identity = 3,
    /// The working directory, entered as the user.
    Cwd = 4,
    /// `execve`.
    Exec = 5,
}

impl Step {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Session,
            Self::Cgroup,
            Self::Identity,
            Self::Cwd,
            Self::Exec,
        ]
        .into_iter()
        .find(|step| *step as u8 == byte)
    }
}

/// Reads what the child wrote into the status pipe: nothing after a successful `execve`.
pub(super) fn parse_status(bytes: &[u8]) -> Option<(Step, io::Error)> {
    let (step, errno) = bytes.split_first()?;
    let errno = i32::from_ne_bytes(errno.get(..4)?.try_into().ok()?);
    Some((Step::from_byte(*step)?, io::Error::from_raw_os_error(errno)))
}

/// Length of a failure report in the status pipe.
pub(super) const STATUS_LEN: usize = 5;

/// Forks a child that follows `plan`. Returns its pid and the read end of the status pipe (non-blocking).
///
/// # Errors
/// When the pipe or the fork fails; what fails in the child is told through the pipe.
pub(super) fn fork(plan: &Plan<'_>) -> io::Result<(Pid, OwnedFd)> {
    // The write end stays blocking: a report of 5 bytes always fits into an empty pipe.
    let (status_read, status_write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&status_read, true)?;
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([ptr::null()])
            .collect()
    };
    let (args, env) = (pointers(&plan.args), pointers(&plan.env));
    let streams = plan.streams.map(|fd| fd.as_raw_fd());
    let cgroup = plan.cgroup.map(|fd| fd.as_raw_fd());
    let report = status_write.as_raw_fd();
    // A signal that arrives in the child before `execve` would run the parent's handlers there.
    let old_mask = block_all_signals()?;
    // SAFETY: the child calls only `child`, which never returns and is async-signal-safe by construction: it
    // allocates nothing and takes no lock.
    let pid = match unsafe { libc::fork() } {
        // SAFETY: this is the child; all memory it reads (plan, args, env) was made before the fork.
        0 => unsafe { child(plan, &args, &env, streams, cgroup, report) },
        pid => pid,
    };
    let fork_error = (pid < 0).then(io::Error::last_os_error);
    restore_signals(&old_mask)?;
    drop(status_write);
    match (fork_error, Pid::from_raw(pid)) {
        (None, Some(pid)) => Ok((pid, status_read)),
        (Some(error), _) => Err(error),
        (None, None) => Err(io::ErrorKind::Other.into()),
    }
}

fn block_all_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: both sets are local and initialized by the calls before they are read.
    unsafe {
        let (mut all, mut old) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old) {
            0 => Ok(old),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn restore_signals(mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `mask` is a valid set; no old mask is asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// The child's way to `execve`. Calls the kernel directly where glibc's wrapper would synchronize with threads that
/// do not exist in the child (setxid).
///
/// # Safety
/// Only in a freshly forked child, with `args` and `env` null-terminated arrays of C strings.
unsafe fn child(
    plan: &Plan<'_>,
    args: &[*const libc::c_char],
    env: &[*const libc::c_char],
    streams: [RawFd; 3],
    cgroup: Option<RawFd>,
    report: RawFd,
) -> ! {
    // SAFETY: system calls on descriptors and memory that the plan keeps alive; see the function's contract.
    unsafe {
        let fail = |step: Step, errno: i32| -> ! {
            let [a, b, c, d] = errno.to_ne_bytes();
            let bytes = [step as u8, a, b, c, d];
            libc::write(report, bytes.as_ptr().cast(), bytes.len());
            libc::_exit(127)
        };
        let check = |step: Step, result: i64| {
            if result < 0 {
                fail(step, *libc::__errno_location());
            }
        };

        check(Step::Session, libc::setsid().into());
        if let Some(procs) = cgroup {
            // "0" means the writing process itself (cgroup v2, cgroup.procs).
            check(
                Step::Cgroup,
                libc::write(procs, b"0".as_ptr().cast(), 1) as i64,
            );
        }
        let oom = libc::open(
            c"/proc/self/oom_score_adj".as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        );
        if oom >= 0 {
            // Best effort: a container without a writable /proc still runs the process.
            libc::write(oom, OOM_SCORE_ADJ.as_ptr().cast(), OOM_SCORE_ADJ.len());
            libc::close(oom);
        }

        if plan.terminal {
            check(
                Step::Session,
                libc::ioctl(streams[0], libc::TIOCSCTTY, 0).into(),
            );
        }
        // Moved out of the way of 0 to 2 first, in case a source is itself one of them.
        let mut sources = [0; 3];
        for (source, stream) in sources.iter_mut().zip(streams) {
            *source = libc::fcntl(stream, libc::F_DUPFD_CLOEXEC, 3);
            check(Step::Session, (*source).into());
        }
        for (target, source) in (0..).zip(sources) {
            check(Step::Session, libc::dup2(source, target).into());
        }

        check(
            Step::Identity,
            libc::syscall(libc::SYS_setgroups, plan.groups.len(), plan.groups.as_ptr()),
        );
        check(
            Step::Identity,
            libc::syscall(libc::SYS_setresgid, plan.gid, plan.gid, plan.gid),
        );
        check(
            Step::Identity,
            libc::syscall(libc::SYS_setresuid, plan.uid, plan.uid, plan.uid),
        );
        check(Step::Cwd, libc::chdir(plan.cwd.as_ptr()).into());

        let files = libc::rlimit {
            rlim_cur: NOFILE_SOFT,
            rlim_max: NOFILE_HARD,
        };
        // Best effort: without privilege the hard limit cannot be raised.
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files);
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());

        // Everything the agent opens is close-on-exec already; this covers what it inherited itself.
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );

        let mut errno = libc::ENOENT;
        for program in &plan.candidates {
            libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr());
            match *libc::__errno_location() {
                // As execvp(3): go on with the next directory, but remember that something was there.
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => errno = libc::EACCES,
                other => fail(Step::Exec, other),
            }
        }
        fail(Step::Exec, errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_reports_are_understood() {
        let [a, b, c, d] = libc::ENOENT.to_ne_bytes();
        let (step, error) = parse_status(&[4, a, b, c, d]).expect("a report");
        assert_eq!(
            (step, error.raw_os_error()),
            (Step::Cwd, Some(libc::ENOENT))
        );
        assert!(parse_status(&[]).is_none());
        assert!(parse_status(&[4, a]).is_none());
        assert!(parse_status(&[99, a, b, c, d]).is_none());
    }
}
