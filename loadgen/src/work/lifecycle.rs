//! A sandbox's life: each step is timed by itself, from its send, and what it must keep is looked at.
//!
//! ```text
//!   create · write "first" · checkpoint · write "second" · rollback (mark is "first" again)
//!          · snapshot · a sandbox of it (mark is "first") · fork (the child's mark is "first")
//!          · pause · resume (mark is "first") · first command after the resume · kill
//! ```
//!
//! Steps that are not asked for are left out. One step that fails fails the turn.

use std::time::Instant;

use bytes::Bytes;

use super::{During, Failed, failed, reading, since};
use crate::drive::{Ledger, Work};
use crate::e2b::{CallError, Client, Sandbox};
use crate::record::{Job, Outcome, Reading};

/// Where the mark is.
const MARK: &str = "/tmp/loadgen-mark";
const CHECKPOINT: &str = "loadgen";

/// A step that is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Step {
    /// Memory and disk under a name; the sandbox goes on (beyond E2B).
    Checkpoint,
    /// Back to the checkpoint, in place (beyond E2B).
    Rollback,
    /// A snapshot that outlives the sandbox.
    Snapshot,
    /// A sandbox of the snapshot, to its first command.
    Restore,
    /// One child of the running sandbox, to its answer.
    Fork,
    /// Memory and disk kept, nothing runs.
    Pause,
    /// The paused sandbox runs again, to the answer.
    Resume,
    /// The same, to its first command.
    ResumeExec,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Checkpoint,
        Self::Rollback,
        Self::Snapshot,
        Self::Restore,
        Self::Fork,
        Self::Pause,
        Self::Resume,
        Self::ResumeExec,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Rollback => "rollback",
            Self::Snapshot => "snapshot",
            Self::Restore => "restore",
            Self::Fork => "fork",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::ResumeExec => "resume_exec",
        }
    }

    /// The step without which this one cannot be.
    #[must_use]
    pub fn needs(self) -> Option<Self> {
        match self {
            Self::Rollback => Some(Self::Checkpoint),
            Self::Restore => Some(Self::Snapshot),
            Self::Resume => Some(Self::Pause),
            Self::ResumeExec => Some(Self::Resume),
            _ => None,
        }
    }
}

/// The work.
#[derive(Debug)]
pub struct Lifecycle {
    /// Whom to ask.
    pub client: Client,
    /// What was made.
    pub ledger: Ledger,
    /// Steps, in order, each once and with what it needs.
    pub steps: Vec<Step>,
}

/// Readings of a turn so far.
struct Timed<'a> {
    work: &'a Lifecycle,
    readings: Vec<Reading>,
}

impl Timed<'_> {
    fn put(&mut self, step: Step, began: Instant, stages: Vec<(String, u64)>) {
        if let Some(index) = self.work.steps.iter().position(|known| *known == step) {
            let value = since(began, Instant::now());
            self.readings.push(reading(index, value, stages));
        }
    }
}

impl Work for Lifecycle {
    fn series(&self, _: Job) -> Vec<usize> {
        (0..self.steps.len()).collect()
    }

    async fn turn(&self, job: Job, _: Instant) -> Outcome {
        let created = self.client.create(self.ledger.run(), None).await;
        let sandbox = match created.during("create") {
            Ok(created) => created.value,
            Err(error) => return failed(&error, &self.series(job), None),
        };
        self.ledger.made(&sandbox.id);
        let mut timed = Timed {
            work: self,
            readings: Vec::new(),
        };
        let lived = self.live(&sandbox, &mut timed).await;
        let killed = self.kill(&sandbox).await;
        match lived.and(killed) {
            Ok(()) => Outcome {
                readings: timed.readings,
                sandbox: Some(sandbox.id),
                trouble: None,
            },
            Err(error) => failed(&error, &self.series(job), Some(sandbox.id)),
        }
    }
}

impl Lifecycle {
    fn has(&self, step: Step) -> bool {
        self.steps.contains(&step)
    }

    async fn live(&self, sandbox: &Sandbox, timed: &mut Timed<'_>) -> Result<(), Failed> {
        let client = &self.client;
        self.mark(sandbox, b"first").await?;
        if self.has(Step::Checkpoint) {
            let began = Instant::now();
            let spans = client
                .checkpoint(sandbox, CHECKPOINT)
                .await
                .during("checkpoint")?;
            timed.put(Step::Checkpoint, began, spans.stages);
        }
        if self.has(Step::Rollback) {
            self.mark(sandbox, b"second").await?;
            let began = Instant::now();
            let spans = client
                .rollback(sandbox, CHECKPOINT)
                .await
                .during("rollback")?;
            timed.put(Step::Rollback, began, spans.stages);
            self.expect(sandbox, "rollback").await?;
        }
        if self.has(Step::Snapshot) {
            self.snapshot(sandbox, timed).await?;
        }
        if self.has(Step::Fork) {
            let began = Instant::now();
            let fork = client.fork(sandbox).await.during("fork")?;
            timed.put(Step::Fork, began, fork.spans.stages);
            self.ledger.made(&fork.value.id);
            let kept = self.expect(&fork.value, "fork").await;
            self.kill(&fork.value).await.and(kept)?;
        }
        if self.has(Step::Pause) {
            let began = Instant::now();
            let spans = client.pause(sandbox).await.during("pause")?;
            timed.put(Step::Pause, began, spans.stages);
        }
        if self.has(Step::Resume) {
            let began = Instant::now();
            let resumed = client.resume(sandbox).await.during("resume")?;
            timed.put(Step::Resume, began, resumed.spans.stages);
            client.answers(&resumed.value).await.during("exec")?;
            timed.put(Step::ResumeExec, began, Vec::new());
            self.expect(&resumed.value, "resume").await?;
        }
        Ok(())
    }

    async fn snapshot(&self, sandbox: &Sandbox, timed: &mut Timed<'_>) -> Result<(), Failed> {
        let client = &self.client;
        let began = Instant::now();
        let snapshot = client.snapshot(sandbox).await.during("snapshot")?;
        timed.put(Step::Snapshot, began, snapshot.spans.stages);
        let id = snapshot.value;
        self.ledger.made_snapshot(&id);
        if self.has(Step::Restore) {
            let began = Instant::now();
            let created = client
                .create(self.ledger.run(), Some(&id))
                .await
                .during("restore")?;
            let answered = Instant::now();
            self.ledger.made(&created.value.id);
            client.answers(&created.value).await.during("exec")?;
            let mut stages = created.spans.stages;
            if !stages.is_empty() {
                let rest = since(answered, Instant::now());
                stages.push(("after the create (client)".to_owned(), rest));
            }
            timed.put(Step::Restore, began, stages);
            let kept = self.expect(&created.value, "restore").await;
            self.kill(&created.value).await.and(kept)?;
        }
        client
            .delete_snapshot(&id)
            .await
            .during("delete snapshot")?;
        self.ledger.gone_snapshot(&id);
        Ok(())
    }

    async fn mark(&self, sandbox: &Sandbox, mark: &'static [u8]) -> Result<(), Failed> {
        let written = self
            .client
            .write(sandbox, MARK, Bytes::from_static(mark))
            .await;
        written.during("write")
    }

    /// What a step must have kept.
    async fn expect(&self, sandbox: &Sandbox, after: &'static str) -> Result<(), Failed> {
        let found = self.client.read(sandbox, MARK, 64).await.during(after)?;
        if found == b"first"[..] {
            return Ok(());
        }
        Err(CallError::Content).during(after)
    }

    async fn kill(&self, sandbox: &Sandbox) -> Result<(), Failed> {
        self.client.kill(sandbox).await.during("kill")?;
        self.ledger.gone(&sandbox.id);
        Ok(())
    }
}
