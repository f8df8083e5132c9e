//! The closed loop: workers that wait for their answers. What a server does not answer it is not asked again, so its stalls are
//! counted once; that is why results of it are marked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Rounds, Shared, Work, drain};
use crate::pace::Bounds;
use crate::record::Job;

/// How long a worker waits after a turn that reached no server: refusals come in microseconds, and say nothing new.
const BREATH: Duration = Duration::from_millis(100);

/// How workers are driven.
#[derive(Debug, Clone, Copy)]
pub struct Closed {
    /// How many.
    pub workers: usize,
    /// How far they go.
    pub bounds: Bounds,
    /// Blocks for resampling; `None`: all are of `round`.
    pub rounds: Option<Rounds>,
    /// See `rounds`.
    pub round: u32,
    /// Which side of a run this is.
    pub side: usize,
    /// How long turns may go on after the run was told to stop.
    pub grace: Duration,
}

/// Drives workers to the end.
pub async fn run<W: Work>(shared: &Arc<Shared<W>>, closed: Closed) {
    let from = shared.began.elapsed();
    let numbers = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..closed.workers {
        let (shared, numbers) = (Arc::clone(shared), Arc::clone(&numbers));
        workers.spawn(async move {
            while !shared.stop.is_tripped() {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let planned = shared.began.elapsed();
                let done = closed.bounds.number.is_some_and(|most| number >= most);
                let late = closed
                    .bounds
                    .duration
                    .is_some_and(|most| planned - from >= most);
                if done || late {
                    break;
                }
                let in_round = |rounds: Rounds| rounds.round(number, planned - from);
                let job = Job {
                    number,
                    planned,
                    round: closed.rounds.map_or(closed.round, in_round),
                    side: closed.side,
                };
                let in_flight = shared.enter();
                if !shared.turn(job, in_flight).await {
                    tokio::time::sleep(BREATH).await;
                }
            }
            true
        });
    }
    drain(&mut workers, &shared.stop, closed.grace).await;
}
