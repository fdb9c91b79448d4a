//! What is told of a packet, the same at every place that packets pass: its length, its protocols, addresses and ports, and
//! where its headers begin. A program reads bytes of a packet by a helper that knows how many there are.
//!
//! Numbers are in the order of the machine, whatever the order on the wire; addresses are in that of the network.

use super::{Argument, ArgumentValue, KINDS, Missing, Parsed, PointRefusal, Resolved, Target};
use crate::{
    expr::BinaryOperator,
    glob::is_pattern,
    point::{AttachPoint, Mechanism, PacketHook},
    probe::KernelVersion,
    target::LinkLayer,
    typed::{AccessMode, Builtin, PACKET, Type, Typed, TypedKind},
};

/// Bytes of a header of Ethernet, and of a VLAN tag in it.
const ETHERNET: u32 = 14;
const TAG: u32 = 4;
/// Numbers of protocols in a header of Ethernet: `ETH_P_IP`, `ETH_P_IPV6`; `ETH_P_8021Q`, `ETH_P_8021AD`.
const IPV4: u64 = 0x0800;
const IPV6: u64 = 0x86dd;
const VLAN: [u64; 2] = [0x8100, 0x88a8];
/// Bytes of the fixed header of IPv6.
const IPV6_HEADER: u32 = 40;
/// The bits of `frag_off` that are a distance.
const FRAGMENT: u64 = 0x1fff;
/// TCP, and protocols whose header begins with two ports as its does: UDP, DCCP, SCTP, UDP-Lite.
const TCP: u64 = 6;
const WITH_PORTS: [u64; 5] = [TCP, 17, 33, 132, 136];
/// Bytes of the longest name of an interface (`IFNAMSIZ` without the NUL).
const LONGEST_NAME: usize = 15;

/// Fields of `struct __sk_buff` that programs may read at every place where packets have one: name, offset.
pub(super) const SKB: &[(&str, u32)] = &[
    ("ifindex", 40),
    ("ingress_ifindex", 36),
    ("mark", 8),
    ("priority", 32),
    ("queue_mapping", 12),
    ("pkt_type", 4),
    ("hash", 68),
    ("vlan_present", 20),
    ("vlan_tci", 24),
    ("gso_segs", 164),
];
/// `len` and `protocol` of it.
const SKB_LENGTH: u32 = 0;
const SKB_PROTOCOL: u32 = 16;

/// Whether a text can be the name of an interface.
pub(super) fn is_interface(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'))
}

/// A place and a direction, or the mistake in them; `None` if the text does not have this form.
type Directed = Option<Result<[String; 2], PointRefusal>>;

/// Refuses a pattern in an attach point, of which each takes one place.
pub(super) fn one_place(kind: &str, place: &str, what: &str, hint: String) -> Option<(String, String)> {
    is_pattern(place).then(|| (format!("`{place}` is a pattern, and `{kind}` takes one {what}"), hint))
}

/// What is said of patterns of interfaces.
pub(super) fn one_interface(kind: &str, name: &str) -> Option<(String, String)> {
    one_place(kind, name, "interface", "write an attach point for each, below `all_of`".to_owned())
}

/// The place and the direction of `PLACE:ingress` or `PLACE:egress`.
pub(super) fn directed(kind: &str, text: &str) -> Directed {
    let (place, direction) = text.rsplit_once(':')?;
    Some(match direction {
        "ingress" | "egress" => Ok([place.to_owned(), direction.to_owned()]),
        _ => {
            let both = |direction| format!("`{kind}:{place}:{direction}`");
            Err((
                format!("`{kind}` has no direction `{direction}`"),
                format!(
                    "write {} for what is received, {} for what is sent",
                    both("ingress"),
                    both("egress")
                ),
            ))
        }
    })
}

/// The parts of an attach point, if what stands before the direction is a place.
pub(super) fn checked(
    parsed: Directed,
    check: impl FnOnce(&[String; 2]) -> Option<Result<(), PointRefusal>>,
) -> Parsed {
    match parsed? {
        Err(refused) => Some(Err(refused)),
        Ok(parts) => Some(check(&parts)?.map(|()| parts.into())),
    }
}

/// Refuses a kernel that is too old for an attach point.
pub(super) fn since(
    at: &AttachPoint,
    oldest: KernelVersion,
    hint: &str,
    target: &Target<'_>,
) -> Result<(), Missing> {
    if target.kernel >= oldest {
        return Ok(());
    }
    let KernelVersion(major, minor, _) = oldest;
    let message = format!("`{}` needs Linux {major}.{minor}, and this is {}", at.kind.name, target.kernel);
    Err(Missing { message, hint: Some(hint.to_owned()) })
}

/// The attach points of an interface, and those of all cgroups.
pub fn points(interface: Option<&str>) -> Vec<AttachPoint> {
    let of = |kind: &str| KINDS.iter().find(|found| found.kind.name == kind).map(|found| &found.kind);
    let point = |(kind, parts): (&str, &[&str])| {
        Some(AttachPoint::new(of(kind)?, parts.iter().map(|part| (*part).to_owned()).collect()))
    };
    match interface {
        Some(name) => [("xdp", [name].as_slice()), ("tc", &[name, "ingress"]), ("tc", &[name, "egress"])]
            .into_iter()
            .filter_map(point)
            .collect(),
        None => [("cgroup_skb", ["/", "ingress"].as_slice()), ("cgroup_skb", &["/", "egress"])]
            .into_iter()
            .filter_map(point)
            .collect(),
    }
}

fn unsigned(bits: u8) -> Type {
    Type::Int { bits, signed: false }
}

/// An address in a packet.
fn pointer() -> Type {
    Type::Pointer { to: 0, access: AccessMode::Packet }
}

fn constant(value: u64, ty: Type) -> Typed {
    Typed::new(TypedKind::Constant(value), ty)
}

/// The place this many bytes after the beginning of the packet.
fn place(distance: u32) -> Typed {
    constant(u64::from(PACKET + distance), pointer())
}

fn number(value: Typed) -> Typed {
    Typed { ty: Type::U64, ..value }
}

fn binary(operator: BinaryOperator, left: Typed, right: Typed, ty: Type) -> Typed {
    Typed::new(TypedKind::Binary(operator, Box::new(left), Box::new(right)), ty)
}

fn choice(condition: Typed, then: Typed, otherwise: Typed) -> Typed {
    let ty = then.ty.clone();
    Typed::new(TypedKind::Conditional(Box::new(condition), Box::new(then), Box::new(otherwise)), ty)
}

/// Whether a value is one of these.
fn is_one_of(value: &Typed, numbers: &[u64]) -> Typed {
    let is =
        |number: &u64| binary(BinaryOperator::Eq, value.clone(), constant(*number, Type::S64), Type::S64);
    let joined = |all: Typed, one: Typed| binary(BinaryOperator::Or, all, one, Type::S64);
    numbers.iter().map(is).reduce(joined).unwrap_or_else(|| constant(0, Type::S64))
}

/// A number of the packet, as it stands there.
fn load(base: &Typed, offset: i32, size: u32) -> Typed {
    let node = TypedKind::Load {
        base: Box::new(base.clone()),
        offset,
        size,
        access: AccessMode::Packet,
        bits: None,
    };
    Typed::new(node, Type::integer(size, false).unwrap_or(Type::U64))
}

/// Two bytes in the order of the network, as a number.
fn load_be16(base: &Typed, offset: i32) -> Typed {
    Typed::new(TypedKind::Swap(Box::new(load(base, offset, 2))), unsigned(16))
}

/// What the header of Ethernet at the beginning says of what is behind it.
fn ethernet_protocol() -> Typed {
    load_be16(&place(ETHERNET - 2), 0)
}

/// Whether what an Ethernet interface receives begins with the header of Ethernet. It does not where an XDP program runs outside of the
/// driver: the kernel then forgets how long the header was (`mac_len`), by which it gives it back to programs of traffic control
/// (`sch_handle_ingress`). The header has the packet's protocol in its last two bytes; numbers below 1536 are the kernel's own, for frames
/// that have a length there.
fn begins_with_ethernet(protocol: &Typed) -> Typed {
    let is =
        |value: Typed, number: u64| binary(BinaryOperator::Eq, value, constant(number, Type::S64), Type::S64);
    // Bytes of a source address might look like it, and not what is behind it, too.
    let first = load(&place(ETHERNET), 0, 1);
    let version = binary(BinaryOperator::BitAnd, first, constant(0xf0, Type::S64), Type::S64);
    let of_v6 = choice(is_one_of(protocol, &[IPV6]), is(version.clone(), 0x60), constant(1, Type::S64));
    let of_ip = choice(is_one_of(protocol, &[IPV4]), is(version, 0x40), of_v6);
    let stands_there = binary(BinaryOperator::Eq, ethernet_protocol(), protocol.clone(), Type::S64);
    let is_own = binary(BinaryOperator::Lt, protocol.clone(), constant(0x600, Type::S64), Type::S64);
    choice(stands_there, of_ip, is_own)
}

/// Named expressions in their order, by which they refer to those before them.
#[derive(Default)]
struct Named(Vec<(String, Typed)>);

impl Named {
    /// Adds one; returns what stands for it.
    fn add(&mut self, name: &str, value: Typed) -> Typed {
        let ty = value.ty.clone();
        let index = self.0.len();
        self.0.push((format!("args.{name}"), value));
        Typed::new(TypedKind::Let(index), ty)
    }
}

/// The event of a packet. `layer` is what its bytes begin with, `fields` are of the context, besides length and protocol.
pub(super) fn event(
    mechanism: Mechanism,
    hook: PacketHook,
    layer: LinkLayer,
    fields: &[(&str, u32)],
) -> Resolved {
    let mut named = Named::default();
    let field = |offset, size, ty| Typed::new(TypedKind::Field { offset, size }, ty);
    let (length, protocol, network) = if hook == PacketHook::Xdp {
        let length = Typed::new(TypedKind::Builtin(Builtin::PacketLength), Type::U64);
        let first = named.add("first_protocol", ethernet_protocol());
        let tagged = named.add("is_tagged", is_one_of(&first, &VLAN));
        let inner = load_be16(&place(ETHERNET + 2), 0);
        let protocol = named.add("protocol", choice(tagged.clone(), inner, first));
        (length, protocol, choice(tagged, place(ETHERNET + TAG), place(ETHERNET)))
    } else {
        let low = Typed::new(TypedKind::Cast(Box::new(field(SKB_PROTOCOL, 4, Type::U32))), unsigned(16));
        let protocol = named.add("protocol", Typed::new(TypedKind::Swap(Box::new(low)), unsigned(16)));
        let length = field(SKB_LENGTH, 4, Type::U32);
        match (layer, hook) {
            (LinkLayer::Ethernet, PacketHook::TcIngress) => {
                let begins = named.add("begins_with_ethernet", begins_with_ethernet(&protocol));
                let whole = binary(
                    BinaryOperator::Add,
                    length.clone(),
                    constant(ETHERNET.into(), Type::S64),
                    Type::S64,
                );
                let length = choice(begins.clone(), Typed { ty: Type::S64, ..length }, whole);
                (length, protocol, choice(begins, place(ETHERNET), place(0)))
            }
            (LinkLayer::Ethernet, _) => (length, protocol, place(ETHERNET)),
            (LinkLayer::None, _) => (length, protocol, place(0)),
        }
    };
    let network =
        if matches!(network.kind, TypedKind::Constant(_)) { network } else { named.add("network", network) };
    let by_version = |v4: Typed, v6: Typed, none: Typed| {
        choice(is_one_of(&protocol, &[IPV4]), v4, choice(is_one_of(&protocol, &[IPV6]), v6, none))
    };
    let ip_protocol = named
        .add("ip_protocol", by_version(load(&network, 9, 1), load(&network, 6, 1), constant(0, unsigned(8))));
    let words = binary(BinaryOperator::BitAnd, load(&network, 0, 1), constant(0xf, Type::S64), Type::S64);
    let bytes = binary(BinaryOperator::Mul, words, constant(4, Type::S64), Type::S64);
    let behind = |distance| binary(BinaryOperator::Add, number(network.clone()), distance, pointer());
    let distance =
        binary(BinaryOperator::BitAnd, load_be16(&network, 6), constant(FRAGMENT, Type::S64), Type::S64);
    // Only the first fragment has the header.
    let is_first = binary(BinaryOperator::Eq, distance, constant(0, Type::S64), Type::S64);
    let of_v4 = choice(is_first, behind(bytes), constant(0, pointer()));
    let of_v6 = behind(constant(IPV6_HEADER.into(), Type::S64));
    let transport = named.add("transport", by_version(of_v4, of_v6, constant(0, pointer())));
    let has_ports = named.add("has_ports", is_one_of(&ip_protocol, &WITH_PORTS));
    let port = |offset| choice(has_ports.clone(), load_be16(&transport, offset), constant(0, unsigned(16)));
    let flags = choice(is_one_of(&ip_protocol, &[TCP]), load(&transport, 13, 1), constant(0, unsigned(8)));
    let address = |v4: u32, v6: i32| {
        let ty = Type::Bytes { size: 16 };
        let at = behind(constant(v4.into(), Type::S64));
        let mapped = TypedKind::MappedAt { base: Box::new(at), access: AccessMode::Packet };
        let own = TypedKind::BytesAt {
            base: Box::new(network.clone()),
            offset: v6,
            access: AccessMode::Packet,
            size: 16,
        };
        let none = TypedKind::Text(Vec::new());
        by_version(Typed::new(mapped, ty.clone()), Typed::new(own, ty.clone()), Typed::new(none, ty))
    };
    let mut arguments: Vec<(&str, &str, Typed)> = vec![
        ("len", "u32", length),
        ("protocol", "u16", protocol.clone()),
        ("ip_protocol", "u8", ip_protocol),
        ("source", "u8[16]", address(12, 8)),
        ("dest", "u8[16]", address(16, 24)),
        ("source_port", "u16", port(0)),
        ("dest_port", "u16", port(2)),
        ("tcp_flags", "u8", flags),
        ("data", "void *", place(0)),
        ("network", "void *", network.clone()),
        ("transport", "void *", transport),
    ];
    if hook != PacketHook::Xdp {
        arguments.push(("cgroup", "u64", Typed::new(TypedKind::Builtin(Builtin::PacketCgroup), Type::U64)));
    }
    arguments.extend(fields.iter().map(|(name, offset)| (*name, "u32", field(*offset, 4, Type::U32))));
    let argument = |(name, ctype, value): (&str, &str, Typed)| Argument {
        name: name.into(),
        ctype: ctype.into(),
        value: Ok(ArgumentValue::Value(value)),
    };
    let arguments = arguments.into_iter().map(argument).collect();
    Resolved { lets: named.0, ..Resolved::event(mechanism, arguments) }
}
