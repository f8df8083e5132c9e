//! Many at once, and again after a while: what a fleet does when its scheduler wakes up.

use std::time::Duration;

use super::Pacer;

/// The pacer.
#[derive(Debug, Clone, Copy)]
pub struct Burst {
    size: u64,
    every: Duration,
}

impl Burst {
    /// `size` at once (1 or more), again each `every`; an `every` of zero means once.
    #[must_use]
    pub fn new(size: u64, every: Duration) -> Self {
        Self {
            size: size.max(1),
            every,
        }
    }
}

impl Pacer for Burst {
    fn due(&mut self, sent: u64) -> Option<Duration> {
        let burst = sent / self.size;
        if self.every.is_zero() && burst > 0 {
            return None;
        }
        let times = u32::try_from(burst).unwrap_or(u32::MAX);
        Some(self.every.saturating_mul(times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_burst_are_due_together() {
        let mut pacer = Burst::new(3, Duration::from_secs(5));
        let dues: Vec<u64> = (0..7).map(|k| pacer.due(k).unwrap().as_secs()).collect();
        assert_eq!(dues, [0, 0, 0, 5, 5, 5, 10]);
    }

    #[test]
    fn once_is_once() {
        let mut pacer = Burst::new(3, Duration::ZERO);
        assert_eq!(pacer.due(2), Some(Duration::ZERO));
        assert_eq!(pacer.due(3), None);
    }
}
