//! What devices are made of, and which are shown.

use super::*;

fn disk(tree: &Tree, name: &str, numbers: &str, serial: &str) {
    let device = format!("pci0000:00/0000:00:0{}.0/virtio0", numbers.len() + serial.len() % 3);
    let device = format!("{device}-{name}");
    tree.disk(&device, "virtio", name, numbers, &[]);
    tree.write(&format!("sys/devices/{device}/block/{name}/serial"), serial);
}

/// Volumes on an array on partitions of disks, an encrypted device on one disk, a loop device, an array of it.
fn layers() -> Tree {
    let tree = Tree::new();
    for (name, numbers, serial) in
        [("sda", "8:0", "A"), ("sdb", "8:16", "B"), ("sdc", "8:32", "C"), ("sdd", "8:48", "C")]
    {
        disk(&tree, name, numbers, serial);
    }
    tree.partition("sda", "sda1", &["md0"]);
    tree.partition("sda", "sda2", &[]);
    tree.partition("sdb", "sdb1", &["md0"]);
    tree.partition("sdb", "sdb2", &["dm-1"]);
    tree.on("md0", "9:0", "md", &["sdb1", "sda1"]);
    tree.on("dm-0", "253:0", "dm", &["md0"]);
    tree.on("dm-1", "253:1", "dm", &["sdb2"]);
    tree.on("dm-2", "253:2", "dm", &["dm-1"]);
    tree.on("dm-10", "253:10", "dm", &["sdc", "sdd"]);
    tree.on("dm-11", "253:11", "dm", &[]);
    tree.on("loop0", "7:0", "", &[]);
    tree.write("sys/devices/virtual/block/loop0/loop/backing_file", "/var/lib/disk \"one\".img\n");
    tree.on("loop1", "7:1", "", &[]);
    tree.write("sys/devices/virtual/block/loop1/size", "0\n");
    tree.on("md1", "9:1", "md", &["loop0"]);
    tree.on("zram0", "252:0", "", &[]);
    tree.on("nbd0", "43:0", "", &[]);
    tree.write("sys/devices/virtual/block/nbd0/size", "0\n");
    tree
}

#[test]
fn the_disk_at_the_bottom() {
    let disks = layers().read();
    let found: Vec<(&str, &str, &str, &str)> = disks
        .devices()
        .iter()
        .map(|device| {
            (device.name.as_str(), device.kind.name(), device.disk.as_str(), device.identity.serial.as_str())
        })
        .collect();
    assert_eq!(
        found,
        [
            ("dm-0", "dm", "", ""),
            ("dm-1", "dm", "sdb", "B"),
            ("dm-2", "dm", "sdb", "B"),
            // Two paths to one disk.
            ("dm-10", "dm", "sdc", "C"),
            ("dm-11", "dm", "", ""),
            ("loop0", "loop", "loop0", ""),
            ("md0", "md", "", ""),
            ("md1", "md", "loop0", ""),
            ("sda", "disk", "sda", "A"),
            ("sda1", "partition", "sda", "A"),
            ("sdb", "disk", "sdb", "B"),
            ("sdb1", "partition", "sdb", "B"),
            ("sdb2", "partition", "sdb", "B"),
            ("sdc", "disk", "sdc", "C"),
            ("sdd", "disk", "sdd", "C"),
            ("zram0", "virtual", "zram0", ""),
        ]
    );
}

#[test]
fn families_of_devices() {
    let tree = layers();
    fs::write(tree.sys("block/dm-1/dm/name"), "vg-lv\n").unwrap();
    fs::write(tree.sys("block/dm-1/dm/uuid"), "LVM-abc\n").unwrap();
    // A volume without a table yet.
    tree.on("dm-20", "253:20", "dm", &[]);
    fs::write(tree.sys("block/dm-20/size"), "0\n").unwrap();
    fs::write(tree.sys("block/dm-20/dm/name"), "new\n").unwrap();
    let topology = crate::topology::Watch::new(&tree.host()).refresh();
    let watch = DiskWatch::new(&tree.host());
    let found = text(&watch, &topology);
    for line in [
        r#"tapster_block_device_info{device="dm-1",kind="lvm",name="vg-lv",disk="sdb",model="",vendor="",serial="B",wwn="",revision="",path="pci-0000:00:05.0",transport="virtio",enclosure="",slot="",rotational="0",scheduler="none",group=""} 1"#,
        r#"tapster_block_device_info{device="dm-20",kind="dm",name="new",disk="",model="",vendor="",serial="",wwn="",revision="",path="",transport="",enclosure="",slot="",rotational="",scheduler="",group=""} 1"#,
        r#"tapster_block_device_backing_info{device="md0",backing_device="sda1",backing_file=""} 1"#,
        r#"tapster_block_device_backing_info{device="dm-0",backing_device="md0",backing_file=""} 1"#,
        r#"tapster_block_device_backing_info{device="loop0",backing_device="",backing_file="/var/lib/disk \"one\".img"} 1"#,
    ] {
        assert!(found.lines().any(|known| known == line), "{line}\nis not in\n{found}");
    }
    assert_eq!(found.lines().filter(|line| line.starts_with("tapster_block_device_info{")).count(), 17);
    assert_eq!(found.lines().count(), 17 + 9);
    assert_eq!(text(&watch, &topology), found);
    assert_eq!(watch.families(&Topology::default())[0].samples.len(), 16, "names that went");
}

#[test]
fn groups_of_the_site() {
    let tree = layers();
    disk(&tree, "nvme0n1", "259:0", "D");
    fs::write(tree.sys("block/dm-1/dm/name"), "osd-block\n").unwrap();
    let declared = "device_groups:\n- { group: osd, device: \"sd[b-c]\", serial: [B, X*] }\n- { group: fast, model: \"*\" }\n\
                    - { group: rest, transport: virtio }\n- { group: volumes, name: [\"osd-*\"] }\n";
    let (file, diagnostics) =
        tapster_ebpf::declaration::parse(&tapster_ebpf::diagnostic::SourceFile::new("t", declared));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let watch = DiskWatch::new(&tree.host());
    let topology = crate::topology::Watch::new(&tree.host()).refresh();
    let group = |device: &str| {
        let families = watch.families(&topology);
        let row = families[0].samples.iter().find(|sample| sample.labels[0] == device).unwrap();
        row.labels[15].clone()
    };
    assert_eq!(group("sdb"), "");
    watch.set_groups(DeviceGroups::new(&file.device_groups));
    for (device, expected) in [
        ("sdb", "osd"),
        // Its serial number is another, and no model is known, which not even `*` is like.
        ("sdc", "rest"),
        ("nvme0n1", "rest"),
        // On a disk of `rest`, but no disk.
        ("sdb1", ""),
        ("dm-2", ""),
        ("dm-1", "volumes"),
        ("loop0", ""),
    ] {
        assert_eq!(group(device), expected, "{device}");
    }
    watch.set_groups(DeviceGroups::default());
    assert_eq!(group("sdb"), "");
}

/// Devices that are made of each other, which no kernel has.
#[test]
fn a_circle_ends() {
    let tree = Tree::new();
    tree.on("dm-0", "253:0", "dm", &["dm-1"]);
    tree.on("dm-1", "253:1", "dm", &["dm-0", "nowhere"]);
    tree.on("dm-2", "253:2", "dm", &["dm-2"]);
    let disks = tree.read();
    assert!(disks.devices().iter().all(|device| device.disk.is_empty()), "{disks:?}");
}
