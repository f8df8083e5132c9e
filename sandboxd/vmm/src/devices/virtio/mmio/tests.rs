//! Tests of the register file, with a device that records what happens to it.

use event_manager::{EventOps, Events, MutEventSubscriber};
use proptest::prelude::*;
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::*;
use crate::devices::virtio::ActivateError;

const FEATURES: u64 = (1 << 3) | F_EVENT_IDX;

struct Probe {
    config: [u8; 8],
    activations: Vec<Activation>,
    resets: usize,
    refuse: bool,
    event: EventFd,
}

impl MutEventSubscriber for Probe {
    fn init(&mut self, _ops: &mut EventOps) {}
    fn process(&mut self, _events: Events, _ops: &mut EventOps) {}
}

impl VirtioDevice for Probe {
    fn device_type(&self) -> u32 {
        42
    }
    fn features(&self) -> u64 {
        FEATURES
    }
    fn queue_max_sizes(&self) -> &[u16] {
        &[256, 64]
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        for (byte, at) in data.iter_mut().zip(offset..) {
            let index = usize::try_from(at).unwrap();
            *byte = self.config.get(index).copied().unwrap_or(0);
        }
    }
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        for (&byte, at) in data.iter().zip(offset..) {
            if let Some(cell) = usize::try_from(at)
                .ok()
                .and_then(|i| self.config.get_mut(i))
            {
                *cell = byte;
            }
        }
    }
    fn activate_event(&self) -> &EventFd {
        &self.event
    }
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        if self.refuse {
            return Err(ActivateError::QueueCount {
                want: 2,
                got: activation.queues.len(),
            });
        }
        self.activations.push(activation);
        Ok(())
    }
    fn reset(&mut self) {
        self.resets += 1;
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

struct Rig {
    transport: MmioTransport,
    device: Arc<Mutex<Probe>>,
    irqfd: Arc<EventFd>,
    events: Vec<Arc<EventFd>>,
}

impl Rig {
    fn new() -> Self {
        let eventfd = || Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let device = Arc::new(Mutex::new(Probe {
            config: [1, 2, 3, 4, 5, 6, 7, 8],
            activations: Vec::new(),
            resets: 0,
            refuse: false,
            event: EventFd::new(EFD_NONBLOCK).unwrap(),
        }));
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
        let (irqfd, events) = (eventfd(), vec![eventfd(), eventfd()]);
        let transport = MmioTransport::new(
            device.clone(),
            Arc::new(memory),
            events.clone(),
            Arc::clone(&irqfd),
        );
        Self {
            transport,
            device,
            irqfd,
            events,
        }
    }

    fn get(&mut self, offset: u64) -> u32 {
        let mut data = [0xaa; 4];
        self.transport.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn set(&mut self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    fn negotiate(&mut self, features: u64) {
        self.set(0x70, 1);
        self.set(0x70, 3);
        for select in [0, 1] {
            self.set(0x24, select);
            self.set(0x20, feature_word(features, select));
        }
        self.set(0x70, 11);
    }

    fn set_up_queue(&mut self, index: u32, base: u32) {
        self.set(0x30, index);
        self.set(0x38, 16);
        self.set(0x80, base);
        self.set(0x90, base + 0x1000);
        self.set(0xa0, base + 0x2000);
        self.set(0x44, 1);
    }

    fn bring_up(&mut self) {
        self.negotiate(FEATURES | F_VERSION_1);
        self.set_up_queue(0, 0x1000);
        self.set_up_queue(1, 0x5000);
        self.set(0x70, 15);
    }
}

#[test]
fn identifies_itself() {
    let mut rig = Rig::new();
    assert_eq!(rig.get(0x00).to_le_bytes(), *b"virt");
    assert_eq!((rig.get(0x04), rig.get(0x08)), (2, 42));
    assert_eq!(rig.get(0x0c).to_le_bytes(), *b"sbxd");
    rig.set(0x14, 1);
    assert_eq!(rig.get(0x10), 1, "VIRTIO_F_VERSION_1 is always offered");
    rig.set(0x14, 2);
    assert_eq!(rig.get(0x10), 0);
    assert_eq!((rig.get(0xb0), rig.get(0xb4)), (u32::MAX, u32::MAX));
}

#[test]
fn a_driver_comes_up_and_goes() {
    let mut rig = Rig::new();
    rig.bring_up();
    assert_eq!(rig.get(0x70), 15);
    {
        let device = lock(&rig.device);
        let activation = &device.activations[0];
        assert_eq!(activation.features, FEATURES | F_VERSION_1);
        assert_eq!(activation.queues.len(), 2);
        for queue in &activation.queues {
            use virtio_queue::QueueT;
            assert!(queue.ready() && queue.event_idx_enabled());
            assert_eq!(queue.size(), 16);
        }
    }
    rig.set(0x70, 0);
    assert_eq!((rig.get(0x70), rig.get(0x44)), (0, 0));
    assert_eq!(lock(&rig.device).resets, 1);
    rig.bring_up();
    assert_eq!(lock(&rig.device).activations.len(), 2);
}

#[test]
fn features_must_be_offered_and_modern() {
    for features in [FEATURES, F_VERSION_1 | (1 << 7)] {
        let mut rig = Rig::new();
        rig.negotiate(features);
        assert_eq!(rig.get(0x70), 3, "FEATURES_OK must not stick");
    }
}

#[test]
fn features_and_queues_are_frozen_after_driver_ok() {
    let mut rig = Rig::new();
    rig.bring_up();
    rig.set(0x24, 0);
    rig.set(0x20, 0);
    assert_eq!(rig.transport.accepted_features(), FEATURES | F_VERSION_1);
    rig.set(0x30, 0);
    rig.set(0x44, 0);
    assert_eq!(rig.get(0x44), 1);
}

#[test]
fn a_bad_queue_means_needs_reset() {
    let mut rig = Rig::new();
    rig.negotiate(F_VERSION_1);
    rig.set_up_queue(0, 0xf000);
    rig.set(0x70, 15);
    assert_eq!(rig.get(0x70), 15 | status::NEEDS_RESET);
    assert!(lock(&rig.device).activations.is_empty());
    assert_eq!(rig.get(0x60), CONFIG_CHANGE);
    assert_eq!(rig.irqfd.read().unwrap(), 1);
}

#[test]
fn a_device_that_refuses_means_needs_reset() {
    let mut rig = Rig::new();
    lock(&rig.device).refuse = true;
    rig.bring_up();
    assert_eq!(rig.get(0x70), 15 | status::NEEDS_RESET);
    rig.set(0x70, 0);
    assert_eq!(rig.get(0x70), 0);
}

#[test]
fn interrupts_and_generation_are_visible() {
    let mut rig = Rig::new();
    rig.bring_up();
    let interrupt = Arc::clone(&lock(&rig.device).activations[0].interrupt);
    interrupt.used();
    interrupt.config_changed();
    assert_eq!(
        (rig.get(0x60), rig.get(0xfc)),
        (USED_BUFFER | CONFIG_CHANGE, 1)
    );
    rig.set(0x64, USED_BUFFER);
    assert_eq!(rig.get(0x60), CONFIG_CHANGE);
}

#[test]
fn notifications_reach_the_right_queue() {
    let mut rig = Rig::new();
    rig.set(0x50, 1);
    rig.set(0x50, 2);
    assert!(rig.events[0].read().is_err());
    assert_eq!(rig.events[1].read().unwrap(), 1);
}

#[test]
fn configuration_is_reached_at_any_width() {
    let mut rig = Rig::new();
    let mut two = [0; 2];
    rig.transport.read(0x101, &mut two);
    assert_eq!(two, [2, 3]);
    rig.transport.write(0x100, &[9]);
    assert_eq!(lock(&rig.device).config[0], 1, "no driver yet");
    rig.negotiate(F_VERSION_1);
    rig.transport.write(0x100, &[9]);
    assert_eq!(lock(&rig.device).config[0], 9);
}

#[test]
fn odd_register_accesses_read_as_zero() {
    let mut rig = Rig::new();
    let mut two = [0xaa; 2];
    rig.transport.read(0x00, &mut two);
    assert_eq!(two, [0, 0]);
    assert_eq!(rig.get(0x02), 0);
    rig.transport.write(0x70, &[1]);
    assert_eq!(rig.get(0x70), 0);
}

/// Offsets that matter, mixed with any other.
fn offset() -> impl Strategy<Value = u64> {
    let registers: Vec<u64> = (0..0x110).step_by(4).collect();
    prop_oneof![4 => prop::sample::select(registers), 1 => 0..MMIO_SIZE]
}

proptest! {
    #[test]
    fn any_accesses_keep_the_rules(
        accesses in prop::collection::vec(
            (offset(), any::<bool>(), prop_oneof![0u32..16, Just(0x1000), Just(0x8000), any::<u32>()], 0usize..9),
            0..200,
        ),
    ) {
        let mut rig = Rig::new();
        rig.negotiate(F_VERSION_1);
        for (offset, write, value, len) in accesses {
            let mut data = [0u8; 8];
            data[..4].copy_from_slice(&value.to_le_bytes());
            // Most accesses are of four bytes, as a driver's are.
            let data = if len < 5 { &mut data[..4] } else { &mut data[..len] };
            let before = rig.transport.status();
            if write {
                rig.transport.write(offset, data);
            } else {
                rig.transport.read(offset, data);
                prop_assert_eq!(rig.transport.status(), before);
            }
            let status = rig.transport.status();
            if status & status::FEATURES_OK != 0 {
                let accepted = rig.transport.accepted_features();
                prop_assert_eq!(accepted & !(FEATURES | F_VERSION_1), 0);
                prop_assert!(accepted & F_VERSION_1 != 0);
            }
            if status & status::DRIVER_OK != 0 {
                prop_assert!(status & status::FEATURES_OK != 0);
            }
            let device = lock(&rig.device);
            prop_assert!(device.activations.len() <= device.resets + 1);
        }
    }
}
