//! The device: features, configuration space, life cycle and events.

use std::path::PathBuf;

use event_manager::{EventOps, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::EventFd;

use super::backend::RawFile;
use super::overlay::Overlay;
use super::queue::{Counters, LIMITS, Server};
use super::request::ID_BYTES;
use super::{
    Backend, BackendError, BlockError, ERASE_RANGES_MAX, ERASE_SECTORS_MAX, EVENT_BUDGET,
    QUEUE_SIZE, SECTOR, SEG_MAX, SIZE_MAX,
};
use crate::config::DiskConfig;
use crate::devices::virtio::chain::Chain;
use crate::devices::virtio::live::{LiveQueue, Source, Watch};
use crate::devices::virtio::queue_state::QueueState;
use crate::devices::virtio::{ActivateError, Activation, VirtioDevice, config_bytes};

const DEVICE_TYPE: u32 = 2;
const F_SIZE_MAX: u64 = 1 << 1;
const F_SEG_MAX: u64 = 1 << 2;
const F_RO: u64 = 1 << 5;
const F_FLUSH: u64 = 1 << 9;
const F_TOPOLOGY: u64 = 1 << 10;
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;
const F_EVENT_IDX: u64 = 1 << 29;
/// 2^3 sectors are one block of 4 KiB: what the guest's file systems and the overlay's clusters use.
const PHYSICAL_BLOCK_EXPONENT: u8 = 3;

/// A virtio block device.
pub struct Block {
    id: String,
    id_bytes: [u8; ID_BYTES],
    backend: Backend,
    counters: Counters,
    queue: Option<LiveQueue>,
    chain: Chain,
    watch: Watch,
}

impl Block {
    /// Opens the files of `config`. An overlay never takes more than `overlay_ceiling` bytes of the host's disk.
    ///
    /// # Errors
    /// When a file cannot be opened, is damaged, or does not belong here.
    pub fn open(config: &DiskConfig, overlay_ceiling: u64) -> Result<Self, BlockError> {
        Self::open_over(config, &[], overlay_ceiling)
    }

    /// The same with frozen layers between the image and the overlay, the oldest first.
    ///
    /// # Errors
    /// As [`Block::open`].
    pub fn open_over(
        config: &DiskConfig,
        layers: &[PathBuf],
        overlay_ceiling: u64,
    ) -> Result<Self, BlockError> {
        let base = RawFile::open(&config.path)?;
        let backend = match (&config.overlay, config.read_only) {
            (_, true) => Backend::Raw(base),
            (None, false) => return Err(BlockError::NoOverlay(config.id.clone())),
            (Some(path), false) => {
                let refused = |source| BlockError::Overlay {
                    path: path.clone(),
                    source,
                };
                Backend::Overlay(
                    Overlay::open_over(path, base, layers, overlay_ceiling).map_err(refused)?,
                )
            }
        };
        let mut id_bytes = [0; ID_BYTES];
        for (to, from) in id_bytes.iter_mut().zip(config.id.bytes()) {
            *to = from;
        }
        Ok(Self {
            id: config.id.clone(),
            id_bytes,
            backend,
            counters: Counters::default(),
            queue: None,
            chain: Chain::default(),
            watch: Watch::new()?,
        })
    }

    /// Name of the disk.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the bytes are.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The overlay that takes the writes, when there is one.
    pub fn overlay_mut(&mut self) -> Option<&mut Overlay> {
        match &mut self.backend {
            Backend::Raw(_) => None,
            Backend::Overlay(overlay) => Some(overlay),
        }
    }

    /// Where the queue stands, when the driver is using it.
    pub fn queue_state(&self) -> Option<QueueState> {
        self.queue.as_ref().map(LiveQueue::state)
    }

    /// Brings everything that was written to the host's disk.
    ///
    /// # Errors
    /// When the host fails.
    pub fn flush(&mut self) -> Result<(), BackendError> {
        self.backend.flush()
    }

    fn serve(&mut self) {
        let Self {
            id_bytes,
            backend,
            counters,
            queue,
            chain,
            ..
        } = self;
        let Some(queue) = queue else { return };
        let mut server = Server {
            backend,
            id: id_bytes,
            counters,
        };
        let drained = queue.drain(LIMITS, chain, EVENT_BUDGET, |memory, chain| {
            server.serve(memory, chain)
        });
        counters.malformed += drained.malformed;
        counters.yields += u64::from(drained.out_of_budget);
    }

    /// `struct virtio_blk_config` (Virtio 1.2, 5.2.4).
    fn config(&self) -> [u8; 60] {
        let unit = u32::try_from(self.backend.discard_unit() / SECTOR).unwrap_or(1);
        let mut config = [0; 60];
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &(self.backend.size() / SECTOR).to_le_bytes());
        put(8, &SIZE_MAX.to_le_bytes());
        put(12, &u32::from(SEG_MAX).to_le_bytes());
        put(24, &[PHYSICAL_BLOCK_EXPONENT]);
        put(36, &ERASE_SECTORS_MAX.to_le_bytes());
        put(40, &ERASE_RANGES_MAX.to_le_bytes());
        put(44, &unit.to_le_bytes());
        put(48, &ERASE_SECTORS_MAX.to_le_bytes());
        put(52, &ERASE_RANGES_MAX.to_le_bytes());
        // A zeroed range may lose its place on the host: that is how a sparse overlay zeroes.
        put(56, &[1]);
        config
    }
}

impl VirtioDevice for Block {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn features(&self) -> u64 {
        let always = F_SIZE_MAX | F_SEG_MAX | F_TOPOLOGY | F_EVENT_IDX;
        match self.backend {
            Backend::Raw(_) => always | F_RO,
            Backend::Overlay(_) => always | F_FLUSH | F_DISCARD | F_WRITE_ZEROES,
        }
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config_bytes(&self.config(), offset, data);
    }

    /// Nothing in the configuration of a disk is writable without VIRTIO_BLK_F_CONFIG_WCE.
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

    fn reset(&mut self) {
        self.queue = None;
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counters {
            reads,
            read_bytes,
            writes,
            written_bytes,
            flushes,
            erased_bytes,
            refused,
            failed,
            no_space,
            malformed,
            yields,
        } = self.counters;
        let overlay_bytes = match &self.backend {
            Backend::Raw(_) => 0,
            Backend::Overlay(overlay) => overlay.bytes(),
        };
        vec![
            ("reads", reads),
            ("read_bytes", read_bytes),
            ("writes", writes),
            ("written_bytes", written_bytes),
            ("flushes", flushes),
            ("erased_bytes", erased_bytes),
            ("refused", refused),
            ("failed", failed),
            ("no_space", no_space),
            ("malformed", malformed),
            ("yields", yields),
            ("overlay_bytes", overlay_bytes),
        ]
    }
}

impl MutEventSubscriber for Block {
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
