//! Memory of a process as the kernel counts it: proc_pid_smaps(5).
//!
//! Guest memory is told apart by its size: neighbouring mappings are one run, and the longest run that is at least as long as the
//! guest's memory is the guest's. What lies outside of it is the VMM's own.

/// Memory of one process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Proportional set, guest memory included.
    pub pss: u64,
    /// Pages of its own that were written.
    pub private_dirty: u64,
    /// Proportional set without guest memory.
    pub vmm_pss: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Run {
    start: u64,
    end: u64,
    pss: u64,
}

/// Reads the text of `smaps`; `None` where no run is as long as `guest_bytes`: a process without a guest.
#[must_use]
pub fn memory(smaps: &str, guest_bytes: u64) -> Option<Memory> {
    let mut runs: Vec<Run> = Vec::new();
    let mut all = Memory::default();
    for line in smaps.lines() {
        if let Some((start, end)) = header(line) {
            match runs.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => runs.push(Run { start, end, pss: 0 }),
            }
        } else if let Some(bytes) = kib(line, "Pss:") {
            all.pss = all.pss.saturating_add(bytes);
            if let Some(run) = runs.last_mut() {
                run.pss = run.pss.saturating_add(bytes);
            }
        } else if let Some(bytes) = kib(line, "Private_Dirty:") {
            all.private_dirty = all.private_dirty.saturating_add(bytes);
        }
    }
    let guest = runs.iter().max_by_key(|run| run.end - run.start)?;
    (guest.end - guest.start >= guest_bytes).then_some(Memory {
        vmm_pss: all.pss - guest.pss,
        ..all
    })
}

/// `7f00-7f10 rw-p …` of a mapping.
fn header(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let hex = |digits| u64::from_str_radix(digits, 16).ok();
    let (start, end) = (hex(start)?, hex(end)?);
    (start < end).then_some((start, end))
}

/// A line's figure in bytes.
#[must_use]
pub fn kib(line: &str, name: &str) -> Option<u64> {
    let rest = line.strip_prefix(name)?;
    rest.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
55d000000000-55d000100000 r-xp 00000000 00:17 11   /dev/shm/a program
Pss:                 100 kB
Pss_Dirty:             7 kB
Private_Dirty:         4 kB
7f0000000000-7f0000200000 rw-p 00000000 00:00 0
Pss:                  10 kB
Private_Dirty:        10 kB
7f0000200000-7f0000400000 rw-p 00200000 00:17 12   /x/memory.0
Pss:                  20 kB
Private_Dirty:        16 kB
7ffd00000000-7ffd00010000 rw-p 00000000 00:00 0    [stack]
Pss:                   2 kB
Private_Dirty:         2 kB
";

    #[test]
    fn the_guest_is_told_apart() {
        let found = memory(TEXT, 4 << 20).unwrap();
        let want = Memory {
            pss: 132 << 10,
            private_dirty: 32 << 10,
            vmm_pss: 102 << 10,
        };
        assert_eq!(found, want);
        assert_eq!(memory(TEXT, 5 << 20), None);
    }

    #[test]
    fn this_process_is_read() {
        let mine = std::fs::read_to_string("/proc/self/smaps").unwrap();
        assert!(memory(&mine, 1).unwrap().pss > 100 << 10);
    }

    #[test]
    fn figures_beyond_all_memory_are_survived() {
        let line = format!("Pss: {} kB\n", u64::MAX / 1024);
        let text = format!("1-2 rw-p\n{line}{line}3-9 rw-p\n{line}");
        let found = memory(&text, 1).unwrap();
        assert_eq!(found.pss, u64::MAX);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "([0-9a-f-]{0,20} |Pss: |[0-9]{0,25} kB|\n){0,40}") {
            let _ = memory(&text, 1);
        }
    }
}
