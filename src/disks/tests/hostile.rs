//! Files that say anything, or nothing.

use super::*;
use std::{
    io::Write,
    os::unix::fs::PermissionsExt,
    process::Command,
    time::{Duration, Instant},
};

const DEVICE: &str = "pci0000:00/0000:00:05.0/virtio2";

fn tree() -> Tree {
    let tree = Tree::new();
    tree.disk(DEVICE, "virtio", "vda", "254:0", &[]);
    tree.write(&format!("sys/devices/{DEVICE}/block/vda/serial"), "first");
    tree.disk("pci0000:00/0000:00:06.0/virtio3", "virtio", "vdb", "254:16", &[]);
    tree.write("sys/devices/pci0000:00/0000:00:06.0/virtio3/block/vdb/serial", "second");
    tree
}

#[test]
fn bytes_of_all_kinds() {
    let tree = tree();
    let serial = format!("sys/devices/{DEVICE}/block/vda/serial");
    for (bytes, expected) in [
        (&b"  a\xffb\"\\ c \n\0\0"[..], "a\\xffb\"\\ c".to_owned()),
        (b"\x1b]0;title\x07\r\nx", "\\x1b]0;title\\x07\\x0d\\x0ax".to_owned()),
        ("\u{85}\u{e9}".as_bytes(), "\\x85\u{e9}".to_owned()),
        (&[b'x'; 5000], "x".repeat(MAX_TEXT)),
        ("\u{e9}".repeat(200).as_bytes(), "\u{e9}".repeat(MAX_TEXT / 2)),
        (b"\0\0\0\0", String::new()),
        (b"", String::new()),
    ] {
        tree.write(&serial, bytes);
        assert_eq!(tree.identity("vda").serial, expected);
        assert_eq!(tree.identity("vdb").serial, "second");
    }
    // Every label of every device can be written.
    text(&DiskWatch::new(&tree.host()), &Topology::default());
}

#[test]
fn files_that_cannot_be_read() {
    let tree = tree();
    let at = tree.sys("block/vda");
    for path in ["serial", "queue/scheduler", "queue/rotational", "dev"] {
        fs::remove_file(at.join(path)).unwrap();
        fs::create_dir(at.join(path)).unwrap();
    }
    fs::set_permissions(at.join("queue"), fs::Permissions::from_mode(0o0)).unwrap();
    tree.write("udev/b254:16", b"E:ID_SERIAL=\xff\nE:\nE:=\nID_PATH=x\nE:ID_PATH=way");
    let disks = tree.read();
    let [first, second] = disks.devices() else { panic!("{disks:?}") };
    assert_eq!((first.name.as_str(), first.scheduler.as_str()), ("vda", ""));
    // What udev asked the disk for is not asked again.
    assert_eq!((second.identity.serial.as_str(), second.identity.path.as_str()), ("\\xff", "way"));
    fs::set_permissions(at.join("queue"), fs::Permissions::from_mode(0o700)).unwrap();
    for path in ["block", "kernel"] {
        fs::remove_dir_all(tree.sys(path)).unwrap();
    }
    assert_eq!(tree.read().devices(), []);
}

/// The driver of virtio asks the host for the serial number, which may never answer.
#[test]
fn a_disk_that_does_not_answer() {
    let tree = tree();
    let watch = DiskWatch::new(&tree.host());
    assert_eq!(watch.refresh().device("vda").unwrap().identity.serial, "first");
    assert_eq!(watch.age(), Duration::ZERO);
    // Another disk in its place: a new directory.
    fs::rename(tree.sys("devices").join(DEVICE), tree.sys("devices/old")).unwrap();
    fs::remove_file(tree.sys("block/vda")).unwrap();
    tree.disk(DEVICE, "virtio", "vda", "254:0", &[]);
    let pipe = tree.sys("devices").join(DEVICE).join("block/vda/serial");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    tree.write("sys/kernel/uevent_seqnum", "2\n");
    let begun = Instant::now();
    let disks = watch.refresh();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(disks.device("vda").unwrap().identity.serial, "first", "as it was");
    assert_eq!(disks.device("vdb").unwrap().identity.serial, "second");
    tree.write("sys/kernel/uevent_seqnum", "3\n");
    let begun = Instant::now();
    watch.refresh();
    assert!(begun.elapsed() < Duration::from_millis(900), "it is waited for again: {:?}", begun.elapsed());
    assert!(watch.age() >= Duration::from_secs(1), "{:?}", watch.age());
    // It answers, and from now on whoever asks: a pipe alone would answer once.
    let mut answer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    let file = pipe.with_extension("next");
    fs::write(&file, "new").unwrap();
    fs::rename(&file, &pipe).unwrap();
    answer.write_all(b"new").unwrap();
    drop(answer);
    let begun = Instant::now();
    let mut events = 4;
    while watch.refresh().device("vda").unwrap().identity.serial != "new" || watch.age() > Duration::ZERO {
        assert!(begun.elapsed() < Duration::from_mins(1));
        tree.write("sys/kernel/uevent_seqnum", format!("{events}\n"));
        events += 1;
    }
}

#[test]
fn more_devices_than_are_taken() {
    let tree = Tree::new();
    for number in 0..MAX_DEVICES + 10 {
        let name = format!("loop{number}");
        tree.write(&format!("sys/block/{name}/size"), "8\n");
    }
    assert_eq!(tree.read().devices().len(), MAX_DEVICES);
}
