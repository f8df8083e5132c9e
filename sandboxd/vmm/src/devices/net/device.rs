//! The device: features, configuration space, life cycle and events.

use std::os::fd::AsRawFd;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use tracing::error;
use vmm_sys_util::eventfd::EventFd;

use super::frame::{F_CSUM, F_HOST_TSO4, F_HOST_TSO6};
use super::queue::{Counters, Receiver, send};
use super::{FrameIo, Mac, NetError, NetState, Offloads, QUEUE_SIZE, Tap};
use crate::config::NetConfig;
use crate::devices::virtio::chain::Chain;
use crate::devices::virtio::live::{LiveQueue, Source, Watch};
use crate::devices::virtio::{ActivateError, Activation, VirtioDevice, config_bytes};

const DEVICE_TYPE: u32 = 1;
const F_GUEST_CSUM: u64 = 1 << 1;
const F_MTU: u64 = 1 << 3;
const F_MAC: u64 = 1 << 5;
const F_GUEST_TSO4: u64 = 1 << 7;
const F_GUEST_TSO6: u64 = 1 << 8;
const F_MRG_RXBUF: u64 = 1 << 15;
const F_EVENT_IDX: u64 = 1 << 29;

/// The queues of an active driver, and what it agreed to.
struct Queues {
    rx: LiveQueue,
    tx: LiveQueue,
    features: u64,
}

/// A virtio network card.
pub struct Net<T: FrameIo = Tap> {
    mac: Mac,
    mtu: u16,
    tap: T,
    counters: Counters,
    queues: Option<Queues>,
    receiver: Receiver,
    chain: Chain,
    watch: Watch,
}

impl Net<Tap> {
    /// Attaches to the TAP of `config`.
    ///
    /// # Errors
    /// When the TAP does not exist or cannot be used.
    pub fn open(config: &NetConfig) -> Result<Self, NetError> {
        Self::new(Mac(config.mac_bytes()?), Tap::open(&config.tap)?)
    }
}

impl<T: FrameIo> Net<T> {
    /// Makes a card with the address `mac` in front of `tap`.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new(mac: Mac, tap: T) -> Result<Self, NetError> {
        Ok(Self {
            mac,
            mtu: tap.mtu(),
            tap,
            counters: Counters::default(),
            queues: None,
            receiver: Receiver::new(),
            chain: Chain::default(),
            watch: Watch::new()?,
        })
    }

    /// Takes down what a snapshot needs.
    pub fn state(&self) -> NetState {
        NetState {
            mac: self.mac,
            mtu: self.mtu,
            queues: self
                .queues
                .as_ref()
                .map(|queues| [queues.rx.state(), queues.tx.state()]),
        }
    }

    /// Changes the MTU that the guest is told.
    pub(super) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
    }

    fn receive(&mut self) {
        if let Some(Queues { rx, features, .. }) = &mut self.queues {
            let mergeable = *features & F_MRG_RXBUF != 0;
            self.receiver
                .receive(self.tap.as_fd(), rx, mergeable, &mut self.counters);
        }
    }

    fn send(&mut self) {
        if let Some(Queues { tx, features, .. }) = &mut self.queues {
            let tap = self.tap.as_fd();
            send(
                tap,
                tx,
                &mut self.chain,
                self.mac,
                *features,
                &mut self.counters,
            );
        }
    }
}

impl<T: FrameIo> VirtioDevice for Net<T> {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn features(&self) -> u64 {
        let checksum = F_CSUM | F_GUEST_CSUM;
        let segmentation = F_HOST_TSO4 | F_HOST_TSO6 | F_GUEST_TSO4 | F_GUEST_TSO6;
        checksum | segmentation | F_MTU | F_MAC | F_MRG_RXBUF | F_EVENT_IDX
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE, QUEUE_SIZE]
    }

    /// `struct virtio_net_config` (Virtio 1.2, 5.1.4).
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut config = [0; 12];
        config[..6].copy_from_slice(&self.mac.0);
        config[10..].copy_from_slice(&self.mtu.to_le_bytes());
        config_bytes(&config, offset, data);
    }

    /// A modern driver cannot write the address (Virtio 1.2, 5.1.4.2).
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate_event(&self) -> &EventFd {
        self.watch.activate_event()
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let queue_events = activation.queue_events.clone();
        let features = activation.features;
        let [rx, tx] = LiveQueue::take(activation)?;
        self.tap.set_offloads(Offloads {
            checksum: features & F_GUEST_CSUM != 0,
            tso4: features & F_GUEST_TSO4 != 0,
            tso6: features & F_GUEST_TSO6 != 0,
        })?;
        self.queues = Some(Queues { rx, tx, features });
        Ok(self.watch.activate(&queue_events)?)
    }

    /// Drops the queues and the frame that waits. Frames that still come stay in the TAP, which drops what is too much.
    fn reset(&mut self) {
        self.queues = None;
        self.receiver.reset();
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counters {
            rx_frames,
            rx_bytes,
            rx_dropped,
            rx_waits,
            tx_frames,
            tx_bytes,
            tx_dropped,
            spoofed,
            refused,
            malformed,
            yields,
        } = self.counters;
        vec![
            ("rx_frames", rx_frames),
            ("rx_bytes", rx_bytes),
            ("rx_dropped", rx_dropped),
            ("rx_waits", rx_waits),
            ("tx_frames", tx_frames),
            ("tx_bytes", tx_bytes),
            ("tx_dropped", tx_dropped),
            ("spoofed", spoofed),
            ("refused", refused),
            ("malformed", malformed),
            ("yields", yields),
        ]
    }
}

impl<T: FrameIo> MutEventSubscriber for Net<T> {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match self.watch.source(&events, ops) {
            Source::Activated => {
                self.send();
                self.receive();
            }
            Source::Queue(1) => self.send(),
            Source::Queue(_) => self.receive(),
            Source::Other(_) => {
                self.receiver.readable = true;
                self.receive();
            }
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        self.watch.init(ops);
        let tap = self.tap.as_fd().as_raw_fd();
        let watched = Events::new_raw(tap, EventSet::IN | EventSet::EDGE_TRIGGERED);
        if let Err(why) = ops.add(watched) {
            error!(%why, "the TAP could not join the event loop");
        }
    }
}
