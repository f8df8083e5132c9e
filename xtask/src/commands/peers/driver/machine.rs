//! What the two programs have in common, as the driver uses them.
//!
//! ```text
//!   stage (not timed) ─► start (timed): … ─► the agent answered ─► pause, snapshot, resume ─► dropped: killed, reaped
//! ```

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use vmm::snapshot::Kind;

use crate::commands::peers::record::Stages;

/// Measures stages, each from the end of the one before.
#[derive(Debug)]
pub struct Laps {
    /// Those that are over.
    pub stages: Stages,
    last: Instant,
}

impl Laps {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            stages: Stages::new(),
            last: Instant::now(),
        }
    }

    /// The stage `name` ends now.
    pub fn lap(&mut self, name: &str) {
        let now = Instant::now();
        self.stages
            .push((name.to_owned(), nanoseconds(now - self.last)));
        self.last = now;
    }
}

/// Whole nanoseconds.
#[must_use]
pub fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// All that can be done before a machine is asked for has been done.
pub trait Staged: Send {
    /// Gets the machine, up to the first answer of its agent.
    ///
    /// # Errors
    /// Whatever keeps it from answering.
    fn start(self: Box<Self>, laps: &mut Laps) -> Result<Started>;
}

/// A machine whose agent has answered.
pub struct Started {
    /// The machine.
    pub machine: Box<dyn Machine>,
    /// Connections to the agent that came to nothing before.
    pub retries: u32,
}

/// A running machine. Dropped, it is killed and reaped.
pub trait Machine: Send {
    /// Number of its process.
    fn process_id(&self) -> u32;

    /// Host side of its vsock.
    fn vsock(&self) -> &Path;

    /// Stops the guest.
    ///
    /// # Errors
    /// When it is refused.
    fn pause(&mut self) -> Result<()>;

    /// Lets it go on.
    ///
    /// # Errors
    /// When it is refused.
    fn resume(&mut self) -> Result<()>;

    /// Writes a snapshot of a paused machine into the new folder `dir`; gives the stages that the program tells.
    ///
    /// # Errors
    /// When it can't be written.
    fn snapshot(&mut self, kind: Kind, dir: &Path) -> Result<Stages>;

    /// Goes back in place to what it was restored from, and runs; gives the stages that the program tells. `None` where
    /// there is no such operation.
    fn roll_back(&mut self) -> Option<Result<Stages>> {
        None
    }
}
