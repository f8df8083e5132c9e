use std::sync::Arc;

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::{Balloon, *};
use crate::arch::x86_64::layout::Range;
use crate::devices::virtio::GuestMemory;
use crate::devices::virtio::VirtioDevice;
use crate::devices::virtio::test_driver::{BUFFERS, Bench, Buffer, DriverQueue};
use crate::memory::place;

const MEMORY: u64 = 2 << 20;

struct Rig {
    memory: Arc<GuestMemory>,
    queues: [DriverQueue; 3],
    bench: Bench<Balloon>,
}

fn rig() -> Rig {
    let range = Range {
        start: 0,
        len: MEMORY,
    };
    let memory = Arc::new(crate::memory::create(&[range]).unwrap());
    let queues = [0, 1, 2].map(|slot| DriverQueue::new(&memory, slot, QUEUE_SIZE));
    let mut bench = Bench::new(Balloon::new(Arc::clone(&memory)).unwrap());
    bench.activate(&memory, &queues.each_ref(), 0);
    Rig {
        memory,
        queues,
        bench,
    }
}

impl Rig {
    fn give(&mut self, queue: usize, buffers: &[Buffer]) -> Vec<(u16, u32)> {
        self.queues[queue].offer(buffers);
        self.queues[queue].kick();
        self.bench.run();
        self.queues[queue].used()
    }

    fn byte(&self, at: u64) -> u8 {
        self.memory.read_obj(GuestAddress(at)).unwrap()
    }
}

#[test]
fn reported_pages_go_back_and_their_neighbours_stay() {
    let mut rig = rig();
    let all = vec![9; 0x5000];
    rig.memory.write_slice(&all, GuestAddress(BUFFERS)).unwrap();
    let used = rig.give(2, &[Buffer::Writable(BUFFERS + 0x1000, 0x2000)]);
    assert_eq!(used, [(0, 0)]);
    let seen = [0u64, 1, 2, 3, 4].map(|page| rig.byte(BUFFERS + page * 0x1000));
    assert_eq!(seen, [9, 0, 0, 9, 9]);
    assert_eq!(rig.bench.counter("freed_bytes"), 0x2000);
}

#[test]
fn a_page_reported_by_half_stays() {
    let mut rig = rig();
    rig.memory
        .write_slice(&[9; 0x3000], GuestAddress(BUFFERS))
        .unwrap();
    rig.give(2, &[Buffer::Writable(BUFFERS + 1, 0x2ffe)]);
    let seen = [0u64, 1, 2].map(|page| rig.byte(BUFFERS + page * 0x1000));
    assert_eq!(seen, [9, 0, 9]);
    rig.give(2, &[Buffer::Writable(BUFFERS + 1, 0x20)]);
    assert_eq!(rig.bench.counter("freed_bytes"), 0x1000);
}

#[test]
fn in_a_clone_the_page_of_the_template_is_seen_again() {
    let mut rig = rig();
    let template = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&template, &[5; 0x1000], 0).unwrap();
    place::map(&rig.memory, &template, 0, BUFFERS, 0x1000).unwrap();
    rig.memory.write_obj(9u8, GuestAddress(BUFFERS)).unwrap();
    rig.give(2, &[Buffer::Writable(BUFFERS, 0x1000)]);
    assert_eq!(rig.byte(BUFFERS), 5);
}

#[test]
fn a_balloon_that_was_never_to_grow_gives_back_what_it_is_given() {
    let mut rig = rig();
    for queue in [0, 1] {
        assert_eq!(rig.give(queue, &[Buffer::Readable(BUFFERS, 4)]), [(0, 0)]);
    }
    assert_eq!(rig.bench.counter("ignored"), 2);
    assert_eq!(
        rig.give(2, &[Buffer::Readable(BUFFERS, 4)]),
        [(0, 0)],
        "a report is writable"
    );
    assert_eq!(rig.bench.counter("malformed"), 1);
}

#[test]
fn a_saved_balloon_goes_on_where_it_stood() {
    let mut rig = rig();
    rig.give(2, &[Buffer::Writable(BUFFERS, 0x1000)]);
    let state = rig.bench.device().state();
    let text = serde_json::to_string(&state).unwrap();
    let state: BalloonState = serde_json::from_str(&text).unwrap();
    assert_eq!(state.queues.unwrap()[2].next_used, 1);
    let fresh = Balloon::from_state(&state, Arc::clone(&rig.memory)).unwrap();
    assert_eq!(fresh.state().queues, None, "until it is activated");
    rig.bench.device().reset();
    assert_eq!(rig.bench.device().state().queues, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_reports_come_back_once(
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
            prop_assert_eq!(rig.give(2, &chain).len(), 1);
        }
    }
}
