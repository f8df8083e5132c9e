//! A rate that swings about a mean, as days do.
//!
//! With r(t) = m + A·sin(2πt/p), the number of arrivals up to t is N(t) = m·t + A·p/(2π)·(1 − cos(2πt/p)). It never falls while
//! A ≤ m, so arrival k is found by halving.

use std::f64::consts::TAU;
use std::time::Duration;

use super::{Pacer, float, seconds};

/// Halvings: enough to bring any search down to less than a nanosecond.
const STEPS: usize = 80;

/// The pacer.
#[derive(Debug, Clone, Copy)]
pub struct Sine {
    mean: f64,
    amplitude: f64,
    period: f64,
}

impl Sine {
    /// `mean` arrivals a second (above 0), up and down by `amplitude` (0 to `mean`) once in each `period`.
    #[must_use]
    pub fn new(mean: f64, amplitude: f64, period: Duration) -> Self {
        Self {
            mean,
            amplitude: amplitude.clamp(0.0, mean),
            period: period.as_secs_f64(),
        }
    }

    fn arrivals(&self, t: f64) -> f64 {
        let swing = self.amplitude * self.period / TAU;
        self.mean * t + swing * (1.0 - (TAU * t / self.period).cos())
    }
}

impl Pacer for Sine {
    fn due(&mut self, sent: u64) -> Option<Duration> {
        let k = float(sent);
        // The swing adds between nothing and twice its size.
        let mut high = k / self.mean;
        let mut low = (high - self.amplitude * self.period / TAU * 2.0 / self.mean).max(0.0);
        for _ in 0..STEPS {
            let middle = f64::midpoint(low, high);
            if self.arrivals(middle) < k {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(seconds(high))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_half_of_a_period_has_what_the_swing_adds() {
        let mut pacer = Sine::new(100.0, 50.0, Duration::from_secs(10));
        let before = |pacer: &mut Sine, seconds| {
            (0..)
                .take_while(|&k| pacer.due(k).unwrap() < Duration::from_secs(seconds))
                .count()
        };
        // 500 + 50·10/π = 659.15, and a whole period comes out even.
        assert_eq!(before(&mut pacer, 5), 660);
        assert!(before(&mut pacer, 10).abs_diff(1000) <= 1);
    }

    #[test]
    fn without_a_swing_it_is_constant() {
        let mut pacer = Sine::new(8.0, 0.0, Duration::from_secs(1));
        let off = pacer.due(12).unwrap().abs_diff(Duration::from_millis(1500));
        assert!(off < Duration::from_micros(1), "{off:?}");
    }
}
