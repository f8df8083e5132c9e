//! A log that a guest cannot make endless: after a number of bytes it says so and falls silent.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that a process may log in its life.
pub const LIMIT: u64 = 1024 * 1024;
const LAST_WORDS: &[u8] = b"the log is full; nothing more is logged\n";

/// Makes writers to standard error that share one budget.
pub struct Bounded {
    left: AtomicU64,
}

impl Bounded {
    /// A full budget for standard error.
    pub fn stderr() -> Self {
        Self {
            left: AtomicU64::new(LIMIT),
        }
    }

    /// How many of `wanted` bytes may be written, and whether this used the budget up.
    fn take(&self, wanted: u64) -> (bool, bool) {
        let before = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left.saturating_sub(wanted))
            })
            .unwrap_or(0);
        (before > wanted, before > 0 && before <= wanted)
    }
}

impl<'a> MakeWriter<'a> for Bounded {
    type Writer = BoundedWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        BoundedWriter(self)
    }
}

/// One message being written.
pub struct BoundedWriter<'a>(&'a Bounded);

impl Write for BoundedWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.take(bytes.len() as u64) {
            (true, _) => io::stderr().write_all(bytes)?,
            (false, true) => io::stderr().write_all(LAST_WORDS)?,
            (false, false) => {}
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_ends_once() {
        let log = Bounded {
            left: AtomicU64::new(10),
        };
        assert_eq!(log.take(4), (true, false));
        assert_eq!(log.take(4), (true, false));
        assert_eq!(log.take(4), (false, true));
        assert_eq!(log.take(4), (false, false));
    }
}
