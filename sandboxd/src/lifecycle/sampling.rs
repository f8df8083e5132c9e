//! Taking samples of resource use, and keeping logs within their bounds.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::manager::Manager;
use super::sandbox::Sandbox;
use crate::machine::agent::AgentError;

/// Sandboxes asked at the same time.
const AT_ONCE: usize = 8;

/// How often logs are trimmed when no samples are taken.
const TRIM_INTERVAL: Duration = Duration::from_secs(30);

/// Takes one sample of a sandbox that runs; a sandbox that does not is left alone.
pub async fn sample(sandbox: &Sandbox) -> Result<(), AgentError> {
    if let Some(machine) = sandbox.machine() {
        sandbox.add_sample(machine.metrics().await?);
    }
    Ok(())
}

/// Goes over all sandboxes at an interval (`None`: no samples, logs only) until the manager is gone.
pub async fn run(manager: Weak<Manager>, interval: Option<Duration>) {
    let mut timer = tokio::time::interval(interval.unwrap_or(TRIM_INTERVAL));
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let Some(manager) = manager.upgrade() else {
            return;
        };
        let sandboxes = manager.all();
        drop(manager);
        stream::iter(sandboxes)
            .for_each_concurrent(AT_ONCE, |sandbox: Arc<Sandbox>| async move {
                if let Some(machine) = sandbox.machine() {
                    machine.trim_logs();
                }
                if interval.is_some()
                    && let Err(error) = sample(&sandbox).await
                {
                    tracing::debug!(sandbox = %sandbox.id, %error, "no sample");
                }
            })
            .await;
    }
}
