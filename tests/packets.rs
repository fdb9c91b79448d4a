//! Probes that see packets, between two network namespaces that the test makes: what they count is what was sent, what was sent
//! arrives, and nothing stays attached.
#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};
use support::{
    cases::{Cases, Outcome, Skip},
    cgroup::Cgroup,
    command::{output, text, tool},
    exporter::{Tapster, kernel_programs, within},
    metrics::{Metrics, whole},
};

/// Addresses of the two ends, and the port of what is counted.
const HERE: &str = "10.218.0.1";
const THERE: &str = "10.218.0.2";
const HERE6: &str = "fd18::1";
const THERE6: &str = "fd18::2";
const PORT: u16 = 7018;
/// How long the exporter may take to see a change, and a datagram to arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of the headers of Ethernet, IPv4, IPv6 and UDP.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;

type Job = Box<dyn FnOnce() + Send>;
type Case = fn(&Path, &Peer) -> Outcome;

/// A thread in a network namespace of its own, which does what it is told.
struct Peer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Its number, by which `ip` finds its namespace.
    tid: i64,
}

/// Moves this thread into a network namespace of its own, which ends with the last thread in it.
fn alone() -> Result<(), Skip> {
    // SAFETY: it changes where this thread's sockets are, and no memory.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 {
        Ok(())
    } else {
        Err(Skip(format!("no network namespace can be made: {}", std::io::Error::last_os_error())))
    }
}

impl Peer {
    fn start() -> Result<Self, Skip> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (told, said) = mpsc::channel();
        let thread = thread::spawn(move || {
            // SAFETY: it only returns a number.
            let tid = unsafe { libc::syscall(libc::SYS_gettid) };
            told.send(alone().map(|()| tid)).unwrap();
            for job in todo {
                job();
            }
        });
        Ok(Self { jobs: Some(jobs), thread: Some(thread), tid: said.recv().unwrap()? })
    }

    /// Does something there and waits for its result.
    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = Box::new(move || done.send(job()).unwrap_or_default());
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result.recv().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn ip(arguments: &str) -> String {
    text(tool("ip").unwrap().args(arguments.split_whitespace()))
}

/// Makes the pair of interfaces `here0` and `there0`, the second one at the peer, with addresses.
fn connect(peer: &Peer) {
    ip("link add here0 type veth peer name there0");
    ip(&format!("link set there0 netns {}", peer.tid));
    up("here0", HERE, HERE6);
    peer.run(|| up("there0", THERE, THERE6));
    // The first packet waits for the address of the other end, and no more than a few may.
    let reached =
        within(PATIENCE, || [HERE, HERE6].into_iter().all(|to| send(peer, to, PORT + 1, 1, 1, true) == 1));
    assert!(reached.is_some(), "the two ends do not reach each other");
}

fn up(interface: &str, v4: &str, v6: &str) {
    ip(&format!("addr add {v4}/24 dev {interface}"));
    ip(&format!("-6 addr add {v6}/64 dev {interface} nodad"));
    ip(&format!("link set {interface} up"));
    ip("link set lo up");
}

/// Sends so many datagrams of so many bytes to an address on this side, one after the other, and returns how many arrived as they
/// were sent. `brief` does not wait long for one that does not.
fn send(peer: &Peer, to: &'static str, port: u16, count: usize, size: usize, brief: bool) -> usize {
    let address = SocketAddr::new(to.parse().unwrap(), port);
    let own = UdpSocket::bind(address).unwrap();
    let sent = peer.run(move || datagrams(address, count, size));
    own.set_read_timeout(Some(if brief { Duration::from_millis(100) } else { PATIENCE })).unwrap();
    let mut buffer = vec![0; 65_536];
    let mut arrived = 0;
    while arrived < sent {
        let Ok((length, _)) = own.recv_from(&mut buffer) else { break };
        assert!(buffer[..length] == *payload(size), "a datagram arrived changed");
        arrived += 1;
    }
    arrived
}

fn payload(size: usize) -> Vec<u8> {
    (0..size).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

/// Sends from this thread's namespace; returns how many were sent.
fn datagrams(to: SocketAddr, count: usize, size: usize) -> usize {
    let any: IpAddr = if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
    let socket = UdpSocket::bind((any, 0)).unwrap();
    let payload = payload(size);
    // A queue of a socket has room for some hundred.
    (0..count).filter(|_| socket.send_to(&payload, to).is_ok()).count()
}

fn start(directory: &Path, probes: &str) -> Tapster {
    let file = directory.join("packets.yaml");
    fs::write(&file, probes).unwrap();
    Tapster::start(&["-c", file.to_str().unwrap()])
}

fn count(metrics: &Metrics, family: &str, labels: &[(&str, &str)]) -> usize {
    usize::try_from(whole(metrics.sum(family, labels))).unwrap()
}

fn is_up(tapster: &Tapster, probe: &str) -> bool {
    whole(tapster.scrape().sum("tapster_probe_up", &[("probe", probe)])) == 1
}

/// A probe that counts datagrams to the port, by their addresses, with their sizes as a histogram.
fn probe(name: &str, at: &str) -> String {
    format!(
        "  - name: {name}
    help: Datagrams of the test.
    at: \"{at}\"
    where: args.ip_protocol == 17 && args.dest_port == {PORT}
    labels:
      from: {{ value: args.source, as: ip }}
      to: {{ value: args.dest, as: ip }}
      protocol: {{ value: args.protocol, as: {{ 0x0800: ipv4, 0x86dd: ipv6, default: other }} }}
    metrics:
      - {{ counter: {name}_total, help: Datagrams. }}
      - {{ counter: {name}_bytes_total, help: Bytes., value: args.len, unit: bytes }}
      - {{ histogram: {name}_size_bytes, help: Bytes., value: args.len, unit: bytes, buckets: [64, 128, 512, 2048] }}
"
    )
}

/// Both directions at every hook, of both versions of IP.
fn counts(directory: &Path, peer: &Peer) -> Outcome {
    let points = [
        ("seen_xdp", "xdp:here0", true, ETHERNET),
        ("seen_in", "tc:here0:ingress", true, ETHERNET),
        ("seen_out", "tc:here0:egress", false, ETHERNET),
        ("group_in", "cgroup_skb:/:ingress", true, 0),
        ("group_out", "cgroup_skb:/:egress", false, 0),
    ];
    let probes: String = points.iter().map(|(name, at, ..)| probe(name, at)).collect();
    let tapster = start(directory, &format!("probes:\n{probes}"));
    for (name, ..) in points {
        assert!(is_up(&tapster, name), "{name}: {:#?}", tapster.log());
    }
    let plan = [(HERE, 70, 33), (HERE6, 50, 1000)];
    for (to, times, size) in plan {
        assert_eq!(send(peer, to, PORT, times, size, false), times, "all arrive at {to}");
    }
    let back = [(THERE, 40, 5), (THERE6, 30, 600)];
    for (to, times, size) in back {
        let address = SocketAddr::new(to.parse().unwrap(), PORT);
        let other = peer.run(move || UdpSocket::bind(address).unwrap());
        assert_eq!(datagrams(address, times, size), times);
        other.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = vec![0; 65_536];
        for _ in 0..times {
            let (length, _) = other.recv_from(&mut buffer).unwrap();
            assert!(buffer[..length] == *payload(size));
        }
    }
    let metrics = tapster.scrape();
    for (name, at, incoming, header) in points {
        let of = if incoming { plan } else { back };
        for (to, times, size) in of {
            let (protocol, network) = if to.contains(':') { ("ipv6", IPV6) } else { ("ipv4", IPV4) };
            let from = match to {
                HERE => THERE,
                HERE6 => THERE6,
                THERE => HERE,
                _ => HERE6,
            };
            let labels = [("from", from), ("to", to), ("protocol", protocol)];
            // Of a cgroup's root, what other programs of the host send is told by its addresses.
            assert_eq!(count(&metrics, &format!("tapster_{name}_total"), &labels), times, "{at} {to}");
            let bytes = times * (header + network + UDP + size);
            assert_eq!(count(&metrics, &format!("tapster_{name}_bytes_total"), &labels), bytes, "{at} {to}");
            let histogram = format!("tapster_{name}_size_bytes_count");
            assert_eq!(count(&metrics, &histogram, &labels), times, "{at} {to}");
        }
    }
    assert_eq!(count(&metrics, "tapster_probe_dropped_total", &[]), 0);
    // What is left out is nothing: the same number arrives without the exporter.
    drop(tapster);
    assert_eq!(send(peer, HERE, PORT, 70, 33, false), 70);
    let sent: usize = plan.iter().chain(&back).map(|(_, times, _)| times).sum();
    Ok(format!("{sent} datagrams equal at {} places", points.len()))
}

/// Only what sockets of one cgroup send, and whose it is.
fn one_cgroup(directory: &Path, _: &Peer) -> Outcome {
    let mut shell = tool("bash")?;
    let name = format!("tapster-packets-{}", std::process::id());
    let group = Cgroup::make(&name)?;
    let number = fs::metadata(&group.0).unwrap().ino();
    let probes = format!(
        "probes:\n  - name: sent\n    help: Datagrams.\n    at: \"cgroup_skb:/{name}:egress\"\n    where: args.dest_port == {PORT}\n    labels: {{ id: args.cgroup, cgroup: {{ value: args.cgroup, as: cgroup }} }}\n    metrics: [{{ counter: sent_total, help: Datagrams. }}]\n"
    );
    let tapster = start(directory, &probes);
    assert!(is_up(&tapster, "sent"), "{:#?}", tapster.log());
    // Those of the test are not in that cgroup.
    let address = SocketAddr::new(THERE.parse().unwrap(), PORT);
    assert_eq!(datagrams(address, 9, 20), 9);
    let script = format!(
        "echo $$ > {}/cgroup.procs && for i in 1 2 3 4 5 6 7; do echo hello > /dev/udp/{THERE}/{PORT}; done",
        group.0.display()
    );
    text(shell.args(["-c", &script]));
    let metrics = tapster.scrape();
    let id = number.to_string();
    let own = [("id", id.as_str()), ("cgroup", &*format!("/{name}"))];
    assert_eq!(
        count(&metrics, "tapster_sent_total", &own),
        7,
        "{:?}",
        metrics.find("tapster_sent_total", &[])
    );
    assert_eq!(count(&metrics, "tapster_sent_total", &[]), 7);
    Ok("7 of 16 datagrams, by the number of their cgroup".into())
}

/// An exporter that is killed leaves nothing, and the packets go on.
fn killed(directory: &Path, peer: &Peer) -> Outcome {
    let probes =
        ["xdp:here0", "tc:here0:ingress", "tc:here0:egress", "cgroup_skb:/:ingress", "cgroup_skb:/:egress"];
    let text: String =
        probes.iter().enumerate().map(|(index, at)| probe(&format!("left_{index}"), at)).collect();
    let tapster = start(directory, &format!("probes:\n{text}"));
    let own = tapster.programs();
    assert!(own.len() >= probes.len(), "{own:?}");
    assert!(!own.is_disjoint(&kernel_programs()?));
    assert!(ip("-details link show dev here0").contains("xdp"), "an interface shows its XDP program");
    tapster.signal(libc::SIGKILL);
    tapster.ended();
    let gone = within(PATIENCE, || kernel_programs().is_ok_and(|all| own.is_disjoint(&all)));
    assert!(gone.is_some(), "programs stay: {own:?}");
    assert!(!ip("-details link show dev here0").contains("xdp"));
    let shown = text_of(tool("bpftool")?.args(["net", "list"]));
    assert!(!shown.contains("here0"), "{shown}");
    assert_eq!(send(peer, HERE, PORT, 20, 100, false), 20);
    Ok(format!("{} programs gone", own.len()))
}

fn text_of(command: &mut std::process::Command) -> String {
    String::from_utf8_lossy(&output(command).stdout).into_owned()
}

/// An interface has one XDP program: the second exporter does not take the first one's place, and says so. Of the others there may
/// be several.
fn taken(directory: &Path, peer: &Peer) -> Outcome {
    let first = start(
        directory,
        &format!("probes:\n{}", probe("first", "xdp:here0") + &probe("in_1", "tc:here0:ingress")),
    );
    let other = directory.join("other");
    fs::create_dir(&other).unwrap();
    let alternative = probe("third", "xdp:here0")
        .replace("at: \"xdp:here0\"", "at: { one_of: [\"xdp:here0\", \"tc:here0:ingress\"] }");
    let text = probe("second", "xdp:here0") + &probe("in_2", "tc:here0:ingress") + &alternative;
    let second = start(&other, &format!("probes:\n{text}"));
    assert!(is_up(&first, "first") && !is_up(&second, "second"));
    assert!(is_up(&second, "in_2") && is_up(&second, "third"), "{:#?}", second.log());
    let log = second.log().join("\n");
    assert!(log.contains("an XDP program is at this interface already"), "{log}");
    assert!(log.contains("is passed over for the next alternative"), "{log}");
    assert_eq!(send(peer, HERE, PORT, 25, 9, false), 25);
    assert_eq!(count(&first.scrape(), "tapster_first_total", &[]), 25);
    for name in ["in_2", "third"] {
        assert_eq!(count(&second.scrape(), &format!("tapster_{name}_total"), &[]), 25, "{name}");
    }
    assert_eq!(count(&first.scrape(), "tapster_in_1_total", &[]), 25);
    Ok("the second says so and goes on by the alternative".into())
}

/// A probe that is changed takes the place of what it was, also where there is room for one program; one that cannot come leaves the
/// other in its place.
fn changed(directory: &Path, peer: &Peer) -> Outcome {
    let tapster = start(directory, &format!("probes:\n{}", probe("first", "xdp:here0")));
    let file = directory.join("packets.yaml");
    let reload = |text: &str| {
        fs::write(&file, format!("probes:\n{text}")).unwrap();
        tapster.signal(libc::SIGHUP);
    };
    assert_eq!(send(peer, HERE, PORT, 5, 9, false), 5);
    reload(&probe("first", "xdp:here0").replace("args.dest_port ==", "args.dest_port >="));
    let began_anew = || count(&tapster.scrape(), "tapster_first_total", &[]) == 0;
    assert!(within(PATIENCE, began_anew).is_some(), "{:#?}", tapster.log());
    assert!(is_up(&tapster, "first"), "{:#?}", tapster.log());
    assert_eq!(send(peer, HERE, PORT, 6, 9, false), 6);
    assert_eq!(count(&tapster.scrape(), "tapster_first_total", &[]), 6);
    // What is wrong with it shows only when it has been compiled: the one before goes on.
    reload(&probe("first", "xdp:here0").replace("args.dest_port ==", "args.no_such_field =="));
    let refused = || tapster.log().join("\n").contains("no_such_field");
    assert!(within(PATIENCE, refused).is_some(), "{:#?}", tapster.log());
    assert!(within(PATIENCE, || is_up(&tapster, "first")).is_some());
    assert_eq!(send(peer, HERE, PORT, 7, 9, false), 7);
    assert_eq!(count(&tapster.scrape(), "tapster_first_total", &[]), 13);
    Ok("6 and 7 datagrams by the probe that took the place of another".into())
}

/// Interfaces are waited for, and those that get the name of one that went are followed; counts stay.
fn followed(directory: &Path, peer: &Peer) -> Outcome {
    ip("link del here0");
    let text = probe("later", "tc:here0:ingress") + &probe("later_xdp", "xdp:here0");
    let tapster = start(directory, &format!("probes:\n{text}"));
    let reason = |probe: &str, word: &str| {
        tapster.scrape().find("tapster_probe_up", &[("probe", probe), ("reason", word)]).is_some()
    };
    assert!(reason("later", "waiting") && reason("later_xdp", "waiting"), "{:#?}", tapster.log());
    let both_up = || is_up(&tapster, "later") && is_up(&tapster, "later_xdp");
    connect(peer);
    assert!(within(PATIENCE, both_up).is_some(), "{:#?}", tapster.log());
    assert_eq!(send(peer, HERE, PORT, 11, 9, false), 11);
    ip("link del here0");
    assert!(within(PATIENCE, || reason("later", "waiting") && reason("later_xdp", "waiting")).is_some());
    connect(peer);
    assert!(within(PATIENCE, both_up).is_some(), "{:#?}", tapster.log());
    assert_eq!(send(peer, HERE, PORT, 4, 9, false), 4);
    let metrics = tapster.scrape();
    for name in ["later", "later_xdp"] {
        assert_eq!(count(&metrics, &format!("tapster_{name}_total"), &[]), 15, "{name}");
        let again = [("probe", name), ("object", "packets")];
        assert_eq!(count(&metrics, "tapster_probe_reattached_total", &again), 2, "{name}");
    }
    Ok("11 and 4 datagrams of two interfaces of one name".into())
}

/// An interface without Ethernet: packets begin with their network's header.
fn tunnel(directory: &Path, _: &Peer) -> Outcome {
    let made = output(tool("ip")?.args(["tuntap", "add", "dev", "tun18", "mode", "tun"]));
    if !made.status.success() {
        return Err(Skip(format!("no tunnel can be made: {}", String::from_utf8_lossy(&made.stderr).trim())));
    }
    ip("addr add 10.219.0.1/24 dev tun18");
    ip("link set tun18 up");
    let text = probe("tunnelled", "tc:tun18:egress") + &probe("no_xdp", "xdp:tun18");
    let tapster = start(directory, &format!("probes:\n{text}"));
    assert!(is_up(&tapster, "tunnelled"), "{:#?}", tapster.log());
    assert!(tapster.log().join("\n").contains("`tun18` has no Ethernet header"));
    assert_eq!(datagrams(SocketAddr::new("10.219.0.2".parse().unwrap(), PORT), 12, 10), 12);
    let labels = [("from", "10.219.0.1"), ("to", "10.219.0.2"), ("protocol", "ipv4")];
    let metrics = tapster.scrape();
    assert_eq!(count(&metrics, "tapster_tunnelled_total", &labels), 12);
    assert_eq!(count(&metrics, "tapster_tunnelled_bytes_total", &labels), 12 * (IPV4 + UDP + 10));
    Ok("12 datagrams without a header of Ethernet".into())
}

/// What `list` shows of an interface.
fn listed(_: &Path, _: &Peer) -> Outcome {
    let list = |pattern: &str| text(support::exporter::binary().args(["list", pattern]));
    let shown = list("xdp:here0");
    assert!(shown.starts_with("xdp:here0\n    u32 args.len\n    u16 args.protocol\n"), "{shown}");
    let shown = list("tc:here0:*");
    assert!(shown.contains("tc:here0:egress\n") && shown.contains("    u32 args.mark\n"), "{shown}");
    Ok("arguments of packets".into())
}

#[test]
fn packets() {
    let Some(mut cases) = Cases::as_root("packets") else { return };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let prepared = alone().and_then(|()| {
        tool("ip")?;
        Peer::start()
    });
    let peer = match prepared {
        Ok(peer) => peer,
        Err(Skip(why)) => {
            cases.run("all", || Err(Skip(why)));
            return cases.finish();
        }
    };
    ip("link set lo up");
    connect(&peer);
    let all: [(&str, Case); 8] = [
        ("counts", counts),
        ("one cgroup", one_cgroup),
        ("killed", killed),
        ("taken", taken),
        ("changed", changed),
        ("listed", listed),
        ("followed", followed),
        ("tunnel", tunnel),
    ];
    for (name, case) in all {
        cases.run(name, || case(directory.path(), &peer));
    }
    cases.finish();
}
