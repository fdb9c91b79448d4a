//! Real HTTP over loopback against a source of our own making.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::sync::oneshot;

use super::*;
use crate::exposition::Format;
use crate::family::FamilyKind;
use crate::family::MetricFamily;
use crate::source::{Selection, Source};
use crate::status::{ProbeStatus, UnreadyReason};

#[derive(Default)]
struct Fake {
    ready: AtomicBool,
    panics: AtomicBool,
    broken: AtomicBool,
    collections: AtomicUsize,
    /// The next collection says that it began and waits to be let go.
    gate: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

impl Source for Fake {
    fn select(&self, selection: &Selection) -> Vec<MetricFamily> {
        if !selection.takes(|word| word == "disk") {
            return Vec::new();
        }
        self.collections.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics.load(Ordering::Relaxed), "on purpose");
        let gate = self.gate.lock().unwrap().take();
        if let Some((began, go)) = gate {
            began.send(()).unwrap();
            go.recv().unwrap();
        }
        let mut families = vec![MetricFamily::single("reads_total", "Reads.", FamilyKind::Counter, 7.0)];
        if self.broken.load(Ordering::Relaxed) {
            families.push(families[0].clone());
        }
        families
    }

    fn status(&self) -> Vec<ProbeStatus> {
        vec![ProbeStatus { name: "disk".into(), help: "Disk & co.".into(), ..Default::default() }]
    }

    fn words(&self) -> Vec<String> {
        vec!["disk".into()]
    }

    fn unready(&self) -> Option<UnreadyReason> {
        (!self.ready.load(Ordering::Relaxed)).then_some(UnreadyReason::Nothing { probes: 3 })
    }
}

struct Running {
    fake: Arc<Fake>,
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        Self::with(ServerOptions::default())
    }

    fn with(options: ServerOptions) -> Self {
        let fake = Arc::new(Fake::default());
        let listener = bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr();
        let (stop, stopped) = oneshot::channel();
        let source = Arc::clone(&fake);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(serve(vec![listener], source, options, async { drop(stopped.await) })).unwrap();
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        Self { fake, addr, stop: Some(stop), thread: Some(thread) }
    }

    fn request(&self, request: &str) -> Answer {
        request_to(self.addr, request)
    }

    fn get(&self, path: &str) -> Answer {
        self.request(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n"))
    }

    /// Holds back the next collection: a signal that it began, and the way to let it go.
    fn hold(&self) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (began, has_begun) = mpsc::channel();
        let (release, go) = mpsc::channel();
        *self.fake.gate.lock().unwrap() = Some((began, go));
        (has_begun, release)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let joined = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || matches!(joined, Some(Ok(()))));
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Sends request line and headers, and reads to the end of the connection.
fn request_to(addr: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "{request}Connection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an end of the head") + 4;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: answer[end..].to_vec() }
}

#[test]
fn metrics_come_in_the_format_asked_for() {
    let server = Running::start();
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{}",
        answer.head
    );
    assert!(answer.head.contains("\r\nvary: accept, accept-encoding\r\n"), "{}", answer.head);
    assert!(!answer.head.contains("content-encoding"));
    assert!(answer.text().contains("\nreads_total 7\n"));
    assert!(
        answer
            .text()
            .contains("\n# TYPE tapster_scrape_duration_seconds gauge\ntapster_scrape_duration_seconds ")
    );

    let answer = server.request(
        "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.2\r\n",
    );
    assert!(
        answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{}",
        answer.head
    );
    assert!(answer.text().ends_with("# EOF\n"));
}

#[test]
fn gzip_round_trip() {
    let server = Running::start();
    let answer = server.request("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n");
    assert!(answer.head.contains("\r\ncontent-encoding: gzip\r\n"), "{}", answer.head);
    let mut text = String::new();
    flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_string(&mut text).unwrap();
    assert!(text.contains("\nreads_total 7\n"), "{text}");
    let answer = server.request("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip;q=0\r\n");
    assert!(answer.text().contains("\nreads_total 7\n"));
}

#[test]
fn methods_and_paths_it_does_not_know() {
    let server = Running::start();
    for path in ["/metrics", "/", "/-/healthy", "/-/ready"] {
        let answer = server.request(&format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"));
        assert_eq!(
            (answer.status, answer.text()),
            (405, "only GET and HEAD are understood here\n"),
            "{path}"
        );
        assert!(answer.head.contains("\r\nallow: get, head, options\r\n"), "{}", answer.head);
        // Who asks which methods there are is told.
        let answer = server.request(&format!("OPTIONS {path} HTTP/1.1\r\nHost: x\r\n"));
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{path}");
        assert!(answer.head.contains("\r\nallow: get, head, options\r\n"), "{}", answer.head);
    }
    // As of Go's exporters: a path with a slash behind it is another one.
    for path in ["/metric", "/metrics/", "//metrics", "/metrics/x"] {
        for method in ["GET", "OPTIONS"] {
            let answer = server.request(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\n"));
            let expected = (404, "there is nothing here; metrics are at /metrics\n");
            assert_eq!((answer.status, answer.text()), expected, "{method} {path}");
        }
    }
    let answer = server.request("HEAD /metrics HTTP/1.1\r\nHost: x\r\n");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert!(answer.head.contains("\r\ncontent-length: "), "{}", answer.head);
}

#[test]
fn healthy_at_once_and_ready_when_the_source_is() {
    let server = Running::start();
    assert_eq!(server.get("/-/healthy").status, 200);
    let answer = server.get("/-/ready");
    let why = "none of 3 probes is up";
    assert_eq!(
        (answer.status, answer.text().trim()),
        (503, &*format!("tapster is not ready: {why}; `/` says why"))
    );
    assert!(server.get("/").text().contains(why));
    server.fake.ready.store(true, Ordering::Relaxed);
    assert_eq!(server.get("/-/ready").status, 200);
    assert!(!server.get("/").text().contains(why));
}

#[test]
fn the_landing_page_is_html_that_runs_nothing() {
    let server = Running::start();
    let answer = server.get("/");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("\r\ncontent-type: text/html; charset=utf-8\r\n"), "{}", answer.head);
    assert!(answer.head.contains("\r\ncontent-security-policy: default-src 'none'"), "{}", answer.head);
    assert!(answer.text().contains("Disk &amp; co.") && answer.text().contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_scrape_that_hangs_blocks_no_other_for_long() {
    let server =
        Running::with(ServerOptions { stuck_after: Duration::from_secs(2), ..ServerOptions::default() });
    let (began, release) = server.hold();
    let addr = server.addr;
    let slow = std::thread::spawn(move || request_to(addr, "GET /metrics HTTP/1.1\r\nHost: x\r\n"));
    began.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(server.get("/-/healthy").status, 200);
    // Another question, and the page, do not wait at all.
    let begun = Instant::now();
    assert_eq!(server.get("/metrics?exclude[]=disk").status, 200);
    assert_eq!(server.get("/").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    // The same question waits for its own collection, which is put off as long as there is hope.
    assert_eq!(server.get("/metrics").status, 200);
    assert!(begun.elapsed() > Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(!slow.is_finished());
    let answer = server.get("/-/healthy");
    assert_eq!(answer.status, 503);
    assert!(answer.text().starts_with("a collection that began "), "{}", answer.text());
    release.send(()).unwrap();
    assert_eq!(slow.join().unwrap().status, 200);
    assert_eq!(server.get("/-/healthy").status, 200);
}

#[test]
fn a_panic_is_an_answer() {
    let server = Running::start();
    server.fake.panics.store(true, Ordering::Relaxed);
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("which is a bug"), "{}", answer.text());
    server.fake.panics.store(false, Ordering::Relaxed);
    assert_eq!(server.get("/metrics").status, 200);
}

#[test]
fn a_broken_family_is_left_out_and_counted() {
    let server = Running::start();
    assert!(server.get("/metrics").text().contains("\ntapster_scrape_families_left_out 0\n"));
    server.fake.broken.store(true, Ordering::Relaxed);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    // Scraped on this thread, where the subscriber is.
    let logged = Arc::default();
    tracing::subscriber::with_default(subscriber, || {
        for format in [Format::Text, Format::OpenMetrics, Format::Text] {
            let forms = [(format, false)].into();
            let scrape = routes::scrape(|| server.fake.collect(), drop, &forms, &logged, &Arc::default());
            let text = String::from_utf8(scrape[&(format, false)].to_vec()).unwrap();
            assert!(text.contains("\ntapster_scrape_families_left_out 1"), "{text}");
        }
    });
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text().matches("\nreads_total 7\n").count(), 1, "{}", answer.text());
    assert!(answer.text().contains("\ntapster_scrape_families_left_out 1\n"), "{}", answer.text());
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(
        log.contains("ERROR") && log.contains("metric family `reads_total` occurs more than once"),
        "{log}"
    );
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn requests_meanwhile_share_a_collection_and_have_a_limit() {
    // Of 40 for all.
    const MOST: usize = 30;
    let server = Running::start();
    let (began, release) = server.hold();
    let scrape_from = |client: [u8; 4], encoding: &str| {
        let mut stream = connect_from(client, server.addr);
        write!(stream, "GET /metrics HTTP/1.0\r\nAccept-Encoding: {encoding}\r\n\r\n").unwrap();
        stream
    };
    let scrape = |encoding: &str| scrape_from([127, 0, 0, 1], encoding);
    let status = |stream: &mut TcpStream, patience: Duration| {
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(patience)).unwrap();
        stream.read_to_end(&mut answer).map(|_| String::from_utf8_lossy(&answer).into_owned())
    };
    let mut waiting = vec![scrape("gzip")];
    began.recv_timeout(Duration::from_secs(10)).unwrap();
    let begun = Instant::now();
    let refused = loop {
        assert!(begun.elapsed() < Duration::from_secs(4), "nothing is refused");
        let mut stream = scrape(if waiting.len() % 2 == 0 { "gzip" } else { "identity" });
        match status(&mut stream, Duration::from_millis(20)) {
            Ok(answer) => break answer,
            Err(_) => waiting.push(stream),
        }
    };
    assert!(refused.starts_with("HTTP/1.0 503"), "{refused}");
    let text = "\r\n\r\n30 requests are already under way; try again later\n";
    assert!(refused.contains("\r\nretry-after: 1\r\n") && refused.ends_with(text), "{refused}");
    assert_eq!(server.get("/-/healthy").status, 200);
    assert_eq!(waiting.len(), MOST);
    // Another client is not kept out by that.
    waiting.push(scrape_from([127, 0, 0, 2], "identity"));
    assert!(
        status(waiting.last_mut().unwrap(), Duration::from_millis(200)).is_err(),
        "it waits with the others"
    );
    release.send(()).unwrap();
    for mut stream in waiting {
        assert!(status(&mut stream, Duration::from_secs(20)).unwrap().starts_with("HTTP/1.0 200"));
    }
    assert_eq!(server.fake.collections.load(Ordering::Relaxed), 2, "one, and one for all who came meanwhile");
}

#[test]
fn who_says_no_more_is_still_answered() {
    let server = Running::start();
    let (began, release) = server.hold();
    let mut stream = TcpStream::connect(server.addr).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    began.recv_timeout(Duration::from_secs(10)).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    release.send(()).unwrap();
    let mut answer = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\nreads_total 7\n"), "{answer}");
}

/// What a keep-alive connection answers to a request on it.
fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
    write!(stream, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut buffer = [0; 1024];
    let length = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[test]
fn silence_gives_its_seat_to_those_who_ask() {
    let server = Running::with(ServerOptions { max_connections: 8, ..ServerOptions::default() });
    let mut kept: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(server.addr).unwrap()).collect();
    for stream in &mut kept {
        assert!(ask(stream).unwrap().starts_with("HTTP/1.1 200"));
    }
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(server.addr).unwrap()).collect();
    for _ in 0..20 {
        assert_eq!(server.get("/-/healthy").status, 200);
        assert_eq!(server.get("/metrics").status, 200);
    }
    // The oldest had to go first: those that have asked before, then most of the silent ones.
    for mut stream in kept {
        assert!(ask(&mut stream).map_or(true, |answer| answer.is_empty()));
    }
    let text = server.get("/metrics").text().to_owned();
    let closed = text
        .lines()
        .find_map(|line| line.strip_prefix("tapster_web_connections_closed_total{reason=\"displaced\"} "))
        .and_then(|count| count.parse::<u32>().ok());
    assert!(closed.is_some_and(|count| count >= 95), "{text}");
    drop(silent);
}

/// A connection from another address of the loopback.
fn connect_from(source: [u8; 4], addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&addr.into()).unwrap();
    socket.into()
}

fn exchange(mut stream: TcpStream, request: &str) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    // A connection that is displaced may be reset.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_under_way_keep_their_seats_and_health_has_its_own() {
    const SCRAPE: &str = "GET /metrics HTTP/1.0\r\n\r\n";
    let server = Running::with(ServerOptions { max_connections: 4, ..ServerOptions::default() });
    let (began, release) = server.hold();
    let addr = server.addr;
    // One network may hold three of the four seats. A scrape may be displaced before its request is read.
    let mut scrapes = Vec::new();
    let begun = Instant::now();
    let refused = loop {
        assert!(begun.elapsed() < Duration::from_secs(4), "the seats are not taken");
        // Sent here and only read there: a thread that is late would ask when the seats are free again.
        let mut scrape = TcpStream::connect(addr).unwrap();
        scrape.write_all(SCRAPE.as_bytes()).unwrap();
        scrapes.push(std::thread::spawn(move || exchange(scrape, "")));
        let answer =
            exchange(TcpStream::connect(addr).unwrap(), "GET /metrics?exclude[]=disk HTTP/1.0\r\n\r\n");
        if answer.starts_with("HTTP/1.0 503") {
            break answer;
        }
    };
    assert!(refused.contains("for health checks only"), "{refused}");
    began.recv_timeout(Duration::from_secs(10)).unwrap();
    let silent: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for _ in 0..20 {
        assert_eq!(server.get("/-/healthy").status, 200);
    }
    // Another network has the fourth seat.
    let other = connect_from([127, 0, 0, 2], addr);
    let text = exchange(other, "GET /metrics?exclude[]=disk HTTP/1.0\r\n\r\n");
    assert!(text.starts_with("HTTP/1.0 200"), "{text}");
    release.send(()).unwrap();
    let answers: Vec<String> = scrapes.into_iter().map(|scrape| scrape.join().unwrap()).collect();
    let count = |status: &str| answers.iter().filter(|answer| answer.starts_with(status)).count();
    assert_eq!(count("HTTP/1.0 200"), 3, "{answers:?}");
    let text = server.get("/metrics").text().to_owned();
    let line =
        format!("\ntapster_web_refused_total{{reason=\"connections\"}} {}\n", 1 + count("HTTP/1.0 503"));
    assert!(text.contains(&line), "{text}");
    drop(silent);
}

#[test]
fn a_head_that_dawdles_is_not_waited_for() {
    let server = Running::start();
    let mut idle = TcpStream::connect(server.addr).unwrap();
    assert!(ask(&mut idle).unwrap().starts_with("HTTP/1.1 200"));
    let mut slow = TcpStream::connect(server.addr).unwrap();
    let mut later = TcpStream::connect(server.addr).unwrap();
    assert!(ask(&mut later).unwrap().starts_with("HTTP/1.1 200"));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(13) {
        // Both fail once the server has closed.
        let _ = slow.write_all(b"G");
        let _ = later.write_all(b"G");
        std::thread::sleep(Duration::from_millis(250));
    }
    for stream in [&mut slow, &mut later] {
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        match stream.read(&mut [0; 16]) {
            Ok(length) => assert_eq!(length, 0),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    // One that has asked before may rest for longer.
    assert!(ask(&mut idle).unwrap().starts_with("HTTP/1.1 200"));
    assert!(server.get("/metrics").text().contains("closed_total{reason=\"no_request\"} 2\n"));
}

#[test]
fn shutdown_lets_a_scrape_finish_and_drops_idle_connections() {
    let mut server = Running::start();
    let idle = TcpStream::connect(server.addr).unwrap();
    let (began, release) = server.hold();
    let addr = server.addr;
    let scrape = std::thread::spawn(move || request_to(addr, "GET /metrics HTTP/1.1\r\nHost: x\r\n").status);
    began.recv_timeout(Duration::from_secs(10)).unwrap();
    let start = Instant::now();
    drop(server.stop.take());
    // No new connections once the listener is gone; until then they wait in its queue.
    while TcpStream::connect(addr).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(5), "the listener stays open");
        std::thread::sleep(Duration::from_millis(10));
    }
    release.send(()).unwrap();
    assert_eq!(scrape.join().unwrap(), 200);
    drop(server);
    assert!(start.elapsed() < Duration::from_secs(5), "an idle connection held up the end");
    drop(idle);
}

#[test]
fn headers_without_end_are_refused() {
    let server = Running::start();
    let mut stream = TcpStream::connect(server.addr).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nX: ").unwrap();
    // The peer may close while we still write.
    let _ = stream.write_all(&vec![b'x'; 200_000]);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn scrapes_of_some_probes() {
    let server = Running::start();
    assert!(server.get("/metrics?probe=disk").text().contains("\nreads_total 7\n"));
    assert!(server.get("/metrics?collect%5B%5D=disk").text().contains("\nreads_total 7\n"));
    let answer = server.get("/metrics?exclude[]=disk");
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains("reads_total"));
    let answer = server.get("/metrics?probe=disc");
    assert_eq!((answer.status, answer.text()), (400, "no probe `disc` runs here; did you mean `disk`?\n"));
    assert_eq!(server.get("/metrics?colect[]=disk").status, 400);
}

#[test]
fn another_path_for_metrics() {
    let server =
        Running::with(ServerOptions { telemetry_path: "/own/path".into(), ..ServerOptions::default() });
    assert_eq!(server.get("/own/path").status, 200);
    let answer = server.get("/metrics");
    assert_eq!((answer.status, answer.text()), (404, "there is nothing here; metrics are at /own/path\n"));
    assert!(server.get("/").text().contains("<a href=\"/own/path\">"));
}

#[test]
fn reloading_by_http() {
    let post = |server: &Running, method: &str| {
        server.request(&format!("{method} /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"))
    };
    let server = Running::start();
    let answer = post(&server, "POST");
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("--web.enable-lifecycle"), "{}", answer.text());
    let answer = post(&server, "GET");
    assert_eq!(answer.status, 405);
    assert!(answer.head.contains("\r\nallow: post, put, options\r\n"), "{}", answer.head);
    let answer = post(&server, "OPTIONS");
    assert_eq!(answer.status, 204);
    assert!(answer.head.contains("\r\nallow: post, put, options\r\n"), "{}", answer.head);
    let done = Arc::new(AtomicBool::new(false));
    let asked = done.clone();
    let reload: Reload = Arc::new(move || {
        if asked.swap(true, Ordering::Relaxed) { Err("it is wrong".into()) } else { Ok("1 probe".into()) }
    });
    let server = Running::with(ServerOptions { reload: Some(reload), ..ServerOptions::default() });
    let answer = post(&server, "POST");
    assert_eq!((answer.status, answer.text()), (200, "configuration reloaded: 1 probe\n"));
    let answer = post(&server, "PUT");
    assert_eq!(
        (answer.status, answer.text()),
        (500, "not all of the configuration is reloaded: it is wrong\n")
    );
    let panics = Running::with(ServerOptions {
        reload: Some(Arc::new(|| panic!("on purpose"))),
        ..ServerOptions::default()
    });
    assert_eq!(post(&panics, "POST").status, 500);
}
