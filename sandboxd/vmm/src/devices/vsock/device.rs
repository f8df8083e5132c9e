//! The device: configuration space, life cycle and events.

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use tracing::error;
use vmm_sys_util::eventfd::EventFd;

use super::muxer::{Counters, Muxer};
use super::queue::{give, take, tell_transport_reset};
use super::{EVENT_QUEUE_SIZE, QUEUE_SIZE, VsockError};
use crate::config::VsockConfig;
use crate::devices::virtio::chain::Chain;
use crate::devices::virtio::live::{LiveQueue, Source, Watch};
use crate::devices::virtio::queue_state::QueueState;
use crate::devices::virtio::{ActivateError, Activation, VirtioDevice, config_bytes};

const DEVICE_TYPE: u32 = 19;
const F_EVENT_IDX: u64 = 1 << 29;

/// The queues of an active driver.
struct Queues {
    rx: LiveQueue,
    tx: LiveQueue,
    events: LiveQueue,
}

/// A virtio socket device.
pub struct Vsock {
    muxer: Muxer,
    queues: Option<Queues>,
    owes_transport_reset: bool,
    /// Where the event queue ended when the guest was told. Until it puts the event's buffer back behind that, it may still be
    /// ending connections, so none is made.
    awaits_reset: Option<u16>,
    chain: Chain,
    watch: Watch,
}

impl Vsock {
    /// Makes the device and its Unix socket. Host processes that connect wait until a driver is active.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn new(config: &VsockConfig) -> Result<Self, VsockError> {
        Ok(Self {
            muxer: Muxer::new(u64::from(config.guest_cid), &config.uds_path)?,
            queues: None,
            owes_transport_reset: false,
            awaits_reset: None,
            chain: Chain::default(),
            watch: Watch::new()?,
        })
    }

    /// Address of the guest.
    pub fn guest_cid(&self) -> u64 {
        self.muxer.guest_cid()
    }

    /// Where the rx, tx and event queue stand, when the driver is using them.
    pub fn queue_states(&self) -> Option<[QueueState; 3]> {
        let queues = self.queues.as_ref()?;
        Some([queues.rx.state(), queues.tx.state(), queues.events.state()])
    }

    /// Has the guest told that all its connections are gone, as soon as it has a buffer for that.
    pub fn owe_transport_reset(&mut self) {
        self.owes_transport_reset = true;
    }

    /// Connections that the guest has to forget when it goes on as somebody else.
    pub(super) fn connections_to_forget(&self) -> u64 {
        let due = self.owes_transport_reset || self.awaits_reset.is_some();
        self.muxer.known_to_guest() as u64 + u64::from(due)
    }

    /// The host port that the next connection gets.
    pub(super) fn next_port(&self) -> u32 {
        self.muxer.next_port()
    }

    /// The connections.
    pub(super) fn muxer(&mut self) -> &mut Muxer {
        &mut self.muxer
    }

    /// Moves packets both ways. What the guest sent comes first: it may free credit for what it is to be given.
    fn serve(&mut self, sent: bool) {
        if let Some(queues) = &mut self.queues {
            if self.owes_transport_reset {
                let told = tell_transport_reset(&mut queues.events, &mut self.chain);
                self.owes_transport_reset = told.is_none();
                self.awaits_reset = told;
            } else if self
                .awaits_reset
                .is_some_and(|end| end != queues.events.end())
            {
                self.awaits_reset = None;
                if let Err(why) = self.muxer.start() {
                    error!(%why, "the vsock listener cannot be watched");
                }
            }
            if sent {
                take(&mut queues.tx, &mut self.muxer, &mut self.chain);
            }
            give(&mut queues.rx, &mut self.muxer, &mut self.chain);
        }
        self.muxer.arm_timer();
    }
}

impl VirtioDevice for Vsock {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    /// Without feature bits of its own, the device has stream sockets (Virtio 1.2, 5.10.3).
    fn features(&self) -> u64 {
        F_EVENT_IDX
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE, QUEUE_SIZE, EVENT_QUEUE_SIZE]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config_bytes(&self.guest_cid().to_le_bytes(), offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate_event(&self) -> &EventFd {
        self.watch.activate_event()
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let queue_events = activation.queue_events.clone();
        let [rx, tx, events] = LiveQueue::take(activation)?;
        if !self.owes_transport_reset {
            self.muxer.start()?;
        }
        self.queues = Some(Queues { rx, tx, events });
        Ok(self.watch.activate(&queue_events)?)
    }

    /// Drops queues and connections; host processes find their sockets closed.
    fn reset(&mut self) {
        self.queues = None;
        self.owes_transport_reset = false;
        self.awaits_reset = None;
        self.muxer.stop();
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counters {
            host_requests,
            guest_requests,
            rx_packets,
            rx_bytes,
            tx_packets,
            tx_bytes,
            resets,
            resets_dropped,
            refused,
            violations,
            spoofed,
            malformed,
            timeouts,
            yields,
        } = self.muxer.counters;
        vec![
            ("connections", self.muxer.connections() as u64),
            ("host_requests", host_requests),
            ("guest_requests", guest_requests),
            ("rx_packets", rx_packets),
            ("rx_bytes", rx_bytes),
            ("tx_packets", tx_packets),
            ("tx_bytes", tx_bytes),
            ("resets", resets),
            ("resets_dropped", resets_dropped),
            ("refused", refused),
            ("violations", violations),
            ("spoofed", spoofed),
            ("malformed", malformed),
            ("timeouts", timeouts),
            ("yields", yields),
        ]
    }
}

impl MutEventSubscriber for Vsock {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match self.watch.source(&events, ops) {
            Source::Activated | Source::Queue(1) => self.serve(true),
            Source::Queue(_) => self.serve(false),
            Source::Other(_) => {
                self.muxer.host_events();
                self.serve(false);
            }
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        self.watch.init(ops);
        if let Err(why) = ops.add(Events::new_raw(self.muxer.event_fd(), EventSet::IN)) {
            error!(%why, "the vsock sockets could not join the event loop");
        }
    }
}
