use std::sync::Mutex;

use event_manager::{EventManager, MutEventSubscriber, SubscriberOps};
use proptest::prelude::*;

use super::super::test_driver::{BUFFERS, Buffer, DriverQueue, TestInterrupt, activation, memory};
use super::*;

const LIMITS: Limits = Limits {
    descriptors: 8,
    bytes: 1 << 20,
};

struct Bench {
    driver: DriverQueue,
    live: LiveQueue,
    interrupt: Arc<TestInterrupt>,
    chain: Chain,
}

fn bench(size: u16) -> Bench {
    let memory = memory(2);
    let driver = DriverQueue::new(&memory, 0, size);
    let interrupt = Arc::new(TestInterrupt::default());
    let activation = activation(&memory, &[&driver], &interrupt, 0);
    let [live] = LiveQueue::take(activation).unwrap();
    Bench {
        driver,
        live,
        interrupt,
        chain: Chain::default(),
    }
}

#[test]
fn another_number_of_queues_is_refused() {
    let memory = memory(2);
    let driver = DriverQueue::new(&memory, 0, 8);
    let interrupt = Arc::new(TestInterrupt::default());
    let refused = LiveQueue::take::<2>(activation(&memory, &[&driver], &interrupt, 0));
    assert!(matches!(
        refused,
        Err(ActivateError::QueueCount { want: 2, got: 1 })
    ));
}

#[test]
fn a_queue_that_is_not_ready_is_always_empty() {
    let memory = memory(2);
    let driver = DriverQueue::new(&memory, 0, 8);
    let interrupt = Arc::new(TestInterrupt::default());
    let mut activation = activation(&memory, &[&driver], &interrupt, 0);
    activation.queues[0].set_ready(false);
    let [mut live] = LiveQueue::take(activation).unwrap();
    assert_eq!(live.pop(LIMITS, &mut Chain::default()), Popped::Empty);
    assert!(!live.rearm());
    assert!(!interrupt.needs_reset_raised());
}

#[test]
fn a_batch_is_answered_with_one_interrupt() {
    let Bench {
        mut driver,
        mut live,
        interrupt,
        mut chain,
    } = bench(8);
    let heads: Vec<u16> = (0..3)
        .map(|_| driver.offer(&[Buffer::Writable(BUFFERS, 4)]))
        .collect();
    let drained = live.drain(LIMITS, &mut chain, 100, |memory, chain| {
        chain.writable.write_at(memory, 0, b"done");
        Step::Used {
            written: 4,
            cost: 1,
        }
    });
    assert_eq!(drained, Drained::default());
    assert_eq!(
        driver.used(),
        heads.iter().map(|&head| (head, 4)).collect::<Vec<_>>()
    );
    assert_eq!(interrupt.count(), 1);
    assert!(!driver.notifications_off());
}

#[test]
fn the_budget_bounds_the_work_and_kicks_for_the_rest() {
    let Bench {
        mut driver,
        mut live,
        mut chain,
        ..
    } = bench(8);
    for _ in 0..5 {
        driver.offer(&[Buffer::Readable(BUFFERS, 4)]);
    }
    let drained = live.drain(LIMITS, &mut chain, 4, |_, _| Step::Used {
        written: 0,
        cost: 2,
    });
    assert!(drained.out_of_budget);
    assert_eq!(driver.used().len(), 2);
    assert_eq!(driver.event.read().unwrap(), 1);
    assert!(driver.notifications_off());
}

#[test]
fn a_postponed_chain_stays_in_the_ring() {
    let Bench {
        mut driver,
        mut live,
        mut chain,
        interrupt,
    } = bench(8);
    let head = driver.offer(&[Buffer::Readable(BUFFERS, 4)]);
    let drained = live.drain(LIMITS, &mut chain, 4, |_, _| Step::Later);
    assert!(drained.postponed);
    assert_eq!((driver.used(), interrupt.count()), (vec![], 0));
    assert_eq!(live.pop(LIMITS, &mut chain), Popped::Chain);
    assert_eq!(chain.head, head);
}

#[test]
fn a_malformed_chain_is_given_back_and_counted() {
    let Bench {
        mut driver,
        mut live,
        mut chain,
        interrupt,
    } = bench(8);
    let bad = driver.offer(&[Buffer::Readable(u64::MAX, 4)]);
    let good = driver.offer(&[Buffer::Readable(BUFFERS, 4)]);
    let drained = live.drain(LIMITS, &mut chain, 100, |_, _| Step::Used {
        written: 0,
        cost: 1,
    });
    assert_eq!(drained.malformed, 1);
    assert_eq!(driver.used(), vec![(bad, 0), (good, 0)]);
    assert!(!interrupt.needs_reset_raised());
}

#[test]
fn a_broken_ring_asks_for_a_reset_once_and_stays_empty() {
    let Bench {
        mut driver,
        mut live,
        mut chain,
        interrupt,
    } = bench(8);
    driver.offer(&[Buffer::Readable(BUFFERS, 4)]);
    driver.set_avail_index(100);
    let drained = live.drain(LIMITS, &mut chain, 100, |_, _| Step::Used {
        written: 0,
        cost: 1,
    });
    assert_eq!(drained, Drained::default());
    assert!(interrupt.needs_reset_raised());
    driver.set_avail_index(1);
    assert_eq!(live.pop(LIMITS, &mut chain), Popped::Empty);
    assert!(driver.used().is_empty());
}

#[test]
fn a_head_outside_the_table_breaks_the_ring() {
    let Bench {
        mut driver,
        mut live,
        mut chain,
        interrupt,
    } = bench(8);
    driver.publish(8);
    live.drain(LIMITS, &mut chain, 100, |_, _| Step::Used {
        written: 0,
        cost: 1,
    });
    assert!(interrupt.needs_reset_raised());
}

struct Subscriber {
    watch: Watch,
    seen: Vec<Source>,
}

impl MutEventSubscriber for Subscriber {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let source = self.watch.source(&events, ops);
        self.seen.push(source);
    }

    fn init(&mut self, ops: &mut EventOps) {
        self.watch.init(ops);
    }
}

#[test]
fn queue_events_join_at_the_first_activation_and_stay() {
    let queues: Vec<_> = (0..2)
        .map(|_| Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()))
        .collect();
    let subscriber = Arc::new(Mutex::new(Subscriber {
        watch: Watch::new().unwrap(),
        seen: Vec::new(),
    }));
    let mut manager = EventManager::<Arc<Mutex<Subscriber>>>::new().unwrap();
    manager.add_subscriber(Arc::clone(&subscriber));

    queues[1].write(1).unwrap();
    assert_eq!(manager.run_with_timeout(0).unwrap(), 0);
    for _ in 0..2 {
        subscriber.lock().unwrap().watch.activate(&queues).unwrap();
        manager.run_with_timeout(0).unwrap();
    }
    manager.run_with_timeout(0).unwrap();
    let seen = std::mem::take(&mut subscriber.lock().unwrap().seen);
    assert_eq!(
        seen.iter()
            .filter(|&&source| source == Source::Activated)
            .count(),
        2
    );
    assert_eq!(
        seen.iter()
            .filter(|&&source| source == Source::Queue(1))
            .count(),
        1
    );
    assert_eq!(
        manager.run_with_timeout(0).unwrap(),
        0,
        "every event was drained"
    );
}

proptest! {
    /// Whatever a driver writes, a drain ends, gives back only what was available, and never panics.
    #[test]
    fn hostile_rings_are_drained_within_the_budget(
        table in prop::collection::vec(
            (prop_oneof![0..4u64 << 20, any::<u64>()], any::<u32>(), 0..8u16, 0..20u16), 16),
        heads in prop::collection::vec(0..18u16, 0..16),
        avail in prop::option::of(any::<u16>()),
        budget in 1..40u64,
    ) {
        let Bench { mut driver, mut live, mut chain, .. } = bench(16);
        for (index, &(addr, len, flags, next)) in (0..).zip(&table) {
            driver.write_descriptor(index, addr, len, flags, next);
        }
        for &head in &heads {
            driver.publish(head);
        }
        if let Some(index) = avail {
            driver.set_avail_index(index);
        }
        let mut served = 0;
        let drained = live.drain(LIMITS, &mut chain, budget, |_, _| {
            served += 1;
            Step::Used { written: 0, cost: 1 }
        });
        prop_assert!(served + drained.malformed <= budget);
        prop_assert!(driver.used().len() as u64 <= served + drained.malformed);
    }
}
