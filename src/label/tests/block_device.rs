//! Names of block devices.

use super::super::block_device::{BlockDeviceDecoder, BlockPathDecoder};
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
    let mut decoder = BlockDeviceDecoder::new(&fixture.host()).expect("links are there");
    for (device, expected) in [
        (device(8, 0), "sda"),
        (device(8, 17), "sdb1"),
        (device(104, 0), "cciss/c0d0"),
        (device(259, 1_048_575), "nvme0n1"),
        (device(0, 0), "none"),
        (device(0, 38), "0:38"),
        (device(9, 9), "9:9"),
        (u64::MAX, "4095:1048575"),
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
    let mut decoder = BlockDeviceDecoder::new(&fixture.host()).expect("links are there");
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
    // It counted the first disk, and has to leave the map.
    assert_eq!((text(&mut decoder, sdb).as_str(), is_gone(&mut decoder, sdb)), ("sdb", true));
    decoder.forget_gone();
    assert_eq!((text(&mut decoder, sdb).as_str(), is_gone(&mut decoder, sdb)), ("vdb", false));
}

fn is_gone(decoder: &mut BlockDeviceDecoder, number: u64) -> bool {
    decoder.is_gone(&number.to_le_bytes())
}

/// A disk with a sequence, and the link of its number.
fn disk(fixture: &Fixture, numbers: &str, name: &str, sequence: u64) {
    fixture.directory(&format!("sys/devices/block/{name}"));
    fixture.write(&format!("sys/devices/block/{name}/diskseq"), &format!("{sequence}\n"));
    link(fixture, numbers, &format!("../../devices/block/{name}"));
}

/// Tests both forms of values: the number alone, and number with sequence.
#[test]
fn a_number_is_used_again() {
    let fixture = Fixture::new();
    let loop0 = device(7, 0);
    let with = |sequence: u64| sequence << 32 | loop0;
    let mut decoder = BlockDeviceDecoder::new(&fixture.host()).expect("links are there");
    disk(&fixture, "7:0", "loop0", 5);
    let says = |decoder: &mut BlockDeviceDecoder, value| (text(decoder, value), is_gone(decoder, value));
    let loop0_is = |gone| ("loop0".to_owned(), gone);
    assert_eq!(says(&mut decoder, loop0), loop0_is(false));
    assert_eq!(says(&mut decoder, with(5)), loop0_is(false));
    // Another file in the same device: the name is the same, the disk is another.
    disk(&fixture, "7:0", "loop0", 7);
    decoder.look();
    assert_eq!(says(&mut decoder, loop0), loop0_is(true));
    assert_eq!(says(&mut decoder, with(5)), loop0_is(true));
    assert_eq!(says(&mut decoder, with(7)), loop0_is(false));
    decoder.forget_gone();
    assert_eq!(says(&mut decoder, loop0), loop0_is(false), "from now on it is the new disk's");
    assert_eq!(says(&mut decoder, with(5)), loop0_is(true), "late ends of it leave again");
    // A disk that came and went between two checks, by its first value.
    disk(&fixture, "7:0", "loop0", 1 << 32 | 9);
    assert_eq!(says(&mut decoder, with(9)), loop0_is(false));
    assert_eq!(says(&mut decoder, with(7)), loop0_is(true));
    assert_eq!(says(&mut decoder, loop0), loop0_is(true));
    // A disk whose name was never known.
    assert_eq!(says(&mut decoder, with(8)), ("7:0".to_owned(), true));
    decoder.forget_gone();
    // Gone: a value with a sequence leaves the map, a value without stays until another disk has the number.
    unlink(&fixture, "7:0");
    decoder.look();
    assert_eq!(says(&mut decoder, with(9)), loop0_is(true));
    assert_eq!(says(&mut decoder, loop0), loop0_is(false));
    // An unknown number.
    assert_eq!(says(&mut decoder, 3 << 32 | device(259, 9)), ("259:9".to_owned(), false));
}

/// A name is the disk's that has it now; a loop device without a file, or a name that nobody has, leaves it to the last.
#[test]
fn a_name_has_an_heir() {
    let fixture = Fixture::new();
    let decoder = BlockDeviceDecoder::new(&fixture.host()).expect("links are there");
    for (file, size) in [("dm-3", "65536\n"), ("loop0", "0\n"), ("cciss!c0d0", "8\n")] {
        fixture.directory(&format!("sys/class/block/{file}"));
        fixture.write(&format!("sys/class/block/{file}/size"), size);
    }
    let heirs = ["dm-3", "loop0", "cciss/c0d0", "dm-4", "~gone"].map(|name| decoder.has_heir(name));
    assert_eq!(heirs, [true, false, true, false, false]);
}

/// A hidden disk of `NVMe` multipath, or the disk that its paths lead to.
fn nvme(fixture: &Fixture, name: &str, hidden: bool, sequence: Option<u64>) {
    let directory = format!("sys/block/{name}");
    fixture.directory(&directory);
    fixture.write(&format!("{directory}/hidden"), if hidden { "1\n" } else { "0\n" });
    if let Some(sequence) = sequence {
        fixture.write(&format!("{directory}/diskseq"), &format!("{sequence}\n"));
    }
}

#[test]
fn a_hidden_path_is_shown_as_its_disk_and_as_the_path() {
    let fixture = Fixture::new();
    nvme(&fixture, "nvme0n1", false, Some(4));
    link(&fixture, "259:1", "../../block/nvme0n1");
    nvme(&fixture, "nvme0c0n1", true, Some(5));
    nvme(&fixture, "nvme0c1n1", true, Some(1 << 32 | 6));
    // A path whose disk has no directory, and a hidden disk of another kind.
    nvme(&fixture, "nvme9c0n1", true, Some(7));
    nvme(&fixture, "odd0", true, Some(8));
    let (mut decoder, mut path) = (
        BlockDeviceDecoder::new(&fixture.host()).expect("links are there"),
        BlockPathDecoder::new(&fixture.host()).expect("links are there"),
    );
    let with = |sequence: u64, minor| sequence << 32 | device(259, minor);
    for (value, expected) in [
        (with(4, 1), ("nvme0n1", "")),
        (with(5, 0), ("nvme0n1", "nvme0c0n1")),
        (with(6, 2), ("nvme0n1", "nvme0c1n1")),
        (with(7, 3), ("nvme9c0n1", "")),
        (with(8, 4), ("odd0", "")),
        (with(99, 5), ("259:5", "")),
        // A number alone names the disk that has it.
        (device(259, 2), ("nvme0n1", "nvme0c1n1")),
        (device(259, 6), ("259:6", "")),
        (0, ("none", "")),
    ] {
        let found = (text(&mut decoder, value), text(&mut path, value));
        assert_eq!((found.0.as_str(), found.1.as_str()), expected, "{value:#x}");
        assert!(!is_gone(&mut decoder, value), "{value:#x}");
    }
    // A path that is gone keeps its names, and its counts stay with the disk.
    fs::remove_dir_all(fixture.path("sys/block/nvme0c1n1")).expect("it is there");
    decoder.look();
    path.look();
    assert_eq!(
        (text(&mut decoder, with(6, 2)).as_str(), is_gone(&mut decoder, with(6, 2))),
        ("nvme0n1", false)
    );
    assert_eq!(text(&mut path, with(6, 2)), "nvme0c1n1");
    // Another path has its number.
    nvme(&fixture, "nvme0c2n1", true, Some(9));
    decoder.look();
    path.look();
    assert_eq!(
        (text(&mut decoder, with(9, 2)), text(&mut path, with(9, 2))),
        ("nvme0n1".into(), "nvme0c2n1".into())
    );
    assert!(is_gone(&mut decoder, with(6, 2)) && !is_gone(&mut decoder, with(9, 2)));
    assert_eq!(text(&mut path, with(6, 2)), "nvme0c1n1");
    // The disk and all its paths go.
    for name in ["nvme0c0n1", "nvme0c2n1", "nvme0n1"] {
        fs::remove_dir_all(fixture.path(&format!("sys/block/{name}"))).expect("it is there");
    }
    decoder.look();
    assert!(is_gone(&mut decoder, with(5, 0)) && is_gone(&mut decoder, with(9, 2)));
    assert_eq!(text(&mut decoder, with(5, 0)), "nvme0n1");
}

/// Rows of unknown disks cause a look-up every second, and there may be many disks.
#[test]
fn hidden_disks_are_listed_once_for_a_look_and_read_once() {
    let fixture = Fixture::new();
    fixture.directory("sys/kernel");
    fixture.write("sys/kernel/uevent_seqnum", "7\n");
    nvme(&fixture, "nvme0n1", false, Some(1));
    nvme(&fixture, "odd0", false, Some(2));
    let mut decoder = BlockDeviceDecoder::new(&fixture.host()).expect("links are there");
    let with = |sequence: u64| sequence << 32 | device(259, 9);
    assert_eq!(text(&mut decoder, with(3)), "259:9");
    // The next listing comes with the next check, without an event: hidden disks cause none.
    nvme(&fixture, "nvme0c0n1", true, Some(3));
    assert_eq!((text(&mut decoder, with(3)).as_str(), is_gone(&mut decoder, with(3))), ("259:9", false));
    decoder.look();
    assert_eq!(text(&mut decoder, with(3)), "nvme0n1");
    // A known disk is not read again: whether a disk is hidden never changes.
    fixture.write("sys/block/odd0/hidden", "1\n");
    decoder.look();
    assert_eq!(text(&mut decoder, with(2)), "259:9");
    // Another disk of that name.
    fs::rename(fixture.path("sys/block/odd0"), fixture.path("sys/odd0")).expect("it is there");
    nvme(&fixture, "odd0", true, Some(2));
    decoder.look();
    assert_eq!(text(&mut decoder, with(2)), "odd0");
}

#[test]
fn statistics_tell_the_number_of_a_hidden_disk() {
    let fixture = Fixture::new();
    nvme(&fixture, "nvme0n1", false, None);
    nvme(&fixture, "nvme0c0n1", true, None);
    fixture.write("proc/diskstats", " 259 1 nvme0n1 1 2 3\n 259 0 nvme0c0n1 4 5 6\n");
    let mut path = BlockPathDecoder::new(&fixture.host()).expect("links are there");
    assert_eq!(text(&mut path, device(259, 0)), "nvme0c0n1");
    assert_eq!(text(&mut path, device(259, 2)), "");
}

/// Before 5.15 there is no sequence: a device-mapper device that reuses a number has another directory.
#[test]
fn a_new_directory_is_another_disk() {
    let fixture = Fixture::new();
    let number = device(253, 3);
    let make = |name: &str| {
        fixture.directory(&format!("sys/devices/{name}"));
        link(&fixture, "253:3", &format!("../../devices/{name}"));
    };
    make("first/dm-3");
    let mut decoder = BlockDeviceDecoder::new(&fixture.host()).expect("links are there");
    assert_eq!((text(&mut decoder, number).as_str(), is_gone(&mut decoder, number)), ("dm-3", false));
    decoder.look();
    assert!(!is_gone(&mut decoder, number));
    make("second/dm-3");
    decoder.look();
    assert_eq!((text(&mut decoder, number).as_str(), is_gone(&mut decoder, number)), ("dm-3", true));
    decoder.forget_gone();
    assert!(!is_gone(&mut decoder, number));
}

#[test]
fn a_partition_has_its_disks_sequence() {
    let fixture = Fixture::new();
    let (number, with) = (device(8, 1), |sequence: u64| sequence << 32 | device(8, 1));
    fixture.directory("sys/devices/block/sda/sda1");
    fixture.write("sys/devices/block/sda/sda1/partition", "1\n");
    fixture.write("sys/devices/block/sda/diskseq", "3\n");
    link(&fixture, "8:1", "../../devices/block/sda/sda1");
    let mut decoder = BlockDeviceDecoder::new(&fixture.host()).expect("links are there");
    assert_eq!((text(&mut decoder, with(3)).as_str(), is_gone(&mut decoder, with(3))), ("sda1", false));
    assert_eq!(text(&mut decoder, number), "sda1");
    fixture.write("sys/devices/block/sda/diskseq", "4\n");
    decoder.look();
    assert!(
        is_gone(&mut decoder, with(3)) && is_gone(&mut decoder, number) && !is_gone(&mut decoder, with(4))
    );
}

#[test]
fn without_an_event_nothing_is_looked_at() {
    let fixture = Fixture::new();
    fixture.directory("sys/kernel");
    fixture.write("sys/kernel/uevent_seqnum", "7\n");
    disk(&fixture, "7:0", "loop0", 1);
    let mut decoder = BlockDeviceDecoder::new(&fixture.host()).expect("links are there");
    assert_eq!(text(&mut decoder, device(7, 0)), "loop0");
    decoder.look();
    disk(&fixture, "7:0", "loop0", 2);
    decoder.look();
    assert!(!is_gone(&mut decoder, device(7, 0)));
    fixture.write("sys/kernel/uevent_seqnum", "8\n");
    decoder.look();
    assert!(is_gone(&mut decoder, device(7, 0)));
}

#[test]
fn the_cache_is_bounded_and_forgets_the_least_recent() {
    let fixture = Fixture::new();
    let mut decoder = BlockDeviceDecoder::new(&fixture.host()).expect("links are there");
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
    let mut decoder = BlockDeviceDecoder::new(&Host::default()).expect("links are there");
    for link in links {
        let link = link.expect("readable").file_name().into_string().expect("digits");
        let (major, minor) = link.split_once(':').expect("`MAJ:MIN`");
        let number = device(major.parse().expect("digits"), minor.parse().expect("digits"));
        let name = text(&mut decoder, number);
        let dev = fs::read_to_string(format!("/sys/class/block/{}/dev", name.replace('/', "!")));
        assert_eq!(dev.expect("a device of that name").trim(), link);
    }
}
