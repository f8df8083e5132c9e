//! Memory of a process as the kernel counts it: proc_pid_smaps(5).
//!
//! Guest memory is told apart by address: it is as long as the guest has memory, and begins where the first byte of the
//! snapshot's memory file would be mapped. Both programs map that file at the place that its offset says; ours leaves pages
//! that were never touched to anonymous memory in between.

use std::fs;
use std::ops::Range;

use anyhow::{Context, Result};

use crate::commands::peers::record::ProcessMemory;

/// One mapping. Sizes in KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapping {
    addresses: Range<u64>,
    offset: u64,
    path: String,
    pss: u64,
    private: u64,
}

/// Reads the memory of process `id`, whose guest has `guest_bytes` from the file named `file`.
///
/// # Errors
/// When the process is gone, or maps no such file.
pub fn of(id: u32, file: &str, guest_bytes: u64) -> Result<ProcessMemory> {
    let text = fs::read_to_string(format!("/proc/{id}/smaps"))?;
    tell(&parse(&text), file, guest_bytes)
        .with_context(|| format!("process {id} maps no file {file}"))
}

/// Bytes that the host has available: `MemAvailable` of proc_meminfo(5).
///
/// # Errors
/// When it isn't said.
pub fn available() -> Result<u64> {
    meminfo("MemAvailable:")
}

/// A line of `/proc/meminfo`, in bytes.
///
/// # Errors
/// When it isn't there.
pub fn meminfo(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no {name} in /proc/meminfo"))? << 10)
}

fn parse(text: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        if let Some(mapping) = header(line) {
            mappings.push(mapping);
        } else if let (Some(last), Some((name, rest))) = (mappings.last_mut(), line.split_once(':'))
        {
            let kib = rest.split_whitespace().next().and_then(|n| n.parse().ok());
            match (name, kib) {
                ("Pss", Some(kib)) => last.pss = kib,
                ("Private_Clean" | "Private_Dirty" | "Private_Hugetlb", Some::<u64>(kib)) => {
                    last.private += kib;
                }
                _ => {}
            }
        }
    }
    mappings
}

/// `7f00-7f10 rw-p 00001000 00:17 42    /path` of a mapping; `None` for another line.
fn header(line: &str) -> Option<Mapping> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let hex = |digits| u64::from_str_radix(digits, 16).ok();
    let addresses = hex(start)?..hex(end)?;
    let offset = hex(words.nth(1)?)?;
    let path = words.skip(2).collect::<Vec<_>>().join(" ");
    Some(Mapping {
        addresses,
        offset,
        path,
        pss: 0,
        private: 0,
    })
}

fn tell(mappings: &[Mapping], file: &str, guest_bytes: u64) -> Option<ProcessMemory> {
    let is_guest_file = |m: &&Mapping| m.path.rsplit('/').next() == Some(file);
    let first = mappings.iter().find(is_guest_file)?;
    let start = first.addresses.start.checked_sub(first.offset)?;
    let guest = start..start + guest_bytes;
    let (inside, outside): (Vec<_>, Vec<_>) = mappings
        .iter()
        .partition(|m| guest.start < m.addresses.end && m.addresses.start < guest.end);
    let sum =
        |of: &[&Mapping], what: fn(&Mapping) -> u64| of.iter().map(|m| what(m)).sum::<u64>() << 10;
    let vmm_pss = sum(&outside, |m| m.pss);
    let vmm_private = sum(&outside, |m| m.private);
    Some(ProcessMemory {
        pss: vmm_pss + sum(&inside, |m| m.pss),
        private: vmm_private + sum(&inside, |m| m.private),
        vmm_pss,
        vmm_private,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
55d000000000-55d000100000 r-xp 00000000 00:17 11                         /dev/shm/a program
Rss:                 800 kB
Pss:                 100 kB
Pss_Dirty:             0 kB
Private_Clean:         8 kB
Private_Dirty:         4 kB
VmFlags: rd ex mr mw me
7f0000200000-7f0000300000 rw-p 00200000 00:17 12                         /dev/shm/t/memory.0
Pss:                  20 kB
Private_Dirty:        16 kB
7f0000000000-7f0000200000 rw-p 00000000 00:00 0
Pss:                  10 kB
Private_Dirty:        10 kB
7f0000300000-7f0000400000 rw-p 00000000 00:00 0                          [stack]
Pss:                   2 kB
Private_Dirty:         2 kB
";

    #[test]
    fn guest_memory_is_told_apart() {
        let told = tell(&parse(TEXT), "memory.0", 3 << 20).unwrap();
        let kib = |n: u64| n << 10;
        let want = ProcessMemory {
            pss: kib(132),
            private: kib(40),
            vmm_pss: kib(102),
            vmm_private: kib(14),
        };
        assert_eq!(told, want);
        assert_eq!(tell(&parse(TEXT), "memory", 3 << 20), None);
    }

    #[test]
    fn a_real_process_is_read() {
        let mine = parse(&fs::read_to_string("/proc/self/smaps").unwrap());
        assert!(mine.iter().any(|m| m.path == "[heap]"));
        assert!(mine.iter().map(|m| m.pss).sum::<u64>() > 100);
        assert!(available().unwrap() > 1 << 20);
    }
}
