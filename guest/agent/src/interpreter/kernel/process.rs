//! A kernel's process while somebody waits for its end, and what it said last.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::process::launch::Ends;
use crate::process::reaper::{Exit, Reaper};

/// Bytes of standard error that are kept for the report of a death.
const STDERR_TAIL: usize = 2048;

/// The kernel's process while somebody waits for it; dropped before its end, it is killed.
pub struct Process {
    pid: Pid,
    reaper: Arc<Reaper>,
    exit: Option<Exit>,
}

impl Process {
    /// Takes over a child.
    pub fn new(pid: Pid, reaper: Arc<Reaper>, exit: Exit) -> Self {
        Self {
            pid,
            reaper,
            exit: Some(exit),
        }
    }

    /// Its status; `None` when nobody will ever know.
    pub async fn exited(&mut self) -> Option<ExitStatus> {
        let status = match self.exit.as_mut() {
            Some(exit) => exit.await.ok(),
            None => None,
        };
        self.exit = None;
        status
    }

    /// Kills it and all of its group, and waits.
    pub async fn kill(&mut self) -> Option<ExitStatus> {
        let _ = self.reaper.signal_group(self.pid, Signal::KILL);
        self.exited().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit.is_some() {
            let _ = self.reaper.signal_group(self.pid, Signal::KILL);
        }
    }
}

/// The last bytes a kernel wrote to its standard error: the reason, when it dies.
pub struct Output {
    tail: Arc<Mutex<VecDeque<u8>>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Output {
    /// Reads both streams until their ends.
    pub fn collect(ends: Ends) -> Self {
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let reader = tokio::spawn({
            let tail = Arc::clone(&tail);
            async move {
                if let Ends::Pipes { stdout, stderr, .. } = ends {
                    tokio::join!(keep_tail(stderr, Some(&tail)), keep_tail(stdout, None));
                }
            }
        });
        Self { tail, reader }
    }

    /// How it ended, and its last words.
    pub async fn describe(&mut self, status: Option<ExitStatus>) -> String {
        // What it wrote last may still be in the pipe; a descendant may hold it open.
        let _ = tokio::time::timeout(Duration::from_millis(100), &mut self.reader).await;
        self.reader.abort();
        let tail: Vec<u8> = self
            .tail
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .copied()
            .collect();
        let tail = String::from_utf8_lossy(&tail).trim().to_owned();
        let how = match status.map(|status| (status.code(), status.signal())) {
            Some((Some(code), _)) => format!("exit code {code}"),
            Some((_, Some(9))) => "killed, perhaps because memory ran out".to_owned(),
            Some((_, Some(signal))) => format!("signal {signal}"),
            _ => "unknown reason".to_owned(),
        };
        if tail.is_empty() {
            how
        } else {
            format!("{how}: {tail}")
        }
    }
}

async fn keep_tail(mut pipe: impl AsyncRead + Unpin, tail: Option<&Mutex<VecDeque<u8>>>) {
    let mut buffer = [0; 4096];
    while let Ok(length) = pipe.read(&mut buffer).await {
        if length == 0 {
            return;
        }
        if let Some(tail) = tail {
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend(&buffer[..length]);
            let excess = tail.len().saturating_sub(STDERR_TAIL);
            tail.drain(..excess);
        }
    }
}
