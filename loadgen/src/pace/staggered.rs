//! One each so often, given as a gap: the published boards' *staggered* mode, in which latency is looked at against the launch's offset.

use std::time::Duration;

use super::Pacer;

/// The pacer.
#[derive(Debug, Clone, Copy)]
pub struct Staggered {
    gap: Duration,
}

impl Staggered {
    /// One each `gap`, which must be above zero.
    #[must_use]
    pub fn new(gap: Duration) -> Self {
        Self { gap }
    }
}

impl Pacer for Staggered {
    fn due(&mut self, sent: u64) -> Option<Duration> {
        let nanos = self.gap.as_nanos().saturating_mul(u128::from(sent));
        Some(Duration::from_nanos(
            u64::try_from(nanos).unwrap_or(u64::MAX),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_exact() {
        let mut pacer = Staggered::new(Duration::from_millis(200));
        assert_eq!(pacer.due(7), Some(Duration::from_millis(1400)));
    }
}
