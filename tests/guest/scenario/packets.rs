//! Datagrams where packets are seen: as many, and with as many bytes, as the program sent.

use crate::{kernel::Kernel, machine::Results};

/// Ports of `tests/programs/network.c`: of a socket, and of none.
const RECEIVER: &str = "4244";
const NOBODY: &str = "4242";
/// Bytes of a datagram, of the headers of IP and UDP, and of Ethernet's, which the loopback interface has, too.
const PAYLOAD: u64 = 1000;
const HEADERS: u64 = 28;
const ETHERNET: u64 = 14;

/// A place where packets are seen.
struct Seen {
    name: &'static str,
    /// The first kernel that has it.
    since: (u16, u16),
    /// Whether it sees what the interface sees, and what nobody receives.
    interface: bool,
    incoming: bool,
}

const PLACES: [Seen; 5] = [
    Seen { name: "at_xdp", since: (5, 18), interface: true, incoming: true },
    Seen { name: "at_tc_ingress", since: (6, 6), interface: true, incoming: true },
    Seen { name: "at_tc_egress", since: (6, 6), interface: true, incoming: false },
    Seen { name: "at_cgroup_ingress", since: (5, 10), interface: false, incoming: true },
    Seen { name: "at_cgroup_egress", since: (5, 10), interface: false, incoming: false },
];

/// How many datagrams `network datagrams here` sent to each of both ports.
fn sent(text: &str) -> [u64; 2] {
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let word = line.and_then(|line| line.split(' ').next()).unwrap_or_else(|| panic!("{text}"));
        word.parse().unwrap()
    };
    [number("datagrams"), number("unwanted")]
}

pub(crate) fn check(kernel: &Kernel, results: &Results) -> String {
    let [before, after, later] =
        ["before", "after", "later"].map(|when| results.metrics(&format!("{when}.prom")));
    let [own, others, without] = ["own", "others", "without"].map(|who| sent(results.text(who)));
    assert_eq!([own, others, without], [[500, 45]; 3]);
    let release: Vec<u16> =
        kernel.release.split(['.', '-', '+']).take(2).map(|part| part.parse().unwrap()).collect();
    let mut places = Vec::new();
    for Seen { name, since, interface, incoming } in &PLACES {
        let there = (release[0], release[1]) >= *since;
        let up = after.sum("tapster_probe_up", &[("probe", name)]) > 0.5;
        assert_eq!(up, there, "{name}: {}", results.text("tapster.log"));
        if !there {
            continue;
        }
        let header = HEADERS + if *interface { ETHERNET } else { 0 };
        for (index, port) in [RECEIVER, NOBODY].into_iter().enumerate() {
            let of = |number: u64| if port == NOBODY && !interface && *incoming { 0 } else { number };
            let labels = [("port", port)];
            let (total, bytes) = (format!("tapster_{name}_total"), format!("tapster_{name}_bytes_total"));
            let found = [&total, &bytes].map(|family| after.since(&before, family, &labels));
            assert_eq!(found, [of(own[index]), of(own[index]) * (PAYLOAD + header)], "{name} {port}");
            // A cgroup's places do not see those of another one.
            let of = |number: u64| if *interface { of(number) } else { 0 };
            assert_eq!(later.since(&after, &total, &labels), of(others[index]), "{name} {port}, of others");
        }
        places.push(*name);
    }
    format!("545 datagrams of a cgroup and 545 of another one, equal {}", places.join(", "))
}
