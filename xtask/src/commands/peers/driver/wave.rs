//! Several machines asked for at the same moment.
//!
//! ```text
//!   thread 1 ─┐          ┌─ start ─► answered ─────┐
//!   thread 2 ─┤─ clock ──┤─ start ─────► answered ─┤─► the caller has them all, alive
//!   …         ┘          └─ …                      ┘
//! ```
//!
//! Every latency is counted from the one moment at which all were asked for, so that waiting for a processor is part of it.

use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use super::machine::{Laps, Machine, Staged, Started, nanoseconds};
use crate::commands::peers::record::Stages;

/// Stack of a thread that starts a machine.
const STACK: usize = 256 << 10;

/// What became of one that was asked for.
pub struct Ended {
    /// From the common start to its first answer.
    pub ns: u64,
    /// Parts of it.
    pub stages: Stages,
    /// See [`Started`].
    pub retries: u32,
    /// It lives until this is dropped.
    pub machine: Box<dyn Machine>,
}

/// Starts all of `staged` at once; gives what became of each, and the time to the last answer in nanoseconds.
///
/// # Errors
/// When there are no threads to be had.
pub fn run(staged: Vec<Box<dyn Staged>>) -> Result<(Vec<Result<Ended>>, u64)> {
    let began = Instant::now();
    let ended = match <[_; 1]>::try_from(staged) {
        // Without a thread to be woken first, which would be part of the time.
        Ok([one]) => vec![start(one, began)],
        Err(many) => together(many)?,
    };
    let last = ended.iter().flatten().map(|ended| ended.ns).max();
    Ok((ended, last.unwrap_or_default()))
}

fn together(staged: Vec<Box<dyn Staged>>) -> Result<Vec<Result<Ended>>> {
    thread::scope(|scope| {
        let mut threads = Vec::with_capacity(staged.len());
        for one in staged {
            let (clock, waiting) = mpsc::channel();
            // When a later thread can't be made, this one's sender goes, and it ends.
            let work = move || start(one, waiting.recv().context("not started")?);
            let thread = thread::Builder::new().stack_size(STACK);
            threads.push((clock, thread.spawn_scoped(scope, work)?));
        }
        let began = Instant::now();
        for (clock, _) in &threads {
            let _ = clock.send(began);
        }
        let join = |(_, thread): (_, thread::ScopedJoinHandle<'_, Result<Ended>>)| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
        };
        Ok(threads.into_iter().map(join).collect())
    })
}

fn start(staged: Box<dyn Staged>, began: Instant) -> Result<Ended> {
    let mut laps = Laps::start();
    let Started { machine, retries } = staged.start(&mut laps)?;
    Ok(Ended {
        ns: nanoseconds(began.elapsed()),
        stages: laps.stages,
        retries,
        machine,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, Barrier};

    use anyhow::bail;
    use vmm::snapshot::Kind;

    use super::*;

    /// Comes up when all others do, or fails.
    struct Fake(Option<Arc<Barrier>>);

    impl Machine for Fake {
        fn process_id(&self) -> u32 {
            0
        }
        fn vsock(&self) -> &Path {
            Path::new("")
        }
        fn pause(&mut self) -> Result<()> {
            Ok(())
        }
        fn resume(&mut self) -> Result<()> {
            Ok(())
        }
        fn snapshot(&mut self, _: Kind, _: &Path) -> Result<Stages> {
            Ok(Stages::new())
        }
    }

    impl Staged for Fake {
        fn start(self: Box<Self>, laps: &mut Laps) -> Result<Started> {
            let Some(others) = &self.0 else {
                bail!("it failed")
            };
            others.wait();
            laps.lap("others");
            Ok(Started {
                machine: self,
                retries: 0,
            })
        }
    }

    fn staged(good: usize, bad: usize) -> Vec<Box<dyn Staged>> {
        let barrier = Arc::new(Barrier::new(good));
        let one = |index| -> Box<dyn Staged> {
            Box::new(Fake((index < good).then(|| Arc::clone(&barrier))))
        };
        (0..good + bad).map(one).collect()
    }

    #[test]
    fn all_run_at_once_and_a_failure_is_its_own() {
        let (ended, wall) = run(staged(4, 1)).unwrap();
        let good: Vec<_> = ended.iter().flatten().collect();
        assert_eq!((ended.len(), good.len()), (5, 4));
        assert_eq!(good.iter().map(|ended| ended.ns).max(), Some(wall));
        assert!(good.iter().all(|ended| ended.stages[0].1 <= ended.ns));
    }

    #[test]
    fn one_alone() {
        let (ended, wall) = run(staged(1, 0)).unwrap();
        assert_eq!(ended[0].as_ref().map(|ended| ended.ns).ok(), Some(wall));
        let (ended, wall) = run(staged(0, 1)).unwrap();
        assert!(ended[0].is_err() && wall == 0);
    }
}
