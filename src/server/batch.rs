//! Work that requests share. Collecting takes time and memory on a large host, so requests for the same thing that come during a
//! collection share the next one. They never share one that began before they came: no answer is older than its request.

use crate::lock::lock;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    hash::Hash,
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

/// Most pieces of work at a time, whatever they are for: each may hold a thread and the families of a whole host. If one hangs,
/// there is room for another.
const TURNS: usize = 2;
/// How long work waits for earlier work of the same kind to end. Work that hangs must not hold up the rest for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// The work panicked; the log says where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panicked;

type BatchOutcome<R> = Result<R, Panicked>;

/// The work that is under way, and when it began.
#[derive(Debug)]
pub(super) struct Turns {
    free: Arc<Semaphore>,
    begun: Mutex<(u64, BTreeMap<u64, Instant>)>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(TURNS)), begun: Mutex::default() }
    }
}

/// A piece of work that is under way until this is dropped.
struct TurnGuard {
    turns: Arc<Turns>,
    number: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// How long the oldest piece of work that has not ended has been under way.
    pub(super) fn oldest(&self) -> Option<Duration> {
        lock(&self.begun).1.values().next().map(Instant::elapsed)
    }

    async fn take(self: &Arc<Self>) -> TurnGuard {
        // `None` cannot happen, because the semaphore is never closed; it would mean no limit, not no service.
        let permit = self.free.clone().acquire_owned().await.ok();
        let mut begun = lock(&self.begun);
        let number = begun.0;
        begun.0 += 1;
        begun.1.insert(number, Instant::now());
        TurnGuard { turns: self.clone(), number, _permit: permit }
    }
}

impl Drop for TurnGuard {
    fn drop(&mut self) {
        lock(&self.turns.begun).1.remove(&self.number);
    }
}

/// Work by the thing requested, `K`. `W` is a form of the result; requests that share work may want different forms.
pub(super) struct Batches<K, W, R> {
    lines: Mutex<HashMap<K, BatchQueue<W, R>>>,
    turns: Arc<Turns>,
}

impl<K, W, R> fmt::Debug for Batches<K, W, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches").field("turns", &self.turns).finish_non_exhaustive()
    }
}

/// The requests for one thing.
struct BatchQueue<W, R> {
    under_way: usize,
    ended: Arc<Notify>,
    next: Option<Batch<W, R>>,
}

/// Requests whose work has not begun.
struct Batch<W, R> {
    wanted: BTreeSet<W>,
    outcome: Arc<watch::Sender<Option<BatchOutcome<R>>>>,
}

impl<W, R> Default for BatchQueue<W, R> {
    fn default() -> Self {
        Self { under_way: 0, ended: Arc::default(), next: None }
    }
}

impl<K, W, R> Batches<K, W, R>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    W: Ord + Send + 'static,
    R: Clone + Send + Sync + 'static,
{
    pub(super) fn new(turns: Arc<Turns>) -> Arc<Self> {
        Arc::new(Self { lines: Mutex::default(), turns })
    }

    /// The result of work that begins after this is called. `work` runs once for all requests of the batch, on a thread that may
    /// block, with the forms that any of them wants; the first request's `work` is the one that runs.
    pub(super) async fn ask(
        self: &Arc<Self>,
        key: K,
        form: W,
        work: impl FnOnce(BTreeSet<W>) -> R + Send + 'static,
    ) -> BatchOutcome<R> {
        let mut outcome = {
            let mut lines = lock(&self.lines);
            let line = lines.entry(key.clone()).or_default();
            if let Some(batch) = &mut line.next {
                batch.wanted.insert(form);
                batch.outcome.subscribe()
            } else {
                let (sender, receiver) = watch::channel(None);
                let sender = Arc::new(sender);
                line.next = Some(Batch { wanted: BTreeSet::from([form]), outcome: sender.clone() });
                tokio::spawn(self.clone().lead(key, sender, work));
                receiver
            }
        };
        // The sender is dropped only with an outcome, or with the whole runtime.
        let outcome = outcome.wait_for(Option::is_some).await;
        outcome.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(Panicked))
    }

    /// Does the work of the next batch when its turn comes, unless all of its requests are given up before.
    async fn lead(
        self: Arc<Self>,
        key: K,
        outcome: Arc<watch::Sender<Option<BatchOutcome<R>>>>,
        work: impl FnOnce(BTreeSet<W>) -> R + Send + 'static,
    ) {
        let _ = tokio::time::timeout(PATIENCE, self.is_free(&key)).await;
        let mut turn = pin!(self.turns.take());
        let turn = loop {
            tokio::select! {
                turn = turn.as_mut() => break turn,
                // While all work hangs, requests that time out must leave nothing behind.
                () = outcome.closed() => if self.is_given_up(&key) { return },
            }
        };
        let Some(wanted) = self.begin(&key) else { return };
        let under_way = BatchGuard { batches: self.clone(), key };
        let done = tokio::task::spawn_blocking(move || {
            let _until_it_ends = (under_way, turn);
            work(wanted)
        });
        // Never cancelled, so an error is a panic, which the runtime caught.
        let result = done.await.map_err(|error| {
            tracing::error!(%error, "collecting panicked");
            Panicked
        });
        outcome.send_replace(Some(result));
    }

    /// Returns when no work for this key is under way.
    async fn is_free(&self, key: &K) {
        loop {
            let ended = match lock(&self.lines).get(key) {
                Some(line) if line.under_way > 0 => line.ended.clone(),
                _ => return,
            };
            ended.notified().await;
        }
    }

    /// Whether no request waits for the next batch any more. Then the batch is removed.
    fn is_given_up(&self, key: &K) -> bool {
        let mut lines = lock(&self.lines);
        let Some(line) = lines.get_mut(key) else { return true };
        if line.next.take_if(|batch| batch.outcome.receiver_count() == 0).is_none() {
            return false;
        }
        if line.under_way == 0 {
            lines.remove(key);
        }
        true
    }

    /// Closes the next batch for later requests and returns the forms that it wants. `None` if no request waits for it.
    fn begin(&self, key: &K) -> Option<BTreeSet<W>> {
        if self.is_given_up(key) {
            return None;
        }
        let mut lines = lock(&self.lines);
        let line = lines.get_mut(key)?;
        let batch = line.next.take()?;
        line.under_way += 1;
        Some(batch.wanted)
    }
}

/// Work of a batch that is under way until this is dropped.
struct BatchGuard<K: Eq + Hash, W, R> {
    batches: Arc<Batches<K, W, R>>,
    key: K,
}

impl<K: Eq + Hash, W, R> Drop for BatchGuard<K, W, R> {
    fn drop(&mut self) {
        let mut lines = lock(&self.batches.lines);
        let Some(line) = lines.get_mut(&self.key) else { return };
        line.under_way = line.under_way.saturating_sub(1);
        line.ended.notify_one();
        if line.under_way == 0 && line.next.is_none() {
            lines.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_asks_meanwhile_shares_the_next() {
        let batches = Batches::<&str, u8, Vec<u8>>::new(Arc::default());
        let count = Arc::new(AtomicUsize::new(0));
        let (go, gate) = mpsc::channel::<()>();
        let (told, mut begun) = tokio::sync::mpsc::unbounded_channel();
        let first = tokio::spawn({
            let (batches, count) = (batches.clone(), count.clone());
            async move {
                let work = move |forms: BTreeSet<u8>| {
                    count.fetch_add(1, Ordering::Relaxed);
                    told.send(()).unwrap();
                    gate.recv().unwrap();
                    forms.into_iter().collect()
                };
                batches.ask("a", 1, work).await
            }
        });
        begun.recv().await.unwrap();
        let later: Vec<_> = (0..20_u8)
            .map(|number| {
                let (batches, count) = (batches.clone(), count.clone());
                tokio::spawn(async move {
                    let work = move |forms: BTreeSet<u8>| {
                        count.fetch_add(1, Ordering::Relaxed);
                        forms.into_iter().collect()
                    };
                    batches.ask("a", number % 3, work).await
                })
            })
            .collect();
        // Another question waits for nobody.
        assert_eq!(batches.ask("b", 7, |forms| forms.into_iter().collect()).await.unwrap(), [7]);
        let joined = || lock(&batches.lines)["a"].next.as_ref().map(|batch| batch.outcome.receiver_count());
        while joined() != Some(20) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(batches.turns.oldest().is_some());
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap().unwrap(), [1], "none of those who came later");
        for answer in later {
            assert_eq!(answer.await.unwrap().unwrap(), [0, 1, 2]);
        }
        assert_eq!(count.load(Ordering::Relaxed), 2);
        assert!(lock(&batches.lines).is_empty() && batches.turns.oldest().is_none());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn requests_that_are_given_up_while_all_work_hangs_leave_nothing() {
        let batches = Batches::<usize, (), ()>::new(Arc::default());
        let (go, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let hang = |number| {
            let (batches, gate) = (batches.clone(), gate.clone());
            tokio::spawn(async move {
                let work = move |_| {
                    let _ = lock(&gate).recv();
                };
                batches.ask(number, (), work).await
            })
        };
        let hung: Vec<_> = (0..TURNS).map(hang).collect();
        while batches.turns.free.available_permits() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for number in TURNS..TURNS + 20 {
            let asked = batches.ask(number, (), |_| ());
            assert!(tokio::time::timeout(Duration::from_millis(1), asked).await.is_err());
        }
        while lock(&batches.lines).len() > TURNS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(go);
        for request in hung {
            assert!(request.await.unwrap().is_ok());
        }
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_not_done_and_a_panic_is_an_answer() {
        let batches = Batches::<(), (), ()>::new(Arc::default());
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let work = move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        // It is polled once, which makes the batch, and given up before that has its turn.
        tokio::select! {
            biased;
            _ = batches.ask((), (), work) => panic!("it is done at once"),
            () = std::future::ready(()) => {}
        }
        while !lock(&batches.lines).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert!(batches.ask((), (), |_| panic!("on purpose")).await.is_err());
        assert!(batches.ask((), (), |_| ()).await.is_ok());
        assert!(lock(&batches.lines).is_empty());
    }
}
