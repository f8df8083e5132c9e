use std::sync::Arc;

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::{Rng, *};
use crate::devices::virtio::test_driver::{BUFFERS, Bench, Buffer, DriverQueue, memory};
use crate::devices::virtio::{GuestMemory, VirtioDevice};

struct Rig {
    memory: Arc<GuestMemory>,
    queue: DriverQueue,
    bench: Bench<Rng>,
}

fn rig() -> Rig {
    let memory = memory(2);
    let queue = DriverQueue::new(&memory, 0, QUEUE_SIZE);
    let mut bench = Bench::new(Rng::new().unwrap());
    bench.activate(&memory, &[&queue], 0);
    Rig {
        memory,
        queue,
        bench,
    }
}

impl Rig {
    fn ask(&mut self, buffers: &[Buffer]) -> u32 {
        self.queue.offer(buffers);
        self.queue.kick();
        self.bench.run();
        self.queue.used().first().unwrap().1
    }
}

#[test]
fn buffers_are_filled() {
    let mut rig = rig();
    let parts = [
        Buffer::Writable(BUFFERS, 30),
        Buffer::Writable(BUFFERS + 0x1000, 34),
    ];
    assert_eq!(rig.ask(&parts), 64);
    let mut bytes = [0; 64];
    rig.memory
        .read_slice(&mut bytes[..30], GuestAddress(BUFFERS))
        .unwrap();
    rig.memory
        .read_slice(&mut bytes[30..], GuestAddress(BUFFERS + 0x1000))
        .unwrap();
    let different: std::collections::HashSet<u8> = bytes.into_iter().collect();
    assert!(different.len() > 16, "{bytes:?}");
    let behind: [u8; 2] = rig.memory.read_obj(GuestAddress(BUFFERS + 30)).unwrap();
    assert_eq!(behind, [0, 0]);
}

#[test]
fn an_answer_has_at_most_a_page() {
    assert_eq!(rig().ask(&[Buffer::Writable(BUFFERS, 100_000)]), 4096);
}

#[test]
fn chains_that_cannot_be_filled_are_given_back() {
    let mut rig = rig();
    assert_eq!(rig.ask(&[Buffer::Readable(BUFFERS, 64)]), 0);
    assert_eq!(rig.ask(&[Buffer::Writable(BUFFERS, 0)]), 0);
    let mixed = [Buffer::Readable(BUFFERS, 64), Buffer::Writable(BUFFERS, 64)];
    assert_eq!(rig.ask(&mixed), 0);
    assert_eq!(rig.bench.counter("malformed"), 3);
}

#[test]
fn a_greedy_guest_waits_for_the_timer_and_not_in_a_loop() {
    let mut rig = rig();
    let mut given = 0;
    while rig.bench.counter("throttled") == 0 {
        given += u64::from(rig.queue.used().iter().map(|used| used.1).sum::<u32>());
        assert!(given < 100 * BURST, "never throttled");
        for _ in 0..QUEUE_SIZE / 2 {
            rig.queue.offer(&[Buffer::Writable(BUFFERS, 4096)]);
        }
        rig.queue.kick();
        rig.bench.run();
    }
    given += u64::from(rig.queue.used().iter().map(|used| used.1).sum::<u32>());
    assert!(given >= BURST / 2, "{given}");
    // The rest comes without another kick.
    let before = rig.bench.counter("requests");
    while rig.bench.counter("requests") < before + 3 {
        assert_ne!(rig.bench.turn(10_000), 0, "no timer");
    }
}

#[test]
fn the_work_per_event_is_bounded() {
    let mut rig = rig();
    for _ in 0..QUEUE_SIZE {
        rig.queue.offer(&[Buffer::Writable(BUFFERS, 1)]);
    }
    rig.queue.kick();
    rig.bench.turn(0);
    assert_eq!(rig.queue.used().len() as u64, EVENT_BUDGET);
    rig.bench.run();
    assert_eq!(
        rig.queue.used().len() as u64,
        u64::from(QUEUE_SIZE) - EVENT_BUDGET
    );
}

#[test]
fn reset_forgets_the_queue() {
    let mut rig = rig();
    rig.bench.device().reset();
    rig.queue.offer(&[Buffer::Writable(BUFFERS, 16)]);
    rig.queue.kick();
    rig.bench.run();
    assert!(rig.queue.used().is_empty());
    assert_eq!(rig.bench.device().state(), RngState { queue: None });
}

#[test]
fn a_saved_device_goes_on_where_it_stood() {
    let mut rig = rig();
    rig.ask(&[Buffer::Writable(BUFFERS, 16)]);
    let state = rig.bench.device().state();
    let text = serde_json::to_string(&state).unwrap();
    let state: RngState = serde_json::from_str(&text).unwrap();
    let queue = state.queue.unwrap();
    assert_eq!((queue.next_avail, queue.next_used), (1, 1));

    let bench = Bench::new(Rng::from_state(&state).unwrap());
    let mut activation = crate::devices::virtio::test_driver::activation(
        &rig.memory,
        &[&rig.queue],
        &bench.interrupt,
        0,
    );
    activation.queues = vec![queue.restore().unwrap()];
    bench.device().activate(activation).unwrap();
    rig.bench = bench;
    assert_eq!(rig.ask(&[Buffer::Writable(BUFFERS, 16)]), 16);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_chains_come_back_once(
        chains in prop::collection::vec(
            prop::collection::vec(
                (any::<bool>(), BUFFERS..3 << 20, prop_oneof![0..9000u32, any::<u32>()]), 1..5),
            1..8,
        ),
    ) {
        let mut rig = rig();
        for buffers in chains {
            let chain: Vec<Buffer> = buffers
                .into_iter()
                .map(|(write, addr, len)| match write {
                    true => Buffer::Writable(addr, len),
                    false => Buffer::Readable(addr, len),
                })
                .collect();
            let head = rig.queue.offer(&chain);
            rig.queue.kick();
            rig.bench.run();
            let used = rig.queue.used();
            prop_assert_eq!(used.len(), 1);
            prop_assert_eq!(used[0].0, head);
            prop_assert!(used[0].1 as usize <= FILL_MAX);
        }
    }
}
