//! Places for connections: how many there are, what each connection does, which connection is closed, and why.
//!
//! A connection holds a place from the moment when it is accepted. Each of its phases has a time limit: until its first request
//! is complete, until a later request that has begun is complete, between two requests, and while it reads an answer. When places
//! are short, a new connection displaces an idle one: of the network with the most connections, the one that has been idle for
//! longest. A connection with a request under way keeps its place as long as it reads the answer. If there is none to displace,
//! the new connection gets one of a few spare places, which are for health checks only.

use super::network::{self, Network};
use crate::{
    family::{Kind, MetricFamily, Sample, Value},
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
/// Places for health checks while all others have requests under way.
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
/// The limit while memory or places are short.
const SLOWEST_WHILE_SHORT: Pace = Pace { pause: Duration::from_secs(5), rate: 256 << 10 };

/// Why the server closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// No request came, or none was complete in time.
    NoRequest,
    /// No further request came.
    Idle,
    /// The client read the answer too slowly.
    SlowReader,
    /// Another connection needed the place.
    Displaced,
    /// Unread answers filled the memory for answers, and this one was read slowly.
    Memory,
}

impl Closed {
    const ALL: [(Self, &'static str); 5] = [
        (Self::NoRequest, "no_request"),
        (Self::Idle, "idle"),
        (Self::SlowReader, "slow_reader"),
        (Self::Displaced, "displaced"),
        (Self::Memory, "memory"),
    ];
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    held: Mutex<Held>,
    closed: [AtomicU64; Closed::ALL.len()],
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    places: HashMap<u64, Arc<Place>>,
    /// The number of the next place.
    next: u64,
    short: Seldom,
}

/// A message that is logged only now and then.
#[derive(Debug, Default)]
pub(super) struct Seldom(Option<Instant>);

impl Seldom {
    /// Whether to log it now.
    pub(super) fn is_due(&mut self) -> bool {
        let is_due = self.0.is_none_or(|then| then.elapsed() > SAID_AGAIN);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}

/// The place of one connection. It is free again when [`Taken`] is dropped.
#[derive(Debug)]
pub(super) struct Place {
    network: Network,
    is_spare: bool,
    state: Mutex<State>,
    /// The connection is to be closed, or earlier than before.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// Requests under way; HTTP/2 has several.
    requests: usize,
    /// Answers to these requests that are being read.
    answers: HashMap<u64, Taking>,
    /// Requests so far.
    asked: u64,
    /// Whether bytes of a next request have come.
    head: bool,
    /// When the present phase began, while no request is under way.
    since: Instant,
    closed: Option<Closed>,
}

/// An answer on its way.
#[derive(Clone, Copy, Debug)]
struct Taking {
    begun: Instant,
    last: Instant,
    bytes: u64,
}

impl Taking {
    /// When the answer will have been too slow, if no more of it is read.
    fn due(&self, pace: Pace) -> Instant {
        let earned = Duration::from_secs(self.bytes / pace.rate);
        (self.last + pace.pause).min(self.begun + pace.pause + earned)
    }
}

impl State {
    /// When, by its present state, the connection is to be closed, and why.
    fn due(&self) -> (Instant, Closed) {
        if self.requests > 0 {
            let slowest = self.answers.values().map(|taking| taking.due(SLOWEST)).min();
            // Another place of the code waits for a request whose answer has not begun.
            (slowest.unwrap_or_else(|| Instant::now() + SLOWEST.pause), Closed::SlowReader)
        } else if self.asked > 0 && !self.head {
            (self.since + IDLE, Closed::Idle)
        } else {
            (self.since + HEAD, Closed::NoRequest)
        }
    }

    fn is_slow(&self) -> bool {
        let now = Instant::now();
        self.answers.values().any(|taking| taking.due(SLOWEST_WHILE_SHORT) < now)
    }

    /// Since when the connection has not used its place.
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

impl Place {
    /// Whether the place is for health checks only.
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
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        let mut state = lock(&self.state);
        state.requests += 1;
        state.asked += 1;
        UnderWay { place: self.clone(), number: state.asked }
    }

    /// Returns when the connection is to be closed; [`Places`] counts it.
    async fn ended(&self) -> Closed {
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

    fn close(&self, why: Closed) {
        lock(&self.state).closed.get_or_insert(why);
        self.changed.notify_one();
    }
}

/// A request that is under way until this is dropped, when its answer has been read or given up.
#[derive(Debug)]
pub(super) struct UnderWay {
    place: Arc<Place>,
    number: u64,
}

impl UnderWay {
    /// The answer is ready to be read.
    pub(super) fn answered(&self) {
        let now = Instant::now();
        lock(&self.place.state).answers.insert(self.number, Taking { begun: now, last: now, bytes: 0 });
    }

    /// The client has read this many more bytes.
    pub(super) fn took(&self, bytes: usize) {
        if let Some(taking) = lock(&self.place.state).answers.get_mut(&self.number) {
            taking.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
            taking.last = Instant::now();
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = lock(&self.place.state);
        state.answers.remove(&self.number);
        state.requests = state.requests.saturating_sub(1);
        if state.requests == 0 {
            (state.head, state.since) = (false, Instant::now());
        }
    }
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    places: Arc<Places>,
    place: Arc<Place>,
    number: u64,
}

impl Taken {
    /// Returns when the connection is to be closed.
    pub(super) async fn ended(&self) -> Closed {
        let why = self.place.ended().await;
        for ((reason, _), count) in Closed::ALL.iter().zip(&self.places.closed) {
            if *reason == why {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        why
    }
}

impl Deref for Taken {
    type Target = Arc<Place>;

    fn deref(&self) -> &Arc<Place> {
        &self.place
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        lock(&self.places.held).places.remove(&self.number);
    }
}

impl Held {
    fn count(&self, is_counted: impl Fn(&Place) -> bool) -> usize {
        self.places.values().filter(|place| is_counted(place) && lock(&place.state).closed.is_none()).count()
    }

    /// The connection that gives up its place: of the network with the most, the one that has been idle for longest.
    fn dispensable(&self, may_go: impl Fn(&Place) -> bool) -> Option<&Arc<Place>> {
        let mut of_network: HashMap<Network, usize> = HashMap::new();
        for place in self.places.values() {
            *of_network.entry(place.network).or_default() += 1;
        }
        self.places
            .values()
            .filter(|place| may_go(place))
            .filter_map(|place| Some((place, lock(&place.state).useless_since()?)))
            .max_by_key(|(place, since)| (of_network[&place.network], std::cmp::Reverse(*since)))
            .map(|(place, _)| place)
    }
}

impl Places {
    /// Makes `most` places, and some spare ones.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            held: Mutex::default(),
            closed: [const { AtomicU64::new(0) }; Closed::ALL.len()],
            refused: AtomicU64::new(0),
        })
    }

    /// Returns a place for a new connection. There always is one.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr) -> Taken {
        let network = Network::of(peer);
        let mut held = lock(&self.held);
        let own = held.count(|place| !place.is_spare && place.network == network);
        let is_full = held.count(|place| !place.is_spare) >= self.most;
        let mut is_spare = false;
        if is_full || own >= network::share(self.most) {
            match held.dispensable(|place| !place.is_spare && (is_full || place.network == network)) {
                Some(place) => place.close(Closed::Displaced),
                None => is_spare = true,
            }
            if held.short.is_due() {
                tracing::warn!(
                    places = self.most,
                    of_this_client = own,
                    client = %network,
                    "places for connections are short: connections that do nothing are closed for new ones, and if all have requests \
                     under way new ones get answers to health checks only; this is logged every ten minutes at most"
                );
            }
        }
        if is_spare && held.count(Place::is_spare) >= SPARE {
            let oldest = held
                .places
                .iter()
                .filter(|(_, place)| place.is_spare)
                .min_by_key(|(number, place)| (lock(&place.state).closed.is_some(), **number));
            if let Some((_, place)) = oldest {
                place.close(Closed::Displaced);
            }
        }
        let number = held.next;
        held.next += 1;
        let state = State {
            requests: 0,
            answers: HashMap::new(),
            asked: 0,
            head: false,
            since: Instant::now(),
            closed: None,
        };
        let place = Arc::new(Place { network, is_spare, state: Mutex::new(state), changed: Notify::new() });
        held.places.insert(number, place.clone());
        drop(held);
        Taken { places: self.clone(), place, number }
    }

    /// A connection could not be accepted: closes one that has been idle for a while, which frees a descriptor.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        // A connection that has just come may be about to send its request.
        let is_old =
            |place: &Place| lock(&place.state).useless_since().is_some_and(|since| since.elapsed() > A_WHILE);
        if let Some(place) = lock(&self.held).dispensable(is_old) {
            place.close(Closed::Displaced);
        }
    }

    /// Closes the connections that hold answers and do not read them.
    pub(super) fn close_slow(&self) {
        for place in lock(&self.held).places.values() {
            if lock(&place.state).is_slow() {
                place.close(Closed::Memory);
            }
        }
    }

    /// The families about connections.
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let held = lock(&self.held);
        let states = ["waiting", "busy", "idle"];
        let mut counts = [0_u32; 3];
        for place in held.places.values() {
            let state = lock(&place.state);
            counts[if state.requests > 0 { 1 } else { usize::from(state.asked > 0) * 2 }] += 1;
        }
        drop(held);
        let mut open = MetricFamily::new(
            "tapster_web_connections",
            "Connections to the server: waiting for their first request, busy with requests, idle after requests.",
            Kind::Gauge,
            &["state"],
        );
        open.samples = states
            .into_iter()
            .zip(counts)
            .map(|(state, count)| Sample {
                labels: [state.to_owned()].into(),
                value: Value::Number(f64::from(count)),
            })
            .collect();
        let mut closed = MetricFamily::new(
            "tapster_web_connections_closed_total",
            "Connections that the server closed, by reason.",
            Kind::Counter,
            &["reason"],
        );
        closed.samples = Closed::ALL
            .iter()
            .zip(&self.closed)
            .map(|((_, name), count)| Sample {
                labels: [(*name).to_owned()].into(),
                value: Value::Number(number(count.load(Ordering::Relaxed))),
            })
            .collect();
        let help =
            "Connections that could not be accepted, because this process or the host was out of something.";
        let refused = number(self.refused.load(Ordering::Relaxed));
        vec![
            open,
            closed,
            MetricFamily::single("tapster_web_accept_failures_total", help, Kind::Counter, refused),
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

    fn closed(place: &Place) -> Option<Closed> {
        lock(&place.state).closed
    }

    #[test]
    fn the_network_with_the_most_gives_up_its_oldest() {
        let places = Places::new(4);
        let taken: Vec<Taken> = [3, 1, 1, 2].map(|last| places.take(address(last))).into();
        let fifth = places.take(address(4));
        assert!(!fifth.is_spare());
        let why: Vec<_> = taken.iter().map(|taken| closed(taken)).collect();
        assert_eq!(why, [None, Some(Closed::Displaced), None, None]);
    }

    #[test]
    fn one_network_leaves_places_to_others() {
        let places = Places::new(4);
        let own: Vec<Taken> = (0..4).map(|_| places.take(address(1))).collect();
        let under_way: Vec<UnderWay> = own[1..].iter().map(|taken| taken.begin()).collect();
        assert_eq!(closed(&own[0]), Some(Closed::Displaced), "the fourth of its network took its place");
        assert!(places.take(address(1)).is_spare(), "nobody is closed who has a request under way");
        assert!(!places.take(address(2)).is_spare());
        drop(under_way);
        assert!(!places.take(address(1)).is_spare());
    }

    #[test]
    fn spare_places_go_to_the_newest() {
        let places = Places::new(1);
        let only = places.take(address(1));
        let _under_way = only.begin();
        let spare: Vec<Taken> = (0..=SPARE).map(|_| places.take(address(2))).collect();
        assert!(spare.iter().all(|taken| taken.is_spare()));
        let open = spare.iter().filter(|taken| closed(taken).is_none()).count();
        assert_eq!((open, closed(&spare[0])), (SPARE, Some(Closed::Displaced)));
        assert_eq!(closed(&only), None);
    }

    #[test]
    fn an_answer_is_given_up_when_it_is_not_taken_or_taken_too_slowly() {
        let begun = Instant::now();
        let due = |last: u64, bytes| {
            let taking = Taking { begun, last: begun + Duration::from_secs(last), bytes };
            taking.due(SLOWEST) - begun
        };
        assert_eq!(due(0, 0), SLOWEST.pause, "nothing was taken");
        assert_eq!(due(100, 1 << 30), Duration::from_secs(100) + SLOWEST.pause, "nothing more is taken");
        // A byte now and then does not keep a place.
        assert_eq!(due(29, 29), SLOWEST.pause);
        assert_eq!(due(29, 20 * SLOWEST.rate), SLOWEST.pause + Duration::from_secs(20));
    }
}
