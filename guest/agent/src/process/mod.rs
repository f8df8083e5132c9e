//! The process service (`process.Process`): starts programs for clients, follows them, and cleans up after them.
//!
//! ```text
//!   service ──▶ Processes ──▶ launch ──▶ fork + reaper          a program is started
//!      │            │            └─▶ cgroup, pty, environment
//!      │            └─▶ running ──▶ pump ──▶ hub ──▶ follow      its output reaches every follower
//!      └──▶ table                                                it is found again by pid or tag
//! ```
//!
//! | who | may |
//! |---|---|
//! | the starter's deadline (`Connect-Timeout-Ms`) | kill the process group |
//! | a client that disconnects | change nothing: the process runs on, its output is dropped |
//! | a process that ends | leave children behind, which run on in the sandbox |

pub mod cgroup;
pub mod environment;
pub mod exit;
pub mod follow;
mod fork;
pub mod hub;
pub mod launch;
pub mod pty;
pub mod pump;
pub mod reaper;
pub mod running;
pub mod service;
pub mod table;

use std::sync::Arc;
use std::time::Instant;

use self::cgroup::UserCgroup;
use self::hub::{Subscription, TooManySubscribers};
use self::launch::{Launch, LaunchError, Launcher, Streams};
use self::reaper::Reaper;
use self::running::Process;
use self::table::Table;
use crate::errors::{Fault, Kind};
use crate::paths::{self, PathError};
use crate::proto::process::ProcessConfig;
use crate::rpc::Caller;

/// Why a client's process does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The working directory cannot be resolved.
    #[error("cwd: {0}")]
    Path(#[from] PathError),
    /// The program does not start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A process that has just started has no followers.
    #[error(transparent)]
    Followers(#[from] TooManySubscribers),
}

impl From<StartError> for Fault {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Path(_) => Self::invalid(error.to_string()),
            StartError::Launch(error) => error.into(),
            StartError::Followers(error) => error.into(),
        }
    }
}

impl From<TooManySubscribers> for Fault {
    fn from(error: TooManySubscribers) -> Self {
        Self::new(Kind::ResourceExhausted, error.to_string())
    }
}

/// All processes of the sandbox, and the means to start more.
#[derive(Debug)]
pub struct Processes {
    reaper: Arc<Reaper>,
    launcher: Launcher,
    table: Table,
}

impl Processes {
    /// Processes collected by `reaper`, in `cgroup` if there is one.
    #[must_use]
    pub fn new(reaper: Arc<Reaper>, cgroup: Option<Arc<UserCgroup>>) -> Arc<Self> {
        let launcher = Launcher::new(Arc::clone(&reaper), cgroup);
        Arc::new(Self {
            reaper,
            launcher,
            table: Table::default(),
        })
    }

    /// Processes that clients may find.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Starts programs that belong to the agent itself (language kernels); clients don't find them in the table.
    #[must_use]
    pub fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    /// Signals go through the reaper, which knows whether a pid is still the child's.
    #[must_use]
    pub fn reaper(&self) -> &Arc<Reaper> {
        &self.reaper
    }

    /// Starts a client's process, and follows it from its first byte of output. When `deadline` passes, the process
    /// and its group are killed.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(
        self: Arc<Self>,
        caller: &Caller,
        config: ProcessConfig,
        streams: Streams,
        tag: Option<String>,
        deadline: Option<Instant>,
    ) -> Result<(Arc<Process>, Subscription), StartError> {
        let workdir = caller.settings.default_workdir.as_deref();
        let cwd = paths::resolve(config.cwd.as_deref().unwrap_or(""), &caller.user, workdir)?;
        let call = config
            .envs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let launch = Launch {
            cmd: config.cmd.clone(),
            args: config.args.clone(),
            env: environment::merge(&caller.user, &caller.settings.env, call),
            cwd,
            user: caller.user.clone(),
            streams,
        };
        let launched = self.launcher.launch(&launch).await?;
        let (process, supervision) = Process::new(launched, Arc::clone(&self.reaper), config, tag);
        let output = process.hub().subscribe()?;
        self.table.insert(&process);
        let retire = move |process: &Arc<Process>| self.table.retire(process);
        tokio::spawn(Arc::clone(&process).supervise(supervision, deadline, retire));
        Ok((process, output))
    }
}
