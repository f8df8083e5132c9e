//! Forking: children that go on where a running sandbox is, each as itself.
//!
//! ```text
//!   capture in place ─► child 1 ┐
//!                     ─► child 2 ├─ each with its own id, tokens, network, disk ─► capture removed
//!                     ─► …       ┘
//! ```
//!
//! A task of its own carries it through. When the client goes away, the children that it would have been told about are
//! ended.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::sync::oneshot;

use super::capture::CaptureError;
use super::create::{CreateError, Created, Spec};
use super::manager::Manager;
use super::sandbox::Sandbox;
use super::state::{Event, Reason, Refusal};
use crate::ids::{SandboxId, SnapshotId};
use crate::machine::Source;
use crate::store::captures::{Kind, SavedCapture};
use crate::store::facts::Known;

/// Children that start at the same time.
const AT_ONCE: usize = 16;

/// What became of each child.
pub type Children = Vec<Result<Created, CreateError>>;

impl Manager {
    /// Makes `count` children of a running sandbox, which goes on.
    pub async fn fork(
        self: &Arc<Self>,
        id: &SandboxId,
        count: u32,
        timeout: u32,
    ) -> Result<Children, CaptureError> {
        let sandbox = self.find(id).ok_or(Refusal::Gone)?;
        let (answer, result) = oneshot::channel();
        let manager = self.clone();
        tokio::spawn(async move {
            let forked = manager.carry_out_fork(&sandbox, count, timeout).await;
            if let Err(Ok(children)) = answer.send(forked) {
                for child in children.into_iter().flatten() {
                    manager.abandon(&child.view.id);
                }
            }
        });
        result.await.unwrap_or(Err(CaptureError::Aborted))
    }

    async fn carry_out_fork(
        self: &Arc<Self>,
        parent: &Arc<Sandbox>,
        count: u32,
        timeout: u32,
    ) -> Result<Children, CaptureError> {
        let snapshot = SnapshotId::generate()?;
        let row = SavedCapture::new(snapshot.clone(), Kind::Fork, parent.id.clone(), true);
        self.capture(parent, row).await?;
        let children = stream::iter(0..count)
            .map(|_| self.child(parent, &snapshot, timeout))
            .buffered(AT_ONCE)
            .collect()
            .await;
        self.drop_snapshot(snapshot).await;
        self.note(
            &parent.id,
            "forked",
            &format!("{count} children were asked for."),
        );
        Ok(children)
    }

    async fn child(
        self: &Arc<Self>,
        parent: &Sandbox,
        snapshot: &SnapshotId,
        timeout: u32,
    ) -> Result<Created, CreateError> {
        let Known {
            facts,
            network,
            on_timeout,
            ..
        } = parent.known();
        let spec = Spec {
            template: self.template_of(&facts)?,
            source: Source::Memory(snapshot.clone()),
            origin: facts.origin,
            timeout,
            on_timeout,
            auto_resume: facts.auto_resume,
            auto_checkpoint: facts.auto_checkpoint,
            metadata: facts.metadata,
            env: facts.env,
            secure: facts.access_token.is_some(),
            public: facts.traffic_token.is_none(),
            mask_request_host: facts.mask_request_host,
            network,
        };
        self.create(SandboxId::generate()?, spec, false).await
    }

    /// Ends a sandbox that no client was told about.
    fn abandon(self: &Arc<Self>, id: &SandboxId) {
        if let Some(sandbox) = self.find(id) {
            drop(self.drive(&sandbox, Event::Kill(Reason::Abandoned)));
        }
    }
}
