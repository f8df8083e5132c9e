//! Replacing the network options of a running sandbox.
//!
//! An operation in place, so that the device cannot be given to another sandbox while its policy is being replaced.

use std::sync::Arc;

use super::manager::Manager;
use super::sandbox::{Network, Sandbox};
use super::state::{Event, Refusal};
use crate::egress::EgressError;
use crate::ids::SandboxId;
use crate::moment::Moment;
use crate::store::StoreError;

/// Why network options were not replaced.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The sandbox is not in a state for it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The data plane failed.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Manager {
    /// Replaces the network options of a running sandbox.
    pub async fn set_network(
        self: &Arc<Self>,
        id: &SandboxId,
        network: Network,
    ) -> Result<(), NetworkError> {
        let sandbox = self.find(id).ok_or(Refusal::Gone)?;
        let (manager, changed) = (self.clone(), sandbox.clone());
        self.turn(&sandbox, Event::Capture, async move {
            let result = manager.replace_network(&changed, network).await;
            let _ = manager.drive(&changed, Event::Done(Moment::now())).await;
            result
        })
        .await?
    }

    async fn replace_network(
        &self,
        sandbox: &Sandbox,
        network: Network,
    ) -> Result<(), NetworkError> {
        let slot = sandbox.lock().tap.as_ref().map(|tap| tap.slot);
        if let Some(slot) = slot {
            let policy = network.policy.clone();
            self.parts.egress.update(slot, policy).await?;
        }
        sandbox.lock().network = network;
        let known = sandbox.known();
        self.parts
            .store
            .set_facts(sandbox.id.clone(), &known)
            .await?;
        Ok(())
    }
}
