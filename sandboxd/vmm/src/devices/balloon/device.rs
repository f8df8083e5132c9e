//! The device: configuration space, life cycle and events.

use std::sync::Arc;

use event_manager::{EventOps, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::EventFd;

use super::queue::{Counters, LIMITS, report};
use super::{EVENT_BUDGET, QUEUE_SIZE, REPORT_COST};
use crate::devices::virtio::chain::Chain;
use crate::devices::virtio::live::{LiveQueue, Source, Step, Watch};
use crate::devices::virtio::queue_state::QueueState;
use crate::devices::virtio::{ActivateError, Activation, GuestMemory, VirtioDevice, config_bytes};

const DEVICE_TYPE: u32 = 5;
const F_REPORTING: u64 = 1 << 5;
const F_EVENT_IDX: u64 = 1 << 29;

/// The queues of an active driver.
struct Queues {
    unused: [LiveQueue; 2],
    reports: LiveQueue,
}

/// A virtio balloon.
pub struct Balloon {
    memory: Arc<GuestMemory>,
    counters: Counters,
    queues: Option<Queues>,
    chain: Chain,
    watch: Watch,
}

impl Balloon {
    /// Makes the device.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new(memory: Arc<GuestMemory>) -> std::io::Result<Self> {
        Ok(Self {
            memory,
            counters: Counters::default(),
            queues: None,
            chain: Chain::default(),
            watch: Watch::new()?,
        })
    }

    /// Where the queues stand, when the driver is using them.
    pub fn queue_states(&self) -> Option<[QueueState; 3]> {
        let Queues {
            unused: [inflate, deflate],
            reports,
        } = self.queues.as_ref()?;
        Some([inflate.state(), deflate.state(), reports.state()])
    }

    fn serve(&mut self) {
        let Self {
            memory,
            counters,
            queues,
            chain,
            ..
        } = self;
        let Some(queues) = queues else { return };
        for queue in &mut queues.unused {
            let drained = queue.drain(LIMITS, chain, EVENT_BUDGET, |_, _| {
                counters.ignored += 1;
                Step::Used {
                    written: 0,
                    cost: REPORT_COST,
                }
            });
            counters.malformed += drained.malformed;
        }
        let drained = queues
            .reports
            .drain(LIMITS, chain, EVENT_BUDGET, |_, chain| {
                report(memory, chain, counters)
            });
        counters.malformed += drained.malformed;
        counters.yields += u64::from(drained.out_of_budget);
    }
}

impl VirtioDevice for Balloon {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn features(&self) -> u64 {
        F_REPORTING | F_EVENT_IDX
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE; super::QUEUES]
    }

    /// `struct virtio_balloon_config` (Virtio 1.2, 5.5.4): no page is asked for.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config_bytes(&[0; 8], offset, data);
    }

    /// The driver writes how many pages it gave; it was asked for none.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate_event(&self) -> &EventFd {
        self.watch.activate_event()
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let events = activation.queue_events.clone();
        let [inflate, deflate, reports] = LiveQueue::take(activation)?;
        self.queues = Some(Queues {
            unused: [inflate, deflate],
            reports,
        });
        Ok(self.watch.activate(&events)?)
    }

    fn reset(&mut self) {
        self.queues = None;
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counters {
            reports,
            freed_bytes,
            failed,
            malformed,
            ignored,
            yields,
        } = self.counters;
        vec![
            ("reports", reports),
            ("freed_bytes", freed_bytes),
            ("failed", failed),
            ("malformed", malformed),
            ("ignored", ignored),
            ("yields", yields),
        ]
    }
}

impl MutEventSubscriber for Balloon {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match self.watch.source(&events, ops) {
            Source::Activated | Source::Queue(_) => self.serve(),
            Source::Other(_) => {}
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        self.watch.init(ops);
    }
}
