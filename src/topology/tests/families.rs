//! The families that describe arrays.

use super::*;
use crate::exposition::{Format, encode};

fn text(topology: &Topology) -> String {
    let encoded = encode(families(topology), Format::Text);
    assert!(encoded.left_out.is_empty(), "{:?}", encoded.left_out);
    let text = String::from_utf8(encoded.body.clone()).expect("UTF-8");
    text.lines().filter(|line| !line.starts_with('#')).fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn no_arrays_no_families() {
    assert_eq!(families(&Topology::default()), []);
}

#[test]
fn all_families() {
    let mut tree = Tree::new();
    tree.disk("sda", "8:0");
    tree.disk("sdb", "8:16");
    tree.md(
        "md0",
        "9:0",
        &[
            ("level", "raid1"),
            ("raid_disks", "2"),
            ("degraded", "1"),
            ("array_state", "clean"),
            ("sync_action", "resync"),
            ("sync_completed", "1 / 2"),
        ],
    );
    tree.member("md0", "8:0", "0", "in_sync");
    tree.md("md1", "9:1", &[("level", "raid0"), ("raid_disks", "1"), ("array_state", "resting")]);
    tree.member("md1", "8:16", "0", "in_sync");
    tree.dm("dm-0", "253:0", "vg-\"x\"", &["striped 2 1 8:0 0 8:16 0"], &["striped 2 8:0 8:16 1 AD"], &[]);
    fs::create_dir_all(tree.host().dev.join("md")).expect("a new directory");
    for (link, array) in
        [("x:backup", "md1"), ("data", "md0"), ("archive", "md0"), ("1", "md1"), ("data1", "md0p1")]
    {
        symlink(format!("../{array}"), tree.host().dev.join("md").join(link)).expect("a new link");
    }
    for (device, numbers, name, id) in [
        ("dm-1", "253:1", "mpatha", "mpath-3600"),
        ("dm-2", "253:2", "vg-lv", "LVM-abc"),
        ("dm-3", "253:3", "swap", "CRYPT-PLAIN-swap"),
    ] {
        tree.dm(device, numbers, name, &["error "], &["error "], &[]);
        fs::write(tree.sys().join("block").join(device).join("dm/uuid"), id).expect("writable");
    }
    let text = text(&tree.read());
    for line in [
        r#"tapster_raid_array_info{array="dm-0",level="striped",kind="dm",name="vg-\"x\""} 1"#,
        r#"tapster_raid_array_info{array="md0",level="raid1",kind="md",name="archive"} 1"#,
        r#"tapster_raid_array_info{array="md1",level="raid0",kind="md",name="x:backup"} 1"#,
        r#"tapster_raid_member_info{array="dm-0",level="striped",member="sdb",slot="1",state="faulty"} 1"#,
        r#"tapster_raid_member_info{array="md0",level="raid1",member="sda",slot="0",state="in_sync"} 1"#,
        r#"tapster_raid_array_disks{array="dm-0"} 2"#,
        r#"tapster_raid_array_degraded{array="md0"} 1"#,
        r#"tapster_raid_array_state{array="md0",state="clean"} 1"#,
        r#"tapster_raid_array_state{array="md0",state="active"} 0"#,
        r#"tapster_raid_array_state{array="md1",state="clean"} 0"#,
        r#"tapster_raid_array_state{array="md1",state="resting"} 1"#,
        r#"tapster_raid_array_sync_action{array="md0",action="resync"} 1"#,
        r#"tapster_raid_array_sync_action{array="md0",action="idle"} 0"#,
        r#"tapster_raid_array_sync_completed_ratio{array="md0"} 0.5"#,
    ] {
        assert!(text.lines().any(|found| found == line || found == format!("{line}.0")), "{line} in\n{text}");
    }
    // Two of the arrays have no redundancy, one has no state.
    for (start, lines) in [
        ("tapster_raid_array_degraded{", 1),
        ("tapster_raid_array_state{", 10 + 11),
        ("tapster_raid_array_sync_action{", 7),
        ("tapster_raid_array_sync_completed_ratio{", 1),
    ] {
        assert_eq!(text.lines().filter(|line| line.starts_with(start)).count(), lines, "{start}");
    }
}
