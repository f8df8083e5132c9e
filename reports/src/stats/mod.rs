//! Numbers out of samples, without any clock or file.
//!
//! ```text
//!   rounds: [ours ns…, peer ns…]  ─┬─ quantile    value at a rank, with an interval from order statistics
//!                                  └─ ratio       ours / peer, with a bootstrap interval and a permutation test
//! ```
//!
//! Samples of a round lie side by side in time and share the machine's mood, so a round is what is drawn again, never a
//! single sample: drawing samples would call fifty machines that waited for each other fifty independent readings.

pub mod paired;
pub mod quantile;
pub mod random;
pub mod ratio;

/// With fewer rounds nothing is said: intervals are too narrow to be believed, and a test has no power.
pub const FEW_ROUNDS: usize = 8;

/// As a float, for ratios and ranks; exact up to 2^53, which is 104 days in nanoseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "durations and counts stay far below 2^53"
)]
#[must_use]
pub fn float(value: u64) -> f64 {
    value as f64
}

/// The nearest whole number; what is beyond a u64 is its greatest, what is below zero, or no number, is zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates"
)]
#[must_use]
pub fn rounded(value: f64) -> u64 {
    value.round() as u64
}

/// A count as a float.
#[must_use]
pub fn count(value: usize) -> f64 {
    float(u64::try_from(value).unwrap_or(u64::MAX))
}
