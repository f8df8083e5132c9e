//! Waiting for a file descriptor without a thread. The one unsafe block of the file services.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// A descriptor that the runtime waits for. It is private and never handed out.
#[derive(Debug)]
pub struct Ready(AsyncFd<OwnedFd>);

impl Ready {
    /// Takes a descriptor of its own (a duplicate of the one that is read).
    ///
    /// # Errors
    /// That of `epoll_ctl(2)`.
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        // SAFETY: an OwnedFd is valid and open until it is dropped and always gives the same number; it lives
        // inside the AsyncFd, which this type never gives out, so nothing can close or replace it before.
        let registered = unsafe { AsyncFd::register(descriptor) };
        Ok(Self(registered?))
    }

    /// Waits until there is something to read, and forgets that there was: what comes after this call makes the
    /// descriptor ready again.
    ///
    /// # Errors
    /// Only when the runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}
