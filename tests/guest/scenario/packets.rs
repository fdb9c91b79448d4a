//! Datagrams where packets are seen: as many, and with as many bytes, as the program sent.

use super::number;
use crate::{kernel::Kernel, machine::Results};
use tapster_ebpf::probe::KernelVersion;

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
    since: KernelVersion,
    /// Whether it sees what the interface sees, and what nobody receives.
    interface: bool,
    incoming: bool,
}

const PLACES: [Seen; 5] = [
    Seen { name: "at_xdp", since: KernelVersion(5, 18, 0), interface: true, incoming: true },
    Seen { name: "at_tc_ingress", since: KernelVersion(6, 6, 0), interface: true, incoming: true },
    Seen { name: "at_tc_egress", since: KernelVersion(6, 6, 0), interface: true, incoming: false },
    Seen { name: "at_cgroup_ingress", since: KernelVersion(5, 10, 0), interface: false, incoming: true },
    Seen { name: "at_cgroup_egress", since: KernelVersion(5, 10, 0), interface: false, incoming: false },
];

/// How many datagrams `network datagrams here` sent to each of both ports.
fn sent(text: &str) -> [u64; 2] {
    ["datagrams", "unwanted"].map(|name| number(text, name))
}

pub(crate) fn check(kernel: &Kernel, results: &Results) -> String {
    let [before, after, later] =
        ["before", "after", "later"].map(|when| results.metrics(&format!("{when}.prom")));
    let [own, others, without] = ["own", "others", "without"].map(|who| sent(results.text(who)));
    assert_eq!([own, others, without], [[500, 45]; 3]);
    let version = KernelVersion::parse(&kernel.release).unwrap();
    let mut places = Vec::new();
    for Seen { name, since, interface, incoming } in &PLACES {
        let there = version >= *since;
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
