//! What the `microvm` process does to itself: limits, signals, memory habits, and how much memory it uses.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::setsid;

/// Most file descriptors, if the host allows as many: the devices' own and a thousand vsock connections.
const MAX_FILES: u64 = 4096;

/// Why the process could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the process could not {step}: {error}")]
pub struct ProcessError {
    step: &'static str,
    error: nix::Error,
}

/// Restricts the process; to be called first, while it has one thread.
///
/// Files that it makes are its owner's only. It cannot gain privileges through programs it might execute, leaves no core
/// dump (that would hold guest memory), and keeps to one allocator arena.
///
/// # Errors
/// When the kernel refuses a step.
pub fn restrict() -> Result<(), ProcessError> {
    let failed = |step| move |error| ProcessError { step, error };
    umask(Mode::from_bits_truncate(0o177));
    prctl::set_no_new_privs().map_err(failed("give up gaining privileges"))?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed("turn core dumps off"))?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(failed("read the bound of its file descriptors"))?;
    let files = most.min(MAX_FILES);
    setrlimit(Resource::RLIMIT_NOFILE, files, files)
        .map_err(failed("bound its file descriptors"))?;
    one_arena();
    Ok(())
}

/// Takes over the connected Unix socket that is standard input, and leaves `/dev/null` in its place.
///
/// # Errors
/// When standard input is something else.
pub fn take_stdin() -> io::Result<UnixStream> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.peer_addr()?;
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(stream)
}

/// Leaves the session and process group of whoever started it, so that the end of that one is not the end of this one.
/// A process that leads its group already stays as it is.
pub fn detach() {
    let _ = setsid();
}

/// Blocks SIGTERM and SIGINT for this thread and those it will start, and gives a descriptor to read them from. A closed
/// terminal is nothing to this process.
///
/// # Errors
/// When the kernel refuses a step.
pub fn take_signals() -> Result<SignalFd, ProcessError> {
    let failed = |step| move |error| ProcessError { step, error };
    let mut hangup = SigSet::empty();
    hangup.add(Signal::SIGHUP);
    hangup.thread_block().map_err(failed("ignore hang-ups"))?;
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block().map_err(failed("block signals"))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(failed("listen for signals"))
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
    now.ok()
        .and_then(|now| u64::try_from(std::time::Duration::from(now).as_nanos()).ok())
        .unwrap_or(0)
}

#[allow(unsafe_code)]
fn one_arena() {
    // SAFETY: mallopt changes a setting of the allocator; the process has one thread at this point.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Resident memory of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// All of it, in KiB.
    pub total_kib: u64,
    /// What is not guest memory: anonymous and file pages, in KiB. Guest memory is shared memory.
    pub own_kib: u64,
}

/// The open `/proc/self/status`, so that it can be read when nothing can be opened any more.
pub struct Status(File);

impl Status {
    /// Opens it.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn open() -> io::Result<Self> {
        File::open("/proc/self/status").map(Self)
    }

    /// Reads resident memory; zeros when the kernel does not say.
    pub fn resident(&self) -> Resident {
        let mut text = [0u8; 4096];
        let len = self.0.read_at(&mut text, 0).unwrap_or(0);
        parse_resident(&String::from_utf8_lossy(&text[..len]))
    }
}

fn parse_resident(status: &str) -> Resident {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':')
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    };
    Resident {
        total_kib: field("VmRSS").unwrap_or(0),
        own_kib: field("RssAnon")
            .unwrap_or(0)
            .saturating_add(field("RssFile").unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read() {
        let text = "Name:\tmicrovm\nVmRSS:\t    9000 kB\nRssAnon:\t 500 kB\nRssFile:\t1500 kB\nRssShmem:\t7000 kB\n";
        assert_eq!(
            parse_resident(text),
            Resident {
                total_kib: 9000,
                own_kib: 2000
            }
        );
        assert_eq!(parse_resident("nonsense"), Resident::default());
        let own = Status::open().unwrap().resident();
        assert!(own.own_kib > 100 && own.own_kib <= own.total_kib);
    }

    #[test]
    fn the_clock_runs() {
        let before = monotonic_ns();
        assert!(before > 0 && monotonic_ns() >= before);
    }
}
