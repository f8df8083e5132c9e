//! Blocks of turns that are drawn together when intervals are resampled: neighbours share the machine's mood.

use std::time::Duration;

/// How many blocks a run of known length is cut into.
const BLOCKS: u64 = 20;
/// Length of a block where nothing is known of a run's length.
const LENGTH: Duration = Duration::from_secs(5);

/// The rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// So many turns each.
    Turns(u64),
    /// So long each.
    Time(Duration),
}

impl Rounds {
    /// The rule for a run with these bounds.
    #[must_use]
    pub fn of(number: Option<u64>, duration: Option<Duration>) -> Self {
        match (number, duration) {
            (Some(number), _) => Self::Turns(number.div_ceil(BLOCKS).max(1)),
            (None, Some(duration)) => {
                let blocks = u32::try_from(BLOCKS).unwrap_or(1);
                Self::Time((duration / blocks).max(Duration::from_millis(1)))
            }
            (None, None) => Self::Time(LENGTH),
        }
    }

    /// The block of a turn.
    #[must_use]
    pub fn round(self, number: u64, planned: Duration) -> u32 {
        let round = match self {
            Self::Turns(size) => u128::from(number / size.max(1)),
            Self::Time(length) => planned.as_nanos() / length.as_nanos().max(1),
        };
        u32::try_from(round).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_about_twenty_blocks() {
        let by_number = Rounds::of(Some(1000), None);
        assert_eq!(by_number.round(0, Duration::ZERO), 0);
        assert_eq!(by_number.round(999, Duration::ZERO), 19);
        let by_time = Rounds::of(None, Some(Duration::from_secs(60)));
        assert_eq!(by_time.round(7, Duration::from_secs(59)), 19);
        assert_eq!(Rounds::of(None, None).round(7, Duration::from_secs(12)), 2);
    }
}
