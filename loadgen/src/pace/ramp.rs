//! A rate that changes evenly from one value to another, and ends there.
//!
//! With r(t) = a + (b − a)·t/d, the number of arrivals up to t is N(t) = a·t + (b − a)·t²/(2d); arrival k is due where N(t) = k.

use std::time::Duration;

use super::{Pacer, float, seconds};

/// The pacer.
#[derive(Debug, Clone, Copy)]
pub struct Ramp {
    from: f64,
    to: f64,
    over: f64,
}

impl Ramp {
    /// From `from` to `to` arrivals a second during `over`. Rates are 0 or more, one above 0.
    #[must_use]
    pub fn new(from: f64, to: f64, over: Duration) -> Self {
        Self {
            from,
            to,
            over: over.as_secs_f64(),
        }
    }
}

impl Pacer for Ramp {
    fn due(&mut self, sent: u64) -> Option<Duration> {
        let k = float(sent);
        if k >= (self.from + self.to) / 2.0 * self.over {
            return None;
        }
        // The root of c·t² + a·t − k that stays finite when c goes to 0; clipped, for k close to the end rounds beyond it.
        let c = (self.to - self.from) / (2.0 * self.over);
        let under = (self.from * self.from + 4.0 * c * k).max(0.0);
        let below = self.from + under.sqrt();
        let t = if below > 0.0 { 2.0 * k / below } else { 0.0 };
        Some(seconds(t.min(self.over)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_before(pacer: &mut Ramp, seconds: u64) -> usize {
        (0..)
            .map_while(|k| pacer.due(k))
            .take_while(|&due| due < Duration::from_secs(seconds))
            .count()
    }

    #[test]
    fn half_of_the_way_up_a_quarter_has_been_sent() {
        let mut up = Ramp::new(0.0, 100.0, Duration::from_secs(20));
        assert_eq!(count_before(&mut up, 10), 250);
        assert_eq!(count_before(&mut up, 21), 1000);
        assert_eq!(up.due(1000), None);
    }

    #[test]
    fn down_it_is_three_quarters() {
        let mut down = Ramp::new(100.0, 0.0, Duration::from_secs(20));
        assert_eq!(count_before(&mut down, 10), 750);
        assert_eq!(count_before(&mut down, 21), 1000);
    }

    #[test]
    fn level_is_constant() {
        let mut level = Ramp::new(4.0, 4.0, Duration::from_secs(2));
        assert_eq!(level.due(6), Some(Duration::from_millis(1500)));
        assert_eq!(level.due(8), None);
    }
}
