//! PID 1 of the microVM.
//!
//! ```text
//!   kernel ──▶ mounts (agent disk → overlay root) ──▶ loopback up ──▶ runtime ──▶ reaper, cgroup
//!                                                                       ├─▶ vsock 1024       the host may connect
//!                                                                       └─▶ 127.0.0.1, ::1   programs may connect
//!   configure (over vsock) ──▶ clock, randomness, host name, network, limits ──▶ services answer
//!   shutdown, SIGTERM, SIGINT, SIGPWR ──▶ kill all, sync, reboot
//! ```
//!
//! Ordering rules: the root is in place before any thread exists; everything that `configure` brings waits for it, so
//! that the time from the kernel's hand-over to the first answer holds mounts and little else. When PID 1 ends, the
//! kernel panics and the microVM exits: a failure before the services run is told on the console and ends PID 1.

mod entropy;
mod files;
mod guest;
mod mounts;
mod netlink;
mod network;

use std::io;
use std::path::Path;
use std::sync::Arc;

use agent_protocol::ENVD_PORT;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use self::guest::Guest;
use self::mounts::MountError;
use self::netlink::NetlinkError;
use crate::agent::Agent;
use crate::interpreter;
use crate::listen::connection::Connections;
use crate::listen::{loopback, vsock};
use crate::process::Processes;
use crate::process::cgroup::{self, UserCgroup};
use crate::process::reaper::{Adoption, Reaper};
use crate::services::Services;
use crate::state::AgentState;

/// Open files of the agent itself: each connection and each pipe of a process is one.
const AGENT_FILES: u64 = 65_536;

/// Hard limit of open files, from which user processes get theirs.
const HARD_FILES: u64 = 1_048_576;

/// Threads that serve requests: the microVM's processors belong to the sandbox's programs.
const WORKER_THREADS: usize = 2;

/// Why the agent cannot become PID 1.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The root file system cannot be set up.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The loopback device does not come up.
    #[error("The loopback device does not come up: {0}")]
    Loopback(#[from] NetlinkError),
    /// The runtime does not start.
    #[error("The runtime does not start: {0}.")]
    Runtime(#[source] io::Error),
    /// The host cannot connect.
    #[error("The vsock port cannot be opened: {0}.")]
    Vsock(#[source] io::Error),
    /// A signal handler cannot be installed.
    #[error("A signal handler cannot be installed: {0}.")]
    Signal(#[source] io::Error),
}

/// Whether this process is PID 1.
#[must_use]
pub fn is_pid_1() -> bool {
    rustix::process::getpid().is_init()
}

/// Becomes PID 1; returns only with an error.
///
/// # Errors
/// [`InitError`]; the caller must end the process, which ends the microVM.
pub fn run() -> Result<std::convert::Infallible, InitError> {
    mounts::make_root()?;
    let files = Rlimit {
        current: Some(AGENT_FILES),
        maximum: Some(HARD_FILES),
    };
    // Without the higher limit the agent serves fewer connections.
    if let Err(error) = setrlimit(Resource::Nofile, files) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    // New files of programs are not writable for others (passed on to every child).
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    change_kernel_settings();
    network::loopback_up()?;
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(WORKER_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(InitError::Runtime)?;
    runtime.block_on(serve())
}

/// What the agent changes of the kernel's settings, as files below `/proc/sys`.
///
/// - Its watchers are all root's, whose default of 128 inotify instances is soon used up.
/// - Memory that is compacted ahead of need costs two wake-ups a second in every idle guest (`kcompactd`, Linux,
///   mm/compaction.c); compaction on need stays.
/// - Counters of memory are folded once a second for those who read /proc/vmstat (vm.stat_interval, Linux, mm/vmstat.c); a
///   minute does. What is counted is right at any time, what is read may lag.
/// - The tables of neighbours are gone over every 5 seconds each for managed entries, of which there are none (Linux,
///   net/core/neighbour.c, `neigh_managed_work`); an hour, in milliseconds, is as good. They are cleared of old entries every
///   half of the time for which one counts as reachable (`neigh_periodic_work`): 15 seconds. The one neighbour of a sandbox is
///   permanent; two hours do.
const KERNEL_SETTINGS: [(&str, &str); 9] = [
    ("fs/inotify/max_user_instances", "8192"),
    ("fs/inotify/max_user_watches", "524288"),
    ("fs/inotify/max_queued_events", "65536"),
    ("vm/compaction_proactiveness", "0"),
    ("vm/stat_interval", "60"),
    ("net/ipv4/neigh/default/interval_probe_time_ms", "3600000"),
    ("net/ipv6/neigh/default/interval_probe_time_ms", "3600000"),
    ("net/ipv4/neigh/default/base_reachable_time_ms", "7200000"),
    ("net/ipv6/neigh/default/base_reachable_time_ms", "7200000"),
];

fn change_kernel_settings() {
    for (name, value) in KERNEL_SETTINGS {
        let path = Path::new("/proc/sys").join(name);
        if let Err(error) = std::fs::write(&path, value) {
            tracing::warn!(%error, name, "a setting of the kernel stays as it is");
        }
    }
}

async fn serve() -> Result<std::convert::Infallible, InitError> {
    let reaper = Reaper::new(Adoption::Everything);
    reaper.start().map_err(InitError::Signal)?;
    let cgroup = match UserCgroup::create(Path::new(cgroup::MOUNT_POINT)) {
        Ok(group) => Some(Arc::new(group)),
        Err(error) => {
            // `configure` fails later, when it should set limits; without any the sandbox must not run.
            tracing::error!(%error, "user processes have no cgroup");
            None
        }
    };
    let guest = Guest::new(cgroup.clone());
    let processes = Processes::new(reaper, cgroup);
    let agent = Agent::new(AgentState::new("/"), processes, Box::new(guest));
    let services = Services::new(Arc::clone(&agent), interpreter::RUNTIME_DIR);

    let listener = vsock::bind().map_err(InitError::Vsock)?;
    let connections = Connections::new(services.clone());
    let accepting = tokio::spawn(vsock::accept(listener, connections));
    if let Err(error) = loopback::start(ENVD_PORT, &services.envd).await {
        tracing::warn!(%error, "programs in the guest cannot reach the services");
    }

    let mut terminate = signal(SignalKind::terminate()).map_err(InitError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(InitError::Signal)?;
    let mut power = signal(SignalKind::from_raw(libc::SIGPWR)).map_err(InitError::Signal)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = power.recv() => {}
        // The accept loop never returns; if it is lost, a restart is the only way back.
        _ = accepting => {}
    }
    loop {
        agent.machine.power_off();
        // Only when the kernel refuses to reboot.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}
