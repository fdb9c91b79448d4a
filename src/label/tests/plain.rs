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
