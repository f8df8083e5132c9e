//! Processes that wait for a sandbox, so that a create has neither to start one nor to prepare it.
//!
//! ```text
//!   spawn ─► prepare ─► stage ─► waits ──take──► renamed, restored: a sandbox's
//!     one at a time, in the background,    └─ dies, or too many: ended, its files removed
//!     at the least weight
//! ```
//!
//! There is a shelf per [`Kind`]: what a process was prepared for, and the snapshot whose memory was put under it ahead. A
//! start that finds its own shelf empty takes a process of the same make from another one; one that finds nothing starts
//! a process itself, which is slower and no error. How many wait is decided in [`demand`].
//!
//! Ordering rules:
//! 1. A process is on a shelf only when it is ready. Whoever takes it has the only handle to it.
//! 2. What is called by the name of a process that waits belongs to the pool until it is taken; [`Pool::names`] says so
//!    to whoever looks for what was left behind.
//! 3. After [`Pool::close`] nothing is made, and nothing of the pool is left.

pub mod demand;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};
use vmm::machine::Shape;

use self::demand::{Demand, Limits, Step};
use super::StartError;
use super::process::ProcessIdentity;
use super::spawn::{Ceiling, Spawned, Spawner};
use super::warm::WarmError;
use crate::ids::SandboxId;

/// How long a process may take to become ready.
const READY: Duration = Duration::from_secs(60);

/// How often it is looked at again whether there is time for another process.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a process that waits is good for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Prepared for machines of this shape.
    pub shape: Shape,
    /// Writable disk in MiB that its ceilings leave room for.
    pub disk_mib: u64,
    /// The snapshot whose memory lies under it.
    pub snapshot: Option<PathBuf>,
}

impl Kind {
    /// Whether a process of this kind can be used for `other`, if with more work.
    fn serves(&self, other: &Self) -> bool {
        self.shape == other.shape && self.disk_mib == other.disk_mib
    }

    fn ceiling(&self) -> Ceiling {
        Ceiling {
            memory_mib: u64::from(self.shape.memory_mib),
            disk_mib: self.disk_mib,
            urgent: false,
        }
    }
}

/// The processes that wait, and the task that keeps them.
#[derive(Debug)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    spawner: Spawner,
    limits: Limits,
    processors: usize,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    shelves: HashMap<Kind, Shelf>,
    /// The process that is being made.
    making: Option<SandboxId>,
    /// Starts under way.
    starting: usize,
    closed: bool,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shelf {
    demand: Demand,
    waiting: VecDeque<Spawned>,
}

/// A start under way, from its first step until this is dropped.
#[derive(Debug)]
pub struct Starting(Arc<Shared>);

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.lock().starting -= 1;
        self.0.changed.notify_one();
    }
}

/// What the keeper does next.
enum Next {
    Make(Kind),
    End(Box<Spawned>),
    Rest(Option<Instant>),
    Close,
}

impl Pool {
    /// An empty pool; without `limits.most` it stays empty.
    pub fn new(spawner: Spawner, limits: Limits) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self(Arc::new(Shared {
            spawner,
            limits,
            processors,
            state: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// Says that a start is under way: processes are made when there is time.
    pub fn starting(&self) -> Starting {
        self.0.lock().starting += 1;
        Starting(self.0.clone())
    }

    /// Takes a process for `kind`, its own where there is one.
    pub fn take(&self, kind: &Kind) -> Option<Spawned> {
        let mut state = self.0.lock();
        if state.closed || self.0.limits.most == 0 {
            return None;
        }
        let shelf = state.shelves.entry(kind.clone()).or_default();
        shelf.demand.took(Instant::now());
        let own = shelf.waiting.pop_front();
        let taken = own.or_else(|| {
            let others = state.shelves.iter_mut();
            let others = others.filter(|(other, _)| other.serves(kind));
            let fullest = others.max_by_key(|(_, shelf)| shelf.waiting.len());
            fullest.and_then(|(_, shelf)| shelf.waiting.pop_front())
        });
        self.attend(&mut state);
        taken
    }

    /// Keeps processes of a kind ready from now on, whether they are asked for or not.
    pub fn keep_ready(&self, kind: Kind) {
        let mut state = self.0.lock();
        if !state.closed && self.0.limits.most > 0 {
            state.shelves.entry(kind).or_default().demand.standing = true;
            self.attend(&mut state);
        }
    }

    /// Ends the processes of a kind that is good for nothing any more.
    pub async fn give_up(&self, kind: &Kind) {
        let shelf = self.0.lock().shelves.remove(kind);
        for spawned in shelf.into_iter().flat_map(|shelf| shelf.waiting) {
            self.0.end(spawned).await;
        }
    }

    /// What the pool's processes are called.
    pub fn names(&self) -> HashSet<SandboxId> {
        let state = self.0.lock();
        let waiting = state.shelves.values().flat_map(|shelf| &shelf.waiting);
        let waiting = waiting.map(|spawned| spawned.name.clone());
        waiting.chain(state.making.clone()).collect()
    }

    /// Which processes wait.
    pub fn identities(&self) -> HashSet<ProcessIdentity> {
        let state = self.0.lock();
        let waiting = state.shelves.values().flat_map(|shelf| &shelf.waiting);
        waiting.map(|spawned| spawned.process.identity()).collect()
    }

    /// Ends everything that waits. Nothing is taken and nothing is made from now on.
    pub async fn close(&self) {
        let (shelves, keeper) = {
            let mut state = self.0.lock();
            state.closed = true;
            (std::mem::take(&mut state.shelves), state.keeper.take())
        };
        self.0.changed.notify_one();
        if let Some(keeper) = keeper {
            let _ = keeper.await;
        }
        for spawned in shelves.into_values().flat_map(|shelf| shelf.waiting) {
            self.0.end(spawned).await;
        }
    }

    /// Has the keeper look at the shelves.
    fn attend(&self, state: &mut State) {
        let lost = state.keeper.as_ref().is_none_or(JoinHandle::is_finished);
        if lost {
            state.keeper = Some(tokio::spawn(keep(self.0.clone())));
        }
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, now: Instant) -> Next {
        let mut state = self.lock();
        if state.closed {
            return Next::Close;
        }
        let over = |shelf: &Shelf| shelf.waiting.is_empty() && shelf.demand.is_over(now);
        state.shelves.retain(|_, shelf| !over(shelf));
        let (mut make, mut rest): (Option<(usize, Kind)>, Option<Instant>) = (None, None);
        for (kind, shelf) in &mut state.shelves {
            let waiting = shelf.waiting.len();
            match demand::step(&shelf.demand, waiting, now, self.limits) {
                Step::End => {
                    if let Some(spawned) = shelf.waiting.pop_back() {
                        return Next::End(Box::new(spawned));
                    }
                }
                // The emptiest shelf first.
                Step::Make if make.as_ref().is_none_or(|(least, _)| waiting < *least) => {
                    make = Some((waiting, kind.clone()));
                }
                Step::Make => {}
                Step::Rest(until) => rest = rest.into_iter().chain(until).min(),
            }
        }
        make.map_or(Next::Rest(rest), |(_, kind)| Next::Make(kind))
    }

    /// Makes one process and puts it on its shelf.
    async fn make(self: &Arc<Self>, kind: Kind) {
        let made = match SandboxId::generate_waiting().map_err(WarmError::from) {
            Ok(name) => {
                self.lock().making = Some(name.clone());
                let made = self.ready(&name, &kind).await;
                if made.is_err() {
                    self.remove(&name).await;
                }
                made
            }
            Err(error) => Err(error.into()),
        };
        let unwanted = {
            let mut state = self.lock();
            state.making = None;
            let closed = state.closed;
            match (made, state.shelves.get_mut(&kind)) {
                (Ok(spawned), Some(shelf)) if !closed => {
                    shelf.demand.made();
                    tokio::spawn(watch(
                        Arc::downgrade(self),
                        kind,
                        spawned.process.clone(),
                        spawned.name.clone(),
                    ));
                    shelf.waiting.push_back(spawned);
                    None
                }
                (Ok(spawned), _) => Some(spawned),
                (Err(error), shelf) => {
                    tracing::warn!(%error, "no process could be made ready");
                    if let Some(shelf) = shelf {
                        shelf.demand.failed(Instant::now());
                    }
                    None
                }
            }
        };
        if let Some(spawned) = unwanted {
            self.end(spawned).await;
        }
    }

    /// A process that is ready.
    async fn ready(&self, name: &SandboxId, kind: &Kind) -> Result<Spawned, StartError> {
        let (spawner, ceiling) = (self.spawner.clone(), kind.ceiling());
        let called = name.clone();
        let spawned = tokio::task::spawn_blocking(move || spawner.spawn(&called, ceiling)).await;
        let mut spawned = spawned.map_err(|error| StartError::Spawn {
            program: self.spawner.program.clone(),
            error: error.into(),
        })??;
        let ready = async {
            if let Some(control) = &mut spawned.control {
                control.prepare(kind.shape.clone()).await?;
                if let Some(snapshot) = &kind.snapshot {
                    control.stage(snapshot.clone()).await?;
                }
            }
            Ok(())
        };
        let ready = timeout(READY, ready).await;
        let ready = ready.unwrap_or(Err(StartError::TimedOut(READY)));
        if let Some(cgroups) = &self.spawner.cgroups
            && let Err(error) = cgroups.make_urgent(name)
        {
            tracing::debug!(machine = %name, %error, "its weight stays as it is");
        }
        match ready {
            Ok(()) => Ok(spawned),
            Err(error) => {
                spawned.end().await;
                Err(error)
            }
        }
    }

    /// Ends a process that nobody took, and removes what it has.
    async fn end(&self, spawned: Spawned) {
        let name = spawned.name.clone();
        spawned.end().await;
        self.remove(&name).await;
    }

    async fn remove(&self, name: &SandboxId) {
        self.spawner.remove_folders(name).await;
        self.spawner.remove_group(name).await;
    }
}

/// Keeps the shelves as they should be, until the pool is closed.
async fn keep(shared: Arc<Shared>) {
    let mut wanted: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let until = match shared.next(now) {
            Next::Close => return,
            Next::End(spawned) => {
                shared.end(*spawned).await;
                continue;
            }
            Next::Rest(until) => {
                wanted = None;
                until
            }
            Next::Make(kind) => {
                let since = *wanted.get_or_insert(now);
                let starting = shared.lock().starting;
                if demand::is_time(starting, shared.processors, now - since) {
                    wanted = None;
                    shared.make(kind).await;
                    continue;
                }
                Some(now + LOOK_AGAIN)
            }
        };
        let rest = async {
            match until {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.changed.notified() => {}
            () = rest => {}
        }
    }
}

/// Takes a process that dies while it waits off its shelf.
async fn watch(
    shared: std::sync::Weak<Shared>,
    kind: Kind,
    process: Arc<super::process::Process>,
    name: SandboxId,
) {
    process.exited().await;
    let Some(shared) = shared.upgrade() else {
        return;
    };
    let dead = {
        let mut state = shared.lock();
        let shelf = state.shelves.get_mut(&kind);
        shelf.and_then(|shelf| {
            let at = shelf.waiting.iter().position(|s| s.name == name)?;
            shelf.demand.failed(Instant::now());
            shelf.waiting.remove(at)
        })
    };
    if let Some(spawned) = dead {
        tracing::warn!(machine = %name, "a process died while it waited");
        shared.end(spawned).await;
        shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
