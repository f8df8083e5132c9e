//! Starting one `microvm` process: folders, control group, program, and a connection that it is born with.
//!
//! ```text
//!   <run>/<name>/, <state>/sandboxes/<name>/ ─► cgroup <name> ─► fork, join, exec ─► [`Spawned`]
//! ```
//!
//! The process gets one end of a socket pair as its standard input and takes control requests from it: nobody has to wait
//! for its socket to appear, and what is asked before it listens is answered when it does. It ends by itself when that
//! connection closes before there is a machine, so a daemon that is killed leaves no process that waits.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio::net::UnixStream;

use super::cgroup::{Cgroups, is_in_memory};
use super::control::Control;
use super::layout::{Layout, MachinePaths};
use super::process::Process;
use super::{StartError, sys};
use crate::ids::SandboxId;

/// What starting and removing a process takes.
#[derive(Clone, Debug)]
pub struct Spawner {
    /// The `microvm` program.
    pub program: PathBuf,
    /// Where files are.
    pub layout: Layout,
    /// Host ceilings, where there are any.
    pub cgroups: Option<Cgroups>,
}

/// A process and how to talk to it. It is killed when this is dropped, unless it was [kept](Spawned::keep).
#[derive(Debug)]
pub struct Spawned {
    /// What it was started as.
    pub name: SandboxId,
    /// The process.
    pub process: Arc<Process>,
    /// The connection that it was started with.
    pub control: Option<Control>,
    kept: bool,
}

impl Spawned {
    /// From now on the process lives on without this.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Kills the process and waits until it is dead.
    pub async fn end(self) {
        self.process.kill();
        self.process.exited().await;
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        self.process.kill();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Else it would stay as a zombie.
            let process = self.process.clone();
            runtime.spawn(async move { process.exited().await });
        }
    }
}

/// What a process is started for.
#[derive(Clone, Copy, Debug)]
pub struct Ceiling {
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Writable disk in MiB.
    pub disk_mib: u64,
    /// Whether somebody waits.
    pub urgent: bool,
}

impl Spawner {
    /// Starts a process under `name`.
    pub fn spawn(&self, name: &SandboxId, ceiling: Ceiling) -> Result<Spawned, StartError> {
        let paths = self.layout.of(name);
        make_folder(&paths.run)?;
        make_folder(&paths.state)?;
        let group = self.group(name, &paths, ceiling);
        let confined = group.is_some();
        match self.exec(name, &paths, group) {
            Err(error) if confined => {
                tracing::warn!(machine = %name, %error, "the machine runs without host ceilings");
                self.exec(name, &paths, None)
            }
            done => done,
        }
    }

    fn group(&self, name: &SandboxId, paths: &MachinePaths, ceiling: Ceiling) -> Option<OwnedFd> {
        let mut memory = ceiling.memory_mib;
        if is_in_memory(&paths.state) {
            memory += ceiling.disk_mib;
        }
        match self.cgroups.as_ref()?.make(name, memory, ceiling.urgent) {
            Ok(group) => Some(group),
            Err(error) => {
                tracing::warn!(machine = %name, %error, "the machine runs without host ceilings");
                None
            }
        }
    }

    fn exec(
        &self,
        name: &SandboxId,
        paths: &MachinePaths,
        group: Option<OwnedFd>,
    ) -> Result<Spawned, StartError> {
        let program = &self.program;
        let failed = |error| StartError::Spawn {
            program: program.clone(),
            error,
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&paths.log)
            .map_err(failed)?;
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let theirs = theirs.into_std().map_err(failed)?;
        // What a program expects of its standard input.
        theirs.set_nonblocking(false).map_err(failed)?;
        let mut command = Command::new(program);
        command
            .arg("--id")
            .arg(name.as_str())
            .arg("--control")
            .arg(&paths.control)
            .arg("--control-stdin")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(log)
            .env_clear()
            .current_dir("/");
        let child = sys::spawn_in_own_session(&mut command, group).map_err(failed)?;
        let pid = i32::try_from(child.id()).map_err(|e| failed(std::io::Error::other(e)))?;
        Ok(Spawned {
            name: name.clone(),
            process: Arc::new(Process::hold(pid).map_err(failed)?),
            control: Some(Control::over(ours)),
            kept: false,
        })
    }

    /// Gives the folders of a process to `id`; its sockets are reached by their new paths.
    pub fn rename_folders(&self, name: &SandboxId, id: &SandboxId) -> std::io::Result<()> {
        let (from, to) = (self.layout.of(name), self.layout.of(id));
        std::fs::rename(&from.run, &to.run)?;
        std::fs::rename(&from.state, &to.state)
    }

    /// Removes the folders called `name`.
    pub async fn remove_folders(&self, name: &SandboxId) {
        let paths = self.layout.of(name);
        for folder in [&paths.run, &paths.state] {
            if let Err(error) = tokio::fs::remove_dir_all(folder).await
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(machine = %name, folder = %folder.display(), %error, "a folder is left behind");
            }
        }
    }

    /// Removes the group called `name`, of a process that is dead.
    pub async fn remove_group(&self, name: &SandboxId) {
        if let Some(cgroups) = &self.cgroups
            && let Err(error) = cgroups.remove(name).await
        {
            tracing::warn!(machine = %name, %error, "a cgroup is left behind");
        }
    }
}

fn make_folder(path: &Path) -> Result<(), StartError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| StartError::Folder {
            path: path.to_owned(),
            error,
        })
}
