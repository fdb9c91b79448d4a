//! Device-mapper arrays.

use super::*;

#[test]
fn stripes_mirrors_and_volumes_of_lvm() {
    let mut tree = Tree::new();
    tree.disk("sda", "8:0");
    tree.partition("sda", "sda2", "8:2");
    tree.disk("sdb", "8:16");
    for index in 0..6 {
        tree.dm(
            &format!("dm-{index}"),
            &format!("253:{index}"),
            &format!("vg-part{index}"),
            &["linear 8:0 0"],
            &["linear"],
            &[],
        );
    }
    tree.dm(
        "dm-6",
        "253:6",
        "vg-stripes",
        &["striped 2 128 8:2 0 8:16 0"],
        &["striped 2 8:2 8:16 1 AA"],
        &["8:2", "8:16"],
    );
    tree.dm(
        "dm-7",
        "253:7",
        "vg-raid",
        &["raid raid1 3 0 region_size 1024 2 253:0 253:1 253:2 253:3"],
        &["raid raid1 2 AA 10/10 idle 0 0 -"],
        &["253:0", "253:1", "253:2", "253:3"],
    );
    // One of its two members is used by a volume too, and one is a partition.
    tree.dm(
        "dm-8",
        "253:8",
        "odd mirror\u{df}",
        &["mirror core 1 1024 2 8:2 0 253:4 0"],
        &["mirror 2 8:2 253:4 1/1 1 AA 1 core"],
        &["253:4"],
    );
    tree.hold("253:4", "dm-9");
    tree.dm("dm-9", "253:9", "crypt", &["crypt aes-xts key 0 8:16 0"], &["crypt"], &["8:16"]);
    // A member without a name, and an array over all.
    tree.dm("dm-10", "253:10", "gone", &["linear 8:0 0", "linear 65:7 0"], &["linear", "linear"], &[]);
    tree.dm("dm-11", "253:11", "empty", &[], &[], &[]);
    tree.md("md0", "9:0", &[("level", "raid0"), ("array_state", "clean")]);
    tree.member("md0", "253:6", "0", "in_sync");
    tree.member("md0", "253:7", "1", "in_sync");
    let topology = tree.read();
    assert_eq!(
        show(&topology),
        [
            "dm-6 dm vg-stripes striped",
            "  0 sda2 8:2 in_sync",
            "  1 sdb 8:16 in_sync",
            "dm-7 dm vg-raid raid1",
            "  0 dm-1 253:1 in_sync exclusive",
            "  1 dm-3 253:3 in_sync exclusive",
            "dm-8 dm odd mirror\u{df} mirror",
            "  0 sda2 8:2 in_sync",
            "  1 dm-4 253:4 in_sync",
            "dm-10 dm gone linear",
            "  0 sda 8:0 in_sync",
            "  1 65:7 65:7 in_sync",
            "md0 md md0 raid0",
            "  0 dm-6 253:6 in_sync",
            "  1 dm-7 253:7 in_sync",
        ]
    );
    let array = topology.array(number("253:7")).expect("the volume");
    assert_eq!((array.disks, array.degraded, array.action.as_deref()), (Some(2), Some(0), Some("idle")));
    assert_eq!((array.state.as_deref(), array.announces), (None, false));
}

#[test]
fn without_the_right_to_ask_md_is_left() {
    let mut tree = Tree::new();
    tree.disk("sda", "8:0");
    tree.dm("dm-0", "253:0", "vg-stripes", &["striped 2 128 8:0 0 8:16 0"], &["striped 2"], &[]);
    tree.md("md0", "9:0", &[("level", "raid1"), ("array_state", "clean")]);
    tree.member("md0", "253:0", "0", "in_sync");
    // The `dev` of that host has no control device.
    let watch = Watch::new(&tree.host());
    for _ in 0..2 {
        let topology = watch.refresh();
        assert_eq!(show(&topology), ["md0 md md0 raid1", "  0 dm-0 253:0 in_sync"]);
    }
}
