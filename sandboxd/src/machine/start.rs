//! How a machine starts.
//!
//! ```text
//!   pool ──take──► folders renamed ─┐
//!   (empty) ─► spawn, first answer ─┴─► restore | boot ─► agent's first answer ─► configure ─► serves
//!                                   made ──┘
//! ```
//!
//! Ordering rules:
//! 1. A process from the pool that turns out to be unfit before it is a machine (dead, or of another shape than the
//!    snapshot) is put away, and the start begins again with a process of its own.
//! 2. From its first step on the process is known under the sandbox's id, so that [`sweep`](super::sweep) and `discard` find
//!    what it has.
//! 3. A start that fails, is dropped or takes too long ends its process: [`Spawned`] kills on every early return. What the
//!    process and the guest's console said last goes to the log or becomes part of the error.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::time::sleep_until;
use vmm::config::SerialConfig;
use vmm::control::{DiskOverride, ErrorCode, Event, RestoreArgs};
use vmm::machine::Shape;

use super::agent::{Agent, AgentError, Session};
use super::control::{Control, ControlError};
use super::layout::MachinePaths;
use super::microvm::{Microvm, Microvms, Origin, SERIAL_LOG_BYTES, configuration};
use super::pool::Kind;
use super::process::Process;
use super::retry::Backoff;
use super::spawn::{Ceiling, Spawned};
use super::stages::{Stage, Stages};
use super::{Plan, StartError, Started};
use crate::ids::SandboxId;

/// Why a process did not become a machine that serves.
enum Failed {
    /// It was no machine yet: another process may do better.
    Unfit(StartError),
    /// Trying again would not help, or is not safe.
    ForGood(StartError),
}

impl Microvms {
    pub(super) async fn start_from(
        &self,
        plan: &Plan,
        origin: Origin<'_>,
    ) -> Result<Started, StartError> {
        let _starting = self.pool.starting();
        let began = Instant::now();
        if let Some(spawned) = self.take(plan, origin) {
            let mut stages = Stages::default();
            stages.add(Stage::Pool, began.elapsed());
            let name = spawned.name.clone();
            match self.start_in(spawned, plan, origin, began, stages).await {
                Err(Failed::Unfit(error)) => {
                    tracing::warn!(sandbox = %plan.id, machine = %name, %error, "a process of the pool is put away");
                    self.discard_machine(&plan.id).await;
                }
                Err(Failed::ForGood(error)) => return Err(error),
                Ok(started) => return Ok(started),
            }
        }
        let mut stages = Stages::default();
        let fresh = Instant::now();
        let ceiling = Ceiling {
            memory_mib: u64::from(plan.template.memory_mib),
            disk_mib: u64::from(plan.template.disk_mib),
            urgent: true,
        };
        let mut spawned = self.spawner.spawn(&plan.id, ceiling)?;
        if let Some(control) = &mut spawned.control {
            let hello = async { Ok(control.hello().await.map(|_| ())?) };
            let hello = self.alive(&spawned.process, began, hello).await;
            if let Err(error) = hello {
                return Err(self.failed(spawned, plan, error).await);
            }
        }
        stages.add(Stage::Spawn, fresh.elapsed());
        let started = self.start_in(spawned, plan, origin, began, stages).await;
        started.map_err(|(Failed::Unfit(error) | Failed::ForGood(error))| error)
    }

    /// A process of the pool with the sandbox's folders.
    fn take(&self, plan: &Plan, origin: Origin<'_>) -> Option<Spawned> {
        let Origin::Snapshot(snapshot) = origin else {
            return None;
        };
        let of_template = matches!(plan.source, super::Source::Template);
        let spawned = self
            .pool
            .take(&self.kind(plan, of_template.then(|| snapshot.to_owned())))?;
        match self.spawner.rename_folders(&spawned.name, &plan.id) {
            Ok(()) => Some(spawned),
            Err(error) => {
                tracing::warn!(sandbox = %plan.id, %error, "the folders of a process of the pool could not be renamed");
                let (spawner, name) = (self.spawner.clone(), spawned.name.clone());
                tokio::spawn(async move {
                    spawned.end().await;
                    spawner.remove_folders(&name).await;
                    spawner.remove_group(&name).await;
                });
                None
            }
        }
    }

    /// What a process for a plan is prepared for.
    pub(super) fn kind(&self, plan: &Plan, snapshot: Option<PathBuf>) -> Kind {
        let paths = self.shared.layout.of(&plan.id);
        Kind {
            shape: Shape::of(&self.machine_config(plan, &paths)),
            disk_mib: u64::from(plan.template.disk_mib),
            snapshot,
        }
    }

    /// From a process that answers to a machine that serves.
    async fn start_in(
        &self,
        mut spawned: Spawned,
        plan: &Plan,
        origin: Origin<'_>,
        began: Instant,
        mut stages: Stages,
    ) -> Result<Started, Failed> {
        let paths = self.shared.layout.of(&plan.id);
        let process = spawned.process.clone();
        self.known
            .add(&plan.id, process.identity(), Some(spawned.name.clone()));
        let Some(control) = spawned.control.take() else {
            let closed = ControlError::Closed("restore");
            return Err(Failed::Unfit(closed.into()));
        };
        let making = self.make(control, plan, &paths, origin, &mut stages);
        let control = match self.alive(&process, began, making).await {
            Ok(control) => control,
            Err(error) => {
                let error = self.failed(spawned, plan, error).await;
                return Err(match is_final(&error) {
                    true => Failed::ForGood(error),
                    false => Failed::Unfit(error),
                });
            }
        };
        tokio::spawn(report_exit(plan.id.clone(), control));
        let agent = Agent::new(&paths.vsock);
        let greeting = self.introduce(&agent, plan, &mut stages);
        if let Err(error) = self.alive(&process, began, greeting).await {
            return Err(Failed::ForGood(self.failed(spawned, plan, error).await));
        }
        spawned.keep();
        Ok(Started {
            machine: Arc::new(Microvm {
                shared: self.shared.clone(),
                agent,
                paths,
                process,
            }),
            stages,
        })
    }

    /// `work`, for as long as the process lives and a start that `began` then may take.
    async fn alive<T>(
        &self,
        process: &Process,
        began: Instant,
        work: impl Future<Output = Result<T, StartError>>,
    ) -> Result<T, StartError> {
        let patience = self.shared.config.start_timeout;
        tokio::select! {
            biased;
            done = work => done,
            // Its words are read when it has said them all.
            () = process.exited() => Err(StartError::Died { last_words: String::new() }),
            () = sleep_until((began + patience).into()) => Err(StartError::TimedOut(patience)),
        }
    }

    /// Ends a process that is no use, and gives the reason back.
    async fn failed(&self, spawned: Spawned, plan: &Plan, error: StartError) -> StartError {
        spawned.end().await;
        let last_words = last_words(&self.shared.layout.of(&plan.id));
        tracing::warn!(sandbox = %plan.id, %error, last_words, "no machine");
        match error {
            // A process closes its connections before it is dead.
            StartError::Control(ControlError::Closed(_) | ControlError::Io(_))
            | StartError::Died { .. } => StartError::Died { last_words },
            error => error,
        }
    }

    /// The machine, whose guest runs.
    async fn make(
        &self,
        mut control: Control,
        plan: &Plan,
        paths: &MachinePaths,
        origin: Origin<'_>,
        stages: &mut Stages,
    ) -> Result<Control, StartError> {
        let began = Instant::now();
        if let Some(clone) = clone_of(origin, plan, paths) {
            let restored = control.restore(clone).await?;
            stages.add_operation(&restored.stages, began.elapsed());
            return Ok(control);
        }
        let mut config = self.machine_config(plan, paths);
        if let Origin::Disk(snapshot) = origin
            && let Some(disk) = config.disks.iter_mut().find(|disk| !disk.read_only)
        {
            disk.snapshot = Some(snapshot.to_owned());
        }
        control.boot(config).await?;
        stages.add(Stage::Boot, began.elapsed());
        Ok(control)
    }

    /// Makes the guest the sandbox of `plan`.
    async fn introduce(
        &self,
        agent: &Agent,
        plan: &Plan,
        stages: &mut Stages,
    ) -> Result<(), StartError> {
        let began = Instant::now();
        let mut session = first_answer(agent).await?;
        let answered = Instant::now();
        stages.add(Stage::Agent, answered - began);
        // Written now, as the wall clock is a part of it.
        let configuration = configuration(plan, &self.shared.config.network);
        session.configure(configuration).await?;
        stages.add(Stage::Configure, answered.elapsed());
        Ok(())
    }
}

/// Whether another process would fail in the same way.
fn is_final(error: &StartError) -> bool {
    matches!(
        error,
        StartError::Control(ControlError::Refused { error, .. }) if error.code == ErrorCode::BadSnapshot
    ) || matches!(error, StartError::TimedOut(_))
}

/// What a sandbox has of its own, in a clone of its template's snapshot.
fn clone_of(origin: Origin<'_>, plan: &Plan, paths: &MachinePaths) -> Option<RestoreArgs> {
    let (snapshot, record) = match origin {
        Origin::Kernel | Origin::Disk(_) => return None,
        Origin::Snapshot(snapshot) => (snapshot, false),
        Origin::Recorded(snapshot) => (snapshot, true),
    };
    let overlay = DiskOverride {
        overlay: Some(paths.overlay.clone()),
        ..DiskOverride::default()
    };
    Some(RestoreArgs {
        dir: snapshot.to_owned(),
        disks: [("overlay".to_owned(), overlay)].into(),
        vsock: Some(paths.vsock.clone()),
        id: Some(plan.id.to_string()),
        tap: plan.tap.as_ref().map(|tap| tap.name.clone()),
        serial: Some(SerialConfig {
            path: paths.serial.clone(),
            max_bytes: SERIAL_LOG_BYTES,
        }),
        resume: true,
        verify: false,
        record,
    })
}

/// Waits for the first answer of the agent. A guest that was restored gives it at the first attempt; one that boots refuses
/// until its agent listens.
async fn first_answer(agent: &Agent) -> Result<Session, AgentError> {
    let backoff = Backoff::start();
    loop {
        match agent.greet().await {
            Ok(session) => return Ok(session),
            Err(
                AgentError::NotListening(_) | AgentError::NoMachine(_) | AgentError::TimedOut(_),
            ) => {
                backoff.pause().await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Logs why a machine ended, in its own words.
pub(super) async fn report_exit(id: SandboxId, control: Control) {
    match control.exit_event().await {
        Some(Event::Exited { reason, detail }) => {
            tracing::info!(sandbox = %id, ?reason, detail, "the machine ended");
        }
        None => tracing::debug!(sandbox = %id, "the machine ended without a word"),
    }
}

/// The end of the process log and of the guest's console, fit for one log line.
fn last_words(paths: &MachinePaths) -> String {
    let words = [&paths.log, &paths.serial].map(|path| tail(path).unwrap_or_default());
    let text = words.join(" | ");
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match clean.trim_matches([' ', '|']) {
        "" => "(none)".to_owned(),
        words => words.to_owned(),
    }
}

fn tail(path: &Path) -> std::io::Result<String> {
    const LENGTH: u64 = 800;
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LENGTH)))?;
    let mut bytes = Vec::new();
    file.take(LENGTH).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
