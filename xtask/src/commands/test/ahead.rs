//! What the end-to-end part needs and cargo has no hand in, made where the other parts leave a processor idle.
//!
//! ```text
//! start ─▶ a thread of the lowest priority: lab, kernel, images ─▶ cache
//!      └─▶ fmt → clippy → cargo test → pages → programs and agent ─▶ wait ─▶ e2e
//! ```

use std::thread::JoinHandle;

use anyhow::Result;

use crate::cache::Ctx;
use crate::commands::{Place, setup};
use crate::progress::Progress;

/// The highest niceness there is (setpriority(2)).
const LOWEST_PRIORITY: i32 = 19;

/// The making. Dropped, it waits, so that no compiler is left behind.
#[derive(Debug)]
pub struct Ahead {
    making: Option<JoinHandle<Result<()>>>,
}

impl Ahead {
    /// Begins it for a daemon at `place`.
    pub fn start(ctx: &Ctx, place: Place) -> Self {
        let ctx = Ctx {
            // Beside cargo's own live lines others would only flicker.
            progress: Progress::plain(),
            ..ctx.clone()
        };
        Self::of(move || setup::materials(&ctx, place))
    }

    fn of(make: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        let making = std::thread::spawn(|| {
            // Of this thread and of what it starts, not of the process. At another priority it is made just as well.
            let _ = rustix::process::setpriority_process(None, LOWEST_PRIORITY);
            make()
        });
        Self {
            making: Some(making),
        }
    }

    /// Waits until all is there.
    ///
    /// # Errors
    /// When something could not be made.
    pub fn wait(mut self) -> Result<()> {
        match self.making.take().map(JoinHandle::join) {
            Some(Ok(made)) => made,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(making) = self.making.take() {
            // Whoever drops it has an error of its own to tell.
            let _ = making.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn it_is_made_at_the_lowest_priority_and_ours_stays() {
        let before = rustix::process::getpriority_process(None).unwrap();
        let (tell, told) = mpsc::channel();
        let make = move || Ok(tell.send(rustix::process::getpriority_process(None)?)?);
        Ahead::of(make).wait().unwrap();
        assert_eq!(told.recv(), Ok(LOWEST_PRIORITY));
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), before);
    }

    #[test]
    fn what_cannot_be_made_is_told_to_the_one_who_waits() {
        let error = Ahead::of(|| anyhow::bail!("no compiler"))
            .wait()
            .unwrap_err();
        assert_eq!(error.to_string(), "no compiler");
    }

    #[test]
    fn nothing_is_left_behind() {
        let (tell, told) = mpsc::channel();
        drop(Ahead::of(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            Ok(tell.send(())?)
        }));
        assert_eq!(told.try_recv(), Ok(()));
    }
}
