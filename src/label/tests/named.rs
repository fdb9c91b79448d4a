//! Names from files of the host: users, and makers, devices and classes of PCI.

use super::super::{pci::PciDecoder, user::UserDecoder};
use super::*;
use std::process::Command;
use tapster_ebpf::probe::PciPart;

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
toor:x:0:0:again:/root:/bin/sh
ann:x:1000:1000::/home/ann:/bin/sh
+@staff::::::
# a remark:x:7:
:x:8:8::/:
big:x:4294967296:0::/:
nobody:x:65534:65534:nobody:/:/bin/false
short:x
b\u{f6}rn:x:1001:1001::/:/bin/sh
last:x:4294967294:1::/:";

/// In the form of the list, with names of the test's own.
const PCI_IDS: &str = "\
# A list of names.

8086  First Maker
\t1237  A Bridge [with brackets]
\t\t1af4 1100  A machine with that bridge
\t7000  Another Bridge
1af4  Second Maker
\t1237  A Card
\t1000
ffff  

C 02  Network controller
\t00  Ethernet controller
\t80  Network controller of another kind
C 0c  Serial bus controller
\t03  USB controller
\t\t30  XHCI
";

impl Fixture {
    /// A host whose root is a directory.
    fn rooted(&self) -> Host {
        for directory in ["root/etc", "root/usr/share/misc", "root/usr/share/hwdata"] {
            self.directory(directory);
        }
        Host { root: Some(self.path("root")), ..self.host() }
    }
}

#[test]
fn users_by_number() {
    let fixture = Fixture::new();
    let host = fixture.rooted();
    assert!(UserDecoder::new(&host).is_err(), "there is no such file");
    fixture.write("root/etc/passwd", PASSWD);
    let mut decoder = UserDecoder::new(&host).expect("it is there");
    for (value, expected) in [
        (0, "root"),
        (1000, "ann"),
        (1001, "b\u{f6}rn"),
        (65534, "nobody"),
        (4_294_967_294, "last"),
        (7, "7"),
        (8, "8"),
        // No user: -1 in 32 and in 64 bits.
        (4_294_967_295, "4294967295"),
        (u64::MAX, "4294967295"),
    ] {
        assert_eq!(text(&mut decoder, value), expected, "{value}");
    }
}

#[test]
fn users_of_a_container_are_not_the_host_s() {
    let fixture = Fixture::new();
    // The root of process 1 is not to be seen.
    assert_eq!(fixture.host().passwd(), fixture.path("proc/1/root/etc/passwd"));
    assert!(!fixture.host().reads_root_alone() && UserDecoder::new(&fixture.host()).is_err());
    fixture.directory("proc/1/root/etc");
    fixture.write("proc/1/root/etc/passwd", PASSWD);
    let host = fixture.host().rooted();
    assert_eq!(host.root, Some(fixture.path("proc/1/root")));
    assert_eq!(text(&mut UserDecoder::new(&host).expect("it is there"), 1000), "ann");
    let own = Host { proc: "/proc".into(), root: None, ..fixture.host() };
    assert!(own.passwd().ends_with("etc/passwd"), "{:?}", own.passwd());
}

#[test]
fn a_file_that_is_none_does_no_harm() {
    let fixture = Fixture::new();
    let host = fixture.rooted();
    let bytes: Vec<u8> =
        (0..100_000_u32).map(|place| (place.wrapping_mul(place) >> 7).to_le_bytes()[0]).collect();
    let long = format!("{}:x:5:5\n::::\n:::\nx\n{}:x:6:6", "a".repeat(257), "b".repeat(256));
    for (text_of, five, six) in [(bytes, "5", "6".to_owned()), (long.into_bytes(), "5", "b".repeat(256))] {
        fs::write(fixture.path("root/etc/passwd"), text_of).expect("a writable directory");
        let mut decoder = UserDecoder::new(&host).expect("it can be read");
        assert_eq!((text(&mut decoder, 5), text(&mut decoder, 6)), (five.to_owned(), six));
    }
}

#[test]
fn users_come_and_go() {
    let fixture = Fixture::new();
    let host = fixture.rooted();
    fixture.write("root/etc/passwd", PASSWD);
    let mut decoder = UserDecoder::new(&host).expect("it is there");
    // As `useradd` does it.
    let with_ben = PASSWD.replace("ann:x:1000", "ben:x:1002");
    fixture.write("root/etc/passwd+", &with_ben);
    fs::rename(fixture.path("root/etc/passwd+"), fixture.path("root/etc/passwd")).expect("one directory");
    assert_eq!(text(&mut decoder, 1002), "1002", "until the next scrape");
    decoder.refresh(&Arc::default());
    assert_eq!((text(&mut decoder, 1000), text(&mut decoder, 1002)), ("1000".into(), "ben".into()));
    // For a moment there is none.
    fs::remove_file(fixture.path("root/etc/passwd")).expect("it is there");
    decoder.refresh(&Arc::default());
    assert_eq!(text(&mut decoder, 1002), "ben");
    fixture.write("root/etc/passwd", PASSWD);
    decoder.refresh(&Arc::default());
    assert_eq!((text(&mut decoder, 1000), text(&mut decoder, 1002)), ("ann".into(), "1002".into()));
}

/// As the C library has them.
#[test]
fn users_are_those_of_this_host() {
    let mut decoder =
        UserDecoder::new(&Host { root: Some("/".into()), ..Host::default() }).expect("every host has users");
    for number in [0_u64, 1, 2, 65534] {
        let Ok(output) = Command::new("getent").args(["passwd", &number.to_string()]).output() else {
            return eprintln!("skipped: needs `getent`");
        };
        if output.status.success() {
            let line = String::from_utf8(output.stdout).expect("names are text");
            let (name, _) = line.split_once(':').expect("fields");
            assert_eq!(text(&mut decoder, number), name, "{line}");
        }
    }
}

fn pci(host: &Host, part: PciPart) -> PciDecoder {
    PciDecoder::new(host, part).expect("the file may be read")
}

#[test]
fn names_of_pci() {
    let fixture = Fixture::new();
    let host = fixture.rooted();
    fixture.write("root/usr/share/hwdata/pci.ids", PCI_IDS);
    for (part, value, expected) in [
        (PciPart::Vendor, 0x8086, "First Maker"),
        (PciPart::Vendor, 0x1af4, "Second Maker"),
        // A device, a machine's maker and a class are no makers, and neither is a number without a name.
        (PciPart::Vendor, 0x1237, "0x1237"),
        (PciPart::Vendor, 0xffff, "0xffff"),
        (PciPart::Vendor, 0, "0x0000"),
        (PciPart::Vendor, 0x1_8086, "0x18086"),
        (PciPart::Device, 0x8086_1237, "A Bridge [with brackets]"),
        (PciPart::Device, 0x8086_7000, "Another Bridge"),
        (PciPart::Device, 0x1af4_1237, "A Card"),
        (PciPart::Device, 0x1af4_7000, "1af4:7000"),
        (PciPart::Device, 0x1af4_1000, "1af4:1000"),
        (PciPart::Device, 0x8086, "0000:8086"),
        (PciPart::Class, 0x02_00_00, "Network controller"),
        (PciPart::Class, 0x0c_03_30, "Serial bus controller"),
        (PciPart::Class, 0xff_00_00, "0xff"),
        (PciPart::Class, 0x8086, "0x00"),
        (PciPart::Subclass, 0x02_00_00, "Ethernet controller"),
        (PciPart::Subclass, 0x02_80_01, "Network controller of another kind"),
        (PciPart::Subclass, 0x0c_03_30, "USB controller"),
        (PciPart::Subclass, 0x02_07_00, "0x0207"),
        (PciPart::Subclass, 0xff_00_00, "0xff00"),
    ] {
        assert_eq!(text(&mut pci(&host, part), value), expected, "{part:?} {value:#x}");
    }
}

#[test]
fn the_first_list_counts_and_a_name_stays() {
    let fixture = Fixture::new();
    let host = fixture.rooted();
    let mut without = pci(&host, PciPart::Vendor);
    assert_eq!(text(&mut without, 0x0bad), "0x0bad", "no list has it, if there is one beside this test");
    fixture.write("root/usr/share/hwdata/pci.ids", "0bad  A Maker\n0bae  Another\n");
    fixture.write("root/usr/share/misc/pci.ids", "0bad  Other Maker\n0baf  Third Maker\n");
    assert_eq!(text(&mut without, 0x0bad), "0x0bad");
    let mut decoder = pci(&host, PciPart::Vendor);
    assert_eq!(
        (text(&mut decoder, 0x0bad), text(&mut decoder, 0x0bae)),
        ("Other Maker".into(), "0x0bae".into())
    );
    fs::remove_file(fixture.path("root/usr/share/misc/pci.ids")).expect("it is there");
    assert_eq!(
        (text(&mut decoder, 0x0bad), text(&mut decoder, 0x0baf)),
        ("Other Maker".into(), "0x0baf".into())
    );
}

#[test]
fn a_list_that_is_none_does_no_harm() {
    let fixture = Fixture::new();
    let host = fixture.rooted();
    let long = format!("8086  {}\n", "\u{e4}".repeat(300));
    for (list, expected) in [
        ("", "0x8086".to_owned()),
        ("8086", "0x8086".into()),
        ("8086 One space", "0x8086".into()),
        ("\t8086  Below nothing", "0x8086".into()),
        ("8086  Without an end", "Without an end".into()),
        (long.as_str(), "\u{e4}".repeat(100)),
    ] {
        fixture.write("root/usr/share/misc/pci.ids", list);
        assert_eq!(text(&mut pci(&host, PciPart::Vendor), 0x8086), expected, "{list:?}");
    }
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    fs::write(fixture.path("root/usr/share/misc/pci.ids"), bytes).expect("a writable directory");
    assert_eq!(text(&mut pci(&host, PciPart::Device), 0x8086_1237), "8086:1237");
    // Numbers beyond the limit are not looked up.
    fixture.write("root/usr/share/misc/pci.ids", PCI_IDS);
    let mut decoder = pci(&host, PciPart::Vendor);
    for number in 0x1_0000..0x1_0400 {
        text(&mut decoder, number);
    }
    assert_eq!(text(&mut decoder, 0x8086), "0x8086");
}
