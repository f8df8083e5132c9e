//! Arrivals at a constant rate: number k is due at k / rate.

use std::time::Duration;

use super::{Pacer, float, seconds};

/// The pacer.
#[derive(Debug, Clone, Copy)]
pub struct Constant {
    rate: f64,
}

impl Constant {
    /// `rate` arrivals a second; it must be above 0.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self { rate }
    }
}

impl Pacer for Constant {
    fn due(&mut self, sent: u64) -> Option<Duration> {
        // From the number, never by adding gaps: rounding does not add up over a long run.
        Some(seconds(float(sent) / self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_arrivals_later_it_is_still_on_time() {
        let mut pacer = Constant::new(3.0);
        assert_eq!(pacer.due(0), Some(Duration::ZERO));
        assert_eq!(pacer.due(3_000_000), Some(Duration::from_secs(1_000_000)));
    }
}
