//! Locks that survive a panic of another holder.
//!
//! A thread that panics while it holds a lock must not take every other thread of the VMM with it: the state behind
//! our locks is made of plain values which are valid after each statement, so a poisoned lock is simply taken over.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes `mutex`, whether or not an earlier holder panicked.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_poisoned_lock_still_opens() {
        let shared = Arc::new(Mutex::new(1));
        let other = Arc::clone(&shared);
        let panicked = std::thread::spawn(move || {
            let _held = other.lock();
            panic!("on purpose");
        })
        .join();
        assert!(panicked.is_err());
        assert!(shared.is_poisoned());
        *lock(&shared) += 1;
        assert_eq!(*lock(&shared), 2);
    }
}
