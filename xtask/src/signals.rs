//! Ctrl-C and its kin as values: whoever waits for something also looks here.
//!
//! From [`catch`] on, SIGINT, SIGTERM and SIGHUP no longer end the process. The first
//! asks for an orderly end; the third in a row ends the process on the spot (children are tied
//! to it, see [`crate::child`]).

use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static COUNT: AtomicUsize = AtomicUsize::new(0);
static LAST: AtomicI32 = AtomicI32::new(0);

/// After so many the process ends without further ado.
const IMPATIENT: usize = 3;

/// Starts catching. Call once, from the main thread.
///
/// # Errors
/// When handlers can't be set.
pub fn catch() -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
        .context("could not catch signals")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            LAST.store(signal, Ordering::SeqCst);
            if COUNT.fetch_add(1, Ordering::SeqCst) + 1 >= IMPATIENT {
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        }
    });
    Ok(())
}

/// How many signals came so far.
#[must_use]
pub fn count() -> usize {
    COUNT.load(Ordering::SeqCst)
}

/// The last signal that came, if any.
#[must_use]
pub fn last() -> Option<i32> {
    Some(LAST.load(Ordering::SeqCst)).filter(|&signal| signal != 0)
}

/// Fails when a signal came: for loops that wait.
///
/// # Errors
/// When one came.
pub fn check() -> Result<()> {
    if count() > 0 {
        bail!("interrupted");
    }
    Ok(())
}
