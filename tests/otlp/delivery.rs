//! What a receiver may answer, and what becomes of the push: what is sent again and when, what is not, and that nothing is
//! missing at the end.

use crate::{
    Waiting,
    pushing::{events, push},
    receiver::{Answer, Options, Receiver, Transport},
    support::{
        cases::{Cases, Outcome},
        exporter::within,
    },
    together,
};
use std::time::{Duration, Instant};

/// What is expected of a push that was answered like this at first.
struct Case {
    name: &'static str,
    transport: Transport,
    answer: Answer,
    /// The same is sent again, after at least and at most this many seconds.
    again: Option<(f64, f64)>,
    /// How the push ends.
    result: &'static str,
    /// A part of what is said about it, where something is.
    message: &'static str,
}

/// A second, half of it more or less.
const BACKOFF: Option<(f64, f64)> = Some((0.5, 1.5));
/// The same after the second that the request may take.
const LATE: Option<(f64, f64)> = Some((1.5, 2.5));

fn status(code: u16, retry_after: Option<&'static str>) -> Answer {
    Answer::Status { code, retry_after, body: "says the receiver" }
}

fn grpc(code: i32, retry_ms: Option<u64>) -> Answer {
    Answer::Grpc { code, retry_delay: retry_ms.map(Duration::from_millis), message: "says the receiver" }
}

fn cases() -> Vec<Case> {
    let http = |name, answer, again, result, message| Case {
        name,
        transport: Transport::Http,
        answer,
        again,
        result,
        message,
    };
    let rpc = |name, answer, again, result, message| Case {
        name,
        transport: Transport::Grpc,
        answer,
        again,
        result,
        message,
    };
    let partial = || Answer::Partial { rejected: 2, message: "too old" };
    vec![
        http("taken", Answer::Take, None, "taken", ""),
        http("partial success", partial(), None, "partial", "too old"),
        http("400", status(400, None), None, "refused", "HTTP status 400 Bad Request: says the receiver"),
        http("401", status(401, None), None, "refused", "HTTP status 401 Unauthorized"),
        http("404", status(404, None), None, "refused", "HTTP status 404 Not Found"),
        http("413", status(413, None), None, "refused", "HTTP status 413"),
        http("500", status(500, None), None, "refused", "HTTP status 500"),
        http("301", status(301, None), None, "refused", "HTTP status 301"),
        http("429 with Retry-After", status(429, Some("2")), Some((2.0, 2.6)), "taken", ""),
        http("429", status(429, None), BACKOFF, "taken", ""),
        http("502", status(502, None), BACKOFF, "taken", ""),
        http("503", status(503, None), BACKOFF, "taken", ""),
        http("503 with Retry-After", status(503, Some("1")), Some((1.0, 1.6)), "taken", ""),
        http("504", status(504, None), BACKOFF, "taken", ""),
        http("429, at once", status(429, Some("0")), BACKOFF, "taken", ""),
        http(
            "503 until a date that is over",
            status(503, Some("Sun, 06 Nov 1994 08:49:37 GMT")),
            BACKOFF,
            "taken",
            "",
        ),
        http("hanging", Answer::Hang, LATE, "taken", ""),
        http("closed without an answer", Answer::CutBefore, BACKOFF, "taken", ""),
        // The head of the answer says that it was taken.
        http("cut off within the answer", Answer::CutWithin, None, "taken", ""),
        http("an answer without an end", Answer::Endless, None, "taken", ""),
        http("an answer of another form", Answer::Garbage, None, "taken", ""),
        http("a slow answer", Answer::Slow(Duration::from_millis(700)), None, "taken", ""),
        rpc("taken", Answer::Take, None, "taken", ""),
        rpc("partial success", partial(), None, "partial", "too old"),
        rpc(
            "INVALID_ARGUMENT",
            grpc(3, None),
            None,
            "refused",
            "gRPC status InvalidArgument: says the receiver",
        ),
        rpc("UNAUTHENTICATED", grpc(16, None), None, "refused", "gRPC status Unauthenticated"),
        rpc("UNIMPLEMENTED", grpc(12, None), None, "refused", "gRPC status Unimplemented"),
        rpc("INTERNAL", grpc(13, None), None, "refused", "gRPC status Internal"),
        rpc("UNAVAILABLE", grpc(14, None), BACKOFF, "taken", ""),
        rpc("UNAVAILABLE with RetryInfo", grpc(14, Some(2000)), Some((2.0, 2.6)), "taken", ""),
        rpc("RESOURCE_EXHAUSTED", grpc(8, None), None, "refused", "gRPC status ResourceExhausted"),
        rpc("RESOURCE_EXHAUSTED with RetryInfo", grpc(8, Some(1200)), Some((1.2, 1.8)), "taken", ""),
        rpc("DEADLINE_EXCEEDED", grpc(4, None), BACKOFF, "taken", ""),
        rpc("ABORTED", grpc(10, None), BACKOFF, "taken", ""),
        rpc("UNAVAILABLE, at once", grpc(14, Some(0)), BACKOFF, "taken", ""),
        rpc("CANCELLED", grpc(1, None), BACKOFF, "taken", ""),
        rpc("OUT_OF_RANGE", grpc(11, None), BACKOFF, "taken", ""),
        rpc("DATA_LOSS", grpc(15, None), BACKOFF, "taken", ""),
        rpc("hanging", Answer::Hang, LATE, "taken", ""),
        rpc("closed without an answer", Answer::CutBefore, BACKOFF, "taken", ""),
        rpc("cut off within the answer", Answer::CutWithin, BACKOFF, "taken", ""),
        rpc("an answer without an end", Answer::Endless, Some((0.0, 2.5)), "taken", ""),
        rpc("a slow answer", Answer::Slow(Duration::from_millis(700)), None, "taken", ""),
        rpc("a proxy's 503", status(503, None), BACKOFF, "taken", ""),
    ]
}

fn run(case: &Case) -> Outcome {
    let receiver = Receiver::start(Options::of(case.transport));
    receiver.script([case.answer.clone()]);
    let protocol = if case.transport == Transport::Grpc { "grpc" } else { "http/protobuf" };
    let mut pushing = push(&receiver, &[("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)]);
    let reached = within(Duration::from_secs(10), || pushing.ended(case.result) > 0);
    assert!(reached.is_some(), "{:?}", pushing.state.status());
    let received = receiver.wait(2);
    let gap = received[1].at - received[0].at;
    let is_same = received[0].request == received[1].request;
    let retries =
        pushing.state.families().iter().find(|family| &*family.name == "tapster_otlp_retries_total").map(
            |family| match family.samples[0].value {
                tapster::family::SampleValue::Number(number) => number,
                tapster::family::SampleValue::Histogram(_) => f64::NAN,
            },
        );
    match case.again {
        Some((least, most)) => {
            assert!(is_same, "what was sent again is another request; {:?}", pushing.state.status());
            let gap = gap.as_secs_f64();
            // Threads of a busy machine are late: for what came first, so that the gap is shorter, or for what was sent again.
            assert!(
                (least - 0.25..=most + 1.0).contains(&gap),
                "sent again after {gap:.2} s, not {least} to {most}"
            );
            assert_eq!(retries, Some(1.0));
        }
        None => {
            assert!(!is_same, "it was sent again");
            if let Answer::Slow(time) = case.answer {
                assert!(gap >= time, "a push began while another was under way");
            }
            assert_eq!(retries, Some(0.0));
        }
    }
    let message = pushing.message();
    if case.result != "taken" {
        assert!(message.contains(case.message), "`{message}` does not say `{}`", case.message);
        assert!(!case.message.is_empty());
    }
    // The receiver takes everything now, so nothing is missing.
    pushing.events.add(41);
    let before = receiver.received().len();
    receiver.wait(before + 2);
    pushing.stop();
    let last = receiver.taken().pop().expect("something was taken");
    assert!((events(&last) - 42.0).abs() < 0.5, "{} of 42 events", events(&last));
    let status = pushing.state.status();
    if case.result == "partial" {
        assert_eq!(status.rejected, 2);
    }
    let taken: usize = receiver.received().iter().map(|request| request.wire_bytes).sum();
    let bytes = usize::try_from(status.bytes).unwrap();
    // What a receiver did not read to its end it does not count.
    assert!(bytes >= taken, "{bytes} bytes sent, {taken} received");
    Ok(match case.again {
        Some(_) => format!("sent again after {:.2} s", gap.as_secs_f64()),
        None => format!("not sent again; {message}"),
    })
}

#[test]
fn every_answer_has_its_consequence() {
    let mut suite = Cases::new("delivery");
    let cases = cases();
    let waiting = cases.iter().map(|case| -> Waiting<'_> {
        (format!("{:?}: {}", case.transport, case.name), Box::new(|| run(case)))
    });
    together(&mut suite, waiting.collect());
    suite.finish();
}

/// Headers, compression and the connection, as a receiver sees them.
fn travels(transport: Transport, gzip: bool) -> Outcome {
    let options = Options { demands: Some(("x-scope-orgid", "disks, and more")), ..Options::of(transport) };
    let receiver = Receiver::start(options);
    let protocol = if transport == Transport::Grpc { "grpc" } else { "http/protobuf" };
    let mut pushing = push(
        &receiver,
        &[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", if gzip { "gzip" } else { "none" }),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-scope-orgid=disks%2C and more"),
        ],
    );
    receiver.wait(4);
    pushing.stop();
    let received = receiver.received();
    for request in &received {
        assert_eq!(request.answer, Answer::Take, "{request:?}");
        assert_eq!(request.connection, 1, "the connection was not kept");
        assert!(request.path.starts_with('/'), "{}", request.path);
        let encoding = if transport == Transport::Grpc { "grpc-encoding" } else { "content-encoding" };
        assert_eq!(request.header(encoding), gzip.then_some("gzip"));
        let agent = request.header("user-agent").unwrap_or_default();
        assert!(agent.starts_with("tapster/"), "{agent}");
    }
    let bytes: usize = received.iter().map(|request| request.wire_bytes).sum();
    assert_eq!(u64::try_from(bytes).unwrap(), pushing.state.status().bytes, "bytes sent");
    Ok(format!("{} requests of {} bytes on one connection", received.len(), bytes / received.len()))
}

#[test]
fn requests_travel_as_they_should() {
    let mut suite = Cases::new("transport");
    for transport in [Transport::Http, Transport::Grpc] {
        for gzip in [true, false] {
            let name = format!("{transport:?}, {}", if gzip { "gzip" } else { "uncompressed" });
            suite.run(&name, || travels(transport, gzip));
        }
    }
    suite.finish();
}

/// An endpoint for metrics is taken as it is.
#[test]
fn a_path_of_its_own() {
    let receiver = Receiver::start(Options { path: Some("/tenant/1/otlp"), ..Options::of(Transport::Http) });
    let endpoint = format!("http://{}/tenant/1/otlp", receiver.address());
    let _pushing = push(&receiver, &[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &endpoint)]);
    let received = receiver.wait(2);
    assert!(
        received.iter().all(|request| request.answer == Answer::Take && request.path == "/tenant/1/otlp")
    );
}

/// A receiver that wants nothing for longer than a push may take gets nothing until then, and everything after.
#[test]
fn a_receiver_can_hold_pushes_back() {
    let receiver = Receiver::start(Options::of(Transport::Http));
    receiver.script([status(429, Some("3"))]);
    let mut pushing = push(&receiver, &[("OTEL_METRIC_EXPORT_TIMEOUT", "1000")]);
    receiver.wait(1);
    pushing.events.add(9);
    let received = receiver.wait(2);
    let gap = (received[1].at - received[0].at).as_secs_f64();
    assert!((3.0..5.0).contains(&gap), "the next request came after {gap:.2} s");
    assert!((events(&received[1]) - 10.0).abs() < 0.5);
    assert_eq!(pushing.ended("failed"), 1);
    assert!(pushing.ended("held_back") >= 5, "{:?}", pushing.state.status());
    pushing.stop();
}

/// At the end there is a last push, with what came since the one before.
#[test]
fn the_end_sends_what_is_there() {
    for transport in [Transport::Http, Transport::Grpc] {
        let receiver = Receiver::start(Options::of(transport));
        let protocol = if transport == Transport::Grpc { "grpc" } else { "http/protobuf" };
        let variables =
            [("OTEL_EXPORTER_OTLP_PROTOCOL", protocol), ("OTEL_METRIC_EXPORT_INTERVAL", "3600000")];
        let mut pushing = push(&receiver, &variables);
        pushing.events.add(6);
        pushing.stop();
        let received = receiver.received();
        assert_eq!(received.len(), 1, "one push, at the end");
        assert!((events(&received[0]) - 7.0).abs() < 0.5);
    }
    // A receiver that does not answer does not hold it up for long.
    let receiver = Receiver::start(Options::of(Transport::Http));
    receiver.always(Some(Answer::Hang));
    let mut pushing =
        push(&receiver, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "60000"), ("OTEL_METRIC_EXPORT_TIMEOUT", "60000")]);
    receiver.wait(1);
    let begun = Instant::now();
    pushing.stop();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(12), "ending took {took:?}");
}
