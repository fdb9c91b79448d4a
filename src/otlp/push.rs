//! The loop: reads the families at each interval, sends them, and sends again what was not accepted, as the specification of
//! OTLP requires.
//!
//! One push is under way at a time, and has a deadline. Requests that are not accepted by then are given up and not kept: the
//! next push has the totals since the beginning, or the differences to the last accepted push. So a receiver that is down costs
//! the memory of one push, and nothing is lost once it is back. Collecting is on threads that may block, as for scrapes.

use super::{
    client::{Client, PushAnswer},
    delta::{AcceptedStates, PendingState},
    request::{PushRequest, RequestEncoder},
    retry::{self, Backoff},
    state::{PushResult, PushState},
};
use crate::{
    exposition::{Admission, ExpositionError},
    family::MetricFamily,
    gzip::gzip,
    source::{self, LoggedFamilies, Source},
};
use prost::{Message, bytes::Bytes};
use std::{
    fmt,
    io::{self, Write},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

/// How long the last push may hold up the end of the process.
const LAST: Duration = Duration::from_secs(5);

/// The destination of pushes.
#[derive(Debug)]
pub enum Sink {
    /// To a receiver.
    Receiver {
        /// The connection.
        client: Box<Client>,
        /// The results.
        state: Arc<PushState>,
    },
    /// To standard output: each request as a line of OTLP's JSON.
    Console,
}

/// Pushes the families of a source.
pub struct Pusher {
    source: Arc<dyn Source>,
    sink: Sink,
    reader: FamilyReader,
    interval: Duration,
    /// How long a push may take.
    limit: Duration,
    /// The receiver accepts nothing before this.
    held_until: Option<Instant>,
    /// A collection that did not end in time. No other begins before it has ended.
    late: Option<JoinHandle<Vec<Parcel>>>,
    /// The same for printing.
    printing: Option<JoinHandle<io::Result<()>>>,
    /// Why the present TLS files cannot be used.
    unread: Option<String>,
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher")
            .field("sink", &self.sink)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// The parts that collecting needs; shared with the thread that collects.
#[derive(Clone)]
struct FamilyReader {
    encoder: Arc<RequestEncoder>,
    taken: Arc<Mutex<AcceptedStates>>,
    logged: Arc<LoggedFamilies>,
}

/// A request that is ready to be sent, as often as necessary.
#[derive(Debug)]
struct Parcel {
    body: Bytes,
    points: u64,
    pending: Vec<PendingState>,
}

impl FamilyReader {
    /// Calls `each` with all families as requests.
    fn requests(&self, source: &dyn Source, each: &mut dyn FnMut(PushRequest)) {
        let families = families(&self.logged, || {
            if self.encoder.has_differences() { source.counted() } else { source.collect() }
        });
        // After reading: a point must not end before its probe was attached.
        let time = SystemTime::now();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.encoder.requests(&families, time, &mut taken, each);
    }

    fn parcels(&self, source: &dyn Source, is_packed: bool) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        self.requests(source, &mut |request| {
            let message = request.message.encode_to_vec();
            let body = if is_packed { gzip(&message) } else { message };
            parcels.push(Parcel { body: body.into(), points: request.points, pending: request.pending });
        });
        parcels
    }

    /// Writes all families as lines of JSON.
    fn print(&self, source: &dyn Source) -> io::Result<()> {
        let mut lines = Vec::new();
        let mut pending = Vec::new();
        let mut wrong = None;
        self.requests(source, &mut |request| {
            wrong = serde_json::to_writer(&mut lines, &request.message).err().or(wrong.take());
            lines.push(b'\n');
            pending.extend(request.pending);
        });
        if let Some(error) = wrong {
            return Err(error.into());
        }
        let mut output = io::stdout().lock();
        output.write_all(&lines)?;
        output.flush()?;
        self.take(pending);
        Ok(())
    }

    fn take(&self, pending: Vec<PendingState>) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).take(pending);
    }
}

/// The families that may be exposed, checked as for a scrape.
fn families(logged: &LoggedFamilies, read: impl FnOnce() -> Vec<MetricFamily>) -> Vec<MetricFamily> {
    let mut admission = Admission::default();
    let mut left_out: Vec<ExpositionError> = Vec::new();
    let mut families = source::collect(read);
    families.retain(|family| admission.admit(family).map_err(|error| left_out.push(error)).is_ok());
    let number = source::left_out(left_out.len());
    match admission.admit(&number) {
        Ok(()) => families.push(number),
        Err(error) => left_out.push(error),
    }
    for error in &left_out {
        logged.log(error);
    }
    families
}

impl Pusher {
    /// Pushes to a receiver at each `interval`, for no longer than `limit` each time.
    pub fn new(
        source: Arc<dyn Source>,
        sink: Sink,
        encoder: RequestEncoder,
        interval: Duration,
        limit: Duration,
    ) -> Self {
        let reader =
            FamilyReader { encoder: Arc::new(encoder), taken: Arc::default(), logged: Arc::default() };
        Self {
            source,
            sink,
            reader,
            interval,
            limit,
            held_until: None,
            late: None,
            printing: None,
            unread: None,
        }
    }

    /// Pushes until the sender of `stop` is dropped, and then once more. The first push is at a random moment within the first
    /// interval, so that hosts that started together do not push together.
    pub async fn run(mut self, mut stop: watch::Receiver<()>) {
        let mut next = Instant::now() + self.interval.mul_f64(retry::fraction());
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                _ = stop.changed() => break,
            }
            let deadline = Instant::now() + self.limit;
            let goes_on = {
                let mut push = pin!(self.push(deadline));
                tokio::select! {
                    goes_on = &mut push => goes_on,
                    _ = stop.changed() => {
                        // Its figures are older than those of the last push, which needs time as well.
                        let _ = timeout(LAST / 2, push).await;
                        break;
                    }
                }
            };
            if !goes_on {
                return;
            }
            // The next moment of the same rhythm; pushes that were due in between are left out.
            let late = next.elapsed().as_nanos() / self.interval.as_nanos().max(1);
            next += self.interval.saturating_mul(u32::try_from(late + 1).unwrap_or(u32::MAX));
        }
        self.held_until = None;
        self.push(Instant::now() + LAST).await;
    }

    /// Does one push. Returns whether another one makes sense.
    async fn push(&mut self, deadline: Instant) -> bool {
        let begun = Instant::now();
        let Sink::Receiver { state, .. } = &self.sink else {
            return self.print(deadline).await;
        };
        let state = Arc::clone(state);
        let (result, message) = self.deliver(deadline, &state).await;
        let is_other = state.ended(result, message.clone(), begun.elapsed());
        match result {
            _ if !is_other => tracing::debug!(result = result.name(), why = message, "push ended"),
            PushResult::Taken => tracing::info!("metrics are pushed"),
            PushResult::Partial => {
                tracing::warn!(
                    why = message,
                    "the receiver rejected points; how many is in `tapster_otlp_rejected_points_total`"
                );
            }
            PushResult::HeldBack => tracing::warn!(why = message, "the receiver holds pushes back"),
            PushResult::Refused => tracing::error!(why = message, "the receiver refused a push"),
            PushResult::Failed => {
                tracing::warn!(why = message, "a push failed; the next one makes up for it");
            }
        }
        true
    }

    async fn deliver(&mut self, deadline: Instant, state: &PushState) -> (PushResult, String) {
        if let Some(left) = self.held_until.and_then(|until| until.checked_duration_since(Instant::now())) {
            return (
                PushResult::HeldBack,
                format!("the receiver asked for a pause, of which {left:.0?} are left"),
            );
        }
        let Sink::Receiver { client, .. } = &mut self.sink else {
            return (PushResult::Failed, "there is no receiver: this is a bug in tapster".into());
        };
        match client.refresh().map_err(|error| error.to_string()) {
            Ok(()) => self.unread = None,
            Err(error) if self.unread.as_ref() == Some(&error) => {}
            Err(error) => {
                tracing::error!(
                    "the certificates for pushes cannot be read again, so the old ones stay: {error}"
                );
                self.unread = Some(error);
            }
        }
        let is_packed = client.packs();
        let parcels = match self.collect(deadline, is_packed).await {
            Ok(parcels) => parcels,
            Err(message) => return (PushResult::Failed, message),
        };
        let mut ended = (PushResult::Taken, String::new());
        for parcel in parcels {
            let (result, message) = self.send(parcel, deadline, state).await;
            // Report the worst result, and the first message of its kind.
            if result > ended.0 || ended.1.is_empty() {
                ended = (result.max(ended.0), message);
            }
            if result == PushResult::Failed {
                break;
            }
        }
        ended
    }

    /// Reads and encodes the families.
    async fn collect(&mut self, deadline: Instant, is_packed: bool) -> Result<Vec<Parcel>, String> {
        if let Some(late) = self.late.take_if(|late| late.is_finished()) {
            drop(late);
        }
        if self.late.is_some() {
            return Err("collecting did not end yet for a push before".into());
        }
        let (reader, source) = (self.reader.clone(), Arc::clone(&self.source));
        let mut task = tokio::task::spawn_blocking(move || reader.parcels(&*source, is_packed));
        match timeout_at(deadline, &mut task).await {
            Ok(Ok(parcels)) => Ok(parcels),
            // Never cancelled, so an error is a panic, which the runtime caught.
            Ok(Err(error)) => {
                tracing::error!(%error, "collecting panicked");
                Err("collecting failed inside tapster, which is a bug; its log says where".into())
            }
            Err(_) => {
                self.late = Some(task);
                Err("collecting did not end in time".into())
            }
        }
    }

    /// Sends a request until it is accepted or refused, or the time is over.
    async fn send(&mut self, parcel: Parcel, deadline: Instant, state: &PushState) -> (PushResult, String) {
        let Sink::Receiver { client, .. } = &self.sink else {
            return (PushResult::Failed, String::new());
        };
        let mut backoff = Backoff::new();
        let mut is_again = false;
        loop {
            let bytes = client.sent_bytes();
            let answer = timeout_at(deadline, client.send(parcel.body.clone())).await;
            state.sent(client.sent_bytes() - bytes, is_again);
            let (message, after) = match answer {
                Ok(PushAnswer::Taken { rejected, message }) => {
                    state.taken(parcel.points, rejected);
                    self.reader.take(parcel.pending);
                    let result = if rejected > 0 { PushResult::Partial } else { PushResult::Taken };
                    if rejected == 0 && !message.is_empty() {
                        tracing::debug!(said = message, "the receiver has something to say");
                    }
                    return (result, message);
                }
                Ok(PushAnswer::Refused { message }) => return (PushResult::Refused, message),
                Ok(PushAnswer::Again { message, after }) => (message, after),
                Err(_) => return (PushResult::Failed, "there was no answer in the time for a push".into()),
            };
            let wait = backoff.wait(after);
            let again = Instant::now() + wait;
            if again >= deadline {
                self.held_until = after.map(|_| again);
                return (PushResult::Failed, message);
            }
            tracing::debug!(why = message, ?wait, "a request is sent again");
            sleep(wait).await;
            is_again = true;
        }
    }

    /// Prints all families. Returns whether standard output still accepts any. If it accepts nothing for a while, nobody waits
    /// for it.
    async fn print(&mut self, deadline: Instant) -> bool {
        if self.printing.as_ref().is_some_and(|printing| !printing.is_finished()) {
            return true;
        }
        let (reader, source) = (self.reader.clone(), Arc::clone(&self.source));
        let mut task = tokio::task::spawn_blocking(move || reader.print(&*source));
        match timeout_at(deadline, &mut task).await {
            Ok(Ok(Ok(()))) => true,
            Ok(Ok(Err(error))) => {
                tracing::error!(%error, "standard output takes no metrics any more; nothing is printed from here on");
                false
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "collecting panicked");
                true
            }
            Err(_) => {
                self.printing = Some(task);
                true
            }
        }
    }
}
