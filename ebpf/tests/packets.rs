//! Programs that see packets: what they are told of one, and that a packet goes on whatever they do.
#![allow(clippy::unwrap_used, clippy::format_collect, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use std::collections::{BTreeMap, BTreeSet};
use support::{
    case::{Case, Frame, compile, compile_all, parse},
    expression::Grammar,
    random::Random,
    world::World,
};
use tapster_ebpf::{
    attach::Target,
    insn::{Alu, FP, Helper, Insn, R0, R6, Reg, Src},
    point::PacketHook,
    probe::KernelVersion,
    vm::Environment,
};

/// An attach point of each hook, and what a program there has to return, from the kernel's headers: `XDP_PASS`, `TCX_NEXT`, and
/// 1 for what a cgroup lets through.
const POINTS: [(&str, i32); 5] = [
    ("xdp:eth0", 2),
    ("tc:eth0:ingress", -1),
    ("tc:eth0:egress", -1),
    ("cgroup_skb:/a:ingress", 1),
    ("cgroup_skb:/a:egress", 1),
];

/// All that such a program may call: none of these changes a packet or sends one.
const HARMLESS: [Helper; 11] = [
    Helper::MapLookup,
    Helper::MapUpdate,
    Helper::MapDelete,
    Helper::KtimeNs,
    Helper::CpuId,
    Helper::SkbLoadBytes,
    Helper::SkbCgroupId,
    Helper::XdpLength,
    Helper::XdpLoadBytes,
    Helper::ReadKernel,
    Helper::ReadUser,
];

fn target(world: &World) -> Target<'_> {
    Target { kernel: KernelVersion(6, 9, 0), ..world.target(2) }
}

/// A packet, from its Ethernet header on, and what its network's begins at.
#[derive(Clone, Debug, Default)]
struct Packet {
    bytes: Vec<u8>,
    network: usize,
}

impl Packet {
    /// The environment and the context of a program that sees it at a hook.
    fn at(&self, point: &str) -> (Environment, Vec<u8>) {
        let is_xdp = point.starts_with("xdp");
        let from = if point.starts_with("cgroup") { self.network } else { 0 };
        let packet = self.bytes.get(from..).unwrap_or_default().to_vec();
        let mut context = vec![0; if is_xdp { 24 } else { 192 }];
        let mut put = |at: usize, value: u32| context[at..at + 4].copy_from_slice(&value.to_le_bytes());
        if is_xdp {
            put(12, 7);
            put(16, 3);
        } else {
            put(0, u32::try_from(packet.len()).unwrap());
            put(8, 0xfeed);
            // As the kernel keeps it, also without the header.
            let kind = self.network.checked_sub(2).and_then(|at| self.bytes.get(at..at + 2));
            let kind = kind.map_or(0, |kind| u16::from_le_bytes(kind.try_into().unwrap()));
            put(16, kind.into());
            put(40, 7);
        }
        (Environment { packet, packet_cgroup: 4711, ..Environment::default() }, context)
    }
}

fn ethernet(kind: u16) -> Vec<u8> {
    [[0x02; 12].as_slice(), &kind.to_be_bytes()].concat()
}

/// A header of IPv4 with so many words, a protocol and the distance of a fragment.
fn ipv4(words: u8, protocol: u8, fragment: u16) -> Vec<u8> {
    let mut header = vec![0; usize::from(words) * 4];
    header[0] = 0x40 | words;
    header[6..8].copy_from_slice(&(0x2000 | fragment).to_be_bytes());
    header[9] = protocol;
    header[12..16].copy_from_slice(&[192, 0, 2, 1]);
    header[16..20].copy_from_slice(&[198, 51, 100, 9]);
    header
}

fn ipv6(next: u8) -> Vec<u8> {
    let mut header = vec![0; 40];
    header[0] = 0x60;
    header[6] = next;
    header[8..24].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    header[24..40].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    header
}

/// The beginning of a header with ports, 20 bytes, of which the last of the flags is 0x12.
fn ports(source: u16, dest: u16) -> Vec<u8> {
    let mut header = vec![0; 20];
    header[0..2].copy_from_slice(&source.to_be_bytes());
    header[2..4].copy_from_slice(&dest.to_be_bytes());
    header[13] = 0x12;
    header
}

fn packet(parts: &[Vec<u8>], network: usize) -> Packet {
    Packet { bytes: parts.concat(), network }
}

/// Runs a probe's programs on a packet; each has to let it pass, and to leave what the evaluator says.
fn agree(case: &Case, packet: &Packet, point: &str, returns: i32) -> usize {
    let (environment, context) = packet.at(point);
    let mut vm = case.machine(environment.clone());
    for code in &case.program.codes {
        vm.load(&code.assembled.insns);
        let returned = vm.run(&context);
        assert_eq!(
            returned.map_err(|error| error.to_string()),
            Ok(i64::from(returns).cast_unsigned()),
            "{}\n{}",
            case.yaml,
            code.assembled.listing()
        );
    }
    assert_eq!(vm.env.packet, environment.packet, "the packet is as it was");
    let (found, expected) = (case.rows(&vm), case.expected(&environment, &context, 0));
    if expected.is_empty() && case.typed.labels.is_empty() {
        return 0;
    }
    assert_eq!(found, expected, "{packet:?}\n{}", case.yaml);
    found.iter().map(|(_, values)| values.len()).sum()
}

#[test]
fn what_is_told_of_a_packet() {
    let world = World::new();
    let names = ["len", "protocol", "ip_protocol", "source_port", "dest_port", "tcp_flags"];
    let data = vec![0; 100];
    let tcp4 = packet(&[ethernet(0x0800), ipv4(5, 6, 0), ports(40000, 443), data.clone()], 14);
    let long = packet(&[ethernet(0x0800), ipv4(15, 6, 0), ports(40001, 444), data.clone()], 14);
    let udp6 = packet(&[ethernet(0x86dd), ipv6(17), ports(53, 5353)], 14);
    let later = packet(&[ethernet(0x0800), ipv4(5, 17, 185), data.clone()], 14);
    let icmp = packet(&[ethernet(0x0800), ipv4(5, 1, 0), data.clone()], 14);
    let arp = packet(&[ethernet(0x0806), data], 14);
    // Cut off behind its IP header, and within it.
    let cut = packet(&[ethernet(0x0800), ipv4(5, 17, 0)], 14);
    let torn = packet(&[ethernet(0x86dd), vec![0x60; 3]], 14);
    let expected: [(&Packet, [u64; 5]); 8] = [
        (&tcp4, [0x0800, 6, 40000, 443, 0x12]),
        (&long, [0x0800, 6, 40001, 444, 0x12]),
        (&udp6, [0x86dd, 17, 53, 5353, 0]),
        (&later, [0x0800, 17, 0, 0, 0]),
        (&icmp, [0x0800, 1, 0, 0, 0]),
        (&arp, [0x0806, 0, 0, 0, 0]),
        (&cut, [0x0800, 17, 0, 0, 0]),
        (&torn, [0x86dd, 0, 0, 0, 0]),
    ];
    for (point, returns) in POINTS {
        let head = format!("    at: \"{point}\"\n    labels: {{ from: args.source, to: args.dest }}\n");
        let values = names.map(|name| format!("args.{name}")).to_vec();
        let case = compile(&Frame { head }, &values, &target(&world)).unwrap();
        for (packet, expected) in &expected {
            agree(&case, packet, point, returns);
            let (environment, context) = packet.at(point);
            let mut vm = case.machine(environment.clone());
            case.run(&mut vm, &context, 0);
            let rows = case.rows(&vm);
            let length = u64::try_from(environment.packet.len()).unwrap();
            assert_eq!(rows[0].1, [[length].as_slice(), expected].concat(), "{point} {packet:?}");
            let [source, dest] = match expected[0] {
                0x0800 => [[192, 0, 2, 1], [198, 51, 100, 9]]
                    .map(|own| [[0; 10].as_slice(), &[0xff; 2], &own].concat()),
                0x86dd if expected[1] == 17 => {
                    [1, 2].map(|last| [[0x20, 1, 0xd, 0xb8].as_slice(), &[0; 11], &[last]].concat())
                }
                _ => [vec![0; 16], vec![0; 16]],
            };
            assert_eq!(rows[0].0, [source, dest].concat(), "{point} {packet:?}");
        }
    }
}

/// Behind a tag of a VLAN, which a driver may leave in the packet where XDP sees it.
#[test]
fn a_tag_is_passed_over() {
    let world = World::new();
    let head = "    at: \"xdp:eth0\"\n".to_owned();
    let values = ["args.protocol", "args.dest_port", "args.network - args.data", "args.ifindex"]
        .map(str::to_owned)
        .to_vec();
    let case = compile(&Frame { head }, &values, &target(&world)).unwrap();
    for kind in [0x8100, 0x88a8] {
        let tag = vec![0, 5, 0x08, 0];
        let tagged = packet(&[ethernet(kind), tag, ipv4(5, 6, 0), ports(1, 80), vec![0; 9]], 18);
        agree(&case, &tagged, "xdp:eth0", 2);
        let (environment, context) = tagged.at("xdp:eth0");
        let mut vm = case.machine(environment);
        case.run(&mut vm, &context, 0);
        assert_eq!(case.rows(&vm)[0].1, [0x0800, 80, 18, 7]);
    }
}

/// Behind an XDP program outside of the driver, what an interface receives comes to traffic control without its header of Ethernet:
/// the same is told of it, its length too.
#[test]
fn a_header_that_was_not_given_back() {
    let world = World::new();
    let names = ["len", "protocol", "ip_protocol", "source_port", "dest_port", "tcp_flags"];
    let point = "tc:eth0:ingress";
    let head = format!("    at: \"{point}\"\n    labels: {{ from: args.source, to: args.dest }}\n");
    let values = names.map(|name| format!("args.{name}")).to_vec();
    let case = compile(&Frame { head }, &values, &target(&world)).unwrap();
    let mut looks_alike = ipv4(5, 17, 0);
    // What stands where the protocol would: 0x0800.
    looks_alike[12..16].copy_from_slice(&[8, 0, 17, 1]);
    let packets = [
        packet(&[ethernet(0x0800), ipv4(5, 6, 0), ports(40000, 443), vec![0; 100]], 14),
        packet(&[ethernet(0x0800), looks_alike, ports(40000, 443)], 14),
        packet(&[ethernet(0x86dd), ipv6(17), ports(53, 5353)], 14),
        packet(&[ethernet(0x0806), vec![0; 28]], 14),
    ];
    for packet in &packets {
        agree(&case, packet, point, -1);
        let rows = |(environment, context): (Environment, Vec<u8>)| {
            let mut vm = case.machine(environment);
            case.run(&mut vm, &context, 0);
            case.rows(&vm)
        };
        let (mut environment, mut context) = packet.at(point);
        environment.packet.drain(..14);
        context[0..4].copy_from_slice(&u32::try_from(environment.packet.len()).unwrap().to_le_bytes());
        assert_eq!(rows((environment, context)), rows(packet.at(point)), "{packet:?}");
    }
    // A frame with a length in that place has its header, whatever the kernel calls its protocol.
    let frame = packet(&[ethernet(38), vec![0x42; 38]], 14);
    let (environment, mut context) = frame.at(point);
    context[16..20].copy_from_slice(&0x0400_u32.to_le_bytes());
    let mut vm = case.machine(environment);
    case.run(&mut vm, &context, 0);
    assert_eq!(case.rows(&vm)[0].1[..2], [52, 4]);
}

/// Of an interface without Ethernet, such as a tunnel, packets begin with the network's header.
#[test]
fn fields_and_bytes_of_a_packet() {
    let world = World::new();
    let tcp = packet(&[ethernet(0x0800), ipv4(5, 6, 0), ports(0x1234, 80), vec![9; 16]], 14);
    for (point, expected) in [
        ("tc:eth0:ingress", vec![0xfeed, 7, 14, 0x12, 0x34, 0x3412, 4711]),
        ("cgroup_skb:/:egress", vec![0xfeed, 7, 0, 0x12, 0x34, 0x3412, 4711]),
    ] {
        let head = format!(
            "    at: \"{point}\"\n    let: {{ at: args.transport }}\n    labels: {{ bytes: 'bytes(args.transport, 4)' }}\n"
        );
        let values = [
            "args.mark",
            "args.ifindex",
            "args.network - args.data",
            "*(u8 *)at",
            "*(u8 *)(at + 1)",
            "((u16 *)at)[0]",
            "args.cgroup",
        ];
        let case = compile(&Frame { head }, &values.map(str::to_owned), &target(&world)).unwrap();
        agree(&case, &tcp, point, if point.starts_with("tc") { -1 } else { 1 });
        let (environment, context) = tcp.at(point);
        let mut vm = case.machine(environment);
        case.run(&mut vm, &context, 0);
        assert_eq!(case.rows(&vm)[0], (vec![0x12, 0x34, 0, 80, 0, 0, 0, 0], expected), "{point}");
    }
}

/// What `r0` is known to be: nothing, or a constant.
type Known = Option<i32>;

/// What is known of `r0` after an instruction.
fn after(insn: &Insn, known: Known) -> Known {
    match *insn {
        Insn::Alu64(Alu::Mov, R0, Src::Imm(value)) => Some(value),
        Insn::Alu64(_, R0, _)
        | Insn::Alu32(_, R0, _)
        | Insn::ToBigEndian(_, R0)
        | Insn::Imm64(R0, _)
        | Insn::Map(R0, _)
        | Insn::Load(_, R0, _, _)
        | Insn::Exchange(_, _, R0)
        | Insn::Call(_)
        | Insn::CallKernel(..)
        | Insn::CompareExchange(..) => None,
        _ => known,
    }
}

/// Goes all ways through a program, whatever its conditions say, to each exit: there `r0` has to be this constant. Returns how
/// many exits there are.
fn walk(program: &[Insn], returns: i32) -> usize {
    let mut starts = BTreeMap::new();
    let mut slot = 0_i64;
    for (index, insn) in program.iter().enumerate() {
        starts.insert(slot, index);
        slot += i64::try_from(insn.slots()).unwrap();
    }
    let slot_of: BTreeMap<usize, i64> = starts.iter().map(|(slot, index)| (*index, *slot)).collect();
    let (mut seen, mut exits) = (BTreeSet::new(), BTreeSet::new());
    let mut waiting: Vec<(usize, Known)> = vec![(0, None)];
    while let Some((index, known)) = waiting.pop() {
        if !seen.insert((index, known)) {
            continue;
        }
        let insn = &program[index];
        let target = |offset: i16| starts[&(slot_of[&index] + 1 + i64::from(offset))];
        let after = after(insn, known);
        match *insn {
            Insn::Exit => {
                assert_eq!(known, Some(returns), "at instruction {index}");
                exits.insert(index);
            }
            Insn::Jump(offset) => waiting.push((target(offset), after)),
            Insn::JumpIf(_, _, _, offset) | Insn::JumpIf32(_, _, _, offset) | Insn::MayGoto(offset) => {
                waiting.extend([(target(offset), after), (index + 1, after)]);
            }
            _ => waiting.push((index + 1, after)),
        }
        match *insn {
            Insn::Call(helper) => assert!(HARMLESS.contains(&helper), "{helper:?} at instruction {index}"),
            Insn::CallKernel(function, _) => panic!("{function:?} at instruction {index}"),
            // The context is never written to: a mark or priority would change the packet's way.
            Insn::Store(_, Reg(base), _, _) | Insn::StoreImm(_, Reg(base), _, _) => {
                assert_ne!(Reg(base), R6, "instruction {index} writes to the context");
                assert!(base < 10 || Reg(base) == FP);
            }
            _ => {}
        }
    }
    exits.len()
}

fn grammar(random: Random, point: &str) -> Grammar {
    let common = ["len", "protocol", "ip_protocol", "source_port", "dest_port", "tcp_flags", "ifindex"];
    let of_skb = ["mark", "cgroup", "priority"];
    let own = if point.starts_with("xdp") { ["rx_queue_index", "len", "ifindex"] } else { of_skb };
    let numbers = common.into_iter().chain(own).map(|name| format!("args.{name}")).collect();
    let place = |kind: &str, name: &str| format!("((struct {kind} *)args.{name})");
    Grammar {
        random,
        numbers,
        texts: vec!["\"ab\"".into()],
        nodes: ["data", "network", "transport"].map(|name| place("node", name)).to_vec(),
        inners: vec![place("inner", "network")],
        strings: Vec::new(),
    }
}

/// Packets of all kinds: whole, cut off anywhere, and noise.
fn any_packet(random: &mut Random) -> Packet {
    let words = 5 + u8::try_from(random.below(11)).unwrap();
    let protocol = [6, 17, 1, 132][random.below(4)];
    let port = u16::try_from(random.word() & 0xffff).unwrap();
    let data: Vec<u8> = (0..random.below(200)).map(|_| random.word().to_le_bytes()[0]).collect();
    let mut made = match random.below(5) {
        0 => packet(&[ethernet(0x86dd), ipv6(protocol), ports(port, 80), data], 14),
        1 => {
            packet(&[ethernet(0x8100), vec![0, 1, 8, 0], ipv4(words, protocol, 0), ports(port, 81), data], 18)
        }
        2 => packet(&[data], 14),
        3 => packet(&[ethernet(0x0800), ipv4(words, protocol, port & 0x1fff), data], 14),
        _ => packet(&[ethernet(0x0800), ipv4(words, protocol, 0), ports(port, 82), data], 14),
    };
    if random.one_in(3) {
        made.bytes.truncate(random.below(made.bytes.len()));
    }
    made
}

/// Programs of every shape, over every kind of packet: every exit returns what lets the packet pass, by whatever way it is
/// reached; nothing that they call or write to changes a packet; and what they count is what the language says.
#[test]
fn every_exit_lets_the_packet_pass() {
    let world = World::new();
    let (mut programs, mut exits, mut compared, mut tried, mut refused) = (0, 0, 0, 0, 0);
    for (point, returns) in POINTS {
        for round in 0..24 {
            let mut grammar = grammar(Random(110_000 + round), point);
            let shape = grammar.random.below(6);
            let (filter, first) = (grammar.number(2), grammar.number(2));
            // Of XDP programs one is at an interface.
            let other = point.replace("xdp:eth0", "xdp:eth1");
            let head = match shape {
                0 => format!("    at: \"{point}\"\n"),
                1 => format!("    at: \"{point}\"\n    where: '({filter}) || args.len > 60'\n"),
                2 => format!(
                    "    at: \"{point}\"\n    let: {{ own: '{first}' }}\n    labels: {{ from: args.source, own: own }}\n    max_series: 1\n"
                ),
                3 => format!(
                    "    at: \"{point}\"\n    each: {{ name: item, from: '((struct node *)args.network)', next: item.next, limit: 3 }}\n    labels: {{ item: item.big }}\n"
                ),
                4 => format!(
                    "    state: {{ seen: {{ per: key, timeout: 1m }} }}\n    at: \"{point}\"\n    set: {{ \"seen[args.source]\": '{first}' }}\n    labels: {{ before: 'state.seen[args.source]' }}\n"
                ),
                _ => format!(
                    "    start: {{ at: \"{point}\", key: args.source, save: {{ n: '{first}' }} }}\n    end: {{ at: \"{other}\", key: args.dest, where: 'duration > 10 || ({filter})' }}\n"
                ),
            };
            if shape == 2 {
                grammar.numbers.push("own".into());
            }
            let texts: Vec<String> = (0..40)
                .map(|index| grammar.number(1 + index % 4))
                .filter(|text| !["comm", "tid"].iter().any(|word| text.contains(word)))
                .collect();
            let (cases, without) = compile_all(&Frame { head }, &texts, &target(&world));
            tried += texts.len();
            refused += without;
            for case in &cases {
                for code in &case.program.codes {
                    assert_eq!(code.mechanism.returns, returns);
                    programs += 1;
                    exits += walk(&code.assembled.insns, returns);
                }
                for _ in 0..6 {
                    let packet = any_packet(&mut grammar.random);
                    // Of lists and pairs the evaluator is compared elsewhere.
                    if matches!(shape, 0..=2) {
                        compared += agree(case, &packet, point, returns);
                        continue;
                    }
                    let (environment, context) = packet.at(point);
                    let mut vm = case.machine(environment);
                    for code in &case.program.codes {
                        vm.load(&code.assembled.insns);
                        let returned =
                            vm.run(&context).unwrap_or_else(|error| panic!("{error}\n{}", case.yaml));
                        assert_eq!(returned, i64::from(returns).cast_unsigned(), "{}", case.yaml);
                    }
                }
            }
        }
    }
    println!(
        "{programs} programs, {exits} exits; {tried} expressions, {refused} refused, {compared} results compared"
    );
    assert!(programs > 100 && compared > 1000, "{programs} programs, {compared} compared");
    assert!(refused * 2 < tried, "{refused} of {tried} were refused");
}

/// The walk finds what it looks for.
#[test]
fn an_exit_with_another_value_is_found() {
    let world = World::new();
    let case =
        compile(&Frame { head: "    at: \"xdp:eth0\"\n".into() }, &["args.len".into()], &target(&world))
            .unwrap();
    let mut program = case.program.codes[0].assembled.insns.clone();
    assert_eq!(walk(&program, 2), 1);
    let last = program.len() - 2;
    assert_eq!(program[last], Insn::Alu64(Alu::Mov, R0, Src::Imm(2)));
    let broken = |change: &dyn Fn(&mut Vec<Insn>)| {
        let mut other = program.clone();
        change(&mut other);
        std::panic::catch_unwind(|| walk(&other, 2)).is_err()
    };
    assert!(broken(&|program| program[last] = Insn::Alu64(Alu::Mov, R0, Src::Imm(1))));
    assert!(broken(&|program| program[last] = Insn::Call(Helper::KtimeNs)));
    assert!(broken(&|program| program.insert(0, Insn::Exit)));
    program[last] = Insn::Alu64(Alu::Mov, R0, Src::Imm(2));
    assert_eq!(walk(&program, 2), 1);
}

#[test]
fn hooks_are_those_of_the_kernels_headers() {
    use PacketHook::{CgroupEgress, CgroupIngress, TcEgress, TcIngress, Xdp};
    let numbers = |hook: PacketHook| (hook.program_type(), hook.attach_type(), hook.passes_on());
    assert_eq!(
        [Xdp, TcIngress, TcEgress, CgroupIngress, CgroupEgress].map(numbers),
        [(6, 37, 2), (3, 46, -1), (3, 47, -1), (8, 0, 1), (8, 1, 1)]
    );
}

#[test]
fn what_a_packet_has_not_is_refused() {
    let world = World::new();
    let refused = |body: &str, kernel: KernelVersion| {
        let yaml = format!("probes:\n  - name: packets\n{body}");
        let target = Target { kernel, ..world.target(2) };
        let found = parse(&yaml).and_then(|probe| tapster_ebpf::compile(&probe, &target));
        found.err().unwrap_or_default().iter().map(|one| format!("{one} {:?}", one.hint)).collect::<String>()
    };
    let new = KernelVersion(6, 12, 0);
    let value = |at: &str, value: &str| {
        format!("    at: \"{at}\"\n    metrics: [{{ gauge: a, value: '{value}' }}]\n")
    };
    for (body, says) in [
        (value("xdp:eth0", "pid"), "`pid` is of the task that runs, and a packet at `xdp:eth0` is of none"),
        (value("tc:eth0:egress", "uid + 1"), "`uid` is of the task that runs"),
        (value("cgroup_skb:/:egress", "cgroup"), "the cgroup of its socket is `args.cgroup`"),
        (value("xdp:eth0", "args.cgroup"), "`xdp:eth0` has no argument `cgroup`"),
        (value("xdp:eth0", "args.mark"), "`xdp:eth0` has no argument `mark`"),
        (value("xdp:eth0", "str(args.data, 8) == \"x\""), "a packet has bytes, and no texts"),
        (value("xdp:eth0", "str(5) == \"x\""), "a packet has bytes, and no texts"),
        (value("xdp:eth0", "((struct node *)args.data).name == \"x\""), "a packet has bytes, and no texts"),
        (value("xdp:eth0", "str(((struct node *)args.data).name) == \"x\""), "a packet has bytes, and no texts"),
        (
            "    at: \"xdp:eth0\"\n    labels: { stack: kstack }\n    metrics: [{ counter: a_total }]\n".into(),
            "`kstack` is of the task that runs",
        ),
        (
            "    at: \"xdp:eth0\"\n    labels: { stack: kstack(3) }\n    metrics: [{ counter: a_total }]\n".into(),
            "`kstack` is of the task that runs",
        ),
        (
            "    at: \"xdp:eth0\"\n    where: traced\n    metrics: [{ counter: a_total }]\n".into(),
            "`traced` is of the task that runs",
        ),
        (
            "    state: { seen: { per: task } }\n    at: \"xdp:eth0\"\n    set: { seen: 1 }\n    metrics: [{ counter: a_total, value: state.seen }]\n".into(),
            "`seen` is kept per task, and a packet at `xdp:eth0` is of none",
        ),
        (
            "    events: [{ at: \"xdp:eth0\", values: { a: 1 } }, { at: \"xdp:eth0\", where: cpu, values: { a: 2 } }]\n    metrics: [{ sum: a }]\n".into(),
            "two events are at `xdp:eth0`, and there is room for one XDP program",
        ),
    ] {
        let found = refused(&body, new);
        assert!(found.contains(says), "{body}: {found}");
    }
    for (at, kernel, says) in [
        ("xdp:eth0", KernelVersion(5, 15, 0), "`xdp` needs Linux 5.18, and this is 5.15"),
        ("tc:eth0:ingress", KernelVersion(6, 1, 0), "`tc` needs Linux 6.6, and this is 6.1"),
        ("cgroup_skb:/:ingress", KernelVersion(5, 4, 0), "`cgroup_skb` needs Linux 5.10, and this is 5.4"),
    ] {
        let found = refused(&value(at, "args.len"), kernel);
        assert!(found.contains(says), "{at}: {found}");
        assert_eq!(refused(&value(at, "args.len"), new), "", "{at}");
    }
}

/// A place in a packet that is kept is a number for the next packet, at which it is another place.
#[test]
fn places_are_of_one_packet() {
    let world = World::new();
    let head = "    start: { at: \"tc:eth0:ingress\", key: 1, save: { place: args.transport } }\n    end: { at: \"rawtracepoint:test:untyped\", key: 1 }\n";
    let one = |value: &str| compile(&Frame { head: head.into() }, &[value.to_owned()], &target(&world));
    assert!(one("start.place").is_ok());
    let error = one("((struct node *)start.place).big");
    // It is an address of memory there, as any number.
    assert!(error.is_ok(), "{error:?}");
    let program = error.unwrap().program;
    let calls = |helper| program.codes[1].assembled.insns.contains(&Insn::Call(helper));
    assert!(calls(Helper::ReadUser) && !calls(Helper::SkbLoadBytes));
}
