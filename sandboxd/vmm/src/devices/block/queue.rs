//! Carries out one request: from a checked chain to a status byte.

use tracing::debug;

use super::request::{self, HEADER, ID_BYTES, Operation, RANGE, Status};
use super::{Backend, BackendError, ERASE_COST, REQUEST_MAX, SEG_MAX};
use crate::devices::virtio::GuestMemory;
use crate::devices::virtio::chain::{Chain, Limits};
use crate::devices::virtio::live::Step;

/// What a chain may hold: header, data, status; one descriptor more for a driver that splits the header off.
pub const LIMITS: Limits = Limits {
    descriptors: SEG_MAX + 2,
    bytes: REQUEST_MAX + HEADER + 1,
};

/// What a disk has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads that succeeded.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Flushes that succeeded.
    pub flushes: u64,
    /// Bytes of ranges discarded or zeroed.
    pub erased_bytes: u64,
    /// Requests refused because they make no sense.
    pub refused: u64,
    /// Requests that the host failed.
    pub failed: u64,
    /// Requests that failed because the overlay or the host is full.
    pub no_space: u64,
    /// Chains that could not even be answered.
    pub malformed: u64,
    /// Events that ended because their budget was used up.
    pub yields: u64,
}

/// Serves requests of one disk.
pub struct Server<'a> {
    /// Where the bytes are.
    pub backend: &'a mut Backend,
    /// Answer to GET_ID, padded with zeroes.
    pub id: &'a [u8; ID_BYTES],
    /// What is counted.
    pub counters: &'a mut Counters,
}

impl Server<'_> {
    /// Serves the request in `chain` and writes its answer.
    pub fn serve(&mut self, memory: &GuestMemory, chain: &Chain) -> Step {
        let mut header = [0; HEADER as usize];
        let got = chain.readable.read_at(memory, 0, &mut header);
        if got < header.len() || chain.writable.is_empty() {
            self.counters.malformed += 1;
            return Step::Used {
                written: 0,
                cost: 4096,
            };
        }
        let (readable, writable) = (chain.readable.len(), chain.writable.len());
        let decided = request::decide(&header, readable, writable, self.geometry());
        let (status, data, cost) = match decided {
            Ok(operation) => match self.execute(memory, chain, operation) {
                Ok(data) => (Status::Ok, data, cost(operation)),
                Err(status) => (status, 0, cost(operation)),
            },
            Err(status) => {
                debug!(?header, ?status, "a request is refused");
                self.counters.refused += 1;
                (status, 0, 0)
            }
        };
        chain
            .writable
            .write_at(memory, writable - 1, &[status as u8]);
        Step::Used {
            written: data + 1,
            cost: cost.max(4096),
        }
    }

    /// Carries out an operation; returns how many bytes of data were written for the driver.
    fn execute(
        &mut self,
        memory: &GuestMemory,
        chain: &Chain,
        operation: Operation,
    ) -> Result<u32, Status> {
        match operation {
            Operation::In { at, len } => {
                let read = self.backend.read(memory, &chain.writable, len, at);
                self.host(read)?;
                self.counters.reads += 1;
                self.counters.read_bytes += u64::from(len);
                Ok(len)
            }
            Operation::Out { at, len } => {
                let written = self.backend.write(memory, &chain.readable, HEADER, len, at);
                self.host(written)?;
                self.counters.writes += 1;
                self.counters.written_bytes += u64::from(len);
                Ok(0)
            }
            Operation::Flush => {
                let flushed = self.backend.flush();
                self.host(flushed)?;
                self.counters.flushes += 1;
                Ok(0)
            }
            Operation::GetId => {
                let room = ID_BYTES.min(chain.writable.len() as usize - 1);
                chain.writable.write_at(memory, 0, &self.id[..room]);
                Ok(u32::try_from(room).unwrap_or_default())
            }
            Operation::Discard { ranges } => self.erase(memory, chain, ranges, false),
            Operation::WriteZeroes { ranges } => self.erase(memory, chain, ranges, true),
        }
    }

    fn erase(
        &mut self,
        memory: &GuestMemory,
        chain: &Chain,
        ranges: u32,
        zeroes: bool,
    ) -> Result<u32, Status> {
        for index in 0..ranges {
            let mut raw = [0; RANGE as usize];
            chain
                .readable
                .read_at(memory, HEADER + index * RANGE, &mut raw);
            let decided = request::decide_range(&raw, zeroes, self.geometry());
            let (at, len) = decided.inspect_err(|_| self.counters.refused += 1)?;
            let erased = if zeroes {
                self.backend.write_zeroes(at, len)
            } else {
                self.backend.discard(at, len)
            };
            self.host(erased)?;
            self.counters.erased_bytes += len;
        }
        Ok(0)
    }

    fn geometry(&self) -> request::Geometry {
        request::Geometry {
            size: self.backend.size(),
            read_only: self.backend.read_only(),
        }
    }

    fn host(&mut self, result: Result<(), BackendError>) -> Result<(), Status> {
        result.map_err(|why| {
            debug!(%why, "a request failed");
            self.counters.failed += 1;
            self.counters.no_space += u64::from(why.is_no_space());
            Status::IoError
        })
    }
}

/// What an operation counts in the budget of an event.
fn cost(operation: Operation) -> u64 {
    match operation {
        Operation::In { len, .. } | Operation::Out { len, .. } => u64::from(len),
        Operation::Flush => ERASE_COST,
        Operation::GetId => 0,
        Operation::Discard { ranges } | Operation::WriteZeroes { ranges } => {
            u64::from(ranges) * ERASE_COST
        }
    }
}
