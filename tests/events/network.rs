//! Connections, resets, segments sent again and datagrams that were dropped, as a program in a network name space of its own caused
//! them, as the kernel counts them there (`/proc/net/snmp`, `/proc/net/netstat`), and as the connection says (`TCP_INFO`, which is
//! what `ss -ti` shows).

use crate::{
    Contained, Window, assert_between, numbers, program,
    support::{
        cases::{Attempt, Cases, Outcome, Skip, unless_hidden},
        command::{text, tool},
        control::event::EventControl,
        exporter::Tapster,
        metrics::whole,
        trace::Trace,
    },
};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, UdpSocket},
    process::Command,
    thread,
};

const ATTEMPTS: usize = 3;
const CONNECT: &str = "tapster_tcp_connect_duration_seconds";

/// What the program of this test said, and what the kernel counted in its name space.
struct Said {
    output: String,
    kernel: BTreeMap<String, u64>,
}

impl Said {
    fn kernel(&self, name: &str) -> u64 {
        self.kernel[name]
    }

    /// Nanoseconds of the connections that ended with this error.
    fn connects(&self, error: i32) -> Vec<i64> {
        let lines = numbers(&self.output, "connect");
        lines.iter().filter(|line| line[0] == i64::from(error)).map(|line| line[1]).collect()
    }
}

/// Runs the program while these probes count.
fn watched(probes: &str, what: &str) -> Result<(Window, Said), Skip> {
    let directory = tempfile::tempdir().unwrap();
    let program = program("network", directory.path())?;
    let tapster = Tapster::start(&["--strict", "--probes", probes]);
    let (window, output) = Window::of(&tapster, || text(Command::new(program).arg(what)));
    let line = |line: &str| {
        let (name, value) = line.strip_prefix("kernel ")?.split_once(' ')?;
        Some((name.to_owned(), value.parse().unwrap()))
    };
    let kernel = output.lines().filter_map(line).collect();
    Ok((window, Said { output, kernel }))
}

/// What the kernel counted in this test's own name space, which scrapes and everybody else add to.
fn others(name: &str) -> u64 {
    let text = ["snmp", "netstat"]
        .map(|file| fs::read_to_string(format!("/proc/self/net/{file}")).unwrap())
        .concat();
    let lines: Vec<&str> = text.lines().collect();
    let column = |pair: &[&str]| {
        let at = pair[0].split(' ').position(|word| word == name)?;
        pair[1].split(' ').nth(at)?.parse().ok()
    };
    lines.chunks_exact(2).find_map(column).unwrap_or_else(|| panic!("the kernel counts no {name}"))
}

fn connects() -> Outcome {
    let before = ["ActiveOpens", "PassiveOpens", "AttemptFails"].map(|name| (name, others(name)));
    let (window, said) = watched("tcp_connect,tcp_accept", "connects")?;
    let [opened, accepted, failed] = before.map(|(name, before)| others(name) - before);
    let seen = |error: &str| window.histogram(CONNECT, &[("error", error)]);
    let mut figures = Vec::new();
    for (error, name) in [
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::ETIMEDOUT, "ETIMEDOUT"),
        (libc::ECANCELED, "ECANCELED"),
        (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL"),
    ] {
        let own = said.connects(error);
        let (found, own_seconds) = (seen(name), own.iter().sum::<i64>() as f64 / 1e9);
        let count = own.len() as u64;
        assert!(
            (count..=count + failed).contains(&found.count()),
            "{name}: {}\n{}",
            found.count(),
            said.output
        );
        // Where somebody else on this host was refused as well, that took its time.
        if found.count() == count {
            assert!(found.sum <= own_seconds, "{name}: {} s, the program says {own_seconds} s", found.sum);
        }
        figures.push(format!("{} {name} in {:.6} of {own_seconds:.6} s", own.len(), found.sum));
    }
    // Waits of seconds are those of the program's clock within a thousandth.
    for (name, error) in [("ETIMEDOUT", libc::ETIMEDOUT), ("ECANCELED", libc::ECANCELED)] {
        let (found, own) = (seen(name).sum, said.connects(error).iter().sum::<i64>() as f64 / 1e9);
        assert!(found > own * 0.98, "{name}: {found} s, the program says {own} s");
    }
    let (found, own) = (seen("ok"), said.connects(0));
    let own_count = own.len() as u64;
    assert_between("connections", found.count(), (own_count, own_count + opened), 0);
    // One waited for its SYN to be sent again, a second later; the others took microseconds.
    let longest = *own.iter().max().unwrap() as f64 / 1e9;
    let slow: u64 = found.buckets.iter().filter(|(bound, _)| *bound > 1.0).map(|(_, count)| count).sum();
    assert!(slow == 1 && longest > 1.0, "{slow} took more than a second, the program says {longest}");
    let own_seconds = own.iter().sum::<i64>() as f64 / 1e9;
    assert!(found.sum > longest * 0.98 && found.sum < own_seconds + 0.1, "{} s of {own_seconds}", found.sum);
    let all = window.histogram(CONNECT, &[]).count();
    // Those without a port sent nothing, and the kernel does not count them.
    let sent = said.kernel("ActiveOpens") + said.connects(libc::EADDRNOTAVAIL).len() as u64;
    assert_between("ActiveOpens", all, (sent, sent + opened), 0);
    let port = |port: &str| window.count("tapster_tcp_accepts_total", &[("port", port)]);
    assert_eq!(port("4241") + port("4243"), said.kernel("PassiveOpens"), "PassiveOpens");
    let ephemeral = port("ephemeral");
    assert_between("accepts of others", ephemeral, (1, accepted), 0);
    figures.push(format!(
        "{own_count} ok, the longest {longest:.3} s; {} accepted",
        said.kernel("PassiveOpens")
    ));
    Ok(figures.join(", "))
}

fn resets() -> Outcome {
    let sent = others("OutRsts");
    let (window, said) = watched("tcp_reset_sent,tcp_reset_received,tcp_connect", "resets")?;
    let sent = others("OutRsts") - sent;
    let received = |state: &str| window.count("tapster_tcp_resets_received_total", &[("state", state)]);
    let own = u64::try_from(numbers(&said.output, "reset")[0][0]).unwrap();
    let refused = said.connects(libc::ECONNREFUSED).len() as u64;
    assert!(own == 25 && refused == 15, "{}", said.output);
    assert_between("resets of established connections", received("ESTABLISHED"), (own, own + sent), 0);
    assert_between("resets of those that begin", received("SYN_SENT"), (refused, refused + sent), 0);
    let all = window.count("tapster_tcp_resets_sent_total", &[]);
    let kernel = said.kernel("OutRsts");
    assert_between("OutRsts", all, (kernel, kernel + sent), 0);
    Ok(format!("{all} sent, {own} ended connections, {refused} refused one"))
}

fn datagrams() -> Outcome {
    let known = ["RcvbufErrors", "NoPorts"];
    let before = known.map(others);
    let (window, said) = watched("udp_receive_drops,packet_drops", "datagrams")?;
    let [sent, received] = [0, 1].map(|at| u64::try_from(numbers(&said.output, "datagrams")[0][at]).unwrap());
    let lost = window.count("tapster_udp_receive_drops_total", &[("port", "4244"), ("error", "ENOMEM")]);
    assert_eq!((lost, lost), (sent - received, said.kernel("RcvbufErrors")), "{}", said.output);
    assert!(lost > 100, "{}", said.output);
    for ((name, before), reason) in known.into_iter().zip(before).zip(["SOCKET_RCVBUFF", "NO_SOCKET"]) {
        let (own, others) = (said.kernel(name), others(name) - before);
        let found = window.count("tapster_packet_drops_total", &[("reason", reason)]);
        assert_between(reason, found, (own, own + others), 0);
    }
    Ok(format!("{sent} sent, {received} received, {lost} dropped, {} for nobody", said.kernel("NoPorts")))
}

/// Segments and bytes of one connection; the second load has packets of several segments.
fn retransmits() -> Outcome {
    let mut figures = Vec::new();
    for load in ["lost", "lost-large"] {
        let attempt = || {
            let control = EventControl::new(c"tcp_retransmit_skb")?;
            let (window, said) = watched("tcp_retransmit", load)?;
            let [segments, bytes] =
                [0, 1].map(|at| u64::try_from(numbers(&said.output, "lost")[0][at]).unwrap());
            assert!(segments >= 4 && segments == said.kernel("RetransSegs"), "{}", said.output);
            let of = |name: &str| {
                window.count(&format!("tapster_tcp_retransmitted_{name}_total"), &[("state", "ESTABLISHED")])
            };
            let found = (of("segments"), of("bytes"));
            if found == (segments, bytes) {
                return Ok(Attempt::Done(format!("{segments} segments, {bytes} bytes ({load})")));
            }
            let why = format!("{found:?} of {segments} segments and {bytes} bytes");
            Ok(Attempt::Short { why, lost: segments.saturating_sub(control.count()) })
        };
        figures.push(unless_hidden("retransmits", ATTEMPTS, attempt)?);
    }
    Ok(figures.join(", "))
}

fn synacks() -> Outcome {
    unless_hidden("answers to SYNs", ATTEMPTS, || {
        let control = EventControl::new(c"tcp_retransmit_synack")?;
        let (window, said) = watched("tcp_retransmit_synack", "unheard")?;
        let kernel = said.kernel("TCPSynRetrans");
        assert!(kernel >= 2, "{}", said.output);
        let found = window.count("tapster_tcp_retransmitted_synacks_total", &[("port", "4246")]);
        if found == kernel {
            return Ok(Attempt::Done(format!("{found} sent again")));
        }
        Ok(Attempt::Short {
            why: format!("{found} of {kernel}"),
            lost: kernel.saturating_sub(control.count()),
        })
    })
}

/// The kernel's trace has what a connection reckons with at each segment, too.
fn round_trips() -> Outcome {
    let control = EventControl::new(c"tcp_probe")?;
    let trace = Trace::of(&["tcp/tcp_probe"])?;
    let first = control.count();
    let (window, said) = watched("tcp_rtt", "round-trips")?;
    let (seen, trace) = (control.count() - first, trace.stop());
    let hidden = (trace.len() as u64).saturating_sub(seen);
    let sum = |during: &std::ops::Range<u64>| {
        let within = trace.iter().filter(|event| during.contains(&event.ns));
        let micros: Vec<u64> = within.map(|event| event.field("srtt").parse().unwrap()).collect();
        (micros.iter().filter(|micros| **micros != 0).count() as u64, micros.iter().sum::<u64>())
    };
    let (least, most) = (sum(&window.inner), sum(&window.outer));
    let found = window.histogram("tapster_tcp_rtt_seconds", &[]);
    assert_between("segments", found.count(), (least.0, most.0), hidden);
    let micros = whole((found.sum * 1e6).round());
    let own = numbers(&said.output, "rtt").into_iter().flatten().map(|micros| u64::try_from(micros).unwrap());
    let own: Vec<u64> = own.collect();
    let (own, longest) = (own.iter().sum::<u64>(), *own.iter().max().unwrap());
    assert_between("microseconds", micros, (least.1, most.1), hidden * longest);
    // The program's own are a part of them.
    assert!(longest > 10_000 && micros + hidden * longest >= own, "{micros} µs, of which its own are {own}");
    Ok(format!("{} segments, {micros} µs, of which TCP_INFO has {own}; {hidden} hidden", found.count()))
}

/// Each answer takes the program a little longer than the wire, and the wire at least as long as the server waits.
fn names() -> Outcome {
    const FAMILY: &str = "tapster_dns_answer_duration_seconds";
    unless_hidden("answers of a name server", ATTEMPTS, || {
        let trace = Trace::of(&["net/net_dev_queue", "net/netif_receive_skb"])?;
        let controls = [EventControl::new(c"net_dev_queue")?, EventControl::new(c"netif_receive_skb")?];
        let (window, said) = watched("dns_answers", "names")?;
        let seen = controls.iter().map(EventControl::count).sum();
        let happened = trace.stop().len() as u64;
        let lost = happened.saturating_sub(seen);
        let (mut figures, mut short) = (Vec::new(), Vec::new());
        for (family, server) in ["127.0.0.1", "0.0.0.0"].into_iter().enumerate() {
            for (code, result) in [(0, "ok"), (2, "server_failure"), (3, "no_such_name")] {
                let lines = numbers(&said.output, "answer");
                let of = |line: &&Vec<i64>| line[0] == i64::try_from(family).unwrap() && line[1] == code;
                let own: Vec<f64> = lines.iter().filter(of).map(|line| line[2] as f64 / 1e9).collect();
                assert_eq!(own.len(), 10, "{}", said.output);
                let found = window.histogram(FAMILY, &[("server", server), ("result", result)]);
                if found.count() != 10 {
                    short.push(format!("{} of 10 by {server} with {result}", found.count()));
                    continue;
                }
                // Of every ten questions one is asked twice, and counts from the first.
                let (least, most) = (own.iter().sum::<f64>() - 10.0 * 0.002, own.iter().sum::<f64>());
                assert!(most > 0.219, "{}", said.output);
                let seconds = found.sum;
                assert!(seconds <= most, "{server} {result}: {seconds} s, the program says {most} s");
                if seconds < least {
                    short.push(format!("{seconds} s of {most} s by {server} with {result}"));
                }
                figures.push(format!("{seconds:.4} of {most:.4} s by {server} ({result})"));
            }
        }
        if short.is_empty() {
            return Ok(Attempt::Done(format!("60 answers: {}", figures.join(", "))));
        }
        Ok(Attempt::Short { why: short.join(", "), lost })
    })
}

fn queues() -> Outcome {
    tool("tc")?;
    unless_hidden("packets in a queue", ATTEMPTS, || {
        let trace = Trace::of(&["qdisc/qdisc_enqueue", "qdisc/qdisc_dequeue"])?;
        let controls = [EventControl::new(c"qdisc_enqueue")?, EventControl::new(c"qdisc_dequeue")?];
        let (window, said) = watched("packet_queue", "queued")?;
        let seen = controls.iter().map(EventControl::count).sum();
        let happened = trace.stop().len() as u64;
        let lost = happened.saturating_sub(seen);
        let own = numbers(&said.output, "queued").remove(0);
        let (own_count, own_seconds) = (u64::try_from(own[0]).unwrap(), own[1] as f64 / 1e9);
        let labels = [("interface", "lo"), ("queue", "tbf")];
        let found = window.histogram("tapster_packet_queue_duration_seconds", &labels);
        if found.count() != own_count {
            return Ok(Attempt::Short { why: format!("{} of {own_count}", found.count()), lost });
        }
        // They leave a megabyte a second, so that the last waits for 60 ms, and what is beside the queue takes microseconds.
        assert!(own_seconds > 1.0, "{}", said.output);
        assert!(
            found.sum < own_seconds && found.sum > 0.9 * own_seconds,
            "{} s, the program says {own_seconds} s",
            found.sum
        );
        Ok(Attempt::Done(format!("{own_count} packets, {:.4} of {own_seconds:.4} s", found.sum)))
    })
}

/// What the other side of a container's connection sent and got.
fn traffic() -> Outcome {
    const SENT: usize = 300_000;
    const RECEIVED: usize = 200_000;
    tool("bash")?;
    let contained = Contained::new()?;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (stream_port, port) = (listener.local_addr().unwrap().port(), datagrams.local_addr().unwrap().port());
    let other = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut vec![0; SENT]).unwrap();
        stream.write_all(&vec![0; RECEIVED]).unwrap();
    });
    let script = format!(
        "exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/{stream_port} && head -c {SENT} /dev/zero >&3 && head -c {RECEIVED} <&3 >/dev/null; \
         printf 1234567 >/dev/udp/127.0.0.1/{port}'"
    );
    let tapster = contained.start("container_traffic");
    let (window, _) = Window::of(&tapster, || text(&mut contained.shell(&script)));
    other.join().unwrap();
    assert_eq!(datagrams.recv(&mut [0; 64]).unwrap(), 7);
    let of = |name: &str, protocol: &str| {
        let name = format!("tapster_container_{name}_bytes_total");
        window.count(&name, &contained.labels(&[("protocol", protocol)]))
    };
    let found = [of("sent", "tcp"), of("received", "tcp"), of("sent", "udp"), of("received", "udp")];
    assert_eq!(found, [SENT as u64, RECEIVED as u64, 7, 0]);
    Ok(format!("{SENT} bytes sent and {RECEIVED} received by TCP, 7 sent by UDP"))
}

pub(crate) fn all(cases: &mut Cases) {
    cases.run("TCP connections, beside the program and the kernel's counts", connects);
    cases.run("TCP resets, beside the program and the kernel's counts", resets);
    cases.run("UDP datagrams, beside the program and the kernel's counts", datagrams);
    cases.run("TCP segments sent again, beside TCP_INFO and the kernel's counts", retransmits);
    cases.run("answers to SYNs sent again, beside the kernel's counts", synacks);
    cases.run("round trips of TCP, beside the kernel's trace and TCP_INFO", round_trips);
    cases.run("answers of a name server, beside the program", names);
    cases.run("packets in the queue of an interface, beside the program", queues);
    cases.run("what a container sends and receives, beside its other side", traffic);
}
