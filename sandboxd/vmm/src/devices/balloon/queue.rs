//! Carries out one report: whole pages of each buffer go back to the host.

use super::REPORT_COST;
use crate::devices::virtio::GuestMemory;
use crate::devices::virtio::chain::{Chain, Limits, Segment};
use crate::devices::virtio::live::Step;
use crate::memory::{PAGE, place};

/// What a chain may hold.
pub const LIMITS: Limits = Limits {
    descriptors: 64,
    bytes: u32::MAX,
};

/// What the device has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reports carried out.
    pub reports: u64,
    /// Bytes given back to the host.
    pub freed_bytes: u64,
    /// Runs that the host did not take.
    pub failed: u64,
    /// Chains that report nothing or are broken.
    pub malformed: u64,
    /// Chains on the queues of a balloon that never grows.
    pub ignored: u64,
    /// Events that ended because their budget was used up.
    pub yields: u64,
}

/// Carries out the report in `chain`.
pub fn report(memory: &GuestMemory, chain: &Chain, counters: &mut Counters) -> Step {
    if chain.writable.is_empty() || !chain.readable.is_empty() {
        counters.malformed += 1;
        return Step::Used {
            written: 0,
            cost: REPORT_COST,
        };
    }
    for segment in chain.writable.range(0, u32::MAX) {
        let Some((at, len)) = whole_pages(memory, segment) else {
            continue;
        };
        match place::forget(memory, at, len) {
            Ok(()) => counters.freed_bytes += len,
            Err(_) => counters.failed += 1,
        }
    }
    counters.reports += 1;
    Step::Used {
        written: 0,
        cost: REPORT_COST.max(u64::from(chain.writable.len())),
    }
}

/// Place and length of the whole pages in a segment.
fn whole_pages(memory: &GuestMemory, segment: Segment) -> Option<(u64, u64)> {
    let start = segment.addr.0.checked_next_multiple_of(PAGE)?;
    let end = (segment.addr.0 + u64::from(segment.len)) / PAGE * PAGE;
    let len = end.checked_sub(start).filter(|&len| len > 0)?;
    Some((place::of(memory, start)?, len))
}
