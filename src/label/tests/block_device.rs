//! Names of block devices.

use super::super::block_device::BlockDevice;
use super::*;
use std::os::unix::fs::symlink;

fn device(major: u64, minor: u64) -> u64 {
    major << 20 | minor
}

fn link(fixture: &Fixture, numbers: &str, target: &str) {
    let path = fixture.path("sys/dev/block").join(numbers);
    let _ = fs::remove_file(&path);
    symlink(target, path).expect("a writable directory");
}

fn unlink(fixture: &Fixture, numbers: &str) {
    fs::remove_file(fixture.path("sys/dev/block").join(numbers)).expect("the link is there");
}

#[test]
fn names_come_from_the_link() {
    let fixture = Fixture::new();
    link(&fixture, "8:0", "../../devices/pci0000:00/ata1/block/sda");
    link(&fixture, "8:17", "../../devices/pci0000:00/ata2/block/sdb/sdb1");
    link(&fixture, "104:0", "../../devices/pci0000:00/cciss0/block/cciss!c0d0");
    link(&fixture, "259:1048575", "../../devices/virtual/block/nvme0n1");
    let mut decoder = BlockDevice::new(&fixture.host()).expect("links are there");
    for (device, expected) in [
        (device(8, 0), "sda"),
        (device(8, 17), "sdb1"),
        (device(104, 0), "cciss/c0d0"),
        (device(259, 1_048_575), "nvme0n1"),
        (device(0, 0), "none"),
        (device(0, 38), "0:38"),
        (device(9, 9), "9:9"),
        (u64::MAX, "17592186044415:1048575"),
    ] {
        assert_eq!(text(&mut decoder, device), expected);
    }
    assert_eq!(decoder.decode(&[]).as_deref(), Some("none"));
    assert_eq!(decoder.decode(&[0, 0, 0x80, 0]).as_deref(), Some("sda"));
}

#[test]
fn a_gone_device_keeps_its_name_until_its_number_is_reused() {
    let fixture = Fixture::new();
    let sdb = device(8, 16);
    let mut decoder = BlockDevice::new(&fixture.host()).expect("links are there");
    assert_eq!(text(&mut decoder, sdb), "8:16");
    link(&fixture, "8:16", "../../devices/block/sdb");
    assert_eq!(text(&mut decoder, sdb), "sdb");
    unlink(&fixture, "8:16");
    for _ in 0..3 {
        decoder.refresh(&Arc::default());
        assert_eq!(text(&mut decoder, sdb), "sdb");
    }
    link(&fixture, "8:16", "../../devices/block/vdb");
    // Within a scrape a name does not change.
    assert_eq!(text(&mut decoder, sdb), "sdb");
    decoder.refresh(&Arc::default());
    assert_eq!(text(&mut decoder, sdb), "vdb");
}

#[test]
fn the_cache_is_bounded_and_forgets_the_least_recent() {
    let fixture = Fixture::new();
    let mut decoder = BlockDevice::new(&fixture.host()).expect("links are there");
    decoder.limit = 2;
    for minor in 0..3 {
        link(&fixture, &format!("8:{minor}"), &format!("../block/sd{minor}"));
        decoder.refresh(&Arc::default());
        assert_eq!(text(&mut decoder, device(8, minor)), format!("sd{minor}"));
        unlink(&fixture, &format!("8:{minor}"));
    }
    assert_eq!(text(&mut decoder, device(8, 2)), "sd2");
    assert_eq!(text(&mut decoder, device(8, 1)), "sd1");
    assert_eq!(text(&mut decoder, device(8, 0)), "8:0");
}

#[test]
fn every_device_of_this_machine_has_a_name() {
    if !is_root() {
        return;
    }
    let Ok(links) = fs::read_dir("/sys/dev/block") else {
        eprintln!("skipped: no `/sys/dev/block`");
        return;
    };
    let mut decoder = BlockDevice::new(&Host::default()).expect("links are there");
    for link in links {
        let link = link.expect("readable").file_name().into_string().expect("digits");
        let (major, minor) = link.split_once(':').expect("`MAJ:MIN`");
        let number = device(major.parse().expect("digits"), minor.parse().expect("digits"));
        let name = text(&mut decoder, number);
        let dev = fs::read_to_string(format!("/sys/class/block/{}/dev", name.replace('/', "!")));
        assert_eq!(dev.expect("a device of that name").trim(), link);
    }
}
