//! Who sends when: the edge between schedules and the network.
//!
//! ```text
//!  open     pacer thread ──due──► dispatcher ─┬─ fewer than --max-in-flight under way ─► turn in a task of its own
//!           (sleeps to the nanosecond)        └─ else ─► dropped, and counted
//!  closed   N workers, each: turn, then the next turn
//!
//!  stop     tripped ─► no new turns ─► those under way may end, for a grace ─► cut ─► ledger kills what is left
//! ```
//!
//! A turn's latency counts from when it was due. The pacer never waits for a turn, so a server that stalls is asked on schedule.

pub mod closed;
pub mod ledger;
pub mod open;
pub mod rounds;
pub mod stop;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::record::{Event, Job, Outcome};

pub use self::ledger::Ledger;
pub use self::rounds::Rounds;
pub use self::stop::{Stop, Why};

/// What is done each turn.
pub trait Work: Send + Sync + 'static {
    /// The series of which each turn gives one reading.
    fn series(&self, job: Job) -> Vec<usize>;

    /// One turn. It is due at `planned`, and latencies count from there.
    fn turn(&self, job: Job, planned: Instant) -> impl Future<Output = Outcome> + Send;
}

/// What all turns of a run share.
#[derive(Debug)]
pub struct Shared<W> {
    /// What is done.
    pub work: W,
    /// Where it is told.
    pub events: Sender<Event>,
    /// Whether to go on.
    pub stop: Stop,
    /// The beginning: planned times count from it.
    pub began: Instant,
    in_flight: AtomicU64,
}

impl<W: Work> Shared<W> {
    /// A run that begins at `began`.
    #[must_use]
    pub fn new(work: W, events: Sender<Event>, stop: Stop, began: Instant) -> Arc<Self> {
        Arc::new(Self {
            work,
            events,
            stop,
            began,
            in_flight: AtomicU64::new(0),
        })
    }

    /// Turns under way.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Takes a turn to its end, or to where the run is cut. Gives whether it reached a server.
    async fn turn(&self, job: Job, in_flight: u64) -> bool {
        let planned = self.began + job.planned;
        let sent = self.began.elapsed();
        let outcome = tokio::select! {
            outcome = self.work.turn(job, planned) => Some(outcome),
            () = self.stop.cut() => None,
        };
        let reached = outcome.as_ref().is_none_or(|outcome| {
            outcome
                .trouble
                .as_ref()
                .is_none_or(|trouble| !trouble.unreachable)
        });
        let event = match outcome {
            Some(outcome) => Event::Done {
                job,
                sent,
                ended: self.began.elapsed(),
                in_flight,
                outcome,
            },
            None => Event::Abandoned {
                job,
                sent,
                series: self.work.series(job),
            },
        };
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        // A recorder that is gone has been told to end.
        let _ = self.events.send(event);
        reached
    }

    fn enter(&self) -> u64 {
        self.in_flight.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Waits until the tasks are over; once the run is to stop, for `grace` at most, then cuts them.
async fn drain(tasks: &mut tokio::task::JoinSet<bool>, stop: &Stop, grace: Duration) {
    let all = async { while tasks.join_next().await.is_some() {} };
    tokio::pin!(all);
    tokio::select! {
        () = &mut all => return,
        () = stop.tripped() => {}
    }
    if tokio::time::timeout(grace, &mut all).await.is_err() {
        stop.cut_now();
        all.await;
    }
}
