//! How many calls are served.
//!
//! ```text
//! token_bucket     refills all the time, lets a burst through      fixed_window   counts anew at each multiple of the window
//! sliding_window   at most `limit` within any window that ends now
//! ```
//!
//! A quota is a value (what the file says) and a state (what was used); `take` moves the state to `now`, which must not go backwards.

pub mod fixed;
pub mod sliding;
pub mod token_bucket;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most calls a quota may allow in a window: the sliding window remembers each.
pub const MAX_LIMIT: u32 = 100_000;

/// A kind of quota with its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Limit {
    /// A bucket of `burst` tokens, one more each `refill_ms`.
    TokenBucket {
        /// Tokens that a full bucket holds, 1 to 100,000.
        burst: u32,
        /// Milliseconds until one token is back, at least 1.
        refill_ms: u64,
    },
    /// `limit` calls in each window; windows begin at multiples of `window_ms`.
    FixedWindow {
        /// Calls per window, 1 to 100,000.
        limit: u32,
        /// Length in milliseconds, at least 1.
        window_ms: u64,
    },
    /// `limit` calls in any time of `window_ms`.
    SlidingWindow {
        /// Calls per window, 1 to 100,000.
        limit: u32,
        /// Length in milliseconds, at least 1.
        window_ms: u64,
    },
}

/// A quota of a service or a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Kind and numbers.
    pub limit: Limit,
    /// Whether all callers use it up together; otherwise each has its own.
    #[serde(default)]
    pub shared: bool,
}

/// A quota out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a quota allows 1 to {MAX_LIMIT} calls in a time of at least 1 ms")]
pub struct QuotaError;

/// What was used of a quota.
#[derive(Debug)]
pub enum State {
    /// Of a token bucket.
    TokenBucket(token_bucket::TokenBucket),
    /// Of a fixed window.
    Fixed(fixed::FixedWindow),
    /// Of a sliding window.
    Sliding(sliding::SlidingWindow),
}

/// What became of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Whether it is served.
    pub allowed: bool,
    /// Calls that the quota holds.
    pub limit: u32,
    /// Calls that are left right now.
    pub remaining: u32,
    /// How long until one more call is allowed; zero while some are left.
    pub wait: Duration,
}

impl Limit {
    /// Whether the numbers are in range.
    pub fn check(&self) -> Result<(), QuotaError> {
        let (limit, ms) = match self {
            Self::TokenBucket { burst, refill_ms } => (*burst, *refill_ms),
            Self::FixedWindow { limit, window_ms } | Self::SlidingWindow { limit, window_ms } => {
                (*limit, *window_ms)
            }
        };
        if (1..=MAX_LIMIT).contains(&limit) && ms >= 1 {
            Ok(())
        } else {
            Err(QuotaError)
        }
    }

    /// An unused quota.
    pub fn fresh(&self) -> State {
        match *self {
            Self::TokenBucket { burst, refill_ms } => State::TokenBucket(
                token_bucket::TokenBucket::new(burst, Duration::from_millis(refill_ms)),
            ),
            Self::FixedWindow { limit, window_ms } => State::Fixed(fixed::FixedWindow::new(
                limit,
                Duration::from_millis(window_ms),
            )),
            Self::SlidingWindow { limit, window_ms } => State::Sliding(
                sliding::SlidingWindow::new(limit, Duration::from_millis(window_ms)),
            ),
        }
    }
}

impl State {
    /// One call at `now`.
    pub fn take(&mut self, now: Duration) -> Taken {
        match self {
            Self::TokenBucket(state) => state.take(now),
            Self::Fixed(state) => state.take(now),
            Self::Sliding(state) => state.take(now),
        }
    }
}

#[cfg(test)]
mod tests;
