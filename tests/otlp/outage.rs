//! A receiver that is away and comes back: nothing is lost at the end, in totals and in differences.

use crate::{
    Waiting,
    pushing::{events, push},
    receiver::{Answer, Options, Received, Receiver, Transport},
    support::cases::{Cases, Outcome},
    together,
};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// How long it is away: some seconds, or as many as `TAPSTER_OTLP_AWAY_SECONDS` says.
fn away() -> Duration {
    let seconds = std::env::var("TAPSTER_OTLP_AWAY_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

fn outage(transport: Transport, temporality: &str) -> Outcome {
    let receiver = Receiver::start(Options::of(transport));
    let protocol = if transport == Transport::Grpc { "grpc" } else { "http/protobuf" };
    let mut pushing = push(
        &receiver,
        &[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality),
            ("OTEL_METRIC_EXPORT_TIMEOUT", "1500"),
        ],
    );
    let mut expected = 1.0;
    let mut add = |count: u32| {
        pushing.events.add(count.into());
        expected += f64::from(count);
    };
    receiver.wait(3);
    add(10);
    receiver.wait(6);
    receiver.go_away();
    let begun = Instant::now();
    while begun.elapsed() < away() {
        add(7);
        sleep(Duration::from_millis(50));
    }
    let failed = pushing.ended("failed");
    assert!(failed > 0, "{:?}", pushing.state.status());
    receiver.come_back();
    // It is back, and refuses some pushes before it takes one.
    receiver.script([
        Answer::Status { code: 503, retry_after: None, body: "" },
        Answer::Status { code: 400, retry_after: None, body: "" },
        Answer::Hang,
    ]);
    let before = receiver.received().len();
    add(5);
    receiver.wait(before + 6);
    add(3);
    pushing.stop();
    let taken = receiver.taken();
    let total: f64 = match temporality {
        "delta" => taken.iter().map(events).sum(),
        _ => events(taken.last().expect("something was taken")),
    };
    assert!((total - expected).abs() < 0.5, "{total} of {expected} events");
    if temporality == "delta" {
        no_gaps(&taken);
    }
    Ok(format!("{expected} events, {failed} pushes failed in {:.0?}", away()))
}

/// Differences follow each other without a gap or an overlap.
fn no_gaps(taken: &[Received]) {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    let mut end = None;
    for received in taken {
        let scopes = received.request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        for metric in scopes.flat_map(|scope| &scope.metrics).filter(|metric| metric.name == "events_total") {
            let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
            let [point] = &sum.data_points[..] else { panic!("{sum:?}") };
            assert!(end.is_none_or(|end| end == point.start_time_unix_nano), "a gap or an overlap");
            end = Some(point.time_unix_nano);
        }
    }
    assert!(end.is_some());
}

#[test]
fn nothing_is_lost_over_an_outage() {
    let mut cases = Cases::new("outage");
    let kinds: Vec<_> = [Transport::Http, Transport::Grpc]
        .into_iter()
        .flat_map(|transport| ["cumulative", "delta"].map(|temporality| (transport, temporality)))
        .collect();
    let waiting = kinds.iter().map(|(transport, temporality)| -> Waiting<'_> {
        (format!("{transport:?}, {temporality}"), Box::new(|| outage(*transport, temporality)))
    });
    together(&mut cases, waiting.collect());
    cases.finish();
}
