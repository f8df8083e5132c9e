//! The driver's side of a virtqueue, for tests: it writes rings and descriptors into guest memory as a guest would.
//!
//! ```text
//!   base + 0        descriptor table (16 bytes each)
//!   base + 0x4000   available ring
//!   base + 0x8000   used ring
//! ```

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use event_manager::{EventManager, SubscriberOps};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Activation, GuestMemory, Interrupt, VirtioDevice};

/// Bytes of guest memory that one [`DriverQueue`] takes.
pub const QUEUE_SPAN: u64 = 0x10000;
/// Where tests put their buffers: behind the areas of four queues.
pub const BUFFERS: u64 = 4 * QUEUE_SPAN;
const AVAIL: u64 = 0x4000;
const USED: u64 = 0x8000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Guest memory of `mib` MiB in two regions that touch at half.
pub fn memory(mib: usize) -> Arc<GuestMemory> {
    let half = mib << 19;
    let ranges = [(GuestAddress(0), half), (GuestAddress(half as u64), half)];
    Arc::new(GuestMemory::from_ranges(&ranges).unwrap())
}

/// A buffer of a chain: readable by the device, or writable.
#[derive(Clone, Copy, Debug)]
pub enum Buffer {
    /// Address and length of a device-readable buffer.
    Readable(u64, u32),
    /// Address and length of a device-writable buffer.
    Writable(u64, u32),
}

/// Counts what the device asks the transport for.
#[derive(Default)]
pub struct TestInterrupt {
    used: AtomicUsize,
    broken: AtomicBool,
}

impl TestInterrupt {
    /// Interrupts raised so far.
    pub fn count(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// Whether the device asked for a reset.
    pub fn needs_reset_raised(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }
}

impl Interrupt for TestInterrupt {
    fn used(&self) {
        self.used.fetch_add(1, Ordering::SeqCst);
    }

    fn config_changed(&self) {}

    fn needs_reset(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }
}

/// One virtqueue as its driver sees it.
pub struct DriverQueue {
    memory: Arc<GuestMemory>,
    base: u64,
    size: u16,
    next_descriptor: u16,
    avail: u16,
    seen: u16,
    /// Whether VIRTIO_F_RING_EVENT_IDX counts as negotiated.
    pub event_idx: bool,
    /// The queue's notification.
    pub event: Arc<EventFd>,
}

impl DriverQueue {
    /// Lays out queue number `slot` with `size` entries.
    pub fn new(memory: &Arc<GuestMemory>, slot: u64, size: u16) -> Self {
        Self {
            memory: Arc::clone(memory),
            base: slot * QUEUE_SPAN,
            size,
            next_descriptor: 0,
            avail: 0,
            seen: 0,
            event_idx: false,
            event: Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()),
        }
    }

    /// The device's side of the queue.
    pub fn device_side(&self) -> Queue {
        let mut queue = Queue::new(self.size).unwrap();
        let low = |offset: u64| Some(u32::try_from(self.base + offset).unwrap());
        queue.set_size(self.size);
        queue.set_desc_table_address(low(0), Some(0));
        queue.set_avail_ring_address(low(AVAIL), Some(0));
        queue.set_used_ring_address(low(USED), Some(0));
        queue.set_event_idx(self.event_idx);
        queue.set_ready(true);
        queue
    }

    /// Writes descriptor `index`.
    pub fn write_descriptor(&self, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let at = GuestAddress(self.base + u64::from(index) * 16);
        self.memory
            .write_obj(Descriptor::new(addr, len, flags, next), at)
            .unwrap();
    }

    /// Makes the chain that starts at `head` available.
    pub fn publish(&mut self, head: u16) {
        let slot = u64::from(self.avail % self.size);
        self.memory
            .write_obj(head, GuestAddress(self.base + AVAIL + 4 + slot * 2))
            .unwrap();
        self.avail = self.avail.wrapping_add(1);
        self.set_avail_index(self.avail);
    }

    /// Writes the index of the available ring, whatever it was.
    pub fn set_avail_index(&self, index: u16) {
        self.memory
            .write_obj(index, GuestAddress(self.base + AVAIL + 2))
            .unwrap();
    }

    /// Writes a chain of `buffers` and makes it available; returns its head.
    pub fn offer(&mut self, buffers: &[Buffer]) -> u16 {
        let head = self.next_descriptor;
        for (at, buffer) in buffers.iter().enumerate() {
            let index = self.next_descriptor;
            self.next_descriptor = (index + 1) % self.size;
            let more = if at + 1 < buffers.len() { NEXT } else { 0 };
            let (addr, len, flags) = match *buffer {
                Buffer::Readable(addr, len) => (addr, len, more),
                Buffer::Writable(addr, len) => (addr, len, more | WRITE),
            };
            self.write_descriptor(index, addr, len, flags, self.next_descriptor);
        }
        self.publish(head);
        head
    }

    /// Chains that the device gave back since the last call: head and length.
    pub fn used(&mut self) -> Vec<(u16, u32)> {
        let index: u16 = self
            .memory
            .read_obj(GuestAddress(self.base + USED + 2))
            .unwrap();
        let mut used = Vec::new();
        while self.seen != index {
            let slot = u64::from(self.seen % self.size);
            let at = GuestAddress(self.base + USED + 4 + slot * 8);
            let [head, len]: [u32; 2] = self.memory.read_obj(at).unwrap();
            used.push((u16::try_from(head).unwrap(), len));
            self.seen = self.seen.wrapping_add(1);
        }
        used
    }

    /// Whether the device wants no notifications at the moment (VIRTQ_USED_F_NO_NOTIFY).
    pub fn notifications_off(&self) -> bool {
        let flags: u16 = self
            .memory
            .read_obj(GuestAddress(self.base + USED))
            .unwrap();
        flags & 1 != 0
    }

    /// With VIRTIO_F_RING_EVENT_IDX: index of the chain whose publishing the device wants to be told of.
    pub fn avail_event(&self) -> u16 {
        let at = self.base + USED + 4 + u64::from(self.size) * 8;
        self.memory.read_obj(GuestAddress(at)).unwrap()
    }

    /// Starts over with empty rings, as a driver does that takes the device anew.
    pub fn restart(&mut self) {
        let empty = vec![0; usize::try_from(QUEUE_SPAN).unwrap()];
        self.memory
            .write_slice(&empty, GuestAddress(self.base))
            .unwrap();
        (self.next_descriptor, self.avail, self.seen) = (0, 0, 0);
    }

    /// Notifies the device.
    pub fn kick(&self) {
        self.event.write(1).unwrap();
    }
}

/// What the transport hands to a device whose driver uses `queues`.
pub fn activation(
    memory: &Arc<GuestMemory>,
    queues: &[&DriverQueue],
    interrupt: &Arc<TestInterrupt>,
    features: u64,
) -> Activation {
    let interrupt: Arc<dyn Interrupt> = Arc::<TestInterrupt>::clone(interrupt);
    Activation {
        memory: Arc::clone(memory),
        queues: queues.iter().map(|queue| queue.device_side()).collect(),
        queue_events: queues
            .iter()
            .map(|queue| Arc::clone(&queue.event))
            .collect(),
        interrupt,
        features,
    }
}

/// A device in an event loop of its own, as the machine would run it.
pub struct Bench<D: VirtioDevice> {
    /// The device.
    pub device: Arc<Mutex<D>>,
    /// What it raised.
    pub interrupt: Arc<TestInterrupt>,
    manager: EventManager<Arc<Mutex<D>>>,
}

impl<D: VirtioDevice> Bench<D> {
    /// Puts `device` into a loop.
    pub fn new(device: D) -> Self {
        let device = Arc::new(Mutex::new(device));
        let mut manager = EventManager::new().unwrap();
        manager.add_subscriber(Arc::clone(&device));
        Self {
            device,
            interrupt: Arc::default(),
            manager,
        }
    }

    /// Activates the device with `queues`.
    pub fn activate(&mut self, memory: &Arc<GuestMemory>, queues: &[&DriverQueue], features: u64) {
        let activation = activation(memory, queues, &self.interrupt, features);
        self.device().activate(activation).unwrap();
        self.run();
    }

    /// The device itself.
    pub fn device(&self) -> MutexGuard<'_, D> {
        self.device.lock().unwrap()
    }

    /// Runs the loop until nothing is pending.
    pub fn run(&mut self) {
        for _ in 0..100_000 {
            if self.manager.run_with_timeout(0).unwrap() == 0 {
                return;
            }
        }
        panic!("the device spins: its events never end");
    }

    /// Runs one round of the loop, waiting up to `milliseconds` for an event; returns how many there were.
    pub fn turn(&mut self, milliseconds: i32) -> usize {
        self.manager.run_with_timeout(milliseconds).unwrap()
    }

    /// Value of a counter.
    pub fn counter(&self, name: &str) -> u64 {
        let counters = self.device().counters();
        counters
            .into_iter()
            .find(|(known, _)| *known == name)
            .unwrap()
            .1
    }
}
