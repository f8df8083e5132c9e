//! What a virtual CPU says about itself: KVM's list, with our topology and without what a guest has no use for.
//!
//! Rules:
//! 1. Features come from `KVM_GET_SUPPORTED_CPUID`; none is added but the ones KVM implements and leaves to us to
//!    announce (hypervisor bit, x2APIC, TSC deadline; Linux, Documentation/virt/kvm/api.rst).
//! 2. Nested virtualization, performance counters, MONITOR, SGX and power management are taken away.
//! 3. One package, one thread per core, APIC id = CPU index.
//! 4. The KVM leaves at 0x4000_0000 stay as they are: kvm-clock and paravirtual interrupts come from there.
//!
//! Leaf and bit numbers: Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use serde::{Deserialize, Serialize};

/// Which virtual CPU of which machine.
#[derive(Clone, Copy, Debug)]
pub struct Topology {
    /// Index of this CPU, also its APIC id.
    pub cpu: u8,
    /// Number of CPUs, at least one.
    pub cpus: u8,
    /// Whether KVM has a TSC deadline timer (KVM_CAP_TSC_DEADLINE_TIMER).
    pub tsc_deadline: bool,
}

impl Topology {
    /// Bits that tell cores apart in an APIC id.
    fn core_bits(self) -> u32 {
        u32::from(self.cpus).next_power_of_two().trailing_zeros()
    }
}

/// Leaves that are answered with zeros.
const EMPTY: [u32; 8] = [
    0x5,         // MONITOR
    0xa,         // performance counters, Intel
    0x12,        // SGX
    0x1f,        // topology, second form
    0x8000_000a, // SVM
    0x8000_001b, // instruction based sampling
    0x8000_0022, // performance counters, AMD
    0x8000_0026, // topology, AMD's extended form
];

/// What a snapshot's processor is recognised by. Two hosts with equal identities offer their guests the same features.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuIdentity {
    /// The vendor's twelve letters.
    pub vendor: String,
    /// Family, model and stepping (leaf 1, EAX).
    pub signature: u32,
    /// Who virtualizes (leaf 0x4000_0000).
    pub hypervisor: String,
    /// CRC-32 over all features of the first CPU.
    pub features: u32,
}

impl CpuIdentity {
    /// The identity of a CPU with these features.
    pub fn of(entries: &[kvm_cpuid_entry2]) -> Self {
        let leaf = |function| entries.iter().find(|entry| entry.function == function);
        let text = |words: [u32; 3]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let text = String::from_utf8_lossy(&bytes);
            text.trim_end_matches('\0').to_owned()
        };
        let mut crc = crc32fast::Hasher::new();
        for entry in entries {
            let words = [
                entry.function,
                entry.index,
                entry.eax,
                entry.ebx,
                entry.ecx,
                entry.edx,
            ];
            words
                .iter()
                .for_each(|word| crc.update(&word.to_le_bytes()));
        }
        Self {
            vendor: leaf(0).map_or_else(String::new, |leaf| text([leaf.ebx, leaf.edx, leaf.ecx])),
            signature: leaf(1).map_or(0, |leaf| leaf.eax),
            hypervisor: leaf(0x4000_0000)
                .map_or_else(String::new, |leaf| text([leaf.ebx, leaf.ecx, leaf.edx])),
            features: crc.finalize(),
        }
    }
}

/// Makes the list for one CPU out of what KVM supports.
pub fn filter(supported: &[kvm_cpuid_entry2], topology: Topology) -> Vec<kvm_cpuid_entry2> {
    let mut entries: Vec<_> = supported
        .iter()
        .filter(|entry| !EMPTY.contains(&entry.function) && entry.function != 0xb)
        .copied()
        .collect();
    for entry in &mut entries {
        adjust(entry, topology);
    }
    let max_leaf = supported
        .iter()
        .find(|entry| entry.function == 0)
        .map_or(0, |entry| entry.eax);
    if max_leaf >= 0xb {
        entries.extend(extended_topology(topology));
    }
    entries
}

fn adjust(entry: &mut kvm_cpuid_entry2, topology: Topology) {
    let cpu = u32::from(topology.cpu);
    let others = u32::from(topology.cpus.saturating_sub(1));
    let clear = |word: &mut u32, bits: &[u32]| bits.iter().for_each(|bit| *word &= !(1 << bit));
    match entry.function {
        0x1 => {
            let logical = 1 << topology.core_bits();
            entry.ebx = (entry.ebx & 0xffff) | (logical << 16) | (cpu << 24);
            // DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, PDCM
            clear(&mut entry.ecx, &[2, 3, 4, 5, 6, 7, 8, 15]);
            set(&mut entry.ecx, 31, true);
            set(&mut entry.ecx, 21, true);
            set(&mut entry.ecx, 24, topology.tsc_deadline);
            // DS, ACPI thermal, TM, PBE
            clear(&mut entry.edx, &[21, 22, 29, 31]);
            set(&mut entry.edx, 28, others > 0);
        }
        0x4 | 0x8000_001d => {
            let level = entry.eax >> 5 & 7;
            let sharing = if level >= 3 { others } else { 0 };
            entry.eax = (entry.eax & !(0xfff << 14)) | (sharing << 14);
            if entry.function == 0x4 && entry.eax & 0x1f != 0 {
                let cores = (1u32 << topology.core_bits()) - 1;
                entry.eax = (entry.eax & !(0x3f << 26)) | (cores.min(0x3f) << 26);
            }
        }
        // Of thermal and power management only "the APIC timer always runs" stays.
        0x6 => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (entry.eax & 1 << 2, 0, 0, 0),
        0x7 if entry.index == 0 => {
            clear(&mut entry.ebx, &[2]);
            clear(&mut entry.ecx, &[30]);
        }
        0x8000_0001 => {
            // SVM, IBS, SKINIT, WDT, NODEID_MSR, PERFCTR_CORE, PERFCTR_NB, PERFCTR_LLC
            clear(&mut entry.ecx, &[2, 10, 12, 13, 19, 23, 24, 28]);
            set(&mut entry.ecx, 1, others > 0);
        }
        0x8000_0008 => entry.ecx = others | topology.core_bits() << 12,
        0x8000_001e => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (cpu, cpu, 0, 0),
        _ => {}
    }
}

/// Leaf 0xb: one thread per core, then the cores of the package, then nothing.
fn extended_topology(topology: Topology) -> [kvm_cpuid_entry2; 3] {
    let level = |index: u32, kind: u32, shift: u32, count: u32| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: index | kind << 8,
        edx: u32::from(topology.cpu),
        padding: [0; 3],
    };
    let cores = u32::from(topology.cpus);
    [
        level(0, 1, 0, 1),
        level(1, 2, topology.core_bits(), cores),
        level(2, 0, 0, 0),
    ]
}

fn set(word: &mut u32, bit: u32, on: bool) {
    *word = (*word & !(1 << bit)) | (u32::from(on) << bit);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(function: u32, ones: bool) -> kvm_cpuid_entry2 {
        let word = if ones { u32::MAX } else { 0 };
        kvm_cpuid_entry2 {
            function,
            eax: word,
            ebx: word,
            ecx: word,
            edx: word,
            ..Default::default()
        }
    }

    fn full() -> Vec<kvm_cpuid_entry2> {
        let leaves = [0, 1, 4, 5, 6, 7, 0xa, 0xb, 0xd, 0x12, 0x1f];
        let extended = [
            0x4000_0000,
            0x4000_0001,
            0x8000_0001,
            0x8000_0008,
            0x8000_000a,
            0x8000_001e,
        ];
        leaves
            .into_iter()
            .chain(extended)
            .map(|function| entry(function, true))
            .collect()
    }

    fn leaf(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> Option<kvm_cpuid_entry2> {
        entries
            .iter()
            .find(|e| e.function == function && (function != 0xb || e.index == index))
            .copied()
    }

    const TOPOLOGY: Topology = Topology {
        cpu: 2,
        cpus: 3,
        tsc_deadline: true,
    };

    #[test]
    fn nested_virtualization_and_counters_are_hidden() {
        let entries = filter(&full(), TOPOLOGY);
        assert_eq!(leaf(&entries, 1, 0).unwrap().ecx & (1 << 5), 0, "VMX");
        assert_eq!(
            leaf(&entries, 0x8000_0001, 0).unwrap().ecx & (1 << 2),
            0,
            "SVM"
        );
        for hidden in EMPTY {
            assert!(leaf(&entries, hidden, 0).is_none(), "{hidden:#x}");
        }
    }

    #[test]
    fn kvm_leaves_stay() {
        let entries = filter(&full(), TOPOLOGY);
        assert_eq!(leaf(&entries, 0x4000_0001, 0).unwrap().eax, u32::MAX);
    }

    #[test]
    fn announced_features_are_set_even_when_kvm_leaves_them_out() {
        let entries = filter(&[entry(1, false)], TOPOLOGY);
        let ecx = leaf(&entries, 1, 0).unwrap().ecx;
        assert_eq!(ecx, 1 << 31 | 1 << 24 | 1 << 21);
        let without = Topology {
            tsc_deadline: false,
            ..TOPOLOGY
        };
        let entries = filter(&[entry(1, true)], without);
        assert_eq!(leaf(&entries, 1, 0).unwrap().ecx & 1 << 24, 0);
    }

    #[test]
    fn every_topology_leaf_tells_the_same() {
        let entries = filter(&full(), TOPOLOGY);
        assert_eq!(leaf(&entries, 1, 0).unwrap().ebx >> 16, 2 << 8 | 4);
        let cores = leaf(&entries, 0xb, 1).unwrap();
        assert_eq!(
            (cores.eax, cores.ebx, cores.ecx, cores.edx),
            (2, 3, 1 | 2 << 8, 2)
        );
        assert_eq!(leaf(&entries, 0x8000_0008, 0).unwrap().ecx, 2 | 2 << 12);
        assert_eq!(leaf(&entries, 0x8000_001e, 0).unwrap().eax, 2);
    }

    #[test]
    fn one_cpu_is_not_a_multiprocessor() {
        let entries = filter(
            &full(),
            Topology {
                cpu: 0,
                cpus: 1,
                tsc_deadline: true,
            },
        );
        assert_eq!(leaf(&entries, 1, 0).unwrap().edx & (1 << 28), 0);
        assert_eq!(leaf(&entries, 0xb, 1).unwrap().eax, 0);
    }

    proptest! {
        #[test]
        fn any_list_is_filtered_without_adding_leaves(
            leaves in prop::collection::vec((any::<u32>(), 0u32..4, any::<[u32; 4]>()), 0..40),
            cpus in 1u8..=255, cpu in any::<u8>(),
        ) {
            let supported: Vec<_> = leaves.into_iter().map(|(function, index, [eax, ebx, ecx, edx])| kvm_cpuid_entry2 {
                function, index, eax, ebx, ecx, edx, ..Default::default()
            }).collect();
            let filtered = filter(&supported, Topology { cpu, cpus, tsc_deadline: true });
            prop_assert!(filtered.len() <= supported.len() + 3);
        }
    }
}
