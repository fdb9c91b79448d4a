//! What is printed, and how arrays are named.

use super::*;
use crate::{
    disks::Disks,
    family::{FamilyKind, HistogramValue, MetricFamily, Native, Sample, SampleValue},
    host::Host,
    topology::{ArrayDriver, ArrayMember},
};
use std::collections::HashMap;

fn array(name: &str, level: &str, members: &[(&str, u64, &str, &str)]) -> Array {
    Array {
        name: name.into(),
        device: 9 << 20,
        kind: ArrayDriver::Md,
        title: name.into(),
        level: level.into(),
        disks: Some(members.len().try_into().unwrap()),
        degraded: None,
        state: Some("clean".into()),
        action: None,
        completed: None,
        announces: true,
        members: members
            .iter()
            .map(|(name, device, slot, state)| ArrayMember {
                name: (*name).into(),
                device: Some(*device),
                slot: (*slot).into(),
                state: (*state).into(),
                exclusive: false,
            })
            .collect(),
    }
}

/// The array of the example.
fn story() -> Array {
    let ram: Vec<String> = (0..7).map(|index| format!("ram{index}")).collect();
    let slots: Vec<String> = (0..8).map(|slot| slot.to_string()).collect();
    let mut members: Vec<(&str, u64, &str, &str)> = (0..7)
        .map(|index| (ram[index].as_str(), 1 << 20 | index as u64, slots[index].as_str(), "in_sync"))
        .collect();
    members.push(("dm-0", 252 << 20, "7", "in_sync"));
    array("md0", "raid0", &members)
}

/// A family of members with `count` I/Os each, all in the native bucket around a time.
fn family(rows: &[(&str, &str, &str, &str, u64, f64)]) -> MetricFamily {
    let labels = ["array", "level", "member", "slot", "operation"];
    let mut family =
        MetricFamily::new("tapster_raid_member_duration_seconds", "", FamilyKind::Histogram, &labels);
    for (array, member, slot, operation, count, seconds) in rows {
        #[expect(clippy::cast_possible_truncation, reason = "a few hundred at most")]
        let index = (seconds.log2() * 8.0).ceil() as i32;
        let native = Native {
            schema: 3,
            zero_threshold: 1e-6,
            highest: 128.0,
            zero_count: 0,
            buckets: vec![(index, *count)],
        };
        #[expect(clippy::cast_precision_loss, reason = "few")]
        let sum = seconds * *count as f64;
        let histogram =
            HistogramValue { sum, bounds: [128.0].into(), counts: vec![*count, 0], native: Some(native) };
        family.samples.push(Sample {
            labels: [array, "raid0", member, slot, operation].into_iter().map(ToString::to_string).collect(),
            value: SampleValue::Histogram(histogram),
        });
    }
    family
}

fn story_rows() -> Vec<(&'static str, &'static str, &'static str, &'static str, u64, f64)> {
    const RAM: [(&str, &str); 7] = [
        ("ram0", "0"),
        ("ram1", "1"),
        ("ram2", "2"),
        ("ram3", "3"),
        ("ram4", "4"),
        ("ram5", "5"),
        ("ram6", "6"),
    ];
    let mut rows: Vec<_> =
        RAM.into_iter().map(|(name, slot)| ("md0", name, slot, "read", 160, 0.000_098)).collect();
    rows.push(("md0", "dm-0", "7", "read", 160, 0.0503));
    rows
}

fn printed(array: &Array, before: Option<&Array>, families: &[MetricFamily]) -> String {
    let rule = Rule::default();
    let seen = Observations { families, spans: &HashMap::new(), disks: &Disks::default(), seconds: 10.04 };
    let measurements = [ArrayMeasurement::new(array, before, &seen, &rule)];
    text(&measurements, &rule, Duration::from_millis(10_040), &lost(families))
}

#[test]
fn the_story() {
    let array = story();
    assert_eq!(
        listing(
            &[&array],
            "md0 : active raid0 dm-0[7] ram6[6] ram5[5] ram4[4] ram3[3] ram2[2] ram1[1] ram0[0]\n"
        ),
        "\
md0: raid0 of 8 devices, clean
  Number  Major  Minor  RaidDevice  State        Device
       0      1      0           0  active sync  /dev/ram0
       1      1      1           1  active sync  /dev/ram1
       2      1      2           2  active sync  /dev/ram2
       3      1      3           3  active sync  /dev/ram3
       4      1      4           4  active sync  /dev/ram4
       5      1      5           5  active sync  /dev/ram5
       6      1      6           6  active sync  /dev/ram6
       7    252      0           7  active sync  /dev/dm-0

"
    );
    assert_eq!(
        printed(&array, Some(&array), &[family(&story_rows())]),
        "\
In 10 s:

md0:
  Device  Slot  Operation  Count   Average       p50       p99
  ram0       0  read         160  0.098 ms  0.098 ms  0.103 ms
  ram1       1  read         160  0.098 ms  0.098 ms  0.103 ms
  ram2       2  read         160  0.098 ms  0.098 ms  0.103 ms
  ram3       3  read         160  0.098 ms  0.098 ms  0.103 ms
  ram4       4  read         160  0.098 ms  0.098 ms  0.103 ms
  ram5       5  read         160  0.098 ms  0.098 ms  0.103 ms
  ram6       6  read         160  0.098 ms  0.098 ms  0.103 ms
  dm-0       7  read         160   50.3 ms   50.3 ms   52.5 ms  slow: 513 times its peers'

md0: `dm-0` (slot 7) is slow: reads take 50.3 ms on average, 513 times its peers' 0.098 ms
"
    );
}

#[test]
fn a_broken_array_in_the_words_of_mdadm() {
    let mut array = array(
        "md1",
        "raid5",
        &[
            ("sda1", 8 << 20 | 1, "0", "in_sync,write_mostly"),
            ("sdb1", 8 << 20 | 0x11, "2", "spare"),
            ("sdc1", 8 << 20 | 0x21, "none", "faulty"),
            ("sdd1", 8 << 20 | 0x31, "none", "spare"),
            ("cciss/c0d0", 104 << 20, "journal", "journal"),
        ],
    );
    array.members[2].device = None;
    (array.disks, array.degraded) = (Some(3), Some(2));
    (array.action, array.completed) = (Some("recover".into()), Some(0.126));
    let mut volume = story();
    (volume.name, volume.title, volume.kind) = ("dm-7".into(), "vg-lv".into(), ArrayDriver::Dm);
    (volume.level, volume.disks, volume.state) = ("striped".into(), Some(1), None);
    volume.members.truncate(1);
    assert_eq!(
        listing(&[&array, &volume], "md1 : active raid5 sda1[0](W) sdb1[4]\n"),
        "\
md1: raid5 of 3 devices, clean, degraded: 2 missing, recover (12.6 % done)
  Number  Major  Minor  RaidDevice  State                    Device
       0      8      1           0  active sync writemostly  /dev/sda1
       -      0      0           1  removed
       4      8     17           2  spare rebuilding         /dev/sdb1
       -      -      -           -  faulty                   /dev/sdc1
       -      8     49           -  spare                    /dev/sdd1
       -    104      0           -  journal                  /dev/cciss/c0d0

dm-7 (vg-lv): striped of 1 device
  Number  Major  Minor  RaidDevice  State        Device
       -      1      0           0  active sync  /dev/ram0

"
    );
}

/// The last line of the output.
fn verdict(array: &Array, before: Option<&Array>, rows: &[(&str, &str, &str, &str, u64, f64)]) -> String {
    let text = printed(array, before, &[family(rows)]);
    text.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn sentences() {
    let pair = array("md0", "raid1", &[("sda", 1, "0", "in_sync"), ("sdb", 2, "1", "in_sync")]);
    let rows = |seconds: f64| {
        [
            ("md0", "sda", "0", "read", 20, 0.004),
            ("md0", "sdb", "1", "read", 20, seconds),
            ("md0", "sdb", "1", "flush", 20, seconds),
            ("md0", "sda", "0", "flush", 20, 0.001),
            ("md1", "sda", "0", "read", 20, 9.0),
            ("md0", "sdz", "0", "read", 20, 9.0),
        ]
    };
    for (seconds, expected) in [
        (0.004, "md0: `sdb` (slot 1) is slow: flushes take 4.00 ms on average, 4.0 times its peers' 1.00 ms"),
        (
            0.1,
            "md0: `sdb` (slot 1) is slow: reads take 100 ms on average, 25 times its peers' 4.00 ms; flushes take \
             100 ms on average, 100 times its peers' 1.00 ms",
        ),
        (0.001, "md0: `sda` (slot 0) is slow: reads take 4.00 ms on average, 4.0 times its peers' 1.00 ms"),
    ] {
        assert_eq!(verdict(&pair, None, &rows(seconds)), expected);
    }
    assert_eq!(verdict(&pair, None, &rows(0.0015)[2..4]), "md0: no member is slow");
    let little = "md0: too little I/O to compare: it takes 20 of one operation on each of two members";
    assert_eq!(verdict(&pair, None, &rows(0.1)[1..2]), little);
    assert_eq!(verdict(&pair, None, &[]), little);
    // No verdict while the array is synchronised, at either end of the interval; `frozen` is at rest.
    let doing = |action: &str| Array { action: Some(action.into()), completed: Some(0.5), ..pair.clone() };
    for (now, before, expected) in [
        (doing("resync"), None, "while the array does `resync` (50.0 % done)"),
        (doing("idle"), Some(doing("check")), "as the array did `check` when the watching began"),
        (
            Array { level: "linear".into(), ..pair.clone() },
            None,
            "as a concatenation does not spread its load",
        ),
    ] {
        let found = verdict(&now, before.as_ref(), &rows(0.1));
        assert_eq!(found, format!("md0: members are not compared {expected}"));
        assert!(!printed(&now, before.as_ref(), &[family(&rows(0.1))]).contains("slow:"));
    }
    assert!(verdict(&doing("frozen"), None, &rows(0.1)).contains("is slow"));
    // A member that differs on purpose is neither judged nor a peer.
    for state in ["in_sync,write_mostly", "journal"] {
        let mut pair = pair.clone();
        pair.members[1].state = state.into();
        assert_eq!(verdict(&pair, None, &rows(0.1)), little);
    }
    let silent = Array { announces: false, ..pair.clone() };
    assert!(verdict(&silent, None, &[]).ends_with("they are partitions, or not its own alone"));
}

/// A gauge of members.
fn gauge(name: &str, rows: &[(&str, &str, &str, &str, f64)]) -> MetricFamily {
    let labels = ["array", "level", "member", "slot", "operation"];
    let mut family = MetricFamily::new(name, "", FamilyKind::Gauge, &labels);
    family.samples = rows
        .iter()
        .map(|(array, member, slot, operation, value)| Sample {
            labels: [array, "raid1", member, slot, operation].into_iter().map(ToString::to_string).collect(),
            value: SampleValue::Number(*value),
        })
        .collect();
    family
}

#[test]
fn a_member_that_does_not_answer() {
    let pair = array("md0", "raid1", &[("sda", 1, "0", "in_sync"), ("sdb", 2, "1", "in_sync")]);
    let waits = |age: f64| {
        let numbers = [
            ("md0", "sda", "0", "read", 0.0),
            ("md0", "sdb", "1", "read", 2.0),
            ("md0", "sdb", "1", "write", 1.0),
            ("md1", "sda", "0", "read", 9.0),
        ];
        let ages = [
            ("md0", "sdb", "1", "write", age / 2.0),
            ("md0", "sdb", "1", "read", age),
            ("md1", "sda", "0", "read", 99.0),
        ];
        [gauge("tapster_raid_member_in_flight", &numbers), gauge("tapster_raid_member_oldest_seconds", &ages)]
    };
    // Nothing was completed, so there is nothing to compare.
    let text = printed(&pair, None, &waits(9.96));
    assert_eq!(
        text,
        "\
In 10 s:

md0: no I/O was completed
  Device  Slot  In flight   Oldest
  sdb        1          3  9960 ms

md0: `sdb` (slot 1) does not answer: 3 I/Os in flight, the oldest for 10.0 s
"
    );
    // I/O that is in flight for a moment is shown and is no fault.
    let text = printed(&pair, None, &waits(0.004));
    assert!(text.contains("sdb        1          3  4.00 ms"), "{text}");
    assert!(text.ends_with("on each of two members\n") && !text.contains("does not answer"), "{text}");
    // Members may or may not be compared besides.
    let rows = |seconds: f64| {
        let rows = [("md0", "sda", "0", "read", 20, 0.004), ("md0", "sdb", "1", "read", 20, seconds)];
        let [numbers, ages] = waits(5.0);
        printed(&pair, None, &[family(&rows), numbers, ages])
    };
    let lines = |text: &str| text.lines().filter(|line| line.starts_with("md0: ")).count();
    assert!(rows(0.1).contains("does not answer") && rows(0.1).ends_with("its peers' 4.00 ms\n"));
    assert!(rows(0.004).ends_with("the oldest for 5.0 s\n") && lines(&rows(0.004)) == 1);

    // I/O that hung before the watching began is known from the kernel's own counts.
    let span = |completed: u64, before: u64, after: u64| {
        let stat = |completed: u64, in_flight: u64| {
            waits::Stat::parse(&format!("{completed} 0 0 0 5 0 0 0 {in_flight} 0 0")).unwrap()
        };
        waits::StatPair { before: stat(7, before), after: stat(7 + completed, after) }
    };
    let said = |span, seconds| {
        let spans = HashMap::from([("sda".to_owned(), span)]);
        let seen = Observations { families: &[], spans: &spans, disks: &Disks::default(), seconds };
        ArrayMeasurement::new(&pair, None, &seen, &Rule::default()).summary(&Rule::default()).join("\n")
    };
    assert_eq!(
        said(span(0, 4, 5), 10.0),
        "md0: `sda` (slot 0) does not answer: 5 I/Os in flight since before, and none completed in the 10.0 s that it was \
         watched"
    );
    for (span, seconds) in
        [(span(1, 4, 5), 10.0), (span(0, 0, 5), 10.0), (span(0, 4, 0), 10.0), (span(0, 4, 5), 1.0)]
    {
        assert!(said(span, seconds).contains("too little I/O"), "{span:?} {seconds}");
    }
}

#[test]
fn json() {
    let array = story();
    let families = [family(&story_rows())];
    let rule = Rule::default();
    let seen =
        Observations { families: &families, spans: &HashMap::new(), disks: &Disks::default(), seconds: 10.0 };
    let found = ArrayMeasurement::new(&array, None, &seen, &rule).json(&rule, "md0 : active raid0 dm-0[7]\n");
    let slow = &found["members"][7];
    assert_eq!((&slow["member"], &slow["number"], &slow["major"]), (&"dm-0".into(), &7.into(), &252.into()));
    let read = &slow["operations"][0];
    assert_eq!((&read["count"], &read["slow"]), (&160.into(), &true.into()));
    assert!(read["ratio"].as_f64().is_some_and(|ratio| (513.0..514.0).contains(&ratio)));
    assert_eq!(found["members"][0]["operations"][0]["slow"], false);
    assert_eq!(
        (&found["members"][0]["waiting"]["in_flight"], &slow["waiting"]["stuck"]),
        (&0.0.into(), &false.into())
    );
    assert_eq!(found["members"][0]["number"], serde_json::Value::Null);
    assert_eq!((&found["level"], &found["degraded"]), (&"raid0".into(), &serde_json::Value::Null));
    assert!(found["summary"][0].as_str().is_some_and(|text| text.contains("`dm-0` (slot 7) is slow")));
}

/// The line and the exit status of a check.
fn checked(array: &Array, families: &[MetricFamily]) -> (u8, String) {
    let rule = Rule::default();
    let seen = Observations { families, spans: &HashMap::new(), disks: &Disks::default(), seconds: 10.0 };
    let mut check = Check::default();
    check.array(&ArrayMeasurement::new(array, None, &seen, &rule), &rule);
    (check.worst().status(), check.line())
}

/// The alerts about an array and its members, in one line, with the figures behind them.
/// The sentence and the check say which disk to pull: that of the member, or that on which all of it is.
#[test]
fn the_disk_of_a_member_is_named() {
    let host = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = host.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for (path, text) in [
        ("block/sdb/size", "8"),
        ("block/sdb/device/model", "ST4000NM0034    \n"),
        ("block/sdb/device/serial", "Z1 |Z0\n"),
        ("block/sdb/sdb1/partition", "1\n"),
        ("block/sdb/sdb1/holders/md0", ""),
        ("block/dm-7/size", "8"),
        ("block/dm-7/dm/name", "vg-lv"),
        ("block/dm-7/slaves/sdb1", ""),
    ] {
        write(path, text);
    }
    let disks = crate::disks::DiskWatch::new(&Host { sys: host.path().into(), ..Host::default() }).refresh();
    for member in ["sdb", "sdb1", "dm-7"] {
        let pair = array("md0", "raid1", &[("sda", 1, "0", "in_sync"), (member, 2, "1", "in_sync")]);
        let families =
            [family(&[("md0", "sda", "0", "read", 99, 0.000_1), ("md0", member, "1", "read", 99, 0.05)])];
        let seen = Observations { families: &families, spans: &HashMap::new(), disks: &disks, seconds: 10.0 };
        let rule = Rule::default();
        let measurement = ArrayMeasurement::new(&pair, None, &seen, &rule);
        let [sentence] = &measurement.summary(&rule)[..] else { panic!("{measurement:?}") };
        let end = "; disk `sdb`: model ST4000NM0034, serial Z1 |Z0";
        assert!(sentence.contains("is slow") && sentence.ends_with(end), "{sentence}");
        let mut check = Check::default();
        check.array(&measurement, &rule);
        let line = check.line();
        let (said, figures) = line.split_once(" | ").unwrap();
        assert!(
            said.ends_with("; disk `sdb`: model ST4000NM0034, serial Z1  Z0") && !figures.contains("Z0"),
            "{line}"
        );
        let faulty = array("md0", "raid1", &[("sda", 1, "0", "in_sync"), (member, 2, "1", "faulty")]);
        let mut check = Check::default();
        check.state(&faulty, &disks);
        assert!(
            check.line().contains(&format!("`{member}` is faulty; disk `sdb`: model")),
            "{}",
            check.line()
        );
        let json = measurement.json(&rule, "");
        assert_eq!(json["members"][1]["disk"]["serial"], "Z1 |Z0");
        assert_eq!(json["members"][0]["disk"], serde_json::Value::Null);
    }
}

#[test]
fn a_check_for_nagios() {
    let pair = array("md0", "raid1", &[("sda", 1, "0", "in_sync"), ("sdb", 2, "1", "in_sync")]);
    let rows = |seconds: f64| {
        family(&[("md0", "sda", "0", "read", 20, 0.004), ("md0", "sdb", "1", "read", 20, seconds)])
    };
    assert_eq!(
        checked(&pair, &[rows(0.004)]),
        (
            0,
            "RAID OK - md0: no member is slow | 'md0_sda_read'=0.004000000s;0.007200000;0.020000000;0 \
             'md0_sdb_read'=0.004000000s;0.007200000;0.020000000;0\n"
                .into()
        )
    );
    // Beyond the first threshold, and beyond the second.
    let (status, line) = checked(&pair, &[rows(0.008)]);
    assert_eq!(status, 1, "{line}");
    let expected = "RAID WARNING - md0: `sdb` (slot 1) is slow: reads take 8.00 ms on average, 2.0 times its peers' 4.00 ms | ";
    assert!(
        line.starts_with(expected) && line.contains("'md0_sdb_read'=0.008000000s;0.007200000;0.020000000;0"),
        "{line}"
    );
    let (status, line) = checked(&pair, &[rows(0.0201)]);
    assert!(status == 2 && line.starts_with("RAID CRITICAL - md0: `sdb` (slot 1) is slow"), "{line}");
    assert_eq!(line.lines().count(), 1);
    // Having nothing to compare is no fault, and gives no figures.
    let (status, line) = checked(&pair, &[]);
    assert!(
        status == 0 && line.starts_with("RAID OK - md0: too little I/O") && !line.contains('|'),
        "{line}"
    );
    // What the array reports about itself.
    let of = |change: &dyn Fn(&mut Array)| {
        let mut array = pair.clone();
        change(&mut array);
        let (status, line) = checked(&array, &[]);
        (status, line.trim_end().to_owned())
    };
    let inactive = of(&|array| array.state = Some("inactive".into()));
    assert_eq!(inactive, (2, "RAID CRITICAL - md0 is inactive".into()));
    let missing = "1 missing, and it may not survive another failure | 'md0_missing'=1;0;;0;2";
    assert_eq!(
        of(&|array| array.degraded = Some(1)),
        (2, format!("RAID CRITICAL - md0 is degraded: {missing}"))
    );
    let six = of(&|array| {
        (array.level, array.degraded, array.disks) = ("raid6".into(), Some(1), Some(6));
    });
    assert_eq!(six, (1, "RAID WARNING - md0 is degraded: 1 missing | 'md0_missing'=1;0;;0;6".into()));
    let faulty = of(&|array| array.members[1].state = "faulty".into());
    assert_eq!(faulty, (1, "RAID WARNING - md0: `sdb` is faulty".into()));
    // A member that does not answer, beside figures of another.
    let numbers = gauge("tapster_raid_member_in_flight", &[("md0", "sdb", "1", "read", 2.0)]);
    let ages = gauge("tapster_raid_member_oldest_seconds", &[("md0", "sdb", "1", "read", 9.0)]);
    let (status, line) = checked(&pair, &[numbers, ages]);
    assert_eq!(
        (status, line.trim_end()),
        (2, "RAID CRITICAL - md0: `sdb` (slot 1) does not answer: 2 I/Os in flight, the oldest for 9.0 s")
    );
}

/// Each level with no member missing, with one, and so on up to all: no finding (`.`), a warning (`w`), a warning that the next
/// failure may lose data (`b`, bare), or failed (`f`). `tests/rules/raid_state.yaml` has the same table.
#[test]
fn levels_and_missing_members() {
    const MEMBERS: [(&str, u64, &str, &str); 5] = [
        ("sda", 1, "0", "in_sync"),
        ("sdb", 2, "1", "in_sync"),
        ("sdc", 3, "2", "in_sync"),
        ("sdd", 4, "3", "in_sync"),
        ("sde", 5, "4", "in_sync"),
    ];
    let told = |array: &Array, missing: usize, expected: char| {
        let (status, line) = checked(array, &[]);
        let (expected_status, beginning) = match expected {
            'w' => (1, format!("RAID WARNING - md0 is degraded: {missing} missing")),
            'b' => (
                2,
                format!(
                    "RAID CRITICAL - md0 is degraded: {missing} missing, and it may not survive another failure"
                ),
            ),
            'f' => (2, format!("RAID CRITICAL - md0 has lost more members than it bears: {missing} missing")),
            _ => (0, "RAID OK - md0: ".to_owned()),
        };
        let level = &array.level;
        assert_eq!((status, line.starts_with(&beginning)), (expected_status, true), "{level}: {line}");
    };
    for (level, disks, expected) in [
        ("raid4", 4, ".bfff"),
        ("raid5", 4, ".bfff"),
        ("raid6", 5, ".wbfff"),
        ("raid1", 1, ".f"),
        ("raid1", 2, ".bf"),
        ("raid1", 3, ".wbf"),
        ("raid10", 4, ".bbbf"),
        ("mirror", 2, ".bf"),
        ("mirror", 3, ".wbf"),
        ("unknown", 2, ".ww"),
    ] {
        for (missing, expected) in expected.chars().enumerate() {
            let degraded = Some(missing.try_into().unwrap());
            told(&Array { degraded, ..array("md0", level, &MEMBERS[..disks]) }, missing, expected);
        }
    }
    // The kernel does not count missing members of these.
    for level in ["raid0", "linear", "striped"] {
        for (missing, expected) in ".fff".chars().enumerate() {
            let mut faulty = array("md0", level, &MEMBERS[..3]);
            let mut gone = faulty.clone();
            for member in faulty.members.iter_mut().rev().take(missing) {
                member.state = "faulty".into();
            }
            told(&faulty, missing, expected);
            // A faulty member that lost its slot counts once.
            for member in faulty.members.iter_mut().rev().take(missing) {
                member.slot = "none".into();
            }
            told(&faulty, missing, expected);
            gone.members.truncate(3 - missing);
            told(&gone, missing, expected);
        }
    }
}

/// A container has no I/O of its own, so there is nothing to report about it, but there is about its disks.
#[test]
fn containers_are_not_compared() {
    let disks = [("sda", 1, "none", "in_use"), ("sdb", 2, "none", "in_use")];
    let mut container = Array { disks: None, state: None, ..array("md127", "container", &disks) };
    let volume = array("md126", "raid1", &[("sda", 1, "0", "in_sync"), ("sdb", 2, "1", "in_sync")]);
    assert_eq!(printed(&container, None, &[]), "In 10 s:\n\n");
    let rule = Rule::default();
    let seen =
        Observations { families: &[], spans: &HashMap::new(), disks: &Disks::default(), seconds: 10.0 };
    let found = ArrayMeasurement::new(&container, None, &seen, &rule).json(&rule, "");
    assert_eq!((&found["compared"], &found["summary"]), (&false.into(), &serde_json::json!([])));
    let checked = |arrays: &[&Array]| {
        let mut check = Check::default();
        for array in arrays {
            check.array(&ArrayMeasurement::new(array, None, &seen, &rule), &rule);
        }
        check.only_containers();
        (check.worst().status(), check.line())
    };
    let alone = "RAID OK - only containers were looked at: their volumes are arrays of their own\n";
    assert_eq!(checked(&[&container]), (0, alone.to_owned()));
    let (status, line) = checked(&[&container, &volume]);
    assert!(status == 0 && line.starts_with("RAID OK - md126: too little I/O to compare"), "{line}");
    assert!(!line.contains("container"), "{line}");
    container.members[1].state = "faulty".into();
    let (status, line) = checked(&[&container, &volume]);
    assert_eq!((status, line.as_str()), (1, "RAID WARNING - md127: `sdb` is faulty\n"));
}
