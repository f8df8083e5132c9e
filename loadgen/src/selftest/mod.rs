//! Is coordinated omission absent? A stub stands still for a known part of the time; what a client would have met who came at any
//! moment is known, so the true P99 is.
//!
//! ```text
//!   base delay d, every E the server stands still for S:  a share S/E of arrivals waits, evenly between 0 and S
//!   true P99 (S/E > 1 %):  d + S·(1 − 0.01·E/S)
//! ```
//!
//! The open loop must find it. The closed loop, which asks nothing while it waits, meets each stall once and misses it: that it does
//! shows that the test can tell the two apart.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reports::model::load::{Clock, Unit};

use crate::cli::cold_start::{dimensions, headings};
use crate::drive::closed::{self, Closed};
use crate::drive::open::{self, Open};
use crate::drive::{Ledger, Rounds, Shared, Stop};
use crate::e2b::target::{Limits, TargetError};
use crate::e2b::{Client, Target};
use crate::live::Live;
use crate::pace::Bounds;
use crate::pace::parse::{Arrivals, Pattern};
use crate::record::{Recorded, Recorder, recorder::nanos};
use crate::stub::{Delay, Script, Stall, Stub};
use crate::work::cold_start::ColdStart;

/// Delay of the stub when it does not stand still.
const BASE: Duration = Duration::from_millis(2);
/// Arrivals a second.
const RATE: f64 = 150.0;

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Omission {
    /// Length of a stall.
    pub stall: Duration,
    /// One in this time.
    pub every: Duration,
    /// What the P99 is.
    pub truth: Duration,
    /// What the open loop found.
    pub open: Duration,
    /// What a closed loop of one worker found.
    pub closed: Duration,
    /// Sandboxes made by the two.
    pub made: u64,
}

impl Omission {
    /// The open loop is within a fifth of the truth, the closed loop below half of it.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let ratio = self.open.as_secs_f64() / self.truth.as_secs_f64();
        (0.8..1.25).contains(&ratio) && self.closed < self.truth / 2
    }
}

/// Runs both loops against a stub whose stall is a thirtieth of the time (as 2 s in 60), twice in `length` each.
///
/// # Errors
/// When the stub cannot be started.
pub async fn omission(listen: SocketAddr, length: Duration) -> std::io::Result<Omission> {
    let every = length / 2;
    let stall = every / 30;
    let script = || Script {
        create: Delay::Fixed(BASE),
        stall: Some(Stall {
            every,
            at: every / 2,
            long: stall,
        }),
        ..Script::default()
    };
    let pattern = Arrivals::Open(Pattern::Constant { rate: RATE });
    let mut made = 0;
    let mut p99 = [Duration::ZERO; 2];
    for (slot, arrivals) in p99.iter_mut().zip([pattern, Arrivals::Closed(1)]) {
        let stub = Stub::start(script(), listen)?;
        let recorded = measured(&stub, arrivals, length).await?;
        let collector = recorded.collectors.first();
        *slot = Duration::from_nanos(collector.map_or(0, |c| c.values.value_at_quantile(0.99)));
        made += stub.created().0;
    }
    // The share of arrivals that wait is S/E; of them all but 0.01·E/S lie below the P99.
    let share = stall.as_secs_f64() / every.as_secs_f64();
    Ok(Omission {
        stall,
        every,
        truth: BASE + stall.mul_f64(1.0 - 0.01 / share),
        open: p99[0],
        closed: p99[1],
        made,
    })
}

/// Creates on the clock `accepted` against a stub, without files.
///
/// # Errors
/// When a thread cannot be started.
pub async fn measured(
    stub: &Stub,
    arrivals: Arrivals,
    length: Duration,
) -> std::io::Result<Recorded> {
    let limits = Limits {
        life: Duration::from_secs(30),
        call: Duration::from_secs(30),
        sandbox_seconds: 60,
    };
    let target = Target::new(&stub.url(), "any", None, None, "base", limits);
    let target = target.map_err(|error: TargetError| std::io::Error::other(error))?;
    let stop = Stop::default();
    let live = Arc::new(Live::new(0));
    let headings = headings(
        Clock::Accepted,
        "",
        &dimensions("base", None, &arrivals),
        &arrivals,
    );
    debug_assert!(
        headings
            .iter()
            .all(|heading| heading.unit == Unit::Nanoseconds)
    );
    let recorder =
        Recorder::start(None, headings, live, stop.clone()).map_err(std::io::Error::other)?;
    let ledger = Ledger::new("self-test");
    let work = ColdStart::one(Client::new(target), ledger, Clock::Accepted, false);
    let shared = Shared::new(work, recorder.sender(), stop, Instant::now());
    let bounds = Bounds {
        number: None,
        duration: Some(length),
    };
    let grace = Duration::from_secs(30);
    match arrivals {
        Arrivals::Closed(workers) => {
            let closed = Closed {
                workers,
                bounds,
                rounds: None,
                round: 0,
                side: 0,
                grace,
            };
            closed::run(&shared, closed).await;
        }
        Arrivals::Open(pattern) => {
            let open = Open {
                pacer: pattern.pacer(),
                bounds,
                max_in_flight: 10_000,
                rounds: Rounds::of(None, Some(length)),
                side: 0,
                from: Duration::from_nanos(nanos(shared.began.elapsed())),
                grace,
            };
            open::run(&shared, open).await?;
        }
    }
    drop(shared);
    Ok(recorder.finish())
}
