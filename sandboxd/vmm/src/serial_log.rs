//! A log file that a guest cannot fill: bounded in size and in rate.
//!
//! ```text
//!   bytes ─► line buffer ─► token bucket ─► file          file full: its newer half moves to its beginning
//! ```
//!
//! The file never exceeds `max_bytes` and always holds the newest output. Bytes are written when a line ends or the buffer
//! is full; beyond [`RATE`] bytes per second (after a burst of [`BURST`]) they are dropped and counted, and the next line
//! that is written says so. Failures of the file system are counted too and never reach the guest.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

/// Bytes per second that may be written in the long run.
pub const RATE: u64 = 256 * 1024;
/// Bytes that may be written at once.
pub const BURST: u64 = 1024 * 1024;
const BUFFER: usize = 4096;

/// The log.
pub struct SerialLog {
    ring: Option<Ring>,
    stdout: bool,
    buffer: Vec<u8>,
    bucket: Bucket,
    unreported: u64,
    taken: u64,
    dropped: u64,
    failed: u64,
}

impl SerialLog {
    /// Opens `path`, emptying it, as a log of at most `max_bytes`.
    ///
    /// # Errors
    /// When the file cannot be created; a symbolic link is not followed.
    pub fn open(path: &Path, max_bytes: u64) -> io::Result<Self> {
        Ok(Self::new(Some(Ring::create(path, max_bytes)?)))
    }

    /// A log that forgets everything.
    pub fn discard() -> Self {
        Self::new(None)
    }

    /// The same log, but everything also goes to standard output, at any rate.
    pub fn with_stdout(mut self) -> Self {
        self.stdout = true;
        self
    }

    fn new(ring: Option<Ring>) -> Self {
        Self {
            ring,
            stdout: false,
            buffer: Vec::new(),
            bucket: Bucket::full(Instant::now()),
            unreported: 0,
            taken: 0,
            dropped: 0,
            failed: 0,
        }
    }

    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.taken += bytes.len() as u64;
        if self.stdout {
            use io::Write;
            let mut out = io::stdout().lock();
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        }
        for &byte in bytes {
            self.buffer.push(byte);
            if byte == b'\n' || self.buffer.len() >= BUFFER {
                self.flush();
            }
        }
    }

    /// Writes what is buffered, as far as the rate allows.
    pub fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let len = self.buffer.len() as u64;
        if self.bucket.take(len, Instant::now()) {
            if let Some(ring) = &mut self.ring {
                let note = (self.unreported > 0)
                    .then(|| format!("\n[{} bytes dropped: too fast]\n", self.unreported));
                let noted = note.map_or(Ok(()), |note| ring.append(note.as_bytes()));
                if noted.and_then(|()| ring.append(&self.buffer)).is_err() {
                    self.failed += 1;
                }
                self.unreported = 0;
            }
        } else {
            self.dropped += len;
            self.unreported += len;
        }
        self.buffer.clear();
    }

    /// Bytes taken, bytes dropped for their rate, failed writes.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("bytes", self.taken),
            ("dropped_bytes", self.dropped),
            ("failed_writes", self.failed),
        ]
    }
}

impl Drop for SerialLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Tokens for bytes.
struct Bucket {
    tokens: u64,
    at: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self {
            tokens: BURST,
            at: now,
        }
    }

    fn take(&mut self, bytes: u64, now: Instant) -> bool {
        let elapsed = u64::try_from(now.saturating_duration_since(self.at).as_micros());
        let fresh = elapsed.unwrap_or(u64::MAX).saturating_mul(RATE) / 1_000_000;
        // Time that is worth less than one token is kept for the next call.
        if fresh > 0 {
            self.tokens = self.tokens.saturating_add(fresh).min(BURST);
            self.at = now;
        }
        if self.tokens < bytes {
            return false;
        }
        self.tokens -= bytes;
        true
    }
}

/// A file of bounded size.
struct Ring {
    file: File,
    len: u64,
    max: u64,
}

impl Ring {
    fn create(path: &Path, max: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(path)?;
        Ok(Self { file, len: 0, max })
    }

    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let half = self.max / 2;
        if bytes.len() as u64 > half {
            let keep = usize::try_from(half).unwrap_or(usize::MAX);
            bytes = &bytes[bytes.len() - keep..];
        }
        if self.len + bytes.len() as u64 > self.max {
            self.keep_newest(half)?;
        }
        self.file.write_all_at(bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Moves the last `keep` bytes to the beginning and cuts the rest.
    fn keep_newest(&mut self, keep: u64) -> io::Result<()> {
        let keep = keep.min(self.len);
        let mut from = self.len - keep;
        let mut to = 0;
        let mut chunk = [0u8; BUFFER];
        while to < keep {
            let want = usize::try_from(keep - to).unwrap_or(BUFFER).min(BUFFER);
            self.file.read_exact_at(&mut chunk[..want], from)?;
            self.file.write_all_at(&chunk[..want], to)?;
            from += want as u64;
            to += want as u64;
        }
        self.file.set_len(keep)?;
        self.len = keep;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn open(max: u64) -> (SerialLog, std::path::PathBuf, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        (SerialLog::open(&path, max).unwrap(), path, dir)
    }

    #[test]
    fn lines_are_written_as_they_end() {
        let (mut log, path, _dir) = open(4096);
        log.push(b"one\ntwo");
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n");
        drop(log);
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo");
    }

    #[test]
    fn a_flood_is_bounded_in_size_and_counted() {
        let (mut log, path, _dir) = open(8192);
        let line = [b'x'; 99];
        for _ in 0..30_000 {
            log.push(&line);
            log.push(b"\n");
        }
        log.push(b"the end\n");
        let counters = log.counters();
        assert_eq!(counters[0], ("bytes", 3_000_008));
        assert!(
            counters[1].1 > 1_000_000,
            "most of three megabytes is over the rate"
        );
        assert_eq!(counters[2].1, 0);
        assert!(std::fs::metadata(&path).unwrap().len() <= 8192);
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("target"), &link).unwrap();
        assert!(SerialLog::open(&link, 4096).is_err());
    }

    #[test]
    fn the_bucket_refills_with_time() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        assert!(bucket.take(BURST, start));
        assert!(!bucket.take(1, start));
        let later = start + Duration::from_millis(500);
        assert!(bucket.take(RATE / 2, later));
        assert!(!bucket.take(1, later));
        let idle = later + Duration::from_secs(3600);
        assert!(bucket.take(BURST, idle) && !bucket.take(1, idle));
    }

    proptest! {
        #[test]
        fn the_file_is_the_newest_bytes(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ring");
            let mut ring = Ring::create(&path, 512).unwrap();
            let mut all = Vec::new();
            for chunk in chunks {
                ring.append(&chunk).unwrap();
                let kept = &chunk[chunk.len().saturating_sub(256)..];
                all.extend_from_slice(kept);
                let file = std::fs::read(&path).unwrap();
                prop_assert!(file.len() <= 512 && file.len() >= all.len().min(256));
                prop_assert!(all.ends_with(&file));
            }
        }
    }
}
