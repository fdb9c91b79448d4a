//! Real receivers: `rotel`, a collector, and a Prometheus that takes OTLP while it scrapes as well.
//!
//! Debian's Prometheus is built without its receiver of OTLP, and no registry has another, so these cases are skipped
//! unless `TAPSTER_PROMETHEUS` or the path names one that has it.

use crate::{
    process::{compared, load, pushing, ten},
    pushing::settings,
    receiver::{Options, Receiver, Transport},
    series::{Compared, is_of_server},
    support::{
        cases::{Cases, Outcome, Skip, say},
        command::{root, tool},
        durations,
        exporter::{Tapster, within},
        http,
        prometheus::{Prometheus, free_port},
        queries::{self, Query},
        source,
    },
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tapster::{
    host::Host,
    otlp::{PushState, Pusher, RequestEncoder, Sink, client::Client, resource},
};

/// A process of the test's own, which ends with it.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The collector that `./test` installs, or that of the host.
fn collector() -> Result<Command, Skip> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/lib");
    let pythons = fs::read_dir(own).into_iter().flatten().flatten();
    let agent =
        pythons.map(|entry| entry.path().join("site-packages/rotel/rotel-agent")).find(|path| path.is_file());
    match agent {
        Some(path) => Ok(Command::new(path)),
        None => tool("rotel-agent").map_err(|_| Skip("no `rotel`; `./test` installs it".into())),
    }
}

/// Starts the collector between the exporter and a receiver.
fn start_collector(directory: &Path, to: SocketAddr) -> Result<(Owned, SocketAddr, SocketAddr), Skip> {
    let addresses = [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let path = |name: &str| directory.join(name).display().to_string();
    let mut command = collector()?;
    command
        .args(["start", "--pid-file", &path("pid"), "--log-file", &path("log")])
        .args([
            "--otlp-grpc-endpoint",
            &addresses[0].to_string(),
            "--otlp-http-endpoint",
            &addresses[1].to_string(),
        ])
        .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http", "--batch-timeout", "50ms"])
        .args(["--otlp-exporter-endpoint", &format!("http://{to}")])
        .stdin(Stdio::null())
        .stdout(fs::File::create(directory.join("out")).unwrap())
        .stderr(fs::File::create(directory.join("err")).unwrap());
    let child = Owned(command.spawn().map_err(|error| Skip(format!("rotel: {error}")))?);
    let is_up = || addresses.iter().all(|address| std::net::TcpStream::connect(address).is_ok());
    let said = || fs::read_to_string(directory.join("err")).unwrap_or_default();
    assert!(within(Duration::from_secs(20), is_up).is_some(), "rotel does not start: {}", said());
    Ok((child, addresses[0], addresses[1]))
}

/// What comes out of the collector is what is scraped, to the last bucket.
fn through_a_collector(transport: Transport) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(Options::of(Transport::Http));
    let (_collector, grpc, http) = start_collector(directory.path(), receiver.address())?;
    let address = if transport == Transport::Grpc { grpc } else { http };
    let tapster = pushing(&format!("http://{address}"), transport, &["--otlp.interval", "700ms"]);
    load()?;
    sleep(Duration::from_millis(300));
    let (Compared { series, at_rest, buckets }, _) = compared(&tapster, &receiver);
    assert!(at_rest * 10 > series * 5 && buckets > 50, "{at_rest} of {series} at rest, {buckets} buckets");
    Ok(format!("{series} series, {at_rest} at rest with {buckets} native buckets"))
}

/// A Prometheus with a receiver of OTLP.
fn prometheus() -> Result<PathBuf, Skip> {
    let path =
        std::env::var_os("TAPSTER_PROMETHEUS").map_or_else(|| PathBuf::from("prometheus"), PathBuf::from);
    let help =
        Command::new(&path).arg("--help").output().map_err(|error| Skip(format!("prometheus: {error}")))?;
    let text = [help.stdout, help.stderr].concat();
    if String::from_utf8_lossy(&text).contains("enable-otlp-receiver") {
        Ok(path)
    } else {
        Err(Skip("this `prometheus` has no receiver of OTLP; `TAPSTER_PROMETHEUS` may name another".into()))
    }
}

const FEATURES: [&str; 2] = ["--web.enable-otlp-receiver", "--enable-feature=native-histograms"];

fn base(prometheus: &Prometheus) -> String {
    format!("http://{}/api/v1/otlp", prometheus.address)
}

/// A series as Prometheus has it.
#[derive(Clone, Debug, PartialEq)]
enum Stored {
    Number(f64),
    /// Count, sum, what is in the zero bucket, and the bounds and counts of all others.
    Native(f64, f64, f64, Vec<(String, String, f64)>),
}

fn text(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

/// All series of a job, by their labels without those of the target.
fn stored(prometheus: &Prometheus, job: &str) -> BTreeMap<String, Stored> {
    let data = prometheus.api(&format!("query?query={}", http::escape(&format!("{{job=\"{job}\"}}"))));
    let mut all = BTreeMap::new();
    for result in data["result"].as_array().unwrap() {
        let mut labels: BTreeMap<String, String> = serde_json::from_value(result["metric"].clone()).unwrap();
        labels.remove("job");
        labels.remove("instance");
        let name = labels["__name__"].clone();
        // What Prometheus adds to a scrape, and makes of a resource.
        if name == "up" || name.starts_with("scrape_") || name == "target_info" || is_of_server(&name) {
            continue;
        }
        // A pushed bound is spelt as Go spells a number, a scraped one as OpenMetrics does.
        if let Some(bound) = labels.get_mut("le") {
            *bound = format!("{:?}", bound.parse::<f64>().unwrap());
        }
        let series = match result.get("histogram") {
            None => Stored::Number(text(&result["value"][1])),
            Some(histogram) => {
                let histogram = &histogram[1];
                let (mut zero, mut buckets) = (0.0, Vec::new());
                for bucket in histogram["buckets"].as_array().into_iter().flatten() {
                    let bound = |index: usize| bucket[index].as_str().unwrap().to_owned();
                    // The rule 3 is that of the zero bucket: closed on both sides.
                    if bucket[0] == 3 {
                        zero = text(&bucket[3]);
                    } else {
                        buckets.push((bound(1), bound(2), text(&bucket[3])));
                    }
                }
                Stored::Native(text(&histogram["count"]), text(&histogram["sum"]), zero, buckets)
            }
        };
        let before = all.insert(format!("{labels:?}"), series);
        assert!(before.is_none(), "{labels:?} twice");
    }
    all
}

/// What was pushed to a Prometheus is what it scraped, names, labels and buckets.
fn pushed_and_scraped(binary: &Path) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let exporter: SocketAddr = ([127, 0, 0, 1], port).into();
    let prometheus =
        Prometheus::start_binary(binary, directory.path(), &[("scraped", exporter)], &FEATURES, &[])?;
    let tapster = Tapster::start_at(
        &exporter.to_string(),
        &[
            "-c",
            &ten().display().to_string(),
            "--otlp.endpoint",
            &base(&prometheus),
            "--otlp.interval",
            "1s",
            "--otlp.service-name",
            "pushed",
        ],
    )
    .unwrap_or_else(|ended| panic!("{ended:?}"));
    load()?;
    prometheus.wait_value("up{job=\"scraped\"}", 1.0);
    let settle = Duration::from_millis(2500);
    sleep(settle);
    let before = stored(&prometheus, "scraped");
    sleep(settle);
    let pushed = stored(&prometheus, "pushed");
    sleep(settle);
    let after = stored(&prometheus, "scraped");
    let names =
        |all: &BTreeMap<String, Stored>| all.keys().cloned().collect::<std::collections::BTreeSet<_>>();
    let missing: Vec<_> = names(&before).difference(&names(&pushed)).cloned().collect();
    assert!(missing.is_empty(), "scraped, but not pushed: {missing:#?}");
    let more: Vec<_> = names(&pushed).difference(&names(&after)).cloned().collect();
    assert!(more.is_empty(), "pushed, but not scraped: {more:#?}");
    let (mut at_rest, mut buckets) = (0, 0);
    for (key, found) in &pushed {
        let high = &after[key];
        let is_at_rest = before.get(key) == Some(high);
        if is_at_rest {
            assert_eq!(found, high, "{key}");
            at_rest += 1;
        }
        match (before.get(key), found, high) {
            (low, Stored::Number(found), Stored::Number(high)) => {
                let low = if let Some(Stored::Number(low)) = low { *low } else { 0.0 };
                let is_counter = key.contains("_total\"") || key.contains("_bucket\"");
                assert!(
                    !is_counter || (low <= *found && found <= high),
                    "{key}: {found}, not {low} to {high}"
                );
            }
            (_, Stored::Native(count, _, zero, found), Stored::Native(most, ..)) => {
                assert!(count <= most, "{key}: {count} of {most}");
                let inside: f64 = found.iter().map(|(_, _, count)| count).sum();
                assert!((inside + zero - count).abs() < 0.5, "{key}");
                buckets += if is_at_rest { found.len() + 1 } else { 0 };
            }
            other => panic!("{key}: {other:?}"),
        }
    }
    assert!(at_rest * 10 > pushed.len() * 5 && buckets > 50, "{at_rest} of {} at rest", pushed.len());
    drop(tapster);
    Ok(format!("{} series, {at_rest} at rest with {buckets} native buckets", pushed.len()))
}

/// An answer, by the labels.
fn answers(prometheus: &Prometheus, expr: &str, time: f64) -> BTreeMap<String, f64> {
    let data = prometheus.api(&format!("query?query={}&time={time}", http::escape(expr)));
    if data["resultType"] == "scalar" {
        return BTreeMap::from([(String::new(), text(&data["result"][1]))]);
    }
    let results = data["result"].as_array().unwrap();
    let value = |result: &Value| match result.get("value") {
        Some(value) => text(&value[1]),
        None => text(&result["histogram"][1]["count"]),
    };
    results.iter().map(|result| (result["metric"].to_string(), value(result))).collect()
}

/// Queries about Prometheus' own scrape, which a push has none of.
fn is_of_scrapes(query: &Query) -> bool {
    query.expr.contains("up ==")
        || query.expr.contains("up{")
        || query.expr.contains("scrape_duration_seconds{")
}

/// All rules and all queries of dashboards give the same answers about what was pushed and about what was scraped.
fn same_answers(binary: &Path) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let story = source::story();
    let exporter = source::serve_source(Arc::clone(&story));
    let rules = queries::changed_rule_files(&directory.path().join("rules"), durations::step_of_a_second);
    let start = |name: &str, targets: &[(&str, SocketAddr)]| {
        Prometheus::start_binary(binary, &directory.path().join(name), targets, &FEATURES, &rules)
    };
    let scraping = start("scraping", &[("tapster", exporter)])?;
    let taking = start("taking", &[])?;
    let endpoint = base(&taking);
    let settings =
        settings(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_METRIC_EXPORT_INTERVAL", "1000")]);
    // The same target: job and instance of the scrape.
    let given = [("service.instance.id".to_owned(), exporter.to_string())];
    let encoder =
        RequestEncoder::new(resource::resource(&Host::default(), &|_| None, &given), settings.shape);
    let state = Arc::new(PushState::new(&settings));
    let (shape, limit) = (settings.shape, settings.push_timeout);
    let client = Client::new(settings).unwrap_or_else(|error| panic!("{error}"));
    let pusher = Pusher::new(
        story,
        Sink::Receiver { client: Box::new(client), state },
        encoder,
        shape.interval,
        limit,
    );
    let (stop, stopped) = tokio::sync::watch::channel(());
    let pushing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(pusher.run(stopped));
    });
    // Windows of a minute, and alerts that wait for some seconds.
    sleep(Duration::from_secs(75));
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() - 2.0;
    let (mut compared, mut empty, mut worst) = (0, 0, (0.0_f64, String::new()));
    let mut wrong = Vec::new();
    for mut query in queries::all(&[]) {
        query.expr = durations::step_of_a_second(&query.expr);
        if is_of_scrapes(&query) {
            continue;
        }
        let (scraped, pushed) = (answers(&scraping, &query.expr, time), answers(&taking, &query.expr, time));
        // Classic buckets are not kept beside native ones by either.
        let labels = |answers: &BTreeMap<String, f64>| answers.keys().cloned().collect::<Vec<_>>();
        if labels(&scraped) != labels(&pushed) {
            wrong.push(format!(
                "{}: {}\n  scraped {:?}\n  pushed  {:?}",
                query.place, query.expr, scraped, pushed
            ));
            continue;
        }
        empty += usize::from(scraped.is_empty());
        compared += usize::from(!scraped.is_empty());
        for (labels, scraped) in &scraped {
            let pushed = pushed[labels];
            let scale = scraped.abs().max(pushed.abs());
            let off = if scale > 0.0 && scraped.is_finite() { (scraped - pushed).abs() / scale } else { 0.0 };
            // The two read a story that goes on at other moments of a second.
            let is_age = query.expr.contains("time()") && (scraped - pushed).abs() < 1.5;
            if off > worst.0 && !is_age {
                worst = (off, format!("{} {labels}: {scraped} and {pushed}", query.place));
            }
            if off > 0.1 && !is_age {
                wrong.push(format!(
                    "{}: {labels}: scraped {scraped}, pushed {pushed}\n  {}",
                    query.place, query.expr
                ));
            }
        }
    }
    drop(stop);
    pushing.join().unwrap();
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 60, "only {compared} queries have an answer");
    Ok(format!(
        "{compared} queries with the same answers, {empty} without one; furthest apart {:.2} %: {}",
        worst.0 * 100.0,
        worst.1
    ))
}

fn run(cases: &mut Cases) -> Result<(), Skip> {
    root()?;
    tool("fio")?;
    for transport in [Transport::Grpc, Transport::Http] {
        cases.run(&format!("through rotel by {transport:?}"), || through_a_collector(transport));
    }
    cases.run("Prometheus takes and scrapes", || pushed_and_scraped(&prometheus()?));
    cases.run("rules and dashboards on what was pushed", || same_answers(&prometheus()?));
    Ok(())
}

#[test]
fn real_receivers_have_what_is_scraped() {
    let _host = crate::host();
    let mut cases = Cases::new("peers");
    if let Err(Skip(reason)) = run(&mut cases) {
        say(format_args!("peers: skipped: {reason}"));
    }
    cases.finish();
}
