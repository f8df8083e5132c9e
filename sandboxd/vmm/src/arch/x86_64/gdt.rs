//! Segment descriptors, as bits and as KVM wants them (Intel SDM volume 3, 3.4.5).

use kvm_bindings::kvm_segment;

/// One descriptor by its parts; `flags` holds access byte and flags nibble as in the upper half of the descriptor.
#[derive(Clone, Copy)]
pub struct Descriptor {
    flags: u16,
    base: u32,
    limit: u32,
}

impl Descriptor {
    /// A descriptor from its 12 flag bits, base, and 20-bit limit.
    pub const fn new(flags: u16, base: u32, limit: u32) -> Self {
        Self { flags, base, limit }
    }

    /// The eight bytes in memory.
    pub fn bits(self) -> u64 {
        let (flags, base, limit) = (
            u64::from(self.flags),
            u64::from(self.base),
            u64::from(self.limit),
        );
        ((base & 0xff00_0000) << 32)
            | ((flags & 0xf0ff) << 40)
            | ((limit & 0x000f_0000) << 32)
            | ((base & 0x00ff_ffff) << 16)
            | (limit & 0xffff)
    }

    /// The same as a loaded segment register at place `index` of the table.
    pub fn segment(self, index: u16) -> kvm_segment {
        let bit = |at: u16| u8::from(self.flags >> at & 1 == 1);
        let low_nibble = self.flags.to_le_bytes()[0] & 0xf;
        let scale = if bit(15) == 1 {
            (self.limit << 12) | 0xfff
        } else {
            self.limit
        };
        kvm_segment {
            base: u64::from(self.base),
            limit: scale,
            selector: index * 8,
            type_: low_nibble,
            s: bit(4),
            dpl: self.flags.to_le_bytes()[0] >> 5 & 3,
            present: bit(7),
            avl: bit(12),
            l: bit(13),
            db: bit(14),
            g: bit(15),
            unusable: u8::from(bit(7) == 0),
            padding: 0,
        }
    }
}

/// Null, 64-bit code, data, task state: the table at the first instruction.
pub const TABLE: [Descriptor; 4] = [
    Descriptor::new(0, 0, 0),
    Descriptor::new(0xa09b, 0, 0xf_ffff),
    Descriptor::new(0xc093, 0, 0xf_ffff),
    Descriptor::new(0x808b, 0, 0xf_ffff),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_the_manual_says() {
        assert_eq!(TABLE[1].bits(), 0x00af_9b00_0000_ffff);
        assert_eq!(TABLE[2].bits(), 0x00cf_9300_0000_ffff);
        assert_eq!(
            Descriptor::new(0x0093, 0x1234_5678, 0xabcde).bits(),
            0x120a_9334_5678_bcde
        );
    }

    #[test]
    fn segments_agree_with_the_bits() {
        let code = TABLE[1].segment(1);
        assert_eq!(
            (code.selector, code.type_, code.s, code.l, code.db, code.g),
            (8, 0xb, 1, 1, 0, 1)
        );
        assert_eq!(code.limit, u32::MAX);
        assert_eq!((code.present, code.unusable, code.dpl), (1, 0, 0));
        let null = TABLE[0].segment(0);
        assert_eq!((null.present, null.unusable), (0, 1));
    }
}
