//! The open loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::{Rounds, Shared, Stop, Work, drain};
use crate::pace::{Bounds, Next, Pacer, next};
use crate::record::{Event, Job};

/// The longest that the pacer sleeps before it looks whether it is to stop.
const NAP: Duration = Duration::from_millis(50);

/// How a schedule is driven.
#[derive(Debug)]
pub struct Open {
    /// The schedule.
    pub pacer: Box<dyn Pacer>,
    /// How far it goes.
    pub bounds: Bounds,
    /// Most turns under way; an arrival beyond is dropped.
    pub max_in_flight: u64,
    /// Blocks for resampling.
    pub rounds: Rounds,
    /// Which side of a run this is.
    pub side: usize,
    /// When it begins, from the run's beginning.
    pub from: Duration,
    /// How long turns may go on after the run was told to stop.
    pub grace: Duration,
}

/// Drives a schedule to its end.
///
/// # Errors
/// When there is no thread for the pacer.
pub async fn run<W: Work>(shared: &Arc<Shared<W>>, open: Open) -> std::io::Result<()> {
    let (due, mut dues) = unbounded_channel();
    let (side, rounds, from) = (open.side, open.rounds, open.from);
    let start = shared.began + from;
    let stop = shared.stop.clone();
    std::thread::Builder::new()
        .name("pacer".to_owned())
        .spawn(move || pace(open.pacer, open.bounds, start, &stop, &due))?;
    let mut turns = JoinSet::new();
    while let Some((number, planned)) = dues.recv().await {
        let job = Job {
            number,
            planned: from + planned,
            round: rounds.round(number, planned),
            side,
        };
        while turns.try_join_next().is_some() {}
        if shared.in_flight() >= open.max_in_flight {
            let series = shared.work.series(job);
            let _ = shared.events.send(Event::Dropped { job, series });
            continue;
        }
        let in_flight = shared.enter();
        let shared = Arc::clone(shared);
        turns.spawn(async move { shared.turn(job, in_flight).await });
    }
    drain(&mut turns, &shared.stop, open.grace).await;
    Ok(())
}

/// Runs on a thread of its own: a runtime's timers are a millisecond coarse, and a busy runtime would hold the schedule up.
fn pace(
    mut pacer: Box<dyn Pacer>,
    bounds: Bounds,
    start: Instant,
    stop: &Stop,
    due: &UnboundedSender<(u64, Duration)>,
) {
    let mut sent = 0;
    while !stop.is_tripped() {
        // Before the start nothing is due.
        if let Some(early) = start.checked_duration_since(Instant::now()) {
            std::thread::sleep(early.min(NAP));
            if early > NAP {
                continue;
            }
        }
        match next(&mut *pacer, bounds, start.elapsed(), sent) {
            Next::Stop => return,
            Next::Wait { wait } => std::thread::sleep(wait.min(NAP)),
            Next::Now { due: planned } => {
                if due.send((sent, planned)).is_err() {
                    return;
                }
                sent += 1;
            }
        }
    }
}
