//! The exporter as it is run: what it pushes is what it serves, whatever its receiver does it goes on, and its settings are
//! those that it is given.

use crate::{
    receiver::{Answer, Options, Received, Receiver, Transport},
    series::{self, All, Compared},
    support::{
        cases::{Cases, Outcome, Skip},
        command::{root, sdt_header, text, tool},
        device::{LoopDevice, Zram, filled_file, memory_directory},
        exporter::{Tapster, binary, within},
        fio::Job,
        fixture,
    },
};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const MIB: u64 = 1 << 20;

/// Ten probes of a site, and the shipped ones.
pub(crate) fn ten() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp/ten.yaml")
}

/// The exporter with the ten probes, which pushes to an endpoint by a protocol.
pub(crate) fn pushing(endpoint: &str, transport: Transport, more: &[&str]) -> Tapster {
    let protocol = if transport == Transport::Grpc { "grpc" } else { "http/protobuf" };
    let file = ten().display().to_string();
    let usual = ["-c", &file, "--otlp.endpoint", endpoint, "--otlp.protocol", protocol];
    Tapster::start(&[&usual[..], more].concat())
}

/// Reads and writes of a loop device and of zram.
pub(crate) fn load() -> Outcome {
    let memory = memory_directory()?;
    load_with(&LoopDevice::over(&filled_file(&memory.path().join("loop"), 16 * MIB), &[])?)
}

/// The same on a loop device that is there already, which goes on to be the same disk.
fn load_with(device: &LoopDevice) -> Outcome {
    let mut targets = vec![device.path.clone()];
    let zram = Zram::take(64 * MIB);
    if zram.is_ok() {
        targets.push("/dev/zram0".into());
    }
    let mut ios = 0;
    for target in &targets {
        for pattern in ["randwrite", "randread"] {
            let job = Job { target, pattern, block_bytes: 4096, depth: 4, bytes: 8 * MIB, extra: &[] };
            ios += job.run()?.ios;
        }
    }
    Ok(format!("{ios} I/Os of {} devices", targets.len()))
}

fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// The requests of the first push that was read after `after_ns`. Requests of one push have one time.
pub(crate) fn push_after(receiver: &Receiver, after_ns: u64) -> Vec<Received> {
    let mut found = Vec::new();
    let reached = within(Duration::from_secs(20), || {
        let received = receiver.received();
        let later =
            received.iter().map(|request| series::time(&request.request)).filter(|time| *time > after_ns);
        let Some(time) = later.min() else { return false };
        // A push is whole when another has begun.
        let is_whole = received.iter().any(|request| series::time(&request.request) > time);
        found = received.into_iter().filter(|request| series::time(&request.request) == time).collect();
        is_whole
    });
    assert!(reached.is_some(), "no push after {after_ns}");
    found
}

/// A scrape, a push after it, and a scrape after that.
pub(crate) fn compared(tapster: &Tapster, receiver: &Receiver) -> (Compared, All) {
    let before = series::scrape(tapster.address);
    let requests = push_after(receiver, now_ns());
    let after = series::scrape(tapster.address);
    let pushed = series::pushed(requests.iter().map(|request| &request.request));
    (series::compare(&before, &pushed, &after), pushed)
}

/// All that a scrape has is in a push, to the last bucket.
fn equal(transport: Transport) -> Outcome {
    let receiver = Receiver::start(Options::of(transport));
    let endpoint = format!("http://{}", receiver.address());
    let tapster = pushing(&endpoint, transport, &["--otlp.interval", "500ms"]);
    load()?;
    sleep(Duration::from_millis(300));
    let (Compared { series, at_rest, buckets }, pushed) = compared(&tapster, &receiver);
    assert!(at_rest * 10 > series * 5, "only {at_rest} of {series} series were at rest");
    assert!(buckets > 50, "only {buckets} buckets were compared");
    let overflow = pushed.iter().any(|(_, series)| match series {
        series::Series::Histogram { native: Some(native), .. } => {
            native.buckets.contains_key(&((1024 << native.schema) + 1))
        }
        _ => false,
    });
    assert!(overflow, "nothing was above a top bound, as `ten_schema_4` should have it");
    let starts = starts(&receiver);
    Ok(format!(
        "{series} series, {at_rest} at rest with {buckets} native buckets; one start each of {starts} counters"
    ))
}

/// What a receiver of differences has added up, over an outage of its own, is what is scraped in the end.
fn differences() -> Outcome {
    let receiver = Receiver::start(Options::of(Transport::Grpc));
    let endpoint = format!("http://{}", receiver.address());
    let delta = ["--otlp.interval", "200ms", "--otlp.push-timeout", "1500ms", "--otlp.temporality", "delta"];
    let tapster = pushing(&endpoint, Transport::Grpc, &delta);
    receiver.wait(3);
    let memory = memory_directory()?;
    let device = LoopDevice::over(&filled_file(&memory.path().join("loop"), 16 * MIB), &[])?;
    load_with(&device)?;
    receiver.go_away();
    load_with(&device)?;
    sleep(Duration::from_secs(2));
    receiver.come_back();
    let before = receiver.received().len();
    receiver.wait(before + 3);
    load_with(&device)?;
    let failed = tapster.scrape().sum("tapster_otlp_pushes_total", &[("result", "failed")]);
    assert!(failed > 0.0, "no push failed while the receiver was away");
    sleep(Duration::from_millis(600));
    let low = series::scrape(tapster.address);
    // Differences of what happened before the first scrape are taken before the second.
    sleep(Duration::from_millis(900));
    let sums = series::summed(receiver.taken().iter().map(|request| &request.request));
    let high = series::scrape(tapster.address);
    let Compared { series, at_rest, buckets } = series::compare_sums(&low, &sums, &high);
    assert!(at_rest > 50 && buckets > 50, "{at_rest} of {series} at rest, {buckets} buckets");
    Ok(format!("{series} series, {at_rest} at rest with {buckets} native buckets; {failed} pushes failed"))
}

/// A probe in a file that appears later and is replaced: its counts begin when it was attached first, and go on.
fn replaced() -> Outcome {
    if !sdt_header() {
        return Err(Skip("`sys/sdt.h` is not installed (systemtap-sdt-dev)".into()));
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("shop");
    let source = fixture::file("programs/shop.c");
    let file = directory.path().join("probes.yaml");
    let probe = format!(
        "probes:\n  - name: orders\n    function: \"{}:orders\"\n    metrics: [{{ counter: shop_orders_total, help: x }}]\n",
        program.display()
    );
    fs::write(&file, probe).unwrap();
    let receiver = Receiver::start(Options::of(Transport::Http));
    let endpoint = format!("http://{}", receiver.address());
    let begun = now_ns();
    let tapster = Tapster::start(&[
        "-c",
        file.to_str().unwrap(),
        "--otlp.endpoint",
        &endpoint,
        "--otlp.interval",
        "200ms",
    ]);
    sleep(Duration::from_millis(500));
    let appeared = now_ns();
    for (number, optimised) in (1_u32..).zip(["-O1", "-O2", "-O1"]) {
        let next = directory.path().join("next");
        text(tool("cc")?.args([optimised, "-DSEMAPHORES", "-o"]).arg(&next).arg(&source));
        fs::rename(&next, &program).unwrap();
        let attached = || {
            let lines = tapster.log();
            let line = |line: &&String| line.contains("attached to the files that are there now");
            lines.iter().filter(line).count() >= usize::try_from(number).unwrap()
        };
        assert!(within(Duration::from_secs(30), attached).is_some(), "{}", tapster.log().join("\n"));
        text(Command::new(&program).args(["50", "0"]));
    }
    let requests = push_after(&receiver, now_ns());
    let pushed = series::pushed(requests.iter().map(|request| &request.request));
    let key = ("tapster_shop_orders_total".to_owned(), std::collections::BTreeMap::new());
    assert_eq!(pushed.get(&key), Some(&series::Series::Counter(3.0)), "one for each file");
    let starts = series::starts(receiver.received().iter().map(|received| &received.request), &key.0);
    assert_eq!(starts.len(), 1, "starts {starts:?}");
    let start = *starts.first().unwrap();
    assert!(
        begun < appeared && appeared < start && start < now_ns(),
        "{start}, the file appeared at {appeared}"
    );
    Ok("3 files, one start".into())
}

/// A counter's start is the same in every push.
fn starts(receiver: &Receiver) -> usize {
    let received = receiver.received();
    let requests = || received.iter().map(|received| &received.request);
    let names: std::collections::BTreeSet<String> =
        series::pushed(requests().take(1)).into_keys().map(|(name, _)| name).collect();
    let counters = names.iter().filter(|name| name.ends_with("_total") && !name.starts_with("process_"));
    counters.clone().for_each(|name| {
        let starts = series::starts(requests(), name);
        assert_eq!(starts.len(), 1, "{name}: {starts:?}");
        assert!(starts.first().is_some_and(|start| *start > 0), "{name}");
    });
    counters.count()
}

/// A receiver that hangs, then is away, costs no scrape and no memory, and has everything in the end.
fn bad_receiver() -> Outcome {
    let receiver = Receiver::start(Options::of(Transport::Http));
    receiver.always(Some(Answer::Hang));
    let endpoint = format!("http://{}", receiver.address());
    let settings = ["--otlp.interval", "100ms", "--otlp.timeout", "150ms", "--otlp.push-timeout", "300ms"];
    let tapster = Tapster::start(&[&["--otlp.endpoint", &endpoint][..], &settings].concat());
    let scrapes = |count: usize| {
        for _ in 0..count {
            assert!(tapster.scrape().find("tapster_otlp_pushes_total", &[("result", "failed")]).is_some());
            sleep(Duration::from_millis(20));
        }
    };
    scrapes(100);
    let warm = tapster.resident_kib();
    scrapes(150);
    receiver.go_away();
    scrapes(150);
    let rest = tapster.resident_kib();
    let metrics = tapster.scrape();
    let failed = metrics.sum("tapster_otlp_pushes_total", &[("result", "failed")]);
    assert!(failed > 10.0, "only {failed} pushes failed");
    assert!(metrics.sum("tapster_otlp_last_success_timestamp_seconds", &[]).abs() < f64::EPSILON);
    assert!(rest < warm + warm / 10, "resident memory grew from {warm} to {rest} KiB over failed pushes");
    let page = tapster.get("/");
    assert!(page.text().contains("<h2>Push</h2>") && page.text().contains("never"), "{}", page.text());
    assert!(page.text().contains("<b>failed</b>"), "{}", page.text());
    assert_eq!(tapster.get("/-/healthy").status, 200);
    receiver.always(None);
    receiver.come_back();
    let before = receiver.received().len();
    receiver.wait(before + 2);
    let taken = within(Duration::from_secs(5), || {
        tapster.scrape().sum("tapster_otlp_pushes_total", &[("result", "taken")]) > 0.0
    });
    assert!(taken.is_some());
    let log = tapster.log();
    let lines = log.iter().filter(|line| line.contains("push")).count();
    assert!(lines < 10, "{lines} lines about pushes:\n{}", log.join("\n"));
    Ok(format!("{failed} pushes failed; resident {warm} KiB, then {rest}; {lines} lines in the log"))
}

/// Ports that a process listens on.
fn listening(pid: u32) -> usize {
    let inodes: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables =
        ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    // State 0A is "listening".
    lines
        .filter(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(3) == Some(&"0A")
                && words.get(9).is_some_and(|inode| inodes.iter().any(|own| own == inode))
        })
        .count()
}

/// With `otlp` alone no port is open, and the end sends what is there.
fn pushes_only() -> Outcome {
    let receiver = Receiver::start(Options::of(Transport::Http));
    let mut child = binary()
        .args(["--log.level", "warn", "--probes", "block_io"])
        .env("OTEL_METRICS_EXPORTER", "otlp")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", receiver.address()))
        .env("OTEL_METRIC_EXPORT_INTERVAL", "300")
        .env("OTEL_SERVICE_NAME", "disks")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.instance.id=node-17")
        .env("K8S_NODE_NAME", "worker-3")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    receiver.wait(2);
    let ports = listening(child.id());
    let before = receiver.received().len();
    // SAFETY: it is a child that was not waited for, so the number is still its own.
    unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGTERM) };
    let ended = within(Duration::from_secs(12), || child.try_wait().unwrap().is_some());
    let status = child.wait().unwrap();
    assert!(ended.is_some() && status.success(), "{status}");
    assert_eq!(ports, 0, "it listens");
    let received = receiver.received();
    assert!(received.len() > before, "there was no last push");
    let resource = received[0].request.resource_metrics[0].resource.as_ref().unwrap();
    let attributes = series::pushed_labels(&resource.attributes);
    for (key, value) in [
        ("service.name", "disks"),
        ("service.instance.id", "node-17"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment.name", "test"),
        ("k8s.node.name", "worker-3"),
        ("os.type", "linux"),
    ] {
        assert_eq!(attributes.get(key).map(String::as_str), Some(value), "{key}");
    }
    for key in ["host.name", "host.arch", "os.description", "os.version"] {
        assert!(attributes.get(key).is_some_and(|value| !value.is_empty()), "{key}");
    }
    Ok(format!("{} requests, resource {attributes:?}", received.len()))
}

/// `console` prints each push as a line of JSON, which is what OpenTelemetry's tools read.
fn console() -> Outcome {
    let mut child = binary()
        .args([
            "--log.level",
            "warn",
            "--probes",
            "block_io",
            "--exporters",
            "console",
            "--otlp.interval",
            "200ms",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().expect("a line").unwrap();
    let json: serde_json::Value = serde_json::from_str(&first).unwrap();
    let metrics = json["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
    let metric =
        metrics.iter().find(|metric| metric["name"] == "tapster_probe_missed_total").expect("a counter");
    assert_eq!(metric["sum"]["isMonotonic"], true, "{metric}");
    let count = metrics.len();
    // Somebody does not read for a while: the end comes all the same.
    sleep(Duration::from_secs(3));
    assert!(child.try_wait().unwrap().is_none());
    let mut stalled = binary()
        .args(["--log.level", "error", "--probes", "block_io", "--exporters", "console"])
        .args(["--otlp.interval", "50ms"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    sleep(Duration::from_secs(3));
    // SAFETY: it is a child that was not waited for, so the number is still its own.
    unsafe { libc::kill(i32::try_from(stalled.id()).unwrap(), libc::SIGTERM) };
    let ended = within(Duration::from_secs(15), || stalled.try_wait().unwrap().is_some());
    let status = ended.map(|_| stalled.wait().unwrap());
    if status.is_none() {
        stalled.kill().unwrap();
    }
    assert!(status.is_some_and(|status| status.success()), "a full pipe holds up the end: {status:?}");
    // Nobody reads any more: it goes on without printing.
    drop(lines);
    sleep(Duration::from_millis(600));
    assert!(child.try_wait().unwrap().is_none(), "it ended with its output");
    // SAFETY: as above.
    unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGTERM) };
    assert!(child.wait().unwrap().success());
    Ok(format!("{count} metrics in a line of {} bytes", first.len()))
}

fn run(cases: &mut Cases) -> Result<(), Skip> {
    root()?;
    tool("fio")?;
    for transport in [Transport::Http, Transport::Grpc] {
        cases.run(&format!("{transport:?}: all series, to the last bucket"), || equal(transport));
    }
    cases.run("the sums of differences are the totals", differences);
    cases.run("a file that appears and is replaced", replaced);
    cases.run("a receiver that hangs and is away", bad_receiver);
    cases.run("pushes only", pushes_only);
    cases.run("console", console);
    Ok(())
}

#[test]
fn the_exporter_pushes_what_it_serves() {
    let _host = crate::host();
    let mut cases = Cases::new("process");
    if let Err(Skip(reason)) = run(&mut cases) {
        crate::support::cases::say(format_args!("process: skipped: {reason}"));
    }
    cases.finish();
}

/// Wrong settings end the start with status 2 and a sentence that names where they stand; this needs no privilege.
#[test]
fn wrong_settings_end_the_start() {
    let ended = |command: &mut Command| {
        let output = command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        // What runs says first which version it is.
        let said: Vec<&str> =
            text.lines().filter(|line| !line.contains(" tapster starts version=")).collect();
        (output.status.code(), said.join("\n"))
    };
    let (code, text) = ended(binary().args(["--otlp.endpoint", "http://a:1", "--otlp.protocol", "gprc"]));
    assert_eq!(
        (code, &*text),
        (Some(2), "error: `--otlp.protocol`: `gprc` is not known here\n  hint: did you mean `grpc`?")
    );
    let (code, text) = ended(binary().env("OTEL_METRICS_EXPORTER", "oltp"));
    assert_eq!(
        (code, &*text),
        (Some(2), "error: `OTEL_METRICS_EXPORTER`: `oltp` is not known here\n  hint: did you mean `otlp`?")
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("site.yaml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let (code, text) = ended(binary().args(["-c", &file.display().to_string()]));
        (code, text.replace(&file.display().to_string(), "site.yaml"))
    };
    let (code, text) = check("library: true\notlp:\n  endpoint: http://a:1\n  histograms: explicit\n");
    assert_eq!(
        (code, &*text),
        (
            Some(2),
            "error: `histograms`: `explicit` is not known here\n --> site.yaml:4:15\n4 |   histograms: explicit\n  |               \
             ^^^^^^^^ it is one of `base2_exponential_bucket_histogram`, `explicit_bucket_histogram`"
        )
    );
    // `check` says the same, whether the file asks for pushes or leaves that to a variable.
    for text in ["otlp:\n  histograms: explicit\n", "exporters: [otpl]\n"] {
        fs::write(&file, format!("library: true\n{text}")).unwrap();
        let (code, said) = ended(binary().args(["check", "--offline", &file.display().to_string()]));
        assert!(code == Some(2) && said.contains("is not known here"), "{code:?} {said}");
    }
    // What may hold a secret is not shown.
    let (code, text) = check("library: true\notlp:\n  endpoint: collector\n");
    assert_eq!(
        (code, &*text),
        (
            Some(2),
            "error: `endpoint` (site.yaml:3:13): `collector` has no `http://` or `https://`\n  hint: an endpoint is a URL \
             such as `http://collector:4318`"
        )
    );
    let (code, text) = check("library: true\notlp:\n  endpont: http://a:1\n");
    assert_eq!(code, Some(2));
    assert!(text.contains("did you mean `endpoint`?"), "{text}");
    // What is wrong about pushes does not matter where nothing is pushed: it fails for another reason, or runs.
    let (_, text) =
        ended(binary().env("OTEL_EXPORTER_OTLP_PROTOCOL", "gprc").args(["--web.listen-address", "x"]));
    assert!(!text.contains("OTEL_EXPORTER_OTLP_PROTOCOL"), "{text}");
}
