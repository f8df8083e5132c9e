//! Before the daemon serves: a snapshot of each template, so that sandboxes begin from one instead of booting.

use std::sync::Arc;

use crate::egress::{EgressError, Policy, Verdict};
use crate::machine::{StartError, Warmed};
use crate::templates::{Template, Templates};

use super::manager::Manager;

/// Why a template has no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum WarmingError {
    /// The network failed.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The machine did not start, or its snapshot could not be taken.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Warms all templates, one after the other. One that cannot be warmed is logged; its sandboxes boot.
pub async fn warm_all(manager: &Manager, templates: &Templates) {
    for template in templates.iter() {
        tracing::info!(template = template.id, "warming");
        match warm(manager, template).await {
            Ok(Warmed::Found) => tracing::info!(template = template.id, "its snapshot is good"),
            Ok(Warmed::Taken { took, bytes }) => {
                tracing::info!(template = template.id, ?took, bytes, "snapshot taken");
            }
            Err(error) => {
                tracing::warn!(template = template.id, %error, "no snapshot: its sandboxes will boot");
            }
        }
    }
}

/// Ends whatever a warming that was cut short had started. Its device goes when the network is closed, or with the
/// devices that the next daemon does not adopt.
pub async fn abandon(manager: &Manager) {
    let kept = manager.all().iter().map(|s| s.id.clone()).collect();
    // Recovery is over: every snapshot that has a row is somebody's.
    let snapshots = match manager.store().snapshots().await {
        Ok(rows) => rows.into_iter().map(|row| row.id).collect(),
        Err(error) => {
            tracing::error!(%error, "a warming that was cut short is left to the next start");
            return;
        }
    };
    let swept = manager.parts.hypervisor.sweep(kept, snapshots).await;
    tracing::info!(?swept, "stopped before all templates were warm");
}

async fn warm(manager: &Manager, template: &Arc<Template>) -> Result<Warmed, WarmingError> {
    let egress = &manager.parts.egress;
    let nowhere = Policy {
        default: Verdict::Deny,
        allow: Vec::new(),
        deny: Vec::new(),
    };
    let tap = egress.acquire(nowhere).await?;
    let slot = tap.as_ref().map(|tap| tap.slot);
    let warmed = manager.parts.hypervisor.warm(template.clone(), tap).await;
    if let Some(slot) = slot {
        egress.release(slot).await?;
    }
    Ok(warmed?)
}
