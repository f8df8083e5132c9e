//! Runs a CPU's thread under a time limit.
//!
//! ```text
//!   caller ──spawn──► thread: KVM_RUN … KVM_RUN …        (looks at `Stop` before each)
//!     │ waits `limit`                │
//!     ├─ in time ◄───────────────────┘ result
//!     └─ late: Stop, then a signal every few milliseconds until the thread is done
//! ```
//!
//! The signal's handler does nothing; it only makes `KVM_RUN` return `EINTR`. A signal may fall
//! between the look and the call, so it is sent again and again rather than once.
//!
//! A leaf module: unsafe is the signal handler and sending to one thread of this process.

use std::io;
use std::os::unix::thread::JoinHandleExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Pause between two signals.
const AGAIN: Duration = Duration::from_millis(5);

/// The wish that the thread end.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Whether the thread is to end.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Calls `work` on a thread of its own, asks it to stop after `limit`, and returns what it returned.
///
/// `work` must look at [`Stop::asked`] before each call that may block, and such calls must return
/// on a signal.
///
/// # Errors
/// When the thread or the handler cannot be set up, or `work` panicked.
pub fn run<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce(&Arc<Stop>) -> T + Send + 'static,
) -> io::Result<T> {
    let handler = Handler::install()?;
    let stop = Arc::new(Stop::default());
    let seen = Arc::clone(&stop);
    let (done, finished) = channel();
    let thread = thread::Builder::new()
        .name("doctor-probe".into())
        .spawn(move || {
            let result = work(&seen);
            // The receiver only disappears once the result no longer matters.
            let _ = done.send(());
            result
        })?;
    let mut late = finished.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
    if late {
        stop.0.store(true, Ordering::Release);
    }
    while late {
        handler.signal(&thread);
        late = finished.recv_timeout(AGAIN) == Err(RecvTimeoutError::Timeout);
    }
    thread
        .join()
        .map_err(|_| io::Error::other("the probe's thread panicked"))
}

/// One probe at a time may own the signal's handler.
static OWNER: Mutex<()> = Mutex::new(());

/// The handler while it is installed; puts the former one back when dropped.
struct Handler {
    signal: libc::c_int,
    former: libc::sigaction,
    _owner: std::sync::MutexGuard<'static, ()>,
}

extern "C" fn nothing(_: libc::c_int) {}

impl Handler {
    fn install() -> io::Result<Self> {
        let owner = OWNER.lock().unwrap_or_else(PoisonError::into_inner);
        let signal = libc::SIGRTMIN() + 7;
        let handler: extern "C" fn(libc::c_int) = nothing;
        // SAFETY: sigaction is plain data, for which all zeros means no flags and an empty mask.
        let (mut action, mut former): (libc::sigaction, libc::sigaction) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        action.sa_sigaction = handler as usize;
        // SAFETY: both structs are live; the handler is async-signal-safe because it is empty.
        if unsafe { libc::sigaction(signal, &raw const action, &raw mut former) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            signal,
            former,
            _owner: owner,
        })
    }

    fn signal<T>(&self, thread: &thread::JoinHandle<T>) {
        // SAFETY: the thread has not been joined, so its id is still valid. A failure means that it
        // has just ended, which is what is wanted.
        unsafe { libc::pthread_kill(thread.as_pthread_t(), self.signal) };
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // SAFETY: puts back what sigaction itself returned.
        unsafe { libc::sigaction(self.signal, &raw const self.former, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_thread_in_time_is_left_alone() {
        let answer = run(Duration::from_secs(60), |stop| (stop.asked(), 7)).unwrap();
        assert_eq!(answer, (false, 7));
    }

    #[test]
    fn a_thread_blocked_in_the_kernel_is_pulled_out() {
        let begun = Instant::now();
        let interrupted = run(Duration::from_millis(20), |stop| {
            let long = libc::timespec {
                tv_sec: 60,
                tv_nsec: 0,
            };
            while !stop.asked() {
                // SAFETY: a live timespec and no remainder wanted.
                unsafe { libc::nanosleep(&raw const long, std::ptr::null_mut()) };
            }
            true
        });
        assert!(interrupted.unwrap());
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_panic_is_an_error() {
        assert!(
            run(Duration::from_secs(60), |_| -> () {
                panic!("expected by the test")
            })
            .is_err()
        );
    }
}
