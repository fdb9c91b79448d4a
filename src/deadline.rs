//! Reads things one after the other, each within its time limit, and goes on without one that hangs, so that it does not
//! hold up the others.
//!
//! They are read on a thread of their own. If one takes too long, another thread goes on with those behind it, and the first
//! ends by itself when it has its answer. Until then that thing is not read again, so that hanging threads do not add up.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Time limits of reading.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimits {
    /// For the first that is late.
    pub first: Duration,
    /// For each later one that is late: they may all wait for the same thing.
    pub next: Duration,
}

/// Counts the threads that hang in a thing.
#[derive(Debug, Default)]
pub struct HangingThreads(AtomicUsize);

impl HangingThreads {
    /// Whether a thread hangs.
    pub fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// The result of reading one thing.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<R> {
    /// It answered.
    Read(R),
    /// It did not answer in time, or a thread from before still waits for it.
    Slow,
    /// Reading it panicked; the panic is in the log.
    Panicked,
}

/// A thing that may hang.
pub trait MayHang: Send + Sync + 'static {
    /// The threads that hang in it.
    fn left(&self) -> &HangingThreads;
}

struct ReadingRound<T, R, F> {
    items: Vec<Arc<T>>,
    read: F,
    state: Mutex<ThreadState<R>>,
    ended: Condvar,
}

struct ThreadState<R> {
    /// The number of the thread that reads; those before it were abandoned.
    thread: usize,
    /// The item that is read, and since when; `None` while a thread has not begun.
    reading: Option<(usize, Instant)>,
    /// The next item.
    next: usize,
    outcomes: Vec<Outcome<R>>,
    is_over: bool,
}

/// Reads each item, in order. If no thread can be started, the caller reads them, without a time limit.
pub fn each<T, R, F>(limits: TimeLimits, items: Vec<Arc<T>>, read: F) -> Vec<Outcome<R>>
where
    T: MayHang,
    R: Send + 'static,
    F: Fn(&T) -> R + Send + Sync + 'static,
{
    let outcomes = items.iter().map(|_| Outcome::Slow).collect();
    let state = ThreadState { thread: 0, reading: None, next: 0, outcomes, is_over: false };
    let round = Arc::new(ReadingRound { items, read, state: Mutex::new(state), ended: Condvar::new() });
    round.start(0);
    let mut limit = limits.first;
    let mut state = round.lock();
    while !state.is_over {
        let left = state.reading.map_or(limit, |(_, since)| limit.saturating_sub(since.elapsed()));
        if !left.is_zero() {
            state = round.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        // Taken out, so that it counts once; the thread in it sees that another one reads, and takes the count back.
        if let Some((index, _)) = state.reading.take() {
            round.items[index].left().0.fetch_add(1, Ordering::Relaxed);
        }
        state.thread += 1;
        let thread = state.thread;
        drop(state);
        round.start(thread);
        limit = limits.next;
        state = round.lock();
    }
    std::mem::take(&mut state.outcomes)
}

impl<T, R, F> ReadingRound<T, R, F>
where
    T: MayHang,
    R: Send + 'static,
    F: Fn(&T) -> R + Send + Sync + 'static,
{
    fn lock(&self) -> MutexGuard<'_, ThreadState<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, thread: usize) {
        let round = self.clone();
        let read = move || round.run(thread);
        if let Err(error) = thread::Builder::new().name("read".into()).spawn(read) {
            tracing::debug!(%error, "no thread is to be had, so what is read has no limit of time");
            self.run(thread);
        }
    }

    fn run(&self, thread: usize) {
        let mut state = self.lock();
        while let Some(index) = self.begin(&mut state, thread) {
            drop(state);
            let item = &*self.items[index];
            let outcome = match catch_unwind(AssertUnwindSafe(|| (self.read)(item))) {
                Ok(read) => Outcome::Read(read),
                Err(_) => Outcome::Panicked,
            };
            state = self.lock();
            if state.thread == thread {
                state.outcomes[index] = outcome;
            } else {
                item.left().0.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// The next item for this thread; `None` if there is none, or if the thread was abandoned. The result of its item before is
    /// stored under the same lock, so that it is never taken for late.
    fn begin(&self, state: &mut ThreadState<R>, thread: usize) -> Option<usize> {
        if state.thread != thread {
            return None;
        }
        let is_free = |item: &Arc<T>| !item.left().is_any();
        let Some(ahead) = self.items[state.next..].iter().position(is_free) else {
            state.is_over = true;
            self.ended.notify_all();
            return None;
        };
        let index = state.next + ahead;
        state.next = index + 1;
        state.reading = Some((index, Instant::now()));
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const PATIENT: TimeLimits = TimeLimits { first: Duration::from_mins(1), next: Duration::from_mins(1) };
    const SHORT: Duration = Duration::from_millis(50);

    struct Item {
        number: u32,
        /// What it waits for.
        gate: Option<Mutex<mpsc::Receiver<()>>>,
        left: HangingThreads,
    }

    impl MayHang for Item {
        fn left(&self) -> &HangingThreads {
            &self.left
        }
    }

    fn item(number: u32) -> Arc<Item> {
        Arc::new(Item { number, gate: None, left: HangingThreads::default() })
    }

    fn read(item: &Item) -> u32 {
        if let Some(gate) = &item.gate {
            let _ = gate.lock().unwrap().recv();
        }
        assert_ne!(item.number, 13, "a mistake");
        item.number
    }

    #[test]
    fn all_are_read_in_their_order() {
        let expected = |number| if number == 13 { Outcome::Panicked } else { Outcome::Read(number) };
        let outcomes = each(PATIENT, (0..100).map(item).collect(), read);
        assert_eq!(outcomes, (0..100).map(expected).collect::<Vec<_>>());
        assert_eq!(each(PATIENT, Vec::new(), read), []);
    }

    #[test]
    fn what_hangs_is_left_behind_until_it_answers() {
        let (open, gate) = mpsc::channel();
        let hangs = Item { number: 7, gate: Some(Mutex::new(gate)), left: HangingThreads::default() };
        let items = vec![item(1), Arc::new(hangs), item(2), item(3)];
        let others_are_there = |outcomes: &[Outcome<u32>]| {
            assert_eq!(outcomes[0], Outcome::Read(1));
            assert_eq!(outcomes[2..], [Outcome::Read(2), Outcome::Read(3)]);
        };
        let outcomes = each(TimeLimits { first: SHORT, ..PATIENT }, items.clone(), read);
        assert_eq!(outcomes[1], Outcome::Slow);
        others_are_there(&outcomes);
        // Nobody waits for it a second time, and no second thread is left in it.
        let outcomes = each(PATIENT, items.clone(), read);
        assert_eq!(outcomes[1], Outcome::Slow);
        others_are_there(&outcomes);
        assert_eq!(items[1].left.0.load(Ordering::Relaxed), 1);
        drop(open);
        while items[1].left.is_any() {
            thread::yield_now();
        }
        let outcomes = each(PATIENT, items, read);
        assert_eq!(outcomes[1], Outcome::Read(7), "its answer has come");
        others_are_there(&outcomes);
    }

    /// Limits that all readings are about to miss, and threads that begin late: whatever comes first, nothing stays left.
    #[test]
    fn nothing_is_left_for_good() {
        const MOMENT: Duration = Duration::from_millis(1);
        let items: Vec<_> = (0..4).map(item).collect();
        for _ in 0..300 {
            each(
                TimeLimits { first: MOMENT, next: Duration::from_nanos(1) },
                items.clone(),
                |item: &Item| {
                    thread::sleep(MOMENT);
                    item.number
                },
            );
        }
        let begun = Instant::now();
        while items.iter().any(|item| item.left.is_any()) {
            assert!(
                begun.elapsed() < PATIENT.first,
                "left: {:?}",
                items.iter().map(|item| &item.left).collect::<Vec<_>>()
            );
            thread::yield_now();
        }
    }

    #[test]
    fn one_limit_after_the_other() {
        let gates: Vec<_> = (0..3).map(|_| mpsc::channel::<()>()).collect();
        let (open, items): (Vec<_>, Vec<_>) = gates
            .into_iter()
            .map(|(open, gate)| {
                (
                    open,
                    Arc::new(Item {
                        number: 0,
                        gate: Some(Mutex::new(gate)),
                        left: HangingThreads::default(),
                    }),
                )
            })
            .unzip();
        let begun = Instant::now();
        let outcomes = each(TimeLimits { first: 4 * SHORT, next: SHORT }, items, read);
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Slow));
        assert!(begun.elapsed() >= 6 * SHORT, "each has its time");
        drop(open);
    }
}
