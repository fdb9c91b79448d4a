//! Two thousand connections of every bad sort, for a minute, and somebody who scrapes from another address.

use super::{
    cgroup::Cgroup,
    clients::{connect_elsewhere, peak, scrape_until},
};
use crate::support::{
    cases::{Cases, Outcome},
    exporter::Tapster,
    metrics::Metrics,
};
use std::{
    io::{ErrorKind, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};
use tapster::sys;

/// Connections of each sort.
const EACH: usize = 400;
/// How long they are there.
const LENGTH: Duration = Duration::from_mins(1);
/// The longest that a scrape may take.
const LONGEST: Duration = Duration::from_secs(1);
/// A whole request.
const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

/// A sort of bad client: what it sends once it is connected, and each second from then on.
struct Sort {
    name: &'static str,
    first: Vec<u8>,
    then: Vec<u8>,
}

/// All of them; none reads a byte of an answer.
fn sorts() -> Vec<Sort> {
    let sort = |name, first: Vec<u8>, then: &[u8]| Sort { name, first, then: then.to_owned() };
    vec![
        sort("half heads", b"GET /metrics HTTP/1.1\r\nHost: ".to_vec(), b""),
        sort("never reading", REQUEST.to_vec(), b""),
        sort("one byte a second", b"G".to_vec(), b"E"),
        sort("pipelined", REQUEST.repeat(100), REQUEST),
        sort(
            "huge",
            [b"GET /metrics HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 1 << 20]].concat(),
            &[b'a'; 64 << 10],
        ),
    ]
}

/// Whether a connection is still open. What is there to read stays there.
fn is_open(stream: &TcpStream) -> bool {
    !matches!(stream.peek(&mut [0]), Ok(0)) && matches!(stream.take_error(), Ok(None))
}

/// Keeps as many connections of a sort as it may until then, and begins closed ones anew; how often it did.
fn attack(sort: &Sort, address: SocketAddr, until: Instant) -> u64 {
    let (mut held, mut begun) = (Vec::<TcpStream>::new(), 0);
    while Instant::now() < until {
        let round = Instant::now();
        held.retain(|stream| {
            let sent = (&mut &*stream).write(&sort.then);
            let is_kept =
                sort.then.is_empty() || !matches!(&sent, Err(error) if error.kind() != ErrorKind::WouldBlock);
            is_kept && is_open(stream)
        });
        while held.len() < EACH && round.elapsed() < Duration::from_secs(1) {
            let Some(mut stream) = connect_elsewhere(address) else { continue };
            begun += 1;
            if stream.set_nonblocking(true).is_ok() && stream.write(&sort.first).is_ok() {
                held.push(stream);
            }
        }
        thread::sleep(Duration::from_secs(1).saturating_sub(round.elapsed()));
    }
    begun
}

/// How many connections and requests were closed or refused.
fn refusals(scrape: &Metrics) -> f64 {
    scrape.sum("tapster_web_connections_closed_total", &[]) + scrape.sum("tapster_web_refused_total", &[])
}

fn crowd() -> Outcome {
    let raised = sys::raise_file_limit().unwrap();
    assert!(raised.files > EACH as u64 * 6, "{} files are too few", raised.files);
    let cgroup = Cgroup::of_little_memory()?;
    let tapster =
        Tapster::start_by(cgroup.command(), "127.0.0.1:0", &[]).unwrap_or_else(|ended| panic!("{ended:?}"));
    let before = refusals(&tapster.scrape());
    let (until, sorts) = (Instant::now() + LENGTH, sorts());
    let (begun, (scrapes, longest)) = thread::scope(|scope| {
        let address = tapster.address;
        let attacks: Vec<_> =
            sorts.iter().map(|sort| (sort.name, scope.spawn(move || attack(sort, address, until)))).collect();
        let scraped =
            scrape_until(&tapster, until, |_, scrape| assert!(scrape.sum("tapster_probe_up", &[]) > 0.5));
        let begun: Vec<(&str, u64)> =
            attacks.into_iter().map(|(name, attack)| (name, attack.join().unwrap())).collect();
        (begun, scraped)
    });
    let refused = refusals(&tapster.scrape()) - before;
    let figures = format!(
        "{scrapes} scrapes, the longest {longest:?}; RSS {} KiB, peak {} MiB; connections begun {begun:?}, {refused} closed or refused",
        tapster.resident_kib(),
        peak(&tapster)
    );
    assert!(longest < LONGEST, "{figures}");
    assert!(begun.iter().all(|(_, begun)| *begun >= EACH as u64), "{figures}");
    // Of 2000 that are wanted at a time 256 have a place.
    assert!(refused >= 1000.0, "{figures}");
    Ok(figures)
}

#[test]
#[ignore = "a minute"]
fn two_thousand_bad_connections() {
    let Some(mut cases) = Cases::as_root("hostile crowd") else { return };
    cases.run("two thousand bad connections", crowd);
    cases.finish();
}
