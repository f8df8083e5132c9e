//! What is being measured: work, recorder and display together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Session, SessionError};
use crate::drive::closed::{self, Closed};
use crate::drive::open::{self, Open};
use crate::drive::{Rounds, Shared, Stop, Work};
use crate::live::{Display, Live};
use crate::pace::Bounds;
use crate::pace::parse::Arrivals;
use crate::record::collector::Heading;
use crate::record::{Job, Recorded, Recorder};

/// One stretch of load.
#[derive(Debug, Clone)]
pub struct Step {
    /// When to send.
    pub arrivals: Arrivals,
    /// How far.
    pub bounds: Bounds,
    /// Most turns under way in an open loop.
    pub max_in_flight: u64,
    /// Which side it is.
    pub side: usize,
    /// All of its turns are of this round; `None`: by number or time.
    pub round: Option<u32>,
}

/// See the module.
#[derive(Debug)]
pub struct Running<W> {
    /// Work, and where it is told.
    pub shared: Arc<Shared<W>>,
    recorder: Recorder,
    display: Display,
    grace: Duration,
}

impl<W: Work> Running<W> {
    /// Begins. `headline` is the series whose quantiles are shown; `total` is the number of turns, where it is known.
    ///
    /// # Errors
    /// When the file of samples cannot be made.
    pub fn start(
        session: &mut Session,
        work: W,
        headings: Vec<Heading>,
        headline: usize,
        total: Option<u64>,
    ) -> Result<Self, SessionError> {
        let live = Arc::new(Live::new(headline));
        let recorder = session.recorder(headings, &live)?;
        let began = session.begin();
        let shared = Shared::new(work, recorder.sender(), session.stop.clone(), began);
        let in_flight = Arc::downgrade(&shared);
        let in_flight =
            Arc::new(move || in_flight.upgrade().map_or(0, |shared| shared.in_flight()));
        Ok(Self {
            display: Display::start(live, in_flight, total, session.settings.quiet),
            shared,
            recorder,
            grace: session.settings.grace,
        })
    }

    /// Takes one stretch to its end.
    ///
    /// # Errors
    /// When there is no thread for the pacer.
    pub async fn drive(&self, step: &Step) -> Result<(), SessionError> {
        self.drive_in(step, Rounds::of(step.bounds.number, step.bounds.duration))
            .await
    }

    /// The same in blocks by a rule of the caller's.
    ///
    /// # Errors
    /// When there is no thread for the pacer.
    pub async fn drive_in(&self, step: &Step, rounds: Rounds) -> Result<(), SessionError> {
        match &step.arrivals {
            Arrivals::Closed(workers) => {
                let closed = Closed {
                    workers: *workers,
                    bounds: step.bounds,
                    rounds: step.round.is_none().then_some(rounds),
                    round: step.round.unwrap_or(0),
                    side: step.side,
                    grace: self.grace,
                };
                closed::run(&self.shared, closed).await;
            }
            Arrivals::Open(pattern) => {
                let open = Open {
                    pacer: pattern.pacer(),
                    bounds: step.bounds,
                    max_in_flight: step.max_in_flight,
                    rounds,
                    side: step.side,
                    from: self.shared.began.elapsed(),
                    grace: self.grace,
                };
                open::run(&self.shared, open).await?;
            }
        }
        Ok(())
    }

    /// Ends, and waits until all is written down.
    #[must_use]
    pub fn finish(self) -> Recorded {
        drop(self.display);
        drop(self.shared);
        self.recorder.finish()
    }
}

/// Turns that are in no figure, one after the other. Gives how many there were.
pub async fn warm_up<W: Work>(work: &W, turns: u64, stop: &Stop) -> u64 {
    let mut done = 0;
    while done < turns && !stop.is_tripped() {
        let job = Job {
            number: done,
            planned: Duration::ZERO,
            round: 0,
            side: 0,
        };
        tokio::select! {
            _ = work.turn(job, Instant::now()) => done += 1,
            () = stop.tripped() => {}
        }
    }
    done
}
