//! Arrays and their members.

use super::super::raid::{RaidArrayDecoder, RaidLevelDecoder, RaidSlotDecoder};
use super::*;
use std::os::unix::fs::symlink;

/// `md0` of `sda` and optionally `sdb`.
fn topology(fixture: &Fixture, has_second: bool) -> Arc<Topology> {
    let _ = fs::remove_dir_all(fixture.path("sys/block"));
    let disks = [("sda", "8:0"), ("sdb", "8:16")];
    fs::create_dir_all(fixture.path("sys/block/md0/md")).expect("a new directory");
    fixture.write("sys/block/md0/dev", "9:0\n");
    fixture.write("sys/block/md0/md/level", "raid1\n");
    for (slot, (disk, numbers)) in disks.into_iter().enumerate() {
        fs::create_dir_all(fixture.path(&format!("sys/block/{disk}"))).expect("a new directory");
        fixture.write(&format!("sys/block/{disk}/dev"), numbers);
        if slot == 0 || has_second {
            let member = format!("sys/block/md0/md/dev-{disk}");
            fs::create_dir_all(fixture.path(&member)).expect("a new directory");
            fixture.write(&format!("{member}/slot"), &format!("{slot}\n"));
            fixture.write(&format!("{member}/state"), "in_sync\n");
            symlink(format!("../../../{disk}"), fixture.path(&format!("{member}/block")))
                .expect("a new link");
        }
    }
    crate::topology::Watch::new(&fixture.host()).refresh()
}

#[test]
fn arrays_levels_and_slots_of_this_scrape() {
    const MD0: u64 = 9 << 20;
    const SDA: u64 = 8 << 20;
    const SDB: u64 = 8 << 20 | 16;
    let fixture = Fixture::new();
    let (mut array, mut level, mut slot) =
        (RaidArrayDecoder::default(), RaidLevelDecoder::default(), RaidSlotDecoder::default());
    let all = |array: &mut RaidArrayDecoder,
               level: &mut RaidLevelDecoder,
               slot: &mut RaidSlotDecoder,
               numbers: (u64, u64)| {
        let texts = [
            array.decode(&numbers.0.to_le_bytes()),
            level.decode(&numbers.0.to_le_bytes()),
            slot.decode(&(numbers.0 << 32 | numbers.1).to_le_bytes()),
        ];
        texts.map(|text| text.unwrap_or_else(|| "-".into())).join(" ")
    };
    // Before the first scrape there are no arrays.
    assert_eq!(all(&mut array, &mut level, &mut slot, (MD0, SDA)), "- - -");
    for has_second in [true, false, true] {
        let topology = topology(&fixture, has_second);
        array.refresh(&topology);
        level.refresh(&topology);
        slot.refresh(&topology);
        for (numbers, expected) in [
            ((MD0, SDA), "md0 raid1 0"),
            ((MD0, SDB), if has_second { "md0 raid1 1" } else { "md0 raid1 -" }),
            ((SDA, SDB), "- - -"),
            ((MD0, MD0), "md0 raid1 -"),
            ((0, 0), "- - -"),
            ((u64::from(u32::MAX), u64::from(u32::MAX)), "- - -"),
        ] {
            assert_eq!(all(&mut array, &mut level, &mut slot, numbers), expected, "{numbers:?}");
        }
        assert_eq!(array.decode(&[]), None);
    }
}
