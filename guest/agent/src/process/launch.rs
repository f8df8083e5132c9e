//! Starts one program: streams or terminal, fork, and the wait for `execve` to succeed.
//!
//! ```text
//!   Launch ──▶ pipes / terminal ──▶ fork (under the reaper's lock) ──▶ status pipe ──▶ Launched { pid, streams, exit }
//!                                                                          └─ a failed step ──▶ LaunchError
//! ```
//!
//! Nothing here blocks: a program on a file system that does not answer keeps only its own call waiting.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::cgroup::UserCgroup;
use super::environment::{self, EnvironmentError};
use super::fork::{self, Plan, STATUS_LEN, Step};
use super::pty::{self, Pty, Size};
use super::reaper::{Exit, Reaper};
use crate::errors::{Fault, Kind};
use crate::users::User;

/// What to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Program; looked up in `PATH` of `env` when it holds no slash.
    pub cmd: String,
    /// Arguments without the program's name.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// Who runs it.
    pub user: User,
    /// Where its standard streams go.
    pub streams: Streams,
}

/// Standard streams of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Pipes for output, and for input when `stdin`; else input is empty.
    Pipes {
        /// Whether there is a pipe for input.
        stdin: bool,
    },
    /// A terminal of that size.
    Terminal(Size),
    /// Input is empty, output is dropped.
    Null,
}

/// A program that runs.
#[derive(Debug)]
pub struct Launched {
    /// Its process id, also the id of its session and process group.
    pub pid: Pid,
    /// Our ends of its streams.
    pub ends: Ends,
    /// Its coming exit.
    pub exit: Exit,
}

/// Our ends of a program's streams.
#[derive(Debug)]
pub enum Ends {
    /// Pipes.
    Pipes {
        /// Write end of standard input.
        stdin: Option<pipe::Sender>,
        /// Read end of standard output.
        stdout: pipe::Receiver,
        /// Read end of standard error.
        stderr: pipe::Receiver,
    },
    /// The terminal's master.
    Terminal(Pty),
    /// None.
    Null,
}

/// Why a program cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The working directory does not exist or is none.
    #[error("cwd '{}' does not exist or is not a directory", .0.display())]
    NoCwd(PathBuf),
    /// The user may not enter the working directory.
    #[error("cwd '{}' cannot be entered: {error}", path.display())]
    Cwd {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The command line or environment is unusable.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The program cannot be executed.
    #[error("error starting process '{cmd}': {error}")]
    Exec {
        /// The command as given.
        cmd: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// The kernel gives no process, pipe or terminal.
    #[error("The kernel gives no process, pipe or terminal: {0}.")]
    Resources(#[source] io::Error),
    /// The child could not take on its identity.
    #[error("The process could not be set up ({step}): {error}.")]
    SetUp {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

impl From<LaunchError> for Fault {
    fn from(error: LaunchError) -> Self {
        let kind = match &error {
            LaunchError::NoCwd(_) | LaunchError::Environment(_) | LaunchError::Exec { .. } => {
                Kind::InvalidArgument
            }
            LaunchError::Cwd { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                Kind::PermissionDenied
            }
            LaunchError::Cwd { .. } => Kind::InvalidArgument,
            LaunchError::Resources(_) => Kind::ResourceExhausted,
            LaunchError::SetUp { .. } => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

/// Starts programs: the reaper that learns of their exits and the cgroup they join.
#[derive(Clone, Debug)]
pub struct Launcher {
    reaper: Arc<Reaper>,
    cgroup: Option<Arc<UserCgroup>>,
}

impl Launcher {
    /// A launcher. Without a cgroup, programs stay in the agent's (tests, stand-alone mode).
    #[must_use]
    pub fn new(reaper: Arc<Reaper>, cgroup: Option<Arc<UserCgroup>>) -> Self {
        Self { reaper, cgroup }
    }

    /// Starts a program and waits until it is executed. The caller must keep or drop `exit` as it likes; the child is
    /// collected either way.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing is left running then.
    pub async fn launch(&self, launch: &Launch) -> Result<Launched, LaunchError> {
        check_cwd(&launch.cwd).await?;
        let Pipes { child, ends } = Pipes::make(launch).map_err(LaunchError::Resources)?;
        let path = launch
            .env
            .get("PATH")
            .map_or(environment::DEFAULT_PATH, String::as_str);
        let mut args = vec![environment::c_string(&launch.cmd, "command")?];
        for arg in &launch.args {
            args.push(environment::c_string(arg, "argument list")?);
        }
        let plan = Plan {
            candidates: environment::candidates(&launch.cmd, path)?,
            args,
            env: environment::encode(&launch.env)?,
            cwd: std::ffi::CString::new(launch.cwd.as_os_str().as_bytes())
                .map_err(|_| EnvironmentError::Nul("working directory"))?,
            uid: launch.user.uid,
            gid: launch.user.gid,
            groups: &launch.user.groups,
            streams: [child[0].as_fd(), child[1].as_fd(), child[2].as_fd()],
            terminal: matches!(launch.streams, Streams::Terminal(_)),
            cgroup: self
                .cgroup
                .as_ref()
                .map(|group| group.procs(launch.user.uid).as_fd()),
        };
        let mut status = None;
        let (pid, exit) = self
            .reaper
            .register(|| {
                let (pid, fd) = fork::fork(&plan)?;
                status = Some(fd);
                Ok(pid)
            })
            .map_err(LaunchError::Resources)?;
        drop(plan);
        // Our copies of the child's ends must go, or the pipes never end.
        drop(child);
        if let Some((step, error)) = read_status(status).await.map_err(LaunchError::Resources)? {
            return Err(describe(step, error, launch));
        }
        Ok(Launched { pid, ends, exit })
    }
}

async fn check_cwd(cwd: &Path) -> Result<(), LaunchError> {
    match tokio::fs::metadata(cwd).await {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        _ => Err(LaunchError::NoCwd(cwd.to_path_buf())),
    }
}

async fn read_status(fd: Option<OwnedFd>) -> io::Result<Option<(Step, io::Error)>> {
    let Some(fd) = fd else { return Ok(None) };
    let mut pipe = pipe::Receiver::from_owned_fd(fd)?;
    let mut report = Vec::with_capacity(STATUS_LEN);
    pipe.read_to_end(&mut report).await?;
    Ok(fork::parse_status(&report))
}

fn describe(step: Step, error: io::Error, launch: &Launch) -> LaunchError {
    let step = match step {
        Step::Exec => {
            return LaunchError::Exec {
                cmd: launch.cmd.clone(),
                error,
            };
        }
        Step::Cwd => {
            return LaunchError::Cwd {
                path: launch.cwd.clone(),
                error,
            };
        }
        Step::Session => "session and streams",
        Step::Cgroup => "cgroup",
        Step::Identity => "user and groups",
    };
    LaunchError::SetUp { step, error }
}

struct Pipes {
    child: [OwnedFd; 3],
    ends: Ends,
}

impl Pipes {
    fn make(launch: &Launch) -> io::Result<Self> {
        let null = || {
            File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map(OwnedFd::from)
        };
        match launch.streams {
            Streams::Null => Ok(Self {
                child: [null()?, null()?, null()?],
                ends: Ends::Null,
            }),
            Streams::Pipes { stdin } => {
                let (stdout, child_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
                let (stderr, child_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
                let (child_stdin, stdin) = if stdin {
                    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                    (read, Some(pipe::Sender::from_owned_fd(write)?))
                } else {
                    (null()?, None)
                };
                let ends = Ends::Pipes {
                    stdin,
                    stdout: pipe::Receiver::from_owned_fd(stdout)?,
                    stderr: pipe::Receiver::from_owned_fd(stderr)?,
                };
                Ok(Self {
                    child: [child_stdin, child_stdout, child_stderr],
                    ends,
                })
            }
            Streams::Terminal(size) => {
                let (pty, slave) = pty::open(size, launch.user.uid)?;
                let child = [slave.try_clone()?, slave.try_clone()?, slave];
                Ok(Self {
                    child,
                    ends: Ends::Terminal(pty),
                })
            }
        }
    }
}
