//! Bytes of the guest that the host socket did not take yet. Its size is bounded by the credit of the connection; this is
//! only the store.

use std::io::{self, Write};

use crate::devices::virtio::GuestMemory;
use crate::devices::virtio::chain::Segments;

/// Bytes taken from the front before the rest is moved there.
const COMPACT: usize = 64 << 10;

/// A queue of bytes.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Bytes at the front that are gone already.
    taken: usize,
}

impl Outbox {
    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends `len` bytes of `data` from its byte `offset` on.
    pub fn push(&mut self, memory: &GuestMemory, data: &Segments, offset: u32, len: u32) {
        if self.taken >= COMPACT {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        let from = self.bytes.len();
        self.bytes.resize(from + len as usize, 0);
        data.read_at(memory, offset, &mut self.bytes[from..]);
    }

    /// Writes to `to` until it is full or nothing waits any more; returns the bytes written.
    ///
    /// # Errors
    /// What `to` says, `WouldBlock` aside. What was written before the error is gone from the queue.
    pub fn write_to(&mut self, mut to: impl Write) -> io::Result<usize> {
        let before = self.len();
        while !self.is_empty() {
            match to.write(&self.bytes[self.taken..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.taken += written,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(why) => return Err(why),
            }
        }
        let written = before - self.len();
        if self.is_empty() {
            // An idle connection keeps no memory.
            *self = Self::default();
        }
        Ok(written)
    }

    /// Throws everything away.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::devices::virtio::chain::{Chain, Limits};
    use crate::devices::virtio::test_driver::{BUFFERS, DriverQueue, memory};

    /// Takes `room` bytes, then would block.
    struct Narrow {
        room: usize,
        got: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.room).min(1000);
            if len == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= len;
            self.got.extend(&bytes[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_come_out_in_order_and_memory_is_given_back() {
        let memory = memory(2);
        let queue = DriverQueue::new(&memory, 0, 16);
        let pattern: Vec<u8> = (0..10_000u32).map(|at| (at % 251) as u8).collect();
        memory.write_slice(&pattern, GuestAddress(BUFFERS)).unwrap();
        queue.write_descriptor(0, BUFFERS, 10_000, 0, 0);
        let mut chain = Chain::default();
        let limits = Limits {
            descriptors: 4,
            bytes: 1 << 20,
        };
        chain.walk(&memory, GuestAddress(0), 16, 0, limits).unwrap();

        let mut outbox = Outbox::default();
        let mut socket = Narrow {
            room: 0,
            got: Vec::new(),
        };
        let mut pushed: Vec<u8> = Vec::new();
        for round in 0..200u32 {
            outbox.push(&memory, &chain.readable, round, 5_000);
            pushed.extend(&pattern[round as usize..][..5_000]);
            socket.room = 4_900;
            assert_eq!(outbox.write_to(&mut socket).unwrap(), 4_900);
        }
        assert_eq!(outbox.len(), 200 * 100);
        assert!(
            outbox.bytes.len() <= COMPACT + 200 * 100 + 5_000,
            "the front is reused"
        );
        socket.room = usize::MAX;
        outbox.write_to(&mut socket).unwrap();
        assert!(socket.got == pushed);
        assert_eq!(outbox.bytes.capacity(), 0);
    }

    #[test]
    fn an_error_is_passed_on() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut outbox = Outbox {
            bytes: vec![1, 2, 3],
            taken: 1,
        };
        let error = outbox.write_to(Closed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(outbox.len(), 2);
    }
}
