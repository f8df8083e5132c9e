use proptest::prelude::*;

use super::super::test_driver::{BUFFERS, DriverQueue, memory};
use super::*;

const LIMITS: Limits = Limits {
    descriptors: 8,
    bytes: 1 << 20,
};
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Walks a table of 16 whose first descriptors are `table`.
fn walk(table: &[(u64, u32, u16, u16)], head: u16) -> (Chain, Result<(), ChainError>) {
    let memory = memory(2);
    let queue = DriverQueue::new(&memory, 0, 16);
    for (index, &(addr, len, flags, next)) in (0..).zip(table) {
        queue.write_descriptor(index, addr, len, flags, next);
    }
    let mut chain = Chain::default();
    let walked = chain.walk(&memory, GuestAddress(0), 16, head, LIMITS);
    (chain, walked)
}

#[test]
fn readable_and_writable_parts_come_out_in_order() {
    let (chain, walked) = walk(
        &[
            (BUFFERS, 16, NEXT, 1),
            (BUFFERS + 0x100, 0, NEXT, 2),
            (BUFFERS + 0x200, 512, NEXT | WRITE, 3),
            (BUFFERS + 0x400, 1, WRITE, 0),
        ],
        0,
    );
    assert_eq!(walked, Ok(()));
    assert_eq!((chain.readable.len(), chain.readable.count()), (16, 1));
    assert_eq!((chain.writable.len(), chain.writable.count()), (513, 2));
}

#[test]
fn a_loop_ends_at_the_limit() {
    let (chain, walked) = walk(&[(BUFFERS, 1, NEXT, 1), (BUFFERS, 1, NEXT, 0)], 0);
    assert_eq!(walked, Err(ChainError::TooManyDescriptors(8)));
    assert!(chain.readable.is_empty());
}

#[test]
fn a_loop_of_empty_descriptors_ends_too() {
    let (_, walked) = walk(&[(0, 0, NEXT, 0)], 0);
    assert_eq!(walked, Err(ChainError::TooManyDescriptors(8)));
}

#[test]
fn indices_outside_the_table_are_refused() {
    let (_, head) = walk(&[], 16);
    assert_eq!(
        head,
        Err(ChainError::OutsideTable {
            index: 16,
            size: 16
        })
    );
    let (_, next) = walk(&[(BUFFERS, 1, NEXT, u16::MAX)], 0);
    assert_eq!(
        next,
        Err(ChainError::OutsideTable {
            index: u16::MAX,
            size: 16
        })
    );
}

#[test]
fn buffers_must_lie_in_memory() {
    for (addr, len) in [
        (2 << 20, 1),
        ((2 << 20) - 1, 2),
        (u64::MAX, 1),
        (u64::MAX - 1, 4096),
    ] {
        let (_, walked) = walk(&[(addr, len, 0, 0)], 0);
        assert_eq!(walked, Err(ChainError::OutsideMemory { addr, len }));
    }
}

#[test]
fn a_table_outside_memory_is_an_error() {
    let mut chain = Chain::default();
    for table in [8 << 20, u64::MAX - 15] {
        let walked = chain.walk(&memory(2), GuestAddress(table), 16, 3, LIMITS);
        assert_eq!(walked, Err(ChainError::UnreadableTable(table)));
    }
}

#[test]
fn the_byte_limit_holds_for_the_sum() {
    let half = (1 << 19) + 1;
    let (_, walked) = walk(&[(0, half, NEXT, 1), (0, half, 0, 0)], 0);
    assert_eq!(walked, Err(ChainError::TooManyBytes(1 << 20)));
    let (_, huge) = walk(&[(0, 16, NEXT, 1), (0, u32::MAX, 0, 0)], 0);
    assert_eq!(huge, Err(ChainError::TooManyBytes(1 << 20)));
}

#[test]
fn order_and_indirect_rules_hold() {
    let (_, order) = walk(&[(BUFFERS, 1, NEXT | WRITE, 1), (BUFFERS, 1, 0, 0)], 0);
    assert_eq!(order, Err(ChainError::ReadableAfterWritable));
    let (_, empty_first) = walk(&[(BUFFERS, 0, NEXT | WRITE, 1), (BUFFERS, 1, 0, 0)], 0);
    assert_eq!(empty_first, Err(ChainError::ReadableAfterWritable));
    let (_, indirect) = walk(&[(BUFFERS, 32, INDIRECT, 0)], 0);
    assert_eq!(indirect, Err(ChainError::Indirect));
}

#[test]
fn streams_cross_segments_and_regions() {
    let memory = memory(2);
    let queue = DriverQueue::new(&memory, 0, 16);
    // The second buffer lies across the border of the two memory regions at 1 MiB.
    queue.write_descriptor(0, BUFFERS, 3, NEXT | WRITE, 1);
    queue.write_descriptor(1, (1 << 20) - 2, 4, NEXT | WRITE, 2);
    queue.write_descriptor(2, BUFFERS + 64, 3, WRITE, 0);
    let mut chain = Chain::default();
    chain.walk(&memory, GuestAddress(0), 16, 0, LIMITS).unwrap();

    assert_eq!(chain.writable.write_at(&memory, 1, b"abcdefgh"), 8);
    let mut back = [0; 16];
    assert_eq!(chain.writable.read_at(&memory, 0, &mut back), 10);
    assert_eq!(&back[..10], b"\0abcdefgh\0");
    chain.writable.zero(&memory, 2, 5);
    assert_eq!(chain.writable.read_at(&memory, 0, &mut back), 10);
    assert_eq!(&back[..10], b"\0a\0\0\0\0\0gh\0");
    assert_eq!(chain.writable.write_at(&memory, 9, b"xyz"), 1);
    assert_eq!(chain.writable.read_at(&memory, 10, &mut back), 0);
}

proptest! {
    #[test]
    fn any_table_is_walked_within_bounds(
        table in prop::collection::vec(
            (
                prop_oneof![0..4u64 << 20, any::<u64>()],
                prop_oneof![0..4096u32, any::<u32>()],
                0..8u16,
                0..20u16,
            ),
            16,
        ),
        head in 0..20u16,
    ) {
        let (chain, walked) = walk(&table, head);
        let segments = chain.readable.count() + chain.writable.count();
        let bytes = u64::from(chain.readable.len()) + u64::from(chain.writable.len());
        prop_assert!(segments <= usize::from(LIMITS.descriptors));
        prop_assert!(bytes <= u64::from(LIMITS.bytes));
        prop_assert!(walked.is_ok() || bytes == 0);
        for part in [&chain.readable, &chain.writable] {
            for segment in part.range(0, u32::MAX) {
                prop_assert!(segment.addr.0 + u64::from(segment.len) <= 2 << 20);
            }
        }
    }

    #[test]
    fn a_range_is_the_same_cut_of_the_stream(
        lengths in prop::collection::vec(1..50u32, 1..8),
        offset in 0..300u32,
        len in 0..300u32,
    ) {
        let mut segments = Segments::default();
        let mut addr = 0;
        let mut stream = Vec::new();
        for length in lengths {
            segments.push(Segment { addr: GuestAddress(addr), len: length });
            stream.extend(addr..addr + u64::from(length));
            addr += 1000;
        }
        let cut: Vec<u64> = segments
            .range(offset, len)
            .flat_map(|segment| segment.addr.0..segment.addr.0 + u64::from(segment.len))
            .collect();
        let expected: Vec<u64> =
            stream.into_iter().skip(offset as usize).take(len as usize).collect();
        prop_assert_eq!(cut, expected);
    }
}
