//! What happened when, in intervals of one length.
//!
//! A turn belongs to the interval in which it was planned: a stall shows where it began, not where it was noticed. There are at
//! most [`MOST`] intervals; when a run outgrows them, pairs become one and all are twice as long.

use std::time::Duration;

use hdrhistogram::Histogram;
use reports::model::load::Interval;

use super::histogram;

/// Most intervals.
pub const MOST: usize = 256;

/// A timeline.
#[derive(Debug)]
pub struct Timeline {
    length: Duration,
    cells: Vec<Cell>,
}

/// One interval.
#[derive(Debug, Default)]
pub struct Cell {
    /// Turns that were planned in it.
    pub planned: u64,
    /// Failures.
    pub failed: u64,
    /// Not sent.
    pub dropped: u64,
    /// Most at once.
    pub in_flight: u64,
    /// Successes; none before the first.
    pub values: Option<Histogram<u32>>,
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A value.
    Ok(u64),
    /// A failure.
    Failed,
    /// Not sent.
    Dropped,
}

impl Cell {
    fn count(&mut self, what: What, in_flight: u64) {
        self.planned += 1;
        self.in_flight = self.in_flight.max(in_flight);
        match what {
            What::Ok(value) => {
                histogram::record(self.values.get_or_insert_with(histogram::empty), value);
            }
            What::Failed => self.failed += 1,
            What::Dropped => self.dropped += 1,
        }
    }

    fn merge(&mut self, other: Self) {
        self.planned += other.planned;
        self.failed += other.failed;
        self.dropped += other.dropped;
        self.in_flight = self.in_flight.max(other.in_flight);
        match (&mut self.values, other.values) {
            // Both grow by themselves, so nothing is refused.
            (Some(mine), Some(theirs)) => drop(mine.add(theirs)),
            (mine @ None, theirs) => *mine = theirs,
            (Some(_), None) => {}
        }
    }

    /// Successes.
    #[must_use]
    pub fn ok(&self) -> u64 {
        self.values.as_ref().map_or(0, Histogram::len)
    }
}

impl Timeline {
    /// An empty one, of intervals that begin with `length`, which is above zero.
    #[must_use]
    pub fn new(length: Duration) -> Self {
        Self {
            length: length.max(Duration::from_millis(1)),
            cells: Vec::new(),
        }
    }

    /// Counts a turn that was planned at `planned`.
    pub fn count(&mut self, planned: Duration, what: What, in_flight: u64) {
        while self.index(planned) >= MOST {
            self.halve();
        }
        let index = self.index(planned);
        while self.cells.len() <= index {
            self.cells.push(Cell::default());
        }
        if let Some(cell) = self.cells.get_mut(index) {
            cell.count(what, in_flight);
        }
    }

    fn index(&self, planned: Duration) -> usize {
        let index = planned.as_nanos() / self.length.as_nanos();
        usize::try_from(index).unwrap_or(usize::MAX)
    }

    fn halve(&mut self) {
        let mut halved: Vec<Cell> = Vec::with_capacity(MOST);
        for (index, cell) in std::mem::take(&mut self.cells).into_iter().enumerate() {
            match halved.last_mut() {
                Some(last) if index % 2 == 1 => last.merge(cell),
                _ => halved.push(cell),
            }
        }
        self.cells = halved;
        self.length = self.length.saturating_mul(2);
    }

    /// How long each interval is.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Intervals in order, without gaps.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// As reports hold it.
    #[must_use]
    pub fn intervals(&self) -> Vec<Interval> {
        let length_ns = u64::try_from(self.length.as_nanos()).unwrap_or(u64::MAX);
        let cells = self.cells.iter().zip(0u64..);
        cells
            .map(|(cell, index)| {
                let at = |q| cell.values.as_ref().map(|h| h.value_at_quantile(q));
                // Below a hundred samples the P99 is the greatest, by its rank.
                Interval {
                    at_ns: index.saturating_mul(length_ns),
                    length_ns,
                    planned: cell.planned,
                    ok: cell.ok(),
                    failed: cell.failed,
                    dropped: cell.dropped,
                    in_flight: cell.in_flight,
                    p50: at(0.5),
                    p99: at(0.99),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_lost_however_long_a_run_is(turns in prop::collection::vec((0u64..50_000_000, 0u8..3, 1u64..1000), 0..300)) {
            let mut timeline = Timeline::new(Duration::from_secs(1));
            for &(millis, what, value) in &turns {
                let what = [What::Ok(value), What::Failed, What::Dropped][usize::from(what)];
                timeline.count(Duration::from_millis(millis), what, value);
            }
            let intervals = timeline.intervals();
            prop_assert!(intervals.len() <= MOST);
            let sum = |of: fn(&Interval) -> u64| intervals.iter().map(of).sum::<u64>();
            let n = |what: u8| turns.iter().filter(|turn| turn.1 == what).count() as u64;
            prop_assert_eq!(sum(|i| i.planned), turns.len() as u64);
            prop_assert_eq!((sum(|i| i.ok), sum(|i| i.failed), sum(|i| i.dropped)), (n(0), n(1), n(2)));
            let most = turns.iter().map(|turn| turn.2).max().unwrap_or(0);
            prop_assert_eq!(intervals.iter().map(|i| i.in_flight).max().unwrap_or(0), most);
            for pair in intervals.windows(2) {
                prop_assert_eq!(pair[0].at_ns + pair[0].length_ns, pair[1].at_ns);
            }
            // Each is where it was planned.
            for &(millis, ..) in &turns {
                let at = millis * 1_000_000;
                prop_assert!(intervals.iter().any(|i| i.at_ns <= at && at < i.at_ns + i.length_ns && i.planned > 0));
            }
        }
    }
}
