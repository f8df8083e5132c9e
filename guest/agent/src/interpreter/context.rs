//! One context: a language, a working directory and a kernel that is kept running.
//!
//! ```text
//!             ┌──────── died, or restart() ────────┐
//!             ▼                                    │
//!   ──► starting ──answers──► ready(kernel) ───────┤
//!             │                                    └── delete() ──► closed
//!             └──does not──► failed(reason) ──next use──► starting
//! ```
//!
//! A task owns the kernel and makes these steps; others watch the state. A kernel that dies soon after its start,
//! several times in a row, is failed: it is started again when somebody asks for it. Executions take turns by a
//! fair lock.

use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use super::error::InterpreterError;
use super::kernel::{Ending, Kernel, KernelConfig};
use super::languages::Env;
use crate::process::launch::Launcher;
use crate::process::reaper::Reaper;

/// A kernel that lived shorter than this counts as one that dies at its start.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// So many short lives in a row, and the context is failed.
const MAX_SHORT_LIVES: u32 = 3;

/// A context as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContextInfo {
    /// Unique in the sandbox.
    pub id: String,
    /// Of its kernel.
    pub language: String,
    /// Where its kernel was started.
    pub cwd: String,
}

/// Says how to start a context's kernel.
pub type Configure = dyn Fn(&ContextInfo) -> Result<KernelConfig, InterpreterError> + Send + Sync;

/// What a context is made of. The configuration is asked for at every start, as the sandbox's settings may change.
pub struct ContextPlan {
    /// Starts kernels.
    pub launcher: Launcher,
    /// Learns of their ends.
    pub reaper: Arc<Reaper>,
    /// What to start.
    pub config: Box<Configure>,
}

/// Where a context is in its life.
#[derive(Debug, Clone)]
enum State {
    Starting,
    Ready(Arc<Running>),
    Failed(String),
    Closed,
}

/// A kernel and the environment it has.
#[derive(Debug)]
pub struct Running {
    /// The kernel.
    pub kernel: Arc<Kernel>,
    /// The sandbox's variables that its process has; changes are seeded before a cell.
    pub env: Mutex<Env>,
    /// The incarnation for which its generators of random numbers are good.
    pub incarnation: AtomicU64,
}

enum Command {
    Start,
    Restart(oneshot::Sender<Result<(), String>>),
    Delete(oneshot::Sender<()>),
}

/// See the module.
#[derive(Debug)]
pub struct Context {
    /// What clients see of it.
    pub info: ContextInfo,
    /// Held by the execution whose turn it is.
    pub turn: tokio::sync::Mutex<()>,
    state: watch::Receiver<State>,
    commands: mpsc::Sender<Command>,
}

impl Context {
    /// Makes a context and begins to start its kernel.
    pub fn create(info: ContextInfo, plan: ContextPlan) -> Arc<Self> {
        let (state_sender, state) = watch::channel(State::Starting);
        let (commands, receiver) = mpsc::channel(16);
        let keeper = Keeper {
            info: info.clone(),
            plan,
            state: state_sender,
            commands: receiver,
        };
        tokio::spawn(keeper.run());
        Arc::new(Self {
            info,
            turn: tokio::sync::Mutex::new(()),
            state,
            commands,
        })
    }

    /// The kernel, as soon as it answers. A failed context tries again.
    ///
    /// # Errors
    /// [`InterpreterError::NotRunning`], [`InterpreterError::UnknownContext`] once it is deleted.
    pub async fn ready(&self) -> Result<Arc<Running>, InterpreterError> {
        let mut state = self.state.clone();
        if matches!(*state.borrow_and_update(), State::Failed(_)) {
            // Full or closed: somebody else has asked, or it is being deleted.
            let _ = self.commands.try_send(Command::Start);
            let left = state
                .wait_for(|state| !matches!(state, State::Failed(_)))
                .await;
            if left.is_err() {
                return Err(InterpreterError::UnknownContext(self.info.id.clone()));
            }
        }
        let settled = state
            .wait_for(|state| !matches!(state, State::Starting))
            .await;
        match settled.as_deref() {
            Ok(State::Ready(running)) => Ok(Arc::clone(running)),
            Ok(State::Failed(reason)) => Err(self.not_running(reason.clone())),
            Ok(State::Starting | State::Closed) | Err(_) => {
                Err(InterpreterError::UnknownContext(self.info.id.clone()))
            }
        }
    }

    /// Ends the kernel and starts another one; what runs is told so. Returns when the new one answers.
    ///
    /// # Errors
    /// [`InterpreterError::NotRunning`], [`InterpreterError::UnknownContext`] once it is deleted.
    pub async fn restart(&self) -> Result<(), InterpreterError> {
        let (sender, done) = oneshot::channel();
        let unknown = || InterpreterError::UnknownContext(self.info.id.clone());
        self.commands
            .send(Command::Restart(sender))
            .await
            .map_err(|_| unknown())?;
        done.await
            .map_err(|_| unknown())?
            .map_err(|reason| self.not_running(reason))
    }

    /// Ends the kernel for good; what runs is told so. Returns when it is gone.
    pub async fn delete(&self) {
        let (sender, done) = oneshot::channel();
        // Whichever fails: somebody else has deleted it.
        if self.commands.send(Command::Delete(sender)).await.is_ok() {
            let _ = done.await;
        }
    }

    pub(super) fn not_running(&self, reason: String) -> InterpreterError {
        InterpreterError::NotRunning {
            id: self.info.id.clone(),
            language: self.info.language.clone(),
            reason,
        }
    }
}

/// The task behind a context.
struct Keeper {
    info: ContextInfo,
    plan: ContextPlan,
    state: watch::Sender<State>,
    commands: mpsc::Receiver<Command>,
}

/// How a start went.
enum Start {
    Ready(Arc<Running>),
    Failed(String),
    Stopped,
}

/// What a step decides.
enum Next {
    Start,
    Stop,
}

impl Keeper {
    async fn run(mut self) {
        let mut short_lives = 0;
        let mut restarting: Vec<oneshot::Sender<Result<(), String>>> = Vec::new();
        loop {
            self.state.send_replace(State::Starting);
            let started = Instant::now();
            let next = match self.start(&mut restarting).await {
                Start::Ready(running) => {
                    self.state.send_replace(State::Ready(Arc::clone(&running)));
                    for waiting in restarting.drain(..) {
                        let _ = waiting.send(Ok(()));
                    }
                    let outcome = self.attend(&running.kernel, &mut restarting).await;
                    let short = started.elapsed() < SHORT_LIFE;
                    short_lives = if short && outcome.is_err() {
                        short_lives + 1
                    } else {
                        0
                    };
                    match outcome {
                        Ok(next) => next,
                        Err(reason) if short_lives >= MAX_SHORT_LIVES => {
                            short_lives = 0;
                            self.fail(reason, &mut restarting).await
                        }
                        Err(reason) => {
                            tracing::warn!(context = self.info.id, reason, "a kernel died");
                            Next::Start
                        }
                    }
                }
                Start::Failed(reason) => {
                    tracing::warn!(context = self.info.id, reason, "a kernel did not start");
                    self.fail(reason, &mut restarting).await
                }
                Start::Stopped => Next::Stop,
            };
            match next {
                Next::Start => {}
                Next::Stop => {
                    self.state.send_replace(State::Closed);
                    return;
                }
            }
        }
    }

    /// Starts a kernel, unless the context is deleted meanwhile.
    async fn start(&mut self, restarting: &mut Vec<oneshot::Sender<Result<(), String>>>) -> Start {
        let config = match (self.plan.config)(&self.info) {
            Ok(config) => config,
            Err(error) => return Start::Failed(error.to_string()),
        };
        let mut start = pin!(Kernel::start(
            &self.plan.launcher,
            &self.plan.reaper,
            &config
        ));
        loop {
            tokio::select! {
                started = &mut start => return match started {
                    Ok(kernel) => {
                        let env = Mutex::new(config.env.clone());
                        let incarnation = AtomicU64::new(config.incarnation);
                        Start::Ready(Arc::new(Running {
                            kernel,
                            env,
                            incarnation,
                        }))
                    }
                    Err(error) => Start::Failed(error.to_string()),
                },
                command = self.commands.recv() => match command {
                    Some(Command::Start) => {}
                    Some(Command::Restart(waiting)) => restarting.push(waiting),
                    Some(Command::Delete(waiting)) => {
                        let _ = waiting.send(());
                        return Start::Stopped;
                    }
                    None => return Start::Stopped,
                },
            }
        }
    }

    /// Waits for the kernel's end or a command. An error is a death.
    async fn attend(
        &mut self,
        kernel: &Kernel,
        restarting: &mut Vec<oneshot::Sender<Result<(), String>>>,
    ) -> Result<Next, String> {
        loop {
            let command = tokio::select! {
                ending = kernel.ended() => {
                    return match ending {
                        Ending::Died(reason) => Err(reason),
                        Ending::Restarted | Ending::Deleted => Ok(Next::Start),
                    };
                }
                command = self.commands.recv() => command,
            };
            match command {
                Some(Command::Start) => {}
                Some(Command::Restart(waiting)) => {
                    // Nobody may take the old kernel for the new one.
                    self.state.send_replace(State::Starting);
                    kernel.end(Ending::Restarted).await;
                    restarting.push(waiting);
                    return Ok(Next::Start);
                }
                Some(Command::Delete(waiting)) => {
                    self.state.send_replace(State::Closed);
                    kernel.end(Ending::Deleted).await;
                    let _ = waiting.send(());
                    return Ok(Next::Stop);
                }
                // The context was dropped, and with it everybody who could use it.
                None => {
                    kernel.end(Ending::Deleted).await;
                    return Ok(Next::Stop);
                }
            }
        }
    }

    /// Waits until somebody wants the failed context.
    async fn fail(
        &mut self,
        reason: String,
        restarting: &mut Vec<oneshot::Sender<Result<(), String>>>,
    ) -> Next {
        for waiting in restarting.drain(..) {
            let _ = waiting.send(Err(reason.clone()));
        }
        self.state.send_replace(State::Failed(reason));
        match self.commands.recv().await {
            Some(Command::Start) => Next::Start,
            Some(Command::Restart(waiting)) => {
                restarting.push(waiting);
                Next::Start
            }
            Some(Command::Delete(waiting)) => {
                let _ = waiting.send(());
                Next::Stop
            }
            None => Next::Stop,
        }
    }
}

impl Running {
    /// The sandbox's variables that changed since the kernel got them: `None` for those that are gone.
    pub fn env_changes(&self, wanted: &Env) -> std::collections::BTreeMap<String, Option<String>> {
        let has = self.env.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = has.keys().filter(|name| !wanted.contains_key(*name));
        let new = wanted
            .iter()
            .filter(|(name, value)| has.get(*name) != Some(value));
        gone.map(|name| (name.clone(), None))
            .chain(new.map(|(name, value)| (name.clone(), Some(value.clone()))))
            .collect()
    }

    /// Notes that the kernel has these now.
    pub fn set_env(&self, env: Env) {
        *self.env.lock().unwrap_or_else(PoisonError::into_inner) = env;
    }
}
