//! What measuring itself takes: a client that is busy measures itself.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use reports::model::load::Client;

/// A reading.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    at: Instant,
    user: Duration,
    system: Duration,
    steal: Option<Duration>,
}

impl Usage {
    /// Reads now.
    #[must_use]
    pub fn now() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        let time = |of: Option<TimeVal>| of.map_or(Duration::ZERO, duration);
        Self {
            at: Instant::now(),
            user: time(usage.map(|usage| usage.user_time())),
            system: time(usage.map(|usage| usage.system_time())),
            steal: steal(&std::fs::read_to_string("/proc/stat").unwrap_or_default()),
        }
    }

    /// What was taken since.
    #[must_use]
    pub fn since(&self, delay: &Histogram<u64>) -> Client {
        let now = Self::now();
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let at = |q| (!delay.is_empty()).then(|| delay.value_at_quantile(q));
        Client {
            cpu_user_ns: nanos(now.user.saturating_sub(self.user)),
            cpu_system_ns: nanos(now.system.saturating_sub(self.system)),
            wall_ns: nanos(now.at - self.at),
            rss_peak_bytes: peak(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()),
            send_delay_p50_ns: at(0.5),
            send_delay_p99_ns: at(0.99),
            steal_ns: now
                .steal
                .zip(self.steal)
                .map(|(now, then)| nanos(now.saturating_sub(then))),
        }
    }
}

fn duration(time: TimeVal) -> Duration {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
}

/// Time that the hypervisor took from all processors, of `/proc/stat`: its eighth figure, in hundredths of a second.
#[must_use]
pub fn steal(stat: &str) -> Option<Duration> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: u64 = line.split_whitespace().nth(7)?.parse().ok()?;
    Some(Duration::from_millis(ticks.saturating_mul(10)))
}

/// Most resident memory, of `/proc/self/status`.
fn peak(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_read() {
        assert_eq!(
            steal("cpu  1 2 3 4 5 6 7 80 9 0\ncpu0 1"),
            Some(Duration::from_millis(800))
        );
        assert_eq!(steal("cpu 1"), None);
        assert_eq!(peak("Name: x\nVmHWM:\t  2048 kB\n"), 2 << 20);
    }

    #[test]
    fn work_is_seen() {
        let before = Usage::now();
        let mut sum = 0u64;
        while before.at.elapsed() < Duration::from_millis(60) {
            sum = std::hint::black_box(sum + 1);
        }
        let taken = before.since(&crate::record::histogram::empty());
        assert!(
            taken.cpu_user_ns + taken.cpu_system_ns > 1_000_000,
            "{taken:?}"
        );
        assert!(taken.rss_peak_bytes > 1 << 20 && taken.send_delay_p50_ns.is_none());
    }
}
