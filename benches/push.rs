//! What a push costs beside a scrape: the same families, served and pushed by this process to a peer that is a process of
//! its own, so that the CPU time is the exporter's alone. The aim is at most 1.5 times that of a scrape in protobuf.
//! `cargo bench --bench push` prints the figures.

#![allow(clippy::unwrap_used, reason = "a panic is a benchmark's report")]

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};
use tapster::{
    family::{FamilyKind, HistogramValue, MetricFamily, Native, Sample, SampleValue},
    host::Host,
    otlp::{
        PushState, Pusher, RequestEncoder, Sink,
        client::Client,
        resource,
        setting::{Exports, SettingSources},
    },
    server,
    source::{Selection, Source},
    status::{ProbeStatus, UnreadyReason},
};
use tokio::sync::watch;

/// Scrapes or pushes of a measurement.
const ROUNDS: u64 = 60;
/// Measurements of each, of which the median counts.
const RUNS: usize = 5;

struct Fixed(Vec<MetricFamily>);

impl Source for Fixed {
    fn select(&self, _: &Selection) -> Vec<MetricFamily> {
        self.0.clone()
    }

    fn status(&self) -> Vec<ProbeStatus> {
        Vec::new()
    }

    fn unready(&self) -> Option<UnreadyReason> {
        None
    }
}

fn counters(count: u32) -> Vec<MetricFamily> {
    let labels = ["device", "operation", "process"];
    let mut family =
        MetricFamily::new("tapster_requests_total", "Requests by device.", FamilyKind::Counter, &labels);
    for index in 0..count {
        let device = format!("nvme{}n1", index % 16);
        family.push(&[&device, "write", &format!("postgres-{index}")], f64::from(index) * 1234.0);
    }
    vec![family]
}

/// Histograms with some forty filled buckets each.
fn histograms(count: u32) -> Vec<MetricFamily> {
    let bounds: Arc<[f64]> = (0..22).map(|exponent| 1e-6 * f64::powi(2.0, exponent)).collect();
    let labels = ["device", "operation"];
    let mut family =
        MetricFamily::new("tapster_latency_seconds", "Time of requests.", FamilyKind::Histogram, &labels);
    for index in 0..count {
        let buckets: Vec<(i32, u64)> =
            (-100_i32..-60).map(|bucket| (bucket, u64::from(index + bucket.unsigned_abs() * 7))).collect();
        let inside = buckets.iter().map(|(_, count)| count).sum();
        let mut counts = vec![0; bounds.len() + 1];
        counts[7] = inside;
        let native = Some(Native { schema: 3, zero_threshold: 1e-6, zero_count: 0, buckets });
        let value =
            HistogramValue { sum: f64::from(index) * 0.1, bounds: Arc::clone(&bounds), counts, native };
        let labels = [format!("nvme{index}n1"), "write".to_owned()].into();
        family.samples.push(Sample { labels, value: SampleValue::Histogram(value) });
    }
    vec![family]
}

/// CPU time of all threads of this process so far, seconds.
fn cpu() -> f64 {
    let stat = procfs::process::Process::myself().unwrap().stat().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let ticks = (stat.utime + stat.stime) as f64;
    #[expect(clippy::cast_precision_loss, reason = "a hundred")]
    let per_second = procfs::ticks_per_second() as f64;
    ticks / per_second
}

/// The peer of a scrape: asks as Prometheus does, and prints the bytes of an answer.
fn scraper(address: &str, encoding: &str) {
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        let mut stream = TcpStream::connect(address).unwrap();
        let accept =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        write!(
            stream,
            "GET /metrics HTTP/1.0\r\nHost: x\r\nAccept: {accept}\r\nAccept-Encoding: {encoding}\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        bytes = answer.len() - head - 4;
    }
    println!("{bytes}");
}

/// The peer of a push by HTTP: takes everything, on one connection, without looking into it.
fn receiver() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    for stream in listener.incoming() {
        let mut reader = BufReader::new(stream.unwrap());
        loop {
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
                line.clear();
            }
            if length == 0 || reader.read_exact(&mut vec![0; length]).is_err() {
                break;
            }
            reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    }
}

fn peer(arguments: &[&str]) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

/// CPU milliseconds of a scrape, and its bytes.
fn scrape(families: &[MetricFamily], gzip: bool) -> (f64, f64) {
    let listener = server::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr();
    let source = Arc::new(Fixed(families.to_vec()));
    let (stop, mut stopped) = watch::channel(());
    let serving = thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shutdown = async move { drop(stopped.changed().await) };
        runtime
            .block_on(server::serve(vec![listener], source, server::ServerOptions::default(), shutdown))
            .unwrap();
    });
    let begun = cpu();
    let output =
        peer(&["scraper", &address.to_string(), if gzip { "gzip" } else { "identity" }]).wait_with_output();
    let used = cpu() - begun;
    drop(stop);
    serving.join().unwrap();
    let bytes = String::from_utf8(output.unwrap().stdout).unwrap().trim().parse().unwrap();
    (used * 1e3 / rounds(ROUNDS), bytes)
}

#[expect(clippy::cast_precision_loss, reason = "some dozens")]
fn rounds(count: u64) -> f64 {
    count as f64
}

/// The same of a push.
fn push(families: &[MetricFamily], gzip: bool) -> (f64, f64) {
    let mut receiver = peer(&["receiver"]);
    let mut line = String::new();
    BufReader::new(receiver.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address: SocketAddr = line.trim().parse().unwrap();
    let endpoint = format!("http://{address}");
    let variable = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(Ok(endpoint.clone())),
        "OTEL_EXPORTER_OTLP_COMPRESSION" => Some(Ok(if gzip { "gzip" } else { "none" }.to_owned())),
        "OTEL_METRIC_EXPORT_INTERVAL" => Some(Ok("1".to_owned())),
        _ => None,
    };
    let exports = Exports::read(&SettingSources { flags: Vec::new(), variable: &variable, file: None });
    let settings = exports.unwrap_or_else(|error| panic!("{error}")).push.unwrap();
    let state = Arc::new(PushState::new(&settings));
    let encoder = RequestEncoder::new(resource::resource(&Host::default(), &|_| None, &[]), settings.shape);
    let client = Client::new(settings.clone()).unwrap_or_else(|error| panic!("{error}"));
    let sink = Sink::Receiver { client: Box::new(client), state: Arc::clone(&state) };
    let source = Arc::new(Fixed(families.to_vec()));
    let pusher = Pusher::new(source, sink, encoder, settings.shape.interval, settings.push_timeout);
    let (stop, stopped) = watch::channel(());
    let begun = cpu();
    let pushing = thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(pusher.run(stopped));
    });
    let pushes = || state.status().results.iter().map(|(_, count)| count).sum::<u64>();
    while pushes() < ROUNDS {
        thread::sleep(Duration::from_millis(20));
    }
    drop(stop);
    pushing.join().unwrap();
    let used = cpu() - begun;
    let status = state.status();
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    assert_eq!(status.results.iter().filter(|(_, count)| *count > 0).count(), 1, "{status:?}");
    (used * 1e3 / rounds(pushes()), rounds(status.bytes) / rounds(pushes()))
}

/// The median by CPU time.
fn median(measure: impl Fn() -> (f64, f64)) -> (f64, f64) {
    let mut all: Vec<(f64, f64)> = (0..RUNS).map(|_| measure()).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all[RUNS / 2]
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "scraper", address, encoding] => return scraper(address, encoding),
        [_, "receiver"] => return receiver(),
        _ => {}
    }
    println!(
        "{:<24} {:<6} {:>10} {:>10} {:>10} {:>10} {:>9}",
        "series", "gzip", "scrape ms", "push ms", "scrape B", "push B", "CPU ratio"
    );
    for (name, families) in [
        ("10 000 counters", counters(10_000)),
        ("10 000 histograms", histograms(10_000)),
        ("345 histograms", histograms(345)),
    ] {
        for gzip in [false, true] {
            let (scrape_ms, scrape_bytes) = median(|| scrape(&families, gzip));
            let (push_ms, push_bytes) = median(|| push(&families, gzip));
            println!(
                "{name:<24} {:<6} {scrape_ms:>10.2} {push_ms:>10.2} {scrape_bytes:>10.0} {push_bytes:>10.0} {:>9.2}",
                if gzip { "yes" } else { "no" },
                push_ms / scrape_ms
            );
        }
    }
}
