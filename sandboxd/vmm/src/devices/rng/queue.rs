//! Answers one request for random bytes.

use std::time::Duration;

use super::token_bucket::TokenBucket;
use super::{FILL_MAX, REQUEST_COST};
use crate::devices::virtio::GuestMemory;
use crate::devices::virtio::chain::{Chain, Limits};
use crate::devices::virtio::live::Step;

/// What a chain may hold. The buffers may be of any size; only the first [`FILL_MAX`] bytes are filled.
pub const LIMITS: Limits = Limits {
    descriptors: 32,
    bytes: u32::MAX,
};

/// What the device has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests answered with bytes.
    pub requests: u64,
    /// Bytes given.
    pub bytes: u64,
    /// Times that the guest had to wait for the bucket.
    pub throttled: u64,
    /// Chains without room for a byte, or broken.
    pub malformed: u64,
    /// Requests that the host's generator failed.
    pub failed: u64,
}

/// Answers the request in `chain` if the bucket allows; `now` is the bucket's time.
pub fn serve(
    memory: &GuestMemory,
    chain: &Chain,
    bucket: &mut TokenBucket,
    now: Duration,
    counters: &mut Counters,
) -> Step {
    let want = FILL_MAX.min(chain.writable.len() as usize);
    if want == 0 || !chain.readable.is_empty() {
        counters.malformed += 1;
        return Step::Used {
            written: 0,
            cost: 1,
        };
    }
    if !bucket.take(now, price(chain)) {
        counters.throttled += 1;
        return Step::Later;
    }
    let mut bytes = [0; FILL_MAX];
    if getrandom::fill(&mut bytes[..want]).is_err() {
        counters.failed += 1;
        return Step::Used {
            written: 0,
            cost: 1,
        };
    }
    let written = chain.writable.write_at(memory, 0, &bytes[..want]);
    counters.requests += 1;
    counters.bytes += written as u64;
    Step::Used {
        written: u32::try_from(written).unwrap_or_default(),
        cost: 1,
    }
}

/// What the request in `chain` takes from the bucket.
pub fn price(chain: &Chain) -> u64 {
    u64::from(chain.writable.len()).clamp(REQUEST_COST, FILL_MAX as u64)
}
