//! md arrays.

use super::*;
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, sync::Arc, thread};

fn raid5(tree: &Tree) {
    for (index, disk) in ["sda", "sdb", "sdc", "sdd"].into_iter().enumerate() {
        tree.disk(disk, &format!("8:{}", index * 16));
    }
    tree.md(
        "md0",
        "9:0",
        &[
            ("level", "raid5"),
            ("raid_disks", "3"),
            ("degraded", "1"),
            ("array_state", "active-idle"),
            ("sync_action", "recover"),
            ("sync_completed", "256 / 1024"),
        ],
    );
    tree.member("md0", "8:0", "0", "in_sync");
    tree.member("md0", "8:16", "2", "spare");
    tree.member("md0", "8:32", "none", "faulty,write_mostly");
    tree.member("md0", "8:48", "1", "in_sync,write_mostly");
}

#[test]
fn an_array_with_all_there_is() {
    let mut tree = Tree::new();
    raid5(&tree);
    let topology = tree.read();
    assert_eq!(
        show(&topology),
        [
            "md0 md md0 raid5",
            "  0 sda 8:0 in_sync",
            "  1 sdd 8:48 in_sync,write_mostly",
            "  2 sdb 8:16 spare",
            "  none sdc 8:32 faulty,write_mostly"
        ]
    );
    let array = topology.array(number("9:0")).expect("the array");
    assert_eq!((array.disks, array.degraded), (Some(3), Some(1)));
    assert_eq!((array.state.as_deref(), array.action.as_deref()), (Some("active-idle"), Some("recover")));
    assert_eq!((array.completed, array.announces), (Some(0.25), true));
    assert!(array.members[1].is("write_mostly") && !array.members[1].is("write"));
    assert_eq!(topology.member(number("9:0"), number("8:16")).expect("sdb").slot, "2");
    for (array, member) in [("9:0", "8:64"), ("9:1", "8:0"), ("8:0", "9:0")] {
        assert!(topology.member(number(array), number(member)).is_none());
    }
    assert!(topology.array(number("8:0")).is_none());
}

/// A container of DDF as the kernel reports it: inactive, without a level, its disks spares.
#[test]
fn a_container_has_no_state_and_its_volume_has() {
    let mut tree = Tree::new();
    for (index, disk) in ["sda", "sdb", "cciss!c0d0"].into_iter().enumerate() {
        tree.disk(disk, &format!("8:{}", index * 16));
    }
    tree.md(
        "md127",
        "9:127",
        &[
            ("level", ""),
            ("raid_disks", "0"),
            ("array_state", "inactive"),
            ("metadata_version", "external:ddf"),
        ],
    );
    for (numbers, state) in [("8:0", "spare"), ("8:16", "spare,external_bbl"), ("8:32", "spare")] {
        tree.member("md127", numbers, "none", state);
        tree.hold(numbers, "md127");
    }
    tree.md(
        "md126",
        "9:126",
        &[
            ("level", "raid1"),
            ("raid_disks", "2"),
            ("degraded", "0"),
            ("array_state", "active"),
            ("sync_action", "idle"),
            ("metadata_version", "external:/md127/0"),
        ],
    );
    for (slot, numbers) in ["8:0", "8:16"].into_iter().enumerate() {
        tree.member("md126", numbers, &slot.to_string(), "in_sync");
        tree.hold(numbers, "md126");
    }
    let topology = tree.read();
    assert_eq!(
        show(&topology),
        [
            "md126 md md126 raid1",
            "  0 sda 8:0 in_sync",
            "  1 sdb 8:16 in_sync",
            "md127 md md127 container",
            "  none cciss/c0d0 8:32 spare",
            "  none sda 8:0 in_use",
            "  none sdb 8:16 in_use,external_bbl",
        ]
    );
    let container = topology.array(number("9:127")).expect("the container");
    assert_eq!((container.disks, container.degraded), (None, None));
    assert_eq!((container.state.as_deref(), container.action.as_deref()), (None, None));
    let volume = topology.array(number("9:126")).expect("the volume");
    assert_eq!((volume.state.as_deref(), volume.degraded), (Some("active"), Some(0)));
    // A stopped array, whose node is still there, is no array.
    tree.md(
        "md125",
        "9:125",
        &[("level", ""), ("array_state", "clear"), ("metadata_version", "external:imsm")],
    );
    assert!(tree.read().array(number("9:125")).is_none());
}

#[test]
fn members_of_all_kinds_and_arrays_of_arrays() {
    let mut tree = Tree::new();
    tree.disk("sda", "8:0");
    tree.partition("sda", "sda1", "8:1");
    tree.disk("cciss!c0d0", "104:0");
    tree.partition("cciss!c0d0", "cciss!c0d0p2", "104:2");
    tree.disk("loop3", "7:3");
    tree.disk("dm-0", "253:0");
    let level = |level| [("level", level), ("array_state", "clean"), ("raid_disks", "2")];
    tree.md("md10", "9:10", &level("raid0"));
    tree.md("md2", "9:2", &level("raid1"));
    tree.md("md_gro\u{df} raid", "259:0", &level("linear"));
    tree.member("md2", "8:1", "0", "in_sync");
    tree.member("md2", "104:2", "1", "in_sync");
    tree.member("md10", "9:2", "0", "in_sync");
    tree.member("md10", "253:0", "1", "in_sync");
    tree.member("md_gro\u{df} raid", "7:3", "0", "in_sync");
    assert_eq!(
        show(&tree.read()),
        [
            "md2 md md2 raid1",
            "  0 sda1 8:1 in_sync",
            "  1 cciss/c0d0p2 104:2 in_sync",
            "md10 md md10 raid0",
            "  0 md2 9:2 in_sync",
            "  1 dm-0 253:0 in_sync",
            "md_gro\u{df} raid md md_gro\u{df} raid linear",
            "  0 loop3 7:3 in_sync",
        ]
    );
}

#[test]
fn one_bad_thing_does_not_take_the_others_down() {
    let mut tree = Tree::new();
    raid5(&tree);
    let md = |array: &str| tree.sys().join("devices").join(array).join("md");
    // Members without a slot, without a state, without a device, with a malformed device number, with nothing at all.
    fs::remove_file(md("md0").join("dev-sda/slot")).unwrap();
    fs::remove_file(md("md0").join("dev-sdb/state")).unwrap();
    fs::remove_file(md("md0").join("dev-sdc/block")).unwrap();
    fs::write(tree.sys().join("devices/sdd/dev"), "8:x\n").unwrap();
    fs::create_dir(md("md0").join("dev-")).unwrap();
    fs::write(md("md0").join("dev-file"), "").unwrap();
    symlink("nowhere", md("md0").join("dev-link")).unwrap();
    fs::create_dir(md("md0").join(OsStr::from_bytes(b"dev-\xff"))).unwrap();
    // Arrays without a number, without a level, with an unknown level, stopped, and just started with nothing but a member.
    tree.md("md1", "9:1", &[("level", "raid1")]);
    fs::remove_file(tree.sys().join("devices/md1/dev")).unwrap();
    tree.md("md2", "9:2", &[]);
    tree.md("md3", "9:3", &[("level", ""), ("array_state", "clear"), ("raid_disks", "0")]);
    tree.md("md4", "9:4", &[("level", "")]);
    tree.disk("sde", "8:64");
    tree.member("md4", "8:64", "", "");
    tree.disk("sdf", "8:80");
    tree.member("md4", "8:80", "journal", "");
    tree.md(
        "md5",
        "9:5",
        &[("level", "6"), ("array_state", "\u{7}\u{df}"), ("degraded", "-1"), ("sync_completed", "7")],
    );
    assert_eq!(
        show(&tree.read()),
        [
            "md0 md md0 raid5",
            "  1 sdd - in_sync,write_mostly",
            "  none sdc - faulty,write_mostly",
            "md4 md md4 unknown",
            "  journal sdf 8:80 unknown",
            "md5 md md5 raid6",
        ]
    );
    fs::remove_dir_all(tree.sys()).unwrap();
    assert!(tree.read().arrays().is_empty());
}

#[test]
fn a_member_is_what_its_link_leads_to_and_not_what_its_directory_is_called() {
    let mut tree = Tree::new();
    tree.disk("sda", "8:0");
    tree.disk("sdb", "8:16");
    tree.md("md0", "9:0", &[("level", "raid0"), ("array_state", "clean")]);
    let place = tree.member("md0", "8:0", "0", "in_sync");
    // The device was renamed after it joined.
    fs::rename(&place, place.with_file_name("dev-sdb")).unwrap();
    assert_eq!(show(&tree.read())[1], "  0 sda 8:0 in_sync");
}

#[test]
fn two_hundred_members() {
    let mut tree = Tree::new();
    tree.md("md0", "9:0", &[("level", "raid0"), ("array_state", "clean"), ("raid_disks", "200")]);
    for index in (0..200).rev() {
        tree.disk(&format!("sd{index}"), &format!("65:{index}"));
        tree.member("md0", &format!("65:{index}"), &index.to_string(), "in_sync");
    }
    let topology = tree.read();
    assert_eq!(topology.arrays()[0].members.len(), 200);
    for (index, member) in topology.arrays()[0].members.iter().enumerate() {
        assert_eq!(
            (member.slot.as_str(), member.name.as_str()),
            (&*index.to_string(), &*format!("sd{index}"))
        );
    }
}

#[test]
fn what_does_not_fit_is_counted() {
    let array = |index: u64, members: usize| Array {
        name: format!("md{index}"),
        device: index,
        kind: ArrayDriver::Md,
        title: String::new(),
        level: "raid0".into(),
        disks: None,
        degraded: None,
        state: None,
        action: None,
        completed: None,
        announces: true,
        members: (0..members)
            .map(|slot| ArrayMember {
                name: format!("sd{slot}"),
                device: Some(slot.try_into().unwrap()),
                slot: slot.to_string(),
                state: "in_sync".into(),
                exclusive: false,
            })
            .collect(),
    };
    let fits = Topology::new((0..1024).map(|index| array(index, 4)).collect());
    assert_eq!((fits.arrays().len(), fits.left_out()), (1024, LeftOutCounts::default()));
    let more = Topology::new((0..1025).map(|index| array(index, 5)).collect());
    assert_eq!((more.arrays().len(), more.left_out()), (1024, LeftOutCounts { arrays: 1, members: 1024 }));
    let members: usize = more.arrays().iter().map(|array| array.members.len()).sum();
    assert_eq!(members, MAX_MEMBERS);
    assert!(more.array(1023).is_some() && more.array(1024).is_none() && more.member(1023, 0).is_none());
}

#[test]
fn arrays_that_come_and_go_while_they_are_read() {
    let mut tree = Tree::new();
    raid5(&tree);
    let (from, to) = (tree.sys().join("devices/md0/md"), tree.sys().join("elsewhere"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(&from, &to).expect("it is there");
                thread::yield_now();
                fs::rename(&to, &from).expect("it is there");
                thread::yield_now();
            }
        });
        for _ in 0..300 {
            let topology = tree.read();
            for array in topology.arrays() {
                assert_eq!(array.level, "raid5");
                for member in &array.members {
                    let expected = match member.name.as_str() {
                        "sda" => ("0", "in_sync", "8:0"),
                        "sdb" => ("2", "spare", "8:16"),
                        "sdc" => ("none", "faulty,write_mostly", "8:32"),
                        _ => ("1", "in_sync,write_mostly", "8:48"),
                    };
                    let known = member.device.is_none_or(|device| device == number(expected.2));
                    assert!(
                        known && (member.slot.as_str(), member.state.as_str()) == (expected.0, expected.1)
                    );
                }
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn the_arrays_of_this_machine_are_read() {
    let watch = Watch::new(&Host::default());
    let begun = std::time::Instant::now();
    let topology = watch.refresh();
    println!("{} arrays in {:?}", topology.arrays().len(), begun.elapsed());
    assert!(Arc::ptr_eq(&topology, &watch.current()));
}

#[test]
#[ignore = "a measurement"]
fn what_a_reading_costs() {
    const TIMES: u32 = 50;
    for (arrays, members) in [(0, 0), (1, 8), (1, 200), (64, 8)] {
        let mut tree = Tree::new();
        for array in 0..arrays {
            let name = format!("md{array}");
            let attributes =
                ["level", "raid_disks", "degraded", "array_state", "sync_action", "sync_completed"];
            tree.md(&name, &format!("9:{array}"), &attributes.map(|attribute| (attribute, "5")));
            for member in 0..members {
                let numbers = format!("{}:{member}", 100 + array);
                tree.disk(&format!("sd{array}x{member}"), &numbers);
                tree.member(&name, &numbers, &member.to_string(), "in_sync");
            }
        }
        for index in 0..32 {
            tree.disk(&format!("loop{index}"), &format!("7:{index}"));
        }
        let begun = std::time::Instant::now();
        for _ in 0..TIMES {
            assert_eq!(tree.read().arrays().len(), arrays);
        }
        println!("{arrays} arrays of {members} members: {:?}", begun.elapsed() / TIMES);
    }
}

/// Reading an attribute that is a named pipe waits for a writer, like that of an array that waits for a disk.
#[test]
fn an_array_that_does_not_answer_is_as_it_was() {
    let tree = Tree::new();
    for (array, numbers) in [("md0", "9:0"), ("md1", "9:1"), ("md2", "9:2")] {
        tree.md(array, numbers, &[("level", "raid1"), ("array_state", "clean"), ("raid_disks", "2")]);
    }
    let states = |topology: &Topology| -> Vec<String> {
        topology.arrays().iter().filter_map(|array| array.state.clone()).collect()
    };
    let set = |array: &str, state: &str| {
        fs::write(tree.sys().join("devices").join(array).join("md/array_state"), state).expect("writable");
    };
    let watch = Watch::new(&tree.host());
    assert_eq!(states(&watch.refresh()), ["clean", "clean", "clean"]);
    let path = tree.sys().join("devices/md1/md/array_state");
    fs::remove_file(&path).expect("it is there");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("coreutils");
    assert!(made.success());
    set("md2", "active");
    // Others are read anew, and the second time nothing is waited for.
    for state in ["active", "read-auto"] {
        set("md2", state);
        assert_eq!(states(&watch.refresh()), ["clean", "clean", state]);
    }
    assert!(watch.age() >= std::time::Duration::from_secs(1), "{:?}", watch.age());
    // The late answer comes.
    fs::OpenOptions::new().write(true).open(&path).expect("a reader waits");
    fs::remove_file(&path).expect("it is there");
    fs::write(&path, "broken").expect("writable");
    while states(&watch.refresh())[1] != "broken" {
        thread::yield_now();
    }
    assert!(watch.age() < std::time::Duration::from_secs(1), "{:?}", watch.age());
}
