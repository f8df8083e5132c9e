//! Taking samples of resource use, and keeping logs within their bounds.
//!
//! ```text
//! every interval, each sandbox ── busy, or left alone nine times ──► its agent is asked: a sample
//!                              └─ rests ──► left alone: asking would be most of what it does
//! ```
//!
//! Whether it rests the host knows by itself, from the processor time of the machine's process.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::manager::Manager;
use super::sandbox::Sandbox;
use crate::ids::SandboxId;
use crate::machine::agent::AgentError;

/// Sandboxes asked at the same time.
const AT_ONCE: usize = 8;

/// How often logs are trimmed when no samples are taken.
const TRIM_INTERVAL: Duration = Duration::from_secs(30);

/// A sandbox rests that uses less than one part in so many of a processor: a fifth of a percent.
const REST: u32 = 500;

/// How often in a row one that rests is left alone.
const LEFT_ALONE: u32 = 9;

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
    let mut looks = HashMap::new();
    loop {
        timer.tick().await;
        let Some(manager) = manager.upgrade() else {
            return;
        };
        let sandboxes = manager.all();
        drop(manager);
        for machine in sandboxes.iter().filter_map(|sandbox| sandbox.machine()) {
            machine.trim_logs();
        }
        if interval.is_some() {
            looks = look_at_all(sandboxes, &looks).await;
        }
    }
}

/// A sandbox when it was last looked at.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    processor_time: Duration,
    left_alone: u32,
}

impl Look {
    /// What to remember of a sandbox that has rested since and is left alone, at `at` with `processor_time`.
    fn rested(self, at: Instant, processor_time: Duration) -> Option<Self> {
        // Less than before is another process.
        let used = processor_time.checked_sub(self.processor_time)?;
        let rests = used < at.duration_since(self.at) / REST && self.left_alone < LEFT_ALONE;
        rests.then_some(Self {
            at,
            processor_time,
            left_alone: self.left_alone + 1,
        })
    }
}

async fn look_at_all(
    sandboxes: Vec<Arc<Sandbox>>,
    before: &HashMap<SandboxId, Look>,
) -> HashMap<SandboxId, Look> {
    stream::iter(sandboxes)
        .map(|sandbox| {
            let before = before.get(&sandbox.id).copied();
            async move { Some((sandbox.id.clone(), look_at(&sandbox, before).await?)) }
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// Samples a sandbox unless it rests. `None` when the next look has nothing to compare with.
async fn look_at(sandbox: &Sandbox, before: Option<Look>) -> Option<Look> {
    let machine = sandbox.machine()?;
    let rested = before.and_then(|look| look.rested(Instant::now(), machine.processor_time()?));
    if rested.is_some() {
        return rested;
    }
    if let Err(error) = sample(sandbox).await {
        tracing::debug!(sandbox = %sandbox.id, %error, "no sample");
        return None;
    }
    // Read again: to answer is not what it does by itself.
    Some(Look {
        at: Instant::now(),
        processor_time: machine.processor_time()?,
        left_alone: 0,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use proptest::prelude::*;

    use super::*;
    use crate::lifecycle::tests::{House, new_id, spec};

    #[tokio::test]
    async fn a_sandbox_that_rests_is_left_alone_and_one_that_works_is_asked() {
        let house = House::new();
        let manager = house.manager();
        let ids = [new_id(), new_id()];
        for id in ids.clone() {
            manager.create(id, spec(600), false).await.unwrap();
        }
        let [rests, works] = ids.map(|id| house.fake.machine(&id).unwrap());
        let asked = || [&rests, &works].map(|machine| machine.asked.load(Ordering::Relaxed));
        tokio::time::pause();
        let mut looks = HashMap::new();
        for round in 1..=11 {
            looks = look_at_all(manager.all(), &looks).await;
            // First it is not known whether it rests; the eleventh time it was left alone often enough.
            assert_eq!(asked(), [if round < 11 { 1 } else { 2 }, round]);
            tokio::time::advance(Duration::from_secs(30)).await;
            *rests.processor_time.lock().unwrap() += Duration::from_millis(59);
            *works.processor_time.lock().unwrap() += Duration::from_millis(61);
        }
        assert_eq!(looks.len(), 2);
    }

    proptest! {
        #[test]
        fn what_is_left_alone_used_next_to_nothing_and_not_for_ever(
            steps in proptest::collection::vec((1_u64..100_000, 0_u64..400), 1..60),
        ) {
            let start = Instant::now();
            let mut look = Look { at: start, processor_time: Duration::ZERO, left_alone: 0 };
            let mut alone = 0;
            for (rest, used) in steps {
                let (rest, used) = (Duration::from_millis(rest), Duration::from_millis(used));
                let (at, time) = (look.at + rest, look.processor_time + used);
                match look.rested(at, time) {
                    Some(next) => {
                        prop_assert!(used * REST < rest);
                        alone += 1;
                        look = next;
                    }
                    None => {
                        alone = 0;
                        look = Look { at, processor_time: time, left_alone: 0 };
                    }
                }
                prop_assert!(alone <= LEFT_ALONE);
                prop_assert!(look.rested(look.at, look.processor_time).is_none(), "no time, no rest");
            }
            prop_assert!(
                look.processor_time.is_zero()
                    || look.rested(look.at + Duration::from_secs(60), Duration::ZERO).is_none(),
                "another process is looked at anew"
            );
        }
    }
}
