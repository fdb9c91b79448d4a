//! Things are read one after the other, each within its time, and one that hangs is left behind: what it waits for is no
//! business of the others.
//!
//! They are read on a thread of their own. When one takes too long, another thread goes on with those behind it, and the first
//! ends by itself when it has its answer. Until then that thing is not read again, so that threads that hang do not add up.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long reading may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The first that is late.
    pub first: Duration,
    /// Each that is late after it: they may all wait for the same.
    pub next: Duration,
}

/// How many threads that were left behind are in something.
#[derive(Debug, Default)]
pub struct Left(AtomicUsize);

impl Left {
    /// Whether one is.
    pub fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// What became of something that was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<R> {
    /// It answered.
    Read(R),
    /// It did not in time, or a thread that was left behind still waits for it.
    Slow,
    /// Reading it panicked; the panic is in the log.
    Panicked,
}

/// What may hang.
pub trait MayHang: Send + Sync + 'static {
    /// What was left behind in it.
    fn left(&self) -> &Left;
}

struct Round<T, R, F> {
    items: Vec<Arc<T>>,
    read: F,
    state: Mutex<State<R>>,
    ended: Condvar,
}

struct State<R> {
    /// Which thread reads; those before it were left behind.
    thread: usize,
    /// The item that is read after this one.
    next: usize,
    /// Since when this one is read.
    since: Instant,
    outcomes: Vec<Outcome<R>>,
    is_over: bool,
}

/// Reads each of these, in their order. Without a thread to be had the caller reads them, without a limit of time.
pub fn each<T, R, F>(limits: Limits, items: Vec<Arc<T>>, read: F) -> Vec<Outcome<R>>
where
    T: MayHang,
    R: Send + 'static,
    F: Fn(&T) -> R + Send + Sync + 'static,
{
    let outcomes = items.iter().map(|_| Outcome::Slow).collect();
    let state = State { thread: 0, next: 0, since: Instant::now(), outcomes, is_over: false };
    let round = Arc::new(Round { items, read, state: Mutex::new(state), ended: Condvar::new() });
    round.start(0);
    let mut limit = limits.first;
    let mut state = round.lock();
    while !state.is_over {
        let left = limit.saturating_sub(state.since.elapsed());
        if !left.is_zero() {
            state = round.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        if let Some(item) = state.next.checked_sub(1).and_then(|index| round.items.get(index)) {
            item.left().0.fetch_add(1, Ordering::Relaxed);
        }
        state.thread += 1;
        state.since = Instant::now();
        let thread = state.thread;
        drop(state);
        round.start(thread);
        limit = limits.next;
        state = round.lock();
    }
    std::mem::take(&mut state.outcomes)
}

impl<T, R, F> Round<T, R, F>
where
    T: MayHang,
    R: Send + 'static,
    F: Fn(&T) -> R + Send + Sync + 'static,
{
    fn lock(&self) -> MutexGuard<'_, State<R>> {
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
        loop {
            let index = {
                let mut state = self.lock();
                if state.thread != thread {
                    return;
                }
                if state.next == self.items.len() {
                    state.is_over = true;
                    self.ended.notify_all();
                    return;
                }
                state.next += 1;
                state.since = Instant::now();
                state.next - 1
            };
            let item = &*self.items[index];
            if item.left().is_any() {
                continue;
            }
            let outcome = match catch_unwind(AssertUnwindSafe(|| (self.read)(item))) {
                Ok(read) => Outcome::Read(read),
                Err(_) => Outcome::Panicked,
            };
            let mut state = self.lock();
            if state.thread != thread {
                item.left().0.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            state.outcomes[index] = outcome;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const PATIENT: Limits = Limits { first: Duration::from_mins(1), next: Duration::from_mins(1) };
    const SHORT: Duration = Duration::from_millis(50);

    struct Item {
        number: u32,
        /// What it waits for.
        gate: Option<Mutex<mpsc::Receiver<()>>>,
        left: Left,
    }

    impl MayHang for Item {
        fn left(&self) -> &Left {
            &self.left
        }
    }

    fn item(number: u32) -> Arc<Item> {
        Arc::new(Item { number, gate: None, left: Left::default() })
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
        let hangs = Item { number: 7, gate: Some(Mutex::new(gate)), left: Left::default() };
        let items = vec![item(1), Arc::new(hangs), item(2), item(3)];
        let others_are_there = |outcomes: &[Outcome<u32>]| {
            assert_eq!(outcomes[0], Outcome::Read(1));
            assert_eq!(outcomes[2..], [Outcome::Read(2), Outcome::Read(3)]);
        };
        let outcomes = each(Limits { first: SHORT, ..PATIENT }, items.clone(), read);
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

    #[test]
    fn one_limit_after_the_other() {
        let gates: Vec<_> = (0..3).map(|_| mpsc::channel::<()>()).collect();
        let (open, items): (Vec<_>, Vec<_>) = gates
            .into_iter()
            .map(|(open, gate)| {
                (open, Arc::new(Item { number: 0, gate: Some(Mutex::new(gate)), left: Left::default() }))
            })
            .unzip();
        let begun = Instant::now();
        let outcomes = each(Limits { first: 4 * SHORT, next: SHORT }, items, read);
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Slow));
        assert!(begun.elapsed() >= 6 * SHORT, "each has its time");
        drop(open);
    }
}
