//! Machines: starting, finding again, talking to and ending one `microvm` process per sandbox.
//!
//! ```text
//!   Hypervisor::start                                                        Machine
//!     process ──► make ──► agent ──► configure ────────────────────────────► dial(port), metrics, kill, exited
//!     │           │        │         └ identity, environment, limits, clock
//!     │           │        └ first answer of the agent over vsock
//!     │           └ control protocol: `restore` from the template's snapshot, or `boot` while there is none
//!     └ from the pool, or a new one: with run folder, state folder, cgroup
//! ```
//!
//! Ordering rules:
//! 1. `start` either returns a serving machine or leaves no process behind; files may stay until `discard`.
//! 2. `discard` is called once a machine is known to be dead or was never born, and removes whatever it left: a second
//!    call, or a call for something that never existed, is harmless.
//! 3. `sweep` runs before anything is started, and again when warming is cut short: it ends every process of this run
//!    folder that belongs to no sandbox.
//!
//! The traits are the seam at which API-level tests put a machine of their own; there is one implementation.

pub mod agent;
mod capture;
pub mod cgroup;
pub mod control;
mod first_command;
pub mod layout;
pub mod line;
pub mod microvm;
pub mod pool;
pub mod process;
pub mod retry;
pub mod spawn;
pub mod stages;
mod start;
mod sweep;
mod sys;
pub mod warm;

#[cfg(any(test, feature = "bench"))]
#[cfg_attr(not(test), allow(dead_code, reason = "benchmarks need a part of it"))]
pub mod fake;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::control::Metrics;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::egress::Tap;
use crate::ids::{SandboxId, SnapshotId};
use crate::templates::Template;
use process::ProcessIdentity;
use stages::Stages;

/// A byte stream to something inside a guest.
pub trait GuestIo: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> GuestIo for T {}

/// An owned [`GuestIo`].
pub type GuestStream = Box<dyn GuestIo>;

/// What a machine's contents are to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The template's: its warm snapshot where there is one, else its kernel boots.
    #[default]
    Template,
    /// The guest of a snapshot goes on, its processes and open files with it.
    Memory(SnapshotId),
    /// The template's kernel boots on the disk of a snapshot.
    Disk(SnapshotId),
}

/// Everything needed to start a machine.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The sandbox.
    pub id: SandboxId,
    /// What it is made from.
    pub template: Arc<Template>,
    /// What its contents are to be.
    pub source: Source,
    /// Token that the agent's services ask for; `None` leaves them open.
    pub access_token: Option<String>,
    /// Global environment from the create request.
    pub env: BTreeMap<String, String>,
    /// Its network device, if any.
    pub tap: Option<Tap>,
}

/// A machine that serves, and how long it took to get there.
pub struct Started {
    /// The machine.
    pub machine: Arc<dyn Machine>,
    /// Time per stage.
    pub stages: Stages,
}

/// Why a machine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folders of the machine could not be made.
    #[error("The folder {path} could not be made: {error}.")]
    Folder {
        /// Which folder.
        path: std::path::PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The process could not be started.
    #[error("The process {program} could not be started: {error}.")]
    Spawn {
        /// Program.
        program: std::path::PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The microvm process refused or did not answer.
    #[error("The microvm process could not start the guest: {0}")]
    Control(#[from] control::ControlError),
    /// The agent in the guest did not answer or refused its configuration.
    #[error("The guest's agent could not be set up: {0}")]
    Agent(#[from] agent::AgentError),
    /// The snapshot of the template could not be taken.
    #[error("The snapshot could not be taken: {0}")]
    Warm(#[from] warm::WarmError),
    /// The machine ended while it was starting.
    #[error("The machine ended while it was starting; its last words: {last_words}")]
    Died {
        /// Last lines of the process log and of the guest's console.
        last_words: String,
    },
    /// The machine was not ready in time.
    #[error("The machine was not ready after {0:?}.")]
    TimedOut(Duration),
}

/// Why a machine that should still run could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The process is gone.
    #[error("Its process is gone.")]
    Gone,
    /// The process number belongs to another process now.
    #[error("Its process number belongs to another process now.")]
    Reused,
    /// It could not be watched.
    #[error("Its process could not be watched: {0}.")]
    Watch(std::io::Error),
    /// Its control socket did not answer as expected.
    #[error("Its control socket did not answer as expected: {0}")]
    Control(#[from] control::ControlError),
    /// It answers, but is not the machine it should be, or does not run.
    #[error("It says that it is `{id}` and `{state}`.")]
    Mismatch {
        /// The id it reports.
        id: String,
        /// The state it reports.
        state: &'static str,
    },
}

/// Why a stream to a guest port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing listens on the port.
    #[error("Nothing listens on the port.")]
    PortClosed,
    /// The machine is gone.
    #[error("The machine is gone.")]
    MachineGone,
    /// The agent refused for another reason.
    #[error("The guest's agent refused: {0}")]
    Refused(String),
    /// The agent did not answer in time, or not by the protocol.
    #[error("The guest's agent did not answer: {0}")]
    Silent(#[from] agent::AgentError),
}

/// What a snapshot is to hold, and what becomes of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOrder {
    /// Its name; nothing may have it yet.
    pub id: SnapshotId,
    /// Whether memory is written, so that the guest can go on from it; else it holds the disk alone.
    pub memory: bool,
    /// What becomes of the machine.
    pub after: After,
    /// Whether the snapshot is on the host's disk, and not only in its page cache, when this is done.
    pub sync: bool,
}

/// What becomes of a machine of which a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It goes on, sharing the snapshot's pages with whoever starts from it.
    GoOn,
    /// It stands still, to be killed: nothing that its guest would do from here on may happen.
    Stop,
}

/// A snapshot that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of memory and disk that were written for it.
    pub bytes: u64,
    /// How long each stage took, in order.
    pub stages: Vec<(String, Duration)>,
}

/// Why no snapshot was taken. In every case but [`SnapshotError::Lost`] the machine goes on as it was.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The guest's agent did not hold its processes still; a guest that is out of memory or of processor time does this.
    #[error("The guest's agent did not prepare for the snapshot: {0}")]
    Unresponsive(agent::AgentError),
    /// The process refused or could not write it.
    #[error("The snapshot could not be taken: {0}")]
    Control(#[from] control::ControlError),
    /// The machine cannot go on any more and was ended.
    #[error("The machine could not go on after its snapshot and was ended: {0}")]
    Lost(String),
}

/// Why a machine did not go back.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// The process refused; the machine goes on as it was.
    #[error("The machine could not go back: {0}")]
    Refused(control::ControlError),
    /// The machine is neither what it was nor what it should be, and was ended.
    #[error("The machine could not go back and was ended: {0}")]
    Lost(String),
}

/// A machine that serves.
pub trait Machine: Send + Sync {
    /// Which process it is.
    fn identity(&self) -> ProcessIdentity;
    /// Opens a byte stream to a TCP port of the guest.
    fn dial(&self, port: u16) -> BoxFuture<'_, Result<GuestStream, DialError>>;
    /// Resource use right now.
    fn metrics(&self) -> BoxFuture<'_, Result<Metrics, agent::AgentError>>;
    /// Processor time that it has used since it was started, the guest's and its devices' together. Asking does not wake the
    /// guest. `None` when it is not known.
    fn processor_time(&self) -> Option<Duration>;
    /// Writes the machine down: memory, disk and devices as they stand at one instant. Its user processes are held still
    /// from before that instant until they go on, here or in a machine that starts from it, with what is theirs alone.
    fn snapshot(&self, order: SnapshotOrder) -> BoxFuture<'_, Result<Written, SnapshotError>>;
    /// Becomes in place what it was in a snapshot of it; `plan` is what the agent is told then. Connections to the guest
    /// are cut.
    fn roll_back(
        &self,
        to: SnapshotId,
        plan: Plan,
    ) -> BoxFuture<'_, Result<Written, RollbackError>>;
    /// Ends the process at once. Harmless when it is dead already.
    fn kill(&self);
    /// Resolves when the process is dead.
    fn exited(&self) -> BoxFuture<'_, ()>;
    /// Keeps its logs within their bound.
    fn trim_logs(&self) {}
}

/// What [`Hypervisor::warm`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warmed {
    /// A snapshot from before is good.
    Found,
    /// A snapshot was taken.
    Taken {
        /// From the first step to the snapshot on disk.
        took: Duration,
        /// Bytes of memory and disk that it holds.
        bytes: u64,
    },
}

/// What [`Hypervisor::sweep`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Processes ended.
    pub processes: usize,
    /// Folders and cgroups removed.
    pub folders: usize,
}

/// Starts and finds machines.
pub trait Hypervisor: Send + Sync {
    /// Starts a machine and waits until it serves. Dropping the future ends what was started.
    fn start(&self, plan: Plan) -> BoxFuture<'_, Result<Started, StartError>>;
    /// Boots a template once and takes the snapshot that its sandboxes then begin from, unless there is one. `tap` is a
    /// device to do it with where sandboxes have one.
    fn warm(
        &self,
        template: Arc<Template>,
        tap: Option<Tap>,
    ) -> BoxFuture<'_, Result<Warmed, StartError>>;
    /// Takes over a machine that an earlier daemon started. One that a snapshot or rollback which that daemon did not live
    /// to finish holds still goes on.
    fn adopt(
        &self,
        id: SandboxId,
        identity: ProcessIdentity,
    ) -> BoxFuture<'_, Result<Arc<dyn Machine>, AdoptError>>;
    /// Removes everything a dead machine left.
    fn discard(&self, id: SandboxId) -> BoxFuture<'_, ()>;
    /// Whether a snapshot is there, whole.
    fn has_snapshot(&self, id: &SnapshotId) -> bool;
    /// Removes a snapshot; those that continue it stay good, and so do machines that started from it. Harmless when there
    /// is none.
    fn discard_snapshot(&self, id: SnapshotId) -> BoxFuture<'_, ()>;
    /// Ends every process and removes every folder that belongs to none of `keep`, and every snapshot but `snapshots`.
    fn sweep(
        &self,
        keep: HashSet<SandboxId>,
        snapshots: HashSet<SnapshotId>,
    ) -> BoxFuture<'_, Swept>;
}
