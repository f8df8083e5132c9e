//! More and more live sandboxes, until something gives way.
//!
//! ```text
//!   make one · it answers? ──► … up to the step's number ──► rest ──► all answer? ──► read the host (idle)
//!                                                             └─ workload in the new ones ──► read again (after it)
//!   ends: all steps done (asked) · refused · no answer in time (bound-missed) · memory · cut short
//! ```

mod rows;

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use reports::model::load::{Activity, DensityRow, Stop as Stopped, StopReason};
use tokio::task::JoinSet;

use crate::drive::{Ledger, Stop};
use crate::e2b::{Client, Sandbox};
use crate::probe::{Probe, ProbeError, Reading};
use crate::record::recorder::nanos;
use crate::record::{Event, Job, Outcome};
use crate::work::{During, failed, reading, since};

use self::rows::{Answers, row};

/// Commands at once when all are asked.
const AT_ONCE: usize = 8;
/// Sandboxes that are asked what their guests use.
const ASKED: usize = 5;
/// Most sandboxes between two looks at the host's memory.
const MOST_UNLOOKED: u64 = 32;

/// The climb.
#[derive(Debug)]
pub struct Climb {
    /// Whom to ask.
    pub client: Client,
    /// What was made.
    pub ledger: Ledger,
    /// Whether to go on.
    pub stop: Stop,
    /// Where creates are told.
    pub events: Sender<Event>,
    /// The host.
    pub probe: Probe,
    /// The host before the first sandbox.
    pub before: Reading,
    /// The beginning.
    pub began: Instant,
    /// Quiet time before a reading.
    pub rest: Duration,
    /// What each new sandbox runs.
    pub workload: Option<String>,
    /// Least memory that stays available, in bytes.
    pub keep_free: u64,
    /// Memory of a guest; asked for when it is not known.
    pub guest_bytes: Option<u64>,
    /// Nothing is shown.
    pub quiet: bool,
    /// Sandboxes that are there.
    pub alive: Vec<Sandbox>,
    /// What was read.
    pub rows: Vec<DensityRow>,
    /// The reading with the most sandboxes.
    pub peak: Option<Reading>,
}

fn stopped(reason: StopReason, detail: impl Into<String>) -> Stopped {
    Stopped {
        reason,
        detail: detail.into(),
    }
}

/// How many sandboxes can be made until memory is looked at again, at least one; `None` when there is too little for one.
///
/// A reading costs the host as much as it has processes. As long as all the memory of so many guests, were they to use it
/// at once, would be there, none is needed.
fn safe(available: u64, keep_free: u64, guest: Option<u64>) -> Option<u64> {
    let room = available.checked_sub(keep_free)?;
    let guests = guest.map_or(0, |guest| room / guest.max(1));
    Some(guests.clamp(1, MOST_UNLOOKED))
}

impl Climb {
    /// Climbs; `steps` rise.
    ///
    /// # Errors
    /// When the host cannot be read.
    pub async fn up(&mut self, steps: &[u32]) -> Result<Stopped, ProbeError> {
        let mut worked = 0;
        for &step in steps {
            let step = usize::try_from(step).unwrap_or(usize::MAX);
            let refused = self.make(step).await?;
            tokio::time::sleep(self.rest).await;
            let silent = self.look(Activity::Idle).await?;
            let mut missed = silent;
            if let (Some(workload), 0) = (self.workload.clone(), silent) {
                let failed = self.work(&workload, worked).await;
                if failed > 0 {
                    let told = format!("the workload failed in {failed} of them");
                    return Ok(stopped(StopReason::BoundMissed, told));
                }
                worked = self.alive.len();
                tokio::time::sleep(self.rest).await;
                missed = self.look(Activity::After(workload)).await?;
            }
            if let Some(refused) = refused {
                return Ok(refused);
            }
            if missed > 0 {
                let told = format!("{missed} of {} did not answer in time", self.alive.len());
                return Ok(stopped(StopReason::BoundMissed, told));
            }
        }
        Ok(stopped(
            StopReason::Asked,
            format!("all {} are there", self.alive.len()),
        ))
    }

    /// Makes sandboxes up to a number; gives why it could not.
    async fn make(&mut self, number: usize) -> Result<Option<Stopped>, ProbeError> {
        let mut unlooked = 0;
        while self.alive.len() < number {
            if let Some(why) = self.stop.why() {
                return Ok(Some(stopped(StopReason::Cut, why.to_string())));
            }
            if unlooked == 0 {
                let available = self.probe.read(None).await?.available_bytes;
                let Some(safe) = safe(available, self.keep_free, self.guest_bytes) else {
                    let told = format!(
                        "{} MiB are available, {} are to stay",
                        available >> 20,
                        self.keep_free >> 20
                    );
                    return Ok(Some(stopped(StopReason::Memory, told)));
                };
                unlooked = safe;
            }
            unlooked -= 1;
            if let Some(stop) = self.one().await {
                return Ok(Some(stop));
            }
        }
        Ok(None)
    }

    async fn one(&mut self) -> Option<Stopped> {
        let number = self.alive.len();
        let planned = Instant::now();
        let job = Job {
            number: u64::try_from(number).unwrap_or(0),
            planned: self.began.elapsed(),
            round: 0,
            side: 0,
        };
        let created = self
            .client
            .create(self.ledger.run(), None)
            .await
            .during("create");
        let (outcome, stop) = match created {
            Err(error) => {
                let told = format!("number {}: {}", number + 1, error.error);
                (
                    failed(&error, &[0, 1], None),
                    Some(stopped(StopReason::Refused, told)),
                )
            }
            Ok(created) => {
                let accepted = since(planned, Instant::now());
                let sandbox = created.value;
                self.ledger.made(&sandbox.id);
                let id = Some(sandbox.id.clone());
                match self.client.answers(&sandbox).await.during("exec") {
                    Err(error) => {
                        let told = format!("number {}: {}", number + 1, error.error);
                        (
                            failed(&error, &[0, 1], id),
                            Some(stopped(StopReason::BoundMissed, told)),
                        )
                    }
                    Ok(at) => {
                        self.alive.push(sandbox);
                        let stages = created.spans.stages;
                        let readings = vec![
                            reading(0, accepted, stages.clone()),
                            reading(1, since(planned, at), stages),
                        ];
                        (
                            Outcome {
                                readings,
                                sandbox: id,
                                trouble: None,
                            },
                            None,
                        )
                    }
                }
            }
        };
        // A recorder that is gone has been told to end.
        let _ = self.events.send(Event::Done {
            job,
            sent: job.planned,
            ended: self.began.elapsed(),
            in_flight: 1,
            outcome,
        });
        stop
    }

    /// Asks all sandboxes, reads the host, adds a row; gives how many were silent.
    async fn look(&mut self, activity: Activity) -> Result<u64, ProbeError> {
        if self.alive.is_empty() {
            return Ok(0);
        }
        if let (None, Some(first)) = (self.guest_bytes, self.alive.first()) {
            // Without it the memory of processes is not read, and its columns stay empty.
            self.guest_bytes = self.client.memory(first).await.ok().flatten();
        }
        let answers = self.ask().await;
        let mut used = Vec::new();
        for sandbox in self.alive.iter().take(ASKED) {
            used.extend(self.client.guest_used(sandbox).await.ok().flatten());
        }
        let reading = self.probe.read(self.guest_bytes).await?;
        let row = row(&self.before, &reading, &answers, activity, &used);
        if !self.quiet {
            eprintln!("{}", rows::line(&row));
        }
        self.rows.push(row);
        self.peak = Some(reading);
        Ok(answers.silent)
    }

    async fn ask(&self) -> Answers {
        let mut answers = Answers::default();
        let mut asked = JoinSet::new();
        let mut rest = self.alive.iter();
        loop {
            while asked.len() < AT_ONCE
                && let Some(sandbox) = rest.next()
            {
                let (client, sandbox) = (self.client.clone(), sandbox.clone());
                asked.spawn(async move {
                    let sent = Instant::now();
                    client.answers(&sandbox).await.map(|at| nanos(at - sent))
                });
            }
            match asked.join_next().await {
                Some(Ok(Ok(took))) => answers.times.push(took),
                Some(_) => answers.silent += 1,
                None => return answers,
            }
        }
    }

    /// Runs the workload in the sandboxes from a number on, one after the other; gives how many failed.
    async fn work(&self, workload: &str, from: usize) -> u64 {
        let mut failed = 0;
        for sandbox in self.alive.iter().skip(from) {
            let ended = self
                .client
                .exec(sandbox, &["/bin/sh", "-c", workload])
                .await;
            failed += u64::from(!ended.is_ok_and(|ended| ended.exit == 0));
        }
        failed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{MOST_UNLOOKED, safe};

    proptest! {
        #[test]
        fn guests_that_are_made_unlooked_fit_if_they_use_all_their_memory(
            available in 0u64..1 << 40, keep in 0u64..1 << 40, guest in prop::option::of(0u64..1 << 34),
        ) {
            match safe(available, keep, guest) {
                None => prop_assert!(available < keep),
                Some(number) => {
                    prop_assert!((1..=MOST_UNLOOKED).contains(&number));
                    prop_assert!(number == 1 || number * guest.unwrap_or(u64::MAX) <= available - keep);
                }
            }
        }
    }
}
