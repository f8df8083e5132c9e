//! Why and when a run ends early.
//!
//! ```text
//!   running ──trip(why)──► tripped: no new turns ──cut_now()──► cut: turns under way are given up
//! ```
//!
//! The first reason stays.

use std::sync::Arc;

use tokio::sync::watch;

/// Why a run ends early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Somebody pressed Ctrl-C, or sent SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// Nobody is there any more.
    #[error("the server is gone: {0}")]
    Gone(String),
    /// What is measured cannot be written down.
    #[error("results cannot be written: {0}")]
    Output(String),
}

/// A handle on that. Clones are the same.
#[derive(Debug, Clone)]
pub struct Stop {
    why: Arc<watch::Sender<Option<Why>>>,
    cut: Arc<watch::Sender<bool>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            why: Arc::new(watch::Sender::new(None)),
            cut: Arc::new(watch::Sender::new(false)),
        }
    }
}

impl Stop {
    /// The run is to end.
    pub fn trip(&self, why: Why) {
        self.why.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(why);
            }
            first
        });
    }

    /// Why it is to end, once it is.
    #[must_use]
    pub fn why(&self) -> Option<Why> {
        self.why.borrow().clone()
    }

    /// Whether it is to end.
    #[must_use]
    pub fn is_tripped(&self) -> bool {
        self.why.borrow().is_some()
    }

    /// Waits until it is to end.
    pub async fn tripped(&self) {
        // The sender is held by self, so the wait ends only with a reason.
        let _ = self.why.subscribe().wait_for(Option::is_some).await;
    }

    /// Turns under way are given up.
    pub fn cut_now(&self) {
        self.cut.send_replace(true);
    }

    /// Waits until then.
    pub async fn cut(&self) {
        let _ = self.cut.subscribe().wait_for(|cut| *cut).await;
    }
}

/// Trips at the first Ctrl-C or SIGTERM and cuts at the second.
///
/// # Errors
/// When signals cannot be caught.
pub fn on_signals(stop: &Stop) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_tripped() {
                stop.cut_now();
            }
            stop.trip(Why::Interrupted);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays() {
        let stop = Stop::default();
        assert!(!stop.is_tripped());
        let waiting = tokio::spawn({
            let stop = stop.clone();
            async move { stop.tripped().await }
        });
        stop.trip(Why::Output("full".to_owned()));
        stop.trip(Why::Interrupted);
        waiting.await.unwrap();
        assert_eq!(stop.why(), Some(Why::Output("full".to_owned())));
        stop.cut_now();
        stop.cut().await;
    }
}
