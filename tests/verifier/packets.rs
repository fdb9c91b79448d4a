//! Random probes that see packets, at every hook that this kernel has; loaded, never attached.

use crate::{
    case::parse,
    support::{expression::Grammar, random::Random},
};
use std::collections::BTreeMap;
use tapster::load;

/// As many as some seconds are enough for.
const PROBES: u64 = 200;
const POINTS: [&str; 5] =
    ["xdp:lo", "tc:lo:ingress", "tc:lo:egress", "cgroup_skb:/:ingress", "cgroup_skb:/:egress"];
/// Numbers of packets: arguments, members, and bytes at places that only the packet tells.
const NUMBERS: [&str; 15] = [
    "args.len",
    "args.protocol",
    "args.ip_protocol",
    "args.source_port",
    "args.dest_port",
    "args.tcp_flags",
    "args.ifindex",
    "nsecs",
    "cpu",
    "((struct iphdr *)args.network).ttl",
    "((struct iphdr *)args.network).ihl",
    "((struct tcphdr *)args.transport).seq",
    "((struct tcphdr *)args.transport).doff",
    "(*(u8 *)(args.data + (args.len & 63)))",
    "(((u16 *)args.transport)[args.protocol & 7])",
];
const OF_SKB: [&str; 4] = ["args.mark", "args.priority", "args.hash", "args.cgroup"];

/// A probe of a seed; `None` where the grammar made what packets do not have.
fn probe(seed: u64, points: &[&str]) -> Option<String> {
    let mut random = Random(seed);
    let point = random.pick(points);
    let own = if point.starts_with("xdp") { [].as_slice() } else { &OF_SKB };
    let numbers = NUMBERS.iter().chain(own).map(|name| (*name).to_owned()).collect();
    let mut grammar = Grammar::over(random, numbers, vec!["\"ab\"".into()], Vec::new());
    let mut number = |depth| {
        let text = grammar.number(depth);
        (!["comm", "tid"].iter().any(|word| text.contains(word))).then_some(text)
    };
    let quoted = |text: String| text.replace('\'', "''");
    let (filter, named, label, value, set) =
        (quoted(number(2)?), quoted(number(2)?), quoted(number(1)?), quoted(number(2)?), quoted(number(1)?));
    let (state, changes) = if seed.is_multiple_of(3) {
        (
            "    state: { seen: { per: key, timeout: 1m }, last: { per: cpu } }\n",
            format!("    set: {{ \"seen[args.source]\": '({set}) + 0', last: '{named}' }}\n"),
        )
    } else {
        ("", String::new())
    };
    let read = if state.is_empty() { "0" } else { "state.seen[args.dest] + state.last" };
    Some(format!(
        "probes:\n  - name: p{seed}\n{state}    at: \"{point}\"\n    where: '({filter}) || args.len > 70'\n    let: {{ named: '({named}) + 0' }}\n{changes}    labels:\n      from: {{ value: args.source, as: ip }}\n      bytes: 'bytes(args.transport, 12)'\n      label: '({label}) + named'\n    metrics:\n      - {{ counter: p{seed}_total }}\n      - {{ gauge: p{seed}_gauge, value: '({value}) + {read}' }}\n      - {{ histogram: p{seed}_bytes, value: args.len, unit: bytes }}\n"
    ))
}

#[test]
fn packets_are_verified() {
    let Some(kernel) = super::kernel() else { return };
    let types = kernel.btf.as_ref().unwrap();
    let target = kernel.target();
    // The first kernels have none of them, and a host may have no cgroups.
    let is_here = |point: &&str| {
        let yaml =
            format!("probes:\n  - {{ name: a, at: \"{point}\", metrics: [{{ counter: a_total }}] }}\n");
        parse(&yaml).is_ok_and(|probe| tapster_ebpf::compile(&probe, &target).is_ok())
    };
    let points: Vec<&str> = POINTS.into_iter().filter(is_here).collect();
    if points.is_empty() {
        println!("skipped: this kernel lets nobody see packets");
        return;
    }
    let (wanted, first) =
        (super::variable("TAPSTER_VERIFIER_PROBES", PROBES), super::variable("TAPSTER_VERIFIER_SEED", 1));
    let mut loaded: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut refused, mut unchecked, mut tried) = (Vec::new(), 0, 0);
    while loaded.values().sum::<u64>() < wanted && tried < wanted * 20 + 100 {
        let seed = first + tried;
        tried += 1;
        let Some(yaml) = probe(seed, &points) else { continue };
        let parsed = parse(&yaml).unwrap_or_else(|error| panic!("seed {seed}\n{yaml}\n{error:?}"));
        let Ok(program) = tapster_ebpf::compile(&parsed, &target) else {
            unchecked += 1;
            continue;
        };
        let mechanism = program.codes[0].mechanism.name;
        match load::load(program, Some(types)) {
            Ok(_) => *loaded.entry(mechanism).or_default() += 1,
            Err(error) => {
                println!("TAPSTER_VERIFIER_SEED={seed} TAPSTER_VERIFIER_PROBES=1\n{yaml}{error}\n");
                refused.push(seed);
                assert!(refused.len() < super::SHOWN, "the verifier refused seeds {refused:?}");
            }
        }
    }
    println!("of packets {loaded:?}, {tried} made, {unchecked} not accepted by the checker");
    assert!(refused.is_empty(), "the verifier refused what the checker accepted: seeds {refused:?}");
    assert_eq!(loaded.len(), points.len(), "{loaded:?}");
}
