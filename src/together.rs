//! Two things at a time.

use std::{
    panic,
    sync::{Mutex, PoisonError},
    thread,
};

/// Does both at a time, or one after the other where there is no thread to be had.
pub fn together<A: Send, B>(first: impl FnOnce() -> A + Send, second: impl FnOnce() -> B) -> (A, B) {
    // Where no thread is started, what it was to do is lost with it unless it is kept here.
    let first = Mutex::new(Some(first));
    let take = || first.lock().unwrap_or_else(PoisonError::into_inner).take();
    thread::scope(|scope| {
        let beside = thread::Builder::new().spawn_scoped(scope, || take().map(|first| first()));
        let second = second();
        let first = match beside {
            Ok(beside) => beside.join().unwrap_or_else(|panic| panic::resume_unwind(panic)),
            Err(_) => take().map(|first| first()),
        };
        match first {
            Some(first) => (first, second),
            None => unreachable!("it is taken by the thread, or by this one where there is no thread"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_done() {
        let text = String::from("a");
        assert_eq!(together(|| text.len(), || text.clone()), (1, text.clone()));
    }
}
