//! The header before every vsock packet (Virtio 1.2, 5.10.6): 44 bytes, little-endian.
//!
//! ```text
//!   0 src_cid u64 │ 8 dst_cid u64 │ 16 src_port u32 │ 20 dst_port u32 │ 24 len u32 │ 28 type u16 │ 30 op u16
//!   32 flags u32 │ 36 buf_alloc u32 │ 40 fwd_cnt u32
//! ```

/// Bytes of a header.
pub const HEADER_BYTES: usize = 44;
/// [`HEADER_BYTES`] as an offset in a chain.
pub const HEADER_LEN: u32 = 44;
/// Packet type of a stream socket, the only one there is without further features.
pub const TYPE_STREAM: u16 = 1;
/// In [`Header::flags`] of a shutdown: the sender will receive nothing more.
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// In [`Header::flags`] of a shutdown: the sender will send nothing more.
pub const SHUTDOWN_SEND: u32 = 2;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Op {
    /// Asks for a connection.
    Request = 1,
    /// Grants one.
    Response = 2,
    /// Ends or refuses one at once.
    Reset = 3,
    /// Ends one or both directions.
    Shutdown = 4,
    /// Carries data.
    Data = 5,
    /// Tells how much the sender can take.
    CreditUpdate = 6,
    /// Asks for a credit update.
    CreditRequest = 7,
}

impl Op {
    /// The operation with this number, if there is one.
    pub fn from_raw(raw: u16) -> Option<Self> {
        Some(match raw {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }
}

/// A packet header, as it was sent: nothing in it has been checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Address of the sender.
    pub src_cid: u64,
    /// Address of the receiver.
    pub dst_cid: u64,
    /// Port of the sender.
    pub src_port: u32,
    /// Port of the receiver.
    pub dst_port: u32,
    /// Bytes of data behind the header.
    pub len: u32,
    /// Socket type.
    pub kind: u16,
    /// Number of the operation.
    pub op: u16,
    /// Depends on the operation.
    pub flags: u32,
    /// Bytes of buffer that the sender has for this connection.
    pub buf_alloc: u32,
    /// Bytes that the sender's user has taken from that buffer so far, modulo 2^32.
    pub fwd_cnt: u32,
}

impl Header {
    /// Reads a header.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Self {
        let u64_at = |at: usize| u64::from_le_bytes(part(bytes, at));
        let u32_at = |at: usize| u32::from_le_bytes(part(bytes, at));
        let u16_at = |at: usize| u16::from_le_bytes(part(bytes, at));
        Self {
            src_cid: u64_at(0),
            dst_cid: u64_at(8),
            src_port: u32_at(16),
            dst_port: u32_at(20),
            len: u32_at(24),
            kind: u16_at(28),
            op: u16_at(30),
            flags: u32_at(32),
            buf_alloc: u32_at(36),
            fwd_cnt: u32_at(40),
        }
    }

    /// Writes a header.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&self.src_cid.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.dst_cid.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.src_port.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.dst_port.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.len.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.kind.to_le_bytes());
        bytes[30..32].copy_from_slice(&self.op.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.flags.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.buf_alloc.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.fwd_cnt.to_le_bytes());
        bytes
    }

    /// The reset that refuses this packet: the same way back, without credit.
    pub fn refusal(&self) -> Self {
        Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            kind: self.kind,
            op: Op::Reset as u16,
            ..Self::default()
        }
    }
}

fn part<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_the_specification_s() {
        let header = Header {
            src_cid: 0x0102,
            dst_cid: 0x0304,
            src_port: 0x0506,
            dst_port: 0x0708,
            len: 0x090a,
            kind: 0x0b,
            op: 0x0c,
            flags: 0x0d,
            buf_alloc: 0x0e0f,
            fwd_cnt: 0x1011,
        };
        let mut expected = [0; HEADER_BYTES];
        for (at, bytes) in [
            (0, [2, 1]),
            (8, [4, 3]),
            (16, [6, 5]),
            (20, [8, 7]),
            (24, [0x0a, 9]),
            (28, [0x0b, 0]),
            (30, [0x0c, 0]),
            (32, [0x0d, 0]),
            (36, [0x0f, 0x0e]),
            (40, [0x11, 0x10]),
        ] {
            expected[at..at + 2].copy_from_slice(&bytes);
        }
        assert_eq!(header.encode(), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_and_come_back(bytes in prop::array::uniform(any::<u8>())) {
            let bytes: [u8; HEADER_BYTES] = bytes;
            let header = Header::decode(&bytes);
            prop_assert_eq!(header.encode(), bytes);
            if let Some(op) = Op::from_raw(header.op) {
                prop_assert_eq!(op as u16, header.op);
            }
        }
    }
}
