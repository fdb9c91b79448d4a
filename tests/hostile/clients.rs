//! Clients that are silent, slow, deaf or many: others are answered all the same, and memory is bounded and given back.

use super::cgroup::{Cgroup, MEMORY};
use crate::support::{
    cases::{Cases, Outcome, Skip},
    command::{output, tool},
    exporter::{Tapster, is_release},
    http,
    load::Load,
    metrics::Metrics,
    observer,
};
use socket2::{Domain, Socket, Type};
use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// As many as there are places.
pub(crate) const PLACES: usize = 256;
/// How long an answer may take on a busy machine while others attack; without places for those who ask it took 90 s.
const SOON: Duration = Duration::from_secs(10);

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap()
}

/// A connection from an address that is the attackers' alone, as that of who scrapes is its own.
pub(crate) fn connect_elsewhere(address: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).ok()?;
    socket.connect_timeout(&address.into(), Duration::from_millis(200)).ok()?;
    Some(socket.into())
}

fn many(address: SocketAddr, count: usize, begin: impl Fn(&mut TcpStream)) -> Vec<TcpStream> {
    (0..count)
        .map(|_| {
            let mut stream = connect(address);
            begin(&mut stream);
            stream
        })
        .collect()
}

/// The longest of some scrapes and health checks, each on a connection of its own.
fn longest(tapster: &Tapster) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..5 {
        for path in ["/metrics", "/-/healthy", "/"] {
            let begun = Instant::now();
            let response = tapster.get(path);
            assert_eq!(response.status, 200, "{path}: {}", response.head);
            longest = longest.max(begun.elapsed());
        }
    }
    assert!(longest < SOON, "{longest:?}");
    longest
}

/// Scrapes and asks for health once a second until then; how many scrapes there were, and how long the longest took. `look` sees
/// each of them, with its number.
pub(crate) fn scrape_until(
    tapster: &Tapster,
    until: Instant,
    mut look: impl FnMut(u32, &Metrics),
) -> (u32, Duration) {
    let (mut count, mut longest) = (0, Duration::ZERO);
    while Instant::now() < until {
        let begun = Instant::now();
        let scrape = tapster.scrape();
        longest = longest.max(begun.elapsed());
        assert_eq!(tapster.get("/-/healthy").status, 200);
        count += 1;
        look(count, &scrape);
        thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    (count, longest)
}

fn closed(metrics: &Metrics, reason: &str) -> f64 {
    metrics.sum("tapster_web_connections_closed_total", &[("reason", reason)])
}

/// Sockets that say nothing, or half of a request, or rest after one; more than there are places.
fn silent() -> Outcome {
    let tapster = Tapster::start(&["--probes", "block_request"]);
    let silent = many(tapster.address, PLACES, |_| ());
    let waits = longest(&tapster);
    let half = many(tapster.address, PLACES, |stream| stream.write_all(b"GET /metrics HTT").unwrap());
    let dawdles = longest(&tapster);
    drop((silent, half));
    let resting = many(tapster.address, 385, |stream| {
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
    });
    let rests = longest(&tapster);
    let displaced = closed(&tapster.scrape(), "displaced");
    assert!(displaced > 100.0, "{displaced}");
    let said = tapster.log().iter().filter(|line| line.contains("places for connections are short")).count();
    assert_eq!(said, 1, "{:?}", tapster.log());
    drop(resting);
    Ok(format!(
        "answers within {waits:?} beside silent sockets, {dawdles:?} beside half requests, {rests:?} beside 385 at rest; \
         {displaced} displaced, said once"
    ))
}

/// What `nc -N` does.
fn half_closed() -> Outcome {
    let tapster = Tapster::start(&["--probes", "block_request"]);
    let mut stream = connect(tapster.address);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\ntapster_build_info"), "{answer}");
    Ok(format!("{} bytes", answer.len()))
}

/// The same of TLS: handshakes that stop, and streams of HTTP/2 beside them.
fn tls() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let made = output(
        tool("openssl")?
            .args("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost".split(' '))
            .arg("-keyout")
            .arg(at("key"))
            .arg("-out")
            .arg(at("crt")),
    );
    assert!(made.status.success());
    fs::write(at("web.yml"), "tls_server_config: { cert_file: crt, key_file: key }\n").unwrap();
    let file = at("web.yml").display().to_string();
    let tapster = Tapster::start(&["--probes", "block_request", "--web.config.file", &file]);
    let curl = |version: &str, path: &str| {
        let url = format!("https://localhost:{}{path}", tapster.address.port());
        let mut command = tool("curl")?;
        command.args([
            "-sS4",
            "--max-time",
            "10",
            version,
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code}",
        ]);
        Ok::<_, Skip>(
            String::from_utf8(output(command.arg("--cacert").arg(at("crt")).arg(url)).stdout).unwrap(),
        )
    };
    let begun = Instant::now();
    // The head of a record that never comes.
    let dawdling =
        many(tapster.address, 2 * PLACES, |stream| stream.write_all(b"\x16\x03\x01\x02\x00").unwrap());
    for _ in 0..3 {
        for path in ["/metrics", "/-/healthy"] {
            assert_eq!(curl("--http2", path)?, "2 200");
            assert_eq!(curl("--http1.1", path)?, "1.1 200");
        }
    }
    let took = begun.elapsed();
    drop(dawdling);
    Ok(format!("12 answers in {took:?} beside {} handshakes that stop", 2 * PLACES))
}

/// An exporter with some two thousand histograms, which has read them all. It is in this cgroup.
fn large(directory: &Path, cgroup: &Cgroup) -> Result<(Tapster, Load), Skip> {
    let load = Load::new()?;
    let file = directory.join("probes.yaml");
    let text = format!(
        "probes:
  - name: sectors
    at: rawtracepoint:block:block_bio_queue
    where: (args.bio.bi_bdev.bd_disk.major << 20 | args.bio.bi_bdev.bd_disk.first_minor) == {} && args.bio.bi_iter.bi_sector < 16384
    max_series: 2100
    labels: {{sector: args.bio.bi_iter.bi_sector}}
    metrics:
      - {{histogram: sector_read_bytes, help: Reads by sector., value: args.bio.bi_iter.bi_size, buckets: {{linear: {{start: 0, width: 512, count: 16}}}}}}
",
        observer::number(&load.device.name())
    );
    fs::write(&file, text).unwrap();
    let tapster = Tapster::start_by(cgroup.command(), "127.0.0.1:0", &["-c", file.to_str().unwrap()])
        .unwrap_or_else(|ended| panic!("{ended:?}"));
    load.read()?;
    tapster.settled("tapster_sector_read_bytes_count", &[]);
    Ok((tapster, load))
}

/// Resident memory now, in MiB.
fn mebibytes(tapster: &Tapster) -> u64 {
    tapster.resident_kib() >> 10
}

/// The most that it has had since it began.
pub(crate) fn peak(tapster: &Tapster) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", tapster.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// Resident memory once it has come to rest.
fn rest(tapster: &Tapster, most: u64) -> u64 {
    let begun = Instant::now();
    loop {
        let now = mebibytes(tapster);
        if now <= most || begun.elapsed() > Duration::from_secs(20) {
            return now;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Requests for the same at the same moment, and 100 whose answers nobody reads, where there is little memory.
fn large_answers() -> Outcome {
    // One fewer than an address may have under way: the request before them has its answer, and may still count.
    const SCRAPES: usize = 29;
    let directory = tempfile::tempdir().unwrap();
    let cgroup = Cgroup::of_little_memory()?;
    let (tapster, _load) = large(directory.path(), &cgroup)?;
    let body = tapster.get("/metrics").body.len() >> 10;
    assert!(body > 1 << 10, "an answer of {body} KiB");
    let (before, one) = (mebibytes(&tapster), peak(&tapster));
    let begun = Instant::now();
    let address = tapster.address;
    let scrapes: Vec<_> = (0..SCRAPES)
        .map(|number| {
            let accept = (number % 2 == 0).then_some("application/openmetrics-text");
            thread::spawn(move || http::get(address, "/metrics", accept))
        })
        .collect();
    for scrape in scrapes {
        let answer = scrape.join().unwrap().unwrap();
        let says = answer.text().lines().next().unwrap_or_default();
        assert_eq!(answer.status, 200, "{says}");
    }
    let (took, together) = (begun.elapsed(), peak(&tapster));
    // They come one after the other, so that they share no answer, and ask for different things.
    let deaf: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut stream = connect(address);
            let query = ["", "?probe=sectors"][number % 2];
            write!(stream, "GET /metrics{query} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            thread::sleep(Duration::from_millis(50));
            stream
        })
        .collect();
    assert_eq!(tapster.get("/-/healthy").status, 200);
    let begun = Instant::now();
    // A client may be told to come again while memory is short, and does.
    while http::get(address, "/metrics", None).unwrap().status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody is answered any more");
        thread::sleep(Duration::from_millis(500));
    }
    let (waited, deafest) = (begun.elapsed(), peak(&tapster));
    drop(deaf);
    let most = before + before / 4 + 8;
    let after = rest(&tapster, most);
    assert!(after <= most, "{before} MiB before, {after} MiB after");
    let metrics = tapster.scrape();
    Ok(format!(
        "in a cgroup of {} MiB, answers of {body} KiB: {before} MiB at rest, {one} at most for one scrape, {together} for {SCRAPES} \
         at once (in {took:?}), {deafest} with 100 that nobody reads, where a scrape waited {waited:?}; {after} afterwards; closed \
         for memory {}, refused for memory {}{}",
        MEMORY >> 20,
        closed(&metrics, "memory"),
        metrics.sum("tapster_web_refused_total", &[("reason", "memory")]),
        if is_release() { "" } else { "; not optimized" }
    ))
}

#[test]
fn clients() {
    let Some(mut cases) = Cases::as_root("hostile clients") else { return };
    cases.run("silent", silent);
    cases.run("half closed", half_closed);
    cases.run("TLS", tls);
    cases.run("large answers", large_answers);
    cases.finish();
}
