//! The leak ledger: what was there before, at the most, and after.

use std::time::{Duration, Instant};

use reports::model::load::Leak;

use super::reach::{Probe, ProbeError};
use super::reading::Reading;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads until nothing is more than before, for `longest` at most: services keep a few things ready, and let go of more with time.
///
/// # Errors
/// When the host cannot be read.
pub async fn settle(
    probe: &Probe,
    before: &Reading,
    longest: Duration,
) -> Result<Reading, ProbeError> {
    let deadline = Instant::now() + longest;
    loop {
        let after = probe.read(None).await?;
        let more = grown(before, None, &after).1;
        if !more || Instant::now() >= deadline {
            return Ok(after);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The ledger's lines, and whether anything is more than it was.
#[must_use]
pub fn grown(before: &Reading, peak: Option<&Reading>, after: &Reading) -> (Vec<Leak>, bool) {
    let line = |(what, count): (&String, &u64)| Leak {
        what: what.clone(),
        before: *count,
        peak: peak.and_then(|peak| peak.counts.get(what).copied()),
        after: after.counts.get(what).copied().unwrap_or(0),
    };
    let leaks: Vec<Leak> = before.counts.iter().map(line).collect();
    let some = leaks.iter().any(|leak| leak.after > leak.before);
    (leaks, some)
}

#[cfg(test)]
mod tests {
    use reports::probe::machine;

    use super::*;

    #[test]
    fn more_than_before_is_a_leak() {
        let reading = |taps| Reading {
            machine: machine(),
            available_bytes: 0,
            processes: None,
            counts: [("taps".to_owned(), taps)].into(),
        };
        assert!(!grown(&reading(4), Some(&reading(9)), &reading(4)).1);
        assert!(!grown(&reading(4), None, &reading(3)).1);
        let (leaks, some) = grown(&reading(4), Some(&reading(9)), &reading(5));
        assert!(some);
        assert_eq!(
            (leaks[0].before, leaks[0].peak, leaks[0].after),
            (4, Some(9), 5)
        );
    }
}
