//! The device: life cycle and events.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use tracing::error;
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::timerfd::TimerFd;

use super::queue::{Counters, LIMITS, price, serve};
use super::token_bucket::TokenBucket;
use super::{BURST, EVENT_BUDGET, QUEUE_SIZE, RATE};
use crate::devices::virtio::chain::Chain;
use crate::devices::virtio::live::{LiveQueue, Source, Watch};
use crate::devices::virtio::queue_state::QueueState;
use crate::devices::virtio::{ActivateError, Activation, VirtioDevice, config_bytes};

const DEVICE_TYPE: u32 = 4;
const F_EVENT_IDX: u64 = 1 << 29;

/// A virtio entropy device.
pub struct Rng {
    bucket: TokenBucket,
    started: Instant,
    timer: TimerFd,
    counters: Counters,
    queue: Option<LiveQueue>,
    chain: Chain,
    watch: Watch,
}

impl Rng {
    /// Makes the device.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            bucket: TokenBucket::new(BURST, RATE),
            started: Instant::now(),
            timer: TimerFd::new()?,
            counters: Counters::default(),
            queue: None,
            chain: Chain::default(),
            watch: Watch::new()?,
        })
    }

    /// Where the queue stands, when the driver is using it.
    pub fn queue_state(&self) -> Option<QueueState> {
        self.queue.as_ref().map(LiveQueue::state)
    }

    fn serve(&mut self) {
        let Self {
            bucket,
            started,
            counters,
            queue,
            chain,
            ..
        } = self;
        let Some(queue) = queue else { return };
        let now = started.elapsed();
        let drained = queue.drain(LIMITS, chain, EVENT_BUDGET, |memory, chain| {
            serve(memory, chain, bucket, now, counters)
        });
        counters.malformed += drained.malformed;
        if drained.postponed {
            // The chain that had to wait is still the one that was walked last.
            let wait = bucket.wait(now, price(chain)).max(Duration::from_millis(1));
            if let Err(why) = self.timer.reset(wait, None) {
                error!(%why, "the timer of the entropy device failed; the guest's next request brings it back");
            }
        }
    }
}

impl VirtioDevice for Rng {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn features(&self) -> u64 {
        F_EVENT_IDX
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    /// The device has no configuration.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config_bytes(&[], offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate_event(&self) -> &EventFd {
        self.watch.activate_event()
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let events = activation.queue_events.clone();
        let [queue] = LiveQueue::take(activation)?;
        self.queue = Some(queue);
        Ok(self.watch.activate(&events)?)
    }

    /// Drops the queue. The bucket stays as it is: a reset must not be a way to refill it.
    fn reset(&mut self) {
        self.queue = None;
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counters {
            requests,
            bytes,
            throttled,
            malformed,
            failed,
        } = self.counters;
        vec![
            ("requests", requests),
            ("bytes", bytes),
            ("throttled", throttled),
            ("malformed", malformed),
            ("failed", failed),
        ]
    }
}

impl MutEventSubscriber for Rng {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match self.watch.source(&events, ops) {
            Source::Activated | Source::Queue(_) => self.serve(),
            Source::Other(_) => {
                if let Err(why) = self.timer.wait() {
                    error!(%why, "the timer of the entropy device cannot be read");
                }
                self.serve();
            }
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        self.watch.init(ops);
        if let Err(why) = ops.add(Events::new_raw(self.timer.as_raw_fd(), EventSet::IN)) {
            error!(%why, "the timer of the entropy device could not join the event loop");
        }
    }
}
