//! Interfaces, with namespaces in the files of processes that the test makes, and those of this machine.

use super::super::interface::InterfaceDecoder;
use super::*;
use std::{os::unix::fs::symlink, process::Command};

/// Other networks than the host's.
const POD: u64 = 4_026_532_183 << 32;
const EMPTY: u64 = 4_026_532_999 << 32;

impl Fixture {
    /// A process in a network with these interfaces.
    fn process(&self, pid: u32, namespace: u64, interfaces: &[(u32, &str)]) {
        let process = self.path(&format!("proc/{pid}"));
        let _ = fs::remove_dir_all(&process);
        fs::create_dir_all(process.join("ns")).expect("a new directory");
        symlink(format!("net:[{}]", namespace >> 32), process.join("ns/net")).expect("a new link");
        self.directory(&format!("proc/{pid}/net/dev_snmp6"));
        for (index, name) in interfaces {
            let text = format!("ifIndex                         \t{index}\nIp6InReceives\t9\n");
            self.write(&format!("proc/{pid}/net/dev_snmp6/{name}"), &text);
        }
    }
}

fn interfaces(fixture: &Fixture) -> InterfaceDecoder {
    fixture.process(1, 7 << 32, &[(1, "lo"), (2, "eth0")]);
    InterfaceDecoder::of(&Type::U64, &fixture.host()).expect("the first process has a network")
}

/// The next scrape.
fn refresh(decoder: &mut impl Decode) {
    decoder.refresh(&Arc::default());
}

#[test]
fn an_index_is_an_interface_of_its_network() {
    let fixture = Fixture::new();
    let mut decoder = interfaces(&fixture);
    fixture.process(20, POD, &[(1, "lo"), (2, "net1"), (9, "cni0")]);
    for (value, expected) in [
        (0, "none"),
        (POD, "none"),
        (1, "lo"),
        (2, "eth0"),
        (7 << 32 | 2, "eth0"),
        (POD | 2, "net1"),
        (POD | 9, "cni0"),
        // What another network has is no name for it.
        (9, "9"),
        (POD | 3, "3"),
        (EMPTY | 2, "2"),
        (u64::from(u32::MAX), "4294967295"),
    ] {
        assert_eq!(text(&mut decoder, value), expected, "{value:#x}");
    }
}

#[test]
fn in_32_bits_there_is_no_network() {
    let fixture = Fixture::new();
    interfaces(&fixture);
    let signed = Type::Int { bits: 32, signed: true };
    let mut decoder = InterfaceDecoder::of(&signed, &fixture.host()).expect("it is there");
    assert_eq!(text(&mut decoder, 2), "eth0");
    assert_eq!(decoder.decode(&(-1_i64).to_le_bytes()).as_deref(), Some("4294967295"));
}

#[test]
fn names_follow_the_interfaces() {
    let fixture = Fixture::new();
    let mut decoder = interfaces(&fixture);
    fixture.process(20, POD, &[(5, "veth1")]);
    assert_eq!((text(&mut decoder, 2), text(&mut decoder, POD | 5)), ("eth0".into(), "veth1".into()));
    // Renamed: at the next scrape, and within one both are from one look.
    fixture.process(1, 7 << 32, &[(1, "lo"), (2, "lan0"), (3, "eth0")]);
    assert_eq!(text(&mut decoder, 2), "eth0");
    refresh(&mut decoder);
    assert_eq!((text(&mut decoder, 2), text(&mut decoder, 3)), ("lan0".into(), "eth0".into()));
    // Gone: it keeps its name until another has its index.
    fixture.process(1, 7 << 32, &[(1, "lo")]);
    refresh(&mut decoder);
    assert_eq!((text(&mut decoder, 2), text(&mut decoder, 4)), ("lan0".into(), "4".into()));
    fixture.process(1, 7 << 32, &[(2, "wan0")]);
    refresh(&mut decoder);
    assert_eq!(text(&mut decoder, 2), "wan0");
    // The whole network is gone, and its process is now in another.
    fixture.process(20, 8 << 32, &[(5, "other")]);
    refresh(&mut decoder);
    assert_eq!(
        (text(&mut decoder, POD | 5), text(&mut decoder, 8 << 32 | 5)),
        ("veth1".into(), "other".into())
    );
    // Another process is in it.
    fixture.process(21, POD, &[(5, "veth9")]);
    refresh(&mut decoder);
    assert_eq!(text(&mut decoder, POD | 5), "veth9");
}

#[test]
fn without_ipv6_the_lists_say_which_are_up() {
    let fixture = Fixture::new();
    fixture.directory("proc/1/net");
    fixture.write(
        "proc/1/net/dev_mcast",
        "2    eth0            1     0     01005e000001\n3    a_long_name_15c 1     0     01005e000001\n",
    );
    let igmp = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n2\teth0      :     1      V3\n12\tlonger_name1:     1      V3\n";
    fixture.write("proc/1/net/igmp", igmp);
    let mut decoder = InterfaceDecoder::of(&Type::U32, &fixture.host()).expect("it is there");
    let names: Vec<String> = [1, 2, 3, 12, 10].iter().map(|index| text(&mut decoder, *index)).collect();
    assert_eq!(names, ["lo", "eth0", "a_long_name_15c", "longer_name1", "10"]);
}

#[test]
fn lists_that_are_none_do_no_harm() {
    let fixture = Fixture::new();
    fixture.process(1, 7 << 32, &[]);
    for (file, contents) in [
        ("dev_snmp6/eth0", "Ip6InReceives 5\n"),
        ("dev_snmp6/eth1", ""),
        ("dev_snmp6/eth2", "ifIndex\n"),
        ("dev_snmp6/eth3", "ifIndex -5\n"),
        ("dev_mcast", "\u{0}\n5\n5    \n:5 eth4\n99999999999 eth5\n\t5 eth6\n"),
        ("igmp", "Idx\tDevice\n6\n6\t:\n"),
    ] {
        fixture.write(&format!("proc/1/net/{file}"), contents);
    }
    let mut decoder = InterfaceDecoder::of(&Type::U32, &fixture.host()).expect("it is there");
    assert_eq!((text(&mut decoder, 5), text(&mut decoder, 6)), ("5".into(), "6".into()));
}

#[test]
fn names_of_what_is_gone_are_bounded() {
    let fixture = Fixture::new();
    let mut decoder = interfaces(&fixture);
    decoder.limit = 2;
    let all: Vec<(u32, String)> = (1..=4).map(|index| (index, format!("if{index}"))).collect();
    let all: Vec<(u32, &str)> = all.iter().map(|(index, name)| (*index, name.as_str())).collect();
    fixture.process(1, 7 << 32, &all);
    for index in 1..=4 {
        refresh(&mut decoder);
        assert_eq!(text(&mut decoder, index), format!("if{index}"));
    }
    fixture.process(1, 7 << 32, &[]);
    refresh(&mut decoder);
    let names: Vec<String> = (1..=4).map(|index| text(&mut decoder, index)).collect();
    assert_eq!(names, ["1", "2", "if3", "if4"], "the last two that were shown");
}

#[test]
fn a_machine_without_networks_is_an_error() {
    let fixture = Fixture::new();
    assert!(InterfaceDecoder::of(&Type::U32, &fixture.host()).is_err(), "no process has a directory `net`");
}

/// As `ip` has them, in the network of this process.
#[test]
fn interfaces_are_those_of_ip() {
    let output = match Command::new("ip").args(["-o", "link"]).output() {
        Ok(output) if output.status.success() => output,
        _ => return eprintln!("skipped: needs `ip`"),
    };
    let link = fs::read_link("/proc/self/ns/net").expect("every process has one");
    let number = link.to_str().and_then(|link| link.strip_prefix("net:[")?.strip_suffix(']'));
    let namespace: u64 = number.expect("a number").parse().expect("a number");
    let mut decoder = InterfaceDecoder::of(&Type::U64, &Host::default()).expect("procfs is there");
    let lines = String::from_utf8(output.stdout).expect("names are text");
    assert!(lines.lines().count() > 0);
    for line in lines.lines() {
        let mut parts = line.split(':');
        let mut part = || parts.next().expect("`INDEX: NAME: …`").trim();
        let (index, name) = (part(), part());
        // `veth1@if2` is linked to another.
        let name = name.split('@').next().expect("a name");
        let index: u64 = index.parse().expect("a number");
        assert_eq!(text(&mut decoder, namespace << 32 | index), name, "{line}");
    }
}
