//! One kernel process and its sockets.
//!
//! ```text
//!   start: directory ─ connection file ─ launch ─ connect shell, control, iopub ─ kernel_info until it answers
//!
//!   shell  ◄── request()          routes: msg_id ──► one Replies each
//!   shell  ──► reader ──┐
//!   iopub  ──► reader ──┴─► by parent id, at most 64 MiB waiting for a slow client
//!
//!   ends:  process exits (died) · end(): shutdown_request, a moment, SIGKILL to the group
//! ```
//!
//! When a kernel ends its routes close: who waits for replies sees the end of them and asks [`Kernel::ending`] why.

pub mod directory;
mod process;
pub mod routes;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use self::directory::{CONTROL, IOPUB, KernelDirectory, SHELL};
use self::process::{Output, Process};
use self::routes::{Replies, Routes};
use super::error::KernelError;
use super::jupyter::connection::{self, ConnectionError, Receiver, Sender, SocketType};
use super::jupyter::message::{self, Key};
use super::kernelspec::{InterruptMode, KernelSpec};
use super::progress::Channel;
use crate::process::environment;
use crate::process::launch::{Launch, Launched, Launcher, Streams};
use crate::process::reaper::Reaper;
use crate::users::User;

/// How long a kernel may take to answer first. Python with a cold disk on an emulated processor needs most of it.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Between two kernel_info requests while a kernel starts: its iopub socket loses what comes before it is ready.
const INFO_INTERVAL: Duration = Duration::from_millis(500);
/// How long a kernel may take to end by itself.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(1000);
/// How long the last messages of a dead kernel may take out of its sockets.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(1000);

/// What a kernel is started with.
#[derive(Debug, Clone)]
pub struct KernelConfig {
    /// Which one.
    pub spec: KernelSpec,
    /// Who runs it.
    pub user: User,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// The sandbox's incarnation that it is started in.
    pub incarnation: u64,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Where its directory is made; short, as paths of unix sockets are (107 bytes).
    pub runtime_dir: PathBuf,
}

/// Why a kernel has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// By itself, or killed by somebody else.
    Died(String),
    /// Its context was restarted.
    Restarted,
    /// Its context was deleted.
    Deleted,
}

/// A running kernel.
#[derive(Debug)]
pub struct Kernel {
    pid: Pid,
    reaper: Arc<Reaper>,
    key: Key,
    session: String,
    interrupt_mode: InterruptMode,
    shell: tokio::sync::Mutex<Sender>,
    control: tokio::sync::Mutex<Sender>,
    /// Kept open: the kernel takes its end for ours.
    _subscription: Sender,
    routes: Arc<Routes>,
    ending: Arc<watch::Sender<Option<Ending>>>,
    _directory: KernelDirectory,
}

impl Kernel {
    /// Starts a kernel and waits until it answers.
    ///
    /// # Errors
    /// [`KernelError`]; nothing of it is left then.
    pub async fn start(
        launcher: &Launcher,
        reaper: &Arc<Reaper>,
        config: &KernelConfig,
    ) -> Result<Arc<Self>, KernelError> {
        let key = Key::random();
        let directory = {
            let (config, key) = (config.clone(), key.clone());
            tokio::task::spawn_blocking(move || KernelDirectory::make(&config, &key))
                .await
                .map_err(|error| KernelError::Prepare {
                    path: "the kernel's directory".into(),
                    source: io::Error::other(error),
                })??
        };
        let Launched { pid, ends, exit } = launcher.launch(&launch_of(config, &directory)).await?;
        let mut process = Process::new(pid, Arc::clone(reaper), exit);
        let mut output = Output::collect(ends);
        let sockets = tokio::select! {
            sockets = Sockets::connect(&directory, &key) => sockets,
            status = process.exited() => Err(KernelError::Ended(output.describe(status).await)),
            () = tokio::time::sleep(START_TIMEOUT) => {
                Err(KernelError::Silent(START_TIMEOUT.as_secs()))
            }
        };
        // On failure the process is killed by the drop of its handle.
        let sockets = sockets?;
        let routes = Routes::new();
        let kernel = Arc::new(Self {
            pid,
            reaper: Arc::clone(reaper),
            session: sockets.session,
            interrupt_mode: config.spec.interrupt_mode,
            shell: tokio::sync::Mutex::new(sockets.shell.0),
            control: tokio::sync::Mutex::new(sockets.control.0),
            _subscription: sockets.iopub.0,
            routes: Arc::clone(&routes),
            ending: Arc::new(watch::Sender::new(None)),
            key: key.clone(),
            _directory: directory,
        });
        let mut readers = JoinSet::new();
        for (receiver, channel) in [
            (sockets.shell.1, Channel::Shell),
            (sockets.iopub.1, Channel::Iopub),
        ] {
            readers.spawn(read(receiver, channel, key.clone(), Arc::clone(&routes)));
        }
        let ending = Arc::clone(&kernel.ending);
        tokio::spawn(async move {
            let status = tokio::select! {
                status = process.exited() => status,
                // A kernel without its sockets is of no use, whatever its process does.
                _ = readers.join_next() => process.kill().await,
            };
            let drained = async { while readers.join_next().await.is_some() {} };
            // A descendant of the kernel may still hold the sockets open: then they are given up.
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
            drop(readers);
            let died = Ending::Died(output.describe(status).await);
            ending.send_if_modified(|ending| {
                let unset = ending.is_none();
                ending.get_or_insert(died);
                unset
            });
            routes.close();
        });
        Ok(kernel)
    }

    /// Sends a request on the shell socket.
    ///
    /// # Errors
    /// The socket is broken; the kernel's end follows.
    pub async fn request(&self, kind: &str, content: &Value) -> Result<Replies, ConnectionError> {
        let (id, frames) = message::request(&self.key, &self.session, kind, content);
        let replies = self.routes.open(&id);
        self.shell
            .lock()
            .await
            .send(frames.iter().map(Vec::as_slice))
            .await?;
        Ok(replies)
    }

    /// Stops what the kernel is doing, in its own way.
    pub async fn interrupt(&self) {
        match self.interrupt_mode {
            InterruptMode::Signal => {
                // Fails only when it has ended.
                let _ = self.reaper.signal_group(self.pid, Signal::INT);
            }
            InterruptMode::Message => self.control("interrupt_request", &json!({})).await,
        }
    }

    /// Ends the kernel: asks it to, and kills what is left after a moment. Returns when it has ended.
    pub async fn end(&self, why: Ending) {
        self.ending.send_if_modified(|ending| {
            let unset = ending.is_none();
            ending.get_or_insert(why);
            unset
        });
        self.control("shutdown_request", &json!({"restart": false}))
            .await;
        if tokio::time::timeout(SHUTDOWN_GRACE, self.routes.closed())
            .await
            .is_err()
        {
            let _ = self.reaper.signal_group(self.pid, Signal::KILL);
            self.routes.closed().await;
        }
    }

    /// Why it has ended, once it has.
    pub fn ending(&self) -> Option<Ending> {
        self.ending.borrow().clone()
    }

    /// Waits for its end, whatever brings it.
    pub async fn ended(&self) -> Ending {
        let mut ending = self.ending.subscribe();
        // The sender lives as long as this kernel.
        let ended = ending.wait_for(Option::is_some).await;
        ended
            .ok()
            .and_then(|ending| ending.clone())
            .unwrap_or(Ending::Deleted)
    }

    async fn control(&self, kind: &str, content: &Value) {
        let (_, frames) = message::request(&self.key, &self.session, kind, content);
        // A kernel that does not read its control socket is killed in the end.
        let mut control = self.control.lock().await;
        let send = control.send(frames.iter().map(Vec::as_slice));
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, send).await;
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // Nobody can talk to it any more. Fails when it has ended already.
        let _ = self.reaper.signal_group(self.pid, Signal::KILL);
    }
}

/// Delivers what a socket brings until it breaks. Messages that cannot be read are dropped: the kernel is guest code.
async fn read(mut receiver: Receiver, channel: Channel, key: Key, routes: Arc<Routes>) {
    loop {
        match receiver.message().await {
            Ok((frames, cut)) => match message::parse(&key, &frames, cut) {
                Ok(message) => routes.deliver(channel, message).await,
                Err(error) => tracing::debug!(%error, ?channel, "dropped a kernel's message"),
            },
            Err(error) => {
                tracing::debug!(%error, ?channel, "a kernel's socket ended");
                return;
            }
        }
    }
}

fn launch_of(config: &KernelConfig, directory: &KernelDirectory) -> Launch {
    let command = config.spec.command(&directory.connection_file());
    let mut command = command.into_iter();
    let own = &config.spec.env;
    let own = own
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let mut env = environment::merge(&config.user, &config.env, own);
    let agent = std::process::id();
    if agent != 1 {
        // ipykernel ends when its parent does; as process 1 the agent ends last of all.
        env.insert("JPY_PARENT_PID".to_owned(), agent.to_string());
    }
    Launch {
        cmd: command.next().unwrap_or_default(),
        args: command.collect(),
        env,
        cwd: config.cwd.clone(),
        user: config.user.clone(),
        streams: Streams::Pipes { stdin: false },
    }
}

/// The connected sockets of a kernel that answers.
struct Sockets {
    session: String,
    shell: (Sender, Receiver),
    control: (Sender, Receiver),
    iopub: (Sender, Receiver),
}

impl Sockets {
    async fn connect(directory: &KernelDirectory, key: &Key) -> Result<Self, KernelError> {
        let session = Uuid::new_v4().simple().to_string();
        let socket = |port, kind| {
            let (path, session) = (directory.socket(port), session.as_str());
            async move { connection::connect(&path, kind, session).await }
        };
        let (mut shell, control, mut iopub) = tokio::try_join!(
            socket(SHELL, SocketType::Dealer),
            socket(CONTROL, SocketType::Dealer),
            socket(IOPUB, SocketType::Subscriber),
        )?;
        // Both sockets must have brought something of ours: only then nothing of the first cell can be lost.
        let (mut replied, mut published) = (false, false);
        let mut interval = tokio::time::interval(INFO_INTERVAL);
        while !(replied && published) {
            tokio::select! {
                _ = interval.tick() => {
                    let (_, frames) =
                        message::request(key, &session, "kernel_info_request", &json!({}));
                    shell.0.send(frames.iter().map(Vec::as_slice)).await?;
                }
                message = shell.1.message() => replied |= belongs(key, &message?),
                message = iopub.1.message() => published |= belongs(key, &message?),
            }
        }
        Ok(Self {
            session,
            shell,
            control,
            iopub,
        })
    }
}

/// Whether a message answers a request (of ours: nobody else knows the key or may enter the directory).
fn belongs(key: &Key, (frames, cut): &(Vec<bytes::Bytes>, bool)) -> bool {
    message::parse(key, frames, *cut).is_ok_and(|message| !message.parent_id.is_empty())
}
