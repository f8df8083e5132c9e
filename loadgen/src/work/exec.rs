//! A command in a sandbox that is there: the round trip, and how fast output comes back.
//!
//! Turns go round the sandboxes. The round trip counts from when the turn was due to the exit event.

use std::time::Instant;

use super::{During, Failed, failed, reading, since};
use crate::drive::Work;
use crate::e2b::{CallError, Client, Sandbox};
use crate::record::{Job, Outcome};

/// The work.
#[derive(Debug)]
pub struct Exec {
    /// Whom to ask.
    pub client: Client,
    /// Sandboxes, at least one.
    pub sandboxes: Vec<Sandbox>,
    /// Bytes of output to ask for; `None`: `/bin/true`, which has none.
    pub output: Option<usize>,
}

impl Exec {
    async fn run(&self, sandbox: &Sandbox, planned: Instant) -> Result<u64, Failed> {
        let Some(bytes) = self.output else {
            let at = self.client.answers(sandbox).await.during("exec")?;
            return Ok(since(planned, at));
        };
        let count = bytes.to_string();
        let argv = ["/usr/bin/head", "-c", &count, "/dev/zero"];
        let ended = self.client.exec(sandbox, &argv).await.during("exec")?;
        let whole = match ended.exit {
            0 if ended.stdout_bytes == bytes => Ok(since(planned, ended.at)),
            0 => Err(CallError::Content),
            exit => Err(CallError::Exit(exit)),
        };
        whole.during("exec")
    }
}

impl Work for Exec {
    fn series(&self, _: Job) -> Vec<usize> {
        (0..=usize::from(self.output.is_some())).collect()
    }

    async fn turn(&self, job: Job, planned: Instant) -> Outcome {
        let Some(sandbox) = pick(&self.sandboxes, job.number) else {
            return Outcome::default();
        };
        let taken = match self.run(sandbox, planned).await {
            Ok(taken) => taken,
            Err(error) => return failed(&error, &self.series(job), Some(sandbox.id.clone())),
        };
        let mut readings = vec![reading(0, taken, Vec::new())];
        if let Some(bytes) = self.output {
            readings.push(reading(1, speed(bytes, taken), Vec::new()));
        }
        Outcome {
            readings,
            sandbox: Some(sandbox.id.clone()),
            trouble: None,
        }
    }
}

/// Sandboxes in turn.
pub fn pick(sandboxes: &[Sandbox], number: u64) -> Option<&Sandbox> {
    let count = u64::try_from(sandboxes.len()).unwrap_or(1).max(1);
    sandboxes.get(usize::try_from(number % count).unwrap_or(0))
}

/// Bytes a second, rounded down, at least 1.
#[must_use]
pub fn speed(bytes: usize, nanos: u64) -> u64 {
    let per_second = (bytes as u128) * 1_000_000_000 / u128::from(nanos.max(1));
    u64::try_from(per_second).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_bytes_a_second() {
        assert_eq!(speed(1 << 20, 500_000_000), 2 << 20);
        assert_eq!(speed(0, 0), 1);
    }
}
