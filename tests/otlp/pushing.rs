//! A pusher in this process, whose families are the test's.

use crate::receiver::{Received, Receiver};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{metric::Data, number_data_point},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};
use tapster::{
    family::{FamilyKind, HistogramValue, MetricFamily, Native, Sample, SampleValue},
    host::Host,
    otlp::{
        PushSettings, PushState, Pusher, RequestEncoder, Sink, WithPush,
        client::Client,
        resource,
        setting::{Exports, SettingError, SettingSources},
    },
    source::{Selection, Source},
    status::{ProbeStatus, UnreadyReason},
};
use tokio::sync::watch;

/// What is counted: one counter and one histogram of as many events.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) count: AtomicU64,
    began: SystemTime,
}

impl Events {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { count: AtomicU64::new(0), began: SystemTime::now() })
    }

    pub(crate) fn add(&self, count: u64) {
        self.count.fetch_add(count, Ordering::Relaxed);
    }
}

impl Source for Events {
    fn select(&self, _: &Selection) -> Vec<MetricFamily> {
        let count = self.count.load(Ordering::Relaxed);
        let counter = MetricFamily::single("events_total", "Events.", FamilyKind::Counter, count as f64);
        let mut histogram =
            MetricFamily::new("event_duration_seconds", "Their time.", FamilyKind::Histogram, &["kind"]);
        let native = Native { schema: 3, zero_threshold: 1e-6, zero_count: 0, buckets: vec![(-8, count)] };
        let value = HistogramValue {
            sum: count as f64 / 2.0,
            bounds: [1.0].into(),
            counts: vec![count, 0],
            native: Some(native),
        };
        let labels = ["test".to_owned()].into();
        histogram.samples.push(Sample { labels, value: SampleValue::Histogram(value) });
        vec![counter.since(self.began), histogram.since(self.began)]
    }

    fn status(&self) -> Vec<ProbeStatus> {
        Vec::new()
    }

    fn unready(&self) -> Option<UnreadyReason> {
        None
    }
}

/// Settings from variables.
pub(crate) fn settings(variables: &[(&str, &str)]) -> PushSettings {
    let variable = |name: &str| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, text)| Ok((*text).to_owned()))
    };
    let exports = Exports::read(&SettingSources { flags: Vec::new(), variable: &variable, file: None });
    exports.unwrap_or_else(|error| panic!("{error}")).push.expect("there is an endpoint")
}

/// A pusher that runs until it is dropped or stopped.
pub(crate) struct Pushing {
    pub(crate) events: Arc<Events>,
    pub(crate) state: Arc<PushState>,
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Pushes to `receiver` at short intervals; `variables` go before what is usual here.
pub(crate) fn push(receiver: &Receiver, variables: &[(&str, &str)]) -> Pushing {
    let endpoint = format!("http://{}", receiver.address());
    let usual = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "8000"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
    ];
    start(settings(&[variables, &usual].concat())).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn start(settings: PushSettings) -> Result<Pushing, SettingError> {
    let state = Arc::new(PushState::new(&settings));
    let events = Events::new();
    events.add(1);
    let source: Arc<dyn Source> = Arc::new(WithPush::new(events.clone(), state.clone()));
    let (shape, limit) = (settings.shape, settings.push_timeout);
    let sink = Sink::Receiver { client: Box::new(Client::new(settings)?), state: state.clone() };
    let encoder = RequestEncoder::new(resource::resource(&Host::default(), &|_| None, &[]), shape);
    let pusher = Pusher::new(source, sink, encoder, shape.interval, limit);
    let (stop, stopped) = watch::channel(());
    let thread = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(pusher.run(stopped));
        runtime.shutdown_timeout(Duration::from_millis(100));
    });
    Ok(Pushing { events, state, stop: Some(stop), thread: Some(thread) })
}

impl Pushing {
    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// How many pushes ended like this.
    pub(crate) fn ended(&self, result: &str) -> u64 {
        let status = self.state.status();
        status
            .results
            .iter()
            .find(|(name, _)| *name == result)
            .map(|(_, count)| *count)
            .expect("it is a result")
    }

    /// What the last push that was not taken has to say.
    pub(crate) fn message(&self) -> String {
        self.state.status().last_problem.map(|last| last.message).unwrap_or_default()
    }
}

impl Drop for Pushing {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sums and counts of a request, by name: of a histogram its count.
pub(crate) fn counts(request: &ExportMetricsServiceRequest) -> BTreeMap<String, f64> {
    let mut counts = BTreeMap::new();
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &scope.metrics) {
        let count: f64 = match metric.data.as_ref().expect("a metric has data") {
            Data::Sum(sum) => sum.data_points.iter().map(number).sum(),
            Data::Gauge(gauge) => gauge.data_points.iter().map(number).sum(),
            Data::Histogram(histogram) => histogram.data_points.iter().map(|point| point.count as f64).sum(),
            Data::ExponentialHistogram(histogram) => {
                histogram.data_points.iter().map(|point| point.count as f64).sum()
            }
            Data::Summary(_) => panic!("a summary"),
        };
        *counts.entry(metric.name.clone()).or_default() += count;
    }
    counts
}

fn number(point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint) -> f64 {
    match point.value {
        Some(number_data_point::Value::AsInt(number)) => number as f64,
        Some(number_data_point::Value::AsDouble(number)) => number,
        None => panic!("a point without a value"),
    }
}

/// The events that a request tells of.
pub(crate) fn events(received: &Received) -> f64 {
    let counts = counts(&received.request);
    let events = counts.get("events_total").copied().unwrap_or_default();
    let durations = counts.get("event_duration_seconds").copied().unwrap_or_default();
    assert!((events - durations).abs() < 0.5, "the counter has {events}, the histogram {durations}");
    events
}
