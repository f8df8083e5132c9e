//! The processes that clients started: the running ones, and for a while those that have ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::running::Process;
use crate::errors::Fault;
use crate::proto::process::__buffa::oneof::process_selector::Selector;
use crate::proto::process::ProcessSelector;

/// How long the exit of a process is kept for a late `Connect` (envd: 30 s).
pub const KEEP_ENDED: Duration = Duration::from_secs(30);

/// Most ended processes kept; the oldest go first.
pub const MAX_ENDED: usize = 256;

/// Why a selector finds nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// There is no process with that pid.
    #[error("process with pid {0} not found")]
    Pid(u32),
    /// There is no process with that tag.
    #[error("process with tag '{0}' not found")]
    Tag(String),
    /// The selector names neither a pid nor a tag.
    #[error("The process selector names neither a pid nor a tag.")]
    Empty,
}

impl From<SelectError> for Fault {
    fn from(error: SelectError) -> Self {
        match error {
            SelectError::Empty => Self::invalid(error.to_string()),
            SelectError::Pid(_) | SelectError::Tag(_) => Self::not_found(error.to_string()),
        }
    }
}

/// All processes.
#[derive(Debug, Default)]
pub struct Table {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    live: BTreeMap<u32, Arc<Process>>,
    ended: VecDeque<(Instant, Arc<Process>)>,
}

impl Table {
    /// Enters a process that has just started.
    pub fn insert(&self, process: &Arc<Process>) {
        self.lock().live.insert(process.pid(), Arc::clone(process));
    }

    /// Moves a process from the running to the ended ones.
    pub fn retire(&self, process: &Arc<Process>) {
        let mut inner = self.lock();
        // The pid may already belong to a process that started since.
        if inner
            .live
            .get(&process.pid())
            .is_some_and(|live| Arc::ptr_eq(live, process))
        {
            inner.live.remove(&process.pid());
        }
        inner.ended.push_back((Instant::now(), Arc::clone(process)));
        inner.forget_old(Instant::now());
    }

    /// The running processes, by pid.
    #[must_use]
    pub fn running(&self) -> Vec<Arc<Process>> {
        let inner = self.lock();
        inner
            .live
            .values()
            .filter(|process| process.exit().is_none())
            .cloned()
            .collect()
    }

    /// A running process.
    ///
    /// # Errors
    /// [`SelectError`].
    pub fn find(&self, selector: Option<&ProcessSelector>) -> Result<Arc<Process>, SelectError> {
        self.select(selector, |inner, matches| {
            inner
                .live
                .values()
                .find(|p| p.exit().is_none() && matches(p))
                .cloned()
        })
    }

    /// A running process, or one that has ended within [`KEEP_ENDED`].
    ///
    /// # Errors
    /// [`SelectError`].
    pub fn find_recent(
        &self,
        selector: Option<&ProcessSelector>,
    ) -> Result<Arc<Process>, SelectError> {
        self.select(selector, |inner, matches| {
            inner.forget_old(Instant::now());
            let live = inner.live.values().find(|process| matches(process));
            let ended = || inner.ended.iter().rev().map(|(_, process)| process);
            live.or_else(|| ended().find(|process| matches(process)))
                .cloned()
        })
    }

    fn select(
        &self,
        selector: Option<&ProcessSelector>,
        find: impl FnOnce(&mut Inner, &dyn Fn(&Process) -> bool) -> Option<Arc<Process>>,
    ) -> Result<Arc<Process>, SelectError> {
        let mut inner = self.lock();
        match selector.and_then(|selector| selector.selector.as_ref()) {
            Some(Selector::Pid(pid)) => {
                find(&mut inner, &|process| process.pid() == *pid).ok_or(SelectError::Pid(*pid))
            }
            Some(Selector::Tag(tag)) => {
                find(&mut inner, &|process| process.tag() == Some(tag.as_str()))
                    .ok_or_else(|| SelectError::Tag(tag.clone()))
            }
            None => Err(SelectError::Empty),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget_old(&mut self, now: Instant) {
        while self.ended.len() > MAX_ENDED
            || self
                .ended
                .front()
                .is_some_and(|(at, _)| now.duration_since(*at) > KEEP_ENDED)
        {
            self.ended.pop_front();
        }
    }
}
