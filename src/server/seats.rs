//! Seats for connections: how many there are, what each connection does, which connection is closed, and why.
//!
//! A connection holds a seat from the moment when it is accepted. Each of its phases has a time limit: until its first request
//! is complete, until a later request that has begun is complete, between two requests, and while it reads an answer. When seats
//! are short, a new connection displaces an idle one: of the network with the most connections, the one that has been idle for
//! longest. A connection with a request under way keeps its seat as long as it reads the answer. If there is none to displace,
//! the new connection gets one of a few spare seats, which are for health checks only.

use super::network::{self, Network};
use crate::{
    family::{FamilyKind, MetricFamily, Sample, SampleValue},
    lock::lock,
};
use std::{
    collections::HashMap,
    net::IpAddr,
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How long a peer may take for its first request, the TLS handshake included, and for the rest of a later one that has begun.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may stay open between two requests: longer than the usual minute between scrapes.
const IDLE: Duration = Duration::from_secs(90);
/// Seats for health checks while all others have requests under way.
const SPARE: usize = 16;
/// A younger connection may be about to send its request.
const A_WHILE: Duration = Duration::from_secs(1);
/// After this time the same shortage may be logged again.
const SAID_AGAIN: Duration = Duration::from_mins(10);

/// How slowly a client may read an answer.
#[derive(Clone, Copy)]
struct Pace {
    /// The longest time without a byte read.
    pause: Duration,
    /// The least bytes a second, on average after that time.
    rate: u64,
}

/// The limit at all times.
const SLOWEST: Pace = Pace { pause: Duration::from_secs(30), rate: 16 << 10 };
/// The limit while memory or seats are short.
const SLOWEST_WHILE_SHORT: Pace = Pace { pause: Duration::from_secs(5), rate: 256 << 10 };

/// Why the server closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// No request came, or none was complete in time.
    NoRequest,
    /// No further request came.
    Idle,
    /// The client read the answer too slowly.
    SlowReader,
    /// Another connection needed the seat.
    Displaced,
    /// Unread answers filled the memory for answers, and this one was read slowly.
    Memory,
}

impl CloseReason {
    const ALL: [(Self, &'static str); 5] = [
        (Self::NoRequest, "no_request"),
        (Self::Idle, "idle"),
        (Self::SlowReader, "slow_reader"),
        (Self::Displaced, "displaced"),
        (Self::Memory, "memory"),
    ];
}

/// All seats.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    occupied: Mutex<SeatMap>,
    closed: [AtomicU64; CloseReason::ALL.len()],
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct SeatMap {
    seats: HashMap<u64, Arc<Seat>>,
    /// The number of the next seat.
    next: u64,
    short: SparseMessage,
}

/// A message that is logged only now and then.
#[derive(Debug, Default)]
pub(super) struct SparseMessage(Option<Instant>);

impl SparseMessage {
    /// Whether to log it now.
    pub(super) fn is_due(&mut self) -> bool {
        let is_due = self.0.is_none_or(|then| then.elapsed() > SAID_AGAIN);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}

/// The seat of one connection. It is free again when [`SeatGuard`] is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    network: Network,
    is_spare: bool,
    state: Mutex<SeatState>,
    /// The connection is to be closed, or earlier than before.
    changed: Notify,
}

#[derive(Debug)]
struct SeatState {
    /// Requests under way; HTTP/2 has several.
    requests: usize,
    /// Answers to these requests that are being read.
    answers: HashMap<u64, AnswerProgress>,
    /// Requests so far.
    asked: u64,
    /// Whether bytes of a next request have come.
    head: bool,
    /// When the present phase began, while no request is under way.
    since: Instant,
    closed: Option<CloseReason>,
}

/// An answer on its way.
#[derive(Clone, Copy, Debug)]
struct AnswerProgress {
    begun: Instant,
    last: Instant,
    bytes: u64,
}

impl AnswerProgress {
    /// When the answer will have been too slow, if no more of it is read.
    fn due(&self, pace: Pace) -> Instant {
        let earned = Duration::from_secs(self.bytes / pace.rate);
        (self.last + pace.pause).min(self.begun + pace.pause + earned)
    }
}

impl SeatState {
    /// When, by its present state, the connection is to be closed, and why.
    fn due(&self) -> (Instant, CloseReason) {
        if self.requests > 0 {
            let slowest = self.answers.values().map(|taking| taking.due(SLOWEST)).min();
            // Another place of the code waits for a request whose answer has not begun.
            (slowest.unwrap_or_else(|| Instant::now() + SLOWEST.pause), CloseReason::SlowReader)
        } else if self.asked > 0 && !self.head {
            (self.since + IDLE, CloseReason::Idle)
        } else {
            (self.since + HEAD, CloseReason::NoRequest)
        }
    }

    fn is_slow(&self) -> bool {
        let now = Instant::now();
        self.answers.values().any(|taking| taking.due(SLOWEST_WHILE_SHORT) < now)
    }

    /// Since when the connection has not used its seat.
    fn useless_since(&self) -> Option<Instant> {
        if self.closed.is_some() {
            None
        } else if self.requests == 0 {
            Some(self.since)
        } else if self.requests == self.answers.len() && self.is_slow() {
            // Only answers are under way, and nobody reads them.
            self.answers.values().map(|taking| taking.last).max()
        } else {
            None
        }
    }
}

impl Seat {
    /// Whether the seat is for health checks only.
    pub(super) fn is_spare(&self) -> bool {
        self.is_spare
    }

    /// Bytes came from the peer.
    pub(super) fn heard(&self) {
        let mut state = lock(&self.state);
        if state.requests == 0 && state.asked > 0 && !state.head {
            (state.head, state.since) = (true, Instant::now());
            self.changed.notify_one();
        }
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> RequestGuard {
        let mut state = lock(&self.state);
        state.requests += 1;
        state.asked += 1;
        RequestGuard { seat: self.clone(), number: state.asked }
    }

    /// Returns when the connection is to be closed; [`Seats`] counts it.
    async fn ended(&self) -> CloseReason {
        loop {
            let due = {
                let mut state = lock(&self.state);
                if let Some(closed) = state.closed {
                    return closed;
                }
                let (due, why) = state.due();
                if due <= Instant::now() {
                    state.closed = Some(why);
                    return why;
                }
                due
            };
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    fn close(&self, why: CloseReason) {
        lock(&self.state).closed.get_or_insert(why);
        self.changed.notify_one();
    }
}

/// A request that is under way until this is dropped, when its answer has been read or given up.
#[derive(Debug)]
pub(super) struct RequestGuard {
    seat: Arc<Seat>,
    number: u64,
}

impl RequestGuard {
    /// The answer is ready to be read.
    pub(super) fn answered(&self) {
        let now = Instant::now();
        lock(&self.seat.state)
            .answers
            .insert(self.number, AnswerProgress { begun: now, last: now, bytes: 0 });
    }

    /// The client has read this many more bytes.
    pub(super) fn took(&self, bytes: usize) {
        if let Some(taking) = lock(&self.seat.state).answers.get_mut(&self.number) {
            taking.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
            taking.last = Instant::now();
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut state = lock(&self.seat.state);
        state.answers.remove(&self.number);
        state.requests = state.requests.saturating_sub(1);
        if state.requests == 0 {
            (state.head, state.since) = (false, Instant::now());
        }
    }
}

/// A seat that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct SeatGuard {
    seats: Arc<Seats>,
    seat: Arc<Seat>,
    number: u64,
}

impl SeatGuard {
    /// Returns when the connection is to be closed.
    pub(super) async fn ended(&self) -> CloseReason {
        let why = self.seat.ended().await;
        for ((reason, _), count) in CloseReason::ALL.iter().zip(&self.seats.closed) {
            if *reason == why {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        why
    }
}

impl Deref for SeatGuard {
    type Target = Arc<Seat>;

    fn deref(&self) -> &Arc<Seat> {
        &self.seat
    }
}

impl Drop for SeatGuard {
    fn drop(&mut self) {
        lock(&self.seats.occupied).seats.remove(&self.number);
    }
}

impl SeatMap {
    fn count(&self, is_counted: impl Fn(&Seat) -> bool) -> usize {
        self.seats.values().filter(|seat| is_counted(seat) && lock(&seat.state).closed.is_none()).count()
    }

    /// The connection that gives up its seat: of the network with the most, the one that has been idle for longest.
    fn dispensable(&self, may_go: impl Fn(&Seat) -> bool) -> Option<&Arc<Seat>> {
        let mut of_network: HashMap<Network, usize> = HashMap::new();
        for seat in self.seats.values() {
            *of_network.entry(seat.network).or_default() += 1;
        }
        self.seats
            .values()
            .filter(|seat| may_go(seat))
            .filter_map(|seat| Some((seat, lock(&seat.state).useless_since()?)))
            .max_by_key(|(seat, since)| (of_network[&seat.network], std::cmp::Reverse(*since)))
            .map(|(seat, _)| seat)
    }
}

impl Seats {
    /// Makes `most` seats, and some spare ones.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            occupied: Mutex::default(),
            closed: [const { AtomicU64::new(0) }; CloseReason::ALL.len()],
            refused: AtomicU64::new(0),
        })
    }

    /// Returns a seat for a new connection. There always is one.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr) -> SeatGuard {
        let network = Network::of(peer);
        let mut occupied = lock(&self.occupied);
        let own = occupied.count(|seat| !seat.is_spare && seat.network == network);
        let is_full = occupied.count(|seat| !seat.is_spare) >= self.most;
        let mut is_spare = false;
        if is_full || own >= network::share(self.most) {
            match occupied.dispensable(|seat| !seat.is_spare && (is_full || seat.network == network)) {
                Some(seat) => seat.close(CloseReason::Displaced),
                None => is_spare = true,
            }
            if occupied.short.is_due() {
                tracing::warn!(
                    places = self.most,
                    of_this_client = own,
                    client = %network,
                    "places for connections are short: connections that do nothing are closed for new ones, and if all have requests \
                     under way new ones get answers to health checks only; this is logged every ten minutes at most"
                );
            }
        }
        if is_spare && occupied.count(Seat::is_spare) >= SPARE {
            let oldest = occupied
                .seats
                .iter()
                .filter(|(_, seat)| seat.is_spare)
                .min_by_key(|(number, seat)| (lock(&seat.state).closed.is_some(), **number));
            if let Some((_, seat)) = oldest {
                seat.close(CloseReason::Displaced);
            }
        }
        let number = occupied.next;
        occupied.next += 1;
        let state = SeatState {
            requests: 0,
            answers: HashMap::new(),
            asked: 0,
            head: false,
            since: Instant::now(),
            closed: None,
        };
        let seat = Arc::new(Seat { network, is_spare, state: Mutex::new(state), changed: Notify::new() });
        occupied.seats.insert(number, seat.clone());
        drop(occupied);
        SeatGuard { seats: self.clone(), seat, number }
    }

    /// A connection could not be accepted: closes one that has been idle for a while, which frees a descriptor.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        // A connection that has just come may be about to send its request.
        let is_old =
            |seat: &Seat| lock(&seat.state).useless_since().is_some_and(|since| since.elapsed() > A_WHILE);
        if let Some(seat) = lock(&self.occupied).dispensable(is_old) {
            seat.close(CloseReason::Displaced);
        }
    }

    /// Closes the connections that hold answers and do not read them.
    pub(super) fn close_slow(&self) {
        for seat in lock(&self.occupied).seats.values() {
            if lock(&seat.state).is_slow() {
                seat.close(CloseReason::Memory);
            }
        }
    }

    /// The families about connections.
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let occupied = lock(&self.occupied);
        let states = ["waiting", "busy", "idle"];
        let mut counts = [0_u32; 3];
        for seat in occupied.seats.values() {
            let state = lock(&seat.state);
            counts[if state.requests > 0 { 1 } else { usize::from(state.asked > 0) * 2 }] += 1;
        }
        drop(occupied);
        let mut open = MetricFamily::new(
            "tapster_web_connections",
            "Connections to the server: waiting for their first request, busy with requests, idle after requests.",
            FamilyKind::Gauge,
            &["state"],
        );
        open.samples = states
            .into_iter()
            .zip(counts)
            .map(|(state, count)| Sample {
                labels: [state.to_owned()].into(),
                value: SampleValue::Number(f64::from(count)),
            })
            .collect();
        let mut closed = MetricFamily::new(
            "tapster_web_connections_closed_total",
            "Connections that the server closed, by reason.",
            FamilyKind::Counter,
            &["reason"],
        );
        closed.samples = CloseReason::ALL
            .iter()
            .zip(&self.closed)
            .map(|((_, name), count)| Sample {
                labels: [(*name).to_owned()].into(),
                value: SampleValue::Number(number(count.load(Ordering::Relaxed))),
            })
            .collect();
        let help =
            "Connections that could not be accepted, because this process or the host was out of something.";
        let refused = number(self.refused.load(Ordering::Relaxed));
        vec![
            open,
            closed,
            MetricFamily::single("tapster_web_accept_failures_total", help, FamilyKind::Counter, refused),
        ]
    }
}

#[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn closed(seat: &Seat) -> Option<CloseReason> {
        lock(&seat.state).closed
    }

    #[test]
    fn the_network_with_the_most_gives_up_its_oldest() {
        let seats = Seats::new(4);
        let taken: Vec<SeatGuard> = [3, 1, 1, 2].map(|last| seats.take(address(last))).into();
        let fifth = seats.take(address(4));
        assert!(!fifth.is_spare());
        let why: Vec<_> = taken.iter().map(|taken| closed(taken)).collect();
        assert_eq!(why, [None, Some(CloseReason::Displaced), None, None]);
    }

    #[test]
    fn one_network_leaves_seats_to_others() {
        let seats = Seats::new(4);
        let own: Vec<SeatGuard> = (0..4).map(|_| seats.take(address(1))).collect();
        let under_way: Vec<RequestGuard> = own[1..].iter().map(|taken| taken.begin()).collect();
        assert_eq!(closed(&own[0]), Some(CloseReason::Displaced), "the fourth of its network took its seat");
        assert!(seats.take(address(1)).is_spare(), "nobody is closed who has a request under way");
        assert!(!seats.take(address(2)).is_spare());
        drop(under_way);
        assert!(!seats.take(address(1)).is_spare());
    }

    #[test]
    fn spare_seats_go_to_the_newest() {
        let seats = Seats::new(1);
        let only = seats.take(address(1));
        let _under_way = only.begin();
        let spare: Vec<SeatGuard> = (0..=SPARE).map(|_| seats.take(address(2))).collect();
        assert!(spare.iter().all(|taken| taken.is_spare()));
        let open = spare.iter().filter(|taken| closed(taken).is_none()).count();
        assert_eq!((open, closed(&spare[0])), (SPARE, Some(CloseReason::Displaced)));
        assert_eq!(closed(&only), None);
    }

    #[test]
    fn an_answer_is_given_up_when_it_is_not_taken_or_taken_too_slowly() {
        let begun = Instant::now();
        let due = |last: u64, bytes| {
            let taking = AnswerProgress { begun, last: begun + Duration::from_secs(last), bytes };
            taking.due(SLOWEST) - begun
        };
        assert_eq!(due(0, 0), SLOWEST.pause, "nothing was taken");
        assert_eq!(due(100, 1 << 30), Duration::from_secs(100) + SLOWEST.pause, "nothing more is taken");
        // A byte now and then does not keep a seat.
        assert_eq!(due(29, 29), SLOWEST.pause);
        assert_eq!(due(29, 20 * SLOWEST.rate), SLOWEST.pause + Duration::from_secs(20));
    }
}
