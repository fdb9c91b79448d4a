//! Locks of state that is whole at every moment, so that a thread which panicked while it held one takes nothing from the others.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, whatever became of who held it before.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
