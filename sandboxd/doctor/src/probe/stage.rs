//! The stages of the probe guest: number, name, what they try, what it means when they fail.

use std::fmt;

/// One thing the guest tries. The number is what the guest sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// 64-bit mode with paging.
    LongMode = 1,
    /// Own GDT, IDT and TSS.
    Tables = 2,
    /// `int3` to a handler and back.
    Breakpoint = 3,
    /// `swapgs` between user and kernel GS base.
    SwapGs = 4,
    /// `iretq` to CPL 3 and back through an interrupt gate.
    UserMode = 5,
    /// `syscall` from CPL 3 to CPL 0, `sysret` back.
    Syscall = 6,
    /// One-shot LAPIC timer in a halted kernel.
    Timer = 7,
    /// TSC-deadline LAPIC timer.
    TscDeadline = 8,
    /// LAPIC timer that interrupts user code.
    Preemption = 9,
    /// `xsave` and `xrstor`.
    Xsave = 10,
    /// `cmpxchg16b`.
    Cmpxchg16b = 11,
    /// `popcnt`.
    Popcnt = 12,
    /// `clac` and `stac`.
    Smap = 13,
}

impl Stage {
    /// All stages in the order the guest tries them.
    pub const ALL: [Self; 13] = [
        Self::LongMode,
        Self::Tables,
        Self::Breakpoint,
        Self::SwapGs,
        Self::UserMode,
        Self::Syscall,
        Self::Timer,
        Self::TscDeadline,
        Self::Preemption,
        Self::Xsave,
        Self::Cmpxchg16b,
        Self::Popcnt,
        Self::Smap,
    ];

    /// The stage with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage as u8 == number)
    }

    /// Whether nothing after it can run without it.
    #[must_use]
    pub fn is_foundation(self) -> bool {
        matches!(self, Self::LongMode | Self::Tables)
    }

    /// What passing shows.
    #[must_use]
    pub fn passing(self) -> &'static str {
        match self {
            Self::LongMode => "64-bit mode with paging is on",
            Self::Tables => "GDT, IDT and TSS loaded",
            Self::Breakpoint => "int3 reached its handler and returned",
            Self::SwapGs => "the kernel GS base was reached through swapgs",
            Self::UserMode => "iretq to CPL 3, back to CPL 0 through a gate",
            Self::Syscall => "syscall arrived in CPL 0, sysret returned to CPL 3",
            Self::Timer => "the LAPIC timer woke a halted CPU",
            Self::TscDeadline => "the TSC deadline timer fired",
            Self::Preemption => "the timer interrupted user code",
            Self::Xsave => "a register survived xsave and xrstor",
            Self::Cmpxchg16b => "16 bytes exchanged atomically",
            Self::Popcnt => "popcnt counted",
            Self::Smap => "clac and stac executed",
        }
    }

    /// Why a stock kernel needs it.
    #[must_use]
    pub fn purpose(self) -> &'static str {
        match self {
            Self::LongMode => "Guest kernels are 64-bit",
            Self::Tables => "Every kernel loads its own descriptor tables first",
            Self::Breakpoint => "Kernels patch their text through int3",
            Self::SwapGs => "Every kernel entry finds its per-CPU data this way",
            Self::UserMode => "Without it there are no user programs",
            Self::Syscall => "Every system call of every user program enters the kernel this way",
            Self::Timer => "Without it nothing times out and idle never ends",
            Self::TscDeadline => "The cheapest timer a guest can have",
            Self::Preemption => "Without it one busy program holds the CPU for ever",
            Self::Xsave => "Kernels switch vector registers with it",
            Self::Cmpxchg16b => "Kernel allocators rely on it",
            Self::Popcnt => "Kernels and user programs use it wherever the CPU lists it",
            Self::Smap => "Kernels bracket each access to user memory with it",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LongMode => "long-mode",
            Self::Tables => "tables",
            Self::Breakpoint => "breakpoint",
            Self::SwapGs => "swapgs",
            Self::UserMode => "user-mode",
            Self::Syscall => "syscall",
            Self::Timer => "timer",
            Self::TscDeadline => "tsc-deadline",
            Self::Preemption => "preemption",
            Self::Xsave => "xsave",
            Self::Cmpxchg16b => "cmpxchg16b",
            Self::Popcnt => "popcnt",
            Self::Smap => "smap",
        })
    }
}

/// A set of stages, as the mask the guest reads: bit n is stage n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageSet(u32);

impl StageSet {
    /// The mask for the guest.
    #[must_use]
    pub fn mask(self) -> u32 {
        self.0
    }

    /// Whether no stage is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the stage is in it.
    #[must_use]
    pub fn contains(self, stage: Stage) -> bool {
        self.0 & 1 << stage as u8 != 0
    }
}

impl FromIterator<Stage> for StageSet {
    fn from_iter<I: IntoIterator<Item = Stage>>(stages: I) -> Self {
        Self(
            stages
                .into_iter()
                .fold(0, |mask, stage| mask | 1 << stage as u8),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_order_and_reversible() {
        assert!(Stage::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        for stage in Stage::ALL {
            assert_eq!(Stage::from_number(stage as u8), Some(stage));
        }
        assert_eq!(Stage::from_number(0), None);
        assert_eq!(Stage::from_number(14), None);
    }

    #[test]
    fn sets() {
        let set: StageSet = [Stage::LongMode, Stage::Smap].into_iter().collect();
        assert_eq!(set.mask(), 0b10_0000_0000_0010);
        assert!(set.contains(Stage::Smap) && !set.contains(Stage::Timer));
        assert!(StageSet::default().is_empty());
    }
}
