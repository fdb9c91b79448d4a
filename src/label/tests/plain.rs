//! Decoders that read no files.

use super::*;

fn decode(wanted: &Decoder, raw: &[u8]) -> String {
    made(wanted, &Host::default()).expect("needs no files").decode(raw).expect("shown")
}

fn table(rows: &[(i64, &str)], default: Option<&str>) -> Decoder {
    let rows = rows.iter().map(|(number, name)| (*number, (*name).to_owned())).collect();
    Decoder::Table { rows, named: Vec::new(), default: default.map(str::to_owned) }
}

#[test]
fn numbers() {
    for (value, unsigned, signed, hex) in [
        (0, "0", "0", "0x0"),
        (1, "1", "1", "0x1"),
        (u64::MAX, "18446744073709551615", "-1", "0xffffffffffffffff"),
        (1 << 63, "9223372036854775808", "-9223372036854775808", "0x8000000000000000"),
        (0xabcd, "43981", "43981", "0xabcd"),
    ] {
        let raw = value.to_le_bytes();
        assert_eq!(decode(&Decoder::Unsigned, &raw), unsigned);
        assert_eq!(decode(&Decoder::Signed, &raw), signed);
        assert_eq!(decode(&Decoder::Hex, &raw), hex);
    }
}

#[test]
fn short_and_long_numbers() {
    for (raw, unsigned, signed) in [
        (&[][..], "0", "0"),
        (&[0xff], "255", "-1"),
        (&[0x7f], "127", "127"),
        (&[0xfe, 0xff, 0xff, 0xff], "4294967294", "-2"),
        (&[1, 0, 0, 0, 0, 0, 0, 0, 9, 9], "1", "1"),
    ] {
        assert_eq!(decode(&Decoder::Unsigned, raw), unsigned, "{raw:?}");
        assert_eq!(decode(&Decoder::Signed, raw), signed, "{raw:?}");
    }
}

#[test]
fn texts() {
    for (raw, expected) in [
        (&b""[..], ""),
        (b"\0\0\0", ""),
        (b"cat", "cat"),
        (b"cat\0dog", "cat"),
        (b"a\"b\\c\n", "a\"b\\c\n"),
        ("größe\0".as_bytes(), "größe"),
        (b"\xff\xfex", "\\xff\\xfex"),
        // A character cut in two by the end of the buffer.
        (b"a\xc3", "a\\xc3"),
        (b"\xf0\x9f\x98\0\x80", "\\xf0\\x9f\\x98"),
    ] {
        assert_eq!(decode(&Decoder::Text, raw), expected, "{raw:?}");
    }
}

#[test]
fn bytes() {
    let host = Host::default();
    for (size, raw, expected) in [
        (6, &[2, 0x42, 0xac, 0x11, 0, 2, 0, 0][..], "0242ac110002"),
        (1, &[0, 0, 0, 0, 0, 0, 0, 0], "00"),
        (9, &[0xff; 16], "ffffffffffffffffff"),
        (4, &[1, 2], "0102"),
    ] {
        let mut decoder = made_of(&Decoder::Bytes, Type::Bytes { size }, &host).expect("needs no files");
        assert_eq!(decoder.decode(raw).as_deref(), Some(expected));
    }
}

#[test]
fn tables() {
    let open = table(&[(0, "read"), (1, "write"), (-1, "none")], None);
    let closed = table(&[(0, "read")], Some("other"));
    for (spec, value, expected) in [
        (&open, 0i64, "read"),
        (&open, 1, "write"),
        (&open, -1, "none"),
        (&open, 2, "2"),
        (&open, -2, "-2"),
        (&open, i64::MIN, "-9223372036854775808"),
        (&closed, 0, "read"),
        (&closed, 1, "other"),
        (&closed, -1, "other"),
        (&closed, i64::MAX, "other"),
    ] {
        assert_eq!(decode(spec, &value.to_le_bytes()), expected);
    }
    assert_eq!(decode(&closed, &[]), "read");
}

#[test]
fn errnos() {
    for (value, expected) in [
        (0i64, "ok"),
        (1, "EPERM"),
        (-2, "ENOENT"),
        (2, "ENOENT"),
        (-11, "EAGAIN"),
        (-35, "EDEADLK"),
        (-41, "-41"),
        (58, "58"),
        (-95, "EOPNOTSUPP"),
        (-110, "ETIMEDOUT"),
        (-133, "EHWPOISON"),
        (-134, "-134"),
        (-512, "ERESTARTSYS"),
        (4096, "4096"),
        (i64::MIN, "-9223372036854775808"),
    ] {
        assert_eq!(decode(&Decoder::Errno, &value.to_le_bytes()), expected);
    }
    assert_eq!(decode(&Decoder::Errno, &(-2i32).to_le_bytes()), "ENOENT");
}

#[test]
fn every_errno_has_one_name() {
    let names: Vec<_> = (1..=133i64).map(|n| decode(&Decoder::Errno, &n.to_le_bytes())).collect();
    let unnamed: Vec<_> = names.iter().filter(|name| !name.starts_with('E')).collect();
    assert_eq!(unnamed, ["41", "58"]);
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
}

#[test]
fn a_machine_without_the_files_is_an_error() {
    let fixture = Fixture::new();
    let empty = Host { proc: fixture.path("none"), sys: fixture.path("none"), ..fixture.host() };
    for wanted in [Decoder::BlockDevice, Decoder::Ksym] {
        let error = made(&wanted, &empty).err().expect("nothing is there");
        assert!(matches!(error, LabelError::Host(HostError::Unreadable { .. })), "{error}");
    }
}

#[test]
fn addresses() {
    let host = Host::default();
    let socket = |family: u8, rest: &[u8]| {
        let mut bytes = vec![family, 0, 0x01, 0xbb];
        bytes.extend(rest);
        bytes.resize(32, 0);
        bytes
    };
    let six = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7];
    let behind_flow = |address: &[u8]| [&[0; 4][..], address].concat();
    for (ty, raw, expected) in [
        (Type::U32, vec![192, 0, 2, 7, 0, 0, 0, 0], "192.0.2.7"),
        (Type::Bytes { size: 4 }, vec![192, 0, 2, 7, 0, 0, 0, 0], "192.0.2.7"),
        (Type::Bytes { size: 4 }, vec![0; 8], "0.0.0.0"),
        (Type::Bytes { size: 16 }, six.to_vec(), "2001:db8::1"),
        (Type::Bytes { size: 16 }, vec![0; 16], "::"),
        (Type::Bytes { size: 16 }, mapped.to_vec(), "192.0.2.7"),
        // A NUL inside does not end it, as it did where bytes were a text.
        (Type::Bytes { size: 16 }, vec![0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], "fe80::9"),
        (Type::Bytes { size: 28 }, socket(2, &[192, 0, 2, 7]), "192.0.2.7"),
        (Type::Bytes { size: 28 }, socket(10, &behind_flow(&six)), "2001:db8::1"),
        (Type::Bytes { size: 28 }, socket(10, &behind_flow(&mapped)), "192.0.2.7"),
        (Type::Bytes { size: 28 }, socket(1, b"/run/x"), "~none"),
        (Type::Bytes { size: 28 }, Vec::new(), "~none"),
    ] {
        let mut decoder = made_of(&Decoder::Ip, ty.clone(), &host).expect("needs no files");
        assert_eq!(decoder.decode(&raw).as_deref(), Some(expected), "{ty:?} {raw:?}");
    }
    // The number that the program computed, against the address that the standard library writes.
    for octets in [[127, 0, 0, 1], [255, 255, 255, 255], [10, 1, 2, 3]] {
        let number = u32::from_ne_bytes(octets);
        assert_eq!(
            decode(&Decoder::Ip, &u64::from(number).to_le_bytes()),
            std::net::Ipv4Addr::from(octets).to_string()
        );
    }
}

#[test]
fn ports_cards_and_identifiers() {
    assert_eq!(decode(&Decoder::Port, &u64::from(443_u16.to_be()).to_le_bytes()), "443");
    assert_eq!(decode(&Decoder::Port, &[]), "0");
    let host = Host::default();
    let mut card = made_of(&Decoder::Mac, Type::Bytes { size: 6 }, &host).expect("needs no files");
    assert_eq!(card.decode(&[2, 0x42, 0xac, 0x11, 0, 2, 0, 0]).as_deref(), Some("02:42:ac:11:00:02"));
    let mut identifier = made_of(&Decoder::Uuid, Type::Bytes { size: 16 }, &host).expect("needs no files");
    let raw: Vec<u8> = (0..16).map(|byte| byte * 0x11).collect();
    assert_eq!(identifier.decode(&raw).as_deref(), Some("00112233-4455-6677-8899-aabbccddeeff"));
}

#[test]
fn flags() {
    let rows = |rows: &[(i64, &str)]| {
        let rows = rows.iter().map(|(bits, name)| (*bits, (*name).to_owned())).collect();
        Decoder::Flags { rows, named: Vec::new(), of: None }
    };
    let open = rows(&[(0, "RDONLY"), (1, "WRONLY"), (2, "RDWR"), (0x40, "CREAT"), (0x200, "TRUNC")]);
    let parts = rows(&[(1, "a"), (2, "b"), (3, "both"), (8, "d"), (i64::MIN, "top")]);
    for (spec, value, expected) in [
        (&open, 0u64, "RDONLY"),
        (&open, 0x241, "WRONLY|CREAT|TRUNC"),
        (&open, 0x1_0002, "RDWR|0x10000"),
        (&open, 0x8000, "0x8000"),
        (&parts, 0, "none"),
        (&parts, 3, "both"),
        (&parts, 11, "both|d"),
        (&parts, 9, "a|d"),
        (&parts, 1 << 63 | 2, "b|top"),
    ] {
        assert_eq!(decode(spec, &value.to_le_bytes()), expected);
    }
}

#[test]
fn regular_expressions() {
    let of = |rows: &[(&str, Option<&str>)]| {
        let rows =
            rows.iter().map(|(pattern, text)| ((*pattern).to_owned(), text.map(str::to_owned))).collect();
        Decoder::Regexp { rows, default: "~other".into() }
    };
    let programs = of(&[
        (r"kworker/.*", Some("kworker")),
        (r"(?<name>postgres|mysqld)(:.*)?", Some("db ${name}")),
        (r"jbd2/(\w+)-\d+", Some("journal of $1, $$1")),
        ("nginx", None),
    ]);
    for (text, expected) in [
        (&b"kworker/u8:1"[..], "kworker"),
        (b"kworker", "~other"),
        (b"postgres: wal", "db postgres"),
        (b"mysqld\0postgres", "db mysqld"),
        (b"jbd2/vda1-8", "journal of vda1, $1"),
        (b"nginx", "nginx"),
        // The whole text, as in Prometheus.
        (b"nginx2", "~other"),
        (b"", "~other"),
        (b"kworker/\n\xff", "kworker"),
    ] {
        assert_eq!(decode(&programs, text), expected, "{text:?}");
    }
}

#[test]
fn numbers_with_names() {
    use tapster_ebpf::probe::NumberNames::{Capability, Signal, Softirq, TcpState};
    for (names, value, expected) in [
        (Signal, 0i64, "none"),
        (Signal, i64::from(libc::SIGKILL), "SIGKILL"),
        (Signal, i64::from(libc::SIGSTKFLT), "SIGSTKFLT"),
        (Signal, i64::from(libc::SIGCHLD), "SIGCHLD"),
        (Signal, i64::from(libc::SIGSYS), "SIGSYS"),
        (Signal, 32, "32"),
        (Signal, -9, "-9"),
        (Softirq, 0, "HI"),
        (Softirq, 10, "10"),
        (TcpState, 0, "0"),
        (TcpState, 1, "ESTABLISHED"),
        (TcpState, 11, "CLOSING"),
        (TcpState, 14, "14"),
        (Capability, 0, "CAP_CHOWN"),
        (Capability, 21, "CAP_SYS_ADMIN"),
        (Capability, 40, "CAP_CHECKPOINT_RESTORE"),
        (Capability, 41, "41"),
    ] {
        assert_eq!(decode(&Decoder::Names(names), &value.to_le_bytes()), expected, "{names:?} {value}");
    }
}

/// The kernel's own list of soft interrupts, in the order of their numbers.
#[test]
fn softirqs_are_those_of_the_kernel() {
    use tapster_ebpf::probe::NumberNames::Softirq;
    let text = fs::read_to_string("/proc/softirqs").expect("every Linux has it");
    let names: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    assert!(names.len() >= 10, "{text}");
    for (number, name) in names.iter().enumerate() {
        let number = u64::try_from(number).expect("some");
        assert_eq!(decode(&Decoder::Names(Softirq), &number.to_le_bytes()), *name);
    }
}
