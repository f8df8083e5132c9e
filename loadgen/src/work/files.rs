//! A file written to a sandbox that is there, and read again: what comes back must be what was written.

use std::time::Instant;

use bytes::Bytes;
use reports::stats::random::Random;

use super::exec::{pick, speed};
use super::{During, Failed, failed, reading, since};
use crate::drive::Work;
use crate::e2b::{CallError, Client, Sandbox};
use crate::record::{Job, Outcome};

/// The work.
#[derive(Debug)]
pub struct Files {
    /// Whom to ask.
    pub client: Client,
    /// Sandboxes, at least one.
    pub sandboxes: Vec<Sandbox>,
    /// What is written.
    pub content: Bytes,
}

/// Bytes that no compression on the way makes smaller; the same for the same seed.
#[must_use]
pub fn content(size: usize, seed: u64) -> Bytes {
    let mut random = Random::new(seed);
    let mut out = Vec::with_capacity(size + 8);
    while out.len() < size {
        out.extend_from_slice(&random.bits().to_le_bytes());
    }
    out.truncate(size);
    Bytes::from(out)
}

impl Files {
    /// Times of the write, from when the turn was due, and of the read, from its send.
    async fn run(
        &self,
        sandbox: &Sandbox,
        job: Job,
        planned: Instant,
    ) -> Result<(u64, u64), Failed> {
        // A name for each turn: those that overlap do not overwrite each other's.
        let path = format!("/tmp/loadgen-{}", job.number % 64);
        let write = self
            .client
            .write(sandbox, &path, self.content.clone())
            .await;
        write.during("write")?;
        let written = Instant::now();
        let read = self
            .client
            .read(sandbox, &path, self.content.len() + 1)
            .await;
        let read = read.during("read")?;
        let took = since(written, Instant::now());
        if read != self.content {
            return Err(CallError::Content).during("read");
        }
        Ok((since(planned, written), took))
    }
}

impl Work for Files {
    fn series(&self, _: Job) -> Vec<usize> {
        (0..4).collect()
    }

    async fn turn(&self, job: Job, planned: Instant) -> Outcome {
        let Some(sandbox) = pick(&self.sandboxes, job.number) else {
            return Outcome::default();
        };
        let sent = Instant::now();
        match self.run(sandbox, job, planned).await {
            Ok((write, read)) => {
                // The speed is of the transfer; waiting for a free worker is no part of it.
                let late = since(planned, sent);
                let size = self.content.len();
                Outcome {
                    readings: vec![
                        reading(0, write, Vec::new()),
                        reading(1, read, Vec::new()),
                        reading(2, speed(size, write.saturating_sub(late)), Vec::new()),
                        reading(3, speed(size, read), Vec::new()),
                    ],
                    sandbox: Some(sandbox.id.clone()),
                    trouble: None,
                }
            }
            Err(error) => failed(&error, &self.series(job), Some(sandbox.id.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_of_its_size_and_seed() {
        assert_eq!(content(13, 1).len(), 13);
        assert_eq!(content(1000, 1), content(1000, 1));
        assert_ne!(content(1000, 1), content(1000, 2));
    }
}
