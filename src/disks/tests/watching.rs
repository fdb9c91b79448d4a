//! Devices over time.

use super::*;
use std::time::Instant;

const DEVICE: &str = "pci0000:00/0000:00:05.0/virtio2";

fn event(tree: &Tree, number: u32) {
    tree.write("sys/kernel/uevent_seqnum", format!("{number}\n"));
}

fn serial(watch: &DiskWatch, device: &str) -> Option<String> {
    watch.refresh().device(device).map(|device| device.identity.serial.clone())
}

fn tree() -> Tree {
    let tree = Tree::new();
    tree.disk(DEVICE, "virtio", "vda", "254:0", &[]);
    tree.write(&format!("sys/devices/{DEVICE}/block/vda/serial"), "first");
    tree
}

#[test]
fn they_are_read_when_something_happens() {
    let tree = tree();
    let watch = DiskWatch::new(&tree.host());
    let before = watch.refresh();
    tree.disk("pci0000:00/0000:00:06.0/virtio3", "virtio", "vdb", "254:16", &[]);
    assert!(Arc::ptr_eq(&before, &watch.refresh()), "no event");
    event(&tree, 2);
    assert_eq!(serial(&watch, "vdb").as_deref(), Some(""));
    let before = watch.refresh();
    event(&tree, 3);
    assert!(Arc::ptr_eq(&before, &watch.refresh()), "an event of something else");
    tree.write(&format!("sys/devices/{DEVICE}/block/vda/queue/scheduler"), "none [bfq]\n");
    event(&tree, 4);
    assert_eq!(watch.refresh().device("vda").unwrap().scheduler, "bfq");
    fs::remove_file(tree.sys("block/vdb")).unwrap();
    event(&tree, 5);
    assert_eq!(serial(&watch, "vdb"), None);
}

#[test]
fn a_disk_is_asked_once_for_its_serial_number() {
    let tree = tree();
    let watch = DiskWatch::new(&tree.host());
    assert_eq!(serial(&watch, "vda").as_deref(), Some("first"));
    tree.write(&format!("sys/devices/{DEVICE}/block/vda/serial"), "asked again");
    event(&tree, 2);
    assert_eq!(serial(&watch, "vda").as_deref(), Some("first"));
    // Another disk of this name.
    fs::rename(tree.sys("devices").join(DEVICE), tree.sys("devices/old")).unwrap();
    fs::remove_file(tree.sys("block/vda")).unwrap();
    tree.disk(DEVICE, "virtio", "vda", "254:0", &[]);
    tree.write(&format!("sys/devices/{DEVICE}/block/vda/serial"), "second");
    event(&tree, 3);
    assert_eq!(serial(&watch, "vda").as_deref(), Some("second"));
}

/// udev writes what it knows after the kernel has told of the disk.
#[test]
fn udev_comes_later() {
    let tree = tree();
    fs::create_dir(tree.path("udev")).unwrap();
    let watch = DiskWatch::new(&tree.host());
    assert_eq!(watch.refresh().device("vda").unwrap().identity.path, "pci-0000:00:05.0");
    tree.write("udev/new", "E:ID_PATH=virtio-pci-0000:00:05.0\n");
    fs::rename(tree.path("udev/new"), tree.path("udev/b254:0")).unwrap();
    let identity = watch.refresh().device("vda").unwrap().identity.clone();
    assert_eq!((identity.path.as_str(), identity.serial.as_str()), ("virtio-pci-0000:00:05.0", "first"));
}

#[test]
fn slots_come_later() {
    let tree = tree();
    let device = "pci0000:00/0000:02:00.0/host0/port-0:1/end_device-0:1/target0:0:1/0:0:1:0";
    tree.disk(device, "scsi", "sda", "8:0", &[("model", "X\n")]);
    let watch = DiskWatch::new(&tree.host());
    assert_eq!(watch.refresh().device("sda").unwrap().identity.slot, "");
    tree.write("sys/class/enclosure/e/Slot 3/slot", "3\n");
    tree.link("sys/class/enclosure/e/Slot 3/device", &format!("sys/devices/{device}"));
    event(&tree, 2);
    assert_eq!(watch.refresh().device("sda").unwrap().identity.slot, "3");
}

/// Not a limit, but what it costs is printed: `cargo test --lib costs_of_many -- --nocapture`.
#[test]
fn costs_of_many() {
    let tree = Tree::new();
    for number in 0..300_u32 {
        let device = format!(
            "pci0000:00/0000:02:00.0/host0/port-0:{number}/end_device-0:{number}/target0:0:{number}/0:0:{number}:0"
        );
        let attributes = [
            ("vendor", "SEAGATE \n"),
            ("model", "ST4000NM0034    \n"),
            ("rev", "MS2A\n"),
            ("wwid", &format!("naa.5000c500a1b2{number:04x}\n")),
        ];
        tree.disk(&device, "scsi", &format!("sd{number}"), &format!("8:{number}"), &attributes);
    }
    for number in 0..400 {
        tree.write(&format!("sys/block/loop{number}/size"), "0\n");
    }
    let watch = DiskWatch::new(&tree.host());
    let topology = Topology::default();
    let timed = |what: &str| {
        let begun = Instant::now();
        let families = watch.families(&topology);
        println!("{what}: {:?}, {} devices", begun.elapsed(), families[0].samples.len());
        families
    };
    assert_eq!(timed("first")[0].samples.len(), 300);
    timed("unchanged");
    event(&tree, 2);
    timed("an event");
    tree.write("sys/block/sd1/queue/scheduler", "none\n[bfq]\n");
    event(&tree, 3);
    let families = timed("one changed");
    let encoded = encode(families, Format::Text);
    println!("{} bytes", encoded.body.len());
}
