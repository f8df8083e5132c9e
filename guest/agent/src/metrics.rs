//! Resource use of the guest, for envd `GET /metrics` and the control operation `metrics`.
//!
//! Figures come from `/proc/stat`, `/proc/meminfo` (proc(5)) and statvfs of the root. Parsing and arithmetic are pure;
//! [`Sampler`] remembers the processor times of the previous reading, since use is a difference.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use agent_protocol::control::Metrics;

const MIB: u64 = 1 << 20;

/// Reads the guest's resource use.
#[derive(Debug)]
pub struct Sampler {
    disk: PathBuf,
    previous: Mutex<CpuTimes>,
}

impl Sampler {
    /// A sampler; `disk` is a path on the file system whose size is reported.
    pub fn new(disk: impl Into<PathBuf>) -> Self {
        Self {
            disk: disk.into(),
            previous: Mutex::default(),
        }
    }

    /// One reading. Processor use is since the previous reading, at the first one since boot.
    #[must_use]
    pub fn read(&self) -> Metrics {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let (now, cpu_count) = parse_stat(&text("/proc/stat"));
        let previous = {
            let mut guard = self.previous.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *guard, now)
        };
        let memory = parse_meminfo(&text("/proc/meminfo"));
        let (disk_used, disk_total) = rustix::fs::statvfs(&self.disk).map_or((0, 0), |stat| {
            let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
            (
                bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
                bytes(stat.f_blocks),
            )
        });
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |age| age.as_secs());
        Metrics {
            ts: i64::try_from(seconds).unwrap_or(i64::MAX),
            cpu_count,
            cpu_used_pct: now.used_percent_since(previous),
            mem_total: memory.total,
            mem_used: memory.used(),
            mem_cache: memory.cache,
            mem_total_mib: memory.total / MIB,
            mem_used_mib: memory.used() / MIB,
            disk_used,
            disk_total,
        }
    }
}

/// Processor times in clock ticks, all processors together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CpuTimes {
    busy: u64,
    idle: u64,
}

impl CpuTimes {
    /// Use between two readings, 0 to 100, with two decimals.
    fn used_percent_since(self, previous: Self) -> f32 {
        let busy = self.busy.saturating_sub(previous.busy);
        let total = busy.saturating_add(self.idle.saturating_sub(previous.idle));
        if total == 0 {
            return 0.0;
        }
        let hundredths = (u128::from(busy) * 10_000 / u128::from(total)).min(10_000);
        f32::from(u16::try_from(hundredths).unwrap_or(10_000)) / 100.0
    }
}

/// Times of the line `cpu` (user nice system idle iowait irq softirq steal …), and the number of lines `cpu<n>`.
fn parse_stat(text: &str) -> (CpuTimes, u32) {
    let mut times = CpuTimes::default();
    let mut count = 0;
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(name) = fields.next() else { continue };
        if name == "cpu" {
            // Guest time is already part of user time: only the first eight fields count.
            for (index, field) in fields.take(8).enumerate() {
                let ticks = field.parse::<u64>().unwrap_or(0);
                let sum = if matches!(index, 3 | 4) {
                    &mut times.idle
                } else {
                    &mut times.busy
                };
                *sum = sum.saturating_add(ticks);
            }
        } else if name
            .strip_prefix("cpu")
            .is_some_and(|n| n.parse::<u32>().is_ok())
        {
            count += 1;
        }
    }
    (times, count)
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    total: u64,
    free: u64,
    cache: u64,
}

impl Memory {
    fn used(self) -> u64 {
        self.total
            .saturating_sub(self.free)
            .saturating_sub(self.cache)
    }
}

/// Cache is what the kernel gives back on demand: buffers, page cache without shared memory, reclaimable slab.
fn parse_meminfo(text: &str) -> Memory {
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|rest| {
                rest.trim()
                    .trim_end_matches("kB")
                    .trim()
                    .parse::<u64>()
                    .ok()
            })
            .map_or(0, |kib| kib.saturating_mul(1024))
    };
    let cache = [value("Buffers"), value("Cached"), value("SReclaimable")]
        .into_iter()
        .fold(0, u64::saturating_add)
        .saturating_sub(value("Shmem"));
    Memory {
        total: value("MemTotal"),
        free: value("MemFree"),
        cache,
    }
}

/// Memory of the guest in bytes.
#[must_use]
pub fn total_memory() -> u64 {
    parse_meminfo(&fs::read_to_string("/proc/meminfo").unwrap_or_default()).total
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAT: &str = "cpu  10 5 20 100 40 1 2 3 9 9\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\ncpufreq 1\n";
    const MEMINFO: &str = "MemTotal:  1000 kB\nMemFree: 300 kB\nMemAvailable: 1 kB\nBuffers: 10 kB\n\
        Cached: 200 kB\nSwapCached: 7 kB\nShmem: 20 kB\nSReclaimable: 30 kB\n";

    #[test]
    fn processor_times_are_summed() {
        assert_eq!(
            parse_stat(STAT),
            (
                CpuTimes {
                    busy: 41,
                    idle: 140
                },
                2
            )
        );
    }

    #[test]
    fn memory_use_leaves_out_the_cache() {
        let memory = parse_meminfo(MEMINFO);
        assert_eq!(
            memory,
            Memory {
                total: 1000 << 10,
                free: 300 << 10,
                cache: 220 << 10
            }
        );
        assert_eq!(memory.used(), 480 << 10);
    }

    #[test]
    fn use_is_a_difference() {
        let (a, b) = (
            CpuTimes { busy: 10, idle: 90 },
            CpuTimes {
                busy: 35,
                idle: 165,
            },
        );
        assert!((b.used_percent_since(a) - 25.0).abs() < 0.001);
        assert!(a.used_percent_since(a).abs() < 0.001);
    }

    #[test]
    fn a_reading_of_this_machine_makes_sense() {
        let metrics = Sampler::new("/").read();
        assert!(metrics.cpu_count >= 1 && metrics.mem_total > metrics.mem_used);
        assert!(metrics.disk_total >= metrics.disk_used && metrics.disk_total > 0);
        assert!((0.0..=100.0).contains(&metrics.cpu_used_pct));
    }

    proptest! {
        #[test]
        fn percent_is_a_percentage(a: u64, b: u64, c: u64, d: u64) {
            let percent = CpuTimes { busy: a, idle: b }
                .used_percent_since(CpuTimes { busy: c, idle: d });
            prop_assert!((0.0..=100.0).contains(&percent));
        }

        #[test]
        fn parsers_never_panic(text in "(cpu|Cached:|MemTotal:|[0-9 \n]|kB){0,60}") {
            let _ = parse_stat(&text);
            let _ = parse_meminfo(&text).used();
        }
    }
}
